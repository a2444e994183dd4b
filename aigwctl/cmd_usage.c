/* SPDX-License-Identifier: Apache-2.0 */
/* How models are used, what their tokens cost, and how trials go: three answers, each one table. */
#include <math.h>
#include <string.h>

#include "aigwctl/look.h"
#include "libshared/base/buf.h"

enum { KEY_DAYS = 0x2000, KEY_PROVIDER, KEY_TOP, KEY_HOURS };

static struct {
    unsigned days, top, hours;
    const char *provider;
} opt = {.days = 7};

static error_t take(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case KEY_DAYS:
        opt.days = look_count(state, "days", arg, 1, 366);
        return 0;
    case KEY_TOP:
        opt.top = look_count(state, "top", arg, 1, 10000);
        return 0;
    case KEY_HOURS:
        opt.hours = look_count(state, "hours", arg, 1, 8784);
        return 0;
    case KEY_PROVIDER:
        opt.provider = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- tokens ---------------------------------------------------------------------------------------------------------- */

const struct table_column TOKENS_COLUMNS[] = {
    {"provider", "PROVIDER", FORM_TEXT | FORM_WRAP},
    {"model", "MODEL", FORM_TEXT | FORM_WRAP},
    {"total_requests", "ATTEMPTS", FORM_COUNT},
    {"input_tokens", "IN", FORM_COUNT},
    {"output_tokens", "OUT", FORM_COUNT},
    {"avg_input_tokens", "IN/REQ", FORM_RATE},
    {"avg_output_tokens", "OUT/REQ", FORM_RATE},
    {"output_input_ratio", "OUT/IN", FORM_RATE | FORM_SPARE},
    {"cost_per_1m_tokens", "$/1M TOK", FORM_DOLLARS},
    {"cached_tokens", "CACHED", FORM_COUNT | FORM_WIDE},
    {"tokens_per_second", "TOK/S", FORM_RATE | FORM_WIDE},
    {"cost_per_success", "$/OK", FORM_DOLLARS | FORM_WIDE},
    {"total_cost_nanousd", "COST", FORM_USD | FORM_WIDE},
    {0},
};

static void complete_tokens(json_t *row)
{
    double in = look_number(row, "input_tokens"), out = look_number(row, "output_tokens");
    double requests = look_number(row, "total_requests");

    look_money(row, "total_cost", "total_cost_nanousd");
    look_ratio(row, "avg_input_tokens", in, requests);
    look_ratio(row, "avg_output_tokens", out, requests);
    look_ratio(row, "output_input_ratio", out, in);
    look_ratio(row, "cost_per_1m_tokens", look_number(row, "total_cost_nanousd") / 1e3, in + out);
}

static int show_tokens(struct ctl *ctl, FILE *f)
{
    struct buf path AUTO(buf_release) = {.max = 4096};
    char provider[256];
    const char *model;
    json_t *doc, *rows, *row;
    size_t i;
    int rc;

    if (!look_split(ctl->args[0], provider, sizeof(provider), &model) || !model)
        return ctl_fail(CLI_USAGE, "tokens: '%s' is no PROVIDER/MODEL", ctl->args[0]);
    buf_addz(&path, "/api/monitoring/token-efficiency/");
    look_add_part(&path, ctl->args[0]);
    buf_addf(&path, "?days=%u", opt.days);
    rc = ctl_get(ctl, path.p, &doc);
    if (rc || !doc)
        return rc;
    rows = look_rows(doc, NULL, NULL);
    json_array_foreach(rows, i, row) complete_tokens(row);
    ctl_print(ctl, f, "tokens", TOKENS_COLUMNS, rows, doc);
    json_decref(rows);
    json_decref(doc);
    return CLI_OK;
}

static int run_tokens(struct ctl *ctl)
{
    if (!ctl->n_args)
        return ctl_fail(CLI_USAGE, "tokens: write PROVIDER/MODEL");
    return ctl_watch(ctl, show_tokens);
}

static const struct argp_option TOKENS_OPTIONS[] = {
    {"days", KEY_DAYS, "N", 0, "the last N days (default 7)", 0},
    {0},
};
static const struct command_verb TOKENS_VERBS[] = {
    {"", "PROVIDER/MODEL", "of one model", READS, "GET /api/monitoring/token-efficiency/{provider}/{model}"},
    {0},
};

const struct command CMD_TOKENS = {
    .name = "tokens",
    .verbs = TOKENS_VERBS,
    .group = GROUP_LOOK,
    .summary = "tokens in and out of a model, and what they cost",
    .help = "How many tokens its requests take, how many come out of them, and what a million costs.\v"
            "  aigwctl tokens openrouter/openai/gpt-4o-mini --days 30 -o wide",
    .options = TOKENS_OPTIONS,
    .take = take,
    .run = run_tokens,
    .max_args = 1,
};

/* ---- trials ---------------------------------------------------------------------------------------------------------- */

const struct table_column TRIALS_COLUMNS[] = {
    {"signups", "SIGNUPS", FORM_COUNT},
    {"started_trial", "STARTED", FORM_COUNT},
    {"activation_rate", "STARTED (of signups)", FORM_PER100},
    {"converted", "CONVERTED", FORM_COUNT},
    {"conversion_rate", "CONVERTED (of signups)", FORM_PER100},
    {"trial_conversion_rate", "CONVERTED (of started)", FORM_PER100 | FORM_WIDE},
    {"avg_time_to_conversion_days", "DAYS", FORM_RATE},
    {0},
};

static int show_trials(struct ctl *ctl, FILE *f)
{
    json_t *doc, *rows, *row;
    double started, converted;
    int rc = ctl_get(ctl, "/api/monitoring/trial-analytics", &doc);

    if (rc || !doc)
        return rc;
    rows = look_rows(doc, NULL, NULL);
    row = json_array_get(rows, 0);
    started = look_number(row, "started_trial");
    converted = look_number(row, "converted");
    if (row && !json_object_get(row, "trial_conversion_rate") && started > 0)
        (void)json_object_set_new(row, "trial_conversion_rate",
                                  json_real(round(converted / started * 1e4) / 100));
    ctl_print(ctl, f, "trials", TRIALS_COLUMNS, rows, doc);
    json_decref(rows);
    json_decref(doc);
    return CLI_OK;
}

static int run_trials(struct ctl *ctl)
{
    return ctl_watch(ctl, show_trials);
}

static const struct command_verb TRIALS_VERBS[] = {
    {"", "", "signups, trials, conversions", READS, "GET /api/monitoring/trial-analytics"},
    {0},
};

const struct command CMD_TRIALS = {
    .name = "trials",
    .verbs = TRIALS_VERBS,
    .group = GROUP_LOOK,
    .summary = "signups, trials and conversions",
    .help =
        "Conversions are counted of all signups; -o wide shows them of the trials that were started, too.\v"
        "  aigwctl trials -o wide",
    .run = run_trials,
};

/* ---- models ---------------------------------------------------------------------------------------------------------- */

const struct table_column MODELS_COLUMNS[] = {
    {"provider", "PROVIDER", FORM_TEXT},
    {"model", "MODEL", FORM_TEXT},
    {"total_requests", "ATTEMPTS", FORM_COUNT},
    {"error_rate", "ERR", FORM_PERCENT},
    {"p95_ms", "P95", FORM_MS | FORM_SPARE},
    {"avg_ttft_ms", "TTFT", FORM_MS | FORM_WIDE},
    {"total_tokens", "TOKENS", FORM_COUNT | FORM_SPARE},
    {"total_cost_nanousd", "COST", FORM_USD},
    {"avg_latency_ms", "AVG", FORM_MS | FORM_WIDE},
    {"input_tokens", "IN", FORM_COUNT | FORM_WIDE},
    {"output_tokens", "OUT", FORM_COUNT | FORM_WIDE},
    {"cost_per_1m_tokens", "$/1M TOK", FORM_DOLLARS | FORM_WIDE},
    {"unpriced_requests", "UNPRICED", FORM_COUNT | FORM_WIDE},
    {0},
};

static json_t *chosen_models(const json_t *doc)
{
    json_t *rows = look_rows(doc, "models", "model"), *kept = json_array(), *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        const char *provider = json_string_value(json_object_get(row, "provider"));

        if (opt.provider && (!provider || strcmp(provider, opt.provider) != 0))
            continue;
        look_money(row, "total_cost", "total_cost_nanousd");
        look_ratio(row, "error_rate", look_number(row, "failed_requests"),
                   look_number(row, "total_requests"));
        (void)json_array_append(kept, row);
    }
    json_decref(rows);
    return kept;
}

