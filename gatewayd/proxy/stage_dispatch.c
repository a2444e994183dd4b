/* SPDX-License-Identifier: Apache-2.0 */
/* The attempt loop. Trying again is only possible here, before the first byte has gone to the client:
 *
 *   start ──► waiting ──► finished / answering ──► relay
 *     ▲          └──► failed ──► another key, next target, or (all asked) wait and begin again ──┐
 *     └───────────────────────────────────────────────────────────────────────────────────────┘
 * Another key and another target cost nothing; asking the same target again needs a failure that allows it, a
 * withdrawal from the retry budget, and a wait (Retry-After, else jittered backoff). */
#include "gatewayd/proxy/attempt.h"
#include "gatewayd/proxy/pipeline.h"

static unsigned first_key(struct request *rq, const struct config_target *t)
{
    return t->provider->n_api_keys > 1 ? rq->proxy->next_key++ % (unsigned)t->provider->n_api_keys : 0;
}

/* Of a first attempt RESERVE has told; a further one is only made when that can be put on record. */
static enum step start(struct request *rq, unsigned key)
{
    if (rq->n_attempts && !journal_has_room(rq->proxy->journal)) {
        rq->retry_after_ms = 1000;
        return request_fail(rq, ERR_JOURNAL_FULL,
                            "the journal is full, so another attempt cannot be put on record");
    }
    attempt_start(rq, &rq->targets[rq->target_at], key);
    return STEP_WAIT;
}

static bool another_key_helps(enum err_code code)
{
    return code == ERR_UP_AUTH || code == ERR_UP_RATE_LIMIT;
}

static enum step give_up(struct request *rq, const struct attempt *a)
{
    rq->retry_after_ms = a->failure.retry_after_ms;
    return request_fail(rq, a->failure.code, "provider '%s': %s", a->target->provider->name,
                        a->detail[0] ? a->detail : err_row(a->failure.code)->text);
}

/* All targets were asked. The first that may be asked again is, after a wait. */
static enum step begin_again(struct request *rq, const struct attempt *a)
{
    int64_t wait_us, asked_us = a->failure.retry_after_ms * 1000;
    uint64_t random;

    if (a->failure.is_next_only || !backoff_same_target(a->failure.code) || asked_us > LIMIT_RETRY_AFTER_US ||
        !retry_budget_withdraw(&rq->proxy->retry_budget))
        return give_up(rq, a);
    random_bytes(&random, sizeof(random));
    wait_us = backoff_us(rq->laps++, LIMIT_BACKOFF_US, LIMIT_BACKOFF_MAX_US, random);
    if (asked_us > 0)
        wait_us = asked_us + wait_us / 4;
    rq->target_at = 0;
    rq->keys_tried = 0;
    rq->is_backing_off = true;
    rq->timer_fired = false;
    loop_timer(rq->proxy->loop, &rq->timer, wait_us);
    return STEP_WAIT;
}

static enum step try_next(struct request *rq, const struct attempt *a)
{
    const struct config_provider *p = a->target->provider;

    if (!a->failure.is_retryable || rq->n_attempts >= rq->attempts_allowed)
        return give_up(rq, a);
    if (another_key_helps(a->failure.code) && ++rq->keys_tried < p->n_api_keys)
        return start(rq, (a->key_index + 1) % (unsigned)p->n_api_keys);
    if (rq->target_at + 1 < rq->n_targets) {
        rq->target_at++;
        rq->keys_tried = 0;
        return start(rq, first_key(rq, &rq->targets[rq->target_at]));
    }
    return begin_again(rq, a);
}

enum step stage_dispatch(struct request *rq)
{
    struct attempt *a = request_attempt(rq);

    if (rq->error) /* cut from outside */
        return STEP_DONE;
    if (rq->is_gone) {
        if (a)
            attempt_stop(a);
        return request_fail(rq, ERR_CLIENT_GONE, "the client closed the connection before the answer");
    }
    if (rq->is_backing_off) {
        if (!rq->timer_fired)
            return STEP_WAIT;
        rq->is_backing_off = rq->timer_fired = false;
        return start(rq, first_key(rq, &rq->targets[0]));
    }
    if (!a)
        return start(rq, first_key(rq, &rq->targets[0]));
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
