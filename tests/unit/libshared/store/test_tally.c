/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/store/tally.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libshared/store/db.h"
#include "libshared/store/db_priv.h"
#include "tests/unit/cm.h"

static struct store_tally *was, *now;

static int setup(void **state)
{
    (void)state;
    was = calloc(1, sizeof(*was));
    now = calloc(1, sizeof(*now));
    tally_read_mt(was);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    free(was);
    free(now);
    return 0;
}

static uint64_t counted(enum sql_table t, enum sql_operation o, enum tally_outcome c)
{
    tally_read_mt(now);
    return now->sql[t][o].count[c] - was->sql[t][o].count[c];
}

static void test_a_statement_is_about_its_first_table_outside_of_parentheses(void **state)
{
    static const struct {
        const char *sql;
        enum sql_table table;
        enum sql_operation operation;
    } CASES[] = {
        {"SELECT id FROM tenants WHERE id = $1", SQL_TABLE_tenants, SQL_SELECT},
        {"INSERT INTO ledger (instance,seq) VALUES ($1,$2)", SQL_TABLE_ledger, SQL_INSERT},
        {"UPDATE api_keys SET revoked_at = $2 WHERE tenant = $1", SQL_TABLE_api_keys, SQL_UPDATE},
        {"DELETE FROM requests WHERE id IN (SELECT id FROM ledger)", SQL_TABLE_requests, SQL_DELETE},
        {"SELECT count(*) FROM (SELECT 1 FROM audit LIMIT 2) x", SQL_TABLE_audit, SQL_SELECT},
        {"WITH due AS (SELECT hour FROM dirty_hours) INSERT INTO aggregated_hours SELECT hour FROM due",
         SQL_TABLE_aggregated_hours, SQL_INSERT},
        {"select 'from ledger', x from plans", SQL_TABLE_plans, SQL_SELECT},
        {"SELECT 1 FROM pg_stat_activity", SQL_TABLE_OTHER, SQL_SELECT},
        {"BEGIN IMMEDIATE", SQL_TABLE_NONE, SQL_BEGIN},
        {"COMMIT", SQL_TABLE_NONE, SQL_COMMIT},
        {"ROLLBACK", SQL_TABLE_NONE, SQL_ROLLBACK},
        {"REFRESH MATERIALIZED VIEW CONCURRENTLY provider_stats_24h", SQL_TABLE_provider_stats_24h,
         SQL_OTHER},
        {"", SQL_TABLE_NONE, SQL_OTHER},
        {"((('", SQL_TABLE_NONE, SQL_OTHER},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        enum sql_operation o;
        enum sql_table t;

        tally_parse(CASES[i].sql, &t, &o);
        if (t != CASES[i].table || o != CASES[i].operation)
            fail_msg("'%s' is a %s of %s", CASES[i].sql, sql_operation_name(o), sql_table_name(t));
    }
}

/* Whatever the migrations make is in tables.def. */
static void test_every_table_of_the_schema_has_a_name(void **state)
{
    (void)state;
    for (unsigned v = 0; v < MIGRATIONS_N; v++)
        for (int d = 0; d < DB_DIALECTS; d++)
            for (const char *p = MIGRATIONS[v].up[d]; (p = strstr(p, "CREATE TABLE ")); p++) {
                char name[64];
                bool is_known = false;

                (void)sscanf(p, "CREATE TABLE %63[a-z0-9_]", name);
                for (int t = SQL_TABLE_NONE + 1; t < SQL_TABLE_OTHER; t++)
                    is_known |= strcmp(name, sql_table_name((enum sql_table)t)) == 0;
                if (!is_known)
                    fail_msg("'%s' is not in tables.def", name);
            }
}

static void test_statements_count_once_by_how_they_end(void **state)
{
    char dir[] = "/tmp/tally-XXXXXX", path[64], lock[64];
    struct db_options o = {.url = path};
    int64_t connections = was->connections;
    struct db *db;

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/history.db", dir);
    (void)snprintf(lock, sizeof(lock), "%s.lock", path);
    db = db_new(&o, NULL);
    assert_non_null(db);
    assert_int_equal(db_exec(db, "make", "CREATE TABLE plans (id text)", NULL, 0, NULL, NULL), ERR_OK);
    assert_int_equal(db_begin(db, NULL), ERR_OK);
    tally_read_mt(now);
    assert_int_equal(now->in_use - was->in_use, 1);
    assert_int_equal(now->connections - connections, 1);
    assert_int_equal(db_exec(db, "x", "DELETE FROM plans", NULL, 0, NULL, NULL), ERR_OK);
    assert_int_equal(db_commit(db, NULL), ERR_OK);
    assert_int_not_equal(db_exec(db, "x", "DELETE FROM plans WHERE nothing = 1", NULL, 0, NULL, NULL),
                         ERR_OK);
    assert_int_equal(counted(SQL_TABLE_plans, SQL_DELETE, TALLY_SUCCESS), 1);
    assert_int_equal(counted(SQL_TABLE_plans, SQL_DELETE, TALLY_ERROR), 1);
    assert_int_equal(counted(SQL_TABLE_NONE, SQL_BEGIN, TALLY_SUCCESS), 1);
    assert_int_equal(counted(SQL_TABLE_NONE, SQL_COMMIT, TALLY_SUCCESS), 1);
    db_free(db);
    (void)unlink(lock);
    (void)unlink(path);
    (void)rmdir(dir);
    tally_read_mt(now);
    assert_int_equal(now->in_use, was->in_use);
    assert_int_equal(now->connections, connections);
}

static void test_the_mean_forgets_after_its_slots(void **state)
{
    struct wall at = wall_now();
    struct store_tally *t = calloc(1, sizeof(*t));
    uint64_t epoch = (uint64_t)at.us / 10000000;

    (void)state;
    assert_true(isnan(tally_sql_mean(t, at, 30)));
    t->slots[epoch % TALLY_SLOTS] = (struct tally_slot){epoch, 2, 3000000};
    t->slots[(epoch - 29) % TALLY_SLOTS] = (struct tally_slot){epoch - 29, 1, 3000000};
    assert_true(fabs(tally_sql_mean(t, at, 30) - 2.0) < 1e-9);
    assert_true(fabs(tally_sql_mean(t, at, 29) - 1.5) < 1e-9);
    assert_true(isnan(tally_sql_mean(t, at, 0)));
    free(t);
}

static void test_a_command_that_was_not_sent_has_no_duration(void **state)
{
    uint64_t had = 0, have = 0;

    (void)state;
    tally_redis(REDIS_LEASE, TALLY_ERROR, 1, -1);
    tally_redis(REDIS_LEASE, TALLY_SUCCESS, 2, 150);
    tally_read_mt(now);
    for (int b = 0; b < TALLY_BUCKETS; b++) {
        had += was->redis[REDIS_LEASE].times.n[b];
        have += now->redis[REDIS_LEASE].times.n[b];
    }
    assert_int_equal(have - had, 2);
    assert_int_equal(now->redis[REDIS_LEASE].count[TALLY_ERROR] - was->redis[REDIS_LEASE].count[TALLY_ERROR],
                     1);
    assert_int_equal(now->redis[REDIS_LEASE].times.sum_us - was->redis[REDIS_LEASE].times.sum_us, 300);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_statement_is_about_its_first_table_outside_of_parentheses),
        T(test_every_table_of_the_schema_has_a_name),
        T(test_statements_count_once_by_how_they_end),
        T(test_the_mean_forgets_after_its_slots),
        T(test_a_command_that_was_not_sent_has_no_duration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
