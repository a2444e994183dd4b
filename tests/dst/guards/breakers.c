/* SPDX-License-Identifier: Apache-2.0 */
/* Breakers of several nodes that share what they know through a store, against providers that fail for a while, operators that
 * force, and deaths. A model of each breaker counts what was reported, by rules written here anew.
 *
 * Invariants: a half-open breaker has at most the configured probes out; it opens at the configured count or rate, not before
 * and not later; what says nothing of the provider changes nothing; enough good probes close it, a bad one opens it; within the
 * sharing interval and a delay all live nodes agree, unless the store misbehaved; a forced state holds until its end over any
 * death, and no longer; when providers and stores are well again, all are closed and admit. */
#include "tests/dst/guards/guards.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/base/compiler.h"
#include "tests/dst/guards/share_step.h"

/* For the epoch of a breaker. */
#include "gatewayd/resilience/breaker_priv.h"

#define NODES   4u
#define PAIRS   3u
#define TICKETS 48u
#define LOG     512u
#define SKEW_US                                                                                              \
    2000000 /* of a clock, either way; the first one to see the end of a forced state ends it for all */
#define AGREE_US 1300000 /* two turns of sharing, and the step of time here */

struct side { /* one breaker of one node, as the model counts it */
    uint64_t epoch, n_history;
    unsigned in_a_row, good;
    struct {
        int64_t slice;
        bool is_bad;
    } log[LOG];
    unsigned n_log;
};

struct held {
    bool is_used;
    unsigned pair;
    int64_t given_us;
    struct breaker_ticket ticket;
};

struct node {
    bool is_alive;
    unsigned number;
    int64_t skew_us, due_us;
    struct breakers *table;
    struct breaker_share *share;
    struct held held[TICKETS];
    struct side side[PAIRS];
};

struct order {       /* the last that an operator said of a pair */
    bool is_certain; /* nothing went wrong around it */
    int64_t at_us;
    unsigned node;
    enum breaker_force force;
    int64_t until_us; /* as the node's clock had it */
};

static struct {
    struct config_breaker rules;
    unsigned n_nodes, n_pairs;
    bool is_kind; /* the stores do not misbehave */
    int64_t last_trouble_us;
    label provider[PAIRS], model[PAIRS];
    bool is_broken[PAIRS];
    struct order order[PAIRS];
    struct node node[NODES];
    unsigned crash, black_outs, db_down, empties;
} scene;

/* ---- nodes ----------------------------------------------------------------------------------------------------------- */

static struct breaker_now as(const struct node *n)
{
    guards.skew_us = n->skew_us;
    return breaker_now();
}

static void start(struct node *n)
{
    char name[32];

    (void)as(n);
    (void)snprintf(name, sizeof(name), "node-%u", n->number);
    n->is_alive = true;
    n->table = breakers_new(guards_random());
    memset(n->side, 0, sizeof(n->side));
    memset(n->held, 0, sizeof(n->held));
    for (unsigned p = 0; p < scene.n_pairs; p++)
        breakers_ensure(n->table, scene.provider[p], scene.model[p]);
    n->share = share_open(n->table, name, guards.mutant != MUTANT_forced_forgotten);
    n->due_us = guards.mono_us + guards_below(400000);
    guards_trace("node %u starts, %s its orders", n->number,
                 share_has_restored(n->share) ? "knows" : "lacks");
}

static void die(struct node *n)
{
    guards_trace("node %u dies", n->number);
    for (unsigned p = 0; p < scene.n_pairs;
         p++) /* before it told anybody: then only a start reads what it kept */
        if (scene.order[p].node == n->number && guards.mono_us - scene.order[p].at_us < AGREE_US)
            scene.order[p].is_certain = false;
    share_close(n->share);
    breakers_free(n->table);
    n->is_alive = false;
}

static void look(struct node *n, unsigned p, struct breaker_view *v)
{
    if (!breaker_look(n->table, scene.provider[p], scene.model[p], &scene.rules, as(n), v))
        guards_fail("node %u has lost a breaker", n->number);
}

static uint64_t epoch_of(struct node *n, unsigned p)
{
    return atomic_load(&breaker_find(n->table, scene.provider[p], scene.model[p])->word) >> 1;
}

static void turn(struct node *n)
{
    (void)as(n);
    n->due_us = guards.mono_us + share_turn(n->share, guards.mutant == MUTANT_deaf_node && n->number == 1);
}

