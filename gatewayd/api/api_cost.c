/* SPDX-License-Identifier: Apache-2.0 */
/* What was spent in whole days (UTC), by whom, against the days before and against what came in. Providers, models and days come
 * from the hours; tenants and keys from the ledger, which alone knows them. On the thread of RUN_READING. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gatewayd/api/api_view_priv.h"

/* ---- figures --------------------------------------------------------------------------------------------------------- */

static void put_spend(json_t *o, const struct measures *m, int64_t all_nano)
{
    double cost = (double)m->v[MEASURE_cost_nano] / 1e9;

    view_put_measures(o, m);
    SET(o, "share", api_json_number(measures_ratio(m->v[MEASURE_cost_nano], all_nano)));
    SET(o, "cost_per_1k_requests",
        m->v[MEASURE_attempts] ? json_real(cost / (double)m->v[MEASURE_attempts] * 1e3) : json_null());
    SET(o, "cost_per_1m_tokens",
        measures_tokens(m) > 0 ? json_real(cost / (double)measures_tokens(m) * 1e6) : json_null());
}

static int64_t cost_in(const struct hourly_sums *s, const char *provider, const char *model)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->v[i].provider, provider) == 0 && strcmp(s->v[i].model, model) == 0)
            return s->v[i].m.v[MEASURE_cost_nano];
    return 0;
}

static void put_change(json_t *o, int64_t now_nano, int64_t before_nano)
{
    api_set_cost(o, "previous_cost", "previous_cost_nanousd", before_nano);
    SET(o, "change",
        before_nano > 0 ? json_real((double)(now_nano - before_nano) / (double)before_nano) : json_null());
}

static int by_cost(const void *a, const void *b)
{
    const struct hourly_sum *x = a, *y = b;
    int64_t p = x->m.v[MEASURE_cost_nano], q = y->m.v[MEASURE_cost_nano];
    int c = (p < q) - (p > q);

    c = c ? c : strcmp(x->provider, y->provider);
    return c ? c : strcmp(x->model, y->model);
}

/* `before` may be partial: then nothing is compared. */
static json_t *rows_of(const struct hourly *h, const struct hourly *before, enum hourly_by by,
                       int64_t all_nano)
{
    struct hourly_sums now, then = {0};
    json_t *rows = json_array();

    if (hourly_sum(h, by, 0, h->n, &now) || (before && hourly_sum(before, by, 0, before->n, &then)))
        abort();
    if (now.n)
        qsort(now.v, now.n, sizeof(*now.v), by_cost);
    for (size_t i = 0; i < now.n; i++) {
        json_t *row = json_object();

        SET(row, "provider", json_string(now.v[i].provider));
        if (by == HOURLY_MODEL)
            SET(row, "model", json_string(now.v[i].model));
        put_spend(row, &now.v[i].m, all_nano);
        if (before)
            put_change(row, now.v[i].m.v[MEASURE_cost_nano],
                       cost_in(&then, now.v[i].provider, now.v[i].model));
        (void)json_array_append_new(rows, row);
    }
    hourly_sums_release(&now);
    hourly_sums_release(&then);
    return rows;
}

/* ---- tenants and keys ------------------------------------------------------------------------------------------------ */

struct spender {
    char tenant[132], key[132];
    int64_t requests, tokens, cost_nano, income_nano;
};
struct spenders {
    struct spender *v;
    size_t n;
    int64_t cost_nano, plans_nano, payments_nano; /* of all */
};

/* tenant, key, requests, tokens, cost */
static bool take_spender(void *user, const struct db_value *c, unsigned n)
{
    struct spenders *s = user;
    struct spender *x;

    (void)n;
    s->v = realloc(s->v, (s->n + 1) * sizeof(*s->v));
    if (!s->v)
        abort();
    x = &s->v[s->n++];
    *x = (struct spender){.requests = c[2].i, .tokens = c[3].i, .cost_nano = c[4].i};
    (void)span_copy(x->tenant, sizeof(x->tenant), c[0].s);
    (void)span_copy(x->key, sizeof(x->key), c[1].s);
    s->cost_nano += x->cost_nano;
    return true;
}

static int by_spending(const void *a, const void *b)
{
    const struct spender *x = a, *y = b;
    int c = (x->cost_nano < y->cost_nano) - (x->cost_nano > y->cost_nano);

    c = c ? c : strcmp(x->tenant, y->tenant);
    return c ? c : strcmp(x->key, y->key);
}

