/* SPDX-License-Identifier: Apache-2.0 */
/* What each route takes and answers. One row a route, in the order of routes.c; the schemas that several name stand below. */
#include "gatewayd/api/shapes.h"

#include "gatewayd/api/bodies_priv.h"

#define HOURS(MOST, NORMAL)                                                                                  \
    {                                                                                                        \
        .name = "hours", .type = PARAM_COUNT, .min = 1, .max = MOST, .fallback = NORMAL,                     \
        .summary = "how many hours, the one that runs included; they begin with a full hour (UTC)"           \
    }
#define DAYS(MOST, NORMAL, TEXT)                                                                             \
    {                                                                                                        \
        .name = "days", .type = PARAM_COUNT, .min = 1, .max = MOST, .fallback = NORMAL, .summary = TEXT      \
    }
#define LIMIT(MOST, NORMAL)                                                                                  \
    {                                                                                                        \
        .name = "limit", .type = PARAM_COUNT, .min = 1, .max = MOST, .fallback = NORMAL,                     \
        .summary = "rows at most"                                                                            \
    }
#define CHOICE(NAME, CHOICES, NORMAL, TEXT)                                                                  \
    {                                                                                                        \
        .name = NAME, .type = PARAM_CHOICE, .choices = CHOICES, .fallback = NORMAL, .summary = TEXT          \
    }
#define TEXT(NAME, BYTES, SUMMARY)                                                                           \
    {                                                                                                        \
        .name = NAME, .type = PARAM_TEXT, .max = BYTES, .summary = SUMMARY                                   \
    }
#define NAMED(NAME, SUMMARY)                                                                                 \
    {                                                                                                        \
        .name = NAME, .type = PARAM_NAME, .summary = SUMMARY                                                 \
    }
#define SINCE TEXT("since", 64, "a time, or how long ago, such as `1h`")
#define SINCE_START                                                                                          \
    CHOICE("since", "start", NULL,                                                                           \
           "`start`: this process alone, since it was started; figures that only grow")
#define REASON TEXT("reason", 512, "goes into the audit log")
#define DRY_RUN                                                                                              \
    CHOICE("dry_run", "true false", NULL, "`true`: answer what would be, with `was`, and change nothing")
#define RANK(NORMAL) CHOICE("rank", "requests cost p95 errors success", NORMAL, "what comes first")
#define EVENT_PARAMS                                                                                         \
    {                                                                                                        \
        SINCE, TEXT("kind", 120, "of these kinds, with commas between"),                                     \
            CHOICE("severity", "info warning critical", NULL, "at least"),                                   \
            {.name = "after",                                                                                \
             .type = PARAM_COUNT,                                                                            \
             .max = INT64_MAX,                                                                               \
             .summary = "`next` of the answer before: only what is newer"},                                  \
            LIMIT(1000, "100")                                                                               \
    }

#define M "/api/monitoring/"
#define A "/api/admin/"

