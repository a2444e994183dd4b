/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/cli/human.h"

#include "libshared/base/compiler.h"

#include "tests/unit/cm.h"

static void test_counts_keep_three_digits(void **state)
{
    static const struct {
        uint64_t v;
        const char *text;
    } CASES[] = {{0, "0"},
                 {999, "999"},
                 {1000, "1.00K"},
                 {1234, "1.23K"},
                 {9996, "10.0K"},
                 {99950, "100K"},
                 {999499, "999K"},
                 {999500, "1.00M"},
                 {31420000, "31.4M"},
                 {25200000000u, "25.2B"},
                 {5000000000000u, "5.00T"},
                 {UINT64_MAX, "18446744T"}};
    char text[HUMAN_CAP];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        human_count(text, CASES[i].v);
        assert_string_equal(text, CASES[i].text);
    }
}

static void test_money_is_grouped_and_small_amounts_keep_their_digits(void **state)
{
    static const struct {
        int64_t nano;
        const char *text;
    } CASES[] = {{0, "$0.00"},
                 {1533200000000, "$1,533.20"},
                 {1000000000, "$1.00"},
                 {999999999, "$1.0000"},
                 {48800000, "$0.0488"},
                 {3100000, "$0.0031"},
                 {3141592, "$0.003142"},
                 {20, "$0.00000002"},
                 {1, "$0.000000001"},
                 {-1500000000, "-$1.50"},
                 {1234567890123456789, "$1,234,567,890.12"},
                 {INT64_MIN, "-$9,223,372,036.85"}};
    char text[HUMAN_CAP];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        human_usd(text, CASES[i].nano);
        assert_string_equal(text, CASES[i].text);
    }
}

static void test_times_have_the_unit_that_fits(void **state)
{
    static const struct {
        double ms;
        const char *text;
    } CASES[] = {{0, "0.0ms"},     {0.44, "0.4ms"}, {9.96, "10ms"},   {812.3, "812ms"},
                 {999.6, "1.00s"}, {4760, "4.76s"}, {61000, "61.0s"}, {134000, "2m14s"}};
    char text[HUMAN_CAP];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        human_ms(text, CASES[i].ms);
        assert_string_equal(text, CASES[i].text);
    }
    human_duration(text, 41);
    assert_string_equal(text, "41s");
    human_duration(text, 3 * 3600 + 27 * 60);
    assert_string_equal(text, "3h27m");
    human_duration(text, 10 * 86400);
    assert_string_equal(text, "10d");
    human_bytes(text, 1536);
    assert_string_equal(text, "1.5 KiB");
    human_percent(text, 0.0637);
    assert_string_equal(text, "6.4%");
}

static void test_durations_are_read_strictly(void **state)
{
    static const struct {
        const char *z;
        int64_t ms;
    } GOOD[] = {{"15s", 15000}, {"250ms", 250}, {"2m", 120000},  {"1h30m", 5400000},
                {"15", 15000},  {"0.5s", 500},  {"1d", 86400000}};
    static const char *const BAD[] = {"", "s", "15x", "-1s", "1e400s", "15 s", "15sm", "ms"};
    int64_t ms;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(GOOD); i++) {
        assert_true(human_parse_duration(GOOD[i].z, &ms));
        assert_int_equal(ms, GOOD[i].ms);
    }
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++)
        if (human_parse_duration(BAD[i], &ms))
            fail_msg("'%s' was taken for a duration", BAD[i]);
}

static void test_times_of_the_api_are_read(void **state)
{
    struct wall t;

    (void)state;
    assert_true(human_parse_time("2026-11-20T14:32:07Z", &t));
    assert_int_equal(t.us, 1795185127000000);
    assert_true(human_parse_time("2026-11-20T14:32:07.123Z", &t));
    assert_int_equal(t.us, 1795185127123000);
    assert_false(human_parse_time("2026-11-20 14:32:07", &t));
    assert_false(human_parse_time(NULL, &t));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_keep_three_digits),
        cmocka_unit_test(test_money_is_grouped_and_small_amounts_keep_their_digits),
        cmocka_unit_test(test_times_have_the_unit_that_fits),
        cmocka_unit_test(test_durations_are_read_strictly),
        cmocka_unit_test(test_times_of_the_api_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
