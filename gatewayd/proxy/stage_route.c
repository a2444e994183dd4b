/* SPDX-License-Identifier: Apache-2.0 */
/* To whom: the targets of the model in the order of its strategy, if the tenant may use it. Lists of models are answered here, from the configuration. */
#include <math.h>

#include "gatewayd/health/tracker.h"
#include "gatewayd/proxy/models_list.h"
#include "gatewayd/proxy/pipeline.h"
#include "gatewayd/proxy/statement.h"
#include "gatewayd/resilience/choose.h"
#include "gatewayd/resilience/load.h"

#define DIRECT_RETRIES 2u

static bool is_eligible(const struct config_target *t, enum operation op)
{
    const struct provider_ops *ops = provider_ops_find(t->provider->kind);

    return t->provider->is_enabled && ops && ops->path(op) != NULL;
}

static void take_targets(struct request *rq, const struct config_target *from, size_t n)
{
    rq->targets = arena_array(rq->arena, struct config_target, n);
    for (size_t i = 0; i < n; i++)
        if (is_eligible(&from[i], rq->op))
            rq->targets[rq->n_targets++] = from[i];
}

/* Those that an operator stopped; when that is all, they stay, and dispatch says why nobody may be asked. */
static void drop_stopped(struct request *rq)
{
    const struct config *c = rq->proxy->config;
    int64_t now_us = loop_wall(rq->proxy->loop).us;
    size_t n = 0;

    for (size_t i = 0; c->n_provider_states && i < rq->n_targets; i++)
        n += !config_provider_state(c, rq->targets[i].provider->label, now_us);
    if (!n || n == rq->n_targets)
        return;
    n = 0;
    for (size_t i = 0; i < rq->n_targets; i++) {
        const struct config_provider_state *s =
            config_provider_state(c, rq->targets[i].provider->label, now_us);

        if (s)
            request_pass_over(rq, &rq->targets[i], provider_state_name(s->state));
        else
            rq->targets[n++] = rq->targets[i];
    }
    rq->n_targets = n;
}

/* ---- in which order -------------------------------------------------------------------------------------------------- */

static double health_of_target(const struct health_board *board, const struct config_target *t)
{
    const struct health_row *row = health_board_find(board, t->provider->label);

    return row && row->health.is_known ? health_rounded(row->health.score) : (double)NAN;
}

/* What the strategy asks for; the rest is not looked at. */
static void look(struct request *rq, struct choice *out)
{
    enum config_strategy s = rq->alias->strategy;
    struct health_board *board = s == STRATEGY_HEALTH ? tracker_board_mt(rq->proxy->tracker) : NULL;
    struct mono now = loop_now(rq->proxy->loop);

    for (size_t i = 0; i < rq->n_targets; i++) {
        const struct config_target *t = &rq->targets[i];
        struct load_view load = {.latency_us = -1};

        if (s == STRATEGY_LATENCY || s == STRATEGY_LEAST_BUSY)
            load = load_look(load_of(rq->proxy->loads, t->provider->label, t->model_label),
                             rq->plan.is_stream, now);
        out[i] =
            (struct choice){.weight = t->weight,
                            .in_flight = load.in_flight,
                            .was_tried = load.was_tried,
                            .latency_us = load.latency_us,
                            .cost_nanousd = t->price && s == STRATEGY_COST ? statement_bound_at(rq, t) : -1,
                            .health = health_of_target(board, t)};
    }
    health_board_unref(board);
}

static void order_targets(struct request *rq)
{
    size_t n = rq->n_targets, *order;
    struct config_target *sorted;
    struct choice *known;
    uint64_t random;

    if (n < 2 || rq->alias->strategy == STRATEGY_PRIORITY)
        return;
    order = arena_array(rq->arena, size_t, n);
    known = arena_array(rq->arena, struct choice, n);
    sorted = arena_array(rq->arena, struct config_target, n);
    look(rq, known);
    random_bytes(&random, sizeof(random));
    choose_order(rq->alias->strategy, known, n, random, order);
    for (size_t i = 0; i < n; i++)
        sorted[i] = rq->targets[order[i]];
    rq->targets = sorted;
}

enum step stage_route(struct request *rq)
{
    struct span name = span_of(rq->plan.model_name);
    struct config_target direct;
    unsigned retries = DIRECT_RETRIES;

    if (operation_row(rq->op)->body == BODY_NONE)
        return models_list_answer(rq);
    if (!config_tenant_may_use(rq->key->tenant, name))
        return request_fail(rq, ERR_FORBIDDEN, "tenant '%s' may not use model '%s'", rq->key->tenant->id,
                            rq->plan.model_name);
    rq->alias = config_find_model(rq->config, name);
    if (rq->alias) {
        take_targets(rq, rq->alias->targets, rq->alias->n_targets);
        drop_stopped(rq);
        order_targets(rq);
        retries = rq->alias->retries;
    } else if (config_resolve_direct(rq->config, name, rq->arena, &direct)) {
        take_targets(rq, &direct, 1);
    } else {
        return request_fail(
            rq, ERR_NO_MODEL,
            "model '%s' is neither an alias of this gateway nor 'provider/model' of a configured "
            "provider; GET /v1/models lists what there is",
            rq->plan.model_name);
    }
    if (!rq->n_targets)
        return request_fail(rq, ERR_UNSUPPORTED, "no provider of model '%s' serves %s", rq->plan.model_name,
                            operation_row(rq->op)->path);
    rq->attempts_allowed = retries + 1 < LIMIT_ATTEMPTS ? retries + 1 : LIMIT_ATTEMPTS;
    return STEP_NEXT;
}
