/* SPDX-License-Identifier: Apache-2.0 */
/* The metric families as text, and the main ones as JSON for programs that do not speak Prometheus. */
#include "gatewayd/api/api_directory_priv.h"
#include "gatewayd/api/bodies_priv.h"
#include "gatewayd/api/provider_health_priv.h"

void api_metrics(const struct api_request *rq, struct api_reply *reply)
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

static json_t *requests_json(const struct facts_totals *t)
{
    json_t *o = json_object(), *by_status = json_object();

    for (unsigned s = 0; s < STATUS_COUNT; s++)
        (void)json_object_set_new(by_status, fact_status_name((enum fact_status)s),
                                  api_json_count(t->by_status[s]));
    (void)json_object_set_new(o, "total", api_json_count(t->requests));
    (void)json_object_set_new(o, "by_status", by_status);
    (void)json_object_set_new(o, "active_streams", api_json_count(t->active_streams));
    return o;
}

static json_t *provider_json(const struct picture *p, const struct facts_sum *s)
{
    struct health_row row = provider_health(p, s->provider);
    json_t *o = json_object();

    (void)json_object_set_new(o, "attempts", api_json_count(s->attempts));
    (void)json_object_set_new(o, "errors", api_json_count(s->errors));
    (void)json_object_set_new(o, "error_rate", api_json_number(row.health.error_rate));
    (void)json_object_set_new(o, "latency_p50_seconds", api_json_number(row.p50_s));
    (void)json_object_set_new(o, "latency_p95_seconds", api_json_number(row.facts.p95_s));
    (void)json_object_set_new(o, "input_tokens", api_json_count(s->input_tokens));
    (void)json_object_set_new(o, "output_tokens", api_json_count(s->output_tokens));
    api_set_cost(o, "cost_usd", "cost_nanousd", s->cost_nanousd);
    (void)json_object_set_new(o, "unpriced_attempts", api_json_count(s->unpriced));
    return o;
}

static json_t *journal_json(const struct metrics_state *s)
{
    json_t *o = json_object();

    (void)json_object_set_new(o, "records", api_json_count(s->journal.appended));
    (void)json_object_set_new(o, "read", api_json_count(s->journal.read));
    (void)json_object_set_new(o, "used_bytes", api_json_count(s->journal.used_bytes));
    (void)json_object_set_new(o, "max_bytes", api_json_count(s->journal.max_bytes));
    (void)json_object_set_new(o, "refusals", api_json_count(s->journal.full_refusals));
    (void)json_object_set_new(o, "log_lines", api_json_count(s->journal.log_written));
    (void)json_object_set_new(o, "log_lines_dropped", api_json_count(s->journal.log_dropped));
    return o;
}

static enum err_code write_nothing(struct db *db, int64_t now_s, void *user, struct err *err)
{
    (void)db, (void)now_s, (void)user, (void)err;
    return ERR_OK;
}

/* Written to the audit log first; counters stay as they are, since a scraper would lose what it has not seen yet. */
void api_metrics_reset(const struct api_request *rq, struct api_reply *reply)
{
    struct call c;
    json_t *o;

    if (!call_begin(&c, rq, reply, BODY_REASON.fields, BODY_REASON.n))
        return;
    if (call_change(&c, "metrics.reset", "windows", write_nothing)) {
        if (!c.is_dry)
            gateway_reset_windows_mt(rq->gw);
        o = json_object();
        (void)json_object_set_new(o, "reset", json_string("windows"));
        (void)json_object_set_new(o, "at", api_json_time(wall_now()));
        api_reply_json(reply, o);
    }
    call_end(&c);
}

void api_metrics_json(const struct api_request *rq, struct api_reply *reply)
{
    struct picture p;
    json_t *o = json_object(), *providers = json_object();

    picture_take(&p, rq->gw);
    for (size_t i = 0; i < p.n_providers; i++)
        (void)json_object_set_new(providers, label_text(p.providers[i].provider),
                                  provider_json(&p, &p.providers[i]));
    (void)json_object_set_new(o, "timestamp", api_json_time(p.state.now));
    (void)json_object_set_new(o, "since", api_json_time(p.state.started));
    (void)json_object_set_new(o, "version", json_string(p.state.version));
    (void)json_object_set_new(o, "requests", requests_json(&p.totals));
    (void)json_object_set_new(o, "input_tokens", api_json_count(p.totals.input_tokens));
    (void)json_object_set_new(o, "output_tokens", api_json_count(p.totals.output_tokens));
    api_set_cost(o, "cost_usd", "cost_nanousd", p.totals.cost_nanousd);
    (void)json_object_set_new(o, "providers", providers);
    (void)json_object_set_new(o, "journal", journal_json(&p.state));
    picture_release(&p);
    api_reply_json(reply, o);
}
