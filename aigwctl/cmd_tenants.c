/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants: list, show, create, update, suspend, resume, delete. What the file defines can only be suspended. */
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>

#include "aigwctl/change.h"
#include "aigwctl/look.h"

enum { KEY_PLAN = 0x2000, KEY_NAME, KEY_MODELS, KEY_RPM, KEY_TPM, KEY_CONCURRENT, KEY_TREE };

static const struct argp_option OPTIONS[] = {
    {"tree", KEY_TREE, 0, 0, "list: each tenant with its keys", 0},
    {"plan", KEY_PLAN, "PLAN", 0, "its plan", 0},
    {"name", KEY_NAME, "TEXT", 0, "its name for people", 0},
    {"models", KEY_MODELS, "A,B", 0, "models it may use, 'all' for every one", 0},
    {"rpm", KEY_RPM, "N", 0, "requests a minute, 0 for no limit, 'plan' for the plan's", 0},
    {"tpm", KEY_TPM, "N", 0, "tokens a minute, likewise", 0},
    {"concurrent", KEY_CONCURRENT, "N", 0, "requests at once, likewise", 0},
    CHANGE_OPTIONS,
    {0},
};

static json_t *list_of(const char *arg)
{
    struct span rest = span_of(arg);
    json_t *list;

    if (strcmp(arg, "all") == 0)
        return json_null();
    list = json_array();
    while (rest.p) {
        struct span one = span_trim(span_split(&rest, ','));

        if (one.len)
            (void)json_array_append_new(list, json_stringn(one.p, one.len));
    }
    return list;
}

static bool is_tree;

