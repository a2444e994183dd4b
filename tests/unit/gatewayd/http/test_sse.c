/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/http/sse.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/cm.h"

#define MAX_EVENT 200u
#define HARD_MAX  600u

#define D100                                                                                                 \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"

static const char *const STREAMS[] = {
    "",
    "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\ndata: "
    "{\"usage\":{\"prompt_tokens\":1}}\n\ndata: [DONE]\n\n",
    "event: message_start\ndata: {\"type\":\"message_start\"}\n\nevent: ping\ndata: {}\n\nevent: "
    "message_stop\ndata: {}\n\n",
    "data: {\"candidates\": [{\"x\": 1}]}\r\n\r\ndata: {\"usageMetadata\": {}}\r\n\r\n",
    "data: one\rdata: two\r\rdata: three\r\r",
    "data: mixed\r\n\rdata: ends\n\r\ndata: here\r\r\ndata: and\n\n\r\n\r",
    "\xef\xbb\xbf"
    "data: after a mark\n\ndata: next\n\n",
    "\xef\xbb\xbf\n\ndata: x\n\n",
    "data: x\n\n\xef\xbb\xbf"
    "data: a mark in the middle is part of the name\n\n",
    "\xef\xbb",
    ": comment\n\n:\n\n: keep-alive\r\n\r\ndata: x\n: inside\ndata: y\n\n",
    "data: first\ndata: second\ndata:\ndata\ndata:  two spaces\n\n",
    "data:no space\n\ndata:\n\ndata\n\ndata: \n\n",
    "event: a\nevent: b\ndata: x\n\nevent\ndata: y\n\nevent: only\n\n",
    "error: {\"message\":\"overloaded\"}\n\ndata: x\nerror\n\n",
    "id: 7\nretry: 1000\nunknown: z\nDATA: no\ndatax: no\n data: no\n\n",
    "\n\n\r\n\r\r\n\n",
    "data: \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x98\x80\n\ndata: \xff\xfe\x01\n\n",
    "data: no end",
    "data: no blank line\n",
    "data: waits\r",
    "data: waits\r\n\r",
    "data: a:b: c\n\n",
    "data: " D100 "\n\ndata: " D100 D100 "\n\ndata: small\n\n",
    "data: " D100 D100 D100 "\r\n\r\n"
    "data: small\r\n\r\n",
    "data: " D100 D100 D100 "\r\r"
    "data: small\r\r",
    ": " D100 D100 "\r\r\r\r\n\n"
    "data: " D100 "\ndata: " D100 "\n\n",
    "data: " D100 D100 D100 D100 D100
    "678901234567890123456789012345678901234567890123456789012345678901234567890123456789012\n\nd\n\n",
    "data: " D100 D100 D100 D100 D100 D100 "\n\ndata: never\n\n",
    "data: " D100 D100 "\n" /* oversized and unfinished */,
};

/* ---- what a stream gave, as text ---- */

static void note_span(struct buf *log, char tag, struct span s)
{
    buf_addf(log, "%c%zu:", tag, s.len);
    buf_add(log, s);
}

static void note_event(struct buf *log, const struct sse_event *ev)
{
    note_span(log, 'R', ev->raw);
    if (ev->is_partial) {
        buf_addz(log, "P");
        return;
    }
    note_span(log, 'T', ev->type);
    if (ev->has_data)
        note_span(log, 'D', ev->data);
    if (ev->is_error_field)
        note_span(log, 'E', ev->error);
    buf_addz(log, "\n");
}

/* ---- the reference: the whole stream at once, line by line, by the letter of the specification ---- */

static size_t line_len(struct span in, size_t from, size_t *out_next)
{
    size_t end = from;

    while (end < in.len && in.p[end] != '\n' && in.p[end] != '\r')
        end++;
    *out_next = end;
    if (end < in.len)
        *out_next += in.p[end] == '\r' && end + 1 < in.len && in.p[end + 1] == '\n' ? 2 : 1;
    return end - from;
}

static void reference_field(struct sse_event *ev, struct buf *data, struct span line)
{
    const char *colon = memchr(line.p, ':', line.len);
    size_t n = colon ? (size_t)(colon - line.p) : line.len;
    struct span name = {line.p, n};
    struct span value = colon ? span_make(colon + 1, line.len - n - 1) : SPAN_LIT("");

    if (value.len && value.p[0] == ' ')
        value = span_make(value.p + 1, value.len - 1);
    if (span_is(name, "data")) {
        if (ev->has_data)
            buf_addc(data, '\n');
        buf_add(data, value);
        ev->has_data = true;
    } else if (span_is(name, "event")) {
        ev->type = value;
    } else if (span_is(name, "error")) {
        ev->error = value;
        ev->is_error_field = true;
    }
}

