/* SPDX-License-Identifier: Apache-2.0 */
/* Looks what is out of the ordinary: a thread that holds every provider's hours against those before, about once a minute and
 * after every hour, stores what it finds of closed hours in `anomalies`, and tells it as events. It also writes down what plans
 * earn, day by day, and forgets what is past retention. */
#ifndef BOOKS_WATCHER_H
#define BOOKS_WATCHER_H

#include "gatewayd/config/config.h"
#include "gatewayd/telemetry/events.h"
#include "libshared/analytics/anomaly.h"
#include "libshared/base/intern.h"
#include "libshared/store/db.h"
#include "libshared/store/kv.h"
#include "libshared/store/watermark.h"

struct watcher;

struct watcher_options {
    struct db *db;     /* owned from now on, also on failure: for writing */
    struct db *reader; /* likewise: for reading many hours */
    struct kv *kv;     /* likewise; may be NULL */
    int64_t retention_us;
    struct events *events;                /* borrowed */
    struct config *(*config)(void *user); /* the caller unrefs */
    /* Where the journals end now, and whether the history store has everything below such an end: 1, 0, or -1: it is not reached.
     * Hours that are still on their way are not judged. */
    void (*end)(void *user, struct watermark *out);
    int (*has)(void *user, const struct watermark *end);
    void *user;
};
struct watcher *watcher_start(const struct watcher_options *o, struct err *err);
void watcher_stop(struct watcher *w); /* NULL is fine */

struct watcher_finding {
    label provider;
    int64_t hour; /* its first second */
    bool is_active;
    struct anomaly a; /* `at` means nothing here */
};
#define WATCHER_FINDINGS 512u
/* Of the last day and the hour that runs, newest first. Returns how many there are, at most `cap`. */
size_t watcher_findings_mt(struct watcher *w, struct watcher_finding *out, size_t cap);
/* When it last had all hours that it needs; 0: never. */
struct wall watcher_looked_mt(struct watcher *w);

#endif
