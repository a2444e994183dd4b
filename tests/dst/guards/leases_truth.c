/* SPDX-License-Identifier: Apache-2.0 */
/* What really was spent, and what must hold of it. */
#include "tests/dst/guards/leases.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/dst/guards/keeper_step.h"

unsigned leases_window(int64_t start_us)
{
    for (unsigned i = 0; i < leases.n_windows; i++)
        if (leases.window[i].start_us == start_us)
            return i;
    if (leases.n_windows == WINDOWS)
        guards_fail("more windows than the scene has room for");
    leases.window[leases.n_windows].start_us = start_us;
    leases.window[leases.n_windows].excess = 0;
    return leases.n_windows++;
}

static int64_t excess_of(int64_t start_us)
{
    return leases.window[leases_window(start_us)].excess;
}

void leases_key(int64_t start_us, char dst[KV_KEY_CAP])
{
    char window[PERIOD_WINDOW_CAP];

    (void)period_window(PERIOD_HOUR, (struct wall){start_us}, window);
    kv_key_budget(dst, ACCOUNT, window);
}

static int64_t held_by(const struct node *n, int64_t start_us)
{
    int64_t sum = 0;

    for (unsigned i = 0; i < OPEN; i++)
        if (n->open[i].is_open && n->open[i].start_us == start_us)
            sum += n->open[i].amount;
    return sum;
}

int64_t leases_ended(const struct node *n, int64_t start_us, size_t from, size_t to)
{
    int64_t sum = 0;

    for (size_t i = from; i < to; i++)
        if (n->ends[i].start_us == start_us)
            sum += n->ends[i].cost;
    return sum;
}

int64_t leases_used(int64_t start_us)
{
    int64_t sum = 0;

    for (unsigned i = 0; i < leases.n_nodes; i++)
        sum += held_by(&leases.node[i], start_us) +
               leases_ended(&leases.node[i], start_us, 0, leases.node[i].n_ends);
    return sum;
}

bool leases_has_posted(const struct node *n, size_t *out)
{
    struct watermark w = {0};
    bool is_found = false;

    if (kv_watermark(store_kv_plain(), n->instance, &w, &is_found, NULL))
        abort();
    *out = is_found ? (size_t)w.at[0] : 0;
    return is_found;
}

/* The store may count this node's lease as free now: what it still has out can be spent twice. It must know. */
static void be_lost(struct node *n)
{
    size_t posted = leases_will_have(n), from = posted > n->born ? posted : n->born;
    int64_t out = 0, said;

    if (from < n->at.at[0])
        from =
            (size_t)
                n->at.at[0]; /* it was told that this is posted; nobody told it that the store was emptied */
    n->is_lost = true;
    for (unsigned i = 0; i < leases.n_windows; i++) {
        int64_t start_us = leases.window[i].start_us;

        leases.window[i].excess += held_by(n, start_us) + leases_ended(n, start_us, posted, n->n_ends);
        out += held_by(n, start_us) + leases_ended(n, start_us, from, n->n_ends); /* of this life */
    }
    guards_trace("node %u is lost with %" PRId64 " out", n->number, out);
    if (!n->is_alive)
        return;
    said = keeper_says(n->keeper, ACCOUNT);
    guards.checks++;
    if (said < out)
        guards_fail("node %u has %" PRId64 " out under a lease that is gone, and says %" PRId64, n->number,
                    out, said);
}

void leases_watch(void)
{
    for (unsigned i = 0; i < leases.n_nodes; i++)
        if (!leases.node[i].is_lost && leases.node[i].lost_at && guards.mono_us >= leases.node[i].lost_at)
            be_lost(&leases.node[i]);
}

void leases_must_keep(int64_t start_us, const char *when)
{
    int64_t sum = leases_used(start_us), most = leases.limit + excess_of(start_us);

    guards.checks++;
    if (sum > most)
        guards_fail("%s: %" PRId64 " are spent and held of %" PRId64 ", of which %" PRId64
                    " were out when their lease was gone",
                    when, sum, leases.limit, excess_of(start_us));
}

struct found {
    int64_t posted, leased, sum;
};

static void read_field(void *user, struct span field, struct span value)
{
    struct found *f = user;
    char text[32];

    (void)span_copy(text, sizeof(text), value);
    if (span_is(field, "posted"))
        f->posted = strtoll(text, NULL, 10);
    else if (span_is(field, "leased"))
        f->leased = strtoll(text, NULL, 10);
    else if (span_starts(field, SPAN_LIT("l:")))
        f->sum += strtoll(text, NULL, 10);
}

static struct found read_window(int64_t start_us)
{
    struct found f = {0};
    char key[KV_KEY_CAP];

    leases_key(start_us, key);
    if (kv_hash(store_kv_plain(), key, read_field, &f, NULL))
        abort();
    return f;
}

void leases_must_balance(void)
{
    uint64_t open = 0;
    bool is_all = true;

    for (unsigned i = 0; i < leases.n_nodes; i++) {
        is_all &= leases.node[i].is_alive;
        for (unsigned k = 0; k < OPEN; k++)
            open += leases.node[i].open[k].is_open;
    }
    if (leases.asked != leases.settled + leases.released + leases.expired + open)
        guards_fail("%" PRIu64 " reserved, %" PRIu64 " settled, %" PRIu64 " released, %" PRIu64 " expired",
                    leases.asked, leases.settled, leases.released, leases.expired);
    for (unsigned i = 0; i < leases.n_windows; i++) {
        struct found f = read_window(leases.window[i].start_us);
        int64_t ended = 0;

        for (unsigned k = 0; k < leases.n_nodes; k++)
            ended += leases_ended(&leases.node[k], leases.window[i].start_us, 0, leases.node[k].n_ends);
        guards.checks++;
        if (is_all && f.posted != ended)
            guards_fail("the store has posted %" PRId64 ", %" PRId64 " were settled", f.posted, ended);
        if (f.leased != f.sum)
            guards_fail("the store says that %" PRId64 " are leased, its leases are %" PRId64, f.leased,
                        f.sum);
        if (f.leased)
            guards_fail("%" PRId64 " are still leased when all is done", f.leased);
    }
}
