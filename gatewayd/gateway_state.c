/* SPDX-License-Identifier: Apache-2.0 */
/* What the gateway says of itself, for metrics and pages. Any thread: everything is asked of its owner, whose answer is a copy. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gatewayd/directory/directory.h"
#include "gatewayd/gateway_priv.h"
#include "gatewayd/telemetry/cells.h"
#include "gatewayd/telemetry/events.h"
#include "libshared/catalog/metrics.h"

static void add_pipeline(struct metrics_state *out, const struct metrics_pipeline *p)
{
    assert(out->n_pipelines < METRICS_PIPELINES);
    out->pipelines[out->n_pipelines++] = *p;
}

static void sum_journals(struct gateway *gw, struct metrics_state *out)
{
    struct recorder_stats rs = recorder_stats_mt(gw->recorder);
    struct events_answer es = events_stats_mt(gw->events);

    for (unsigned i = 0; i < gw->n_journals; i++) {
        struct journal_stats js = journal_stats_mt(gw->journals[i]);

        out->journal.appended += js.appended;
        out->journal.bytes += js.bytes;
        out->journal.read += js.read;
        out->journal.used_bytes += js.used_bytes;
        out->journal.ahead_bytes += js.ahead_bytes;
        out->journal.max_bytes += js.max_bytes;
        out->journal.full_refusals += js.full_refusals;
    }
    out->journal.log_written = rs.log_written;
    out->journal.log_dropped = rs.log_dropped;
    add_pipeline(out, &(struct metrics_pipeline){"access_log", rs.log_written, rs.log_dropped, rs.log_queued,
                                                 rs.log_last_written});
    add_pipeline(out,
                 &(struct metrics_pipeline){
                     "events", es.stored, es.dropped,
                     es.told > es.stored + es.dropped ? es.told - es.stored - es.dropped : 0, es.stored_at});
}

int64_t gateway_history_lag_us_mt(struct gateway *gw)
{
    struct writer_stats ws[BOOKS_WRITERS];

    books_stats_mt(gw->books, ws);
    for (unsigned i = 0; i < BOOKS_WRITERS; i++)
        if (strcmp(ws[i].name, "history") == 0)
            return ws[i].is_down ? -1 : ws[i].lag_us;
    return -1;
}

static void take_stores(struct gateway *gw, struct metrics_state *out)
{
    struct writer_stats ws[BOOKS_WRITERS];

    _Static_assert(BOOKS_WRITERS <= METRICS_STORES && BOOKS_WRITERS <= METRICS_PARTS, "all are shown");
    books_stats_mt(gw->books, ws);
    for (unsigned i = 0; i < BOOKS_WRITERS; i++) {
        out->stores[i] = (struct metrics_store){.name = ws[i].name,
                                                .batches = ws[i].batches,
                                                .records = ws[i].records,
                                                .last_records = ws[i].last_records,
                                                .errors = ws[i].errors,
                                                .duplicates = ws[i].duplicates,
                                                .gaps = ws[i].gaps,
                                                .lag_us = ws[i].lag_us,
                                                .is_up = !ws[i].is_down,
                                                .down_since = ws[i].down_since};
        (void)span_copy(out->stores[i].error, sizeof(out->stores[i].error), span_of(ws[i].error));
        out->parts[i] = (struct metrics_part){ws[i].name, ws[i].is_down};
        add_pipeline(
            out, &(struct metrics_pipeline){ws[i].name, ws[i].records, 0, ws[i].queued, ws[i].last_success});
    }
    out->n_stores = out->n_parts = BOOKS_WRITERS;
}

static void take_books(struct gateway *gw, struct metrics_state *out)
{
    struct aggregator_stats as = {0};

    _Static_assert(RECONCILE_COUNT <= METRICS_PAIRS, "all are shown");
    if (!gw->aggregator)
        return;
    aggregator_stats_mt(gw->aggregator, &as);
    for (unsigned i = 0; i < RECONCILE_COUNT; i++)
        out->pairs[i] =
            (struct metrics_pair){reconcile_pair_name((enum reconcile_pair)i),
                                  as.books.pairs[i].is_known ? (double)as.books.pairs[i].drift : (double)NAN};
    out->n_pairs = RECONCILE_COUNT;
    out->aggregation.last_success = as.last_success;
    out->aggregation.failures = as.failures;
    out->aggregation.lag_hours = as.lag_hours > 0 ? (uint64_t)as.lag_hours : 0;
}

static struct wall exhausts_at(struct gateway *gw, const char *account)
{
    struct forecast x;

    if (!gateway_forecast_mt(gw, account, &x) || x.state == FORECAST_UNKNOWN)
        return (struct wall){0};
    return x.state == FORECAST_NEVER ? (struct wall){INT64_MAX} : x.exhausts_at;
}

struct tenants_of {
    struct gateway *gw;
    struct arena *a;
    struct metrics_tenant *rows, rest; /* what has no series of its own, together */
    size_t n, cap;
    struct metrics_state *out;
};

