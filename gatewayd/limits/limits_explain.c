/* SPDX-License-Identifier: Apache-2.0 */
/* What is limited, for people: rows that name a limit and what is used of it, as text and JSON, of what admit saw and of what
 * is now. Any thread. The figures are those of the counters that admit decides by. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "gatewayd/limits/limits_priv.h"
#include "libshared/base/buf.h"

static struct wall later(struct wall now, int64_t us)
{
    return (struct wall){us ? now.us + us : 0};
}

void explain_rate(struct explain *x, const struct limits_scope *s, enum rate_kind k,
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

struct explain_row *explain_money(struct explain *x, struct limits_scope *s, const struct budget_sums *sums,
                                  int64_t asked)
{
    struct explain_row *r = &x->row[x->n++];

    assert(x->n <= EXPLAIN_ROWS);
    *r = (struct explain_row){.kind = "budget",
                              .limit = (uint64_t)sums->limit_nanousd,
                              .used = sums->posted_nanousd > 0 ? (uint64_t)sums->posted_nanousd : 0,
                              .held = sums->held_nanousd > 0 ? (uint64_t)sums->held_nanousd : 0,
                              .asked = (uint64_t)asked,
                              .resets_at = {sums->end_us == INT64_MAX ? 0 : sums->end_us},
                              .retry_ms = -1};
    (void)cycle_name(sums->cycle, (struct wall){sums->start_us}, r->window);
    memcpy(r->scope, s->name, sizeof(r->scope));
    return r;
}

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
    if (r->is_queue)
        buf_addf(out, ",\"queued\":%llu,\"retry_ms\":%lld", (unsigned long long)r->queued,
                 (long long)r->retry_ms);
    buf_addf(out, ",\"verdict\":\"%s\"}", verdict_name(r->verdict));
}

static void view_scope(struct limits_scope *s, struct wall now, struct mono mono, struct limits_view *v)
{
    *v = (struct limits_view){.scope = s->name,
                              .limited = s->limited,
                              .over_budget = s->over_budget,
                              .has_budget = s->has_budget,
                              .sums = budget_account_sums(s->account, now)};
    v->limit_nanousd = v->sums.limit_nanousd;
    v->period = v->sums.cycle.period;
    v->zone = v->sums.cycle.zone;
    v->resets_at = (struct wall){v->sums.end_us};
    ratelimit_view(s->rate, mono, v->rate);
    for (unsigned k = 0; k < RATE_KINDS; k++) {
        v->refused[k] = s->refused[k];
        v->shadowed[k] = s->shadowed[k];
    }
}

struct limits_scope **limits_all_mt(struct limits *l, size_t *out_n)
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
    struct limits_scope **list = limits_all_mt(l, &n);
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
    struct limits_scope **list = limits_all_mt(l, &n);

    for (size_t i = 0; i < n; i++)
        if (list[i]->has_budget)
            fn(user, list[i]->name, list[i]->account);
    free(list);
}

bool limits_explain_mt(struct limits *l, const char *account, struct explain *out)
{
    struct limits_scope *s = limits_find_mt(l, account);
    struct wall now = wall_now();
    char name[BUDGET_ACCOUNT];
    struct limits_view v;

    if (!s && snprintf(name, sizeof(name), "%s:%s", strchr(account, '/') ? "key" : "tenant", account) <
                  (int)sizeof(name))
        s = limits_find_mt(l, name);
    out->n = 0;
    if (!s)
        return false;
    view_scope(s, now, mono_now(), &v);
    for (unsigned k = 0; k < RATE_KINDS; k++)
        if (v.rate[k].limit)
            explain_rate(out, s, (enum rate_kind)k, &v.rate[k], 0, now);
    if (v.has_budget) {
        struct explain_row *r = explain_money(out, s, &v.sums, 0);
        struct config_levels levels = s->levels;

        if (budget_is_above(&v.sums, 1))
            r->verdict = VERDICT_REFUSED;
        else if (levels.n &&
                 (__int128)v.sums.posted_nanousd * 100 >= (__int128)v.limit_nanousd * levels.percent[0])
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

/* Under the lock; NULL: this account did not refuse it. */
static const struct explain_row *refused_by(const struct explain *why, const char *account)
{
    for (unsigned i = 0; i < why->n; i++)
        if (why->row[i].verdict == VERDICT_REFUSED && strcmp(why->row[i].scope, account) == 0)
            return &why->row[i];
    return NULL;
}

bool limits_last_refusal_mt(struct limits *l, const char *account, struct id *out_request,
                            struct explain_row *out)
{
    const struct explain_row *row = NULL;

    (void)pthread_mutex_lock(&l->lock);
    for (size_t i = 0; !row && i < REFUSALS && i < l->n_refusals; i++) {
        size_t at = (l->n_refusals - 1 - i) % REFUSALS;

        row = refused_by(&l->refusals[at].why, account);
        if (row) {
            *out_request = l->refusals[at].request;
            *out = *row;
        }
    }
    (void)pthread_mutex_unlock(&l->lock);
    return row != NULL;
}
