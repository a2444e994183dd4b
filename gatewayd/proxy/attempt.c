/* SPDX-License-Identifier: Apache-2.0 */
/* Worker thread only. The client's callbacks run inside a transfer: they store, pass bytes on and resume the request, and
 * never start or cancel a transfer. */
#include "gatewayd/proxy/attempt.h"

#include <stdio.h>

#include "gatewayd/proxy/body.h"
#include "gatewayd/proxy/pipeline.h"
#include "gatewayd/proxy/relay.h"
#include "gatewayd/proxy/shed.h"
#include "gatewayd/proxy/statement.h"
#include "gatewayd/resilience/load.h"
#include "libshared/base/log.h"

#define HEADER_LINES_MAX ((size_t)16 << 10)

/* Client headers that are passed on; all others are dropped. */
static const char *const FORWARDED[] = {"accept", "openai-beta", "anthropic-beta", "anthropic-version"};

static void add_line(struct buf *lines, const char *name, struct span value)
{
    buf_addz(lines, name);
    buf_addz(lines, ": ");
    buf_add(lines, value);
    buf_addc(lines, '\0');
}

static enum err_code build_headers(struct attempt *a)
{
    struct request *rq = a->rq;
    struct span type = exchange_header(rq->ex, "content-type");
    const struct config_provider *p = a->target->provider;

    buf_init(&a->headers, HEADER_LINES_MAX);
    add_line(&a->headers, "content-type",
             operation_row(rq->op)->body == BODY_MULTIPART ? type : SPAN_LIT("application/json"));
    for (size_t i = 0; i < ARRAY_LEN(FORWARDED); i++) {
        struct span v = exchange_header(rq->ex, FORWARDED[i]);

        if (v.p)
            add_line(&a->headers, FORWARDED[i], v);
    }
    add_line(&a->headers, "user-agent", SPAN_LIT("gatewayd/" GATEWAYD_VERSION));
    add_line(&a->headers, "traceparent", span_of(rq->parent));
    add_line(&a->headers, "x-request-id", span_of(rq->id_text));
    return a->ops->headers(&a->headers, a->key_index < p->n_api_keys ? &p->api_keys[a->key_index] : NULL);
}

static struct span build_body(struct attempt *a)
{
    struct request *rq = a->rq;
    struct span body = exchange_body(rq->ex);
    bool ask_usage = rq->plan.is_stream && a->ops->wants_include_usage(rq->op);

    statement_put_max(rq, a->target);
    a->hides_usage = ask_usage && !rq->plan.asked_usage;
    return body_patch(&rq->plan, body, operation_row(rq->op)->body, a->target->model, ask_usage, &a->sent)
               ? buf_span(&a->sent)
               : body;
}

/* ---- the client's callbacks -------------------------------------------------------------------------------------- */

static void on_headers(void *user, const struct client_headers *h)
{
    struct attempt *a = user;
    struct arena *mem = a->rq->arena;

    a->http_status = h->status;
    (void)span_copy(a->content_type, sizeof(a->content_type), h->content_type);
    a->judged_headers = (struct answer_headers){
        .retry_after = span_make(arena_dup(mem, h->retry_after), h->retry_after.len),
        .retry_after_ms = span_make(arena_dup(mem, h->retry_after_ms), h->retry_after_ms.len),
        .ratelimit_reset = span_make(arena_dup(mem, h->ratelimit_reset), h->ratelimit_reset.len),
        .should_retry = span_make(arena_dup(mem, h->should_retry), h->should_retry.len)};
    if (h->status < 200 || h->status > 299) {
        a->mode = MODE_ERROR;
        buf_init(&a->body, LIMIT_ERROR_BODY);
    } else if (h->content_encoding.len && !span_eq_nocase(h->content_encoding, SPAN_LIT("identity"))) {
        attempt_fail(a, ERR_UP_GARBAGE, "the answer is compressed although identity was asked for");
    } else if (h->content_type.len >= 17 &&
               span_eq_nocase(span_make(h->content_type.p, 17), SPAN_LIT("text/event-stream"))) {
        a->mode = MODE_SSE;
        sse_init(&a->sse, LIMIT_SSE_EVENT, LIMIT_SSE_EVENT_HARD);
        a->has_sse = true;
    } else {
        a->mode = MODE_BUFFER;
        buf_init(&a->body, LIMIT_BUFFERED_ANSWER);
        if (h->content_length > 0 && (size_t)h->content_length <= LIMIT_BUFFERED_ANSWER)
            (void)!buf_reserve(&a->body, (size_t)h->content_length + 1);
    }
}

