/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/libshared/analytics/books_fixture.h"

static struct db *fresh(void)
{
    struct db *db = open_db();

    assert_ok(db_migrate(db, &why));
    next_seq = 1;
    return db;
}

struct seen {
    unsigned n;
    char where[256], measure[32];
    int64_t ledger, other;
};

static void note(void *user, const struct reconcile_line *l)
{
    struct seen *s = user;

    s->n++;
    (void)snprintf(s->where, sizeof(s->where), "%s", l->where);
    (void)snprintf(s->measure, sizeof(s->measure), "%s", l->measure);
    s->ledger = l->ledger;
    s->other = l->other;
}

static struct reconcile_options books(struct db *db, struct seen *seen)
{
    *seen = (struct seen){0};
    return (struct reconcile_options){
        .db = db, .now = CLOCK(6 * 3600), .fn = note, .user = seen, .retention_us = 24 * 3600 * SECOND_US};
}

static struct reconcile_result compare(const struct reconcile_options *o)
{
    struct reconcile_result r;

    assert_ok(reconcile_run(o, &r, &why));
    return r;
}

static void put_window(struct db *db, const char *account, const char *period, const char *id, int64_t posted,
                       int64_t ends_at)
{
    struct db_value v[] = {db_textz(account), db_textz(period), db_textz(id),
                           db_int(posted),    db_int(7),        ends_at ? db_int(ends_at) : db_null(),
                           db_int(1)};

    assert_ok(db_insert(db, "test", "budget_windows",
                        "account,period,window_id,posted_nano,held_nano,ends_at,updated_at", v, 7, 1, "",
                        &why));
}

static void test_a_clean_ledger_agrees_with_itself(void **state)
{
    struct db *db = fresh();
    struct seen seen;
    struct reconcile_options o = books(db, &seen);
    struct reconcile_result r;

    (void)state;
    put_traffic(db, H0, 30);
    put_traffic(db, H0 + 3600, 30);
    r = compare(&o);
    assert_true(r.pairs[RECONCILE_LEDGER_SELF].is_known);
    assert_int_equal(r.pairs[RECONCILE_LEDGER_SELF].compared, 2);
    assert_int_equal(seen.n, 0);
    put_line(db, (struct line){.kind = "attempt",
                               .provider = "openai",
                               .model = "gpt-4o",
                               .outcome = "success",
                               .minute = H0 + 60,
                               .cost = 123});
    r = compare(&o);
    assert_int_equal(r.pairs[RECONCILE_LEDGER_SELF].different, 1);
    assert_int_equal(r.pairs[RECONCILE_LEDGER_SELF].drift, 123);
    assert_string_equal(seen.measure, "cost_nano");
    assert_non_null(strstr(seen.where, "tenant:acme key:web"));
    db_free(db);
}

static void test_hourly_rows_follow_the_ledger_again(void **state)
{
    struct db *db = fresh();
    struct aggregate_options roll_up = at(db, 6 * 3600);
    struct seen seen;
    struct reconcile_options o = books(db, &seen);
    struct reconcile_result r;
    unsigned changed = 0;

    (void)state;
    put_traffic(db, H0, 30);
    put_traffic(db, H0 + 3600, 30);
    (void)roll(&roll_up);
    r = compare(&o);
    assert_int_equal(r.pairs[RECONCILE_LEDGER_HOURLY].compared, 8);
    assert_int_equal(r.pairs[RECONCILE_LEDGER_HOURLY].different, 0);
    assert_ok(sql(db,
                  "UPDATE metrics_hourly_aggregates SET cost_nano = cost_nano + 5 WHERE provider = 'groq' "
                  "AND model = 'gpt-4o'"));
    r = compare(&o);
    assert_int_equal(r.pairs[RECONCILE_LEDGER_HOURLY].different, 2);
    assert_int_equal(r.pairs[RECONCILE_LEDGER_HOURLY].drift, 10);
    assert_int_equal(seen.other - seen.ledger, 5);
    assert_ok(reconcile_repair(&o, RECONCILE_LEDGER_HOURLY, true, &changed, &why));
    assert_int_equal(changed, 2);
    assert_int_equal(compare(&o).pairs[RECONCILE_LEDGER_HOURLY].different, 2);
    assert_ok(reconcile_repair(&o, RECONCILE_LEDGER_HOURLY, false, &changed, &why));
    assert_int_equal(compare(&o).pairs[RECONCILE_LEDGER_HOURLY].different, 0);
    db_free(db);
}

static void test_the_ledger_is_never_repaired(void **state)
{
    struct db *db = fresh();
    struct seen seen;
    struct reconcile_options o = books(db, &seen);
    unsigned changed;

    (void)state;
    assert_int_equal(reconcile_repair(&o, RECONCILE_LEDGER_SELF, false, &changed, &why), ERR_BAD_REQUEST);
    db_free(db);
}

