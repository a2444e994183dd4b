/* SPDX-License-Identifier: Apache-2.0 */
/* The book-keeper's thread. It owns both handles; other threads hand it jobs and read its stats under one lock. A job
 * belongs to whoever looks last: to the caller who waits, or to the thread when the caller has gone. The tricky part is
 * time: intervals are of the monotonic clock, hours of the wall clock, so a stepping clock changes neither how often it
 * runs nor what a closed hour is. */
#include "gatewayd/books/aggregator.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libshared/base/log.h"

#define LOOK_US      ((int64_t)5 * 1000000)  /* how often the thread looks at the clock */
#define RETRY_US     ((int64_t)30 * 1000000) /* after a failure */
#define SCHEMA_US    ((int64_t)1 * 1000000)  /* until the history store has its tables */
#define ANSWER_US    ((int64_t)5 * 1000000)  /* that a database has to show that it lives */
#define LOCK_WAIT_US ((int64_t)10 * 1000000)
#define HOUR_US      ((int64_t)3600 * 1000000)

struct ticket {
    struct ticket *next;
    struct books_job *job;
    bool is_done, is_abandoned;
};

struct aggregator {
    struct aggregator_options o;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    bool is_stopping;
    struct ticket *first, **last;
    struct aggregator_stats stats;
    /* the thread's */
    struct mono next_run, next_reconcile;
    int64_t closed; /* newest hour that was closed when we looked last */
    bool has_schema;
};

/* ---- jobs ---------------------------------------------------------------------------------------------------------- */

static void take_line(void *user, const struct reconcile_line *l)
{
    struct books_job *j = user;
    struct books_line *to = &j->lines[j->n_lines];

    if (j->n_lines == BOOKS_LINES)
        return;
    *to = (struct books_line){.pair = l->pair, .ledger = l->ledger, .other = l->other};
    (void)span_copy(to->where, sizeof(to->where), span_of(l->where));
    (void)span_copy(to->measure, sizeof(to->measure), span_of(l->measure));
    j->n_lines++;
}

static struct reconcile_options books_of(struct aggregator *a)
{
    return (struct reconcile_options){
        .db = a->o.db, .kv = a->o.kv, .now = wall_now(), .retention_us = a->o.retention_us};
}

static enum err_code compare(struct aggregator *a, struct books_job *j)
{
    struct reconcile_options o = books_of(a);
    enum err_code e;

    o.from_hour = j->from_hour;
    o.fn = take_line;
    o.user = j;
    e = reconcile_run(&o, &j->compared, &j->err);
    o.fn = NULL;
    for (unsigned p = RECONCILE_LEDGER_HOURLY; p < RECONCILE_COUNT && !e && j->is_repair; p++)
        if (j->compared.pairs[p].different && (!j->is_budgets_only || p == RECONCILE_LEDGER_BUDGETS))
            e = reconcile_repair(&o, (enum reconcile_pair)p, j->is_dry_run, &j->changed[p], &j->err);
    return e;
}

static struct aggregate_options hours_of(struct aggregator *a)
{
    return (struct aggregate_options){.db = a->o.db,
                                      .kv = a->o.kv,
                                      .source = AGGREGATE_LEDGER,
                                      .now = wall_now(),
                                      .retention_us = a->o.retention_us,
                                      .lock_wait_us = LOCK_WAIT_US};
}

static enum err_code roll_up(struct aggregator *a, struct books_job *j)
{
    struct aggregate_options o = hours_of(a);

    o.source = j->source;
    o.from_hour = j->from_hour;
    o.to_hour = j->to_hour;
    o.allow_gaps = j->allow_gaps;
    o.is_dry_run = j->is_dry_run;
    if (j->lock_wait_us)
        o.lock_wait_us = j->lock_wait_us;
    return aggregate_run(&o, &j->rolled, &j->err);
}

static void note_compared(struct aggregator *a, const struct reconcile_result *r);

/* A statement over an hour may take long, so the handle's deadline is long, too; nobody, and least of all a stop, waits that
 * long for a database that says nothing. */
static enum err_code answers(struct aggregator *a, unsigned *out_version, struct err *err)
{
    struct db *db = db_share(a->o.db);
    enum err_code e;

    db_set_deadline(db, ANSWER_US);
    e = db_schema_version(db, out_version, err);
    db_free(db);
    return e;
}

