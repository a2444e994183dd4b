/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets: list, show, set, add, remove, reset, explain. What is shown is the counter that requests are admitted by, not a report of
 * it. A change says first what it does to the account, and afterwards how to undo it; one that would refuse requests from this
 * moment on asks for the name. */
#include <stdlib.h>
#include <string.h>

#include "aigwctl/budgets.h"
#include "aigwctl/change.h"
#include "aigwctl/look.h"
#include "libshared/base/span.h"
#include "libshared/cli/human.h"

enum {
    KEY_LIMIT = 0x2000,
    KEY_PERIOD,
    KEY_TIMEZONE,
    KEY_WARN,
    KEY_AT_LIMIT,
    KEY_STORE_DOWN,
    KEY_CUT,
    KEY_AMOUNT,
    KEY_UNTIL,
    KEY_ID,
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
    {"forecast", KEY_FORECAST, "auto|linear|none", 0,
     "list: auto (by the hour of the week where history allows it), linear or none", 0},
    {"apply", KEY_APPLY, 0, 0, "reconcile: let the counters follow the ledger", 0},
    {"limit", KEY_LIMIT, "USD", 0, "set: dollars per period", 0},
    {"period", KEY_PERIOD, "hour|day|week|month|total", 0, "set: how long a limit counts", 0},
    {"timezone", KEY_TIMEZONE, "ZONE", 0, "by whose clocks it begins anew, such as Europe/Berlin", 0},
    {"warn", KEY_WARN, "PERCENT", 0, "when to warn; several as 80,95", 0},
    {"at-limit", KEY_AT_LIMIT, "block|throttle|warn", 0, "set: what happens then", 0},
    {"when-store-down", KEY_STORE_DOWN, "closed|bounded|open", 0, "set: what happens without the store", 0},
    {"cut-streams", KEY_CUT, "yes|no", 0, "set: whether streams end when nothing is left", 0},
    {"amount", KEY_AMOUNT, "USD", 0, "add: dollars on top of the limit", 0},
    {"until", KEY_UNTIL, "TIME", 0, "add: they are taken away at 2026-11-30T00:00:00Z, or after 72h", 0},
    {"id", KEY_ID, "ID", 0, "remove: of the top-up, as 'show -o json' has it", 0},
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
    ctl_usage(state, "--forecast is auto, linear or none, not '%s'", arg);
    return 0;
}

static error_t take_until(const char *arg, struct argp_state *state)
{
    char text[WALL_TEXT_CAP], day[48];
    struct wall t;
    int64_t ms;

    (void)snprintf(day, sizeof(day), "%.20sT00:00:00Z", arg);
    if (!human_parse_time(arg, &t) && !human_parse_time(day, &t)) {
        if (!human_parse_duration(arg, &ms) || ms <= 0)
            ctl_usage(state, "'%s' is no time: write 2026-11-30, 2026-11-30T00:00:00Z or 72h", arg);
        t = (struct wall){wall_now().us + ms * 1000};
    }
    (void)wall_format((struct wall){t.us / 1000000 * 1000000}, text, sizeof(text));
    change_give("until", json_string(text));
    return 0;
}

