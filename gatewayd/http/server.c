/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server, on a libmicrohttpd daemon whose epoll descriptor is nested in our loop. Loop thread only.
 *
 * A connection carries at most one exchange, embedded in it. libmicrohttpd's view of an exchange:
 *
 *   request line ──► on_uri ──► access (headers) ──► access (body)* ──► access (end) ──► suspended
 *                                  │ guard, on_head                        │ on_request     │ answer → resume
 *                                  ▼                                       ▼                ▼
 *                               refusal                                  queue ◄───────── access again ──► completed
 *
 * Invariants: every path that has nothing to send suspends (an idle reader that returns 0 would spin);
 * responses are queued only inside the access handler; resumes are collected and done once at the end of a
 * loop turn, because each daemon run with a pending resume walks all suspended connections; a socket of a
 * suspended connection is watched for FIN by our own epoll, because libmicrohttpd does not look at it. All
 * deadlines are our own: one timer a connection.
 *
 * The flag bit 8192 alone (MHD_ALLOW_SUSPEND_RESUME without MHD_USE_ITC) allows suspending without an eventfd
 * that a single-threaded loop does not need: every resume would write and read it. */
#include "gatewayd/http/server_priv.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "gatewayd/http/reply.h"
#include "libshared/base/log.h"

#define SUSPEND_WITHOUT_ITC 8192u
#define STREAM_BLOCK        1024u /* a buffer that libmicrohttpd keeps per stream, and uses for HTTP/1.0 only */
#define DRAINED_BODY        (64u << 10) /* a refused request's body is read up to here: its connection lives on */
#define HEADERS_MAX         100u
#define HEADER_NODE_BYTES   64u   /* what libmicrohttpd's pool holds for a header line beside its text */
#define OUT_KEEP            1024u /* queue memory an idle stream keeps */

static const struct exchange_ops NO_OPS;

static void count(_Atomic uint64_t *c, int64_t by)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + (uint64_t)by,
                          memory_order_relaxed);
}

static void set_phase(struct conn *c, enum phase p, int64_t deadline_us)
{
    c->phase = p;
    if (deadline_us > 0)
        loop_timer(c->server->loop, &c->timer, deadline_us);
    else
        loop_timer_cancel(c->server->loop, &c->timer);
}

static void suspend(struct conn *c)
{
    MHD_suspend_connection(c->mhd);
    c->is_suspended = true;
}

/* ---- the client goes away ---- */

static void tell_gone(struct conn *c)
{
    struct exchange *ex = &c->ex;

    ex->is_gone = true;
    loop_unwatch(c->server->loop, &c->fin);
    if (ex->gone_told || !ex->has_begun)
        return;
    ex->gone_told = true;
    if (ex->ops->on_gone)
        ex->ops->on_gone(ex);
}

static void on_fin(struct loop_watch *w, uint32_t events)
{
    (void)events;
    tell_gone(CONTAINER_OF(w, struct conn, fin));
}

void conn_watch_fin(struct conn *c)
{
    if (!c->fin.slot && loop_watch(c->server->loop, &c->fin, EPOLLRDHUP) != ERR_OK)
        tell_gone(c);
}

/* Libmicrohttpd does not look at a connection whose buffer is full of an unfinished chunk line, except for its own clock. */
static void cut_socket(struct conn *c)
{
    (void)shutdown(c->fin.fd, SHUT_RDWR);
    (void)MHD_set_connection_option(c->mhd, MHD_CONNECTION_OPTION_TIMEOUT, 1u);
    if (c->ex.has_begun)
        tell_gone(c);
}

static void on_timer(struct timer *t)
{
    struct conn *c = CONTAINER_OF(t, struct conn, timer);

    switch (c->phase) {
    case PHASE_WORK:
        conn_watch_fin(c);
        return;
    case PHASE_STREAM: {
        int64_t quiet = mono_diff_us(loop_now(c->server->loop), c->last_read);

        if (c->ex.out.len == c->ex.out_at && !c->ex.is_ended && !c->ex.is_cut)
            return; /* nothing waits for the client; armed again by the next write */
        if (quiet < c->server->o.write_stall_us) {
            loop_timer(c->server->loop, t, c->server->o.write_stall_us - quiet + 1000);
            return;
        }
        cut_socket(c);
        return;
    }
    case PHASE_IDLE:
    case PHASE_HEADER:
    case PHASE_BODY:
    case PHASE_WRITE:
        cut_socket(c);
        return;
    }
}

