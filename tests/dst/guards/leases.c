/* SPDX-License-Identifier: Apache-2.0 */
/* One budget of several nodes that spend from leases: they are paused, killed, cut off and stepped in time while their store
 * loses calls, answers and now and then everything. Limits, the keeping of leases and the store's side
 * (kv_lease) are the product's; what a node's threads do is a step here. The truth is kept beside: each end of a
 * request in a list that outlives its process, as the journal does.
 *
 * Invariants, for each window: what was spent and is held on all nodes never passes the limit, but by what a node still had
 * out when the store had taken its lease back (it was silent for longer than its session and the grace), and such a node
 * says so beforehand; at the end what was reserved is settled, released or ended by recovery, the store has posted what was
 * settled and nothing is leased; money for the bound left and no other node in need of it means admitted. */
#include "tests/dst/guards/leases.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/base/compiler.h"
#include "tests/dst/guards/keeper_step.h"

#define HOUR_US  ((int64_t)3600 * 1000000)
#define PATIENCE 30000000 /* within which money that is there must be had */

struct leases leases;

static struct wall as(const struct node *n)
{
    guards.skew_us = n->skew_us;
    return wall_now();
}

/* ---- the thread that keeps leases ------------------------------------------------------------------------------------ */

static void journal_end(void *user, struct watermark *out)
{
    const struct node *n = user;

    *out = (struct watermark){.n = 1, .at = {n->n_ends}};
}

/* What a writer knows of its store, which may have been emptied since. */
static int store_has(void *user, const struct watermark *end)
{
    const struct node *n = user;

    return n->at.at[0] >= end->at[0];
}

static void bind(struct node *n)
{
    n->limits = limits_new();
    n->tenant = (struct config_tenant){.id = "acme",
                                       .budget = {.limit_nanousd = leases.limit, .period = PERIOD_HOUR}};
    n->key = (struct config_key){.id = "web", .tenant = &n->tenant};
    n->config = (struct config){.tenants = &n->tenant, .n_tenants = 1, .keys = &n->key, .n_keys = 1};
    limits_bind(n->limits, &n->config);
    limits_set_others_mt(n->limits, leases.n_nodes - 1);
    limits_set_store_mt(n->limits, true);
}

/* ---- nodes ----------------------------------------------------------------------------------------------------------- */

static void end_request(struct node *n, struct open *o, int64_t cost)
{
    if (n->n_ends == ENDS)
        guards_fail("more ends than the scene has room for");
    n->ends[n->n_ends++] = (struct end){o->start_us, cost};
    o->is_open = false;
}

static void start(struct node *n)
{
    n->began_us = as(n).us;
    guards_trace("node %u starts", n->number);
    n->is_alive = true;
    for (unsigned i = 0; i < OPEN; i++) /* recovery: those that were under way when it died */
        if (n->open[i].is_open) {
            leases.expired++;
            end_request(n, &n->open[i], (int64_t)guards_below((unsigned)n->open[i].amount + 1));
        }
    n->is_synced = n->had_room = false;
    n->fill = (struct fill){0};
    n->at = (struct watermark){0};
    n->born = n->n_ends;
    n->paused_until = n->due_us = n->write_us = 0;
    bind(n);
    n->keeper = keeper_open(&(struct limits_lease_options){.limits = n->limits,
                                                           .kv = store_kv(),
                                                           .instance = n->instance,
                                                           .life_us = leases.ttl_us,
                                                           .end = journal_end,
                                                           .has = store_has,
                                                           .user = n});
}

static void die(struct node *n)
{
    guards_trace("node %u dies", n->number);
    n->is_alive = false;
    keeper_close(n->keeper);
    arena_release(&n->config.arena);
    limits_free(n->limits);
}

static bool runs(const struct node *n)
{
    return n->is_alive && guards.mono_us >= n->paused_until;
}

/* What reached the store in this turn counts from now, whether or not the answer comes back. */
static void work(struct node *n)
{
    if (guards.mono_us >= n->write_us)
        leases_write(n);
    if (guards.mono_us >= n->due_us)
        n->due_us = guards.mono_us + keeper_turn(n->keeper, guards.mutant == MUTANT_renewed_after_expiry);
    if (guards_below(4) == 0)
        n->on_record = n->n_ends;
}

