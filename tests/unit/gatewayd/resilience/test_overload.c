/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/resilience/overload.h"

#include "tests/unit/cm.h"

static void test_requests_are_counted_up_to_the_limit(void **state)
{
    struct overload *o = overload_new();
    struct overload_rules r = {.max_requests = 2};

    (void)state;
    assert_int_equal(overload_enter(o, &r, 0), OVERLOAD_NONE);
    assert_int_equal(overload_enter(o, &r, 0), OVERLOAD_NONE);
    assert_int_equal(overload_enter(o, &r, 0), OVERLOAD_REQUESTS);
    assert_int_equal(overload_look(o).requests, 2);
    overload_leave(o);
    assert_int_equal(overload_enter(o, &r, 0), OVERLOAD_NONE);
    overload_leave(o);
    overload_leave(o);
    overload_free(o);
}

static void test_bodies_share_one_bound_and_none_is_cut_into_the_count_of_requests(void **state)
{
    struct overload *o = overload_new();
    struct overload_rules r = {.max_bytes = 1000}, none = {0};

    (void)state;
    assert_int_equal(overload_enter(o, &r, 0), OVERLOAD_NONE);
    assert_true(overload_hold(o, &r, 600));
    assert_false(overload_hold(o, &r, 401));
    assert_true(overload_hold(o, &r, 400));
    assert_int_equal(overload_enter(o, &r, 0), OVERLOAD_MEMORY);
    assert_int_equal(overload_enter(o, &none, 0), OVERLOAD_NONE);
    assert_true(overload_hold(o, &none, (uint64_t)1 << 40));
    assert_int_equal(overload_look(o).requests, 2);
    assert_int_equal(overload_look(o).bytes, ((uint64_t)1 << 40) + 1000);
    overload_drop(o, (uint64_t)1 << 40);
    overload_drop(o, 1000);
    overload_leave(o);
    overload_leave(o);
    overload_free(o);
}

static void test_a_loop_that_is_late_takes_nothing_on(void **state)
{
    struct overload *o = overload_new();
    struct overload_rules r = {.max_lag_us = 1000}, none = {0};

    (void)state;
    assert_int_equal(overload_enter(o, &r, 1001), OVERLOAD_LAG);
    assert_int_equal(overload_enter(o, &r, 1000), OVERLOAD_NONE);
    assert_int_equal(overload_enter(o, &none, 1000000), OVERLOAD_NONE);
    overload_refused(o, OVERLOAD_LAG);
    assert_int_equal(overload_look(o).refused[OVERLOAD_LAG], 1);
    assert_string_equal(overload_reason_name(OVERLOAD_LAG), "lag");
    overload_leave(o);
    overload_leave(o);
    overload_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_are_counted_up_to_the_limit),
        cmocka_unit_test(test_bodies_share_one_bound_and_none_is_cut_into_the_count_of_requests),
        cmocka_unit_test(test_a_loop_that_is_late_takes_nothing_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
