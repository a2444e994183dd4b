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

size_t wall_format(struct wall t, char *dst, size_t cap)
{
    time_t sec = (time_t)(t.us / 1000000);
    struct tm tm;
    int n;

    if (!gmtime_r(&sec, &tm)) {
        dst[0] = '\0';
        return 0;
    }
    n = snprintf(dst, cap, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1,
                 tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(t.us % 1000000 / 1000));
    return n > 0 && (size_t)n < cap ? (size_t)n : 0;
}
