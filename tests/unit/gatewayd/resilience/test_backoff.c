/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/resilience/backoff.h"

#include "tests/unit/cm.h"

static void test_a_wait_doubles_up_to_its_maximum_and_is_drawn_from_all_of_it(void **state)
{
    int64_t largest[6] = {0};

    (void)state;
    for (unsigned retry = 0; retry < 6; retry++)
        for (uint64_t r = 0; r < 100000; r++) {
            int64_t us = backoff_us(retry, 250, 4000, r * 7919);

            assert_true(us >= 0);
            if (us > largest[retry])
                largest[retry] = us;
        }
    assert_int_equal(largest[0], 250);
    assert_int_equal(largest[1], 500);
    assert_int_equal(largest[4], 4000);
    assert_int_equal(largest[5], 4000);
}

static void test_retries_of_a_target_are_at_most_a_fifth_of_the_requests(void **state)
{
    struct retry_budget b;
    int granted = 0;

    (void)state;
    retry_budget_init(&b);
    while (retry_budget_withdraw(&b))
        granted++;
    assert_int_equal(granted, RETRY_BUDGET_MAX);
    granted = 0;
    for (int i = 0; i < 1000; i++) {
        retry_budget_deposit(&b);
        granted += retry_budget_withdraw(&b);
    }
    assert_int_equal(granted, 200);
}

static void test_a_provider_that_may_still_be_working_is_not_asked_again(void **state)
{
    (void)state;
    assert_false(backoff_same_target(ERR_UP_TIMEOUT));
    assert_false(backoff_same_target(ERR_UP_CUT));
    assert_false(backoff_same_target(ERR_UP_GARBAGE));
    assert_false(backoff_same_target(ERR_UP_REFUSED));
    assert_true(backoff_same_target(ERR_UP_CONNECT));
    assert_true(backoff_same_target(ERR_UP_RATE_LIMIT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_wait_doubles_up_to_its_maximum_and_is_drawn_from_all_of_it),
        cmocka_unit_test(test_retries_of_a_target_are_at_most_a_fifth_of_the_requests),
        cmocka_unit_test(test_a_provider_that_may_still_be_working_is_not_asked_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
