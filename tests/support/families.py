# SPDX-License-Identifier: Apache-2.0
"""The families of docs/metrics.md as a table, and what statements and commands a store says that it was asked."""

import re
import threading
from collections import Counter

from support.process import ROOT

ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram|info) \| ([^|]*) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$")
GONE = re.compile(r"^\| `(\w+)` \| ([^|]+) \|$")


def documented():
    """({family: (type, labels in order, notes)}, {family that is not exposed: why})."""
    text = (ROOT / "docs/metrics.md").read_text()
    shown, _, absent = text.partition("\n## Not exposed\n")
    rows = {m[1]: (m[2], [x for x in m[4].strip().split(", ") if x], m[6]) for line in shown.splitlines() if (m := ROW.match(line))}
    return rows, {m[1]: m[2] for line in absent.splitlines() if (m := GONE.match(line))}


def sql_word(text):
    """(table, operation) of a statement that PostgreSQL normalised; None for what is about none of our tables."""
    flat = " ".join(text.lower().split())
    while (bare := re.sub(r"\([^()]*\)", "()", flat)) != flat:
        flat = bare
    if not re.match("(with|select|insert|update|delete|begin|commit|rollback)\\b", flat):
        return None
    operation = re.search(r"\b(select|insert|update|delete|begin|commit|rollback)\b", flat)
    table = re.search(r"\b(?:from|into|update) ([a-z_0-9]+)", flat)
    if not operation or "pg_" in flat:
        return None
    if operation[1] in ("begin", "commit", "rollback"):
        return "none", operation[1]
    return (table[1], operation[1]) if table else None


def statements(postgres):
    """What pg_stat_statements counted, by table and operation."""
    out = Counter()
    for text, calls in postgres.query("SELECT query, calls FROM pg_stat_statements"):
        word = sql_word(text)
        if word:
            out[word] += int(calls)
    return out


COMMANDS = {"get": {"hgetall", "hmget", "zrangebyscore", "lrange", "xrevrange"}, "scan": {"scan"}, "ttl": {"ttl"}, "time": {"time"},
            "ping": {"exists"}, "script": {"evalsha", "eval"}}


def commands(client):
    """What INFO commandstats counted, by purpose; scripts are batches, writes and leases together."""
    out = Counter()
    for line in client("INFO", "commandstats").decode().splitlines():
        found = re.match(r"cmdstat_(\w+):calls=(\d+)", line)
        for purpose, names in COMMANDS.items():
            if found and found[1] in names:
                out[purpose] += int(found[2])
    return out


class Watch(threading.Thread):
    """Every command that clients send, by MONITOR; what scripts call is left out."""

    def __init__(self, redis):
        super().__init__(daemon=True)
        self.client, self.count = redis.client(timeout=None), Counter()
        assert self.client("MONITOR") == b"OK"
        self.start()

    def run(self):
        try:
            while line := self.client.reader.readline():
                found = re.match(rb'\+[\d.]+ \[\d+ (?!lua)[^\]]*\] "(\w+)"', line)
                if found:
                    self.count[found[1].decode().lower()] += 1
        except (OSError, ValueError):
            pass  # the server has gone

    def seen(self):
        count = self.count.copy()
        return Counter({purpose: n for purpose, names in COMMANDS.items() if (n := sum(count[x] for x in names))})


