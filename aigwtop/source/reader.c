/* SPDX-License-Identifier: Apache-2.0 */
/* One thread that asks its source, hands the sample over and rests; everything that both threads touch is under the mutex, and the
 * mutex is never held while the source is asked.
 *
 *     LIVE ──a failure──► DOWN: 0.5 s, doubled to 15 s, a fifth by chance ──an answer──► LIVE
 *                         AUTH: every 15 s
 *
 * A tick that comes while one is under way is skipped. */
#include "aigwtop/source/reader.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "libshared/base/id.h"
#include "libshared/base/log.h"

#define RETRY_MIN_MS  500
#define RETRY_MAX_MS  15000
#define WAITING_MAX   3600u
#define LOG_EVERY_US  INT64_C(600000000)
#define REPLAY_GAP_MS 10000

struct reader {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int fd;
    /* under the lock */
    struct ask ask;
    int64_t interval_ms;
    bool is_over, is_hurried, has_ended;
    struct source next;
    LIST(struct sample *) waiting;
    /* the thread's */
    struct source source, second;
    bool is_chosen;
    enum source_state state;
    unsigned tries;
    struct mono told;
};

/* ---- handing over ---------------------------------------------------------------------------------------------------- */

static void hand_over(struct reader *r, struct sample *s)
{
    uint64_t one = 1;
    bool is_news = s->state == SOURCE_LIVE || s->state == SOURCE_EMPTY;

    (void)pthread_mutex_lock(&r->lock);
    if (r->waiting.n && (!is_news || r->waiting.n >= WAITING_MAX)) {
        struct sample **last = &r->waiting.v[r->waiting.n - 1];

        if ((*last)->state != SOURCE_LIVE || r->waiting.n >= WAITING_MAX) {
            sample_free(*last);
            r->waiting.n--;
        }
    }
    *LIST_ADD(&r->waiting) = s;
    (void)pthread_mutex_unlock(&r->lock);
    (void)!write(r->fd, &one, sizeof(one));
}

struct sample *reader_take(struct reader *r)
{
    struct sample *s = NULL;
    uint64_t count;

    (void)pthread_mutex_lock(&r->lock);
    if (r->waiting.n) {
        s = r->waiting.v[0];
        memmove(r->waiting.v, r->waiting.v + 1, --r->waiting.n * sizeof(*r->waiting.v));
    }
    if (!r->waiting.n)
        (void)!read(r->fd, &count, sizeof(count));
    (void)pthread_mutex_unlock(&r->lock);
    return s;
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

static void tell(struct reader *r, const struct sample *s)
{
    struct mono now = mono_now();

    if (s->state == r->state &&
        (s->state == SOURCE_LIVE || s->state == SOURCE_EMPTY || mono_diff_us(now, r->told) < LOG_EVERY_US))
        return;
    r->told = now;
    if (s->state == SOURCE_DOWN || s->state == SOURCE_AUTH)
        log_warn("aigwtop: %s: %s (try %u)", s->source, s->text, s->tries);
    else if (r->state == SOURCE_DOWN || r->state == SOURCE_AUTH)
        log_info("aigwtop: %s answers again", s->source);
}

static int64_t retry_ms(enum source_state state, unsigned tries)
{
    int64_t ms = tries < 6 ? (int64_t)RETRY_MIN_MS << (tries - 1) : RETRY_MAX_MS;
    uint32_t chance;

    random_bytes(&chance, sizeof(chance));
    if (state == SOURCE_AUTH || ms > RETRY_MAX_MS)
        ms = RETRY_MAX_MS;
    return ms - (int64_t)(chance % (uint32_t)(ms / 5));
}

static struct sample *read_one(struct source *from, const struct ask *ask, struct err *err)
{
    struct sample *s = sample_new();

    *err = (struct err){0};
    if (!from->ops->read(from->self, ask, s, err))
        return s;
    s->state = err->code == ERR_FORBIDDEN ? SOURCE_AUTH : SOURCE_DOWN;
    (void)snprintf(s->text, sizeof(s->text), "%.255s", err_text(err));
    s->now = wall_now();
    return s;
}

/* Until one of two sources answered, both are asked; the one that did is the source from then on. */
static struct sample *read_any(struct reader *r, const struct ask *ask)
{
    struct err err;
    struct sample *s = read_one(&r->source, ask, &err), *t;

