/* SPDX-License-Identifier: Apache-2.0 */
/* Any thread. A scope is made once and never goes away before the process; its rules are set by limits_bind() alone, its
 * counters have locks of their own. `lock` guards the table of scopes, not what is in them.
 *
 * Budgets that do not block have no limit in their account: they are looked at, not refused by. */
#include "gatewayd/limits/limits.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "gatewayd/limits/limits_priv.h"
#include "libshared/base/log.h"

#define THROTTLED_RPM 6u /* what a throttled budget lets through above its limit */

struct limits *limits_new(void)
{
    struct limits *l = calloc(1, sizeof(*l));

    if (!l)
        abort();
    (void)pthread_mutex_init(&l->lock, NULL);
    l->book = budget_book_new();
    return l;
}

void limits_free(struct limits *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        while (l->buckets[i]) {
            struct limits_scope *s = l->buckets[i];

            l->buckets[i] = s->next;
            ratelimit_free(s->rate);
            ratelimit_free(s->throttle);
            free(s);
        }
    budget_book_free(l->book);
    (void)pthread_mutex_destroy(&l->lock);
    free(l);
}

static struct limits_scope *find(struct limits *l, const char *name)
{
    struct limits_scope *s = l->buckets[hash_bytes(span_of(name)) % BUCKETS];

    while (s && strcmp(s->name, name) != 0)
        s = s->next;
    return s;
}

struct limits_scope *limits_find_mt(struct limits *l, const char *name)
{
    struct limits_scope *s;

    (void)pthread_mutex_lock(&l->lock);
    s = find(l, name);
    (void)pthread_mutex_unlock(&l->lock);
    return s;
}

/* ---- binding ---- */

static struct limits_scope *scope_of(struct limits *l, const char *name)
{
    struct limits_scope *s, **bucket = &l->buckets[hash_bytes(span_of(name)) % BUCKETS];

    (void)pthread_mutex_lock(&l->lock);
    s = find(l, name);
    if (!s) {
        s = calloc(1, sizeof(*s));
        if (!s)
            abort();
        (void)snprintf(s->name, sizeof(s->name), "%s", name);
        s->number = (unsigned)l->n++;
        s->account = budget_account_get(l->book, name);
        s->rate = ratelimit_new();
        s->throttle = ratelimit_new();
        ratelimit_set(s->throttle, &(struct rate_rules){.of = {THROTTLED_RPM}});
        s->warned_at = s->full_at = INT64_MIN;
        s->next = *bucket;
        *bucket = s;
    }
    (void)pthread_mutex_unlock(&l->lock);
    assert(s->account);
    return s;
}

static bool blocks(const struct config_budget *b)
{
    return !b->at_limit || strcmp(b->at_limit, "block") == 0;
}

static void set_budget(struct limits_scope *s, const struct config_budget *b)
{
    int64_t limit = b ? b->limit_nanousd : 0;

    s->limit_nanousd = limit;
    s->period = b ? b->period : PERIOD_MONTH;
    s->warn_percent = b ? b->warn_percent : 0;
    budget_account_set(s->account, limit && blocks(b) ? limit : 0, (enum period)s->period);
}

static void set_rate(struct limits_scope *s, const struct config_limits *r)
{
    struct rate_rules rules = {0};

    if (r)
        rules = (struct rate_rules){{r->rpm, r->tpm, r->concurrent}, r->shadow};
    s->is_rated = rules.of[0] || rules.of[1] || rules.of[2];
    ratelimit_set(s->rate, &rules);
}

static bool is_limited(const struct config_limits *r)
{
    return r->rpm || r->tpm || r->concurrent;
}

static struct limits_scope *bind_scope(struct limits *l, const char *name, const struct config_budget *b,
                                       const struct config_limits *r, bool is_needed)
{
    struct limits_scope *s;

    if ((!b || !b->limit_nanousd) && (!r || !is_limited(r)) && !is_needed)
        return NULL;
    s = scope_of(l, name);
    if (s->generation == l->generation) /* another digest of the same key */
        return s;
    s->generation = l->generation;
    set_budget(s, b && b->limit_nanousd ? b : NULL);
    set_rate(s, r);
    return s;
}

static int by_account(const void *a, const void *b)
{
    return strcmp((*(const struct config_account *const *)a)->account,
                  (*(const struct config_account *const *)b)->account);
}

struct accounts { /* of the database, by name */
    const struct config_account **at;
    size_t n;
};

