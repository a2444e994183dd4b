/* SPDX-License-Identifier: Apache-2.0 */
/* Each strategy is a key: the smaller goes first. Targets are few, so they are sorted by insertion, which keeps ties in place. */
#include "gatewayd/resilience/choose.h"

#include <math.h>

#define LAST 1e30

static double latency_key(const struct choice *c)
{
    if (c->latency_us >= 0)
        return (double)c->latency_us;
    return c->was_tried || c->in_flight ? LAST : -1;
}

static double key_of(enum config_strategy s, const struct choice *c)
{
    switch (s) {
    case STRATEGY_LATENCY:
        return latency_key(c);
    case STRATEGY_COST:
        return c->cost_nanousd >= 0 ? (double)c->cost_nanousd : LAST;
    case STRATEGY_HEALTH:
        return -(isnan(c->health) ? CHOOSE_UNKNOWN_HEALTH : c->health);
    case STRATEGY_LEAST_BUSY:
        return c->in_flight;
    case STRATEGY_PRIORITY:
    case STRATEGY_WEIGHTED:
        break;
    }
    return 0;
}

static void sort(enum config_strategy s, const struct choice *c, size_t n, size_t *order)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = i;

        for (; at > 0 && key_of(s, &c[order[at - 1]]) > key_of(s, &c[i]); at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

static void move_to_front(size_t *order, size_t at)
{
    size_t first = order[at];

    for (; at > 0; at--)
        order[at] = order[at - 1];
    order[0] = first;
}

static size_t drawn_by_weight(const struct choice *c, size_t n, uint64_t random)
{
    uint64_t total = 0;

    for (size_t i = 0; i < n; i++)
        total += c[i].weight;
    if (!total)
        return 0;
    random %= total;
    for (size_t i = 0; i < n; i++) {
        if (random < c[i].weight)
            return i;
        random -= c[i].weight;
    }
    return 0;
}

static size_t drawn_from_idlest(const struct choice *c, size_t n, const size_t *order, uint64_t random)
{
    size_t tied = 1;

    while (tied < n && c[order[tied]].in_flight == c[order[0]].in_flight)
        tied++;
    return (size_t)(random % tied);
}

void choose_order(enum config_strategy strategy, const struct choice *c, size_t n, uint64_t random,
                  size_t *order)
{
    sort(strategy, c, n, order);
    if (n < 2)
        return;
    if (strategy == STRATEGY_WEIGHTED)
        move_to_front(order, drawn_by_weight(c, n, random));
    else if (strategy == STRATEGY_LEAST_BUSY)
        move_to_front(order, drawn_from_idlest(c, n, order, random));
    else if (strategy == STRATEGY_LATENCY && random % CHOOSE_EXPLORE == 0)
        move_to_front(order, 1 + (size_t)(random / CHOOSE_EXPLORE % (n - 1)));
}
