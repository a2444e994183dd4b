/* SPDX-License-Identifier: Apache-2.0 */
/* Runs on its loop's thread. All transfers read into one buffer: what is taken at once is handed on from there, only half a
 * line and what a pause refuses is copied.
 *
 *   READ_HEAD ──► READ_LENGTH ───────────────────────────────┐
 *       │  └────► READ_TO_END ── the other side closes ──────┤
 *       └───────► READ_SIZE ⇄ READ_CHUNK, READ_CHUNK_END     ├──► READ_OVER
 *                     └─────► READ_TRAILER ──────────────────┘
 *
 * A link goes back to the pool only after a request that was taken whole and an answer whose end was said by its framing, with
 * nothing behind it; everything else closes it. So no answer is ever given to another request.
 *
 * While a callback runs (`is_inside`), a stop of this very transfer is noted and done when the callback is back. */
#include "gatewayd/http/transfer.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "gatewayd/config/limits.h"
#include "gatewayd/http/header_lines.h"
#include "gatewayd/http/surroundings.h"
#include "libshared/base/buf.h"

#define READS_AT_ONCE  4u                 /* of one link, before others have their turn */
#define WRITES_AT_ONCE 16u                /* the same for records of a long request */
#define SMALL          ((size_t)4 << 10)  /* buffers up to this stay with the transfer */
#define ONE_RECORD     ((size_t)16 << 10) /* a request up to this goes out as one piece of TLS */
#define CHUNK_DIGITS   15u

enum reading {
    READ_HEAD,
    READ_LENGTH,
    READ_SIZE,
    READ_CHUNK,
    READ_CHUNK_END,
    READ_TRAILER,
    READ_TO_END,
    READ_OVER
};

struct transfer {
    struct transfers *all;
    void *user;
    struct origin *to;
    struct link *link; /* NULL while not running */
    struct transfer *next_resumed;
    bool is_inside, is_stopped, is_paused, is_resuming;
    bool is_new;         /* the link was opened for this transfer */
    bool is_upload_over; /* all was sent, or no more will be */
    bool wants_out;      /* the link did not take more */
    bool may_pool;
    struct buf out; /* the request: its head, and a small body where that is one record of TLS */
    struct span body;
    size_t sent; /* of both */
    enum reading reading;
    uint64_t left; /* of the body or the chunk */
    struct buf line, kept;
    struct answer_head answer;
};

struct transfers {
    struct loop *loop;
    const struct transfer_ops *ops;
    struct links *links;
    struct transfer *resumed, **resumed_end;
    struct loop_task task;
    char buffer[LIMIT_UPSTREAM_READ];
};

/* ---- the end ---- */

static void forget_resume(struct transfer *t)
{
    struct transfer **at = &t->all->resumed;

    if (!t->is_resuming)
        return;
    while (*at != t)
        at = &(*at)->next_resumed;
    *at = t->next_resumed;
    if (!*at)
        t->all->resumed_end = at;
    t->is_resuming = false;
}

static void rewatch(struct transfer *t)
{
    link_want(t->link, (t->is_paused ? 0u : (unsigned)EPOLLIN) | (t->wants_out ? (unsigned)EPOLLOUT : 0u));
}

static void let_go(struct buf *b)
{
    if (b->cap > SMALL)
        buf_release(b);
    else
        buf_clear(b);
}

static void release(struct transfer *t, bool is_reusable)
{
    forget_resume(t);
    if (t->link && is_reusable)
        link_pool(t->link);
    else if (t->link)
        link_close(t->link);
    t->link = NULL;
    t->reading = READ_OVER;
    t->is_paused = false;
    t->body = (struct span){0};
    let_go(&t->out);
    buf_release(&t->line);
    buf_release(&t->kept);
}

static bool is_sent_whole(const struct transfer *t)
{
    return t->sent == t->out.len + t->body.len;
}

static void end(struct transfer *t, enum err_code code, const char *detail)
{
    char text[200]; /* the detail may be the link's */

    (void)snprintf(text, sizeof(text), "%s", detail);
    release(t, code == ERR_OK && t->may_pool && is_sent_whole(t));
    t->all->ops->on_end(t->user, code, text);
}

bool transfer_stop(struct transfer *t)
{
    if (t->is_inside) {
        t->is_stopped = true;
        return false;
    }
    release(t, false);
    return true;
}