/* Their counts are in one series; a gauge of several tenants would say nothing. */
static void fold_tenant(struct tenants_of *t, const struct limits_view *v)
{
    t->rest.tenant = cells_overflow();
    t->rest.limited += v->limited;
    t->rest.over_budget += v->over_budget;
    t->rest.n_folded++;
}

static void take_scope(void *user, const struct limits_view *v)
{
    struct tenants_of *t = user;
    struct metrics_tenant *more;
    label tenant;

    for (unsigned k = 0; k < RATE_KINDS; k++) {
        t->out->limit_types[k].hits += v->refused[k];
        t->out->limit_types[k].shadow_hits += v->shadowed[k];
    }
    if (strncmp(v->scope, "tenant:", 7) != 0)
        return;
    tenant = intern_z(v->scope + 7);
    if (tenant == cells_overflow() || !cells_tenant_fits_mt(tenant)) {
        fold_tenant(t, v);
        return;
    }
    if (t->n + 1 >= t->cap) { /* one place is the rest's */
        more = arena_array(t->a, struct metrics_tenant, t->cap * 2 + 16);
        if (t->n)
            memcpy(more, t->rows, t->n * sizeof(*more));
        t->rows = more;
        t->cap = t->cap * 2 + 16;
    }
    t->rows[t->n++] = (struct metrics_tenant){
        .tenant = tenant,
        .limited = v->limited,
        .over_budget = v->over_budget,
        .limit_nanousd = v->limit_nanousd,
        .exhausts_at = exhausts_at(t->gw, v->scope),
        .usage_ratio = v->limit_nanousd ? (double)v->sums.posted_nanousd / (double)v->limit_nanousd : 0};
}

static void take_limits(struct gateway *gw, struct arena *a, struct metrics_state *out)
{
    struct tenants_of t = {.gw = gw, .a = a, .out = out};

    _Static_assert((unsigned)RATE_KINDS == METRICS_LIMIT_TYPES, "every kind is shown");
    for (unsigned k = 0; k < RATE_KINDS; k++)
        out->limit_types[k].name = rate_kind_name((enum rate_kind)k);
    limits_each_mt(gw->limits, take_scope, &t);
    if (t.rest.n_folded) {
        if (!t.rows)
            t.rows = arena_array(a, struct metrics_tenant, 1);
        t.rows[t.n++] = t.rest;
    }
    out->limited = t.rows;
    out->n_limited = t.n;
    out->overshoot_bound_usd = limits_overshoot_bound_usd_mt(gw->limits);
}

