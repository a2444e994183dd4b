/* SPDX-License-Identifier: Apache-2.0 */
/* Hours that are out of the ordinary. */
#include <string.h>

#include "aigwctl/look.h"
#include "libshared/cli/human.h"

enum { KEY_SEVERITY = 0x2000, KEY_TYPE, KEY_SINCE };

static const struct argp_option OPTIONS[] = {
    {"severity", KEY_SEVERITY, "warning|critical", 0, "only these", 0},
    {"type", KEY_TYPE, "TYPE", 0, "only these, such as cost_spike", 0},
    {"since", KEY_SINCE, "TIME", 0, "only hours that began since, such as 6h", 0},
    {0},
};

static const char *severity, *type;
static int64_t since_ms;

static error_t take(int key, char *arg, struct argp_state *state)
{
    if (key == KEY_SEVERITY)
        severity = arg;
    else if (key == KEY_TYPE)
        type = arg;
    else if (key != KEY_SINCE)
        return ARGP_ERR_UNKNOWN;
    else if (!human_parse_duration(arg, &since_ms) || since_ms <= 0)
        ctl_usage(state, "--since takes a time such as 6h, not '%s'", arg);
    if (key == KEY_SEVERITY && strcmp(arg, "warning") != 0 && strcmp(arg, "critical") != 0)
        ctl_usage(state, "--severity takes warning or critical, not '%s'", arg);
    return 0;
}

const struct table_column ANOMALY_COLUMNS[] = {
    {"hour", "HOUR", FORM_NAME},
    {"severity", "SEVERITY", FORM_HEALTH},
    {"type", "WHAT", FORM_NAME},
    {"provider", "PROVIDER", FORM_TEXT},
    {"value", "VALUE", FORM_RATE},
    {"expected", "EXPECTED", FORM_RATE},
    {"unit", "UNIT", FORM_TEXT},
    {"score", "SCORE", FORM_SCORE | FORM_WIDE},
    {"method", "AGAINST", FORM_TEXT | FORM_WIDE},
    {0},
};

/* "2025-11-27:14" to its first microsecond. */
static bool hour_of(const char *z, struct wall *out)
{
    char text[32];

    if (!z || strlen(z) != 13)
        return human_parse_time(z, out);
    (void)snprintf(text, sizeof(text), "%.10sT%.2s:00:00Z", z, z + 11);
    return human_parse_time(text, out);
}

static bool is_wanted(const json_t *row)
{
    const char *is = json_string_value(json_object_get(row, "severity"));
    const char *what = json_string_value(json_object_get(row, "type"));
    struct wall t;

    if ((severity && (!is || strcmp(is, severity) != 0)) || (type && (!what || strcmp(what, type) != 0)))
        return false;
    return !since_ms || (hour_of(json_string_value(json_object_get(row, "hour")), &t) &&
                         wall_now().us - t.us <= since_ms * 1000);
}

/* What its figures are of. */
static const char *unit_of(const char *what)
{
    static const char *const UNITS[][2] = {
        {"cost", "usd"}, {"token", "tokens"}, {"latency", "ms"}, {"error", "ratio"}, {"traffic", "attempts"}};

    for (size_t i = 0; what && i < ARRAY_LEN(UNITS); i++)
        if (strncmp(what, UNITS[i][0], strlen(UNITS[i][0])) == 0)
            return UNITS[i][1];
    return NULL;
}

static int show(struct ctl *ctl, FILE *f)
{
    json_t *doc, *rows, *row, *kept = json_array();
    size_t i, critical = 0;
    char path[80];
    int rc;

    (void)snprintf(path, sizeof(path), "/api/monitoring/anomalies?hours=%lld",
                   since_ms > 24 * 3600000 && since_ms < (int64_t)9600 * 3600000
                       ? (long long)(since_ms / 3600000 + 1)
                       : 24LL);
    rc = ctl_get(ctl, path, &doc);

    if (rc || !doc) {
        json_decref(kept);
        return rc;
    }
    rows = look_rows(doc, "anomalies", NULL);
    json_array_foreach(rows, i, row)
    {
        const char *is = json_string_value(json_object_get(row, "severity"));

        if (!is_wanted(row))
            continue;
        if (!json_object_get(row, "unit") && unit_of(json_string_value(json_object_get(row, "type"))))
            (void)json_object_set_new(row, "unit",
                                      json_string(unit_of(json_string_value(json_object_get(row, "type")))));
        (void)json_array_append(kept, row);
        critical += is && strcmp(is, "critical") == 0;
    }
    ctl_print(ctl, f, "anomalies", ANOMALY_COLUMNS, kept, severity || type || since_ms ? NULL : doc);
    if (!json_array_size(kept) && f == stdout && ctl->output == OUTPUT_TABLE && !ctl->is_quiet)
        (void)fputs("nothing out of the ordinary\n", stderr);
    rc = !ctl->has_exit_code || !json_array_size(kept) ? CLI_OK : critical ? CLI_CRITICAL : CLI_WARNING;
    json_decref(kept);
    json_decref(rows);
    json_decref(doc);
    return rc;
}

static int run(struct ctl *ctl)
{
    return ctl_watch(ctl, show);
}

static const struct command_verb VERBS[] = {
    {"", "", "cost, tokens, latency, errors and traffic", READS, "GET /api/monitoring/anomalies"},
    {0},
};

const struct command CMD_ANOMALIES = {
    .name = "anomalies",
    .verbs = VERBS,
    .group = GROUP_LOOK,
    .summary = "hours that are out of the ordinary",
    .help = "Hours of providers whose cost, tokens, latency, errors or traffic are far from what such hours "
            "were before. "
            "--exit-code: 10 with any, 11 with a critical one.\v"
            "  aigwctl anomalies --severity critical --since 6h",
    .options = OPTIONS,
    .take = take,
    .run = run,
};
