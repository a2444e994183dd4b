/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/proxy/reach.h"

#include "libshared/base/compiler.h"

#include "tests/unit/cm.h"

static struct reach reach_of(const char *body)
{
    struct reach r;

    reach_scan(OP_CHAT, span_of(body), 1, &r);
    return r;
}

static void test_what_has_no_bound_is_found_however_it_is_written(void **state)
{
    static const char *const ROWS[] = {
        "{\"tools\":[{\"type\":\"web_search\"}]}",
        "{\"tools\":[{\"type\":\"function\",\"type\":\"web_search\"}]}",
        "{\"tools\":[{\"type\":\"web_search\",\"max_uses\":1,\"max_uses\":1000}]}",
        "{\"tools\":{\"type\":\"web_search\"}}",
        "{\"service_tier\":\"priority\"}",
        "{\"service_tier\":\"pr\\u0069ority\"}",
        "{\"messages\":[{\"content\":[{\"type\":\"input_\\u0061udio\"}]}]}",
        "{\"messages\":[{\"content\":[{\"type\":\"input\\u005Faudio\"}]}]}",
        "{\"background\":true}",
        "{\"background\":1}",
        "{\"mcp_servers\":[]}",
        "{\"models\":[\"dearer\"]}",
        "{\"fallbacks\":[\"dearer\"]}",
        "{\"plugins\":[{\"id\":\"web\"}]}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++)
        assert_string_not_equal(reach_of(ROWS[i]).unbounded, "");
}

static void test_what_is_ordinary_has_a_bound(void **state)
{
    static const char *const ROWS[] = {
        "{\"tools\":[{\"type\":\"function\",\"function\":{\"type\":\"x\"}}],\"background\":false}",
        "{\"tools\":null,\"service_tier\":\"auto\",\"models\":null}",
        "{\"messages\":[{\"content\":\"say \\\\u0061 and \\u00e9, \\u0022, \\u0060, \\u007f\"}]}",
        "{\"tools\":[{\"type\":\"web_search\",\"max_uses\":3}]}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++)
        assert_string_equal(reach_of(ROWS[i]).unbounded, "");
    assert_int_equal(reach_of(ROWS[3]).searches, 3);
}

static void test_an_answer_that_is_foretold_may_be_billed_on_top(void **state)
{
    (void)state;
    assert_true(reach_of("{\"prediction\":{\"type\":\"content\",\"content\":\"0123456789\"}}").predicted >=
                10);
    assert_int_equal(reach_of("{\"prediction\":null}").predicted, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_has_no_bound_is_found_however_it_is_written),
        cmocka_unit_test(test_what_is_ordinary_has_a_bound),
        cmocka_unit_test(test_an_answer_that_is_foretold_may_be_billed_on_top),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
