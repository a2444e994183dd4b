/* SPDX-License-Identifier: Apache-2.0 */
/* The realtime store's front: chooses the backend and checks what is asked before it gets there. A handle is its owner thread's.
 * Backends always get a place for their error text, and only a failure's reaches the caller: what was tried in vain before a
 * success is nobody's error. */
#include "libshared/store/kv.h"

#include <stdlib.h>

#include "libshared/store/kv_keys.h"
#include "libshared/store/kv_lease_priv.h"
#include "libshared/store/kv_priv.h"

struct kv {
    const struct kv_ops *ops;
    void *self;
};

struct kv *kv_wrap(const struct kv_ops *ops, void *self)
{
    struct kv *kv = calloc(1, sizeof(*kv));

    if (!kv)
        abort();
    kv->ops = ops;
    kv->self = self;
    return kv;
}

struct kv *kv_new(const struct kv_options *o, struct err *err)
{
    return o->url && o->url[0] ? kv_redis_new(o, err) : kv_memory_new(o);
}

struct kv *kv_share(struct kv *kv)
{
    return kv->ops->share ? kv->ops->share(kv->self) : NULL;
}

void kv_free(struct kv *kv)
{
    if (!kv)
        return;
    if (kv->ops->free)
        kv->ops->free(kv->self);
    free(kv);
}

const char *kv_backend(const struct kv *kv)
{
    return kv->ops->name;
}

const char *kv_where(const struct kv *kv)
{
    return kv->ops->where ? kv->ops->where(kv->self) : kv->ops->name;
}

static enum err_code finish(enum err_code e, const struct err *own, struct err *err)
{
    if (e && err)
        *err = *own;
    return e;
}

static enum store_result apply(struct kv *kv, int kind, const char *instance, const struct watermark *from,
                               const struct watermark *next, const struct kv_batch *b, struct err *err)
{
    enum store_result r = STORE_FAILED;
    struct err own = {0};

    kv_batch_note_refused(b, SPAN_LIT(""));
    if (kind != KV_WRITE && ((kind == KV_APPLY && !next->batch) || next->n > WATERMARK_WORKERS))
        (void)err_set(&own, ERR_BAD_REQUEST, "the watermark that follows is no watermark");
    else if (!kv_batch_check(b, &own))
        r = kv->ops->apply(kv->self, kind, instance, from, next, b, &own);
    if (r == STORE_FAILED && !own.code)
        (void)err_set(&own, ERR_IO, "the realtime store failed");
    (void)finish(r == STORE_FAILED ? own.code : ERR_OK, &own, err);
    return r;
}

enum store_result kv_apply(struct kv *kv, const char *instance, const struct watermark *from,
                           const struct watermark *next, const struct kv_batch *b, struct err *err)
{
    return apply(kv, KV_APPLY, instance, from, next, b, err);
}

enum store_result kv_refill(struct kv *kv, const char *instance, const struct watermark *next,
                            const struct kv_batch *b, struct err *err)
{
    return apply(kv, KV_REFILL, instance, NULL, next, b, err);
}

enum err_code kv_begin(struct kv *kv, struct err *err)
{
    struct kv_batch *nothing = kv_batch_new();
    struct err own = {0};
    enum store_result r = kv_refill(kv, "", &(struct watermark){0}, nothing, &own);

    kv_batch_free(nothing);
    if (r != STORE_FAILED)
        return ERR_OK;
    if (err)
        *err = own;
    return own.code;
}

static void see_field(void *user, struct span field, struct span value)
{
    (void)field;
    (void)value;
    *(bool *)user = true;
}

enum err_code kv_has_begun(struct kv *kv, bool *out, struct err *err)
{
    *out = false;
    return kv_hash(kv, KV_BOOKS, see_field, out, err);
}

enum err_code kv_write(struct kv *kv, const struct kv_batch *b, struct err *err)
{
    struct err own = {0};

    if (apply(kv, KV_WRITE, NULL, NULL, NULL, b, &own) == STORE_APPLIED)
        return ERR_OK;
    if (err)
        *err = own;
    return own.code;
}

