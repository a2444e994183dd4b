/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/libshared/store/db_fixture.h"

#define STARTERS 5

static bool is_there(struct db *db, const char *table)
{
    static const char *const COUNT[] = {
        [DB_SQLITE] = "SELECT count(*) FROM sqlite_master WHERE name = $1",
        [DB_POSTGRES] = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
                        " WHERE nspname = 'public' AND relname = $1",
    };
    struct db_value v = db_textz(table);
    int64_t n = 0;

    assert_ok(db_query(db, "test", COUNT[store.dialect], &v, 1, take_int, &n, &why));
    return n == 1;
}

static unsigned version_of(struct db *db)
{
    unsigned v = 999;

    assert_ok(db_schema_version(db, &v, &why));
    return v;
}

/* Rows of every kind of column that the first schema has. */
static void put_rows(struct db *db, int64_t base)
{
    struct db_value hour[] = {db_textz("2026-11-20T14:00:00Z"), db_int(base),
                              db_blob(SPAN_LIT("\0\x01\xff"))};
    struct db_value audit[] = {db_int(base), db_textz("{\"a\":1}"), db_blob(SPAN_LIT("\0h"))};
    struct db_value request[] = {db_int(base), db_textz("{\"story\":[1,2]}")};

    assert_ok(db_exec(db, "test",
                      "INSERT INTO metrics_hourly_aggregates VALUES ($1, 'p', CAST($2 AS text),"
                      " $2, 1,1,0,1,1,1,1,1,1,1,$2,0,1,1,1, 0.5,0.9,NULL, $3, 'ledger', $2)",
                      hour, 3, NULL, &why));
    assert_ok(db_exec(
        db, "test",
        "INSERT INTO audit (at, actor, action, subject, detail, hash) VALUES ($1, 'a', 'b', 'c', $2, $3)",
        audit, 3, NULL, &why));
    assert_ok(db_exec(db, "test", "INSERT INTO requests VALUES (CAST($1 AS text), $1, 't', 'k', $2)", request,
                      2, NULL, &why));
}

static void check_rows(struct db *db, int64_t n)
{
    assert_int_equal(number(db, "SELECT count(*) FROM metrics_hourly_aggregates"), n);
    assert_int_equal(number(db, "SELECT CAST(sum(cost_nano) AS bigint) FROM metrics_hourly_aggregates"),
                     n * (n + 1) / 2);
    assert_int_equal(number(db, "SELECT count(*) FROM audit WHERE id > 0 AND length(hash) = 2"), n);
    assert_int_equal(number(db, "SELECT count(DISTINCT id) FROM audit"), n);
    assert_int_equal(number(db, "SELECT count(*) FROM requests"), n);
    assert_int_equal(number(db, "SELECT count(*) FROM metrics_hourly_aggregates WHERE length(sketch) = 3"),
                     n);
}

static void test_an_empty_store_becomes_the_newest_schema(void **state)
{
    struct db *db = open_db();

    (void)state;
    assert_int_equal(version_of(db), 0);
    assert_ok(db_migrate(db, &why));
    assert_int_equal(version_of(db), db_schema_latest());
    assert_int_equal(number(db, "SELECT count(*) FROM schema_migrations"), db_schema_latest());
    assert_int_equal(number(db, "SELECT count(*) FROM schema_migrations WHERE applied_at > 1600000000"
                                " AND length(checksum) = 64"),
                     db_schema_latest());
    assert_true(is_there(db, "ledger"));
    assert_true(is_there(db, "audit_at"));
    assert_int_equal(is_there(db, "provider_stats_24h"), store.dialect == DB_POSTGRES);
    put_rows(db, 1);
    check_rows(db, 1);
    assert_ok(db_migrate(db, &why)); /* again: nothing to do */
    check_rows(db, 1);
    db_free(db);
}

