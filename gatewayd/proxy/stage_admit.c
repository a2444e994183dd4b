/* SPDX-License-Identifier: Apache-2.0 */
/* May it be done: there is room to put on record what follows, its key, tenant and all have requests, tokens, slots and money
 * left, and the most that it can cost is held. Dispatch puts that on record before a provider hears of it.
 *
 * A model without a price cannot be held against a budget: where one applies that refuses, such targets are passed over, and
 * a request that has no others is refused. */
#include <stdio.h>
#include <stdlib.h>

#include "gatewayd/limits/limits_lease.h"
#include "gatewayd/proxy/pipeline.h"
#include "gatewayd/proxy/statement.h"

static bool is_held(const struct request *rq)
{
    bool held = limits_holds_money(limits_chain_of(rq->config, rq->key));

    for (size_t i = 0; !held && i < rq->n_targets; i++)
        held = limits_point_holds_money(limits_provider_of(rq->config, rq->targets[i].provider));
    return held;
}

/* Whose account would have to hold it: NULL, or the one that cannot. */
static const char *unholdable(const struct request *rq, const struct config_target *t)
{
    if (t->price && (!rq->reach.searches || rq->op == OP_RERANK || t->price->per_search >= 0))
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
        return request_fail(rq, code,
                            r->reason ? "nothing of the budget of '%s' can be held now: %s"
                                      : "what was spent of the budget of '%s' is not known now: %s",
                            r->scope, r->reason ? r->reason : "the history store is not reached");
    return request_fail(rq, code, "%s", text);
}

/* ---- waiting for a lease ---- */

struct lease_wait { /* freed when its letter came */
    struct limits_waiter waiter;
    struct letter letter;
    struct mailbox *mailbox;
    struct request *rq; /* NULL: it waits no longer */
};

static void on_answered(struct limits_waiter *waiter)
{
    struct lease_wait *w = CONTAINER_OF(waiter, struct lease_wait, waiter);

    mailbox_post_mt(w->mailbox, &w->letter);
}

static void on_letter(struct letter *l)
{
    struct lease_wait *w = CONTAINER_OF(l, struct lease_wait, letter);

    if (w->rq) {
        w->rq->lease_wait = NULL;
        pipeline_resume(w->rq);
    }
    free(w);
}

static void wait_no_longer(struct request *rq)
{
    if (rq->lease_wait)
        rq->lease_wait->rq = NULL;
    rq->lease_wait = NULL;
    loop_timer_cancel(rq->proxy->loop, &rq->timer);
    rq->timer_fired = false;
}

static bool await_lease(struct request *rq)
{
    struct lease_wait *w = calloc(1, sizeof(*w));
    bool again = rq->lease_since.us != 0;

    if (!w)
        abort();
    *w = (struct lease_wait){
        .waiter.answered = on_answered, .letter.fn = on_letter, .mailbox = rq->proxy->mailbox, .rq = rq};
    if (!limits_lease_await_mt(rq->proxy->limits, &w->waiter, again)) {
        free(w);
        return false;
    }
    rq->lease_wait = w;
    if (!again) {
        rq->lease_since = loop_now(rq->proxy->loop);
        rq->timer_fired = false;
        loop_timer(rq->proxy->loop, &rq->timer, LEASE_WAIT_US);
    }
    return true;
}

/* Dispatch does not wait for a lease of a provider's budget, so it is had before: that of the first target at first, then of
 * any. */
static bool lacks_provider(struct request *rq)
{
    struct limits_ask ask = {.request = rq->id,
                             .now = rq->arrived_wall,
                             .mono = loop_now(rq->proxy->loop),
                             .waits_since = rq->lease_since};
    bool may_come = false;

    for (size_t i = 0; i < rq->n_targets && !rq->timer_fired; i++) {
        const struct limits_point *p = limits_provider_of(rq->config, rq->targets[i].provider);
        enum limits_room room;

        if (!p)
            return false;
        ask.bound_nanousd = statement_bound_at(rq, &rq->targets[i]);
        room = limits_look_attempt(rq->proxy->limits, p, &ask);
        if (room == LIMITS_ROOM)
            return false;
        may_come |= room == LIMITS_ROOM_MAY_COME;
        if (may_come && !rq->lease_since.us)
            return true;
    }
    return may_come;
}

static enum step admit(struct request *rq, const struct limits_chain *chain)
{
    struct limits_ask ask = {.chain = chain,
                             .model = limits_model_of(rq->config, rq->alias),
                             .request = rq->id,
                             .now = rq->arrived_wall,
                             .mono = loop_now(rq->proxy->loop),
                             .bound_nanousd = rq->bound_nanousd,
                             .tokens = statement_tokens(rq),
                             .waits_since = rq->lease_since,
                             .is_last = rq->timer_fired};
    struct explain why;
    enum err_code e;

    if (lacks_provider(rq) && await_lease(rq))
        return STEP_WAIT;
    e = limits_admit(rq->proxy->limits, &ask, &rq->hold, &why);
    if (e && rq->hold.waits && await_lease(rq))
        return STEP_WAIT;
    wait_no_longer(rq);
    note_rates(rq, &why);
    return e ? refuse(rq, e, &why) : STEP_NEXT;
}

/* Entered again: it was cut, its client went, its letter came, its time is over, or nothing of it. */
static enum step admit_again(struct request *rq, const struct limits_chain *chain)
{
    if (rq->error || rq->is_gone) {
        wait_no_longer(rq);
        return rq->error ? STEP_DONE
                         : request_fail(rq, ERR_CLIENT_GONE, "the client left while a limit was asked for");
    }
    if (rq->lease_wait && !rq->timer_fired)
        return STEP_WAIT;
    if (rq->lease_wait)
        rq->lease_wait->rq = NULL;
    rq->lease_wait = NULL;
    return admit(rq, chain);
}

enum step stage_admit(struct request *rq)
{
    const struct limits_chain *chain = limits_chain_of(rq->config, rq->key);
    const char *whose;

    if (operation_row(rq->op)->body == BODY_NONE)
        return STEP_NEXT;
    if (rq->lease_since.us)
        return admit_again(rq, chain);
    if (operation_row(rq->op)->body == BODY_JSON)
        reach_scan(rq->op, exchange_body(rq->ex), rq->plan.n, &rq->reach);
    if (rq->reach.unbounded[0] && is_held(rq))
        return request_fail(rq, ERR_UNBOUNDED, "what %s can cost has no bound, and a budget has to hold it",
                            rq->reach.unbounded);
    whose = drop_unpriced(rq);
    if (!rq->n_targets)
        return request_fail(
            rq, ERR_OVER_BUDGET,
            "model '%s' has no price%s, so that the budget of %s '%s' cannot hold what it costs; "
            "give it one in 'prices'",
            rq->plan.model_name, rq->reach.searches ? " for calls of tools" : "",
            limits_holds_money(chain) ? "tenant" : "provider", whose);
    rq->bound_nanousd = statement_bound(rq);
    if (!journal_has_room(rq->proxy->journal))
        return statement_refuse(rq);
    return chain ? admit(rq, chain) : STEP_NEXT;
}
