/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/resilience/load.h"

#include <pthread.h>
#include <stdio.h>

#include "gatewayd/config/limits.h"
#include "tests/unit/cm.h"

static const struct mono T0 = {1000000000};

static struct mono after_s(int64_t s)
{
    return mono_add_us(T0, s * 1000000);
}

static struct load *shared;
static void *begin_and_end(void *unused)
{
    (void)unused;
    for (int i = 0; i < 20000; i++) {
        load_begin(shared, T0);
        load_end(shared);
    }
    load_begin(shared, T0);
    return NULL;
}

static void test_attempts_in_flight_are_counted_over_threads(void **state)
{
    struct loads *t = loads_new();
    pthread_t threads[4];

    (void)state;
    shared = load_of(t, intern_z("p"), intern_z("m"));
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, begin_and_end, NULL), 0);
    for (int i = 0; i < 4; i++)
        (void)pthread_join(threads[i], NULL);
    assert_int_equal(load_look(shared, false, T0).in_flight, 4);
    assert_ptr_equal(load_of(t, intern_z("p"), intern_z("m")), shared);
    assert_ptr_not_equal(load_of(t, intern_z("p"), intern_z("n")), shared);
    loads_free(t);
}

static void test_a_latency_follows_and_grows_old(void **state)
{
    struct loads *t = loads_new();
    struct load *l = load_of(t, intern_z("p"), intern_z("m"));

    (void)state;
    assert_int_equal(load_look(l, false, T0).latency_us, -1);
    load_note(l, false, 800, T0);
    assert_int_equal(load_look(l, false, T0).latency_us, 800);
    load_note(l, false, 1600, T0);
    assert_int_equal(load_look(l, false, T0).latency_us, 900);
    for (int i = 0; i < 100; i++)
        load_note(l, false, 8, T0);
    assert_true(load_look(l, false, T0).latency_us < 30);
    assert_int_equal(load_look(l, false, after_s(301)).latency_us, -1);
    load_note(l, false, 5000, after_s(302));
    assert_int_equal(load_look(l, false, after_s(302)).latency_us, 5000);
    loads_free(t);
}

static void test_streams_and_other_answers_are_told_apart_where_both_are_known(void **state)
{
    struct loads *t = loads_new();
    struct load *l = load_of(t, intern_z("p"), intern_z("m"));

    (void)state;
    load_note(l, true, 100, T0);
    assert_int_equal(load_look(l, false, T0).latency_us, 100);
    load_note(l, false, 4000, T0);
    assert_int_equal(load_look(l, false, T0).latency_us, 4000);
    assert_int_equal(load_look(l, true, T0).latency_us, 100);
    loads_free(t);
}

static void test_who_was_tried_is_remembered_for_a_while(void **state)
{
    struct loads *t = loads_new();
    struct load *l = load_of(t, intern_z("p"), intern_z("m"));

    (void)state;
    assert_false(load_look(l, false, T0).was_tried);
    load_begin(l, T0);
    load_end(l);
    assert_true(load_look(l, false, after_s(9)).was_tried);
    assert_false(load_look(l, false, after_s(11)).was_tried);
    loads_free(t);
}

static void test_a_full_table_counts_nothing_and_breaks_nothing(void **state)
{
    struct loads *t = loads_new();
    struct load *l = NULL;
    char name[24];

    (void)state;
    for (unsigned i = 0; i <= LIMIT_BREAKERS; i++) {
        (void)snprintf(name, sizeof(name), "m%u", i);
        l = load_of(t, intern_z("p"), intern_z(name));
    }
    assert_null(l);
    load_begin(l, T0);
    load_note(l, true, 1, T0);
    load_end(l);
    assert_int_equal(load_look(l, true, T0).latency_us, -1);
    loads_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attempts_in_flight_are_counted_over_threads),
        cmocka_unit_test(test_a_latency_follows_and_grows_old),
        cmocka_unit_test(test_streams_and_other_answers_are_told_apart_where_both_are_known),
        cmocka_unit_test(test_who_was_tried_is_remembered_for_a_while),
        cmocka_unit_test(test_a_full_table_counts_nothing_and_breaks_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
