/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/resilience/breaker.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "tests/unit/cm.h"

#define S 1000000

static const struct config_breaker RULES = {.failures = 5,
                                            .error_rate = 0.5,
                                            .min_requests = 20,
                                            .window_us = 60 * S,
                                            .open_for_us = 30 * S,
                                            .max_open_for_us = 300 * (int64_t)S,
                                            .probes = 3,
                                            .close_after = 2};

static struct breakers *table;
static struct breaker_now now;
static label p, m;

static int set_up(void **state)
{
    (void)state;
    table = breakers_new(7);
    now = (struct breaker_now){{1000 * (int64_t)S}, {1700000000 * (int64_t)S}};
    p = intern_z("openrouter");
    m = intern_z("openai/gpt-4o-mini");
    return 0;
}
static int tear_down(void **state)
{
    (void)state;
    breakers_free(table);
    return 0;
}

static void pass(int64_t us)
{
    now.mono.us += us;
    now.wall.us += us;
}

static bool admit(struct breaker_ticket *t)
{
    return breaker_admit(table, p, m, &RULES, now, t);
}
static void report(struct breaker_ticket *t, enum breaker_outcome o)
{
    breaker_report(table, t, o, "HTTP 500", &RULES, now);
}
static bool attempt(enum breaker_outcome o)
{
    struct breaker_ticket t;

    if (!admit(&t))
        return false;
    report(&t, o);
    return true;
}
static struct breaker_view *look(void)
{
    static struct breaker_view v;

    assert_true(breaker_look(table, p, m, &RULES, now, &v));
    return &v;
}
static void open_it(void)
{
    for (int i = 0; i < 5; i++)
        assert_true(attempt(BREAKER_FAILURE));
    assert_int_equal(look()->state, BREAKER_OPEN);
}
static void half_open_it(void)
{
    open_it();
    now.mono.us += look()->until.us - now.wall.us;
    now.wall = look()->until;
    assert_int_equal(look()->state, BREAKER_HALF_OPEN);
}

static void test_25_straight_failures_open_it_at_the_configured_count(void **state)
{
    unsigned admitted = 0;

    (void)state;
    for (int i = 0; i < 25; i++)
        admitted += attempt(BREAKER_FAILURE);
    assert_int_equal(admitted, 5);
    assert_int_equal(look()->state, BREAKER_OPEN);
    assert_int_equal(look()->failures, 5);
    assert_false(look()->is_available);
    assert_string_equal(look()->cause, "5 failures in a row: HTTP 500");
}

static void test_what_says_nothing_of_the_provider_never_counts(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_true(attempt(BREAKER_NEITHER));
    assert_int_equal(look()->window_attempts, 0);
    for (int i = 0; i < 4; i++)
        assert_true(attempt(BREAKER_FAILURE));
    for (int i = 0; i < 1000; i++)
        assert_true(attempt(BREAKER_NEITHER));
    assert_int_equal(look()->failures, 4); /* nor does it end a row */
    assert_true(attempt(BREAKER_SUCCESS));
    assert_int_equal(look()->failures, 0);
}

/* What is done with S(uccess), F(ailure), N(either) or a pause of 10 s (.), and where it ends. */
static void test_a_closed_breaker_opens_by_count_or_by_rate_and_not_otherwise(void **state)
{
    static const struct {
        const char *story;
        enum breaker_state end;
    } CASES[] = {
        {"FFFF", BREAKER_CLOSED},
        {"FFFFF", BREAKER_OPEN},
        {"FFFFSFFFF", BREAKER_CLOSED},
        {"FFFFNNNF", BREAKER_OPEN},
        {"FSFSFSFSFSFSFSFSFS", BREAKER_CLOSED},         /* 18 say nothing of a rate */
        {"FSFSFSFSFSFSFSFSFSSF", BREAKER_OPEN},         /* 10 of 20 */
        {"SSSSSSSSSSSFFSFFSFFSFF", BREAKER_CLOSED},     /* 8 of 22 */
        {"FSFSFSFSFS.......FSFSFSFSF", BREAKER_CLOSED}, /* the first ten are out of the window */
        {"FFFF........F", BREAKER_OPEN},                /* a row has no window */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        m = intern_z(CASES[i].story);
        for (const char *c = CASES[i].story; *c; c++) {
            if (*c == '.')
                pass(10 * S);
            else
                assert_true(attempt(*c == 'F'   ? BREAKER_FAILURE
                                    : *c == 'S' ? BREAKER_SUCCESS
                                                : BREAKER_NEITHER));
        }
        if (look()->state != CASES[i].end)
            fail_msg("%s: %s", CASES[i].story, breaker_state_name(look()->state));
    }
}

