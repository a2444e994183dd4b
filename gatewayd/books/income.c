/* SPDX-License-Identifier: Apache-2.0 */
/* Plans are read from the database and tenants from the snapshot, which has those of the file, too. A price is that of now: it
 * is kept with the day, so a later change leaves the past alone. */
#include "gatewayd/books/income.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/analytics/business.h"
#include "libshared/base/intern.h"

#define BACK_DAYS    31
#define SLOW_DAYS    30
#define HISTORY_DAYS 400

struct price {
    char plan[128];
    int64_t month_nano;
};
struct last {
    char tenant[128];
    int64_t day;
};
struct income {
    struct price *prices;
    struct last *last;
    size_t n_prices, n_last;
};

static bool take_price(void *user, const struct db_value *c, unsigned n)
{
    struct income *in = user;

    (void)n;
    in->prices = realloc(in->prices, (in->n_prices + 1) * sizeof(*in->prices));
    if (!in->prices)
        abort();
    (void)span_copy(in->prices[in->n_prices].plan, sizeof(in->prices->plan), c[0].s);
    in->prices[in->n_prices++].month_nano = c[1].i;
    return true;
}

static bool take_last(void *user, const struct db_value *c, unsigned n)
{
    struct income *in = user;

    (void)n;
    in->last = realloc(in->last, (in->n_last + 1) * sizeof(*in->last));
    if (!in->last)
        abort();
    (void)span_copy(in->last[in->n_last].tenant, sizeof(in->last->tenant), c[0].s);
    in->last[in->n_last++].day = c[1].i;
    return true;
}

static int64_t price_of(const struct income *in, const char *plan)
{
    for (size_t i = 0; i < in->n_prices; i++)
        if (strcmp(in->prices[i].plan, plan) == 0)
            return in->prices[i].month_nano;
    return 0;
}

static int by_tenant(const void *a, const void *b)
{
    return strcmp(((const struct last *)a)->tenant, ((const struct last *)b)->tenant);
}

/* The first day that is not written down yet. */
static int64_t first_day(const struct income *in, const char *tenant, int64_t today)
{
    struct last key;
    const struct last *l;

    (void)snprintf(key.tenant, sizeof(key.tenant), "%s", tenant);
    l = in->n_last ? bsearch(&key, in->last, in->n_last, sizeof(key), by_tenant) : NULL;
    if (!l)
        return today;
    return l->day + DAY_S > today - BACK_DAYS * DAY_S ? l->day + DAY_S : today - BACK_DAYS * DAY_S;
}

static enum err_code write_tenant(struct db *db, const struct income *in, const struct config_tenant *t,
                                  int64_t today, struct err *err)
{
    int64_t month = t->is_enabled ? price_of(in, t->plan) : 0;
    enum err_code e = ERR_OK;

    for (int64_t day = first_day(in, t->id, today); month > 0 && day <= today && !e; day += DAY_S)
        e = db_exec(db, "revenue_insert",
                    "INSERT INTO revenue (day, tenant, source, reference, amount_nano) VALUES ($1, $2, "
                    "'plan', $3, $4) ON CONFLICT (day, tenant, source, reference) DO NOTHING",
                    (struct db_value[]){db_int(day), db_textz(t->id), db_textz(t->plan),
                                        db_int(income_of_day(month, day))},
                    4, NULL, err);
    return e;
}

enum err_code income_of_plans(struct db *db, const struct config *c, struct wall now, struct err *err)
{
    int64_t today = now.us / 1000000 / DAY_S * DAY_S;
    struct db_value since = db_int(today - BACK_DAYS * DAY_S);
    struct income in = {0};
    enum err_code e = db_query(db, "revenue_prices",
                               "SELECT id, price_nano FROM plans WHERE is_trial = 0 AND price_nano > 0 AND "
                               "deleted_at IS NULL",
                               NULL, 0, take_price, &in, err);

    if (!e && in.n_prices)
        e = db_query(
            db, "revenue_last",
            "SELECT tenant, max(day) FROM revenue WHERE source = 'plan' AND day >= $1 GROUP BY tenant",
            &since, 1, take_last, &in, err);
    if (in.n_last)
        qsort(in.last, in.n_last, sizeof(*in.last), by_tenant);
    for (size_t i = 0; i < c->n_tenants && in.n_prices && !e; i++)
        e = write_tenant(db, &in, &c->tenants[i], today, err);
    free(in.prices);
    free(in.last);
    return e;
}

enum err_code income_forget(struct db *db, struct wall now, struct err *err)
{
    int64_t s = now.us / 1000000;
    struct db_value slow = db_int(s - SLOW_DAYS * DAY_S), old = db_int(s - HISTORY_DAYS * DAY_S);
    enum err_code e =
        db_exec(db, "slow_queries_delete", "DELETE FROM slow_queries WHERE at < $1", &slow, 1, NULL, err);

    if (!e)
        e = db_exec(db, "anomalies_delete", "DELETE FROM anomalies WHERE at < $1", &old, 1, NULL, err);
    if (!e)
        e = db_exec(db, "active_users_delete", "DELETE FROM active_users WHERE day < $1", &old, 1, NULL, err);
    return e;
}
