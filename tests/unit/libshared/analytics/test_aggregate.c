/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/libshared/analytics/books_fixture.h"

#include <pthread.h>

static struct db *fresh(void)
{
    struct db *db = open_db();

    assert_ok(db_migrate(db, &why));
    next_seq = 1;
    return db;
}

/* ---- what a row is ------------------------------------------------------------------------------------------------- */

static void test_a_row_is_the_sum_of_its_ledger_lines(void **state)
{
    struct db *db = fresh();
    struct aggregate_options o = at(db, 3 * 3600);

    (void)state;
    put_traffic(db, H0, 60);
    assert_int_equal(roll(&o).hours, 1);
    /* 60 requests; every second one has two attempts, the first of which failed. */
    assert_int_equal(number(db, "SELECT CAST(sum(req) AS bigint) FROM metrics_hourly_aggregates"), 60);
    assert_int_equal(number(db, "SELECT CAST(sum(attempts) AS bigint) FROM metrics_hourly_aggregates"), 90);
    assert_int_equal(number(db, "SELECT CAST(sum(ok) AS bigint) FROM metrics_hourly_aggregates"), 60);
    assert_int_equal(number(db, "SELECT CAST(sum(err) AS bigint) FROM metrics_hourly_aggregates"), 30);
    assert_int_equal(number(db, "SELECT CAST(sum(cost_nano) AS bigint) FROM metrics_hourly_aggregates"),
                     number(db, "SELECT CAST(sum(cost_nano) AS bigint) FROM ledger WHERE kind = 'attempt'"));
    assert_int_equal(number(db, "SELECT count(*) FROM metrics_hourly_aggregates WHERE provider = ''"), 0);
    assert_int_equal(number(db, "SELECT count(*) FROM metrics_hourly_aggregates"), 4);
    assert_int_equal(
        number(db, "SELECT count(*) FROM metrics_hourly_aggregates WHERE p50_ms > 0 AND p50_ms <= p95_ms "
                   "AND p95_ms <= p99_ms"),
        4);
    db_free(db);
}

static void test_a_correction_changes_the_cost_and_nothing_else(void **state)
{
    struct db *db = fresh();
    struct aggregate_options o = at(db, 3 * 3600);

    (void)state;
    put_request(db, H0 + 60, "openai", "gpt-4o", 1, 0);
    put_line(db, (struct line){.kind = "adjust",
                               .provider = "openai",
                               .model = "gpt-4o",
                               .outcome = "",
                               .minute = H0 + 120,
                               .cost = -400});
    (void)roll(&o);
    assert_int_equal(number(db, "SELECT cost_nano FROM metrics_hourly_aggregates"), 600);
    assert_int_equal(number(db, "SELECT attempts FROM metrics_hourly_aggregates"), 1);
    db_free(db);
}

/* ---- which hours --------------------------------------------------------------------------------------------------- */

static void test_only_closed_hours_are_stored(void **state)
{
    struct db *db = fresh();
    struct aggregate_options o = at(db, 2 * 3600 + 60);

    (void)state;
    put_traffic(db, H0, 6);
    put_traffic(db, H0 + 3600, 6);
    put_traffic(db, H0 + 7200, 6);
    assert_int_equal(roll(&o).hours,
                     1); /* the second one is over, but its last batches may be on their way */
    o.now = CLOCK(2 * 3600 + 121);
    assert_int_equal(roll(&o).hours, 1);
    assert_int_equal(roll(&o).hours, 0);
    assert_int_equal(number(db, "SELECT count(*) FROM aggregated_hours"), 2);
    db_free(db);
}

static void test_doing_it_twice_changes_nothing(void **state)
{
    struct db *db = fresh();
    struct aggregate_options o = at(db, 3 * 3600);
    struct buf once AUTO(buf_release) = {0}, twice AUTO(buf_release) = {0};

    (void)state;
    put_traffic(db, H0, 50);
    (void)roll(&o);
    rows_text(db, &once);
    o.from_hour = o.to_hour = H0;
    o.now = CLOCK(9 * 3600);
    assert_int_equal(roll(&o).hours, 1);
    rows_text(db, &twice);
    assert_true(once.len > 500);
    assert_string_equal(once.p, twice.p);
    db_free(db);
}

