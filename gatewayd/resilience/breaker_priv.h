/* SPDX-License-Identifier: Apache-2.0 */
/* What breaker.c (the machine, attempts, looking) and breaker_others.c (operators, other nodes) share. */
#ifndef RESILIENCE_BREAKER_PRIV_H
#define RESILIENCE_BREAKER_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "gatewayd/resilience/breaker.h"

#define BREAKER_SLOTS  (2 * LIMIT_BREAKERS) /* a power of two, at most half full */
#define BREAKER_SLICES 10                   /* of the sliding window */

_Static_assert((BREAKER_SLOTS & (BREAKER_SLOTS - 1)) == 0, "slots are masked");

struct slice {
    int64_t number; /* of the slice since the clock's beginning */
    uint32_t attempts, failures;
};
struct probe {
    uint32_t serial;
    struct mono until; /* 0: the place is free */
};

struct listener { /* of changes; NULL: nobody */
    breaker_change_fn fn;
    void *user;
};

struct breaker {
    label provider, model;
    const struct listener *listener; /* the table's */
    _Atomic uint64_t word;           /* epoch << 1 | is not simply closed */
    _Atomic uint32_t cuts;           /* times that it was forced open without patience */
    pthread_mutex_t lock;
    enum breaker_state state;
    unsigned failures, successes, laps;
    struct mono pause_end, opened; /* opened: when it was last closed until then */
    struct wall since, changed;
    struct slice slices[BREAKER_SLICES];
    struct probe *probes;
    unsigned n_probes;
    uint32_t serial;
    struct breaker_forced forced; /* BREAKER_AUTO with .at: it was forced once */
    char cause[BREAKER_TEXT];
    struct breaker_change history[BREAKER_HISTORY]; /* a ring */
    uint64_t n_history;
    uint64_t transitions[BREAKER_STATES], recoveries[BREAKER_BUCKETS + 1], recovery_sum_us;
    int64_t recovery_us;
    bool is_news;
    bool is_adopting; /* the change that is being recorded is another node's */
    uint64_t seen;    /* round in which another node, or this one through the store, was heard of it */
};

struct breakers {
    pthread_mutex_t lock; /* for additions, and round */
    struct breaker *_Atomic slots[BREAKER_SLOTS];
    _Atomic unsigned n;
    _Atomic uint64_t random;
    uint64_t round;
    struct listener listener;
};

static inline unsigned breaker_slot(label provider, label model)
{
    uint64_t h = ((uint64_t)provider << 32 | model) * 0x9e3779b97f4a7c15u;

    return (unsigned)(h >> 40) & (BREAKER_SLOTS - 1);
}

static inline struct breaker *breaker_find(struct breakers *t, label provider, label model)
{
    for (unsigned i = breaker_slot(provider, model);; i = (i + 1) & (BREAKER_SLOTS - 1)) {
        struct breaker *b = atomic_load_explicit(&t->slots[i], memory_order_acquire);

        if (!b || (b->provider == provider && b->model == model))
            return b;
    }
}

/* Adds it, unless another thread just did. */
struct breaker *breaker_make(struct breakers *t, label provider, label model);
/* NULL when the table is full: what has no breaker is never refused. */
static inline struct breaker *breaker_get(struct breakers *t, label provider, label model)
{
    struct breaker *b = breaker_find(t, provider, model);

    return b ? b : breaker_make(t, provider, model);
}

/* ---- the rest under the breaker's lock ---- */

static inline enum breaker_state breaker_in_effect(const struct breaker *b)
{
    switch (b->forced.force) {
    case BREAKER_FORCED_OPEN:
        return BREAKER_OPEN;
    case BREAKER_FORCED_CLOSED:
        return BREAKER_CLOSED;
    case BREAKER_AUTO:
        break;
    }
    return b->state;
}

static inline struct wall breaker_newer(struct wall now, struct wall seen)
{
    return (struct wall){now.us > seen.us ? now.us : seen.us + 1};
}

/* The stamp of a forced state's end: newer than its beginning and older than whatever was said after that, here or elsewhere,
 * though nobody may have heard it yet. */
static inline struct wall breaker_end_of(const struct breaker_forced *f)
{
    return (struct wall){f->at.us + 1};
}

static inline struct wall breaker_wall_of(struct mono t, struct breaker_now now)
{
    return (struct wall){now.wall.us + mono_diff_us(t, now.mono)};
}

/* A new epoch: what was admitted before it says nothing any more. */
void breaker_new_epoch(struct breaker *b);
/* Writes the change from what was in effect down, with its cause. */
void breaker_note(struct breaker *b, enum breaker_state from, struct breaker_now now, const char *cause);
/* The one way into another state. */
void breaker_move(struct breaker *b, enum breaker_state to, struct breaker_now now, const char *cause);
/* It changed here: other nodes should know. */
void breaker_tell(struct breaker *b, struct breaker_now now);
/* What time alone changes. */
void breaker_due(struct breaker *b, struct breaker_now now);

#endif
