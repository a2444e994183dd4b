/* SPDX-License-Identifier: Apache-2.0 */
/* What happened from one hour to another, by provider and model: closed hours from the hourly rows, the last ones from the
 * realtime store, and from the ledger what neither has. Each hour comes from one of them, so nothing counts twice. */
#ifndef ANALYTICS_HOURLY_H
#define ANALYTICS_HOURLY_H

#include "libshared/analytics/sketch.h"
#include "libshared/store/db.h"
#include "libshared/store/kv.h"
#include "libshared/store/measures.h"

#define HOURLY_STEPS_MAX 4096u

struct hour_rows;

struct hourly_source {
    struct db *db;
    struct kv *kv; /* NULL: none at hand */
    struct wall now;
    int64_t retention_us; /* of the realtime store's hours */
};

struct hourly_ask {
    int64_t from, to; /* seconds, whole hours; `to` is not in it */
    int64_t step_s;   /* of what is added up: an hour, a day, … ; 0: all together */
    bool has_sketches;
    const char *provider, *model; /* NULL: all */
};

struct hourly {
    int64_t from, to, step_s;
    struct hour_rows *steps; /* the first one begins at `from` */
    size_t n;
    size_t hours_read; /* from one store or another, those without traffic included */
    bool is_partial;   /* something could not be read: */
    char missing[200]; /* what */
};

/* What can be read is read; ERR_NO_MEMORY, or the history store's failure when nothing else was asked for. */
NODISCARD enum err_code hourly_read(const struct hourly_source *s, const struct hourly_ask *ask,
                                    struct hourly *out, struct err *err);
void hourly_release(struct hourly *h);

/* ---- adding up ----------------------------------------------------------------------------------------------------- */

enum hourly_by { HOURLY_ALL, HOURLY_PROVIDER, HOURLY_MODEL };

struct hourly_sum {
    const char *provider, *model; /* borrowed from the hours; "" where they are added up */
    struct measures m;
    struct sketch sketch;
    unsigned models; /* that have attempts */
};
struct hourly_sums {
    struct hourly_sum *v; /* by provider and model */
    size_t n;
};

/* Steps from `first` to `last`, which is not in it, as one row each. */
NODISCARD enum err_code hourly_sum(const struct hourly *h, enum hourly_by by, size_t first, size_t last,
                                   struct hourly_sums *out);
void hourly_sums_release(struct hourly_sums *s);

/* ---- figures; NaN where there is nothing to tell by ----------------------------------------------------------------- */

double measures_ratio(int64_t part, int64_t whole);
static inline double measures_error_rate(const struct measures *m)
{
    return measures_ratio(m->v[MEASURE_err], m->v[MEASURE_attempts]);
}
static inline double measures_success_rate(const struct measures *m)
{
    return measures_ratio(m->v[MEASURE_ok], m->v[MEASURE_attempts]);
}
static inline int64_t measures_tokens(const struct measures *m)
{
    return m->v[MEASURE_tin] + m->v[MEASURE_tout];
}
static inline double measures_latency_ms(const struct measures *m)
{
    return measures_ratio(m->v[MEASURE_lat_us], m->v[MEASURE_attempts]) / 1000;
}

/* Least squares over values one step apart; NaN are passed over. */
struct trend {
    double per_step; /* NaN: fewer than 3 values */
    double change;   /* of the line, from its first to its last value, as a ratio of its mean; NaN likewise */
    const char *direction; /* "rising" "falling" "steady" "unknown" */
};
struct trend trend_of(const double *v, size_t n);

#endif
