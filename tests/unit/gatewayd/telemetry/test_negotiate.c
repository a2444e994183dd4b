/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/telemetry/exposition.h"
#include "libshared/base/compiler.h"

#include "tests/unit/cm.h"

static void test_the_accept_header_chooses_the_format(void **state)
{
    static const struct {
        const char *accept;
        enum exposition_format want;
    } CASES[] = {
        {"", EXPOSITION_TEXT_004},
        {"*/*", EXPOSITION_TEXT_004},
        {"text/plain", EXPOSITION_TEXT_004},
        {"text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8", EXPOSITION_TEXT_004},
        {"application/openmetrics-text", EXPOSITION_OPENMETRICS},
        {"Application/OpenMetrics-Text ; Version=1.0.0 ; charset=utf-8", EXPOSITION_OPENMETRICS},
        {"application/openmetrics-text; version=\"1.0.0\"", EXPOSITION_OPENMETRICS},
        /* Prometheus 2.42 and 3 */
        {"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
         "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
         EXPOSITION_OPENMETRICS},
        {"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
         "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
         "application/openmetrics-text;version=0.0.1;q=0.4,text/"
         "plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
         "text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
         EXPOSITION_OPENMETRICS},
        /* weights decide, and the closest range gives the weight */
        {"application/openmetrics-text;q=0.3, text/plain;q=0.8", EXPOSITION_TEXT_004},
        {"application/openmetrics-text;q=0.8, text/plain;q=0.3", EXPOSITION_OPENMETRICS},
        {"text/*;q=0.9, application/openmetrics-text;q=0.5", EXPOSITION_TEXT_004},
        {"*/*;q=0.2, application/openmetrics-text", EXPOSITION_OPENMETRICS},
        {"application/openmetrics-text, */*", EXPOSITION_OPENMETRICS},
        {"application/openmetrics-text;q=0, */*", EXPOSITION_TEXT_004},
        {"application/openmetrics-text;q=0.000", EXPOSITION_TEXT_004},
        /* in doubt the old one */
        {"application/openmetrics-text, text/plain", EXPOSITION_TEXT_004},
        {"application/openmetrics-text;version=0.0.1", EXPOSITION_TEXT_004},
        {"application/openmetrics-text;version=2.0.0", EXPOSITION_TEXT_004},
        {"application/openmetrics-text;q=high", EXPOSITION_TEXT_004},
        {"application/openmetrics-text;q=1.5", EXPOSITION_TEXT_004},
        {"application/openmetrics-textual", EXPOSITION_TEXT_004},
        {"x-application/openmetrics-text", EXPOSITION_TEXT_004},
        {",;=,/;q", EXPOSITION_TEXT_004},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++)
        if (exposition_negotiate(span_of(CASES[i].accept)) != CASES[i].want)
            fail_msg("wrong format for '%s'", CASES[i].accept);
}

static void test_content_types_carry_the_version(void **state)
{
    (void)state;
    assert_string_equal(exposition_content_type(EXPOSITION_TEXT_004),
                        "text/plain; version=0.0.4; charset=utf-8");
    assert_string_equal(exposition_content_type(EXPOSITION_OPENMETRICS),
                        "application/openmetrics-text; version=1.0.0; charset=utf-8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_accept_header_chooses_the_format),
        cmocka_unit_test(test_content_types_carry_the_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
