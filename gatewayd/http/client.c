/* SPDX-License-Identifier: Apache-2.0 */
/* What a call is: where it goes, whether it may, how long it may take. How bytes move is transfer.c.
 *
 *   IDLE ─client_start─► QUEUED ─begin─► RESOLVING ─launch─► CONNECTING ─may_send─► SENDING
 *                                        SENDING ─on_sent─► WAITING ─on_bytes─► STREAMING
 *   IDLE ◄─recycle── ENDED ◄─finish (on_done) or client_cancel, from any state
 *
 * Nothing of the caller runs inside client_start/resume/cancel: starts are queued and worked off at the
 * turn's end. A call and its transfer are pooled per site (scheme, host, port), so that a warm call costs no
 * memory and few options. */
#include "gatewayd/http/client.h"

#include <assert.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "gatewayd/config/limits.h"
#include "gatewayd/http/surroundings.h"
#include "gatewayd/http/transfer.h"
#include "libshared/base/log.h"

enum phase {
    PHASE_IDLE, /* in a pool */
    PHASE_QUEUED,
    PHASE_RESOLVING,
    PHASE_CONNECTING, /* TCP and TLS, or taking a pooled connection */
    PHASE_SENDING,
    PHASE_WAITING, /* sent, no body byte yet */
    PHASE_STREAMING,
    PHASE_ENDED, /* no callback any more; the transfer may still be on its way out */
};

/* Where a URL leads. Lives as long as the client. */
struct site {
    struct site *next;
    struct resolver_name *name; /* NULL for a literal address and for "localhost" */
    struct origin *origin;
    uint32_t generation; /* of the name's addresses, as the origin knows them */
    struct client_call *pool;
    uint16_t port;
    bool is_tls;
    size_t host_len;
    char host[];
};

struct client_call {
    struct client *client;
    struct site *site; /* NULL: the URL was not acceptable */
    struct transfer *transfer;
    struct client_call *next;          /* in the pool or the queue */
    struct client_call *older, *newer; /* all calls between start and end */
    const struct client_callbacks *cb;
    void *user;
    enum phase phase;
    bool is_paused, allow_private, was_blocked;
    enum err_code verdict; /* found before it began */
    struct config_timeouts timeouts;
    struct mono started;
    int64_t since_us;     /* when the running deadline began; like the two below, after `started` */
    int64_t armed_due_us; /* of the timer */
    int64_t uploaded;     /* bytes, as last seen by the deadline while sending */
    struct client_timing timing;
    struct timer timer;
    struct resolver_wait wait;
    struct err err; /* its text is the detail of on_done */
};

struct client {
    struct loop *loop;
    struct mailbox *mailbox;
    struct resolver *resolver;
    struct transfers *transfers;
    struct site *sites, *last_site;
    unsigned n_sites, n_spare;
    struct client_call *newest;
    struct client_call *queue, **queue_end;
    struct loop_task task;
    struct {
        _Atomic uint64_t started, finished, cancelled, connects, reused, in_flight;
    } stats;
};

static void bump(_Atomic uint64_t *c, int by)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + (uint64_t)(int64_t)by,
                          memory_order_relaxed);
}

static void finish(struct client_call *call, enum err_code code);

/* ---- sites ---- */

struct place {
    bool is_tls;
    struct span authority, host, target;
    uint16_t port;
};

static bool parse_port(struct span text, uint16_t *port)
{
    uint64_t n;

    if (text.len == 0)
        return true; /* the scheme's */
    if (text.p[0] != ':' || !span_to_u64(span_make(text.p + 1, text.len - 1), &n) || n == 0 || n > 65535)
        return false;
    *port = (uint16_t)n;
    return true;
}

static bool is_clean(struct span url)
{
    for (size_t i = 0; i < url.len; i++)
        if ((unsigned char)url.p[i] <= 0x20 || (unsigned char)url.p[i] >= 0x7f)
            return false;
    return !memchr(url.p, '#', url.len);
}

