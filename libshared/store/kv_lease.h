/* SPDX-License-Identifier: Apache-2.0 */
/* What several nodes share of a limit, in the realtime store: money, requests and tokens a minute, slots. One call is one
 * atomic step, and every call states what its node has, so that a lost answer or an emptied store is made good by the next.
 *
 *   {gw}:lease              epoch, clock, quiet and for each node "n:INSTANCE" = life, sequence, end of its session,
 *                           the epoch that it knew;
 *                           "w:KEY": somebody found no room there
 *   {gw}:bud:ACCOUNT:WINDOW posted, held (the journal's batches), leased = sum of all "l:INSTANCE" (outstanding), and for
 *                           each node "g:INSTANCE" = life, granted, last call that took nothing and kept nothing
 *   {gw}:lim:ACCOUNT:KIND   tat, and the instant of the last call, at (requests, tokens), or "c:INSTANCE" = life, slots
 *
 * The clock is milliseconds in which somebody called: each call moves it by the time since the last one, but by two seconds at
 * most. So nobody's session ends because the store stood still. What a node has ends with its session, that is when the
 * clock passed `ttl_ms + grace_ms` since its last call, or when another life of it calls. */
#ifndef STORE_KV_LEASE_H
#define STORE_KV_LEASE_H

#include "libshared/store/kv.h"

enum kv_lease_kind { KV_LEASE_MONEY, KV_LEASE_RATE, KV_LEASE_SLOTS, KV_LEASE_SWEEP, KV_LEASE_KINDS };

struct kv_lease_row {
    enum kv_lease_kind kind;
    const char *key;
    int64_t limit; /* nano-USD; a minute; slots */
    int64_t ttl_s;
    /* MONEY: all that was granted; SLOTS: slots that are had; RATE: used although not granted, negative: given back. */
    int64_t granted;
    int64_t posted, most; /* MONEY: the least that was posted, the most that can be outstanding */
    int64_t need,
        want; /* MONEY, SLOTS: another `granted`, at least and at most; RATE: units. MONEY: a need below `granted`
                             says that the node keeps more than is in use */
    /* answers */
    int64_t got;         /* MONEY, SLOTS: `granted` from now on; RATE: units */
    int64_t outstanding; /* MONEY */
    int64_t rest;        /* MONEY, SLOTS: free; RATE: units that fit now */
    int64_t others;      /* MONEY: outstanding elsewhere; RATE: microseconds until nothing is used */
    /* MONEY: how long ago the longest silent of the nodes that have `others` said that all of it is in use; 0: there are none. */
    int64_t silent_ms;
};

struct kv_lease_call {
    const char *instance;
    int64_t life;     /* of this process: another one's leases are over with the first call */
    int64_t sequence; /* must rise; one that comes late is ERR_CONFLICT and changes nothing */
    int64_t epoch;    /* last heard of; 0: none */
    int64_t ttl_ms, grace_ms;
    /* That must have called, knowing that the store was emptied, before it grants again; 0: it never had anything. */
    int64_t nodes;
    bool
        needs_books; /* grants money only while the store has this instance's watermark; never before it has begun */
    bool is_partial; /* not all that was leased was stated since `epoch` was heard of: more calls follow */
    struct kv_lease_row *rows;
    size_t n;
    /* answers */
    int64_t heard_epoch;
    int64_t heard_life,
        heard_sequence;  /* with ERR_CONFLICT: of the later call; else: of this life's call before */
    int64_t heard_nodes; /* with a session */
    int64_t dead;        /* sessions that are over and whose leases may be swept */
    bool is_quiet;       /* money is not granted */
    bool has_books;      /* it has begun, and the watermark is there or need not be */
    void (*wanted)(void *user, struct span key); /* may be NULL */
    void *user;
};

#define KV_LEASE_ROWS 256u /* of one call */

NODISCARD enum err_code kv_lease(struct kv *kv, struct kv_lease_call *c, struct err *err);
/* Extends the session of whatever life of this instance there is: a start that still posts what an earlier life settled. */
NODISCARD enum err_code kv_lease_keep(struct kv *kv, struct kv_lease_call *c, struct err *err);

#endif
