/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/cli/human.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Three significant digits. */
static void three(char dst[HUMAN_CAP], double v, const char *unit)
{
    int digits = v >= 99.95 ? 0 : v >= 9.995 ? 1 : 2;

    (void)snprintf(dst, HUMAN_CAP, "%.*f%s", digits, v, unit);
}

void human_count(char dst[HUMAN_CAP], uint64_t v)
{
    static const char *const UNITS[] = {"K", "M", "B", "T"};
    double d = (double)v / 1000;
    size_t u = 0;

    if (v < 1000) {
        (void)snprintf(dst, HUMAN_CAP, "%" PRIu64, v);
        return;
    }
    for (; d >= 999.5 && u + 1 < sizeof(UNITS) / sizeof(UNITS[0]); u++)
        d /= 1000;
    three(dst, d, UNITS[u]);
}

void human_bytes(char dst[HUMAN_CAP], uint64_t v)
{
    static const char *const UNITS[] = {"KiB", "MiB", "GiB", "TiB"};
    double d = (double)v / 1024;
    size_t u = 0;

    if (v < 1024) {
        (void)snprintf(dst, HUMAN_CAP, "%" PRIu64 " B", v);
        return;
    }
    for (; d >= 1023.95 && u + 1 < sizeof(UNITS) / sizeof(UNITS[0]); u++)
        d /= 1024;
    (void)snprintf(dst, HUMAN_CAP, "%.1f %s", d, UNITS[u]);
}

static void grouped(char dst[HUMAN_CAP], uint64_t v)
{
    char digits[24];
    int n = snprintf(digits, sizeof(digits), "%" PRIu64, v), at = 0;

    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0)
            dst[at++] = ',';
        dst[at++] = digits[i];
    }
    dst[at] = '\0';
}

/* Below a cent: four significant digits, trailing zeros dropped. */
static void small_usd(char dst[HUMAN_CAP], const char *sign, uint64_t nano)
{
    int leading = 0, n;

    for (uint64_t limit = 1000000000; nano < limit; limit /= 10)
        leading++;
    n = snprintf(dst, HUMAN_CAP, "%s$%.*f", sign, leading + 3 > 9 ? 9 : leading + 3, (double)nano / 1e9);
    while (n > 0 && dst[n - 1] == '0')
        dst[--n] = '\0';
}

void human_usd(char dst[HUMAN_CAP], int64_t nanousd)
{
    const char *sign = nanousd < 0 ? "-" : "";
    uint64_t nano = nanousd < 0 ? -(uint64_t)nanousd : (uint64_t)nanousd;
    uint64_t cents = nano / 10000000 + (nano % 10000000 >= 5000000);
    char whole[HUMAN_CAP];

    if (nano == 0) {
        (void)snprintf(dst, HUMAN_CAP, "$0.00");
    } else if (nano < 10000000) {
        small_usd(dst, sign, nano);
    } else if (nano < 1000000000) {
        (void)snprintf(dst, HUMAN_CAP, "%s$%.4f", sign, (double)nano / 1e9);
    } else {
        grouped(whole, cents / 100);
        (void)snprintf(dst, HUMAN_CAP, "%s$%.32s.%02" PRIu64, sign, whole, cents % 100);
    }
}

void human_duration(char dst[HUMAN_CAP], int64_t s)
{
    if (s < 60)
        (void)snprintf(dst, HUMAN_CAP, "%" PRId64 "s", s);
    else if (s < 3600)
        (void)snprintf(dst, HUMAN_CAP, "%" PRId64 "m%02" PRId64 "s", s / 60, s % 60);
    else if (s < 86400)
        (void)snprintf(dst, HUMAN_CAP, "%" PRId64 "h%02" PRId64 "m", s / 3600, s / 60 % 60);
    else
        (void)snprintf(dst, HUMAN_CAP, "%" PRId64 "d", s / 86400);
}

void human_ms(char dst[HUMAN_CAP], double ms)
{
    if (ms < 9.95)
        (void)snprintf(dst, HUMAN_CAP, "%.1fms", ms);
    else if (ms < 999.5)
        (void)snprintf(dst, HUMAN_CAP, "%.0fms", ms);
    else if (ms < 99950)
        three(dst, ms / 1000, "s");
    else
        human_duration(dst, (int64_t)(ms / 1000));
}

void human_percent(char dst[HUMAN_CAP], double ratio)
{
    (void)snprintf(dst, HUMAN_CAP, "%.1f%%", ratio * 100);
}

void human_rate(char dst[HUMAN_CAP], double v)
{
    (void)snprintf(dst, HUMAN_CAP, "%.1f", v);
}

bool human_parse_time(const char *z, struct wall *out)
{
    struct tm tm = {0};
    const char *rest = z ? strptime(z, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
    int64_t us = 0, unit = 100000;
    time_t t;

    if (!rest)
        return false;
    if (*rest == '.')
        for (rest++; isdigit((unsigned char)*rest); rest++, unit /= 10)
            us += (*rest - '0') * unit;
    if (strcmp(rest, "Z") != 0)
        return false;
    t = timegm(&tm);
    *out = (struct wall){(int64_t)t * 1000000 + us};
    return t != (time_t)-1;
}

static double unit_ms(const char **z)
{
    static const struct {
        const char *name;
        double ms;
    } UNITS[] = {{"ms", 1}, {"s", 1e3}, {"m", 6e4}, {"h", 3.6e6}, {"d", 8.64e7}};

    for (size_t i = 0; i < sizeof(UNITS) / sizeof(UNITS[0]); i++) {
        size_t n = strlen(UNITS[i].name);

        if (strncmp(*z, UNITS[i].name, n) == 0 && !isalpha((unsigned char)(*z)[n])) {
            *z += n;
            return UNITS[i].ms;
        }
    }
    return 0;
}

bool human_parse_duration(const char *z, int64_t *out_ms)
{
    double total = 0;

    do {
        char *end;
        double v, unit;

        if (!isdigit((unsigned char)*z))
            return false;
        v = strtod(z, &end);
        z = end;
        unit = *z ? unit_ms(&z) : 1e3;
        if (unit <= 0 || !isfinite(v))
            return false;
        total += v * unit;
    } while (*z);
    if (total > 3.2e12)
        return false;
    *out_ms = (int64_t)llround(total);
    return true;
}
