/* SPDX-License-Identifier: Apache-2.0 */
/* Tables first, then the state families, which read a struct of the process instead of cells. Api thread. */
#include "gatewayd/telemetry/projections_priv.h"

#include <math.h>
#include <stdio.h>

#define WORD(words, member) (offsetof(struct words, member) / sizeof(uint64_t))

static const struct kind_row KINDS[] = {
    [KIND_HTTP] = {{{"method", PART_LABEL}, {"endpoint", PART_LABEL}, {"status", PART_NUMBER}}, 0, 1},
    [KIND_ROUTE] = {{{"method", PART_LABEL}, {"endpoint", PART_LABEL}},
                    WORD(route_words, times.n),
                    N_http_seconds},
    [KIND_ENDPOINT] = {{{"endpoint", PART_LABEL}}, 0, 1},
    [KIND_REQUEST] = {{{"tenant_id", PART_LABEL},
                       {"provider", PART_LABEL},
                       {"model", PART_LABEL},
                       {"status", PART_FACT_STATUS}},
                      0,
                      1},
    [KIND_REQUEST_TIME] = {{{"tenant_id", PART_LABEL}, {"provider", PART_LABEL}, {"model", PART_LABEL}},
                           WORD(request_time_words, times.n),
                           N_llm_seconds_coarse},
    [KIND_SELECTION] = {{{"provider", PART_LABEL}, {"model", PART_LABEL}, {"tier", PART_TIER}}, 0, 1},
    [KIND_USAGE] = {{{"tenant_id", PART_LABEL}, {"provider", PART_LABEL}, {"model", PART_LABEL}},
                    WORD(usage_words, attempts),
                    1},
    [KIND_ATTEMPT] = {{{"provider", PART_LABEL}, {"model", PART_LABEL}},
                      WORD(attempt_words, status),
                      STATUS_REJECTED},
    [KIND_STREAM] = {{{"provider", PART_LABEL}, {"model", PART_LABEL}, {"outcome", PART_STREAM_END}}, 0, 1},
    [KIND_TASK] = {{{"status", PART_FACT_STATUS}, {"priority", PART_PRIORITY}},
                   WORD(task_words, times.n),
                   N_task_seconds},
    [KIND_ATTEMPT_ERROR] = {{{"provider", PART_LABEL}, {"error_type", PART_ERROR_TYPE}}, 0, 1},
    [KIND_RETRY] = {{{"provider", PART_LABEL}, {"model", PART_LABEL}, {"reason", PART_ERROR_TYPE}}, 0, 1},
    [KIND_FAILOVER] =
        {{{"from_provider", PART_LABEL}, {"to_provider", PART_LABEL}, {"reason", PART_ERROR_TYPE}}, 0, 1},
    [KIND_PROVIDER] = {{{"provider", PART_LABEL}}, 0, 1},
    [KIND_MODEL] = {{{"model", PART_LABEL}}, 0, 1},
#define GENAI_LABELS                                                                                         \
    {"gen_ai_provider_name", PART_LABEL}, {"gen_ai_request_model", PART_LABEL},                              \
    {                                                                                                        \
        "gen_ai_response_model", PART_LABEL                                                                  \
    }
#define GENAI_KIND(last, form_, words, member, n)                                                            \
    {                                                                                                        \
        {GENAI_LABELS, {last, form_}, {"gen_ai_operation_name", PART_GENAI_OPERATION}}, WORD(words, member), \
            n                                                                                                \
    }
    [KIND_GENAI_CALL] = GENAI_KIND("error_type", PART_GENAI_ERROR, genai_words, times.n, N_otel_seconds),
    [KIND_GENAI_REQUEST] = GENAI_KIND("error_type", PART_GENAI_ERROR, genai_words, times.n, N_otel_seconds),
    [KIND_GENAI_TOKENS] =
        GENAI_KIND("gen_ai_token_type", PART_GENAI_TOKEN, genai_token_words, tokens.n, N_otel_tokens),
    [KIND_GENAI_STREAM] = {{GENAI_LABELS, {NULL, PART_NONE}, {"gen_ai_operation_name", PART_GENAI_OPERATION}},
                           WORD(genai_stream_words, ttft.n),
                           N_otel_ttft},
};
_Static_assert(ARRAY_LEN(KINDS) == KIND_COUNT, "every kind names its parts");

const struct kind_row *kind_row(enum facts_kind k)
{
    return &KINDS[k];
}

