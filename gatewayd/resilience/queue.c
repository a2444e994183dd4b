/* SPDX-License-Identifier: Apache-2.0 */
/* Any thread. The lock guards who waits and is held for pointer work only; the memory of lanes comes with the waiters, so
 * that nothing is allocated under it.
 *
 * The invariant: while somebody waits, at least `slots` slots are taken, and each that comes free is handed to the next one
 * under the lock. The word's upper half, who waits, changes under the lock alone; its lower half may change without it only
 * while the upper is 0. Where this is tricky: entering must see "full" and become a waiter in one exchange, else a slot that
 * comes free between the two would find nobody, and nobody would find it.
 *
 * Order by start-time fair queueing, twice: priorities with weights, then tenants within one, each grant costing a tenant one
 * turn and one more for every slot that it holds. A lane that empties is forgotten; a new one begins a turn behind, so that
 * coming anew is no way to the front. */
#include "gatewayd/resilience/queue.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define SHARES                                                                                               \
    256u /* counters of slots by tenant; two tenants that meet in one are taken for one in weighing only */
#define LANE_PLACES 128u
#define RATE_MEMORY 32 /* grants that the measured pace remembers */
#define WAITING_ONE ((uint64_t)1 << 32)

struct queue_lane {
    label tenant;
    unsigned priority, n;
    uint64_t pass; /* the least is next */
    struct queue_waiter *first, **last;
    struct queue_lane *next, **link;             /* of its priority */
    struct queue_lane *next_place, **place_link; /* of its place in the table */
};

struct rank {             /* a priority */
    uint64_t pass, floor; /* floor: of the lane that was served last */
    uint32_t depth, n_lanes;
    struct queue_lane *lanes;
};

struct queue {
    _Atomic uint64_t word; /* waiting << 32 | taken */
    _Atomic uint32_t slots;
    _Atomic uint32_t held[SHARES];

    pthread_mutex_t lock; /* guards what follows */
    struct queue_rules rules;
    struct rank rank[QUEUE_PRIORITIES + 1];
    uint64_t floor; /* pass of the priority that was served last */
    struct queue_lane *places[LANE_PLACES];
    uint64_t bytes;
    int64_t pace_us; /* between two grants while somebody waits */
    unsigned n_pace;
    struct mono last; /* grant, or the beginning of the waiting */
};

static const uint32_t STRIDE[QUEUE_PRIORITIES + 1] = {0, 1, 2, 4, 8, 16};

const char *queue_reason(enum queue_verdict v)
{
    static const char *const NAMES[QUEUE_VERDICTS] = {
        [QUEUE_GO] = "",         [QUEUE_WAITS] = "",    [QUEUE_FULL] = "depth",
        [QUEUE_BYTES] = "bytes", [QUEUE_WAIT] = "wait", [QUEUE_DEADLINE] = "deadline"};

    return NAMES[v];
}

static uint32_t taken_of(uint64_t word)
{
    return (uint32_t)word;
}
static uint32_t waiting_of(uint64_t word)
{
    return (uint32_t)(word >> 32);
}

struct queue *queue_new(const struct queue_rules *rules)
{
    struct queue *q = calloc(1, sizeof(*q));

    if (!q)
        abort();
    (void)pthread_mutex_init(&q->lock, NULL);
    q->rules = *rules;
    atomic_store(&q->slots, rules->slots);
    return q;
}

void queue_free(struct queue *q)
{
    if (!q)
        return;
    assert(waiting_of(atomic_load(&q->word)) == 0);
    (void)pthread_mutex_destroy(&q->lock);
    free(q);
}

/* ---- lanes ----------------------------------------------------------------------------------------------------------- */

static struct queue_lane **place_of(struct queue *q, label tenant, unsigned priority)
{
    return &q->places[(tenant * QUEUE_PRIORITIES + priority) % LANE_PLACES];
}

static struct queue_lane *find_lane(struct queue *q, label tenant, unsigned priority)
{
    struct queue_lane *l = *place_of(q, tenant, priority);

    while (l && (l->tenant != tenant || l->priority != priority))
        l = l->next_place;
    return l;
}

static uint32_t held_by(struct queue *q, label tenant)
{
    return atomic_load_explicit(&q->held[tenant % SHARES], memory_order_relaxed);
}

