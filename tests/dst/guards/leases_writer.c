/* SPDX-License-Identifier: Apache-2.0 */
/* A node's writer, which brings ends of requests to the realtime store, each batch under its watermark; and the filling of a
 * store that was emptied. */
#include "tests/dst/guards/leases.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_US 4000000 /* a writer with nothing to do looks whether its store was emptied */

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

/* Of an emptied store: what the history store has of all nodes, and then each goes on from there. Here it is one step, in
 * which nothing fails; realtime_refill.c takes several. */
static void fill_again(struct node *n)
{
    bool is_any = false;

    for (unsigned i = 0; i < leases.n_nodes; i++)
        is_any |= leases_has_posted(&leases.node[i], &(size_t){0});
    for (unsigned i = 0; i < leases.n_nodes; i++) {
        struct node *other = &leases.node[i];
        struct watermark next = {.batch = 1, .token = guards_random(), .n = 1, .at = {other->on_record}};
        struct kv_batch *b;
        char key[KV_KEY_CAP], text[24];

        b = kv_batch_new();

        for (unsigned w = 0; !is_any && w < leases.n_windows; w++) {
            int64_t sum = 0;

            for (unsigned k = 0; k < leases.n_nodes; k++)
                sum += leases_ended(&leases.node[k], leases.window[w].start_us, 0, leases.node[k].on_record);
            leases_key(leases.window[w].start_us, key);
            (void)snprintf(text, sizeof(text), "%" PRId64, sum);
            kv_batch_set(b, key, "posted", span_of(text));
            kv_batch_expire(b, key, 48 * 3600, false);
        }
        (void)kv_refill(store_kv_plain(), other->instance, &next, b, NULL);
        kv_batch_free(b);
        is_any = true;
    }
    guards_trace("node %u fills the store again", n->number);
}

static void resync(struct node *n)
{
    bool is_found = false;
    struct err err = {0};

    n->is_synced = false;
    n->looked_us = guards.mono_us;
    if (kv_watermark(leases.kv, n->instance, &n->at, &is_found, &err))
        return;
    if (!is_found)
        fill_again(n);
    if (!is_found && kv_watermark(leases.kv, n->instance, &n->at, &is_found, &err))
        return;
    if (!is_found)
        n->at = (struct watermark){0};
    n->token = guards_random();
    n->has_batch = false;
    n->is_synced = true;
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
