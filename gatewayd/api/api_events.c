/* SPDX-License-Identifier: Apache-2.0 */
/* What happened lately, from memory: this node's events and what it heard of others. Never waits for a store. A follower asks
 * again with `after` of the answer before; `epoch` tells it that the gateway was started anew and counts from 1 again. */
#include <stdlib.h>
#include <string.h>

#include "gatewayd/api/handlers_priv.h"
#include "gatewayd/telemetry/events.h"
#include "libshared/cli/human.h"

#define LIMIT_DEFAULT 100u

/* An instant (RFC 3339, or seconds since 1970), or how long ago ("1h"). */
static bool take_since(const char *z, struct wall *out)
{
    int64_t ms;
    uint64_t s;

    if (human_parse_time(z, out))
        return true;
    if (span_to_u64(span_of(z), &s) && s > 100000000 && s < (uint64_t)INT64_MAX / 1000000) {
        out->us = (int64_t)s * 1000000;
        return true;
    }
    if (!human_parse_duration(z, &ms) || ms < 0)
        return false;
    out->us = wall_now().us - ms * 1000;
    return true;
}

static bool take_severity(const char *z, enum event_severity *out)
{
    for (int s = 0; s < EVENT_SEVERITIES; s++)
        if (strcmp(z, event_severity_name((enum event_severity)s)) == 0) {
            *out = (enum event_severity)s;
            return true;
        }
    return false;
}

/* False with the reply written. */
static bool take_query(const struct api_request *rq, struct events_query *q, struct api_reply *reply)
{
    char text[128];
    uint64_t n;
    bool ok = true;

    *q = (struct events_query){.limit = LIMIT_DEFAULT};
    if (api_query_param(rq->query, "since", text, sizeof(text)) && !(ok = take_since(text, &q->since)))
        api_reply_error(reply, ERR_BAD_REQUEST, "'since' takes a time or a duration such as 1h");
    else if (api_query_param(rq->query, "kind", text, sizeof(text)) &&
             !(ok = event_kinds_parse(text, &q->kinds)))
        api_reply_error(reply, ERR_BAD_REQUEST,
                        "'kind' takes breaker, health, budget, provider, store, anomaly, config, key");
    else if (api_query_param(rq->query, "severity", text, sizeof(text)) &&
             !(ok = take_severity(text, &q->at_least)))
        api_reply_error(reply, ERR_BAD_REQUEST, "'severity' takes info, warning or critical");
    else if (api_query_param(rq->query, "after", text, sizeof(text)) &&
             !(ok = span_to_u64(span_of(text), &q->after)))
        api_reply_error(reply, ERR_BAD_REQUEST, "'after' takes the 'next' of an earlier answer");
    else if (api_query_param(rq->query, "limit", text, sizeof(text))) {
        ok = span_to_u64(span_of(text), &n) && n > 0 && n <= EVENTS_KEPT;
        q->limit = ok ? (size_t)n : 0;
        if (!ok)
            api_reply_error(reply, ERR_BAD_REQUEST, "'limit' takes a number from 1 to %u", EVENTS_KEPT);
    }
    return ok;
}

void api_events(const struct api_request *rq, struct api_reply *reply)
{
    struct buf list AUTO(buf_release) = {.max = (size_t)8 << 20};
    struct events_query q;
    struct events_answer a;

    if (!take_query(rq, &q, reply))
        return;
    a = events_list_mt(gateway_events_mt(rq->gw), &q, &list);
    buf_addf(&reply->body, "{\"epoch\":%lld,\"next\":%llu,\"told\":%llu,\"dropped\":%llu,\"events\":[",
             (long long)a.epoch, (unsigned long long)a.next, (unsigned long long)a.told,
             (unsigned long long)a.dropped);
    buf_add(&reply->body, buf_span(&list));
    buf_addz(&reply->body, "]}\n");
}
