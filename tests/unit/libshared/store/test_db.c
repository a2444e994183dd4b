/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/libshared/store/db_fixture.h"

#define BIG ((size_t)1 << 20)

static struct db *with_table(void)
{
    struct db *db = open_db();

    assert_ok(sql(db, store.dialect == DB_SQLITE
                          ? "CREATE TABLE t (i bigint PRIMARY KEY, d double precision, s text, b blob)"
                          : "CREATE TABLE t (i bigint PRIMARY KEY, d double precision, s text, b bytea)"));
    return db;
}

static enum err_code put(struct db *db, int64_t i, struct span s)
{
    struct db_value v[] = {db_int(i), db_text(s)};

    return db_exec(db, "put", "INSERT INTO t (i, s) VALUES ($1, $2)", v, 2, NULL, &why);
}

static int64_t rows(struct db *db)
{
    return number(db, "SELECT count(*) FROM t");
}

/* ---- values ---- */

struct sample {
    int64_t i;
    double d;
    struct span s, b;
    unsigned seen;
};

static bool check_sample(void *user, const struct db_value *v, unsigned n)
{
    struct sample *x = user;

    assert_int_equal(n, 4);
    assert_int_equal(v[0].type, DB_INT);
    assert_true(v[0].i == x->i);
    assert_int_equal(v[1].type, DB_REAL);
    assert_true(v[1].d == x->d);
    assert_int_equal(v[2].type, DB_TEXT);
    assert_true(span_eq(v[2].s, x->s));
    assert_int_equal(v[3].type, DB_BLOB);
    assert_true(span_eq(v[3].s, x->b));
    x->seen++;
    return true;
}

static void test_values_come_back_as_they_went(void **state)
{
    struct db *db = with_table();
    char all[256], *big = malloc(BIG);

    (void)state;
    assert_non_null(big);
    memset(big, 'x', BIG);
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    struct sample samples[] = {
        {INT64_MIN, 0.1, SPAN_LIT(""), SPAN_LIT(""), 0},
        {INT64_MAX, -1.7976931348623157e308, SPAN_LIT("za\xc5\xbc\xc3\xb3\xc5\x82\xc4\x87 \xf0\x9f\xa6\x8a"),
         span_make(all, sizeof(all)), 0},
        {-1, 5e-324, SPAN_LIT("'\"\\ $1 \n\t\x01"), SPAN_LIT("\0\0"), 0},
        {9007199254740993, 1.0 / 3, span_make(big, BIG), span_make(big, BIG), 0},
    };

    for (size_t k = 0; k < ARRAY_LEN(samples); k++) {
        struct sample *x = &samples[k];
        struct db_value v[] = {db_int(x->i), db_real(x->d), db_text(x->s), db_blob(x->b)};

        assert_ok(db_exec(db, "put", "INSERT INTO t VALUES ($1, $2, $3, $4)", v, 4, NULL, &why));
        assert_ok(db_query(db, "get", "SELECT i, d, s, b FROM t WHERE i = $1", v, 1, check_sample, x, &why));
        assert_int_equal(x->seen, 1);
    }
    free(big);
    db_free(db);
}

static bool check_kinds(void *user, const struct db_value *v, unsigned n)
{
    *(unsigned *)user += 1;
    assert_int_equal(n, 5);
    assert_int_equal(v[0].type, DB_NULL);
    assert_int_equal(v[1].type, DB_INT);
    assert_int_equal(v[1].i, 1);
    assert_int_equal(v[2].type, DB_INT);
    assert_int_equal(v[2].i, 7);
    assert_int_equal(v[3].type, DB_REAL);
    assert_true(v[3].d == 1.5);
    assert_int_equal(v[4].type, DB_NULL);
    return true;
}

static void test_nulls_truths_and_numerics_have_one_type_on_both(void **state)
{
    struct db *db = with_table();
    struct db_value v[] = {db_int(1), db_null()};
    unsigned seen = 0;

    (void)state;
    assert_ok(db_exec(db, "put", "INSERT INTO t (i, b) VALUES ($1, $2)", v, 2, NULL, &why));
    assert_ok(db_query(db, "get", "SELECT b, i = 1, CAST(7 AS integer), CAST(1.5 AS numeric), s FROM t", NULL,
                       0, check_kinds, &seen, &why));
    assert_int_equal(seen, 1);
    db_free(db);
}

