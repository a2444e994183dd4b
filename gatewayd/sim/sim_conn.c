/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of the simulator: bytes in, whole requests out to sim_play, bytes back. One thread. A request
 * that arrives in one piece is parsed where it was read and never copied. */
#include "gatewayd/sim/sim_server.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_event(struct loop_watch *w, uint32_t events);

static void bury(struct loop_task *t)
{
    struct sim_conn *c = CONTAINER_OF(t, struct sim_conn, burial);

    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    buf_release(&c->in);
    buf_release(&c->head);
    buf_release(&c->body);
    buf_release(&c->out);
    free(c);
}

static void end(struct sim_conn *c)
{
    if (c->phase == SIM_CLOSED)
        return;
    c->phase = SIM_CLOSED;
    loop_timer_cancel(c->sv->loop, &c->timer);
    loop_unwatch(c->sv->loop, &c->watch);
    (void)close(c->watch.fd);
    c->sv->n_conns--;
    loop_defer(c->sv->loop, &c->burial);
}

void sim_conn_close(struct sim_conn *c)
{
    if (c->phase == SIM_CLOSED)
        return;
    (void)shutdown(c->watch.fd, SHUT_WR);
    end(c);
}

void sim_conn_reset(struct sim_conn *c)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};

    if (c->phase == SIM_CLOSED)
        return;
    (void)setsockopt(c->watch.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    end(c);
}

static void gone(struct sim_conn *c)
{
    if (c->phase == SIM_CLOSED)
        return;
    if (c->phase == SIM_READ_BODY || (c->phase == SIM_READ_HEAD && c->in.len))
        c->sv->incomplete++;
    if (c->job)
        sim_play_gone(c);
    end(c);
}

static void watch_for(struct sim_conn *c)
{
    uint32_t events = (c->is_in_paused ? 0 : EPOLLIN) | (c->waits_out ? EPOLLOUT : 0);

    (void)!loop_rewatch(c->sv->loop, &c->watch, events);
}

/* ---- out ---- */

/* Bytes the socket took; -1 when it is dead. */
static ssize_t push(struct sim_conn *c, struct span bytes)
{
    size_t at = 0;

    while (at < bytes.len) {
        ssize_t n = send(c->watch.fd, bytes.p + at, bytes.len - at, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0)
            return -1;
        at += (size_t)n;
        c->sent += (uint64_t)n;
    }
    return (ssize_t)at;
}

void sim_conn_send(struct sim_conn *c, struct span bytes)
{
    ssize_t n = 0;

    if (c->phase == SIM_CLOSED)
        return;
    if (!sim_conn_queued(c))
        n = push(c, bytes);
    if (n >= 0 && (size_t)n == bytes.len)
        return;
    c->out.max = SIM_OUT_MAX;
    /* The caller may be in the middle of its job: the end is only noted, and taken up when epoll reports it.
     */
    if (n < 0 || buf_append(&c->out, bytes.p + n, bytes.len - (size_t)n)) {
        c->is_broken = true;
        (void)shutdown(c->watch.fd, SHUT_RDWR);
        return;
    }
    if (!c->waits_out) {
        c->waits_out = true;
        watch_for(c);
    }
}

static void flush(struct sim_conn *c)
{
    ssize_t n = push(c, span_make(c->out.p + c->out_at, sim_conn_queued(c)));

    if (n < 0) {
        gone(c);
        return;
    }
    c->out_at += (size_t)n;
    if (sim_conn_queued(c))
        return;
    buf_release(&c->out);
    c->out_at = 0;
    c->waits_out = false;
    watch_for(c);
    if (c->is_ending)
        sim_conn_close(c);
    else if (c->job)
        sim_play_drained(c);
}

/* ---- in ---- */

static void refuse(struct sim_conn *c, const struct sim_head *h)
{
    struct buf *out = &c->sv->out;

    c->sv->refused++;
    buf_clear(out);
    buf_addf(
        out,
        "HTTP/1.1 %d %s\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: %zu\r\n\r\n%s",
        h->status, sim_status_text(h->status), strlen(h->why), h->why);
    sim_conn_send(c, buf_span(out));
    sim_conn_close(c);
}

static void begin(struct sim_conn *c, const struct sim_head *h, struct span head_bytes, struct span body)
{
    c->phase = SIM_BUSY;
    c->requests++;
    c->sent = 0;
    c->wants_close = h->wants_close;
    sim_play_begin(c, h, head_bytes, body);
}

/* A body that is still on its way: the head is kept, to be parsed again when all is there. */
static void await_body(struct sim_conn *c, const struct sim_head *h, struct span head_bytes)
{
    c->phase = SIM_READ_BODY;
    c->is_chunked = h->is_chunked;
    c->chunked = (struct sim_chunked){0};
    c->body_left = h->length;
    c->body.max = SIM_BODY_MAX;
    buf_clear(&c->head);
    buf_add(&c->head, head_bytes);
    if (h->expects_continue)
        sim_conn_send(c, SPAN_LIT("HTTP/1.1 100 Continue\r\n\r\n"));
}

