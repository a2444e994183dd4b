/* SPDX-License-Identifier: Apache-2.0 */
/* The queues of all providers. Made and bound under the lock of reloads, looked at by any thread; `lock` guards the list. A
 * queue is never taken away: its provider may come back, and requests of an older snapshot still use it. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "gatewayd/config/config.h"
#include "gatewayd/resilience/queue.h"

struct entry {
    label provider;
    struct queue *queue;
    uint64_t generation;
    struct entry *next;
};

struct queues {
    pthread_mutex_t lock;
    struct entry *entries;
    uint64_t generation;
    _Atomic uint64_t refused[QUEUE_VERDICTS];
};

struct queues *queues_new(void)
{
    struct queues *t = calloc(1, sizeof(*t));

    if (!t)
        abort();
    (void)pthread_mutex_init(&t->lock, NULL);
    return t;
}

void queues_free(struct queues *t)
{
    if (!t)
        return;
    while (t->entries) {
        struct entry *e = t->entries;

        t->entries = e->next;
        queue_free(e->queue);
        free(e);
    }
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
}

static struct queue_rules rules_of(const struct config *c, uint32_t slots)
{
    return (struct queue_rules){.slots = slots,
                                .max_depth = c->queue.max_depth,
                                .max_bytes = c->queue.max_bytes,
                                .max_wait_us = c->queue.max_wait_us};
}

static struct entry *entry_of(struct queues *t, label provider)
{
    static const struct queue_rules NONE = {0};
    struct entry *e;

    (void)pthread_mutex_lock(&t->lock);
    for (e = t->entries; e && e->provider != provider;)
        e = e->next;
    if (!e) {
        e = calloc(1, sizeof(*e));
        if (!e)
            abort();
        *e = (struct entry){.provider = provider, .queue = queue_new(&NONE), .next = t->entries};
        t->entries = e;
    }
    (void)pthread_mutex_unlock(&t->lock);
    return e;
}

void queues_bind(struct queues *t, struct config *c, struct mono now)
{
    struct queue **out;

    if (c->queues)
        return;
    t->generation++;
    out = arena_array(&c->arena, struct queue *, c->n_providers + 1);
    for (size_t i = 0; i < c->n_providers; i++) {
        struct entry *e = entry_of(t, c->providers[i].label);
        struct queue_rules rules = rules_of(c, c->providers[i].max_concurrent);

        queue_set(e->queue, &rules, now);
        e->generation = t->generation;
        out[i] = e->queue;
    }
    for (struct entry *e = t->entries; e; e = e->next) { /* not configured any more: who waits there may go */
        struct queue_rules rules = rules_of(c, 0);

        if (e->generation != t->generation)
            queue_set(e->queue, &rules, now);
    }
    c->queues = out;
}

struct queue *queues_of(const struct config *c, const struct config_provider *p)
{
    return c->queues ? c->queues[p->index] : NULL;
}

void queues_refused(struct queues *t, enum queue_verdict v)
{
    atomic_fetch_add_explicit(&t->refused[v], 1, memory_order_relaxed);
}

size_t queues_list(struct queues *t, struct mono now, struct queues_row *out, size_t cap,
                   struct queues_sums *sums)
{
    size_t n = 0;

    *sums = (struct queues_sums){0};
    (void)pthread_mutex_lock(&t->lock);
    for (const struct entry *e = t->entries; e; e = e->next, n++) {
        struct queues_row row = {.provider = e->provider};

        queue_look(e->queue, now, &row.report, row.depth);
        for (unsigned p = 1; p <= QUEUE_PRIORITIES; p++)
            sums->depth[p] += row.depth[p];
        if (n < cap)
            out[n] = row;
    }
    (void)pthread_mutex_unlock(&t->lock);
    for (unsigned v = 0; v < QUEUE_VERDICTS; v++)
        sums->refused[v] = atomic_load_explicit(&t->refused[v], memory_order_relaxed);
    return n;
}
