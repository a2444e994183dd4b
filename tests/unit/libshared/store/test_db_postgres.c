/* SPDX-License-Identifier: Apache-2.0 */
/* What a PostgreSQL server can do to us: stop, die, fill up, refuse. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#include "tests/unit/libshared/store/db_fixture.h"

#define LONG (20 * SECOND_US) /* nothing may take that long */

static struct db *with_deadline(int64_t us)
{
    return open_with((struct db_options){.deadline_us = us, .slow_us = -1});
}

static struct db *with_table(int64_t deadline_us)
{
    struct db *db = open_db();

    assert_ok(sql(db, "CREATE TABLE t (i bigint PRIMARY KEY)"));
    db_free(db);
    return with_deadline(deadline_us);
}

static enum err_code put(struct db *db, int64_t i)
{
    struct db_value v = db_int(i);

    return db_exec(db, "put", "INSERT INTO t VALUES ($1)", &v, 1, NULL, &why);
}

static pid_t backend_of(struct db *db)
{
    return (pid_t)number(db, "SELECT pg_backend_pid()");
}

static struct db *eventually_connected(struct db *db)
{
    struct mono until = mono_add_us(mono_now(), LONG);

    while (sql(db, "SELECT 1") != ERR_OK)
        if (!db_nap(20000, until))
            fail_msg("not connected again: %s", why.text);
    return db;
}

static bool check_setting(void *user, const struct db_value *v, unsigned n)
{
    const char *expected = user;

    (void)n;
    if (!span_is(v[0].s, expected))
        fail_msg("'%.*s' is not '%s'", (int)v[0].s.len, v[0].s.p, expected);
    return true;
}

static void expect(struct db *db, const char *query, const char *answer)
{
    assert_ok(db_query(db, "show", query, NULL, 0, check_setting, (void *)(uintptr_t)answer, &why));
}

/* ---- a good server ---- */

static void test_a_session_has_our_settings(void **state)
{
    struct db *db = with_deadline(10 * SECOND_US);

    (void)state;
    expect(db, "SHOW client_encoding", "UTF8");
    expect(db, "SHOW timezone", "UTC");
    expect(db, "SHOW application_name", "gatewayd");
    expect(db, "SHOW standard_conforming_strings", "on");
    expect(db, "SHOW statement_timeout", "9001ms");
    expect(db, "SHOW search_path", "\"$user\", public");
    db_free(db);
}

static void test_a_text_becomes_what_its_column_is(void **state)
{
    struct db *db = open_db();
    struct db_value v[] = {db_textz("2026-11-20T14:00:00+02:00"), db_textz("{\"a\": [1, 2]}"), db_int(7)};

    (void)state;
    assert_ok(sql(db, "CREATE TABLE v (at timestamptz, j jsonb, i integer)"));
    assert_ok(db_insert(db, "put", "v", "at,j,i", v, 3, 1, "", &why));
    expect(db, "SELECT at FROM v", "2026-11-20 12:00:00+00");
    expect(db, "SELECT j FROM v", "{\"a\": [1, 2]}");
    v[1] = db_textz("{broken");
    assert_int_equal(db_insert(db, "put", "v", "at,j,i", v, 3, 1, "", &why), ERR_BAD_REQUEST);
    assert_null(strstr(why.text, "broken")); /* the server quotes it, we do not */
    struct db_value secret = db_textz("12hunter2");
    assert_int_equal(db_exec(db, "put", "INSERT INTO v (i) VALUES ($1)", &secret, 1, NULL, &why),
                     ERR_BAD_REQUEST);
    assert_null(strstr(why.text, "hunter2"));
    assert_int_equal(number(db, "SELECT i FROM v WHERE at < now() + interval '100 years'"), 7);
    db_free(db);
}

static void test_the_password_is_shown_nowhere(void **state)
{
    struct db *db = open_with((struct db_options){.url = "postgresql://me:hunter2@127.0.0.1:1/books"});

    (void)state;
    assert_string_equal(db_where(db), "postgresql://me@127.0.0.1:1/books");
    assert_int_equal(sql(db, "SELECT 1"), ERR_IO); /* nobody listens on port 1 */
    assert_null(strstr(why.text, "hunter2"));
    assert_non_null(strstr(why.text, "127.0.0.1"));
    assert_int_equal(sql(db, "SELECT 1"), ERR_UNAVAILABLE); /* not tried again yet */
    assert_null(strstr(why.text, "hunter2"));
    db_free(db);
}

/* ---- one that stops ---- */