static const struct config_budget *budget_of(const struct accounts *all, const char *name)
{
    struct config_account key = {.account = name};
    const struct config_account *k = &key, **found;

    found = all->n ? bsearch(&k, all->at, all->n, sizeof(*all->at), by_account) : NULL;
    return found ? &(*found)->budget : NULL;
}

static void sort_accounts(struct config *c, struct accounts *out)
{
    out->at = arena_array(&c->arena, const struct config_account *, c->n_accounts + 1);
    out->n = c->n_accounts;
    for (size_t i = 0; i < c->n_accounts; i++)
        out->at[i] = &c->accounts[i];
    qsort(out->at, out->n, sizeof(*out->at), by_account);
}

static void forget_others(struct limits *l)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct limits_scope *s = l->buckets[i]; s; s = s->next)
            if (s->generation != l->generation) {
                set_budget(s, NULL);
                set_rate(s, NULL);
            }
}

void limits_bind(struct limits *l, struct config *c)
{
    struct limits_chain *chains, *tenants;
    struct accounts accounts;
    const struct config_budget *global;
    char name[BUDGET_ACCOUNT];

    if (c->limits)
        return;
    l->generation++;
    chains = arena_array(&c->arena, struct limits_chain, c->n_keys + 1);
    tenants = arena_array(&c->arena, struct limits_chain, c->n_tenants + 1);
    sort_accounts(c, &accounts);
    global = budget_of(&accounts, "global");
    for (size_t i = 0; i < c->n_tenants; i++) {
        const struct config_tenant *t = &c->tenants[i];

        (void)snprintf(name, sizeof(name), "tenant:%s", t->id);
        tenants[i] = (struct limits_chain){0};
        tenants[i].at[LINK_TENANT].scope = bind_scope(l, name, &t->budget, &t->limits, global != NULL);
        tenants[i].at[LINK_TENANT].budget = t->budget.limit_nanousd ? &t->budget : NULL;
        tenants[i].at[LINK_GLOBAL].scope = bind_scope(l, "global", global, NULL, false);
        tenants[i].at[LINK_GLOBAL].budget = tenants[i].at[LINK_GLOBAL].scope ? global : NULL;
    }
    for (size_t i = 0; i < c->n_keys; i++) {
        const struct config_key *k = &c->keys[i];
        const struct config_budget *b;

        chains[i] = tenants[k->tenant - c->tenants];
        if (k->is_revoked)
            continue;
        (void)snprintf(name, sizeof(name), "key:%s/%s", k->tenant->id, k->id);
        b = budget_of(&accounts, name);
        chains[i].at[LINK_KEY].scope = bind_scope(l, name, b, &k->limits, false);
        if (chains[i].at[LINK_KEY].scope && !chains[i].at[LINK_TENANT].scope) {
            (void)snprintf(name, sizeof(name), "tenant:%s", k->tenant->id);
            chains[i].at[LINK_TENANT].scope = bind_scope(l, name, NULL, NULL, true);
        }
        chains[i].at[LINK_KEY].budget = b && b->limit_nanousd ? b : NULL;
    }
    (void)pthread_mutex_lock(&l->lock);
    forget_others(l);
    (void)pthread_mutex_unlock(&l->lock);
    c->limits = chains;
}

const struct limits_chain *limits_chain_of(const struct config *c, const struct config_key *k)
{
    return c->limits ? &c->limits[k - c->keys] : NULL;
}

enum period limits_period(const struct limits_chain *chain, enum limits_link at)
{
    return chain && chain->at[at].budget ? chain->at[at].budget->period : PERIOD_MONTH;
}

bool limits_holds_money(const struct limits_chain *chain)
{
    for (unsigned i = 0; chain && i < LINK_COUNT; i++)
        if (chain->at[i].budget &&
            (!chain->at[i].budget->at_limit || chain->at[i].budget->at_limit[0] != 'w'))
            return true;
    return false;
}

/* ---- admitting ---- */

static void count_shadow(struct limits_scope *s, enum rate_kind k, uint64_t limit)
{
    uint64_t n = atomic_fetch_add(&s->shadowed[k], 1) + 1;

    if ((n & (n - 1)) == 0) /* the 1st, 2nd, 4th …: the metric has them all */
        log_info("limits: '%s' is over its %llu %s (in shadow, let through; %llu so far)", s->name,
                 (unsigned long long)limit, rate_kind_name(k), (unsigned long long)n);
}

