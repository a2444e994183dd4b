/* SPDX-License-Identifier: Apache-2.0 */
/* `alerts check`: rule files of any origin, read with our own eyes, then by promtool where there is one.
 *
 * Two grades: invalid (Prometheus would not load it, exit 11) and lint (it loads, and is not what one wants, exit 10). A
 * family that is announced and not exposed yet is a note: it is listed and does not change the exit code. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aigwctl/alerts.h"
#include "libshared/catalog/metrics.h"
#include "libshared/catalog/promql.h"
#include "libshared/yaml/yaml_doc.h"

enum grade { GRADE_NOTE, GRADE_LINT, GRADE_INVALID };

struct check {
    const char *file;
    json_t *found;                  /* rows */
    json_t *recorded;               /* names that the file itself records */
    json_t *seen;                   /* alert names and group names so far */
    json_t *live;                   /* names of a scrape, or NULL */
    json_t *told;                   /* metric names already complained about */
    const struct alerts_pick *pick; /* what the gateway asks for, or NULL */
    const struct yaml_node *rule;
    const char *rule_name;
    enum grade worst;
    unsigned alerts, records;
    bool is_operators; /* a PrometheusRule, which promtool does not read */
};

static const struct table_column COLUMNS[] = {{"place", "PLACE", FORM_TEXT},
                                              {"grade", "GRADE", FORM_TEXT},
                                              {"rule", "RULE", FORM_TEXT},
                                              {"message", "MESSAGE", FORM_TEXT},
                                              {0}};

