/* SPDX-License-Identifier: Apache-2.0 */
/* A store thread of its own owns the accounts and their hours; others copy a forecast under the lock. An account's hours are a
 * ring by the number of the hour. The last hours are read again every time, whole, since late rows come; older ones once, in
 * slices that are short enough not to keep a writer of the same file waiting. The tricky part is an account that is new here: its
 * past is read by reading everybody's again. */
#include "gatewayd/books/forecaster.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gatewayd/api/store_thread.h"
#include "libshared/base/log.h"

#define HOUR_US     ((int64_t)3600 * 1000000)
#define HOUR_S      3600
#define LOOK_US     5000000             /* budgets may have changed */
#define ROUND_US    ((int64_t)60000000) /* the ledger is read again */
#define RETRY_US    2000000             /* after a store that did not answer, or has no tables yet */
#define FRESH       3                   /* hours that are read again */
#define SLICE       6                   /* hours of one statement */
#define ACCOUNTS    4096u               /* 5 KiB each */
#define DEADLINE_US 5000000
#define FOR_EVER_US                                                                                          \
    ((int64_t)30 * 86400 * 1000000) /* of a budget that never resets, an end farther off is no event */

struct account {
    char name[BUDGET_ACCOUNT];
    int64_t *hours; /* FORECAST_HOURS, a ring */
    int64_t began_s;
    bool is_named; /* in this round */
    int64_t limit, posted, start_us, ends_us;
    char window[PERIOD_WINDOW_CAP];
    struct wall spent_since;
    int64_t told_us; /* start of the window of which the event was told */
    bool is_made;
    struct forecast forecast;
};

struct forecaster {
    struct forecaster_options o;
    struct store_thread *thread;
    pthread_mutex_t
        lock; /* guards `accounts` against readers: the thread changes it under the lock, and reads without */
    struct account *accounts; /* by name */
    size_t n;
    _Atomic bool is_over;
    /* the thread's */
    bool is_new, has_providers; /* is_new: the past has to be read */
    bool is_complaining, is_full;
    int64_t newest;                   /* number of the newest hour that the rings hold */
    int64_t reading_from, reading_to; /* hours of the statement */
    struct mono due;
};

/* ---- accounts -------------------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct account *)a)->name, ((const struct account *)b)->name);
}

static struct account *find(struct forecaster *f, const char *name)
{
    struct account key;

    (void)snprintf(key.name, sizeof(key.name), "%s", name);
    return f->n ? bsearch(&key, f->accounts, f->n, sizeof(key), by_name) : NULL;
}

static void take_figures(struct account *a, const struct limits_view *v)
{
    a->is_named = true;
    a->limit = v->limit_nanousd;
    a->posted = v->sums.posted_nanousd;
    a->start_us = v->sums.start_us;
    a->ends_us = v->resets_at.us;
    (void)cycle_name(v->sums.cycle, (struct wall){v->sums.start_us}, a->window);
}

struct gathering {
    struct forecaster *f;
    struct account *fresh; /* accounts that are new */
    size_t n_fresh;
    bool is_changed;
};

static void add_fresh(struct gathering *g, const struct limits_view *v)
{
    struct account *a;

    if (g->f->n + g->n_fresh >= ACCOUNTS) {
        if (!g->f->is_full)
            log_warn("budgets: forecasts are made of the first %u accounts only", ACCOUNTS);
        g->f->is_full = true;
        return;
    }
    g->fresh = realloc(g->fresh, (g->n_fresh + 1) * sizeof(*g->fresh));
    a = g->fresh ? &g->fresh[g->n_fresh++] : NULL;
    if (!a)
        abort();
    *a = (struct account){.hours = calloc(FORECAST_HOURS, sizeof(int64_t)), .told_us = INT64_MIN};
    if (!a->hours)
        abort();
    (void)snprintf(a->name, sizeof(a->name), "%s", v->scope);
    take_figures(a, v);
    g->is_changed = true;
}