static bool parse_url(const char *url, struct place *out)
{
    struct span rest = span_of(url), authority;
    const char *host_end;

    out->is_tls = span_starts(rest, SPAN_LIT("https://"));
    if ((!out->is_tls && !span_starts(rest, SPAN_LIT("http://"))) || !is_clean(rest))
        return false;
    rest.p += out->is_tls ? 8 : 7;
    authority = span_make(rest.p, strcspn(rest.p, "/?"));
    if (memchr(authority.p, '@', authority.len))
        return false; /* credentials travel in headers */
    host_end = memchr(authority.p, authority.p[0] == '[' ? ']' : ':', authority.len);
    if (authority.p[0] == '[' && !host_end)
        return false;
    out->authority = out->host = authority;
    out->target = span_of(authority.p + authority.len);
    if (!out->target.len)
        out->target = SPAN_LIT("/");
    if (host_end)
        out->host.len = (size_t)(host_end - authority.p) + (authority.p[0] == '[');
    out->port = out->is_tls ? 443 : 80;
    return out->host.len > 0 &&
           parse_port(span_make(authority.p + out->host.len, authority.len - out->host.len), &out->port);
}

static bool is_at(const struct site *s, const struct place *p)
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
    s->origin = origin_new(transfers_links(c->transfers), p->is_tls, p->host, p->port);
    if (!s->origin) {
        free(s);
        return NULL;
    }
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

static struct site *site_of(struct client *c, const struct place *p)
{
    if (c->last_site && is_at(c->last_site, p))
        return c->last_site;
    for (struct site *s = c->sites; s; s = s->next)
        if (is_at(s, p))
            return c->last_site = s;
    return c->last_site = new_site(c, p);
}

/* ---- deadlines ---- */

static int64_t after_start(const struct client_call *call, struct mono now)
{
    return mono_diff_us(now, call->started);
}

static int64_t next_due(const struct client_call *call)
{
    const struct config_timeouts *t = &call->timeouts;
    int64_t due = INT64_MAX;

    switch (call->phase) {
    case PHASE_QUEUED:
    case PHASE_RESOLVING:
    case PHASE_CONNECTING:
        due = t->connect_us;
        break;
    case PHASE_SENDING:
        due = call->since_us + t->idle_us;
        break;
    case PHASE_WAITING:
        due = call->since_us + t->first_byte_us;
        break;
    case PHASE_STREAMING:
        due = call->is_paused ? INT64_MAX : call->since_us + t->idle_us;
        break;
    case PHASE_IDLE:
    case PHASE_ENDED:
        break;
    }
    return due < t->total_us ? due : t->total_us;
}

/* The timer may be early but is never late: a deadline that moved away is noticed when the timer fires. */
static void rearm(struct client_call *call)
{
    int64_t due = next_due(call);

    if (timer_is_armed(&call->timer) && call->armed_due_us <= due)
        return;
    call->armed_due_us = due;
    loop_timer(call->client->loop, &call->timer, due - after_start(call, loop_now(call->client->loop)));
}

static void enter_phase(struct client_call *call, enum phase p, int64_t now_us)
{
    call->phase = p;
    call->since_us = now_us;
    rearm(call);
}

static bool is_upload_moving(struct client_call *call)
{
    int64_t before = call->uploaded;

    if (call->phase != PHASE_SENDING)
        return false;
    call->uploaded = transfer_uploaded(call->transfer);
    return call->uploaded != before;
}

