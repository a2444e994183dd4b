/* SPDX-License-Identifier: Apache-2.0 */
/* What pricing.c and price_file.c share. */
#ifndef PROVIDER_PRICING_PRIV_H
#define PROVIDER_PRICING_PRIV_H

#include "gatewayd/provider/pricing.h"

struct price_row {
    struct span provider, model;
    struct price price;
    char *owned_names; /* what the spans point into; NULL for a built-in row, whose names are literals */
};

struct price_table {
    struct price_row *rows;
    size_t n, cap;
};

/* Appends; empties `row` on success, leaves it to the caller otherwise. price_table_new() sorts and merges at
 * the end. */
NODISCARD enum err_code price_table_put(struct price_table *t, struct price_row *row, struct err *err);
NODISCARD enum err_code price_file_load(struct price_table *t, const char *path, struct err *err);

#endif
