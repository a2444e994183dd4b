/* SPDX-License-Identifier: Apache-2.0 */
/* The attempt loop. Trying again is only possible here, before the first byte has gone to the client:
 *
 *   start ──► waiting ──► finished / answering ──► relay
 *     ▲          └──► failed ──► another key, next target, or (all asked) wait and begin again ──┐
 *     └───────────────────────────────────────────────────────────────────────────────────────┘
 * Another key and another target cost nothing; asking the same target again needs a failure that allows it, a
 * withdrawal from the retry budget, and a wait (Retry-After, else jittered backoff). A target whose breaker is open is
 * passed over; it is no attempt. So is one whose provider's budget or rate has nothing left, and so is one whose provider has no slot free, while another target has (`queue.spill`); when
 * none has, the request waits for one of the first. What it can cost is put on record (RESERVE) once it has its first slot:
 * a request that waits has cost nothing, should the process die. */
#include <stdio.h>

#include "gatewayd/proxy/attempt.h"
#include "gatewayd/proxy/pipeline.h"
#include "gatewayd/proxy/statement.h"
#include "gatewayd/proxy/waiting.h"

static unsigned first_key(struct request *rq, const struct config_target *t)
{
    return t->provider->n_api_keys > 1 ? rq->proxy->next_key++ % (unsigned)t->provider->n_api_keys : 0;
}

static struct breaker_now now_of(const struct request *rq)
{
    return (struct breaker_now){loop_now(rq->proxy->loop), loop_wall(rq->proxy->loop)};
}

static bool look(struct request *rq, size_t at, struct breaker_view *out)
{
    const struct config_target *t = &rq->targets[at];

    return breaker_look(rq->proxy->breakers, t->provider->label, t->model_label, &rq->config->breaker,
                        now_of(rq), out);
}

/* What operators say now, not when the request came. */
static const struct config_provider_state *stopped(const struct request *rq, size_t at)
{
    return config_provider_state(rq->proxy->config, rq->targets[at].provider->label,
                                 loop_wall(rq->proxy->loop).us);
}

static bool admits(struct request *rq, size_t at, struct breaker_ticket *out)
{
    const struct config_target *t = &rq->targets[at];
    const struct config_provider_state *s = stopped(rq, at);
    struct breaker_view v;

    if (!s && breaker_admit(rq->proxy->breakers, t->provider->label, t->model_label, &rq->config->breaker,
                            now_of(rq), out))
        return true;
    if (s)
        request_pass_over(rq, t, provider_state_name(s->state));
    else if (look(rq, at, &v))
        request_pass_over(rq, t, breaker_state_name(v.state));
    return false;
}

static enum step give_up(struct request *rq, const struct attempt *a)
{
    rq->retry_after_ms = a->failure.retry_after_ms;
    return request_fail(rq, a->failure.code, "provider '%s': %s", a->target->provider->name,
                        a->detail[0] ? a->detail : err_row(a->failure.code)->text);
}

/* No attempt is made on it. */
static void give_back(struct request *rq, struct attempt_leave *l)
{
    limits_give_back(&l->hold);
    breaker_report(rq->proxy->breakers, &l->ticket, BREAKER_NEITHER, "", &rq->config->breaker, now_of(rq));
    queue_leave(&l->slot, loop_now(rq->proxy->loop));
}

/* Of a first attempt RESERVE tells; a further one is only made when that can be put on record and paid for. */
static enum step start(struct request *rq, size_t at, unsigned key, struct attempt_leave *l)
{
    rq->target_at = at;
    if (rq->n_attempts ? !journal_has_room(rq->proxy->journal) : !statement_reserve(rq)) {
        give_back(rq, l);
        return statement_refuse(rq);
    }
    if (rq->n_attempts && !statement_afford_another(rq)) {
        give_back(rq, l);
        return give_up(rq, request_attempt(rq));
    }
    attempt_start(rq, &rq->targets[at], key, l);
    return STEP_WAIT;
}

/* The provider's budget and rates. They never wait: there may be another target, and admit has waited for a lease. What waiting
 * may help is kept rather than what it does not. */
