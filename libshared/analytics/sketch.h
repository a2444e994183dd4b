/* SPDX-License-Identifier: Apache-2.0 */
/* A mergeable sketch of durations with at most 1 % relative error, made of integers only: log-linear buckets,
 * 64 to each power of two, exact below 64 µs. The bucket of a value never depends on what else was added, so
 * sketches of threads, hours, nodes and days merge by adding counts, in any order, and always give the same
 * answer. */
#ifndef ANALYTICS_SKETCH_H
#define ANALYTICS_SKETCH_H

#include "libshared/base/buf.h"
#include "libshared/base/err.h"

#define SKETCH_SUB_BITS   6
#define SKETCH_SUB        (1u << SKETCH_SUB_BITS)
#define SKETCH_VALUE_BITS 36 /* 2^36 µs are 19 hours; larger values count as that */
#define SKETCH_OCTAVES    (SKETCH_VALUE_BITS - SKETCH_SUB_BITS + 1)
#define SKETCH_BUCKETS    (SKETCH_OCTAVES * SKETCH_SUB)
#define SKETCH_VALUE_MAX  (((uint64_t)1 << SKETCH_VALUE_BITS) - 1)

struct sketch {
    uint64_t count, sum_us, min_us, max_us; /* min and max mean nothing while count is 0 */
    uint64_t *octaves[SKETCH_OCTAVES];      /* SKETCH_SUB counts each, allocated when needed */
};

/* Octave in the upper bits, place within it in the lower SKETCH_SUB_BITS. */
static inline unsigned sketch_bucket(uint64_t us)
{
    unsigned top;

    if (us > SKETCH_VALUE_MAX)
        us = SKETCH_VALUE_MAX;
    if (us < SKETCH_SUB)
        return (unsigned)us;
    top = 63u - (unsigned)__builtin_clzll(us);
    return ((top - SKETCH_SUB_BITS + 1) << SKETCH_SUB_BITS) +
           ((unsigned)(us >> (top - SKETCH_SUB_BITS)) & (SKETCH_SUB - 1));
}
/* The value that stands for a bucket: its middle. */
uint64_t sketch_bucket_us(unsigned bucket);

/* A zeroed struct is empty and ready. */
void sketch_release(struct sketch *s);
void sketch_clear(struct sketch *s);
NODISCARD enum err_code sketch_add(struct sketch *s, int64_t us);
/* `n` values that are only known to lie in `bucket`; count grows, sum, min and max are the caller's. */
NODISCARD enum err_code sketch_add_bucket(struct sketch *s, unsigned bucket, uint64_t n);
NODISCARD enum err_code sketch_merge(struct sketch *into, const struct sketch *from);
/* `q` in 0..1, nearest rank, in microseconds; NaN when empty. */
double sketch_quantile_us(const struct sketch *s, double q);

/* Compact form for stores: a version byte, count, sum, min, max and the runs of non-empty buckets as varints.
 */
NODISCARD enum err_code sketch_encode(const struct sketch *s, struct buf *out);
/* Replaces `s`; ERR_BAD_REQUEST and an empty sketch for bytes that sketch_encode cannot have written. */
NODISCARD enum err_code sketch_decode(struct sketch *s, struct span in);

#endif
