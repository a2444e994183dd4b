/* SPDX-License-Identifier: Apache-2.0 */
/* The walkers. They keep nothing but pointers into the caller's bytes; each step scans one value in full
 * (json_priv.h), so a member's `raw` is always a well-formed value whose extent is known. */
#include "libshared/json/json.h"

#include <stdarg.h>

#include "libshared/json/json_priv.h"

static enum json_type type_of(char c)
{
    switch (c) {
    case '{':
        return JSON_OBJECT;
    case '[':
        return JSON_ARRAY;
    case '"':
        return JSON_STRING;
    case 't':
        return JSON_TRUE;
    case 'f':
        return JSON_FALSE;
    case 'n':
        return JSON_NULL;
    default:
        return JSON_NUMBER;
    }
}

/* The value that begins at `p`, or JSON_INVALID. Out of line: the one copy of the walking scanner. */
static __attribute__((noinline)) struct json_value value_at(const char **p, const char *end)
{
    struct json_scan s; /* `kind` is written before it is read: no clearing */
    const char *from = *p;
    bool ok;

    s.p = from;
    s.end = end;
    s.max_depth = JSON_DEPTH_MAX;
    ok = json_scan_value(&s, false);
    *p = s.p;
    if (!ok)
        return (struct json_value){JSON_INVALID, {NULL, 0}};
    return (struct json_value){type_of(*from), {from, (size_t)(s.p - from)}};
}

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

struct json_value json_value(struct span text)
{
    const char *p;

    if (!text.len)
        return (struct json_value){JSON_INVALID, {NULL, 0}};
    p = skip_space(text.p, text.p + text.len);
    return value_at(&p, text.p + text.len);
}

bool json_walk(struct json_walk *w, struct span text)
{
    *w = (struct json_walk){.base = text.p, .p = text.p, .end = text.p, .done = true};
    if (!text.len)
        return false;
    w->end = text.p + text.len;
    w->p = skip_space(w->p, w->end);
    if (w->p == w->end || (*w->p != '{' && *w->p != '['))
        return false;
    w->is_object = *w->p++ == '{';
    w->first = true;
    w->done = false;
    return true;
}

static bool walk_bad(struct json_walk *w, const char *at)
{
    w->p = at;
    w->bad = true;
    w->done = true;
    return false;
}

/* Stands before the next key or element; false at the end of the walk, clean or not. */
static bool walk_step(struct json_walk *w)
{
    const char closer = w->is_object ? '}' : ']';
    const char *p = skip_space(w->p, w->end);

    if (p == w->end)
        return walk_bad(w, p);
    if (*p == closer) {
        w->p = p + 1;
        w->done = true;
        return false;
    }
    if (!w->first) {
        if (*p != ',')
            return walk_bad(w, p);
        p = skip_space(p + 1, w->end);
    }
    w->first = false;
    w->p = p;
    return true;
}

static bool walk_key(struct json_walk *w, struct span *out_key)
{
    struct json_scan s;
    const char *from = w->p;

    if (from == w->end || *from != '"')
        return walk_bad(w, from);
    s.p = from + 1;
    s.end = w->end;
    if (!json_scan_string(&s, false))
        return walk_bad(w, s.p);
    *out_key = span_make(from + 1, (size_t)(s.p - from) - 2);
    s.p = skip_space(s.p, s.end);
    if (s.p == s.end || *s.p != ':')
        return walk_bad(w, s.p);
    w->p = skip_space(s.p + 1, s.end);
    return true;
}

bool json_next(struct json_walk *w, struct json_member *out)
{
    if (w->done || !walk_step(w))
        return false;
    out->start = (size_t)(w->p - w->base);
    out->key = (struct span){NULL, 0};
    if (w->is_object && !walk_key(w, &out->key))
        return false;
    out->value = value_at(&w->p, w->end);
    return out->value.type != JSON_INVALID || walk_bad(w, w->p);
}

bool json_key_is(struct span key, const char *name)
{
    char plain[JSON_KEY_MAX];
    size_t n = strlen(name);

    /* An escape is longer than what it stands for, so equal lengths can only match byte by byte. */
    if (key.len <= n)
        return key.len == n && memcmp(key.p, name, n) == 0;
    if (key.len > sizeof(plain) || !memchr(key.p, '\\', key.len))
        return false;
    return json_unescape(key, plain, sizeof(plain), false) == n && memcmp(plain, name, n) == 0;
}

struct json_value json_get(struct span text, const char *name)
{
    struct json_walk w;
    struct json_member m;

    if (json_walk(&w, text) && w.is_object)
        while (json_next(&w, &m))
            if (json_key_is(m.key, name))
                return m.value;
    return (struct json_value){JSON_INVALID, {NULL, 0}};
}

struct json_value json_path(struct span text, ...)
{
    struct json_value v = {JSON_OBJECT, text};
    const char *name;
    va_list ap;

