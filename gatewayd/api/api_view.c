/* SPDX-License-Identifier: Apache-2.0 */
/* On the thread of RUN_READING, with its handles. What is not known is null; a sum that lacks hours says `partial` and why. */
#include "gatewayd/api/api_view_priv.h"

#include <math.h>

#include "gatewayd/telemetry/exposition.h"

#define STALE_US ((int64_t)15 * 1000000) /* the writers come about once a second */

bool view_is_stale(struct gateway *gw)
{
    struct arena a = {0};
    struct metrics_state s;
    bool is_stale = false;

    gateway_metrics_state_mt(gw, &a, &s);
    for (size_t i = 0; i < s.n_stores; i++)
        is_stale |= !s.stores[i].is_up || s.stores[i].lag_us > STALE_US;
    arena_release(&a);
    return is_stale;
}

int64_t view_hours_back(struct wall now, int64_t hours)
{
    return now.us / 1000000 / VIEW_HOUR_S * VIEW_HOUR_S - (hours - 1) * VIEW_HOUR_S;
}

bool view_read(const struct api_request *rq, const struct view_ask *ask, struct view *v,
               struct api_reply *reply)
{
    const struct monitor_stores *stores = gateway_monitor_stores(rq->gw);
    struct config *c = gateway_config_ref_mt(rq->gw);
    struct hourly_source source = {
        .db = stores->db, .kv = stores->kv, .now = wall_now(), .retention_us = c->aggregation.retention_us};
    struct hourly_ask hours = {.from = ask->from,
                               .to = ask->to ? ask->to : view_hours_back(source.now, 0),
                               .step_s = ask->step_s,
                               .has_sketches = ask->has_sketches,
                               .provider = ask->provider,
                               .model = ask->model};
    struct err err = {0};
    enum err_code e;

    config_unref(c);
    *v = (struct view){.now = source.now, .is_stale = view_is_stale(rq->gw)};
    e = hourly_read(&source, &hours, &v->h, &err);
    if (!e && v->h.is_partial && !v->h.hours_read)
        e = err_set(&err, ERR_UNAVAILABLE, "no store can be read: %s", v->h.missing);
    if (!e)
        return true;
    hourly_release(&v->h);
    view_fail(reply, &err);
    return false;
}

const struct hourly_sum *view_sum(const struct hourly *h, size_t from, size_t to, struct hourly_sums *s)
{
    static const struct hourly_sum NOTHING;

    if (hourly_sum(h, HOURLY_ALL, from, to, s))
        abort();
    return s->n ? &s->v[0] : &NOTHING;
}

void view_release(struct view *v)
{
    hourly_release(&v->h);
}

/* What went wrong at a store is not the caller's fault. */
void view_fail(struct api_reply *reply, const struct err *err)
{
    bool is_store = err->code == ERR_IO || err->code == ERR_TIMEOUT || err->code == ERR_CONFLICT;

    api_reply_error(reply, is_store ? ERR_UNAVAILABLE : err->code, "%s", err_text(err));
}

void view_put_state(json_t *o, bool is_partial, const char *missing, bool is_stale)
{
    SET(o, "partial", json_boolean(is_partial));
    SET(o, "missing", is_partial && missing ? json_string(missing) : json_null());
    SET(o, "stale", json_boolean(is_stale));
}

json_t *view_head(const struct view *v)
{
    json_t *o = json_object();
    struct wall to = {v->h.to * 1000000};

    SET(o, "timestamp", api_json_time(v->now));
    SET(o, "from", api_json_time((struct wall){v->h.from * 1000000}));
    SET(o, "to", api_json_time(to.us > v->now.us ? v->now : to));
    view_put_state(o, v->h.is_partial, v->h.missing, v->is_stale);
    return o;
}

bool view_knows_provider(struct gateway *gw, struct span provider)
{
    struct config *c = gateway_config_ref_mt(gw);
    bool knows = false;

    for (size_t i = 0; i < c->n_providers && !knows; i++)
        knows = span_is(provider, c->providers[i].name);
    config_unref(c);
    return knows;
}

json_t *view_hour(int64_t second)
{
    char text[WALL_TEXT_CAP];

    (void)wall_format((struct wall){second * 1000000}, text, sizeof(text));
    text[10] = ':';
    text[13] = '\0';
    return json_string(text);
}

json_t *view_day(int64_t second)
{
    char text[WALL_TEXT_CAP];

    (void)wall_format((struct wall){second * 1000000}, text, sizeof(text));
    text[10] = '\0';
    return json_string(text);
}

static json_t *rounded_ms(double ms)
{
    return isfinite(ms) ? json_real(round(ms * 1000) / 1000) : json_null();
}

json_t *view_ms(const struct sketch *s, double q)
{
    return rounded_ms(sketch_quantile_us(s, q) / 1000);
}

static json_t *count(int64_t v)
{
    return json_integer((json_int_t)v);
}

void view_put_measures(json_t *o, const struct measures *m)
{
    SET(o, "total_requests", count(m->v[MEASURE_attempts]));
    SET(o, "successful_requests", count(m->v[MEASURE_ok]));
    SET(o, "failed_requests", count(m->v[MEASURE_err]));
    SET(o, "error_rate", api_json_number(measures_error_rate(m)));
    SET(o, "success_rate", api_json_number(measures_success_rate(m)));
    SET(o, "avg_latency_ms", rounded_ms(measures_latency_ms(m)));
    SET(o, "input_tokens", count(m->v[MEASURE_tin]));
    SET(o, "cached_tokens", count(m->v[MEASURE_tcached]));
    SET(o, "output_tokens", count(m->v[MEASURE_tout]));
    SET(o, "total_tokens", count(measures_tokens(m)));
    api_set_cost(o, "total_cost", "total_cost_nanousd", m->v[MEASURE_cost_nano]);
    SET(o, "unpriced_requests", count(m->v[MEASURE_unpriced]));
}