/* The other side closed, or the connection broke. */
static void on_closed(struct transfer *t, enum io io)
{
    const char *how = io == IO_ERROR ? link_error(t->link) : "";

    if (t->reading == READ_TO_END && io == IO_END)
        end(t, ERR_OK, "");
    else if (t->reading != READ_HEAD)
        end(t, ERR_UP_CUT, *how ? how : "the answer ends before it is complete");
    else if (t->answer.lines)
        end(t, ERR_UP_CUT, *how ? how : "the answer ends inside its head");
    else if (!t->is_new)
        end(t, ERR_UP_RESET, "the pooled connection died before an answer");
    else
        end(t, ERR_UP_RESET, *how ? how : "the connection was closed before an answer");
}

/* ---- reading: `feed` takes from `raw` what it understands ---- */

enum fed { FED_ALL, FED_PAUSED, FED_STOPPED, FED_OVER, FED_WRONG };

struct fault {
    enum err_code code;
    const char *why;
};

/* The next whole line; half a one is kept. False: not yet, or (f->code) too long. */
static bool take_line(struct transfer *t, struct span *raw, struct span *line, struct fault *f)
{
    const char *lf = memchr(raw->p, '\n', raw->len);
    struct span piece = span_make(raw->p, lf ? (size_t)(lf + 1 - raw->p) : raw->len);

    *raw = span_make(raw->p + piece.len, raw->len - piece.len);
    if (lf && !t->line.len) {
        *line = piece;
        return true;
    }
    if (t->line.len + piece.len > LIMIT_UPSTREAM_HEAD) {
        *f = (struct fault){ERR_UP_TOO_LARGE, "a line of the answer is too long"};
        return false;
    }
    if (buf_append(&t->line, piece.p, piece.len) != ERR_OK) {
        *f = (struct fault){ERR_NO_MEMORY, "out of memory"};
        return false;
    }
    *line = buf_span(&t->line);
    return lf != NULL;
}

static struct span without_end(struct span line)
{
    line.len--;
    if (line.len && line.p[line.len - 1] == '\r')
        line.len--;
    return line;
}

static enum reading body_of(struct transfer *t)
{
    const struct client_headers *h = &t->answer.found;

    t->may_pool = !t->answer.is_last;
    if (h->status == 204 || h->status == 304) {
        t->may_pool &= !t->answer.is_chunked && h->content_length <= 0; /* it may send what is said there */
        return READ_OVER;
    }
    if (t->answer.is_chunked) {
        t->may_pool &= h->content_length < 0; /* two lengths are one too many to trust what follows */
        return READ_SIZE;
    }
    if (h->content_length >= 0) {
        t->left = (uint64_t)h->content_length;
        return t->left ? READ_LENGTH : READ_OVER;
    }
    t->may_pool = false;
    return READ_TO_END;
}

static enum fed on_head_line(struct transfer *t, struct span line, struct fault *f)
{
    f->code = answer_head_line(&t->answer, line, &f->why);
    if (f->code)
        return FED_WRONG;
    if (!t->answer.is_complete)
        return FED_ALL;
    t->reading = body_of(t);
    if (t->answer.found.status >= 400)
        t->is_upload_over = true; /* it has read enough */
    t->all->ops->on_head(t->user, &t->answer.found);
    return t->is_stopped ? FED_STOPPED : FED_ALL;
}

/* "1a", "1a;name=value": a length in hex. */
static enum fed on_size_line(struct transfer *t, struct span line, struct fault *f)
{
    uint64_t n = 0;
    size_t i = 0;

    line = without_end(line);
    for (; i < line.len && i <= CHUNK_DIGITS; i++) {
        char c = line.p[i], low = (char)(c | 0x20);

        if (c >= '0' && c <= '9')
            n = n * 16 + (uint64_t)(c - '0');
        else if (low >= 'a' && low <= 'f')
            n = n * 16 + (uint64_t)(low - 'a' + 10);
        else
            break;
    }
    if (i == 0 || i > CHUNK_DIGITS || (i < line.len && !memchr("; \t", line.p[i], 3))) {
        *f = (struct fault){ERR_UP_GARBAGE, "the length of a chunk is not acceptable"};
        return FED_WRONG;
    }
    t->left = n;
    t->reading = n ? READ_CHUNK : READ_TRAILER;
    return FED_ALL;
}

