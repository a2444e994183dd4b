/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of counters, one set per worker: a key of up to four small numbers leads to a cell that only its
 * worker writes. A registry that all workers share gives every key its series number and decides, once per
 * key, whether the key still fits under the caps or is folded into an overflow series; so all workers fold
 * alike and their cells are summed by number. */
#ifndef TELEMETRY_CELLS_H
#define TELEMETRY_CELLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libshared/base/compiler.h"
#include "libshared/base/intern.h"

#define CELLS_PARTS 4

/* Parts are labels or enum values; both fit 16 bits. */
typedef uint64_t cells_key;
_Static_assert(INTERN_MAX <= 65536, "a label fits a part of a key");
static inline cells_key cells_key_of(unsigned a, unsigned b, unsigned c, unsigned d)
{
    return (uint64_t)(a & 0xffff) | (uint64_t)(b & 0xffff) << 16 | (uint64_t)(c & 0xffff) << 32 |
           (uint64_t)(d & 0xffff) << 48;
}
static inline unsigned cells_part(cells_key k, unsigned i)
{
    return (unsigned)(k >> (16 * i)) & 0xffff;
}

/* Every cell begins with this; counters (uint64_t, read and written with relaxed atomics) follow at once. */
struct cell {
    cells_key key;
    uint64_t series;
};

struct cells_kind {
    size_t bytes;     /* of a cell */
    unsigned n_words; /* counters behind the head that are summed over workers */
    unsigned cap;     /* series */
    unsigned lines;   /* about how many lines of exposition one series costs */
    unsigned char
        n_fold; /* when full, these parts become `__overflow__`, one after the other until it fits */
    unsigned char fold[CELLS_PARTS];
    bool has_tenant; /* part 0 is a tenant */
};

struct cells_slot {
    cells_key key;
    struct cell *cell; /* NULL: free */
};

struct cells { /* one worker's table of one kind */
    const struct cells_kind *kind;
    unsigned id; /* of the kind, in the registry */
    unsigned shift;
    unsigned used, size; /* of the index, which only the owner touches */
    struct cells_slot *index;
    struct cell **at; /* by order of creation; published by count */
    unsigned count;   /* release, acquire */
};

/* The registry lives while somebody holds it. */
void cells_registry_ref(const struct cells_kind *kinds, unsigned n);
void cells_registry_unref(void);
/* Lines of exposition that all series together may cost; 0 is the default. Series that exist stay. */
void cells_limit_lines(size_t max_lines);
/* Makes the series exist, folded where it must be. Any thread. */
void cells_admit_mt(unsigned kind, cells_key key);
/* Copies the keys of all series in the order of their numbers; returns how many. `*out` is malloc'ed. */
size_t cells_series_mt(unsigned kind, cells_key **out);
label cells_overflow(void);
/* Whether the tenant is one of the first thousand, which have series of their own; stays so. Any thread. */
bool cells_tenant_fits_mt(label tenant);

void cells_init(struct cells *c, unsigned kind);
void cells_release(struct cells *c);
struct cell *cells_add(struct cells *c, cells_key key);

static inline size_t cells_hash(cells_key key, unsigned shift)
{
    return (size_t)((key * 0x9e3779b97f4a7c15u) >> shift);
}

/* Owner thread. NULL only when memory is exhausted. */
static inline struct cell *cells_get(struct cells *c, cells_key key)
{
    if (LIKELY(c->size)) {
        for (size_t i = cells_hash(key, c->shift);; i = (i + 1) & (c->size - 1)) {
            struct cells_slot *s = &c->index[i];

            if (LIKELY(s->cell && s->key == key))
                return s->cell;
            if (!s->cell)
                break;
        }
    }
    return cells_add(c, key);
}

static inline uint64_t cells_load(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}
static inline void cells_store(uint64_t *p, uint64_t v)
{
    __atomic_store_n(p, v, __ATOMIC_RELAXED);
}
/* Single writer: a load and a store, no locked instruction. */
static inline void cells_bump(uint64_t *p, uint64_t by)
{
    cells_store(p, cells_load(p) + by);
}

#endif
