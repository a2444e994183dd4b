/* SPDX-License-Identifier: Apache-2.0 */
/* A store writer: one consumer of the journals that folds records into a batch about once a second, brings it to its store, and
 * commits its cursors when the store has it. The store's own watermark decides where it goes on, after a start, an error
 * or a lost acknowledgement. Memory is bounded by one batch: what a slow or dead store has not taken stays in the journal.
 *
 *            ┌─ unknown ◄────────────────── mismatch ─────────────┐
 *   start ──►│  target_ops.watermark()  ──► reading ──► full or due ──► sending ──► committed ──► reading
 *            └────── error: backoff ◄──────────┴───────────────────┘ failed: backoff, the same batch again
 *                                    nothing to send for 5 s
 *
 * writer_step() is all of it and knows no thread, so that the simulation runs the same code. */
#ifndef JOURNAL_WRITER_H
#define JOURNAL_WRITER_H

#include "gatewayd/journal/journal.h"
#include "gatewayd/telemetry/events.h"

/* What a store does with records; target_realtime.c and target_history.c implement it. All on the writer's thread. */
struct target_ops {
    const char *name; /* "realtime", "history" */
    unsigned types;   /* of records wanted, 1 << type */
    NODISCARD enum err_code (*watermark)(void *self, struct watermark *out, struct err *err);
    void (*begin)(void *self); /* forget the batch, a new one begins */
    void (*take)(void *self, const struct journal_record *rec);
    bool (*is_full)(void *self); /* no more records into this batch */
    enum store_result (*apply)(void *self, const struct watermark *from, const struct watermark *next,
                               struct err *err);
    /* Between batches, at most once a second: heartbeats, retention. May be NULL. */
    void (*idle)(void *self, struct wall now);
    void (*free)(void *self);
};

struct writer;
struct writer_options {
    const struct target_ops *ops;
    void *self; /* owned by the writer from now on */
    struct journal *const *journals;
    size_t n_journals;
    struct events *events;               /* told when the store goes away and comes back; NULL: nobody */
    int64_t interval_us;                 /* between batches; 0: 1 s */
    struct wall (*wall_now)(void *user); /* NULL: the clocks */
    struct mono (*mono_now)(void *user);
    uint64_t (*random)(void *user);
    void *user;
};
struct writer *writer_new(const struct writer_options *o, struct err *err);
/* Does what can be done now; returns microseconds until it wants to be called again (0: at once). */
int64_t writer_step(struct writer *w);
/* A thread that steps. */
NODISCARD enum err_code writer_start(struct writer *w, struct err *err);
/* Tries to bring the rest to the store for `wait_us`, joins. What is left stays in the journal. */
void writer_stop(struct writer *w, int64_t wait_us);
void writer_free(struct writer *w);
/* Sooner than its next round. */
void writer_wake_mt(struct writer *w);

struct writer_stats { /* any thread */
    const char *name;
    uint64_t batches, records, duplicates, mismatches, errors;
    uint64_t gaps;            /* times the store lacked records that the journal no longer has */
    uint64_t last_records;    /* of the last batch */
    int64_t last_us;          /* how long the store took for it */
    uint64_t queued;          /* records that the store has not, about */
    struct wall last_success; /* of a batch; 0: none yet */
    int64_t lag_us;           /* age of the oldest record that the store has not; 0: none */
    bool is_down;             /* the last try failed */
    struct wall down_since;
    char error[160];
};
/* Where the journals end now; and whether the store has everything below such an end. */
void writer_end_mt(const struct writer *w, struct watermark *out);
bool writer_has_mt(const struct writer *w, const struct watermark *end);
void writer_stats_mt(struct writer *w, struct writer_stats *out);

#endif