    va_start(ap, text);
    while (v.type == JSON_OBJECT && (name = va_arg(ap, const char *)) != NULL)
        v = json_get(v.raw, name);
    /* A scalar on the way with names left over is "not there". */
    if (v.type != JSON_OBJECT && v.type != JSON_INVALID && va_arg(ap, const char *) != NULL)
        v = (struct json_value){JSON_INVALID, {NULL, 0}};
    va_end(ap);
    return v;
}

/* Ten to the power `n` times `*v`, unless it overflows. */
static bool scale(uint64_t *v, int64_t n)
{
    if (*v == 0)
        return true;
    if (n < 0 || n > 19)
        return false;
    while (n--)
        if (__builtin_mul_overflow(*v, (uint64_t)10, v))
            return false;
    return true;
}

/* The exponent behind `e`, saturated: beyond a million it only says "far too large" or "far too small". */
static int64_t exponent(const char *p, const char *end)
{
    const bool negative = p < end && *p == '-';
    int64_t e = 0;

    if (p < end && (*p == '-' || *p == '+'))
        p++;
    for (; p < end; p++)
        if (e < (int64_t)1 << 40)
            e = e * 10 + (*p - '0');
    return negative ? -e : e;
}

bool json_u64(struct json_value v, uint64_t *out)
{
    const char *p = v.raw.p, *end;
    uint64_t n = 0;
    int64_t shift = 0, zeros = 0;
    bool in_fraction = false;

    if (v.type != JSON_NUMBER || !v.raw.len)
        return false;
    end = p + v.raw.len;
    if (*p == '-')
        p++;
    /* Zeros are held back until a digit follows, so n * 10^zeros is the value and n never ends in 0. */
    for (; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            in_fraction = true;
            continue;
        }
        if (in_fraction)
            shift--;
        if (*p == '0') {
            zeros++;
            continue;
        }
        if (!scale(&n, zeros + 1) || __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
            return false;
        zeros = 0;
    }
    if (p < end)
        shift += exponent(p + 1, end);
    if (!scale(&n, shift + zeros) || (n && v.raw.p[0] == '-'))
        return false;
    *out = n;
    return true;
}

struct span json_str_raw(struct json_value v)
{
    if (v.type != JSON_STRING)
        return (struct span){NULL, 0};
    return span_make(v.raw.p + 1, v.raw.len - 2);
}

bool json_str(struct json_value v, char *dst, size_t cap, size_t *out_len)
{
    size_t n;

    if (v.type != JSON_STRING || !cap)
        return false;
    n = json_unescape(json_str_raw(v), dst, cap - 1, true);
    if (n == SIZE_MAX || memchr(dst, '\0', n))
        return false;
    dst[n] = '\0';
    if (out_len)
        *out_len = n;
    return true;
}

static unsigned hex4(const char *p)
{
    unsigned v = 0;

    for (int i = 0; i < 4; i++) {
        unsigned c = (unsigned char)p[i];

        v = v << 4 | (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return v;
}

static size_t put_utf8(unsigned c, char *dst)
{
    if (c < 0x80) {
        dst[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        dst[0] = (char)(0xc0 | c >> 6);
        dst[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        dst[0] = (char)(0xe0 | c >> 12);
        dst[1] = (char)(0x80 | (c >> 6 & 0x3f));
        dst[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    dst[0] = (char)(0xf0 | c >> 18);
    dst[1] = (char)(0x80 | (c >> 12 & 0x3f));
    dst[2] = (char)(0x80 | (c >> 6 & 0x3f));
    dst[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* The character that the well-formed escape at `*p` stands for; joins surrogate pairs. */
static unsigned take_escape(const char **p, const char *end, size_t len)
{
    static const char FROM[] = "bfnrt", TO[] = "\b\f\n\r\t";
    const char *at = *p, *short_form;
    unsigned c, low;

    *p += len;
    if (len == 2) {
        short_form = memchr(FROM, at[1], 5);
        return (unsigned char)(short_form ? TO[short_form - FROM] : at[1]);
    }
    c = hex4(at + 2);
    if (c < 0xd800 || c > 0xdbff || *p == end || **p != '\\' || json_escape_len(*p, end) != 6)
        return c;
    low = hex4(*p + 2);
    if (low < 0xdc00 || low > 0xdfff)
        return c;
    *p += 6;
    return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
}

size_t json_unescape(struct span raw, char *dst, size_t cap, bool strict)
{
    const char *p = raw.p, *end = raw.len ? raw.p + raw.len : raw.p;
    size_t used = 0;

    while (p < end) {
        char tmp[4];
        const char *from = p;
        size_t n;

        if (*p == '\\') {
            unsigned c;

            n = json_escape_len(p, end);
            if (!n)
                return SIZE_MAX;
            c = take_escape(&p, end, n);
            if (strict && c >= 0xd800 && c <= 0xdfff)
                return SIZE_MAX;
            n = put_utf8(c, tmp);
            from = tmp;
        } else if (strict && (unsigned char)*p >= 0x80) {
            n = json_utf8(p, (size_t)(end - p));
            if (!n)
                return SIZE_MAX;
            p += n;
        } else {
            n = 1;
            p++;
        }
        if (n > cap - used)
            return SIZE_MAX;
        memcpy(dst + used, from, n);
        used += n;
    }
    return used;
}
