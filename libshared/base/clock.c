/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t read_us(clockid_t id)
{
    struct timespec ts;

    (void)clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

struct mono mono_now(void)
{
    return (struct mono){read_us(CLOCK_MONOTONIC)};
}
struct wall wall_now(void)
{
    return (struct wall){read_us(CLOCK_REALTIME)};
}

static char *put_digits(char *p, unsigned v, unsigned digits, char then)
{
    for (unsigned i = digits; i > 0; i--, v /= 10)
        p[i - 1] = (char)('0' + v % 10);
    p[digits] = then;
    return p + digits + 1;
}

size_t wall_format(struct wall t, char *dst, size_t cap)
{
    time_t sec = (time_t)(t.us / 1000000);
    struct tm tm;
    int n;

    if (!gmtime_r(&sec, &tm)) {
        dst[0] = '\0';
        return 0;
    }
    if (cap >= WALL_TEXT_CAP && t.us >= 0 && tm.tm_year < 9999 - 1900) { /* every line of a log has one */
        char *p = put_digits(dst, (unsigned)tm.tm_year + 1900, 4, '-');

        p = put_digits(p, (unsigned)tm.tm_mon + 1, 2, '-');
        p = put_digits(p, (unsigned)tm.tm_mday, 2, 'T');
        p = put_digits(p, (unsigned)tm.tm_hour, 2, ':');
        p = put_digits(p, (unsigned)tm.tm_min, 2, ':');
        p = put_digits(p, (unsigned)tm.tm_sec, 2, '.');
        p = put_digits(p, (unsigned)(t.us % 1000000 / 1000), 3, 'Z');
        *p = '\0';
        return (size_t)(p - dst);
    }
    n = snprintf(dst, cap, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1,
                 tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(t.us % 1000000 / 1000));
    return n > 0 && (size_t)n < cap ? (size_t)n : 0;
}
