/* SPDX-License-Identifier: Apache-2.0 */
/* What the targets are doing now: attempts in flight and how fast they answered lately, one counter per provider and model that
 * all workers share. Any thread, without locks but for additions. */
#ifndef RESILIENCE_LOAD_H
#define RESILIENCE_LOAD_H

#include <stdbool.h>

#include "libshared/base/clock.h"
#include "libshared/base/intern.h"

#define LOAD_FRESH_US ((int64_t)300 * 1000000) /* an older latency is not known any more */
#define LOAD_TRIAL_US                                                                                        \
    ((int64_t)10 * 1000000) /* a target that was tried and did not answer is left alone so long */

struct loads;
struct load;

struct loads *loads_new(void);
void loads_free(struct loads *t);
/* Made when it is not there; NULL when the table is full, which all functions below take for a target that does nothing. */
struct load *load_of(struct loads *t, label provider, label model);

void load_begin(struct load *l, struct mono now);
void load_end(struct load *l);
/* Of an attempt that succeeded: a stream's time to its first content, else its whole duration. */
void load_note(struct load *l, bool is_stream, int64_t us, struct mono now);

struct load_view {
    unsigned in_flight;
    bool was_tried; /* within LOAD_TRIAL_US */
    int64_t
        latency_us; /* of streams or of others, as was asked; of the other kind when that alone is known; -1: none */
};
struct load_view load_look(const struct load *l, bool is_stream, struct mono now);

#endif
