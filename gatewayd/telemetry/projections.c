/* SPDX-License-Identifier: Apache-2.0 */
/* The tables; state families, which read a struct of the process instead of cells, are in the files beside this. Api thread. */
#include "gatewayd/telemetry/projections_priv.h"

#include <stdio.h>

#define WORD(words, member) (offsetof(struct words, member) / sizeof(uint64_t))

static const struct kind_row KINDS[] = {
    [KIND_HTTP] = {{{"method", PART_LABEL}, {"endpoint", PART_LABEL}, {"status", PART_NUMBER}}, 0, 1},
    [KIND_ROUTE] = {{{"method", PART_LABEL}, {"endpoint", PART_LABEL}},
                    WORD(route_words, times.n),
                    N_http_seconds},
    [KIND_ENDPOINT] = {{{"endpoint", PART_LABEL}}, 0, 1},
    [KIND_REQUEST] = {{{"tenant_id", PART_LABEL},
                       {"provider", PART_LABEL},
                       {"model", PART_LABEL},
                       {"status", PART_FACT_STATUS}},
                      0,
                      1},
    [KIND_REQUEST_TIME] = {{{"tenant_id", PART_LABEL}, {"provider", PART_LABEL}, {"model", PART_LABEL}},
                           WORD(request_time_words, times.n),
                           N_llm_seconds_coarse},
    [KIND_SELECTION] = {{{"provider", PART_LABEL}, {"model", PART_LABEL}, {"tier", PART_TIER}}, 0, 1},
    [KIND_USAGE] = {{{"tenant_id", PART_LABEL}, {"provider", PART_LABEL}, {"model", PART_LABEL}},
                    WORD(usage_words, attempts),
                    1},
    [KIND_ATTEMPT] = {{{"provider", PART_LABEL}, {"model", PART_LABEL}},
                      WORD(attempt_words, status),
                      STATUS_REJECTED},
    [KIND_STREAM] = {{{"provider", PART_LABEL}, {"model", PART_LABEL}, {"outcome", PART_STREAM_END}}, 0, 1},
    [KIND_TASK] = {{{"status", PART_FACT_STATUS}, {"priority", PART_PRIORITY}},
                   WORD(task_words, times.n),
                   N_task_seconds},
    [KIND_ATTEMPT_ERROR] = {{{"provider", PART_LABEL}, {"error_type", PART_ERROR_TYPE}}, 0, 1},
    [KIND_RETRY] = {{{"provider", PART_LABEL}, {"model", PART_LABEL}, {"reason", PART_ERROR_TYPE}}, 0, 1},
    [KIND_FAILOVER] =
        {{{"from_provider", PART_LABEL}, {"to_provider", PART_LABEL}, {"reason", PART_ERROR_TYPE}}, 0, 1},
    [KIND_PROVIDER] = {{{"provider", PART_LABEL}}, 0, 1},
    [KIND_MODEL] = {{{"model", PART_LABEL}}, 0, 1},
#define GENAI_LABELS                                                                                         \
    {"gen_ai_provider_name", PART_LABEL}, {"gen_ai_request_model", PART_LABEL},                              \
    {                                                                                                        \
        "gen_ai_response_model", PART_LABEL                                                                  \
    }
#define GENAI_KIND(last, form_, words, member, n)                                                            \
    {                                                                                                        \
        {GENAI_LABELS, {last, form_}, {"gen_ai_operation_name", PART_GENAI_OPERATION}}, WORD(words, member), \
            n                                                                                                \
    }
    [KIND_GENAI_CALL] = GENAI_KIND("error_type", PART_GENAI_ERROR, genai_words, times.n, N_otel_seconds),
    [KIND_GENAI_REQUEST] = GENAI_KIND("error_type", PART_GENAI_ERROR, genai_words, times.n, N_otel_seconds),
    [KIND_GENAI_TOKENS] =
        GENAI_KIND("gen_ai_token_type", PART_GENAI_TOKEN, genai_token_words, tokens.n, N_otel_tokens),
    [KIND_GENAI_STREAM] = {{GENAI_LABELS, {NULL, PART_NONE}, {"gen_ai_operation_name", PART_GENAI_OPERATION}},
                           WORD(genai_stream_words, ttft.n),
                           N_otel_ttft},
};
_Static_assert(ARRAY_LEN(KINDS) == KIND_COUNT, "every kind names its parts");

const struct kind_row *kind_row(enum facts_kind k)
{
    return &KINDS[k];
}

