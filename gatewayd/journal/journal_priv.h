/* SPDX-License-Identifier: Apache-2.0 */
/* What journal.c (opening, appending, housekeeping), cursor.c (consumers, forgetting) and recover.c share. */
#ifndef JOURNAL_JOURNAL_PRIV_H
#define JOURNAL_JOURNAL_PRIV_H

#include <pthread.h>
#include <stdalign.h>

#include "gatewayd/journal/segment_priv.h"

#define CURSORS_MAX 8u
#define NOT_NEEDED  UINT64_MAX

struct journal {
    /* Shared, written at open only. */
    char *dir;
    int dir_fd; /* locked: one process at a time */
    unsigned worker;
    size_t max_segments; /* 0: takes no records of requests */
    int wake_fd;
    struct wall opened;

    /* Worker (before it starts: journal_recover). */
    alignas(64) struct segment *current;
    size_t at;
    uint64_t last;
    bool was_full;
    _Atomic uint64_t end; /* where the next record goes, as a sequence number; follows what is published */
    _Atomic uint64_t needed;
    _Atomic uint64_t open; /* requests that were reserved and are not settled */
    _Atomic uint64_t appended, bytes, full_refusals;

    /* Recorder. `chain_lock` is held by whoever goes over the chain from its head or takes from it; following `next`
     * from a segment that is held by a commit needs no lock. */
    alignas(64) pthread_mutex_t chain_lock;
    struct segment *head;
    struct segment *tail;  /* the chain's last */
    struct segment *spare; /* released, not yet recycled; linked by next */
    struct segment *syncing;
    size_t synced_at; /* offset within `syncing`: what is older is on the disk or released */
    size_t n_spare, ready_more;
    uint64_t next_sequence, tended_sequence, first_sequence; /* first: that the worker began with */
    bool is_forced; /* recovery appends whatever the journal's size */
    _Atomic uint64_t segments, torn, recovered;
    _Atomic uint64_t ready_end, spares; /* for stats: `next_sequence` and `n_spare` after the last round */

    struct journal_cursor *_Atomic cursors[CURSORS_MAX]; /* made before the threads start */
};

/* One writer only. */
static inline void journal_count(_Atomic uint64_t *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

/* Records that the busiest consumer has read. */
uint64_t journal_cursors_read_mt(const struct journal *j);

/* No journal of the directory begins below it: where those ended that were removed with their worker. Stores remember
 * their numbers, and a clock that stepped back would hand them out again. 0 without one. */
uint64_t journal_floor(const char *dir);
NODISCARD enum err_code journal_raise_floor(const char *dir, uint64_t sequence, struct err *err);

/* For recovery: appends with no worker there, allocating as it goes. */
NODISCARD enum err_code journal_begin_forced(struct journal *j, struct err *err);
void journal_end_forced(struct journal *j);

#endif