static bool holds(struct request *rq, size_t at, struct limits_hold *out)
{
    const struct config_target *t = &rq->targets[at];
    const struct limits_point *p = limits_provider_of(rq->config, t->provider);
    struct limits_ask ask = {.request = rq->id,
                             .now = rq->arrived_wall,
                             .mono = loop_now(rq->proxy->loop),
                             .waits_since = rq->lease_since,
                             .is_last = true};
    struct explain why;

    if (!p)
        return true;
    ask.bound_nanousd = statement_bound_at(rq, t);
    ask.tokens = statement_tokens(rq);
    if (limits_admit_attempt(rq->proxy->limits, p, &ask, out, &why) == ERR_OK)
        return true;
    if (!rq->passed_over || (explain_refusal(rq->passed_over)->verdict == VERDICT_REFUSED &&
                             explain_refusal(&why)->verdict == VERDICT_UNKNOWN)) {
        struct explain *kept = arena_new(rq->arena, struct explain);

        *kept = why;
        rq->passed_over = kept;
    }
    request_pass_over(rq, t, explain_refusal(&why)->kind);
    return false;
}

/* Its breaker admits it, and its provider's account holds what it can cost; or the slot goes back. */
static bool start_with(struct request *rq, size_t at, unsigned key, struct attempt_leave *l, enum step *out)
{
    if (!admits(rq, at, &l->ticket)) {
        queue_leave(&l->slot, loop_now(rq->proxy->loop));
        return false;
    }
    if (!holds(rq, at, &l->hold)) {
        give_back(rq, l);
        return false;
    }
    *out = start(rq, at, key, l);
    return true;
}

static bool is_ready(struct request *rq, size_t at)
{
    struct breaker_view v;

    return !stopped(rq, at) && (!look(rq, at, &v) || v.is_available);
}

/* Nobody has a slot free: it waits for the first that takes it. */
static bool wait_from(struct request *rq, size_t at, enum step *out)
{
    const struct config_target *first = NULL;
    struct waiting_refusal why = {0};

    for (size_t i = at; i < rq->n_targets && (!first || rq->config->queue.spills); i++) {
        struct attempt_leave l = {0};
        enum queue_verdict v;

        if (!is_ready(rq, i))
            continue;
        v = waiting_begin(rq, &rq->targets[i], &l.slot);
        if (!first) { /* what the client is told of, when nobody takes it */
            first = &rq->targets[i];
            why = rq->wait_refusal;
        }
        rq->target_at = i;
        rq->keys_tried = 0;
        rq->wait_key = first_key(rq, &rq->targets[i]);
        *out = STEP_WAIT;
        if (v == QUEUE_WAITS || (v == QUEUE_GO && start_with(rq, i, rq->wait_key, &l, out)))
            return true;
    }
    if (!first)
        return false;
    rq->wait_refusal = why;
    *out = rq->n_attempts ? give_up(rq, request_attempt(rq)) : waiting_refuse(rq, first);
    return true;
}

/* At the first target from `at` on whose breaker and account admit it and whose provider has a slot, or the first that it can wait for;
 * false when there is none. */
static bool start_from(struct request *rq, size_t at, enum step *out)
{
    bool was_full = false;

    for (size_t i = at; i < rq->n_targets; i++) {
        struct attempt_leave l = {0};

        if (!waiting_try(rq, &rq->targets[i], &l.slot)) {
            was_full |= is_ready(rq, i);
            if (rq->config->queue.spills && rq->n_targets > 1)
                request_pass_over(rq, &rq->targets[i], "no slot free");
            if (was_full && !rq->config->queue.spills)
                break;
            continue;
        }
        rq->keys_tried = 0;
        if (start_with(rq, i, first_key(rq, &rq->targets[i]), &l, out))
            return true;
    }
    return was_full && wait_from(rq, at, out);
}

/* ---- nobody may be asked --------------------------------------------------------------------------------------------- */

#define TOLD           3u /* targets that the answer tells about */
#define NO_END_WAIT_MS 60000

static int64_t wait_ms(const struct breaker_view *v, struct breaker_now now)
{
    if (v->state != BREAKER_OPEN)
        return BREAKER_FULL_US / 1000;
    if (!v->until.us)
        return NO_END_WAIT_MS;
    return v->until.us > now.wall.us ? (v->until.us - now.wall.us) / 1000 + 1 : 1;
}

