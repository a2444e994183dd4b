/* SPDX-License-Identifier: Apache-2.0 */
/* Reconciliation: the ledger against itself and against every book that is derived from it, dimension by dimension. On the
 * caller's thread, with the caller's handles. The ledger is never changed: a repair makes the other book follow. The
 * tricky part is what may differ for a while without being wrong: requests that are under way, hours that are not closed
 * or dirty, a store that is behind; none of these is compared. */
#include "libshared/analytics/reconcile_priv.h"

#include <stdlib.h>
#include <string.h>

#define WINDOW_S (24 * HOUR_S)
/* A request whose money was reserved in an hour may end in a later one; its attempts may be booked before it. */
#define OPEN_S HOUR_S

const char *reconcile_pair_name(enum reconcile_pair p)
{
    static const char *const NAMES[RECONCILE_COUNT] = {
        [RECONCILE_LEDGER_SELF] = "ledger_self",
        [RECONCILE_LEDGER_HOURLY] = "ledger_hourly",
        [RECONCILE_LEDGER_REDIS] = "ledger_redis",
        [RECONCILE_LEDGER_BUDGETS] = "ledger_budgets",
    };

    return p < RECONCILE_COUNT ? NAMES[p] : "unknown";
}

/* ---- telling ------------------------------------------------------------------------------------------------------- */

void place_figure(struct place *p, const char *measure, int64_t ledger, int64_t other)
{
    struct reconcile_line line = {p->c->pair, p->where, measure, ledger, other};
    uint64_t by = ledger > other ? (uint64_t)ledger - (uint64_t)other : (uint64_t)other - (uint64_t)ledger;

    if (!by)
        return;
    if (strncmp(measure, "cost", 4) == 0 || strncmp(measure, "posted", 6) == 0)
        p->cost += by;
    else
        p->rest += by;
    if (p->c->o->fn)
        p->c->o->fn(p->c->o->user, &line);
}

void place_end(struct place *p)
{
    uint64_t by = p->cost ? p->cost : p->rest;
    int64_t *drift = &p->c->out->pairs[p->c->pair].drift;

    p->c->out->pairs[p->c->pair].compared++;
    if (!by)
        return;
    p->c->out->pairs[p->c->pair].different++;
    if (by > INT64_MAX || __builtin_add_overflow(*drift, (int64_t)by, drift))
        *drift = INT64_MAX;
}

static int order(const struct hour_rows *a, size_t i, const struct hour_rows *b, size_t k)
{
    int c;

    if (i == a->n || k == b->n)
        return (i == a->n) - (k == b->n);
    c = strcmp(a->v[i].provider, b->v[k].provider);
    return c ? c : strcmp(a->v[i].model, b->v[k].model);
}

static void compare_row(struct comparison *c, const char *hour, const struct hour_row *ledger,
                        const struct hour_row *other)
{
    const struct hour_row *any = ledger ? ledger : other;
    char where[RECONCILE_WHERE_CAP];
    struct place p = {.c = c, .where = where};

    (void)snprintf(where, sizeof(where), "%.13s %.200s %.250s", hour, any->provider, any->model);
    for (unsigned m = 0; m < MEASURE_COUNT; m++)
        place_figure(&p, measure_name(m), ledger ? ledger->m.v[m] : 0, other ? other->m.v[m] : 0);
    place_end(&p);
}

enum err_code compare_rows(struct comparison *c, int64_t hour, const struct hour_rows *ledger,
                           const struct hour_rows *other)
{
    uint64_t before = c->out->pairs[c->pair].different;
    char text[HOUR_TEXT_CAP];
    size_t i = 0, k = 0;

    hour_column(hour, text);
    while (i < ledger->n || k < other->n) {
        int side = order(ledger, i, other, k);

        compare_row(c, text, side <= 0 ? &ledger->v[i] : NULL, side >= 0 ? &other->v[k] : NULL);
        i += side <= 0;
        k += side >= 0;
    }
    if (c->out->pairs[c->pair].different > before && hour_list_add(&c->hours, hour))
        return err_set(c->err, ERR_NO_MEMORY, "the list of hours does not fit into memory");
    return ERR_OK;
}

