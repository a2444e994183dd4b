/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/resilience/ratelimit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/cm.h"

#define SECOND 1000000

static struct mono at(int64_t us)
{
    return (struct mono){(int64_t)1000 * SECOND + us};
}

static struct ratelimit *with(uint64_t rpm, uint64_t tpm, uint64_t slots)
{
    struct ratelimit *r = ratelimit_new();

    ratelimit_set(r, &(struct rate_rules){.of = {rpm, tpm, slots}});
    return r;
}

static bool take(struct ratelimit *r, uint64_t tokens, struct mono now, struct rate_hold *h,
                 struct rate_report *rep)
{
    struct rate_chain c = {.at = {r}};

    return rate_take(&c, tokens, now, h, rep);
}

static void test_a_minutes_worth_comes_at_once_and_then_at_the_rate(void **state)
{
    struct ratelimit *r = with(6, 0, 0);
    struct rate_hold h;
    struct rate_report rep;

    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        assert_true(take(r, 0, at(0), &h, &rep));
        assert_int_equal(rep.of[0][RATE_REQUESTS].used, i + 1);
    }
    assert_int_equal(rep.of[0][RATE_REQUESTS].reset_us, 60 * SECOND);
    assert_false(take(r, 0, at(0), &h, &rep));
    assert_int_equal(rep.of[0][RATE_REQUESTS].retry_us, 10 * SECOND);
    assert_int_equal(rep.of[0][RATE_REQUESTS].used, 6); /* a refusal takes nothing */
    assert_false(take(r, 0, at(10 * SECOND - 1), &h, &rep));
    assert_true(take(r, 0, at(10 * SECOND), &h, &rep));
    assert_false(take(r, 0, at(10 * SECOND), &h, &rep));
    ratelimit_free(r);
}

static void test_an_hour_admits_no_more_than_the_rate_and_one_burst(void **state)
{
    struct ratelimit *r = with(120, 0, 0);
    struct rate_hold h;
    struct rate_report rep;
    unsigned n = 0;

    (void)state;
    for (int64_t us = 0; us < (int64_t)3600 * SECOND; us += 37000)
        n += take(r, 0, at(us), &h, &rep);
    assert_in_range(n, 120 * 60, 120 * 60 + 120);
    ratelimit_free(r);
}

static void test_tokens_are_trued_up_both_ways(void **state)
{
    struct ratelimit *r = with(0, 1000, 0);
    struct rate_hold h;
    struct rate_report rep;
    struct rate_view v[RATE_KINDS];

    (void)state;
    assert_true(take(r, 600, at(0), &h, &rep));
    rate_settle(&h, 100, at(0));
    rate_settle(&h, 100, at(0)); /* once */
    ratelimit_view(r, at(0), v);
    assert_int_equal(v[RATE_TOKENS].used, 100);
    assert_true(take(r, 900, at(0), &h, &rep));
    rate_settle(&h, 1400, at(0)); /* more than was thought: owed */
    ratelimit_view(r, at(0), v);
    assert_int_equal(v[RATE_TOKENS].used, 1500);
    assert_false(take(r, 1, at(30 * SECOND), &h, &rep));
    assert_true(take(r, 1, at(31 * SECOND), &h, &rep));
    ratelimit_free(r);
}

static void test_one_larger_than_the_limit_waits_for_all_of_it(void **state)
{
    struct ratelimit *r = with(0, 1000, 0);
    struct rate_hold h;
    struct rate_report rep;

    (void)state;
    assert_true(take(r, 5000, at(0), &h, &rep));
    rate_settle(&h, 5000, at(0));
    assert_false(take(r, 1, at(239 * SECOND), &h, &rep));
    assert_true(take(r, 1, at(241 * SECOND), &h, &rep));
    ratelimit_free(r);
}

static void test_slots_are_freed_exactly_once(void **state)
{
    struct ratelimit *r = with(0, 0, 2);
    struct rate_hold a, b, c;
    struct rate_report rep;

    (void)state;
    assert_true(take(r, 0, at(0), &a, &rep));
    assert_true(take(r, 0, at(0), &b, &rep));
    assert_false(take(r, 0, at(0), &c, &rep));
    rate_settle(&c, 0, at(0)); /* it never had one */
    assert_false(take(r, 0, at(0), &c, &rep));
    rate_settle(&a, 0, at(0));
    rate_settle(&a, 0, at(0));
    assert_true(take(r, 0, at(0), &c, &rep));
    assert_false(take(r, 0, at(0), &a, &rep));
    ratelimit_free(r);
}

