/* SPDX-License-Identifier: Apache-2.0 */
/* Any thread. A scope is made once and never goes away before the process; its rules are set by limits_bind() alone, its
 * counters have locks of their own. `lock` guards the table of scopes, not what is in them.
 *
 * Budgets that do not block have no limit in their account: they are looked at, not refused by. */
#include "gatewayd/limits/limits.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "libshared/base/buf.h"
#include "libshared/base/log.h"

#define BUCKETS       4096u /* of the table of scopes */
#define REFUSALS      128u  /* that can be explained afterwards */
#define THROTTLED_RPM 6u    /* what a throttled budget lets through above its limit */

struct limits_scope {
    char name[BUDGET_ACCOUNT];
    unsigned number;
    struct budget_account *account;
    struct ratelimit *rate, *throttle;
    uint64_t generation;           /* of the binding that named it last; under the lock of reloads */
    _Atomic int64_t limit_nanousd; /* 0: no budget */
    _Atomic unsigned period, warn_percent;
    _Atomic bool is_rated;
    _Atomic int64_t warned_at, full_at; /* starts of the windows in which that was said */
    _Atomic uint64_t refused[RATE_KINDS], shadowed[RATE_KINDS];
    _Atomic uint64_t limited, over_budget; /* of a tenant: its requests, whichever scope refused them */
    struct limits_scope *next;
};

struct limits {
    pthread_mutex_t lock;
    struct limits_scope *buckets[BUCKETS];
    size_t n;
    uint64_t generation;
    struct budget_book *book;
    _Atomic bool is_loaded, is_store_up;
    _Atomic unsigned others;
    struct {
        struct id request;
        struct explain why;
    } refusals[REFUSALS];
    size_t n_refusals;
};

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

static struct limits_scope *find_mt(struct limits *l, const char *name)
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

static struct wall later(struct wall now, int64_t us)
{
    return (struct wall){us ? now.us + us : 0};
}

static void explain_rate(struct explain *x, const struct limits_scope *s, enum rate_kind k,
                         const struct rate_view *v, uint64_t asked, struct wall now)
{
    struct explain_row *r = &x->row[x->n++];

    assert(x->n <= EXPLAIN_ROWS);
    *r = (struct explain_row){.kind = rate_kind_name(k),
                              .limit = v->limit,
                              .used = v->used,
                              .asked = asked,
                              .resets_at = later(now, v->reset_us),
                              .retry_ms = (v->retry_us + 999) / 1000,
                              .verdict = !v->is_exhausted ? VERDICT_OK
                                         : v->is_shadow   ? VERDICT_SHADOW
                                                          : VERDICT_REFUSED};
    memcpy(r->scope, s->name, sizeof(r->scope));
}

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

static struct explain_row *explain_money(struct explain *x, struct limits_scope *s,
                                         const struct budget_sums *sums, int64_t asked)
{
    struct explain_row *r = &x->row[x->n++];
    enum period p = (enum period)s->period;
    int64_t end = period_end(p, (struct wall){sums->start_us}).us;

    assert(x->n <= EXPLAIN_ROWS);
    *r = (struct explain_row){.kind = "budget",
                              .limit = (uint64_t)s->limit_nanousd,
                              .used = sums->posted_nanousd > 0 ? (uint64_t)sums->posted_nanousd : 0,
                              .held = sums->held_nanousd > 0 ? (uint64_t)sums->held_nanousd : 0,
                              .asked = (uint64_t)asked,
                              .resets_at = {end == INT64_MAX ? 0 : end},
                              .retry_ms = -1};
    (void)period_window(p, (struct wall){sums->start_us}, r->window);
    memcpy(r->scope, s->name, sizeof(r->scope));
    return r;
}

static bool is_above(int64_t limit, const struct budget_sums *s, int64_t asked)
{
    return (__int128)s->posted_nanousd + s->held_nanousd + asked > limit;
}

