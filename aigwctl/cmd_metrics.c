/* SPDX-License-Identifier: Apache-2.0 */
/* The gateway's metrics: to look at, and whether they are as they should be. The check reads a live scrape against the catalogue
 * and against every name that a rule or a dashboard reads. */
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "aigwctl/alerts.h"
#include "aigwctl/change.h"
#include "aigwctl/dashboards.h"
#include "aigwctl/look.h"
#include "libshared/catalog/metrics.h"
#include "libshared/catalog/promql.h"

#define SERIES_MANY 10000u

enum { KEY_GREP = 0x2000, KEY_CARDINALITY };

static const struct argp_option OPTIONS[] = {
    {"grep", KEY_GREP, "REGEX", 0, "show: only lines that match, and what describes them", 0},
    {"cardinality", KEY_CARDINALITY, 0, 0, "show: how many series each family has", 0},
    CHANGE_OPTIONS,
    {0},
};

static const char *grep;
static bool is_cardinality;

static error_t take(int key, char *arg, struct argp_state *state)
{
    (void)state;
    if (key == KEY_GREP)
        grep = arg;
    else if (key == KEY_CARDINALITY)
        is_cardinality = true;
    else
        return change_take(key, arg);
    return 0;
}

static int scrape(struct ctl *ctl, struct api_answer *a)
{
    int rc = ctl_call(ctl, "GET", "/metrics", (struct span){0}, a);

    return !rc && a->status != 200 ? ctl_refused(a) : rc;
}

/* The next line of `rest` as a text of `cap` bytes; false at the end. */
static bool next_line(struct span *rest, char *line, size_t cap)
{
    const char *end;

    if (!rest->len)
        return false;
    end = memchr(rest->p, '\n', rest->len);
    (void)span_copy(line, cap, span_make(rest->p, end ? (size_t)(end - rest->p) : rest->len));
    *rest = end ? span_make(end + 1, rest->len - (size_t)(end + 1 - rest->p)) : (struct span){0};
    return true;
}

/* ---- show ------------------------------------------------------------------------------------------------------------ */

static bool is_of_family(const char *line, const char *name, size_t len)
{
    return strncmp(line, name, len) == 0 && strchr("{ _", line[len]);
}

static int show_matching(const struct ctl *ctl, FILE *f, struct span body)
{
    char line[16384], about[2][4096] = {"", ""};
    regex_t re;
    int e = regcomp(&re, grep, REG_EXTENDED | REG_NOSUB);
    bool any = false;

    if (e) {
        (void)regerror(e, &re, line, sizeof(line));
        return ctl_fail(CLI_USAGE, "--grep '%s': %.200s", grep, line);
    }
    while (next_line(&body, line, sizeof(line))) {
        if (strncmp(line, "# HELP ", 7) == 0 || strncmp(line, "# TYPE ", 7) == 0) {
            (void)snprintf(about[line[2] == 'T'], sizeof(about[0]), "%.4000s", line);
            if (line[2] == 'H')
                about[1][0] = '\0';
        } else if (line[0] != '#' && regexec(&re, line, 0, NULL, 0) == 0) {
            any = true;
            for (size_t i = 0; i < 2; i++)
                if (about[i][0] && is_of_family(line, about[i] + 7, strcspn(about[i] + 7, " "))) {
                    term_put(f, about[i]);
                    (void)fputc('\n', f);
                    about[i][0] = '\0';
                }
            term_put(f, line);
            (void)fputc('\n', f);
        }
    }
    regfree(&re);
    if (!any && !ctl->is_quiet)
        ctl_note("No line matches.");
    return CLI_OK;
}

const struct table_column CARDINALITY_COLUMNS[] = {
    {"family", "FAMILY", FORM_NAME}, {"type", "TYPE", FORM_TEXT}, {"series", "SERIES", FORM_COUNT}, {0}};

/* {family, type, series}, most first. */
static json_t *families(struct span body)
{
    char line[16384], name[256] = "", type[32];
    json_t *by_name = json_object(), *rows, *row = NULL;

    while (next_line(&body, line, sizeof(line))) {
        if (sscanf(line, "# TYPE %255s %31s", name, type) == 2) {
            row = json_pack("{s:s, s:i}", "type", type, "series", 0);
            (void)json_object_set_new(by_name, name, row);
        } else if (line[0] != '#' && line[0] && row && is_of_family(line, name, strlen(name))) {
            (void)json_object_set_new(row, "series",
                                      json_integer(json_integer_value(json_object_get(row, "series")) + 1));
        }
    }
    rows = look_rows(by_name, NULL, "family");
    json_decref(by_name);
    return rows;
}

