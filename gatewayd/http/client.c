/* SPDX-License-Identifier: Apache-2.0 */
/* Runs on its loop's thread. A call and its easy handle are one object, pooled per site (scheme, host and
 * port), so that a call on a warm handle sets two options and allocates nothing of ours.
 *
 *   IDLE ─client_start─► QUEUED ─begin─► RESOLVING ─on_resolved─► CONNECTING ─on_prereq─► SENDING ─is_sent─►
 * WAITING └────────────────launch──────────────────┘                                        │ on_bytes IDLE
 * ◄─recycle── ENDED ◄─finish (on_done) or client_cancel, from any state────────────────────────── STREAMING
 *
 * Nothing of the caller runs inside client_start/resume/cancel: they queue, and run_task() works the queues
 * off at the turn's end. Handles are removed outside curl's callbacks only: `in_curl` says whether we are
 * inside.
 *
 * curl walks all connections of a multi for each call that ends, so calls are spread over shards (multis) of
 * at most LIMIT_UPSTREAM_SHARD, lowest first: long streams fill shards and stay there, short calls churn in
 * the first with room.
 *
 * Epoll registrations outlive calls: IN stays registered while a connection idles in curl's pool, and is
 * dropped by the first event that nobody wants. */
#include "gatewayd/http/client.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gatewayd/config/limits.h"
#include "gatewayd/http/address.h"
#include "gatewayd/http/answer_head.h"
#include "gatewayd/http/header_lines.h"
#include "libshared/base/log.h"

enum phase {
    PHASE_IDLE,   /* in a pool */
    PHASE_QUEUED, /* client_start was called */
    PHASE_RESOLVING,
    PHASE_CONNECTING, /* in a multi: TCP and TLS, or taking a pooled connection */
    PHASE_SENDING,
    PHASE_WAITING, /* sent, no body byte yet */
    PHASE_STREAMING,
    PHASE_ENDED, /* no callback any more; the handle may still be in its multi */
};

/* Where a URL leads. Lives as long as the client. */
struct site {
    struct site *next;
    struct resolver_name *name; /* NULL for a literal address and for "localhost" */
    uint32_t loaded_generation; /* of the name's addresses in curl's cache */
    struct client_call *pool;
    uint16_t port;
    bool is_tls;
    size_t host_len;
    char host[];
};

struct shard {
    struct client *client;
    struct shard *next;
    CURLM *multi;
    struct timer timer;
    unsigned calls, sockets;
    bool wants_kick; /* curl asked for a zero timeout */
    struct mono used;
};

struct sock { /* per descriptor number, kept for the next connection with that number */
    struct loop_watch watch;
    struct shard *shard;
    uint32_t wanted, registered;
};

struct client_call {
    struct client *client;
    struct site *site;
    struct shard *shard; /* NULL while not in a multi */
    CURL *easy;
    struct client_call *next;          /* in the pool or a queue */
    struct client_call *older, *newer; /* all calls between start and end */
    struct client_call *next_resume, *next_upload;
    const struct client_callbacks *cb;
    void *user;
    enum phase phase;
    bool is_paused, in_resume_queue;
    bool allow_private, was_blocked, was_refused, connected_anew;
    enum err_code abort_code; /* why one of our curl callbacks said stop */
    uint32_t carries_generation;
    struct config_timeouts timeouts;
    struct mono started, last_byte;
    int64_t deadline_base_us; /* start of the running deadline, after `started` */
    int64_t armed_due_us;
    curl_off_t uploaded; /* as last seen by the deadline of the sending phase */
    struct client_timing timing;
    struct timer timer;
    struct resolver_wait wait;
    struct span body;
    const char *method; /* as set on the handle */
    struct buf url;     /* as set on the handle */
    struct buf lines;
    struct curl_slist nodes[LIMIT_UPSTREAM_LINES + 4];
    struct curl_slist resolve;
    char *resolve_text;
    char detail[200];
    char errbuf[CURL_ERROR_SIZE];
    struct answer_head head;
};

struct client {
    struct loop *loop;
    struct resolver *resolver;
    struct mailbox *mailbox;
    CURLSH *share;
    struct shard *shards;
    struct site *sites, *last_site;
    unsigned n_sites, n_spare;
    struct sock **socks;
    size_t n_socks;
    struct client_call *newest;
    struct client_call *starts, **starts_end;
    struct client_call *resumes, **resumes_end;
    struct client_call *dead;
    struct client_call *uploads; /* passed PREREQ in this curl call with a body that may not fit the socket */
    struct loop_task task;
    struct timer sweep;
    unsigned in_curl;
    bool is_closing;
    char ca_file[512];
    struct {
        _Atomic uint64_t started, finished, cancelled, connects, reused, resends_refused, dns_lookups,
            dns_failures, in_flight;
    } stats;
};

#define SMALL_BODY      ((size_t)16 << 10) /* goes out with the header in one send */
#define SWEEP_PERIOD_US 20000000

static void bump(_Atomic uint64_t *c, int64_t by)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + (uint64_t)by,
                          memory_order_relaxed);
}

static void finish(struct client_call *call, enum err_code code);
static void reap(struct shard *sh);

/* ---- process and environment ---- */

