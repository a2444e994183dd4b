/* SPDX-License-Identifier: Apache-2.0 */
/* The hourly roll-up, for the daemon's timer and for aigwctl. An hour's rows are a pure function of its ledger rows and
 * minute sketches; they replace what was stored before. Safe to run twice, at once, late or after a crash. */
#ifndef ANALYTICS_AGGREGATE_H
#define ANALYTICS_AGGREGATE_H

#include "libshared/store/db.h"
#include "libshared/store/kv.h"

enum aggregate_source { AGGREGATE_AUTO, AGGREGATE_LEDGER, AGGREGATE_REDIS };

struct aggregate_options {
    struct db *db;
    struct kv *kv; /* NULL: none at hand */
    enum aggregate_source source;
    struct wall now;
    int64_t
        retention_us; /* of the realtime store's hours; 0: not known here, so only what has no end is removed */
    int64_t settle_us; /* an hour is closed this long after its end; 0: 2 min */
    int64_t lock_wait_us;
    /* Only these hours (epoch seconds, both ends in); 0, 0: every closed hour that is not stored yet or is dirty. */
    int64_t from_hour, to_hour;
    bool allow_gaps; /* store empty hours although their data is gone */
    bool is_dry_run;
    /* After each hour, for showing progress; may be NULL. */
    void (*progress)(void *user, int64_t hour, unsigned done, unsigned of, unsigned rows);
    void *user;
};

struct aggregate_result {
    unsigned hours, rows, dirty; /* dirty: of the hours, those done again */
    unsigned keys_removed;       /* from the realtime store */
    bool was_locked;             /* another run has the lock; nothing was done */
    enum aggregate_source source;
    int64_t took_us;
    int64_t missing_hours; /* whose data is gone from both sources */
};

NODISCARD enum err_code aggregate_run(const struct aggregate_options *o, struct aggregate_result *out,
                                      struct err *err);

struct aggregate_status {
    struct wall last_started, last_finished;
    char last_result[16], last_source[16], last_error[160];
    int64_t last_hours, last_rows;
    int64_t last_hour;     /* newest stored hour, 0: none */
    int64_t missing_hours; /* closed, with data, not stored */
    int64_t dirty_hours;
    int64_t oldest_missing; /* 0: none */
    /* When the realtime store forgets the oldest hour that is not stored; 0: nothing is at risk (the ledger has it). */
    struct wall loss_at;
    bool is_ledger_complete;
};
NODISCARD enum err_code aggregate_status(const struct aggregate_options *o, struct aggregate_status *out,
                                         struct err *err);

/* Refreshes provider_stats_24h, concurrently; nothing to do on SQLite. */
NODISCARD enum err_code aggregate_refresh_view(struct db *db, struct err *err);

#endif
