/* SPDX-License-Identifier: Apache-2.0 */
/* The history store above its backends: argument checks, transactions, bulk inserts, locks, statistics, slow statements
 * and injected faults. Runs on the thread that owns the handle; db_stats_mt() on any.
 *
 * Invariant: a transaction behaves alike on both backends. Its first failed statement dooms it (PostgreSQL would refuse
 * the rest, SQLite would go on); ERR_IO and ERR_TIMEOUT end it at once. The tricky part is settle_failure(). */
#include "libshared/store/db.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libshared/base/utf8.h"
#include "libshared/store/db_priv.h"
#include "libshared/store/tally.h"

#define DEADLINE_US     ((int64_t)5 * 1000 * 1000)
#define SLOW_US         ((int64_t)500 * 1000)
#define SLOW_EVERY_US   ((int64_t)1000 * 1000)
#define LOCK_POLL_US    ((int64_t)20 * 1000)
#define INSERT_BYTES    ((size_t)8 << 20) /* of values in one statement, so that it ends within its deadline */
#define INSERT_SQL_MAX  ((size_t)4 << 20)
#define VALUE_BYTES_MAX ((size_t)256 << 20)

/* ---- small things that the backends share ---- */

void db_bump(_Atomic uint64_t *counter)
{
    /* One writer: the thread that owns the handle. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

void db_connection_ended(struct db *db)
{
    db->in_transaction = false;
    db->doomed = ERR_OK;
    db->n_locks = 0;
}

bool db_nap(int64_t us, struct mono deadline)
{
    int64_t left_us = mono_diff_us(deadline, mono_now());
    struct timespec t;

    if (left_us <= 0)
        return false;
    if (us > left_us)
        us = left_us;
    t = (struct timespec){.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    (void)nanosleep(&t, NULL);
    return true;
}

struct span db_first_line(const char *message)
{
    return span_make(message, message ? strcspn(message, "\r\n") : 0);
}

/* ---- life ---- */

static bool is_postgres(const char *url)
{
    return strncmp(url, "postgresql://", 13) == 0 || strncmp(url, "postgres://", 11) == 0;
}

static struct db *finish(struct db *db, bool has_connection, const struct db_options *o, struct err *err)
{
    if (!db)
        return NULL;
    db->has_connection = has_connection;
    tally_connections(has_connection);
    db->is_read_only = o->is_read_only;
    db->deadline_us = o->deadline_us > 0 ? o->deadline_us : DEADLINE_US;
    db->slow_us = o->slow_us ? o->slow_us : SLOW_US;
    db->url = strdup(o->url);
    if (db->url)
        return db;
    (void)err_set(err, ERR_NO_MEMORY, "memory is exhausted");
    db_free(db);
    return NULL;
}

struct db *db_new(const struct db_options *o, struct err *err)
{

    if (!o->url || !*o->url) {
        (void)err_set(err, ERR_CONFIG, "the database URL is empty");
        return NULL;
    }
    if (!is_postgres(o->url) && strstr(o->url, "://")) {
        (void)err_set(err, ERR_CONFIG,
                      "the database URL is neither 'postgresql://…' nor the path of a SQLite file");
        return NULL;
    }
    return finish(is_postgres(o->url) ? db_postgres_new(o, err) : db_sqlite_new(o, err), true, o, err);
}

/* What could be opened once can be made again: nothing connects before its first use. */
struct db *db_share(struct db *db)
{
    struct db_options o = {.url = db->url,
                           .is_read_only = db->is_read_only,
                           .deadline_us = db->deadline_us,
                           .slow_us = db->slow_us};
    struct db *other = db->ops->share ? finish(db->ops->share(db), false, &o, NULL) : db_new(&o, NULL);

    if (!other)
        abort();
    return other;
}

void db_free(struct db *db)
{
    if (!db)
        return;
    db_rollback(db);
    tally_connections(-db->has_connection);
    while (db->n_locks)
        db_unlock(db, db->locks[db->n_locks - 1].name);
    free(db->slow.sql);
    free(db->where);
    free(db->url);
    db->ops->free(db);
}

void db_set_deadline(struct db *db, int64_t us)
{
    db->deadline_us = us;
}

enum db_dialect db_dialect(const struct db *db)
{
    return db->ops->dialect;
}

const char *db_backend(const struct db *db)
{
    return db->ops->name;
}

const char *db_where(const struct db *db)
{
    return db->where;
}

bool db_in_transaction(const struct db *db)
{
    return db->in_transaction;
}

void db_set_fault(struct db *db, const struct db_fault *f)
{
    db->fault = f ? *f : (struct db_fault){0};
}

struct db_stats db_stats_mt(const struct db *db)
{
    return (struct db_stats){
        .statements = atomic_load_explicit(&db->stats.statements, memory_order_relaxed),
        .errors = atomic_load_explicit(&db->stats.errors, memory_order_relaxed),
        .reconnects = atomic_load_explicit(&db->stats.reconnects, memory_order_relaxed),
        .timeouts = atomic_load_explicit(&db->stats.timeouts, memory_order_relaxed),
        .slow = atomic_load_explicit(&db->stats.slow, memory_order_relaxed),
        .max_us = atomic_load_explicit(&db->stats.max_us, memory_order_relaxed),
    };
}

/* From the first statement of a transaction to its end, else while one runs. */
static void note_use(struct db *db)
{
    bool is_used = db->is_busy || db->in_transaction;

    if (is_used != db->is_used)
        tally_in_use(is_used ? 1 : -1);
    db->is_used = is_used;
}

/* Straight to the backend: it is counted, and that is all. */
static enum err_code run_untold(struct db *db, struct db_statement *st)
{
    struct mono start = mono_now();
    enum err_code rc = db->ops->run(db, st, NULL);

    tally_sql(st->sql, mono_diff_us(mono_now(), start), rc == ERR_OK);
    return rc;
}

/* ---- slow statements ---- */

/* Keeps the slowest of those that came while one was waiting. */
static void slow_note(struct db *db, const struct db_statement *st, int64_t took_us)
{
    struct db_slow *s = &db->slow;
    char *sql;

    if (db->slow_us < 0 || took_us < db->slow_us)
        return;
    db_bump(&db->stats.slow);
    if (db->is_read_only || (s->sql && s->duration_us >= took_us) || !(sql = strndup(st->sql, DB_SLOW_BYTES)))
        return;
    free(s->sql);
    s->sql = sql;
    s->duration_us = took_us;
    s->at = wall_now();
    (void)span_copy(s->label, sizeof(s->label), span_of(st->label));
}

/* Straight to the backend: it is not noted, not counted and not failed by tests, so it cannot recur. What cannot be
 * written (no such table yet) is dropped. */
static void slow_write(struct db *db, struct mono deadline)
{
    struct db_slow *s = &db->slow;
    struct mono now = mono_now();

    if (!s->sql || db->in_transaction || (s->written.us && mono_diff_us(now, s->written) < SLOW_EVERY_US))
        return;
    struct span text = span_of(s->sql);
    while (text.len && ((unsigned char)text.p[text.len - 1] & 0xC0) == 0x80 && text.len >= DB_SLOW_BYTES - 3)
        text.len--; /* the cut may have split a character */
    struct db_value v[] = {db_int(s->at.us / 1000000), db_textz(s->label), db_int(s->duration_us),
                           db_text(text)};
    struct db_statement st = {
        .label = "slow_queries",
        .sql = "INSERT INTO slow_queries (at, label, duration_us, sql) VALUES ($1, $2, $3, $4)",
        .params = v,
        .n = ARRAY_LEN(v),
        .deadline = deadline,
    };

    (void)run_untold(db, &st);
    s->written = now;
    free(s->sql);
    s->sql = NULL;
}

/* ---- one statement ---- */

static bool is_text(struct span s)
{
    size_t i = 0;

    if (memchr(s.len ? s.p : "", '\0', s.len))
        return false;
    while (i < s.len) {
        size_t n = (unsigned char)s.p[i] < 0x80 ? 1 : utf8_valid_len(s.p + i, s.len - i);

        if (!n)
            return false;
        i += n;
    }
    return true;
}

static enum err_code check_values(const char *label, const struct db_value *v, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (v[i].type == DB_TEXT && !is_text(v[i].s))
            return err_set(err, ERR_BAD_REQUEST, "'%s': value %zu is not text (NUL or invalid UTF-8)", label,
                           i + 1);
        if (v[i].type == DB_REAL && !isfinite(v[i].d))
            return err_set(err, ERR_BAD_REQUEST, "'%s': value %zu is not a finite number", label, i + 1);
        if ((v[i].type == DB_TEXT || v[i].type == DB_BLOB) && v[i].s.len > VALUE_BYTES_MAX)
            return err_set(err, ERR_BAD_REQUEST, "'%s': value %zu is too large", label, i + 1);
    }
    return ERR_OK;
}

