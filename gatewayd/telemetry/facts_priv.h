/* SPDX-License-Identifier: Apache-2.0 */
/* The cells of the facts, one struct per label set, for the writer (facts.c) and its readers (snapshot.c). */
#ifndef TELEMETRY_FACTS_PRIV_H
#define TELEMETRY_FACTS_PRIV_H

#include "gatewayd/telemetry/cells.h"
#include "gatewayd/telemetry/facts.h"
#include "gatewayd/telemetry/window.h"
#include "libshared/catalog/metrics.h"

/* struct times_<set>: a histogram. struct exemplars_<set>: the latest trace of each of its buckets. */
struct exemplar {
    uint32_t turn; /* odd while it is being written */
    uint32_t us;   /* saturated */
    uint64_t trace[2];
    uint64_t at_us;
};
#define BUCKETS(name, ...)                                                                                   \
    enum { N_##name = sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t) + 1 };                        \
    struct times_##name {                                                                                    \
        uint64_t sum_us, n[N_##name]; /* n[i]: above bound i - 1, up to and including bound i */             \
    };                                                                                                       \
    struct exemplars_##name {                                                                                \
        struct exemplar at[N_##name];                                                                        \
    };
#include "libshared/catalog/buckets.def"
#undef BUCKETS

enum token_type { TOKEN_INPUT, TOKEN_OUTPUT, TOKEN_TYPE_COUNT };
enum token_subset { SUBSET_CACHE_READ, SUBSET_CACHE_WRITE, SUBSET_REASONING, SUBSET_COUNT };
enum tier { TIER_PRIMARY, TIER_FALLBACK, TIER_COUNT };

/* What attempts fail of, as a label; a closed set. */
enum error_type {
    ERROR_TYPE_RATE_LIMITED,
    ERROR_TYPE_QUOTA,
    ERROR_TYPE_AUTH,
    ERROR_TYPE_TIMEOUT,
    ERROR_TYPE_CONNECT,
    ERROR_TYPE_TLS,
    ERROR_TYPE_INVALID_REQUEST,
    ERROR_TYPE_CONTEXT_LENGTH,
    ERROR_TYPE_CONTENT_FILTER,
    ERROR_TYPE_OVERLOADED,
    ERROR_TYPE_SERVER_ERROR,
    ERROR_TYPE_BAD_RESPONSE,
    ERROR_TYPE_STREAM_INTERRUPTED,
    ERROR_TYPE_UNKNOWN,
    ERROR_TYPE_COUNT
};
enum error_type error_type_of(enum err_code code);
const char *error_type_name(enum error_type t);
const char *token_type_name(enum token_type t);
const char *token_subset_name(enum token_subset s);
const char *tier_name(enum tier t);
/* As OpenTelemetry names it: "chat", "embeddings", … */
const char *genai_operation_name(enum operation op);

/* Kinds of cells: one per label set. The comment is the key. */
enum facts_kind {
    KIND_HTTP,          /* method, endpoint, status code */
    KIND_ROUTE,         /* method, endpoint */
    KIND_ENDPOINT,      /* endpoint */
    KIND_REQUEST,       /* tenant, provider, model, fact_status */
    KIND_REQUEST_TIME,  /* tenant, provider, model */
    KIND_SELECTION,     /* provider, model, tier */
    KIND_USAGE,         /* tenant, provider, model */
    KIND_ATTEMPT,       /* provider, model */
    KIND_STREAM,        /* provider, model, stream_end */
    KIND_TASK,          /* fact_status, priority */
    KIND_ATTEMPT_ERROR, /* provider, error_type */
    KIND_RETRY,         /* provider, model, error_type */
    KIND_FAILOVER,      /* from provider, to provider, error_type */
    KIND_PROVIDER,      /* provider */
    KIND_MODEL,         /* model */
    KIND_GENAI_CALL, /* provider, requested model, model, operation and error_type; these four only with `otel` */
    KIND_GENAI_REQUEST, /* the same */
    KIND_GENAI_TOKENS,  /* the same, with token_type in place of error_type */
    KIND_GENAI_STREAM,  /* the same, with neither */
    KIND_COUNT
};
extern const struct cells_kind FACTS_KINDS[KIND_COUNT];

struct count_words { /* HTTP, REQUEST, SELECTION, STREAM, ATTEMPT_ERROR, RETRY, FAILOVER */
    uint64_t count;
};
struct count_cell {
    struct cell head;
    struct count_words w;
};

struct route_words {
    struct times_http_seconds times;
    struct times_bytes size; /* only with `response-size` */
};
struct route_cell {
    struct cell head;
    struct route_words w;
    struct exemplars_http_seconds exemplars;
};

struct request_time_words {
    struct times_llm_seconds_coarse times;
};
struct request_time_cell {
    struct cell head;
    struct request_time_words w;
    struct exemplars_llm_seconds_coarse exemplars;
};

struct task_words {
    struct times_task_seconds times;
};
struct task_cell {
    struct cell head;
    struct task_words w;
};

struct usage_words {
    uint64_t tokens[TOKEN_TYPE_COUNT];
    uint64_t cost_nanousd;
    uint64_t attempts;
};
struct usage_cell {
    struct cell head;
    struct usage_words w;
};

struct attempt_words {
    uint64_t status[STATUS_REJECTED]; /* attempts are not rejected */
    uint64_t tokens[TOKEN_TYPE_COUNT];
    uint64_t subset[SUBSET_COUNT];
    uint64_t cost_nanousd, unpriced;
    struct times_llm_seconds times;
    struct times_ttft_seconds ttft;
    struct times_tpot_seconds tpot;
};
struct attempt_cell {
    struct cell head;
    struct attempt_words w;
    struct exemplars_llm_seconds exemplars;
    struct exemplars_ttft_seconds ttft_exemplars;
};

struct genai_words { /* GENAI_CALL, GENAI_REQUEST */
    struct times_otel_seconds times;
};
struct genai_cell {
    struct cell head;
    struct genai_words w;
};
struct genai_token_words {
    struct times_otel_tokens tokens;
};
struct genai_token_cell {
    struct cell head;
    struct genai_token_words w;
};
struct genai_stream_words {
    struct times_otel_ttft ttft;
    struct times_otel_tpot tpot;
};
struct genai_stream_cell {
    struct cell head;
    struct genai_stream_words w;
};

struct window_words { /* ENDPOINT, PROVIDER, MODEL */
    uint64_t count;   /* since start */
};
struct window_cell {
    struct cell head;
    struct window_words w;
    uint64_t last_us; /* wall time of the latest */
    struct window window;
};
/* Of models only mean and error rate are asked for, and there are many. */
static inline bool kind_has_sketch(enum facts_kind k)
{
    return k != KIND_MODEL;
}

struct facts {
    struct cells cells[KIND_COUNT];
    struct window requests; /* inference requests, without a sketch */
    uint64_t active_streams;
    label none, unmatched;
    uint64_t owner; /* thread, in debug builds */
};

static inline void *facts_cell(struct facts *f, enum facts_kind k, cells_key key)
{
    return cells_get(&f->cells[k], key);
}

#endif
