/* SPDX-License-Identifier: Apache-2.0 */
/* May it be done: there is room to put on record what follows, its key, tenant and all have requests, tokens, slots and money
 * left, and the most that it can cost is held. Dispatch puts that on record before a provider hears of it.
 *
 * A model without a price cannot be held against a budget: where one applies that refuses, such targets are passed over, and
 * a request that has no others is refused. */
#include <stdio.h>

#include "gatewayd/proxy/pipeline.h"
#include "gatewayd/proxy/statement.h"

/* Whose account would have to hold it: NULL, or the one that cannot. */
static const char *unholdable(const struct request *rq, const struct config_target *t)
{
    if (t->price)
        return NULL;
    if (limits_holds_money(limits_chain_of(rq->config, rq->key)))
        return rq->key->tenant->id;
    return limits_point_holds_money(limits_provider_of(rq->config, t->provider)) ? t->provider->name : NULL;
}

/* Returns the last that could not hold a target. */
static const char *drop_unpriced(struct request *rq)
{
    const char *whose = NULL;
    size_t n = 0;

    for (size_t i = 0; i < rq->n_targets; i++) {
        const char *one = unholdable(rq, &rq->targets[i]);

        if (!one)
            rq->targets[n++] = rq->targets[i];
        whose = one ? one : whose;
    }
    rq->n_targets = n;
    return whose;
}

static uint64_t left_of(const struct rate_view *v)
{
    return v->used < v->limit ? v->limit - v->used : 0;
}

/* Headers tell of the scope that will refuse first. */
static void note_rates(struct request *rq, const struct explain *x)
{
    for (unsigned i = 0; i < x->n; i++) {
        const struct explain_row *r = &x->row[i];
        struct rate_view v = {.limit = r->limit,
                              .used = r->used,
                              .reset_us = r->resets_at.us ? r->resets_at.us - rq->arrived_wall.us : 0};
        unsigned k = r->kind[0] == 'r' ? RATE_REQUESTS : RATE_TOKENS;

        if ((r->kind[0] == 'r' || r->kind[0] == 't') &&
            (!rq->rates[k].limit || left_of(&v) < left_of(&rq->rates[k])))
            rq->rates[k] = v;
    }
}

static enum step refuse(struct request *rq, enum err_code code, const struct explain *why)
{
    const struct explain_row *r = explain_refusal(why);
    struct explain *kept = arena_new(rq->arena, struct explain);
    char text[EXPLAIN_TEXT_CAP];

    *kept = *why;
    rq->refusal = kept;
    rq->retry_after_ms = r->retry_ms;
    explain_text(r, text, sizeof(text));
    if (code == ERR_UNAVAILABLE)
        return request_fail(
            rq, code,
            "what was spent of the budget of '%s' is not known now: the history store is not reached",
            r->scope);
    return request_fail(rq, code, "%s", text);
}

static enum step admit(struct request *rq, const struct limits_chain *chain)
{
    struct limits_ask ask = {.chain = chain,
                             .model = limits_model_of(rq->config, rq->alias),
                             .request = rq->id,
                             .now = rq->arrived_wall,
                             .mono = loop_now(rq->proxy->loop),
                             .bound_nanousd = rq->bound_nanousd,
                             .tokens = statement_tokens(rq)};
    struct explain why;
    enum err_code e = limits_admit(rq->proxy->limits, &ask, &rq->hold, &why);

    note_rates(rq, &why);
    return e ? refuse(rq, e, &why) : STEP_NEXT;
}

enum step stage_admit(struct request *rq)
{
    const struct limits_chain *chain = limits_chain_of(rq->config, rq->key);
    const char *whose;

    if (operation_row(rq->op)->body == BODY_NONE)
        return STEP_NEXT;
    whose = drop_unpriced(rq);
    if (!rq->n_targets)
        return request_fail(
            rq, ERR_OVER_BUDGET,
            "model '%s' has no price, so that the budget of %s '%s' cannot hold what it costs; "
            "give it one in 'prices'",
            rq->plan.model_name, limits_holds_money(chain) ? "tenant" : "provider", whose);
    rq->bound_nanousd = statement_bound(rq);
    if (!journal_has_room(rq->proxy->journal))
        return statement_refuse(rq);
    return chain ? admit(rq, chain) : STEP_NEXT;
}
