/* SPDX-License-Identifier: Apache-2.0 */
/* Runs on its loop's thread. A link is in use by one transfer, or idle in its origin's pool, youngest first.
 *
 *   CONNECTING ──► GREETING (TLS) ──► READY ⇄ IDLE
 *
 * EPOLLIN stays registered while a link is idle, so that a request on it costs no system call, and so that the other side's
 * going is seen at once: whatever arrives on an idle link is a close, or an answer to nobody, and ends it.
 *
 * An address that stays silent must not delay those after it for long: after LIMIT_UPSTREAM_STAGGER_US the next is dialled
 * beside it, and the first that answers wins. How long all of this may take is the user's to say, by link_close(). */
#include "gatewayd/http/link.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gatewayd/config/limits.h"
#include "libshared/base/clock.h"

#define ADDRESSES 16u

enum link_state { LINK_CONNECTING, LINK_GREETING, LINK_READY, LINK_IDLE };

struct dial { /* one address, while connecting */
    struct link *link;
    struct loop_watch watch;
    struct address to;
    int fd; /* -1: not running */
};

struct link {
    struct origin *origin;
    void *user;
    struct loop_watch watch;
    uint32_t registered;
    enum link_state state;
    int fd; /* -1: none */
    struct tls *tls;
    struct address address;
    struct mono opened, idle_since;
    struct timer timer; /* when the next address is dialled */
    struct dial *dials; /* NULL once one of them won; owned */
    unsigned n_dials, next_dial, n_running;
    struct link *next, **place; /* in the pool; the place is NULL while in use */
    int error;
};

struct origin {
    struct links *all;
    struct origin *next;
    struct link *idle;
    struct tls_ticket ticket;
    struct address addresses[ADDRESSES];
    unsigned n_addresses;
    uint16_t port;
    bool is_tls;
    char host[];
};

struct links {
    struct loop *loop;
    const struct link_ops *ops;
    struct origin *origins;
    struct timer sweep;
    unsigned n_idle;
    char *ca_file;
    struct tls_context *tls; /* made when first needed */
};

/* ---- watching ---- */

void link_want(struct link *l, uint32_t events)
{
    struct loop *loop = l->origin->all->loop;

    if (events == l->registered)
        return;
    if (!events)
        loop_unwatch(loop, &l->watch);
    else if ((l->registered ? loop_rewatch(loop, &l->watch, events) : loop_watch(loop, &l->watch, events)) !=
             ERR_OK)
        return; /* whoever wants it runs into a deadline */
    l->registered = events;
}

static void drop_socket(struct link *l)
{
    link_want(l, 0);
    tls_free(l->tls);
    l->tls = NULL;
    if (l->fd >= 0)
        (void)close(l->fd);
    l->fd = -1;
}

static void hang_up(struct link *l, struct dial *d)
{
    if (d->fd < 0)
        return;
    loop_unwatch(l->origin->all->loop, &d->watch);
    (void)close(d->fd);
    d->fd = -1;
    l->n_running--;
}

static void drop_dials(struct link *l)
{
    loop_timer_cancel(l->origin->all->loop, &l->timer);
    for (unsigned i = 0; i < l->next_dial; i++)
        hang_up(l, &l->dials[i]);
    free(l->dials);
    l->dials = NULL;
    l->next_dial = l->n_dials = 0;
}

static void leave_pool(struct link *l)
{
    if (!l->place)
        return;
    *l->place = l->next;
    if (l->next)
        l->next->place = l->place;
    l->place = NULL;
    l->origin->all->n_idle--;
}

void link_close(struct link *l)
{
    leave_pool(l);
    drop_socket(l);
    drop_dials(l);
    free(l);
}

static void fail(struct link *l, enum err_code code, const char *detail)
{
    void *user = l->user;
    const struct link_ops *ops = l->origin->all->ops;
    struct err kept = {0}; /* the text may be the link's own */

    (void)err_set(&kept, code, "%s", detail);
    link_close(l);
    ops->on_failed(user, code, kept.text);
}

/* ---- connecting ---- */

