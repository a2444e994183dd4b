/* SPDX-License-Identifier: Apache-2.0 */
/* Brings the journals to one store. writer_step() is the whole machine (drawn in writer.h); the thread below it only waits
 * and calls it. The cursors and the target belong to the stepping thread; what others may see is copied under `lock`.
 *
 * Invariant: a cursor is committed only up to a position that the store itself has said, or just now acknowledged, to have.
 *
 * The tricky part is a batch whose fate is unknown. It is sent again as it is, under the same number and token, until the
 * store says that it has it, or that its own watermark is another: then the batch is dropped, and the store's
 * positions, not ours, decide which records it is made of next. */
#include "gatewayd/journal/writer.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "libshared/base/crash.h"
#include "libshared/base/id.h"
#include "libshared/base/log.h"
#include "libshared/journal/walk.h"

#define INTERVAL_US 1000000
#define IDLE_US     1000000
#define ASK_AGAIN_US                                                                                         \
    5000000 /* a store that is sent nothing may be emptied or die unnoticed only for so long */
#define BACKOFF_US   100000 /* half of it at least is waited */
#define BACKOFF_MAX  2000000
#define REMIND_US    60000000 /* until the log says again that a store is down; doubled each time */
#define REMIND_MAX   3600000000
#define READ_AT_ONCE 64u /* records of one journal before the others have their turn */

enum writer_state { WRITER_ASKING, WRITER_READING, WRITER_SENDING };

struct writer {
    const struct target_ops *ops;
    void *self;
    struct journal_cursor **cursors;
    size_t n;
    struct events *events;
    int64_t interval_us;
    struct wall (*wall_now)(void *user);
    struct mono (*mono_now)(void *user);
    uint64_t (*random)(void *user);
    void *user;

    /* ---- the stepping thread's ---- */
    enum writer_state state;
    uint64_t token;
    struct watermark said;       /* by the store, when it was asked last */
    struct watermark have, next; /* what the store has, what it will have with the open batch */
    struct mono began, due, retry_at, idle_at, asked_at;
    struct mono remind_at; /* while the store is down */
    int64_t remind_us;
    unsigned failures;
    size_t turn; /* which journal is read first */
    uint64_t records;
    bool is_full, is_dry, has_gap;
    bool is_checking; /* asking although nothing was refused */
    bool was_asked;   /* in this run, with an answer */
    struct journal_record rec;

    _Atomic bool woken;
    pthread_mutex_t lock;
    struct writer_stats stats; /* under the lock */
    struct wall pending_since; /* under the lock: age of the open batch, 0 without */
    pthread_cond_t cond;
    pthread_t thread;
    bool is_started;
    bool is_stopping;    /* under the lock */
    struct mono stop_at; /* under the lock */
};

/* ---- making and freeing ---- */

static struct wall default_wall(void *user)
{
    (void)user;
    return wall_now();
}
static struct mono default_mono(void *user)
{
    (void)user;
    return mono_now();
}
static uint64_t default_random(void *user)
{
    uint64_t v;

    (void)user;
    random_bytes(&v, sizeof(v));
    return v;
}

static void init_sync(struct writer *w)
{
    pthread_condattr_t mono;

    (void)pthread_mutex_init(&w->lock, NULL);
    (void)pthread_condattr_init(&mono);
    (void)pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&w->cond, &mono);
    (void)pthread_condattr_destroy(&mono);
}

/* Kept as a signed number of 64 bits in SQL, and never 0, which is the token of no batch. */
static void new_token(struct writer *w)
{
    w->token = (w->random(w->user) & INT64_MAX) | 1;
}

static void take_options(struct writer *w, const struct writer_options *o)
{
    w->ops = o->ops;
    w->self = o->self;
    w->interval_us = o->interval_us > 0 ? o->interval_us : INTERVAL_US;
    w->events = o->events;
    w->wall_now = o->wall_now ? o->wall_now : default_wall;
    w->mono_now = o->mono_now ? o->mono_now : default_mono;
    w->random = o->random ? o->random : default_random;
    w->user = o->user;
    new_token(w);
    w->stats.name = o->ops->name;
}

