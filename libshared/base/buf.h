/* SPDX-License-Identifier: Apache-2.0 */
/* A growing byte buffer with a stated maximum. Appends past it fail with ERR_TOO_LARGE and change nothing.
 * Always NUL-terminated behind `len` once something was appended, so text can be printed as it is. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "libshared/base/err.h"
#include "libshared/base/span.h"

struct buf {
    char *p;
    size_t len;
    size_t cap;
    size_t max; /* bytes; 0 means BUF_DEFAULT_MAX */
};

#define BUF_DEFAULT_MAX ((size_t)64 << 20)

void buf_init(struct buf *b, size_t max_bytes);
void buf_release(struct buf *b);
NODISCARD enum err_code buf_reserve(struct buf *b, size_t more_bytes);
NODISCARD enum err_code buf_append(struct buf *b, const void *p, size_t len);
NODISCARD enum err_code buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Adders for text (inline, since rendering is made of small pieces) whose maximum was chosen so that it cannot be reached; past it they drop and set `b->max` as
 * the visible end. Use where a lost tail is harmless (logs, exposition of a capped registry). */
static inline void buf_add(struct buf *b, struct span s)
{
    if (LIKELY(s.len < b->cap - b->len)) {
        if (s.len)
            memcpy(b->p + b->len, s.p, s.len);
        b->len += s.len;
        b->p[b->len] = '\0';
    } else {
        (void)!buf_append(b, s.p, s.len);
    }
}
static inline void buf_addz(struct buf *b, const char *z)
{
    buf_add(b, span_of(z));
}
static inline void buf_addc(struct buf *b, char c)
{
    buf_add(b, span_make(&c, 1));
}
void buf_addf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_addu(struct buf *b, uint64_t v);
/* Appends a JSON string with quotes; invalid UTF-8 becomes U+FFFD, control characters \u00XX. */
void buf_add_json(struct buf *b, struct span s);
/* Drops `n` bytes from the front. */
void buf_consume(struct buf *b, size_t n);
void buf_clear(struct buf *b);
static inline struct span buf_span(const struct buf *b)
{
    return (struct span){b->p, b->len};
}

#endif
