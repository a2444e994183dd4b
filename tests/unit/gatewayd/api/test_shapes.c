/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of routes, shapes and schemas against each other, and query parameters against shapes. */
#include "gatewayd/api/shapes.h"

#include <jansson.h>
#include <string.h>

#include "gatewayd/api/handlers_priv.h"
#include "tests/unit/cm.h"

static void test_every_route_has_its_shape_and_every_shape_its_route(void **state)
{
    size_t routes = 0, shapes = 0;

    (void)state;
    for (const struct api_route *r = API_ROUTES; r->method; r++, routes++)
        if (!api_shape_of(r))
            fail_msg("%s %s has no shape", r->method, r->path);
    for (const struct api_shape *s = API_SHAPES; s->method; s++, shapes++)
        assert_null(s->params[API_PARAMS_MAX].name);
    assert_int_equal(routes, shapes);
}

static void count_refs(const json_t *o, const json_t *schemas, size_t *n)
{
    const char *ref = json_string_value(json_object_get(o, "$ref"));
    const json_t *v;
    const char *name;
    size_t i;

    if (ref) {
        assert_memory_equal(ref, "#/components/schemas/", 21);
        if (!json_object_get(schemas, ref + 21))
            fail_msg("no schema is named '%s'", ref + 21);
        ++*n;
    }
    if (json_is_array(o))
        json_array_foreach(o, i, v) count_refs(v, schemas, n);
    else if (json_is_object(o))
        json_object_foreach((json_t *)(uintptr_t)o, name, v) count_refs(v, schemas, n);
}

static json_t *document(void)
{
    struct api_reply reply = {.status = 200};
    json_t *doc;

    api_openapi(&(struct api_request){0}, &reply);
    assert_int_equal(reply.status, 200);
    doc = json_loadb(reply.body.p, reply.body.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(doc);
    buf_release(&reply.body);
    return doc;
}

static void test_the_document_names_only_schemas_that_it_has(void **state)
{
    json_t *doc = document();
    const json_t *schemas = json_object_get(json_object_get(doc, "components"), "schemas");
    size_t n = 0;

    (void)state;
    count_refs(doc, schemas, &n);
    assert_true(n > 50);
    json_decref(doc);
}

static void test_the_document_has_every_route(void **state)
{
    json_t *doc = document(), *methods;
    const char *path;
    size_t routes = 0, found = 0;

    (void)state;
    for (const struct api_route *r = API_ROUTES; r->method; r++)
        routes++;
    json_object_foreach(json_object_get(doc, "paths"), path, methods)
    {
        found += json_object_size(methods);
        assert_null(strstr(path, "{provider/"));
    }
    assert_int_equal(found, routes);
    json_decref(doc);
}

static const struct api_route *route(const char *path)
{
    for (const struct api_route *r = API_ROUTES; r->method; r++)
        if (strcmp(r->path, path) == 0)
            return r;
    fail_msg("no route '%s'", path);
    return NULL;
}

static void check(const char *path, const char *query, const char *wrong)
{
    struct api_reply reply = {.status = 200};
    bool is_right = api_check_query(route(path), query ? span_of(query) : (struct span){0}, &reply);

    if (is_right != !wrong)
        fail_msg("%s?%s: %.*s", path, query, (int)reply.body.len, reply.body.p ? reply.body.p : "");
    if (wrong) {
        assert_int_equal(reply.status, 400);
        buf_addc(&reply.body, '\0');
        if (!strstr(reply.body.p, wrong))
            fail_msg("'%s' does not say '%s'", reply.body.p, wrong);
    }
    buf_release(&reply.body);
}

static void test_parameters_are_checked_by_name_kind_and_range(void **state)
{
    static const struct {
        const char *path, *query, *wrong;
    } CASES[] = {
        {"/api/monitoring/stats/realtime", NULL, NULL},
        {"/api/monitoring/stats/realtime", "", NULL},
        {"/api/monitoring/stats/realtime", "hours=1", NULL},
        {"/api/monitoring/stats/realtime", "hours=%31", NULL},
        {"/api/monitoring/stats/realtime", "hours=0", "'hours' must be a whole number from 1 to 168"},
        {"/api/monitoring/stats/realtime", "hours=169", "'hours'"},
        {"/api/monitoring/stats/realtime", "hours=-1", "'hours'"},
        {"/api/monitoring/stats/realtime", "hours=1e2", "'hours'"},
        {"/api/monitoring/stats/realtime", "hours=", "'hours'"},
        {"/api/monitoring/stats/realtime", "hours", "'hours'"},
        {"/api/monitoring/stats/realtime", "hours=1&hours=2", "'hours' is given twice"},
        {"/api/monitoring/stats/realtime", "hours=%zz", "'hours'"},
        {"/api/monitoring/stats/realtime", "hours=%00", "'hours'"},
        {"/api/monitoring/stats/realtime", "hors=1", "'hors' is no parameter here; there are: hours"},
        {"/api/monitoring/stats/realtime", "hours=1&x=2", "'x'"},
        {"/api/monitoring/stats/realtime", "\x01=2", "'…'"},
        {"/api/monitoring/health", "a=1", "there are none"},
        {"/api/monitoring/latency/{provider}/{model}", "percentiles=50", NULL},
        {"/api/monitoring/latency/{provider}/{model}", "percentiles=50,99.9,99.999,0,100", NULL},
        {"/api/monitoring/latency/{provider}/{model}", "percentiles=50,", "'percentiles'"},
        {"/api/monitoring/latency/{provider}/{model}", "percentiles=100.1", "'percentiles'"},
        {"/api/monitoring/latency/{provider}/{model}", "percentiles=-1", "'percentiles'"},
        {"/api/monitoring/latency/{provider}/{model}", "percentiles=nan", "'percentiles'"},
        {"/api/monitoring/latency/{provider}/{model}",
         "percentiles=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "'percentiles'"},
        {"/api/monitoring/anomalies", "severity=critical&type=cost_spike&provider=openai", NULL},
        {"/api/monitoring/anomalies", "severity=info", "'severity' must be one of: warning critical"},
        {"/api/monitoring/anomalies", "severity=warning%20critical", "'severity'"},
        {"/api/monitoring/anomalies", "provider=a%2Fb", "'provider'"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++)
        check(CASES[i].path, CASES[i].query, CASES[i].wrong);
}

static void test_what_is_left_out_has_the_value_that_the_document_says(void **state)
{
    struct api_request rq = {.row = route("/api/monitoring/latency/{provider}/{model}")};
    char text[64];

    (void)state;
    assert_int_equal(api_count(&rq, "hours"), 24);
    assert_true(api_text(&rq, "percentiles", text, sizeof(text)));
    assert_string_equal(text, "50,95,99");
    rq.query = SPAN_LIT("percentiles=10&hours=7");
    assert_int_equal(api_count(&rq, "hours"), 7);
    assert_true(api_text(&rq, "percentiles", text, sizeof(text)));
    assert_string_equal(text, "10");
    rq.row = route("/api/monitoring/anomalies");
    assert_false(api_text(&rq, "type", text, sizeof(text)));
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_route_has_its_shape_and_every_shape_its_route),
        cmocka_unit_test(test_the_document_names_only_schemas_that_it_has),
        cmocka_unit_test(test_the_document_has_every_route),
        cmocka_unit_test(test_parameters_are_checked_by_name_kind_and_range),
        cmocka_unit_test(test_what_is_left_out_has_the_value_that_the_document_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