struct writer *writer_new(const struct writer_options *o, struct err *err)
{
    struct writer *w = calloc(1, sizeof(*w));

    if (!w)
        abort();
    init_sync(w);
    take_options(w, o);
    w->cursors = calloc(o->n_journals + 1, sizeof(struct journal_cursor *));
    if (!w->cursors)
        abort();
    if (o->n_journals > WATERMARK_WORKERS) {
        (void)err_set(err, ERR_CONFIG, "the stores know at most %u workers, not %zu", WATERMARK_WORKERS,
                      o->n_journals);
        writer_free(w);
        return NULL;
    }
    for (; w->n < o->n_journals; w->n++) {
        w->cursors[w->n] = journal_cursor_new(o->journals[w->n], o->ops->name);
        if (!w->cursors[w->n])
            abort();
        journal_cursor_want(w->cursors[w->n], o->ops->types);
    }
    return w;
}

void writer_free(struct writer *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->n; i++)
        journal_cursor_free(w->cursors[i]);
    free(w->cursors);
    if (w->ops->free)
        w->ops->free(w->self);
    (void)pthread_mutex_destroy(&w->lock);
    (void)pthread_cond_destroy(&w->cond);
    free(w);
}

/* ---- trouble ---- */

static int64_t jittered(struct writer *w)
{
    int64_t most = w->failures < 6 ? (int64_t)BACKOFF_US << (w->failures - 1) : BACKOFF_MAX;

    if (most > BACKOFF_MAX)
        most = BACKOFF_MAX;
    return most / 2 + (int64_t)(w->random(w->user) % (uint64_t)(most / 2 + 1));
}

static void back_off(struct writer *w, struct mono now)
{
    w->failures++;
    w->retry_at = mono_add_us(now, jittered(w));
}

/* The first failure is told at once, what goes on now and then. */
static void tell_down(struct writer *w, struct mono now, bool was_down, int64_t down_us,
                      const struct err *err)
{
    if (!was_down) {
        w->remind_us = REMIND_US;
        log_error("store '%s': %s; the journal keeps what it cannot take", w->ops->name, err_text(err));
    } else if (now.us >= w->remind_at.us) {
        w->remind_us = w->remind_us * 2 < REMIND_MAX ? w->remind_us * 2 : REMIND_MAX;
        log_error("store '%s': down for %" PRId64 " s: %s; the journal still keeps what it cannot take, see "
                  "'aigwctl status' for how long it can",
                  w->ops->name, down_us / 1000000, err_text(err));
    } else {
        return;
    }
    w->remind_at = mono_add_us(now, w->remind_us);
}

static void failed(struct writer *w, struct mono now, const struct err *err)
{
    struct event ev;
    bool was_down;
    int64_t down_us;

    (void)pthread_mutex_lock(&w->lock);
    was_down = w->stats.is_down;
    if (!was_down)
        w->stats.down_since = w->wall_now(w->user);
    down_us = w->wall_now(w->user).us - w->stats.down_since.us;
    w->stats.is_down = true;
    w->stats.errors++;
    (void)snprintf(w->stats.error, sizeof(w->stats.error), "%s", err_text(err));
    (void)pthread_mutex_unlock(&w->lock);
    tell_down(w, now, was_down, down_us, err);
    if (!was_down) {
        event_make(&ev, EVENT_STORE, EVENT_WARNING, w->ops->name, "it does not take records: %.200s",
                   err_text(err));
        event_add_text(&ev, "old", "up");
        event_add_text(&ev, "new", "down");
        events_tell_mt(w->events, &ev);
    }
    back_off(w, now);
}

