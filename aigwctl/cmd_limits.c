/* SPDX-License-Identifier: Apache-2.0 */
/* Rates: how much of the requests and tokens a minute, and of the requests at once, is used, who met a limit, and other limits of a
 * tenant or a key. */
#include <stdlib.h>
#include <string.h>

#include "aigwctl/change.h"
#include "aigwctl/look.h"
#include "libshared/base/span.h"

const struct table_column LIMITS_COLUMNS[] = {
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
        ctl_print(ctl, f, "limits", LIMITS_COLUMNS, json_object_get(doc, "limits"), NULL);
    if (!rc && doc)
        ctl_put_none(ctl, json_object_get(doc, "limits"),
                     "No limit is set. To set one: aigwctl limits set TENANT --rpm N");
    json_decref(doc);
    return rc;
}

/* ---- who met one ----------------------------------------------------------------------------------------------------- */

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
    json_t *row, *kept = json_array();
    size_t i;

    json_array_foreach(all, i, row) if (hits_of(row))(void) json_array_append(kept, row);
    return look_sorted(kept, by_hits);
}

static int hits(struct ctl *ctl, FILE *f)
{
    json_t *doc, *rows;
    int rc = ctl_get(ctl, "/api/admin/limits", &doc);

    if (rc || !doc)
        return rc;
    rows = met(json_object_get(doc, "limits"));
    ctl_print(ctl, f, "limits", LIMITS_COLUMNS, rows, NULL);
    ctl_put_none(ctl, rows, "No limit has refused a request since the start.");
    json_decref(rows);
    json_decref(doc);
    return CLI_OK;
}

/* ---- setting --------------------------------------------------------------------------------------------------------- */

enum { KEY_RPM = 0x2000, KEY_TPM, KEY_CONCURRENT };

static const struct argp_option OPTIONS[] = {
    {"rpm", KEY_RPM, "N", 0, "set: requests a minute; 0 for no limit, 'plan' for the plan's", 0},
    {"tpm", KEY_TPM, "N", 0, "set: tokens a minute, likewise", 0},
    {"concurrent", KEY_CONCURRENT, "N", 0, "set: requests at once, likewise", 0},
    CHANGE_OPTIONS,
    {0},
};

static error_t take(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case KEY_RPM:
        return change_give_limit("rpm", arg, state);
    case KEY_TPM:
        return change_give_limit("tpm", arg, state);
    case KEY_CONCURRENT:
        return change_give_limit("concurrent", arg, state);
    default:
        return change_take(key, arg);
    }
}

static json_t *find(const json_t *doc, const char *tenant, const char *key)
{
    json_t *row;
    size_t i;

    if (!key)
        return json_incref((json_t *)(uintptr_t)doc);
    json_array_foreach(json_object_get(doc, "keys"), i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "tenant")) ?: "", tenant) == 0 &&
            strcmp(json_string_value(json_object_get(row, "id")) ?: "", key) == 0)
            return json_incref(row);
    }
    return NULL;
}

/* A cut asks, since it may refuse from this moment on; a rise does not. */
static enum danger danger_of(const json_t *was)
{
    const char *name;
    json_t *v;

    json_object_foreach(change_given, name, v)
    {
        json_int_t old = json_integer_value(json_object_get(was, name)), is = json_integer_value(v);

        if (json_is_null(v) || (is && (!old || is < old)))
            return DANGER_MODERATE;
    }
    return DANGER_MILD;
}

/* How it would be set back. */
static void tell_undo(const char *what, const json_t *was)
{
    static const char *const NAMES[] = {"rpm", "tpm", "concurrent"};

    (void)printf("undo: aigwctl limits set %s", what);
    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++) {
        const json_t *v = json_object_get(was, NAMES[i]);

        if (!json_object_get(change_given, NAMES[i]))
            continue;
        if (json_is_integer(v))
            (void)printf(" --%s %lld", NAMES[i], (long long)json_integer_value(v));
        else
            (void)printf(" --%s %s", NAMES[i], strchr(what, '/') ? "0" : "plan");
    }
    (void)putchar('\n');
}

static int set(struct ctl *ctl, const char *what)
{
    static const char *const CHANGED[] = {"rpm", "tpm", "concurrent", NULL};
    const char *slash = strchr(what, '/');
    char tenant[128], path[256], from[256];
    json_t *doc, *was, *out = NULL;
    int rc;

    (void)span_copy(tenant, sizeof(tenant), span_make(what, slash ? (size_t)(slash - what) : strlen(what)));
    if (!change_given || !change_is_name(tenant) || (slash && !change_is_name(slash + 1)))
        return ctl_fail(CLI_USAGE, "limits set: name TENANT or TENANT/KEY, and --rpm, --tpm or --concurrent");
    (void)snprintf(path, sizeof(path), "/api/admin/%s/%s", slash ? "keys" : "tenants", what);
    (void)snprintf(from, sizeof(from), slash ? "/api/admin/keys?tenant=%s" : "/api/admin/tenants/%s", tenant);
    ctl->is_raw = false;
    rc = ctl_get(ctl, from, &doc);
    if (rc)
        return rc;
    was = find(doc, tenant, slash ? slash + 1 : NULL);
    json_decref(doc);
    if (!was)
        return ctl_fail(CLI_NOT_FOUND, "limits set: there is no key '%s'", what);
    (void)json_incref(change_given);
    rc = change_make(ctl,
                     &(struct change){.danger = danger_of(was),
                                      .what = "set the limits of",
                                      .name = what,
                                      .method = "PATCH",
                                      .path = path,
                                      .body = change_given},
                     &out);
    if (!rc && out) {
        change_show(stdout, was, out, CHANGED);
        tell_undo(what, was);
    }
    json_decref(change_given);
    json_decref(out);
    json_decref(was);
    return rc;
}

static int run(struct ctl *ctl)
{
    const char *verb = ctl->n_args ? ctl->args[0] : "list";

    if (strcmp(verb, "set") == 0)
        return ctl->n_args == 2 ? set(ctl, ctl->args[1])
                                : ctl_fail(CLI_USAGE, "limits set: name TENANT or TENANT/KEY");
    if (ctl->n_args > 1)
        return ctl_fail(CLI_USAGE, "limits %s: '%s' is one argument too many", verb, ctl->args[1]);
    return ctl_watch(ctl, strcmp(verb, "hits") == 0 ? hits : list);
}

static const struct command_verb VERBS[] = {
    {"list", "", "every scope, with what is used", READS, "GET /api/admin/limits"},
    {"hits", "", "only those that somebody met", READS, "GET /api/admin/limits"},
    {"set", "TENANT[/KEY]", "other limits", MODERATE, "PATCH /api/admin/tenants/{id}"},
    {0},
};

const struct command CMD_LIMITS = {
    .name = "limits",
    .verbs = VERBS,
    .group = GROUP_CONTROL,
    .summary = "requests and tokens a minute, requests at once",
    .help = "Every scope that is limited, with what is used now, how long until nothing is, and how many "
            "requests were "
            "refused since the start (or would have been, in shadow). 'hits' shows only those that somebody "
            "met, most often first. 'set' gives a "
            "tenant or a key other limits; those of providers and aliases, and of what the configuration "
            "file defines, are "
            "changed there.\v"
            "  aigwctl limits set acme/web --rpm 60",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 2,
};
