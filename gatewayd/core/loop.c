/* SPDX-License-Identifier: Apache-2.0 */
/* epoll carries a slot number and a generation, not a pointer: an event fetched before loop_unwatch() in the
 * same turn finds its slot's generation changed and is dropped. */
#include "gatewayd/core/loop.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EVENTS_PER_TURN 512

struct slot {
    struct loop_watch *watch; /* NULL when free */
    uint32_t generation;
    uint32_t next_free; /* index + 1 */
};

struct loop {
    int epfd;
    bool stopping;
    struct mono now;
    struct wall wall;
    struct timer_wheel wheel;
    struct slot *slots;
    uint32_t n_slots, free_slot; /* free_slot: index + 1 */
    struct loop_task *tasks, **tasks_end;
    struct loop_hook *hooks;
    bool hurry;
    int64_t lag_us;
    struct {
        _Atomic uint64_t turns, events, empty_turns, busy_us, max_turn_us;
    } stats;
    struct epoll_event got[EVENTS_PER_TURN];
};

static void bump(_Atomic uint64_t *c, uint64_t by)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + by, memory_order_relaxed);
}

static void read_clocks(struct loop *l)
{
    l->now = mono_now();
    l->wall = wall_now();
}

struct loop *loop_new(struct err *err)
{
    struct loop *l = calloc(1, sizeof(*l));

    if (!l) {
        (void)err_set(err, ERR_NO_MEMORY, "event loop: out of memory");
        return NULL;
    }
    l->epfd = epoll_create1(EPOLL_CLOEXEC);
    if (l->epfd < 0) {
        (void)err_set(err, ERR_IO, "event loop: epoll_create1: %s", strerror(errno));
        free(l);
        return NULL;
    }
    l->tasks_end = &l->tasks;
    read_clocks(l);
    timer_wheel_init(&l->wheel, l->now);
    return l;
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    (void)close(l->epfd);
    free(l->slots);
    free(l);
}

static bool grow(struct loop *l)
{
    uint32_t n = l->n_slots ? l->n_slots * 2 : 64;
    struct slot *s = realloc(l->slots, n * sizeof(*s));

    if (!s)
        return false;
    for (uint32_t i = l->n_slots; i < n; i++)
        s[i] = (struct slot){.next_free = i + 1 < n ? i + 2 : 0};
    l->slots = s;
    l->free_slot = l->n_slots + 1;
    l->n_slots = n;
    return true;
}

static struct epoll_event event_for(const struct loop *l, uint32_t slot, uint32_t events)
{
    return (struct epoll_event){.events = events,
                                .data.u64 = (uint64_t)l->slots[slot - 1].generation << 32 | slot};
}

enum err_code loop_watch(struct loop *l, struct loop_watch *w, uint32_t events)
{
    struct epoll_event ev;
    uint32_t s;

    if (!l->free_slot && !grow(l))
        return ERR_NO_MEMORY;
    s = l->free_slot;
    ev = event_for(l, s, events);
    if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, w->fd, &ev) < 0)
        return ERR_IO;
    l->free_slot = l->slots[s - 1].next_free;
    l->slots[s - 1].watch = w;
    w->slot = s;
    return ERR_OK;
}

enum err_code loop_rewatch(struct loop *l, struct loop_watch *w, uint32_t events)
{
    struct epoll_event ev = event_for(l, w->slot, events);

    return epoll_ctl(l->epfd, EPOLL_CTL_MOD, w->fd, &ev) < 0 ? ERR_IO : ERR_OK;
}

void loop_unwatch(struct loop *l, struct loop_watch *w)
{
    struct slot *s;

    if (!w->slot)
        return;
    s = &l->slots[w->slot - 1];
    (void)epoll_ctl(l->epfd, EPOLL_CTL_DEL, w->fd, NULL);
    s->watch = NULL;
    s->generation++;
    s->next_free = l->free_slot;
    l->free_slot = w->slot;
    w->slot = 0;
}

void loop_timer(struct loop *l, struct timer *t, int64_t delay_us)
{
    timer_arm(&l->wheel, t, l->now, delay_us);
}
void loop_timer_cancel(struct loop *l, struct timer *t)
{
    timer_cancel(&l->wheel, t);
}

