/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/resilience/budget.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cm.h"

#define HOUR_US 3600000000

static const struct wall NOON = {(int64_t)1763640000 * 1000000}; /* 2025-11-20T12:00:00Z */

static void set(struct budget_account *a, int64_t limit_nanousd, enum period p)
{
    budget_account_set(a, &(struct budget_rule){.limit_nanousd = limit_nanousd, .cycle = {p, NULL}});
}

/* Of every test: a book, and an account in it. */
static struct budget_book *b;
static struct budget_account *a;

static int setup(void **state)
{
    (void)state;
    b = budget_book_new();
    a = budget_account_get(b, "tenant:acme");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    budget_book_free(b);
    return 0;
}

static void test_a_chain_is_held_as_a_whole_or_not_at_all(void **state)
{
    struct budget_account *key = budget_account_get(b, "key:acme/web");
    struct budget_chain chain = {.at = {key, a}};
    struct budget_hold one, two;
    struct budget_view why;

    (void)state;
    set(key, 100, PERIOD_DAY);
    set(a, 60, PERIOD_DAY);
    assert_int_equal(budget_reserve(&chain, 50, NOON, &one, NULL), ERR_OK);
    assert_int_equal(budget_reserve(&chain, 20, NOON, &two, &why), ERR_OVER_BUDGET);
    assert_string_equal(why.account, "tenant:acme");
    assert_string_equal(why.window, "2025-11-20");
    assert_int_equal(why.held_nanousd, 50);
    assert_int_equal(budget_account_sums(key, NOON).held_nanousd, 50); /* nothing of the second */
    budget_settle(&two, 20);                                           /* never was */
    budget_settle(&one, 30);
    budget_settle(&one, 30); /* once */
    assert_int_equal(budget_account_sums(key, NOON).posted_nanousd, 30);
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 30);
    assert_int_equal(budget_account_sums(a, NOON).held_nanousd, 0);
    assert_int_equal(budget_reserve(&chain, 30, NOON, &one, NULL), ERR_OK); /* exactly the rest */
    budget_give_back(&one);
}

static void test_an_account_named_twice_is_held_once(void **state)
{
    struct budget_chain chain = {.at = {a, NULL, a, a}};
    struct budget_hold h;

    (void)state;
    assert_int_equal(budget_reserve(&chain, 7, NOON, &h, NULL), ERR_OK);
    assert_int_equal(budget_account_sums(a, NOON).held_nanousd, 7);
    budget_settle(&h, 5);
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 5);
    assert_ptr_equal(budget_account_get(b, "tenant:acme"), a);
}

static void test_a_window_that_ends_takes_its_holds_with_it(void **state)
{
    struct budget_chain chain = {.at = {a}};
    struct wall later = {NOON.us + HOUR_US}, much_later = {NOON.us + 3 * HOUR_US};
    struct budget_hold early, late;

    (void)state;
    set(a, 100, PERIOD_HOUR);
    assert_int_equal(budget_reserve(&chain, 100, NOON, &early, NULL), ERR_OK);
    assert_int_equal(budget_reserve(&chain, 100, later, &late, NULL), ERR_OK); /* a new hour, a new budget */
    budget_settle(&early, 90);                                                 /* belongs to the old one */
    assert_int_equal(budget_account_sums(a, later).posted_nanousd, 0);
    assert_int_equal(budget_account_sums(a, later).held_nanousd, 100);
    assert_int_equal(budget_account_sums(a, much_later).held_nanousd, 0);
    budget_settle(&late, 10);
    assert_int_equal(budget_account_sums(a, much_later).posted_nanousd, 0);
}

