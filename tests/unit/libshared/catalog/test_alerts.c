/* SPDX-License-Identifier: Apache-2.0 */
/* The alert rules as a table: their number, their templates, the settings, and that every expression reads metrics we know. */
#include "libshared/catalog/alerts.h"
#include "libshared/catalog/promql.h"
#include "tests/unit/cm.h"

static void test_the_core_pack_has_34_rules_in_11_groups_as_the_reference_counts(void **state)
{
    static const unsigned WANT[CATEGORY_COUNT] = {5, 4, 3, 2, 2, 1, 4, 3, 2, 3, 5, 4, 11};
    unsigned got[CATEGORY_COUNT] = {0}, core = 0, groups = 0;

    (void)state;
    for (size_t i = 0; i < alert_count(); i++) {
        const struct alert_row *r = alert_row(i);

        got[r->category]++;
        if (r->pack != PACK_CORE)
            continue;
        groups += got[r->category] == 1;
        core++;
    }
    assert_int_equal(core, 34);
    assert_int_equal(groups, 11);
    for (unsigned c = 0; c < CATEGORY_COUNT; c++)
        assert_int_equal(got[c], WANT[c]);
    assert_int_equal(alert_record_count(), 32);
}

static void test_names_are_unique_and_rules_of_a_group_stand_together(void **state)
{
    (void)state;
    for (size_t i = 0; i < alert_count(); i++) {
        assert_ptr_equal(alert_find(alert_row(i)->name), alert_row(i));
        if (i)
            assert_true(alert_row(i)->category >= alert_row(i - 1)->category);
    }
    assert_null(alert_find("NoSuchRule"));
}

static void check_names(struct span name, void *ctx)
{
    unsigned *n = ctx;

    ++*n;
    if (metric_standing(name) == METRIC_IS_UNKNOWN)
        fail_msg("the catalogue has no '%.*s'", (int)name.len, name.p);
}

static void check_expr(const struct alert_row *row, const char *text)
{
    struct buf out AUTO(buf_release) = {0};
    struct err err = {0};
    unsigned n = 0;

    alert_fill(&out, NULL, row, text);
    assert_null(strstr(out.p, "${"));
    if (promql_check(buf_span(&out), &err))
        fail_msg("%s: %s", row ? row->name : out.p, err_text(&err));
    promql_metrics(buf_span(&out), check_names, &n);
    assert_true(n > 0 || strstr(out.p, "vector("));
}

static void test_every_template_fills_in_and_reads_metrics_that_we_know(void **state)
{
    (void)state;
    for (size_t i = 0; i < alert_count(); i++) {
        const struct alert_row *r = alert_row(i);
        struct buf out AUTO(buf_release) = {0};
        double seconds;

        check_expr(r, r->expr);
        alert_fill(&out, NULL, r, r->summary);
        alert_fill(&out, NULL, r, r->description);
        if (r->now)
            alert_fill(&out, NULL, r, r->now);
        assert_null(strstr(out.p, "${"));
        assert_null(strstr(r->summary, "$value")); /* the tests expect summaries to the letter */
        assert_true(strlen(r->steps) > 10);
        assert_true(alert_seconds(r->for_time, &seconds));
    }
    for (size_t i = 0; i < alert_record_count(); i++)
        check_expr(NULL, alert_record(i)->expr);
}

static void test_every_rule_has_a_history_that_fires_and_a_near_miss(void **state)
{
    (void)state;
    for (size_t i = 0; i < alert_count(); i++) {
        unsigned fires = 0, silent = 0;

        for (size_t k = 0; k < alert_case_count(); k++)
            if (strcmp(alert_case(k)->alert, alert_row(i)->name) == 0)
                *(alert_case(k)->fires ? &fires : &silent) += 1;
        if (fires != 1 || silent != 1)
            fail_msg("%s: %u histories that fire, %u that do not", alert_row(i)->name, fires, silent);
    }
}

