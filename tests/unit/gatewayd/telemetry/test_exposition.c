/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/telemetry/exposition.h"

#include <pthread.h>
#include <stdatomic.h>

#include "gatewayd/telemetry/projections.h"
#include "libshared/analytics/anomaly.h"
#include "libshared/base/utf8.h"
#include "tests/unit/gatewayd/telemetry/two_workers.h"

#include "tests/unit/cm.h"

/* Every kind of fact at least once. */
static void add_everything(void)
{
    struct fact_request rq = a_request("acme", "a", "vendor/model");
    struct fact_attempt a[2] = {an_attempt("b", "other"), an_attempt("a", "vendor/model")};

    rq.attempts = 2;
    rq.is_stream = true;
    memset(rq.trace.b, 0xab, sizeof(rq.trace.b));
    a[0].status = STATUS_ERROR;
    a[0].error = ERR_UP_RATE_LIMIT;
    a[1].number = 2;
    a[1].from_provider = a[0].provider;
    a[1].retry_reason = ERR_UP_RATE_LIMIT;
    a[1].is_stream = true;
    a[1].end = STREAM_COMPLETE;
    a[1].ttft_us = 123456;
    facts_add(workers[0], &rq, a);
    a[1].from_provider = 0;
    facts_add(workers[1], &rq, a);
    facts_add_http(workers[1], intern_z("GET"), intern_z("/metrics"), 200, 900, 10000);
    facts_stream_opened(workers[1]);
}

static void test_every_family_has_a_projection_that_knows_its_labels(void **unused)
{
    (void)unused;
    for (int m = 0; m < METRIC_COUNT; m++) {
        const struct metric_row *r = metric_row((enum metric)m);
        const struct projection *p = projection((enum metric)m);
        size_t unknown = 0;

        if (p->measure != MEASURE_STATE) /* which may be of any type */
            assert_int_equal(p->measure == MEASURE_HISTOGRAM, r->type == METRIC_HISTOGRAM);
        if (p->measure != MEASURE_STATE)
            assert_int_equal(p->measure == MEASURE_WINDOW, r->is_window);
        assert_int_equal(p->exemplars_offset != 0, r->has_exemplars);
        assert_int_equal(p->measure == MEASURE_STATE, p->state != NULL);
        for (size_t i = 0; i < r->n_labels && p->measure != MEASURE_STATE; i++) {
            const char *name = strcmp(r->labels[i], "path") == 0 ? "endpoint" : r->labels[i];
            bool is_known = strcmp(name, "service") == 0;

            for (unsigned part = 0; part < KIND_PARTS; part++) {
                const char *have = kind_row(p->kind)->parts[part].name;

                is_known = is_known || (have && strcmp(have, name) == 0);
            }
            unknown += !is_known;
        }
        assert_int_equal(unknown, p->child_name != NULL && p->measure != MEASURE_STATE);
    }
}

/* ---- a strict reader of either format ---- */

struct reader {
    enum exposition_format format;
    char family[128], type[16];
    char seen[256][128]; /* families */
    size_t n_seen;
    char series[256], last_series[256]; /* of a histogram: labels without le */
    double last_le, last_bucket;
    size_t n_samples, n_exemplars;
};

static void read_type(struct reader *r, const char *line)
{
    assert_int_equal(sscanf(line, "# TYPE %127s %15s", r->family, r->type), 2);
    for (size_t i = 0; i < r->n_seen; i++)
        assert_string_not_equal(r->seen[i], r->family); /* contiguous */
    assert_true(r->n_seen < ARRAY_LEN(r->seen));
    (void)snprintf(r->seen[r->n_seen++], sizeof(r->seen[0]), "%s", r->family);
    r->last_series[0] = '\0';
}

static bool is_type(const struct reader *r, const char *type)
{
    return strcmp(r->type, type) == 0;
}

/* Name of a sample is the family's, with the suffix that its type asks for. */
static const char *suffix_of(const struct reader *r, const char *name, size_t len)
{
    size_t n = strlen(r->family);

    assert_true(len >= n && memcmp(name, r->family, n) == 0);
    return name + n;
}

static void read_bucket(struct reader *r, const char *labels, const char *end, double v)
{
    const char *le = labels;
    double bound;

    for (const char *p = labels; (p = strstr(p, "le=\"")) && p < end; p++)
        le = p;
    bound = strncmp(le, "le=\"+Inf\"", 9) == 0 ? INFINITY : strtod(le + 4, NULL);
    assert_true(isinf(bound) ||
                memchr(le + 4, '.', strcspn(le + 4, "\""))); /* one spelling in both formats */
    (void)snprintf(r->series, sizeof(r->series), "%.*s", (int)(le - labels), labels);
    if (strcmp(r->series, r->last_series) == 0) {
        assert_true(bound > r->last_le);
        assert_true(v >= r->last_bucket);
    }
    (void)snprintf(r->last_series, sizeof(r->last_series), "%s", r->series);
    r->last_le = bound;
    r->last_bucket = v;
}

