/* SPDX-License-Identifier: Apache-2.0 */
/* How answers are read off the wire: what ends them, what may follow, and that it does not matter how the bytes come. */
#include "tests/unit/gatewayd/http/client_rig.h"

static const char *script_text;
static bool script_drips;

static void says_the_text(struct peer *p)
{
    while (peer_read(p)) {
        size_t len = strlen(script_text);

        if (p->number) { /* a second connection is served plainly */
            if (!peer_say(p, ANSWER))
                return;
            continue;
        }
        for (size_t i = 0; i < len; i += script_drips ? 1 : len)
            if (!peer_send(p, script_text + i, script_drips ? 1 : len))
                return;
    }
}

static struct span script_bytes;

static void says_the_bytes(struct peer *p)
{
    if (peer_read(p) && peer_send(p, script_bytes.p, script_bytes.len))
        peer_wait_for_close(p);
}

/* Two calls, one after the other. */
static void test_only_an_answer_that_ended_by_its_framing_leaves_a_connection_to_the_next(void **state)
{
    static const struct {
        const char *text;
        bool is_reused;
    } CASES[] = {
        {ANSWER, true},
        {CHUNKED "5\r\nhello\r\n0\r\n\r\n", true},
        {CHUNKED "005;ext=\"a\"\r\nhello\r\n0\r\nX: y\r\n\r\n", true},
        {"HTTP/1.1 204 No Content\r\n\r\n", true},
        {"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello", true},
        {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", false},
        {OK_HEAD "Connection: close\r\nContent-Length: 5\r\n\r\nhello", false},
        {OK_HEAD "Connection: x, CLOSE\r\nContent-Length: 5\r\n\r\nhello", false},
        {OK_HEAD "Content-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen", false},
        {OK_HEAD "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false},
        {CHUNKED "5\r\nhello\r\n0\r\n\r\nmore", false},
        {"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", false},
        {"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", false},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false},
    };

    (void)state;
    script_drips = false;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct probe first = {0}, second = {0};
        struct rig r;

        script_text = CASES[i].text;
        open_rig(&r, says_the_text);
        call(&r, &first);
        assert_int_equal(first.code, ERR_OK);
        call(&r, &second);
        if (second.timing.is_reused != CASES[i].is_reused)
            print_error("case %zu: %s\n", i, CASES[i].text);
        assert_int_equal(second.code, ERR_OK);
        assert_int_equal(second.timing.is_reused, CASES[i].is_reused);
        if (!CASES[i].is_reused)
            assert_string_equal(second.body.p, "hello");
        buf_release(&first.body);
        buf_release(&second.body);
        close_rig(&r);
    }
}

static void test_answers_that_two_readers_could_read_differently_are_refused(void **state)
{
    static const char *const BAD[] = {
        OK_HEAD "Content-Length : 5\r\n\r\nhello",
        OK_HEAD "Content-Length: 5\rX: y\r\n\r\nhello",
        OK_HEAD "Content-Length: +5\r\n\r\nhello",
        OK_HEAD "Content-Length: 5, 5\r\n\r\nhello",
        OK_HEAD "Content-Length:\r\n 5\r\n\r\nhello",
        OK_HEAD "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK_HEAD "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        OK_HEAD "no colon\r\n\r\nhello",
        OK_HEAD ": no name\r\n\r\nhello",
        CHUNKED "5\r\nhelloX\r\n0\r\n\r\n",
        CHUNKED "-5\r\nhello\r\n0\r\n\r\n",
        CHUNKED "0x5\r\nhello\r\n0\r\n\r\n",
        CHUNKED "\r\n",
        CHUNKED "1000000000000000\r\nhello",
    };
    static const bool IS_BODY_GIVEN[ARRAY_LEN(BAD)] = {[9] = true};

    (void)state;
    for (int drips = 0; drips < 2; drips++)
        for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
            struct probe p = {0};
            struct rig r;

            script_text = BAD[i];
            script_drips = drips;
            open_rig(&r, says_the_text);
            call(&r, &p);
            if (p.code != ERR_UP_GARBAGE)
                print_error("case %zu: %s (%s)\n", i, err_row(p.code)->name, p.detail);
            assert_int_equal(p.code, ERR_UP_GARBAGE);
            assert_int_equal(p.body.len > 0, IS_BODY_GIVEN[i]);
            buf_release(&p.body);
            close_rig(&r);
        }
}

