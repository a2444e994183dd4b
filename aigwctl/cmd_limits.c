/* SPDX-License-Identifier: Apache-2.0 */
/* Rates: how much of the requests and tokens a minute, and of the requests at once, is used. */
#include <stdlib.h>
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

static json_int_t hits_of(const json_t *row)
{
    return json_integer_value(json_object_get(row, "refused")) +
           json_integer_value(json_object_get(row, "shadow_hits"));
}

static int by_hits(const void *a, const void *b)
{
    json_int_t x = hits_of(*(json_t *const *)a), y = hits_of(*(json_t *const *)b);

    return (x < y) - (x > y);
}

/* Those that somebody met, most often first. */
static json_t *met(const json_t *all)
{
    json_t **rows = calloc(json_array_size(all) + 1, sizeof(json_t *)), *row, *kept = json_array();
    size_t n = 0, i;

    if (!rows)
        abort();
    json_array_foreach(all, i, row)
    {
        if (hits_of(row))
            rows[n++] = row;
    }
    qsort(rows, n, sizeof(*rows), by_hits);
    for (i = 0; i < n; i++)
        (void)json_array_append(kept, rows[i]);
    free(rows);
    return kept;
}

static int hits(struct ctl *ctl, FILE *f)
{
    json_t *doc, *rows;
    int rc = ctl_get(ctl, "/api/admin/limits", &doc);

    if (rc || !doc)
        return rc;
    rows = met(json_object_get(doc, "limits"));
    ctl_print(ctl, f, "limits", COLUMNS, rows, NULL);
    json_decref(rows);
    json_decref(doc);
    return CLI_OK;
}

static int run(struct ctl *ctl)
{
    const char *verb = ctl->n_args ? ctl->args[0] : "list";

    if (strcmp(verb, "hits") == 0)
        return ctl_watch(ctl, hits);
    if (strcmp(verb, "list") != 0)
        return ctl_fail(CLI_USAGE, "limits: the verbs are list and hits, not '%s'", verb);
    return ctl_watch(ctl, list);
}

const struct command CMD_LIMITS = {
    .name = "limits",
    .args = "list\nhits",
    .group = GROUP_CONTROL,
    .summary = "requests and tokens a minute, requests at once",
    .help =
        "'list' shows every scope that is limited: what is used now, how long until nothing is, and how many "
        "requests were refused since the start (or would have been, in shadow). 'hits' shows those that "
        "refused "
        "something, most often first. Limits of tenants are set by 'tenants update', of keys in the "
        "configuration "
        "file.\v"
        "  aigwctl limits hits --output csv",
    .run = run,
    .max_args = 1,
};