enum err_code kv_watermark(struct kv *kv, const char *instance, struct watermark *out, bool *out_found,
                           struct err *err)
{
    struct err own = {0};
    enum err_code e = kv->ops->watermark(kv->self, instance, out, out_found, &own);

    return finish(e, &own, err);
}

static enum err_code read_what(struct kv *kv, int what, const char *key, int64_t a, int64_t b, kv_field_fn fn,
                               void *user, struct err *err)
{
    struct err own = {0};
    enum err_code e = kv->ops->read(kv->self, what, key, a, b, fn, user, &own);

    return finish(e, &own, err);
}

enum err_code kv_hash(struct kv *kv, const char *key, kv_field_fn fn, void *user, struct err *err)
{
    return read_what(kv, KV_READ_HASH, key, 0, 0, fn, user, err);
}

enum err_code kv_index(struct kv *kv, const char *key, int64_t min_score, int64_t max_score, kv_field_fn fn,
                       void *user, struct err *err)
{
    return read_what(kv, KV_READ_INDEX, key, min_score, max_score, fn, user, err);
}

enum err_code kv_list(struct kv *kv, const char *key, unsigned n, kv_field_fn fn, void *user, struct err *err)
{
    return n ? read_what(kv, KV_READ_LIST, key, n, 0, fn, user, err) : ERR_OK;
}

enum err_code kv_events(struct kv *kv, const char *key, unsigned n, kv_field_fn fn, void *user,
                        struct err *err)
{
    return n ? read_what(kv, KV_READ_EVENTS, key, n, 0, fn, user, err) : ERR_OK;
}

enum err_code kv_scan(struct kv *kv, const char *prefix, kv_field_fn fn, void *user, struct err *err)
{
    return read_what(kv, KV_READ_SCAN, prefix, 0, 0, fn, user, err);
}

/* ---- several at once ---- */

struct one_of_many {
    kv_many_fn fn;
    void *user;
    size_t i;
};

static void on_one(void *user, struct span field, struct span value)
{
    struct one_of_many *o = user;

    o->fn(o->user, o->i, field, value);
}

/* A key of another type is that key's matter; anything else is the store's. */
static enum err_code one_by_one(struct kv *kv, const struct kv_ask *asks, size_t n, kv_many_fn fn, void *user,
                                bool *bad, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        struct one_of_many o = {fn, user, i};
        enum err_code e =
            kv->ops->read(kv->self, asks[i].what, asks[i].key, asks[i].a, asks[i].b, on_one, &o, err);

        bad[i] = e == ERR_CONFLICT;
        if (e && e != ERR_CONFLICT)
            return e;
    }
    return ERR_OK;
}

enum err_code kv_read_many(struct kv *kv, const struct kv_ask *asks, size_t n, kv_many_fn fn, void *user,
                           bool *bad, struct wall *out_now, struct err *err)
{
    struct err own = {0};
    enum err_code e;

    *out_now = wall_now();
    for (size_t i = 0; i < n; i++)
        bad[i] = false;
    if (kv->ops->read_many)
        e = kv->ops->read_many(kv->self, asks, n, fn, user, bad, out_now, &own);
    else
        e = one_by_one(kv, asks, n, fn, user, bad, &own);
    return finish(e, &own, err);
}

static enum err_code lease(struct kv *kv, int op, struct kv_lease_call *c, struct err *err)
{
    struct err own = {0};
    enum err_code e;

    if (!kv->ops->lease)
        e = err_set(&own, ERR_UNAVAILABLE, "this store has no leases");
    else if (c->n > KV_LEASE_ROWS || c->life < 1 || c->sequence < 1 || c->ttl_ms < 1)
        e = err_set(&own, ERR_BAD_REQUEST, "a call about leases makes no sense");
    else
        e = kv->ops->lease(kv->self, op, c, &own);
    return finish(e, &own, err);
}

enum err_code kv_lease(struct kv *kv, struct kv_lease_call *c, struct err *err)
{
    return lease(kv, KV_LEASE_CALL, c, err);
}

enum err_code kv_lease_keep(struct kv *kv, struct kv_lease_call *c, struct err *err)
{
    return lease(kv, KV_LEASE_KEEP, c, err);
}
