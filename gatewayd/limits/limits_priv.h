/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share: the table of scopes, and rows of an explanation. */
#ifndef LIMITS_LIMITS_PRIV_H
#define LIMITS_LIMITS_PRIV_H

#include <pthread.h>

#include "gatewayd/limits/limits.h"

#define BUCKETS  4096u /* of the table of scopes */
#define REFUSALS 128u  /* that can be explained afterwards */

struct limits_scope {
    char name[BUDGET_ACCOUNT];
    unsigned number;
    struct budget_account *account;
    struct ratelimit *rate, *throttle;
    uint64_t generation; /* of the binding that named it last; under the lock of reloads */
    int64_t most;        /* that its budget and top-ups made when it was bound last; likewise */
    struct cycle cycle;  /* likewise */
    _Atomic bool has_budget, is_rated;
    _Atomic struct config_levels levels;
    _Atomic int64_t
        told_at[CONFIG_LEVELS + 1];   /* start of the window in which each, and at last the limit, was told */
    _Atomic bool is_due;              /* its leases should be renewed soon */
    _Atomic int64_t open_cap_nanousd; /* -1: it does not stay open while the store is down */
    _Atomic uint64_t refused[RATE_KINDS], shadowed[RATE_KINDS];
    _Atomic uint64_t limited, over_budget; /* of a tenant: its requests, whichever scope refused them */
    struct limits_scope *next;
};

struct limits {
    pthread_mutex_t lock;
    struct limits_scope *buckets[BUCKETS];
    size_t n;
    uint64_t generation;
    struct budget_book *book;
    struct events *events; /* NULL: nobody is told */
    _Atomic bool is_loaded, is_store_up;
    struct limits_lease *_Atomic lease; /* NULL: this process is alone, or shares nothing with others */
    _Atomic bool is_lease_up;           /* the realtime store answers */
    _Atomic int64_t lease_until_us;     /* the end of the session */
    _Atomic unsigned lease_nodes;       /* that have one */
    _Atomic unsigned others;
    struct {
        struct id request;
        struct explain why;
    } refusals[REFUSALS];
    size_t n_refusals;
};

struct limits_scope *limits_find_mt(struct limits *l, const char *name);
/* Its marks are told anew: what they are of has changed. */
void limits_tell_again(struct limits_scope *s);
/* Finds or makes it. */
struct limits_scope *limits_scope_of(struct limits *l, const char *name);
/* All scopes, in the order in which they were made; free() the list, not what is in it. */
struct limits_scope **limits_all_mt(struct limits *l, size_t *out_n);

static inline bool budget_is_above(const struct budget_sums *s, int64_t asked)
{
    return (__int128)s->posted_nanousd + s->held_nanousd + asked > s->limit_nanousd;
}

/* Each adds a row. */
void explain_rate(struct explain *x, const struct limits_scope *s, enum rate_kind k,
                  const struct rate_view *v, uint64_t asked, struct wall now);
struct explain_row *explain_money(struct explain *x, struct limits_scope *s, const struct budget_sums *sums,
                                  int64_t asked);

#endif
