/* SPDX-License-Identifier: Apache-2.0 */
/* The chain of the audit log: whole as it was written, and broken at the first row that was touched. */
#include "libshared/store/audit.h"

#include "tests/unit/libshared/store/db_fixture.h"

static struct db *with_rows(int n)
{
    struct db *db = open_db();

    assert_ok(db_migrate(db, &why));
    for (int i = 0; i < n; i++) {
        json_t *detail = json_pack("{s:i, s:s, s:{s:n}}", "n", i, "text", "ä \"quoted\"", "inner", "nothing");
        struct audit_row row = {.at = {(1700000000 + (int64_t)i) * 1000000},
                                .actor = "token",
                                .action = "tenant.create",
                                .subject = "acme",
                                .detail = detail};

        assert_ok(db_begin(db, &why));
        assert_ok(audit_append(db, &row, &why));
        assert_ok(db_commit(db, &why));
        json_decref(detail);
    }
    return db;
}

static struct audit_proof prove(struct db *db)
{
    struct audit_proof p;

    assert_ok(audit_verify(db, &p, &why));
    return p;
}

static void test_a_chain_as_it_was_written_is_whole(void **state)
{
    struct db *db = with_rows(0);

    (void)state;
    assert_int_equal(prove(db).rows, 0);
    assert_int_equal(prove(db).broken_id, 0);
    db_free(db);
    db = with_rows(5);
    assert_int_equal(prove(db).rows, 5);
    assert_int_equal(prove(db).broken_id, 0);
    assert_int_equal(prove(db).last_id, number(db, "SELECT CAST(max(id) AS bigint) FROM audit"));
    db_free(db);
}

static void test_a_row_that_was_touched_breaks_it_there(void **state)
{
    static const char *const DEEDS[] = {
        "UPDATE audit SET subject = 'globex' WHERE at = 1700000002",
        "UPDATE audit SET at = 1700000009 WHERE at = 1700000002",
        "UPDATE audit SET detail = '{\"n\":3}' WHERE at = 1700000002",
        "UPDATE audit SET actor = 'socket' WHERE at = 1700000002",
        "UPDATE audit SET hash = (SELECT hash FROM audit WHERE at = 1700000001) WHERE at = 1700000002",
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(DEEDS); i++) {
        struct db *db = with_rows(5);
        int64_t third = number(db, "SELECT id FROM audit WHERE at = 1700000002");

        assert_ok(sql(db, DEEDS[i]));
        assert_int_equal(prove(db).broken_id, third);
        assert_ok(sql(db, "DELETE FROM audit"));
        db_free(db);
    }
}

static void test_a_row_that_was_taken_out_breaks_it_behind(void **state)
{
    struct db *db = with_rows(5);

    (void)state;
    assert_ok(sql(db, "DELETE FROM audit WHERE at = 1700000002"));
    assert_int_equal(prove(db).broken_id, number(db, "SELECT id FROM audit WHERE at = 1700000003"));
    db_free(db);
}

static const struct CMUnitTest TESTS[] = {
    each_test(test_a_chain_as_it_was_written_is_whole),
    each_test(test_a_row_that_was_touched_breaks_it_there),
    each_test(test_a_row_that_was_taken_out_breaks_it_behind),
};

int main(void)
{
    int failed = cmocka_run_group_tests_name("audit, sqlite", TESTS, sqlite_group, NULL);

    if (postgres_starts())
        failed += cmocka_run_group_tests_name("audit, postgres", TESTS, postgres_group, postgres_group_end);
    return failed;
}