static void read_sample(struct reader *r, const char *line)
{
    size_t name_len = strcspn(line, "{ ");
    const char *suffix = suffix_of(r, line, name_len);
    size_t suffix_len = name_len - (size_t)(suffix - line);
    const char *end = line[name_len] == '{' ? strstr(line, "} ") + 1 : line + name_len;
    char *rest;
    double v = strtod(end + 1, &rest);

    r->n_samples++;
    if (strncmp(rest, " # {", 4) == 0) {
        assert_true(r->format == EXPOSITION_OPENMETRICS && suffix_len == 7);
        r->n_exemplars++;
    } else {
        assert_true(*rest == '\n');
    }
    if (is_type(r, "counter")) {
        assert_true(v >= 0); /* not NaN either */
        assert_true(suffix_len == (r->format == EXPOSITION_OPENMETRICS ? 6 : 0));
    } else if (is_type(r, "histogram") && strncmp(suffix, "_bucket", suffix_len) == 0) {
        read_bucket(r, line + name_len, end, v);
    } else if (is_type(r, "histogram") && strncmp(suffix, "_count", suffix_len) == 0) {
        assert_true(isinf(r->last_le) && v == r->last_bucket);
    }
}

static void read_all(struct reader *r, const struct buf *b)
{
    for (const char *p = b->p; p; p = next_line(b, p)) {
        char line[1024];
        const char *end = memchr(p, '\n', (size_t)(b->p + b->len - p));

        assert_non_null(end);
        assert_true(end > p && end - p < 1000);
        (void)span_copy(line, sizeof(line), span_make(p, (size_t)(end - p) + 1));
        if (strncmp(line, "# TYPE ", 7) == 0)
            read_type(r, line);
        else if (*line != '#')
            read_sample(r, line);
    }
    for (size_t i = 0; i < b->len;) {
        size_t n = utf8_valid_len(b->p + i, b->len - i);

        assert_true(n > 0);
        i += n;
    }
    assert_true(b->p[b->len - 1] == '\n');
}

static void test_both_formats_are_well_formed(void **unused)
{
    static struct reader text, open;

    (void)unused;
    add_everything();
    text.format = EXPOSITION_TEXT_004;
    read_all(&text, scrape(EXPOSITION_TEXT_004));
    assert_null(strstr(out.p, "# EOF"));
    assert_null(strstr(out.p, "# UNIT"));
    assert_null(strstr(out.p, "trace_id"));
    open.format = EXPOSITION_OPENMETRICS;
    read_all(&open, scrape(EXPOSITION_OPENMETRICS));
    assert_string_equal(out.p + out.len - 6, "# EOF\n");
    assert_int_equal(text.n_seen, METRIC_COUNT);
    assert_int_equal(open.n_seen, METRIC_COUNT);
    assert_int_equal(text.n_samples, open.n_samples);
    assert_true(open.n_exemplars >= 5);
}

static void test_an_exemplar_leads_to_the_trace_in_its_bucket(void **unused)
{
    (void)unused;
    add_everything();
    assert_non_null(strstr(
        scrape(EXPOSITION_OPENMETRICS)->p,
        "\naigateway_time_to_first_token_seconds_bucket{provider=\"a\",model=\"vendor/model\",le=\"0.2\"} 2"
        " # {trace_id=\"abababababababababababababababab\"} 0.123456 1800000000\n"));
    assert_non_null(strstr(out.p, "le=\"0.1\"} 0\n"));
}

static void test_counters_and_info_drop_their_suffix_from_the_family_name_only(void **unused)
{
    (void)unused;
    scrape(EXPOSITION_OPENMETRICS);
    assert_non_null(
        strstr(out.p, "# TYPE gatewayd_loop_busy_seconds counter\n# UNIT gatewayd_loop_busy_seconds seconds\n"
                      "gatewayd_loop_busy_seconds_total{worker=\"0\"} 0\n"));
    assert_non_null(strstr(out.p,
                           "# TYPE aigateway_build info\n"
                           "aigateway_build_info{version=\"1.2.3\",revision=\"abc\",semconv=\"1.41\"} 1\n"));
    assert_non_null(strstr(out.p, "# TYPE credits_used counter\n")); /* usd is not in the name: no UNIT */
    assert_null(strstr(out.p, "# UNIT credits_used"));
    scrape(EXPOSITION_TEXT_004);
    assert_non_null(
        strstr(out.p, "# TYPE gatewayd_loop_busy_seconds_total counter\ngatewayd_loop_busy_seconds_total{"));
    assert_non_null(strstr(out.p, "# TYPE aigateway_build_info gauge\n"));
}

