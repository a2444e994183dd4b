/* SPDX-License-Identifier: Apache-2.0 */
/* Several threads of one process write into one SQLite file: over one connection, in turns. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libshared/store/db.h"
#include "tests/unit/cm.h"

#define THREADS 3
#define ROUNDS  40

struct place {
    char dir[64], path[96];
};

static void make_place(struct place *p)
{
    (void)snprintf(p->dir, sizeof(p->dir), "/tmp/db_share.XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    (void)snprintf(p->path, sizeof(p->path), "%s/history.db", p->dir);
}

static void remove_place(const struct place *p)
{
    static const char *const SUFFIXES[] = {"", "-wal", "-shm", ".lock"};
    char name[128];

    for (size_t i = 0; i < ARRAY_LEN(SUFFIXES); i++) {
        (void)snprintf(name, sizeof(name), "%s%s", p->path, SUFFIXES[i]);
        (void)unlink(name);
    }
    assert_int_equal(rmdir(p->dir), 0);
}

static bool take_int(void *user, const struct db_value *c, unsigned n)
{
    assert_int_equal(n, 1);
    *(int64_t *)user = c[0].i;
    return true;
}

static int64_t value(struct db *db)
{
    int64_t v = -1;

    assert_int_equal(db_query(db, "read", "SELECT n FROM counter", NULL, 0, take_int, &v, NULL), ERR_OK);
    return v;
}

static struct db *open_with_counter(const struct place *p)
{
    struct db_options o = {.url = p->path, .deadline_us = 300000};
    struct err err = {0};
    struct db *db = db_new(&o, &err);

    assert_non_null(db);
    assert_int_equal(db_exec(db, "create", "CREATE TABLE counter (n bigint)", NULL, 0, NULL, &err), ERR_OK);
    assert_int_equal(db_exec(db, "insert", "INSERT INTO counter VALUES (0)", NULL, 0, NULL, &err), ERR_OK);
    return db;
}

static void test_a_transaction_is_one_turn(void **state)
{
    struct place p;
    struct db *db, *other;

    (void)state;
    make_place(&p);
    db = open_with_counter(&p);
    other = db_share(db);
    assert_int_equal(db_begin(db, NULL), ERR_OK);
    assert_int_equal(db_exec(db, "add", "UPDATE counter SET n = n + 1", NULL, 0, NULL, NULL), ERR_OK);
    assert_int_equal(db_exec(other, "add", "UPDATE counter SET n = n + 1", NULL, 0, NULL, NULL), ERR_TIMEOUT);
    assert_false(db_in_transaction(other));
    assert_int_equal(db_commit(db, NULL), ERR_OK);
    assert_int_equal(value(other), 1);
    assert_int_equal(db_begin(other, NULL), ERR_OK);
    assert_int_equal(db_exec(other, "add", "UPDATE counter SET n = n + 10", NULL, 0, NULL, NULL), ERR_OK);
    db_rollback(other);
    assert_int_equal(value(db), 1);
    db_free(db); /* the file stays open while a handle is left */
    assert_int_equal(value(other), 1);
    db_free(other);
    remove_place(&p);
}

static void test_a_handle_that_goes_gives_its_turn_back(void **state)
{
    struct place p;
    struct db *db, *other;

    (void)state;
    make_place(&p);
    db = open_with_counter(&p);
    other = db_share(db);
    assert_int_equal(db_begin(other, NULL), ERR_OK);
    assert_int_equal(db_exec(other, "add", "UPDATE counter SET n = n + 1", NULL, 0, NULL, NULL), ERR_OK);
    db_free(other);
    assert_int_equal(value(db), 0);
    assert_int_equal(db_begin(db, NULL), ERR_OK);
    assert_int_equal(db_exec(db, "bad", "UPDATE nothing SET n = 1", NULL, 0, NULL, NULL), ERR_BAD_REQUEST);
    db_rollback(db);
    other = db_share(db);
    assert_int_equal(value(other), 0);
    db_free(other);
    db_free(db);
    remove_place(&p);
}

static void *count(void *user)
{
    struct db *db = user;

    for (int i = 0; i < ROUNDS; i++) {
        int64_t n = -1;
        struct db_value v;

        while (db_begin(db, NULL) != ERR_OK)
            ;
        n = value(db);
        v = db_int(n + 1);
        assert_int_equal(db_exec(db, "set", "UPDATE counter SET n = $1", &v, 1, NULL, NULL), ERR_OK);
        assert_int_equal(db_commit(db, NULL), ERR_OK);
    }
    return NULL;
}

static void test_threads_lose_no_update(void **state)
{
    struct place p;
    struct db *db, *shares[THREADS];
    pthread_t threads[THREADS];

    (void)state;
    make_place(&p);
    db = open_with_counter(&p);
    for (int i = 0; i < THREADS; i++) {
        shares[i] = db_share(db);
        assert_int_equal(pthread_create(&threads[i], NULL, count, shares[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        (void)pthread_join(threads[i], NULL);
    assert_int_equal(value(db), THREADS * ROUNDS);
    for (int i = 0; i < THREADS; i++)
        db_free(shares[i]);
    db_free(db);
    remove_place(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_transaction_is_one_turn),
        cmocka_unit_test(test_a_handle_that_goes_gives_its_turn_back),
        cmocka_unit_test(test_threads_lose_no_update),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
