/* SPDX-License-Identifier: Apache-2.0 */
/* What db.c, the two backends and migrate.c share. A backend's handle begins with `struct db`. */
#ifndef STORE_DB_PRIV_H
#define STORE_DB_PRIV_H

#include <stdatomic.h>

#include "libshared/base/clock.h"
#include "libshared/store/db.h"

#define DB_DIALECTS   2
#define DB_LOCKS_MAX  8
#define DB_NAME_CAP   48   /* of a lock or label, with its NUL */
#define DB_SLOW_BYTES 4096 /* of the text kept in slow_queries */

struct db_statement {
    const char *label;
    const char *sql;
    const struct db_value *params;
    unsigned n;
    db_row_fn fn; /* NULL: rows are dropped */
    void *user;
    struct mono deadline;
    int64_t changed; /* out */
};

struct db_ops {
    const char *name;
    const char *begin, *begin_reading; /* of handles that write; of those that only read */
    unsigned max_params;
    enum db_dialect dialect;
    bool has_bare_marks; /* "?" may stand for "$n" in order */
    /* Connects when it has to. A backend that loses its connection calls db_connection_ended(). */
    enum err_code (*run)(struct db *db, struct db_statement *st, struct err *err);
    /* Several statements in one text; inside a transaction. */
    enum err_code (*script)(struct db *db, const char *sql, struct mono deadline, struct err *err);
    /* Whatever transaction is open in the store is not any more. */
    void (*drop)(struct db *db);
    enum err_code (*try_lock)(struct db *db, const char *name, int *out_fd, bool *out_got, struct err *err);
    void (*unlock)(struct db *db, const char *name, int fd);
    /* Another handle; NULL: it is made like the first (db_share). */
    struct db *(*share)(struct db *db);
    void (*free)(struct db *db);
};

struct db_held {
    char name[DB_NAME_CAP];
    int fd; /* of a lock file; -1 elsewhere */
};

struct db_slow { /* the one statement that waits to be written down; sql NULL: none */
    char label[DB_NAME_CAP];
    char *sql;
    int64_t duration_us;
    struct wall at;
    struct mono written; /* when the last one was */
};

struct db {
    const struct db_ops *ops;
    char *where;
    char *url; /* may hold a password */
    int64_t deadline_us, slow_us;
    bool is_read_only;
    bool in_transaction;
    bool has_connection; /* of its own, for the tally; is_used: it is counted as in use */
    bool is_used;
    bool is_busy;         /* inside a call: a row function must not call back */
    enum err_code doomed; /* a statement of the open transaction failed so; only rollback is left */
    struct db_held locks[DB_LOCKS_MAX];
    unsigned n_locks;
    struct db_slow slow;
    struct db_fault fault;
    struct {
        _Atomic uint64_t statements, errors, reconnects, timeouts, slow;
        _Atomic int64_t max_us;
    } stats;
};

struct db *db_sqlite_new(const struct db_options *o, struct err *err);
struct db *db_postgres_new(const struct db_options *o, struct err *err);

/* Transaction and session locks went with the connection. */
void db_connection_ended(struct db *db);
void db_bump(_Atomic uint64_t *counter);
/* Sleeps at most `us` and never past `deadline`; false when that has come. */
bool db_nap(int64_t us, struct mono deadline);
/* First line of a library's message, for an error text. */
struct span db_first_line(const char *message);

/* ---- migrations ---- */

struct migration {
    unsigned version;
    const char *name;
    const char *up[DB_DIALECTS], *down[DB_DIALECTS]; /* by enum db_dialect; "" where there is nothing to do */
};
extern const struct migration MIGRATIONS[]; /* generated from migrations/ */
extern const unsigned MIGRATIONS_N;

/* For tests of the way from an earlier schema; never down. */
NODISCARD enum err_code db_migrate_to(struct db *db, unsigned version, struct err *err);

#endif