struct span part_text(struct lines *l, enum part_form form, unsigned value, char tmp[8])
{
    switch (form) {
    case PART_LABEL:
        return lines_text(l, value);
    case PART_NUMBER:
        return span_make(tmp, (size_t)snprintf(tmp, 8, "%u", value & 0xffff));
    case PART_FACT_STATUS:
        return span_of(fact_status_name((enum fact_status)value));
    case PART_STREAM_END:
        return span_of(stream_end_name((enum stream_end)value));
    case PART_ERROR_TYPE:
        return span_of(error_type_name((enum error_type)value));
    case PART_TIER:
        return span_of(tier_name((enum tier)value));
    case PART_PRIORITY:
        return span_make(tmp, (size_t)snprintf(tmp, 8, "p%u", value & 0xff));
    case PART_GENAI_OPERATION:
        return span_of(genai_operation_name((enum operation)(value >> 8)));
    case PART_GENAI_ERROR: /* none is no label */
        return span_of((value & 0xff) ? error_type_name((enum error_type)((value & 0xff) - 1)) : "");
    case PART_GENAI_TOKEN:
        return span_of(token_type_name((enum token_type)(value & 0xff)));
    default:
        return SPAN_LIT("");
    }
}

static const char *status_child(unsigned i)
{
    return fact_status_name((enum fact_status)i);
}
static const char *token_child(unsigned i)
{
    return token_type_name((enum token_type)i);
}
static const char *subset_child(unsigned i)
{
    return token_subset_name((enum token_subset)i);
}

static double window_avg(const struct window_stats *st)
{
    return st->avg;
}
static double window_p50(const struct window_stats *st)
{
    return st->p50;
}
static double window_p95(const struct window_stats *st)
{
    return st->p95;
}
static double window_p99(const struct window_stats *st)
{
    return st->p99;
}
static double window_min(const struct window_stats *st)
{
    return st->min;
}
static double window_max(const struct window_stats *st)
{
    return st->max;
}
static double window_error_rate(const struct window_stats *st)
{
    return st->error_rate;
}

/* ---- state families ---- */

void sample_u64(struct lines *l, uint64_t v)
{
    lines_series(l, NULL);
    lines_number(l, LINES_COUNT, v);
}

static void sample_us(struct lines *l, uint64_t us)
{
    lines_series(l, NULL);
    lines_number(l, LINES_US, us);
}

void labelled_u64(struct lines *l, const char *value, uint64_t v)
{
    struct span s = span_of(value);

    lines_series(l, &s);
    lines_number(l, LINES_COUNT, v);
}

static void state_active_streams(struct lines *l, const struct scrape *s)
{
    uint64_t n = 0;

    for (size_t w = 0; w < s->snapshot->n_workers; w++)
        n += cells_load(&s->snapshot->workers[w]->active_streams);
    sample_u64(l, n);
}

static void state_task_depth(struct lines *l, const struct scrape *s)
{
    char name[3] = "p1";

    for (unsigned p = 1; p <= QUEUE_PRIORITIES; p++, name[1]++)
        labelled_u64(l, name, s->state->queued.depth[p]);
}

/* One series per provider. */
#define STATE_QUEUE(fn, member)                                                                              \
    static void fn(struct lines *l, const struct scrape *s)                                                  \
    {                                                                                                        \
        for (size_t i = 0; i < s->state->n_queues; i++) {                                                    \
            struct span provider = lines_text(l, s->state->queues[i].provider);                              \
                                                                                                             \
            lines_series(l, &provider);                                                                      \
            lines_number(l, LINES_COUNT, s->state->queues[i].report.member);                                 \
        }                                                                                                    \
    }
STATE_QUEUE(state_queue_depth, depth)
STATE_QUEUE(state_in_flight, used)
STATE_QUEUE(state_slots, slots)
#undef STATE_QUEUE

static void state_queue_refusals(struct lines *l, const struct scrape *s)
{
    for (unsigned v = QUEUE_FULL; v < QUEUE_VERDICTS; v++)
        labelled_u64(l, queue_reason((enum queue_verdict)v), s->state->queued.refused[v]);
    for (unsigned r = OVERLOAD_REQUESTS; r < OVERLOAD_REASONS; r++)
        labelled_u64(l, overload_reason_name((enum overload_reason)r), s->state->overload.refused[r]);
}
static void state_open_requests(struct lines *l, const struct scrape *s)
{
    sample_u64(l, s->state->overload.requests);
}
static void state_buffered(struct lines *l, const struct scrape *s)
{
    sample_u64(l, s->state->overload.bytes);
}

/* The breakers are sorted: those of a provider stand together. */
static size_t provider_end(const struct metrics_state *s, size_t from)
{
    size_t i = from;

    while (i < s->n_breakers && s->breakers[i].provider == s->breakers[from].provider)
        i++;
    return i;
}

static enum breaker_state worst_of(const struct metrics_state *s, size_t from, size_t to)
{
    enum breaker_state worst = BREAKER_CLOSED;

    for (size_t i = from; i < to; i++)
        worst = s->breakers[i].state > worst ? s->breakers[i].state : worst;
    return worst;
}

static struct span breaker_state_label(unsigned state)
{
    static const char *const NAMES[] = {"closed", "half_open", "open"};

    return span_of(NAMES[state]);
}