static enum err_code expire(struct client_call *call, int64_t now_us)
{
    const struct config_timeouts *t = &call->timeouts;
    struct err *err = &call->err;

#define MS(us) ((long long)((us) / 1000))
    if (now_us >= t->total_us)
        return err_set(err, ERR_UP_TIMEOUT, "not complete within %lld ms", MS(t->total_us));
    switch (call->phase) {
    case PHASE_RESOLVING:
        return err_set(err, ERR_UP_DNS, "'%s' not resolved within %lld ms", call->site->host,
                       MS(t->connect_us));
    case PHASE_SENDING:
        return err_set(err, ERR_UP_TIMEOUT, "the request was not taken for %lld ms", MS(t->idle_us));
    case PHASE_WAITING:
        return err_set(err, ERR_UP_TIMEOUT, "no answer body within %lld ms", MS(t->first_byte_us));
    case PHASE_STREAMING:
        return err_set(err, ERR_UP_IDLE, "nothing more within %lld ms", MS(t->idle_us));
    default:
        return err_set(err, ERR_UP_TIMEOUT, "no connection within %lld ms", MS(t->connect_us));
    }
#undef MS
}

static void on_call_timer(struct timer *t)
{
    struct client_call *call = CONTAINER_OF(t, struct client_call, timer);
    int64_t now_us = after_start(call, loop_now(call->client->loop));

    if (is_upload_moving(call))
        call->since_us = now_us;
    if (next_due(call) > now_us)
        rearm(call);
    else
        finish(call, expire(call, now_us));
}

/* ---- the transfer asks and tells ---- */

static bool is_allowed(struct client_call *call, const struct address *a)
{
    if (!call->site->name || call->allow_private || address_is_public(a))
        return true;
    call->was_blocked = true;
    return false;
}

static bool may_connect(void *user, const struct address *to)
{
    return is_allowed(user, to);
}

static bool may_send(void *user, const struct address *to, bool is_new)
{
    struct client_call *call = user;

    if (!is_allowed(call,
                    to)) /* a pooled connection may have been opened with another provider's permission */
        return false;
    if (is_new && call->site->name)
        resolver_prefer(call->client->resolver, call->site->name, to);
    call->timing.was_sent = true;
    call->timing.is_reused = !is_new;
    call->timing.connected_us = after_start(call, mono_now());
    if (!is_new)
        bump(&call->client->stats.reused, 1);
    enter_phase(call, PHASE_SENDING, call->timing.connected_us);
    return true;
}

static void on_sent(void *user)
{
    struct client_call *call = user;

    if (call->phase != PHASE_SENDING)
        return;
    call->timing.sent_us = after_start(call, mono_now());
    enter_phase(call, PHASE_WAITING, call->timing.sent_us);
}

static void on_head(void *user, const struct client_headers *h)
{
    struct client_call *call = user;

    on_sent(call); /* an answer before the end of the request ends the request */
    call->cb->on_headers(call->user, h);
}

static enum transfer_verdict on_bytes(void *user, struct span bytes)
{
    struct client_call *call = user;

    if (call->phase != PHASE_STREAMING) {
        call->timing.first_byte_us = after_start(call, mono_now());
        enter_phase(call, PHASE_STREAMING, call->timing.first_byte_us);
    }
    call->since_us = after_start(call, loop_now(call->client->loop));
    call->is_paused = false;
    if (call->cb->on_body(call->user, bytes))
        return TRANSFER_GO_ON;
    call->is_paused = true;
    return TRANSFER_PAUSE;
}