static error_t take(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case KEY_TREE:
        is_tree = true;
        return 0;
    case KEY_PLAN:
        change_give("plan", json_string(arg));
        return 0;
    case KEY_NAME:
        change_give("name", json_string(arg));
        return 0;
    case KEY_MODELS:
        change_give("models", list_of(arg));
        return 0;
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

const struct table_column TENANTS_COLUMNS[] = {
    {"id", "TENANT", FORM_TEXT},
    {"plan", "PLAN", FORM_TEXT},
    {"enabled", "ENABLED", FORM_YES},
    {"source", "FROM", FORM_TEXT},
    {"rpm", "RPM", FORM_LIMIT},
    {"tpm", "TPM", FORM_LIMIT},
    {"concurrent", "AT ONCE", FORM_LIMIT},
    {"keys", "KEYS", FORM_COUNT},
    {"name", "NAME", FORM_TEXT},
    {0},
};
static const char *const SHOWN[] = {"plan",       "name",   "enabled", "models",     "rpm", "tpm",
                                    "concurrent", "source", "keys",    "created_at", NULL};
static const char *const CHANGED[] = {"plan", "name", "enabled", "models", "rpm", "tpm", "concurrent", NULL};

static int list(struct ctl *ctl, FILE *f)
{
    json_t *doc;
    int rc = ctl_get(ctl, "/api/admin/tenants", &doc);

    if (!rc && doc) {
        ctl_print(ctl, f, "tenants", TENANTS_COLUMNS, json_object_get(doc, "tenants"), NULL);
        ctl_put_none(ctl, json_object_get(doc, "tenants"),
                     "No tenant is there. To make one: aigwctl tenants create ID");
    }
    if (!rc && doc && json_is_false(json_object_get(doc, "complete")))
        ctl_note("aigwctl: the gateway cannot reach its database: tenants made there may be missing");
    json_decref(doc);
    return rc;
}

/* ---- the tree -------------------------------------------------------------------------------------------------------- */

/* Each tenant gets its keys; *out is the caller's. */
static int fetch_tree(struct ctl *ctl, json_t **out)
{
    json_t *doc, *keys = NULL, *tenant, *key;
    size_t i, k;
    int rc;

    *out = NULL;
    ctl->is_raw = false;
    rc = ctl_get(ctl, "/api/admin/tenants", &doc);
    if (!rc)
        rc = ctl_get(ctl, "/api/admin/keys", &keys);
    if (!rc) {
        *out = json_deep_copy(json_object_get(doc, "tenants"));
        json_array_foreach(*out, i, tenant)
        {
            json_t *own = json_array();

            json_array_foreach(json_object_get(keys, "keys"), k, key)
            {
                if (strcmp(look_shown(key, "tenant"), look_shown(tenant, "id")) == 0)
                    (void)json_array_append(own, key);
            }
            (void)json_object_set_new(tenant, "keys", own);
        }
    }
    json_decref(keys);
    json_decref(doc);
    return rc;
}

static void put(FILE *f, int width, const char *value)
{
    char cell[160];

    (void)snprintf(cell, sizeof(cell), "%-*s", width, value);
    term_put(f, cell);
}

static void put_keys(FILE *f, const json_t *keys, int width)
{
    bool is_utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    size_t i, n = json_array_size(keys);
    const json_t *key;

    json_array_foreach(keys, i, key)
    {
        (void)fputs(i + 1 < n ? (is_utf8 ? "├─ " : "|- ") : (is_utf8 ? "└─ " : "`- "), f);
        put(f, width - 3, look_shown(key, "id"));
        (void)fputs("  ", f);
        put(f, 10, look_shown(key, "prefix"));
        (void)fputs("  ", f);
        put(f, 0, look_shown(key, "state"));
        (void)fputc('\n', f);
    }
}

static int tree(struct ctl *ctl, FILE *f)
{
    const json_t *tenant, *key;
    json_t *all;
    size_t i, k;
    int width = 12, rc = fetch_tree(ctl, &all);

    if (!rc && ctl->output != OUTPUT_TABLE)
        ctl_print(ctl, f, "tenants", TENANTS_COLUMNS, all, NULL);
    json_array_foreach(all, i, tenant)
    {
        width = (int)strlen(look_shown(tenant, "id")) > width ? (int)strlen(look_shown(tenant, "id")) : width;
        json_array_foreach(json_object_get(tenant, "keys"), k, key) width =
            (int)strlen(look_shown(key, "id")) + 3 > width ? (int)strlen(look_shown(key, "id")) + 3 : width;
    }
    json_array_foreach(all, i, tenant)
    {
        if (rc || ctl->output != OUTPUT_TABLE)
            break;
        put(f, width, look_shown(tenant, "id"));
        (void)fputs("  ", f);
        put(f, 10, look_shown(tenant, "plan"));
        (void)fprintf(f, "  %s\n",
                      json_is_false(json_object_get(tenant, "enabled")) ? "suspended" : "enabled");
        put_keys(f, json_object_get(tenant, "keys"), width);
    }
    json_decref(all);
    return rc;
}

static void print_one(struct ctl *ctl, const json_t *was, const json_t *is, const char *const *names)
{
    json_t *rows = json_pack("[O]", is);

    if (ctl->output == OUTPUT_TABLE)
        change_show(stdout, was, is, names);
    else
        ctl_print(ctl, stdout, "tenant", TENANTS_COLUMNS, rows, is);
    json_decref(rows);
}

static int show(struct ctl *ctl, const char *path)
{
    json_t *doc;
    int rc = ctl_get(ctl, path, &doc);

    if (!rc && doc && ctl->output != OUTPUT_TABLE)
        print_one(ctl, NULL, doc, SHOWN);
    for (const char *const *name = SHOWN; !rc && doc && ctl->output == OUTPUT_TABLE && *name; name++) {
        char *text = json_dumps(json_object_get(doc, *name), JSON_ENCODE_ANY | JSON_COMPACT);
        const json_t *v = json_object_get(doc, *name);

        (void)printf("%-11s ", *name);
        term_put(stdout, json_is_string(v) ? json_string_value(v)
                         : json_is_null(v) ? "-"
                         : text            ? text
                                           : "-");
        (void)putchar('\n');
        free(text);
    }
    json_decref(doc);
    return rc;
}

static int create(struct ctl *ctl, const char *id)
{
    json_t *out, *nothing = json_object();
    int rc;

    change_give("id", json_string(id));
    rc = change_make(ctl,
                     &(struct change){.what = "create tenant",
                                      .name = id,
                                      .method = "POST",
                                      .path = "/api/admin/tenants",
                                      .body = change_given},
                     &out);
    if (!rc && out)
        print_one(ctl, nothing, out, CHANGED);
    if (!rc && out && ctl->output == OUTPUT_TABLE)
        (void)printf("undo: aigwctl tenants delete %s\n", id);
    json_decref(nothing);
    json_decref(out);
    return rc;
}

static int patch(struct ctl *ctl, const char *id, const char *path, const char *verb, json_t *body)
{
    bool is_suspend = strcmp(verb, "suspend") == 0;
    json_t *was, *out = NULL;
    int rc;

    ctl->is_raw = false;
    rc = ctl_get(ctl, path, &was);
    if (rc) {
        json_decref(body);
        return rc;
    }
    rc = change_make(ctl,
                     &(struct change){.danger = is_suspend ? DANGER_MODERATE : DANGER_MILD,
                                      .what = is_suspend ? "suspend tenant" : "change tenant",
                                      .name = id,
                                      .method = "PATCH",
                                      .path = path,
                                      .body = body},
                     &out);
    if (!rc && out)
        print_one(ctl, was, out, CHANGED);
    if (!rc && out && ctl->output == OUTPUT_TABLE && strcmp(verb, "update") != 0)
        (void)printf("undo: aigwctl tenants %s %s\n", is_suspend ? "resume" : "suspend", id);
    json_decref(was);
    json_decref(out);
    return rc;
}

static int end_tenant(struct ctl *ctl, const char *id, const char *path)
{
    json_t *out;
    int rc = change_make(
        ctl,
        &(struct change){
            .danger = DANGER_SEVERE, .what = "delete tenant", .name = id, .method = "DELETE", .path = path},
        &out);

    if (!rc && out && ctl->output == OUTPUT_JSON)
        ctl_print_document(ctl, stdout, "tenant", out);
    else if (!rc && out)
        (void)printf("tenant '%s' is deleted, and its keys are revoked\n", id);
    json_decref(out);
    return rc;
}

static int run_verb(struct ctl *ctl, const char *verb, const char *id)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "/api/admin/tenants/%s", id);
    if (strcmp(verb, "show") == 0)
        return show(ctl, path);
    if (strcmp(verb, "create") == 0)
        return create(ctl, id);
    if (strcmp(verb, "suspend") == 0 || strcmp(verb, "resume") == 0)
        return patch(ctl, id, path, verb, json_pack("{s:b}", "enabled", verb[0] == 'r'));
    if (strcmp(verb, "delete") == 0)
        return end_tenant(ctl, id, path);
    if (strcmp(verb, "update") != 0)
        return ctl_fail(
            CLI_USAGE,
            "tenants: the verbs are list, show, create, update, suspend, resume and delete, not '%s'", verb);
    if (!change_given)
        return ctl_fail(
            CLI_USAGE,
            "tenants update: say what to change: --plan, --name, --models, --rpm, --tpm, --concurrent");
    return patch(ctl, id, path, verb, change_given);
}

