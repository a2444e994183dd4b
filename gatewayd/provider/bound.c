/* SPDX-License-Identifier: Apache-2.0 */
/* Any thread, no state. The invariant: no ceiling is below what the vendor can come to count; what is not known of a model is taken
 * for the largest there is. */
#include "gatewayd/provider/bound.h"

#include <stdbool.h>

static uint64_t prompt_ceiling(const struct price *p, const struct bound_facts *f)
{
    uint64_t tokens = f->body_bytes + BOUND_ALLOWANCE;

    if (f->reads_more)
        return p->context_tokens ? p->context_tokens : tokens > BOUND_CONTEXT ? tokens : BOUND_CONTEXT;
    return p->context_tokens && tokens > p->context_tokens ? p->context_tokens : tokens;
}

static uint64_t output_ceiling(const struct price *p, const struct bound_facts *f)
{
    uint64_t model = p->max_output_tokens ? p->max_output_tokens
                     : p->context_tokens  ? p->context_tokens
                                          : BOUND_OUTPUT;

    if (f->max_tokens && !p->max_output_tokens && !p->context_tokens)
        return f->max_tokens; /* nothing is known that would keep it from making so many */
    return f->max_tokens && f->max_tokens < model ? f->max_tokens : model;
}

static int64_t dearer(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static uint64_t times(uint64_t a, uint64_t b)
{
    uint64_t product;

    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX / 2 : product;
}

int64_t bound_nanousd(const struct price *p, const struct bound_facts *f)
{
    uint64_t n = f->n ? f->n : 1;
    /* Each class at the dearest price that it can be billed at. */
    struct price dearest = *p;
    struct usage u = {.input = prompt_ceiling(p, f), .source = USAGE_ESTIMATED};

    dearest.input = dearer(p->input, dearer(p->cached, p->cache_write));
    dearest.cached = dearest.cache_write = dearest.input;
    dearest.output = dearer(p->output, p->reasoning);
    dearest.reasoning = -1;
    if (f->has_output)
        u.output = times(output_ceiling(p, f) + f->predicted, n);
    if (f->has_images) {
        u.images = n;
        u.output = u.output ? u.output
                            : times(BOUND_IMAGE, n); /* free where images have a price and tokens have none */
    }
    if (f->reads_more && f->searches)
        u.input = times(u.input, f->searches < UINT64_MAX ? f->searches + 1 : f->searches);
    u.searches = f->searches;
    return price_cost_nanousd(&dearest, &u);
}
