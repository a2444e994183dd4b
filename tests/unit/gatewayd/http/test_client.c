/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/http/client.h"

#include <stdlib.h>

#include "gatewayd/http/header_lines.h"
#include "tests/unit/gatewayd/http/upstream.h"

#include "tests/unit/cm.h"

struct rig {
    struct loop *loop;
    struct mailbox *mailbox;
    struct client *client;
    struct upstream up;
};

struct probe { /* one call and what became of it */
    struct client_call *call;
    struct rig *rig;
    struct buf body;
    int status, done, headers_seen;
    enum err_code code;
    char detail[256];
    char type[64], encoding[32], request_id[64], retry_after[32];
    int64_t content_length;
    struct client_timing timing;
    bool pauses_once;
    int pauses;
    void (*in_headers)(struct probe *); /* what the caller does inside the callbacks */
    void (*in_body)(struct probe *);
    void (*in_done)(struct probe *);
    struct probe *other;
};

static void keep_text(char *dst, size_t cap, struct span s)
{
    (void)span_copy(dst, cap, s);
}

static void on_headers(void *user, const struct client_headers *h)
{
    struct probe *p = user;

    p->headers_seen++;
    p->status = h->status;
    p->content_length = h->content_length;
    keep_text(p->type, sizeof(p->type), h->content_type);
    keep_text(p->encoding, sizeof(p->encoding), h->content_encoding);
    keep_text(p->request_id, sizeof(p->request_id), h->request_id);
    keep_text(p->retry_after, sizeof(p->retry_after), h->retry_after);
    if (p->in_headers)
        p->in_headers(p);
}

static bool on_body(void *user, struct span bytes)
{
    struct probe *p = user;

    if (p->pauses_once && p->pauses == 0) {
        p->pauses++;
        return false;
    }
    assert_int_equal(buf_append(&p->body, bytes.p, bytes.len), ERR_OK);
    if (p->in_body)
        p->in_body(p);
    return true;
}

static void on_done(void *user, enum err_code code, const char *detail)
{
    struct probe *p = user;

    p->done++;
    p->code = code;
    p->timing = client_call_timing(p->call);
    keep_text(p->detail, sizeof(p->detail), span_of(detail));
    p->call = NULL;
    if (p->in_done)
        p->in_done(p);
}

static const struct client_callbacks CALLBACKS = {on_headers, on_body, on_done};

static const struct config_timeouts PATIENT = {
    .connect_us = 20000000, .first_byte_us = 20000000, .idle_us = 20000000, .total_us = 60000000};

static struct client_request request_to(const struct rig *r, char url[128], const char *host, struct probe *p)
{
    (void)snprintf(url, 128, "http://%s:%u/v1/chat", host, r->up.port);
    return (struct client_request){.method = "POST",
                                   .url = url,
                                   .body = SPAN_LIT("{\"model\":\"m\"}"),
                                   .timeouts = PATIENT,
                                   .cb = &CALLBACKS,
                                   .user = p};
}

static void start(struct rig *r, struct probe *p)
{
    char url[128];
    struct client_request rq = request_to(r, url, "127.0.0.1", p);

    p->rig = r;
    p->call = client_start(r->client, &rq);
}

static void turn_until(struct rig *r, const int *flag)
{
    struct mono limit = mono_add_us(mono_now(), 30000000);

    while (!*flag) {
        assert_true(mono_now().us < limit.us);
        loop_turn(r->loop, 20);
    }
}

static void turn_for(struct rig *r, int64_t us)
{
    struct mono limit = mono_add_us(mono_now(), us);

    while (mono_now().us < limit.us)
        loop_turn(r->loop, 5);
}

static void turn_until_count(struct rig *r, atomic_int *count, int want)
{
    struct mono limit = mono_add_us(mono_now(), 30000000);

    while (atomic_load(count) < want) {
        assert_true(mono_now().us < limit.us);
        loop_turn(r->loop, 20);
    }
}

static void call(struct rig *r, struct probe *p)
{
    start(r, p);
    turn_until(r, &p->done);
}

