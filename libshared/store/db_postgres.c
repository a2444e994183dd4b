/* SPDX-License-Identifier: Apache-2.0 */
/* The history store in PostgreSQL. Runs on the thread that owns the handle, which owns the connection.
 *
 * Invariant: no call waits past its deadline, whatever the server does: only libpq's asynchronous half is used, with our
 * own poll() and clock (PQexec() against a stopped server never returns). At the deadline the connection is closed;
 * PQcancel() would be one more thing to wait for. What the server was doing ends by its statement_timeout.
 *
 * Tricky: a connection that died while it was idle is noticed before a statement is sent, and replaced; one that dies
 * after that is ERR_IO, because nobody knows what was executed. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/base/hash.h"
#include "libshared/store/db_pg_priv.h"

#define MAX_PARAMS 65535
#define NUMBER_CAP 40
#define BEGIN      "BEGIN ISOLATION LEVEL READ COMMITTED" /* whatever the server's default */

/* Types by number, from pg_type; they never change. */
enum { OID_BOOL = 16, OID_BYTEA = 17, OID_INT8 = 20, OID_INT2 = 21, OID_INT4 = 23, OID_OID = 26 };
enum { OID_FLOAT4 = 700, OID_FLOAT8 = 701, OID_NUMERIC = 1700 };

static struct db_postgres *self(struct db *db)
{
    return CONTAINER_OF(db, struct db_postgres, db);
}

/* ---- errors ---- */

static const struct {
    const char *prefix; /* of the SQLSTATE; the first that fits */
    enum err_code code;
} CLASSES[] = {
    /* clang-format off */
    {"23", ERR_CONFLICT}, {"44", ERR_CONFLICT},           /* constraints */
    {"22", ERR_BAD_REQUEST},                              /* values */
    {"42501", ERR_UNAVAILABLE}, {"42", ERR_BAD_REQUEST},  /* no right to; the SQL */
    {"25006", ERR_UNAVAILABLE}, {"25", ERR_IO},           /* read-only; a transaction that was ended */
    {"40", ERR_UNAVAILABLE},                              /* deadlock: try again */
    {"53", ERR_UNAVAILABLE},                              /* disk, memory, connections */
    {"55P03", ERR_TIMEOUT}, {"55", ERR_UNAVAILABLE},      /* locked */
    {"57014", ERR_TIMEOUT}, {"57", ERR_UNAVAILABLE},      /* statement_timeout; shutting down */
    {"28", ERR_UNAVAILABLE}, {"3D", ERR_UNAVAILABLE},     /* who we are, which database */
    {"08P01", ERR_BAD_REQUEST}, {"08", ERR_IO},           /* too few values; connection */
    {"58", ERR_IO}, {"XX", ERR_IO},
    /* clang-format on */
};

static enum err_code class_of(const char *state)
{
    for (size_t i = 0; state && i < ARRAY_LEN(CLASSES); i++)
        if (strncmp(state, CLASSES[i].prefix, strlen(CLASSES[i].prefix)) == 0)
            return CLASSES[i].code;
    return state ? ERR_BAD_REQUEST : ERR_IO;
}

/* The primary message names tables and constraints; values are in DETAIL, which is not shown, but for class 22, which
 * quotes the value that it does not like. */
static enum err_code fail(const PGresult *res, const char *label, struct err *err)
{
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    struct span text = db_first_line(PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY));
    enum err_code rc = class_of(state);

    if (rc == ERR_TIMEOUT)
        return err_set(err, rc, "'%s' did not end within its deadline", label);
    if (state && strncmp(state, "22", 2) == 0)
        text = SPAN_LIT("a value does not fit its type");
    if (!text.len)
        text = SPAN_LIT("the connection was lost");
    return err_set(err, rc, "'%s': %.*s (SQLSTATE %s)", label, (int)text.len, text.p, state ? state : "none");
}

/* ---- connection ---- */

void pg_close(struct db_postgres *p)
{
    PQfinish(p->conn);
    p->conn = NULL;
    p->is_leaving = false;
    db_connection_ended(&p->db);
}