static void mark_dirty(struct db *db, int64_t hour)
{
    struct db_value p = db_int(hour);

    assert_ok(db_exec(db, "test", "INSERT INTO dirty_hours (hour, since) VALUES ($1, 1)", &p, 1, NULL, &why));
}

static void test_late_rows_are_counted_once_their_hour_is_marked(void **state)
{
    struct db *db = fresh();
    struct aggregate_options o = at(db, 3 * 3600);
    struct buf late AUTO(buf_release) = {0}, whole AUTO(buf_release) = {0};

    (void)state;
    put_traffic(db, H0, 20);
    (void)roll(&o);
    put_request(db, H0 + 3599, "openai", "gpt-4o", 2, 77);
    assert_int_equal(roll(&o).hours, 0);
    mark_dirty(db, H0);
    assert_int_equal(roll(&o).dirty, 1);
    assert_int_equal(number(db, "SELECT count(*) FROM dirty_hours"), 0);
    rows_text(db, &late);
    assert_ok(sql(db, "DELETE FROM metrics_hourly_aggregates"));
    assert_ok(sql(db, "DELETE FROM aggregated_hours"));
    (void)roll(&o);
    rows_text(db, &whole);
    assert_string_equal(late.p, whole.p);
    db_free(db);
}

static void test_a_clock_that_steps_back_leaves_stored_hours_alone(void **state)
{
    struct db *db = fresh();
    struct aggregate_options o = at(db, 5 * 3600);
    struct buf before AUTO(buf_release) = {0}, after AUTO(buf_release) = {0};

    (void)state;
    for (int h = 0; h < 3; h++)
        put_traffic(db, H0 + h * 3600, 9);
    assert_int_equal(roll(&o).hours, 3);
    rows_text(db, &before);
    put_traffic(db, H0 + 4 * 3600, 9); /* of the future, as the clock now says */
    mark_dirty(db, H0 + 2 * 3600);
    o.now = CLOCK(3600 + 600);
    assert_int_equal(roll(&o).hours, 0);
    rows_text(db, &after);
    assert_string_equal(before.p, after.p);
    assert_int_equal(number(db, "SELECT count(*) FROM dirty_hours"), 1);
    o.now = CLOCK(6 * 3600);
    assert_int_equal(roll(&o).hours, 2);
    db_free(db);
}

/* Hours are UTC: the day on which New York's clocks go back has 25 hours there and 24 rows here, as every day. */
static void test_a_day_on_which_clocks_change_has_24_hours(void **state)
{
    static const int64_t DAYS[] = {1772928000, 1793491200}; /* 2026-03-08, 2026-11-01: New York */
    struct db *db = fresh();

    (void)state;
    assert_int_equal(setenv("TZ", "America/New_York", 1), 0);
    tzset();
    for (unsigned d = 0; d < ARRAY_LEN(DAYS); d++) {
        struct aggregate_options o = {
            .db = db, .source = AGGREGATE_LEDGER, .now = {(DAYS[d] + 30 * 3600) * 1000000}};

        for (int64_t s = 0; s < 86400; s += 900)
            put_request(db, DAYS[d] + s, "openai", "gpt-4o", 1, s / 900);
        assert_int_equal(roll(&o).hours, 24);
    }
    assert_int_equal(number(db, "SELECT count(*) FROM metrics_hourly_aggregates"), 48);
    assert_int_equal(
        number(db, "SELECT count(*) FROM metrics_hourly_aggregates WHERE req = 4 AND attempts = 4"), 48);
    assert_int_equal(unsetenv("TZ"), 0);
    tzset();
    db_free(db);
}

static void test_hours_by_name_refuse_what_is_gone(void **state)
{
    struct db *db = fresh();
    struct aggregate_options o = at(db, 10 * 3600);
    struct aggregate_result r;

    (void)state;
    put_traffic(db, H0 + 2 * 3600, 5);
    put_traffic(db, H0 + 4 * 3600, 5);
    o.from_hour = H0;
    o.to_hour = H0 + 5 * 3600;
    assert_int_equal(aggregate_run(&o, &r, &why), ERR_CONFLICT);
    assert_int_equal(r.missing_hours, 2); /* before the ledger begins */
    assert_int_equal(number(db, "SELECT count(*) FROM aggregated_hours"), 0);
    o.allow_gaps = true;
    assert_int_equal(roll(&o).hours, 6);
    assert_int_equal(number(db, "SELECT count(*) FROM aggregated_hours WHERE rows_stored = 0"), 4);
    db_free(db);
}

