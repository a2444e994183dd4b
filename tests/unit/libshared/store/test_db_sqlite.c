/* SPDX-License-Identifier: Apache-2.0 */
/* What is particular to a SQLite file: its one writer, its readers, its mode, a full disk. */
#include <fcntl.h>

#include "tests/unit/libshared/store/db_fixture.h"

static struct db *with_table(void)
{
    struct db *db = open_db();

    assert_ok(sql(db, "CREATE TABLE t (i bigint PRIMARY KEY, s text)"));
    return db;
}

static enum err_code put(struct db *db, int64_t i)
{
    struct db_value v = db_int(i);

    return db_exec(db, "put", "INSERT INTO t (i) VALUES ($1)", &v, 1, NULL, &why);
}

static struct stat status_of(const char *suffix)
{
    struct stat st = {0};
    char path[300];

    (void)snprintf(path, sizeof(path), "%s%s", store.url, suffix);
    if (stat(path, &st) != 0)
        fail_msg("no '%s'", path);
    return st;
}

static void test_a_file_has_one_writer(void **state)
{
    struct db *db = open_db();
    struct db_options o = {.url = store.url};

    (void)state;
    assert_null(db_new(&o, &why));
    assert_int_equal(why.code, ERR_CONFLICT);
    assert_non_null(strstr(why.text, "history.db.lock'"));
    assert_string_equal(db_where(db), store.url);
    db_free(db);
    db = open_db();
    db_free(db);
}

static void test_all_its_files_are_private(void **state)
{
    static const char *const FILES[] = {"", "-wal", "-shm", ".lock"};
    mode_t old = umask(0);
    struct db *db = with_table();

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(FILES); i++)
        assert_int_equal(status_of(FILES[i]).st_mode & 0777, 0600);
    (void)umask(old);
    db_free(db);
}

static bool check_pragma(void *user, const struct db_value *v, unsigned n)
{
    (void)n;
    if (v[0].type == DB_INT)
        assert_int_equal(v[0].i, *(int64_t *)user);
    else
        assert_true(span_is(v[0].s, "wal"));
    return true;
}

static void test_a_commit_is_on_the_disk(void **state)
{
    struct db *db = with_table();
    int64_t full = 2;

    (void)state;
    assert_ok(db_query(db, "test", "PRAGMA synchronous", NULL, 0, check_pragma, &full, &why));
    assert_ok(db_query(db, "test", "PRAGMA journal_mode", NULL, 0, check_pragma, &full, &why));
    db_free(db);
}

static void test_a_reader_leaves_the_log_alone(void **state)
{
    struct db *db = with_table(), *reader;
    off_t before;

    (void)state;
    for (int64_t i = 0; i < 50; i++)
        assert_ok(put(db, i));
    before = status_of("").st_size;
    reader = open_with((struct db_options){.is_read_only = true});
    assert_int_equal(number(reader, "SELECT count(*) FROM t"), 50);
    assert_int_not_equal(sql(reader, "PRAGMA wal_checkpoint(TRUNCATE)"), ERR_OK);
    db_free(reader);
    assert_true(status_of("-wal").st_size > 0);
    assert_int_equal(status_of("").st_size, before);
    db_free(db);
}

/* A writer that died leaves its WAL; a reader alone sees what was committed, and still does not move it. */
static void test_a_reader_alone_sees_what_a_killed_writer_committed(void **state)
{
    struct db *reader;
    pid_t pid;
    int status;

    (void)state;
    (void)fflush(NULL);
    pid = fork();
    if (pid == 0) {
        struct db *db = with_table();

        assert_ok(put(db, 1));
        assert_ok(db_begin(db, &why));
        assert_ok(put(db, 2));
        (void)kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    reader = open_with((struct db_options){.is_read_only = true});
    assert_int_equal(number(reader, "SELECT count(*) FROM t"), 1);
    db_free(reader);
    assert_true(status_of("-wal").st_size > 0);
    struct db *db = open_db(); /* the lock went with the process */
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 1);
    db_free(db);
}

static void test_a_reader_needs_a_file(void **state)
{
    struct db *reader = open_with((struct db_options){.is_read_only = true});

    (void)state;
    assert_int_equal(sql(reader, "SELECT 1"), ERR_IO);
    assert_non_null(strstr(why.text, store.url));
    assert_int_not_equal(access(store.url, F_OK), 0); /* and does not make one */
    db_free(reader);
}

