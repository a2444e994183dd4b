/* SPDX-License-Identifier: Apache-2.0 */
/* The one place that turns an event into numbers. facts_add() counts the HTTP request, the inference request
 * and its attempts apart, into one cell per label set; families are sums over those cells, so names of one
 * number cannot drift. Worker thread only. A request costs some hash lookups and increments; memory is taken
 * when a key is seen for the first time and, for windows, when a slot is used for the first time. */
#include "gatewayd/telemetry/facts.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "gatewayd/telemetry/facts_priv.h"

#define SERIES_CAP  5000 /* label sets per family */
#define WORDS(type) (sizeof(type) / sizeof(uint64_t))
#define CELL(type, words, cap_, lines_)                                                                      \
    .bytes = sizeof(struct type), .n_words = WORDS(struct words), .cap = (cap_), .lines = (lines_)

_Static_assert(offsetof(struct count_cell, w) == sizeof(struct cell), "words follow the head");
_Static_assert(offsetof(struct route_cell, w) == sizeof(struct cell), "words follow the head");
_Static_assert(offsetof(struct request_time_cell, w) == sizeof(struct cell), "words follow the head");
_Static_assert(offsetof(struct task_cell, w) == sizeof(struct cell), "words follow the head");
_Static_assert(offsetof(struct usage_cell, w) == sizeof(struct cell), "words follow the head");
_Static_assert(offsetof(struct attempt_cell, w) == sizeof(struct cell), "words follow the head");
_Static_assert(offsetof(struct window_cell, w) == sizeof(struct cell), "words follow the head");
_Static_assert(offsetof(struct genai_cell, w) == sizeof(struct cell), "words follow the head");
_Static_assert(offsetof(struct genai_token_cell, w) == sizeof(struct cell), "words follow the head");
_Static_assert(offsetof(struct genai_stream_cell, w) == sizeof(struct cell), "words follow the head");

/* A cap is SERIES_CAP over the number of label sets that one cell makes in the family that makes the most of
 * it. */
const struct cells_kind FACTS_KINDS[KIND_COUNT] = {
    [KIND_HTTP] = {CELL(count_cell, count_words, SERIES_CAP, 2), .n_fold = 1, .fold = {1}},
    [KIND_ROUTE] = {CELL(route_cell, route_words, SERIES_CAP, N_http_seconds + 3), .n_fold = 1, .fold = {1}},
    [KIND_ENDPOINT] = {CELL(window_cell, window_words, SERIES_CAP, 4), .n_fold = 1, .fold = {0}},
    [KIND_REQUEST] = {CELL(count_cell, count_words, SERIES_CAP, 1), .n_fold = 3, .fold = {0, 2, 1},
                      .has_tenant = true},
    [KIND_REQUEST_TIME] = {CELL(request_time_cell, request_time_words, SERIES_CAP, N_llm_seconds_coarse + 2),
                           .n_fold = 3, .fold = {0, 2, 1}, .has_tenant = true},
    [KIND_SELECTION] = {CELL(count_cell, count_words, SERIES_CAP, 1), .n_fold = 2, .fold = {1, 0}},
    [KIND_USAGE] = {CELL(usage_cell, usage_words, SERIES_CAP / TOKEN_TYPE_COUNT, 3), .n_fold = 3,
                    .fold = {0, 2, 1}, .has_tenant = true},
    [KIND_ATTEMPT] = {CELL(attempt_cell, attempt_words, SERIES_CAP / SUBSET_COUNT,
                           N_llm_seconds + N_ttft_seconds + N_tpot_seconds + 20),
                      .n_fold = 2, .fold = {1, 0}},
    [KIND_STREAM] = {CELL(count_cell, count_words, SERIES_CAP, 1), .n_fold = 2, .fold = {1, 0}},
    [KIND_TASK] = {CELL(task_cell, task_words, SERIES_CAP, N_task_seconds + 2)},
    [KIND_ATTEMPT_ERROR] = {CELL(count_cell, count_words, SERIES_CAP, 1), .n_fold = 1, .fold = {0}},
    [KIND_RETRY] = {CELL(count_cell, count_words, SERIES_CAP, 1), .n_fold = 2, .fold = {1, 0}},
    [KIND_FAILOVER] = {CELL(count_cell, count_words, SERIES_CAP, 1), .n_fold = 2, .fold = {1, 0}},
    [KIND_PROVIDER] = {CELL(window_cell, window_words, SERIES_CAP, 5), .n_fold = 1, .fold = {0}},
    [KIND_MODEL] = {CELL(window_cell, window_words, SERIES_CAP, 2), .n_fold = 1, .fold = {0}},
    [KIND_GENAI_CALL] = {CELL(genai_cell, genai_words, SERIES_CAP, N_otel_seconds + 2), .n_fold = 3,
                         .fold = {1, 2, 0}},
    [KIND_GENAI_REQUEST] = {CELL(genai_cell, genai_words, SERIES_CAP, N_otel_seconds + 2), .n_fold = 3,
                            .fold = {1, 2, 0}},
    [KIND_GENAI_TOKENS] = {CELL(genai_token_cell, genai_token_words, SERIES_CAP, N_otel_tokens + 2),
                           .n_fold = 3, .fold = {1, 2, 0}},
    [KIND_GENAI_STREAM] = {CELL(genai_stream_cell, genai_stream_words, SERIES_CAP,
                                N_otel_ttft + N_otel_tpot + 4),
                           .n_fold = 3, .fold = {1, 2, 0}},
};

