/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens of one answer. `input` counts every prompt token, cached ones included; `output` every generated token,
 * reasoning included. Pricing makes the classes disjoint. */
#ifndef BASE_USAGE_H
#define BASE_USAGE_H

#include <stdint.h>

enum usage_source { USAGE_NONE, USAGE_REPORTED, USAGE_ESTIMATED };

struct usage {
    uint64_t input;
    uint64_t cached;      /* part of input that the provider read from its cache */
    uint64_t cache_write; /* part of input that it wrote to its cache */
    uint64_t output;
    uint64_t reasoning; /* part of output */
    uint64_t images;    /* generated images */
    uint64_t searches;  /* paid tool calls such as web search */
    enum usage_source source;
};

/* A sum of answers is as sure as the least sure of them. */
static inline void usage_add(struct usage *sum, const struct usage *u)
{
    sum->input += u->input;
    sum->cached += u->cached;
    sum->cache_write += u->cache_write;
    sum->output += u->output;
    sum->reasoning += u->reasoning;
    sum->images += u->images;
    sum->searches += u->searches;
    if (u->source != USAGE_NONE && sum->source != USAGE_ESTIMATED)
        sum->source = u->source;
}

#endif