static void test_a_chain_takes_of_all_or_of_none(void **state)
{
    struct ratelimit *key = with(100, 0, 0), *tenant = with(1, 0, 5);
    struct rate_chain c = {.at = {key, tenant}}, back = {.at = {tenant, key}};
    struct rate_hold h;
    struct rate_report rep;
    struct rate_view v[RATE_KINDS];

    (void)state;
    assert_true(rate_take(&c, 0, at(0), &h, &rep));
    assert_false(rate_take(&back, 0, at(0), &h, &rep));
    assert_true(rep.of[0][RATE_REQUESTS].is_exhausted);
    assert_false(rep.of[1][RATE_REQUESTS].is_exhausted);
    ratelimit_view(key, at(0), v);
    assert_int_equal(v[RATE_REQUESTS].used, 1);
    ratelimit_view(tenant, at(0), v);
    assert_int_equal(v[RATE_CONCURRENT].used, 1);
    ratelimit_free(key);
    ratelimit_free(tenant);
}

static void test_what_came_to_nothing_is_given_back_whole(void **state)
{
    struct ratelimit *r = with(1, 100, 1);
    struct rate_hold h;
    struct rate_report rep;

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        assert_true(take(r, 100, at(0), &h, &rep));
        rate_give_back(&h);
    }
    ratelimit_free(r);
}

static void test_in_shadow_nothing_is_refused_and_all_is_seen(void **state)
{
    struct ratelimit *r = ratelimit_new();
    struct rate_hold h;
    struct rate_report rep;

    (void)state;
    ratelimit_set(r, &(struct rate_rules){.of = {1, 0, 0}, .is_shadow = true});
    assert_true(take(r, 0, at(0), &h, &rep));
    assert_false(rep.of[0][RATE_REQUESTS].is_exhausted);
    assert_true(take(r, 0, at(0), &h, &rep));
    assert_true(rep.of[0][RATE_REQUESTS].is_exhausted);
    ratelimit_free(r);
}

static void test_a_huge_limit_still_counts_each_token(void **state)
{
    struct ratelimit *r = with(0, 1000000000000, 0);
    struct rate_hold h;
    struct rate_report rep;

    (void)state;
    for (unsigned i = 0; i < 1000; i++)
        assert_true(take(r, 1, at(0), &h, &rep)); /* each moves the bucket */
    assert_true(rep.of[0][RATE_TOKENS].used >= 1000);
    ratelimit_free(r);
}

struct race {
    struct ratelimit *r;
    _Atomic unsigned admitted, open, most;
};

static void *racer(void *arg)
{
    struct race *x = arg;

    for (unsigned i = 0; i < 20000; i++) {
        struct rate_hold h;
        struct rate_report rep;
        unsigned open, most;

        if (!take(x->r, 3, at(0), &h, &rep))
            continue;
        x->admitted++;
        open = ++x->open;
        most = x->most;
        while (open > most && !atomic_compare_exchange_weak(&x->most, &most, open))
            continue;
        x->open--;
        rate_settle(&h, 3, at(0));
    }
    return NULL;
}

static void test_racing_takes_never_pass_a_limit(void **state)
{
    struct race x = {.r = with(10000, 15000, 3)};
    pthread_t t[4];

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        (void)pthread_create(&t[i], NULL, racer, &x);
    for (unsigned i = 0; i < 4; i++)
        (void)pthread_join(t[i], NULL);
    assert_int_equal(x.admitted, 5000); /* the tokens ended first */
    assert_true(x.most <= 3);
    ratelimit_free(x.r);
}

