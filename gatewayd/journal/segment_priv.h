/* SPDX-License-Identifier: Apache-2.0 */
/* One segment file: created, mapped, recycled, checked. All of it on the recorder thread (or in journal_open).
 *
 *   0       magic          u64
 *   8       sequence       u64   the order of segments; the file's name only repeats it
 *   16      worker, size   u32, u32
 *   24      crc32c of 0..24 u32, zero u32
 *   32      released       u64   offset up to which records are safe elsewhere, and its check: low 32 bits the offset,
 *                                high 32 bits its complement
 *   64      first record; each starts at a multiple of 8; a zero header word is the end of what was written */
#ifndef JOURNAL_SEGMENT_PRIV_H
#define JOURNAL_SEGMENT_PRIV_H

#include <stdatomic.h>
#include <stdbool.h>

#include "gatewayd/journal/journal.h"

#define SEGMENT_DATA 64u

/* Links are written by the recorder thread; the worker follows `next` only. */
struct segment {
    struct segment *_Atomic next;
    unsigned char *base; /* the mapping, JOURNAL_SEGMENT bytes */
    uint64_t sequence;
    uint32_t released; /* offset */
    bool is_old;       /* of an earlier run: nobody writes to it */
};

/* A new file, allocated whole and zeroed. NULL: ERR_IO, such as on a full disk. */
struct segment *segment_new(const char *dir, unsigned worker, uint64_t sequence, struct err *err);
/* Opens what an earlier run left. NULL with ERR_OK when the file was never finished and holds nothing (it is
 * removed), NULL with ERR_IO or ERR_BAD_BODY when it cannot be understood (it is left alone under
 * `<name>.bad`). */
struct segment *segment_open(const char *dir, const char *name, unsigned worker, struct err *err);
/* Gives a fully released segment a new life at the end of the chain. */
NODISCARD enum err_code segment_recycle(struct segment *s, const char *dir, unsigned worker,
                                        uint64_t sequence, struct err *err);
void segment_set_released(struct segment *s, uint32_t offset);
bool segment_is_released(const struct segment *s);
void segment_unmap(struct segment *s);                   /* keeps the file */
void segment_remove(struct segment *s, const char *dir); /* and the file */

/* The header word at `offset`, as the atomic it is. */
static inline _Atomic uint64_t *segment_word(const struct segment *s, size_t offset)
{
    return (_Atomic uint64_t *)(void *)(s->base + offset);
}

#endif
