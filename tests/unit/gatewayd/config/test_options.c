/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/config/options.h"

#include <stdlib.h>
#include <string.h>

#include "gatewayd/provider/provider.h"
#include "tests/unit/cm.h"
#include "tests/unit/gatewayd/config/load.h"

static void test_every_row_is_complete(void **state)
{
    (void)state;
    for (size_t i = 0; i < OPTIONS_LEN; i++) {
        const struct option_row *r = &OPTIONS[i];

        assert_true(strlen(r->path) < OPTION_PATH_CAP / 2);
        assert_non_null(r->text);
        assert_ptr_equal(option_find(r->path), r);
        assert_int_equal(!r->env, !option_is_root(r));
        assert_true(!r->env || strncmp(r->env, "GATEWAYD_", 9) == 0);
        assert_int_equal(r->type == OPT_CHOICE || r->type == OPT_ENUM || r->type == OPT_DSN,
                         r->choices != NULL);
        if (r->type == OPT_COUNT || r->type == OPT_SIZE || r->type == OPT_DURATION)
            assert_true(r->max > 0 && (r->width == 8 || (r->width == 4 && r->max <= UINT32_MAX)));
        assert_null(strchr(r->text, '|'));
        assert_true(!r->fallback || !r->shown);
    }
}

static void test_no_two_rows_share_a_variable(void **state)
{
    (void)state;
    for (size_t i = 0; i < OPTIONS_LEN; i++)
        for (size_t k = 0; k < i; k++) {
            assert_true(!OPTIONS[i].env || !OPTIONS[k].env || strcmp(OPTIONS[i].env, OPTIONS[k].env) != 0);
            assert_true(!OPTIONS[i].alias || !OPTIONS[k].alias ||
                        strcmp(OPTIONS[i].alias, OPTIONS[k].alias) != 0);
        }
}

static void test_kinds_are_those_of_the_dialects(void **state)
{
    struct span rest = span_of(option_find("providers[].kind")->choices);
    size_t n = 0, m = 0;

    (void)state;
    while (rest.p) {
        struct span kind = span_split(&rest, ' ');
        char name[64];

        (void)span_copy(name, sizeof(name), kind);
        if (kind.len) {
            assert_non_null(provider_ops_find(name));
            n++;
        }
    }
    while (provider_kinds()[m])
        m++;
    assert_int_equal(n, m);
}

static void test_hints_are_close_or_not_given(void **state)
{
    char dst[OPTION_PATH_CAP];

    (void)state;
    assert_string_equal(option_suggest("", SPAN_LIT("provider"), dst), "providers");
    assert_string_equal(option_suggest("http.", SPAN_LIT("maxbody"), dst), "max_body");
    assert_string_equal(option_suggest("", SPAN_LIT("wrokers"), dst), "workers");
    assert_string_equal(option_suggest("models[].", SPAN_LIT("target"), dst), "targets");
    assert_null(option_suggest("http.", SPAN_LIT("listen"), dst));
    assert_null(option_suggest("", SPAN_LIT("x"), dst));
    assert_int_equal(edit_distance(SPAN_LIT("abcd"), SPAN_LIT("abdc")), 1);
    assert_int_equal(edit_distance(SPAN_LIT(""), SPAN_LIT("abc")), 3);
    assert_int_equal(edit_distance(SPAN_LIT("kitten"), SPAN_LIT("sitting")), 3);
}

static char *read_document(size_t *len)
{
    FILE *f = fopen(SOURCE_DIR "/docs/configuration.md", "r");
    char *text = calloc(1, 1 << 20);

    assert_non_null(f);
    assert_non_null(text);
    *len = fread(text, 1, (1 << 20) - 1, f);
    (void)fclose(f);
    return text;
}

static void test_the_committed_document_holds_the_current_tables(void **state)
{
    static const char BEGIN[] = "<!-- begin: generated from gatewayd/config/options.def -->\n";
    static const char END[] = "<!-- end -->\n";
    struct buf out AUTO(buf_release) = {0};
    size_t len;
    char *text = read_document(&len), *begin = strstr(text, BEGIN), *end;

    (void)state;
    assert_non_null(begin);
    begin += sizeof(BEGIN) - 1;
    end = strstr(begin, END);
    assert_non_null(end);
    *end = '\0';
    config_document(&out);
    if (strcmp(begin, out.p) != 0)
        fail_msg("%s", "docs/configuration.md is older than the table of options: run ./dev gen");
    free(text);
}

/* The first YAML block of the document, which its reader may copy. */
static void test_the_example_of_the_document_loads(void **state)
{
    size_t len;
    char *text = read_document(&len), *begin = strstr(text, "```yaml\n"), *end;
    struct config *c;

    (void)state;
    assert_non_null(begin);
    begin += 8;
    end = strstr(begin, "```\n");
    assert_non_null(end);
    *end = '\0';
    (void)setenv("GATEWAYD_TOKEN", "0f3b8c1d9e7a4b52a6", 1);
    (void)setenv("OPENAI_API_KEY", "sk-a", 1);
    (void)setenv("ANTHROPIC_API_KEY", "sk-b", 1);
    c = load_ok(begin);
    config_unref(c);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row_is_complete),
        cmocka_unit_test(test_no_two_rows_share_a_variable),
        cmocka_unit_test(test_kinds_are_those_of_the_dialects),
        cmocka_unit_test(test_hints_are_close_or_not_given),
        cmocka_unit_test(test_the_committed_document_holds_the_current_tables),
        cmocka_unit_test(test_the_example_of_the_document_loads),
    };

    return cmocka_run_group_tests(tests, enter_dir, leave_dir);
}