static void open_rig(struct rig *r, void (*script)(struct peer *))
{
    memset(r, 0, sizeof(*r));
    upstream_start(&r->up, script);
    r->loop = loop_new(NULL);
    r->mailbox = mailbox_new(r->loop, NULL);
    r->client = client_new(r->loop, r->mailbox, NULL);
    assert_non_null(r->client);
}

static void close_rig(struct rig *r)
{
    client_free(r->client);
    mailbox_free(r->mailbox);
    loop_free(r->loop);
    upstream_stop(&r->up);
}

/* ---- the good case ---- */

#define ANSWER                                                                                               \
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: r-1\r\nContent-Length: "             \
    "5\r\n\r\nhello"

static void answers_everything(struct peer *p)
{
    while (peer_read(p))
        if (!peer_say(p, ANSWER))
            return;
}

static void test_a_call_brings_status_headers_and_body(void **state)
{
    struct rig r;
    struct probe p = {0};

    (void)state;
    open_rig(&r, answers_everything);
    call(&r, &p);
    assert_int_equal(p.code, ERR_OK);
    assert_int_equal(p.status, 200);
    assert_int_equal(p.headers_seen, 1);
    assert_string_equal(p.type, "application/json");
    assert_string_equal(p.request_id, "r-1");
    assert_string_equal(p.encoding, "");
    assert_int_equal(p.content_length, 5);
    assert_string_equal(p.body.p, "hello");
    assert_true(p.timing.was_sent);
    assert_false(p.timing.is_reused);
    assert_true(p.timing.connected_us >= 0 && p.timing.sent_us >= p.timing.connected_us &&
                p.timing.first_byte_us >= p.timing.sent_us);
    buf_release(&p.body);
    close_rig(&r);
}

static void test_calls_share_a_connection_and_never_call_back_from_inside_start(void **state)
{
    struct rig r;

    (void)state;
    open_rig(&r, answers_everything);
    for (int i = 0; i < 20; i++) {
        struct probe p = {0};

        start(&r, &p);
        assert_int_equal(p.done, 0);
        turn_until(&r, &p.done);
        assert_int_equal(p.code, ERR_OK);
        assert_int_equal(p.timing.is_reused, i > 0);
        buf_release(&p.body);
    }
    assert_int_equal(atomic_load(&r.up.connections), 1);
    assert_int_equal(client_stats_mt(r.client).reused, 19);
    assert_int_equal(client_stats_mt(r.client).in_flight, 0);
    close_rig(&r);
}

/* ---- one request on the wire ---- */

static void closes_after_reading_a_second_request(struct peer *p)
{
    while (peer_read(p)) {
        if (p->served == 2)
            return;
        if (!peer_say(p, ANSWER))
            return;
    }
}

static void test_a_connection_that_dies_under_a_request_is_not_sent_the_request_again(void **state)
{
    struct rig r;
    struct probe first = {0}, second = {0};

    (void)state;
    open_rig(&r, closes_after_reading_a_second_request);
    call(&r, &first);
    assert_int_equal(first.code, ERR_OK);
    call(&r, &second);
    assert_int_equal(second.code, ERR_UP_RESET);
    assert_non_null(strstr(second.detail, "resend refused"));
    assert_true(second.timing.was_sent);
    assert_true(second.timing.is_reused);
    assert_int_equal(atomic_load(&r.up.requests), 2);
    assert_int_equal(atomic_load(&r.up.connections), 1);
    assert_int_equal(client_stats_mt(r.client).resends_refused, 1);
    buf_release(&first.body);
    close_rig(&r);
}

static void dies_under_every_third_request(struct peer *p)
{
    while (peer_read(p)) {
        if (atomic_load(&p->up->requests) % 3 == 0) {
            peer_reset(p);
            return;
        }
        if (!peer_say(p, ANSWER))
            return;
    }
}

static void test_as_many_requests_arrive_as_calls_were_made_whatever_dies(void **state)
{
    struct rig r;
    int ok = 0, reset = 0;

    (void)state;
    open_rig(&r, dies_under_every_third_request);
    for (int i = 0; i < 150; i++) {
        struct probe p = {0};

        call(&r, &p);
        ok += p.code == ERR_OK;
        reset += p.code == ERR_UP_RESET;
        buf_release(&p.body);
    }
    assert_int_equal(ok, 100);
    assert_int_equal(reset, 50);
    assert_int_equal(atomic_load(&r.up.requests), 150);
    close_rig(&r);
}