static void state_breaker_worst(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0, end; i < s->state->n_breakers; i = end) {
        struct span provider = lines_text(l, s->state->breakers[i].provider);

        end = provider_end(s->state, i);
        lines_series(l, &provider);
        lines_number(l, LINES_COUNT, worst_of(s->state, i, end));
    }
}

static void state_breaker_provider(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0, end; i < s->state->n_breakers; i = end) {
        enum breaker_state is;

        end = provider_end(s->state, i);
        is = worst_of(s->state, i, end);
        for (unsigned v = 0; v < BREAKER_STATES; v++) {
            struct span values[] = {lines_text(l, s->state->breakers[i].provider), breaker_state_label(v)};

            lines_series(l, values);
            lines_number(l, LINES_COUNT, v == (unsigned)is);
        }
    }
}

/* One series per state of each breaker. */
static void each_breaker_state(struct lines *l, const struct scrape *s, bool is_transitions)
{
    for (size_t i = 0; i < s->state->n_breakers; i++) {
        const struct breaker_view *b = &s->state->breakers[i];

        for (unsigned v = 0; v < BREAKER_STATES; v++) {
            struct span values[] = {lines_text(l, b->provider), lines_text(l, b->model),
                                    breaker_state_label(v)};

            lines_series(l, values);
            lines_number(l, LINES_COUNT, is_transitions ? b->transitions[v] : v == (unsigned)b->state);
        }
    }
}
static void state_breaker_model(struct lines *l, const struct scrape *s)
{
    each_breaker_state(l, s, false);
}
static void state_breaker_transitions(struct lines *l, const struct scrape *s)
{
    each_breaker_state(l, s, true);
}

static void state_breaker_failures(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < s->state->n_breakers; i++) {
        const struct breaker_view *b = &s->state->breakers[i];
        struct span values[] = {lines_text(l, b->provider), lines_text(l, b->model)};

        lines_series(l, values);
        lines_number(l, LINES_COUNT, b->failures);
    }
}

static void state_breaker_recovery(struct lines *l, const struct scrape *s)
{
    const struct metric_bounds *bounds = metric_bounds(METRIC_BUCKETS_recovery_seconds);

    for (size_t i = 0, end; i < s->state->n_breakers; i = end) {
        struct span provider = lines_text(l, s->state->breakers[i].provider);
        uint64_t n[METRIC_BUCKETS_MAX + 1] = {0}, sum_us = 0, count = 0;

        end = provider_end(s->state, i);
        for (size_t b = i; b < end; b++) {
            sum_us += s->state->breakers[b].recovery_sum_us;
            for (size_t k = 0; k <= bounds->n; k++) {
                n[k] += s->state->breakers[b].recoveries[k];
                count += s->state->breakers[b].recoveries[k];
            }
        }
        if (!count)
            continue;
        lines_series(l, &provider);
        lines_histogram(l, bounds, n, sum_us, NULL);
    }
}

/* A provider of which nothing is known has its series, too: NaN. */
#define STATE_HEALTH(fn, value)                                                                              \
    static void fn(struct lines *l, const struct scrape *s)                                                  \
    {                                                                                                        \
        for (size_t i = 0; s->state->health && i < s->state->health->n; i++) {                               \
            const struct health_row *row = &s->state->health->rows[i];                                       \
            const struct health *h = &row->health;                                                           \
            struct span provider = lines_text(l, row->provider);                                             \
                                                                                                             \
            lines_series(l, &provider);                                                                      \
            lines_double(l, value);                                                                          \
        }                                                                                                    \
    }
STATE_HEALTH(state_availability, h->availability)
STATE_HEALTH(state_error_rate, h->error_rate)
STATE_HEALTH(state_score, h->is_known ? health_rounded(h->score) : (double)NAN)
STATE_HEALTH(state_score_ratio, h->is_known ? health_rounded(h->score) / 100 : (double)NAN)
#undef STATE_HEALTH

static void state_probes(struct lines *l, const struct scrape *s)
{
    static const char *const OUTCOMES[] = {"ok", "failed", "unclear"};

    for (size_t i = 0; i < s->state->n_probes; i++)
        for (unsigned o = 0; o < METRICS_PROBE_OUTCOMES; o++) {
            struct span values[] = {lines_text(l, s->state->probes[i].provider), span_of(OUTCOMES[o])};

            lines_series(l, values);
            lines_number(l, LINES_COUNT, s->state->probes[i].n[o]);
        }
}

static void state_uptime(struct lines *l, const struct scrape *s)
{
    int64_t us = s->state->now.us - s->state->started.us;

    sample_us(l, us > 0 ? (uint64_t)us : 0);
}

