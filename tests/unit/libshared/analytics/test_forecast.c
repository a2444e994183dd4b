/* SPDX-License-Identifier: Apache-2.0 */
/* Properties over random histories, from a fixed seed, and a few cases by hand. */
#include "libshared/analytics/forecast.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "libshared/catalog/period.h"
#include "tests/unit/cm.h"

#define HOUR ((int64_t)3600 * 1000000)
#define DAY  (24 * HOUR)
#define USD  ((int64_t)1000000000)

static uint64_t seed = 42;
static uint64_t draw(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % below;
}

/* ---- scenes ---------------------------------------------------------------------------------------------------------- */

struct scene {
    struct forecast_in in;
    int64_t hours[FORECAST_HOURS];
};

/* 2026-11-20T14:30 of a month; every hour costs the same. */
static void constant(struct scene *s, size_t n_hours, int64_t per_hour)
{
    *s = (struct scene){0};
    s->in.now.us = 1795185000 * (int64_t)1000000;
    s->in.hours = s->hours;
    s->in.n_hours = n_hours;
    for (size_t i = 0; i < n_hours; i++)
        s->hours[i] = per_hour;
    s->hours[n_hours - 1] = per_hour / 2;
    s->in.began.us = s->in.now.us - HOUR / 2 - (int64_t)(n_hours - 1) * HOUR;
    s->in.starts = period_start(PERIOD_MONTH, s->in.now);
    s->in.ends = period_end(PERIOD_MONTH, s->in.now);
    s->in.limit_nano = 1000 * USD;
}

static void any_scene(struct scene *s)
{
    static const enum period PERIODS[] = {PERIOD_HOUR, PERIOD_DAY, PERIOD_WEEK, PERIOD_MONTH, PERIOD_TOTAL};
    enum period p = PERIODS[draw(5)];

    *s = (struct scene){0};
    s->in.now.us = 1700000000 * (int64_t)1000000 + (int64_t)draw(400 * (uint64_t)DAY);
    s->in.hours = s->hours;
    s->in.n_hours = draw(4) ? FORECAST_HOURS : 1 + draw(FORECAST_HOURS);
    s->in.began.us = draw(8) ? s->in.now.us - (int64_t)draw(30 * (uint64_t)DAY) : 0;
    for (size_t i = 0; i < s->in.n_hours; i++)
        s->hours[i] = draw(3) ? (int64_t)draw(5 * (uint64_t)USD) : draw(9) ? 0 : -(int64_t)draw(USD);
    s->in.starts = period_start(p, s->in.now);
    s->in.ends = period_end(p, s->in.now);
    s->in.spent_nano = (int64_t)draw(2000 * (uint64_t)USD) - 10 * USD;
    s->in.limit_nano = draw(10) ? 1 + (int64_t)draw(4000 * (uint64_t)USD) : 0;
}

static struct forecast make(const struct scene *s)
{
    struct forecast f;

    forecast_make(&s->in, &f);
    return f;
}

static void assert_near(int64_t a, int64_t b, int64_t within)
{
    if (a - b > within || b - a > within)
        fail_msg("%lld is not %lld", (long long)a, (long long)b);
}

/* ---- by hand --------------------------------------------------------------------------------------------------------- */

static void test_a_constant_rate_reaches_the_limit_when_division_says(void **state)
{
    struct scene s;
    struct forecast f;

    (void)state;
    constant(&s, 10 * 24, 2 * USD);
    s.in.spent_nano = 900 * USD;
    f = make(&s);
    assert_int_equal(f.state, FORECAST_AT);
    assert_int_equal(f.method, FORECAST_LINEAR);
    assert_near(f.exhausts_at.us, s.in.now.us + 50 * HOUR, 1000000);
    assert_near(f.rate_nano_per_hour, 2 * USD, 1000);
    assert_true(f.has_end);
    assert_near(f.end_nano, 900 * USD + (s.in.ends.us - s.in.now.us) / 1000000 * (2 * USD) / 3600,
                USD / 1000);
    s.in.limit_nano = 100000 * USD;
    f = make(&s);
    assert_int_equal(f.state, FORECAST_NEVER);
    assert_int_equal(f.exhausts_at.us, 0);
}

