/* SPDX-License-Identifier: Apache-2.0 */
/* The guards of money and providers under deterministic simulation: several nodes in one process, one virtual time, one store
 * that misbehaves between them, and one stream of chance. All threads of the real processes are steps. A scene is a file with
 * a seed's nodes, evils and invariants; the first one that is broken ends the program. */
#ifndef DST_GUARDS_H
#define DST_GUARDS_H

#include <stdbool.h>
#include <stdint.h>

#include "libshared/base/clock.h"
#include "libshared/store/db.h"
#include "libshared/store/kv.h"

enum guards_mutant {
    GUARDS_SOUND,
#define MUTANT(name) MUTANT_##name,
#include "tests/dst/guards/mutants.def"
#undef MUTANT
    GUARDS_MUTANTS
};

struct guards {
    uint64_t seed, random, trace, events;
    bool is_verbose, is_calm; /* calm: nothing strikes */
    enum guards_mutant mutant;
    int64_t mono_us, wall_us; /* true time; a node's clock is off by `skew_us` while it is at work */
    int64_t skew_us;
    struct { /* of the store: one in that many, 0 never */
        unsigned fails_before, reply_lost, late, goes_down;
    } plan;
    int64_t kv_down_until;
    bool is_cut; /* the node at work does not reach it */
    bool is_db_down;
    void (*on_lease_call)(const char *instance); /* one reached the store; NULL: nobody wants to know */
    uint64_t faults, checks;
};
extern struct guards guards;

uint64_t guards_random(void);
unsigned guards_below(unsigned n);
unsigned guards_between(unsigned from, unsigned to); /* both included */
bool guards_strikes(unsigned one_in);                /* false for 0, and while it is calm */
unsigned guards_rare(unsigned one_in);               /* an evil that half of all seeds know */
void guards_trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void guards_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* ---- store.c ---- */

void store_begin(void); /* an empty realtime store, and no settings in the history store */
void store_end(void);
void store_empty(void);          /* as FLUSHALL */
void store_tick(void);           /* what was held up and is due arrives */
struct kv *store_kv(void);       /* a handle with faults; the caller's */
struct kv *store_kv_plain(void); /* borrowed: what is really in there */
struct db *store_db(void);       /* likewise, of the history store */
void store_remove(void);         /* at the end of the program */

/* ---- scenes ---- */

void breakers_scene(void);
void leases_scene(void);

#endif
