/* SPDX-License-Identifier: Apache-2.0 */
/* The recorder thread: keeps every worker's journal in order about ten times a second, and is the consumer that hands
 * ended requests to the sinks (the access log). A second thread brings the journal to the disk. */
#ifndef JOURNAL_RECORDER_H
#define JOURNAL_RECORDER_H

#include "gatewayd/journal/journal.h"

/* One request that ended, with its attempts in order. */
struct recorded {
    const struct fact_request *rq;
    const struct fact_attempt *a;
    size_t n;
    bool
        is_recovered; /* from an earlier run's journal; what this start ended by itself says rq->is_recovery */
};

/* Called on the recorder thread. NULL slots are fine but for `request`. */
struct sink_stats { /* lines */
    uint64_t written, dropped, queued;
    struct wall last_written; /* 0: never */
};

struct sink_ops {
    const char *name;
    void (*request)(void *self, const struct recorded *r);
    /* After each batch: true when all that was handed over is safe, so that the journal may forget it. */
    bool (*flush)(void *self);
    void (*reopen)(void *self);
    void (*stats)(void *self, struct sink_stats *out); /* any thread */
    void (*free)(void *self);                          /* after a last flush */
};

struct recorder;
/* Borrows the journals, which must live longer than the recorder. */
struct recorder *recorder_new(struct journal *const *journals, size_t n, struct err *err);
/* Before recorder_start; `self` is owned by the recorder from now on. */
void recorder_add_sink(struct recorder *r, const struct sink_ops *ops, void *self);
/* Starts the threads; records of an earlier run go to the sinks first, from where it left off. */
NODISCARD enum err_code recorder_start(struct recorder *r, struct err *err);
/* Drains what is left, flushes, joins, frees. The workers have stopped. Also for one that was never started.
 */
void recorder_stop(struct recorder *r);
/* SIGHUP: sinks reopen their files. */
void recorder_reopen_mt(struct recorder *r);

struct recorder_stats {
    uint64_t log_written, log_dropped, batches;
    uint64_t log_queued;          /* records and lines on the way, about */
    struct wall log_last_written; /* 0: never */
};
struct recorder_stats recorder_stats_mt(const struct recorder *r);

#endif
