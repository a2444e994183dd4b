/* SPDX-License-Identifier: Apache-2.0 */
/* A node's writer, which brings ends of requests to the realtime store, each batch under its watermark; and the filling of a
 * store that was emptied, as realtime_refill.c does it: the history store is read, and some time later what it said is written.
 * Between the two other nodes do what they do, the history goes on, and calls and answers are lost. */
#include "tests/dst/guards/leases.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRESH_US 15000000 /* of realtime_refill.c */
#define LOOK_US  4000000  /* a writer with nothing to do looks whether its store was emptied */

static void add_ends(const struct node *n, struct kv_batch *b, size_t from, size_t to)
{
    char key[KV_KEY_CAP], lease[32];

    (void)snprintf(lease, sizeof(lease), "l:%s", n->instance);
    for (size_t i = from; i < to; i++) {
        leases_key(n->ends[i].start_us, key);
        kv_batch_add(b, key, "posted", n->ends[i].cost);
        if (n->ends[i].cost > 0)
            kv_batch_drain(b, key, lease, "leased", n->ends[i].cost);
        kv_batch_expire(b, key, 48 * 3600, false);
    }
}

/* ---- filling ---- */

static void read_history(struct node *n)
{
    n->fill = (struct fill){.is_read = true, .read_us = guards.mono_us};
    for (unsigned i = 0; i < leases.n_nodes; i++)
        n->fill.at[i] = leases.node[i].on_record;
    guards_trace("node %u reads the history", n->number);
}

static void put_windows(const struct node *n, struct kv_batch *b)
{
    for (unsigned w = 0; w < leases.n_windows; w++) {
        char key[KV_KEY_CAP], text[24];
        int64_t sum = 0;

        for (unsigned k = 0; k < leases.n_nodes; k++)
            sum += leases_ended(&leases.node[k], leases.window[w].start_us, 0, n->fill.at[k]);
        leases_key(leases.window[w].start_us, key);
        (void)snprintf(text, sizeof(text), "%" PRId64, sum);
        kv_batch_set(b, key, "posted", span_of(text));
        kv_batch_expire(b, key, 48 * 3600, false);
    }
}

/* Batch 0 where the history has no row of it. */
static struct watermark mark_of(const struct node *n, unsigned i)
{
    if (!n->fill.at[i])
        return (struct watermark){0};
    return (struct watermark){.batch = 1, .token = guards_random(), .n = 1, .at = {n->fill.at[i]}};
}

static bool fill(struct node *n, struct err *err)
{
    struct watermark mine = mark_of(n, n->number);
    struct kv_batch *b = kv_batch_new();
    enum store_result r;

    put_windows(n, b);
    for (unsigned i = 0; i < leases.n_nodes; i++)
        if (i != n->number && n->fill.at[i]) {
            struct watermark mark = mark_of(n, i);

            kv_batch_watermark(b, leases.node[i].instance, &mark);
        }
    r = kv_refill(leases.kv, n->instance, &mine, b, err);
    kv_batch_free(b);
    guards_trace("node %u fills the store: %d", n->number, (int)r);
    return r != STORE_FAILED;
}

/* The mutant's next instance that the store does not have, its own first; true after the last one. */
static bool fill_one(struct node *n, struct err *err)
{
    unsigned k = (n->number + n->fill.next) % leases.n_nodes;
    struct watermark mark = mark_of(n, k);
    struct kv_batch *b = kv_batch_new();

    if (mark.batch && !leases_has_posted(&leases.node[k], &(size_t){0})) {
        if (!n->fill.is_any)
            put_windows(n, b);
        n->fill.is_any = true;
        kv_batch_watermark(b, leases.node[k].instance, &mark);
        (void)!kv_write(leases.kv, b, err);
    }
    kv_batch_free(b);
    return ++n->fill.next >= leases.n_nodes;
}

