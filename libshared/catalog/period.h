/* SPDX-License-Identifier: Apache-2.0 */
/* Periods of budgets and their windows, by the clocks of a time zone. The window's id is part of every key that holds money,
 * so a reset cannot be missed; begin and end of a window are instants, whatever the clocks do in between. Pure. */
#ifndef CATALOG_PERIOD_H
#define CATALOG_PERIOD_H

#include <stdbool.h>

#include "libshared/base/clock.h"
#include "libshared/base/span.h"
#include "libshared/base/zone.h"

/* Numbers are on disk: never reuse one. */
enum period { PERIOD_TOTAL, PERIOD_HOUR, PERIOD_DAY, PERIOD_WEEK, PERIOD_MONTH, PERIOD_COUNT };

#define PERIOD_WINDOW_CAP 24

const char *period_name(enum period p); /* "total" "hour" "day" "week" "month" */
bool period_parse(struct span name, enum period *out);
/* When a budget begins anew. */
struct cycle {
    enum period period;
    const struct zone *zone; /* NULL: UTC */
};
static inline bool cycle_is(struct cycle a, struct cycle b)
{
    return a.period == b.period && a.zone == b.zone;
}

struct window_span { /* in microseconds; of total from 0 to INT64_MAX */
    int64_t start_us, end_us;
};

/* The one window that holds `t`. Windows of a cycle follow each other without a gap: days, weeks and months begin when local
 * clocks first show midnight (or where they jump over it), hours at full local hours. Times before 1970 count as 1970. */
struct window_span cycle_window(struct cycle c, struct wall t);
/* "total", "2026-11-20T13" (UTC; with ":30" where local hours begin so), "2026-11-20", "2026-W47" (ISO), "2026-11" by local
 * date; returns the length. `t` is any instant of the window. */
size_t cycle_name(struct cycle c, struct wall t, char dst[PERIOD_WINDOW_CAP]);

/* The same by UTC. */
size_t period_window(enum period p, struct wall t, char dst[PERIOD_WINDOW_CAP]);
struct wall period_start(enum period p, struct wall t); /* of the window that holds `t` */
struct wall period_end(enum period p, struct wall t);   /* first instant after it; INT64_MAX for total */

#endif
