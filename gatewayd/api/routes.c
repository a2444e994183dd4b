/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>

#include "gatewayd/api/api.h"
#include "gatewayd/gateway.h"

static void get_healthz(const struct api_request *rq, struct api_reply *reply)
{
    (void)rq;
    buf_addz(&reply->body, "{\"status\":\"ok\"}");
}

static void get_metrics(const struct api_request *rq, struct api_reply *reply)
{
    struct arena a = {0};
    struct metrics_state state;
    struct facts *facts[GATEWAY_FACTS_MAX];
    size_t n = gateway_facts_mt(rq->gw, facts);
    enum exposition_format format = exposition_negotiate(rq->accept);

    gateway_metrics_state_mt(rq->gw, &a, &state);
    exposition_render(&reply->body, format, facts, n, &state);
    reply->content_type = exposition_content_type(format);
    arena_release(&a);
}

const struct api_route API_ROUTES[] = {
    {"GET", "/healthz", SCOPE_OPEN, true, get_healthz, "the process is alive"},
    {"GET", "/metrics", SCOPE_METRICS, true, get_metrics, "all metric families"},
    {0},
};

const struct api_route *api_find(struct span method, struct span path, struct buf *tail_buf,
                                 enum err_code *why)
{
    (void)tail_buf;
    *why = ERR_NOT_FOUND;
    for (const struct api_route *r = API_ROUTES; r->method; r++) {
        if (!span_is(path, r->path))
            continue;
        *why = ERR_BAD_METHOD;
        if (span_is(method, r->method))
            return r;
    }
    return NULL;
}