struct facts *facts_new(struct err *err)
{
    struct facts *f = calloc(1, sizeof(*f));

    if (!f) {
        (void)err_set(err, ERR_NO_MEMORY, "no memory for the fact cells");
        return NULL;
    }
    cells_registry_ref(FACTS_KINDS, KIND_COUNT);
    for (unsigned k = 0; k < KIND_COUNT; k++)
        cells_init(&f->cells[k], k);
    f->none = intern(SPAN_LIT("none"));
    f->unmatched = intern(SPAN_LIT("__unmatched__"));
    return f;
}

static void release_windows(struct facts *f, enum facts_kind k)
{
    for (unsigned i = 0; i < f->cells[k].count; i++)
        window_release(&((struct window_cell *)f->cells[k].at[i])->window, kind_has_sketch(k));
}

void facts_free(struct facts *f)
{
    if (!f)
        return;
    release_windows(f, KIND_ENDPOINT);
    release_windows(f, KIND_PROVIDER);
    release_windows(f, KIND_MODEL);
    window_release(&f->requests, false);
    for (unsigned k = 0; k < KIND_COUNT; k++)
        cells_release(&f->cells[k]);
    cells_registry_unref();
    free(f);
}

void facts_limit_series(size_t max_series)
{
    cells_limit_lines(max_series);
}

static unsigned shown = METRIC_PROFILES_DEFAULT;

void facts_show(unsigned profiles)
{
    __atomic_store_n(&shown, profiles, __ATOMIC_RELAXED);
}

static bool is_shown(enum metric_profile p)
{
    return UNLIKELY(__atomic_load_n(&shown, __ATOMIC_RELAXED) & 1u << p);
}

static void assert_owner(struct facts *f)
{
#ifndef NDEBUG
    if (!f->owner)
        f->owner = (uint64_t)pthread_self();
    assert(f->owner == (uint64_t)pthread_self());
#else
    (void)f;
#endif
}

void facts_leave(struct facts *f)
{
    f->owner = 0;
}

/* What a moment of observation is: when, how long, whose trace. */
struct moment {
    uint64_t at_us, epoch;
    const struct trace_id *trace; /* NULL: no exemplar */
};

static struct moment moment_of(int64_t at_us, const struct trace_id *trace)
{
    struct wall at = {at_us};

    return (struct moment){
        .at_us = at_us > 0 ? (uint64_t)at_us : 0, .epoch = window_epoch(at), .trace = trace};
}

static uint64_t clamp(int64_t us)
{
    return us > 0 ? (uint64_t)us : 0;
}

static void leave_exemplar(struct exemplar *x, const struct moment *m, uint64_t us)
{
    uint64_t trace[2];
    uint32_t turn;

    if (!m->trace)
        return;
    memcpy(trace, m->trace, sizeof(trace));
    if (!(trace[0] | trace[1]))
        return;
    turn = x->turn + 1;
    __atomic_store_n(&x->turn, turn, __ATOMIC_RELAXED);
    __atomic_store_n(&x->us, us < UINT32_MAX ? (uint32_t)us : UINT32_MAX, __ATOMIC_RELEASE);
    __atomic_store_n(&x->trace[0], trace[0], __ATOMIC_RELEASE);
    __atomic_store_n(&x->trace[1], trace[1], __ATOMIC_RELEASE);
    __atomic_store_n(&x->at_us, m->at_us, __ATOMIC_RELEASE);
    __atomic_store_n(&x->turn, turn + 1, __ATOMIC_RELEASE);
}