static void test_pauses_double_up_to_the_longest_and_are_jittered(void **state)
{
    int64_t want = 30 * (int64_t)S, first = 0;
    bool differ = false;

    (void)state;
    open_it();
    for (int i = 0; i < 8; i++) {
        int64_t got = look()->until.us - now.wall.us;

        assert_in_range(got, want * 8 / 10 - 1, want);
        differ |= first && got * 30 * S / want != first;
        first = got * 30 * S / want;
        pass(got - 1);
        assert_false(attempt(BREAKER_SUCCESS));
        pass(1);
        assert_true(attempt(BREAKER_FAILURE)); /* the probe */
        want = want * 2 < RULES.max_open_for_us ? want * 2 : RULES.max_open_for_us;
    }
    assert_true(differ);
}

static void test_breaker_closes_after_successes_in_a_row_and_says_how_long_it_took(void **state)
{
    (void)state;
    half_open_it();
    assert_true(attempt(BREAKER_SUCCESS));
    assert_int_equal(look()->state, BREAKER_HALF_OPEN);
    pass(5 * S);
    assert_true(attempt(BREAKER_SUCCESS));
    assert_int_equal(look()->state, BREAKER_CLOSED);
    assert_in_range(look()->recovery_us, 29 * S, 35 * S);
    assert_int_equal(look()->transitions[BREAKER_OPEN], 1);
    assert_int_equal(look()->transitions[BREAKER_HALF_OPEN], 1);
    assert_int_equal(look()->transitions[BREAKER_CLOSED], 1);
}

static void test_breaker_reopens_after_failed_probe(void **state)
{
    (void)state;
    half_open_it();
    assert_true(attempt(BREAKER_SUCCESS));
    assert_true(attempt(BREAKER_FAILURE));
    assert_int_equal(look()->state, BREAKER_OPEN);
    assert_string_equal(look()->cause, "a probe failed: HTTP 500");
}

static void test_a_probe_that_says_nothing_gives_its_place_back(void **state)
{
    struct breaker_ticket t[4];

    (void)state;
    half_open_it();
    for (int i = 0; i < 3; i++)
        assert_true(admit(&t[i]));
    assert_false(admit(&t[3]));
    report(&t[1], BREAKER_NEITHER);
    assert_true(admit(&t[3]));
    assert_int_equal(look()->state, BREAKER_HALF_OPEN);
}

static void test_a_probe_that_never_reports_is_given_up(void **state)
{
    struct breaker_ticket lost[3], t;

    (void)state;
    half_open_it();
    for (int i = 0; i < 3; i++)
        assert_true(admit(&lost[i]));
    pass(BREAKER_PROBE_US - 1);
    assert_false(admit(&t));
    pass(1);
    for (int i = 0; i < 3; i++)
        assert_true(attempt(BREAKER_NEITHER));
    assert_true(admit(&t));
    report(&lost[0], BREAKER_FAILURE); /* too late: its place belongs to another */
    assert_int_equal(look()->state, BREAKER_HALF_OPEN);
    assert_int_equal(look()->probes, 1);
}

static void test_an_attempt_of_an_earlier_state_says_nothing_of_this_one(void **state)
{
    struct breaker_ticket before[2];

    (void)state;
    assert_true(admit(&before[0]));
    assert_true(admit(&before[1]));
    half_open_it();
    report(&before[0], BREAKER_FAILURE);
    assert_int_equal(look()->state, BREAKER_HALF_OPEN);
    report(&before[1], BREAKER_SUCCESS);
    assert_int_equal(look()->successes, 0);
}

/* ---- many at once ---------------------------------------------------------------------------------------------------- */

#define CALLERS 200

static pthread_barrier_t barrier;
static atomic_uint admitted;

static void *call_once(void *ticket)
{
    (void)pthread_barrier_wait(&barrier);
    if (breaker_admit(table, p, m, &RULES, now, ticket))
        atomic_fetch_add(&admitted, 1);
    return NULL;
}

