/* SPDX-License-Identifier: Apache-2.0 */
/* Options as JSON: what they are, and with a snapshot what is in force. */
#ifndef CONFIG_CONFIG_SHOW_H
#define CONFIG_CONFIG_SHOW_H

#include <jansson.h>

#include "gatewayd/config/config_describe.h"

/* One option: {path, type, default, live, env, alias, text}, with `v` also value, origin, secret. The caller's. */
json_t *config_option_json(const char *path, const struct config_value *v);
/* {"path": the file or null, "options": […]}; NULL: those in lists too, and no values. The caller's. */
json_t *config_show(const struct config *c);

#endif
