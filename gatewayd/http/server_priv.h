/* SPDX-License-Identifier: Apache-2.0 */
/* What server.c (connections, libmicrohttpd's callbacks) and exchange.c (requests and answers) share. The home of
 * microhttpd.h: nothing else includes it. */
#ifndef HTTP_SERVER_PRIV_H
#define HTTP_SERVER_PRIV_H

#include "gatewayd/http/server.h"

#include <microhttpd.h>

#include "gatewayd/http/guard.h"

enum phase {
    PHASE_IDLE,   /* no request; keep-alive deadline */
    PHASE_HEADER, /* request line or headers arriving */
    PHASE_BODY,   /* body arriving */
    PHASE_WORK,   /* with the handler */
    PHASE_WRITE,  /* whole answer queued */
    PHASE_STREAM, /* streaming */
};

struct header {
    const char *name;
    struct span value;
};

struct exchange {
    struct arena arena;
    struct span method, target;
    struct guard_header *headers;
    size_t n_headers;
    struct guard_verdict verdict;
    struct buf body;
    struct mono started;
    const struct exchange_ops *ops;
    void *user;
    struct header *out_headers;
    unsigned n_out_headers;
    struct MHD_Response *response; /* a reference of our own until the end: trailers are added late */
    unsigned status;
    struct buf out; /* streaming queue: sent | queued at out_at */
    size_t out_at;
    uint64_t bytes_out, dropped_in;
    bool has_begun;    /* on_head was called, on_end is owed */
    bool body_too_big; /* the rest is dropped */
    bool is_answered;
    bool is_queued; /* libmicrohttpd owns the response */
    bool is_streaming, is_ended, is_cut;
    bool was_high;
    bool is_gone, gone_told;
    /* No keep-alive after this one: a chunked body's framing is read leniently by the library, so what stands behind
     * one is never taken for a request. */
    bool closes;
    bool expects_continue;
    bool is_http11;
};

struct conn {
    struct server *server;
    struct MHD_Connection *mhd;
    struct loop_watch fin;
    struct timer timer;
    struct loop_task drain_task;
    enum phase phase;
    bool is_suspended;
    bool resume_wanted;
    struct conn *next_resume;
    struct conn *next, **link;
    struct mono last_read; /* when libmicrohttpd last took stream bytes */
    struct exchange ex;
};

struct server {
    struct loop *loop;
    struct loop_watch watch; /* the daemon's epoll descriptor */
    struct loop_hook hook;
    struct MHD_Daemon *daemon;
    struct server_options o;
    struct conn *conns;
    struct conn *resumes, **resumes_end;
    bool has_events;
    bool has_news;   /* libmicrohttpd called us in its last run */
    bool has_closed; /* and closed a connection */
    unsigned ration_left;
    struct mono ration_began;
    struct timer ration;
    bool is_quiesced;
    size_t n_exchanges;
    time_t date_at;
    char date[40];
    struct {
        _Atomic uint64_t open, refused_connections, guard_refusals, pauses;
    } stats;
};

/* server_turn.c: the daemon is run by the loop between these two. ERR_IO: its descriptor cannot be watched. */
enum err_code server_turns_begin(struct server *s);
void server_turns_end(struct server *s);
/* True when there was one. */
bool server_resume_all(struct server *s);
/* The connection goes on at the end of this turn, if it waits. */
void conn_want_resume(struct conn *c);
void conn_drop_resume(struct conn *c); /* it does not */

/* The answer that reads the exchange's queue. */
struct MHD_Response *conn_make_stream(struct conn *c);
/* Its socket is watched for FIN from now on. */
void conn_watch_fin(struct conn *c);
/* Control bytes become '?', an empty value is dropped. */
void conn_add_header(struct MHD_Response *r, const char *name, struct span value, bool is_trailer);
/* Those that were set on the exchange, Date and Connection, on its response. */
void conn_add_headers(struct conn *c);

#endif
