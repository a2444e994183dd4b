/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks that stand still until they are set, and a chance that is the same in every run. */
#ifndef TESTS_JOURNAL_FAKE_TIME_H
#define TESTS_JOURNAL_FAKE_TIME_H

#include "libshared/base/clock.h"

static struct wall wall;
static struct mono mono;
static uint64_t seed = 88172645463325252u; /* never 0 */

static struct wall fake_wall(void *user)
{
    (void)user;
    return wall;
}
static struct mono fake_mono(void *user)
{
    (void)user;
    return mono;
}
static uint64_t chance(void *user)
{
    (void)user;
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

#endif
