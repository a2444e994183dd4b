/* SPDX-License-Identifier: Apache-2.0 */
/* The metric families as data: metrics.def and buckets.def expanded. Whoever prints, checks or documents a
 * family reads this table. */
#ifndef CATALOG_METRICS_H
#define CATALOG_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum metric {
#define METRIC(name, type, unit, labels, fact, detail, help) METRIC_##name,
#include "libshared/catalog/metrics.def"
#undef METRIC
    METRIC_COUNT
};

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM, METRIC_INFO };

enum metric_fact {
    FACT_HTTP_REQUEST,
    FACT_INFERENCE_ATTEMPT,
    FACT_INFERENCE_REQUEST,
    FACT_STREAM_STATE,
    FACT_TASK,
    FACT_QUEUE_STATE,
    FACT_BREAKER_STATE,
    FACT_PROVIDER_HEALTH,
    FACT_ANOMALY_STATE,
    FACT_PROCESS_STATE,
    FACT_JOURNAL_STATE,
    FACT_BOOKS_STATE,
    FACT_RATE_DECISION,
    FACT_BUDGET_STATE,
    FACT_DB_OP,
    FACT_POOL_STATE,
    FACT_REDIS_OP,
    FACT_EXTERNAL_CALL,
    FACT_BUSINESS_EVENT,
    FACT_BUSINESS_STATE,
    FACT_PIPELINE_STATE,
    FACT_REGISTRY_STATE,
    METRIC_FACTS
};

enum metric_buckets {
    METRIC_NO_BUCKETS,
#define BUCKETS(name, ...) METRIC_BUCKETS_##name,
#include "libshared/catalog/buckets.def"
#undef BUCKETS
    METRIC_BUCKETS_COUNT
};

/* Who names a family: reference documents; the families beyond them; and those that are off unless they are asked for. */
enum metric_profile {
    PROFILE_000,
    PROFILE_001,
    PROFILE_002,
    PROFILE_003,
    PROFILE_004,
    PROFILE_GATEWAYD,
    PROFILE_OTEL,
    PROFILE_RESPONSE_SIZE,
    PROFILE_COUNT
};

#define METRIC_LABELS_MAX  5
#define METRIC_BUCKETS_MAX 20

struct metric_row {
    const char *name;
    enum metric_type type;
    const char *unit;
    const char *labels[METRIC_LABELS_MAX];
    size_t n_labels;
    enum metric_fact fact;
    enum metric_buckets buckets;
    bool is_zero_init, has_exemplars, is_window;
    bool is_alias;
    enum metric alias_of; /* when is_alias: the family with the same sum */
    unsigned profiles;    /* 1 << profile; one of them is enough to show it */
    const char *help;
};

struct metric_bounds { /* ascending, without +Inf */
    const char *name;
    const int64_t *us; /* or bytes, tokens: */
    bool is_whole;
    size_t n;
};

const struct metric_row *metric_row(enum metric m);
const char *metric_type_name(enum metric_type t);
const struct metric_bounds *metric_bounds(enum metric_buckets b);

/* metrics.profiles: each name adds its profile to `*mask`, with '-' before it takes it away; `all` is whatever is on by
 * default. A list that begins by taking away begins with `all`; of no names is `all`, too. False for an unknown name. */
#define METRIC_PROFILES_DEFAULT ((1u << PROFILE_OTEL) - 1)
bool metric_profiles_add(const char *name, unsigned *mask);
unsigned metric_profiles(const char *const *names, size_t n);
const char *metric_profile_name(enum metric_profile p); /* "reference-003", "gatewayd", "otel" … */
static inline bool metric_is_shown(const struct metric_row *r, unsigned mask)
{
    return (r->profiles & mask) != 0;
}

/* The family itself where the profiles show it, else one that they show and that is the same number with at least its labels
 * and its unit; NULL: none. */
const struct metric_row *metric_shown_as(const struct metric_row *r, unsigned mask);

/* docs/metrics.md */
struct buf;
void metrics_document(struct buf *out);

#endif
