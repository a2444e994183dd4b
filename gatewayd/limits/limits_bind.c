/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration is bound to the scopes that the process keeps: each gets the budget, the top-ups and the rates that are said
 * of it, and every key, provider and alias of the snapshot learns where its scopes are. Under the lock of reloads, before
 * the snapshot is published. */
#include <stdio.h>
#include <stdlib.h>

#include "gatewayd/limits/limits_priv.h"

/* What is over already is left out: it would take the place of one that is not. */
static void add_topups(struct budget_rule *r, const struct config_account *a, struct wall now)
{
    for (size_t i = 0; a && i < a->n_topups && r->n_topups < BUDGET_TOPUPS; i++)
        if (a->topups[i].until_us > now.us)
            r->topups[r->n_topups++] =
                (struct budget_topup){a->topups[i].amount_nanousd, a->topups[i].until_us};
}

static void set_budget(struct limits_scope *s, const struct config_budget *b, const struct config_account *a)
{
    struct budget_rule rule = {.cycle = config_cycle(b)};
    int64_t most = 0;

    if (b) {
        rule.limit_nanousd = b->limit_nanousd;
        rule.is_soft = b->at_limit != AT_LIMIT_BLOCK;
        add_topups(&rule, a, wall_now());
    }
    most = rule.limit_nanousd;
    for (unsigned i = 0; i < rule.n_topups; i++)
        most += rule.topups[i].amount_nanousd;
    if (most != s->most || !cycle_is(rule.cycle, s->cycle))
        limits_tell_again(s);
    s->most = most;
    s->cycle = rule.cycle;
    s->open_cap_nanousd = b && b->when_store_down == STORE_DOWN_OPEN
                              ? (b->open_cap_nanousd ? b->open_cap_nanousd : b->limit_nanousd)
                              : -1;
    s->has_budget = b != NULL;
    s->levels = b ? b->warn : (struct config_levels){0};
    budget_account_set(s->account, &rule);
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

static int by_account(const void *a, const void *b)
{
    return strcmp((*(const struct config_account *const *)a)->account,
                  (*(const struct config_account *const *)b)->account);
}

struct accounts { /* of the database, by name */
    const struct config_account **at;
    size_t n;
};

static const struct config_account *account_of(const struct accounts *all, const char *name)
{
    struct config_account key = {.account = name};
    const struct config_account *k = &key, **found;

    found = all->n ? bsearch(&k, all->at, all->n, sizeof(*all->at), by_account) : NULL;
    return found ? *found : NULL;
}

static void sort_accounts(struct config *c, struct accounts *out)
{
    out->at = arena_array(&c->arena, const struct config_account *, c->n_accounts + 1);
    out->n = c->n_accounts;
    for (size_t i = 0; i < c->n_accounts; i++)
        out->at[i] = &c->accounts[i];
    qsort(out->at, out->n, sizeof(*out->at), by_account);
}

struct binding {
    struct limits *l;
    struct config *c;
    struct accounts accounts;
};

struct named { /* what is to be limited under a name */
    const char *name;
    const struct config_budget
        *budget; /* of the file, or joined already; NULL or without a limit: the database's */
    const struct config_limits *limits;
    bool is_needed; /* although nothing is limited */
};

static struct limits_point bind_point(struct binding *b, const struct named *n)
{
    const struct config_account *a = account_of(&b->accounts, n->name);
    const struct config_budget *budget = n->budget && n->budget->limit_nanousd ? n->budget
                                         : a                                   ? &a->budget
                                                                               : NULL;
    struct limits_point p = {.budget = budget && budget->limit_nanousd ? budget : NULL};

    if (!p.budget && (!n->limits || !is_limited(n->limits)) && !n->is_needed)
        return p;
    p.scope = limits_scope_of(b->l, n->name);
    if (p.scope->generation == b->l->generation) /* another digest of the same key */
        return p;
    p.scope->generation = b->l->generation;
    set_budget(p.scope, p.budget, a);
    set_rate(p.scope, n->limits);
    return p;
}

static void forget_others(struct limits *l)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct limits_scope *s = l->buckets[i]; s; s = s->next)
            if (s->generation != l->generation) {
                set_budget(s, NULL, NULL);
                set_rate(s, NULL);
            }
}