static void test_what_is_not_text_is_refused_and_not_stored(void **state)
{
    static const struct span BAD[] = {
        {"a\0b", 3}, {"\xff", 1}, {"\xc0\x80", 2}, {"\xed\xa0\x80", 3}, {"ok\xe2\x82", 4},
    };
    struct db *db = with_table();
    struct db_value nan[] = {db_int(1), db_real(__builtin_nan(""))};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++)
        assert_int_equal(put(db, 1, BAD[i]), ERR_BAD_REQUEST);
    assert_int_equal(db_exec(db, "put", "INSERT INTO t (i, d) VALUES ($1, $2)", nan, 2, NULL, &why),
                     ERR_BAD_REQUEST);
    assert_int_equal(rows(db), 0);
    db_free(db);
}

static bool check_text(void *user, const struct db_value *v, unsigned n)
{
    const char *expected = user;

    (void)n;
    assert_int_equal(v[0].type, DB_TEXT);
    assert_true(span_is(v[0].s, expected));
    return true;
}

static void test_what_looks_like_sql_stays_a_value(void **state)
{
    static const char *const EVIL[] = {
        "'); DROP TABLE t; --",   "' OR '1'='1",     "$1", "$$; DELETE FROM t; $$", "\\'; DROP TABLE t; --",
        "{{BLOB}} ? :a @b %s %n", "/* */ -- \" ` ;",
    };
    struct db *db = with_table();

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(EVIL); i++) {
        struct db_value v = db_textz(EVIL[i]);

        assert_ok(put(db, (int64_t)i, v.s));
        assert_ok(db_query(db, "get", "SELECT s FROM t WHERE s = $1", &v, 1, check_text,
                           (void *)(uintptr_t)EVIL[i], &why));
        assert_int_equal(rows(db), (int64_t)i + 1);
    }
    db_free(db);
}

/* ---- statements ---- */

static void test_changed_rows_are_counted(void **state)
{
    struct db *db = with_table();
    int64_t n = -1;

    (void)state;
    for (int64_t i = 0; i < 5; i++)
        assert_ok(put(db, i, SPAN_LIT("x")));
    assert_ok(db_exec(db, "test", "UPDATE t SET s = 'y' WHERE i < 3", NULL, 0, &n, &why));
    assert_int_equal(n, 3);
    assert_ok(db_exec(db, "test", "SELECT * FROM t", NULL, 0, &n, &why));
    assert_int_equal(n, 0);
    assert_ok(db_exec(db, "test", "DELETE FROM t", NULL, 0, &n, &why));
    assert_int_equal(n, 5);
    assert_ok(db_exec(db, "test", "DELETE FROM t", NULL, 0, &n, &why));
    assert_int_equal(n, 0);
    db_free(db);
}

static bool stop_at_three(void *user, const struct db_value *v, unsigned n)
{
    (void)v;
    (void)n;
    return ++*(unsigned *)user < 3;
}

static void test_a_reader_may_stop_early(void **state)
{
    struct db *db = with_table();
    unsigned seen = 0;

    (void)state;
    for (int64_t i = 0; i < 10; i++)
        assert_ok(put(db, i, SPAN_LIT("x")));
    assert_ok(db_query(db, "get", "SELECT i FROM t", NULL, 0, stop_at_three, &seen, &why));
    assert_int_equal(seen, 3);
    assert_int_equal(rows(db), 10);
    db_free(db);
}

static void test_bad_sql_is_named_and_the_handle_stays_good(void **state)
{
    static const char *const BAD[] = {
        "SELEKT 1",
        "SELECT * FROM no_such_table",
        "INSERT INTO t (i) VALUES ($1)", /* without a value */
        "DELETE FROM t; DELETE FROM t",
        "",
        "SELECT \"no_such_column\" FROM t",
    };
    struct db *db = with_table();

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        assert_int_equal(sql(db, BAD[i]), ERR_BAD_REQUEST);
        assert_non_null(strstr(why.text, "'test'"));
    }
    assert_int_equal(rows(db), 0);
    db_free(db);
}

