/* SPDX-License-Identifier: Apache-2.0 */
/* The rules in the forms that Prometheus, its operator, promtool's unit tests and Grafana read. Every form is a pure function
 * of the tables and the settings, so that two runs differ only where those do. */
#include <ctype.h>
#include <string.h>

#include "aigwctl/alerts.h"
#include "libshared/catalog/promql.h"

/* ---- which ---------------------------------------------------------------------------------------------------------- */

static bool any(const bool *flags, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (flags[i])
            return true;
    return false;
}

bool alerts_wants(const struct alerts_pick *p, const struct alert_row *row)
{
    return (p->packs & 1u << row->pack) &&
           (!any(p->categories, CATEGORY_COUNT) || p->categories[row->category]) &&
           (!any(p->severities, SEVERITY_COUNT) || p->severities[row->severity]) &&
           !alerts_lacks(p, row, row->expr);
}

bool alerts_wants_all(const struct alerts_pick *p)
{
    return !any(p->categories, CATEGORY_COUNT) && !any(p->severities, SEVERITY_COUNT);
}

struct search {
    const char *name;
    bool found;
};

static void match_name(struct span name, void *ctx)
{
    struct search *s = ctx;

    s->found |= span_is(name, s->name);
}

static bool reads(const struct alerts_pick *p, const struct alert_row *row, const char *template_text,
                  const char *name)
{
    struct buf text AUTO(buf_release) = {0};
    struct search s = {name, false};

    alert_fill(&text, &p->settings, row, template_text);
    promql_metrics(buf_span(&text), match_name, &s);
    return s.found;
}

/* A record is read by later ones only, so this ends. */
bool alerts_needs_record(const struct alerts_pick *p, size_t i)
{
    const char *name = alert_record(i)->name;

    if (alerts_lacks(p, NULL, alert_record(i)->expr))
        return false;
    if (alerts_wants_all(p))
        return true;
    if (!strchr(name, ':')) /* the convenience of a plain name; no rule of ours needs it */
        return false;
    for (size_t k = 0; k < alert_count(); k++)
        if (alerts_wants(p, alert_row(k)) && reads(p, alert_row(k), alert_row(k)->expr, name))
            return true;
    for (size_t k = i + 1; k < alert_record_count(); k++)
        if (strcmp(alert_record(k)->name, name) != 0 && reads(p, NULL, alert_record(k)->expr, name) &&
            alerts_needs_record(p, k))
            return true;
    return false;
}

/* ---- texts ---------------------------------------------------------------------------------------------------------- */

/* A tenant's id within a pattern in quotes. */
static void add_pattern(struct buf *out, const char *id)
{
    for (; *id; id++) {
        if (!isalnum((unsigned char)*id) && *id != '_' && *id != '-')
            buf_addz(out, "\\\\");
        buf_addc(out, *id);
    }
}

static void fill_in_profile(struct buf *out, const struct alerts_pick *p, const struct alert_row *row,
                            const char *template_text)
{
    struct buf text AUTO(buf_release) = {0};

    alert_fill(&text, &p->settings, row, template_text);
    alerts_in_profile(out, p, buf_span(&text));
}

/* Tenants whose warning level is their own get an arm each; the rest keep the rule's. */
static void own_levels(struct buf *out, const struct alerts_pick *p, const struct alert_row *row)
{
    const char *tenant, *sep = "";
    json_t *level;

    buf_addz(out, "(max by (tenant_id) (aigateway_budget_usage_ratio{tenant_id!~\"");
    json_object_foreach(p->warn_levels, tenant, level)
    {
        buf_addz(out, sep);
        add_pattern(out, tenant);
        sep = "|";
    }
    buf_addf(out, "\"}) >= %s) < 1", alert_value(&p->settings, row, "threshold"));
    json_object_foreach(p->warn_levels, tenant, level)
    {
        buf_addf(out,
                 "\nor\n(max by (tenant_id) (aigateway_budget_usage_ratio{tenant_id=\"%s\"}) >= %.6g) < 1",
                 tenant, json_number_value(level));
    }
}

