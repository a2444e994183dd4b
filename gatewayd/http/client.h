/* SPDX-License-Identifier: Apache-2.0 */
/* Outgoing HTTP of requests. One client per loop: its connections are pooled, its names and TLS sessions are kept. A call is
 * one attempt: exactly one request on the wire, nothing is ever sent again.
 *
 * Names are resolved by threads of our own and cached, so neither the loop nor the removal of a transfer ever
 * waits for DNS. Deadlines are our own timers:
 *   connect     name, TCP, TLS                                    ERR_UP_TIMEOUT (while the name is missing: ERR_UP_DNS)
 *   first byte  request sent to first byte of the answer's body   ERR_UP_TIMEOUT
 *   idle        between two chunks; not while paused by us        ERR_UP_IDLE (while the request is sent: ERR_UP_TIMEOUT)
 *   total       client_start to the end                           ERR_UP_TIMEOUT
 *
 * Callbacks come on the loop's thread, never from inside a client_*() call of the caller. After on_done or
 * client_cancel() the call is gone. TLS peers are always verified.
 */
#ifndef HTTP_CLIENT_H
#define HTTP_CLIENT_H

#include "gatewayd/config/config.h"
#include "gatewayd/core/loop.h"
#include "gatewayd/core/mailbox.h"
#include "gatewayd/http/resolver.h"
#include "libshared/base/buf.h"

struct client;
struct client_call;

struct client_headers { /* of the answer; spans are borrowed for the callback only */
    int status;
    struct span content_type, content_encoding, retry_after, retry_after_ms, ratelimit_reset, should_retry,
        request_id;
    int64_t content_length; /* -1 when not said */
};

struct client_timing { /* microseconds after client_start; -1 when not reached */
    int64_t connected_us, sent_us, first_byte_us;
    bool is_reused; /* connection from the pool */
    /* The request may have reached the provider: to be journalled as an attempt that can cost. */
    bool was_sent;
};

struct client_callbacks {
    void (*on_headers)(void *user, const struct client_headers *h);
    /* Body bytes. Returning false pauses: the same bytes come again after client_resume(), perhaps cut
     * differently. */
    bool (*on_body)(void *user, struct span bytes);
    /* ERR_OK: the transfer ended cleanly as HTTP (not necessarily as a protocol). UP_… otherwise. */
    void (*on_done)(void *user, enum err_code code, const char *detail);
};

struct client_request {
    const char *method;             /* "POST" "GET" */
    const char *url;                /* from configuration only */
    const struct buf *header_lines; /* see header_lines.h; checked byte by byte, copied; NULL: none */
    struct span body;               /* borrowed until client_call_is_body_out(), on_done or client_cancel */
    struct config_timeouts timeouts;
    /* The URL's name may resolve to private addresses; literal ones and "localhost" always may. */
    bool allow_private;
    const struct client_callbacks *cb;
    void *user;
};

struct client_stats {
    uint64_t cancelled, reused, dns_lookups; /* since the start */
    uint64_t in_flight;
};

void client_global_init(
    void); /* once per process, before threads; clears proxy and key log environment, ignores SIGPIPE */
/* `ca_file`: certificates to trust, NULL or empty for the system's. */
struct client *client_new(struct loop *l, struct mailbox *m, const char *ca_file, struct err *err);
/* Cancels what is left. */
void client_free(struct client *c);
/* Always answers through on_done, also for early failures. Never NULL. */
struct client_call *client_start(struct client *c, const struct client_request *rq);
void client_resume(struct client_call *call);
/* The connection is closed (that is how a provider learns of it); no callback comes any more. Allowed from
 * any callback; from inside on_headers or on_body of this very call the request body must stay until the end of the
 * turn. */
void client_cancel(struct client_call *call);
/* Up to and inside on_done. */
struct client_timing client_call_timing(const struct client_call *call);
/* The request's body is not needed any more. */
bool client_call_is_body_out(const struct client_call *call);
struct client_stats client_stats_mt(const struct client *c);
/* For tests: replaces the system's resolver, before the first call. */
void client_set_lookup(struct client *c, resolver_lookup_fn lookup);

#endif