static void worked(struct writer *w)
{
    struct event ev;
    bool was_down;
    int64_t down_us;

    (void)pthread_mutex_lock(&w->lock);
    was_down = w->stats.is_down;
    down_us = w->wall_now(w->user).us - w->stats.down_since.us;
    w->stats.is_down = false;
    w->stats.error[0] = '\0';
    (void)pthread_mutex_unlock(&w->lock);
    if (!was_down)
        return;
    log_info("store '%s': it works again, after %" PRId64 " s", w->ops->name, down_us / 1000000);
    event_make(&ev, EVENT_STORE, EVENT_INFO, w->ops->name, "it takes records again, after %" PRId64 " s",
               down_us / 1000000);
    event_add_text(&ev, "old", "down");
    event_add_text(&ev, "new", "up");
    event_add_count(&ev, "down_s", down_us / 1000000);
    events_tell_mt(w->events, &ev);
}

static void tell_gap(struct writer *w, size_t worker, uint64_t from, uint64_t to)
{
    if (!w->has_gap)
        log_error("store '%s': it lacks records %" PRIu64 " to %" PRIu64
                  " of worker %zu, and the journal no longer has them; going on without",
                  w->ops->name, from, to - 1, worker);
    w->has_gap = true;
    (void)pthread_mutex_lock(&w->lock);
    w->stats.gaps++;
    (void)pthread_mutex_unlock(&w->lock);
}

/* ---- asking: the store's watermark decides ---- */

static void commit_one(struct writer *w, size_t i, uint64_t seq)
{
    if (seq > journal_cursor_committed(w->cursors[i]))
        journal_cursor_commit(w->cursors[i], seq);
}

/* A place where a segment begins is no sign of records: the store has all before it, and that segment may have been put
 * away unused. Behind its first record it is kept until the store has gone on. */
static bool is_gap(uint64_t want, uint64_t stand)
{
    return stand > want && walk_offset_of(want) > WALK_DATA;
}

/* A store that knows nothing begins where this consumer's commit is: at a start where the last run left off, later at the
 * oldest that the journal still has (hold_everything). A worker that its watermark does not name is new, or newer than
 * what it was filled from: it has nothing of it, so all that the journal has is due. Those of a larger run before this one
 * are carried along as they are. */
static void adopt(struct writer *w, const struct watermark *store)
{
    bool is_missing = store->batch == 0 && store->token == 0;

    w->have = *store;
    for (size_t i = 0; i < w->n; i++) {
        bool is_known = !is_missing && i < store->n;
        uint64_t want = is_known ? store->at[i] : is_missing ? journal_cursor_committed(w->cursors[i]) : 0;
        uint64_t stand = journal_cursor_seek(w->cursors[i], want);

        if (is_known && is_gap(want, stand))
            tell_gap(w, i, want, stand);
        if (is_known)
            commit_one(w, i, stand);
        w->have.at[i] = stand;
    }
    if (w->have.n < w->n)
        w->have.n = (unsigned)w->n;
}

/* The store may be anywhere behind what it once acknowledged, at the latest where another store was a moment ago that it
 * is filled from. Until it has told us the journal keeps all that it still has. */
static void hold_everything(struct writer *w)
{
    for (size_t i = 0; i < w->n; i++)
        (void)journal_cursor_seek(w->cursors[i], 0);
}

/* An idle store did not answer: what it acknowledged before still counts. */
static void stand_as_before(struct writer *w)
{
    for (size_t i = 0; i < w->n; i++) {
        (void)journal_cursor_seek(w->cursors[i], w->have.at[i]);
        commit_one(w, i, w->have.at[i]);
    }
}

/* Since it was asked first, the store came to records that our journals never had. Following it would skip ours. What it said
 * at the start may be beyond them: a disk that lost the journals, and a clock that stepped back. */
static bool is_strange(const struct writer *w, const struct watermark *store)
{
    if (!w->was_asked || (store->batch == w->said.batch && store->token == w->said.token))
        return false;
    for (size_t i = 0; i < w->n && i < store->n; i++)
        if (journal_cursor_is_beyond(w->cursors[i], store->at[i]))
            return true;
    return false;
}

