/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers that routes.c lists, and what they share. */
#ifndef API_HANDLERS_PRIV_H
#define API_HANDLERS_PRIV_H

#include <jansson.h>

#include "gatewayd/api/api.h"
#include "gatewayd/gateway.h"

typedef void api_handler(const struct api_request *rq, struct api_reply *reply);

/* api_health.c */
api_handler api_healthz, api_readyz, api_version, api_dashboard, api_metrics_health;
/* api_metrics.c */
api_handler api_metrics, api_metrics_json, api_metrics_reset;
/* api_monitoring.c */
api_handler api_provider_healths, api_provider_health, api_cost_of_process, api_error_rates_of_process;
/* api_reports.c, api_cost.c, api_business.c */
api_handler api_realtime, api_hourly, api_comparison, api_latency, api_latency_trends, api_token_efficiency;
api_handler api_models_stats, api_errors, api_error_rates, api_cost, api_anomalies, api_trials;
/* api_life.c, api_records.c, api_openapi.c */
api_handler api_life, api_audit, api_audit_verify, api_slow_queries, api_openapi;
/* api_breakers.c */
api_handler api_breakers, api_breakers_of, api_breaker_change;
/* api_providers.c */
api_handler api_providers, api_provider, api_provider_change, api_provider_probe;
/* api_admin.c */
api_handler api_reload, api_config, api_sim;
/* api_directory.c, api_directory_keys.c, api_directory_plans.c */
api_handler api_tenants, api_tenant, api_tenant_create, api_tenant_update, api_tenant_delete;
api_handler api_keys, api_key_create, api_key_update, api_key_revoke, api_key_rotate;
api_handler api_plans, api_plan, api_plan_put, api_plan_delete;
api_handler api_adjust; /* api_adjust.c */
api_handler api_budgets, api_budget, api_budget_put, api_budget_deed, api_budget_delete;
/* api_events.c */
api_handler api_events;
/* api_limits.c */
api_handler api_limits;
/* api_explain.c */
api_handler api_explain;
/* When an account's budget will be spent; nothing where that was not looked at yet. */
void api_add_forecast(struct gateway *gw, const char *account, json_t *o);
/* What an account has spent and holds now, by the counters that decide; nothing when it is not limited. */
void api_add_spending(struct gateway *gw, const char *account, json_t *o);
/* api_books.c */
api_handler api_aggregate, api_reconcile;

/* All that is known at one moment: facts summed over threads, and what the gateway says of itself. */
#define PICTURE_PROVIDERS 256u

struct picture {
    struct arena arena;
    struct facts *facts[GATEWAY_FACTS_MAX];
    size_t n_facts;
    struct metrics_state state;
    struct facts_totals totals;
    struct facts_sum *providers; /* by name */
    size_t n_providers;
};

void picture_take(struct picture *p, struct gateway *gw);
void picture_release(struct picture *p);
int64_t picture_uptime_us(const struct picture *p);

/* Sends the document and lets go of it. */
void api_reply_json(struct api_reply *reply, json_t *doc);
/* Values that may be unknown: null then. */
json_t *api_json_time(struct wall t);                  /* 0 is unknown */
json_t *api_json_number(double v);                     /* NaN is unknown */
json_t *api_json_ratio(uint64_t part, uint64_t whole); /* of nothing is unknown */
json_t *api_json_usd(int64_t nanousd);
json_t *api_json_count(uint64_t v);
json_t *api_json_label(label l);
/* An amount in dollars for people, and exactly. */
void api_set_cost(json_t *o, const char *usd, const char *exact, int64_t nanousd);

struct config_levels;
/* Percentages as a list; one alone is a number. */
json_t *api_json_levels(const struct config_levels *l);
/* The word at that place among `choices`. */
json_t *api_json_choice(const char *choices, unsigned at);

#endif
