/* SPDX-License-Identifier: Apache-2.0 */
/* The worker appends, the recorder keeps house, consumers read (cursor.c); the worker takes no lock:
 *
 *   chain (oldest first, linked by the recorder)
 *     old run …  │ read by some │ … │ current │ ready │ ready ──► NULL
 *        ^ head        ^ cursors         ^ worker         ^ tail
 *
 * The worker only follows `next` (acquire) and stores into its current segment; the recorder does the rest. A
 * record is published by storing its header word last (release). When a record may not fit, the worker seals
 * the segment and goes to the next one; the seal is the last thing that it ever stores there, so the recorder
 * may recycle what every cursor passed a seal of. `end` follows what was published and only tells how far the
 * worker is.
 *
 * Sequence numbers never come twice, not even when the disk lost the newest segments or a worker's directory went away
 * and came again: a run that writes begins at the highest of the clock, of what it finds, and of what was removed
 * (journal_floor). Stores remember them. */
#include "gatewayd/journal/journal.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gatewayd/journal/journal_priv.h"
#include "libshared/base/crash.h"
#include "libshared/base/log.h"

#define SEGMENTS_MIN 4u  /* current, two ready, one being read */
#define READY        2u  /* segments ahead of the worker when it is calm */
#define READY_MAX    64u /* and when it is not: a starved recorder may be away for seconds */
#define READY_FOR    8u  /* rounds at the pace of the fastest one lately */
/* Kept when new requests are refused: for each that is open its end, with two attempts of common length (one that has
 * more leaves from the rest), and some more for those that were admitted at the same time. */
#define OPEN_BYTES  (RECORD_ATTEMPT_MAX + RECORD_SETTLE_MAX(1))
#define ROOM_BYTES  (JOURNAL_SEGMENT / 2)
#define CLOCK_SHIFT 14 /* of microseconds: 61 segments a second do not overtake it */
/* Open requests restate themselves when their newest statement is a quarter of the journal back, but not for every
 * segment that others fill. */
#define FAR_SHARE 4u
#define FAR_MAX   16u

_Static_assert(JOURNAL_SEGMENT >> 3 <= (size_t)1 << WALK_OFFSET_BITS, "an offset fits into its bits");
_Static_assert(JOURNAL_SEGMENT >= 4 * RECORD_PAYLOAD_MAX, "a segment holds records of any length");

struct range { /* to be brought to the disk */
    unsigned char *base;
    size_t from, to;
};

/* ---- opening ---- */

static int by_sequence(const void *a, const void *b)
{
    const struct segment *const *x = a, *const *y = b;

    return (*x)->sequence < (*y)->sequence ? -1 : (*x)->sequence > (*y)->sequence;
}

static void to_spare(struct journal *j, struct segment *s)
{
    atomic_store_explicit(&s->next, j->spare, memory_order_relaxed);
    j->spare = s;
    j->n_spare++;
}

static void to_chain(struct journal *j, struct segment *s)
{
    if (j->tail)
        atomic_store_explicit(&j->tail->next, s, memory_order_release);
    else
        j->head = s;
    j->tail = s;
}

/* Release goes from old to new, so a mark in one segment says that all older ones were released. */
static void forget_older(struct segment **list, size_t n)
{
    bool is_released = false;

    while (n-- > 0) {
        if (is_released)
            segment_set_released(list[n], (uint32_t)JOURNAL_SEGMENT);
        is_released = is_released || list[n]->released != SEGMENT_DATA;
    }
}

static void link_old(struct journal *j, struct segment **list, size_t n)
{
    if (n)
        qsort(list, n, sizeof(struct segment *), by_sequence);
    forget_older(list, n);
    for (size_t i = 0; i < n; i++) {
        j->next_sequence = list[i]->sequence + 1;
        if (segment_is_released(list[i]))
            to_spare(j, list[i]);
        else
            to_chain(j, list[i]);
    }
    atomic_fetch_add(&j->segments, n);
}

static enum err_code open_old(struct journal *j, struct err *err)
{
    DIR *d = opendir(j->dir);
    struct segment **list = NULL;
    size_t n = 0, cap = 0;
    enum err_code e = ERR_OK;