static void gather(void *user, const struct limits_view *v)
{
    struct gathering *g = user;
    struct account *a = v->has_budget ? find(g->f, v->scope) : NULL;
    char window[PERIOD_WINDOW_CAP];

    if (!v->has_budget)
        return;
    if (!a) {
        add_fresh(g, v);
        return;
    }
    memcpy(window, a->window, sizeof(window));
    g->is_changed |= a->limit != v->limit_nanousd;
    take_figures(a, v);
    g->is_changed |= strcmp(a->window, window) != 0;
}

/* Under the lock. */
static void keep_named(struct forecaster *f, struct gathering *g)
{
    size_t kept = 0;

    for (size_t i = 0; i < f->n; i++) {
        if (f->accounts[i].is_named)
            f->accounts[kept++] = f->accounts[i];
        else
            free(f->accounts[i].hours);
    }
    if (g->n_fresh) {
        f->accounts = realloc(f->accounts, (kept + g->n_fresh) * sizeof(*f->accounts));
        if (!f->accounts)
            abort();
        memcpy(f->accounts + kept, g->fresh, g->n_fresh * sizeof(*g->fresh));
        f->is_new = true;
    }
    f->n = kept + g->n_fresh;
    if (f->n)
        qsort(f->accounts, f->n, sizeof(*f->accounts), by_name);
}