static void test_half_open_admits_exactly_the_probes_to_200_callers(void **state)
{
    static struct breaker_ticket tickets[CALLERS];
    pthread_t threads[CALLERS];

    (void)state;
    half_open_it();
    for (unsigned round = 0; round < 5; round++) {
        atomic_store(&admitted, 0);
        assert_int_equal(pthread_barrier_init(&barrier, NULL, CALLERS), 0);
        for (int i = 0; i < CALLERS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, call_once, &tickets[i]), 0);
        for (int i = 0; i < CALLERS; i++)
            (void)pthread_join(threads[i], NULL);
        (void)pthread_barrier_destroy(&barrier);
        assert_int_equal(atomic_load(&admitted), RULES.probes);
        assert_int_equal(look()->probes, RULES.probes);
        for (int i = 0; i < CALLERS; i++)
            report(&tickets[i], BREAKER_NEITHER);
        assert_int_equal(look()->probes, 0);
    }
}

static void *fail_many(void *unused)
{
    (void)unused;
    for (int i = 0; i < 1000; i++) {
        struct breaker_ticket t;

        if (!breaker_admit(table, p, m, &RULES, now, &t))
            continue;
        breaker_report(table, &t, BREAKER_FAILURE, "x", &RULES, now);
    }
    return NULL;
}

static void test_many_failing_threads_open_it_once(void **state)
{
    pthread_t threads[8];

    (void)state;
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, fail_many, NULL), 0);
    for (int i = 0; i < 8; i++)
        (void)pthread_join(threads[i], NULL);
    assert_int_equal(look()->transitions[BREAKER_OPEN], 1);
    assert_int_equal(look()->failures, 5);
}

/* ---- operators ------------------------------------------------------------------------------------------------------- */

static void force(enum breaker_force f, int64_t for_us, bool drain)
{
    struct breaker_forced forced = {.force = f,
                                    .is_drain = drain,
                                    .until = {for_us ? now.wall.us + for_us : 0},
                                    .reason = "drill",
                                    .actor = "token"};

    breaker_force(table, p, m, &forced, now);
}

static void test_a_forced_state_holds_until_its_end_whatever_attempts_say(void **state)
{
    (void)state;
    force(BREAKER_FORCED_OPEN, 60 * S, true);
    pass(60 * S - 1);
    assert_false(attempt(BREAKER_SUCCESS));
    assert_string_equal(look()->cause, "forced open by token: drill");
    pass(1);
    assert_true(attempt(BREAKER_SUCCESS));
    assert_int_equal(look()->force, BREAKER_AUTO);
    force(BREAKER_FORCED_CLOSED, 60 * S, false);
    for (int i = 0; i < 100; i++)
        assert_true(attempt(BREAKER_FAILURE));
    assert_int_equal(look()->state, BREAKER_CLOSED);
}

static void test_of_two_changes_stamped_alike_both_nodes_take_the_same(void **state)
{
    struct breakers *other = breakers_new(8);
    struct breaker_record ahead = {.provider = p, .model = m, .state = BREAKER_HALF_OPEN}, mine, theirs;
    struct breaker_ticket a, b;
    struct breaker_view v;

    (void)state;
    ahead.at.us = now.wall.us + 60 * S; /* of a node whose clock is ahead of both */
    breaker_adopt(table, &ahead, now);
    breaker_adopt(other, &ahead, now);
    assert_true(admit(&a));
    assert_true(admit(&b));
    report(&a, BREAKER_SUCCESS);
    report(&b, BREAKER_SUCCESS);
    assert_true(breaker_admit(other, p, m, &RULES, now, &a));
    breaker_report(other, &a, BREAKER_FAILURE, "HTTP 500", &RULES, now);
    assert_int_equal(breakers_take_news(table, now, &mine, 1), 1);
    assert_int_equal(breakers_take_news(other, now, &theirs, 1), 1);
    assert_int_equal(mine.at.us, theirs.at.us);
    assert_int_equal(mine.state, BREAKER_CLOSED);
    breaker_adopt(table, &theirs, now);
    breaker_adopt(other, &mine, now);
    assert_int_equal(look()->state, BREAKER_OPEN);
    assert_true(breaker_look(other, p, m, &RULES, now, &v));
    assert_int_equal(v.state, BREAKER_OPEN);
    breakers_free(other);
}