void alerts_expr(struct buf *out, const struct alerts_pick *p, const struct alert_row *row)
{
    if (json_object_size(p->warn_levels) && strcmp(row->name, "TenantBudgetNearLimit") == 0)
        own_levels(out, p, row);
    else
        fill_in_profile(out, p, row, row->expr);
}

/* The value of `name` in "a=b,c=d"; values hold no comma. */
static struct span label_of(const char *labels, struct span name)
{
    struct span rest = span_of(labels);

    while (rest.p && rest.len) {
        struct span value = span_split(&rest, ','), key = span_split(&value, '=');

        if (span_eq(key, name))
            return value;
    }
    return SPAN_LIT("");
}

void alerts_text(struct buf *out, const struct alerts_pick *p, const struct alert_row *row, const char *text,
                 const char *labels)
{
    static const char OPEN[] = "{{ $labels.";
    struct buf filled AUTO(buf_release) = {0};
    const char *from, *open, *close;

    alert_fill(&filled, &p->settings, row, text);
    if (json_object_size(p->warn_levels) && text == row->summary &&
        strcmp(row->name, "TenantBudgetNearLimit") == 0) {
        buf_clear(&filled);
        buf_addz(&filled, "{{ $labels.tenant_id }} has passed the warning level of its budget");
    }
    from = filled.p;
    while (labels && (open = strstr(from, OPEN)) && (close = strstr(open, " }}"))) {
        const char *name = open + sizeof(OPEN) - 1;

        buf_add(out, span_make(from, (size_t)(open - from)));
        if (strcmp(labels, ALERTS_NAMES) == 0)
            for (const char *z = name; z < close; z++)
                buf_addc(out, (char)toupper((unsigned char)*z));
        else
            buf_add(out, label_of(labels, span_make(name, (size_t)(close - name))));
        from = close + 3;
    }
    buf_addz(out, from);
}

void alerts_runbook(struct buf *out, const struct alerts_pick *p, const struct alert_row *row)
{
    buf_addf(out, "%s#", p->runbooks);
    for (const char *z = row->name; *z; z++)
        buf_addc(out, (char)tolower((unsigned char)*z));
}

static void quoted(struct buf *out, const struct buf *text)
{
    buf_add_json(out, buf_span(text));
    buf_addc(out, '\n');
}

static void block(struct buf *out, int indent, const char *key, struct span text)
{
    buf_addf(out, "%*s%s: |-\n", indent, "", key);
    while (text.p) {
        struct span line = span_split(&text, '\n');

        buf_addf(out, "%*s%.*s\n", indent + 2, "", (int)line.len, line.p);
    }
}

static void annotations(struct buf *out, int indent, const struct alerts_pick *p, const struct alert_row *row,
                        const char *labels)
{
    struct buf text AUTO(buf_release) = {0};

    alerts_text(&text, p, row, row->summary, labels);
    buf_addf(out, "%*ssummary: ", indent, "");
    quoted(out, &text);
    buf_clear(&text);
    alerts_text(&text, p, row, row->description, labels);
    buf_addf(out, "%*sdescription: ", indent, "");
    quoted(out, &text);
    buf_clear(&text);
    alerts_runbook(&text, p, row);
    buf_addf(out, "%*srunbook_url: ", indent, "");
    quoted(out, &text);
}

static void rule_labels(struct buf *out, int indent, const struct alert_row *row)
{
    buf_addf(out, "%*sseverity: %s\n%*scategory: %s\n", indent, "", alert_severity_name(row->severity),
             indent, "", alert_category_name(row->category));
    if (row->component)
        buf_addf(out, "%*scomponent: %s\n", indent, "", row->component);
}

