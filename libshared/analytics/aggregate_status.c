/* SPDX-License-Identifier: Apache-2.0 */
/* How the roll-up stands: the last run, what is not stored yet, and when it would be lost. Reads only. With the ledger
 * as source nothing is at risk, since ledger rows are deleted by the archive alone and it refuses hours that are not
 * stored; with Redis the oldest hash that is not stored decides. */
#include "libshared/analytics/aggregate_priv.h"

static bool take_run(void *user, const struct db_value *c, unsigned n)
{
    struct aggregate_status *s = user;

    if (n != 7)
        return false;
    s->last_started.us = c[0].i;
    s->last_finished.us = c[1].type == DB_INT ? c[1].i : 0;
    (void)span_copy(s->last_result, sizeof(s->last_result), c[2].s);
    (void)span_copy(s->last_source, sizeof(s->last_source), c[3].s);
    s->last_hours = c[4].i;
    s->last_rows = c[5].i;
    (void)span_copy(s->last_error, sizeof(s->last_error), c[6].s);
    return false;
}

static enum err_code read_last(struct db *db, struct aggregate_status *out, struct err *err)
{
    enum err_code e = db_query(db, "rollup_last",
                               "SELECT started_at, finished_at, result, source, hours, rows_stored, error "
                               "FROM aggregation_runs ORDER BY id DESC LIMIT 1",
                               NULL, 0, take_run, out, err);

    if (!e)
        e = db_one_int(db, "rollup_newest", "SELECT max(hour) FROM aggregated_hours", NULL, 0,
                       &out->last_hour, err);
    return e;
}

static enum err_code from_ledger(const struct aggregate_options *o, int64_t last,
                                 struct aggregate_status *out, struct err *err)
{
    struct hour_list missing = {0}, dirty = {0};
    int64_t archived = 0;
    enum err_code e = ledger_archived_before(o->db, &archived, err);

    if (!e)
        e = hours_not_stored(o->db, last, &missing, err);
    if (!e)
        e = hours_dirty(o->db, last, &dirty, err);
    for (size_t i = 0; i < missing.n; i++) {
        if (missing.v[i] < archived)
            continue;
        out->missing_hours++;
        if (!out->oldest_missing)
            out->oldest_missing = missing.v[i];
    }
    for (size_t i = 0; i < dirty.n; i++)
        out->dirty_hours += dirty.v[i] >= archived;
    hour_list_release(&missing);
    hour_list_release(&dirty);
    return e;
}

/* The time to live is of whole hashes; the first one that goes takes a part of its hour along. */
static enum err_code from_redis(const struct aggregate_options *o, int64_t last, struct aggregate_status *out,
                                struct err *err)
{
    struct redis_keys keys = {0};
    enum err_code e = redis_keys_scan(o->kv, &keys, err);
    int64_t asked = -1, least = -1;
    char source[16] = "";

    for (size_t i = 0; i < keys.n && keys.v[i].hour <= last && !e; i++) {
        if (keys.v[i].hour != asked) {
            e = hour_source(o->db, asked = keys.v[i].hour, source, err);
            out->missing_hours += !e && !source[0];
        }
        if (e || source[0])
            continue;
        if (!out->oldest_missing)
            out->oldest_missing = asked;
        if (keys.v[i].ttl_s >= 0 && (least < 0 || keys.v[i].ttl_s < least))
            least = keys.v[i].ttl_s;
    }
    if (least >= 0)
        out->loss_at.us = o->now.us + least * 1000000;
    redis_keys_release(&keys);
    return e;
}

enum err_code aggregate_status(const struct aggregate_options *o, struct aggregate_status *out,
                               struct err *err)
{
    int64_t last = last_closed_hour(o->now, o->settle_us);
    enum aggregate_source source = AGGREGATE_LEDGER;
    enum err_code e;

    *out = (struct aggregate_status){0};
    e = read_last(o->db, out, err);
    if (!e)
        e = aggregate_find_source(o, &source, err);
    if (e)
        return e;
    out->is_ledger_complete = source == AGGREGATE_LEDGER;
    if (source == AGGREGATE_LEDGER)
        return from_ledger(o, last, out, err);
    return o->kv ? from_redis(o, last, out, err)
                 : err_set(err, ERR_CONFIG, "there is no Redis to read hours from");
}
