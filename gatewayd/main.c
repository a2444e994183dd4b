/* SPDX-License-Identifier: Apache-2.0 */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gatewayd/sim/sim.h"

const char *argp_program_version = "gatewayd " GATEWAYD_VERSION;

enum { OPT_SIMULATE = 256, OPT_READY_FILE, OPT_TRUTH_LOG, OPT_SEED };

static const struct argp_option OPTIONS[] = {
    {"simulate", OPT_SIMULATE, "ADDR:PORT", 0, "run only the simulated provider", 0},
    {"ready-file", OPT_READY_FILE, "FILE", 0, "write FILE, atomically, once serving", 0},
    {"truth-log", OPT_TRUTH_LOG, "FILE", 0, "simulator: append a line for every POST received", 0},
    {"seed", OPT_SEED, "N", 0, "simulator: seed of answers and faults (default 1)", 0},
    {0},
};

static error_t on_option(int key, char *arg, struct argp_state *state)
{
    struct sim_options *o = state->input;
    char *end;

    switch (key) {
    case OPT_SIMULATE:
        o->listen = arg;
        return 0;
    case OPT_READY_FILE:
        o->ready_file = arg;
        return 0;
    case OPT_TRUTH_LOG:
        o->truth_log = arg;
        return 0;
    case OPT_SEED:
        errno = 0;
        o->seed = strtoull(arg, &end, 10);
        if (errno || *end || end == arg)
            argp_error(state, "'%s' is not a number", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    const struct argp argp = {OPTIONS, on_option, NULL, "An AI gateway.", NULL, NULL, NULL};
    struct sim_options sim = {.seed = 1};

    if (argp_parse(&argp, argc, argv, 0, NULL, &sim))
        return EXIT_FAILURE;
    if (sim.listen)
        return sim_main(&sim);
    (void)puts("gatewayd " GATEWAYD_VERSION);
    return EXIT_SUCCESS;
}