/* ---- sending ---- */

static const char *date_header(struct server *s)
{
    time_t now = (time_t)(loop_wall(s->loop).us / 1000000);
    struct tm tm;

    if (now != s->date_at && gmtime_r(&now, &tm)) {
        s->date_at = now;
        (void)strftime(s->date, sizeof(s->date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    }
    return s->date;
}

void conn_add_header(struct MHD_Response *r, const char *name, struct span value, bool is_trailer)
{
    char text[1024];
    size_t n = span_copy(text, sizeof(text), value);

    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
    if (!n)
        return;
    if ((is_trailer ? MHD_add_response_footer(r, name, text) : MHD_add_response_header(r, name, text)) !=
        MHD_YES)
        log_warn("response header '%s' was refused by the server library", name);
}

void conn_add_headers(struct conn *c)
{
    struct exchange *ex = &c->ex;

    if (ex->status != 431) /* whose header must fit into what is left of the pool */
        conn_add_header(ex->response, MHD_HTTP_HEADER_DATE, span_of(date_header(c->server)), false);
    for (unsigned i = 0; i < ex->n_out_headers; i++)
        conn_add_header(ex->response, ex->out_headers[i].name, ex->out_headers[i].value, false);
    if (ex->closes || c->server->is_quiesced)
        conn_add_header(ex->response, MHD_HTTP_HEADER_CONNECTION, SPAN_LIT("close"), false);
}

static enum MHD_Result queue(struct conn *c)
{
    struct exchange *ex = &c->ex;
    enum MHD_Result ok = MHD_queue_response(c->mhd, ex->status, ex->response);

    ex->is_queued = true;
    if (ex->is_streaming) {
        c->phase = PHASE_STREAM;
        c->last_read = loop_now(c->server->loop);
        loop_timer(c->server->loop, &c->timer, c->server->o.write_stall_us);
    } else {
        int64_t by_size = (int64_t)(ex->bytes_out / LIMIT_BODY_MIN_RATE) * 1000000;

        loop_unwatch(c->server->loop, &c->fin);
        set_phase(c, PHASE_WRITE,
                  by_size > c->server->o.write_stall_us ? by_size : c->server->o.write_stall_us);
    }
    return ok;
}

/* Queues the answer if there is one, closes if it was cut, else suspends until one comes. */
static enum MHD_Result answer_or_suspend(struct conn *c)
{
    if (c->ex.is_cut)
        return MHD_NO;
    if (c->ex.response)
        return queue(c);
    suspend(c);
    return MHD_YES;
}

static void run_drain(struct loop_task *t)
{
    struct conn *c = CONTAINER_OF(t, struct conn, drain_task);

    if (c->ex.has_begun && !c->ex.is_gone && c->ex.ops->on_drain)
        c->ex.ops->on_drain(&c->ex);
}

static ssize_t read_stream(void *cls, uint64_t pos, char *dst, size_t max)
{
    struct conn *c = cls;
    struct exchange *ex = &c->ex;
    size_t n = ex->out.len - ex->out_at;

    (void)pos;
    c->server->has_news = true;
    if (ex->is_cut)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    c->last_read = loop_now(c->server->loop);
    if (!n) {
        if (ex->is_ended)
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (ex->out.cap > OUT_KEEP)
            buf_release(&ex->out);
        suspend(c);
        return 0;
    }
    n = n < max ? n : max;
    memcpy(dst, ex->out.p + ex->out_at, n);
    ex->out_at += n;
    if (ex->out_at == ex->out.len) {
        ex->out_at = 0;
        ex->out.len = 0;
    }
    if (ex->was_high && ex->out.len - ex->out_at < LIMIT_STREAM_LOW) {
        ex->was_high = false;
        loop_defer(c->server->loop, &c->drain_task);
    }
    return (ssize_t)n;
}

struct MHD_Response *conn_make_stream(struct conn *c)
{
    return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, c, NULL);
}

/* ---- what libmicrohttpd calls ---- */

static struct conn *conn_from(struct MHD_Connection *mhd)
{
    struct conn *c = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;

    if (c)
        c->server->has_news = true;
    return c;
}

static void *on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    struct conn *c = conn_from(mhd);

    (void)cls;
    if (!c)
        return NULL;
    c->ex.target.p = arena_dup(&c->ex.arena, span_of(uri));
    c->ex.target.len = strlen(uri);
    c->ex.started = loop_now(c->server->loop);
    set_phase(c, PHASE_HEADER, c->server->o.header_time_us);
    return c;
}