static enum err_code lost(struct db_postgres *p, enum err_code rc, const char *label, struct err *err)
{
    struct span why = db_first_line(p->conn ? PQerrorMessage(p->conn) : "");

    if (rc == ERR_TIMEOUT)
        (void)err_set(err, rc, "'%s' did not end within its deadline", label);
    else
        (void)err_set(err, rc, "'%s': the connection to the database was lost: %.*s", label, (int)why.len,
                      why.p);
    pg_close(p);
    return rc;
}

/* Nothing should be waiting on an idle connection but notices, or a farewell and its end. */
static bool is_alive(struct db_postgres *p)
{
    struct pollfd fd = {.fd = PQsocket(p->conn), .events = POLLIN};

    while (PQstatus(p->conn) == CONNECTION_OK && poll(&fd, 1, 0) > 0) {
        if (!PQconsumeInput(p->conn))
            return false;
        (void)PQisBusy(p->conn); /* takes it apart; pg_notice() sees it */
    }
    return PQstatus(p->conn) == CONNECTION_OK && !p->is_leaving;
}

/* Between statements libpq hands over even the server's last words as a notice. */
void pg_notice(void *user, const PGresult *res)
{
    struct db_postgres *p = user;
    const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);

    if (severity && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0))
        p->is_leaving = true;
}

static enum err_code ready(struct db_postgres *p, const struct db_statement *q, struct err *err)
{
    if (mono_diff_us(q->deadline, mono_now()) <= 0)
        return err_set(err, ERR_TIMEOUT, "'%s' did not end within its deadline", q->label);
    if (p->conn && is_alive(p))
        return ERR_OK;
    if (p->conn && (p->db.in_transaction || p->db.n_locks))
        return lost(p, ERR_IO, q->label, err); /* what it held must not be taken for held */
    pg_close(p);
    return pg_connect(p, q->deadline, err);
}

/* ---- parameters ---- */

struct params {
    Oid *types;
    const char **values;
    int *lengths, *formats;
    char *text; /* numbers, and texts with their NUL */
};

static void params_release(struct params *ps)
{
    free(ps->types);
    free(ps->values);
    free(ps->lengths);
    free(ps->formats);
    free(ps->text);
}

static bool params_alloc(struct params *ps, const struct db_statement *q)
{
    size_t bytes = 1, n = q->n ? q->n : 1;

    for (unsigned i = 0; i < q->n; i++)
        bytes += q->params[i].type == DB_TEXT ? q->params[i].s.len + 1 : NUMBER_CAP;
    ps->types = calloc(n, sizeof(*ps->types));
    ps->values = calloc(n, sizeof(*ps->values));
    ps->lengths = calloc(n, sizeof(*ps->lengths));
    ps->formats = calloc(n, sizeof(*ps->formats));
    ps->text = malloc(bytes);
    return ps->types && ps->values && ps->lengths && ps->formats && ps->text;
}

/* Returns the free place behind. A text has no type: it becomes what the statement needs there (timestamptz, jsonb). */
static char *params_set(struct params *ps, unsigned i, const struct db_value *v, char *at)
{
    int n = 0;

    switch (v->type) {
    case DB_NULL:
        return at;
    case DB_BLOB:
        ps->types[i] = OID_BYTEA;
        ps->formats[i] = 1;
        ps->lengths[i] = (int)v->s.len;
        ps->values[i] = v->s.len ? v->s.p : "";
        return at;
    case DB_TEXT:
        ps->values[i] = at;
        return at + span_copy(at, v->s.len + 1, v->s) + 1;
    case DB_INT:
        ps->types[i] = OID_INT8;
        n = snprintf(at, NUMBER_CAP, "%lld", (long long)v->i);
        break;
    case DB_REAL:
        ps->types[i] = OID_FLOAT8;
        n = snprintf(at, NUMBER_CAP, "%.17g", v->d);
        break;
    }
    ps->values[i] = at;
    return at + n + 1;
}

