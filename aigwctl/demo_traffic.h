/* SPDX-License-Identifier: Apache-2.0 */
/* The traffic of `aigwctl demo`: real requests over HTTP at a steady rate, buffered and streamed in turn, over all models
 * and tenants. */
#ifndef AIGWCTL_DEMO_TRAFFIC_H
#define AIGWCTL_DEMO_TRAFFIC_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "libshared/base/err.h"

struct demo_traffic;

struct demo_traffic_options {
    const char *url;
    json_t *keys; /* {tenant: key}, borrowed; the tenant named "refused" is expected to be */
    double per_s;
    int64_t for_ms; /* 0: until stopped */
};

struct demo_figures {
    uint64_t expected; /* due by now */
    uint64_t sent, answered, failed;
    uint64_t streamed, failed_over; /* of the answered */
    uint64_t barred,
        refused;            /* sent by the tenant that is to be refused, and refused; in none of the above */
    int64_t p50_us, p95_us; /* of the answered; -1 when none */
    char complaint[160];    /* what the latest failure was */
};

/* Reads the list of models, then starts. NULL when the gateway does not give one. */
struct demo_traffic *demo_traffic_start(const struct demo_traffic_options *o, struct err *err);
/* True once the time is over and every request has its answer. */
bool demo_traffic_is_done(struct demo_traffic *t);
struct demo_figures demo_traffic_figures(struct demo_traffic *t);
/* Cuts what is open. */
void demo_traffic_free(struct demo_traffic *t);

#endif