static enum err_code read_spenders(struct db *db, bool by_key, int64_t from, struct spenders *out,
                                   struct err *err)
{
    struct db_value p = db_int(from);
    enum err_code e = db_query(
        db, by_key ? "cost_keys" : "cost_tenants",
        by_key ? "SELECT tenant, key, CAST(sum(CASE WHEN kind = 'request' THEN count ELSE 0 END) AS bigint), "
                 "CAST(sum(CASE WHEN kind = 'request' THEN tokens_in + tokens_out ELSE 0 END) AS bigint), "
                 "CAST(sum(cost_nano) AS bigint) FROM ledger WHERE minute >= $1 AND tenant <> '' AND kind IN "
                 "('request', 'adjust') GROUP BY tenant, key"
               : "SELECT tenant, '', CAST(sum(CASE WHEN kind = 'request' THEN count ELSE 0 END) AS bigint), "
                 "CAST(sum(CASE WHEN kind = 'request' THEN tokens_in + tokens_out ELSE 0 END) AS bigint), "
                 "CAST(sum(cost_nano) AS bigint) FROM ledger WHERE minute >= $1 AND tenant <> '' AND kind IN "
                 "('request', 'adjust') GROUP BY tenant",
        &p, 1, take_spender, out, err);

    if (out->n)
        qsort(out->v, out->n, sizeof(*out->v), by_spending);
    return e;
}

/* tenant, source, amount */
static bool take_income(void *user, const struct db_value *c, unsigned n)
{
    struct spenders *s = user;

    (void)n;
    *(span_is(c[1].s, "plan") ? &s->plans_nano : &s->payments_nano) += c[2].i;
    for (size_t i = 0; i < s->n; i++)
        if (!s->v[i].key[0] && span_is(c[0].s, s->v[i].tenant))
            s->v[i].income_nano += c[2].i;
    return true;
}

static enum err_code read_income(struct db *db, int64_t from, struct spenders *s, struct err *err)
{
    struct db_value p = db_int(from / VIEW_DAY_S * VIEW_DAY_S);

    return db_query(
        db, "cost_revenue",
        "SELECT tenant, source, CAST(sum(amount_nano) AS bigint) FROM revenue WHERE day >= $1 GROUP BY "
        "tenant, source",
        &p, 1, take_income, s, err);
}

static json_t *spender_rows(const struct spenders *s, bool by_key, bool has_income, size_t most)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < s->n && i < most; i++) {
        const struct spender *x = &s->v[i];
        json_t *row = json_object();

        SET(row, "tenant", json_string(x->tenant));
        if (by_key)
            SET(row, "key", json_string(x->key));
        SET(row, "total_requests", json_integer(x->requests));
        SET(row, "total_tokens", json_integer(x->tokens));
        api_set_cost(row, "total_cost", "total_cost_nanousd", x->cost_nano);
        SET(row, "share", api_json_number(measures_ratio(x->cost_nano, s->cost_nano)));
        if (!by_key) {
            SET(row, "revenue", has_income ? api_json_usd(x->income_nano) : json_null());
            SET(row, "margin", has_income ? api_json_usd(x->income_nano - x->cost_nano) : json_null());
        }
        (void)json_array_append_new(rows, row);
    }
    return rows;
}

/* ---- the answer ------------------------------------------------------------------------------------------------------ */

struct answer {
    const struct api_request *rq;
    json_t *o;
    struct view now, before;
    bool has_before, is_partial;
    char missing[200];
    struct measures all;
};

static void note(struct answer *a, const char *text)
{
    if (!a->is_partial)
        (void)snprintf(a->missing, sizeof(a->missing), "%s", text);
    a->is_partial = true;
}

static json_t *days_of(const struct hourly *h)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < h->n; i++) {
        struct hourly_sums s;
        json_t *row = json_object();

        SET(row, "day", view_day(h->from + (int64_t)i * VIEW_DAY_S));
        view_put_measures(row, &view_sum(h, i, i + 1, &s)->m);
        (void)json_array_append_new(rows, row);
        hourly_sums_release(&s);
    }
    return rows;
}