static socklen_t sockaddr_of(const struct address *a, uint16_t port, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (a->family == AF_INET) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)out;

        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        memcpy(&v4->sin_addr, a->bytes, 4);
        return sizeof(*v4);
    }
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    memcpy(&v6->sin6_addr, a->bytes, 16);
    return sizeof(*v6);
}

static void set_options(int fd)
{
    static const int ON = 1, SECONDS = 60;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &ON, sizeof(ON));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &ON, sizeof(ON));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &SECONDS, sizeof(SECONDS));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &SECONDS, sizeof(SECONDS));
}

static void on_dialled(struct loop_watch *w, uint32_t events);

static bool dial(struct link *l, struct dial *d)
{
    struct sockaddr_storage to;
    socklen_t len = sockaddr_of(&d->to, l->origin->port, &to);

    d->fd = socket(d->to.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (d->fd < 0) {
        l->error = errno;
        return false;
    }
    set_options(d->fd);
    l->n_running++;
    d->watch = (struct loop_watch){.fd = d->fd, .fn = on_dialled};
    if ((connect(d->fd, (struct sockaddr *)&to, len) == 0 || errno == EINPROGRESS) &&
        loop_watch(l->origin->all->loop, &d->watch, EPOLLOUT) == ERR_OK)
        return true;
    l->error = errno;
    hang_up(l, d);
    return false;
}

/* False: there is none left. */
static bool dial_next(struct link *l)
{
    struct links *ls = l->origin->all;

    while (l->next_dial < l->n_dials) {
        struct dial *d = &l->dials[l->next_dial++];

        if (!ls->ops->may_connect(l->user, &d->to) || !dial(l, d))
            continue;
        if (l->next_dial < l->n_dials)
            loop_timer(ls->loop, &l->timer, LIMIT_UPSTREAM_STAGGER_US);
        return true;
    }
    return false;
}

static void dial_or_fail(struct link *l)
{
    if (!dial_next(l) && !l->n_running)
        fail(l, ERR_UP_CONNECT, l->error ? strerrordesc_np(l->error) : "no address to connect to");
}

static void on_stagger(struct timer *t)
{
    dial_or_fail(CONTAINER_OF(t, struct link, timer));
}

static void become_ready(struct link *l)
{
    l->state = LINK_READY;
    link_want(l, EPOLLIN);
    l->origin->all->ops->on_ready(l->user);
}

/* What was agreed before may be what the other side cannot stand now. */
static void fail_greeting(struct link *l, const char *why)
{
    tls_ticket_release(&l->origin->ticket);
    fail(l, ERR_UP_TLS, why);
}

static void greet(struct link *l)
{
    switch (tls_handshake(l->tls)) {
    case IO_OK:
        become_ready(l);
        break;
    case IO_WANT_READ:
        link_want(l, EPOLLIN);
        break;
    case IO_WANT_WRITE:
        link_want(l, EPOLLOUT);
        break;
    case IO_END:
    case IO_CUT:
        fail_greeting(l, "the connection was closed within the TLS handshake");
        break;
    case IO_ERROR:
        fail_greeting(l, tls_error(l->tls));
        break;
    }
}

static void begin_greeting(struct link *l)
{
    struct links *ls = l->origin->all;
    struct err err = {0};
    char bare[256];
    struct span host = span_of(l->origin->host);

    if (host.p[0] == '[')
        host = span_make(host.p + 1, host.len - 2);
    (void)span_copy(bare, sizeof(bare), host);
    if (!ls->tls)
        ls->tls = tls_context_new(ls->ca_file, &err);
    l->tls = ls->tls ? tls_new(ls->tls, l->fd, bare, &l->origin->ticket) : NULL;
    l->state = LINK_GREETING;
    if (l->tls)
        greet(l);
    else
        fail(l, ERR_UP_TLS, err.code ? err.text : "TLS could not be set up for this name");
}

/* The socket moves from the dial to the link; another address would not do better. */
static void on_dialled(struct loop_watch *w, uint32_t events)
{
    struct dial *d = CONTAINER_OF(w, struct dial, watch);
    struct link *l = d->link;
    socklen_t len = sizeof(l->error);

    (void)events;
    if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &l->error, &len) < 0)
        l->error = errno;
    if (l->error) {
        hang_up(l, d);
        dial_or_fail(l);
        return;
    }
    loop_unwatch(l->origin->all->loop, w);
    l->fd = l->watch.fd = d->fd;
    l->address = d->to;
    d->fd = -1;
    drop_dials(l);
    if (l->origin->is_tls)
        begin_greeting(l);
    else
        become_ready(l);
}

