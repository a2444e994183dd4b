/* SPDX-License-Identifier: Apache-2.0 */
/* Compares the books on the dimensions that they share. */
#ifndef ANALYTICS_RECONCILE_H
#define ANALYTICS_RECONCILE_H

#include "libshared/store/db.h"
#include "libshared/store/kv.h"
#include "libshared/store/measures.h"

enum reconcile_pair {
    RECONCILE_LEDGER_SELF,   /* sums of kind request against kind attempt */
    RECONCILE_LEDGER_HOURLY, /* closed, stored, clean hours */
    RECONCILE_LEDGER_REDIS, /* hours within retention; only when both watermarks are equal is a difference drift */
    RECONCILE_LEDGER_BUDGETS,
    RECONCILE_COUNT
};
const char *reconcile_pair_name(
    enum reconcile_pair p); /* "ledger_self" "ledger_hourly" "ledger_redis" "ledger_budgets" */

struct reconcile_line { /* one dimension that differs; texts are borrowed for the call */
    enum reconcile_pair pair;
    const char *where;   /* "2026-11-20T13 openai gpt-4o", "tenant:acme month 2026-11" */
    const char *measure; /* "cost_nano" … */
    int64_t ledger, other;
};
typedef void (*reconcile_fn)(void *user, const struct reconcile_line *line);

struct reconcile_options {
    struct db *db;
    struct kv *kv; /* NULL: pairs with it are not compared */
    struct wall now;
    int64_t from_hour;    /* epoch seconds; 0: the last 24 hours */
    int64_t retention_us; /* of the realtime store's hours; 0: 4 hours */
    reconcile_fn fn;      /* may be NULL */
    void *user;
};
struct reconcile_result {
    struct {
        bool is_known; /* compared */
        uint64_t compared, different;
        int64_t drift; /* sum of absolute differences of cost_nano, or of counts where there is no cost */
    } pairs[RECONCILE_COUNT];
};
NODISCARD enum err_code reconcile_run(const struct reconcile_options *o, struct reconcile_result *out,
                                      struct err *err);

/* Makes the other book follow the ledger: hourly rows are marked dirty and rolled up again, budget windows set to the
 * ledger's sum, Redis hours of instances whose watermark equals the ledger's replaced. Returns how many places
 * differed; changes nothing with `is_dry_run`. */
NODISCARD enum err_code reconcile_repair(const struct reconcile_options *o, enum reconcile_pair pair,
                                         bool is_dry_run, unsigned *out_changed, struct err *err);

/* What the books say of one account from `from` to `to` (0 and INT64_MAX: of all time): the ledger's sum, and what its windows
 * within that time say. False in `is_known` for an account of a kind that is not known. */
struct reconcile_account {
    bool is_known;
    int64_t ledger, posted, held;
};
NODISCARD enum err_code reconcile_account(struct db *db, const char *account, struct wall from,
                                          struct wall to, struct reconcile_account *out, struct err *err);

#endif
