/* SPDX-License-Identifier: Apache-2.0 */
/* Enforcement beside the books: each admission holds its upper bound on key, tenant and all, or on none. After a start the
 * accounts are told what the books say; the books are the records that the tap read. No account may ever show more posted
 * and held than its limit. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/dst/life.h"

enum { SCOPE_KEY, SCOPE_TENANT, SCOPE_GLOBAL, SCOPES };

static void name_of(char dst[BUDGET_ACCOUNT], int scope, const struct fact_context *c)
{
    if (scope == SCOPE_KEY)
        (void)snprintf(dst, BUDGET_ACCOUNT, "key:%s/%s", label_text(c->tenant), label_text(c->key));
    else if (scope == SCOPE_TENANT)
        (void)snprintf(dst, BUDGET_ACCOUNT, "tenant:%s", label_text(c->tenant));
    else
        (void)snprintf(dst, BUDGET_ACCOUNT, "global");
}

static enum period period_of(int scope, const struct fact_reservation *r)
{
    return scope == SCOPE_KEY ? r->key_period : scope == SCOPE_TENANT ? r->tenant_period : r->global_period;
}

static int64_t limit_of(int scope)
{
    static const int64_t LIMITS[SCOPES] = {3000000000, 7000000000, 20000000000};

    return world->plan.has_limits ? LIMITS[scope] : 0;
}

static void watch(struct budget_account *a)
{
    struct budget_view v;

    budget_account_view(a, world->wall, &v);
    if (v.held_nanousd < 0)
        world_fail("account '%s' holds %" PRId64, v.account, v.held_nanousd);
    if (v.limit_nanousd && v.posted_nanousd + v.held_nanousd > v.limit_nanousd)
        world_fail("account '%s' is over its limit: %" PRId64 " posted, %" PRId64 " held, limit %" PRId64,
                   v.account, v.posted_nanousd, v.held_nanousd, v.limit_nanousd);
}

/* What the books posted to an account in the window that holds now. */
static int64_t booked(int scope, const char *account, enum period period)
{
    int64_t sum = 0, start = period_start(period, world->wall).us;

    for (size_t i = 0; i < world->n_records; i++) {
        const struct journal_record *r = &world->records[i];
        const struct fact_request *rq = &r->settle.rq;
        struct fact_context c;
        char name[BUDGET_ACCOUNT];

        if (r->type != JOURNAL_SETTLE || period_start(period, rq->reservation.at).us != start)
            continue;
        c = (struct fact_context){.tenant = rq->tenant, .key = rq->key};
        name_of(name, scope, &c);
        if (strcmp(name, account) == 0)
            sum += rq->cost_nanousd;
    }
    return sum;
}

static struct budget_account *account(struct life *l, int scope, const struct fact_open *o)
{
    char name[BUDGET_ACCOUNT];
    enum period period = period_of(scope, &o->reservation);
    struct budget_account *a;
    struct budget_view v;

    name_of(name, scope, &o->context);
    a = budget_account_get(l->book, name);
    budget_account_view(a, world->wall, &v);
    if (v.limit_nanousd == limit_of(scope) && v.period == period && limit_of(scope))
        return a;
    budget_account_set(a, limit_of(scope), period);
    if (limit_of(scope) && !v.limit_nanousd) { /* first seen in this life */
        struct budget_mark nothing = budget_account_mark(a, world->wall);

        budget_account_follow(a, world->wall, &nothing, true, booked(scope, name, period));
    }
    return a;
}

void budgets_start(struct life *l)
{
    l->book = budget_book_new();
}

bool budgets_reserve(struct life *l, size_t request, const struct fact_open *o)
{
    struct budget_chain chain = {0};
    struct budget_view why;

    for (int scope = 0; scope < SCOPES; scope++)
        chain.at[scope] = account(l, scope, o);
    if (budget_reserve(&chain, o->reservation.amount_nanousd, world->wall, &l->holds[request], &why)) {
        world->refusals++;
        world_trace("over budget: %s", why.account);
        return false;
    }
    for (int scope = 0; scope < SCOPES; scope++)
        watch(chain.at[scope]);
    return true;
}

void budgets_settle(struct life *l, size_t request, int64_t cost_nanousd)
{
    struct budget_hold *h = &l->holds[request];
    struct budget_chain chain = h->chain;

    budget_settle(h, cost_nanousd);
    if (world_below(4) == 0)
        budget_settle(h, cost_nanousd); /* a second end changes nothing */
    for (int scope = 0; scope < SCOPES; scope++)
        if (chain.at[scope])
            watch(chain.at[scope]);
}
