/* SPDX-License-Identifier: Apache-2.0 */
/* Which hours of a provider are out of the ordinary. Pure: hours in, findings out.
 *
 * An hour is held against the same hour of the week in the four weeks before (at least 3 of them), else the same hour of the
 * seven days before (at least 4), else the 24 hours before (at least 6), else nothing is said. What is expected is their median,
 * the scale 1.4826 times their median absolute deviation, never below 5 % of what is expected nor below the figure's floor. An
 * hour that was found enters later baselines clipped to what it was expected to be plus 3.5 times the scale. */
#ifndef ANALYTICS_ANOMALY_H
#define ANALYTICS_ANOMALY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ANOMALY_WEEK_HOURS 168u
#define ANOMALY_HOURS      (4u * ANOMALY_WEEK_HOURS + 25u) /* that are of use, the one that runs included */
#define ANOMALY_MIN_COUNT  20u                             /* attempts of an hour; fewer are not judged */
#define ANOMALY_SCORE      3.5
#define ANOMALY_RUNNING    0.25 /* of the hour that runs; before, it is not judged */

enum anomaly_figure {
    FIGURE_COST,    /* USD */
    FIGURE_TOKENS,  /* input and output */
    FIGURE_LATENCY, /* p95, milliseconds */
    FIGURE_ERRORS,  /* share of attempts, 0 to 1 */
    FIGURE_TRAFFIC, /* attempts */
    ANOMALY_FIGURES
};

enum anomaly_kind {
    ANOMALY_COST_SPIKE,
    ANOMALY_TOKEN_SPIKE,
    ANOMALY_LATENCY_SPIKE,
    ANOMALY_ERROR_SPIKE,
    ANOMALY_TRAFFIC_SPIKE,
    ANOMALY_TRAFFIC_DROP,
    ANOMALY_LATENCY_DRIFT,
    ANOMALY_KINDS
};
const char *anomaly_kind_name(enum anomaly_kind k); /* "cost_spike" … */
const char *anomaly_unit(enum anomaly_kind k);      /* of its value: "usd" "tokens" "ms" "ratio" "attempts" */

enum anomaly_method { ANOMALY_WEEKLY, ANOMALY_DAILY, ANOMALY_RECENT, ANOMALY_EWMA, ANOMALY_METHODS };
const char *anomaly_method_name(enum anomaly_method m); /* "hour_of_week" "hour_of_day" "last_24h" "ewma" */

struct anomaly_hour {
    bool is_known;             /* false: before the provider was first seen, or its data is gone */
    double v[ANOMALY_FIGURES]; /* NaN: there were no attempts to tell by */
};

struct anomaly {
    enum anomaly_kind kind;
    size_t at; /* place of its hour */
    bool is_critical;
    bool is_running; /* of the hour that is not over: scaled up to a whole one */
    double value, expected, scale, score;
    double ratio; /* infinity when nothing was expected */
    enum anomaly_method method;
    unsigned samples; /* hours that it was held against */
};

struct anomaly_input {
    const struct anomaly_hour *hours; /* one after the other, oldest first, no gaps */
    size_t n;
    double running; /* how much of the last one is over, 0 to 1; 1: it is closed */
};

typedef void (*anomaly_fn)(void *user, const struct anomaly *a);
/* Judges every hour by those before it and tells what it finds, oldest first. */
void anomalies_find(const struct anomaly_input *in, anomaly_fn fn, void *user);
/* A finding lasts until two closed hours in a row are free of its kind. */
bool anomaly_is_active(const struct anomaly_input *in, size_t last_at);

#endif
