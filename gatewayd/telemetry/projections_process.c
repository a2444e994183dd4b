/* SPDX-License-Identifier: Apache-2.0 */
/* The process itself: what it uses, its workers, its journal, and how far the stores and the books have come. Api thread. */
#include <stdio.h>

#include "gatewayd/telemetry/projections_priv.h"

void state_uptime(struct lines *l, const struct scrape *s)
{
    int64_t us = s->state->now.us - s->state->started.us;

    sample_us(l, us > 0 ? (uint64_t)us : 0);
}

STATE_ONE(state_cpu, sample_us, s->process.cpu_us)
STATE_ONE(state_resident, sample_u64, s->process.resident_bytes)
STATE_ONE(state_started, sample_us, (uint64_t)s->state->started.us)
STATE_ONE(state_open_fds, sample_u64, s->process.open_fds)
STATE_ONE(state_max_fds, sample_u64, s->process.max_fds)
STATE_ONE(state_memory_limit, sample_u64, s->process.memory_limit_bytes)

void state_cpu_limit(struct lines *l, const struct scrape *s)
{
    lines_series(l, NULL);
    lines_double(l, s->process.cpu_cores);
}

void state_build(struct lines *l, const struct scrape *s)
{
    const char *version = s->state->version ? s->state->version : "";
    const char *revision = s->state->revision ? s->state->revision : "";
    /* Interned for their cleaning: a bad byte would cost the whole scrape. */
    struct span values[] = {lines_text(l, intern_z(version)), lines_text(l, intern_z(revision)),
                            SPAN_LIT("1.41")};

    lines_series(l, values);
    lines_number(l, LINES_COUNT, 1);
}

void state_reloads(struct lines *l, const struct scrape *s)
{
    labelled_u64(l, "ok", s->state->reloads_ok);
    labelled_u64(l, "failed", s->state->reloads_failed);
}

STATE_ONE(state_config_version, sample_u64, s->state->config_version)
STATE_ONE(state_connections, sample_u64, s->state->connections)
STATE_ONE(state_connections_refused, sample_u64, s->state->connections_refused)
STATE_ONE(state_guard_refusals, sample_u64, s->state->guard_refusals)

/* One series per worker. */
#define STATE_LOOP(name, member, unit)                                                                       \
    void name(struct lines *l, const struct scrape *s)                                                       \
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

STATE_ONE(state_journal_records, sample_u64, s->state->journal.appended)
STATE_ONE(state_journal_bytes, sample_u64, s->state->journal.bytes)
STATE_ONE(state_journal_read, sample_u64, s->state->journal.read)
STATE_ONE(state_journal_used, sample_u64, s->state->journal.used_bytes)
STATE_ONE(state_journal_limit, sample_u64, s->state->journal.max_bytes)
STATE_ONE(state_journal_refusals, sample_u64, s->state->journal.full_refusals)

/* One series per store. */
#define STATE_STORE(fn, unit, value)                                                                         \
    void fn(struct lines *l, const struct scrape *s)                                                         \
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

void state_book_drift(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < s->state->n_pairs && i < METRICS_PAIRS; i++) {
        struct span value = span_of(s->state->pairs[i].name);

        lines_series(l, &value);
        lines_double(l, s->state->pairs[i].drift);
    }
}

STATE_ONE(state_aggregation_success, sample_us, (uint64_t)s->state->aggregation.last_success.us)
STATE_ONE(state_aggregation_failures, sample_u64, s->state->aggregation.failures)
STATE_ONE(state_aggregation_lag, sample_u64, s->state->aggregation.lag_hours)

void state_degraded(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < s->state->n_parts && i < METRICS_PARTS; i++)
        labelled_u64(l, s->state->parts[i].name, s->state->parts[i].is_degraded);
}
