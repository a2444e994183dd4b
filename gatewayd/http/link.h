/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to where requests go: opened to the first address that answers, with TLS where the origin asks for it, and pooled per
 * origin. What is said on them is transfer.c. One thread, its loop. */
#ifndef HTTP_LINK_H
#define HTTP_LINK_H

#include <sys/uio.h>

#include "gatewayd/core/loop.h"
#include "gatewayd/http/address.h"
#include "gatewayd/http/tls.h"

struct links;  /* all of a loop */
struct origin; /* scheme, host and port; lives as long as its links */
struct link;   /* one connection */

struct link_ops {
    /* A socket to this address is to be opened. */
    bool (*may_connect)(void *user, const struct address *to);
    void (*on_ready)(void *user);
    /* No address took it. The link is gone. Never from inside link_open(). */
    void (*on_failed)(void *user, enum err_code code, const char *detail);
    /* What was wanted may be possible. */
    void (*on_event)(void *user, uint32_t events);
};

/* `ca_file`: certificates to trust, NULL for the system's; read when the first connection needs it. */
struct links *links_new(struct loop *l, const struct link_ops *ops, const char *ca_file);
/* Closes what is pooled; no link may be in use. */
void links_free(struct links *ls);

/* `host` as in the URL; an IPv6 literal in brackets. NULL: out of memory, or no host. */
struct origin *origin_new(struct links *ls, bool is_tls, struct span host, uint16_t port);
/* What its name means from now on. A literal address and "localhost" know it themselves. */
void origin_set_addresses(struct origin *o, const struct address *a, unsigned n);
bool origin_is_tls(const struct origin *o);

/* A pooled connection, or NULL. */
struct link *link_take(struct origin *o, void *user);
/* on_ready or on_failed follows, in a later turn; the caller has a deadline of its own. NULL: out of memory. */
struct link *link_open(struct origin *o, void *user);
const struct address *link_address(const struct link *l);
/* EPOLLIN, EPOLLOUT, both, or nothing for now. */
void link_want(struct link *l, uint32_t events);
NODISCARD enum io link_read(struct link *l, char *dst, size_t cap, size_t *out_n);
/* Takes a part of the first piece at least. */
NODISCARD enum io link_write(struct link *l, const struct iovec *pieces, int n, size_t *out_n);
/* Bytes are here that no event will tell of. */
bool link_has_pending(const struct link *l);
const char *link_error(const struct link *l); /* after IO_ERROR */
/* The answer was read to its end and the next request may follow. */
void link_pool(struct link *l);
void link_close(struct link *l);

#endif