    if (!d)
        return err_set(err, ERR_IO, "cannot read journal directory '%s': %s", j->dir, strerror(errno));
    for (struct dirent *ent; !e && (ent = readdir(d));) {
        struct err why = {0};
        size_t len = strlen(ent->d_name);
        struct segment *s;

        if (len < 4 || strcmp(ent->d_name + len - 4, ".seg") != 0)
            continue;
        s = segment_open(j->dir, ent->d_name, j->worker, &why);
        if (!s && why.code == ERR_BAD_BODY) {
            atomic_fetch_add(&j->torn, 1);
            log_error("journal: %s", err_text(&why));
        } else if (!s && why.code) {
            e = err_set(err, why.code, "%s", err_text(&why));
        }
        if (!s)
            continue;
        if (n == cap) {
            struct segment **more = realloc(list, (cap = cap ? 2 * cap : 16) * sizeof(struct segment *));

            if (!more)
                abort();
            list = more;
        }
        list[n++] = s;
    }
    (void)closedir(d);
    link_old(j, list, n);
    free(list);
    return e;
}

static enum err_code lock_dir(struct journal *j, const char *dir, struct err *err)
{
    if ((mkdir(dir, 0700) && errno != EEXIST) || (mkdir(j->dir, 0700) && errno != EEXIST))
        return err_set(err, ERR_IO, "cannot create journal directory '%s': %s", j->dir, strerror(errno));
    j->dir_fd = open(j->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (j->dir_fd < 0)
        return err_set(err, ERR_IO, "cannot open journal directory '%s': %s", j->dir, strerror(errno));
    if (flock(j->dir_fd, LOCK_EX | LOCK_NB))
        return err_set(err, ERR_CONFLICT, "journal directory '%s' is in use by another process", j->dir);
    return ERR_OK;
}

/* See the head of this file. A journal that nobody writes to keeps away from the clock: where it ends is what the next
 * run must find too, on the disk, wherever the clock is then. */
static void begin_numbers(struct journal *j, bool is_written)
{
    uint64_t by_clock = is_written && j->opened.us > 0 ? (uint64_t)j->opened.us >> CLOCK_SHIFT : 0;

    if (by_clock > j->next_sequence)
        j->next_sequence = by_clock;
    j->tended_sequence = j->first_sequence = j->next_sequence;
    atomic_store(&j->end, walk_seq(j->next_sequence, 0)); /* as if the worker were on the first new one */
}

/* The first segment that this run writes to, and the place where the worker begins. */
static void start_writing(struct journal *j)
{
    struct segment *s = j->head;

    while (s && s->is_old)
        s = atomic_load(&s->next);
    j->current = s;
    j->at = s ? SEGMENT_DATA : 0;
    j->syncing = s;
    j->synced_at = 0;
    atomic_store(&j->end, s ? walk_seq(s->sequence, SEGMENT_DATA) : walk_seq(j->next_sequence, 0));
}

static enum err_code prepare(struct journal *j, const char *dir, struct err *err)
{
    enum err_code e = lock_dir(j, dir, err);
    uint64_t floor;

    if (!e)
        e = open_old(j, err);
    floor = journal_floor(dir);
    j->next_sequence = floor > j->next_sequence ? floor : j->next_sequence;
    begin_numbers(j, j->max_segments > 0);
    if (!e && j->max_segments)
        e = journal_tend(j, err);
    if (!e)
        start_writing(j);
    return e;
}

struct journal *journal_open(const char *dir, unsigned worker, size_t max_bytes, struct err *err)
{
    struct journal *j = aligned_alloc(64, (sizeof(*j) + 63) & ~(size_t)63);