static void test_a_stopped_backend_costs_one_deadline(void **state)
{
    struct db *db = with_table(SECOND_US / 2);
    pid_t backend = backend_of(db);
    struct mono start = mono_now();

    (void)state;
    assert_ok(db_begin(db, &why));
    assert_ok(put(db, 1));
    assert_int_equal(kill(backend, SIGSTOP), 0);
    assert_int_equal(put(db, 2), ERR_TIMEOUT);
    assert_true(mono_diff_us(mono_now(), start) < LONG);
    assert_false(db_in_transaction(db));
    assert_int_equal(db_commit(db, &why), ERR_CONFLICT);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 0); /* on a new connection */
    assert_int_equal(db_stats_mt(db).reconnects, 1);
    assert_int_equal(kill(backend, SIGCONT), 0);
    db_free(db);
}

static void test_closing_a_handle_does_not_wait_for_a_stopped_backend(void **state)
{
    struct db *db = with_table(SECOND_US / 2);
    pid_t backend = backend_of(db);
    struct mono start = mono_now();
    bool got = false;

    (void)state;
    assert_ok(db_lock(db, "aggregate", 0, &got, &why));
    assert_ok(db_begin(db, &why));
    assert_int_equal(kill(backend, SIGSTOP), 0);
    db_free(db);
    assert_true(mono_diff_us(mono_now(), start) < LONG);
    assert_int_equal(kill(backend, SIGCONT), 0);
}

static void test_a_stopped_server_costs_one_deadline_then_nothing(void **state)
{
    struct db *db = with_deadline(SECOND_US / 2);
    struct mono start = mono_now();
    unsigned quick = 0;

    (void)state;
    assert_int_equal(kill(pgserver_pid(store.server), SIGSTOP), 0);
    assert_int_equal(sql(db, "SELECT 1"), ERR_TIMEOUT);
    while (quick < 3 && mono_diff_us(mono_now(), start) < LONG)
        if (sql(db, "SELECT 1") == ERR_UNAVAILABLE)
            quick++;
    assert_int_equal(quick, 3);
    assert_int_equal(kill(pgserver_pid(store.server), SIGCONT), 0);
    db_free(eventually_connected(db));
}

/* A request larger than the socket's buffers, to a backend that does not read. */
static void test_sending_to_a_stopped_backend_ends_too(void **state)
{
    struct db *db = with_table(SECOND_US / 2);
    size_t n = (size_t)32 << 20;
    char *big = calloc(1, n);
    struct db_value v = db_blob(span_make(big, n));
    pid_t backend = backend_of(db);

    (void)state;
    assert_non_null(big);
    assert_int_equal(kill(backend, SIGSTOP), 0);
    assert_int_equal(db_exec(db, "big", "SELECT length($1)", &v, 1, NULL, &why), ERR_TIMEOUT);
    assert_int_equal(kill(backend, SIGCONT), 0);
    free(big);
    db_free(db);
}

/* ---- one that dies ---- */

static void test_a_server_that_crashes_within_a_transaction_takes_it_along(void **state)
{
    struct db *db = with_table(5 * SECOND_US);
    enum err_code rc;

    (void)state;
    assert_ok(put(db, 1));
    assert_ok(db_begin(db, &why));
    assert_ok(put(db, 2));
    pgserver_end(store.server, SIGQUIT);
    rc = put(db, 3);
    assert_true(rc == ERR_IO || rc == ERR_UNAVAILABLE);
    assert_false(db_in_transaction(db));
    assert_int_not_equal(sql(db, "SELECT 1"), ERR_OK);
    assert_true(pgserver_again(store.server));
    eventually_connected(db);
    assert_int_equal(number(db, "SELECT CAST(sum(i) AS bigint) FROM t"), 1);
    db_free(db);
}

static void test_a_commit_whose_server_died_is_unknown(void **state)
{
    struct db *db = with_table(5 * SECOND_US);

    (void)state;
    assert_ok(db_begin(db, &why));
    assert_ok(put(db, 2));
    pgserver_end(store.server, SIGQUIT);
    assert_int_equal(db_commit(db, &why), ERR_IO);
    assert_false(db_in_transaction(db));
    assert_true(pgserver_again(store.server));
    db_free(eventually_connected(db));
}

/* It says why it goes, and yet may have done what it was asked to. */
static void test_a_statement_whose_server_leaves_is_unknown(void **state)
{
    static const char LEAVE[] = "SELECT pg_terminate_backend(pg_backend_pid())";
    struct db *db = with_table(5 * SECOND_US);

    (void)state;
    assert_int_equal(sql(db, LEAVE), ERR_IO);
    assert_non_null(strstr(why.text, "terminating connection"));
    assert_int_equal(why.code, ERR_IO);
    assert_ok(db_begin(db, &why));
    assert_int_equal(sql(db, LEAVE),
                     ERR_UNAVAILABLE); /* within a transaction it is known: all of it is gone */
    assert_false(db_in_transaction(db));
    assert_int_equal(db_commit(db, &why), ERR_CONFLICT);
    assert_ok(put(db, 1));
    db_free(db);
}

