/* SPDX-License-Identifier: Apache-2.0 */
/* One segment file: created, mapped, recycled, checked. All of it on the recorder thread (or in journal_open and
 * journal_recover). The layout is in libshared/journal/walk.h. */
#ifndef JOURNAL_SEGMENT_PRIV_H
#define JOURNAL_SEGMENT_PRIV_H

#include <stdatomic.h>
#include <stdbool.h>

#include "gatewayd/journal/journal.h"
#include "libshared/journal/walk.h"

#define SEGMENT_DATA WALK_DATA

/* Links are written by the recorder thread; the worker and the consumers follow `next` only. */
struct segment {
    struct segment *_Atomic next;
    unsigned char *base; /* the mapping, JOURNAL_SEGMENT bytes */
    uint64_t sequence;
    uint32_t released;     /* offset */
    bool is_old;           /* of an earlier run: nobody writes to it */
    _Atomic bool was_torn; /* reported */
};

/* A new file, allocated whole and zeroed. NULL: ERR_IO, such as on a full disk. */
struct segment *segment_new(const char *dir, unsigned worker, uint64_t sequence, struct err *err);
/* Opens what an earlier run left. NULL with ERR_OK when the file holds nothing that is wanted (it is
 * removed), NULL with ERR_IO or ERR_BAD_BODY when it cannot be understood (it is left alone under
 * `<name>.bad`). */
struct segment *segment_open(const char *dir, const char *name, unsigned worker, struct err *err);
/* Gives a fully released segment a new life at the end of the chain. */
NODISCARD enum err_code segment_recycle(struct segment *s, const char *dir, unsigned worker,
                                        uint64_t sequence, struct err *err);
void segment_set_released(struct segment *s, uint32_t offset);
bool segment_is_released(const struct segment *s);
/* It counts no more as memory of the process until somebody looks at it. Its bytes stay as they are. */
void segment_drop_pages(struct segment *s);
void segment_unmap(struct segment *s);                   /* keeps the file */
void segment_remove(struct segment *s, const char *dir); /* and the file */

/* The header word at `offset`, as the atomic it is. */
static inline _Atomic uint64_t *segment_word(const struct segment *s, size_t offset)
{
    return (_Atomic uint64_t *)(void *)(s->base + offset);
}

#endif