static void answers_once_and_closes(struct peer *p)
{
    if (peer_read(p))
        (void)peer_say(p, ANSWER);
}

static void test_a_connection_that_was_closed_while_idle_is_replaced(void **state)
{
    struct rig r;

    (void)state;
    open_rig(&r, answers_once_and_closes);
    for (int i = 0; i < 5; i++) {
        struct probe p = {0};

        call(&r, &p);
        assert_int_equal(p.code, ERR_OK);
        assert_false(p.timing.is_reused);
        buf_release(&p.body);
        turn_for(&r, 20000); /* the close arrives while nobody wants the connection */
    }
    assert_int_equal(atomic_load(&r.up.requests), 5);
    close_rig(&r);
}

/* ---- what is on the wire ---- */

static void test_the_request_is_what_was_asked_for_and_nothing_is_added_but_framing(void **state)
{
    struct rig r;
    struct probe p = {0};
    struct buf lines = {0};
    char url[128], want[512];
    struct client_request rq;

    (void)state;
    open_rig(&r, answers_everything);
    assert_int_equal(header_lines_add(&lines, "authorization", SPAN_LIT("Bearer k")), ERR_OK);
    assert_int_equal(header_lines_add(&lines, "content-type", SPAN_LIT("application/json")), ERR_OK);
    rq = request_to(&r, url, "127.0.0.1", &p);
    rq.header_lines = &lines;
    p.rig = &r;
    p.call = client_start(r.client, &rq);
    buf_release(&lines); /* lines are copied */
    turn_until(&r, &p.done);
    (void)snprintf(
        want, sizeof(want),
        "POST /v1/chat HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
        "authorization: Bearer k\r\ncontent-type: application/json\r\nContent-Length: "
        "13\r\n\r\n{\"model\":\"m\"}",
        r.up.port);
    assert_string_equal(r.up.peers[0]->request, want);
    buf_release(&p.body);
    close_rig(&r);
}

static void test_a_get_has_no_body_and_a_handle_changes_between_methods(void **state)
{
    struct rig r;

    (void)state;
    open_rig(&r, answers_everything);
    for (int i = 0; i < 4; i++) {
        struct probe p = {0};
        char url[128];
        struct client_request rq = request_to(&r, url, "127.0.0.1", &p);

        if (i % 2)
            rq.method = "GET";
        p.rig = &r;
        p.call = client_start(r.client, &rq);
        turn_until(&r, &p.done);
        assert_int_equal(p.code, ERR_OK);
        assert_int_equal(strncmp(r.up.peers[0]->request, i % 2 ? "GET " : "POST", 4), 0);
        assert_int_equal(strstr(r.up.peers[0]->request, "Content-Length") != NULL, i % 2 == 0);
        assert_null(strstr(r.up.peers[0]->request, "Content-Type"));
        buf_release(&p.body);
    }
    close_rig(&r);
}

static void test_header_lines_that_would_split_or_reframe_a_request_are_refused(void **state)
{
    static const struct span BAD[] = {
        SPAN_LIT("X-A: b\r\nAuthorization: stolen\0"),
        SPAN_LIT("X-A: b\nc\0"),
        SPAN_LIT("X-A: b\rc\0"),
        SPAN_LIT("X-A: b\0c\0"),
        SPAN_LIT("no colon\0"),
        SPAN_LIT(": no name\0"),
        SPAN_LIT("X A: space\0"),
        SPAN_LIT("X-A: \x7f\0"),
        SPAN_LIT("X-A: \x1b[2J\0"),
        SPAN_LIT("Content-Length: 1\0"),
        SPAN_LIT("transfer-encoding: chunked\0"),
        SPAN_LIT("Connection: close\0"),
        SPAN_LIT("Expect: 100-continue\0"),
        SPAN_LIT("Accept-Encoding: gzip\0"),
        SPAN_LIT("\0"),
    };
    struct rig r;

    (void)state;
    open_rig(&r, answers_everything);
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        struct probe p = {.rig = &r};
        struct buf lines = {0};
        char url[128];
        struct client_request rq = request_to(&r, url, "127.0.0.1", &p);

        assert_int_equal(buf_append(&lines, BAD[i].p, BAD[i].len), ERR_OK);
        rq.header_lines = &lines;
        p.call = client_start(r.client, &rq);
        turn_until(&r, &p.done);
        assert_int_equal(p.code, ERR_INTERNAL);
        assert_false(p.timing.was_sent);
        buf_release(&lines);
    }
    assert_int_equal(atomic_load(&r.up.connections), 0);
    close_rig(&r);
}