static void test_a_dry_run_stores_nothing(void **state)
{
    struct db *db = fresh();
    struct aggregate_options o = at(db, 3 * 3600);
    struct aggregate_result r;

    (void)state;
    put_traffic(db, H0, 12);
    o.is_dry_run = true;
    r = roll(&o);
    assert_int_equal(r.hours, 1);
    assert_int_equal(r.rows, 4);
    assert_int_equal(number(db, "SELECT count(*) FROM metrics_hourly_aggregates"), 0);
    assert_int_equal(number(db, "SELECT count(*) FROM aggregation_runs"), 0);
    db_free(db);
}

/* ---- cut short ----------------------------------------------------------------------------------------------------- */

struct fuse {
    int left; /* statements until it blows */
    bool is_after;
};

static enum err_code burn(struct fuse *f)
{
    return --f->left == 0 ? ERR_IO : ERR_OK;
}
static enum err_code before_one(void *user, const char *label)
{
    struct fuse *f = user;

    (void)label;
    return f->is_after ? ERR_OK : burn(f);
}
static enum err_code after_one(void *user, const char *label)
{
    struct fuse *f = user;

    (void)label;
    return f->is_after ? burn(f) : ERR_OK;
}

static void test_cut_short_at_any_statement_the_next_run_gives_the_same_rows(void **state)
{
    struct buf want AUTO(buf_release) = {0}, got AUTO(buf_release) = {0};
    struct db *db = fresh();
    struct aggregate_options o = at(db, 4 * 3600);
    int cut = 0;

    (void)state;
    put_traffic(db, H0, 16);
    put_traffic(db, H0 + 3600, 16);
    (void)roll(&o);
    rows_text(db, &want);
    for (int step = 1; step < 80; step++) {
        struct fuse fuse = {.left = step / 2 + 1, .is_after = step % 2};
        struct db_fault fault = {before_one, after_one, &fuse};
        struct aggregate_result r;
        enum err_code e;

        assert_ok(sql(db, "DELETE FROM metrics_hourly_aggregates"));
        assert_ok(sql(db, "DELETE FROM aggregated_hours"));
        mark_dirty(db, H0);
        db_set_fault(db, &fault);
        e = aggregate_run(&o, &r, &why);
        db_set_fault(db, NULL);
        cut += e != ERR_OK;
        assert_int_equal(number(db, "SELECT count(*) FROM metrics_hourly_aggregates WHERE NOT EXISTS "
                                    "(SELECT 1 FROM aggregated_hours)"),
                         0);
        (void)roll(&o);
        rows_text(db, &got);
        assert_string_equal(want.p, got.p);
        assert_int_equal(number(db, "SELECT count(*) FROM dirty_hours"), 0);
    }
    assert_true(cut >= 30);
    assert_int_equal(number(db, "SELECT count(*) FROM aggregation_runs WHERE result = 'running'"), 0);
    db_free(db);
}

/* ---- two at once --------------------------------------------------------------------------------------------------- */

struct racer {
    struct db *db;
    int runs, locked;
};

static void *race(void *arg)
{
    struct racer *r = arg;
    struct err err = {0};

    for (int i = 0; i < 10; i++) {
        struct aggregate_options o = at(r->db, 4 * 3600);
        struct aggregate_result result;

        o.from_hour = H0;
        o.to_hour = H0 + 3600;
        o.lock_wait_us = i % 2 ? 2 * SECOND_US : 0;
        assert_int_equal(aggregate_run(&o, &result, &err), ERR_OK);
        r->runs += !result.was_locked;
        r->locked += result.was_locked;
    }
    return NULL;
}

static void test_two_at_once_give_the_same_rows(void **state)
{
    struct buf want AUTO(buf_release) = {0}, got AUTO(buf_release) = {0};
    struct db *db = fresh();
    struct aggregate_options o = at(db, 4 * 3600);
    struct racer racers[2] = {{.db = db_share(db)}, {.db = db_share(db)}};
    pthread_t threads[2];

    (void)state;
    put_traffic(db, H0, 16);
    put_traffic(db, H0 + 3600, 16);
    (void)roll(&o);
    rows_text(db, &want);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        db_free(racers[i].db);
    }
    assert_true(racers[0].runs + racers[1].runs >= 10);
    rows_text(db, &got);
    assert_string_equal(want.p, got.p);
    db_free(db);
}

