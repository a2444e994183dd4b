/* SPDX-License-Identifier: Apache-2.0 */
/* An account keeps a few windows, since a request is held where it arrived, whenever it is admitted and wherever the clock
 * goes: one that came just before a window's end and one that was reserved in it count there, as they do on the ledger, and a
 * clock that steps back finds what was spent there. The oldest are dropped; a stream that outlives them settles in the books
 * alone. What was dropped, or was never read from the books, is not known: see budget_account_knows().
 *
 * Lock order: by account number, which is the order of creation. */
#include "gatewayd/resilience/budget.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_FIRST 64u
#define HALF_DAY_US   INT64_C(43200000000)
#define WINDOWS                                                                                              \
    BUDGET_WINDOWS /* one before, the current, and three that a clock came from or that were read ahead */

struct window {
    uint64_t serial;  /* of the account's windows, in the order in which they were made */
    bool is_read;     /* it was followed */
    int64_t start_us; /* names it */
    int64_t end_us;   /* so that no calendar is asked while it lasts */
    int64_t posted, held;
    int64_t settled; /* of posted, what was settled here */
    /* What was taken off that again by corrections, and how much of it the store knows. */
    int64_t credited, credited_known;
    int64_t marked; /* of what was settled without credits, at the last budget_account_posted() */
    struct lease lease;
};

struct budget_account {
    pthread_mutex_t lock;
    unsigned number;
    char name[BUDGET_ACCOUNT];
    struct budget_rule rule;
    int64_t beyond;                 /* may be spent on top of the leases */
    int64_t limit;                  /* with what topped it up when it was last looked at */
    struct window windows[WINDOWS]; /* in no order */
    unsigned n_windows;
    uint64_t serials;
    int64_t read_from_us;        /* older windows are not known; 0: it follows no books */
    bool is_unread;              /* its cycle is another since then: known is only what was read */
    struct budget_account *next; /* in its bucket */
};

struct budget_book {
    pthread_mutex_t lock;
    struct budget_account **buckets;
    size_t n_buckets, n;
};

/* ---- accounts ---- */

struct budget_book *budget_book_new(void)
{
    struct budget_book *b = calloc(1, sizeof(*b));

    if (!b)
        abort();
    (void)pthread_mutex_init(&b->lock, NULL);
    b->n_buckets = BUCKETS_FIRST;
    b->buckets = calloc(b->n_buckets, sizeof(struct budget_account *));
    if (!b->buckets)
        abort();
    return b;
}

void budget_book_free(struct budget_book *b)
{
    if (!b)
        return;
    for (size_t i = 0; i < b->n_buckets; i++) {
        while (b->buckets[i]) {
            struct budget_account *a = b->buckets[i];

            b->buckets[i] = a->next;
            (void)pthread_mutex_destroy(&a->lock);
            free(a);
        }
    }
    free(b->buckets);
    (void)pthread_mutex_destroy(&b->lock);
    free(b);
}

static size_t bucket_of(const char *name, size_t n_buckets)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return (size_t)(h & (n_buckets - 1));
}

static void grow(struct budget_book *b)
{
    size_t n = b->n_buckets * 2;
    struct budget_account **more = calloc(n, sizeof(struct budget_account *));

    if (!more)
        abort();
    for (size_t i = 0; i < b->n_buckets; i++) {
        while (b->buckets[i]) {
            struct budget_account *a = b->buckets[i];
            size_t to = bucket_of(a->name, n);

            b->buckets[i] = a->next;
            a->next = more[to];
            more[to] = a;
        }
    }
    free(b->buckets);
    b->buckets = more;
    b->n_buckets = n;
}

static struct budget_account *make(struct budget_book *b, const char *name, size_t len)
{
    struct budget_account *a = calloc(1, sizeof(*a));
    size_t at;

    if (!a)
        abort();
    if (b->n >= b->n_buckets)
        grow(b);
    at = bucket_of(name, b->n_buckets);
    (void)pthread_mutex_init(&a->lock, NULL);
    memcpy(a->name, name, len);
    a->number = (unsigned)b->n++;
    a->rule.cycle.period = PERIOD_MONTH;
    a->next = b->buckets[at];
    b->buckets[at] = a;
    return a;
}

struct budget_account *budget_account_get(struct budget_book *b, const char *name)
{
    size_t len = strlen(name);
    struct budget_account *a;