# Every family that there has to be, with type and labels.
CATALOGUE = [
    ("http_requests_total", "counter", ["service", "method", "endpoint", "path", "status"]),
    ("http_request_duration_seconds", "histogram", ["service", "method", "endpoint", "path"]),
    ("http_request_errors_total", "counter", ["endpoint", "method"]),
    ("http_response_status_total", "counter", ["endpoint", "status"]),
    ("http_request_latency_avg_seconds", "gauge", ["endpoint"]),
    ("http_request_latency_p50_seconds", "gauge", ["endpoint"]),
    ("http_request_latency_p95_seconds", "gauge", ["endpoint"]),
    ("http_request_latency_p99_seconds", "gauge", ["endpoint"]),
    ("http_response_size_bytes", "histogram", ["method", "endpoint"]),
    ("model_inference_requests_total", "counter", ["provider", "model", "status"]),
    ("model_inference_duration_seconds", "histogram", ["provider", "model"]),
    ("model_requests_total", "counter", ["provider", "model", "status"]),
    ("model_errors_total", "counter", ["model"]),
    ("model_error_rate", "gauge", ["model"]),
    ("model_latency_avg_seconds", "gauge", ["model"]),
    ("provider_requests_total", "counter", ["provider"]),
    ("provider_errors_total", "counter", ["provider"]),
    ("provider_error_rate", "gauge", ["provider"]),
    ("provider_latency_avg_seconds", "gauge", ["provider"]),
    ("provider_latency_min_seconds", "gauge", ["provider"]),
    ("provider_latency_max_seconds", "gauge", ["provider"]),
    ("provider_latency_p95_seconds", "gauge", ["provider"]),
    ("provider_availability", "gauge", ["provider"]),
    ("provider_health_score", "gauge", ["provider"]),
    ("gatewayz_provider_health_score", "gauge", ["provider"]),
    ("tokens_used_total", "counter", ["provider", "model", "token_type"]),
    ("model_tokens_total", "counter", ["provider", "model", "type"]),
    ("aigateway_tokens_total", "counter", ["tenant_id", "provider", "model", "type"]),
    ("aigateway_tokens_subset_total", "counter", ["provider", "model", "kind"]),
    ("credits_used_total", "counter", ["provider", "model"]),
    ("model_cost_usd_total", "counter", ["provider", "model"]),
    ("aigateway_cost_usd_total", "counter", ["tenant_id", "provider", "model"]),
    ("gatewayz_cost_by_provider", "gauge", ["provider"]),
    ("aigateway_requests_total", "counter", ["tenant_id", "provider", "model", "status"]),
    ("aigateway_request_duration_seconds", "histogram", ["tenant_id", "provider", "model"]),
    ("aigateway_circuit_breaker_state", "gauge", ["provider"]),
    ("gatewayz_circuit_breaker_state", "gauge", ["provider", "state"]),
    ("circuit_breaker_state", "gauge", ["provider", "model", "state"]),
    ("circuit_breaker_failure_count", "gauge", ["provider", "model"]),
    ("aigateway_circuit_breaker_transitions_total", "counter", ["provider", "model", "to_state"]),
    ("aigateway_circuit_breaker_recovery_seconds", "histogram", ["provider"]),
    ("aigateway_rate_limit_hits_total", "counter", ["tenant_id"]),
    ("rate_limit_hits_total", "counter", ["limit_type"]),
    ("aigateway_cache_hits_total", "counter", ["tenant_id"]),
    ("aigateway_cache_misses_total", "counter", ["tenant_id"]),
    ("cache_hits_total", "counter", ["cache_type"]),
    ("cache_misses_total", "counter", ["cache_type"]),
    ("cache_total", "counter", ["cache_type"]),
    ("cache_hit_rate", "gauge", []),
    ("aigateway_cache_size_bytes", "gauge", ["cache_type"]),
    ("aigateway_cache_evictions_total", "counter", ["cache_type"]),
    ("aigateway_active_streams", "gauge", []),
    ("aigateway_provider_errors_total", "counter", ["provider", "error_type"]),
    ("aigateway_budget_usage_ratio", "gauge", ["tenant_id"]),
    ("aigateway_budget_limit_usd", "gauge", ["tenant_id"]),
    ("aigateway_budget_rejections_total", "counter", ["tenant_id"]),
    ("aigateway_time_to_first_token_seconds", "histogram", ["provider", "model"]),
    ("aigateway_time_per_output_token_seconds", "histogram", ["provider", "model"]),
    ("aigateway_streams_total", "counter", ["provider", "model", "outcome"]),
    ("aigateway_retries_total", "counter", ["provider", "model", "reason"]),
    ("aigateway_failovers_total", "counter", ["from_provider", "to_provider", "reason"]),
    ("aigateway_model_selections_total", "counter", ["provider", "model", "tier"]),
    ("database_query_total", "counter", ["table", "operation", "status"]),
    ("database_query_duration_seconds", "histogram", ["table", "operation"]),
    ("db_queries_total", "counter", []),
    ("db_query_latency_avg_seconds", "gauge", []),
    ("active_database_connections", "gauge", []),
    ("database_connections_max", "gauge", []),
    ("redis_operations_total", "counter", ["operation", "status"]),
    ("redis_operation_duration_seconds", "histogram", ["operation"]),
    ("redis_connection_failures_total", "counter", []),
    ("external_api_calls_total", "counter", ["service"]),
    ("external_api_errors_total", "counter", ["service"]),
    ("task_duration_seconds", "histogram", ["status", "priority"]),
    ("task_queue_depth", "gauge", ["priority"]),
    ("gpu_utilization_percent", "gauge", ["device", "model"]),
    ("trial_signups_total", "counter", []),
    ("trial_conversions_total", "counter", []),
    ("active_subscriptions_total", "gauge", ["tier"]),
    ("user_credits_remaining", "gauge", ["user_id"]),
    ("gatewayz_uptime_seconds", "gauge", []),
    ("process_cpu_seconds_total", "counter", []),
    ("process_resident_memory_bytes", "gauge", []),
    ("process_start_time_seconds", "gauge", []),
    ("process_open_fds", "gauge", []),
    ("process_max_fds", "gauge", []),
    ("aigateway_memory_limit_bytes", "gauge", []),
    ("aigateway_cpu_limit_cores", "gauge", []),
    ("aigateway_build_info", "info", ["version", "revision", "semconv"]),
    ("aigateway_telemetry_exported_total", "counter", ["pipeline"]),
    ("aigateway_telemetry_dropped_total", "counter", ["pipeline", "reason"]),
    ("aigateway_telemetry_queue_length", "gauge", ["pipeline"]),
    ("aigateway_telemetry_last_success_timestamp_seconds", "gauge", ["pipeline"]),
    ("aigateway_metric_overflow_total", "counter", ["family"]),
    ("aigateway_pii_redactions_total", "counter", ["entity", "sink"]),
    ("aigateway_anomaly_active", "gauge", ["type", "provider"]),
    ("gen_ai_client_operation_duration_seconds", "histogram", ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model", "error_type"]),
    ("gen_ai_client_token_usage", "histogram", ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model", "gen_ai_token_type"]),
    ("gen_ai_server_request_duration_seconds", "histogram", ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model", "error_type"]),
    ("gen_ai_server_time_to_first_token_seconds", "histogram", ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model"]),
    ("gen_ai_server_time_per_output_token_seconds", "histogram", ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model"]),
]