static void test_a_clock_that_steps_back_finds_what_was_spent_there(void **state)
{
    struct budget_chain chain = {.at = {a}};
    struct wall before = {NOON.us - 1};
    struct budget_hold h, held;

    (void)state;
    set(a, 100, PERIOD_HOUR);
    assert_int_equal(budget_reserve(&chain, 70, before, &h, NULL), ERR_OK);
    assert_int_equal(budget_reserve(&chain, 60, NOON, &held, NULL), ERR_OK);
    budget_settle(&h, 70);
    assert_int_equal(budget_reserve(&chain, 60, NOON, &h, NULL), ERR_OVER_BUDGET);
    assert_int_equal(budget_reserve(&chain, 31, before, &h, NULL), ERR_OVER_BUDGET);
    assert_int_equal(budget_reserve(&chain, 30, before, &h, NULL), ERR_OK);
    assert_int_equal(budget_raise(&h, 31, NULL), ERR_OVER_BUDGET); /* nor later, when that hour is over */
    budget_settle(&h, 30);
    budget_settle(&held, 60);
    assert_int_equal(budget_account_sums(a, before).posted_nanousd, 100);
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 60);
    assert_int_equal(budget_account_sums(a, NOON).held_nanousd, 0);
}

static void test_a_window_that_was_never_read_is_not_known(void **state)
{
    struct wall before = {NOON.us - 1};
    struct budget_mark mark;

    (void)state;
    set(a, 100, PERIOD_HOUR);
    assert_true(budget_account_knows(a, before)); /* it follows no books */
    mark = budget_account_mark(a, NOON);
    budget_account_follow(a, &mark, false, 10);
    assert_true(budget_account_knows(a, NOON));
    assert_true(budget_account_knows(a, (struct wall){NOON.us + 5 * HOUR_US}));
    assert_false(budget_account_knows(a, before));
    mark = budget_account_mark(a, before);
    budget_account_follow(a, &mark, false, 20); /* it may lack what was settled here */
    assert_false(budget_account_knows(a, before));
    budget_account_follow(a, &mark, true, 20);
    assert_true(budget_account_knows(a, before));
    assert_int_equal(budget_account_sums(a, before).posted_nanousd, 20);
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 10);
}

static void test_of_many_windows_the_oldest_is_forgotten_and_not_known(void **state)
{
    struct budget_chain chain = {.at = {a}};
    struct budget_mark mark;
    struct budget_hold h;

    (void)state;
    set(a, 100, PERIOD_HOUR);
    mark = budget_account_mark(a, NOON);
    budget_account_follow(a, &mark, false, 1);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(
            budget_reserve(&chain, 100 - (i == 0), (struct wall){NOON.us + i * HOUR_US}, &h, NULL), ERR_OK);
        budget_settle(&h, 50);
    }
    assert_int_equal(budget_account_sums(a, (struct wall){NOON.us + 6 * HOUR_US}).posted_nanousd, 50);
    assert_true(budget_account_knows(a, (struct wall){NOON.us + 6 * HOUR_US}));
    assert_false(budget_account_knows(a, NOON));
}

static void test_amounts_near_the_end_of_integers_do_not_wrap(void **state)
{
    struct budget_chain chain = {.at = {a}};
    struct budget_mark mark;
    struct budget_hold h;

    (void)state;
    set(a, INT64_MAX, PERIOD_TOTAL);
    mark = budget_account_mark(a, NOON);
    budget_account_follow(a, &mark, true, INT64_MAX - 5);
    assert_int_equal(budget_reserve(&chain, 6, NOON, &h, NULL), ERR_OVER_BUDGET);
    assert_int_equal(budget_reserve(&chain, 5, NOON, &h, NULL), ERR_OK);
    budget_settle(&h, INT64_MAX);
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, INT64_MAX);
    assert_int_equal(budget_reserve(&chain, 1, NOON, &h, NULL), ERR_OVER_BUDGET);
}

/* ---- many threads ---- */

#define THREADS 4
#define ROUNDS  20000

struct racer {
    struct budget_account *own, *shared;
    unsigned seed;
    int64_t spent;
    bool saw_overshoot;
};

static void *race(void *user)
{
    struct racer *r = user;

    for (int i = 0; i < ROUNDS; i++) {
        /* In both orders: the lock order is the book's. */
        struct budget_chain chain = {.at = {i % 2 ? r->own : r->shared, i % 2 ? r->shared : r->own}};
        int64_t bound = 1 + rand_r(&r->seed) % 50, cost = rand_r(&r->seed) % (bound + 1);
        struct budget_hold h;
        struct budget_sums sums;

        if (budget_reserve(&chain, bound, NOON, &h, NULL) == ERR_OK) {
            budget_settle(&h, cost);
            r->spent += cost;
        }
        sums = budget_account_sums(r->shared, NOON);
        r->saw_overshoot |= sums.posted_nanousd + sums.held_nanousd > sums.limit_nanousd;
    }
    return NULL;
}

