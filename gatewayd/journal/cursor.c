/* SPDX-License-Identifier: Apache-2.0 */
/* Consumers, each on its own thread, and what they and open requests let the journal forget (recorder thread).
 *
 * A cursor stands at `at` in `segment`. Its commit is never beyond it, and what is not below everybody's commit is never
 * given away; so following `next` from where a cursor stands needs no lock. Only going back (seek) starts from the head
 * of the chain: under the chain's lock, which forgetting holds too, and lowering the commit before it is let go.
 *
 * Commits of watermarks are rounded down to a record, since the next run starts to read exactly there. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "gatewayd/journal/journal_priv.h"
#include "libshared/base/crash.h"
#include "libshared/base/hash.h"
#include "libshared/base/log.h"

#define PATH_CAP   4200
#define KEEP_MAGIC 0x31305441u /* "AT01" */

struct journal_cursor {
    struct journal *j;
    char consumer[24];
    unsigned types, slot;
    struct segment *segment; /* NULL: all of it is read, and nothing will follow */
    size_t at;
    bool is_dead;      /* the rest of `segment` cannot be trusted; go on when the worker has left it */
    int fd;            /* of the kept position, or -1 */
    bool told;         /* that it could not be written */
    int64_t clear_us;  /* wall time when the end was reached */
    uint64_t clear_at; /* and where that was */
    _Atomic uint64_t committed, read;
    _Atomic uint64_t ahead;  /* `read` minus what this run appended, when all of it was read last */
    _Atomic int64_t safe_us; /* everything that there was then is committed */
};

/* ---- life ---- */

struct journal_cursor *journal_cursor_new(struct journal *j, const char *consumer)
{
    struct journal_cursor *c = calloc(1, sizeof(*c));
    unsigned slot = 0;

    if (!c)
        abort();
    while (slot < CURSORS_MAX && atomic_load(&j->cursors[slot]))
        slot++;
    if (slot == CURSORS_MAX)
        abort();
    c->j = j;
    c->slot = slot;
    c->fd = -1;
    c->types = UINT32_MAX;
    (void)snprintf(c->consumer, sizeof(c->consumer), "%s", consumer);
    c->segment = j->head;
    c->at = c->segment ? c->segment->released : 0;
    atomic_store(&c->safe_us, j->opened.us);
    atomic_store(&c->committed, journal_cursor_position(c));
    atomic_store(&j->cursors[slot], c);
    return c;
}

void journal_cursor_free(struct journal_cursor *c)
{
    if (!c)
        return;
    atomic_store(&c->j->cursors[c->slot], NULL);
    if (c->fd >= 0)
        (void)close(c->fd);
    free(c);
}

void journal_cursor_want(struct journal_cursor *c, unsigned types)
{
    c->types = types;
}

uint64_t journal_cursor_position(const struct journal_cursor *c)
{
    return c->segment ? walk_seq(c->segment->sequence, c->at) : walk_seq(c->j->next_sequence, 0);
}

uint64_t journal_cursor_committed(const struct journal_cursor *c)
{
    return atomic_load_explicit(&c->committed, memory_order_relaxed);
}

bool journal_cursor_is_beyond(const struct journal_cursor *c, uint64_t seq)
{
    return seq > atomic_load_explicit(&c->j->end, memory_order_acquire);
}

uint64_t journal_cursors_read_mt(const struct journal *j)
{
    uint64_t most = 0;

    for (unsigned i = 0; i < CURSORS_MAX; i++) {
        const struct journal_cursor *c = atomic_load_explicit(&j->cursors[i], memory_order_acquire);
        uint64_t n = c ? atomic_load_explicit(&c->read, memory_order_relaxed) : 0;

        most = n > most ? n : most;
    }
    return most;
}

/* Records of earlier runs and those that were read again are in `read`, so it is compared with where it stood when
 * nothing was left; until that has happened once, only what this run appended is known. */
uint64_t journal_cursor_unread_mt(const struct journal_cursor *c)
{
    uint64_t appended = atomic_load_explicit(&c->j->appended, memory_order_relaxed);
    uint64_t read = atomic_load_explicit(&c->read, memory_order_relaxed);
    int64_t n = (int64_t)(appended + atomic_load_explicit(&c->ahead, memory_order_relaxed) - read);

    return n > 0 ? (uint64_t)n : 0;
}

