/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/resilience/lease.h"

#include "tests/unit/cm.h"

static struct mono at(int64_t ms)
{
    return (struct mono){1000000000 + ms * 1000};
}

/* What the store says when nobody else is there and everything fits. */
static void grant(struct lease *l, struct lease_use u, const struct lease_ask *a, int64_t posted)
{
    const struct lease_reply r = {.granted = a->want, .outstanding = a->want - posted, .rest = 1000000};

    lease_hear(l, u, a, &r);
}

static const struct lease_use NOTHING = {0};

/* Of a lease with nothing in it, for a reservation of 10 at 0 ms. */
static struct lease asked(struct lease_ask *out)
{
    struct lease l = {0};

    assert_true(lease_note(&l, NOTHING, 10, false, at(0)));
    assert_true(lease_plan(&l, NOTHING, true, false, at(0), out));
    return l;
}

static void test_nothing_is_spent_before_it_is_granted(void **state)
{
    struct lease_use u = {0, 0};
    struct lease_ask ask;
    struct lease l = asked(&ask);

    (void)state;
    assert_false(lease_has_room(&l, u, 10, true, 0));
    assert_int_equal(ask.granted, 0);
    assert_int_equal(ask.need, 10);
    assert_int_equal(ask.want, 10 + 16 * 10);
    grant(&l, u, &ask, 0);
    assert_true(lease_has_room(&l, u, 170, true, 0));
    assert_false(lease_has_room(&l, u, 171, true, 0));
    assert_false(lease_has_room(&l, u, 1, false, 0)); /* the session is over */
    assert_true(lease_has_room(&l, u, 175, false, 5));
    assert_false(lease_has_room(&l, u, 176, false, 5));
    assert_true(lease_plan(&l, (struct lease_use){0, 175}, false, false, at(0), &ask));
    assert_false(
        lease_has_room(&l, (struct lease_use){0, 175}, 1, false, 5)); /* the store has not heard of it */
    assert_int_equal(lease_overshoot(&l, (struct lease_use){0, 175}, false), 5);
}

static void test_a_session_holds_from_before_its_call_was_sent(void **state)
{
    struct lease_session s = {.life_us = 10000000};

    (void)state;
    assert_false(lease_session_holds(&s, at(0)));
    lease_session_renew(&s, at(0));
    assert_true(lease_session_holds(&s, at(9999)));
    assert_false(lease_session_holds(&s, at(10000)));
    lease_session_renew(&s, at(-5000)); /* an answer that came late does not shorten it */
    assert_true(lease_session_holds(&s, at(9999)));
}

static void test_more_is_asked_for_before_it_runs_out_and_all_goes_back_when_idle(void **state)
{
    struct lease_use u = {0, 0};
    struct lease_ask ask;
    struct lease l = asked(&ask);

    (void)state;
    lease_hear(&l, u, &ask, &(struct lease_reply){.granted = 170, .outstanding = 170, .rest = 1000});
    u.held = 80;
    assert_false(lease_note(&l, u, 10, true, at(1)));
    assert_false(lease_plan(&l, u, true, false, at(1), &ask));
    u.held = 100;
    assert_true(lease_note(&l, u, 10, true, at(2)));
    assert_true(lease_plan(&l, u, true, false, at(2), &ask));
    assert_int_equal(ask.need, 100); /* nothing must be had */
    assert_int_equal(ask.want, 260);
    grant(&l, u, &ask, 0);
    u = (struct lease_use){40, 0};
    assert_true(lease_plan(&l, u, true, false, at(10000), &ask));
    assert_int_equal(ask.granted, 40); /* at once and here */
    assert_int_equal(l.granted, 40);
    assert_int_equal(ask.want, 40);
}

static void test_who_is_wanted_keeps_only_what_is_used(void **state)
{
    struct lease l = {.granted = 500, .told = 500, .typical = 10, .rest = 500, .is_named = true};
    struct lease_use u = {100, 50};
    struct lease_ask ask;

    (void)state;
    l.used_at = at(0);
    lease_is_wanted(&l, at(10));
    assert_true(lease_plan(&l, u, true, false, at(10), &ask));
    assert_int_equal(ask.granted, 150);
    lease_hear(&l, u, &ask, &(struct lease_reply){.granted = 150, .outstanding = 90});
    assert_int_equal(l.posted, 60);
    lease_is_wanted(&l, at(20)); /* although it has nothing to give: the other waits for an answer */
    assert_true(lease_plan(&l, u, true, false, at(20), &ask));
}

static void test_what_is_over_claims_what_is_held_and_nothing_else(void **state)
{
    struct lease l = {.granted = 500, .told = 500, .is_named = true, .used_at = at(0), .typical = 10};
    struct lease_ask ask;

    (void)state;
    assert_true(lease_plan(&l, (struct lease_use){100, 30}, false, false, at(1), &ask));
    assert_int_equal(ask.granted, 130);
    /* A budget that stayed open went on beyond: the store must learn of it. */
    assert_true(lease_plan(&l, (struct lease_use){400, 300}, false, false, at(2), &ask));
    assert_int_equal(ask.granted, 700);
}

static void test_what_was_posted_under_the_lease_but_not_settled_here_counts_as_spent(void **state)
{
    struct lease l = {0};
    struct lease_use u = {20, 0};
    struct lease_ask ask = {.granted = 100, .need = 100, .want = 100};

    (void)state;
    lease_hear(&l, u, &ask, &(struct lease_reply){.granted = 100, .outstanding = 50});
    assert_int_equal(l.foreign, 30);
    assert_true(lease_has_room(&l, u, 50, true, 0));
    assert_false(lease_has_room(&l, u, 51, true, 0));
}