/* One event from `from`; returns where it ends, or 0 when it has no end. */
static size_t reference_event(struct span in, size_t from, bool is_first, struct sse_event *ev,
                              struct buf *data)
{
    size_t at = from, next;

    *ev = (struct sse_event){0};
    buf_clear(data);
    while (at < in.len) {
        size_t n = line_len(in, at, &next);
        struct span line = {in.p + at, n};

        if (at + n == in.len)
            return 0; /* the line does not end */
        at = next;
        if (!n)
            return at;
        if (is_first && line.p == in.p && n >= 3 && memcmp(line.p, "\xef\xbb\xbf", 3) == 0)
            line = span_make(line.p + 3, n - 3);
        reference_field(ev, data, line);
    }
    return 0;
}

static void reference(struct buf *log, struct span in)
{
    struct buf data AUTO(buf_release) = {0};
    struct sse_event ev;
    size_t from = 0, end, held;

    while ((end = reference_event(in, from, from == 0, &ev, &data)) != 0) {
        ev.raw = span_make(in.p + from, end - from);
        ev.data = buf_span(&data);
        ev.is_partial = ev.raw.len > MAX_EVENT;
        if (ev.raw.len > HARD_MAX)
            break;
        note_event(log, &ev);
        from = end;
    }
    held = in.len - from;
    if (held > HARD_MAX) {
        ev = (struct sse_event){.raw = span_make(in.p + from, HARD_MAX), .is_partial = true};
        note_event(log, &ev);
        buf_addz(log, "TOO LARGE");
        return;
    }
    ev = (struct sse_event){.raw = span_make(in.p + from, held), .is_partial = true};
    if (held > MAX_EVENT)
        note_event(log, &ev);
    else
        note_span(log, 'r', ev.raw);
}

/* ---- the parser under test, fed in slices ---- */

struct run {
    struct sse s;
    struct buf log, piece;
    enum sse_result last;
};

static void drain(struct run *r)
{
    struct sse_event ev;

    while ((r->last = sse_next(&r->s, &ev)) == SSE_EVENT) {
        if (!ev.is_partial) {
            assert_true(ev.is_end);
            assert_int_equal(r->piece.len, 0);
            note_event(&r->log, &ev);
            continue;
        }
        assert_true(ev.raw.len > 0);
        buf_add(&r->piece, ev.raw);
        if (ev.is_end) {
            ev.raw = buf_span(&r->piece);
            note_event(&r->log, &ev);
            buf_clear(&r->piece);
        }
    }
    assert_true(r->s.in.cap + r->s.joined.cap <= 2 * MAX_EVENT + 1100);
}

/* Each slice lives exactly as long as it is borrowed. */
static void feed(struct run *r, struct span slice)
{
    char *exact = malloc(slice.len ? slice.len : 1);

    if (slice.len)
        memcpy(exact, slice.p, slice.len);
    assert_int_equal(sse_feed(&r->s, span_make(exact, slice.len)), ERR_OK);
    drain(r);
    free(exact);
}

static void run_end(struct run *r)
{
    struct sse_event rest = {.is_partial = true};

    sse_finish(&r->s);
    drain(r);
    if (r->last != SSE_TOO_LARGE) {
        assert_int_equal(r->last, SSE_MORE);
        if (!r->piece.len) {
            note_span(&r->log, 'r', sse_rest(&r->s));
            return;
        }
        buf_add(&r->piece, sse_rest(&r->s));
    }
    rest.raw = buf_span(&r->piece);
    note_event(&r->log, &rest);
    if (r->last == SSE_TOO_LARGE)
        buf_addz(&r->log, "TOO LARGE");
}

typedef size_t (*slice_fn)(size_t left, void *user);

static void assert_same_as_reference(struct span in, slice_fn slice, void *user)
{
    struct buf want AUTO(buf_release) = {0};
    struct run r = {0};

    reference(&want, in);
    sse_init(&r.s, MAX_EVENT, HARD_MAX);
    for (size_t at = 0, n; at < in.len; at += n) {
        n = slice(in.len - at, user);
        feed(&r, span_make(in.p + at, n));
    }
    run_end(&r);
    if (!span_eq(buf_span(&r.log), buf_span(&want)))
        fail_msg("stream of %zu bytes gave\n%s\ninstead of\n%s", in.len, r.log.p ? r.log.p : "",
                 want.p ? want.p : "");
    sse_release(&r.s);
    buf_release(&r.log);
    buf_release(&r.piece);
}