static void tell_of(struct buf *b, const struct config_target *t, const struct breaker_view *v)
{
    char until[WALL_TEXT_CAP] = "";

    if (v->until.us)
        (void)wall_format(v->until, until, sizeof(until));
    buf_addf(b, "%s the breaker of provider '%s', model '%s' is %s%s%s (%.80s)", b->len ? ";" : "",
             t->provider->name, t->model, breaker_state_name(v->state), until[0] ? " until " : "", until,
             v->cause);
}

/* A provider's account was in the way of one target at least, and is named in the answer. With all breakers closed it is the
 * only reason: what no waiting helps is 402 then, a rate 429. */
static enum step spent(struct request *rq, bool is_any_open, int64_t least_ms)
{
    const struct explain_row *r = explain_refusal(rq->passed_over);
    enum err_code code = r->verdict == VERDICT_UNKNOWN || is_any_open ? ERR_UNAVAILABLE
                         : explain_is_money(r) && r->retry_ms < 0     ? ERR_OVER_BUDGET
                                                                      : ERR_OVER_LIMIT;
    char text[EXPLAIN_TEXT_CAP];

    rq->refusal = rq->passed_over;
    rq->retry_after_ms = is_any_open && (r->retry_ms < 0 || least_ms < r->retry_ms) ? least_ms : r->retry_ms;
    limits_remember_mt(rq->proxy->limits, &rq->id, rq->passed_over);
    explain_text(r, text, sizeof(text));
    return request_fail(rq, code, "model '%s' has no target that may be asked: %s", rq->plan.model_name,
                        text);
}

static void tell_of_state(struct buf *b, const struct config_provider_state *s)
{
    char until[WALL_TEXT_CAP] = "";

    if (s->until_us)
        (void)wall_format((struct wall){s->until_us}, until, sizeof(until));
    buf_addf(b, "%s provider '%s' is %s by an operator%s%s", b->len ? ";" : "", s->provider,
             provider_state_name(s->state), until[0] ? " until " : "", until);
}

/* Why one target may not be asked, and for how long; false when it might be. */
static bool why_not(struct request *rq, size_t at, struct buf *text, int64_t *out_ms)
{
    const struct config_provider_state *s = stopped(rq, at);
    struct breaker_view v;

    if (s) {
        *out_ms = s->until_us ? (s->until_us - loop_wall(rq->proxy->loop).us) / 1000 + 1 : NO_END_WAIT_MS;
        if (at < TOLD)
            tell_of_state(text, s);
        return true;
    }
    if (!look(rq, at, &v) || (rq->passed_over && v.is_available))
        return false;
    *out_ms = wait_ms(&v, now_of(rq));
    if (at < TOLD)
        tell_of(text, &rq->targets[at], &v);
    return true;
}

static enum step shut_off(struct request *rq)
{
    struct buf text AUTO(buf_release) = {.max = 2048};
    int64_t least = INT64_MAX, ms = 0;

    for (size_t i = 0; i < rq->n_targets; i++)
        if (why_not(rq, i, &text, &ms))
            least = ms < least ? ms : least;
    if (rq->passed_over)
        return spent(rq, least != INT64_MAX, least);
    rq->retry_after_ms = least == INT64_MAX ? BREAKER_FULL_US / 1000 : least;
    return request_fail(rq, ERR_UNAVAILABLE, "model '%s' has no target that may be asked:%s",
                        rq->plan.model_name, text.len ? text.p : "");
}

static bool is_any_ready(struct request *rq)
{
    for (size_t i = 0; i < rq->n_targets; i++)
        if (is_ready(rq, i))
            return true;
    return false;
}

/* ---- after a failure ------------------------------------------------------------------------------------------------- */

static bool another_key_helps(enum err_code code)
{
    return code == ERR_UP_AUTH || code == ERR_UP_RATE_LIMIT;
}

/* All targets were asked. The first that may be asked again is, after a wait. */
static enum step begin_again(struct request *rq, const struct attempt *a)
{
    int64_t wait_us, asked_us = a->failure.retry_after_ms * 1000;
    uint64_t random;