void client_global_init(void)
{
    static const char *const FOREIGN[] = {"http_proxy", "https_proxy", "all_proxy",    "no_proxy",
                                          "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",    "NO_PROXY",
                                          "NETRC",      "CURL_HOME",   "SSLKEYLOGFILE"};

    for (size_t i = 0; i < ARRAY_LEN(FOREIGN); i++)
        (void)unsetenv(FOREIGN[i]);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void find_ca_file(struct client *c)
{
    static const char *const PLACES[] = {"/etc/ssl/certs/ca-certificates.crt",
                                         "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};
    const char *given = getenv("GATEWAYD_CA_FILE");

    if (given && given[0]) {
        (void)span_copy(c->ca_file, sizeof(c->ca_file), span_of(given));
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(PLACES); i++)
        if (access(PLACES[i], R_OK) == 0) {
            (void)span_copy(c->ca_file, sizeof(c->ca_file), span_of(PLACES[i]));
            return;
        }
}

/* ---- sockets and timers that curl asks for ---- */

static void enter(struct client *c)
{
    c->in_curl++;
}

static void is_sent(struct client_call *call);

static void leave(struct client *c)
{
    assert(c->in_curl > 0);
    if (--c->in_curl > 0)
        return;
    while (c->uploads) {
        struct client_call *call = c->uploads;
        curl_off_t done = 0;

        c->uploads = call->next_upload;
        (void)curl_easy_getinfo(call->easy, CURLINFO_SIZE_UPLOAD_T, &done);
        if (call->phase == PHASE_SENDING && (size_t)done >= call->body.len)
            is_sent(call);
    }
}

static void kick(struct shard *sh)
{
    int running;

    sh->wants_kick = false;
    enter(sh->client);
    (void)curl_multi_socket_action(sh->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    leave(sh->client);
    reap(sh);
}

static void on_shard_timer(struct timer *t)
{
    kick(CONTAINER_OF(t, struct shard, timer));
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *user)
{
    struct shard *sh = user;

    (void)multi;
    if (timeout_ms == 0) {
        sh->wants_kick = true;
        loop_defer(sh->client->loop, &sh->client->task);
        return 0;
    }
    sh->wants_kick = false;
    if (timeout_ms < 0)
        loop_timer_cancel(sh->client->loop, &sh->timer);
    else
        loop_timer(sh->client->loop, &sh->timer, (int64_t)timeout_ms * 1000);
    return 0;
}

static void set_events(struct sock *s, uint32_t events)
{
    struct loop *l = s->shard->client->loop;

    if (events == s->registered)
        return;
    if (!events)
        loop_unwatch(l, &s->watch);
    else if ((s->registered ? loop_rewatch(l, &s->watch, events) : loop_watch(l, &s->watch, events)) !=
             ERR_OK)
        return; /* the call runs into its deadline */
    s->registered = events;
}

static void on_socket_event(struct loop_watch *w, uint32_t events)
{
    struct sock *s = CONTAINER_OF(w, struct sock, watch);
    struct shard *sh = s->shard;
    int flags = 0, running;

    if (!s->wanted) {
        set_events(s, 0); /* an idle connection was closed by its peer: curl finds out when it wants it */
        return;
    }
    if (events & EPOLLIN)
        flags |= CURL_CSELECT_IN;
    if (events & EPOLLOUT)
        flags |= CURL_CSELECT_OUT;
    if (events & (EPOLLHUP | EPOLLERR))
        flags |= CURL_CSELECT_IN | (s->wanted & EPOLLOUT ? CURL_CSELECT_OUT : 0);
    enter(sh->client);
    (void)curl_multi_socket_action(sh->multi, w->fd, flags, &running);
    leave(sh->client);
    reap(sh);
}

static struct sock *sock_at(struct client *c, int fd)
{
    size_t at = (size_t)fd;

    if (at >= c->n_socks) {
        size_t n = c->n_socks ? c->n_socks : 64;
        struct sock **grown;

        while (n <= at)
            n *= 2;
        grown = realloc(c->socks, n * sizeof(struct sock *));
        if (!grown)
            return NULL;
        memset(grown + c->n_socks, 0, (n - c->n_socks) * sizeof(struct sock *));
        c->socks = grown;
        c->n_socks = n;
    }
    if (!c->socks[at])
        c->socks[at] = calloc(1, sizeof(struct sock));
    return c->socks[at];
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *unused)
{
    struct shard *sh = user;
    struct sock *s = sock_at(sh->client, fd);
    struct client_call *call = NULL;

    (void)unused;
    if (!s)
        return 0;
    s->shard = sh;
    s->watch.fd = fd;
    s->watch.fn = on_socket_event;
    s->wanted = what == CURL_POLL_REMOVE
                    ? 0
                    : (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
    set_events(s, s->wanted | (s->registered & EPOLLIN));
    (void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &call);
    if (call && call->phase == PHASE_SENDING && s->wanted && !(s->wanted & EPOLLOUT))
        is_sent(call);
    return 0;
}

static int on_close_socket(void *user, curl_socket_t fd)
{
    struct client *c = user;
    struct sock *s = (size_t)fd < c->n_socks ? c->socks[fd] : NULL;

    if (s && s->registered) {
        loop_unwatch(c->loop, &s->watch);
        s->registered = s->wanted = 0;
    }
    return close(fd);
}

static curl_socket_t on_open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *to)
{
    struct client_call *call = user;
    struct address a;

    (void)purpose;
    call->site->loaded_generation =
        call->carries_generation ? call->carries_generation : call->site->loaded_generation;
    if (call->site->name && !call->allow_private &&
        (!address_from_sockaddr(&to->addr, &a) || !address_is_public(&a))) {
        call->was_blocked = true;
        return CURL_SOCKET_BAD;
    }
    call->connected_anew = true;
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
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
    (void)curl_multi_setopt(m, CURLMOPT_MAXCONNECTS, (long)(2 * LIMIT_UPSTREAM_SHARD));
    return m;
}

static struct shard *shard_with_room(struct client *c)
{
    struct shard **at = &c->shards;
    struct shard *sh;

    for (; *at; at = &(*at)->next)
        if ((*at)->calls < LIMIT_UPSTREAM_SHARD)
            return *at;
    sh = calloc(1, sizeof(*sh));
    if (!sh)
        return NULL;
    sh->client = c;
    sh->timer.fn = on_shard_timer;
    sh->multi = new_multi(sh);
    if (!sh->multi) {
        free(sh);
        return NULL;
    }
    *at = sh;
    return sh;
}

static void shard_close(struct shard *sh)
{
    enter(sh->client);
    (void)curl_multi_cleanup(sh->multi);
    leave(sh->client);
    loop_timer_cancel(sh->client->loop, &sh->timer);
    sh->multi = NULL;
    sh->wants_kick = false;
}

/* curl drops aged connections only when a new call comes; a shard that gets none is emptied here. */
static void on_sweep(struct timer *t)
{
    struct client *c = CONTAINER_OF(t, struct client, sweep);
    struct mono now = loop_now(c->loop);

    for (struct shard **at = &c->shards; *at;) {
        struct shard *sh = *at;

        if (sh->calls == 0 && mono_diff_us(now, sh->used) > (int64_t)LIMIT_UPSTREAM_IDLE_S * 1000000) {
            *at = sh->next;
            shard_close(sh);
            free(sh);
        } else {
            at = &sh->next;
        }
    }
    loop_timer(c->loop, &c->sweep, SWEEP_PERIOD_US);
}

/* ---- sites ---- */

struct place {
    bool is_tls;
    struct span host;
    uint16_t port;
};

static bool parse_url(const char *url, struct place *out)
{
    struct span rest = span_of(url), authority, port = {0};
    uint64_t n;
    size_t end;

    if (span_starts(rest, SPAN_LIT("https://")))
        out->is_tls = true;
    else if (span_starts(rest, SPAN_LIT("http://")))
        out->is_tls = false;
    else
        return false;
    rest = span_make(rest.p + (out->is_tls ? 8 : 7), rest.len - (out->is_tls ? 8 : 7));
    end = strcspn(rest.p, "/?#");
    authority = span_make(rest.p, end);
    if (memchr(authority.p, '@', authority.len))
        return false; /* credentials travel in headers */
    out->host = authority;
    if (authority.len && authority.p[0] == '[') {
        const char *close = memchr(authority.p, ']', authority.len);

        if (!close)
            return false;
        out->host.len = (size_t)(close + 1 - authority.p);
    } else {
        out->host.len = strcspn(authority.p, ":/?#");
    }
    out->port = out->is_tls ? 443 : 80;
    if (out->host.len < authority.len) {
        port = span_make(authority.p + out->host.len + 1, authority.len - out->host.len - 1);
        if (authority.p[out->host.len] != ':' || !span_to_u64(port, &n) || n == 0 || n > 65535)
            return false;
        out->port = (uint16_t)n;
    }
    return out->host.len > 0;
}

static bool is_site(const struct site *s, const struct place *p)
{
    return s->port == p->port && s->is_tls == p->is_tls &&
           span_eq_nocase(span_make(s->host, s->host_len), p->host);
}

static struct site *new_site(struct client *c, const struct place *p)
{
    struct resolver_name *name = NULL;
    struct address literal;
    struct site *s;

    if (!address_parse(p->host, &literal) && !span_eq_nocase(p->host, SPAN_LIT("localhost"))) {
        name = resolver_name(c->resolver, p->host);
        if (!name)
            return NULL;
    }
    s = c->n_sites < LIMIT_UPSTREAM_HOSTS ? calloc(1, sizeof(*s) + p->host.len + 1) : NULL;
    if (!s)
        return NULL;
    s->name = name;
    s->port = p->port;
    s->is_tls = p->is_tls;
    s->host_len = p->host.len;
    (void)span_copy(s->host, p->host.len + 1, p->host);
    s->next = c->sites;
    c->sites = s;
    c->n_sites++;
    return s;
}

static struct site *site_of(struct client *c, const char *url)
{
    struct place p;

    if (!parse_url(url, &p))
        return NULL;
    if (c->last_site && is_site(c->last_site, &p))
        return c->last_site;
    for (struct site *s = c->sites; s; s = s->next)
        if (is_site(s, &p))
            return c->last_site = s;
    return c->last_site = new_site(c, &p);
}

/* ---- deadlines ---- */

static int64_t since_start(const struct client_call *call, struct mono now)
{
    return mono_diff_us(now, call->started);
}

/* Microseconds after `started` of the next deadline. */
static int64_t next_due(const struct client_call *call)
{
    int64_t due = INT64_MAX;

    switch (call->phase) {
    case PHASE_QUEUED:
    case PHASE_RESOLVING:
    case PHASE_CONNECTING:
        due = call->timeouts.connect_us;
        break;
    case PHASE_SENDING:
        due = call->deadline_base_us + call->timeouts.idle_us;
        break;
    case PHASE_WAITING:
        due = call->deadline_base_us + call->timeouts.first_byte_us;
        break;
    case PHASE_STREAMING:
        due = call->deadline_base_us + call->timeouts.idle_us;
        break;
    case PHASE_IDLE:
    case PHASE_ENDED:
        break;
    }
    if (call->is_paused)
        due = INT64_MAX;
    return due < call->timeouts.total_us ? due : call->timeouts.total_us;
}

/* The timer may be early but never late: a deadline that moves away is found out when the timer fires. */
static void rearm(struct client_call *call)
{
    int64_t due = next_due(call);

    if (timer_is_armed(&call->timer) && call->armed_due_us <= due)
        return;
    call->armed_due_us = due;
    loop_timer(call->client->loop, &call->timer, due - since_start(call, loop_now(call->client->loop)));
}

static bool is_upload_moving(struct client_call *call)
{
    curl_off_t done = 0;
    bool moved;

    if (call->phase != PHASE_SENDING)
        return false;
    (void)curl_easy_getinfo(call->easy, CURLINFO_SIZE_UPLOAD_T, &done);
    moved = done != call->uploaded;
    call->uploaded = done;
    return moved;
}

static void say(struct client_call *call, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say(struct client_call *call, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(call->detail, sizeof(call->detail), fmt, ap);
    va_end(ap);
}

static enum err_code expiry_code(struct client_call *call, int64_t now_us)
{
    const struct config_timeouts *t = &call->timeouts;

    if (now_us >= t->total_us) {
        say(call, "not complete within %lld ms", (long long)(t->total_us / 1000));
        return ERR_UP_TIMEOUT;
    }
    switch (call->phase) {
    case PHASE_RESOLVING:
        say(call, "'%s' not resolved within %lld ms", call->site->host, (long long)(t->connect_us / 1000));
        return ERR_UP_DNS;
    case PHASE_STREAMING:
        say(call, "nothing more within %lld ms", (long long)(t->idle_us / 1000));
        return ERR_UP_IDLE;
    case PHASE_SENDING:
        say(call, "the request was not taken for %lld ms", (long long)(t->idle_us / 1000));
        return ERR_UP_TIMEOUT;
    case PHASE_WAITING:
        say(call, "no answer body within %lld ms", (long long)(t->first_byte_us / 1000));
        return ERR_UP_TIMEOUT;
    default:
        say(call, "no connection to '%s' within %lld ms", call->site->host,
            (long long)(t->connect_us / 1000));
        return ERR_UP_TIMEOUT;
    }
}

static void on_call_timer(struct timer *t)
{
    struct client_call *call = CONTAINER_OF(t, struct client_call, timer);
    int64_t now_us = since_start(call, loop_now(call->client->loop));

    if (now_us < call->timeouts.total_us && is_upload_moving(call))
        call->deadline_base_us = now_us;
    if (next_due(call) > now_us) {
        rearm(call);
        return;
    }
    finish(call, expiry_code(call, now_us));
}

static void enter_phase(struct client_call *call, enum phase p, struct mono now)
{
    call->phase = p;
    call->deadline_base_us = since_start(call, now);
    rearm(call);
}

static void is_sent(struct client_call *call)
{
    struct mono now = mono_now();

    call->timing.sent_us = since_start(call, now);
    enter_phase(call, PHASE_WAITING, now);
}

/* ---- what curl tells about a transfer ---- */

/* Called when the connection stands, before each sending of the request. The second time is curl's own resend
 * on a fresh connection after a pooled one died: the first request may have been executed, so there is no
 * second. */
static int on_prereq(void *user, char *ip, char *local_ip, int port, int local_port)
{
    struct client_call *call = user;
    struct address a;
    struct mono now = mono_now();

    (void)local_ip;
    (void)port;
    (void)local_port;
    if (call->timing.was_sent) {
        call->was_refused = true;
        return CURL_PREREQFUNC_ABORT;
    }
    if (call->site->name && !call->allow_private &&
        (!address_parse(span_of(ip), &a) || !address_is_public(&a))) {
        call->was_blocked = true; /* a pooled connection that another provider's permission opened */
        return CURL_PREREQFUNC_ABORT;
    }
    call->timing.was_sent = true;
    call->timing.is_reused = !call->connected_anew;
    call->timing.connected_us = since_start(call, now);
    bump(call->connected_anew ? &call->client->stats.connects : &call->client->stats.reused, 1);
    if (call->body.len <= SMALL_BODY) {
        call->timing.sent_us = call->timing.connected_us;
        enter_phase(call, PHASE_WAITING, now);
        return CURL_PREREQFUNC_OK;
    }
    enter_phase(call, PHASE_SENDING, now);
    call->next_upload = call->client->uploads;
    call->client->uploads = call;
    return CURL_PREREQFUNC_OK;
}

static size_t on_head_line(char *p, size_t size, size_t n, void *user)
{
    struct client_call *call = user;
    bool was_complete = call->head.is_complete;
    const char *why = NULL;
    enum err_code e;

    (void)size;
    if (call->phase == PHASE_ENDED)
        return 0;
    e = answer_head_line(&call->head, span_make(p, n), &why);
    if (e) {
        call->abort_code = e;
        say(call, "%s", why);
        return 0;
    }
    if (!was_complete && call->head.is_complete) {
        if (call->phase == PHASE_SENDING)
            is_sent(call); /* an answer before the end of the request ends the request */
        call->cb->on_headers(call->user, &call->head.found);
    }
    return call->phase == PHASE_ENDED ? 0 : n;
}

static size_t on_bytes(char *p, size_t size, size_t n, void *user)
{
    struct client_call *call = user;

    (void)size;
    if (call->phase == PHASE_ENDED)
        return 0;
    if (call->phase != PHASE_STREAMING) {
        struct mono now = mono_now();

        call->timing.first_byte_us = since_start(call, now);
        enter_phase(call, PHASE_STREAMING, now);
    }
    call->deadline_base_us = since_start(call, loop_now(call->client->loop));
    if (!call->cb->on_body(call->user, span_make(p, n))) {
        if (call->phase == PHASE_ENDED)
            return 0;
        call->is_paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    return call->phase == PHASE_ENDED ? 0 : n;
}

/* ---- calls ---- */

static void set_fixed_options(struct client_call *call)
{
    struct client *c = call->client;
    CURL *e = call->easy;

#define SET(option, value) (void)curl_easy_setopt(e, option, value)
    SET(CURLOPT_PRIVATE, call);
    SET(CURLOPT_SHARE, c->share);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_NOPROGRESS, 1L);
    SET(CURLOPT_ERRORBUFFER, call->errbuf);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_REDIR_PROTOCOLS_STR, "");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NOPROXY, "*");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_HTTPHEADER, &call->nodes[0]);
    SET(CURLOPT_PREREQFUNCTION, on_prereq);
    SET(CURLOPT_PREREQDATA, call);
    SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    SET(CURLOPT_OPENSOCKETDATA, call);
    SET(CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
    SET(CURLOPT_CLOSESOCKETDATA, c);
    SET(CURLOPT_HEADERFUNCTION, on_head_line);
    SET(CURLOPT_HEADERDATA, call);
    SET(CURLOPT_WRITEFUNCTION, on_bytes);
    SET(CURLOPT_WRITEDATA, call);
    SET(CURLOPT_BUFFERSIZE, (long)LIMIT_UPSTREAM_READ);
    SET(CURLOPT_UPLOAD_BUFFERSIZE, (long)LIMIT_UPSTREAM_SEND);
    SET(CURLOPT_DNS_CACHE_TIMEOUT, -1L); /* entries are ours, see load_addresses() */
    SET(CURLOPT_MAXAGE_CONN, (long)LIMIT_UPSTREAM_IDLE_S);
    SET(CURLOPT_MAXLIFETIME_CONN, (long)LIMIT_UPSTREAM_LIFE_S);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (c->ca_file[0]) {
        SET(CURLOPT_CAINFO, c->ca_file);
        SET(CURLOPT_CAPATH, NULL); /* curl keeps the parsed CA file only when there is no folder beside it */
    }
#undef SET
}

static struct client_call *new_call(struct client *c)
{
    struct client_call *call = calloc(1, sizeof(*call));

    if (!call)
        return NULL;
    call->client = c;
    call->timer.fn = on_call_timer;
    buf_init(&call->lines, LIMIT_UPSTREAM_HEADER);
    call->easy = curl_easy_init();
    if (call->easy)
        set_fixed_options(call);
    return call;
}

static void free_call(struct client_call *call)
{
    if (call->easy)
        curl_easy_cleanup(call->easy);
    buf_release(&call->url);
    buf_release(&call->lines);
    free(call->resolve_text);
    free(call);
}

static void recycle(struct client_call *call)
{
    struct client *c = call->client;

    call->phase = PHASE_IDLE;
    call->body = (struct span){0};
    if (!call->site || !call->easy || c->n_spare >= LIMIT_UPSTREAM_SPARE) {
        free_call(call);
        return;
    }
    call->next = call->site->pool;
    call->site->pool = call;
    c->n_spare++;
}

static void link_active(struct client_call *call)
{
    struct client *c = call->client;

    call->newer = NULL;
    call->older = c->newest;
    if (c->newest)
        c->newest->newer = call;
    c->newest = call;
    bump(&c->stats.in_flight, 1);
}

static void unlink_active(struct client_call *call)
{
    struct client *c = call->client;

    if (call->newer)
        call->newer->older = call->older;
    else
        c->newest = call->older;
    if (call->older)
        call->older->newer = call->newer;
    bump(&c->stats.in_flight, -1);
}

/* Out of all lists and timers; the handle out of its multi, which closes a connection in use. Not inside
 * curl. */
static void detach(struct client_call *call)
{
    struct client *c = call->client;
    struct shard *sh = call->shard;

    assert(!c->in_curl);
    resolver_wait_cancel(&call->wait);
    loop_timer_cancel(c->loop, &call->timer);
    if (call->phase == PHASE_QUEUED) {
        struct client_call **at = &c->starts;

        while (*at != call)
            at = &(*at)->next;
        *at = call->next;
        if (c->starts_end == &call->next)
            c->starts_end = at;
    }
    if (call->in_resume_queue) {
        struct client_call **at = &c->resumes;

        while (*at != call)
            at = &(*at)->next_resume;
        *at = call->next_resume;
        if (c->resumes_end == &call->next_resume)
            c->resumes_end = at;
        call->in_resume_queue = false;
    }
    if (sh) {
        enter(c);
        (void)curl_multi_remove_handle(sh->multi, call->easy);
        leave(c);
        sh->calls--;
        sh->used = loop_now(c->loop);
        call->shard = NULL;
    }
    unlink_active(call);
}

static void finish(struct client_call *call, enum err_code code)
{
    struct client *c = call->client;

    detach(call);
    call->phase = PHASE_ENDED;
    bump(&c->stats.finished, 1);
    call->cb->on_done(call->user, code, call->detail);
    recycle(call);
}

static void bury(struct client *c)
{
    while (c->dead) {
        struct client_call *call = c->dead;

        c->dead = call->next;
        detach(call);
        recycle(call);
    }
}

/* ---- curl's verdict ---- */

static enum err_code code_of_receive_error(const struct client_call *call)
{
    if (strstr(call->errbuf, "chunk") || strstr(call->errbuf, "Invalid"))
        return ERR_UP_GARBAGE;
    if (strstr(call->errbuf, "Too large response headers"))
        return ERR_UP_TOO_LARGE;
    return call->head.bytes ? ERR_UP_CUT : ERR_UP_RESET;
}

static enum err_code code_of(struct client_call *call, CURLcode rc)
{
    if (rc == CURLE_OK)
        return ERR_OK;
    if (call->was_refused) {
        say(call, "resend refused: the pooled connection died before an answer");
        bump(&call->client->stats.resends_refused, 1);
        return ERR_UP_RESET;
    }
    if (call->abort_code)
        return call->abort_code;
    if (call->was_blocked) {
        say(call, "'%s' resolves to an address that is not public", call->site->host);
        return ERR_UP_BLOCKED;
    }
    say(call, "%s", call->errbuf[0] ? call->errbuf : curl_easy_strerror(rc));
    switch (rc) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return ERR_UP_DNS;
    case CURLE_COULDNT_CONNECT:
        return ERR_UP_CONNECT;
    case CURLE_OPERATION_TIMEDOUT:
        return ERR_UP_TIMEOUT;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_ENGINE_SETFAILED:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_CLIENTCERT:
        return ERR_UP_TLS;
    case CURLE_PARTIAL_FILE:
        return ERR_UP_CUT;
    case CURLE_GOT_NOTHING:
        return ERR_UP_RESET;
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
        return code_of_receive_error(call);
    case CURLE_OUT_OF_MEMORY: /* also curl's answer to a header line over its limit */
        return call->timing.was_sent && !call->head.is_complete ? ERR_UP_TOO_LARGE : ERR_NO_MEMORY;
    case CURLE_URL_MALFORMAT:
        return ERR_CONFIG;
    default:
        return call->timing.was_sent ? ERR_UP_GARBAGE : ERR_UP_CONNECT;
    }
}

static void reap(struct shard *sh)
{
    struct client *c = sh->client;
    CURLMsg *msg;
    int left;

    if (c->dead)
        bury(c);
    while ((msg = curl_multi_info_read(sh->multi, &left))) {
        struct client_call *call = NULL;
        CURLcode rc = msg->data.result;

        if (msg->msg != CURLMSG_DONE)
            continue;
        (void)curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &call);
        if (call && call->phase != PHASE_ENDED)
            finish(call, code_of(call, rc));
    }
}

