/* SPDX-License-Identifier: Apache-2.0 */
/* Every maximum, in one place, each with its reason. Those that an operator may want to change are options, with
 * defaults in options.def. */
#ifndef CONFIG_LIMITS_H
#define CONFIG_LIMITS_H

#include <stddef.h>
#include <stdint.h>

/* A table reads better in columns than in lines of 110 characters. */
/* clang-format off */

/* HTTP front */
#define LIMIT_HEADER_POOL_BYTES ((size_t)8 << 10)  /* per connection, request line and headers; zeroed per request */
#define LIMIT_HEADER_REPLY_BYTES ((size_t)1536)    /* of it, kept for the header of the answer and a first chunk */
#define LIMIT_BODY_BYTES_MAX    ((size_t)256 << 20) /* what http.max_body may be set to */
#define LIMIT_TARGET_BYTES      2048u              /* longest request target that any route needs, generously */
#define LIMIT_ACCEPT_BACKLOG    1024
#define LIMIT_BODY_MIN_RATE     16384              /* bytes a second that a body must sustain above the floor */
#define LIMIT_FIN_WATCH_US      50000              /* a request older than this has its socket watched for FIN */

/* Bodies */
#define LIMIT_JSON_DEPTH     64u      /* deeper than any real request; walkers recurse no further */
#define LIMIT_JSON_VALUES    200000u  /* values are what memory is amplified by, not bytes */
#define LIMIT_JSON_KEY_BYTES 256u
#define LIMIT_MODEL_BYTES    256u

/* Answers */
#define LIMIT_BUFFERED_ANSWER ((size_t)1 << 20)   /* larger answers are relayed as they come; the cost is a trailer */
#define LIMIT_ERROR_BODY      ((size_t)64 << 10)  /* of a provider's error answer that is read at all */
#define LIMIT_STREAM_HIGH     ((size_t)256 << 10) /* queued for one client: the provider is paused above it */
#define LIMIT_STREAM_LOW      ((size_t)64 << 10)  /* and resumed below it */
#define LIMIT_SSE_EVENT       ((size_t)1 << 20)   /* larger events are forwarded unread */
#define LIMIT_SSE_EVENT_HARD  ((size_t)16 << 20)  /* and cut beyond this */
#define LIMIT_HEADER_LINES    128u                /* of a provider's answer */

/* Outgoing HTTP, per worker */
#define LIMIT_UPSTREAM_HOSTS   1024u              /* distinct hosts over the life of a worker; they come from configuration */
#define LIMIT_UPSTREAM_SPARE   512u               /* calls kept for the next, about 3 KiB each; and idle connections */
#define LIMIT_UPSTREAM_IDLE_S  50                 /* idle connections: shorter than what providers allow (60 s and up) */
#define LIMIT_UPSTREAM_SWEEP_US 20000000          /* idle connections are looked at this often when no call comes */
#define LIMIT_UPSTREAM_LIFE_S  600                /* an older connection is not used again, so that changes in DNS take */
#define LIMIT_UPSTREAM_STAGGER_US 250000           /* an address that is silent this long gets the next one dialled beside it */
#define LIMIT_UPSTREAM_ASIDES  64u                /* tickets and key updates of TLS in a row; servers give two or four tickets */
#define LIMIT_UPSTREAM_READ    ((size_t)16 << 10) /* receive buffer, one for all calls of a worker */
#define LIMIT_UPSTREAM_LINES   40u                /* header lines of a request */
#define LIMIT_UPSTREAM_HEADER  ((size_t)16 << 10) /* and their bytes */
#define LIMIT_UPSTREAM_INTERIM 16u                /* 1xx answers before the real one */
#define LIMIT_UPSTREAM_HEAD    ((size_t)96 << 10) /* header bytes of an answer */
#define LIMIT_DNS_THREADS      16u                /* lookups in flight: a black-holed name holds one as long as DNS takes */
#define LIMIT_DNS_STACK_BYTES  ((size_t)256 << 10)
#define LIMIT_DNS_FRESH_US     60000000
#define LIMIT_DNS_STALE_US     600000000          /* addresses older than this are not used while DNS is down */
#define LIMIT_DNS_NEGATIVE_US  1000000
#define LIMIT_DNS_PREFER_US    600000000          /* an address that answered in place of a silent one stays first */

/* Budgets */
#define LIMIT_BUDGET_OUTPUT 16384u /* tokens of an answer whose maximum nobody states, while a budget has to hold its price */

/* Attempts */
#define LIMIT_CHOICES        1024u    /* `n` of a request; vendors take 128 at most, and each is held for */
#define LIMIT_ATTEMPTS       8u       /* per request, all targets together; fits the journal's record */
#define LIMIT_BACKOFF_US     250000   /* first wait between attempts on the same target, doubled, full jitter */
#define LIMIT_BACKOFF_MAX_US 4000000
#define LIMIT_RETRY_AFTER_US 10000000 /* longest Retry-After that is waited out inside a request; longer ones fail over */
#define LIMIT_TAIL_WAIT_US   250000   /* after the end marker, for the provider's last chunk */
#define LIMIT_BREAKERS       4096u    /* pairs of provider and model; models outside the catalogue share one, "other" */

/* Configuration */
#define LIMIT_CONFIG_BYTES  ((size_t)4 << 20) /* thousands of tenants with their keys */
#define LIMIT_CONFIG_DEPTH  32u               /* the deepest option is at 6 */
#define LIMIT_CONFIG_NODES  200000u           /* with aliases written out, so that a text cannot multiply itself */
#define LIMIT_CONFIG_VALUE  65536u            /* one value after expansion */
#define LIMIT_SECRET_FILE   16384u            /* one secret, not a keyring */
#define LIMIT_PROVIDERS     256u              /* tables per provider stay small */
#define LIMIT_PROVIDER_KEYS 64u               /* keys used in turn */
#define LIMIT_NAME_BYTES    64u               /* names of providers, tenants, plans, keys: they become labels */

/* Directory */
#define LIMIT_DIRECTORY_ROWS   200000u             /* of one table; keys cost about 300 bytes each in every snapshot */
#define LIMIT_DIRECTORY_BYTES  ((size_t)256 << 20) /* of the signed snapshot */
#define LIMIT_DIRECTORY_POLL_US 1000000            /* of the realtime store's version */
#define LIMIT_DIRECTORY_READ_US 2000000            /* of the database's version: a revocation is everywhere within 5 s by it alone */
#define LIMIT_DIRECTORY_SEAL_US ((int64_t)3600 * 1000000) /* an unchanged snapshot is dated anew, so that it does not grow old */

#define LIMIT_WORKERS 64u
/* clang-format on */

#endif