static void test_too_little_history_says_nothing(void **state)
{
    struct scene s;

    (void)state;
    constant(&s, 6, USD);
    assert_int_equal(make(&s).state, FORECAST_UNKNOWN);
    assert_false(make(&s).has_end);
    constant(&s, 8, USD);
    assert_int_equal(make(&s).state, FORECAST_NEVER);
    s.in.began.us = 0;
    assert_int_equal(make(&s).state, FORECAST_UNKNOWN);
    constant(&s, 2, USD);
    s.in.starts = period_start(PERIOD_HOUR, s.in.now);
    s.in.ends = period_end(PERIOD_HOUR, s.in.now);
    assert_int_equal(make(&s).state, FORECAST_NEVER);
}

static void test_what_is_spent_is_spent_however_little_was_seen(void **state)
{
    struct scene s;

    (void)state;
    constant(&s, 1, USD);
    s.in.spent_nano = s.in.limit_nano;
    assert_int_equal(make(&s).state, FORECAST_SPENT);
    constant(&s, 100, USD);
    s.in.spent_nano = s.in.limit_nano + 1;
    assert_int_equal(make(&s).state, FORECAST_SPENT);
    assert_true(make(&s).has_end);
}

static void test_a_quiet_account_never_reaches_its_limit(void **state)
{
    struct scene s;

    (void)state;
    constant(&s, 200, 0);
    s.in.spent_nano = 999 * USD;
    assert_int_equal(make(&s).state, FORECAST_NEVER);
    assert_int_equal(make(&s).end_nano, 999 * USD);
}

static void test_a_budget_without_end_is_looked_at_for_ten_years(void **state)
{
    struct scene s;

    (void)state;
    constant(&s, FORECAST_HOURS, USD);
    s.in.starts = period_start(PERIOD_TOTAL, s.in.now);
    s.in.ends = period_end(PERIOD_TOTAL, s.in.now);
    s.in.limit_nano = 24 * 365 * USD; /* a year */
    assert_int_equal(make(&s).state, FORECAST_AT);
    assert_false(make(&s).has_end);
    assert_near(make(&s).exhausts_at.us, s.in.now.us + 365 * DAY, 60 * (int64_t)1000000);
    s.in.limit_nano *= 11;
    assert_int_equal(make(&s).state, FORECAST_NEVER);
}

static void test_absurd_amounts_do_not_overflow(void **state)
{
    struct scene s;

    (void)state;
    constant(&s, FORECAST_HOURS, INT64_MAX);
    s.in.spent_nano = INT64_MAX - 1;
    s.in.limit_nano = INT64_MAX;
    assert_int_equal(make(&s).end_nano, INT64_MAX);
    s.in.spent_nano = INT64_MIN;
    assert_int_equal(make(&s).state, FORECAST_AT);
}

static void test_spending_that_began_within_the_hour_is_rated_by_its_own_time(void **state)
{
    struct scene s;

    (void)state;
    constant(&s, 2, 0);
    s.hours[1] = 10 * USD;
    s.in.began.us = s.in.now.us - 600 * (int64_t)1000000;
    s.in.starts = period_start(PERIOD_HOUR, s.in.now);
    s.in.ends = period_end(PERIOD_HOUR, s.in.now);
    assert_near(make(&s).rate_nano_per_hour, 60 * USD, USD);
}

/* ---- for all --------------------------------------------------------------------------------------------------------- */

/* Whatever repeats every week is foretold to the hour; a rate alone cannot do that. */
static void test_a_week_that_repeats_is_foretold(void **state)
{
    unsigned better = 0, seen = 0;

    (void)state;
    for (int round = 0; round < 300; round++) {
        int64_t week[FORECAST_WEEK_HOURS], at, left;
        struct scene s;
        struct forecast f;

        constant(&s, FORECAST_HOURS, 0);
        s.in.now.us += (int64_t)draw(7 * (uint64_t)DAY) - 10 * DAY;
        s.in.starts = period_start(PERIOD_MONTH, s.in.now);
        s.in.ends = period_end(PERIOD_MONTH, s.in.now);
        s.in.began.us = s.in.now.us - (int64_t)(14 + draw(14)) * DAY - HOUR;
        for (unsigned h = 0; h < FORECAST_WEEK_HOURS; h++) /* working hours on working days */
            week[h] = h % 24 >= 8 && h % 24 < 18 && h / 24 < 5 ? (int64_t)draw(4 * (uint64_t)USD) : 0;
        for (size_t i = 0; i < s.in.n_hours; i++)
            s.hours[i] = week[(s.in.now.us / HOUR - (int64_t)(s.in.n_hours - 1 - i)) % FORECAST_WEEK_HOURS];
        left = 1 + (int64_t)draw(300 * (uint64_t)USD);
        s.in.limit_nano = left;
        for (at = s.in.now.us; at < s.in.ends.us && left > 0; at += 60 * (int64_t)1000000)
            left -= week[at / HOUR % FORECAST_WEEK_HOURS] / 60;
        f = make(&s);
        assert_int_equal(f.method, FORECAST_SEASONAL);
        if (left <= 0) {
            assert_int_equal(f.state, FORECAST_AT);
            assert_near(f.exhausts_at.us, at, HOUR);
            seen++;
            s.in.began.us = s.in.now.us - 13 * DAY;
            f = make(&s);
            assert_int_equal(f.method, FORECAST_LINEAR);
            better += f.state != FORECAST_AT || f.exhausts_at.us - at > 2 * HOUR ||
                      at - f.exhausts_at.us > 2 * HOUR;
        }
    }
    assert_true(seen > 100);
    assert_true(better > seen / 2);
}