static void test_racing_reservations_never_pass_a_limit(void **state)
{
    struct budget_account *shared = budget_account_get(b, "global");
    struct racer racers[THREADS];
    pthread_t threads[THREADS];
    int64_t spent = 0;

    (void)state;
    set(shared, 400000, PERIOD_MONTH);
    for (unsigned i = 0; i < THREADS; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "key:acme/%u", i);
        racers[i] = (struct racer){.own = budget_account_get(b, name), .shared = shared, .seed = i + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
        assert_false(racers[i].saw_overshoot);
        assert_int_equal(budget_account_sums(racers[i].own, NOON).posted_nanousd, racers[i].spent);
        spent += racers[i].spent;
    }
    assert_int_equal(budget_account_sums(shared, NOON).posted_nanousd, spent);
    assert_int_equal(budget_account_sums(shared, NOON).held_nanousd, 0);
    assert_true(spent <= 400000 && spent > 399000);
}

static void test_thousands_of_accounts_are_found_again(void **state)
{
    char name[BUDGET_ACCOUNT + 1];

    (void)state;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < 3000; i++) {
            (void)snprintf(name, sizeof(name), "tenant:%d", i);
            if (pass == 0)
                set(budget_account_get(b, name), i, PERIOD_DAY);
            assert_int_equal(budget_account_sums(budget_account_get(b, name), NOON).limit_nanousd, i);
        }
    }
    memset(name, 'x', BUDGET_ACCOUNT);
    name[BUDGET_ACCOUNT] = '\0';
    assert_null(budget_account_get(b, name));
}

static void test_following_a_store_that_lags_loses_nothing_and_learns_of_others(void **state)
{
    struct budget_chain chain = {.at = {a}};
    struct budget_hold h;
    struct budget_mark mark = budget_account_mark(a, NOON);

    (void)state;
    set(a, 1000, PERIOD_MONTH);
    mark = budget_account_mark(a, NOON);
    budget_account_follow(a, &mark, false, 100); /* what was spent before the start */
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 100);
    assert_int_equal(budget_reserve(&chain, 50, NOON, &h, NULL), ERR_OK);
    budget_settle(&h, 50);
    budget_account_follow(a, &mark, true, 100); /* the store has not heard of the 50 */
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 150);
    budget_account_follow(a, &mark, true, 150); /* now it has */
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 150);
    budget_account_follow(a, &mark, true, 210); /* and 60 of another node */
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 210);
    mark = budget_account_mark(a, NOON);
    budget_account_follow(a, &mark, false, 180); /* a credit elsewhere, or a store that lags: not sure yet */
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 210);
    budget_account_follow(a, &mark, true, 180);
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 180);
    (void)budget_account_sums(a, (struct wall){NOON.us + (int64_t)40 * 24 * HOUR_US});
    budget_account_follow(a, &mark, true, 900); /* of a window that is over */
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 900);
    assert_int_equal(
        budget_account_sums(a, (struct wall){NOON.us + (int64_t)40 * 24 * HOUR_US}).posted_nanousd, 0);
}

/* What a reset asks: until the store is known to have the one before, others may have spent more than can be told. */
static void test_after_a_credit_the_books_tell_what_others_spent_once_they_have_it(void **state)
{
    struct budget_hold h;
    struct budget_mark mark;

    (void)state;
    set(a, 1000, PERIOD_MONTH);
    assert_int_equal(budget_reserve(&(struct budget_chain){.at = {a}}, 50, NOON, &h, NULL), ERR_OK);
    budget_settle(&h, 50);
    budget_account_correct(a, NOON, -50);
    mark = budget_account_mark(a, NOON);
    budget_account_follow(a, &mark, false, 30); /* it may lack the credit */
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 0);
    budget_account_follow(a, &mark, true, 30);
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 30);
}

