/* SPDX-License-Identifier: Apache-2.0 */
/* --demo: three simulated providers in a process of their own, six models with prices, tenants with fresh keys. */
#ifndef GATEWAYD_DEMO_H
#define GATEWAYD_DEMO_H

#include "libshared/base/buf.h"

struct demo {
    int sim_pid; /* 0 when not started */
    char state_dir[256];
    bool owns_state_dir; /* removed at the end */
    struct buf yaml;     /* the configuration */
    struct buf keys;     /* {"tenant":"key"} */
    char simulator[96];  /* "http://127.0.0.1:PORT" */
};

/* Forks the simulator, so it must run before any thread exists. `state_dir` may be NULL: a private temporary one. */
NODISCARD enum err_code demo_start(struct demo *d, const char *state_dir, struct err *err);
void demo_stop(struct demo *d);

#endif