static void test_every_earlier_schema_comes_up_with_its_data(void **state)
{
    (void)state;
    for (unsigned from = 1; from <= db_schema_latest(); from++) {
        struct db *db = open_db();

        assert_ok(db_migrate_to(db, from, &why));
        assert_int_equal(version_of(db), from);
        assert_int_equal(is_there(db, "audit_at"), from >= 3);
        put_rows(db, 1);
        put_rows(db, 2);
        db_free(db);
        db = open_db();
        assert_ok(db_migrate(db, &why));
        assert_int_equal(version_of(db), db_schema_latest());
        check_rows(db, 2);
        put_rows(db, 3);
        check_rows(db, 3);
        db_free(db);
        (void)each_teardown(NULL);
        (void)each_setup(NULL);
    }
}

static void test_each_version_can_be_undone_and_done_again(void **state)
{
    struct db *db = open_db();

    (void)state;
    assert_ok(db_migrate(db, &why));
    put_rows(db, 1);
    for (unsigned to = db_schema_latest(); to-- > 1;) {
        assert_ok(db_migrate_down(db, to, &why));
        assert_int_equal(version_of(db), to);
        assert_int_equal(is_there(db, "audit_at"), to >= 3);
        check_rows(db, 1);
    }
    assert_false(is_there(db, "provider_stats_24h"));
    assert_ok(db_migrate_down(db, 0, &why));
    assert_int_equal(version_of(db), 0);
    assert_int_equal(
        number(db,
               store.dialect == DB_SQLITE
                   ? "SELECT count(*) FROM sqlite_master WHERE type <> 'index' AND name NOT LIKE 'sqlite%'"
                   : "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
                     " WHERE nspname = 'public' AND relkind <> 'i'"),
        1); /* schema_migrations itself */
    assert_ok(db_migrate(db, &why));
    put_rows(db, 1);
    check_rows(db, 1);
    db_free(db);
}

/* On SQLite the one writer's place is taken in turns. */
static int starter(void)
{
    struct db_options o = {.url = store.url, .slow_us = -1};
    struct mono until = mono_add_us(mono_now(), 60 * SECOND_US);
    struct err e = {0};
    struct db *db;

    while (!(db = db_new(&o, &e)))
        if (e.code != ERR_CONFLICT || !db_nap(5000, until))
            return 2;
    if (db_migrate(db, &e) != ERR_OK) {
        (void)fprintf(stderr, "starter: %s\n", e.text);
        return 1;
    }
    db_free(db);
    return 0;
}

static void test_of_five_processes_that_start_at_once_one_migrates_and_none_fails(void **state)
{
    pid_t pid[STARTERS];
    struct db *db;

    (void)state;
    for (int round = 0; round < 3; round++) {
        (void)fflush(NULL);
        for (int i = 0; i < STARTERS; i++) {
            pid[i] = fork();
            assert_true(pid[i] >= 0);
            if (pid[i] == 0)
                _exit(starter());
        }
        for (int i = 0; i < STARTERS; i++) {
            int status = -1;

            assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
            assert_int_equal(status, 0);
        }
        db = open_db();
        assert_int_equal(version_of(db), db_schema_latest());
        assert_int_equal(number(db, "SELECT count(*) FROM schema_migrations"), db_schema_latest());
        assert_ok(db_migrate_down(db, 0, &why));
        db_free(db);
    }
}

static void test_a_newer_schema_is_refused_and_left_alone(void **state)
{
    struct db *db = open_db();

    (void)state;
    assert_ok(db_migrate(db, &why));
    assert_ok(sql(db, "INSERT INTO schema_migrations VALUES (99, 'future', 0, 'x')"));
    assert_int_equal(db_migrate(db, &why), ERR_CONFLICT);
    assert_non_null(strstr(why.text, "newer than this program"));
    assert_int_equal(db_migrate_down(db, 0, &why), ERR_CONFLICT);
    assert_int_equal(version_of(db), 99);
    assert_true(is_there(db, "ledger"));
    db_free(db);
}