static void test_what_is_no_database_is_not_touched(void **state)
{
    FILE *f = fopen(store.url, "w");
    struct db *db;

    (void)state;
    assert_non_null(f);
    for (int i = 0; i < 1000; i++)
        (void)fputs("a diary, not a database\n", f);
    (void)fclose(f);
    db = open_db();
    assert_int_equal(sql(db, "CREATE TABLE t (i)"), ERR_IO);
    db_free(db);
    assert_int_equal(status_of("").st_size, 24000);
}

static void test_a_full_disk_is_unavailable_and_undoes_the_transaction(void **state)
{
    struct db *db = with_table();
    char big[4000];
    enum err_code rc = ERR_OK;

    (void)state;
    memset(big, 'x', sizeof(big));
    assert_ok(sql(db, "PRAGMA max_page_count = 40"));
    assert_ok(put(db, 1000));
    assert_ok(db_begin(db, &why));
    for (int64_t i = 0; i < 100 && rc == ERR_OK; i++) {
        struct db_value v[] = {db_int(i), db_text(span_make(big, sizeof(big)))};

        rc = db_exec(db, "put", "INSERT INTO t VALUES ($1, $2)", v, 2, NULL, &why);
    }
    assert_int_equal(rc, ERR_UNAVAILABLE);
    db_rollback(db);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 1);
    assert_ok(put(db, 1001));
    db_free(db);
}

static void test_names_that_mean_something_to_sqlite_are_files(void **state)
{
    static const char *const NAMES[] = {":memory:", "file:x?mode=memory", "books"};
    char old[300];

    (void)state;
    assert_non_null(getcwd(old, sizeof(old)));
    assert_int_equal(chdir(store.dir), 0);
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++) {
        struct db *db = open_with((struct db_options){.url = NAMES[i]});

        assert_ok(sql(db, "CREATE TABLE t (i)"));
        db_free(db);
        assert_int_equal(access(NAMES[i], F_OK), 0);
    }
    assert_int_equal(chdir(old), 0);
}

/* Another program's connections, as an operator's script would make them, while we commit. */
static const char READER[] =
    "import sqlite3, sys, time\n"
    "path, limit = sys.argv[1], time.monotonic() + 60\n"
    "readers = [sqlite3.connect('file:' + path + '?mode=ro', uri=True), sqlite3.connect(path)]\n"
    "last = [0, 0]\n"
    "while min(last) < 300 and time.monotonic() < limit:\n"
    "    for i, r in enumerate(readers):\n"
    "        n, s = r.execute('select count(*), coalesce(sum(i), 0) from t').fetchone()\n"
    "        assert n >= last[i] and n % 3 == 0 and s == n * (n - 1) // 2, (n, s)\n"
    "        last[i] = n\n"
    "assert min(last) >= 300, last\n";

static void test_python_reads_while_we_commit(void **state)
{
    struct db *db = with_table();
    int status = 0;
    pid_t pid;

    (void)state;
    (void)fflush(NULL);
    pid = fork();
    if (pid == 0) {
        (void)execlp("python3", "python3", "-c", READER, store.url, (char *)NULL);
        _exit(127);
    }
    for (int64_t i = 0; waitpid(pid, &status, WNOHANG) == 0; i += 3) {
        assert_ok(db_begin(db, &why));
        for (int64_t k = i; k < i + 3; k++)
            assert_ok(put(db, k));
        assert_ok(db_commit(db, &why));
    }
    assert_int_equal(status, 0);
    db_free(db);
}

static const struct CMUnitTest TESTS[] = {
    each_test(test_a_file_has_one_writer),
    each_test(test_all_its_files_are_private),
    each_test(test_a_commit_is_on_the_disk),
    each_test(test_a_reader_leaves_the_log_alone),
    each_test(test_a_reader_alone_sees_what_a_killed_writer_committed),
    each_test(test_a_reader_needs_a_file),
    each_test(test_what_is_no_database_is_not_touched),
    each_test(test_a_full_disk_is_unavailable_and_undoes_the_transaction),
    each_test(test_names_that_mean_something_to_sqlite_are_files),
    each_test(test_python_reads_while_we_commit),
};

int main(void)
{
    return cmocka_run_group_tests_name("db_sqlite", TESTS, sqlite_group, NULL);
}
