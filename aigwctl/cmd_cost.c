/* SPDX-License-Identifier: Apache-2.0 */
/* What was spent. */
#include <math.h>
#include <string.h>

#include "aigwctl/look.h"
#include "libshared/cli/human.h"

enum { KEY_BY = 0x2000, KEY_DAYS, KEY_COMPARE, KEY_BUDGETS };

static const struct argp_option OPTIONS[] = {
    {"by", KEY_BY, "provider|model|tenant|key|day", 0, "what is added up (default provider)", 0},
    {"days", KEY_DAYS, "N", 0, "the last N days (UTC), today included (default 7)", 0},
    {"compare", KEY_COMPARE, "prev", 0, "beside the N days before", 0},
    {"budget-view", KEY_BUDGETS, 0, 0, "tenants with what they may spend: the same as 'aigwctl budgets'", 0},
    {0},
};

#define FIGURES                                                                                              \
    {"total_requests", "REQUESTS", FORM_COUNT}, {"total_tokens", "TOKENS", FORM_COUNT | FORM_SPARE},         \
        {"total_cost_nanousd", "COST", FORM_USD}, {"share", "SHARE", FORM_PERCENT | FORM_SPARE},             \
        {"cost_per_1k_requests", "$/1K REQ", FORM_DOLLARS | FORM_SPARE},                                     \
        {"cost_per_1m_tokens", "$/1M TOK", FORM_DOLLARS | FORM_SPARE}, {"change", "VS PREV", FORM_CHANGE},   \
        {"input_tokens", "IN", FORM_COUNT | FORM_WIDE}, {"output_tokens", "OUT", FORM_COUNT | FORM_WIDE},    \
        {"cached_tokens", "CACHED", FORM_COUNT | FORM_WIDE},                                                 \
        {"unpriced_requests", "UNPRICED", FORM_COUNT | FORM_WIDE},

const struct table_column COST_COLUMNS[] = {{"provider", "PROVIDER", FORM_TEXT}, FIGURES{0}};
static const struct table_column BY_MODEL[] = {
    {"provider", "PROVIDER", FORM_TEXT}, {"model", "MODEL", FORM_TEXT}, FIGURES{0}};
static const struct table_column BY_TENANT[] = {{"tenant", "TENANT", FORM_TEXT}, FIGURES{0}};
static const struct table_column BY_KEY[] = {
    {"tenant", "TENANT", FORM_TEXT}, {"key", "KEY", FORM_TEXT}, FIGURES{0}};
static const struct table_column BY_DAY[] = {{"day", "DAY", FORM_NAME}, FIGURES{0}};

static const struct view {
    const char *name, *list, *total;
    const struct table_column *columns;
} VIEWS[] = {
    {"provider", "providers", "provider", COST_COLUMNS},
    {"model", "models", "provider", BY_MODEL},
    {"tenant", "tenants", "tenant", BY_TENANT},
    {"key", "keys", "tenant", BY_KEY},
    {"day", "by_day", "day", BY_DAY},
};

static struct {
    const struct view *by;
    unsigned days;
    bool is_compared, is_budgets;
} opt = {.by = VIEWS, .days = 7};

