/* SPDX-License-Identifier: Apache-2.0 */
/* What happened in a day, a week or a month, for people who were not there. The figures are those of the monitoring API; what it does
 * not give is named at the end, never left out in silence. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aigwctl/look.h"
#include "aigwctl/report.h"
#include "libshared/base/buf.h"
#include "libshared/cli/human.h"

enum { KEY_FORMAT = 0x2000, KEY_TENANT, KEY_COMPARE, KEY_MAIL_SAFE };

static const struct argp_option OPTIONS[] = {
    {"format", KEY_FORMAT, "md|html|csv|json", 0, "Markdown (default), one HTML file, or the figures", 0},
    {"tenant", KEY_TENANT, "TENANT", 0, "of this tenant alone: its money, its keys, its budgets", 0},
    {"compare", KEY_COMPARE, "prev", 0, "beside the time before", 0},
    {"mail-safe", KEY_MAIL_SAFE, 0, 0, "html: charts that mail programs show", 0},
    {0},
};

static struct {
    const char *format, *tenant;
    bool is_compared, is_mail_safe;
} opt = {.format = "md"};

static error_t take(int key, char *arg, struct argp_state *state)
{
    static const char *const FORMATS[] = {"md", "html", "csv", "json"};

    switch (key) {
    case KEY_FORMAT:
        opt.format = arg;
        for (size_t i = 0; i < ARRAY_LEN(FORMATS); i++)
            if (strcmp(arg, FORMATS[i]) == 0)
                return 0;
        ctl_usage(state, "--format takes md, html, csv or json, not '%s'", arg);
        return 0;
    case KEY_TENANT:
        opt.tenant = arg;
        return 0;
    case KEY_COMPARE:
        opt.is_compared = true;
        if (strcmp(arg, "prev") != 0)
            ctl_usage(state, "--compare takes prev, not '%s'", arg);
        return 0;
    case KEY_MAIL_SAFE:
        opt.is_mail_safe = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- sections -------------------------------------------------------------------------------------------------------- */

#define MONEY                                                                                                \
    {"total_requests", "Requests", FORM_COUNT}, {"total_tokens", "Tokens", FORM_COUNT},                      \
        {"total_cost_nanousd", "Cost", FORM_USD}, {"share", "Share", FORM_PERCENT},

static const struct table_column SUMMARY[] = {{"what", "", FORM_NAME}, {"value", "", FORM_NAME}, {0}};
static const struct table_column COMPARED[] = {
    {"what", "", FORM_NAME}, {"value", "", FORM_NAME}, {"before", "Before", FORM_NAME}, {0}};
static const struct table_column DAYS[] = {{"day", "Day", FORM_NAME},
                                           {"total_requests", "Requests", FORM_COUNT},
                                           {"error_rate", "Errors", FORM_PERCENT},
                                           {"total_cost_nanousd", "Cost", FORM_USD},
                                           {0}};
static const struct table_column PROVIDERS[] = {
    {"provider", "Provider", FORM_NAME}, MONEY{"change", "Vs before", FORM_CHANGE}, {0}};
static const struct table_column MODELS[] = {
    {"provider", "Provider", FORM_NAME}, {"model", "Model", FORM_NAME}, MONEY{0}};
static const struct table_column TENANTS[] = {{"tenant", "Tenant", FORM_NAME}, MONEY{0}};
static const struct table_column KEYS[] = {
    {"tenant", "Tenant", FORM_NAME}, {"key", "Key", FORM_NAME}, MONEY{0}};
static const struct table_column RELIABILITY[] = {{"provider", "Provider", FORM_NAME},
                                                  {"total_requests", "Attempts", FORM_COUNT},
                                                  {"success_rate", "Success", FORM_PERCENT},
                                                  {"avg_latency_ms", "Average", FORM_MS},
                                                  {"p95_ms", "P95", FORM_MS},
                                                  {0}};
