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
    struct client *client;
    struct buf body;
    int status, done, headers_seen;
    enum err_code code;
    char detail[256];
    char type[64], encoding[32], request_id[64], retry_after[32];
    int64_t content_length;
    struct client_timing timing;
    size_t pause_at; /* pauses once when this many bytes came */
    int pauses;
    size_t largest;
    bool discard;
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
}

static bool on_body(void *user, struct span bytes)
{
    struct probe *p = user;

    if (p->pause_at && p->body.len >= p->pause_at && p->pauses == 0) {
        p->pauses++;
        return false;
    }
    if (bytes.len > p->largest)
        p->largest = bytes.len;
    assert_int_equal(buf_append(&p->body, bytes.p, bytes.len), ERR_OK);
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

    p->client = r->client;
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

UNUSED static void turn_for(struct rig *r, int64_t us)
{
    struct mono limit = mono_add_us(mono_now(), us);

    while (mono_now().us < limit.us)
        loop_turn(r->loop, 5);
}

UNUSED static void turn_until_count(struct rig *r, atomic_int *count, int want)
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
    assert_int_equal(client_stats_mt(r.client).resends_refused, 1);
    buf_release(&first.body);
    close_rig(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_brings_status_headers_and_body),
        cmocka_unit_test(test_calls_share_a_connection_and_never_call_back_from_inside_start),
        cmocka_unit_test(test_a_connection_that_dies_under_a_request_is_not_sent_the_request_again),
    };

    client_global_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
