/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/yaml/yaml_doc.h"

#include <stdio.h>
#include <stdlib.h>

#include "libshared/base/buf.h"
#include "tests/unit/cm.h"

static const struct yaml_limits LIMITS = {(size_t)4 << 20, 32, 200000};

static struct yaml_doc *parse(const char *text)
{
    struct yaml_place where;
    struct err err = {0};
    struct yaml_doc *d = yaml_doc_new(span_of(text), &LIMITS, &where, &err);

    if (!d)
        fail_msg("%u:%u: %s", where.line, where.column, err.text);
    return d;
}

static void assert_text(const struct yaml_node *n, const char *text, unsigned line, unsigned column)
{
    assert_non_null(n);
    assert_int_equal(n->type, NODE_TEXT);
    assert_string_equal(n->text.p, text);
    assert_int_equal(n->text.len, strlen(text));
    assert_int_equal(n->place.line, line);
    assert_int_equal(n->place.column, column);
}

static void test_every_node_knows_its_line_and_column(void **state)
{
    struct yaml_doc *d =
        parse("# comment\nlisten: :8080\nproviders:\n  - name: ä, {b}\n    x: \"q\"\n  - [1, 2]\n");
    const struct yaml_node *root = yaml_doc_root(d), *list = yaml_get(root, "providers");

    (void)state;
    assert_int_equal(root->type, NODE_MAP);
    assert_int_equal(root->n_items, 2);
    assert_text(yaml_get(root, "listen"), ":8080", 2, 9);
    assert_int_equal(list->type, NODE_LIST);
    assert_text(yaml_get(list->items->value, "name"), "ä, {b}", 4, 11);
    assert_text(yaml_get(list->items->value, "x"), "q", 5, 8);
    assert_true(yaml_get(list->items->value, "x")->is_quoted);
    assert_text(list->items->next->value->items->next->value, "2", 6, 9);
    assert_null(yaml_get(root, "nothing"));
    assert_null(yaml_get(list, "name"));
    assert_null(yaml_get(NULL, "name"));
    yaml_doc_free(d);
}

static void test_json_is_read(void **state)
{
    struct yaml_doc *d =
        parse("\xef\xbb\xbf{\"a\":{\"b\":[true,1.5e3,null,\"\\u00e4\\/\\n\"]},\n\t\"c\" : \"\"}\n");
    const struct yaml_node *list = yaml_get(yaml_get(yaml_doc_root(d), "a"), "b");

    (void)state;
    assert_int_equal(list->n_items, 4);
    assert_text(list->items->value, "true", 1, 12);
    assert_int_equal(list->items->next->next->value->type, NODE_NULL);
    assert_text(list->items->next->next->next->value, "ä/\n", 1, 28);
    assert_text(yaml_get(yaml_doc_root(d), "c"), "", 2, 8);
    yaml_doc_free(d);
}

static void test_a_placeholder_is_text_wherever_it_stands(void **state)
{
    struct yaml_doc *d = parse("a: {token: ${TOKEN}, list: [${A:-x, y: [z] # {}, ${B}], n: 1}\n"
                               "b: ${C:-}   # ${D\n"
                               "c: '$${E}'\n"
                               "d: \"${F:-g}\\t${H}\"\n"
                               "e: {plain: $5, open: $x}\n");
    const struct yaml_node *root = yaml_doc_root(d), *a = yaml_get(root, "a");

    (void)state;
    assert_text(yaml_get(a, "token"), "${TOKEN}", 1, 12);
    assert_text(yaml_get(a, "list")->items->value, "${A:-x, y: [z] # {}", 1, 29);
    assert_text(yaml_get(a, "list")->items->next->value, "${B}", 1, 50);
    assert_text(yaml_get(a, "n"), "1", 1, 60);
    assert_text(yaml_get(root, "b"), "${C:-}", 2, 4);
    assert_text(yaml_get(root, "c"), "$${E}", 3, 4);
    assert_text(yaml_get(root, "d"), "${F:-g}\t${H}", 4, 4);
    assert_text(yaml_get(yaml_get(root, "e"), "plain"), "$5", 5, 12);
    yaml_doc_free(d);
}

