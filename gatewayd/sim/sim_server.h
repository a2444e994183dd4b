/* SPDX-License-Identifier: Apache-2.0 */
/* What the simulator's process owns, and one connection. A connection that waits for its next request keeps
 * no buffers, and a stream keeps a position, not a text, so ten thousand slow ones are cheap.
 *
 *   READ_HEAD ──head──► READ_BODY ──body──► BUSY (a job plays) ──sim_conn_next()──► READ_HEAD
 *        └────────────────request is whole────────►┘   └──sim_conn_close() or _reset()──► CLOSED, buried next turn */
#ifndef SIM_SIM_SERVER_H
#define SIM_SIM_SERVER_H

#include "gatewayd/core/loop.h"
#include "gatewayd/sim/sim_truth.h"
#include "gatewayd/sim/sim_wire.h"

#define SIM_READ_BYTES  ((size_t)256 << 10) /* one read, shared by all connections */
#define SIM_AHEAD_BYTES ((size_t)64 << 10)  /* of later requests that are read while one is answered */
#define SIM_SEND_HIGH   ((size_t)64 << 10)  /* how far a stream is generated ahead of its reader */
#define SIM_BODY_MAX    ((size_t)256 << 20)
#define SIM_OUT_MAX     ((size_t)512 << 20) /* an answer or a stream that is dripped, rendered whole */

enum sim_phase { SIM_READ_HEAD, SIM_READ_BODY, SIM_BUSY, SIM_CLOSED };

struct sim_job;
struct sim_conn;

struct sim_server {
    struct loop *loop;
    uint64_t seed;
    struct sim_profiles *profiles;
    struct sim_truth *truth;
    struct loop_watch listener, signals;
    struct loop_hook turn_end;
    struct sim_conn *conns;
    uint64_t accepted, n_conns, incomplete, refused; /* refused: not HTTP as it should be */
    char *in;                                        /* SIM_READ_BYTES */
    struct buf out, frame;                           /* scratch of the moment */
};

struct sim_conn {
    struct loop_watch watch;
    struct timer timer;
    struct loop_task burial;
    struct sim_server *sv;
    struct sim_conn *next, **link;
    struct sim_job *job; /* only while BUSY; NULL for control answers */
    uint64_t id, body_left, sent;
    unsigned requests;
    enum sim_phase phase;
    struct sim_chunked chunked;
    bool is_feeding, waits_out, is_in_paused, is_chunked, wants_close, is_ending, is_broken;
    struct buf in;         /* a head that is not whole, or bytes of later requests */
    struct buf head, body; /* of a request whose body is still arriving */
    struct buf out;        /* sent | not yet */
    size_t out_at;
};

void sim_conn_accept(struct loop_watch *listener, uint32_t events);
/* Sends or queues. When the socket is dead it only notes that: the job learns it by sim_play_gone() later. */
void sim_conn_send(struct sim_conn *c, struct span bytes);
static inline size_t sim_conn_queued(const struct sim_conn *c)
{
    return c->out.len - c->out_at;
}
/* The answer is complete: on to the next request, or close when either side asked for it. */
void sim_conn_next(struct sim_conn *c);
void sim_conn_close(struct sim_conn *c);
void sim_conn_reset(struct sim_conn *c); /* RST */

/* sim_play.c: a request is whole; its spans are borrowed until this returns. */
void sim_play_begin(struct sim_conn *c, const struct sim_head *head, struct span head_bytes,
                    struct span body);
void sim_play_timer(struct timer *t);
void sim_play_drained(struct sim_conn *c); /* everything queued is sent */
void sim_play_gone(struct sim_conn *c);    /* the client closed, or a send failed */
void sim_play_stop(struct sim_conn *c);    /* the simulator ends */

/* sim_control.c: answers a request for /_sim/… */
struct sim_reply {
    int status;
    const char *content_type;
    struct buf body;
};
void sim_control(struct sim_server *sv, const struct sim_head *head, struct span body, struct sim_reply *out);

#endif
