/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/http/answer_head.h"

#include <stdio.h>

#include "gatewayd/config/limits.h"
#include "libshared/base/compiler.h"
#include "tests/unit/cm.h"

static enum err_code feed(struct answer_head *h, const char *text)
{
    struct span rest = span_of(text);
    const char *why;
    enum err_code e = ERR_OK;

    answer_head_init(h);
    while (rest.len && !e) {
        const char *end = memchr(rest.p, '\n', rest.len);
        size_t n = end ? (size_t)(end + 1 - rest.p) : rest.len;

        e = answer_head_line(h, span_make(rest.p, n), &why);
        rest = span_make(rest.p + n, rest.len - n);
    }
    return e;
}

static void test_the_headers_that_judging_needs_are_kept_whatever_their_case(void **state)
{
    struct answer_head h;

    (void)state;
    assert_int_equal(
        feed(&h, "HTTP/1.1 429 Too Many\r\nCONTENT-TYPE: text/event-stream\r\ncontent-encoding:gzip\r\n"
                 "Retry-After: 3 \r\nretry-after-ms:\t2500\r\nx-ratelimit-reset-requests: 1s\r\n"
                 "X-RateLimit-Reset-Tokens: 6m0s\r\nX-Should-Retry: true\r\nrequest-id: r\r\nx-other: y\r\n"
                 "Content-Length: 12\r\n\r\n"),
        ERR_OK);
    assert_true(h.is_complete);
    assert_int_equal(h.found.status, 429);
    assert_true(span_is(h.found.content_type, "text/event-stream"));
    assert_true(span_is(h.found.content_encoding, "gzip"));
    assert_true(span_is(h.found.retry_after, "3"));
    assert_true(span_is(h.found.retry_after_ms, "2500"));
    assert_true(span_is(h.found.ratelimit_reset, "1s")); /* the first */
    assert_true(span_is(h.found.should_retry, "true"));
    assert_true(span_is(h.found.request_id, "r"));
    assert_int_equal(h.found.content_length, 12);
}

static void test_interim_answers_leave_no_trace(void **state)
{
    struct answer_head h;

    (void)state;
    assert_int_equal(
        feed(
            &h,
            "HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\nContent-Length: 4\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
        ERR_OK);
    assert_int_equal(h.found.status, 200);
    assert_null(h.found.retry_after.p);
    assert_int_equal(h.found.content_length, -1);
}

static void test_status_lines_that_are_none_are_refused(void **state)
{
    static const char *const LINES[] = {"HTTP/2 200\r\n",     "HTTP/1.1 20\r\n",    "HTTP/1.1 2000\r\n",
                                        "HTTP/1.1 099 x\r\n", "HTTP/1.1 600 x\r\n", "HTTP/1.1 101 x\r\n",
                                        "HTTP/1.x 200\r\n",   "ICY 200 OK\r\n",     "\r\n",
                                        "HTTP/1.1  200\r\n"};
    struct answer_head h;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(LINES); i++)
        assert_int_equal(feed(&h, LINES[i]), ERR_UP_GARBAGE);
    assert_int_equal(feed(&h, "HTTP/1.1 200\n\n"), ERR_OK);
    assert_true(h.is_complete);
}

static void test_a_value_that_does_not_fit_is_absent(void **state)
{
    struct answer_head h;
    char text[4096];

    (void)state;
    (void)snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Type: %02000d\r\nRetry-After: 1\r\n\r\n",
                   7);
    assert_int_equal(feed(&h, text), ERR_OK);
    assert_null(h.found.content_type.p);
    assert_true(span_is(h.found.retry_after, "1"));
}

static void test_lines_and_interim_answers_are_counted(void **state)
{
    struct answer_head h;
    const char *why;
    enum err_code e = ERR_OK;

    (void)state;
    answer_head_init(&h);
    assert_int_equal(answer_head_line(&h, SPAN_LIT("HTTP/1.1 200 OK\r\n"), &why), ERR_OK);
    for (unsigned i = 1; i < LIMIT_HEADER_LINES; i++)
        assert_int_equal(answer_head_line(&h, SPAN_LIT("A: b\r\n"), &why), ERR_OK);
    assert_int_equal(answer_head_line(&h, SPAN_LIT("A: b\r\n"), &why), ERR_UP_TOO_LARGE);
    answer_head_init(&h);
    for (unsigned i = 0; i < 2 * LIMIT_UPSTREAM_INTERIM && !e; i++)
        e = answer_head_line(&h, i % 2 ? SPAN_LIT("\r\n") : SPAN_LIT("HTTP/1.1 100 Continue\r\n"), &why);
    assert_int_equal(e, ERR_OK);
    assert_int_equal(answer_head_line(&h, SPAN_LIT("HTTP/1.1 100 Continue\r\n"), &why), ERR_OK);
    assert_int_equal(answer_head_line(&h, SPAN_LIT("\r\n"), &why), ERR_UP_GARBAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_headers_that_judging_needs_are_kept_whatever_their_case),
        cmocka_unit_test(test_interim_answers_leave_no_trace),
        cmocka_unit_test(test_status_lines_that_are_none_are_refused),
        cmocka_unit_test(test_a_value_that_does_not_fit_is_absent),
        cmocka_unit_test(test_lines_and_interim_answers_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
