/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/telemetry/facts.h"

#include "gatewayd/telemetry/exposition.h"
#include "libshared/catalog/metrics.h"
#include "tests/unit/gatewayd/telemetry/two_workers.h"

#include "tests/unit/cm.h"

/* One request that fails on provider `bad` and is answered by `good`. */
static void add_failover(struct facts *f, const char *bad, const char *good)
{
    struct fact_request rq = a_request("acme", good, "m2");
    struct fact_attempt a[2] = {an_attempt(bad, "m1"), an_attempt(good, "m2")};

    rq.attempts = 2;
    a[0].status = STATUS_ERROR;
    a[0].error = ERR_UP_TIMEOUT;
    a[0].usage = (struct usage){0};
    a[0].cost_nanousd = 0;
    a[1].number = 2;
    a[1].from_provider = a[0].provider;
    a[1].retry_reason = ERR_UP_TIMEOUT;
    facts_add(f, &rq, a);
}

static void test_a_failover_is_one_request_and_two_attempts(void **unused)
{
    const struct buf *b;

    (void)unused;
    add_failover(workers[0], "a", "b");
    b = scrape(EXPOSITION_TEXT_004);
    assert_true(
        value_of(
            b,
            "aigateway_requests_total{tenant_id=\"acme\",provider=\"b\",model=\"m2\",status=\"success\"}") ==
        1);
    assert_true(sum_of(b, "aigateway_requests_total", NULL) == 1);
    assert_true(value_of(b, "provider_requests_total{provider=\"a\"}") == 1);
    assert_true(value_of(b, "provider_errors_total{provider=\"a\"}") == 1);
    assert_true(value_of(b, "provider_requests_total{provider=\"b\"}") == 1);
    assert_true(value_of(b, "provider_errors_total{provider=\"b\"}") == 0);
    assert_true(value_of(b, "aigateway_provider_errors_total{provider=\"a\",error_type=\"timeout\"}") == 1);
    assert_true(
        value_of(b, "aigateway_failovers_total{from_provider=\"a\",to_provider=\"b\",reason=\"timeout\"}") ==
        1);
    assert_true(
        value_of(b, "aigateway_model_selections_total{provider=\"b\",model=\"m2\",tier=\"fallback\"}") == 1);
    assert_true(sum_of(b, "aigateway_retries_total", NULL) == 0);
}

static void test_another_attempt_at_the_same_provider_is_a_retry(void **unused)
{
    struct fact_request rq = a_request("acme", "a", "m");
    struct fact_attempt a[2] = {an_attempt("a", "m"), an_attempt("a", "m")};
    const struct buf *b;

    (void)unused;
    rq.attempts = 2;
    a[0].status = STATUS_ERROR;
    a[0].error = ERR_UP_OVERLOADED;
    a[1].number = 2;
    a[1].retry_reason = ERR_UP_OVERLOADED;
    facts_add(workers[0], &rq, a);
    b = scrape(EXPOSITION_TEXT_004);
    assert_true(value_of(b, "aigateway_retries_total{provider=\"a\",model=\"m\",reason=\"overloaded\"}") ==
                1);
    assert_true(
        value_of(b, "aigateway_model_selections_total{provider=\"a\",model=\"m\",tier=\"primary\"}") == 1);
    assert_true(sum_of(b, "aigateway_failovers_total", NULL) == 0);
}

static void add_mixed(unsigned n)
{
    static const char *const PROVIDERS[] = {"openai", "anthropic", "groq"};
    static const char *const MODELS[] = {"small", "large", "shared", "other"};
    static const char *const TENANTS[] = {"acme", "beta", "gamma", "delta", "epsilon"};

    for (unsigned i = 0; i < n; i++) {
        struct fact_request rq = a_request(TENANTS[i % 5], PROVIDERS[i % 3], MODELS[i % 4]);
        struct fact_attempt a = an_attempt(PROVIDERS[i % 3], MODELS[i % 4]);

        a.status = rq.status = i % 7 == 0 ? STATUS_ERROR : i % 11 == 0 ? STATUS_CANCELLED : STATUS_SUCCESS;
        a.error = rq.error = a.status == STATUS_ERROR ? ERR_UP_SERVER : ERR_OK;
        rq.http_status = a.status == STATUS_ERROR ? 502 : a.status == STATUS_CANCELLED ? 499 : 200;
        a.usage.input = i * 3;
        a.usage.output = i;
        a.cost_nanousd = i * 1234567;
        a.duration_us = 1000 * i;
        facts_add(workers[i % 2], &rq, &a);
        if (i % 5 == 0)
            add_failover(workers[i % 2], "groq", "openai");
    }
}

