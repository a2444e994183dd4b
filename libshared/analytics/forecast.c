/* SPDX-License-Identifier: Apache-2.0 */
/* Any thread; owns nothing. Amounts are added as doubles: a forecast needs no cent, but must not overflow. Both methods are one
 * walk over the hours to come: what is left is used up hour by hour, evenly within an hour. The tricky part is a window
 * without an end: whole weeks are skipped at once, since the profile repeats. */
#include "libshared/analytics/forecast.h"

#include <math.h>

#define HOUR_US    ((int64_t)3600 * 1000000)
#define DAY_US     (24 * HOUR_US)
#define WEEK_US    (7 * DAY_US)
#define FOREVER_US (3650 * DAY_US)
#define SEEN_MIN   ((int64_t)300 * 1000000)
#define SEEN_MAX   (6 * HOUR_US)
#define TREND_MAX  4.0 /* a single week says no more than this about the next */

const char *forecast_state_name(enum forecast_state s)
{
    static const char *const NAMES[] = {"unknown", "never", "at", "spent"};

    return NAMES[s];
}
const char *forecast_method_name(enum forecast_method m)
{
    static const char *const NAMES[] = {"none", "linear", "seasonal"};

    return NAMES[m];
}

struct profile { /* nano-USD that an hour of the week costs; hour 0 is that of 1970-01-01T00 */
    double hour[FORECAST_WEEK_HOURS];
    double week;
};

static int64_t hour_of(int64_t us)
{
    return us / HOUR_US;
}

static int64_t length_of(const struct forecast_in *in)
{
    return in->ends.us == INT64_MAX ? INT64_MAX : in->ends.us - in->starts.us;
}

/* Credits lower what was spent, not what will be. */
static double cost_of(const struct forecast_in *in, size_t i)
{
    return in->hours[i] > 0 ? (double)in->hours[i] : 0;
}

/* Nano-USD per microsecond since `from`; the hour in which that lies counts in part. */
static double rate_since(const struct forecast_in *in, int64_t from)
{
    int64_t running = hour_of(in->now.us);
    double sum = 0;

    for (size_t i = in->n_hours; i-- > 0;) {
        int64_t hour = running - (int64_t)(in->n_hours - 1 - i), end = (hour + 1) * HOUR_US;

        if (end <= from)
            break;
        if (end > in->now.us)
            end = in->now.us;
        if (hour * HOUR_US >= from)
            sum += cost_of(in, i);
        else /* what was spent before `began` is nothing, so all of that hour's cost lies behind it */
            sum += from == in->began.us
                       ? cost_of(in, i)
                       : cost_of(in, i) * (double)(end - from) / (double)(end - hour * HOUR_US);
    }
    return in->now.us > from ? sum / (double)(in->now.us - from) : 0;
}

static double linear_rate(const struct forecast_in *in)
{
    int64_t back = length_of(in), from;

    if (back > WEEK_US)
        back = WEEK_US;
    if (back < HOUR_US)
        back = HOUR_US;
    from = in->now.us - back;
    return rate_since(in, from > in->began.us ? from : in->began.us);
}

static void flat(double rate, struct profile *out)
{
    for (unsigned h = 0; h < FORECAST_WEEK_HOURS; h++)
        out->hour[h] = rate * (double)HOUR_US;
    out->week = rate * (double)WEEK_US;
}

