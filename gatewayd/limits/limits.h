/* SPDX-License-Identifier: Apache-2.0 */
/* What a process enforces: money, requests, tokens and slots of every key, tenant and of all, under the names of the books'
 * accounts ("global", "tenant:ID", "key:TENANT/ID"). Scopes live as long as the process; a configuration is bound to them before
 * it is published, so that a request finds its chain without a lookup.
 *
 * admit ──► hold ──► settle, exactly once. Headers, refusals, `explain` and metrics read the very counters that admit decides by.
 *
 * Several nodes: what others spent is learned from the store (limits_follow.h), and what may be spent here is leased of what is
 * left (limits_lease.h). */
#ifndef LIMITS_LIMITS_H
#define LIMITS_LIMITS_H

#include <stdatomic.h>

#include "gatewayd/config/config.h"
#include "gatewayd/resilience/budget.h"
#include "gatewayd/resilience/ratelimit.h"
#include "libshared/base/id.h"

struct events;
struct limits;
struct limits_scope;

enum limits_link { LINK_KEY, LINK_TENANT, LINK_GLOBAL, LINK_COUNT };

struct limits_point { /* parts are NULL where nothing is limited */
    struct limits_scope *scope;
    const struct config_budget *budget;
};

/* The scopes of one key; in the snapshot's arena. */
struct limits_chain {
    struct limits_point at[LINK_COUNT];
};

enum verdict { VERDICT_OK, VERDICT_WARN, VERDICT_SHADOW, VERDICT_THROTTLE, VERDICT_REFUSED, VERDICT_UNKNOWN };
const char *verdict_name(enum verdict v);

#define EXPLAIN_ROWS 16u /* four scopes with requests, tokens, concurrent and a budget each */

/* Which limits were checked, in whole units of each: requests, tokens, or nano-USD for budgets. */
struct explain {
    unsigned n;
    struct explain_row {
        const char *source; /* where the counter is that decides; NULL: in this process */
        const char *kind;   /* "requests" "tokens" "concurrent" "budget" */
        char scope[BUDGET_ACCOUNT];
        char window[PERIOD_WINDOW_CAP]; /* of a budget */
        uint64_t limit, used, held, asked;
        struct wall resets_at; /* 0: not by the clock */
        int64_t retry_ms;      /* -1: not by waiting */
        const char *reason;    /* of VERDICT_UNKNOWN; NULL: its books */
        enum verdict verdict;
        bool is_queue;   /* of a provider's slots, for which others wait: */
        uint64_t queued; /* so many */
    } row[EXPLAIN_ROWS];
};
const struct explain_row *explain_refusal(const struct explain *x); /* NULL: none */
static inline bool explain_is_money(const struct explain_row *r)
{
    return r->kind[0] == 'b';
}
#define EXPLAIN_TEXT_CAP 400u
/* "budget of 'tenant:acme' …": for the text of a refusal. */
void explain_text(const struct explain_row *r, char *dst, size_t cap);

/* {"scope","kind","unit","limit","used","held","requested","resets_at","verdict"}; dollars as decimal strings. Of a queue also
 * "queued" and "retry_ms". */
struct buf;
void explain_json(const struct explain_row *r, struct buf *out);

struct limits_ask {
    const struct limits_chain *chain;
    struct limits_scope *model; /* the alias'; NULL: it has no limits */
    struct id request;
    struct wall now;
    struct mono mono;
    int64_t bound_nanousd;
    uint64_t tokens;
    struct mono waits_since; /* for a lease; 0: it did not wait yet */
    bool is_last;            /* it waits no longer */
};

struct limits_hold {
    struct limits *limits;
    struct rate_hold rate;
    struct budget_hold money;
    const struct limits_chain *chain;    /* borrowed from the request's snapshot; of an attempt NULL, and */
    const struct limits_point *provider; /* this is not */
    bool waits;                          /* refused so far: a lease was asked for, see limits_lease.h */
};

struct limits *limits_new(void);
void limits_free(struct limits *l);
/* Who is told that budgets come to an end; before the threads start. */
void limits_tell_to(struct limits *l, struct events *events);
/* Before the snapshot is published, under the lock of reloads. Gives `c` its chains and the scopes their limits; scopes that
 * it does not name are limited no more. Without effect on a snapshot that is bound. */
void limits_bind(struct limits *l, struct config *c);
const struct limits_chain *limits_chain_of(const struct config *c, const struct config_key *k);
/* NULL: nothing of it is limited. */
const struct limits_point *limits_provider_of(const struct config *c, const struct config_provider *p);
struct limits_scope *limits_model_of(const struct config *c, const struct config_model *m);
/* When a link's budget begins anew; by the month where there is none. */
struct cycle limits_cycle(const struct limits_chain *chain, enum limits_link at);
/* A budget that refuses applies: what has no bound cannot be admitted, and answers without a stated maximum get one. */
bool limits_holds_money(const struct limits_chain *chain);
bool limits_point_holds_money(const struct limits_point *p);