static enum MHD_Result take_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_len,
                                   const char *value, size_t value_len)
{
    struct exchange *ex = cls;

    (void)kind;
    if (ex->n_headers < HEADERS_MAX)
        ex->headers[ex->n_headers] =
            (struct guard_header){{name, name_len}, {value ? value : "", value ? value_len : 0}};
    ex->n_headers++;
    return MHD_YES;
}

/* Names and values stay where libmicrohttpd keeps them: its pool lives as long as the exchange. */
static void take_headers(struct conn *c)
{
    int n = MHD_get_connection_values(c->mhd, MHD_HEADER_KIND, NULL, NULL);

    c->ex.headers = arena_array(&c->ex.arena, struct guard_header, (size_t)(n > 0 ? n : 0) + 1);
    (void)MHD_get_connection_values_n(c->mhd, MHD_HEADER_KIND, take_header, &c->ex);
}

/* Blanks and line ends between two parts of a header, as the parser left them; -1 when anything else is there. */
static int64_t gap(const char *from, const char *to)
{
    if (!from || from > to || to - from > (ptrdiff_t)LIMIT_HEADER_POOL_BYTES)
        return -1;
    for (const char *p = from; p < to; p++)
        if (*p != '\0' && *p != ' ' && *p != '\t' && *p != '\r' && *p != '\n' && *p != ':')
            return -1;
    return to - from;
}

/* The parser drops what stands behind a NUL and joins folded lines, and does not tell. But it tells how long the header
 * was, and leaves the parts where they were: when the length is more than the parts, one blank behind each colon and
 * the padding that stands between them, something was there that we did not see. */
static bool has_unseen_bytes(const struct conn *c, const char *method, const char *version)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    const struct guard_header *h = c->ex.headers;
    size_t n = c->ex.n_headers < HEADERS_MAX ? c->ex.n_headers : HEADERS_MAX;
    size_t seen = strlen(method) + 1 + c->ex.target.len + 1 + strlen(version) + 2 + 2;
    int64_t padding = 0;

    for (size_t i = 0; i < n; i++)
        seen += h[i].name.len + 2 + h[i].value.len + 2;
    if (!info || info->header_size <= seen)
        return !info;
    for (size_t i = 0; i < n; i++) {
        int64_t before = gap(h[i].name.p + h[i].name.len, h[i].value.p);
        int64_t behind = i + 1 < n ? gap(h[i].value.p + h[i].value.len, h[i + 1].name.p) : 2;

        if (before < 0 || behind < 0)
            return true;
        padding += before - 2 + behind - 2;
    }
    return (int64_t)(info->header_size - seen) > padding;
}

/* The header of the answer comes out of the same pool; when it does not fit, libmicrohttpd closes without a word. */
static size_t pool_left(const struct conn *c)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    size_t used = (info ? info->header_size : 0) + c->ex.n_headers * HEADER_NODE_BYTES;

    return used < LIMIT_HEADER_POOL_BYTES ? LIMIT_HEADER_POOL_BYTES - used : 0;
}

static void set_error_body(struct conn *c, enum err_code code, const char *text)
{
    struct buf b AUTO(buf_release) = {.max = 4096};

    reply_error_body(&b, code, span_of(text));
    if (code != ERR_HEADER_TOO_LARGE)
        exchange_set_header(&c->ex, "content-type", SPAN_LIT("application/json"));
    exchange_reply_adopt(&c->ex, err_row(code)->status, &b);
}

