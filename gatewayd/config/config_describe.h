/* SPDX-License-Identifier: Apache-2.0 */
/* Every option outside lists, with what is in force and where that comes from. */
#ifndef CONFIG_CONFIG_DESCRIBE_H
#define CONFIG_CONFIG_DESCRIBE_H

#include "gatewayd/config/config.h"

struct config_value {
    const char *path;
    const char *value;  /* as an operator writes it; "(set)" or "" of what is secret */
    const char *origin; /* "default", "FILE:LINE:COLUMN", "environment NAME", "flag --NAME" */
    bool is_live;       /* a reload changes it */
    bool is_secret;
};
typedef void (*config_value_fn)(void *user, const struct config_value *v);
void config_describe(const struct config *c, config_value_fn fn, void *user);

#endif
