/* SPDX-License-Identifier: Apache-2.0 */
/* Two threads. The recorder: on each round it tends every journal, reads what is new, folds attempts into
 * their request, hands both to the sinks, flushes them and lets the journals forget. The syncer: brings what
 * was read to the disk, at most every SYNC_US, so that a slow disk holds up neither the recorder nor, behind
 * it, the workers.
 *
 * A journal forgets only what every sink called safe. What cannot be called safe yet stays, and is neither
 * read nor handed over again in this run: the position moves on, the release waits. */
#include "gatewayd/journal/recorder.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "gatewayd/journal/hold.h"
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
    struct hold *hold;
    struct recorded_buf { /* attempts of one request, side by side for the sinks */
        struct fact_attempt *a;
        size_t cap;
    } fold;
    struct {
        bool is_told, was_recovered;
        struct mono bad;              /* when it last was */
    } * state;                        /* by journal: trouble is reported once per change */
    bool hold_is_full, hold_is_stuck; /* reported */

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
    r->hold = hold_new();
    (void)pthread_mutex_init(&r->sync_lock, NULL);
    (void)pthread_condattr_init(&mono);
    (void)pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&r->sync_cond, &mono);
    (void)pthread_condattr_destroy(&mono);
    for (; r->n < n; r->n++) {
        r->journals[r->n] = journals[r->n];
        journal_set_wake(journals[r->n], r->wake_fd);
    }
    return r;
}

void recorder_add_sink(struct recorder *r, const struct sink_ops *ops, void *self)
{
    if (r->n_sinks == SINKS_MAX)
        abort();
    r->sinks[r->n_sinks++] = (struct sink){ops, self};
}

/* ---- folding ---- */

static void hand_over(struct recorder *r, const struct recorded *rec)
{
    for (size_t i = 0; i < r->n_sinks; i++)
        r->sinks[i].ops->request(r->sinks[i].self, rec);
}

static void gather(struct recorder *r, const struct held *held, struct recorded *out)
{
    if (!held)
        return;
    if (held->n > r->fold.cap) {
        r->fold.a = realloc(r->fold.a, held->n * sizeof(*r->fold.a));
        if (!r->fold.a)
            abort();
        r->fold.cap = held->n;
    }
    for (size_t i = 0; i < held->n; i++)
        r->fold.a[i] = held->at[i].a;
    out->a = r->fold.a;
    out->n = held->n;
}

static void deliver_settled(struct recorder *r, const struct journal_record *rec)
{
    struct recorded out = {.rq = &rec->rq, .is_recovered = rec->is_recovered};

    gather(r, hold_settle(r->hold, &rec->request, rec->seq), &out);
    hand_over(r, &out);
}

static void deliver_unsettled(void *user, const struct held *held)
{
    struct fact_request rq = {.id = held->request,
                              .tenant = held->tenant,
                              .key = held->key,
                              .op = OP_COUNT,
                              .status = STATUS_ERROR,
                              .error = ERR_INTERNAL,
                              .ttft_us = -1};
    struct recorded out = {.rq = &rq, .is_recovered = held->is_recovered, .is_unsettled = true};

    gather(user, held, &out);
    if (held->n) {
        const struct fact_attempt *last = &out.a[held->n - 1];

        rq.provider = last->provider;
        rq.model = last->model;
        rq.attempts = last->number;
    }
    hand_over(user, &out);
}

/* More requests wait than can be under way: the attempt goes out alone rather than not at all. */
static void deliver_alone(struct recorder *r, const struct journal_record *rec)
{
    struct held_attempt at = {rec->seq, rec->attempt.a};
    struct held one = {.request = rec->request,
                       .tenant = rec->attempt.tenant,
                       .key = rec->attempt.key,
                       .is_recovered = rec->is_recovered,
                       .n = 1,
                       .at = &at};

    if (!r->hold_is_full)
        log_error("recorder: over %u requests wait for their end; further attempts are recorded on their own",
                  HOLD_MAX);
    r->hold_is_full = true;
    deliver_unsettled(r, &one);
}

static void take(struct recorder *r, size_t i, const struct journal_record *rec)
{
    if (rec->type == JOURNAL_SETTLE)
        deliver_settled(r, rec);
    else if (!hold_add(r->hold, (unsigned)i, rec))
        deliver_alone(r, rec);
}

/* ---- one round ---- */

/* True when there may be more at once. Otherwise the next round is soon enough, so that load makes batches
 * larger rather than more frequent. */
static bool drain(struct recorder *r, size_t i, bool *io_any)
{
    struct journal_record rec;
    struct err err;
    size_t n = 0;

    while (n < READ_AT_ONCE) {
        if (journal_read(r->journals[i], &rec, &err)) {
            take(r, i, &rec);
            n++;
        } else if (err.code) {
            log_error("journal: %s", err_text(&err));
        } else {
            break;
        }
    }
    if (!r->state[i].was_recovered && journal_is_recovered(r->journals[i])) {
        r->state[i].was_recovered = true;
        hold_unsettled(r->hold, (unsigned)i, deliver_unsettled, r);
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

static void forget(struct recorder *r)
{
    struct err err = {0};

    for (size_t i = 0; i < r->n; i++) {
        if (hold_save(r->hold, (unsigned)i, journal_dir(r->journals[i]), &err)) {
            if (!r->hold_is_stuck)
                log_error("recorder: %s; the journal keeps everything until that works", err_text(&err));
            r->hold_is_stuck = true;
            return;
        }
    }
    r->hold_is_stuck = false;
    for (size_t i = 0; i < r->n; i++)
        journal_release_read(r->journals[i]);
    hold_saved(r->hold);
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
            forget(r);
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
    forget(r); /* a sink that is stuck must not make the next run repeat what others have */
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

    for (size_t i = 0; i < r->n; i++) {
        struct err why = {0};

        if (hold_load(r->hold, (unsigned)i, journal_dir(r->journals[i]), journal_position(r->journals[i]),
                      &why))
            log_error("recorder: %s", err_text(&why));
    }
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
    for (size_t i = 0; i < r->n; i++)
        journal_set_wake(r->journals[i], -1);
    for (size_t i = 0; i < r->n_sinks; i++)
        if (r->sinks[i].ops->free)
            r->sinks[i].ops->free(r->sinks[i].self);
    hold_free(r->hold);
    (void)close(r->wake_fd);
    (void)pthread_mutex_destroy(&r->sync_lock);
    (void)pthread_cond_destroy(&r->sync_cond);
    free(r->fold.a);
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
        uint64_t written = 0, dropped = 0;

        if (r->sinks[i].ops->stats)
            r->sinks[i].ops->stats(r->sinks[i].self, &written, &dropped);
        s.log_written += written;
        s.log_dropped += dropped;
    }
    return s;
}