/*            statement fails with ERR_IO, ERR_TIMEOUT (settle_failure: drop)
 *        ┌────────────────────────────────────────────────────────────────┐
 *        v                                                                │
 *      none ──db_begin──> open ──statement fails otherwise──> doomed ─────┤
 *        ^                  │                                   │         │
 *        └──db_commit───────┴── db_rollback, db_commit (fails) ─┘ <───────┘ */
static void settle_failure(struct db *db, enum err_code rc)
{
    if (!db->in_transaction)
        return;
    if (rc == ERR_IO || rc == ERR_TIMEOUT) {
        db->ops->drop(db);
        db->in_transaction = false;
        note_use(db);
        db->doomed = ERR_OK;
    } else if (db->doomed == ERR_OK) {
        db->doomed = rc;
    }
}

static void account(struct db *db, const struct db_statement *st, struct mono start, enum err_code rc)
{
    int64_t took_us = mono_diff_us(mono_now(), start);

    tally_sql(st->sql, took_us, rc == ERR_OK);
    db_bump(&db->stats.statements);
    if (took_us > atomic_load_explicit(&db->stats.max_us, memory_order_relaxed))
        atomic_store_explicit(&db->stats.max_us, took_us, memory_order_relaxed);
    if (rc != ERR_OK)
        db_bump(&db->stats.errors);
    if (rc == ERR_TIMEOUT)
        db_bump(&db->stats.timeouts);
    slow_note(db, st, took_us);
}