static void test_budget_windows_follow_the_ledger(void **state)
{
    struct db *db = fresh();
    struct seen seen;
    struct reconcile_options o = books(db, &seen);
    struct wall noon = CLOCK(60);
    char month[PERIOD_WINDOW_CAP], day[PERIOD_WINDOW_CAP];
    int64_t month_end = period_end(PERIOD_MONTH, noon).us / 1000000,
            day_end = period_end(PERIOD_DAY, noon).us / 1000000;
    struct reconcile_result r;
    unsigned changed = 0;

    (void)state;
    (void)period_window(PERIOD_MONTH, noon, month);
    (void)period_window(PERIOD_DAY, noon, day);
    put_request(db, H0 + 60, "openai", "gpt-4o", 2, 0); /* 2000 */
    put_line(db, (struct line){.kind = "adjust",
                               .provider = "openai",
                               .model = "gpt-4o",
                               .outcome = "",
                               .minute = H0 + 120,
                               .cost = -400});
    put_window(db, "global", "month", month, 1600, month_end);
    put_window(db, "key:acme/web", "total", "total", 1600, 0);
    /* The tenant's budget is a day's, its correction went by the month. */
    put_window(db, "tenant:acme", "month", month, -400, month_end);
    put_window(db, "tenant:acme", "day", day, 2000, day_end);
    r = compare(&o);
    assert_int_equal(r.pairs[RECONCILE_LEDGER_BUDGETS].compared, 3);
    assert_int_equal(r.pairs[RECONCILE_LEDGER_BUDGETS].different, 0);
    assert_ok(sql(db, "UPDATE budget_windows SET posted_nano = posted_nano + 11 WHERE account <> 'global'"));
    r = compare(&o);
    assert_int_equal(r.pairs[RECONCILE_LEDGER_BUDGETS].different, 2);
    assert_int_equal(r.pairs[RECONCILE_LEDGER_BUDGETS].drift, 11 + 22);
    assert_non_null(strstr(seen.where, "(held "));
    assert_ok(reconcile_repair(&o, RECONCILE_LEDGER_BUDGETS, true, &changed, &why));
    assert_int_equal(changed, 2);
    assert_int_equal(compare(&o).pairs[RECONCILE_LEDGER_BUDGETS].different, 2);
    assert_ok(reconcile_repair(&o, RECONCILE_LEDGER_BUDGETS, false, &changed, &why));
    assert_int_equal(compare(&o).pairs[RECONCILE_LEDGER_BUDGETS].different, 0);
    assert_int_equal(number(db, "SELECT posted_nano FROM budget_windows WHERE account = 'key:acme/web'"),
                     1600);
    db_free(db);
}

/* ---- the realtime store -------------------------------------------------------------------------------------------- */

static void put_mark(struct db *db, const char *positions)
{
    struct db_value v[] = {db_textz("i1"), db_int(1), db_int(1), db_textz(positions), db_int(H0 + 6 * 3600)};

    assert_ok(db_exec(db, "test", "DELETE FROM journal_watermarks", NULL, 0, NULL, &why));
    assert_ok(db_insert(db, "test", "journal_watermarks", "instance,batch,token,positions,updated_at", v, 5,
                        1, "", &why));
}

static void add_to_redis(struct kv *kv, const struct watermark *from, const struct watermark *mark,
                         const char *model, int64_t cost)
{
    struct kv_batch *b = kv_batch_new();
    char key[KV_KEY_CAP];

    kv_key_hour(key, CLOCK(60), "openai", model);
    kv_batch_add(b, key, "req", 1);
    kv_batch_add(b, key, "attempts", 1);
    kv_batch_add(b, key, "ok", 1);
    kv_batch_add(b, key, "tin", 10);
    kv_batch_add(b, key, "tout", 5);
    kv_batch_add(b, key, "cost_nano", cost);
    kv_batch_add(b, key, "lat_us", 1000);
    kv_batch_add(b, key, "ttfb_us", 500);
    kv_batch_add(b, key, "ttfb_n", 1);
    kv_batch_add(b, key, "b315", 1);
    kv_batch_expire(b, key, 40000, false);
    assert_int_equal(kv_apply(kv, "i1", from, mark, b, &why), STORE_APPLIED);
    kv_batch_free(b);
}

static struct kv *put_redis(struct watermark *mark, int64_t cost)
{
    struct kv *kv = kv_new(&(struct kv_options){.url = ""}, &why);
    struct watermark none = {0};

    assert_non_null(kv);
    assert_int_equal(kv_begin(kv, &why), ERR_OK);
    add_to_redis(kv, &none, mark, "gpt-4o", cost);
    return kv;
}

