/* SPDX-License-Identifier: Apache-2.0 */
/* Worker thread only. A statement repeats everything that an earlier one said, so the journal needs only the newest of
 * each open request; `rq->stated` is its sequence number, 0 while none was made. */
#include "gatewayd/proxy/statement.h"

#include "gatewayd/provider/bound.h"
#include "gatewayd/proxy/attempt.h"
#include "gatewayd/proxy/body.h"
#include "gatewayd/proxy/pipeline.h"
#include "libshared/base/log.h"

#define WATCH_US 250000

void statement_context(const struct request *rq, struct fact_context *out)
{
    *out = (struct fact_context){.request = rq->id,
                                 .arrived = rq->arrived_wall,
                                 .tenant = rq->key ? rq->key->tenant->label : 0,
                                 .key = rq->key ? rq->key->label : 0,
                                 .op = rq->op};
}

static void add_ended(struct fact_open *o, const struct fact_attempt *a)
{
    o->ended++;
    o->ended_cost_nanousd += a->cost_nanousd;
    usage_add(&o->ended_usage, &a->usage);
}

/* What the attempt has cost if it ends here: the provider's own words, else an estimate from what was seen. */
static void take_current(const struct request *rq, const struct config_target *t, const struct attempt *a,
                         struct fact_open *o)
{
    bool is_said = a && a->answer.usage.source != USAGE_NONE;

    o->provider = t->provider->label;
    o->model = t->model_label;
    o->cycle = attempt_cycle(rq, t);
    o->usage = is_said ? a->answer.usage : (struct usage){.source = USAGE_ESTIMATED};
    if (!is_said && operation_row(rq->op)->body == BODY_JSON) {
        o->usage.input = body_estimate_input(exchange_bytes_in(rq->ex));
        o->usage.output = a ? (a->answer.output_chars + 3) / 4 : 0;
    }
    o->is_priced = t->price != NULL;
    o->cost_nanousd = t->price ? price_cost_nanousd(t->price, &o->usage) : 0;
}

static void fill(const struct request *rq, struct fact_open *o)
{
    const struct attempt *last = request_attempt(rq);

    *o = (struct fact_open){.reservation = rq->reservation, .is_stream = rq->plan.is_stream};
    statement_context(rq, &o->context);
    o->requested = rq->alias ? rq->alias->label : 0;
    for (unsigned i = 0; i < rq->n_attempts; i++)
        if (rq->attempts[i]->is_closed)
            add_ended(o, &rq->attempts[i]->fact);
    if (!last) { /* it begins right behind this: taken for sent, as its prompt is billed from then on */
        o->number = 1;
        o->started_us = mono_diff_us(loop_now(rq->proxy->loop), rq->arrived);
        take_current(rq, &rq->targets[rq->target_at], NULL, o);
    } else if (!last->is_closed) {
        o->number = last->fact.number;
        o->started_us = last->fact.started_us;
        take_current(rq, last->target, last, o);
    } else { /* between two attempts: all that was spent is on record */
        o->provider = last->fact.provider;
        o->model = last->fact.model;
        o->is_priced = last->fact.is_priced;
        o->cycle = last->fact.cycle;
    }
}

static void note(struct request *rq)
{
    const struct attempt *a = request_attempt(rq);

    rq->stated = journal_last(rq->proxy->journal);
    rq->stated_at = loop_now(rq->proxy->loop);
    rq->stated_chars = a ? a->answer.output_chars : 0;
}

/* It makes text whose length a maximum bounds. */
static bool has_output(const struct request *rq)
{
    return rq->op == OP_CHAT || rq->op == OP_COMPLETION || rq->op == OP_MESSAGES || rq->op == OP_RESPONSES;
}

static uint64_t most_output(const struct config_target *t)
{
    uint64_t model = t->price ? t->price->max_output_tokens : 0;

    return model && model < LIMIT_BUDGET_OUTPUT ? model : LIMIT_BUDGET_OUTPUT;
}

/* An account has to hold what it costs: of the key, its tenant, all, or the target's provider. */
static bool puts_max(const struct request *rq, const struct config_target *t)
{
    return !rq->plan.max_tokens && has_output(rq) && rq->op != OP_MESSAGES &&
           (limits_holds_money(limits_chain_of(rq->config, rq->key)) ||
            limits_point_holds_money(limits_provider_of(rq->config, t->provider)));
}

void statement_put_max(struct request *rq, const struct config_target *t)
{
    rq->plan.put_max_name = NULL;
    if (!puts_max(rq, t))
        return;
    rq->plan.put_max = most_output(t);
    rq->plan.put_max_name = rq->op == OP_RESPONSES ? "max_output_tokens"
                            : rq->op == OP_CHAT && strstr(t->provider->base_url, "api.openai.com")
                                ? "max_completion_tokens"
                                : "max_tokens";
}

uint64_t statement_tokens(const struct request *rq)
{
    uint64_t prompt =
        operation_row(rq->op)->body == BODY_JSON ? body_estimate_input(exchange_bytes_in(rq->ex)) : 0;

    return has_output(rq) && rq->plan.max_tokens < UINT32_MAX ? prompt + rq->plan.max_tokens : prompt;
}

static struct bound_facts bound_facts_of(const struct request *rq)
{
    return (struct bound_facts){.body_bytes = exchange_bytes_in(rq->ex),
                                .max_tokens = rq->plan.max_tokens,
                                .n = rq->reach.choices,
                                .searches = rq->reach.searches,
                                .predicted = rq->reach.predicted,
                                .has_output = has_output(rq),
                                .has_images = rq->op == OP_IMAGES,
                                .reads_more = rq->reach.reads_more};
}

