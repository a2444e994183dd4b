/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/provider/provider.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/cm.h"

static const struct provider_ops *ops;

static int find_ops(void **state)
{
    (void)state;
    ops = provider_ops_find("openai");
    return ops ? 0 : -1;
}

static struct event_view feed(struct answer *a, enum operation op, const char *type, const char *data)
{
    return ops->decode_event(a, op, span_of(type), span_of(data));
}

static struct event_view chat(struct answer *a, const char *data)
{
    return feed(a, OP_CHAT, "", data);
}

static struct answer body(enum operation op, const char *text)
{
    struct answer a = {0};

    ops->decode_body(&a, op, SPAN_LIT("application/json"), span_of(text));
    return a;
}

/* ---- chunks ---- */

static void test_a_chat_stream_is_read_from_role_to_done(void **state)
{
    struct answer a = {0};
    struct event_view v;

    (void)state;
    v = chat(
        &a,
        "{\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
        "\"finish_reason\":null}],\"usage\":null}");
    assert_false(v.has_content || v.is_usage_only || v.is_terminal);
    assert_string_equal(a.model, "m-1");
    v = chat(&a, "{\"model\":\"m-2\",\"choices\":[{\"index\":0,\"delta\":{\"content\":"
                 "\"h\\u00e9\\n\xc3\xa9\"},\"finish_reason\":null}]}");
    assert_true(v.has_content);
    assert_int_equal(a.output_chars, 4);
    v = chat(&a, "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}");
    assert_false(v.has_content);
    assert_string_equal(a.finish, "stop");
    v = chat(&a,
             "{\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3,\"total_tokens\":12}}");
    assert_true(v.is_usage_only);
    assert_false(v.has_content);
    assert_int_equal(a.end, ANSWER_OPEN);
    v = chat(&a, "[DONE]");
    assert_true(v.is_terminal);
    assert_int_equal(a.end, ANSWER_DONE);
    assert_int_equal(a.usage.input, 9);
    assert_int_equal(a.usage.output, 3);
    assert_int_equal(a.usage.source, USAGE_REPORTED);
    assert_int_equal(a.output_events, 1);
    assert_string_equal(a.model, "m-1");
}

static void test_what_counts_as_content(void **state)
{
    static const struct {
        const char *delta;
        bool has_content;
        uint64_t chars;
    } CASES[] = {
        {"{\"content\":\"abc\"}", true, 3},
        {"{\"content\":null}", false, 0},
        {"{\"content\":\"\",\"refusal\":null,\"tool_calls\":null}", false, 0},
        {"{\"reasoning_content\":\"abcd\",\"content\":null}", true, 4},
        {"{\"reasoning\":\"abcd\",\"reasoning_content\":\"abcd\"}", true, 4},
        {"{\"refusal\":\"no\"}", true, 2},
        {"{\"content\":[{\"type\":\"text\",\"text\":\"ab\"},{\"type\":\"text\",\"text\":\"c\"}]}", true, 3},
        {"{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}", true, 3},
        {"{\"tool_calls\":[]}", false, 0},
        {"{\"function_call\":{\"name\":\"f\"}}", true, 0},
        {"{\"role\":\"assistant\"}", false, 0},
        {"{\"content\":\"\\ud83d\\ude00\\\"\"}", true, 3},
    };
    char chunk[512];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct answer a = {0};

        (void)snprintf(chunk, sizeof(chunk), "{\"choices\":[{\"delta\":%s}]}", CASES[i].delta);
        assert_int_equal(chat(&a, chunk).has_content, CASES[i].has_content);
        assert_int_equal(a.output_chars, CASES[i].chars);
    }
}

static void test_every_choice_of_a_chunk_is_read(void **state)
{
    struct answer a = {0};

    (void)state;
    assert_true(
        chat(&a,
             "{\"choices\":[{\"delta\":{}},{\"delta\":{\"content\":\"xy\"},\"finish_reason\":\"length\"}]}")
            .has_content);
    assert_int_equal(a.output_chars, 2);
    assert_string_equal(a.finish, "length");
}

static void test_empty_choices_alone_do_not_make_a_usage_chunk(void **state)
{
    struct answer a = {0};

    (void)state;
    assert_false(chat(&a, "{\"choices\":[],\"prompt_filter_results\":[{\"prompt_index\":0}]}").is_usage_only);
    assert_false(chat(&a, "{\"choices\":[],\"usage\":null}").is_usage_only);
    assert_false(chat(&a, "{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}").is_usage_only);
    assert_false(
        chat(&a, "{\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}")
            .is_usage_only);
    assert_true(
        chat(&a, "{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1},\"choices\":[ ]}").is_usage_only);
}