static void pass(int64_t us)
{
    for (int64_t slice; us > 0; us -= slice) {
        slice = us < 100000 ? us : 100000;
        guards.mono_us += slice;
        guards.wall_us += slice;
        store_tick();
        for (unsigned i = 0; i < scene.n_nodes; i++)
            if (scene.node[i].is_alive && guards.mono_us >= scene.node[i].due_us)
                turn(&scene.node[i]);
    }
}

/* ---- attempts -------------------------------------------------------------------------------------------------------- */

/* Of this epoch, or of all: a forced state that came and went takes nobody's place away. */
static unsigned probes_of(struct node *n, unsigned p, bool of_all)
{
    unsigned out = 0;

    for (unsigned i = 0; i < TICKETS; i++) {
        const struct held *h = &n->held[i];

        out += h->is_used && h->pair == p && h->ticket.probe &&
               (of_all || h->ticket.epoch == epoch_of(n, p)) &&
               guards.mono_us - h->given_us < BREAKER_PROBE_US;
    }
    return out;
}

static void attempt(struct node *n, unsigned p)
{
    struct config_breaker rules = scene.rules;
    struct breaker_view v;
    struct held *h = n->held;

    while (h < n->held + TICKETS && h->is_used)
        h++;
    if (h == n->held + TICKETS)
        return;
    rules.probes += guards.mutant == MUTANT_extra_probe;
    *h = (struct held){.pair = p, .given_us = guards.mono_us};
    h->is_used = breaker_admit(n->table, scene.provider[p], scene.model[p], &rules, as(n), &h->ticket);
    look(n, p, &v);
    guards_trace("node %u pair %u: %s while %s", n->number, p, h->is_used ? "admitted" : "refused",
                 breaker_state_name(v.state));
    guards.checks++;
    if (h->is_used && v.state == BREAKER_OPEN)
        guards_fail("node %u let an attempt through an open breaker", n->number);
    if (!h->is_used && v.state == BREAKER_CLOSED)
        guards_fail("node %u refused an attempt at a closed breaker", n->number);
    if (probes_of(n, p, false) > scene.rules.probes)
        guards_fail("node %u has %u probes out, %u are the most", n->number, probes_of(n, p, false),
                    scene.rules.probes);
    if (!h->is_used && v.state == BREAKER_HALF_OPEN && probes_of(n, p, true) < scene.rules.probes)
        guards_fail("node %u refused a probe although only %u of %u are out", n->number,
                    probes_of(n, p, true), scene.rules.probes);
}

/* By the rules' words: so many in a row, or so large a part of so many in the window. */
static bool should_open(const struct side *s)
{
    int64_t now = guards.mono_us / (scene.rules.window_us / BREAKER_SLICES + 1);
    unsigned all = 0, bad = 0;

    for (unsigned i = s->n_log > LOG ? s->n_log - LOG : 0; i < s->n_log; i++)
        if (s->log[i % LOG].slice > now - BREAKER_SLICES) {
            all++;
            bad += s->log[i % LOG].is_bad;
        }
    return (scene.rules.failures && s->in_a_row >= scene.rules.failures) ||
           (scene.rules.error_rate > 0 && all >= scene.rules.min_requests &&
            (double)bad >= scene.rules.error_rate * (double)all);
}

/* A forced state comes and goes, and all beneath it goes on where it was; any other change begins anew. */
static void catch_up(struct side *s, const struct breaker *b)
{
    static const char *const FORCED[] = {"forced open", "forced closed", "given back", "the forced state"};
    bool is_new = b->n_history - s->n_history > BREAKER_HISTORY;

    for (uint64_t i = s->n_history; !is_new && i < b->n_history; i++) {
        bool is_forced = false;

        for (unsigned k = 0; k < ARRAY_LEN(FORCED); k++)
            is_forced |= strncmp(b->history[i % BREAKER_HISTORY].cause, FORCED[k], strlen(FORCED[k])) == 0;
        is_new = !is_forced;
    }
    if (is_new)
        *s = (struct side){0};
    s->n_history = b->n_history;
    s->epoch = atomic_load(&b->word) >> 1;
}

