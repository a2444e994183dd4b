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
    char *big = calloc(1, 64000000);
    struct client_request rq;

    (void)state;
    open_rig(&r, refuses_while_it_is_sent_to);
    rq = request_to(&r, url, "127.0.0.1", &p);
    rq.body = span_make(big, 64000000);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_an_answer_that_ended_by_its_framing_leaves_a_connection_to_the_next),
        cmocka_unit_test(test_answers_that_two_readers_could_read_differently_are_refused),
        cmocka_unit_test(test_an_answer_is_the_same_however_its_bytes_come),
        cmocka_unit_test(test_a_refusal_of_a_request_that_is_still_sent_ends_the_sending),
    };

    client_global_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
