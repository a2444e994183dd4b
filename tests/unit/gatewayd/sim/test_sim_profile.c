/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/sim/sim_profile.h"

#include <jansson.h>
#include <stdio.h>

#include "tests/unit/cm.h"

static enum err_code set(struct sim_profile *p, const char *text, bool is_patch)
{
    json_t *doc = json_loads(text, 0, NULL);
    struct err err = {0};
    enum err_code e;

    assert_non_null(doc);
    e = sim_profile_set(p, doc, is_patch, &err);
    json_decref(doc);
    return e;
}

static void test_names_are_checked_and_profiles_made_once(void **state)
{
    struct sim_profiles *ps = sim_profiles_new();

    (void)state;
    assert_non_null(sim_profiles_get(ps, SPAN_LIT("a-1")));
    assert_ptr_equal(sim_profiles_get(ps, SPAN_LIT("a-1")), sim_profiles_get(ps, SPAN_LIT("a-1")));
    assert_null(sim_profiles_get(ps, SPAN_LIT("")));
    assert_null(sim_profiles_get(ps, SPAN_LIT("A")));
    assert_null(sim_profiles_get(ps, SPAN_LIT("a_b")));
    assert_null(sim_profiles_get(ps, SPAN_LIT("123456789012345678901234567890123")));
    assert_non_null(sim_profiles_get(ps, SPAN_LIT("12345678901234567890123456789012")));
    sim_profiles_free(ps);
}

static void test_profiles_end_at_their_maximum(void **state)
{
    struct sim_profiles *ps = sim_profiles_new();
    char name[16];

    (void)state;
    for (unsigned i = 0; i < SIM_PROFILES_MAX; i++) {
        (void)snprintf(name, sizeof(name), "p%u", i);
        assert_non_null(sim_profiles_get(ps, span_of(name)));
    }
    assert_null(sim_profiles_get(ps, SPAN_LIT("one-more")));
    assert_non_null(sim_profiles_get(ps, SPAN_LIT("p7")));
    sim_profiles_free(ps);
}

#define FAULTY "{\"latency_ms\":5,\"jitter_ms\":20,\"faults\":{\"429\":0.3,\"cut_mid\":0.3}}"

static void test_draws_depend_on_seed_name_and_number_alone(void **state)
{
    struct sim_profiles *one = sim_profiles_new(), *two = sim_profiles_new();
    struct sim_profile *a = sim_profiles_get(one, SPAN_LIT("a")), *b;
    unsigned differ = 0;

    (void)state;
    (void)sim_profiles_get(two, SPAN_LIT("z"));
    b = sim_profiles_get(two, SPAN_LIT("a"));
    assert_int_equal(set(a, FAULTY, false), 0);
    assert_int_equal(set(b, FAULTY, false), 0);
    for (unsigned i = 0; i < 1000; i++) {
        struct sim_draw x = sim_profile_draw(a, 7, true), y;

        if (i % 3 == 0)
            (void)sim_profile_draw(b, 7, false); /* GETs have a counter of their own */
        y = sim_profile_draw(b, 7, true);
        assert_int_equal(x.number, i);
        assert_int_equal(x.fault, y.fault);
        assert_int_equal(x.delay_us, y.delay_us);
        assert_true(x.delay_us >= 5000 && x.delay_us < 25000);
    }
    sim_profile_reset(a);
    assert_int_equal(set(a, "{\"faults\":{\"429\":0.5}}", false), 0);
    sim_profile_reset(b);
    assert_int_equal(set(b, "{\"faults\":{\"429\":0.5}}", false), 0);
    for (unsigned i = 0; i < 1000; i++)
        differ += sim_profile_draw(a, 7, true).fault != sim_profile_draw(b, 8, true).fault;
    assert_true(differ > 300);
    sim_profiles_free(one);
    sim_profiles_free(two);
}

static void test_faults_come_as_often_as_told(void **state)
{
    struct sim_profiles *ps = sim_profiles_new();
    struct sim_profile *p = sim_profiles_get(ps, SPAN_LIT("p"));
    unsigned n[SIM_FAULT_COUNT] = {0};

    (void)state;
    assert_int_equal(set(p, "{\"faults\":{\"429\":0.1,\"500\":0.2,\"slow_head\":0.05}}", false), 0);
    for (unsigned i = 0; i < 100000; i++)
        n[sim_profile_draw(p, 1, true).fault]++;
    assert_in_range(n[SIM_FAULT_429], 9600, 10400);
    assert_in_range(n[SIM_FAULT_500], 19400, 20600);
    assert_in_range(n[SIM_FAULT_SLOW_HEAD], 4700, 5300);
    assert_int_equal(n[SIM_FAULT_NONE] + n[SIM_FAULT_429] + n[SIM_FAULT_500] + n[SIM_FAULT_SLOW_HEAD],
                     100000);
    sim_profiles_free(ps);
}

