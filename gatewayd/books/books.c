/* SPDX-License-Identifier: Apache-2.0 */
/* Main thread, but for the functions that end in _mt and the shares, which are made at boot. The writers own the handles that
 * they use; the two kept here only serve to make more of them. */
#include "gatewayd/books/books.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gatewayd/journal/targets.h"
#include "libshared/base/log.h"

#define LAST_FLUSH_US 5000000  /* that a stop waits for a store */
#define FILE_WAIT_US  10000000 /* that a start waits for a command that has the history file */

enum { REALTIME, HISTORY };

struct books {
    char instance[INSTANCE_CAP];
    char name[128]; /* of this node, for people */
    struct kv *kv;
    struct db *db;
    char *path; /* of the SQLite file; NULL: the history store is a server */
    struct writer *writers[BOOKS_WRITERS];
};

/* The journal is ours by now, so whoever has the file is no gateway but a command, and through with it soon. */
static struct db *open_db(const struct db_options *o, struct err *err)
{
    struct mono started = mono_now();
    struct db *db = db_new(o, err);

    while (!db && err->code == ERR_CONFLICT && mono_diff_us(mono_now(), started) < FILE_WAIT_US) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        *err = (struct err){0};
        db = db_new(o, err);
    }
    return db;
}

static enum err_code open_stores(struct books *b, const struct config *c, struct err *err)
{
    struct kv_options kv = {.url = c->redis};
    struct db_options db = {.url = c->database};
    char path[4200];

    if (!c->database[0]) {
        (void)snprintf(path, sizeof(path), "%s/history.db", c->state_dir);
        db.url = path;
        b->path = strdup(path);
    }
    b->kv = kv_new(&kv, err);
    if (!b->kv)
        return err_prefix(err, "redis");
    b->db = open_db(&db, err);
    if (!b->db)
        return err_prefix(err, "database");
    log_info("realtime store: %s; history store: %s", kv_where(b->kv), db_where(b->db));
    return ERR_OK;
}

enum err_code books_check(const struct config *c, struct buf *out, struct err *err)
{
    struct kv *kv = kv_new(&(struct kv_options){.url = c->redis}, err);
    struct db *db = NULL;

    if (!kv)
        return err_prefix(err, "redis");
    if (c->database[0])
        db = db_new(&(struct db_options){.url = c->database, .is_read_only = true}, err);
    if (db || !c->database[0])
        buf_addf(out, "realtime store: %s; history store: %s%s", kv_where(kv),
                 db ? db_where(db) : c->state_dir, db ? "" : "/history.db");
    kv_free(kv);
    db_free(db);
    return db || !c->database[0] ? ERR_OK : err_prefix(err, "database");
}

/* Takes `self` in any case. */
static enum err_code add_writer(struct books *b, unsigned i, const struct books_options *o,
                                const struct target_ops *ops, void *self, struct err *err)
{
    struct writer_options wo = {
        .ops = ops, .self = self, .journals = o->journals, .n_journals = o->n_journals, .events = o->events};

    if (!self)
        return err && err->code ? err->code : ERR_NO_MEMORY;
    b->writers[i] = writer_new(&wo, err);
    return b->writers[i] ? ERR_OK : ERR_IO;
}

static enum err_code make_writers(struct books *b, const struct books_options *o, struct err *err)
{
    struct realtime_options ro = {.kv = kv_share(b->kv),
                                  .refill = db_share(b->db),
                                  .instance = b->instance,
                                  .name = b->name,
                                  .retention_us = o->config->aggregation.retention_us};
    struct history_options ho = {.db = db_share(b->db),
                                 .instance = b->instance,
                                 .stories_per_second = o->config->history.stories_per_second,
                                 .stories_max = o->config->history.stories_max,
                                 .stories_us = o->config->history.stories_age_us};
    enum err_code e = add_writer(b, REALTIME, o, &TARGET_REALTIME, target_realtime_new(&ro, err), err);

    return e ? e : add_writer(b, HISTORY, o, &TARGET_HISTORY, target_history_new(&ho, err), err);
}

struct books *books_new(const struct books_options *o, struct err *err)
{
    struct books *b = calloc(1, sizeof(*b));

    if (!b)
        abort();
    (void)snprintf(b->instance, sizeof(b->instance), "%s", o->instance);
    (void)snprintf(b->name, sizeof(b->name), "%s:%u", o->config->listen.host, o->config->listen.port);
    if (open_stores(b, o->config, err) || make_writers(b, o, err)) {
        books_free(b);
        return NULL;
    }
    return b;
}

enum err_code books_start(struct books *b, struct err *err)
{
    enum err_code e = ERR_OK;

    for (unsigned i = 0; !e && i < BOOKS_WRITERS; i++)
        e = writer_start(b->writers[i], err);
    return e;
}

static void stop_one(struct writer *w)
{
    struct writer_stats s;

    writer_stop(w, LAST_FLUSH_US);
    writer_stats_mt(w, &s);
    if (s.is_down)
        log_warn("store '%s' is down; what it has not taken stays in the journal for the next start", s.name);
}

void books_stop(struct books *b)
{
    for (unsigned i = 0; b && i < BOOKS_WRITERS; i++)
        if (b->writers[i])
            stop_one(b->writers[i]);
}

void books_free(struct books *b)
{
    if (!b)
        return;
    for (unsigned i = 0; i < BOOKS_WRITERS; i++)
        writer_free(b->writers[i]);
    kv_free(b->kv);
    db_free(b->db);
    free(b->path);
    free(b);
}

void books_wake_mt(struct books *b)
{
    for (unsigned i = 0; i < BOOKS_WRITERS; i++)
        writer_wake_mt(b->writers[i]);
}

void books_stats_mt(struct books *b, struct writer_stats out[BOOKS_WRITERS])
{
    for (unsigned i = 0; i < BOOKS_WRITERS; i++)
        writer_stats_mt(b->writers[i], &out[i]);
}

void books_end_mt(struct books *b, struct watermark *out)
{
    writer_end_mt(b->writers[HISTORY], out);
}

int books_realtime_has_mt(struct books *b, const struct watermark *end)
{
    struct writer_stats s;

    writer_stats_mt(b->writers[REALTIME], &s);
    return s.is_down ? -1 : writer_has_mt(b->writers[REALTIME], end);
}

int books_history_has_mt(struct books *b, const struct watermark *end)
{
    struct writer_stats s;

    writer_stats_mt(b->writers[HISTORY], &s);
    return s.is_down ? -1 : writer_has_mt(b->writers[HISTORY], end);
}

const char *books_instance(const struct books *b)
{
    return b->instance;
}
struct kv *books_kv_share(struct books *b)
{
    return kv_share(b->kv);
}
struct db *books_db_share(struct books *b)
{
    return db_share(b->db);
}
struct db *books_db_reader(struct books *b)
{
    struct db *db =
        b->path ? db_new(&(struct db_options){.url = b->path, .is_read_only = true}, NULL) : db_share(b->db);

    if (!db)
        abort();
    return db;
}
