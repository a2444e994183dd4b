/* SPDX-License-Identifier: Apache-2.0 */
/* Not synchronised: a sketch belongs to one thread. The fact windows of the workers count into the same
 * buckets with storage of their own and are poured into a sketch by whoever reads them. */
#include "libshared/analytics/sketch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT 1

uint64_t sketch_bucket_us(unsigned bucket)
{
    unsigned octave = bucket >> SKETCH_SUB_BITS;
    uint64_t sub = bucket & (SKETCH_SUB - 1);

    if (octave == 0)
        return sub;
    /* The bucket spans [SUB + sub, SUB + sub + 1) times 2^(octave - 1). */
    return ((SKETCH_SUB + sub) << (octave - 1)) + (((uint64_t)1 << (octave - 1)) >> 1);
}

void sketch_release(struct sketch *s)
{
    for (size_t i = 0; i < SKETCH_OCTAVES; i++)
        free(s->octaves[i]);
    memset(s, 0, sizeof(*s));
}

void sketch_clear(struct sketch *s)
{
    for (size_t i = 0; i < SKETCH_OCTAVES; i++)
        if (s->octaves[i])
            memset(s->octaves[i], 0, SKETCH_SUB * sizeof(*s->octaves[i]));
    s->count = s->sum_us = s->min_us = s->max_us = 0;
}

static void widen(struct sketch *s, uint64_t min_us, uint64_t max_us)
{
    if (s->count == 0 || min_us < s->min_us)
        s->min_us = min_us;
    if (s->count == 0 || max_us > s->max_us)
        s->max_us = max_us;
}

static uint64_t *octave_of(struct sketch *s, unsigned bucket)
{
    uint64_t **octave = &s->octaves[bucket >> SKETCH_SUB_BITS];

    if (!*octave)
        *octave = calloc(SKETCH_SUB, sizeof(**octave));
    return *octave;
}

enum err_code sketch_add_bucket(struct sketch *s, unsigned bucket, uint64_t n)
{
    uint64_t *octave;

    if (bucket >= SKETCH_BUCKETS)
        return ERR_BAD_REQUEST;
    octave = octave_of(s, bucket);
    if (!octave)
        return ERR_NO_MEMORY;
    octave[bucket & (SKETCH_SUB - 1)] += n;
    s->count += n;
    return ERR_OK;
}

enum err_code sketch_add(struct sketch *s, int64_t us)
{
    uint64_t v = us < 0 ? 0 : (uint64_t)us;

    if (!octave_of(s, sketch_bucket(v)))
        return ERR_NO_MEMORY;
    widen(s, v, v);
    s->sum_us += v;
    return sketch_add_bucket(s, sketch_bucket(v), 1);
}

enum err_code sketch_merge(struct sketch *into, const struct sketch *from)
{
    if (from->count == 0)
        return ERR_OK;
    for (unsigned o = 0; o < SKETCH_OCTAVES; o++)
        if (from->octaves[o] && !octave_of(into, o << SKETCH_SUB_BITS))
            return ERR_NO_MEMORY; /* before anything was added */
    for (unsigned o = 0; o < SKETCH_OCTAVES; o++)
        for (unsigned i = 0; from->octaves[o] && i < SKETCH_SUB; i++)
            into->octaves[o][i] += from->octaves[o][i];
    widen(into, from->min_us, from->max_us);
    into->count += from->count;
    into->sum_us += from->sum_us;
    return ERR_OK;
}

double sketch_quantile_us(const struct sketch *s, double q)
{
    uint64_t rank, seen = 0;
    double us = NAN;

    if (s->count == 0 || !(q >= 0 && q <= 1))
        return NAN;
    rank = (uint64_t)ceil(q * (double)s->count);
    if (rank <= 1)
        return (double)s->min_us;
    if (rank >= s->count)
        return (double)s->max_us;
    for (unsigned b = 0; b < SKETCH_BUCKETS && seen < rank; b++) {
        const uint64_t *octave = s->octaves[b >> SKETCH_SUB_BITS];

        if (!octave) {
            b |= SKETCH_SUB - 1;
            continue;
        }
        seen += octave[b & (SKETCH_SUB - 1)];
        us = (double)sketch_bucket_us(b);
    }
    /* The middle of a bucket may lie outside of what was seen; the extremes are exact. */
    return fmin(fmax(us, (double)s->min_us), (double)s->max_us);
}

static enum err_code put_varint(struct buf *out, uint64_t v)
{
    unsigned char tmp[10];
    size_t n = 0;

    for (; v >= 0x80; v >>= 7)
        tmp[n++] = (unsigned char)(v | 0x80);
    tmp[n++] = (unsigned char)v;
    return buf_append(out, tmp, n);
}

static bool get_varint(struct span *in, uint64_t *out)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 64 && in->len; shift += 7) {
        unsigned char c = (unsigned char)*in->p;

        in->p++;
        in->len--;
        if (shift == 63 && c > 1)
            return false;
        v |= (uint64_t)(c & 0x7f) << shift;
        if (!(c & 0x80)) {
            *out = v;
            return true;
        }
    }
    return false;
}

static uint64_t count_at(const struct sketch *s, unsigned b)
{
    const uint64_t *octave = s->octaves[b >> SKETCH_SUB_BITS];

    return octave ? octave[b & (SKETCH_SUB - 1)] : 0;
}

/* Each non-empty bucket: how many empty ones were skipped, then its count. */
enum err_code sketch_encode(const struct sketch *s, struct buf *out)
{
    const uint64_t head[] = {FORMAT, s->count, s->sum_us, s->min_us, s->max_us};
    size_t from = out->len;
    unsigned skipped = 0;
    enum err_code e = ERR_OK;

    for (size_t i = 0; i < sizeof(head) / sizeof(head[0]) && !e; i++)
        e = put_varint(out, head[i]);
    for (unsigned b = 0; b < SKETCH_BUCKETS && !e; b++) {
        uint64_t n = count_at(s, b);

        if (n == 0) {
            skipped++;
            continue;
        }
        e = put_varint(out, skipped);
        if (!e)
            e = put_varint(out, n);
        skipped = 0;
    }
    if (e)
        out->len = from;
    return e;
}

enum err_code sketch_decode(struct sketch *s, struct span in)
{
    uint64_t head[5] = {0}, skip, n, bucket = 0;
    enum err_code e = ERR_OK;

    sketch_clear(s);
    for (size_t i = 0; i < 5 && !e; i++)
        e = get_varint(&in, &head[i]) ? ERR_OK : ERR_BAD_REQUEST;
    if (!e && (head[0] != FORMAT || head[3] > head[4]))
        e = ERR_BAD_REQUEST;
    while (!e && in.len) {
        if (!get_varint(&in, &skip) || !get_varint(&in, &n) || skip >= SKETCH_BUCKETS - bucket || n == 0 ||
            n > head[1] - s->count) {
            e = ERR_BAD_REQUEST;
            break;
        }
        e = sketch_add_bucket(s, (unsigned)(bucket + skip), n);
        bucket += skip + 1;
        if (bucket == SKETCH_BUCKETS && in.len)
            e = ERR_BAD_REQUEST;
    }
    if (!e && s->count != head[1])
        e = ERR_BAD_REQUEST;
    if (e) {
        sketch_clear(s);
        return e;
    }
    s->sum_us = head[2];
    s->min_us = head[3];
    s->max_us = head[4];
    return ERR_OK;
}
