/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets: list, show, set, explain. What is shown is the counter that requests are admitted by, not a report of it. */
#include <stdlib.h>
#include <string.h>

#include "aigwctl/budgets.h"
#include "aigwctl/change.h"
#include "libshared/base/span.h"

enum {
    KEY_LIMIT = 0x2000,
    KEY_PERIOD,
    KEY_WARN,
    KEY_AT_LIMIT,
    KEY_STORE_DOWN,
    KEY_OVER,
    KEY_TENANT,
    KEY_ALL,
    KEY_FORECAST,
    KEY_APPLY
};

static bool applies; /* budgets reconcile --apply */

static const struct argp_option OPTIONS[] = {
    {"over", KEY_OVER, "PERCENT", 0, "list: only those that have used so much", 0},
    {"tenant", KEY_TENANT, "TENANT", 0, "list: only those of a tenant and its keys", 0},
    {"all", KEY_ALL, 0, 0, "list: those that spent nothing, too", 0},
    {"forecast", KEY_FORECAST, "HOW", 0,
     "list: auto (by the hour of the week where history allows it), linear or none", 0},
    {"apply", KEY_APPLY, 0, 0, "reconcile: let the counters follow the ledger", 0},
    {"limit", KEY_LIMIT, "USD", 0, "dollars per period", 0},
    {"period", KEY_PERIOD, "PERIOD", 0, "hour, day, week, month or total", 0},
    {"warn", KEY_WARN, "PERCENT", 0, "when to warn", 0},
    {"at-limit", KEY_AT_LIMIT, "RULE", 0, "block, throttle or warn", 0},
    {"when-store-down", KEY_STORE_DOWN, "RULE", 0, "closed, bounded or open", 0},
    CHANGE_OPTIONS,
    {0},
};

static error_t take_forecast(const char *arg, struct argp_state *state)
{
    static const char *const NAMES[] = {"auto", "linear", "none"};

    for (unsigned i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++)
        if (strcmp(arg, NAMES[i]) == 0) {
            budgets_view.forecast = i;
            return 0;
        }
    argp_error(state, "--forecast is auto, linear or none, not '%s'", arg);
    return 0;
}

static error_t take(int key, char *arg, struct argp_state *state)
{
    uint64_t n = 0;

    switch (key) {
    case KEY_OVER:
        if (!span_to_u64(span_of(arg), &n) || n > 1000)
            argp_error(state, "--over takes a percentage, not '%s'", arg);
        budgets_view.over_percent = (int)n;
        return 0;
    case KEY_TENANT:
        budgets_view.tenant = arg;
        return 0;
    case KEY_ALL:
        budgets_view.is_all = true;
        return 0;
    case KEY_FORECAST:
        return take_forecast(arg, state);
    case KEY_APPLY:
        applies = true;
        return 0;
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

static const char *const CHANGED[] = {"limit_usd", "period", "warn", "at_limit", "when_store_down", NULL};

static int show(struct ctl *ctl, const char *path)
{
    json_t *doc;
    int rc = ctl_get(ctl, path, &doc);

    if (!rc && doc)
        budgets_show(ctl, stdout, doc);
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
        budgets_show(ctl, stdout, out);
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
        return ctl_watch(ctl, budgets_list);
    if (strcmp(verb, "reconcile") == 0 && ctl->n_args == 1)
        return reconcile_budgets(ctl, applies);
    if (ctl->n_args != 2)
        return ctl_fail(CLI_USAGE, "budgets %s: name one account: a tenant, TENANT/KEY, or 'global'", verb);
    if (!account_of(ctl->args[1], account, sizeof(account)))
        return ctl_fail(CLI_USAGE, "budgets %s: '%s' is no name of an account", verb, ctl->args[1]);
    (void)snprintf(path, sizeof(path), "/api/admin/budgets/%s", account);
    if (strcmp(verb, "show") == 0)
        return show(ctl, path);
    if (strcmp(verb, "explain") == 0)
        return explain_show(ctl, ctl->args[1]);
    if (strcmp(verb, "set") == 0)
        return set(ctl, account, path);
    return ctl_fail(CLI_USAGE, "budgets: the verbs are list, show, set, explain and reconcile, not '%s'",
                    verb);
}

const struct command CMD_BUDGETS = {
    .name = "budgets",
    .args = "list\nshow ACCOUNT\nset ACCOUNT\nexplain ACCOUNT|REQUEST\nreconcile",
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
