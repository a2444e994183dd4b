/* SPDX-License-Identifier: Apache-2.0 */
/* Spans of ten seconds and what follows from them. Pure, but for memory.
 *
 * A slot holds what is known of its ten seconds and how much of them that covers: rates are sums over covered time, so that a
 * span that nobody read, or of which the end has not come yet, does not look like silence. Percentiles come from merged buckets,
 * never from averages of percentiles. */
#include <math.h>

#include "aigwtop/model/model.h"
#include "libshared/analytics/sketch.h"
#include "libshared/base/span.h"

void entity_init(struct entity *e, const char *provider, const char *model)
{
    *e = (struct entity){.n_slots = *model ? SLOTS_MODEL : SLOTS_PROVIDER};
    (void)span_copy(e->provider, sizeof(e->provider), span_of(provider));
    (void)span_copy(e->model, sizeof(e->model), span_of(model));
    e->slots = calloc(e->n_slots, sizeof(*e->slots));
    e->points = *model ? NULL : calloc(POINTS, sizeof(*e->points));
    if (!e->slots || (!*model && !e->points))
        abort();
    e->last.per_s = e->last.error_rate = e->last.p50_ms = e->last.p95_ms = e->last.p99_ms = NAN;
    e->last.score = e->last.of_success = e->last.of_latency = e->last.of_breakers = NAN;
    entity_compute(e, (struct wall){0});
}

void entity_release(struct entity *e)
{
    for (unsigned i = 0; i < e->n_slots; i++)
        LIST_RELEASE(&e->slots[i].parts);
    free(e->slots);
    free(e->points);
    e->slots = NULL;
    e->points = NULL;
    e->n_slots = 0;
}

static int64_t floor_slot(int64_t us)
{
    return us - us % SLOT_US;
}

static struct slot *slot_at(struct entity *e, int64_t start_us)
{
    struct slot *s = &e->slots[(uint64_t)(start_us / SLOT_US) % e->n_slots];

    if (s->start_us == start_us)
        return s;
    if (s->start_us > start_us)
        return NULL; /* older than what is kept */
    s->start_us = start_us;
    s->span_us = 0;
    memset(s->m, 0, sizeof(s->m));
    s->parts.n = 0;
    return s;
}

/* What was known of these ten seconds is replaced: the store has sums. */
static void put_slice(struct entity *e, struct slice *from)
{
    struct slot *s = from->start_us > 0 ? slot_at(e, floor_slot(from->start_us)) : NULL;

    if (!s)
        return;
    s->span_us = from->span_us < 0 ? 0 : from->span_us > SLOT_US ? SLOT_US : from->span_us;
    memcpy(s->m, from->m, sizeof(s->m));
    s->parts.n = 0;
    for (size_t i = 0; i < from->parts.n; i++)
        *LIST_ADD(&s->parts) = from->parts.v[i];
}

/* Sums since some start: what they grew by belongs to the time between, which may be several slots' time. */
static void put_totals(struct entity *e, const struct sample_row *r, struct wall now)
{
    int64_t since = e->totals_at_us, took = now.us - since;
    bool went_back = r->totals[MEASURE_attempts] < e->totals[MEASURE_attempts]; /* a new process */

    if (since > 0 && took > 0 && took <= 30 * SLOT_US && !went_back) {
        struct slot *s = slot_at(e, floor_slot(now.us - 1));

        for (unsigned i = 0; s && i < MEASURE_COUNT; i++)
            s->m[i] += r->totals[i] > e->totals[i] ? r->totals[i] - e->totals[i] : 0;
        if (s)
            s->span_us += took;
    }
    if (since > 0 && took <= 0)
        return;
    memcpy(e->totals, r->totals, sizeof(e->totals));
    e->totals_at_us = now.us;
}

void entity_absorb(struct entity *e, struct sample_row *r, struct wall now)
{
    for (size_t i = 0; i < r->slices.n; i++)
        put_slice(e, &r->slices.v[i]);
    if (r->has_totals)
        put_totals(e, r, now);
    e->last = *r;
    memset(&e->last.slices, 0, sizeof(e->last.slices));
}

void entity_clear(struct entity *e)
{
    for (unsigned i = 0; i < e->n_slots; i++) {
        e->slots[i].start_us = e->slots[i].span_us = 0;
        e->slots[i].parts.n = 0;
        memset(e->slots[i].m, 0, sizeof(e->slots[i].m));
    }
}

