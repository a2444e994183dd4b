/* SPDX-License-Identifier: Apache-2.0 */
/* The stores that the nodes share. The realtime store is the real kv_memory behind handles that fail before or after, and hold
 * batches up; the history store is one SQLite file for the whole program, whose settings each seed finds empty. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libshared/store/kv_lease_priv.h"
#include "tests/dst/guards/guards.h"
#include "tests/dst/kv_wire.h"

#define LATE_MAX 8u

static struct {
    struct kv *kv;
    struct db *db;
    char dir[64];
    struct late {
        struct kv_batch *b;
        int64_t due_us;
    } late[LATE_MAX];
} store;

static struct wall true_wall(void *user)
{
    (void)user;
    return (struct wall){guards.wall_us};
}

static struct kv *fresh(void)
{
    struct kv_options o = {.url = "", .now = true_wall};
    struct kv *kv = kv_new(&o, NULL);

    if (!kv)
        abort();
    return kv;
}

static void drop_late(void)
{
    for (unsigned i = 0; i < LATE_MAX; i++) {
        kv_batch_free(store.late[i].b);
        store.late[i].b = NULL;
    }
}

void store_empty(void)
{
    kv_free(store.kv);
    store.kv = fresh();
    drop_late();
    guards_trace("the realtime store is empty");
}

/* ---- the history store ---- */