/* `exemplars` may be NULL. */
static void time_add(uint64_t *sum_us, uint64_t *n, enum metric_buckets b, struct exemplar *exemplars,
                     const struct moment *m, int64_t duration_us)
{
    const struct metric_bounds *bounds = metric_bounds(b);
    uint64_t us = clamp(duration_us);
    size_t i = 0;

    while (i < bounds->n && us > (uint64_t)bounds->us[i])
        i++;
    cells_bump(&n[i], 1);
    cells_bump(sum_us, us);
    if (exemplars)
        leave_exemplar(&exemplars[i], m, us);
}

static void count(struct facts *f, enum facts_kind k, cells_key key)
{
    struct count_cell *c = facts_cell(f, k, key);

    if (c)
        cells_bump(&c->w.count, 1);
}

static void count_window(struct facts *f, enum facts_kind k, label l, const struct moment *m,
                         int64_t duration_us, bool is_error)
{
    struct window_cell *c = facts_cell(f, k, cells_key_of(l, 0, 0, 0));

    if (!c)
        return;
    cells_bump(&c->w.count, 1);
    cells_store(&c->last_us, m->at_us);
    window_add(&c->window, kind_has_sketch(k), m->epoch, clamp(duration_us), is_error);
}

static void add_http(struct facts *f, label method_or_0, label endpoint_or_0, uint16_t status,
                     const struct moment *m, int64_t duration_us, uint64_t bytes)
{
    label method = method_or_0 ? method_or_0 : f->none;
    label endpoint = endpoint_or_0 ? endpoint_or_0 : f->unmatched;
    struct route_cell *route = facts_cell(f, KIND_ROUTE, cells_key_of(method, endpoint, 0, 0));

    /* Without a status nothing was sent: the client had gone. */
    count(f, KIND_HTTP, cells_key_of(method, endpoint, status ? status : 499, 0));
    if (route)
        time_add(&route->w.times.sum_us, route->w.times.n, METRIC_BUCKETS_http_seconds, route->exemplars.at,
                 m, duration_us);
    if (route && is_shown(PROFILE_RESPONSE_SIZE))
        time_add(&route->w.size.sum_us, route->w.size.n, METRIC_BUCKETS_bytes, NULL, m, (int64_t)bytes);
    count_window(f, KIND_ENDPOINT, endpoint, m, duration_us, status >= 500);
}

void facts_add_http(struct facts *f, label method, label endpoint, uint16_t status, int64_t duration_us,
                    uint64_t response_bytes)
{
    struct moment m = moment_of(wall_now().us, NULL);

    assert_owner(f);
    add_http(f, method, endpoint, status, &m, duration_us, response_bytes);
}

static label or_none(const struct facts *f, label l)
{
    return l ? l : f->none;
}

static void add_request(struct facts *f, const struct fact_request *rq, const struct fact_attempt *a,
                        const struct moment *m)
{
    label tenant = or_none(f, rq->tenant);
    label provider = or_none(f, rq->provider);
    label model = or_none(f, rq->provider ? rq->model : rq->requested);
    struct request_time_cell *t = facts_cell(f, KIND_REQUEST_TIME, cells_key_of(tenant, provider, model, 0));

    count(f, KIND_REQUEST, cells_key_of(tenant, provider, model, rq->status));
    if (t)
        time_add(&t->w.times.sum_us, t->w.times.n, METRIC_BUCKETS_llm_seconds_coarse, t->exemplars.at, m,
                 rq->duration_us);
    if (rq->attempts && rq->provider) {
        bool is_primary = a[0].provider == rq->provider && a[0].model == rq->model;

        count(f, KIND_SELECTION, cells_key_of(provider, model, is_primary ? TIER_PRIMARY : TIER_FALLBACK, 0));
    }
    window_add(&f->requests, false, m->epoch, clamp(rq->duration_us), rq->status == STATUS_ERROR);
}