static enum err_code run(struct db *db, struct db_statement *st, struct err *err)
{
    struct mono start = mono_now();
    struct db_fault f = db->fault;
    enum err_code rc;

    assert(!db->is_busy);
    db->is_busy = true;
    note_use(db);
    rc = f.before ? f.before(f.user, st->label) : ERR_OK;
    if (rc != ERR_OK) {
        (void)err_set(err, rc, "'%s' failed before it was sent", st->label);
    } else {
        rc = db->ops->run(db, st, err);
        if (rc == ERR_OK && f.after && (rc = f.after(f.user, st->label)) != ERR_OK)
            (void)err_set(err, rc, "the answer to '%s' was lost", st->label);
    }
    account(db, st, start, rc);
    db->is_busy = false;
    note_use(db);
    return rc;
}

/* `deadline` is that of the whole call. */
static enum err_code run_checked(struct db *db, struct db_statement *st, struct err *err)
{
    enum err_code rc;

    if (db->in_transaction && db->doomed != ERR_OK)
        return err_set(err, db->doomed, "'%s' was not run: its transaction has failed before", st->label);
    if (st->n > db->ops->max_params)
        return err_set(err, ERR_BAD_REQUEST, "'%s': too many values", st->label);
    rc = check_values(st->label, st->params, st->n, err);
    if (rc == ERR_OK)
        rc = run(db, st, err);
    if (rc != ERR_OK)
        settle_failure(db, rc);
    return rc;
}

static struct mono call_begins(struct db *db)
{
    struct mono start = mono_now();

    slow_write(db, mono_add_us(start, db->deadline_us / 2));
    return mono_add_us(start, db->deadline_us);
}