/* ---- starting ---- */

static enum err_code copy_headers(struct client_call *call, const struct client_request *rq)
{
    struct curl_slist *at = &call->nodes[0];
    struct curl_slist *const end = at + LIMIT_UPSTREAM_LINES;
    bool has_type = false;
    struct span rest, line;

    buf_clear(&call->lines);
    if (rq->header_lines && buf_append(&call->lines, rq->header_lines->p, rq->header_lines->len) != ERR_OK) {
        say(call, "request headers are too large");
        return ERR_INTERNAL;
    }
    *at++ = (struct curl_slist){.data = (char *)(uintptr_t) "Expect:"};
    *at++ = (struct curl_slist){.data = (char *)(uintptr_t) "Accept-Encoding: identity"};
    rest = buf_span(&call->lines);
    while (header_lines_next(&rest, &line)) {
        enum header_verdict v = header_line_check(line);

        if (v == HEADER_MALFORMED || v == HEADER_NOT_YOURS || at == end) {
            say(call, "request header %d refused", (int)(at - call->nodes) - 1);
            return ERR_INTERNAL;
        }
        has_type |= v == HEADER_CONTENT_TYPE;
        *at++ = (struct curl_slist){.data = (char *)(uintptr_t)line.p};
    }
    if (!has_type)
        *at++ =
            (struct curl_slist){.data = (char *)(uintptr_t) "Content-Type:"}; /* curl would call it a form */
    for (struct curl_slist *n = call->nodes; n + 1 < at; n++)
        n->next = n + 1;
    return ERR_OK;
}

