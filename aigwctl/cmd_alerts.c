/* SPDX-License-Identifier: Apache-2.0 */
/* Alert rules: list, generate, check, test, routes. Only --live, --now and --firing need a server. */
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aigwctl/alerts.h"
#include "libshared/catalog/promql.h"

enum {
    KEY_FORMAT = 0x2000,
    KEY_GROUP,
    KEY_SEVERITY,
    KEY_PACK,
    KEY_SET,
    KEY_OUT_FILE,
    KEY_RUNBOOKS,
    KEY_WEBHOOK,
    KEY_LIVE,
    KEY_NOW,
    KEY_FIRING,
    KEY_EXPLAIN,
    KEY_MATCH,
    KEY_PROMETHEUS,
    KEY_ALERTMANAGER,
    KEY_RULES,
    KEY_PROFILE,
};

static const struct {
    const char *name;
    void (*write)(struct buf *out, const struct alerts_pick *p);
} FORMATS[] = {
    {"prometheus", alerts_write_prometheus},
    {"prometheusrule", alerts_write_prometheusrule},
    {"grafana", alerts_write_grafana},
    {"alertmanager", alerts_write_alertmanager},
    {"test", alerts_write_tests},
    {"markdown", alerts_write_markdown},
};

static struct {
    struct alerts_pick pick;
    const char *sets[ALERT_SETTINGS_MAX];
    size_t n_sets;
    unsigned format;
    const char *out_file, *explain, *match, *prometheus, *alertmanager;
    bool is_live, is_now, is_firing;
} opt;

static const struct argp_option OPTIONS[] = {
    {"format", KEY_FORMAT, "prometheus|prometheusrule|grafana|alertmanager|test|markdown", 0,
     "generate: which file; prometheus is the default", 0},
    {"group", KEY_GROUP, "GROUP", 0, "only this group; may be given again", 0},
    {"severity", KEY_SEVERITY, "critical|warning|info", 0, "only these; may be given again", 0},
    {"pack", KEY_PACK, "core|compat|extended|all", 0, "core is the default; may be given again", 0},
    {"set", KEY_SET, "NAME.PARAM=VALUE", 0,
     "another threshold, 'for' or other parameter; NAME may be a pattern such as '*'", 0},
    {"live", KEY_LIVE, 0, 0,
     "generate: parameters from the gateway's configuration; check: against that and against its scrape", 0},
    {"metrics-profile", KEY_PROFILE, "PROFILES", 0,
     "for a gateway with these metrics.profiles, such as all,-reference-004", 0},
    {"out-file", KEY_OUT_FILE, "FILE", 0, "generate: write there and not to standard output", 0},
    {"rules-file", KEY_RULES, "FILE", 0, "generate --format test: the rule file that the tests name", 0},
    {"runbook-base", KEY_RUNBOOKS, "URL", 0,
     "where runbooks are; a rule's is URL#name (default docs/alerts.md)", 0},
    {"webhook", KEY_WEBHOOK, "[RECEIVER=]URL", 0,
     "generate --format alertmanager: a receiver, or all, tell this URL", 0},
    {"explain", KEY_EXPLAIN, "RULE", 0, "list: expression, parameters and runbook of one rule", 0},
    {"firing", KEY_FIRING, 0, 0, "list: what a Prometheus or Alertmanager says is firing", 0},
    {"now", KEY_NOW, 0, 0, "test: judge the gateway's present figures, or ask --prometheus", 0},
    {"prometheus", KEY_PROMETHEUS, "URL", 0, "list --firing, test --now: the Prometheus to ask", 0},
    {"alertmanager", KEY_ALERTMANAGER, "URL", 0, "list --firing: the Alertmanager to ask", 0},
    {"match", KEY_MATCH, "LABEL=VALUE,…", 0, "routes: who is told of an alert with these labels", 0},
    {0},
};

/* ---- options -------------------------------------------------------------------------------------------------------- */

static error_t take_format(const char *arg, struct argp_state *state)
{
    for (unsigned i = 0; i < ARRAY_LEN(FORMATS); i++)
        if (strcmp(arg, FORMATS[i].name) == 0) {
            opt.format = i;
            return 0;
        }
    ctl_usage(state,
              "--format takes prometheus, prometheusrule, grafana, alertmanager, test or markdown, not '%s'",
              arg);
    return EINVAL;
}

