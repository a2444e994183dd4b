/* SPDX-License-Identifier: Apache-2.0 */
/* Budget windows against the ledger: what was posted is the sum of requests and corrections whose money was reserved in
 * the window (of attempts, for a provider's account). Both are read in one statement, so that a batch that comes in
 * between is in both or in neither. What is held is shown and not compared: it is not in the ledger.
 *
 * The tricky part is an account with windows of several periods, since its budget changed or since corrections go by the
 * month: each posting went into one of them. So the widest window is compared together with all that lie inside it;
 * windows that overlap without lying inside each other, such as a week and a month, cannot be told apart and are left out. */
#include <stdlib.h>
#include <string.h>

#include "libshared/analytics/reconcile_priv.h"
#include "libshared/catalog/period.h"

struct window {
    char *account, *period, *id;
    int64_t start, end; /* seconds, end INT64_MAX for total */
};
struct windows {
    struct window *v;
    size_t n, cap;
    bool is_full;
};

static void windows_release(struct windows *w)
{
    for (size_t i = 0; i < w->n; i++) {
        free(w->v[i].account);
        free(w->v[i].period);
        free(w->v[i].id);
    }
    free(w->v);
}

static char *dup_span(struct span s)
{
    char *z = malloc(s.len + 1);

    if (z)
        (void)span_copy(z, s.len + 1, s);
    return z;
}

static bool reserve(struct windows *w)
{
    size_t cap = w->cap ? w->cap * 2 : 64;
    struct window *v;

    if (w->n < w->cap)
        return true;
    v = realloc(w->v, cap * sizeof(*v));
    if (v) {
        w->v = v;
        w->cap = cap;
    }
    return v != NULL;
}

static bool take_window(void *user, const struct db_value *v, unsigned n)
{
    struct windows *w = user;
    enum period p;
    struct window one = {.end = INT64_MAX};

    if (n != 5 || !period_parse(v[1].s, &p))
        return n == 5; /* a period of a newer gateway */
    w->is_full = !reserve(w);
    if (w->is_full)
        return false;
    if (v[3].type == DB_INT) {
        one.end = v[3].i;
        one.start = v[4].type == DB_INT ? v[4].i
                                        : period_start(p, (struct wall){(v[3].i - 1) * 1000000}).us / 1000000;
    }
    one.account = dup_span(v[0].s);
    one.period = dup_span(v[1].s);
    one.id = dup_span(v[2].s);
    w->v[w->n++] = one;
    w->is_full = !one.account || !one.period || !one.id;
    return !w->is_full;
}

/* ---- one window and what lies inside it ---------------------------------------------------------------------------- */

struct question {
    struct buf sum; /* the ledger's sum as a scalar query */
    struct db_value p[6];
    unsigned n;
};

static bool add_filter(struct question *q, const char *account)
{
    struct span a = span_of(account), kind = span_split(&a, ':'), tenant;

    buf_addf(&q->sum,
             "(SELECT CAST(COALESCE(sum(cost_nano), 0) AS bigint) FROM ledger "
             "WHERE minute >= $4 AND budget_hour >= $2 AND budget_hour < $3 AND (kind IN ('%s', 'adjust') "
             "OR (kind = 'reset'",
             span_is(kind, "provider") ? "attempt" : "request");
    if (span_is(kind, "tenant") || span_is(kind, "provider")) {
        bool is_tenant = span_is(kind, "tenant");

        buf_addf(&q->sum, "%s)) AND %s = $5)", is_tenant ? " AND key = ''" : "",
                 is_tenant ? "tenant" : "provider");
        q->p[q->n++] = db_text(a);
    } else if (span_is(kind, "key")) {
        tenant = span_split(&a, '/');
        buf_addz(&q->sum, ")) AND tenant = $5 AND key = $6)");
        q->p[q->n++] = db_text(tenant);
        q->p[q->n++] = db_text(a);
    } else if (span_is(kind, "global")) {
        buf_addz(&q->sum, " AND tenant = '' AND provider = '')))");
    } else {
        return false;
    }
    return true;
}

/* Windows end behind the widest one's start and not behind its end, which for total is for ever. */
#define INSIDE(what)                                                                                         \
    "(SELECT CAST(COALESCE(sum(" what "), 0) AS bigint) FROM budget_windows WHERE account = $1 "             \
    "AND COALESCE(ends_at, 9223372036854775807) > $2 AND COALESCE(ends_at, 9223372036854775807) <= $3)"

/* False for an account of a kind that is not known. */
static bool ask(struct question *q, const struct window *w)
{
    q->p[0] = db_textz(w->account);
    q->p[1] = db_int(w->start);
    q->p[2] = db_int(w->end);
    q->p[3] = db_int(w->start - HOUR_S); /* an end is later than its reservation, but for a stepping clock */
    q->n = 4;
    return add_filter(q, w->account);
}

struct figures {
    int64_t posted, held, ledger;
    bool is_found;
};

static bool take_figures(void *user, const struct db_value *v, unsigned n)
{
    struct figures *f = user;

    if (n == 3)
        *f = (struct figures){.posted = v[0].i, .held = v[1].i, .ledger = v[2].i, .is_found = true};
    return false;
}

/* The rows are locked first: a batch that posts to them then counts whole, before or after us. The widest takes up the
 * difference. */