    if (len >= BUDGET_ACCOUNT)
        return NULL;
    (void)pthread_mutex_lock(&b->lock);
    for (a = b->buckets[bucket_of(name, b->n_buckets)]; a; a = a->next)
        if (strcmp(a->name, name) == 0)
            break;
    if (!a)
        a = make(b, name, len);
    (void)pthread_mutex_unlock(&b->lock);
    return a;
}

/* ---- one account, locked ---- */

static int64_t added(int64_t a, int64_t b)
{
    int64_t sum;

    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static void sum_limit(struct budget_account *a, struct wall now)
{
    a->limit = a->rule.limit_nanousd;
    for (unsigned i = 0; a->limit && i < a->rule.n_topups; i++)
        if (now.us < a->rule.topups[i].until_us)
            a->limit = added(a->limit, a->rule.topups[i].amount_nanousd);
}

/* What is forgotten first: nothing, then the oldest. */
static struct window *least_worth(struct budget_account *a)
{
    struct window *least = NULL;

    for (unsigned i = 0; i < a->n_windows; i++) {
        struct window *w = &a->windows[i];
        bool is_nothing = !w->posted && !w->held && !w->settled && !w->lease.is_named;

        if (is_nothing)
            return w;
        if (!least || w->start_us < least->start_us)
            least = w;
    }
    if (a->read_from_us && a->read_from_us <= least->start_us)
        a->read_from_us = least->start_us + 1;
    return least;
}

static struct window *find_window(struct budget_account *a, int64_t start_us)
{
    for (unsigned i = 0; i < a->n_windows; i++)
        if (a->windows[i].start_us == start_us)
            return &a->windows[i];
    return NULL;
}

static struct window *window_at(struct budget_account *a, struct wall now)
{
    struct window_span span;
    struct window *w;

    sum_limit(a, now);
    for (unsigned i = 0; i < a->n_windows; i++)
        if (a->windows[i].start_us <= now.us && now.us < a->windows[i].end_us)
            return &a->windows[i];
    span = cycle_window(a->rule.cycle, now);
    w = find_window(a, span.start_us);
    if (w) /* of a time before 1970 */
        return w;
    w = a->n_windows < WINDOWS ? &a->windows[a->n_windows++] : least_worth(a);
    *w = (struct window){.serial = ++a->serials, .start_us = span.start_us, .end_us = span.end_us};
    return w;
}

static struct window *window_of(struct budget_account *a, struct cycle cycle, int64_t start_us)
{
    return cycle_is(cycle, a->rule.cycle) ? find_window(a, start_us) : NULL;
}

/* Where something is held; NULL when it was dropped since. */
static struct window *holder(struct budget_account *a, uint64_t serial)
{
    for (unsigned i = 0; i < a->n_windows; i++)
        if (a->windows[i].serial == serial)
            return &a->windows[i];
    return NULL;
}

/* Written so that no sum can overflow: limit, posted and held are never negative. */
static bool has_room(const struct budget_account *a, const struct window *w, int64_t amount)
{
    int64_t used;

    if (!a->limit || a->rule.is_soft)
        return true;
    if (__builtin_add_overflow(w->posted, w->held, &used))
        return false;
    return used <= a->limit && amount <= a->limit - used;
}

static void fill_view(const struct budget_account *a, const struct window *w, struct budget_view *out)
{
    memcpy(out->account, a->name, sizeof(out->account));
    out->cycle = a->rule.cycle;
    (void)cycle_name(a->rule.cycle, (struct wall){w->start_us}, out->window);
    out->limit_nanousd = a->limit;
    out->posted_nanousd = w->posted;
    out->held_nanousd = w->held;
    out->resets_at = (struct wall){w->end_us};
    out->lacks_lease = false;
    out->denial = w->lease.denial;
    out->denied_nanousd = w->lease.denied;
    out->denied_at = w->lease.denied_at;
    out->agreed_at = w->lease.agreed_at;
    out->taken_nanousd = a->limit - w->lease.rest;
}

/* What was settled here, whatever was credited since: the store takes a credit off what is posted, and off no lease. */
static int64_t gross(const struct window *w)
{
    return added(w->settled, w->credited);
}

static struct lease_use use_of(const struct window *w)
{
    return (struct lease_use){gross(w), w->held};
}

/* Whether the lease has room for it, too; takes note of what is asked for. */
static bool has_lease(struct budget_account *a, struct window *w, int64_t amount,
                      const struct budget_terms *t, bool *is_due)
{
    bool has;

    if (!t->is_leased || !a->limit || a->rule.is_soft)
        return true;
    has = lease_has_room(&w->lease, use_of(w), amount, t->holds, a->beyond);
    *is_due |= lease_note(&w->lease, use_of(w), amount, has, t->now);
    return has;
}

/* Where the window of that id is by the clocks of another zone, which may be ahead or behind by a day and more. */
static bool find_again(struct cycle from, struct cycle to, int64_t start_us, struct window_span *out)
{
    char id[PERIOD_WINDOW_CAP], other[PERIOD_WINDOW_CAP];

    (void)cycle_name(from, (struct wall){start_us}, id);
    for (int64_t at = start_us - 3 * HALF_DAY_US; at <= start_us + 3 * HALF_DAY_US; at += HALF_DAY_US) {
        (void)cycle_name(to, (struct wall){at}, other);
        *out = cycle_window(to, (struct wall){at});
        if (strcmp(id, other) == 0)
            return true;
    }
    return false;
}

/* With another period, or where the id is of no window any more, what was spent is the books' alone. */
static void move_windows(struct budget_account *a, struct cycle to)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < a->n_windows && to.period == a->rule.cycle.period; i++) {
        struct window w = a->windows[i];
        struct window_span span;

        if (!find_again(a->rule.cycle, to, w.start_us, &span))
            continue;
        w.start_us = span.start_us;
        w.end_us = span.end_us;
        a->windows[kept++] = w;
    }
    a->n_windows = kept;
    a->is_unread |= a->read_from_us != 0;
    a->read_from_us = 0;
}