static void refuse_stranger(struct writer *w, struct mono now)
{
    struct err err = {0};

    (void)err_set(
        &err, ERR_CONFLICT,
        "another gateway writes under the id of these books, as from a copy of the state directory; "
        "stop one of the two and remove 'journal/instance' from its state directory");
    failed(w, now, &err);
}

static void begin_batch(struct writer *w)
{
    w->ops->begin(w->self);
    w->records = 0;
    w->is_full = false;
    w->state = WRITER_READING;
    (void)pthread_mutex_lock(&w->lock);
    w->pending_since = (struct wall){0};
    w->stats.queued = 0;
    (void)pthread_mutex_unlock(&w->lock);
}

static void ask(struct writer *w, struct mono now)
{
    struct watermark store = {0};
    struct err err = {0};

    CRASH_POINT(watermark_before_read);
    if (w->is_checking)
        hold_everything(w);
    if (w->ops->watermark(w->self, &store, &err) != ERR_OK) {
        if (w->is_checking)
            stand_as_before(w);
        failed(w, now, &err);
        return;
    }
    CRASH_POINT(watermark_after_read);
    if (is_strange(w, &store)) {
        refuse_stranger(w, now);
        return;
    }
    w->is_checking = false;
    w->was_asked = true;
    w->said = store;
    worked(w);
    adopt(w, &store);
    CRASH_POINT(watermark_after_seek);
    w->asked_at = now;
    begin_batch(w);
}

/* ---- reading ---- */

/* Records of one journal; false when it has no more now. */
static bool read_some(struct writer *w, size_t i)
{
    struct err err = {0};

    for (unsigned n = 0; n < READ_AT_ONCE; n++) {
        if (journal_cursor_read(w->cursors[i], &w->rec, &err)) {
            w->ops->take(w->self, &w->rec);
            w->records++;
            CRASH_POINT(batch_record);
            w->is_full = w->ops->is_full && w->ops->is_full(w->self);
            if (w->is_full)
                return false;
        } else if (err.code) {
            log_error("store '%s': %s", w->ops->name, err_text(&err));
        } else {
            return false;
        }
    }
    return true;
}

/* Each journal in turn, so that a busy worker does not hold up the others' books. */
static void read_all(struct writer *w)
{
    bool more = true;

    while (more && !w->is_full) {
        more = false;
        for (size_t i = 0; i < w->n && !w->is_full; i++)
            more |= read_some(w, (w->turn + i) % w->n);
        w->turn++;
    }
}

static int64_t journals_lag(struct writer *w, struct wall now)
{
    int64_t most = 0;

    for (size_t i = 0; i < w->n; i++) {
        int64_t lag = journal_cursor_lag_us_mt(w->cursors[i], now);

        if (lag > most)
            most = lag;
    }
    return most;
}

/* False when nothing moved. Records that the target does not want move the positions too, since the journal waits for
 * them. */
static bool close_batch(struct writer *w, struct wall since)
{
    w->next = w->have;
    for (size_t i = 0; i < w->n; i++)
        w->next.at[i] = journal_cursor_position(w->cursors[i]);
    if (watermark_equal(&w->next, &w->have))
        return false;
    w->next.batch++;
    w->next.token = w->token;
    (void)pthread_mutex_lock(&w->lock);
    w->pending_since = since;
    w->stats.queued = w->records; /* those in hand */
    (void)pthread_mutex_unlock(&w->lock);
    CRASH_POINT(batch_closed);
    w->state = WRITER_SENDING;
    return true;
}

static void idle(struct writer *w, struct mono now)
{
    if (!w->ops->idle || now.us < w->idle_at.us)
        return;
    w->idle_at = mono_add_us(now, IDLE_US);
    w->ops->idle(w->self, w->wall_now(w->user));
}