static void test_names_of_one_number_have_one_sum(void **unused)
{
    const struct buf *b;

    (void)unused;
    add_mixed(1000);
    b = scrape(EXPOSITION_TEXT_004);
    assert_true(sum_of(b, "aigateway_requests_total", NULL) == 1200);
    assert_true(sum_of(b, "model_inference_requests_total", NULL) == 1400);
    assert_true(sum_of(b, "credits_used_total", NULL) > 0);
    for (int m = 0; m < METRIC_COUNT; m++) {
        const struct metric_row *r = metric_row((enum metric)m);
        double mine = sum_of(b, r->name, NULL);

        if (r->is_alias && fabs(mine - sum_of(b, metric_row(r->alias_of)->name, NULL)) > 1e-6 * mine)
            fail_msg("%s differs from %s", r->name, metric_row(r->alias_of)->name);
    }
    assert_true(sum_of(b, "http_request_duration_seconds_count", NULL) ==
                sum_of(b, "http_requests_total", NULL));
    assert_true(sum_of(b, "model_inference_duration_seconds_count", NULL) ==
                sum_of(b, "model_requests_total", NULL));
    assert_true(sum_of(b, "aigateway_request_duration_seconds_count", NULL) ==
                sum_of(b, "aigateway_requests_total", NULL));
}

static void test_money_is_exact_to_the_nano_dollar(void **unused)
{
    struct fact_request rq = a_request("acme", "a", "m");
    struct fact_attempt a = an_attempt("a", "m");

    (void)unused;
    a.cost_nanousd = 1;
    facts_add(workers[0], &rq, &a);
    a.cost_nanousd = 9007199254740993; /* no double holds it */
    facts_add(workers[1], &rq, &a);
    assert_non_null(strstr(scrape(EXPOSITION_TEXT_004)->p,
                           "\nmodel_cost_usd_total{provider=\"a\",model=\"m\"} 9007199.254740994\n"));
}

static void test_a_client_that_left_is_a_499_even_when_nothing_was_sent(void **unused)
{
    struct fact_request rq = a_request("acme", "a", "m");
    struct fact_attempt a = an_attempt("a", "m");
    const struct buf *b;

    (void)unused;
    rq.status = a.status = STATUS_CANCELLED;
    rq.http_status = 499;
    facts_add(workers[0], &rq, &a);
    rq.http_status = 0;
    facts_add(workers[0], &rq, &a);
    b = scrape(EXPOSITION_TEXT_004);
    assert_true(value_of(b, "http_response_status_total{endpoint=\"/v1/chat/completions\",status=\"499\"}") ==
                2);
    assert_true(value_of(b, "http_request_errors_total{endpoint=\"/v1/chat/completions\",method=\"POST\"}") ==
                0);
    assert_true(
        value_of(b, "model_inference_requests_total{provider=\"a\",model=\"m\",status=\"cancelled\"}") == 2);
    assert_true(value_of(b, "provider_errors_total{provider=\"a\"}") == 0);
}

static void test_only_server_errors_are_http_errors(void **unused)
{
    label get = intern_z("GET"), path = intern_z("/readyz");
    const struct buf *b;

    (void)unused;
    facts_add_http(workers[0], get, path, 200, 10, 2);
    facts_add_http(workers[0], get, path, 404, 10, 2);
    facts_add_http(workers[0], get, path, 429, 10, 2);
    facts_add_http(workers[0], get, path, 503, 10, 2);
    facts_add_http(workers[1], 0, 0, 400, 10, 2);
    b = scrape(EXPOSITION_TEXT_004);
    assert_true(value_of(b, "http_request_errors_total{endpoint=\"/readyz\",method=\"GET\"}") == 1);
    assert_true(
        value_of(b, "http_requests_total{service=\"gatewayd\",method=\"none\",endpoint=\"__unmatched__\","
                    "path=\"__unmatched__\",status=\"400\"}") == 1);
    assert_true(sum_of(b, "http_requests_total", NULL) == 5);
    assert_true(sum_of(b, "aigateway_requests_total", NULL) == 0);
}