/* The guard said no: answer and close. No exchange begins. */
static enum MHD_Result refuse(struct conn *c, enum err_code code, const char *text)
{
    c->ex.closes = true;
    if (c->server->o.handler->on_refused)
        c->server->o.handler->on_refused(c->server->o.user, (uint16_t)err_row(code)->status);
    if (code == ERR_BAD_METHOD) /* nobody looked at the path: the methods that any may have */
        exchange_set_header(&c->ex, "allow", SPAN_LIT("GET, HEAD, POST, PUT, PATCH, DELETE"));
    set_error_body(c, code, text);
    return queue(c);
}

static enum MHD_Result begin(struct conn *c, const char *method, const char *version)
{
    struct exchange *ex = &c->ex;
    struct err err = {0};
    struct guard_input in;
    enum err_code e;

    take_headers(c);
    ex->method = span_make(arena_dup(&ex->arena, span_of(method)), strlen(method));
    ex->is_http11 = span_is(span_of(version), "HTTP/1.1");
    in = (struct guard_input){.method = ex->method,
                              .raw_target = ex->target,
                              .version = span_of(version),
                              .headers = ex->headers,
                              .n_headers = ex->n_headers <= HEADERS_MAX ? ex->n_headers : HEADERS_MAX,
                              .max_body = c->server->o.max_body};
    if (pool_left(c) < LIMIT_HEADER_REPLY_BYTES)
        e = err_set(&err, ERR_HEADER_TOO_LARGE, "the request line and the headers are too large");
    else if (ex->n_headers > HEADERS_MAX)
        e = err_set(&err, ERR_BAD_REQUEST, "more than %u header lines", HEADERS_MAX);
    else if (has_unseen_bytes(c, method, version))
        e = err_set(&err, ERR_BAD_FRAMING,
                    "the header has NUL bytes, folded lines or more than one blank in a row "
                    "where one separates");
    else
        e = guard_check(&in, &ex->verdict, &err);
    if (e) {
        count(&c->server->stats.guard_refusals, 1);
        return refuse(c, e, err_text(&err));
    }
    if (atomic_load_explicit(&c->server->stats.open, memory_order_relaxed) > c->server->o.max_connections) {
        count(&c->server->stats.refused_connections, 1);
        return refuse(c, ERR_OVERLOADED, "too many connections; raise 'http.max_connections' or retry later");
    }
    ex->expects_continue = exchange_header(ex, "expect").p != NULL;
    ex->closes = ex->verdict.is_chunked;
    ex->body.max = c->server->o.max_body;
    if (ex->verdict.content_length && ex->verdict.content_length <= DRAINED_BODY)
        (void)!buf_reserve(&ex->body, (size_t)ex->verdict.content_length);
    ex->has_begun = true;
    ex->ops = &NO_OPS;
    c->server->n_exchanges++;
    if (ex->verdict.has_body) {
        int64_t by_size = (int64_t)(ex->verdict.content_length / LIMIT_BODY_MIN_RATE) * 1000000;

        set_phase(c, PHASE_BODY, by_size > c->server->o.body_time_us ? by_size : c->server->o.body_time_us);
    }
    c->server->o.handler->on_head(ex, c->server->o.user);
    if (!ex->response)
        return ex->is_cut ? MHD_NO : MHD_YES;
    if (!ex->verdict.has_body ||
        (!ex->verdict.is_chunked && !ex->expects_continue && ex->verdict.content_length <= DRAINED_BODY))
        return MHD_YES; /* queued once the whole request has been read, so that the connection lives */
    ex->closes = true;
    return queue(c);
}

static enum MHD_Result take_body(struct conn *c, const char *data, size_t *len)
{
    struct exchange *ex = &c->ex;

    if (ex->body_too_big) {
        ex->body.max += *len; /* counts what is dropped: a small overrun still gets its answer */
        if (ex->body.max > c->server->o.max_body + (1u << 20))
            return MHD_NO;
    } else if (!ex->response && buf_append(&ex->body, data, *len) != ERR_OK) {
        ex->body_too_big = true;
        ex->body.len = 0;
    }
    *len = 0;
    return MHD_YES;
}