static void link_lane(struct queue_lane **list, struct queue_lane *l)
{
    l->link = list;
    l->next = *list;
    if (l->next)
        l->next->link = &l->next;
    *list = l;
}

static void place_lane(struct queue_lane **place, struct queue_lane *l)
{
    l->place_link = place;
    l->next_place = *place;
    if (l->next_place)
        l->next_place->place_link = &l->next_place;
    *place = l;
}

/* On the waiter's own memory. */
static struct queue_lane *open_lane(struct queue *q, struct queue_waiter *w)
{
    struct queue_lane *l = w->spare[0];
    struct rank *r = &q->rank[w->priority];

    w->spare[0] = NULL;
    *l = (struct queue_lane){
        .tenant = w->tenant, .priority = w->priority, .pass = r->floor + 1 + held_by(q, w->tenant)};
    l->last = &l->first;
    link_lane(&r->lanes, l);
    place_lane(place_of(q, w->tenant, w->priority), l);
    r->n_lanes++;
    return l;
}

/* Its memory goes with the waiter that was its last. */
static void close_lane(struct queue *q, struct queue_lane *l, struct queue_waiter *w)
{
    *l->link = l->next;
    if (l->next)
        l->next->link = l->link;
    *l->place_link = l->next_place;
    if (l->next_place)
        l->next_place->place_link = l->place_link;
    q->rank[l->priority].n_lanes--;
    w->spare[w->spare[0] ? 1 : 0] = l;
}

static void put_in(struct queue *q, struct queue_waiter *w)
{
    struct rank *r = &q->rank[w->priority];
    struct queue_lane *l = find_lane(q, w->tenant, w->priority);

    if (!l)
        l = open_lane(q, w);
    if (!r->depth++ && r->pass < q->floor)
        r->pass = q->floor; /* nothing is owed to a priority for when nobody waited in it */
    w->next = NULL;
    w->link = l->last;
    *l->last = w;
    l->last = &w->next;
    l->n++;
    w->state = WAITER_IN;
    q->bytes += w->bytes;
}

static void take_out(struct queue *q, struct queue_waiter *w)
{
    struct queue_lane *l = find_lane(q, w->tenant, w->priority);

    assert(l && w->state == WAITER_IN);
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
    else
        l->last = w->link;
    if (!--l->n)
        close_lane(q, l, w);
    q->rank[w->priority].depth--;
    q->bytes -= w->bytes;
}

/* ---- who is next ----------------------------------------------------------------------------------------------------- */

static struct rank *next_rank(struct queue *q)
{
    struct rank *best = NULL;

    for (unsigned p = 1; p <= QUEUE_PRIORITIES; p++)
        if (q->rank[p].depth && (!best || q->rank[p].pass < best->pass))
            best = &q->rank[p];
    return best;
}

/* The list holds the newest lane first, so of equals the one that came first is the last. */
static struct queue_lane *next_lane(const struct rank *r)
{
    struct queue_lane *best = r->lanes;

    for (struct queue_lane *l = r->lanes; l; l = l->next)
        if (l->pass <= best->pass)
            best = l;
    return best;
}

static void note_pace(struct queue *q, struct mono now)
{
    int64_t gap = mono_diff_us(now, q->last);

    q->n_pace += q->n_pace < RATE_MEMORY;
    q->pace_us += ((gap > 0 ? gap : 0) - q->pace_us) / (int64_t)q->n_pace;
    q->last = now;
}

static struct queue_waiter *choose(struct queue *q, struct mono now)
{
    struct rank *r = next_rank(q);
    struct queue_lane *l = next_lane(r);
    struct queue_waiter *w = l->first;

    q->floor = r->pass;
    r->pass += STRIDE[w->priority];
    r->floor = l->pass > r->floor ? l->pass : r->floor;
    l->pass += 1 + held_by(q, l->tenant);
    note_pace(q, now);
    take_out(q, w);
    return w;
}

/* ---- slots ----------------------------------------------------------------------------------------------------------- */

static struct queue_slot count_slot(struct queue *q, label tenant, uint32_t slots)
{
    struct queue_slot s = {.of = q, .share = (uint8_t)(tenant % SHARES), .is_counted = slots != 0};

    if (s.is_counted)
        atomic_fetch_add_explicit(&q->held[s.share], 1, memory_order_relaxed);
    return s;
}