bool rows_equal(const struct hour_rows *a, const struct hour_rows *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (order(a, i, b, i) != 0 || memcmp(&a->v[i].m, &b->v[i].m, sizeof(a->v[i].m)) != 0)
            return false;
    return true;
}

/* ---- the ledger against itself ------------------------------------------------------------------------------------- */

static const char *const SHARED[] = {"tokens_in",        "tokens_cached", "tokens_cwrite", "tokens_out",
                                     "tokens_reasoning", "images",        "searches",      "cost_nano"};

static bool take_self(void *user, const struct db_value *v, unsigned n)
{
    struct comparison *c = user;
    char where[RECONCILE_WHERE_CAP], hour[HOUR_TEXT_CAP];
    struct place p = {.c = c, .where = where};

    if (n != 3 + 2 * ARRAY_LEN(SHARED))
        return false;
    hour_column(v[0].i, hour);
    (void)snprintf(where, sizeof(where), "%.13s tenant:%.*s key:%.*s", hour,
                   (int)(v[1].s.len > 200 ? 200 : v[1].s.len), v[1].s.p,
                   (int)(v[2].s.len > 200 ? 200 : v[2].s.len), v[2].s.p);
    for (unsigned i = 0; i < ARRAY_LEN(SHARED); i++)
        place_figure(&p, SHARED[i], v[3 + 2 * i].i, v[4 + 2 * i].i);
    place_end(&p);
    return true;
}

static enum err_code compare_self(struct comparison *c)
{
    struct buf sql AUTO(buf_release) = {0};
    struct db_value p[] = {db_int(c->from - OPEN_S), db_int(c->from),
                           db_int(c->o->now.us / 1000000 - OPEN_S - HOUR_S)};

    buf_addz(&sql, "SELECT budget_hour, tenant, key");
    for (unsigned i = 0; i < ARRAY_LEN(SHARED); i++)
        buf_addf(&sql,
                 ", CAST(sum(CASE WHEN kind = 'request' THEN %s ELSE 0 END) AS bigint)"
                 ", CAST(sum(CASE WHEN kind = 'attempt' THEN %s ELSE 0 END) AS bigint)",
                 SHARED[i], SHARED[i]);
    buf_addz(&sql, " FROM ledger WHERE minute >= $1 AND budget_hour >= $2 AND budget_hour <= $3 "
                   "AND kind IN ('request', 'attempt') GROUP BY budget_hour, tenant, key ORDER BY 1, 2, 3");
    c->out->pairs[c->pair].is_known = true;
    return db_query(c->o->db, "reconcile_self", sql.p, p, 3, take_self, c, c->err);
}

/* ---- the ledger against the hourly rows ---------------------------------------------------------------------------- */

static bool take_stored(void *user, const struct db_value *v, unsigned n)
{
    return n && hour_list_add(user, v[0].i) == ERR_OK;
}

static enum err_code compare_hour(struct comparison *c, int64_t hour)
{
    struct hour_rows ledger = {0}, stored = {0};
    enum err_code e = hour_rows_from_stored(c->o->db, hour, &stored, c->err);

    if (!e)
        e = hour_rows_from_ledger(c->o->db, hour, &ledger, c->err);
    hour_rows_finish(&stored);
    if (!e)
        e = compare_rows(c, hour, &ledger, &stored);
    hour_rows_release(&ledger);
    hour_rows_release(&stored);
    return e;
}

/* Hours that were rolled up from Redis have no ledger rows in this database. */
static enum err_code compare_hourly(struct comparison *c)
{
    struct hour_list hours = {0};
    struct db_value p[] = {db_int(c->from > c->archived ? c->from : c->archived),
                           db_int(last_closed_hour(c->o->now, 0))};
    enum err_code e =
        db_query(c->o->db, "reconcile_hours",
                 "SELECT hour FROM aggregated_hours a WHERE hour >= $1 AND hour <= $2 "
                 "AND source = 'ledger' "
                 "AND NOT EXISTS (SELECT 1 FROM dirty_hours d WHERE d.hour = a.hour) ORDER BY hour",
                 p, 2, take_stored, &hours, c->err);

