/* SPDX-License-Identifier: Apache-2.0 */
/* Renders all families of metrics.def whose facts exist. Runs on the api thread, never on a worker. */
#ifndef TELEMETRY_EXPOSITION_H
#define TELEMETRY_EXPOSITION_H

#include "gatewayd/resilience/breaker.h"
#include "gatewayd/resilience/health.h"
#include "gatewayd/resilience/overload.h"
#include "gatewayd/resilience/queue.h"
#include "gatewayd/telemetry/facts.h"
#include "libshared/analytics/sketch.h"
#include "libshared/base/buf.h"
#include "libshared/store/tally.h"

#define METRICS_STORES 4u
#define METRICS_PARTS  8u
#define METRICS_PAIRS  8u

enum exposition_format { EXPOSITION_TEXT_004, EXPOSITION_OPENMETRICS };

struct metrics_store { /* a store writer */
    const char *name;
    uint64_t batches, records, last_records, errors, duplicates, gaps;
    int64_t lag_us;
    bool is_up;
    struct wall down_since; /* while it is not up */
    char error[160];
};
struct metrics_pair { /* of books */
    const char *name;
    double drift; /* NaN: not compared */
};
struct metrics_part {
    const char *name;
    bool is_degraded;
};

struct metrics_tenant { /* what limits say of one */
    label tenant;
    uint64_t n_folded; /* tenants that this row stands for, without gauges; 0: it is one tenant's own */
    uint64_t limited, over_budget;
    int64_t limit_nanousd; /* 0: no budget */
    double usage_ratio;
    struct wall
        exhausts_at; /* when its budget will be spent; 0: not known, INT64_MAX: not before it resets */
};
#define METRICS_LIMIT_TYPES 3u

#define METRICS_PROBE_OUTCOMES 3u
struct metrics_probes { /* of one provider: succeeded, failed, said nothing of it */
    label provider;
    uint64_t n[METRICS_PROBE_OUTCOMES];
};

struct metrics_anomalies { /* of one provider */
    label provider;
    unsigned active; /* 1 << enum anomaly_kind */
};

struct metrics_plan { /* of tenants */
    label plan;
    uint64_t tenants; /* that are enabled */
};

#define METRICS_PIPELINES 6u
struct metrics_pipeline { /* of telemetry */
    const char *name;
    uint64_t exported, dropped, queued;
    struct wall last_success; /* 0: never */
};

struct metrics_label_set { /* zero-initialised series: configured providers and their models */
    label provider, model; /* model 0: only the provider's own series */
};

/* State that is not a fact cell; filled by the caller at scrape time. */
struct metrics_state {
    struct wall started, now;
    const char *version, *revision;
    size_t n_workers;
    struct {
        uint64_t turns, empty_turns, busy_us, max_turn_us;
    } loops[64];
    struct {
        uint64_t appended, bytes, used_bytes, ahead_bytes, max_bytes, full_refusals, read;
        uint64_t log_written, log_dropped;
    } journal;
    struct metrics_store stores[METRICS_STORES];
    size_t n_stores;
    struct metrics_part parts[METRICS_PARTS];
    size_t n_parts;
    struct metrics_pair pairs[METRICS_PAIRS];
    size_t n_pairs;
    struct {
        struct wall last_success; /* 0: never */
        uint64_t failures, lag_hours;
    } aggregation;
    const struct metrics_tenant *limited;
    size_t n_limited;
    struct {
        const char *name;
        uint64_t hits, shadow_hits;
    } limit_types[METRICS_LIMIT_TYPES];
    double overshoot_bound_usd;
    unsigned profiles;         /* of metrics.profiles, 1 << profile */
    struct wall windows_since; /* what came before is not in the windows any more; 0: all is */
    const struct store_tally *tally;
    struct {
        uint64_t signups, conversions;
    } trials;
    const struct metrics_anomalies *anomalies;
    size_t n_anomalies;
    const struct metrics_plan *plans;
    size_t n_plans;
    struct metrics_pipeline pipelines[METRICS_PIPELINES];
    size_t n_pipelines;
    uint64_t reloads_ok, reloads_failed, config_version;
    uint64_t connections, connections_refused, guard_refusals;
    const struct metrics_label_set *targets;
    size_t n_targets;
    const struct breaker_view *breakers; /* by provider and model */
    size_t n_breakers;
    const struct queues_row *queues; /* by provider */
    size_t n_queues;
    struct queues_sums queued;
    struct overload_view overload;
    const struct health_board *health; /* NULL before the first */
    const struct metrics_probes *probes;
    size_t n_probes;
    const label *tenants;
    size_t n_tenants;
};

/* Chooses by the Accept header (RFC 9110 weights; text 0.0.4 when in doubt). */
enum exposition_format exposition_negotiate(struct span accept);
const char *exposition_content_type(enum exposition_format f);
void exposition_render(struct buf *out, enum exposition_format format, struct facts *const *workers,
                       size_t n_workers, const struct metrics_state *state);

/* Sums for the monitoring API, since process start. */
struct facts_sum {
    label provider, model; /* model 0: all of the provider */
    uint64_t attempts, errors;
    uint64_t input_tokens, output_tokens;
    int64_t cost_nanousd;
    uint64_t unpriced; /* attempts whose model has no price */
};
/* Fills at most `cap` rows (one per provider of `state->targets` and any seen), returns their number. */
size_t facts_sum_providers(struct facts *const *workers, size_t n_workers, const struct metrics_state *state,
                           struct facts_sum *out, size_t cap);
/* At most `cap` rows, one per provider and model that was tried, by provider and model name. */
size_t facts_sum_models(struct facts *const *workers, size_t n_workers, struct wall now,
                        struct facts_sum *out, size_t cap);
/* What one provider's attempts of the last `slots` of ten seconds were, for whoever adds up nodes. */
struct facts_provider_window {
    label provider;
    uint64_t attempts, errors;
    struct wall last; /* the latest attempt ever, 0 when never */
    struct sketch sketch;
};
/* At most `cap` rows; the caller releases their sketches. */
size_t facts_provider_windows(struct facts *const *workers, size_t n_workers, struct wall now, unsigned slots,
                              struct facts_provider_window *out, size_t cap);
struct facts_totals {
    uint64_t requests, by_status[STATUS_COUNT];
    uint64_t window_requests;
    int64_t cost_nanousd;
    uint64_t input_tokens, output_tokens;
    uint64_t active_streams;
};
struct facts_totals facts_totals(struct facts *const *workers, size_t n_workers, struct wall now);

#endif