static void test_an_alias_shares_the_node_of_its_anchor(void **state)
{
    struct yaml_doc *d = parse("a: &std {rpm: 5}\nb: *std\nc: [*std, &s x, *s]\n");
    const struct yaml_node *root = yaml_doc_root(d);

    (void)state;
    assert_ptr_equal(yaml_get(root, "a"), yaml_get(root, "b"));
    assert_ptr_equal(yaml_get(root, "a"), yaml_get(root, "c")->items->value);
    assert_text(yaml_get(root, "c")->items->next->next->value, "x", 3, 11);
    yaml_doc_free(d);
}

static void test_an_empty_text_has_no_root(void **state)
{
    static const char *const TEXTS[] = {"", "\n\n", "# only a comment\n", "\xef\xbb\xbf"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++) {
        struct yaml_doc *d = parse(TEXTS[i]);

        assert_null(yaml_doc_root(d));
        yaml_doc_free(d);
    }
}

static void test_bad_texts_are_refused_with_their_place(void **state)
{
    static const struct {
        const char *text;
        unsigned line, column;
        const char *reason;
    } BAD[] = {
        {"a: 1\na: 2\n", 2, 1, "key 'a' is there twice"},
        {"{\"a\": 1, \"b\": 2, \"a\": 3}", 1, 18, "key 'a' is there twice"},
        {"a: {x: 1, 'x': 2}", 1, 11, "key 'x' is there twice"},
        {"sk-live-0123456789012345678901234567: 1\nsk-live-0123456789012345678901234567: 1\n", 2, 1,
         "a key is there twice"},
        {"\"\\u0007\": 1\n\"\\u0007\": 1\n", 2, 1, "a key is there twice"},
        {"a: 1\n---\nb: 2\n", 2, 1, "only one document is allowed"},
        {"? [a]\n: b\n", 1, 3, "a key must be text"},
        {"? {a: 1}\n: b\n", 1, 3, "a key must be text"},
        {"'': b\n", 1, 1, "a key must be text"},
        {"~: b\n", 1, 1, "a key must be text"},
        {"{: b}\n", 1, 2, "did not find expected node content while parsing a flow node"},
        {"a: !!str 5\n", 1, 4, "tags are not supported"},
        {"a: ! 5\n", 1, 4, "tags are not supported"},
        {"a: !x [1]\n", 1, 4, "tags are not supported"},
        {"a: !!map {}\n", 1, 4, "tags are not supported"},
        {"a: *b\n", 1, 4, "an alias names an anchor that is not there"},
        {"a: &a [1, *a]\n", 1, 11, "an alias cannot stand inside its own anchor"},
        {"a: &a {b: *a}\n", 1, 11, "an alias cannot stand inside its own anchor"},
        {"a: \"x\\0y\"\n", 1, 4, "text cannot hold a NUL character"},
        {"a: \xef\xa0\x80\n", 1, 4, "characters U+F800 to U+F87F cannot be used"},
        {"a: \xc3\xa4\xef\xa1\xbf\n", 1, 5, "characters U+F800 to U+F87F cannot be used"},
        {"ok: 1\na:\n\tb: 1\n", 3, 1,
         "a tab cannot be used for indentation while scanning for the next token"},
        {"a: [1, 2\n", 2, 1, "did not find expected ',' or ']' while parsing a flow sequence"},
        {"a: {token: ${TOKEN\n", 1, 13, "did not find expected ',' or '}' while parsing a flow mapping"},
        {"a: \"x\n", 2, 1, "found unexpected end of stream while scanning a quoted scalar"},
        {"a: b: c\n", 1, 5, "mapping values are not allowed in this context"},
        {"x: \xc3\xa4 \xff\n", 1, 6, "not valid UTF-8 text: invalid leading UTF-8 octet"},
        {"x: a\x01\n", 1, 5, "not valid UTF-8 text: control characters are not allowed"},
        {"x: \xed\xa0\x80\n", 1, 4, "not valid UTF-8 text: invalid Unicode character"},
        {"x: @y\n", 1, 4, "found character that cannot start any token while scanning for the next token"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        struct yaml_place where;
        struct err err = {0};
        struct yaml_doc *d = yaml_doc_new(span_of(BAD[i].text), &LIMITS, &where, &err);

        if (d)
            fail_msg("accepted: %s", BAD[i].text);
        if (where.line != BAD[i].line || where.column != BAD[i].column ||
            strcmp(err.text, BAD[i].reason) != 0)
            fail_msg("%s: got %u:%u: %s", BAD[i].text, where.line, where.column, err.text);
    }
}

static void test_a_nul_byte_in_the_text_is_refused(void **state)
{
    struct yaml_place where;
    struct err err = {0};

    (void)state;
    assert_null(yaml_doc_new(SPAN_LIT("a: b\0c\n"), &LIMITS, &where, &err));
    assert_int_equal(where.column, 5);
}

static void assert_refused(const struct buf *text, const struct yaml_limits *limits, const char *reason)
{
    struct yaml_place where;
    struct err err = {0};

    assert_null(yaml_doc_new(buf_span(text), limits, &where, &err));
    assert_string_equal(err.text, reason);
}

static void test_a_text_that_multiplies_itself_is_refused(void **state)
{
    struct buf text AUTO(buf_release) = {0};

    (void)state;
    buf_addz(&text, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 12; i++) {
        buf_addf(&text, "a%d: &a%d [", i, i);
        for (int k = 0; k < 10; k++)
            buf_addf(&text, "%s*a%d", k ? "," : "", i - 1);
        buf_addz(&text, "]\n");
    }
    assert_refused(&text, &LIMITS, "the document has too many values once its aliases are written out");
    buf_clear(&text);
    buf_addz(&text, "a0: &a0 [x]\n");
    for (int i = 1; i < 40; i++)
        buf_addf(&text, "a%d: &a%d [*a%d]\n", i, i, i - 1);
    assert_refused(&text, &LIMITS, "the document is nested too deeply");
    buf_clear(&text);
    for (int i = 0; i <= 1000; i++)
        buf_addf(&text, "- &a%d x\n", i);
    assert_refused(&text, &LIMITS, "the document has too many anchors");
}

static void test_size_depth_and_count_are_bounded(void **state)
{
    struct yaml_limits small = {100, 3, 10};
    struct buf text AUTO(buf_release) = {0};
    struct yaml_place where;
    struct yaml_doc *d;
    struct err err = {0};

    (void)state;
    for (int i = 0; i < 101; i++)
        buf_addc(&text, '#');
    assert_refused(&text, &small, "the text is larger than 100 bytes");
    buf_clear(&text);
    buf_addz(&text, "[[[[]]]]");
    assert_refused(&text, &small, "the document is nested too deeply");
    buf_clear(&text);
    buf_addz(&text, "[1,2,3,4,5,6,7,8,9,10]");
    assert_refused(&text, &small, "the document has too many values");
    buf_clear(&text);
    buf_addz(&text, "[[[1,2,3,4,5,6,7]]]");
    d = yaml_doc_new(buf_span(&text), &small, &where, &err);
    assert_non_null(d);
    yaml_doc_free(d);
}

static void test_deep_flow_nesting_costs_little(void **state)
{
    struct buf text AUTO(buf_release) = {0};

    (void)state;
    for (int i = 0; i < 1000000; i++)
        buf_addc(&text, '[');
    assert_refused(&text, &LIMITS, "the document is nested too deeply");
}

static void test_every_prefix_of_a_text_is_safe(void **state)
{
    static const char TEXT[] =
        "a: &x {b: ${C:-d}, e: [\"\\u00e4\", 'f', *y]}\n? g\n: |\n  text ${H}\n  more\ni: >-\n  folded\n"
        "j: &y [1, {k: l}]\n--- \n";

    (void)state;
    for (size_t n = 0; n < sizeof(TEXT); n++) {
        char *copy = malloc(n ? n : 1);
        struct yaml_place where;
        struct err err = {0};

        assert_non_null(copy);
        memcpy(copy, TEXT, n);
        yaml_doc_free(yaml_doc_new(span_make(copy, n), &LIMITS, &where, &err));
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_node_knows_its_line_and_column),
        cmocka_unit_test(test_json_is_read),
        cmocka_unit_test(test_a_placeholder_is_text_wherever_it_stands),
        cmocka_unit_test(test_an_alias_shares_the_node_of_its_anchor),
        cmocka_unit_test(test_an_empty_text_has_no_root),
        cmocka_unit_test(test_bad_texts_are_refused_with_their_place),
        cmocka_unit_test(test_a_nul_byte_in_the_text_is_refused),
        cmocka_unit_test(test_a_text_that_multiplies_itself_is_refused),
        cmocka_unit_test(test_size_depth_and_count_are_bounded),
        cmocka_unit_test(test_deep_flow_nesting_costs_little),
        cmocka_unit_test(test_every_prefix_of_a_text_is_safe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