static enum err_code set_request(struct client_call *call, const struct client_request *rq)
{
    size_t len = strlen(rq->url);

    if (!span_eq(buf_span(&call->url), span_make(rq->url, len))) {
        buf_clear(&call->url);
        if (buf_append(&call->url, rq->url, len) != ERR_OK ||
            curl_easy_setopt(call->easy, CURLOPT_URL, rq->url) != CURLE_OK)
            return ERR_NO_MEMORY;
    }
    if (!call->method || strcmp(call->method, rq->method) != 0) {
        bool is_post = strcmp(rq->method, "POST") == 0;

        if (!is_post && strcmp(rq->method, "GET") != 0) {
            say(call, "method '%s' is not supported", rq->method);
            return ERR_INTERNAL;
        }
        (void)curl_easy_setopt(call->easy, is_post ? CURLOPT_POST : CURLOPT_HTTPGET, 1L);
        call->method = is_post ? "POST" : "GET";
    }
    if (call->method[0] == 'P') {
        (void)curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->body.len);
        (void)curl_easy_setopt(call->easy, CURLOPT_POSTFIELDS, rq->body.len ? rq->body.p : "");
    }
    return copy_headers(call, rq);
}

static void on_resolved(struct resolver_wait *w, enum resolver_state state);

static struct client_call *take_call(struct client *c, struct site *site)
{
    struct client_call *call = site ? site->pool : NULL;

