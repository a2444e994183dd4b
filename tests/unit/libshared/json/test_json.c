/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/json/json.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "libshared/base/buf.h"
#include "tests/unit/cm.h"

static const struct json_limits LIMITS = {64, 200000, 256};

/* On the heap, exactly as long as the text, so that a sanitizer sees any read past it. */
static enum err_code check(struct span text, const struct json_limits *limits, struct err *err)
{
    char *exact = malloc(text.len ? text.len : 1);
    enum err_code e;

    memcpy(exact, text.p, text.len);
    e = json_check(span_make(exact, text.len), limits, err);
    free(exact);
    return e;
}

static const struct verdict {
    const char *text;
    bool ok;
} VERDICTS[] = {
    {"{}", true},
    {"[]", true},
    {" \t\r\n{ } \n", true},
    {"null", true},
    {"true", true},
    {"false", true},
    {"\"\"", true},
    {"0", true},
    {"-0", true},
    {"-0.0e-0", true},
    {"1E+2", true},
    {"123456789012345678901234567890", true},
    {"1.5", true},
    {"[1,2,3]", true},
    {"[[],{},[{}]]", true},
    {"{\"a\":1,\"b\":[true,null,\"x\"]}", true},
    {"{ \"a\" : 1 , \"b\" : 2 }", true},
    {"{\"\":1}", true},
    {"{\"a\":{\"x\":1,\"x\":2}}", true}, /* only top-level keys must be unique */
    {"[{\"x\":1,\"x\":2}]", true},
    {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\uD83D\\uDE00\"", true},
    {"\"\\ud800\"", true}, /* grammar allows it */
    {"\"\\u0000\"", true},
    {"\"\x7f\"", true},
    {"\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\xee\x80\x80\"", true},
    {"\"0123456789abcdef0123456789abcdef\"", true},
    {"", false},
    {" ", false},
    {"{", false},
    {"}", false},
    {"[", false},
    {"]", false},
    {"{]", false},
    {"[}", false},
    {"[{]}", false},
    {"{\"a\"}", false},
    {"{\"a\":}", false},
    {"{\"a\" 1}", false},
    {"{\"a\":1,}", false},
    {"{,}", false},
    {"{\"a\":1 \"b\":2}", false},
    {"{a:1}", false},
    {"{'a':1}", false},
    {"{1:1}", false},
    {"[1,]", false},
    {"[,1]", false},
    {"[1 2]", false},
    {"[1,,2]", false},
    {"01", false},
    {"-", false},
    {"+1", false},
    {".5", false},
    {"1.", false},
    {"1.e1", false},
    {"1e", false},
    {"1e+", false},
    {"-01", false},
    {"0x10", false},
    {"NaN", false},
    {"Infinity", false},
    {"tru", false},
    {"truex", false},
    {"True", false},
    {"nul", false},
    {"\"", false},
    {"\"abc", false},
    {"\"\\\"", false},
    {"\"\\x41\"", false},
    {"\"\\u12\"", false},
    {"\"\\u12g4\"", false},
    {"\"\\U0041\"", false},
    {"\"\n\"", false},
    {"\"\t\"", false},
    {"\"\x1f\"", false},
    {"\"0123456789abcdef\x01\"", false},
    {"\"\xff\"", false},
    {"\"\x80\"", false},
    {"\"\xc0\xaf\"", false},         /* overlong */
    {"\"\xe0\x80\xaf\"", false},     /* overlong */
    {"\"\xf0\x80\x80\xaf\"", false}, /* overlong */
    {"\"\xed\xa0\x80\"", false},     /* raw surrogate */
    {"\"\xf4\x90\x80\x80\"", false}, /* above U+10FFFF */
    {"\"\xf5\x80\x80\x80\"", false},
    {"\"\xe2\x82\"", false}, /* cut */
    {"\"\xe2\x82", false},
    {"\"\xf0\x9f\x98\"", false},
    {"\"\xc3\"", false},
    {"\xef\xbb\xbf{}", false}, /* a byte order mark is not JSON */
    {"{}{}", false},
    {"{} x", false},
    {"1 2", false},
    {"// c\n1", false},
    {"/**/1", false},
    {"\xc2\xa0{}", false}, /* no-break space is no white space here */
    {"\f{}", false},
    {"{\"a\":1,\"a\":1}", false},
    {"{\"model\":1,\"mod\\u0065l\":2}", false},
    {"{\"mod\\u0065l\":1,\"model\":2}", false},
    {"{\"\\u006d\":1,\"\\u006D\":2}", false},
    {"{\"a\\/b\":1,\"a/b\":2}", false},
    {"{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":2}", false},
    {"{\"\\ud800\":1,\"\\uD800\":2}", false},
    {"{\"\\ud800\":1,\"\\ud801\":2}", true},
    {"{\"\":1,\"\":2}", false},
    {"{\"a\":1,\"A\":2}", true},
    {"{\"a\":1,\"a\\u0000\":2}", true},
};

