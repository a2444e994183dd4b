/* SPDX-License-Identifier: Apache-2.0 */
/* One suite on both history stores: each test begins with an empty store. */
#ifndef TESTS_UNIT_DB_FIXTURE_H
#define TESTS_UNIT_DB_FIXTURE_H

#include "tests/unit/cm.h"

#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libshared/base/clock.h"
#include "libshared/store/db_priv.h"
#include "tests/support/pgserver.h"
#include "tests/unit/absent.h"

#define SECOND_US ((int64_t)1000000)

static struct store {
    enum db_dialect dialect;
    struct pgserver *server;
    char dir[64], url[256];
} store;

#define assert_ok(expression)                                                                                \
    do {                                                                                                     \
        enum err_code rc_ = (expression);                                                                    \
                                                                                                             \
        if (rc_ != ERR_OK)                                                                                   \
            fail_msg("%s: %s: %s", #expression, err_row(rc_)->name, why.text);                               \
    } while (0)

static struct err why; /* of the last failure */

static struct db *open_with(struct db_options o)
{
    struct db *db;

    if (!o.url)
        o.url = store.url;
    why.text[0] = '\0';
    db = db_new(&o, &why);
    if (!db)
        fail_msg("%s", why.text);
    return db;
}

static UNUSED struct db *open_db(void)
{
    return open_with((struct db_options){.slow_us = -1});
}

/* A second handle beside a writing one: SQLite has one writer. */
static UNUSED struct db *open_beside(void)
{
    return open_with((struct db_options){.slow_us = -1, .is_read_only = store.dialect == DB_SQLITE});
}

static UNUSED enum err_code sql(struct db *db, const char *text)
{
    return db_exec(db, "test", text, NULL, 0, NULL, &why);
}

static UNUSED bool take_int(void *user, const struct db_value *v, unsigned n)
{
    assert_int_equal(n, 1);
    assert_int_equal(v[0].type, DB_INT);
    *(int64_t *)user = v[0].i;
    return true;
}

static UNUSED int64_t number(struct db *db, const char *text)
{
    int64_t n = INT64_MIN;

    assert_ok(db_query(db, "test", text, NULL, 0, take_int, &n, &why));
    return n;
}

static UNUSED int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static UNUSED int sqlite_group(void **state)
{
    (void)state;
    store = (struct store){.dialect = DB_SQLITE};
    return 0;
}

static UNUSED int each_setup(void **state)
{
    (void)state;
    if (store.dialect == DB_SQLITE) {
        (void)snprintf(store.dir, sizeof(store.dir), "/tmp/gatewayd-db-XXXXXX");
        assert_non_null(mkdtemp(store.dir));
        (void)snprintf(store.url, sizeof(store.url), "%s/history.db", store.dir);
        return 0;
    }
    if (!store.server)
        return 0;
    (void)snprintf(store.url, sizeof(store.url), "%s", pgserver_url(store.server));
    struct db *db = open_with((struct db_options){.slow_us = -1, .deadline_us = 30 * SECOND_US});

    assert_ok(sql(db, "DROP SCHEMA public CASCADE"));
    assert_ok(sql(db, "CREATE SCHEMA public"));
    db_free(db);
    return 0;
}

static UNUSED int each_teardown(void **state)
{
    (void)state;
    if (store.dialect == DB_SQLITE)
        (void)nftw(store.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}

static UNUSED int postgres_group(void **state)
{
    (void)state;
    store.dialect = DB_POSTGRES;
    return 0;
}

static UNUSED int postgres_group_end(void **state)
{
    (void)state;
    pgserver_stop(store.server);
    store.server = NULL;
    return 0;
}

#define each_test(f) cmocka_unit_test_setup_teardown(f, each_setup, each_teardown)

/* False, having said why, where PostgreSQL cannot run. Where CI is set it has to. */
static UNUSED bool postgres_starts(void)
{
    const char *reason = NULL;

    store = (struct store){.dialect = DB_POSTGRES};
    store.server = pgserver_start(&reason);
    if (!store.server)
        left_out("all tests on PostgreSQL", reason);
    return store.server != NULL;
}

#endif