static void report_rate(const struct limits_ask *a, const struct rate_report *rep, struct explain *x)
{
    const uint64_t asked[RATE_KINDS] = {1, a->tokens, 1};
    bool is_counted = false;

    for (unsigned i = 0; i < LINK_COUNT; i++) {
        struct limits_scope *s = a->chain->at[i].scope;

        for (unsigned k = 0; s && k < RATE_KINDS; k++) {
            const struct rate_view *v = &rep->of[i][k];

            if (!v->limit)
                continue;
            explain_rate(x, s, (enum rate_kind)k, v, asked[k], a->now);
            if (v->is_exhausted && v->is_shadow)
                count_shadow(s, (enum rate_kind)k, v->limit);
            else if (v->is_exhausted && !is_counted) {
                is_counted = true; /* one request, however many limits it meets */
                atomic_fetch_add(&s->refused[k], 1);
                atomic_fetch_add(&a->chain->at[LINK_TENANT].scope->limited, 1);
            }
        }
    }
}

/* Nothing was read of the books yet (or not of the window that the clock stepped back to), or they cannot be read now: by the
 * budget's own rule. */
static bool is_unknown(const struct limits *l, const struct config_budget *b, struct budget_account *a,
                       struct wall now)
{
    const char *rule = b->when_store_down ? b->when_store_down : "bounded";

    if (rule[0] == 'o')
        return false;
    return !atomic_load_explicit(&l->is_loaded, memory_order_acquire) || !budget_account_knows(a, now) ||
           (rule[0] == 'c' && !atomic_load_explicit(&l->is_store_up, memory_order_relaxed));
}

static enum err_code throttle(struct limits_scope *s, const struct limits_ask *a, struct explain_row *r)
{
    struct rate_chain one = {{s->throttle}};
    struct rate_hold h;
    struct rate_report rep;

    r->verdict = VERDICT_THROTTLE;
    if (rate_take(&one, 0, a->mono, &h, &rep)) {
        rate_settle(&h, 0, a->mono);
        return ERR_OK;
    }
    r->verdict = VERDICT_REFUSED;
    r->retry_ms = (rep.of[0][RATE_REQUESTS].retry_us + 999) / 1000;
    return ERR_OVER_LIMIT;
}

/* What does not block is asked before money is held. Rows of budgets that block are added when one refuses. */
static enum err_code ask_soft(struct limits *l, const struct limits_ask *a, struct explain *x)
{
    enum err_code e = ERR_OK;

    for (unsigned i = 0; !e && i < LINK_COUNT; i++) {
        const struct config_budget *b = a->chain->at[i].budget;
        struct limits_scope *s = a->chain->at[i].scope;
        struct budget_sums sums;
        struct explain_row *r;

        if (!b)
            continue;
        if (is_unknown(l, b, s->account, a->now)) {
            sums = budget_account_sums(s->account, a->now);
            r = explain_money(x, s, &sums, a->bound_nanousd);
            r->verdict = VERDICT_UNKNOWN;
            r->retry_ms = 1000;
            return ERR_UNAVAILABLE;
        }
        if (blocks(b))
            continue;
        sums = budget_account_sums(s->account, a->now);
        if (!budget_is_above(b->limit_nanousd, &sums, a->bound_nanousd))
            continue;
        r = explain_money(x, s, &sums, a->bound_nanousd);
        r->verdict = VERDICT_WARN;
        if (b->at_limit[0] == 't')
            e = throttle(s, a, r);
    }
    return e;
}

static enum err_code over_budget(struct limits *l, const struct budget_view *v, int64_t asked,
                                 struct explain *x)
{
    struct limits_scope *s = limits_find_mt(l, v->account);
    struct budget_sums sums = {period_start(v->period, (struct wall){v->resets_at.us - 1}).us,
                               v->posted_nanousd, v->held_nanousd};
    struct explain_row *r = explain_money(x, s, &sums, asked);

    memcpy(r->window, v->window, sizeof(r->window));
    r->limit = (uint64_t)v->limit_nanousd;
    r->verdict = VERDICT_REFUSED;
    return ERR_OVER_BUDGET;
}

static enum err_code hold_money(struct limits *l, const struct limits_ask *a, struct limits_hold *out,
                                struct explain *x)
{
    struct budget_chain chain = {0};
    struct budget_view why;
    bool any = false;

    for (unsigned i = 0; i < LINK_COUNT; i++)
        if (a->chain->at[i].budget) {
            chain.at[i] = a->chain->at[i].scope->account;
            any = true;
        }
    if (!any)
        return ERR_OK;
    if (ask_soft(l, a, x))
        return x->row[x->n - 1].verdict == VERDICT_UNKNOWN ? ERR_UNAVAILABLE : ERR_OVER_LIMIT;
    if (budget_reserve(&chain, a->bound_nanousd, a->now, &out->money, &why) == ERR_OK)
        return ERR_OK;
    return over_budget(l, &why, a->bound_nanousd, x);
}