static bool on_body(void *user, struct span bytes)
{
    struct attempt *a = user;

    if (a->state == ATTEMPT_FAILED)
        return true; /* dropped until the loop cancels it */
    if (a->mode == MODE_ERROR) {
        if (buf_append(&a->body, bytes.p, bytes.len) != ERR_OK && !a->is_error_body_cut) {
            a->is_error_body_cut = true; /* enough to judge by; the rest may have no end */
            pipeline_resume(a->rq);
        }
        return true;
    }
    return relay_take(a, bytes);
}

/* What speaks against the provider. A refusal of what the caller sent does not, nor does anything of our own. */
static bool is_providers_fault(enum err_code code)
{
    switch ((int)code) {
    case ERR_UP_CONNECT:
    case ERR_UP_DNS:
    case ERR_UP_TLS:
    case ERR_UP_RESET:
    case ERR_UP_CUT:
    case ERR_UP_GARBAGE:
    case ERR_UP_TIMEOUT:
    case ERR_UP_IDLE:
    case ERR_UP_RATE_LIMIT:
    case ERR_UP_OVERLOADED:
    case ERR_UP_SERVER:
    case ERR_UP_AUTH:
        return true;
    default:
        return false;
    }
}

static void note_failure(struct attempt *a, enum err_code code, const char *detail)
{
    a->failure = (struct failure){.code = code,
                                  .is_retryable = err_row(code)->retry == ERR_RETRY_NEXT,
                                  .is_breaker_failure = is_providers_fault(code),
                                  .retry_after_ms = -1};
    (void)span_copy(a->detail, sizeof(a->detail), span_of(detail));
}

static void on_done(void *user, enum err_code code, const char *detail)
{
    struct attempt *a = user;

    a->timing = client_call_timing(a->call);
    a->call = NULL;
    a->has_ended = true;
    a->is_clean_end = code == ERR_OK;
    if (code != ERR_OK && a->state != ATTEMPT_FAILED)
        note_failure(a, code, detail);
    pipeline_resume(a->rq);
}

static const struct client_callbacks CALLBACKS = {
    .on_headers = on_headers, .on_body = on_body, .on_done = on_done};

/* ---- life ---------------------------------------------------------------------------------------------------------- */

struct cycle attempt_cycle(const struct request *rq, const struct config_target *t)
{
    const struct limits_point *p = limits_provider_of(rq->config, t->provider);

    return config_cycle(p ? p->budget : NULL);
}

static void fill_identity(struct attempt *a)
{
    struct request *rq = a->rq;
    const struct attempt *before = rq->n_attempts > 1 ? rq->attempts[rq->n_attempts - 2] : NULL;
    bool moved = before && before->target->provider != a->target->provider;

    a->fact = (struct fact_attempt){.provider = a->target->provider->label,
                                    .model = a->target->model_label,
                                    .number = (uint8_t)rq->n_attempts,
                                    .is_stream = rq->plan.is_stream,
                                    .from_provider = moved ? before->target->provider->label : 0,
                                    .retry_reason = before ? before->fact.error : ERR_OK,
                                    .started_us = mono_diff_us(a->started, rq->arrived),
                                    .ttft_us = -1,
                                    .is_priced = a->target->price != NULL,
                                    .cycle = attempt_cycle(rq, a->target)};
}

