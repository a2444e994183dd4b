/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/http/header_lines.h"

#include "libshared/base/compiler.h"
#include "tests/unit/cm.h"

static void test_every_byte_of_a_value_is_either_allowed_or_refused(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        struct buf b = {0};
        char value[3] = {'a', (char)c, 'b'};
        bool is_fine = c == '\t' || (c >= 0x20 && c != 0x7f);
        enum err_code e = header_lines_add(&b, "X-A", span_make(value, 3));

        assert_int_equal(e, is_fine ? ERR_OK : ERR_BAD_REQUEST);
        assert_int_equal(b.len, is_fine ? 9 : 0);
        buf_release(&b);
    }
}

static void test_every_byte_of_a_name_is_either_of_a_token_or_refused(void **state)
{
    (void)state;
    for (int c = 1; c < 256; c++) {
        struct buf b = {0};
        char name[4] = {'a', (char)c, 'b', '\0'};
        bool is_token = strchr("!#$%&'*+-.^_`|~", c) || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                        (c >= 'A' && c <= 'Z');

        assert_int_equal(header_lines_add(&b, name, SPAN_LIT("v")), is_token ? ERR_OK : ERR_BAD_REQUEST);
        buf_release(&b);
    }
}

static void test_lines_come_back_one_by_one(void **state)
{
    struct buf b = {0};
    struct span rest, line;

    (void)state;
    assert_int_equal(header_lines_add(&b, "A", SPAN_LIT("1")), ERR_OK);
    assert_int_equal(header_lines_add(&b, "Content-Type", SPAN_LIT("x/y")), ERR_OK);
    assert_int_equal(header_lines_add(&b, "", SPAN_LIT("1")), ERR_BAD_REQUEST);
    rest = buf_span(&b);
    assert_true(header_lines_next(&rest, &line));
    assert_true(span_is(line, "A: 1"));
    assert_int_equal(header_line_check(line), HEADER_OK);
    assert_true(header_lines_next(&rest, &line));
    assert_true(span_is(line, "Content-Type: x/y"));
    assert_int_equal(header_line_check(line), HEADER_OK);
    assert_false(header_lines_next(&rest, &line));
    buf_release(&b);
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
