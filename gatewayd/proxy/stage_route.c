/* SPDX-License-Identifier: Apache-2.0 */
/* To whom: the ordered targets of the model, if the tenant may use it. Lists of models are answered here, from the configuration. */
#include "gatewayd/proxy/models_list.h"
#include "gatewayd/proxy/pipeline.h"

#define DIRECT_RETRIES 2u

static bool is_eligible(const struct config_target *t, enum operation op)
{
    const struct provider_ops *ops = provider_ops_find(t->provider->kind);

    return t->provider->is_enabled && ops && ops->path(op) != NULL;
}

/* Moves a target drawn by weight to the front; the rest keeps its order as the way of failing over. */
static void draw_first(struct config_target *t, size_t n)
{
    uint64_t total = 0, r;

    for (size_t i = 0; i < n; i++)
        total += t[i].weight;
    if (!total)
        return;
    random_bytes(&r, sizeof(r));
    r %= total;
    for (size_t i = 0; i < n; i++) {
        if (r < t[i].weight) {
            struct config_target first = t[i];

            memmove(t + 1, t, i * sizeof(*t));
            t[0] = first;
            return;
        }
        r -= t[i].weight;
    }
}

static void take_targets(struct request *rq, const struct config_target *from, size_t n)
{
    rq->targets = arena_array(rq->arena, struct config_target, n);
    for (size_t i = 0; i < n; i++)
        if (is_eligible(&from[i], rq->op))
            rq->targets[rq->n_targets++] = from[i];
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
        if (rq->alias->strategy == STRATEGY_WEIGHTED)
            draw_first(rq->targets, rq->n_targets);
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
