/* SPDX-License-Identifier: Apache-2.0 */
/* Names to addresses without ever waiting: a missing name is looked up by a detached thread of its own, and
 * the answer comes home through the mailbox. Known names are served from memory; after RESOLVER_FRESH_US they
 * are served stale while one thread asks again. One resolver per loop; names come from configuration, so
 * their number is bounded. */
#ifndef HTTP_RESOLVER_H
#define HTTP_RESOLVER_H

#include "gatewayd/core/mailbox.h"
#include "gatewayd/http/address.h"

#define RESOLVER_ADDRESSES 16
#define RESOLVER_NAME_MAX  253

struct resolver_answer {
    unsigned n; /* 0: failed, see `why` */
    struct address addresses[RESOLVER_ADDRESSES];
    char why[96];
};

/* Blocks; runs on a thread of its own. Replaced in tests. */
typedef void (*resolver_lookup_fn)(const char *name, struct resolver_answer *out);

struct resolver;
struct resolver_name; /* lives as long as its resolver */

enum resolver_state { RESOLVER_KNOWN, RESOLVER_WAIT, RESOLVER_FAILED };

struct resolver_wait {                  /* embedded in whoever waits */
    struct resolver_wait *next, **link; /* private; link is NULL while not waiting */
    void (*fn)(struct resolver_wait *,
               enum resolver_state); /* KNOWN or FAILED; never from inside resolver_ask() */
};

struct resolver_stats {
    uint64_t lookups, failures;
};

struct resolver *resolver_new(struct loop *l, struct mailbox *m, resolver_lookup_fn lookup, struct err *err);
/* Running lookups are left to end by themselves. Waiters must have been cancelled. */
void resolver_free(struct resolver *r);
/* Finds or creates; NULL when the name is too long, too strange or one too many. */
struct resolver_name *resolver_name(struct resolver *r, struct span name);
/* KNOWN and FAILED answer at once; WAIT calls `w->fn` later, once. */
enum resolver_state resolver_ask(struct resolver *r, struct resolver_name *n, struct resolver_wait *w);
void resolver_wait_cancel(struct resolver_wait *w);
const struct resolver_answer *resolver_answer(const struct resolver_name *n);
/* This one answered where those before it did not: it comes first for the next LIMIT_DNS_PREFER_US. */
void resolver_prefer(struct resolver *r, struct resolver_name *n, const struct address *a);
/* Rises whenever the addresses change; 0 while nothing is known. */
uint32_t resolver_generation(const struct resolver_name *n);
struct resolver_stats resolver_stats_mt(const struct resolver *r);
/* For tests: before the first name is asked for. */
void resolver_set_lookup(struct resolver *r, resolver_lookup_fn lookup);

#endif