static const struct table_column ERRORS[] = {
    {"provider", "Provider", FORM_NAME},        {"model", "Model", FORM_NAME},
    {"total_requests", "Attempts", FORM_COUNT}, {"failed_requests", "Failed", FORM_COUNT},
    {"error_rate", "Errors", FORM_PERCENT},     {0}};
static const struct table_column ANOMALIES[] = {{"hour", "Hour", FORM_NAME},
                                                {"provider", "Provider", FORM_NAME},
                                                {"type", "What", FORM_NAME},
                                                {"severity", "Severity", FORM_NAME},
                                                {"value", "Value", FORM_RATE},
                                                {"expected", "Expected", FORM_RATE},
                                                {0}};
static const struct table_column BUDGETS[] = {
    {"account", "Account", FORM_NAME},    {"period", "Period", FORM_NAME},
    {"spent_nanousd", "Spent", FORM_USD}, {"limit_nanousd", "Limit", FORM_USD},
    {"used", "Used", FORM_PERCENT},       {0}};

void report_cell(char *dst, size_t cap, const struct table_column *c, const json_t *row)
{
    static const struct table_style STYLE = {0};

    table_cell(dst, cap, FORM_OF(c), json_object_get(row, c->key), &STYLE);
}

/* Takes the rows: sorted, the first `most`. */
static void add(struct report *r, struct report_section s, json_t *rows, const char *sort_by, size_t most)
{
    struct rows_wish wish = {.sort_by = sort_by, .limit = most};
    struct err err = {0};

    if (r->n == REPORT_SECTIONS_MAX || rows_pick(s.columns, rows, &wish, wall_now(), &s.rows, &err))
        s.rows = json_array();
    json_decref(rows);
    if (r->n < REPORT_SECTIONS_MAX)
        r->sections[r->n++] = s;
    else
        json_decref(s.rows);
}

static void miss(struct report *r, const char *what)
{
    (void)json_array_append_new(r->missing, json_string(what));
}

static json_t *money_rows(const json_t *doc, const char *list, const char *key)
{
    json_t *rows = look_rows(json_object_get(doc, list), NULL, key), *row;
    double all = look_number(doc, "total_cost_nanousd");
    size_t i;

    json_array_foreach(rows, i, row)
    {
        look_money(row, "total_cost", "total_cost_nanousd");
        look_ratio(row, "share", look_number(row, "total_cost_nanousd"), all);
        look_ratio(row, "error_rate", look_number(row, "failed_requests"),
                   look_number(row, "total_requests"));
    }
    return rows;
}

/* Rows whose member `key` is the tenant that was asked for. */
static json_t *of_tenant(json_t *rows, const char *key)
{
    json_t *kept = json_array(), *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        const char *is = json_string_value(json_object_get(row, key));

        if (!opt.tenant || (is && strcmp(is, opt.tenant) == 0))
            (void)json_array_append(kept, row);
    }
    json_decref(rows);
    return kept;
}

static void add_line(json_t *rows, const char *what, const struct table_column *c, const json_t *now,
                     const json_t *before)
{
    char value[64], was[64] = "";

    report_cell(value, sizeof(value), c, now);
    if (opt.is_compared && before)
        report_cell(was, sizeof(was), c, before);
    (void)json_array_append_new(rows,
                                json_pack("{s:s, s:s, s:s}", "what", what, "value", value, "before", was));
}

