/* SPDX-License-Identifier: Apache-2.0 */
/* Interned names: a string becomes a small number that stays valid for the life of the process. Labels of
 * metrics and journal records are such numbers. Only bounded sets are interned (configured providers, models,
 * tenants, keys, route templates), never a client's string. Any thread may call. */
#ifndef BASE_INTERN_H
#define BASE_INTERN_H

#include <stdint.h>

#include "libshared/base/span.h"

typedef uint32_t label; /* 0 is the empty string */

#define INTERN_MAX 65536u

/* Past INTERN_MAX distinct names every new one becomes `__overflow__`. Text is capped at 128 bytes on a character
 * boundary and bad UTF-8 is replaced, so that a label can always be exposed. */
label intern(struct span text);
static inline label intern_z(const char *z)
{
    return intern(span_of(z));
}
/* Borrowed for ever, NUL-terminated. */
const char *label_text(label l);

#endif
