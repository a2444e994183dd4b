/* SPDX-License-Identifier: Apache-2.0 */
/* Enforcement beside the books: production limits and the round that follows the store (limits_follow_once), on one node whose
 * clock steps, whose windows end while requests are held, and which is started again and again.
 *
 * Invariant watched here, by sums made anew from what was promised and read: in each window of each account, what is on the
 * ledger plus what is open never passes the limit, a refusal for money is right, and when all is done the account shows what
 * the ledger says. Corrections move money without asking; they are the slack of the comparison. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/dst/life.h"
#include "tests/dst/stores.h"

/* Its thread is a step here. */
#include "gatewayd/limits/limits_follow.c"

#define GATES     WORLD_NAMES /* keys that are bound: one a tenant, of which the first ones have own budgets */
#define KEYS_HELD 3u

struct budgets {
    struct limits *limits;
    struct config config;
    struct config_tenant tenants[WORLD_NAMES];
    struct config_key keys[GATES];
    struct config_account accounts[KEYS_HELD + 1];
    char names[KEYS_HELD][BUDGET_ACCOUNT];
    struct limits_follow follow;
    struct mono due;
    struct limits_hold holds[WORLD_REQUESTS];
    int64_t spent[WORLD_REQUESTS]; /* of those that have ended */
    struct wall began;
};

static const int64_t LIMITS[LINK_COUNT] = {3000000000, 7000000000, 20000000000};

/* ---- what should be --------------------------------------------------------------------------------------------------- */

static bool is_same_account(enum limits_link at, const struct fact_context *a, const struct fact_context *b)
{
    return at == LINK_GLOBAL || (a->tenant == b->tenant && (at == LINK_TENANT || a->key == b->key));
}

static enum period period_of(enum limits_link at, const struct fact_reservation *r)
{
    return at == LINK_KEY ? r->key_period : at == LINK_TENANT ? r->tenant_period : r->global_period;
}

/* On the ledger or open, in that request's window of an account. */
static int64_t used(struct budgets *b, enum limits_link at, const struct fact_open *o)
{
    enum period period = period_of(at, &o->reservation);
    int64_t sum = 0, start = period_start(period, o->reservation.at).us;

    for (size_t i = 0; i < world->n_requests; i++) {
        const struct promise *p = &world->requests[i];

        if (is_same_account(at, &p->said.context, &o->context) &&
            period_start(period, p->said.reservation.at).us == start)
            sum += p->is_open ? b->holds[i].money.amount_nanousd : b->spent[i];
    }
    return sum;
}

/* What corrections took from or added to an account, whatever the window: in all. */
static int64_t corrected(void)
{
    int64_t sum = 0;

    for (size_t i = 0; i < world->n_adjusts; i++)
        sum += world->adjusts[i].a.amount_nanousd < 0 ? -world->adjusts[i].a.amount_nanousd
                                                      : world->adjusts[i].a.amount_nanousd;
    return sum;
}

static bool is_held(enum limits_link at, const struct fact_open *o)
{
    return at != LINK_KEY || (!world->plan.has_own_keys && o->context.key);
}

/* ---- the configuration ------------------------------------------------------------------------------------------------ */

static struct config_budget budget_of(enum limits_link at, unsigned key)
{
    return (struct config_budget){
        .limit_nanousd = LIMITS[at],
        .period = at == LINK_GLOBAL ? PERIOD_MONTH : (enum period)(key % PERIOD_COUNT),
        .warn = {1, {80}},
        .when_store_down = world->plan.is_closed ? STORE_DOWN_CLOSED : STORE_DOWN_BOUNDED};
}