void budget_account_set(struct budget_account *a, const struct budget_rule *rule)
{
    (void)pthread_mutex_lock(&a->lock);
    if (!cycle_is(a->rule.cycle, rule->cycle))
        move_windows(a, rule->cycle);
    a->rule = *rule;
    (void)pthread_mutex_unlock(&a->lock);
}

struct budget_mark budget_account_mark(struct budget_account *a, struct wall now)
{
    struct budget_mark m;
    const struct window *w;

    (void)pthread_mutex_lock(&a->lock);
    w = window_at(a, now);
    m = (struct budget_mark){w->start_us, a->rule.cycle, w->settled, w->credited};
    (void)pthread_mutex_unlock(&a->lock);
    return m;
}

/* The store holds what was spent elsewhere and, of what was settled here, at least the mark's part (when it has that) and at
 * most all. So what was spent elsewhere is within `least` and `most`, and what we took it for stays as long as it fits. A
 * credit that it may have or lack widens both. */
static void follow(struct window *w, const struct budget_mark *m, bool store_has_mark, int64_t stored)
{
    int64_t elsewhere = w->posted - w->settled, least, most, unsure;

    if (store_has_mark)
        w->credited_known = m->credited_nanousd;
    unsure = w->credited - w->credited_known;
    least = stored - w->settled - unsure;
    most = stored - m->settled_nanousd + unsure;
    if (elsewhere < least)
        elsewhere = least;
    if (store_has_mark && elsewhere > most)
        elsewhere = most;
    w->posted = added(elsewhere, w->settled);
}

void budget_account_follow(struct budget_account *a, const struct budget_mark *mark, bool store_has_mark,
                           int64_t stored_nanousd)
{
    (void)pthread_mutex_lock(&a->lock);
    if (cycle_is(a->rule.cycle, mark->cycle)) {
        bool is_read = store_has_mark || !a->read_from_us;
        struct window *w = window_at(a, (struct wall){mark->start_us});

        follow(w, mark, store_has_mark, stored_nanousd);
        w->is_read = true;
        a->is_unread &= !store_has_mark;
        if (is_read && (!a->read_from_us || mark->start_us < a->read_from_us))
            a->read_from_us = mark->start_us;
    }
    (void)pthread_mutex_unlock(&a->lock);
}

bool budget_account_knows(struct budget_account *a, struct wall now)
{
    const struct window *w;
    bool knows;

    (void)pthread_mutex_lock(&a->lock);
    w = window_at(a, now);
    knows = w->start_us >= a->read_from_us && (!a->is_unread || w->is_read);
    (void)pthread_mutex_unlock(&a->lock);
    return knows;
}

