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

#include "gatewayd/limits/limits_lease.h"
#include "gatewayd/limits/limits_priv.h"
#include "gatewayd/telemetry/events.h"
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

void limits_tell_to(struct limits *l, struct events *events)
{
    l->events = events;
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

void limits_tell_again(struct limits_scope *s)
{
    for (unsigned i = 0; i <= CONFIG_LEVELS; i++)
        s->told_at[i] = INT64_MIN;
}

struct limits_scope *limits_scope_of(struct limits *l, const char *name)
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
        limits_tell_again(s);
        s->next = *bucket;
        *bucket = s;
    }
    (void)pthread_mutex_unlock(&l->lock);
    assert(s->account);
    return s;
}

/* ---- admitting ---- */

static void count_shadow(struct limits_scope *s, enum rate_kind k, uint64_t limit)
{
    uint64_t n = atomic_fetch_add(&s->shadowed[k], 1) + 1;

    if ((n & (n - 1)) == 0) /* the 1st, 2nd, 4th …: the metric has them all */
        log_info("limits: '%s' is over its %llu %s (in shadow, let through; %llu so far)", s->name,
                 (unsigned long long)limit, rate_kind_name(k), (unsigned long long)n);
}

/* What is asked at once: of a request its key, tenant, all and its alias; of an attempt its provider. */
struct points {
    struct limits_point at[LINK_COUNT + 1];
    unsigned n;
    bool is_shared;              /* its rates are, with other nodes; money is in any case */
    struct limits_scope *tenant; /* counts refusals, NULL: nobody does */
};

static void report_rate(const struct points *p, const struct limits_ask *a, const struct rate_report *rep,
                        struct explain *x)
{
    const uint64_t asked[RATE_KINDS] = {1, a->tokens, 1};
    bool is_counted = false;

    for (unsigned i = 0; i < p->n; i++) {
        struct limits_scope *s = p->at[i].scope;

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
                if (p->tenant)
                    atomic_fetch_add(&p->tenant->limited, 1);
            }
        }
    }
}

static struct budget_terms terms_of(const struct limits *l, struct mono now)
{
    struct budget_terms t = {.is_leased = atomic_load_explicit(&l->lease, memory_order_relaxed) != NULL,
                             .now = now};

    t.holds = t.is_leased && now.us < atomic_load_explicit(&l->lease_until_us, memory_order_relaxed);
    return t;
}

/* Nothing was read of the books yet (or not of the window that the clock stepped back to), or they cannot be read now: by the
 * budget's own rule. */
static bool is_unknown(const struct limits *l, const struct config_budget *b, struct budget_account *a,
                       struct wall now)
{
    if (b->when_store_down == STORE_DOWN_OPEN)
        return false;
    return !atomic_load_explicit(&l->is_loaded, memory_order_acquire) || !budget_account_knows(a, now) ||
           (b->when_store_down == STORE_DOWN_CLOSED &&
            (!atomic_load_explicit(&l->is_store_up, memory_order_relaxed) ||
             (atomic_load_explicit(&l->lease, memory_order_relaxed) &&
              !atomic_load_explicit(&l->is_lease_up, memory_order_relaxed))));
}

static enum err_code throttle(struct limits_scope *s, const struct limits_ask *a, struct explain_row *r)
{
    struct rate_chain one = {.at = {s->throttle}};
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
static enum err_code ask_soft(struct limits *l, const struct points *p, const struct limits_ask *a,
                              struct explain *x)
{
    enum err_code e = ERR_OK;

    for (unsigned i = 0; !e && i < p->n; i++) {
        const struct config_budget *b = p->at[i].budget;
        struct limits_scope *s = p->at[i].scope;
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
        if (b->at_limit == AT_LIMIT_BLOCK)
            continue;
        sums = budget_account_sums(s->account, a->now);
        if (!budget_is_above(&sums, a->bound_nanousd))
            continue;
        r = explain_money(x, s, &sums, a->bound_nanousd);
        r->verdict = VERDICT_WARN;
        if (b->at_limit == AT_LIMIT_THROTTLE)
            e = throttle(s, a, r);
    }
    return e;
}

static enum err_code over_budget(struct limits *l, const struct budget_view *v, int64_t asked,
                                 struct explain *x)
{
    struct limits_scope *s = limits_find_mt(l, v->account);
    struct budget_sums sums = {.end_us = v->resets_at.us,
                               .posted_nanousd = v->posted_nanousd,
                               .held_nanousd = v->held_nanousd,
                               .limit_nanousd = v->limit_nanousd};
    struct explain_row *r = explain_money(x, s, &sums, asked);