static void add_summary(struct report *r, const json_t *doc)
{
    static const struct {
        const char *what;
        struct table_column c;
    } LINES[] = {{"Requests", {"total_requests", "", FORM_COUNT}},
                 {"Errors", {"error_rate", "", FORM_PERCENT}},
                 {"Average latency", {"avg_latency_ms", "", FORM_MS}},
                 {"Tokens", {"total_tokens", "", FORM_COUNT}},
                 {"Cost", {"total_cost_nanousd", "", FORM_USD}},
                 {"Without a price", {"unpriced_requests", "", FORM_COUNT}}};
    json_t *rows = json_array();
    const json_t *before = json_object_get(doc, "previous");

    for (size_t i = 0; i < ARRAY_LEN(LINES); i++)
        if (json_object_get(doc, LINES[i].c.key))
            add_line(rows, LINES[i].what, &LINES[i].c, doc, json_is_object(before) ? before : NULL);
    add(r, (struct report_section){.title = "Summary", .columns = opt.is_compared ? COMPARED : SUMMARY}, rows,
        NULL, 0);
    if (opt.is_compared && !json_is_object(before))
        miss(r, "The gateway has no figures of the time before.");
}

static int add_money(struct ctl *ctl, struct report *r, unsigned days)
{
    char path[96];
    json_t *doc = NULL, *row;
    int rc;

    (void)snprintf(path, sizeof(path), "/api/monitoring/cost-analysis?days=%u&by=%s", days,
                   opt.tenant ? "key" : "tenant");
    rc = ctl_get(ctl, path, &doc);
    if (rc)
        return rc;
    if (json_is_string(json_object_get(doc, "from")) && json_is_string(json_object_get(doc, "to")))
        (void)snprintf(r->period, sizeof(r->period), "%.16s to %.16s UTC",
                       json_string_value(json_object_get(doc, "from")),
                       json_string_value(json_object_get(doc, "to")));
    if (json_is_true(json_object_get(doc, "partial")))
        miss(r, "Some figures could not be read; sums are lower than they were.");
    if (!opt.tenant) {
        add_summary(r, doc);
        if (json_object_get(doc, "by_day"))
            add(r,
                (struct report_section){.title = "Day by day",
                                        .columns = DAYS,
                                        .chart = "total_cost_nanousd",
                                        .is_by_time = true},
                money_rows(doc, "by_day", "day"), "day", 0);
        else
            miss(r, "The gateway gives no figures by day.");
        add(r,
            (struct report_section){.title = "Providers",
                                    .columns = PROVIDERS,
                                    .chart = "total_cost_nanousd",
                                    .note =
                                        "Requests are attempts here: one that failed over counts at both."},
            money_rows(doc, "providers", "provider"), "-total_cost_nanousd", 0);
        add(r,
            (struct report_section){
                .title = "Models that cost most", .columns = MODELS, .chart = "total_cost_nanousd"},
            money_rows(doc, "models", "model"), "-total_cost_nanousd", 10);
    }
    row = json_object_get(doc, opt.tenant ? "keys" : "tenants");
    if (!row)
        miss(r, "The gateway does not say what tenants spent.");
    else if (opt.tenant)
        add(r, (struct report_section){.title = "Keys", .columns = KEYS, .chart = "total_cost_nanousd"},
            of_tenant(money_rows(doc, "keys", "key"), "tenant"), "-total_cost_nanousd", 0);
    else
        add(r,
            (struct report_section){
                .title = "Tenants that spent most", .columns = TENANTS, .chart = "total_cost_nanousd"},
            money_rows(doc, "tenants", "tenant"), "-total_cost_nanousd", 10);
    json_decref(doc);
    return CLI_OK;
}

/* A list of an answer, or what is missing. */
static int add_list(struct ctl *ctl, struct report *r, const char *path, const char *list,
                    struct report_section s, const char *sort_by, size_t most)
{
    json_t *doc = NULL;
    char text[160];
    int rc = look_try(ctl, path, &doc);

    if (doc) {
        add(r, s, look_rows(doc, list, NULL), sort_by, most);
    } else if (!rc) {
        (void)snprintf(text, sizeof(text), "The gateway says nothing of: %s.", s.title);
        miss(r, text);
    }
    json_decref(doc);
    return rc;
}

static json_t *only_failed(json_t *rows)
{
    json_t *kept = json_array(), *row;
    size_t i;

    json_array_foreach(rows, i, row) if (look_number(row, "failed_requests") > 0)(void)
        json_array_append(kept, row);
    json_decref(rows);
    return kept;
}