/* Nothing but what TLS says to itself, such as a ticket. */
static bool is_quiet(struct link *l)
{
    size_t n;
    char c;

    if (l->tls)
        return tls_read(l->tls, &c, 1, &n) == IO_WANT_READ;
    return recv(l->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

static void on_watch(struct loop_watch *w, uint32_t events)
{
    struct link *l = CONTAINER_OF(w, struct link, watch);

    switch (l->state) {
    case LINK_CONNECTING: /* its dials are watched */
        break;
    case LINK_GREETING:
        greet(l);
        break;
    case LINK_READY:
        if (events & (EPOLLERR | EPOLLHUP))
            events |= l->registered; /* reading or writing says what it is */
        l->origin->all->ops->on_event(l->user, events);
        break;
    case LINK_IDLE:
        if (!is_quiet(l)) /* it may be about what the last transfer read, in this turn */
            link_close(l);
        break;
    }
}

static bool list_dials(struct link *l)
{
    const struct origin *o = l->origin;

    l->dials = calloc(o->n_addresses ? o->n_addresses : 1, sizeof(*l->dials));
    if (!l->dials)
        return false;
    l->n_dials = o->n_addresses;
    for (unsigned i = 0; i < l->n_dials; i++)
        l->dials[i] = (struct dial){.link = l, .to = o->addresses[i], .fd = -1};
    return true;
}

struct link *link_open(struct origin *o, void *user)
{
    struct link *l = calloc(1, sizeof(*l));

    if (!l)
        return NULL;
    *l = (struct link){.origin = o, .user = user, .fd = -1, .opened = mono_now()};
    l->watch.fn = on_watch;
    l->timer.fn = on_stagger;
    if (!list_dials(l)) {
        free(l);
        return NULL;
    }
    if (!dial_next(l)) /* said from the timer: whoever opens it is told later */
        loop_timer(o->all->loop, &l->timer, 0);
    return l;
}

/* ---- the pool ---- */

static bool is_aged(const struct link *l, struct mono now)
{
    return mono_diff_us(now, l->idle_since) > (int64_t)LIMIT_UPSTREAM_IDLE_S * 1000000 ||
           mono_diff_us(now, l->opened) > (int64_t)LIMIT_UPSTREAM_LIFE_S * 1000000;
}

struct link *link_take(struct origin *o, void *user)
{
    struct mono now = loop_now(o->all->loop);
    struct link *l;

    while ((l = o->idle)) {
        if (is_aged(l, now)) {
            link_close(l);
            continue;
        }
        leave_pool(l);
        l->user = user;
        l->state = LINK_READY;
        return l;
    }
    return NULL;
}

void link_pool(struct link *l)
{
    struct origin *o = l->origin;

    link_want(l, EPOLLIN);
    if (o->all->n_idle >= LIMIT_UPSTREAM_SPARE || l->registered != EPOLLIN ||
        (link_has_pending(l) && !is_quiet(l))) {
        link_close(l);
        return;
    }
    l->state = LINK_IDLE;
    l->idle_since = loop_now(o->all->loop);
    l->next = o->idle;
    if (l->next)
        l->next->place = &l->next;
    o->idle = l;
    l->place = &o->idle;
    o->all->n_idle++;
}

static void close_aged(struct origin *o, struct mono now)
{
    struct link *l = o->idle, *next;

    for (; l; l = next) {
        next = l->next;
        if (is_aged(l, now))
            link_close(l);
    }
}

static void on_sweep(struct timer *t)
{
    struct links *ls = CONTAINER_OF(t, struct links, sweep);

    for (struct origin *o = ls->origins; o; o = o->next)
        close_aged(o, loop_now(ls->loop));
    loop_timer(ls->loop, &ls->sweep, LIMIT_UPSTREAM_SWEEP_US);
}

/* ---- bytes ---- */

const struct address *link_address(const struct link *l)
{
    return &l->address;
}

enum io link_read(struct link *l, char *dst, size_t cap, size_t *out_n)
{
    ssize_t n;

    if (l->tls)
        return tls_read(l->tls, dst, cap, out_n);
    *out_n = 0;
    do
        n = recv(l->fd, dst, cap, 0);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        *out_n = (size_t)n;
        return IO_OK;
    }
    if (n == 0)
        return IO_END;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return IO_WANT_READ;
    l->error = errno;
    return IO_ERROR;
}

enum io link_write(struct link *l, const struct iovec *pieces, int n, size_t *out_n)
{
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)pieces, .msg_iovlen = (size_t)n};
    ssize_t sent;

    if (l->tls)
        return tls_write(l->tls, span_make(pieces[0].iov_base, pieces[0].iov_len), out_n);
    *out_n = 0;
    do
        sent = sendmsg(l->fd, &m, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        *out_n = (size_t)sent;
        return IO_OK;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return IO_WANT_WRITE;
    l->error = errno;
    return IO_ERROR;
}

