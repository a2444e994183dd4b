/* SPDX-License-Identifier: Apache-2.0 */
/* Families that read a struct of the process instead of cells, of the files beside projections.c. */
#ifndef TELEMETRY_PROJECTIONS_PRIV_H
#define TELEMETRY_PROJECTIONS_PRIV_H

#include "gatewayd/telemetry/projections.h"

/* A sample without labels; with one, whose value is our own text. */
void sample_u64(struct lines *l, uint64_t v);
void sample_us(struct lines *l, uint64_t us);
void labelled_u64(struct lines *l, const char *value, uint64_t v);

/* The family `fn` is one sample; `value` may look into `s`, the scrape. */
#define STATE_ONE(fn, put, value)                                                                            \
    void fn(struct lines *l, const struct scrape *s)                                                         \
    {                                                                                                        \
        put(l, value);                                                                                       \
    }

typedef void state_family(struct lines *l, const struct scrape *s);
/* projections_process.c */
state_family state_uptime, state_cpu, state_resident, state_started, state_open_fds, state_max_fds,
    state_memory_limit, state_cpu_limit, state_build, state_reloads, state_config_version, state_connections,
    state_connections_refused, state_guard_refusals, state_loop_turns, state_loop_empty, state_loop_busy,
    state_loop_max, state_journal_records, state_journal_bytes, state_journal_read, state_journal_used,
    state_journal_limit, state_journal_refusals, state_store_lag, state_store_up, state_store_batches,
    state_store_records, state_store_last_records, state_store_errors, state_store_duplicates,
    state_store_gaps, state_book_drift, state_aggregation_success, state_aggregation_failures,
    state_aggregation_lag, state_degraded;
/* projections_providers.c */
state_family state_task_depth, state_queue_depth, state_in_flight, state_slots, state_queue_refusals,
    state_open_requests, state_buffered, state_breaker_worst, state_breaker_provider, state_breaker_model,
    state_breaker_transitions, state_breaker_failures, state_breaker_recovery, state_availability,
    state_error_rate, state_score, state_score_ratio, state_probes;
/* projections_limits.c */
state_family state_limited, state_limit_types, state_shadow, state_budget_usage, state_budget_limit,
    state_budget_rejections, state_budget_exhaustion, state_overshoot;
/* Of the families that are made of what limits say: what was counted for tenants that share a series, and the gauges that
 * they do not have. */
void overflow_of_limits(struct lines *l, const struct scrape *s);
/* projections_store.c */
state_family state_db_queries, state_db_times, state_db_total, state_db_latency, state_db_active,
    state_db_max, state_redis_operations, state_redis_times, state_redis_unreachable;
/* projections_other.c */
state_family state_external_calls, state_external_errors, state_trials, state_conversions,
    state_subscriptions, state_anomalies, state_exported, state_dropped, state_queued, state_delivered;

#endif