    if (!j)
        abort();
    memset(j, 0, sizeof(*j));
    j->wake_fd = j->dir_fd = -1;
    j->worker = worker;
    j->max_segments = max_bytes / JOURNAL_SEGMENT;
    if (max_bytes && j->max_segments < SEGMENTS_MIN)
        j->max_segments = SEGMENTS_MIN;
    j->next_sequence = 1;
    j->opened = wall_now();
    atomic_store(&j->needed, NOT_NEEDED);
    (void)pthread_mutex_init(&j->chain_lock, NULL);
    if (asprintf(&j->dir, "%s/w%u", dir, worker) < 0)
        abort();
    if (prepare(j, dir, err)) {
        journal_close(j);
        return NULL;
    }
    return j;
}

static void unmap_all(struct segment *s)
{
    while (s) {
        struct segment *next = atomic_load(&s->next);

        segment_unmap(s);
        s = next;
    }
}

/* Of consumers; see journal_cursor_keep(). */
static void remove_positions(const char *dir)
{
    DIR *d = opendir(dir);

    for (struct dirent *ent; d && (ent = readdir(d));) {
        size_t len = strlen(ent->d_name);

        if (len > 3 && strcmp(ent->d_name + len - 3, ".at") == 0)
            (void)unlinkat(dirfd(d), ent->d_name, 0);
    }
    if (d)
        (void)closedir(d);
}

/* Its worker is no more and all of it was released. The directory stays when something was set aside in it, or when the
 * next run could not know where this one ended. */
static void remove_all(struct journal *j)
{
    struct err err = {0};
    char *slash = strrchr(j->dir, '/');
    enum err_code e;

    *slash = '\0';
    e = journal_raise_floor(j->dir, j->next_sequence, &err);
    *slash = '/';
    if (e) {
        log_warn("journal: %s", err_text(&err));
        return;
    }
    while (j->spare) {
        struct segment *s = j->spare;

        j->spare = atomic_load(&s->next);
        segment_remove(s, j->dir);
    }
    remove_positions(j->dir);
    (void)rmdir(j->dir);
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    if (!j->max_segments && !j->head && j->dir_fd >= 0)
        remove_all(j);
    unmap_all(j->head);
    unmap_all(j->spare);
    if (j->dir_fd >= 0)
        (void)close(j->dir_fd);
    (void)pthread_mutex_destroy(&j->chain_lock);
    free(j->dir);
    free(j);
}

unsigned journal_workers_on_disk(const char *dir)
{
    DIR *d = opendir(dir);
    unsigned most = 0;

    if (!d)
        return 0;
    for (struct dirent *ent; (ent = readdir(d));) {
        uint64_t w;

        if (ent->d_name[0] == 'w' && span_to_u64(span_of(ent->d_name + 1), &w) && w < 4096 && w >= most)
            most = (unsigned)w + 1;
    }
    (void)closedir(d);
    return most;
}

/* ---- worker ---- */

static void wake(struct journal *j)
{
    uint64_t one = 1;

    if (j->wake_fd >= 0)
        (void)!write(j->wake_fd, &one, sizeof(one));
}

static bool go_on_in_next(struct journal *j)
{
    struct segment *next = atomic_load_explicit(&j->current->next, memory_order_acquire);

    if (!next)
        return false;
    atomic_store_explicit(segment_word(j->current, j->at), walk_word(WALK_SEAL, RECORD_VERSION, 0),
                          memory_order_release);
    j->current = next;
    j->at = SEGMENT_DATA;
    atomic_store_explicit(&j->end, walk_seq(next->sequence, SEGMENT_DATA), memory_order_release);
    CRASH_POINT(segment_sealed);
    wake(j);
    return true;
}

/* Where the payload of at most `max` bytes goes, or NULL. One word always stays free for the seal. */
static unsigned char *begin(struct journal *j, size_t max)
{
    if (UNLIKELY(!j->current))
        return NULL;
    if (UNLIKELY(j->at + walk_space(max) + sizeof(uint64_t) > JOURNAL_SEGMENT) && !go_on_in_next(j)) {
        journal_count(&j->full_refusals, 1);
        return NULL;
    }
    return j->current->base + j->at + WALK_HEAD;
}

/* Everything of the record but its header word, which publishes it. */
static uint64_t finish(struct journal *j, enum journal_type type, size_t payload)
{
    unsigned char *at = j->current->base + j->at;
    uint64_t word = walk_word(type, RECORD_VERSION, payload), seq;
    uint32_t crc;

    j->last = walk_seq(j->current->sequence, j->at);
    seq = htole64(j->last);
    memcpy(at + sizeof(word), &seq, sizeof(seq));
    crc = walk_crc(at, word, payload);
    memcpy(at + WALK_HEAD + payload, &crc, sizeof(crc));
    return word;
}

static enum err_code publish(struct journal *j, uint64_t word, size_t payload)
{
    atomic_store_explicit(segment_word(j->current, j->at), word, memory_order_release);
    j->at += walk_space(payload);
    atomic_store_explicit(&j->end, walk_seq(j->current->sequence, j->at), memory_order_release);
    journal_count(&j->appended, 1);
    journal_count(&j->bytes, walk_space(payload));
    return ERR_OK;
}

/* Whether the records of open requests, and some more, fit into what is left of the current segment and into the
 * ready ones. */
static bool has_space(const struct journal *j)
{
    size_t needed = ROOM_BYTES + atomic_load_explicit(&j->open, memory_order_relaxed) * OPEN_BYTES;
    size_t left = JOURNAL_SEGMENT - j->at;

    for (const struct segment *s = atomic_load_explicit(&j->current->next, memory_order_acquire);
         s && left < needed; s = atomic_load_explicit(&s->next, memory_order_acquire))
        left += JOURNAL_SEGMENT - SEGMENT_DATA - walk_space(RECORD_PAYLOAD_MAX);
    return left >= needed;
}

bool journal_has_room(struct journal *j)
{
    bool has;

    if (!j->max_segments)
        return false;
    has = has_space(j);
    if (UNLIKELY(!has)) {
        journal_count(&j->full_refusals, 1);
        if (!j->was_full)
            wake(j);
    }
    j->was_full = !has;
    return has;
}

/* One more, or one less, that is going to be settled. */
static void count_open(struct journal *j, bool is_more)
{
    uint64_t n = atomic_load_explicit(&j->open, memory_order_relaxed);

    if (is_more || n)
        atomic_store_explicit(&j->open, is_more ? n + 1 : n - 1, memory_order_relaxed);
}

enum err_code journal_reserve(struct journal *j, const struct fact_open *o)
{
    unsigned char *p = begin(j, RECORD_OPEN_MAX);
    size_t n;
    uint64_t word;