/* ---- from the realtime store --------------------------------------------------------------------------------------- */

static bool put_bucket(struct kv_batch *b, const char *key, int64_t us)
{
    char field[16];

    (void)snprintf(field, sizeof(field), "b%u", sketch_bucket((uint64_t)us));
    kv_batch_add(b, key, field, 1);
    return true;
}

struct copying {
    struct kv_batch *batch;
};

/* What a gateway would have written for the ledger's line, said independently of how the roll-up reads it. */
static bool copy_line(void *user, const struct db_value *v, unsigned n)
{
    struct kv_batch *b = user;
    char key[KV_KEY_CAP], provider[128], model[128];
    bool is_attempt = span_is(v[0].s, "attempt");

    assert_int_equal(n, 8);
    if (!v[2].s.len)
        return true;
    (void)span_copy(provider, sizeof(provider), v[2].s);
    (void)span_copy(model, sizeof(model), v[3].s);
    kv_key_hour(key, (struct wall){v[1].i * 1000000}, provider, model);
    kv_batch_index(b, KV_HOURS, "2026-10-31T00", v[1].i / 3600 * 3600);
    kv_batch_expire(b, KV_HOURS, 40000, false);
    if (!is_attempt) {
        kv_batch_add(b, key, "req", 1);
    } else {
        kv_batch_add(b, key, "attempts", 1);
        kv_batch_add(b, key, span_is(v[4].s, "success") ? "ok" : "err", 1);
        kv_batch_add(b, key, "tin", v[5].i);
        kv_batch_add(b, key, "tout", 5);
        kv_batch_add(b, key, "cost_nano", v[6].i);
        kv_batch_add(b, key, "lat_us", v[7].i);
        kv_batch_add(b, key, "ttfb_us", v[7].i / 2);
        kv_batch_add(b, key, "ttfb_n", 1);
        (void)put_bucket(b, key, v[7].i);
    }
    kv_batch_expire(b, key, 4000, false);
    return true;
}

static struct kv *copy_to_redis(struct db *db)
{
    struct kv *kv = kv_new(&(struct kv_options){.url = ""}, &why);
    struct kv_batch *b = kv_batch_new();

    assert_non_null(kv);
    assert_ok(db_query(
        db, "test",
        "SELECT kind, minute, provider, model, outcome, tokens_in, cost_nano, latency_us FROM ledger", NULL,
        0, copy_line, b, &why));
    assert_ok(kv_write(kv, b, &why));
    kv_batch_free(b);
    return kv;
}

static void test_the_realtime_store_gives_the_same_rows(void **state)
{
    struct buf want AUTO(buf_release) = {0}, got AUTO(buf_release) = {0};
    struct db *db = fresh();
    struct aggregate_options o = at(db, 3 * 3600);
    struct aggregate_result r;

    (void)state;
    put_traffic(db, H0, 40);
    (void)roll(&o);
    rows_text(db, &want);
    o.kv = copy_to_redis(db);
    o.source = AGGREGATE_AUTO;
    o.retention_us = 8 * 3600 * SECOND_US;
    assert_ok(sql(db, "DELETE FROM metrics_hourly_aggregates"));
    assert_ok(sql(db, "DELETE FROM aggregated_hours"));
    assert_ok(sql(db, "DELETE FROM ledger"));
    assert_ok(sql(db, "DELETE FROM minute_sketches"));
    r = roll(&o);
    assert_int_equal(r.source, AGGREGATE_REDIS);
    assert_int_equal(r.hours, 1);
    rows_text(db, &got);
    assert_string_equal(want.p, got.p);
    assert_int_equal(number(db, "SELECT count(*) FROM metrics_hourly_aggregates WHERE source = 'redis'"), 4);
    kv_free(o.kv);
    db_free(db);
}

static void test_an_hour_that_cannot_be_read_does_not_hold_up_the_others(void **state)
{
    struct db *db = fresh();
    struct aggregate_options o = at(db, 4 * 3600);
    struct aggregate_result r;

    (void)state;
    put_traffic(db, H0, 10);
    assert_ok(sql(db, "UPDATE minute_sketches SET sketch = substr(sketch, 1, 1)"));
    put_traffic(db, H0 + 3600, 10);
    assert_int_not_equal(aggregate_run(&o, &r, &why), ERR_OK);
    assert_non_null(strstr(err_text(&why), "is damaged"));
    assert_int_equal(number(db, "SELECT hour FROM aggregated_hours"), H0 + 3600);
    db_free(db);
}