static void test_an_answer_is_the_same_however_its_bytes_come(void **state)
{
    static const char *const SAME[] = {
        OK_HEAD "Content-Length: 11\r\nX-Request-Id: r\r\n\r\nhello world",
        OK_HEAD "X-Request-Id: r\nContent-Length: 11\n\nhello world",
        INTERIM_HEAD OK_HEAD "X-Request-Id: r\r\nTransfer-Encoding: Chunked\r\n\r\n"
                             "6\r\nhello \r\n05\r\nworld\r\n000\r\nT: 1\r\n\r\n",
        OK_HEAD "X-Request-Id: r\r\nTransfer-Encoding: chunked\r\n\r\nB\nhello world\n0\n\n",
    };

    (void)state;
    for (int drips = 0; drips < 2; drips++)
        for (size_t i = 0; i < ARRAY_LEN(SAME); i++) {
            struct probe p = {.pauses_once = i % 2 == 0};
            struct rig r;
            int64_t resumed = 0;

            script_text = SAME[i];
            script_drips = drips;
            open_rig(&r, says_the_text);
            start(&r, &p);
            while (!p.done) {
                loop_turn(r.loop, 20);
                if (p.pauses && !resumed++)
                    client_resume(p.call);
            }
            assert_int_equal(p.code, ERR_OK);
            assert_string_equal(p.request_id, "r");
            assert_string_equal(p.body.p, "hello world");
            buf_release(&p.body);
            close_rig(&r);
        }
}

static void refuses_while_it_is_sent_to(struct peer *p)
{
    char some[1000];

    if (recv(p->fd, some, sizeof(some), 0) <= 0 ||
        !peer_say(p, "HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge"))
        return;
    peer_wait_for_close(p);
}

static void test_a_refusal_of_a_request_that_is_still_sent_ends_the_sending(void **state)
{
    struct rig r;
    struct probe p = {.rig = &r};
    char url[128];
    char *big = calloc(1, 400000000);
    struct client_request rq;

    (void)state;
    open_rig(&r, refuses_while_it_is_sent_to);
    rq = request_to(&r, url, "127.0.0.1", &p);
    rq.body = span_make(big, 400000000);
    p.call = client_start(r.client, &rq);
    turn_until(&r, &p.done);
    assert_int_equal(p.code, ERR_OK);
    assert_int_equal(p.status, 413);
    assert_string_equal(p.body.p, "large");
    turn_until_count(&r, &r.up.ended, 1); /* half a request leaves no connection to the next */
    free(big);
    buf_release(&p.body);
    close_rig(&r);
}

/* The answer's end lets go of the reader, who has taken all of the request by then or never will. */
static atomic_int go_ahead;

static void refuses_early_and_reads_on(struct peer *p)
{
    char some[65536];

    if (recv(p->fd, some, 1000, 0) <= 0 ||
        !peer_say(p, "HTTP/1.1 429 Slow Down\r\nContent-Length: 5\r\n\r\nl"))
        return;
    while (!atomic_load(&go_ahead) && !atomic_load(&p->up->is_stopping))
        if (recv(p->fd, some, sizeof(some), MSG_DONTWAIT) <= 0)
            usleep(1000);
    (void)peer_say(p, "arge");
    peer_wait_for_close(p);
}

static void test_nobody_is_woken_for_a_request_that_is_not_sent_any_more(void **state)
{
    struct rig r;
    struct probe p = {.rig = &r};
    char url[128];
    char *big = calloc(1, 400000000);
    struct client_request rq;
    uint64_t turns;

    (void)state;
    atomic_store(&go_ahead, 0);
    open_rig(&r, refuses_early_and_reads_on);
    rq = request_to(&r, url, "127.0.0.1", &p);
    rq.body = span_make(big, 400000000);
    p.call = client_start(r.client, &rq);
    turn_until(&r, &p.headers_seen);
    turn_for(&r, 100000); /* the socket becomes writable */
    turns = loop_stats_mt(r.loop).events;
    turn_for(&r, 300000);
    assert_in_range(loop_stats_mt(r.loop).events - turns, 0, 3);
    atomic_store(&go_ahead, 1);
    turn_until(&r, &p.done);
    assert_int_equal(p.code, ERR_OK);
    assert_string_equal(p.body.p, "large");
    free(big);
    buf_release(&p.body);
    close_rig(&r);
}

static void test_a_length_with_a_byte_that_no_text_has_is_refused(void **state)
{
    static const char BAD[] = CHUNKED "5\0\r\nhello\r\n0\r\n\r\n";
    struct rig r;
    struct probe p = {0};

    (void)state;
    script_bytes = span_make(BAD, sizeof(BAD) - 1);
    script_drips = false;
    open_rig(&r, says_the_bytes);
    call(&r, &p);
    assert_int_equal(p.code, ERR_UP_GARBAGE);
    assert_int_equal(p.body.len, 0);
    buf_release(&p.body);
    close_rig(&r);
}