    CRASH_POINT(reserve_before_append);
    if (!p)
        return ERR_JOURNAL_FULL;
    n = record_encode_open(p, o);
    word = finish(j, JOURNAL_RESERVE, n);
    CRASH_POINT(reserve_after_bytes);
    /* Before anybody can read and commit it: journal_set_needed() is told only now and then. */
    if (atomic_load_explicit(&j->needed, memory_order_relaxed) == NOT_NEEDED)
        atomic_store_explicit(&j->needed, j->last, memory_order_relaxed);
    (void)publish(j, word, n);
    count_open(j, true);
    CRASH_POINT(reserve_after_append);
    return ERR_OK;
}

/* What is kept free is for what costs; nothing else may use it up. */
static bool has_spare_space(const struct journal *j)
{
    return j->current && (j->is_forced || has_space(j));
}

enum err_code journal_progress(struct journal *j, const struct fact_open *o)
{
    unsigned char *p;
    size_t n;

    CRASH_POINT(progress_before_append);
    p = has_spare_space(j) ? begin(j, RECORD_OPEN_MAX) : NULL; /* the statement before this one still holds */
    if (!p)
        return ERR_JOURNAL_FULL;
    n = record_encode_open(p, o);
    (void)publish(j, finish(j, JOURNAL_PROGRESS, n), n);
    CRASH_POINT(progress_after_append);
    return ERR_OK;
}

enum err_code journal_attempt(struct journal *j, const struct fact_context *c, const struct fact_attempt *a)
{
    unsigned char *p = begin(j, RECORD_ATTEMPT_MAX);
    size_t n;
    uint64_t word;

    CRASH_POINT(attempt_before_append);
    if (!p)
        return ERR_JOURNAL_FULL;
    n = record_encode_attempt(p, c, a);
    word = finish(j, JOURNAL_ATTEMPT, n);
    CRASH_POINT(attempt_after_bytes);
    (void)publish(j, word, n);
    CRASH_POINT(attempt_after_append);
    return ERR_OK;
}

enum err_code journal_settle(struct journal *j, const struct fact_request *rq, const struct fact_attempt *a)
{
    bool is_refusal = !rq->attempts && !rq->reservation.at.us;
    unsigned char *p;
    size_t n;
    uint64_t word;

    CRASH_POINT(settle_before_append);
    /* Refusals come as fast as clients like, above all while the journal is full. */
    if (is_refusal && !has_spare_space(j)) {
        journal_count(&j->full_refusals, 1);
        return ERR_JOURNAL_FULL;
    }
    p = begin(j, RECORD_SETTLE_MAX(record_attempts(rq)));
    if (!p)
        return ERR_JOURNAL_FULL;
    n = record_encode_settle(p, rq, a);
    word = finish(j, JOURNAL_SETTLE, n);
    CRASH_POINT(settle_after_bytes);
    (void)publish(j, word, n);
    if (rq->reservation.at.us)
        count_open(j, false);
    CRASH_POINT(settle_after_append);
    return ERR_OK;
}

enum err_code journal_adjust(struct journal *j, const struct fact_adjust *a)
{
    unsigned char *p = has_spare_space(j) ? begin(j, RECORD_ADJUST_MAX) : NULL;
    size_t n;