static void test_usage_on_every_chunk_counts_once_as_the_last_one_said(void **state)
{
    struct answer a = {0};

    (void)state;
    chat(&a, "{\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens\":10,\"completion_"
             "tokens\":1}}");
    chat(&a, "{\"choices\":[{\"delta\":{\"content\":\"b\"}}],\"usage\":{\"prompt_tokens\":10,\"completion_"
             "tokens\":2}}");
    chat(&a, "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}");
    assert_int_equal(a.usage.input, 10);
    assert_int_equal(a.usage.output, 2);
}

static void test_keys_are_understood_however_they_are_escaped(void **state)
{
    struct answer a = {0};

    (void)state;
    assert_true(chat(&a, "{\"choi\\u0063es\":[],\"\\u0075s\\u0061ge\":{\"prompt_tokens\":1,"
                         "\"\\u0063ompletion_tokens\":2}}")
                    .is_usage_only);
    assert_int_equal(a.usage.output, 2);
    assert_false(chat(&a, "{\"choi\\u0063ex\":[],\"usage\":{\"prompt_tokens\":1}}").is_usage_only);
}

static void test_usage_is_found_in_the_groq_extension(void **state)
{
    struct answer a = {0};

    (void)state;
    chat(&a, "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"x_groq\":{\"id\":\"r\",\"usage\":"
             "{\"queue_time\":0.1,\"prompt_tokens\":18,\"completion_tokens\":73,\"total_tokens\":91}}}");
    assert_int_equal(a.usage.input, 18);
    assert_int_equal(a.usage.output, 73);
    assert_int_equal(a.end, ANSWER_OPEN);
    chat(&a, "{\"choices\":[],\"x_groq\":{\"id\":\"r\",\"error\":\"over_capacity\"}}");
    assert_int_equal(a.end, ANSWER_ERROR);
    assert_int_equal(a.error, ERR_UP_SERVER);
}

static void test_usage_of_a_broken_chunk_is_not_counted(void **state)
{
    struct answer a = {0};

    (void)state;
    chat(&a, "{\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":5}}");
    assert_false(
        chat(&a, "{\"choices\":[],\"usage\":{\"prompt_tokens\":99,\"completion_tokens\":99}").is_usage_only);
    assert_int_equal(a.usage.input, 5);
    feed(&a, OP_RESPONSES, "response.completed",
         "{\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":99,\"output_tokens\":9}"
         "}");
    assert_int_equal(a.usage.input, 5);
}

static void test_an_error_inside_a_chunk_ends_the_answer_for_good(void **state)
{
    struct answer a = {0};

    (void)state;
    chat(&a, "{\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"error\":null}");
    assert_int_equal(a.end, ANSWER_OPEN);
    chat(&a, "{\"id\":\"g\",\"choices\":[{\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}],"
             "\"error\":{\"code\":502,\"message\":\"provider disconnected\"}}");
    assert_int_equal(a.end, ANSWER_ERROR);
    assert_int_equal(a.error, ERR_UP_SERVER);
    assert_string_equal(a.error_text, "provider disconnected");
    assert_true(chat(&a, "[DONE]").is_terminal);
    assert_int_equal(a.end, ANSWER_ERROR);
}

static void test_an_error_event_ends_the_answer_in_any_operation(void **state)
{
    struct answer a = {0}, b = {0}, c = {0}, d = {0};

    (void)state;
    feed(&a, OP_CHAT, "error", "{\"error\":{\"message\":\"m\",\"type\":\"server_error\"}}");
    assert_int_equal(a.end, ANSWER_ERROR);
    feed(&b, OP_RESPONSES, "error",
         "{\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\"message\":\"m\",\"param\":null}");
    assert_int_equal(b.error, ERR_UP_RATE_LIMIT);
    feed(&c, OP_CHAT, "error", "something went wrong");
    assert_int_equal(c.end, ANSWER_ERROR);
    feed(&d, OP_RESPONSES, "",
         "{\"type\":\"error\",\"error\":{\"type\":\"insufficient_quota\",\"message\":\"m\"}}");
    assert_int_equal(d.error, ERR_UP_RATE_LIMIT);
}

