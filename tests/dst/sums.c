/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/dst/sums.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "tests/dst/world.h"

struct line {
    char *key;
    int64_t v[SUMS_VALUES];
    UT_hash_handle hh;
};

struct sums {
    const char *name;
    struct line *lines;
};

struct sums *sums_new(const char *name)
{
    struct sums *s = calloc(1, sizeof(*s));

    if (!s)
        abort();
    s->name = name;
    return s;
}

void sums_free(struct sums *s)
{
    struct line *l, *next;

    HASH_ITER(hh, s->lines, l, next)
    {
        HASH_DEL(s->lines, l);
        free(l->key);
        free(l);
    }
    free(s);
}

int64_t *sums_at(struct sums *s, const char *key)
{
    struct line *l;

    HASH_FIND_STR(s->lines, key, l);
    if (l)
        return l->v;
    l = calloc(1, sizeof(*l));
    if (!l || !(l->key = strdup(key)))
        abort();
    HASH_ADD_KEYPTR(hh, s->lines, l->key, strlen(l->key), l);
    return l->v;
}

size_t sums_count(const struct sums *s)
{
    return HASH_COUNT(s->lines);
}

static void half_equal(const struct sums *a, const struct sums *b)
{
    static const int64_t ZERO[SUMS_VALUES];

    for (const struct line *l = a->lines; l; l = l->hh.next) {
        const struct line *other;
        const int64_t *v;

        HASH_FIND_STR(b->lines, l->key, other);
        v = other ? other->v : ZERO;
        for (unsigned i = 0; i < SUMS_VALUES; i++)
            if (l->v[i] != v[i])
                world_fail("'%s', sum %u: %s says %" PRId64 ", %s says %" PRId64, l->key, i, a->name, l->v[i],
                           b->name, v[i]);
    }
}

void sums_must_equal(const struct sums *want, const struct sums *have)
{
    half_equal(want, have);
    half_equal(have, want);
}

void sums_must_not_exceed(const struct sums *want, const struct sums *have, unsigned which)
{
    for (const struct line *l = have->lines; l; l = l->hh.next) {
        const struct line *most;

        HASH_FIND_STR(want->lines, l->key, most);
        for (unsigned i = 0; i < SUMS_VALUES; i++)
            if (which >> i & 1 && l->v[i] > (most ? most->v[i] : 0))
                world_fail("'%s', sum %u: %s says %" PRId64 ", which is more than %s says", l->key, i,
                           have->name, l->v[i], want->name);
    }
}