void budget_account_correct(struct budget_account *a, struct wall at, int64_t amount_nanousd)
{
    struct window *w;

    (void)pthread_mutex_lock(&a->lock);
    w = window_at(a, at);
    w->posted = added(w->posted, amount_nanousd);
    w->settled = added(w->settled, amount_nanousd);
    if (amount_nanousd < 0) {
        w->credited = added(w->credited, -amount_nanousd);
        w->posted = w->posted > 0 ? w->posted : 0; /* then others have spent what was not known of here */
    }
    (void)pthread_mutex_unlock(&a->lock);
}

struct budget_sums budget_account_sums(struct budget_account *a, struct wall now)
{
    struct budget_sums s;
    const struct window *w;

    (void)pthread_mutex_lock(&a->lock);
    w = window_at(a, now);
    s = (struct budget_sums){w->start_us, w->end_us, w->posted, w->held, a->limit, a->rule.cycle};
    (void)pthread_mutex_unlock(&a->lock);
    return s;
}

/* ---- chains ---- */

/* Sorted by number, without gaps and repetitions; returns how many. */
static unsigned in_order(const struct budget_chain *chain, struct budget_account *out[BUDGET_CHAIN])
{
    unsigned n = 0;

    for (unsigned i = 0; i < BUDGET_CHAIN; i++) {
        struct budget_account *a = chain->at[i];
        unsigned at = n;

        if (!a)
            continue;
        while (at && out[at - 1]->number > a->number)
            at--;
        if (at && out[at - 1] == a)
            continue;
        memmove(out + at + 1, out + at, (n - at) * sizeof(struct budget_account *));
        out[at] = a;
        n++;
    }
    return n;
}

static void lock_all(struct budget_account *const *at, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        (void)pthread_mutex_lock(&at[i]->lock);
}
static void unlock_all(struct budget_account *const *at, unsigned n)
{
    while (n-- > 0)
        (void)pthread_mutex_unlock(&at[n]->lock);
}

enum err_code budget_reserve(const struct budget_chain *chain, int64_t amount_nanousd, struct wall now,
                             struct budget_hold *out, struct budget_view *why)
{
    struct budget_account *at[BUDGET_CHAIN + 1];
    unsigned n = in_order(chain, at);
    enum err_code e = ERR_OK;
    bool lacks = false;

    *out = (struct budget_hold){.amount_nanousd = amount_nanousd};
    lock_all(at, n);
    for (unsigned i = 0; i < n && !e; i++) {
        struct window *w = window_at(at[i], now);

        if (!has_room(at[i], w, amount_nanousd))
            e = ERR_OVER_BUDGET;
        else if (has_lease(at[i], w, amount_nanousd, &chain->terms, &out->is_due) || lacks)
            continue;
        if (why)
            fill_view(at[i], w, why);
        if (!e && why)
            why->lacks_lease = true;
        lacks = true;
    }
    if (lacks)
        e = ERR_OVER_BUDGET;
    for (unsigned i = 0; i < n && !e; i++) {
        struct window *w = window_at(at[i], now);

        w->held = added(w->held, amount_nanousd);
        out->chain.at[i] = at[i];
        out->window[i] = w->serial;
    }
    unlock_all(at, n);
    out->is_open = !e;
    return e;
}

/* Into the windows that hold it already, whether or not they are over since. */
enum err_code budget_raise(struct budget_hold *h, int64_t amount_nanousd, struct budget_view *why)
{
    int64_t more = amount_nanousd - h->amount_nanousd;
    enum err_code e = ERR_OK;
    unsigned n = 0;

    if (!h->is_open || more <= 0)
        return ERR_OK;
    while (n < BUDGET_CHAIN && h->chain.at[n])
        n++;
    lock_all(h->chain.at, n);
    for (unsigned i = 0; i < n && !e; i++) {
        struct budget_account *a = h->chain.at[i];
        struct window *w = holder(a, h->window[i]);

        if (!w || (has_room(a, w, more) && has_lease(a, w, more, &h->chain.terms, &h->is_due)))
            continue;
        e = ERR_OVER_BUDGET;
        if (why)
            fill_view(a, w, why);
    }
    for (unsigned i = 0; i < n && !e; i++) {
        struct window *w = holder(h->chain.at[i], h->window[i]);

        if (w)
            w->held = added(w->held, more);
    }
    unlock_all(h->chain.at, n);
    if (!e)
        h->amount_nanousd = amount_nanousd;
    return e;
}

