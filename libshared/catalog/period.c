/* SPDX-License-Identifier: Apache-2.0 */
/* Calendar arithmetic on days since 1970, without the C library's time zones. */
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
static struct wall at_day(int64_t days)
{
    return (struct wall){days * DAY_S * SECOND_US};
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

size_t period_window(enum period p, struct wall t, char dst[PERIOD_WINDOW_CAP])
{
    int64_t s = seconds_of(t);
    struct date d = date_of(s / DAY_S);
    long long year = (long long)d.year;
    int n = 0;

    switch (p) {
    case PERIOD_HOUR:
        n = snprintf(dst, PERIOD_WINDOW_CAP, "%04lld-%02u-%02uT%02u", year, d.month, d.day,
                     (unsigned)(s % DAY_S / 3600));
        break;
    case PERIOD_DAY:
        n = snprintf(dst, PERIOD_WINDOW_CAP, "%04lld-%02u-%02u", year, d.month, d.day);
        break;
    case PERIOD_WEEK:
        return week_text(s / DAY_S, dst);
    case PERIOD_MONTH:
        n = snprintf(dst, PERIOD_WINDOW_CAP, "%04lld-%02u", year, d.month);
        break;
    case PERIOD_TOTAL:
    case PERIOD_COUNT:
        n = snprintf(dst, PERIOD_WINDOW_CAP, "total");
        break;
    }
    return (size_t)n;
}

struct wall period_start(enum period p, struct wall t)
{
    int64_t s = seconds_of(t), days = s / DAY_S;
    struct date d = date_of(days);

    switch (p) {
    case PERIOD_HOUR:
        return (struct wall){s / 3600 * 3600 * SECOND_US};
    case PERIOD_DAY:
        return at_day(days);
    case PERIOD_WEEK:
        return at_day(monday_of(days));
    case PERIOD_MONTH:
        return at_day(days_of(d.year, d.month, 1));
    case PERIOD_TOTAL:
    case PERIOD_COUNT:
        break;
    }
    return (struct wall){0};
}

struct wall period_end(enum period p, struct wall t)
{
    struct wall start = period_start(p, t);
    struct date d = date_of(seconds_of(t) / DAY_S);

    switch (p) {
    case PERIOD_HOUR:
        return (struct wall){start.us + (int64_t)3600 * SECOND_US};
    case PERIOD_DAY:
        return (struct wall){start.us + (int64_t)DAY_S * SECOND_US};
    case PERIOD_WEEK:
        return (struct wall){start.us + (int64_t)7 * DAY_S * SECOND_US};
    case PERIOD_MONTH:
        return at_day(d.month == 12 ? days_of(d.year + 1, 1, 1) : days_of(d.year, d.month + 1, 1));
    case PERIOD_TOTAL:
    case PERIOD_COUNT:
        break;
    }
    return (struct wall){INT64_MAX};
}