static int add_errors(struct ctl *ctl, struct report *r, unsigned hours)
{
    char path[64];
    json_t *doc = NULL;
    int rc;

    (void)snprintf(path, sizeof(path), "/api/monitoring/error-rates?hours=%u", hours);
    rc = look_try(ctl, path, &doc);
    if (doc)
        add(r,
            (struct report_section){
                .title = "Models that failed most", .columns = ERRORS, .chart = "error_rate"},
            only_failed(look_rows(doc, "models", NULL)), "-failed_requests", 10);
    json_decref(doc);
    return rc;
}

static int add_budgets(struct ctl *ctl, struct report *r)
{
    json_t *doc = NULL, *rows, *row, *kept = json_array();
    size_t i;
    int rc = look_try(ctl, "/api/admin/budgets", &doc);

    rows = doc ? look_rows(doc, "budgets", NULL) : json_array();
    json_array_foreach(rows, i, row)
    {
        const char *account = json_string_value(json_object_get(row, "account"));
        char own[2][160];

        (void)snprintf(own[0], sizeof(own[0]), "tenant:%.120s", opt.tenant ? opt.tenant : "");
        (void)snprintf(own[1], sizeof(own[1]), "key:%.120s/", opt.tenant ? opt.tenant : "");
        look_ratio(row, "used", look_number(row, "spent_nanousd"), look_number(row, "limit_nanousd"));
        if (!opt.tenant ||
            (account && (strcmp(account, own[0]) == 0 || strncmp(account, own[1], strlen(own[1])) == 0)))
            (void)json_array_append(kept, row);
    }
    json_decref(rows);
    if (doc)
        add(r, (struct report_section){.title = "Budgets", .columns = BUDGETS, .chart = "used"}, kept,
            "-used", opt.tenant ? 0 : 15);
    else
        json_decref(kept);
    json_decref(doc);
    return rc;
}

static int collect(struct ctl *ctl, struct report *r, unsigned days)
{
    unsigned hours = days * 24 > 744 ? 744 : days * 24;
    char path[96];
    int rc = add_money(ctl, r, days);

    if (!rc && !opt.tenant) {
        (void)snprintf(path, sizeof(path), "/api/monitoring/providers/comparison?hours=%u", hours);
        rc = add_list(ctl, r, path, "providers",
                      (struct report_section){.title = "Reliability", .columns = RELIABILITY},
                      "-total_requests", 0);
        rc = rc ? rc : add_errors(ctl, r, hours);
        (void)snprintf(path, sizeof(path), "/api/monitoring/anomalies?hours=%u", hours);
        rc = rc ? rc
                : add_list(ctl, r, path, "anomalies",
                           (struct report_section){.title = "Out of the ordinary", .columns = ANOMALIES},
                           NULL, 20);
    }
    return rc ? rc : add_budgets(ctl, r);
}

/* ---- writing --------------------------------------------------------------------------------------------------------- */

/* A cell of Markdown: no mark-up of the text's own. */
static void put_md(const char *z)
{
    for (; *z; z++) {
        size_t n = term_control(span_of(z));

        if (strchr("|\\`*_<>[]", *z))
            (void)putchar('\\');
        (void)putchar(n ? '?' : *z);
        z += n > 1 ? n - 1 : 0;
    }
}

