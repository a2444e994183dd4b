/* SPDX-License-Identifier: Apache-2.0 */
/* The scanner that the checker and the walkers share: one pass over one value, strict, iterative, never past
 * `end`. It is inlined into both with `checking` as a constant, so that each gets a loop of its own. */
#ifndef JSON_JSON_PRIV_H
#define JSON_JSON_PRIV_H

#include "libshared/json/json.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define JSON_INLINE static inline __attribute__((always_inline))

struct json_scan {
    const char *p, *end; /* on failure `p` is the offending byte */
    const char *why;     /* what is wrong; set on failure */
    unsigned depth, max_depth;
    unsigned values, max_values;        /* counted when checking */
    uint64_t kind[JSON_DEPTH_MAX / 64]; /* a bit per open container: 1 object, 0 array */
};

/* Raw string contents without the quotes; lone surrogates become three bytes as if they were characters
 * unless `strict`. Returns the length, or SIZE_MAX when it does not fit or is malformed. */
size_t json_unescape(struct span raw, char *dst, size_t cap, bool strict);

JSON_INLINE bool json_fail(struct json_scan *s, const char *at, const char *why)
{
    s->p = at;
    s->why = why;
    return false;
}

JSON_INLINE void json_skip_space(struct json_scan *s)
{
    const char *p = s->p;

    while (p < s->end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    s->p = p;
}

/* Length of the valid UTF-8 sequence at `p` (not ASCII), 0 when there is none. */
JSON_INLINE size_t json_utf8(const char *s, size_t left)
{
    const unsigned char *p = (const unsigned char *)s;

    if (left >= 3 && (p[0] & 0xf0) == 0xe0) {
        if ((p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80)
            return 0;
        return (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ? 0 : 3;
    }
    if (left >= 2 && p[0] >= 0xc2 && p[0] <= 0xdf)
        return (p[1] & 0xc0) == 0x80 ? 2 : 0;
    if (left < 4 || p[0] < 0xf0 || p[0] > 0xf4 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 ||
        (p[3] & 0xc0) != 0x80)
        return 0;
    return (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f) ? 0 : 4;
}

JSON_INLINE bool json_is_hex(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* Length of the escape at `p` (its backslash), 0 when it is none. */
JSON_INLINE size_t json_escape_len(const char *p, const char *end)
{
    if (end - p < 2)
        return 0;
    switch (p[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return 2;
    case 'u':
        if (end - p < 6 || !json_is_hex(p[2]) || !json_is_hex(p[3]) || !json_is_hex(p[4]) ||
            !json_is_hex(p[5]))
            return 0;
        return 6;
    default:
        return 0;
    }
}

/* First byte in [p, end) that a string loop must look at: quote, backslash, control, and non-ASCII when
 * checking. */
JSON_INLINE const char *json_plain_run(const char *p, const char *end, const bool checking)
{
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), control = _mm_set1_epi8(0x1f);

    while (end - p >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i hit = _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash));
        unsigned mask;

        hit = _mm_or_si128(hit, _mm_cmpeq_epi8(_mm_min_epu8(v, control), v));
        if (checking)
            hit = _mm_or_si128(hit, v); /* movemask takes the top bit of each byte */
        mask = (unsigned)_mm_movemask_epi8(hit);
        if (mask)
            return p + __builtin_ctz(mask);
        p += 16;
    }
#endif
    for (; p < end; p++) {
        unsigned char c = (unsigned char)*p;

        if (c == '"' || c == '\\' || c < 0x20 || (checking && c >= 0x80))
            break;
    }
    return p;
}

/* `s->p` is behind the opening quote; afterwards behind the closing one. */
JSON_INLINE bool json_scan_string(struct json_scan *s, const bool checking)
{
    const char *p = s->p;

    for (;;) {
        size_t n;

        p = json_plain_run(p, s->end, checking);
        if (UNLIKELY(p == s->end))
            return json_fail(s, p, "a string does not end");
        if (LIKELY(*p == '"')) {
            s->p = p + 1;
            return true;
        }
        if (*p == '\\') {
            n = json_escape_len(p, s->end);
            if (UNLIKELY(!n))
                return json_fail(s, p, "an escape is not valid");
            p += n;
            continue;
        }
        if (UNLIKELY((unsigned char)*p < 0x20))
            return json_fail(s, p, "a control character stands in a string");
        while (p < s->end && (unsigned char)*p >= 0x80) { /* reached only when checking */
            n = json_utf8(p, (size_t)(s->end - p));
            if (UNLIKELY(!n))
                return json_fail(s, p, "a byte is not valid UTF-8");
            p += n;
        }
    }
}

JSON_INLINE const char *json_digits(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p;
}

JSON_INLINE bool json_scan_number(struct json_scan *s)
{
    const char *p = s->p, *from;

    if (*p == '-')
        p++;
    from = p;
    p = json_digits(p, s->end);
    if (p == from || (*from == '0' && p - from > 1))
        return json_fail(s, from, "a number is malformed");
    if (p < s->end && *p == '.') {
        from = ++p;
        p = json_digits(p, s->end);
        if (p == from)
            return json_fail(s, p, "a number is malformed");
    }
    if (p < s->end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < s->end && (*p == '+' || *p == '-'))
            p++;
        from = p;
        p = json_digits(p, s->end);
        if (p == from)
            return json_fail(s, p, "a number is malformed");
    }
    s->p = p;
    return true;
}

JSON_INLINE bool json_scan_word(struct json_scan *s, const char *word, size_t len)
{
    if ((size_t)(s->end - s->p) < len || memcmp(s->p, word, len) != 0)
        return json_fail(s, s->p, "a value is malformed");
    s->p += len;
    return true;
}

/* Key, colon, and the space up to the value. */
JSON_INLINE bool json_scan_key(struct json_scan *s, const bool checking)
{
    if (UNLIKELY(s->p == s->end || *s->p != '"'))
        return json_fail(s, s->p, "a key is missing");
    s->p++;
    if (!json_scan_string(s, checking))
        return false;
    json_skip_space(s);
    if (UNLIKELY(s->p == s->end || *s->p != ':'))
        return json_fail(s, s->p, "a colon is missing");
    s->p++;
    json_skip_space(s);
    return true;
}

JSON_INLINE bool json_in_object(const struct json_scan *s)
{
    return s->kind[(s->depth - 1) / 64] >> ((s->depth - 1) % 64) & 1;
}

/* Enters the container whose bracket is at `s->p`; an empty one is left again at once. */
JSON_INLINE bool json_scan_open(struct json_scan *s, bool *out_entered)
{
    const bool is_object = *s->p == '{';
    uint64_t bit;

    if (UNLIKELY(s->depth >= s->max_depth))
        return json_fail(s, s->p, "the nesting is too deep");
    s->p++;
    json_skip_space(s);
    if (s->p < s->end && *s->p == (is_object ? '}' : ']')) {
        s->p++;
        return true;
    }
    bit = (uint64_t)1 << (s->depth % 64);
    if (is_object)
        s->kind[s->depth / 64] |= bit;
    else
        s->kind[s->depth / 64] &= ~bit;
    s->depth++;
    *out_entered = true;
    return true;
}

/* One scalar, or the opening of a container. */
JSON_INLINE bool json_scan_one(struct json_scan *s, const bool checking, bool *out_entered)
{
    if (UNLIKELY(s->p == s->end))
        return json_fail(s, s->p, "a value is missing");
    if (checking && UNLIKELY(s->values++ >= s->max_values))
        return json_fail(s, s->p, "there are too many values");
    switch (*s->p) {
    case '"':
        s->p++;
        return json_scan_string(s, checking);
    case '{':
    case '[':
        return json_scan_open(s, out_entered);
    case 't':
        return json_scan_word(s, "true", 4);
    case 'f':
        return json_scan_word(s, "false", 5);
    case 'n':
        return json_scan_word(s, "null", 4);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return json_scan_number(s);
    default:
        return json_fail(s, s->p, "a value is malformed");
    }
}

/* After a value inside `depth` containers: leaves those that end here; true stands before the next key or
 * value, or with depth 0 behind the whole. */
JSON_INLINE bool json_scan_after(struct json_scan *s)
{
    while (s->depth) {
        json_skip_space(s);
        if (UNLIKELY(s->p == s->end))
            return json_fail(s, s->p, "an array or object does not end");
        if (*s->p == ',') {
            s->p++;
            json_skip_space(s);
            return true;
        }
        if (UNLIKELY(*s->p != (json_in_object(s) ? '}' : ']')))
            return json_fail(s, s->p, "a comma or closing bracket is missing");
        s->p++;
        s->depth--;
    }
    return true;
}

/* One whole value that begins at `s->p` (no space before it). Depth counts from 0. */
JSON_INLINE bool json_scan_value(struct json_scan *s, const bool checking)
{
    s->depth = 0;
    for (;;) {
        bool entered = false;

        if (!json_scan_one(s, checking, &entered))
            return false;
        if (!entered) {
            if (!json_scan_after(s))
                return false;
            if (!s->depth)
                return true;
        }
        if (json_in_object(s) && !json_scan_key(s, checking))
            return false;
    }
}

#endif
