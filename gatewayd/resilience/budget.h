/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts of money: what was posted and what is held in the current window, against a limit. Time is an argument.
 *
 * A reservation holds the upper bound of a request's cost on every account of its chain at once, or on none:
 * posted + held + R <= limit for each. Settling moves the real cost from held to posted, exactly once per
 * reservation, in the window that it was reserved in, whatever the clock says by then; so as long as costs stay within
 * their bounds, posted never passes the limit in any window. Any thread; each account has its own lock, and a chain is locked in the order of its accounts'
 * numbers. */
#ifndef RESILIENCE_BUDGET_H
#define RESILIENCE_BUDGET_H

#include <stdbool.h>

#include "gatewayd/resilience/lease.h"
#include "libshared/base/compiler.h"
#include "libshared/base/err.h"
#include "libshared/catalog/period.h"

#define BUDGET_CHAIN   4u   /* key, tenant, global, provider */
#define BUDGET_ACCOUNT 160u /* bytes of an account's name */
#define BUDGET_TOPUPS  8u   /* of one account at a time */

struct budget_book; /* all accounts of a process */
struct budget_account;

struct budget_terms { /* zero: this process is alone */
    bool is_leased;   /* a limit is shared with other nodes: only what is leased is spent (lease.h) */
    bool holds;       /* the session of the leases */
    struct mono now;
};

struct budget_chain { /* NULLs are skipped */
    struct budget_account *at[BUDGET_CHAIN];
    struct budget_terms terms;
};

struct budget_rule {
    int64_t limit_nanousd; /* 0: none */
    struct cycle cycle;
    bool is_soft; /* the limit is looked at, and nothing is refused by it */
    struct budget_topup {
        int64_t amount_nanousd, until_us; /* is added to the limit before that instant */
    } topups[BUDGET_TOPUPS];
    unsigned n_topups;
};

struct budget_hold { /* what a reservation must remember; a plain value */
    struct budget_chain chain;
    int64_t amount_nanousd;
    uint64_t window
        [BUDGET_CHAIN]; /* where each account holds it; one that was dropped since is another one when it is made anew */
    bool is_open;
    bool is_due; /* a lease runs out: budget_account_plan() soon */
};

struct budget_view {
    char account[BUDGET_ACCOUNT];
    struct cycle cycle;
    char window[PERIOD_WINDOW_CAP];
    int64_t limit_nanousd; /* with what tops it up now; 0: none */
    int64_t posted_nanousd, held_nanousd;
    struct wall resets_at;
    bool lacks_lease; /* the limit has room as far as this node knows, its lease has not */
    enum lease_denial denial;
    int64_t denied_nanousd; /* was denied */
    struct mono denied_at, agreed_at;
    int64_t taken_nanousd; /* of the limit, posted and leased by all nodes when last heard */
};

struct budget_book *budget_book_new(void);
void budget_book_free(struct budget_book *b);
/* Finds or makes it; lives as long as the book. NULL when the name is too long. */
struct budget_account *budget_account_get(struct budget_book *b, const char *name);
/* Another period begins another window with nothing posted: what the books say of it is followed (below). By another zone the
 * windows go on under their ids. */
void budget_account_set(struct budget_account *a, const struct budget_rule *rule);

/* Following a store that others post to as well, and that has what was settled here a little later. A mark says what was
 * settled here at that moment; once the store is known to have all of that, following it with the mark tells exactly what
 * was spent elsewhere, and before that it can only be too little. Nothing that was settled here is ever lost by it. */
struct budget_mark {
    int64_t start_us; /* of the window */
    struct cycle cycle;
    int64_t settled_nanousd, credited_nanousd;
};
struct budget_mark budget_account_mark(struct budget_account *a, struct wall now);
/* `stored` is what the store says of the mark's window. */
void budget_account_follow(struct budget_account *a, const struct budget_mark *mark, bool store_has_mark,
                           int64_t stored_nanousd);
/* False for a window that is older than all that were followed, or that was forgotten: the clock has stepped back, and what
 * was spent there is not known until the books were followed there; and after another cycle was set, until they were. */
bool budget_account_knows(struct budget_account *a, struct wall now);
/* Posted and held of the current window, for what is asked on every request. */
struct budget_sums {
    int64_t start_us, end_us, posted_nanousd, held_nanousd;
    int64_t limit_nanousd; /* with what tops it up now; 0: none */
    struct cycle cycle;
};
struct budget_sums budget_account_sums(struct budget_account *a, struct wall now);
/* The instant of that window that is nearest to `t`. */
static inline struct wall budget_sums_at(const struct budget_sums *s, struct wall t)
{
    if (t.us < s->start_us)
        return (struct wall){s->start_us};
    return t.us < s->end_us ? t : (struct wall){s->end_us - 1};
}

/* Posts an amount, negative for a credit, to the window that holds `at`: a correction that is on its way into the books. */
void budget_account_correct(struct budget_account *a, struct wall at, int64_t amount_nanousd);

/* All or none. ERR_OVER_BUDGET fills `why` (may be NULL) with the first account that has no room. */
NODISCARD enum err_code budget_reserve(const struct budget_chain *chain, int64_t amount_nanousd,
                                       struct wall now, struct budget_hold *out, struct budget_view *why);
/* Holds more on all accounts of an open hold, or on none, so that the whole is `amount_nanousd`; less changes nothing. */
NODISCARD enum err_code budget_raise(struct budget_hold *h, int64_t amount_nanousd, struct budget_view *why);
/* Ends the hold; a second call, or one on a hold that never was, changes nothing. Windows that are over since are
 * forgotten: their books are the ledger's. */
void budget_settle(struct budget_hold *h, int64_t cost_nanousd);
static inline void budget_give_back(struct budget_hold *h)
{
    budget_settle(h, 0);
}

/* ---- leases, for the thread that keeps them ---- */

#define BUDGET_WINDOWS 5u

struct budget_lease { /* of one window */
    struct cycle cycle;
    int64_t start_us, end_us;
    int64_t limit_nanousd;
    struct lease_ask ask;
};
/* Of each window about which the store must be called; returns how many. */
unsigned budget_account_plan(struct budget_account *a, struct wall now, const struct budget_terms *t,
                             struct budget_lease out[BUDGET_WINDOWS]);
void budget_account_hear(struct budget_account *a, const struct budget_lease *l, const struct lease_reply *r);
/* Another node has no room in that window. True: it is worth a plan at once. */
bool budget_account_wanted(struct budget_account *a, const char *window, struct mono now);
void budget_account_forgotten(struct budget_account *a);
/* Settlements up to the last call of this, when the store has those; and marks those up to now. */
void budget_account_posted(struct budget_account *a, bool store_has_mark);
/* What may be spent beyond the leases: by budgets that stay open, while the store is down. */
void budget_account_stay_open(struct budget_account *a, int64_t beyond_nanousd);

struct budget_leases { /* all windows of an account */
    unsigned n;        /* that the store has a record of */
    bool is_tight;     /* less is left of the limit than is leased */
    int64_t everywhere_nanousd, overshoot_nanousd;
};
struct budget_leases budget_account_leases(struct budget_account *a, bool is_lost);

#endif
