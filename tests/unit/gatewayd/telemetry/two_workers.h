/* SPDX-License-Identifier: Apache-2.0 */
/* The facts of two workers and a scrape of them, for each test anew. */
#ifndef TESTS_TELEMETRY_TWO_WORKERS_H
#define TESTS_TELEMETRY_TWO_WORKERS_H

#include "tests/unit/gatewayd/telemetry/scrape.h"

static struct facts *workers[2];
static struct metrics_state state;
static struct buf out;

static int setup(void **unused)
{
    (void)unused;
    workers[0] = facts_new(NULL);
    workers[1] = facts_new(NULL);
    state = a_state();
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    facts_free(workers[0]);
    facts_free(workers[1]);
    buf_release(&out);
    return 0;
}

static const struct buf *scrape(enum exposition_format f)
{
    buf_clear(&out);
    exposition_render(&out, f, workers, 2, &state);
    return &out;
}

#endif
