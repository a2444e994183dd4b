/* SPDX-License-Identifier: Apache-2.0 */
/* dashboards.def rendered as Grafana's classic JSON. A pure function of the table, so that the files in dashboards/ change
 * only with it. Schema 39 is read by Grafana 10.3 and everything after it. No __inputs: provisioned files do not resolve them. */
#include "aigwctl/dashboards.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/catalog/alerts.h"
#include "libshared/catalog/metrics.h"
#include "libshared/catalog/promql.h"

enum entry_type { ENTRY_DASHBOARD, ENTRY_ROW, ENTRY_PANEL };

static const struct entry {
    enum entry_type type;
    struct dashboard dashboard;
    const char *row;
    struct panel panel;
} ENTRIES[] = {
#define DASHBOARD(file_, title_, variables_, description_)                                                   \
    {.type = ENTRY_DASHBOARD,                                                                                \
     .dashboard = {.file = file_, .title = title_, .variables = variables_, .description = description_}},
#define ROW(title_) {.type = ENTRY_ROW, .row = title_},
#define PANEL(kind_, title_, unit_, columns_, lines_, ...)                                                   \
    {.type = ENTRY_PANEL,                                                                                    \
     .panel = {                                                                                              \
         .kind = kind_, .title = title_, .unit = unit_, .columns = columns_, .lines = lines_, __VA_ARGS__}},
#include "aigwctl/dashboards.def"
#undef PANEL
#undef ROW
#undef DASHBOARD
};

static const char *const TYPES[] = {
    [TIMESERIES] = "timeseries", [STAT] = "stat",       [GAUGE] = "gauge",           [BARS] = "bargauge",
    [BARCHART] = "barchart",     [PIE] = "piechart",    [STATES] = "state-timeline", [BUCKETS] = "bargauge",
    [TABLE] = "table",           [SQL_TABLE] = "table", [SQL_SERIES] = "timeseries", [SQL_BARS] = "bargauge",
};
_Static_assert(ARRAY_LEN(TYPES) == KIND_COUNT, "every kind has its type");

struct render {
    const struct dashboard *d;
    const char *datasource, *runbooks;
    int x, y, height; /* of the line of panels that is being filled */
    int next_id;
};

/* ---- the table ------------------------------------------------------------------------------------------------------ */

static const struct entry *entry_of(size_t i)
{
    for (size_t k = 0; k < ARRAY_LEN(ENTRIES); k++)
        if (ENTRIES[k].type == ENTRY_DASHBOARD && i-- == 0)
            return &ENTRIES[k];
    return NULL;
}

static const struct entry *end_of(const struct entry *e)
{
    for (e++; e < ENTRIES + ARRAY_LEN(ENTRIES) && e->type != ENTRY_DASHBOARD; e++)
        ;
    return e;
}

size_t dashboard_count(void)
{
    size_t n = 0;

    while (entry_of(n))
        n++;
    return n;
}

const struct dashboard *dashboard_row(size_t i)
{
    return &entry_of(i)->dashboard;
}

const struct dashboard *dashboard_find(const char *file, size_t *out_at)
{
    for (size_t i = 0; i < dashboard_count(); i++)
        if (strcmp(dashboard_row(i)->file, file) == 0) {
            *out_at = i;
            return dashboard_row(i);
        }
    return NULL;
}

size_t dashboard_panels(size_t i)
{
    const struct entry *e = entry_of(i), *end = end_of(e);
    size_t n = 0;

    for (; e < end; e++)
        n += e->type == ENTRY_PANEL;
    return n;
}

/* ---- queries -------------------------------------------------------------------------------------------------------- */

static bool has_label(const struct metric_row *m, const char *name)
{
    for (size_t i = 0; i < m->n_labels; i++)
        if (strcmp(m->labels[i], name) == 0)
            return true;
    return false;
}

static const struct metric_row *family_of(struct span name)
{
    for (int m = 0; m < METRIC_COUNT; m++) {
        const struct metric_row *r = metric_row((enum metric)m);

        if (span_starts(name, span_of(r->name)) &&
            (name.len == strlen(r->name) || (r->type == METRIC_HISTOGRAM && name.p[strlen(r->name)] == '_')))
            return r;
    }
    return NULL;
}

