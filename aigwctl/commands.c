/* SPDX-License-Identifier: Apache-2.0 */
/* The list of commands, in the order in which help shows them. */
#include "aigwctl/command.h"

const struct command *const COMMANDS[] = {
    &CMD_STATUS,     &CMD_HEALTH,    &CMD_EVENTS, &CMD_EXPLAIN,   &CMD_COST,    &CMD_BREAKERS,
    &CMD_PROVIDERS,  &CMD_TENANTS,   &CMD_KEYS,   &CMD_BUDGETS,   &CMD_LIMITS,  &CMD_API,
    &CMD_RELOAD,     &CMD_AGGREGATE, &CMD_DB,     &CMD_RECONCILE, &CMD_JOURNAL, &CMD_ALERTS,
    &CMD_DASHBOARDS, &CMD_MOCK,      &CMD_DEMO,   NULL,
};
