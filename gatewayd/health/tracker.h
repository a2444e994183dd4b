/* SPDX-License-Identifier: Apache-2.0 */
/* The health tracker: a thread that adds up what all nodes saw of each provider in the last minutes, and publishes the scores as
 * one immutable board, which routing, the API and the metrics read. It also probes providers that are idle. */
#ifndef HEALTH_TRACKER_H
#define HEALTH_TRACKER_H

#include "gatewayd/config/config.h"
#include "gatewayd/health/prober.h"
#include "gatewayd/resilience/breaker.h"
#include "gatewayd/telemetry/events.h"
#include "gatewayd/telemetry/exposition.h"
#include "libshared/store/kv.h"

struct tracker;

struct tracker_options {
    struct kv *kv;             /* owned from now on, also on failure */
    const char *node;          /* copied: who says so */
    bool is_shared;            /* other nodes may write to the same store */
    struct breakers *breakers; /* borrowed, like all below */
    struct events *events;
    struct config *(*config)(void *user);            /* the current one; the tracker unrefs */
    size_t (*facts)(void *user, struct facts **out); /* the tables of all threads, FACTS_MAX at most */
    void *user;
};
#define TRACKER_FACTS_MAX (LIMIT_WORKERS + 1)

/* The first board is there when it returns; of what was shared, nothing was heard yet. */
struct tracker *tracker_new(const struct tracker_options *o, struct err *err);
/* Once the threads are there whose facts it reads, and for as long. */
NODISCARD enum err_code tracker_start(struct tracker *t, struct err *err);
void tracker_stop(struct tracker *t); /* NULL is fine; the board stays */
void tracker_free(struct tracker *t);

/* ---- any thread ---- */

struct health_board *tracker_board_mt(struct tracker *t); /* the caller unrefs */
uint64_t tracker_probes_mt(const struct tracker *t, label provider, enum probe_outcome o);
/* Probes now, and waits. ERR_UNSUPPORTED: its kind has no free endpoint; ERR_NOT_FOUND: there is no such provider. Not for a
 * worker's or the api thread. */
NODISCARD enum err_code tracker_probe_mt(struct tracker *t, const char *provider, int64_t wait_us,
                                         struct health_probed *out, struct err *err);

#endif