void attempt_start(struct request *rq, const struct config_target *target, unsigned key_index,
                   const struct attempt_leave *leave)
{
    struct attempt *a = arena_new(rq->arena, struct attempt);
    const struct config_provider *p = target->provider;
    struct buf url AUTO(buf_release) = {.max = 8192};
    struct client_request call;

    a->rq = rq;
    a->target = target;
    a->ops = provider_ops_find(p->kind);
    a->key_index = key_index;
    a->ticket = leave->ticket;
    a->slot = leave->slot;
    a->hold = leave->hold;
    a->started = mono_now();
    a->load = load_of(rq->proxy->loads, p->label, target->model_label);
    load_begin(a->load, a->started);
    a->failure.retry_after_ms = -1;
    rq->attempts[rq->n_attempts++] = a;
    fill_identity(a);
    if (build_headers(a) != ERR_OK) {
        attempt_fail(a, ERR_UP_AUTH, "the provider has no usable API key");
        a->has_ended = true;
        return;
    }
    buf_addz(&url, p->base_url);
    buf_addz(&url, a->ops->path(rq->op));
    call = (struct client_request){.method = "POST",
                                   .url = arena_dup(rq->arena, buf_span(&url)),
                                   .header_lines = &a->headers,
                                   .body = build_body(a),
                                   .timeouts = p->timeouts,
                                   .allow_private = p->allow_private,
                                   .cb = &CALLBACKS,
                                   .user = a};
    if (!statement_attempt(rq)) {
        attempt_fail(a, ERR_JOURNAL_FULL, "the journal is full, so the attempt cannot be put on record");
        a->failure.is_breaker_failure = false; /* the provider was not asked */
        a->has_ended = true;
        return;
    }
    a->call = client_start(rq->proxy->client, &call);
    buf_release(&a->headers); /* the client has its own */
}

void attempt_drop_body(struct attempt *a)
{
    if (!a->call || !client_call_is_body_out(a->call))
        return;
    buf_release(&a->sent);
    exchange_drop_body(a->rq->ex);
    shed_drop(a->rq);
}

void attempt_stop(struct attempt *a)
{
    if (!a->call)
        return;
    a->timing = client_call_timing(a->call);
    client_cancel(a->call);
    a->call = NULL;
    a->has_ended = true;
}

void attempt_unpause(struct attempt *a)
{
    if (!a->call || !a->is_paused)
        return;
    a->is_paused = false;
    client_resume(a->call);
}

void attempt_fail(struct attempt *a, enum err_code code, const char *detail)
{
    if (a->state == ATTEMPT_FAILED)
        return;
    a->state = ATTEMPT_FAILED;
    note_failure(a, code, detail);
    pipeline_resume(a->rq);
}

void attempt_cut(struct attempt *a)
{
    if (a->state == ATTEMPT_WAITING) {
        attempt_fail(a, ERR_UNAVAILABLE, "an operator has shut it off");
        a->failure.is_retryable = true; /* elsewhere */
    } else if (a->state == ATTEMPT_ANSWERING && !a->rq->error) {
        (void)request_fail(a->rq, ERR_UNAVAILABLE, "provider '%s': an operator has shut it off",
                           a->target->provider->name);
        pipeline_resume(a->rq);
    }
}

static void judge_body(struct attempt *a)
{
    a->ops->decode_body(&a->answer, a->rq->op, span_of(a->content_type), buf_span(&a->body));
    if (a->answer.end != ANSWER_ERROR) {
        a->state = ATTEMPT_FINISHED;
        return;
    }
    attempt_fail(a, a->answer.error ? a->answer.error : ERR_UP_GARBAGE, a->answer.error_text);
}

void attempt_judge(struct attempt *a)
{
    if (a->state != ATTEMPT_WAITING)
        return;
    if (a->mode == MODE_ERROR && a->http_status) {
        struct failure f = a->ops->classify(a->http_status, &a->judged_headers, buf_span(&a->body),
                                            loop_wall(a->rq->proxy->loop).us / 1000000);
        char text[64];

        (void)snprintf(text, sizeof(text), "the provider answered %d", a->http_status);
        attempt_fail(a, f.code, text);
        a->failure = f;
    } else if (!a->is_clean_end) {
        struct failure f = a->failure;

        attempt_fail(a, f.code, a->detail);
    } else if (a->mode == MODE_BUFFER && a->http_status) {
        judge_body(a);
    } else {
        attempt_fail(a, a->http_status ? ERR_UP_CUT : ERR_UP_RESET,
                     a->http_status ? "the stream ended before its first event" : "no answer came");
    }
}

