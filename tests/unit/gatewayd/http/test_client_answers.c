/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/gatewayd/http/client_rig.h"

/* ---- how answers end ---- */

static const char *script_text;
static size_t script_len;
static bool script_resets;

static void says_the_text_and_closes(struct peer *p)
{
    if (!peer_read(p))
        return;
    (void)peer_send(p, script_text, script_len ? script_len : strlen(script_text));
    if (script_resets)
        peer_reset(p);
}

static void test_each_end_of_an_answer_has_its_code(void **state)
{
    static const struct {
        const char *text;
        enum err_code code;
        const char *body;
        int status;
    } ENDS[] = {
        {CHUNKED "5\r\nhello\r\n0\r\n\r\n", ERR_OK, "hello", 200},
        {CHUNKED "5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n", ERR_OK, "hello", 200},
        {CHUNKED "5\r\nhello\r\n", ERR_UP_CUT, "hello", 200},
        {CHUNKED "5\r\nhel", ERR_UP_CUT, "hel", 200},
        {CHUNKED, ERR_UP_CUT, "", 200},
        {CHUNKED "zz\r\nhello", ERR_UP_GARBAGE, "", 200},
        {CHUNKED "ffffffffffffffffff\r\nhello", ERR_UP_GARBAGE, "", 200},
        {OK_HEAD "Content-Length: 9\r\n\r\nhello", ERR_UP_CUT, "hello", 200},
        {OK_HEAD "\r\nhello", ERR_OK, "hello", 200}, /* only its protocol can tell whether it is complete */
        {OK_HEAD "Content-Length: 0\r\n\r\n", ERR_OK, "", 200},
        {"HTTP/1.1 204 No Content\r\n\r\n", ERR_OK, "", 204},
        {"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", ERR_OK, "", 302},
        {"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno", ERR_OK, "no",
         401},
        {"HTTP/1.1 407 Proxy\r\nProxy-Authenticate: NTLM\r\nContent-Length: 2\r\n\r\nno", ERR_OK, "no", 407},
        {"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno", ERR_OK, "no", 417},
        {"HTTP/1.0 200 OK\r\n\r\nold", ERR_OK, "old", 200},
        {"HTTP/1.1 100 Continue\r\n\r\n" INTERIM_HEAD OK_HEAD "Content-Length: 2\r\n\r\nok", ERR_OK, "ok",
         200},
        {"", ERR_UP_RESET, "", 0},
        {"HTT", ERR_UP_RESET, "", 0},
        {OK_HEAD "Content-Ty", ERR_UP_CUT, "", 0},
        {"hello, I am not HTTP\r\n\r\n", ERR_UP_GARBAGE, "", 0},
        {"SSH-2.0-OpenSSH_9.2\r\n", ERR_UP_GARBAGE, "", 0},
        {"HTTP/2 200\r\n\r\n", ERR_UP_GARBAGE, "", 0},
        {"HTTP/1.1 999 What\r\n\r\n", ERR_UP_GARBAGE, "", 0},
        {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", ERR_UP_GARBAGE, "", 0},
        {OK_HEAD "Content-Length: 5\r\nContent-Length: 2\r\n\r\nhello", ERR_UP_GARBAGE, "", 0},
        {OK_HEAD "Content-Length: -5\r\n\r\nhello", ERR_UP_GARBAGE, "", 0},
        {OK_HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", ERR_UP_GARBAGE, "", 0},
        {OK_HEAD "Transfer-Encoding: gzip\r\n\r\nxx", ERR_UP_GARBAGE, "", 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ENDS); i++) {
        struct rig r;
        struct probe p = {0};

        script_text = ENDS[i].text;
        script_len = 0;
        script_resets = false;
        open_rig(&r, says_the_text_and_closes);
        call(&r, &p);
        if (p.code != ENDS[i].code || p.status != ENDS[i].status)
            print_error("end %zu: %s (%s), status %d\n", i, err_row(p.code)->name, p.detail, p.status);
        assert_int_equal(p.code, ENDS[i].code);
        assert_int_equal(p.status, ENDS[i].status);
        assert_string_equal(p.body.p ? p.body.p : "", ENDS[i].body);
        assert_int_equal(p.code == ERR_OK, p.detail[0] == '\0');
        assert_int_equal(atomic_load(&r.up.requests), 1);
        buf_release(&p.body);
        close_rig(&r);
    }
}

static void test_a_reset_is_a_reset_before_the_answer_and_a_cut_in_it(void **state)
{
    static const struct {
        const char *text;
        enum err_code code;
    } ENDS[] = {
        {"", ERR_UP_RESET}, {OK_HEAD "\r\nhello", ERR_UP_CUT}, {CHUNKED "5\r\nhello\r\n", ERR_UP_CUT}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ENDS); i++) {
        struct rig r;
        struct probe p = {0};

        script_text = ENDS[i].text;
        script_len = 0;
        script_resets = true;
        open_rig(&r, says_the_text_and_closes);
        call(&r, &p);
        assert_int_equal(p.code, ENDS[i].code);
        assert_true(p.timing.was_sent);
        buf_release(&p.body);
        close_rig(&r);
    }
    script_resets = false;
}

static char *repeat(const char *head, const char *unit, size_t times, const char *tail)
{
    struct buf b = {0};

    buf_addz(&b, head);
    while (times--)
        buf_addz(&b, unit);
    buf_addz(&b, tail);
    return b.p;
}

static void test_heads_without_measure_are_cut_off(void **state)
{
    struct {
        char *text;
        enum err_code code;
    } heads[] = {
        {repeat("", "HTTP/1.1 100 Continue\r\n\r\n", 100000, OK_HEAD "\r\n"), ERR_UP_GARBAGE},
        {repeat("", INTERIM_HEAD, 100000, OK_HEAD "\r\n"), ERR_UP_GARBAGE},
        {repeat(OK_HEAD "X-Long: ", "0123456789", 20480, "\r\n\r\nhello"), ERR_UP_TOO_LARGE},
        {repeat(OK_HEAD, "X-Many: 1\r\n", 20000, "\r\nhello"), ERR_UP_TOO_LARGE},
        {repeat(CHUNKED "5\r\nhello\r\n0\r\n", "X-Many: 1\r\n", 20000, "\r\n"), ERR_UP_TOO_LARGE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        struct rig r;
        struct probe p = {0};

        script_text = heads[i].text;
        script_len = 0;
        open_rig(&r, says_the_text_and_closes);
        call(&r, &p);
        if (p.code != heads[i].code)
            print_error("head %zu: %s (%s)\n", i, err_row(p.code)->name, p.detail);
        assert_int_equal(p.code, heads[i].code);
        buf_release(&p.body);
        close_rig(&r);
        free(heads[i].text);
    }
}

static void test_a_content_encoding_is_reported_and_left_alone(void **state)
{
    struct rig r;
    struct probe p = {0};

    (void)state;
    script_text = OK_HEAD "Content-Encoding: gzip\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\n\x1f\x8bxx";
    script_len = 0;
    open_rig(&r, says_the_text_and_closes);
    call(&r, &p);
    assert_int_equal(p.code, ERR_OK);
    assert_string_equal(p.encoding, "gzip");
    assert_string_equal(p.retry_after, "7");
    assert_int_equal(p.body.len, 4);
    buf_release(&p.body);
    close_rig(&r);
}

/* ---- deadlines of the answer ---- */

static struct probe call_with(struct rig *r, struct config_timeouts t)
{
    struct probe p = {.rig = r};
    char url[128];
    struct client_request rq = request_to(r, url, "127.0.0.1", &p);

    rq.timeouts = t;
    p.call = client_start(r->client, &rq);
    turn_until(r, &p.done);
    return p;
}

static void test_each_deadline_ends_what_it_is_for(void **state)
{
    static const struct {
        void (*script)(struct peer *);
        int64_t first_byte_us, idle_us, total_us;
        enum err_code code;
        const char *detail;
    } CASES[] = {
        {reads_and_is_silent, 100000, 20000000, 60000000, ERR_UP_TIMEOUT, "no answer body within 100 ms"},
        {sends_a_head_and_is_silent, 100000, 20000000, 60000000, ERR_UP_TIMEOUT,
         "no answer body within 100 ms"},
        {sends_a_chunk_and_is_silent, 20000000, 100000, 60000000, ERR_UP_IDLE, "nothing more within 100 ms"},
        {drips, 20000000, 5000000, 60000000, ERR_OK, ""},
        {drips, 20000000, 20000000, 200000, ERR_UP_TIMEOUT, "not complete within 200 ms"},
        {reads_and_is_silent, 20000000, 20000000, 100000, ERR_UP_TIMEOUT, "not complete within 100 ms"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct config_timeouts t = PATIENT;
        struct probe p;
        struct rig r;

        t.first_byte_us = CASES[i].first_byte_us;
        t.idle_us = CASES[i].idle_us;
        t.total_us = CASES[i].total_us;
        if (CASES[i].code == ERR_OK)
            t.connect_us = 500000; /* over, once the connection stands */
        open_rig(&r, CASES[i].script);
        p = call_with(&r, t);
        assert_int_equal(p.code, CASES[i].code);
        assert_string_equal(p.detail, CASES[i].detail);
        if (CASES[i].code != ERR_OK) /* the provider learns of it */
            turn_until_count(&r, &r.up.closed_by_peer, 1);
        buf_release(&p.body);
        close_rig(&r);
    }
}

static void reads_nothing(struct peer *p)
{
    while (!atomic_load(&p->up->is_stopping))
        usleep(10000);
}

static void test_a_request_that_is_not_taken_is_given_up(void **state)
{
    struct rig r;
    struct probe p = {.rig = &r};
    char url[128];
    char *big = calloc(1, 32 << 20);
    struct client_request rq;

    (void)state;
    open_rig(&r, reads_nothing);
    rq = request_to(&r, url, "127.0.0.1", &p);
    rq.body = span_make(big, 32 << 20);
    rq.timeouts.idle_us = 200000;
    p.call = client_start(r.client, &rq);
    turn_until(&r, &p.done);
    assert_int_equal(p.code, ERR_UP_TIMEOUT);
    assert_string_equal(p.detail, "the request was not taken for 200 ms");
    assert_true(p.timing.was_sent);
    assert_int_equal(p.timing.sent_us, -1);
    free(big);
    close_rig(&r);
}

static void test_a_large_request_that_was_taken_waits_for_its_answer(void **state)
{
    struct rig r;
    struct probe p = {.rig = &r};
    char url[128];
    char *big = calloc(1, 4 << 20);
    struct client_request rq;

    (void)state;
    open_rig(&r, reads_and_is_silent);
    rq = request_to(&r, url, "127.0.0.1", &p);
    rq.body = span_make(big, 4 << 20);
    rq.timeouts.first_byte_us = 200000;
    p.call = client_start(r.client, &rq);
    turn_until(&r, &p.done);
    assert_int_equal(p.code, ERR_UP_TIMEOUT);
    assert_string_equal(p.detail, "no answer body within 200 ms");
    assert_true(p.timing.sent_us >= 0);
    free(big);
    close_rig(&r);
}

#define SLOW_BYTES (24 << 20)

static void reads_slowly(struct peer *p)
{
    static char piece[1 << 20];
    size_t got = 0;
    ssize_t n;

    while (got < SLOW_BYTES) { /* the header counts as well, so the end is still in the socket */
        n = recv(p->fd, piece, sizeof(piece), MSG_WAITALL);
        if (n <= 0)
            return;
        got += (size_t)n;
        usleep(50000);
    }
    (void)peer_say(p, ANSWER);
    peer_wait_for_close(p);
}

static void test_a_request_that_is_taken_slowly_is_not_given_up(void **state)
{
    struct rig r;
    struct probe p = {.rig = &r};
    char url[128];
    char *big = calloc(1, SLOW_BYTES);
    struct client_request rq;

    (void)state;
    open_rig(&r, reads_slowly);
    rq = request_to(&r, url, "127.0.0.1", &p);
    rq.body = span_make(big, SLOW_BYTES);
    rq.timeouts.idle_us = 500000; /* the whole takes longer */
    p.call = client_start(r.client, &rq);
    turn_until(&r, &p.done);
    assert_int_equal(p.code, ERR_OK);
    free(big);
    buf_release(&p.body);
    close_rig(&r);
}

/* ---- pausing ---- */

#define FLOOD_BYTES (24 << 20)

static void floods(struct peer *p)
{
    static char block[65536];

    if (!peer_read(p) || !peer_say(p, OK_HEAD "Content-Length: 25165824\r\n\r\n"))
        return;
    for (int i = 0; i < FLOOD_BYTES / 65536; i++) {
        memset(block, 'a' + i % 26, sizeof(block));
        if (!peer_send(p, block, sizeof(block)))
            return;
    }
}

static void test_a_paused_call_stops_the_provider_and_keeps_its_idle_deadline_still(void **state)
{
    struct rig r;
    struct probe p = {.rig = &r, .pauses_once = true};
    char url[128];
    struct client_request rq;
    size_t sent;

    (void)state;
    open_rig(&r, floods);
    rq = request_to(&r, url, "127.0.0.1", &p);
    rq.timeouts.idle_us = 1000000;
    p.call = client_start(r.client, &rq);
    turn_until(&r, &p.pauses);
    turn_for(&r, 1500000);
    assert_int_equal(p.done, 0);
    assert_int_equal(p.body.len, 0);
    do { /* the sockets fill up, and then nothing moves */
        sent = atomic_load(&r.up.sent_bytes);
        turn_for(&r, 200000);
    } while (sent != atomic_load(&r.up.sent_bytes));
    assert_true(sent < FLOOD_BYTES);
    client_resume(p.call);
    assert_int_equal(p.body.len, 0); /* not from inside client_resume */
    turn_until(&r, &p.done);
    assert_int_equal(p.code, ERR_OK);
    assert_int_equal(p.body.len, FLOOD_BYTES);
    for (size_t i = 0; i < FLOOD_BYTES; i += 65536)
        assert_int_equal(p.body.p[i], 'a' + (int)(i / 65536) % 26);
    buf_release(&p.body);
    close_rig(&r);
}

static void pauses_again(struct probe *p)
{
    p->pauses = 0; /* so that every chunk is refused once */
    p->pauses_once = true;
}

static void test_pausing_again_and_again_loses_and_repeats_nothing(void **state)
{
    struct rig r;
    struct probe p = {.rig = &r, .pauses_once = true, .in_body = pauses_again};
    struct mono limit = mono_add_us(mono_now(), 30000000);

    (void)state;
    open_rig(&r, drips);
    start(&r, &p);
    while (!p.done) {
        assert_true(mono_now().us < limit.us);
        loop_turn(r.loop, 5);
        if (p.call && p.pauses)
            client_resume(p.call);
    }
    assert_int_equal(p.code, ERR_OK);
    assert_int_equal(p.body.len, 30);
    buf_release(&p.body);
    close_rig(&r);
}

/* ---- cancelling ---- */

static void cancels_itself(struct probe *p)
{
    client_cancel(p->call);
    p->call = NULL;
}

static void cancels_the_other(struct probe *p)
{
    if (p->other->call)
        client_cancel(p->other->call);
    p->other->call = NULL;
}

static void test_a_cancelled_call_is_closed_at_once_and_says_nothing_more(void **state)
{
    static void (*const SCRIPTS[])(struct peer *) = {reads_and_is_silent, sends_a_head_and_is_silent,
                                                     sends_a_chunk_and_is_silent};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(SCRIPTS); i++) {
        struct rig r;
        struct probe p = {0};
        struct mono before;

        open_rig(&r, SCRIPTS[i]);
        start(&r, &p);
        turn_until_count(&r, &r.up.requests, 1);
        if (i == 1)
            turn_until(&r, &p.headers_seen);
        turn_for(&r, 20000);
        before = mono_now();
        client_cancel(p.call);
        while (atomic_load(&r.up.closed_by_peer) == 0) { /* no turn of the loop is needed */
            usleep(1000);
            assert_true(mono_diff_us(mono_now(), before) < 20000000);
        }
        loop_turn(r.loop, 0);
        assert_int_equal(p.done, 0);
        assert_int_equal(client_stats_mt(r.client).in_flight, 0);
        assert_int_equal(client_stats_mt(r.client).cancelled, 1);
        buf_release(&p.body);
        close_rig(&r);
    }
}

static void test_a_call_can_be_cancelled_before_it_began(void **state)
{
    struct rig r;
    struct probe a = {0}, b = {0}, c = {0};

    (void)state;
    open_rig(&r, answers_everything);
    start(&r, &a);
    start(&r, &b);
    start(&r, &c);
    client_cancel(b.call);
    client_cancel(c.call);
    start(&r, &c);
    turn_until(&r, &a.done);
    turn_until(&r, &c.done);
    assert_int_equal(b.done, 0);
    assert_int_equal(atomic_load(&r.up.requests), 2);
    buf_release(&a.body);
    buf_release(&c.body);
    close_rig(&r);
}

static void test_a_call_can_be_cancelled_from_its_own_callbacks(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct rig r;
        struct probe p = {0};

        if (i)
            p.in_body = cancels_itself;
        else
            p.in_headers = cancels_itself;
        open_rig(&r, sends_a_chunk_and_is_silent);
        start(&r, &p);
        turn_until_count(&r, &r.up.closed_by_peer, 1);
        assert_int_equal(p.done, 0);
        assert_int_equal(client_stats_mt(r.client).in_flight, 0);
        buf_release(&p.body);
        close_rig(&r);
    }
}

static void test_the_first_of_two_calls_may_cancel_the_second_from_any_callback(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct rig r;
        struct probe a = {0}, b = {0};

        a.other = &b;
        b.other = &a;
        if (i == 0)
            a.in_headers = b.in_headers = cancels_the_other;
        else if (i == 1)
            a.in_body = b.in_body = cancels_the_other;
        else
            a.in_done = b.in_done = cancels_the_other;
        open_rig(&r, answers_everything);
        start(&r, &a);
        start(&r, &b);
        while (!a.done && !b.done)
            loop_turn(r.loop, 20);
        turn_for(&r, 20000);
        assert_int_equal(a.done + b.done, 1);
        assert_int_equal(client_stats_mt(r.client).in_flight, 0);
        buf_release(&a.body);
        buf_release(&b.body);
        close_rig(&r);
    }
}

