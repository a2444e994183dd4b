/* SPDX-License-Identifier: Apache-2.0 */
/* A scripted provider for tests: a listening socket, a thread that accepts, a thread per connection that runs
 * the script. Scripts are plain blocking code; they end when the peer closes or the test stops the upstream.
 */
#ifndef TESTS_UPSTREAM_H
#define TESTS_UPSTREAM_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define UPSTREAM_CONNECTIONS 400

struct upstream;
struct peer {
    struct upstream *up;
    pthread_t thread;
    int fd;
    int number;           /* 0 for the first connection */
    int served;           /* requests read on this connection */
    char incoming[16384]; /* header and as much of the body as fits */
    char request[16384];  /* the last whole one; under the lock */
};

struct upstream {
    int fd;
    uint16_t port;
    pthread_t thread;
    void (*script)(struct peer *);
    struct peer *peers[UPSTREAM_CONNECTIONS];
    atomic_int connections, requests, closed_by_peer, ended;
    atomic_size_t body_bytes, sent_bytes;
    atomic_bool is_stopping;
    pthread_mutex_t lock; /* of the peers' descriptors and requests */
};

/* One whole request; false when the connection ended. */
static inline bool peer_read(struct peer *p)
{
    size_t len = 0, need = 0, have_body = 0;
    char *end = NULL;

    for (;;) {
        char drain[65536];
        bool fits = len < sizeof(p->incoming) - 1;
        ssize_t n = recv(p->fd, fits ? p->incoming + len : drain,
                         fits ? sizeof(p->incoming) - 1 - len : sizeof(drain), 0);

        if (n <= 0) {
            atomic_fetch_add(&p->up->closed_by_peer, 1);
            return false;
        }
        if (fits) {
            len += (size_t)n;
            p->incoming[len] = '\0';
        }
        if (end) {
            have_body += (size_t)n;
        } else if ((end = strstr(p->incoming, "\r\n\r\n")) != NULL) {
            const char *cl = strcasestr(p->incoming, "content-length:");

            need = cl ? strtoul(cl + 15, NULL, 10) : 0;
            have_body = len - (size_t)(end + 4 - p->incoming);
        }
        if (end && have_body >= need)
            break;
    }
    (void)pthread_mutex_lock(&p->up->lock);
    memcpy(p->request, p->incoming, len + 1);
    (void)pthread_mutex_unlock(&p->up->lock);
    p->served++;
    atomic_fetch_add(&p->up->body_bytes, have_body);
    atomic_fetch_add(&p->up->requests, 1);
    return true;
}

static inline bool peer_send(struct peer *p, const char *bytes, size_t len)
{
    while (len) {
        ssize_t n = send(p->fd, bytes, len, MSG_NOSIGNAL);

        if (n <= 0) {
            atomic_fetch_add(&p->up->closed_by_peer, 1);
            return false;
        }
        bytes += n;
        len -= (size_t)n;
        atomic_fetch_add(&p->up->sent_bytes, (size_t)n);
    }
    return true;
}

static inline bool peer_say(struct peer *p, const char *text)
{
    return peer_send(p, text, strlen(text));
}

/* Returns once the other side has closed. */
static inline void peer_wait_for_close(struct peer *p)
{
    char c[256];

    while (recv(p->fd, c, sizeof(c), 0) > 0)
        ;
    atomic_fetch_add(&p->up->closed_by_peer, 1);
}

static inline void peer_reset(struct peer *p)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};

    (void)setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
}

static inline void *upstream_serve(void *arg)
{
    struct peer *p = arg;

    p->up->script(p);
    (void)pthread_mutex_lock(&p->up->lock);
    close(p->fd);
    p->fd = -1;
    (void)pthread_mutex_unlock(&p->up->lock);
    atomic_fetch_add(&p->up->ended, 1);
    return NULL;
}

static inline void *upstream_accept(void *arg)
{
    struct upstream *up = arg;

    for (int n = 0; n < UPSTREAM_CONNECTIONS; n++) {
        int fd = accept4(up->fd, NULL, NULL, SOCK_CLOEXEC);
        struct peer *p;

        if (fd < 0 || atomic_load(&up->is_stopping)) {
            if (fd >= 0)
                close(fd);
            break;
        }
        p = calloc(1, sizeof(*p));
        p->up = up;
        p->fd = fd;
        p->number = n;
        up->peers[n] = p;
        atomic_fetch_add(&up->connections, 1);
        (void)pthread_create(&p->thread, NULL, upstream_serve, p);
    }
    return NULL;
}

static inline void upstream_start(struct upstream *up, void (*script)(struct peer *))
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);

    memset(up, 0, sizeof(*up));
    up->script = script;
    (void)pthread_mutex_init(&up->lock, NULL);
    up->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (up->fd < 0 || bind(up->fd, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(up->fd, 512) != 0 ||
        getsockname(up->fd, (struct sockaddr *)&a, &len) != 0)
        abort();
    up->port = ntohs(a.sin_port);
    (void)pthread_create(&up->thread, NULL, upstream_accept, up);
}

/* The client side must have closed its connections, or scripts that wait for it are shut down here. */
static inline void upstream_stop(struct upstream *up)
{
    atomic_store(&up->is_stopping, true);
    (void)shutdown(up->fd, SHUT_RDWR);
    (void)pthread_join(up->thread, NULL);
    close(up->fd);
    for (int i = 0; i < UPSTREAM_CONNECTIONS && up->peers[i]; i++) {
        (void)pthread_mutex_lock(&up->lock);
        if (up->peers[i]->fd >= 0)
            (void)shutdown(up->peers[i]->fd, SHUT_RDWR);
        (void)pthread_mutex_unlock(&up->lock);
        (void)pthread_join(up->peers[i]->thread, NULL);
        free(up->peers[i]);
    }
    (void)pthread_mutex_destroy(&up->lock);
}

/* What the n-th connection last asked for. */
static inline const char *upstream_request(struct upstream *up, int n)
{
    static char text[16384];

    (void)pthread_mutex_lock(&up->lock);
    memcpy(text, up->peers[n]->request, sizeof(text));
    (void)pthread_mutex_unlock(&up->lock);
    return text;
}

#endif
