/* SPDX-License-Identifier: Apache-2.0 */
/* Pure. A tenant counts once, whatever it did how often; steps before its trial began are not of it. */
#include "libshared/analytics/business.h"

#include <math.h>

/* Days since 1970-01-01 to a date, by the rules of the Gregorian calendar; years are taken to begin in March. */
static void date_of(int64_t days, int64_t *year, int *month, int *day)
{
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, in_era = z - era * 146097;
    int64_t y = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    int64_t in_year = in_era - (365 * y + y / 4 - y / 100);
    int64_t m = (5 * in_year + 2) / 153;

    *day = (int)(in_year - (153 * m + 2) / 5 + 1);
    *month = (int)(m < 10 ? m + 3 : m - 9);
    *year = y + era * 400 + (*month <= 2);
}

static int days_in(int64_t year, int month)
{
    static const int DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return DAYS[month - 1] + (month == 2 && is_leap);
}

static int64_t up_to(int64_t month_nano, int day, int days)
{
    return (int64_t)((__int128)month_nano * day / days);
}

int64_t income_of_day(int64_t month_nano, int64_t day_s)
{
    int64_t days = day_s / DAY_S - (day_s % DAY_S < 0), year;
    int month, day, n;

    date_of(days, &year, &month, &day);
    n = days_in(year, month);
    return up_to(month_nano, day, n) - up_to(month_nano, day - 1, n);
}

/* ---- the funnel ---------------------------------------------------------------------------------------------------- */

struct sums {
    double start_s, conversion_s;
};

/* First of each kind, none before the trial began. */
static void take_tenant(const struct life_event *e, size_t n, int64_t from_s, int64_t to_s, struct funnel *f,
                        struct sums *sums)
{
    int64_t first[LIFE_KINDS];
    bool has[LIFE_KINDS] = {false};

    for (size_t i = 0; i < n; i++) {
        if (has[e[i].kind] || (e[i].kind != LIFE_TRIAL && !has[LIFE_TRIAL]))
            continue;
        has[e[i].kind] = true;
        first[e[i].kind] = e[i].at_s;
    }
    if (!has[LIFE_TRIAL] || first[LIFE_TRIAL] < from_s || first[LIFE_TRIAL] >= to_s)
        return;
    f->signups++;
    if (has[LIFE_FIRST_ANSWER]) {
        f->started++;
        sums->start_s += (double)(first[LIFE_FIRST_ANSWER] - first[LIFE_TRIAL]);
    }
    if (has[LIFE_CONVERTED]) {
        f->converted++;
        sums->conversion_s += (double)(first[LIFE_CONVERTED] - first[LIFE_TRIAL]);
    }
    f->cancelled += has[LIFE_CANCELLED] && !has[LIFE_CONVERTED];
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : NAN;
}

void funnel_of(const struct life_event *events, size_t n, int64_t from_s, int64_t to_s, struct funnel *out)
{
    struct sums sums = {0};

    *out = (struct funnel){0};
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && events[j].tenant == events[i].tenant; j++)
            ;
        take_tenant(events + i, j - i, from_s, to_s, out, &sums);
    }
    out->conversion_rate = percent(out->converted, out->signups);
    out->activation_rate = percent(out->started, out->signups);
    out->trial_conversion_rate = percent(out->converted, out->started);
    out->days_to_conversion =
        out->converted ? sums.conversion_s / (double)out->converted / (double)DAY_S : NAN;
    out->days_to_start = out->started ? sums.start_s / (double)out->started / (double)DAY_S : NAN;
}
