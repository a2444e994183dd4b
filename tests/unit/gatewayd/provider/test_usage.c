/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/provider/usage.h"

#include "libshared/base/compiler.h"

#include "tests/unit/cm.h"

static struct usage openai(const char *text)
{
    struct usage u = {0};

    if (!usage_read_openai(&u, span_of(text)))
        assert_int_equal(u.source, USAGE_NONE);
    return u;
}

static void check(struct usage u, uint64_t input, uint64_t cached, uint64_t output, uint64_t reasoning)
{
    assert_int_equal(u.source, USAGE_REPORTED);
    assert_int_equal(u.input, input);
    assert_int_equal(u.cached, cached);
    assert_int_equal(u.output, output);
    assert_int_equal(u.reasoning, reasoning);
}

static void test_old_and_new_spelling_mean_the_same(void **state)
{
    (void)state;
    check(openai("{\"prompt_tokens\":11,\"completion_tokens\":7,\"total_tokens\":18}"), 11, 0, 7, 0);
    check(openai("{\"input_tokens\":11,\"output_tokens\":7,\"total_tokens\":18}"), 11, 0, 7, 0);
    check(openai(
              "{\"prompt_tokens\":11,\"prompt_tokens_details\":{\"cached_tokens\":4},\"completion_tokens\":7,"
              "\"completion_tokens_details\":{\"reasoning_tokens\":5}}"),
          11, 4, 7, 5);
    check(openai("{\"input_tokens\":11,\"input_tokens_details\":{\"cached_tokens\":4},\"output_tokens\":7,"
                 "\"output_tokens_details\":{\"reasoning_tokens\":5},\"total_tokens\":18}"),
          11, 4, 7, 5);
}

static void test_null_details_are_no_details(void **state)
{
    (void)state;
    check(openai("{\"prompt_tokens\":11,\"completion_tokens\":7,\"prompt_tokens_details\":null,"
                 "\"completion_tokens_details\":null,\"prompt_token_details\":null}"),
          11, 0, 7, 0);
}

static void test_cache_hits_are_found_under_every_vendors_name(void **state)
{
    (void)state;
    check(openai("{\"prompt_tokens\":90,\"completion_tokens\":1,\"prompt_cache_hit_tokens\":64,\"prompt_"
                 "cache_miss_tokens\":26}"),
          90, 64, 1, 0);
    check(openai("{\"prompt_tokens\":90,\"completion_tokens\":1,\"cached_tokens\":64}"), 90, 64, 1, 0);
    check(
        openai(
            "{\"prompt_tokens\":90,\"completion_tokens\":1,\"prompt_token_details\":{\"cached_tokens\":64}}"),
        90, 64, 1, 0);
    /* stated twice: counted once, whichever comes first */
    check(
        openai(
            "{\"prompt_tokens\":90,\"completion_tokens\":1,\"prompt_tokens_details\":{\"cached_tokens\":64},"
            "\"prompt_cache_hit_tokens\":64}"),
        90, 64, 1, 0);
    check(openai("{\"prompt_cache_hit_tokens\":64,\"prompt_tokens\":90,\"completion_tokens\":1,"
                 "\"prompt_tokens_details\":{\"cached_tokens\":64}}"),
          90, 64, 1, 0);
}

static void test_reasoning_left_out_of_the_completion_is_added_when_the_total_says_so(void **state)
{
    (void)state;
    check(openai("{\"prompt_tokens\":12,\"completion_tokens\":2,\"total_tokens\":354,"
                 "\"completion_tokens_details\":{\"reasoning_tokens\":340}}"),
          12, 0, 342, 340);
    /* within the completion already */
    check(openai("{\"prompt_tokens\":12,\"completion_tokens\":342,\"total_tokens\":354,"
                 "\"completion_tokens_details\":{\"reasoning_tokens\":340}}"),
          12, 0, 342, 340);
    /* no total, no proof */
    check(openai("{\"prompt_tokens\":12,\"completion_tokens\":2,\"completion_tokens_details\":{\"reasoning_"
                 "tokens\":340}}"),
          12, 0, 2, 340);
}

static void test_a_total_that_does_not_add_up_changes_nothing(void **state)
{
    (void)state;
    check(openai("{\"prompt_tokens\":12,\"completion_tokens\":30,\"total_tokens\":99}"), 12, 0, 30, 0);
    check(openai("{\"prompt_tokens\":12,\"completion_tokens\":30,\"total_tokens\":3,"
                 "\"completion_tokens_details\":{\"reasoning_tokens\":4}}"),
          12, 0, 30, 4);
}

static void test_more_cached_than_input_tokens_are_passed_on(void **state)
{
    (void)state;
    check(openai("{\"prompt_tokens\":12,\"completion_tokens\":1,\"prompt_tokens_details\":{\"cached_tokens\":"
                 "70}}"),
          12, 70, 1, 0);
}

static void test_embeddings_count_input_only_and_rerankers_a_total_only(void **state)
{
    (void)state;
    check(openai("{\"prompt_tokens\":8,\"total_tokens\":8}"), 8, 0, 0, 0);
    check(openai("{\"total_tokens\":43}"), 43, 0, 0, 0);
}