    if (r->second.ops && !r->is_chosen && s->state != SOURCE_LIVE) {
        t = read_one(&r->second, ask, &err);
        if (t->state == SOURCE_LIVE) {
            struct source other = r->source;

            r->source = r->second;
            r->second = other;
            sample_free(s);
            s = t;
        } else {
            sample_free(t);
        }
    }
    r->is_chosen |= s->state == SOURCE_LIVE;
    return s;
}

/* Reads once; how long to rest. */
static int64_t turn(struct reader *r, const struct ask *ask, int64_t interval_ms)
{
    struct mono began = mono_now();
    struct sample *s = read_any(r, ask);
    int64_t rest_ms = interval_ms - mono_diff_us(mono_now(), began) / 1000;

    if (r->source.ops->is_recording) { /* as it was told then */
        rest_ms = source_replay_gap_ms(&r->source);
        rest_ms = rest_ms < 0 || rest_ms > REPLAY_GAP_MS ? REPLAY_GAP_MS : rest_ms;
    } else if (s->state == SOURCE_DOWN || s->state == SOURCE_AUTH) {
        s->tries = ++r->tries;
        rest_ms = s->retry_in_ms = retry_ms(s->state, r->tries);
    } else {
        r->tries = 0;
    }
    if (!r->source.ops->is_recording)
        tell(r, s);
    r->state = s->state;
    hand_over(r, s);
    return rest_ms > 0 ? rest_ms : 1;
}

static void take_next(struct reader *r)
{
    if (!r->next.ops)
        return;
    source_free(&r->source);
    source_free(&r->second);
    r->source = r->next;
    r->next = (struct source){0};
    r->is_chosen = false;
    r->tries = 0;
}

static void rest(struct reader *r, int64_t ms)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    while (!r->is_over && !r->is_hurried)
        if (pthread_cond_timedwait(&r->wake, &r->lock, &until))
            break;
    r->is_hurried = false;
}

static void *run(void *arg)
{
    struct reader *r = arg;

    (void)pthread_mutex_lock(&r->lock);
    while (!r->is_over) {
        struct ask ask;
        int64_t ms, interval_ms = r->interval_ms;

        take_next(r);
        if (r->source.ops->is_recording && source_replay_is_over(&r->source)) {
            rest(r, 3600000);
            continue;
        }
        ask = r->ask;
        (void)pthread_mutex_unlock(&r->lock);
        ms = turn(r, &ask, interval_ms);
        (void)pthread_mutex_lock(&r->lock);
        rest(r, ms);
    }
    r->has_ended = true;
    (void)pthread_cond_broadcast(&r->wake);
    (void)pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* ---- what the screen says -------------------------------------------------------------------------------------------- */

void reader_ask(struct reader *r, const struct ask *ask)
{
    (void)pthread_mutex_lock(&r->lock);
    r->ask = *ask;
    (void)pthread_mutex_unlock(&r->lock);
}

void reader_set_interval(struct reader *r, int64_t interval_ms)
{
    (void)pthread_mutex_lock(&r->lock);
    r->interval_ms = interval_ms;
    (void)pthread_mutex_unlock(&r->lock);
}

void reader_hurry(struct reader *r)
{
    (void)pthread_mutex_lock(&r->lock);
    r->is_hurried = true;
    (void)pthread_cond_broadcast(&r->wake);
    (void)pthread_mutex_unlock(&r->lock);
}

void reader_switch(struct reader *r, struct source s)
{
    (void)pthread_mutex_lock(&r->lock);
    source_free(&r->next);
    r->next = s;
    r->is_hurried = true;
    (void)pthread_cond_broadcast(&r->wake);
    (void)pthread_mutex_unlock(&r->lock);
}

int reader_fd(const struct reader *r)
{
    return r->fd;
}

/* ---- life ------------------------------------------------------------------------------------------------------------ */

struct reader *reader_new(struct source first, struct source second, int64_t interval_ms,
                          const struct ask *ask)
{
    struct reader *r = calloc(1, sizeof(*r));
    pthread_condattr_t attr;
    sigset_t all, was;

    if (!r)
        abort();
    r->source = first;
    r->second = second;
    r->interval_ms = interval_ms;
    r->ask = *ask;
    r->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (void)pthread_mutex_init(&r->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&r->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    /* Signals are the screen's: one that came here would not end its wait. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &was);
    if (r->fd < 0 || pthread_create(&r->thread, NULL, run, r))
        abort();
    (void)pthread_sigmask(SIG_SETMASK, &was, NULL);
    return r;
}

static bool has_ended(struct reader *r, int64_t patience_ms)
{
    struct timespec until;
    bool ended;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += patience_ms % 1000 * 1000000;
    until.tv_sec += patience_ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)pthread_mutex_lock(&r->lock);
    r->is_over = true;
    (void)pthread_cond_broadcast(&r->wake);
    while (!r->has_ended)
        if (pthread_cond_timedwait(&r->wake, &r->lock, &until))
            break;
    ended = r->has_ended;
    (void)pthread_mutex_unlock(&r->lock);
    return ended;
}

void reader_free(struct reader *r, int64_t patience_ms)
{
    if (!r)
        return;
    if (!has_ended(r, patience_ms)) {
        (void)pthread_detach(r->thread);
        return;
    }
    (void)pthread_join(r->thread, NULL);
    source_free(&r->source);
    source_free(&r->second);
    source_free(&r->next);
    for (size_t i = 0; i < r->waiting.n; i++)
        sample_free(r->waiting.v[i]);
    LIST_RELEASE(&r->waiting);
    (void)close(r->fd);
    (void)pthread_cond_destroy(&r->wake);
    (void)pthread_mutex_destroy(&r->lock);
    free(r);
}