static enum err_code set_posted(struct comparison *c, const struct window *w)
{
    struct question q = {0};
    struct buf sql AUTO(buf_release) = {0};
    struct db_value lock = db_textz(w->account);
    struct db *db = c->o->db;
    enum err_code e = db_begin(db, c->err);
    int64_t unused = 0;

    (void)ask(&q, w);
    buf_addf(&sql,
             "UPDATE budget_windows SET posted_nano = posted_nano + %s - " INSIDE(
                 "posted_nano") ", updated_at = %lld "
                                "WHERE account = $1 AND period = '%s' AND window_id = '%s'",
             q.sum.p, (long long)(c->o->now.us / 1000000), w->period, w->id);
    if (!e && db_dialect(db) == DB_POSTGRES)
        e = db_one_int(db, "reconcile_lock",
                       "SELECT posted_nano FROM budget_windows WHERE account = $1 "
                       "ORDER BY account, period, window_id FOR UPDATE",
                       &lock, 1, &unused, c->err);
    if (!e)
        e = db_exec(db, "reconcile_post", sql.p, q.p, q.n, NULL, c->err);
    if (!e)
        e = db_commit(db, c->err);
    if (e)
        db_rollback(db);
    buf_release(&q.sum);
    return e;
}

static void tell(struct comparison *c, const struct window *w, const struct figures *f)
{
    char where[RECONCILE_WHERE_CAP];
    struct place p = {.c = c, .where = where};
    int n = snprintf(where, sizeof(where), "%.300s %s %s", w->account, w->period, w->id);

    if (f->held && n > 0 && (size_t)n < sizeof(where))
        (void)snprintf(where + n, sizeof(where) - (size_t)n, " (held %lld)", (long long)f->held);
    place_figure(&p, "posted_nano", f->ledger, f->posted);
    place_end(&p);
}

static enum err_code read_figures(struct db *db, const struct window *w, struct figures *out, struct err *err)
{
    struct question q = {0};
    struct buf sql AUTO(buf_release) = {0};
    enum err_code e = ERR_OK;

    *out = (struct figures){0};
    if (ask(&q, w)) {
        buf_addf(&sql, "SELECT " INSIDE("posted_nano") ", " INSIDE("held_nano") ", %s", q.sum.p);
        e = db_query(db, "reconcile_window", sql.p, q.p, q.n, take_figures, out, err);
    }
    buf_release(&q.sum);
    return e;
}

enum err_code reconcile_account(struct db *db, const char *account, struct wall from, struct wall to,
                                struct reconcile_account *out, struct err *err)
{
    struct window w = {.account = (char *)(uintptr_t)account,
                       .start = from.us / 1000000,
                       .end = to.us == INT64_MAX ? INT64_MAX : to.us / 1000000};
    struct figures f;
    enum err_code e = read_figures(db, &w, &f, err);

    *out = (struct reconcile_account){f.is_found, f.ledger, f.posted, f.held};
    return e;
}

static enum err_code compare_window(struct comparison *c, const struct window *w, bool is_repair)
{
    struct figures f;
    enum err_code e = read_figures(c->o->db, w, &f, c->err);

    if (e || !f.is_found)
        return e;
    tell(c, w, &f);
    return is_repair && f.posted != f.ledger ? set_posted(c, w) : ERR_OK;
}

static int by_account(const void *a, const void *b)
{
    const struct window *x = a, *y = b;
    int c = strcmp(x->account, y->account);

    if (c)
        return c;
    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return (y->end > x->end) - (y->end < x->end);
}

/* The widest windows of an account, in order of time: one that begins inside the last one lies inside it, or makes it
 * ambiguous and with it all that it touches. */
static enum err_code compare_account(struct comparison *c, const struct window *w, size_t n, bool is_repair)
{
    enum err_code e = ERR_OK;

    for (size_t i = 0; i < n && !e;) {
        int64_t end = w[i].end;
        bool is_clear = true;
        size_t k = i + 1;

        for (; k < n && w[k].start < end; k++)
            if (w[k].end > end) {
                end = w[k].end;
                is_clear = false;
            }
        /* Windows that began before the archive's end have lost a part of their ledger rows. */
        if (is_clear && w[i].start >= c->archived && w[i].end > c->from)
            e = compare_window(c, &w[i], is_repair);
        i = k;
    }
    return e;
}

enum err_code compare_budgets(struct comparison *c, bool is_repair)
{
    struct windows w = {0};
    struct db_value p = db_int(c->from);
    enum err_code e =
        db_query(c->o->db, "reconcile_windows",
                 "SELECT account, period, window_id, ends_at, starts_at FROM budget_windows WHERE account IN "
                 "(SELECT account FROM budget_windows WHERE ends_at IS NULL OR ends_at > $1)",
                 &p, 1, take_window, &w, c->err);

    if (!e && w.is_full)
        e = err_set(c->err, ERR_NO_MEMORY, "the list of budgets does not fit into memory");
    if (w.n)
        qsort(w.v, w.n, sizeof(*w.v), by_account);
    for (size_t i = 0, k = 0; i < w.n && !e; i = k) {
        for (k = i + 1; k < w.n && strcmp(w.v[k].account, w.v[i].account) == 0;)
            k++;
        e = compare_account(c, w.v + i, k - i, is_repair);
    }
    windows_release(&w);
    c->out->pairs[c->pair].is_known = !e;
    return e;
}