static void test_listing_models_is_no_inference(void **unused)
{
    struct fact_request rq = a_request("acme", "", "");
    const struct buf *b;

    (void)unused;
    rq.op = OP_MODELS;
    rq.attempts = 0;
    facts_add(workers[0], &rq, NULL);
    b = scrape(EXPOSITION_TEXT_004);
    assert_true(sum_of(b, "http_requests_total", NULL) == 1);
    assert_true(sum_of(b, "aigateway_requests_total", NULL) == 0);
}

static void test_a_request_refused_before_routing_has_no_provider(void **unused)
{
    struct fact_request rq = a_request("acme", "", "");
    const struct buf *b;

    (void)unused;
    rq.attempts = 0;
    rq.status = STATUS_REJECTED;
    rq.http_status = 429;
    facts_add(workers[0], &rq, NULL);
    rq.tenant = rq.requested = 0; /* the key was not even known */
    rq.http_status = 401;
    facts_add(workers[0], &rq, NULL);
    b = scrape(EXPOSITION_TEXT_004);
    assert_true(
        value_of(b, "aigateway_requests_total{tenant_id=\"acme\",provider=\"none\",model=\"chat-default\","
                    "status=\"rejected\"}") == 1);
    assert_true(value_of(b, "aigateway_requests_total{tenant_id=\"none\",provider=\"none\",model=\"none\","
                            "status=\"rejected\"}") == 1);
    assert_true(sum_of(b, "model_inference_requests_total", NULL) == 0);
    assert_true(sum_of(b, "aigateway_model_selections_total", NULL) == 0);
}

static void test_an_answer_of_a_model_without_a_price_is_counted(void **unused)
{
    struct fact_request rq = a_request("acme", "a", "m");
    struct fact_attempt a = an_attempt("a", "m");

    (void)unused;
    a.is_priced = false;
    a.cost_nanousd = 0;
    facts_add(workers[0], &rq, &a);
    a.status = STATUS_ERROR; /* nothing was spent, so nothing is missing */
    a.usage = (struct usage){0};
    facts_add(workers[0], &rq, &a);
    assert_true(value_of(scrape(EXPOSITION_TEXT_004),
                         "gatewayd_unpriced_attempts_total{provider=\"a\",model=\"m\"}") == 1);
}

static void test_streams_have_an_end_a_first_token_and_a_pace(void **unused)
{
    struct fact_request rq = a_request("acme", "a", "m");
    struct fact_attempt a = an_attempt("a", "m");
    const struct buf *b;

    (void)unused;
    a.is_stream = true;
    a.end = STREAM_COMPLETE;
    a.ttft_us = 200000;
    a.usage.output = 5; /* four gaps in 400 ms */
    facts_add(workers[0], &rq, &a);
    a.end = STREAM_UPSTREAM_CUT;
    a.status = STATUS_ERROR;
    a.error = ERR_UP_CUT;
    facts_add(workers[0], &rq, &a);
    b = scrape(EXPOSITION_TEXT_004);
    assert_true(value_of(b, "aigateway_streams_total{provider=\"a\",model=\"m\",outcome=\"complete\"}") == 1);
    assert_true(value_of(b, "aigateway_streams_total{provider=\"a\",model=\"m\",outcome=\"upstream_cut\"}") ==
                1);
    assert_true(
        value_of(b, "aigateway_time_to_first_token_seconds_bucket{provider=\"a\",model=\"m\",le=\"0.1\"}") ==
        0);
    assert_true(
        value_of(b, "aigateway_time_to_first_token_seconds_bucket{provider=\"a\",model=\"m\",le=\"0.2\"}") ==
        2);
    assert_true(value_of(b, "aigateway_time_per_output_token_seconds_sum{provider=\"a\",model=\"m\"}") ==
                0.1);
    assert_true(value_of(b, "aigateway_time_per_output_token_seconds_count{provider=\"a\",model=\"m\"}") ==
                1);
    assert_true(
        value_of(b, "aigateway_provider_errors_total{provider=\"a\",error_type=\"stream_interrupted\"}") ==
        1);
}