static void list_targets(const struct config *c, struct arena *a, struct metrics_state *out)
{
    size_t n = c->n_providers;
    struct metrics_label_set *set;
    label *tenants = arena_array(a, label, c->n_tenants + 1);

    for (size_t m = 0; m < c->n_models; m++)
        n += c->models[m].n_targets;
    set = arena_array(a, struct metrics_label_set, n + 1);
    n = 0;
    for (size_t m = 0; m < c->n_models; m++)
        for (size_t t = 0; t < c->models[m].n_targets; t++)
            set[n++] = (struct metrics_label_set){c->models[m].targets[t].provider->label,
                                                  c->models[m].targets[t].model_label};
    /* Providers without a configured model have no series per model. */
    for (size_t p = 0; p < c->n_providers; p++)
        set[n++] = (struct metrics_label_set){c->providers[p].label, 0};
    for (size_t t = 0; t < c->n_tenants; t++)
        tenants[t] = c->tenants[t].label;
    out->targets = set;
    out->n_targets = n;
    out->tenants = tenants;
    out->n_tenants = c->n_tenants;
}

static int by_names(const void *a, const void *b)
{
    const struct breaker_view *x = a, *y = b;
    int d = strcmp(label_text(x->provider), label_text(y->provider));

    return d ? d : strcmp(label_text(x->model), label_text(y->model));
}

static void take_breakers(struct gateway *gw, const struct config *c, struct arena *a,
                          struct metrics_state *out)
{
    struct breaker_now now = breaker_now();
    size_t cap = breakers_list(gw->breakers, &c->breaker, now, NULL, 0), n;
    struct breaker_view *all = arena_array(a, struct breaker_view, cap + 1);

    n = breakers_list(gw->breakers, &c->breaker, now, all, cap);
    out->n_breakers = n < cap ? n : cap;
    qsort(all, out->n_breakers, sizeof(*all), by_names);
    out->breakers = all;
}

static void take_health(struct gateway *gw, struct arena *a, struct metrics_state *out)
{
    struct health_board *b = gw->tracker ? tracker_board_mt(gw->tracker) : NULL, *copy;
    size_t bytes = b ? sizeof(*b) + b->n * sizeof(*b->rows) : 0;
    struct metrics_probes *probes;

    if (!b)
        return;
    copy = arena_alloc(a, bytes);
    /* Others write the counter meanwhile; everything else of a board never changes. */
    memcpy((char *)copy + offsetof(struct health_board, at),
           (const char *)b + offsetof(struct health_board, at), bytes - offsetof(struct health_board, at));
    probes = arena_array(a, struct metrics_probes, b->n + 1);
    for (size_t i = 0; i < b->n; i++) {
        probes[i].provider = b->rows[i].provider;
        for (unsigned o = 0; o < PROBE_OUTCOMES; o++)
            probes[i].n[o] = tracker_probes_mt(gw->tracker, b->rows[i].provider, (enum probe_outcome)o);
    }
    out->health = copy;
    out->probes = probes;
    out->n_probes = b->n;
    health_board_unref(b);
}

static void take_queues(struct gateway *gw, struct arena *a, struct metrics_state *out)
{
    struct overload_view v = overload_look(gw->overload);
    struct queues_sums sums;
    size_t n = queues_list(gw->queues, mono_now(), NULL, 0, &sums);
    struct queues_row *rows = arena_array(a, struct queues_row, n + 1);
    size_t now = queues_list(gw->queues, mono_now(), rows, n, &sums);

    out->queues = rows;
    out->n_queues = now < n ? now : n;
    out->queued = sums;
    out->overload = v;
}

static void count_plan(struct metrics_plan *plans, size_t *n, label plan, unsigned tenants)
{
    size_t i = 0;

    while (i < *n && plans[i].plan != plan)
        i++;
    if (i == *n)
        plans[(*n)++] = (struct metrics_plan){.plan = plan};
    plans[i].tenants += tenants;
}

