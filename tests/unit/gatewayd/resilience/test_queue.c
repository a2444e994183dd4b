/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/resilience/queue.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "gatewayd/config/config.h"
#include "tests/unit/cm.h"

#define SECOND    1000000
#define CROWD     4096
#define NO_BOUNDS .max_depth = 1000000, .max_bytes = UINT64_MAX, .max_wait_us = INT64_MAX

static struct mono at(int64_t us)
{
    return (struct mono){(int64_t)1000 * SECOND + us};
}

struct guest {
    struct queue_waiter w;
    unsigned number;
};

static struct guest *served[CROWD]; /* in the order of their grants */
static unsigned n_served;

static void note_grant(struct queue_waiter *w)
{
    served[n_served++ % CROWD] = CONTAINER_OF(w, struct guest, w);
}

static struct guest guest(label tenant, unsigned priority)
{
    return (struct guest){.w = {.tenant = tenant, .priority = priority, .granted = note_grant}};
}

static struct queue *with(uint32_t slots)
{
    n_served = 0;
    return queue_new(&(struct queue_rules){.slots = slots, NO_BOUNDS});
}

static enum queue_verdict enter(struct queue *q, struct guest *g, int64_t us)
{
    struct queue_report r;

    return queue_enter(q, &g->w, at(us), &r);
}

/* The guest that is granted next leaves at once. */
static struct guest *pass(struct queue *q, struct queue_slot *s, int64_t us)
{
    unsigned before = n_served;
    struct guest *g;

    (void)q;
    queue_leave(s, at(us));
    assert_int_equal(n_served, before + 1);
    g = served[before % CROWD];
    *s = g->w.slot;
    g->w.slot = (struct queue_slot){0};
    queue_waiter_release(&g->w);
    return g;
}

static void end(struct queue *q, struct queue_slot *s)
{
    queue_leave(s, at(0));
    assert_int_equal(queue_in_flight(q), 0);
    queue_free(q);
}

static void test_no_more_slots_are_taken_than_there_are(void **state)
{
    struct queue *q = with(2);
    struct queue_slot a, b, c;

    (void)state;
    assert_true(queue_try(q, 1, &a));
    assert_true(queue_try(q, 1, &b));
    assert_false(queue_try(q, 2, &c));
    assert_int_equal(queue_in_flight(q), 2);
    queue_leave(&a, at(0));
    queue_leave(&a, at(0)); /* once */
    assert_int_equal(queue_in_flight(q), 1);
    assert_true(queue_try(q, 2, &c));
    queue_leave(&b, at(0));
    end(q, &c);
}

static void test_without_a_limit_attempts_are_counted_all_the_same(void **state)
{
    struct queue *q = with(0);
    struct queue_slot s[100], none;

    (void)state;
    for (unsigned i = 0; i < 100; i++)
        assert_true(queue_try(q, i, &s[i]));
    assert_int_equal(queue_in_flight(q), 100);
    for (unsigned i = 1; i < 100; i++)
        queue_leave(&s[i], at(0));
    end(q, &s[0]);
    assert_true(queue_try(NULL, 1, &none));
    queue_leave(&none, at(0));
}

static void test_who_waits_gets_the_slot_and_nobody_passes_by(void **state)
{
    struct queue *q = with(1);
    struct guest g = guest(1, 3);
    struct queue_slot s, other;

    (void)state;
    assert_true(queue_try(q, 1, &s));
    assert_int_equal(enter(q, &g, 0), QUEUE_WAITS);
    assert_false(queue_try(q, 2, &other));
    assert_ptr_equal(pass(q, &s, 1), &g);
    assert_int_equal(queue_in_flight(q), 1);
    assert_false(queue_try(q, 2, &other));
    end(q, &s);
}

static void test_a_slot_that_came_free_meanwhile_is_taken_without_waiting(void **state)
{
    struct queue *q = with(1);
    struct guest g = guest(1, 3);

    (void)state;
    assert_int_equal(enter(q, &g, 0), QUEUE_GO);
    assert_ptr_equal(g.w.slot.of, q);
    queue_waiter_release(&g.w);
    assert_int_equal(n_served, 0);
    end(q, &g.w.slot);
}

