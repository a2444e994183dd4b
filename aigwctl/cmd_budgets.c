/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets: list, show, set, explain. What is shown is the counter that requests are admitted by, not a report of it. */
#include <stdlib.h>
#include <string.h>

#include "aigwctl/change.h"
#include "libshared/base/span.h"

enum { KEY_LIMIT = 0x2000, KEY_PERIOD, KEY_WARN, KEY_AT_LIMIT, KEY_STORE_DOWN };

static const struct argp_option OPTIONS[] = {
    {"limit", KEY_LIMIT, "USD", 0, "dollars per period", 0},
    {"period", KEY_PERIOD, "PERIOD", 0, "hour, day, week, month or total", 0},
    {"warn", KEY_WARN, "PERCENT", 0, "when to warn", 0},
    {"at-limit", KEY_AT_LIMIT, "RULE", 0, "block, throttle or warn", 0},
    {"when-store-down", KEY_STORE_DOWN, "RULE", 0, "closed, bounded or open", 0},
    CHANGE_OPTIONS,
    {0},
};

static error_t take(int key, char *arg, struct argp_state *state)
{
    uint64_t n = 0;

    switch (key) {
    case KEY_LIMIT:
        change_give("limit_usd", json_string(arg));
        return 0;
    case KEY_PERIOD:
        change_give("period", json_string(arg));
        return 0;
    case KEY_WARN:
        if (!span_to_u64(span_of(arg), &n) || n > 100)
            argp_error(state, "--warn takes a percentage, not '%s'", arg);
        change_give("warn", json_integer((json_int_t)n));
        return 0;
    case KEY_AT_LIMIT:
        change_give("at_limit", json_string(arg));
        return 0;
    case KEY_STORE_DOWN:
        change_give("when_store_down", json_string(arg));
        return 0;
    default:
        return change_take(key, arg);
    }
}

static const struct table_column COLUMNS[] = {
    {"account", "ACCOUNT", FORM_TEXT},
    {"period", "PERIOD", FORM_TEXT},
    {"spent_nanousd", "SPENT", FORM_USD},
    {"held_nanousd", "HELD", FORM_USD},
    {"limit_nanousd", "LIMIT", FORM_USD},
    {"used_ratio", "USED", FORM_PERCENT},
    {"at_limit", "AT LIMIT", FORM_TEXT},
    {"verdict", "NOW", FORM_TEXT},
    {"resets_at", "RESETS", FORM_TEXT},
    {"source", "FROM", FORM_TEXT},
    {0},
};
static const struct table_column CHECKS[] = {
    {"scope", "SCOPE", FORM_TEXT},     {"kind", "KIND", FORM_TEXT},
    {"limit", "LIMIT", FORM_TEXT},     {"used", "USED", FORM_TEXT},
    {"held", "HELD", FORM_TEXT},       {"requested", "ASKED", FORM_TEXT},
    {"unit", "UNIT", FORM_TEXT},       {"resets_at", "RESETS", FORM_TEXT},
    {"verdict", "VERDICT", FORM_TEXT}, {0},
};
static const char *const CHANGED[] = {"limit_usd", "period", "warn", "at_limit", "when_store_down", NULL};

static int list(struct ctl *ctl, FILE *f)
{
    json_t *doc;
    int rc = ctl_get(ctl, "/api/admin/budgets", &doc);

    if (!rc && doc)
        ctl_print(ctl, f, "budgets", COLUMNS, json_object_get(doc, "budgets"), NULL);
    json_decref(doc);
    return rc;
}

static void print_one(struct ctl *ctl, const json_t *is)
{
    json_t *rows = json_pack("[O]", is);

    ctl_print(ctl, stdout, "budget", COLUMNS, rows, is);
    json_decref(rows);
}

static int show(struct ctl *ctl, const char *path)
{
    json_t *doc;
    int rc = ctl_get(ctl, path, &doc);

    if (!rc && doc)
        print_one(ctl, doc);
    json_decref(doc);
    return rc;
}

/* Numbers of checks as texts, so that one column shows dollars and requests alike. */
static void put_as_text(json_t *row, const char *name)
{
    const json_t *v = json_object_get(row, name);
    char text[32];

    if (!json_is_integer(v))
        return;
    (void)snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(v));
    (void)json_object_set_new(row, name, json_string(text));
}

static int explain(struct ctl *ctl, const char *what)
{
    char path[256];
    json_t *doc, *rows, *row;
    size_t i;
    int rc;

    (void)snprintf(path, sizeof(path), "/api/admin/explain/%s", what);
    rc = ctl_get(ctl, path, &doc);
    if (!rc && doc) {
        rows = json_deep_copy(json_object_get(doc, "checks"));
        json_array_foreach(rows, i, row)
        {
            put_as_text(row, "limit");
            put_as_text(row, "used");
            put_as_text(row, "held");
            put_as_text(row, "requested");
        }
        ctl_print(ctl, stdout, "explain", CHECKS, rows, doc);
        json_decref(rows);
    }
    json_decref(doc);
    return rc;
}