/* What a variable of the dashboard narrows, by the labels that a metric has. Recorded series know no instance. */
static const char *matchers_of(struct span name, void *ctx)
{
    static const char ALL[] = "job=~\"$job\",instance=~\"$instance\"";
    static const char PROVIDER[] = "job=~\"$job\",instance=~\"$instance\",provider=~\"$provider\"";
    static const char TENANT[] = "job=~\"$job\",instance=~\"$instance\",tenant_id=~\"$tenant_id\"";
    const struct dashboard *d = ctx;
    const struct metric_row *m = family_of(name);

    if (span_starts(name, SPAN_LIT("job:")))
        return "job=~\"$job\"";
    if (span_starts(name, SPAN_LIT("provider:")))
        return d->variables & BY_PROVIDER ? "provider=~\"$provider\"" : NULL;
    if (metric_standing(name) == METRIC_IS_FOREIGN || memchr(name.p, ':', name.len))
        return NULL;
    if (m && d->variables & BY_PROVIDER && has_label(m, "provider"))
        return PROVIDER;
    return m && d->variables & BY_TENANT && has_label(m, "tenant_id") ? TENANT : ALL;
}

static bool is_sql(enum panel_kind k)
{
    return k == SQL_TABLE || k == SQL_SERIES || k == SQL_BARS;
}

static json_t *source_of(const struct render *r, enum panel_kind k)
{
    if (is_sql(k))
        return json_pack("{s:s, s:s}", "type", "grafana-postgresql-datasource", "uid", "gatewayd-postgres");
    return json_pack("{s:s, s:s}", "type", "prometheus", "uid",
                     r->datasource ? r->datasource : "${datasource}");
}

static json_t *sql_target(const struct render *r, const struct panel *p, const struct panel_target *t,
                          const char *id)
{
    return json_pack("{s:s, s:o, s:s, s:s, s:b, s:s}", "refId", id, "datasource", source_of(r, p->kind),
                     "format", p->kind == SQL_SERIES ? "time_series" : "table", "rawSql", t->query,
                     "rawQuery", 1, "editorMode", "code");
}

static json_t *prometheus_target(const struct render *r, const struct panel *p, const struct panel_target *t,
                                 const char *id)
{
    bool is_instant = p->kind != TIMESERIES && p->kind != STATES;
    struct buf expr AUTO(buf_release) = {0};
    json_t *o;

    promql_narrow(&expr, span_of(t->query), matchers_of, (void *)(uintptr_t)r->d);
    o = json_pack("{s:s, s:o, s:s, s:s, s:b, s:b}", "refId", id, "datasource", source_of(r, p->kind), "expr",
                  expr.p, "legendFormat", p->kind == TABLE ? "" : t->legend, "instant", is_instant, "range",
                  !is_instant);
    if (p->kind == TABLE || p->kind == BARCHART)
        (void)json_object_set_new(o, "format", json_string("table"));
    if (p->kind == BUCKETS)
        (void)json_object_set_new(o, "format", json_string("heatmap"));
    if (p->exemplars)
        (void)json_object_set_new(o, "exemplar", json_true());
    return o;
}

static json_t *targets_of(const struct render *r, const struct panel *p)
{
    json_t *list = json_array();

    for (size_t i = 0; i < PANEL_TARGETS_MAX && p->targets[i].query; i++) {
        char id[2] = {(char)('A' + i), '\0'};

        (void)json_array_append_new(list, is_sql(p->kind) ? sql_target(r, p, &p->targets[i], id)
                                                          : prometheus_target(r, p, &p->targets[i], id));
    }
    return list;
}

/* ---- looks ---------------------------------------------------------------------------------------------------------- */

static json_t *steps(const char *base, const char *a, double from_a, const char *b, double from_b)
{
    return json_pack("{s:s, s:[{s:s, s:n}, {s:s, s:f}, {s:s, s:f}]}", "mode", "absolute", "steps", "color",
                     base, "value", "color", a, "value", from_a, "color", b, "value", from_b);
}