/* ---- reading ---- */

static void stand_at(struct journal_cursor *c, struct segment *s)
{
    c->segment = s;
    c->at = SEGMENT_DATA;
    c->is_dead = false;
}

/* What a consumer waits with to commit may be many segments. They stay in the page cache, not in this process. */
static void go_on(struct journal_cursor *c)
{
    struct segment *next = atomic_load_explicit(&c->segment->next, memory_order_acquire);

    segment_drop_pages(c->segment); /* not given away before this consumer has committed it */
    stand_at(c, next);
}

/* The rest of the segment cannot be read. The worker may still be in it. The first consumer to see it counts it. */
static void give_up(struct journal_cursor *c)
{
    c->is_dead = true;
    if (!atomic_exchange(&c->segment->was_torn, true))
        atomic_fetch_add_explicit(&c->j->torn, 1, memory_order_relaxed);
}

static bool worker_left(const struct journal_cursor *c)
{
    return c->segment->is_old ||
           walk_sequence_of(atomic_load_explicit(&c->j->end, memory_order_acquire)) > c->segment->sequence;
}

enum look { LOOK_RECORD, LOOK_NOTHING, LOOK_DAMAGE };

/* What stands next, going on in further segments as needed. */
static enum look look(struct journal_cursor *c, struct walk_record *out, struct err *err)
{
    while (c->segment) {
        const struct segment *s = c->segment;

        if (c->is_dead) {
            if (!worker_left(c))
                return LOOK_NOTHING;
            go_on(c);
            continue;
        }
        switch (walk_step(s->base, JOURNAL_SEGMENT, s->sequence, c->at, out)) {
        case WALK_RECORD:
            return LOOK_RECORD;
        case WALK_SEALED:
            go_on(c);
            break;
        case WALK_END:
            if (!s->is_old)
                return LOOK_NOTHING;
            if (walk_is_blank(s->base, JOURNAL_SEGMENT, c->at)) {
                go_on(c);
                break;
            }
            (void)err_set(err, ERR_BAD_BODY,
                          "worker %u segment %" PRIu64
                          ": a record at offset %zu was never finished and is discarded",
                          c->j->worker, s->sequence, c->at);
            give_up(c);
            return LOOK_DAMAGE;
        case WALK_CORRUPT:
            (void)err_set(err, ERR_BAD_BODY,
                          "worker %u segment %" PRIu64
                          ": the record at offset %zu is corrupt; the rest is not read",
                          c->j->worker, s->sequence, c->at);
            give_up(c);
            return LOOK_DAMAGE;
        }
    }
    return LOOK_NOTHING;
}

static void pass(struct journal_cursor *c, const struct walk_record *w)
{
    c->at = w->next;
    journal_count(&c->read, 1);
}

/* At the end of what there is; what is committed by now says how far behind the consumer may be. */
static void note_end(struct journal_cursor *c)
{
    c->clear_us = wall_now().us;
    c->clear_at = journal_cursor_position(c);
    atomic_store_explicit(&c->ahead,
                          atomic_load_explicit(&c->read, memory_order_relaxed) -
                              atomic_load_explicit(&c->j->appended, memory_order_relaxed),
                          memory_order_relaxed);
    if (journal_cursor_committed(c) >= c->clear_at)
        atomic_store_explicit(&c->safe_us, c->clear_us, memory_order_relaxed);
}

bool journal_cursor_read(struct journal_cursor *c, struct journal_record *out, struct err *err)
{
    struct walk_record w;
    enum look l;

    if (err)
        *err = (struct err){0};
    while ((l = look(c, &w, err)) == LOOK_RECORD) {
        bool is_old = c->segment->is_old;
        enum err_code e;

        pass(c, &w);
        if (w.type < 32 && !(c->types >> w.type & 1))
            continue;
        e = record_decode(w.type, w.version, w.payload, out);
        out->seq = w.seq;
        out->worker = c->j->worker;
        out->is_recovered = is_old;
        if (!e)
            return true;
        (void)err_set(err, e,
                      "worker %u record %" PRIu64 " of type %u version %u is not understood and left out",
                      c->j->worker, w.seq, w.type, w.version);
        return false;
    }
    if (l == LOOK_NOTHING)
        note_end(c);
    return false;
}

/* ---- going elsewhere ---- */

