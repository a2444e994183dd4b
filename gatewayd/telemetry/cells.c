/* SPDX-License-Identifier: Apache-2.0 */
/* A worker finds its cells in an open-addressing index of its own. Only a key that it has never seen goes to
 * the registry, under the registry's mutex; the answer (the cell of the key itself, or of the key that it was
 * folded into) is remembered in the index, so a folded key costs no more than another one.
 *
 * Readers see a worker's cells through `at` up to `count`, which is stored with release order behind a
 * finished cell. Cells never move and are freed with their table. */
#include "gatewayd/telemetry/cells.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define TENANTS_MAX   1000   /* distinct tenant labels */
#define LINES_DEFAULT 100000 /* default of metrics.max_series */
#define KINDS_MAX     20
#define SPARE         64 /* places of each cap for keys whose labels are all folded */
#define INDEX_FACTOR  4  /* a worker remembers this many keys per series of the cap */

struct registry_table {
    cells_key *keys;
    uint32_t *index; /* series + 1, 0 is free */
    uint32_t size, count;
    bool is_full; /* once refused, always folded: the order below is fixed from then on */
    unsigned char order[CELLS_PARTS];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    unsigned users;
    const struct cells_kind *kinds;
    unsigned n_kinds;
    size_t lines, max_lines;
    label overflow;
    unsigned n_tenants;
    unsigned char *tenants; /* one bit per label */
    struct registry_table tables[KINDS_MAX];
} registry = {.max_lines = LINES_DEFAULT};

void cells_registry_ref(const struct cells_kind *kinds, unsigned n)
{
    assert(n <= KINDS_MAX);
    (void)pthread_mutex_lock(&lock);
    if (registry.users++ == 0) {
        registry.kinds = kinds;
        registry.n_kinds = n;
        registry.overflow = intern(SPAN_LIT("__overflow__"));
    }
    (void)pthread_mutex_unlock(&lock);
}

void cells_registry_unref(void)
{
    (void)pthread_mutex_lock(&lock);
    if (--registry.users == 0) {
        for (unsigned i = 0; i < registry.n_kinds; i++) {
            free(registry.tables[i].keys);
            free(registry.tables[i].index);
            registry.tables[i] = (struct registry_table){0};
        }
        free(registry.tenants);
        registry.tenants = NULL;
        registry.n_tenants = 0;
        registry.lines = 0;
        registry.max_lines = LINES_DEFAULT;
    }
    (void)pthread_mutex_unlock(&lock);
}

void cells_limit_lines(size_t max_lines)
{
    (void)pthread_mutex_lock(&lock);
    registry.max_lines = max_lines ? max_lines : LINES_DEFAULT;
    for (unsigned i = 0; i < registry.n_kinds; i++)
        registry.tables[i].is_full = false; /* asked anew */
    (void)pthread_mutex_unlock(&lock);
}

label cells_overflow(void)
{
    return registry.overflow;
}

static bool find(const struct registry_table *t, cells_key key, uint32_t *out)
{
    if (!t->size)
        return false;
    for (size_t i = cells_hash(key, 40) & (t->size - 1); t->index[i]; i = (i + 1) & (t->size - 1)) {
        if (t->keys[t->index[i] - 1] == key) {
            *out = t->index[i] - 1;
            return true;
        }
    }
    return false;
}

static bool grow(struct registry_table *t)
{
    uint32_t size = t->size ? t->size * 2 : 64;
    uint32_t *index = calloc(size, sizeof(*index));

    if (!index)
        return false;
    for (uint32_t s = 0; s < t->count; s++) {
        size_t i = cells_hash(t->keys[s], 40) & (size - 1);

        while (index[i])
            i = (i + 1) & (size - 1);
        index[i] = s + 1;
    }
    free(t->index);
    t->index = index;
    t->size = size;
    return true;
}