static enum fed on_line(struct transfer *t, struct span line, struct fault *f)
{
    switch (t->reading) {
    case READ_HEAD:
        return on_head_line(t, line, f);
    case READ_SIZE:
        return on_size_line(t, line, f);
    case READ_CHUNK_END:
        if (without_end(line).len) {
            *f = (struct fault){ERR_UP_GARBAGE, "a chunk is longer than it says"};
            return FED_WRONG;
        }
        t->reading = READ_SIZE;
        return FED_ALL;
    default: /* trailers only count */
        if (!without_end(line).len)
            t->reading = READ_OVER;
        f->code = answer_head_line(&t->answer, line, &f->why);
        return f->code ? FED_WRONG : FED_ALL;
    }
}

static enum fed on_bytes(struct transfer *t, struct span *raw)
{
    bool is_counted = t->reading != READ_TO_END;
    struct span piece = *raw;

    if (is_counted && t->left < piece.len)
        piece.len = (size_t)t->left;
    if (t->all->ops->on_bytes(t->user, piece) == TRANSFER_PAUSE)
        return t->is_stopped ? FED_STOPPED : FED_PAUSED;
    if (t->is_stopped)
        return FED_STOPPED;
    *raw = span_make(raw->p + piece.len, raw->len - piece.len);
    if (is_counted && !(t->left -= piece.len))
        t->reading = t->reading == READ_CHUNK ? READ_CHUNK_END : READ_OVER;
    return FED_ALL;
}

static enum fed feed(struct transfer *t, struct span *raw, struct fault *f)
{
    enum fed fed = FED_ALL;
    struct span line;

    while (fed == FED_ALL && t->reading != READ_OVER && raw->len) {
        if (t->reading == READ_LENGTH || t->reading == READ_CHUNK || t->reading == READ_TO_END) {
            fed = on_bytes(t, raw);
        } else if (take_line(t, raw, &line, f)) {
            fed = on_line(t, line, f);
            buf_clear(&t->line);
        } else if (f->code) {
            fed = FED_WRONG;
        }
    }
    return fed == FED_ALL && t->reading == READ_OVER ? FED_OVER : fed;
}

static void keep(struct transfer *t, struct span raw)
{
    t->is_paused = true;
    rewatch(t);
    if (buf_append(&t->kept, raw.p, raw.len) != ERR_OK)
        end(t, ERR_NO_MEMORY, "out of memory");
}

/* True: more may be read. */
static bool take(struct transfer *t, struct span raw)
{
    struct fault f = {0};
    enum fed fed;

    t->is_inside = true;
    fed = feed(t, &raw, &f);
    t->is_inside = false;
    switch (fed) {
    case FED_ALL:
        return true;
    case FED_PAUSED:
        keep(t, raw);
        break;
    case FED_STOPPED:
        t->is_stopped = false;
        release(t, false);
        t->all->ops->on_stopped(t->user);
        break;
    case FED_OVER:
        t->may_pool &= raw.len == 0;
        end(t, ERR_OK, "");
        break;
    case FED_WRONG:
        end(t, f.code, f.why);
        break;
    }
    return false;
}

static void read_on(struct transfer *t)
{
    struct transfers *ts = t->all;

    for (unsigned i = 0; i < READS_AT_ONCE; i++) {
        size_t n;
        enum io io = link_read(t->link, ts->buffer, sizeof(ts->buffer), &n);

        if (io == IO_WANT_READ)
            return;
        if (io == IO_WANT_WRITE) {
            t->wants_out = true;
            rewatch(t);
            return;
        }
        if (io != IO_OK) {
            on_closed(t, io);
            return;
        }
        if (!take(t, span_make(ts->buffer, n)))
            return;
        if (n < sizeof(ts->buffer) && !link_has_pending(t->link))
            return;
    }
    if (link_has_pending(t->link))
        transfer_resume(t); /* no event will tell of it */
}

/* ---- writing ---- */

static size_t left_to_send(const struct transfer *t)
{
    return t->is_upload_over ? 0 : t->out.len + t->body.len - t->sent;
}

static int pieces_of(const struct transfer *t, struct iovec v[2])
{
    size_t of_body = t->sent > t->out.len ? t->sent - t->out.len : 0;
    int n = 0;

    if (t->sent < t->out.len)
        v[n++] = (struct iovec){t->out.p + t->sent, t->out.len - t->sent};
    if (of_body < t->body.len)
        v[n++] = (struct iovec){(char *)(uintptr_t)t->body.p + of_body, t->body.len - of_body};
    return n;
}

