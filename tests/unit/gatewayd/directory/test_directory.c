/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/directory/directory.h"

#include <string.h>

#include "libshared/store/audit.h"
#include "tests/unit/gatewayd/directory/temp.h"

static const char FILE_TEXT[] = "providers: [{name: p, kind: openai, base_url: 'http://127.0.0.1:1/v1'}]\n"
                                "tenants: [{id: acme, keys: [{id: web, key: 'acme-web-key-0123456789'}]}]\n";

struct world {
    struct directory *d;
    struct db *db; /* the directory's own */
    struct config *file;
    struct wall now;
    unsigned changes;
    bool is_down;
};

static struct wall now_of(void *user)
{
    return ((struct world *)user)->now;
}

static void on_change(void *user)
{
    ((struct world *)user)->changes++;
}

static enum err_code before(void *user, const char *what)
{
    (void)what;
    return ((struct world *)user)->is_down ? ERR_IO : ERR_OK;
}

static void open_world(struct world *w)
{
    struct directory_options o = {.state_dir = temp_dir,
                                  .max_age_us = (int64_t)3600 * 1000000,
                                  .now = now_of,
                                  .on_change = on_change,
                                  .user = w};
    struct err err = {0};

    write_file(temp_path("conf.yaml"), span_of(FILE_TEXT));
    w->file =
        config_load(&(struct config_options){.path = temp_path("conf.yaml"), .state_dir = temp_dir}, &err);
    o.db = db_new(&(struct db_options){.url = temp_path("history.db")}, &err);
    if (!w->file || !o.db)
        fail_msg("%s", err_text(&err));
    db_set_fault(o.db, &(struct db_fault){.before = before, .user = w});
    w->db = o.db;
    w->now = w->now.us ? w->now : wall_now();
    w->d = directory_new(&o, w->file);
}

static void close_world(struct world *w)
{
    directory_free(w->d);
    config_unref(w->file);
}

static void add(struct db *db, const char *sql)
{
    struct err err = {0};

    if (db_exec(db, "test", sql, NULL, 0, NULL, &err))
        fail_msg("%s", err_text(&err));
}

/* What its writer puts into the database. */
static enum err_code write_rows(struct db *db, int64_t now_s, void *user, struct err *err)
{
    (void)now_s;
    for (const char *const *sql = user; *sql; sql++) {
        enum err_code e = db_exec(db, "test", *sql, NULL, 0, NULL, err);

        if (e)
            return e;
    }
    return ERR_OK;
}

static enum err_code change(struct world *w, const char *const *sql, struct err *err)
{
    json_t *detail = json_pack("{s:s}", "reason", "test");
    struct directory_change c = {.actor = "token",
                                 .action = "test",
                                 .subject = "all",
                                 .detail = detail,
                                 .write = write_rows,
                                 .user = (void *)(uintptr_t)sql};
    enum err_code e;

    *err = (struct err){0};
    e = directory_change(w->d, &c, err);
    json_decref(detail);
    return e;
}

static const struct config_key *find(struct config *c, const char *text)
{
    unsigned char digest[SHA256_BYTES];

    sha256(span_of(text), digest);
    return config_find_key(c, digest);
}

static char *insert_sesame(char dst[512], const char *rest)
{
    unsigned char digest[SHA256_BYTES];
    char hex[65];

    sha256(SPAN_LIT("sesame"), digest);
    hex_encode(digest, SHA256_BYTES, hex);
    (void)snprintf(dst, 512,
                   "INSERT INTO api_keys (tenant, id, sha256, prefix, is_enabled, created_at, revoked_at) "
                   "VALUES ('acme', "
                   "'run', x'%s', 'sesame', 1, 1, %s)",
                   hex, rest);
    return dst;
}

static void make_key(struct world *w)
{
    char sql[512];
    const char *const all[] = {insert_sesame(sql, "NULL"), NULL};
    struct err err;

    if (change(w, all, &err))
        fail_msg("%s", err_text(&err));
}

static void test_a_change_is_known_at_once_and_told_once(void **state)
{
    struct world w = {0};
    struct config *c;

    (void)state;
    open_world(&w);
    c = directory_config_mt(w.d);
    assert_non_null(find(c, "acme-web-key-0123456789"));
    assert_null(find(c, "sesame"));
    assert_false(c->lacks_keys);
    config_unref(c);
    make_key(&w);
    assert_int_equal(w.changes, 1);
    c = directory_config_mt(w.d);
    assert_string_equal(find(c, "sesame")->tenant->id, "acme");
    config_unref(c);
    (void)directory_tick(w.d);
    assert_int_equal(w.changes, 1);
    close_world(&w);
}