static void write_md(const struct report *r)
{
    char text[512];
    size_t i;
    json_t *row;

    (void)fputs("# ", stdout);
    put_md(r->title);
    (void)printf("\n\n%s, made %s\n", r->period, r->made);
    for (size_t k = 0; k < r->n; k++) {
        const struct report_section *s = &r->sections[k];

        (void)printf("\n## %s\n\n", s->title);
        if (!json_array_size(s->rows)) {
            (void)puts("None.");
            continue;
        }
        for (const struct table_column *c = s->columns; c->key; c++)
            (void)printf("| %s ", c->heading);
        (void)puts("|");
        for (const struct table_column *c = s->columns; c->key; c++)
            (void)fputs(FORM_OF(c) == FORM_NAME ? "|---" : "|---:", stdout);
        (void)puts("|");
        json_array_foreach(s->rows, i, row)
        {
            for (const struct table_column *c = s->columns; c->key; c++) {
                report_cell(text, sizeof(text), c, row);
                (void)fputs("| ", stdout);
                put_md(text);
                (void)putchar(' ');
            }
            (void)puts("|");
        }
        if (s->note)
            (void)printf("\n%s\n", s->note);
    }
    json_array_foreach(r->missing, i, row)(void) printf("\n%s\n", json_string_value(row));
}

static void write_json(const struct ctl *ctl, const struct report *r)
{
    json_t *sections = json_array(), *o;

    for (size_t i = 0; i < r->n; i++)
        (void)json_array_append_new(
            sections, json_pack("{s:s, s:O}", "title", r->sections[i].title, "rows", r->sections[i].rows));
    o = json_pack("{s:s, s:s, s:o, s:O}", "report", r->name, "period", r->period, "sections", sections,
                  "missing", r->missing);
    ctl_print_document(ctl, stdout, "report", o);
    json_decref(o);
}

static void write_csv(const struct report *r)
{
    for (size_t i = 0; i < r->n; i++) {
        (void)printf("%s# %s\r\n", i ? "\r\n" : "", r->sections[i].title);
        table_print_csv(stdout, r->sections[i].columns, r->sections[i].rows, true);
    }
}

static int run(struct ctl *ctl)
{
    const char *which = ctl->n_args ? ctl->args[0] : "daily";
    unsigned days = strcmp(which, "daily") == 0 ? 1 : strcmp(which, "weekly") == 0 ? 7 : 30;
    struct report r = {.name = which, .missing = json_array(), .is_mail_safe = opt.is_mail_safe};
    int rc;

    ctl->is_raw = false;
    (void)wall_format(wall_now(), r.made, sizeof(r.made));
    (void)snprintf(r.title, sizeof(r.title), "gatewayd, %s report%s%.90s", which, opt.tenant ? ": " : "",
                   opt.tenant ? opt.tenant : "");
    (void)snprintf(r.period, sizeof(r.period), "The last %u %s", days, days == 1 ? "day" : "days");
    rc = collect(ctl, &r, days);
    if (rc)
        ;
    else if (strcmp(opt.format, "html") == 0)
        report_write_html(stdout, &r);
    else if (strcmp(opt.format, "json") == 0 || ctl->output == OUTPUT_JSON)
        write_json(ctl, &r);
    else if (strcmp(opt.format, "csv") == 0 || ctl->output == OUTPUT_CSV)
        write_csv(&r);
    else
        write_md(&r);
    for (size_t i = 0; i < r.n; i++)
        json_decref(r.sections[i].rows);
    json_decref(r.missing);
    return rc;
}

static const struct command_verb VERBS[] = {
    {"daily", "", "today (UTC)", READS, "GET /api/monitoring/cost-analysis"},
    {"weekly", "", "the last 7 days", READS, "GET /api/monitoring/cost-analysis"},
    {"monthly", "", "the last 30 days", READS, "GET /api/monitoring/cost-analysis"},
    {0},
};

const struct command CMD_REPORT = {
    .name = "report",
    .verbs = VERBS,
    .group = GROUP_DATA,
    .summary = "a day, a week or a month, for people who were not there",
    .help = "Money, reliability, errors, what was out of the ordinary, and budgets. The HTML form is one "
            "file that loads nothing: "
            "charts and styles are in it.\v"
            "  aigwctl report weekly --format html --compare prev --out-file week.html\n"
            "  aigwctl report monthly --tenant acme",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 1,
};
