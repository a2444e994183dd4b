/* SPDX-License-Identifier: Apache-2.0 */
/* One thread: read a window of every account, lay what others spent under what was spent here. The store learns of our own
 * settlements a moment later, so a round takes marks of what was settled here, and a later round, once the store is known
 * to have come past that moment, tells exactly what was spent elsewhere (budget.h).
 *
 * Accounts are loaded for the first time only after the store has everything that an earlier run of this instance left in its
 * journals: until then nothing that has a budget is admitted, unless that says so. */
#include "gatewayd/limits/limits_follow.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "libshared/base/log.h"

#define ROUND_US 3000000
#define FIRST_US 50000 /* between tries before the first success */
#define AHEAD    2u    /* windows after the current one */
#define PATIENCE 60u   /* of which so many may fail silently: the schema may be in the making */

struct marked {
    const char *name;
    struct budget_account *account;
    struct budget_mark mark;
};

struct limits_follow {
    struct limits_follow_options o;
    pthread_t thread;
    bool is_started;
    pthread_mutex_t lock;
    pthread_cond_t wake, loaded;
    bool is_over, is_woken, is_loaded; /* under `lock` */
    struct marked *marks;              /* the thread's: of an earlier round, or NULL */
    size_t n_marks, cap;
    struct watermark marked_at, began; /* where the journals ended behind the marks, and at first */
    bool has_begun;
    struct wall now;   /* of the round */
    unsigned failures; /* in a row */
};

static void mark_at(struct limits_follow *f, const char *name, struct budget_account *a, struct wall at)
{
    if (f->n_marks == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 64;
        f->marks = realloc(f->marks, f->cap * sizeof(*f->marks));
        if (!f->marks)
            abort();
    }
    f->marks[f->n_marks++] = (struct marked){name, a, budget_account_mark(a, at)};
}

static void add_mark(void *user, const char *name, struct budget_account *a)
{
    struct limits_follow *f = user;

    mark_at(f, name, a, f->now);
}

/* At first, also the windows around: a request may come from the one before, and an earlier run's clock may have been ahead. */
static void add_marks_around(void *user, const char *name, struct budget_account *a)
{
    struct limits_follow *f = user;
    struct wall at = f->now;
    struct budget_mark m = budget_account_mark(a, at);

    mark_at(f, name, a, (struct wall){m.start_us - 1});
    for (unsigned i = 0; i <= AHEAD && m.cycle.period != PERIOD_TOTAL; i++) {
        mark_at(f, name, a, at);
        at = (struct wall){cycle_window(m.cycle, at).end_us};
    }
}

static void mark_all(struct limits_follow *f, struct wall now, limits_account_fn add)
{
    f->n_marks = 0;
    f->now = now;
    limits_each_account_mt(f->o.limits, add, f);
    f->o.end(f->o.user, &f->marked_at);
}

static bool take_row(void *user, const struct db_value *v, unsigned n)
{
    if (n == 1)
        *(int64_t *)user = v[0].i;
    return false;
}

static enum err_code read_one(struct limits_follow *f, const struct marked *m, bool store_has_mark,
                              struct err *err)
{
    char window[PERIOD_WINDOW_CAP];
    struct db_value key[3];
    int64_t posted = 0; /* no row: nothing was spent */
    enum err_code e;

    (void)cycle_name(m->mark.cycle, (struct wall){m->mark.start_us}, window);
    key[0] = db_textz(m->name);
    key[1] = db_textz(period_name(m->mark.cycle.period));
    key[2] = db_textz(window);
    e = db_query(
        f->o.db, "budget_follow",
        "SELECT posted_nano FROM budget_windows WHERE account = $1 AND period = $2 AND window_id = $3", key,
        3, take_row, &posted, err);
    if (!e)
        budget_account_follow(m->account, &m->mark, store_has_mark, posted);
    return e;
}

/* Instances that wrote within ten minutes, but this one. */
static enum err_code count_others(struct limits_follow *f, struct wall now, struct err *err)
{
    struct db_value key[] = {db_textz(f->o.instance), db_int(now.us / 1000000 - 600)};
    int64_t n = 0;
    enum err_code e =
        db_query(f->o.db, "budget_others",
                 "SELECT count(DISTINCT instance) FROM journal_watermarks WHERE instance <> $1 AND "
                 "updated_at > $2",
                 key, 2, take_row, &n, err);

    if (!e)
        limits_set_others_mt(f->o.limits, (unsigned)n);
    return e;
}

static bool went_wrong(struct limits_follow *f, const struct err *err)
{
    if (++f->failures == (limits_is_loaded_mt(f->o.limits) ? 1 : PATIENCE))
        log_warn("budgets: what was spent cannot be read: %s",
                 err->code ? err_text(err) : "the history store is down");
    limits_set_store_mt(f->o.limits, false);
    return false;
}