static void bind(struct budgets *b)
{
    struct config *c = &b->config;

    for (unsigned i = 0; i < WORLD_NAMES; i++)
        b->tenants[i] =
            (struct config_tenant){.id = label_text(world_tenants[i]), .budget = budget_of(LINK_TENANT, i)};
    for (unsigned i = 0; i < GATES; i++)
        b->keys[i] = (struct config_key){.id = label_text(world_keys[i]), .tenant = &b->tenants[i]};
    b->accounts[0] = (struct config_account){.account = "global", .budget = budget_of(LINK_GLOBAL, 0)};
    for (unsigned i = 0; i < KEYS_HELD; i++) {
        (void)snprintf(b->names[i], BUDGET_ACCOUNT, "key:%s/%s", b->tenants[i].id, b->keys[i].id);
        b->accounts[i + 1] =
            (struct config_account){.account = b->names[i], .budget = budget_of(LINK_KEY, i)};
    }
    c->tenants = b->tenants;
    c->n_tenants = WORLD_NAMES;
    c->keys = b->keys;
    c->n_keys = GATES;
    c->accounts = b->accounts;
    c->n_accounts = world->plan.has_own_keys ? 1 : KEYS_HELD + 1;
    limits_bind(b->limits, c);
}

static void journals_end(void *user, struct watermark *out)
{
    writer_end_mt(((struct life *)user)->writers[1], out);
}

static int history_has(void *user, const struct watermark *end)
{
    struct life *l = user;
    struct writer_stats s;

    writer_stats_mt(l->writers[1], &s);
    return s.is_down ? -1 : writer_has_mt(l->writers[1], end);
}

static void remember_spent(struct budgets *b)
{
    for (size_t i = 0; i < world->n_records; i++) {
        const struct journal_record *r = &world->records[i];
        const struct id *id = &r->settle.rq.id;

        if (r->type == JOURNAL_SETTLE)
            b->spent[(size_t)id->b[14] << 8 | id->b[15]] = r->settle.rq.cost_nanousd;
    }
}

/* As at boot: for a while, nobody is served until the books were read. */
static void wait_for_books(struct life *l)
{
    for (unsigned i = world_below(4) ? 40 : 0; i && !limits_is_loaded_mt(l->budgets->limits); i--) {
        world_advance(FIRST_US);
        (void)writer_step(l->writers[1]);
        budgets_round(l);
    }
}

void budgets_start(struct life *l)
{
    struct budgets *b = calloc(1, sizeof(*b));

    if (!b)
        abort();
    l->budgets = b;
    b->began = world->wall;
    b->limits = limits_new();
    remember_spent(b);
    if (!world->plan.has_limits)
        return;
    bind(b);
    b->follow.o = (struct limits_follow_options){.limits = b->limits,
                                                 .db = stores_db(l),
                                                 .instance = l->instance,
                                                 .end = journals_end,
                                                 .has = history_has,
                                                 .user = l};
    wait_for_books(l);
}

void budgets_stop(struct life *l)
{
    struct budgets *b = l->budgets;

    db_free(b->follow.o.db);
    free(b->follow.marks);
    arena_release(&b->config.arena);
    limits_free(b->limits);
    free(b);
}

void budgets_round(struct life *l)
{
    struct budgets *b = l->budgets;
    bool ok;

    if (!world->plan.has_limits || world->mono.us < b->due.us)
        return;
    ok = limits_follow_once(&b->follow, world->wall);
    b->due = mono_add_us(world->mono, limits_is_loaded_mt(b->limits) ? ROUND_US : FIRST_US);
    world_trace("budgets: a round, %s", ok ? "read" : "not read");
}

/* ---- requests --------------------------------------------------------------------------------------------------------- */

static void must_have_room(struct budgets *b, const struct fact_open *o)
{
    for (enum limits_link at = 0; at < LINK_COUNT; at++) {
        int64_t sum = is_held(at, o) ? used(b, at, o) + o->reservation.amount_nanousd : 0;

        if (sum > LIMITS[at] + corrected())
            world_fail("a request that needs %" PRId64 " was admitted beyond the limit of its %s, %" PRId64
                       " of %" PRId64,
                       o->reservation.amount_nanousd,
                       at == LINK_KEY      ? "key"
                       : at == LINK_TENANT ? "tenant"
                                           : "all",
                       sum, LIMITS[at]);
    }
}

static void must_be_full(struct budgets *b, const struct fact_open *o)
{
    for (enum limits_link at = 0; at < LINK_COUNT; at++)
        if (is_held(at, o) && used(b, at, o) + o->reservation.amount_nanousd + corrected() > LIMITS[at])
            return;
    world_fail("a request that needs %" PRId64 " was refused for money although there is enough",
               o->reservation.amount_nanousd);
}