static void read_batch(struct writer *w, struct mono now)
{
    struct wall wall = w->wall_now(w->user);
    struct wall since = {wall.us - journals_lag(w, wall)};

    w->began = now;
    CRASH_POINT(batch_opened);
    read_all(w);
    w->is_dry = !close_batch(w, since);
    if (w->is_dry) {
        w->due = mono_add_us(now, w->interval_us);
        idle(w, now);
        if (mono_diff_us(now, w->asked_at) >= ASK_AGAIN_US) {
            w->is_checking = true;
            w->state = WRITER_ASKING;
        }
    }
}

/* ---- sending ---- */

static void count_batch(struct writer *w, bool is_duplicate, int64_t took_us)
{
    (void)pthread_mutex_lock(&w->lock);
    w->stats.batches++;
    w->stats.duplicates += is_duplicate;
    w->stats.records += w->records;
    w->stats.last_records = w->records;
    w->stats.last_us = took_us;
    w->stats.last_success = w->wall_now(w->user);
    (void)pthread_mutex_unlock(&w->lock);
}

static void commit(struct writer *w, struct mono now)
{
    CRASH_POINT(cursor_before_commit);
    w->have = w->next;
    for (size_t i = 0; i < w->n; i++) {
        commit_one(w, i, w->have.at[i]);
        CRASH_POINT(cursor_committed);
    }
    w->failures = 0;
    w->asked_at = now; /* as good as an answer */
    w->due = w->is_full ? now : mono_add_us(w->began, w->interval_us);
    begin_batch(w);
    idle(w, now);
}

static void mismatched(struct writer *w, struct mono now)
{
    CRASH_POINT(watermark_mismatch);
    (void)pthread_mutex_lock(&w->lock);
    w->stats.mismatches++;
    (void)pthread_mutex_unlock(&w->lock);
    log_warn("store '%s': its watermark is not where this process left it; going on from the store's",
             w->ops->name);
    hold_everything(w);
    new_token(w); /* numbers may come again, and with them a late batch of ours */
    w->state = WRITER_ASKING;
    if (w->failures) /* again without anything applied between: someone else writes under our name */
        back_off(w, now);
    else
        w->failures = 1;
}

static void send(struct writer *w, struct mono now)
{
    struct err err = {0};
    enum store_result r = w->ops->apply(w->self, &w->have, &w->next, &err);
    struct mono after = w->mono_now(w->user);

    switch (r) {
    case STORE_APPLIED:
    case STORE_DUPLICATE:
        worked(w);
        count_batch(w, r == STORE_DUPLICATE, mono_diff_us(after, now));
        commit(w, after);
        break;
    case STORE_MISMATCH:
        worked(w);
        mismatched(w, after);
        break;
    case STORE_FAILED:
        failed(w, after, &err);
        break;
    }
}

/* ---- the machine ---- */

static int64_t until(struct mono t, struct mono now)
{
    return t.us > now.us ? mono_diff_us(t, now) : 0;
}

int64_t writer_step(struct writer *w)
{
    struct mono now = w->mono_now(w->user);
    bool is_hurried = atomic_exchange(&w->woken, false);

    if (now.us < w->retry_at.us)
        return until(w->retry_at, now);
    if (w->state == WRITER_ASKING)
        ask(w, now);
    else if (w->state == WRITER_READING && (now.us >= w->due.us || is_hurried))
        read_batch(w, now);
    if (w->state == WRITER_SENDING)
        send(w, now);
    now = w->mono_now(w->user);
    if (w->retry_at.us > now.us)
        return until(w->retry_at, now);
    return w->state == WRITER_READING ? until(w->due, now) : 0;
}

/* ---- the thread ---- */