static void test_a_broken_constraint_is_a_conflict_that_shows_no_value(void **state)
{
    struct db *db = with_table();

    (void)state;
    assert_ok(sql(db, "CREATE TABLE u (secret text PRIMARY KEY, other text NOT NULL)"));
    for (int i = 0; i < 2; i++) {
        struct db_value v[] = {db_textz("hunter2"), db_textz("x")};
        enum err_code rc = db_exec(db, "put", "INSERT INTO u VALUES ($1, $2)", v, 2, NULL, &why);

        assert_int_equal(rc, i ? ERR_CONFLICT : ERR_OK);
    }
    assert_null(strstr(why.text, "hunter2"));
    struct db_value v[] = {db_textz("hunter3"), db_null()};
    assert_int_equal(db_exec(db, "put", "INSERT INTO u VALUES ($1, $2)", v, 2, NULL, &why), ERR_CONFLICT);
    assert_null(strstr(why.text, "hunter3"));
    assert_int_equal(number(db, "SELECT count(*) FROM u"), 1);
    db_free(db);
}

static void test_a_reader_cannot_write(void **state)
{
    struct db *db = with_table(), *reader;

    (void)state;
    assert_ok(put(db, 1, SPAN_LIT("x")));
    reader = open_with((struct db_options){.is_read_only = true, .slow_us = -1});
    assert_int_equal(rows(reader), 1);
    assert_int_equal(put(reader, 2, SPAN_LIT("y")), ERR_UNAVAILABLE);
    assert_int_equal(sql(reader, "CREATE TABLE v (i bigint)"), ERR_UNAVAILABLE);
    assert_ok(db_begin(reader, &why));
    assert_int_equal(rows(reader), 1);
    assert_int_equal(put(reader, 2, SPAN_LIT("y")), ERR_UNAVAILABLE);
    db_rollback(reader);
    assert_ok(put(db, 2, SPAN_LIT("y")));
    assert_int_equal(rows(reader), 2);
    db_free(reader);
    db_free(db);
}

/* ---- transactions ---- */

static void test_a_transaction_is_all_or_nothing(void **state)
{
    struct db *db = with_table();

    (void)state;
    assert_ok(db_begin(db, &why));
    assert_int_equal(db_begin(db, &why), ERR_CONFLICT);
    assert_ok(put(db, 1, SPAN_LIT("x")));
    assert_true(db_in_transaction(db));
    db_rollback(db);
    assert_false(db_in_transaction(db));
    assert_int_equal(rows(db), 0);
    assert_ok(db_begin(db, &why));
    assert_ok(put(db, 1, SPAN_LIT("x")));
    assert_ok(db_commit(db, &why));
    assert_false(db_in_transaction(db));
    assert_int_equal(rows(db), 1);
    assert_int_equal(db_commit(db, &why), ERR_CONFLICT);
    db_rollback(db); /* without one: nothing */
    db_free(db);
}

static void test_a_failed_statement_dooms_its_transaction_on_both(void **state)
{
    struct db *db = with_table();

    (void)state;
    assert_ok(db_begin(db, &why));
    assert_ok(put(db, 1, SPAN_LIT("x")));
    assert_int_equal(put(db, 1, SPAN_LIT("again")), ERR_CONFLICT);
    assert_true(db_in_transaction(db));
    assert_int_equal(put(db, 2, SPAN_LIT("y")), ERR_CONFLICT);
    assert_int_equal(db_commit(db, &why), ERR_CONFLICT);
    assert_false(db_in_transaction(db));
    assert_int_equal(rows(db), 0);
    assert_ok(db_begin(db, &why));
    assert_int_equal(put(db, 3, SPAN_LIT("\xff")), ERR_BAD_REQUEST); /* one that was not even sent */
    assert_int_equal(db_commit(db, &why), ERR_BAD_REQUEST);
    assert_ok(put(db, 1, SPAN_LIT("x")));
    db_free(db);
}

