/* SPDX-License-Identifier: Apache-2.0 */
/* What is known now, made of samples: spans of ten seconds for each provider and model, what follows from them, and the last lists.
 * One thread. Rates are of the last minute, all else of the last five, as the health score is. */
#ifndef AIGWTOP_MODEL_MODEL_H
#define AIGWTOP_MODEL_MODEL_H

#include "aigwtop/source/sample.h"

#define SLOT_US        INT64_C(10000000)
#define RATE_SLOTS     6
#define WINDOW_SLOTS   30
#define SLOTS_PROVIDER 92u
#define SLOTS_MODEL    33u
#define POINTS         720u /* two hours of ten seconds; providers only */
#define SILENT_US      INT64_C(30000000)

struct slot { /* ten seconds, at its own place in a ring */
    int64_t start_us, span_us;
    int64_t m[MEASURE_COUNT];
    LIST(struct part) parts;
};

struct point { /* what a slot came to; NaN: unknown */
    int64_t start_us;
    float per_s, p95_ms, error_rate, score;
};

struct figures { /* NaN: unknown */
    double per_s, error_rate, p50_ms, p90_ms, p95_ms, p99_ms, cost_per_h, tokens_per_s, cost_per_1k, cached,
        ttfb_ms;
    double attempts;   /* in the window */
    int64_t active_us; /* when it was last heard of; 0 */
};

struct entity {
    char provider[TOP_NAME], model[TOP_NAME];
    struct slot *slots;
    unsigned n_slots;
    struct point *points;   /* ring by time; NULL for models */
    struct sample_row last; /* without its slices */
    int64_t totals_at_us;   /* 0: none yet */
    int64_t totals[MEASURE_COUNT];
    struct figures figures; /* of the last sample */
    uint64_t seen;          /* in which sample it last came */
};

struct model {
    LIST(struct entity *) entities; /* by provider and model */
    struct entity all;              /* the sum of all providers */
    struct sample head;             /* the last sample without its lists; state, texts */
    struct sample *lists;           /* the newest of each list */
    uint64_t n_samples;
    bool has_live;        /* any sample ever answered */
    struct mono at;       /* when the last sample was taken in */
    struct mono live_at;  /* and the last that answered */
    struct wall live_now; /* the source's clock then */
    struct mono began;
    int64_t requests_at_us, requests; /* the gateway's own count, before */
    double gateway_per_s;             /* NaN */
};

struct model *model_new(struct mono now);
void model_free(struct model *m);
/* When a sample is taken in. A recording has the clock of its samples, so that ages are those of then, however fast it is played. */
static inline struct mono sample_moment(const struct sample *s, bool is_recording)
{
    return is_recording ? (struct mono){s->now.us} : mono_now();
}
/* Takes the sample in; it is freed. */
void model_absorb(struct model *m, struct sample *s, struct mono now);
/* Another source: nothing that was known holds. */
void model_clear(struct model *m, struct mono now);
struct entity *model_find(const struct model *m, const char *provider, const char *model);
/* The source's clock, going on where the last answer left it. */
struct wall model_now(const struct model *m, struct mono now);

enum freshness {
    FRESH_WAITING, /* nothing came yet */
    FRESH_LIVE,
    FRESH_SLOW,      /* more than three ticks late */
    FRESH_STALE,     /* no connection */
    FRESH_AUTH,      /* refused */
    FRESH_NO_WRITER, /* the store answers, and no gateway writes */
    FRESH_EMPTY      /* none ever did */
};
struct fresh {
    enum freshness kind;
    int64_t age_us; /* of what is shown, or since nobody writes */
    int64_t retry_us;
};
struct fresh model_fresh(const struct model *m, struct mono now, int64_t interval_ms);
/* What is shown is old, so that rates and money per hour are unknown. */
static inline bool fresh_is_stale(enum freshness f)
{
    return f == FRESH_STALE || f == FRESH_AUTH || f == FRESH_NO_WRITER;
}

/* ---- series.c ---- */

void entity_init(struct entity *e, const char *provider, const char *model);
void entity_release(struct entity *e);
void entity_absorb(struct entity *e, struct sample_row *r, struct wall now);
/* Adds what `from` has in its slots. */
void entity_add(struct entity *e, const struct entity *from);
void entity_clear(struct entity *e);
void entity_compute(struct entity *e, struct wall now);
enum series { SERIES_PER_S, SERIES_P95, SERIES_ERRORS, SERIES_SCORE };
/* `n` values of the last `span_us` up to now, oldest first; NaN where nothing is known. */
void entity_series(const struct entity *e, enum series what, struct wall now, int64_t span_us, float *out,
                   unsigned n);

#endif