static enum err_code send_params(struct db_postgres *p, const struct db_statement *q, struct err *err)
{
    struct params ps AUTO(params_release) = {0};
    char *at;

    if (!params_alloc(&ps, q))
        return err_set(err, ERR_NO_MEMORY, "'%s': memory is exhausted", q->label);
    at = ps.text;
    for (unsigned i = 0; i < q->n; i++)
        at = params_set(&ps, i, &q->params[i], at);
    if (!PQsendQueryParams(p->conn, q->sql, (int)q->n, ps.types, ps.values, ps.lengths, ps.formats, 0))
        return lost(p, ERR_IO, q->label, err);
    if (q->fn)
        (void)PQsetSingleRowMode(p->conn); /* however many rows, one is in memory */
    return ERR_OK;
}

/* ---- results ---- */

static unsigned hex_digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10) & 15;
}

/* "\x0aff" */
static struct db_value unhex(struct span s, struct buf *blob)
{
    size_t at = blob->len;

    for (size_t i = 2; i + 1 < s.len; i += 2)
        buf_addc(blob, (char)(hex_digit(s.p[i]) << 4 | hex_digit(s.p[i + 1])));
    return db_blob(span_make(blob->p ? blob->p + at : "", blob->len - at));
}

static struct db_value value_of(const PGresult *res, int column, struct buf *blob)
{
    struct span s = span_make(PQgetvalue(res, 0, column), (size_t)PQgetlength(res, 0, column));

    if (PQgetisnull(res, 0, column))
        return db_null();
    switch (PQftype(res, column)) {
    case OID_BOOL:
        return db_int(s.p[0] == 't');
    case OID_INT2:
    case OID_INT4:
    case OID_INT8:
    case OID_OID:
        return db_int(strtoll(s.p, NULL, 10));
    case OID_FLOAT4:
    case OID_FLOAT8:
    case OID_NUMERIC:
        return db_real(strtod(s.p, NULL));
    case OID_BYTEA:
        return unhex(s, blob);
    default:
        return db_text(s);
    }
}

struct reader {
    struct db_value *row;
    struct buf blob;
    bool had_enough;
};

static void reader_release(struct reader *r)
{
    free(r->row);
    buf_release(&r->blob);
}

/* Blobs of a row lie in one buffer, which is made large enough first, so that it does not move. */
static enum err_code read_row(struct reader *r, const PGresult *res, const struct db_statement *q,
                              struct err *err)
{
    int n = PQnfields(res);
    size_t bytes = 1;

    if (!q->fn || r->had_enough)
        return ERR_OK;
    if (!r->row && !(r->row = calloc((size_t)n + 1, sizeof(*r->row))))
        return err_set(err, ERR_NO_MEMORY, "'%s': memory is exhausted", q->label);
    for (int i = 0; i < n; i++)
        bytes += (size_t)PQgetlength(res, 0, i);
    buf_clear(&r->blob);
    r->blob.max = SIZE_MAX / 4;
    if (buf_reserve(&r->blob, bytes) != ERR_OK)
        return err_set(err, ERR_NO_MEMORY, "'%s': memory is exhausted", q->label);
    for (int i = 0; i < n; i++)
        r->row[i] = value_of(res, i, &r->blob);
    r->had_enough = !q->fn(q->user, r->row, (unsigned)n);
    return ERR_OK;
}

static bool is_commit(const struct db_statement *q)
{
    return q->sql && strcmp(q->sql, "COMMIT") == 0;
}

static enum err_code take_result(struct reader *r, const PGresult *res, struct db_statement *q,
                                 struct err *err)
{
    const char *tag;

    switch (PQresultStatus(res)) {
    case PGRES_SINGLE_TUPLE:
        return read_row(r, res, q, err);
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
        tag = PQcmdStatus((PGresult *)(uintptr_t)res);
        q->changed =
            strncmp(tag, "SELECT", 6) == 0 ? 0 : strtoll(PQcmdTuples((PGresult *)(uintptr_t)res), NULL, 10);
        if (is_commit(q) && strcmp(tag, "COMMIT") != 0)
            return err_set(err, ERR_CONFLICT, "not committed: the server rolled back");
        return ERR_OK;
    case PGRES_EMPTY_QUERY:
        return err_set(err, ERR_BAD_REQUEST, "'%s' is not one statement", q->label);
    case PGRES_COPY_IN:
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH:
        return err_set(err, ERR_IO, "'%s': COPY is not supported", q->label);
    default:
        return fail(res, q->label, err);
    }
}

