/* SPDX-License-Identifier: Apache-2.0 */
/* A growing array of plain structs: LIST(struct x) l; struct x *p = LIST_ADD(&l); new elements are zeroed. */
#ifndef AIGWTOP_LIST_H
#define AIGWTOP_LIST_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define LIST(T)                                                                                              \
    struct {                                                                                                 \
        T *v;                                                                                                \
        size_t n, cap;                                                                                       \
    }
#define LIST_ADD(l)     ((__typeof__((l)->v))list_add((void **)&(l)->v, &(l)->n, &(l)->cap, sizeof(*(l)->v)))
#define LIST_RELEASE(l) (free((l)->v), (l)->v = NULL, (l)->n = (l)->cap = 0)

static inline void *list_add(void **v, size_t *n, size_t *cap, size_t size)
{
    if (*n == *cap) {
        *cap = *cap ? *cap * 2 : 16;
        *v = realloc(*v, *cap * size);
        if (!*v)
            abort();
    }
    memset((char *)*v + *n * size, 0, size);
    return (char *)*v + (*n)++ * size;
}

#endif
