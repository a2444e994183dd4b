/* SPDX-License-Identifier: Apache-2.0 */
/* Which hours there are: in the ledger, stored, dirty, archived. Questions to the history store, on the caller's thread.
 * The tricky part is the list of the ledger's hours: it hops along the index from hour to hour, so that it costs one
 * look-up an hour and not one an entry. */
#include <stdlib.h>

#include "libshared/analytics/aggregate_priv.h"

#define HOURS_MAX ((size_t)200000) /* 22 years */

void hour_list_release(struct hour_list *l)
{
    free(l->v);
    *l = (struct hour_list){0};
}

enum err_code hour_list_add(struct hour_list *l, int64_t hour)
{
    size_t cap = l->cap ? l->cap * 2 : 64;
    int64_t *v;

    if (l->n == l->cap) {
        v = cap <= HOURS_MAX * 2 ? realloc(l->v, cap * sizeof(*v)) : NULL;
        if (!v)
            return ERR_NO_MEMORY;
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = hour;
    return ERR_OK;
}

struct listing {
    struct hour_list *list;
    enum err_code e;
};

static bool take_hour(void *user, const struct db_value *c, unsigned n)
{
    struct listing *l = user;

    if (n && c[0].type == DB_INT)
        l->e = hour_list_add(l->list, c[0].i);
    return !l->e;
}

static enum err_code list(struct db *db, const char *label, const char *sql, int64_t bound,
                          struct hour_list *out, struct err *err)
{
    struct listing l = {.list = out};
    struct db_value p = db_int(bound);
    enum err_code e = db_query(db, label, sql, &p, 1, take_hour, &l, err);

    return e || !l.e ? e : err_set(err, l.e, "the list of hours does not fit into memory");
}

static bool take_int(void *user, const struct db_value *c, unsigned n)
{
    if (n && c[0].type == DB_INT)
        *(int64_t *)user = c[0].i;
    return false;
}

enum err_code db_one_int(struct db *db, const char *label, const char *sql, const struct db_value *params,
                         unsigned n, int64_t *out, struct err *err)
{
    return db_query(db, label, sql, params, n, take_int, out, err);
}

enum err_code hours_not_stored(struct db *db, int64_t last, struct hour_list *out, struct err *err)
{
    return list(db, "rollup_hours",
                "WITH RECURSIVE h(hour) AS ("
                "SELECT (SELECT min(minute) / 3600 * 3600 FROM ledger) "
                "UNION ALL "
                "SELECT (SELECT min(minute) / 3600 * 3600 FROM ledger WHERE minute >= h.hour + 3600) FROM h "
                "WHERE h.hour IS NOT NULL) "
                "SELECT h.hour FROM h WHERE h.hour IS NOT NULL AND h.hour <= $1 "
                "AND NOT EXISTS (SELECT 1 FROM aggregated_hours a WHERE a.hour = h.hour) ORDER BY h.hour",
                last, out, err);
}

enum err_code hours_dirty(struct db *db, int64_t last, struct hour_list *out, struct err *err)
{
    return list(db, "rollup_dirty", "SELECT hour FROM dirty_hours WHERE hour <= $1 ORDER BY hour", last, out,
                err);
}

static bool take_source(void *user, const struct db_value *c, unsigned n)
{
    if (n)
        (void)span_copy(user, 16, c[0].s);
    return false;
}

enum err_code hour_source(struct db *db, int64_t hour, char dst[16], struct err *err)
{
    struct db_value p = db_int(hour);

    dst[0] = '\0';
    return db_query(db, "rollup_source", "SELECT source FROM aggregated_hours WHERE hour = $1", &p, 1,
                    take_source, dst, err);
}

enum err_code hour_in_ledger(struct db *db, int64_t hour, bool *out, struct err *err)
{
    struct db_value p[] = {db_int(hour), db_int(hour + HOUR_S)};
    int64_t found = -1;
    enum err_code e =
        db_one_int(db, "rollup_has", "SELECT min(minute) FROM ledger WHERE minute >= $1 AND minute < $2", p,
                   2, &found, err);

    *out = found >= 0;
    return e;
}

static bool take_number(void *user, const struct db_value *c, unsigned n)
{
    uint64_t v;

    if (n && span_to_u64(c[0].s, &v) && v < INT64_MAX)
        *(int64_t *)user = (int64_t)v;
    return false;
}

enum err_code ledger_archived_before(struct db *db, int64_t *out, struct err *err)
{
    struct db_value p = db_textz(ARCHIVED_SETTING);

    *out = 0;
    return db_query(db, "rollup_archived", "SELECT value FROM settings WHERE name = $1", &p, 1, take_number,
                    out, err);
}

enum err_code aggregate_find_source(const struct aggregate_options *o, enum aggregate_source *out,
                                    struct err *err)
{
    int64_t found = 0;
    enum err_code e;

    *out = o->source;
    if (o->source != AGGREGATE_AUTO)
        return ERR_OK;
    *out = AGGREGATE_LEDGER;
    if (!o->kv)
        return ERR_OK;
    e = db_one_int(o->db, "rollup_owner", "SELECT CAST(count(*) AS bigint) FROM journal_watermarks", NULL, 0,
                   &found, err);
    if (!e && !found)
        e = db_one_int(o->db, "rollup_owner", "SELECT 1 FROM ledger LIMIT 1", NULL, 0, &found, err);
    if (!e && !found)
        *out = AGGREGATE_REDIS;
    return e;
}

int64_t last_closed_hour(struct wall now, int64_t settle_us)
{
    int64_t s = (now.us - (settle_us ? settle_us : AGGREGATE_SETTLE)) / 1000000;

    return s < HOUR_S ? -HOUR_S : s / HOUR_S * HOUR_S - HOUR_S;
}