static enum err_code flush(struct db_postgres *p, const struct db_statement *q, struct err *err)
{
    int rest;

    while ((rest = PQflush(p->conn)) > 0) {
        if (!pg_wait(p->conn, POLLIN | POLLOUT, q->deadline))
            return lost(p, ERR_TIMEOUT, q->label, err);
        if (!PQconsumeInput(p->conn)) /* a server that waits for us to read would not read */
            return lost(p, ERR_IO, q->label, err);
    }
    return rest == 0 ? ERR_OK : lost(p, ERR_IO, q->label, err);
}

/* The next result; NULL after the last, or when the connection ended: what it said before that counts. */
static enum err_code next_result(struct db_postgres *p, const struct db_statement *q, PGresult **out,
                                 struct err *err)
{
    while (PQisBusy(p->conn)) {
        if (!pg_wait(p->conn, POLLIN, q->deadline))
            return lost(p, ERR_TIMEOUT, q->label, err);
        if (!PQconsumeInput(p->conn)) {
            p->is_leaving = true;
            *out = NULL;
            return ERR_OK;
        }
    }
    *out = PQgetResult(p->conn);
    return ERR_OK;
}

/* The connection went down with the answer. A server that says why while it leaves may still have committed before, so
 * only a statement inside a transaction, which is gone with it, has that reason as its error. */
static enum err_code ended(struct db_postgres *p, const struct db_statement *q, enum err_code rc,
                           struct err *err)
{
    if (rc == ERR_OK)
        return lost(p, ERR_IO, q->label, err);
    if (!p->db.in_transaction || is_commit(q)) {
        rc = ERR_IO;
        if (err)
            err->code = rc;
    }
    pg_close(p);
    return rc;
}

enum err_code pg_finish(struct db_postgres *p, struct db_statement *q, struct err *err)
{
    struct reader r AUTO(reader_release) = {0};
    enum err_code rc = flush(p, q, err), now;
    bool is_copy = false;
    PGresult *res;

    if (rc != ERR_OK)
        return rc;
    for (;;) {
        if (mono_diff_us(q->deadline, mono_now()) <= 0)
            return lost(p, ERR_TIMEOUT, q->label, err);
        if ((now = next_result(p, q, &res, err)) != ERR_OK)
            return now;
        if (!res)
            break;
        now = take_result(&r, res, q, rc == ERR_OK ? err : NULL);
        is_copy = PQresultStatus(res) == PGRES_COPY_IN || PQresultStatus(res) == PGRES_COPY_OUT;
        rc = rc == ERR_OK ? now : rc; /* the first failure tells the story */
        PQclear(res);
        if (is_copy)
            break;
    }
    return is_copy || p->is_leaving || PQstatus(p->conn) != CONNECTION_OK ? ended(p, q, rc, err) : rc;
}

/* ---- ops ---- */

static enum err_code run(struct db *db, struct db_statement *q, struct err *err)
{
    struct db_postgres *p = self(db);
    enum err_code rc = ready(p, q, err);

    if (rc == ERR_OK)
        rc = send_params(p, q, err);
    return rc == ERR_OK ? pg_finish(p, q, err) : rc;
}

static enum err_code script(struct db *db, const char *sql, struct mono deadline, struct err *err)
{
    struct db_postgres *p = self(db);
    struct db_statement q = {.label = "migrate", .sql = sql, .deadline = deadline};
    enum err_code rc = ready(p, &q, err);