void budget_settle(struct budget_hold *h, int64_t cost_nanousd)
{
    if (!h->is_open)
        return;
    h->is_open = false;
    for (unsigned i = 0; i < BUDGET_CHAIN && h->chain.at[i]; i++) {
        struct budget_account *a = h->chain.at[i];
        struct window *w;

        (void)pthread_mutex_lock(&a->lock);
        w = holder(a, h->window[i]);
        if (w) {
            w->held -= h->amount_nanousd;
            w->posted = added(w->posted, cost_nanousd);
            w->settled = added(w->settled, cost_nanousd);
        }
        (void)pthread_mutex_unlock(&a->lock);
    }
}

/* ---- leases ---- */

unsigned budget_account_plan(struct budget_account *a, struct wall now, const struct budget_terms *t,
                             struct budget_lease out[BUDGET_WINDOWS])
{
    unsigned n = 0;

    (void)pthread_mutex_lock(&a->lock);
    sum_limit(a, now);
    for (unsigned i = 0; i < a->n_windows; i++) {
        struct window *w = &a->windows[i];
        bool lets_go = !a->limit || a->rule.is_soft || now.us < w->start_us || now.us >= w->end_us;
        struct budget_lease *l = &out[n];

        if (lets_go && !w->lease.is_named && !w->lease.granted)
            continue;
        *l = (struct budget_lease){a->rule.cycle, w->start_us, w->end_us, a->limit, {0}};
        n += lease_plan(&w->lease, use_of(w), t->holds, lets_go, t->now, &l->ask);
    }
    (void)pthread_mutex_unlock(&a->lock);
    return n;
}

void budget_account_hear(struct budget_account *a, const struct budget_lease *l, const struct lease_reply *r)
{
    struct window *w;

    (void)pthread_mutex_lock(&a->lock);
    w = window_of(a, l->cycle, l->start_us);
    if (w)
        lease_hear(&w->lease, use_of(w), &l->ask, r);
    (void)pthread_mutex_unlock(&a->lock);
}

bool budget_account_wanted(struct budget_account *a, const char *window, struct mono now)
{
    char name[PERIOD_WINDOW_CAP];
    bool is_new = false;

    (void)pthread_mutex_lock(&a->lock);
    for (unsigned i = 0; i < a->n_windows; i++) {
        if (!a->windows[i].lease.is_named)
            continue;
        (void)cycle_name(a->rule.cycle, (struct wall){a->windows[i].start_us}, name);
        if (strcmp(name, window) == 0)
            is_new |= lease_is_wanted(&a->windows[i].lease, now);
    }
    (void)pthread_mutex_unlock(&a->lock);
    return is_new;
}

void budget_account_forgotten(struct budget_account *a)
{
    (void)pthread_mutex_lock(&a->lock);
    for (unsigned i = 0; i < a->n_windows; i++)
        lease_is_forgotten(&a->windows[i].lease);
    (void)pthread_mutex_unlock(&a->lock);
}

void budget_account_posted(struct budget_account *a, bool store_has_mark)
{
    (void)pthread_mutex_lock(&a->lock);
    for (unsigned i = 0; i < a->n_windows; i++) {
        struct window *w = &a->windows[i];

        if (store_has_mark)
            lease_has_posted(&w->lease, w->marked);
        w->marked = gross(w);
    }
    (void)pthread_mutex_unlock(&a->lock);
}

void budget_account_stay_open(struct budget_account *a, int64_t beyond_nanousd)
{
    (void)pthread_mutex_lock(&a->lock);
    a->beyond = beyond_nanousd;
    (void)pthread_mutex_unlock(&a->lock);
}

struct budget_leases budget_account_leases(struct budget_account *a, bool is_lost)
{
    struct budget_leases out = {0};

    (void)pthread_mutex_lock(&a->lock);
    for (unsigned i = 0; i < a->n_windows; i++) {
        const struct window *w = &a->windows[i];
        const struct lease *l = &w->lease;

        out.n += l->is_named;
        out.is_tight |= l->is_named && l->rest < l->everywhere;
        if (l->is_named)
            out.everywhere_nanousd = added(out.everywhere_nanousd, l->everywhere);
        if (l->is_named || l->granted)
            out.overshoot_nanousd = added(out.overshoot_nanousd, lease_overshoot(l, use_of(w), is_lost));
    }
    (void)pthread_mutex_unlock(&a->lock);
    return out;
}
