/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/provider/judge.h"

#include "tests/unit/cm.h"

#define NOW 1700000000 /* Tue, 14 Nov 2023 22:13:20 GMT */

static const struct answer_headers NO_HEADERS;

static struct failure judge(int status, const char *body)
{
    return judge_failure(status, &NO_HEADERS, span_of(body), NOW);
}

enum { RETRY = 1, NEXT_ONLY = 2, BREAKER = 4 };

static void test_status_and_words_decide_who_may_retry_and_whose_fault_it_is(void **state)
{
    static const struct {
        int status;
        const char *body;
        enum err_code code;
        int flags;
    } CASES[] = {
        {500, "", ERR_UP_SERVER, RETRY | BREAKER},
        {500, "{\"error\":{\"message\":\"oops\",\"type\":\"invalid_request_error\"}}", ERR_UP_SERVER,
         RETRY | BREAKER},
        {502, "<html>", ERR_UP_SERVER, RETRY | BREAKER},
        {520, "", ERR_UP_SERVER, RETRY | BREAKER},
        {503, "", ERR_UP_OVERLOADED, RETRY | BREAKER},
        {529, "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}",
         ERR_UP_OVERLOADED, RETRY | BREAKER},
        {498, "", ERR_UP_OVERLOADED, RETRY | BREAKER},
        {408, "", ERR_UP_TIMEOUT, RETRY | BREAKER},
        {504, "", ERR_UP_TIMEOUT, RETRY | BREAKER},
        {524, "", ERR_UP_TIMEOUT, RETRY | BREAKER},
        {429, "", ERR_UP_RATE_LIMIT, RETRY | BREAKER},
        {429,
         "{\"error\":{\"message\":\"Rate limit "
         "reached\",\"type\":\"tokens\",\"code\":\"rate_limit_exceeded\"}}",
         ERR_UP_RATE_LIMIT, RETRY | BREAKER},
        {429,
         "{\"error\":{\"message\":\"x\",\"type\":\"insufficient_quota\",\"code\":\"insufficient_quota\"}}",
         ERR_UP_RATE_LIMIT, RETRY | NEXT_ONLY | BREAKER},
        {402,
         "{\"error\":{\"message\":\"Insufficient "
         "Balance\",\"type\":\"unknown_error\",\"code\":\"invalid_request_error\"}}",
         ERR_UP_RATE_LIMIT, RETRY | NEXT_ONLY | BREAKER},
        {400,
         "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"Your credit "
         "balance is too low\"}}",
         ERR_UP_RATE_LIMIT, RETRY | NEXT_ONLY | BREAKER},
        {401, "", ERR_UP_AUTH, RETRY | NEXT_ONLY | BREAKER},
        {403, "{\"error\":{\"message\":\"no access\",\"type\":\"permission_error\"}}", ERR_UP_AUTH,
         RETRY | NEXT_ONLY | BREAKER},
        {400, "{\"code\":\"invalid_request\",\"error\":\"Incorrect API key provided\"}", ERR_UP_AUTH,
         RETRY | NEXT_ONLY | BREAKER},
        {400,
         "[{\"error\":{\"code\":400,\"message\":\"API key not valid.\",\"status\":\"INVALID_ARGUMENT\"}}]",
         ERR_UP_AUTH, RETRY | NEXT_ONLY | BREAKER},
        {403, "{\"error\":{\"code\":403,\"message\":\"Your input was flagged\",\"metadata\":{}}}",
         ERR_UP_REFUSED, 0},
        {400,
         "{\"error\":{\"message\":\"bad\",\"type\":\"invalid_request_error\",\"code\":\"unsupported_"
         "parameter\"}}",
         ERR_UP_REFUSED, 0},
        {400,
         "{\"error\":{\"message\":\"long\",\"type\":\"invalid_request_error\",\"code\":\"context_length_"
         "exceeded\"}}",
         ERR_UP_REFUSED, 0},
        {400, "", ERR_UP_REFUSED, 0},
        {413, "{\"type\":\"error\",\"error\":{\"type\":\"request_too_large\",\"message\":\"m\"}}",
         ERR_UP_REFUSED, 0},
        {422, "{\"detail\":[{\"loc\":[\"body\"],\"msg\":\"extra\"}]}", ERR_UP_REFUSED, 0},
        {404,
         "{\"error\":{\"message\":\"m\",\"type\":\"invalid_request_error\",\"code\":\"model_not_found\"}}",
         ERR_UP_REFUSED, RETRY | NEXT_ONLY},
        {404,
         "{\"error\":{\"message\":\"m\",\"type\":\"invalid_request_error\",\"code\":\"DeploymentNotFound\"}}",
         ERR_UP_REFUSED, RETRY | NEXT_ONLY},
        {404, "{\"type\":\"error\",\"error\":{\"type\":\"not_found_error\",\"message\":\"model: claude-9\"}}",
         ERR_UP_REFUSED, RETRY | NEXT_ONLY},
        {400,
         "{\"error\":{\"message\":\"gone\",\"type\":\"invalid_request_error\",\"code\":\"model_"
         "decommissioned\"}}",
         ERR_UP_REFUSED, RETRY | NEXT_ONLY},
        {404,
         "{\"error\":{\"message\":\"m\",\"type\":\"invalid_request_error\",\"code\":\"previous_response_not_"
         "found\"}}",
         ERR_UP_REFUSED, 0},
        {404, "404 page not found", ERR_UP_REFUSED, RETRY | NEXT_ONLY},
        {405, "", ERR_UP_REFUSED, RETRY | NEXT_ONLY},
        {409, "{\"error\":{\"message\":\"locked\",\"type\":\"invalid_request_error\"}}", ERR_UP_REFUSED,
         RETRY},
        {302, "", ERR_UP_GARBAGE, RETRY | NEXT_ONLY | BREAKER},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct failure f = judge(CASES[i].status, CASES[i].body);
        int flags = f.is_retryable * RETRY + f.is_next_only * NEXT_ONLY + f.is_breaker_failure * BREAKER;

        if (f.code != CASES[i].code || flags != CASES[i].flags)
            fail_msg("case %zu (%d %s): %s, flags %d", i, CASES[i].status, CASES[i].body,
                     err_row(f.code)->name, flags);
        assert_int_equal(f.retry_after_ms, -1);
    }
}