static void put_previous(struct answer *a)
{
    const struct measures *before;
    struct hourly_sums s;
    json_t *o;

    if (!a->has_before || a->before.h.is_partial) {
        SET(a->o, "previous", json_null());
        return;
    }
    before = &view_sum(&a->before.h, 0, a->before.h.n, &s)->m;
    o = json_object();
    SET(o, "from", api_json_time((struct wall){a->before.h.from * 1000000}));
    SET(o, "to", api_json_time((struct wall){a->before.h.to * 1000000}));
    view_put_measures(o, before);
    SET(o, "change",
        before->v[MEASURE_cost_nano] > 0
            ? json_real((double)(a->all.v[MEASURE_cost_nano] - before->v[MEASURE_cost_nano]) /
                        (double)before->v[MEASURE_cost_nano])
            : json_null());
    SET(a->o, "previous", o);
    hourly_sums_release(&s);
}

/* What came in is of whole days, and so is the cost here. */
static void put_money(struct answer *a)
{
    struct db *db = gateway_monitor_stores(a->rq->gw)->db;
    char by[16] = "";
    bool by_key, has_income;
    struct spenders s = {0};
    struct err err = {0};

    (void)api_text(a->rq, "by", by, sizeof(by));
    by_key = strcmp(by, "key") == 0;
    if ((by_key || strcmp(by, "tenant") == 0) && read_spenders(db, by_key, a->now.h.from, &s, &err))
        note(a, err_text(&err));
    has_income = read_income(db, a->now.h.from, &s, &err) == ERR_OK;
    if (!has_income)
        note(a, err_text(&err));
    if (by_key || strcmp(by, "tenant") == 0)
        SET(a->o, by_key ? "keys" : "tenants",
            spender_rows(&s, by_key, has_income, (size_t)api_count(a->rq, "limit")));
    SET(a->o, "revenue", has_income ? api_json_usd(s.plans_nano + s.payments_nano) : json_null());
    SET(a->o, "revenue_plans", has_income ? api_json_usd(s.plans_nano) : json_null());
    SET(a->o, "revenue_payments", has_income ? api_json_usd(s.payments_nano) : json_null());
    SET(a->o, "margin",
        has_income ? api_json_usd(s.plans_nano + s.payments_nano - a->all.v[MEASURE_cost_nano])
                   : json_null());
    free(s.v);
}

void api_cost(const struct api_request *rq, struct api_reply *reply)
{
    int64_t days = api_count(rq, "days"), now = wall_now().us / 1000000;
    int64_t from = now / VIEW_DAY_S * VIEW_DAY_S - (days - 1) * VIEW_DAY_S,
            end = view_hours_back(wall_now(), 0);
    struct view_ask ask = {.from = from, .to = end, .step_s = VIEW_DAY_S};
    struct view_ask earlier = {.from = from - days * VIEW_DAY_S, .to = end - days * VIEW_DAY_S};
    struct answer a = {.rq = rq};
    struct hourly_sums all;
    struct api_reply unused = {0};
    char since[16];

    if (api_text(rq, "since", since, sizeof(since))) {
        api_cost_of_process(rq, reply);
        return;
    }
    if (!view_read(rq, &ask, &a.now, reply))
        return;
    a.has_before = view_read(rq, &earlier, &a.before, &unused);
    buf_release(&unused.body);
    if (hourly_sum(&a.now.h, HOURLY_ALL, 0, a.now.h.n, &all))
        abort();
    a.all = all.n ? all.v[0].m : (struct measures){0};
    a.is_partial = a.now.h.is_partial;
    (void)snprintf(a.missing, sizeof(a.missing), "%s", a.now.h.missing);
    a.o = view_head(&a.now);
    SET(a.o, "days", json_integer(days));
    put_spend(a.o, &a.all, a.all.v[MEASURE_cost_nano]);
    SET(a.o, "providers",
        rows_of(&a.now.h, a.has_before && !a.before.h.is_partial ? &a.before.h : NULL, HOURLY_PROVIDER,
                a.all.v[MEASURE_cost_nano]));
    SET(a.o, "models",
        rows_of(&a.now.h, a.has_before && !a.before.h.is_partial ? &a.before.h : NULL, HOURLY_MODEL,
                a.all.v[MEASURE_cost_nano]));
    SET(a.o, "by_day", days_of(&a.now.h));
    put_previous(&a);
    put_money(&a);
    view_put_state(a.o, a.is_partial, a.missing, a.now.is_stale);
    hourly_sums_release(&all);
    view_release(&a.now);
    if (a.has_before)
        view_release(&a.before);
    api_reply_json(reply, a.o);
}
