/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/api/api.h"

#include "tests/unit/cm.h"

static const struct api_route *find(const char *method, const char *path, struct buf *tail,
                                    enum err_code *why)
{
    return api_find(span_of(method), span_of(path), tail, why);
}

static void test_a_row_is_found_by_method_and_path(void **state)
{
    struct buf tail AUTO(buf_release) = {0};
    enum err_code why;

    (void)state;
    assert_string_equal(find("GET", "/healthz", &tail, &why)->path, "/healthz");
    assert_null(find("POST", "/healthz", &tail, &why));
    assert_int_equal(why, ERR_BAD_METHOD);
    assert_null(find("GET", "/healthzz", &tail, &why));
    assert_int_equal(why, ERR_NOT_FOUND);
    assert_null(find("GET", "/", &tail, &why));
    assert_int_equal(why, ERR_NOT_FOUND);
}

static void test_a_tail_is_decoded_and_may_hold_slashes(void **state)
{
    struct buf tail AUTO(buf_release) = {0};
    enum err_code why;
    static const struct {
        const char *path, *tail;
    } CASES[] = {{"/api/monitoring/health/openrouter", "openrouter"},
                 {"/api/monitoring/health/a/b/c", "a/b/c"},
                 {"/api/monitoring/health/a%2Fb%20c", "a/b c"},
                 {"/api/monitoring/health/a+b", "a+b"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        assert_non_null(find("GET", CASES[i].path, &tail, &why));
        assert_string_equal(tail.p, CASES[i].tail);
    }
    assert_string_equal(find("GET", "/api/monitoring/health", &tail, &why)->path, "/api/monitoring/health");
    assert_null(find("GET", "/api/monitoring/health/", &tail, &why));
    assert_int_equal(why, ERR_NOT_FOUND);
}

static void test_a_malformed_escape_matches_nothing(void **state)
{
    static const char *const PATHS[] = {"/api/monitoring/health/a%", "/api/monitoring/health/a%2",
                                        "/api/monitoring/health/a%zz", "/api/monitoring/health/a%00b"};
    struct buf tail AUTO(buf_release) = {0};
    enum err_code why;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(PATHS); i++) {
        assert_null(find("GET", PATHS[i], &tail, &why));
        assert_int_equal(why, ERR_NOT_FOUND);
    }
}

static void test_what_stands_behind_a_name_is_part_of_the_path(void **state)
{
    struct buf tail AUTO(buf_release) = {0};
    enum err_code why;

    (void)state;
    assert_non_null(find("POST", "/api/admin/keys/acme/web/rotate", &tail, &why));
    assert_string_equal(tail.p, "acme/web/rotate");
    assert_null(find("POST", "/api/admin/keys/acme/web", &tail, &why));
    assert_int_equal(why, ERR_BAD_METHOD);
    assert_null(find("PATCH", "/api/admin/keys/acme/web/rotate", &tail, &why));
    assert_null(find("GET", "/api/admin/providers/p/probe", &tail, &why));
    assert_non_null(find("DELETE", "/api/admin/keys/acme", &tail, &why));
    assert_non_null(find("GET", "/api/admin/budgets/key:acme/web", &tail, &why));
    assert_null(find("POST", "/api/admin/providers/p", &tail, &why));
    assert_null(find("POST", "/api/admin/providers/probe", &tail, &why));
    assert_non_null(find("POST", "/api/admin/providers/p/probe", &tail, &why));
}

static void test_the_methods_of_a_path_are_told(void **state)
{
    static const struct {
        const char *path;
        bool is_main;
        const char *want;
    } CASES[] = {{"/healthz", true, "GET, HEAD"},
                 {"/metrics/reset", false, "POST"},
                 {"/metrics/reset", true, ""},
                 {"/api/admin/budgets/global", false, "GET, HEAD, POST, PUT, DELETE"},
                 {"/api/admin/budgets/global", true, ""},
                 {"/api/admin/keys/acme/web", false, "PATCH, DELETE"},
                 {"/nothing", false, ""}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct buf allow AUTO(buf_release) = {.max = 64};

        api_allow(span_of(CASES[i].path), CASES[i].is_main, &allow);
        assert_string_equal(allow.len ? allow.p : "", CASES[i].want);
    }
}

static void test_query_parameters_are_found_and_decoded(void **state)
{
    char v[8];

    (void)state;
    assert_true(api_query_param(SPAN_LIT("days=7&x=1"), "days", v, sizeof(v)));
    assert_string_equal(v, "7");
    assert_true(api_query_param(SPAN_LIT("x=1&days=a%20b+c"), "days", v, sizeof(v)));
    assert_string_equal(v, "a b c");
    assert_true(api_query_param(SPAN_LIT("days"), "days", v, sizeof(v)));
    assert_string_equal(v, "");
    assert_false(api_query_param(SPAN_LIT("xdays=7"), "days", v, sizeof(v)));
    assert_false(api_query_param(SPAN_LIT("days=12345678"), "days", v, sizeof(v)));
    assert_false(api_query_param(SPAN_LIT("days=%0"), "days", v, sizeof(v)));
    assert_false(api_query_param((struct span){0}, "days", v, sizeof(v)));
}

static void test_every_row_is_complete_and_admin_rows_stay_off_the_main_listener(void **state)
{
    (void)state;
    for (const struct api_route *r = API_ROUTES; r->method; r++) {
        assert_true(r->path[0] == '/' && r->handler && r->summary[0]);
        if (r->scope == SCOPE_ADMIN)
            assert_false(r->on_main);
        for (const struct api_route *q = API_ROUTES; q < r; q++)
            assert_false(strcmp(q->path, r->path) == 0 && strcmp(q->method, r->method) == 0);
    }
}

static void test_an_error_answer_replaces_what_was_begun(void **state)
{
    struct api_reply reply = {.status = 200};

    (void)state;
    buf_addz(&reply.body, "{\"half\":");
    api_reply_error(&reply, ERR_NOT_FOUND, "no provider is named '%s'", "x\"y");
    assert_int_equal(reply.status, 404);
    assert_non_null(strstr(reply.body.p, "no provider is named 'x\\\"y'"));
    assert_null(strstr(reply.body.p, "half"));
    buf_release(&reply.body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_row_is_found_by_method_and_path),
        cmocka_unit_test(test_a_tail_is_decoded_and_may_hold_slashes),
        cmocka_unit_test(test_a_malformed_escape_matches_nothing),
        cmocka_unit_test(test_what_stands_behind_a_name_is_part_of_the_path),
        cmocka_unit_test(test_the_methods_of_a_path_are_told),
        cmocka_unit_test(test_query_parameters_are_found_and_decoded),
        cmocka_unit_test(test_every_row_is_complete_and_admin_rows_stay_off_the_main_listener),
        cmocka_unit_test(test_an_error_answer_replaces_what_was_begun),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
