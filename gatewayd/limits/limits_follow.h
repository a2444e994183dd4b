/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the accounts of budgets with the history store: what was spent before the start, what other nodes spend. A thread of its
 * own. */
#ifndef LIMITS_LIMITS_FOLLOW_H
#define LIMITS_LIMITS_FOLLOW_H

#include "gatewayd/limits/limits.h"
#include "libshared/store/db.h"
#include "libshared/store/watermark.h"

struct limits_follow;

struct limits_follow_options {
    struct limits *limits;
    struct db *db;        /* taken; with its own deadline */
    const char *instance; /* borrowed */
    /* Where the journals end now, behind all that was settled; and whether the store has everything below such an end: 1, 0, or
     * -1: it is not reached. Positions, not times, since clocks step. */
    void (*end)(void *user, struct watermark *out);
    int (*has)(void *user, const struct watermark *end);
    void *user;
};

/* Reads at once, then every few seconds. */
struct limits_follow *limits_follow_start(const struct limits_follow_options *o, struct err *err);
/* Waits until the accounts were read once, with all that this instance had settled before; false: not within `wait_us`.
 * Does not wait where there is no budget. */
bool limits_follow_wait(struct limits_follow *f, int64_t wait_us);
/* There may be new accounts. */
void limits_follow_wake_mt(struct limits_follow *f);
void limits_follow_stop(struct limits_follow *f); /* NULL is fine */

/* One round, for the thread and for tests: false when the store could not be read. */
bool limits_follow_once(struct limits_follow *f, struct wall now);

#endif
