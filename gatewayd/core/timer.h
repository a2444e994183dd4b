/* SPDX-License-Identifier: Apache-2.0 */
/* Hierarchical timer wheel, 1 ms ticks, 4 levels of 64 slots (about 4.6 hours; longer waits are re-armed by
 * the wheel itself). Arming and cancelling are O(1); both may be called from a timer's own function. */
#ifndef CORE_TIMER_H
#define CORE_TIMER_H

#include <stdbool.h>

#include "libshared/base/clock.h"

struct timer;
typedef void (*timer_fn)(struct timer *);

struct timer {
    struct timer *next, **link; /* private; link is NULL while not armed */
    int64_t due_tick;
    timer_fn fn;
};

#define TIMER_LEVELS 4
#define TIMER_SLOTS  64

struct timer_wheel {
    struct timer *slots[TIMER_LEVELS][TIMER_SLOTS];
    uint64_t used[TIMER_LEVELS]; /* bit per slot that may hold timers */
    int64_t tick;                /* all timers due at or before it have fired */
};

void timer_wheel_init(struct timer_wheel *w, struct mono now);
/* (Re)arms: fires once, not before `now + delay_us`. */
void timer_arm(struct timer_wheel *w, struct timer *t, struct mono now, int64_t delay_us);
void timer_cancel(struct timer_wheel *w, struct timer *t);
static inline bool timer_is_armed(const struct timer *t)
{
    return t->link != 0;
}
/* Fires what is due; returns the number fired. */
int timer_wheel_run(struct timer_wheel *w, struct mono now);
/* Milliseconds until something may be due (an early answer is allowed), -1 when nothing is armed. */
int timer_wheel_next_ms(const struct timer_wheel *w, struct mono now);

#endif