    if (call) {
        site->pool = call->next;
        c->n_spare--;
    } else {
        call = new_call(c);
        if (!call) {
            log_error("client: out of memory");
            abort(); /* a call is promised to its caller; there is no other way to say it */
        }
        call->site = site;
    }
    return call;
}

static void reset(struct client_call *call, const struct client_request *rq)
{
    call->cb = rq->cb;
    call->user = rq->user;
    call->is_paused = call->in_resume_queue = false;
    call->was_blocked = call->was_refused = call->connected_anew = false;
    call->allow_private = rq->allow_private;
    call->abort_code = ERR_OK;
    call->carries_generation = 0;
    call->timeouts = rq->timeouts;
    call->started = mono_now();
    call->uploaded = 0;
    call->timing = (struct client_timing){.connected_us = -1, .sent_us = -1, .first_byte_us = -1};
    call->wait.fn = on_resolved;
    call->body = rq->body;
    call->detail[0] = call->errbuf[0] = '\0';
    answer_head_init(&call->head);
}

struct client_call *client_start(struct client *c, const struct client_request *rq)
{
    struct site *site = site_of(c, rq->url);
    struct client_call *call = take_call(c, site);

    assert(!c->is_closing);
    reset(call, rq);
    if (!site) {
        call->abort_code = ERR_CONFIG;
        say(call, "the URL is not acceptable");
    } else {
        call->abort_code = call->easy ? set_request(call, rq) : ERR_NO_MEMORY;
    }
    bump(&c->stats.started, 1);
    link_active(call);
    enter_phase(call, PHASE_QUEUED, call->started);
    call->next = NULL;
    *c->starts_end = call;
    c->starts_end = &call->next;
    loop_defer(c->loop, &c->task);
    return call;
}