static void test_the_first_priority_overtakes_a_long_queue_of_the_third(void **state)
{
    struct queue *q = with(1);
    struct guest many[100], urgent = guest(2, 1);
    struct queue_slot s;

    (void)state;
    assert_true(queue_try(q, 1, &s));
    for (unsigned i = 0; i < 100; i++) {
        many[i] = guest(1, 3);
        assert_int_equal(enter(q, &many[i], 0), QUEUE_WAITS);
    }
    for (unsigned i = 0; i < 10; i++)
        assert_ptr_equal(pass(q, &s, i), &many[i]);
    assert_int_equal(enter(q, &urgent, 10), QUEUE_WAITS);
    assert_ptr_equal(pass(q, &s, 11), &urgent);
    for (unsigned i = 10; i < 100; i++)
        assert_ptr_equal(pass(q, &s, i), &many[i]);
    end(q, &s);
}

static void test_under_saturation_each_priority_has_its_share(void **state)
{
    static const unsigned WANTED[] = {0, 160, 80, 40, 20, 10};
    struct queue *q = with(1);
    struct guest *all = calloc(QUEUE_PRIORITIES * 400, sizeof(*all));
    unsigned got[QUEUE_PRIORITIES + 1] = {0}, n = 0;
    struct queue_slot s;

    (void)state;
    assert_true(queue_try(q, 1, &s));
    for (unsigned i = 0; i < 400; i++)
        for (unsigned p = QUEUE_PRIORITIES; p; p--) {
            all[n] = guest(p, p);
            assert_int_equal(enter(q, &all[n++], 0), QUEUE_WAITS);
        }
    for (unsigned i = 0; i < 310; i++)
        got[pass(q, &s, i)->w.priority]++;
    for (unsigned p = 1; p <= QUEUE_PRIORITIES; p++)
        assert_in_range(got[p], WANTED[p] - 3, WANTED[p] + 3);
    for (unsigned i = 310; i < n; i++)
        (void)pass(q, &s, i);
    end(q, &s);
    free(all);
}

static void test_a_priority_that_nobody_used_is_owed_nothing(void **state)
{
    struct queue *q = with(1);
    struct guest one[120], last[20];
    struct queue_slot s;
    unsigned of_last = 0;

    (void)state;
    assert_true(queue_try(q, 1, &s));
    for (unsigned i = 0; i < 120; i++)
        one[i] = guest(1, 1);
    for (unsigned i = 0; i < 20; i++)
        last[i] = guest(2, 5);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(enter(q, &one[i], i), QUEUE_WAITS);
        assert_ptr_equal(pass(q, &s, i), &one[i]);
    }
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(enter(q, &last[i], 100), QUEUE_WAITS);
        assert_int_equal(enter(q, &one[100 + i], 100), QUEUE_WAITS);
    }
    for (unsigned i = 0; i < 16; i++)
        of_last += pass(q, &s, i)->w.priority == 5;
    assert_in_range(of_last, 0, 2);
    for (unsigned i = 16; i < 40; i++)
        (void)pass(q, &s, i);
    end(q, &s);
}

static void test_tenants_of_one_priority_take_turns(void **state)
{
    struct queue *q = with(1);
    struct guest busy[200], calm[3];
    struct queue_slot s;
    unsigned waited[3] = {0};

    (void)state;
    assert_true(queue_try(q, 1, &s));
    for (unsigned i = 0; i < 200; i++) {
        busy[i] = guest(1, 3);
        assert_int_equal(enter(q, &busy[i], 0), QUEUE_WAITS);
    }
    for (unsigned i = 0; i < 3; i++) {
        calm[i] = guest(2, 3);
        assert_int_equal(enter(q, &calm[i], 0), QUEUE_WAITS);
    }
    for (unsigned i = 0; i < 203; i++) {
        struct guest *g = pass(q, &s, i);

        if (g >= calm && g < calm + 3)
            waited[g - calm] = i;
    }
    assert_in_range(waited[0], 0, 4);
    assert_in_range(waited[1], 1, 8);
    assert_in_range(waited[2], 2, 12);
    end(q, &s);
}

