/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/cm.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "aigwtop/source/source.h"

#define DAY SOURCE_DIR "/tests/golden/aigwtop/day.ndjson"

static char *text_of(const struct sample *s)
{
    json_t *o = sample_json(s);
    char *z = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);

    json_decref(o);
    assert_non_null(z);
    return z;
}

static void test_a_sample_survives_being_recorded(void **state)
{
    struct err err = {0};
    struct source s = source_replay(DAY, &err);
    struct ask ask = {0};
    struct sample *first = sample_new(), *again;
    char *a, *b;
    json_t *o;

    (void)state;
    assert_non_null(s.ops);
    assert_int_equal(s.ops->read(s.self, &ask, first, &err), ERR_OK);
    assert_int_equal(first->rows.n, 12);
    assert_int_equal(first->budgets.n, 9);
    assert_true(first->rows.v[0].slices.n == 61 && first->rows.v[0].slices.v[0].parts.n == 3);
    a = text_of(first);
    o = json_loads(a, 0, NULL);
    again = sample_of_json(o, &err);
    assert_non_null(again);
    b = text_of(again);
    assert_string_equal(a, b);
    assert_int_equal(s.ops->read(s.self, &ask, first, &err), ERR_NOT_FOUND); /* it is over */
    json_decref(o);
    free(a);
    free(b);
    sample_free(first);
    sample_free(again);
    source_free(&s);
}

static void test_a_recording_that_is_none_is_refused(void **state)
{
    static const char *const WRONG[] = {"", "[]\n", "{}\n", "{\"state\":99}\n", "not json\n"};
    char path[] = "/tmp/aigwtop-test-XXXXXX";
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    for (size_t i = 0; i < ARRAY_LEN(WRONG); i++) {
        struct err err = {0};
        FILE *f = fopen(path, "we");

        assert_non_null(f);
        (void)fputs(WRONG[i], f);
        (void)fclose(f);
        assert_null(source_replay(path, &err).ops);
        assert_true(err.text[0]);
    }
    (void)close(fd);
    (void)unlink(path);
    assert_null(source_replay("/nonexistent/recording", &(struct err){0}).ops);
}

static void test_text_that_is_cut_ends_with_a_whole_character(void **state)
{
    json_t *o = json_pack("{s:s}", "name", "ab\xc3\xa9\xe2\x82\xac");
    char dst[8];

    (void)state;
    json_take_text(o, "name", dst, 4); /* within the é */
    assert_string_equal(dst, "ab");
    json_take_text(o, "name", dst, 5);
    assert_string_equal(dst, "ab\xc3\xa9");
    json_take_text(o, "name", dst, 7); /* within the € */
    assert_string_equal(dst, "ab\xc3\xa9");
    json_take_text(o, "name", dst, 8);
    assert_string_equal(dst, "ab\xc3\xa9\xe2\x82\xac");
    json_take_text(o, "none", dst, 8);
    assert_string_equal(dst, "");
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_sample_survives_being_recorded),
        cmocka_unit_test(test_a_recording_that_is_none_is_refused),
        cmocka_unit_test(test_text_that_is_cut_ends_with_a_whole_character),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
