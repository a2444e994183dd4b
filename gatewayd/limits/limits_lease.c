/* SPDX-License-Identifier: Apache-2.0 */
/* The thread owns the handle and all that is not under `lock`; workers leave waiters and a sign, and never block. A round plans
 * what is due (everything, once a second), says it in calls of KV_LEASE_ROWS rows, hears the answers and sends the letters.
 *
 * The invariant: the session ends here before it ends in the store, since it counts from before a call was sent; a round that
 * finds it over drops what is not spent or held before it calls, so that an old share is never revived.
 *
 * The tricky part is a store that lost what it knew. Another epoch, or a sequence that went back, makes every lease be stated
 * anew, as if nothing of it were posted; when the store has the books again, and the writer has noticed, marks tell what is
 * posted, and money that was counted twice meanwhile is free again. Until then a budget that finds no room is not called
 * spent. */
#include "gatewayd/limits/limits_lease.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "gatewayd/limits/limits_priv.h"
#include "libshared/base/log.h"
#include "libshared/store/kv_keys.h"
#include "libshared/store/kv_lease.h"

#define ROUND_US     1000000 /* between two full rounds, and two signs of life */
#define RATES_US     200000  /* while rates are used: what a batch is for */
#define TIGHT_US     100000  /* while money is short: others may want some */
#define AGAIN_US     25000   /* between two tries of those who wait */
#define DOWN_US      500000  /* after the store did not answer */
#define NOTICE_US    7000000 /* a writer notices within that time that its store was emptied */
#define RATE_TTL_S   180
#define GRACE        2 /* lives */
#define EXPECTED_MAX 1000

struct target { /* of a row */
    struct limits_scope *scope;
    bool is_money;
    struct budget_lease money;
    struct rate_ask rate;
};

struct limits_lease {
    struct limits_lease_options o;
    struct limits *limits;
    pthread_t thread;
    bool is_started;
    pthread_mutex_t lock;
    pthread_cond_t wake, first;
    bool is_over, is_woken, has_answer;    /* under `lock` */
    struct limits_waiter *waiters, *later; /* under `lock`; `later`: were answered once */
    /* the thread's */
    struct lease_session session;
    int64_t life, sequence, epoch, nodes;
    int64_t answered;           /* the sequence of the last call that was */
    int64_t stated;             /* the epoch since which all that is leased was stated */
    bool completes;             /* the call at hand is the last that it takes to state all */
    bool needs_books, is_ready; /* an earlier life's settlements were posted */
    bool is_fresh;              /* the store lost what it knew, and no mark has passed since */
    struct watermark began, marked;
    bool has_begun, has_mark;
    struct mono marks_from, called, full, retry_at;
    bool has_rates, is_tight, is_wanting;
    bool is_asked;   /* others want what is leased here, and wait for an answer */
    bool owes_sweep; /* some have died, or may have */
    struct target *targets;
    size_t n, cap;
    struct limits_scope **scopes;
    size_t n_scopes;
};

/* ---- calling ---- */

static int64_t ttl_of(const struct budget_lease *l, struct wall now)
{
    if (l->cycle.period == PERIOD_TOTAL || l->end_us == INT64_MAX)
        return KV_TTL_TOTAL_S;
    return (l->end_us > now.us ? (l->end_us - now.us) / 1000000 : 0) + KV_TTL_BUDGET_S;
}

static void row_of(const struct target *t, struct kv_lease_row *r, char key[KV_KEY_CAP], struct wall now)
{
    char window[PERIOD_WINDOW_CAP];

    *r = (struct kv_lease_row){.key = key};
    if (t->is_money) {
        (void)cycle_name(t->money.cycle, (struct wall){t->money.start_us}, window);
        kv_key_budget(key, t->scope->name, window);
        r->kind = KV_LEASE_MONEY;
        r->limit = t->money.limit_nanousd;
        r->ttl_s = ttl_of(&t->money, now);
        r->granted = t->money.ask.granted;
        r->posted = t->money.ask.posted;
        r->most = t->money.ask.most;
        r->need = t->money.ask.need;
        r->want = t->money.ask.want;
        return;
    }
    kv_key_limit(key, t->scope->name, rate_kind_name(t->rate.kind));
    r->kind = t->rate.kind == RATE_CONCURRENT ? KV_LEASE_SLOTS : KV_LEASE_RATE;
    r->limit = t->rate.limit;
    r->ttl_s = RATE_TTL_S;
    r->granted = t->rate.granted;
    r->need = t->rate.need;
    r->want = t->rate.want;
}

