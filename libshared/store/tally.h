/* SPDX-License-Identifier: Apache-2.0 */
/* What this process asked of its stores: every SQL statement by table, operation and outcome, every Redis command by
 * operation and outcome, with their durations. Counted where they are made, by any thread; one reader copies all of it. */
#ifndef STORE_TALLY_H
#define STORE_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#include "libshared/base/clock.h"

enum sql_table {
    SQL_TABLE_NONE, /* BEGIN, COMMIT, … */
#define TABLE(name) SQL_TABLE_##name,
#include "libshared/store/tables.def"
#undef TABLE
    SQL_TABLE_OTHER,
    SQL_TABLES
};
enum sql_operation {
    SQL_SELECT,
    SQL_INSERT,
    SQL_UPDATE,
    SQL_DELETE,
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_OTHER,
    SQL_OPERATIONS
};
/* What a command is for: whole batches by script under the watermark, writes without it, reads, … */
enum redis_operation {
    REDIS_GET,
    REDIS_SET,
    REDIS_BATCH,
    REDIS_LEASE,
    REDIS_SCAN,
    REDIS_TTL,
    REDIS_TIME,
    REDIS_PING,
    REDIS_CONNECT, /* logging in, naming, asking a sentinel */
    REDIS_OPERATIONS
};
enum tally_outcome {
    TALLY_SUCCESS,
    TALLY_ERROR,
    TALLY_AGAIN, /* Redis: to be sent elsewhere, later or with its text (MOVED, LOADING, NOSCRIPT, …) */
    TALLY_OUTCOMES
};
const char *sql_table_name(enum sql_table t);
const char *sql_operation_name(enum sql_operation o);
const char *redis_operation_name(enum redis_operation o);
const char *tally_outcome_name(enum tally_outcome o);

/* Which table a statement is about (the first one outside of parentheses, else the first within) and what it does. */
void tally_parse(const char *sql, enum sql_table *out_table, enum sql_operation *out_operation);

void tally_sql(const char *sql, int64_t took_us, bool is_ok);
/* `took_us` -1: it could not be sent, so it has no duration. */
void tally_redis(enum redis_operation o, enum tally_outcome outcome, uint64_t n, int64_t took_us);
void tally_redis_unreachable(void); /* a server could not be connected to */
void tally_connections(int by);     /* to the database, that there may be */
void tally_in_use(int by);          /* of those, in a statement or a transaction */

#define TALLY_BUCKETS 20
#define TALLY_SLOTS   32
struct tally_times {
    uint64_t sum_us, n[TALLY_BUCKETS]; /* of db_seconds and redis_seconds */
};
struct store_tally {
    struct tally_sql {
        uint64_t count[TALLY_AGAIN];
        struct tally_times times;
    } sql[SQL_TABLES][SQL_OPERATIONS];
    struct tally_slot {
        uint64_t epoch, count, sum_us;
    } slots[TALLY_SLOTS]; /* of all statements, ten seconds each */
    struct tally_command {
        uint64_t count[TALLY_OUTCOMES];
        struct tally_times times;
    } redis[REDIS_OPERATIONS];
    uint64_t unreachable;
    int64_t connections, in_use;
};
/* A copy of all that was counted since the process began. */
void tally_read_mt(struct store_tally *out);
/* Mean duration in seconds of the statements of the last `slots` of ten seconds; NaN when there was none. */
double tally_sql_mean(const struct store_tally *t, struct wall now, unsigned slots);

#endif