static void test_a_tenant_that_holds_the_slots_waits_longer_but_is_served(void **state)
{
    struct queue *q = with(10);
    struct guest held[40], other[40];
    struct queue_slot s[10], last;
    unsigned got = 0, first = 0;

    (void)state;
    for (unsigned i = 0; i < 9; i++)
        assert_true(queue_try(q, 1, &s[i])); /* long streams */
    assert_true(queue_try(q, 2, &last));
    for (unsigned i = 0; i < 40; i++) {
        held[i] = guest(1, 3);
        other[i] = guest(2, 3);
        assert_int_equal(enter(q, &held[i], 0), QUEUE_WAITS);
        assert_int_equal(enter(q, &other[i], 0), QUEUE_WAITS);
    }
    for (unsigned i = 0; i < 30; i++)
        if (pass(q, &last, i)->w.tenant == 1) {
            first = first ? first : i + 1;
            got++;
        }
    assert_in_range(got, 2, 8);
    assert_in_range(first, 1, 22);
    for (unsigned i = 0; i < 50; i++)
        (void)pass(q, &last, i);
    for (unsigned i = 0; i < 9; i++)
        queue_leave(&s[i], at(0));
    end(q, &last);
}

static void test_coming_anew_each_time_is_no_way_to_the_front(void **state)
{
    struct queue *q = with(1);
    struct guest patient[20], hasty[400];
    struct queue_slot s;
    unsigned done = 0, i;

    (void)state;
    assert_true(queue_try(q, 9, &s));
    for (i = 0; i < 20; i++) {
        patient[i] = guest(1, 3);
        assert_int_equal(enter(q, &patient[i], 0), QUEUE_WAITS);
    }
    for (i = 0; i < 400 && done < 20; i++) {
        hasty[i] = guest(2, 3);
        assert_int_equal(enter(q, &hasty[i], i), QUEUE_WAITS);
        while (!hasty[i].w.slot.of && pass(q, &s, i)->w.tenant == 1) /* until the hasty one had its turn */
            if (++done == 20)
                break;
        if (done == 20)
            break;
    }
    assert_int_equal(done, 20);
    assert_in_range(i, 0, 60); /* turns of the hasty one meanwhile */
    if (n_served < 20 + i + 1)
        (void)pass(q, &s, i);
    end(q, &s);
}

static void test_what_does_not_fit_is_refused_with_the_reason(void **state)
{
    struct queue *q = queue_new(&(struct queue_rules){
        .slots = 1, .max_depth = 2, .max_bytes = 1000, .max_wait_us = 10 * (int64_t)SECOND});
    struct guest a = guest(1, 3), b = guest(1, 3), c = guest(1, 3);
    struct queue_report r;
    struct queue_slot s;

    (void)state;
    n_served = 0;
    assert_true(queue_try(q, 1, &s));
    a.w.bytes = 600;
    assert_int_equal(queue_enter(q, &a.w, at(0), &r), QUEUE_WAITS);
    b.w.bytes = 401;
    assert_int_equal(queue_enter(q, &b.w, at(0), &r), QUEUE_BYTES);
    b.w.bytes = 400;
    assert_int_equal(queue_enter(q, &b.w, at(0), &r), QUEUE_WAITS);
    assert_int_equal(queue_enter(q, &c.w, at(0), &r), QUEUE_FULL);
    assert_int_equal(r.slots, 1);
    assert_int_equal(r.used, 1);
    assert_int_equal(r.depth, 2);
    assert_int_equal(r.bytes, 1000);
    assert_ptr_equal(pass(q, &s, 4 * SECOND), &a); /* the pace is known now: one in four seconds */
    c.w.until = at(11 * SECOND);
    assert_int_equal(queue_enter(q, &c.w, at(4 * SECOND), &r),
                     QUEUE_DEADLINE); /* two are ahead of its end: 8 s */
    assert_int_equal(r.wait_us, 8 * SECOND);
    c.w.until = at(13 * SECOND);
    assert_int_equal(queue_enter(q, &c.w, at(4 * SECOND), &r), QUEUE_WAITS);
    assert_true(queue_withdraw(&c.w));
    queue_set(q,
              &(struct queue_rules){.slots = 1, .max_depth = 2, .max_bytes = 1000, .max_wait_us = 7 * SECOND},
              at(4 * SECOND));
    c.w.until = (struct mono){0};
    assert_int_equal(queue_enter(q, &c.w, at(4 * SECOND), &r), QUEUE_WAIT);
    assert_string_equal(queue_reason(QUEUE_WAIT), "wait");
    assert_ptr_equal(pass(q, &s, 5 * SECOND), &b);
    queue_waiter_release(&c.w);
    end(q, &s);
}