static void test_the_grammar_is_exactly_rfc_8259_with_unique_top_level_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(VERDICTS); i++) {
        struct err err = {0};
        enum err_code e = check(span_of(VERDICTS[i].text), &LIMITS, &err);

        if ((e == ERR_OK) != VERDICTS[i].ok)
            fail_msg("'%s' gave %s: %s", VERDICTS[i].text, err_row(e)->name, err_text(&err));
        if (e)
            assert_int_equal(e, ERR_BAD_BODY);
    }
}

static void test_every_proper_prefix_of_a_document_is_refused(void **state)
{
    static const char DOC[] =
        "{\"model\":\"gpt-4o\",\"messages\":[{\"role\":\"user\",\"content\":\"h\\u00e9llo \xe2\x82\xac\"}],"
        "\"stream\":true,\"n\":-1.5e+3,\"x\":[null,false,{}]}";

    (void)state;
    assert_int_equal(check(span_of(DOC), &LIMITS, NULL), ERR_OK);
    for (size_t n = 0; n < sizeof(DOC) - 1; n++)
        assert_int_equal(check(span_make(DOC, n), &LIMITS, NULL), ERR_BAD_BODY);
}

static void test_a_refusal_says_what_and_at_which_byte(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(check(SPAN_LIT("{\"a\":tru}"), &LIMITS, &err), ERR_BAD_BODY);
    assert_string_equal(err_text(&err), "not acceptable JSON: a value is malformed at byte 5");
    assert_int_equal(check(SPAN_LIT("{\"model\":1,\"mod\\u0065l\":1}"), &LIMITS, &err), ERR_BAD_BODY);
    assert_string_equal(err_text(&err), "a top-level key stands twice, again at byte 12");
    assert_int_equal(check(SPAN_LIT("{\"model\":1,\"model\":1}"), &LIMITS, &err), ERR_BAD_BODY);
    assert_string_equal(err_text(&err), "the key 'model' stands twice, again at byte 12");
    assert_int_equal(check(SPAN_LIT("[\"0123456789abcdefgh\xff\"]"), &LIMITS, &err), ERR_BAD_BODY);
    assert_string_equal(err_text(&err), "not acceptable JSON: a byte is not valid UTF-8 at byte 20");
}

static struct span nested(char open, unsigned depth, char *dst)
{
    for (unsigned i = 0; i < depth; i++) {
        dst[i] = open;
        dst[2 * depth - 1 - i] = open == '[' ? ']' : '}';
    }
    return span_make(dst, (size_t)2 * depth);
}