static void add_usage(struct facts *f, label tenant, label provider, label model,
                      const struct fact_attempt *a)
{
    struct usage_cell *c;

    if (!a->usage.input && !a->usage.output && !a->cost_nanousd)
        return;
    c = facts_cell(f, KIND_USAGE, cells_key_of(tenant, provider, model, 0));
    if (!c)
        return;
    cells_bump(&c->w.attempts, 1);
    cells_bump(&c->w.tokens[TOKEN_INPUT], a->usage.input);
    cells_bump(&c->w.tokens[TOKEN_OUTPUT], a->usage.output);
    cells_bump(&c->w.cost_nanousd, clamp(a->cost_nanousd));
}

/* The mean gap between output tokens; needs a whole stream and two tokens. */
static bool time_per_token(const struct fact_attempt *a, int64_t *out_us)
{
    if (!a->is_stream || a->status != STATUS_SUCCESS || a->ttft_us < 0 || a->usage.output < 2 ||
        a->duration_us < a->ttft_us)
        return false;
    *out_us = (a->duration_us - a->ttft_us) / (int64_t)(a->usage.output - 1);
    return true;
}

static void count_attempt(struct attempt_cell *c, const struct fact_attempt *a, const struct moment *m)
{
    struct attempt_words *w = &c->w;
    int64_t gap_us;

    cells_bump(&w->status[a->status < STATUS_REJECTED ? a->status : STATUS_ERROR], 1);
    cells_bump(&w->tokens[TOKEN_INPUT], a->usage.input);
    cells_bump(&w->tokens[TOKEN_OUTPUT], a->usage.output);
    cells_bump(&w->subset[SUBSET_CACHE_READ], a->usage.cached);
    cells_bump(&w->subset[SUBSET_CACHE_WRITE], a->usage.cache_write);
    cells_bump(&w->subset[SUBSET_REASONING], a->usage.reasoning);
    cells_bump(&w->cost_nanousd, clamp(a->cost_nanousd));
    if (!a->is_priced && (a->usage.source != USAGE_NONE || a->status == STATUS_SUCCESS))
        cells_bump(&w->unpriced, 1);
    time_add(&w->times.sum_us, w->times.n, METRIC_BUCKETS_llm_seconds, c->exemplars.at, m, a->duration_us);
    if (a->is_stream && a->ttft_us >= 0)
        time_add(&w->ttft.sum_us, w->ttft.n, METRIC_BUCKETS_ttft_seconds, c->ttft_exemplars.at, m,
                 a->ttft_us);
    if (time_per_token(a, &gap_us))
        time_add(&w->tpot.sum_us, w->tpot.n, METRIC_BUCKETS_tpot_seconds, NULL, m, gap_us);
}

static void add_attempt(struct facts *f, label tenant, const struct fact_attempt *a, const struct moment *m)
{
    label provider = or_none(f, a->provider);
    label model = or_none(f, a->model);
    bool is_error = a->status == STATUS_ERROR;
    struct attempt_cell *c = facts_cell(f, KIND_ATTEMPT, cells_key_of(provider, model, 0, 0));

    if (c)
        count_attempt(c, a, m);
    add_usage(f, tenant, provider, model, a);
    count_window(f, KIND_PROVIDER, provider, m, a->duration_us, is_error);
    count_window(f, KIND_MODEL, model, m, a->duration_us, is_error);
    if (is_error)
        count(f, KIND_ATTEMPT_ERROR, cells_key_of(provider, error_type_of(a->error), 0, 0));
    if (a->is_stream && a->end != STREAM_NONE)
        count(f, KIND_STREAM, cells_key_of(provider, model, a->end, 0));
    if (a->number > 1) {
        unsigned reason = error_type_of(a->retry_reason);

        if (a->from_provider && a->from_provider != a->provider)
            count(f, KIND_FAILOVER, cells_key_of(a->from_provider, provider, reason, 0));
        else
            count(f, KIND_RETRY, cells_key_of(provider, model, reason, 0));
    }
}

static void add_task(struct facts *f, const struct fact_request *rq, const struct moment *m)
{
    struct task_cell *c = facts_cell(f, KIND_TASK, cells_key_of(rq->status, rq->priority, 0, 0));

    if (c)
        time_add(&c->w.times.sum_us, c->w.times.n, METRIC_BUCKETS_task_seconds, NULL, m, rq->duration_us);
}

