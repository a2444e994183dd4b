/* SPDX-License-Identifier: Apache-2.0 */
/* The detector on histories made by hand and, for properties, by chance from a fixed seed. */
#include "libshared/analytics/anomaly.h"

#include <math.h>
#include <string.h>

#include "tests/unit/cm.h"

#define N 700u

static uint64_t seed = 7;
static double draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (double)(seed >> 11) / 9007199254740992.0;
}

static struct anomaly_hour hours[N];
static struct anomaly found[4096];
static size_t n_found;

static void keep(void *user, const struct anomaly *a)
{
    (void)user;
    if (n_found < 4096)
        found[n_found++] = *a;
}

static void find(size_t n, double running)
{
    struct anomaly_input in = {.hours = hours, .n = n, .running = running};

    n_found = 0;
    anomalies_find(&in, keep, NULL);
}

static struct anomaly_hour usual(void)
{
    return (struct anomaly_hour){.is_known = true,
                                 .v = {[FIGURE_COST] = 12.5,
                                       [FIGURE_TOKENS] = 750000,
                                       [FIGURE_LATENCY] = 500,
                                       [FIGURE_ERRORS] = 0.01,
                                       [FIGURE_TRAFFIC] = 1000}};
}

static void all_usual(size_t n)
{
    memset(hours, 0, sizeof(hours));
    for (size_t i = 0; i < n; i++)
        hours[i] = usual();
}

static const struct anomaly *one(enum anomaly_kind kind)
{
    const struct anomaly *a = NULL;

    for (size_t i = 0; i < n_found; i++)
        if (found[i].kind == kind) {
            assert_null(a);
            a = &found[i];
        }
    return a;
}

static void test_four_times_the_cost_is_a_warning_and_five_times_is_critical(void **state)
{
    (void)state;
    all_usual(48);
    hours[47].v[FIGURE_COST] = 50;
    find(48, 1);
    assert_int_equal(n_found, 1);
    assert_int_equal(found[0].kind, ANOMALY_COST_SPIKE);
    assert_int_equal(found[0].at, 47);
    assert_float_equal(found[0].value, 50, 1e-9);
    assert_float_equal(found[0].expected, 12.5, 1e-9);
    assert_float_equal(found[0].ratio, 4, 1e-9);
    assert_false(found[0].is_critical);
    hours[47].v[FIGURE_COST] = 62.5;
    find(48, 1);
    assert_true(found[0].is_critical);
}

static void test_a_history_that_is_too_short_says_nothing(void **state)
{
    (void)state;
    for (size_t n = 1; n <= 6; n++) {
        all_usual(n);
        hours[n - 1].v[FIGURE_COST] = 5000;
        find(n, 1);
        assert_int_equal(n_found, 0);
    }
    all_usual(7);
    hours[6].v[FIGURE_COST] = 5000;
    find(7, 1);
    assert_int_equal(n_found, 1);
    assert_int_equal(found[0].method, ANOMALY_RECENT);
    assert_int_equal(found[0].samples, 6);
}

static void test_longer_histories_compare_the_same_hour(void **state)
{
    (void)state;
    all_usual(4 * 24 + 1);
    hours[4 * 24].v[FIGURE_COST] = 50;
    find(4 * 24 + 1, 1);
    assert_int_equal(found[0].method, ANOMALY_DAILY);
    assert_int_equal(found[0].samples, 4);
    all_usual(3 * 168 + 1);
    hours[3 * 168].v[FIGURE_COST] = 50;
    find(3 * 168 + 1, 1);
    assert_int_equal(found[0].method, ANOMALY_WEEKLY);
    assert_int_equal(found[0].samples, 3);
}