static void test_urls_that_hide_something_are_refused(void **state)
{
    static const char *const BAD[] = {"ftp://127.0.0.1/",
                                      "file:///etc/passwd",
                                      "http://user:pw@127.0.0.1/",
                                      "http://",
                                      "http://[::1/",
                                      "http://h:99999/",
                                      "http://h:0/",
                                      "http://h:1x/",
                                      "//h/",
                                      "",
                                      "http://a b/",
                                      "http://h\r\nX: y/",
                                      "https://:443/"};
    struct rig r;

    (void)state;
    open_rig(&r, answers_everything);
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        struct probe p = {.rig = &r};
        char url[128];
        struct client_request rq = request_to(&r, url, "127.0.0.1", &p);

        rq.url = BAD[i];
        p.call = client_start(r.client, &rq);
        turn_until(&r, &p.done);
        assert_int_equal(p.code, ERR_CONFIG);
    }
    close_rig(&r);
}

static void test_a_large_body_arrives_whole_and_without_waiting_for_a_continue(void **state)
{
    struct rig r;
    struct probe p = {.rig = &r};
    char url[128];
    char *big = malloc(3000000);
    struct client_request rq;

    (void)state;
    memset(big, 'x', 3000000);
    open_rig(&r, answers_everything);
    rq = request_to(&r, url, "127.0.0.1", &p);
    rq.body = span_make(big, 3000000);
    p.call = client_start(r.client, &rq);
    turn_until(&r, &p.done);
    assert_int_equal(p.code, ERR_OK);
    assert_true(p.timing.sent_us >= p.timing.connected_us && p.timing.sent_us <= p.timing.first_byte_us);
    assert_int_equal(atomic_load(&r.up.body_bytes), 3000000);
    assert_null(strstr(r.up.peers[0]->request, "Expect"));
    free(big);
    buf_release(&p.body);
    close_rig(&r);
}

static void test_proxy_variables_are_ignored_even_when_set_later(void **state)
{
    struct rig r;
    struct probe p = {0};

    (void)state;
    open_rig(&r, answers_everything);
    (void)setenv("http_proxy", "http://127.0.0.1:1", 1);
    (void)setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    call(&r, &p);
    (void)unsetenv("http_proxy");
    (void)unsetenv("ALL_PROXY");
    assert_int_equal(p.code, ERR_OK);
    buf_release(&p.body);
    close_rig(&r);
}

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

#define OK_HEAD      "HTTP/1.1 200 OK\r\n"
#define CHUNKED      OK_HEAD "Transfer-Encoding: chunked\r\n\r\n"
#define INTERIM_HEAD "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

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

/* ---- connecting ---- */

static void test_a_refused_connection_is_reported_and_nothing_was_sent(void **state)
{
    struct rig r;
    struct probe p = {.rig = &r};
    char url[128];
    struct client_request rq;

    (void)state;
    open_rig(&r, answers_everything);
    rq = request_to(&r, url, "127.0.0.1", &p);
    rq.url = "http://127.0.0.1:1/v1";
    p.call = client_start(r.client, &rq);
    turn_until(&r, &p.done);
    assert_int_equal(p.code, ERR_UP_CONNECT);
    assert_false(p.timing.was_sent);
    assert_int_equal(p.timing.connected_us, -1);
    close_rig(&r);
}

/* A listener whose queue is full drops connection attempts, like a black hole. */
static int full_listener(uint16_t *port, int fillers[8])
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    for (int i = 0; i < 8; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(fillers[i], (struct sockaddr *)&a, sizeof(a));
    }
    return fd;
}

