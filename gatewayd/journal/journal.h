/* SPDX-License-Identifier: Apache-2.0 */
/* The journal: what happened, durable before it is visible. One per worker: a chain of mmap'ed segment files
 * that the worker appends to and that each consumer (access log, realtime store, history store) reads at its own
 * pace on its own thread. Records survive the death of the process at any instruction; a record counts once its
 * header word is published (release) behind its bytes and CRC.
 *
 *   dir/instance              the id of these books, minted once; watermarks in the stores carry it
 *   dir/w<N>/<sequence>.seg   segments of JOURNAL_SEGMENT bytes, allocated ahead with posix_fallocate by the recorder
 *   record (8-byte aligned)   u32 payload length | u8 type | u8 version | u16 zero | u64 seq | payload | u32 crc32c
 *
 * The worker never does file I/O: it takes a ready segment from the recorder, and without one the journal is
 * full: journal_has_room() is false and the request is refused before anything is spent.
 *
 * Forgetting: a segment is given away when every consumer committed all of it and no request that is still open needs
 * it. An open request needs its newest statement (RESERVE, or a PROGRESS, which repeats all that matters); requests that are
 * open for long restate themselves as the journal moves on (journal_is_far_behind).
 *
 * Recovery: before the workers start, journal_recover() reads what earlier runs left and ends every request that is
 * open there, by records of this run: an attempt that was under way becomes an ATTEMPT with what its last PROGRESS knew
 * (or the prompt alone, when it had been dispatched), then a SETTLE with `is_recovery`. Doing it again changes nothing.
 */
#ifndef JOURNAL_JOURNAL_H
#define JOURNAL_JOURNAL_H

#include "libshared/catalog/fact.h"
#include "libshared/journal/record.h"
#include "libshared/store/watermark.h"

/* Bytes, a power of two up to 1 MiB. The simulation builds its own copy with small ones. */
#ifndef JOURNAL_SEGMENT
#define JOURNAL_SEGMENT ((size_t)1 << 20)
#endif

struct journal; /* one worker's */

struct journal_stats {
    uint64_t appended, bytes, read, full_refusals, used_bytes, max_bytes;
    uint64_t ahead_bytes; /* of `used_bytes`: not written to yet, and not kept for requests under way */
    uint64_t torn;        /* segments that ended in a torn or corrupt record */
    uint64_t recovered;   /* requests that journal_recover() ended */
};

/* Reads the id from `dir`/instance, or mints it (durably); `dir` is created. */
NODISCARD enum err_code journal_instance(const char *dir, char out[INSTANCE_CAP], struct err *err);

/* `dir` is created. Existing segments of an earlier run are kept and read by the consumers first. One process
 * at a time: ERR_CONFLICT otherwise. At least 4 segments are used even when `max_bytes` is less; with
 * `max_bytes` 0 the journal takes no records of requests (recovery may still append to it): it hands out what an earlier
 * run left and its files go away when that was released. */
struct journal *journal_open(const char *dir, unsigned worker, size_t max_bytes, struct err *err);
/* Unread records stay on disk. No other thread may use it any more. */
void journal_close(struct journal *j);
/* Highest worker number with files under `dir`, plus one. A process that starts with fewer workers than the
 * one before opens the rest with 0 bytes, so that nothing is left behind. */
unsigned journal_workers_on_disk(const char *dir);
/* Before any worker or consumer uses it. Ends what earlier runs left open; reports how many requests that were. */
NODISCARD enum err_code journal_recover(struct journal *j, size_t *out_ended, struct err *err);

/* ---- worker thread ---- */

/* Room for one more request with all its attempts, beside those that are under way. */
bool journal_has_room(struct journal *j);
/* Before the provider is called. */
NODISCARD enum err_code journal_reserve(struct journal *j, const struct fact_open *o);
NODISCARD enum err_code journal_progress(struct journal *j, const struct fact_open *o);
/* The attempt ended. */
NODISCARD enum err_code journal_attempt(struct journal *j, const struct fact_context *c,
                                        const struct fact_attempt *a);