static void hear(struct limits_lease *s, const struct target *t, const struct kv_lease_row *r, bool is_quiet)
{
    struct lease_reply reply = {.granted = r->got,
                                .outstanding = r->outstanding,
                                .rest = r->rest,
                                .others = r->others,
                                .silent_us = r->silent_ms * 1000,
                                .is_quiet = is_quiet};

    if (t->is_money) {
        s->is_wanting |= r->got < t->money.ask.need;
        s->is_tight |= r->rest < r->outstanding + r->others;
        budget_account_hear(t->scope->account, &t->money, &reply);
    } else {
        ratelimit_hear(t->scope->rate, &t->rate, r->got, r->others, mono_now());
    }
}

/* Whose key it is: "{gw}:bud:ACCOUNT:WINDOW" of an account here. */
static void on_wanted(void *user, struct span key)
{
    struct limits_lease *s = user;
    char own[KV_KEY_CAP];

    s->is_tight = true;
    for (size_t i = 0; i < s->n_scopes; i++) {
        size_t len;

        kv_key_budget(own, s->scopes[i]->name, "");
        len = strlen(own);
        if (key.len > len && memcmp(key.p, own, len) == 0 &&
            budget_account_wanted(s->scopes[i]->account, key.p + len, mono_now())) {
            atomic_store_explicit(&s->scopes[i]->is_due, true, memory_order_relaxed);
            s->is_asked = true;
        }
    }
}

/* The store has lost leases or postings that it had acknowledged. */
static void begin_anew(struct limits_lease *s, struct mono now)
{
    log_warn(
        "leases: the realtime store came back without what it knew; what is leased here is stated again");
    for (size_t i = 0; i < s->n_scopes; i++) {
        budget_account_forgotten(s->scopes[i]->account);
        ratelimit_state_again(s->scopes[i]->rate);
    }
    s->is_fresh = true;
    s->full = (struct mono){0}; /* the next call says all: others wait for that */
    s->has_mark = false;
    s->stated = 0;
    s->marks_from = mono_add_us(now, NOTICE_US);
}

static void set_open(struct limits_scope *scope, bool is_up)
{
    int64_t cap = scope->open_cap_nanousd;

    budget_account_stay_open(scope->account, !is_up && cap > 0 ? cap : 0);
}

/* What is open while the store is down may go on beyond its lease: before anybody is refused because it is down. */
static void set_up(struct limits_lease *s, bool is_up)
{
    if (is_up)
        atomic_store(&s->limits->is_lease_up, true);
    for (size_t i = 0; i < s->n_scopes; i++)
        set_open(s->scopes[i], is_up);
    atomic_store(&s->limits->is_lease_up, is_up);
}

static void note_answer(struct limits_lease *s, const struct kv_lease_call *c, struct mono sent)
{
    bool is_lost = s->epoch && (c->heard_epoch != s->epoch || c->heard_sequence < s->answered);

    lease_session_renew(&s->session, sent);
    atomic_store(&s->limits->lease_until_us, s->session.until.us);
    if (!is_lost && !c->is_quiet)
        s->nodes = c->heard_nodes < EXPECTED_MAX ? c->heard_nodes : EXPECTED_MAX;
    else if (c->heard_nodes > s->nodes && c->heard_nodes <= EXPECTED_MAX)
        s->nodes = c->heard_nodes;
    atomic_store(&s->limits->lease_nodes, (unsigned)(s->nodes > 0 ? s->nodes : 1));
    if (!s->epoch) /* a new life, which had nothing to state */
        s->stated = c->heard_epoch;
    s->epoch = c->heard_epoch;
    s->answered = c->sequence;
    s->called = sent;
    if (is_lost)
        begin_anew(s, sent);
    else if (s->completes)
        s->stated = s->epoch;
}

