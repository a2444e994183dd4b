/* SPDX-License-Identifier: Apache-2.0 */
/* Health of a provider, 0 to 100, from the attempts of the last minutes: success 50, latency 30, breakers 20 points. Pure. */
#ifndef RESILIENCE_HEALTH_H
#define RESILIENCE_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#define HEALTH_WINDOW_S   300
#define HEALTH_P95_TARGET 2.0 /* seconds; slower costs points in proportion */
#define HEALTH_HEALTHY    80.0
#define HEALTH_DEGRADED   50.0

struct health_facts {
    uint64_t attempts, errors;                            /* in the window */
    double p95_s;                                         /* NaN when unknown: costs nothing */
    unsigned breakers, breakers_open, breakers_half_open; /* all 0 where there are none */
};

struct health {
    bool is_known; /* false without traffic, unless every breaker is open; nothing else holds then */
    double score;
    double success, latency, breakers; /* its terms, before the caps */
};

struct health health_of(const struct health_facts *f);
/* "healthy", "degraded", "unhealthy", "unknown". */
const char *health_name(const struct health *h);

#endif
