/* SPDX-License-Identifier: Apache-2.0 */
/* Runs inside the client's callbacks, so it only writes to the exchange and resumes the request.
 *
 *   WAITING ──first event with data / body too large──► ANSWERING ──end──► (stage_relay decides how it ended)
 *      └────── error event, unreadable ──► FAILED (dispatch may fail over) */
#include "gatewayd/proxy/relay.h"

#include <stdio.h>

#include "gatewayd/proxy/attempt.h"
#include "gatewayd/proxy/pipeline.h"
#include "gatewayd/proxy/statement.h"

#define RAW_TAIL_BYTES ((size_t)8 << 10) /* of a large buffered answer: its usage stands near the end */
#define HELD_BYTES     ((size_t)64 << 10)
#define TAIL_BYTES     (2 * LIMIT_SSE_EVENT) /* the closing event may repeat the whole answer */

static void set_count(struct request *rq, const char *name, uint64_t v, const char *unit)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%llu%s", (unsigned long long)v, unit);
    exchange_set_header(rq->ex, name, span_of(text));
}

/* What admit saw after it had taken its part. */
static void set_rate_headers(struct request *rq)
{
    static const char *const NAMES[2][3] = {
        {"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"},
        {"x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"}};

    for (unsigned i = 0; i < 2; i++) {
        const struct rate_view *v = &rq->rates[i];

        if (!v->limit)
            continue;
        set_count(rq, NAMES[i][0], v->limit, "");
        set_count(rq, NAMES[i][1], v->used < v->limit ? v->limit - v->used : 0, "");
        set_count(rq, NAMES[i][2], (uint64_t)((v->reset_us + 999999) / 1000000), "s");
    }
}

void relay_set_headers(struct request *rq)
{
    const struct attempt *a = request_attempt(rq);
    char digit = (char)('0' + rq->n_attempts);

    _Static_assert(LIMIT_ATTEMPTS < 10, "one digit");
    exchange_set_header(rq->ex, "x-request-id", span_of(rq->id_text));
    exchange_set_header(rq->ex, "x-trace-id", span_of(rq->trace_text));
    exchange_set_header(rq->ex, "traceparent", span_of(rq->parent));
    set_rate_headers(rq);
    if (rq->has_queued)
        set_count(rq, "x-gatewayd-queue-ms", (uint64_t)(rq->queued_us / 1000), "");
    if (!a)
        return;
    exchange_set_header(rq->ex, "x-gatewayd-provider", span_of(a->target->provider->name));
    exchange_set_header(rq->ex, "x-gatewayd-model", span_of(a->target->model));
    exchange_set_header(rq->ex, "x-gatewayd-cache", SPAN_LIT("off"));
    exchange_set_header(rq->ex, "x-gatewayd-attempts", span_make(&digit, 1));
}

/* Nothing more of it is taken: what the client has is the beginning of an answer, and its end says so. */
static void break_off(struct attempt *a, enum err_code code)
{
    a->answer.end = ANSWER_ERROR;
    a->answer.error = code;
    a->is_unfit = true;
    pipeline_resume(a->rq);
}

static void pass_on(struct attempt *a, struct span bytes)
{
    enum err_code e = exchange_stream_write(a->rq->ex, bytes);

    if (e && e != ERR_CLIENT_GONE)
        break_off(a, e == ERR_NO_MEMORY ? e : ERR_UP_TOO_LARGE);
}

static void commit(struct attempt *a)
{
    struct request *rq = a->rq;

    a->state = ATTEMPT_ANSWERING;
    rq->is_streaming = true;
    relay_set_headers(rq);
    if (a->content_type[0])
        exchange_set_header(rq->ex, "content-type", span_of(a->content_type));
    if (a->mode == MODE_SSE) {
        exchange_set_header(rq->ex, "cache-control", SPAN_LIT("no-cache"));
        exchange_set_header(rq->ex, "x-accel-buffering", SPAN_LIT("no"));
    }
    if (exchange_accepts_trailers(rq->ex))
        exchange_set_header(rq->ex, "trailer", SPAN_LIT("x-gatewayd-cost-usd"));
    exchange_stream_begin(rq->ex, a->http_status);
    if (rq->plan.is_stream)
        facts_stream_opened(rq->proxy->facts);
    pass_on(a, buf_span(&a->held));
    buf_release(&a->held);
    attempt_drop_body(a); /* no failing over from here on */
    pipeline_resume(rq);
}

static void note_content(struct attempt *a)
{
    struct request *rq = a->rq;
    struct mono now = loop_now(rq->proxy->loop);

    if (a->fact.ttft_us < 0) {
        int64_t us = mono_diff_us(now, a->started);

        a->fact.ttft_us = us > 0 ? us : 0;
        rq->first_content_us = mono_diff_us(now, rq->arrived);
    }
}