bool limits_follow_once(struct limits_follow *f, struct wall now)
{
    bool is_first = !limits_is_loaded_mt(f->o.limits), store_has_mark;
    struct err err = {0};
    int has;

    if (!f->has_begun)
        f->o.end(f->o.user, &f->began);
    f->has_begun = true;
    has = f->o.has(f->o.user, is_first || !f->n_marks ? &f->began : &f->marked_at);
    if (has < 0)
        return went_wrong(f, &err);
    if (is_first && !has)
        return false; /* an earlier run's records are still on their way */
    store_has_mark = f->n_marks && has;
    if (is_first || !f->n_marks) {
        mark_all(f, now, add_marks_around);
        store_has_mark = false;
    }
    for (size_t i = 0; i < f->n_marks; i++)
        if (read_one(f, &f->marks[i], store_has_mark, &err) != ERR_OK)
            return went_wrong(f, &err);
    if (count_others(f, now, &err) != ERR_OK)
        return went_wrong(f, &err);
    if (store_has_mark)
        mark_all(f, now, add_mark);
    if (f->failures >= PATIENCE || (f->failures && !is_first))
        log_info("budgets: what was spent is known again");
    f->failures = 0;
    limits_set_store_mt(f->o.limits, true);
    return true;
}

static void nap(struct limits_follow *f, int64_t us)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += us / 1000000;
    until.tv_nsec += us % 1000000 * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    while (!f->is_over && !f->is_woken && pthread_cond_timedwait(&f->wake, &f->lock, &until) == 0)
        continue;
}

static void *run(void *arg)
{
    struct limits_follow *f = arg;
    bool fresh;

    (void)pthread_setname_np(pthread_self(), "budgets");
    (void)pthread_mutex_lock(&f->lock);
    while (!f->is_over) {
        fresh = f->is_woken;
        f->is_woken = false;
        (void)pthread_mutex_unlock(&f->lock);
        if (fresh)
            f->n_marks = 0; /* others than before */
        fresh = limits_follow_once(f, wall_now());
        (void)pthread_mutex_lock(&f->lock);
        if (fresh && !f->is_loaded) {
            f->is_loaded = true;
            (void)pthread_cond_broadcast(&f->loaded);
        }
        nap(f, f->is_loaded ? ROUND_US : FIRST_US);
    }
    (void)pthread_mutex_unlock(&f->lock);
    return NULL;
}

struct limits_follow *limits_follow_start(const struct limits_follow_options *o, struct err *err)
{
    struct limits_follow *f = calloc(1, sizeof(*f));
    pthread_condattr_t attr;

    if (!f)
        abort();
    f->o = *o;
    (void)pthread_mutex_init(&f->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&f->wake, &attr);
    (void)pthread_cond_init(&f->loaded, &attr);
    (void)pthread_condattr_destroy(&attr);
    if (pthread_create(&f->thread, NULL, run, f) != 0) {
        limits_follow_stop(f);
        (void)err_set(err, ERR_IO, "the thread that follows budgets could not be started");
        return NULL;
    }
    f->is_started = true;
    return f;
}

static void note_any(void *user, const char *name, struct budget_account *a)
{
    (void)name;
    (void)a;
    *(bool *)user = true;
}

bool limits_follow_wait(struct limits_follow *f, int64_t wait_us)
{
    struct timespec until;
    bool is_loaded, has_any = false;

    limits_each_account_mt(f->o.limits, note_any, &has_any);
    if (!has_any)
        return true;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_us / 1000000;
    (void)pthread_mutex_lock(&f->lock);
    while (!f->is_loaded && pthread_cond_timedwait(&f->loaded, &f->lock, &until) == 0)
        continue;
    is_loaded = f->is_loaded;
    (void)pthread_mutex_unlock(&f->lock);
    return is_loaded;
}

void limits_follow_wake_mt(struct limits_follow *f)
{
    (void)pthread_mutex_lock(&f->lock);
    f->is_woken = true;
    (void)pthread_cond_signal(&f->wake);
    (void)pthread_mutex_unlock(&f->lock);
}

void limits_follow_stop(struct limits_follow *f)
{
    if (!f)
        return;
    if (f->is_started) {
        (void)pthread_mutex_lock(&f->lock);
        f->is_over = true;
        (void)pthread_cond_signal(&f->wake);
        (void)pthread_mutex_unlock(&f->lock);
        (void)pthread_join(f->thread, NULL);
    }
    db_free(f->o.db);
    (void)pthread_cond_destroy(&f->wake);
    (void)pthread_cond_destroy(&f->loaded);
    (void)pthread_mutex_destroy(&f->lock);
    free(f->marks);
    free(f);
}
