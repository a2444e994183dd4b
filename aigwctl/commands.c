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
    /* alerts */
    &CMD_ALERTS,
    &CMD_DASHBOARDS,
    /* setup */
    &CMD_MOCK,
    &CMD_DEMO,
    &CMD_COMPLETION,
    NULL,
};
