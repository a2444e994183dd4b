/* SPDX-License-Identifier: Apache-2.0 */
/* Runs on its loop's thread. A transfer and its easy handle are one object for life, so that a warm one needs
 * three options and no memory of ours per request.
 *
 * Handles are put into and taken out of a multi outside of libcurl only: `depth` says whether we are inside,
 * and what must wait is done by leave(), when the outermost call returns.
 *
 * libcurl walks all connections of a multi for each transfer that ends, so transfers are spread over shards
 * (multis) of at most LIMIT_UPSTREAM_SHARD, lowest first: long streams fill shards and stay there, short ones
 * churn in the first with room. */
#include "gatewayd/http/transfer.h"

#include <assert.h>
#include <curl/curl.h>
#include <stdlib.h>
#include <unistd.h>

#include "gatewayd/config/limits.h"
#include "gatewayd/http/header_lines.h"
#include "gatewayd/http/sockets.h"
#include "gatewayd/http/surroundings.h"
#include "libshared/base/buf.h"

#define SMALL_BODY ((size_t)16 << 10) /* goes out with the header in one send */

struct shard {
    struct transfers *all;
    struct shard *next;
    CURLM *multi;
    struct timer timer;
    unsigned running;
    bool wants_kick; /* libcurl asked for a zero timeout */
    struct mono used;
};

struct transfer {
    struct transfers *all;
    struct shard *shard; /* NULL while not in a multi */
    void *user;
    CURL *easy;
    struct transfer *next_stopped, *next_resumed, *next_upload;
    struct transfer *next_connecting, **connecting_link; /* the link is NULL while not connecting */
    bool is_stopped, is_paused, is_resuming, is_uploading, has_new_connection, was_sent;
    size_t head_bytes, body_len;
    long connect_ms, read_bytes;
    char method; /* 'P', 'G', 0: as set on the handle */
    struct buf url;
    struct buf lines;
    struct curl_slist nodes[LIMIT_UPSTREAM_LINES];
    struct curl_slist addresses;
    char *addresses_text;
    char errbuf[CURL_ERROR_SIZE];
};

struct transfers {
    struct loop *loop;
    const struct transfer_ops *ops;
    CURLSH *share;
    CURL *janitor;
    struct shard *shards;
    struct sockets sockets;
    struct transfer *stopped, *resumed;
    struct transfer *uploads; /* began to send a large body in this call of libcurl */
    struct loop_task task;
    struct transfer *connecting;
    struct timer sweep, poke;
    unsigned depth;
    bool is_kicking;
    char *ca_file; /* NULL: libcurl's own idea */
};

static void begin_connecting(struct transfer *t)
{
    struct transfers *ts = t->all;

    if (t->connecting_link)
        return;
    t->next_connecting = ts->connecting;
    if (t->next_connecting)
        t->next_connecting->connecting_link = &t->next_connecting;
    ts->connecting = t;
    t->connecting_link = &ts->connecting;
    if (!timer_is_armed(&ts->poke))
        loop_timer(ts->loop, &ts->poke, LIMIT_UPSTREAM_POKE_US);
}

static void end_connecting(struct transfer *t)
{
    if (!t->connecting_link)
        return;
    *t->connecting_link = t->next_connecting;
    if (t->next_connecting)
        t->next_connecting->connecting_link = t->connecting_link;
    t->connecting_link = NULL;
}

static void take_out(struct transfer *t)
{
    struct shard *sh = t->shard;

    assert(!t->all->depth);
    end_connecting(t);
    t->is_uploading = false;
    if (!sh)
        return;
    t->all->depth++;
    (void)curl_multi_remove_handle(sh->multi, t->easy);
    t->all->depth--;
    sh->running--;
    sh->used = loop_now(t->all->loop);
    t->shard = NULL;
}

int64_t transfer_uploaded(const struct transfer *t)
{
    curl_off_t n = 0;

    (void)curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &n);
    return n;
}

/* It can only rewind a body for a connection that died without an answer, and may_send() forbids that. */
bool transfer_is_body_out(const struct transfer *t)
{
    return t->head_bytes && (size_t)transfer_uploaded(t) >= t->body_len;
}

static void note_sent(struct transfer *t)
{
    t->is_uploading = false;
    t->all->ops->on_sent(t->user);
}