static void note_failure(struct limits_lease *s, enum err_code e, const struct kv_lease_call *c,
                         const struct err *err)
{
    if (e ==
        ERR_CONFLICT) { /* a call of ours came after this one, or the clock of an earlier life was ahead */
        if (c->heard_life > s->life)
            s->life = c->heard_life + 1;
        else
            s->sequence = c->heard_sequence;
        return;
    }
    if (atomic_load(&s->limits->is_lease_up) || !s->called.us)
        log_warn("leases: the realtime store does not answer, so each limit goes by its own rule: %s",
                 err_text(err));
    set_up(s, false);
}

static enum err_code call(struct limits_lease *s, struct kv_lease_row *rows, size_t n, bool keeps,
                          struct kv_lease_call *c)
{
    struct mono sent = mono_now();
    struct err err = {0};
    enum err_code e = ERR_CONFLICT;

    for (unsigned tries = 0; e == ERR_CONFLICT && tries < 3; tries++) {
        *c = (struct kv_lease_call){
            .instance = s->o.instance,
            .life = s->life,
            .sequence = ++s->sequence,
            .epoch = s->epoch,
            .ttl_ms = s->session.life_us / 1000,
            .grace_ms = GRACE * s->session.life_us / 1000,
            /* Who keeps a lease was here before: a store that does not know is not new. */
            .nodes = keeps && !s->nodes ? 1 : s->nodes,
            .needs_books = s->needs_books,
            .is_partial = s->epoch && s->stated != s->epoch && !s->completes,
            .rows = rows,
            .n = n,
            .wanted = on_wanted,
            .user = s};
        sent = mono_now();
        e = keeps ? kv_lease_keep(s->o.kv, c, &err) : kv_lease(s->o.kv, c, &err);
        if (e)
            note_failure(s, e, c, &err);
    }
    if (!e && !keeps)
        note_answer(s, c, sent);
    if (!e && !atomic_load(&s->limits->is_lease_up)) {
        if (s->is_ready && s->called.us)
            log_info("leases: the realtime store answers");
        set_up(s, true);
    }
    return e;
}

static enum err_code say(struct limits_lease *s, const struct target *t, size_t n, struct kv_lease_call *c)
{
    struct kv_lease_row *rows = calloc(n + 1, sizeof(*rows));
    char(*keys)[KV_KEY_CAP] = calloc(n + 1, sizeof(*keys));
    struct wall now = wall_now();
    enum err_code e;

    if (!rows || !keys)
        abort();
    for (size_t i = 0; i < n; i++)
        row_of(&t[i], &rows[i], keys[i], now);
    e = call(s, rows, n, false, c);
    for (size_t i = 0; !e && i < n; i++)
        hear(s, &t[i], &rows[i], c->is_quiet || s->is_fresh);
    free(rows);
    free(keys);
    return e;
}

/* ---- what the dead left ---- */

struct keys {
    char (*at)[KV_KEY_CAP];
    size_t n, cap;
};

static void add_key(void *user, struct span key, struct span ttl)
{
    struct keys *k = user;

    (void)ttl;
    if (k->n == k->cap) {
        k->cap = k->cap ? 2 * k->cap : 64;
        k->at = realloc(k->at, k->cap * sizeof(*k->at));
        if (!k->at)
            abort();
    }
    (void)span_copy(k->at[k->n++], KV_KEY_CAP, key);
}

static bool sweep(struct limits_lease *s)
{
    struct kv_lease_row rows[64];
    struct kv_lease_call c;
    struct keys k = {0};
    bool ok = kv_scan(s->o.kv, "{gw}:bud:", add_key, &k, NULL) == ERR_OK &&
              kv_scan(s->o.kv, "{gw}:lim:", add_key, &k, NULL) == ERR_OK;

    for (size_t i = 0; ok && i < k.n; i += ARRAY_LEN(rows)) {
        size_t n = k.n - i < ARRAY_LEN(rows) ? k.n - i : ARRAY_LEN(rows);

        for (size_t j = 0; j < n; j++)
            rows[j] =
                (struct kv_lease_row){.kind = KV_LEASE_SWEEP, .key = k.at[i + j], .limit = 1, .ttl_s = 1};
        ok = call(s, rows, n, false, &c) == ERR_OK;
    }
    free(k.at);
    return ok;
}

