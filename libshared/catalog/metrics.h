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
    FACT_PROCESS_STATE,
    FACT_JOURNAL_STATE,
    FACT_BOOKS_STATE,
    FACT_RATE_DECISION,
    FACT_BUDGET_STATE,
    FACT_PIPELINE_STATE,
    FACT_REGISTRY_STATE,
    FACT_COUNT
};

enum metric_buckets {
    METRIC_NO_BUCKETS,
#define BUCKETS(name, ...) METRIC_BUCKETS_##name,
#include "libshared/catalog/buckets.def"
#undef BUCKETS
    METRIC_BUCKETS_COUNT
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
    const char *help;
};

struct metric_bounds { /* ascending, without +Inf */
    const char *name;
    const int64_t *us;
    size_t n;
};

const struct metric_row *metric_row(enum metric m);
const char *metric_type_name(enum metric_type t);
const char *metric_fact_name(enum metric_fact f); /* "http_request" … */
const struct metric_bounds *metric_bounds(enum metric_buckets b);

/* docs/metrics.md */
struct buf;
void metrics_document(struct buf *out);

#endif
