/* SPDX-License-Identifier: Apache-2.0 */
/* The last five minutes of one key: slots of ten seconds, each with count, errors, sum, extremes and, where
 * quantiles are asked for, the buckets of libshared/analytics/sketch. One writer; any thread may read at any
 * time. */
#ifndef TELEMETRY_WINDOW_H
#define TELEMETRY_WINDOW_H

#include <stdbool.h>

#include "libshared/analytics/sketch.h"
#include "libshared/base/clock.h"

#define WINDOW_SLOT_US 10000000
#define WINDOW_SLOTS   30 /* that are read; the ring has two more, which the writer may be clearing */
#define WINDOW_RING    32

struct window_slot;
struct window { /* zeroed is empty */
    struct window_slot *ring[WINDOW_RING];
};

struct window_sum { /* zeroed is empty */
    uint64_t count, errors, sum_us, min_us, max_us;
};

static inline uint64_t window_epoch(struct wall t)
{
    return t.us > 0 ? (uint64_t)t.us / WINDOW_SLOT_US : 0;
}

/* How many slots, the latest, hold nothing of before `since`. */
static inline unsigned window_slots_since(struct wall since, struct wall now)
{
    uint64_t n = window_epoch(now) - window_epoch(since);

    return since.us <= 0 || n >= WINDOW_SLOTS ? WINDOW_SLOTS : since.us > now.us ? 0 : (unsigned)n;
}

/* All calls for one window agree on `has_sketch`. */
void window_add(struct window *w, bool has_sketch, uint64_t epoch, uint64_t us, bool is_error);
/* Adds what happened in the window that ends with `epoch` to `sum` and, unless NULL, to `sketch`. */
void window_read(const struct window *w, uint64_t epoch, struct window_sum *sum, struct sketch *sketch);
/* The same of the last `slots` alone, at most WINDOW_SLOTS. */
void window_read_last(const struct window *w, uint64_t epoch, unsigned slots, struct window_sum *sum,
                      struct sketch *sketch);
void window_release(struct window *w, bool has_sketch);

#endif
