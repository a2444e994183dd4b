/* SPDX-License-Identifier: Apache-2.0 */
/* What the process owns, wired together: configuration snapshot, workers, journals, recorder, api thread. */
#ifndef GATEWAYD_GATEWAY_H
#define GATEWAYD_GATEWAY_H

#include "gatewayd/config/config.h"
#include "gatewayd/telemetry/exposition.h"

struct gateway;

/* Any thread. The caller unrefs. */
struct config *gateway_config_ref_mt(struct gateway *gw);
/* The workers' fact tables; `out` has LIMIT_WORKERS places. */
size_t gateway_facts_mt(struct gateway *gw, struct facts *out[LIMIT_WORKERS]);
/* Fills everything; the arrays inside are allocated in `a`. */
void gateway_metrics_state_mt(struct gateway *gw, struct arena *a, struct metrics_state *out);
bool gateway_is_draining_mt(struct gateway *gw);
/* Re-reads the configuration and swaps it; a bad one changes nothing. */
NODISCARD enum err_code gateway_reload_mt(struct gateway *gw, struct err *err);
/* Base URL of the simulator's control endpoint in demo mode, NULL otherwise. */
const char *gateway_simulator_mt(struct gateway *gw);

#endif
