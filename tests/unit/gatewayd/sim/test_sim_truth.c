/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/sim/sim_truth.h"

#include <stdio.h>

#include "libshared/json/json.h"
#include "tests/unit/cm.h"

static uint64_t one(struct sim_truth *t, const char *profile, const char *key, unsigned output)
{
    struct sim_record *r = sim_truth_open(t);
    uint64_t seq = r->seq;

    r->profile = sim_truth_name(t, span_of(profile));
    r->key = sim_truth_name(t, span_of(key));
    r->model = sim_truth_name(t, SPAN_LIT("m"));
    r->operation = "chat";
    r->bill.output = output;
    r->end = SIM_END_ANSWERED;
    sim_truth_close(t, r);
    return seq;
}

static uint64_t member(struct span doc, const char *name)
{
    uint64_t v = UINT64_MAX;

    assert_true(json_u64(json_get(doc, name), &v));
    return v;
}

static void test_sums_are_kept_for_every_key_however_many(void **state)
{
    struct sim_truth *t = sim_truth_new(NULL, NULL);
    struct buf doc AUTO(buf_release) = {0};
    struct json_walk w;
    struct json_member m;
    unsigned rows = 0;
    char key[16];

    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        (void)snprintf(key, sizeof(key), "k%u", i % 1000);
        assert_int_equal(one(t, i % 2 ? "a" : "b", key, 2), i + 1);
    }
    buf_addc(&doc, '{');
    sim_truth_sums(t, &doc);
    buf_addc(&doc, '}');
    assert_int_equal(member(buf_span(&doc), "posts"), 3000);
    assert_int_equal(member(buf_span(&doc), "open"), 0);
    assert_true(json_walk(&w, json_get(buf_span(&doc), "rows").raw));
    while (json_next(&w, &m)) {
        rows++;
        assert_int_equal(member(m.value.raw, "posts"), 3);
        assert_int_equal(member(m.value.raw, "output"), 6);
    }
    assert_int_equal(rows, 1000);
    sim_truth_free(t);
}

static void test_the_newest_records_are_kept_and_the_oldest_forgotten(void **state)
{
    const uint64_t kept = (uint64_t)SIM_RECORDS_PER_BLOCK * SIM_RECORD_BLOCKS;
    struct sim_truth *t = sim_truth_new(NULL, NULL);
    struct buf lines AUTO(buf_release) = {0};

    (void)state;
    for (uint64_t i = 0; i < kept + 5; i++)
        (void)one(t, "a", "k", 1);
    assert_null(sim_truth_at(t, 1, 0));
    assert_null(sim_truth_at(t, 5, 0));
    assert_non_null(sim_truth_at(t, 6, 0));
    assert_non_null(sim_truth_at(t, kept + 5, 0));
    assert_null(sim_truth_at(t, kept + 6, 0));
    sim_truth_lines(t, kept + 3, 100, &lines);
    assert_int_equal(member(buf_span(&lines), "seq"), kept + 4);
    sim_truth_free(t);
}

static void test_a_record_of_before_a_reset_is_not_found_after_it(void **state)
{
    struct sim_truth *t = sim_truth_new(NULL, NULL);
    uint64_t epoch = sim_truth_epoch(t);
    uint64_t seq = sim_truth_open(t)->seq;

    (void)state;
    assert_non_null(sim_truth_at(t, seq, epoch));
    sim_truth_reset(t);
    assert_int_equal(one(t, "a", "k", 1), 1);
    assert_null(sim_truth_at(t, seq, epoch));
    assert_non_null(sim_truth_at(t, seq, sim_truth_epoch(t)));
    sim_truth_free(t);
}

static void test_bodies_are_kept_within_their_bytes_and_found_by_seq(void **state)
{
    struct sim_truth *t = sim_truth_new(NULL, NULL);
    struct span head, body;

    (void)state;
    sim_truth_add_body(t, 1, SPAN_LIT("h"), SPAN_LIT("not asked for"));
    assert_false(sim_truth_body(t, 1, &head, &body));
    sim_truth_keep_bodies(t, true, 100);
    for (uint64_t seq = 2; seq < 50; seq += 2)
        sim_truth_add_body(t, seq, SPAN_LIT("head"), SPAN_LIT("a\0b cd"));
    assert_true(sim_truth_body(t, 48, &head, &body));
    assert_true(span_is(head, "head") && span_eq(body, SPAN_LIT("a\0b cd")));
    assert_true(sim_truth_body(t, 30, &head, &body)); /* ten of ten bytes */
    assert_false(sim_truth_body(t, 28, &head, &body));
    assert_false(sim_truth_body(t, 47, &head, &body));
    sim_truth_keep_bodies(t, false, 0);
    assert_false(sim_truth_body(t, 48, &head, &body));
    sim_truth_free(t);
}

static void test_a_log_that_cannot_be_opened_is_an_error(void **state)
{
    struct err err = {0};

    (void)state;
    assert_null(sim_truth_new("/nonexistent/truth.jsonl", &err));
    assert_int_equal(err.code, ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums_are_kept_for_every_key_however_many),
        cmocka_unit_test(test_the_newest_records_are_kept_and_the_oldest_forgotten),
        cmocka_unit_test(test_a_record_of_before_a_reset_is_not_found_after_it),
        cmocka_unit_test(test_bodies_are_kept_within_their_bytes_and_found_by_seq),
        cmocka_unit_test(test_a_log_that_cannot_be_opened_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
