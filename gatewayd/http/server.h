/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server: the only user of libmicrohttpd. One server runs inside one loop; a listening socket is handed to
 * it. An exchange is one request and its answer. All calls are made on the loop's thread.
 *
 *   on_head(ex)    headers are in and passed the guard; choose: exchange_refuse() at once (before any body and before
 *                  100 Continue), or return and get the body.
 *   on_request(ex) the body is complete. Answer now, or later from any callback of the loop.
 *   on_gone(ex)    the client closed or was cut before the answer was complete. Answering is pointless from now on but
 *                  harmless. Called at most once.
 *   on_end(ex)     the exchange is over, its memory goes away. Called exactly once for each on_head.
 *
 * A stream is pulled: exchange_stream_write() queues, exchange_queued() says how much waits, on_drain(ex) is called
 * when the queue falls below LIMIT_STREAM_LOW after having been above it. */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include "gatewayd/config/config.h"
#include "gatewayd/core/loop.h"
#include "libshared/base/buf.h"

struct server;
struct exchange;

struct server_handler { /* of the server: decides in on_head who takes the exchange, by exchange_adopt() */
    void (*on_head)(struct exchange *ex, void *server_user);
    /* A request that the guard refused, for the books: there is no exchange. */
    void (*on_refused)(void *server_user, uint16_t status);
};

struct exchange_ops { /* of whoever took the exchange; NULL slots are skipped */
    void (*on_request)(struct exchange *ex);
    void (*on_drain)(struct exchange *ex);
    void (*on_gone)(struct exchange *ex);
    void (*on_end)(struct exchange *ex);
};

struct server_options {
    int listen_fd;                  /* owned by the server from now on */
    bool is_unix;                   /* peers of our own uid need no token */
    const char *tls_cert, *tls_key; /* file paths or NULL */
    unsigned max_connections, max_connections_per_ip;
    size_t max_body;
    int64_t header_time_us, body_time_us, keepalive_us, write_stall_us;
    const struct server_handler *handler;
    void *user;
};

struct server_stats {
    uint64_t open, refused_connections, guard_refusals; /* since the start, but for `open` */
    uint64_t pauses; /* times that it listened to nobody for 10 ms, because a connection spins */
};

struct server *server_new(struct loop *l, const struct server_options *o, struct err *err);
/* Closes the listening socket; open exchanges go on, idle connections are closed and no answer keeps its connection. */
void server_quiesce(struct server *s);
/* Number of exchanges between on_head and on_end. */
size_t server_exchanges(const struct server *s);
/* Cuts what is left, stops, frees. Requires the loop to be still alive. */
void server_free(struct server *s);
struct server_stats server_stats_mt(const struct server *s);

/* The request */
struct span exchange_method(const struct exchange *ex);
struct span exchange_path(const struct exchange *ex);  /* raw, guard-checked, before '?' */
struct span exchange_query(const struct exchange *ex); /* likewise, behind it */
/* First header of that name, case-insensitive; empty span with p == NULL when absent. Borrowed until on_end. */
struct span exchange_header(const struct exchange *ex, const char *name);
/* Complete from on_request on; borrowed until on_end or drop. */
struct span exchange_body(const struct exchange *ex);
void exchange_drop_body(
    struct exchange *ex); /* gives its memory back; exchange_bytes_in() keeps counting it */
uint64_t exchange_bytes_in(const struct exchange *ex);
uint64_t exchange_announced(const struct exchange *ex);     /* Content-Length; 0 when there is none */
bool exchange_is_body_too_large(const struct exchange *ex); /* it was dropped; answer with ERR_TOO_LARGE */
const void *exchange_peer(const struct exchange *ex);       /* struct sockaddr * */
bool exchange_is_local_peer(const struct exchange *ex);     /* over the unix socket, same uid */
bool exchange_is_gone(const struct exchange *ex);
bool exchange_accepts_trailers(const struct exchange *ex); /* TE: trailers, HTTP/1.1 */
struct mono exchange_started(const struct exchange *ex);
void exchange_adopt(struct exchange *ex, const struct exchange_ops *ops, void *user); /* `ops` is static */
void *exchange_user(const struct exchange *ex);
/* Memory that lives from on_head to on_end. */
struct arena *exchange_arena(struct exchange *ex);

/* The answer. Header values are checked (no CR, LF, NUL, control bytes): a bad one is replaced byte by byte with '?'. */
void exchange_set_header(struct exchange *ex, const char *name, struct span value);
/* Whole answer. In on_head it refuses: a small body that was announced is read and dropped first, a large one is not
 * read and the connection closes. `body` is taken and the source emptied. */
void exchange_reply_adopt(struct exchange *ex, int status, struct buf *body);
void exchange_stream_begin(struct exchange *ex, int status);
NODISCARD enum err_code exchange_stream_write(struct exchange *ex, struct span bytes);
size_t exchange_queued(const struct exchange *ex);
void exchange_stream_trailer(struct exchange *ex, const char *name, struct span value); /* before the end */
void exchange_stream_end(struct exchange *ex);
void exchange_cut(
    struct exchange *ex); /* closes the connection without a clean end; the only end after on_gone */
uint64_t exchange_bytes_out(const struct exchange *ex); /* body bytes queued so far */

#endif
