/* SPDX-License-Identifier: Apache-2.0 */
/* Two threads share a journal, the worker and the recorder, without a lock:
 *
 *   chain (oldest first, linked by the recorder)
 *     old run …  │ read, not released │ reading │ … │ current │ ready │ ready ──► NULL
 *                  ^ head               ^ reading    ^ worker            ^ tail
 *
 * The worker only follows `next` (acquire) and stores into its current segment; the recorder does the rest. A
 * record is published by storing its header word last (release). When a record may not fit, the worker seals
 * the segment and goes to the next one; the seal is the last thing that it ever stores there, so the recorder
 * may recycle what it read up to a seal. `current_sequence` follows the seal and only tells how far the
 * worker is; its segment may be gone already.
 *
 * A record's sequence number is its segment's sequence and its offset, so a record that is not where it was
 * written (a recycled page that the disk kept from an earlier life) is never taken for a current one. */
#include "gatewayd/journal/journal.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gatewayd/journal/record_priv.h"
#include "gatewayd/journal/segment_priv.h"
#include "libshared/base/hash.h"
#include "libshared/base/log.h"

#define HEAD         16u /* header word and seq */
#define TAIL         4u  /* CRC */
#define OFFSET_BITS  17  /* of seq: offset / 8 within the segment */
#define SEAL         0xffu
#define SEGMENTS_MIN 4u  /* current, two ready, one being read */
#define READY        2u  /* segments ahead of the worker when it is calm */
#define READY_MAX    16u /* and when it is not */
/* Kept for requests that are under way when new ones are refused. */
#define ROOM_BYTES (JOURNAL_SEGMENT / 2)

_Static_assert(JOURNAL_SEGMENT >> 3 == (size_t)1 << OFFSET_BITS, "an offset fits into its bits");

struct range { /* to be brought to the disk */
    unsigned char *base;
    size_t from, to;
};

struct journal {
    /* Shared, written at open only. */
    char *dir;
    int dir_fd; /* locked: one process at a time */
    unsigned worker;
    size_t max_segments;
    int wake_fd;

    /* Worker. */
    alignas(64) struct segment *current;
    size_t at;
    bool was_full;
    _Atomic uint64_t current_sequence, appended, bytes, full_refusals;

    /* Recorder. */
    alignas(64) struct segment *head;
    struct segment *reading; /* NULL: read-only and all read */
    struct segment *tail;    /* the chain's last */
    struct segment *spare;   /* released, not yet recycled; linked by next */
    size_t n_spare, read_at, noted_at, ready_more;
    bool is_dead; /* the rest of `reading` cannot be trusted; go on when the worker has left it */
    uint64_t next_sequence, tended_sequence, first_sequence; /* first: of this run */
    _Atomic uint64_t segments, read, torn;

    pthread_mutex_t range_lock;
    struct range *ranges, *syncing;
    size_t n_ranges;
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

static void start_reading(struct journal *j, struct segment *s)
{
    j->reading = s;
    j->read_at = s ? s->released : 0;
    j->noted_at = 0;
    j->is_dead = false;
}

static enum err_code prepare(struct journal *j, const char *dir, struct err *err)
{
    enum err_code e = lock_dir(j, dir, err);