static void test_after_another_cycle_was_set_a_window_is_known_once_it_was_read(void **state)
{
    struct budget_mark mark;

    (void)state;
    set(a, 1000, PERIOD_DAY); /* nobody follows books */
    assert_true(budget_account_knows(a, NOON));
    mark = budget_account_mark(a, NOON);
    budget_account_follow(a, &mark, false, 100);
    set(a, 1000, PERIOD_MONTH);
    assert_false(budget_account_knows(a, NOON));
    budget_account_follow(a, &mark, true, 100); /* of the day */
    assert_false(budget_account_knows(a, NOON));
    mark = budget_account_mark(a, (struct wall){NOON.us - (int64_t)30 * 24 * HOUR_US});
    budget_account_follow(a, &mark, false, 0); /* of the month before */
    assert_false(budget_account_knows(a, NOON));
    mark = budget_account_mark(a, NOON);
    budget_account_follow(a, &mark, false, 900);
    assert_true(budget_account_knows(a, NOON));
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 900);
    assert_false(budget_account_knows(a, (struct wall){NOON.us + (int64_t)30 * 24 * HOUR_US}));
    budget_account_follow(a, &mark, true, 900);
    assert_true(budget_account_knows(a, (struct wall){NOON.us + (int64_t)30 * 24 * HOUR_US}));
}

static struct wall instant_of(const char *id, struct cycle c)
{
    struct wall at = {NOON.us - 60 * HOUR_US};
    char name[PERIOD_WINDOW_CAP];

    do {
        at.us += 6 * HOUR_US;
        (void)cycle_name(c, at, name);
    } while (strcmp(name, id) != 0 && at.us < NOON.us + 60 * HOUR_US);
    assert_string_equal(name, id);
    return at;
}

static void test_by_another_zone_a_window_goes_on_with_what_is_spent_and_held(void **state)
{
    static const enum period PERIODS[] = {PERIOD_TOTAL, PERIOD_DAY, PERIOD_WEEK, PERIOD_MONTH};
    static const char *const ZONES[] = {"Pacific/Kiritimati", "Etc/GMT+12", "Europe/Berlin", "UTC"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(PERIODS); i++) {
        struct budget_account *one = budget_account_get(b, period_name(PERIODS[i]));
        struct budget_rule rule = {.limit_nanousd = 100, .cycle = {PERIODS[i], NULL}};
        struct budget_hold h, open;
        char id[PERIOD_WINDOW_CAP];
        struct wall at = NOON;

        budget_account_set(one, &rule);
        (void)cycle_name(rule.cycle, NOON, id);
        assert_int_equal(budget_reserve(&(struct budget_chain){.at = {one}}, 10, NOON, &open, NULL), ERR_OK);
        assert_int_equal(budget_reserve(&(struct budget_chain){.at = {one}}, 10, NOON, &h, NULL), ERR_OK);
        budget_settle(&h, 5);
        for (size_t j = 0; j < ARRAY_LEN(ZONES); j++) {
            assert_int_equal(zone_find_mt(span_of(ZONES[j]), &rule.cycle.zone, NULL), ERR_OK);
            budget_account_set(one, &rule);
            at = instant_of(id, rule.cycle);
            assert_int_equal(budget_account_sums(one, at).posted_nanousd, 5);
            assert_int_equal(budget_account_sums(one, at).held_nanousd, 10);
        }
        budget_settle(&open, 7);
        assert_int_equal(budget_account_sums(one, at).posted_nanousd, 12);
        assert_int_equal(budget_account_sums(one, at).held_nanousd, 0);
    }
}

static void test_an_instant_of_a_window_is_within_it(void **state)
{
    const struct budget_sums sums = {.start_us = 100, .end_us = 200};

    (void)state;
    assert_int_equal(budget_sums_at(&sums, (struct wall){99}).us, 100);
    assert_int_equal(budget_sums_at(&sums, (struct wall){150}).us, 150);
    assert_int_equal(budget_sums_at(&sums, (struct wall){199}).us, 199);
    assert_int_equal(budget_sums_at(&sums, (struct wall){200}).us, 199);
}