static void header(struct buf *out, const struct alerts_pick *p, const char *what)
{
    buf_addf(out, "# Generated by aigwctl %s (aigwctl alerts generate): %s.\n", GATEWAYD_VERSION, what);
    if (p->profiles)
        buf_addz(out, "# families: those that the gateway's metrics.profiles show\n");
    for (size_t i = 0; i < p->settings.n; i++) {
        const struct alert_setting *s = &p->settings.items[i];

        buf_addf(out, "# setting: %s%s%s=%s\n", s->rule, *s->rule ? "." : "", s->param, s->value);
    }
}

/* ---- Prometheus ----------------------------------------------------------------------------------------------------- */

static void write_record(struct buf *out, int indent, const struct alerts_pick *p,
                         const struct alert_record *r)
{
    struct buf text AUTO(buf_release) = {0};

    fill_in_profile(&text, p, NULL, r->expr);
    buf_addf(out, "%*s- record: %s\n", indent, "", r->name);
    block(out, indent + 2, "expr", buf_span(&text));
    if (*r->labels) {
        struct span value = span_of(r->labels), name = span_split(&value, '=');

        buf_addf(out, "%*slabels: {%.*s: \"%.*s\"}\n", indent + 2, "", (int)name.len, name.p, (int)value.len,
                 value.p);
    }
}

static void write_alert(struct buf *out, int indent, const struct alerts_pick *p, const struct alert_row *row)
{
    struct buf text AUTO(buf_release) = {0};

    alerts_expr(&text, p, row);
    buf_addf(out, "%*s- alert: %s\n", indent, "", row->name);
    block(out, indent + 2, "expr", buf_span(&text));
    buf_addf(out, "%*sfor: %s\n%*slabels:\n", indent + 2, "", alert_value(&p->settings, row, "for"),
             indent + 2, "");
    rule_labels(out, indent + 4, row);
    buf_addf(out, "%*sannotations:\n", indent + 2, "");
    annotations(out, indent + 4, p, row, NULL);
}

/* Calls `each` for every group that has a rule; interval is NULL for alerts. */
typedef void (*group_fn)(struct buf *out, int indent, const char *name, const char *interval);

static void write_records(struct buf *out, int indent, const struct alerts_pick *p, group_fn head,
                          bool with_rules)
{
    const char *group = "";

    for (size_t i = 0; i < alert_record_count(); i++) {
        const struct alert_record *r = alert_record(i);

        if (!alerts_needs_record(p, i))
            continue;
        if (strcmp(r->group, group) != 0)
            head(out, indent, r->group, r->interval);
        group = r->group;
        if (with_rules)
            write_record(out, indent + 4, p, r);
    }
}

static void write_alerts(struct buf *out, int indent, const struct alerts_pick *p, group_fn head,
                         bool with_rules)
{
    int category = -1;

    for (size_t i = 0; i < alert_count(); i++) {
        const struct alert_row *row = alert_row(i);

        if (!alerts_wants(p, row))
            continue;
        if ((int)row->category != category)
            head(out, indent, alert_category_name(row->category), NULL);
        category = (int)row->category;
        if (with_rules)
            write_alert(out, indent + 4, p, row);
    }
}

static void group_head(struct buf *out, int indent, const char *name, const char *interval)
{
    buf_addf(out, "%*s- name: %s\n", indent, "", name);
    if (interval)
        buf_addf(out, "%*sinterval: %s\n", indent + 2, "", interval);
    buf_addf(out, "%*srules:\n", indent + 2, "");
}

void alerts_write_prometheus(struct buf *out, const struct alerts_pick *p)
{
    header(out, p, "recording and alerting rules for Prometheus");
    buf_addz(out, "groups:\n");
    write_records(out, 2, p, group_head, true);
    write_alerts(out, 2, p, group_head, true);
}

void alerts_write_prometheusrule(struct buf *out, const struct alerts_pick *p)
{
    header(out, p, "rules for the Prometheus operator");
    buf_addz(
        out,
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: gatewayd\n  labels:\n"
        "    app.kubernetes.io/name: gatewayd\nspec:\n  groups:\n");
    write_records(out, 4, p, group_head, true);
    write_alerts(out, 4, p, group_head, true);
}

