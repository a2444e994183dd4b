/* SPDX-License-Identifier: Apache-2.0 */
/* Instants are nanoseconds of the monotonic clock, so that a token of a large limit still moves its bucket.
 * The invariant: tat <= now + a minute after every take; only truing up goes beyond, by what was underestimated. */
#include "gatewayd/resilience/ratelimit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define MINUTE_NS INT64_C(60000000000)
#define FAR_NS    (INT64_C(24) * 3600 * 1000000000) /* a bucket is at most a day behind */

struct ratelimit {
    pthread_mutex_t lock;
    unsigned number;
    struct rate_rules rules;
    int64_t tat_ns[RATE_CONCURRENT]; /* of requests and tokens */
    uint64_t open;
};

const char *rate_kind_name(enum rate_kind k)
{
    static const char *const NAMES[] = {"requests", "tokens", "concurrent"};

    _Static_assert(ARRAY_LEN(NAMES) == RATE_KINDS, "every kind has a name");
    return NAMES[k];
}

struct ratelimit *ratelimit_new(void)
{
    static _Atomic unsigned numbers;
    struct ratelimit *r = calloc(1, sizeof(*r));

    if (!r)
        abort();
    (void)pthread_mutex_init(&r->lock, NULL);
    r->number = atomic_fetch_add(&numbers, 1);
    return r;
}

void ratelimit_free(struct ratelimit *r)
{
    if (!r)
        return;
    (void)pthread_mutex_destroy(&r->lock);
    free(r);
}

void ratelimit_set(struct ratelimit *r, const struct rate_rules *rules)
{
    (void)pthread_mutex_lock(&r->lock);
    r->rules = *rules;
    (void)pthread_mutex_unlock(&r->lock);
}

/* ---- one bucket, locked ---- */

/* How far n of `limit` a minute move the bucket; at least 1 ns each time, so that nothing is free. */
static int64_t move_ns(uint64_t n, uint64_t limit)
{
    unsigned __int128 ns = ((unsigned __int128)n * (uint64_t)MINUTE_NS + limit - 1) / limit;

    return ns > (uint64_t)FAR_NS ? FAR_NS : (int64_t)ns;
}

static int64_t ahead_ns(const struct ratelimit *r, enum rate_kind k, int64_t now_ns)
{
    return r->tat_ns[k] > now_ns ? r->tat_ns[k] - now_ns : 0;
}

/* What of a minute's worth has not come back: rounded to the next whole, since a move was rounded up. */
static uint64_t used_of(int64_t ahead, uint64_t limit)
{
    unsigned __int128 n = (unsigned __int128)(uint64_t)ahead * limit;

    return (uint64_t)((n + (uint64_t)MINUTE_NS / 2) / (uint64_t)MINUTE_NS);
}

static int64_t ask_ns(uint64_t n, uint64_t limit)
{
    int64_t ns = move_ns(n, limit);

    return ns > MINUTE_NS ? MINUTE_NS : ns;
}

static int64_t up_us(int64_t ns)
{
    return (ns + 999) / 1000;
}

static void look(const struct ratelimit *r, enum rate_kind k, uint64_t n, int64_t now_ns, struct rate_view *v)
{
    uint64_t limit = r->rules.of[k];
    int64_t ahead;

    *v = (struct rate_view){.limit = limit, .is_shadow = r->rules.is_shadow};
    if (!limit)
        return;
    if (k == RATE_CONCURRENT) {
        v->used = r->open;
        v->is_exhausted = n && r->open >= limit;
        v->retry_us = v->is_exhausted ? 1000000 : 0;
        return;
    }
    ahead = ahead_ns(r, k, now_ns);
    v->used = used_of(ahead, limit);
    v->reset_us = up_us(ahead);
    if (n && ahead + ask_ns(n, limit) > MINUTE_NS) {
        v->is_exhausted = true;
        v->retry_us = up_us(ahead + ask_ns(n, limit) - MINUTE_NS);
    }
}

static void take_of(struct ratelimit *r, enum rate_kind k, uint64_t n, int64_t now_ns)
{
    if (k == RATE_CONCURRENT)
        r->open++;
    else if (r->rules.of[k] && n)
        r->tat_ns[k] = now_ns + ahead_ns(r, k, now_ns) + ask_ns(n, r->rules.of[k]);
}

/* A shadowed bucket runs over; a day is the most that it can be behind. */
static void keep_near(struct ratelimit *r, int64_t now_ns)
{
    for (unsigned k = 0; k < RATE_CONCURRENT; k++)
        if (r->tat_ns[k] > now_ns + FAR_NS)
            r->tat_ns[k] = now_ns + FAR_NS;
}

