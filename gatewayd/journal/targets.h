/* SPDX-License-Identifier: Apache-2.0 */
/* The two stores as targets of a writer. */
#ifndef JOURNAL_TARGETS_H
#define JOURNAL_TARGETS_H

#include "gatewayd/journal/writer.h"
#include "libshared/store/db.h"
#include "libshared/store/kv.h"

/* {gw}:h, {gw}:t, {gw}:err, {gw}:ten, {gw}:bud (posted, held), {gw}:hours, {gw}:models, {gw}:inst. A store that is
 * empty is refilled: hours within `retention_us` and windows are read from `refill` with the watermarks that belong to them, and
 * set by kv_refill(); the journals continue from there. */
struct realtime_options {
    struct kv *kv;                  /* owned */
    struct db *refill;              /* owned, its own read-only handle; NULL: none */
    const char *instance;           /* borrowed */
    const char *name;               /* what the operator sees: host:port */
    int64_t retention_us;           /* of hour buckets */
    struct wall (*now)(void *user); /* NULL: the clock */
    void *user;
};
extern const struct target_ops TARGET_REALTIME;
void *target_realtime_new(const struct realtime_options *o, struct err *err);

/* ledger, minute_sketches, dirty_hours, requests, budget_windows, tenant_events(first_answer), journal_watermarks: one
 * transaction a batch. Migrates the schema when it connects. */
struct history_options {
    struct db *db; /* owned */
    const char *instance;
    unsigned stories_per_second;    /* successes kept one by one, and refusals; failures always are; 0: all */
    uint64_t stories_max;           /* rows of `requests` kept; 0: 1,000,000 */
    int64_t stories_us;             /* age kept; 0: 7 days */
    struct wall (*now)(void *user); /* NULL: the clock */
    void *user;
};
extern const struct target_ops TARGET_HISTORY;
void *target_history_new(const struct history_options *o, struct err *err);

#endif
