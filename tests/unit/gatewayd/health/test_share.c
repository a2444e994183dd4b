/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/health/share.h"

#include <math.h>
#include <stdio.h>

#include "libshared/store/kv_keys.h"
#include "tests/unit/cm.h"

static const struct wall NOW = {1000000000000};
static struct kv *store;

static int setup(void **state)
{
    (void)state;
    store = kv_new(&(struct kv_options){.url = ""}, NULL);
    return store ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    kv_free(store);
    return 0;
}

static struct health_record record(const char *provider, unsigned attempts, unsigned errors)
{
    struct health_record r = {.provider = intern_z(provider),
                              .attempts = attempts,
                              .errors = errors,
                              .until = {NOW.us + 90000000},
                              .last_attempt = {NOW.us - 5}};

    for (unsigned i = 1; i <= attempts; i++)
        assert_int_equal(sketch_add(&r.sketch, (int64_t)i * 10000), ERR_OK);
    return r;
}

static void say(const char *node, const struct health_record *r)
{
    struct err err = {0};

    if (health_share_tell(store, node, r, 1, NULL, &err))
        fail_msg("%s", err_text(&err));
}

static unsigned heard_by(const char *node, struct wall now, struct health_record *out)
{
    unsigned nodes = 0;
    struct err err = {0};

    if (health_share_hear(store, node, now, out, &nodes, 1, &err))
        fail_msg("%s", err_text(&err));
    return nodes;
}

static void test_every_node_adds_up_the_same(void **state)
{
    static const char *const NODES[] = {"n1", "n2", "n3"};
    struct health_record own[3] = {record("p", 100, 10), record("p", 50, 0), record("p", 0, 0)};
    double p95[3];

    (void)state;
    own[2].probed = (struct health_probed){.at = {NOW.us - 1}, .is_ok = true, .us = 7, .text = "HTTP 200"};
    for (unsigned i = 0; i < 3; i++)
        say(NODES[i], &own[i]);
    for (unsigned i = 0; i < 3; i++) {
        struct health_record sum = {.provider = intern_z("p")};

        assert_int_equal(heard_by(NODES[i], NOW, &sum), 2 - (i < 2)); /* the third saw no attempt */
        assert_int_equal(health_record_add(&sum, &own[i]), ERR_OK);
        assert_int_equal(sum.attempts, 150);
        assert_int_equal(sum.errors, 10);
        assert_int_equal(sum.sketch.count, 150);
        assert_true(sum.probed.is_ok && sum.probed.us == 7);
        assert_string_equal(sum.probed.text, "HTTP 200");
        p95[i] = sketch_quantile_us(&sum.sketch, 0.95);
        health_record_release(&sum);
    }
    assert_true(p95[0] == p95[1] && p95[1] == p95[2] && fabs(p95[0] - 930000) <= 9300);
    for (unsigned i = 0; i < 3; i++)
        health_record_release(&own[i]);
}

static void test_attempts_of_a_node_that_is_gone_end_and_its_record_later(void **state)
{
    struct health_record r = record("p", 10, 1), sum = {.provider = intern_z("p")};

    (void)state;
    r.probed = (struct health_probed){.at = {NOW.us}, .is_ok = true};
    say("n1", &r);
    assert_int_equal(heard_by("n2", (struct wall){NOW.us + 91000000}, &sum), 0);
    assert_int_equal(sum.attempts, 0);
    assert_int_equal(sum.probed.at.us, NOW.us);
    sum = (struct health_record){.provider = intern_z("p")};
    assert_int_equal(heard_by("n2", (struct wall){NOW.us + (int64_t)7200 * 1000000}, &sum), 0);
    assert_int_equal(sum.probed.at.us, 0);
    assert_int_equal(heard_by("n2", NOW, &sum), 0); /* it was removed */
    assert_int_equal(sum.probed.at.us, 0);
    health_record_release(&r);
    health_record_release(&sum);
}

static void test_what_makes_no_sense_is_left_out_and_removed(void **state)
{
    static const char *const BAD[] = {
        "",
        "no document",
        "[]",
        "{}",
        "{\"attempts\":1,\"errors\":2,\"until\":1000000000000,\"sketch\":\"\"}",
        "{\"attempts\":-1,\"errors\":-2,\"until\":1000000000000,\"sketch\":\"00\"}",
        "{\"attempts\":1,\"errors\":0,\"until\":9000000000000000,\"sketch\":\"ff\"}"};
    struct kv_batch *b = kv_batch_new();
    struct health_record sum = {.provider = intern_z("p")};
    struct err err = {0};
    char field[32];

    (void)state;
    for (unsigned i = 0; i < sizeof(BAD) / sizeof(BAD[0]); i++) {
        (void)snprintf(field, sizeof(field), "bad%u p", i);
        kv_batch_set(b, KV_HEALTH, field, span_of(BAD[i]));
    }
    kv_batch_set(b, KV_HEALTH, "p", SPAN_LIT("a score, which is no record"));
    kv_batch_expire(b, KV_HEALTH, 100, false);
    assert_int_equal(kv_write(store, b, &err), ERR_OK);
    kv_batch_free(b);
    assert_int_equal(heard_by("n1", NOW, &sum), 0);
    assert_int_equal(sum.attempts, 0);
    health_record_release(&sum);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_node_adds_up_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(test_attempts_of_a_node_that_is_gone_end_and_its_record_later, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_what_makes_no_sense_is_left_out_and_removed, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