void loop_defer(struct loop *l, struct loop_task *t)
{
    if (t->queued)
        return;
    t->queued = true;
    t->next = NULL;
    *l->tasks_end = t;
    l->tasks_end = &t->next;
}

void loop_defer_cancel(struct loop *l, struct loop_task *t)
{
    struct loop_task **at = &l->tasks;

    if (!t->queued)
        return;
    while (*at && *at != t)
        at = &(*at)->next;
    if (*at) {
        *at = t->next;
        if (l->tasks_end == &t->next)
            l->tasks_end = at;
    }
    t->queued = false;
}

void loop_add_hook(struct loop *l, struct loop_hook *h)
{
    struct loop_hook **at = &l->hooks;

    while (*at)
        at = &(*at)->next;
    h->next = NULL;
    *at = h;
}

void loop_remove_hook(struct loop *l, struct loop_hook *h)
{
    struct loop_hook **at = &l->hooks;

    while (*at && *at != h)
        at = &(*at)->next;
    if (*at)
        *at = h->next;
}

struct mono loop_now(const struct loop *l)
{
    return l->now;
}
struct wall loop_wall(const struct loop *l)
{
    return l->wall;
}
int64_t loop_lag_us(const struct loop *l)
{
    return l->lag_us;
}
void loop_stop(struct loop *l)
{
    l->stopping = true;
}

static bool run_tasks(struct loop *l)
{
    bool ran = l->tasks != NULL;

    while (l->tasks) {
        struct loop_task *t = l->tasks;

        l->tasks = t->next;
        if (!l->tasks)
            l->tasks_end = &l->tasks;
        t->queued = false;
        t->fn(t);
    }
    return ran;
}

static bool run_hooks(struct loop *l)
{
    bool hurry = false;

    for (struct loop_hook *h = l->hooks; h; h = h->next)
        hurry |= h->fn(h);
    return hurry;
}

static void dispatch(struct loop *l, int n)
{
    for (int i = 0; i < n; i++) {
        uint32_t s = (uint32_t)l->got[i].data.u64;
        const struct slot *slot = &l->slots[s - 1];

        if (slot->watch && slot->generation == (uint32_t)(l->got[i].data.u64 >> 32))
            slot->watch->fn(slot->watch, l->got[i].events);
    }
}

void loop_turn(struct loop *l, int max_wait_ms)
{
    int wait_ms = timer_wheel_next_ms(&l->wheel, l->now);
    int n;
    bool did;
    uint64_t spent;
    struct mono end;

    if (l->hurry || l->tasks)
        wait_ms = 0;
    else if (max_wait_ms >= 0 && (wait_ms < 0 || wait_ms > max_wait_ms))
        wait_ms = max_wait_ms;
    n = epoll_wait(l->epfd, l->got, EVENTS_PER_TURN, wait_ms);
    read_clocks(l);
    dispatch(l, n);
    did = timer_wheel_run(&l->wheel, l->now) > 0;
    did |= run_tasks(l);
    l->hurry = run_hooks(l);
    end = mono_now();
    spent = (uint64_t)mono_diff_us(end, l->now);
    l->lag_us = (int64_t)spent;
    bump(&l->stats.turns, 1);
    bump(&l->stats.events, n > 0 ? (uint64_t)n : 0);
    bump(&l->stats.busy_us, spent);
    if (n <= 0 && !did && wait_ms == 0)
        bump(&l->stats.empty_turns, 1);
    if (spent > atomic_load_explicit(&l->stats.max_turn_us, memory_order_relaxed))
        atomic_store_explicit(&l->stats.max_turn_us, spent, memory_order_relaxed);
}

void loop_run(struct loop *l)
{
    while (!l->stopping)
        loop_turn(l, -1);
}

struct loop_stats loop_stats_mt(const struct loop *l)
{
    return (struct loop_stats){
        .turns = atomic_load_explicit(&l->stats.turns, memory_order_relaxed),
        .events = atomic_load_explicit(&l->stats.events, memory_order_relaxed),
        .empty_turns = atomic_load_explicit(&l->stats.empty_turns, memory_order_relaxed),
        .busy_us = atomic_load_explicit(&l->stats.busy_us, memory_order_relaxed),
        .max_turn_us = atomic_load_explicit(&l->stats.max_turn_us, memory_order_relaxed),
    };
}