static void test_label_values_are_escaped_and_always_utf8(void **unused)
{
    struct fact_request rq = a_request("a\"b\\c\nd", "p", "m");
    struct fact_attempt a = an_attempt("p", "m");
    static struct reader r;

    (void)unused;
    facts_add(workers[0], &rq, &a);
    state.version = "1\xff";
    read_all(&r, scrape(EXPOSITION_TEXT_004));
    assert_non_null(
        strstr(out.p, "aigateway_requests_total{tenant_id=\"a\\\"b\\\\c\\nd\",provider=\"p\",model=\"m\","));
    assert_non_null(strstr(out.p, "{version=\"1\xef\xbf\xbd\",revision"));
}

static void test_state_is_shown_as_it_was_given(void **unused)
{
    const struct buf *b;

    (void)unused;
    state.loops[1].busy_us = 1500000;
    state.loops[1].max_turn_us = 2500;
    state.reloads_failed = 2;
    state.journal.appended = 7;
    state.pipelines[0] = (struct metrics_pipeline){"access_log", 5, 3, 7, {NOW_US}};
    state.pipelines[1] = (struct metrics_pipeline){.name = "events"};
    state.n_pipelines = 2;
    state.plans = &(struct metrics_plan){intern_z("pro"), 12};
    state.n_plans = 1;
    state.anomalies = &(struct metrics_anomalies){intern_z("a"), 1u << ANOMALY_TRAFFIC_DROP};
    state.n_anomalies = 1;
    state.trials.signups = 4;
    state.trials.conversions = 1;
    state.guard_refusals = 11;
    state.stores[0] =
        (struct metrics_store){.name = "realtime", .lag_us = 2500000, .records = 9, .is_up = true};
    state.stores[1] = (struct metrics_store){.name = "history", .duplicates = 4};
    state.n_stores = 2;
    state.parts[0] = (struct metrics_part){"history", true};
    state.n_parts = 1;
    state.limited = (struct metrics_tenant[]){{.tenant = intern_z("acme"),
                                               .limited = 3,
                                               .over_budget = 2,
                                               .limit_nanousd = 1500000000,
                                               .usage_ratio = 0.5},
                                              {.tenant = intern_z("free"), .limited = 1}};
    state.n_limited = 2;
    state.limit_types[0].name = "requests";
    state.limit_types[0].hits = 4;
    state.limit_types[0].shadow_hits = 9;
    b = scrape(EXPOSITION_TEXT_004);
    assert_true(value_of(b, "gatewayd_loop_busy_seconds_total{worker=\"1\"}") == 1.5);
    assert_true(value_of(b, "gatewayd_loop_turn_max_seconds{worker=\"1\"}") == 0.0025);
    assert_true(value_of(b, "gatewayd_config_reloads_total{result=\"failed\"}") == 2);
    assert_true(value_of(b, "gatewayd_journal_records_total") == 7);
    assert_true(
        value_of(b, "aigateway_telemetry_dropped_total{pipeline=\"access_log\",reason=\"queue_full\"}") == 3);
    assert_true(value_of(b, "aigateway_telemetry_exported_total{pipeline=\"access_log\"}") == 5);
    assert_true(value_of(b, "aigateway_telemetry_queue_length{pipeline=\"access_log\"}") == 7);
    assert_true(value_of(b, "aigateway_telemetry_last_success_timestamp_seconds{pipeline=\"access_log\"}") ==
                NOW_US / 1000000);
    assert_true(value_of(b, "aigateway_telemetry_last_success_timestamp_seconds{pipeline=\"events\"}") == -1);
    assert_true(value_of(b, "active_subscriptions_total{tier=\"pro\"}") == 12);
    assert_true(value_of(b, "aigateway_anomaly_active{type=\"traffic_drop\",provider=\"a\"}") == 1);
    assert_true(value_of(b, "aigateway_anomaly_active{type=\"cost_spike\",provider=\"a\"}") == 0);
    assert_true(value_of(b, "trial_signups_total") == 4);
    assert_true(value_of(b, "trial_conversions_total") == 1);
    assert_true(value_of(b, "gatewayd_guard_refusals_total") == 11);
    assert_true(value_of(b, "gatewayd_store_lag_seconds{store=\"realtime\"}") == 2.5);
    assert_true(value_of(b, "gatewayd_store_records_total{store=\"realtime\"}") == 9);
    assert_true(value_of(b, "gatewayd_store_up{store=\"realtime\"}") == 1);
    assert_true(value_of(b, "gatewayd_store_up{store=\"history\"}") == 0);
    assert_true(value_of(b, "gatewayd_store_duplicates_total{store=\"history\"}") == 4);
    assert_true(value_of(b, "gatewayd_degraded{part=\"history\"}") == 1);
    assert_true(value_of(b, "aigateway_rate_limit_hits_total{tenant_id=\"free\"}") == 1);
    assert_true(value_of(b, "rate_limit_hits_total{limit_type=\"requests\"}") == 4);
    assert_true(value_of(b, "gatewayd_rate_limit_shadow_hits_total{limit_type=\"requests\"}") == 9);
    assert_true(value_of(b, "aigateway_budget_usage_ratio{tenant_id=\"acme\"}") == 0.5);
    assert_true(value_of(b, "aigateway_budget_limit_usd{tenant_id=\"acme\"}") == 1.5);
    assert_true(value_of(b, "aigateway_budget_rejections_total{tenant_id=\"acme\"}") == 2);
    assert_null(strstr(b->p, "aigateway_budget_limit_usd{tenant_id=\"free\"}"));
    assert_true(value_of(b, "gatewayz_uptime_seconds") == 3600);
    assert_true(value_of(b, "process_start_time_seconds") == NOW_US / 1000000 - 3600);
    assert_true(value_of(b, "process_resident_memory_bytes") > 100000);
}

