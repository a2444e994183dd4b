/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/provider/provider.h"

#include "tests/unit/cm.h"

static void test_every_named_kind_is_found_and_names_itself(void **state)
{
    const char *const *kinds = provider_kinds();
    size_t n = 0;

    (void)state;
    for (; kinds[n]; n++) {
        const struct provider_ops *ops = provider_ops_find(kinds[n]);

        assert_non_null(ops);
        assert_string_equal(ops->name, kinds[n]);
        assert_true(ops->path && ops->headers && ops->wants_include_usage && ops->decode_event &&
                    ops->decode_body && ops->classify);
    }
    assert_true(n >= 2);
}

static void test_an_unknown_kind_is_not_found(void **state)
{
    (void)state;
    assert_null(provider_ops_find("openaix"));
    assert_null(provider_ops_find(""));
    assert_null(provider_ops_find(NULL));
}

static void test_the_key_travels_in_the_header_of_the_dialect(void **state)
{
    static const char OPENAI[] = "Authorization: Bearer sk-1\0";
    static const char ANTHROPIC[] = "x-api-key: sk-1\0anthropic-version: 2023-06-01\0";
    struct secret key = {0};
    struct buf lines = {0};

    (void)state;
    assert_int_equal(secret_set(&key, SPAN_LIT("sk-1")), ERR_OK);
    assert_int_equal(provider_ops_find("openai")->headers(&lines, &key), ERR_OK);
    assert_int_equal(lines.len, sizeof(OPENAI) - 1);
    assert_memory_equal(lines.p, OPENAI, lines.len);
    buf_clear(&lines);
    assert_int_equal(provider_ops_find("anthropic")->headers(&lines, &key), ERR_OK);
    assert_int_equal(lines.len, sizeof(ANTHROPIC) - 1);
    assert_memory_equal(lines.p, ANTHROPIC, lines.len);
    buf_release(&lines);
    secret_release(&key);
}

static void test_without_a_key_no_credentials_are_sent(void **state)
{
    static const char ANTHROPIC[] = "anthropic-version: 2023-06-01\0";
    struct buf lines = {0};

    (void)state;
    assert_int_equal(provider_ops_find("openai")->headers(&lines, NULL), ERR_OK);
    assert_int_equal(lines.len, 0);
    assert_int_equal(provider_ops_find("anthropic")->headers(&lines, NULL), ERR_OK);
    assert_int_equal(lines.len, sizeof(ANTHROPIC) - 1);
    buf_release(&lines);
}

static void test_a_version_that_the_client_stated_is_not_stated_twice(void **state)
{
    static const char LINES[] = "accept: */*\0Anthropic-Version: 2024-01-01\0x-request-id: 1";
    struct buf lines = {0};

    (void)state;
    assert_int_equal(buf_append(&lines, LINES, sizeof(LINES)), ERR_OK);
    assert_int_equal(provider_ops_find("anthropic")->headers(&lines, NULL), ERR_OK);
    assert_int_equal(lines.len, sizeof(LINES));
    buf_release(&lines);
}

static void test_each_dialect_serves_its_own_operations(void **state)
{
    const struct provider_ops *openai = provider_ops_find("openai"),
                              *anthropic = provider_ops_find("anthropic");

    (void)state;
    for (int op = 0; op < OP_COUNT; op++) {
        const struct operation_row *row = operation_row((enum operation)op);
        const struct provider_ops *own = row->dialect == DIALECT_ANTHROPIC ? anthropic : openai;
        const char *path = own->path((enum operation)op);

        if (op == OP_MODEL) /* answered from the configuration */
            continue;
        assert_non_null(path);
        /* base_url ends in /v1 */
        assert_string_equal(path, row->path + 3);
        if (row->dialect == DIALECT_ANTHROPIC)
            assert_null(openai->path((enum operation)op));
    }
    assert_null(anthropic->path(OP_CHAT));
    assert_true(openai->wants_include_usage(OP_CHAT));
    assert_true(openai->wants_include_usage(OP_COMPLETION));
    assert_false(openai->wants_include_usage(OP_RESPONSES));
    assert_false(anthropic->wants_include_usage(OP_MESSAGES));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_named_kind_is_found_and_names_itself),
        cmocka_unit_test(test_an_unknown_kind_is_not_found),
        cmocka_unit_test(test_the_key_travels_in_the_header_of_the_dialect),
        cmocka_unit_test(test_without_a_key_no_credentials_are_sent),
        cmocka_unit_test(test_a_version_that_the_client_stated_is_not_stated_twice),
        cmocka_unit_test(test_each_dialect_serves_its_own_operations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
