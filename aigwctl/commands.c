/* SPDX-License-Identifier: Apache-2.0 */
/* The list of commands, in the order in which help shows them. */
#include "aigwctl/command.h"

const struct command *const COMMANDS[] = {
    /* look */
    &CMD_STATUS,
    &CMD_HEALTH,
    &CMD_EVENTS,
    &CMD_EXPLAIN,
    &CMD_COST,
    &CMD_ERRORS,
    &CMD_STATS,
    &CMD_COMPARE,
    &CMD_LATENCY,
    &CMD_ANOMALIES,
    &CMD_TOKENS,
    &CMD_TRIALS,
    &CMD_MODELS,
    &CMD_METRICS,
    &CMD_PING,
    &CMD_WAIT,
    &CMD_TOP,
    &CMD_API,
    /* control */
    &CMD_BREAKERS,
    &CMD_PROVIDERS,
    &CMD_TENANTS,
    &CMD_KEYS,
    &CMD_BUDGETS,
    &CMD_LIMITS,
    &CMD_RELOAD,
    /* data */
    &CMD_AGGREGATE,
    &CMD_DB,
    &CMD_RECONCILE,
    &CMD_JOURNAL,
    &CMD_AUDIT,
    &CMD_REPORT,
    /* alerts and dashboards */
    &CMD_ALERTS,
    &CMD_DASHBOARDS,
    /* setup */
    &CMD_DOCTOR,
    &CMD_CONFIG,
    &CMD_MOCK,
    &CMD_DEMO,
    &CMD_COMPLETION,
    &CMD_SCHEMA,
    &CMD_VERSION,
    NULL,
};