static void test_token_subsets_are_not_in_the_token_sums(void **unused)
{
    struct fact_request rq = a_request("acme", "a", "m");
    struct fact_attempt a = an_attempt("a", "m");
    const struct buf *b;

    (void)unused;
    facts_add(workers[0], &rq, &a);
    b = scrape(EXPOSITION_TEXT_004);
    assert_true(value_of(b, "tokens_used_total{provider=\"a\",model=\"m\",token_type=\"input\"}") == 100);
    assert_true(
        value_of(b,
                 "aigateway_tokens_total{tenant_id=\"acme\",provider=\"a\",model=\"m\",type=\"output\"}") ==
        20);
    assert_true(
        value_of(b, "aigateway_tokens_subset_total{provider=\"a\",model=\"m\",kind=\"cache_read\"}") == 40);
    assert_true(value_of(b, "aigateway_tokens_subset_total{provider=\"a\",model=\"m\",kind=\"reasoning\"}") ==
                5);
    assert_true(
        value_of(b, "aigateway_tokens_subset_total{provider=\"a\",model=\"m\",kind=\"cache_write\"}") == -1);
}

static void test_gauges_of_the_window_forget_and_counters_do_not(void **unused)
{
    struct fact_request rq = a_request("acme", "a", "m");
    struct fact_attempt a = an_attempt("a", "m");
    const struct buf *b;

    (void)unused;
    for (int i = 1; i <= 100; i++) {
        a.duration_us = i * 10000;
        a.status = i > 90 ? STATUS_ERROR : STATUS_SUCCESS;
        facts_add(workers[i % 2], &rq, &a);
    }
    b = scrape(EXPOSITION_TEXT_004);
    assert_true(fabs(value_of(b, "provider_latency_avg_seconds{provider=\"a\"}") - 0.505) < 1e-9);
    assert_true(value_of(b, "provider_latency_min_seconds{provider=\"a\"}") == 0.01);
    assert_true(value_of(b, "provider_latency_max_seconds{provider=\"a\"}") == 1);
    assert_true(fabs(value_of(b, "provider_latency_p95_seconds{provider=\"a\"}") - 0.95) <= 0.0095);
    assert_true(value_of(b, "model_error_rate{model=\"m\"}") == 0.1);
    assert_true(fabs(value_of(b, "model_latency_avg_seconds{model=\"m\"}") - 0.505) < 1e-9);
    assert_true(fabs(value_of(b, "http_request_latency_p50_seconds{endpoint=\"/v1/chat/completions\"}") -
                     0.7) <= 0.007);
    state.now.us += 301000000;
    b = scrape(EXPOSITION_TEXT_004);
    assert_true(isnan(value_of(b, "provider_latency_p95_seconds{provider=\"a\"}")));
    assert_true(isnan(value_of(b, "model_error_rate{model=\"m\"}")));
    assert_true(isnan(value_of(b, "model_latency_avg_seconds{model=\"m\"}")));
    assert_true(isnan(value_of(b, "http_request_latency_avg_seconds{endpoint=\"/v1/chat/completions\"}")));
    assert_true(value_of(b, "provider_requests_total{provider=\"a\"}") == 100);
}

static void test_configured_series_are_there_before_anything_happened(void **unused)
{
    const struct metrics_label_set targets[] = {{intern_z("a"), intern_z("m")},
                                                {intern_z("b"), intern_z("n")}};
    const label tenants[] = {intern_z("acme"), intern_z("beta")};
    const struct buf *b;
    size_t n;

    (void)unused;
    state.targets = targets;
    state.n_targets = 2;
    state.tenants = tenants;
    state.n_tenants = 2;
    b = scrape(EXPOSITION_TEXT_004);
    assert_true(value_of(b, "model_inference_requests_total{provider=\"b\",model=\"n\",status=\"error\"}") ==
                0);
    assert_true(value_of(b, "provider_requests_total{provider=\"a\"}") == 0);
    assert_true(value_of(b, "tokens_used_total{provider=\"a\",model=\"m\",token_type=\"output\"}") == 0);
    assert_true(value_of(b, "gatewayz_cost_by_provider{provider=\"a\"}") == 0);
    assert_true(value_of(b, "aigateway_provider_errors_total{provider=\"a\",error_type=\"rate_limited\"}") ==
                0);
    assert_true(value_of(b, "aigateway_streams_total{provider=\"a\",model=\"m\",outcome=\"client_abort\"}") ==
                0);
    assert_true(
        value_of(
            b,
            "aigateway_requests_total{tenant_id=\"beta\",provider=\"b\",model=\"n\",status=\"cancelled\"}") ==
        0);
    assert_true(value_of(b, "aigateway_requests_total{tenant_id=\"acme\",provider=\"none\",model=\"none\","
                            "status=\"rejected\"}") == 0);
    assert_true(value_of(b, "http_request_errors_total{endpoint=\"/v1/embeddings\",method=\"POST\"}") == 0);
    assert_true(value_of(b, "aigateway_metric_overflow_total{family=\"http_requests_total\"}") == 0);
    assert_true(isnan(value_of(b, "provider_latency_p95_seconds{provider=\"a\"}")));
    (void)sum_of(b, "model_inference_duration_seconds_count", &n);
    assert_int_equal(n, 0);
    assert_true(sum_of(b, "model_inference_requests_total", &n) == 0);
    assert_int_equal(n, 6);
}