void ratelimit_view(struct ratelimit *r, struct mono now, struct rate_view out[RATE_KINDS])
{
    (void)pthread_mutex_lock(&r->lock);
    for (unsigned k = 0; k < RATE_KINDS; k++)
        look(r, (enum rate_kind)k, 0, now.us * 1000, &out[k]);
    (void)pthread_mutex_unlock(&r->lock);
}

/* ---- chains ---- */

static void lock_all(const struct rate_chain *c, struct ratelimit *at[RATE_CHAIN], unsigned *out_n)
{
    unsigned n = 0;

    for (unsigned i = 0; i < RATE_CHAIN; i++) {
        unsigned to = n;

        if (!c->at[i])
            continue;
        for (; to && at[to - 1]->number > c->at[i]->number; to--)
            at[to] = at[to - 1];
        at[to] = c->at[i];
        n++;
    }
    for (unsigned i = 0; i < n; i++)
        (void)pthread_mutex_lock(&at[i]->lock);
    *out_n = n;
}

static void unlock_all(struct ratelimit *const at[RATE_CHAIN], unsigned n)
{
    while (n-- > 0)
        (void)pthread_mutex_unlock(&at[n]->lock);
}

bool rate_take(const struct rate_chain *chain, uint64_t tokens, struct mono now, struct rate_hold *out,
               struct rate_report *report)
{
    const uint64_t asked[RATE_KINDS] = {1, tokens, 1};
    struct ratelimit *at[RATE_CHAIN];
    int64_t now_ns = now.us * 1000;
    bool fits = true;
    unsigned n;

    *out = (struct rate_hold){.chain = *chain, .tokens = tokens};
    *report = (struct rate_report){0};
    lock_all(chain, at, &n);
    for (unsigned i = 0; i < RATE_CHAIN; i++)
        for (unsigned k = 0; chain->at[i] && k < RATE_KINDS; k++) {
            struct rate_view *v = &report->of[i][k];

            look(chain->at[i], (enum rate_kind)k, asked[k], now_ns, v);
            fits &= !v->is_exhausted || v->is_shadow;
        }
    for (unsigned i = 0; fits && i < n; i++) {
        for (unsigned k = 0; k < RATE_KINDS; k++)
            take_of(at[i], (enum rate_kind)k, asked[k], now_ns);
        keep_near(at[i], now_ns);
    }
    for (unsigned i = 0; fits && i < RATE_CHAIN; i++)
        for (unsigned k = 0; chain->at[i] && k < RATE_KINDS; k++) {
            struct rate_view *v = &report->of[i][k], after;

            look(chain->at[i], (enum rate_kind)k, 0, now_ns, &after);
            v->used = after.used;
            v->reset_us = after.reset_us;
        }
    unlock_all(at, n);
    out->is_open = fits;
    return fits;
}

/* By how much the estimate was wrong, in the bucket's measure; never before now, since what flowed back is not lent twice. */
static void true_up(struct ratelimit *r, uint64_t held, uint64_t real, int64_t now_ns)
{
    uint64_t limit = r->rules.of[RATE_TOKENS];
    int64_t *tat = &r->tat_ns[RATE_TOKENS];

    if (!limit)
        return;
    if (*tat < now_ns)
        *tat = now_ns;
    *tat += (real ? move_ns(real, limit) : 0) - (held ? ask_ns(held, limit) : 0);
    keep_near(r, now_ns);
}

/* As if it had never been asked for. */
static void undo(struct ratelimit *r, uint64_t held)
{
    if (r->rules.of[RATE_REQUESTS])
        r->tat_ns[RATE_REQUESTS] -= ask_ns(1, r->rules.of[RATE_REQUESTS]);
    if (r->rules.of[RATE_TOKENS] && held)
        r->tat_ns[RATE_TOKENS] -= ask_ns(held, r->rules.of[RATE_TOKENS]);
}

/* `tokens` NULL: nothing was used. */
static void end_hold(struct rate_hold *h, const uint64_t *tokens, struct mono now)
{
    if (!h->is_open)
        return;
    h->is_open = false;
    for (unsigned i = 0; i < RATE_CHAIN; i++) {
        struct ratelimit *r = h->chain.at[i];

        if (!r)
            continue;
        (void)pthread_mutex_lock(&r->lock);
        r->open--;
        if (tokens)
            true_up(r, h->tokens, *tokens, now.us * 1000);
        else
            undo(r, h->tokens);
        (void)pthread_mutex_unlock(&r->lock);
    }
}

void rate_settle(struct rate_hold *h, uint64_t tokens, struct mono now)
{
    end_hold(h, &tokens, now);
}

void rate_give_back(struct rate_hold *h)
{
    end_hold(h, NULL, (struct mono){0});
}
