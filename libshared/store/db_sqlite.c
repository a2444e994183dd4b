/* SPDX-License-Identifier: Apache-2.0 */
/* The history store in a SQLite file. Runs on the threads that own the handles; these share the connection and the
 * descriptor of the lock file, and take turns: a statement is one turn, a transaction is one turn.
 *
 * Invariant: at most one connection of all processes writes or checkpoints (versions up to 3.51.2 can corrupt a WAL that
 * two connections reset at once). Who writes holds `<path>.lock` from db_new() to db_free(); readers are opened
 * read-only and leave the WAL alone when they close.
 *
 * Tricky: closing any descriptor of the database file drops the locks that other connections of this process have on it
 * (POSIX), so this file opens it by itself only when it does not exist yet. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "libshared/store/db_priv.h"

#define MAX_PARAMS      32766
#define DEADLINE_OPS    1000 /* of SQLite's machine, about 10 us, between looks at the clock */
#define BUSY_NAP_US     2000
#define WAL_KEEP_BYTES  "67108864"
#define NO_DEADLINE     ((struct mono){INT64_MAX})
#define LOCK_SUFFIX_CAP (DB_NAME_CAP + 8)

struct file {
    _Atomic unsigned handles;
    pthread_mutex_t mutex; /* of is_taken only; no statement runs under it */
    pthread_cond_t given;
    bool is_taken;
    char *path;
    int lock_fd; /* -1: read-only */
    /* Whose turn it is uses these. */
    sqlite3 *conn; /* NULL until first used and after an I/O error */
    struct mono deadline;
};

struct db_sqlite {
    struct db db;
    struct file *file;
    bool has_turn;
};

static struct db_sqlite *self(struct db *db)
{
    return CONTAINER_OF(db, struct db_sqlite, db);
}

/* ---- errors ---- */

static enum err_code class_of(int code)
{
    switch (code & 0xff) {
    case SQLITE_CONSTRAINT:
        return ERR_CONFLICT;
    case SQLITE_ERROR:
    case SQLITE_RANGE:
    case SQLITE_MISMATCH:
    case SQLITE_TOOBIG:
        return ERR_BAD_REQUEST;
    case SQLITE_READONLY:
    case SQLITE_FULL:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return ERR_UNAVAILABLE;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_INTERRUPT:
        return ERR_TIMEOUT;
    case SQLITE_NOMEM:
        return ERR_NO_MEMORY;
    default:
        return ERR_IO;
    }
}

static enum err_code fail(struct db_sqlite *s, int code, const char *label, struct err *err)
{
    enum err_code rc = class_of(code);

    if (rc == ERR_TIMEOUT)
        return err_set(err, rc, "'%s' did not end within its deadline", label);
    return err_set(err, rc, "'%s': %s", label,
                   s->file->conn ? sqlite3_errmsg(s->file->conn) : sqlite3_errstr(code));
}

/* ---- connection ---- */

static int on_progress(void *user)
{
    const struct file *f = user;

    return mono_diff_us(f->deadline, mono_now()) <= 0;
}

static int on_busy(void *user, int count)
{
    const struct file *f = user;

    (void)count;
    return db_nap(BUSY_NAP_US, f->deadline);
}

/* ---- turns ---- */

static enum err_code take_turn(struct db_sqlite *s, struct mono deadline, const char *label, struct err *err)
{
    struct timespec until = {.tv_sec = deadline.us / 1000000, .tv_nsec = deadline.us % 1000000 * 1000};
    struct file *f = s->file;
    int late = 0;

    if (!s->has_turn) {
        (void)pthread_mutex_lock(&f->mutex);
        while (f->is_taken && !late)
            late = pthread_cond_timedwait(&f->given, &f->mutex, &until);
        s->has_turn = !f->is_taken;
        f->is_taken = true;
        (void)pthread_mutex_unlock(&f->mutex);
    }
    if (!s->has_turn)
        return err_set(err, ERR_TIMEOUT, "'%s' did not get its turn within its deadline", label);
    f->deadline = deadline;
    return ERR_OK;
}

/* An open transaction keeps it. */
static void end_turn(struct db_sqlite *s)
{
    struct file *f = s->file;

    if (!s->has_turn || (f->conn && !sqlite3_get_autocommit(f->conn)))
        return;
    s->has_turn = false;
    (void)pthread_mutex_lock(&f->mutex);
    f->is_taken = false;
    (void)pthread_cond_signal(&f->given);
    (void)pthread_mutex_unlock(&f->mutex);
}

/* Only the monotonic clock counts for deadlines. */
static void init_turns(struct file *f)
{
    pthread_condattr_t attr;

    (void)pthread_mutex_init(&f->mutex, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&f->given, &attr);
    (void)pthread_condattr_destroy(&attr);
}