static void test_an_object_that_counts_no_tokens_is_no_usage(void **state)
{
    static const char *const NONE[] = {"{}",
                                       "null",
                                       "[]",
                                       "7",
                                       "",
                                       "{\"type\":\"duration\",\"seconds\":7}",
                                       "{\"prompt_tokens\":null,\"completion_tokens\":null}",
                                       "{\"prompt_tokens\":-1,\"completion_tokens\":-5}",
                                       "{\"prompt_tokens\":\"12\"}",
                                       "{\"prompt_tokens\":9007199254740992}",
                                       "{\"prompt_tokens\":99999999999999999999999}"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(NONE); i++) {
        struct usage u = {.input = 5, .output = 6, .images = 2, .source = USAGE_REPORTED};

        assert_false(usage_read_openai(&u, span_of(NONE[i])));
        assert_int_equal(u.input, 5);
        assert_int_equal(u.output, 6);
    }
}

static void test_a_later_usage_replaces_an_earlier_one_whole_but_for_images(void **state)
{
    struct usage u = {0};

    (void)state;
    u.images = 2;
    assert_true(usage_read_openai(&u, SPAN_LIT("{\"prompt_tokens\":10,\"completion_tokens\":1,"
                                               "\"prompt_tokens_details\":{\"cached_tokens\":9}}")));
    assert_true(usage_read_openai(&u, SPAN_LIT("{\"prompt_tokens\":10,\"completion_tokens\":44}")));
    check(u, 10, 0, 44, 0);
    assert_int_equal(u.images, 2);
}

static void test_paid_searches_are_counted(void **state)
{
    (void)state;
    assert_int_equal(
        openai("{\"prompt_tokens\":1,\"completion_tokens\":1,\"num_search_queries\":3}").searches, 3);
    assert_int_equal(openai("{\"input_tokens\":1,\"output_tokens\":1,\"server_side_tool_usage_details\":"
                            "{\"web_search_calls\":2,\"x_search_calls\":1,\"code_interpreter_calls\":5}}")
                         .searches,
                     3);
}

static void test_anthropic_input_includes_what_the_cache_read_and_wrote(void **state)
{
    struct usage u = {0};

    (void)state;
    assert_true(usage_merge_anthropic(&u, SPAN_LIT("{\"input_tokens\":5,\"cache_creation_input_tokens\":100,"
                                                   "\"cache_read_input_tokens\":40,\"output_tokens\":1}")));
    check(u, 145, 40, 1, 0);
    assert_int_equal(u.cache_write, 100);
}

static void test_an_anthropic_delta_updates_the_output_and_keeps_the_input(void **state)
{
    struct usage u = {0};

    (void)state;
    assert_true(usage_merge_anthropic(
        &u, SPAN_LIT("{\"input_tokens\":5,\"cache_read_input_tokens\":40,\"output_tokens\":1}")));
    assert_true(usage_merge_anthropic(&u, SPAN_LIT("{\"output_tokens\":15}")));
    check(u, 45, 40, 15, 0);
    assert_true(usage_merge_anthropic(
        &u, SPAN_LIT("{\"input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":18}")));
    check(u, 45, 40, 18, 0);
    /* a relay that knows the input only at the end */
    assert_true(usage_merge_anthropic(&u, SPAN_LIT("{\"input_tokens\":7,\"output_tokens\":20,"
                                                   "\"server_tool_use\":{\"web_search_requests\":2}}")));
    check(u, 47, 40, 20, 0);
    assert_int_equal(u.searches, 2);
}

static void test_absurd_anthropic_counts_are_left_out(void **state)
{
    struct usage u = {0};

    (void)state;
    assert_true(
        usage_merge_anthropic(&u, SPAN_LIT("{\"input_tokens\":18446744073709551615,\"cache_read_input_"
                                           "tokens\":18446744073709551615,\"output_tokens\":3}")));
    check(u, 0, 0, 3, 0);
    assert_false(usage_merge_anthropic(&u, SPAN_LIT("null")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_old_and_new_spelling_mean_the_same),
        cmocka_unit_test(test_null_details_are_no_details),
        cmocka_unit_test(test_cache_hits_are_found_under_every_vendors_name),
        cmocka_unit_test(test_reasoning_left_out_of_the_completion_is_added_when_the_total_says_so),
        cmocka_unit_test(test_a_total_that_does_not_add_up_changes_nothing),
        cmocka_unit_test(test_more_cached_than_input_tokens_are_passed_on),
        cmocka_unit_test(test_embeddings_count_input_only_and_rerankers_a_total_only),
        cmocka_unit_test(test_an_object_that_counts_no_tokens_is_no_usage),
        cmocka_unit_test(test_a_later_usage_replaces_an_earlier_one_whole_but_for_images),
        cmocka_unit_test(test_paid_searches_are_counted),
        cmocka_unit_test(test_anthropic_input_includes_what_the_cache_read_and_wrote),
        cmocka_unit_test(test_an_anthropic_delta_updates_the_output_and_keeps_the_input),
        cmocka_unit_test(test_absurd_anthropic_counts_are_left_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