static void test_an_order_just_before_the_end_of_another_outlives_it(void **state)
{
    struct breakers *other = breakers_new(8);
    struct breaker_record r[4];
    size_t n;

    (void)state;
    force(BREAKER_FORCED_OPEN, 60 * S, true);
    n = breakers_take_news(table, now, r, 4);
    for (size_t i = 0; i < n; i++)
        breaker_adopt(other, &r[i], now);
    pass(59 * S);
    force(BREAKER_FORCED_CLOSED, 60 * S, false);
    pass(2 * S); /* the other node has not heard, and sees the end of the first one */
    assert_true(breaker_admit(other, p, m, &RULES, now, &(struct breaker_ticket){0}));
    n = breakers_take_news(other, now, r, 4);
    for (size_t i = 0; i < n; i++)
        breaker_adopt(table, &r[i], now);
    assert_int_equal(look()->force, BREAKER_FORCED_CLOSED);
    n = breakers_take_news(table, now, r, 4);
    for (size_t i = 0; i < n; i++)
        breaker_adopt(other, &r[i], now);
    assert_int_equal(breakers_take_news(other, now, r, 4), 0);
    breakers_free(other);
}

static void test_a_probe_of_before_a_forced_state_gives_its_place_back(void **state)
{
    struct breaker_ticket t[3], more;

    (void)state;
    half_open_it();
    for (int i = 0; i < 3; i++)
        assert_true(admit(&t[i]));
    force(BREAKER_FORCED_CLOSED, S, false);
    pass(2 * S);
    assert_false(admit(&more)); /* they are still out */
    report(&t[0], BREAKER_FAILURE);
    assert_int_equal(look()->state, BREAKER_HALF_OPEN); /* it says nothing of this state */
    assert_true(admit(&more));
    assert_false(admit(&t[0]));
}

static void test_given_back_it_goes_on_where_it_was_and_reset_makes_it_new(void **state)
{
    (void)state;
    open_it();
    force(BREAKER_FORCED_CLOSED, 5 * S, false);
    assert_true(attempt(BREAKER_SUCCESS));
    force(BREAKER_AUTO, 0, false);
    assert_false(attempt(BREAKER_SUCCESS));
    breaker_reset(table, p, m, "token", now);
    assert_int_equal(look()->failures, 0);
    assert_true(attempt(BREAKER_SUCCESS));
}

static void test_open_without_patience_cuts_what_is_under_way_and_drain_does_not(void **state)
{
    struct breaker_ticket t;

    (void)state;
    assert_true(admit(&t));
    force(BREAKER_FORCED_OPEN, 60 * S, true);
    assert_false(breaker_is_cut(&t));
    force(BREAKER_FORCED_OPEN, 60 * S, false);
    assert_true(breaker_is_cut(&t));
}

static void test_the_last_20_changes_are_kept_newest_first(void **state)
{
    struct breaker_change h[BREAKER_HISTORY];

    (void)state;
    for (int i = 0; i < 15; i++) {
        force(BREAKER_FORCED_OPEN, 60 * S, true);
        pass(S);
        force(BREAKER_AUTO, 0, false);
        pass(S);
    }
    assert_int_equal(breaker_history(table, p, m, h), BREAKER_HISTORY);
    assert_int_equal(h[0].to, BREAKER_CLOSED);
    assert_int_equal(h[1].to, BREAKER_OPEN);
    for (unsigned i = 1; i < BREAKER_HISTORY; i++)
        assert_true(h[i].at.us < h[i - 1].at.us);
}

/* ---- nodes ----------------------------------------------------------------------------------------------------------- */

/* What one node says is heard by the other. */
static size_t pass_on(struct breakers *from, struct breakers *to)
{
    static struct breaker_record r[8];
    size_t n = breakers_take_news(from, now, r, 8);

    for (size_t i = 0; i < n; i++)
        breaker_adopt(to, &r[i], now);
    return n;
}

static void test_nodes_agree_and_do_not_echo(void **state)
{
    struct breakers *other = breakers_new(8);
    struct breaker_view v;

    (void)state;
    open_it();
    assert_int_equal(pass_on(table, other), 1);
    assert_true(breaker_look(other, p, m, &RULES, now, &v));
    assert_int_equal(v.state, BREAKER_OPEN);
    assert_int_equal(v.until.us, look()->until.us);
    assert_int_equal(pass_on(other, table), 0);
    pass(1);
    breaker_reset(other, p, m, "token", now);
    assert_int_equal(pass_on(other, table), 1);
    assert_int_equal(look()->state, BREAKER_CLOSED);
    force(BREAKER_FORCED_OPEN, 60 * S, true);
    assert_int_equal(pass_on(table, other), 1);
    assert_true(breaker_look(other, p, m, &RULES, now, &v));
    assert_int_equal(v.force, BREAKER_FORCED_OPEN);
    assert_string_equal(v.reason, "drill");
    breakers_free(other);
}