static int run(struct ctl *ctl)
{
    if (!ctl->n_args || (ctl->n_args == 1 && strcmp(ctl->args[0], "list") == 0))
        return ctl_watch(ctl, is_tree ? tree : list);
    if (ctl->n_args != 2)
        return ctl_fail(CLI_USAGE, "tenants %s: name one tenant", ctl->args[0]);
    if (!change_is_name(ctl->args[1]))
        return ctl_fail(CLI_USAGE, "tenants %s: '%s' is no name of a tenant", ctl->args[0], ctl->args[1]);
    return run_verb(ctl, ctl->args[0], ctl->args[1]);
}

static const struct command_verb VERBS[] = {
    {"list", "[--tree]", "all of them", READS, "GET /api/admin/tenants"},
    {"show", "TENANT", "one", READS, "GET /api/admin/tenants/{id}"},
    {"create", "ID", "a new one", MILD, "POST /api/admin/tenants"},
    {"update", "TENANT", "other plan, limits or models", MILD, "PATCH /api/admin/tenants/{id}"},
    {"suspend", "TENANT", "refuse its requests", MODERATE, "PATCH /api/admin/tenants/{id}"},
    {"resume", "TENANT", "take them again", MILD, "PATCH /api/admin/tenants/{id}"},
    {"delete", "TENANT", "end it, and revoke its keys", SEVERE, "DELETE /api/admin/tenants/{id}"},
    {0},
};

const struct command CMD_TENANTS = {
    .name = "tenants",
    .verbs = VERBS,
    .group = GROUP_CONTROL,
    .summary = "who may use the gateway, with which plan and limits",
    .help = "Tenants of the configuration file and of the database. Those of the file can be suspended and "
            "resumed here; "
            "all else about them is changed there. A change is in effect on every node within 5 s.\v"
            "  aigwctl tenants create acme --plan pro --models 'gpt-4o*,chat' --rpm 600",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 2,
};