static bool add(struct registry_table *t, const struct cells_kind *k, cells_key key, uint32_t *out)
{
    size_t i;

    if (!t->keys)
        t->keys = malloc(k->cap * sizeof(*t->keys));
    if (!t->keys || t->count >= k->cap || (t->count * 2 >= t->size && !grow(t)))
        return false;
    for (i = cells_hash(key, 40) & (t->size - 1); t->index[i]; i = (i + 1) & (t->size - 1))
        ;
    t->keys[t->count] = key;
    *out = t->count++;
    t->index[i] = t->count;
    registry.lines += k->lines;
    return true;
}

/* An eighth is kept for series with a folded label, so that folding one label is nearly always enough. */
static bool has_room(const struct registry_table *t, const struct cells_kind *k, bool is_folded)
{
    size_t keep = is_folded ? 0 : 1;

    return t->count < k->cap - SPARE - keep * k->cap / 8 &&
           registry.lines + k->lines <= registry.max_lines - keep * registry.max_lines / 8;
}

static cells_key fold(cells_key key, unsigned part)
{
    return (key & ~((uint64_t)0xffff << (16 * part))) | (uint64_t)registry.overflow << (16 * part);
}

static bool tenant_fits(unsigned tenant)
{
    if (!registry.tenants)
        registry.tenants = calloc(INTERN_MAX / 8, 1);
    if (!registry.tenants)
        return false;
    if (registry.tenants[tenant / 8] & 1u << tenant % 8)
        return true;
    if (tenant == registry.overflow)
        return true;
    if (registry.n_tenants >= TENANTS_MAX)
        return false;
    registry.tenants[tenant / 8] |= (unsigned char)(1u << tenant % 8);
    registry.n_tenants++;
    return true;
}

bool cells_tenant_fits_mt(label tenant)
{
    bool fits;

    (void)pthread_mutex_lock(&lock);
    fits = tenant_fits(tenant);
    (void)pthread_mutex_unlock(&lock);
    return fits;
}

/* How many values a part has in the table. */
static uint32_t count_distinct(const struct registry_table *t, unsigned part)
{
    unsigned char *seen = calloc(1, 65536 / 8);
    uint32_t n = 0;

    for (uint32_t i = 0; seen && i < t->count; i++) {
        unsigned v = cells_part(t->keys[i], part);

        n += !(seen[v / 8] & 1u << v % 8);
        seen[v / 8] |= (unsigned char)(1u << v % 8);
    }
    free(seen);
    return n;
}

/* The label that filled the table is the one with the most values: it is folded first. */
static void find_fold_order(struct registry_table *t, const struct cells_kind *k)
{
    uint32_t values[CELLS_PARTS];

    for (unsigned i = 0; i < k->n_fold; i++) {
        unsigned at = i;
        uint32_t n = count_distinct(t, k->fold[i]);

        for (; at > 0 && values[at - 1] < n; at--) {
            values[at] = values[at - 1];
            t->order[at] = t->order[at - 1];
        }
        values[at] = n;
        t->order[at] = k->fold[i];
    }
    t->is_full = true;
}

/* Series of `*key`, which may become a folded one; false when memory is exhausted. */
static bool admit_locked(unsigned kind, cells_key *key, uint32_t *out_series)
{
    const struct cells_kind *k = &registry.kinds[kind];
    struct registry_table *t = &registry.tables[kind];
    bool is_folded = false;

    if (find(t, *key, out_series))
        return true;
    if (k->has_tenant && !tenant_fits(cells_part(*key, 0))) {
        *key = fold(*key, 0);
        is_folded = true;
        if (find(t, *key, out_series))
            return true;
    }
    if (!t->is_full && has_room(t, k, is_folded))
        return add(t, k, *key, out_series);
    if (!t->is_full)
        find_fold_order(t, k);
    for (unsigned i = 0; i < k->n_fold; i++) {
        *key = fold(*key, t->order[i]);
        if (find(t, *key, out_series))
            return true;
        if (has_room(t, k, true))
            return add(t, k, *key, out_series);
    }
    if (add(t, k, *key, out_series))
        return true;
    /* Even the spare places are taken, by values of closed parts: the last series takes the rest. */
    if (t->count == 0)
        return false;
    *out_series = t->count - 1;
    *key = t->keys[*out_series];
    return true;
}

