/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/http/header_lines.h"

#include "libshared/base/compiler.h"
#include "tests/unit/cm.h"

static void test_every_byte_of_a_value_is_either_allowed_or_refused(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        char line[] = {'X', '-', 'A', ':', ' ', 'a', (char)c, 'b'};
        bool is_fine = c == '\t' || (c >= 0x20 && c != 0x7f);

        assert_int_equal(header_line_check(span_make(line, sizeof(line))),
                         is_fine ? HEADER_OK : HEADER_MALFORMED);
    }
}

static void test_every_byte_of_a_name_is_either_of_a_token_or_refused(void **state)
{
    (void)state;
    for (int c = 1; c < 256; c++) {
        char line[] = {'a', (char)c, 'b', ':', ' ', 'v'};
        bool is_token = strchr("!#$%&'*+-.^_`|~", c) || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                        (c >= 'A' && c <= 'Z');

        if (c != ':') /* it ends the name */
            assert_int_equal(header_line_check(span_make(line, sizeof(line))),
                             is_token ? HEADER_OK : HEADER_MALFORMED);
    }
}

static void test_lines_come_back_one_by_one(void **state)
{
    struct span rest = SPAN_LIT("A: 1\0Content-Type: x/y\0"), line;

    (void)state;
    assert_int_equal(header_line_check(SPAN_LIT(": 1")), HEADER_MALFORMED);
    assert_true(header_lines_next(&rest, &line));
    assert_true(span_is(line, "A: 1"));
    assert_int_equal(header_line_check(line), HEADER_OK);
    assert_true(header_lines_next(&rest, &line));
    assert_true(span_is(line, "Content-Type: x/y"));
    assert_int_equal(header_line_check(line), HEADER_OK);
    assert_false(header_lines_next(&rest, &line));
}

static void test_framing_headers_are_not_the_callers(void **state)
{
    static const char *const LINES[] = {"connection: close",
                                        "Content-length: 3",
                                        "TE: trailers",
                                        "Transfer-Encoding: chunked",
                                        "expect: x",
                                        "Upgrade: h2c",
                                        "trailer: x",
                                        "Keep-Alive: 5",
                                        "Proxy-Connection: close",
                                        "accept-encoding: br",
                                        "proxy-authorization: x"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(LINES); i++)
        assert_int_equal(header_line_check(span_of(LINES[i])), HEADER_NOT_YOURS);
    assert_int_equal(header_line_check(SPAN_LIT("X-Connection: close")), HEADER_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_byte_of_a_value_is_either_allowed_or_refused),
        cmocka_unit_test(test_every_byte_of_a_name_is_either_of_a_token_or_refused),
        cmocka_unit_test(test_lines_come_back_one_by_one),
        cmocka_unit_test(test_framing_headers_are_not_the_callers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