static error_t take_choice(int key, const char *arg, struct argp_state *state)
{
    enum alert_pack pack;
    enum alert_severity severity;
    enum alert_category category;

    if (key == KEY_PACK && strcmp(arg, "all") == 0)
        opt.pick.packs = (1u << PACK_COUNT) - 1;
    else if (key == KEY_PACK && alert_pack_of(arg, &pack))
        opt.pick.packs |= 1u << pack;
    else if (key == KEY_SEVERITY && alert_severity_of(arg, &severity))
        opt.pick.severities[severity] = true;
    else if (key == KEY_GROUP && alert_category_of(arg, &category))
        opt.pick.categories[category] = true;
    else
        ctl_usage(state,
                  key == KEY_PACK       ? "--pack takes core, compat, extended or all, not '%s'"
                  : key == KEY_SEVERITY ? "--severity takes critical, warning or info, not '%s'"
                                        : "no group is named '%s'; 'aigwctl alerts list' shows them",
                  arg);
    return 0;
}

static error_t take_profile(const char *arg, struct argp_state *state)
{
    const char *wrong;

    opt.pick.profiles = alerts_profiles(arg, &wrong);
    if (wrong)
        ctl_usage(state, "--metrics-profile: there is no profile '%s'; docs/metrics.md lists them", wrong);
    return 0;
}

static error_t take_several(int key, char *arg, struct argp_state *state)
{
    if (key == KEY_SET && opt.n_sets < ARRAY_LEN(opt.sets))
        opt.sets[opt.n_sets++] = arg;
    else if (key == KEY_WEBHOOK && opt.pick.n_webhooks < ALERTS_WEBHOOKS_MAX)
        opt.pick.webhooks[opt.pick.n_webhooks++] = arg;
    else
        ctl_usage(state, "too many of this: '%s'", arg);
    return 0;
}

static error_t take_text(int key, const char *arg)
{
    const char **to = key == KEY_OUT_FILE       ? &opt.out_file
                      : key == KEY_RUNBOOKS     ? &opt.pick.runbooks
                      : key == KEY_EXPLAIN      ? &opt.explain
                      : key == KEY_MATCH        ? &opt.match
                      : key == KEY_PROMETHEUS   ? &opt.prometheus
                      : key == KEY_ALERTMANAGER ? &opt.alertmanager
                      : key == KEY_RULES        ? &opt.pick.rules_file
                                                : NULL;

    if (!to)
        return ARGP_ERR_UNKNOWN;
    *to = arg;
    return 0;
}

static error_t take(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case KEY_FORMAT:
        return take_format(arg, state);
    case KEY_GROUP:
    case KEY_SEVERITY:
    case KEY_PACK:
        return take_choice(key, arg, state);
    case KEY_SET:
    case KEY_WEBHOOK:
        return take_several(key, arg, state);
    case KEY_LIVE:
        opt.is_live = true;
        return 0;
    case KEY_PROFILE:
        return take_profile(arg, state);
    case KEY_NOW:
        opt.is_now = true;
        return 0;
    case KEY_FIRING:
        opt.is_firing = true;
        return 0;
    default:
        return take_text(key, arg);
    }
}

/* A group of another pack asks for that pack. */
static void complete_packs(void)
{
    bool asks_core = false;

    for (unsigned c = 0; c < CATEGORY_COUNT; c++) {
        if (!opt.pick.categories[c])
            continue;
        asks_core |= c != CATEGORY_compat_004 && c != CATEGORY_extended;
        opt.pick.packs |= c == CATEGORY_compat_004 ? 1u << PACK_COMPAT
                          : c == CATEGORY_extended ? 1u << PACK_EXTENDED
                                                   : 0;
    }
    if (!opt.pick.packs || asks_core)
        opt.pick.packs |= 1u << PACK_CORE;
}

static int settle(struct ctl *ctl)
{
    struct err err = {0};
    const char *trouble;
    int rc = CLI_OK;

    complete_packs();
    if (!opt.pick.runbooks)
        opt.pick.runbooks = "docs/alerts.md";
    if (opt.is_live)
        rc = alerts_take_live(ctl, &opt.pick);
    for (size_t i = 0; i < opt.n_sets && !rc; i++)
        if (alert_set(&opt.pick.settings, opt.sets[i], &err))
            rc = ctl_fail(CLI_USAGE, "--set: %s", err_text(&err));
    trouble = rc ? NULL : alert_settings_trouble(&opt.pick.settings);
    return trouble ? ctl_fail(CLI_USAGE, "--set: %s", trouble) : rc;
}

