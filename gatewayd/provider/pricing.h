/* SPDX-License-Identifier: Apache-2.0 */
/* Money. Prices are whole pico-USD per token (1 USD = 10^12 pUSD), amounts whole nano-USD, rounded up once
 * per attempt. Token classes are made disjoint before pricing: uncached input, cached input, cache write,
 * output. Reported classes that do not add up (cached > input) are clamped, never underflow. */
#ifndef PROVIDER_PRICING_H
#define PROVIDER_PRICING_H

#include "libshared/base/err.h"
#include "libshared/base/span.h"
#include "libshared/base/usage.h"

struct price { /* pico-USD per unit; -1 where the fact is not known */
    int64_t input, cached, cache_write, output, reasoning;
    int64_t per_image;                          /* pico-USD per generated image */
    int64_t per_search;                         /* pico-USD per paid tool call */
    uint64_t context_tokens, max_output_tokens; /* 0 when unknown */
};

struct price_table;

/* The built-in table (libshared/catalog/models.def) merged with an optional JSON file, whose rows win.
 * File: {"prices":[{"provider","model","input_usd_per_mtok":"2.50","output_usd_per_mtok":"10",
 * "cached_usd_per_mtok",
 * "cache_write_usd_per_mtok","image_usd","search_usd","context_tokens","max_output_tokens"}]}; amounts are
 * decimal strings or JSON numbers with at most 12 decimals; unknown members are errors. */
struct price_table *price_table_new(const char *path_or_null, struct err *err);
void price_table_free(struct price_table *t);
/* NULL when the model has no price: the caller counts it as unpriced. Borrowed from the table. */
const struct price *price_find(const struct price_table *t, struct span provider, struct span model);
bool price_is_known_model(const struct price_table *t, struct span provider, struct span model);
/* "2.50" USD per million tokens etc. to pico-USD; exact decimal, no floating point. */
NODISCARD enum err_code price_parse_usd(struct span text, unsigned scale_pow10, int64_t *out_pico,
                                        struct err *err);
/* A million dollars: no answer costs more, and thousands of absurd ones still add up within 64 bits. */
#define PRICE_COST_MAX_NANOUSD INT64_C(1000000000000000)
/* Nano-USD, rounded up, saturating at PRICE_COST_MAX_NANOUSD. */
int64_t price_cost_nanousd(const struct price *p, const struct usage *u);

#endif