static void test_the_providers_own_word_is_kept_as_the_reason(void **state)
{
    (void)state;
    assert_string_equal(judge(429, "{\"error\":{\"type\":\"insufficient_quota\",\"code\":null}}").reason,
                        "insufficient_quota");
    assert_string_equal(judge(400, "{\"error\":{\"type\":\"a\",\"code\":\"b\"}}").reason, "b");
    assert_string_equal(judge(500, "<html>").reason, "");
}

static void test_the_provider_may_say_whether_to_retry(void **state)
{
    struct answer_headers h = {.should_retry = SPAN_LIT("true")};
    struct failure f = judge_failure(400, &h, SPAN_LIT(""), NOW);

    (void)state;
    assert_true(f.is_retryable);
    h.should_retry = SPAN_LIT("false");
    f = judge_failure(500, &h, SPAN_LIT(""), NOW);
    assert_true(f.is_retryable && f.is_next_only); /* it cannot speak for the next target */
    f = judge_failure(400, &h, SPAN_LIT(""), NOW);
    assert_false(f.is_retryable);
    h.should_retry = SPAN_LIT("maybe");
    assert_false(judge_failure(500, &h, SPAN_LIT(""), NOW).is_next_only);
}

/* ---- how long to wait ---- */

static int64_t wait_for(const char *retry_after, const char *ms, const char *reset)
{
    struct answer_headers h = {.retry_after = span_of(retry_after),
                               .retry_after_ms = span_of(ms),
                               .ratelimit_reset = span_of(reset)};

    return judge_failure(429, &h, SPAN_LIT(""), NOW).retry_after_ms;
}

