/* SPDX-License-Identifier: Apache-2.0 */
/* Attempts that wait for the SETTLE of their request. A request that fails over to a long stream is settled
 * long after its first attempt was recorded, and the journal does not wait for it: before it forgets attempts
 * they are saved to a small file beside the segments, and loaded by the next run. Recorder thread only. */
#ifndef JOURNAL_HOLD_H
#define JOURNAL_HOLD_H

#include "gatewayd/journal/journal.h"

#define HOLD_MAX 131072u /* requests, all workers together; far above what can be under way at once */

struct held_attempt {
    uint64_t seq;
    struct fact_attempt a;
};

struct held { /* one request's attempts, by number */
    struct id request;
    label tenant, key;
    unsigned journal; /* index in the recorder's list */
    bool is_recovered;
    uint64_t settled_seq; /* 0 while it waits */
    size_t n;
    struct held_attempt *at;
    struct held *next; /* private */
};

struct hold;

struct hold *hold_new(void);
void hold_free(struct hold *h);
/* False when HOLD_MAX requests wait already; nothing is kept then. An attempt that is held already is not
 * kept twice. */
bool hold_add(struct hold *h, unsigned journal, const struct journal_record *attempt);
/* The request was settled: its attempts, or NULL. They stay valid until hold_saved(). */
const struct held *hold_settle(struct hold *h, const struct id *request, uint64_t settled_seq);
size_t hold_waiting(const struct hold *h);

/* Call before the journal forgets what was read: everything that still waits is written to `dir`/held, with
 * what was settled since the last time and by which record, so that a crash before or after forgetting gives
 * the same answer. */
NODISCARD enum err_code hold_save(struct hold *h, unsigned journal, const char *dir, struct err *err);
/* After the journals forgot: drops what was settled. */
void hold_saved(struct hold *h);
/* Before the first record is read; `position` is journal_position(). A file that cannot be understood is
 * reported, and the sound part of it is used. */
NODISCARD enum err_code hold_load(struct hold *h, unsigned journal, const char *dir, uint64_t position,
                                  struct err *err);
/* Every record of the earlier run was read: hands out (and settles) what still waits from it. */
typedef void (*hold_fn)(void *user, const struct held *unsettled);
void hold_unsettled(struct hold *h, unsigned journal, hold_fn fn, void *user);

#endif