static enum MHD_Result finish_body(struct conn *c)
{
    struct exchange *ex = &c->ex;

    set_phase(c, PHASE_WORK, LIMIT_FIN_WATCH_US);
    if (!ex->response && ex->ops->on_request)
        ex->ops->on_request(ex);
    return answer_or_suspend(c);
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                                 const char *version, const char *data, size_t *len, void **con_cls)
{
    struct conn *c = conn_from(mhd);

    (void)cls;
    (void)url;
    (void)con_cls;
    if (!c)
        return MHD_NO;
    if (c->phase == PHASE_HEADER && !c->ex.has_begun && !c->ex.is_queued)
        return begin(c, method, version);
    if (*len)
        return take_body(c, data, len);
    if (c->phase != PHASE_WORK)
        return finish_body(c);
    return answer_or_suspend(c);
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                         enum MHD_RequestTerminationCode why)
{
    struct conn *c = conn_from(mhd);
    struct exchange *ex;

    (void)cls;
    (void)con_cls;
    if (!c)
        return;
    ex = &c->ex;
    loop_unwatch(c->server->loop, &c->fin);
    loop_defer_cancel(c->server->loop, &c->drain_task);
    conn_drop_resume(c);
    c->is_suspended = false;
    if (ex->has_begun) {
        if (why != MHD_REQUEST_TERMINATED_COMPLETED_OK && !ex->is_cut && !ex->gone_told)
            tell_gone(c);
        if (ex->ops->on_end)
            ex->ops->on_end(ex);
        c->server->n_exchanges--;
    }
    if (ex->response)
        MHD_destroy_response(ex->response);
    buf_release(&ex->body);
    buf_release(&ex->out);
    arena_release(&ex->arena);
    memset(ex, 0, sizeof(*ex));
    set_phase(c, PHASE_IDLE, c->server->o.keepalive_us);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct server *s = cls;
    struct conn *c;

    s->has_news = true;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        s->has_closed = true;
        c = *socket_context;
        if (!c)
            return;
        loop_unwatch(s->loop, &c->fin);
        loop_timer_cancel(s->loop, &c->timer);
        arena_release(&c->ex.arena);
        *c->link = c->next;
        if (c->next)
            c->next->link = c->link;
        count(&s->stats.open, -1);
        free(c);
        *socket_context = NULL;
        return;
    }
    c = calloc(1, sizeof(*c));
    *socket_context = c;
    if (!c)
        return;
    c->server = s;
    c->mhd = mhd;
    c->fin = (struct loop_watch){
        .fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd, .fn = on_fin};
    c->timer.fn = on_timer;
    c->drain_task.fn = run_drain;
    c->next = s->conns;
    if (c->next)
        c->next->link = &c->next;
    c->link = &s->conns;
    s->conns = c;
    count(&s->stats.open, 1);
    set_phase(c, PHASE_IDLE, s->o.header_time_us);
}

static size_t keep_escaped(void *cls, struct MHD_Connection *mhd, char *s)
{
    (void)cls;
    (void)mhd;
    return strlen(s); /* the raw target is what we route by; nothing reads the decoded one */
}

static void on_panic(void *cls, const char *file, unsigned line, const char *reason)
{
    (void)cls;
    log_error("libmicrohttpd: %s:%u: %s", file, line, reason ? reason : "panic");
    abort();
}

/* ---- life
 * ------------------------------------------------------------------------------------------------------------
 */

static enum err_code read_pem(const char *path, struct buf *out, struct err *err)
{
    FILE *f = fopen(path, "re");
    char block[4096];
    size_t n;

    if (!f)
        return err_set(err, ERR_CONFIG, "tls file '%s': %s", path, strerror(errno));
    out->max = 1 << 20;
    while ((n = fread(block, 1, sizeof(block), f)) > 0)
        buf_add(out, span_make(block, n));
    (void)fclose(f);
    return out->len ? ERR_OK : err_set(err, ERR_CONFIG, "tls file '%s' is empty", path);
}

