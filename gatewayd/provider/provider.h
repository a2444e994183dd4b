/* SPDX-License-Identifier: Apache-2.0 */
/* A provider dialect translates and judges; it never retries, counts, logs or sees a socket. It sees
 * libshared only. To add one: a file with a `static const struct provider_ops` at its bottom and a line in
 * providers.c. */
#ifndef PROVIDER_PROVIDER_H
#define PROVIDER_PROVIDER_H

#include "libshared/base/buf.h"
#include "libshared/base/secret.h"
#include "libshared/base/usage.h"
#include "libshared/catalog/operation.h"

/* How the stream or body ended so far, as the protocol tells it. */
enum answer_end {
    ANSWER_OPEN, /* no end marker yet */
    ANSWER_DONE, /* the protocol's own end marker was seen */
    ANSWER_ERROR /* an error object or event was seen */
};

/* What one answer told so far. Zeroed before the first byte. */
struct answer {
    struct usage usage;
    enum answer_end end;
    enum err_code error; /* with ANSWER_ERROR */
    char error_text[160];
    char finish[32];        /* finish or stop reason, as the provider names it */
    char model[96];         /* model the provider says it used */
    uint64_t output_chars;  /* text seen in deltas, for an estimate when usage never comes */
    uint64_t output_events; /* deltas seen */
};

/* Verdict on one decoded event. */
struct event_view {
    /* A chunk that exists only because usage was asked for (OpenAI: empty choices + usage). */
    bool is_usage_only;
    /* Carries generated text, tool arguments or reasoning: time to first token counts from it. */
    bool has_content;
    bool is_terminal; /* the last event of the stream by the protocol */
};

struct failure {
    enum err_code code; /* UP_… */
    bool is_retryable;  /* another attempt may be made, at this target or the next */
    /* With is_retryable: the same key and model would be refused again (quota, credentials, unknown model), so only
     * another key or target makes sense. */
    bool is_next_only;
    bool is_breaker_failure; /* counts against the provider (never the caller's 4xx) */
    int64_t retry_after_ms;  /* -1 when not said */
    char reason[64];         /* the provider's own error code or type, for the log; may be empty */
};

struct answer_headers {         /* the few response headers that judging needs; empty spans when absent */
    struct span retry_after;    /* seconds or HTTP date */
    struct span retry_after_ms; /* milliseconds */
    /* x-ratelimit-reset-requests or -tokens, e.g. "1s", "6m0s"; anthropic-ratelimit-*-reset. */
    struct span ratelimit_reset;
    struct span should_retry; /* x-should-retry: true|false */
};

struct provider_ops {
    const char *name; /* the `kind` of the configuration */
    /* Path below base_url for the operation, NULL when this dialect does not serve it natively. */
    const char *(*path)(enum operation op);
    /* Appends "Name: value" lines, each closed by NUL, for authentication and versions. The key is borrowed.
     */
    enum err_code (*headers)(struct buf *lines, const struct secret *key);
    /* True when the dialect lets a stream report usage only on request (`stream_options.include_usage`). */
    bool (*wants_include_usage)(enum operation op);
    /* One SSE event of a 200 stream. `data` may be any bytes. Usage that comes more than once replaces what
     * was there. A stream that ends in good order with `finish` set but without an end marker (some vendors
     * send none) is for the caller to judge: `end` stays ANSWER_OPEN. A line `error:` is passed as type
     * "error" with the line's value. */
    struct event_view (*decode_event)(struct answer *a, enum operation op, struct span type,
                                      struct span data);
    /* A whole buffered 200 body. Sets end to ANSWER_DONE, or ANSWER_ERROR when the body is an error object or
     * is not what the operation answers (for JSON operations: not one complete JSON value). */
    void (*decode_body)(struct answer *a, enum operation op, struct span content_type, struct span body);
    /* A non-2xx answer. `now` is for Retry-After dates. */
    struct failure (*classify)(int status, const struct answer_headers *h, struct span body,
                               int64_t now_unix_s);
};

/* NULL when no such dialect exists. */
const struct provider_ops *provider_ops_find(const char *kind);
/* NULL-terminated names of all dialects, for messages. */
const char *const *provider_kinds(void);

#endif
