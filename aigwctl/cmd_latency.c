/* SPDX-License-Identifier: Apache-2.0 */
/* How long answers take: percentiles of a model, and where a provider is going. */
#include <ctype.h>
#include <math.h>
#include <string.h>

#include "aigwctl/look.h"
#include "libshared/base/buf.h"
#include "libshared/cli/human.h"

#define PERCENTILES_MAX 8u

enum { KEY_PERCENTILES = 0x2000, KEY_HISTOGRAM, KEY_HOURS, KEY_SPARK, KEY_WARNING, KEY_CRITICAL };

static const struct argp_option OPTIONS[] = {
    {"percentiles", KEY_PERCENTILES, "LIST", 0, "show: such as 50,90,99.9 (default 50,95,99)", 0},
    {"histogram", KEY_HISTOGRAM, 0, 0, "show: how they are spread, from the fastest to the slowest", 0},
    {"hours", KEY_HOURS, "N", 0, "trend: the last N hours (default 24)", 0},
    {"spark", KEY_SPARK, 0, 0, "trend: one line", 0},
    {"warning", KEY_WARNING, "TIME", 0, "show: exit 10 when p95 is that long, with --exit-code (default 2s)",
     0},
    {"critical", KEY_CRITICAL, "TIME", 0, "show: exit 11 when p95 is that long (default 10s)", 0},
    {0},
};

static struct {
    const char *percentiles;
    bool is_histogram, is_spark;
    unsigned hours;
    int64_t warning_ms, critical_ms;
} opt = {.percentiles = "50,95,99", .hours = 24, .warning_ms = 2000, .critical_ms = 10000};