    memcpy(r->window, v->window, sizeof(r->window));
    r->verdict = VERDICT_REFUSED;
    return ERR_OVER_BUDGET;
}

/* What the store said when this request had asked; what others heard before may be free again. */
static bool is_said(const struct limits_ask *a, const struct budget_view *v)
{
    return a->waits_since.us && v->denial != LEASE_NOT_DENIED && v->denied_at.us >= a->waits_since.us &&
           a->bound_nanousd >= v->denied_nanousd;
}

/* It is posted, or every other node has said since this request asked that all it had leased is in use. */
static bool is_spent(const struct limits_ask *a, const struct budget_view *v)
{
    return is_said(a, v) &&
           (v->denial == LEASE_SPENT || (v->denial == LEASE_TAKEN && v->agreed_at.us >= a->waits_since.us));
}

static const char *reason_of(const struct limits *l, const struct limits_ask *a, const struct budget_view *v)
{
    if (!atomic_load_explicit(&l->is_lease_up, memory_order_relaxed))
        return "the realtime store is not reached, and what this node had leased of it is used";
    if (is_said(a, v) && v->denial == LEASE_TAKEN)
        return "what is left of it is leased to other nodes";
    if (is_said(a, v) && v->denial == LEASE_QUIET)
        return "the realtime store came back empty, and what is left of it is not known yet";
    return "the realtime store did not say in time what is left of it";
}

/* The limit has room as far as is known here, but the lease has not: it is asked for, unless the answer is known. */
static enum err_code lacks_lease(struct limits *l, const struct limits_ask *a, const struct budget_view *v,
                                 bool was_up, struct limits_hold *out, struct explain *x)
{
    struct budget_view all = *v;
    struct explain_row *r;

    if (is_spent(a, v)) {
        if (v->taken_nanousd - v->posted_nanousd > v->held_nanousd)
            all.held_nanousd = v->taken_nanousd - v->posted_nanousd; /* by open requests of all nodes */
        return over_budget(l, &all, a->bound_nanousd, x);
    }
    out->waits = !a->is_last && was_up;
    (void)over_budget(l, v, a->bound_nanousd, x);
    r = &x->row[x->n - 1];
    r->verdict = VERDICT_UNKNOWN;
    r->retry_ms = 1000;
    r->reason = reason_of(l, a, v);
    return ERR_UNAVAILABLE;
}

/* Leases of these run out: wakes the thread that keeps them. */
static void leases_are_due(struct limits *l, const struct limits_point *at, unsigned n)
{
    bool is_new = false;

    for (unsigned i = 0; i < n; i++)
        if (at[i].scope)
            is_new |= !atomic_exchange_explicit(&at[i].scope->is_due, true, memory_order_relaxed);
    if (is_new && atomic_load_explicit(&l->lease, memory_order_relaxed))
        limits_lease_wake_mt(atomic_load_explicit(&l->lease, memory_order_relaxed));
}

static enum err_code hold_money(struct limits *l, const struct points *p, const struct limits_ask *a,
                                struct limits_hold *out, struct explain *x)
{
    struct budget_chain chain = {0};
    struct budget_view why;
    enum err_code e;
    bool any = false, was_up;

    for (unsigned i = 0; i < p->n; i++)
        if (p->at[i].budget) {
            chain.at[i] = p->at[i].scope->account;
            any = true;
        }
    if (!any)
        return ERR_OK;
    if (ask_soft(l, p, a, x))
        return x->row[x->n - 1].verdict == VERDICT_UNKNOWN ? ERR_UNAVAILABLE : ERR_OVER_LIMIT;
    /* Before money is held: when the store goes down meanwhile, what stays open is worth another try. */
    was_up = atomic_load_explicit(&l->is_lease_up, memory_order_acquire);
    chain.terms = terms_of(l, a->mono);
    e = budget_reserve(&chain, a->bound_nanousd, a->now, &out->money, &why);
    if (out->money.is_due)
        leases_are_due(l, p->at, p->n);
    if (!e)
        return ERR_OK;
    return why.lacks_lease ? lacks_lease(l, a, &why, was_up, out, x)
                           : over_budget(l, &why, a->bound_nanousd, x);
}

void limits_remember_mt(struct limits *l, const struct id *request, const struct explain *why)
{
    (void)pthread_mutex_lock(&l->lock);
    l->refusals[l->n_refusals % REFUSALS].request = *request;
    l->refusals[l->n_refusals++ % REFUSALS].why = *why;
    (void)pthread_mutex_unlock(&l->lock);
}

static enum err_code admit(struct limits *l, const struct points *p, const struct limits_ask *a,
                           struct limits_hold *out, struct explain *why)
{
    struct rate_chain rates = {0};
    struct rate_report report;
    enum err_code e = ERR_OK;
    bool any = false;

