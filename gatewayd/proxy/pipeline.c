/* SPDX-License-Identifier: Apache-2.0 */
/* Worker thread only. The invariant: the last stage, settle, runs exactly once for every request, whatever happened
 * to it; on_end arriving early makes it run at once. */
#include "gatewayd/proxy/pipeline.h"

#include <stdarg.h>
#include <stdio.h>

#include "gatewayd/proxy/attempt.h"
#include "gatewayd/proxy/shed.h"

static const stage_fn STAGES[] = {
#define STAGE(name, what) stage_##name,
#include "gatewayd/proxy/stages.def"
#undef STAGE
};
#define LAST_STAGE (ARRAY_LEN(STAGES) - 1)

static void run(struct request *rq)
{
    if (rq->is_running)
        return;
    rq->is_running = true;
    while (rq->stage <= LAST_STAGE) {
        enum step step = STAGES[rq->stage](rq);

        if (step == STEP_WAIT)
            break;
        rq->stage = step == STEP_DONE && rq->stage < LAST_STAGE ? (unsigned)LAST_STAGE : rq->stage + 1;
    }
    rq->is_running = false;
}

static void on_resume(struct loop_task *t)
{
    run(CONTAINER_OF(t, struct request, resume_task));
}

void pipeline_resume(struct request *rq)
{
    loop_defer(rq->proxy->loop, &rq->resume_task);
}

static void on_timer(struct timer *t)
{
    struct request *rq = CONTAINER_OF(t, struct request, timer);

    rq->timer_fired = true;
    pipeline_resume(rq);
}

enum step request_fail(struct request *rq, enum err_code code, const char *fmt, ...)
{
    va_list ap;

    rq->error = code;
    rq->detail.code = code;
    va_start(ap, fmt);
    (void)vsnprintf(rq->detail.text, sizeof(rq->detail.text), fmt, ap);
    va_end(ap);
    return STEP_DONE;
}

void request_pass_over(struct request *rq, const struct config_target *t, const char *why)
{
    size_t n = strlen(rq->passed);
    char text[sizeof(rq->passed)];

    (void)snprintf(text, sizeof(text), "%s/%s (%s)", t->provider->name, t->model, why);
    if (!strstr(rq->passed, text) && n + strlen(text) + 3 < sizeof(rq->passed))
        (void)snprintf(rq->passed + n, sizeof(rq->passed) - n, "%s%s", n ? ", " : "", text);
}

bool pipeline_match(struct span method, struct span path, enum operation *op, struct span *model,
                    enum err_code *why)
{
    static const struct span MODELS = {"/v1/models/", sizeof("/v1/models/") - 1};

    *model = (struct span){NULL, 0};
    *why = ERR_NOT_FOUND;
    for (unsigned i = 0; i < OP_COUNT; i++) {
        const struct operation_row *row = operation_row((enum operation)i);
        bool is_get = row->body == BODY_NONE;
        bool hit =
            i == OP_MODEL ? span_starts(path, MODELS) && path.len > MODELS.len : span_is(path, row->path);

        if (!hit)
            continue;
        *why = ERR_BAD_METHOD;
        if (is_get ? !span_is(method, "GET") && !span_is(method, "HEAD") : !span_is(method, "POST"))
            continue;
        *op = (enum operation)i;
        if (i == OP_MODEL)
            *model = span_make(path.p + MODELS.len, path.len - MODELS.len);
        return true;
    }
    return false;
}

/* ---- the exchange's callbacks -------------------------------------------------------------------------------- */

static void on_request(struct exchange *ex)
{
    struct request *rq = exchange_user(ex);

    rq->has_body = true;
    run(rq);
}

static void on_drain(struct exchange *ex)
{
    struct attempt *a = request_attempt(exchange_user(ex));

    if (a)
        attempt_unpause(a);
}

static void on_gone(struct exchange *ex)
{
    struct request *rq = exchange_user(ex);

    rq->is_gone = true;
    if (!rq->is_settled)
        pipeline_resume(rq);
}

static void on_end(struct exchange *ex)
{
    struct request *rq = exchange_user(ex);

    rq->is_gone = true;
    rq->is_ended = true;
    if (!rq->is_settled)
        run(rq);
    loop_defer_cancel(rq->proxy->loop, &rq->resume_task);
    loop_timer_cancel(rq->proxy->loop, &rq->timer);
    for (unsigned i = 0; i < rq->n_attempts; i++)
        attempt_release(rq->attempts[i]);
    buf_release(&rq->reply);
    shed_leave(rq);
    *rq->link = rq->next;
    if (rq->next)
        rq->next->link = rq->link;
    config_unref(rq->config);
}

static const struct exchange_ops OPS = {
    .on_request = on_request, .on_drain = on_drain, .on_gone = on_gone, .on_end = on_end};

void pipeline_begin(struct proxy *p, struct exchange *ex, enum operation op, struct span model)
{
    struct request *rq;

    if (!shed_enter(p, ex, op))
        return;
    rq = arena_new(exchange_arena(ex), struct request);
    *rq = (struct request){.proxy = p,
                           .ex = ex,
                           .arena = exchange_arena(ex),
                           .config = config_ref(p->config),
                           .resume_task.fn = on_resume,
                           .timer.fn = on_timer,
                           .arrived = exchange_started(ex),
                           .arrived_wall = wall_now(), /* what the loop read is as old as its turn */
                           .op = op,
                           .model_from_path = model,
                           .first_content_us = -1,
                           .retry_after_ms = -1,
                           .next = p->live,
                           .link = &p->live};
    if (rq->next)
        rq->next->link = &rq->next;
    p->live = rq;
    exchange_adopt(ex, &OPS, rq);
    run(rq);
}

void pipeline_cut_all(struct proxy *p)
{
    for (struct request *rq = p->live; rq; rq = rq->next) {
        if (rq->is_settled || rq->error)
            continue;
        (void)request_fail(rq, ERR_DRAINING, "the gateway stopped before the answer was complete");
        pipeline_resume(rq);
    }
}