static void state_cpu(struct lines *l, const struct scrape *s)
{
    sample_us(l, s->process.cpu_us);
}
static void state_resident(struct lines *l, const struct scrape *s)
{
    sample_u64(l, s->process.resident_bytes);
}
static void state_started(struct lines *l, const struct scrape *s)
{
    sample_us(l, (uint64_t)s->state->started.us);
}
static void state_open_fds(struct lines *l, const struct scrape *s)
{
    sample_u64(l, s->process.open_fds);
}
static void state_max_fds(struct lines *l, const struct scrape *s)
{
    sample_u64(l, s->process.max_fds);
}
static void state_memory_limit(struct lines *l, const struct scrape *s)
{
    sample_u64(l, s->process.memory_limit_bytes);
}

static void state_cpu_limit(struct lines *l, const struct scrape *s)
{
    lines_series(l, NULL);
    lines_double(l, s->process.cpu_cores);
}

static void state_build(struct lines *l, const struct scrape *s)
{
    const char *version = s->state->version ? s->state->version : "";
    const char *revision = s->state->revision ? s->state->revision : "";
    /* Interned for their cleaning: a bad byte would cost the whole scrape. */
    struct span values[] = {lines_text(l, intern_z(version)), lines_text(l, intern_z(revision)),
                            SPAN_LIT("1.41")};

    lines_series(l, values);
    lines_number(l, LINES_COUNT, 1);
}

static void state_reloads(struct lines *l, const struct scrape *s)
{
    labelled_u64(l, "ok", s->state->reloads_ok);
    labelled_u64(l, "failed", s->state->reloads_failed);
}

static void state_config_version(struct lines *l, const struct scrape *s)
{
    sample_u64(l, s->state->config_version);
}
static void state_connections(struct lines *l, const struct scrape *s)
{
    sample_u64(l, s->state->connections);
}
static void state_connections_refused(struct lines *l, const struct scrape *s)
{
    sample_u64(l, s->state->connections_refused);
}
static void state_guard_refusals(struct lines *l, const struct scrape *s)
{
    sample_u64(l, s->state->guard_refusals);
}

/* One series per worker. */
#define STATE_LOOP(name, member, unit)                                                                       \
    static void name(struct lines *l, const struct scrape *s)                                                \
    {                                                                                                        \
        for (size_t w = 0; w < s->state->n_workers && w < ARRAY_LEN(s->state->loops); w++) {                 \
            char text[24];                                                                                   \
            struct span value = span_make(text, (size_t)snprintf(text, sizeof(text), "%zu", w));             \
                                                                                                             \
            lines_series(l, &value);                                                                         \
            lines_number(l, unit, s->state->loops[w].member);                                                \
        }                                                                                                    \
    }
STATE_LOOP(state_loop_turns, turns, LINES_COUNT)
STATE_LOOP(state_loop_empty, empty_turns, LINES_COUNT)
STATE_LOOP(state_loop_busy, busy_us, LINES_US)
STATE_LOOP(state_loop_max, max_turn_us, LINES_US)
#undef STATE_LOOP

static void state_journal_records(struct lines *l, const struct scrape *s)
{
    sample_u64(l, s->state->journal.appended);
}
static void state_journal_bytes(struct lines *l, const struct scrape *s)
{
    sample_u64(l, s->state->journal.bytes);
}
static void state_journal_read(struct lines *l, const struct scrape *s)
{
    sample_u64(l, s->state->journal.read);
}
static void state_journal_used(struct lines *l, const struct scrape *s)
{
    sample_u64(l, s->state->journal.used_bytes);
}
static void state_journal_limit(struct lines *l, const struct scrape *s)
{
    sample_u64(l, s->state->journal.max_bytes);
}
static void state_journal_refusals(struct lines *l, const struct scrape *s)
{
    sample_u64(l, s->state->journal.full_refusals);
}

/* One series per store. */
#define STATE_STORE(fn, unit, value)                                                                         \
    static void fn(struct lines *l, const struct scrape *s)                                                  \
    {                                                                                                        \
        for (size_t i = 0; i < s->state->n_stores && i < METRICS_STORES; i++) {                              \
            const struct metrics_store *store = &s->state->stores[i];                                        \
            struct span label_value = span_of(store->name);                                                  \
                                                                                                             \
            lines_series(l, &label_value);                                                                   \
            lines_number(l, unit, value);                                                                    \
        }                                                                                                    \
    }
STATE_STORE(state_store_lag, LINES_US, store->lag_us > 0 ? (uint64_t)store->lag_us : 0)
STATE_STORE(state_store_up, LINES_COUNT, store->is_up)
STATE_STORE(state_store_batches, LINES_COUNT, store->batches)
STATE_STORE(state_store_records, LINES_COUNT, store->records)
STATE_STORE(state_store_last_records, LINES_COUNT, store->last_records)
STATE_STORE(state_store_errors, LINES_COUNT, store->errors)
STATE_STORE(state_store_duplicates, LINES_COUNT, store->duplicates)
STATE_STORE(state_store_gaps, LINES_COUNT, store->gaps)
#undef STATE_STORE

