/* SPDX-License-Identifier: Apache-2.0 */
/* What db_postgres.c (statements) and db_pg_connect.c (connections) share. */
#ifndef STORE_DB_PG_PRIV_H
#define STORE_DB_PG_PRIV_H

#include <libpq-fe.h>

#include "libshared/store/db_priv.h"

struct lookup; /* a name being resolved by a thread of its own */

struct db_postgres {
    struct db db;
    PQconninfoOption *options; /* of the URL; has the password */
    PGconn *conn;              /* NULL: not connected */
    struct lookup *lookup;     /* NULL: none under way */
    struct mono retry_at;      /* no attempt to connect before; 0: at once */
    unsigned failures;         /* to connect, in a row */
    bool was_connected;
    bool is_leaving;  /* the server said so while we were idle */
    char failed[160]; /* why the last attempt did */
};

/* Waits for what libpq wants of its socket; false at the deadline. */
bool pg_wait(PGconn *conn, short events, struct mono deadline);
/* Closes, and with it ends the transaction and the locks. */
void pg_close(struct db_postgres *p);
/* Sends all that waits, then reads results until none is left. ERR_TIMEOUT and ERR_IO leave a closed connection. */
enum err_code pg_finish(struct db_postgres *p, struct db_statement *q, struct err *err);

/* Receives the connection's notices; `user` is the handle. */
void pg_notice(void *user, const PGresult *res);

/* Connects unless that failed a moment ago. */
enum err_code pg_connect(struct db_postgres *p, struct mono deadline, struct err *err);
void pg_lookup_unref(struct lookup *l);
/* "postgresql://user@host:port/name"; NULL without memory. */
char *pg_where(const PQconninfoOption *options);
const char *pg_option(const PQconninfoOption *options, const char *keyword); /* NULL: not given */

#endif