void entity_add(struct entity *e, const struct entity *from)
{
    for (unsigned i = 0; i < from->n_slots; i++) {
        const struct slot *f = &from->slots[i];
        struct slot *s = f->start_us ? slot_at(e, f->start_us) : NULL;

        if (!s)
            continue;
        s->span_us = f->span_us > s->span_us ? f->span_us : s->span_us;
        for (unsigned k = 0; k < MEASURE_COUNT; k++)
            s->m[k] += f->m[k];
        for (size_t k = 0; k < f->parts.n; k++)
            *LIST_ADD(&s->parts) = f->parts.v[k];
    }
}

/* ---- sums over slots ------------------------------------------------------------------------------------------------- */

struct sums {
    int64_t span_us;
    int64_t m[MEASURE_COUNT];
    uint64_t counts[SKETCH_BUCKETS], n;
    unsigned lowest, highest;
};

static void sums_clear(struct sums *s)
{
    memset(s, 0, sizeof(*s));
    s->lowest = SKETCH_BUCKETS;
}

static void sums_add(struct sums *s, const struct slot *slot)
{
    s->span_us += slot->span_us;
    for (unsigned k = 0; k < MEASURE_COUNT; k++)
        s->m[k] += slot->m[k];
    for (size_t k = 0; k < slot->parts.n; k++) {
        unsigned b = slot->parts.v[k].bucket;

        s->counts[b] += slot->parts.v[k].n;
        s->n += slot->parts.v[k].n;
        s->lowest = b < s->lowest ? b : s->lowest;
        s->highest = b > s->highest ? b : s->highest;
    }
}

/* Slots that begin in [from, to). */
static void sums_of(const struct entity *e, int64_t from_us, int64_t to_us, struct sums *s)
{
    for (unsigned i = 0; i < e->n_slots; i++)
        if (e->slots[i].start_us >= from_us && e->slots[i].start_us < to_us && e->slots[i].start_us)
            sums_add(s, &e->slots[i]);
}

static double quantile_ms(const struct sums *s, double q)
{
    uint64_t rank = (uint64_t)ceil(q * (double)s->n), seen = 0;

    if (!s->n)
        return NAN;
    rank = rank ? rank : 1;
    for (unsigned b = s->lowest; b <= s->highest; b++) {
        seen += s->counts[b];
        if (seen >= rank)
            return (double)sketch_bucket_us(b) / 1000;
    }
    return NAN;
}

static double ratio(double part, double whole)
{
    return whole > 0 ? part / whole : NAN;
}

static double or_else(double v, double otherwise)
{
    return isnan(v) ? otherwise : v;
}

static int64_t active_us(const struct entity *e, struct wall now)
{
    int64_t newest = e->last.seen_us;

    for (unsigned i = 0; i < e->n_slots; i++) {
        const struct slot *s = &e->slots[i];
        int64_t end = s->start_us + SLOT_US < now.us ? s->start_us + SLOT_US : now.us;

        if (s->start_us && (s->m[MEASURE_attempts] || s->m[MEASURE_req]) && end > newest && !e->last.seen_us)
            newest = end;
    }
    return newest;
}

static void compute_rates(struct figures *f, const struct sums *s)
{
    double seconds = (double)s->span_us / 1e6;

    f->per_s = ratio((double)s->m[MEASURE_attempts], seconds);
    f->tokens_per_s = ratio((double)(s->m[MEASURE_tin] + s->m[MEASURE_tout]), seconds);
}

static void compute_window(struct figures *f, const struct sums *s)
{
    double attempts = (double)s->m[MEASURE_attempts], cost = (double)s->m[MEASURE_cost_nano] / 1e9;

    f->attempts = s->span_us ? attempts : NAN;
    f->error_rate = ratio((double)s->m[MEASURE_err], attempts);
    f->p50_ms = quantile_ms(s, 0.50);
    f->p90_ms = quantile_ms(s, 0.90);
    f->p95_ms = quantile_ms(s, 0.95);
    f->p99_ms = quantile_ms(s, 0.99);
    f->cost_per_h = ratio(cost * 3600, (double)s->span_us / 1e6);
    f->cost_per_1k = ratio(cost * 1000, attempts);
    f->cached = ratio((double)s->m[MEASURE_tcached], (double)s->m[MEASURE_tin]);
    f->ttfb_ms = ratio((double)s->m[MEASURE_ttfb_us] / 1000, (double)s->m[MEASURE_ttfb_n]);
}