bool link_has_pending(const struct link *l)
{
    return l->tls && tls_has_pending(l->tls);
}

const char *link_error(const struct link *l)
{
    if (l->tls)
        return tls_error(l->tls);
    return l->error ? strerrordesc_np(l->error) : "connection lost";
}

/* ---- origins ---- */

static void know_literal(struct origin *o)
{
    struct address a;

    if (address_parse(span_of(o->host), &a)) {
        origin_set_addresses(o, &a, 1);
    } else if (span_eq_nocase(span_of(o->host), SPAN_LIT("localhost"))) {
        struct address both[2];

        if (address_parse(SPAN_LIT("127.0.0.1"), &both[0]) && address_parse(SPAN_LIT("::1"), &both[1]))
            origin_set_addresses(o, both, 2);
    }
}

struct origin *origin_new(struct links *ls, bool is_tls, struct span host, uint16_t port)
{
    struct origin *o = host.len && host.len < 256 ? calloc(1, sizeof(*o) + host.len + 1) : NULL;

    if (!o)
        return NULL;
    o->all = ls;
    o->is_tls = is_tls;
    o->port = port;
    (void)span_copy(o->host, host.len + 1, host);
    know_literal(o);
    o->next = ls->origins;
    ls->origins = o;
    return o;
}

void origin_set_addresses(struct origin *o, const struct address *a, unsigned n)
{
    o->n_addresses = n < ADDRESSES ? n : ADDRESSES;
    memcpy(o->addresses, a, sizeof(*a) * o->n_addresses);
}

bool origin_is_tls(const struct origin *o)
{
    return o->is_tls;
}

/* ---- all of them ---- */

struct links *links_new(struct loop *l, const struct link_ops *ops, const char *ca_file)
{
    struct links *ls = calloc(1, sizeof(*ls));

    if (!ls)
        return NULL;
    ls->loop = l;
    ls->ops = ops;
    ls->ca_file = ca_file ? strdup(ca_file) : NULL;
    if (ca_file && !ls->ca_file) { /* none at all would mean the system's */
        free(ls);
        return NULL;
    }
    ls->sweep.fn = on_sweep;
    loop_timer(l, &ls->sweep, LIMIT_UPSTREAM_SWEEP_US);
    return ls;
}

void links_free(struct links *ls)
{
    if (!ls)
        return;
    loop_timer_cancel(ls->loop, &ls->sweep);
    while (ls->origins) {
        struct origin *o = ls->origins;

        ls->origins = o->next;
        while (o->idle)
            link_close(o->idle);
        tls_ticket_release(&o->ticket);
        free(o);
    }
    tls_context_free(ls->tls);
    free(ls->ca_file);
    free(ls);
}
