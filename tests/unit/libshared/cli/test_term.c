/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/cli/term.h"

#include <locale.h>
#include <stdlib.h>

#include "tests/unit/cm.h"

static int setup(void **state)
{
    (void)state;
    (void)unsetenv("NO_COLOR");
    (void)unsetenv("CLICOLOR_FORCE");
    (void)unsetenv("FORCE_COLOR");
    (void)setenv("TERM", "xterm", 1);
    return 0;
}

static bool wants(enum term_color option)
{
    FILE *f = tmpfile();
    bool wants_it = term_wants_color(f, option);

    (void)fclose(f);
    return wants_it;
}

static void test_a_file_has_no_colour_unless_it_is_asked_for(void **state)
{
    (void)state;
    assert_false(wants(TERM_COLOR_AUTO));
    assert_true(wants(TERM_COLOR_ALWAYS));
    (void)setenv("FORCE_COLOR", "1", 1);
    assert_true(wants(TERM_COLOR_AUTO));
    (void)setenv("FORCE_COLOR", "0", 1);
    assert_false(wants(TERM_COLOR_AUTO));
}

static void test_no_color_wins_over_force_and_the_option_over_both(void **state)
{
    (void)state;
    (void)setenv("CLICOLOR_FORCE", "1", 1);
    (void)setenv("NO_COLOR", "1", 1);
    assert_false(wants(TERM_COLOR_AUTO));
    assert_true(wants(TERM_COLOR_ALWAYS));
    (void)setenv("NO_COLOR", "", 1); /* empty is not set */
    assert_true(wants(TERM_COLOR_AUTO));
    assert_false(wants(TERM_COLOR_NEVER));
}

static void test_control_characters_are_not_put(void **state)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    (void)state;
    term_put(f, "a\033[2J\rb\x7f\nc\xc3\xa9\xc2\x9b"
                "d");
    (void)fclose(f);
    assert_string_equal(text, "a?[2J?b?\nc\xc3\xa9?d");
    free(text);
}

static void test_rows_count_what_a_terminal_wraps(void **state)
{
    (void)state;
    assert_int_equal(term_rows("", 80), 0);
    assert_int_equal(term_rows("a\nb\n", 80), 2);
    assert_int_equal(term_rows("12345\n", 5), 1);
    assert_int_equal(term_rows("123456\n", 5), 2);
    assert_int_equal(term_rows("12345678901\n", 5), 3);
    assert_int_equal(term_rows("\033[31m12345\033[39m\n\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\n", 5), 2);
    assert_int_equal(term_rows("cut \033[", 80), 0);
}

static char *wrapped(const char *text, unsigned indent, unsigned width)
{
    char *out = NULL;
    size_t len;
    FILE *f = open_memstream(&out, &len);

    term_put_wrapped(f, text, indent, width);
    (void)fclose(f);
    return out;
}

static void test_long_lines_go_on_below_where_they_began(void **state)
{
    static const struct {
        const char *text;
        unsigned indent, width;
        const char *want;
    } T[] = {
        {"as it is, however long it may be", 4, 0, "as it is, however long it may be"},
        {"short", 4, 80, "short"},
        {"twenty columns of it and more", 0, 20, "twenty columns of it\nand more"},
        {"twenty columns of it and more", 4, 24, "twenty columns of it\n    and more"},
        {"/a/path/without/any/blank/in/it", 0, 20, "/a/path/without/any/\nblank/in/it"},
        {"onewordoftwentysixcharacters", 2, 22, "onewordoftwentysixch\n  aracters"},
        {"two\nlines", 2, 80, "two\n  lines"},
        {"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4 \033[2J and so on", 0, 20,
         "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4 ?[2J and so\non"},
        {"", 2, 80, ""},
    };

    (void)state;
    assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
    for (size_t i = 0; i < sizeof(T) / sizeof(T[0]); i++) {
        char *text = wrapped(T[i].text, T[i].indent, T[i].width);

        assert_string_equal(text, T[i].want);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_file_has_no_colour_unless_it_is_asked_for, setup),
        cmocka_unit_test_setup(test_no_color_wins_over_force_and_the_option_over_both, setup),
        cmocka_unit_test(test_rows_count_what_a_terminal_wraps),
        cmocka_unit_test(test_control_characters_are_not_put),
        cmocka_unit_test(test_long_lines_go_on_below_where_they_began),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