bool queue_try(struct queue *q, label tenant, struct queue_slot *out)
{
    uint64_t word;
    uint32_t slots;

    *out = (struct queue_slot){0};
    if (!q)
        return true;
    word = atomic_load_explicit(&q->word, memory_order_relaxed);
    slots = atomic_load_explicit(&q->slots, memory_order_relaxed);
    do {
        if (waiting_of(word) || (slots && taken_of(word) >= slots))
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&q->word, &word, word + 1, memory_order_acq_rel,
                                                    memory_order_relaxed));
    *out = count_slot(q, tenant, slots);
    return true;
}

/* The slot of the one who leaves is still counted as taken, and passes to the next. */
static struct queue_waiter *hand_over(struct queue *q, struct mono now)
{
    struct queue_waiter *w = NULL;
    uint64_t word;

    (void)pthread_mutex_lock(&q->lock);
    word = atomic_load(&q->word);
    if (!waiting_of(word) || (q->rules.slots && taken_of(word) > q->rules.slots)) {
        atomic_fetch_sub(&q->word, 1);
    } else {
        w = choose(q, now);
        w->slot = count_slot(q, w->tenant, q->rules.slots);
        w->state = WAITER_GRANTED;
        atomic_fetch_sub(&q->word, WAITING_ONE);
    }
    (void)pthread_mutex_unlock(&q->lock);
    return w;
}

void queue_leave(struct queue_slot *s, struct mono now)
{
    struct queue *q = s->of;
    struct queue_waiter *w;
    uint64_t word;

    if (!q)
        return;
    s->of = NULL;
    if (s->is_counted)
        atomic_fetch_sub_explicit(&q->held[s->share], 1, memory_order_relaxed);
    word = atomic_load_explicit(&q->word, memory_order_relaxed);
    while (!waiting_of(word))
        if (atomic_compare_exchange_weak_explicit(&q->word, &word, word - 1, memory_order_acq_rel,
                                                  memory_order_relaxed))
            return;
    w = hand_over(q, now);
    if (w)
        w->granted(w);
}

void queue_set(struct queue *q, const struct queue_rules *rules, struct mono now)
{
    struct queue_waiter *all = NULL, **end = &all, *w;

    (void)pthread_mutex_lock(&q->lock);
    q->rules = *rules;
    atomic_store(&q->slots, rules->slots);
    for (uint64_t word = atomic_load(&q->word);
         waiting_of(word) && (!rules->slots || taken_of(word) < rules->slots); word = atomic_load(&q->word)) {
        w = choose(q, now);
        w->slot = count_slot(q, w->tenant, rules->slots);
        w->state = WAITER_GRANTED;
        atomic_fetch_sub(&q->word, WAITING_ONE - 1);
        w->next = NULL;
        *end = w;
        end = &w->next;
    }
    (void)pthread_mutex_unlock(&q->lock);
    while (all) {
        w = all;
        all = w->next; /* once it is told it may be gone */
        w->granted(w);
    }
}

/* ---- waiting --------------------------------------------------------------------------------------------------------- */

/* About how many grants come before one more of that tenant and priority: its own priority in turns of all tenants, the
 * others by their share meanwhile. */
static uint64_t ahead_of(struct queue *q, const struct queue_waiter *w)
{
    const struct rank *own = &q->rank[w->priority];
    const struct queue_lane *lane = find_lane(q, w->tenant, w->priority);
    uint64_t turns = ((lane ? lane->n : 0) + (uint64_t)1) * (own->n_lanes + !lane), sum;

    turns = turns <= own->depth ? turns : (uint64_t)own->depth + 1;
    sum = turns;
    for (unsigned p = 1; p <= QUEUE_PRIORITIES; p++) {
        uint64_t share = turns * STRIDE[w->priority] / STRIDE[p];

        if (p != w->priority)
            sum += share < q->rank[p].depth ? share : q->rank[p].depth;
    }
    return sum;
}

/* Silence since the last grant slows the pace, but by no more than one grant does. */
static int64_t pace(const struct queue *q, struct mono now)
{
    int64_t gap = mono_diff_us(now, q->last);

    if (!q->n_pace)
        return 0;
    return gap > q->pace_us ? q->pace_us + (gap - q->pace_us) / RATE_MEMORY : q->pace_us;
}

