/* SPDX-License-Identifier: Apache-2.0 */
/* How far a store has come with the records of one instance. It is kept in the store itself and changes only with a
 * batch, in the same transaction or script; so a batch counts once, whatever was lost on the way.
 *
 *   the writer sends      batch n with token t, from watermark n-1 (its token included)
 *   the store has n-1     it applies the batch and keeps (n, t, positions)            STORE_APPLIED
 *   the store has (n, t)  an acknowledgement was lost; nothing changes                STORE_DUPLICATE
 *   anything else         nothing changes; the writer reads the watermark and rewinds or skips   STORE_MISMATCH
 *
 * The token is random, new for each process and after each mismatch, so that a late batch of a process that died, or of
 * before the store went back, is never mistaken for a new one. */
#ifndef STORE_WATERMARK_H
#define STORE_WATERMARK_H

#include <stdbool.h>
#include <stdint.h>

#include "libshared/base/buf.h"
#include "libshared/base/err.h"

#define WATERMARK_WORKERS 64u
#define INSTANCE_CAP      37 /* an id in text, with its NUL */

struct watermark { /* zeroed: nothing was ever applied */
    uint64_t batch, token;
    unsigned n;                     /* workers */
    uint64_t at[WATERMARK_WORKERS]; /* every record of worker i below this sequence number was applied */
};

enum store_result { STORE_APPLIED, STORE_DUPLICATE, STORE_MISMATCH, STORE_FAILED };

bool watermark_equal(const struct watermark *a, const struct watermark *b);
/* "0:1234,1:99": the positions as text; and back (false: not such a text). */
void watermark_format_positions(const struct watermark *w, struct buf *out);
bool watermark_parse_positions(struct watermark *w, struct span text);

#endif
