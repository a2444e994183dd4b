/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/cli/rows.h"

#include <string.h>

#include "tests/unit/cm.h"

static const struct table_column COLUMNS[] = {
    {"provider", "PROVIDER", FORM_TEXT},
    {"error_rate", "ERR", FORM_PERCENT},
    {"latency_p95_ms", "P95", FORM_MS},
    {"cost_nanousd", "COST", FORM_USD},
    {"at", "UPDATED", FORM_AGE},
    {"is_up", "UP", FORM_YES},
    {"tokens", "TOKENS", FORM_COUNT | FORM_WIDE},
    {0},
};
static const struct wall NOW = {1795185130000000}; /* 2026-11-20T14:32:10Z */

static json_t *rows(void)
{
    json_t *all = json_loads(
        "[{\"provider\":\"openrouter\",\"error_rate\":0.004,\"latency_p95_ms\":812,"
        "\"cost_nanousd\":12500000000,\"at\":\"2026-11-20T14:32:00Z\",\"is_up\":true,\"tokens\":5000},"
        "{\"provider\":\"groq\",\"error_rate\":0.06,\"latency_p95_ms\":2400,\"cost_nanousd\":1000000000,"
        "\"at\":\"2026-11-20T14:00:00Z\",\"is_up\":false,\"tokens\":7},"
        "{\"provider\":\"idle\",\"error_rate\":null,\"at\":null},"
        "{\"provider\":\"TOTAL\",\"cost_nanousd\":13500000000,\"_total\":true}]",
        0, NULL);

    assert_non_null(all);
    return all;
}

/* The names of the rows that are left, with blanks between. */
static const char *pick(struct rows_wish w)
{
    static char names[256];
    struct err err = {0};
    json_t *all = rows(), *out = NULL, *row;
    size_t i;

    names[0] = '\0';
    if (rows_pick(COLUMNS, all, &w, NOW, &out, &err))
        (void)snprintf(names, sizeof(names), "%s", err_text(&err));
    json_array_foreach(out, i, row)(void)
        snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i ? " " : "",
                 json_string_value(json_object_get(row, "provider")));
    json_decref(out);
    json_decref(all);
    return names;
}

static void test_rows_are_compared_in_the_unit_that_people_write(void **state)
{
    static const char *const CASES[][2] = {
        {"err>5", "groq TOTAL"},
        {"err>5%", "groq TOTAL"},
        {"p95<=0.812s", "openrouter TOTAL"},
        {"cost>=$12.50", "openrouter TOTAL"},
        {"updated<1m", "openrouter TOTAL"},
        {"updated>30m", "groq TOTAL"},
        {"up=yes", "openrouter TOTAL"},
        {"up=no", "groq TOTAL"},
        {"tokens>1k", "openrouter TOTAL"},
        {"err=none", "idle TOTAL"},
        {"err!=none", "openrouter groq TOTAL"},
        {"provider=GROQ", "groq TOTAL"},
        {"provider=gro", "TOTAL"},
        {"provider~gro", "groq TOTAL"},
        {"rout", "openrouter TOTAL"},
        {"!rout err<100", "groq TOTAL"},
        {"", "openrouter groq idle TOTAL"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++)
        if (strcmp(pick((struct rows_wish){.filter = CASES[i][0]}), CASES[i][1]) != 0)
            fail_msg("'%s' leaves '%s'", CASES[i][0], pick((struct rows_wish){.filter = CASES[i][0]}));
}

static void test_what_makes_no_sense_is_named(void **state)
{
    (void)state;
    assert_string_equal(pick((struct rows_wish){.filter = "speed>1"}), "there is no column 'speed' here");
    assert_string_equal(pick((struct rows_wish){.filter = "err>fast"}),
                        "'fast' is no value of column 'error_rate'");
    assert_string_equal(pick((struct rows_wish){.sort_by = "speed"}), "there is no column 'speed' here");
}

static void test_unknown_comes_last_and_sums_below_it(void **state)
{
    (void)state;
    assert_string_equal(pick((struct rows_wish){.sort_by = "err"}), "openrouter groq idle TOTAL");
    assert_string_equal(pick((struct rows_wish){.sort_by = "-err"}), "groq openrouter idle TOTAL");
    assert_string_equal(pick((struct rows_wish){.sort_by = "-provider"}), "openrouter idle groq TOTAL");
    assert_string_equal(pick((struct rows_wish){.sort_by = "cost", .limit = 1}), "groq TOTAL");
}

static void test_columns_are_chosen_by_key_heading_or_member(void **state)
{
    struct table_column out[ROWS_COLUMNS_MAX];
    struct err err = {0};
    json_t *all = rows();

    (void)state;
    assert_int_equal(rows_columns(COLUMNS, all, &(struct rows_wish){0}, out, &err), ERR_OK);
    assert_string_equal(out[5].key, "is_up");
    assert_null(out[6].key); /* only where it is wide */
    assert_int_equal(rows_columns(COLUMNS, all, &(struct rows_wish){.is_wide = true}, out, &err), ERR_OK);
    assert_string_equal(out[6].key, "tokens");
    assert_int_equal(
        rows_columns(COLUMNS, all, &(struct rows_wish){.columns = "p95,PROVIDER,_total"}, out, &err), ERR_OK);
    assert_string_equal(out[0].key, "latency_p95_ms");
    assert_string_equal(out[2].key, "_total");
    assert_int_equal(rows_columns(COLUMNS, all, &(struct rows_wish){.columns = "p95,nope"}, out, &err),
                     ERR_BAD_REQUEST);
    json_decref(all);
}

static void test_all_rows_have_to_meet_and_none_is_not_all(void **state)
{
    struct err err = {0};
    json_t *all = rows(), *none = json_array();
    bool meets;

    (void)state;
    assert_int_equal(rows_all_meet(COLUMNS, all, "provider!=x", NOW, &meets, &err), ERR_OK);
    assert_true(meets);
    assert_int_equal(rows_all_meet(COLUMNS, all, "err<5%", NOW, &meets, &err), ERR_OK);
    assert_false(meets);
    assert_int_equal(rows_all_meet(COLUMNS, none, "err<5%", NOW, &meets, &err), ERR_OK);
    assert_false(meets);
    json_decref(none);
    json_decref(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_compared_in_the_unit_that_people_write),
        cmocka_unit_test(test_what_makes_no_sense_is_named),
        cmocka_unit_test(test_unknown_comes_last_and_sums_below_it),
        cmocka_unit_test(test_columns_are_chosen_by_key_heading_or_member),
        cmocka_unit_test(test_all_rows_have_to_meet_and_none_is_not_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