/* Returns early when it is to stop, and, but for the last waits, when it was woken. */
static void wait_for(struct writer *w, int64_t us)
{
    struct mono end = mono_add_us(mono_now(), us);
    struct timespec ts = {.tv_sec = end.us / 1000000, .tv_nsec = end.us % 1000000 * 1000};
    bool is_last;
    int e = 0;

    (void)pthread_mutex_lock(&w->lock);
    is_last = w->is_stopping;
    while (e != ETIMEDOUT && (is_last || (!w->is_stopping && !atomic_load(&w->woken))))
        e = pthread_cond_timedwait(&w->cond, &w->lock, &ts);
    (void)pthread_mutex_unlock(&w->lock);
}

static bool is_stopping(struct writer *w, struct mono *out_at)
{
    bool is;

    (void)pthread_mutex_lock(&w->lock);
    is = w->is_stopping;
    *out_at = w->stop_at;
    (void)pthread_mutex_unlock(&w->lock);
    return is;
}

/* The workers have stopped: when nothing moves any more, all is in the store. */
static void flush(struct writer *w, struct mono stop_at)
{
    w->is_dry = false;
    while (!w->is_dry && mono_now().us < stop_at.us) {
        int64_t us;

        atomic_store(&w->woken, true);
        us = writer_step(w);
        if (w->retry_at.us > w->mono_now(w->user).us && us > 0) /* else it is due at once, or dry */
            wait_for(w, us < until(stop_at, mono_now()) ? us : until(stop_at, mono_now()));
    }
}

static void *writer_main(void *user)
{
    struct writer *w = user;
    struct mono stop_at;

    while (!is_stopping(w, &stop_at)) {
        int64_t us = writer_step(w);

        if (us > 0)
            wait_for(w, us);
    }
    flush(w, stop_at);
    return NULL;
}

enum err_code writer_start(struct writer *w, struct err *err)
{
    enum err_code e = ERR_OK;
    sigset_t all, old;

    (void)sigfillset(&all); /* signals are main's */
    (void)pthread_sigmask(SIG_BLOCK, &all, &old);
    w->is_started = pthread_create(&w->thread, NULL, writer_main, w) == 0;
    if (w->is_started)
        (void)pthread_setname_np(w->thread, w->ops->name);
    else
        e = err_set(err, ERR_IO, "cannot start the thread of store '%s'", w->ops->name);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return e;
}

void writer_stop(struct writer *w, int64_t wait_us)
{
    if (!w || !w->is_started)
        return;
    (void)pthread_mutex_lock(&w->lock);
    w->is_stopping = true;
    w->stop_at = mono_add_us(mono_now(), wait_us);
    (void)pthread_cond_signal(&w->cond);
    (void)pthread_mutex_unlock(&w->lock);
    (void)pthread_join(w->thread, NULL);
    w->is_started = false;
}

void writer_wake_mt(struct writer *w)
{
    (void)pthread_mutex_lock(&w->lock);
    atomic_store(&w->woken, true);
    (void)pthread_cond_signal(&w->cond);
    (void)pthread_mutex_unlock(&w->lock);
}

void writer_stats_mt(struct writer *w, struct writer_stats *out)
{
    struct wall now = w->wall_now(w->user), since;

    (void)pthread_mutex_lock(&w->lock);
    *out = w->stats;
    since = w->pending_since;
    (void)pthread_mutex_unlock(&w->lock);
    for (size_t i = 0; i < w->n; i++)
        out->queued += journal_cursor_unread_mt(w->cursors[i]);
    out->lag_us = journals_lag(w, now);
    if (since.us && now.us - since.us > out->lag_us)
        out->lag_us = now.us - since.us;
}

void writer_end_mt(const struct writer *w, struct watermark *out)
{
    *out = (struct watermark){0};
    for (size_t i = 0; i < w->n && i < WATERMARK_WORKERS; i++)
        out->at[out->n++] = journal_cursor_end_mt(w->cursors[i]);
}

bool writer_has_mt(const struct writer *w, const struct watermark *end)
{
    for (unsigned i = 0; i < end->n && i < w->n; i++)
        if (journal_cursor_committed(w->cursors[i]) < end->at[i])
            return false;
    return true;
}
