/* SPDX-License-Identifier: Apache-2.0 */
/* Two threads. The recorder: on each round it tends every journal, reads what is new, hands each SETTLE to the sinks,
 * flushes them, commits, and lets the journals forget what all consumers committed. The syncer: brings what
 * was appended to the disk, at most every SYNC_US, so that a slow disk holds up neither the recorder nor, behind
 * it, the workers.
 *
 * Only what every sink called safe is committed. What cannot be called safe yet is neither
 * read nor handed over again in this run: the position moves on, the commit waits. */
#include "gatewayd/journal/recorder.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "libshared/base/log.h"

#define ROUND_MS     100
#define SYNC_US      100000 /* what a power loss may take */
#define READ_AT_ONCE 8192u  /* records of one journal before the others have their turn */
#define SINKS_MAX    8u
#define LAST_FLUSHES 20      /* rounds that a slow sink gets at the end */
#define CALM_US      5000000 /* without trouble before it is called over: a disk that is nearly full flickers */

struct sink {
    const struct sink_ops *ops;
    void *self;
};

struct recorder {
    struct journal **journals;
    size_t n;
    struct sink sinks[SINKS_MAX];
    size_t n_sinks;
    struct {
        struct journal_cursor *cursor;
        bool is_told;
        struct mono bad; /* when it last was */
    } * state;           /* by journal: trouble is reported once per change */

    pthread_t thread, syncer;
    bool is_started;
    int wake_fd;
    _Atomic bool is_stopping, wants_reopen;
    _Atomic uint64_t batches;

    pthread_mutex_t sync_lock;
    pthread_cond_t sync_cond;
    bool sync_stops;
};

struct recorder *recorder_new(struct journal *const *journals, size_t n, struct err *err)
{
    struct recorder *r = calloc(1, sizeof(*r));
    pthread_condattr_t mono;

    if (!r)
        abort();
    r->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (r->wake_fd < 0) {
        (void)err_set(err, ERR_IO, "recorder: eventfd: %s", strerror(errno));
        free(r);
        return NULL;
    }
    r->journals = calloc(n + 1, sizeof(struct journal *));
    r->state = calloc(n + 1, sizeof(*r->state));
    if (!r->journals || !r->state)
        abort();
    (void)pthread_mutex_init(&r->sync_lock, NULL);
    (void)pthread_condattr_init(&mono);
    (void)pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&r->sync_cond, &mono);
    (void)pthread_condattr_destroy(&mono);
    for (; r->n < n; r->n++) {
        r->journals[r->n] = journals[r->n];
        journal_set_wake(journals[r->n], r->wake_fd);
        r->state[r->n].cursor = journal_cursor_new(journals[r->n], "log");
        journal_cursor_want(r->state[r->n].cursor, 1u << JOURNAL_SETTLE);
        journal_cursor_keep(r->state[r->n].cursor);
    }
    return r;
}

void recorder_add_sink(struct recorder *r, const struct sink_ops *ops, void *self)
{
    if (r->n_sinks == SINKS_MAX)
        abort();
    r->sinks[r->n_sinks++] = (struct sink){ops, self};
}

/* ---- one round ---- */

static void hand_over(struct recorder *r, const struct journal_record *rec)
{
    const struct recorded out = {.rq = &rec->settle.rq,
                                 .a = rec->settle.a,
                                 .n = record_attempts(&rec->settle.rq),
                                 .is_recovered = rec->is_recovered};

    for (size_t i = 0; i < r->n_sinks; i++)
        r->sinks[i].ops->request(r->sinks[i].self, &out);
}

/* True when there may be more at once. Otherwise the next round is soon enough, so that load makes batches
 * larger rather than more frequent. */
static bool drain(struct recorder *r, size_t i, bool *io_any)
{
    struct journal_record rec;
    struct err err;
    size_t n = 0;

    while (n < READ_AT_ONCE) {
        if (journal_cursor_read(r->state[i].cursor, &rec, &err)) {
            hand_over(r, &rec);
            n++;
        } else if (err.code) {
            log_error("journal: %s", err_text(&err));
        } else {
            break;
        }
    }
    *io_any |= n > 0;
    return n == READ_AT_ONCE;
}

static void tend(struct recorder *r, size_t i)
{
    struct err err = {0};
    bool is_bad = journal_tend(r->journals[i], &err) != ERR_OK;

    if (is_bad)
        r->state[i].bad = mono_now();
    if (is_bad && !r->state[i].is_told)
        log_error("journal: %s; requests are refused when the segments at hand are full", err_text(&err));
    if (is_bad || !r->state[i].is_told || mono_diff_us(mono_now(), r->state[i].bad) < CALM_US) {
        r->state[i].is_told |= is_bad;
        return;
    }
    log_info("journal: '%s' can allocate again", journal_dir(r->journals[i]));
    r->state[i].is_told = false;
}

static bool flush_sinks(struct recorder *r)
{
    bool is_safe = true;

    for (size_t i = 0; i < r->n_sinks; i++)
        if (r->sinks[i].ops->flush && !r->sinks[i].ops->flush(r->sinks[i].self))
            is_safe = false;
    return is_safe;
}

static void commit(struct recorder *r)
{
    for (size_t i = 0; i < r->n; i++)
        journal_cursor_commit(r->state[i].cursor, journal_cursor_position(r->state[i].cursor));
}

static void forget(struct recorder *r)
{
    for (size_t i = 0; i < r->n; i++)
        journal_free_committed(r->journals[i]);
}