/* ---- list ----------------------------------------------------------------------------------------------------------- */

static const struct table_column COLUMNS[] = {{"group", "GROUP", FORM_TEXT},
                                              {"rule", "RULE", FORM_TEXT},
                                              {"severity", "SEVERITY", FORM_TEXT},
                                              {"for", "FOR", FORM_TEXT},
                                              {0}};
static const struct table_column ALL_COLUMNS[] = {
    {"group", "GROUP", FORM_TEXT},       {"rule", "RULE", FORM_TEXT},
    {"severity", "SEVERITY", FORM_TEXT}, {"for", "FOR", FORM_TEXT},
    {"pack", "PACK", FORM_TEXT},         {"expr", "EXPR", FORM_TEXT},
    {"summary", "SUMMARY", FORM_TEXT},   {0}};

static void add_metric(struct span name, void *ctx)
{
    json_t *names = ctx, *one;
    size_t i;

    json_array_foreach(names, i, one)
    {
        if (span_is(name, json_string_value(one)))
            return;
    }
    (void)json_array_append_new(names, json_stringn(name.p, name.len));
}

static json_t *params_of(const struct alert_row *row)
{
    json_t *o = json_object();

    for (size_t i = 0; i < ALERT_PARAMS_MAX && row->params[i].name; i++)
        (void)json_object_set_new(o, row->params[i].name,
                                  json_string(alert_value(&opt.pick.settings, row, row->params[i].name)));
    return o;
}

static json_t *row_of(const struct alert_row *row)
{
    struct buf expr AUTO(buf_release) = {0}, summary AUTO(buf_release) = {0};
    json_t *metrics = json_array();

    alerts_expr(&expr, &opt.pick, row);
    alerts_text(&summary, &opt.pick, row, row->summary, NULL);
    promql_metrics(buf_span(&expr), add_metric, metrics);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o}", "group",
                     alert_category_name(row->category), "rule", row->name, "severity",
                     alert_severity_name(row->severity), "for", alert_value(&opt.pick.settings, row, "for"),
                     "pack", alert_pack_name(row->pack), "expr", expr.p, "summary", summary.p, "params",
                     params_of(row), "metrics", metrics);
}

static int list(struct ctl *ctl)
{
    json_t *rows = json_array();
    bool seen[CATEGORY_COUNT] = {false};
    unsigned groups = 0;

    for (size_t i = 0; i < alert_count(); i++) {
        const struct alert_row *row = alert_row(i);

        if (!alerts_wants(&opt.pick, row))
            continue;
        groups += !seen[row->category];
        seen[row->category] = true;
        (void)json_array_append_new(rows, row_of(row));
    }
    ctl_print(ctl, stdout, "alerts", ctl->output == OUTPUT_CSV ? ALL_COLUMNS : COLUMNS, rows, NULL);
    if (ctl->output == OUTPUT_TABLE)
        (void)printf("\n%zu rules in %u groups\n", json_array_size(rows), groups);
    json_decref(rows);
    return CLI_OK;
}

/* A paragraph, or with an indent what follows `head`; empties `text`. */
static void put_paragraph(struct buf *text, const char *head)
{
    ctl_put_text(stdout, text->len ? text->p : "", (unsigned)printf("%s", head));
    (void)putchar('\n');
    text->len = 0;
}

static void print_runbook(const struct alert_row *row)
{
    struct buf text AUTO(buf_release) = {0};
    struct span steps = span_of(row->steps);
    char head[16];

    (void)printf("%s  %s, %s, for %s\n\n", row->name, alert_category_name(row->category),
                 alert_severity_name(row->severity), alert_value(&opt.pick.settings, row, "for"));
    alerts_text(&text, &opt.pick, row, row->summary, ALERTS_NAMES);
    put_paragraph(&text, "  ");
    (void)putchar('\n');
    alerts_text(&text, &opt.pick, row, row->description, NULL);
    put_paragraph(&text, "");
    (void)puts("\nWhat to do");
    for (unsigned n = 1; steps.p; n++) {
        buf_add(&text, span_split(&steps, '\n'));
        (void)snprintf(head, sizeof(head), "  %u. ", n);
        put_paragraph(&text, head);
    }
    (void)puts("\nParameters (--set NAME.PARAM=VALUE)");
    (void)printf("  %-16s %s\n", "for", alert_value(&opt.pick.settings, row, "for"));
    for (size_t i = 0; i < ALERT_PARAMS_MAX && row->params[i].name; i++)
        (void)printf("  %-16s %s\n", row->params[i].name,
                     alert_value(&opt.pick.settings, row, row->params[i].name));
    (void)puts("\nExpression");
    alerts_expr(&text, &opt.pick, row);
    put_paragraph(&text, "");
}