static void bind_keys(struct binding *b)
{
    struct config *c = b->c;
    struct limits_chain *chains = arena_array(&c->arena, struct limits_chain, c->n_keys + 1);
    struct limits_chain *tenants = arena_array(&c->arena, struct limits_chain, c->n_tenants + 1);
    struct limits_point global = bind_point(b, &(struct named){.name = "global"});
    char name[BUDGET_ACCOUNT], owner[BUDGET_ACCOUNT];

    for (size_t i = 0; i < c->n_tenants; i++) {
        const struct config_tenant *t = &c->tenants[i];

        (void)snprintf(name, sizeof(name), "tenant:%s", t->id);
        tenants[i].at[LINK_TENANT] =
            bind_point(b, &(struct named){name, &t->budget, &t->limits, global.budget != NULL});
        tenants[i].at[LINK_GLOBAL] = global;
    }
    for (size_t i = 0; i < c->n_keys; i++) {
        const struct config_key *k = &c->keys[i];

        chains[i] = tenants[k->tenant - c->tenants];
        if (k->is_revoked)
            continue;
        (void)snprintf(name, sizeof(name), "key:%s/%s", k->tenant->id, k->id);
        chains[i].at[LINK_KEY] = bind_point(b, &(struct named){.name = name, .limits = &k->limits});
        (void)snprintf(owner, sizeof(owner), "tenant:%s", k->tenant->id);
        if (chains[i].at[LINK_KEY].scope && !chains[i].at[LINK_TENANT].scope)
            chains[i].at[LINK_TENANT] = bind_point(b, &(struct named){.name = owner, .is_needed = true});
    }
    c->limits = chains;
}

static void bind_providers(struct binding *b)
{
    struct config *c = b->c;
    struct limits_point *points = arena_array(&c->arena, struct limits_point, c->n_providers + 1);
    struct limits_scope **models = arena_array(&c->arena, struct limits_scope *, c->n_models + 1);
    char name[BUDGET_ACCOUNT];

    for (size_t i = 0; i < c->n_providers; i++) {
        const struct config_provider *p = &c->providers[i];

        (void)snprintf(name, sizeof(name), "provider:%s", p->name);
        points[i] = bind_point(b, &(struct named){name, &p->budget, &p->limits, false});
    }
    for (size_t i = 0; i < c->n_models; i++) {
        (void)snprintf(name, sizeof(name), "model:%.140s", c->models[i].name);
        models[i] = bind_point(b, &(struct named){.name = name, .limits = &c->models[i].limits}).scope;
    }
    c->provider_limits = points;
    c->model_limits = models;
}

void limits_bind(struct limits *l, struct config *c)
{
    struct binding b = {.l = l, .c = c};

    if (c->limits)
        return;
    l->generation++;
    sort_accounts(c, &b.accounts);
    bind_providers(&b);
    bind_keys(&b);
    (void)pthread_mutex_lock(&l->lock);
    forget_others(l);
    (void)pthread_mutex_unlock(&l->lock);
}

const struct limits_chain *limits_chain_of(const struct config *c, const struct config_key *k)
{
    return c->limits ? &c->limits[k - c->keys] : NULL;
}

const struct limits_point *limits_provider_of(const struct config *c, const struct config_provider *p)
{
    return c->provider_limits && c->provider_limits[p->index].scope ? &c->provider_limits[p->index] : NULL;
}

struct limits_scope *limits_model_of(const struct config *c, const struct config_model *m)
{
    return m && c->model_limits ? c->model_limits[m - c->models] : NULL;
}

struct cycle limits_cycle(const struct limits_chain *chain, enum limits_link at)
{
    return config_cycle(chain ? chain->at[at].budget : NULL);
}

bool limits_point_holds_money(const struct limits_point *p)
{
    return p && p->budget && p->budget->at_limit != AT_LIMIT_WARN;
}

bool limits_holds_money(const struct limits_chain *chain)
{
    for (unsigned i = 0; chain && i < LINK_COUNT; i++)
        if (limits_point_holds_money(&chain->at[i]))
            return true;
    return false;
}
