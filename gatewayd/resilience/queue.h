/* SPDX-License-Identifier: Apache-2.0 */
/* Slots of a provider (`max_concurrent`) and the bounded queue of those that wait for one. One queue per provider for all
 * threads; time is an argument.
 *
 *   try ──► slot ──► leave                       nobody waits: one atomic exchange each way, and no lock
 *    └────► enter ──► waits ──► granted ──► leave
 *                       └────► withdraw
 *
 * Who is next: priorities 1 to 5 share the slots that come free by 16 : 8 : 4 : 2 : 1, so that the first overtakes the others
 * and the last is still served; tenants of one priority take turns, a tenant that holds many slots less often; requests of one
 * tenant and priority in the order of their coming.
 *
 * One word holds both numbers, slots taken and requests waiting. Nobody passes by while somebody waits, and who waits is only
 * changed under the lock; so a slot that comes free finds whoever waits for it. */
#ifndef RESILIENCE_QUEUE_H
#define RESILIENCE_QUEUE_H

#include <stdbool.h>

#include "libshared/base/clock.h"
#include "libshared/base/compiler.h"
#include "libshared/base/intern.h"

#define QUEUE_PRIORITIES 5u /* 1 is the first to be served */
#define QUEUE_PRIORITY   3u /* of who says nothing */

struct config;
struct config_provider;
struct queues;
struct queue;

enum queue_verdict {
    QUEUE_GO,       /* a slot is held */
    QUEUE_WAITS,    /* it is in the queue */
    QUEUE_FULL,     /* as many wait as may */
    QUEUE_BYTES,    /* their bodies are as large as they may be */
    QUEUE_WAIT,     /* it would wait longer than anybody may */
    QUEUE_DEADLINE, /* it would wait longer than its client does */
    QUEUE_VERDICTS
};
const char *
queue_reason(enum queue_verdict v); /* of a refusal, as a label: "depth" "bytes" "wait" "deadline" */

struct queue_rules {
    uint32_t slots; /* 0: no limit */
    uint32_t max_depth;
    uint64_t max_bytes;
    int64_t max_wait_us;
};

struct queue_slot { /* a plain value; all zero: none */
    struct queue *of;
    uint8_t share; /* where its tenant's slots are counted */
    bool is_counted;
};

struct queue_lane; /* those of one tenant and priority */

struct queue_waiter { /* embedded in its owner, zeroed at first */
    label tenant;
    unsigned priority;      /* 1 … QUEUE_PRIORITIES */
    uint64_t bytes;         /* held in memory while it waits */
    struct mono until;      /* its client's patience; 0: none */
    struct queue_slot slot; /* once it was granted */
    /* It has a slot now. Called once, on the thread that left the slot, without the lock. */
    void (*granted)(struct queue_waiter *);

    struct queue *queue; /* private */
    struct queue_lane *spare[2];
    struct queue_waiter *next, **link;
    enum { WAITER_OUT, WAITER_IN, WAITER_GRANTED } state;
};

struct queue_report {
    uint32_t slots, used, depth;
    uint64_t bytes;
    int64_t wait_us; /* what is waiting needs about so long; 0: not known */
};

/* ---- one queue ---- */

struct queue *queue_new(const struct queue_rules *rules);
void queue_free(struct queue *q);
/* More slots are given out at once; fewer take effect as attempts end. */
void queue_set(struct queue *q, const struct queue_rules *rules, struct mono now);
/* A slot if there is one and nobody waits. `q` NULL has no limit. */
NODISCARD bool queue_try(struct queue *q, label tenant, struct queue_slot *out);
/* QUEUE_GO: `w->slot` is held. QUEUE_WAITS: `granted` will be called, or withdraw. Else it is refused. */
NODISCARD enum queue_verdict queue_enter(struct queue *q, struct queue_waiter *w, struct mono now,
                                         struct queue_report *out);
/* False: it is granted a slot already, and `granted` has been called or is about to. */
NODISCARD bool queue_withdraw(struct queue_waiter *w);
/* Once. The slot goes to who is next. */
void queue_leave(struct queue_slot *s, struct mono now);
/* What of the waiter's memory the queue does not need any more. Once it is out or granted. */
void queue_waiter_release(struct queue_waiter *w);

/* Attempts in flight, with or without a limit. Any thread, one load. */
uint32_t queue_in_flight(const struct queue *q);
/* `depth`, by priority from 1, may be NULL. */
void queue_look(struct queue *q, struct mono now, struct queue_report *out,
                uint32_t depth[QUEUE_PRIORITIES + 1]);

/* ---- those of all providers, by name, as long as the process lives ---- */

struct queues *queues_new(void);
void queues_free(struct queues *t);
/* Before the snapshot is published, under the lock of reloads: gives each provider its queue and that its rules. */
void queues_bind(struct queues *t, struct config *c, struct mono now);
/* NULL in a snapshot that is not bound. */
struct queue *queues_of(const struct config *c, const struct config_provider *p);
void queues_refused(struct queues *t, enum queue_verdict v); /* counts */

struct queues_row {
    label provider;
    struct queue_report report;
    uint32_t depth[QUEUE_PRIORITIES + 1]; /* by priority, from 1 */
};
struct queues_sums {
    uint32_t depth[QUEUE_PRIORITIES + 1];
    uint64_t refused[QUEUE_VERDICTS];
};
/* Fills at most `cap` rows; returns how many providers there are. */
size_t queues_list(struct queues *t, struct mono now, struct queues_row *out, size_t cap,
                   struct queues_sums *sums);

#endif