static void test_freeing_the_client_ends_what_runs_without_a_word(void **state)
{
    struct rig r;
    struct probe p[3] = {0};

    (void)state;
    open_rig(&r, sends_a_chunk_and_is_silent);
    for (int i = 0; i < 2; i++)
        start(&r, &p[i]);
    turn_until_count(&r, &r.up.requests, 2);
    start(&r, &p[2]);
    close_rig(&r);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(p[i].done, 0);
        buf_release(&p[i].body);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_end_of_an_answer_has_its_code),
        cmocka_unit_test(test_a_reset_is_a_reset_before_the_answer_and_a_cut_in_it),
        cmocka_unit_test(test_heads_without_measure_are_cut_off),
        cmocka_unit_test(test_a_content_encoding_is_reported_and_left_alone),
        cmocka_unit_test(test_each_deadline_ends_what_it_is_for),
        cmocka_unit_test(test_a_request_that_is_not_taken_is_given_up),
        cmocka_unit_test(test_a_large_request_that_was_taken_waits_for_its_answer),
        cmocka_unit_test(test_a_request_that_is_taken_slowly_is_not_given_up),
        cmocka_unit_test(test_a_paused_call_stops_the_provider_and_keeps_its_idle_deadline_still),
        cmocka_unit_test(test_pausing_again_and_again_loses_and_repeats_nothing),
        cmocka_unit_test(test_a_cancelled_call_is_closed_at_once_and_says_nothing_more),
        cmocka_unit_test(test_a_call_can_be_cancelled_before_it_began),
        cmocka_unit_test(test_a_call_can_be_cancelled_from_its_own_callbacks),
        cmocka_unit_test(test_the_first_of_two_calls_may_cancel_the_second_from_any_callback),
        cmocka_unit_test(test_freeing_the_client_ends_what_runs_without_a_word),
    };

    (void)setenv("HTTPS_PROXY", "http://127.0.0.1:1", 1);
    client_global_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
