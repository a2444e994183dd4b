/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's side of the realtime store: the real kv_memory, behind a network and an operator that misbehave. A call
 * fails before it arrives, or its answer is lost; a batch is held up and arrives later, perhaps when the process that
 * sent it is long dead; the store is away for a while, or comes back empty.
 *
 * Invariant watched here: the positions of the watermark never go back while the store was not emptied. */
#include "tests/dst/kv_wire.h"
#include "tests/dst/stores.h"

#include <stdio.h>
#include <stdlib.h>

#define LATE_MAX 8u

struct late {
    bool is_used;
    unsigned calls; /* until it arrives */
    struct kv_call call;
    struct kv_batch *b;
};

struct kv_serve {
    struct kv *kv;
    struct late late[LATE_MAX];
};

static struct wall now(void *user)
{
    (void)user;
    return world->wall;
}

static struct kv *fresh(void)
{
    struct kv_options o = {.url = "", .now = now};
    struct kv *kv = kv_new(&o, NULL);

    if (!kv)
        abort();
    return kv;
}

struct kv_serve *kv_serve_new(void)
{
    struct kv_serve *s = calloc(1, sizeof(*s));

    if (!s)
        abort();
    s->kv = fresh();
    return s;
}

void kv_serve_free(struct kv_serve *s)
{
    for (unsigned i = 0; i < LATE_MAX; i++)
        kv_batch_free(s->late[i].b);
    kv_free(s->kv);
    free(s);
}

void kv_serve_empty(struct kv_serve *s)
{
    kv_free(s->kv);
    s->kv = fresh();
    for (unsigned i = 0; i < LATE_MAX; i++) { /* its connections went with it */
        kv_batch_free(s->late[i].b);
        s->late[i] = (struct late){0};
    }
    memset(world->kv_at, 0, sizeof(world->kv_at));
    world_trace("the realtime store is empty");
}

/* ---- applying ---- */

static void watch(struct kv_serve *s, const char *instance)
{
    struct watermark w = {0};
    bool is_found;

    if (kv_watermark(s->kv, instance, &w, &is_found, NULL) || !is_found)
        return;
    for (unsigned i = 0; i < w.n; i++) {
        if (w.at[i] < world->kv_at[i])
            world_blame("the realtime store's watermark of worker %u went back", i);
        world->kv_at[i] = w.at[i];
    }
}

/* The mutant counts whatever comes, and keeps the watermark beside. */
static enum store_result apply_without_watermark(struct kv_serve *s, const struct kv_call *c,
                                                 const struct kv_batch *b)
{
    struct kv_batch *none = kv_batch_new();
    enum err_code e = kv_write(s->kv, b, NULL);

    (void)kv_apply(s->kv, c->instance, &c->from, &c->next, none, NULL);
    kv_batch_free(none);
    return e ? STORE_FAILED : STORE_APPLIED;
}

static enum store_result apply(struct kv_serve *s, const struct kv_call *c, const struct kv_batch *b,
                               struct err *err)
{
    enum store_result r;

    if (c->kind == KV_WRITE) {
        r = kv_write(s->kv, b, err) ? STORE_FAILED : STORE_APPLIED;
    } else if (c->kind == KV_REFILL) {
        r = kv_refill(s->kv, c->instance, &c->next, b, err);
        if (r == STORE_APPLIED && c->next.batch) /* else it began with nothing */
            world->kv_is_short = false;
    } else if (world->mutant == MUTANT_SKIPPED_WATERMARK) {
        r = apply_without_watermark(s, c, b);
    } else {
        r = kv_apply(s->kv, c->instance, &c->from, &c->next, b, err);
    }
    watch(s, c->instance);
    world_trace("kv apply kind %d batch %llu ops %zu: %d", c->kind, (unsigned long long)c->next.batch,
                kv_batch_ops(b), (int)r);
    return r;
}

/* Keeps `b` for later; false when too much is under way already. */
static bool hold_up(struct kv_serve *s, const struct kv_call *c, struct kv_batch *b)
{
    for (unsigned i = 0; i < LATE_MAX; i++) {
        if (s->late[i].is_used)
            continue;
        s->late[i] = (struct late){.is_used = true, .calls = world_between(1, 25), .call = *c, .b = b};
        return true;
    }
    return false;
}