/* ---- a round ---- */

static struct target *add_target(struct limits_lease *s, struct limits_scope *scope)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 64;
        s->targets = realloc(s->targets, s->cap * sizeof(*s->targets));
        if (!s->targets)
            abort();
    }
    s->targets[s->n] = (struct target){.scope = scope};
    return &s->targets[s->n++];
}

static void plan_scope(struct limits_lease *s, struct limits_scope *scope, struct wall wall,
                       const struct budget_terms *terms)
{
    struct budget_lease leases[BUDGET_WINDOWS];
    struct rate_ask asks[RATE_KINDS];
    unsigned n = budget_account_plan(scope->account, wall, terms, leases);

    for (unsigned i = 0; i < n; i++) {
        struct target *t = add_target(s, scope);

        t->is_money = true;
        t->money = leases[i];
    }
    n = ratelimit_plan(scope->rate, terms->now, asks);
    s->has_rates |= n > 0;
    for (unsigned i = 0; i < n; i++)
        add_target(s, scope)->rate = asks[i];
}

static void plan(struct limits_lease *s, bool is_full)
{
    struct budget_terms terms = {true, lease_session_holds(&s->session, mono_now()), mono_now()};
    struct wall wall = wall_now();

    s->n = 0;
    is_full |= !terms.holds;
    if (!terms.holds && s->session.until.us)
        for (size_t i = 0; i < s->n_scopes; i++)
            ratelimit_forget(s->scopes[i]->rate);
    if (is_full)
        s->has_rates = s->is_tight = false;
    for (size_t i = 0; i < s->n_scopes; i++) {
        bool is_due = atomic_exchange_explicit(&s->scopes[i]->is_due, false, memory_order_relaxed);

        if (is_full && !atomic_load(&s->limits->is_lease_up))
            set_open(s->scopes[i], false);
        if (is_full || is_due)
            plan_scope(s, s->scopes[i], wall, &terms);
        if (is_full && budget_account_leases(s->scopes[i]->account, false).is_tight)
            s->is_tight = true;
    }
}

/* Once the store has the books again: what the journals held at the last mark is posted. */
static void follow_marks(struct limits_lease *s, const struct kv_lease_call *c)
{
    struct mono now = mono_now();
    int has;

    if (!c->has_books || now.us < s->marks_from.us)
        return;
    has = s->has_mark ? s->o.has(s->o.user, &s->marked) : 0;
    if (s->has_mark && has <= 0)
        return;
    for (size_t i = 0; i < s->n_scopes; i++)
        budget_account_posted(s->scopes[i]->account, has > 0);
    if (has > 0)
        s->is_fresh = false;
    s->o.end(s->o.user, &s->marked);
    s->has_mark = true;
}

/* Whether this instance has ever written there; then nothing is granted by a store that lacks it. */
static void look_for_books(struct limits_lease *s)
{
    struct watermark ignored;
    bool found = false;

    if (!s->needs_books && kv_watermark(s->o.kv, s->o.instance, &ignored, &found, NULL) == ERR_OK)
        s->needs_books = found;
}

/* An earlier life may have settled what is not posted yet: until it is, its leases stay. */
static bool is_ready(struct limits_lease *s)
{
    struct kv_lease_call c;

    if (s->is_ready)
        return true;
    if (!s->has_begun)
        s->o.end(s->o.user, &s->began);
    s->has_begun = true;
    if (s->o.has(s->o.user, &s->began) > 0) {
        look_for_books(s);
        s->nodes = s->needs_books || atomic_load(&s->limits->others)
                       ? 1 + (int64_t)atomic_load(&s->limits->others)
                       : 0;
        s->is_ready = true;
    } else {
        s->owes_sweep |= call(s, NULL, 0, true, &c) != ERR_OK || c.dead;
    }
    return s->is_ready;
}