static void pass(int64_t us)
{
    for (int64_t slice; us > 0; us -= slice) {
        slice = us < 100000 ? us : 100000;
        guards.mono_us += slice;
        guards.wall_us += slice;
        store_tick();
        for (unsigned i = 0; i < leases.n_nodes; i++) {
            guards.is_cut = leases.is_cut[i];
            if (runs(&leases.node[i]))
                work(&leases.node[i]);
        }
        leases_watch();
    }
}

/* One reached the store: it keeps the lease for so long. */
static void on_lease_call(const char *instance)
{
    for (unsigned i = 0; i < leases.n_nodes; i++)
        if (strcmp(leases.node[i].instance, instance) == 0) {
            leases.node[i].lost_at = guards.mono_us + leases.ttl_us + leases.grace_us;
            leases.node[i].is_lost = false;
        }
}

/* ---- requests -------------------------------------------------------------------------------------------------------- */

static bool ask(struct node *n, int64_t amount)
{
    struct limits_ask a = {.chain = limits_chain_of(&n->config, &n->key),
                           .now = as(n),
                           .mono = {guards.mono_us},
                           .bound_nanousd = amount};
    int64_t start_us = period_start(PERIOD_HOUR, a.now).us;
    struct open *o = n->open;
    bool has, had = n->had_room;
    struct explain why = {0};

    while (o < n->open + OPEN && o->is_open)
        o++;
    if (o == n->open + OPEN)
        return false;
    (void)leases_window(start_us);
    if (guards.mutant == MUTANT_reset_missed)
        a.now.us = n->began_us;
    *o = (struct open){.start_us = start_us, .amount = amount};
    has = limits_admit(n->limits, &a, &o->hold, &why) == ERR_OK;
    n->had_room = has;
    n->due_us = has ? n->due_us : guards.mono_us; /* it waits, which wakes the thread */
    guards_trace("node %u asks for %" PRId64 ": %s", n->number, amount, has ? "admitted" : "refused");
    if (!has && !(guards.mutant == MUTANT_check_then_act && had)) /* it had looked a moment ago */
        return false;
    leases.asked++;
    o->is_open = true;
    if (n->is_lost)
        guards_fail("node %u spends from a lease that the store may have given to others", n->number);
    leases_must_keep(start_us, "admitted");
    return true;
}

static void end_hold(struct node *n, struct open *o, int64_t cost)
{
    end_request(n, o, cost);
    limits_settle(&o->hold, cost, 0, as(n), (struct mono){guards.mono_us});
}

static void settle(struct node *n, struct open *o)
{
    bool is_released = guards_below(8) == 0;
    int64_t cost = is_released ? 0 : (int64_t)guards_below((unsigned)o->amount + 1);

    leases.released += is_released;
    leases.settled += !is_released;
    end_hold(n, o, cost);
    guards_trace("node %u settles %" PRId64 " of %" PRId64, n->number, cost, o->amount);
}

static void some_settle(struct node *n)
{
    unsigned from = guards_below(OPEN);

    for (unsigned i = 0; i < OPEN; i++)
        if (n->open[(from + i) % OPEN].is_open) {
            settle(n, &n->open[(from + i) % OPEN]);
            return;
        }
}

/* ---- evils ----------------------------------------------------------------------------------------------------------- */

static void empty_the_store(void)
{
    store_empty();
    for (unsigned i = 0; i < leases.n_nodes; i++) {
        struct node *n = &leases.node[i];

        /* Who is not heard while the store is quiet is not known to it. */
        if (n->lost_at > guards.mono_us + leases.ttl_us)
            n->lost_at = guards.mono_us + leases.ttl_us;
    }
}

static void trouble(struct node *n)
{
    if (guards_strikes(leases.crash)) {
        if (n->is_alive)
            die(n);
        else
            start(n);
    }
    if (guards_strikes(leases.pause) && runs(n)) {
        n->paused_until = guards.mono_us + guards_below((unsigned)(3 * (leases.ttl_us + leases.grace_us)));
        guards_trace("node %u pauses until %.3f", n->number, (double)n->paused_until / 1e6);
    }
    if (guards_strikes(leases.cuts)) {
        leases.is_cut[n->number] ^= true;
        guards_trace("node %u is %s the store", n->number, leases.is_cut[n->number] ? "cut off" : "back at");
    }
    if (guards_strikes(leases.empties))
        empty_the_store();
    if (guards_strikes(leases.clock_steps)) {
        n->skew_us = (int64_t)guards_below(7200) * 1000000 - 3600 * (int64_t)1000000;
        guards_trace("node %u: clock %" PRId64 " off", n->number, n->skew_us);
    }
}

