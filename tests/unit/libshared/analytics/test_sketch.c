/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/analytics/sketch.h"

#include <math.h>
#include <stdlib.h>

#include "tests/unit/cm.h"

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static uint64_t next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 20;
}

/* Microseconds from 1 to about 2^30, every magnitude as likely. */
static uint64_t any_duration(uint64_t *seed)
{
    uint64_t bits = next(seed) % 30;

    return ((uint64_t)1 << bits) + next(seed) % ((uint64_t)1 << bits);
}

static void test_a_bucket_stands_for_its_values_within_one_percent(void **state)
{
    (void)state;
    for (uint64_t v = 0; v < SKETCH_VALUE_MAX; v += 1 + v / 1000) {
        double middle = (double)sketch_bucket_us(sketch_bucket(v));

        assert_true(fabs(middle - (double)v) <= 0.01 * (double)v);
    }
    assert_true(sketch_bucket(UINT64_MAX) == sketch_bucket(SKETCH_VALUE_MAX));
    assert_true(sketch_bucket(SKETCH_VALUE_MAX) == SKETCH_BUCKETS - 1);
}

static void test_buckets_ascend_without_gap(void **state)
{
    (void)state;
    for (unsigned b = 0; b < SKETCH_BUCKETS; b++)
        assert_int_equal(sketch_bucket(sketch_bucket_us(b)), b);
    for (uint64_t v = 1; v < 200000; v++)
        assert_true(sketch_bucket(v) - sketch_bucket(v - 1) <= 1);
}

static void test_quantiles_are_within_one_percent_of_the_exact_ones(void **state)
{
    enum { N = 20000 };
    static uint64_t values[N];
    static const double Q[] = {0, 0.001, 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1};
    struct sketch s AUTO(sketch_release) = {0};
    uint64_t seed = 7;

    (void)state;
    for (size_t i = 0; i < N; i++) {
        values[i] = any_duration(&seed);
        assert_int_equal(sketch_add(&s, (int64_t)values[i]), ERR_OK);
    }
    qsort(values, N, sizeof(values[0]), by_value);
    for (size_t i = 0; i < ARRAY_LEN(Q); i++) {
        size_t rank = (size_t)ceil(Q[i] * N);
        double exact = (double)values[rank ? rank - 1 : 0];

        assert_true(fabs(sketch_quantile_us(&s, Q[i]) - exact) <= 0.01 * exact);
    }
}

/* Standard normal, by the sum of twelve uniform numbers. */
static double normal(uint64_t *seed)
{
    double sum = -6;

    for (int i = 0; i < 12; i++)
        sum += (double)(any_duration(seed) % 100003) / 100003;
    return sum;
}

static uint64_t lognormal(uint64_t *seed)
{
    return (uint64_t)exp(13 + 1.2 * normal(seed));
}
static uint64_t bimodal(uint64_t *seed) /* cache hits of 2 ms, answers of 4 s */
{
    return any_duration(seed) % 3 ? (uint64_t)(2000 + 150 * normal(seed))
                                  : (uint64_t)(4e6 + 3e5 * normal(seed));
}
static uint64_t heavy_tail(uint64_t *seed) /* Pareto, alpha 1.1: the mean is made by a few */
{
    double u = ((double)(any_duration(seed) % 1000003) + 1) / 1000004;

    return (uint64_t)fmin(5000 / pow(u, 1 / 1.1), 6e10);
}

static void test_the_bound_holds_for_shapes_that_real_traffic_has(void **state)
{
    enum { N = 30000 };
    static uint64_t (*const SHAPES[])(uint64_t *) = {lognormal, bimodal, heavy_tail};
    static uint64_t values[N];

    (void)state;
    for (size_t shape = 0; shape < ARRAY_LEN(SHAPES); shape++) {
        struct sketch whole AUTO(sketch_release) = {0}, merged AUTO(sketch_release) = {0}, hours[24] = {0};
        uint64_t seed = 1234 + shape;

        for (size_t i = 0; i < N; i++) {
            values[i] = SHAPES[shape](&seed);
            assert_int_equal(sketch_add(&whole, (int64_t)values[i]), ERR_OK);
            assert_int_equal(sketch_add(&hours[i * 24 / N], (int64_t)values[i]), ERR_OK);
        }
        qsort(values, N, sizeof(values[0]), by_value);
        for (size_t h = 0; h < 24; h++) {
            assert_int_equal(sketch_merge(&merged, &hours[h]), ERR_OK);
            sketch_release(&hours[h]);
        }
        for (unsigned permille = 1; permille <= 1000; permille++) {
            double q = permille / 1000.0, exact = (double)values[(size_t)ceil(q * N) - 1];

            assert_true(fabs(sketch_quantile_us(&whole, q) - exact) <= 0.01 * exact);
            assert_true(sketch_quantile_us(&whole, q) == sketch_quantile_us(&merged, q));
        }
    }
}