static void test_what_is_switched_off_is_neither_shown_nor_counted(void **unused)
{
    static const char CALL[] = "gen_ai_client_operation_duration_seconds_count{gen_ai_provider_name=\"a\"";
    const struct buf *b;

    (void)unused;
    state.profiles = METRIC_PROFILES_DEFAULT;
    add_everything();
    b = scrape(EXPOSITION_TEXT_004);
    assert_null(memmem(b->p, b->len, "gen_ai_", 7));
    assert_null(memmem(b->p, b->len, "http_response_size", 18));
    state.profiles = 1u << PROFILE_OTEL;
    facts_show(state.profiles);
    b = scrape(EXPOSITION_TEXT_004);
    assert_null(memmem(b->p, b->len, CALL, sizeof(CALL) - 1));
    assert_null(memmem(b->p, b->len, "http_requests", 13));
    facts_show(METRIC_PROFILES_DEFAULT);
}

static void test_the_names_of_opentelemetry_count_calls_and_requests(void **unused)
{
    const struct buf *b;

    (void)unused;
    facts_show(~0u);
    add_everything(); /* twice: a call that fails, one that streams */
    facts_show(METRIC_PROFILES_DEFAULT);
    b = scrape(EXPOSITION_TEXT_004);
    assert_true(value_of(b, "gen_ai_client_operation_duration_seconds_count{gen_ai_operation_name=\"chat\","
                            "gen_ai_provider_name=\"b\",gen_ai_request_model=\"other\","
                            "gen_ai_response_model=\"other\",error_type=\"rate_limited\"}") == 2);
    assert_true(value_of(b, "gen_ai_client_operation_duration_seconds_count{gen_ai_operation_name=\"chat\","
                            "gen_ai_provider_name=\"a\",gen_ai_request_model=\"vendor/model\","
                            "gen_ai_response_model=\"vendor/model\",error_type=\"\"}") == 2);
    assert_true(value_of(b, "gen_ai_client_token_usage_sum{gen_ai_operation_name=\"chat\","
                            "gen_ai_provider_name=\"a\",gen_ai_request_model=\"vendor/model\","
                            "gen_ai_response_model=\"vendor/model\",gen_ai_token_type=\"output\"}") == 40);
    assert_true(value_of(b, "gen_ai_server_request_duration_seconds_count{gen_ai_operation_name=\"chat\","
                            "gen_ai_provider_name=\"a\",gen_ai_request_model=\"chat-default\","
                            "gen_ai_response_model=\"vendor/model\",error_type=\"\"}") == 2);
    assert_true(value_of(b, "gen_ai_server_time_to_first_token_seconds_count{gen_ai_operation_name=\"chat\","
                            "gen_ai_provider_name=\"a\",gen_ai_request_model=\"chat-default\","
                            "gen_ai_response_model=\"vendor/model\"}") == 2);
    assert_true(value_of(b, "http_response_size_bytes_bucket{method=\"GET\",endpoint=\"/metrics\","
                            "le=\"16384.0\"}") == 1);
    assert_true(value_of(b, "http_response_size_bytes_sum{method=\"GET\",endpoint=\"/metrics\"}") == 10000);
}