static void test_retry_after_in_seconds_or_as_a_date(void **state)
{
    (void)state;
    assert_int_equal(wait_for("20", "", ""), 20000);
    assert_int_equal(wait_for(" 0 ", "", ""), 0);
    assert_int_equal(wait_for("1.5", "", ""), 1500);
    assert_int_equal(wait_for("Tue, 14 Nov 2023 22:13:50 GMT", "", ""), 30000);
    assert_int_equal(wait_for("Tue, 14 Nov 2023 22:13:10 GMT", "", ""), 0);
    assert_int_equal(wait_for("Fri, 29 Feb 2024 00:00:00 GMT", "", ""), 86400000); /* capped at a day */
    assert_int_equal(wait_for("99999999999999999999", "", ""), -1);
}

static void test_milliseconds_win_over_seconds_and_seconds_over_the_reset(void **state)
{
    (void)state;
    assert_int_equal(wait_for("20", "1250", "1s"), 1250);
    assert_int_equal(wait_for("20", "soon", "1s"), 20000);
    assert_int_equal(wait_for("", "", "1s"), 1000);
    assert_int_equal(wait_for("", "0.5", ""), 1); /* never rounded down to a busy loop */
}

static void test_rate_limit_resets_in_every_vendors_spelling(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } CASES[] = {
        {"1s", 1000},
        {"6m0s", 360000},
        {"250ms", 250},
        {"7.66s", 7660},
        {"2m59.56s", 179560},
        {"1h2m3s", 3723000},
        {"1d", 86400000},
        {"12", 12000},
        {"1700000007", 7000},
        {"1700000007500", 7500},
        {"2023-11-14T22:13:29Z", 9000},
        {"2023-11-14T22:13:29.250Z", 9000},
        {"5x", -1},
        {"s", -1},
        {"1s2", -1},
        {"-1", -1},
        {"", -1},
        {"999999999h", 86400000},
        {"1700000007x", -1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++)
        if (wait_for("", "", CASES[i].text) != CASES[i].ms)
            fail_msg("'%s' is %lld", CASES[i].text, (long long)wait_for("", "", CASES[i].text));
}

static void test_a_reset_counts_only_for_a_rate_limit_that_time_heals(void **state)
{
    struct answer_headers h = {.ratelimit_reset = SPAN_LIT("1s")};

    (void)state;
    assert_int_equal(judge_failure(500, &h, SPAN_LIT(""), NOW).retry_after_ms, -1);
    assert_int_equal(
        judge_failure(429, &h, SPAN_LIT("{\"error\":{\"type\":\"insufficient_quota\"}}"), NOW).retry_after_ms,
        -1);
    h.retry_after = SPAN_LIT("3");
    assert_int_equal(judge_failure(503, &h, SPAN_LIT(""), NOW).retry_after_ms, 3000);
}

/* ---- reading and keeping ---- */

static void test_errors_are_read_in_every_shape(void **state)
{
    static const struct {
        const char *body, *code, *type, *message;
        int status;
    } CASES[] = {
        {"{\"error\":{\"message\":\"m\",\"type\":\"t\",\"param\":null,\"code\":\"c\"}}", "c", "t", "m", 0},
        {"{\"error\":\"just text\"}", "", "", "just text", 0},
        {"{\"error\":{\"code\":502,\"message\":\"m\",\"metadata\":{}}}", "", "", "m", 502},
        {"{\"error\":{\"code\":\"429\",\"message\":\"m\"}}", "", "", "m", 429},
        {"{\"object\":\"error\",\"message\":\"m\",\"type\":\"t\",\"code\":400}", "", "t", "m", 400},
        {"{\"type\":\"error\",\"code\":\"c\",\"message\":\"m\",\"param\":null}", "c", "error", "m", 0},
        {"{\"type\":\"error\",\"error\":{\"type\":\"t\",\"message\":\"m\"}}", "", "t", "m", 0},
        {"{\"message\":\"m\"}", "", "", "m", 0},
        {"{\"detail\":\"m\"}", "", "", "m", 0},
        {"[{\"error\":{\"code\":429,\"message\":\"m\",\"status\":\"RESOURCE_EXHAUSTED\"}}]",
         "RESOURCE_EXHAUSTED", "", "m", 429},
        {"{\"error\":{\"message\":\"m\",\"type\":null,\"code\":\"content_filter\",\"status\":400}}",
         "content_filter", "", "m", 400},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct wire_error e;

        wire_error_read(&e, span_of(CASES[i].body));
        assert_true(e.is_present);
        assert_string_equal(e.code, CASES[i].code);
        assert_string_equal(e.type, CASES[i].type);
        assert_string_equal(e.message, CASES[i].message);
        assert_int_equal(e.status, CASES[i].status);
    }
}

