/* SPDX-License-Identifier: Apache-2.0 */
/* The recorder thread formats lines into `filling`; a thread of its own takes the buffer whole and writes it.
 * So a stuck disk or pipe holds up nobody: `filling` has a maximum, and lines that do not fit are counted and
 * gone.
 *
 * sink_flush() waits a moment for the writer, so that in calm times what the journal forgets is in the file.
 * When the writer has not moved for STALL_US, it says "safe" all the same: the log is not a book that others
 * wait for. */
#include "gatewayd/telemetry/sink_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libshared/base/hash.h"
#include "libshared/base/log.h"

#define BUFFER_MAX ((size_t)4 << 20)   /* while the file is late */
#define HAND_OVER  ((size_t)256 << 10) /* from here the writer begins before the recorder's batch is over */
#define LINE_CAP   ((size_t)1 << 20)   /* above all attempts with every text at its longest */
#define TEXT_CAP   256u
#define CHUNK      ((size_t)64 << 10)
#define PIPE_CHUNK ((size_t)4096) /* what a pipe that polls writable takes without blocking */
#define FLUSH_US   50000
#define STALL_US   2000000

struct sink_log {
    char *path;
    int fd;
    bool is_stdout, can_block; /* anything but a regular file */
    struct buf line;           /* recorder thread */
    uint64_t dropped_told;     /* recorder thread */

    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    struct buf filling; /* under the lock */
    bool is_writing, is_stopping, wants_reopen, is_late;
    struct mono moved; /* when the writer last got something out */

    struct buf writing; /* writer thread */
    bool is_torn;       /* the last line that reached the file was cut */
    int told_errno;
    _Atomic uint64_t taken, written, dropped; /* lines taken are written, dropped or queued */
    _Atomic int64_t last_written_us;
};

/* ---- the line ---- */

static void put_name(struct buf *b, const char *name)
{
    const size_t n = strlen(name);
    char *p;

    if (buf_reserve(b, n + 4) != ERR_OK)
        return; /* the missing end of the line is seen */
    p = b->p + b->len;
    if (b->len && p[-1] != '{' && p[-1] != '[')
        *p++ = ',';
    *p++ = '"';
    memcpy(p, name, n);
    p += n;
    memcpy(p, "\":", 3);
    b->len = (size_t)(p + 2 - b->p);
}

static void put_text(struct buf *b, const char *name, const char *z)
{
    struct span s = span_of(z);

    put_name(b, name);
    if (s.len)
        buf_add_json(b, span_make(s.p, s.len < TEXT_CAP ? s.len : TEXT_CAP));
    else
        buf_addz(b, "null");
}

static void put_label(struct buf *b, const char *name, label l)
{
    put_text(b, name, l ? label_text(l) : NULL);
}

static void put_error(struct buf *b, const char *name, enum err_code e)
{
    put_text(b, name, e ? err_row(e)->code : NULL);
}

static void put_u(struct buf *b, const char *name, uint64_t v)
{
    put_name(b, name);
    buf_addu(b, v);
}

