/* SPDX-License-Identifier: Apache-2.0 */
/* Periods of budgets and their windows, in UTC. The window's id is part of every key that holds money, so a reset
 * cannot be missed. Pure. */
#ifndef CATALOG_PERIOD_H
#define CATALOG_PERIOD_H

#include <stdbool.h>

#include "libshared/base/clock.h"
#include "libshared/base/span.h"

/* Numbers are on disk: never reuse one. */
enum period { PERIOD_TOTAL, PERIOD_HOUR, PERIOD_DAY, PERIOD_WEEK, PERIOD_MONTH, PERIOD_COUNT };

#define PERIOD_WINDOW_CAP 24

const char *period_name(enum period p); /* "total" "hour" "day" "week" "month" */
bool period_parse(struct span name, enum period *out);
/* "total", "2026-11-20T13", "2026-11-20", "2026-W47" (ISO), "2026-11"; returns the length. Times before 1970 count as
 * 1970. */
size_t period_window(enum period p, struct wall t, char dst[PERIOD_WINDOW_CAP]);
struct wall period_start(enum period p, struct wall t); /* of the window that holds `t` */
struct wall period_end(enum period p, struct wall t);   /* first instant after it; INT64_MAX for total */

#endif
