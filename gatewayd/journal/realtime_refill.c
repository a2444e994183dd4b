/* SPDX-License-Identifier: Apache-2.0 */
/* A realtime store that came back empty, or memory at the start of the process, is filled from the history store. Writer's
 * thread.
 *
 * Everything is read in one transaction, so sums and watermarks belong together: what the journal has above the watermark
 * comes by the normal road, what is below never again. It is written in one step, the sums and windows of all instances with all
 * their watermarks; and the store takes that step once, before it takes any batch (kv_refill). So of several nodes that find it
 * empty one fills it, and the others' batches mismatch and go back to where the history store was. Nodes that are gone are
 * filled in for as well.
 *
 * An instance that a store has nothing of although it has begun was not in the history then, so it was not counted: it begins
 * with all that its journal has, whatever the history has of it now. */
#include <stdlib.h>

#include "gatewayd/journal/realtime_priv.h"
#include "libshared/analytics/sketch.h"
#include "libshared/base/crash.h"
#include "libshared/base/log.h"
#include "libshared/store/kv_keys.h"
#include "libshared/store/measures.h"

#define INSTANCES_MAX 4096u
/* What was read longer ago is not written: the store may have been filled, written to and emptied again since. */
#define FRESH_US (15 * SECOND_US)
#define TRIES    8u /* of a history store that does not answer, before the realtime store begins without */

struct instance {
    char id[INSTANCE_CAP];
    struct watermark mark;
};

struct refill {
    struct realtime *r;
    struct instance *instances;
    size_t n;
    bool is_bad;
    bool is_alone;        /* the store is of this process */
    bool is_kv;           /* it was the realtime store that failed */
    struct sketch sketch; /* scratch */
    struct kv_batch *batch;
    int64_t now_s;
};

/* ---- reading ---- */

static bool take_instance(void *user, const struct db_value *c, unsigned n)
{
    struct refill *f = user;
    struct instance *i = &f->instances[f->n];

    (void)n;
    /* Nobody else writes to memory, so others' books would stand still in it. */
    if (f->is_alone && !span_is(c[0].s, f->r->instance))
        return false;
    if (c[0].s.len >= INSTANCE_CAP || !watermark_parse_positions(&i->mark, c[3].s)) {
        f->is_bad = true;
        return false;
    }
    (void)span_copy(i->id, sizeof(i->id), c[0].s);
    i->mark.batch = (uint64_t)c[1].i;
    i->mark.token = (uint64_t)c[2].i;
    return ++f->n < INSTANCES_MAX && !f->is_alone;
}

static enum err_code read_instances(struct refill *f, struct err *err)
{
    struct db_value since = db_int(f->now_s - KV_TTL_WATERMARK_S);
    struct db_value p[] = {db_textz(f->r->instance), since, db_int(INSTANCES_MAX)};
    enum err_code e = db_query(f->r->refill, "refill_watermarks",
                               "SELECT instance, batch, token, positions FROM journal_watermarks "
                               "WHERE instance = $1 OR updated_at >= $2 "
                               "ORDER BY CASE WHEN instance = $1 THEN 0 ELSE 1 END, updated_at DESC LIMIT $3",
                               p, ARRAY_LEN(p), take_instance, f, err);

    if (e == ERR_OK && f->is_bad)
        e = err_set(err, ERR_IO, "journal_watermarks has a row that makes no sense");
    return e;
}

static bool take_sums(void *user, const struct db_value *c, unsigned n)
{
    struct refill *f = user;
    int64_t key[2] = {c[0].i, fold_pair(intern(c[1].s), intern(c[2].s))}, v[FOLD_VALUES];
    enum fold_kind kind;

    for (unsigned i = 0; i < FOLD_VALUES && 5 + i < n; i++)
        v[i] = c[5 + i].i;
    if (fold_kind_parse(c[3].s, &kind))
        fold_measures(kind, fold_status_parse(c[4].s), v, fold_table_at(&f->r->hours.spans, key));
    return true;
}

/* PostgreSQL sums bigints to numeric. */
#define SUM(column) ", CAST(sum(" #column ") AS bigint)"

static enum err_code read_sums(struct refill *f, const char *instance, int64_t since, struct err *err)
{
    struct db_value p[] = {db_textz(instance), db_int(since)};