/* Puts the name's addresses into curl's cache, by the first transfers that start after a change. */
static enum err_code load_addresses(struct client_call *call)
{
    struct site *site = call->site;
    const struct resolver_answer *a = resolver_answer(site->name);
    uint32_t generation = resolver_generation(site->name);
    size_t cap = site->host_len + 8 + (size_t)a->n * (ADDRESS_TEXT_CAP + 1);
    bool is_public = call->allow_private;
    size_t len;

    for (unsigned i = 0; i < a->n && !is_public; i++)
        is_public = address_is_public(&a->addresses[i]);
    if (!is_public) {
        say(call, "'%s' resolves to an address that is not public", site->host);
        return ERR_UP_BLOCKED;
    }
    if (site->loaded_generation == generation)
        return ERR_OK;
    free(call->resolve_text);
    call->resolve_text = malloc(cap);
    if (!call->resolve_text)
        return ERR_NO_MEMORY;
    len = (size_t)snprintf(call->resolve_text, cap, "%s:%u:", site->host, site->port);
    for (unsigned i = 0; i < a->n; i++) {
        if (i)
            call->resolve_text[len++] = ',';
        len += address_format(&a->addresses[i], call->resolve_text + len);
    }
    call->resolve = (struct curl_slist){.data = call->resolve_text};
    (void)curl_easy_setopt(call->easy, CURLOPT_RESOLVE, &call->resolve);
    call->carries_generation = generation;
    return ERR_OK;
}

