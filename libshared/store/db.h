/* SPDX-License-Identifier: Apache-2.0 */
/* The history store: PostgreSQL or SQLite behind one interface, with one SQL text for both: placeholders are $1, $2 …
 * and a migration may use {{name}} for what the dialects spell differently. One thread owns a handle. No call takes longer than its
 * deadline; after ERR_TIMEOUT or ERR_IO a transaction that was open is gone and whether COMMIT happened is unknown.
 *
 * A transaction behaves alike on both: its first statement that fails dooms it (later ones and db_commit() return that
 * failure, db_commit() rolling back). A statement sees its values by $n only; ints are 64 bits wide, texts have no type of
 * their own (a '2026-…' goes into a timestamp column).
 *
 * SQLite: WAL; exactly one read-write connection per file, held by the daemon through a lock file beside it
 * (ERR_CONFLICT for a second one); all others are read-only. */
#ifndef STORE_DB_H
#define STORE_DB_H

#include <stdbool.h>
#include <stdint.h>

#include "libshared/base/buf.h"
#include "libshared/base/err.h"

struct db;

enum db_dialect { DB_SQLITE, DB_POSTGRES };

struct db_options {
    /* "postgresql://…" or "postgres://…"; anything else is the path of a SQLite file. */
    const char *url;
    bool is_read_only;
    int64_t deadline_us; /* of one statement, connecting included; 0: 5 s */
    int64_t slow_us;     /* statements that take longer are kept in slow_queries; 0: 500 ms; -1: never */
};

/* Connects on first use. NULL: ERR_CONFIG for a URL that makes no sense, ERR_CONFLICT for a SQLite file in use. */
struct db *db_new(const struct db_options *o, struct err *err);
/* Another handle onto the same store for another thread, with the same options. PostgreSQL: a connection of its own.
 * SQLite: the same connection, since a process has only one that writes; a statement or transaction of one handle waits
 * for that of another, up to its deadline. Each handle is freed by itself. */
struct db *db_share(struct db *db);
void db_free(struct db *db);
/* Before the first use: of every statement, instead of what it was opened or shared with. */
void db_set_deadline(struct db *db, int64_t us);
enum db_dialect db_dialect(const struct db *db);
const char *db_backend(const struct db *db); /* "sqlite" or "postgres" */
const char *db_where(const struct db *db);   /* without password, for logs */

enum db_type { DB_NULL, DB_INT, DB_REAL, DB_TEXT, DB_BLOB };
struct db_value {
    enum db_type type;
    int64_t i;
    double d;
    struct span s; /* TEXT, BLOB; borrowed */
};
static inline struct db_value db_null(void)
{
    return (struct db_value){.type = DB_NULL};
}
static inline struct db_value db_int(int64_t v)
{
    return (struct db_value){.type = DB_INT, .i = v};
}
static inline struct db_value db_real(double v)
{
    return (struct db_value){.type = DB_REAL, .d = v};
}
static inline struct db_value db_text(struct span s)
{
    return (struct db_value){.type = DB_TEXT, .s = s};
}
static inline struct db_value db_textz(const char *z)
{
    return db_text(span_of(z));
}
static inline struct db_value db_blob(struct span s)
{
    return (struct db_value){.type = DB_BLOB, .s = s};
}

/* A row as it comes; values are borrowed for the call. Integers come as DB_INT, floating and numeric columns as DB_REAL,
 * timestamps as what the SQL made of them. Return false to stop reading. */
typedef bool (*db_row_fn)(void *user, const struct db_value *columns, unsigned n);

/* One statement. `label` names it in metrics, slow_queries and errors ("ledger_insert"). Texts with NUL bytes and
 * invalid UTF-8 are refused (ERR_BAD_REQUEST). ERR_CONFLICT: a constraint; ERR_BAD_REQUEST: the SQL or a value is wrong;
 * ERR_IO, ERR_TIMEOUT: the store; ERR_UNAVAILABLE: it takes no writes now (read-only, full, shutting down). */
NODISCARD enum err_code db_exec(struct db *db, const char *label, const char *sql,
                                const struct db_value *params, unsigned n, int64_t *out_changed,
                                struct err *err);
NODISCARD enum err_code db_query(struct db *db, const char *label, const char *sql,
                                 const struct db_value *params, unsigned n, db_row_fn fn, void *user,
                                 struct err *err);
/* INSERT of many rows at once: `values` has rows * columns entries; `columns` is "a,b,c"; `tail` is "" or an
 * "ON CONFLICT …" (PostgreSQL: of which two rows of one call must not meet the same row). Splits by itself, in a transaction:
 * the caller's or its own. */
NODISCARD enum err_code db_insert(struct db *db, const char *label, const char *table, const char *columns,
                                  const struct db_value *values, unsigned n_columns, size_t n_rows,
                                  const char *tail, struct err *err);
NODISCARD enum err_code db_begin(struct db *db, struct err *err);
NODISCARD enum err_code db_commit(struct db *db, struct err *err);
void db_rollback(struct db *db);
bool db_in_transaction(const struct db *db);

/* A lock that all processes of one database share, until db_unlock() or the end of the connection (the statement that
 * meets that end fails, it is not sent again on a new one). False when another has it after `wait_us`. Names: a-z 0-9 _ -. */
NODISCARD enum err_code db_lock(struct db *db, const char *name, int64_t wait_us, bool *out_got,
                                struct err *err);
void db_unlock(struct db *db, const char *name);

/* Brings the schema to the newest version, under a lock: of several that try one does it, the others wait for it.
 * A schema newer than this program, or made by other migrations, is ERR_CONFLICT. A version may take ten minutes. */
NODISCARD enum err_code db_migrate(struct db *db, struct err *err);
NODISCARD enum err_code db_schema_version(struct db *db, unsigned *out, struct err *err); /* 0: empty */
unsigned db_schema_latest(void);
/* The text of migration `version` for a dialect; NULL past the last. */
void db_migration_sql(unsigned version, enum db_dialect d, struct buf *out);
/* Undoes down to `version`. Destroys what those versions added. */
NODISCARD enum err_code db_migrate_down(struct db *db, unsigned version, struct err *err);

struct db_stats { /* any thread may read */
    uint64_t statements, errors, reconnects, timeouts, slow;
    int64_t max_us;
};
struct db_stats db_stats_mt(const struct db *db);

/* Tests put themselves between: called before and after every statement; returning an error makes the statement fail
 * with it (after: although it was executed). */
struct db_fault {
    enum err_code (*before)(void *user, const char *label);
    enum err_code (*after)(void *user, const char *label);
    void *user;
};
void db_set_fault(struct db *db, const struct db_fault *f);

#endif
