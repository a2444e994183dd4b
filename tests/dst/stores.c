/* SPDX-License-Identifier: Apache-2.0 */
/* The writers of a life with the shipped targets, each behind a watcher that sees what the writer is told; and the faults of
 * the history store, statement by statement.
 *
 * Invariant watched here: a store never says that it has less than it once acknowledged (the realtime store may, when it was
 * emptied; its own side watches that). */
#include "tests/dst/stores.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gatewayd/journal/targets.h"
#include "libshared/store/db.h"

#define RETENTION_US ((int64_t)4 * 3600 * 1000000)

/* ---- time and chance for production code ---- */

static struct wall virtual_wall(void *user)
{
    (void)user;
    return world->wall;
}
static struct mono virtual_mono(void *user)
{
    (void)user;
    return world->mono;
}
static uint64_t virtual_random(void *user)
{
    (void)user;
    return world_random();
}

/* ---- the watcher ---- */

struct watcher {
    const struct target_ops *ops;
    void *self;
    bool is_history;
};

static void watch(const struct watcher *w, const struct watermark *m)
{
    for (unsigned i = 0; w->is_history && i < WATERMARK_WORKERS; i++) {
        uint64_t at = i < m->n ? m->at[i] : 0;

        if (at < world->db_at[i])
            world_fail("the history store's watermark of worker %u went back from %" PRIu64 " to %" PRIu64, i,
                       world->db_at[i], at);
        world->db_at[i] = at;
    }
}

static enum err_code watched_watermark(void *self, struct watermark *out, struct err *err)
{
    struct watcher *w = self;
    enum err_code e = w->ops->watermark(w->self, out, err);

    world_trace("%s watermark: %d batch %" PRIu64, w->ops->name, (int)e, e ? 0 : out->batch);
    if (!e)
        watch(w, out);
    if (!e && !w->is_history && !out->token && world->kv_had_batches) {
        world->kv_is_short = true;
        world_trace("the realtime store begins without what it had");
    }
    return e;
}

static void watched_begin(void *self)
{
    struct watcher *w = self;

    w->ops->begin(w->self);
}

/* The mutant posts where it is settled, not where it was admitted. */
static void take_into_another_window(const struct watcher *w, const struct journal_record *rec)
{
    struct journal_record other = *rec;

    other.settle.rq.reservation.at = world->wall;
    w->ops->take(w->self, &other);
}

static void watched_take(void *self, const struct journal_record *rec)
{
    struct watcher *w = self;

    if (world->mutant == MUTANT_WINDOW_AT_SETTLE && w->is_history && rec->type == JOURNAL_SETTLE) {
        take_into_another_window(w, rec);
        return;
    }
    w->ops->take(w->self, rec);
    if (world->mutant == MUTANT_DOUBLE_SETTLE && rec->type == JOURNAL_SETTLE && world_below(40) == 0)
        w->ops->take(w->self, rec);
}

static bool watched_is_full(void *self)
{
    struct watcher *w = self;

    return w->ops->is_full && w->ops->is_full(w->self);
}

static enum store_result watched_apply(void *self, const struct watermark *from, const struct watermark *next,
                                       struct err *err)
{
    struct watcher *w = self;
    enum store_result r = w->ops->apply(w->self, from, next, err);

    world_trace("%s apply batch %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 ": %d %s", w->ops->name,
                next->batch, next->at[0], next->at[1], next->at[2], (int)r,
                r == STORE_FAILED ? err_text(err) : "");
    if (r == STORE_FAILED && world->mutant == MUTANT_ACK_BEFORE_COMMIT)
        return STORE_APPLIED;
    if (r == STORE_APPLIED || r == STORE_DUPLICATE)
        watch(w, next);
    if (!w->is_history)
        world->kv_had_batches = true;
    return r;
}

static void watched_idle(void *self, struct wall now)
{
    struct watcher *w = self;

    if (w->ops->idle)
        w->ops->idle(w->self, now);
}