/* The segment that holds `seq` or, when that is gone, the next one; the last for what is beyond it. Under the lock. */
static struct segment *find(const struct journal *j, uint64_t seq)
{
    struct segment *s = j->head;

    for (struct segment *next = s; next && next->sequence <= walk_sequence_of(seq);
         next = atomic_load_explicit(&next->next, memory_order_acquire)) {
        if (!next->is_old &&
            next->sequence > walk_sequence_of(atomic_load_explicit(&j->end, memory_order_acquire)))
            break; /* ready, not begun */
        s = next;
    }
    return s;
}

/* Forward or back within what there is. */
static void walk_to(struct journal_cursor *c, uint64_t seq)
{
    struct walk_record w;
    enum look l;

    while (journal_cursor_position(c) < seq && (l = look(c, &w, NULL)) != LOOK_NOTHING) {
        if (l == LOOK_RECORD && w.seq >= seq)
            break;
        if (l == LOOK_RECORD)
            c->at = w.next;
    }
}

uint64_t journal_cursor_seek(struct journal_cursor *c, uint64_t seq)
{
    uint64_t committed = journal_cursor_committed(c), start;

    (void)pthread_mutex_lock(&c->j->chain_lock);
    stand_at(c, find(c->j, seq));
    start = journal_cursor_position(c);
    if (start < committed) /* from here on nothing above is forgotten */
        atomic_store_explicit(&c->committed, start, memory_order_release);
    (void)pthread_mutex_unlock(&c->j->chain_lock);
    walk_to(c, seq);
    if (start < committed)
        atomic_store_explicit(&c->committed,
                              journal_cursor_position(c) < committed ? journal_cursor_position(c) : committed,
                              memory_order_release);
    return journal_cursor_position(c);
}

/* ---- committing ---- */

/* The last boundary between records that is not above `seq`, which is between the commit and the position. */
static uint64_t boundary(const struct journal_cursor *c, uint64_t seq)
{
    struct walk_record w;
    const struct segment *s;
    size_t at = SEGMENT_DATA;

    (void)pthread_mutex_lock(&c->j->chain_lock);
    s = find(c->j, seq);
    (void)pthread_mutex_unlock(&c->j->chain_lock);
    if (!s || walk_seq(s->sequence, at) > seq)
        return journal_cursor_committed(c);
    while (walk_step(s->base, JOURNAL_SEGMENT, s->sequence, at, &w) == WALK_RECORD &&
           walk_seq(s->sequence, w.next) <= seq)
        at = w.next;
    return walk_seq(s->sequence, at);
}

struct kept { /* the file of a kept position; little-endian */
    uint32_t magic, crc;
    uint64_t seq;
};

static uint32_t kept_crc(const struct kept *k)
{
    return crc32c(0, &k->seq, sizeof(k->seq));
}

static void keep(struct journal_cursor *c, uint64_t seq)
{
    struct kept k = {.magic = KEEP_MAGIC, .seq = seq};
    bool is_bad;

    if (c->fd < 0)
        return;
    k.crc = kept_crc(&k);
    is_bad = pwrite(c->fd, &k, sizeof(k), 0) != (ssize_t)sizeof(k);
    if (is_bad && !c->told)
        log_warn("journal: the position of consumer '%s' cannot be written: %s; a crash repeats more of it",
                 c->consumer, strerror(errno));
    c->told = is_bad;
}

void journal_cursor_commit(struct journal_cursor *c, uint64_t seq)
{
    uint64_t position = journal_cursor_position(c);

    if (seq <= journal_cursor_committed(c))
        return;
    seq = seq >= position ? position : boundary(c, seq);
    if (seq <= journal_cursor_committed(c))
        return;
    if (c->clear_at && seq >= c->clear_at)
        atomic_store_explicit(&c->safe_us, c->clear_us, memory_order_relaxed);
    keep(c, seq);
    atomic_store_explicit(&c->committed, seq, memory_order_release);
}

void journal_cursor_keep(struct journal_cursor *c)
{
    char path[PATH_CAP];
    struct kept k;

    (void)snprintf(path, sizeof(path), "%s/%s.at", c->j->dir, c->consumer);
    c->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (c->fd < 0) {
        log_warn("journal: cannot open '%s': %s; a crash repeats more of consumer '%s'", path,
                 strerror(errno), c->consumer);
        return;
    }
    if (pread(c->fd, &k, sizeof(k), 0) != (ssize_t)sizeof(k) || k.magic != KEEP_MAGIC ||
        k.crc != kept_crc(&k) || k.seq <= journal_cursor_committed(c))
        return;
    (void)journal_cursor_seek(c, k.seq);
    journal_cursor_commit(c, k.seq);
}

