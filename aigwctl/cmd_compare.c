/* SPDX-License-Identifier: Apache-2.0 */
/* Providers side by side. */
#include <string.h>

#include "aigwctl/look.h"
#include "libshared/base/buf.h"

enum { KEY_HOURS = 0x2000, KEY_RANK };

static const struct argp_option OPTIONS[] = {
    {"hours", KEY_HOURS, "N", 0, "the last N hours (default 24)", 0},
    {"rank", KEY_RANK, "cost|p95|success", 0,
     "the best first: cheapest per 1K requests, fastest, most reliable", 0},
    {0},
};

static unsigned hours = 24;
static const char *rank;

static error_t take(int key, char *arg, struct argp_state *state)
{
    if (key == KEY_HOURS) {
        hours = look_count(state, "hours", arg, 1, 8784);
        return 0;
    }
    if (key != KEY_RANK)
        return ARGP_ERR_UNKNOWN;
    rank = strcmp(arg, "cost") == 0      ? "cost_per_1k_requests"
           : strcmp(arg, "p95") == 0     ? "p95_ms"
           : strcmp(arg, "success") == 0 ? "-success_rate"
                                         : NULL;
    if (!rank)
        ctl_usage(state, "--rank takes cost, p95 or success, not '%s'", arg);
    return 0;
}

const struct table_column COMPARE_COLUMNS[] = {
    {"provider", "PROVIDER", FORM_TEXT},
    {"total_requests", "ATTEMPTS", FORM_COUNT},
    {"success_rate", "SUCCESS", FORM_PERCENT},
    {"avg_latency_ms", "AVG", FORM_MS},
    {"p95_ms", "P95", FORM_MS},
    {"total_tokens", "TOKENS", FORM_COUNT},
    {"total_cost_nanousd", "COST", FORM_USD},
    {"cost_per_1k_requests", "$/1K REQ", FORM_DOLLARS},
    {"unique_models", "MODELS", FORM_COUNT},
    {"successful_requests", "OK", FORM_COUNT | FORM_WIDE},
    {"failed_requests", "FAILED", FORM_COUNT | FORM_WIDE},
    {"cost_per_successful_request", "$/OK", FORM_DOLLARS | FORM_WIDE},
    {0},
};

static void complete(json_t *row)
{
    double requests = look_number(row, "total_requests"), ok = look_number(row, "successful_requests");
    double cost;

    look_money(row, "total_cost", "total_cost_nanousd");
    cost = look_number(row, "total_cost_nanousd") / 1e9;
    look_ratio(row, "success_rate", ok, requests);
    look_ratio(row, "cost_per_1k_requests", cost * 1000, requests);
    look_ratio(row, "cost_per_successful_request", cost, ok);
}

static int show(struct ctl *ctl, FILE *f)
{
    char path[80];
    json_t *doc, *rows, *row;
    size_t i;
    int rc;

    (void)snprintf(path, sizeof(path), "/api/monitoring/providers/comparison?hours=%u", hours);
    rc = ctl_get(ctl, path, &doc);
    if (rc || !doc)
        return rc;
    rows = look_rows(doc, "providers", "provider");
    json_array_foreach(rows, i, row) complete(row);
    if (!ctl->wish.sort_by)
        ctl->wish.sort_by = rank;
    ctl_print(ctl, f, "comparison", COMPARE_COLUMNS, rows, doc);
    json_decref(rows);
    json_decref(doc);
    return CLI_OK;
}

static int run(struct ctl *ctl)
{
    return ctl_watch(ctl, show);
}

static const struct command_verb VERBS[] = {
    {"", "", "attempts, success, latency, tokens and cost", READS,
     "GET /api/monitoring/providers/comparison"},
    {0},
};

const struct command CMD_COMPARE = {
    .name = "compare",
    .verbs = VERBS,
    .group = GROUP_LOOK,
    .summary = "providers side by side",
    .help = "What each provider did in the last hours, and what that cost.\v"
            "  aigwctl compare --rank cost",
    .options = OPTIONS,
    .take = take,
    .run = run,
};