static int show(struct ctl *ctl, FILE *f)
{
    struct api_answer a = {0};
    json_t *rows;
    int rc = scrape(ctl, &a);

    if (!rc && grep) {
        rc = show_matching(ctl, f, buf_span(&a.body));
    } else if (!rc && (is_cardinality || ctl->output != OUTPUT_TABLE)) {
        rows = families(buf_span(&a.body));
        if (!ctl->wish.sort_by)
            ctl->wish.sort_by = "-series";
        ctl_print(ctl, f, "metrics", CARDINALITY_COLUMNS, rows, NULL);
        json_decref(rows);
    } else if (!rc) {
        term_put_body(f, buf_span(&a.body));
    }
    api_answer_release(&a);
    return rc;
}

/* ---- check ----------------------------------------------------------------------------------------------------------- */

const struct table_column METRICS_CHECK_COLUMNS[] = {{"grade", "GRADE", FORM_HEALTH},
                                                     {"check", "CHECK", FORM_NAME},
                                                     {"detail", "DETAIL", FORM_TEXT | FORM_WRAP},
                                                     {0}};

struct check {
    json_t *rows, *live; /* live: a set of names */
    int worst;
    const char *of; /* whose expression is read */
    unsigned wanted, missing, waiting;
};

static void grade(struct check *c, int code, const char *what, const char *fmt, ...) PRINTF_LIKE(4, 5);
static void grade(struct check *c, int code, const char *what, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)json_array_append_new(c->rows, json_pack("{s:s, s:s, s:s}", "grade",
                                                   code == CLI_OK        ? "ok"
                                                   : code == CLI_WARNING ? "warn"
                                                                         : "FAIL",
                                                   "check", what, "detail", text));
    c->worst = code > c->worst ? code : c->worst;
}

