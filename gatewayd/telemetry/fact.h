/* SPDX-License-Identifier: Apache-2.0 */
/* The two facts of the data plane, made once, at settle. A request that fails over is one fact_request and two
 * fact_attempts. Everything else (metrics, journal, logs) is derived from them. */
#ifndef TELEMETRY_FACT_H
#define TELEMETRY_FACT_H

#include "libshared/base/clock.h"
#include "libshared/base/err.h"
#include "libshared/base/id.h"
#include "libshared/base/intern.h"
#include "libshared/base/usage.h"
#include "libshared/catalog/operation.h"

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

struct trace_id {
    unsigned char b[16];
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
};

struct fact_request {
    struct id id;
    struct trace_id trace;
    struct wall arrived;
    label tenant, key, user; /* user is 0 unless configured */
    label provider, model;   /* of the attempt that answered, or the last one; 0 when none was made */
    label requested;         /* alias or provider/model as configured, or "other" */
    label method;            /* "GET" "POST" … */
    label endpoint;          /* route template or "__unmatched__" */
    enum operation op;       /* OP_COUNT when the request reached no operation */
    enum fact_status status;
    enum err_code error;
    uint16_t http_status; /* sent to the client; 499 when it had gone */
    uint8_t attempts;
    bool is_stream;
    enum stream_end end;
    int64_t duration_us; /* arrival of the headers to settle */
    int64_t ttft_us;     /* arrival to first content; -1 */
    int64_t queue_us;    /* waiting in admission */
    int64_t overhead_us; /* duration minus time spent waiting for providers */
    uint64_t bytes_in, bytes_out;
    struct usage usage; /* sum over attempts */
    int64_t cost_nanousd;
    bool is_priced;
    char detail[120]; /* for the log: why it failed; never a secret, prompt or completion */
};

#endif
