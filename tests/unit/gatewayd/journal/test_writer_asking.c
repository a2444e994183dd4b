/* SPDX-License-Identifier: Apache-2.0 */
/* What a writer makes of a store that says something else than before. */
#include "tests/unit/gatewayd/journal/writer_scene.h"

static void test_a_store_that_is_emptied_while_idle_gets_them_too(void **state)
{
    struct writer *w = writer_of(2, false);

    (void)state;
    run(w, 2);
    settle_many(0, 0, 100);
    run(w, 10);
    memset(&store.mark, 0, sizeof(store.mark));
    memset(store.times, 0, sizeof(store.times));
    run(w, 10);
    assert_once(0, 100);
    assert_true(is_committed(w));
    writer_free(w);
}

static void test_an_idle_store_that_does_not_answer_is_not_behind(void **state)
{
    struct writer *w = writer_of(2, false);

    (void)state;
    settle_many(0, 0, 100);
    run(w, 3);
    store.is_deaf = true;
    run(w, 20);
    assert_true(stats_of(w).is_down);
    assert_int_equal(stats_of(w).lag_us, 0);
    assert_true(is_committed(w));
    store.is_deaf = false;
    settle_many(0, 100, 100);
    run(w, 5);
    assert_once(0, 200);
    writer_free(w);
}

/* As when its state directory was copied and both run. */
static void test_another_gateway_under_our_name_makes_us_skip_nothing(void **state)
{
    struct writer *w = writer_of(2, false);
    struct watermark ours;

    (void)state;
    run(w, 2);
    settle_many(0, 0, 50);
    run(w, 3);
    ours = store.mark;
    store.mark.batch++;
    store.mark.token = 77;
    store.mark.at[0] += (uint64_t)1 << 40; /* it was started later */
    settle_many(0, 50, 50);
    run(w, 20);
    assert_true(stats_of(w).is_down);
    assert_non_null(strstr(stats_of(w).error, "another gateway"));
    assert_true(stats_of(w).lag_us > 10 * SECOND_US);
    store.mark = ours;
    run(w, 5);
    assert_false(stats_of(w).is_down);
    assert_once(0, 100);
    writer_free(w);
}

/* It may have been there first, so that nothing of ours was ever taken. */
static void test_nor_when_the_store_took_nothing_of_ours(void **state)
{
    struct writer *w = writer_of(2, false);

    (void)state;
    run(w, 2);
    store.mark =
        (struct watermark){.batch = 5, .token = 77, .n = 2, .at = {UINT64_MAX >> 4, UINT64_MAX >> 4}};
    settle_many(0, 0, 50);
    run(w, 20);
    assert_true(stats_of(w).is_down);
    memset(&store.mark, 0, sizeof(store.mark));
    run(w, 5);
    assert_once(0, 50);
    writer_free(w);
}

/* A disk lost the journals, and the clock stepped back. */
static void test_a_store_that_is_beyond_us_from_the_start_is_taken_at_its_word(void **state)
{
    struct writer *w = writer_of(2, false);

    (void)state;
    store.mark =
        (struct watermark){.batch = 5, .token = 77, .n = 2, .at = {UINT64_MAX >> 4, UINT64_MAX >> 4}};
    run(w, 20);
    assert_false(stats_of(w).is_down);
    settle_many(0, 0, 50);
    run(w, 20);
    assert_false(stats_of(w).is_down);
    assert_once(0, 50);
    writer_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(test_a_store_that_is_emptied_while_idle_gets_them_too),
        T(test_an_idle_store_that_does_not_answer_is_not_behind),
        T(test_another_gateway_under_our_name_makes_us_skip_nothing),
        T(test_nor_when_the_store_took_nothing_of_ours),
        T(test_a_store_that_is_beyond_us_from_the_start_is_taken_at_its_word),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