/* ---- OpenTelemetry's names ---- */

static cells_key genai_key(const struct facts *f, const struct fact_request *rq, label provider, label asked,
                           label model, unsigned last)
{
    return cells_key_of(or_none(f, provider), or_none(f, asked), or_none(f, model),
                        (unsigned)rq->op << 8 | last);
}

static unsigned genai_error(enum fact_status status, enum err_code error)
{
    return status == STATUS_SUCCESS ? 0 : (unsigned)error_type_of(error) + 1;
}

static void add_genai_tokens(struct facts *f, const struct fact_request *rq, const struct fact_attempt *a,
                             const struct moment *m, enum token_type type, uint64_t n)
{
    cells_key key = genai_key(f, rq, a->provider, a->model, a->model, type);
    struct genai_token_cell *c = n ? facts_cell(f, KIND_GENAI_TOKENS, key) : NULL;

    if (c)
        time_add(&c->w.tokens.sum_us, c->w.tokens.n, METRIC_BUCKETS_otel_tokens, NULL, m, (int64_t)n);
}

static void add_genai_attempt(struct facts *f, const struct fact_request *rq, const struct fact_attempt *a,
                              const struct moment *m)
{
    unsigned error = genai_error(a->status, a->error);
    cells_key key = genai_key(f, rq, a->provider, a->model, a->model, error);
    struct genai_cell *call = facts_cell(f, KIND_GENAI_CALL, key);
    struct genai_stream_cell *stream = NULL;
    int64_t gap_us;

    if (call)
        time_add(&call->w.times.sum_us, call->w.times.n, METRIC_BUCKETS_otel_seconds, NULL, m,
                 a->duration_us);
    add_genai_tokens(f, rq, a, m, TOKEN_INPUT, a->usage.input);
    add_genai_tokens(f, rq, a, m, TOKEN_OUTPUT, a->usage.output);
    if (a->is_stream && a->ttft_us >= 0)
        stream = facts_cell(f, KIND_GENAI_STREAM, genai_key(f, rq, a->provider, rq->requested, a->model, 0));
    if (!stream)
        return;
    time_add(&stream->w.ttft.sum_us, stream->w.ttft.n, METRIC_BUCKETS_otel_ttft, NULL, m, a->ttft_us);
    if (time_per_token(a, &gap_us))
        time_add(&stream->w.tpot.sum_us, stream->w.tpot.n, METRIC_BUCKETS_otel_tpot, NULL, m, gap_us);
}

static void add_genai(struct facts *f, const struct fact_request *rq, const struct fact_attempt *a,
                      const struct moment *m)
{
    cells_key key =
        genai_key(f, rq, rq->provider, rq->requested, rq->model, genai_error(rq->status, rq->error));
    struct genai_cell *c = facts_cell(f, KIND_GENAI_REQUEST, key);

    if (c)
        time_add(&c->w.times.sum_us, c->w.times.n, METRIC_BUCKETS_otel_seconds, NULL, m, rq->duration_us);
    for (unsigned i = 0; i < rq->attempts; i++)
        add_genai_attempt(f, rq, &a[i], m);
}

/* An operation without a body lists models: no inference. */
static bool is_inference(enum operation op)
{
    return op < OP_COUNT && operation_row(op)->body != BODY_NONE;
}

void facts_add(struct facts *f, const struct fact_request *rq, const struct fact_attempt *a)
{
    struct moment m = moment_of(rq->arrived.us + rq->duration_us, &rq->trace);

    assert_owner(f);
    add_http(f, rq->method, rq->endpoint, rq->http_status, &m, rq->duration_us, rq->bytes_out);
    if (is_inference(rq->op))
        add_request(f, rq, a, &m);
    if (rq->priority)
        add_task(f, rq, &m);
    for (unsigned i = 0; i < rq->attempts; i++)
        add_attempt(f, or_none(f, rq->tenant), &a[i], &m);
    if (is_shown(PROFILE_OTEL) && is_inference(rq->op))
        add_genai(f, rq, a, &m);
}

void facts_stream_opened(struct facts *f)
{
    assert_owner(f);
    cells_bump(&f->active_streams, 1);
}

void facts_stream_closed(struct facts *f)
{
    assert_owner(f);
    assert(cells_load(&f->active_streams));
    cells_bump(&f->active_streams, (uint64_t)-1);
}