struct span part_text(struct lines *l, enum part_form form, unsigned value, char tmp[8])
{
    switch (form) {
    case PART_LABEL:
        return lines_text(l, value);
    case PART_NUMBER:
        return span_make(tmp, (size_t)snprintf(tmp, 8, "%u", value & 0xffff));
    case PART_FACT_STATUS:
        return span_of(fact_status_name((enum fact_status)value));
    case PART_STREAM_END:
        return span_of(stream_end_name((enum stream_end)value));
    case PART_ERROR_TYPE:
        return span_of(error_type_name((enum error_type)value));
    case PART_TIER:
        return span_of(tier_name((enum tier)value));
    case PART_PRIORITY:
        return span_make(tmp, (size_t)snprintf(tmp, 8, "p%u", value & 0xff));
    case PART_GENAI_OPERATION:
        return span_of(genai_operation_name((enum operation)(value >> 8)));
    case PART_GENAI_ERROR: /* none is no label */
        return span_of((value & 0xff) ? error_type_name((enum error_type)((value & 0xff) - 1)) : "");
    case PART_GENAI_TOKEN:
        return span_of(token_type_name((enum token_type)(value & 0xff)));
    default:
        return SPAN_LIT("");
    }
}

static const char *status_child(unsigned i)
{
    return fact_status_name((enum fact_status)i);
}
static const char *token_child(unsigned i)
{
    return token_type_name((enum token_type)i);
}
static const char *subset_child(unsigned i)
{
    return token_subset_name((enum token_subset)i);
}

/* ---- state families ---- */

void sample_u64(struct lines *l, uint64_t v)
{
    lines_series(l, NULL);
    lines_number(l, LINES_COUNT, v);
}

void sample_us(struct lines *l, uint64_t us)
{
    lines_series(l, NULL);
    lines_number(l, LINES_US, us);
}

void labelled_u64(struct lines *l, const char *value, uint64_t v)
{
    struct span s = span_of(value);

    lines_series(l, &s);
    lines_number(l, LINES_COUNT, v);
}

static void state_active_streams(struct lines *l, const struct scrape *s)
{
    uint64_t n = 0;

    for (size_t w = 0; w < s->snapshot->n_workers; w++)
        n += cells_load(&s->snapshot->workers[w]->active_streams);
    sample_u64(l, n);
}

/* A label of the family itself is folded. */
static bool is_overflow(const struct kind_row *kind, const struct metric_row *row, cells_key key)
{
    for (unsigned i = 0; i < KIND_PARTS; i++)
        for (size_t j = 0; kind->parts[i].form == PART_LABEL && j < row->n_labels; j++)
            if (strcmp(kind->parts[i].name, row->labels[j]) == 0 && cells_part(key, i) == cells_overflow())
                return true;
    return false;
}

/* Observations in cells with a folded label. */
static uint64_t overflow_of(struct snapshot *s, enum metric m)
{
    enum facts_kind kind = projection(m)->kind;
    const struct kind_row *row = kind_row(kind);
    const struct snapshot_kind *k = snapshot_kind(s, kind);
    uint64_t n = 0;

    for (size_t i = 0; i < k->n; i++)
        if (is_overflow(row, metric_row(m), k->keys[i]))
            for (unsigned w = 0; w < row->observed_n; w++)
                n += snapshot_words(k, i)[row->observed_word + w];
    return n;
}

static void state_overflow(struct lines *l, const struct scrape *s)
{
    for (int m = 0; m < METRIC_COUNT; m++)
        if (projection((enum metric)m)->measure != MEASURE_STATE &&
            metric_is_shown(metric_row((enum metric)m), s->state->profiles))
            labelled_u64(l, metric_row((enum metric)m)->name, overflow_of(s->snapshot, (enum metric)m));
    overflow_of_limits(l, s);
}

/* ---- the table ---- */

#define COUNT(k)                   .kind = KIND_##k, .measure = MEASURE_WORDS
#define WORDS_OF(k, words, member) COUNT(k), .word = WORD(words, member)
#define CHILDREN(n, name)          .n_children = (n), .child_name = (name)
#define HISTOGRAM(k, words, member)                                                                          \
    .kind = KIND_##k, .measure = MEASURE_HISTOGRAM, .word = WORD(words, member)
#define EXEMPLARS(cell, member) .exemplars_offset = offsetof(struct cell, member)
#define WINDOW(k, member)                                                                                    \
    .kind = KIND_##k, .measure = MEASURE_WINDOW, .window_offset = offsetof(struct window_stats, member)
#define STATE(fn) .measure = MEASURE_STATE, .state = (fn)

