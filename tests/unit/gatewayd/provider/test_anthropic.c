/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/provider/provider.h"

#include "tests/unit/cm.h"

static const struct provider_ops *ops;

static int find_ops(void **state)
{
    (void)state;
    ops = provider_ops_find("anthropic");
    return ops ? 0 : -1;
}

static struct event_view feed(struct answer *a, const char *type, const char *data)
{
    return ops->decode_event(a, OP_MESSAGES, span_of(type), span_of(data));
}

#define START                                                                                                \
    "{\"type\":\"message_start\",\"message\":{\"model\":\"claude-x\",\"stop_reason\":null,\"usage\":{"       \
    "\"input_tokens\":25,"                                                                                   \
    "\"cache_creation_input_tokens\":10,\"cache_read_input_tokens\":5,\"output_tokens\":1}}}"

static void test_a_message_stream_is_read_from_start_to_stop(void **state)
{
    struct answer a = {0};

    (void)state;
    assert_false(feed(&a, "message_start", START).has_content);
    assert_false(
        feed(&a, "content_block_start", "{\"content_block\":{\"type\":\"text\",\"text\":\"\"}}").has_content);
    assert_false(feed(&a, "ping", "{\"type\":\"ping\"}").has_content);
    assert_true(feed(&a, "content_block_delta",
                     "{\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hello\"}}")
                    .has_content);
    assert_false(feed(&a, "content_block_delta",
                      "{\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"xx\"}}")
                     .has_content);
    feed(
        &a, "message_delta",
        "{\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":15}}");
    assert_int_equal(a.end, ANSWER_OPEN);
    assert_true(feed(&a, "message_stop", "{\"type\":\"message_stop\"}").is_terminal);
    assert_int_equal(a.end, ANSWER_DONE);
    assert_string_equal(a.model, "claude-x");
    assert_string_equal(a.finish, "end_turn");
    assert_int_equal(a.usage.input, 40);
    assert_int_equal(a.usage.cached, 5);
    assert_int_equal(a.usage.cache_write, 10);
    assert_int_equal(a.usage.output, 15);
    assert_int_equal(a.output_chars, 5);
    assert_int_equal(a.output_events, 1);
}

static void test_thinking_and_tool_input_are_content(void **state)
{
    struct answer a = {0};

    (void)state;
    assert_true(
        feed(&a, "content_block_delta", "{\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}")
            .has_content);
    assert_true(
        feed(&a, "content_block_delta", "{\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}}")
            .has_content);
    assert_false(
        feed(&a, "content_block_delta", "{\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"\"}}")
            .has_content);
    assert_true(feed(&a, "content_block_start",
                     "{\"content_block\":{\"type\":\"tool_use\",\"name\":\"f\",\"input\":{}}}")
                    .has_content);
}

static void test_a_second_start_begins_the_message_again(void **state)
{
    struct answer a = {0};

    (void)state;
    feed(&a, "message_start", START);
    feed(&a, "message_start", START);
    feed(&a, "message_delta", "{\"delta\":{},\"usage\":{\"output_tokens\":3}}");
    assert_int_equal(a.usage.input, 40);
    assert_int_equal(a.usage.output, 3);
}

static void test_the_type_is_taken_from_the_data_when_the_event_line_is_missing(void **state)
{
    struct answer a = {0};

    (void)state;
    feed(&a, "", START);
    assert_true(feed(&a, "", "{\"type\":\"message_stop\"}").is_terminal);
    assert_int_equal(a.usage.input, 40);
}

static void test_an_error_event_ends_the_answer_for_good(void **state)
{
    struct answer a = {0};

    (void)state;
    feed(&a, "error",
         "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}");
    assert_int_equal(a.end, ANSWER_ERROR);
    assert_int_equal(a.error, ERR_UP_OVERLOADED);
    assert_string_equal(a.error_text, "overloaded_error: Overloaded");
    feed(&a, "message_stop", "{\"type\":\"message_stop\"}");
    assert_int_equal(a.end, ANSWER_ERROR);
}

static void test_a_broken_event_counts_nothing(void **state)
{
    struct answer a = {0};

    (void)state;
    feed(&a, "message_start", "{\"message\":{\"usage\":{\"input_tokens\":25}}");
    feed(&a, "message_delta", "{\"usage\":{\"output_tokens\":25}");
    assert_int_equal(a.usage.input, 0);
    assert_int_equal(a.usage.output, 0);
}

static void test_a_message_body_is_read(void **state)
{
    struct answer a = {0};

    (void)state;
    ops->decode_body(
        &a, OP_MESSAGES, SPAN_LIT("application/json"),
        SPAN_LIT("{\"type\":\"message\",\"model\":\"claude-x\",\"content\":[{\"type\":\"text\",\"text\":"
                 "\"hello\"}],"
                 "\"stop_reason\":\"max_tokens\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}"));
    assert_int_equal(a.end, ANSWER_DONE);
    assert_int_equal(a.usage.input, 3);
    assert_int_equal(a.usage.output, 4);
    assert_string_equal(a.finish, "max_tokens");
    assert_int_equal(a.output_chars, 5);
}

static void test_counting_tokens_spends_none(void **state)
{
    struct answer a = {0};

    (void)state;
    ops->decode_body(&a, OP_COUNT_TOKENS, SPAN_LIT("application/json"), SPAN_LIT("{\"input_tokens\":2095}"));
    assert_int_equal(a.end, ANSWER_DONE);
    assert_int_equal(a.usage.source, USAGE_NONE);
    assert_int_equal(a.usage.input, 0);
}

static void test_errors_and_garbage_as_bodies(void **state)
{
    struct answer a = {0}, b = {0}, c = {0};

    (void)state;
    ops->decode_body(
        &a, OP_MESSAGES, SPAN_LIT("application/json"),
        SPAN_LIT("{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"m\"}}"));
    assert_int_equal(a.error, ERR_UP_RATE_LIMIT);
    ops->decode_body(&b, OP_MESSAGES, SPAN_LIT("application/json"), SPAN_LIT("{\"type\":\"message\""));
    assert_int_equal(b.error, ERR_UP_GARBAGE);
    ops->decode_body(&c, OP_MESSAGES, SPAN_LIT("text/html"), SPAN_LIT("<html>"));
    assert_int_equal(c.error, ERR_UP_GARBAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_message_stream_is_read_from_start_to_stop),
        cmocka_unit_test(test_thinking_and_tool_input_are_content),
        cmocka_unit_test(test_a_second_start_begins_the_message_again),
        cmocka_unit_test(test_the_type_is_taken_from_the_data_when_the_event_line_is_missing),
        cmocka_unit_test(test_an_error_event_ends_the_answer_for_good),
        cmocka_unit_test(test_a_broken_event_counts_nothing),
        cmocka_unit_test(test_a_message_body_is_read),
        cmocka_unit_test(test_counting_tokens_spends_none),
        cmocka_unit_test(test_errors_and_garbage_as_bodies),
    };

    return cmocka_run_group_tests(tests, find_ops, NULL);
}