/* In calls of KV_LEASE_ROWS. One that says all counts as heard by the store with the last of them, unless it heard of another
 * epoch meanwhile. */
static enum err_code say_targets(struct limits_lease *s, bool is_all, struct kv_lease_call *c)
{
    int64_t epoch = s->epoch;
    enum err_code e = ERR_OK;
    size_t i = 0;

    if (!s->n && !is_all)
        return ERR_OK;
    do {
        size_t n = s->n - i < KV_LEASE_ROWS ? s->n - i : KV_LEASE_ROWS;

        s->completes = is_all && i + n == s->n && s->epoch == epoch;
        e = say(s, n ? s->targets + i : NULL, n, c);
        i += n;
    } while (!e && i < s->n);
    s->completes = false;
    return e;
}

/* True: the store answered, or need not be asked. */
static bool round_once(struct limits_lease *s, bool is_full)
{
    struct kv_lease_call c = {0};
    enum err_code e;
    bool is_all;

    free(s->scopes);
    s->scopes = limits_all_mt(s->limits, &s->n_scopes);
    if (!is_ready(s))
        return true;
    is_all = is_full || !lease_session_holds(&s->session, mono_now());
    plan(s, is_full);
    s->is_wanting = s->is_asked = false;
    e = say_targets(s, is_all, &c);
    s->owes_sweep |= e || c.dead; /* an answer that was lost may have named the dead */
    if (!e && s->owes_sweep)
        s->owes_sweep = !sweep(s);
    if (!e && is_full) {
        look_for_books(s);
        follow_marks(s, &c);
    }
    return !e;
}

/* ---- the thread ---- */

static void answer_all(struct limits_waiter *w)
{
    while (w) {
        struct limits_waiter *next = w->next;

        w->answered(w);
        w = next;
    }
}

static struct timespec after(int64_t us)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += (long)(us % 1000000) * 1000;
    t.tv_sec += us / 1000000 + t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

static void nap(struct limits_lease *s, int64_t us, bool is_up)
{
    struct timespec until = after(us > 0 ? us : 0);

    while (!s->is_over && !s->waiters && !(is_up && s->is_woken) &&
           pthread_cond_timedwait(&s->wake, &s->lock, &until) == 0)
        continue;
}

/* Where nobody else is, nobody can want some. */
static int64_t round_of(const struct limits_lease *s)
{
    return s->is_tight && s->nodes > 1 ? TIGHT_US : s->has_rates ? RATES_US : ROUND_US;
}

static int64_t pause_of(const struct limits_lease *s)
{
    if (!s->is_ready || s->is_wanting || s->is_asked || s->later)
        return AGAIN_US;
    return round_of(s);
}

static void *run(void *arg)
{
    struct limits_lease *s = arg;
    bool is_up = true, is_full;

    (void)pthread_setname_np(pthread_self(), "leases");
    (void)pthread_mutex_lock(&s->lock);
    while (!s->is_over) {
        struct limits_waiter *waiters = s->waiters, *later = s->later;
        struct mono now = mono_now();

        s->waiters = s->later = NULL;
        s->is_woken = false;
        (void)pthread_mutex_unlock(&s->lock);
        is_full = mono_diff_us(now, s->full) >= round_of(s);
        if (is_full)
            s->full = now;
        /* A store that is down is not asked sooner for those who wait: they go by their limits' own rules. */
        if (is_up || now.us >= s->retry_at.us)
            is_up = round_once(s, is_full || later);
        answer_all(waiters);
        answer_all(later);
        (void)pthread_mutex_lock(&s->lock);
        if (!s->has_answer && (s->called.us || !is_up || !atomic_load(&s->limits->is_lease_up))) {
            s->has_answer = true;
            (void)pthread_cond_broadcast(&s->first);
        }
        if (!is_up && now.us >= s->retry_at.us)
            s->retry_at = mono_add_us(mono_now(), DOWN_US);
        nap(s, is_up ? pause_of(s) : mono_diff_us(s->retry_at, mono_now()), is_up);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return NULL;
}

struct limits_lease *limits_lease_start(const struct limits_lease_options *o, struct err *err)
{
    struct limits_lease *s = calloc(1, sizeof(*s));
    pthread_condattr_t attr;

    if (!s)
        abort();
    s->o = *o;
    s->limits = o->limits;
    s->session.life_us = o->life_us > 0 ? o->life_us : LEASE_LIFE_US;
    s->life = wall_now().us > 0 ? wall_now().us : 1;
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&s->wake, &attr);
    (void)pthread_cond_init(&s->first, &attr);
    (void)pthread_condattr_destroy(&attr);
    atomic_store(&s->limits->is_lease_up, true); /* until it is known to be down */
    atomic_store(&s->limits->lease, s);
    if (pthread_create(&s->thread, NULL, run, s) != 0) {
        limits_lease_stop(s);
        (void)err_set(err, ERR_NO_MEMORY, "no thread for the leases");
        return NULL;
    }
    s->is_started = true;
    return s;
}

