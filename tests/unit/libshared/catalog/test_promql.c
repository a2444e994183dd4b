/* SPDX-License-Identifier: Apache-2.0 */
/* PromQL as far as we read it: what is refused, which metrics are read, and where matchers go. */
#include "libshared/catalog/promql.h"
#include "tests/unit/cm.h"

static void test_what_is_no_promql_is_refused(void **state)
{
    static const char *const BAD[] = {"",
                                      " # nothing\n",
                                      "(",
                                      "up)",
                                      "sum(up",
                                      "up{a=\"b\"",
                                      "up{a=b}",
                                      "up{a~\"b\"}",
                                      "up{\"a\"}",
                                      "up[5]",
                                      "up[m]",
                                      "up[5m",
                                      "up up",
                                      "up + ",
                                      "* up",
                                      "sum by (a up",
                                      "nofunction(up)",
                                      "up{a=\"b}",
                                      "up offset",
                                      "sum by a (up)",
                                      "1 1",
                                      "5m",
                                      "up == = 1",
                                      "up = 1",
                                      "up ! 1",
                                      "and up",
                                      "by",
                                      "rate(up[5m)",
                                      "{",
                                      "up]",
                                      "\"a",
                                      "up @",
                                      "up,up"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        struct err err = {0};

        if (promql_check(span_of(BAD[i]), &err) == ERR_OK)
            fail_msg("'%s' was taken", BAD[i]);
        assert_true(err.text[0] != '\0');
    }
}

static void test_what_promtool_takes_is_taken(void **state)
{
    static const char *const GOOD[] = {
        "up",
        "1",
        "-1.5e3",
        "0x1f",
        ".5",
        "NaN",
        "Inf > 3",
        "sum by (job) (rate(up{a=\"b\",c!~'d'}[5m]))",
        "sum(up) by (job,)",
        "sum without () (up)",
        "a / on (x) group_left (y) b",
        "a and on (job) b >= 100",
        "up offset 5m",
        "up offset -1h30m",
        "up[1h:]",
        "max_over_time(up[1h:5m] offset 1d)",
        "up @ 1600000000",
        "up @ end()",
        "{__name__=\"up\"}",
        "histogram_quantile(0.95, sum by (le) (rate(x_bucket[$__rate_interval])))",
        "increase(x[${__range}])",
        "topk(5, up)",
        "count_values(\"v\", up)",
        "a == bool 1",
        "label_replace(up, \"a\", \"$1\", \"b\", \"(.*)\")",
        "time() - x > 900",
        "(up)",
        "- - up",
        "a unless b",
        "quantile(0.5, up)",
        "up # a comment",
        "job:x:rate5m > 2 * job:x:baseline",
        "a % b ^ 2"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(GOOD); i++) {
        struct err err = {0};

        if (promql_check(span_of(GOOD[i]), &err))
            fail_msg("'%s': %s", GOOD[i], err_text(&err));
    }
}

static void test_a_deep_nest_is_refused_and_does_not_end_the_process(void **state)
{
    struct buf text AUTO(buf_release) = {0};

    (void)state;
    for (unsigned i = 0; i < 100000; i++)
        buf_addc(&text, '(');
    assert_int_equal(promql_check(buf_span(&text), NULL), ERR_CONFIG);
}

static void join(struct span name, void *ctx)
{
    buf_addf(ctx, "%.*s ", (int)name.len, name.p);
}

static void test_only_metrics_are_metrics(void **state)
{
    struct buf out AUTO(buf_release) = {0};

    (void)state;
    promql_metrics(
        SPAN_LIT("sum by (provider) (rate(a_total{b=\"c\"}[5m])) / on (d) group_left (e) f:g:h offset 1h and "
                 "count(i) > 3 or label_replace(sum, \"j\", \"k\", \"\", \"\") unless min"),
        join, &out);
    assert_string_equal(out.p, "a_total f:g:h i sum min ");
}

static const char *unless_recorded(struct span name, void *ctx)
{
    return memchr(name.p, ':', name.len) ? NULL : ctx;
}

static void test_matchers_go_into_every_selector(void **state)
{
    struct buf out AUTO(buf_release) = {0};

    (void)state;
    {
        char more[] = "job=~\"$job\"";

        promql_narrow(&out, SPAN_LIT("rate(a[5m]) / sum(b{}) + c{d=\"}\"} > e:f"), unless_recorded, more);
    }
    assert_string_equal(
        out.p, "rate(a{job=~\"$job\"}[5m]) / sum(b{job=~\"$job\"}) + c{job=~\"$job\",d=\"}\"} > e:f");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_no_promql_is_refused),
        cmocka_unit_test(test_what_promtool_takes_is_taken),
        cmocka_unit_test(test_a_deep_nest_is_refused_and_does_not_end_the_process),
        cmocka_unit_test(test_only_metrics_are_metrics),
        cmocka_unit_test(test_matchers_go_into_every_selector),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
