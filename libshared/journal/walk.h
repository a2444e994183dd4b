/* SPDX-License-Identifier: Apache-2.0 */
/* A segment file as bytes: its header and the records in it. Read-only and pure; the bytes may be a mapping that a
 * worker appends to at the same time. docs/journal.md shows the layout.
 *
 *   0       magic          u64
 *   8       sequence       u64   the order of segments; the file's name only repeats it
 *   16      worker, size   u32, u32
 *   24      crc32c of 0..24 u32, zero u32
 *   32      released       u64   offset up to which records are safe elsewhere, and its check: low 32 bits the offset,
 *                                high 32 bits its complement
 *   64      first record; each starts at a multiple of 8; a zero header word is the end of what was written */
#ifndef JOURNAL_WALK_H
#define JOURNAL_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libshared/base/span.h"

#define WALK_MAGIC       0x32304c4e524a5747u /* "GWJRNL02" */
#define WALK_MAGIC_1     0x31304c4e524a5747u /* records of version 1 */
#define WALK_DATA        64u
#define WALK_HEAD        16u /* of a record: header word and seq */
#define WALK_TAIL        4u  /* its CRC */
#define WALK_OFFSET_BITS 17  /* of seq: offset / 8 within the segment */
#define WALK_SEAL        0xffu

enum {
    WALK_AT_MAGIC = 0,
    WALK_AT_SEQUENCE = 8,
    WALK_AT_WORKER = 16,
    WALK_AT_SIZE = 20,
    WALK_AT_CRC = 24,
    WALK_AT_RELEASED = 32
};

struct walk_header {
    uint64_t magic, sequence;
    uint32_t worker, size;
    uint32_t
        released; /* offset; WALK_DATA when the mark is damaged: records may come twice then, but none is lost */
};

struct walk_record {
    uint64_t seq;
    unsigned type, version;
    struct span payload; /* borrowed from the segment */
    size_t next;         /* offset behind it */
};

enum walk_step {
    WALK_RECORD,
    WALK_SEALED,  /* the worker went on in the next segment */
    WALK_END,     /* nothing more was published */
    WALK_CORRUPT, /* what is there is not a record of this place; nothing behind it can be trusted */
};

/* False when there is no sound header; then only `magic` is set. */
bool walk_header(const unsigned char *base, size_t size, struct walk_header *out);
enum walk_step walk_step(const unsigned char *base, size_t size, uint64_t sequence, size_t at,
                         struct walk_record *out);
/* At WALK_END of a segment that nobody writes to: nothing was begun behind it. */
bool walk_is_blank(const unsigned char *base, size_t size, size_t at);

uint64_t walk_word(unsigned type, unsigned version, size_t payload); /* the header word, little-endian */
uint32_t walk_crc(const unsigned char *record, uint64_t word, size_t payload);

static inline size_t walk_space(size_t payload)
{
    return (WALK_HEAD + payload + WALK_TAIL + 7) & ~(size_t)7;
}
static inline uint64_t walk_seq(uint64_t sequence, size_t at)
{
    return sequence << WALK_OFFSET_BITS | at >> 3;
}
static inline uint64_t walk_sequence_of(uint64_t seq)
{
    return seq >> WALK_OFFSET_BITS;
}
static inline size_t walk_offset_of(uint64_t seq)
{
    return (size_t)(seq & (((uint64_t)1 << WALK_OFFSET_BITS) - 1)) << 3;
}

#endif