static size_t in_one(size_t left, void *user)
{
    (void)user;
    return left;
}

static size_t in_bytes(size_t left, void *user)
{
    (void)left, (void)user;
    return 1;
}

static size_t once_at(size_t left, void *user)
{
    size_t *first = user, n = *first && *first < left ? *first : left;

    *first = 0;
    return n;
}

static size_t random_1_to_7(size_t left, void *user)
{
    uint32_t *x = user;
    size_t n;

    *x = *x * 1664525u + 1013904223u;
    n = 1 + (*x >> 16) % 7;
    return n < left ? n : left;
}

static void test_whole_streams_read_as_the_specification_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(STREAMS); i++)
        assert_same_as_reference(span_of(STREAMS[i]), in_one, NULL);
}

static void test_a_cut_at_any_byte_changes_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(STREAMS); i++) {
        struct span in = span_of(STREAMS[i]);

        for (size_t at = 1; at < in.len; at++) {
            size_t first = at;

            assert_same_as_reference(in, once_at, &first);
        }
        assert_same_as_reference(in, in_bytes, NULL);
    }
}

static void test_random_slices_of_1_to_7_bytes_change_nothing(void **state)
{
    uint32_t x = 12345;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(STREAMS); i++)
        for (int round = 0; round < 50; round++)
            assert_same_as_reference(span_of(STREAMS[i]), random_1_to_7, &x);
}

/* Every string over the bytes that matter, up to a length: nothing between them was forgotten. */
static void test_all_short_streams_of_line_ends_and_fields_agree_in_any_cut(void **state)
{
    static const char *const ATOMS[] = {"\r", "\n", "d", "data:", " "};
    uint32_t x = 99;

    (void)state;
    for (unsigned code = 0; code < 5 * 5 * 5 * 5 * 5 * 5; code++) {
        struct buf b AUTO(buf_release) = {0};

        for (unsigned c = code, k = 0; k < 6; k++, c /= 5)
            buf_addz(&b, ATOMS[c % 5]);
        assert_same_as_reference(buf_span(&b), in_one, NULL);
        assert_same_as_reference(buf_span(&b), in_bytes, NULL);
        assert_same_as_reference(buf_span(&b), random_1_to_7, &x);
    }
}

static void test_fields_are_parsed(void **state)
{
    static const char TEXT[] = "event: delta\ndata: a\ndata:b\nerror: {}\n\n";
    struct sse s;
    struct sse_event ev;

    (void)state;
    sse_init(&s, 1000, 2000);
    assert_int_equal(sse_feed(&s, span_of(TEXT)), ERR_OK);
    assert_int_equal(sse_next(&s, &ev), SSE_EVENT);
    assert_true(span_is(ev.raw, TEXT));
    assert_true(span_is(ev.type, "delta"));
    assert_true(span_is(ev.data, "a\nb"));
    assert_true(ev.has_data && ev.is_error_field && ev.is_end && !ev.is_partial);
    assert_true(span_is(ev.error, "{}"));
    assert_int_equal(sse_next(&s, &ev), SSE_MORE);
    sse_release(&s);
}

static void test_an_event_that_lies_whole_in_the_chunk_is_not_copied(void **state)
{
    static const char TEXT[] = "data: a\n\ndata: b\r\n\r\n";
    struct sse s;
    struct sse_event ev;

    (void)state;
    sse_init(&s, 1000, 2000);
    assert_int_equal(sse_feed(&s, span_of(TEXT)), ERR_OK);
    assert_int_equal(sse_next(&s, &ev), SSE_EVENT);
    assert_ptr_equal(ev.raw.p, TEXT);
    assert_ptr_equal(ev.data.p, TEXT + 6);
    assert_int_equal(sse_next(&s, &ev), SSE_EVENT);
    assert_ptr_equal(ev.raw.p, TEXT + 9);
    assert_int_equal(sse_next(&s, &ev), SSE_MORE);
    assert_null(s.in.p);
    assert_null(s.joined.p);
    sse_release(&s);
}

static void test_a_parser_between_events_holds_at_most_a_kibibyte(void **state)
{
    struct buf big AUTO(buf_release) = {0};
    struct sse s;
    struct sse_event ev;

    (void)state;
    for (int i = 0; i < 5000; i++)
        buf_addz(&big, "data: 0123456789\n");
    sse_init(&s, 1 << 20, 2 << 20);
    assert_int_equal(sse_feed(&s, buf_span(&big)), ERR_OK);
    assert_int_equal(sse_next(&s, &ev), SSE_MORE);
    assert_int_equal(sse_rest(&s).len, big.len);
    assert_int_equal(sse_feed(&s, SPAN_LIT("\n")), ERR_OK);
    assert_int_equal(sse_next(&s, &ev), SSE_EVENT);
    assert_int_equal(ev.data.len, 5000 * 11 - 1);
    assert_int_equal(sse_next(&s, &ev), SSE_MORE);
    assert_true(s.in.cap + s.joined.cap <= 1024);
    assert_int_equal(sse_rest(&s).len, 0);
    sse_release(&s);
}