/* Plans of the database have their series while nobody is in them, too. */
static void take_plans(struct gateway *gw, const struct config *c, struct arena *a, struct metrics_state *out)
{
    label *known = NULL;
    size_t n_known = directory_plans_mt(gw->directory, a, &known);
    struct metrics_plan *plans = arena_array(a, struct metrics_plan, n_known + c->n_tenants + 1);

    for (size_t i = 0; i < n_known; i++)
        count_plan(plans, &out->n_plans, known[i], 0);
    for (size_t i = 0; i < c->n_tenants; i++)
        if (c->tenants[i].plan && c->tenants[i].plan[0])
            count_plan(plans, &out->n_plans, intern_z(c->tenants[i].plan), c->tenants[i].is_enabled);
    out->plans = plans;
    directory_trials_mt(gw->directory, &out->trials.signups, &out->trials.conversions);
}

static struct metrics_anomalies *anomalies_of(struct metrics_anomalies *rows, size_t *n, label provider)
{
    size_t i = 0;

    while (i < *n && rows[i].provider != provider)
        i++;
    if (i == *n)
        rows[(*n)++] = (struct metrics_anomalies){.provider = provider};
    return &rows[i];
}

static void take_anomalies(struct gateway *gw, const struct config *c, struct arena *a,
                           struct metrics_state *out)
{
    struct watcher_finding *found = arena_array(a, struct watcher_finding, WATCHER_FINDINGS);
    size_t n = gw->watcher ? watcher_findings_mt(gw->watcher, found, WATCHER_FINDINGS) : 0;
    struct metrics_anomalies *rows = arena_array(a, struct metrics_anomalies, n + c->n_providers + 1);

    for (size_t i = 0; i < c->n_providers; i++)
        (void)anomalies_of(rows, &out->n_anomalies, c->providers[i].label);
    for (size_t i = 0; i < n; i++)
        if (found[i].is_active)
            anomalies_of(rows, &out->n_anomalies, found[i].provider)->active |= 1u << found[i].a.kind;
    out->anomalies = rows;
}

void gateway_reset_windows_mt(struct gateway *gw)
{
    /* The slot of now holds what came before, so the next one is the first. */
    atomic_store(&gw->windows_since_us, wall_now().us);
}

void gateway_metrics_state_mt(struct gateway *gw, struct arena *a, struct metrics_state *out)
{
    struct config *c = gateway_config_ref_mt(gw);
    struct store_tally *tally = arena_alloc(a, sizeof(*tally));

    tally_read_mt(tally);
    *out = (struct metrics_state){.started = gw->started,
                                  .tally = tally,
                                  .windows_since = {atomic_load(&gw->windows_since_us)},
                                  .profiles = metric_profiles(c->metrics.profiles, c->metrics.n_profiles),
                                  .now = wall_now(),
                                  .version = GATEWAYD_VERSION,
                                  .revision = "",
                                  .n_workers = gw->n_workers,
                                  .reloads_ok = atomic_load(&gw->reloads_ok),
                                  .reloads_failed = atomic_load(&gw->reloads_failed),
                                  .config_version = c->version};
    for (unsigned i = 0; i < gw->n_workers; i++) {
        struct worker_stats ws = worker_stats_mt(gw->workers[i]);

        out->loops[i].turns = ws.loop.turns;
        out->loops[i].empty_turns = ws.loop.empty_turns;
        out->loops[i].busy_us = ws.loop.busy_us;
        out->loops[i].max_turn_us = ws.loop.max_turn_us;
        out->connections += ws.server.open;
        out->connections_refused += ws.server.refused_connections;
        out->guard_refusals += ws.server.guard_refusals;
    }
    sum_journals(gw, out);
    take_stores(gw, out);
    take_books(gw, out);
    take_limits(gw, a, out);
    list_targets(c, a, out);
    take_breakers(gw, c, a, out);
    take_health(gw, a, out);
    take_queues(gw, a, out);
    take_plans(gw, c, a, out);
    take_anomalies(gw, c, a, out);
    config_unref(c);
}
