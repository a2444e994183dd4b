/* SPDX-License-Identifier: Apache-2.0 */
/* json_key_is() for a literal, decided in line almost always: every chunk of every stream asks this a dozen
 * times. */
#ifndef PROVIDER_KEY_H
#define PROVIDER_KEY_H

#include "libshared/json/json.h"

/* A plain name can only be escaped as \uXXXX, which makes the key at least five bytes longer. */
static inline bool key_is_name(struct span key, const char *name, size_t len)
{
    if (key.len == len)
        return memcmp(key.p, name, len) == 0;
    return key.len >= len + 5 && memchr(key.p, '\\', key.len) && json_key_is(key, name);
}
#define KEY_IS(key, literal) key_is_name((key), (literal), sizeof("" literal) - 1)

#endif
