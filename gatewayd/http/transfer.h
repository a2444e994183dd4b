/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 exchanges on links: one request is written, its answer is read, byte by byte accounted for. What a transfer means
 * and how long it may take is decided by the client above.
 *
 * A transfer is reused: set, start, (pause, resume), and it ends by on_end or by transfer_stop(). Functions of
 * `transfer_ops` marked "inside" may start, stop and resume any transfer, but must not free the one that they are called
 * for. Nothing is ever sent twice. */
#ifndef HTTP_TRANSFER_H
#define HTTP_TRANSFER_H

#include "gatewayd/http/answer_head.h"
#include "gatewayd/http/link.h"

struct transfers;
struct transfer;

enum transfer_verdict { TRANSFER_GO_ON, TRANSFER_PAUSE };

struct transfer_ops {
    /* A socket to this address is to be opened: may it? */
    bool (*may_connect)(void *user, const struct address *to);
    /* The connection stands (`is_new`: opened for this transfer), the request goes out next. False: not on this one. */
    bool (*may_send)(void *user, const struct address *to, bool is_new);
    void (*on_sent)(void *user);                                 /* the whole request left us, or need not */
    void (*on_head)(void *user, const struct client_headers *h); /* inside; borrowed for the call */
    enum transfer_verdict (*on_bytes)(void *user, struct span bytes); /* inside; PAUSE: they come again */
    /* The transfer is over; `detail` may quote the other side. */
    void (*on_end)(void *user, enum err_code code, const char *detail);
    /* A transfer that was stopped inside is out now and may be freed or used again. */
    void (*on_stopped)(void *user);
};

struct transfer_request {
    const char *method;       /* "POST" or "GET" */
    struct origin *to;        /* where it goes; */
    struct span authority;    /* as in the URL, for the Host line; */
    struct span target;       /* and what is asked for there: path and query */
    struct span header_lines; /* see header_lines.h; copied */
    /* Borrowed until transfer_is_body_out(), the end, or transfer_stop(). */
    struct span body;
};

/* `ca_file`: NULL or empty for the system's. */
struct transfers *transfers_new(struct loop *l, const struct transfer_ops *ops, const char *ca_file,
                                struct err *err);
/* No transfer may be running. Transfers are freed before. */
void transfers_free(struct transfers *ts);
struct links *transfers_links(struct transfers *ts);

struct transfer *transfer_new(struct transfers *ts, void *user); /* NULL: out of memory */
void transfer_free(struct transfer *t);
/* Lines and target are checked byte by byte. */
NODISCARD enum err_code transfer_set(struct transfer *t, const struct transfer_request *rq, struct err *err);
/* Sends at once on a pooled connection; may call may_send, on_sent and on_end. */
NODISCARD enum err_code transfer_start(struct transfer *t);
/* At the end of this turn. */
void transfer_resume(struct transfer *t);
/* Takes the transfer out; an unfinished one loses its connection. True: done. False (inside, and it is this one):
 * on_stopped follows, nothing else. */
bool transfer_stop(struct transfer *t);
/* Bytes of the request that were taken from us. */
int64_t transfer_uploaded(const struct transfer *t);
/* There is no more use for the request's body. Of a transfer that runs and has been sent. */
bool transfer_is_body_out(const struct transfer *t);

#endif