static void test_who_asks_gives_back_what_does_not_reach(void **state)
{
    struct lease l = {.granted = 60, .told = 60, .is_named = true, .typical = 100, .rest = 1};
    struct lease_ask ask;

    (void)state;
    assert_true(lease_note(&l, (struct lease_use){0, 0}, 100, false, at(1)));
    assert_true(lease_plan(&l, (struct lease_use){0, 0}, true, false, at(1), &ask));
    assert_int_equal(ask.granted, 0);
    assert_int_equal(ask.need, 100);
}

static void test_what_was_asked_for_stays_until_it_is_taken(void **state)
{
    struct lease_ask ask;
    struct lease l = asked(&ask);

    (void)state;
    lease_hear(&l, NOTHING, &ask, &(struct lease_reply){.granted = 10, .outstanding = 10});
    (void)lease_is_wanted(&l, at(1));
    (void)lease_plan(&l, NOTHING, true, false, at(2), &ask);
    assert_int_equal(ask.granted, 10);
    assert_int_equal(ask.need, 0); /* it says that not all is in use */
    (void)lease_is_wanted(&l, at(200));
    (void)lease_plan(&l, NOTHING, true, false, at(201), &ask);
    assert_int_equal(ask.granted, 0);
}

static void test_who_is_denied_learns_why(void **state)
{
    struct lease l = {0};
    struct lease_use u = {0, 0};
    struct lease_ask ask;

    (void)state;
    (void)lease_note(&l, u, 10, false, at(0));
    (void)lease_note(&l, u, 7, false, at(0));
    (void)lease_plan(&l, u, true, false, at(5), &ask);
    assert_int_equal(ask.amount, 7);
    assert_int_equal(ask.want, 17 + 16 * l.typical);
    lease_hear(&l, u, &ask, &(struct lease_reply){.rest = 6, .others = 50, .silent_us = 3});
    assert_int_equal(l.denial, LEASE_TAKEN);
    assert_int_equal(l.agreed_at.us, at(5).us - 3);
    assert_int_equal(l.denied, 7);
    assert_int_equal(l.denied_at.us, at(5).us);
    lease_hear(&l, u, &ask, &(struct lease_reply){.rest = -50, .others = 100, .silent_us = 3});
    assert_int_equal(l.denial, LEASE_TAKEN);
    assert_int_equal(l.agreed_at.us, 0); /* what is posted is leased, too: nobody's word is final */
    lease_hear(&l, u, &ask, &(struct lease_reply){.rest = 6});
    assert_int_equal(l.denial, LEASE_SPENT);
    lease_hear(&l, u, &ask, &(struct lease_reply){.rest = 600, .is_quiet = true});
    assert_int_equal(l.denial, LEASE_QUIET);
    grant(&l, u, &ask, 0);
    assert_int_equal(l.denial, LEASE_NOT_DENIED);
}

static void test_what_is_known_to_be_posted_is_outstanding_no_more(void **state)
{
    struct lease l = {.granted = 100, .told = 100, .is_named = true};
    struct lease_use u = {80, 20};
    struct lease_ask ask;

    (void)state;
    assert_false(lease_plan(&l, u, true, false, at(0), &ask));
    assert_int_equal(ask.most, 100);
    lease_has_posted(&l, 60);
    assert_true(lease_plan(&l, u, true, false, at(0), &ask));
    assert_int_equal(ask.most, 40);
    assert_int_equal(lease_overshoot(&l, u, false), 0);
    assert_int_equal(lease_overshoot(&l, u, true), 40);
    lease_is_forgotten(&l);
    assert_true(lease_plan(&l, u, true, false, at(0), &ask));
    assert_int_equal(ask.most, 100);
    assert_int_equal(ask.posted, 0);
}

static void test_what_was_asked_and_not_answered_is_stated_again(void **state)
{
    struct lease_ask ask;
    struct lease l = asked(&ask); /* granted, and the answer is lost */

    (void)state;
    assert_true(lease_plan(&l, NOTHING, true, false, at(9000), &ask));
    assert_int_equal(ask.granted, 0);
    assert_int_equal(ask.want, 0);
    lease_hear(&l, NOTHING, &ask, &(struct lease_reply){.rest = 1000});
    assert_false(lease_plan(&l, NOTHING, true, false, at(9000), &ask));
}

/* A window that was not planned for a while, as when a clock was stepped. */
static void test_what_was_denied_long_ago_is_not_asked_for(void **state)
{
    struct lease l = {0};
    struct lease_ask ask;

    (void)state;
    assert_true(lease_note(&l, NOTHING, 10, false, at(0)));
    assert_false(lease_plan(&l, NOTHING, true, false, at(60000), &ask));
    assert_int_equal(ask.need, 0);
    assert_int_equal(ask.want, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_spent_before_it_is_granted),
        cmocka_unit_test(test_a_session_holds_from_before_its_call_was_sent),
        cmocka_unit_test(test_more_is_asked_for_before_it_runs_out_and_all_goes_back_when_idle),
        cmocka_unit_test(test_who_is_wanted_keeps_only_what_is_used),
        cmocka_unit_test(test_what_is_over_claims_what_is_held_and_nothing_else),
        cmocka_unit_test(test_what_was_posted_under_the_lease_but_not_settled_here_counts_as_spent),
        cmocka_unit_test(test_who_asks_gives_back_what_does_not_reach),
        cmocka_unit_test(test_what_was_asked_for_stays_until_it_is_taken),
        cmocka_unit_test(test_who_is_denied_learns_why),
        cmocka_unit_test(test_what_is_known_to_be_posted_is_outstanding_no_more),
        cmocka_unit_test(test_what_was_asked_and_not_answered_is_stated_again),
        cmocka_unit_test(test_what_was_denied_long_ago_is_not_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