static void test_the_connect_deadline_ends_a_connection_that_never_stands(void **state)
{
    struct rig r;
    struct probe p = {.rig = &r};
    int fillers[8];
    uint16_t port;
    int fd = full_listener(&port, fillers);
    char url[128];
    struct client_request rq;

    (void)state;
    open_rig(&r, answers_everything);
    rq = request_to(&r, url, "127.0.0.1", &p);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/v1", port);
    rq.timeouts.connect_us = 150000;
    p.call = client_start(r.client, &rq);
    turn_until(&r, &p.done);
    assert_int_equal(p.code, ERR_UP_TIMEOUT);
    assert_false(p.timing.was_sent);
    for (int i = 0; i < 8; i++)
        close(fillers[i]);
    close(fd);
    close_rig(&r);
}

/* ---- deadlines of the answer ---- */

static void reads_and_is_silent(struct peer *p)
{
    if (peer_read(p))
        peer_wait_for_close(p);
}

static void sends_a_head_and_is_silent(struct peer *p)
{
    if (peer_read(p) && peer_say(p, CHUNKED))
        peer_wait_for_close(p);
}

static void sends_a_chunk_and_is_silent(struct peer *p)
{
    if (peer_read(p) && peer_say(p, CHUNKED "5\r\nhello\r\n"))
        peer_wait_for_close(p);
}

static void drips(struct peer *p)
{
    if (!peer_read(p) || !peer_say(p, CHUNKED))
        return;
    for (int i = 0; i < 30; i++) {
        usleep(20000);
        if (!peer_say(p, "1\r\nx\r\n"))
            return;
    }
    (void)peer_say(p, "0\r\n\r\n");
}

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
    rq.timeouts.idle_us = 200000;
    p.call = client_start(r.client, &rq);
    turn_until(&r, &p.pauses);
    turn_for(&r, 500000);
    assert_int_equal(p.done, 0);
    assert_int_equal(p.body.len, 0);
    sent = atomic_load(&r.up.sent_bytes);
    turn_for(&r, 100000);
    assert_int_equal(atomic_load(&r.up.sent_bytes), sent); /* what the socket buffers hold, and no more */
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

/* ---- names ---- */

static atomic_bool hole_is_open;
static atomic_int lookups;

static void fake_lookup(const char *name, struct resolver_answer *out)
{
    atomic_fetch_add(&lookups, 1);
    if (strcmp(name, "hole.example") == 0)
        while (!atomic_load(&hole_is_open))
            usleep(1000);
    if (strcmp(name, "missing.example") == 0) {
        (void)snprintf(out->why, sizeof(out->why), "no such name");
        return;
    }
    if (strcmp(name, "two.example") == 0)
        (void)address_parse(SPAN_LIT("127.77.0.1"), &out->addresses[out->n++]); /* nobody listens there */
    if (strcmp(name, "metadata.example") == 0)
        (void)address_parse(SPAN_LIT("169.254.169.254"), &out->addresses[out->n++]);
    else
        (void)address_parse(SPAN_LIT("127.0.0.1"), &out->addresses[out->n++]);
}

static void open_rig_with_names(struct rig *r)
{
    open_rig(r, answers_everything);
    atomic_store(&hole_is_open, false);
    atomic_store(&lookups, 0);
    client_set_lookup(r->client, fake_lookup);
}

static void start_to(struct rig *r, struct probe *p, const char *host, bool allow_private, int64_t connect_us)
{
    char url[128];
    struct client_request rq = request_to(r, url, host, p);

    rq.allow_private = allow_private;
    rq.timeouts.connect_us = connect_us;
    p->rig = r;
    p->call = client_start(r->client, &rq);
}

