/* SPDX-License-Identifier: Apache-2.0 */
/* Level L holds timers due within 64^(L+1) ticks in the slot of their due tick's L-th base-64 digit. When the
 * wheel crosses a multiple of 64^L, that slot of level L is spread over the levels below it. */
#include "gatewayd/core/timer.h"

#include <stddef.h>
#include <string.h>

static int64_t tick_of(struct mono t)
{
    return t.us / 1000;
}

void timer_wheel_init(struct timer_wheel *w, struct mono now)
{
    memset(w, 0, sizeof(*w));
    w->tick = tick_of(now);
}

static void link_into(struct timer **slot, struct timer *t)
{
    t->next = *slot;
    if (t->next)
        t->next->link = &t->next;
    t->link = slot;
    *slot = t;
}

static void place(struct timer_wheel *w, struct timer *t)
{
    int64_t ahead = t->due_tick - w->tick;
    int64_t due = t->due_tick;
    int level = 0;
    unsigned slot;

    while (level < TIMER_LEVELS - 1 && ahead >= (int64_t)1 << (6 * (level + 1)))
        level++;
    if (ahead >= (int64_t)1 << (6 * TIMER_LEVELS))
        due = w->tick + ((int64_t)1 << (6 * TIMER_LEVELS)) - 1; /* parked; placed again when it comes up */
    slot = (unsigned)(due >> (6 * level)) & (TIMER_SLOTS - 1);
    link_into(&w->slots[level][slot], t);
    w->used[level] |= (uint64_t)1 << slot;
}

void timer_cancel(struct timer_wheel *w, struct timer *t)
{
    (void)w;
    if (!t->link)
        return;
    *t->link = t->next;
    if (t->next)
        t->next->link = t->link;
    t->link = NULL;
    t->next = NULL;
}

void timer_arm(struct timer_wheel *w, struct timer *t, struct mono now, int64_t delay_us)
{
    timer_cancel(w, t);
    t->due_tick = tick_of(mono_add_us(now, delay_us > 0 ? delay_us : 0)) + 1;
    if (t->due_tick <= w->tick)
        t->due_tick = w->tick + 1;
    place(w, t);
}

static void spread(struct timer_wheel *w, int level, unsigned slot)
{
    struct timer *t = w->slots[level][slot];

    w->slots[level][slot] = NULL;
    w->used[level] &= ~((uint64_t)1 << slot);
    while (t) {
        struct timer *next = t->next;

        t->link = NULL;
        place(w, t);
        t = next;
    }
}

static int fire_slot(struct timer_wheel *w, unsigned slot)
{
    struct timer *list = w->slots[0][slot];
    int fired = 0;

    /* Moved to a local head, so that a function that arms or cancels others finds consistent links. */
    w->slots[0][slot] = NULL;
    w->used[0] &= ~((uint64_t)1 << slot);
    if (list)
        list->link = &list;
    while (list) {
        struct timer *t = list;

        timer_cancel(w, t);
        fired++;
        t->fn(t);
    }
    return fired;
}

int timer_wheel_run(struct timer_wheel *w, struct mono now)
{
    int64_t until = tick_of(now);
    int fired = 0;

    while (w->tick < until) {
        bool is_idle = !w->used[0] && !w->used[1] && !w->used[2] && !w->used[3];

        if (is_idle) {
            w->tick = until;
            break;
        }
        w->tick++;
        for (int level = TIMER_LEVELS - 1; level > 0; level--)
            if ((w->tick & (((int64_t)1 << (6 * level)) - 1)) == 0)
                spread(w, level, (unsigned)(w->tick >> (6 * level)) & (TIMER_SLOTS - 1));
        if (w->used[0] & (uint64_t)1 << ((unsigned)w->tick & (TIMER_SLOTS - 1)))
            fired += fire_slot(w, (unsigned)w->tick & (TIMER_SLOTS - 1));
    }
    return fired;
}

int timer_wheel_next_ms(const struct timer_wheel *w, struct mono now)
{
    int64_t late = tick_of(now) - w->tick;

    if (!w->used[0] && !w->used[1] && !w->used[2] && !w->used[3])
        return -1;
    for (int64_t ahead = 1; ahead <= TIMER_SLOTS; ahead++) {
        unsigned slot = (unsigned)(w->tick + ahead) & (TIMER_SLOTS - 1);
        bool crosses = slot == 0 && (w->used[1] || w->used[2] || w->used[3]);

        if (crosses || (w->used[0] & (uint64_t)1 << slot))
            return ahead > late ? (int)(ahead - late) : 0;
    }
    return TIMER_SLOTS;
}