static void test_a_provider_without_models_has_no_series_of_an_empty_model(void **unused)
{
    const struct metrics_label_set targets[] = {{intern_z("a"), 0}};
    const label tenants[] = {intern_z("acme")};
    const struct buf *b;

    (void)unused;
    state.targets = targets;
    state.n_targets = 1;
    state.tenants = tenants;
    state.n_tenants = 1;
    b = scrape(EXPOSITION_TEXT_004);
    assert_true(value_of(b, "provider_requests_total{provider=\"a\"}") == 0);
    assert_true(value_of(b, "gatewayz_cost_by_provider{provider=\"a\"}") == 0);
    assert_null(memmem(b->p, b->len, "model=\"\"", 8));
}

static void test_more_tenants_than_fit_share_one_series_and_lose_nothing(void **unused)
{
    const struct buf *b;
    size_t n;

    (void)unused;
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 1300; i++) {
            char tenant[24];
            struct fact_request rq;
            struct fact_attempt a = an_attempt("a", "m");

            (void)snprintf(tenant, sizeof(tenant), "tenant-%d", i);
            rq = a_request(tenant, "a", "m");
            facts_add(workers[(i + round) % 2], &rq, &a); /* both workers see all of them */
        }
    b = scrape(EXPOSITION_TEXT_004);
    assert_true(sum_of(b, "aigateway_requests_total", &n) == 2600);
    assert_int_equal(n, 1001);
    assert_true(value_of(b, "aigateway_requests_total{tenant_id=\"__overflow__\",provider=\"a\",model=\"m\","
                            "status=\"success\"}") == 600);
    assert_true(value_of(b, "aigateway_requests_total{tenant_id=\"tenant-0\",provider=\"a\",model=\"m\","
                            "status=\"success\"}") == 2);
    assert_true(value_of(b, "aigateway_metric_overflow_total{family=\"aigateway_requests_total\"}") == 600);
    assert_true(value_of(b, "aigateway_metric_overflow_total{family=\"aigateway_tokens_total\"}") == 600);
    assert_true(value_of(b, "aigateway_metric_overflow_total{family=\"model_tokens_total\"}") == 0);
    assert_true(sum_of(b, "aigateway_tokens_total", NULL) == sum_of(b, "tokens_used_total", NULL));
    assert_true(fabs(sum_of(b, "aigateway_cost_usd_total", NULL) - sum_of(b, "model_cost_usd_total", NULL)) <
                1e-9);
}

static void test_more_series_than_fit_fold_only_the_label_that_grew(void **unused)
{
    const struct buf *b;
    size_t n;

    (void)unused;
    for (int i = 0; i < 8000; i++) {
        char model[24];
        struct fact_request rq;
        struct fact_attempt a;

        (void)snprintf(model, sizeof(model), "model-%d", i);
        rq = a_request(i % 2 ? "acme" : "beta", i % 3 ? "a" : "b", model);
        a = an_attempt(i % 3 ? "a" : "b", model);
        a.status = rq.status = i % 10 ? STATUS_SUCCESS : STATUS_ERROR;
        facts_add(workers[i % 2], &rq, &a);
    }
    b = scrape(EXPOSITION_TEXT_004);
    for (int m = 0; m < METRIC_COUNT; m++) {
        (void)sum_of(b, metric_row((enum metric)m)->name, &n);
        assert_in_range(n, 0, 5000);
    }
    assert_true(sum_of(b, "model_inference_requests_total", NULL) == 8000);
    assert_true(value_of(b, "provider_requests_total{provider=\"b\"}") == 2667);
    assert_true(value_of(b, "provider_errors_total{provider=\"b\"}") == 267);
    assert_true(
        value_of(b,
                 "model_inference_requests_total{provider=\"b\",model=\"__overflow__\",status=\"error\"}") >
        100);
    assert_true(value_of(b, "aigateway_metric_overflow_total{family=\"model_requests_total\"}") > 5000);
    assert_true(value_of(b, "aigateway_metric_overflow_total{family=\"provider_requests_total\"}") == 0);
    assert_true(sum_of(b, "aigateway_requests_total", NULL) == 8000);
    /* Tenants are few and models many, so it is the model that is given up. */
    assert_true(value_of(b,
                         "aigateway_requests_total{tenant_id=\"acme\",provider=\"a\",model=\"__overflow__\","
                         "status=\"success\"}") > 500);
    assert_null(memmem(b->p, b->len, "tenant_id=\"__overflow__\"", 24));
    assert_true(sum_of(b, "aigateway_model_selections_total", NULL) == 8000);
}

