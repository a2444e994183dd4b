/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/resilience/health.h"

#include <math.h>
#include <stddef.h>

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
        {{1000, 0, 0.2, 0, 0, 0}, 100, "healthy"},
        {{1000, 0, NAN, 0, 0, 0}, 100, "healthy"},
        {{1000, 0, 4.0, 0, 0, 0}, 85, "healthy"},
        {{1440, 91, 4.76, 4, 1, 1}, 71.9, "degraded"}, /* 50 * .9368 + 30 * 2 / 4.76 + 20 * (1 - 1.5 / 4) */
        {{100, 99, 60, 0, 0, 0}, 21.5, "unhealthy"},
        {{10, 10, 0.1, 0, 0, 0}, 49, "unhealthy"},
        {{100, 0, 0.1, 2, 2, 0}, 49, "unhealthy"}, /* nobody gets through */
        {{100, 0, 0.1, 2, 1, 0}, 90, "healthy"},
        {{100, 10, 0.1, 0, 0, 0}, 79, "degraded"}, /* fast, but one in ten fails */
        {{100, 9, 0.1, 0, 0, 0}, 95.5, "healthy"},
        {{100, 50, 0.1, 0, 0, 0}, 49, "unhealthy"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        struct health h = health_of(&CASES[i].f);

        assert_near(h.score, CASES[i].score);
        assert_string_equal(health_name(&h), CASES[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_traffic_health_is_unknown_not_good_or_bad),
        cmocka_unit_test(test_a_provider_that_nobody_may_ask_is_unhealthy_without_traffic_too),
        cmocka_unit_test(test_the_score_is_the_sum_of_its_terms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