    if (!e)
        e = open_old(j, err);
    j->ranges = calloc(2 * (j->max_segments + 1), sizeof(struct range));
    if (!j->ranges)
        abort();
    j->syncing = j->ranges + j->max_segments + 1;
    j->tended_sequence = j->first_sequence = j->next_sequence;
    atomic_store(&j->current_sequence, j->next_sequence); /* as if the worker were on the first new one */
    if (!e && j->max_segments) {
        e = journal_tend(j, err);
        for (struct segment *s = j->head; s && !j->current; s = atomic_load(&s->next))
            if (!s->is_old)
                j->current = s;
    }
    j->at = SEGMENT_DATA;
    start_reading(j, j->head);
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
    (void)pthread_mutex_init(&j->range_lock, NULL);
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

void journal_close(struct journal *j)
{
    if (!j)
        return;
    if (!j->max_segments && !j->head && j->dir_fd >= 0) { /* read-only and all of it released */
        while (j->spare) {
            struct segment *s = j->spare;

            j->spare = atomic_load(&s->next);
            segment_remove(s, j->dir);
        }
        (void)rmdir(j->dir); /* stays when something was set aside in it */
    }
    unmap_all(j->head);
    unmap_all(j->spare);
    if (j->dir_fd >= 0)
        (void)close(j->dir_fd);
    (void)pthread_mutex_destroy(&j->range_lock);
    free(j->ranges);
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

static void count(_Atomic uint64_t *c, uint64_t n) /* one writer only */
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

static void wake(struct journal *j)
{
    uint64_t one = 1;

    if (j->wake_fd >= 0)
        (void)!write(j->wake_fd, &one, sizeof(one));
}

static uint64_t word_of(unsigned type, size_t payload)
{
    return htole64((uint64_t)RECORD_VERSION << 40 | (uint64_t)type << 32 | (uint64_t)payload);
}

static size_t space_of(size_t payload)
{
    return (HEAD + payload + TAIL + 7) & ~(size_t)7;
}

static bool go_on_in_next(struct journal *j)
{
    struct segment *next = atomic_load_explicit(&j->current->next, memory_order_acquire);

    if (!next)
        return false;
    atomic_store_explicit(segment_word(j->current, j->at), word_of(SEAL, 0), memory_order_release);
    j->current = next;
    j->at = SEGMENT_DATA;
    atomic_store_explicit(&j->current_sequence, next->sequence, memory_order_release);
    wake(j);
    return true;
}

/* Where the payload goes, or NULL. One word always stays free for the seal. */
static unsigned char *begin(struct journal *j)
{
    if (UNLIKELY(j->at + space_of(RECORD_PAYLOAD_MAX) + sizeof(uint64_t) > JOURNAL_SEGMENT) &&
        !go_on_in_next(j)) {
        count(&j->full_refusals, 1);
        return NULL;
    }
    return j->current->base + j->at + HEAD;
}

static enum err_code commit(struct journal *j, enum journal_type type, size_t payload)
{
    unsigned char *at = j->current->base + j->at;
    uint64_t word = word_of(type, payload);
    uint64_t seq = htole64(j->current->sequence << OFFSET_BITS | j->at >> 3);
    uint32_t crc;

    memcpy(at + sizeof(word), &seq, sizeof(seq));
    crc = htole32(crc32c(crc32c(0, &word, sizeof(word)), at + sizeof(word), sizeof(seq) + payload));
    memcpy(at + HEAD + payload, &crc, sizeof(crc));
    atomic_store_explicit(segment_word(j->current, j->at), word, memory_order_release);
    j->at += space_of(payload);
    count(&j->appended, 1);
    count(&j->bytes, space_of(payload));
    return ERR_OK;
}

bool journal_has_room(struct journal *j)
{
    bool has = atomic_load_explicit(&j->current->next, memory_order_acquire) ||
               j->at + ROOM_BYTES <= JOURNAL_SEGMENT;

    if (UNLIKELY(!has)) {
        count(&j->full_refusals, 1);
        if (!j->was_full)
            wake(j);
    }
    j->was_full = !has;
    return has;
}

enum err_code journal_attempt(struct journal *j, const struct id *request, label tenant, label key,
                              const struct fact_attempt *a)
{
    unsigned char *p = begin(j);

    if (!p)
        return ERR_JOURNAL_FULL;
    return commit(j, JOURNAL_ATTEMPT, record_encode_attempt(p, request, tenant, key, a));
}

enum err_code journal_settle(struct journal *j, const struct fact_request *rq)
{
    unsigned char *p = begin(j);

    if (!p)
        return ERR_JOURNAL_FULL;
    return commit(j, JOURNAL_SETTLE, record_encode_settle(p, rq));
}

struct journal_stats journal_stats_mt(const struct journal *j)
{
    return (struct journal_stats){
        .appended = atomic_load_explicit(&j->appended, memory_order_relaxed),
        .bytes = atomic_load_explicit(&j->bytes, memory_order_relaxed),
        .read = atomic_load_explicit(&j->read, memory_order_relaxed),
        .full_refusals = atomic_load_explicit(&j->full_refusals, memory_order_relaxed),
        .used_bytes = atomic_load_explicit(&j->segments, memory_order_relaxed) * JOURNAL_SEGMENT,
        .max_bytes = j->max_segments * JOURNAL_SEGMENT,
        .torn = atomic_load_explicit(&j->torn, memory_order_relaxed),
    };
}

/* ---- recorder: reading ---- */

/* What was read since the last note is to be brought to the disk. A full list drops nothing that matters: its
 * segments were all released and given a new life in the meantime. */
static void note_range(struct journal *j)
{
    struct range r = {j->reading->base, j->noted_at, j->read_at};

    if (r.from == r.to || j->reading->is_old)
        return;
    j->noted_at = j->read_at;
    (void)pthread_mutex_lock(&j->range_lock);
    if (j->n_ranges && j->ranges[j->n_ranges - 1].base == r.base && j->ranges[j->n_ranges - 1].to == r.from)
        j->ranges[j->n_ranges - 1].to = r.to;
    else if (j->n_ranges <= j->max_segments)
        j->ranges[j->n_ranges++] = r;
    (void)pthread_mutex_unlock(&j->range_lock);
}

static void read_next_segment(struct journal *j)
{
    note_range(j);
    start_reading(j, atomic_load_explicit(&j->reading->next, memory_order_acquire));
}

/* The rest of the segment cannot be read. The worker may still be in it. */
static bool give_up_segment(struct journal *j)
{
    count(&j->torn, 1);
    j->is_dead = true;
    return false;
}

static bool end_of_old(struct journal *j, struct err *err)
{
    const unsigned char *p = j->reading->base + j->read_at;
    size_t left = JOURNAL_SEGMENT - j->read_at;

    if (memcmp(p, p + 1, left - 1) == 0) { /* the first byte is zero already */
        read_next_segment(j);
        return true;
    }
    (void)err_set(err, ERR_BAD_BODY,
                  "worker %u segment %" PRIu64 ": a record at offset %zu was never finished and is discarded",
                  j->worker, j->reading->sequence, j->read_at);
    return give_up_segment(j);
}

static bool is_sound(const struct journal *j, uint64_t word, uint64_t *out_seq)
{
    const unsigned char *at = j->reading->base + j->read_at;
    size_t payload = (uint32_t)word, left = JOURNAL_SEGMENT - j->read_at;
    uint64_t wire = htole64(word);
    uint32_t crc;

    if (word >> 48 || payload > left || space_of(payload) + sizeof(uint64_t) > left)
        return false;
    memcpy(out_seq, at + sizeof(word), sizeof(*out_seq));
    *out_seq = le64toh(*out_seq);
    memcpy(&crc, at + HEAD + payload, sizeof(crc));
    return *out_seq == (j->reading->sequence << OFFSET_BITS | j->read_at >> 3) &&
           le32toh(crc) ==
               crc32c(crc32c(0, &wire, sizeof(wire)), at + sizeof(word), sizeof(*out_seq) + payload);
}

static bool take(struct journal *j, uint64_t word, struct journal_record *out, struct err *err)
{
    const unsigned char *at = j->reading->base + j->read_at;
    size_t payload = (uint32_t)word;
    unsigned type = (word >> 32) & 0xff, version = (word >> 40) & 0xff;
    uint64_t seq = 0;
    enum err_code e;

    if (!is_sound(j, word, &seq)) {
        (void)err_set(err, ERR_BAD_BODY,
                      "worker %u segment %" PRIu64
                      ": the record at offset %zu is corrupt; the rest is not read",
                      j->worker, j->reading->sequence, j->read_at);
        return give_up_segment(j);
    }
    e = record_decode(type, version, span_make(at + HEAD, payload), out);
    out->seq = seq;
    out->is_recovered = j->reading->is_old;
    count(&j->read, 1);
    j->read_at += space_of(payload);
    if (e)
        (void)err_set(err, e,
                      "worker %u record %" PRIu64 " of type %u version %u is not understood and left out",
                      j->worker, seq, type, version);
    return e == ERR_OK;
}

static bool worker_left(const struct journal *j)
{
    return j->reading->is_old ||
           atomic_load_explicit(&j->current_sequence, memory_order_acquire) > j->reading->sequence;
}

bool journal_read(struct journal *j, struct journal_record *out, struct err *err)
{
    if (err)
        *err = (struct err){0};
    while (j->reading) {
        uint64_t word;

        if (j->is_dead) {
            if (!worker_left(j))
                return false;
            read_next_segment(j);
            continue;
        }
        word = le64toh(atomic_load_explicit(segment_word(j->reading, j->read_at), memory_order_acquire));
        if (((word >> 32) & 0xff) == SEAL && (uint32_t)word == 0 && !(word >> 48)) {
            read_next_segment(j);
        } else if (word) {
            return take(j, word, out, err);
        } else if (!j->reading->is_old) {
            note_range(j);
            return false;
        } else if (!end_of_old(j, err)) {
            return false;
        }
    }
    return false;
}

bool journal_is_recovered(const struct journal *j)
{
    return !j->reading || !j->reading->is_old;
}

uint64_t journal_position(const struct journal *j)
{
    return j->reading ? j->reading->sequence << OFFSET_BITS | j->read_at >> 3
                      : j->next_sequence << OFFSET_BITS;
}

const char *journal_dir(const struct journal *j)
{
    return j->dir;
}

/* The newest mark counts for all that is older (see forget_older), so its one store is the moment of release.
 */
void journal_release_read(struct journal *j)
{
    struct segment *last = NULL; /* the newest that was read to its end */

    for (struct segment *s = j->head; s != j->reading;
         s = atomic_load_explicit(&s->next, memory_order_relaxed))
        last = s;
    if (j->reading && j->reading->released != j->read_at)
        segment_set_released(j->reading, (uint32_t)j->read_at);
    if (last)
        segment_set_released(last, (uint32_t)JOURNAL_SEGMENT);
    while (j->head != j->reading) {
        struct segment *s = j->head;

        j->head = atomic_load_explicit(&s->next, memory_order_relaxed);
        segment_set_released(s, (uint32_t)JOURNAL_SEGMENT);
        to_spare(j, s);
    }
    if (!j->head)
        j->tail = NULL;
}

/* ---- recorder: housekeeping ---- */

/* What an earlier run left never keeps this one from starting: it gets its least number of segments all the
 * same. */
static bool is_full(const struct journal *j)
{
    return atomic_load_explicit(&j->segments, memory_order_relaxed) >= j->max_segments &&
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
            count(&j->segments, 1);
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
    if (used > j->ready_more)
        j->ready_more = used;
    else if (j->ready_more)
        j->ready_more--;
    return READY + j->ready_more > READY_MAX ? READY_MAX : READY + j->ready_more;
}

enum err_code journal_tend(struct journal *j, struct err *err)
{
    struct err why = {0};
    uint64_t current = atomic_load_explicit(&j->current_sequence, memory_order_acquire);
    uint64_t last;

    if (!j->max_segments)
        return ERR_OK;
    last = current + ready_wanted(j, current);
    while (j->next_sequence <= last) {
        struct segment *s = one_more(j, &why);

        if (!s)
            break;
        to_chain(j, s);
    }
    while (j->n_spare > 1) {
        struct segment *s = j->spare;

        j->spare = atomic_load_explicit(&s->next, memory_order_relaxed);
        j->n_spare--;
        atomic_fetch_sub(&j->segments, 1);
        segment_remove(s, j->dir);
    }
    if (why.code && err)
        *err = why;
    return why.code;
}

void journal_set_wake(struct journal *j, int fd)
{
    j->wake_fd = fd;
}

/* A range whose mapping went away meanwhile is refused by the kernel (ENOMEM), which is right: it was
 * released. */
enum err_code journal_sync_mt(struct journal *j)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    enum err_code e = ERR_OK;
    size_t n;

    (void)pthread_mutex_lock(&j->range_lock);
    n = j->n_ranges;
    memcpy(j->syncing, j->ranges, n * sizeof(struct range));
    j->n_ranges = 0;
    (void)pthread_mutex_unlock(&j->range_lock);
    for (size_t i = 0; i < n; i++) {
        const struct range *r = &j->syncing[i];
        size_t from = r->from & ~(page - 1);

        if (msync(r->base + from, r->to - from, MS_SYNC) && errno != ENOMEM)
            e = ERR_IO;
        if (from == 0 && fsync(j->dir_fd)) /* a segment's first range: its name must last too */
            e = ERR_IO;
    }
    return e;
}
