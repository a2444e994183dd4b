/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/analytics/business.h"

#include <math.h>

#include "tests/unit/cm.h"

#define USD ((int64_t)1000000000)

static void test_the_days_of_a_month_add_up_to_its_price(void **state)
{
    static const struct {
        int64_t first_s;
        int days;
    } MONTHS[] = {{1767225600, 31} /* 2026-01 */,
                  {1769904000, 28} /* 2026-02 */,
                  {1706745600, 29} /* 2024-02 */,
                  {1793491200, 30} /* 2026-11 */,
                  {951782400 - 28 * DAY_S, 29} /* 2000-02 */};
    static const int64_t PRICES[] = {0, 1, 29 * USD, 99990000001, INT64_MAX};

    (void)state;
    for (unsigned m = 0; m < sizeof(MONTHS) / sizeof(*MONTHS); m++)
        for (unsigned p = 0; p < sizeof(PRICES) / sizeof(*PRICES); p++) {
            int64_t sum = 0;

            for (int d = 0; d < MONTHS[m].days; d++) {
                int64_t day = income_of_day(PRICES[p], MONTHS[m].first_s + d * DAY_S + 86399);

                assert_true(day >= PRICES[p] / 31 && day <= PRICES[p] / 28 + 1);
                sum += day;
            }
            assert_int_equal(sum, PRICES[p]);
        }
}

static void test_the_funnel_counts_tenants_once(void **state)
{
    const struct life_event e[] = {
        {1, LIFE_TRIAL, 100 * DAY_S},       {1, LIFE_FIRST_ANSWER, 101 * DAY_S},
        {1, LIFE_CONVERTED, 110 * DAY_S},   {1, LIFE_CONVERTED, 120 * DAY_S},
        {2, LIFE_TRIAL, 100 * DAY_S},       {2, LIFE_FIRST_ANSWER, 103 * DAY_S},
        {2, LIFE_CANCELLED, 105 * DAY_S},   {3, LIFE_TRIAL, 100 * DAY_S},
        {4, LIFE_FIRST_ANSWER, 90 * DAY_S}, {4, LIFE_TRIAL, 100 * DAY_S},
        {5, LIFE_CONVERTED, 100 * DAY_S}, /* never tried */
        {6, LIFE_TRIAL, 500 * DAY_S},       {6, LIFE_CONVERTED, 505 * DAY_S},
    };
    struct funnel f;

    (void)state;
    funnel_of(e, sizeof(e) / sizeof(*e), 0, 200 * DAY_S, &f);
    assert_int_equal(f.signups, 4);
    assert_int_equal(f.started, 2);
    assert_int_equal(f.converted, 1);
    assert_int_equal(f.cancelled, 1);
    assert_float_equal(f.conversion_rate, 25, 1e-9);
    assert_float_equal(f.activation_rate, 50, 1e-9);
    assert_float_equal(f.trial_conversion_rate, 50, 1e-9);
    assert_float_equal(f.days_to_conversion, 10, 1e-9);
    assert_float_equal(f.days_to_start, 2, 1e-9);
    funnel_of(e, sizeof(e) / sizeof(*e), 0, 1000 * DAY_S, &f);
    assert_int_equal(f.converted, 2);
    assert_float_equal(f.days_to_conversion, 7.5, 1e-9);
}

static void test_without_signups_nothing_is_known(void **state)
{
    struct funnel f;

    (void)state;
    funnel_of(NULL, 0, 0, DAY_S, &f);
    assert_int_equal(f.signups, 0);
    assert_true(isnan(f.conversion_rate) && isnan(f.activation_rate) && isnan(f.days_to_conversion));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_days_of_a_month_add_up_to_its_price),
        cmocka_unit_test(test_the_funnel_counts_tenants_once),
        cmocka_unit_test(test_without_signups_nothing_is_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