static enum breaker_state expect(struct side *s, const struct breaker_view *v, const struct held *h,
                                 enum breaker_outcome outcome)
{
    if (h->ticket.epoch != s->epoch || v->force != BREAKER_AUTO || outcome == BREAKER_NEITHER)
        return v->state;
    if (v->state == BREAKER_CLOSED && !h->ticket.probe) {
        s->in_a_row = outcome == BREAKER_FAILURE ? s->in_a_row + 1 : 0;
        s->log[s->n_log % LOG].slice = guards.mono_us / (scene.rules.window_us / BREAKER_SLICES + 1);
        s->log[s->n_log++ % LOG].is_bad = outcome == BREAKER_FAILURE;
        return outcome == BREAKER_FAILURE && should_open(s) ? BREAKER_OPEN : BREAKER_CLOSED;
    }
    if (v->state == BREAKER_HALF_OPEN && h->ticket.probe) {
        if (outcome == BREAKER_FAILURE)
            return BREAKER_OPEN;
        return ++s->good >= scene.rules.close_after ? BREAKER_CLOSED : BREAKER_HALF_OPEN;
    }
    return v->state;
}

static void report(struct node *n, struct held *h, enum breaker_outcome outcome)
{
    struct side *s = &n->side[h->pair];
    struct breaker_view v, after;
    enum breaker_state want;
    bool is_given_up = h->ticket.probe && guards.mono_us - h->given_us >= BREAKER_PROBE_US;

    look(n, h->pair, &v);
    catch_up(s, breaker_find(n->table, scene.provider[h->pair], scene.model[h->pair]));
    want = is_given_up ? v.state : expect(s, &v, h, outcome);
    if (guards.mutant == MUTANT_counts_4xx && outcome == BREAKER_NEITHER)
        outcome = BREAKER_FAILURE;
    breaker_report(n->table, &h->ticket, outcome, "HTTP 500", &scene.rules, as(n));
    h->is_used = false;
    look(n, h->pair, &after);
    guards_trace("node %u pair %u: report %d, %s to %s", n->number, h->pair, (int)outcome,
                 breaker_state_name(v.state), breaker_state_name(after.state));
    guards.checks++;
    if (is_given_up) { /* its place may or may not have been taken again; both are right */
        s->good += after.successes > v.successes;
        return;
    }
    if (after.state != want)
        guards_fail("node %u, after %u failures in a row and %u good probes: %s, it should be %s", n->number,
                    s->in_a_row, s->good, breaker_state_name(after.state), breaker_state_name(want));
    if (outcome == BREAKER_NEITHER &&
        (after.window_attempts != v.window_attempts || after.failures != v.failures))
        guards_fail("node %u counted what says nothing of the provider", n->number);
}

static void some_report(struct node *n)
{
    unsigned from = guards_below(TICKETS);

    for (unsigned i = 0; i < TICKETS; i++) {
        struct held *h = &n->held[(from + i) % TICKETS];
        unsigned luck = guards_below(100);

        if (!h->is_used)
            continue;
        report(n, h,
               luck < 15                                       ? BREAKER_NEITHER
               : luck < (scene.is_broken[h->pair] ? 90u : 20u) ? BREAKER_FAILURE
                                                               : BREAKER_SUCCESS);
        return;
    }
}

/* ---- operators ------------------------------------------------------------------------------------------------------- */

static bool is_troubled(void)
{
    return guards.is_db_down || guards.mono_us - scene.last_trouble_us < 10000000;
}

/* First on record, then in effect, as the API does it. */
static void order(struct node *n, unsigned p)
{
    static const enum breaker_force FORCES[] = {BREAKER_FORCED_OPEN, BREAKER_FORCED_OPEN,
                                                BREAKER_FORCED_CLOSED, BREAKER_AUTO};
    struct order *o = &scene.order[p];
    struct breaker_now now = as(n);
    struct breaker_forced f = {.force = FORCES[guards_below(4)], .is_drain = guards_below(2), .at = now.wall};
    bool was_lately = o->at_us && guards.mono_us - o->at_us < 3000000;

    if (f.force != BREAKER_AUTO)
        f.until.us = now.wall.us + guards_between(1, 60) * (int64_t)1000000;
    (void)snprintf(f.actor, sizeof(f.actor), "operator");
    if (!share_keep(scene.provider[p], scene.model[p], &f))
        return;
    if (f.force == BREAKER_AUTO && guards_below(2))
        breaker_reset(n->table, scene.provider[p], scene.model[p], "operator", now);
    else
        breaker_force(n->table, scene.provider[p], scene.model[p], &f, now);
    *o = (struct order){.is_certain = scene.is_kind && !was_lately && !is_troubled(),
                        .at_us = guards.mono_us,
                        .node = n->number,
                        .force = f.force,
                        .until_us = f.until.us};
    guards_trace("node %u pair %u: forced %d%s", n->number, p, (int)f.force,
                 o->is_certain ? "" : ", uncertain");
}