static void leave(struct transfers *ts)
{
    assert(ts->depth > 0);
    if (--ts->depth > 0)
        return;
    while (ts->uploads) {
        struct transfer *t = ts->uploads;

        ts->uploads = t->next_upload;
        if (t->is_uploading && !t->is_stopped && (size_t)transfer_uploaded(t) >= t->body_len)
            note_sent(t);
    }
    while (ts->stopped) {
        struct transfer *t = ts->stopped;

        ts->stopped = t->next_stopped;
        take_out(t);
        t->is_stopped = false;
        ts->ops->on_stopped(t->user);
    }
}

/* ---- libcurl's verdict ---- */

static enum err_code code_of_broken(const struct transfer *t)
{
    if (strstr(t->errbuf, "chunk"))
        return ERR_UP_GARBAGE;
    if (strstr(t->errbuf, "Too large"))
        return ERR_UP_TOO_LARGE;
    return t->head_bytes ? ERR_UP_CUT : ERR_UP_RESET;
}

static enum err_code code_of(const struct transfer *t, CURLcode rc)
{
    switch (rc) {
    case CURLE_OK:
        return ERR_OK;
    case CURLE_COULDNT_RESOLVE_HOST:
        return ERR_UP_DNS;
    case CURLE_COULDNT_CONNECT:
        return ERR_UP_CONNECT;
    case CURLE_OPERATION_TIMEDOUT:
        return ERR_UP_TIMEOUT;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_INVALIDCERTSTATUS:
        return ERR_UP_TLS;
    case CURLE_PARTIAL_FILE:
        return ERR_UP_CUT;
    case CURLE_GOT_NOTHING:
        return ERR_UP_RESET;
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
        return code_of_broken(t);
    case CURLE_OUT_OF_MEMORY: /* also the answer to a header line over libcurl's limit */
        return t->was_sent ? ERR_UP_TOO_LARGE : ERR_NO_MEMORY;
    case CURLE_URL_MALFORMAT:
        return ERR_CONFIG;
    default:
        return t->was_sent ? ERR_UP_GARBAGE : ERR_UP_CONNECT;
    }
}

static void end(struct transfer *t, CURLcode rc)
{
    const char *text = rc == CURLE_OK ? "" : t->errbuf[0] ? t->errbuf : curl_easy_strerror(rc);

    take_out(t);
    t->all->ops->on_end(t->user, code_of(t, rc), text);
}

static void reap(struct shard *sh)
{
    CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(sh->multi, &left))) {
        struct transfer *t = NULL;
        CURLcode rc = msg->data.result;

        (void)curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &t);
        if (msg->msg == CURLMSG_DONE && t)
            end(t, rc);
    }
}

/* ---- the events that libcurl waits for ---- */

static void act(struct shard *sh, int fd, int flags)
{
    int running;

    sh->all->depth++;
    (void)curl_multi_socket_action(sh->multi, fd, flags, &running);
    leave(sh->all);
    reap(sh);
}

static void kick(struct shard *sh)
{
    struct transfers *ts = sh->all;

    ts->is_kicking = true;
    sh->wants_kick = false;
    act(sh, CURL_SOCKET_TIMEOUT, 0);
    ts->is_kicking = false;
    if (sh->wants_kick) /* a transfer that wants on at once waits for a tick, so that others come in between */
        loop_timer(ts->loop, &sh->timer, 0);
}

static void on_shard_timer(struct timer *t)
{
    kick(CONTAINER_OF(t, struct shard, timer));
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *user)
{
    struct shard *sh = user;
    struct transfers *ts = sh->all;

    (void)multi;
    sh->wants_kick = timeout_ms == 0;
    if (timeout_ms == 0 && !ts->is_kicking)
        loop_defer(ts->loop, &ts->task);
    else if (timeout_ms < 0)
        loop_timer_cancel(ts->loop, &sh->timer);
    else if (timeout_ms > 0)
        loop_timer(ts->loop, &sh->timer, (int64_t)timeout_ms * 1000);
    return 0;
}

/* When one address of a name fails, libcurl prepares the next and then waits for an event that nobody has asked for. Any
 * change of the pause state makes it look. */