uint64_t journal_cursor_end_mt(const struct journal_cursor *c)
{
    return atomic_load_explicit(&c->j->end, memory_order_acquire);
}

int64_t journal_cursor_lag_us_mt(const struct journal_cursor *c, struct wall now)
{
    int64_t lag;

    if (atomic_load_explicit(&c->committed, memory_order_relaxed) >=
        atomic_load_explicit(&c->j->end, memory_order_relaxed))
        return 0;
    lag = now.us - atomic_load_explicit(&c->safe_us, memory_order_relaxed);
    return lag > 0 ? lag : 0;
}

/* ---- forgetting (recorder thread) ---- */

/* What nobody needs any more is below. The commits are looked at before `needed`: who committed a RESERVE makes seen
 * that it is needed. */
static uint64_t lowest_needed(const struct journal *j)
{
    uint64_t low = UINT64_MAX, needed;

    for (unsigned i = 0; i < CURSORS_MAX; i++) {
        const struct journal_cursor *c = atomic_load_explicit(&j->cursors[i], memory_order_acquire);
        uint64_t seq = c ? atomic_load_explicit(&c->committed, memory_order_acquire) : UINT64_MAX;

        low = seq < low ? seq : low;
    }
    if (low == UINT64_MAX) /* no consumer: nothing says that it is safe anywhere */
        return 0;
    needed = atomic_load_explicit(&j->needed, memory_order_acquire);
    return needed < low ? needed : low;
}

/* How much of `s` is below, in whole records: the next run reads from there, and what is needed may be told as "behind the
 * last record" while another is appended. */
static uint32_t released_offset(const struct segment *s, uint64_t low)
{
    size_t end = walk_offset_of(low), at = s->released <= end ? s->released : SEGMENT_DATA;
    struct walk_record w;

    if (walk_sequence_of(low) != s->sequence)
        return walk_sequence_of(low) > s->sequence && !atomic_load_explicit(&s->next, memory_order_relaxed)
                   ? (uint32_t)JOURNAL_SEGMENT
                   : s->released;
    while (at < end && walk_step(s->base, JOURNAL_SEGMENT, s->sequence, at, &w) == WALK_RECORD &&
           w.next <= end)
        at = w.next;
    return (uint32_t)at;
}

static void give_away(struct journal *j)
{
    struct segment *s = j->head;

    j->head = atomic_load_explicit(&s->next, memory_order_relaxed);
    if (!j->head)
        j->tail = NULL;
    if (j->syncing == s) {
        j->syncing = j->head;
        j->synced_at = 0;
    }
    segment_set_released(s, (uint32_t)JOURNAL_SEGMENT);
    segment_drop_pages(s);
    atomic_store_explicit(&s->next, j->spare, memory_order_relaxed);
    j->spare = s;
    j->n_spare++;
}

/* The newest mark counts for all that is older (see forget_older), so its one store is the moment of release. */
void journal_free_committed(struct journal *j)
{
    struct segment *last = NULL, *s; /* last: the newest that goes away */
    uint32_t offset;
    uint64_t low;

    (void)pthread_mutex_lock(&j->chain_lock);
    low = lowest_needed(j);
    for (s = j->head; s; s = atomic_load_explicit(&s->next, memory_order_acquire)) {
        const struct segment *next = atomic_load_explicit(&s->next, memory_order_acquire);

        if (!next || next->sequence > walk_sequence_of(low))
            break;
        last = s;
    }
    offset = s ? released_offset(s, low) : 0;
    if (s && (offset != s->released || last)) {
        CRASH_POINT(free_before_mark);
        segment_set_released(s, offset);
        if (last)
            segment_set_released(last, (uint32_t)JOURNAL_SEGMENT);
        CRASH_POINT(free_after_mark);
    }
    while (last && j->head != s)
        give_away(j);
    if (s && segment_is_released(s) && !atomic_load_explicit(&s->next, memory_order_relaxed))
        give_away(j);
    if (last)
        CRASH_POINT(free_after_unlink);
    (void)pthread_mutex_unlock(&j->chain_lock);
}
