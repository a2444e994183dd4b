/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/cli/table.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cm.h"

static const struct table_column COLUMNS[] = {
    {"name", "NAME", FORM_TEXT},        {"status", "STATUS", FORM_HEALTH}, {"n", "N", FORM_COUNT},
    {"cost_nanousd", "COST", FORM_USD}, {"at", "UPDATED", FORM_AGE},       {0},
};

static json_t *rows(const char *name)
{
    json_t *all =
        json_pack("[{s:s, s:s, s:i, s:I, s:s}, {s:s, s:n}]", "name", name, "status", "degraded", "n", 1500,
                  "cost_nanousd", (json_int_t)1533200000000, "at", "2026-11-20T14:32:07Z", "name", "b", "n");

    assert_non_null(all);
    return all;
}

static char *print(json_t *data, bool color, bool relative, unsigned width)
{
    struct table_style style = {
        .has_color = color, .is_relative = relative, .width = width, .now = {1795185130000000}};
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    table_print(f, COLUMNS, data, &style);
    (void)fclose(f);
    json_decref(data);
    return text;
}

static void test_unknown_values_are_a_dash_and_figures_are_readable(void **state)
{
    char *text = print(rows("openrouter"), false, true, 80);

    (void)state;
    assert_string_equal(text, "NAME        STATUS        N       COST  UPDATED\n"
                              "openrouter  degraded  1.50K  $1,533.20   3s ago\n"
                              "b           -             -          -        -\n");
    free(text);
}

static void test_a_time_to_come_is_how_long_until_then(void **state)
{
    struct table_style style = {.is_relative = true, .now = {1795185130000000}};
    json_t *later = json_string("2026-11-30T14:32:10Z"), *over = json_string("2026-11-20T14:00:00Z");
    char text[64];

    (void)state;
    table_cell(text, sizeof(text), FORM_UNTIL, later, &style);
    assert_string_equal(text, "10d");
    table_cell(text, sizeof(text), FORM_UNTIL, over, &style);
    assert_string_equal(text, "0s");
    style.is_relative = false;
    table_cell(text, sizeof(text), FORM_UNTIL, later, &style);
    assert_string_equal(text, "2026-11-30T14:32:10Z");
    json_decref(later);
    json_decref(over);
}

static void test_a_number_that_is_a_name_keeps_its_digits(void **state)
{
    struct table_style style = {0};
    json_t *position = json_integer(14362103996481545), *share = json_real(0.25);
    char text[64];

    (void)state;
    table_cell(text, sizeof(text), FORM_TEXT, position, &style);
    assert_string_equal(text, "14362103996481545");
    table_cell(text, sizeof(text), FORM_NAME, position, &style);
    assert_string_equal(text, "14362103996481545");
    table_cell(text, sizeof(text), FORM_TEXT, share, &style);
    assert_string_equal(text, "0.25");
    json_decref(position);
    json_decref(share);
}

static void test_without_a_terminal_times_are_absolute_and_nothing_is_cut(void **state)
{
    char name[301];
    char *text;

    (void)state;
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    text = print(rows(name), false, false, 0);
    assert_non_null(strstr(text, name));
    assert_non_null(strstr(text, "2026-11-20T14:32:07Z"));
    free(text);
}

static char *print_two(unsigned width)
{
    static const struct table_column TWO[] = {
        {"a", "A", FORM_TEXT}, {"b", "B", FORM_TEXT}, {"n", "N", FORM_COUNT}, {0}};
    struct table_style style = {.width = width};
    json_t *data = json_pack("[{s:s, s:s, s:i}, {s:s, s:s, s:i}]", "a", "sim-steady", "b",
                             "model-ä-and-its-name", "n", 1, "a", "sim-fast", "b", "short", "n", 123);
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    table_print(f, TWO, data, &style);
    (void)fclose(f);
    json_decref(data);
    return text;
}

/* What is left of a name must not look like another name. */
static void test_a_text_that_is_cut_says_so_and_the_widest_gives_way_first(void **state)
{
    char *text;

    (void)state;
    assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
    text = print_two(30);
    assert_string_equal(text, "A           B                N\n"
                              "sim-steady  model-ä-and-…    1\n"
                              "sim-fast    short          123\n");
    free(text);
    (void)setlocale(LC_CTYPE, "C");
    text = print_two(30);
    assert_string_equal(text, "A           B          N\n"
                              "sim-steady  model-~    1\n"
                              "sim-fast    short    123\n");
    free(text);
}

