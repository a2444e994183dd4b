/* SPDX-License-Identifier: Apache-2.0 */
/* Bump memory that is freed at once: one per request (and one per configuration snapshot). Blocks grow from
 * ARENA_FIRST; memory is zeroed and 16-byte aligned. A pointer into an arena is never stored in anything that
 * lives longer. Allocation never returns NULL: past the maximum it aborts, since callers size requests by
 * checked limits. */
#ifndef CORE_ARENA_H
#define CORE_ARENA_H

#include "libshared/base/span.h"

struct arena_block;
struct arena {
    struct arena_block *head;
    char *at;
    char *end;
};

void *arena_alloc(struct arena *a, size_t bytes);
#define arena_new(a, type)      ((type *)arena_alloc((a), sizeof(type)))
#define arena_array(a, type, n) ((type *)arena_alloc((a), sizeof(type) * (n)))
char *arena_dup(struct arena *a, struct span s); /* NUL-terminated copy */
/* Frees all but keeps nothing; the struct may be used again. */
void arena_release(struct arena *a);

#endif