/* What has no end of its own: each gets an end, and what it costs until then is bounded. */
struct flood {
    const char *before, *again;
    enum err_code code;
};
static const struct flood *flood;
static char *flood_line;

static void floods(struct peer *p)
{
    if (!peer_read(p) || !peer_say(p, flood->before))
        return;
    while (peer_say(p, flood->again ? flood->again : flood_line))
        ;
}

static void test_whatever_has_no_end_is_ended(void **state)
{
    static const struct flood FLOODS[] = {
        {"HTTP/1.1 ", NULL, ERR_UP_TOO_LARGE},
        {OK_HEAD "X: ", NULL, ERR_UP_TOO_LARGE},
        {OK_HEAD, "X: y\r\n", ERR_UP_TOO_LARGE},
        {OK_HEAD "A: b\r\n", " folded\r\n", ERR_UP_TOO_LARGE},
        {"", INTERIM_HEAD, ERR_UP_GARBAGE},
        {"", "HTTP/1.1 100 Continue\r\n\r\n", ERR_UP_GARBAGE},
        {"", "\r\n", ERR_UP_GARBAGE},
        {CHUNKED "5;", NULL, ERR_UP_TOO_LARGE},
        {CHUNKED, NULL, ERR_UP_TOO_LARGE},
        {CHUNKED "5\r\nhello\r\n0\r\n", "T: y\r\n", ERR_UP_TOO_LARGE},
        {CHUNKED "0\r\nT: ", NULL, ERR_UP_TOO_LARGE},
    };

    (void)state;
    flood_line = malloc(1 << 20);
    memset(flood_line, '0', 1 << 20);
    flood_line[(1 << 20) - 1] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(FLOODS); i++) {
        struct rig r;
        struct probe p = {0};

        flood = &FLOODS[i];
        open_rig(&r, floods);
        call(&r, &p);
        if (p.code != flood->code)
            print_error("flood %zu: %s (%s)\n", i, err_row(p.code)->name, p.detail);
        assert_int_equal(p.code, flood->code);
        turn_until_count(&r, &r.up.ended, 1);
        assert_in_range(atomic_load(&r.up.sent_bytes), 0, 32 << 20);
        buf_release(&p.body);
        close_rig(&r);
    }
    free(flood_line);
}

static void cancel_me(struct probe *p)
{
    struct client_call *call = p->call;

    p->call = NULL;
    client_cancel(call);
}

static void cancel_both(struct probe *p)
{
    cancel_me(p);
    if (p->other->call)
        cancel_me(p->other);
}

static void start_other(struct probe *p)
{
    cancel_me(p);
    start(p->rig, p->other);
}

/* What the caller does inside a callback, to this call and to others. */
static void test_calls_may_be_cancelled_and_begun_inside_each_others_callbacks(void **state)
{
    (void)state;
    script_text = CHUNKED "5\r\nhello\r\n1\r\nx\r\n0\r\n\r\n";
    for (int place = 0; place < 2; place++)
        for (int drips = 0; drips < 2; drips++) {
            struct probe a = {0}, b = {0}, c = {0}, last = {0};
            struct rig r;

            script_drips = drips;
            open_rig(&r, says_the_text);
            a.other = &b;
            b.other = &a;
            *(place ? &a.in_body : &a.in_headers) = cancel_both;
            *(place ? &b.in_body : &b.in_headers) = cancel_both;
            start(&r, &a);
            start(&r, &b);
            while (a.call || b.call)
                loop_turn(r.loop, 20);
            assert_int_equal(a.done + b.done, 0);
            c.other = &last;
            *(place ? &c.in_body : &c.in_headers) = start_other;
            start(&r, &c);
            turn_until(&r, &last.done);
            assert_int_equal(c.done, 0);
            assert_int_equal(last.code, ERR_OK);
            buf_release(&a.body);
            buf_release(&b.body);
            buf_release(&c.body);
            buf_release(&last.body);
            close_rig(&r);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_an_answer_that_ended_by_its_framing_leaves_a_connection_to_the_next),
        cmocka_unit_test(test_answers_that_two_readers_could_read_differently_are_refused),
        cmocka_unit_test(test_an_answer_is_the_same_however_its_bytes_come),
        cmocka_unit_test(test_a_refusal_of_a_request_that_is_still_sent_ends_the_sending),
        cmocka_unit_test(test_nobody_is_woken_for_a_request_that_is_not_sent_any_more),
        cmocka_unit_test(test_a_length_with_a_byte_that_no_text_has_is_refused),
        cmocka_unit_test(test_whatever_has_no_end_is_ended),
        cmocka_unit_test(test_calls_may_be_cancelled_and_begun_inside_each_others_callbacks),
    };

    client_global_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
