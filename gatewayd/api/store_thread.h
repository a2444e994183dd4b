/* SPDX-License-Identifier: Apache-2.0 */
/* A thread on which things that wait for a store are done, one after the other: letters that others post, and a tick of its
 * own. It owns whatever its tick and its letters use. */
#ifndef API_STORE_THREAD_H
#define API_STORE_THREAD_H

#include "gatewayd/core/mailbox.h"

struct store_thread;

struct store_thread_options {
    const char *name; /* a literal, at most 15 characters */
    /* Called at once and then again after as many microseconds as it returned; NULL: never. */
    int64_t (*tick)(void *user);
    void *user;
    unsigned max_queued; /* letters that wait; more are refused */
};

struct store_thread *store_thread_start(const struct store_thread_options *o, struct err *err);
/* False when too many wait already: the letter stays the caller's. Not after store_thread_stop() was called. */
bool store_thread_post_mt(struct store_thread *t, struct letter *l);
/* True from the call of store_thread_stop() on: letters do no more than go home. */
bool store_thread_is_over_mt(const struct store_thread *t);
/* Waits for the letter that is open, joins, opens the rest on the caller's thread, frees. */
void store_thread_stop(struct store_thread *t);

#endif
