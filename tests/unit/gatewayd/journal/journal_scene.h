/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of its own for each test of journals. */
#ifndef TESTS_JOURNAL_SCENE_H
#define TESTS_JOURNAL_SCENE_H

#include "tests/unit/gatewayd/journal/facts_sample.h"

#include "tests/unit/cm.h"

#define MAX_BYTES (8 * JOURNAL_SEGMENT)

static char dir[64];

static int setup(void **state)
{
    (void)state;
    scratch_make(dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

#endif