static void state_book_drift(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < s->state->n_pairs && i < METRICS_PAIRS; i++) {
        struct span value = span_of(s->state->pairs[i].name);

        lines_series(l, &value);
        lines_double(l, s->state->pairs[i].drift);
    }
}

static void state_aggregation_success(struct lines *l, const struct scrape *s)
{
    sample_us(l, (uint64_t)s->state->aggregation.last_success.us);
}
static void state_aggregation_failures(struct lines *l, const struct scrape *s)
{
    sample_u64(l, s->state->aggregation.failures);
}
static void state_aggregation_lag(struct lines *l, const struct scrape *s)
{
    sample_u64(l, s->state->aggregation.lag_hours);
}

static void state_degraded(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < s->state->n_parts && i < METRICS_PARTS; i++)
        labelled_u64(l, s->state->parts[i].name, s->state->parts[i].is_degraded);
}

static void tenant_series(struct lines *l, const struct metrics_tenant *t)
{
    struct span value = lines_text(l, t->tenant);

    lines_series(l, &value);
}

static void state_limited(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < s->state->n_limited; i++) {
        tenant_series(l, &s->state->limited[i]);
        lines_number(l, LINES_COUNT, s->state->limited[i].limited);
    }
}

static void state_limit_types(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < METRICS_LIMIT_TYPES; i++)
        if (s->state->limit_types[i].name)
            labelled_u64(l, s->state->limit_types[i].name, s->state->limit_types[i].hits);
}

static void state_shadow(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < METRICS_LIMIT_TYPES; i++)
        if (s->state->limit_types[i].name)
            labelled_u64(l, s->state->limit_types[i].name, s->state->limit_types[i].shadow_hits);
}

static void put_instant(struct lines *l, struct wall t)
{
    if (t.us == INT64_MAX)
        lines_double(l, (double)INFINITY);
    else
        lines_number(l, LINES_US, (uint64_t)t.us);
}

/* Tenants without a budget have no series. */
#define STATE_BUDGET(fn, has, put)                                                                           \
    static void fn(struct lines *l, const struct scrape *s)                                                  \
    {                                                                                                        \
        for (size_t i = 0; i < s->state->n_limited; i++) {                                                   \
            const struct metrics_tenant *t = &s->state->limited[i];                                          \
                                                                                                             \
            if (!(has))                                                                                      \
                continue;                                                                                    \
            tenant_series(l, t);                                                                             \
            put;                                                                                             \
        }                                                                                                    \
    }
STATE_BUDGET(state_budget_usage, t->limit_nanousd, lines_double(l, t->usage_ratio))
STATE_BUDGET(state_budget_limit, t->limit_nanousd, lines_number(l, LINES_NANOUSD, (uint64_t)t->limit_nanousd))
STATE_BUDGET(state_budget_rejections, t->limit_nanousd || t->over_budget,
             lines_number(l, LINES_COUNT, t->over_budget))
STATE_BUDGET(state_budget_exhaustion, t->limit_nanousd && t->exhausts_at.us, put_instant(l, t->exhausts_at))
#undef STATE_BUDGET

static void state_overshoot(struct lines *l, const struct scrape *s)
{
    lines_series(l, NULL);
    lines_double(l, s->state->overshoot_bound_usd);
}

/* A label of the family itself is folded. */
static bool is_overflow(const struct kind_row *kind, const struct metric_row *row, cells_key key)
{
    for (unsigned i = 0; i < KIND_PARTS; i++)
        for (size_t j = 0; kind->parts[i].form == PART_LABEL && j < row->n_labels; j++)
            if (strcmp(kind->parts[i].name, row->labels[j]) == 0 && cells_part(key, i) == cells_overflow())
                return true;
    return false;
}

/* Observations in cells with a folded label. */
static uint64_t overflow_of(struct snapshot *s, enum metric m)
{
    enum facts_kind kind = projection(m)->kind;
    const struct kind_row *row = kind_row(kind);
    const struct snapshot_kind *k = snapshot_kind(s, kind);
    uint64_t n = 0;

    for (size_t i = 0; i < k->n; i++)
        if (is_overflow(row, metric_row(m), k->keys[i]))
            for (unsigned w = 0; w < row->observed_n; w++)
                n += snapshot_words(k, i)[row->observed_word + w];
    return n;
}

/* Of the families that are made of what limits say: what was counted for tenants that share a series, and the gauges that they
 * do not have. */
static void overflow_of_limits(struct lines *l, const struct scrape *s)
{
    struct metrics_tenant rest = {0};

    for (size_t i = 0; i < s->state->n_limited; i++)
        if (s->state->limited[i].n_folded)
            rest = s->state->limited[i];
    labelled_u64(l, "aigateway_rate_limit_hits_total", rest.limited);
    labelled_u64(l, "aigateway_budget_rejections_total", rest.over_budget);
    labelled_u64(l, "aigateway_budget_usage_ratio", rest.n_folded);
}