    return db_query(f->r->refill, "refill_ledger",
                    "SELECT minute - minute % 3600, provider, model, kind, outcome" SUM(count) SUM(tokens_in)
                        SUM(tokens_cached) SUM(tokens_cwrite) SUM(tokens_out) SUM(tokens_reasoning) SUM(
                            images) SUM(searches) SUM(cost_nano) SUM(unpriced) SUM(latency_us) SUM(ttft_us)
                            SUM(ttft_count) " FROM ledger WHERE instance = $1 AND minute >= $2 "
                                            "AND provider <> '' AND kind <> 'reset' GROUP BY 1, 2, 3, 4, 5",
                    p, ARRAY_LEN(p), take_sums, f, err);
}

static bool take_sketch(void *user, const struct db_value *c, unsigned n)
{
    struct refill *f = user;
    int64_t key[3] = {c[0].i, fold_pair(intern(c[1].s), intern(c[2].s)), 0};

    (void)n;
    if (sketch_decode(&f->sketch, c[3].s)) {
        log_error("refill: a stored sketch is damaged and left out");
        return true;
    }
    for (unsigned o = 0; o < SKETCH_OCTAVES; o++) {
        for (unsigned i = 0; f->sketch.octaves[o] && i < SKETCH_SUB; i++) {
            if (!f->sketch.octaves[o][i])
                continue;
            key[2] = (int64_t)(o << SKETCH_SUB_BITS | i);
            fold_add(fold_table_at(&f->r->hours.buckets, key), (int64_t)f->sketch.octaves[o][i]);
        }
    }
    return true;
}

static enum err_code read_sketches(struct refill *f, const char *instance, int64_t since, struct err *err)
{
    struct db_value p[] = {db_textz(instance), db_int(since)};

    return db_query(f->r->refill, "refill_sketches",
                    "SELECT minute - minute % 3600, provider, model, sketch FROM minute_sketches "
                    "WHERE instance = $1 AND minute >= $2",
                    p, ARRAY_LEN(p), take_sketch, f, err);
}

static bool take_tenant(void *user, const struct db_value *c, unsigned n)
{
    struct refill *f = user;
    int64_t key[2] = {c[0].i, fold_pair(intern(c[1].s), intern(c[2].s))};
    int64_t *v = fold_table_at(&f->r->hours.tenants, key);

    for (unsigned i = 0; i < TENANT_VALUES && 3 + i < n; i++)
        fold_add(&v[i], c[3 + i].i);
    return true;
}

/* What the live view shows of tenants lives for an hour only. */
static enum err_code read_tenants(struct refill *f, const char *instance, struct err *err)
{
    int64_t hour = f->now_s - f->now_s % HOUR_S;
    struct db_value p[] = {db_textz(instance), db_int(hour)};

    return db_query(f->r->refill, "refill_tenants",
                    "SELECT minute - minute % 3600, tenant, key" SUM(count) SUM(tokens_in + tokens_out)
                        SUM(cost_nano) " FROM ledger WHERE instance = $1 AND minute >= $2 "
                                       "AND kind = 'request' AND tenant <> '' GROUP BY 1, 2, 3",
                    p, ARRAY_LEN(p), take_tenant, f, err);
}

static void put_number(struct kv_batch *b, const char *key, const char *field, int64_t v)
{
    struct buf text AUTO(buf_release) = {0};

    buf_addf(&text, "%lld", (long long)v);
    kv_batch_set(b, key, field, buf_span(&text));
}

static bool take_window(void *user, const struct db_value *c, unsigned n)
{
    struct refill *f = user;
    char account[FOLD_ACCOUNT_CAP], window[PERIOD_WINDOW_CAP], key[KV_KEY_CAP];
    int64_t ttl_s = c[4].type == DB_INT ? c[4].i - f->now_s + KV_TTL_BUDGET_S : KV_TTL_TOTAL_S;

    (void)n;
    (void)span_copy(account, sizeof(account), c[0].s);
    (void)span_copy(window, sizeof(window), c[1].s);
    kv_key_budget(key, account, window);
    put_number(f->batch, key, "posted", c[2].i);
    put_number(f->batch, key, "held", c[3].i);
    kv_batch_expire(f->batch, key, ttl_s, false);
    return true;
}

static enum err_code read_windows(struct refill *f, struct err *err)
{
    struct db_value since = db_int(f->now_s - KV_TTL_BUDGET_S);

    return db_query(f->r->refill, "refill_budgets",
                    "SELECT account, window_id, posted_nano, held_nano, ends_at FROM budget_windows "
                    "WHERE ends_at IS NULL OR ends_at > $1",
                    &since, 1, take_window, f, err);
}

/* ---- setting ---- */

static enum err_code gather(struct refill *f, struct err *err)
{
    int64_t since = f->now_s - f->r->retention_us / SECOND_US;
    enum err_code e = ERR_OK;