static json_t *thresholds_of(enum panel_scheme s)
{
    switch (s) {
    case SCHEME_SCORE:
        return steps("red", "yellow", 50, "green", 80);
    case SCHEME_SCORE_1:
        return steps("red", "yellow", 0.5, "green", 0.8);
    case SCHEME_GOOD_SHARE:
        return steps("red", "yellow", 0.9, "green", 0.99);
    case SCHEME_USED:
        return steps("green", "yellow", 0.8, "red", 1);
    case SCHEME_BREAKER:
        return steps("green", "yellow", 1, "red", 2);
    case SCHEME_UP:
        return json_pack("{s:s, s:[{s:s, s:n}, {s:s, s:i}]}", "mode", "absolute", "steps", "color", "red",
                         "value", "color", "green", "value", 1);
    default:
        return json_pack("{s:s, s:[{s:s, s:n}]}", "mode", "absolute", "steps", "color", "blue", "value");
    }
}

static json_t *words(const char *zero, const char *one, const char *two)
{
    json_t *o = json_pack("{s:{s:s}, s:{s:s}}", "0", "text", zero, "1", "text", one);

    if (two)
        (void)json_object_set_new(o, "2", json_pack("{s:s}", "text", two));
    return json_pack("[{s:s, s:o}]", "type", "value", "options", o);
}

static json_t *defaults_of(const struct panel *p)
{
    json_t *o = json_pack("{s:s, s:o}", "unit", p->unit, "thresholds", thresholds_of(p->scheme));

    if (p->scheme != SCHEME_NONE)
        (void)json_object_set_new(o, "color", json_pack("{s:s}", "mode", "thresholds"));
    if (p->scheme == SCHEME_BREAKER)
        (void)json_object_set_new(o, "mappings", words("CLOSED", "HALF-OPEN", "OPEN"));
    if (p->scheme == SCHEME_UP)
        (void)json_object_set_new(o, "mappings", words("down", "up", NULL));
    if (p->scheme == SCHEME_SCORE || p->scheme == SCHEME_SCORE_1 || strcmp(p->unit, "percentunit") == 0) {
        (void)json_object_set_new(o, "min", json_integer(0));
        if (p->kind != TIMESERIES)
            (void)json_object_set_new(o, "max", json_integer(p->scheme == SCHEME_SCORE ? 100 : 1));
    }
    if (strcmp(TYPES[p->kind], "timeseries") == 0)
        (void)json_object_set_new(
            o, "custom",
            json_pack("{s:i, s:i, s:s}", "lineWidth", 1, "fillOpacity", 10, "showPoints", "never"));
    return o;
}

static json_t *overrides_of(const struct panel *p)
{
    json_t *list = json_array();

    for (size_t i = 0; p->kind == TABLE && i < PANEL_TARGETS_MAX && p->targets[i].query; i++)
        (void)json_array_append_new(list, json_pack("{s:{s:s, s:s}, s:[{s:s, s:s}]}", "matcher", "id",
                                                    "byName", "options", p->targets[i].legend, "properties",
                                                    "id", "unit", "value", p->units[i]));
    return list;
}

