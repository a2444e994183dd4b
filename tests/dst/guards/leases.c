/* SPDX-License-Identifier: Apache-2.0 */
/* One budget of several nodes that spend from leases: they are paused, killed, cut off and stepped in time while their store
 * loses calls, answers and now and then everything. Leases (lease.c) and the store's side
 * (kv_lease) are the product's; what a node's threads do with them is a step here. The truth is kept beside: each end of a
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
#include "libshared/store/kv_lease.h"

#define HOUR_US  ((int64_t)3600 * 1000000)
#define PATIENCE 30000000 /* within which money that is there must be had */

struct leases leases;

static struct wall as(const struct node *n)
{
    guards.skew_us = n->skew_us;
    return wall_now();
}

/* ---- the thread that keeps leases ------------------------------------------------------------------------------------ */

struct rows {
    struct lease_ask ask[WINDOWS];
    struct kv_lease_row row[WINDOWS];
    char key[WINDOWS][KV_KEY_CAP];
    unsigned window[WINDOWS], n;
};

static void heard_wanted(void *user, struct span key)
{
    struct node *n = user;
    char own[KV_KEY_CAP];

    for (unsigned i = 0; i < leases.n_windows; i++) {
        leases_key(leases.window[i].start_us, own);
        if (span_is(key, own) && n->account[i].lease.is_named)
            lease_is_wanted(&n->account[i].lease, (struct mono){guards.mono_us});
    }
}

static void make_rows(struct node *n, struct rows *r)
{
    struct mono now = {guards.mono_us};
    bool holds = lease_session_holds(&n->session, now);
    int64_t current_us = period_start(PERIOD_HOUR, as(n)).us;

    for (unsigned i = 0; i < leases.n_windows; i++) {
        struct account *a = &n->account[i];
        bool lets_go = leases.window[i].start_us != current_us;
        struct lease_ask *ask = &r->ask[r->n];

        if ((lets_go && !a->lease.is_named && !a->lease.granted) ||
            !lease_plan(&a->lease, leases_use(a), holds, lets_go, now, ask))
            continue;
        leases_key(leases.window[i].start_us, r->key[r->n]);
        r->window[r->n] = i;
        r->row[r->n] = (struct kv_lease_row){.kind = KV_LEASE_MONEY,
                                             .key = r->key[r->n],
                                             .limit = leases.limit,
                                             .ttl_s = 48 * 3600,
                                             .granted = ask->granted,
                                             .posted = ask->posted,
                                             .most = ask->most,
                                             .need = ask->need,
                                             .want = ask->want};
        r->n++;
    }
}

static void hear(struct node *n, const struct kv_lease_call *c, const struct rows *r, struct mono sent)
{
    bool is_other = n->epoch && c->heard_epoch != n->epoch;

    lease_session_renew(&n->session, sent);
    n->epoch = c->heard_epoch;
    if ((!is_other && !c->is_quiet) || c->heard_nodes > n->nodes)
        n->nodes = c->heard_nodes;
    if (is_other) {
        for (unsigned i = 0; i < WINDOWS; i++)
            lease_is_forgotten(&n->account[i].lease);
        n->is_synced = false; /* nothing of it is known to be posted there */
        guards_trace("node %u hears that the store is another", n->number);
    }
    for (unsigned i = 0; i < r->n; i++) {
        struct account *a = &n->account[r->window[i]];

        lease_hear(&a->lease, leases_use(a), &r->ask[i],
                   &(struct lease_reply){.granted = r->row[i].got,
                                         .outstanding = r->row[i].outstanding,
                                         .rest = r->row[i].rest,
                                         .others = r->row[i].others,
                                         .unanswered = r->row[i].unanswered,
                                         .is_quiet = c->is_quiet});
    }
}

static void arrived(struct node *n)
{
    n->lost_at = guards.mono_us + leases.ttl_us + leases.grace_us;
    n->is_lost = false;
}

static void call(struct node *n, bool is_keep)
{
    struct rows r = {0};
    struct mono sent = {guards.mono_us};
    struct err err = {0};
    struct kv_lease_call c = {.instance = n->instance,
                              .life = n->life,
                              .sequence = ++n->sequence,
                              .epoch = n->epoch,
                              .ttl_ms = leases.ttl_us / 1000,
                              .grace_ms = leases.grace_us / 1000,
                              .nodes = n->nodes,
                              .needs_books = n->needs_books,
                              .rows = r.row,
                              .wanted = heard_wanted,
                              .user = n};
    enum err_code e;

    if (!is_keep) {
        make_rows(n, &r);
        c.n = r.n;
    }
    e = is_keep ? kv_lease_keep(leases.kv, &c, &err) : kv_lease(leases.kv, &c, &err);
    guards_trace("node %u %s with %u rows: %s", n->number, is_keep ? "keeps" : "calls", r.n,
                 e ? err_text(&err) : "answered");
    for (unsigned i = 0; i < r.n; i++)
        guards_trace("  granted %" PRId64 " posted %" PRId64 " most %" PRId64 " need %" PRId64
                     " want %" PRId64 ": got %" PRId64 " outstanding %" PRId64 " rest %" PRId64
                     " others %" PRId64,
                     r.row[i].granted, r.row[i].posted, r.row[i].most, r.row[i].need, r.row[i].want,
                     r.row[i].got, r.row[i].outstanding, r.row[i].rest, r.row[i].others);
    if (e == ERR_CONFLICT && c.heard_life == n->life && c.heard_sequence > n->sequence)
        n->sequence = c.heard_sequence;
    if (!e && !is_keep)
        hear(n, &c, &r, sent);
    if (guards.mutant == MUTANT_renewed_after_expiry && e)
        lease_session_renew(&n->session, sent);
}

