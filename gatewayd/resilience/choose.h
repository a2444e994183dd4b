/* SPDX-License-Identifier: Apache-2.0 */
/* The order in which the targets of a model are tried, by its strategy. Pure: what is known of each target is an argument, and
 * so is chance. Whatever the strategy puts first, the others follow as the way of failing over; ties keep the configured order.
 *
 *   priority    as configured
 *   weighted    one drawn by weight, the others as configured
 *   latency     fastest first; one that is not known yet, or not any more, is tried by one request at a time, and one request
 *               in CHOOSE_EXPLORE goes to another than the fastest
 *   cost        what the request can cost at most, cheapest first; a target without a price comes last
 *   health      score, best first; CHOOSE_UNKNOWN_HEALTH where it is not known
 *   least_busy  attempts in flight, fewest first; among those that have as few, one by chance */
#ifndef RESILIENCE_CHOOSE_H
#define RESILIENCE_CHOOSE_H

#include "gatewayd/config/config.h"

#define CHOOSE_EXPLORE        20u
#define CHOOSE_UNKNOWN_HEALTH 80.0

struct choice { /* a target */
    unsigned weight, in_flight;
    bool was_tried;       /* not long ago; with latency_us -1 it failed, or is still at it */
    int64_t latency_us;   /* -1: not known */
    int64_t cost_nanousd; /* -1: it has no price */
    double health;        /* NaN: not known */
};

/* Fills `order` with the places of the `n` targets. */
void choose_order(enum config_strategy strategy, const struct choice *c, size_t n, uint64_t random,
                  size_t *order);

#endif
