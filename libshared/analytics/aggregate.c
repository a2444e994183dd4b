/* SPDX-License-Identifier: Apache-2.0 */
/* The roll-up: which hours are due, one transaction an hour, a record of the run. On the caller's thread, with the
 * caller's handles, under a lock that all runners of one database share.
 *
 *   lock ─► due hours ─► per hour: begin, forget dirt, read, replace, note, commit ─► clean-up, view ─► unlock
 *
 * The invariant: a stored hour that is not dirty equals its ledger rows, whenever a run was cut short. The tricky part is
 * a batch that changes the hour meanwhile: the mark of dirt goes first, before anything is read. A writer that marks the
 * hour while we read has to wait for our commit on that row, or makes a row that we do not know of; either way the mark is
 * there afterwards and the hour is done again. */
#include <stdlib.h>
#include <string.h>

#include "libshared/analytics/aggregate_priv.h"
#include "libshared/analytics/hour_lock.h"
#include "libshared/base/crash.h"

#define RUNS_KEPT 1000

struct run {
    const struct aggregate_options *o;
    struct aggregate_result *out;
    struct hour_list due;
    struct redis_keys keys;
    int64_t id, archived;
    bool was_interrupted; /* an earlier run died, perhaps before it refreshed what is made of the rows */
};

static const char *source_name(enum aggregate_source s)
{
    return s == AGGREGATE_REDIS ? "redis" : "ledger";
}

static bool is_explicit(const struct aggregate_options *o)
{
    return o->from_hour || o->to_hour;
}

/* ---- which hours --------------------------------------------------------------------------------------------------- */

static enum err_code no_memory(struct err *err)
{
    return err_set(err, ERR_NO_MEMORY, "the list of hours does not fit into memory");
}

static enum err_code add_due(struct run *r, int64_t hour, struct err *err)
{
    return hour_list_add(&r->due, hour) ? no_memory(err) : ERR_OK;
}