enum err_code db_exec(struct db *db, const char *label, const char *sql, const struct db_value *params,
                      unsigned n, int64_t *out_changed, struct err *err)
{
    struct db_statement st = {
        .label = label, .sql = sql, .params = params, .n = n, .deadline = call_begins(db)};
    enum err_code rc = run_checked(db, &st, err);

    if (rc == ERR_OK && out_changed)
        *out_changed = st.changed;
    return rc;
}

enum err_code db_query(struct db *db, const char *label, const char *sql, const struct db_value *params,
                       unsigned n, db_row_fn fn, void *user, struct err *err)
{
    struct db_statement st = {.label = label,
                              .sql = sql,
                              .params = params,
                              .n = n,
                              .fn = fn,
                              .user = user,
                              .deadline = call_begins(db)};

    return run_checked(db, &st, err);
}

/* ---- transactions ---- */

enum err_code db_begin(struct db *db, struct err *err)
{
    struct db_statement st = {.label = "begin",
                              .sql = db->is_read_only ? db->ops->begin_reading : db->ops->begin};
    enum err_code rc;

    if (db->in_transaction)
        return err_set(err, ERR_CONFLICT, "a transaction is open already");
    st.deadline = call_begins(db);
    rc = run(db, &st, err);
    if (rc == ERR_OK)
        db->in_transaction = true;
    else
        db->ops->drop(db); /* an answer that was lost may have opened one */
    note_use(db);
    return rc;
}

enum err_code db_commit(struct db *db, struct err *err)
{
    struct db_statement st = {.label = "commit", .sql = "COMMIT"};
    enum err_code rc;

    if (!db->in_transaction)
        return err_set(err, ERR_CONFLICT, "no transaction is open");
    if (db->doomed != ERR_OK) {
        rc = err_set(err, db->doomed, "not committed: a statement of the transaction has failed");
        db_rollback(db);
        return rc;
    }
    st.deadline = mono_add_us(mono_now(), db->deadline_us);
    rc = run(db, &st, err);
    if (rc != ERR_OK)
        db->ops->drop(db);
    db->in_transaction = false;
    note_use(db);
    return rc;
}

void db_rollback(struct db *db)
{
    struct db_statement st = {.label = "rollback", .sql = "ROLLBACK"};

    if (!db->in_transaction)
        return;
    st.deadline = mono_add_us(mono_now(), db->deadline_us);
    if (run_untold(db, &st) != ERR_OK)
        db->ops->drop(db);
    db->in_transaction = false;
    note_use(db);
    db->doomed = ERR_OK;
}

/* ---- many rows ---- */

struct insert {
    const char *label, *table, *columns, *tail;
    const struct db_value *values;
    unsigned n_columns;
    size_t n_rows, at;
    size_t sql_rows; /* that `sql` is written for */
    struct buf sql;
};

static void insert_release(struct insert *in)
{
    buf_release(&in->sql);
}

/* As many rows from `in->at` on as parameters and bytes allow; one at least. */
static size_t insert_span(const struct insert *in, unsigned max_params)
{
    size_t most = max_params / in->n_columns, rows = 0, bytes = 0;

    while (in->at + rows < in->n_rows && rows < most) {
        const struct db_value *v = in->values + (in->at + rows) * in->n_columns;

        for (unsigned i = 0; i < in->n_columns; i++)
            bytes += v[i].type == DB_TEXT || v[i].type == DB_BLOB ? v[i].s.len : sizeof(int64_t);
        if (rows && bytes > INSERT_BYTES)
            break;
        rows++;
    }
    return rows;
}

static enum err_code insert_write_sql(struct insert *in, size_t rows, bool has_bare_marks)
{
    unsigned param = 0;

