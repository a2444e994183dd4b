/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/cm.h"

#include <math.h>
#include <stdio.h>

#include "aigwtop/model/table.h"
#include "libshared/analytics/sketch.h"

#define T0 INT64_C(1795179600000000) /* a whole ten seconds */
#define S  INT64_C(1000000)

static struct mono mono_of(int64_t wall_us)
{
    return (struct mono){wall_us - T0 + 1000 * S};
}

static struct sample *sample_at(int64_t now_us)
{
    struct sample *s = sample_new();

    s->now.us = s->beat.us = now_us;
    s->has = HAS_ROWS;
    return s;
}

static void add_slice(struct sample *s, const char *provider, const char *model, int64_t start_us,
                      int64_t span_us, int64_t attempts, int64_t errors, double ms)
{
    struct sample_row *r = sample_row_of(s, provider, model);
    struct slice *slice = LIST_ADD(&r->slices);

    slice->start_us = start_us;
    slice->span_us = span_us;
    slice->m[MEASURE_attempts] = slice->m[MEASURE_req] = attempts;
    slice->m[MEASURE_err] = errors;
    slice->m[MEASURE_cost_nano] = attempts * 1000000;
    slice->m[MEASURE_tin] = attempts * 10;
    if (attempts)
        *LIST_ADD(&slice->parts) = (struct part){sketch_bucket((uint64_t)(ms * 1000)), (uint64_t)attempts};
}

