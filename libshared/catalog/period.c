/* SPDX-License-Identifier: Apache-2.0 */
/* Calendar arithmetic on days since 1970, without the C library's time zones. Local midnight becomes an instant in zone.c,
 * and everything else is about instants. */
#include "libshared/catalog/period.h"

#include <stdio.h>

#include "libshared/base/compiler.h"

#define SECOND_US 1000000
#define DAY_S     86400

static const char *const NAMES[] = {"total", "hour", "day", "week", "month"};
_Static_assert(ARRAY_LEN(NAMES) == PERIOD_COUNT, "every period has a name");
_Static_assert(PERIOD_TOTAL == 0 && PERIOD_HOUR == 1 && PERIOD_DAY == 2 && PERIOD_WEEK == 3 &&
                   PERIOD_MONTH == 4,
               "on disk");

struct date {
    int64_t year;
    unsigned month, day; /* from 1 */
};

/* Proleptic Gregorian, in eras of 400 years that begin on the first of March. */
static struct date date_of(int64_t days)
{
    int64_t z = days + 719468, era = z / 146097;
    unsigned doe = (unsigned)(z - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned mp = (5 * doy + 2) / 153;
    unsigned month = mp < 10 ? mp + 3 : mp - 9;

    return (struct date){(int64_t)yoe + era * 400 + (month <= 2), month, doy - (153 * mp + 2) / 5 + 1};
}

static int64_t days_of(int64_t year, unsigned month, unsigned day)
{
    int64_t y = year - (month <= 2), era = y / 400;
    unsigned yoe = (unsigned)(y - era * 400);
    unsigned doy = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;

    return era * 146097 + (int64_t)doe - 719468;
}

static int64_t seconds_of(struct wall t)
{
    return t.us > 0 ? t.us / SECOND_US : 0;
}
static int64_t monday_of(int64_t days) /* 1970-01-01 was a Thursday */
{
    return days - (days + 3) % 7;
}

const char *period_name(enum period p)
{
    return p < PERIOD_COUNT ? NAMES[p] : "unknown";
}

bool period_parse(struct span name, enum period *out)
{
    for (unsigned i = 0; i < PERIOD_COUNT; i++) {
        if (span_is(name, NAMES[i])) {
            *out = (enum period)i;
            return true;
        }
    }
    return false;
}

/* The ISO week belongs to the year that its Thursday is in. */
static size_t week_text(int64_t days, char dst[PERIOD_WINDOW_CAP])
{
    int64_t thursday = monday_of(days) + 3;
    struct date d = date_of(thursday);
    int64_t week = (thursday - days_of(d.year, 1, 1)) / 7 + 1;

    return (size_t)snprintf(dst, PERIOD_WINDOW_CAP, "%04lld-W%02u", (long long)d.year, (unsigned)week);
}

/* The day on which the day's period began. */
static int64_t first_day(enum period p, int64_t days)
{
    struct date d = date_of(days);

    return p == PERIOD_WEEK ? monday_of(days) : p == PERIOD_MONTH ? days_of(d.year, d.month, 1) : days;
}

/* The day after the last of the period that began on that day. */
static int64_t end_day(enum period p, int64_t first)
{
    struct date d = date_of(first);

    if (p == PERIOD_MONTH)
        return d.month == 12 ? days_of(d.year + 1, 1, 1) : days_of(d.year, d.month + 1, 1);
    return first + (p == PERIOD_WEEK ? 7 : 1);
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Local days of the window that holds an instant, and its ends. Around clocks that go back over midnight the local date
 * alone may be that of the neighbour. */
struct local_days {
    int64_t first, start_s, end_s;
};

static struct local_days days_around(struct cycle c, int64_t s)
{
    struct local_days w;
    int64_t first = first_day(c.period, floor_div(s + zone_offset(c.zone, s), DAY_S));

    for (;;) {
        int64_t end = end_day(c.period, first);

        w = (struct local_days){first, zone_instant(c.zone, first * DAY_S),
                                zone_instant(c.zone, end * DAY_S)};
        if (s < w.start_s)
            first = first_day(c.period, first - 1);
        else if (s >= w.end_s)
            first = end;
        else
            return w;
    }
}

/* Full hours of local clocks, cut where they are moved by less than an hour. */
static struct window_span hour_around(struct cycle c, int64_t s)
{
    int64_t shift = zone_offset(c.zone, s) % 3600, start = floor_div(s + shift, 3600) * 3600 - shift;
    int64_t end = start + 3600, change = zone_next_change(c.zone, start);

    for (; change < end; change = zone_next_change(c.zone, change)) {
        if (change <= s && zone_offset(c.zone, change) % 3600 == shift &&
            zone_offset(c.zone, change - 1) % 3600 != shift)
            start = change;
        if (change > s && zone_offset(c.zone, change) % 3600 != shift)
            end = change;
    }
    return (struct window_span){start * SECOND_US, end * SECOND_US};
}

struct window_span cycle_window(struct cycle c, struct wall t)
{
    struct local_days w;

    switch (c.period) {
    case PERIOD_HOUR:
        return hour_around(c, seconds_of(t));
    case PERIOD_DAY:
    case PERIOD_WEEK:
    case PERIOD_MONTH:
        w = days_around(c, seconds_of(t));
        return (struct window_span){w.start_s * SECOND_US, w.end_s * SECOND_US};
    case PERIOD_TOTAL:
    case PERIOD_COUNT:
        break;
    }
    return (struct window_span){0, INT64_MAX};
}

static int hour_text(int64_t start_s, char dst[PERIOD_WINDOW_CAP])
{
    struct date d = date_of(floor_div(start_s, DAY_S));
    unsigned hour = (unsigned)(start_s % DAY_S / 3600), minute = (unsigned)(start_s % 3600 / 60);
    int n = snprintf(dst, PERIOD_WINDOW_CAP, "%04d-%02u-%02uT%02u", (int)d.year, d.month, d.day, hour);

    return minute ? n + snprintf(dst + n, PERIOD_WINDOW_CAP - (size_t)n, ":%02u", minute) : n;
}

size_t cycle_name(struct cycle c, struct wall t, char dst[PERIOD_WINDOW_CAP])
{
    int64_t first = 0;
    struct date d;

    if (c.period == PERIOD_DAY || c.period == PERIOD_WEEK || c.period == PERIOD_MONTH)
        first = days_around(c, seconds_of(t)).first;
    d = date_of(first);
    switch (c.period) {
    case PERIOD_HOUR:
        return (size_t)hour_text(cycle_window(c, t).start_us / SECOND_US, dst);
    case PERIOD_DAY:
        return (size_t)snprintf(dst, PERIOD_WINDOW_CAP, "%04d-%02u-%02u", (int)d.year, d.month, d.day);
    case PERIOD_WEEK:
        return week_text(first, dst);
    case PERIOD_MONTH:
        return (size_t)snprintf(dst, PERIOD_WINDOW_CAP, "%04d-%02u", (int)d.year, d.month);
    case PERIOD_TOTAL:
    case PERIOD_COUNT:
        break;
    }
    return (size_t)snprintf(dst, PERIOD_WINDOW_CAP, "total");
}

size_t period_window(enum period p, struct wall t, char dst[PERIOD_WINDOW_CAP])
{
    return cycle_name((struct cycle){p, NULL}, t, dst);
}

struct wall period_start(enum period p, struct wall t)
{
    return (struct wall){cycle_window((struct cycle){p, NULL}, t).start_us};
}

struct wall period_end(enum period p, struct wall t)
{
    return (struct wall){cycle_window((struct cycle){p, NULL}, t).end_us};
}