/* Ten times as much at noon as at night, every day: usual. */
static void test_a_daily_rhythm_is_usual(void **state)
{
    (void)state;
    memset(hours, 0, sizeof(hours));
    for (size_t i = 0; i < N; i++) {
        double k = i % 24 >= 8 && i % 24 < 20 ? 10 : 1;

        hours[i] = usual();
        hours[i].v[FIGURE_COST] *= k;
        hours[i].v[FIGURE_TOKENS] *= k;
        hours[i].v[FIGURE_TRAFFIC] *= k;
    }
    find(N, 1);
    for (size_t i = 0; i < n_found; i++)
        assert_true(found[i].at < 4 * 24 + 24); /* before it was seen often enough */
    hours[N - 1].v[FIGURE_COST] = 4 * hours[N - 1 - 168].v[FIGURE_COST];
    find(N, 1);
    assert_int_equal(found[n_found - 1].at, N - 1);
}

static void test_errors_need_a_share_that_matters(void **state)
{
    (void)state;
    all_usual(48);
    for (size_t i = 0; i < 48; i++)
        hours[i].v[FIGURE_ERRORS] = 0.001;
    hours[47].v[FIGURE_ERRORS] = 0.019; /* 19 times, and still nothing */
    find(48, 1);
    assert_int_equal(n_found, 0);
    hours[47].v[FIGURE_ERRORS] = 0.03;
    find(48, 1);
    assert_false(one(ANOMALY_ERROR_SPIKE)->is_critical);
    hours[47].v[FIGURE_ERRORS] = 0.06;
    find(48, 1);
    assert_true(one(ANOMALY_ERROR_SPIKE)->is_critical);
}

static void test_small_differences_and_quiet_hours_are_left_alone(void **state)
{
    (void)state;
    all_usual(48);
    for (size_t i = 0; i < 48; i++)
        hours[i].v[FIGURE_COST] = 0.001;
    hours[47].v[FIGURE_COST] = 0.04; /* 40 times four cents' worth */
    find(48, 1);
    assert_int_equal(n_found, 0);
    hours[47].v[FIGURE_COST] = 5;
    hours[47].v[FIGURE_TRAFFIC] = 19;
    find(48, 1);
    assert_null(one(ANOMALY_COST_SPIKE));
}

static void test_traffic_that_vanishes_is_a_drop(void **state)
{
    (void)state;
    all_usual(48);
    hours[47] = (struct anomaly_hour){.is_known = true, .v = {[FIGURE_LATENCY] = NAN, [FIGURE_ERRORS] = NAN}};
    find(48, 1);
    assert_int_equal(n_found, 1);
    assert_int_equal(found[0].kind, ANOMALY_TRAFFIC_DROP);
    assert_false(found[0].is_critical);
}

static void test_nothing_expected_has_no_finite_ratio(void **state)
{
    (void)state;
    all_usual(48);
    for (size_t i = 0; i < 47; i++)
        hours[i].v[FIGURE_ERRORS] = 0;
    hours[47].v[FIGURE_ERRORS] = 0.5;
    find(48, 1);
    assert_true(isinf(one(ANOMALY_ERROR_SPIKE)->ratio));
}

static void test_an_outage_does_not_hide_the_next_one(void **state)
{
    const struct anomaly *last;

    (void)state;
    all_usual(N);
    for (size_t i = N - 24 * 7; i < N; i += 24)
        hours[i].v[FIGURE_COST] = 125;
    hours[N - 24 * 7 - 1 + 24 * 7].v[FIGURE_COST] = 125;
    find(N, 1);
    last = &found[n_found - 1];
    assert_int_equal(last->at, N - 1);
    assert_int_equal(n_found, 8);
}

static void test_slow_growth_of_latency_is_a_drift(void **state)
{
    size_t first = 0;

    (void)state;
    all_usual(N);
    for (size_t i = 0; i < N; i++)
        hours[i].v[FIGURE_LATENCY] = 500 + 20 * (draw() - 0.5);
    for (size_t i = N - 12; i < N; i++)
        hours[i].v[FIGURE_LATENCY] += 150; /* too little for a spike, which needs twice as much */
    find(N, 1);
    assert_null(one(ANOMALY_LATENCY_SPIKE));
    for (size_t i = 0; i < n_found; i++) {
        assert_int_equal(found[i].kind, ANOMALY_LATENCY_DRIFT);
        first = first ? first : found[i].at;
    }
    assert_in_range(first, N - 11, N - 2);
}