static void send_on(struct transfer *t)
{
    struct iovec v[2];
    enum io io = IO_OK;
    size_t n;

    for (unsigned i = 0; left_to_send(t) && io == IO_OK && i < WRITES_AT_ONCE; i++) {
        io = link_write(t->link, v, pieces_of(t, v), &n);
        t->sent += n;
    }
    t->wants_out = io == IO_WANT_WRITE || (io == IO_OK && left_to_send(t));
    if (t->wants_out) {
        rewatch(t);
        return;
    }
    if (io == IO_OK) {
        t->is_upload_over = true;
        t->all->ops->on_sent(t->user);
    } else if (io != IO_WANT_READ) {
        t->is_upload_over = true; /* it may have answered before it stopped to listen: reading tells */
    }
    rewatch(t);
}

/* ---- what links tell ---- */

static bool may_connect(void *user, const struct address *to)
{
    struct transfer *t = user;

    return t->all->ops->may_connect(t->user, to);
}

static void begin(struct transfer *t)
{
    if (t->all->ops->may_send(t->user, link_address(t->link), t->is_new)) {
        send_on(t);
        return;
    }
    link_pool(t->link); /* nothing was said on it */
    t->link = NULL;
    end(t, ERR_UP_BLOCKED, "the address is not allowed");
}

static void on_ready(void *user)
{
    begin(user);
}

static void on_failed(void *user, enum err_code code, const char *detail)
{
    struct transfer *t = user;

    t->link = NULL;
    end(t, code, detail);
}

static void on_event(void *user, uint32_t events)
{
    struct transfer *t = user;

    (void)events;
    t->wants_out = false;
    if (left_to_send(t))
        send_on(t);
    else /* an early answer ended the sending: that the socket is writable must not wake us for ever */
        rewatch(t);
    if (!t->is_paused)
        read_on(t);
}

/* ---- a transfer ---- */

struct transfer *transfer_new(struct transfers *ts, void *user)
{
    struct transfer *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->all = ts;
    t->user = user;
    t->reading = READ_OVER;
    buf_init(&t->out, 0);
    return t;
}

void transfer_free(struct transfer *t)
{
    if (!t)
        return;
    assert(!t->link);
    buf_release(&t->out);
    buf_release(&t->line);
    buf_release(&t->kept);
    free(t);
}

static bool is_target(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.p[i] <= 0x20 || (unsigned char)s.p[i] >= 0x7f)
            return false;
    return s.len && s.p[0] == '/';
}

static bool is_accept(struct span line)
{
    return line.len > 7 && line.p[6] == ':' && span_eq_nocase(span_make(line.p, 7), SPAN_LIT("accept:"));
}

static bool has_accept(struct span lines)
{
    struct span line;

    while (header_lines_next(&lines, &line))
        if (is_accept(line))
            return true;
    return false;
}

static enum err_code add_lines(struct transfer *t, struct span lines, struct err *err)
{
    struct span line;
    unsigned n = 0;

    if (lines.len > LIMIT_UPSTREAM_HEADER)
        return err_set(err, ERR_INTERNAL, "request headers exceed %zu bytes", LIMIT_UPSTREAM_HEADER);
    while (header_lines_next(&lines, &line)) {
        enum header_verdict v = header_line_check(line);

        if (v == HEADER_MALFORMED || v == HEADER_NOT_YOURS || n++ == LIMIT_UPSTREAM_LINES)
            return err_set(err, ERR_INTERNAL, "request header %u of its list is not acceptable", n);
        buf_add(&t->out, line);
        buf_add(&t->out, SPAN_LIT("\r\n"));
    }
    return ERR_OK;
}

static enum err_code write_head(struct transfer *t, const struct transfer_request *rq, struct err *err)
{
    struct buf *b = &t->out;
    enum err_code e;

    buf_clear(b);
    e = buf_reserve(b, rq->target.len + rq->authority.len + rq->header_lines.len + 256);
    if (e)
        return err_set(err, e, "out of memory");
    buf_addz(b, rq->method);
    buf_addc(b, ' ');
    buf_add(b, rq->target);
    buf_add(b, SPAN_LIT(" HTTP/1.1\r\nHost: "));
    buf_add(b, rq->authority);
    buf_add(b, has_accept(rq->header_lines) ? SPAN_LIT("\r\n") : SPAN_LIT("\r\nAccept: */*\r\n"));
    buf_add(b, SPAN_LIT("Accept-Encoding: identity\r\n"));
    e = add_lines(t, rq->header_lines, err);
    if (e)
        return e;
    if (rq->method[0] == 'P') {
        buf_add(b, SPAN_LIT("Content-Length: "));
        buf_addu(b, rq->body.len);
        buf_add(b, SPAN_LIT("\r\n"));
    }
    buf_add(b, SPAN_LIT("\r\n"));
    return ERR_OK;
}