static void test_a_provider_s_state_is_in_the_snapshot_and_nonsense_is_left_out(void **state)
{
    const char *const all[] = {"INSERT INTO settings (name, value) VALUES ('provider p', "
                               "'{\"state\":\"disabled\",\"at\":5,\"until\":0,"
                               "\"reason\":\"invoice\",\"actor\":\"token\"}'), ('provider q', 'no "
                               "document'), ('provider a b', '{}'), "
                               "('provider', 'x')",
                               NULL};
    struct world w = {0};
    const struct config_provider_state *s;
    struct config *c;
    struct err err;

    (void)state;
    open_world(&w);
    assert_int_equal(change(&w, all, &err), ERR_OK);
    assert_int_equal(directory_rows(w.d)->n_states, 1);
    c = directory_config_mt(w.d);
    s = config_provider_state(c, c->providers[0].label, 1);
    assert_non_null(s);
    assert_int_equal(s->state, PROVIDER_DISABLED);
    assert_string_equal(s->reason, "invoice");
    config_unref(c);
    close_world(&w);
}

static void test_a_change_that_fails_leaves_nothing(void **state)
{
    const char *const all[] = {"INSERT INTO settings (name, value) VALUES ('left', '1')", "SELECT nonsense",
                               NULL};
    struct world w = {0};
    struct err err;
    int64_t version = -1;

    (void)state;
    open_world(&w);
    assert_int_equal(change(&w, all, &err), ERR_BAD_REQUEST);
    assert_int_equal(rows_version(w.db, &version, &err), ERR_OK);
    assert_int_equal(version, 0);
    assert_int_equal(w.changes, 0);
    w.is_down = true;
    assert_int_equal(change(&w, all, &err), ERR_UNAVAILABLE);
    w.is_down = false;
    make_key(&w);
    assert_int_equal(rows_version(w.db, &version, &err), ERR_OK);
    assert_int_equal(version, 1);
    close_world(&w);
}

static void test_a_start_without_the_database_knows_the_snapshot_s_keys(void **state)
{
    struct world w = {0};
    struct config *c;

    (void)state;
    open_world(&w);
    make_key(&w);
    close_world(&w);
    w = (struct world){.is_down = true};
    open_world(&w);
    c = directory_config_mt(w.d);
    assert_true(c->lacks_keys);
    assert_non_null(find(c, "sesame"));
    assert_non_null(find(c, "acme-web-key-0123456789"));
    config_unref(c);
    assert_false(directory_has_answered(w.d));
    w.is_down = false;
    (void)directory_rows(w.d);
    assert_int_equal(w.changes, 1);
    c = directory_config_mt(w.d);
    assert_false(c->lacks_keys);
    assert_non_null(find(c, "sesame"));
    config_unref(c);
    close_world(&w);
}

static void assert_only_the_file(struct world *w)
{
    struct config *c;

    open_world(w);
    c = directory_config_mt(w->d);
    assert_true(c->lacks_keys);
    assert_null(find(c, "sesame"));
    assert_non_null(find(c, "acme-web-key-0123456789"));
    config_unref(c);
    close_world(w);
}

static void test_a_snapshot_that_is_old_or_changed_is_not_used(void **state)
{
    struct world w = {0};
    struct buf good AUTO(buf_release) = {0};
    struct wall made;

    (void)state;
    open_world(&w);
    make_key(&w);
    made = w.now;
    close_world(&w);
    w = (struct world){.is_down = true, .now = {made.us + (int64_t)3601 * 1000000}};
    assert_only_the_file(&w);
    w = (struct world){.is_down = true, .now = {made.us - (int64_t)2 * 86400 * 1000000}}; /* of the future */
    assert_only_the_file(&w);
    read_all(temp_path("directory.snapshot"), &good);
    good.p[40] ^= 1;
    write_file(temp_path("directory.snapshot"), buf_span(&good));
    w = (struct world){.is_down = true, .now = made};
    assert_only_the_file(&w);
}

static void test_an_unchanged_snapshot_is_dated_anew(void **state)
{
    struct world w = {0};
    struct buf first AUTO(buf_release) = {0}, second AUTO(buf_release) = {0};

    (void)state;
    open_world(&w);
    make_key(&w);
    read_all(temp_path("directory.snapshot"), &first);
    w.now.us += (int64_t)3 * 3600 * 1000000;
    (void)directory_rows(w.d);
    read_all(temp_path("directory.snapshot"), &second);
    assert_false(span_eq(buf_span(&first), buf_span(&second)));
    close_world(&w);
}