static void test_an_old_style_error_object_as_a_chunk_is_an_error(void **state)
{
    struct answer a = {0};

    (void)state;
    chat(&a,
         "{\"object\":\"error\",\"message\":\"m\",\"type\":\"BadRequestError\",\"param\":null,\"code\":400}");
    assert_int_equal(a.end, ANSWER_ERROR);
    assert_int_equal(a.error, ERR_UP_REFUSED);
}

static void test_bytes_that_are_no_json_say_nothing(void **state)
{
    static const char *const GARBAGE[] = {"",  "DONE",     "[DONE", "[]",
                                          "{", "\xff\xfe", "null",  "{\"choices\":[{\"delta\":{\"content\":"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(GARBAGE); i++) {
        struct answer a = {0};
        struct event_view v = chat(&a, GARBAGE[i]);

        assert_false(v.has_content || v.is_usage_only || v.is_terminal);
        assert_int_equal(a.end, ANSWER_OPEN);
    }
}

static void test_the_end_marker_may_have_space_around_it(void **state)
{
    struct answer a = {0};

    (void)state;
    assert_true(chat(&a, " [DONE] ").is_terminal);
    assert_int_equal(a.end, ANSWER_DONE);
}

static void test_a_text_completion_streams_text(void **state)
{
    struct answer a = {0};

    (void)state;
    assert_true(
        feed(&a, OP_COMPLETION, "", "{\"choices\":[{\"text\":\"abc\",\"index\":0,\"finish_reason\":null}]}")
            .has_content);
    assert_false(
        feed(&a, OP_COMPLETION, "", "{\"choices\":[{\"text\":\"\",\"index\":0,\"finish_reason\":\"stop\"}]}")
            .has_content);
    assert_true(feed(&a, OP_COMPLETION, "", "{\"value\":\"de\"}").has_content);
    assert_int_equal(a.output_chars, 5);
}

static void test_a_long_model_name_is_cut(void **state)
{
    struct answer a = {0};
    char chunk[400] = "{\"model\":\"";

    (void)state;
    memset(chunk + 10, 'm', 300);
    memcpy(chunk + 310, "\"}", 3);
    chat(&a, chunk);
    assert_int_equal(strlen(a.model), sizeof(a.model) - 1);
}

/* ---- typed events ---- */

static void test_a_responses_stream_is_read_from_created_to_completed(void **state)
{
    struct answer a = {0};
    struct event_view v;

    (void)state;
    feed(&a, OP_RESPONSES, "response.created",
         "{\"type\":\"response.created\",\"response\":{\"model\":\"m-1\",\"status\":\"in_progress\","
         "\"error\":null,\"usage\":null}}");
    assert_string_equal(a.model, "m-1");
    v = feed(&a, OP_RESPONSES, "response.output_text.delta",
             "{\"type\":\"response.output_text.delta\",\"delta\":\"abc\"}");
    assert_true(v.has_content);
    v = feed(&a, OP_RESPONSES, "response.output_text.done",
             "{\"type\":\"response.output_text.done\",\"text\":\"abc\"}");
    assert_false(v.has_content);
    v = feed(
        &a, OP_RESPONSES, "response.completed",
        "{\"type\":\"response.completed\",\"response\":{\"model\":\"m-1\",\"status\":\"completed\",\"error\":"
        "null,"
        "\"output\":[{\"type\":\"web_search_call\",\"action\":{\"type\":\"search\"}},"
        "{\"type\":\"web_search_call\",\"action\":{\"type\":\"open_page\"}},{\"type\":\"message\","
        "\"content\":[]}],"
        "\"usage\":{\"input_tokens\":72,\"input_tokens_details\":{\"cached_tokens\":8},\"output_tokens\":14,"
        "\"output_tokens_details\":{\"reasoning_tokens\":3},\"total_tokens\":86}}}");
    assert_true(v.is_terminal);
    assert_int_equal(a.end, ANSWER_DONE);
    assert_string_equal(a.finish, "completed");
    assert_int_equal(a.usage.input, 72);
    assert_int_equal(a.usage.cached, 8);
    assert_int_equal(a.usage.output, 14);
    assert_int_equal(a.usage.reasoning, 3);
    assert_int_equal(a.usage.searches, 1);
    assert_int_equal(a.output_chars, 3);
}