static void test_a_connection_that_died_idle_is_replaced_in_silence(void **state)
{
    struct db *db = with_table(5 * SECOND_US), *killer = open_db();
    struct db_value pid = db_int(backend_of(db));
    struct mono until = mono_add_us(mono_now(), LONG);
    bool got = false;

    (void)state;
    assert_ok(db_exec(killer, "kill", "SELECT pg_terminate_backend(CAST($1 AS integer), 10000)", &pid, 1,
                      NULL, &why));
    assert_ok(put(db, 1));
    assert_int_equal(db_stats_mt(db).reconnects, 1);
    assert_int_equal(db_stats_mt(db).errors, 0);

    assert_ok(db_lock(db, "aggregate", 0, &got, &why));
    pid = db_int(backend_of(db));
    assert_ok(db_exec(killer, "kill", "SELECT pg_terminate_backend(CAST($1 AS integer), 10000)", &pid, 1,
                      NULL, &why));
    assert_int_equal(put(db, 2), ERR_IO); /* the lock went with it: not in silence */
    assert_ok(put(db, 2));
    do
        assert_ok(db_lock(killer, "aggregate", 0, &got, &why));
    while (!got && db_nap(20000, until));
    assert_true(got);
    db_free(killer);
    db_free(db);
}

/* ---- one that refuses ---- */

static void test_what_the_server_cannot_do_now_is_unavailable(void **state)
{
    struct db *db = with_table(5 * SECOND_US), *many[40] = {0};
    enum err_code rc = ERR_OK;
    size_t n = 0;
    char url[400];

    (void)state;
    assert_ok(sql(db, "SET default_transaction_read_only = on"));
    assert_int_equal(put(db, 1), ERR_UNAVAILABLE);
    while (n < ARRAY_LEN(many) && rc == ERR_OK) {
        many[n] = open_db();
        rc = sql(many[n++], "SELECT 1");
    }
    assert_int_equal(rc, ERR_UNAVAILABLE); /* too many clients */
    while (n)
        db_free(many[--n]);
    (void)snprintf(url, sizeof(url), "postgresql://postgres@/nowhere?host=%s", pgserver_dir(store.server));
    many[0] = open_with((struct db_options){.url = url});
    assert_int_equal(sql(many[0], "SELECT 1"), ERR_UNAVAILABLE); /* no such database */
    db_free(many[0]);
    db_free(db);
}

static void test_waiting_for_a_row_ends_too(void **state)
{
    struct db *a = with_table(5 * SECOND_US), *b = open_db();

    (void)state;
    assert_ok(sql(a, "SET lock_timeout = '100ms'"));
    assert_ok(sql(b, "SET statement_timeout = 0"));
    assert_ok(put(a, 1));
    assert_ok(db_begin(b, &why));
    assert_ok(sql(b, "UPDATE t SET i = i"));
    assert_int_equal(sql(a, "UPDATE t SET i = i"), ERR_TIMEOUT);
    db_free(b);
    assert_ok(sql(a, "UPDATE t SET i = i"));
    db_free(a);
}

/* ---- names ---- */

/* Stands before the C library's, for us and for libpq. "slow.test" is resolved when the gate opens. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool is_open;
    unsigned slow, inside, foreign;
    pthread_t owner;
} gate = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    union {
        void *p;
        int (*fn)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    } real = {.p = dlsym(RTLD_NEXT, "getaddrinfo")};
    bool is_name = node && !(hints && hints->ai_flags & AI_NUMERICHOST);

    (void)pthread_mutex_lock(&gate.mutex);
    if (is_name && pthread_equal(pthread_self(), gate.owner))
        gate.foreign++; /* a name resolved on the thread that must not wait */
    if (is_name && strcmp(node, "slow.test") == 0) {
        gate.slow++;
        gate.inside++;
        while (!gate.is_open)
            (void)pthread_cond_wait(&gate.cond, &gate.mutex);
        gate.inside--;
        (void)pthread_cond_broadcast(&gate.cond);
    }
    (void)pthread_mutex_unlock(&gate.mutex);
    if (is_name && strstr(node, ".test"))
        node = "127.0.0.1";
    return real.fn(node, service, hints, out);
}