static void test_closing_a_handle_rolls_back(void **state)
{
    struct db *db = with_table();

    (void)state;
    assert_ok(db_begin(db, &why));
    assert_ok(put(db, 1, SPAN_LIT("x")));
    db_free(db);
    db = open_db();
    assert_int_equal(rows(db), 0);
    db_free(db);
}

/* ---- many rows ---- */

#define MANY 100000

static enum err_code put_many(struct db *db, size_t n, const char *tail, size_t twin_at)
{
    struct db_value *v = calloc(n * 3, sizeof(*v));
    enum err_code rc;

    assert_non_null(v);
    for (size_t i = 0; i < n; i++) {
        v[i * 3] = db_int((int64_t)(twin_at && i == twin_at ? 0 : i));
        v[i * 3 + 1] = i % 2 ? db_text(SPAN_LIT("odd")) : db_null();
        v[i * 3 + 2] = db_blob(SPAN_LIT("\0\1"));
    }
    rc = db_insert(db, "bulk", "t", "i,s,b", v, 3, n, tail, &why);
    free(v);
    return rc;
}

static void test_many_rows_go_in_at_once(void **state)
{
    struct db *db = with_table();
    uint64_t before;

    (void)state;
    assert_ok(put_many(db, 0, "", 0));
    assert_ok(put_many(db, 1, "", 0));
    assert_ok(sql(db, "DELETE FROM t"));
    before = db_stats_mt(db).statements;
    assert_ok(put_many(db, MANY, "", 0));
    assert_true(db_stats_mt(db).statements - before < 20);
    assert_int_equal(rows(db), MANY);
    assert_int_equal(number(db, "SELECT CAST(sum(i) AS bigint) FROM t"), (int64_t)MANY * (MANY - 1) / 2);
    assert_int_equal(number(db, "SELECT count(*) FROM t WHERE s = 'odd' AND length(b) = 2"), MANY / 2);
    assert_false(db_in_transaction(db));
    assert_int_equal(put_many(db, 10, "", 0), ERR_CONFLICT);
    assert_ok(put_many(db, 10, "ON CONFLICT (i) DO UPDATE SET s = 'new'", 0));
    assert_int_equal(number(db, "SELECT count(*) FROM t WHERE s = 'new'"), 10);
    db_free(db);
}

static void test_many_rows_are_stored_all_or_none(void **state)
{
    struct db *db = with_table();

    (void)state;
    assert_int_equal(put_many(db, MANY, "", MANY - 1), ERR_CONFLICT);
    assert_false(db_in_transaction(db));
    assert_int_equal(rows(db), 0);
    assert_ok(db_begin(db, &why));
    assert_ok(put_many(db, MANY, "", 0));
    assert_true(db_in_transaction(db));
    db_rollback(db);
    assert_int_equal(rows(db), 0);
    db_free(db);
}

static void test_large_values_are_spread_over_statements(void **state)
{
    struct db *db = with_table();
    struct db_value v[2 * 20];
    char *big = calloc(1, BIG);
    uint64_t before = db_stats_mt(db).statements;

    (void)state;
    assert_non_null(big);
    for (size_t i = 0; i < 20; i++) {
        v[i * 2] = db_int((int64_t)i);
        v[i * 2 + 1] = db_blob(span_make(big, BIG));
    }
    assert_ok(db_insert(db, "bulk", "t", "i,b", v, 2, 20, "", &why));
    assert_int_equal(rows(db), 20);
    assert_int_equal(db_stats_mt(db).statements - before, 2 + 3 + 1); /* begin, commit; 8 MiB each; rows() */
    free(big);
    db_free(db);
}

/* ---- locks ---- */