static void on_poke(struct timer *timer)
{
    struct transfers *ts = CONTAINER_OF(timer, struct transfers, poke);

    ts->depth++;
    for (struct transfer *t = ts->connecting; t; t = t->next_connecting) {
        (void)curl_easy_pause(t->easy, CURLPAUSE_SEND);
        (void)curl_easy_pause(t->easy, CURLPAUSE_CONT);
    }
    leave(ts);
    if (ts->connecting)
        loop_timer(ts->loop, &ts->poke, LIMIT_UPSTREAM_POKE_US);
}

static void on_socket_event(void *user, int fd, uint32_t events)
{
    act(user, fd, (events & EPOLLIN ? CURL_CSELECT_IN : 0) | (events & EPOLLOUT ? CURL_CSELECT_OUT : 0));
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *unused)
{
    struct shard *sh = user;
    struct transfer *t = NULL;
    uint32_t events = 0;

    (void)unused;
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
        events |= EPOLLIN;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
        events |= EPOLLOUT;
    (void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &t);
    if (what == CURL_POLL_REMOVE && !(t && t->is_paused))
        sockets_pool(&sh->all->sockets, fd);
    else
        sockets_want(&sh->all->sockets, fd, events, sh);
    if (events == EPOLLIN && t && t->is_uploading && !t->is_stopped)
        note_sent(t);
    return 0;
}

static int on_close_socket(void *user, curl_socket_t fd)
{
    struct transfers *ts = user;

    sockets_forget(&ts->sockets, fd);
    return close(fd);
}

static curl_socket_t on_open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *to)
{
    struct transfer *t = user;
    struct transfers *ts = t->all;
    struct address a;
    int fd;

    (void)purpose;
    if (t->is_stopped || !address_from_sockaddr(&to->addr, &a) || !ts->ops->may_connect(t->user, &a))
        return CURL_SOCKET_BAD;
    t->has_new_connection = true;
    begin_connecting(t);
    fd = socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
    if (fd >= 0)
        sockets_forget(&ts->sockets, fd);
    return fd;
}

/* ---- shards ---- */