static void test_status_says_when_data_is_lost(void **state)
{
    struct db *db = fresh();
    struct aggregate_options o = at(db, 3 * 3600);
    struct aggregate_status s;

    (void)state;
    put_traffic(db, H0, 10);
    assert_ok(aggregate_status(&o, &s, &why));
    assert_true(s.is_ledger_complete);
    assert_int_equal(s.missing_hours, 1);
    assert_int_equal(s.oldest_missing, H0);
    assert_int_equal(s.loss_at.us, 0);
    o.kv = copy_to_redis(db);
    o.source = AGGREGATE_REDIS;
    assert_ok(aggregate_status(&o, &s, &why));
    assert_false(s.is_ledger_complete);
    assert_int_equal(s.missing_hours, 1);
    assert_true(s.loss_at.us > o.now.us + 3990 * SECOND_US && s.loss_at.us <= o.now.us + 4000 * SECOND_US);
    (void)roll(&o);
    assert_ok(aggregate_status(&o, &s, &why));
    assert_int_equal(s.missing_hours, 0);
    assert_int_equal(s.loss_at.us, 0);
    assert_string_equal(s.last_result, "ok");
    assert_string_equal(s.last_source, "redis");
    kv_free(o.kv);
    db_free(db);
}

static void test_leftovers_go_and_hours_that_are_not_stored_stay(void **state)
{
    struct db *db = fresh();
    struct aggregate_options o = at(db, 30 * 3600);
    struct aggregate_result r;

    (void)state;
    put_traffic(db, H0, 10);
    o.kv = copy_to_redis(db);
    assert_ok(sql(db, "DELETE FROM ledger"));
    o.source = AGGREGATE_REDIS;
    o.retention_us = 4 * 3600 * SECOND_US;
    r = roll(&o); /* stores the hour first, and then may clean it up */
    assert_int_equal(r.hours, 1);
    assert_int_equal(r.keys_removed, 4);
    assert_int_equal(roll(&o).keys_removed, 0);
    kv_free(o.kv);
    db_free(db);
}

/* ---- a realtime store that was emptied ----------------------------------------------------------------------------- */

struct one_op {
    struct kv *kv;
    const char *provider, *model;
    int64_t hour, cost; /* cost 0: the hash goes */
};

static void do_op(const struct one_op *op)
{
    struct kv_batch *b = kv_batch_new();
    char key[KV_KEY_CAP];

    kv_key_hour(key, (struct wall){op->hour * 1000000}, op->provider, op->model);
    if (op->cost)
        kv_batch_add(b, key, "cost_nano", op->cost);
    else
        kv_batch_delete(b, key);
    if (op->cost)
        kv_batch_expire(b, key, 4000, false);
    assert_ok(kv_write(op->kv, b, &why));
    kv_batch_free(b);
}

static void op_after_an_hour(void *user, int64_t hour, unsigned done, unsigned of, unsigned rows)
{
    (void)hour;
    (void)of;
    (void)rows;
    if (done == 1)
        do_op(user);
}

/* A database that no gateway writes to, and what Redis has of `hours` hours. */
static struct db *from_redis_only(int hours, struct aggregate_options *o)
{
    struct db *db = fresh();

    *o = at(db, (hours + 2) * 3600);
    for (int h = 0; h < hours; h++)
        put_traffic(db, H0 + h * 3600, 12);
    o->kv = copy_to_redis(db);
    o->source = AGGREGATE_REDIS;
    assert_ok(sql(db, "DELETE FROM ledger"));
    assert_ok(sql(db, "DELETE FROM minute_sketches"));
    return db;
}

static void test_what_the_realtime_store_lost_replaces_nothing(void **state)
{
    struct buf want AUTO(buf_release) = {0}, got AUTO(buf_release) = {0};
    struct aggregate_options o;
    struct db *db = from_redis_only(1, &o);

    (void)state;
    assert_int_equal(roll(&o).hours, 1);
    rows_text(db, &want);
    do_op(&(struct one_op){.kv = o.kv, .provider = "openai", .model = "gpt-4o", .hour = H0});
    assert_int_equal(roll(&o).hours, 0);
    o.from_hour = o.to_hour = H0;
    assert_int_equal(roll(&o).hours, 0);
    rows_text(db, &got);
    assert_string_equal(want.p, got.p);
    kv_free(o.kv);
    db_free(db);
}