static void test_the_type_of_an_event_is_taken_from_its_data_when_the_event_line_is_missing(void **state)
{
    struct answer a = {0};

    (void)state;
    assert_true(feed(&a, OP_RESPONSES, "", "{\"type\":\"response.reasoning_text.delta\",\"delta\":\"r\"}")
                    .has_content);
    assert_true(feed(&a, OP_RESPONSES, "",
                     "{\"type\":\"response.incomplete\",\"response\":{\"status\":\"incomplete\"}}")
                    .is_terminal);
    assert_int_equal(a.end, ANSWER_DONE);
    assert_string_equal(a.finish, "incomplete");
}

static void test_a_failed_response_is_an_error_with_its_usage(void **state)
{
    struct answer a = {0}, b = {0};

    (void)state;
    assert_true(
        feed(&a, OP_RESPONSES, "response.failed",
             "{\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"m\"},"
             "\"usage\":{\"input_tokens\":4,\"output_tokens\":2}}}")
            .is_terminal);
    assert_int_equal(a.end, ANSWER_ERROR);
    assert_int_equal(a.error, ERR_UP_SERVER);
    assert_int_equal(a.usage.output, 2);
    assert_true(feed(&b, OP_RESPONSES, "response.failed", "{}").is_terminal);
    assert_int_equal(b.end, ANSWER_ERROR);
}

static void test_an_item_that_comes_whole_counts_as_first_content(void **state)
{
    struct answer a = {0};

    (void)state;
    assert_true(feed(&a, OP_RESPONSES, "response.output_item.done", "{\"item\":{\"type\":\"function_call\"}}")
                    .has_content);
    assert_false(
        feed(&a, OP_RESPONSES, "response.output_item.done", "{\"item\":{\"type\":\"message\"}}").has_content);
}

static void test_audio_and_image_streams_carry_usage_beside_their_type(void **state)
{
    struct answer speech = {0}, text = {0}, image = {0};

    (void)state;
    assert_true(
        feed(&speech, OP_SPEECH, "", "{\"type\":\"speech.audio.delta\",\"audio\":\"AAAA\"}").has_content);
    assert_true(feed(&speech, OP_SPEECH, "",
                     "{\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":14,\"output_tokens\":101,"
                     "\"total_tokens\":115}}")
                    .is_terminal);
    assert_int_equal(speech.usage.output, 101);
    assert_true(feed(&text, OP_TRANSCRIPTION, "", "{\"type\":\"transcript.text.delta\",\"delta\":\"hi\"}")
                    .has_content);
    assert_true(feed(&text, OP_TRANSCRIPTION, "",
                     "{\"type\":\"transcript.text.done\",\"text\":\"hi\",\"usage\":{\"type\":\"tokens\","
                     "\"input_tokens\":14,\"output_tokens\":2}}")
                    .is_terminal);
    assert_int_equal(text.usage.input, 14);
    assert_true(
        feed(&image, OP_IMAGES, "image_generation.partial_image", "{\"b64_json\":\"AA\"}").has_content);
    assert_false(feed(&image, OP_IMAGES, "image_generation.completed",
                      "{\"type\":\"image_generation.completed\",\"b64_json\":\"AA\",\"usage\":{\"input_"
                      "tokens\":50,\"output_tokens\":200}}")
                     .is_terminal); /* the next image may follow */
    assert_int_equal(image.usage.images, 1);
    assert_int_equal(image.usage.output, 200);
    assert_int_equal(image.end, ANSWER_DONE);
}

/* ---- bodies ---- */

static void test_a_chat_body_is_read(void **state)
{
    struct answer a =
        body(OP_CHAT,
             " {\"id\":\"c\",\"model\":\"m-1\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
             "\"content\":\"hello\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,"
             "\"completion_tokens\":3,\"total_tokens\":12}}\n");

    (void)state;
    assert_int_equal(a.end, ANSWER_DONE);
    assert_string_equal(a.finish, "stop");
    assert_string_equal(a.model, "m-1");
    assert_int_equal(a.usage.input, 9);
    assert_int_equal(a.output_chars, 5);
}

static void test_a_body_must_be_one_whole_json_object(void **state)
{
    static const char *const BAD[] = {
        "", "   ", "<html></html>", "{\"choices\":[]", "{} {}", "{\"a\":1,}", "\"text\"", "[]", "17"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        struct answer a = body(OP_CHAT, BAD[i]);

        assert_int_equal(a.end, ANSWER_ERROR);
        assert_int_equal(a.error, ERR_UP_GARBAGE);
        assert_true(a.error_text[0] != '\0');
    }
}

