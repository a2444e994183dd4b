/* SPDX-License-Identifier: Apache-2.0 */
/* What the realtime target's batch and its refill share. */
#ifndef JOURNAL_REALTIME_PRIV_H
#define JOURNAL_REALTIME_PRIV_H

#include "gatewayd/journal/fold.h"
#include "gatewayd/journal/targets.h"

#define SECOND_US ((int64_t)1000000)
#define TEN_S     10
#define HOUR_S    3600

enum { TENANT_REQ, TENANT_TOK, TENANT_COST, TENANT_VALUES };

/* Sums on their way into the store. */
struct realtime_sums {
    struct fold_table spans;   /* {start, provider and model}: MEASURE_COUNT measures */
    struct fold_table buckets; /* {start, provider and model, bucket}: attempts whose duration lies there */
    struct fold_table tenants; /* {hour, tenant and key}: TENANT_* */
};
void realtime_sums_clear(struct realtime_sums *s);

struct realtime {
    struct kv *kv;
    struct db *refill;
    const char *instance, *name;
    int64_t retention_us;
    struct wall (*now)(void *user);
    void *user;

    /* the batch */
    struct realtime_sums tens; /* by ten seconds; hours are made of them */
    struct fold_table budgets;
    struct fold_table n_errors; /* {provider}: how many */
    struct realtime_error {
        label provider;
        size_t offset, len; /* in `texts` */
    } * errors;
    size_t n, cap_errors;
    struct buf texts;
    struct kv_batch *batch;
    bool is_built;

    struct realtime_sums hours; /* scratch: of providers, then by the hour */
    struct kv_batch *other;     /* scratch: heartbeats, refills */
    struct wall started, beat;
    unsigned refill_tries;
    struct wall refused_told; /* when a refused key was last logged */
    uint64_t refused;         /* keys since then */
};

/* After a failed kv_apply() or kv_refill() of `b`: when the store refuses one key of it for good, that key is left out, and
 * it is worth trying again at once. */
bool realtime_leave_out(struct realtime *r, struct kv_batch *b, const struct err *err);

/* Writes sums by the hour into `b`; hours beyond retention are left out, since they would never be read again. */
void realtime_put_hours(const struct realtime *r, const struct realtime_sums *s, struct kv_batch *b,
                        struct wall now);
void realtime_put_tenants(const struct realtime_sums *s, struct kv_batch *b);

/* The instance has no watermark: a store that has not begun gets the history store's sums and watermarks, if there are any.
 * `out` is what the store says afterwards. */
NODISCARD enum err_code realtime_refill(struct realtime *r, struct watermark *out, struct err *err);

#endif
