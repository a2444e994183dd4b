/* SPDX-License-Identifier: Apache-2.0 */
/* The end of every request, exactly once: the last attempt is closed, one fact is made, it goes into the journal and
 * into the worker's cells, and only then does the client get the end of its answer. */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>

#include "gatewayd/http/reply.h"
#include "gatewayd/proxy/attempt.h"
#include "gatewayd/proxy/pipeline.h"
#include "gatewayd/proxy/relay.h"
#include "gatewayd/proxy/statement.h"
#include "gatewayd/proxy/waiting.h"
#include "libshared/base/crash.h"
#include "libshared/base/log.h"

static label endpoint_labels[OP_COUNT];
static label get_label, post_label, head_label, other_label;

static void make_labels(void)
{
    for (unsigned i = 0; i < OP_COUNT; i++)
        endpoint_labels[i] = intern_z(operation_row((enum operation)i)->path);
    get_label = intern_z("GET");
    head_label = intern_z("HEAD");
    post_label = intern_z("POST");
    other_label = intern_z("other");
}

static enum fact_status status_of(const struct request *rq)
{
    if (!rq->error)
        return STATUS_SUCCESS;
    if (rq->error == ERR_CLIENT_GONE)
        return STATUS_CANCELLED;
    return rq->n_attempts ? STATUS_ERROR : STATUS_REJECTED;
}

static void close_last(struct request *rq, enum fact_status status)
{
    struct attempt *a = request_attempt(rq);

    if (!a)
        return;
    attempt_stop(a);
    attempt_close(a, status, rq->error, rq->end);
}

static label requested_label(const struct request *rq)
{
    char name[256];

    if (rq->alias)
        return rq->alias->label;
    if (!rq->n_targets || rq->targets[0].model_label == other_label)
        return rq->plan.model.p ? other_label : 0;
    (void)snprintf(name, sizeof(name), "%s/%s", label_text(rq->targets[0].provider->label),
                   label_text(rq->targets[0].model_label));
    return intern_z(name);
}

static uint16_t http_status_of(const struct request *rq)
{
    const struct attempt *a = request_attempt(rq);

    if (rq->error == ERR_CLIENT_GONE || (rq->is_gone && !rq->is_streaming))
        return 499;
    if (rq->is_streaming || !rq->error)
        return a ? (uint16_t)a->http_status : 200;
    return a && a->passes_error ? (uint16_t)a->http_status : (uint16_t)err_row(rq->error)->status;
}

/* Body bytes of the answer, what settle is about to send included. */
static uint64_t bytes_out_of(const struct request *rq)
{
    const struct attempt *a = request_attempt(rq);

    if (rq->is_gone || rq->is_streaming)
        return exchange_bytes_out(rq->ex) + (rq->is_streaming && !rq->is_gone ? a->tail.len : 0);
    if (a && (!rq->error || a->passes_error))
        return a->body.len;
    return rq->reply.len;
}

static void make_fact(const struct request *rq, struct fact_request *f, struct fact_attempt *attempts)
{
    const struct attempt *last = request_attempt(rq);
    struct span method = exchange_method(rq->ex);
    int64_t waited = rq->queued_us;
    size_t n;

    *f = (struct fact_request){.id = rq->id,
                               .trace = rq->trace,
                               .arrived = rq->arrived_wall,
                               .tenant = rq->key ? rq->key->tenant->label : 0,
                               .key = rq->key ? rq->key->label : 0,
                               .provider = last ? last->fact.provider : 0,
                               .model = last ? last->fact.model : 0,
                               .requested = requested_label(rq),
                               .method = span_is(method, "POST")  ? post_label
                                         : span_is(method, "GET") ? get_label
                                                                  : head_label,
                               .endpoint = endpoint_labels[rq->op],
                               .op = rq->op,
                               .status = status_of(rq),
                               .error = rq->error,
                               .http_status = http_status_of(rq),
                               .attempts = (uint8_t)rq->n_attempts,
                               .is_stream = rq->plan.is_stream,
                               .end = rq->end,
                               .ttft_us = rq->first_content_us,
                               .queue_us = rq->queued_us,
                               .priority = (uint8_t)(rq->has_queued ? rq->priority : 0),
                               .bytes_in = exchange_bytes_in(rq->ex),
                               .bytes_out = bytes_out_of(rq),
                               .is_priced = true,
                               .reservation = rq->reservation};
    memcpy(f->user, rq->user, sizeof(f->user));
    for (unsigned i = 0; i < rq->n_attempts; i++) {
        attempts[i] = rq->attempts[i]->fact;
        usage_add(&f->usage, &attempts[i].usage);
        f->cost_nanousd += attempts[i].cost_nanousd;
        f->is_priced &= attempts[i].is_priced;
        waited += attempts[i].duration_us;
    }
    f->duration_us = mono_diff_us(mono_now(), rq->arrived);
    f->overhead_us = f->duration_us > waited ? f->duration_us - waited : 0;
    n = rq->error ? span_copy(f->detail, sizeof(f->detail), span_of(err_text(&rq->detail))) : 0;
    if (rq->passed[0] && (!rq->error || rq->n_attempts))
        (void)snprintf(f->detail + n, sizeof(f->detail) - n, "%spassed over: %s", n ? "; " : "", rq->passed);
}

/* ---- what the client gets ----------------------------------------------------------------------------------------- */

/* Nano-USD as decimal dollars, exact. */
static struct span cost_text(char dst[32], int64_t nanousd)
{
    uint64_t whole = (uint64_t)nanousd / 1000000000, fraction = (uint64_t)nanousd % 1000000000;
    char *p = dst + 32;

