/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 transfers on libcurl, and nothing else of libcurl: with libshared/api/client the only user of it.
 * The client above decides what a transfer means; here is what the library needs, and what it must be kept
 * from doing.
 *
 * A transfer is reused: set, start, (pause, resume), and it ends by on_end or by transfer_stop(). Functions
 * of `transfer_ops` marked "inside" run inside libcurl: they may start, stop and resume any transfer, but
 * must not free one. */
#ifndef HTTP_TRANSFER_H
#define HTTP_TRANSFER_H

#include "gatewayd/core/loop.h"
#include "gatewayd/http/address.h"

struct transfers;
struct transfer;

enum transfer_verdict { TRANSFER_GO_ON, TRANSFER_PAUSE, TRANSFER_ABORT };

struct transfer_ops {
    /* inside: may a socket to this address be opened? */
    bool (*may_connect)(void *user, const struct address *to);
    /* inside: the connection stands (`is_new`: opened for this transfer), the request goes out next. Called
     * again when libcurl would send the request a second time. False aborts before anything is sent. */
    bool (*may_send)(void *user, const struct address *to, bool is_new);
    void (*on_sent)(void *user);                                      /* inside: the whole request left us */
    bool (*on_line)(void *user, struct span line);                    /* inside: a header line with its end */
    enum transfer_verdict (*on_bytes)(void *user, struct span bytes); /* inside; PAUSE: they come again */
    /* The transfer is over; `detail` may quote the other side. After an abort from one of the above, any code
     * but OK. */
    void (*on_end)(void *user, enum err_code code, const char *detail);
    /* A transfer that was stopped inside libcurl is out now and may be freed or used again. */
    void (*on_stopped)(void *user);
};

struct transfer_request {
    const char *method; /* "POST" or "GET" */
    const char *url;
    struct span header_lines; /* see header_lines.h; copied */
    /* Borrowed until transfer_is_body_out(), the end, or transfer_stop() outside of libcurl. */
    struct span body;
    bool is_stream;     /* small events are expected */
    int64_t connect_us; /* divided between the addresses of a name */
};

void transfer_global_init(void);
/* `ca_file`: NULL or empty for the system's. */
struct transfers *transfers_new(struct loop *l, const struct transfer_ops *ops, const char *ca_file,
                                struct err *err);
/* No transfer may be running. Transfers are freed before. */
void transfers_free(struct transfers *ts);

struct transfer *transfer_new(struct transfers *ts, void *user); /* NULL: out of memory */
void transfer_free(struct transfer *t);
/* Lines are checked byte by byte. */
NODISCARD enum err_code transfer_set(struct transfer *t, const struct transfer_request *rq, struct err *err);
/* "host:port:address,address": what the name means from now on, for all transfers. Given to each transfer
 * until one connected. */
NODISCARD enum err_code transfer_set_addresses(struct transfer *t, struct span text);
/* Not inside libcurl. Goes out at the end of this turn. */
NODISCARD enum err_code transfer_start(struct transfer *t);
/* At the end of this turn. */
void transfer_resume(struct transfer *t);
/* Takes the transfer out; an unfinished one loses its connection. True: done. False (inside libcurl):
 * on_stopped follows, nothing else. */
bool transfer_stop(struct transfer *t);
int64_t transfer_uploaded(const struct transfer *t);
/* libcurl has no more use for the request's body. Of a transfer that runs and has been sent. */
bool transfer_is_body_out(const struct transfer *t);

#endif