static void trace_refusal(const struct explain *why)
{
    const struct explain_row *r = explain_refusal(why);

    if (r)
        world_trace("refused by '%s' %s: %" PRIu64 " spent, %" PRIu64 " held of %" PRIu64 ", needs %" PRIu64,
                    r->scope, r->window, r->used, r->held, r->limit, r->asked);
}

bool budgets_reserve(struct life *l, size_t request, const struct fact_open *o)
{
    struct budgets *b = l->budgets;
    unsigned gate = 0;
    struct explain why = {0};
    enum err_code e;

    if (!world->plan.has_limits)
        return true;
    while (world_tenants[gate] != o->context.tenant)
        gate++;
    e = limits_admit(
        b->limits,
        &(struct limits_ask){.chain = limits_chain_of(&b->config, &b->keys[gate]),
                             .request = o->context.request,
                             .now = world->mutant == MUTANT_RESET_MISSED ? b->began : o->reservation.at,
                             .mono = world->mono,
                             .bound_nanousd = o->reservation.amount_nanousd},
        &b->holds[request], &why);
    if (e) {
        world->refusals++;
        trace_refusal(&why);
        if (e == ERR_OVER_BUDGET)
            must_be_full(b, o);
        return false;
    }
    must_have_room(b, o);
    return true;
}

void budgets_settle(struct life *l, size_t request, int64_t cost_nanousd)
{
    struct budgets *b = l->budgets;
    struct limits_hold *h = &b->holds[request];

    b->spent[request] = cost_nanousd;
    if (!h->chain)
        return;
    limits_settle(h, cost_nanousd, 0, world->wall, world->mono);
    if (world_below(4) == 0)
        limits_settle(h, cost_nanousd, 0, world->wall, world->mono); /* a second end changes nothing */
}

/* ---- the end ---------------------------------------------------------------------------------------------------------- */

static bool is_of(const char *account, label tenant, label key)
{
    char name[BUDGET_ACCOUNT];

    (void)snprintf(name, sizeof(name), "tenant:%s", label_text(tenant));
    if (strcmp(account, "global") == 0 || strcmp(account, name) == 0)
        return true;
    (void)snprintf(name, sizeof(name), "key:%s/%s", label_text(tenant), label_text(key));
    return strcmp(account, name) == 0;
}

static int64_t on_the_ledger(const struct limits_view *v)
{
    int64_t sum = 0;

    for (size_t i = 0; i < world->n_records; i++) {
        const struct journal_record *r = &world->records[i];
        const struct fact_request *rq = &r->settle.rq;

        if (r->type == JOURNAL_SETTLE && is_of(v->scope, rq->tenant, rq->key) &&
            period_start(v->period, rq->reservation.at).us == v->sums.start_us)
            sum += rq->cost_nanousd;
        /* Corrections count by the month. */
        if (r->type == JOURNAL_ADJUST && v->period == PERIOD_MONTH &&
            is_of(v->scope, r->adjust.tenant, r->adjust.key) &&
            period_start(PERIOD_MONTH, r->adjust.at).us == v->sums.start_us)
            sum += r->adjust.amount_nanousd;
    }
    return sum;
}

static void compare(void *user, const struct limits_view *v)
{
    int64_t want = on_the_ledger(v);

    (void)user;
    if (!v->has_budget)
        return;
    if (v->sums.held_nanousd)
        world_fail("'%s' holds %" PRId64 " when all is done", v->scope, v->sums.held_nanousd);
    if (v->sums.posted_nanousd != want)
        world_fail("'%s' shows %" PRId64 " in its %s, on the ledger are %" PRId64, v->scope,
                   v->sums.posted_nanousd, period_name(v->period), want);
}

/* The stores have everything. */
void budgets_check(struct life *l)
{
    if (!world->plan.has_limits)
        return;
    for (unsigned i = 0; i < 3; i++) {
        world_advance(ROUND_US);
        budgets_round(l);
    }
    if (!limits_is_loaded_mt(l->budgets->limits))
        world_fail("the books are there and the budgets do not know them");
    limits_each_mt(l->budgets->limits, compare, NULL);
}