static void test_all_families_together_stay_near_the_limit(void **unused)
{
    size_t lines = 0;

    (void)unused;
    facts_limit_series(3000);
    add_mixed(10);
    for (int i = 0; i < 2000; i++) {
        char model[24];
        struct fact_request rq;
        struct fact_attempt a;

        (void)snprintf(model, sizeof(model), "model-%d", i);
        rq = a_request("acme", "a", model);
        a = an_attempt("a", model);
        facts_add(workers[0], &rq, &a);
    }
    for (const char *p = scrape(EXPOSITION_TEXT_004)->p; *p; p++)
        lines += *p == '\n' && p[1] != '#';
    assert_in_range(lines, 1500, 3600);
    assert_true(sum_of(&out, "model_inference_requests_total", NULL) == 2014);
}

static void test_the_sums_of_the_monitoring_api_agree_with_the_exposition(void **unused)
{
    const struct metrics_label_set targets[] = {{intern_z("idle"), intern_z("m")}};
    struct facts_sum row[8];
    struct facts_totals t;
    uint64_t attempts = 0;
    size_t n;

    (void)unused;
    state.targets = targets;
    state.n_targets = 1;
    add_mixed(100);
    facts_stream_opened(workers[0]);
    facts_stream_opened(workers[1]);
    facts_stream_opened(workers[1]);
    facts_stream_closed(workers[1]);
    n = facts_sum_providers(workers, 2, &state, row, 8);
    assert_int_equal(n, 4);
    assert_int_equal(row[0].provider, targets[0].provider);
    for (size_t i = 0; i < n; i++)
        attempts += row[i].attempts;
    t = facts_totals(workers, 2, state.now);
    assert_int_equal(attempts, 140);
    assert_int_equal(t.requests, 120);
    assert_int_equal(t.window_requests, 120);
    assert_int_equal(t.by_status[STATUS_ERROR], 15);
    assert_int_equal(t.active_streams, 2);
    assert_true(fabs((double)t.cost_nanousd / 1e9 -
                     sum_of(scrape(EXPOSITION_TEXT_004), "credits_used_total", NULL)) < 1e-9);
    assert_true(value_of(&out, "aigateway_active_streams") == 2);
    assert_true((double)(t.input_tokens + t.output_tokens) == sum_of(&out, "tokens_used_total", NULL));
    assert_int_equal(facts_sum_providers(workers, 2, &state, row, 2), 2);
}

static void test_windows_of_providers_are_summed_over_workers_and_end(void **unused)
{
    struct facts_provider_window w[8];
    struct fact_request rq = a_request("acme", "a", "m");
    struct fact_attempt a = an_attempt("a", "m");
    size_t n;

    (void)unused;
    for (int i = 1; i <= 100; i++) {
        a.duration_us = i * 10000;
        a.status = i > 90 ? STATUS_ERROR : STATUS_SUCCESS;
        facts_add(workers[i % 2], &rq, &a);
    }
    n = facts_provider_windows(workers, 2, state.now, 30, w, 8);
    assert_int_equal(n, 1);
    assert_int_equal(w[0].provider, intern_z("a"));
    assert_int_equal(w[0].attempts, 100);
    assert_int_equal(w[0].errors, 10);
    assert_int_equal(w[0].last.us, NOW_US);
    assert_int_equal(w[0].sketch.count, 100);
    assert_int_equal(w[0].sketch.min_us, 10000);
    assert_int_equal(w[0].sketch.max_us, 1000000);
    assert_int_equal(w[0].sketch.sum_us, 50500000);
    assert_true(fabs(sketch_quantile_us(&w[0].sketch, 0.95) - 950000) <= 9500);
    sketch_release(&w[0].sketch);
    state.now.us += 61000000;
    assert_int_equal(facts_provider_windows(workers, 2, state.now, 6, w, 8), 1);
    assert_int_equal(w[0].attempts, 0);
    assert_int_equal(w[0].last.us, NOW_US);
    sketch_release(&w[0].sketch);
    assert_int_equal(facts_provider_windows(workers, 2, state.now, 8, w, 8), 1);
    assert_int_equal(w[0].attempts, 100);
    sketch_release(&w[0].sketch);
}