    for (size_t i = 0; i < hours.n && !e; i++)
        e = compare_hour(c, hours.v[i]);
    hour_list_release(&hours);
    c->out->pairs[c->pair].is_known = !e;
    return e;
}

/* ---- all pairs ----------------------------------------------------------------------------------------------------- */

static enum err_code compare(struct comparison *c, bool is_repair)
{
    switch (c->pair) {
    case RECONCILE_LEDGER_SELF:
        return compare_self(c);
    case RECONCILE_LEDGER_HOURLY:
        return compare_hourly(c);
    case RECONCILE_LEDGER_REDIS:
        return c->o->kv ? compare_redis(c) : ERR_OK;
    case RECONCILE_LEDGER_BUDGETS:
        return compare_budgets(c, is_repair);
    case RECONCILE_COUNT:
        break;
    }
    return err_set(c->err, ERR_BAD_REQUEST, "no such pair of books");
}

static enum err_code begin(struct comparison *c, const struct reconcile_options *o,
                           struct reconcile_result *out, struct err *err)
{
    int64_t first = o->now.us / 1000000 / HOUR_S * HOUR_S - WINDOW_S;

    *c = (struct comparison){.o = o, .out = out, .err = err};
    c->from = o->from_hour ? o->from_hour / HOUR_S * HOUR_S : first > 0 ? first : 0;
    *out = (struct reconcile_result){0};
    return ledger_archived_before(o->db, &c->archived, err);
}

enum err_code reconcile_run(const struct reconcile_options *o, struct reconcile_result *out, struct err *err)
{
    struct comparison c;
    enum err_code e = begin(&c, o, out, err);

    for (c.pair = 0; c.pair < RECONCILE_COUNT && !e; c.pair++)
        e = compare(&c, false);
    hour_list_release(&c.hours);
    return e;
}

/* ---- repair -------------------------------------------------------------------------------------------------------- */

static enum err_code roll_up_again(struct comparison *c)
{
    struct aggregate_options o = {
        .db = c->o->db, .source = AGGREGATE_LEDGER, .now = c->o->now, .lock_wait_us = 5000000};
    struct aggregate_result result;
    enum err_code e = ERR_OK;

    for (size_t i = 0; i < c->hours.n && !e; i++) {
        struct db_value p[] = {db_int(c->hours.v[i]), db_int(c->o->now.us / 1000000)};

        e = db_exec(c->o->db, "reconcile_dirty",
                    "INSERT INTO dirty_hours (hour, since) VALUES ($1, $2) ON CONFLICT (hour) DO NOTHING", p,
                    2, NULL, c->err);
    }
    if (!e)
        e = aggregate_run(&o, &result, c->err);
    if (!e && result.was_locked)
        e = err_set(c->err, ERR_CONFLICT,
                    "another roll-up is running; it will do the hours that were marked");
    return e;
}

enum err_code reconcile_repair(const struct reconcile_options *o, enum reconcile_pair pair, bool is_dry_run,
                               unsigned *out_changed, struct err *err)
{
    struct reconcile_result result;
    struct comparison c;
    enum err_code e = begin(&c, o, &result, err);

    *out_changed = 0;
    c.pair = pair;
    if (pair == RECONCILE_LEDGER_SELF)
        return err_set(err, ERR_BAD_REQUEST, "the ledger follows no other book; it is never repaired");
    if (!e)
        e = compare(&c, !is_dry_run);
    if (!e && !is_dry_run && c.hours.n)
        e = pair == RECONCILE_LEDGER_REDIS ? repair_redis(&c) : roll_up_again(&c);
    if (!e && pair < RECONCILE_COUNT)
        *out_changed = (unsigned)result.pairs[pair].different;
    hour_list_release(&c.hours);
    return e;
}