static void test_a_setting_reaches_the_expression_the_summary_and_for(void **state)
{
    const struct alert_row *r = alert_find("HighModelErrorRate");
    struct alert_settings s = {0};
    struct buf out AUTO(buf_release) = {0};

    (void)state;
    assert_int_equal(alert_set(&s, "HighModelErrorRate.threshold=0.15", NULL), ERR_OK);
    assert_int_equal(alert_set(&s, "*.for=10m", NULL), ERR_OK);
    assert_int_equal(alert_set(&s, "HighModel*.for=2s", NULL), ERR_OK);
    alert_fill(&out, &s, r, r->expr);
    assert_non_null(strstr(out.p, "> 0.15"));
    buf_clear(&out);
    alert_fill(&out, &s, r, r->summary);
    assert_non_null(strstr(out.p, "more than 15% of"));
    assert_string_equal(alert_value(&s, r, "for"), "2s");
    assert_string_equal(alert_value(&s, alert_find("ModelLatencyHigh"), "for"), "10m");
    assert_null(alert_value(&s, r, "nothing"));
}

static void test_a_setting_that_means_nothing_is_refused(void **state)
{
    static const char *const BAD[] = {"",
                                      "x",
                                      "HighModelErrorRate",
                                      "HighModelErrorRate.threshold",
                                      "HighModelErrorRate.threshold=",
                                      "HighModelErrorRate.threshold=a",
                                      "HighModelErrorRate.threshold=0x1",
                                      "HighModelErrorRate.threshold=1)",
                                      "HighModelErrorRate.window=5",
                                      "HighModelErrorRate.window=0s",
                                      "HighModelErrorRate.for=5",
                                      "HighModelErrorRate.nothing=1",
                                      "CircuitBreakerOpen.threshold=1",
                                      "Nobody.for=5m",
                                      "slo.nothing=1",
                                      ".for=5m"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        struct alert_settings s = {0};
        struct err err = {0};

        if (alert_set(&s, BAD[i], &err) == ERR_OK)
            fail_msg("'%s' was taken", BAD[i]);
        assert_int_equal(s.n, 0);
        assert_true(err.text[0] != '\0');
    }
}

static void test_an_objective_under_which_an_alert_is_dead_is_refused(void **state)
{
    static const struct {
        const char *text;
        bool is_good;
    } T[] = {{"slo.availability=0.999", true}, {"slo.availability=0.93", false},
             {"slo.availability=1", false},    {"slo.ttft=0.9", false},
             {"slo.ttft_seconds=2.0", true},   {"slo.ttft_seconds=0.35", true},
             {"slo.ttft_seconds=2", false},    {"slo.ttft_seconds=4.0", false}};

    (void)state;
    assert_null(alert_settings_trouble(NULL));
    for (size_t i = 0; i < ARRAY_LEN(T); i++) {
        struct alert_settings s = {0};

        assert_int_equal(alert_set(&s, T[i].text, NULL), ERR_OK);
        if (!alert_settings_trouble(&s) != T[i].is_good)
            fail_msg("%s", T[i].text);
    }
}

static void test_a_metric_is_exposed_recorded_foreign_planned_or_unknown(void **state)
{
    static const struct {
        const char *name;
        enum metric_standing want;
    } T[] = {{"http_requests_total", METRIC_IS_EXPOSED},
             {"model_inference_duration_seconds_bucket", METRIC_IS_EXPOSED},
             {"model_inference_duration_seconds_count", METRIC_IS_EXPOSED},
             {"model_inference_duration_seconds", METRIC_IS_RECORDED},
             {"http_requests_total_bucket", METRIC_IS_UNKNOWN},
             {"slo:error_budget:ratio", METRIC_IS_RECORDED},
             {"up", METRIC_IS_FOREIGN},
             {"gpu_utilization_percent", METRIC_IS_PLANNED},
             {"http_request_total", METRIC_IS_UNKNOWN}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(T); i++)
        if (metric_standing(span_of(T[i].name)) != T[i].want)
            fail_msg("%s: %d", T[i].name, (int)metric_standing(span_of(T[i].name)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_core_pack_has_34_rules_in_11_groups_as_the_reference_counts),
        cmocka_unit_test(test_names_are_unique_and_rules_of_a_group_stand_together),
        cmocka_unit_test(test_every_template_fills_in_and_reads_metrics_that_we_know),
        cmocka_unit_test(test_every_rule_has_a_history_that_fires_and_a_near_miss),
        cmocka_unit_test(test_a_setting_reaches_the_expression_the_summary_and_for),
        cmocka_unit_test(test_a_setting_that_means_nothing_is_refused),
        cmocka_unit_test(test_an_objective_under_which_an_alert_is_dead_is_refused),
        cmocka_unit_test(test_a_metric_is_exposed_recorded_foreign_planned_or_unknown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