static void test_an_empty_sketch_has_no_quantile(void **state)
{
    struct sketch s AUTO(sketch_release) = {0};

    (void)state;
    assert_true(isnan(sketch_quantile_us(&s, 0.5)));
    assert_int_equal(sketch_add(&s, -5), ERR_OK); /* a clock that stepped back counts as nothing */
    assert_true(sketch_quantile_us(&s, 0.5) == 0);
    assert_true(isnan(sketch_quantile_us(&s, 1.5)));
}

static void assert_same(const struct sketch *a, const struct sketch *b)
{
    struct buf x AUTO(buf_release) = {0}, y AUTO(buf_release) = {0};

    assert_int_equal(sketch_encode(a, &x), ERR_OK);
    assert_int_equal(sketch_encode(b, &y), ERR_OK);
    assert_true(span_eq(buf_span(&x), buf_span(&y)));
}

static void test_merging_parts_in_any_order_equals_adding_everything_to_one(void **state)
{
    struct sketch whole AUTO(sketch_release) = {0}, forth AUTO(sketch_release) = {0},
                        back AUTO(sketch_release) = {0};
    struct sketch part[7] = {0};
    uint64_t seed = 11;

    (void)state;
    for (size_t i = 0; i < 5000; i++) {
        int64_t v = (int64_t)any_duration(&seed);

        assert_int_equal(sketch_add(&whole, v), ERR_OK);
        assert_int_equal(sketch_add(&part[i % 6], v), ERR_OK); /* the last part stays empty */
    }
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(sketch_merge(&forth, &part[i]), ERR_OK);
        assert_int_equal(sketch_merge(&back, &part[6 - i]), ERR_OK);
    }
    assert_same(&whole, &forth);
    assert_same(&whole, &back);
    for (size_t i = 0; i < 7; i++)
        sketch_release(&part[i]);
}

static void test_the_compact_form_brings_everything_back(void **state)
{
    struct sketch s AUTO(sketch_release) = {0}, again AUTO(sketch_release) = {0};
    struct buf b AUTO(buf_release) = {0};
    uint64_t seed = 3;

    (void)state;
    assert_int_equal(sketch_encode(&s, &b), ERR_OK);
    assert_int_equal(sketch_decode(&again, buf_span(&b)), ERR_OK);
    assert_true(again.count == 0);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(sketch_add(&s, (int64_t)(800000 + next(&seed) % 400000)), ERR_OK);
    buf_clear(&b);
    assert_int_equal(sketch_encode(&s, &b), ERR_OK);
    assert_true(b.len < 250); /* an hour of one model fits a small row */
    assert_int_equal(sketch_decode(&again, buf_span(&b)), ERR_OK);
    assert_same(&s, &again);
    assert_true(sketch_quantile_us(&s, 0.95) == sketch_quantile_us(&again, 0.95));
}

static void test_bytes_that_are_no_sketch_leave_it_empty(void **state)
{
    struct sketch s AUTO(sketch_release) = {0}, again AUTO(sketch_release) = {0};
    struct buf b AUTO(buf_release) = {0};
    uint64_t seed = 5;

    (void)state;
    for (size_t i = 0; i < 50; i++)
        assert_int_equal(sketch_add(&s, (int64_t)any_duration(&seed)), ERR_OK);
    assert_int_equal(sketch_encode(&s, &b), ERR_OK);
    for (size_t cut = 0; cut < b.len; cut++) {
        assert_int_equal(sketch_decode(&again, span_make(b.p, cut)), ERR_BAD_REQUEST);
        assert_true(again.count == 0);
    }
    for (size_t i = 0; i < 200000; i++) {
        char bytes[24];
        size_t n = next(&seed) % sizeof(bytes);

        for (size_t j = 0; j < n; j++)
            bytes[j] = (char)next(&seed);
        bytes[0] = 1; /* past the version */
        if (sketch_decode(&again, span_make(bytes, n)))
            assert_true(again.count == 0);
        else
            assert_false(isnan(sketch_quantile_us(&again, 0.5)) && again.count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_bucket_stands_for_its_values_within_one_percent),
        cmocka_unit_test(test_buckets_ascend_without_gap),
        cmocka_unit_test(test_quantiles_are_within_one_percent_of_the_exact_ones),
        cmocka_unit_test(test_the_bound_holds_for_shapes_that_real_traffic_has),
        cmocka_unit_test(test_an_empty_sketch_has_no_quantile),
        cmocka_unit_test(test_merging_parts_in_any_order_equals_adding_everything_to_one),
        cmocka_unit_test(test_the_compact_form_brings_everything_back),
        cmocka_unit_test(test_bytes_that_are_no_sketch_leave_it_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