static void test_an_older_record_changes_nothing_and_is_answered(void **state)
{
    struct breaker_record old = {.provider = p, .model = m, .state = BREAKER_CLOSED, .at = {now.wall.us - S}};
    struct breaker_record news[2];

    (void)state;
    open_it();
    assert_int_equal(breakers_take_news(table, now, news, 2), 1);
    breaker_adopt(table, &old, now);
    assert_int_equal(look()->state, BREAKER_OPEN);
    assert_int_equal(breakers_take_news(table, now, news, 2), 1);
    assert_int_equal(news[0].state, BREAKER_OPEN);
}

static void test_a_node_whose_clock_is_behind_is_heard_too(void **state)
{
    struct breaker_record r = {.provider = p,
                               .model = m,
                               .state = BREAKER_OPEN,
                               .at = {now.wall.us + 60 * S},
                               .until = {now.wall.us + 90 * S}};
    struct breaker_record news;

    (void)state;
    breaker_adopt(table, &r, now);
    assert_int_equal(look()->state, BREAKER_OPEN);
    breaker_reset(table, p, m, "token", now); /* our clock says that this was before */
    assert_int_equal(breakers_take_news(table, now, &news, 1), 1);
    assert_true(news.at.us > r.at.us);
}

static void test_what_the_store_forgot_is_said_again(void **state)
{
    struct breaker_record news[2];

    (void)state;
    open_it();
    assert_int_equal(breakers_take_news(table, now, news, 2), 1);
    breaker_adopt(table, &news[0], now);
    breakers_forgotten_are_news(table);
    assert_int_equal(breakers_take_news(table, now, news, 2), 0);
    breakers_forgotten_are_news(table); /* a round in which it was not read */
    assert_int_equal(breakers_take_news(table, now, news, 2), 1);
}

static void test_a_full_table_refuses_nobody(void **state)
{
    struct breaker_ticket t;

    (void)state;
    for (unsigned i = 1; i <= LIMIT_BREAKERS + 10; i++)
        assert_true(breaker_admit(table, p, 100000 + i, &RULES, now, &t));
    assert_null(t.of);
    breaker_report(table, &t, BREAKER_FAILURE, "x", &RULES, now);
    assert_int_equal(breakers_list(table, &RULES, now, NULL, 0), LIMIT_BREAKERS);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_25_straight_failures_open_it_at_the_configured_count),
        T(test_what_says_nothing_of_the_provider_never_counts),
        T(test_a_closed_breaker_opens_by_count_or_by_rate_and_not_otherwise),
        T(test_pauses_double_up_to_the_longest_and_are_jittered),
        T(test_breaker_closes_after_successes_in_a_row_and_says_how_long_it_took),
        T(test_breaker_reopens_after_failed_probe),
        T(test_a_probe_that_says_nothing_gives_its_place_back),
        T(test_a_probe_that_never_reports_is_given_up),
        T(test_an_attempt_of_an_earlier_state_says_nothing_of_this_one),
        T(test_half_open_admits_exactly_the_probes_to_200_callers),
        T(test_many_failing_threads_open_it_once),
        T(test_a_forced_state_holds_until_its_end_whatever_attempts_say),
        T(test_of_two_changes_stamped_alike_both_nodes_take_the_same),
        T(test_an_order_just_before_the_end_of_another_outlives_it),
        T(test_a_probe_of_before_a_forced_state_gives_its_place_back),
        T(test_given_back_it_goes_on_where_it_was_and_reset_makes_it_new),
        T(test_open_without_patience_cuts_what_is_under_way_and_drain_does_not),
        T(test_the_last_20_changes_are_kept_newest_first),
        T(test_nodes_agree_and_do_not_echo),
        T(test_an_older_record_changes_nothing_and_is_answered),
        T(test_a_node_whose_clock_is_behind_is_heard_too),
        T(test_what_the_store_forgot_is_said_again),
        T(test_a_full_table_refuses_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