static int by_value(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static void sort_due(struct run *r)
{
    size_t n = 0;

    if (r->due.n)
        qsort(r->due.v, r->due.n, sizeof(*r->due.v), by_value);
    for (size_t i = 0; i < r->due.n; i++)
        if (!n || r->due.v[n - 1] != r->due.v[i])
            r->due.v[n++] = r->due.v[i];
    r->due.n = n;
}

/* Hours whose ledger rows were archived are settled for good: there is nothing to compute them from. */
static enum err_code due_from_ledger(struct run *r, int64_t last, struct err *err)
{
    struct hour_list missing = {0}, dirty = {0};
    enum err_code e = hours_not_stored(r->o->db, last, &missing, err);

    if (!e)
        e = hours_dirty(r->o->db, last, &dirty, err);
    for (size_t i = 0; i < missing.n && !e; i++)
        if (missing.v[i] >= r->archived)
            e = add_due(r, missing.v[i], err);
    for (size_t i = 0; i < dirty.n && !e; i++)
        if (dirty.v[i] >= r->archived) {
            e = add_due(r, dirty.v[i], err);
            r->out->dirty++;
        }
    hour_list_release(&missing);
    hour_list_release(&dirty);
    return e;
}

/* Totals of a stored hour; a counter in Redis only grows, so a larger sum is a later state. */
static int64_t total_of(const struct hour_rows *rows)
{
    int64_t sum = 0;

    for (size_t i = 0; i < rows->n; i++)
        sum += rows->v[i].m.v[MEASURE_req] + rows->v[i].m.v[MEASURE_attempts];
    return sum;
}

/* A correction adds to the cost alone. */
static bool is_same(const struct hour_rows *a, const struct hour_rows *b)
{
    struct measures of_a = {0}, of_b = {0};

    for (unsigned m = 0; m < MEASURE_COUNT; m++) {
        for (size_t i = 0; i < a->n; i++)
            of_a.v[m] += a->v[i].m.v[m];
        for (size_t i = 0; i < b->n; i++)
            of_b.v[m] += b->v[i].m.v[m];
    }
    return memcmp(&of_a, &of_b, sizeof(of_a)) == 0;
}

enum live { LIVE_LESS, LIVE_SAME, LIVE_LATER }; /* what Redis has of a stored hour; less when it lost some */

static enum err_code compare_live(struct run *r, int64_t hour, enum live *out, struct err *err)
{
    struct hour_rows stored = {0}, live = {0};
    enum err_code e = hour_rows_from_stored(r->o->db, hour, &stored, err);

    if (!e)
        e = hour_rows_from_redis(r->o->kv, &r->keys, hour, &live, err);
    *out = total_of(&live) < total_of(&stored) ? LIVE_LESS : is_same(&live, &stored) ? LIVE_SAME : LIVE_LATER;
    hour_rows_release(&stored);
    hour_rows_release(&live);
    return e;
}

static enum err_code consider(struct run *r, int64_t hour, struct err *err)
{
    char source[16];
    enum live live = LIVE_SAME;
    enum err_code e = hour_source(r->o->db, hour, source, err);

    if (e)
        return e;
    if (!source[0])
        return add_due(r, hour, err);
    if (strcmp(source, "redis") == 0)
        e = compare_live(r, hour, &live, err);
    if (!e && live == LIVE_LATER) {
        r->out->dirty++;
        e = add_due(r, hour, err);
    }
    return e;
}

static enum err_code take_indexed(void *user, int64_t hour)
{
    return hour_list_add(user, hour);
}

static bool is_in_redis(const struct run *r, int64_t hour)
{
    size_t at = redis_keys_from(&r->keys, hour);

    return at < r->keys.n && r->keys.v[at].hour == hour;
}

/* Hours that the index names, that are not stored, and whose hashes are gone. */
static enum err_code count_lost(struct run *r, int64_t last, int64_t *out, struct err *err)
{
    struct hour_list indexed = {0};
    char source[16];
    enum err_code e = redis_hours(r->o->kv, r->o->now, take_indexed, &indexed, err);

    for (size_t i = 0; i < indexed.n && !e; i++) {
        if (indexed.v[i] > last || is_in_redis(r, indexed.v[i]))
            continue;
        e = hour_source(r->o->db, indexed.v[i], source, err);
        *out += !e && !source[0];
    }
    hour_list_release(&indexed);
    return e;
}

static enum err_code due_from_redis(struct run *r, int64_t last, struct err *err)
{
    enum err_code e = ERR_OK;
    int64_t asked = -1;

    for (size_t i = 0; i < r->keys.n && r->keys.v[i].hour <= last && !e; i++)
        if (r->keys.v[i].hour != asked)
            e = consider(r, asked = r->keys.v[i].hour, err);
    return e ? e : count_lost(r, last, &r->out->missing_hours, err);
}

/* ---- hours by name ------------------------------------------------------------------------------------------------- */

enum fate { FATE_STORE, FATE_KEEP, FATE_GAP };

/* An hour of the ledger's life without rows had no traffic; one before it is a gap. */
static enum err_code fate_in_ledger(struct run *r, int64_t hour, int64_t first, const char *source,
                                    enum fate *out, struct err *err)
{
    bool has_rows = false;
    enum err_code e = hour_in_ledger(r->o->db, hour, &has_rows, err);

    *out = FATE_STORE;
    if (hour < r->archived || (!has_rows && strcmp(source, "redis") == 0))
        *out = source[0] ? FATE_KEEP : FATE_GAP;
    else if (!has_rows && (first < 0 || hour < first))
        *out = source[0] ? FATE_KEEP : FATE_GAP;
    return e;
}

/* What is stored stays where Redis has lost some of the hour. */
static enum err_code fate_in_redis(struct run *r, int64_t hour, const char *source, enum fate *out,
                                   struct err *err)
{
    enum live live = LIVE_LATER;
    enum err_code e = ERR_OK;

    if (!is_in_redis(r, hour) || strcmp(source, "ledger") == 0) {
        *out = source[0] ? FATE_KEEP : FATE_GAP;
        return ERR_OK;
    }
    if (source[0])
        e = compare_live(r, hour, &live, err);
    *out = live == LIVE_LESS ? FATE_KEEP : FATE_STORE;
    return e;
}

static enum err_code fate_of(struct run *r, int64_t hour, int64_t first, enum fate *out, struct err *err)
{
    char source[16];
    enum err_code e = hour_source(r->o->db, hour, source, err);

    if (e)
        return e;
    return r->out->source == AGGREGATE_LEDGER ? fate_in_ledger(r, hour, first, source, out, err)
                                              : fate_in_redis(r, hour, source, out, err);
}

static enum err_code due_by_name(struct run *r, int64_t last, struct err *err)
{
    int64_t to = r->o->to_hour ? r->o->to_hour : r->o->from_hour, first = -1, first_gap = 0;
    enum err_code e = db_one_int(r->o->db, "rollup_first", "SELECT min(minute) / 3600 * 3600 FROM ledger",
                                 NULL, 0, &first, err);
    enum fate fate;
    char text[HOUR_TEXT_CAP];

    for (int64_t h = r->o->from_hour / HOUR_S * HOUR_S; h <= to && h <= last && !e; h += HOUR_S) {
        e = fate_of(r, h, first, &fate, err);
        if (!e && fate == FATE_GAP && !r->out->missing_hours++)
            first_gap = h;
        if (!e && (fate == FATE_STORE || (fate == FATE_GAP && r->o->allow_gaps)))
            e = add_due(r, h, err);
    }
    if (e || !r->out->missing_hours || r->o->allow_gaps)
        return e;
    hour_column(first_gap, text);
    return err_set(err, ERR_CONFLICT,
                   "the data of %lld hours is gone, the first is '%s'; nothing was stored; "
                   "allow gaps (--allow-gaps) to store them as empty",
                   (long long)r->out->missing_hours, text);
}

static enum err_code find_due(struct run *r, struct err *err)
{
    int64_t last = last_closed_hour(r->o->now, r->o->settle_us);
    enum err_code e = ledger_archived_before(r->o->db, &r->archived, err);

    if (!e)
        e = aggregate_find_source(r->o, &r->out->source, err);
    if (!e && r->out->source == AGGREGATE_REDIS)
        e = r->o->kv ? redis_keys_scan(r->o->kv, &r->keys, err)
                     : err_set(err, ERR_CONFIG, "there is no Redis to read hours from");
    if (!e)
        e = is_explicit(r->o)                    ? due_by_name(r, last, err)
            : r->out->source == AGGREGATE_LEDGER ? due_from_ledger(r, last, err)
                                                 : due_from_redis(r, last, err);
    if (!e)
        sort_due(r);
    return e;
}

/* ---- one hour ------------------------------------------------------------------------------------------------------ */

static enum err_code read_hour(struct run *r, int64_t hour, struct hour_rows *rows, struct err *err)
{
    return r->out->source == AGGREGATE_REDIS ? hour_rows_from_redis(r->o->kv, &r->keys, hour, rows, err)
                                             : hour_rows_from_ledger(r->o->db, hour, rows, err);
}

static enum err_code replace_hour(struct run *r, int64_t hour, struct hour_rows *rows, struct err *err)
{
    struct db *db = r->o->db;
    struct db_value p = db_int(hour);
    enum err_code e = db_begin(db, err);

    if (!e)
        e = hour_lock_alone(db, hour, err);
    if (!e)
        e = db_exec(db, "rollup_clean", "DELETE FROM dirty_hours WHERE hour = $1", &p, 1, NULL, err);
    CRASH_POINT(rollup_after_clean);
    if (!e)
        e = read_hour(r, hour, rows, err);
    if (!e)
        e = hour_rows_store(db, hour, rows, source_name(r->out->source), r->o->now, err);
    CRASH_POINT(rollup_before_commit);
    if (!e)
        e = db_commit(db, err);
    if (e)
        db_rollback(db);
    CRASH_POINT(rollup_after_commit);
    return e;
}

static enum err_code do_hour(struct run *r, size_t i, struct err *err)
{
    struct hour_rows rows = {0};
    char text[HOUR_TEXT_CAP];
    enum err_code e =
        r->o->is_dry_run ? read_hour(r, r->due.v[i], &rows, err) : replace_hour(r, r->due.v[i], &rows, err);

    if (!e) {
        r->out->hours++;
        r->out->rows += (unsigned)rows.n;
        if (r->o->progress)
            r->o->progress(r->o->user, r->due.v[i], (unsigned)i + 1, (unsigned)r->due.n, (unsigned)rows.n);
    } else {
        hour_column(r->due.v[i], text);
        e = err_prefix(err, "hour '%s'", text);
    }
    hour_rows_release(&rows);
    return e;
}

/* Something in that hour's data; the others need not wait for it. */
static bool is_of_the_hour(enum err_code e)
{
    return e == ERR_BAD_REQUEST || e == ERR_BAD_BODY || e == ERR_NO_MEMORY;
}

static enum err_code do_hours(struct run *r, struct err *err)
{
    enum err_code first = ERR_OK, e = ERR_OK;

    for (size_t i = 0; i < r->due.n && (!e || is_of_the_hour(e)); i++) {
        struct err why = {0};

        e = do_hour(r, i, &why);
        if (e && !first)
            first = err_set(err, e, "%s", err_text(&why));
    }
    return first;
}

/* ---- the run ------------------------------------------------------------------------------------------------------- */

static bool take_id(void *user, const struct db_value *c, unsigned n)
{
    if (n)
        *(int64_t *)user = c[0].i;
    return false;
}

/* Whoever holds the lock knows that an earlier run which still says "running" is dead. */
static enum err_code begin_run(struct run *r, struct err *err)
{
    struct db_value now = db_int(r->o->now.us), p[] = {now, db_textz(source_name(r->o->source))};
    int64_t interrupted = 0;
    enum err_code e =
        db_exec(r->o->db, "rollup_run",
                "UPDATE aggregation_runs SET result = 'error', error = 'interrupted', finished_at = $1 "
                "WHERE result = 'running'",
                &now, 1, &interrupted, err);

    r->was_interrupted = !e && interrupted > 0;
    if (!e)
        e = db_query(r->o->db, "rollup_run",
                     "INSERT INTO aggregation_runs (started_at, result, source, hours, rows_stored, error) "
                     "VALUES ($1, 'running', $2, 0, 0, '') RETURNING id",
                     p, 2, take_id, &r->id, err);
    CRASH_POINT(rollup_begun);
    return e;
}

static enum err_code end_run(struct run *r, enum err_code failed, const struct err *why, int64_t took_us,
                             struct err *err)
{
    struct db_value p[] = {db_int(r->o->now.us + took_us),
                           db_textz(failed ? "error" : "ok"),
                           db_textz(source_name(r->out->source)),
                           db_int(r->out->hours),
                           db_int(r->out->rows),
                           db_textz(failed ? err_text(why) : ""),
                           db_int(r->id)};
    struct db_value old = db_int(r->id - RUNS_KEPT);
    enum err_code e =
        db_exec(r->o->db, "rollup_run",
                "UPDATE aggregation_runs SET finished_at = $1, result = $2, source = $3, hours = $4, "
                "rows_stored = $5, error = $6 WHERE id = $7",
                p, 7, NULL, err);

    if (!e)
        e = db_exec(r->o->db, "rollup_run", "DELETE FROM aggregation_runs WHERE id <= $1", &old, 1, NULL,
                    err);
    return e;
}

/* The ledger keeps what Redis forgets; without it an hour has to be stored before its hashes may go. */
static enum err_code may_remove(void *user, int64_t hour, bool *out_may, struct err *err)
{
    struct run *r = user;
    char source[16];
    enum err_code e = hour_source(r->o->db, hour, source, err);

    *out_may = r->out->source == AGGREGATE_LEDGER || source[0];
    return e;
}

static enum err_code tidy(struct run *r, struct err *err)
{
    enum err_code e = ERR_OK;

    CRASH_POINT(rollup_before_tidy);
    if (r->out->hours || r->was_interrupted)
        e = aggregate_refresh_view(r->o->db, err);
    if (!e && r->o->kv && !is_explicit(r->o))
        e = redis_clean(r->o->kv, r->o->now, r->o->retention_us, may_remove, r, &r->out->keys_removed, err);
    CRASH_POINT(rollup_after_tidy);
    return e;
}

static enum err_code run_locked(struct run *r, struct mono start, struct err *err)
{
    struct err second = {0};
    enum err_code e = begin_run(r, err), e2;

    if (e)
        return e;
    e = find_due(r, err);
    if (!e)
        e = do_hours(r, err);
    if (!e)
        e = tidy(r, err);
    e2 = end_run(r, e, err, mono_diff_us(mono_now(), start), &second);
    return e ? e : e2 ? err_set(err, e2, "%s", err_text(&second)) : ERR_OK;
}

static enum err_code look_only(struct run *r, struct err *err)
{
    enum err_code e = find_due(r, err);

    return e ? e : do_hours(r, err);
}

enum err_code aggregate_run(const struct aggregate_options *o, struct aggregate_result *out, struct err *err)
{
    struct mono start = mono_now();
    struct run r = {.o = o, .out = out};
    struct err own = {0};
    enum err_code e = ERR_OK;
    bool got = false;

    *out = (struct aggregate_result){0};
    if (!err)
        err = &own; /* the run's record wants the reason */
    if (o->is_dry_run) {
        e = look_only(&r, err);
    } else {
        e = db_lock(o->db, "aggregate", o->lock_wait_us, &got, err);
        out->was_locked = !e && !got;
        if (!e && got) {
            e = run_locked(&r, start, err);
            db_unlock(o->db, "aggregate");
        }
    }
    out->took_us = mono_diff_us(mono_now(), start);
    hour_list_release(&r.due);
    redis_keys_release(&r.keys);
    return e;
}

enum err_code aggregate_refresh_view(struct db *db, struct err *err)
{
    if (db_dialect(db) != DB_POSTGRES)
        return ERR_OK;
    return db_exec(db, "refresh_view", "REFRESH MATERIALIZED VIEW CONCURRENTLY provider_stats_24h", NULL, 0,
                   NULL, err);
}