static const struct projection PROJECTIONS[METRIC_COUNT] = {
    [METRIC_http_requests_total] = {COUNT(HTTP)},
    [METRIC_http_request_duration_seconds] = {HISTOGRAM(ROUTE, route_words, times),
                                              EXEMPLARS(route_cell, exemplars)},
    [METRIC_http_response_size_bytes] = {HISTOGRAM(ROUTE, route_words, size)},
    [METRIC_http_request_errors_total] = {COUNT(HTTP), .from_status = 500},
    [METRIC_http_response_status_total] = {COUNT(HTTP)},
    [METRIC_http_request_latency_avg_seconds] = {WINDOW(ENDPOINT, avg)},
    [METRIC_http_request_latency_p50_seconds] = {WINDOW(ENDPOINT, p50)},
    [METRIC_http_request_latency_p95_seconds] = {WINDOW(ENDPOINT, p95)},
    [METRIC_http_request_latency_p99_seconds] = {WINDOW(ENDPOINT, p99)},
    [METRIC_model_inference_requests_total] = {WORDS_OF(ATTEMPT, attempt_words, status),
                                               CHILDREN(STATUS_REJECTED, status_child)},
    [METRIC_model_inference_duration_seconds] = {HISTOGRAM(ATTEMPT, attempt_words, times),
                                                 EXEMPLARS(attempt_cell, exemplars)},
    [METRIC_model_requests_total] = {WORDS_OF(ATTEMPT, attempt_words, status),
                                     CHILDREN(STATUS_REJECTED, status_child)},
    [METRIC_model_errors_total] = {WORDS_OF(ATTEMPT, attempt_words, status[STATUS_ERROR])},
    [METRIC_model_error_rate] = {WINDOW(MODEL, error_rate)},
    [METRIC_model_latency_avg_seconds] = {WINDOW(MODEL, avg)},
    [METRIC_provider_requests_total] = {WORDS_OF(ATTEMPT, attempt_words, status),
                                        .n_children = STATUS_REJECTED},
    [METRIC_provider_errors_total] = {WORDS_OF(ATTEMPT, attempt_words, status[STATUS_ERROR])},
    [METRIC_provider_latency_avg_seconds] = {WINDOW(PROVIDER, avg)},
    [METRIC_provider_latency_min_seconds] = {WINDOW(PROVIDER, min)},
    [METRIC_provider_latency_max_seconds] = {WINDOW(PROVIDER, max)},
    [METRIC_provider_latency_p95_seconds] = {WINDOW(PROVIDER, p95)},
    [METRIC_tokens_used_total] = {WORDS_OF(ATTEMPT, attempt_words, tokens),
                                  CHILDREN(TOKEN_TYPE_COUNT, token_child)},
    [METRIC_model_tokens_total] = {WORDS_OF(ATTEMPT, attempt_words, tokens),
                                   CHILDREN(TOKEN_TYPE_COUNT, token_child)},
    [METRIC_aigateway_tokens_total] = {WORDS_OF(USAGE, usage_words, tokens),
                                       CHILDREN(TOKEN_TYPE_COUNT, token_child)},
    [METRIC_aigateway_tokens_subset_total] = {WORDS_OF(ATTEMPT, attempt_words, subset),
                                              CHILDREN(SUBSET_COUNT, subset_child)},
    [METRIC_credits_used_total] = {WORDS_OF(ATTEMPT, attempt_words, cost_nanousd), .unit = LINES_NANOUSD},
    [METRIC_model_cost_usd_total] = {WORDS_OF(ATTEMPT, attempt_words, cost_nanousd), .unit = LINES_NANOUSD},
    [METRIC_aigateway_cost_usd_total] = {WORDS_OF(USAGE, usage_words, cost_nanousd), .unit = LINES_NANOUSD},
    [METRIC_gatewayz_cost_by_provider] = {WORDS_OF(ATTEMPT, attempt_words, cost_nanousd),
                                          .unit = LINES_NANOUSD},
    [METRIC_gatewayd_unpriced_attempts_total] = {WORDS_OF(ATTEMPT, attempt_words, unpriced)},
    [METRIC_aigateway_provider_errors_total] = {COUNT(ATTEMPT_ERROR)},
    [METRIC_aigateway_time_to_first_token_seconds] = {HISTOGRAM(ATTEMPT, attempt_words, ttft),
                                                      EXEMPLARS(attempt_cell, ttft_exemplars)},
    [METRIC_aigateway_time_per_output_token_seconds] = {HISTOGRAM(ATTEMPT, attempt_words, tpot)},
    [METRIC_aigateway_streams_total] = {COUNT(STREAM)},
    [METRIC_aigateway_retries_total] = {COUNT(RETRY)},
    [METRIC_aigateway_failovers_total] = {COUNT(FAILOVER)},
    [METRIC_gen_ai_client_operation_duration_seconds] = {HISTOGRAM(GENAI_CALL, genai_words, times)},
    [METRIC_gen_ai_client_token_usage] = {HISTOGRAM(GENAI_TOKENS, genai_token_words, tokens)},
    [METRIC_gen_ai_server_time_to_first_token_seconds] = {HISTOGRAM(GENAI_STREAM, genai_stream_words, ttft)},
    [METRIC_gen_ai_server_time_per_output_token_seconds] = {HISTOGRAM(GENAI_STREAM, genai_stream_words,
                                                                      tpot)},
    [METRIC_gen_ai_server_request_duration_seconds] = {HISTOGRAM(GENAI_REQUEST, genai_words, times)},
    [METRIC_aigateway_requests_total] = {COUNT(REQUEST)},
    [METRIC_aigateway_request_duration_seconds] = {HISTOGRAM(REQUEST_TIME, request_time_words, times),
                                                   EXEMPLARS(request_time_cell, exemplars)},
    [METRIC_aigateway_model_selections_total] = {COUNT(SELECTION)},
    [METRIC_aigateway_active_streams] = {STATE(state_active_streams)},
    [METRIC_task_duration_seconds] = {HISTOGRAM(TASK, task_words, times)},
    [METRIC_task_queue_depth] = {STATE(state_task_depth)},
    [METRIC_gatewayd_queue_depth] = {STATE(state_queue_depth)},
    [METRIC_gatewayd_queue_refusals_total] = {STATE(state_queue_refusals)},
    [METRIC_gatewayd_provider_in_flight] = {STATE(state_in_flight)},
    [METRIC_gatewayd_provider_slots] = {STATE(state_slots)},
    [METRIC_gatewayd_open_requests] = {STATE(state_open_requests)},
    [METRIC_gatewayd_buffered_bytes] = {STATE(state_buffered)},
    [METRIC_aigateway_circuit_breaker_state] = {STATE(state_breaker_worst)},
    [METRIC_gatewayz_circuit_breaker_state] = {STATE(state_breaker_provider)},
    [METRIC_circuit_breaker_state] = {STATE(state_breaker_model)},
    [METRIC_circuit_breaker_failure_count] = {STATE(state_breaker_failures)},
    [METRIC_aigateway_circuit_breaker_transitions_total] = {STATE(state_breaker_transitions)},
    [METRIC_aigateway_circuit_breaker_recovery_seconds] = {STATE(state_breaker_recovery)},
    [METRIC_provider_availability] = {STATE(state_availability)},
    [METRIC_provider_error_rate] = {STATE(state_error_rate)},
    [METRIC_provider_health_score] = {STATE(state_score)},
    [METRIC_gatewayz_provider_health_score] = {STATE(state_score_ratio)},
    [METRIC_gatewayd_provider_probes_total] = {STATE(state_probes)},
    [METRIC_aigateway_anomaly_active] = {STATE(state_anomalies)},
    [METRIC_gatewayz_uptime_seconds] = {STATE(state_uptime)},
    [METRIC_process_cpu_seconds_total] = {STATE(state_cpu)},
    [METRIC_process_resident_memory_bytes] = {STATE(state_resident)},
    [METRIC_process_start_time_seconds] = {STATE(state_started)},
    [METRIC_process_open_fds] = {STATE(state_open_fds)},
    [METRIC_process_max_fds] = {STATE(state_max_fds)},
    [METRIC_aigateway_memory_limit_bytes] = {STATE(state_memory_limit)},
    [METRIC_aigateway_cpu_limit_cores] = {STATE(state_cpu_limit)},
    [METRIC_aigateway_build_info] = {STATE(state_build)},
    [METRIC_gatewayd_config_reloads_total] = {STATE(state_reloads)},
    [METRIC_gatewayd_config_version] = {STATE(state_config_version)},
    [METRIC_gatewayd_connections] = {STATE(state_connections)},
    [METRIC_gatewayd_connections_refused_total] = {STATE(state_connections_refused)},
    [METRIC_gatewayd_guard_refusals_total] = {STATE(state_guard_refusals)},
    [METRIC_gatewayd_loop_turns_total] = {STATE(state_loop_turns)},
    [METRIC_gatewayd_loop_empty_turns_total] = {STATE(state_loop_empty)},
    [METRIC_gatewayd_loop_busy_seconds_total] = {STATE(state_loop_busy)},
    [METRIC_gatewayd_loop_turn_max_seconds] = {STATE(state_loop_max)},
    [METRIC_gatewayd_journal_records_total] = {STATE(state_journal_records)},
    [METRIC_gatewayd_journal_written_bytes_total] = {STATE(state_journal_bytes)},
    [METRIC_gatewayd_journal_read_records_total] = {STATE(state_journal_read)},
    [METRIC_gatewayd_journal_used_bytes] = {STATE(state_journal_used)},
    [METRIC_gatewayd_journal_limit_bytes] = {STATE(state_journal_limit)},
    [METRIC_gatewayd_journal_refusals_total] = {STATE(state_journal_refusals)},
    [METRIC_gatewayd_store_lag_seconds] = {STATE(state_store_lag)},
    [METRIC_gatewayd_store_up] = {STATE(state_store_up)},
    [METRIC_gatewayd_store_batches_total] = {STATE(state_store_batches)},
    [METRIC_gatewayd_store_records_total] = {STATE(state_store_records)},
    [METRIC_gatewayd_store_batch_records] = {STATE(state_store_last_records)},
    [METRIC_gatewayd_store_errors_total] = {STATE(state_store_errors)},
    [METRIC_gatewayd_store_duplicates_total] = {STATE(state_store_duplicates)},
    [METRIC_gatewayd_store_gaps_total] = {STATE(state_store_gaps)},
    [METRIC_gatewayd_book_drift] = {STATE(state_book_drift)},
    [METRIC_gatewayd_aggregation_last_success_timestamp_seconds] = {STATE(state_aggregation_success)},
    [METRIC_gatewayd_aggregation_failures_total] = {STATE(state_aggregation_failures)},
    [METRIC_gatewayd_aggregation_backlog] = {STATE(state_aggregation_lag)},
    [METRIC_gatewayd_degraded] = {STATE(state_degraded)},
    [METRIC_aigateway_rate_limit_hits_total] = {STATE(state_limited)},
    [METRIC_rate_limit_hits_total] = {STATE(state_limit_types)},
    [METRIC_gatewayd_rate_limit_shadow_hits_total] = {STATE(state_shadow)},
    [METRIC_aigateway_budget_usage_ratio] = {STATE(state_budget_usage)},
    [METRIC_aigateway_budget_limit_usd] = {STATE(state_budget_limit)},
    [METRIC_aigateway_budget_rejections_total] = {STATE(state_budget_rejections)},
    [METRIC_gatewayd_budget_exhaustion_timestamp_seconds] = {STATE(state_budget_exhaustion)},
    [METRIC_gatewayd_budget_overshoot_bound_usd] = {STATE(state_overshoot)},
    [METRIC_aigateway_telemetry_exported_total] = {STATE(state_exported)},
    [METRIC_aigateway_telemetry_dropped_total] = {STATE(state_dropped)},
    [METRIC_aigateway_telemetry_queue_length] = {STATE(state_queued)},
    [METRIC_aigateway_telemetry_last_success_timestamp_seconds] = {STATE(state_delivered)},
    [METRIC_database_query_total] = {STATE(state_db_queries)},
    [METRIC_database_query_duration_seconds] = {STATE(state_db_times)},
    [METRIC_db_queries_total] = {STATE(state_db_total)},
    [METRIC_db_query_latency_avg_seconds] = {STATE(state_db_latency)},
    [METRIC_active_database_connections] = {STATE(state_db_active)},
    [METRIC_database_connections_max] = {STATE(state_db_max)},
    [METRIC_redis_operations_total] = {STATE(state_redis_operations)},
    [METRIC_redis_operation_duration_seconds] = {STATE(state_redis_times)},
    [METRIC_redis_connection_failures_total] = {STATE(state_redis_unreachable)},
    [METRIC_external_api_calls_total] = {STATE(state_external_calls)},
    [METRIC_external_api_errors_total] = {STATE(state_external_errors)},
    [METRIC_trial_signups_total] = {STATE(state_trials)},
    [METRIC_trial_conversions_total] = {STATE(state_conversions)},
    [METRIC_active_subscriptions_total] = {STATE(state_subscriptions)},
    [METRIC_aigateway_metric_overflow_total] = {STATE(state_overflow)},
};

const struct projection *projection(enum metric m)
{
    return &PROJECTIONS[m];
}