static int explain(struct ctl *ctl)
{
    const struct alert_row *row = alert_find(opt.explain);
    json_t *rows;

    if (!row)
        return ctl_fail(CLI_NOT_FOUND, "no rule is named '%s'; 'aigwctl alerts list --pack all' shows them",
                        opt.explain);
    if (ctl->output == OUTPUT_TABLE) {
        print_runbook(row);
        return CLI_OK;
    }
    rows = json_pack("[o]", row_of(row));
    (void)json_object_set_new(json_array_get(rows, 0), "steps", json_string(row->steps));
    ctl_print(ctl, stdout, "alerts", ALL_COLUMNS, rows, NULL);
    json_decref(rows);
    return CLI_OK;
}

/* ---- generate, test ------------------------------------------------------------------------------------------------- */

static int generate(void)
{
    struct buf text AUTO(buf_release) = {0};

    FORMATS[opt.format].write(&text, &opt.pick);
    alerts_tell_left_out(&opt.pick);
    return tool_write(opt.out_file ? opt.out_file : "-", buf_span(&text));
}

/* The tests name the rule file by its last part, so that both may be moved together. */
static int write_tests(const char *file, char **out_rules)
{
    struct buf rules AUTO(buf_release) = {0}, tests AUTO(buf_release) = {0}, path AUTO(buf_release) = {0};
    size_t stem = strlen(file);
    char *copy;
    int rc;

    if (stem > 4 && (strcmp(file + stem - 4, ".yml") == 0))
        stem -= 4;
    buf_addf(&path, "%.*s.rules.yml", (int)stem, file);
    copy = strdup(path.p);
    opt.pick.rules_file = basename(copy);
    alerts_write_prometheus(&rules, &opt.pick);
    alerts_write_tests(&tests, &opt.pick);
    free(copy);
    rc = tool_write(path.p, buf_span(&rules));
    if (!rc)
        rc = tool_write(file, buf_span(&tests));
    *out_rules = strdup(path.p);
    return rc;
}

/* Each group with its own rules only: every step of a history evaluates every rule of the file, and some histories last a
 * day. The exit code of promtool, -1 without one. */
static int play_group(enum alert_category c, const char *dir, struct buf *said)
{
    struct alerts_pick all = opt.pick;
    char file[128];
    const char *argv[] = {"promtool", "test", "rules", file, NULL};
    char *rules = NULL;
    int rc;

    (void)memset(opt.pick.categories, 0, sizeof(opt.pick.categories));
    opt.pick.categories[c] = true;
    (void)snprintf(file, sizeof(file), "%.64s/group.yml", dir);
    rc = write_tests(file, &rules) ? 1 : tool_run(said, argv);
    (void)unlink(file);
    (void)unlink(rules);
    free(rules);
    opt.pick = all;
    return rc;
}

static bool has_rules(enum alert_category c)
{
    for (size_t i = 0; i < alert_count(); i++)
        if (alert_row(i)->category == c && alerts_wants(&opt.pick, alert_row(i)))
            return true;
    return false;
}

static int play(void)
{
    char dir[] = "/tmp/aigwctl-alerts-XXXXXX";
    int rc = 0, worst = CLI_OK;

    if (!mkdtemp(dir))
        return ctl_fail(CLI_FAILED, "cannot make a directory in /tmp");
    for (unsigned c = 0; c < CATEGORY_COUNT && rc >= 0; c++) {
        struct buf said AUTO(buf_release) = {.max = 16u << 20};

        if (!has_rules((enum alert_category)c))
            continue;
        rc = play_group((enum alert_category)c, dir, &said);
        if (rc < 0)
            (void)puts("promtool is not installed: nothing was run");
        else
            (void)printf("%-18s %s\n", alert_category_name((enum alert_category)c), rc ? said.p : "ok");
        (void)fflush(stdout);
        worst = rc > 0 ? CLI_CRITICAL : worst;
    }
    (void)rmdir(dir);
    return worst;
}