static int64_t bound_at(const struct bound_facts *of, const struct config_target *t, bool puts)
{
    struct bound_facts f = *of;

    if (puts)
        f.max_tokens = most_output(t);
    return t->price ? bound_nanousd(t->price, &f) : 0;
}

int64_t statement_bound_at(const struct request *rq, const struct config_target *t)
{
    struct bound_facts f = bound_facts_of(rq);

    return bound_at(&f, t, puts_max(rq, t));
}

int64_t statement_bound(struct request *rq)
{
    struct bound_facts f = bound_facts_of(rq);
    int64_t most = 0;

    for (size_t i = 0; i < rq->n_targets; i++) {
        int64_t cost = bound_at(&f, &rq->targets[i], puts_max(rq, &rq->targets[i]));

        most = cost > most ? cost : most;
    }
    return most;
}

bool statement_afford_another(struct request *rq)
{
    struct explain why;
    int64_t spent = 0, sum;

    for (unsigned i = 0; i < rq->n_attempts; i++)
        spent += rq->attempts[i]->fact.cost_nanousd;
    return !spent || !rq->hold.money.is_open || __builtin_add_overflow(spent, rq->bound_nanousd, &sum) ||
           limits_raise(rq->proxy->limits, &rq->hold, sum, &why) == ERR_OK;
}

bool statement_reserve(struct request *rq)
{
    const struct limits_chain *chain = limits_chain_of(rq->config, rq->key);
    struct cycle key = limits_cycle(chain, LINK_KEY), global = limits_cycle(chain, LINK_GLOBAL);
    struct fact_open o;

    rq->reservation = (struct fact_reservation){.amount_nanousd = rq->bound_nanousd,
                                                .at = rq->arrived_wall,
                                                .key_period = key.period,
                                                .tenant_period = rq->key->tenant->budget.period,
                                                .global_period = global.period,
                                                .key_zone = key.zone,
                                                .tenant_zone = rq->key->tenant->budget.zone,
                                                .global_zone = global.zone};
    fill(rq, &o);
    if (journal_reserve(rq->proxy->journal, &o) != ERR_OK) {
        rq->reservation = (struct fact_reservation){0};
        return false;
    }
    note(rq);
    return true;
}

/* A statement that finds no room is not made: the one before it still holds. */
static bool state_again(struct request *rq)
{
    struct fact_open o;

    fill(rq, &o);
    rq->cost_so_far = o.ended_cost_nanousd + o.cost_nanousd;
    if (journal_progress(rq->proxy->journal, &o) != ERR_OK)
        return false;
    note(rq);
    return true;
}

bool statement_attempt(struct request *rq)
{
    return !rq->stated || rq->n_attempts == 1 || state_again(rq); /* of the first, RESERVE told enough */
}

/* Only where a budget says so: what is held bounds a request anyhow, unless limits were lowered or nothing is held. */
static void cut_when_spent(struct request *rq, struct attempt *a)
{
    struct explain why, *kept;
    char text[EXPLAIN_TEXT_CAP];

    if (rq->error || !rq->is_streaming ||
        (!limits_cuts(&rq->hold, rq->cost_so_far, rq->arrived_wall, &why) &&
         !limits_cuts(&a->hold, rq->cost_so_far, rq->arrived_wall, &why)))
        return;
    kept = arena_new(rq->arena, struct explain);
    *kept = why;
    rq->refusal = kept;
    limits_remember_mt(rq->proxy->limits, &rq->id, kept);
    explain_text(explain_refusal(kept), text, sizeof(text));
    (void)request_fail(rq, ERR_OVER_BUDGET, "the stream was cut: %s", text);
    a->is_unfit = true; /* nothing more of it is taken */
    pipeline_resume(rq);
}

void statement_progress(struct request *rq)
{
    struct attempt *a = request_attempt(rq);

    if (!rq->stated || a->is_closed)
        return;
    if (a->answer.output_chars - rq->stated_chars >= (uint64_t)4 * STATEMENT_TOKENS ||
        mono_diff_us(loop_now(rq->proxy->loop), rq->stated_at) >= STATEMENT_US) {
        (void)state_again(rq);
        cut_when_spent(rq, a);
    }
}

enum step statement_refuse(struct request *rq)
{
    rq->retry_after_ms = 1000;
    return request_fail(rq, ERR_JOURNAL_FULL,
                        "the journal is full, so nothing can be spent on record; free disk space or raise "
                        "'journal.max_bytes'");
}

/* ---- the watch ----------------------------------------------------------------------------------------------------- */

static bool is_shut_off(const struct proxy *p, const struct attempt *a)
{
    const struct config_provider_state *s;

    if (breaker_is_cut(&a->ticket))
        return true;
    s = config_provider_state(p->config, a->target->provider->label, loop_wall(p->loop).us);
    return s && s->state == PROVIDER_DISABLED;
}

static void on_watch(struct timer *t)
{
    struct proxy *p = CONTAINER_OF(t, struct proxy, watch);
    uint64_t needed = UINT64_MAX; /* a request that comes later states itself behind all that is there now */

    for (struct request *rq = p->live; rq; rq = rq->next) {
        struct attempt *a = request_attempt(rq);

        if (a && !a->is_closed && !a->has_ended && is_shut_off(p, a))
            attempt_cut(a);
        if (!rq->stated || rq->is_settled)
            continue;
        if (journal_is_far_behind(p->journal, rq->stated))
            (void)state_again(rq);
        needed = rq->stated < needed ? rq->stated : needed;
    }
    journal_set_needed(p->journal, needed);
    loop_timer(p->loop, &p->watch, WATCH_US);
}

void statement_watch(struct proxy *p)
{
    p->watch.fn = on_watch;
    on_watch(&p->watch);
}

void statement_unwatch(struct proxy *p)
{
    loop_timer_cancel(p->loop, &p->watch);
}