static void test_who_withdraws_is_gone_at_once_and_a_granted_one_is_told_so(void **state)
{
    struct queue *q = queue_new(
        &(struct queue_rules){.slots = 1, .max_depth = 2, .max_bytes = 100, .max_wait_us = INT64_MAX});
    struct guest a = guest(1, 3), b = guest(1, 3), c = guest(2, 1);
    uint32_t depth[QUEUE_PRIORITIES + 1];
    struct queue_report r;
    struct queue_slot s;

    (void)state;
    n_served = 0;
    assert_true(queue_try(q, 1, &s));
    a.w.bytes = b.w.bytes = c.w.bytes = 50;
    assert_int_equal(enter(q, &a, 0), QUEUE_WAITS);
    assert_int_equal(enter(q, &b, 0), QUEUE_WAITS);
    assert_int_equal(enter(q, &c, 0), QUEUE_FULL);
    assert_true(queue_withdraw(&a.w));
    assert_false(queue_withdraw(&a.w));
    queue_waiter_release(&a.w);
    assert_int_equal(enter(q, &c, 0), QUEUE_WAITS);
    queue_look(q, at(0), &r, depth);
    assert_int_equal(r.depth, 2);
    assert_int_equal(r.bytes, 100);
    assert_int_equal(depth[1], 1);
    assert_int_equal(depth[3], 1);
    queue_leave(&s, at(0));
    assert_ptr_equal(served[0], &c);
    assert_false(queue_withdraw(&c.w));
    s = c.w.slot;
    queue_waiter_release(&c.w);
    assert_true(queue_withdraw(&b.w));
    queue_waiter_release(&b.w);
    end(q, &s);
}

static void test_more_slots_are_given_out_at_once_and_fewer_as_attempts_end(void **state)
{
    struct queue *q = with(1);
    struct guest g[4];
    struct queue_slot s, slots[4];

    (void)state;
    assert_true(queue_try(q, 1, &s));
    for (unsigned i = 0; i < 4; i++) {
        g[i] = guest(i, 3);
        assert_int_equal(enter(q, &g[i], 0), QUEUE_WAITS);
    }
    queue_set(q, &(struct queue_rules){.slots = 3, NO_BOUNDS}, at(0));
    assert_int_equal(n_served, 2);
    assert_int_equal(queue_in_flight(q), 3);
    queue_set(q, &(struct queue_rules){.slots = 1, NO_BOUNDS}, at(0));
    queue_leave(&s, at(0));
    queue_leave(&served[0]->w.slot, at(0));
    assert_int_equal(n_served, 2);
    assert_int_equal(queue_in_flight(q), 1);
    queue_leave(&served[1]->w.slot, at(0));
    assert_int_equal(n_served, 3);
    queue_set(q, &(struct queue_rules){.slots = 0, NO_BOUNDS}, at(0)); /* no limit any more */
    assert_int_equal(n_served, 4);
    for (unsigned i = 0; i < 4; i++) {
        slots[i] = g[i].w.slot;
        queue_waiter_release(&g[i].w);
    }
    assert_true(queue_try(q, 1, &s));
    for (unsigned i = 0; i < 4; i++)
        queue_leave(&slots[i], at(0));
    end(q, &s);
}

/* ---- whatever comes ---------------------------------------------------------------------------------------------------- */

static uint64_t random_state;

static unsigned draw(unsigned n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state % n);
}