static int64_t times(int64_t us, uint64_t n)
{
    int64_t out;

    return __builtin_mul_overflow(us, (int64_t)n, &out) ? INT64_MAX : out;
}

static enum queue_verdict judge(struct queue *q, const struct queue_waiter *w, struct mono now,
                                struct queue_report *out)
{
    uint64_t word = atomic_load(&q->word);
    uint64_t ahead = ahead_of(q, w);

    *out = (struct queue_report){.slots = q->rules.slots,
                                 .used = taken_of(word),
                                 .depth = waiting_of(word),
                                 .bytes = q->bytes,
                                 .wait_us = times(pace(q, now), ahead)};
    if (out->depth >= q->rules.max_depth)
        return QUEUE_FULL;
    if (w->bytes > q->rules.max_bytes || q->bytes > q->rules.max_bytes - w->bytes)
        return QUEUE_BYTES;
    if (w->until.us && (now.us >= w->until.us || out->wait_us > mono_diff_us(w->until, now)))
        return QUEUE_DEADLINE;
    return out->wait_us > q->rules.max_wait_us ? QUEUE_WAIT : QUEUE_WAITS;
}

/* Takes a slot, or becomes a waiter in the same exchange that sees that there is none. */
static bool take_or_wait(struct queue *q)
{
    uint64_t word = atomic_load(&q->word), next;
    bool is_free;

    do {
        is_free = !waiting_of(word) && (!q->rules.slots || taken_of(word) < q->rules.slots);
        next = is_free ? word + 1 : word + WAITING_ONE;
    } while (!atomic_compare_exchange_weak(&q->word, &word, next));
    return is_free;
}

enum queue_verdict queue_enter(struct queue *q, struct queue_waiter *w, struct mono now,
                               struct queue_report *out)
{
    enum queue_verdict v;

    assert(w->state == WAITER_OUT && w->priority >= 1 && w->priority <= QUEUE_PRIORITIES);
    w->queue = q;
    if (!w->spare[0])
        w->spare[0] = calloc(1, sizeof(*w->spare[0]));
    if (!w->spare[0])
        abort();
    (void)pthread_mutex_lock(&q->lock);
    v = judge(q, w, now, out);
    if (queue_try(q, w->tenant, &w->slot)) {
        v = QUEUE_GO;
    } else if (v == QUEUE_WAITS && take_or_wait(q)) {
        v = QUEUE_GO;
        w->slot = count_slot(q, w->tenant, q->rules.slots);
    } else if (v == QUEUE_WAITS) {
        if (!out->depth)
            q->last = now;
        put_in(q, w);
    }
    (void)pthread_mutex_unlock(&q->lock);
    return v;
}

bool queue_withdraw(struct queue_waiter *w)
{
    struct queue *q = w->queue;
    bool was_in;

    if (!q)
        return true;
    (void)pthread_mutex_lock(&q->lock);
    was_in = w->state == WAITER_IN;
    if (was_in) {
        take_out(q, w);
        w->state = WAITER_OUT;
        atomic_fetch_sub(&q->word, WAITING_ONE);
    }
    (void)pthread_mutex_unlock(&q->lock);
    return was_in;
}

void queue_waiter_release(struct queue_waiter *w)
{
    assert(w->state != WAITER_IN);
    free(w->spare[0]);
    free(w->spare[1]);
    w->spare[0] = w->spare[1] = NULL;
}

/* ---- looking --------------------------------------------------------------------------------------------------------- */

uint32_t queue_in_flight(const struct queue *q)
{
    return q ? taken_of(atomic_load_explicit(&q->word, memory_order_relaxed)) : 0;
}

void queue_look(struct queue *q, struct mono now, struct queue_report *out,
                uint32_t depth[QUEUE_PRIORITIES + 1])
{
    uint64_t word;

    (void)pthread_mutex_lock(&q->lock);
    word = atomic_load(&q->word);
    *out = (struct queue_report){.slots = q->rules.slots,
                                 .used = taken_of(word),
                                 .depth = waiting_of(word),
                                 .bytes = q->bytes,
                                 .wait_us = waiting_of(word) ? times(pace(q, now), waiting_of(word)) : 0};
    for (unsigned p = 0; depth && p <= QUEUE_PRIORITIES; p++)
        depth[p] = q->rank[p].depth;
    (void)pthread_mutex_unlock(&q->lock);
}