static void launch(struct client_call *call)
{
    struct client *c = call->client;
    struct shard *sh;
    enum err_code e = call->site->name ? load_addresses(call) : ERR_OK;

    sh = e ? NULL : shard_with_room(c);
    if (!sh) {
        finish(call, e ? e : ERR_NO_MEMORY);
        return;
    }
    call->phase = PHASE_CONNECTING; /* its deadline runs since the start */
    enter(c);
    if (curl_multi_add_handle(sh->multi, call->easy) == CURLM_OK) {
        call->shard = sh;
        sh->calls++;
    }
    leave(c);
    if (!call->shard)
        finish(call, ERR_INTERNAL);
}

static void fail_resolving(struct client_call *call)
{
    say(call, "'%s': %s", call->site->host, resolver_answer(call->site->name)->why);
    finish(call, ERR_UP_DNS);
}

static void on_resolved(struct resolver_wait *w, enum resolver_state state)
{
    struct client_call *call = CONTAINER_OF(w, struct client_call, wait);

    if (state == RESOLVER_KNOWN)
        launch(call);
    else
        fail_resolving(call);
}

static void begin(struct client_call *call)
{
    enum resolver_state state = RESOLVER_KNOWN;

    call->phase = PHASE_RESOLVING;
    if (call->abort_code) {
        finish(call, call->abort_code);
        return;
    }
    if (call->site->name)
        state = resolver_ask(call->client->resolver, call->site->name, &call->wait);
    if (state == RESOLVER_KNOWN)
        launch(call);
    else if (state == RESOLVER_FAILED)
        fail_resolving(call);
}

