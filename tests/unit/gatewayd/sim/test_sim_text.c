/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/sim/sim_text.h"

#include "libshared/base/utf8.h"
#include "libshared/json/json.h"
#include "tests/unit/cm.h"

static void test_bytes_make_tokens_in_fours_rounded_up(void **state)
{
    (void)state;
    assert_int_equal(sim_tokens_of_bytes(0), 0);
    assert_int_equal(sim_tokens_of_bytes(1), 1);
    assert_int_equal(sim_tokens_of_bytes(4), 1);
    assert_int_equal(sim_tokens_of_bytes(5), 2);
}

static void test_escapes_count_as_the_bytes_they_stand_for(void **state)
{
    static const struct {
        const char *raw;
        uint64_t bytes;
    } CASES[] = {
        {"", 0},        {"abc", 3},      {"\\n\\\"\\\\", 3},    {"\\u0041", 1},   {"\\u00e9", 2},
        {"\\u20ac", 3}, {"\xc3\xa9", 2}, {"\\ud83d\\ude42", 4}, {"a\\u00e9b", 4}, {"\\u0000", 1},
        {"\\ud83d", 3}, {"\\ud83dx", 4}, {"x\\uFFFF\\t", 5},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++)
        assert_int_equal(sim_unescaped_bytes(span_of(CASES[i].raw)), CASES[i].bytes);
}

static void pieces_equal_the_whole(const struct sim_text *t, unsigned tokens)
{
    for (unsigned step = 1; step <= tokens; step++) {
        struct buf whole AUTO(buf_release) = {0}, parts AUTO(buf_release) = {0};
        struct buf plain AUTO(buf_release) = {0}, quoted AUTO(buf_release) = {0};
        char back[8192];

        sim_text_add_json(t, 0, 0, tokens, &whole);
        for (unsigned at = 0; at < tokens; at += step) {
            size_t from = parts.len;

            sim_text_add_json(t, 0, at, at + step < tokens ? at + step : tokens, &parts);
            for (size_t i = from; i < parts.len;) { /* no piece ends inside a character */
                size_t n = utf8_valid_len(parts.p + i, parts.len - i);

                assert_true(n > 0);
                i += n;
            }
        }
        assert_string_equal(whole.p, parts.p);
        sim_text_add(t, 0, 0, tokens, &plain);
        buf_addf(&quoted, "\"%s\"", whole.p);
        assert_true(json_str(json_value(buf_span(&quoted)), back, sizeof(back), NULL));
        assert_string_equal(back, plain.p);
    }
}

static void test_a_text_is_the_same_whole_and_in_pieces(void **state)
{
    const char *fixed = "{\"a\":\"\xc3\xa9\xf0\x9f\x99\x82 b\\n\"}xyz";
    struct sim_text words = {.kind = SIM_TEXT_WORDS, .seed = 99, .tokens = 200};
    struct sim_text object = {.kind = SIM_TEXT_JSON, .seed = 99, .tokens = 40};
    struct sim_text given = {.kind = SIM_TEXT_FIXED, .fixed = span_of(fixed), .tokens = 6};

    (void)state;
    pieces_equal_the_whole(&words, 200);
    pieces_equal_the_whole(&object, 40);
    assert_int_equal(sim_tokens_of_bytes(strlen(fixed)), 6);
    pieces_equal_the_whole(&given, 6);
}

static void test_words_count_themselves(void **state)
{
    struct sim_text t = {.kind = SIM_TEXT_WORDS, .seed = 5, .tokens = 500};
    struct buf b AUTO(buf_release) = {0};
    unsigned spaces = 0;

    (void)state;
    sim_text_add(&t, 0, 0, 500, &b);
    for (size_t i = 0; i < b.len; i++)
        spaces += b.p[i] == ' ';
    assert_int_equal(spaces + 1, 500);
}

static void test_choices_and_seeds_have_texts_of_their_own(void **state)
{
    struct sim_text t = {.kind = SIM_TEXT_WORDS, .seed = 5}, other = {.kind = SIM_TEXT_WORDS, .seed = 6};
    struct buf a AUTO(buf_release) = {0}, b AUTO(buf_release) = {0}, c AUTO(buf_release) = {0};

    (void)state;
    sim_text_add(&t, 0, 0, 20, &a);
    sim_text_add(&t, 1, 0, 20, &b);
    sim_text_add(&other, 0, 0, 20, &c);
    assert_string_not_equal(a.p, b.p);
    assert_string_not_equal(a.p, c.p);
}

static void test_the_object_text_is_one_json_object(void **state)
{
    struct sim_text t = {.kind = SIM_TEXT_JSON, .seed = 5, .tokens = 17};
    struct json_limits limits = {.max_depth = 2, .max_values = 10, .max_key_bytes = 20};
    struct buf b AUTO(buf_release) = {0};

    (void)state;
    sim_text_add(&t, 0, 0, 17, &b);
    assert_int_equal(json_check(buf_span(&b), &limits, NULL), ERR_OK);
    assert_int_equal(json_get(buf_span(&b), "answer").type, JSON_STRING);
}

static void test_base64_matches_the_rfc(void **state)
{
    static const char *const CASES[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct buf b AUTO(buf_release) = {0};

        sim_add_base64(&b, span_of(CASES[i][0]));
        assert_true(span_is(buf_span(&b), CASES[i][1]));
    }
}

static void test_hashes_are_the_same_in_every_process(void **state)
{
    (void)state;
    assert_true(sim_hash(SPAN_LIT("")) == 0xcbf29ce484222325u);
    assert_true(sim_hash(SPAN_LIT("a")) == 0xaf63dc4c8601ec8cu);
    assert_true(sim_mix(0, 0) == 0xe220a8397b1dcdafu); /* SplitMix64's first output for seed 0 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_make_tokens_in_fours_rounded_up),
        cmocka_unit_test(test_escapes_count_as_the_bytes_they_stand_for),
        cmocka_unit_test(test_a_text_is_the_same_whole_and_in_pieces),
        cmocka_unit_test(test_words_count_themselves),
        cmocka_unit_test(test_choices_and_seeds_have_texts_of_their_own),
        cmocka_unit_test(test_the_object_text_is_one_json_object),
        cmocka_unit_test(test_base64_matches_the_rfc),
        cmocka_unit_test(test_hashes_are_the_same_in_every_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