static void disconnect(struct db_sqlite *s)
{
    if (!s->file->conn)
        return;
    s->file->deadline = NO_DEADLINE;
    (void)sqlite3_close_v2(s->file->conn);
    s->file->conn = NULL;
    s->db.in_transaction = false;
    s->db.doomed = ERR_OK;
}

/* Private from the start: SQLite gives its side files the mode of the main one. */
static enum err_code create_file(const struct db_sqlite *s, struct err *err)
{
    int fd = open(s->file->path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0 && errno != EEXIST)
        return err_set(err, errno == ENOSPC || errno == EROFS || errno == EACCES ? ERR_UNAVAILABLE : ERR_IO,
                       "cannot create '%s': %s", s->file->path, strerror(errno));
    if (fd >= 0)
        (void)close(fd);
    return ERR_OK;
}

/* A file that cannot be in WAL mode (network file systems, for one) keeps its mode without an error. */
static int enter_wal(sqlite3 *conn)
{
    sqlite3_stmt *st = NULL;
    int code = sqlite3_prepare_v2(conn, "PRAGMA journal_mode = WAL", -1, &st, NULL);

    if (code == SQLITE_OK && (code = sqlite3_step(st)) == SQLITE_ROW)
        code = strcmp((const char *)sqlite3_column_text(st, 0), "wal") == 0 ? SQLITE_OK : SQLITE_PROTOCOL;
    (void)sqlite3_finalize(st);
    return code;
}

