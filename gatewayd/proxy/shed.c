/* SPDX-License-Identifier: Apache-2.0 */
/* Worker thread only. A request that is refused here is no request of anybody yet: it has no id, no place in the books and no
 * line in the access log; it is counted by `gatewayd_queue_refusals_total` and `http_requests_total`. That is what makes
 * refusing cheap enough to go on with. */
#include "gatewayd/proxy/shed.h"

#include <stdio.h>

#include "gatewayd/http/reply.h"
#include "gatewayd/proxy/pipeline.h"

static struct overload_rules rules_of(const struct config *c)
{
    return (struct overload_rules){.max_requests = c->http.max_requests,
                                   .max_bytes = c->http.max_buffered,
                                   .max_lag_us = c->http.max_lag_us};
}

static struct explain_row explain(const struct proxy *p, const struct config *c, enum overload_reason why,
                                  uint64_t bytes)
{
    struct overload_view v = overload_look(p->overload);
    struct explain_row r = {.scope = "gateway", .retry_ms = 1000, .verdict = VERDICT_REFUSED};

    switch (why) {
    case OVERLOAD_MEMORY:
        r.kind = "bytes";
        r.limit = c->http.max_buffered;
        r.used = v.bytes;
        r.asked = bytes;
        break;
    case OVERLOAD_LAG:
        r.kind = "lag_ms";
        r.limit = (uint64_t)c->http.max_lag_us / 1000;
        r.used = (uint64_t)loop_lag_us(p->loop) / 1000;
        break;
    case OVERLOAD_REQUESTS:
    case OVERLOAD_NONE:
    case OVERLOAD_REASONS:
        r.kind = "concurrent";
        r.limit = c->http.max_requests;
        r.used = v.requests;
        r.asked = 1;
        break;
    }
    return r;
}

static const char *text_of(enum overload_reason why)
{
    switch (why) {
    case OVERLOAD_MEMORY:
        return "the gateway holds as many bytes of requests as 'http.max_buffered' allows";
    case OVERLOAD_LAG:
        return "the gateway is behind by more than 'http.max_lag' allows";
    case OVERLOAD_REQUESTS:
    case OVERLOAD_NONE:
    case OVERLOAD_REASONS:
        break;
    }
    return "the gateway has as many open requests as 'http.max_requests' allows";
}

bool shed_enter(struct proxy *p, struct exchange *ex, enum operation op)
{
    struct overload_rules rules = rules_of(p->config);
    enum overload_reason why = overload_enter(p->overload, &rules, loop_lag_us(p->loop));
    struct buf body AUTO(buf_release) = {.max = 4096}, member AUTO(buf_release) = {.max = 1024};
    const struct operation_row *row = operation_row(op);
    struct explain_row limit;

    if (!why)
        return true;
    overload_refused(p->overload, why);
    limit = explain(p, p->config, why, 0);
    buf_addz(&member, "\"limit\":");
    explain_json(&limit, &member);
    reply_error_body_with(&body, row->dialect, ERR_OVERLOADED, span_of(text_of(why)), SPAN_LIT(""),
                          buf_span(&member));
    exchange_set_header(ex, "content-type", SPAN_LIT("application/json"));
    exchange_set_header(ex, "retry-after", SPAN_LIT("1"));
    facts_add_http(p->facts, intern(exchange_method(ex)), intern_z(row->path),
                   (uint16_t)err_row(ERR_OVERLOADED)->status, 0, body.len);
    exchange_reply_adopt(ex, err_row(ERR_OVERLOADED)->status, &body);
    return false;
}

enum step shed_hold(struct request *rq, uint64_t bytes)
{
    struct overload_rules rules = rules_of(rq->config);
    struct explain *x;

    if (overload_hold(rq->proxy->overload, &rules, bytes)) {
        rq->body_held += bytes;
        return STEP_NEXT;
    }
    overload_refused(rq->proxy->overload, OVERLOAD_MEMORY);
    x = arena_new(rq->arena, struct explain);
    x->n = 1;
    x->row[0] = explain(rq->proxy, rq->config, OVERLOAD_MEMORY, bytes);
    rq->refusal = x;
    rq->retry_after_ms = x->row[0].retry_ms;
    return request_fail(rq, ERR_OVERLOADED, "%s", text_of(OVERLOAD_MEMORY));
}

void shed_drop(struct request *rq)
{
    if (rq->body_held)
        overload_drop(rq->proxy->overload, rq->body_held);
    rq->body_held = 0;
}

void shed_leave(struct request *rq)
{
    shed_drop(rq);
    overload_leave(rq->proxy->overload);
}