/* True when there is something new to compute. */
static bool learn_accounts(struct forecaster *f)
{
    struct gathering g = {.f = f};

    for (size_t i = 0; i < f->n; i++)
        f->accounts[i].is_named = false;
    limits_each_mt(f->o.limits, gather, &g);
    (void)pthread_mutex_lock(&f->lock);
    keep_named(f, &g);
    (void)pthread_mutex_unlock(&f->lock);
    free(g.fresh);
    f->has_providers = false;
    for (size_t i = 0; i < f->n; i++)
        f->has_providers |= strncmp(f->accounts[i].name, "provider:", 9) == 0;
    return g.is_changed;
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

static void add(struct forecaster *f, const char *name, int64_t hour, int64_t nano, int64_t minute)
{
    struct account *a = find(f, name);
    int64_t *at = a ? &a->hours[hour % FORECAST_HOURS] : NULL;

    if (!at || hour < f->reading_from || hour >= f->reading_to)
        return;
    if (__builtin_add_overflow(*at, nano, at))
        *at = INT64_MAX;
    if (!a->began_s || minute < a->began_s)
        a->began_s = minute;
}

/* hour, sum, first minute, tenant, key */
static bool take_row(void *user, const struct db_value *v, unsigned n)
{
    struct forecaster *f = user;
    int64_t hour = v[0].i / HOUR_S;
    char name[BUDGET_ACCOUNT];

    if (n != 5)
        return false;
    add(f, "global", hour, v[1].i, v[2].i);
    (void)snprintf(name, sizeof(name), "tenant:%.*s", (int)v[3].s.len, v[3].s.p);
    add(f, name, hour, v[1].i, v[2].i);
    (void)snprintf(name, sizeof(name), "key:%.*s/%.*s", (int)v[3].s.len, v[3].s.p, (int)v[4].s.len, v[4].s.p);
    add(f, name, hour, v[1].i, v[2].i);
    return true;
}

/* hour, sum, first minute, provider */
static bool take_provider(void *user, const struct db_value *v, unsigned n)
{
    char name[BUDGET_ACCOUNT];

    if (n != 4)
        return false;
    (void)snprintf(name, sizeof(name), "provider:%.*s", (int)v[3].s.len, v[3].s.p);
    add(user, name, v[0].i / HOUR_S, v[1].i, v[2].i);
    return true;
}

#define SUMS "SELECT minute - minute % 3600, CAST(sum(cost_nano) AS bigint), min(minute), "

static enum err_code read_hours(struct forecaster *f, int64_t from, int64_t to, struct err *err)
{
    struct db_value p[] = {db_int(from * HOUR_S), db_int(to * HOUR_S)};
    enum err_code e;

    f->reading_from = from;
    f->reading_to = to;
    for (size_t i = 0; i < f->n; i++)
        for (int64_t h = from; h < to; h++)
            f->accounts[i].hours[h % FORECAST_HOURS] = 0;
    e = db_query(f->o.db, "forecast_accounts",
                 SUMS "tenant, key FROM ledger WHERE minute >= $1 AND minute < $2 AND kind IN ('request', "
                      "'adjust') AND cost_nano <> 0 GROUP BY minute - minute % 3600, tenant, key",
                 p, 2, take_row, f, err);
    if (!e && f->has_providers)
        e = db_query(f->o.db, "forecast_providers",
                     SUMS "provider FROM ledger WHERE minute >= $1 AND minute < $2 AND kind IN ('attempt', "
                          "'adjust') AND cost_nano <> 0 GROUP BY minute - minute % 3600, provider",
                     p, 2, take_provider, f, err);
    return e;
}

static bool take_first(void *user, const struct db_value *v, unsigned n)
{
    if (n == 1 && v[0].type == DB_INT)
        *(int64_t *)user = v[0].i / HOUR_S;
    return false;
}

static void forget_hours(struct forecaster *f)
{
    for (size_t i = 0; i < f->n; i++) {
        memset(f->accounts[i].hours, 0, FORECAST_HOURS * sizeof(int64_t));
        f->accounts[i].began_s = 0;
    }
}

/* Newest first, so that a slow store has said the most useful before it is given up. */
static enum err_code read_past(struct forecaster *f, int64_t hour, struct err *err)
{
    int64_t first = hour, oldest = hour + 1 - (int64_t)FORECAST_HOURS;
    enum err_code e = db_query(f->o.db, "forecast_first", "SELECT min(minute) FROM ledger", NULL, 0,
                               take_first, &first, err);

    forget_hours(f);
    if (first < oldest)
        first = oldest;
    for (int64_t to = hour + 1; !e && to > first; to -= SLICE) {
        e = read_hours(f, to - SLICE > oldest ? to - SLICE : oldest, to, err);
        if (atomic_load(&f->is_over))
            return ERR_UNAVAILABLE;
    }
    return e;
}

static enum err_code read_ledger(struct forecaster *f, int64_t hour, struct err *err)
{
    enum err_code e;

    if (hour - f->newest > FRESH || hour < f->newest)
        f->is_new = true;
    e = f->is_new ? read_past(f, hour, err) : read_hours(f, hour + 1 - FRESH, hour + 1, err);
    f->is_new = e != ERR_OK;
    f->newest = hour;
    return e;
}

/* ---- telling --------------------------------------------------------------------------------------------------------- */

static void compute(struct account *a, struct wall now, int64_t hour, struct forecast *out)
{
    int64_t *hours = malloc(FORECAST_HOURS * sizeof(*hours));
    struct forecast_in in = {.now = now,
                             .hours = hours,
                             .n_hours = FORECAST_HOURS,
                             .began = {a->began_s * 1000000},
                             .starts = {a->start_us},
                             .ends = {a->ends_us},
                             .spent_nano = a->posted,
                             .limit_nano = a->limit};

    if (!hours)
        abort();
    for (size_t i = 0; i < FORECAST_HOURS; i++)
        hours[i] = a->hours[(hour + 1 + (int64_t)i) % FORECAST_HOURS];
    forecast_make(&in, out);
    free(hours);
    if (out->state != FORECAST_SPENT)
        a->spent_since.us = 0;
    else if (!a->spent_since.us)
        a->spent_since = now;
    if (out->state == FORECAST_SPENT)
        out->exhausts_at = a->spent_since;
}

static void tell(struct forecaster *f, struct account *a, struct wall now)
{
    const struct forecast *x = &a->forecast;
    bool has_end = a->ends_us != INT64_MAX;
    char at[WALL_TEXT_CAP], end[WALL_TEXT_CAP] = "";
    struct event ev;

    if (x->state != FORECAST_AT || a->told_us == a->start_us ||
        (!has_end && x->exhausts_at.us - now.us > FOR_EVER_US))
        return;
    a->told_us = a->start_us;
    if (events_has_mt(f->o.events, EVENT_BUDGET, a->name, "forecast_of", a->window))
        return; /* told before the start, or by another node */
    (void)wall_format(x->exhausts_at, at, sizeof(at));
    if (has_end)
        (void)wall_format((struct wall){a->ends_us}, end, sizeof(end));
    event_make(&ev, EVENT_BUDGET, EVENT_WARNING, a->name,
               "at this rate the limit is reached at %.19sZ, %s%.19s%s", at,
               has_end ? "before it resets at " : "and it never resets", end, has_end ? "Z" : "");
    event_add_text(&ev, "forecast_of", a->window);
    event_add_time(&ev, "exhausts_at", x->exhausts_at);
    event_add_usd(&ev, "spent", a->posted);
    event_add_usd(&ev, "limit", a->limit);
    if (x->has_end)
        event_add_usd(&ev, "forecast", x->end_nano);
    events_tell_mt(f->o.events, &ev);
}

static void compute_all(struct forecaster *f, struct wall now, int64_t hour)
{
    struct forecast out;

    for (size_t i = 0; i < f->n; i++) {
        struct account *a = &f->accounts[i];

        compute(a, now, hour, &out);
        (void)pthread_mutex_lock(&f->lock);
        a->forecast = out;
        a->is_made = true;
        (void)pthread_mutex_unlock(&f->lock);
        tell(f, a, now);
    }
}

/* ---- the thread ------------------------------------------------------------------------------------------------------ */

static int64_t tick(void *user)
{
    struct forecaster *f = user;
    struct mono mono = mono_now();
    struct wall now = wall_now();
    int64_t hour = now.us / HOUR_US;
    struct err err = {0};
    bool is_changed;

    if (!limits_is_loaded_mt(f->o.limits))
        return RETRY_US;
    is_changed = learn_accounts(f);
    if (!f->n || (!is_changed && !f->is_new && mono_diff_us(f->due, mono) > 0))
        return LOOK_US;
    if (read_ledger(f, hour, &err)) {
        if (!f->is_complaining && !atomic_load(&f->is_over))
            log_info("budgets: what was spent by the hour cannot be read, so nothing is foretold: %s",
                     err_text(&err));
        f->is_complaining = true;
        return RETRY_US;
    }
    f->is_complaining = false;
    f->due = mono_add_us(mono, ROUND_US);
    compute_all(f, now, hour);
    return LOOK_US;
}

struct forecaster *forecaster_start(const struct forecaster_options *o, struct err *err)
{
    struct forecaster *f = calloc(1, sizeof(*f));

    if (!f)
        abort();
    f->o = *o;
    f->is_new = true;
    db_set_deadline(f->o.db, DEADLINE_US);
    (void)pthread_mutex_init(&f->lock, NULL);
    f->thread = store_thread_start(
        &(struct store_thread_options){.name = "forecast", .tick = tick, .user = f, .max_queued = 1}, err);
    if (f->thread)
        return f;
    forecaster_stop(f);
    return NULL;
}

void forecaster_stop(struct forecaster *f)
{
    if (!f)
        return;
    atomic_store(&f->is_over, true);
    store_thread_stop(f->thread);
    db_free(f->o.db);
    for (size_t i = 0; i < f->n; i++)
        free(f->accounts[i].hours);
    free(f->accounts);
    (void)pthread_mutex_destroy(&f->lock);
    free(f);
}

bool forecaster_look_mt(struct forecaster *f, const char *account, struct forecast *out)
{
    const struct account *a;
    bool is_made;

    (void)pthread_mutex_lock(&f->lock);
    a = find(f, account);
    is_made = a && a->is_made;
    if (is_made)
        *out = a->forecast;
    (void)pthread_mutex_unlock(&f->lock);
    return is_made;
}