    if (!p)
        return ERR_JOURNAL_FULL;
    n = record_encode_adjust(p, a);
    (void)publish(j, finish(j, JOURNAL_ADJUST, n), n);
    CRASH_POINT(adjust_after_append);
    return ERR_OK;
}

uint64_t journal_last(const struct journal *j)
{
    return j->last;
}

/* What is freed must end where a record ends, since the next run reads from there: "all behind the last one" is where
 * the next one goes. */
void journal_set_needed(struct journal *j, uint64_t seq)
{
    if (seq > j->last)
        seq = atomic_load_explicit(&j->end, memory_order_relaxed);
    atomic_store_explicit(&j->needed, seq, memory_order_release);
}

bool journal_is_far_behind(const struct journal *j, uint64_t seq)
{
    size_t far = j->max_segments / FAR_SHARE < FAR_MAX ? j->max_segments / FAR_SHARE : FAR_MAX;

    return j->current && j->current->sequence >= walk_sequence_of(seq) + far;
}

/* What is left of the current segment, those that are ready behind it, and spare ones; without what is kept for requests
 * under way. */
static uint64_t ahead_bytes(const struct journal *j)
{
    uint64_t end = atomic_load_explicit(&j->end, memory_order_relaxed);
    uint64_t ready = atomic_load_explicit(&j->ready_end, memory_order_relaxed);
    uint64_t spares = atomic_load_explicit(&j->spares, memory_order_relaxed), current = walk_sequence_of(end);
    uint64_t kept = walk_offset_of(end) + ROOM_BYTES;

    if (!j->max_segments || ready <= current || (ready - current + spares) * JOURNAL_SEGMENT < kept)
        return 0;
    return (ready - current + spares) * JOURNAL_SEGMENT - kept;
}

struct journal_stats journal_stats_mt(const struct journal *j)
{
    return (struct journal_stats){
        .appended = atomic_load_explicit(&j->appended, memory_order_relaxed),
        .bytes = atomic_load_explicit(&j->bytes, memory_order_relaxed),
        .read = journal_cursors_read_mt(j),
        .full_refusals = atomic_load_explicit(&j->full_refusals, memory_order_relaxed),
        .used_bytes = atomic_load_explicit(&j->segments, memory_order_relaxed) * JOURNAL_SEGMENT,
        .max_bytes = j->max_segments * JOURNAL_SEGMENT,
        .ahead_bytes = ahead_bytes(j),
        .torn = atomic_load_explicit(&j->torn, memory_order_relaxed),
        .recovered = atomic_load_explicit(&j->recovered, memory_order_relaxed),
    };
}

/* ---- recorder: housekeeping ---- */

/* What an earlier run left never keeps this one from starting: it gets its least number of segments all the
 * same. */
static bool is_full(const struct journal *j)
{
    return !j->is_forced && atomic_load_explicit(&j->segments, memory_order_relaxed) >= j->max_segments &&
           j->next_sequence >= j->first_sequence + SEGMENTS_MIN;
}

static struct segment *one_more(struct journal *j, struct err *err)
{
    struct segment *s = j->spare;

    if (!s && is_full(j))
        return NULL; /* no error here */
    if (!s) {
        s = segment_new(j->dir, j->worker, j->next_sequence, err);
        if (s) {
            j->next_sequence++;
            journal_count(&j->segments, 1);
        }
        return s;
    }
    j->spare = atomic_load_explicit(&s->next, memory_order_relaxed);
    j->n_spare--;
    if (segment_recycle(s, j->dir, j->worker, j->next_sequence, err)) {
        segment_unmap(s);
        atomic_fetch_sub(&j->segments, 1);
        return NULL;
    }
    j->next_sequence++;
    return s;
}

/* Segments that the worker used up since the last round are wanted ahead from now on; the wish fades when it
 * is calm. */
static size_t ready_wanted(struct journal *j, uint64_t current)
{
    size_t used = current - j->tended_sequence;

    j->tended_sequence = current;
    if (used * READY_FOR > j->ready_more)
        j->ready_more = used * READY_FOR;
    else if (j->ready_more && !used)
        j->ready_more--;
    return READY + j->ready_more > READY_MAX ? READY_MAX : READY + j->ready_more;
}

enum err_code journal_tend(struct journal *j, struct err *err)
{
    struct err why = {0};
    uint64_t current = walk_sequence_of(atomic_load_explicit(&j->end, memory_order_acquire));
    uint64_t last;

