/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/sim/sim_ask.h"

#include "tests/unit/cm.h"

static struct sim_profiles *profiles;

struct asked {
    struct sim_head head;
    struct sim_request rq;
    struct sim_ask ask;
    const char *why;
};

/* Decodes `body` as a POST to `path`, on the default profile. */
static void ask(struct asked *t, const char *path, const char *body)
{
    *t = (struct asked){0};
    t->rq.head = &t->head;
    t->rq.profile = sim_profiles_get(profiles, SPAN_LIT("p"));
    t->rq.path = span_of(path);
    t->rq.body = span_of(body);
    t->rq.body_hash = sim_hash(t->rq.body);
    t->ask.op = sim_op_find(&t->rq, false);
    assert_non_null(t->ask.op);
    t->why = sim_ask_decode(&t->ask, &t->rq, 1, 0);
}

static int setup(void **state)
{
    (void)state;
    profiles = sim_profiles_new();
    return profiles ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    sim_profiles_free(profiles);
    return 0;
}

static void test_prompts_are_counted_by_the_rule_in_every_dialect(void **state)
{
    static const struct {
        const char *path, *body;
        unsigned tokens;
    } CASES[] = {
        {"/chat/completions", "{\"model\":\"m\",\"messages\":[]}", 0},
        {"/chat/completions", "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"12345\"}]}",
         4 + 2},
        {"/chat/completions", "{\"model\":\"m\",\"messages\":[{\"content\":\"12\"},{\"content\":\"34\"}]}",
         8 + 1},
        {"/chat/completions", "{\"model\":\"m\",\"messages\":[{\"content\":null}]}", 4},
        {"/chat/completions",
         "{\"model\":\"m\",\"messages\":[{\"content\":[{\"type\":\"text\",\"text\":\"1234\"},"
         "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:xxxxxxxxxxxx\"}}]}]}",
         4 + 1 + 85},
        {"/chat/completions",
         "{\"model\":\"m\",\"messages\":[{\"content\":null,\"tool_calls\":[{\"id\":\"not "
         "counted\",\"function\":"
         "{\"name\":\"not "
         "counted\",\"arguments\":\"{\\\"a\\\":1}\"}}]}],\"tools\":[{\"function\":{\"name\":\"f\"}},"
         "{\"function\":{\"name\":\"g\"}}]}",
         4 + 2 + 40},
        {"/messages",
         "{\"model\":\"m\",\"max_tokens\":9,\"system\":\"1234\",\"messages\":[{\"content\":[{\"type\":\"tool_"
         "result\","
         "\"tool_use_id\":\"x\",\"content\":[{\"type\":\"text\",\"text\":\"12345678\"},{\"type\":\"image\","
         "\"source\":{}}]}]}]}",
         4 + 4 + 3 + 85},
        {"/responses", "{\"model\":\"m\",\"input\":\"1234\",\"instructions\":\"1\"}", 4 + 4 + 2},
        {"/responses",
         "{\"model\":\"m\",\"input\":[{\"content\":[{\"type\":\"input_text\",\"text\":\"1234\"},{\"type\":"
         "\"input_image\","
         "\"image_url\":\"x\"}]},{\"type\":\"function_call_output\",\"output\":\"1234\"}]}",
         8 + 2 + 85},
        {"/models/g:generateContent", "{\"contents\":[{\"parts\":[{\"text\":\"12345\"},{\"fileData\":{}}]}]}",
         4 + 2 + 85},
        {"/completions", "{\"model\":\"m\",\"prompt\":[\"1234\",\"5\"]}", 2},
        {"/completions", "{\"model\":\"m\",\"prompt\":[1,2,3]}", 3},
        {"/embeddings", "{\"model\":\"m\",\"input\":[[1,2],[3]]}", 3},
        {"/embeddings", "{\"model\":\"m\",\"input\":\"\\u20ac\\u20ac\"}", 2},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct asked t;

        ask(&t, CASES[i].path, CASES[i].body);
        if (t.why || t.ask.bill.input != CASES[i].tokens)
            fail_msg("case %zu: %s, %u tokens instead of %u", i, t.why ? t.why : "accepted", t.ask.bill.input,
                     CASES[i].tokens);
        sim_ask_release(&t.ask);
    }
}