static void deliver_late(struct kv_serve *s)
{
    for (unsigned i = 0; i < LATE_MAX; i++) {
        struct late *l = &s->late[i];

        if (!l->is_used || --l->calls)
            continue;
        world_trace("a late batch arrives");
        (void)apply(s, &l->call, l->b, NULL);
        kv_batch_free(l->b);
        *l = (struct late){0};
    }
}

/* ---- trouble ---- */

static bool is_down(void)
{
    if (!world->kv_down && world_strikes(world->plan.kv_goes_down))
        world->kv_down = world_between(1, world->plan.down_long);
    if (world->is_calm)
        world->kv_down = 0;
    return world->kv_down && world->kv_down--;
}

static bool fails(struct kv_answer *a, const char *why)
{
    world->faults++;
    a->result = STORE_FAILED;
    (void)err_set(&a->err, ERR_IO, "%s", why);
    world_trace("kv: %s", why);
    return true;
}

static bool fails_before(struct kv_answer *a)
{
    if (is_down())
        return fails(a, "the realtime store is away");
    return world_strikes(world->plan.kv_fails_before) && fails(a, "the call did not arrive");
}

static void serve_apply(struct kv_serve *s, const struct kv_call *c, struct span bytes, struct kv_answer *a)
{
    struct kv_batch *b = kv_wire_decode(bytes);

    if (fails_before(a)) {
        kv_batch_free(b);
        return;
    }
    if (world_strikes(world->plan.kv_late) && hold_up(s, c, b)) {
        (void)fails(a, "no answer in time");
        return;
    }
    a->result = apply(s, c, b, &a->err);
    if (world_strikes(world->plan.kv_reply_lost))
        (void)fails(a, "the answer was lost");
    kv_batch_free(b);
}

/* ---- reading ---- */

static void add_field(void *user, struct span field, struct span value)
{
    struct buf *out = user;
    size_t len[2] = {field.len, value.len};

    if (buf_append(out, len, sizeof(len)) || buf_append(out, field.p, field.len) || buf_append(out, "", 1) ||
        buf_append(out, value.p, value.len) || buf_append(out, "", 1))
        abort();
}

static enum err_code read_one(struct kv_serve *s, const struct kv_call *c, struct buf *out, struct err *err)
{
    switch (c->kind) {
    case KV_READ_HASH:
        return kv_hash(s->kv, c->key, add_field, out, err);
    case KV_READ_INDEX:
        return kv_index(s->kv, c->key, c->a, c->b, add_field, out, err);
    case KV_READ_LIST:
        return kv_list(s->kv, c->key, (unsigned)c->a, add_field, out, err);
    case KV_READ_EVENTS:
        return kv_events(s->kv, c->key, (unsigned)c->a, add_field, out, err);
    default:
        return kv_scan(s->kv, c->key, add_field, out, err);
    }
}

static void serve(struct kv_serve *s, const struct kv_call *c, struct span bytes, struct kv_answer *a,
                  struct buf *rest)
{
    deliver_late(s);
    if (world_strikes(world->plan.kv_emptied))
        kv_serve_empty(s);
    if (c->what == KV_WIRE_APPLY) {
        serve_apply(s, c, bytes, a);
        return;
    }
    if (fails_before(a))
        return;
    if (c->what == KV_WIRE_WATERMARK)
        a->err.code = kv_watermark(s->kv, c->instance, &a->mark, &a->is_found, &a->err);
    else if (c->what == KV_WIRE_READ)
        a->err.code = read_one(s, c, rest, &a->err);
    a->len = rest->len;
}

void kv_serve_run(struct kv_serve *s, int fd)
{
    struct kv_call c;

    while (kv_wire_receive(fd, &c, sizeof(c))) {
        struct kv_answer a = {0};
        struct buf bytes, rest;
        bool is_alive;

        buf_init(&bytes, 0);
        buf_init(&rest, 0);
        if (buf_reserve(&bytes, c.len + 1) || !kv_wire_receive(fd, bytes.p, c.len)) {
            buf_release(&bytes);
            return;
        }
        bytes.len = c.len;
        serve(s, &c, buf_span(&bytes), &a, &rest);
        is_alive = kv_wire_send(fd, &a, sizeof(a), buf_span(&rest));
        buf_release(&bytes);
        buf_release(&rest);
        if (!is_alive)
            return;
    }
}
