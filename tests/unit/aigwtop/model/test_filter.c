/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/cm.h"

#include "aigwtop/model/table.h"

static struct value text(const char *z)
{
    return (struct value){.kind = VALUE_TEXT, .z = z};
}
static struct value number(double n)
{
    return (struct value){.kind = VALUE_NUMBER, .n = n};
}

/* A provider "groq": score 88.2, 9.1 per second, 6 % errors, p95 240 ms; no other value is known. */
static bool takes(const char *expression)
{
    struct value v[VIEW_COLUMNS_MAX] = {0};
    struct filter f = {0};
    struct err err = {0};
    size_t n;

    (void)view_columns(VIEW_PROVIDERS, &n);
    v[column_place(COL_PROVIDERS_provider)] = text("groq");
    v[column_place(COL_PROVIDERS_status)] = text("healthy");
    v[column_place(COL_PROVIDERS_health_score)] = number(88.2);
    v[column_place(COL_PROVIDERS_requests_per_s)] = number(9.1);
    v[column_place(COL_PROVIDERS_error_rate)] = number(0.06);
    v[column_place(COL_PROVIDERS_latency_p95_ms)] = number(240);
    if (filter_parse(VIEW_PROVIDERS, expression, &f, &err))
        fail_msg("'%s': %s", expression, err_text(&err));
    return filter_takes(&f, v, n);
}

static void test_terms_compare_in_the_unit_that_people_write(void **state)
{
    static const char *const YES[] = {"",
                                      "gro",
                                      "GROQ",
                                      "err>5",
                                      "err>5%",
                                      "err<=6",
                                      "p95<0.3s",
                                      "p95=240ms",
                                      "p95>=240",
                                      "!p95>1s",
                                      "score>80",
                                      "state=healthy",
                                      "state!=down",
                                      "!openai",
                                      "req/s>9 err>5",
                                      "provider=groq",
                                      "latency_p95_ms<241"};
    static const char *const NO[] = {"open",       "err>7",          "err<5", "p95>1s", "!groq",
                                     "state=down", "score>80 err>7", "age>5", "age<5",  "p99<1s"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(YES); i++)
        if (!takes(YES[i]))
            fail_msg("'%s' does not take the row", YES[i]);
    for (size_t i = 0; i < ARRAY_LEN(NO); i++)
        if (takes(NO[i]))
            fail_msg("'%s' takes the row", NO[i]);
}

static void test_nonsense_is_refused_and_says_what(void **state)
{
    static const char *const WRONG[][2] = {{"speed>5", "no column 'speed'"},
                                           {"err>much", "'much' is no value of column 'error_rate'"},
                                           {"p95>5x", "'5x' is no value of column 'latency_p95_ms'"},
                                           {"state>up", "'up' is no value of column 'status'"},
                                           {"a b c d e f g h i", "at most 8"}};
    struct filter f;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(WRONG); i++) {
        struct err err = {0};

        assert_int_equal(filter_parse(VIEW_PROVIDERS, WRONG[i][0], &f, &err), ERR_BAD_REQUEST);
        if (!strstr(err_text(&err), WRONG[i][1]))
            fail_msg("'%s' says: %s", WRONG[i][0], err_text(&err));
    }
}

static void test_a_filter_that_makes_no_sense_leaves_the_last_one(void **state)
{
    struct look look;
    struct err err = {0};

    (void)state;
    look_init(&look, VIEW_PROVIDERS);
    assert_true(look_set_filter(&look, VIEW_PROVIDERS, "err>5", &err));
    assert_false(look_set_filter(&look, VIEW_PROVIDERS, "speed>5", &err));
    assert_string_equal(look.filter_text, "err>5");
    assert_int_equal(look.filter.n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_terms_compare_in_the_unit_that_people_write),
        cmocka_unit_test(test_nonsense_is_refused_and_says_what),
        cmocka_unit_test(test_a_filter_that_makes_no_sense_leaves_the_last_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