    since -= since % HOUR_S; /* the oldest hour that may still have a time to live; put_hours looks closer */
    for (size_t i = 0; i < f->n && e == ERR_OK; i++) {
        e = read_sums(f, f->instances[i].id, since, err);
        if (e == ERR_OK)
            e = read_sketches(f, f->instances[i].id, since, err);
        if (e == ERR_OK)
            e = read_tenants(f, f->instances[i].id, err);
    }
    return e == ERR_OK ? read_windows(f, err) : e;
}

static void put_all(struct refill *f, const struct instance *mine)
{
    realtime_put_hours(f->r, &f->r->hours, f->batch, (struct wall){f->now_s * SECOND_US});
    realtime_put_tenants(&f->r->hours, f->batch);
    for (size_t i = 0; i < f->n; i++)
        if (&f->instances[i] != mine)
            kv_batch_watermark(f->batch, f->instances[i].id, &f->instances[i].mark);
}

/* Without a row of our own nothing of ours is in the history, so we begin with nothing; but whoever comes first to an empty store
 * brings what others spent, since leases are granted by that. */
static enum err_code set_all(struct refill *f, struct err *err)
{
    const struct instance *mine =
        f->n && strcmp(f->instances[0].id, f->r->instance) == 0 ? &f->instances[0] : NULL;
    struct watermark none = {0};
    enum store_result result;

    put_all(f, mine);
    CRASH_POINT(refill_before_apply);
    do
        result = kv_refill(f->r->kv, f->r->instance, mine ? &mine->mark : &none, f->batch, err);
    while (result == STORE_FAILED && realtime_leave_out(f->r, f->batch, err));
    CRASH_POINT(refill_applied);
    f->is_kv = result == STORE_FAILED;
    if (result == STORE_FAILED)
        return err->code ? err->code : ERR_IO;
    if (result == STORE_APPLIED && f->n)
        log_info(
            "realtime store: it was empty and is filled again from the history store, with %zu instances",
            f->n);
    return ERR_OK;
}

static enum err_code begin(struct refill *f, struct err *err)
{
    enum err_code e = db_begin(f->r->refill, err);

    if (e == ERR_OK && db_dialect(f->r->refill) == DB_POSTGRES)
        e = db_exec(f->r->refill, "refill_begin", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", NULL, 0,
                    NULL, err);
    return e;
}

static enum err_code read_all(struct refill *f, struct err *err)
{
    unsigned version = 0;
    enum err_code e = db_schema_version(f->r->refill, &version, err);

    if (e || version == 0) /* a store that was never written to */
        return e;
    e = begin(f, err);
    if (e == ERR_OK)
        e = read_instances(f, err);
    if (e == ERR_OK)
        e = gather(f, err);
    if (db_in_transaction(f->r->refill))
        db_rollback(f->r->refill);
    return e;
}

static enum err_code fill(struct refill *f, struct err *err)
{
    struct mono began = mono_now();
    enum err_code e;

    realtime_sums_clear(&f->r->hours);
    kv_batch_clear(f->batch);
    e = f->r->refill ? read_all(f, err) : ERR_OK;
    if (e)
        return e;
    if (mono_diff_us(mono_now(), began) > FRESH_US)
        return err_set(err, ERR_TIMEOUT, "reading what the realtime store had took too long");
    return set_all(f, err);
}

static enum err_code fill_once(struct realtime *r, struct err *err)
{
    struct refill f = {.r = r,
                       .batch = r->other,
                       .is_alone = strcmp(kv_backend(r->kv), "memory") == 0,
                       .now_s = r->now(r->user).us / SECOND_US};
    enum err_code e;

    CRASH_POINT(refill_before_read);
    f.instances = calloc(INSTANCES_MAX, sizeof(*f.instances));
    if (!f.instances)
        abort();
    e = fill(&f, err);
    sketch_release(&f.sketch);
    free(f.instances);
    if (e == ERR_OK || f.is_kv || ++r->refill_tries < TRIES)
        return e;
    log_error("realtime store: it cannot be filled from the history store and begins empty: %s",
              err_text(err));
    return kv_begin(r->kv, err);
}

enum err_code realtime_refill(struct realtime *r, struct watermark *out, struct err *err)
{
    bool found = false, has_begun = false;
    enum err_code e = kv_has_begun(r->kv, &has_begun, err);

    if (e == ERR_OK && !has_begun)
        e = fill_once(r, err);
    if (e)
        return e;
    r->refill_tries = 0;
    return kv_watermark(r->kv, r->instance, out, &found, err);
}