static void test_depth_is_limited_to_the_byte(void **state)
{
    char text[4096];
    struct json_limits l = LIMITS;

    (void)state;
    assert_int_equal(check(nested('[', 64, text), &l, NULL), ERR_OK);
    assert_int_equal(check(nested('[', 65, text), &l, NULL), ERR_BAD_BODY);
    l.max_depth = 100000; /* clamped */
    assert_int_equal(check(nested('[', JSON_DEPTH_MAX, text), &l, NULL), ERR_OK);
    assert_int_equal(check(nested('[', JSON_DEPTH_MAX + 1, text), &l, NULL), ERR_BAD_BODY);
    l.max_depth = 1;
    assert_int_equal(check(SPAN_LIT("{\"a\":1}"), &l, NULL), ERR_OK);
    assert_int_equal(check(SPAN_LIT("{\"a\":[]}"), &l, NULL), ERR_BAD_BODY);
    l.max_depth = 0;
    assert_int_equal(check(SPAN_LIT("1"), &l, NULL), ERR_OK);
    assert_int_equal(check(SPAN_LIT("{}"), &l, NULL), ERR_BAD_BODY);
    assert_int_equal(check(SPAN_LIT("[]"), &l, NULL), ERR_BAD_BODY);
}

static void test_a_million_open_brackets_are_refused_without_recursion(void **state)
{
    size_t n = 1000000;
    char *text = malloc(n);
    struct json_walk w;
    struct json_member m;

    (void)state;
    memset(text, '[', n);
    assert_int_equal(json_check(span_make(text, n), &LIMITS, NULL), ERR_BAD_BODY);
    assert_int_equal(json_value(span_make(text, n)).type, JSON_INVALID);
    assert_true(json_walk(&w, span_make(text, n)));
    assert_false(json_next(&w, &m));
    assert_true(w.bad);
    free(text);
}

static void test_values_of_every_kind_are_counted(void **state)
{
    struct json_limits l = {64, 4, 256};

    (void)state;
    assert_int_equal(check(SPAN_LIT("[1,2,3]"), &l, NULL), ERR_OK);
    assert_int_equal(check(SPAN_LIT("[1,2,3,4]"), &l, NULL), ERR_BAD_BODY);
    assert_int_equal(check(SPAN_LIT("[{},[],\"\"]"), &l, NULL), ERR_OK);
    assert_int_equal(check(SPAN_LIT("{\"a\":{\"b\":{\"c\":1}}}"), &l, NULL), ERR_OK);
    assert_int_equal(check(SPAN_LIT("{\"a\":{\"b\":{\"c\":[1]}}}"), &l, NULL), ERR_BAD_BODY);
    l.max_values = 0;
    assert_int_equal(check(SPAN_LIT("1"), &l, NULL), ERR_BAD_BODY);
    assert_int_equal(check(SPAN_LIT("{}"), &l, NULL), ERR_BAD_BODY);
}

static void test_top_level_keys_have_a_length_limit_and_deeper_ones_have_not(void **state)
{
    struct json_limits l = {64, 100, 4};

    (void)state;
    assert_int_equal(check(SPAN_LIT("{\"abcd\":1}"), &l, NULL), ERR_OK);
    assert_int_equal(check(SPAN_LIT("{\"abcde\":1}"), &l, NULL), ERR_BAD_BODY);
    assert_int_equal(check(SPAN_LIT("{\"a\":{\"abcdefgh\":1}}"), &l, NULL), ERR_OK);
}

static struct buf many_keys(unsigned n, const char *last_key)
{
    struct buf b;

    buf_init(&b, 0);
    buf_addz(&b, "{");
    for (unsigned i = 0; i < n; i++)
        buf_addf(&b, "\"k%u\":0,", i);
    buf_addf(&b, "\"%s\":0}", last_key);
    return b;
}

static void test_a_hundred_thousand_keys_are_compared_and_the_last_duplicate_found(void **state)
{
    struct buf unique AUTO(buf_release) = many_keys(100000, "last");
    struct buf doubled AUTO(buf_release) = many_keys(100000, "k5\\u0030000");

    (void)state;
    assert_int_equal(json_check(buf_span(&unique), &LIMITS, NULL), ERR_OK);
    assert_int_equal(json_check(buf_span(&doubled), &LIMITS, NULL), ERR_BAD_BODY);
}

