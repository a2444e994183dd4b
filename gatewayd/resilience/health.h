/* SPDX-License-Identifier: Apache-2.0 */
/* Health of a provider, 0 to 100, from the attempts of the last minutes, and the board on which the health of all providers is
 * published at once. Pure.
 *
 *   score = 50 x success rate + 30 x min(1, target / p95) + 20 x (1 - (open + half open / 2) / breakers), at most
 *           79 from 10 % errors on, 49 from 50 % errors on or while every breaker is open
 *
 * Without attempts the last probe counts as the only one. */
#ifndef RESILIENCE_HEALTH_H
#define RESILIENCE_HEALTH_H

#include "libshared/base/clock.h"
#include "libshared/base/compiler.h"
#include "libshared/base/intern.h"

#define HEALTH_POINTS_SUCCESS  50.0
#define HEALTH_POINTS_LATENCY  30.0
#define HEALTH_POINTS_BREAKERS 20.0
#define HEALTH_P95_TARGET      2.0 /* seconds, where none is said; slower costs points in proportion */
#define HEALTH_HEALTHY         80.0
#define HEALTH_DEGRADED        50.0

enum health_probe { HEALTH_NOT_PROBED, HEALTH_PROBE_OK, HEALTH_PROBE_FAILED };

struct health_facts {
    uint64_t attempts, errors;                            /* in the window */
    double p95_s;                                         /* NaN when unknown: costs nothing */
    unsigned breakers, breakers_open, breakers_half_open; /* all 0 where there are none */
    double p95_target_s;                                  /* 0: HEALTH_P95_TARGET */
    enum health_probe probe;                              /* the last one that still counts */
    bool is_stopped; /* nobody is routed to it, by configuration or operator */
};

enum health_cap { HEALTH_UNCAPPED, HEALTH_CAP_ERRORS_10, HEALTH_CAP_ERRORS_50, HEALTH_CAP_ALL_OPEN };

struct health {
    bool
        is_known; /* false with neither traffic nor probe, unless every breaker is open; only is_available holds then */
    double score;
    double success, latency, breakers; /* its terms, before the cap */
    double error_rate;                 /* NaN when neither attempts nor a probe say */
    enum health_cap cap; /* what held the sum down; HEALTH_UNCAPPED too when it is below anyway */
    double capped_at;    /* with it */
    double availability; /* 1 it can be used, 0 it cannot, NaN not known */
};

struct health health_of(const struct health_facts *f);
/* "healthy", "degraded", "unhealthy", "unknown". */
const char *health_name(const struct health *h);
/* Why it was capped, in words; NULL when it was not. */
const char *health_cap_text(enum health_cap cap);
/* To one decimal, as every page shows it. */
double health_rounded(double score);

/* ---- the board ------------------------------------------------------------------------------------------------------- */

#define HEALTH_PROBE_TEXT 120

struct health_row {
    label provider;
    struct health_facts facts; /* of all nodes together */
    struct health health;
    double p50_s;                       /* NaN when unknown */
    unsigned nodes;                     /* whose attempts are in it */
    struct wall last_attempt, probed;   /* on any node; 0: never */
    int64_t probe_us;                   /* how long that probe took */
    char probe_text[HEALTH_PROBE_TEXT]; /* what came of it */
};

/* Immutable once published. Any thread. */
struct health_board {
    _Atomic unsigned refs; /* private */
    struct wall at;
    int64_t window_us, interval_us;
    bool is_shared; /* other nodes were asked, and answered through the realtime store */
    size_t n;
    struct health_row rows[]; /* by name */
};

struct health_board *health_board_new(size_t n);
struct health_board *health_board_ref(struct health_board *b); /* NULL is fine */
void health_board_unref(struct health_board *b);
/* NULL when there is none. */
const struct health_row *health_board_find(const struct health_board *b, label provider);

#endif