    _Static_assert(LINK_COUNT + 1u <= RATE_CHAIN && LINK_COUNT + 1u <= BUDGET_CHAIN, "a chain holds all");
    why->n = 0;
    for (unsigned i = 0; i < p->n; i++) {
        struct limits_scope *s = p->at[i].scope;

        rates.at[i] = s && atomic_load_explicit(&s->is_rated, memory_order_relaxed) ? s->rate : NULL;
        any |= rates.at[i] != NULL;
    }
    if (any) {
        bool is_shared = p->is_shared && atomic_load_explicit(&l->lease, memory_order_relaxed) != NULL;

        rates.is_leased = is_shared && atomic_load_explicit(&l->is_lease_up, memory_order_relaxed);
        rates.nodes =
            is_shared && !rates.is_leased ? atomic_load_explicit(&l->lease_nodes, memory_order_relaxed) : 0;
        if (!rate_take(&rates, a->tokens, a->mono, &out->rate, &report)) {
            e = ERR_OVER_LIMIT;
            out->waits = out->rate.is_due && !a->is_last;
        }
        if (out->rate.is_due)
            leases_are_due(l, p->at, p->n);
        if (out->waits)
            return ERR_UNAVAILABLE;
        report_rate(p, a, &report, why);
    }
    if (!e) {
        e = hold_money(l, p, a, out, why);
        if (e)
            rate_give_back(&out->rate);
        if (out->waits)
            return e;
        if (e && e != ERR_UNAVAILABLE && p->tenant)
            atomic_fetch_add(&p->tenant->over_budget, 1);
    }
    return e;
}

enum err_code limits_admit(struct limits *l, const struct limits_ask *a, struct limits_hold *out,
                           struct explain *why)
{
    struct points p = {.n = LINK_COUNT, .is_shared = true};
    enum err_code e;

    for (unsigned i = 0; a->chain && i < LINK_COUNT; i++)
        p.at[i] = a->chain->at[i];
    if (a->model)
        p.at[p.n++].scope = a->model;
    p.tenant = p.at[LINK_TENANT].scope;
    *out = (struct limits_hold){.limits = l, .chain = a->chain};
    e = admit(l, &p, a, out, why);
    if (e && !out->waits)
        limits_remember_mt(l, &a->request, why);
    return e;
}

enum err_code limits_admit_attempt(struct limits *l, const struct limits_point *provider,
                                   const struct limits_ask *a, struct limits_hold *out, struct explain *why)
{
    struct points p = {.at = {*provider}, .n = 1};

    *out = (struct limits_hold){.limits = l, .provider = provider};
    return admit(l, &p, a, out, why);
}

enum limits_room limits_look_attempt(struct limits *l, const struct limits_point *provider,
                                     const struct limits_ask *a)
{
    struct points p = {.at = {*provider}, .n = 1};
    struct limits_hold h = {0};
    struct explain why = {0};
    enum err_code e;

    if (!provider->budget || provider->budget->at_limit != AT_LIMIT_BLOCK)
        return LIMITS_ROOM;
    e = hold_money(l, &p, a, &h, &why);
    budget_give_back(&h.money);
    if (!e)
        return LIMITS_ROOM;
    return h.waits ? LIMITS_ROOM_MAY_COME : LIMITS_NO_ROOM;
}

enum err_code limits_raise(struct limits *l, struct limits_hold *h, int64_t amount_nanousd,
                           struct explain *why)
{
    struct budget_view v;
    enum err_code e;