static void round_once(struct recorder *r)
{
    bool any = false, more;

    if (atomic_exchange(&r->wants_reopen, false))
        for (size_t i = 0; i < r->n_sinks; i++)
            if (r->sinks[i].ops->reopen)
                r->sinks[i].ops->reopen(r->sinks[i].self);
    do {
        more = false;
        for (size_t i = 0; i < r->n; i++) {
            tend(r, i);
            more |= drain(r, i, &any);
        }
        if (flush_sinks(r))
            commit(r);
        forget(r); /* other consumers may have moved */
    } while (more);
    if (any)
        atomic_fetch_add_explicit(&r->batches, 1, memory_order_relaxed);
}

static void *recorder_main(void *user)
{
    struct recorder *r = user;
    struct pollfd p = {.fd = r->wake_fd, .events = POLLIN};
    uint64_t n;

    while (!atomic_load(&r->is_stopping)) {
        round_once(r);
        if (poll(&p, 1, ROUND_MS) > 0)
            (void)!read(r->wake_fd, &n, sizeof(n));
    }
    round_once(r);
    for (int i = 0; i < LAST_FLUSHES && !flush_sinks(r); i++)
        (void)poll(NULL, 0, ROUND_MS);
    commit(r); /* a sink that is stuck is no book that others wait for */
    forget(r);
    return NULL;
}

/* ---- syncing ---- */

static void sync_all(struct recorder *r, bool *told)
{
    enum err_code e = ERR_OK;

    for (size_t i = 0; i < r->n; i++)
        if (journal_sync_mt(r->journals[i]))
            e = ERR_IO;
    if (e && !*told)
        log_error(
            "journal: the disk refuses to sync; records survive a crash of the process but not a power loss");
    *told = e != ERR_OK;
}

static void *syncer_main(void *user)
{
    struct recorder *r = user;
    bool told = false, stops = false;

    while (!stops) {
        struct mono next = mono_add_us(mono_now(), SYNC_US);
        struct timespec until = {.tv_sec = next.us / 1000000, .tv_nsec = next.us % 1000000 * 1000};

        (void)pthread_mutex_lock(&r->sync_lock);
        while (!r->sync_stops && pthread_cond_timedwait(&r->sync_cond, &r->sync_lock, &until) != ETIMEDOUT)
            ;
        stops = r->sync_stops;
        (void)pthread_mutex_unlock(&r->sync_lock);
        sync_all(r, &told);
    }
    return NULL;
}

/* ---- life ---- */

enum err_code recorder_start(struct recorder *r, struct err *err)
{
    enum err_code e = ERR_OK;
    sigset_t all, old;

    (void)sigfillset(&all); /* signals are main's */
    (void)pthread_sigmask(SIG_BLOCK, &all, &old);
    if (pthread_create(&r->thread, NULL, recorder_main, r)) {
        e = err_set(err, ERR_IO, "cannot start the recorder thread");
    } else if (pthread_create(&r->syncer, NULL, syncer_main, r)) {
        atomic_store(&r->is_stopping, true);
        (void)pthread_join(r->thread, NULL);
        e = err_set(err, ERR_IO, "cannot start the sync thread");
    } else {
        r->is_started = true;
        (void)pthread_setname_np(r->thread, "recorder");
        (void)pthread_setname_np(r->syncer, "journal-sync");
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return e;
}

static void wake(struct recorder *r)
{
    uint64_t one = 1;

    (void)!write(r->wake_fd, &one, sizeof(one));
}

static void join(struct recorder *r)
{
    atomic_store(&r->is_stopping, true);
    wake(r);
    (void)pthread_join(r->thread, NULL);
    (void)pthread_mutex_lock(&r->sync_lock);
    r->sync_stops = true;
    (void)pthread_cond_signal(&r->sync_cond);
    (void)pthread_mutex_unlock(&r->sync_lock);
    (void)pthread_join(r->syncer, NULL);
}

void recorder_stop(struct recorder *r)
{
    if (!r)
        return;
    if (r->is_started)
        join(r);
    for (size_t i = 0; i < r->n; i++) {
        journal_set_wake(r->journals[i], -1);
        journal_cursor_free(r->state[i].cursor);
    }
    for (size_t i = 0; i < r->n_sinks; i++)
        if (r->sinks[i].ops->free)
            r->sinks[i].ops->free(r->sinks[i].self);
    (void)close(r->wake_fd);
    (void)pthread_mutex_destroy(&r->sync_lock);
    (void)pthread_cond_destroy(&r->sync_cond);
    free(r->journals);
    free(r->state);
    free(r);
}

void recorder_reopen_mt(struct recorder *r)
{
    atomic_store(&r->wants_reopen, true);
    wake(r);
}

struct recorder_stats recorder_stats_mt(const struct recorder *r)
{
    struct recorder_stats s = {.batches = atomic_load_explicit(&r->batches, memory_order_relaxed)};

    for (size_t i = 0; i < r->n_sinks; i++) {
        struct sink_stats own = {0};

        if (r->sinks[i].ops->stats)
            r->sinks[i].ops->stats(r->sinks[i].self, &own);
        s.log_written += own.written;
        s.log_dropped += own.dropped;
        s.log_queued += own.queued;
        if (own.last_written.us > s.log_last_written.us)
            s.log_last_written = own.last_written;
    }
    for (size_t i = 0; i < r->n; i++)
        s.log_queued += journal_cursor_unread_mt(r->state[i].cursor);
    return s;
}