static void test_one_slow_hour_is_no_drift(void **state)
{
    (void)state;
    all_usual(N);
    hours[N - 3].v[FIGURE_LATENCY] = 50000;
    find(N, 1);
    assert_int_equal(n_found, 1);
    assert_int_equal(found[0].kind, ANOMALY_LATENCY_SPIKE);
    assert_true(found[0].is_critical);
}

static void test_the_hour_that_runs_is_scaled_and_waits_for_its_first_quarter(void **state)
{
    (void)state;
    all_usual(48);
    hours[47].v[FIGURE_COST] = 25; /* of half an hour */
    hours[47].v[FIGURE_TRAFFIC] = 500;
    hours[47].v[FIGURE_TOKENS] = 375000;
    find(48, 0.5);
    assert_int_equal(n_found, 1);
    assert_true(found[0].is_running);
    assert_float_equal(found[0].value, 50, 1e-9);
    find(48, 0.2);
    assert_int_equal(n_found, 0);
}

static void test_two_normal_hours_clear(void **state)
{
    struct anomaly_input in = {.hours = hours, .n = 48, .running = 1};

    (void)state;
    assert_true(anomaly_is_active(&in, 47));
    assert_true(anomaly_is_active(&in, 46));
    assert_false(anomaly_is_active(&in, 45));
    in.running = 0.5; /* the hour 47 is not over */
    assert_true(anomaly_is_active(&in, 45));
    assert_false(anomaly_is_active(&in, 44));
}

/* What is said of an hour does not change with what comes after it. */
static void test_later_hours_change_no_verdict(void **state)
{
    static struct anomaly early[4096];
    size_t n_early, cut;

    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        memset(hours, 0, sizeof(hours));
        for (size_t i = 0; i < N; i++) {
            double k = draw() < 0.03 ? 1 + 20 * draw() : 1 + 0.2 * draw();

            hours[i] = usual();
            hours[i].is_known = draw() > 0.02;
            for (unsigned f = 0; f < ANOMALY_FIGURES; f++)
                hours[i].v[f] *= k;
        }
        cut = 30 + (size_t)(draw() * (N - 40));
        find(cut, 1);
        n_early = n_found;
        memcpy(early, found, n_early * sizeof(*found));
        find(N, 1);
        assert_true(n_found >= n_early);
        assert_memory_equal(early, found, n_early * sizeof(*found));
        for (size_t i = 0; i < n_found; i++) {
            assert_true(found[i].kind == ANOMALY_TRAFFIC_DROP || found[i].value > found[i].expected);
            assert_true(found[i].samples >= 3 && found[i].samples <= 24);
            assert_true(found[i].scale > 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_four_times_the_cost_is_a_warning_and_five_times_is_critical),
        cmocka_unit_test(test_a_history_that_is_too_short_says_nothing),
        cmocka_unit_test(test_longer_histories_compare_the_same_hour),
        cmocka_unit_test(test_a_daily_rhythm_is_usual),
        cmocka_unit_test(test_errors_need_a_share_that_matters),
        cmocka_unit_test(test_small_differences_and_quiet_hours_are_left_alone),
        cmocka_unit_test(test_traffic_that_vanishes_is_a_drop),
        cmocka_unit_test(test_nothing_expected_has_no_finite_ratio),
        cmocka_unit_test(test_an_outage_does_not_hide_the_next_one),
        cmocka_unit_test(test_slow_growth_of_latency_is_a_drift),
        cmocka_unit_test(test_one_slow_hour_is_no_drift),
        cmocka_unit_test(test_the_hour_that_runs_is_scaled_and_waits_for_its_first_quarter),
        cmocka_unit_test(test_two_normal_hours_clear),
        cmocka_unit_test(test_later_hours_change_no_verdict),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