static void test_a_name_that_leads_inside_is_blocked_unless_the_provider_may(void **state)
{
    static const struct {
        const char *host;
        bool allow_private;
        enum err_code code;
    } CASES[] = {
        {"inside.example", false, ERR_UP_BLOCKED},
        {"inside.example", true, ERR_OK},
        {"inside.example", false, ERR_UP_BLOCKED},
        {"metadata.example", false, ERR_UP_BLOCKED},
        {"127.0.0.1", false, ERR_OK},
        {"localhost", false, ERR_OK},
        {"two.example", true, ERR_OK},
        {"missing.example", true, ERR_UP_DNS},
        {"127.1", false,
         ERR_UP_BLOCKED}, /* a shortened address is a name: only plain literals are the operator's word */
    };
    struct rig r;

    (void)state;
    open_rig_with_names(&r);
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct probe p = {0};

        start_to(&r, &p, CASES[i].host, CASES[i].allow_private, 20000000);
        turn_until(&r, &p.done);
        if (p.code != CASES[i].code)
            print_error("%s: %s (%s)\n", CASES[i].host, err_row(p.code)->name, p.detail);
        assert_int_equal(p.code, CASES[i].code);
        assert_int_equal(p.timing.was_sent, p.code == ERR_OK);
        buf_release(&p.body);
    }
    assert_int_equal(atomic_load(&r.up.requests), 4);
    close_rig(&r);
}

static void test_a_name_is_looked_up_once_for_many_calls(void **state)
{
    struct rig r;
    struct probe p[20] = {0};

    (void)state;
    open_rig_with_names(&r);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 10; i++)
            start_to(&r, &p[round * 10 + i], round ? "INSIDE.example" : "inside.example", true, 20000000);
    for (int i = 0; i < 20; i++) {
        turn_until(&r, &p[i].done);
        assert_int_equal(p[i].code, ERR_OK);
        buf_release(&p[i].body);
    }
    assert_int_equal(atomic_load(&lookups), 1);
    assert_int_equal(client_stats_mt(r.client).dns_lookups, 1);
    close_rig(&r);
}

static void test_a_black_holed_name_delays_nobody_and_is_cancelled_at_once(void **state)
{
    struct rig r;
    struct probe hung = {0}, given_up = {0};

    (void)state;
    open_rig_with_names(&r);
    start_to(&r, &hung, "hole.example", true, 20000000);
    start_to(&r, &given_up, "hole.example", true, 100000);
    turn_until_count(&r, &lookups, 1);
    for (int i = 0; i < 20; i++) {
        struct probe p = {0};

        start_to(&r, &p, i % 2 ? "inside.example" : "127.0.0.1", true, 20000000);
        turn_until(&r, &p.done);
        assert_int_equal(p.code, ERR_OK);
        buf_release(&p.body);
    }
    turn_until(&r, &given_up.done);
    assert_int_equal(given_up.code, ERR_UP_DNS);
    assert_string_equal(given_up.detail, "'hole.example' not resolved within 100 ms");
    client_cancel(hung.call);
    assert_int_equal(client_stats_mt(r.client).in_flight, 0);
    assert_false(atomic_load(&hole_is_open)); /* it hung all the time */
    close_rig(&r);                            /* and does not hold the client's end up */
    atomic_store(&hole_is_open, true);
    assert_int_equal(hung.done, 0);
}

static void test_a_late_answer_of_dns_serves_those_who_still_wait(void **state)
{
    struct rig r;
    struct probe p = {0};

    (void)state;
    open_rig_with_names(&r);
    start_to(&r, &p, "hole.example", true, 20000000);
    turn_until_count(&r, &lookups, 1);
    turn_for(&r, 50000);
    atomic_store(&hole_is_open, true);
    turn_until(&r, &p.done);
    assert_int_equal(p.code, ERR_OK);
    buf_release(&p.body);
    close_rig(&r);
}

/* ---- many ---- */

static atomic_bool may_answer;

static void answers_when_allowed(struct peer *p)
{
    while (peer_read(p)) {
        while (!atomic_load(&may_answer) && !atomic_load(&p->up->is_stopping))
            usleep(1000);
        if (!peer_say(p, ANSWER))
            return;
    }
}

static void test_more_calls_than_one_shard_holds_run_at_once_and_reuse_connections_later(void **state)
{
    enum { N = 300 };
    static struct probe p[N];
    struct rig r;

    (void)state;
    open_rig(&r, answers_when_allowed);
    for (int round = 0; round < 2; round++) {
        memset(p, 0, sizeof(p));
        atomic_store(&may_answer, false);
        for (int i = 0; i < N; i++)
            start(&r, &p[i]);
        turn_until_count(&r, &r.up.requests, N * (round + 1));
        assert_int_equal(client_stats_mt(r.client).in_flight, N);
        atomic_store(&may_answer, true);
        for (int i = 0; i < N; i++) {
            turn_until(&r, &p[i].done);
            assert_int_equal(p[i].code, ERR_OK);
            buf_release(&p[i].body);
        }
    }
    assert_int_equal(atomic_load(&r.up.connections), N);
    close_rig(&r);
}