/* The session is taken for over, which drops all that is not spent or held, and the store hears of it. */
static void give_back(struct limits_lease *s)
{
    s->session.until = (struct mono){0};
    atomic_store(&s->limits->lease_until_us, 0);
    if (s->is_ready)
        (void)round_once(s, true);
}

void limits_lease_stop(struct limits_lease *s)
{
    if (!s)
        return;
    if (s->is_started) {
        (void)pthread_mutex_lock(&s->lock);
        s->is_over = true;
        (void)pthread_cond_signal(&s->wake);
        (void)pthread_mutex_unlock(&s->lock);
        (void)pthread_join(s->thread, NULL);
        give_back(s);
    }
    answer_all(s->waiters);
    answer_all(s->later);
    atomic_store(&s->limits->lease, NULL);
    kv_free(s->o.kv);
    (void)pthread_cond_destroy(&s->wake);
    (void)pthread_cond_destroy(&s->first);
    (void)pthread_mutex_destroy(&s->lock);
    free(s->scopes);
    free(s->targets);
    free(s);
}

bool limits_lease_wait(struct limits_lease *s, int64_t wait_us)
{
    struct timespec until = after(wait_us);
    bool has;

    (void)pthread_mutex_lock(&s->lock);
    while (!s->has_answer && pthread_cond_timedwait(&s->first, &s->lock, &until) == 0)
        continue;
    has = s->has_answer;
    (void)pthread_mutex_unlock(&s->lock);
    return has;
}

void limits_lease_wake_mt(struct limits_lease *s)
{
    (void)pthread_mutex_lock(&s->lock);
    s->is_woken = true;
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->lock);
}

bool limits_lease_await_mt(struct limits *l, struct limits_waiter *w, bool again)
{
    struct limits_lease *s = atomic_load(&l->lease);
    struct limits_waiter **list;

    if (!s)
        return false;
    (void)pthread_mutex_lock(&s->lock);
    list = again ? &s->later : &s->waiters;
    w->next = *list;
    *list = w;
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->lock);
    return true;
}

/* While the session holds, and one grace longer, nobody else has what was leased here. Then every node may have spent what it
 * had, and one that stays open its cap. */
double limits_lease_bound_usd_mt(struct limits_lease *s)
{
    struct limits *l = s->limits;
    int64_t until = atomic_load(&l->lease_until_us), now = mono_now().us;
    bool is_lost = until && now > until + GRACE * s->session.life_us;
    double sum = 0;
    size_t n;
    struct limits_scope **all = limits_all_mt(l, &n);

    for (size_t i = 0; i < n; i++) {
        struct budget_leases b = budget_account_leases(all[i]->account, is_lost);
        int64_t cap = all[i]->open_cap_nanousd;

        sum += (double)(is_lost && b.everywhere_nanousd > b.overshoot_nanousd ? b.everywhere_nanousd
                                                                              : b.overshoot_nanousd);
        if (cap > 0 && !atomic_load(&l->is_lease_up))
            sum += (double)cap * (double)atomic_load(&l->lease_nodes);
    }
    free(all);
    return sum / 1e9;
}