static struct MHD_Daemon *start_daemon(struct server *s, struct err *err)
{
    struct buf cert AUTO(buf_release) = {0}, key AUTO(buf_release) = {0};
    unsigned flags = MHD_USE_EPOLL | SUSPEND_WITHOUT_ITC | MHD_USE_TURBO | MHD_USE_SUPPRESS_DATE_NO_CLOCK;
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_END, 0, NULL}, {MHD_OPTION_END, 0, NULL}, {MHD_OPTION_END, 0, NULL}};
    struct MHD_Daemon *d;

    if (s->o.tls_cert) {
        if (read_pem(s->o.tls_cert, &cert, err) != ERR_OK || read_pem(s->o.tls_key, &key, err) != ERR_OK)
            return NULL;
        flags |= MHD_USE_TLS;
        tls[0] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, cert.p};
        tls[1] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, key.p};
    }
    MHD_set_panic_func(on_panic, NULL);
    d = MHD_start_daemon(flags, 0, NULL, NULL, on_access, s, MHD_OPTION_LISTEN_SOCKET, s->o.listen_fd,
                         MHD_OPTION_CONNECTION_MEMORY_LIMIT, LIMIT_HEADER_POOL_BYTES,
                         MHD_OPTION_CONNECTION_LIMIT, s->o.max_connections + 64,
                         MHD_OPTION_PER_IP_CONNECTION_LIMIT, s->o.max_connections_per_ip,
                         MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
                         MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_URI_LOG_CALLBACK, on_uri,
                         s, MHD_OPTION_UNESCAPE_CALLBACK, keep_escaped, s, MHD_OPTION_STRICT_FOR_CLIENT, 1,
                         MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    if (!d)
        (void)err_set(err, ERR_IO,
                      s->o.tls_cert ? "http server: could not start; are 'tls.cert' and 'tls.key' a pair?"
                                    : "http server: could not start");
    return d;
}

struct server *server_new(struct loop *l, const struct server_options *o, struct err *err)
{
    struct server *s = calloc(1, sizeof(*s));

    if (!s) {
        (void)err_set(err, ERR_NO_MEMORY, "http server: out of memory");
        (void)close(o->listen_fd);
        return NULL;
    }
    s->loop = l;
    s->o = *o;
    s->daemon = start_daemon(s, err);
    if (!s->daemon) {
        (void)close(o->listen_fd);
        free(s);
        return NULL;
    }
    if (server_turns_begin(s) != ERR_OK) {
        (void)err_set(err, ERR_IO, "http server: cannot watch the daemon");
        MHD_stop_daemon(s->daemon);
        free(s);
        return NULL;
    }
    return s;
}

void server_quiesce(struct server *s)
{
    if (s->is_quiesced)
        return;
    s->is_quiesced = true;
    (void)close(MHD_quiesce_daemon(s->daemon)); /* left open it would let clients connect and hang */
    for (struct conn *c = s->conns; c; c = c->next)
        if (c->phase == PHASE_IDLE)
            (void)shutdown(c->fin.fd, SHUT_RDWR);
}

size_t server_exchanges(const struct server *s)
{
    return s->n_exchanges;
}

void server_free(struct server *s)
{
    if (!s)
        return;
    server_quiesce(s);
    for (struct conn *c = s->conns; c; c = c->next) {
        (void)shutdown(c->fin.fd, SHUT_RDWR);
        if (c->ex.has_begun && !c->ex.is_ended)
            tell_gone(c);
        c->ex.is_cut = true;
        conn_want_resume(c); /* stopping with a suspended connection would abort the process */
    }
    for (int i = 0; i < 3; i++) {
        (void)server_resume_all(s);
        (void)MHD_run(s->daemon);
    }
    server_turns_end(s);
    MHD_stop_daemon(s->daemon);
    free(s);
}

struct server_stats server_stats_mt(const struct server *s)
{
    return (struct server_stats){
        .open = atomic_load_explicit(&s->stats.open, memory_order_relaxed),
        .refused_connections = atomic_load_explicit(&s->stats.refused_connections, memory_order_relaxed),
        .guard_refusals = atomic_load_explicit(&s->stats.guard_refusals, memory_order_relaxed),
        .pauses = atomic_load_explicit(&s->stats.pauses, memory_order_relaxed),
    };
}