static void test_an_ordinary_body_is_checked_and_walked_without_allocation(void **state)
{
    struct buf b AUTO(buf_release) = many_keys(30, "last");
    struct json_walk w;
    struct json_member m;
    size_t before, n = 0;

    (void)state;
    (void)!json_check(buf_span(&b), &LIMITS, NULL); /* the hash draws its key once */
    before = mallinfo2().uordblks;
    assert_int_equal(json_check(buf_span(&b), &LIMITS, NULL), ERR_OK);
    assert_true(json_walk(&w, buf_span(&b)));
    while (json_next(&w, &m))
        n++;
    assert_int_equal(mallinfo2().uordblks, before);
    assert_int_equal(n, 31);
}

static void test_a_walk_gives_keys_values_and_offsets_in_order(void **state)
{
    static const char TEXT[] = " { \"a\" : 1 , \"b\\n\":[1, 2],\"c\":{\"d\":\"}\"} , \"e\":null} rest";
    static const struct {
        const char *key, *raw;
        enum json_type type;
    } WANT[] = {{"a", "1", JSON_NUMBER},
                {"b\\n", "[1, 2]", JSON_ARRAY},
                {"c", "{\"d\":\"}\"}", JSON_OBJECT},
                {"e", "null", JSON_NULL}};
    struct json_walk w;
    struct json_member m;
    size_t n = 0;

    (void)state;
    assert_true(json_walk(&w, span_of(TEXT)));
    assert_true(w.is_object);
    while (json_next(&w, &m)) {
        assert_true(n < ARRAY_LEN(WANT));
        assert_true(span_is(m.key, WANT[n].key));
        assert_true(span_is(m.value.raw, WANT[n].raw));
        assert_int_equal(m.value.type, WANT[n].type);
        assert_int_equal(TEXT[m.start], '"');
        assert_ptr_equal(TEXT + m.start + 1, m.key.p);
        n++;
    }
    assert_false(w.bad);
    assert_int_equal(n, 4);
    assert_string_equal(w.p, " rest");
    assert_false(json_next(&w, &m)); /* stays ended */
    assert_false(w.bad);
}

static void test_an_array_walk_gives_elements(void **state)
{
    struct json_walk w;
    struct json_member m;

    (void)state;
    assert_true(json_walk(&w, SPAN_LIT("[ 10,\"x\" , {} ]")));
    assert_false(w.is_object);
    assert_true(json_next(&w, &m));
    assert_int_equal(m.start, 2);
    assert_true(span_is(m.value.raw, "10"));
    assert_int_equal(m.key.len, 0);
    assert_true(json_next(&w, &m));
    assert_true(json_next(&w, &m));
    assert_int_equal(m.value.type, JSON_OBJECT);
    assert_false(json_next(&w, &m));
    assert_false(w.bad);
    assert_false(json_walk(&w, SPAN_LIT("\"text\"")));
    assert_false(json_next(&w, &m));
    assert_false(json_walk(&w, SPAN_LIT("")));
}

static void test_malformed_bytes_end_a_walk_as_bad(void **state)
{
    static const char *const BAD[] = {
        "{",          "[",         "{\"a\"",   "{\"a\":",    "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{a:1}",
        "{\"a\":1]",  "[1}",       "[1,]",     "[1 2]",      "[,]",      "{,}",       "[tru]",      "[[1,2]",
        "{\"a\":{]}", "[\"\\x\"]", "[\"\n\"]", "{\"a\\\":1", "[01]",     "{\"a\" 1}", "{:1}",       "[-]"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        struct span t = span_of(BAD[i]);
        char *exact = malloc(t.len);
        struct json_walk w;
        struct json_member m;

        memcpy(exact, t.p, t.len);
        assert_true(json_walk(&w, span_make(exact, t.len)));
        while (json_next(&w, &m))
            assert_int_not_equal(m.value.type, JSON_INVALID);
        if (!w.bad)
            fail_msg("'%s' was walked to a clean end", BAD[i]);
        assert_true(w.p >= exact && w.p <= exact + t.len);
        free(exact);
    }
}

