/* SPDX-License-Identifier: Apache-2.0 */
/* Pure. Medians, since the mean and the deviation are inflated by the very hour that should be found. The invariant: what is said
 * of an hour depends on that hour and on those before it only. Tricky: a figure's values are clipped in a copy as the walk goes
 * on, so that an outage of one day does not hide that of the next. */
#include "libshared/analytics/anomaly.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAD_SCALE   1.4826
#define SAMPLES_MAX 24u
#define DROP        0.2
#define DROP_MIN    50.0
#define LAMBDA      0.2
#define DRIFT_HOURS 24u
#define DRIFT_LIMIT 1.0 /* 3 times sqrt(LAMBDA / (2 - LAMBDA)), in scales */

static const struct {
    enum anomaly_kind kind;
    double floor; /* smaller differences are none */
    double ratio; /* value over expected, from which on it is told */
    double least; /* value below which it is not */
    double critical_ratio, critical_least;
    bool scales; /* with the part of the hour that is over */
} FIGURES[ANOMALY_FIGURES] = {
    [FIGURE_COST] = {ANOMALY_COST_SPIKE, 0.05, 2, 0, 5, 0, true},
    [FIGURE_TOKENS] = {ANOMALY_TOKEN_SPIKE, 10000, 2, 0, 5, 0, true},
    [FIGURE_LATENCY] = {ANOMALY_LATENCY_SPIKE, 50, 2, 0, 4, 0, false},
    [FIGURE_ERRORS] = {ANOMALY_ERROR_SPIKE, 0.005, 5, 0.02, 5, 0.05, false},
    [FIGURE_TRAFFIC] = {ANOMALY_TRAFFIC_SPIKE, 10, 3, 0, 5, 0, true},
};

static const struct {
    const char *name, *unit;
} KINDS[ANOMALY_KINDS] = {
    [ANOMALY_COST_SPIKE] = {"cost_spike", "usd"},
    [ANOMALY_TOKEN_SPIKE] = {"token_spike", "tokens"},
    [ANOMALY_LATENCY_SPIKE] = {"latency_spike", "ms"},
    [ANOMALY_ERROR_SPIKE] = {"error_spike", "ratio"},
    [ANOMALY_TRAFFIC_SPIKE] = {"traffic_spike", "attempts"},
    [ANOMALY_TRAFFIC_DROP] = {"traffic_drop", "attempts"},
    [ANOMALY_LATENCY_DRIFT] = {"latency_drift", "ms"},
};

const char *anomaly_kind_name(enum anomaly_kind k)
{
    return KINDS[k].name;
}

const char *anomaly_unit(enum anomaly_kind k)
{
    return KINDS[k].unit;
}

const char *anomaly_method_name(enum anomaly_method m)
{
    static const char *const NAMES[ANOMALY_METHODS] = {"hour_of_week", "hour_of_day", "last_24h", "ewma"};

    return NAMES[m];
}

/* ---- baselines ----------------------------------------------------------------------------------------------------- */

struct baseline {
    double expected, scale;
    enum anomaly_method method;
    unsigned n;
};