    if (rows == in->sql_rows)
        return ERR_OK;
    buf_clear(&in->sql);
    buf_addf(&in->sql, "INSERT INTO %s (%s) VALUES ", in->table, in->columns);
    for (size_t r = 0; r < rows; r++) {
        buf_addz(&in->sql, r ? ",(" : "(");
        for (unsigned c = 0; c < in->n_columns; c++) {
            if (c)
                buf_addc(&in->sql, ',');
            buf_addc(&in->sql, has_bare_marks ? '?' : '$');
            if (!has_bare_marks)
                buf_addu(&in->sql, ++param);
        }
        buf_addc(&in->sql, ')');
    }
    in->sql_rows = rows;
    return buf_printf(&in->sql, " %s", in->tail ? in->tail : "");
}

static enum err_code insert_some(struct db *db, struct insert *in, struct err *err)
{
    size_t rows = insert_span(in, db->ops->max_params);
    struct db_statement st = {.label = in->label,
                              .params = in->values + in->at * in->n_columns,
                              .n = (unsigned)(rows * in->n_columns),
                              .deadline = call_begins(db)};
    enum err_code rc = insert_write_sql(in, rows, db->ops->has_bare_marks);

    if (rc != ERR_OK)
        return err_set(err, rc, "'%s': the statement is too long", in->label);
    st.sql = in->sql.p;
    in->at += rows;
    return run_checked(db, &st, err);
}

enum err_code db_insert(struct db *db, const char *label, const char *table, const char *columns,
                        const struct db_value *values, unsigned n_columns, size_t n_rows, const char *tail,
                        struct err *err)
{
    struct insert in AUTO(insert_release) = {.label = label,
                                             .table = table,
                                             .columns = columns,
                                             .tail = tail,
                                             .values = values,
                                             .n_columns = n_columns,
                                             .n_rows = n_rows};
    bool is_own = false;
    enum err_code rc = ERR_OK;

    if (!n_columns || n_columns > db->ops->max_params)
        return err_set(err, ERR_BAD_REQUEST, "'%s': %u columns", label, n_columns);
    buf_init(&in.sql, INSERT_SQL_MAX);
    if (!db->in_transaction && n_rows && insert_span(&in, db->ops->max_params) < n_rows) {
        rc = db_begin(db, err);
        is_own = rc == ERR_OK;
    }
    while (rc == ERR_OK && in.at < n_rows)
        rc = insert_some(db, &in, err);
    if (!is_own)
        return rc;
    if (rc == ERR_OK)
        return db_commit(db, err);
    db_rollback(db);
    return rc;
}

/* ---- locks ---- */

static bool is_lock_name(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-");

    return n && n < DB_NAME_CAP && !name[n];
}

static struct db_held *find_lock(struct db *db, const char *name)
{
    for (unsigned i = 0; i < db->n_locks; i++)
        if (strcmp(db->locks[i].name, name) == 0)
            return &db->locks[i];
    return NULL;
}

enum err_code db_lock(struct db *db, const char *name, int64_t wait_us, bool *out_got, struct err *err)
{
    struct mono until = mono_add_us(mono_now(), wait_us);
    bool got = false;
    int fd = -1;

    if (!is_lock_name(name))
        return err_set(err, ERR_BAD_REQUEST, "lock '%s': a name is made of a-z, 0-9, '_' and '-'", name);
    if (find_lock(db, name))
        return err_set(err, ERR_CONFLICT, "lock '%s' is held by this connection already", name);
    if (db->n_locks == DB_LOCKS_MAX)
        return err_set(err, ERR_BAD_REQUEST, "lock '%s': too many locks at once", name);
    do {
        enum err_code rc = db->ops->try_lock(db, name, &fd, &got, err);

        if (rc != ERR_OK) {
            settle_failure(db, rc);
            return rc;
        }
    } while (!got && db_nap(LOCK_POLL_US, until));
    if (got) {
        struct db_held *h = &db->locks[db->n_locks++];

        (void)span_copy(h->name, sizeof(h->name), span_of(name));
        h->fd = fd;
    }
    *out_got = got;
    return ERR_OK;
}

void db_unlock(struct db *db, const char *name)
{
    struct db_held *h = find_lock(db, name), gone;

    if (!h)
        return; /* it ended with the connection */
    gone = *h;
    *h = db->locks[--db->n_locks];
    db->ops->unlock(db, gone.name, gone.fd);
}