static void starts_the_next(struct probe *p)
{
    if (p->done < 500)
        start(p->rig, p);
    else
        loop_stop(p->rig->loop);
    buf_clear(&p->body);
}

static void test_a_call_may_be_started_from_the_end_of_another(void **state)
{
    struct rig r;
    struct probe p = {.in_done = starts_the_next};

    (void)state;
    open_rig(&r, answers_everything);
    start(&r, &p);
    loop_run(r.loop);
    assert_int_equal(p.done, 500);
    assert_int_equal(atomic_load(&r.up.connections), 1);
    buf_release(&p.body);
    close_rig(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_brings_status_headers_and_body),
        cmocka_unit_test(test_calls_share_a_connection_and_never_call_back_from_inside_start),
        cmocka_unit_test(test_a_connection_that_dies_under_a_request_is_not_sent_the_request_again),
        cmocka_unit_test(test_as_many_requests_arrive_as_calls_were_made_whatever_dies),
        cmocka_unit_test(test_a_connection_that_was_closed_while_idle_is_replaced),
        cmocka_unit_test(test_the_request_is_what_was_asked_for_and_nothing_is_added_but_framing),
        cmocka_unit_test(test_a_get_has_no_body_and_a_handle_changes_between_methods),
        cmocka_unit_test(test_header_lines_that_would_split_or_reframe_a_request_are_refused),
        cmocka_unit_test(test_urls_that_hide_something_are_refused),
        cmocka_unit_test(test_a_large_body_arrives_whole_and_without_waiting_for_a_continue),
        cmocka_unit_test(test_proxy_variables_are_ignored_even_when_set_later),
        cmocka_unit_test(test_each_end_of_an_answer_has_its_code),
        cmocka_unit_test(test_a_reset_is_a_reset_before_the_answer_and_a_cut_in_it),
        cmocka_unit_test(test_heads_without_measure_are_cut_off),
        cmocka_unit_test(test_a_content_encoding_is_reported_and_left_alone),
        cmocka_unit_test(test_a_refused_connection_is_reported_and_nothing_was_sent),
        cmocka_unit_test(test_the_connect_deadline_ends_a_connection_that_never_stands),
        cmocka_unit_test(test_each_deadline_ends_what_it_is_for),
        cmocka_unit_test(test_a_request_that_is_not_taken_is_given_up),
        cmocka_unit_test(test_a_paused_call_stops_the_provider_and_keeps_its_idle_deadline_still),
        cmocka_unit_test(test_pausing_again_and_again_loses_and_repeats_nothing),
        cmocka_unit_test(test_a_cancelled_call_is_closed_at_once_and_says_nothing_more),
        cmocka_unit_test(test_a_call_can_be_cancelled_before_it_began),
        cmocka_unit_test(test_a_call_can_be_cancelled_from_its_own_callbacks),
        cmocka_unit_test(test_the_first_of_two_calls_may_cancel_the_second_from_any_callback),
        cmocka_unit_test(test_freeing_the_client_ends_what_runs_without_a_word),
        cmocka_unit_test(test_a_name_that_leads_inside_is_blocked_unless_the_provider_may),
        cmocka_unit_test(test_a_name_is_looked_up_once_for_many_calls),
        cmocka_unit_test(test_a_black_holed_name_delays_nobody_and_is_cancelled_at_once),
        cmocka_unit_test(test_a_late_answer_of_dns_serves_those_who_still_wait),
        cmocka_unit_test(test_more_calls_than_one_shard_holds_run_at_once_and_reuse_connections_later),
        cmocka_unit_test(test_a_call_may_be_started_from_the_end_of_another),
    };

    (void)setenv("HTTPS_PROXY", "http://127.0.0.1:1", 1);
    client_global_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