/* False where history allows none. */
static bool seasonal(const struct forecast_in *in, struct profile *out)
{
    size_t closed = in->n_hours ? in->n_hours - 1 : 0, seen, weeks;
    int64_t running = hour_of(in->now.us);
    double last = 0, trend;

    seen = in->began.us < in->now.us ? (size_t)(running - hour_of(in->began.us + HOUR_US - 1)) : 0;
    weeks = (seen < closed ? seen : closed) / FORECAST_WEEK_HOURS;
    if (weeks > 4)
        weeks = 4;
    if (weeks < 2 || length_of(in) < DAY_US)
        return false;
    *out = (struct profile){0};
    for (size_t back = 1; back <= weeks * FORECAST_WEEK_HOURS; back++) {
        double cost = cost_of(in, closed - back);

        out->hour[(running - (int64_t)back) % FORECAST_WEEK_HOURS] += cost / (double)weeks;
        out->week += cost / (double)weeks;
        last += back <= FORECAST_WEEK_HOURS ? cost : 0;
    }
    trend = out->week > 0 ? last / out->week : 1;
    trend = fmin(fmax(trend, 1 / TREND_MAX), TREND_MAX);
    for (unsigned h = 0; h < FORECAST_WEEK_HOURS; h++)
        out->hour[h] *= trend;
    out->week *= trend;
    return true;
}

static int64_t skip_weeks(const struct profile *p, int64_t weeks, int64_t from, double *spent)
{
    *spent += p->week * (double)weeks;
    return from + weeks * WEEK_US;
}

/* What the profile spends from `from` to `to`. Where that passes `left` (if it is positive), *out_at is when. */
static double walk(const struct profile *p, int64_t from, int64_t to, double left, int64_t *out_at)
{
    double spent = 0, cost, part;
    int64_t weeks = (to - from) / WEEK_US, end;

    /* Up to one week before the instant that is looked for, so that the walk itself meets it. */
    if (left > 0 && p->week > 0 && left / p->week < (double)weeks)
        weeks = (int64_t)(left / p->week);
    if (weeks > 1)
        from = skip_weeks(p, weeks - 1, from, &spent);
    while (from < to) {
        end = (hour_of(from) + 1) * HOUR_US;
        end = end < to ? end : to;
        cost = p->hour[hour_of(from) % FORECAST_WEEK_HOURS];
        part = cost * (double)(end - from) / (double)HOUR_US;
        if (left > 0 && *out_at == 0 && spent + part > left)
            *out_at = from + (int64_t)((left - spent) / part * (double)(end - from));
        spent += part;
        from = end;
        if (*out_at && to - from >= WEEK_US)
            from = skip_weeks(p, (to - from) / WEEK_US, from, &spent);
    }
    return spent;
}

static int64_t whole(double nano)
{
    return nano < 9e18 ? (int64_t)nano : INT64_MAX;
}

static bool has_seen_enough(const struct forecast_in *in)
{
    int64_t need = length_of(in) / 100;

    if (need < SEEN_MIN)
        need = SEEN_MIN;
    if (need > SEEN_MAX)
        need = SEEN_MAX;
    return in->began.us > 0 && in->n_hours > 0 && in->now.us - in->began.us >= need;
}

static void look_ahead(const struct forecast_in *in, const struct profile *p, struct forecast *out)
{
    bool has_end = in->ends.us != INT64_MAX;
    int64_t to = has_end ? in->ends.us : in->now.us + FOREVER_US, at = 0;
    double left = in->limit_nano ? (double)in->limit_nano - (double)in->spent_nano : 0;
    double more = in->now.us < to ? walk(p, in->now.us, to, left, &at) : 0;

    out->rate_nano_per_hour = whole(p->week / FORECAST_WEEK_HOURS);
    out->has_end = has_end;
    if (has_end)
        out->end_nano = whole((double)in->spent_nano + more);
    if (out->state == FORECAST_SPENT)
        return;
    out->state = at ? FORECAST_AT : FORECAST_NEVER;
    out->exhausts_at.us = at;
}

void forecast_make(const struct forecast_in *in, struct forecast *out)
{
    struct profile p;

    *out = (struct forecast){0};
    if (in->limit_nano > 0 && in->spent_nano >= in->limit_nano)
        out->state = FORECAST_SPENT;
    if (!has_seen_enough(in))
        return;
    out->method = FORECAST_SEASONAL;
    if (!seasonal(in, &p)) {
        out->method = FORECAST_LINEAR;
        flat(linear_rate(in), &p);
    }
    look_ahead(in, &p, out);
}
