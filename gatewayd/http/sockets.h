/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets that libcurl opens, pools, closes and wants watched, by descriptor number.
 *
 * Epoll registrations are lazy: EPOLLIN stays registered while a connection is pooled, so that a request on it costs no
 * epoll_ctl. It also tells when a pooled connection is no good any more: whatever arrives there is a close, or the other
 * side out of step. libcurl would take the close alert of TLS for a sign of life, send the next request and lose it, so
 * the descriptor is replaced, there and then, by one that reads end of file. */
#ifndef HTTP_SOCKETS_H
#define HTTP_SOCKETS_H

#include "gatewayd/core/loop.h"

/* `events` as epoll has them; an error or hang-up also shows as whatever was wanted. */
typedef void (*sockets_fn)(void *user, int fd, uint32_t events);

struct sock;
struct sockets {
    struct loop *loop;
    sockets_fn fn;
    struct sock **at; /* by number, kept for the next connection with that number */
    size_t n;
    int ended_fd; /* reads end of file */
};

NODISCARD enum err_code sockets_init(struct sockets *s, struct loop *l, sockets_fn fn);
void sockets_release(struct sockets *s);
/* EPOLLIN, EPOLLOUT, both, or nothing for now. */
void sockets_want(struct sockets *s, int fd, uint32_t events, void *user);
/* The connection is done with, and open. */
void sockets_pool(struct sockets *s, int fd);
/* Before the descriptor is closed, and after it was opened. */
void sockets_forget(struct sockets *s, int fd);

#endif