static CURLM *new_multi(struct shard *sh)
{
    CURLM *m = curl_multi_init();

    if (!m)
        return NULL;
    (void)curl_multi_setopt(m, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    (void)curl_multi_setopt(m, CURLMOPT_SOCKETDATA, sh);
    (void)curl_multi_setopt(m, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    (void)curl_multi_setopt(m, CURLMOPT_TIMERDATA, sh);
    (void)curl_multi_setopt(m, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    /* Counts busy connections too, so the limit leaves room for as many idle ones. */
    (void)curl_multi_setopt(m, CURLMOPT_MAXCONNECTS, (long)(2 * LIMIT_UPSTREAM_SHARD));
    return m;
}

static struct shard *shard_with_room(struct transfers *ts)
{
    struct shard **at = &ts->shards;
    struct shard *sh;

    for (; *at; at = &(*at)->next)
        if ((*at)->running < LIMIT_UPSTREAM_SHARD)
            return *at;
    sh = calloc(1, sizeof(*sh));
    if (!sh)
        return NULL;
    sh->all = ts;
    sh->timer.fn = on_shard_timer;
    sh->multi = new_multi(sh);
    if (!sh->multi) {
        free(sh);
        return NULL;
    }
    *at = sh;
    return sh;
}

static void shard_free(struct shard *sh)
{
    sh->all->depth++;
    (void)curl_multi_cleanup(sh->multi);
    leave(sh->all);
    loop_timer_cancel(sh->all->loop, &sh->timer);
    free(sh);
}

static curl_socket_t open_no_socket(void *user, curlsocktype purpose, struct curl_sockaddr *to)
{
    (void)user;
    (void)purpose;
    (void)to;
    return CURL_SOCKET_BAD;
}

static CURL *new_janitor(void)
{
    CURL *e = curl_easy_init();

    if (!e)
        return NULL;
    (void)curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(e, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(e, CURLOPT_URL, "http://127.0.0.1:9/");
    (void)curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, 1L);
    (void)curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, open_no_socket);
    (void)curl_easy_setopt(e, CURLOPT_MAXAGE_CONN, (long)LIMIT_UPSTREAM_IDLE_S);
    return e;
}

/* libcurl drops dead and aged connections only when a new transfer begins, so this one begins and goes nowhere. */
static void drop_aged_connections(struct shard *sh)
{
    CURL *janitor = sh->all->janitor;

    if (curl_multi_add_handle(sh->multi, janitor) != CURLM_OK)
        return;
    act(sh, CURL_SOCKET_TIMEOUT, 0);
    (void)curl_multi_remove_handle(sh->multi, janitor);
}

/* The first shard stays: it keeps the parsed CA file. */
static bool is_superfluous(const struct shard *sh, struct mono now)
{
    return sh != sh->all->shards && sh->running == 0 &&
           mono_diff_us(now, sh->used) > (int64_t)LIMIT_UPSTREAM_IDLE_S * 1000000;
}

static void on_sweep(struct timer *timer)
{
    struct transfers *ts = CONTAINER_OF(timer, struct transfers, sweep);
    struct mono now = loop_now(ts->loop);
    struct shard **at = &ts->shards;

    while (*at) {
        struct shard *sh = *at;

        if (is_superfluous(sh, now)) {
            *at = sh->next;
            shard_free(sh);
        } else {
            drop_aged_connections(sh);
            at = &sh->next;
        }
    }
    loop_timer(ts->loop, &ts->sweep, LIMIT_UPSTREAM_SWEEP_US);
}

/* ---- what libcurl tells about a transfer ---- */

/* Before each sending. The second time is libcurl's own resend on a fresh connection, after a pooled one
 * died: the first request may have been executed. */
static int on_prereq(void *user, char *ip, char *local_ip, int port, int local_port)
{
    struct transfer *t = user;
    struct address a;

    (void)local_ip;
    (void)port;
    (void)local_port;
    if (t->is_stopped || !address_parse(span_of(ip), &a) ||
        !t->all->ops->may_send(t->user, &a, t->has_new_connection))
        return CURL_PREREQFUNC_ABORT;
    end_connecting(t);
    t->was_sent = true;
    if (t->body_len <= SMALL_BODY) {
        note_sent(t);
    } else {
        t->is_uploading = true;
        t->next_upload = t->all->uploads;
        t->all->uploads = t;
    }
    return CURL_PREREQFUNC_OK;
}

static size_t on_head_line(char *p, size_t size, size_t n, void *user)
{
    struct transfer *t = user;

    (void)size;
    t->head_bytes += n;
    return !t->is_stopped && t->all->ops->on_line(t->user, span_make(p, n)) && !t->is_stopped ? n : 0;
}

static size_t on_body_bytes(char *p, size_t size, size_t n, void *user)
{
    struct transfer *t = user;
    enum transfer_verdict v;

    (void)size;
    if (t->is_stopped)
        return 0;
    v = t->all->ops->on_bytes(t->user, span_make(p, n));
    if (t->is_stopped || v == TRANSFER_ABORT)
        return 0;
    t->is_paused = v == TRANSFER_PAUSE;
    return t->is_paused ? CURL_WRITEFUNC_PAUSE : n;
}

/* ---- transfers ---- */

static void set_fixed_options(struct transfer *t)
{
    CURL *e = t->easy;

#define SET(option, value) (void)curl_easy_setopt(e, option, value)
    SET(CURLOPT_PRIVATE, t);
    SET(CURLOPT_SHARE, t->all->share);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_ERRORBUFFER, t->errbuf);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_REDIR_PROTOCOLS_STR, "");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NOPROXY, "*");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_HTTPHEADER, &t->nodes[0]);
    SET(CURLOPT_PREREQFUNCTION, on_prereq);
    SET(CURLOPT_PREREQDATA, t);
    SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    SET(CURLOPT_OPENSOCKETDATA, t);
    SET(CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
    SET(CURLOPT_CLOSESOCKETDATA, t->all);
    SET(CURLOPT_HEADERFUNCTION, on_head_line);
    SET(CURLOPT_HEADERDATA, t);
    SET(CURLOPT_WRITEFUNCTION, on_body_bytes);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_UPLOAD_BUFFERSIZE, (long)LIMIT_UPSTREAM_SEND);
    SET(CURLOPT_DNS_CACHE_TIMEOUT, -1L); /* its entries are ours: transfer_set_addresses() */
    SET(CURLOPT_MAXAGE_CONN, (long)LIMIT_UPSTREAM_IDLE_S);
    SET(CURLOPT_MAXLIFETIME_CONN, (long)LIMIT_UPSTREAM_LIFE_S);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (t->all->ca_file) {
        SET(CURLOPT_CAINFO, t->all->ca_file);
        SET(CURLOPT_CAPATH, NULL); /* the parsed file is kept only when there is no folder beside it */
    }
