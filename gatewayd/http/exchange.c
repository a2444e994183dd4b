/* SPDX-License-Identifier: Apache-2.0 */
/* What a handler sees of a request, and how it answers. Loop thread only. An answer is only made here; it is queued when
 * libmicrohttpd asks for it, after the resume. */
#include "gatewayd/http/server_priv.h"

#include <sys/socket.h>
#include <unistd.h>

static struct conn *conn_of(struct exchange *ex)
{
    return CONTAINER_OF(ex, struct conn, ex);
}
static const struct conn *conn_of_const(const struct exchange *ex)
{
    return (const struct conn *)((const char *)ex - offsetof(struct conn, ex));
}

struct span exchange_method(const struct exchange *ex)
{
    return ex->method;
}

struct span exchange_path(const struct exchange *ex)
{
    struct span rest = ex->target;

    return span_split(&rest, '?');
}

struct span exchange_query(const struct exchange *ex)
{
    struct span rest = ex->target;

    (void)span_split(&rest, '?');
    return rest;
}

struct span exchange_header(const struct exchange *ex, const char *name)
{
    struct span want = span_of(name);

    for (size_t i = 0; i < ex->n_headers; i++)
        if (span_eq_nocase(ex->headers[i].name, want))
            return ex->headers[i].value;
    return (struct span){NULL, 0};
}

bool exchange_is_body_too_large(const struct exchange *ex)
{
    return ex->body_too_big;
}

struct span exchange_body(const struct exchange *ex)
{
    return buf_span(&ex->body);
}

uint64_t exchange_announced(const struct exchange *ex)
{
    return ex->verdict.content_length;
}

void exchange_drop_body(struct exchange *ex)
{
    ex->dropped_in += ex->body.len;
    buf_release(&ex->body);
}

uint64_t exchange_bytes_in(const struct exchange *ex)
{
    return ex->dropped_in + ex->body.len;
}

const void *exchange_peer(const struct exchange *ex)
{
    return MHD_get_connection_info(conn_of_const(ex)->mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr;
}

bool exchange_is_local_peer(const struct exchange *ex)
{
    const struct conn *c = conn_of_const(ex);
    struct ucred who;
    socklen_t len = sizeof(who);

    return c->server->o.is_unix && getsockopt(c->fin.fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
           (who.uid == getuid() || who.uid == 0);
}

bool exchange_is_gone(const struct exchange *ex)
{
    return ex->is_gone;
}

bool exchange_accepts_trailers(const struct exchange *ex)
{
    struct span te = exchange_header(ex, "te");

    while (te.p)
        if (span_eq_nocase(span_trim(span_split(&te, ',')), SPAN_LIT("trailers")))
            return ex->is_http11;
    return false;
}

struct mono exchange_started(const struct exchange *ex)
{
    return ex->started;
}
void exchange_adopt(struct exchange *ex, const struct exchange_ops *ops, void *user)
{
    ex->ops = ops;
    ex->user = user;
}
void *exchange_user(const struct exchange *ex)
{
    return ex->user;
}
struct arena *exchange_arena(struct exchange *ex)
{
    return &ex->arena;
}
uint64_t exchange_bytes_out(const struct exchange *ex)
{
    return ex->bytes_out;
}
size_t exchange_queued(const struct exchange *ex)
{
    return ex->out.len - ex->out_at;
}

#define OUT_HEADERS_MAX 32u

void exchange_set_header(struct exchange *ex, const char *name, struct span value)
{
    if (!ex->out_headers)
        ex->out_headers = arena_array(&ex->arena, struct header, OUT_HEADERS_MAX);
    if (ex->n_out_headers < OUT_HEADERS_MAX)
        ex->out_headers[ex->n_out_headers++] =
            (struct header){name, span_make(arena_dup(&ex->arena, value), value.len)};
}

static void answer(struct exchange *ex, int status, struct MHD_Response *r)
{
    struct conn *c = conn_of(ex);

    ex->is_answered = true;
    if (!r) {
        exchange_cut(ex);
        return;
    }
    ex->response = r;
    ex->status = (unsigned)status;
    conn_add_headers(c);
    conn_want_resume(c);
}

void exchange_reply_adopt(struct exchange *ex, int status, struct buf *body)
{
    if (ex->is_answered)
        return;
    ex->bytes_out = body->len;
    answer(ex, status,
           body->p ? MHD_create_response_from_buffer(body->len, body->p, MHD_RESPMEM_MUST_FREE)
                   : MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT));
    *body = (struct buf){.max = body->max};
}

void exchange_stream_begin(struct exchange *ex, int status)
{
    struct conn *c = conn_of(ex);

    if (ex->is_answered)
        return;
    ex->is_streaming = true;
    ex->out.max = LIMIT_STREAM_HIGH + LIMIT_SSE_EVENT_HARD;
    answer(ex, status, conn_make_stream(c));
    conn_watch_fin(c);
}

enum err_code exchange_stream_write(struct exchange *ex, struct span bytes)
{
    struct conn *c = conn_of(ex);
    enum err_code e;

    if (ex->is_cut || ex->is_gone)
        return ERR_CLIENT_GONE;
    /* Sent bytes go once they are half of what is there: a byte is moved once on average, and a client that never
     * quite catches up does not make the buffer grow. */
    if (ex->out_at && ex->out_at >= ex->out.len - ex->out_at) {
        buf_consume(&ex->out, ex->out_at);
        ex->out_at = 0;
    }
    if (ex->out.len == ex->out_at) {
        c->last_read = loop_now(c->server->loop);
        if (c->phase == PHASE_STREAM && !timer_is_armed(&c->timer))
            loop_timer(c->server->loop, &c->timer, c->server->o.write_stall_us);
    }
    e = buf_append(&ex->out, bytes.p, bytes.len);
    if (e) {
        exchange_cut(ex); /* what follows a gap would read as if it were whole */
        return e;
    }
    ex->bytes_out += bytes.len;
    if (exchange_queued(ex) > LIMIT_STREAM_HIGH)
        ex->was_high = true;
    conn_want_resume(c);
    return ERR_OK;
}

void exchange_stream_trailer(struct exchange *ex, const char *name, struct span value)
{
    if (ex->response)
        conn_add_header(ex->response, name, value, true);
}

void exchange_stream_end(struct exchange *ex)
{
    ex->is_ended = true;
    conn_want_resume(conn_of(ex));
}

void exchange_cut(struct exchange *ex)
{
    struct conn *c = conn_of(ex);

    ex->is_cut = true;
    ex->is_answered = true;
    /* libmicrohttpd may be waiting for room in the socket of a client that reads no more, and closes a connection whose
     * reader failed no sooner than at the next event on it. */
    if (c->phase == PHASE_STREAM)
        (void)shutdown(c->fin.fd, SHUT_RDWR);
    conn_want_resume(c);
}
