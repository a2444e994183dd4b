/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "libshared/base/utf8.h"

void buf_init(struct buf *b, size_t max_bytes)
{
    *b = (struct buf){.max = max_bytes};
}

void buf_release(struct buf *b)
{
    free(b->p);
    *b = (struct buf){.max = b->max};
}

enum err_code buf_reserve(struct buf *b, size_t more_bytes)
{
    size_t max = b->max ? b->max : BUF_DEFAULT_MAX;
    size_t cap = b->cap ? b->cap : 256;
    char *p;

    if (more_bytes > max || b->len > max - more_bytes)
        return ERR_TOO_LARGE;
    if (b->p && b->len + more_bytes < b->cap)
        return ERR_OK;
    while (cap <= b->len + more_bytes)
        cap *= 2;
    if (cap > max + 1)
        cap = max + 1;
    p = realloc(b->p, cap);
    if (!p)
        return ERR_NO_MEMORY;
    b->p = p;
    b->cap = cap;
    return ERR_OK;
}

enum err_code buf_append(struct buf *b, const void *p, size_t len)
{
    enum err_code e = buf_reserve(b, len);

    if (e)
        return e;
    if (len)
        memcpy(b->p + b->len, p, len);
    b->len += len;
    b->p[b->len] = '\0';
    return ERR_OK;
}

static enum err_code append_va(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    int n;
    enum err_code e;

    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0)
        return ERR_INTERNAL;
    e = buf_reserve(b, (size_t)n);
    if (e)
        return e;
    (void)vsnprintf(b->p + b->len, (size_t)n + 1, fmt, ap);
    b->len += (size_t)n;
    return ERR_OK;
}

enum err_code buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    enum err_code e;

    va_start(ap, fmt);
    e = append_va(b, fmt, ap);
    va_end(ap);
    return e;
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)!append_va(b, fmt, ap);
    va_end(ap);
}

void buf_addu(struct buf *b, uint64_t v)
{
    char tmp[24];
    char *end = tmp + sizeof(tmp);
    char *p = end;

    do
        *--p = (char)('0' + v % 10);
    while (v /= 10);
    buf_add(b, span_make(p, (size_t)(end - p)));
}

/* One character beyond ASCII, or one byte that belongs to none. */
static size_t add_wide(struct buf *b, struct span s)
{
    size_t n = utf8_valid_len(s.p, s.len);
    uint32_t code = n ? utf8_decode(s.p, n) : 0xfffd;

    if (!n)
        buf_addz(b, "\xef\xbf\xbd");
    else if (utf8_is_unseen(code)) /* whoever looks at the text on a terminal shall see that it is there */
        buf_addf(b, "\\u%04x", code);
    else
        buf_add(b, span_make(s.p, n));
    return n ? n : 1;
}

void buf_add_json(struct buf *b, struct span s)
{
    static const char HEX[] = "0123456789abcdef";
    size_t i = 0;

    buf_addc(b, '"');
    while (i < s.len) {
        unsigned char c = (unsigned char)s.p[i];

        if (c == '"' || c == '\\') {
            buf_addc(b, '\\');
            buf_addc(b, (char)c);
            i++;
        } else if (c < 0x20 || c == 0x7f) {
            char u[6] = {'\\', 'u', '0', '0', HEX[c >> 4], HEX[c & 15]};

            buf_add(b, span_make(u, sizeof(u)));
            i++;
        } else if (c < 0x80) {
            size_t run = i;

            while (run < s.len && (unsigned char)s.p[run] >= 0x20 && (unsigned char)s.p[run] < 0x7f &&
                   s.p[run] != '"' && s.p[run] != '\\')
                run++;
            buf_add(b, span_make(s.p + i, run - i));
            i = run;
        } else {
            i += add_wide(b, span_make(s.p + i, s.len - i));
        }
    }
    buf_addc(b, '"');
}

void buf_consume(struct buf *b, size_t n)
{
    if (n >= b->len) {
        b->len = 0;
        return;
    }
    memmove(b->p, b->p + n, b->len - n);
    b->len -= n;
}

void buf_clear(struct buf *b)
{
    b->len = 0;
}