static void test_a_migration_that_is_not_ours_is_refused(void **state)
{
    struct db *db = open_db();

    (void)state;
    assert_ok(db_migrate_to(db, 1, &why));
    assert_ok(sql(db, "UPDATE schema_migrations SET checksum = 'x'"));
    assert_int_equal(db_migrate(db, &why), ERR_CONFLICT);
    assert_non_null(strstr(why.text, "migration 1"));
    assert_int_equal(version_of(db), 1);
    db_free(db);
}

static enum err_code fail_record(void *user, const char *label)
{
    unsigned *left = user;

    return strcmp(label, "migrate") == 0 && --*left == 0 ? ERR_IO : ERR_OK;
}

static void test_a_migration_that_fails_leaves_nothing_behind(void **state)
{
    struct db *db = open_db();
    unsigned nth = 2; /* the first creates schema_migrations, the second records version 1 */
    struct db_fault f = {.before = fail_record, .user = &nth};

    (void)state;
    db_set_fault(db, &f);
    assert_int_equal(db_migrate(db, &why), ERR_IO);
    assert_non_null(strstr(why.text, "migration 1"));
    assert_false(db_in_transaction(db));
    db_set_fault(db, NULL);
    assert_int_equal(version_of(db), 0);
    assert_false(is_there(db, "ledger"));
    assert_ok(db_migrate(db, &why));
    assert_true(is_there(db, "ledger"));
    db_free(db);
}

static void test_a_reader_does_not_migrate(void **state)
{
    struct db *db = open_db(), *reader;

    (void)state;
    assert_ok(db_migrate_to(db, 1, &why));
    reader = open_with((struct db_options){.is_read_only = true});
    assert_int_equal(version_of(reader), 1);
    assert_int_equal(db_migrate(reader, &why), ERR_UNAVAILABLE);
    assert_ok(db_migrate(db, &why));
    assert_ok(db_migrate(reader, &why)); /* up to date: nothing to write */
    db_free(reader);
    db_free(db);
}

static void test_texts_are_written_for_their_dialect(void **state)
{
    (void)state;
    for (unsigned v = 1; v <= db_schema_latest(); v++) {
        struct buf a AUTO(buf_release) = {0}, b AUTO(buf_release) = {0};

        db_migration_sql(v, DB_SQLITE, &a);
        db_migration_sql(v, DB_POSTGRES, &b);
        assert_true(b.len > 0);
        assert_null(strstr(b.p, "{{"));
        assert_true(v == 2 ? a.len == 0 : strstr(a.p, "{{") == NULL);
        if (v == 1) {
            assert_non_null(strstr(a.p, "sketch   blob"));
            assert_non_null(strstr(b.p, "sketch   bytea"));
            assert_non_null(strstr(b.p, "hour          timestamptz"));
        }
    }
    struct buf none AUTO(buf_release) = {0};

    db_migration_sql(db_schema_latest() + 1, DB_SQLITE, &none);
    assert_int_equal(none.len, 0);
}

static const struct CMUnitTest TESTS[] = {
    each_test(test_an_empty_store_becomes_the_newest_schema),
    each_test(test_every_earlier_schema_comes_up_with_its_data),
    each_test(test_each_version_can_be_undone_and_done_again),
    each_test(test_of_five_processes_that_start_at_once_one_migrates_and_none_fails),
    each_test(test_a_newer_schema_is_refused_and_left_alone),
    each_test(test_a_migration_that_is_not_ours_is_refused),
    each_test(test_a_migration_that_fails_leaves_nothing_behind),
    each_test(test_a_reader_does_not_migrate),
    each_test(test_texts_are_written_for_their_dialect),
};

int main(void)
{
    int failed = cmocka_run_group_tests_name("migrate, sqlite", TESTS, sqlite_group, NULL);

    if (postgres_starts())
        failed += cmocka_run_group_tests_name("migrate, postgres", TESTS, postgres_group, postgres_group_end);
    return failed;
}