#undef SET
}

struct transfer *transfer_new(struct transfers *ts, void *user)
{
    struct transfer *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->all = ts;
    t->user = user;
    buf_init(&t->url, 0);
    buf_init(&t->lines, LIMIT_UPSTREAM_HEADER);
    t->easy = curl_easy_init();
    if (!t->easy) {
        free(t);
        return NULL;
    }
    set_fixed_options(t);
    return t;
}

void transfer_free(struct transfer *t)
{
    if (!t)
        return;
    assert(!t->shard);
    curl_easy_cleanup(t->easy);
    buf_release(&t->url);
    buf_release(&t->lines);
    free(t->addresses_text);
    free(t);
}

static struct curl_slist node(const char *z)
{
    return (struct curl_slist){.data = (char *)(uintptr_t)z};
}

static enum err_code set_lines(struct transfer *t, struct span lines, struct err *err)
{
    const char *all[LIMIT_UPSTREAM_LINES] = {"Expect:", "Accept-Encoding: identity"};
    bool has_type = false;
    size_t n = 2;
    enum err_code e;

    buf_clear(&t->lines);
    if (buf_append(&t->lines, lines.p, lines.len) != ERR_OK)
        return err_set(err, ERR_INTERNAL, "request headers exceed %zu bytes", LIMIT_UPSTREAM_HEADER);
    e = header_lines_collect(buf_span(&t->lines), all, ARRAY_LEN(all) - 1, &n, &has_type);
    if (e)
        return err_set(err, e, "request header %zu of its list is not acceptable", n - 1);
    if (!has_type)
        all[n++] = "Content-Type:"; /* libcurl would call it a form */
    for (size_t i = 0; i < n; i++) {
        t->nodes[i] = node(all[i]);
        t->nodes[i].next = i + 1 < n ? &t->nodes[i + 1] : NULL;
    }
    return ERR_OK;
}

static enum err_code set_url(struct transfer *t, const char *url)
{
    struct span u = span_of(url);

    if (span_eq(buf_span(&t->url), u))
        return ERR_OK;
    buf_clear(&t->url);
    if (curl_easy_setopt(t->easy, CURLOPT_URL, url) != CURLE_OK || buf_append(&t->url, u.p, u.len) != ERR_OK)
        return ERR_NO_MEMORY;
    return ERR_OK;
}

enum err_code transfer_set(struct transfer *t, const struct transfer_request *rq, struct err *err)
{
    bool is_post = strcmp(rq->method, "POST") == 0;
    enum err_code e = set_url(t, rq->url);

    if (e)
        return err_set(err, e, "URL: %s", err_row(e)->text);
    if (!is_post && strcmp(rq->method, "GET") != 0)
        return err_set(err, ERR_INTERNAL, "method '%s' is not supported", rq->method);
    if (t->method != rq->method[0])
        (void)curl_easy_setopt(t->easy, is_post ? CURLOPT_POST : CURLOPT_HTTPGET, 1L);
    t->method = rq->method[0];
    t->body_len = is_post ? rq->body.len : 0;
    if (is_post) {
        (void)curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->body.len);
        (void)curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, rq->body.len ? rq->body.p : "");
    }
    if (t->connect_ms != (long)(rq->connect_us / 1000)) {
        t->connect_ms = (long)(rq->connect_us / 1000);
        (void)curl_easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS, t->connect_ms);
    }
    if (t->read_bytes != (long)(rq->is_stream ? LIMIT_UPSTREAM_EVENT : LIMIT_UPSTREAM_READ)) {
        t->read_bytes = (long)(rq->is_stream ? LIMIT_UPSTREAM_EVENT : LIMIT_UPSTREAM_READ);
        (void)curl_easy_setopt(t->easy, CURLOPT_BUFFERSIZE, t->read_bytes);
    }
    return set_lines(t, rq->header_lines, err);
}

enum err_code transfer_set_addresses(struct transfer *t, struct span text)
{
    char *copy = malloc(text.len + 1);

    if (!copy)
        return ERR_NO_MEMORY;
    (void)span_copy(copy, text.len + 1, text);
    free(t->addresses_text);
    t->addresses_text = copy;
    t->addresses = node(copy);
    (void)curl_easy_setopt(t->easy, CURLOPT_RESOLVE, &t->addresses);
    return ERR_OK;
}

