/* SPDX-License-Identifier: Apache-2.0 */
/* Any thread. The board is written by one thread before it is published, then read by all and freed with its last reference. */
#include "gatewayd/resilience/health.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

static bool is_shut(const struct health_facts *f)
{
    return f->breakers && f->breakers_open == f->breakers;
}

static double error_rate_of(const struct health_facts *f)
{
    if (f->attempts)
        return (double)f->errors / (double)f->attempts;
    if (f->probe == HEALTH_NOT_PROBED)
        return NAN;
    return f->probe == HEALTH_PROBE_FAILED ? 1 : 0;
}

/* However fast the rest is answered: with this share of errors nobody would call the provider healthy. */
static enum health_cap cap_of(const struct health_facts *f, double error_rate)
{
    if (is_shut(f))
        return HEALTH_CAP_ALL_OPEN;
    if (error_rate >= 0.5)
        return HEALTH_CAP_ERRORS_50;
    return error_rate >= 0.1 ? HEALTH_CAP_ERRORS_10 : HEALTH_UNCAPPED;
}

static double most_under(enum health_cap cap)
{
    if (cap == HEALTH_UNCAPPED)
        return 100;
    return cap == HEALTH_CAP_ERRORS_10 ? HEALTH_HEALTHY - 1 : HEALTH_DEGRADED - 1;
}

static double availability_of(const struct health_facts *f, double error_rate)
{
    if (f->is_stopped || is_shut(f) || error_rate >= 1)
        return 0;
    return isnan(error_rate) ? NAN : 1;
}

struct health health_of(const struct health_facts *f)
{
    double target = f->p95_target_s > 0 ? f->p95_target_s : HEALTH_P95_TARGET;
    double error_rate = error_rate_of(f);
    struct health h = {.is_known = !isnan(error_rate) || is_shut(f),
                       .error_rate = error_rate,
                       .availability = availability_of(f, error_rate)};
    double sum;

    if (!h.is_known)
        return h;
    h.success = HEALTH_POINTS_SUCCESS * (1 - (isnan(error_rate) ? 0 : error_rate));
    h.latency = HEALTH_POINTS_LATENCY;
    if (!isnan(f->p95_s) && f->p95_s > target)
        h.latency *= target / f->p95_s;
    h.breakers = HEALTH_POINTS_BREAKERS;
    if (f->breakers)
        h.breakers *= 1 - (f->breakers_open + 0.5 * f->breakers_half_open) / f->breakers;
    h.cap = cap_of(f, error_rate);
    h.capped_at = most_under(h.cap);
    sum = h.success + h.latency + h.breakers;
    h.score = fmin(sum, h.capped_at);
    if (sum <= h.capped_at)
        h.cap = HEALTH_UNCAPPED;
    return h;
}

double health_rounded(double score)
{
    return round(score * 10) / 10;
}

/* By the figure that is shown: what reads 80.0 is healthy. */
const char *health_name(const struct health *h)
{
    double shown = health_rounded(h->score);

    if (!h->is_known)
        return "unknown";
    if (shown >= HEALTH_HEALTHY)
        return "healthy";
    return shown >= HEALTH_DEGRADED ? "degraded" : "unhealthy";
}

const char *health_cap_text(enum health_cap cap)
{
    switch (cap) {
    case HEALTH_CAP_ERRORS_10:
        return "10 % errors or more";
    case HEALTH_CAP_ERRORS_50:
        return "50 % errors or more";
    case HEALTH_CAP_ALL_OPEN:
        return "every breaker is open";
    case HEALTH_UNCAPPED:
        break;
    }
    return NULL;
}

/* ---- the board ------------------------------------------------------------------------------------------------------- */

struct health_board *health_board_new(size_t n)
{
    struct health_board *b = calloc(1, sizeof(*b) + n * sizeof(*b->rows));

    if (!b)
        abort();
    b->refs = 1;
    b->n = n;
    return b;
}

struct health_board *health_board_ref(struct health_board *b)
{
    if (b)
        atomic_fetch_add(&b->refs, 1);
    return b;
}

void health_board_unref(struct health_board *b)
{
    if (b && atomic_fetch_sub(&b->refs, 1) == 1)
        free(b);
}

const struct health_row *health_board_find(const struct health_board *b, label provider)
{
    for (size_t i = 0; b && i < b->n; i++)
        if (b->rows[i].provider == provider)
            return &b->rows[i];
    return NULL;
}
