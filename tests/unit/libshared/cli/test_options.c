/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/cli/options.h"

#include "tests/unit/cm.h"

static const struct argp_option OUTER[] = {{0, 0, 0, 0, "A heading:", 1},
                                           {"output", 'o', "FORMAT", 0, "doc", 0},
                                           {"once", 1, "TIME", 0, "doc", 0},
                                           {0}};
static const struct argp_option INNER[] = {
    {"error", 2, "KIND", 0, "doc", 0}, {"error-rate", 3, "SHARE", 0, "doc", 0}, {0}};
static const struct argp_option *const LISTS[] = {OUTER, INNER, NULL};

static const char *whole_of(char *word, char *second)
{
    char name[] = "program";
    char *argv[] = {name, word, second, NULL};
    const char *whole = NULL;

    (void)cli_abbreviated(second ? 3 : 2, argv, LISTS, &whole);
    return whole;
}

static void test_the_beginning_of_an_option_is_not_the_option(void **state)
{
    char out[] = "--out", with_value[] = "--outp=json", rate[] = "--error-r", first[] = "--output",
         o[] = "--o";

    (void)state;
    assert_string_equal(whole_of(out, NULL), "output");
    assert_string_equal(whole_of(with_value, NULL), "output");
    assert_string_equal(whole_of(rate, NULL), "error-rate");
    assert_string_equal(whole_of(first, rate), "error-rate");
    assert_non_null(whole_of(o, NULL));
}

static void test_whole_options_other_words_and_strangers_are_none_of_its_business(void **state)
{
    char word[] = "out", output[] = "--output=json", error[] = "--error", letter[] = "-o",
         stranger[] = "--zzz";
    char end[] = "--", out[] = "--out";

    (void)state;
    assert_null(whole_of(word, NULL));
    assert_null(whole_of(output, NULL));
    assert_null(whole_of(error, NULL));
    assert_null(whole_of(letter, NULL));
    assert_null(whole_of(stranger, NULL));
    assert_null(whole_of(end, out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_beginning_of_an_option_is_not_the_option),
        cmocka_unit_test(test_whole_options_other_words_and_strangers_are_none_of_its_business),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
