/* SPDX-License-Identifier: Apache-2.0 */
/* What the gateway is made of, for the files that are it. */
#ifndef GATEWAYD_GATEWAY_PRIV_H
#define GATEWAYD_GATEWAY_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "gatewayd/books/aggregator.h"
#include "gatewayd/books/books.h"
#include "gatewayd/books/breaker_share.h"
#include "gatewayd/books/forecaster.h"
#include "gatewayd/books/watcher.h"
#include "gatewayd/core/mailbox.h"
#include "gatewayd/gateway.h"
#include "gatewayd/health/tracker.h"
#include "gatewayd/journal/recorder.h"
#include "gatewayd/limits/limits_follow.h"
#include "gatewayd/limits/limits_lease.h"
#include "gatewayd/worker.h"

struct worker_end {
    struct letter letter;
    struct gateway *gw;
};

struct gateway {
    struct gateway_options o;
    pthread_mutex_t lock;        /* guards `config` and serialises reloads' swap */
    pthread_mutex_t reload_lock; /* one swap at a time; held while the workers are made */
    struct config *config;
    struct config *booted; /* what the listeners, journals and threads were made from */
    struct wall started;
    struct mailbox *mailbox; /* of the main thread */
    struct journal *journals[LIMIT_WORKERS];
    char instance[INSTANCE_CAP]; /* the id of these books */
    struct recorder *recorder;
    struct books *books;
    struct directory *directory;
    struct db *reading_db; /* of the thread that owns the directory */
    struct limits *limits;
    struct limits_follow *follow;
    struct limits_lease *lease;    /* NULL: the realtime store is memory */
    struct aggregator *aggregator; /* NULL without a history store */
    struct breakers *breakers;
    struct queues *queues;
    struct loads *loads; /* what targets are doing now */
    struct overload *overload;
    struct breaker_share *breaker_share;
    struct tracker *tracker;
    struct events *events;
    struct forecaster *forecaster;
    struct watcher *watcher;
    struct monitor_stores monitor; /* of the api thread's reader */
    struct api_front *api;
    struct worker *workers[LIMIT_WORKERS];
    struct worker_end ends[LIMIT_WORKERS];
    unsigned n_workers, n_running, n_journals;
    uint16_t port;
    _Atomic bool is_draining;
    struct timer deadline;
    _Atomic uint64_t reloads_ok, reloads_failed;
    _Atomic int64_t windows_since_us; /* wall clock; 0: all that there is */
    struct stat ready;                /* the ready file as it was written; st_ino 0: none */
};

#endif
