/* SPDX-License-Identifier: Apache-2.0 */
/* Families that read a struct of the process instead of cells, of the files beside projections.c. */
#ifndef TELEMETRY_PROJECTIONS_PRIV_H
#define TELEMETRY_PROJECTIONS_PRIV_H

#include "gatewayd/telemetry/projections.h"

/* A sample without labels; with one, whose value is our own text. */
void sample_u64(struct lines *l, uint64_t v);
void labelled_u64(struct lines *l, const char *value, uint64_t v);

typedef void state_family(struct lines *l, const struct scrape *s);
/* projections_store.c */
state_family state_db_queries, state_db_times, state_db_total, state_db_latency, state_db_active,
    state_db_max, state_redis_operations, state_redis_times, state_redis_unreachable;
/* projections_other.c */
state_family state_external_calls, state_external_errors, state_trials, state_conversions,
    state_subscriptions, state_anomalies, state_exported, state_dropped, state_queued, state_delivered;

#endif
