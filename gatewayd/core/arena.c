/* SPDX-License-Identifier: Apache-2.0 */
/* The owner's thread. Blocks double up to 64 KiB; what is larger gets a block of its own size. Nothing is freed before the end. */
#include "gatewayd/core/arena.h"

#include <stdlib.h>

#define ARENA_FIRST  5120u /* what a chat request takes, with a little to spare */
#define ARENA_SECOND 2048u /* doubled from here on */

struct arena_block {
    struct arena_block *next;
    size_t size;
};

static char *take(struct arena *a, size_t bytes)
{
    size_t need = (bytes + 15) & ~(size_t)15;
    char *p;

    if (need < bytes)
        abort();
    if ((size_t)(a->end - a->at) < need) {
        size_t size = !a->head ? ARENA_FIRST : a->head->next ? a->head->size * 2 : ARENA_SECOND;
        struct arena_block *b;

        if (size > 65536)
            size = 65536;
        if (size < need + 32)
            size = need + 32;
        b = malloc(size);
        if (!b)
            abort();
        b->next = a->head;
        b->size = size;
        a->head = b;
        a->at = (char *)b + 16;
        a->end = (char *)b + size;
    }
    p = a->at;
    a->at += need;
    return p;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    return memset(take(a, bytes), 0, bytes);
}

char *arena_dup(struct arena *a, struct span s)
{
    char *p = take(a, s.len + 1);

    if (s.len)
        memcpy(p, s.p, s.len);
    p[s.len] = '\0';
    return p;
}

void arena_release(struct arena *a)
{
    while (a->head) {
        struct arena_block *next = a->head->next;

        free(a->head);
        a->head = next;
    }
    *a = (struct arena){0};
}