static void put_i(struct buf *b, const char *name, int64_t v)
{
    put_name(b, name);
    if (v < 0)
        buf_addc(b, '-');
    buf_addu(b, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

static void put_bool(struct buf *b, const char *name, bool v)
{
    put_name(b, name);
    buf_addz(b, v ? "true" : "false");
}

/* A point and `digits` digits, leading zeros included. */
static void put_fraction(struct buf *b, uint64_t v, unsigned digits)
{
    char text[10] = ".";

    for (unsigned i = digits; i > 0; i--, v /= 10)
        text[i] = (char)('0' + v % 10);
    buf_add(b, span_make(text, digits + 1));
}

/* Microseconds as milliseconds with their fraction; negative means unknown. */
static void put_ms(struct buf *b, const char *name, int64_t us)
{
    put_name(b, name);
    if (us < 0) {
        buf_addz(b, "null");
        return;
    }
    buf_addu(b, (uint64_t)us / 1000);
    put_fraction(b, (uint64_t)us % 1000, 3);
}

/* An HTTP status, 0 when none came. */
static void put_status(struct buf *b, const char *name, uint16_t status)
{
    if (status)
        put_u(b, name, status);
    else
        put_text(b, name, NULL);
}

static void put_usage(struct buf *b, const struct usage *u)
{
    static const char *const SOURCES[] = {"none", "reported", "estimated"};

    put_name(b, "usage");
    buf_addc(b, '{');
    put_u(b, "input", u->input);
    put_u(b, "cached", u->cached);
    put_u(b, "cache_write", u->cache_write);
    put_u(b, "output", u->output);
    put_u(b, "reasoning", u->reasoning);
    if (u->images)
        put_u(b, "images", u->images);
    if (u->searches)
        put_u(b, "searches", u->searches);
    put_text(b, "source", SOURCES[u->source]);
    buf_addc(b, '}');
}

/* Exact: nano-dollars as a decimal text without trailing zeros. */
static void put_usd(struct buf *b, const char *name, int64_t nanousd)
{
    uint64_t v = nanousd < 0 ? -(uint64_t)nanousd : (uint64_t)nanousd;
    uint64_t fraction = v % 1000000000;
    unsigned digits = 9;

    put_name(b, name);
    buf_addz(b, nanousd < 0 ? "\"-" : "\"");
    buf_addu(b, v / 1000000000);
    for (; fraction && fraction % 10 == 0; digits--)
        fraction /= 10;
    if (fraction)
        put_fraction(b, fraction, digits);
    buf_addc(b, '"');
}

static void put_attempt(struct buf *b, const struct fact_attempt *a)
{
    if (b->p[b->len - 1] != '[')
        buf_addc(b, ',');
    buf_addc(b, '{');
    put_u(b, "number", a->number);
    put_label(b, "provider", a->provider);
    put_label(b, "model", a->model);
    put_text(b, "status", fact_status_name(a->status));
    put_status(b, "http_status", a->http_status);
    put_error(b, "error", a->error);
    if (a->is_stream)
        put_text(b, "stream_end", stream_end_name(a->end));
    if (a->number > 1) {
        put_label(b, "from_provider", a->from_provider);
        put_error(b, "retry_reason", a->retry_reason);
    }
    put_ms(b, "started_ms", a->started_us);
    put_ms(b, "duration_ms", a->duration_us);
    put_ms(b, "ttft_ms", a->ttft_us);
    put_usage(b, &a->usage);
    put_i(b, "cost_nanousd", a->cost_nanousd);
    put_bool(b, "priced", a->is_priced);
    buf_addc(b, '}');
}

static void put_attempts(struct buf *b, const struct recorded *r)
{
    put_name(b, "attempts");
    buf_addc(b, '[');
    for (size_t i = 0; i < r->n; i++)
        put_attempt(b, &r->a[i]);
    buf_addc(b, ']');
}

static void put_who(struct buf *b, const struct fact_request *rq)
{
    char id[ID_TEXT_CAP];

    id_format(&rq->id, id);
    put_text(b, "id", id);
    put_label(b, "tenant", rq->tenant);
    put_label(b, "key", rq->key);
    if (rq->user[0])
        put_text(b, "user", rq->user);
}

static void put_answer(struct buf *b, const struct fact_request *rq)
{
    put_label(b, "provider", rq->provider);
    put_label(b, "upstream_model", rq->model);
    put_text(b, "status", fact_status_name(rq->status));
    put_status(b, "http_status", rq->http_status);
    put_error(b, "error", rq->error);
    put_text(b, "detail", rq->detail);
    put_bool(b, "stream", rq->is_stream);
    put_text(b, "stream_end", rq->is_stream ? stream_end_name(rq->end) : NULL);
}

static void put_request(struct buf *b, const struct fact_request *rq)
{
    char when[WALL_TEXT_CAP], trace[2 * sizeof(rq->trace.b) + 1];

    (void)wall_format(rq->arrived, when, sizeof(when));
    hex_encode(rq->trace.b, sizeof(rq->trace.b), trace);
    put_text(b, "at", when);
    put_who(b, rq);
    put_text(b, "trace_id", trace);
    put_label(b, "method", rq->method);
    put_label(b, "endpoint", rq->endpoint);
    put_text(b, "operation", rq->op < OP_COUNT ? operation_row(rq->op)->label : NULL);
    put_label(b, "model", rq->requested);
    put_answer(b, rq);
    put_ms(b, "duration_ms", rq->duration_us);
    put_ms(b, "ttft_ms", rq->ttft_us);
    put_ms(b, "queue_ms", rq->queue_us);
    put_i(b, "overhead_us", rq->overhead_us);
    put_u(b, "bytes_in", rq->bytes_in);
    put_u(b, "bytes_out", rq->bytes_out);
    put_usage(b, &rq->usage);
    put_usd(b, "cost_usd", rq->cost_nanousd);
    put_i(b, "cost_nanousd", rq->cost_nanousd);
    put_bool(b, "priced", rq->is_priced);
    put_i(b, "held_nanousd", rq->reservation.amount_nanousd);
}

void sink_log_format(struct buf *b, const struct recorded *r)
{
    buf_addc(b, '{');
    put_request(b, r->rq);
    if (r->rq->is_recovery)
        put_bool(b, "unsettled", true);
    if (r->is_recovered || r->rq->is_recovery)
        put_bool(b, "recovered", true);
    put_attempts(b, r);
    buf_addc(b, '}');
}

/* ---- the file (writer thread, and sink_log_new) ---- */

static int open_log(const char *path)
{
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
}

static bool may_block(int fd)
{
    struct stat st;

    return fstat(fd, &st) || !S_ISREG(st.st_mode);
}

/* A process that was killed while it wrote left half a line; the next one must not be glued to it. */
static bool ends_in_half_a_line(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    char last = '\n';

    if (fd < 0)
        return false;
    if (!may_block(fd) && lseek(fd, -1, SEEK_END) >= 0)
        (void)!read(fd, &last, 1);
    (void)close(fd);
    return last != '\n';
}

static void reopen(struct sink_log *s)
{
    int fd;

    if (s->is_stdout)
        return;
    fd = open_log(s->path);
    if (fd < 0) {
        log_error("access log: cannot reopen '%s': %s; going on with the old file", s->path, strerror(errno));
        return;
    }
    (void)close(s->fd);
    s->fd = fd;
    s->is_torn = ends_in_half_a_line(s->path);
    s->can_block = may_block(fd);
}

static bool should_give_up(struct sink_log *s)
{
    bool give_up;

    (void)pthread_mutex_lock(&s->lock);
    give_up = s->is_stopping && mono_diff_us(mono_now(), s->moved) > STALL_US;
    (void)pthread_mutex_unlock(&s->lock);
    return give_up;
}

/* Bytes written, 0 to try again, negative errno. */
static ssize_t write_some(struct sink_log *s, struct span left)
{
    size_t n = left.len < CHUNK ? left.len : CHUNK;
    ssize_t done;

    if (s->can_block) {
        struct pollfd p = {.fd = s->fd, .events = POLLOUT};

        if (poll(&p, 1, 100) <= 0)
            return should_give_up(s) ? -EAGAIN : 0;
        if (n > PIPE_CHUNK)
            n = PIPE_CHUNK;
    }
    done = write(s->fd, left.p, n);
    if (done < 0)
        return errno == EINTR || errno == EAGAIN ? 0 : -errno;
    (void)pthread_mutex_lock(&s->lock);
    s->moved = mono_now();
    (void)pthread_mutex_unlock(&s->lock);
    return done;
}

static uint64_t count_lines(struct span s)
{
    uint64_t n = 0;

    for (const char *p = s.p, *end = s.p + s.len; p < end && (p = memchr(p, '\n', (size_t)(end - p))); p++)
        n++;
    return n;
}

/* What is left of `text` when an error stopped it. */
static struct span write_span(struct sink_log *s, struct span text, int *out_errno)
{
    ssize_t n = 0;

    while (text.len && n >= 0) {
        n = write_some(s, text);
        if (n > 0)
            text = span_make(text.p + n, text.len - (size_t)n);
    }
    *out_errno = n < 0 ? (int)-n : 0;
    return text;
}

static void tell_trouble(struct sink_log *s, int e)
{
    if (e && e != s->told_errno)
        log_error("access log: cannot write '%s': %s; lines are dropped", s->path, strerror(e));
    if (!e && s->told_errno)
        log_info("access log: '%s' can be written again", s->path);
    s->told_errno = e;
}

static void write_all(struct sink_log *s)
{
    struct span left = buf_span(&s->writing);
    size_t whole;
    int e = 0;

    if (!left.len)
        return;
    if (s->is_torn) /* ends the cut line, which was counted as dropped */
        s->is_torn = write_span(s, SPAN_LIT("\n"), &e).len > 0;
    if (!s->is_torn) {
        left = write_span(s, left, &e);
        s->is_torn = left.len && left.p > s->writing.p && left.p[-1] != '\n';
    }
    tell_trouble(s, e);
    whole = count_lines(span_make(s->writing.p, (size_t)(left.p - s->writing.p)));
    atomic_fetch_add_explicit(&s->written, whole, memory_order_relaxed);
    if (whole)
        atomic_store_explicit(&s->last_written_us, wall_now().us, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->dropped, count_lines(left), memory_order_relaxed);
    if (s->writing.cap > 4 * HAND_OVER)
        buf_release(&s->writing); /* the file was late: most batches need less */
    buf_clear(&s->writing);
}

static void *writer_main(void *user)
{
    struct sink_log *s = user;
    bool stops = false;

    while (!stops) {
        bool wants_reopen;

        (void)pthread_mutex_lock(&s->lock);
        s->is_writing = false;
        (void)pthread_cond_broadcast(&s->done);
        while (!s->filling.len && !s->is_stopping && !s->wants_reopen)
            (void)pthread_cond_wait(&s->work, &s->lock);
        struct buf swap = s->writing;
        s->writing = s->filling;
        s->filling = swap;
        s->is_writing = true;
        s->moved = mono_now();
        wants_reopen = s->wants_reopen;
        s->wants_reopen = false;
        stops = s->is_stopping && !s->writing.len;
        (void)pthread_mutex_unlock(&s->lock);
        write_all(s);
        if (wants_reopen)
            reopen(s);
    }
    return NULL;
}

/* ---- the sink (recorder thread) ---- */

static void sink_request(void *self, const struct recorded *r)
{
    struct sink_log *s = self;
    bool fits;

    buf_clear(&s->line);
    sink_log_format(&s->line, r);
    buf_addc(&s->line, '\n');
    (void)pthread_mutex_lock(&s->lock);
    if (!s->filling.len && !s->is_writing)
        s->moved = mono_now(); /* there was nothing to move: it is not stuck since then */
    fits = s->line.p[s->line.len - 1] == '\n' && buf_append(&s->filling, s->line.p, s->line.len) == ERR_OK;
    if (s->filling.len >= HAND_OVER && !s->is_writing)
        (void)pthread_cond_signal(&s->work);
    (void)pthread_mutex_unlock(&s->lock);
    atomic_fetch_add_explicit(&s->taken, 1, memory_order_relaxed);
    if (!fits)
        atomic_fetch_add_explicit(&s->dropped, 1, memory_order_relaxed);
}

static void tell_drops(struct sink_log *s)
{
    uint64_t dropped = atomic_load_explicit(&s->dropped, memory_order_relaxed);

    if (dropped && !s->dropped_told)
        log_warn("access log: '%s' is too slow or full; %" PRIu64 " lines dropped so far", s->path, dropped);
    s->dropped_told = dropped;
}

static bool sink_flush(void *self)
{
    struct sink_log *s = self;
    struct mono until = mono_add_us(mono_now(), FLUSH_US);
    struct timespec ts = {.tv_sec = until.us / 1000000, .tv_nsec = until.us % 1000000 * 1000};
    int e = 0;
    bool is_safe;

    (void)pthread_mutex_lock(&s->lock);
    if (s->filling.len)
        (void)pthread_cond_signal(&s->work);
    while ((s->filling.len || s->is_writing) && !s->is_late && e != ETIMEDOUT)
        e = pthread_cond_timedwait(&s->done, &s->lock, &ts);
    is_safe = !s->filling.len && !s->is_writing;
    s->is_late = !is_safe && mono_diff_us(mono_now(), s->moved) > STALL_US;
    is_safe = is_safe || s->is_late;
    (void)pthread_mutex_unlock(&s->lock);
    tell_drops(s);
    return is_safe;
}

static void sink_reopen(void *self)
{
    struct sink_log *s = self;

    (void)pthread_mutex_lock(&s->lock);
    s->wants_reopen = true;
    (void)pthread_cond_signal(&s->work);
    (void)pthread_mutex_unlock(&s->lock);
}

static void sink_stats(void *self, struct sink_stats *out)
{
    struct sink_log *s = self;
    uint64_t taken = atomic_load_explicit(&s->taken, memory_order_relaxed);

    out->written = atomic_load_explicit(&s->written, memory_order_relaxed);
    out->dropped = atomic_load_explicit(&s->dropped, memory_order_relaxed);
    out->queued = taken > out->written + out->dropped ? taken - out->written - out->dropped : 0;
    out->last_written = (struct wall){atomic_load_explicit(&s->last_written_us, memory_order_relaxed)};
}

static void sink_free(void *self)
{
    struct sink_log *s = self;

    (void)pthread_mutex_lock(&s->lock);
    s->is_stopping = true;
    (void)pthread_cond_signal(&s->work);
    (void)pthread_mutex_unlock(&s->lock);
    (void)pthread_join(s->thread, NULL);
    if (!s->is_stdout)
        (void)close(s->fd);
    (void)pthread_mutex_destroy(&s->lock);
    (void)pthread_cond_destroy(&s->work);
    (void)pthread_cond_destroy(&s->done);
    buf_release(&s->filling);
    buf_release(&s->writing);
    buf_release(&s->line);
    free(s->path);
    free(s);
}

static void init_sync(struct sink_log *s)
{
    pthread_condattr_t mono;

    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_cond_init(&s->work, NULL);
    (void)pthread_condattr_init(&mono);
    (void)pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&s->done, &mono);
    (void)pthread_condattr_destroy(&mono);
}

void *sink_log_new(const char *path, struct err *err)
{
    struct sink_log *s = calloc(1, sizeof(*s));
    sigset_t all, old;

    if (!s)
        abort();
    s->is_stdout = strcmp(path, "-") == 0;
    s->path = strdup(s->is_stdout ? "stdout" : path);
    s->fd = s->is_stdout ? STDOUT_FILENO : open_log(path);
    if (!s->path || s->fd < 0) {
        (void)err_set(err, ERR_IO, "cannot open access log '%s': %s", path, strerror(errno));
        free(s->path);
        free(s);
        return NULL;
    }
    s->can_block = may_block(s->fd);
    s->is_torn = !s->is_stdout && !s->can_block && ends_in_half_a_line(path);
    buf_init(&s->filling, BUFFER_MAX);
    buf_init(&s->writing, BUFFER_MAX);
    buf_init(&s->line, LINE_CAP);
    init_sync(s);
    (void)sigfillset(&all); /* signals are main's; a pipe without a reader must not kill us either */
    (void)pthread_sigmask(SIG_BLOCK, &all, &old);
    if (pthread_create(&s->thread, NULL, writer_main, s))
        abort();
    (void)pthread_setname_np(s->thread, "access-log");
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return s;
}

const struct sink_ops SINK_LOG = {
    .name = "log",
    .request = sink_request,
    .flush = sink_flush,
    .reopen = sink_reopen,
    .stats = sink_stats,
    .free = sink_free,
};