/* ---- promtool test rules -------------------------------------------------------------------------------------------- */

static void group_name(struct buf *out, int indent, const char *name, const char *interval)
{
    (void)interval;
    buf_addf(out, "%*s- %s\n", indent, "", name);
}

static void write_expected(struct buf *out, const struct alerts_pick *p, const struct alert_row *row,
                           const struct alert_case *c)
{
    struct span rest = span_of(c->labels);

    if (!c->fires) {
        buf_addz(out, "        exp_alerts: []\n");
        return;
    }
    buf_addz(out, "        exp_alerts:\n          - exp_labels:\n");
    while (rest.p && rest.len) {
        struct span value = span_split(&rest, ','), name = span_split(&value, '=');

        buf_addf(out, "              %.*s: \"%.*s\"\n", (int)name.len, name.p, (int)value.len, value.p);
    }
    rule_labels(out, 14, row);
    buf_addz(out, "            exp_annotations:\n");
    annotations(out, 14, p, row, c->labels);
}

static void write_case(struct buf *out, const struct alerts_pick *p, const struct alert_case *c)
{
    struct span rest = span_of(c->series);

    buf_addf(out, "  - name: \"%s %s: %s\"\n    interval: 1m\n    input_series:\n", c->alert,
             c->fires ? "fires" : "is silent", c->story);
    while (rest.p && rest.len) {
        struct span series = span_split(&rest, '\n'), values = span_split(&rest, '\n');

        buf_addz(out, "      - series: ");
        buf_add_json(out, series);
        buf_addf(out, "\n        values: \"%.*s\"\n", (int)values.len, values.p);
    }
    buf_addf(out, "    alert_rule_test:\n      - eval_time: %s\n        alertname: %s\n", c->at, c->alert);
    write_expected(out, p, alert_find(c->alert), c);
}

void alerts_write_tests(struct buf *out, const struct alerts_pick *p)
{
    header(out, p, "unit tests of the rules, for promtool test rules");
    buf_addf(out, "rule_files:\n  - %s\nevaluation_interval: 1m\ngroup_eval_order:\n",
             p->rules_file ? p->rules_file : "gatewayd.yml");
    write_records(out, 2, p, group_name, false);
    write_alerts(out, 2, p, group_name, false);
    buf_addz(out, "tests:\n");
    for (size_t i = 0; i < alert_case_count(); i++)
        if (alerts_wants(p, alert_find(alert_case(i)->alert)))
            write_case(out, p, alert_case(i));
}

/* ---- Grafana -------------------------------------------------------------------------------------------------------- */

/* A rule's expression yields only what fires, and its value may be 0, so that what counts is that there is one. */
static void write_grafana_rule(struct buf *out, const struct alerts_pick *p, const struct alert_row *row)
{
    struct buf text AUTO(buf_release) = {0};

    alerts_expr(&text, p, row);
    buf_addf(out,
             "      - uid: gatewayd-%.30s\n        title: %s\n        condition: B\n        for: %s\n"
             "        noDataState: OK\n        execErrState: Error\n        data:\n"
             "          - refId: A\n            relativeTimeRange: {from: 600, to: 0}\n            "
             "datasourceUid: prometheus\n"
             "            model:\n              refId: A\n              instant: true\n              range: "
             "false\n",
             row->name, row->name, alert_value(&p->settings, row, "for"));
    block(out, 14, "expr", buf_span(&text));
    buf_addz(out, "          - refId: B\n            relativeTimeRange: {from: 0, to: 0}\n            "
                  "datasourceUid: __expr__\n"
                  "            model: {refId: B, type: math, expression: is_number($A)}\n        labels:\n");
    rule_labels(out, 10, row);
    buf_addz(out, "        annotations:\n");
    annotations(out, 10, p, row, NULL);
}

