/* SPDX-License-Identifier: Apache-2.0 */
/* Advisory locks of PostgreSQL that end with their transaction, so that a pooler by transaction does no harm. SQLite has one
 * writer, whose transactions take turns. On the caller's thread. */
#include "libshared/analytics/hour_lock.h"

#define HOUR_S ((int64_t)3600)

/* "hour" in the high half, so that it is no other lock's. */
static enum err_code lock(struct db *db, const char *sql, int64_t hour, struct err *err)
{
    struct db_value key = db_int(INT64_C(0x686f757200000000) | hour / HOUR_S);

    return db_dialect(db) == DB_POSTGRES ? db_exec(db, "hour_lock", sql, &key, 1, NULL, err) : ERR_OK;
}

enum err_code hour_lock_shared(struct db *db, int64_t hour, struct err *err)
{
    return lock(db, "SELECT pg_advisory_xact_lock_shared($1)", hour, err);
}

enum err_code hour_lock_alone(struct db *db, int64_t hour, struct err *err)
{
    return lock(db, "SELECT pg_advisory_xact_lock($1)", hour, err);
}
