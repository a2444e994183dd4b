/* SPDX-License-Identifier: Apache-2.0 */
/* The demo's ledger beside what its simulated providers wrote down themselves. */
#ifndef AIGWCTL_DEMO_BOOKS_H
#define AIGWCTL_DEMO_BOOKS_H

#include <stdbool.h>
#include <stdint.h>

#include "aigwctl/command.h"

struct demo_sums {
    int64_t posts, input, output; /* calls of providers, tokens */
};
struct demo_books {
    struct demo_sums ledger, truth;
    bool agree;
};
/* Waits a few seconds for the ledger to have all. False when one of the two cannot be read. */
bool demo_books_compare(struct ctl *ctl, const char *state_dir, struct demo_books *out);

#endif
