/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/catalog/metrics.h"

#include <stdio.h>
#include <string.h>

#include "libshared/base/buf.h"
#include "libshared/base/compiler.h"
#include "tests/unit/cm.h"

static bool ends_in(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);

    return n > m && strcmp(s + n - m, suffix) == 0;
}

/* Two names of the reference documents break this on purpose. */
static void test_the_end_of_a_name_says_its_type(void **state)
{
    (void)state;
    for (int m = 0; m < METRIC_COUNT; m++) {
        const struct metric_row *r = metric_row((enum metric)m);

        if (strcmp(r->name, "active_subscriptions_total") != 0)
            assert_int_equal(ends_in(r->name, "_total"), r->type == METRIC_COUNTER);
        assert_int_equal(ends_in(r->name, "_info"), r->type == METRIC_INFO);
        if (strcmp(r->name, "circuit_breaker_failure_count") != 0)
            assert_false(ends_in(r->name, "_count") || ends_in(r->name, "_sum") ||
                         ends_in(r->name, "_bucket"));
        assert_int_equal(r->buckets != METRIC_NO_BUCKETS, r->type == METRIC_HISTOGRAM);
    }
}

static void test_names_and_help_need_no_escapes_and_no_name_is_used_twice(void **state)
{
    (void)state;
    for (int m = 0; m < METRIC_COUNT; m++) {
        const struct metric_row *r = metric_row((enum metric)m);

        assert_int_equal(strspn(r->name, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(r->name));
        assert_int_equal(strcspn(r->help, "\\\"\n|"), strlen(r->help));
        assert_true(r->help[strlen(r->help) - 1] == '.');
        for (int other = 0; other < m; other++)
            assert_string_not_equal(r->name, metric_row((enum metric)other)->name);
        for (size_t i = 0; i < r->n_labels; i++)
            assert_int_equal(strspn(r->labels[i], "abcdefghijklmnopqrstuvwxyz_"), strlen(r->labels[i]));
    }
}

static void test_an_alias_names_an_earlier_family_that_is_none(void **state)
{
    (void)state;
    for (int m = 0; m < METRIC_COUNT; m++) {
        const struct metric_row *r = metric_row((enum metric)m);

        assert_true(!r->is_alias || ((int)r->alias_of < m && !metric_row(r->alias_of)->is_alias));
    }
}

static void test_bounds_ascend(void **state)
{
    (void)state;
    for (int b = 1; b < METRIC_BUCKETS_COUNT; b++) {
        const struct metric_bounds *s = metric_bounds((enum metric_buckets)b);

        assert_true(s->n > 0);
        for (size_t i = 1; i < s->n; i++)
            assert_true(s->us[i] > s->us[i - 1]);
    }
}

static void test_profiles_are_added_and_taken_away_in_order(void **state)
{
    const char *both[] = {"all", "otel"}, *less[] = {"-reference-004"}, *one[] = {"reference-003"};
    const struct metric_row *r4 = metric_row(METRIC_db_queries_total);
    const struct metric_row *r24 = metric_row(METRIC_model_requests_total);
    const struct metric_row *own = metric_row(METRIC_gatewayd_connections);
    const struct metric_row *otel = metric_row(METRIC_gen_ai_client_token_usage);
    unsigned mask = 0;

    (void)state;
    assert_int_equal(metric_profiles(NULL, 0), METRIC_PROFILES_DEFAULT);
    assert_false(metric_is_shown(otel, metric_profiles(NULL, 0)));
    assert_true(metric_is_shown(otel, metric_profiles(both, 2)) &&
                metric_is_shown(r4, metric_profiles(both, 2)));
    /* Who is named by another document, too, stays. */
    assert_false(metric_is_shown(r4, metric_profiles(less, 1)));
    assert_true(metric_is_shown(r24, metric_profiles(less, 1)) &&
                metric_is_shown(own, metric_profiles(less, 1)));
    assert_false(metric_is_shown(own, metric_profiles(one, 1)) ||
                 metric_is_shown(r4, metric_profiles(one, 1)));
    assert_false(metric_profiles_add("reference-005", &mask) || metric_profiles_add("-", &mask) ||
                 metric_profiles_add("", &mask) || mask);
}

static void test_the_document_is_the_one_that_is_committed(void **state)
{
    struct buf want AUTO(buf_release) = {0}, have AUTO(buf_release) = {0};
    FILE *f = fopen(SOURCE_DIR "/docs/metrics.md", "r");
    char chunk[4096];
    size_t n;

    (void)state;
    assert_non_null(f);
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
        buf_add(&have, span_make(chunk, n));
    (void)fclose(f);
    metrics_document(&want);
    if (!span_eq(buf_span(&want), buf_span(&have)))
        fail_msg("docs/metrics.md differs from metrics.def: run ./dev gen");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_end_of_a_name_says_its_type),
        cmocka_unit_test(test_names_and_help_need_no_escapes_and_no_name_is_used_twice),
        cmocka_unit_test(test_an_alias_names_an_earlier_family_that_is_none),
        cmocka_unit_test(test_bounds_ascend),
        cmocka_unit_test(test_profiles_are_added_and_taken_away_in_order),
        cmocka_unit_test(test_the_document_is_the_one_that_is_committed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
