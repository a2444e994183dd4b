/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/telemetry/window.h"

#include <math.h>

#include "tests/unit/cm.h"

#define NOW 5000u /* an epoch */

static struct window_sum sum_at(const struct window *w, uint64_t epoch)
{
    struct window_sum sum = {0};

    window_read(w, epoch, &sum, NULL);
    return sum;
}

static void test_what_happened_counts_for_thirty_slots_and_no_longer(void **state)
{
    struct window w = {0};

    (void)state;
    window_add(&w, false, NOW, 1000, true);
    for (unsigned age = 0; age < WINDOW_SLOTS; age++)
        assert_int_equal(sum_at(&w, NOW + age).count, 1);
    assert_int_equal(sum_at(&w, NOW + WINDOW_SLOTS).count, 0);
    assert_int_equal(sum_at(&w, NOW - 1).count, 0);
    window_release(&w, false);
}

static void test_a_slot_is_used_again_without_its_old_numbers(void **state)
{
    struct window w = {0};
    struct sketch sketch AUTO(sketch_release) = {0};
    struct window_sum sum = {0};

    (void)state;
    for (unsigned round = 0; round < 3; round++)
        for (unsigned i = 0; i < 4; i++)
            window_add(&w, true, NOW + round * WINDOW_RING, 1000u << round, i == 0);
    window_read(&w, NOW + 2 * WINDOW_RING, &sum, &sketch);
    assert_int_equal(sum.count, 4);
    assert_int_equal(sum.errors, 1);
    assert_int_equal(sum.sum_us, 16000);
    assert_int_equal(sum.min_us, 4000);
    assert_int_equal(sum.max_us, 4000);
    assert_int_equal(sketch.count, 4);
    assert_true(sketch_quantile_us(&sketch, 0.5) == 4000);
    window_release(&w, true);
}

static void test_windows_of_several_workers_add_up_and_keep_the_extremes(void **state)
{
    struct window a = {0}, b = {0};
    struct sketch sketch AUTO(sketch_release) = {0};
    struct window_sum sum = {0};

    (void)state;
    for (unsigned i = 1; i <= 100; i++)
        window_add(i % 2 ? &a : &b, true, NOW - i % WINDOW_SLOTS, i * 1000, i % 10 == 0);
    window_read(&a, NOW, &sum, &sketch);
    window_read(&b, NOW, &sum, &sketch);
    assert_int_equal(sum.count, 100);
    assert_int_equal(sum.errors, 10);
    assert_int_equal(sum.min_us, 1000);
    assert_int_equal(sum.max_us, 100000);
    assert_true(fabs(sketch_quantile_us(&sketch, 0.95) - 95000) <= 950);
    window_release(&a, true);
    window_release(&b, true);
}

static void test_a_clock_that_steps_back_loses_one_slot_at_most(void **state)
{
    struct window w = {0};

    (void)state;
    window_add(&w, false, NOW, 1000, false);
    window_add(&w, false, NOW - 3, 1000, false);
    assert_int_equal(sum_at(&w, NOW).count, 2);
    window_add(&w, false, NOW - WINDOW_RING, 1000, false); /* the same place of the ring */
    assert_int_equal(sum_at(&w, NOW).count, 1);
    window_release(&w, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_happened_counts_for_thirty_slots_and_no_longer),
        cmocka_unit_test(test_a_slot_is_used_again_without_its_old_numbers),
        cmocka_unit_test(test_windows_of_several_workers_add_up_and_keep_the_extremes),
        cmocka_unit_test(test_a_clock_that_steps_back_loses_one_slot_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