static void tell_histories(unsigned p)
{
    for (unsigned i = 0; i < scene.n_nodes; i++) {
        struct node *n = &scene.node[i];
        struct breaker_change h[BREAKER_HISTORY];
        size_t k = n->is_alive ? breaker_history(n->table, scene.provider[p], scene.model[p], h) : 0;

        while (k--)
            guards_trace("node %u pair %u: at %.6f %s to %s: %s", i, p,
                         (double)(h[k].at.us - n->skew_us - guards.wall_us + guards.mono_us) / 1e6,
                         breaker_state_name(h[k].from), breaker_state_name(h[k].to), h[k].cause);
    }
}

/* Where the order must be in effect: where it was said, and everywhere a moment later. */
static void must_obey(struct node *n)
{
    for (unsigned p = 0; p < scene.n_pairs; p++) {
        const struct order *o = &scene.order[p];
        int64_t left_us = o->until_us - as(n).wall.us;
        struct breaker_view v;

        if (!o->is_certain || o->force == BREAKER_AUTO || !share_has_restored(n->share) ||
            guards.mono_us - o->at_us < AGREE_US || is_troubled() || llabs(left_us) < 2 * SKEW_US + AGREE_US)
            continue;
        look(n, p, &v);
        guards.checks++;
        if ((left_us > 0) != (v.force == o->force))
            tell_histories(p);
        if (left_us > 0 && v.force != o->force)
            guards_fail("node %u does not hold to the forced state %d, which lasts %.1f s more", n->number,
                        (int)o->force, (double)left_us / 1e6);
        if (left_us < 0 && v.force != BREAKER_AUTO)
            guards_fail("node %u holds to a forced state that is over", n->number);
    }
}

/* ---- agreement ------------------------------------------------------------------------------------------------------- */

static bool changed_lately(struct node *n, unsigned p)
{
    struct breaker_change h[BREAKER_HISTORY];
    struct breaker_view v;
    size_t k;

    look(n, p, &v); /* what time alone changes, changes now */
    k = breaker_history(n->table, scene.provider[p], scene.model[p], h);
    return k && as(n).wall.us - h[0].at.us < AGREE_US;
}

static void must_agree(void)
{
    for (unsigned p = 0; p < scene.n_pairs; p++) {
        struct breaker_view first, v;
        struct node *one = NULL;
        bool is_moving = false;

        for (unsigned i = 0; i < scene.n_nodes; i++)
            is_moving |= scene.node[i].is_alive && changed_lately(&scene.node[i], p);
        for (unsigned i = 0; !is_moving && i < scene.n_nodes; i++) {
            struct node *n = &scene.node[i];

            if (!n->is_alive)
                continue;
            look(n, p, &v);
            guards.checks++;
            if (one && (v.state != first.state || v.force != first.force)) {
                tell_histories(p);
                guards_fail("pair %u is %s (forced %d) at node %u and %s (forced %d) at node %u", p,
                            breaker_state_name(first.state), (int)first.force, one->number,
                            breaker_state_name(v.state), (int)v.force, n->number);
            }
            if (!one) {
                one = n;
                first = v;
            }
        }
    }
}

static void be_quiet(void)
{
    for (int64_t end = guards.mono_us + AGREE_US; guards.mono_us < end;)
        pass(100000);
    if (!is_troubled() && scene.is_kind)
        must_agree();
}

/* ---- a seed ---------------------------------------------------------------------------------------------------------- */

static void make_rules(struct config_breaker *r)
{
    *r = (struct config_breaker){.failures = guards_below(4) ? guards_between(1, 8) : 0,
                                 .error_rate = guards_below(2) ? 0.1 * guards_between(1, 10) : 0,
                                 .min_requests = guards_between(1, 20),
                                 .window_us = guards_between(2, 60) * (int64_t)1000000,
                                 .open_for_us = guards_between(1, 5) * (int64_t)1000000,
                                 .max_open_for_us = guards_between(5, 15) * (int64_t)1000000,
                                 .probes = guards_between(1, 4),
                                 .close_after = guards_between(1, 4)};
}