/* Figures of the histories are those of the default thresholds. */
static int test(const char *file)
{
    char *rules = NULL;
    int rc;

    if (opt.n_sets || opt.is_live || opt.pick.profiles)
        return ctl_fail(CLI_USAGE,
                        "alerts test: the histories are made for the default thresholds and families; --set, "
                        "--live and --metrics-profile do not go with them");
    rc = write_tests(file, &rules);
    if (!rc) {
        (void)printf("%s and %s: written\n", file, rules);
        rc = play();
    }
    free(rules);
    return rc;
}

/* ---- verbs ---------------------------------------------------------------------------------------------------------- */

static int run_list(struct ctl *ctl)
{
    if (opt.is_firing && !opt.prometheus == !opt.alertmanager)
        return ctl_fail(CLI_USAGE,
                        "alerts list --firing: say whom to ask: --prometheus URL or --alertmanager URL");
    if (opt.is_firing)
        return alerts_firing(ctl, opt.prometheus, opt.alertmanager);
    return opt.explain ? explain(ctl) : list(ctl);
}

static int run_test(struct ctl *ctl)
{
    if (opt.is_now)
        return ctl->n_args == 1 ? alerts_test_now(ctl, &opt.pick, opt.prometheus)
                                : ctl_fail(CLI_USAGE, "alerts test --now takes no file");
    return ctl->n_args == 2 ? test(ctl->args[1])
                            : ctl_fail(CLI_USAGE, "alerts test: name the file to write, or say --now");
}

static int run_verb(struct ctl *ctl, const char *verb)
{
    if (strcmp(verb, "check") == 0)
        return ctl->n_args > 1
                   ? alerts_check(ctl, ctl->args + 1, ctl->n_args - 1, opt.is_live ? &opt.pick : NULL)
                   : ctl_fail(CLI_USAGE, "alerts check: name a file, or '-'");
    if (strcmp(verb, "test") == 0)
        return run_test(ctl);
    if (ctl->n_args > 1)
        return ctl_fail(CLI_USAGE, "alerts %s: '%s' is one argument too many", verb, ctl->args[1]);
    if (strcmp(verb, "list") == 0)
        return run_list(ctl);
    if (strcmp(verb, "generate") == 0)
        return generate();
    if (strcmp(verb, "routes") == 0)
        return alerts_routes(ctl, opt.match);
    return ctl_fail(CLI_USAGE, "alerts: the verbs are list, generate, check, test and routes, not '%s'",
                    verb);
}

static int run(struct ctl *ctl)
{
    const char *verb = ctl->n_args ? ctl->args[0] : "list";
    int rc = settle(ctl);

    if (!rc)
        rc = run_verb(ctl, verb);
    json_decref(opt.pick.warn_levels);
    return rc;
}

static const struct command_verb VERBS[] = {
    {"list", "", "the rules, or what fires", READS, NULL},
    {"generate", "", "the rules as a file", READS, NULL},
    {"check", "FILE…", "any rule file", READS, NULL},
    {"test", "FILE", "a firing and a silent case per rule", READS, NULL},
    {"test", "--now", "judge the present figures", READS, NULL},
    {"routes", "", "who is told", READS, NULL},
    {0},
};

const struct command CMD_ALERTS = {
    .name = "alerts",
    .verbs = VERBS,
    .group = GROUP_ALERTS,
    .summary = "alert rules: list, generate, check, test; who is told",
    .help = "34 rules in 11 groups (the pack core), those that reference 004 names (compat) and those about "
            "the gateway's own "
            "machinery (extended), with what they need recorded. 'check' reads any rule file and then asks "
            "promtool where it is "
            "installed; it exits 10 for findings, 11 for what Prometheus would not load. 'test FILE' writes "
            "a history per rule that "
            "fires and a near miss that does not, and has promtool play them.\v"
            "  aigwctl alerts generate --set HighModelErrorRate.threshold=0.15 \\\n"
            "    --out-file gatewayd.yml\n"
            "  aigwctl alerts check gatewayd.yml --live\n"
            "  aigwctl alerts list --explain CircuitBreakerOpen",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = 64,
};