/* What is not said stays; a budget that is not there is made. */
static void fill_rest(const json_t *was)
{
    static const char *const REST[] = {"period", "warn", "at_limit", "when_store_down"};

    for (size_t i = 0; i < sizeof(REST) / sizeof(REST[0]); i++)
        if (!json_object_get(change_given, REST[i]) && json_object_get(was, REST[i]))
            (void)json_object_set(change_given, REST[i], json_object_get(was, REST[i]));
}

static json_t *find(const json_t *doc, const char *account)
{
    json_t *row;
    size_t i;

    json_array_foreach(json_object_get(doc, "budgets"), i, row)
    {
        const char *name = json_string_value(json_object_get(row, "account"));

        if (name && strcmp(name, account) == 0)
            return row;
    }
    return NULL;
}

static int set(struct ctl *ctl, const char *account, const char *path)
{
    json_t *doc, *was, *out = NULL, *nothing;
    int rc;

    if (!json_object_get(change_given, "limit_usd"))
        return ctl_fail(CLI_USAGE, "budgets set: say how much: --limit USD");
    ctl->is_raw = false;
    rc = ctl_get(ctl, "/api/admin/budgets", &doc);
    if (rc)
        return rc;
    was = find(doc, account);
    fill_rest(was);
    rc = change_make(ctl,
                     &(struct change){.danger = was ? DANGER_MODERATE : DANGER_MILD,
                                      .what = "set budget of",
                                      .name = account,
                                      .method = "PUT",
                                      .path = path,
                                      .body = change_given},
                     &out);
    nothing = json_object();
    if (!rc && out && ctl->output == OUTPUT_TABLE)
        change_show(stdout, was ? was : nothing, out, CHANGED);
    else if (!rc && out)
        print_one(ctl, out);
    json_decref(nothing);
    json_decref(out);
    json_decref(doc);
    return rc;
}

/* "global", "tenant:ID", "key:TENANT/ID" as they are; a bare name is a tenant, a name with a slash a key. */
static bool account_of(const char *arg, char *dst, size_t cap)
{
    struct span rest = span_of(arg), first;
    const char *kind = strchr(arg, ':') || strcmp(arg, "global") == 0 ? ""
                       : strchr(arg, '/')                             ? "key:"
                                                                      : "tenant:";
    int n = snprintf(dst, cap, "%s%s", kind, arg);

    for (first = span_split(&rest, '/'); first.len; first = span_split(&rest, '/'))
        for (size_t i = 0; i < first.len; i++)
            if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-:", first.p[i]))
                return false;
    return n > 0 && (size_t)n < cap;
}

static int run(struct ctl *ctl)
{
    char account[160], path[256];
    const char *verb = ctl->n_args ? ctl->args[0] : "list";

    if (strcmp(verb, "list") == 0 && ctl->n_args <= 1)
        return ctl_watch(ctl, list);
    if (ctl->n_args != 2)
        return ctl_fail(CLI_USAGE, "budgets %s: name one account: a tenant, TENANT/KEY, or 'global'", verb);
    if (!account_of(ctl->args[1], account, sizeof(account)))
        return ctl_fail(CLI_USAGE, "budgets %s: '%s' is no name of an account", verb, ctl->args[1]);
    (void)snprintf(path, sizeof(path), "/api/admin/budgets/%s", account);
    if (strcmp(verb, "show") == 0)
        return show(ctl, path);
    if (strcmp(verb, "explain") == 0)
        return explain(ctl, ctl->args[1]);
    if (strcmp(verb, "set") == 0)
        return set(ctl, account, path);
    return ctl_fail(CLI_USAGE, "budgets: the verbs are list, show, set and explain, not '%s'", verb);
}

const struct command CMD_BUDGETS = {
    .name = "budgets",
    .args = "list\nshow ACCOUNT\nset ACCOUNT\nexplain ACCOUNT|REQUEST",
    .group = GROUP_CONTROL,
    .summary = "money: what is spent, held and left",
    .help = "An account is a tenant, a key (TENANT/KEY) or 'global'. The numbers are those that requests are "
            "admitted by. "
            "'explain' says which limits apply to an account now, or which were checked for one of the last "
            "requests that "
            "were refused, by its x-request-id. Budgets of the configuration file are changed there.\v"
            "  aigwctl budgets set acme --limit 2500 --period month --at-limit block",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 2,
};
