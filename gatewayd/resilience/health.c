/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/resilience/health.h"

#include <math.h>

#define POINTS_SUCCESS  50.0
#define POINTS_LATENCY  30.0
#define POINTS_BREAKERS 20.0

/* However fast the rest is answered: with this share of errors nobody would call the provider healthy. */
static double cap_of(const struct health_facts *f, double error_rate)
{
    if (error_rate >= 0.5 || (f->breakers && f->breakers_open == f->breakers))
        return HEALTH_DEGRADED - 1;
    return error_rate >= 0.1 ? HEALTH_HEALTHY - 1 : 100.0;
}

struct health health_of(const struct health_facts *f)
{
    bool is_shut = f->breakers && f->breakers_open == f->breakers;
    struct health h = {.is_known = f->attempts > 0 || is_shut};
    double error_rate;

    if (!h.is_known)
        return h;
    error_rate = f->attempts ? (double)f->errors / (double)f->attempts : 0;
    h.success = POINTS_SUCCESS * (1 - error_rate);
    h.latency = POINTS_LATENCY;
    if (!isnan(f->p95_s) && f->p95_s > HEALTH_P95_TARGET)
        h.latency *= HEALTH_P95_TARGET / f->p95_s;
    h.breakers = POINTS_BREAKERS;
    if (f->breakers)
        h.breakers *= 1 - (f->breakers_open + 0.5 * f->breakers_half_open) / f->breakers;
    h.score = fmin(h.success + h.latency + h.breakers, cap_of(f, error_rate));
    return h;
}

const char *health_name(const struct health *h)
{
    if (!h->is_known)
        return "unknown";
    if (h->score >= HEALTH_HEALTHY)
        return "healthy";
    return h->score >= HEALTH_DEGRADED ? "degraded" : "unhealthy";
}