static void test_members_are_found_by_name_and_path_also_when_escaped(void **state)
{
    static const char TEXT[] =
        "{\"usag\\u0065\":{\"prompt_tokens\":12,\"d\":{\"cached\":3}},\"model\":\"m\",\"model\":\"n\","
        "\"list\":[5,{\"a\":7}]}";
    struct span t = span_of(TEXT);

    (void)state;
    assert_true(span_is(json_get(t, "model").raw, "\"m\""));
    assert_int_equal(json_get(t, "mode").type, JSON_INVALID);
    assert_int_equal(json_get(t, "models").type, JSON_INVALID);
    assert_int_equal(json_get(SPAN_LIT("[1]"), "0").type, JSON_INVALID);
    assert_true(span_is(json_path(t, "usage", "prompt_tokens", NULL).raw, "12"));
    assert_true(span_is(json_path(t, "usage", "d", "cached", NULL).raw, "3"));
    assert_int_equal(json_path(t, "usage", "d", NULL).type, JSON_OBJECT);
    assert_int_equal(json_path(t, "usage", "x", "cached", NULL).type, JSON_INVALID);
    assert_int_equal(json_path(t, "model", "x", NULL).type, JSON_INVALID);
}

static const struct {
    const char *text;
    bool ok;
    uint64_t n;
} INTEGERS[] = {
    {"0", true, 0},
    {"-0", true, 0},
    {"7", true, 7},
    {"1200", true, 1200},
    {"12.0", true, 12},
    {"1.2e1", true, 12},
    {"1.20E+1", true, 12},
    {"1200e-2", true, 12},
    {"0.0012e4", true, 12},
    {"0e999999999999999999999999", true, 0},
    {"0.000", true, 0},
    {"18446744073709551615", true, UINT64_MAX},
    {"1844674407370955161500e-2", true, UINT64_MAX},
    {"18446744073709551616", false, 0},
    {"99999999999999999999999", false, 0},
    {"1e19", true, 10000000000000000000u},
    {"1e20", false, 0},
    {"1e99999999999999999999", false, 0},
    {"1e-99999999999999999999", false, 0},
    {"1.5", false, 0},
    {"12e-1", false, 0},
    {"-1", false, 0},
    {"\"5\"", false, 0},
    {"true", false, 0},
    {"null", false, 0},
    {"", false, 0},
};

static void test_integers_are_read_exactly_or_not_at_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(INTEGERS); i++) {
        uint64_t n = 0;
        bool ok = json_u64(json_value(span_of(INTEGERS[i].text)), &n);

        if (ok != INTEGERS[i].ok || (ok && n != INTEGERS[i].n))
            fail_msg("'%s' gave %d %lu", INTEGERS[i].text, ok, (unsigned long)n);
    }
}