static int set_up(struct db_sqlite *s)
{
    static const char WRITER[] = "PRAGMA synchronous = FULL; PRAGMA journal_size_limit = " WAL_KEEP_BYTES;
    static const char READER[] = "PRAGMA query_only = ON";
    int code;

    (void)sqlite3_extended_result_codes(s->file->conn, 1);
    (void)sqlite3_busy_handler(s->file->conn, on_busy, s->file);
    sqlite3_progress_handler(s->file->conn, DEADLINE_OPS, on_progress, s->file);
    (void)sqlite3_limit(s->file->conn, SQLITE_LIMIT_ATTACHED, 0);
    (void)sqlite3_db_config(s->file->conn, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(s->file->conn, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)sqlite3_db_config(s->file->conn, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    (void)sqlite3_db_config(s->file->conn, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
    if (s->db.is_read_only) {
        (void)sqlite3_db_config(s->file->conn, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        return sqlite3_exec(s->file->conn, READER, NULL, NULL, NULL);
    }
    if ((code = enter_wal(s->file->conn)) != SQLITE_OK)
        return code;
    return sqlite3_exec(s->file->conn, WRITER, NULL, NULL, NULL);
}

static enum err_code connect_file(struct db_sqlite *s, struct err *err)
{
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE |
                (s->db.is_read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE);
    enum err_code rc;
    int code;

    if (s->file->conn)
        return ERR_OK;
    if (!s->db.is_read_only && (rc = create_file(s, err)) != ERR_OK)
        return rc;
    code = sqlite3_open_v2(s->file->path, &s->file->conn, flags, NULL);
    if (code == SQLITE_OK)
        code = set_up(s);
    if (code == SQLITE_OK)
        return ERR_OK;
    rc = class_of(code);
    (void)err_set(err, rc, "cannot open '%s': %s", s->file->path,
                  s->file->conn ? sqlite3_errmsg(s->file->conn) : sqlite3_errstr(code));
    disconnect(s);
    return rc;
}

/* ---- statements ---- */

/* A parameter is "$n", or stands for its place when it has no name. */
static bool bind_one(sqlite3_stmt *st, int i, const struct db_statement *q, int *code)
{
    const char *name = sqlite3_bind_parameter_name(st, i);
    uint64_t k = (uint64_t)i;
    const struct db_value *v;
    const char *p;

    if (name && (name[0] != '$' || !span_to_u64(span_of(name + 1), &k)))
        return false;
    if (!k || k > q->n)
        return false;
    v = &q->params[k - 1];
    p = v->s.len ? v->s.p : ""; /* a null pointer would bind NULL */
    switch (v->type) {
    case DB_NULL:
        *code = sqlite3_bind_null(st, i);
        return true;
    case DB_INT:
        *code = sqlite3_bind_int64(st, i, v->i);
        return true;
    case DB_REAL:
        *code = sqlite3_bind_double(st, i, v->d);
        return true;
    case DB_TEXT:
        *code = sqlite3_bind_text64(st, i, p, v->s.len, SQLITE_STATIC, SQLITE_UTF8);
        return true;
    case DB_BLOB:
        *code = sqlite3_bind_blob64(st, i, p, v->s.len, SQLITE_STATIC);
        return true;
    }
    return false;
}

static enum err_code bind_all(struct db_sqlite *s, sqlite3_stmt *st, const struct db_statement *q,
                              struct err *err)
{
    int n = sqlite3_bind_parameter_count(st);

    for (int i = 1; i <= n; i++) {
        int code = SQLITE_OK;

        if (!bind_one(st, i, q, &code))
            return err_set(err, ERR_BAD_REQUEST, "'%s': placeholder %d has no value", q->label, i);
        if (code != SQLITE_OK)
            return fail(s, code, q->label, err);
    }
    return ERR_OK;
}

static struct db_value column(sqlite3_stmt *st, int i)
{
    switch (sqlite3_column_type(st, i)) {
    case SQLITE_INTEGER:
        return db_int(sqlite3_column_int64(st, i));
    case SQLITE_FLOAT:
        return db_real(sqlite3_column_double(st, i));
    case SQLITE_TEXT: {
        const unsigned char *p = sqlite3_column_text(st, i);

        return db_text(span_make(p, (size_t)sqlite3_column_bytes(st, i)));
    }
    case SQLITE_BLOB: {
        const void *p = sqlite3_column_blob(st, i);

        return db_blob(span_make(p ? p : "", (size_t)sqlite3_column_bytes(st, i)));
    }
    default:
        return db_null();
    }
}

/* SQLITE_DONE, SQLITE_ROW when the reader had enough, or an error. */
static int step_all(struct db_sqlite *s, sqlite3_stmt *st, const struct db_statement *q)
{
    int n = sqlite3_column_count(st), code;
    struct db_value *row = q->fn && n ? calloc((size_t)n, sizeof(*row)) : NULL;

    if (q->fn && n && !row)
        return SQLITE_NOMEM;
    while ((code = sqlite3_step(st)) == SQLITE_ROW) {
        if (!row)
            continue;
        for (int i = 0; i < n; i++)
            row[i] = column(st, i);
        if (!q->fn(q->user, row, (unsigned)n))
            break;
        if (on_progress(s->file)) {
            code = SQLITE_INTERRUPT;
            break;
        }
    }
    free(row);
    return code;
}

static enum err_code prepare(struct db_sqlite *s, const struct db_statement *q, sqlite3_stmt **out,
                             struct err *err)
{
    const char *tail = NULL;
    int code = sqlite3_prepare_v2(s->file->conn, q->sql, -1, out, &tail);

    if (code != SQLITE_OK)
        return fail(s, code, q->label, err);
    if (!*out || tail[strspn(tail, " \t\r\n;")])
        return err_set(err, ERR_BAD_REQUEST, "'%s' is not one statement", q->label);
    return ERR_OK;
}

static void finalize(sqlite3_stmt **st)
{
    (void)sqlite3_finalize(*st);
}

static enum err_code run_prepared(struct db_sqlite *s, struct db_statement *q, struct err *err)
{
    sqlite3_stmt *st AUTO(finalize) = NULL;
    sqlite3_int64 before = sqlite3_total_changes64(s->file->conn);
    enum err_code rc = prepare(s, q, &st, err);
    int code;

    if (rc == ERR_OK)
        rc = bind_all(s, st, q, err);
    if (rc != ERR_OK)
        return rc;
    code = step_all(s, st, q);
    q->changed = sqlite3_total_changes64(s->file->conn) - before;
    return code == SQLITE_DONE || code == SQLITE_ROW ? ERR_OK : fail(s, code, q->label, err);
}

static void drop(struct db *db)
{
    struct db_sqlite *s = self(db);

    if (!s->has_turn)
        return;
    s->file->deadline = NO_DEADLINE;
    if (s->file->conn && !sqlite3_get_autocommit(s->file->conn) &&
        sqlite3_exec(s->file->conn, "ROLLBACK", NULL, NULL, NULL) != SQLITE_OK)
        disconnect(s);
    end_turn(s);
}

static enum err_code run_in_turn(struct db_sqlite *s, struct db_statement *q, struct err *err)
{
    struct db *db = &s->db;
    enum err_code rc;

    if (on_progress(s->file))
        return err_set(err, ERR_TIMEOUT, "'%s' did not end within its deadline", q->label);
    rc = connect_file(s, err);
    if (rc != ERR_OK)
        return rc;
    rc = run_prepared(s, q, err);
    if (rc == ERR_IO)
        disconnect(s); /* the next one begins with a fresh look at the file */
    else if (rc != ERR_OK && db->in_transaction && sqlite3_get_autocommit(s->file->conn))
        db->in_transaction = false; /* a full disk and the like undo all of it */
    return rc;
}

static enum err_code run(struct db *db, struct db_statement *q, struct err *err)
{
    struct db_sqlite *s = self(db);
    enum err_code rc = take_turn(s, q->deadline, q->label, err);

    if (rc != ERR_OK)
        return rc;
    rc = run_in_turn(s, q, err);
    end_turn(s);
    return rc;
}

static enum err_code script(struct db *db, const char *sql, struct mono deadline, struct err *err)
{
    struct db_sqlite *s = self(db);
    int code;

    s->file->deadline = deadline;
    if (!s->file->conn)
        return err_set(err, ERR_IO, "the connection was lost");
    code = sqlite3_exec(s->file->conn, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? ERR_OK : fail(s, code, "migrate", err);
}

/* ---- locks ---- */

static char *lock_path(const struct db_sqlite *s, const char *name)
{
    size_t cap = strlen(s->file->path) + LOCK_SUFFIX_CAP;
    char *p = malloc(cap);

    if (p)
        (void)snprintf(p, cap, "%s%s%s.lock", s->file->path, name ? "." : "", name ? name : "");
    return p;
}

static enum err_code try_flock(const struct db_sqlite *s, const char *name, int *out_fd, struct err *err)
{
    char *path = lock_path(s, name);
    int fd = path ? open(path, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    enum err_code rc = ERR_OK;

    if (!path) {
        rc = err_set(err, ERR_NO_MEMORY, "memory is exhausted");
    } else if (fd < 0) {
        rc = err_set(err, ERR_IO, "cannot open '%s': %s", path, strerror(errno));
    } else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        rc = err_set(err, ERR_CONFLICT, "'%s' is in use by another process, which holds '%s'", s->file->path,
                     path);
        (void)close(fd);
    } else {
        *out_fd = fd;
    }
    free(path);
    return rc;
}

static enum err_code try_lock(struct db *db, const char *name, int *out_fd, bool *out_got, struct err *err)
{
    struct err why = {0};
    enum err_code rc = try_flock(self(db), name, out_fd, &why);

    *out_got = rc == ERR_OK;
    return rc == ERR_OK || rc == ERR_CONFLICT ? ERR_OK : err_set(err, rc, "%s", why.text);
}

static void unlock(struct db *db, const char *name, int fd)
{
    (void)db;
    (void)name;
    (void)close(fd); /* the file stays: removing it would let two hold different ones */
}

/* ---- life ---- */

static struct db_sqlite *handle_on(struct file *f, const struct db_ops *ops, const char *where)
{
    struct db_sqlite *s = calloc(1, sizeof(*s));

    if (!s || !(s->db.where = strdup(where))) {
        free(s);
        return NULL;
    }
    s->db.ops = ops;
    s->file = f;
    atomic_fetch_add(&f->handles, 1);
    return s;
}

static struct db *share(struct db *db)
{
    struct db_sqlite *s = handle_on(self(db)->file, db->ops, db->where);

    return s ? &s->db : NULL;
}

static void free_file(struct file *f)
{
    if (f->conn)
        (void)sqlite3_close_v2(f->conn);
    if (f->lock_fd >= 0)
        (void)close(f->lock_fd);
    (void)pthread_cond_destroy(&f->given);
    (void)pthread_mutex_destroy(&f->mutex);
    free(f->path);
    free(f);
}

static void free_sqlite(struct db *db)
{
    struct db_sqlite *s = self(db);

    drop(db);
    if (atomic_fetch_sub(&s->file->handles, 1) == 1) {
        s->file->deadline = NO_DEADLINE;
        free_file(s->file);
    }
    free(s);
}

static const struct db_ops SQLITE_OPS = {
    .name = "sqlite",
    .begin = "BEGIN IMMEDIATE",
    .begin_reading = "BEGIN",
    .max_params = MAX_PARAMS,
    .dialect = DB_SQLITE,
    .has_bare_marks = true,
    .run = run,
    .script = script,
    .drop = drop,
    .try_lock = try_lock,
    .unlock = unlock,
    .share = share,
    .free = free_sqlite,
};

/* "./" in front keeps a name from meaning something to SQLite (":memory:", "file:…"). */
static char *plain_path(const char *path)
{
    size_t cap = strlen(path) + 3;
    char *p = malloc(cap);

    if (p)
        (void)snprintf(p, cap, "%s%s", path[0] == '/' || path[0] == '.' ? "" : "./", path);
    return p;
}

struct db *db_sqlite_new(const struct db_options *o, struct err *err)
{
    struct file *f = calloc(1, sizeof(*f));
    struct db_sqlite *s = NULL;

    if (f && (f->path = plain_path(o->url))) {
        f->lock_fd = -1;
        init_turns(f);
        s = handle_on(f, &SQLITE_OPS, o->url);
    }
    if (!s) {
        (void)err_set(err, ERR_NO_MEMORY, "memory is exhausted");
        if (f && f->path)
            free_file(f);
        else
            free(f);
        return NULL;
    }
    if (!o->is_read_only && try_flock(s, NULL, &f->lock_fd, err) != ERR_OK) {
        db_free(&s->db);
        return NULL;
    }
    return &s->db;
}