    if (!j->max_segments && !j->is_forced)
        return ERR_OK;
    last = current + ready_wanted(j, current) +
           atomic_load_explicit(&j->open, memory_order_relaxed) * OPEN_BYTES / JOURNAL_SEGMENT;
    while (j->next_sequence <= last) {
        struct segment *s = one_more(j, &why);

        if (!s)
            break;
        to_chain(j, s);
    }
    /* Stores give segments back in bursts: what a busy worker will want again is kept. */
    while (j->n_spare > 1 + j->ready_more) {
        struct segment *s = j->spare;

        j->spare = atomic_load_explicit(&s->next, memory_order_relaxed);
        j->n_spare--;
        atomic_fetch_sub(&j->segments, 1);
        segment_remove(s, j->dir);
    }
    atomic_store_explicit(&j->ready_end, j->next_sequence, memory_order_relaxed);
    atomic_store_explicit(&j->spares, j->n_spare, memory_order_relaxed);
    if (why.code && err)
        *err = why;
    return why.code;
}

const char *journal_dir(const struct journal *j)
{
    return j->dir;
}

void journal_set_wake(struct journal *j, int fd)
{
    j->wake_fd = fd;
}

/* The next range that was appended and not yet synced; false when there is none. The mapping may go away right behind
 * the lock: then all of it was released, and the kernel refuses (ENOMEM). */
static bool next_range(struct journal *j, struct range *out)
{
    uint64_t end = atomic_load_explicit(&j->end, memory_order_acquire);
    struct segment *s;

    (void)pthread_mutex_lock(&j->chain_lock);
    s = j->syncing;
    *out = (struct range){0};
    if (s) {
        bool is_current = s->sequence == walk_sequence_of(end);
        struct segment *next = atomic_load_explicit(&s->next, memory_order_acquire);

        *out = (struct range){s->base, j->synced_at, is_current ? walk_offset_of(end) : JOURNAL_SEGMENT};
        if (s->sequence > walk_sequence_of(end)) {
            out->to = out->from; /* `end` is older than what is being looked at */
        } else if (is_current) {
            j->synced_at = out->to;
        } else {
            j->syncing = next ? next : s;
            j->synced_at = next ? 0 : JOURNAL_SEGMENT;
        }
    }
    (void)pthread_mutex_unlock(&j->chain_lock);
    return out->to > out->from;
}

enum err_code journal_sync_mt(struct journal *j)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    enum err_code e = ERR_OK;
    struct range r;

    while (next_range(j, &r)) {
        size_t from = r.from & ~(page - 1);

        if (msync(r.base + from, r.to - from, MS_SYNC) && errno != ENOMEM)
            e = ERR_IO;
        if (from == 0 && fsync(j->dir_fd)) /* a segment's first range: its name must last too */
            e = ERR_IO;
    }
    return e;
}

/* ---- recovery's own way of appending ---- */

enum err_code journal_begin_forced(struct journal *j, struct err *err)
{
    if (!j->is_forced && !j->current)
        begin_numbers(j, true);
    j->is_forced = true;
    if (journal_tend(j, err))
        return ERR_IO;
    if (!j->current)
        start_writing(j);
    return ERR_OK;
}

/* The worker has its least number of segments from here on. A journal without one ends here: readers need the seal to
 * know that nothing follows. */
void journal_end_forced(struct journal *j)
{
    j->is_forced = false;
    if (!j->current)
        return;
    j->first_sequence = j->current->sequence;
    if (j->max_segments)
        return;
    atomic_store_explicit(segment_word(j->current, j->at), walk_word(WALK_SEAL, RECORD_VERSION, 0),
                          memory_order_release);
    for (struct segment *s = atomic_exchange(&j->current->next, NULL), *next; s; s = next) {
        next = atomic_load(&s->next);
        atomic_fetch_sub(&j->segments, 1);
        segment_remove(s, j->dir);
    }
    j->tail = j->current;
    j->next_sequence = j->current->sequence + 1; /* as the next run will count, which finds no others */
    j->current = NULL;
    atomic_store(&j->end, walk_seq(j->next_sequence, 0));
}
