/* SPDX-License-Identifier: Apache-2.0 */
/* When to try again. Pure: time and randomness are arguments.
 *
 * The retry budget keeps retries of the same target from multiplying a provider's outage: every request deposits a
 * fifth of a retry, every such retry withdraws a whole one, and at most RETRY_BUDGET_MAX are saved up. Failing over to
 * another target costs nothing from it. */
#ifndef RESILIENCE_BACKOFF_H
#define RESILIENCE_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

#include "libshared/base/err.h"

#define RETRY_BUDGET_MAX 50 /* retries saved up */

struct retry_budget {
    int64_t fifths; /* of a retry */
};

void retry_budget_init(struct retry_budget *b); /* begins full: a fresh process may retry */
void retry_budget_deposit(struct retry_budget *b);
bool retry_budget_withdraw(struct retry_budget *b);

/* Full jitter: uniform in [0, min(first << retry, max)]; `random` is any 64 random bits. `retry` counts from 0. */
int64_t backoff_us(unsigned retry, int64_t first_us, int64_t max_us, uint64_t random);

/* May the same target be asked again after this failure? Not after timeouts, cuts and garbage: the provider may still
 * be working on (and billing) the first one. */
bool backoff_same_target(enum err_code failure);

#endif