/* TSan is twenty times slower, and what it looks for needs no million. */
#define NAMES 1000000u
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#undef NAMES
#define NAMES 150000u
#endif
#endif

/* A million names, far more than there are labels; the last test, since labels are for ever. */
static void test_a_million_invented_names_stay_under_the_cap_and_every_sum_is_exact(void **unused)
{
    const unsigned total = NAMES;
    const struct buf *b;
    size_t n, all = 0;

    (void)unused;
    for (unsigned i = 0; i < total; i++) {
        char model[24];
        struct fact_request rq;
        struct fact_attempt a;

        (void)snprintf(model, sizeof(model), "invented-%u", i);
        rq = a_request("acme", "a", model);
        a = an_attempt("a", model);
        facts_add(workers[i % 2], &rq, &a);
    }
    b = scrape(EXPOSITION_TEXT_004);
    for (int m = 0; m < METRIC_COUNT; m++) {
        (void)sum_of(b, metric_row((enum metric)m)->name, &n);
        assert_in_range(n, 0, 5000);
        all += n;
    }
    assert_in_range(all, 5000, 100000);
    assert_true(sum_of(b, "model_inference_requests_total", &n) == total);
    assert_true(sum_of(b, "aigateway_requests_total", NULL) == total);
    assert_true(sum_of(b, "http_requests_total", NULL) == total);
    assert_true(sum_of(b, "tokens_used_total", NULL) == 120.0 * total);
    assert_true(fabs(sum_of(b, "model_cost_usd_total", NULL) - 0.0015 * total) < 1e-6);
    assert_true(fabs(sum_of(b, "aigateway_cost_usd_total", NULL) - 0.0015 * total) < 1e-6);
    /* Every model has a series for each of three outcomes; those without one of their own are all in the same, and the others
     * have one request each. */
    assert_int_equal(n % 3, 0);
    assert_true(value_of(b, "model_inference_requests_total{provider=\"a\",model=\"__overflow__\","
                            "status=\"success\"}") == (double)(total - (n / 3 - 1)));
    assert_true(value_of(b, "aigateway_metric_overflow_total{family=\"model_inference_requests_total\"}") ==
                (double)(total - (n / 3 - 1)));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_failover_is_one_request_and_two_attempts),
        TEST(test_another_attempt_at_the_same_provider_is_a_retry),
        TEST(test_names_of_one_number_have_one_sum),
        TEST(test_money_is_exact_to_the_nano_dollar),
        TEST(test_a_client_that_left_is_a_499_even_when_nothing_was_sent),
        TEST(test_only_server_errors_are_http_errors),
        TEST(test_listing_models_is_no_inference),
        TEST(test_a_request_refused_before_routing_has_no_provider),
        TEST(test_an_answer_of_a_model_without_a_price_is_counted),
        TEST(test_streams_have_an_end_a_first_token_and_a_pace),
        TEST(test_token_subsets_are_not_in_the_token_sums),
        TEST(test_gauges_of_the_window_forget_and_counters_do_not),
        TEST(test_configured_series_are_there_before_anything_happened),
        TEST(test_a_provider_without_models_has_no_series_of_an_empty_model),
        TEST(test_more_tenants_than_fit_share_one_series_and_lose_nothing),
        TEST(test_more_series_than_fit_fold_only_the_label_that_grew),
        TEST(test_all_families_together_stay_near_the_limit),
        TEST(test_the_sums_of_the_monitoring_api_agree_with_the_exposition),
        TEST(test_windows_of_providers_are_summed_over_workers_and_end),
        TEST(test_a_million_invented_names_stay_under_the_cap_and_every_sum_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