static void remember(struct limits *l, const struct id *request, const struct explain *why)
{
    (void)pthread_mutex_lock(&l->lock);
    l->refusals[l->n_refusals % REFUSALS].request = *request;
    l->refusals[l->n_refusals++ % REFUSALS].why = *why;
    (void)pthread_mutex_unlock(&l->lock);
}

enum err_code limits_admit(struct limits *l, const struct limits_ask *a, struct limits_hold *out,
                           struct explain *why)
{
    struct rate_chain rates = {0};
    struct rate_report report;
    enum err_code e = ERR_OK;
    bool any = false;

    _Static_assert((unsigned)LINK_COUNT <= RATE_CHAIN && (unsigned)LINK_COUNT <= BUDGET_CHAIN,
                   "a chain holds all");
    *out = (struct limits_hold){.chain = a->chain};
    why->n = 0;
    for (unsigned i = 0; i < LINK_COUNT; i++) {
        struct limits_scope *s = a->chain->at[i].scope;

        rates.at[i] = s && atomic_load_explicit(&s->is_rated, memory_order_relaxed) ? s->rate : NULL;
        any |= rates.at[i] != NULL;
    }
    if (any) {
        if (!rate_take(&rates, a->tokens, a->mono, &out->rate, &report))
            e = ERR_OVER_LIMIT;
        report_rate(a, &report, why);
    }
    if (!e) {
        e = hold_money(l, a, out, why);
        if (e)
            rate_give_back(&out->rate);
        if (e && e != ERR_UNAVAILABLE)
            atomic_fetch_add(&a->chain->at[LINK_TENANT].scope->over_budget, 1);
    }
    if (e)
        remember(l, &a->request, why);
    return e;
}

enum err_code limits_raise(struct limits *l, struct limits_hold *h, int64_t amount_nanousd,
                           struct explain *why)
{
    struct budget_view v;

    why->n = 0;
    if (budget_raise(&h->money, amount_nanousd, &v) == ERR_OK)
        return ERR_OK;
    return over_budget(l, &v, amount_nanousd - h->money.amount_nanousd, why);
}

/* ---- settling ---- */

static void say(struct limits_scope *s, const struct budget_sums *sums, unsigned percent)
{
    log_warn("budget: '%s' has spent %u%% of its %.2f USD of this %s", s->name, percent,
             (double)s->limit_nanousd / 1e9, period_name((enum period)s->period));
    (void)sums;
}

/* Once a window for each of the two marks, whoever comes first. */
static void warn(struct limits_scope *s, struct wall now)
{
    struct budget_sums sums = budget_account_sums(s->account, now);
    int64_t limit = s->limit_nanousd, seen = s->full_at;
    unsigned percent = s->warn_percent;

    if (!limit || sums.posted_nanousd <= 0)
        return;
    if (sums.posted_nanousd >= limit) {
        if (seen != sums.start_us && atomic_compare_exchange_strong(&s->full_at, &seen, sums.start_us)) {
            s->warned_at = sums.start_us;
            say(s, &sums, 100);
        }
        return;
    }
    seen = s->warned_at;
    if (seen != sums.start_us && (__int128)sums.posted_nanousd * 100 >= (__int128)limit * percent &&
        atomic_compare_exchange_strong(&s->warned_at, &seen, sums.start_us))
        say(s, &sums, percent);
}

void limits_settle(struct limits_hold *h, int64_t cost_nanousd, uint64_t tokens, struct wall now,
                   struct mono mono)
{
    bool held = h->money.is_open;

    rate_settle(&h->rate, tokens, mono);
    budget_settle(&h->money, cost_nanousd);
    for (unsigned i = 0; held && cost_nanousd && i < LINK_COUNT; i++)
        if (h->chain->at[i].budget)
            warn(h->chain->at[i].scope, now);
}

void limits_give_back(struct limits_hold *h)
{
    rate_give_back(&h->rate);
    budget_give_back(&h->money);
}

void limits_set_store_mt(struct limits *l, bool is_up)
{
    atomic_store(&l->is_store_up, is_up);
    if (is_up)
        atomic_store(&l->is_loaded, true);
}

void limits_set_others_mt(struct limits *l, unsigned n)
{
    atomic_store(&l->others, n);
}

double limits_overshoot_bound_usd_mt(const struct limits *l)
{
    return atomic_load(&l->is_loaded) && !atomic_load(&l->others) ? 0 : (double)NAN;
}

bool limits_is_loaded_mt(const struct limits *l)
{
    return atomic_load(&l->is_loaded);
}