static void open_db(void)
{
    char path[100];
    struct db_options o = {.url = path, .slow_us = -1};
    struct err err = {0};

    (void)snprintf(store.dir, sizeof(store.dir), "%s/dst-guards-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(store.dir))
        abort();
    (void)snprintf(path, sizeof(path), "%s/history.db", store.dir);
    store.db = db_new(&o, &err);
    if (!store.db || db_migrate(store.db, &err)) {
        fprintf(stderr, "dst_guards: %s\n", err_text(&err));
        abort();
    }
}

void store_remove(void)
{
    static const char *const FILES[] = {"history.db", "history.db-wal", "history.db-shm", "history.db.lock"};
    char path[120];

    db_free(store.db);
    store.db = NULL;
    for (unsigned i = 0; i < sizeof(FILES) / sizeof(FILES[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", store.dir, FILES[i]);
        (void)unlink(path);
    }
    (void)rmdir(store.dir);
}

static enum err_code db_before(void *user, const char *statement)
{
    (void)user;
    (void)statement;
    guards.faults += guards.is_db_down;
    return guards.is_db_down ? ERR_IO : ERR_OK;
}

struct db *store_db(void)
{
    static const struct db_fault FAULT = {.before = db_before};
    struct db *db = db_share(store.db);

    if (!db)
        abort();
    db_set_fault(db, &FAULT);
    return db;
}

void store_begin(void)
{
    struct err err = {0};

    if (!store.db)
        open_db();
    if (db_exec(store.db, "forget", "DELETE FROM settings", NULL, 0, NULL, &err))
        abort();
    store.kv = fresh();
}

void store_end(void)
{
    drop_late();
    kv_free(store.kv);
    store.kv = NULL;
}

/* ---- the realtime store's handles ---- */

static struct kv_batch *copy_of(const struct kv_batch *b)
{
    struct buf bytes;
    struct kv_batch *copy;

    buf_init(&bytes, 0);
    kv_wire_encode(b, &bytes);
    copy = kv_wire_decode(buf_span(&bytes));
    buf_release(&bytes);
    return copy;
}

void store_tick(void)
{
    for (unsigned i = 0; i < LATE_MAX; i++) {
        struct late *l = &store.late[i];

        if (!l->b || guards.mono_us < l->due_us)
            continue;
        guards_trace("kv: a late batch arrives");
        (void)!kv_write(store.kv, l->b, NULL);
        kv_batch_free(l->b);
        l->b = NULL;
    }
}

static bool fails(struct err *err, const char *why)
{
    guards.faults++;
    guards_trace("kv: %s", why);
    (void)err_set(err, ERR_IO, "%s", why);
    return true;
}

static bool fails_before(struct err *err)
{
    if (guards_strikes(guards.plan.goes_down))
        guards.kv_down_until = guards.mono_us + guards_between(100000, 20000000);
    if (guards.is_cut && !guards.is_calm)
        return fails(err, "there is no way to the store");
    if (!guards.is_calm && guards.mono_us < guards.kv_down_until)
        return fails(err, "the store is away");
    return guards_strikes(guards.plan.fails_before) && fails(err, "the call did not arrive");
}

static bool hold_up(const struct kv_batch *b)
{
    for (unsigned i = 0; i < LATE_MAX; i++)
        if (!store.late[i].b) {
            store.late[i] = (struct late){copy_of(b), guards.mono_us + guards_between(1000, 5000000)};
            return true;
        }
    return false;
}

static enum store_result link_apply(void *self, int kind, const char *instance, const struct watermark *from,
                                    const struct watermark *next, const struct kv_batch *b, struct err *err)
{
    enum store_result r;

    (void)self;
    if (fails_before(err))
        return STORE_FAILED;
    if (kind == KV_WRITE && guards_strikes(guards.plan.late) && hold_up(b)) {
        (void)fails(err, "no answer in time");
        return STORE_FAILED;
    }
    if (kind == KV_WRITE)
        r = kv_write(store.kv, b, err) ? STORE_FAILED : STORE_APPLIED;
    else if (kind == KV_REFILL)
        r = kv_refill(store.kv, instance, next, b, err);
    else
        r = kv_apply(store.kv, instance, from, next, b, err);
    return guards_strikes(guards.plan.reply_lost) && fails(err, "the answer was lost") ? STORE_FAILED : r;
}

static enum err_code link_watermark(void *self, const char *instance, struct watermark *out, bool *out_found,
                                    struct err *err)
{
    (void)self;
    return fails_before(err) ? ERR_IO : kv_watermark(store.kv, instance, out, out_found, err);
}

static enum err_code link_read(void *self, int what, const char *key, int64_t a, int64_t b, kv_field_fn fn,
                               void *user, struct err *err)
{
    (void)self;
    if (fails_before(err))
        return ERR_IO;
    switch (what) {
    case KV_READ_HASH:
        return kv_hash(store.kv, key, fn, user, err);
    case KV_READ_INDEX:
        return kv_index(store.kv, key, a, b, fn, user, err);
    case KV_READ_LIST:
        return kv_list(store.kv, key, (unsigned)a, fn, user, err);
    case KV_READ_EVENTS:
        return kv_events(store.kv, key, (unsigned)a, fn, user, err);
    default:
        return kv_scan(store.kv, key, fn, user, err);
    }
}

static void trace_row(const struct kv_lease_row *r)
{
    guards_trace("  %s granted %" PRId64 " posted %" PRId64 " most %" PRId64 " need %" PRId64 " want %" PRId64
                 ": got %" PRId64 ", %" PRId64 " outstanding, %" PRId64 " free, %" PRId64 " elsewhere",
                 r->key, r->granted, r->posted, r->most, r->need, r->want, r->got, r->outstanding, r->rest,
                 r->others);
}

static enum err_code link_lease(void *self, int op, struct kv_lease_call *c, struct err *err)
{
    enum err_code e;

    (void)self;
    if (fails_before(err))
        return ERR_IO;
    e = op == KV_LEASE_KEEP ? kv_lease_keep(store.kv, c, err) : kv_lease(store.kv, c, err);
    guards_trace("lease %s of '%s' epoch %" PRId64 ": %s, %" PRId64 " nodes%s%s",
                 op == KV_LEASE_KEEP ? "keep" : "call", c->instance, c->epoch, e ? err_text(err) : "answered",
                 c->heard_nodes, c->is_quiet ? ", quiet" : "", c->has_books ? "" : ", no books");
    for (size_t i = 0; op == KV_LEASE_CALL && i < c->n; i++)
        trace_row(&c->rows[i]);
    if (!e && guards.on_lease_call)
        guards.on_lease_call(c->instance);
    return !e && guards_strikes(guards.plan.reply_lost) && fails(err, "the answer was lost") ? ERR_IO : e;
}

static void link_free(void *self)
{
    (void)self;
}

struct kv *store_kv(void)
{
    static const struct kv_ops LINK = {.name = "redis",
                                       .free = link_free,
                                       .apply = link_apply,
                                       .watermark = link_watermark,
                                       .read = link_read,
                                       .lease = link_lease};

    return kv_wrap(&LINK, &store);
}

struct kv *store_kv_plain(void)
{
    return store.kv;
}