struct run_guest {
    struct guest g;
    unsigned entered, bound; /* in grants */
    bool waits;
};

/* Every waiting request is served after a bounded number of grants, whatever the others do. */
static void run_at_random(uint64_t seed)
{
    enum { SLOTS = 4, TENANTS = 6, STEPS = 20000, GUESTS = 3000 };
    static const unsigned WEIGHT[] = {0, 16, 8, 4, 2, 1};
    struct queue *q = with(SLOTS);
    struct run_guest *all = calloc(GUESTS, sizeof(*all));
    struct queue_slot held[SLOTS];
    unsigned in_lane[TENANTS][QUEUE_PRIORITIES + 1] = {0};
    unsigned n_held = 0, n = 0, waiting = 0, seen = 0;

    random_state = seed;
    while (n_held < SLOTS)
        assert_true(queue_try(q, draw(TENANTS), &held[n_held++]));
    for (unsigned step = 0; step < STEPS && (n < GUESTS || waiting); step++) {
        unsigned what = draw(10);

        if (n < GUESTS && what < (waiting > 150 ? 2 : 6)) {
            unsigned tenant = draw(4) ? 0 : draw(TENANTS), p = draw(3) ? 1 : 1 + draw(QUEUE_PRIORITIES);
            struct run_guest *r = &all[n++];

            r->g = guest(tenant, p);
            assert_int_equal(enter(q, &r->g, step), QUEUE_WAITS);
            r->waits = true;
            r->entered = n_served;
            r->bound = ++in_lane[tenant][p] * (SLOTS + 2) * TENANTS * (31 / WEIGHT[p] + QUEUE_PRIORITIES);
            waiting++;
        } else if (what == 9 && n) {
            struct run_guest *r = &all[draw(n)];

            if (r->waits) {
                assert_true(queue_withdraw(&r->g.w));
                queue_waiter_release(&r->g.w);
                in_lane[r->g.w.tenant][r->g.w.priority]--;
                r->waits = false;
                waiting--;
            }
        } else if (waiting) {
            unsigned which = draw(SLOTS);
            struct run_guest *r = CONTAINER_OF(pass(q, &held[which], step), struct run_guest, g);

            assert_true(r->waits);
            assert_in_range(n_served - r->entered, 1, r->bound);
            in_lane[r->g.w.tenant][r->g.w.priority]--;
            r->waits = false;
            waiting--;
            seen++;
        }
        assert_int_equal(queue_in_flight(q), SLOTS);
    }
    while (waiting--)
        CONTAINER_OF(pass(q, &held[0], STEPS), struct run_guest, g)->waits = false;
    for (unsigned i = 0; i < n; i++)
        assert_false(all[i].waits);
    assert_true(seen > 1000);
    for (unsigned i = 1; i < SLOTS; i++)
        queue_leave(&held[i], at(0));
    end(q, &held[0]);
    free(all);
}

static void test_every_request_is_served_within_a_bound_whatever_comes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++)
        run_at_random(seed * 0x9e3779b97f4a7c15u);
}

/* ---- many threads ------------------------------------------------------------------------------------------------------ */

static struct queue *shared;
static _Atomic int inside;
static _Atomic unsigned rounds;
enum { THREADS = 4, ROUNDS = 20000, SHARED_SLOTS = 2 };

struct thread_guest {
    struct queue_waiter w;
    _Atomic bool is_granted;
};

static void wake(struct queue_waiter *w)
{
    atomic_store(&CONTAINER_OF(w, struct thread_guest, w)->is_granted, true);
}

static void wait_for(struct thread_guest *g)
{
    while (!atomic_load(&g->is_granted))
        (void)sched_yield();
}

