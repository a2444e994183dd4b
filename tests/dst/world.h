/* SPDX-License-Identifier: Apache-2.0 */
/* The world of one seed: its clock, its chance, its trace, and what was promised in it. It lies in memory that all
 * lives of the simulated process share with the driver, so it outlives each of them; the two never run at the same
 * time (a life waits for its store's answer), so one stream of chance decides everything. */
#ifndef DST_WORLD_H
#define DST_WORLD_H

#include "gatewayd/journal/journal.h"
#include "libshared/base/crash.h"

#define WORLD_REQUESTS 1000u
#define WORLD_ADJUSTS  64u
#define WORLD_RECORDS  20000u
#define WORLD_WORKERS  3u
#define WORLD_NAMES    4u    /* tenants, providers, models */
#define WORLD_KEYS     1000u /* enough for one a request */

enum mutant {
    MUTANT_NONE,
    MUTANT_DOUBLE_SETTLE,
    MUTANT_ACK_BEFORE_COMMIT,
    MUTANT_SKIPPED_WATERMARK,
    MUTANT_RESET_MISSED,
    MUTANT_WINDOW_AT_SETTLE
};

/* How a life ended: exit codes of its process. */
enum { LIFE_STOPPED = 0, LIFE_DIED = 41, LIFE_FAILED = 42, LIFE_REFUSED = 43 };

/* Which evils a seed knows, and how often: one in that many, 0 never. */
struct plan {
    unsigned lives, steps;
    bool has_own_keys;    /* one key a request, so that each row of the ledger is one request's */
    bool is_memory_store; /* the realtime store dies with the process */
    size_t journal_bytes;
    unsigned crash_at_point, crash_between, orderly_stop;
    unsigned kv_fails_before, kv_reply_lost, kv_late, kv_emptied, kv_goes_down;
    unsigned db_fails_before, db_fails_after, db_goes_down;
    unsigned disk_full, clock_steps, slow_tend;
    unsigned weight_admit, weight_advance, weight_writers;
    unsigned attempts_max, down_long; /* calls that a store stays away at most */
    bool has_limits, is_closed;       /* is_closed: nothing is spent while the store is away */
    unsigned slow_arrival;            /* a request is admitted some seconds after it came */
};

/* One request, from the point of view of who was told OK. */
struct promise {
    struct id id;
    unsigned worker, life;
    struct fact_open said; /* the newest statement that was acknowledged, then what it is about to say */
    uint64_t stated_seq;   /* of that statement */
    unsigned n_said;       /* statements acknowledged */
    bool reserve_called, reserve_ok, settle_called, settle_ok;
    bool is_open; /* under way in the life that runs */
    bool is_under_way;
    uint8_t attempts_called, attempts_ok;
    struct fact_attempt a[FACT_ATTEMPTS];
    struct fact_request end;
};

struct promised_adjust {
    struct fact_adjust a;
    bool is_ok;
};

struct world {
    uint64_t seed, random, trace, events;
    bool is_verbose, is_calm;
    enum mutant mutant;
    struct wall wall;
    int64_t wall_offset_us; /* how far it was stepped */
    struct mono mono;
    struct plan plan;
    unsigned life, kv_down, db_down; /* down: for that many calls more */
    bool disk_is_full;
    bool kv_had_batches; /* ever */
    bool kv_is_short;    /* it was emptied and not filled again since: it may lack what was there before */
    char dir[160], failure[600];
    char refusal[256]; /* why a life did not start, last */
    uint64_t crash_hits[CRASH_COUNT], crash_kills[CRASH_COUNT];
    uint64_t kv_at[WATERMARK_WORKERS], db_at[WATERMARK_WORKERS]; /* furthest positions of the stores */
    uint64_t faults, kills, ended_by_recovery, refusals;
    size_t n_requests, n_adjusts, n_records;
    struct promise requests[WORLD_REQUESTS];
    struct promised_adjust adjusts[WORLD_ADJUSTS];
    struct journal_record records[WORLD_RECORDS]; /* each record of the journals, read by an own consumer */
};
extern struct world *world;

/* Names that every life knows by the same labels. */
extern label world_tenants[WORLD_NAMES], world_providers[WORLD_NAMES], world_models[WORLD_NAMES],
    world_keys[WORLD_KEYS];

void world_new(void);
void world_begin(uint64_t seed, const char *base_dir);

uint64_t world_random(void);
unsigned world_below(unsigned n);
unsigned world_between(unsigned from, unsigned to); /* both included */
/* False for 0, and while it is calm. */
bool world_strikes(unsigned one_in);
void world_advance(int64_t us);

/* Goes into the hash of the seed, and to stdout with -v. */
void world_trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The first reason counts. world_fail() ends the life that calls it. */
void world_blame(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void world_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