const struct api_shape API_SHAPES[] = {
    {.method = "GET", .path = "/healthz", .reply = "Status"},
    {.method = "GET", .path = "/readyz", .reply = "Ready"},
    {.method = "GET", .path = "/version", .reply = "Version"},
    {.method = "GET", .path = "/health/dashboard", .reply = "Dashboard"},
    {.method = "GET",
     .path = "/models/stats",
     .reply = "ModelsStats",
     .params = {HOURS(744, "24"), NAMED("provider", "of this provider alone"), RANK("requests"),
                LIMIT(10000, "10000")}},
    {.method = "GET", .path = "/metrics"},
    {.method = "GET", .path = "/metrics/json", .reply = "o"},
    {.method = "GET", .path = "/metrics/health", .reply = "MetricsHealth"},
    {.method = "POST", .path = "/metrics/reset", .reply = "o", .body = &BODY_REASON, .params = {DRY_RUN}},
    {.method = "GET", .path = "/api/openapi.json", .reply = "o"},

    {.method = "GET", .path = M "health", .reply = "[ProviderHealth]"},
    {.method = "GET", .path = M "health/{provider}", .reply = "ProviderHealthTerms"},
    {.method = "GET",
     .path = M "errors/{provider}",
     .reply = "[ProviderError]",
     .params = {LIMIT(100, "100")}},
    {.method = "GET", .path = M "stats/realtime", .reply = "Realtime", .params = {HOURS(168, "1")}},
    {.method = "GET", .path = M "stats/hourly/{provider}", .reply = "Hourly", .params = {HOURS(744, "24")}},
    {.method = "GET", .path = M "circuit-breakers", .reply = "[Breaker]"},
    {.method = "GET", .path = M "circuit-breakers/{provider}", .reply = "[BreakerHistory]"},
    {.method = "GET",
     .path = M "providers/comparison",
     .reply = "Comparison",
     .params = {HOURS(744, "24"), RANK("requests")}},
    {.method = "GET",
     .path = M "latency/{provider}/{model}",
     .reply = "Latency",
     .params = {{.name = "percentiles",
                 .type = PARAM_PERCENTILES,
                 .fallback = "50,95,99",
                 .summary = "up to 16 numbers from 0 to 100 with commas between; each is a member `pN`"},
                HOURS(744, "24")}},
    {.method = "GET",
     .path = M "latency-trends/{provider}",
     .reply = "LatencyTrends",
     .params = {HOURS(744, "24")}},
    {.method = "GET",
     .path = M "anomalies",
     .reply = "Anomalies",
     .params =
         {HOURS(9600, "24"), CHOICE("severity", "warning critical", NULL, "of this severity alone"),
          CHOICE("type",
                 "cost_spike token_spike latency_spike error_spike traffic_spike traffic_drop latency_drift",
                 NULL, "of this type alone"),
          NAMED("provider", "of this provider alone")}},
    {.method = "GET",
     .path = M "trial-analytics",
     .reply = "Trials",
     .params = {DAYS(3660, NULL, "trials that began in the last days; without it, all")}},
    {.method = "GET",
     .path = M "cost-analysis",
     .reply = "Cost",
     .params = {DAYS(366, "7", "how many days (UTC), today included"),
                CHOICE("by", "provider model tenant key day", NULL,
                       "`tenant` or `key` adds a list of who spent most, from the ledger"),
                LIMIT(10000, "100"), SINCE_START}},
    {.method = "GET",
     .path = M "error-rates",
     .reply = "ErrorRates",
     .params = {HOURS(744, "24"), SINCE_START}},
    {.method = "GET",
     .path = M "token-efficiency/{provider}/{model}",
     .reply = "TokenEfficiency",
     .params = {DAYS(366, "7", "how many times 24 hours, the hour that runs included")}},
    {.method = "GET", .path = M "events", .reply = "Events", .params = EVENT_PARAMS},

    {.method = "GET", .path = A "events", .reply = "Events", .params = EVENT_PARAMS},
    {.method = "POST",
     .path = A "events",
     .reply = "LifeReply",
     .body = &BODY_LIFE,
     .status = 201,
     .params = {DRY_RUN}},
    {.method = "GET",
     .path = A "slow-queries",
     .reply = "SlowQueries",
     .params = {SINCE, NAMED("label", "of this statement alone"), LIMIT(1000, "100")}},
    {.method = "GET",
     .path = A "audit",
     .reply = "Audit",
     .params = {SINCE, NAMED("action", "such as `tenant.create`"),
                TEXT("subject", API_SUBJECT_MAX, "such as `acme`"), LIMIT(1000, "100")}},
    {.method = "GET", .path = A "audit/verify", .reply = "AuditProof"},
    {.method = "POST", .path = A "reload", .reply = "o", .body = &BODY_REASON},
    {.method = "GET", .path = A "config", .reply = "Config"},
    {.method = "POST", .path = A "aggregate", .reply = "o", .body = &BODY_AGGREGATE, .params = {DRY_RUN}},
    {.method = "POST", .path = A "reconcile", .reply = "o", .body = &BODY_RECONCILE, .params = {DRY_RUN}},
    {.method = "POST",
     .path = A "breakers/{provider/model}",
     .reply = "x",
     .body = &BODY_BREAKER,
     .params = {DRY_RUN}},
    {.method = "GET", .path = A "providers", .reply = "x"},
    {.method = "GET", .path = A "providers/{name}", .reply = "o"},
    {.method = "PATCH",
     .path = A "providers/{name}",
     .reply = "o",
     .body = &BODY_PROVIDER,
     .params = {DRY_RUN}},
    {.method = "POST", .path = A "providers/{name}/probe", .reply = "o", .body = &BODY_REASON},
    {.method = "GET", .path = A "sim", .reply = "o"},
    {.method = "GET", .path = A "tenants", .reply = "o"},
    {.method = "POST",
     .path = A "tenants",
     .reply = "o",
     .body = &BODY_TENANT_NEW,
     .status = 201,
     .params = {DRY_RUN}},
    {.method = "GET", .path = A "tenants/{id}", .reply = "o"},
    {.method = "PATCH", .path = A "tenants/{id}", .reply = "o", .body = &BODY_TENANT, .params = {DRY_RUN}},
    {.method = "DELETE", .path = A "tenants/{id}", .reply = "o", .params = {DRY_RUN, REASON}},
    {.method = "GET", .path = A "keys", .reply = "o", .params = {NAMED("tenant", "of this tenant alone")}},
    {.method = "POST",
     .path = A "keys",
     .reply = "o",
     .body = &BODY_KEY_NEW,
     .status = 201,
     .params = {DRY_RUN}},
    {.method = "POST",
     .path = A "keys/{tenant}/{id}/rotate",
     .reply = "o",
     .body = &BODY_KEY_ROTATE,
     .params = {DRY_RUN}},
    {.method = "PATCH", .path = A "keys/{tenant}/{id}", .reply = "o", .body = &BODY_KEY, .params = {DRY_RUN}},
    {.method = "DELETE", .path = A "keys/{tenant}/{id}", .reply = "o", .params = {DRY_RUN, REASON}},
    {.method = "GET", .path = A "plans", .reply = "o"},
    {.method = "GET", .path = A "plans/{id}", .reply = "o"},
    {.method = "PUT", .path = A "plans/{id}", .reply = "o", .body = &BODY_PLAN, .params = {DRY_RUN}},
    {.method = "DELETE", .path = A "plans/{id}", .reply = "o", .params = {DRY_RUN, REASON}},
    {.method = "GET", .path = A "budgets", .reply = "o"},
    {.method = "GET", .path = A "budgets/{account}", .reply = "o"},
    {.method = "PUT", .path = A "budgets/{account}", .reply = "o", .body = &BODY_BUDGET, .params = {DRY_RUN}},
    {.method = "POST",
     .path = A "budgets/{account}",
     .reply = "o",
     .body = &BODY_BUDGET_DEED,
     .params = {DRY_RUN}},
    {.method = "DELETE", .path = A "budgets/{account}", .reply = "o", .params = {DRY_RUN, REASON}},
    {.method = "GET", .path = A "limits", .reply = "x"},
    {.method = "GET", .path = A "explain/{what}", .reply = "o"},
    {.method = "POST",
     .path = A "adjustments",
     .reply = "o",
     .body = &BODY_ADJUST,
     .status = 201,
     .params = {DRY_RUN}},
    {0},
};

