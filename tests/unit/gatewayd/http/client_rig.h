/* SPDX-License-Identifier: Apache-2.0 */
/* A client in its loop, a scripted provider, and probes that remember what became of a call. */
#ifndef TESTS_CLIENT_RIG_H
#define TESTS_CLIENT_RIG_H

#include <stdlib.h>

#include "gatewayd/http/client.h"
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

static inline void keep_text(char *dst, size_t cap, struct span s)
{
    (void)span_copy(dst, cap, s);
}

static inline void on_headers(void *user, const struct client_headers *h)
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

static inline bool on_body(void *user, struct span bytes)
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

static inline void on_done(void *user, enum err_code code, const char *detail)
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

UNUSED static const struct client_callbacks CALLBACKS = {on_headers, on_body, on_done};

UNUSED static const struct config_timeouts PATIENT = {
    .connect_us = 20000000, .first_byte_us = 20000000, .idle_us = 20000000, .total_us = 60000000};

static inline struct client_request request_to(const struct rig *r, char url[128], const char *host,
                                               struct probe *p)
{
    (void)snprintf(url, 128, "http://%s:%u/v1/chat", host, r->up.port);
    return (struct client_request){.method = "POST",
                                   .url = url,
                                   .body = SPAN_LIT("{\"model\":\"m\"}"),
                                   .timeouts = PATIENT,
                                   .cb = &CALLBACKS,
                                   .user = p};
}

static inline void start(struct rig *r, struct probe *p)
{
    char url[128];
    struct client_request rq = request_to(r, url, "127.0.0.1", p);

    p->rig = r;
    p->call = client_start(r->client, &rq);
}

static inline void turn_until(struct rig *r, const int *flag)
{
    struct mono limit = mono_add_us(mono_now(), 30000000);

    while (!*flag) {
        assert_true(mono_now().us < limit.us);
        loop_turn(r->loop, 20);
    }
}

static inline void turn_for(struct rig *r, int64_t us)
{
    struct mono limit = mono_add_us(mono_now(), us);

    while (mono_now().us < limit.us)
        loop_turn(r->loop, 5);
}

static inline void turn_until_count(struct rig *r, atomic_int *count, int want)
{
    struct mono limit = mono_add_us(mono_now(), 30000000);

    while (atomic_load(count) < want) {
        assert_true(mono_now().us < limit.us);
        loop_turn(r->loop, 20);
    }
}

static inline void call(struct rig *r, struct probe *p)
{
    start(r, p);
    turn_until(r, &p->done);
}

static inline void open_rig_trusting(struct rig *r, void (*script)(struct peer *), const char *ca_file)
{
    memset(r, 0, sizeof(*r));
    upstream_start(&r->up, script);
    r->loop = loop_new(NULL);
    r->mailbox = mailbox_new(r->loop, NULL);
    r->client = client_new(r->loop, r->mailbox, ca_file, NULL);
    assert_non_null(r->client);
}

static inline void open_rig(struct rig *r, void (*script)(struct peer *))
{
    open_rig_trusting(r, script, NULL);
}

static inline void close_rig(struct rig *r)
{
    client_free(r->client);
    mailbox_free(r->mailbox);
    loop_free(r->loop);
    upstream_stop(&r->up);
}

#define ANSWER                                                                                               \
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: r-1\r\nContent-Length: "             \
    "5\r\n\r\nhello"

static inline void answers_everything(struct peer *p)
{
    while (peer_read(p))
        if (!peer_say(p, ANSWER))
            return;
}

#define OK_HEAD      "HTTP/1.1 200 OK\r\n"
#define CHUNKED      OK_HEAD "Transfer-Encoding: chunked\r\n\r\n"
#define INTERIM_HEAD "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

static inline void reads_and_is_silent(struct peer *p)
{
    if (peer_read(p))
        peer_wait_for_close(p);
}

static inline void sends_a_head_and_is_silent(struct peer *p)
{
    if (peer_read(p) && peer_say(p, CHUNKED))
        peer_wait_for_close(p);
}

static inline void sends_a_chunk_and_is_silent(struct peer *p)
{
    if (peer_read(p) && peer_say(p, CHUNKED "5\r\nhello\r\n"))
        peer_wait_for_close(p);
}

static inline void drips(struct peer *p)
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

#endif