void cells_admit_mt(unsigned kind, cells_key key)
{
    uint32_t series;

    (void)pthread_mutex_lock(&lock);
    (void)admit_locked(kind, &key, &series);
    (void)pthread_mutex_unlock(&lock);
}

size_t cells_series_mt(unsigned kind, cells_key **out)
{
    const struct registry_table *t = &registry.tables[kind];
    size_t n;

    (void)pthread_mutex_lock(&lock);
    n = t->count;
    *out = n ? malloc(n * sizeof(**out)) : NULL;
    if (*out)
        memcpy(*out, t->keys, n * sizeof(**out));
    else
        n = 0;
    (void)pthread_mutex_unlock(&lock);
    return n;
}

void cells_init(struct cells *c, unsigned kind)
{
    *c = (struct cells){.kind = &registry.kinds[kind], .id = kind};
}

void cells_release(struct cells *c)
{
    for (unsigned i = 0; i < c->count; i++)
        free(c->at[i]);
    free(c->at);
    free(c->index);
    *c = (struct cells){0};
}

static void put(struct cells *c, cells_key key, struct cell *cell)
{
    size_t i = cells_hash(key, c->shift);

    while (c->index[i].cell)
        i = (i + 1) & (c->size - 1);
    c->index[i] = (struct cells_slot){key, cell};
    c->used++;
}

static bool widen(struct cells *c)
{
    struct cells old = *c;

    c->size = old.size ? old.size * 2 : 16;
    c->index = calloc(c->size, sizeof(*c->index));
    if (!c->index) {
        *c = old;
        return false;
    }
    c->shift = 64u - (unsigned)__builtin_ctz(c->size);
    c->used = 0;
    for (unsigned i = 0; i < old.size; i++)
        if (old.index[i].cell)
            put(c, old.index[i].key, old.index[i].cell);
    free(old.index);
    return true;
}

static struct cell *lookup(const struct cells *c, cells_key key)
{
    for (size_t i = cells_hash(key, c->shift); c->index[i].cell; i = (i + 1) & (c->size - 1))
        if (c->index[i].key == key)
            return c->index[i].cell;
    return NULL;
}

static struct cell *create(struct cells *c, cells_key key, uint32_t series)
{
    size_t bytes = (c->kind->bytes + 63) & ~(size_t)63; /* no line shared with another worker's cell */
    struct cell *cell = aligned_alloc(64, bytes);

    if (!c->at)
        c->at = malloc(c->kind->cap * sizeof(struct cell *));
    if (!cell || !c->at) {
        free(cell);
        return NULL;
    }
    memset(cell, 0, bytes);
    cell->key = key;
    cell->series = series;
    c->at[c->count] = cell;
    __atomic_store_n(&c->count, c->count + 1, __ATOMIC_RELEASE);
    return cell;
}

/* A key that this worker sees for the first time. */
struct cell *cells_add(struct cells *c, cells_key key)
{
    cells_key raw = key;
    struct cell *cell;
    uint32_t series;
    bool ok;

    (void)pthread_mutex_lock(&lock);
    ok = admit_locked(c->id, &key, &series);
    (void)pthread_mutex_unlock(&lock);
    if (!ok || ((c->used + 2) * 2 > c->size && !widen(c)))
        return NULL;
    cell = lookup(c, key);
    if (!cell) {
        cell = create(c, key, series);
        if (cell)
            put(c, key, cell);
    }
    if (cell && raw != key && c->used < INDEX_FACTOR * c->kind->cap)
        put(c, raw, cell);
    return cell;
}
