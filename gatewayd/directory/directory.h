/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants, keys, plans and budgets that are kept in the history store, joined with the file's. One thread owns it and calls
 * directory_tick(); the functions marked _mt may be called by any.
 *
 *   database ──rows_load()──► rows ──config_join()──► the snapshot that requests use
 *        ▲                     │
 *   change (API)               └─► <state_dir>/directory.snapshot, signed: what is known at a start without the database
 *
 * How a change reaches other nodes: it raises 'keyver' in the database, within its transaction, and in the realtime store
 * behind it. Each node looks at the first every LIMIT_DIRECTORY_READ_US, which is enough for 5 s, and at the second every
 * LIMIT_DIRECTORY_POLL_US, which makes it faster. */
#ifndef DIRECTORY_DIRECTORY_H
#define DIRECTORY_DIRECTORY_H

#include "gatewayd/directory/rows.h"
#include "libshared/store/kv.h"

struct directory;

struct directory_options {
    struct db *db; /* owned; its handle is used by nobody else */
    struct kv *kv; /* owned, or NULL: this is the only node, or all use the database alone */
    const char *state_dir;
    int64_t max_age_us;             /* an older snapshot is not used */
    struct wall (*now)(void *user); /* NULL: the clock */
    void (*on_change)(void *user);  /* what directory_config_mt() gives has changed; on the owner's thread */
    void *user;
};

/* Reads the database, or when it does not answer the signed snapshot; says in the log which. Takes a reference on `file`. */
struct directory *directory_new(const struct directory_options *o, struct config *file);
void directory_free(struct directory *d);
/* Looks whether something has changed; microseconds until it wants to be called again. */
int64_t directory_tick(struct directory *d);

/* The file's configuration joined with the rest; the caller unrefs. */
struct config *directory_config_mt(struct directory *d);
/* From now on the file says this. Takes a reference. */
void directory_set_file_mt(struct directory *d, struct config *file);

/* The plans of the database as labels, in the arena; how many. */
size_t directory_plans_mt(struct directory *d, struct arena *a, label **out);
/* Tenants that this process put on a trial plan, and those that it took from one to another plan. */
void directory_trials_mt(struct directory *d, uint64_t *out_signups, uint64_t *out_conversions);

/* ---- for the API, on the owner's thread ---- */

/* What a change made of a tenant, which was on no plan (NULL) or on that one before; for the counts above. */
void directory_note_plan(struct directory *d, const char *from, const char *to);

/* What the database has, as fresh as can be had; it is asked first. Never NULL, valid until the next call. */
const struct directory_rows *directory_rows(struct directory *d);
/* What the file defines; the caller unrefs. */
struct config *directory_file_ref(struct directory *d);
/* Whether the database has answered since the start. */
bool directory_has_answered(const struct directory *d);

struct directory_change {
    const char *actor;    /* "token", "socket" */
    const char *action;   /* "tenant.create" */
    const char *subject;  /* "acme", "acme/web" */
    const json_t *detail; /* for the audit log; an object without floating numbers; never a secret */
    /* Within the transaction, after which nobody else changes the directory until it ends. It may read what it needs. */
    NODISCARD enum err_code (*write)(struct db *db, int64_t now_s, void *user, struct err *err);
    void *user;
};
/* All or nothing; when it returns this node works by it. ERR_UNAVAILABLE: the database does not answer, and in the worst case
 * only its last answer was lost. Other codes are those of `write`. */
NODISCARD enum err_code directory_change(struct directory *d, const struct directory_change *c,
                                         struct err *err);

/* What a change would make of the directory and of what requests use. */
struct directory_would {
    json_t *doc;
    struct directory_rows *rows;
    struct config *joined;
};
/* The same transaction as directory_change(), read at its end and then taken back: nothing is kept, told or logged. */
NODISCARD enum err_code directory_try(struct directory *d, const struct directory_change *c,
                                      struct directory_would *out, struct err *err);
void directory_would_release(struct directory_would *w);

/* A deed that is done already, for the audit log: written within seconds, or when the database answers again. Takes `detail`. */
void directory_note_mt(struct directory *d, const char *actor, const char *action, const char *subject,
                       json_t *detail);

/* A row of tenant_events, from inside `write`. `detail` NULL is {}. */
NODISCARD enum err_code directory_event(struct db *db, int64_t now_s, const char *tenant, const char *kind,
                                        const json_t *detail, struct err *err);

#endif
