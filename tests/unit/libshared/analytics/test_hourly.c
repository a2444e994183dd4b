/* SPDX-License-Identifier: Apache-2.0 */
/* Hours are the same whichever store they come from, and none counts twice. */
#include "libshared/analytics/hourly.h"

#include <math.h>

#include "tests/unit/libshared/analytics/books_fixture.h"

static struct db *fresh(void)
{
    struct db *db = open_db();

    assert_ok(db_migrate(db, &why));
    next_seq = 1;
    return db;
}

/* Eight hours of traffic, more every hour. */
static void put_day(struct db *db)
{
    for (int h = 0; h < 8; h++)
        put_traffic(db, H0 + h * 3600, 6 + 6 * h);
}

static struct hourly read_all(struct db *db, int64_t step_s, bool has_sketches, int64_t now_s)
{
    struct hourly_source s = {.db = db, .now = CLOCK(now_s), .retention_us = (int64_t)4 * 3600 * 1000000};
    struct hourly_ask ask = {.from = H0, .to = H0 + 8 * 3600, .step_s = step_s, .has_sketches = has_sketches};
    struct hourly h;

    assert_ok(hourly_read(&s, &ask, &h, &why));
    assert_false(h.is_partial);
    assert_int_equal(h.hours_read, 8);
    return h;
}

/* Requests, attempts, cost and p95 of every step, provider and model. */
static void text_of(const struct hourly *h, bool has_sketches, struct buf *out)
{
    for (size_t i = 0; i < h->n; i++) {
        struct hourly_sums s;

        assert_int_equal(hourly_sum(h, HOURLY_MODEL, i, i + 1, &s), ERR_OK);
        for (size_t j = 0; j < s.n; j++)
            buf_addf(out, "%zu %s %s %lld %lld %lld %.3f\n", i, s.v[j].provider, s.v[j].model,
                     (long long)s.v[j].m.v[MEASURE_req], (long long)s.v[j].m.v[MEASURE_attempts],
                     (long long)s.v[j].m.v[MEASURE_cost_nano],
                     has_sketches ? sketch_quantile_us(&s.v[j].sketch, 0.95) : 0);
        hourly_sums_release(&s);
    }
    buf_addc(out, '\0');
}

static void test_the_ledger_and_the_hourly_rows_say_the_same(void **state)
{
    struct db *db = fresh();
    struct aggregate_options o = at(db, 9 * 3600);

    (void)state;
    put_day(db);
    for (int round = 0; round < 3; round++) {
        for (int sketches = 0; sketches < 2; sketches++)
            for (int64_t step = 0; step <= 2 * 3600; step += 3600) {
                struct buf before AUTO(buf_release) = {0}, after AUTO(buf_release) = {0};
                struct hourly h = read_all(db, step, sketches, 9 * 3600);

                text_of(&h, sketches, &before);
                hourly_release(&h);
                if (round == 1) { /* half of them are rolled up */
                    o.from_hour = H0;
                    o.to_hour = H0 + 3 * 3600;
                } else {
                    o.from_hour = o.to_hour = 0;
                }
                (void)roll(&o);
                h = read_all(db, step, sketches, 9 * 3600);
                text_of(&h, sketches, &after);
                hourly_release(&h);
                assert_true(before.len > 50);
                assert_string_equal(before.p, after.p);
            }
        assert_ok(db_exec(db, "test", "DELETE FROM metrics_hourly_aggregates", NULL, 0, NULL, &why));
        assert_ok(db_exec(db, "test", "DELETE FROM aggregated_hours", NULL, 0, NULL, &why));
    }
    db_free(db);
}

static void test_late_rows_count_before_their_hour_is_rolled_up_again(void **state)
{
    struct db *db = fresh();
    struct aggregate_options o = at(db, 9 * 3600);
    struct db_value hour = db_int(H0);
    struct hourly_sums s;
    struct hourly h;

    (void)state;
    put_day(db);
    (void)roll(&o);
    put_traffic(db, H0, 6);
    assert_ok(
        db_exec(db, "test", "INSERT INTO dirty_hours (hour, since) VALUES ($1, 1)", &hour, 1, NULL, &why));
    h = read_all(db, 3600, false, 9 * 3600);
    assert_int_equal(hourly_sum(&h, HOURLY_ALL, 0, 1, &s), ERR_OK);
    assert_int_equal(s.v[0].m.v[MEASURE_req], 12);
    hourly_sums_release(&s);
    hourly_release(&h);
    db_free(db);
}