/* Where the source has a figure over the same five minutes, that one is shown: it is what the API and aigwctl say. */
static void prefer_source(struct figures *f, const struct sample_row *r)
{
    f->error_rate = or_else(r->error_rate, f->error_rate);
    f->p50_ms = or_else(r->p50_ms, f->p50_ms);
    f->p95_ms = or_else(r->p95_ms, f->p95_ms);
    f->p99_ms = or_else(r->p99_ms, f->p99_ms);
    f->per_s = or_else(f->per_s, r->per_s); /* ours is of one minute, and follows sooner */
}

static void keep_point(struct entity *e, struct wall now)
{
    int64_t start = floor_slot(now.us) - SLOT_US;
    struct point *p = &e->points[(uint64_t)(start / SLOT_US) % POINTS];
    struct slot *slot = start > 0 ? slot_at(e, start) : NULL;
    struct sums s;

    if (!slot)
        return;
    sums_clear(&s);
    sums_add(&s, slot);
    *p = (struct point){.start_us = start,
                        .per_s = (float)ratio((double)s.m[MEASURE_attempts], (double)s.span_us / 1e6),
                        .p95_ms = (float)quantile_ms(&s, 0.95),
                        .error_rate = (float)ratio((double)s.m[MEASURE_err], (double)s.m[MEASURE_attempts]),
                        .score = (float)e->last.score};
    if (!s.n)
        p->p95_ms = (float)e->last.p95_ms;
}

void entity_compute(struct entity *e, struct wall now)
{
    int64_t slot = floor_slot(now.us);
    struct sums s;

    e->figures = (struct figures){0};
    sums_clear(&s);
    sums_of(e, slot - RATE_SLOTS * SLOT_US, slot + SLOT_US, &s);
    if (!s.span_us) /* a model out of sight is looked at now and then */
        sums_of(e, slot - WINDOW_SLOTS * SLOT_US, slot + SLOT_US, &s);
    compute_rates(&e->figures, &s);
    sums_clear(&s);
    sums_of(e, slot - WINDOW_SLOTS * SLOT_US, slot + SLOT_US, &s);
    compute_window(&e->figures, &s);
    prefer_source(&e->figures, &e->last);
    e->figures.active_us = active_us(e, now);
    if (e->points && now.us)
        keep_point(e, now);
}

/* ---- series ---------------------------------------------------------------------------------------------------------- */

static float of_point(const struct point *p, enum series what)
{
    return what == SERIES_PER_S    ? p->per_s
           : what == SERIES_P95    ? p->p95_ms
           : what == SERIES_ERRORS ? p->error_rate
                                   : p->score;
}

static float of_sums(const struct sums *s, enum series what)
{
    switch (what) {
    case SERIES_PER_S:
        return (float)ratio((double)s->m[MEASURE_attempts], (double)s->span_us / 1e6);
    case SERIES_P95:
        return (float)quantile_ms(s, 0.95);
    case SERIES_ERRORS:
        return (float)ratio((double)s->m[MEASURE_err], (double)s->m[MEASURE_attempts]);
    default:
        return NAN;
    }
}

/* Of what is only known by its points: the highest of latencies and errors, the mean of rates, the lowest score. */
static float merge(enum series what, float so_far, float v, unsigned n)
{
    if (isnan(so_far) || isnan(v))
        return isnan(v) ? so_far : v;
    switch (what) {
    case SERIES_PER_S:
        return so_far + (v - so_far) / (float)(n + 1);
    case SERIES_SCORE:
        return v < so_far ? v : so_far;
    default:
        return v > so_far ? v : so_far;
    }
}

static float of_points(const struct entity *e, enum series what, int64_t from, int64_t to)
{
    float v = NAN;
    unsigned n = 0;

    for (unsigned i = 0; e->points && i < POINTS; i++)
        if (e->points[i].start_us >= from && e->points[i].start_us < to && e->points[i].start_us)
            v = merge(what, v, of_point(&e->points[i], what), n++);
    return v;
}

void entity_series(const struct entity *e, enum series what, struct wall now, int64_t span_us, float *out,
                   unsigned n)
{
    int64_t end = floor_slot(now.us) + SLOT_US;

    for (unsigned i = 0; i < n; i++) {
        int64_t from = floor_slot(end - span_us * (int64_t)(n - i) / (int64_t)n),
                to = floor_slot(end - span_us * (int64_t)(n - 1 - i) / (int64_t)n);
        struct sums s;

        to = to > from ? to : from + SLOT_US; /* finer than what there is */
        sums_clear(&s);
        if (what != SERIES_SCORE && from >= end - (int64_t)e->n_slots * SLOT_US)
            sums_of(e, from, to, &s);
        out[i] = s.span_us ? of_sums(&s, what) : NAN;
        if (isnan(out[i]))
            out[i] = of_points(e, what, from, to);
    }
}