static void test_output_is_bounded_by_every_name_of_the_limit(void **state)
{
    static const char *const CASES[][2] = {
        {"/chat/completions", "{\"model\":\"m\",\"messages\":[],\"max_tokens\":3}"},
        {"/chat/completions",
         "{\"model\":\"m\",\"messages\":[],\"max_tokens\":9,\"max_completion_tokens\":3}"},
        {"/messages", "{\"model\":\"m\",\"messages\":[],\"max_tokens\":3}"},
        {"/responses", "{\"model\":\"m\",\"input\":\"\",\"max_output_tokens\":3}"},
        {"/models/g:generateContent", "{\"contents\":[],\"generationConfig\":{\"maxOutputTokens\":3}}"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct asked t;

        ask(&t, CASES[i][0], CASES[i][1]);
        assert_int_equal(t.ask.bill.output, 3);
        assert_true(t.ask.is_cut_short);
        sim_ask_release(&t.ask);
    }
}

static void test_a_bill_so_far_grows_to_the_whole_bill(void **state)
{
    struct asked t;
    struct sim_bill before = {0};

    (void)state;
    ask(&t, "/chat/completions", "{\"model\":\"m\",\"n\":3,\"messages\":[{\"content\":\"x\"}]}");
    assert_int_equal(sim_ask_bill_so_far(&t.ask, 0).input, 0);
    for (unsigned n = 1; n <= 3 * t.ask.visible; n++) {
        struct sim_bill now = sim_ask_bill_so_far(&t.ask, n);

        assert_int_equal(now.input, t.ask.bill.input);
        assert_true(now.output > before.output);
        before = now;
    }
    assert_memory_equal(&before, &t.ask.bill, sizeof(before));
    sim_ask_release(&t.ask);
}

static void test_a_tool_is_called_when_demanded_and_not_after_its_result(void **state)
{
#define TOOLS                                                                                                \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\","    \
    "\"properties\":{\"a\":{\"type\":\"integer\"}}}}},{\"type\":\"function\",\"function\":{\"name\":\"g\"}}" \
    "]"
    static const struct {
        const char *body, *tool;
    } CASES[] = {
        {"{\"model\":\"m\",\"messages\":[{\"content\":\"x\"}]," TOOLS "}", ""},
        {"{\"model\":\"m\",\"messages\":[{\"content\":\"x\"}]," TOOLS ",\"tool_choice\":\"auto\"}", ""},
        {"{\"model\":\"m\",\"messages\":[{\"content\":\"x\"}]," TOOLS ",\"tool_choice\":\"required\"}", "f"},
        {"{\"model\":\"m\",\"messages\":[{\"content\":\"[[tool]]\"}]," TOOLS "}", "f"},
        {"{\"model\":\"m\",\"messages\":[{\"content\":\"[[tool]]\"},{\"content\":\"x\"}]," TOOLS "}", ""},
        {"{\"model\":\"m\",\"messages\":[{\"content\":\"x\"}]," TOOLS
         ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"g\"}}}",
         "g"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"x\"}]," TOOLS
         ",\"tool_choice\":\"required\"}",
         ""},
        {"{\"model\":\"m\",\"messages\":[{\"content\":\"[[tool]]\"}],\"tool_choice\":\"required\"}", ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct asked t;

        ask(&t, "/chat/completions", CASES[i].body);
        assert_string_equal(t.ask.tool_name, CASES[i].tool);
        assert_int_equal(t.ask.is_tool, CASES[i].tool[0] != '\0');
        sim_ask_release(&t.ask);
    }
#undef TOOLS
}

static void test_requests_that_lack_something_are_refused(void **state)
{
    static const char *const CASES[][2] = {
        {"/chat/completions", ""},
        {"/chat/completions", "nonsense"},
        {"/chat/completions", "{\"model\":\"m\"}"},
        {"/chat/completions", "{\"messages\":[]}"},
        {"/chat/completions", "{\"model\":\"\",\"messages\":[]}"},
        {"/chat/completions", "{\"model\":[],\"messages\":[]}"},
        {"/messages", "{\"model\":\"m\",\"messages\":[]}"},
        {"/responses", "{\"model\":\"m\"}"},
        {"/embeddings", "{\"model\":\"m\"}"},
        {"/completions", "{\"model\":\"m\"}"},
        {"/rerank", "{\"model\":\"m\",\"query\":\"q\"}"},
        {"/images/generations", "{\"model\":\"m\"}"},
        {"/audio/speech", "{\"model\":\"m\"}"},
        {"/audio/transcriptions", "{\"model\":\"m\"}"},
        {"/moderations", "{}"},
        {"/models/g:generateContent", "{}"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct asked t;

        ask(&t, CASES[i][0], CASES[i][1]);
        if (!t.why)
            fail_msg("case %zu: %s accepted %s", i, CASES[i][0], CASES[i][1]);
        sim_ask_release(&t.ask);
    }
}

static void test_paths_find_their_operation_or_none(void **state)
{
    static const struct {
        const char *path, *name, *model;
        bool is_get;
    } CASES[] = {
        {"/chat/completions", "chat", "", false},
        {"/messages", "messages", "", false},
        {"/messages/count_tokens", "count_tokens", "", false},
        {"/models/a/b:c:generateContent", "generate", "a/b:c", false},
        {"/models/x:streamGenerateContent", "generate", "x", false},
        {"/models", "models", "", true},
        {"/models/a/b", "model", "a/b", true},
        {"/models", NULL, "", false},
        {"/models/", NULL, "", true},
        {"/models/x:other", NULL, "x", false},
        {"/chat/completions", NULL, "", true},
        {"/chat/completions/", NULL, "", false},
        {"", NULL, "", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct sim_request rq = {.path = span_of(CASES[i].path)};
        const struct sim_op *op = sim_op_find(&rq, CASES[i].is_get);

        assert_int_equal(op != NULL, CASES[i].name != NULL);
        if (op) {
            assert_string_equal(op->name, CASES[i].name);
            assert_true(span_is(rq.model_in_path, CASES[i].model));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts_are_counted_by_the_rule_in_every_dialect),
        cmocka_unit_test(test_output_is_bounded_by_every_name_of_the_limit),
        cmocka_unit_test(test_a_bill_so_far_grows_to_the_whole_bill),
        cmocka_unit_test(test_a_tool_is_called_when_demanded_and_not_after_its_result),
        cmocka_unit_test(test_requests_that_lack_something_are_refused),
        cmocka_unit_test(test_paths_find_their_operation_or_none),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
