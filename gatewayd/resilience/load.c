/* SPDX-License-Identifier: Apache-2.0 */
/* The table only grows, so that a counter is found without a lock and lives until the table's end. A latency is an average in
 * which each new answer counts for an eighth; two workers that note at once may lose one of the two, which an average bears. */
#include "gatewayd/resilience/load.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "gatewayd/config/limits.h"

#define SLOTS (2 * LIMIT_BREAKERS) /* a power of two, at most half full */
#define PART  8

_Static_assert((SLOTS & (SLOTS - 1)) == 0, "slots are masked");

struct speed {
    _Atomic int64_t us, at_us; /* at_us 0: never */
};

struct load {
    label provider, model;
    _Atomic unsigned in_flight;
    _Atomic int64_t began_us;
    struct speed speeds[2]; /* of streams: 1 */
};

struct loads {
    pthread_mutex_t lock; /* for additions */
    unsigned n;
    struct load *_Atomic slots[SLOTS];
};

struct loads *loads_new(void)
{
    struct loads *t = calloc(1, sizeof(*t));

    if (!t)
        abort();
    (void)pthread_mutex_init(&t->lock, NULL);
    return t;
}

void loads_free(struct loads *t)
{
    if (!t)
        return;
    for (unsigned i = 0; i < SLOTS; i++)
        free(atomic_load(&t->slots[i]));
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
}

/* Its slot, or the free one where it belongs. */
static struct load *_Atomic *slot_of(struct loads *t, label provider, label model)
{
    uint64_t h = ((uint64_t)provider << 32 | model) * 0x9e3779b97f4a7c15u;

    for (unsigned i = (unsigned)(h >> 40) & (SLOTS - 1);; i = (i + 1) & (SLOTS - 1)) {
        const struct load *l = atomic_load_explicit(&t->slots[i], memory_order_acquire);

        if (!l || (l->provider == provider && l->model == model))
            return &t->slots[i];
    }
}

static struct load *add(struct loads *t, label provider, label model)
{
    struct load *_Atomic *slot = slot_of(t, provider, model);
    struct load *l = atomic_load(slot);

    if (l || t->n == LIMIT_BREAKERS)
        return l;
    l = calloc(1, sizeof(*l));
    if (!l)
        abort();
    l->provider = provider;
    l->model = model;
    t->n++;
    atomic_store_explicit(slot, l, memory_order_release);
    return l;
}

struct load *load_of(struct loads *t, label provider, label model)
{
    struct load *l = atomic_load_explicit(slot_of(t, provider, model), memory_order_acquire);

    if (l)
        return l;
    (void)pthread_mutex_lock(&t->lock);
    l = add(t, provider, model);
    (void)pthread_mutex_unlock(&t->lock);
    return l;
}

void load_begin(struct load *l, struct mono now)
{
    if (!l)
        return;
    atomic_fetch_add_explicit(&l->in_flight, 1, memory_order_relaxed);
    atomic_store_explicit(&l->began_us, now.us, memory_order_relaxed);
}

void load_end(struct load *l)
{
    if (l)
        atomic_fetch_sub_explicit(&l->in_flight, 1, memory_order_relaxed);
}

void load_note(struct load *l, bool is_stream, int64_t us, struct mono now)
{
    struct speed *s;
    int64_t was, at;

    if (!l || us < 0)
        return;
    s = &l->speeds[is_stream];
    was = atomic_load_explicit(&s->us, memory_order_relaxed);
    at = atomic_load_explicit(&s->at_us, memory_order_relaxed);
    if (!at || now.us - at > LOAD_FRESH_US)
        was = us;
    atomic_store_explicit(&s->us, was + (us - was) / PART, memory_order_relaxed);
    atomic_store_explicit(&s->at_us, now.us, memory_order_relaxed);
}

static int64_t fresh(const struct speed *s, struct mono now)
{
    int64_t at = atomic_load_explicit(&s->at_us, memory_order_relaxed);

    return at && now.us - at <= LOAD_FRESH_US ? atomic_load_explicit(&s->us, memory_order_relaxed) : -1;
}

struct load_view load_look(const struct load *l, bool is_stream, struct mono now)
{
    struct load_view v = {.latency_us = -1};
    int64_t began;

    if (!l)
        return v;
    v.in_flight = atomic_load_explicit(&l->in_flight, memory_order_relaxed);
    began = atomic_load_explicit(&l->began_us, memory_order_relaxed);
    v.was_tried = began && now.us - began <= LOAD_TRIAL_US;
    v.latency_us = fresh(&l->speeds[is_stream], now);
    if (v.latency_us < 0)
        v.latency_us = fresh(&l->speeds[!is_stream], now);
    return v;
}