static void step(void)
{
    struct node *n = &leases.node[guards_below(leases.n_nodes)];

    pass(guards_below(6) ? guards_below(40000) : guards_below(2000000));
    trouble(n);
    if (!runs(n))
        return;
    if (guards_below(100) < leases.weight_ask)
        (void)ask(n, 1 + (int64_t)guards_below((unsigned)leases.bound));
    else
        some_settle(n);
}

/* ---- the end --------------------------------------------------------------------------------------------------------- */

/* All the money that is left, for one node alone; then given back. */
static int64_t left_of(const struct node *n)
{
    return leases.limit - leases_used(period_start(PERIOD_HOUR, as(n)).us);
}

static void must_be_had(struct node *n)
{
    int64_t end = guards.mono_us + PATIENCE;

    while (left_of(n) > 0 && !ask(n, left_of(n))) {
        if (guards.mono_us > end)
            guards_fail("node %u was refused %" PRId64 " for %.0f s although nobody else needs it", n->number,
                        left_of(n), (double)PATIENCE / 1e6);
        pass(200000);
    }
    for (unsigned i = 0; i < OPEN; i++)
        if (n->open[i].is_open) {
            leases.released++;
            end_hold(n, &n->open[i], 0);
        }
}

static void finish(void)
{
    guards.is_calm = true;
    for (unsigned i = 0; i < leases.n_nodes; i++) {
        struct node *n = &leases.node[i];

        leases.is_cut[i] = false;
        n->paused_until = 0;
        n->skew_us = 0;
        if (!n->is_alive && (i == 0 || guards_below(4)))
            start(n);
        for (unsigned k = 0; k < OPEN && n->is_alive; k++)
            if (n->open[k].is_open)
                settle(n, &n->open[k]);
    }
    pass(2 * (leases.ttl_us + leases.grace_us) + 5000000);
}

void leases_scene(void)
{
    memset(&leases, 0, sizeof(leases));
    leases.n_nodes = guards_between(1, NODES);
    leases.limit = 100000 + (int64_t)guards_below(10000000);
    leases.bound = leases.limit / guards_between(2, guards_below(2) ? 12 : 60);
    leases.ttl_us = guards_between(2, 8) * (int64_t)1000000;
    leases.grace_us = keeper_grace * leases.ttl_us;
    leases.crash = guards_rare(120);
    leases.pause = guards_rare(120);
    leases.cuts = guards_rare(50);
    leases.empties = guards_below(3) ? 0 : guards_rare(200);
    leases.clock_steps = guards_rare(150);
    leases.weight_ask = guards_between(35, 80);
    guards.plan.fails_before = guards_rare(15);
    guards.plan.reply_lost = guards_rare(15);
    guards.plan.goes_down = guards_rare(100);
    guards.on_lease_call = on_lease_call;
    guards.wall_us += HOUR_US / 6 - guards_below(120) * (int64_t)1000000; /* before an hour's end */
    leases.kv = store_kv();
    for (unsigned i = 0; i < leases.n_nodes; i++) {
        leases.node[i].number = i;
        (void)snprintf(leases.node[i].instance, sizeof(leases.node[i].instance), "node-%u", i);
        leases.node[i].skew_us = (int64_t)guards_below(4000000) - 2000000;
        start(&leases.node[i]);
    }
    for (unsigned i = guards_between(50, 400); i; i--)
        step();
    finish();
    for (unsigned i = 0; i < leases.n_nodes; i++)
        if (leases.node[i].is_alive)
            must_be_had(&leases.node[i]);
    pass(2 * (leases.ttl_us + leases.grace_us) + 5000000);
    leases_must_balance();
    for (unsigned i = 0; i < leases.n_nodes; i++)
        if (leases.node[i].is_alive)
            die(&leases.node[i]);
    kv_free(leases.kv);
}
