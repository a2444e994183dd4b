/* SPDX-License-Identifier: Apache-2.0 */
/* What was spent. */
#include <string.h>

#include "aigwctl/command.h"
#include "libshared/cli/human.h"

enum { KEY_BY = 0x2000, KEY_DAYS };

static struct {
    bool by_model;
    unsigned days;
} opt = {.days = 7};

static const struct argp_option OPTIONS[] = {
    {"by", KEY_BY, "WHAT", 0, "provider (default) or model", 0},
    {"days", KEY_DAYS, "N", 0, "the last N days, as far back as the gateway knows (default 7)", 0},
    {0},
};

static error_t take(int key, char *arg, struct argp_state *state)
{
    uint64_t n = 0;

    switch (key) {
    case KEY_BY:
        opt.by_model = strcmp(arg, "model") == 0;
        if (!opt.by_model && strcmp(arg, "provider") != 0)
            argp_error(state, "--by takes provider or model, not '%s'", arg);
        return 0;
    case KEY_DAYS:
        if (!span_to_u64(span_of(arg), &n) || n < 1 || n > 366)
            argp_error(state, "--days takes a number from 1 to 366, not '%s'", arg);
        opt.days = (unsigned)n;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

#define FIGURES                                                                                              \
    {"total_requests", "REQUESTS", FORM_COUNT}, {"total_tokens", "TOKENS", FORM_COUNT},                      \
        {"total_cost_nanousd", "COST", FORM_USD}, {"share", "SHARE", FORM_PERCENT},                          \
        {"cost_per_1k_requests", "$/1K REQ", FORM_DOLLARS},                                                  \
        {"cost_per_1m_tokens", "$/1M TOK", FORM_DOLLARS},

static const struct table_column BY_PROVIDER[] = {{"provider", "PROVIDER", FORM_TEXT}, FIGURES{0}};
static const struct table_column BY_MODEL[] = {
    {"provider", "PROVIDER", FORM_TEXT}, {"model", "MODEL", FORM_TEXT}, FIGURES{0}};

/* The rows, and the sums as a last one; a CSV adds up by itself. */
static json_t *rows_of(const struct ctl *ctl, const json_t *doc)
{
    json_t *rows = json_array(), *total, *row;
    json_t *from = json_object_get(doc, opt.by_model ? "models" : "providers");
    size_t i;

    json_array_foreach(from, i, row)(void) json_array_append(rows, row);
    if (ctl->output == OUTPUT_TABLE) {
        total = json_copy((json_t *)(uintptr_t)doc);
        (void)json_object_set_new(total, "provider", json_string("TOTAL"));
        (void)json_object_set_new(total, "model", json_string(""));
        (void)json_array_append_new(rows, total);
    }
    return rows;
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
    char path[64];
    json_t *doc, *rows;
    int rc;

    (void)snprintf(path, sizeof(path), "/api/monitoring/cost-analysis?days=%u", opt.days);
    rc = ctl_get(ctl, path, &doc);
    if (rc || !doc)
        return rc;
    rows = rows_of(ctl, doc);
    ctl_print(ctl, f, "cost", opt.by_model ? BY_MODEL : BY_PROVIDER, rows, doc);
    if (ctl->output == OUTPUT_TABLE && f == stdout)
        print_footer(ctl, doc);
    json_decref(rows);
    json_decref(doc);
    return CLI_OK;
}

static int run(struct ctl *ctl)
{
    return ctl_watch(ctl, cost_show);
}

static const struct command_verb VERBS[] = {
    {"", "", "requests, tokens and money", READS, "GET /api/monitoring/cost-analysis"},
    {0},
};

const struct command CMD_COST = {
    .name = "cost",
    .verbs = VERBS,
    .group = GROUP_LOOK,
    .summary = "requests, tokens and money by provider or model",
    .help =
        "What was spent at each provider. Requests are attempts here: one that failed over counts at both.\v"
        "  aigwctl cost --by model -o csv",
    .options = OPTIONS,
    .take = take,
    .run = run,
};
