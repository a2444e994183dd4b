/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps what this node has leased of limits that it shares with others through the realtime store: money, requests and tokens a
 * minute, slots. A thread of its own: it renews once a second, gives back what is not used, and asks at once when somebody
 * waits. Nothing of this exists where the realtime store is memory. */
#ifndef LIMITS_LIMITS_LEASE_H
#define LIMITS_LIMITS_LEASE_H

#include "gatewayd/limits/limits.h"
#include "libshared/store/kv.h"

#define LEASE_LIFE_US INT64_C(10000000)
#define LEASE_WAIT_US 250000 /* a request waits no longer for a lease */

struct limits_lease;

struct limits_lease_options {
    struct limits *limits;
    struct kv *kv;        /* taken */
    const char *instance; /* borrowed */
    int64_t life_us; /* 0: LEASE_LIFE_US; the store waits twice that longer before it gives it to others */
    /* Where the journals end now, and whether the realtime store has everything below such an end: 1, 0, or -1: it is not
     * reached. */
    void (*end)(void *user, struct watermark *out);
    int (*has)(void *user, const struct watermark *end);
    void *user;
};

struct limits_lease *limits_lease_start(const struct limits_lease_options *o, struct err *err);
/* Gives all back that is not held, and lets go of who waits. NULL is fine. */
void limits_lease_stop(struct limits_lease *s);
/* Until the store answered once, or did not; false: neither within `wait_us`. */
bool limits_lease_wait(struct limits_lease *s, int64_t wait_us);
void limits_lease_wake_mt(struct limits_lease *s);
double limits_lease_bound_usd_mt(struct limits_lease *s);

/* A request that waits. Answered after the next round, on the thread of the leases; it belongs to the callee then. */
struct limits_waiter {
    void (*answered)(struct limits_waiter *w);
    struct limits_waiter *next; /* private */
};
/* False: nobody keeps leases, nothing will come. `again`: it was answered before, which did not help. */
bool limits_lease_await_mt(struct limits *l, struct limits_waiter *w, bool again);

#endif