static void test_hours_of_redis_are_compared_where_both_stores_stand_level(void **state)
{
    struct db *db = fresh();
    struct seen seen;
    struct reconcile_options o = books(db, &seen);
    struct watermark mark = {.batch = 9, .token = 4, .n = 1, .at = {50}};
    struct reconcile_result r;
    unsigned changed;

    (void)state;
    put_request(db, H0 + 60, "openai", "gpt-4o", 1, 0);
    r = compare(&o);
    assert_false(r.pairs[RECONCILE_LEDGER_REDIS].is_known);
    o.kv = put_redis(&mark, 1000);
    put_mark(db, "0:50");
    r = compare(&o);
    assert_true(r.pairs[RECONCILE_LEDGER_REDIS].is_known);
    assert_int_equal(r.pairs[RECONCILE_LEDGER_REDIS].compared, 1);
    assert_int_equal(r.pairs[RECONCILE_LEDGER_REDIS].different, 0);
    kv_free(o.kv);
    o.kv = put_redis(&mark, 1001);
    r = compare(&o);
    assert_int_equal(r.pairs[RECONCILE_LEDGER_REDIS].different, 1);
    assert_int_equal(r.pairs[RECONCILE_LEDGER_REDIS].drift, 1);
    assert_ok(reconcile_repair(&o, RECONCILE_LEDGER_REDIS, false, &changed, &why));
    assert_int_equal(changed, 1);
    r = compare(&o);
    assert_true(r.pairs[RECONCILE_LEDGER_REDIS].is_known);
    assert_int_equal(r.pairs[RECONCILE_LEDGER_REDIS].different, 0);
    kv_free(o.kv);
    db_free(db);
}

static void test_a_store_that_is_behind_is_not_drift(void **state)
{
    struct db *db = fresh();
    struct seen seen;
    struct reconcile_options o = books(db, &seen);
    struct watermark mark = {.batch = 9, .token = 4, .n = 1, .at = {49}};

    (void)state;
    put_request(db, H0 + 60, "openai", "gpt-4o", 1, 0);
    put_mark(db, "0:50");
    o.kv = put_redis(&mark, 999);
    assert_false(compare(&o).pairs[RECONCILE_LEDGER_REDIS].is_known);
    assert_int_equal(seen.n, 0);
    kv_free(o.kv);
    db_free(db);
}

/* Of a request that the last run left open, say: it ended in an hour that is closed. */
struct late {
    struct db *db;
    struct kv *kv;
    const char *model;
    bool is_done;
};

static enum err_code come_late(void *user, const char *what)
{
    struct watermark from = {.batch = 9, .token = 4, .n = 1, .at = {50}}, next = from;
    struct late *l = user;

    if (l->is_done || strcmp(what, "rollup_ledger") != 0)
        return ERR_OK;
    l->is_done = true;
    next.batch++;
    next.at[0]++;
    put_request(l->db, H0 + 60, "openai", l->model, 1, 0);
    put_mark(l->db, "0:51");
    add_to_redis(l->kv, &from, &next, l->model, 1000);
    return ERR_OK;
}

static void test_a_batch_between_two_readings_is_not_drift(void **state)
{
    static const char *const MODELS[] = {"gpt-4o",
                                         "o3"}; /* one that Redis has, and one that it has not yet */

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(MODELS); i++) {
        struct db *db = fresh();
        struct seen seen;
        struct reconcile_options o = books(db, &seen);
        struct watermark mark = {.batch = 9, .token = 4, .n = 1, .at = {50}};
        struct late late = {.db = db_share(db), .model = MODELS[i]};
        struct db_fault fault = {.before = come_late, .user = &late};

        assert_ok(sql(db, "DELETE FROM ledger"));
        assert_ok(sql(db, "DELETE FROM minute_sketches"));
        put_request(db, H0 + 60, "openai", "gpt-4o", 1, 0);
        put_mark(db, "0:50");
        o.kv = late.kv = put_redis(&mark, 1000);
        db_set_fault(db, &fault);
        assert_int_equal(compare(&o).pairs[RECONCILE_LEDGER_REDIS].different, 0);
        assert_true(late.is_done);
        assert_int_equal(compare(&o).pairs[RECONCILE_LEDGER_REDIS].different, 0);
        db_free(late.db);
        db_free(db);
        kv_free(o.kv);
    }
}

static const struct CMUnitTest TESTS[] = {
    each_test(test_a_clean_ledger_agrees_with_itself),
    each_test(test_hourly_rows_follow_the_ledger_again),
    each_test(test_the_ledger_is_never_repaired),
    each_test(test_budget_windows_follow_the_ledger),
    each_test(test_hours_of_redis_are_compared_where_both_stores_stand_level),
    each_test(test_a_store_that_is_behind_is_not_drift),
    each_test(test_a_batch_between_two_readings_is_not_drift),
};

int main(void)
{
    int failed = cmocka_run_group_tests_name("reconcile, sqlite", TESTS, sqlite_group, NULL);

    if (postgres_starts())
        failed +=
            cmocka_run_group_tests_name("reconcile, postgres", TESTS, postgres_group, postgres_group_end);
    return failed;
}