static void test_a_script_goes_first_and_only_for_posts(void **state)
{
    struct sim_profiles *ps = sim_profiles_new();
    struct sim_profile *p = sim_profiles_get(ps, SPAN_LIT("p"));

    (void)state;
    assert_int_equal(set(p, "{\"script\":[\"429\",\"ok\",\"reset\"],\"faults\":{\"500\":1}}", false), 0);
    assert_int_equal(sim_profile_draw(p, 1, false).fault, SIM_FAULT_500);
    assert_int_equal(sim_profile_draw(p, 1, true).fault, SIM_FAULT_429);
    assert_int_equal(sim_profile_draw(p, 1, true).fault, SIM_FAULT_NONE);
    assert_int_equal(sim_profile_draw(p, 1, true).fault, SIM_FAULT_RESET);
    assert_int_equal(sim_profile_draw(p, 1, true).fault, SIM_FAULT_500);
    sim_profiles_free(ps);
}

static void test_put_replaces_patch_keeps_and_refusals_change_nothing(void **state)
{
    struct sim_profiles *ps = sim_profiles_new();
    struct sim_profile *p = sim_profiles_get(ps, SPAN_LIT("p"));

    (void)state;
    assert_int_equal(set(p, "{\"latency_ms\":5,\"require_key\":\"k\",\"output_tokens\":[2,9]}", false),
                     ERR_OK);
    assert_int_equal(set(p, "{\"jitter_ms\":1,\"script\":[\"429\"]}", true), ERR_OK);
    assert_true(p->b.latency_ms == 5 && p->b.jitter_ms == 1 && p->b.output_min == 2 && p->b.output_max == 9);
    assert_string_equal(p->b.require_key, "k");
    assert_int_equal(set(p, "{\"latency_ms\":7,\"script\":[\"no such\"]}", true), ERR_BAD_BODY);
    assert_int_equal(set(p, "{\"latency_ms\":7,\"nonsense\":1}", false), ERR_BAD_BODY);
    assert_int_equal(set(p, "[]", false), ERR_BAD_BODY);
    assert_int_equal(set(p, "{\"sse_crlf\":1}", true), ERR_BAD_BODY);
    assert_int_equal(set(p, "{\"models\":[1]}", true), ERR_BAD_BODY);
    assert_true(p->b.latency_ms == 5 && p->script_len == 1);
    assert_int_equal(set(p, "{\"output_tokens\":3}", false), ERR_OK);
    assert_true(p->b.latency_ms == 0 && p->b.output_min == 3 && p->script_len == 0);
    assert_null(p->b.require_key);
    sim_profiles_free(ps);
}

static void test_what_is_shown_can_be_put_back(void **state)
{
    struct sim_profiles *ps = sim_profiles_new();
    struct sim_profile *p = sim_profiles_get(ps, SPAN_LIT("sim-flaky"));
    json_t *shown = sim_profile_json(p);
    json_t *again;

    (void)state;
    for (const char *const *name = (const char *const[]){"name", "posts", "gets", NULL}; *name; name++)
        (void)json_object_del(shown, *name);
    p = sim_profiles_get(ps, SPAN_LIT("other"));
    assert_int_equal(sim_profile_set(p, shown, false, NULL), ERR_OK);
    again = sim_profile_json(p);
    for (const char *const *name = (const char *const[]){"name", "posts", "gets", NULL}; *name; name++)
        (void)json_object_del(again, *name);
    assert_true(json_equal(shown, again));
    json_decref(shown);
    json_decref(again);
    sim_profiles_free(ps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_checked_and_profiles_made_once),
        cmocka_unit_test(test_profiles_end_at_their_maximum),
        cmocka_unit_test(test_draws_depend_on_seed_name_and_number_alone),
        cmocka_unit_test(test_faults_come_as_often_as_told),
        cmocka_unit_test(test_a_script_goes_first_and_only_for_posts),
        cmocka_unit_test(test_put_replaces_patch_keeps_and_refusals_change_nothing),
        cmocka_unit_test(test_what_is_shown_can_be_put_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
