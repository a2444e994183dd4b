/* SPDX-License-Identifier: Apache-2.0 */
/* The two stores of a life, with everything between them and the writers that can go wrong. The history store is
 * SQLite on a file; the realtime store is kv_memory in the driver's process, reached through a socket, so that it
 * outlives the gateway as a Redis does. */
#ifndef DST_STORES_H
#define DST_STORES_H

#include "libshared/store/kv.h"
#include "tests/dst/life.h"

/* stores.c, in the life */
void stores_open(struct life *l, int kv_fd);
void stores_close(struct life *l);
struct db *stores_db(struct life *l); /* another handle of the history store, with faults; the caller's */

/* kv_link.c, in the life: a handle whose calls go to the driver. */
struct kv *kv_link_new(int fd);

/* kv_serve.c, in the driver */
struct kv_serve;
struct kv_serve *kv_serve_new(void);
void kv_serve_free(struct kv_serve *s);
void kv_serve_empty(struct kv_serve *s); /* as FLUSHALL or a restart without persistence */
/* Answers calls until the other side closes. */
void kv_serve_run(struct kv_serve *s, int fd);

#endif