static json_t *options_of(const struct panel *p)
{
    json_t *last = json_pack("{s:b, s:[s], s:s}", "values", 0, "calcs", "lastNotNull", "fields", "");

    switch (p->kind) {
    case TIMESERIES:
    case SQL_SERIES:
        json_decref(last);
        return json_pack("{s:{s:s, s:s, s:b}, s:{s:s, s:s}}", "legend", "displayMode", "list", "placement",
                         "bottom", "showLegend", 1, "tooltip", "mode", "multi", "sort", "desc");
    case STATES:
        json_decref(last);
        return json_pack("{s:b, s:s, s:f, s:s}", "mergeValues", 1, "showValue", "auto", "rowHeight", 0.9,
                         "alignValue", "left");
    case TABLE:
    case SQL_TABLE:
        json_decref(last);
        return json_pack("{s:b, s:s}", "showHeader", 1, "cellHeight", "sm");
    case BARCHART:
        json_decref(last);
        return json_pack("{s:s, s:s, s:{s:b, s:s, s:s}}", "orientation", "horizontal", "xField", "model",
                         "legend", "showLegend", 0, "displayMode", "list", "placement", "bottom");
    case SQL_BARS: /* a bar per row */
        (void)json_object_set_new(last, "values", json_true());
        return json_pack("{s:o, s:s, s:s}", "reduceOptions", last, "orientation", "horizontal", "displayMode",
                         "gradient");
    case BARS:
    case BUCKETS:
        return json_pack("{s:o, s:s, s:s}", "reduceOptions", last, "orientation", "horizontal", "displayMode",
                         "gradient");
    case PIE:
        return json_pack("{s:o, s:s, s:{s:s, s:s, s:b}}", "reduceOptions", last, "pieType", "pie", "legend",
                         "displayMode", "table", "placement", "right", "showLegend", 1);
    case STAT:
        return json_pack("{s:o, s:s, s:s}", "reduceOptions", last, "colorMode", "value", "graphMode", "area");
    default:
        return json_pack("{s:o, s:s}", "reduceOptions", last, "orientation", "auto");
    }
}

/* A table's queries become columns of one row per key. */
static json_t *transformations_of(const struct panel *p)
{
    json_t *names = json_object();

    if (p->kind != TABLE) {
        json_decref(names);
        return NULL;
    }
    for (size_t i = 0; i < PANEL_TARGETS_MAX && p->targets[i].query; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "Value #%c", (char)('A' + i));
        (void)json_object_set_new(names, name, json_string(p->targets[i].legend));
    }
    return json_pack("[{s:s, s:{}}, {s:s, s:{s:{s:b}, s:o}}]", "id", "merge", "options", "id", "organize",
                     "options", "excludeByName", "Time", 1, "renameByName", names);
}

static json_t *description_of(const struct render *r, const struct panel *p)
{
    struct buf text AUTO(buf_release) = {0};

    buf_addz(&text, p->description);
    if (p->alert && !strstr(r->runbooks, "://"))
        buf_addf(&text, " Runbook: aigwctl alerts list --explain %s", p->alert);
    if (p->alert && strstr(r->runbooks, "://")) {
        buf_addf(&text, " Runbook: [%s](%s#", p->alert, r->runbooks);
        for (const char *z = p->alert; *z; z++)
            buf_addc(&text, (char)tolower((unsigned char)*z));
        buf_addc(&text, ')');
    }
    return json_string(text.p);
}

/* ---- putting together ----------------------------------------------------------------------------------------------- */

static json_t *place(struct render *r, int columns, int lines)
{
    json_t *at;

    if (r->x + columns > 24) {
        r->y += r->height;
        r->x = r->height = 0;
    }
    at = json_pack("{s:i, s:i, s:i, s:i}", "x", r->x, "y", r->y, "w", columns, "h", lines);
    r->x += columns;
    if (lines > r->height)
        r->height = lines;
    return at;
}

static json_t *render_panel(struct render *r, const struct panel *p)
{
    json_t *o = json_pack("{s:i, s:s, s:s, s:o, s:o, s:o, s:{s:o, s:o}, s:o, s:o}", "id", r->next_id++,
                          "type", TYPES[p->kind], "title", p->title, "description", description_of(r, p),
                          "datasource", source_of(r, p->kind), "gridPos", place(r, p->columns, p->lines),
                          "fieldConfig", "defaults", defaults_of(p), "overrides", overrides_of(p), "options",
                          options_of(p), "targets", targets_of(r, p));
    json_t *transformations = transformations_of(p);

    if (transformations)
        (void)json_object_set_new(o, "transformations", transformations);
    return o;
}

static json_t *render_row(struct render *r, const char *title)
{
    r->x = 24; /* what follows begins a line */
    return json_pack("{s:i, s:s, s:s, s:b, s:o, s:[]}", "id", r->next_id++, "type", "row", "title", title,
                     "collapsed", 0, "gridPos", place(r, 24, 1), "panels");
}