static void test_an_error_object_as_a_body_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(body(OP_CHAT, "{\"error\":{\"type\":\"insufficient_quota\",\"message\":\"m\"}}").error,
                     ERR_UP_RATE_LIMIT);
    assert_int_equal(body(OP_CHAT, "{\"error\":\"overloaded, try later\"}").end, ANSWER_ERROR);
    assert_int_equal(
        body(OP_CHAT, "[{\"error\":{\"code\":503,\"message\":\"m\",\"status\":\"UNAVAILABLE\"}}]").error,
        ERR_UP_OVERLOADED);
    assert_int_equal(body(OP_EMBEDDINGS, "{\"object\":\"error\",\"message\":\"m\",\"code\":500}").error,
                     ERR_UP_SERVER);
    assert_int_equal(
        body(OP_RESPONSES, "{\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"m\"}}")
            .error,
        ERR_UP_SERVER);
    assert_int_equal(body(OP_RESPONSES, "{\"status\":\"completed\",\"error\":null}").end, ANSWER_DONE);
}

static void test_a_responses_body_is_read(void **state)
{
    struct answer a = body(
        OP_RESPONSES,
        "{\"model\":\"m\",\"status\":\"completed\",\"output\":[{\"type\":\"message\",\"content\":"
        "[{\"type\":\"output_text\",\"text\":\"abc\"}]},{\"type\":\"function_call\",\"arguments\":\"{}\"}],"
        "\"usage\":{\"input_tokens\":5,\"output_tokens\":6}}");
    struct answer b =
        body(OP_RESPONSES, "{\"choices\":[{\"message\":{\"content\":\"abcd\"},\"finish_reason\":\"stop\"}],"
                           "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":6}}");

    (void)state;
    assert_int_equal(a.usage.output, 6);
    assert_int_equal(a.output_chars, 5);
    assert_string_equal(a.finish, "completed");
    assert_int_equal(b.usage.output, 6);
    assert_string_equal(b.finish, "stop");
}

static void test_generated_images_are_counted(void **state)
{
    struct answer a =
        body(OP_IMAGES,
             "{\"created\":1,\"data\":[{\"url\":\"u\"},{\"b64_json\":\"AA\"}],\"usage\":{\"input_tokens\":8,"
             "\"output_tokens\":272,\"input_tokens_details\":{\"text_tokens\":8,\"image_tokens\":0}}}");

    (void)state;
    assert_int_equal(a.usage.images, 2);
    assert_int_equal(a.usage.output, 272);
    assert_int_equal(body(OP_IMAGES, "{\"created\":1,\"data\":[{\"url\":\"u\"}]}").usage.images, 1);
    assert_int_equal(body(OP_IMAGES, "{\"created\":1,\"data\":[{\"url\":\"u\"}]}").usage.source, USAGE_NONE);
}

static void test_rerankers_count_tokens_or_searches(void **state)
{
    struct answer a = body(OP_RERANK, "{\"results\":[],\"meta\":{\"billed_units\":{\"search_units\":1}}}");

    (void)state;
    assert_int_equal(a.usage.searches, 1);
    assert_int_equal(a.usage.source, USAGE_REPORTED);
    assert_int_equal(body(OP_RERANK, "{\"data\":[],\"usage\":{\"total_tokens\":43}}").usage.input, 43);
}

static void test_a_large_embedding_body_is_read(void **state)
{
    size_t cap = (size_t)8 << 20, n;
    char *text = malloc(cap);
    struct answer a = {0};

    (void)state;
    assert_non_null(text);
    n = (size_t)snprintf(text, cap, "{\"data\":[{\"embedding\":[0");
    while (n < cap - 100) {
        memcpy(text + n, ",-0.0123456", 11);
        n += 11;
    }
    n += (size_t)snprintf(text + n, cap - n, "]}],\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8}}");
    ops->decode_body(&a, OP_EMBEDDINGS, SPAN_LIT("application/json; charset=utf-8"), span_make(text, n));
    assert_int_equal(a.end, ANSWER_DONE);
    assert_int_equal(a.usage.input, 8);
    free(text);
}