enum err_code transfer_set(struct transfer *t, const struct transfer_request *rq, struct err *err)
{
    bool is_post = strcmp(rq->method, "POST") == 0;
    enum err_code e;

    assert(!t->link);
    if (!is_post && strcmp(rq->method, "GET") != 0)
        return err_set(err, ERR_INTERNAL, "method '%s' is not supported", rq->method);
    if (!is_target(rq->target) || !rq->authority.len)
        return err_set(err, ERR_CONFIG, "the URL is not acceptable");
    e = write_head(t, rq, err);
    if (e)
        return e;
    t->to = rq->to;
    t->body = is_post ? rq->body : (struct span){0};
    if (t->body.len && t->body.len <= ONE_RECORD && origin_is_tls(t->to) &&
        buf_reserve(&t->out, t->body.len) == ERR_OK) {
        buf_add(&t->out, t->body);
        t->body = (struct span){0};
    }
    return ERR_OK;
}

enum err_code transfer_start(struct transfer *t)
{
    assert(!t->link && !t->is_inside);
    t->is_paused = t->is_upload_over = t->may_pool = t->wants_out = false;
    t->sent = 0;
    t->reading = READ_HEAD;
    answer_head_init(&t->answer);
    t->link = link_take(t->to, t);
    t->is_new = !t->link;
    if (t->link) {
        begin(t);
        return ERR_OK;
    }
    t->link = link_open(t->to, t);
    return t->link ? ERR_OK : ERR_NO_MEMORY;
}

void transfer_resume(struct transfer *t)
{
    if (t->is_resuming || t->is_stopped || !t->link)
        return;
    t->is_resuming = true;
    t->next_resumed = NULL;
    *t->all->resumed_end = t;
    t->all->resumed_end = &t->next_resumed;
    loop_defer(t->all->loop, &t->all->task);
}

static void go_on(struct transfer *t)
{
    struct buf kept = t->kept;
    bool has_room = true;

    buf_init(&t->kept, 0);
    t->is_paused = false;
    if (kept.len)
        has_room = take(t, buf_span(&kept));
    buf_release(&kept);
    if (!has_room)
        return;
    rewatch(t);
    if (link_has_pending(t->link))
        read_on(t);
}

static void run_task(struct loop_task *task)
{
    struct transfers *ts = CONTAINER_OF(task, struct transfers, task);
    size_t n = 0;

    for (struct transfer *t = ts->resumed; t; t = t->next_resumed)
        n++;
    while (n-- && ts->resumed) { /* what comes meanwhile is for the next turn */
        struct transfer *t = ts->resumed;

        forget_resume(t);
        go_on(t);
    }
    if (ts->resumed)
        loop_defer(ts->loop, &ts->task);
}

int64_t transfer_uploaded(const struct transfer *t)
{
    return (int64_t)t->sent;
}

bool transfer_is_body_out(const struct transfer *t)
{
    return left_to_send(t) == 0;
}

/* ---- all of them ---- */

static const struct link_ops LINK_OPS = {
    .may_connect = may_connect,
    .on_ready = on_ready,
    .on_failed = on_failed,
    .on_event = on_event,
};

struct transfers *transfers_new(struct loop *l, const struct transfer_ops *ops, const char *ca_file,
                                struct err *err)
{
    struct transfers *ts = calloc(1, sizeof(*ts));

    if (!ca_file || !ca_file[0])
        ca_file = surroundings_ca_file();
    if (ts)
        ts->links = links_new(l, &LINK_OPS, ca_file);
    if (!ts || !ts->links) {
        (void)err_set(err, ERR_NO_MEMORY, "http client: out of memory");
        free(ts);
        return NULL;
    }
    ts->loop = l;
    ts->ops = ops;
    ts->resumed_end = &ts->resumed;
    ts->task.fn = run_task;
    return ts;
}

void transfers_free(struct transfers *ts)
{
    if (!ts)
        return;
    loop_defer_cancel(ts->loop, &ts->task);
    links_free(ts->links);
    free(ts);
}

struct links *transfers_links(struct transfers *ts)
{
    return ts->links;
}