static void *hammer(void *arg)
{
    label tenant = (label)(uintptr_t)arg;

    for (unsigned i = 0; i < ROUNDS; i++) {
        struct thread_guest g = {.w = {.tenant = tenant, .priority = 1 + i % 5, .granted = wake}};
        struct queue_slot s = {0};
        struct queue_report r;

        if (!queue_try(shared, tenant, &s)) {
            enum queue_verdict v = queue_enter(shared, &g.w, at(i), &r);

            if (v == QUEUE_WAITS && i % 7 == 0 && queue_withdraw(&g.w)) {
                queue_waiter_release(&g.w);
                continue;
            }
            if (v == QUEUE_WAITS)
                wait_for(&g);
            s = g.w.slot;
            queue_waiter_release(&g.w);
        }
        if (atomic_fetch_add(&inside, 1) >= SHARED_SLOTS)
            abort();
        atomic_fetch_add(&rounds, 1);
        atomic_fetch_sub(&inside, 1);
        queue_leave(&s, at(i));
    }
    return NULL;
}

static void test_threads_never_take_more_slots_than_there_are_and_none_is_forgotten(void **state)
{
    pthread_t threads[THREADS];

    (void)state;
    shared = with(SHARED_SLOTS);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, (void *)i), 0);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(queue_in_flight(shared), 0);
    assert_true(atomic_load(&rounds) > THREADS * ROUNDS / 2);
    queue_free(shared);
}

/* ---- all providers ----------------------------------------------------------------------------------------------------- */

static void test_a_reload_keeps_what_is_in_flight_and_changes_the_rules(void **state)
{
    struct config_provider p[2] = {{.name = "a", .label = 5, .max_concurrent = 1, .index = 0},
                                   {.name = "b", .label = 6, .index = 1}};
    struct config first = {.providers = p, .n_providers = 2, .queue = {.max_depth = 10, .max_bytes = 10}};
    struct config_provider swapped[2] = {{.name = "b", .label = 6, .index = 0},
                                         {.name = "a", .label = 5, .max_concurrent = 2, .index = 1}};
    struct config second = {.providers = swapped, .n_providers = 2, .queue = {.max_depth = 3}};
    struct queues *t = queues_new();
    struct queues_row rows[4];
    struct queues_sums sums;
    struct queue_slot s, other;

    (void)state;
    assert_null(queues_of(&first, &p[0]));
    queues_bind(t, &first, at(0));
    assert_true(queue_try(queues_of(&first, &p[0]), 1, &s));
    assert_false(queue_try(queues_of(&first, &p[0]), 1, &other));
    queues_bind(t, &second, at(0));
    assert_ptr_equal(queues_of(&first, &p[0]), queues_of(&second, &swapped[1]));
    assert_true(queue_try(queues_of(&second, &swapped[1]), 1, &other));
    queues_refused(t, QUEUE_FULL);
    assert_int_equal(queues_list(t, at(0), rows, 4, &sums), 2);
    assert_int_equal(rows[0].report.used + rows[1].report.used, 2);
    assert_int_equal(sums.refused[QUEUE_FULL], 1);
    queue_leave(&s, at(0));
    queue_leave(&other, at(0));
    queues_free(t);
    arena_release(&first.arena);
    arena_release(&second.arena);
}

#define TEST(f) cmocka_unit_test(f)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_no_more_slots_are_taken_than_there_are),
        TEST(test_without_a_limit_attempts_are_counted_all_the_same),
        TEST(test_who_waits_gets_the_slot_and_nobody_passes_by),
        TEST(test_a_slot_that_came_free_meanwhile_is_taken_without_waiting),
        TEST(test_the_first_priority_overtakes_a_long_queue_of_the_third),
        TEST(test_under_saturation_each_priority_has_its_share),
        TEST(test_a_priority_that_nobody_used_is_owed_nothing),
        TEST(test_tenants_of_one_priority_take_turns),
        TEST(test_a_tenant_that_holds_the_slots_waits_longer_but_is_served),
        TEST(test_coming_anew_each_time_is_no_way_to_the_front),
        TEST(test_what_does_not_fit_is_refused_with_the_reason),
        TEST(test_who_withdraws_is_gone_at_once_and_a_granted_one_is_told_so),
        TEST(test_more_slots_are_given_out_at_once_and_fewer_as_attempts_end),
        TEST(test_every_request_is_served_within_a_bound_whatever_comes),
        TEST(test_threads_never_take_more_slots_than_there_are_and_none_is_forgotten),
        TEST(test_a_reload_keeps_what_is_in_flight_and_changes_the_rules),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
