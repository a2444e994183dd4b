/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of one hour on their way from a source to the history store. */
#ifndef ANALYTICS_AGGREGATE_PRIV_H
#define ANALYTICS_AGGREGATE_PRIV_H

#include "libshared/analytics/aggregate.h"
#include "libshared/analytics/sketch.h"
#include "libshared/store/measures.h"

#define HOUR_S           ((int64_t)3600)
#define HOUR_ROWS_MAX    ((size_t)200000) /* providers times models of one hour; more is not believed */
#define AGGREGATE_SETTLE ((int64_t)120 * 1000000)
#define HOUR_TEXT_CAP    24
#define ROW_COLUMNS      (3u + MEASURE_COUNT + 6u)
#define ARCHIVED_SETTING                                                                                     \
    "ledger_archived_before" /* name in `settings`: ledger rows before this second are gone */

/* ---- rows (aggregate_rows.c) --------------------------------------------------------------------------------------- */

struct hour_row {
    char *provider, *model;
    struct measures m;
    struct sketch sketch; /* counts only, until hour_rows_finish() */
};

struct hour_rows { /* a zeroed struct is empty and ready */
    struct hour_row *v;
    size_t n, cap;
    uint32_t *slots; /* position in `v` plus one, by hash; 0: free */
    size_t n_slots;
};

void hour_rows_release(struct hour_rows *r);
/* The row of that provider and model, made when there is none; NULL: no memory, or too many. */
struct hour_row *hour_rows_get(struct hour_rows *r, struct span provider, struct span model);
/* Puts the rows in order and gives every sketch the sum and the extremes that both sources know: the sum of `lat_us`,
 * the outermost buckets. After it the rows of an hour are equal byte by byte, whatever they were read from. */
void hour_rows_finish(struct hour_rows *r);

/* "2026-11-20T13:00:00Z", the value of the column `hour`. */
void hour_column(int64_t hour, char dst[HOUR_TEXT_CAP]);
/* The rows that the ledger and the minute sketches say. */
NODISCARD enum err_code hour_rows_from_ledger(struct db *db, int64_t hour, struct hour_rows *out,
                                              struct err *err);
/* What is stored, without sketches. */
NODISCARD enum err_code hour_rows_from_stored(struct db *db, int64_t hour, struct hour_rows *out,
                                              struct err *err);
/* Replaces the hour's rows and notes it as done; within a transaction. */
NODISCARD enum err_code hour_rows_store(struct db *db, int64_t hour, const struct hour_rows *r,
                                        const char *source, struct wall now, struct err *err);

/* ---- the realtime store (aggregate_redis.c) ------------------------------------------------------------------------ */

struct redis_key {
    char *key;
    int64_t hour, ttl_s; /* ttl -1: none */
};
struct redis_keys { /* hour hashes, by hour and key */
    struct redis_key *v;
    size_t n, cap;
    struct mono scanned; /* when their times to live were read */
};

void redis_keys_release(struct redis_keys *k);
NODISCARD enum err_code redis_keys_scan(struct kv *kv, struct redis_keys *out, struct err *err);
/* First key of the first hour at or after `hour`, or n. */
size_t redis_keys_from(const struct redis_keys *k, int64_t hour);
/* A field of such a hash, added to the row; ERR_BAD_REQUEST for what is no figure. */
NODISCARD enum err_code hour_row_field(struct hour_row *row, bool has_sketch, struct span field,
                                       struct span value);
/* The rows that the hashes of an hour say; none when there are no hashes. ERR_UNAVAILABLE when one went before its time: the store
 * was emptied meanwhile, and what is left of the hour is not the hour. */
NODISCARD enum err_code hour_rows_from_redis(struct kv *kv, const struct redis_keys *k, int64_t hour,
                                             struct hour_rows *out, struct err *err);
/* Whether the index still names hours; calls `fn` for each. */
typedef enum err_code (*redis_hour_fn)(void *user, int64_t hour);
NODISCARD enum err_code redis_hours(struct kv *kv, struct wall now, redis_hour_fn fn, void *user,
                                    struct err *err);
/* Removes what is past retention and should have expired: hour hashes of hours for which `may` agrees, and ten-second
 * hashes. Retention 0: whoever wrote them knows better; only hashes without an end go, after 4 h. */
typedef enum err_code (*redis_may_fn)(void *user, int64_t hour, bool *out_may, struct err *err);
NODISCARD enum err_code redis_clean(struct kv *kv, struct wall now, int64_t retention_us, redis_may_fn may,
                                    void *user, unsigned *out_removed, struct err *err);

/* ---- lists of hours (aggregate_hours.c) ---------------------------------------------------------------------------- */

struct hour_list {
    int64_t *v;
    size_t n, cap;
};

void hour_list_release(struct hour_list *l);
NODISCARD enum err_code hour_list_add(struct hour_list *l, int64_t hour);

/* One integer of one row; `*out` keeps its value when there is no row or a null. */
NODISCARD enum err_code db_one_int(struct db *db, const char *label, const char *sql,
                                   const struct db_value *params, unsigned n, int64_t *out, struct err *err);
/* Hours of the ledger that are not stored, from the first one up to `last` (their start). */
NODISCARD enum err_code hours_not_stored(struct db *db, int64_t last, struct hour_list *out, struct err *err);
NODISCARD enum err_code hours_dirty(struct db *db, int64_t last, struct hour_list *out, struct err *err);
/* "ledger", "redis", or "" when the hour is not stored. */
NODISCARD enum err_code hour_source(struct db *db, int64_t hour, char dst[16], struct err *err);
NODISCARD enum err_code hour_in_ledger(struct db *db, int64_t hour, bool *out, struct err *err);
/* Ledger rows before this second were archived and deleted; 0: none were. */
NODISCARD enum err_code ledger_archived_before(struct db *db, int64_t *out, struct err *err);
/* AGGREGATE_AUTO resolved: a database that gateways write to has their ledger. */
NODISCARD enum err_code aggregate_find_source(const struct aggregate_options *o, enum aggregate_source *out,
                                              struct err *err);
/* Start of the newest closed hour. */
int64_t last_closed_hour(struct wall now, int64_t settle_us);

#endif