static void test_a_hold_is_raised_on_the_whole_chain_or_not_at_all(void **state)
{
    struct budget_account *key = budget_account_get(b, "key:acme/web");
    struct budget_chain chain = {.at = {key, a}};
    struct budget_hold h;
    struct budget_view why;

    (void)state;
    set(key, 100, PERIOD_DAY);
    set(a, 60, PERIOD_DAY);
    assert_int_equal(budget_reserve(&chain, 50, NOON, &h, NULL), ERR_OK);
    assert_int_equal(budget_raise(&h, 61, &why), ERR_OVER_BUDGET);
    assert_string_equal(why.account, "tenant:acme");
    assert_int_equal(budget_account_sums(key, NOON).held_nanousd, 50);
    assert_int_equal(budget_raise(&h, 60, &why), ERR_OK);
    assert_int_equal(budget_account_sums(key, NOON).held_nanousd, 60);
    budget_settle(&h, 55);
    assert_int_equal(budget_account_sums(a, NOON).held_nanousd, 0);
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 55);
}

static void test_what_is_held_in_a_window_that_was_dropped_is_not_taken_off_its_successor(void **state)
{
    struct budget_hold h, more;

    (void)state;
    set(a, 100, PERIOD_MONTH);
    assert_int_equal(budget_reserve(&(struct budget_chain){.at = {a}}, 60, NOON, &h, NULL), ERR_OK);
    set(a, 100, PERIOD_DAY);
    set(a, 100, PERIOD_MONTH); /* the same window again, with nothing in it */
    budget_settle(&h, 10);
    assert_int_equal(budget_account_sums(a, NOON).held_nanousd, 0);
    assert_int_equal(budget_reserve(&(struct budget_chain){.at = {a}}, 101, NOON, &more, NULL),
                     ERR_OVER_BUDGET);
}

/* The store takes a reset off what is posted there: room for all nodes, which each has to ask for. */
static void test_a_reset_makes_no_room_in_a_lease(void **state)
{
    struct mono now = {1000000};
    struct budget_terms terms = {true, true, now};
    struct budget_chain chain = {.at = {a}, .terms = terms};
    struct budget_lease leases[BUDGET_WINDOWS];
    struct budget_hold h;
    struct budget_view why;

    (void)state;
    set(a, 100, PERIOD_DAY);
    assert_int_equal(budget_reserve(&chain, 40, NOON, &h, &why), ERR_OVER_BUDGET);
    assert_true(why.lacks_lease);
    assert_int_equal(budget_account_plan(a, NOON, &terms, leases), 1);
    budget_account_hear(a, &leases[0], &(struct lease_reply){.granted = 40, .outstanding = 40, .rest = 60});
    assert_int_equal(budget_reserve(&chain, 40, NOON, &h, &why), ERR_OK);
    budget_settle(&h, 40);
    budget_account_correct(a, NOON, -90); /* what others spent was known where the reset was asked for */
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 0);
    assert_int_equal(budget_reserve(&chain, 1, NOON, &h, &why), ERR_OVER_BUDGET);
    assert_true(why.lacks_lease);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_a_chain_is_held_as_a_whole_or_not_at_all),
        T(test_an_account_named_twice_is_held_once),
        T(test_a_window_that_ends_takes_its_holds_with_it),
        T(test_a_clock_that_steps_back_finds_what_was_spent_there),
        T(test_a_window_that_was_never_read_is_not_known),
        T(test_of_many_windows_the_oldest_is_forgotten_and_not_known),
        T(test_amounts_near_the_end_of_integers_do_not_wrap),
        T(test_racing_reservations_never_pass_a_limit),
        T(test_thousands_of_accounts_are_found_again),
        T(test_following_a_store_that_lags_loses_nothing_and_learns_of_others),
        T(test_after_a_credit_the_books_tell_what_others_spent_once_they_have_it),
        T(test_after_another_cycle_was_set_a_window_is_known_once_it_was_read),
        T(test_by_another_zone_a_window_goes_on_with_what_is_spent_and_held),
        T(test_an_instant_of_a_window_is_within_it),
        T(test_a_hold_is_raised_on_the_whole_chain_or_not_at_all),
        T(test_what_is_held_in_a_window_that_was_dropped_is_not_taken_off_its_successor),
        T(test_a_reset_makes_no_room_in_a_lease),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
