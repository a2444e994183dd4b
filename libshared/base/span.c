/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/base/span.h"

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool span_eq_nocase(struct span a, struct span b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    return true;
}

struct span span_trim(struct span s)
{
    while (s.len && (s.p[0] == ' ' || s.p[0] == '\t'))
        s.p++, s.len--;
    while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
        s.len--;
    return s;
}

struct span span_split(struct span *s, char sep)
{
    struct span head = *s;
    const char *at = s->len ? memchr(s->p, sep, s->len) : NULL;

    if (!at) {
        *s = (struct span){NULL, 0};
        return head;
    }
    head.len = (size_t)(at - s->p);
    s->len -= head.len + 1;
    s->p = at + 1;
    return head;
}

size_t span_copy(char *dst, size_t cap, struct span s)
{
    size_t n = s.len < cap - 1 ? s.len : cap - 1;

    if (n)
        memcpy(dst, s.p, n);
    dst[n] = '\0';
    return n;
}

bool span_to_u64(struct span s, uint64_t *out)
{
    uint64_t v = 0;

    if (!s.len)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v))
            return false;
    }
    *out = v;
    return true;
}