/* Provisioning expands $NAME and ${NAME} from the environment; what is doubled stays. */
static void double_dollars(struct buf *out, struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        buf_addc(out, text.p[i]);
        if (text.p[i] == '$')
            buf_addc(out, '$');
    }
}

void alerts_write_grafana(struct buf *out, const struct alerts_pick *p)
{
    struct buf text AUTO(buf_release) = {0};
    int category = -1;

    header(&text, p, "alert rules for Grafana's file provisioning");
    buf_addz(
        &text,
        "# Series such as job:http_requests:rate5m are recorded by Prometheus: load the recording rules of\n"
        "# `aigwctl alerts generate --format prometheus` there.\napiVersion: 1\ngroups:\n");
    for (size_t i = 0; i < alert_count(); i++) {
        const struct alert_row *row = alert_row(i);

        if (!alerts_wants(p, row))
            continue;
        if ((int)row->category != category)
            buf_addf(&text,
                     "  - orgId: 1\n    name: %s\n    folder: AI Gateway\n    interval: 1m\n    rules:\n",
                     alert_category_name(row->category));
        category = (int)row->category;
        write_grafana_rule(&text, p, row);
    }
    double_dollars(out, buf_span(&text));
}

/* ---- docs/alerts.md -------------------------------------------------------------------------------------------------- */

static void add_name(struct span name, void *ctx)
{
    struct buf *out = ctx;
    struct buf item AUTO(buf_release) = {0};

    buf_addf(&item, "`%.*s`", (int)name.len, name.p);
    if (out->p && strstr(out->p, item.p))
        return;
    buf_addf(out, "%s%s", out->len ? ", " : "", item.p);
}

static void markdown_params(struct buf *out, const struct alerts_pick *p, const struct alert_row *row)
{
    buf_addf(out, "`for` %s", alert_value(&p->settings, row, "for"));
    for (size_t i = 0; i < ALERT_PARAMS_MAX && row->params[i].name; i++)
        buf_addf(out, ", `%s` %s", row->params[i].name, alert_value(&p->settings, row, row->params[i].name));
}

static void markdown_runbook(struct buf *out, const struct alerts_pick *p, const struct alert_row *row)
{
    struct buf expr AUTO(buf_release) = {0}, names AUTO(buf_release) = {0};
    struct span steps = span_of(row->steps);
    unsigned n = 0;

    alerts_expr(&expr, p, row);
    promql_metrics(buf_span(&expr), add_name, &names);
    buf_addf(out, "\n### %s\n\n", row->name);
    alerts_text(out, p, row, row->description, NULL);
    buf_addz(out, "\n\n");
    while (steps.p) {
        struct span step = span_split(&steps, '\n');

        buf_addf(out, "%u. %.*s\n", ++n, (int)step.len, step.p);
    }
    buf_addf(out, "\nReads %s.\n\n```promql\n%s\n```\n", names.p, expr.p);
}

void alerts_write_markdown(struct buf *out, const struct alerts_pick *p)
{
    int category = -1;

    for (size_t i = 0; i < alert_count(); i++) {
        const struct alert_row *row = alert_row(i);

        if (!alerts_wants(p, row))
            continue;
        if ((int)row->category != category)
            buf_addf(out, "\n## %s\n\n| rule | severity | fires when | parameters |\n|---|---|---|---|\n",
                     alert_category_name(row->category));
        category = (int)row->category;
        buf_addf(out, "| [%s](", row->name);
        alerts_runbook(out, &(struct alerts_pick){.runbooks = ""}, row);
        buf_addf(out, ") | %s | ", alert_severity_name(row->severity));
        alerts_text(out, p, row, row->summary, ALERTS_NAMES);
        buf_addz(out, " | ");
        markdown_params(out, p, row);
        buf_addz(out, " |\n");
        if (i + 1 < alert_count() && alert_row(i + 1)->category == row->category)
            continue;
        for (size_t k = 0; k <= i; k++)
            if (alert_row(k)->category == row->category)
                markdown_runbook(out, p, alert_row(k));
    }
}
