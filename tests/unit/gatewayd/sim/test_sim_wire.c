/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/sim/sim_wire.h"

#include "tests/unit/cm.h"

#define HEAD(lines) "POST /p/v1/x HTTP/1.1\r\nHost: a\r\n" lines "\r\n"

static void test_a_head_is_read_with_its_framing(void **state)
{
    const char *text =
        "POST /p/v1/x?after=3&b HTTP/1.1\r\nHost: a\r\nX-A:  two words \r\nContent-Length: 12\r\n"
        "Connection: keep-alive, Close\r\n\r\nrest";
    struct sim_head h;

    (void)state;
    assert_int_equal(sim_head_parse(&h, span_of(text)), SIM_WIRE_DONE);
    assert_true(span_is(h.method, "POST"));
    assert_true(span_is(h.path, "/p/v1/x"));
    assert_true(span_is(sim_query_get(h.query, "after"), "3"));
    assert_true(sim_query_get(h.query, "b").p != NULL);
    assert_null(sim_query_get(h.query, "c").p);
    assert_true(span_is(sim_head_get(&h, "x-a"), "two words"));
    assert_true(h.has_length && h.length == 12 && h.wants_close && !h.is_chunked);
    assert_int_equal(h.bytes, strlen(text) - 4);
}

static void test_every_prefix_of_a_head_asks_for_more(void **state)
{
    const char *text = HEAD("Content-Length: 0\r\n");
    struct sim_head h;

    (void)state;
    for (size_t n = 0; n < strlen(text); n++)
        assert_int_equal(sim_head_parse(&h, span_make(text, n)), SIM_WIRE_MORE);
    assert_int_equal(sim_head_parse(&h, span_of(text)), SIM_WIRE_DONE);
}

static void test_ambiguous_heads_are_refused_with_their_status(void **state)
{
    static const struct {
        int status;
        const char *text;
    } CASES[] = {
        {400, HEAD("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n")},
        {400, HEAD("Content-Length: 1\r\nContent-Length: 1\r\n")},
        {400, HEAD("Content-Length: 1, 1\r\n")},
        {400, HEAD("Content-Length: -1\r\n")},
        {400, HEAD("Content-Length: 0x1\r\n")},
        {400, HEAD("Content-Length: 99999999999999999999999\r\n")},
        {400, HEAD("Content-Length:\r\n")},
        {400, HEAD("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")},
        {501, HEAD("Transfer-Encoding: chunked, chunked\r\n")},
        {501, HEAD("Transfer-Encoding: identity\r\n")},
        {400, HEAD("Transfer-Encoding : chunked\r\n")},
        {400, HEAD("A: b\r\n c: d\r\nContent-Length: 0\r\n")},
        {400, HEAD("A: b\nContent-Length: 0\r\n")},
        {400, HEAD("A: b\rc\r\nContent-Length: 0\r\n")},
        {400, HEAD("A: b\x01\r\nContent-Length: 0\r\n")},
        {400, HEAD(": b\r\nContent-Length: 0\r\n")},
        {400, HEAD("no colon\r\nContent-Length: 0\r\n")},
        {400, HEAD("Host: b\r\nContent-Length: 0\r\n")},
        {417, HEAD("Expect: 200-maybe\r\nContent-Length: 0\r\n")},
        {411, HEAD("")},
        {400, "POST /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n"},
        {400, "POST  /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"},
        {400, "POST /x HTTP/2.0\r\nHost: a\r\nContent-Length: 0\r\n\r\n"},
        {400, "POST /x HTTP/1.1 \r\nHost: a\r\nContent-Length: 0\r\n\r\n"},
        {400, "POST http://a/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"},
        {400, "POST /\xc3\xa9 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"},
        {400, "P(ST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"},
        {400, "POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"},
    };
    struct sim_head h;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        if (sim_head_parse(&h, span_of(CASES[i].text)) != SIM_WIRE_BAD || h.status != CASES[i].status)
            fail_msg("case %zu: %s", i, CASES[i].text);
        assert_non_null(h.why);
    }
}

static void test_a_head_without_end_is_refused_at_its_maximum(void **state)
{
    struct buf b AUTO(buf_release) = {0};
    struct sim_head h;

    (void)state;
    buf_addz(&b, "GET / HTTP/1.1\r\nA: ");
    while (b.len < SIM_HEAD_MAX - 1)
        buf_addc(&b, 'x');
    assert_int_equal(sim_head_parse(&h, buf_span(&b)), SIM_WIRE_MORE);
    buf_addc(&b, 'x');
    assert_int_equal(sim_head_parse(&h, buf_span(&b)), SIM_WIRE_BAD);
    assert_int_equal(h.status, 431);
}

static enum sim_wire feed(const char *text, size_t step, struct buf *body, size_t *used)
{
    struct sim_chunked d = {0};
    size_t len = strlen(text);
    enum sim_wire r = SIM_WIRE_MORE;

    *used = 0;
    while (r == SIM_WIRE_MORE && *used < len) {
        size_t n = len - *used < step ? len - *used : step, took;

        r = sim_chunked_feed(&d, span_make(text + *used, n), &took, body);
        *used += took;
    }
    return r;
}

static void test_chunks_are_joined_across_any_split(void **state)
{
    const char *text = "1\r\na\r\n00A\r\n0123456789\r\n0\r\n\r\nNEXT";

    (void)state;
    for (size_t step = 1; step <= strlen(text); step++) {
        struct buf body AUTO(buf_release) = {0};
        size_t used;

        assert_int_equal(feed(text, step, &body, &used), SIM_WIRE_DONE);
        assert_string_equal(body.p, "a0123456789");
        assert_string_equal(text + used, "NEXT");
    }
}

static void test_bad_chunks_are_refused(void **state)
{
    static const char *const CASES[] = {
        "\r\n",   "g\r\n",        "1;x=y\r\na\r\n",      " 1\r\na\r\n",   "1 \r\na\r\n",
        "1\na\n", "1\r\nab\r\n",  "1\r\na\n0\r\n",       "0\r\nA: b\r\n", "0\r\n\n",
        "-1\r\n", "0x1\r\na\r\n", "1000000000000000\r\n"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct buf body AUTO(buf_release) = {0};
        size_t used;

        if (feed(CASES[i], 100, &body, &used) != SIM_WIRE_BAD)
            fail_msg("case %zu: %s", i, CASES[i]);
    }
}

static void test_a_chunked_body_stops_at_its_maximum(void **state)
{
    struct buf body AUTO(buf_release) = {.max = 4};
    size_t used;

    (void)state;
    assert_int_equal(feed("5\r\nabcde\r\n0\r\n\r\n", 100, &body, &used), SIM_WIRE_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_head_is_read_with_its_framing),
        cmocka_unit_test(test_every_prefix_of_a_head_asks_for_more),
        cmocka_unit_test(test_ambiguous_heads_are_refused_with_their_status),
        cmocka_unit_test(test_a_head_without_end_is_refused_at_its_maximum),
        cmocka_unit_test(test_chunks_are_joined_across_any_split),
        cmocka_unit_test(test_bad_chunks_are_refused),
        cmocka_unit_test(test_a_chunked_body_stops_at_its_maximum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
