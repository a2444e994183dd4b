/* SPDX-License-Identifier: Apache-2.0 */
/* One thread per core: its own loop, listener, client, fact cells and journal. Made on the main thread, then run on
 * its own; afterwards only the functions marked _mt may be called from elsewhere. */
#ifndef GATEWAYD_WORKER_H
#define GATEWAYD_WORKER_H

#include "gatewayd/api/front.h"
#include "gatewayd/config/config.h"
#include "gatewayd/core/mailbox.h"
#include "gatewayd/http/server.h"
#include "gatewayd/journal/journal.h"
#include "gatewayd/resilience/breaker.h"
#include "gatewayd/telemetry/facts.h"

struct overload;
struct queues;
struct loads;
struct tracker;
struct worker;

struct worker_options {
    unsigned index;
    int listen_fd;             /* taken */
    struct config *config;     /* the worker refs it */
    struct journal *journal;   /* borrowed; outlives the worker */
    struct api_front *api;     /* borrowed; outlives the worker */
    struct limits *limits;     /* likewise */
    struct breakers *breakers; /* likewise */
    struct queues *queues;     /* likewise */
    struct loads *loads;       /* likewise */
    struct tracker *tracker;   /* likewise */
    struct overload *overload; /* likewise */
    struct mailbox *main;      /* where `stopped` is posted when the thread has ended */
    struct letter *stopped;
};

struct worker *worker_new(const struct worker_options *o, struct err *err);
NODISCARD enum err_code worker_start(struct worker *w, struct err *err);
void worker_set_config_mt(struct worker *w, struct config *c); /* takes a reference of its own */
/* No new connections; the thread ends when its last exchange has. */
void worker_drain_mt(struct worker *w);
/* What is still live is cut, told so, and the thread ends. */
void worker_cut_mt(struct worker *w);
/* Waits until the correction is in the worker's journal. */
NODISCARD enum err_code worker_adjust_mt(struct worker *w, const struct fact_adjust *a, struct err *err);
void worker_join(struct worker *w); /* waits for the thread, if it was started */
void worker_free(struct worker *w);

struct worker_stats {
    struct loop_stats loop;
    struct server_stats server;
};
struct worker_stats worker_stats_mt(const struct worker *w);
struct facts *worker_facts_mt(const struct worker *w);

#endif