static json_t *query_variable(const struct render *r, const char *name, const char *label, const char *query)
{
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:s, s:{s:s, s:s}, s:i, s:b, s:b, s:s, s:i, s:{s:b, s:[s], s:[s]}}", "name",
        name, "type", "query", "label", label, "datasource", source_of(r, TIMESERIES), "definition", query,
        "query", "query", query, "refId", name, "refresh", 2, "multi", 1, "includeAll", 1, "allValue", ".+",
        "sort", 1, "current", "selected", 1, "text", "All", "value", "$__all");
}

static json_t *variables(const struct render *r)
{
    json_t *list = json_array();

    if (!r->datasource)
        (void)json_array_append_new(list,
                                    json_pack("{s:s, s:s, s:s, s:s, s:i, s:b, s:b}", "name", "datasource",
                                              "type", "datasource", "label", "Data source", "query",
                                              "prometheus", "refresh", 1, "multi", 0, "includeAll", 0));
    (void)json_array_append_new(list,
                                query_variable(r, "job", "Job", "label_values(aigateway_build_info, job)"));
    (void)json_array_append_new(
        list, query_variable(r, "instance", "Instance",
                             "label_values(aigateway_build_info{job=~\"$job\"}, instance)"));
    if (r->d->variables & BY_PROVIDER)
        (void)json_array_append_new(
            list, query_variable(r, "provider", "Provider",
                                 "label_values(model_inference_requests_total{job=~\"$job\"}, provider)"));
    if (r->d->variables & BY_TENANT)
        (void)json_array_append_new(
            list, query_variable(r, "tenant_id", "Tenant",
                                 "label_values(aigateway_requests_total{job=~\"$job\"}, tenant_id)"));
    return list;
}

static json_t *annotations(const struct render *r)
{
    bool is_anomaly = strcmp(r->d->file, "anomaly-detection") == 0;

    return json_pack("{s:[{s:s, s:o, s:b, s:s, s:s, s:s, s:s}]}", "list", "name",
                     is_anomaly ? "Detected anomalies" : "Critical alerts", "datasource",
                     source_of(r, TIMESERIES), "enable", 1, "iconColor", is_anomaly ? "orange" : "red",
                     "expr",
                     is_anomaly ? "ALERTS{category=\"anomaly_detection\",alertstate=\"firing\"}"
                                : "ALERTS{severity=\"critical\",alertstate=\"firing\"}",
                     "titleFormat", "{{alertname}}", "textFormat", "{{provider}} {{model}} {{tenant_id}}");
}

json_t *dashboard_render(size_t i, const char *datasource, const char *runbooks)
{
    const struct entry *e = entry_of(i), *end = end_of(e);
    struct render r = {.d = &e->dashboard, .datasource = datasource, .runbooks = runbooks, .next_id = 1};
    json_t *panels = json_array();
    char uid[64];

    (void)snprintf(uid, sizeof(uid), "gatewayd-%s", r.d->file);
    for (e++; e < end; e++)
        (void)json_array_append_new(panels, e->type == ENTRY_ROW ? render_row(&r, e->row)
                                                                 : render_panel(&r, &e->panel));
    return json_pack(
        "{s:s, s:n, s:s, s:s, s:s, s:[s], s:b, s:i, s:i, s:i, s:s, s:{s:s, s:s}, s:s, s:{s:o}, s:o, s:o}",
        "__generator", "aigwctl dashboards render", "id", "uid", uid, "title", r.d->title, "description",
        r.d->description, "tags", "ai-gateway", "editable", 0, "graphTooltip", 1, "schemaVersion", 39,
        "version", 1, "timezone", "utc", "time", "from", "now-6h", "to", "now", "refresh", "30s",
        "templating", "list", variables(&r), "annotations", annotations(&r), "panels", panels);
}

char *dashboard_text(const json_t *dashboard)
{
    char *text = json_dumps(dashboard, JSON_INDENT(2)), *line;
    size_t n = text ? strlen(text) : 0;

    line = text ? realloc(text, n + 2) : NULL;
    if (!line)
        abort();
    line[n] = '\n';
    line[n + 1] = '\0';
    return line;
}