static void test_a_lock_is_held_by_one_of_two(void **state)
{
    struct db *db = with_table(), *other = open_beside();
    bool got = false;

    (void)state;
    assert_ok(db_lock(db, "aggregate", 0, &got, &why));
    assert_true(got);
    assert_int_equal(db_lock(db, "aggregate", 0, &got, &why), ERR_CONFLICT);
    assert_ok(db_lock(other, "aggregate", 30000, &got, &why));
    assert_false(got);
    assert_ok(db_lock(other, "prune", 0, &got, &why));
    assert_true(got);
    db_unlock(db, "aggregate");
    assert_ok(db_lock(other, "aggregate", 5 * SECOND_US, &got, &why));
    assert_true(got);
    assert_ok(db_lock(db, "aggregate", 0, &got, &why));
    assert_false(got);
    db_free(other); /* and with it its locks */
    assert_ok(db_lock(db, "aggregate", 5 * SECOND_US, &got, &why));
    assert_true(got);
    assert_int_equal(db_lock(db, "../evil", 0, &got, &why), ERR_BAD_REQUEST);
    db_unlock(db, "unknown");
    db_free(db);
}

/* ---- deadlines, faults, statistics ---- */

static void test_a_statement_that_takes_too_long_ends_at_its_deadline(void **state)
{
    static const char *const FOREVER[] = {
        [DB_SQLITE] =
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        [DB_POSTGRES] = "SELECT pg_sleep(60)",
    };
    struct db *db = with_table();
    struct mono start;

    (void)state;
    db_free(db);
    db = open_with((struct db_options){.deadline_us = SECOND_US / 2, .slow_us = -1});
    assert_ok(put(db, 1, SPAN_LIT("x")));
    start = mono_now();
    assert_int_equal(sql(db, FOREVER[store.dialect]), ERR_TIMEOUT);
    assert_true(mono_diff_us(mono_now(), start) < 20 * SECOND_US);
    assert_int_equal(rows(db), 1);
    assert_ok(db_begin(db, &why));
    assert_ok(put(db, 2, SPAN_LIT("y")));
    assert_int_equal(sql(db, FOREVER[store.dialect]), ERR_TIMEOUT);
    assert_false(db_in_transaction(db));
    assert_int_equal(rows(db), 1);
    assert_int_equal(db_stats_mt(db).timeouts, 2);
    assert_int_equal(db_stats_mt(db).errors, 2);
    assert_true(db_stats_mt(db).max_us >= SECOND_US / 4);
    db_free(db);
}

struct script {
    const char *label;
    enum err_code code;
};

static enum err_code play(void *user, const char *label)
{
    const struct script *s = user;

    return strcmp(label, s->label) == 0 ? s->code : ERR_OK;
}

static void test_faults_come_between_as_they_are_told(void **state)
{
    struct db *db = with_table();
    struct script s = {"put", ERR_IO};
    struct db_fault before = {.before = play, .user = &s}, after = {.after = play, .user = &s};

    (void)state;
    db_set_fault(db, &before);
    assert_int_equal(put(db, 1, SPAN_LIT("x")), ERR_IO);
    db_set_fault(db, &after);
    assert_int_equal(put(db, 2, SPAN_LIT("x")), ERR_IO); /* stored all the same */
    assert_ok(db_begin(db, &why));
    assert_int_equal(put(db, 3, SPAN_LIT("x")), ERR_IO);
    assert_false(db_in_transaction(db));
    s.label = "commit";
    assert_ok(db_begin(db, &why));
    assert_ok(put(db, 4, SPAN_LIT("x")));
    assert_int_equal(db_commit(db, &why), ERR_IO); /* committed, its answer lost */
    assert_false(db_in_transaction(db));
    db_set_fault(db, &before);
    assert_ok(db_begin(db, &why));
    assert_ok(put(db, 5, SPAN_LIT("x")));
    assert_int_equal(db_commit(db, &why), ERR_IO); /* never sent */
    s.label = "begin";
    db_set_fault(db, &after);
    assert_int_equal(db_begin(db, &why), ERR_IO);
    assert_false(db_in_transaction(db));
    db_set_fault(db, NULL);
    assert_ok(db_begin(db, &why));
    db_rollback(db);
    assert_int_equal(rows(db), 2);
    assert_int_equal(number(db, "SELECT CAST(sum(i) AS bigint) FROM t"), 6);
    db_free(db);
}

