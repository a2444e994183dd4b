/* SPDX-License-Identifier: Apache-2.0 */
/* The journal: what happened, durable before it is visible. One per worker: a chain of mmap'ed segment files
 * that the worker appends to and the recorder thread reads. Records survive the death of the process at any
 * instruction; a record counts once its header word is published (release) behind its bytes and CRC.
 *
 *   dir/w<N>/<sequence>.seg   segments of JOURNAL_SEGMENT bytes, allocated ahead with posix_fallocate by the recorder
 *   record (8-byte aligned)   u32 payload length | u8 type | u8 version | u16 zero | u64 seq | payload | u32 crc32c
 *
 * The worker never does file I/O: it takes a ready segment from the recorder, and without one the journal is
 * full: journal_has_room() is false and the request is refused before anything is spent.
 *
 * Delivery: each record is read once per run. What was read but not released when the process died is read
 * again by the next run, marked `is_recovered`; what was released is not. At power loss up to the last sync
 * interval is lost. */
#ifndef JOURNAL_JOURNAL_H
#define JOURNAL_JOURNAL_H

#include "libshared/catalog/fact.h"

#define JOURNAL_SEGMENT ((size_t)1 << 20)

/* Numbers are on disk: never reuse one. */
enum journal_type {
    JOURNAL_RESERVE = 1,
    JOURNAL_ATTEMPT = 2,
    JOURNAL_PROGRESS = 3,
    JOURNAL_SETTLE = 4,
    JOURNAL_RELEASE = 5,
    JOURNAL_ADJUST = 6,
};

struct journal; /* one worker's */

struct journal_stats {
    uint64_t appended, bytes, read, full_refusals, used_bytes, max_bytes;
    uint64_t torn; /* segments that ended in a torn or corrupt record */
};

/* `dir` is created. Existing segments of an earlier run are kept and read by the recorder first. One process
 * at a time: ERR_CONFLICT otherwise. At least 4 segments are used even when `max_bytes` is less; with
 * `max_bytes` 0 the journal is read-only: it hands out what an earlier run left and its files go away when
 * that was released. */
struct journal *journal_open(const char *dir, unsigned worker, size_t max_bytes, struct err *err);
/* Unread records stay on disk. No other thread may use it any more. */
void journal_close(struct journal *j);
/* Highest worker number with files under `dir`, plus one. A process that starts with fewer workers than the
 * one before opens the rest read-only, so that nothing is left behind. */
unsigned journal_workers_on_disk(const char *dir);

/* Worker thread: room for one more request with all its attempts, beside those that are under way. */
bool journal_has_room(struct journal *j);
/* Worker thread: the attempt ended (its own record, so that attempts of a request that never settles are on
 * record). */
NODISCARD enum err_code journal_attempt(struct journal *j, const struct id *request, label tenant, label key,
                                        const struct fact_attempt *a);
/* Worker thread: the request ended. */
NODISCARD enum err_code journal_settle(struct journal *j, const struct fact_request *rq);
struct journal_stats journal_stats_mt(const struct journal *j);

/* A record as the reader sees it. Labels travel as text inside the journal and are interned again on reading.
 */
struct journal_record {
    enum journal_type type;
    bool is_recovered; /* written by an earlier run */
    uint64_t seq;      /* unique and rising per worker, across runs */
    struct id request;
    union {
        struct fact_request rq; /* JOURNAL_SETTLE */
        struct {
            label tenant, key;
            struct fact_attempt a;
        } attempt; /* JOURNAL_ATTEMPT */
    };
};

/* The rest is for the recorder thread. */

/* False when nothing is left now; then `err->code` is ERR_OK, or it says which record ended a segment early
 * (torn, corrupt) or was not understood, and the next call goes on behind it. */
bool journal_read(struct journal *j, struct journal_record *out, struct err *err);
/* Every record below this sequence number was read. */
uint64_t journal_position(const struct journal *j);
const char *journal_dir(const struct journal *j); /* this worker's */
/* True once every record of earlier runs was read. */
bool journal_is_recovered(const struct journal *j);
/* Everything read so far is safe elsewhere: whole segments are freed for reuse. */
void journal_release_read(struct journal *j);
/* A few times a second: keeps segments ready ahead of the worker. ERR_IO when the disk is full. */
enum err_code journal_tend(struct journal *j, struct err *err);
/* `fd` (an eventfd, borrowed) is written when the worker wants the recorder sooner than its next round. */
void journal_set_wake(struct journal *j, int fd);
/* Brings to the disk what was read since the last call. May block for long: one thread beside the recorder
 * calls it. */
enum err_code journal_sync_mt(struct journal *j);

#endif
