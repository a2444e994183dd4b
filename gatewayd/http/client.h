/* SPDX-License-Identifier: Apache-2.0 */
/* Outgoing HTTP: with libshared/api/client the only user of libcurl. One client per loop (one curl multi, pooled easy handles, one TLS session
 * share). A call is one attempt: exactly one request on the wire, never a silent resend (a second PREREQ aborts).
 *
 * Names are resolved by threads of our own and cached, so neither the loop nor the removal of a transfer ever waits
 * for DNS. Deadlines are our own timers: connect, first byte, idle, total.
 *
 * Callbacks come on the loop's thread, never from inside a client_*() call of the caller. After on_done or
 * client_cancel() the call is gone; its handle returns to the pool on the next turn. */
#ifndef HTTP_CLIENT_H
#define HTTP_CLIENT_H

#include "gatewayd/config/config.h"
#include "gatewayd/core/loop.h"
#include "gatewayd/core/mailbox.h"
#include "libshared/base/buf.h"

struct client;
struct client_call;

struct client_headers { /* of the answer; spans are borrowed for the callback only */
    int status;
    struct span content_type, content_encoding, retry_after, retry_after_ms, ratelimit_reset, should_retry, request_id;
    int64_t content_length; /* -1 when not said */
};

struct client_timing { /* microseconds after client_start; -1 when not reached */
    int64_t connected_us, sent_us, first_byte_us;
    bool is_reused; /* connection from the pool */
    bool was_sent;  /* the request may have reached the provider: it must be journalled as an attempt that can cost */
};

struct client_callbacks {
    void (*on_headers)(void *user, const struct client_headers *h);
    /* Body bytes. Returning false pauses: the same bytes come again after client_resume(). */
    bool (*on_body)(void *user, struct span bytes);
    /* ERR_OK: the transfer ended cleanly as HTTP (not necessarily as a protocol). UP_… otherwise. */
    void (*on_done)(void *user, enum err_code code, const char *detail);
};

struct client_request {
    const char *method; /* "POST" "GET" */
    const char *url;    /* from configuration only */
    const struct buf *header_lines; /* "Name: value" closed by NUL, each; checked byte by byte */
    struct span body; /* borrowed until on_done or client_cancel */
    struct config_timeouts timeouts;
    bool allow_private;
    const struct client_callbacks *cb;
    void *user;
};

struct client_stats {
    uint64_t started, finished, cancelled, connects, reused, resends_refused, dns_lookups, dns_failures;
    uint64_t in_flight;
};

void client_global_init(void); /* once per process, before threads; also clears proxy and netrc environment */
struct client *client_new(struct loop *l, struct mailbox *m, struct err *err);
/* Cancels what is left. */
void client_free(struct client *c);
/* Always answers through on_done, also for early failures. Never NULL. */
struct client_call *client_start(struct client *c, const struct client_request *rq);
void client_resume(struct client_call *call);
/* The connection is closed (that is how a provider learns of it); no callback comes any more. Not from inside a callback
 * of the same call: there, return and cancel from the loop (loop_defer). */
void client_cancel(struct client_call *call);
struct client_timing client_call_timing(const struct client_call *call);
struct client_stats client_stats_mt(const struct client *c);

#endif