static void test_audio_and_plain_text_need_no_json(void **state)
{
    struct answer a = {0}, b = {0}, c = {0}, d = {0};

    (void)state;
    ops->decode_body(&a, OP_SPEECH, SPAN_LIT("audio/mpeg"), SPAN_LIT("\xff\xfb\x90\x00"));
    assert_int_equal(a.end, ANSWER_DONE);
    ops->decode_body(&b, OP_TRANSCRIPTION, SPAN_LIT("text/plain; charset=utf-8"), SPAN_LIT("1\n00:00 hi"));
    assert_int_equal(b.end, ANSWER_DONE);
    ops->decode_body(&c, OP_SPEECH, SPAN_LIT("audio/mpeg"), SPAN_LIT(""));
    assert_int_equal(c.end, ANSWER_ERROR);
    ops->decode_body(&d, OP_SPEECH, SPAN_LIT("application/json"),
                     SPAN_LIT("{\"error\":{\"message\":\"m\"}}"));
    assert_int_equal(d.end, ANSWER_ERROR);
    assert_int_equal(
        body(OP_TRANSCRIPTION, "{\"text\":\"hi\",\"usage\":{\"type\":\"duration\",\"seconds\":7}}")
            .usage.source,
        USAGE_NONE);
}

static void test_every_cut_of_an_event_is_survived(void **state)
{
    static const char EVENT[] =
        "{\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"a\\u00e9\\\"\",\"tool_calls\":[{"
        "\"function\":"
        "{\"arguments\":\"{}\"}}]},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,"
        "\"prompt_tokens_details\":{\"cached_tokens\":1},\"completion_tokens\":2},"
        "\"error\":{\"message\":\"m\",\"code\":5},\"x_groq\":{\"usage\":{}}}";

    (void)state;
    for (int op = 0; op < OP_COUNT; op++) {
        for (size_t n = 0; n < sizeof(EVENT); n++) {
            struct answer a = {0};
            char *exact = malloc(n ? n : 1); /* so that a read past the end is seen */

            memcpy(exact, EVENT, n);
            ops->decode_event(&a, (enum operation)op, SPAN_LIT(""), span_make(exact, n));
            ops->decode_event(&a, (enum operation)op, SPAN_LIT("response.completed"), span_make(exact, n));
            ops->decode_body(&a, (enum operation)op, SPAN_LIT("application/json"), span_make(exact, n));
            free(exact);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_chat_stream_is_read_from_role_to_done),
        cmocka_unit_test(test_what_counts_as_content),
        cmocka_unit_test(test_every_choice_of_a_chunk_is_read),
        cmocka_unit_test(test_empty_choices_alone_do_not_make_a_usage_chunk),
        cmocka_unit_test(test_usage_on_every_chunk_counts_once_as_the_last_one_said),
        cmocka_unit_test(test_keys_are_understood_however_they_are_escaped),
        cmocka_unit_test(test_usage_is_found_in_the_groq_extension),
        cmocka_unit_test(test_usage_of_a_broken_chunk_is_not_counted),
        cmocka_unit_test(test_an_error_inside_a_chunk_ends_the_answer_for_good),
        cmocka_unit_test(test_an_error_event_ends_the_answer_in_any_operation),
        cmocka_unit_test(test_an_old_style_error_object_as_a_chunk_is_an_error),
        cmocka_unit_test(test_bytes_that_are_no_json_say_nothing),
        cmocka_unit_test(test_the_end_marker_may_have_space_around_it),
        cmocka_unit_test(test_a_text_completion_streams_text),
        cmocka_unit_test(test_a_long_model_name_is_cut),
        cmocka_unit_test(test_a_responses_stream_is_read_from_created_to_completed),
        cmocka_unit_test(test_the_type_of_an_event_is_taken_from_its_data_when_the_event_line_is_missing),
        cmocka_unit_test(test_a_failed_response_is_an_error_with_its_usage),
        cmocka_unit_test(test_an_item_that_comes_whole_counts_as_first_content),
        cmocka_unit_test(test_audio_and_image_streams_carry_usage_beside_their_type),
        cmocka_unit_test(test_a_chat_body_is_read),
        cmocka_unit_test(test_a_body_must_be_one_whole_json_object),
        cmocka_unit_test(test_an_error_object_as_a_body_is_an_error),
        cmocka_unit_test(test_a_responses_body_is_read),
        cmocka_unit_test(test_generated_images_are_counted),
        cmocka_unit_test(test_rerankers_count_tokens_or_searches),
        cmocka_unit_test(test_a_large_embedding_body_is_read),
        cmocka_unit_test(test_audio_and_plain_text_need_no_json),
        cmocka_unit_test(test_every_cut_of_an_event_is_survived),
    };

    return cmocka_run_group_tests(tests, find_ops, NULL);
}