    if (rc != ERR_OK)
        return rc;
    if (!PQsendQuery(p->conn, "SET LOCAL statement_timeout = 0"))
        return lost(p, ERR_IO, q.label, err);
    rc = pg_finish(p, &q, err);
    if (rc != ERR_OK)
        return rc;
    if (!PQsendQuery(p->conn, sql))
        return lost(p, ERR_IO, q.label, err);
    return pg_finish(p, &q, err);
}

static void drop(struct db *db)
{
    struct db_postgres *p = self(db);

    if (p->conn && PQtransactionStatus(p->conn) != PQTRANS_IDLE)
        pg_close(p);
}

/* The same in every process, so not the keyed hash. */
static struct db_value lock_key(const char *name)
{
    unsigned char digest[SHA256_BYTES];
    int64_t key;

    sha256(span_of(name), digest);
    memcpy(&key, digest, sizeof(key));
    return db_int(key);
}

static bool take_int(void *user, const struct db_value *v, unsigned n)
{
    (void)n;
    *(int64_t *)user = v[0].i;
    return true;
}

static enum err_code try_lock(struct db *db, const char *name, int *out_fd, bool *out_got, struct err *err)
{
    struct db_value key = lock_key(name);
    int64_t got = 0;
    struct db_statement q = {.label = "lock",
                             .sql = "SELECT pg_try_advisory_lock($1)",
                             .params = &key,
                             .n = 1,
                             .fn = take_int,
                             .user = &got,
                             .deadline = mono_add_us(mono_now(), db->deadline_us)};
    enum err_code rc = run(db, &q, err);

    *out_fd = -1;
    *out_got = rc == ERR_OK && got;
    return rc;
}

static void unlock(struct db *db, const char *name, int fd)
{
    struct db_value key = lock_key(name);
    struct db_statement q = {.label = "unlock",
                             .sql = "SELECT pg_advisory_unlock($1)",
                             .params = &key,
                             .n = 1,
                             .deadline = mono_add_us(mono_now(), db->deadline_us)};

    (void)fd;
    if (run(db, &q, NULL) != ERR_OK)
        pg_close(self(db)); /* that frees it for certain */
}

static void free_postgres(struct db *db)
{
    struct db_postgres *p = self(db);

    PQfinish(p->conn);
    PQconninfoFree(p->options);
    pg_lookup_unref(p->lookup);
    free(p);
}

static const struct db_ops POSTGRES_OPS = {
    .name = "postgres",
    .begin = BEGIN,
    .begin_reading = BEGIN,
    .max_params = MAX_PARAMS,
    .dialect = DB_POSTGRES,
    .run = run,
    .script = script,
    .drop = drop,
    .try_lock = try_lock,
    .unlock = unlock,
    .free = free_postgres,
};

/* libpq looks at ports only when it connects. */
static bool are_ports(const PQconninfoOption *o)
{
    struct span rest;
    uint64_t port;

    while (o->keyword && strcmp(o->keyword, "port") != 0)
        o++;
    rest = span_of(o->val ? o->val : "");
    while (rest.len) {
        struct span one = span_split(&rest, ',');

        if (one.len && (!span_to_u64(one, &port) || port < 1 || port > 65535))
            return false;
    }
    return true;
}

struct db *db_postgres_new(const struct db_options *o, struct err *err)
{
    struct db_postgres *p = calloc(1, sizeof(*p));
    char *message = NULL;

    if (!p) {
        (void)err_set(err, ERR_NO_MEMORY, "memory is exhausted");
        return NULL;
    }
    p->options = PQconninfoParse(o->url, &message);
    PQfreemem(message); /* it quotes the URL, the password included */
    if (!p->options || !(p->db.where = pg_where(p->options))) {
        (void)err_set(err, ERR_CONFIG,
                      "the database URL is malformed (special characters of a password are written as %%XX)");
        PQconninfoFree(p->options);
        free(p);
        return NULL;
    }
    if (!are_ports(p->options)) {
        (void)err_set(err, ERR_CONFIG, "the port of the database URL is not 1 to 65535");
        PQconninfoFree(p->options);
        free(p->db.where);
        free(p);
        return NULL;
    }
    p->db.ops = &POSTGRES_OPS;
    return &p->db;
}