static bool check_slow(void *user, const struct db_value *v, unsigned n)
{
    *(unsigned *)user += 1;
    assert_int_equal(n, 3);
    assert_true(span_is(v[0].s, "put"));
    assert_true(span_is(v[1].s, "INSERT INTO t (i, s) VALUES ($1, $2)"));
    assert_true(v[2].i >= 1);
    return true;
}

static void test_slow_statements_are_written_down_without_their_values(void **state)
{
    struct db *db;
    unsigned seen = 0;

    (void)state;
    db = with_table();
    assert_ok(db_migrate(db, &why));
    db_free(db);
    db = open_with((struct db_options){.slow_us = 1});
    assert_ok(put(db, 1, SPAN_LIT("a secret")));
    assert_ok(db_begin(db, &why)); /* writes it, before it begins */
    for (int64_t i = 2; i < 20; i++)
        assert_ok(put(db, i, SPAN_LIT("a secret")));
    assert_ok(db_commit(db, &why));
    assert_ok(put(db, 20, SPAN_LIT("x"))); /* too soon for a second one */
    assert_ok(db_query(db, "get", "SELECT label, sql, duration_us FROM slow_queries", NULL, 0, check_slow,
                       &seen, &why));
    assert_int_equal(seen, 1);
    assert_true(db_stats_mt(db).slow > 20);
    db_free(db);
}

static void test_a_store_without_the_table_forgets_slow_statements(void **state)
{
    struct db *db = open_with((struct db_options){.slow_us = 1});

    (void)state;
    assert_ok(sql(db, "CREATE TABLE t (i bigint, s text)"));
    assert_ok(put(db, 1, SPAN_LIT("x")));
    assert_ok(put(db, 2, SPAN_LIT("x")));
    assert_int_equal(rows(db), 2);
    assert_int_equal(db_stats_mt(db).errors, 0);
    db_free(db);
}

static void test_urls_that_make_no_sense_are_refused_without_their_password(void **state)
{
    static const char *const BAD[] = {
        "",
        "mysql://root:hunter2@db/x",
        "postgresql://u:hunter2%zz@db/x",
        "postgresql://u:hunter2@db/x?no_such_option=1",
        "postgresql://u:hunter2@[::1/x",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        struct db_options o = {.url = BAD[i]};

        assert_null(db_new(&o, &why));
        assert_int_equal(why.code, ERR_CONFIG);
        assert_null(strstr(why.text, "hunter2"));
    }
}

static const struct CMUnitTest TESTS[] = {
    each_test(test_values_come_back_as_they_went),
    each_test(test_nulls_truths_and_numerics_have_one_type_on_both),
    each_test(test_what_is_not_text_is_refused_and_not_stored),
    each_test(test_what_looks_like_sql_stays_a_value),
    each_test(test_changed_rows_are_counted),
    each_test(test_a_reader_may_stop_early),
    each_test(test_bad_sql_is_named_and_the_handle_stays_good),
    each_test(test_a_broken_constraint_is_a_conflict_that_shows_no_value),
    each_test(test_a_reader_cannot_write),
    each_test(test_a_transaction_is_all_or_nothing),
    each_test(test_a_failed_statement_dooms_its_transaction_on_both),
    each_test(test_closing_a_handle_rolls_back),
    each_test(test_many_rows_go_in_at_once),
    each_test(test_many_rows_are_stored_all_or_none),
    each_test(test_large_values_are_spread_over_statements),
    each_test(test_a_lock_is_held_by_one_of_two),
    each_test(test_a_statement_that_takes_too_long_ends_at_its_deadline),
    each_test(test_faults_come_between_as_they_are_told),
    each_test(test_slow_statements_are_written_down_without_their_values),
    each_test(test_a_store_without_the_table_forgets_slow_statements),
    each_test(test_urls_that_make_no_sense_are_refused_without_their_password),
};

int main(void)
{
    int failed = cmocka_run_group_tests_name("db, sqlite", TESTS, sqlite_group, NULL);

    if (postgres_starts())
        failed += cmocka_run_group_tests_name("db, postgres", TESTS, postgres_group, postgres_group_end);
    return failed;
}