static error_t take(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case KEY_PERCENTILES:
        if (!*arg || strspn(arg, "0123456789.,") != strlen(arg))
            ctl_usage(state, "--percentiles takes numbers with commas, not '%s'", arg);
        opt.percentiles = arg;
        return 0;
    case KEY_HISTOGRAM:
        opt.is_histogram = true;
        return 0;
    case KEY_SPARK:
        opt.is_spark = true;
        return 0;
    case KEY_HOURS:
        opt.hours = look_count(state, "hours", arg, 1, 744);
        return 0;
    case KEY_WARNING:
    case KEY_CRITICAL:
        if (!human_parse_duration(arg, key == KEY_WARNING ? &opt.warning_ms : &opt.critical_ms))
            ctl_usage(state, "'%s' is no time: write 800ms or 2s", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- show ------------------------------------------------------------------------------------------------------------ */

const struct table_column LATENCY_COLUMNS[] = {
    {"provider", "PROVIDER", FORM_TEXT},
    {"model", "MODEL", FORM_TEXT},
    {"count", "COUNT", FORM_COUNT | FORM_SPARE},
    {"avg", "AVG", FORM_MS | FORM_SPARE},
    {"p50", "P50", FORM_MS},
    {"p95", "P95", FORM_MS},
    {"p99", "P99", FORM_MS},
    {0},
};

/* A column per percentile that was asked for; names live as long as the program. */
static void columns_of(struct table_column out[PERCENTILES_MAX + 5])
{
    static char keys[PERCENTILES_MAX][16], headings[PERCENTILES_MAX][16];
    const char *z = opt.percentiles;
    size_t n = 0, i;

    for (n = 0; n < 4; n++)
        out[n] = LATENCY_COLUMNS[n];
    for (i = 0; i < PERCENTILES_MAX && *z; i++) {
        size_t len = strcspn(z, ",");

        (void)snprintf(keys[i], sizeof(keys[i]), "p%.*s", (int)len, z);
        (void)snprintf(headings[i], sizeof(headings[i]), "P%.*s", (int)len, z);
        out[n++] = (struct table_column){keys[i], headings[i], FORM_MS};
        z += len + (z[len] == ',');
    }
    out[n] = (struct table_column){0};
}

#define SPREAD "5,10,20,30,40,50,60,70,80,90,95,99"

/* A line per percentile: so many answers took no longer. */
static void print_histogram(FILE *f, const json_t *doc)
{
    double most = look_number(doc, "p99");
    char key[16], text[HUMAN_CAP];

    for (const char *z = SPREAD; *z; z += strcspn(z, ",") + (z[strcspn(z, ",")] == ',')) {
        double ms;

        (void)snprintf(key, sizeof(key), "p%.*s", (int)strcspn(z, ","), z);
        ms = look_number(doc, key);
        if (isnan(ms))
            continue;
        human_ms(text, ms);
        (void)fprintf(f, "%4s %8s ", key, text);
        for (int k = most > 0 ? (int)ceil(ms / most * 60) : 0; k > 0; k--)
            (void)fputs("█", f);
        (void)fputc('\n', f);
    }
}

static int show_one(struct ctl *ctl, FILE *f)
{
    struct buf path AUTO(buf_release) = {.max = 4096};
    struct table_column columns[PERCENTILES_MAX + 5];
    char provider[256];
    const char *model;
    json_t *doc, *rows;
    double p95;
    int rc;

    if (!look_split(ctl->args[1], provider, sizeof(provider), &model) || !model)
        return ctl_fail(CLI_USAGE, "latency: '%s' is no PROVIDER/MODEL", ctl->args[1]);
    buf_addz(&path, "/api/monitoring/latency/");
    look_add_part(&path, ctl->args[1]);
    look_add_param(&path, "percentiles", opt.is_histogram ? SPREAD : opt.percentiles);
    rc = ctl_get(ctl, path.p, &doc);
    if (rc || !doc)
        return rc;
    columns_of(columns);
    rows = json_pack("[O]", doc);
    ctl_print(ctl, f, "latency", columns, rows, NULL);
    if (opt.is_histogram && ctl->output == OUTPUT_TABLE)
        print_histogram(f, doc);
    p95 = look_number(doc, "p95");
    json_decref(rows);
    json_decref(doc);
    return look_code(ctl, p95, (double)opt.warning_ms, (double)opt.critical_ms);
}

/* ---- trend ----------------------------------------------------------------------------------------------------------- */

const struct table_column TREND_COLUMNS[] = {
    {"hour", "HOUR", FORM_NAME},
    {"count", "COUNT", FORM_COUNT},
    {"avg_ms", "AVG", FORM_MS},
    {"p50_ms", "P50", FORM_MS},
    {"p95_ms", "P95", FORM_MS},
    {"p99_ms", "P99", FORM_MS},
    {0},
};

static void print_verdict(const struct ctl *ctl, const json_t *doc)
{
    const json_t *trend = json_object_get(doc, "trend");
    const char *direction =
        json_string_value(json_is_object(trend) ? json_object_get(trend, "direction") : trend);

    if (direction && ctl_talks(ctl))
        (void)fprintf(stderr, "\n%.32s\n", direction);
}

static int trend(struct ctl *ctl, FILE *f)
{
    struct buf path AUTO(buf_release) = {.max = 4096}, line AUTO(buf_release) = {.max = 65536};
    json_t *doc, *rows;
    int rc;

    buf_addz(&path, "/api/monitoring/latency-trends/");
    look_add_part(&path, ctl->args[1]);
    buf_addf(&path, "?hours=%u", opt.hours);
    rc = ctl_get(ctl, path.p, &doc);
    if (rc || !doc)
        return rc;
    rows = look_rows(doc, "trends", "hour");
    if (opt.is_spark && ctl->output == OUTPUT_TABLE) {
        look_spark(&line, rows, "p95_ms");
        (void)fprintf(f, "p95 %s\n", line.len ? line.p : "-");
    } else {
        ctl_print(ctl, f, "latency-trend", TREND_COLUMNS, rows, doc);
    }
    if (f == stdout)
        print_verdict(ctl, doc);
    json_decref(rows);
    json_decref(doc);
    return CLI_OK;
}

static int run(struct ctl *ctl)
{
    if (ctl->n_args != 2)
        return ctl_fail(CLI_USAGE, "latency: write 'show PROVIDER/MODEL' or 'trend PROVIDER'");
    return ctl_watch(ctl, strcmp(ctl->args[0], "trend") == 0 ? trend : show_one);
}

static const struct command_verb VERBS[] = {
    {"show", "PROVIDER/MODEL", "percentiles of one model", READS,
     "GET /api/monitoring/latency/{provider}/{model}"},
    {"trend", "PROVIDER", "hour by hour", READS, "GET /api/monitoring/latency-trends/{provider}"},
    {0},
};

const struct command CMD_LATENCY = {
    .name = "latency",
    .verbs = VERBS,
    .group = GROUP_LOOK,
    .summary = "how long answers take",
    .help = "Percentiles of the attempts of one model at one provider, or of a provider hour by hour.\v"
            "  aigwctl latency show openrouter/openai/gpt-4o-mini --percentiles 50,90,99.9",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 2,
};