static void test_only_what_is_leased_is_used_and_the_rest_goes_back(void **state)
{
    struct ratelimit *r = ratelimit_new();
    struct rate_chain c = {.at = {r}, .is_leased = true};
    struct mono now = {1000000000};
    struct rate_ask asks[RATE_KINDS];
    struct rate_report report;
    struct rate_hold one, two;

    (void)state;
    ratelimit_set(r, &(struct rate_rules){.of = {600, 0, 3}});
    assert_false(rate_take(&c, 0, now, &one, &report));
    assert_true(one.is_due);
    assert_true(report.of[0][RATE_REQUESTS].lacks_lease);
    assert_int_equal(ratelimit_plan(r, now, asks), 2);
    assert_int_equal(asks[0].need, 1);
    assert_int_equal(asks[1].kind, RATE_CONCURRENT);
    assert_int_equal(asks[1].need, 1);
    ratelimit_hear(r, &asks[0], 1, 100000, now); /* one of 600: a tenth of a second */
    ratelimit_hear(r, &asks[1], 1, 2, now);
    assert_true(rate_take(&c, 0, now, &one, &report));
    assert_int_equal(report.of[0][RATE_REQUESTS].used, 1);
    assert_int_equal(report.of[0][RATE_CONCURRENT].used, 3); /* with two of other nodes */
    assert_false(rate_take(&c, 0, now, &two, &report));
    assert_int_equal(ratelimit_plan(r, now, asks), 2);
    assert_int_equal(asks[1].granted, 1);
    assert_int_equal(asks[1].want, 2);
    ratelimit_hear(r, &asks[1], 1, 2, now); /* no */
    assert_false(rate_take(&c, 0, now, &two, &report));
    assert_false(two.is_due); /* it is known: nobody waits for it */
    assert_false(report.of[0][RATE_CONCURRENT].lacks_lease);
    rate_settle(&one, 0, now);
    now.us += 1000000;
    assert_int_equal(ratelimit_plan(r, now, asks), 0); /* the slot was open lately */
    now.us += 1000000;
    assert_int_equal(ratelimit_plan(r, now, asks), 1);
    assert_int_equal(asks[0].kind, RATE_CONCURRENT);
    assert_int_equal(asks[0].want, 0);
    ratelimit_free(r);
}

static void test_slots_that_stay_open_are_stated_again(void **state)
{
    struct ratelimit *r = ratelimit_new();
    struct rate_chain c = {.at = {r}, .is_leased = true};
    struct mono now = {1000000000};
    struct rate_ask asks[RATE_KINDS];
    struct rate_report report;
    struct rate_hold h;

    (void)state;
    ratelimit_set(r, &(struct rate_rules){.of = {[RATE_CONCURRENT] = 3}});
    assert_false(rate_take(&c, 0, now, &h, &report));
    assert_int_equal(ratelimit_plan(r, now, asks), 1);
    ratelimit_hear(r, &asks[0], 1, 0, now);
    assert_true(rate_take(&c, 0, now, &h, &report));
    now.us += 59000000;
    assert_int_equal(ratelimit_plan(r, now, asks), 0);
    now.us += 1000000; /* before the store forgets them */
    assert_int_equal(ratelimit_plan(r, now, asks), 1);
    assert_int_equal(asks[0].granted, 1);
    ratelimit_hear(r, &asks[0], 1, 0, now);
    assert_int_equal(ratelimit_plan(r, now, asks), 0);
    ratelimit_state_again(r); /* it was emptied */
    assert_int_equal(ratelimit_plan(r, now, asks), 1);
    assert_int_equal(asks[0].granted, 1);
    ratelimit_hear(r, &asks[0], 1, 0, now);
    ratelimit_forget(r); /* the session was over, what is open goes on */
    assert_int_equal(ratelimit_plan(r, now, asks), 1);
    assert_int_equal(asks[0].granted, 1);
    rate_settle(&h, 0, now);
    ratelimit_free(r);
}

static void test_a_limit_is_divided_while_the_store_is_away(void **state)
{
    struct ratelimit *r = ratelimit_new();
    struct rate_chain c = {.at = {r}, .nodes = 3};
    struct mono now = {1000000000};
    struct rate_report report;
    struct rate_hold h;
    unsigned n = 0;

    (void)state;
    ratelimit_set(r, &(struct rate_rules){.of = {30}});
    while (rate_take(&c, 0, now, &h, &report))
        n++;
    assert_int_equal(n, 10);
    ratelimit_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_minutes_worth_comes_at_once_and_then_at_the_rate),
        cmocka_unit_test(test_an_hour_admits_no_more_than_the_rate_and_one_burst),
        cmocka_unit_test(test_tokens_are_trued_up_both_ways),
        cmocka_unit_test(test_one_larger_than_the_limit_waits_for_all_of_it),
        cmocka_unit_test(test_slots_are_freed_exactly_once),
        cmocka_unit_test(test_a_chain_takes_of_all_or_of_none),
        cmocka_unit_test(test_what_came_to_nothing_is_given_back_whole),
        cmocka_unit_test(test_in_shadow_nothing_is_refused_and_all_is_seen),
        cmocka_unit_test(test_a_huge_limit_still_counts_each_token),
        cmocka_unit_test(test_only_what_is_leased_is_used_and_the_rest_goes_back),
        cmocka_unit_test(test_slots_that_stay_open_are_stated_again),
        cmocka_unit_test(test_a_limit_is_divided_while_the_store_is_away),
        cmocka_unit_test(test_racing_takes_never_pass_a_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