static size_t feed_head(struct sim_conn *c, struct span in)
{
    struct sim_head h;
    struct span head_bytes;

    switch (sim_head_parse(&h, in)) {
    case SIM_WIRE_MORE:
        return 0;
    case SIM_WIRE_BAD:
        refuse(c, &h);
        return in.len;
    default:
        break;
    }
    head_bytes = span_make(in.p, h.bytes);
    if (h.length > SIM_BODY_MAX) {
        h.status = 413;
        h.why = "the body is too large";
        refuse(c, &h);
        return in.len;
    }
    if (!h.is_chunked && h.length <= in.len - h.bytes) {
        begin(c, &h, head_bytes, span_make(in.p + h.bytes, (size_t)h.length));
        return h.bytes + (size_t)h.length;
    }
    await_body(c, &h, head_bytes);
    return h.bytes;
}

static void body_complete(struct sim_conn *c)
{
    struct sim_head h;
    struct buf head = c->head, body = c->body;

    c->head = c->body = (struct buf){0};
    if (sim_head_parse(&h, buf_span(&head)) == SIM_WIRE_DONE)
        begin(c, &h, buf_span(&head), buf_span(&body));
    buf_release(&head);
    buf_release(&body);
}

static size_t feed_body(struct sim_conn *c, struct span in)
{
    struct sim_head bad = {.status = 400, .why = "bad chunk"};
    size_t used;

    if (c->is_chunked) {
        enum sim_wire r = sim_chunked_feed(&c->chunked, in, &used, &c->body);

        if (r == SIM_WIRE_DONE)
            body_complete(c);
        else if (r == SIM_WIRE_BAD)
            refuse(c, &bad);
        return r == SIM_WIRE_BAD ? in.len : used;
    }
    used = in.len < c->body_left ? in.len : (size_t)c->body_left;
    if (buf_append(&c->body, in.p, used)) {
        bad.status = 413;
        bad.why = "the body is too large";
        refuse(c, &bad);
        return in.len;
    }
    c->body_left -= used;
    if (!c->body_left)
        body_complete(c);
    return used;
}

/* Consumes requests until one has to wait for its answer; returns the bytes used. */
static size_t feed(struct sim_conn *c, struct span in)
{
    size_t at = 0;

    c->is_feeding = true;
    while (at < in.len && (c->phase == SIM_READ_HEAD || c->phase == SIM_READ_BODY)) {
        struct span rest = span_make(in.p + at, in.len - at);
        size_t used = c->phase == SIM_READ_HEAD ? feed_head(c, rest) : feed_body(c, rest);

        if (!used)
            break;
        at += used;
    }
    c->is_feeding = false;
    return at;
}

static void feed_kept(struct sim_conn *c)
{
    struct buf in = c->in; /* taken, so that nothing below may move it */
    size_t used;

    c->in = (struct buf){0};
    used = feed(c, buf_span(&in));
    if (c->phase != SIM_CLOSED && used < in.len) {
        buf_consume(&in, used);
        c->in = in;
        return;
    }
    buf_release(&in);
}

void sim_conn_next(struct sim_conn *c)
{
    if (c->phase == SIM_CLOSED)
        return;
    c->job = NULL;
    if (c->wants_close) {
        c->is_ending = c->is_in_paused = true;
        if (sim_conn_queued(c))
            watch_for(c);
        else
            sim_conn_close(c);
        return;
    }
    c->phase = SIM_READ_HEAD;
    if (c->is_in_paused) {
        c->is_in_paused = false;
        watch_for(c);
    }
    if (!c->is_feeding && c->in.len)
        feed_kept(c);
}

static void on_readable(struct sim_conn *c)
{
    struct sim_server *sv = c->sv;
    ssize_t n = recv(c->watch.fd, sv->in, SIM_READ_BYTES, 0);
    size_t used = 0;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        gone(c);
        return;
    }
    if (!c->in.len && c->phase != SIM_BUSY)
        used = feed(c, span_make(sv->in, (size_t)n));
    if (c->phase == SIM_CLOSED || used == (size_t)n)
        return;
    if (buf_append(&c->in, sv->in + used, (size_t)n - used)) {
        gone(c);
        return;
    }
    if (c->phase != SIM_BUSY)
        feed_kept(c);
    if (c->phase == SIM_BUSY && c->in.len >= SIM_AHEAD_BYTES) {
        c->is_in_paused = true;
        watch_for(c);
    }
}

static void on_event(struct loop_watch *w, uint32_t events)
{
    struct sim_conn *c = CONTAINER_OF(w, struct sim_conn, watch);

    if (events & EPOLLOUT)
        flush(c);
    if (c->phase != SIM_CLOSED && (events & EPOLLIN) && !c->is_ending)
        on_readable(c);
    else if (c->phase != SIM_CLOSED && (events & (EPOLLHUP | EPOLLERR)))
        gone(c);
}

void sim_conn_accept(struct loop_watch *listener, uint32_t events)
{
    struct sim_server *sv = CONTAINER_OF(listener, struct sim_server, listener);

    (void)events;
    for (int i = 0; i < 256; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct sim_conn *c;

        if (fd < 0)
            return;
        c = calloc(1, sizeof(*c));
        if (!c) {
            (void)close(fd);
            return;
        }
        c->watch = (struct loop_watch){.fd = fd, .fn = on_event};
        c->timer.fn = sim_play_timer;
        c->burial.fn = bury;
        c->sv = sv;
        c->id = ++sv->accepted;
        sv->n_conns++;
        c->next = sv->conns;
        c->link = &sv->conns;
        if (c->next)
            c->next->link = &c->next;
        sv->conns = c;
        if (loop_watch(sv->loop, &c->watch, EPOLLIN))
            end(c);
    }
}