    assert(nanousd >= 0);
    for (int i = 0; i < 9; i++, fraction /= 10)
        *--p = (char)('0' + fraction % 10);
    *--p = '.';
    do
        *--p = (char)('0' + whole % 10);
    while (whole /= 10);
    return span_make(p, (size_t)(dst + 32 - p));
}

static void end_stream(struct request *rq, int64_t cost_nanousd)
{
    struct attempt *a = request_attempt(rq);
    char cost[32];

    if (a->mode == MODE_RAW && rq->end != STREAM_COMPLETE) {
        exchange_cut(rq->ex); /* a body cut short must not end cleanly */
        return;
    }
    if (exchange_accepts_trailers(rq->ex))
        exchange_stream_trailer(rq->ex, "x-gatewayd-cost-usd", cost_text(cost, cost_nanousd));
    if (exchange_stream_write(rq->ex, buf_span(&a->tail)) == ERR_OK)
        exchange_stream_end(rq->ex);
    else
        exchange_cut(rq->ex);
}

static void reply_error(struct request *rq)
{
    struct attempt *a = request_attempt(rq);
    struct buf body AUTO(buf_release) = {.max = 8192}, member AUTO(buf_release) = {.max = 2048};
    const struct explain_row *why = rq->refusal ? explain_refusal(rq->refusal) : NULL;
    char seconds[24];

    if (rq->retry_after_ms < 0 && (rq->error == ERR_DRAINING || rq->error == ERR_UNAVAILABLE))
        rq->retry_after_ms = 1000;
    if (rq->retry_after_ms >= 0) {
        (void)snprintf(seconds, sizeof(seconds), "%lld", (long long)((rq->retry_after_ms + 999) / 1000));
        exchange_set_header(rq->ex, "retry-after", span_of(seconds));
    }
    if (a && a->passes_error) {
        exchange_set_header(rq->ex, "content-type", span_of(a->content_type));
        exchange_reply_adopt(rq->ex, a->http_status, &a->body);
        return;
    }
    exchange_set_header(rq->ex, "content-type", SPAN_LIT("application/json"));
    if (why) {
        buf_addz(&member, "\"limit\":");
        explain_json(why, &member);
    }
    reply_error_body_with(&body, operation_row(rq->op)->dialect, rq->error, span_of(err_text(&rq->detail)),
                          span_of(rq->id_text), buf_span(&member));
    exchange_reply_adopt(rq->ex, err_row(rq->error)->status, &body);
}

static void deliver(struct request *rq, int64_t cost_nanousd)
{
    struct attempt *a = request_attempt(rq);
    char cost[32];

    if (rq->is_gone) {
        exchange_cut(rq->ex);
        return;
    }
    if (rq->is_streaming) {
        end_stream(rq, cost_nanousd);
        return;
    }
    relay_set_headers(rq);
    if (rq->n_attempts)
        exchange_set_header(rq->ex, "x-gatewayd-cost-usd", cost_text(cost, cost_nanousd));
    if (rq->error) {
        reply_error(rq);
    } else if (a) {
        if (a->content_type[0])
            exchange_set_header(rq->ex, "content-type", span_of(a->content_type));
        exchange_reply_adopt(rq->ex, a->http_status, &a->body);
    } else {
        exchange_set_header(rq->ex, "content-type", SPAN_LIT("application/json"));
        exchange_reply_adopt(rq->ex, 200, &rq->reply);
    }
}

/* The provider's own words reach the client when they are whole and about its request, not about our credentials. Some
 * refuse a request with an error object under status 200; that passes as it came. */
static void choose_error_answer(struct request *rq)
{
    struct attempt *a = request_attempt(rq);
    bool is_error =
        a && (a->mode == MODE_ERROR || (a->mode == MODE_BUFFER && a->failure.code == ERR_UP_REFUSED));

    if (is_error && rq->error && rq->error == a->failure.code && a->failure.code != ERR_UP_AUTH &&
        a->body.len && a->is_clean_end && !a->is_error_body_cut)
        a->passes_error = true;
}

enum step stage_settle(struct request *rq)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct fact_attempt attempts[LIMIT_ATTEMPTS];
    struct fact_request fact;

    if (rq->is_settled)
        return STEP_NEXT;
    rq->is_settled = true;
    loop_timer_cancel(rq->proxy->loop, &rq->timer);
    (void)pthread_once(&once, make_labels);
    waiting_end(rq);
    choose_error_answer(rq);
    close_last(rq, status_of(rq));
    make_fact(rq, &fact, attempts);
    /* A request that was refused before it had a key spent nothing: a full journal must not keep it from its answer. */
    if (journal_settle(rq->proxy->journal, &fact, attempts) != ERR_OK && rq->n_attempts)
        log_error("journal: the end of request '%s' could not be recorded", rq->id_text);
    if (rq->n_attempts) /* behind the record, so that the store has what was settled here before we believe it has */
        limits_settle(&rq->hold, fact.cost_nanousd, fact.usage.input + fact.usage.output, rq->arrived_wall,
                      loop_now(rq->proxy->loop));
    else
        limits_give_back(&rq->hold);
    if (rq->is_streaming && rq->plan.is_stream)
        facts_stream_closed(rq->proxy->facts);
    facts_add(rq->proxy->facts, &fact, attempts);
    deliver(rq, fact.cost_nanousd);
    CRASH_POINT(settle_after_reply);
    return STEP_NEXT;
}
