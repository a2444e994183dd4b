/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/libshared/analytics/books_fixture.h"

#include <zlib.h>

#include "libshared/analytics/archive.h"

static char folder[64], file[128];

static struct db *fresh(void)
{
    struct db *db = open_db();

    assert_ok(db_migrate(db, &why));
    next_seq = 1;
    (void)snprintf(folder, sizeof(folder), "/tmp/gatewayd-archive-XXXXXX");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(file, sizeof(file), "%s/old.csv.gz", folder);
    for (int h = 0; h < 4; h++)
        put_traffic(db, H0 + h * 3600, 12);
    return db;
}

static void finish(struct db *db)
{
    db_free(db);
    (void)nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct archive_options old(struct db *db, enum archive_table t)
{
    return (struct archive_options){
        .db = db, .table = t, .before = H0 + 2 * 3600 + 1800, .path = file, .now = CLOCK(100 * 3600)};
}

static unsigned lines_of(const char *path)
{
    char chunk[4096];
    gzFile gz = gzopen(path, "rb");
    unsigned lines = 0;
    int n;

    assert_non_null(gz);
    while ((n = gzread(gz, chunk, sizeof(chunk))) > 0)
        for (int i = 0; i < n; i++)
            lines += chunk[i] == '\n';
    assert_int_equal(gzclose(gz), Z_OK);
    return lines;
}

static void test_hours_that_are_not_rolled_up_are_refused(void **state)
{
    struct db *db = fresh();
    struct archive_options o = old(db, ARCHIVE_LEDGER);
    struct archive_result r;
    int64_t before = number(db, "SELECT count(*) FROM ledger");

    (void)state;
    assert_int_equal(archive_run(&o, &r, &why), ERR_CONFLICT);
    assert_int_equal(number(db, "SELECT count(*) FROM ledger"), before);
    assert_int_equal(access(file, F_OK), -1);
    finish(db);
}

static void test_exactly_the_old_rows_go_and_are_in_the_file(void **state)
{
    struct db *db = fresh();
    struct archive_options o = old(db, ARCHIVE_LEDGER);
    struct aggregate_options roll_up = at(db, 100 * 3600);
    struct buf rows AUTO(buf_release) = {0}, after AUTO(buf_release) = {0};
    struct archive_result r;
    int64_t before = number(db, "SELECT count(*) FROM ledger"), mine;

    (void)state;
    (void)roll(&roll_up);
    rows_text(db, &rows);
    mine = before / 2; /* two of four hours with the same traffic */
    assert_ok(archive_run(&o, &r, &why));
    assert_int_equal(r.rows, mine);
    assert_int_equal(r.deleted, mine);
    assert_int_equal(lines_of(file), mine + 1);
    assert_int_equal(number(db, "SELECT count(*) FROM ledger"), before - mine);
    assert_int_equal(number(db, "SELECT min(minute) FROM ledger"), H0 + 2 * 3600);
    /* Hours without their ledger are settled: nothing makes them empty, not even a mark of dirt. */
    assert_ok(db_exec(db, "test", "INSERT INTO dirty_hours (hour, since) VALUES ($1, 1)",
                      &(struct db_value){.type = DB_INT, .i = H0}, 1, NULL, &why));
    assert_int_equal(roll(&roll_up).hours, 0);
    rows_text(db, &after);
    assert_string_equal(rows.p, after.p);
    finish(db);
}

static void test_keep_exports_and_deletes_nothing(void **state)
{
    struct db *db = fresh();
    struct aggregate_options roll_up = at(db, 100 * 3600);
    struct archive_options o = old(db, ARCHIVE_HOURLY);
    struct archive_result r;

    (void)state;
    (void)roll(&roll_up);
    o.keep = true;
    assert_ok(archive_run(&o, &r, &why));
    assert_int_equal(r.rows, 8);
    assert_int_equal(r.deleted, 0);
    assert_int_equal(number(db, "SELECT count(*) FROM metrics_hourly_aggregates"), 16);
    assert_int_equal(archive_run(&o, &r, &why), ERR_CONFLICT); /* the file is there */
    finish(db);
}

static enum err_code fail_delete(void *user, const char *label)
{
    return strcmp(label, user) == 0 ? ERR_IO : ERR_OK;
}

static void test_a_failure_at_any_place_deletes_nothing(void **state)
{
    static const char *const LABELS[] = {"archive_hours", "archive_export", "archive_delete", "archive_mark"};
    struct db *db = fresh();
    struct aggregate_options roll_up = at(db, 100 * 3600);
    struct archive_options o = old(db, ARCHIVE_SKETCHES);
    struct archive_result r;
    int64_t before = number(db, "SELECT count(*) FROM minute_sketches");

    (void)state;
    (void)roll(&roll_up);
    for (unsigned i = 0; i < ARRAY_LEN(LABELS); i++) {
        struct db_fault fault = {.after = fail_delete, .user = (void *)(uintptr_t)LABELS[i]};

        db_set_fault(db, &fault);
        assert_int_equal(archive_run(&o, &r, &why), ERR_IO);
        db_set_fault(db, NULL);
        assert_int_equal(number(db, "SELECT count(*) FROM minute_sketches"), before);
        assert_int_equal(access(file, F_OK), -1);
    }
    (void)snprintf(file, sizeof(file), "%s/no/such/folder.csv", folder);
    assert_int_equal(archive_run(&o, &r, &why), ERR_IO);
    assert_int_equal(number(db, "SELECT count(*) FROM minute_sketches"), before);
    (void)snprintf(file, sizeof(file), "%s/plain.csv", folder);
    assert_ok(archive_run(&o, &r, &why));
    assert_int_equal(number(db, "SELECT count(*) FROM minute_sketches"), before / 2);
    finish(db);
}

static const struct CMUnitTest TESTS[] = {
    each_test(test_hours_that_are_not_rolled_up_are_refused),
    each_test(test_exactly_the_old_rows_go_and_are_in_the_file),
    each_test(test_keep_exports_and_deletes_nothing),
    each_test(test_a_failure_at_any_place_deletes_nothing),
};

int main(void)
{
    int failed = cmocka_run_group_tests_name("archive, sqlite", TESTS, sqlite_group, NULL);

    if (postgres_starts())
        failed += cmocka_run_group_tests_name("archive, postgres", TESTS, postgres_group, postgres_group_end);
    return failed;
}