static void complain(struct check *c, enum grade g, const struct yaml_node *at, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
static void complain(struct check *c, enum grade g, const struct yaml_node *at, const char *fmt, ...)
{
    static const char *const GRADES[] = {"note", "lint", "invalid"};
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (g > c->worst)
        c->worst = g;
    (void)json_array_append_new(c->found, json_pack("{s:o, s:s, s:s, s:s}", "place",
                                                    json_sprintf("%s:%u", c->file, at ? at->place.line : 0),
                                                    "grade", GRADES[g], "rule",
                                                    c->rule_name ? c->rule_name : "", "message", text));
}

static const char *text_of(const struct yaml_node *n)
{
    return n && n->type == NODE_TEXT ? n->text.p : NULL;
}

static void unknown_keys(struct check *c, const struct yaml_node *map, const char *const *known,
                         const char *what)
{
    for (const struct yaml_item *i = map->items; i; i = i->next) {
        bool is_known = false;

        for (const char *const *k = known; *k; k++)
            is_known |= span_is(i->key->text, *k);
        if (!is_known)
            complain(c, GRADE_INVALID, i->key, "a %s has no member '%s'", what, i->key->text.p);
    }
}

static bool is_name(const char *z, bool with_colons)
{
    if (!isalpha((unsigned char)*z) && *z != '_' && !(with_colons && *z == ':'))
        return false;
    for (; *z; z++)
        if (!isalnum((unsigned char)*z) && *z != '_' && !(with_colons && *z == ':'))
            return false;
    return true;
}

static void check_time(struct check *c, const struct yaml_node *rule, const char *key)
{
    const struct yaml_node *n = yaml_get(rule, key);
    double seconds;

    if (n && (!text_of(n) || (strcmp(text_of(n), "0") != 0 && !alert_seconds(text_of(n), &seconds))))
        complain(c, GRADE_INVALID, n, "'%s' is a length of time such as 5m", key);
}

static void check_map(struct check *c, const struct yaml_node *map, const char *what)
{
    if (map && map->type != NODE_MAP) {
        complain(c, GRADE_INVALID, map, "%s are names with values", what);
        return;
    }
    for (const struct yaml_item *i = map ? map->items : NULL; i; i = i->next) {
        const char *opened = text_of(i->value);

        if (!is_name(i->key->text.p, false))
            complain(c, GRADE_INVALID, i->key, "'%s' is no name of a label", i->key->text.p);
        if (!opened)
            complain(c, GRADE_INVALID, i->value, "'%s' is a text", i->key->text.p);
        while (opened && (opened = strstr(opened, "{{"))) {
            if (!strstr(opened, "}}")) {
                complain(c, GRADE_INVALID, i->value, "'%s' opens '{{' and does not close it", i->key->text.p);
                break;
            }
            opened = strstr(opened, "}}");
        }
    }
}

/* ---- metric names --------------------------------------------------------------------------------------------------- */

static bool has(const json_t *set, struct span name)
{
    char text[256];

    (void)span_copy(text, sizeof(text), name);
    return json_object_get(set, text) != NULL;
}

static void add(json_t *set, struct span name)
{
    char text[256];

    (void)span_copy(text, sizeof(text), name);
    (void)json_object_set_new(set, text, json_true());
}

static bool is_off(const struct check *c, struct span name)
{
    size_t n;
    const struct metric_row *r = metric_of_sample(name, &n);

    return r && !metric_is_shown(r, c->pick->profiles ? c->pick->profiles : METRIC_PROFILES_DEFAULT);
}

/* Every rule that reads it is named: it will stay silent. */
static void tell_off(struct check *c, struct span name)
{
    char key[400];

    (void)snprintf(key, sizeof(key), "%.120s %.*s", c->rule_name ? c->rule_name : "", (int)name.len, name.p);
    if (json_object_get(c->told, key))
        return;
    (void)json_object_set_new(c->told, key, json_true());
    complain(c, GRADE_LINT, c->rule, "'%.*s' is switched off by the gateway's metrics.profiles",
             (int)name.len, name.p);
}

static void check_metric(struct span name, void *ctx)
{
    struct check *c = ctx;
    enum metric_standing s = metric_standing(name);
    bool is_ours = has(c->recorded, name);

    if (c->live && s == METRIC_IS_EXPOSED && !is_ours && is_off(c, name))
        tell_off(c, name);
    if (has(c->told, name))
        return;
    add(c->told, name);
    if (s == METRIC_IS_PLANNED && !is_ours)
        complain(c, GRADE_NOTE, c->rule, "waits for '%.*s', which is announced and not exposed yet",
                 (int)name.len, name.p);
    else if (s == METRIC_IS_RECORDED && !is_ours)
        complain(c, GRADE_LINT, c->rule, "'%.*s' is recorded by a rule that this file does not hold",
                 (int)name.len, name.p);
    else if (s == METRIC_IS_UNKNOWN && !is_ours)
        complain(c, GRADE_LINT, c->rule, "the catalogue has no metric '%.*s'", (int)name.len, name.p);
    if (c->live && s == METRIC_IS_EXPOSED && !is_ours && !is_off(c, name) && !has(c->live, name))
        complain(c, GRADE_LINT, c->rule, "the scrape has no metric '%.*s'", (int)name.len, name.p);
}

/* ---- rules ---------------------------------------------------------------------------------------------------------- */

static void check_severity(struct check *c, const struct yaml_node *rule)
{
    const struct yaml_node *labels = yaml_get(rule, "labels"), *notes = yaml_get(rule, "annotations");
    const char *severity = text_of(yaml_get(labels, "severity"));
    enum alert_severity s;

    if (!severity)
        complain(c, GRADE_LINT, rule, "no label 'severity', so no route takes it");
    else if (!alert_severity_of(severity, &s))
        complain(c, GRADE_LINT, yaml_get(labels, "severity"),
                 "severity is critical, warning or info, not '%s'", severity);
    if (!yaml_get(notes, "summary"))
        complain(c, GRADE_LINT, rule, "no annotation 'summary'");
    if (!yaml_get(notes, "runbook_url"))
        complain(c, GRADE_LINT, rule, "no annotation 'runbook_url'");
    if (!yaml_get(rule, "for"))
        complain(c, GRADE_LINT, rule, "no 'for': one bad sample fires it");
}

/* White space does not count. */
static bool is_same(const char *a, const char *b)
{
    for (;;) {
        while (isspace((unsigned char)*a))
            a++;
        while (isspace((unsigned char)*b))
            b++;
        if (*a != *b)
            return false;
        if (!*a)
            return true;
        a++;
        b++;
    }
}

static const char *implied_by(const struct alerts_pick *p, const char *rule)
{
    for (size_t i = 0; i < p->n_implied; i++)
        if (strcmp(p->implied[i].rule, rule) == 0)
            return p->implied[i].option;
    return NULL;
}

/* A rule of ours whose parameters the gateway's configuration has a say in is as `generate --live` would write it. */
static void check_against_live(struct check *c, const struct yaml_node *rule, const char *name,
                               const char *expr)
{
    const struct alert_row *row = alert_find(name);
    const char *option = row ? implied_by(c->pick, name) : NULL, *for_time = text_of(yaml_get(rule, "for"));
    struct buf want AUTO(buf_release) = {0};
    double has_s = 0, want_s = 0;

    if (!option)
        return;
    (void)alert_seconds(alert_value(&c->pick->settings, row, "for"), &want_s);
    if (for_time && alert_seconds(for_time, &has_s) && lround(has_s) != lround(want_s))
        complain(c, GRADE_LINT, yaml_get(rule, "for"), "'for' is %s, and the gateway (%s) asks for %s",
                 for_time, option, alert_value(&c->pick->settings, row, "for"));
    alerts_expr(&want, c->pick, row);
    if (!is_same(expr, want.p))
        complain(c, GRADE_LINT, yaml_get(rule, "expr"),
                 "not what the gateway (%s) asks for, which 'alerts generate --live' writes: %.300s", option,
                 want.p);
}

static void check_twice(struct check *c, const struct yaml_node *at, const char *kind, const char *name)
{
    char key[300];

    (void)snprintf(key, sizeof(key), "%s %.250s", kind, name);
    if (json_object_get(c->seen, key))
        complain(c, strcmp(kind, "group") == 0 ? GRADE_INVALID : GRADE_LINT, at, "a second %s named '%s'",
                 kind, name);
    (void)json_object_set_new(c->seen, key, json_true());
}

static void check_rule(struct check *c, const struct yaml_node *rule)
{
    static const char *const OF_ALERT[] = {"alert",  "expr",        "for", "keep_firing_for",
                                           "labels", "annotations", NULL};
    static const char *const OF_RECORD[] = {"record", "expr", "labels", NULL};
    const char *alert = text_of(yaml_get(rule, "alert")), *record = text_of(yaml_get(rule, "record"));
    const char *expr = text_of(yaml_get(rule, "expr"));
    struct err err = {0};

    c->rule = rule;
    c->rule_name = alert ? alert : record;
    if (rule->type != NODE_MAP || !alert == !record) {
        complain(c, GRADE_INVALID, rule, "a rule has either 'alert' or 'record'");
        return;
    }
    unknown_keys(c, rule, alert ? OF_ALERT : OF_RECORD, alert ? "rule that alerts" : "rule that records");
    if (record && !is_name(record, true))
        complain(c, GRADE_INVALID, rule, "'%s' is no name of a metric", record);
    if (!expr)
        complain(c, GRADE_INVALID, rule, "no 'expr'");
    else if (promql_check(span_of(expr), &err))
        complain(c, GRADE_INVALID, yaml_get(rule, "expr"), "%s", err_text(&err));
    else
        promql_metrics(span_of(expr), check_metric, c);
    check_time(c, rule, "for");
    check_time(c, rule, "keep_firing_for");
    check_map(c, yaml_get(rule, "labels"), "labels");
    check_map(c, yaml_get(rule, "annotations"), "annotations");
    c->alerts += alert != NULL;
    c->records += record != NULL;
    if (alert) {
        check_twice(c, rule, "alert", alert);
        check_severity(c, rule);
        if (c->pick && expr)
            check_against_live(c, rule, alert, expr);
    }
}

static void check_group(struct check *c, const struct yaml_node *group)
{
    static const char *const KNOWN[] = {
        "name", "interval", "limit", "query_offset", "labels", "partial_response_strategy", "rules", NULL};
    const struct yaml_node *rules = yaml_get(group, "rules");
    const char *name = text_of(yaml_get(group, "name"));

    c->rule_name = NULL;
    if (group->type != NODE_MAP || !name) {
        complain(c, GRADE_INVALID, group, "a group has a 'name'");
        return;
    }
    unknown_keys(c, group, KNOWN, "group");
    check_twice(c, group, "group", name);
    check_time(c, group, "interval");
    if (!rules || rules->type != NODE_LIST) {
        complain(c, GRADE_INVALID, group, "group '%s' has no list of 'rules'", name);
        return;
    }
    for (const struct yaml_item *i = rules->items; i; i = i->next)
        check_rule(c, i->value);
}

static void note_recorded(struct check *c, const struct yaml_node *groups)
{
    for (const struct yaml_item *g = groups->items; g; g = g->next) {
        const struct yaml_node *rules = yaml_get(g->value, "rules");

        for (const struct yaml_item *i = rules && rules->type == NODE_LIST ? rules->items : NULL; i;
             i = i->next)
            if (text_of(yaml_get(i->value, "record")))
                add(c->recorded, span_of(text_of(yaml_get(i->value, "record"))));
    }
}

static void check_text(struct check *c, struct span text)
{
    static const struct yaml_limits LIMITS = {.max_bytes = 16u << 20, .max_depth = 16, .max_nodes = 200000};
    struct yaml_node here = {0};
    struct err err = {0};
    struct yaml_doc *d = yaml_doc_new(text, &LIMITS, &here.place, &err);
    const struct yaml_node *root = d ? yaml_doc_root(d) : NULL, *groups = yaml_get(root, "groups");

    if (root && !groups)
        groups = yaml_get(yaml_get(root, "spec"), "groups");
    c->is_operators = groups && !yaml_get(root, "groups");
    if (!d) {
        complain(c, GRADE_INVALID, &here, "%s", err_text(&err));
    } else if (!groups || groups->type != NODE_LIST) {
        complain(c, GRADE_INVALID, root, "no list of 'groups'");
    } else {
        note_recorded(c, groups);
        for (const struct yaml_item *i = groups->items; i; i = i->next)
            check_group(c, i->value);
    }
    yaml_doc_free(d);
}

/* ---- a live scrape -------------------------------------------------------------------------------------------------- */

/* Names of families with a TYPE line, and of every sample. */
static void take_names(json_t *set, struct span text)
{
    while (text.p) {
        struct span line = span_split(&text, '\n');

        if (span_starts(line, SPAN_LIT("# TYPE "))) {
            line = span_make(line.p + 7, line.len - 7);
            add(set, span_split(&line, ' '));
        } else if (line.len && line.p[0] != '#') {
            size_t n = 0;

            while (n < line.len && line.p[n] != '{' && line.p[n] != ' ')
                n++;
            add(set, span_make(line.p, n));
        }
    }
}

/* A histogram that has no sample yet has its TYPE line. */
static void add_parts(json_t *set)
{
    static const char *const ENDS[] = {"_bucket", "_sum", "_count"};
    json_t *copy = json_copy(set), *value;
    const char *name;

    json_object_foreach(copy, name, value)
    {
        for (size_t i = 0; i < ARRAY_LEN(ENDS); i++) {
            char text[280];

            (void)snprintf(text, sizeof(text), "%.250s%s", name, ENDS[i]);
            (void)json_object_set_new(set, text, json_true());
        }
    }
    json_decref(copy);
}

int alerts_scrape_names(struct ctl *ctl, json_t **out)
{
    struct api_answer a = {0};
    int rc = ctl_call(ctl, "GET", "/metrics", (struct span){0}, &a);

    if (!rc && a.status != 200)
        rc = ctl_refused(&a);
    if (!rc) {
        *out = json_object();
        take_names(*out, buf_span(&a.body));
        add_parts(*out);
    }
    api_answer_release(&a);
    return rc;
}

/* ---- promtool ------------------------------------------------------------------------------------------------------- */

/* The exit code of `promtool check rules`, -1 without one. What came by standard input goes through a file. */
static int promtool(const char *file, struct span text, struct buf *said)
{
    char temp[] = "/tmp/aigwctl-rules-XXXXXX";
    bool is_stdin = strcmp(file, "-") == 0;
    const char *argv[] = {"promtool", "check", "rules", is_stdin ? temp : file, NULL};
    int fd = is_stdin ? mkstemp(temp) : -1, rc;

    if (is_stdin && (fd < 0 || write(fd, text.p, text.len) != (ssize_t)text.len)) {
        if (fd >= 0) {
            (void)close(fd);
            (void)unlink(temp);
        }
        return -1;
    }
    if (fd >= 0)
        (void)close(fd);
    rc = tool_run(said, argv);
    if (is_stdin)
        (void)unlink(temp);
    return rc;
}

static int check_file(struct ctl *ctl, const char *file, struct check *c)
{
    struct buf text AUTO(buf_release) = {.max = 16u << 20}, said AUTO(buf_release) = {.max = 1u << 20};
    int rc = tool_read(file, &text), tool;

    if (rc)
        return rc;
    c->file = file;
    check_text(c, buf_span(&text));
    tool = c->is_operators ? -1 : promtool(file, buf_span(&text), &said);
    c->rule_name = NULL;
    if (tool > 0)
        complain(c, GRADE_INVALID, NULL, "promtool: %.400s", said.p ? said.p : "");
    if (ctl->output == OUTPUT_TABLE) {
        struct buf line AUTO(buf_release) = {0};

        buf_addf(&line, "%s: %u alerts, %u recorded series; built-in lint%s",
                 strcmp(file, "-") == 0 ? "standard input" : file, c->alerts, c->records,
                 tool >= 0         ? " and promtool check rules"
                 : c->is_operators ? " (promtool does not read a PrometheusRule)"
                                   : " (promtool is not installed)");
        ctl_put_text(stdout, line.p, 0);
        (void)putchar('\n');
    }
    return CLI_OK;
}

static void release(struct check *c)
{
    json_decref(c->found);
    json_decref(c->recorded);
    json_decref(c->seen);
    json_decref(c->live);
    json_decref(c->told);
}

static void report(struct ctl *ctl, const struct check *c)
{
    size_t i;
    json_t *row;

    if (ctl->output != OUTPUT_TABLE) {
        ctl_print(ctl, stdout, "alerts_check", COLUMNS, c->found, NULL);
        return;
    }
    json_array_foreach(c->found, i, row)
    {
        const char *rule = json_string_value(json_object_get(row, "rule"));
        struct buf line AUTO(buf_release) = {0};

        buf_addf(&line, "%s: %s: %s%s%s", json_string_value(json_object_get(row, "place")),
                 json_string_value(json_object_get(row, "grade")), rule ? rule : "",
                 rule && *rule ? ": " : "", json_string_value(json_object_get(row, "message")));
        ctl_put_text(stdout, line.p, 0);
        (void)putchar('\n');
    }
}

int alerts_check(struct ctl *ctl, char **files, int n, const struct alerts_pick *live)
{
    struct check c = {.found = json_array(), .pick = live};
    int rc = live ? alerts_scrape_names(ctl, &c.live) : CLI_OK;

    for (int i = 0; i < n && !rc; i++) {
        json_decref(c.recorded);
        json_decref(c.seen);
        json_decref(c.told);
        c.recorded = json_object();
        c.seen = json_object();
        c.told = json_object();
        c.alerts = c.records = 0;
        rc = check_file(ctl, files[i], &c);
    }
    if (!rc) {
        report(ctl, &c);
        rc = c.worst == GRADE_INVALID ? CLI_CRITICAL : c.worst == GRADE_LINT ? CLI_WARNING : CLI_OK;
    }
    release(&c);
    return rc;
}
