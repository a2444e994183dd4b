/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/proxy/body.h"

#include "tests/unit/cm.h"

struct row {
    const char *body, *want; /* want NULL: forwarded untouched */
    bool ask_usage;
};

static void test_a_patched_body_differs_from_the_client_s_only_where_it_must(void **state)
{
    static const struct row ROWS[] = {
        {"{\"model\":\"a\"}", "{\"model\":\"target/x\"}", false},
        {"{\"model\":\"target/x\",\"n\":1}", NULL, false},
        {" {\"t\":1e400,\"model\" : \"a\" , \"z\":[0.10]}\n",
         " {\"t\":1e400,\"model\" : \"target/x\" , \"z\":[0.10]}\n", false},
        {"{\"mod\\u0065l\":\"a\"}", "{\"mod\\u0065l\":\"target/x\"}", false},
        {"{\"model\":\"a\",\"stream\":true}",
         "{\"stream_options\":{\"include_usage\":true},\"model\":\"target/x\",\"stream\":true}", true},
        {"{\"model\":\"a\",\"stream_options\":null}",
         "{\"model\":\"target/x\",\"stream_options\":{\"include_usage\":true}}", true},
        {"{\"stream_options\":{},\"model\":\"a\"}",
         "{\"stream_options\":{\"include_usage\":true},\"model\":\"target/x\"}", true},
        {"{\"stream_options\":{ },\"model\":\"a\"}",
         "{\"stream_options\":{\"include_usage\":true },\"model\":\"target/x\"}", true},
        {"{\"stream_options\":{\"x\":1},\"model\":\"a\"}",
         "{\"stream_options\":{\"include_usage\":true,\"x\":1},\"model\":\"target/x\"}", true},
        {"{\"stream_options\":{\"include_usage\":false},\"model\":\"a\"}",
         "{\"stream_options\":{\"include_usage\":true},\"model\":\"target/x\"}", true},
        {"{\"stream_options\":{\"include_usage\":true},\"model\":\"target/x\"}", NULL, true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        struct body_plan plan = {0};
        struct buf out AUTO(buf_release) = {0};
        struct err err = {0};
        bool patched;

        assert_int_equal(body_scan_json(span_of(ROWS[i].body), OP_CHAT, &plan, &err), ERR_OK);
        patched = body_patch(&plan, span_of(ROWS[i].body), BODY_JSON, "target/x", ROWS[i].ask_usage, &out);
        assert_int_equal(patched, ROWS[i].want != NULL);
        if (patched)
            assert_string_equal(out.p, ROWS[i].want);
    }
}

static void test_a_bad_body_is_refused_with_the_field_that_is_wrong(void **state)
{
    static const char *const ROWS[][2] = {
        {"", "empty"},
        {"[]", "object"},
        {"{\"model\":1}", "'model'"},
        {"{\"model\":\"\"}", "'model'"},
        {"{\"model\":\"a\",\"model\":\"b\"}", "model"},
        {"{\"model\":\"a\",\"stream\":\"yes\"}", "'stream'"},
        {"{\"model\":\"a\",\"max_tokens\":-1}", "'max_tokens'"},
        {"{\"model\":\"a\",\"n\":1.5}", "'n'"},
        {"{\"model\":\"a\",\"n\":1025}", "'n' must be at most 1024"},
        {"{\"model\":\"a\",\"stream_options\":[]}", "'stream_options'"},
        {"{\"model\":\"a\",\"stream_options\":{\"include_usage\":1}}", "include_usage"},
        {"{\"model\":\"a\",\"stream_options\":{\"include_usage\":true,\"include_usage\":false}}", "twice"},
        {"{\"model\":\"a\"", ""},
        {"{\"model\":\"a\",\"best_of\":\"20\"}", "'best_of'"},
        {"{\"model\":\"a\",\"best_of\":-1}", "'best_of'"},
        {"{\"model\":\"a\",\"Model\":\"b\"}", "'model' must be written in lower case"},
        {"{\"model\":\"a\",\"max_tokens\":1,\"MAX_TOKENS\":9}", "'max_tokens'"},
        {"{\"model\":\"a\",\"max_to\xe2\x84\xaa"
         "ens\":9}",
         "'max_tokens'"},
        {"{\"model\":\"a\",\"tool\xc5\xbf\":[]}", "'tools'"},
        {"{\"model\":\"a\",\"\\u004E\":9}", "'n'"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        struct body_plan plan = {0};
        struct err err = {0};

        assert_int_not_equal(body_scan_json(span_of(ROWS[i][0]), OP_CHAT, &plan, &err), ERR_OK);
        assert_non_null(strstr(err.text, ROWS[i][1]));
    }
}

static void test_only_a_maximum_that_the_operation_knows_bounds_the_answer(void **state)
{
    static const struct {
        enum operation op;
        const char *body;
        uint64_t max;
    } ROWS[] = {
        {OP_CHAT, "{\"model\":\"a\",\"max_tokens\":5,\"max_completion_tokens\":7}", 7},
        {OP_CHAT, "{\"model\":\"a\",\"max_output_tokens\":7}", 0},
        {OP_RESPONSES, "{\"model\":\"a\",\"max_output_tokens\":7}", 7},
        {OP_RESPONSES, "{\"model\":\"a\",\"max_tokens\":7}", 0},
        {OP_COMPLETION, "{\"model\":\"a\",\"max_completion_tokens\":7}", 0},
        {OP_MESSAGES, "{\"model\":\"a\",\"max_tokens\":7,\"max_completion_tokens\":9}", 7},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        struct body_plan plan = {0};
        struct err err = {0};

        assert_int_equal(body_scan_json(span_of(ROWS[i].body), ROWS[i].op, &plan, &err), ERR_OK);
        assert_int_equal(plan.max_tokens, ROWS[i].max);
    }
}

/* The operator's way of counting users must not make a body wrong that the provider would take, or the other way round. */
static void test_who_the_client_acts_for_is_found_in_either_dialect(void **state)
{
    static const struct {
        const char *body, *user; /* NULL: nobody is named */
    } ROWS[] = {
        {"{\"model\":\"a\",\"user\":\"u-1\"}", "\"u-1\""},
        {"{\"metadata\":{\"x\":1,\"user_id\":\"u-2\"},\"model\":\"a\"}", "\"u-2\""},
        {"{\"user\":\"u-1\",\"metadata\":{\"user_id\":\"u-2\"},\"model\":\"a\"}", "\"u-1\""},
        {"{\"metadata\":{\"user_id\":\"u-2\"},\"user\":\"u-1\",\"model\":\"a\"}", "\"u-1\""},
        {"{\"model\":\"a\",\"user\":7,\"metadata\":{\"user_id\":null}}", NULL},
        {"{\"model\":\"a\",\"metadata\":\"user_id\"}", NULL},
        {"{\"model\":\"a\"}", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        struct body_plan plan = {0};
        struct err err = {0};

        assert_int_equal(body_scan_json(span_of(ROWS[i].body), OP_CHAT, &plan, &err), ERR_OK);
        if (ROWS[i].user)
            assert_true(span_is(plan.user, ROWS[i].user));
        else
            assert_null(plan.user.p);
    }
}

static void test_the_model_part_of_a_form_is_found_and_replaced(void **state)
{
    static const char BODY[] =
        "--b1\r\nContent-Disposition: form-data; name=\"file\"; filename=\"model\"\r\n\r\n"
        "\0\1RIFF\r\n--b1\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--b1--\r\n";
    struct span body = {BODY, sizeof(BODY) - 1};
    struct body_plan plan = {0};
    struct buf out AUTO(buf_release) = {0};
    struct err err = {0};

    (void)state;
    assert_int_equal(body_scan_multipart(body, SPAN_LIT("multipart/form-data; boundary=\"b1\""), &plan, &err),
                     ERR_OK);
    assert_string_equal(plan.model_name, "whisper");
    assert_true(body_patch(&plan, body, BODY_MULTIPART, "whisper-1", false, &out));
    assert_int_equal(out.len, body.len + 2);
    assert_non_null(memmem(out.p, out.len, "\r\n\r\nwhisper-1\r\n--b1--", 21));
    assert_int_not_equal(body_scan_multipart(body, SPAN_LIT("multipart/form-data"), &plan, &err), ERR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_patched_body_differs_from_the_client_s_only_where_it_must),
        cmocka_unit_test(test_a_bad_body_is_refused_with_the_field_that_is_wrong),
        cmocka_unit_test(test_only_a_maximum_that_the_operation_knows_bounds_the_answer),
        cmocka_unit_test(test_who_the_client_acts_for_is_found_in_either_dialect),
        cmocka_unit_test(test_the_model_part_of_a_form_is_found_and_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