static int show_models(struct ctl *ctl, FILE *f)
{
    char path[64] = "/models/stats";
    json_t *doc, *rows;
    int rc;

    if (opt.hours)
        (void)snprintf(path, sizeof(path), "/models/stats?hours=%u", opt.hours);
    rc = ctl_get(ctl, path, &doc);
    if (rc || !doc)
        return rc;
    rows = chosen_models(doc);
    if (opt.top) {
        ctl->wish.limit = ctl->wish.limit ? ctl->wish.limit : opt.top;
        ctl->wish.sort_by = ctl->wish.sort_by ? ctl->wish.sort_by : "-total_requests";
    }
    ctl_print(ctl, f, "models", MODELS_COLUMNS, rows, opt.provider ? NULL : doc);
    json_decref(rows);
    json_decref(doc);
    return CLI_OK;
}

static int run_models(struct ctl *ctl)
{
    if (ctl->n_args && strcmp(ctl->args[0], "list") != 0)
        return ctl_fail(CLI_USAGE, "models: '%s' is no verb; there is list", ctl->args[0]);
    return ctl_watch(ctl, show_models);
}

static const struct argp_option MODELS_OPTIONS[] = {
    {"provider", KEY_PROVIDER, "PROVIDER", 0, "only its models", 0},
    {"top", KEY_TOP, "N", 0, "the N with most attempts", 0},
    {"hours", KEY_HOURS, "N", 0, "the last N hours", 0},
    {0},
};
static const struct command_verb MODELS_VERBS[] = {
    {"list", "", "each with its use", READS, "GET /models/stats"},
    {0},
};

const struct command CMD_MODELS = {
    .name = "models",
    .verbs = MODELS_VERBS,
    .group = GROUP_LOOK,
    .summary = "models: use, errors, latency and cost",
    .help = "Every model that had attempts, by provider.\v"
            "  aigwctl models --top 10 --sort-by -total_cost_nanousd",
    .options = MODELS_OPTIONS,
    .take = take,
    .run = run_models,
    .max_args = 1,
};