struct walk {
    const struct anomaly_input *in;
    double *v[ANOMALY_FIGURES]; /* clipped as the walk goes on; NaN: unknown */
    bool *spiked;               /* hours with a latency_spike, which are no drift as well */
    double *residual;           /* of latency, in scales; NaN: not judged */
    anomaly_fn fn;
    void *user;
};

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static double median(double *v, unsigned n)
{
    qsort(v, n, sizeof(*v), by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Values `step`, 2 `step` … `steps` * `step` hours before `at`. */
static unsigned sample(const double *v, size_t at, size_t step, unsigned steps, double *out)
{
    unsigned n = 0;

    for (unsigned i = 1; i <= steps && at >= i * step; i++)
        if (!isnan(v[at - i * step]))
            out[n++] = v[at - i * step];
    return n;
}

static bool find_baseline(const struct walk *w, enum anomaly_figure f, size_t at, struct baseline *out)
{
    static const struct {
        size_t step;
        unsigned steps, least;
    } SETS[] = {[ANOMALY_WEEKLY] = {ANOMALY_WEEK_HOURS, 4, 3},
                [ANOMALY_DAILY] = {24, 7, 4},
                [ANOMALY_RECENT] = {1, SAMPLES_MAX, 6}};
    double v[SAMPLES_MAX], floor = FIGURES[f].floor;

    for (unsigned m = 0; m < sizeof(SETS) / sizeof(*SETS); m++) {
        unsigned n = sample(w->v[f], at, SETS[m].step, SETS[m].steps, v);

        if (n < SETS[m].least)
            continue;
        out->method = (enum anomaly_method)m;
        out->n = n;
        out->expected = median(v, n);
        for (unsigned i = 0; i < n; i++)
            v[i] = fabs(v[i] - out->expected);
        out->scale = fmax(MAD_SCALE * median(v, n), fmax(0.05 * fabs(out->expected), floor));
        return true;
    }
    return false;
}

/* ---- verdicts ------------------------------------------------------------------------------------------------------ */

static double attempts_of(const struct walk *w, size_t at)
{
    const struct anomaly_hour *h = &w->in->hours[at];

    return h->is_known ? h->v[FIGURE_TRAFFIC] : NAN;
}

static double part_of(const struct walk *w, size_t at)
{
    return at + 1 == w->in->n ? w->in->running : 1;
}

static void tell(const struct walk *w, struct anomaly *a, const struct baseline *b)
{
    a->is_running = part_of(w, a->at) < 1;
    a->expected = b->expected;
    a->scale = b->scale;
    a->score = (a->value - b->expected) / b->scale;
    a->ratio = b->expected > 0 ? a->value / b->expected : INFINITY;
    a->samples = b->n;
    if (w->fn)
        w->fn(w->user, a);
}

/* True when it was told. */
static bool judge(struct walk *w, enum anomaly_figure f, size_t at, const struct baseline *b)
{
    struct anomaly a = {.kind = FIGURES[f].kind, .at = at, .value = w->v[f][at], .method = b->method};
    double over = a.value - b->expected;
    double ratio = b->expected > 0 ? a.value / b->expected : INFINITY;

    if (!(attempts_of(w, at) >= ANOMALY_MIN_COUNT) || over / b->scale < ANOMALY_SCORE ||
        ratio < FIGURES[f].ratio || over < FIGURES[f].floor || a.value < FIGURES[f].least)
        return false;
    a.is_critical = ratio >= FIGURES[f].critical_ratio && a.value >= FIGURES[f].critical_least;
    tell(w, &a, b);
    return true;
}

static void judge_drop(struct walk *w, size_t at, const struct baseline *b)
{
    struct anomaly a = {
        .kind = ANOMALY_TRAFFIC_DROP, .at = at, .value = w->v[FIGURE_TRAFFIC][at], .method = b->method};

    if (b->expected >= DROP_MIN && a.value <= DROP * b->expected)
        tell(w, &a, b);
}

static void judge_figure(struct walk *w, enum anomaly_figure f, size_t at)
{
    struct baseline b;
    double *v = &w->v[f][at];

    if (isnan(*v) || !find_baseline(w, f, at, &b))
        return;
    if (f == FIGURE_TRAFFIC)
        judge_drop(w, at, &b);
    if (f == FIGURE_LATENCY && attempts_of(w, at) >= ANOMALY_MIN_COUNT)
        w->residual[at] = fmax(-ANOMALY_SCORE, fmin(ANOMALY_SCORE, (*v - b.expected) / b.scale));
    if (!judge(w, f, at, &b))
        return;
    *v = b.expected + ANOMALY_SCORE * b.scale;
    if (f == FIGURE_LATENCY)
        w->spiked[at] = true;
}

/* Average of the residuals up to `at`, the newest counting most; NaN when the hour itself has none. */
static double drift_at(const struct walk *w, size_t at)
{
    double z = 0;

    if (isnan(w->residual[at]))
        return NAN;
    for (size_t i = at + 1 > DRIFT_HOURS ? at + 1 - DRIFT_HOURS : 0; i <= at; i++)
        if (!isnan(w->residual[i]))
            z = LAMBDA * w->residual[i] + (1 - LAMBDA) * z;
    return z;
}

/* Of closed hours only, and two in a row. */
static void judge_drift(struct walk *w, size_t at)
{
    struct anomaly a = {
        .kind = ANOMALY_LATENCY_DRIFT, .at = at, .value = w->v[FIGURE_LATENCY][at], .method = ANOMALY_EWMA};
    struct baseline b;

    if (!at || part_of(w, at) < 1 || w->spiked[at] || !(w->residual[at] > 0) ||
        !(drift_at(w, at) > DRIFT_LIMIT) || !(drift_at(w, at - 1) > DRIFT_LIMIT) ||
        !find_baseline(w, FIGURE_LATENCY, at, &b))
        return;
    tell(w, &a, &b);
}

/* ---- the walk ------------------------------------------------------------------------------------------------------ */

static void fill(struct walk *w)
{
    for (size_t i = 0; i < w->in->n; i++) {
        const struct anomaly_hour *h = &w->in->hours[i];
        double part = part_of(w, i);

        for (unsigned f = 0; f < ANOMALY_FIGURES; f++)
            w->v[f][i] = !h->is_known || part < ANOMALY_RUNNING ? NAN
                         : FIGURES[f].scales                    ? h->v[f] / part
                                                                : h->v[f];
        w->residual[i] = NAN;
    }
}

void anomalies_find(const struct anomaly_input *in, anomaly_fn fn, void *user)
{
    struct walk w = {.in = in, .fn = fn, .user = user};
    size_t n = in->n ? in->n : 1;
    double *all = malloc((ANOMALY_FIGURES + 1) * n * sizeof(*all));

    w.spiked = calloc(n, sizeof(*w.spiked));
    if (!all || !w.spiked)
        abort();
    for (unsigned f = 0; f < ANOMALY_FIGURES; f++)
        w.v[f] = all + f * n;
    w.residual = all + ANOMALY_FIGURES * n;
    fill(&w);
    for (size_t at = 0; at < in->n; at++) {
        for (unsigned f = 0; f < ANOMALY_FIGURES; f++)
            judge_figure(&w, (enum anomaly_figure)f, at);
        judge_drift(&w, at);
    }
    free(w.spiked);
    free(all);
}

bool anomaly_is_active(const struct anomaly_input *in, size_t last_at)
{
    size_t closed = in->running < 1 && in->n ? in->n - 1 : in->n;

    return last_at + 2 >= closed;
}
