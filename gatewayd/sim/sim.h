/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated provider: a process of its own (`gatewayd --simulate ADDR:PORT`), so that its truth is
 * independent of the gateway under test. It speaks HTTP/1.1 over raw sockets of its own, because it must be
 * able to misbehave byte by byte. One thread, one loop. */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include "libshared/base/err.h"

struct sim_options {
    const char *listen; /* "127.0.0.1:0" */
    /* NULL, or written atomically once serving: {"listen":"127.0.0.1:PORT","pid":N} */
    const char *ready_file;
    /* NULL, or a file that every received POST is appended to, one JSON object a line. */
    const char *truth_log;
    unsigned long long seed;
};

/* Serves until SIGTERM or SIGINT; returns the process's exit code. */
int sim_main(const struct sim_options *o);

#endif
