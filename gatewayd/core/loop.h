/* SPDX-License-Identifier: Apache-2.0 */
/* One thread's event loop: epoll (level-triggered), a timer wheel, a deferred list, an end-of-turn hook.
 * A turn is: wait, dispatch events, fire timers, run deferred work, run the end-of-turn hooks. Nothing here
 * locks. */
#ifndef CORE_LOOP_H
#define CORE_LOOP_H

#include <stdbool.h>
#include <sys/epoll.h>

#include "gatewayd/core/timer.h"
#include "libshared/base/err.h"

struct loop;
struct loop_watch;
typedef void (*loop_watch_fn)(struct loop_watch *, uint32_t events);

/* Embedded in its owner. After loop_unwatch() its function is not called again, not even for events of the
 * same turn that are already fetched. */
struct loop_watch {
    int fd;
    loop_watch_fn fn;
    uint32_t slot; /* private: index + 1 in the loop's table, 0 when not watched */
};

/* Work for the next turn's end: handles that a library calls back are destroyed here, never in their
 * callback. */
struct loop_task {
    struct loop_task *next; /* private */
    bool queued;            /* private */
    void (*fn)(struct loop_task *);
};

struct loop_hook { /* called at the end of every turn, in order of addition */
    struct loop_hook *next;
    /* Returns true when it left work that must not wait for an event (the next wait does not block). */
    bool (*fn)(struct loop_hook *);
};

struct loop *loop_new(struct err *err);
void loop_free(struct loop *l);
NODISCARD enum err_code loop_watch(struct loop *l, struct loop_watch *w, uint32_t events);
NODISCARD enum err_code loop_rewatch(struct loop *l, struct loop_watch *w, uint32_t events);
void loop_unwatch(struct loop *l, struct loop_watch *w);
void loop_timer(struct loop *l, struct timer *t, int64_t delay_us);
void loop_timer_cancel(struct loop *l, struct timer *t);
void loop_defer(struct loop *l, struct loop_task *t);
void loop_defer_cancel(struct loop *l, struct loop_task *t);
void loop_add_hook(struct loop *l, struct loop_hook *h);
void loop_remove_hook(struct loop *l, struct loop_hook *h); /* not from inside a hook */
/* Time at the start of this turn: cheap, and the same for all that happens in it. */
struct mono loop_now(const struct loop *l);
struct wall loop_wall(const struct loop *l);
/* How long the turn before this one took: what an event waits before it is looked at. */
int64_t loop_lag_us(const struct loop *l);
/* One turn; waits at most `max_wait_ms` (-1: until an event or timer). */
void loop_turn(struct loop *l, int max_wait_ms);
/* Turns until loop_stop(). */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);

struct loop_stats {
    uint64_t turns;
    uint64_t events;
    uint64_t empty_turns; /* woke with nothing to do: rises when something spins */
    uint64_t busy_us;     /* time spent outside the wait */
    uint64_t max_turn_us; /* longest turn so far */
};
/* Any thread may read (relaxed). */
struct loop_stats loop_stats_mt(const struct loop *l);

#endif
