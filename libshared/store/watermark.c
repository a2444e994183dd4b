/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/store/watermark.h"

#include <string.h>

bool watermark_equal(const struct watermark *a, const struct watermark *b)
{
    return a->batch == b->batch && a->token == b->token && a->n == b->n &&
           memcmp(a->at, b->at, a->n * sizeof(a->at[0])) == 0;
}

void watermark_format_positions(const struct watermark *w, struct buf *out)
{
    for (unsigned i = 0; i < w->n; i++) {
        if (i)
            buf_addc(out, ',');
        buf_addu(out, i);
        buf_addc(out, ':');
        buf_addu(out, w->at[i]);
    }
}

/* Workers in order, none missing. */
bool watermark_parse_positions(struct watermark *w, struct span text)
{
    w->n = 0;
    while (text.len) {
        const char *comma = memchr(text.p, ',', text.len);
        struct span one = span_make(text.p, comma ? (size_t)(comma - text.p) : text.len);
        const char *colon = memchr(one.p, ':', one.len);
        uint64_t worker, at;

        if (!colon || w->n == WATERMARK_WORKERS ||
            !span_to_u64(span_make(one.p, (size_t)(colon - one.p)), &worker) || worker != w->n ||
            !span_to_u64(span_make(colon + 1, (size_t)(one.p + one.len - colon - 1)), &at))
            return false;
        w->at[w->n++] = at;
        if (comma && text.len == one.len + 1)
            return false;
        text = span_make(text.p + one.len + (comma != NULL), text.len - one.len - (comma != NULL));
    }
    return true;
}