    why->n = 0;
    if (h->chain)
        h->money.chain.terms = terms_of(l, mono_now());
    h->money.is_due = false;
    e = budget_raise(&h->money, amount_nanousd, &v);
    if (h->money.is_due && h->chain)
        leases_are_due(l, h->chain->at, LINK_COUNT);
    if (!e)
        return ERR_OK;
    return over_budget(l, &v, amount_nanousd - h->money.amount_nanousd, why);
}

static bool cuts(const struct limits_point *p, int64_t cost_nanousd, struct wall arrived, struct explain *why)
{
    struct budget_sums sums;

    if (!p->budget || !p->budget->cuts_streams)
        return false;
    sums = budget_account_sums(p->scope->account, arrived);
    if ((__int128)sums.posted_nanousd + cost_nanousd <= sums.limit_nanousd)
        return false;
    explain_money(why, p->scope, &sums, cost_nanousd)->verdict = VERDICT_REFUSED;
    return true;
}

bool limits_cuts(const struct limits_hold *h, int64_t cost_nanousd, struct wall arrived, struct explain *why)
{
    why->n = 0;
    for (unsigned i = 0; h->chain && i < LINK_COUNT; i++)
        if (cuts(&h->chain->at[i], cost_nanousd, arrived, why))
            return true;
    return h->provider && cuts(h->provider, cost_nanousd, arrived, why);
}

/* ---- settling ---- */

static void say(const struct limits *l, const struct limits_scope *s, const struct budget_sums *sums,
                unsigned percent)
{
    struct event ev;

    event_make(&ev, EVENT_BUDGET, percent < 100 ? EVENT_WARNING : EVENT_CRITICAL, s->name,
               "%u%% of its %.2f USD of this %s are spent", percent, (double)sums->limit_nanousd / 1e9,
               period_name(sums->cycle.period));
    event_add_count(&ev, "percent", percent);
    event_add_usd(&ev, "value", sums->posted_nanousd);
    event_add_usd(&ev, "limit", sums->limit_nanousd);
    if (sums->end_us != INT64_MAX)
        event_add_time(&ev, "resets_at", (struct wall){sums->end_us});
    events_tell_mt(l->events, &ev);
}

/* Whoever is the first to see a window past a mark tells of it. Requests of the window before may end in between, and the clock
 * may step: what is older than what was told of is not told any more. */
static bool is_first_to_see(_Atomic int64_t *told_at, int64_t start_us)
{
    int64_t seen = *told_at;

    return seen < start_us && atomic_compare_exchange_strong(told_at, &seen, start_us);
}

/* Only the highest mark is told of that is passed by now; what lies below is taken for told. */
static void warn(const struct limits *l, struct limits_scope *s, struct wall arrived)
{
    struct budget_sums sums = budget_account_sums(s->account, arrived);
    struct config_levels levels = s->levels;
    bool is_told = false;

    if (!sums.limit_nanousd || sums.posted_nanousd <= 0)
        return;
    for (unsigned i = levels.n + 1; i-- > 0;) {
        unsigned percent = i == levels.n ? 100 : levels.percent[i];

        if ((__int128)sums.posted_nanousd * 100 < (__int128)sums.limit_nanousd * percent)
            continue;
        if (is_first_to_see(&s->told_at[i == levels.n ? CONFIG_LEVELS : i], sums.start_us) && !is_told)
            say(l, s, &sums, percent);
        is_told = true;
    }
}

void limits_settle(struct limits_hold *h, int64_t cost_nanousd, uint64_t tokens, struct wall arrived,
                   struct mono mono)
{
    bool held = h->money.is_open && cost_nanousd;

    rate_settle(&h->rate, tokens, mono);
    budget_settle(&h->money, cost_nanousd);
    for (unsigned i = 0; held && h->chain && i < LINK_COUNT; i++)
        if (h->chain->at[i].budget)
            warn(h->limits, h->chain->at[i].scope, arrived);
    if (held && h->provider)
        warn(h->limits, h->provider->scope, arrived);
}

void limits_give_back(struct limits_hold *h)
{
    rate_give_back(&h->rate);
    budget_give_back(&h->money);
}

void limits_correct_mt(struct limits *l, const char *account, struct wall at, int64_t amount_nanousd)
{
    struct limits_scope *s = limits_find_mt(l, account);

    if (!s)
        return;
    budget_account_correct(s->account, at, amount_nanousd);
    limits_tell_again(s);
}

struct budget_mark limits_mark_mt(struct limits *l, const char *account, struct wall at)
{
    struct limits_scope *s = limits_find_mt(l, account);

    return s ? budget_account_mark(s->account, at) : (struct budget_mark){0};
}

void limits_learn_mt(struct limits *l, const char *account, const struct budget_mark *mark, bool has_mark,
                     int64_t stored_nanousd, struct budget_sums *out)
{
    struct limits_scope *s = limits_find_mt(l, account);

    if (!s)
        return;
    budget_account_follow(s->account, mark, has_mark, stored_nanousd);
    *out = budget_account_sums(s->account, (struct wall){mark->start_us});
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

double limits_overshoot_bound_usd_mt(struct limits *l)
{
    struct limits_lease *lease = atomic_load(&l->lease);

    if (lease)
        return limits_lease_bound_usd_mt(lease);
    return atomic_load(&l->is_loaded) && !atomic_load(&l->others) ? 0 : (double)NAN;
}

bool limits_is_loaded_mt(const struct limits *l)
{
    return atomic_load(&l->is_loaded);
}
