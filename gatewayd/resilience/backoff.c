/* SPDX-License-Identifier: Apache-2.0 */
/* The owner's thread: each worker has a retry budget of its own. It is kept in fifths, so that sums stay exact. */
#include "gatewayd/resilience/backoff.h"

void retry_budget_init(struct retry_budget *b)
{
    b->fifths = RETRY_BUDGET_MAX * 5;
}

void retry_budget_deposit(struct retry_budget *b)
{
    if (b->fifths < RETRY_BUDGET_MAX * 5)
        b->fifths++;
}

bool retry_budget_withdraw(struct retry_budget *b)
{
    if (b->fifths < 5)
        return false;
    b->fifths -= 5;
    return true;
}

int64_t backoff_us(unsigned retry, int64_t first_us, int64_t max_us, uint64_t random)
{
    int64_t top = first_us;

    while (retry-- && top < max_us)
        top *= 2;
    if (top > max_us)
        top = max_us;
    return top > 0 ? (int64_t)(random % (uint64_t)(top + 1)) : 0;
}

bool backoff_same_target(enum err_code failure)
{
    switch ((int)failure) {
    case ERR_UP_CONNECT:
    case ERR_UP_DNS:
    case ERR_UP_RESET:
    case ERR_UP_RATE_LIMIT:
    case ERR_UP_OVERLOADED:
    case ERR_UP_SERVER:
        return true;
    default:
        return false;
    }
}