static void take_event(struct attempt *a, const struct sse_event *ev)
{
    struct event_view view = {0};
    bool is_plain;

    if (!ev->is_partial && (ev->has_data || ev->is_error_field))
        view = a->ops->decode_event(&a->answer, a->rq->op, ev->type, ev->data);
    if (ev->is_error_field && a->answer.end != ANSWER_ERROR) {
        a->answer.end = ANSWER_ERROR;
        a->answer.error = ERR_UP_SERVER;
    }
    if (a->answer.end == ANSWER_ERROR && a->state == ATTEMPT_WAITING) {
        attempt_fail(a, a->answer.error ? a->answer.error : ERR_UP_SERVER, a->answer.error_text);
        return;
    }
    if (view.has_content) {
        note_content(a);
        statement_progress(a->rq);
    }
    if (view.is_usage_only && a->hides_usage)
        return;
    is_plain = !view.is_terminal && a->answer.end != ANSWER_ERROR && !a->tail.len;
    if (a->state == ATTEMPT_WAITING && !ev->has_data && !ev->is_partial) {
        if (a->held.len + ev->raw.len <= HELD_BYTES)
            buf_add(&a->held, ev->raw);
        return;
    }
    if (a->state == ATTEMPT_WAITING)
        commit(a);
    a->is_mid_event = !ev->is_end;
    if (is_plain) {
        pass_on(a, ev->raw);
        return;
    }
    a->tail.max = TAIL_BYTES;
    if (buf_append(&a->tail, ev->raw.p, ev->raw.len) != ERR_OK)
        a->is_unfit = true; /* it ended long ago, yet goes on: enough of it */
    pipeline_resume(a->rq);
}

static void take_events(struct attempt *a)
{
    struct sse_event ev;

    while (a->state != ATTEMPT_FAILED && !a->is_unfit) {
        switch (sse_next(&a->sse, &ev)) {
        case SSE_EVENT:
            take_event(a, &ev);
            break;
        case SSE_MORE:
            return;
        case SSE_TOO_LARGE:
        case SSE_OUT_OF_MEMORY:
            if (a->state == ATTEMPT_WAITING)
                attempt_fail(a, ERR_UP_TOO_LARGE, "an event exceeds the hard limit");
            else
                break_off(a, ERR_UP_TOO_LARGE);
            return;
        }
    }
}

static void keep_tail(struct attempt *a, struct span bytes)
{
    if (bytes.len > RAW_TAIL_BYTES)
        bytes = span_make(bytes.p + bytes.len - RAW_TAIL_BYTES, RAW_TAIL_BYTES);
    if (a->body.len + bytes.len > 2 * RAW_TAIL_BYTES)
        buf_consume(&a->body, a->body.len + bytes.len - RAW_TAIL_BYTES);
    buf_add(&a->body, bytes);
}

static void take_whole(struct attempt *a, struct span bytes)
{
    struct buf so_far;

    if (buf_append(&a->body, bytes.p, bytes.len) == ERR_OK)
        return;
    a->mode = MODE_RAW;
    so_far = a->body;
    a->body = (struct buf){.max = 4 * RAW_TAIL_BYTES};
    commit(a);
    note_content(a);
    pass_on(a, buf_span(&so_far));
    pass_on(a, bytes);
    keep_tail(a, buf_span(&so_far));
    keep_tail(a, bytes);
    buf_release(&so_far);
}

bool relay_take(struct attempt *a, struct span bytes)
{
    struct request *rq = a->rq;

    if (a->is_unfit)
        return true;
    if (a->state == ATTEMPT_ANSWERING && !rq->is_gone && exchange_queued(rq->ex) > LIMIT_STREAM_HIGH) {
        a->is_paused = true;
        return false;
    }
    switch (a->mode) {
    case MODE_SSE:
        if (sse_feed(&a->sse, bytes) == ERR_OK)
            take_events(a);
        else
            break_off(a, ERR_INTERNAL);
        return true;
    case MODE_BUFFER:
        take_whole(a, bytes);
        return true;
    case MODE_RAW:
        pass_on(a, bytes);
        keep_tail(a, bytes);
        return true;
    case MODE_ERROR:
        return true;
    }
    return true;
}

/* An event without its closing blank line: passed on as it is, and read as if it were closed. */
static void flush_sse(struct attempt *a)
{
    struct buf closed AUTO(buf_release) = {.max = LIMIT_SSE_EVENT_HARD + 2};
    struct sse last;
    struct sse_event ev;
    struct span rest;

    sse_finish(&a->sse);
    take_events(a);
    rest = sse_rest(&a->sse);
    if (!rest.len || !a->is_clean_end || a->is_unfit || a->state == ATTEMPT_FAILED)
        return;
    buf_add(&closed, rest);
    buf_addz(&closed, "\n\n");
    sse_init(&last, LIMIT_SSE_EVENT, LIMIT_SSE_EVENT_HARD);
    if (sse_feed(&last, buf_span(&closed)) == ERR_OK && sse_next(&last, &ev) == SSE_EVENT) {
        ev.raw = rest;
        take_event(a, &ev);
    }
    sse_release(&last);
}

/* The usage of a large JSON answer is a top-level member near its end: read as an object that begins there. */
static void flush_raw(struct attempt *a)
{
    static const char MARK[] = "\"usage\"";
    struct buf object AUTO(buf_release) = {.max = 4 * RAW_TAIL_BYTES};
    const char *at = NULL, *from = a->body.p, *end = a->body.p + a->body.len;
    struct answer found = {0};

    while (from && (from = memmem(from, (size_t)(end - from), MARK, sizeof(MARK) - 1)))
        at = from++;
    if (!at || !a->is_clean_end)
        return;
    buf_addc(&object, '{');
    buf_add(&object, span_make(at, (size_t)(end - at)));
    a->ops->decode_body(&found, a->rq->op, span_of(a->content_type), buf_span(&object));
    if (found.end == ANSWER_DONE && found.usage.source == USAGE_REPORTED)
        a->answer.usage = found.usage;
}

void relay_flush(struct attempt *a)
{
    if (a->mode == MODE_SSE)
        flush_sse(a);
    else if (a->mode == MODE_RAW)
        flush_raw(a);
}