static void test_another_database_s_snapshot_is_not_used(void **state)
{
    struct world w = {0};
    struct directory_options o = {.state_dir = temp_dir, .max_age_us = INT64_MAX};
    struct err err = {0};
    struct config *c;

    (void)state;
    open_world(&w);
    make_key(&w);
    o.db = db_new(&(struct db_options){.url = "/nowhere/at/all/other.db", .is_read_only = true}, &err);
    if (!o.db)
        fail_msg("%s", err_text(&err));
    directory_free(w.d);
    w.d = directory_new(&o, w.file);
    c = directory_config_mt(w.d);
    assert_true(c->lacks_keys);
    assert_null(find(c, "sesame"));
    config_unref(c);
    close_world(&w);
}

static void test_a_revocation_in_the_database_beats_the_file(void **state)
{
    struct world w = {0};
    struct config *c;
    char sql[512], hex[65];
    unsigned char digest[SHA256_BYTES];
    const char *const all[] = {sql, NULL};
    struct err err;

    (void)state;
    sha256(SPAN_LIT("acme-web-key-0123456789"), digest);
    hex_encode(digest, SHA256_BYTES, hex);
    (void)snprintf(sql, sizeof(sql),
                   "INSERT INTO api_keys (tenant, id, sha256, prefix, is_enabled, created_at, revoked_at) "
                   "VALUES ('acme', "
                   "'web~1', x'%s', '', 0, 1, 2)",
                   hex);
    open_world(&w);
    assert_int_equal(change(&w, all, &err), ERR_OK);
    c = directory_config_mt(w.d);
    assert_true(find(c, "acme-web-key-0123456789")->is_revoked);
    config_unref(c);
    directory_set_file_mt(w.d, w.file); /* as a reload does */
    c = directory_config_mt(w.d);
    assert_true(find(c, "acme-web-key-0123456789")->is_revoked);
    config_unref(c);
    close_world(&w);
}

static void test_rows_that_make_no_sense_are_left_out(void **state)
{
    char sesame[512];
    const char *const all[] = {
        "INSERT INTO tenants (id, plan, name, is_enabled, models, created_at, updated_at) VALUES "
        "('bad name', 'p', '', 1, '', 1, 1), ('', 'p', '', 1, '', 1, 1), ('good', 'p', 'G', 1, "
        "'{\"no\":\"list\"}', 1, 1)",
        "INSERT INTO api_keys (tenant, id, sha256, prefix, is_enabled, created_at) VALUES ('acme', 'short', "
        "x'00', '', 1, 1)",
        "INSERT INTO budgets (account, limit_nano, period, warn_percent, at_limit, when_store_down, "
        "created_at, "
        "updated_at) VALUES ('nobody', 1, 'month', 80, 'block', 'bounded', 1, 1), "
        "('global', 1, 'century', 80, 'block', 'bounded', 1, 1), ('key:acme/web', 7, 'day', 80, 'warn', "
        "'open', 1, 1)",
        insert_sesame(sesame, "NULL"), NULL};
    struct world w = {0};
    const struct directory_rows *rows;
    struct config *c;
    struct err err;

    (void)state;
    open_world(&w);
    if (change(&w, all, &err))
        fail_msg("%s", err_text(&err));
    rows = directory_rows(w.d);
    assert_int_equal(rows->n_tenants, 1);
    assert_int_equal(rows->n_keys, 1);
    assert_int_equal(rows->n_budgets, 1);
    assert_int_equal(rows->n_bad, 5);
    assert_non_null(rows_tenant(rows, "good")->models); /* no list of models is none, not all */
    assert_int_equal(rows_tenant(rows, "good")->n_models, 0);
    c = directory_config_mt(w.d);
    assert_non_null(find(c, "sesame"));
    assert_int_equal(c->n_accounts, 1);
    config_unref(c);
    close_world(&w);
}

struct chain {
    unsigned char last[SHA256_BYTES];
    unsigned n;
    bool is_broken;
};