#define STATE  " partial:b missing:s? stale:b"
#define PERIOD "timestamp:t from:t to:t" STATE
#define MEASURES                                                                                             \
    " total_requests:i successful_requests:i failed_requests:i error_rate:n? success_rate:n? "               \
    "avg_latency_ms:n?"                                                                                      \
    " input_tokens:i cached_tokens:i output_tokens:i total_tokens:i total_cost:n total_cost_nanousd:i"       \
    " unpriced_requests:i"
#define PERCENTILES " p50_ms:n? p95_ms:n? p99_ms:n?"
#define SPEND       MEASURES " share:n? cost_per_1k_requests:n? cost_per_1m_tokens:n?"
#define CHANGE      " previous_cost?:n previous_cost_nanousd?:i change?:n?"
#define HEALTH                                                                                               \
    "provider:s health_score:n? status:s last_updated:t? availability:n? error_rate:n? latency_p50_ms:n?"    \
    " latency_p95_ms:n? requests_per_s:n? attempts:i errors:i window_s:i computed_at:t?"
#define BREAKER "provider:s model:s state:s failure_count:i is_available:b last_updated:n?"

const struct api_schema API_SCHEMAS[] = {
    {"Error", "error:ErrorBody"},
    {"ErrorBody", "message:s type:s param:x code:s?"},
    {"Status", "status:s"},
    {"Ready", "status:s degraded?:[s]"},
    {"Version", "name:s version:s started:t uptime_s:i config_version:i workers:i"},
    {"MetricsHealth", "status:s timestamp:t uptime_s:i metrics:Summary"},
    {"Dashboard", "timestamp:t version:s uptime_s:i draining:b providers:[DashboardProvider] stores:[Store] "
                  "journal:o summary:Summary"},
    {"DashboardProvider", "name:s status:s availability:n? error_rate:n? health_score:n?"},
    {"Store", "name:s status:s lag_s:n down_since:t? down_s:i? error:s?"},
    {"Summary", "status:s total_providers:i healthy:i degraded:i unhealthy:i unknown:i avg_health_score:n? "
                "total_requests:i successful_requests:i failed_requests:i cancelled_requests:i "
                "rejected_requests:i requests_per_s:n? active_streams:i total_cost:n total_cost_nanousd:i"},
    {"ModelsStats", PERIOD " hours:i models:[ModelStats] total_models:i"},
    {"ModelStats", "provider:s model:s" MEASURES PERCENTILES " avg_ttft_ms:n?"},
    {"ProviderHealth", HEALTH},
    {"ProviderHealthTerms", HEALTH " terms:o? probe:o? nodes:i source:s"},
    {"ProviderError", "model:s? error:s timestamp:n? latency_ms:n? type:s? http_status:i? request_id:s?"},
    {"Realtime",
     PERIOD " hours:i providers:{RealtimeProvider} total_requests:i total_attempts:i total_cost:n "
            "total_cost_nanousd:i avg_health_score:n? active_streams:i"},
    {"RealtimeProvider", "health_score:n?" MEASURES},
    {"Hourly", PERIOD " provider:s hours:i stats:[HourStats] total:ProviderTotal"},
    {"HourStats", "hour:s" MEASURES PERCENTILES},
    {"ProviderTotal", "unique_models:i" MEASURES PERCENTILES},
    {"Breaker", BREAKER " …"},
    {"BreakerHistory", BREAKER " …"},
    {"Comparison", PERIOD " hours:i providers:[ComparedProvider] total_providers:i"},
    {"ComparedProvider", "provider:s" MEASURES PERCENTILES " avg_error_rate:n? unique_models:i"},
    {"Latency",
     PERIOD " provider:s model:s count:i avg:n? min:n? max:n? avg_ttft:n? p50?:n? p95?:n? p99?:n? …"},
    {"LatencyTrends", PERIOD " provider:s hours:i trends:[HourLatency] trend:Trend"},
    {"HourLatency", "hour:s count:i avg_ms:n?" PERCENTILES " avg_ttft_ms:n?"},
    {"Trend", "direction:s change:n? p95_ms_per_hour:n?"},
    {"Anomalies", "timestamp:t anomalies:[Anomaly] total_count:i critical_count:i warning_count:i "
                  "computed_at:t?" STATE},
    {"Anomaly",
     "type:s provider:s hour:s value:n? expected:n? severity:s score:n? ratio:n? scale:n? method:s? "
     "samples:i? at:t? active:b provisional:b"},
    {"Trials", "timestamp:t from:t? signups:i started_trial:i converted:i cancelled:i conversion_rate:n? "
               "activation_rate:n? trial_conversion_rate:n? avg_time_to_conversion_days:n? "
               "avg_time_to_start_days:n? active_users:ActiveUsers" STATE},
    {"ActiveUsers", "today:i? dau:i? wau:i? mau:i?"},
    {"Cost",
     "timestamp:t from?:t to?:t since?:t partial?:b missing?:s? stale?:b days?:i total_requests:i "
     "input_tokens:i output_tokens:i total_tokens:i total_cost:n total_cost_nanousd:i unpriced_requests:i "
     "successful_requests?:i failed_requests?:i error_rate?:n? success_rate?:n? avg_latency_ms?:n? "
     "cached_tokens?:i share:n? cost_per_1k_requests:n? cost_per_1m_tokens:n? providers:[ProviderCost] "
     "models:[ModelCost] by_day?:[DayCost] previous?:PreviousCost? tenants?:[TenantCost] keys?:[KeyCost] "
     "revenue?:n? revenue_plans?:n? revenue_payments?:n? margin?:n?"},
    {"ProviderCost", "provider:s total_requests:i total_cost:n total_cost_nanousd:i share:n?" CHANGE " …"},
    {"ModelCost",
     "provider:s model:s? total_requests:i total_cost:n total_cost_nanousd:i share:n?" CHANGE " …"},
    {"DayCost", "day:s" MEASURES},
    {"PreviousCost", "from:t to:t change:n?" MEASURES},
    {"TenantCost",
     "tenant:s total_requests:i total_tokens:i total_cost:n total_cost_nanousd:i share:n? revenue:n? "
     "margin:n?"},
    {"KeyCost", "tenant:s key:s total_requests:i total_tokens:i total_cost:n total_cost_nanousd:i share:n?"},
    {"ErrorRates", "timestamp:t from?:t to?:t since?:t partial?:b missing?:s? stale?:b hours?:i "
                   "models:[ModelErrors] providers?:[ProviderErrors]"},
    {"ModelErrors", "provider:s model:s? total_requests:i failed_requests:i error_rate:n?"},
    {"ProviderErrors", "provider:s total_requests:i failed_requests:i error_rate:n?"},
    {"TokenEfficiency",
     PERIOD " provider:s model:s days:i" MEASURES
            " reasoning_tokens:i avg_input_tokens:n? avg_output_tokens:n? output_input_ratio:n? "
            "cached_ratio:n? cost_per_request:n? cost_per_success:n? cost_per_1m_tokens:n? "
            "tokens_per_second:n?"},
    {"Events", "epoch:i next:i told:i dropped:i events:[Event]"},
    {"Event", "id:s at:t kind:s severity:s subject:s text:s node:s facts?:o"},
    {"LifeReply", "dry_run?:b was?:x status:s id:s tenant:s kind:s"},
    {"Config", "version:i path:s? options:[Option] providers:i models:i tenants:i keys:i"},
    {"Option", "path:s value:s origin:s live:b secret:b default:s type:s env:s? alias:s? text:s"},
    {"SlowQueries", "queries:[SlowQuery] count:i"},
    {"SlowQuery", "at:t label:s duration_ms:n sql:s"},
    {"Audit", "entries:[AuditEntry] count:i"},
    {"AuditEntry", "id:i at:t actor:s action:s subject:s detail:o? hash:s"},
    {"AuditProof", "intact:b entries:i first_broken_id:i? last_id:i? last_hash:s"},
    {0},
};
