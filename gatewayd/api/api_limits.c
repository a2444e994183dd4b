/* SPDX-License-Identifier: Apache-2.0 */
/* What is limited and how much of it is used: the counters that requests are admitted by, at this instant. Never waits for a
 * store. */
#include <stdio.h>
#include <string.h>

#include "gatewayd/api/handlers_priv.h"
#include "gatewayd/limits/limits.h"
#include "libshared/analytics/forecast.h"

static void add_scope(void *user, const struct limits_view *v)
{
    json_t *list = user;

    for (unsigned k = 0; k < RATE_KINDS; k++) {
        const struct rate_view *r = &v->rate[k];
        json_t *o;

        if (!r->limit && !v->refused[k] && !v->shadowed[k])
            continue;
        o = json_object();
        (void)json_object_set_new(o, "scope", json_string(v->scope));
        (void)json_object_set_new(o, "kind", json_string(rate_kind_name((enum rate_kind)k)));
        (void)json_object_set_new(o, "limit", api_json_count(r->limit));
        (void)json_object_set_new(o, "used", api_json_count(r->used));
        (void)json_object_set_new(o, "remaining",
                                  api_json_count(r->used < r->limit ? r->limit - r->used : 0));
        (void)json_object_set_new(o, "resets_in_ms", json_integer((r->reset_us + 999) / 1000));
        (void)json_object_set_new(o, "refused", api_json_count(v->refused[k]));
        (void)json_object_set_new(o, "shadow_hits", api_json_count(v->shadowed[k]));
        (void)json_object_set_new(o, "shadow", json_boolean(r->is_shadow));
        (void)json_array_append_new(list, o);
    }
}

void api_limits(const struct api_request *rq, struct api_reply *reply)
{
    json_t *o = json_object(), *list = json_array();

    limits_each_mt(gateway_limits_mt(rq->gw), add_scope, list);
    (void)json_object_set_new(o, "limits", list);
    api_reply_json(reply, o);
}

/* What is foretold is left out while too little was seen. */
void api_add_forecast(struct gateway *gw, const char *account, json_t *o)
{
    struct forecast x;

    if (!gateway_forecast_mt(gw, account, &x))
        return;
    (void)json_object_set_new(o, "forecast", json_string(forecast_state_name(x.state)));
    (void)json_object_set_new(o, "forecast_method",
                              x.method ? json_string(forecast_method_name(x.method)) : json_null());
    (void)json_object_set_new(o, "exhausts_at", api_json_time(x.exhausts_at));
    if (x.has_end)
        api_set_cost(o, "forecast_usd", "forecast_nanousd", x.end_nano);
    if (x.method)
        (void)json_object_set_new(o, "rate_usd_per_hour", api_json_usd(x.rate_nano_per_hour));
}

void api_add_spending(struct gateway *gw, const char *account, json_t *o)
{
    struct explain x = {0};

    if (!limits_explain_mt(gateway_limits_mt(gw), account, &x))
        return;
    for (unsigned i = 0; i < x.n; i++) {
        const struct explain_row *r = &x.row[i];

        if (!explain_is_money(r))
            continue;
        api_set_cost(o, "spent_usd", "spent_nanousd", (int64_t)r->used);
        api_set_cost(o, "held_usd", "held_nanousd", (int64_t)r->held);
        api_set_cost(o, "limit_now_usd", "limit_now_nanousd", (int64_t)r->limit);
        (void)json_object_set_new(o, "used_ratio", api_json_ratio(r->used, r->limit));
        (void)json_object_set_new(o, "window", json_string(r->window));
        (void)json_object_set_new(o, "resets_at", api_json_time(r->resets_at));
        (void)json_object_set_new(o, "verdict", json_string(verdict_name(r->verdict)));
    }
    api_add_forecast(gw, account, o);
}
