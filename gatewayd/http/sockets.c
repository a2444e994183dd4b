/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/http/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct sock {
    struct loop_watch watch;
    struct sockets *all;
    void *user;
    uint32_t wanted, registered;
    bool is_pooled;
};

enum err_code sockets_init(struct sockets *s, struct loop *l, sockets_fn fn)
{
    int pair[2];

    *s = (struct sockets){.loop = l, .fn = fn, .ended_fd = -1};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return ERR_IO;
    (void)close(pair[1]);
    s->ended_fd = pair[0];
    return ERR_OK;
}

static void set_events(struct sock *s, uint32_t events)
{
    struct loop *l = s->all->loop;

    if (events == s->registered)
        return;
    if (!events)
        loop_unwatch(l, &s->watch);
    else if ((s->registered ? loop_rewatch(l, &s->watch, events) : loop_watch(l, &s->watch, events)) !=
             ERR_OK)
        return; /* whoever wants it runs into a deadline */
    s->registered = events;
}

static bool is_quiet(int fd)
{
    char c;

    return recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

static void on_event(struct loop_watch *w, uint32_t events)
{
    struct sock *s = CONTAINER_OF(w, struct sock, watch);

    if (!s->wanted) {
        if (s->is_pooled && is_quiet(w->fd))
            return; /* what the event meant was read by the last transfer, in this turn */
        set_events(s, 0);
        if (s->is_pooled)
            (void)dup3(s->all->ended_fd, w->fd, O_CLOEXEC); /* which also closes the connection */
        return;
    }
    if (events & (EPOLLHUP | EPOLLERR))
        events |= s->wanted;
    s->all->fn(s->user, w->fd, events);
}

static struct sock *sock_at(struct sockets *all, int fd)
{
    size_t at = (size_t)fd;

    if (at >= all->n) {
        size_t n = all->n ? all->n : 64;
        struct sock **grown;

        while (n <= at)
            n *= 2;
        grown = realloc(all->at, n * sizeof(struct sock *));
        if (!grown)
            return NULL;
        memset(grown + all->n, 0, (n - all->n) * sizeof(struct sock *));
        all->at = grown;
        all->n = n;
    }
    if (!all->at[at])
        all->at[at] = calloc(1, sizeof(struct sock));
    if (all->at[at]) {
        all->at[at]->all = all;
        all->at[at]->watch.fd = fd;
        all->at[at]->watch.fn = on_event;
    }
    return all->at[at];
}

void sockets_want(struct sockets *all, int fd, uint32_t events, void *user)
{
    struct sock *s = sock_at(all, fd);

    if (!s)
        return; /* as above: a deadline ends it */
    s->user = user;
    s->wanted = events;
    s->is_pooled = false;
    set_events(s, events | (s->registered & EPOLLIN));
}

void sockets_pool(struct sockets *all, int fd)
{
    struct sock *s = sock_at(all, fd);

    if (!s)
        return;
    s->wanted = 0;
    s->is_pooled = true;
    set_events(s, EPOLLIN);
}

void sockets_forget(struct sockets *all, int fd)
{
    struct sock *s = (size_t)fd < all->n ? all->at[fd] : NULL;

    if (!s)
        return;
    s->wanted = 0;
    s->is_pooled = false;
    set_events(s, 0);
}

void sockets_release(struct sockets *all)
{
    for (size_t i = 0; i < all->n; i++) {
        sockets_forget(all, (int)i);
        free(all->at[i]);
    }
    free(all->at);
    if (all->ended_fd >= 0)
        (void)close(all->ended_fd);
    *all = (struct sockets){.ended_fd = -1};
}