static void test_a_verdict_agrees_with_its_figures(void **state)
{
    unsigned count[4] = {0};

    (void)state;
    for (int round = 0; round < 20000; round++) {
        struct scene s;
        struct forecast f;

        any_scene(&s);
        f = make(&s);
        count[f.state]++;
        switch (f.state) {
        case FORECAST_AT:
            assert_true(f.exhausts_at.us >= s.in.now.us);
            assert_true(s.in.ends.us == INT64_MAX || f.exhausts_at.us <= s.in.ends.us);
            assert_true(!f.has_end || f.end_nano >= s.in.limit_nano - 1000);
            break;
        case FORECAST_NEVER:
            assert_true(f.exhausts_at.us == 0);
            assert_true(!f.has_end || !s.in.limit_nano || f.end_nano <= s.in.limit_nano + 1000);
            break;
        case FORECAST_SPENT:
            assert_true(s.in.spent_nano >= s.in.limit_nano);
            break;
        case FORECAST_UNKNOWN:
            assert_false(f.has_end);
            break;
        }
        if (f.has_end)
            assert_true(f.end_nano >= s.in.spent_nano);
        assert_true((f.method == FORECAST_NONE) == (f.state == FORECAST_UNKNOWN || !f.method));
    }
    for (unsigned i = 0; i < 4; i++)
        assert_true(count[i] > 100);
}

static struct wall when(const struct forecast *f)
{
    return f->state == FORECAST_AT      ? f->exhausts_at
           : f->state == FORECAST_SPENT ? (struct wall){0}
                                        : (struct wall){INT64_MAX};
}

static void test_more_money_lasts_longer_and_more_spending_shorter(void **state)
{
    (void)state;
    for (int round = 0; round < 5000; round++) {
        struct scene s;
        struct forecast was, is;

        any_scene(&s);
        if (!s.in.limit_nano)
            continue;
        was = make(&s);
        s.in.limit_nano += (int64_t)draw(100 * (uint64_t)USD);
        is = make(&s);
        if (was.state != FORECAST_UNKNOWN && is.state != FORECAST_UNKNOWN)
            assert_true(when(&is).us >= when(&was).us - 1000000);
        was = is;
        s.in.spent_nano += (int64_t)draw(100 * (uint64_t)USD);
        is = make(&s);
        if (was.state != FORECAST_UNKNOWN && is.state != FORECAST_UNKNOWN)
            assert_true(when(&is).us - 1000000 <= when(&was).us);
        assert_true(!is.has_end || is.end_nano >= was.end_nano - 1000);
    }
}

int main(void)
{
    static const struct CMUnitTest TESTS[] = {
        cmocka_unit_test(test_a_constant_rate_reaches_the_limit_when_division_says),
        cmocka_unit_test(test_too_little_history_says_nothing),
        cmocka_unit_test(test_what_is_spent_is_spent_however_little_was_seen),
        cmocka_unit_test(test_a_quiet_account_never_reaches_its_limit),
        cmocka_unit_test(test_a_budget_without_end_is_looked_at_for_ten_years),
        cmocka_unit_test(test_absurd_amounts_do_not_overflow),
        cmocka_unit_test(test_spending_that_began_within_the_hour_is_rated_by_its_own_time),
        cmocka_unit_test(test_a_week_that_repeats_is_foretold),
        cmocka_unit_test(test_a_verdict_agrees_with_its_figures),
        cmocka_unit_test(test_more_money_lasts_longer_and_more_spending_shorter),
    };

    return cmocka_run_group_tests(TESTS, NULL, NULL);
}