static error_t take(int key, char *arg, struct argp_state *state)
{
    uint64_t n = 0;

    switch (key) {
    case KEY_OVER:
        if (!span_to_u64(span_of(arg), &n) || n > 1000)
            ctl_usage(state, "--over takes a percentage, not '%s'", arg);
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
        change_give("warn", json_string(arg));
        return 0;
    case KEY_TIMEZONE:
        change_give("timezone", json_string(arg));
        return 0;
    case KEY_CUT:
        if (strcmp(arg, "yes") != 0 && strcmp(arg, "no") != 0)
            ctl_usage(state, "--cut-streams takes yes or no, not '%s'", arg);
        change_give("cut_streams", json_boolean(arg[0] == 'y'));
        return 0;
    case KEY_AMOUNT:
        change_give("amount_usd", json_string(arg));
        return 0;
    case KEY_UNTIL:
        return take_until(arg, state);
    case KEY_ID:
        change_give("id", json_string(arg));
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

static const char *const CHANGED[] = {"limit_usd", "period",          "timezone",    "warn",
                                      "at_limit",  "when_store_down", "cut_streams", NULL};

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
    for (size_t i = 0; CHANGED[i]; i++)
        if (!json_object_get(change_given, CHANGED[i]) && json_object_get(was, CHANGED[i]))
            (void)json_object_set(change_given, CHANGED[i], json_object_get(was, CHANGED[i]));
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

struct target {
    const char *typed; /* what has to be typed again */
    char account[160], path[256];
};

/* ---- what a change does ---------------------------------------------------------------------------------------------- */

static double usd(const json_t *o, const char *name)
{
    return (double)json_integer_value(json_object_get(o, name)) / 1e9;
}

static bool says(const json_t *o, const char *name, const char *value)
{
    const char *text = json_string_value(json_object_get(o, name));

    return text && strcmp(text, value) == 0;
}

struct effect {
    double old_limit, new_limit, used; /* of the limit: with what tops it up */
    bool was_blocked, blocks;
};

static struct effect effect_of(const json_t *was, const json_t *set)
{
    /* What no gateway has admitted a request by yet has no present limit. */
    bool is_in_use = json_object_get(was, "limit_now_nanousd") != NULL;
    double old = usd(was, is_in_use ? "limit_now_nanousd" : "limit_nanousd");
    double topups = old - usd(was, "limit_nanousd");
    const json_t *limit = json_object_get(set, "limit_usd");
    struct effect e = {.old_limit = old, .used = usd(was, "spent_nanousd") + usd(was, "held_nanousd")};

    e.new_limit =
        (json_is_string(limit) ? strtod(json_string_value(limit), NULL) : json_number_value(limit)) +
        (topups > 0 ? topups : 0);
    e.was_blocked = says(was, "at_limit", "block") && e.used >= e.old_limit;
    e.blocks = (says(set, "at_limit", "block") || !json_object_get(set, "at_limit")) && e.used >= e.new_limit;
    return e;
}

/* A name that nobody has is more often mistyped than early. */
static void warn_of_nobody(struct ctl *ctl, const struct target *t)
{
    char path[256];
    json_t *doc = NULL;

    if (strncmp(t->account, "tenant:", 7) != 0)
        return;
    (void)snprintf(path, sizeof(path), "/api/admin/tenants/%.150s", t->account + 7);
    if (look_try(ctl, path, &doc) == CLI_OK && !doc)
        ctl_note("No tenant is named '%s' yet; the budget waits for one.", t->account + 7);
    json_decref(doc);
}

/* On stderr, since it comes before the question; stdout has what was done. */
static void tell_effect(const struct target *t, const json_t *was, const struct effect *e)
{
    ctl_note("%s, %s: limit $%.2f → $%.2f, used $%.2f (%.0f%%), state %s → %s", t->account,
             json_string_value(json_object_get(was, "period")), e->old_limit, e->new_limit, e->used,
             e->new_limit > 0 ? e->used / e->new_limit * 100 : 100, e->was_blocked ? "blocked" : "open",
             e->blocks ? "blocked" : "open");
}

static bool is_stricter(const json_t *was, const json_t *set)
{
    static const char *const MEANING[] = {"period", "timezone", "at_limit", "when_store_down", "cut_streams"};

    for (size_t i = 0; i < sizeof(MEANING) / sizeof(MEANING[0]); i++)
        if (!json_equal(json_object_get(was, MEANING[i]), json_object_get(set, MEANING[i])))
            return true;
    return false;
}

static enum danger danger_of(const json_t *was, const struct effect *e)
{
    if (!was)
        return DANGER_MILD;
    if (e->blocks && !e->was_blocked)
        return DANGER_SEVERE;
    return e->new_limit < e->old_limit || is_stricter(was, change_given) ? DANGER_MODERATE : DANGER_MILD;
}

/* As the options take it: "0.5", "yes", "50,90". */
static void print_setting(const json_t *v)
{
    char *text = json_is_number(v) ? json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(12)) : NULL;
    const json_t *one;
    size_t i;

    if (json_is_boolean(v))
        (void)fputs(json_is_true(v) ? "yes" : "no", stdout);
    json_array_foreach(v, i, one)(void) printf("%s%lld", i ? "," : "", (long long)json_integer_value(one));
    if (text || json_is_string(v))
        (void)fputs(text ? text : json_string_value(v), stdout);
    free(text);
}

/* What would set it back. */
static void tell_undo(const struct target *t, const json_t *was, const json_t *is)
{
    static const struct {
        const char *member, *option;
    } WORDS[] = {{"limit_usd", "--limit"},        {"period", "--period"},
                 {"timezone", "--timezone"},      {"warn", "--warn"},
                 {"at_limit", "--at-limit"},      {"when_store_down", "--when-store-down"},
                 {"cut_streams", "--cut-streams"}};
    unsigned said = 0;

    if (!was)
        return;
    for (size_t i = 0; i < sizeof(WORDS) / sizeof(WORDS[0]); i++) {
        const json_t *a = json_object_get(was, WORDS[i].member);

        if (!a || json_equal(a, json_object_get(is, WORDS[i].member)))
            continue;
        if (!said)
            (void)printf("undo: aigwctl budgets set %s", t->typed);
        /* So that even all of them fit into 80 columns, and are one command when pasted. */
        (void)printf("%s %s ", said == 2 || said == 5 ? " \\\n   " : "", WORDS[i].option);
        print_setting(a);
        said++;
    }
    if (said)
        (void)putchar('\n');
}

static int print_changed(struct ctl *ctl, const json_t *was, const json_t *is, const char *const *members)
{
    json_t *nothing = json_object();

    if (is && ctl->output == OUTPUT_TABLE)
        change_show(stdout, was ? was : nothing, is, members);
    else if (is)
        budgets_show(ctl, stdout, is);
    json_decref(nothing);
    return CLI_OK;
}

static int set(struct ctl *ctl, const struct target *t)
{
    json_t *doc, *was, *out = NULL;
    struct effect e;
    int rc;

    if (!change_given)
        return ctl_fail(CLI_USAGE, "budgets set: say what: --limit USD, --period, --warn …");
    ctl->is_raw = false;
    rc = ctl_get(ctl, "/api/admin/budgets", &doc);
    if (rc)
        return rc;
    was = find(doc, t->account);
    fill_rest(was);
    if (!json_object_get(change_given, "limit_usd")) {
        json_decref(doc);
        return ctl_fail(CLI_USAGE, "budgets set: '%s' has no budget yet, say how much: --limit USD",
                        t->typed);
    }
    e = effect_of(was, change_given);
    if (was)
        tell_effect(t, was, &e);
    else
        warn_of_nobody(ctl, t);
    rc = change_make(ctl,
                     &(struct change){.danger = danger_of(was, &e),
                                      .what = e.blocks && was && !e.was_blocked
                                                  ? "block at once by setting the budget of"
                                                  : "set budget of",
                                      .name = t->typed,
                                      .method = "PUT",
                                      .path = t->path,
                                      .body = change_given},
                     &out);
    if (!rc && out)
        rc = print_changed(ctl, was, out, CHANGED);
    if (!rc && out && ctl->output == OUTPUT_TABLE)
        tell_undo(t, was, out);
    json_decref(out);
    json_decref(doc);
    return rc;
}

/* Whoever had it is held by the limits of the others alone; what was spent stays in the ledger. */
static int end_budget(struct ctl *ctl, const struct target *t)
{
    json_t *was, *nothing = json_object(), *out = NULL;
    int rc;

    ctl->is_raw = false;
    rc = ctl_get(ctl, t->path, &was);
    if (rc) {
        json_decref(nothing);
        return rc;
    }
    ctl_note("%s, %s: limit $%.2f → none, used $%.2f", t->account,
             json_string_value(json_object_get(was, "period")), usd(was, "limit_nanousd"),
             usd(was, "spent_nanousd") + usd(was, "held_nanousd"));
    rc = change_make(ctl,
                     &(struct change){.danger = DANGER_MODERATE,
                                      .what = "delete the budget of",
                                      .name = t->typed,
                                      .method = "DELETE",
                                      .path = t->path},
                     &out);
    if (!rc && out && ctl->output == OUTPUT_JSON)
        ctl_print_document(ctl, stdout, "budget", out);
    else if (!rc && out) {
        (void)printf("the budget of '%s' is deleted\n", t->typed);
        tell_undo(t, was, nothing);
    }
    json_decref(out);
    json_decref(was);
    json_decref(nothing);
    return rc;
}

/* ---- top-ups and resets ---------------------------------------------------------------------------------------------- */

static const char *newest_topup(const json_t *is)
{
    const json_t *one, *list = json_object_get(is, "topups"), *newest = NULL;
    size_t i;

    json_array_foreach(list, i, one)
    {
        const char *id = json_string_value(json_object_get(one, "id"));

        if (id && (!newest || strcmp(id, json_string_value(json_object_get(newest, "id"))) > 0))
            newest = one;
    }
    return json_string_value(json_object_get(newest, "id"));
}

static int deed(struct ctl *ctl, const struct target *t, const char *action)
{
    static const char *const SHOWN[] = {"limit_now_usd", "spent_usd", "verdict", NULL};
    bool is_reset = strcmp(action, "reset") == 0;
    json_t *was, *out = NULL;
    int rc;

    if (action[0] == 'a' &&
        (!json_object_get(change_given, "amount_usd") || !json_object_get(change_given, "until")))
        return ctl_fail(CLI_USAGE, "budgets add: say how much and how long: --amount USD --until TIME");
    ctl->is_raw = false;
    rc = ctl_get(ctl, t->path, &was);
    if (rc)
        return rc;
    change_give("action", json_string(action));
    if (is_reset)
        ctl_note("%s, %s: spent $%.2f → $0.00 of $%.2f; the ledger keeps what was spent", t->account,
                 json_string_value(json_object_get(was, "period")), usd(was, "spent_nanousd"),
                 usd(was, "limit_now_nanousd"));
    rc = change_make(ctl,
                     &(struct change){.danger = is_reset           ? DANGER_SEVERE
                                                : action[0] == 'r' ? DANGER_MODERATE
                                                                   : DANGER_MILD,
                                      .what = is_reset           ? "reset the budget of"
                                              : action[0] == 'r' ? "take a top-up from"
                                                                 : "top up",
                                      .name = t->typed,
                                      .method = "POST",
                                      .path = t->path,
                                      .body = change_given},
                     &out);
    if (!rc && out)
        rc = print_changed(ctl, was, out, SHOWN);
    if (!rc && out && ctl->output == OUTPUT_TABLE && action[0] == 'a')
        (void)printf("undo: aigwctl budgets remove %s --id %s\n", t->typed, newest_topup(out));
    json_decref(out);
    json_decref(was);
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
    struct target t = {0};
    const char *verb = ctl->n_args ? ctl->args[0] : "list";

    if (strcmp(verb, "list") == 0 && ctl->n_args <= 1)
        return ctl_watch(ctl, budgets_list);
    if (strcmp(verb, "reconcile") == 0 && ctl->n_args == 1)
        return reconcile_budgets(ctl, applies);
    if (ctl->n_args != 2)
        return ctl_fail(
            CLI_USAGE, "budgets %s: name one account: a tenant, TENANT/KEY, provider:NAME or 'global'", verb);
    t.typed = ctl->args[1];
    if (!account_of(t.typed, t.account, sizeof(t.account)))
        return ctl_fail(CLI_USAGE, "budgets %s: '%s' is no name of an account", verb, ctl->args[1]);
    (void)snprintf(t.path, sizeof(t.path), "/api/admin/budgets/%s", t.account);
    if (strcmp(verb, "show") == 0)
        return show(ctl, t.path);
    if (strcmp(verb, "explain") == 0)
        return explain_show(ctl, ctl->args[1]);
    if (strcmp(verb, "set") == 0)
        return set(ctl, &t);
    if (strcmp(verb, "delete") == 0)
        return end_budget(ctl, &t);
    if (strcmp(verb, "add") == 0 || strcmp(verb, "remove") == 0 || strcmp(verb, "reset") == 0)
        return deed(ctl, &t, verb);
    return ctl_fail(
        CLI_USAGE,
        "budgets: the verbs are list, show, set, delete, add, remove, reset, explain and reconcile, not '%s'",
        verb);
}

static const struct command_verb VERBS[] = {
    {"list", "", "what is spent, held and left", READS, "GET /api/admin/budgets"},
    {"show", "ACCOUNT", "one", READS, "GET /api/admin/budgets/{account}"},
    {"set", "ACCOUNT", "another limit", SEVERE, "PUT /api/admin/budgets/{account}"},
    {"delete", "ACCOUNT", "no limit any more", MODERATE, "DELETE /api/admin/budgets/{account}"},
    {"add", "ACCOUNT", "a top-up that ends by itself", MILD, "POST /api/admin/budgets/{account}"},
    {"remove", "ACCOUNT", "take a top-up back", MODERATE, "POST /api/admin/budgets/{account}"},
    {"reset", "ACCOUNT", "take what was spent off the counter", SEVERE, "POST /api/admin/budgets/{account}"},
    {"explain", "ACCOUNT|REQUEST", "which limits apply, and their arithmetic", READS,
     "GET /api/admin/explain/{what}"},
    {"reconcile", "", "counters beside the ledger; with --apply they follow it", MODERATE,
     "POST /api/admin/reconcile"},
    {0},
};

const struct command CMD_BUDGETS = {
    .name = "budgets",
    .verbs = VERBS,
    .group = GROUP_CONTROL,
    .summary = "money: what is spent, held and left",
    .help = "An account is a tenant, a key (TENANT/KEY), provider:NAME or 'global'. The numbers are those "
            "that requests are "
            "admitted by. "
            "'explain' says which limits apply to an account now, or which were checked for one of the last "
            "requests that "
            "were refused, by its x-request-id. Budgets of the configuration file are changed there. 'add' "
            "tops a limit up until a moment, "
            "'remove' takes that back; 'reset' takes what was spent in this period off the counter, by an "
            "entry of its own, "
            "and leaves the ledger as it is.\v"
            "  aigwctl budgets set acme --limit 2500 --period month --at-limit block\n"
            "  aigwctl budgets add acme --amount 200 --until 2026-11-30",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 2,
};
