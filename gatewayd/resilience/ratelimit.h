/* SPDX-License-Identifier: Apache-2.0 */
/* How often and how much, for one scope (a tenant, a key): requests and tokens a minute by GCRA, requests at once by slots.
 * Time is an argument.
 *
 * A bucket is one instant, `tat`: when it will be full again. Taking n of N a minute moves it by n/N of a minute, and nothing
 * is taken that would move it further than a minute ahead. So a minute's worth may come at once, and then at the rate of N.
 * Tokens are taken by estimate and trued up at the end; one estimate larger than the whole limit takes the whole.
 *
 * Where several nodes share a limit, the bucket is in a store and a node takes small batches from it (credit) in which it spends
 * without asking; slots are leased in the same way. A take that finds no credit is told whether the store has already said no.
 *
 * A take is on all kinds of all scopes of a chain at once, or on none. Any thread; each scope has its own lock, a chain is
 * locked in the order of the scopes' numbers. */
#ifndef RESILIENCE_RATELIMIT_H
#define RESILIENCE_RATELIMIT_H

#include <stdbool.h>

#include "libshared/base/clock.h"
#include "libshared/base/compiler.h"

#define RATE_CHAIN 4u /* key, tenant, all, model */

enum rate_kind { RATE_REQUESTS, RATE_TOKENS, RATE_CONCURRENT, RATE_KINDS };
const char *rate_kind_name(enum rate_kind k); /* "requests" "tokens" "concurrent" */

struct rate_rules { /* 0: none */
    uint64_t of[RATE_KINDS];
    bool is_shadow; /* what would be refused is let through, and counted */
};

struct ratelimit;

struct rate_view {     /* of one kind */
    uint64_t limit;    /* 0: none */
    uint64_t used;     /* of it, now */
    int64_t reset_us;  /* until nothing is used; 0 for slots, whose end nobody knows */
    int64_t retry_us;  /* until what was asked for fits; 0: it does */
    bool is_exhausted; /* what was asked for does not fit */
    bool is_shadow;
    bool lacks_lease; /* exhausted here; the store may have room and must be asked */
};

struct rate_chain { /* NULLs are skipped */
    struct ratelimit *at[RATE_CHAIN];
    bool is_leased; /* only what is leased is used; limits in shadow stay this process's own */
    unsigned nodes; /* when not: a limit is divided by so many, 0 and 1: not */
};

struct rate_hold { /* a plain value */
    struct rate_chain chain;
    uint64_t tokens;
    bool is_open;
    bool is_due; /* credit runs out: ratelimit_plan() soon */
};

/* What a take saw, after it, in the chain's order. */
struct rate_report {
    struct rate_view of[RATE_CHAIN][RATE_KINDS];
};

struct ratelimit *ratelimit_new(void);
void ratelimit_free(struct ratelimit *r);
/* What is used stays used. */
void ratelimit_set(struct ratelimit *r, const struct rate_rules *rules);
void ratelimit_view(struct ratelimit *r, struct mono now, struct rate_view out[RATE_KINDS]);

/* False: some kind had no room and is not in shadow; nothing was taken. `out` and `report` are filled in any case. */
NODISCARD bool rate_take(const struct rate_chain *chain, uint64_t tokens, struct mono now,
                         struct rate_hold *out, struct rate_report *report);
/* Ends the hold, once: slots come back, the estimate becomes what it was. */
void rate_settle(struct rate_hold *h, uint64_t tokens, struct mono now);
/* Nothing came of it: all is given back. */
void rate_give_back(struct rate_hold *h);

/* ---- leases, for the thread that keeps them ---- */

struct rate_ask { /* of one kind */
    enum rate_kind kind;
    int64_t limit;
    int64_t granted;    /* slots that are had; else units used without being granted, negative: given back */
    int64_t need, want; /* slots from now on; else units */
};
/* What the store must be asked or told, in `out`; returns how many. Called a few times a second while it is used. */
unsigned ratelimit_plan(struct ratelimit *r, struct mono now, struct rate_ask out[RATE_KINDS]);
/* `got`: slots from now on, or units; `elsewhere`: slots of other nodes, or microseconds until nothing of the limit is used. */
void ratelimit_hear(struct ratelimit *r, const struct rate_ask *ask, int64_t got, int64_t elsewhere,
                    struct mono now);
/* Nothing is had any more: another life of the store, or a session that was over. */
void ratelimit_forget(struct ratelimit *r);
/* The store came back empty: the next plan says which slots are had. */
void ratelimit_state_again(struct ratelimit *r);

#endif