static void state_overflow(struct lines *l, const struct scrape *s)
{
    for (int m = 0; m < METRIC_COUNT; m++)
        if (projection((enum metric)m)->measure != MEASURE_STATE &&
            metric_is_shown(metric_row((enum metric)m), s->state->profiles))
            labelled_u64(l, metric_row((enum metric)m)->name, overflow_of(s->snapshot, (enum metric)m));
    overflow_of_limits(l, s);
}

/* ---- the table ---- */

#define COUNT(k)                   .kind = KIND_##k, .measure = MEASURE_WORDS
#define WORDS_OF(k, words, member) COUNT(k), .word = WORD(words, member)
#define CHILDREN(n, name)          .n_children = (n), .child_name = (name)
#define HISTOGRAM(k, words, member)                                                                          \
    .kind = KIND_##k, .measure = MEASURE_HISTOGRAM, .word = WORD(words, member)
#define EXEMPLARS(cell, member) .exemplars_offset = offsetof(struct cell, member)
#define WINDOW(k, fn)           .kind = KIND_##k, .measure = MEASURE_WINDOW, .window = (fn)
#define STATE(fn)               .measure = MEASURE_STATE, .state = (fn)

static const struct projection PROJECTIONS[METRIC_COUNT] = {
    [METRIC_http_requests_total] = {COUNT(HTTP)},
    [METRIC_http_request_duration_seconds] = {HISTOGRAM(ROUTE, route_words, times),
                                              EXEMPLARS(route_cell, exemplars)},
    [METRIC_http_response_size_bytes] = {HISTOGRAM(ROUTE, route_words, size)},
    [METRIC_http_request_errors_total] = {COUNT(HTTP), .from_status = 500},
    [METRIC_http_response_status_total] = {COUNT(HTTP)},
    [METRIC_http_request_latency_avg_seconds] = {WINDOW(ENDPOINT, window_avg)},
    [METRIC_http_request_latency_p50_seconds] = {WINDOW(ENDPOINT, window_p50)},
    [METRIC_http_request_latency_p95_seconds] = {WINDOW(ENDPOINT, window_p95)},
    [METRIC_http_request_latency_p99_seconds] = {WINDOW(ENDPOINT, window_p99)},
    [METRIC_model_inference_requests_total] = {WORDS_OF(ATTEMPT, attempt_words, status),
                                               CHILDREN(STATUS_REJECTED, status_child)},
    [METRIC_model_inference_duration_seconds] = {HISTOGRAM(ATTEMPT, attempt_words, times),
                                                 EXEMPLARS(attempt_cell, exemplars)},
    [METRIC_model_requests_total] = {WORDS_OF(ATTEMPT, attempt_words, status),
                                     CHILDREN(STATUS_REJECTED, status_child)},
    [METRIC_model_errors_total] = {WORDS_OF(ATTEMPT, attempt_words, status[STATUS_ERROR])},
    [METRIC_model_error_rate] = {WINDOW(MODEL, window_error_rate)},
    [METRIC_model_latency_avg_seconds] = {WINDOW(MODEL, window_avg)},
    [METRIC_provider_requests_total] = {WORDS_OF(ATTEMPT, attempt_words, status),
                                        .n_children = STATUS_REJECTED},
    [METRIC_provider_errors_total] = {WORDS_OF(ATTEMPT, attempt_words, status[STATUS_ERROR])},
    [METRIC_provider_latency_avg_seconds] = {WINDOW(PROVIDER, window_avg)},
    [METRIC_provider_latency_min_seconds] = {WINDOW(PROVIDER, window_min)},
    [METRIC_provider_latency_max_seconds] = {WINDOW(PROVIDER, window_max)},
    [METRIC_provider_latency_p95_seconds] = {WINDOW(PROVIDER, window_p95)},
    [METRIC_tokens_used_total] = {WORDS_OF(ATTEMPT, attempt_words, tokens),
                                  CHILDREN(TOKEN_TYPE_COUNT, token_child)},
    [METRIC_model_tokens_total] = {WORDS_OF(ATTEMPT, attempt_words, tokens),
                                   CHILDREN(TOKEN_TYPE_COUNT, token_child)},
    [METRIC_aigateway_tokens_total] = {WORDS_OF(USAGE, usage_words, tokens),
                                       CHILDREN(TOKEN_TYPE_COUNT, token_child)},
    [METRIC_aigateway_tokens_subset_total] = {WORDS_OF(ATTEMPT, attempt_words, subset),
                                              CHILDREN(SUBSET_COUNT, subset_child)},
    [METRIC_credits_used_total] = {WORDS_OF(ATTEMPT, attempt_words, cost_nanousd), .unit = LINES_NANOUSD},
    [METRIC_model_cost_usd_total] = {WORDS_OF(ATTEMPT, attempt_words, cost_nanousd), .unit = LINES_NANOUSD},
    [METRIC_aigateway_cost_usd_total] = {WORDS_OF(USAGE, usage_words, cost_nanousd), .unit = LINES_NANOUSD},
    [METRIC_gatewayz_cost_by_provider] = {WORDS_OF(ATTEMPT, attempt_words, cost_nanousd),
                                          .unit = LINES_NANOUSD},
    [METRIC_gatewayd_unpriced_attempts_total] = {WORDS_OF(ATTEMPT, attempt_words, unpriced)},
    [METRIC_aigateway_provider_errors_total] = {COUNT(ATTEMPT_ERROR)},
    [METRIC_aigateway_time_to_first_token_seconds] = {HISTOGRAM(ATTEMPT, attempt_words, ttft),
                                                      EXEMPLARS(attempt_cell, ttft_exemplars)},
    [METRIC_aigateway_time_per_output_token_seconds] = {HISTOGRAM(ATTEMPT, attempt_words, tpot)},
    [METRIC_aigateway_streams_total] = {COUNT(STREAM)},
    [METRIC_aigateway_retries_total] = {COUNT(RETRY)},
    [METRIC_aigateway_failovers_total] = {COUNT(FAILOVER)},
    [METRIC_gen_ai_client_operation_duration_seconds] = {HISTOGRAM(GENAI_CALL, genai_words, times)},
    [METRIC_gen_ai_client_token_usage] = {HISTOGRAM(GENAI_TOKENS, genai_token_words, tokens)},
    [METRIC_gen_ai_server_time_to_first_token_seconds] = {HISTOGRAM(GENAI_STREAM, genai_stream_words, ttft)},
    [METRIC_gen_ai_server_time_per_output_token_seconds] = {HISTOGRAM(GENAI_STREAM, genai_stream_words,
                                                                      tpot)},
    [METRIC_gen_ai_server_request_duration_seconds] = {HISTOGRAM(GENAI_REQUEST, genai_words, times)},
    [METRIC_aigateway_requests_total] = {COUNT(REQUEST)},
    [METRIC_aigateway_request_duration_seconds] = {HISTOGRAM(REQUEST_TIME, request_time_words, times),
                                                   EXEMPLARS(request_time_cell, exemplars)},
    [METRIC_aigateway_model_selections_total] = {COUNT(SELECTION)},
    [METRIC_aigateway_active_streams] = {STATE(state_active_streams)},
    [METRIC_task_duration_seconds] = {HISTOGRAM(TASK, task_words, times)},
    [METRIC_task_queue_depth] = {STATE(state_task_depth)},
    [METRIC_gatewayd_queue_depth] = {STATE(state_queue_depth)},
    [METRIC_gatewayd_queue_refusals_total] = {STATE(state_queue_refusals)},
    [METRIC_gatewayd_provider_in_flight] = {STATE(state_in_flight)},
    [METRIC_gatewayd_provider_slots] = {STATE(state_slots)},
    [METRIC_gatewayd_open_requests] = {STATE(state_open_requests)},
    [METRIC_gatewayd_buffered_bytes] = {STATE(state_buffered)},
    [METRIC_aigateway_circuit_breaker_state] = {STATE(state_breaker_worst)},
    [METRIC_gatewayz_circuit_breaker_state] = {STATE(state_breaker_provider)},
    [METRIC_circuit_breaker_state] = {STATE(state_breaker_model)},
    [METRIC_circuit_breaker_failure_count] = {STATE(state_breaker_failures)},
    [METRIC_aigateway_circuit_breaker_transitions_total] = {STATE(state_breaker_transitions)},
    [METRIC_aigateway_circuit_breaker_recovery_seconds] = {STATE(state_breaker_recovery)},
    [METRIC_provider_availability] = {STATE(state_availability)},
    [METRIC_provider_error_rate] = {STATE(state_error_rate)},
    [METRIC_provider_health_score] = {STATE(state_score)},
    [METRIC_gatewayz_provider_health_score] = {STATE(state_score_ratio)},
    [METRIC_gatewayd_provider_probes_total] = {STATE(state_probes)},
    [METRIC_aigateway_anomaly_active] = {STATE(state_anomalies)},
    [METRIC_gatewayz_uptime_seconds] = {STATE(state_uptime)},
    [METRIC_process_cpu_seconds_total] = {STATE(state_cpu)},
    [METRIC_process_resident_memory_bytes] = {STATE(state_resident)},
    [METRIC_process_start_time_seconds] = {STATE(state_started)},
    [METRIC_process_open_fds] = {STATE(state_open_fds)},
    [METRIC_process_max_fds] = {STATE(state_max_fds)},
    [METRIC_aigateway_memory_limit_bytes] = {STATE(state_memory_limit)},
    [METRIC_aigateway_cpu_limit_cores] = {STATE(state_cpu_limit)},
    [METRIC_aigateway_build_info] = {STATE(state_build)},
    [METRIC_gatewayd_config_reloads_total] = {STATE(state_reloads)},
    [METRIC_gatewayd_config_version] = {STATE(state_config_version)},
    [METRIC_gatewayd_connections] = {STATE(state_connections)},
    [METRIC_gatewayd_connections_refused_total] = {STATE(state_connections_refused)},
    [METRIC_gatewayd_guard_refusals_total] = {STATE(state_guard_refusals)},
    [METRIC_gatewayd_loop_turns_total] = {STATE(state_loop_turns)},
    [METRIC_gatewayd_loop_empty_turns_total] = {STATE(state_loop_empty)},
    [METRIC_gatewayd_loop_busy_seconds_total] = {STATE(state_loop_busy)},
    [METRIC_gatewayd_loop_turn_max_seconds] = {STATE(state_loop_max)},
    [METRIC_gatewayd_journal_records_total] = {STATE(state_journal_records)},
    [METRIC_gatewayd_journal_written_bytes_total] = {STATE(state_journal_bytes)},
    [METRIC_gatewayd_journal_read_records_total] = {STATE(state_journal_read)},
    [METRIC_gatewayd_journal_used_bytes] = {STATE(state_journal_used)},
    [METRIC_gatewayd_journal_limit_bytes] = {STATE(state_journal_limit)},
    [METRIC_gatewayd_journal_refusals_total] = {STATE(state_journal_refusals)},
    [METRIC_gatewayd_store_lag_seconds] = {STATE(state_store_lag)},
    [METRIC_gatewayd_store_up] = {STATE(state_store_up)},
    [METRIC_gatewayd_store_batches_total] = {STATE(state_store_batches)},
    [METRIC_gatewayd_store_records_total] = {STATE(state_store_records)},
    [METRIC_gatewayd_store_batch_records] = {STATE(state_store_last_records)},
    [METRIC_gatewayd_store_errors_total] = {STATE(state_store_errors)},
    [METRIC_gatewayd_store_duplicates_total] = {STATE(state_store_duplicates)},
    [METRIC_gatewayd_store_gaps_total] = {STATE(state_store_gaps)},
    [METRIC_gatewayd_book_drift] = {STATE(state_book_drift)},
    [METRIC_gatewayd_aggregation_last_success_timestamp_seconds] = {STATE(state_aggregation_success)},
    [METRIC_gatewayd_aggregation_failures_total] = {STATE(state_aggregation_failures)},
    [METRIC_gatewayd_aggregation_backlog] = {STATE(state_aggregation_lag)},
    [METRIC_gatewayd_degraded] = {STATE(state_degraded)},
    [METRIC_aigateway_rate_limit_hits_total] = {STATE(state_limited)},
    [METRIC_rate_limit_hits_total] = {STATE(state_limit_types)},
    [METRIC_gatewayd_rate_limit_shadow_hits_total] = {STATE(state_shadow)},
    [METRIC_aigateway_budget_usage_ratio] = {STATE(state_budget_usage)},
    [METRIC_aigateway_budget_limit_usd] = {STATE(state_budget_limit)},
    [METRIC_aigateway_budget_rejections_total] = {STATE(state_budget_rejections)},
    [METRIC_gatewayd_budget_exhaustion_timestamp_seconds] = {STATE(state_budget_exhaustion)},
    [METRIC_gatewayd_budget_overshoot_bound_usd] = {STATE(state_overshoot)},
    [METRIC_aigateway_telemetry_exported_total] = {STATE(state_exported)},
    [METRIC_aigateway_telemetry_dropped_total] = {STATE(state_dropped)},
    [METRIC_aigateway_telemetry_queue_length] = {STATE(state_queued)},
    [METRIC_aigateway_telemetry_last_success_timestamp_seconds] = {STATE(state_delivered)},
    [METRIC_database_query_total] = {STATE(state_db_queries)},
    [METRIC_database_query_duration_seconds] = {STATE(state_db_times)},
    [METRIC_db_queries_total] = {STATE(state_db_total)},
    [METRIC_db_query_latency_avg_seconds] = {STATE(state_db_latency)},
    [METRIC_active_database_connections] = {STATE(state_db_active)},
    [METRIC_database_connections_max] = {STATE(state_db_max)},
    [METRIC_redis_operations_total] = {STATE(state_redis_operations)},
    [METRIC_redis_operation_duration_seconds] = {STATE(state_redis_times)},
    [METRIC_redis_connection_failures_total] = {STATE(state_redis_unreachable)},
    [METRIC_external_api_calls_total] = {STATE(state_external_calls)},
    [METRIC_external_api_errors_total] = {STATE(state_external_errors)},
    [METRIC_trial_signups_total] = {STATE(state_trials)},
    [METRIC_trial_conversions_total] = {STATE(state_conversions)},
    [METRIC_active_subscriptions_total] = {STATE(state_subscriptions)},
    [METRIC_aigateway_metric_overflow_total] = {STATE(state_overflow)},
};

const struct projection *projection(enum metric m)
{
    return &PROJECTIONS[m];
}