/* Nothing was read of the books yet, or they cannot be read now: by the budget's own rule. */
static bool is_unknown(const struct limits *l, const struct config_budget *b)
{
    const char *rule = b->when_store_down ? b->when_store_down : "bounded";

    if (rule[0] == 'o')
        return false;
    return !atomic_load_explicit(&l->is_loaded, memory_order_acquire) ||
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
        if (is_unknown(l, b)) {
            sums = budget_account_sums(s->account, a->now);
            r = explain_money(x, s, &sums, a->bound_nanousd);
            r->verdict = VERDICT_UNKNOWN;
            r->retry_ms = 1000;
            return ERR_UNAVAILABLE;
        }
        if (blocks(b))
            continue;
        sums = budget_account_sums(s->account, a->now);
        if (!is_above(b->limit_nanousd, &sums, a->bound_nanousd))
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
    struct limits_scope *s = find_mt(l, v->account);
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

/* ---- looking ---- */

const char *verdict_name(enum verdict v)
{
    static const char *const NAMES[] = {"ok", "warn", "shadow", "throttle", "refused", "unknown"};

    return NAMES[v];
}

const struct explain_row *explain_refusal(const struct explain *x)
{
    for (unsigned i = 0; i < x->n; i++)
        if (x->row[i].verdict == VERDICT_REFUSED || x->row[i].verdict == VERDICT_UNKNOWN)
            return &x->row[i];
    return NULL;
}

/* Exact: nine digits behind the point, without zeros at the end, but at least cents. */
static void usd(char dst[40], uint64_t nano)
{
    int n = snprintf(dst, 40, "%llu.%09llu", (unsigned long long)(nano / 1000000000),
                     (unsigned long long)(nano % 1000000000));

    for (; n > 0 && dst[n - 1] == '0' && dst[n - 3] != '.'; n--)
        dst[n - 1] = '\0';
}

void explain_text(const struct explain_row *r, char *dst, size_t cap)
{
    char limit[40], used[40], held[40], asked[40], at[WALL_TEXT_CAP] = "never";

    if (r->resets_at.us)
        (void)wall_format(r->resets_at, at, sizeof(at));
    if (!explain_is_money(r)) {
        (void)snprintf(dst, cap, "'%s' has used %llu of its limit of %llu %s%s; this one asks for %llu%s%s",
                       r->scope, (unsigned long long)r->used, (unsigned long long)r->limit, r->kind,
                       strcmp(r->kind, "concurrent") == 0 ? "" : " a minute", (unsigned long long)r->asked,
                       r->resets_at.us ? "; all is free at " : "", r->resets_at.us ? at : "");
        return;
    }
    usd(limit, r->limit);
    usd(used, r->used);
    usd(held, r->held);
    usd(asked, r->asked);
    (void)snprintf(dst, cap,
                   "the budget of '%s' is %s USD; spent %s, held %s by open requests, this one needs up to "
                   "%s; it resets "
                   "at %s",
                   r->scope, limit, used, held, asked, at);
}

static void add_amount(struct buf *out, const char *name, uint64_t v, bool is_money)
{
    char text[40];

    usd(text, v);
    if (is_money)
        buf_addf(out, ",\"%s\":\"%s\"", name, text);
    else
        buf_addf(out, ",\"%s\":%llu", name, (unsigned long long)v);
}

void explain_json(const struct explain_row *r, struct buf *out)
{
    bool is_money = explain_is_money(r);
    char at[WALL_TEXT_CAP];

    buf_addz(out, "{\"scope\":");
    buf_add_json(out, span_of(r->scope));
    buf_addf(out, ",\"kind\":\"%s\",\"unit\":\"%s\"", r->kind,
             is_money                             ? "usd"
             : strcmp(r->kind, "concurrent") == 0 ? "requests"
                                                  : r->kind);
    add_amount(out, "limit", r->limit, is_money);
    add_amount(out, "used", r->used, is_money);
    add_amount(out, "held", r->held, is_money);
    add_amount(out, "requested", r->asked, is_money);
    if (is_money)
        buf_addf(out, ",\"window\":\"%s\"", r->window);
    if (r->resets_at.us) {
        (void)wall_format(r->resets_at, at, sizeof(at));
        buf_addf(out, ",\"resets_at\":\"%s\"", at);
    } else {
        buf_addz(out, ",\"resets_at\":null");
    }
    buf_addf(out, ",\"verdict\":\"%s\"}", verdict_name(r->verdict));
}

static void view_scope(struct limits_scope *s, struct wall now, struct mono mono, struct limits_view *v)
{
    *v = (struct limits_view){.scope = s->name,
                              .limited = s->limited,
                              .over_budget = s->over_budget,
                              .has_budget = s->limit_nanousd != 0,
                              .limit_nanousd = s->limit_nanousd,
                              .period = (enum period)s->period,
                              .sums = budget_account_sums(s->account, now)};
    v->resets_at = period_end(v->period, (struct wall){v->sums.start_us});
    ratelimit_view(s->rate, mono, v->rate);
    for (unsigned k = 0; k < RATE_KINDS; k++) {
        v->refused[k] = s->refused[k];
        v->shadowed[k] = s->shadowed[k];
    }
}

static struct limits_scope **all_mt(struct limits *l, size_t *out_n)
{
    struct limits_scope **list;
    size_t n = 0;

    (void)pthread_mutex_lock(&l->lock);
    list = calloc(l->n + 1, sizeof(struct limits_scope *));
    if (!list)
        abort();
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct limits_scope *s = l->buckets[i]; s; s = s->next)
            list[s->number] = s, n++;
    (void)pthread_mutex_unlock(&l->lock);
    *out_n = n;
    return list;
}

