/* SPDX-License-Identifier: Apache-2.0 */
/* Any thread. A record's sequence number is its segment's sequence and its offset, so a record that is not where it
 * was written (a recycled page that the disk kept from an earlier life) is never taken for a current one. */
#include "libshared/journal/walk.h"

#include <endian.h>
#include <stdatomic.h>

#include "libshared/base/hash.h"

static uint32_t get32(const unsigned char *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

static uint64_t get64(const unsigned char *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return le64toh(v);
}

/* A word that another thread may be storing. */
static uint64_t load64(const unsigned char *p)
{
    return le64toh(atomic_load_explicit((const _Atomic uint64_t *)(const void *)p, memory_order_acquire));
}

static uint32_t released_of(const unsigned char *base, size_t size)
{
    uint64_t v = load64(base + WALK_AT_RELEASED);
    uint32_t offset = (uint32_t)v;

    return offset == ~(uint32_t)(v >> 32) && offset >= WALK_DATA && offset <= size && offset % 8 == 0
               ? offset
               : WALK_DATA;
}

bool walk_header(const unsigned char *base, size_t size, struct walk_header *out)
{
    *out = (struct walk_header){.magic = load64(base + WALK_AT_MAGIC)};
    if ((out->magic != WALK_MAGIC && out->magic != WALK_MAGIC_1) ||
        get64(base + WALK_AT_CRC) != crc32c(0, base, WALK_AT_CRC))
        return false;
    out->sequence = get64(base + WALK_AT_SEQUENCE);
    out->worker = get32(base + WALK_AT_WORKER);
    out->size = get32(base + WALK_AT_SIZE);
    out->released = released_of(base, size);
    return true;
}

uint64_t walk_word(unsigned type, unsigned version, size_t payload)
{
    return htole64((uint64_t)version << 40 | (uint64_t)type << 32 | (uint64_t)payload);
}

uint32_t walk_crc(const unsigned char *record, uint64_t word, size_t payload)
{
    return htole32(
        crc32c(crc32c(0, &word, sizeof(word)), record + sizeof(word), WALK_HEAD - sizeof(word) + payload));
}

enum walk_step walk_step(const unsigned char *base, size_t size, uint64_t sequence, size_t at,
                         struct walk_record *out)
{
    const unsigned char *p = base + at;
    uint64_t word;
    size_t payload;
    uint32_t crc;

    if (at + sizeof(word) > size)
        return WALK_CORRUPT;
    word = load64(p);
    payload = (uint32_t)word;
    if (!word)
        return WALK_END;
    if (((word >> 32) & 0xff) == WALK_SEAL && payload == 0 && !(word >> 48))
        return WALK_SEALED;
    if (word >> 48 || payload > size - at || walk_space(payload) + sizeof(word) > size - at)
        return WALK_CORRUPT;
    memcpy(&crc, p + WALK_HEAD + payload, sizeof(crc));
    *out = (struct walk_record){.seq = get64(p + sizeof(word)),
                                .type = (word >> 32) & 0xff,
                                .version = (word >> 40) & 0xff,
                                .payload = span_make(p + WALK_HEAD, payload),
                                .next = at + walk_space(payload)};
    return out->seq == walk_seq(sequence, at) && crc == walk_crc(p, htole64(word), payload) ? WALK_RECORD
                                                                                            : WALK_CORRUPT;
}

bool walk_is_blank(const unsigned char *base, size_t size, size_t at)
{
    const unsigned char *p = base + at;

    return at >= size || (p[0] == 0 && memcmp(p, p + 1, size - at - 1) == 0);
}