static void test_what_is_no_error_is_not_read_as_one(void **state)
{
    static const char *const NONE[] = {"",    "{}", "[]", "null",      "<html>", "{\"error\":null}",
                                       "[1]", "{",  "\"", "{\"id\":1}"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(NONE); i++) {
        struct wire_error e;

        wire_error_read(&e, span_of(NONE[i]));
        assert_false(e.is_present);
    }
}

static void test_a_message_that_may_quote_the_caller_is_not_kept(void **state)
{
    struct answer a = {0}, b = {0};
    struct wire_error e;

    (void)state;
    wire_error_read(&e, SPAN_LIT("{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"'my secret "
                                 "prompt' is too long\"}}"));
    judge_answer_error(&a, &e);
    assert_int_equal(a.error, ERR_UP_REFUSED);
    assert_string_equal(a.error_text, "invalid_request_error");
    wire_error_read(
        &e, SPAN_LIT("{\"error\":{\"code\":\"server_error\",\"message\":\"the server had an error\"}}"));
    judge_answer_error(&b, &e);
    assert_int_equal(b.error, ERR_UP_SERVER);
    assert_string_equal(b.error_text, "server_error: the server had an error");
    judge_answer_error(&b, &(struct wire_error){.is_present = true, .code = "rate_limit_exceeded"});
    assert_int_equal(b.error, ERR_UP_SERVER); /* the first error stays */
}

static void test_an_error_in_a_stream_may_carry_a_status_as_its_code(void **state)
{
    struct wire_error e;

    (void)state;
    wire_error_read(&e, SPAN_LIT("{\"error\":{\"code\":429,\"message\":\"m\"}}"));
    assert_int_equal(judge_error(&e), ERR_UP_RATE_LIMIT);
    wire_error_read(&e, SPAN_LIT("{\"error\":{\"code\":502,\"message\":\"m\"}}"));
    assert_int_equal(judge_error(&e), ERR_UP_SERVER);
    wire_error_read(&e, SPAN_LIT("{\"error\":{\"message\":\"m\"}}"));
    assert_int_equal(judge_error(&e), ERR_UP_SERVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_and_words_decide_who_may_retry_and_whose_fault_it_is),
        cmocka_unit_test(test_the_providers_own_word_is_kept_as_the_reason),
        cmocka_unit_test(test_the_provider_may_say_whether_to_retry),
        cmocka_unit_test(test_retry_after_in_seconds_or_as_a_date),
        cmocka_unit_test(test_milliseconds_win_over_seconds_and_seconds_over_the_reset),
        cmocka_unit_test(test_rate_limit_resets_in_every_vendors_spelling),
        cmocka_unit_test(test_a_reset_counts_only_for_a_rate_limit_that_time_heals),
        cmocka_unit_test(test_errors_are_read_in_every_shape),
        cmocka_unit_test(test_what_is_no_error_is_not_read_as_one),
        cmocka_unit_test(test_a_message_that_may_quote_the_caller_is_not_kept),
        cmocka_unit_test(test_an_error_in_a_stream_may_carry_a_status_as_its_code),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
