/* SPDX-License-Identifier: Apache-2.0 */
/* How the nodes' breakers agree: a thread that tells the realtime store what changed here and takes what changed elsewhere, about
 * twice a second. Forced states are also kept in the history store (table `settings`, "breaker PROVIDER MODEL"), written in the
 * transaction of their audit row, so they outlive a restart with no Redis. */
#ifndef BOOKS_BREAKER_SHARE_H
#define BOOKS_BREAKER_SHARE_H

#include "gatewayd/resilience/breaker.h"
#include "gatewayd/telemetry/events.h"
#include "libshared/store/db.h"
#include "libshared/store/kv.h"

struct breaker_share;

struct breaker_share_options {
    struct breakers *breakers; /* borrowed */
    struct kv *kv;             /* owned from now on, also on failure */
    struct db *db;             /* likewise */
    const char *node;          /* copied: who says so */
    struct events *events;     /* borrowed; brought to the stream and to the log by this thread */
    bool is_informed; /* read both stores once before the start returns; false: they are known to be away */
};
struct breaker_share *breaker_share_start(const struct breaker_share_options *o, struct err *err);
void breaker_share_stop(struct breaker_share *s); /* NULL is fine */

/* Keeps a forced state, or with BREAKER_AUTO forgets it. Within the caller's transaction. */
NODISCARD enum err_code breaker_keep(struct db *db, label provider, label model,
                                     const struct breaker_forced *f, struct err *err);

#endif