static char *print_as(const struct table_column *columns, json_t *data, unsigned width)
{
    struct table_style style = {.width = width};
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    table_print(f, columns, data, &style);
    (void)fclose(f);
    json_decref(data);
    return text;
}

static void test_prose_goes_on_in_the_next_line_and_a_line_end_of_a_server_is_a_blank(void **state)
{
    static const struct table_column PROSE[] = {{"a", "NAME", FORM_TEXT | FORM_WRAP},
                                                {"b", "WHAT", FORM_TEXT | FORM_WRAP},
                                                {"n", "N", FORM_COUNT},
                                                {0}};
    const char *what = "opened after five\nfailures", *name = "sim-steady/model";
    char *text;

    (void)state;
    assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
    text = print_as(PROSE, json_pack("[{s:s, s:s, s:i}]", "a", name, "b", what, "n", 7), 40);
    assert_string_equal(text, "NAME              WHAT               N\n"
                              "sim-steady/model  opened after five  7\n"
                              "                  failures           \n");
    free(text);
    text = print_as(PROSE, json_pack("[{s:s, s:s, s:i}]", "a", name, "b", what, "n", 7), 30);
    assert_string_equal(text, "NAME         WHAT           N\n"
                              "sim-steady/  opened after   7\n"
                              "model        five failures  \n");
    free(text);
    text = print_as(PROSE, json_pack("[{s:s, s:s, s:i}]", "a", name, "b", what, "n", 7), 0);
    assert_string_equal(text, "NAME              WHAT                        N\n"
                              "sim-steady/model  opened after five failures  7\n");
    free(text);
}

static void test_figures_that_are_spare_are_left_out_before_a_name_is_cut(void **state)
{
    static const struct table_column SPARE[] = {{"a", "NAME", FORM_TEXT},
                                                {"n", "N", FORM_COUNT},
                                                {"n", "FIRST", FORM_COUNT | FORM_SPARE},
                                                {"n", "LAST", FORM_COUNT | FORM_SPARE},
                                                {0}};
    static const char *const WANT[] = {
        "NAME              N  FIRST  LAST\nsim-steady/model  7      7     7\n",
        "NAME              N  FIRST\nsim-steady/model  7      7\n",
        "NAME              N\nsim-steady/model  7\n",
    };
    static const unsigned WIDTHS[] = {32, 26, 19};
    char *text;

    (void)state;
    for (size_t i = 0; i < 3; i++)
        for (unsigned k = 0; k < (i ? 2 : 1); k++) {
            text = print_as(SPARE, json_pack("[{s:s, s:i}]", "a", "sim-steady/model", "n", 7), WIDTHS[i] + k);
            assert_string_equal(text, WANT[i]);
            free(text);
        }
}

/* In few columns every cut still carries its mark. */
static void test_a_text_that_is_cut_to_almost_nothing_says_so(void **state)
{
    char *text;

    (void)state;
    assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
    text = print_two(14);
    assert_string_equal(text, "A    B       N\n"
                              "si…  mod…    1\n"
                              "si…  sho…  123\n");
    free(text);
    text = print_two(12); /* no room for all: what is left of names can be told apart */
    assert_string_equal(text, "A         B           N\n"
                              "sim-ste…  model-ä…    1\n"
                              "sim-fast  short     123\n");
    free(text);
}

static void test_long_texts_are_cut_to_the_width_of_the_terminal(void **state)
{
    char name[301];
    char *text;

    (void)state;
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    text = print(rows(name), false, true, 80);
    for (char *line = text; *line; line = strchr(line, '\n') + 1)
        assert_true(strcspn(line, "\n") <= 80);
    assert_non_null(strstr(text, "$1,533.20"));
    free(text);
}

static void test_colour_never_stands_alone(void **state)
{
    char *plain = print(rows("a"), false, true, 80), *colored = print(rows("a"), true, true, 80);

    (void)state;
    assert_null(strchr(plain, '\033'));
    assert_non_null(strchr(colored, '\033'));
    assert_non_null(strstr(colored, "degraded"));
    free(plain);
    free(colored);
}

static void test_a_hostile_name_cannot_move_the_cursor(void **state)
{
    char *text = print(rows("a\033[2Jb\r\nc\xc2\x9b"
                            "d"),
                       false, true, 80);

    (void)state;
    assert_null(strchr(text, '\033'));
    assert_null(strchr(text, '\r'));
    assert_null(strstr(text, "\xc2\x9b"));
    free(text);
}

