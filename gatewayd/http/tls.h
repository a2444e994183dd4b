/* SPDX-License-Identifier: Apache-2.0 */
/* TLS on a descriptor that does not block, and nothing else of OpenSSL's libssl. Peers are always verified: chain, dates,
 * and the name or the literal address. TLS 1.2 at least. */
#ifndef HTTP_TLS_H
#define HTTP_TLS_H

#include <stdbool.h>

#include "libshared/base/err.h"
#include "libshared/base/span.h"

struct tls_context; /* of one thread: what is trusted */
struct tls;         /* of one connection */
/* What the last connection to a peer agreed on, so that the next one need not prove it all again. One per peer. */
struct tls_ticket {
    void *session;
};

enum io {
    IO_OK,
    IO_WANT_READ,
    IO_WANT_WRITE,
    IO_END,  /* the other side said that it ends */
    IO_CUT,  /* it ended without saying so */
    IO_ERROR /* see tls_error() */
};

/* `ca_file`: certificates to trust, NULL for those of the system. */
struct tls_context *tls_context_new(const char *ca_file, struct err *err);
void tls_context_free(struct tls_context *c);
/* `host` as in the URL, without brackets; `ticket` lives longer than the connection. NULL: out of memory. */
struct tls *tls_new(struct tls_context *c, int fd, const char *host, struct tls_ticket *ticket);
void tls_free(struct tls *t); /* says goodbye if that does not block; the descriptor stays */
void tls_ticket_release(struct tls_ticket *t);

NODISCARD enum io tls_handshake(struct tls *t);
NODISCARD enum io tls_read(struct tls *t, char *dst, size_t cap, size_t *out_n);
NODISCARD enum io tls_write(struct tls *t, struct span bytes, size_t *out_n);
/* Bytes that were received and are not read: no event will tell of them. */
bool tls_has_pending(const struct tls *t);
/* What went wrong, for people. */
const char *tls_error(const struct tls *t);

#endif