static void test_a_correction_in_the_realtime_store_is_stored(void **state)
{
    struct aggregate_options o;
    struct db *db = from_redis_only(1, &o);
    int64_t cost;

    (void)state;
    (void)roll(&o);
    cost = number(db, "SELECT CAST(sum(cost_nano) AS bigint) FROM metrics_hourly_aggregates");
    do_op(&(struct one_op){.kv = o.kv, .provider = "openai", .model = "gpt-4o", .hour = H0, .cost = -400});
    assert_int_equal(roll(&o).dirty, 1);
    assert_int_equal(number(db, "SELECT CAST(sum(cost_nano) AS bigint) FROM metrics_hourly_aggregates"),
                     cost - 400);
    assert_int_equal(roll(&o).hours, 0);
    kv_free(o.kv);
    db_free(db);
}

static void test_an_hour_that_is_emptied_while_it_is_read_is_not_stored_in_part(void **state)
{
    struct aggregate_options o;
    struct aggregate_result r;
    struct db *db = from_redis_only(2, &o);
    struct one_op gone = {.kv = o.kv, .provider = "openai", .model = "gpt-4o", .hour = H0 + 3600};

    (void)state;
    o.progress = op_after_an_hour;
    o.user = &gone;
    assert_int_equal(aggregate_run(&o, &r, &why), ERR_UNAVAILABLE);
    assert_non_null(strstr(err_text(&why), "gone before its time"));
    assert_int_equal(number(db, "SELECT max(hour) FROM aggregated_hours"), H0);
    assert_int_equal(number(db, "SELECT count(DISTINCT hour) FROM metrics_hourly_aggregates"), 1);
    assert_int_equal(number(db, "SELECT count(*) FROM aggregation_runs WHERE result = 'error'"), 1);
    kv_free(o.kv);
    db_free(db);
}

static void test_who_does_not_know_retention_leaves_what_has_an_end(void **state)
{
    struct aggregate_options o;
    struct db *db = from_redis_only(1, &o);

    (void)state;
    o.now = CLOCK(30 * 3600);
    assert_int_equal(roll(&o).keys_removed, 0);
    o.retention_us = 4 * 3600 * SECOND_US;
    assert_int_equal(roll(&o).keys_removed, 4);
    kv_free(o.kv);
    db_free(db);
}

static const struct CMUnitTest TESTS[] = {
    each_test(test_a_row_is_the_sum_of_its_ledger_lines),
    each_test(test_a_correction_changes_the_cost_and_nothing_else),
    each_test(test_only_closed_hours_are_stored),
    each_test(test_doing_it_twice_changes_nothing),
    each_test(test_late_rows_are_counted_once_their_hour_is_marked),
    each_test(test_a_clock_that_steps_back_leaves_stored_hours_alone),
    each_test(test_a_day_on_which_clocks_change_has_24_hours),
    each_test(test_hours_by_name_refuse_what_is_gone),
    each_test(test_a_dry_run_stores_nothing),
    each_test(test_cut_short_at_any_statement_the_next_run_gives_the_same_rows),
    each_test(test_two_at_once_give_the_same_rows),
    each_test(test_the_realtime_store_gives_the_same_rows),
    each_test(test_an_hour_that_cannot_be_read_does_not_hold_up_the_others),
    each_test(test_status_says_when_data_is_lost),
    each_test(test_leftovers_go_and_hours_that_are_not_stored_stay),
    each_test(test_what_the_realtime_store_lost_replaces_nothing),
    each_test(test_a_correction_in_the_realtime_store_is_stored),
    each_test(test_an_hour_that_is_emptied_while_it_is_read_is_not_stored_in_part),
    each_test(test_who_does_not_know_retention_leaves_what_has_an_end),
};

int main(void)
{
    int failed = cmocka_run_group_tests_name("aggregate, sqlite", TESTS, sqlite_group, NULL);

    if (postgres_starts())
        failed +=
            cmocka_run_group_tests_name("aggregate, postgres", TESTS, postgres_group, postgres_group_end);
    return failed;
}