static bool is_metric_name(const char *z)
{
    size_t n = strspn(z, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:");

    return n && !z[n] && !(z[0] >= '0' && z[0] <= '9');
}

/* Names, types and how many series there are. */
static void check_families(struct check *c, const json_t *rows)
{
    size_t i, series = 0, many = 0;
    json_t *row;

    json_array_foreach(rows, i, row)
    {
        const char *name = json_string_value(json_object_get(row, "family"));
        const char *type = json_string_value(json_object_get(row, "type"));
        json_int_t n = json_integer_value(json_object_get(row, "series"));

        series += (size_t)n;
        if (!is_metric_name(name))
            grade(c, CLI_CRITICAL, "names", "'%s' is no name of a metric", name);
        if (strcmp(type, "counter") == 0 &&
            (strlen(name) < 6 || strcmp(name + strlen(name) - 6, "_total") != 0))
            grade(c, CLI_WARNING, "names", "counter '%s' does not end in _total", name);
        if (strcmp(type, "untyped") == 0 || strcmp(type, "unknown") == 0)
            grade(c, CLI_WARNING, "types", "'%s' has no type", name);
        if (n > (json_int_t)SERIES_MANY) {
            many++;
            grade(c, CLI_WARNING, "cardinality", "'%s' has %lld series", name, (long long)n);
        }
    }
    grade(c, CLI_OK, "scrape", "%zu families, %zu series", json_array_size(rows), series);
    if (!many)
        grade(c, CLI_OK, "cardinality", "no family has more than %u series", SERIES_MANY);
}

static void check_catalogue(struct check *c)
{
    unsigned there = 0;

    for (size_t i = 0; i < METRIC_COUNT; i++)
        there += json_object_get(c->live, metric_row((enum metric)i)->name) != NULL;
    if (there == 0)
        grade(c, CLI_CRITICAL, "catalogue", "none of its %d families is there", METRIC_COUNT);
    else
        grade(c, CLI_OK, "catalogue", "%u of %d families have samples; others have none yet or are off",
              there, METRIC_COUNT);
}

static void check_name(struct span span, void *ctx)
{
    struct check *c = ctx;

    switch (metric_standing(span)) {
    case METRIC_IS_EXPOSED:
        c->wanted++;
        break;
    case METRIC_IS_PLANNED:
        c->wanted++;
        c->waiting++;
        break;
    case METRIC_IS_UNKNOWN:
        c->missing++;
        grade(c, CLI_CRITICAL, "rules", "'%s' reads '%.*s', which is no metric", c->of, (int)span.len,
              span.p);
        break;
    default:
        break;
    }
}

static void check_rules(struct check *c)
{
    struct alerts_pick pick = {.packs = ~0u};
    size_t n = 0;

    for (size_t i = 0; i < alert_count(); i++) {
        struct buf expr AUTO(buf_release) = {0};

        c->of = alert_row(i)->name;
        alerts_expr(&expr, &pick, alert_row(i));
        promql_metrics(buf_span(&expr), check_name, c);
        n++;
    }
    if (!c->missing)
        grade(c, CLI_OK, "rules", "%zu rules read %u names, and every one is known", n, c->wanted);
    if (c->waiting)
        grade(c, CLI_OK, "rules", "%u of them are not exposed by this version (docs/metrics.md)", c->waiting);
}

static void check_dashboards(struct check *c)
{
    json_t *rows = json_array(), *row;
    size_t i, findings = 0;

    for (i = 0; i < dashboard_count(); i++) {
        json_t *d = dashboard_render(i, NULL, "docs/alerts.md");

        (void)dashboard_check(rows, dashboard_row(i)->file, d, NULL);
        json_decref(d);
    }
    json_array_foreach(rows, i, row)
    {
        const char *is = json_string_value(json_object_get(row, "grade"));

        if (!is || strcmp(is, "note") == 0)
            continue;
        findings++;
        grade(c, strcmp(is, "invalid") == 0 ? CLI_CRITICAL : CLI_WARNING, "dashboards", "%s",
              json_string_value(json_object_get(row, "message")));
    }
    if (!findings)
        grade(c, CLI_OK, "dashboards", "%zu dashboards, and every metric in them is known",
              dashboard_count());
    json_decref(rows);
}

static int check(struct ctl *ctl, FILE *f)
{
    struct check c = {.rows = json_array()};
    struct api_answer a = {0};
    json_t *rows;
    int rc = scrape(ctl, &a);

    if (!rc)
        rc = alerts_scrape_names(ctl, &c.live);
    if (!rc) {
        rows = families(buf_span(&a.body));
        check_families(&c, rows);
        json_decref(rows);
        check_catalogue(&c);
        check_rules(&c);
        check_dashboards(&c);
        ctl_print(ctl, f, "metrics-check", METRICS_CHECK_COLUMNS, c.rows, NULL);
        rc = c.worst;
    }
    json_decref(c.live);
    json_decref(c.rows);
    api_answer_release(&a);
    return rc;
}

static int reset(struct ctl *ctl)
{
    json_t *out = NULL;
    int rc = change_make(ctl,
                         &(struct change){.danger = DANGER_SEVERE,
                                          .what = "reset the figures of",
                                          .name = "metrics",
                                          .method = "POST",
                                          .path = "/metrics/reset"},
                         &out);

    if (!rc && out)
        (void)puts("reset; counters begin at 0 again");
    json_decref(out);
    return rc;
}

static int run(struct ctl *ctl)
{
    const char *verb = ctl->n_args ? ctl->args[0] : "show";

    if (strcmp(verb, "reset") == 0)
        return reset(ctl);
    return ctl_watch(ctl, strcmp(verb, "check") == 0 ? check : show);
}

static const struct command_verb VERBS[] = {
    {"show", "", "the scrape itself, or a part of it", READS, "GET /metrics"},
    {"check", "", "names, types, cardinality, and what rules and dashboards read", READS, "GET /metrics"},
    {"reset", "", "counters begin at 0 again", SEVERE, "POST /metrics/reset"},
    {0},
};

const struct command CMD_METRICS = {
    .name = "metrics",
    .verbs = VERBS,
    .group = GROUP_LOOK,
    .summary = "the metrics themselves, and whether they are right",
    .help = "check looks at a live scrape: exit 10 for findings, 11 when a rule or a dashboard reads a "
            "metric that does not "
            "exist. reset is for the admin socket alone.\v"
            "  aigwctl metrics show --grep 'provider=\"openrouter\"'\n"
            "  aigwctl metrics show --cardinality --limit 10",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 1,
};