static enum err_code when_it_answers(struct aggregator *a, struct books_job *j)
{
    unsigned version;
    enum err_code e = answers(a, &version, &j->err);

    if (e)
        return e;
    return j->kind == BOOKS_RECONCILE ? compare(a, j) : roll_up(a, j);
}

static bool is_stopping(struct aggregator *a)
{
    bool is;

    (void)pthread_mutex_lock(&a->lock);
    is = a->is_stopping;
    (void)pthread_mutex_unlock(&a->lock);
    return is;
}

static void do_job(struct aggregator *a, struct books_job *j)
{
    j->code =
        is_stopping(a) ? err_set(&j->err, ERR_UNAVAILABLE, "the gateway is stopping") : when_it_answers(a, j);
    if (!j->code && j->kind == BOOKS_RECONCILE && !j->from_hour)
        note_compared(a, &j->compared);
}

static void finish(struct aggregator *a, struct ticket *t)
{
    (void)pthread_mutex_lock(&a->lock);
    t->is_done = true;
    if (t->is_abandoned) {
        free(t->job);
        free(t);
    }
    (void)pthread_cond_broadcast(&a->done);
    (void)pthread_mutex_unlock(&a->lock);
}

static struct timespec until(int64_t us)
{
    struct timespec t;
    int64_t ns;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    ns = t.tv_nsec + us % 1000000 * 1000;
    t.tv_sec += us / 1000000 + ns / 1000000000;
    t.tv_nsec = ns % 1000000000;
    return t;
}

bool aggregator_do_mt(struct aggregator *a, struct books_job **job, int64_t wait_us)
{
    struct ticket *t = calloc(1, sizeof(*t));
    struct timespec end = until(wait_us);
    bool is_done;

    if (!t)
        abort();
    t->job = *job;
    (void)pthread_mutex_lock(&a->lock);
    *a->last = t;
    a->last = &t->next;
    (void)pthread_cond_signal(&a->wake);
    while (!t->is_done && pthread_cond_timedwait(&a->done, &a->lock, &end) != ETIMEDOUT)
        ;
    is_done = t->is_done;
    t->is_abandoned = !is_done;
    (void)pthread_mutex_unlock(&a->lock);
    if (is_done)
        free(t);
    else
        *job = NULL;
    return is_done;
}

/* ---- what the clock asks for --------------------------------------------------------------------------------------- */

static void note_failure(struct aggregator *a, const char *what, const struct err *err)
{
    bool is_news;

    (void)pthread_mutex_lock(&a->lock);
    is_news = strcmp(a->stats.error, err_text(err)) != 0;
    a->stats.failures++;
    (void)span_copy(a->stats.error, sizeof(a->stats.error), span_of(err_text(err)));
    (void)pthread_mutex_unlock(&a->lock);
    if (is_news)
        log_warn("books: %s: %s", what, err_text(err));
}

static void note_success(struct aggregator *a, const struct aggregate_status *s)
{
    (void)pthread_mutex_lock(&a->lock);
    a->stats.last_success = wall_now();
    a->stats.lag_hours = s->missing_hours;
    a->stats.dirty_hours = s->dirty_hours;
    a->stats.error[0] = '\0';
    (void)pthread_mutex_unlock(&a->lock);
}

static void note_compared(struct aggregator *a, const struct reconcile_result *r)
{
    (void)pthread_mutex_lock(&a->lock);
    a->stats.books = *r;
    (void)pthread_mutex_unlock(&a->lock);
    for (unsigned p = 0; p < RECONCILE_COUNT; p++)
        if (r->pairs[p].different)
            log_warn("books: '%s' differs in %llu of %llu places",
                     reconcile_pair_name((enum reconcile_pair)p), (unsigned long long)r->pairs[p].different,
                     (unsigned long long)r->pairs[p].compared);
}

/* The history writer makes the tables; until then there is nothing to roll up. */
static bool has_schema(struct aggregator *a)
{
    struct err err = {0};
    unsigned version = 0;

    if (!a->has_schema && answers(a, &version, &err) == ERR_OK)
        a->has_schema = version == db_schema_latest();
    return a->has_schema;
}

static bool run_once(struct aggregator *a)
{
    struct aggregate_options o = hours_of(a);
    struct aggregate_result result;
    struct aggregate_status status;
    struct err err = {0};
    unsigned version;
    enum err_code e = answers(a, &version, &err);

    if (!e)
        e = aggregate_run(&o, &result, &err);
    if (!e)
        e = aggregate_status(&o, &status, &err);
    if (e) {
        note_failure(a, "the hourly roll-up failed", &err);
        return false;
    }
    note_success(a, &status);
    return true;
}

