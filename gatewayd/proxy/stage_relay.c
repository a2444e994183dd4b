/* SPDX-License-Identifier: Apache-2.0 */
/* Waits while an answer is passed on, and says in which one state it ended. A stream that lacks its protocol's end is
 * never shown as complete: the client gets an error event instead. */
#include "gatewayd/http/reply.h"
#include "gatewayd/proxy/attempt.h"
#include "gatewayd/proxy/pipeline.h"
#include "gatewayd/proxy/relay.h"

#define ABORT_READ_ON_US 30000000 /* longest reading on for a provider that bills anyway */
#define USAGE_WAIT_US    900000   /* for the usage of a whole answer */

static void wait_at_most(struct request *rq, int64_t us)
{
    if (!timer_is_armed(&rq->timer) && !rq->timer_fired)
        loop_timer(rq->proxy->loop, &rq->timer, us);
}

static enum stream_end judge_end(const struct attempt *a)
{
    if (a->answer.end == ANSWER_ERROR)
        return STREAM_ERROR;
    if (a->mode == MODE_SSE && a->answer.end == ANSWER_DONE)
        return STREAM_COMPLETE;
    if (a->is_clean_end && (a->mode == MODE_RAW || a->answer.finish[0]))
        return STREAM_COMPLETE;
    if (!a->is_clean_end && (a->failure.code == ERR_UP_IDLE || a->failure.code == ERR_UP_TIMEOUT))
        return STREAM_IDLE_TIMEOUT;
    return STREAM_UPSTREAM_CUT;
}

static enum err_code error_of(const struct attempt *a, enum stream_end end)
{
    switch (end) {
    case STREAM_COMPLETE:
    case STREAM_NONE:
    case STREAM_END_COUNT:
        return ERR_OK;
    case STREAM_ERROR:
        return a->answer.error ? a->answer.error : ERR_UP_SERVER;
    case STREAM_IDLE_TIMEOUT:
        return ERR_UP_IDLE;
    case STREAM_CLIENT_ABORT:
        return ERR_CLIENT_GONE;
    case STREAM_BUDGET_CUT:
        return ERR_OVER_BUDGET;
    case STREAM_UPSTREAM_CUT:
        break;
    }
    return ERR_UP_CUT;
}

/* An error event of our own, unless the provider's was passed on. */
static void add_error_event(struct request *rq, struct attempt *a)
{
    struct buf body AUTO(buf_release) = {.max = 4096}, member AUTO(buf_release) = {.max = 2048};
    const struct explain_row *why = rq->refusal ? explain_refusal(rq->refusal) : NULL;
    enum dialect d = operation_row(rq->op)->dialect;

    if (a->mode != MODE_SSE || a->tail.len)
        return;
    if (a->is_mid_event)
        buf_addz(&a->tail, "\n\n");
    if (why) {
        buf_addz(&member, "\"limit\":");
        explain_json(why, &member);
    }
    reply_error_body_with(&body, d, rq->error, span_of(err_text(&rq->detail)), span_of(rq->id_text),
                          buf_span(&member));
    if (d == DIALECT_ANTHROPIC || rq->op == OP_RESPONSES)
        buf_addz(&a->tail, "event: error\n");
    buf_addz(&a->tail, "data: ");
    buf_add(&a->tail, buf_span(&body));
    buf_addz(&a->tail, "\n\n");
}

static enum step finish(struct request *rq, struct attempt *a, enum stream_end end)
{
    attempt_stop(a);
    a->state = ATTEMPT_FINISHED;
    rq->end = end;
    if (end == STREAM_COMPLETE)
        return STEP_NEXT;
    if (!rq->error)
        (void)request_fail(rq, error_of(a, end), "provider '%s': %s", a->target->provider->name,
                           end == STREAM_CLIENT_ABORT ? "the client closed the connection"
                           : a->answer.error_text[0]  ? a->answer.error_text
                           : a->detail[0]             ? a->detail
                                                      : "the stream ended without its end marker");
    if (end != STREAM_CLIENT_ABORT)
        add_error_event(rq, a);
    return STEP_NEXT;
}

/* How long a provider is listened to although the client is gone. One that said that the answer is whole has only its usage to
 * tell: leaving then saves nothing, and would be billed by an estimate that knows of no hidden reasoning. */
static int64_t reads_on_us(const struct request *rq, const struct attempt *a)
{
    if (a->has_ended || rq->is_ended || rq->timer_fired)
        return 0;
    if (a->target->provider->drain_on_abort)
        return ABORT_READ_ON_US;
    if (!a->answer.finish[0] || a->answer.usage.source == USAGE_REPORTED || a->answer.end != ANSWER_OPEN)
        return 0;
    return USAGE_WAIT_US;
}

enum step stage_relay(struct request *rq)
{
    struct attempt *a = request_attempt(rq);

    if (!rq->is_streaming)
        return STEP_NEXT;
    if (rq->is_gone) {
        if (reads_on_us(rq, a)) {
            attempt_unpause(a);
            wait_at_most(rq, reads_on_us(rq, a));
            return STEP_WAIT;
        }
        return finish(rq, a, STREAM_CLIENT_ABORT);
    }
    if (rq->error) /* cut from outside */
        return finish(rq, a, rq->error == ERR_OVER_BUDGET ? STREAM_BUDGET_CUT : STREAM_ERROR);
    if (a->has_ended)
        relay_flush(a);
    else if (!a->is_unfit && !(a->tail.len && rq->timer_fired)) {
        if (a->tail.len)
            wait_at_most(rq, LIMIT_TAIL_WAIT_US);
        return STEP_WAIT;
    }
    return finish(rq, a, judge_end(a));
}
