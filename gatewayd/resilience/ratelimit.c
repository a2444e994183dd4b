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
    int64_t tat_ns[RATE_CONCURRENT]; /* of requests and tokens; leased: as the store said last */
    uint64_t open;
    struct share {
        bool is_leased;                  /* at the last take */
        int64_t credit[RATE_CONCURRENT]; /* negative: used although not granted */
        int64_t slots, elsewhere, peak;  /* had, had by others, most that were open since the last plan */
        int64_t used[RATE_CONCURRENT];   /* since the last plan */
        int64_t recent[RATE_CONCURRENT]; /* the same, smoothed */
        int64_t short_of[RATE_KINDS], short_sum[RATE_KINDS]; /* of takes that found no credit since then */
        int64_t denied[RATE_KINDS], denied_until_ns[RATE_KINDS];
        int64_t planned_ns;
        int64_t stated_ns; /* the store heard of the slots */
    } share;
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

static uint64_t limit_of(const struct ratelimit *r, enum rate_kind k, const struct rate_chain *c)
{
    uint64_t limit = r->rules.of[k];

    return c->nodes > 1 && limit ? (limit + c->nodes - 1) / c->nodes : limit;
}

static bool is_leased(const struct ratelimit *r, const struct rate_chain *c)
{
    return c->is_leased && !r->rules.is_shadow;
}

static int64_t capped(uint64_t n, uint64_t limit)
{
    return (int64_t)(n < limit ? n : limit);
}

static void lack(const struct ratelimit *r, enum rate_kind k, int64_t n, int64_t now_ns, struct rate_view *v)
{
    v->is_exhausted = true;
    v->lacks_lease = r->share.denied_until_ns[k] <= now_ns || n < r->share.denied[k];
}

static void look_leased(const struct ratelimit *r, enum rate_kind k, uint64_t n, int64_t now_ns,
                        struct rate_view *v)
{
    int64_t limit = (int64_t)v->limit, asked = capped(n, v->limit), ahead, used, late;

    if (k == RATE_CONCURRENT) {
        v->used = r->open + (uint64_t)r->share.elsewhere;
        v->retry_us = 0;
        if (n && (int64_t)r->open >= r->share.slots) {
            lack(r, k, 1, now_ns, v);
            v->retry_us = 1000000;
        }
        return;
    }
    ahead = ahead_ns(r, k, now_ns);
    used = (int64_t)used_of(ahead, v->limit) - r->share.credit[k];
    v->used = used > 0 ? (uint64_t)used : 0;
    v->reset_us = up_us(ahead);
    if (!n || r->share.credit[k] >= asked)
        return;
    lack(r, k, asked, now_ns, v);
    late = ahead + ask_ns((uint64_t)asked, (uint64_t)limit) - MINUTE_NS;
    v->retry_us = late > 0 ? up_us(late) : 1000;
}

