/* SPDX-License-Identifier: Apache-2.0 */
/* Every way to get a configuration wrong, and where the message points. */
#include <string.h>

#include "tests/unit/cm.h"
#include "tests/unit/gatewayd/config/load.h"

#define P       "providers: [{name: p, kind: openai, base_url: 'http://127.0.0.1:1/v1'}]\n"
#define T(text) "tenants: [{id: t, " text "}]\n"
#define SHA     "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

static const struct {
    const char *text, *message;
} BAD[] = {
#include "tests/unit/gatewayd/config/bad.def"
};

static void test_each_bad_configuration_is_refused_with_its_place(void **state)
{
    unsigned wrong = 0;

    (void)state;
    (void)setenv("CANARY", "sk-canary-3f9c2e17", 1);
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        struct err err;
        struct config *c = load_text(BAD[i].text, &err);

        if (c || strcmp(err.text, BAD[i].message) != 0) {
            print_error("--- %s--- %s\n", BAD[i].text, c ? "accepted" : err.text);
            wrong++;
        }
        if (!c)
            assert_null(strstr(err.text, "canary"));
        config_unref(c);
    }
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_bad_configuration_is_refused_with_its_place),
    };

    return cmocka_run_group_tests(tests, enter_dir, leave_dir);
}
