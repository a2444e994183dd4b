/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/cm.h"

#include <stdio.h>
#include <string.h>

#include "libshared/base/compiler.h"
#include "libshared/store/kv_keys.h"

#define AT(seconds) ((struct wall){INT64_C(seconds) * 1000000})
#define NOON        AT(1795180009) /* 2026-11-20T13:06:49 */

static void test_times_are_written_in_utc(void **state)
{
    char hour[KV_HOUR_CAP], ten[KV_TEN_CAP];

    (void)state;
    kv_hour_text(NOON, hour);
    kv_ten_text(NOON, ten);
    assert_string_equal(hour, "2026-11-20T13");
    assert_string_equal(ten, "2026-11-20T13:06:40");
    kv_hour_text((struct wall){-5}, hour);
    assert_string_equal(hour, "1970-01-01T00");
    kv_ten_text((struct wall){INT64_MAX}, ten);
    assert_string_equal(ten, "9999-12-31T23:59:59");
}

static void test_an_hour_is_read_back_and_nothing_else_is(void **state)
{
    static const char *const WRONG[] = {
        "",           "2026-11-20T24", "2026-02-30T01", "2026-1-020T13",    " 2026-11-20T1",
        "2026-11-20", "2026-11-20 13", "2026-11-20T1x", "2026-11-20T13:00", "1969-12-31T23"};

    (void)state;
    assert_int_equal(kv_hour_parse("2026-11-20T13"), 1795179600);
    assert_int_equal(kv_hour_parse("1970-01-01T00"), 0);
    for (size_t i = 0; i < ARRAY_LEN(WRONG); i++)
        assert_int_equal(kv_hour_parse(WRONG[i]), -1);
}

static void test_a_key_can_be_taken_apart(void **state)
{
    char key[KV_KEY_CAP];

    (void)state;
    kv_key_hour(key, NOON, "open:router", "meta/llama-3:free%");
    assert_string_equal(key, "{gw}:h:2026-11-20T13:open%3Arouter:meta/llama-3%3Afree%25");
    kv_key_ten(key, NOON, "p", "m");
    assert_string_equal(key, "{gw}:t:2026-11-20T13:06:40:p:m");
    kv_key_provider(key, NOON, "p:q");
    assert_string_equal(key, "{gw}:p:2026-11-20T13:06:40:p%3Aq");
    kv_key_errors(key, "p:q");
    assert_string_equal(key, "{gw}:err:p%3Aq");
    kv_key_tenants(key, NOON);
    assert_string_equal(key, "{gw}:ten:2026-11-20T13");
    kv_key_budget(key, "tenant/acme", "2026-11");
    assert_string_equal(key, "{gw}:bud:tenant/acme:2026-11");
    kv_key_instance(key, "i");
    assert_string_equal(key, KV_INST ":i");
    kv_key_watermark(key, "i");
    assert_string_equal(key, "{gw}:seq:i");
}

/* Names of every length around the limit, of bytes that are encoded and that are not: each has its own key, which fits. */
static void test_names_that_are_too_long_end_in_a_hash(void **state)
{
    char name[1200], key[KV_KEY_CAP], last[KV_KEY_CAP] = "", other[KV_KEY_CAP];

    (void)state;
    for (int step = 1; step <= 3; step++)
        for (size_t n = 50; n < sizeof(name) - 1; n++) {
            memset(name, 'a', n);
            for (size_t i = 0; i < n; i += (size_t)step)
                name[i] = ':';
            name[n] = '\0';
            kv_key_ten(key, NOON, name, name);
            assert_true(strlen(key) < 480);
            assert_true(strcmp(key, last) != 0);
            name[n - 1] = 'z';
            kv_key_ten(other, NOON, name, name);
            assert_true(strcmp(key, other) != 0);
            for (const char *p = strchr(key, '%'); p; p = strchr(p + 1, '%'))
                assert_memory_equal(p, "%3A", 3); /* no escape is cut */
            (void)snprintf(last, sizeof(last), "%s", key);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times_are_written_in_utc),
        cmocka_unit_test(test_an_hour_is_read_back_and_nothing_else_is),
        cmocka_unit_test(test_a_key_can_be_taken_apart),
        cmocka_unit_test(test_names_that_are_too_long_end_in_a_hash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
