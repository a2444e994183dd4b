/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's book-keeper: one thread with handles of its own that rolls hours up when they close and every interval,
 * compares the books every hour, and does what operators ask for, one job after the other. */
#ifndef BOOKS_AGGREGATOR_H
#define BOOKS_AGGREGATOR_H

#include "libshared/analytics/aggregate.h"
#include "libshared/analytics/reconcile.h"

struct aggregator;

struct aggregator_options {
    /* Owned from now on, also on failure. PostgreSQL: db_new() or db_share(); SQLite: db_share() of the history writer's,
     * since one process has one connection that writes. Statements over a whole hour take longer than a batch: open it
     * with a longer deadline. */
    struct db *db;
    struct kv *kv;                     /* owned; NULL: no realtime store beyond memory of this process */
    bool is_enabled;                   /* false: only what is asked for is done */
    int64_t interval_us, retention_us; /* config.aggregation */
};
struct aggregator *aggregator_start(const struct aggregator_options *o, struct err *err);
/* Does what was asked for already, joins, frees. NULL is fine. */
void aggregator_stop(struct aggregator *a);

/* ---- any thread that may wait -------------------------------------------------------------------------------------- */

enum books_kind { BOOKS_ROLL_UP, BOOKS_RECONCILE };
struct books_line {
    enum reconcile_pair pair;
    char where[256], measure[32];
    int64_t ledger, other;
};
#define BOOKS_LINES 200u /* differences that an answer lists; all are counted */

/* What is asked for, and what came of it. */
struct books_job {
    enum books_kind kind;
    /* BOOKS_ROLL_UP */
    enum aggregate_source source;
    int64_t from_hour, to_hour, lock_wait_us;
    bool allow_gaps, is_dry_run;
    struct aggregate_result rolled;
    /* BOOKS_RECONCILE; from_hour counts here, too */
    bool is_budgets_only; /* what is repaired, of all that is compared */
    bool is_repair;       /* say what a repair would change, or change it unless is_dry_run */
    struct reconcile_result compared;
    unsigned changed[RECONCILE_COUNT];
    struct books_line lines[BOOKS_LINES];
    unsigned n_lines;

    enum err_code code;
    struct err err;
};
/* Does the job on the aggregator's thread and waits for it. The caller gives `*job` (heap) away and has it back with true;
 * false after `wait_us`: it goes on without the caller, and *job is NULL. */
bool aggregator_do_mt(struct aggregator *a, struct books_job **job, int64_t wait_us);

struct aggregator_stats {
    struct wall last_success; /* 0: never */
    uint64_t failures;
    int64_t lag_hours; /* closed hours with data that are not stored */
    int64_t dirty_hours;
    struct reconcile_result books; /* of the last comparison */
    char error[160];               /* of the last failure, "" after a success */
};
void aggregator_stats_mt(struct aggregator *a, struct aggregator_stats *out);

#endif
