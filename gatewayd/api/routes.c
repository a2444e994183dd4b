/* SPDX-License-Identifier: Apache-2.0 */
/* The table of the operator's surface. Handlers live in api_<subject>.c. */
#include "gatewayd/api/handlers_priv.h"

const struct api_route API_ROUTES[] = {
    {"GET", "/healthz", SCOPE_OPEN, true, api_healthz, "the process is alive"},
    {"GET", "/readyz", SCOPE_OPEN, true, api_readyz, "it takes requests: 200, or 503 while it drains"},
    {"GET", "/version", SCOPE_OPEN, true, api_version, "version and uptime"},
    {"GET", "/health/dashboard", SCOPE_MONITOR, true, api_dashboard,
     "providers and a summary, for a dashboard"},

    {"GET", "/metrics", SCOPE_METRICS, true, api_metrics,
     "all metric families, Prometheus or OpenMetrics text"},
    {"GET", "/metrics/json", SCOPE_METRICS, true, api_metrics_json, "the main figures as JSON"},
    {"GET", "/metrics/health", SCOPE_METRICS, true, api_metrics_health,
     "health in one word, with key figures"},

    {"GET", "/api/monitoring/health", SCOPE_MONITOR, true, api_provider_healths, "health of all providers"},
    {"GET", "/api/monitoring/health/{provider}", SCOPE_MONITOR, true, api_provider_health,
     "of one, with its terms"},
    {"GET", "/api/monitoring/stats/realtime", SCOPE_MONITOR, true, api_realtime,
     "requests, cost, health by provider"},
    {"GET", "/api/monitoring/cost-analysis", SCOPE_MONITOR, true, api_cost,
     "cost and tokens by provider and model"},
    {"GET", "/api/monitoring/error-rates", SCOPE_MONITOR, true, api_error_rates, "failed attempts by model"},

    {"POST", "/api/admin/reload", SCOPE_ADMIN, false, api_reload, "read the configuration again and swap it"},
    {"GET", "/api/admin/sim", SCOPE_ADMIN, false, api_sim,
     "where the demo's simulated provider is controlled"},
    {0},
};