/* The request ended; `a` are its rq->attempts attempts, for the story: they were booked by their own records. One that
 * neither holds nor tried anything (a refusal) is recorded only while there is room beside what is kept free. */
NODISCARD enum err_code journal_settle(struct journal *j, const struct fact_request *rq,
                                       const struct fact_attempt *a);
NODISCARD enum err_code journal_adjust(struct journal *j, const struct fact_adjust *a);
/* Sequence number of the record appended last. */
uint64_t journal_last(const struct journal *j);
/* The oldest record that an open request needs; anything above the last one: none does. Told now and then; what is
 * older may be forgotten, and nothing that is appended later. */
void journal_set_needed(struct journal *j, uint64_t seq);
/* An open request whose newest statement is `seq` should state itself again, so that the journal can forget. */
bool journal_is_far_behind(const struct journal *j, uint64_t seq);

struct journal_stats journal_stats_mt(const struct journal *j);

/* ---- consumers ---- */

/* One consumer's place in one worker's journal. Made before the threads start; then used by one thread. */
struct journal_cursor;
struct journal_cursor *journal_cursor_new(struct journal *j, const char *consumer);
void journal_cursor_free(struct journal_cursor *c);
/* For a consumer whose store cannot tell how far it came: goes on from the commit that an earlier run of it left in
 * w<N>/<consumer>.at, and keeps further ones there. Before anything is read. */
void journal_cursor_keep(struct journal_cursor *c);
/* About how many records of this run it has not read. Any thread. */
uint64_t journal_cursor_unread_mt(const struct journal_cursor *c);
/* The next record, or false when nothing is left now; then `err->code` is ERR_OK, or it says which record ended a
 * segment early (torn, corrupt) or was not understood, and the next call goes on behind it. */
bool journal_cursor_read(struct journal_cursor *c, struct journal_record *out, struct err *err);
/* Only the types of this bit set (1 << type) are decoded and handed out; the others are passed over cheaply. */
void journal_cursor_want(struct journal_cursor *c, unsigned types);
/* Every record below this sequence number was handed out or passed over. */
uint64_t journal_cursor_position(const struct journal_cursor *c);
/* Goes to the first record at or above `seq`; back as far as there are records, also below what this consumer
 * committed (an emptied store is refilled from another store, which may be behind). Returns the sequence number where
 * it stands: larger than `seq` when records in between are gone. */
uint64_t journal_cursor_seek(struct journal_cursor *c, uint64_t seq);
/* This journal has not come there: a position at or above which nothing was appended yet. */
bool journal_cursor_is_beyond(const struct journal_cursor *c, uint64_t seq);
/* Everything below is safe at this consumer's for good. */
void journal_cursor_commit(struct journal_cursor *c, uint64_t seq);
uint64_t journal_cursor_committed(const struct journal_cursor *c);
/* Behind the record that was appended last; committed there means that all is. */
uint64_t journal_cursor_end_mt(const struct journal_cursor *c);
/* How long ago everything that there was had been committed: an upper bound on the age of the oldest record that is
 * not; 0: there is none. */
int64_t journal_cursor_lag_us_mt(const struct journal_cursor *c, struct wall now);

/* ---- the recorder's thread ---- */

const char *journal_dir(const struct journal *j); /* this worker's */
/* Gives away what every consumer committed and no open request needs. */
void journal_free_committed(struct journal *j);
/* A few times a second: keeps segments ready ahead of the worker. ERR_IO when the disk is full. */
enum err_code journal_tend(struct journal *j, struct err *err);
/* `fd` (an eventfd, borrowed) is written when the worker wants the recorder sooner than its next round. */
void journal_set_wake(struct journal *j, int fd);
/* Brings to the disk what was appended since the last call. May block for long: one thread beside the recorder
 * calls it. */
enum err_code journal_sync_mt(struct journal *j);

#endif