static bool reconcile_once(struct aggregator *a)
{
    struct reconcile_options o = books_of(a);
    struct reconcile_result r;
    unsigned version;
    struct err err = {0};

    if (answers(a, &version, &err) || reconcile_run(&o, &r, &err)) {
        note_failure(a, "the books could not be compared", &err);
        return false;
    }
    note_compared(a, &r);
    return true;
}

/* Two minutes after an hour's end its last batches are in. */
static bool has_hour_closed(struct aggregator *a)
{
    int64_t hour = (wall_now().us - (int64_t)130 * 1000000) / HOUR_US;
    bool is_new = hour > a->closed;

    a->closed = hour;
    return is_new;
}

static int64_t keep_books(struct aggregator *a)
{
    struct mono now = mono_now();
    bool is_due;

    if (!a->o.is_enabled)
        return LOOK_US;
    if (!has_schema(a))
        return SCHEMA_US;
    is_due = has_hour_closed(a) || mono_diff_us(a->next_run, now) <= 0;
    if (is_due)
        a->next_run = mono_add_us(now, run_once(a) ? a->o.interval_us : RETRY_US);
    if (mono_diff_us(a->next_reconcile, mono_now()) <= 0 && !is_stopping(a))
        a->next_reconcile = mono_add_us(mono_now(), reconcile_once(a) ? HOUR_US : RETRY_US);
    return LOOK_US;
}

/* ---- the thread ---------------------------------------------------------------------------------------------------- */

/* The next job, or NULL after `wait_us` or at the end. */
static struct ticket *next_job(struct aggregator *a, int64_t wait_us, bool *out_stop)
{
    struct timespec end = until(wait_us);
    struct ticket *t;

    (void)pthread_mutex_lock(&a->lock);
    while (!a->is_stopping && !a->first && pthread_cond_timedwait(&a->wake, &a->lock, &end) != ETIMEDOUT)
        ;
    t = a->first;
    if (t) {
        a->first = t->next;
        if (!a->first)
            a->last = &a->first;
    }
    *out_stop = a->is_stopping && !t;
    (void)pthread_mutex_unlock(&a->lock);
    return t;
}

static void *run(void *arg)
{
    struct aggregator *a = arg;
    bool stop = false;
    int64_t wait_us = 0;

    (void)pthread_setname_np(pthread_self(), "books");
    while (!stop) {
        struct ticket *t = next_job(a, wait_us, &stop);

        if (t) {
            do_job(a, t->job);
            finish(a, t);
        }
        wait_us = stop || t ? 0 : keep_books(a);
    }
    return NULL;
}

static void release(struct aggregator *a)
{
    db_free(a->o.db);
    kv_free(a->o.kv);
    (void)pthread_cond_destroy(&a->wake);
    (void)pthread_cond_destroy(&a->done);
    (void)pthread_mutex_destroy(&a->lock);
    free(a);
}

struct aggregator *aggregator_start(const struct aggregator_options *o, struct err *err)
{
    struct aggregator *a = calloc(1, sizeof(*a));
    pthread_condattr_t attr;

    if (!a)
        abort();
    a->o = *o;
    a->last = &a->first;
    a->next_run = mono_now();
    a->next_reconcile = mono_add_us(mono_now(), LOOK_US);
    (void)pthread_mutex_init(&a->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&a->wake, &attr);
    (void)pthread_cond_init(&a->done, &attr);
    (void)pthread_condattr_destroy(&attr);
    if (pthread_create(&a->thread, NULL, run, a) != 0) {
        (void)err_set(err, ERR_NO_MEMORY, "no thread for the books");
        release(a);
        return NULL;
    }
    return a;
}

void aggregator_stop(struct aggregator *a)
{
    if (!a)
        return;
    (void)pthread_mutex_lock(&a->lock);
    a->is_stopping = true;
    (void)pthread_cond_broadcast(&a->wake);
    (void)pthread_mutex_unlock(&a->lock);
    (void)pthread_join(a->thread, NULL);
    release(a);
}

void aggregator_stats_mt(struct aggregator *a, struct aggregator_stats *out)
{
    (void)pthread_mutex_lock(&a->lock);
    *out = a->stats;
    (void)pthread_mutex_unlock(&a->lock);
}