static void begin(void)
{
    char name[32];

    memset(&scene, 0, sizeof(scene));
    make_rules(&scene.rules);
    scene.n_nodes = guards_between(1, NODES);
    scene.n_pairs = guards_between(1, PAIRS);
    scene.is_kind = guards_below(3) != 0;
    scene.last_trouble_us = -1000000000;
    scene.crash = guards_rare(150);
    scene.black_outs = guards_rare(150);
    if (!scene.is_kind) {
        guards.plan.fails_before = guards_rare(15);
        guards.plan.reply_lost = guards_rare(15);
        guards.plan.late = guards_rare(15);
        guards.plan.goes_down = guards_rare(60);
        scene.db_down = guards_rare(100);
        scene.empties = guards_rare(150);
    }
    for (unsigned p = 0; p < scene.n_pairs; p++) {
        (void)snprintf(name, sizeof(name), "provider-%u", p);
        scene.provider[p] = intern_z(name);
        scene.model[p] = intern_z("vendor/model with spaces");
    }
    for (unsigned i = 0; i < scene.n_nodes; i++) {
        scene.node[i].number = i;
        scene.node[i].skew_us = guards_below(2) ? (int64_t)guards_below(2 * SKEW_US) - SKEW_US : 0;
        start(&scene.node[i]);
    }
}

/* Everything loses its power, and the store kept nothing. */
static void black_out(void)
{
    for (unsigned i = 0; i < scene.n_nodes; i++)
        if (scene.node[i].is_alive)
            die(&scene.node[i]);
    store_empty();
    for (unsigned i = 0; i < scene.n_nodes; i++)
        start(&scene.node[i]);
}

static void trouble(struct node *n)
{
    if (guards_strikes(scene.black_outs))
        black_out();
    if (guards_strikes(scene.crash)) {
        if (n->is_alive)
            die(n);
        else
            start(n);
        scene.last_trouble_us = scene.is_kind ? scene.last_trouble_us : guards.mono_us;
    }
    if (guards_strikes(scene.db_down))
        guards.is_db_down = !guards.is_db_down;
    if (guards_strikes(scene.empties))
        store_empty();
    if (guards_below(40) == 0)
        scene.is_broken[guards_below(scene.n_pairs)] ^= true;
}

static void step(void)
{
    struct node *n = &scene.node[guards_below(scene.n_nodes)];
    unsigned p = guards_below(scene.n_pairs), what = guards_below(100);

    pass(guards_below(4) ? guards_below(50000) : guards_below(1500000));
    trouble(n);
    if (!n->is_alive)
        return;
    if (what < 48)
        attempt(n, p);
    else if (what < 96)
        some_report(n);
    else if (what < 98)
        order(n, p);
    else
        be_quiet();
    must_obey(n);
}

static void report_all(struct node *n)
{
    for (unsigned i = 0; i < TICKETS; i++)
        if (n->held[i].is_used)
            report(n, &n->held[i], BREAKER_SUCCESS);
}

/* All is well again: no longer than the longest pause, and all breakers are closed. */
static void recover(void)
{
    int64_t patience = scene.rules.max_open_for_us + 10000000;

    guards.is_calm = true;
    guards.is_db_down = false;
    for (unsigned i = 0; i < scene.n_nodes; i++)
        if (!scene.node[i].is_alive)
            start(&scene.node[i]);
    pass(2 * SKEW_US + 3000000); /* each has heard the last word */
    for (unsigned p = 0; p < scene.n_pairs; p++) {
        struct breaker_now now = as(&scene.node[0]);
        struct breaker_forced none = {.at = now.wall};

        breaker_force(scene.node[0].table, scene.provider[p], scene.model[p], &none, now);
        scene.order[p].is_certain = false;
    }
    for (int64_t end = guards.mono_us + patience; guards.mono_us < end; pass(500000))
        for (unsigned i = 0; i < scene.n_nodes; i++)
            for (unsigned p = 0; p < scene.n_pairs; p++) {
                report_all(&scene.node[i]);
                attempt(&scene.node[i], p);
            }
    for (unsigned i = 0; i < scene.n_nodes; i++)
        report_all(&scene.node[i]);
    for (int64_t end = guards.mono_us + AGREE_US; guards.mono_us < end;)
        pass(100000);
    must_agree();
    for (unsigned i = 0; i < scene.n_nodes; i++)
        for (unsigned p = 0; p < scene.n_pairs; p++) {
            struct breaker_view v;

            look(&scene.node[i], p, &v);
            if (v.state != BREAKER_CLOSED || v.force != BREAKER_AUTO)
                guards_fail("node %u: pair %u is %s, forced %d, although all has been well for %.0f s", i, p,
                            breaker_state_name(v.state), (int)v.force, (double)patience / 1e6);
        }
}

void breakers_scene(void)
{
    begin();
    for (unsigned i = guards_between(50, 400); i; i--)
        step();
    recover();
    for (unsigned i = 0; i < scene.n_nodes; i++)
        die(&scene.node[i]);
}