static bool check_row(void *user, const struct db_value *v, unsigned n)
{
    struct chain *chain = user;
    char text[4][256];
    json_t *detail = json_loadb(v[4].s.p, v[4].s.len, 0, NULL);
    unsigned char hash[SHA256_BYTES];

    assert_int_equal(n, 6);
    for (unsigned i = 1; i < 4; i++)
        (void)span_copy(text[i], sizeof(text[i]), v[i].s);
    assert_int_equal(audit_hash(chain->last,
                                &(struct audit_row){.at = {v[0].i * 1000000},
                                                    .actor = text[1],
                                                    .action = text[2],
                                                    .subject = text[3],
                                                    .detail = detail},
                                hash, NULL),
                     ERR_OK);
    chain->is_broken |= !span_eq(v[5].s, span_make(hash, SHA256_BYTES));
    memcpy(chain->last, v[5].s.p, SHA256_BYTES);
    chain->n++;
    json_decref(detail);
    return true;
}

static struct chain read_chain(struct db *db)
{
    struct chain chain = {0};
    struct err err = {0};

    if (db_query(db, "test", "SELECT at, actor, action, subject, detail, hash FROM audit ORDER BY id", NULL,
                 0, check_row, &chain, &err))
        fail_msg("%s", err_text(&err));
    return chain;
}

static void test_the_audit_chain_holds_until_a_row_is_changed(void **state)
{
    const char *const nothing[] = {NULL};
    struct world w = {0};
    struct err err;
    struct chain chain;

    (void)state;
    open_world(&w);
    for (int i = 0; i < 5; i++)
        assert_int_equal(change(&w, nothing, &err), ERR_OK);
    chain = read_chain(w.db);
    assert_int_equal(chain.n, 5);
    assert_false(chain.is_broken);
    add(w.db, "UPDATE audit SET subject = 'other' WHERE id = 3");
    assert_true(read_chain(w.db).is_broken);
    add(w.db, "UPDATE audit SET subject = 'all' WHERE id = 3");
    assert_false(read_chain(w.db).is_broken);
    add(w.db, "DELETE FROM audit WHERE id = 2");
    assert_true(read_chain(w.db).is_broken);
    close_world(&w);
}

static void test_deeds_without_the_database_are_in_the_audit_log_once_it_answers(void **state)
{
    struct world w = {0};
    struct chain chain;

    (void)state;
    open_world(&w);
    w.is_down = true;
    for (int i = 0; i < 300; i++) /* more than are kept */
        directory_note_mt(w.d, "signal", "config.reload", "configuration", json_pack("{s:i}", "version", i));
    (void)directory_tick(w.d);
    w.is_down = false;
    assert_int_equal(read_chain(w.db).n, 0);
    directory_note_mt(w.d, "token", "books.aggregate", "hours", NULL);
    for (int i = 0; i < 3; i++)
        (void)directory_tick(w.d);
    chain = read_chain(w.db);
    assert_int_equal(chain.n, 256);
    assert_false(chain.is_broken);
    (void)directory_tick(w.d);
    assert_int_equal(read_chain(w.db).n, 256);
    close_world(&w);
}

static void test_accounts_are_told_from_other_words(void **state)
{
    static const char *const GOOD[] = {"global", "tenant:a", "provider:x.y-z_1", "key:a/b"};
    static const char *const BAD[] = {"",         "Global", "tenant:",   "tenant:a b",   "key:a",
                                      "key:a/",   "key:/b", "key:a/b/c", "provider:a/b", "tenant:a:b",
                                      "global:x", "x:y"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(GOOD); i++)
        assert_true(rows_is_account(span_of(GOOD[i])));
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++)
        assert_false(rows_is_account(span_of(BAD[i])));
}

#define WITH_TEMP(fn) cmocka_unit_test_setup_teardown(fn, make_temp, drop_temp)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_TEMP(test_a_change_is_known_at_once_and_told_once),
        WITH_TEMP(test_a_provider_s_state_is_in_the_snapshot_and_nonsense_is_left_out),
        WITH_TEMP(test_a_change_that_fails_leaves_nothing),
        WITH_TEMP(test_a_start_without_the_database_knows_the_snapshot_s_keys),
        WITH_TEMP(test_a_snapshot_that_is_old_or_changed_is_not_used),
        WITH_TEMP(test_an_unchanged_snapshot_is_dated_anew),
        WITH_TEMP(test_another_database_s_snapshot_is_not_used),
        WITH_TEMP(test_a_revocation_in_the_database_beats_the_file),
        WITH_TEMP(test_rows_that_make_no_sense_are_left_out),
        WITH_TEMP(test_the_audit_chain_holds_until_a_row_is_changed),
        WITH_TEMP(test_deeds_without_the_database_are_in_the_audit_log_once_it_answers),
        cmocka_unit_test(test_accounts_are_told_from_other_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