static void keep_leases(struct node *n)
{
    struct watermark ignored;
    bool found = false;

    if (!n->needs_books && !kv_watermark(leases.kv, n->instance, &ignored, &found, &(struct err){0}))
        n->needs_books = found;
    n->due_us = guards.mono_us + guards_between(100000, 1000000);
    if (!n->is_drained && n->is_synced && n->at.at[0] >= n->marked)
        n->is_drained = true;
    if (!n->is_drained) {
        call(n, true);
        return;
    }
    if (n->is_synced && n->at.at[0] >= n->marked) {
        for (unsigned i = 0; i < WINDOWS; i++) {
            lease_has_posted(&n->account[i].lease, n->account[i].marked);
            n->account[i].marked = n->account[i].settled;
        }
        n->marked = n->n_ends;
    }
    call(n, false);
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
    guards_trace("node %u starts", n->number);
    n->is_alive = true;
    n->life = ++n->lives;
    n->sequence = n->epoch = 0;
    n->nodes = leases.n_nodes; /* as the history store says who wrote lately */
    n->session = (struct lease_session){.life_us = leases.ttl_us};
    memset(n->account, 0, sizeof(n->account));
    for (unsigned i = 0; i < OPEN; i++) /* recovery: those that were under way when it died */
        if (n->open[i].is_open) {
            leases.expired++;
            end_request(n, &n->open[i], (int64_t)guards_below((unsigned)n->open[i].amount + 1));
        }
    n->is_synced = n->is_drained = n->needs_books = false;
    n->marked = n->born = n->n_ends;
    n->paused_until = n->due_us = n->write_us = 0;
    n->began_us = as(n).us;
}

static void die(struct node *n)
{
    guards_trace("node %u dies", n->number);
    n->is_alive = false;
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
        keep_leases(n);
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

static void on_lease_call(const char *instance)
{
    for (unsigned i = 0; i < leases.n_nodes; i++)
        if (strcmp(leases.node[i].instance, instance) == 0)
            arrived(&leases.node[i]);
}

/* ---- requests -------------------------------------------------------------------------------------------------------- */

static bool holds(const struct node *n)
{
    if (guards.mutant == MUTANT_renewed_after_expiry)
        return n->session.until.us != 0;
    return lease_session_holds(&n->session, (struct mono){guards.mono_us});
}

static bool reserve(struct node *n, struct account *a, int64_t amount)
{
    bool has = a->settled + a->held + amount <= leases.limit &&
               lease_has_room(&a->lease, leases_use(a), amount, holds(n), 0);

    if (lease_note(&a->lease, leases_use(a), amount, has, (struct mono){guards.mono_us}) || !has)
        n->due_us = guards.mono_us + guards_below(5000);
    if (has)
        a->held += amount;
    return has;
}

static bool ask(struct node *n, int64_t amount)
{
    int64_t start_us = period_start(PERIOD_HOUR, as(n)).us;
    unsigned window = leases_window(start_us);
    struct open *o = n->open;
    bool has, had = n->had_room;

    while (o < n->open + OPEN && o->is_open)
        o++;
    if (o == n->open + OPEN)
        return false;
    if (guards.mutant == MUTANT_reset_missed)
        window = leases_window(period_start(PERIOD_HOUR, (struct wall){n->began_us}).us);
    has = reserve(n, &n->account[window], amount);
    guards_trace("node %u asks for %" PRId64 ": %s", n->number, amount, has ? "admitted" : "refused");
    n->had_room = has;
    if (!has && !(guards.mutant == MUTANT_check_then_act && had)) /* it had looked a moment ago */
        return false;
    leases.asked++;
    *o = (struct open){.is_open = true, .start_us = start_us, .amount = amount, .is_held = has};
    o->window = window;
    if (n->is_lost)
        guards_fail("node %u spends from a lease that the store may have given to others", n->number);
    leases_must_keep(start_us, "admitted");
    return true;
}

static void end_hold(struct node *n, struct open *o, int64_t cost)
{
    struct account *a = &n->account[o->window];

    end_request(n, o, cost);
    if (!o->is_held)
        return;
    a->held -= o->amount;
    a->settled += cost;
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

/* Leases of nodes that never come back are swept by one that lives. */
static void sweep(struct node *n)
{
    struct kv_lease_row row[WINDOWS] = {0};
    char key[WINDOWS][KV_KEY_CAP];
    struct kv_lease_call c = {.instance = n->instance,
                              .life = n->life,
                              .sequence = ++n->sequence,
                              .epoch = n->epoch,
                              .ttl_ms = leases.ttl_us / 1000,
                              .grace_ms = leases.grace_us / 1000,
                              .nodes = n->nodes,
                              .rows = row,
                              .n = leases.n_windows};

    for (unsigned i = 0; i < leases.n_windows; i++) {
        leases_key(leases.window[i].start_us, key[i]);
        row[i] = (struct kv_lease_row){.kind = KV_LEASE_SWEEP, .key = key[i], .ttl_s = 48 * 3600};
    }
    if (kv_lease(leases.kv, &c, &(struct err){0}))
        guards_fail("the sweep was refused");
}

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
    leases.ttl_us = guards_between(2, 10) * (int64_t)1000000;
    leases.grace_us = guards_between(2, 10) * (int64_t)1000000;
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
    sweep(&leases.node[0]);
    leases_must_balance();
    for (unsigned i = 0; i < leases.n_nodes; i++)
        if (leases.node[i].is_alive)
            die(&leases.node[i]);
    kv_free(leases.kv);
}
