/* SPDX-License-Identifier: Apache-2.0 */
/* The recorder thread: drains every worker's journal a few times a second, folds attempts into their request, and hands records to the sinks
 * (the access log now; stores later). */
#ifndef JOURNAL_RECORDER_H
#define JOURNAL_RECORDER_H

#include "gatewayd/journal/journal.h"

/* A consumer of records; called on the recorder thread. */
struct sink_ops {
    const char *name;
    void (*request)(void *self, const struct fact_request *rq, const struct fact_attempt *a, size_t n);
    void (*flush)(void *self); /* after each batch */
    void (*free)(void *self);
};

struct recorder;
struct recorder *recorder_start(struct journal *const *journals, size_t n, struct err *err);
/* Before traffic; `self` is owned by the recorder from now on. */
void recorder_add_sink(struct recorder *r, const struct sink_ops *ops, void *self);
/* Drains what is left, flushes, joins. */
void recorder_stop(struct recorder *r);
/* SIGHUP: sinks reopen their files. */
void recorder_reopen_mt(struct recorder *r);

struct recorder_stats {
    uint64_t log_written, log_dropped, batches;
};
struct recorder_stats recorder_stats_mt(const struct recorder *r);

#endif