void limits_each_mt(struct limits *l, limits_view_fn fn, void *user)
{
    size_t n;
    struct limits_scope **list = all_mt(l, &n);
    struct wall now = wall_now();
    struct mono mono = mono_now();

    for (size_t i = 0; i < n; i++) {
        struct limits_view v;
        bool has = list[i]->limited;

        view_scope(list[i], now, mono, &v);
        for (unsigned k = 0; k < RATE_KINDS; k++)
            has |= v.rate[k].limit || v.refused[k] || v.shadowed[k];
        if (has || v.has_budget || v.over_budget)
            fn(user, &v);
    }
    free(list);
}

void limits_each_account_mt(struct limits *l, limits_account_fn fn, void *user)
{
    size_t n;
    struct limits_scope **list = all_mt(l, &n);

    for (size_t i = 0; i < n; i++)
        if (list[i]->limit_nanousd)
            fn(user, list[i]->name, list[i]->account);
    free(list);
}

bool limits_explain_mt(struct limits *l, const char *account, struct explain *out)
{
    struct limits_scope *s = find_mt(l, account);
    struct wall now = wall_now();
    char name[BUDGET_ACCOUNT];
    struct limits_view v;

    if (!s && snprintf(name, sizeof(name), "%s:%s", strchr(account, '/') ? "key" : "tenant", account) <
                  (int)sizeof(name))
        s = find_mt(l, name);
    out->n = 0;
    if (!s)
        return false;
    view_scope(s, now, mono_now(), &v);
    for (unsigned k = 0; k < RATE_KINDS; k++)
        if (v.rate[k].limit)
            explain_rate(out, s, (enum rate_kind)k, &v.rate[k], 0, now);
    if (v.has_budget) {
        struct explain_row *r = explain_money(out, s, &v.sums, 0);
        unsigned percent = s->warn_percent;

        if (is_above(v.limit_nanousd, &v.sums, 1))
            r->verdict = VERDICT_REFUSED;
        else if ((__int128)v.sums.posted_nanousd * 100 >= (__int128)v.limit_nanousd * percent)
            r->verdict = VERDICT_WARN;
    }
    return out->n > 0;
}

bool limits_explain_request_mt(struct limits *l, const char *request, struct explain *out)
{
    bool found = false;
    char text[ID_TEXT_CAP];

    (void)pthread_mutex_lock(&l->lock);
    for (size_t i = 0; !found && i < REFUSALS && i < l->n_refusals; i++) {
        id_format(&l->refusals[i].request, text);
        found = strcmp(text, request) == 0;
        if (found)
            *out = l->refusals[i].why;
    }
    (void)pthread_mutex_unlock(&l->lock);
    return found;
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
