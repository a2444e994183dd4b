/* SPDX-License-Identifier: Apache-2.0 */
/* A loop whose only events are a mailbox and a timer. Letters are counted when they are posted and when they are opened, so
 * the queue is bounded without a lock; the count goes down before the letter runs, since the letter may be gone after it. */
#include "gatewayd/api/store_thread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct store_thread {
    struct store_thread_options o;
    struct loop *loop;
    struct mailbox *mailbox;
    struct timer timer;
    struct letter stop;
    _Atomic unsigned n_queued;
    _Atomic bool is_over;
    pthread_t thread;
    bool is_started;
};

/* The caller's letter travels inside another, which knows what to count. */
struct parcel {
    struct letter letter;
    struct store_thread *to;
    struct letter *inner;
};

static void open_parcel(struct letter *l)
{
    struct parcel *p = CONTAINER_OF(l, struct parcel, letter);
    struct letter *inner = p->inner;

    (void)atomic_fetch_sub(&p->to->n_queued, 1);
    free(p);
    inner->fn(inner);
}

bool store_thread_post_mt(struct store_thread *t, struct letter *l)
{
    struct parcel *p;

    if (atomic_fetch_add(&t->n_queued, 1) >= t->o.max_queued) {
        (void)atomic_fetch_sub(&t->n_queued, 1);
        return false;
    }
    p = malloc(sizeof(*p));
    if (!p)
        abort();
    *p = (struct parcel){.letter.fn = open_parcel, .to = t, .inner = l};
    mailbox_post_mt(t->mailbox, &p->letter);
    return true;
}

bool store_thread_is_over_mt(const struct store_thread *t)
{
    return atomic_load(&t->is_over);
}

static void on_tick(struct timer *timer)
{
    struct store_thread *t = CONTAINER_OF(timer, struct store_thread, timer);

    loop_timer(t->loop, timer, t->o.tick(t->o.user));
}

static void *run(void *arg)
{
    struct store_thread *t = arg;

    (void)pthread_setname_np(pthread_self(), t->o.name);
    loop_run(t->loop);
    return NULL;
}

struct store_thread *store_thread_start(const struct store_thread_options *o, struct err *err)
{
    struct store_thread *t = calloc(1, sizeof(*t));

    if (!t)
        abort();
    t->o = *o;
    t->timer.fn = on_tick;
    t->loop = loop_new(err);
    t->mailbox = t->loop ? mailbox_new(t->loop, err) : NULL;
    if (!t->mailbox) {
        store_thread_stop(t);
        return NULL;
    }
    if (o->tick)
        loop_timer(t->loop, &t->timer, 0);
    if (pthread_create(&t->thread, NULL, run, t) != 0) {
        (void)err_set(err, ERR_IO, "thread '%s' cannot be started", o->name);
        store_thread_stop(t);
        return NULL;
    }
    t->is_started = true;
    return t;
}

static void on_stop(struct letter *l)
{
    loop_stop(CONTAINER_OF(l, struct store_thread, stop)->loop);
}

void store_thread_stop(struct store_thread *t)
{
    if (!t)
        return;
    atomic_store(&t->is_over, true);
    if (t->is_started) {
        t->stop.fn = on_stop;
        mailbox_post_mt(t->mailbox, &t->stop);
        (void)pthread_join(t->thread, NULL);
    }
    mailbox_free(t->mailbox); /* opens what is left */
    if (t->loop)
        loop_timer_cancel(t->loop, &t->timer);
    loop_free(t->loop);
    free(t);
}