    if (a->failure.is_next_only || !backoff_same_target(a->failure.code) || asked_us > LIMIT_RETRY_AFTER_US ||
        !is_any_ready(rq) || !retry_budget_withdraw(&rq->proxy->retry_budget))
        return give_up(rq, a);
    random_bytes(&random, sizeof(random));
    wait_us = backoff_us(rq->laps++, LIMIT_BACKOFF_US, LIMIT_BACKOFF_MAX_US, random);
    if (asked_us > 0)
        wait_us = asked_us + wait_us / 4;
    rq->is_backing_off = true;
    rq->timer_fired = false;
    loop_timer(rq->proxy->loop, &rq->timer, wait_us);
    return STEP_WAIT;
}

/* The same target with another key, at once or in its turn. */
static bool start_again(struct request *rq, size_t at, unsigned key, enum step *out)
{
    struct attempt_leave l = {0};
    enum queue_verdict v;

    if (waiting_try(rq, &rq->targets[at], &l.slot))
        return start_with(rq, at, key, &l, out);
    if (!is_ready(rq, at))
        return false;
    rq->wait_key = key;
    *out = STEP_WAIT;
    v = waiting_begin(rq, &rq->targets[at], &l.slot);
    return v == QUEUE_WAITS || (v == QUEUE_GO && start_with(rq, at, key, &l, out));
}

static enum step try_next(struct request *rq, const struct attempt *a)
{
    const struct config_provider *p = a->target->provider;
    unsigned key = (a->key_index + 1) % (unsigned)(p->n_api_keys + !p->n_api_keys);
    enum step step;

    if (!a->failure.is_retryable || rq->n_attempts >= rq->attempts_allowed)
        return give_up(rq, a);
    if (another_key_helps(a->failure.code) && ++rq->keys_tried < p->n_api_keys &&
        start_again(rq, rq->target_at, key, &step))
        return step;
    return start_from(rq, rq->target_at + 1, &step) ? step : begin_again(rq, a);
}

/* Who waited has a slot, or waited in vain. */
static enum step end_wait(struct request *rq, struct attempt *a)
{
    struct attempt_leave l = {0};
    enum step step;

    switch (waiting_look(rq, &l.slot)) {
    case WAITING_ON:
        return STEP_WAIT;
    case WAITING_OVER:
        return a ? give_up(rq, a) : waiting_refuse(rq, &rq->targets[rq->target_at]);
    case WAITING_GRANTED:
        break;
    }
    if (start_with(rq, rq->target_at, rq->wait_key, &l, &step))
        return step;
    if (start_from(rq, a ? rq->target_at + 1 : 0, &step))
        return step;
    return a ? give_up(rq, a) : shut_off(rq);
}

enum step stage_dispatch(struct request *rq)
{
    struct attempt *a = request_attempt(rq);
    enum step step;

    if (rq->error) /* cut from outside; what has begun to answer is ended by relay */
        return rq->is_streaming ? STEP_NEXT : STEP_DONE;
    if (rq->is_gone) {
        if (a)
            attempt_stop(a);
        return request_fail(rq, ERR_CLIENT_GONE, "the client closed the connection before the answer");
    }
    if (rq->waiting)
        return end_wait(rq, a);
    if (rq->is_backing_off) {
        if (!rq->timer_fired)
            return STEP_WAIT;
        rq->is_backing_off = rq->timer_fired = false;
        return start_from(rq, 0, &step) ? step : give_up(rq, a);
    }
    if (!a)
        return start_from(rq, 0, &step) ? step : shut_off(rq);
    if ((a->has_ended || a->is_error_body_cut) && a->state == ATTEMPT_WAITING)
        attempt_judge(a);
    switch (a->state) {
    case ATTEMPT_WAITING:
        return STEP_WAIT;
    case ATTEMPT_ANSWERING:
    case ATTEMPT_FINISHED:
        return STEP_NEXT;
    case ATTEMPT_FAILED:
        attempt_stop(a);
        attempt_close(a, STATUS_ERROR, a->failure.code, STREAM_NONE);
        return try_next(rq, a);
    }
    return STEP_DONE;
}
