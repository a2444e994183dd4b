/* SPDX-License-Identifier: Apache-2.0 */
/* Figures of now, and of a provider hour by hour. */
#include <string.h>

#include "aigwctl/look.h"
#include "libshared/base/buf.h"
#include "libshared/cli/human.h"

enum { KEY_HOURS = 0x2000, KEY_SPARK };

static const struct argp_option OPTIONS[] = {
    {"hours", KEY_HOURS, "N", 0, "the last N hours (now: 1, hourly: 24)", 0},
    {"spark", KEY_SPARK, 0, 0, "hourly: attempts, errors, latency and cost as a line each", 0},
    {0},
};

static struct {
    unsigned hours;
    bool is_spark;
} opt;

static error_t take(int key, char *arg, struct argp_state *state)
{
    if (key == KEY_HOURS)
        opt.hours = look_count(state, "hours", arg, 1, 744);
    else if (key == KEY_SPARK)
        opt.is_spark = true;
    else
        return ARGP_ERR_UNKNOWN;
    return 0;
}

/* ---- now ------------------------------------------------------------------------------------------------------------- */

const struct table_column STATS_NOW[] = {
    {"provider", "PROVIDER", FORM_TEXT},
    {"total_requests", "REQUESTS", FORM_COUNT},
    {"total_cost_nanousd", "COST", FORM_USD},
    {"health_score", "SCORE", FORM_SCORE},
    {0},
};

static json_t *now_rows(const struct ctl *ctl, const json_t *doc)
{
    json_t *rows = look_rows(json_object_get(doc, "providers"), NULL, "provider"), *row, *total;
    size_t i;

    json_array_foreach(rows, i, row) look_money(row, "total_cost", "total_cost_nanousd");
    if (ctl->output != OUTPUT_TABLE)
        return rows;
    total = json_copy((json_t *)(uintptr_t)doc);
    (void)json_object_set_new(total, "provider", json_string("TOTAL"));
    (void)json_object_set(total, "health_score", json_object_get(doc, "avg_health_score"));
    (void)json_object_set_new(total, ROWS_PINNED, json_true());
    look_money(total, "total_cost", "total_cost_nanousd");
    (void)json_array_append_new(rows, total);
    return rows;
}

/* The answer as a whole is as old as its timestamp; a row has none. */
static int age_code(const struct ctl *ctl, const json_t *doc)
{
    struct wall t;

    if (!ctl->max_age_ms || !human_parse_time(json_string_value(json_object_get(doc, "timestamp")), &t))
        return CLI_OK;
    return (wall_now().us - t.us) / 1000 > ctl->max_age_ms ? CLI_STALE : CLI_OK;
}

static int now(struct ctl *ctl, FILE *f)
{
    char path[64];
    json_t *doc, *rows;
    int rc;

    (void)snprintf(path, sizeof(path), "/api/monitoring/stats/realtime?hours=%u", opt.hours ? opt.hours : 1);
    rc = ctl_get(ctl, path, &doc);
    if (rc || !doc)
        return rc;
    rows = now_rows(ctl, doc);
    ctl_print(ctl, f, "stats", STATS_NOW, rows, doc);
    rc = age_code(ctl, doc);
    json_decref(rows);
    json_decref(doc);
    return rc;
}

/* ---- hourly ---------------------------------------------------------------------------------------------------------- */

const struct table_column STATS_HOURLY[] = {
    {"hour", "HOUR", FORM_NAME},
    {"total_requests", "ATTEMPTS", FORM_COUNT},
    {"failed_requests", "FAILED", FORM_COUNT},
    {"error_rate", "ERR", FORM_PERCENT},
    {"p50_ms", "P50", FORM_MS | FORM_WIDE},
    {"p95_ms", "P95", FORM_MS},
    {"p99_ms", "P99", FORM_MS | FORM_WIDE},
    {"avg_latency_ms", "AVG", FORM_MS},
    {"total_tokens", "TOKENS", FORM_COUNT},
    {"total_cost_nanousd", "COST", FORM_USD},
    {0},
};

static void print_line(FILE *f, const char *heading, const json_t *rows, const char *name,
                       enum table_form form)
{
    static const struct table_style STYLE = {0};
    struct buf line AUTO(buf_release) = {.max = 65536};
    char last[HUMAN_CAP];

    look_spark(&line, rows, name);
    table_cell(
        last, sizeof(last), form,
        json_object_get(json_array_get(rows, json_array_size(rows) ? json_array_size(rows) - 1 : 0), name),
        &STYLE);
    (void)fprintf(f, "%-9s %s  %s\n", heading, line.len ? line.p : "", last);
}

static void print_spark(FILE *f, const json_t *rows)
{
    print_line(f, "attempts", rows, "total_requests", FORM_COUNT);
    print_line(f, "errors", rows, "error_rate", FORM_PERCENT);
    print_line(f, "latency", rows, "p95_ms", FORM_MS);
    print_line(f, "cost", rows, "total_cost_nanousd", FORM_USD);
}

static int hourly(struct ctl *ctl, FILE *f)
{
    struct buf path AUTO(buf_release) = {.max = 4096};
    json_t *doc, *rows, *row;
    size_t i;
    int rc;

    buf_addz(&path, "/api/monitoring/stats/hourly/");
    look_add_part(&path, ctl->args[1]);
    buf_addf(&path, "?hours=%u", opt.hours ? opt.hours : 24);
    rc = ctl_get(ctl, path.p, &doc);
    if (rc || !doc)
        return rc;
    rows = look_rows(doc, "stats", "hour");
    json_array_foreach(rows, i, row)
    {
        look_money(row, "total_cost", "total_cost_nanousd");
        look_ratio(row, "error_rate", look_number(row, "failed_requests"),
                   look_number(row, "total_requests"));
    }
    if (opt.is_spark && ctl->output == OUTPUT_TABLE)
        print_spark(f, rows);
    else
        ctl_print(ctl, f, "stats-hourly", STATS_HOURLY, rows, doc);
    json_decref(rows);
    json_decref(doc);
    return CLI_OK;
}

static int run(struct ctl *ctl)
{
    const char *verb = ctl->n_args ? ctl->args[0] : "now";
    bool is_hourly = strcmp(verb, "hourly") == 0;

    if (is_hourly != (ctl->n_args == 2))
        return ctl_fail(CLI_USAGE,
                        is_hourly ? "stats: hourly needs a provider" : "stats: now takes no argument");
    return ctl_watch(ctl, is_hourly ? hourly : now);
}

static const struct command_verb VERBS[] = {
    {"now", "", "requests, cost and health by provider", READS, "GET /api/monitoring/stats/realtime"},
    {"hourly", "PROVIDER", "hour by hour", READS, "GET /api/monitoring/stats/hourly/{provider}"},
    {0},
};

const struct command CMD_STATS = {
    .name = "stats",
    .verbs = VERBS,
    .group = GROUP_LOOK,
    .summary = "figures of now, and hour by hour",
    .help =
        "Sums of the last hours. A provider's requests are attempts: one that failed over counts at both.\v"
        "  aigwctl stats hourly openrouter --hours 48 --spark",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 2,
};
