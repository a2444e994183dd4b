/* SPDX-License-Identifier: Apache-2.0 */
/* What every simulation draws from its seed, and the hash of what came of it. One number of state each; the same state gives the
 * same, on every machine. */
#ifndef DST_CHANCE_H
#define DST_CHANCE_H

#include <stddef.h>
#include <stdint.h>

#define TRACE_BEGINS UINT64_C(0xcbf29ce484222325)

static inline uint64_t chance_next(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* From 0 to n - 1; 0 for 0. */
static inline unsigned chance_below(uint64_t *state, unsigned n)
{
    return n ? (unsigned)((chance_next(state) >> 32) * n >> 32) : 0;
}

/* Both included. */
static inline unsigned chance_between(uint64_t *state, unsigned from, unsigned to)
{
    return from + chance_below(state, to - from + 1);
}

/* How often an evil comes that half of all seeds know: one in that many; 0 never. */
static inline unsigned chance_rare(uint64_t *state, unsigned one_in)
{
    return chance_below(state, 2) ? chance_between(state, one_in / 3 + 1, one_in * 3) : 0;
}

static inline void chance_bytes(uint64_t *state, void *dst, size_t n)
{
    unsigned char *p = dst;

    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)(chance_next(state) >> 32);
}

static inline void trace_mix(uint64_t *trace, const char *z)
{
    for (; *z; z++)
        *trace = (*trace ^ (unsigned char)*z) * 0x100000001b3u;
}

#endif