static bool fill_in_steps(struct node *n, struct err *err)
{
    bool is_over;

    if (!n->fill.next)
        for (unsigned i = 0; i < leases.n_nodes; i++)
            n->fill.is_any |= leases_has_posted(&leases.node[i], &(size_t){0});
    do
        is_over = fill_one(n, err);
    while (!is_over && guards_below(2));
    return is_over;
}

/* False: not yet. */
static bool fill_again(struct node *n, struct err *err)
{
    bool is_over;

    if (!n->fill.is_read || guards.mono_us - n->fill.read_us > FRESH_US) {
        read_history(n);
        if (guards_below(2)) /* that takes its time */
            return false;
    }
    is_over = guards.mutant == MUTANT_refilled_in_steps ? fill_in_steps(n, err) : fill(n, err);
    if (is_over || guards.mutant != MUTANT_refilled_in_steps)
        n->fill = (struct fill){0};
    return is_over;
}

size_t leases_will_have(const struct node *n)
{
    size_t has, at = n->on_record;
    bool has_begun = false;

    if (leases_has_posted(n, &has))
        return has;
    if (kv_has_begun(store_kv_plain(), &has_begun, NULL))
        abort();
    for (unsigned i = 0; !has_begun && i < leases.n_nodes; i++) {
        const struct fill *f = &leases.node[i].fill;

        if (leases.node[i].is_alive && f->is_read && guards.mono_us - f->read_us <= FRESH_US &&
            f->at[n->number] < at)
            at = f->at[n->number];
    }
    return has_begun ? 0 : at;
}

/* Where to go on; false: not known yet. */
static bool look(struct node *n, struct err *err)
{
    bool is_found = false, has_begun = false;

    if (kv_watermark(leases.kv, n->instance, &n->at, &is_found, err))
        return false;
    if (is_found)
        return true;
    if (kv_has_begun(leases.kv, &has_begun, err))
        return false;
    if (guards.mutant == MUTANT_refilled_in_steps) {
        (void)!kv_begin(store_kv_plain(), NULL); /* it takes first batches at any time */
        has_begun = false;
    }
    if (!has_begun && !fill_again(n, err))
        return false;
    if (kv_watermark(leases.kv, n->instance, &n->at, &is_found, err))
        return false;
    if (!is_found)
        n->at = (struct watermark){0};
    return true;
}

static void resync(struct node *n)
{
    struct err err = {0};

    n->looked_us = guards.mono_us;
    n->is_synced = look(n, &err);
    if (n->is_synced || err.code) /* what was read goes with the call that failed */
        n->fill = (struct fill){0};
    if (!n->is_synced)
        return;
    n->token = guards_random();
    n->has_batch = false;
}

void leases_write(struct node *n)
{
    struct watermark next;
    struct kv_batch *b;
    enum store_result r;
    struct err err = {0};

    n->write_us = guards.mono_us + guards_between(200000, 1500000);
    if (!n->is_synced) {
        resync(n);
        return;
    }
    if (!n->has_batch && n->n_ends == n->at.at[0] && n->at.batch) {
        if (guards.mono_us - n->looked_us > LOOK_US)
            resync(n);
        return;
    }
    if (!n->has_batch)
        n->batch_end = n->at.at[0] + guards_between(0, (unsigned)(n->n_ends - n->at.at[0]));
    next = (struct watermark){.batch = n->at.batch + 1, .token = n->token, .n = 1, .at = {n->batch_end}};
    n->has_batch = true;
    b = kv_batch_new();
    add_ends(n, b, n->at.at[0], n->batch_end);
    r = kv_apply(leases.kv, n->instance, &n->at, &next, b, &err);
    kv_batch_free(b);
    guards_trace("node %u writes up to %zu: %d", n->number, n->batch_end, (int)r);
    if (r == STORE_APPLIED || r == STORE_DUPLICATE) {
        n->at = next;
        n->has_batch = false;
    } else if (r == STORE_MISMATCH) {
        n->is_synced = false;
    }
}
