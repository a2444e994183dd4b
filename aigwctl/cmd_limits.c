/* SPDX-License-Identifier: Apache-2.0 */
/* Rates: how much of the requests and tokens a minute, and of the requests at once, is used. */
#include <string.h>

#include "aigwctl/command.h"

static const struct table_column COLUMNS[] = {
    {"scope", "SCOPE", FORM_TEXT},
    {"kind", "KIND", FORM_TEXT},
    {"limit", "LIMIT", FORM_COUNT},
    {"used", "USED", FORM_COUNT},
    {"remaining", "LEFT", FORM_COUNT},
    {"resets_in_ms", "FREE IN", FORM_MS},
    {"refused", "REFUSED", FORM_COUNT},
    {"shadow_hits", "SHADOW", FORM_COUNT},
    {0},
};

static int list(struct ctl *ctl, FILE *f)
{
    json_t *doc;
    int rc = ctl_get(ctl, "/api/admin/limits", &doc);

    if (!rc && doc)
        ctl_print(ctl, f, "limits", COLUMNS, json_object_get(doc, "limits"), NULL);
    json_decref(doc);
    return rc;
}

static int run(struct ctl *ctl)
{
    if (ctl->n_args && strcmp(ctl->args[0], "list") != 0)
        return ctl_fail(CLI_USAGE, "limits: the verb is list, not '%s'", ctl->args[0]);
    return ctl_watch(ctl, list);
}

const struct command CMD_LIMITS = {
    .name = "limits",
    .args = "list",
    .group = GROUP_CONTROL,
    .summary = "requests and tokens a minute, requests at once",
    .help = "Every scope that is limited, with what is used now, how long until nothing is, and how many "
            "requests were "
            "refused since the start (or would have been, in shadow). Limits of tenants are set by 'tenants "
            "update', of "
            "keys in the configuration file.\v"
            "  aigwctl limits list --output csv",
    .run = run,
    .max_args = 1,
};