enum err_code transfer_start(struct transfer *t)
{
    struct shard *sh = shard_with_room(t->all);

    assert(!t->all->depth && !t->shard);
    if (!sh)
        return ERR_NO_MEMORY;
    t->is_stopped = t->is_paused = t->is_resuming = t->is_uploading = t->has_new_connection = t->was_sent =
        false;
    t->head_bytes = 0;
    t->errbuf[0] = '\0';
    t->all->depth++;
    if (curl_multi_add_handle(sh->multi, t->easy) == CURLM_OK) {
        t->shard = sh;
        sh->running++;
    }
    leave(t->all);
    return t->shard ? ERR_OK : ERR_INTERNAL;
}

void transfer_resume(struct transfer *t)
{
    if (t->is_resuming || t->is_stopped || !t->shard)
        return;
    t->is_resuming = true;
    t->next_resumed = t->all->resumed;
    t->all->resumed = t;
    loop_defer(t->all->loop, &t->all->task);
}

static void forget_resume(struct transfer *t)
{
    struct transfer **at = &t->all->resumed;

    if (!t->is_resuming)
        return;
    while (*at != t)
        at = &(*at)->next_resumed;
    *at = t->next_resumed;
    t->is_resuming = false;
}

bool transfer_stop(struct transfer *t)
{
    struct transfers *ts = t->all;

    forget_resume(t);
    if (!ts->depth) {
        take_out(t);
        return true;
    }
    assert(!t->is_stopped);
    t->is_stopped = true;
    t->next_stopped = ts->stopped;
    ts->stopped = t;
    return false;
}

static void unpause(struct transfer *t)
{
    struct transfers *ts = t->all;
    CURLcode rc;

    ts->depth++;
    rc = curl_easy_pause(t->easy, CURLPAUSE_CONT); /* calls on_body_bytes */
    if (rc != CURLE_OK && !t->is_stopped) {
        leave(ts);
        end(t, rc);
        return;
    }
    leave(ts);
}

static void run_task(struct loop_task *task)
{
    struct transfers *ts = CONTAINER_OF(task, struct transfers, task);

    while (ts->resumed) {
        struct transfer *t = ts->resumed;

        forget_resume(t);
        unpause(t);
    }
    for (struct shard *sh = ts->shards; sh; sh = sh->next)
        if (sh->wants_kick)
            kick(sh);
}

/* ---- all of them ---- */

void transfer_global_init(void)
{
    surroundings_clear();
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

struct transfers *transfers_new(struct loop *l, const struct transfer_ops *ops, const char *ca_file,
                                struct err *err)
{
    struct transfers *ts = calloc(1, sizeof(*ts));

    if (!ts) {
        (void)err_set(err, ERR_NO_MEMORY, "http client: out of memory");
        return NULL;
    }
    ts->loop = l;
    ts->ops = ops;
    ts->task.fn = run_task;
    ts->sweep.fn = on_sweep;
    ts->poke.fn = on_poke;
    ts->share = curl_share_init();
    ts->janitor = new_janitor();
    if (sockets_init(&ts->sockets, l, on_socket_event) != ERR_OK || !ts->share || !ts->janitor) {
        (void)err_set(err, ERR_IO, "http client: no memory or no descriptor");
        transfers_free(ts);
        return NULL;
    }
    (void)curl_share_setopt(ts->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    (void)curl_share_setopt(ts->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
    if (!ca_file || !ca_file[0])
        ca_file = surroundings_ca_file();
    ts->ca_file = ca_file ? strdup(ca_file) : NULL;
    loop_timer(l, &ts->sweep, LIMIT_UPSTREAM_SWEEP_US);
    return ts;
}

void transfers_free(struct transfers *ts)
{
    if (!ts)
        return;
    loop_timer_cancel(ts->loop, &ts->sweep);
    loop_timer_cancel(ts->loop, &ts->poke);
    while (ts->shards) {
        struct shard *sh = ts->shards;

        ts->shards = sh->next;
        shard_free(sh);
    }
    loop_defer_cancel(ts->loop, &ts->task);
    sockets_release(&ts->sockets);
    curl_easy_cleanup(ts->janitor);
    (void)curl_share_cleanup(ts->share);
    free(ts->ca_file);
    free(ts);
}