/* What the other side sent may stand in the text. */
static void quote(struct err *err, enum err_code code, const char *text)
{
    (void)err_set(err, code, "%s", text);
    for (char *p = err->text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
}

static void on_end(void *user, enum err_code code, const char *detail)
{
    struct client_call *call = user;

    if (code && call->was_blocked && !call->timing.was_sent)
        (void)err_set(&call->err, code = ERR_UP_BLOCKED, "'%s' resolves to an address that is not public",
                      call->site->host);
    else if (code)
        quote(&call->err, code, detail);
    finish(call, code);
}

/* ---- life of a call ---- */

static void free_call(struct client_call *call)
{
    transfer_free(call->transfer);
    free(call);
}

static void recycle(void *user)
{
    struct client_call *call = user;
    struct client *c = call->client;

    call->phase = PHASE_IDLE;
    if (!call->site || !call->transfer || c->n_spare >= LIMIT_UPSTREAM_SPARE) {
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

static void unqueue(struct client_call *call)
{
    struct client *c = call->client;
    struct client_call **at = &c->queue;

    while (*at != call)
        at = &(*at)->next;
    *at = call->next;
    if (c->queue_end == &call->next)
        c->queue_end = at;
}

/* Out of all lists and timers of this module. */
static void retire(struct client_call *call)
{
    if (call->phase == PHASE_QUEUED)
        unqueue(call);
    resolver_wait_cancel(&call->wait);
    loop_timer_cancel(call->client->loop, &call->timer);
    unlink_active(call);
    call->phase = PHASE_ENDED;
}

static void finish(struct client_call *call, enum err_code code)
{
    bool is_out = !call->transfer || transfer_stop(call->transfer);

    assert(is_out); /* calls end from the loop's callbacks, never inside the transfer's */
    (void)is_out;
    retire(call);
    call->cb->on_done(call->user, code, code ? call->err.text : "");
    recycle(call);
}

void client_cancel(struct client_call *call)
{
    if (call->phase == PHASE_ENDED)
        return;
    assert(call->phase != PHASE_IDLE);
    bump(&call->client->stats.cancelled, 1);
    retire(call);
    if (!call->transfer || transfer_stop(call->transfer))
        recycle(call);
}

void client_resume(struct client_call *call)
{
    if (call->phase != PHASE_STREAMING)
        return;
    call->is_paused = false;
    call->since_us = after_start(call, loop_now(call->client->loop));
    rearm(call);
    transfer_resume(call->transfer);
}

struct client_timing client_call_timing(const struct client_call *call)
{
    return call->timing;
}

bool client_call_is_body_out(const struct client_call *call)
{
    return call->phase == PHASE_STREAMING && transfer_is_body_out(call->transfer);
}

/* ---- starting ---- */

static enum err_code load_addresses(struct client_call *call)
{
    struct site *site = call->site;
    const struct resolver_answer *a = resolver_answer(site->name);
    bool has_allowed = call->allow_private;

    for (unsigned i = 0; i < a->n && !has_allowed; i++)
        has_allowed = address_is_public(&a->addresses[i]);
    if (!has_allowed)
        return err_set(&call->err, ERR_UP_BLOCKED, "'%s' resolves to an address that is not public",
                       site->host);
    if (site->generation != resolver_generation(site->name))
        origin_set_addresses(site->origin, a->addresses, a->n);
    site->generation = resolver_generation(site->name);
    return ERR_OK;
}

static void launch(struct client_call *call)
{
    enum err_code e = call->site->name ? load_addresses(call) : ERR_OK;

    call->phase = PHASE_CONNECTING; /* its deadline runs since the start */
    if (!e)
        e = transfer_start(call->transfer);
    if (e)
        finish(call, e);
}

static void fail_resolving(struct client_call *call)
{
    const char *why = resolver_answer(call->site->name)->why;

    finish(call, err_set(&call->err, ERR_UP_DNS, "'%s': %s", call->site->host, why));
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
    if (call->verdict) {
        finish(call, call->verdict);
        return;
    }
    if (call->site->name)
        state = resolver_ask(call->client->resolver, call->site->name, &call->wait);
    if (state == RESOLVER_KNOWN)
        launch(call);
    else if (state == RESOLVER_FAILED)
        fail_resolving(call);
}

static void run_task(struct loop_task *t)
{
    struct client *c = CONTAINER_OF(t, struct client, task);

    while (c->queue) {
        struct client_call *call = c->queue;

        c->queue = call->next;
        if (!c->queue)
            c->queue_end = &c->queue;
        begin(call);
    }
}

static struct client_call *take_call(struct client *c, struct site *site)
{
    struct client_call *call = site ? site->pool : NULL;

    if (call) {
        site->pool = call->next;
        c->n_spare--;
        return call;
    }
    call = calloc(1, sizeof(*call));
    if (!call) {
        log_error("http client: out of memory");
        abort(); /* a call is promised, and there is no call to say it through */
    }
    call->client = c;
    call->site = site;
    call->timer.fn = on_call_timer;
    call->wait.fn = on_resolved;
    call->transfer = site ? transfer_new(c->transfers, call) : NULL;
    return call;
}

static void reset(struct client_call *call, const struct client_request *rq)
{
    call->cb = rq->cb;
    call->user = rq->user;
    call->is_paused = call->was_blocked = false;
    call->allow_private = rq->allow_private;
    call->verdict = ERR_OK;
    call->timeouts = rq->timeouts;
    call->started = mono_now();
    call->uploaded = 0;
    call->timing = (struct client_timing){.connected_us = -1, .sent_us = -1, .first_byte_us = -1};
    call->err.text[0] = '\0';
}

static enum err_code prepare(struct client_call *call, const struct client_request *rq,
                             const struct place *to)
{
    if (!call->site)
        return err_set(&call->err, ERR_CONFIG, "the URL is not acceptable");
    if (!call->transfer)
        return err_set(&call->err, ERR_NO_MEMORY, "out of memory");
    return transfer_set(call->transfer,
                        &(struct transfer_request){
                            .method = rq->method,
                            .to = call->site->origin,
                            .authority = to->authority,
                            .target = to->target,
                            .header_lines = rq->header_lines ? buf_span(rq->header_lines) : (struct span){0},
                            .body = rq->body,
                        },
                        &call->err);
}

struct client_call *client_start(struct client *c, const struct client_request *rq)
{
    struct place to;
    struct client_call *call = take_call(c, parse_url(rq->url, &to) ? site_of(c, &to) : NULL);

    reset(call, rq);
    call->verdict = prepare(call, rq, &to);
    link_active(call);
    enter_phase(call, PHASE_QUEUED, 0);
    call->next = NULL;
    *c->queue_end = call;
    c->queue_end = &call->next;
    loop_defer(c->loop, &c->task);
    return call;
}

/* ---- the client ---- */

static const struct transfer_ops OPS = {
    .may_connect = may_connect,
    .may_send = may_send,
    .on_sent = on_sent,
    .on_head = on_head,
    .on_bytes = on_bytes,
    .on_end = on_end,
    .on_stopped = recycle,
};

void client_global_init(void)
{
    surroundings_clear();
}

struct client *client_new(struct loop *l, struct mailbox *m, const char *ca_file, struct err *err)
{
    struct client *c = calloc(1, sizeof(*c));

    if (!c) {
        (void)err_set(err, ERR_NO_MEMORY, "http client: out of memory");
        return NULL;
    }
    c->loop = l;
    c->mailbox = m;
    c->queue_end = &c->queue;
    c->task.fn = run_task;
    c->resolver = resolver_new(l, m, NULL, err);
    c->transfers = c->resolver ? transfers_new(l, &OPS, ca_file, err) : NULL;
    if (!c->transfers) {
        client_free(c);
        return NULL;
    }
    return c;
}

void client_set_lookup(struct client *c, resolver_lookup_fn lookup)
{
    resolver_set_lookup(c->resolver, lookup);
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
    while (c->newest)
        client_cancel(c->newest);
    loop_defer_cancel(c->loop, &c->task);
    free_sites(c);
    transfers_free(c->transfers);
    resolver_free(c->resolver);
    free(c);
}

struct client_stats client_stats_mt(const struct client *c)
{
    return (struct client_stats){
        .cancelled = atomic_load_explicit(&c->stats.cancelled, memory_order_relaxed),
        .reused = atomic_load_explicit(&c->stats.reused, memory_order_relaxed),
        .in_flight = atomic_load_explicit(&c->stats.in_flight, memory_order_relaxed),
        .dns_lookups = resolver_stats_mt(c->resolver).lookups,
    };
}
