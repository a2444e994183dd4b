/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/api/fields.h"

#include <string.h>

#include "libshared/base/compiler.h"
#include "tests/unit/cm.h"

enum { NAME, TEXT, YES, COUNT, USD, CHOICE, MODELS, TIME, N };

static const struct field FIELDS[N] = {
    [NAME] = {.name = "id", .type = FIELD_NAME},
    [TEXT] = {.name = "text", .type = FIELD_TEXT, .max = 8},
    [YES] = {.name = "yes", .type = FIELD_BOOL},
    [COUNT] = {.name = "count", .type = FIELD_COUNT, .may_be_null = true, .min = 2, .max = 9},
    [USD] = {.name = "usd", .type = FIELD_USD},
    [CHOICE] = {.name = "choice", .type = FIELD_CHOICE, .choices = "red green"},
    [MODELS] = {.name = "models", .type = FIELD_MODELS},
    [TIME] = {.name = "time", .type = FIELD_TIME},
};

static enum err_code read_text(const char *text, struct field_value out[N], struct err *err)
{
    json_t *doc = NULL;
    enum err_code e;

    *err = (struct err){0};
    e = fields_read(span_of(text), FIELDS, N, out, &doc, err);
    json_decref(doc); /* numbers stay in `out` */
    return e;
}

static void test_good_values_are_read(void **state)
{
    struct field_value v[N];
    json_t *doc;
    struct err err = {0};

    (void)state;
    assert_int_equal(
        fields_read(SPAN_LIT("{\"id\":\"a.b-c_1\",\"text\":\"\xc3\xa4\",\"yes\":true,\"count\":2,\"usd\":0.1,"
                             "\"choice\":\"green\",\"models\":[\"gpt*\"],\"time\":\"2027-01-31T00:00:00Z\"}"),
                    FIELDS, N, v, &doc, &err),
        ERR_OK);
    assert_string_equal(v[NAME].text, "a.b-c_1");
    assert_int_equal(v[YES].i, 1);
    assert_int_equal(v[COUNT].i, 2);
    assert_int_equal(v[USD].i, 100000000);
    assert_string_equal(v[CHOICE].text, "green");
    assert_int_equal(json_array_size(v[MODELS].list), 1);
    assert_int_equal(v[TIME].i, 1801353600);
    json_decref(doc);
    assert_int_equal(read_text("", v, &err), ERR_OK);
    assert_false(v[NAME].is_given);
    assert_int_equal(read_text("{\"count\":null}", v, &err), ERR_OK);
    assert_true(v[COUNT].is_null);
}

static void test_amounts_are_exact_or_refused(void **state)
{
    static const struct {
        const char *text;
        int64_t nano;
    } GOOD[] = {{"19.99", 19990000000},
                {"0", 0},
                {"1e-9", 1},
                {"0.000000001", 1},
                {"8388607.999999999", 8388607999999999},
                {"\"1000000000\"", 1000000000000000000},
                {"\"999999999.999999999\"", 999999999999999999},
                {"1000000000", 1000000000000000000}};
    static const char *const BAD[] = {"-1",        "0.0000000001", "1.0000000001", "1e9",
                                      "8388608.5", "1000000001",   "true",         "\"1.0.0\"",
                                      "\"-1\"",    "\"x\"",        "\"\"",         "null"};
    struct field_value v[N];
    struct err err;
    char body[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(GOOD); i++) {
        (void)snprintf(body, sizeof(body), "{\"usd\":%s}", GOOD[i].text);
        assert_int_equal(read_text(body, v, &err), ERR_OK);
        assert_int_equal(v[USD].i, GOOD[i].nano);
    }
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        (void)snprintf(body, sizeof(body), "{\"usd\":%s}", BAD[i]);
        assert_int_equal(read_text(body, v, &err), ERR_BAD_REQUEST);
        assert_non_null(strstr(err.text, "'usd'"));
    }
}

