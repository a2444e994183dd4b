/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/base/secret.h"

#include <stdlib.h>

enum err_code secret_set(struct secret *s, struct span bytes)
{
    unsigned char *p = malloc(bytes.len + 1);

    if (!p)
        return ERR_NO_MEMORY;
    if (bytes.len)
        memcpy(p, bytes.p, bytes.len);
    p[bytes.len] = '\0';
    secret_release(s);
    s->sealed_ = p;
    s->len = bytes.len;
    return ERR_OK;
}

void secret_release(struct secret *s)
{
    if (s->sealed_)
        explicit_bzero(s->sealed_, s->len);
    free(s->sealed_);
    *s = (struct secret){0};
}

struct span secret_expose(const struct secret *s)
{
    return span_make(s->sealed_, s->len);
}

bool mem_equal_ct(const void *a, const void *b, size_t len)
{
    const volatile unsigned char *x = a;
    const volatile unsigned char *y = b;
    unsigned diff = 0;

    for (size_t i = 0; i < len; i++)
        diff |= (unsigned)(x[i] ^ y[i]);
    return diff == 0;
}

bool secret_equal(const struct secret *s, struct span candidate)
{
    return s->sealed_ && s->len == candidate.len && mem_equal_ct(s->sealed_, candidate.p, s->len);
}