static bool is_near(double a, double b)
{
    return fabs(a - b) <= 0.011 * fabs(b) + 1e-9;
}
#define assert_near(a, b)                                                                                    \
    do {                                                                                                     \
        double a_ = (a), b_ = (b);                                                                           \
        if (!is_near(a_, b_))                                                                                \
            fail_msg("%s is %g, not %g", #a, a_, b_);                                                        \
    } while (0)

static void test_rates_are_of_the_last_minute_and_the_rest_of_five(void **state)
{
    struct model *m = model_new(mono_of(T0));
    struct sample *s = sample_at(T0 + 5 * S);
    const struct figures *f;

    (void)state;
    for (int64_t i = 1; i <= 29;
         i++) /* 10 a second in the last minute, 1 before, 10 % errors, 100 ms and 900 ms */
        add_slice(s, "p", "", T0 - i * 10 * S, 10 * S, i <= 6 ? 100 : 10, i <= 6 ? 10 : 1,
                  i <= 6 ? 100 : 900);
    add_slice(s, "p", "", T0, 4 * S, 40, 4, 100);
    model_absorb(m, s, mono_of(T0 + 5 * S));
    f = &model_find(m, "p", "")->figures;
    assert_near(f->per_s, 640.0 / 64);
    assert_near(f->attempts, 640 + 230);
    assert_near(f->error_rate, 87.0 / 870);
    assert_near(f->p50_ms, 100);
    assert_near(f->p95_ms, 900);
    assert_near(f->cost_per_h, 870 * 0.001 * 3600 / 294);
    assert_near(f->cost_per_1k, 1);
    assert_near(f->tokens_per_s, 100);
    assert_near(m->all.figures.per_s, f->per_s);
    model_free(m);
}

static void test_a_span_that_was_read_again_replaces_what_was_known(void **state)
{
    struct model *m = model_new(mono_of(T0));
    struct sample *s = sample_at(T0 + 5 * S);

    (void)state;
    add_slice(s, "p", "", T0, 4 * S, 8, 0, 10);
    model_absorb(m, s, mono_of(T0 + 5 * S));
    s = sample_at(T0 + 14 * S);
    add_slice(s, "p", "", T0, 10 * S, 20, 0, 10);
    model_absorb(m, s, mono_of(T0 + 14 * S));
    assert_near(model_find(m, "p", "")->figures.per_s, 2);
    assert_near(model_find(m, "p", "")->figures.attempts, 20);
    model_free(m);
}

static void test_what_nobody_read_is_unknown_and_not_silence(void **state)
{
    struct model *m = model_new(mono_of(T0));
    struct sample *s = sample_at(T0 + 5 * S);
    const struct figures *f;

    (void)state;
    add_slice(s, "p", "m", T0 - 20 * S, 10 * S, 50, 0, 10); /* one of six */
    (void)sample_row_of(s, "p", "");
    model_absorb(m, s, mono_of(T0 + 5 * S));
    assert_near(model_find(m, "p", "m")->figures.per_s, 5);
    f = &model_find(m, "p", "")->figures;
    assert_true(isnan(f->per_s) && isnan(f->error_rate) && isnan(f->p95_ms) && isnan(f->cost_per_h));
    model_free(m);
}

static void absorb_totals(struct model *m, int64_t now_us, int64_t attempts)
{
    struct sample *s = sample_at(now_us);
    struct sample_row *r = sample_row_of(s, "p", "");

    r->has_totals = true;
    r->totals[MEASURE_attempts] = attempts;
    r->p95_ms = 77;
    model_absorb(m, s, mono_of(now_us));
}

static void test_sums_since_some_start_become_rates_and_a_restart_none(void **state)
{
    struct model *m = model_new(mono_of(T0));

    (void)state;
    absorb_totals(m, T0 + 1 * S, 1000);
    assert_true(isnan(model_find(m, "p", "")->figures.per_s)); /* one reading makes no rate */
    absorb_totals(m, T0 + 3 * S, 1010);
    assert_near(model_find(m, "p", "")->figures.per_s, 5);
    assert_near(model_find(m, "p", "")->figures.p95_ms, 77); /* the source's own */
    absorb_totals(m, T0 + 5 * S, 3);                         /* counted from 0 again */
    assert_near(model_find(m, "p", "")->figures.per_s, 5);
    absorb_totals(m, T0 + 7 * S, 13);
    assert_near(model_find(m, "p", "")->figures.per_s, 5);
    model_free(m);
}

static void test_series_show_absence_as_absence(void **state)
{
    struct model *m = model_new(mono_of(T0));
    struct sample *s = sample_at(T0 + 9 * S);
    float v[6];

    (void)state;
    add_slice(s, "p", "", T0, 8 * S, 8, 0, 50);
    add_slice(s, "p", "", T0 - 20 * S, 10 * S, 10, 0, 200);
    model_absorb(m, s, mono_of(T0 + 9 * S));
    entity_series(model_find(m, "p", ""), SERIES_P95, (struct wall){T0 + 9 * S}, 60 * S, v, 6);
    assert_true(isnan(v[0]) && isnan(v[2]) && isnan(v[4]));
    assert_near((double)v[3], 200);
    assert_near((double)v[5], 50);
    model_free(m);
}

/* ---- freshness ------------------------------------------------------------------------------------------------------- */

static enum freshness fresh_at(const struct model *m, int64_t wall_us)
{
    return model_fresh(m, mono_of(wall_us), 2000).kind;
}

static void test_a_late_tick_is_slow_and_a_lost_connection_is_stale(void **state)
{
    struct model *m = model_new(mono_of(T0));
    struct sample *s;
    struct fresh f;

    (void)state;
    assert_int_equal(fresh_at(m, T0 + S), FRESH_WAITING);
    model_absorb(m, sample_at(T0), mono_of(T0));
    assert_int_equal(fresh_at(m, T0 + 6 * S), FRESH_LIVE);
    assert_int_equal(fresh_at(m, T0 + 7 * S), FRESH_SLOW);
    s = sample_new();
    s->state = SOURCE_DOWN;
    s->retry_in_ms = 4000;
    s->now.us = T0 + 500 * S; /* our own clock, which may be wrong */
    model_absorb(m, s, mono_of(T0 + 63 * S));
    f = model_fresh(m, mono_of(T0 + 64 * S), 2000);
    assert_int_equal(f.kind, FRESH_STALE);
    assert_int_equal(f.age_us, 64 * S);
    assert_int_equal(f.retry_us, 3 * S);
    assert_int_equal(model_now(m, mono_of(T0 + 64 * S)).us, T0 + 64 * S); /* the store's clock goes on */
    model_absorb(m, sample_at(T0 + 70 * S), mono_of(T0 + 70 * S));
    assert_int_equal(fresh_at(m, T0 + 70 * S), FRESH_LIVE);
    model_free(m);
}

static void test_a_store_that_nobody_writes_to_is_told_apart(void **state)
{
    struct model *m = model_new(mono_of(T0));
    struct sample *s = sample_at(T0);

    (void)state;
    s->beat.us = T0 - 41 * S;
    model_absorb(m, s, mono_of(T0));
    assert_int_equal(fresh_at(m, T0), FRESH_NO_WRITER);
    assert_int_equal(model_fresh(m, mono_of(T0), 2000).age_us, 41 * S);
    s = sample_at(T0 + 2 * S); /* its heartbeat is gone now; when it last was there is not forgotten */
    s->beat.us = 0;
    model_absorb(m, s, mono_of(T0 + 2 * S));
    assert_int_equal(model_fresh(m, mono_of(T0 + 2 * S), 2000).age_us, 43 * S);
    s = sample_at(T0 + 4 * S);
    s->state = SOURCE_EMPTY;
    model_absorb(m, s, mono_of(T0 + 4 * S));
    assert_int_equal(fresh_at(m, T0 + 4 * S), FRESH_EMPTY);
    model_free(m);
}

static void test_stale_rates_are_unknown_and_percentiles_stay(void **state)
{
    struct model *m = model_new(mono_of(T0));
    struct sample *s = sample_at(T0 + 5 * S);
    struct scope scope = {
        .view = VIEW_PROVIDERS, .provider = "", .span_us = 600 * S, .now = {T0 + 70 * S}, .is_stale = true};
    struct look look;
    struct table t;

    (void)state;
    add_slice(s, "p", "", T0, 4 * S, 40, 0, 100);
    model_absorb(m, s, mono_of(T0 + 5 * S));
    look_init(&look, VIEW_PROVIDERS);
    table_build(&t, m, &scope, &look);
    assert_int_equal(t.lines.v[0].v[column_place(COL_PROVIDERS_requests_per_s)].kind, VALUE_NONE);
    assert_int_equal(t.lines.v[0].v[column_place(COL_PROVIDERS_cost_usd_per_h)].kind, VALUE_NONE);
    assert_near(t.lines.v[0].v[column_place(COL_PROVIDERS_latency_p95_ms)].n, 100);
    table_release(&t);
    model_free(m);
}

/* ---- order and trees ------------------------------------------------------------------------------------------------- */

static void add_budget(struct sample *s, const char *account, int64_t spent, int64_t limit)
{
    struct sample_budget *b = sample_budget_add(s);

    (void)snprintf(b->account, sizeof(b->account), "%s", account);
    b->spent_nano = spent;
    b->limit_nano = limit;
}

static void names_of(const struct table *t, char *dst, size_t cap)
{
    size_t n = 0;

    dst[0] = '\0';
    for (size_t i = 0; i < t->lines.n && n < cap; i++)
        n += (size_t)snprintf(dst + n, cap - n, "%s%s", i ? " " : "", t->lines.v[i].key);
}

static void test_unknown_comes_last_in_either_direction(void **state)
{
    struct model *m = model_new(mono_of(T0));
    struct sample *s = sample_at(T0);
    struct scope scope = {.view = VIEW_PROVIDERS, .provider = "", .span_us = S, .now = {T0}};
    struct look look;
    struct table t;
    char names[200];

    (void)state;
    sample_row_of(s, "low", "")->score = 10;
    sample_row_of(s, "none", "");
    sample_row_of(s, "high", "")->score = 90;
    model_absorb(m, s, mono_of(T0));
    look_init(&look, VIEW_PROVIDERS);
    table_build(&t, m, &scope, &look);
    names_of(&t, names, sizeof(names));
    assert_string_equal(names, "high low none");
    table_release(&t);
    look.is_reversed = false;
    table_build(&t, m, &scope, &look);
    names_of(&t, names, sizeof(names));
    assert_string_equal(names, "low high none");
    table_release(&t);
    model_free(m);
}

static void test_keys_stay_below_their_tenant(void **state)
{
    struct model *m = model_new(mono_of(T0));
    struct sample *s = sample_at(T0);
    struct scope scope = {.view = VIEW_TENANTS, .provider = "", .span_us = S, .now = {T0}};
    struct look look;
    struct table t;
    char names[200];

    (void)state;
    s->has |= HAS_BUDGETS;
    add_budget(s, "key:acme/a", 1, 100);
    add_budget(s, "key:acme/b", 99, 100);
    add_budget(s, "tenant:acme", 50, 100);
    add_budget(s, "tenant:globex", 60, 100);
    add_budget(s, "key:acmex/c", 99, 100);
    model_absorb(m, s, mono_of(T0));
    look_init(&look, VIEW_TENANTS);
    table_build(&t, m, &scope, &look);
    names_of(&t, names, sizeof(names));
    assert_string_equal(names, "globex acme acmex");
    assert_int_equal(t.lines.v[1].n_children, 2);
    table_release(&t);
    look.all_open = true;
    table_build(&t, m, &scope, &look);
    names_of(&t, names, sizeof(names));
    assert_string_equal(names, "globex acme acme/b acme/a acmex acmex/c");
    table_release(&t);
    look.is_tree = false;
    table_build(&t, m, &scope, &look);
    names_of(&t, names, sizeof(names));
    assert_string_equal(names, "acme/b acmex/c globex acme acme/a acmex");
    table_release(&t);
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rates_are_of_the_last_minute_and_the_rest_of_five),
        cmocka_unit_test(test_a_span_that_was_read_again_replaces_what_was_known),
        cmocka_unit_test(test_what_nobody_read_is_unknown_and_not_silence),
        cmocka_unit_test(test_sums_since_some_start_become_rates_and_a_restart_none),
        cmocka_unit_test(test_series_show_absence_as_absence),
        cmocka_unit_test(test_a_late_tick_is_slow_and_a_lost_connection_is_stale),
        cmocka_unit_test(test_a_store_that_nobody_writes_to_is_told_apart),
        cmocka_unit_test(test_stale_rates_are_unknown_and_percentiles_stay),
        cmocka_unit_test(test_unknown_comes_last_in_either_direction),
        cmocka_unit_test(test_keys_stay_below_their_tenant),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