static void test_bad_values_are_refused_by_the_name_of_their_member(void **state)
{
    static const char *const BAD[][2] = {
        {"{\"id\":\"a b\"}", "'id'"},
        {"{\"id\":\"'; DROP TABLE tenants; --\"}", "'id'"},
        {"{\"id\":\"../etc\"}", "'id'"},
        {"{\"id\":\"\"}", "'id'"},
        {"{\"id\":7}", "'id'"},
        {"{\"id\":\"-a\"}", "'id'"},
        {"{\"text\":\"123456789\"}", "'text'"},
        {"{\"text\":\"a\\nb\"}", "'text'"},
        {"{\"text\":\"\\u001b[2J\"}", "'text'"},
        {"{\"yes\":1}", "'yes'"},
        {"{\"count\":1}", "'count'"},
        {"{\"count\":10}", "'count'"},
        {"{\"count\":2.0}", "'count'"},
        {"{\"choice\":\"blue\"}", "'choice'"},
        {"{\"choice\":\"\"}", "'choice'"},
        {"{\"choice\":\"red green\"}", "'choice'"},
        {"{\"models\":\"all\"}", "'models'"},
        {"{\"models\":[\"\"]}", "'models'"},
        {"{\"models\":[1]}", "'models'"},
        {"{\"time\":\"tomorrow\"}", "'time'"},
        {"{\"time\":1801353600}", "'time'"},
        {"{\"colour\":1}", "'colour'"},
        {"{\"\\u001b[2J\":1}", "not known"},
        {"[]", "object"},
    };
    struct field_value v[N];
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        assert_int_equal(read_text(BAD[i][0], v, &err), ERR_BAD_REQUEST);
        if (!strstr(err.text, BAD[i][1]))
            fail_msg("%s: %s", BAD[i][0], err.text);
    }
    assert_int_equal(read_text("{\"id\":\"a\",\"id\":\"b\"}", v, &err), ERR_BAD_BODY);
    assert_int_equal(read_text("{", v, &err), ERR_BAD_BODY);
    assert_int_equal(read_text("{\"text\":\"a\\u0000b\"}", v, &err), ERR_BAD_BODY);
}

static void test_an_hour_is_its_first_second(void **state)
{
    static const struct field HOUR = {.name = "from", .type = FIELD_HOUR};
    static const char *const BAD[] = {"{\"from\":\"2026-11-20T24\"}", "{\"from\":\"2026-02-30T10\"}",
                                      "{\"from\":\"\"}", "{\"from\":1700000000}"};
    struct field_value v;
    struct err err = {0};
    json_t *doc;

    (void)state;
    assert_int_equal(fields_read(SPAN_LIT("{\"from\":\"2026-11-20T13\"}"), &HOUR, 1, &v, &doc, &err), ERR_OK);
    assert_int_equal(v.i, 1795179600);
    json_decref(doc);
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        assert_int_equal(fields_read(span_of(BAD[i]), &HOUR, 1, &v, &doc, &err), ERR_BAD_REQUEST);
        assert_non_null(strstr(err.text, "'from' must be an hour"));
    }
}

static void test_a_member_that_is_required_is_asked_for(void **state)
{
    static const struct field NEEDED = {.name = "id", .type = FIELD_NAME, .is_required = true};
    struct field_value v;
    struct err err = {0};
    json_t *doc;

    (void)state;
    assert_int_equal(fields_read(SPAN_LIT("{}"), &NEEDED, 1, &v, &doc, &err), ERR_MISSING_FIELD);
    assert_non_null(strstr(err.text, "'id'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_values_are_read),
        cmocka_unit_test(test_amounts_are_exact_or_refused),
        cmocka_unit_test(test_bad_values_are_refused_by_the_name_of_their_member),
        cmocka_unit_test(test_an_hour_is_its_first_second),
        cmocka_unit_test(test_a_member_that_is_required_is_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