static error_t take(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case KEY_BY:
        for (size_t i = 0; i < ARRAY_LEN(VIEWS); i++)
            if (strcmp(arg, VIEWS[i].name) == 0) {
                opt.by = &VIEWS[i];
                return 0;
            }
        ctl_usage(state, "--by takes provider, model, tenant, key or day, not '%s'", arg);
        return 0;
    case KEY_DAYS:
        opt.days = look_count(state, "days", arg, 1, 366);
        return 0;
    case KEY_COMPARE:
        opt.is_compared = true;
        if (strcmp(arg, "prev") != 0)
            ctl_usage(state, "--compare takes prev, not '%s'", arg);
        return 0;
    case KEY_BUDGETS:
        opt.is_budgets = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* What the answer leaves to its reader. */
static void complete(json_t *row, double all)
{
    double cost;

    look_money(row, "total_cost", "total_cost_nanousd");
    cost = look_number(row, "total_cost_nanousd");
    look_ratio(row, "share", cost, all);
    look_ratio(row, "cost_per_1k_requests", cost / 1e6, look_number(row, "total_requests"));
    look_ratio(row, "cost_per_1m_tokens", cost / 1e3, look_number(row, "total_tokens"));
}

/* The rows, and the sums as a last one; a CSV adds up by itself. */
static json_t *rows_of(const struct ctl *ctl, const json_t *doc)
{
    json_t *rows = look_rows(json_object_get(doc, opt.by->list), NULL, opt.by->name), *total, *row;
    double all = look_number(doc, "total_cost_nanousd");
    size_t i;

    json_array_foreach(rows, i, row) complete(row, isnan(all) ? look_number(doc, "total_cost") * 1e9 : all);
    if (ctl->output == OUTPUT_TABLE) {
        total = json_copy((json_t *)(uintptr_t)doc);
        complete(total, all);
        (void)json_object_set_new(total, opt.by->total, json_string("TOTAL"));
        (void)json_object_set_new(total, "model", json_string(""));
        (void)json_object_set_new(total, "key", json_string(""));
        (void)json_object_set_new(total, ROWS_PINNED, json_true());
        (void)json_object_set(total, "change", json_object_get(json_object_get(doc, "previous"), "change"));
        (void)json_array_append_new(rows, total);
    }
    return rows;
}

/* Without --compare no column of it. */
static const struct table_column *columns_of(const struct ctl *ctl)
{
    static struct table_column columns[24];
    size_t n = 0;

    for (const struct table_column *c = opt.by->columns; c->key; c++) {
        bool is_change = strcmp(c->key, "change") == 0;

        if (is_change && ctl->output == OUTPUT_TABLE && !opt.is_compared)
            continue;
        if (opt.is_compared && ctl->format == FORMAT_TABLE && strcmp(c->key, "cost_per_1k_requests") == 0)
            continue; /* 80 columns have no room for all */
        columns[n++] = *c;
    }
    columns[n] = (struct table_column){0};
    return columns;
}

static void print_footer(const struct ctl *ctl, const json_t *doc)
{
    json_int_t unpriced = json_integer_value(json_object_get(doc, "unpriced_requests"));
    const char *since = json_string_value(json_object_get(doc, "since"));
    char age[HUMAN_CAP];
    struct wall t;

    if (unpriced)
        (void)fprintf(stderr, "\n%lld requests have no price and are not in these sums.\n",
                      (long long)unpriced);
    if (ctl_talks(ctl) && human_parse_time(since, &t)) {
        human_duration(age, (wall_now().us - t.us) / 1000000);
        (void)fprintf(stderr, "\nSince the gateway started, %s ago.\n", age);
    }
}

int cost_show(struct ctl *ctl, FILE *f)
{
    char path[96];
    json_t *doc, *rows;
    int rc;

    (void)snprintf(path, sizeof(path), "/api/monitoring/cost-analysis?days=%u%s%s", opt.days,
                   opt.by == VIEWS ? "" : "&by=", opt.by == VIEWS ? "" : opt.by->name);
    rc = ctl_get(ctl, path, &doc);
    if (rc || !doc)
        return rc;
    if (!json_object_get(doc, opt.by->list)) {
        json_decref(doc);
        return ctl_fail(CLI_FAILED, "this gateway does not say what was spent by %s", opt.by->name);
    }
    rows = rows_of(ctl, doc);
    ctl_print(ctl, f, "cost", columns_of(ctl), rows, doc);
    if (ctl->output == OUTPUT_TABLE && f == stdout && !ctl->is_quiet)
        print_footer(ctl, doc);
    json_decref(rows);
    json_decref(doc);
    return CLI_OK;
}

static int run(struct ctl *ctl)
{
    return opt.is_budgets ? CMD_BUDGETS.run(ctl) : ctl_watch(ctl, cost_show);
}

static const struct command_verb VERBS[] = {
    {"", "", "requests, tokens and money", READS, "GET /api/monitoring/cost-analysis"},
    {0},
};

const struct command CMD_COST = {
    .name = "cost",
    .verbs = VERBS,
    .group = GROUP_LOOK,
    .summary = "what was spent, by provider, model, tenant, key or day",
    .help =
        "What was spent at each provider. Requests are attempts here: one that failed over counts at both.\v"
        "  aigwctl cost --by model -o csv\n"
        "  aigwctl cost --by tenant --days 30 --compare prev",
    .options = OPTIONS,
    .take = take,
    .run = run,
};