static void test_a_chunk_that_was_not_drained_is_not_overwritten(void **state)
{
    struct sse s;
    struct sse_event ev;

    (void)state;
    sse_init(&s, 1000, 2000);
    assert_int_equal(sse_feed(&s, SPAN_LIT("data: 1\n\ndata: 2\n\n")), ERR_OK);
    assert_int_equal(sse_next(&s, &ev), SSE_EVENT);
    assert_int_equal(sse_feed(&s, SPAN_LIT("data: 3\n\n")), ERR_INTERNAL);
    assert_int_equal(sse_next(&s, &ev), SSE_EVENT);
    assert_true(span_is(ev.data, "2"));
    assert_int_equal(sse_next(&s, &ev), SSE_MORE);
    sse_release(&s);
}

static void test_asking_again_without_new_bytes_changes_nothing(void **state)
{
    static const char TEXT[] = "data: " D100 D100 "\r\n\r\ndata: x\r\r";
    struct run r = {0};

    (void)state;
    sse_init(&r.s, MAX_EVENT, HARD_MAX);
    for (size_t i = 0; i < sizeof(TEXT) - 1; i++) {
        feed(&r, span_make(TEXT + i, 1));
        drain(&r);
        feed(&r, span_make(NULL, 0));
    }
    run_end(&r);
    assert_non_null(strstr(r.log.p, "\r\n\r\nPR9:data: x\r\rT0:D1:x\nr0:"));
    sse_release(&r.s);
    buf_release(&r.log);
    buf_release(&r.piece);
}

static void test_too_large_is_for_ever(void **state)
{
    struct sse s;
    struct sse_event ev;

    (void)state;
    sse_init(&s, 10, 20);
    assert_int_equal(sse_feed(&s, SPAN_LIT("data: 0123456789012345678901234567890")), ERR_OK);
    assert_int_equal(sse_next(&s, &ev), SSE_EVENT);
    assert_int_equal(ev.raw.len, 20);
    assert_true(ev.is_partial && !ev.is_end);
    assert_int_equal(sse_next(&s, &ev), SSE_TOO_LARGE);
    assert_int_equal(sse_feed(&s, SPAN_LIT("\n\ndata: x\n\n")), ERR_OK);
    assert_int_equal(sse_next(&s, &ev), SSE_TOO_LARGE);
    sse_release(&s);
}

/* Bytes searched are counted by what the search costs: a megabyte in single bytes must end in reasonable
 * time, which a search from the start each time (5 * 10^11 steps) would not. */
static void test_a_megabyte_fed_byte_by_byte_is_searched_once(void **state)
{
    struct sse s;
    struct sse_event ev;

    (void)state;
    sse_init(&s, 2 << 20, 4 << 20);
    for (int i = 0; i < 1 << 20; i++) {
        assert_int_equal(sse_feed(&s, SPAN_LIT("x")), ERR_OK);
        if (sse_next(&s, &ev) != SSE_MORE)
            fail_msg("an event ended at byte %d", i);
    }
    assert_int_equal(sse_feed(&s, SPAN_LIT("\n\n")), ERR_OK);
    assert_int_equal(sse_next(&s, &ev), SSE_EVENT);
    assert_int_equal(ev.raw.len, (1 << 20) + 2);
    sse_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_streams_read_as_the_specification_says),
        cmocka_unit_test(test_a_cut_at_any_byte_changes_nothing),
        cmocka_unit_test(test_random_slices_of_1_to_7_bytes_change_nothing),
        cmocka_unit_test(test_all_short_streams_of_line_ends_and_fields_agree_in_any_cut),
        cmocka_unit_test(test_fields_are_parsed),
        cmocka_unit_test(test_an_event_that_lies_whole_in_the_chunk_is_not_copied),
        cmocka_unit_test(test_a_parser_between_events_holds_at_most_a_kibibyte),
        cmocka_unit_test(test_a_chunk_that_was_not_drained_is_not_overwritten),
        cmocka_unit_test(test_asking_again_without_new_bytes_changes_nothing),
        cmocka_unit_test(test_too_large_is_for_ever),
        cmocka_unit_test(test_a_megabyte_fed_byte_by_byte_is_searched_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