static void test_strings_are_unescaped_into_the_room_there_is(void **state)
{
    char dst[16];
    size_t len = 99;

    (void)state;
    assert_true(json_str(json_value(SPAN_LIT("\"a\\n\\u00e9\\ud83d\\ude00\\/\"")), dst, sizeof(dst), &len));
    assert_string_equal(dst, "a\n\xc3\xa9\xf0\x9f\x98\x80/");
    assert_int_equal(len, 9);
    assert_true(json_str(json_value(SPAN_LIT("\"\"")), dst, 1, &len));
    assert_int_equal(len, 0);
    assert_true(json_str(json_value(SPAN_LIT("\"123456789012345\"")), dst, sizeof(dst), NULL));
    assert_false(json_str(json_value(SPAN_LIT("\"1234567890123456\"")), dst, sizeof(dst), NULL));
    assert_false(json_str(json_value(SPAN_LIT("\"12345678901234\\u00e9\"")), dst, sizeof(dst), NULL));
    assert_false(json_str(json_value(SPAN_LIT("\"a\\u0000b\"")), dst, sizeof(dst), NULL));
    assert_false(json_str(json_value(SPAN_LIT("\"\\ud800\"")), dst, sizeof(dst), NULL));
    assert_false(json_str(json_value(SPAN_LIT("\"\\ud800\\u0041\"")), dst, sizeof(dst), NULL));
    assert_false(json_str(json_value(SPAN_LIT("\"\\ude00\"")), dst, sizeof(dst), NULL));
    assert_false(json_str(json_value(SPAN_LIT("\"\xff\"")), dst, sizeof(dst), NULL));
    assert_false(json_str(json_value(SPAN_LIT("12")), dst, sizeof(dst), NULL));
    assert_false(json_str(json_value(SPAN_LIT("\"a\"")), dst, 0, NULL));
    assert_true(span_is(json_str_raw(json_value(SPAN_LIT(" \"a\\n\""))), "a\\n"));
    assert_int_equal(json_str_raw(json_value(SPAN_LIT("1"))).len, 0);
}

/* The fast path works on 16 bytes at a time: each interesting byte must be seen at each distance from a
 * block's edge. */
static void test_string_contents_are_judged_alike_at_every_alignment(void **state)
{
    static const struct {
        const char *piece;
        bool ok;
    } PIECES[] = {{"\\\"", true},      {"\\u00e9", true}, {"\xe2\x82\xac", true}, {"\xf0\x9f\x98\x80", true},
                  {"\xc3\xa9", true},  {"\x01", false},   {"\\q", false},         {"\xff", false},
                  {"\xe2\x82", false}, {"\x1f", false},   {"\\u12", false},       {"\x20", true},
                  {"\x7f", true}};

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(PIECES); k++)
        for (size_t before = 0; before < 40; before++)
            for (size_t after = 0; after < 40; after += 13) {
                struct buf b AUTO(buf_release) = {0};

                buf_addc(&b, '"');
                for (size_t i = 0; i < before; i++)
                    buf_addc(&b, 'x');
                buf_addz(&b, PIECES[k].piece);
                for (size_t i = 0; i < after; i++)
                    buf_addc(&b, 'z'); /* no hex digit: `\u12` stays bad */
                buf_addc(&b, '"');
                assert_int_equal(check(buf_span(&b), &LIMITS, NULL) == ERR_OK, PIECES[k].ok);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_grammar_is_exactly_rfc_8259_with_unique_top_level_keys),
        cmocka_unit_test(test_every_proper_prefix_of_a_document_is_refused),
        cmocka_unit_test(test_a_refusal_says_what_and_at_which_byte),
        cmocka_unit_test(test_depth_is_limited_to_the_byte),
        cmocka_unit_test(test_a_million_open_brackets_are_refused_without_recursion),
        cmocka_unit_test(test_values_of_every_kind_are_counted),
        cmocka_unit_test(test_top_level_keys_have_a_length_limit_and_deeper_ones_have_not),
        cmocka_unit_test(test_a_hundred_thousand_keys_are_compared_and_the_last_duplicate_found),
        cmocka_unit_test(test_an_ordinary_body_is_checked_and_walked_without_allocation),
        cmocka_unit_test(test_a_walk_gives_keys_values_and_offsets_in_order),
        cmocka_unit_test(test_an_array_walk_gives_elements),
        cmocka_unit_test(test_malformed_bytes_end_a_walk_as_bad),
        cmocka_unit_test(test_members_are_found_by_name_and_path_also_when_escaped),
        cmocka_unit_test(test_integers_are_read_exactly_or_not_at_all),
        cmocka_unit_test(test_strings_are_unescaped_into_the_room_there_is),
        cmocka_unit_test(test_string_contents_are_judged_alike_at_every_alignment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