static void test_what_is_added_up_is_all_there_is(void **state)
{
    static const enum hourly_by BY[] = {HOURLY_ALL, HOURLY_PROVIDER, HOURLY_MODEL};
    struct db *db = fresh();
    struct hourly h;

    (void)state;
    put_day(db);
    h = read_all(db, 3600, true, 9 * 3600);
    for (unsigned b = 0; b < 3; b++) {
        struct hourly_sums s;
        int64_t requests = 0;
        uint64_t in_sketches = 0;
        unsigned models = 0;

        assert_int_equal(hourly_sum(&h, BY[b], 0, h.n, &s), ERR_OK);
        for (size_t i = 0; i < s.n; i++) {
            requests += s.v[i].m.v[MEASURE_req];
            in_sketches += s.v[i].sketch.count;
            models += s.v[i].models;
            assert_true(!i || strcmp(s.v[i - 1].provider, s.v[i].provider) <= 0);
        }
        assert_int_equal(requests, 6 * (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8));
        assert_int_equal(
            in_sketches,
            number(
                db,
                "SELECT CAST(sum(count) AS bigint) FROM ledger WHERE kind = 'attempt' AND provider <> ''"));
        assert_int_equal(models, 4);
        assert_int_equal(
            s.n, b == 0
                     ? 1
                     : number(db, b == 1 ? "SELECT count(DISTINCT provider) FROM ledger WHERE provider <> ''"
                                         : "SELECT 4"));
        hourly_sums_release(&s);
    }
    hourly_release(&h);
    db_free(db);
}

static void test_a_store_that_is_away_is_said_and_not_taken_for_zero(void **state)
{
    struct db *db = fresh();
    struct hourly_source s = {.db = db, .now = CLOCK(9 * 3600)};
    struct hourly_ask ask = {.from = H0, .to = H0 + 8 * 3600, .step_s = 3600};
    struct hourly h;

    (void)state;
    assert_ok(
        db_exec(db, "test", "ALTER TABLE metrics_hourly_aggregates RENAME TO gone", NULL, 0, NULL, &why));
    assert_int_equal(hourly_read(&s, &ask, &h, &why), ERR_OK);
    assert_true(h.is_partial);
    assert_true(h.missing[0]);
    hourly_release(&h);
    ask.to = ask.from;
    assert_int_equal(hourly_read(&s, &ask, &h, &why), ERR_BAD_REQUEST);
    db_free(db);
}

static void test_a_trend_needs_three_values_and_a_slope(void **state)
{
    const double rising[] = {100, NAN, 120, 140}, level[] = {100, 101, 99, 100},
                 falling[] = {50, 40, 30, 20, 10};
    const double few[] = {1, NAN, 5};

    (void)state;
    assert_string_equal(trend_of(rising, 4).direction, "rising");
    assert_string_equal(trend_of(level, 4).direction, "steady");
    assert_string_equal(trend_of(falling, 5).direction, "falling");
    assert_float_equal(trend_of(falling, 5).per_step, -10, 1e-9);
    assert_string_equal(trend_of(few, 3).direction, "unknown");
    assert_true(isnan(trend_of(few, 3).per_step));
    assert_string_equal(trend_of(NULL, 0).direction, "unknown");
}

static const struct CMUnitTest TESTS[] = {
    each_test(test_the_ledger_and_the_hourly_rows_say_the_same),
    each_test(test_late_rows_count_before_their_hour_is_rolled_up_again),
    each_test(test_what_is_added_up_is_all_there_is),
    each_test(test_a_store_that_is_away_is_said_and_not_taken_for_zero),
    each_test(test_a_trend_needs_three_values_and_a_slope),
};

int main(void)
{
    int failed = cmocka_run_group_tests_name("hourly, sqlite", TESTS, sqlite_group, NULL);

    if (postgres_starts())
        failed += cmocka_run_group_tests_name("hourly, postgres", TESTS, postgres_group, postgres_group_end);
    return failed;
}
