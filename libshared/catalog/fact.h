/* SPDX-License-Identifier: Apache-2.0 */
/* The two facts of the data plane, made once, at settle. A request that fails over is one fact_request and two
 * fact_attempts. Everything else (metrics, journal, logs) is derived from them. */
#ifndef CATALOG_FACT_H
#define CATALOG_FACT_H

#include <stdbool.h>

#include "libshared/base/clock.h"
#include "libshared/base/err.h"
#include "libshared/base/id.h"
#include "libshared/base/intern.h"
#include "libshared/base/usage.h"
#include "libshared/catalog/operation.h"
#include "libshared/catalog/period.h"

enum fact_status { STATUS_SUCCESS, STATUS_ERROR, STATUS_CANCELLED, STATUS_REJECTED, STATUS_COUNT };

/* How a stream ended; STREAM_NONE for buffered answers. */
enum stream_end {
    STREAM_NONE,
    STREAM_COMPLETE,
    STREAM_CLIENT_ABORT,
    STREAM_UPSTREAM_CUT,
    STREAM_IDLE_TIMEOUT,
    STREAM_BUDGET_CUT,
    STREAM_ERROR,
    STREAM_END_COUNT
};

const char *fact_status_name(enum fact_status s); /* "success" … */
const char *stream_end_name(enum stream_end e);   /* "none", "complete", "client_abort" … */

#define USER_HASH_CAP 33 /* 32 hex digits of HMAC-SHA-256 */

struct trace_id {
    unsigned char b[16];
};

#define FACT_ATTEMPTS 8u /* per request, all targets together */

/* Money held for a request from `admit` to its end, on three accounts: its key, its tenant, all. The window of
 * an account is that of its cycle which holds `at`; so settling finds the same window, whatever the clock or the
 * configuration did meanwhile. */
struct fact_reservation {
    int64_t amount_nanousd; /* upper bound of the cost; 0: nothing is held */
    struct wall at;
    enum period key_period, tenant_period, global_period;
    const struct zone *key_zone, *tenant_zone, *global_zone; /* by whose clocks; NULL: UTC */
};

struct fact_attempt {
    label provider, model; /* model: catalogue label or "other" */
    enum fact_status status;
    enum err_code error;  /* ERR_OK on success */
    uint16_t http_status; /* the provider's, 0 when none came */
    uint8_t number;       /* 1 is the first attempt of the request */
    bool is_stream;
    enum stream_end end;
    label from_provider;        /* failover: provider of the previous attempt, else 0 */
    enum err_code retry_reason; /* why the previous attempt was left, ERR_OK on the first */
    int64_t started_us;         /* after the request's arrival */
    int64_t duration_us;        /* from dispatch to the last byte or the failure */
    int64_t ttft_us;            /* dispatch to first content; -1 when none */
    struct usage usage;
    int64_t cost_nanousd;
    bool is_priced;
    struct cycle
        cycle; /* of its provider's budget, which it is posted to in the window of the request's arrival */
};

/* What of an attempt's request its own record repeats, so that it can be booked without the request's. */
struct fact_context {
    struct id request;
    struct wall arrived;
    label tenant, key;
    enum operation op;
};

struct fact_request {
    struct id id;
    struct trace_id trace;
    struct wall arrived;
    label tenant, key;
    char user[USER_HASH_CAP]; /* who the client says it acts for, hashed; "" unless configured */
    label provider, model;    /* of the attempt that answered, or the last one; 0 when none was made */
    label requested;          /* alias or provider/model as configured, or "other" */
    label method;             /* "GET" "POST" … */
    label endpoint;           /* route template or "__unmatched__" */
    enum operation op;        /* OP_COUNT when the request reached no operation */
    enum fact_status status;
    enum err_code error;
    uint16_t http_status; /* sent to the client; 499 when it had gone */
    uint8_t attempts;
    bool is_stream;
    enum stream_end end;
    int64_t duration_us; /* arrival of the headers to settle */
    int64_t ttft_us;     /* arrival to first content; -1 */
    int64_t queue_us;    /* waiting for slots of providers */
    uint8_t priority;    /* 1 … 5 of a request that waited so, else 0 */
    int64_t overhead_us; /* duration minus time spent waiting for providers, their slots included */
    uint64_t bytes_in, bytes_out;
    struct usage usage; /* sum over attempts */
    int64_t cost_nanousd;
    bool is_priced;
    struct fact_reservation reservation; /* given back by this end; amount 0 when there was none any more */
    bool is_recovery; /* settled by the next start, since the process died before the end */
    char detail[120]; /* for the log: why it failed; never a secret, prompt or completion */
};

/* What is known of a request that is still open: written as RESERVE before a provider is called and, all of it again, as
 * PROGRESS while it goes on. It is enough to end the request by, should the process die. */
struct fact_open {
    struct fact_context context;
    struct fact_reservation reservation;
    label requested;
    bool is_stream;
    uint8_t number; /* of the attempt under way, or 0: none was begun, and the first would go to: */
    label provider, model;
    int64_t started_us;   /* of that attempt, after the arrival */
    struct usage usage;   /* of it so far; before the first answer the prompt's estimate */
    int64_t cost_nanousd; /* what that usage costs, rounded up */
    bool is_priced;
    struct cycle cycle;       /* of that provider's budget */
    uint8_t ended;            /* attempts that are over and have records of their own; */
    struct usage ended_usage; /* their sums */
    int64_t ended_cost_nanousd;
};

/* A correction of what was booked, by an operator. It counts by the month, on all accounts that the request would have been
 * posted to. A reset is posted to one account alone, the one that the labels name (a provider's, a key's, a tenant's, or with
 * none the one of all), in the window of its cycle; no cost changes by it. */
struct fact_adjust {
    struct id id; /* its own */
    bool is_reset;
    struct cycle cycle; /* of a reset */
    struct wall at;
    label tenant, key, provider, model;
    int64_t amount_nanousd; /* may be negative */
    char who[64], why[120];
};

/* When it ended: what decides the minute and the hour that it is booked in. */
static inline struct wall fact_request_ended(const struct fact_request *rq)
{
    return (struct wall){rq->arrived.us + rq->duration_us};
}
static inline struct wall fact_attempt_ended(const struct fact_context *c, const struct fact_attempt *a)
{
    return (struct wall){c->arrived.us + a->started_us + a->duration_us};
}

#endif