static void open_gate(bool is_open)
{
    (void)pthread_mutex_lock(&gate.mutex);
    gate.is_open = is_open;
    (void)pthread_cond_broadcast(&gate.cond);
    while (is_open && gate.inside)
        (void)pthread_cond_wait(&gate.cond, &gate.mutex);
    (void)pthread_mutex_unlock(&gate.mutex);
}

static unsigned lookups(void)
{
    unsigned n;

    (void)pthread_mutex_lock(&gate.mutex);
    n = gate.slow;
    (void)pthread_mutex_unlock(&gate.mutex);
    return n;
}

static void test_a_name_that_does_not_resolve_costs_one_deadline(void **state)
{
    struct db *db = open_with((struct db_options){
        .url = "postgresql://u@slow.test:1/x", .deadline_us = SECOND_US / 5, .slow_us = -1});
    struct mono until = mono_add_us(mono_now(), LONG);
    enum err_code rc;

    (void)state;
    gate.owner = pthread_self();
    assert_int_equal(sql(db, "SELECT 1"), ERR_TIMEOUT);
    assert_non_null(strstr(why.text, "'slow.test'"));
    while ((rc = sql(db, "SELECT 1")) == ERR_UNAVAILABLE && db_nap(10000, until))
        ;
    assert_int_equal(rc, ERR_TIMEOUT);
    assert_int_equal(lookups(), 1); /* still the first thread */
    open_gate(true);
    while ((rc = sql(db, "SELECT 1")) == ERR_UNAVAILABLE && db_nap(10000, until))
        ;
    assert_int_equal(rc, ERR_IO); /* resolved; nobody listens there */
    assert_non_null(strstr(why.text, "127.0.0.1"));
    assert_int_equal(gate.foreign, 0);
    db_free(db);
}

static void test_a_handle_may_go_before_its_lookup(void **state)
{
    struct db *db = open_with((struct db_options){
        .url = "postgresql://u@slow.test:1/x", .deadline_us = SECOND_US / 5, .slow_us = -1});

    (void)state;
    open_gate(false);
    assert_int_equal(sql(db, "SELECT 1"), ERR_TIMEOUT);
    db_free(db);
    open_gate(true);
}

static void test_hosts_are_tried_in_order(void **state)
{
    char url[400];
    struct db *db;

    (void)state;
    gate.owner = pthread_self();
    (void)snprintf(url, sizeof(url),
                   "postgresql://postgres@/postgres?host=127.0.0.1,db.test,/nowhere,%s&port=1,1,5432,5432",
                   pgserver_dir(store.server));
    db = open_with((struct db_options){.url = url, .slow_us = -1});
    assert_ok(sql(db, "SELECT 1"));
    assert_int_equal(gate.foreign, 0);
    db_free(db);
}

/* It takes connections and says nothing. */
static void test_a_silent_host_leaves_time_for_the_next(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char url[400];
    struct db *db;

    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    (void)snprintf(url, sizeof(url), "postgresql://postgres@/postgres?host=127.0.0.1,%s&port=%u,5432",
                   pgserver_dir(store.server), ntohs(at.sin_port));
    db = open_with((struct db_options){.url = url, .deadline_us = 2 * SECOND_US, .slow_us = -1});
    assert_ok(sql(db, "SELECT 1"));
    db_free(db);
    (void)close(fd);
}

static const struct CMUnitTest TESTS[] = {
    each_test(test_a_session_has_our_settings),
    each_test(test_a_text_becomes_what_its_column_is),
    each_test(test_the_password_is_shown_nowhere),
    each_test(test_a_stopped_backend_costs_one_deadline),
    each_test(test_closing_a_handle_does_not_wait_for_a_stopped_backend),
    each_test(test_a_stopped_server_costs_one_deadline_then_nothing),
    each_test(test_sending_to_a_stopped_backend_ends_too),
    each_test(test_a_server_that_crashes_within_a_transaction_takes_it_along),
    each_test(test_a_commit_whose_server_died_is_unknown),
    each_test(test_a_statement_whose_server_leaves_is_unknown),
    each_test(test_a_connection_that_died_idle_is_replaced_in_silence),
    each_test(test_what_the_server_cannot_do_now_is_unavailable),
    each_test(test_waiting_for_a_row_ends_too),
    each_test(test_a_name_that_does_not_resolve_costs_one_deadline),
    each_test(test_a_handle_may_go_before_its_lookup),
    each_test(test_hosts_are_tried_in_order),
    each_test(test_a_silent_host_leaves_time_for_the_next),
};

int main(void)
{
    if (!postgres_starts())
        return 0;
    return cmocka_run_group_tests_name("db_postgres", TESTS, postgres_group, postgres_group_end);
}
