/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/catalog/period.h"

#include <string.h>

#include "tests/unit/cm.h"

static struct wall at(int64_t s)
{
    return (struct wall){s * 1000000};
}

static void check(enum period p, int64_t s, const char *window, int64_t start, int64_t end)
{
    char text[PERIOD_WINDOW_CAP];

    assert_int_equal(period_window(p, at(s), text), strlen(window));
    assert_string_equal(text, window);
    assert_int_equal(period_start(p, at(s)).us, start * 1000000);
    assert_int_equal(period_end(p, at(s)).us, end * 1000000);
}

static void test_windows_are_utc_calendar_units(void **state)
{
    (void)state;
    check(PERIOD_HOUR, 1763647927, "2025-11-20T14", 1763647200, 1763650800);
    check(PERIOD_DAY, 1763647927, "2025-11-20", 1763596800, 1763683200);
    check(PERIOD_WEEK, 1763647927, "2025-W47", 1763337600, 1763942400);
    check(PERIOD_MONTH, 1763647927, "2025-11", 1761955200, 1764547200);
    check(PERIOD_MONTH, 1709164800, "2024-02", 1706745600, 1709251200); /* 29 February */
    check(PERIOD_MONTH, 1735689599, "2024-12", 1733011200, 1735689600);
}

static void test_a_week_belongs_to_the_year_of_its_thursday(void **state)
{
    (void)state;
    check(PERIOD_WEEK, 1735516800, "2025-W01", 1735516800, 1736121600); /* Monday, 2024-12-30 */
    check(PERIOD_WEEK, 1609459200, "2020-W53", 1609113600, 1609718400); /* Friday, 2021-01-01 */
}

static void test_windows_follow_each_other_without_gap(void **state)
{
    (void)state;
    for (unsigned p = PERIOD_HOUR; p < PERIOD_COUNT; p++) {
        struct wall t = at(951000000); /* February 2000 */

        for (int i = 0; i < 3000; i++) {
            struct wall end = period_end((enum period)p, t);
            char a[PERIOD_WINDOW_CAP], b[PERIOD_WINDOW_CAP];

            assert_int_equal(period_start((enum period)p, end).us, end.us);
            assert_int_equal(period_end((enum period)p, (struct wall){end.us - 1}).us, end.us);
            (void)period_window((enum period)p, (struct wall){end.us - 1}, a);
            (void)period_window((enum period)p, end, b);
            assert_true(strcmp(a, b) < 0); /* and they sort */
            t = end;
        }
    }
}

static void test_the_total_never_ends(void **state)
{
    char text[PERIOD_WINDOW_CAP];

    (void)state;
    assert_int_equal(period_window(PERIOD_TOTAL, at(1763647927), text), 5);
    assert_string_equal(text, "total");
    assert_true(period_end(PERIOD_TOTAL, at(1763647927)).us == INT64_MAX);
}

static void test_names_are_read_back(void **state)
{
    enum period p;

    (void)state;
    for (unsigned i = 0; i < PERIOD_COUNT; i++) {
        assert_true(period_parse(span_of(period_name((enum period)i)), &p));
        assert_int_equal(p, i);
    }
    assert_false(period_parse(SPAN_LIT("fortnight"), &p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows_are_utc_calendar_units),
        cmocka_unit_test(test_a_week_belongs_to_the_year_of_its_thursday),
        cmocka_unit_test(test_windows_follow_each_other_without_gap),
        cmocka_unit_test(test_the_total_never_ends),
        cmocka_unit_test(test_names_are_read_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