static void look(const struct ratelimit *r, enum rate_kind k, uint64_t n, int64_t now_ns,
                 const struct rate_chain *c, struct rate_view *v)
{
    uint64_t limit = limit_of(r, k, c);
    int64_t ahead;

    *v = (struct rate_view){.limit = limit, .is_shadow = r->rules.is_shadow};
    if (!limit)
        return;
    if (is_leased(r, c)) {
        look_leased(r, k, n, now_ns, v);
        return;
    }
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

static void take_of(struct ratelimit *r, enum rate_kind k, uint64_t n, int64_t now_ns,
                    const struct rate_chain *c)
{
    uint64_t limit = limit_of(r, k, c);

    if (k == RATE_CONCURRENT) {
        if ((int64_t)++r->open > r->share.peak)
            r->share.peak = (int64_t)r->open;
    } else if (limit && n && is_leased(r, c)) {
        r->share.credit[k] -= capped(n, limit);
        r->share.used[k] += capped(n, limit);
    } else if (limit && n) {
        r->tat_ns[k] = now_ns + ahead_ns(r, k, now_ns) + ask_ns(n, limit);
    }
}

/* Less than half of what is used between two plans. */
static bool runs_out(const struct ratelimit *r, enum rate_kind k)
{
    return r->rules.of[k] && r->share.credit[k] < r->share.recent[k] / 2;
}

static void note_lack(struct ratelimit *r, enum rate_kind k, uint64_t n)
{
    struct share *s = &r->share;
    int64_t asked = capped(n, r->rules.of[k]);

    s->short_of[k] = !s->short_of[k] || asked < s->short_of[k] ? asked : s->short_of[k];
    s->short_sum[k] += asked;
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
    struct rate_chain alone = {0};

    (void)pthread_mutex_lock(&r->lock);
    alone.is_leased = r->share.is_leased;
    for (unsigned k = 0; k < RATE_KINDS; k++)
        look(r, (enum rate_kind)k, 0, now.us * 1000, &alone, &out[k]);
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

/* What the store has said no to is refused; only what it was not asked yet is asked for. */
static void note_lacks(const struct rate_chain *chain, const uint64_t asked[RATE_KINDS],
                       struct rate_report *report, struct rate_hold *out)
{
    bool is_said = false;

    for (unsigned i = 0; i < RATE_CHAIN; i++)
        for (unsigned k = 0; chain->at[i] && k < RATE_KINDS; k++) {
            const struct rate_view *v = &report->of[i][k];

            is_said |= v->is_exhausted && !v->is_shadow && !v->lacks_lease;
        }
    for (unsigned i = 0; !is_said && i < RATE_CHAIN; i++)
        for (unsigned k = 0; chain->at[i] && k < RATE_KINDS; k++)
            if (report->of[i][k].lacks_lease)
                note_lack(chain->at[i], (enum rate_kind)k, asked[k]);
    out->is_due = !is_said;
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

            look(chain->at[i], (enum rate_kind)k, asked[k], now_ns, chain, v);
            fits &= !v->is_exhausted || v->is_shadow;
        }
    for (unsigned i = 0; i < n; i++)
        at[i]->share.is_leased = is_leased(at[i], chain);
    for (unsigned i = 0; fits && i < n; i++) {
        for (unsigned k = 0; k < RATE_KINDS; k++)
            take_of(at[i], (enum rate_kind)k, asked[k], now_ns, chain);
        out->is_due |=
            at[i]->share.is_leased && (runs_out(at[i], RATE_REQUESTS) || runs_out(at[i], RATE_TOKENS));
        keep_near(at[i], now_ns);
    }
    for (unsigned i = 0; fits && i < RATE_CHAIN; i++)
        for (unsigned k = 0; chain->at[i] && k < RATE_KINDS; k++) {
            struct rate_view *v = &report->of[i][k], after;

            look(chain->at[i], (enum rate_kind)k, 0, now_ns, chain, &after);
            v->used = after.used;
            v->reset_us = after.reset_us;
        }
    if (!fits)
        note_lacks(chain, asked, report, out);
    unlock_all(at, n);
    out->is_open = fits;
    return fits;
}

/* By how much the estimate was wrong, in the bucket's measure; never before now, since what flowed back is not lent twice. */
static void true_up(struct ratelimit *r, const struct rate_hold *h, uint64_t real, int64_t now_ns)
{
    uint64_t limit = limit_of(r, RATE_TOKENS, &h->chain);
    int64_t *tat = &r->tat_ns[RATE_TOKENS];

    if (!limit)
        return;
    if (is_leased(r, &h->chain)) {
        r->share.credit[RATE_TOKENS] +=
            capped(h->tokens, limit) - (int64_t)(real < INT64_MAX / 4 ? real : INT64_MAX / 4);
        return;
    }
    if (*tat < now_ns)
        *tat = now_ns;
    *tat += (real ? move_ns(real, limit) : 0) - (h->tokens ? ask_ns(h->tokens, limit) : 0);
    keep_near(r, now_ns);
}

/* As if it had never been asked for. */
static void undo(struct ratelimit *r, const struct rate_hold *h)
{
    const uint64_t held[RATE_CONCURRENT] = {1, h->tokens};

    for (unsigned k = 0; k < RATE_CONCURRENT; k++) {
        uint64_t limit = limit_of(r, (enum rate_kind)k, &h->chain);

        if (!limit || !held[k])
            continue;
        if (is_leased(r, &h->chain))
            r->share.credit[k] += capped(held[k], limit);
        else
            r->tat_ns[k] -= ask_ns(held[k], limit);
    }
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
            true_up(r, h, *tokens, now.us * 1000);
        else
            undo(r, h);
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

/* ---- leases ---- */

#define PLAN_NS   INT64_C(200000000) /* the time that a batch is for */
#define SETTLE_NS INT64_C(100000000) /* plans that follow sooner say nothing about what is used */
#define SURE_NS   INT64_C(200000000) /* so long a no of the store is believed, */
#define SLOT_NS   INT64_C(50000000)  /* and so long for a slot */
/* Slots that stay open are stated again after that; the store forgets what nobody states for three times as long. */
#define STATE_NS INT64_C(60000000000)

static void smooth(struct share *s, unsigned k, int64_t elapsed)
{
    int64_t lately = elapsed > 5 * PLAN_NS ? 0 : (int64_t)((__int128)s->used[k] * PLAN_NS / elapsed);

    s->recent[k] = (s->recent[k] + lately) / 2;
    s->used[k] = 0;
}

static bool plan_units(struct ratelimit *r, enum rate_kind k, bool is_due, struct rate_ask *a)
{
    struct share *s = &r->share;
    int64_t keep = s->recent[k], spare = s->credit[k] - s->short_sum[k];

    *a = (struct rate_ask){.kind = k, .limit = (int64_t)r->rules.of[k]};
    if (!a->limit)
        return false;
    if (s->credit[k] < 0) {
        a->granted = -s->credit[k];
        s->credit[k] = 0;
    } else if (is_due && spare > 2 * keep) {
        a->granted = keep - spare;
        s->credit[k] += a->granted;
    }
    if (s->short_of[k]) {
        a->need = s->short_of[k] - s->credit[k];
        a->want = s->short_sum[k] - s->credit[k] + keep;
    } else if (s->credit[k] < keep / 2) {
        a->want = keep - s->credit[k];
    }
    a->need = a->need < 0 ? 0 : a->need;
    a->want = a->want < a->need ? a->need : a->want > a->limit ? a->limit : a->want;
    return a->granted || a->want > 0;
}

/* What was not open at once since the last plan goes back. */
static bool plan_slots(struct ratelimit *r, bool is_due, int64_t now_ns, struct rate_ask *a)
{
    struct share *s = &r->share;
    int64_t had = s->slots, short_sum = s->short_sum[RATE_CONCURRENT];

    *a = (struct rate_ask){.kind = RATE_CONCURRENT, .limit = (int64_t)r->rules.of[RATE_CONCURRENT]};
    if (!a->limit && !had)
        return false;
    if (is_due && s->slots > s->peak + short_sum)
        s->slots = s->peak + short_sum;
    if (s->slots < (int64_t)r->open)
        s->slots = (int64_t)r->open;
    if (is_due)
        s->peak = (int64_t)r->open;
    a->granted = a->need = a->want = s->slots;
    if (short_sum) {
        a->need = (int64_t)r->open + 1 > s->slots ? (int64_t)r->open + 1 : s->slots;
        a->want = (int64_t)r->open + short_sum > a->need ? (int64_t)r->open + short_sum : a->need;
    }
    return s->slots != had || a->want > a->granted || (s->slots && now_ns - s->stated_ns >= STATE_NS);
}

unsigned ratelimit_plan(struct ratelimit *r, struct mono now, struct rate_ask out[RATE_KINDS])
{
    int64_t now_ns = now.us * 1000, elapsed;
    struct share *s = &r->share;
    unsigned n = 0;
    bool is_due;

    (void)pthread_mutex_lock(&r->lock);
    elapsed = now_ns - s->planned_ns;
    is_due = elapsed >= SETTLE_NS;
    if (is_due) {
        s->planned_ns = now_ns;
        smooth(s, RATE_REQUESTS, elapsed);
        smooth(s, RATE_TOKENS, elapsed);
    }
    n += plan_units(r, RATE_REQUESTS, is_due, &out[n]);
    n += plan_units(r, RATE_TOKENS, is_due, &out[n]);
    n += plan_slots(r, is_due, now_ns, &out[n]);
    for (unsigned k = 0; k < RATE_KINDS; k++)
        s->short_of[k] = s->short_sum[k] = 0;
    (void)pthread_mutex_unlock(&r->lock);
    return n;
}

static void deny(struct ratelimit *r, const struct rate_ask *ask, int64_t until_ns)
{
    r->share.denied[ask->kind] = ask->kind == RATE_CONCURRENT ? 1 : ask->need;
    r->share.denied_until_ns[ask->kind] = until_ns;
}

void ratelimit_hear(struct ratelimit *r, const struct rate_ask *ask, int64_t got, int64_t elsewhere,
                    struct mono now)
{
    int64_t now_ns = now.us * 1000;
    struct share *s = &r->share;

    (void)pthread_mutex_lock(&r->lock);
    s->denied_until_ns[ask->kind] = 0;
    if (ask->kind == RATE_CONCURRENT) {
        s->slots = got;
        s->elsewhere = elsewhere;
        s->stated_ns = now_ns;
        if (got < ask->need)
            deny(r, ask, now_ns + SLOT_NS);
    } else {
        s->credit[ask->kind] += got;
        r->tat_ns[ask->kind] = now_ns + elsewhere * 1000;
        keep_near(r, now_ns);
        if (got < ask->need) {
            int64_t late = elsewhere * 1000 + ask_ns((uint64_t)ask->need, (uint64_t)ask->limit) - MINUTE_NS;

            deny(r, ask, now_ns + (late < SURE_NS ? late : SURE_NS));
        }
    }
    (void)pthread_mutex_unlock(&r->lock);
}

void ratelimit_forget(struct ratelimit *r)
{
    (void)pthread_mutex_lock(&r->lock);
    r->share = (struct share){.slots = (int64_t)r->open, .peak = (int64_t)r->open, .stated_ns = -STATE_NS};
    (void)pthread_mutex_unlock(&r->lock);
}

void ratelimit_state_again(struct ratelimit *r)
{
    (void)pthread_mutex_lock(&r->lock);
    r->share.stated_ns = -STATE_NS;
    (void)pthread_mutex_unlock(&r->lock);
}
