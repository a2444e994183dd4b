/* SPDX-License-Identifier: Apache-2.0 */
/* The journal: what happened, durable before it is visible. One per worker: a chain of mmap'ed segment files that
 * the worker appends to and the recorder thread reads. Records survive the death of the process at any instruction;
 * a record counts once its header word is published (release) behind its bytes and CRC.
 *
 *   dir/w<N>/<sequence>.seg   segments of JOURNAL_SEGMENT bytes, allocated ahead with posix_fallocate by the recorder
 *   record: u32 length | u8 type | u8 version | u16 zero | u64 seq | payload | u32 crc32c
 *
 * The worker never does file I/O: it takes a ready segment from the recorder, and without one the journal is full:
 * journal_has_room() is false and the request is refused before anything is spent. */
#ifndef JOURNAL_JOURNAL_H
#define JOURNAL_JOURNAL_H

#include "gatewayd/telemetry/fact.h"

#define JOURNAL_SEGMENT ((size_t)1 << 20)

enum journal_type { JOURNAL_RESERVE = 1, JOURNAL_ATTEMPT, JOURNAL_PROGRESS, JOURNAL_SETTLE, JOURNAL_RELEASE, JOURNAL_ADJUST };

struct journal; /* one worker's */

struct journal_stats {
    uint64_t appended, bytes, read, full_refusals, used_bytes, max_bytes;
};

/* `dir` is created. Existing segments of an earlier run are kept and read by the recorder first. */
struct journal *journal_open(const char *dir, unsigned worker, size_t max_bytes, struct err *err);
void journal_close(struct journal *j);
/* Worker thread: room for at least one request with all its attempts. */
bool journal_has_room(struct journal *j);
/* Worker thread: the attempt ended (its own record, so that attempts of a request that never settles are on record). */
NODISCARD enum err_code journal_attempt(struct journal *j, const struct id *request, label tenant, label key,
                                        const struct fact_attempt *a);
/* Worker thread: the request ended. */
NODISCARD enum err_code journal_settle(struct journal *j, const struct fact_request *rq);
struct journal_stats journal_stats_mt(const struct journal *j);

/* A record as the reader sees it. Labels travel as text inside the journal and are interned again on reading. */
struct journal_record {
    enum journal_type type;
    uint64_t seq;
    struct id request;
    union {
        struct fact_request rq;     /* JOURNAL_SETTLE */
        struct {
            label tenant, key;
            struct fact_attempt a;
        } attempt;                  /* JOURNAL_ATTEMPT */
    };
};

/* Recorder thread: false when nothing is left now. A record stays on disk until journal_release_read(). */
bool journal_read(struct journal *j, struct journal_record *out, struct err *err);
/* Everything read so far is safe elsewhere: whole segments are freed for reuse. */
void journal_release_read(struct journal *j);
/* Recorder thread, a few times a second: allocates segments ahead. ERR_IO (disk full) is reported once per change. */
enum err_code journal_tend(struct journal *j, struct err *err);

#endif