/* An error costs nothing, nor does silence. A client that leaves before anything came has had its prompt read. */
static void estimate_usage(struct attempt *a, enum err_code error)
{
    struct usage *u = &a->answer.usage;
    bool is_read = error == ERR_CLIENT_GONE && !a->http_status;

    if (u->source != USAGE_NONE || !a->timing.was_sent ||
        (!is_read && (a->http_status < 200 || a->http_status > 299)))
        return;
    if (operation_row(a->rq->op)->body != BODY_JSON)
        return;
    u->source = USAGE_ESTIMATED;
    u->input = body_estimate_input(exchange_bytes_in(a->rq->ex));
    u->output = (a->answer.output_chars + 3) / 4;
}

/* What the attempt tells the breaker. A rate limit counts only where the configuration says so; what the caller did (a
 * refused request, an abort), and what the gateway did (a cut, a full journal), counts neither way. */
static enum breaker_outcome outcome_of(const struct attempt *a, enum fact_status status, enum err_code error)
{
    bool is_fault = a->failure.code == error ? a->failure.is_breaker_failure : is_providers_fault(error);

    if (status == STATUS_SUCCESS)
        return BREAKER_SUCCESS;
    if (error == ERR_UP_RATE_LIMIT && !a->rq->config->breaker.has_rate_limits)
        return BREAKER_NEITHER;
    return status == STATUS_ERROR && is_fault ? BREAKER_FAILURE : BREAKER_NEITHER;
}

static void tell_breaker(struct attempt *a, enum fact_status status, enum err_code error)
{
    struct request *rq = a->rq;
    enum breaker_outcome outcome = outcome_of(a, status, error);
    struct breaker_now now = {loop_now(rq->proxy->loop), loop_wall(rq->proxy->loop)};
    char cause[80] = "";

    if (outcome == BREAKER_FAILURE && a->http_status >= 400)
        (void)snprintf(cause, sizeof(cause), "HTTP %d", a->http_status);
    else if (outcome == BREAKER_FAILURE)
        (void)snprintf(cause, sizeof(cause), "%s", err_row(error)->text);
    breaker_report(rq->proxy->breakers, &a->ticket, outcome, cause, &rq->config->breaker, now);
}

/* What was never sent takes nothing of the provider's rate either. */
static void settle_hold(struct attempt *a)
{
    if (a->timing.was_sent || a->fact.cost_nanousd)
        limits_settle(&a->hold, a->fact.cost_nanousd, a->fact.usage.input + a->fact.usage.output,
                      a->rq->arrived_wall, loop_now(a->rq->proxy->loop));
    else
        limits_give_back(&a->hold);
}

static void tell_load(struct attempt *a)
{
    bool is_stream = a->fact.is_stream && a->fact.ttft_us >= 0;

    load_end(a->load);
    if (a->fact.status == STATUS_SUCCESS)
        load_note(a->load, is_stream, is_stream ? a->fact.ttft_us : a->fact.duration_us, mono_now());
    a->load = NULL;
}

void attempt_close(struct attempt *a, enum fact_status status, enum err_code error, enum stream_end end)
{
    struct request *rq = a->rq;
    struct fact_context context;

    if (a->is_closed)
        return;
    a->is_closed = true;
    tell_breaker(a, status, error);
    estimate_usage(a, error);
    a->fact.status = status;
    a->fact.error = error;
    a->fact.http_status = (uint16_t)a->http_status;
    a->fact.end = end;
    a->fact.duration_us = mono_diff_us(mono_now(), a->started);
    tell_load(a);
    a->fact.usage = a->answer.usage;
    a->fact.cost_nanousd = a->target->price ? price_cost_nanousd(a->target->price, &a->answer.usage) : 0;
    statement_context(rq, &context);
    if (journal_attempt(rq->proxy->journal, &context, &a->fact) != ERR_OK)
        log_error("journal: an attempt of request '%s' could not be recorded", rq->id_text);
    settle_hold(a); /* behind the record, like that of the request */
    /* Last: who gets the slot, on whatever thread, must find a breaker that has opened and money that came back. */
    queue_leave(&a->slot, loop_now(rq->proxy->loop));
}

void attempt_release(struct attempt *a)
{
    attempt_stop(a);
    queue_leave(&a->slot, loop_now(a->rq->proxy->loop));
    load_end(a->load);
    a->load = NULL;
    buf_release(&a->body);
    buf_release(&a->sent);
    buf_release(&a->headers);
    buf_release(&a->held);
    buf_release(&a->tail);
    if (a->has_sse)
        sse_release(&a->sse);
}