/* U+202E and U+2066: what follows would be read the other way round. */
static void print_enveloped(FILE *f, const char *schema, const json_t *data)
{
    json_t *o = table_envelope(schema, data, false);

    table_print_document(f, o);
    json_decref(o);
}

static void test_nothing_turns_the_direction_of_text(void **state)
{
    json_t *data = rows("a\xe2\x80\xae"
                        "b\xe2\x81\xa6"
                        "c\xe2\x80\xa6");
    char *text = print(json_deep_copy(data), false, false, 0), *both = NULL;
    size_t len;
    FILE *f = open_memstream(&both, &len);

    (void)state;
    table_print_csv(f, COLUMNS, data, true);
    print_enveloped(f, "x", data);
    (void)fclose(f);
    assert_non_null(strstr(text, "a?b?c"));
    assert_non_null(strstr(both, "a?b?c\xe2\x80\xa6,"));
    assert_non_null(strstr(both, "\"a\\u202eb\\u2066c\xe2\x80\xa6\""));
    json_decref(data);
    free(text);
    free(both);
}

static void test_csv_has_exact_figures_and_quotes_what_needs_it(void **state)
{
    json_t *data = rows("a,\"b\"\nc");
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    (void)state;
    (void)json_array_append_new(data, json_pack("{s:s, s:f}", "name", "=1+1", "n", 0.1));
    table_print_csv(f, COLUMNS, data, true);
    (void)fclose(f);
    assert_string_equal(text, "name,status,n,cost_nanousd,at\r\n"
                              "\"a,\"\"b\"\"\nc\",degraded,1500,1533200000000,2026-11-20T14:32:07Z\r\n"
                              "b,,,,\r\n"
                              "'=1+1,,0.1,,\r\n");
    free(text);
    json_decref(data);
}

/* ESC as the library would print it, and C1's CSI, which is two bytes in UTF-8. */
static void test_no_format_lets_a_name_move_the_cursor(void **state)
{
    json_t *data = rows("a\x1b[2J\xc2\x9b"
                        "1m\x7f\xc3\xa9");
    char *csv = NULL, *json = NULL;
    size_t len;
    FILE *f = open_memstream(&csv, &len);
    json_t *o;

    (void)state;
    table_print_csv(f, COLUMNS, data, true);
    (void)fclose(f);
    assert_non_null(strstr(csv, "a?[2J?1m?\xc3\xa9,"));
    f = open_memstream(&json, &len);
    print_enveloped(f, "health", data);
    (void)fclose(f);
    assert_null(strpbrk(json, "\x1b\x7f\x9b"));
    o = json_loads(json, 0, NULL);
    assert_true(json_equal(json_object_get(o, "data"), data));
    json_decref(o);
    json_decref(data);
    free(csv);
    free(json);
}

static void test_json_travels_in_an_envelope(void **state)
{
    json_t *data = rows("a"), *o;
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    (void)state;
    print_enveloped(f, "health", data);
    (void)fclose(f);
    o = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_string_equal(json_string_value(json_object_get(o, "schema")), "gatewayd.health/1");
    assert_true(json_equal(json_object_get(o, "data"), data));
    assert_non_null(json_object_get(o, "generated_at"));
    json_decref(o);
    json_decref(data);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown_values_are_a_dash_and_figures_are_readable),
        cmocka_unit_test(test_a_time_to_come_is_how_long_until_then),
        cmocka_unit_test(test_a_number_that_is_a_name_keeps_its_digits),
        cmocka_unit_test(test_without_a_terminal_times_are_absolute_and_nothing_is_cut),
        cmocka_unit_test(test_long_texts_are_cut_to_the_width_of_the_terminal),
        cmocka_unit_test(test_a_text_that_is_cut_says_so_and_the_widest_gives_way_first),
        cmocka_unit_test(test_prose_goes_on_in_the_next_line_and_a_line_end_of_a_server_is_a_blank),
        cmocka_unit_test(test_figures_that_are_spare_are_left_out_before_a_name_is_cut),
        cmocka_unit_test(test_a_text_that_is_cut_to_almost_nothing_says_so),
        cmocka_unit_test(test_colour_never_stands_alone),
        cmocka_unit_test(test_a_hostile_name_cannot_move_the_cursor),
        cmocka_unit_test(test_nothing_turns_the_direction_of_text),
        cmocka_unit_test(test_csv_has_exact_figures_and_quotes_what_needs_it),
        cmocka_unit_test(test_no_format_lets_a_name_move_the_cursor),
        cmocka_unit_test(test_json_travels_in_an_envelope),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