static void unpause(struct client_call *call)
{
    struct shard *sh = call->shard;
    CURLcode rc;

    if (!call->is_paused || !sh)
        return;
    call->is_paused = false;
    call->deadline_base_us = since_start(call, loop_now(call->client->loop));
    rearm(call);
    enter(call->client);
    rc = curl_easy_pause(call->easy, CURLPAUSE_CONT); /* calls on_bytes */
    leave(call->client);
    if (rc != CURLE_OK && call->phase != PHASE_ENDED)
        finish(call, code_of(call, rc));
}

static void run_task(struct loop_task *t)
{
    struct client *c = CONTAINER_OF(t, struct client, task);

    bury(c);
    while (c->starts) {
        struct client_call *call = c->starts;

        c->starts = call->next;
        if (!c->starts)
            c->starts_end = &c->starts;
        begin(call);
    }
    while (c->resumes) {
        struct client_call *call = c->resumes;

        c->resumes = call->next_resume;
        if (!c->resumes)
            c->resumes_end = &c->resumes;
        call->in_resume_queue = false;
        unpause(call);
        bury(c);
    }
    for (struct shard *sh = c->shards; sh; sh = sh->next) {
        if (sh->wants_kick)
            kick(sh);
        /* Curl that wants on at once waits for a tick: other work comes in between. */
        if (sh->wants_kick && !c->starts)
            loop_timer(c->loop, &sh->timer, 0);
    }
}

/* ---- the caller's side ---- */

void client_resume(struct client_call *call)
{
    struct client *c = call->client;

    if (call->in_resume_queue || call->phase == PHASE_ENDED)
        return;
    call->in_resume_queue = true;
    call->next_resume = NULL;
    *c->resumes_end = call;
    c->resumes_end = &call->next_resume;
    loop_defer(c->loop, &c->task);
}

void client_cancel(struct client_call *call)
{
    struct client *c = call->client;

    if (call->phase == PHASE_ENDED)
        return;
    assert(call->phase != PHASE_IDLE);
    bump(&c->stats.cancelled, 1);
    if (!c->in_curl) {
        detach(call);
        call->phase = PHASE_ENDED;
        recycle(call);
        return;
    }
    call->phase = PHASE_ENDED;
    call->next = c->dead;
    c->dead = call;
    loop_defer(c->loop, &c->task);
}

struct client_timing client_call_timing(const struct client_call *call)
{
    return call->timing;
}

struct client_stats client_stats_mt(const struct client *c)
{
#define READ(f) .f = atomic_load_explicit(&c->stats.f, memory_order_relaxed)
    return (struct client_stats){READ(started),     READ(finished),     READ(cancelled),
                                 READ(connects),    READ(reused),       READ(resends_refused),
                                 READ(dns_lookups), READ(dns_failures), READ(in_flight)};
#undef READ
}

struct client *client_new(struct loop *l, struct mailbox *m, struct err *err)
{
    struct client *c = calloc(1, sizeof(*c));

    if (!c) {
        (void)err_set(err, ERR_NO_MEMORY, "http client: out of memory");
        return NULL;
    }
    c->loop = l;
    c->mailbox = m;
    c->starts_end = &c->starts;
    c->resumes_end = &c->resumes;
    c->task.fn = run_task;
    c->sweep.fn = on_sweep;
    c->share = curl_share_init();
    c->resolver = resolver_new(l, m, NULL, err);
    if (!c->share || !c->resolver) {
        (void)err_set(err, ERR_NO_MEMORY, "http client: out of memory");
        client_free(c);
        return NULL;
    }
    (void)curl_share_setopt(c->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    (void)curl_share_setopt(c->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
    find_ca_file(c);
    loop_timer(l, &c->sweep, SWEEP_PERIOD_US);
    return c;
}

void client_set_lookup(struct client *c, resolver_lookup_fn lookup)
{
    assert(!c->sites);
    resolver_free(c->resolver);
    c->resolver = resolver_new(c->loop, c->mailbox, lookup, NULL);
}

static void free_sites(struct client *c)
{
    while (c->sites) {
        struct site *s = c->sites;

        c->sites = s->next;
        while (s->pool) {
            struct client_call *call = s->pool;

            s->pool = call->next;
            free_call(call);
        }
        free(s);
    }
}

void client_free(struct client *c)
{
    if (!c)
        return;
    bury(c);
    while (c->newest)
        client_cancel(c->newest);
    c->is_closing = true;
    loop_defer_cancel(c->loop, &c->task);
    loop_timer_cancel(c->loop, &c->sweep);
    while (c->shards) {
        struct shard *sh = c->shards;

        c->shards = sh->next;
        shard_close(sh);
        free(sh);
    }
    free_sites(c);
    resolver_free(c->resolver);
    if (c->share)
        (void)curl_share_cleanup(c->share);
    for (size_t i = 0; i < c->n_socks; i++) {
        if (c->socks[i] && c->socks[i]->registered)
            loop_unwatch(c->loop, &c->socks[i]->watch);
        free(c->socks[i]);
    }
    free(c->socks);
    free(c);
}
