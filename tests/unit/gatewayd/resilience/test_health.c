/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/resilience/health.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "tests/unit/cm.h"

static void assert_near(double got, double want)
{
    if (fabs(got - want) > 0.05)
        fail_msg("%f is not %f", got, want);
}

static void test_without_traffic_health_is_unknown_not_good_or_bad(void **state)
{
    struct health h = health_of(&(struct health_facts){.p95_s = NAN});

    (void)state;
    assert_false(h.is_known);
    assert_string_equal(health_name(&h), "unknown");
}

static void test_a_provider_that_nobody_may_ask_is_unhealthy_without_traffic_too(void **state)
{
    struct health h = health_of(&(struct health_facts){.p95_s = NAN, .breakers = 2, .breakers_open = 2});

    (void)state;
    assert_true(h.is_known);
    assert_near(h.score, 49);
    assert_string_equal(health_name(&h), "unhealthy");
}

static void test_the_score_is_the_sum_of_its_terms(void **state)
{
    static const struct {
        struct health_facts f;
        double score;
        const char *name;
    } CASES[] = {
        {{1000, 0, 0.2, 0, 0, 0, 0, HEALTH_NOT_PROBED, false}, 100, "healthy"},
        {{1000, 0, NAN, 0, 0, 0, 0, HEALTH_NOT_PROBED, false}, 100, "healthy"},
        {{1000, 0, 4.0, 0, 0, 0, 0, HEALTH_NOT_PROBED, false}, 85, "healthy"},
        {{1440, 91, 4.76, 4, 1, 1, 0, HEALTH_NOT_PROBED, false},
         71.9,
         "degraded"}, /* 50 * .9368 + 30 * 2 / 4.76 + 20 * (1 - 1.5 / 4) */
        {{100, 99, 60, 0, 0, 0, 0, HEALTH_NOT_PROBED, false}, 21.5, "unhealthy"},
        {{10, 10, 0.1, 0, 0, 0, 0, HEALTH_NOT_PROBED, false}, 49, "unhealthy"},
        {{100, 0, 0.1, 2, 2, 0, 0, HEALTH_NOT_PROBED, false}, 49, "unhealthy"}, /* nobody gets through */
        {{100, 0, 0.1, 2, 1, 0, 0, HEALTH_NOT_PROBED, false}, 90, "healthy"},
        {{100, 10, 0.1, 0, 0, 0, 0, HEALTH_NOT_PROBED, false},
         79,
         "degraded"}, /* fast, but one in ten fails */
        {{100, 9, 0.1, 0, 0, 0, 0, HEALTH_NOT_PROBED, false}, 95.5, "healthy"},
        {{100, 50, 0.1, 0, 0, 0, 0, HEALTH_NOT_PROBED, false}, 49, "unhealthy"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        struct health h = health_of(&CASES[i].f);

        assert_near(h.score, CASES[i].score);
        assert_string_equal(health_name(&h), CASES[i].name);
    }
}

static struct health_facts facts(uint64_t attempts, uint64_t errors, double p95_s)
{
    return (struct health_facts){.attempts = attempts, .errors = errors, .p95_s = p95_s};
}

static void test_80_is_healthy_and_50_is_degraded_exactly(void **state)
{
    struct health_facts f = facts(100, 0, 6.0); /* 50 + 30 * 2 / 6 + 20 */
    struct health h = health_of(&f);

    (void)state;
    assert_true(h.score == 80);
    assert_string_equal(health_name(&h), "healthy");
    f.p95_s = 6.1;
    h = health_of(&f);
    assert_true(h.score < 80);
    assert_string_equal(health_name(&h), "degraded");
    f = (struct health_facts){.attempts = 100,
                              .errors = 40,
                              .p95_s = NAN,
                              .breakers = 2,
                              .breakers_open = 1,
                              .breakers_half_open = 1};
    f.p95_s = 4; /* 30 + 15 + 20 * (1 - 1.5 / 2) */
    h = health_of(&f);
    assert_true(h.score == 50);
    assert_string_equal(health_name(&h), "degraded");
    f.p95_s = 4.1;
    h = health_of(&f);
    assert_true(h.score < 50);
    assert_string_equal(health_name(&h), "unhealthy");
}

static void test_the_caps_begin_at_exactly_a_tenth_and_a_half(void **state)
{
    struct health_facts f = facts(1000, 99, NAN);

    (void)state;
    assert_int_equal(health_of(&f).cap, HEALTH_UNCAPPED);
    f.errors = 100;
    assert_true(health_of(&f).score == 79);
    assert_int_equal(health_of(&f).cap, HEALTH_CAP_ERRORS_10);
    f.errors = 499;
    assert_true(health_of(&f).score > 50);
    f.errors = 500;
    assert_true(health_of(&f).score == 49);
    assert_int_equal(health_of(&f).cap, HEALTH_CAP_ERRORS_50);
    f = facts(1000, 0, NAN);
    f.breakers = f.breakers_open = 3;
    assert_true(health_of(&f).score == 49);
    assert_int_equal(health_of(&f).cap, HEALTH_CAP_ALL_OPEN);
}

static void test_a_probe_counts_only_while_there_are_no_attempts(void **state)
{
    struct health_facts f = facts(0, 0, NAN);
    struct health h;

    (void)state;
    f.probe = HEALTH_PROBE_OK;
    h = health_of(&f);
    assert_true(h.is_known && h.score == 100 && h.error_rate == 0 && h.availability == 1);
    f.probe = HEALTH_PROBE_FAILED;
    h = health_of(&f);
    assert_true(h.score == 49 && h.error_rate == 1 && h.availability == 0);
    assert_string_equal(health_name(&h), "unhealthy");
    f.attempts = 1;
    h = health_of(&f);
    assert_true(h.score == 100 && h.availability == 1);
}

static void test_what_nobody_is_routed_to_is_not_available(void **state)
{
    struct health_facts f = facts(10, 0, NAN);

    (void)state;
    f.is_stopped = true;
    assert_true(health_of(&f).availability == 0);
    assert_true(health_of(&f).score == 100);
    f = facts(0, 0, NAN);
    assert_true(isnan(health_of(&f).availability));
    f.breakers = f.breakers_open = 1;
    assert_true(health_of(&f).availability == 0);
}

/* The formula as the header writes it, in other words. */
static double written(const struct health_facts *f)
{
    double n = (double)f->attempts, bad = (double)f->errors, target = f->p95_target_s, points, most = 100;

    if (!f->attempts) {
        n = 1;
        bad = f->probe == HEALTH_PROBE_FAILED ? 1 : 0;
    }
    points = 50 * ((n - bad) / n);
    points += 30 * (isnan(f->p95_s) || f->p95_s <= target ? 1 : target / f->p95_s);
    points += f->breakers
                  ? 20 * (1 - ((double)f->breakers_open + (double)f->breakers_half_open / 2) / f->breakers)
                  : 20;
    if (bad * 10 >= n)
        most = 79;
    if (bad * 2 >= n || (f->breakers && f->breakers_open == f->breakers))
        most = 49;
    return points < most ? points : most;
}

static void test_any_facts_give_what_the_formula_says(void **state)
{
    (void)state;
    srandom(7);
    for (int i = 0; i < 200000; i++) {
        struct health_facts f = {.attempts = (uint64_t)random() % 50,
                                 .breakers = (unsigned)random() % 6,
                                 .p95_target_s = (double)(random() % 400 + 1) / 100};
        struct health h;

        f.errors = f.attempts ? (uint64_t)random() % (f.attempts + 1) : 0;
        f.breakers_open = f.breakers ? (unsigned)random() % (f.breakers + 1) : 0;
        f.breakers_half_open = f.breakers ? (unsigned)random() % (f.breakers - f.breakers_open + 1) : 0;
        f.p95_s = f.attempts ? (double)(random() % 2000) / 100 : (double)NAN;
        f.probe = (enum health_probe)(random() % 3);
        h = health_of(&f);
        if (!f.attempts && !f.probe && !(f.breakers && f.breakers_open == f.breakers)) {
            assert_false(h.is_known);
            continue;
        }
        assert_true(h.is_known);
        if (fabs(h.score - written(&f)) > 1e-9)
            fail_msg("%f is not %f", h.score, written(&f));
        assert_true(h.score >= 0 && h.score <= 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_traffic_health_is_unknown_not_good_or_bad),
        cmocka_unit_test(test_a_provider_that_nobody_may_ask_is_unhealthy_without_traffic_too),
        cmocka_unit_test(test_the_score_is_the_sum_of_its_terms),
        cmocka_unit_test(test_80_is_healthy_and_50_is_degraded_exactly),
        cmocka_unit_test(test_the_caps_begin_at_exactly_a_tenth_and_a_half),
        cmocka_unit_test(test_a_probe_counts_only_while_there_are_no_attempts),
        cmocka_unit_test(test_what_nobody_is_routed_to_is_not_available),
        cmocka_unit_test(test_any_facts_give_what_the_formula_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