static void watched_free(void *self)
{
    struct watcher *w = self;

    w->ops->free(w->self);
    free(w);
}

#define WATCHED                                                                                              \
    .watermark = watched_watermark, .begin = watched_begin, .take = watched_take,                            \
    .is_full = watched_is_full, .apply = watched_apply, .idle = watched_idle, .free = watched_free

static struct watcher *watcher_new(const struct target_ops *ops, void *self, bool is_history)
{
    struct watcher *w = calloc(1, sizeof(*w));

    if (!w || !self)
        abort();
    *w = (struct watcher){ops, self, is_history};
    return w;
}

/* ---- faults of the history store ---- */

static enum err_code fault(const char *statement, const char *what)
{
    world->faults++;
    world_trace("db: %s %s", statement, what);
    return ERR_IO;
}

static enum err_code before(void *user, const char *statement)
{
    (void)user;
    if (!world->db_down && world_strikes(world->plan.db_goes_down))
        world->db_down = world_between(1, world->plan.down_long);
    if (world->is_calm)
        world->db_down = 0;
    if (world->db_down) {
        world->db_down--;
        return fault(statement, "is not heard");
    }
    return world_strikes(world->plan.db_fails_before) ? fault(statement, "fails before") : ERR_OK;
}

static enum err_code after(void *user, const char *statement)
{
    (void)user;
    return world_strikes(world->plan.db_fails_after) ? fault(statement, "fails after") : ERR_OK;
}

/* Handles of one connection, as in the gateway; the targets' have faults. */
struct db *stores_db(struct life *l)
{
    static const struct db_fault FAULT = {.before = before, .after = after};
    struct db *db = db_share(l->db);

    if (!db)
        abort();
    db_set_fault(db, &FAULT);
    return db;
}

static struct db *open_db(void)
{
    char path[200];
    struct db_options o = {.url = path, .slow_us = -1};
    struct err err = {0};
    struct db *db;

    (void)snprintf(path, sizeof(path), "%s/history.db", world->dir);
    db = db_new(&o, &err);
    if (!db)
        world_fail("db_new: %s", err_text(&err));
    return db;
}

/* ---- making ---- */

static struct writer *start_writer(struct life *l, const struct target_ops *ops,
                                   const struct target_ops *watched, void *self)
{
    struct err err = {0};
    struct writer_options o = {.ops = watched,
                               .self = watcher_new(ops, self, ops == &TARGET_HISTORY),
                               .journals = l->j,
                               .n_journals = l->n_journals,
                               .wall_now = virtual_wall,
                               .mono_now = virtual_mono,
                               .random = virtual_random};
    struct writer *w = writer_new(&o, &err);

    if (!w)
        world_fail("writer_new: %s", err_text(&err));
    return w;
}

void stores_open(struct life *l, int kv_fd)
{
    static struct target_ops realtime = {WATCHED}, history = {WATCHED};
    struct err err = {0};
    struct realtime_options ro = {.kv = kv_link_new(kv_fd),
                                  .instance = l->instance,
                                  .name = "dst",
                                  .retention_us = RETENTION_US,
                                  .now = virtual_wall};
    struct history_options ho = {.instance = l->instance, .now = virtual_wall};

    l->kv = kv_link_new(kv_fd);
    l->db = open_db();
    ho.db = stores_db(l);
    ro.refill = stores_db(l);
    realtime.name = TARGET_REALTIME.name;
    realtime.types = TARGET_REALTIME.types;
    history.name = TARGET_HISTORY.name;
    history.types = TARGET_HISTORY.types;
    l->writers[0] = start_writer(l, &TARGET_REALTIME, &realtime, target_realtime_new(&ro, &err));
    l->writers[1] = start_writer(l, &TARGET_HISTORY, &history, target_history_new(&ho, &err));
}

void stores_close(struct life *l)
{
    writer_free(l->writers[0]);
    writer_free(l->writers[1]);
    kv_free(l->kv);
    db_free(l->db);
}
