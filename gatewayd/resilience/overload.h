/* SPDX-License-Identifier: Apache-2.0 */
/* What the whole process has taken on, so that it refuses early instead of slowing down for all: open requests and the bytes
 * of their bodies, in one word. Any thread; one atomic exchange at each end of a request. */
#ifndef RESILIENCE_OVERLOAD_H
#define RESILIENCE_OVERLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "libshared/base/compiler.h"

enum overload_reason { OVERLOAD_NONE, OVERLOAD_REQUESTS, OVERLOAD_MEMORY, OVERLOAD_LAG, OVERLOAD_REASONS };
const char *overload_reason_name(enum overload_reason r); /* as a label: "requests" "memory" "lag" */

struct overload_rules { /* 0: no limit */
    uint32_t max_requests;
    uint64_t max_bytes;
    int64_t max_lag_us;
};

struct overload;
struct overload *overload_new(void);
void overload_free(struct overload *o);
/* A request begins, on a thread whose loop is late by `lag_us`. NONE: it counts until it leaves. */
NODISCARD enum overload_reason overload_enter(struct overload *o, const struct overload_rules *r,
                                              int64_t lag_us);
/* Its body of that size is taken into memory; false: there is no room, nothing was counted. */
NODISCARD bool overload_hold(struct overload *o, const struct overload_rules *r, uint64_t bytes);
void overload_drop(struct overload *o, uint64_t bytes);
void overload_leave(struct overload *o);
void overload_refused(struct overload *o, enum overload_reason r); /* counts */

struct overload_view {
    uint64_t requests, bytes;
    uint64_t refused[OVERLOAD_REASONS];
};
struct overload_view overload_look(const struct overload *o);

#endif
