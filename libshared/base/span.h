/* SPDX-License-Identifier: Apache-2.0 */
/* A span borrows bytes: pointer and length, never owned, not NUL-terminated. */
#ifndef BASE_SPAN_H
#define BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const char *p;
    size_t len;
};

#define SPAN_LIT(s) ((struct span){"" s, sizeof(s) - 1})

static inline struct span span_of(const char *z)
{
    return (struct span){z, z ? strlen(z) : 0};
}
static inline struct span span_make(const void *p, size_t len)
{
    return (struct span){(const char *)p, len};
}
static inline bool span_eq(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}
static inline bool span_is(struct span a, const char *z)
{
    return span_eq(a, span_of(z));
}
static inline bool span_starts(struct span a, struct span prefix)
{
    return a.len >= prefix.len && memcmp(a.p, prefix.p, prefix.len) == 0;
}
/* ASCII case-insensitive equality (header names and tokens). */
bool span_eq_nocase(struct span a, struct span b);
/* Strips spaces and tabs from both ends. */
struct span span_trim(struct span s);
/* Splits at the first `sep`: returns the part before it, leaves the rest (after it) in `*s`; with no `sep`
 * returns all and leaves `*s` empty with p == NULL. */
struct span span_split(struct span *s, char sep);
/* Copies into `dst` (NUL-terminated, truncated to `cap` - 1); returns bytes written without the NUL. */
size_t span_copy(char *dst, size_t cap, struct span s);
/* Whole span as decimal; false when empty, signed, non-digit or out of range. */
bool span_to_u64(struct span s, uint64_t *out);

#endif