static void test_windows_begin_anew_where_they_were_reset(void **unused)
{
    struct fact_request rq = a_request("acme", "a", "m");
    struct fact_attempt a = an_attempt("a", "m");

    (void)unused;
    facts_add(workers[0], &rq, &a);
    state.windows_since.us = NOW_US;
    assert_true(isnan(value_of(scrape(EXPOSITION_TEXT_004), "provider_latency_avg_seconds{provider=\"a\"}")));
    assert_true(value_of(&out, "provider_requests_total{provider=\"a\"}") == 1);
    state.now.us += 10000000;
    rq.arrived.us += 10000000;
    a.duration_us = 2000000;
    facts_add(workers[1], &rq, &a);
    assert_true(value_of(scrape(EXPOSITION_TEXT_004), "provider_latency_avg_seconds{provider=\"a\"}") == 2);
    state.windows_since.us = 0;
    assert_true(value_of(scrape(EXPOSITION_TEXT_004), "provider_latency_avg_seconds{provider=\"a\"}") == 1.3);
}

static void test_a_buffer_that_is_too_small_ends_between_lines(void **unused)
{
    (void)unused;
    add_everything();
    for (size_t max = 300; max < 20000; max += 371) {
        struct buf small AUTO(buf_release);

        buf_init(&small, max);
        exposition_render(&small, EXPOSITION_OPENMETRICS, workers, 2, &state);
        assert_true(small.len <= max);
        assert_true(small.p[small.len - 1] == '\n');
    }
}

/* ---- scrapes while workers count ---- */

static _Atomic bool is_done;

static void *work(void *arg)
{
    struct facts *f = arg;

    for (unsigned i = 0; i < 20000; i++) {
        char model[24];
        struct fact_request rq;
        struct fact_attempt a;

        (void)snprintf(model, sizeof(model), "model-%u", i % 300);
        rq = a_request("acme", "a", model);
        rq.arrived.us += (int64_t)i * 30000; /* ten minutes: slots are used again while they are read */
        memset(rq.trace.b, (int)(i % 255 + 1), sizeof(rq.trace.b));
        a = an_attempt("a", model);
        a.duration_us = i;
        facts_add(f, &rq, &a);
    }
    return NULL;
}

static void *read_on(void *unused)
{
    (void)unused;
    while (!atomic_load(&is_done)) {
        static struct reader r;
        struct buf b AUTO(buf_release) = {0};
        const char *x;

        memset(&r, 0, sizeof(r));
        r.format = EXPOSITION_OPENMETRICS;
        exposition_render(&b, r.format, workers, 2, &state);
        read_all(&r, &b);
        /* Never half of one trace and half of another. */
        for (x = b.p; (x = memmem(x, (size_t)(b.p + b.len - x), "trace_id=\"", 10)); x++)
            for (size_t i = 2; i < 32; i++)
                assert_true(x[10 + i] == x[10 + i % 2]);
    }
    return NULL;
}

static void test_a_scrape_may_come_at_any_time(void **unused)
{
    pthread_t thread[3];

    (void)unused;
    state.now.us += 200000000;
    atomic_store(&is_done, false);
    assert_int_equal(pthread_create(&thread[0], NULL, work, workers[0]), 0);
    assert_int_equal(pthread_create(&thread[1], NULL, work, workers[1]), 0);
    assert_int_equal(pthread_create(&thread[2], NULL, read_on, NULL), 0);
    (void)pthread_join(thread[0], NULL);
    (void)pthread_join(thread[1], NULL);
    atomic_store(&is_done, true);
    (void)pthread_join(thread[2], NULL);
    assert_true(sum_of(scrape(EXPOSITION_TEXT_004), "model_inference_requests_total", NULL) == 40000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_every_family_has_a_projection_that_knows_its_labels),
        TEST(test_both_formats_are_well_formed),
        TEST(test_an_exemplar_leads_to_the_trace_in_its_bucket),
        TEST(test_counters_and_info_drop_their_suffix_from_the_family_name_only),
        TEST(test_label_values_are_escaped_and_always_utf8),
        TEST(test_state_is_shown_as_it_was_given),
        TEST(test_what_is_switched_off_is_neither_shown_nor_counted),
        TEST(test_the_names_of_opentelemetry_count_calls_and_requests),
        TEST(test_windows_begin_anew_where_they_were_reset),
        TEST(test_a_buffer_that_is_too_small_ends_between_lines),
        TEST(test_a_scrape_may_come_at_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