/* All or none. With ERR_UNAVAILABLE and `out->waits` nothing is decided: what this node has leased does not reach, and it is
 * worth another try as soon as the leases were renewed. ERR_OVER_LIMIT, ERR_OVER_BUDGET, ERR_UNAVAILABLE (the books were not read yet, or their store is down and
 * the budget is `closed` then). `why` is filled in any case. */
NODISCARD enum err_code limits_admit(struct limits *l, const struct limits_ask *a, struct limits_hold *out,
                                     struct explain *why);
/* The same for one attempt and its provider's account. What is refused here is tried elsewhere, so nobody is told but `why`. */
NODISCARD enum err_code limits_admit_attempt(struct limits *l, const struct limits_point *provider,
                                             const struct limits_ask *a, struct limits_hold *out,
                                             struct explain *why);
/* Whether an attempt would find money, for who can still wait for a lease; asks for one. Holds nothing. */
enum limits_room { LIMITS_ROOM, LIMITS_ROOM_MAY_COME, LIMITS_NO_ROOM };
enum limits_room limits_look_attempt(struct limits *l, const struct limits_point *provider,
                                     const struct limits_ask *a);
/* The request was refused for this: explained by its id from now on. */
void limits_remember_mt(struct limits *l, const struct id *request, const struct explain *why);
/* The request turned out to cost more at most: what failed attempts cost, and one more. */
NODISCARD enum err_code limits_raise(struct limits *l, struct limits_hold *h, int64_t amount_nanousd,
                                     struct explain *why);
/* A stream that has cost so much by now has to end: one of its budgets that cut streams has nothing left in the window in which the
 * request arrived. */
bool limits_cuts(const struct limits_hold *h, int64_t cost_nanousd, struct wall arrived, struct explain *why);
/* Once the end is on record. Any further call changes nothing. Marks are told of the window in which the request arrived. */
void limits_settle(struct limits_hold *h, int64_t cost_nanousd, uint64_t tokens, struct wall arrived,
                   struct mono mono);
/* Nothing was sent. */
void limits_give_back(struct limits_hold *h);

/* ---- looking ---- */

/* What an account (or a tenant by its bare id) is limited by now; false: by nothing. */
bool limits_explain_mt(struct limits *l, const char *account, struct explain *out);
/* One of the last refusals, by the text of the request's id. */
bool limits_explain_request_mt(struct limits *l, const char *request, struct explain *out);

/* The newest of them that this account refused, and what it said. */
bool limits_last_refusal_mt(struct limits *l, const char *account, struct id *out_request,
                            struct explain_row *out);

struct limits_view {   /* of one scope */
    const char *scope; /* lives as long as the process */
    uint64_t refused[RATE_KINDS], shadowed[RATE_KINDS];
    uint64_t limited,
        over_budget; /* of a tenant: its requests refused by rates and for money, by whichever scope */
    bool has_budget;
    int64_t limit_nanousd; /* with what tops it up now */
    struct budget_sums sums;
    struct wall resets_at;
    enum period period;
    const struct zone *zone;
    struct rate_view rate[RATE_KINDS];
};
typedef void (*limits_view_fn)(void *user, const struct limits_view *v);
/* Of every scope that is limited, or that refused something. */
void limits_each_mt(struct limits *l, limits_view_fn fn, void *user);

/* A correction that was just put on record, in the window that holds `at`; without effect for an account without a scope. */
void limits_correct_mt(struct limits *l, const char *account, struct wall at, int64_t amount_nanousd);

/* What others spent in a window, of which this process may not have heard yet. `mark`: of it, by now; then the books say that so
 * much was posted in it, and whether they had all that the mark tells; `out` is what is known after that. */
struct budget_mark limits_mark_mt(struct limits *l, const char *account, struct wall at);
void limits_learn_mt(struct limits *l, const char *account, const struct budget_mark *mark, bool has_mark,
                     int64_t stored_nanousd, struct budget_sums *out);

/* ---- for limits_follow.c ---- */

typedef void (*limits_account_fn)(void *user, const char *name, struct budget_account *a);
void limits_each_account_mt(struct limits *l, limits_account_fn fn, void *user);
/* The books were read, or could not be. */
void limits_set_store_mt(struct limits *l, bool is_up);
bool limits_is_loaded_mt(const struct limits *l);
/* Other instances that write into the same books. */
void limits_set_others_mt(struct limits *l, unsigned n);
/* By how much all budgets together can be passed on all nodes: 0 while leases hold, or while this instance is alone and knows its
 * books; NaN where others spend from the same books without leases. */
double limits_overshoot_bound_usd_mt(struct limits *l);

#endif
