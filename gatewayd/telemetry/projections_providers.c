/* SPDX-License-Identifier: Apache-2.0 */
/* How providers do: what waits for them, their breakers, their health and its probes. Api thread. */
#include <math.h>

#include "gatewayd/telemetry/projections_priv.h"

void state_task_depth(struct lines *l, const struct scrape *s)
{
    char name[3] = "p1";

    for (unsigned p = 1; p <= QUEUE_PRIORITIES; p++, name[1]++)
        labelled_u64(l, name, s->state->queued.depth[p]);
}

/* One series per provider. */
#define STATE_QUEUE(fn, member)                                                                              \
    void fn(struct lines *l, const struct scrape *s)                                                         \
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

void state_queue_refusals(struct lines *l, const struct scrape *s)
{
    for (unsigned v = QUEUE_FULL; v < QUEUE_VERDICTS; v++)
        labelled_u64(l, queue_reason((enum queue_verdict)v), s->state->queued.refused[v]);
    for (unsigned r = OVERLOAD_REQUESTS; r < OVERLOAD_REASONS; r++)
        labelled_u64(l, overload_reason_name((enum overload_reason)r), s->state->overload.refused[r]);
}
STATE_ONE(state_open_requests, sample_u64, s->state->overload.requests)
STATE_ONE(state_buffered, sample_u64, s->state->overload.bytes)

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

void state_breaker_worst(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0, end; i < s->state->n_breakers; i = end) {
        struct span provider = lines_text(l, s->state->breakers[i].provider);

        end = provider_end(s->state, i);
        lines_series(l, &provider);
        lines_number(l, LINES_COUNT, worst_of(s->state, i, end));
    }
}

void state_breaker_provider(struct lines *l, const struct scrape *s)
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
void state_breaker_model(struct lines *l, const struct scrape *s)
{
    each_breaker_state(l, s, false);
}
void state_breaker_transitions(struct lines *l, const struct scrape *s)
{
    each_breaker_state(l, s, true);
}

void state_breaker_failures(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < s->state->n_breakers; i++) {
        const struct breaker_view *b = &s->state->breakers[i];
        struct span values[] = {lines_text(l, b->provider), lines_text(l, b->model)};

        lines_series(l, values);
        lines_number(l, LINES_COUNT, b->failures);
    }
}

void state_breaker_recovery(struct lines *l, const struct scrape *s)
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
    void fn(struct lines *l, const struct scrape *s)                                                         \
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

void state_probes(struct lines *l, const struct scrape *s)
{
    static const char *const OUTCOMES[] = {"ok", "failed", "unclear"};

    for (size_t i = 0; i < s->state->n_probes; i++)
        for (unsigned o = 0; o < METRICS_PROBE_OUTCOMES; o++) {
            struct span values[] = {lines_text(l, s->state->probes[i].provider), span_of(OUTCOMES[o])};

            lines_series(l, values);
            lines_number(l, LINES_COUNT, s->state->probes[i].n[o]);
        }
}
