/* SPDX-License-Identifier: Apache-2.0 */
/* When a budget will be spent, from what was spent lately. Pure: time is an argument.
 *
 * With two weeks of history or more, an hour to come costs what the same hour of the week cost on average in up to four weeks,
 * raised or lowered by how the last week compares with that average. With less, or for windows shorter than a day, the rate of
 * the last days goes on as it is. With less than a hundredth of the window seen (at least 5 minutes, at most 6 hours) nothing is
 * said. */
#ifndef ANALYTICS_FORECAST_H
#define ANALYTICS_FORECAST_H

#include <stdbool.h>
#include <stddef.h>

#include "libshared/base/clock.h"

#define FORECAST_WEEK_HOURS 168u
#define FORECAST_HOURS                                                                                       \
    (4u * FORECAST_WEEK_HOURS + 1u) /* that are of use: four weeks, and the one that runs */

enum forecast_state {
    FORECAST_UNKNOWN, /* too little was seen */
    FORECAST_NEVER,   /* not before the window ends (or, without an end, within ten years) */
    FORECAST_AT,
    FORECAST_SPENT /* it is at its limit already */
};
enum forecast_method { FORECAST_NONE, FORECAST_LINEAR, FORECAST_SEASONAL };
const char *forecast_state_name(enum forecast_state s);   /* "unknown" "never" "at" "spent" */
const char *forecast_method_name(enum forecast_method m); /* "none" "linear" "seasonal" */

struct forecast_in {
    struct wall now;
    const int64_t
        *hours; /* nano-USD by hour of UTC, oldest first; the last one is the hour that runs, so far */
    size_t n_hours;
    struct wall began;              /* when spending was first seen; 0: never */
    struct wall starts, ends;       /* the budget's window; ends INT64_MAX: it has no end */
    int64_t spent_nano, limit_nano; /* in the window; limit 0: none */
};

struct forecast {
    enum forecast_state state;
    enum forecast_method method;
    struct wall exhausts_at;    /* of FORECAST_AT */
    bool has_end;               /* what follows is known */
    int64_t end_nano;           /* spent by the end of the window, if nothing stops it */
    int64_t rate_nano_per_hour; /* of late */
};

void forecast_make(const struct forecast_in *in, struct forecast *out);

#endif
