/* SPDX-License-Identifier: Apache-2.0 */
/* The rules against the present: one scrape of a gateway judged by each rule's `now`, or every expression asked of a
 * Prometheus; what a Prometheus or an Alertmanager says is firing; and settings that the gateway's own configuration implies.
 *
 *   now      ["count"] metric ["{" matchers "}"] ["/" metric] { comparison number }
 *
 * Each comparison keeps what passes it; with "count" the last one judges how many are left. A ratio is of samples with the
 * same labels. The gauges that these read are windows of five minutes, and `for` is not waited for, so this tells what would
 * begin to fire, not what fires. */
#include <math.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "aigwctl/alerts.h"
#include "aigwctl/look.h"
#include "libshared/catalog/promql.h"

struct sample { /* borrowed from the scrape */
    struct span name, labels;
    double value;
};

struct scrape {
    struct api_answer answer;
    struct sample *samples;
    size_t n;
};

static const struct table_column COLUMNS[] = {
    {"rule", "RULE", FORM_NAME},   {"severity", "SEVERITY", FORM_TEXT},       {"verdict", "NOW", FORM_TEXT},
    {"value", "VALUE", FORM_TEXT}, {"where", "WHERE", FORM_TEXT | FORM_WRAP}, {0}};

/* ---- a scrape ------------------------------------------------------------------------------------------------------- */

static bool take_sample(struct span line, struct sample *out)
{
    size_t n = 0;
    char text[64], *end;
    bool is_quoted = false;

    while (n < line.len && line.p[n] != '{' && line.p[n] != ' ')
        n++;
    *out = (struct sample){.name = span_make(line.p, n)};
    if (n < line.len && line.p[n] == '{') {
        size_t from = ++n;

        for (; n < line.len && (is_quoted || line.p[n] != '}'); n++) {
            if (is_quoted && line.p[n] == '\\')
                n++;
            else if (line.p[n] == '"')
                is_quoted = !is_quoted;
        }
        if (n >= line.len)
            return false;
        out->labels = span_make(line.p + from, n++ - from);
    }
    if (n >= line.len)
        return false;
    (void)span_copy(text, sizeof(text), span_make(line.p + n, line.len - n));
    out->value = strtod(text, &end);
    return end != text;
}

static int take_scrape(struct ctl *ctl, struct scrape *s)
{
    int rc = ctl_call(ctl, "GET", "/metrics", (struct span){0}, &s->answer);
    struct span text = buf_span(&s->answer.body);
    size_t lines = 1;

    if (!rc && s->answer.status != 200)
        rc = ctl_refused(&s->answer);
    if (rc)
        return rc;
    for (size_t i = 0; i < text.len; i++)
        lines += text.p[i] == '\n';
    s->samples = calloc(lines, sizeof(*s->samples));
    if (!s->samples)
        abort();
    while (text.p) {
        struct span line = span_split(&text, '\n');

        if (line.len && line.p[0] != '#' && take_sample(line, &s->samples[s->n]))
            s->n++;
    }
    return CLI_OK;
}

static void release_scrape(struct scrape *s)
{
    api_answer_release(&s->answer);
    free(s->samples);
}

/* ---- one question --------------------------------------------------------------------------------------------------- */

/* The value of a label as it stands, escapes and all. */
static struct span label(struct span labels, struct span name)
{
    while (labels.len) {
        const char *open = memchr(labels.p, '"', labels.len), *end = labels.p + labels.len, *close;
        struct span key;

        if (!open || open == labels.p)
            break;
        key = span_make(labels.p, (size_t)(open - labels.p - 1));
        for (close = open + 1; close < end && *close != '"'; close++)
            close += *close == '\\';
        if (close >= end)
            break;
        if (span_eq(key, name))
            return span_make(open + 1, (size_t)(close - open - 1));
        labels = close + 1 < end ? span_make(close + 2, (size_t)(end - close - 2)) : (struct span){0};
    }
    return (struct span){0};
}

static bool is_like(struct span value, struct span pattern)
{
    char text[512], subject[512];
    regex_t re;
    bool found;

    (void)snprintf(text, sizeof(text), "^(%.*s)$", (int)pattern.len, pattern.p);
    (void)span_copy(subject, sizeof(subject), value);
    if (regcomp(&re, text, REG_EXTENDED | REG_NOSUB))
        return false;
    found = regexec(&re, subject, 0, NULL, 0) == 0;
    regfree(&re);
    return found;
}

/* One matcher: name, how, and a value in quotes. */
static bool passes(struct span labels, struct span matcher)
{
    size_t n = 0;
    bool is_not, is_pattern;
    struct span name, value;

    while (n < matcher.len && !strchr("=!", matcher.p[n]))
        n++;
    name = span_make(matcher.p, n);
    is_not = n < matcher.len && matcher.p[n] == '!';
    is_pattern = n + 1 < matcher.len && matcher.p[n + 1] == '~';
    n += is_not || is_pattern ? 2 : 1;
    if (n + 2 > matcher.len)
        return false;
    value = span_make(matcher.p + n + 1, matcher.len - n - 2);
    return (is_pattern ? is_like(label(labels, name), value) : span_eq(label(labels, name), value)) != is_not;
}

struct question { /* spans into the filled-in text; none of ours has a blank within its quotes */
    struct span name, matcher, over;
    struct {
        char op[3];
        double value;
    } tests[2];
    size_t n_tests;
    bool counts;
};

static struct question read_question(const char *text)
{
    struct question q = {0};
    struct span rest = span_of(text), word;

    while (rest.p) {
        word = span_split(&rest, ' ');
        if (span_is(word, "count")) {
            q.counts = true;
        } else if (span_is(word, "/")) {
            q.over = span_split(&rest, ' ');
        } else if (strchr("<>=!", word.p[0])) {
            (void)span_copy(q.tests[q.n_tests].op, sizeof(q.tests[0].op), word);
            q.tests[q.n_tests].value = strtod(rest.p, NULL);
            q.n_tests++;
            (void)span_split(&rest, ' ');
        } else {
            q.matcher = word;
            q.name = span_split(&q.matcher, '{');
            if (q.matcher.p)
                q.matcher.len--;
        }
    }
    return q;
}

static bool holds(const struct question *q, size_t i, double v)
{
    double than = q->tests[i].value;
    const char *op = q->tests[i].op;

    if (strcmp(op, "<") == 0)
        return v < than;
    if (strcmp(op, ">") == 0)
        return v > than;
    if (strcmp(op, ">=") == 0)
        return v >= than;
    return strcmp(op, "<=") == 0 ? v <= than : !islessgreater(v, than);
}

static double value_of(const struct scrape *s, const struct question *q, const struct sample *one)
{
    if (!q->over.len)
        return one->value;
    for (size_t i = 0; i < s->n; i++)
        if (span_eq(s->samples[i].name, q->over) && span_eq(s->samples[i].labels, one->labels))
            return s->samples[i].value > 0 ? one->value / s->samples[i].value : (double)NAN;
    return (double)NAN;
}

static void add_row(json_t *rows, const struct alert_row *row, const char *verdict, const char *value,
                    struct span where)
{
    struct buf text AUTO(buf_release) = {.max = 4096};

    buf_add(&text, where);
    (void)json_array_append_new(rows,
                                json_pack("{s:s, s:s, s:s, s:s?, s:o}", "rule", row->name, "severity",
                                          alert_severity_name(row->severity), "verdict", verdict, "value",
                                          value, "where", text.len ? json_string(text.p) : json_null()));
}

static void ask_scrape(const struct scrape *s, const struct alerts_pick *p, const struct alert_row *row,
                       json_t *rows)
{
    struct buf text AUTO(buf_release) = {0};
    struct question q;
    size_t seen = 0, firing = 0;
    char value[64];

    alert_fill(&text, &p->settings, row, row->now);
    q = read_question(text.p);
    for (size_t i = 0; i < s->n; i++) {
        const struct sample *one = &s->samples[i];
        double v = span_eq(one->name, q.name) && (!q.matcher.p || passes(one->labels, q.matcher))
                       ? value_of(s, &q, one)
                       : (double)NAN;

        if (isnan(v))
            continue;
        seen++;
        if (!holds(&q, 0, v) || (!q.counts && q.n_tests > 1 && !holds(&q, 1, v)))
            continue;
        firing++;
        (void)snprintf(value, sizeof(value), "%.6g", v);
        if (!q.counts)
            add_row(rows, row, "would fire", value, one->labels);
    }
    (void)snprintf(value, sizeof(value), "%zu", firing);
    if (q.counts && holds(&q, 1, (double)firing))
        add_row(rows, row, "would fire", value, (struct span){0});
    else if (!seen)
        add_row(rows, row, "no data", NULL, (struct span){0});
    else if (!firing || q.counts)
        add_row(rows, row, "quiet", NULL, (struct span){0});
}

/* ---- Prometheus ------------------------------------------------------------------------------------------------------ */

/* {a="b",…} without what the rule itself adds. */
static void add_labels(struct buf *out, const json_t *labels)
{
    static const char *const OURS[] = {"alertname", "severity", "category", "component", "__name__"};
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)labels, name, value)
    {
        bool is_ours = false;

        for (size_t i = 0; i < ARRAY_LEN(OURS); i++)
            is_ours |= strcmp(name, OURS[i]) == 0;
        if (!is_ours)
            buf_addf(out, "%s%s=\"%s\"", out->len ? "," : "", name,
                     json_string_value(value) ? json_string_value(value) : "");
    }
}

static int ask_prometheus(struct ctl *ctl, const char *url, const struct alerts_pick *p,
                          const struct alert_row *row, json_t *rows)
{
    struct buf expr AUTO(buf_release) = {0}, path AUTO(buf_release) = {0};
    json_t *doc, *result, *one;
    size_t i;
    int rc;

    alerts_expr(&expr, p, row);
    buf_addz(&path, "/api/v1/query");
    look_add_param(&path, "query", expr.p);
    rc = tool_get_json(ctl, url, path.p, &doc);
    if (rc)
        return rc;
    result = json_object_get(json_object_get(doc, "data"), "result");
    json_array_foreach(result, i, one)
    {
        struct buf where AUTO(buf_release) = {.max = 4096};

        add_labels(&where, json_object_get(one, "metric"));
        add_row(rows, row, "would fire", json_string_value(json_array_get(json_object_get(one, "value"), 1)),
                buf_span(&where));
    }
    if (!json_array_size(result))
        add_row(rows, row, "quiet", NULL, (struct span){0});
    json_decref(doc);
    return CLI_OK;
}

static int worst_of(const struct ctl *ctl, const json_t *rows)
{
    size_t i;
    json_t *row;
    int rc = CLI_OK;

    json_array_foreach(rows, i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "verdict")), "would fire") != 0)
            continue;
        if (strcmp(json_string_value(json_object_get(row, "severity")), "critical") == 0)
            return ctl->has_exit_code ? CLI_CRITICAL : CLI_OK;
        rc = ctl->has_exit_code ? CLI_WARNING : CLI_OK;
    }
    return rc;
}

int alerts_test_now(struct ctl *ctl, const struct alerts_pick *p, const char *prometheus)
{
    struct scrape s = {0};
    json_t *rows = json_array();
    int rc = prometheus ? CLI_OK : take_scrape(ctl, &s);

    for (size_t i = 0; i < alert_count() && !rc; i++) {
        const struct alert_row *row = alert_row(i);

        if (!alerts_wants(p, row))
            continue;
        if (prometheus)
            rc = ask_prometheus(ctl, prometheus, p, row, rows);
        else if (row->now)
            ask_scrape(&s, p, row, rows);
        else
            add_row(rows, row, "needs history", NULL, (struct span){0});
    }
    if (!rc) {
        ctl_print(ctl, stdout, "alerts_now", COLUMNS, rows, NULL);
        if (!prometheus && ctl->output == OUTPUT_TABLE)
            (void)puts("\n'needs history': one scrape cannot tell; --prometheus URL asks the rule itself.");
        rc = worst_of(ctl, rows);
    }
    json_decref(rows);
    release_scrape(&s);
    return rc;
}

/* ---- what fires ------------------------------------------------------------------------------------------------------ */

static const struct table_column FIRING[] = {{"rule", "RULE", FORM_TEXT},
                                             {"severity", "SEVERITY", FORM_TEXT},
                                             {"state", "STATE", FORM_TEXT},
                                             {"since", "SINCE", FORM_AGE},
                                             {"where", "WHERE", FORM_TEXT | FORM_WRAP},
                                             {"summary", "SUMMARY", FORM_TEXT | FORM_WRAP},
                                             {0}};

static const char *text_at(const json_t *o, const char *member, const char *name)
{
    const char *z = json_string_value(json_object_get(json_object_get(o, member), name));

    return z ? z : "";
}

int alerts_firing(struct ctl *ctl, const char *prometheus, const char *alertmanager)
{
    json_t *doc, *list, *one, *rows;
    size_t i;
    int rc = prometheus ? tool_get_json(ctl, prometheus, "/api/v1/alerts", &doc)
                        : tool_get_json(ctl, alertmanager, "/api/v2/alerts", &doc);

    if (rc)
        return rc;
    rows = json_array();
    list = prometheus ? json_object_get(json_object_get(doc, "data"), "alerts") : doc;
    json_array_foreach(list, i, one)
    {
        struct buf where AUTO(buf_release) = {.max = 4096};
        const char *state =
            prometheus ? json_string_value(json_object_get(one, "state")) : text_at(one, "status", "state");

        add_labels(&where, json_object_get(one, "labels"));
        (void)json_array_append_new(
            rows, json_pack("{s:s, s:s, s:s, s:O?, s:s, s:s}", "rule", text_at(one, "labels", "alertname"),
                            "severity", text_at(one, "labels", "severity"), "state", state ? state : "",
                            "since", json_object_get(one, prometheus ? "activeAt" : "startsAt"), "where",
                            where.p ? where.p : "", "summary", text_at(one, "annotations", "summary")));
    }
    ctl_print(ctl, stdout, "alerts_firing", FIRING, rows, NULL);
    rc = !ctl->has_exit_code || !json_array_size(rows) ? CLI_OK : CLI_WARNING;
    json_array_foreach(rows, i, one)
    {
        if (rc && strcmp(json_string_value(json_object_get(one, "severity")), "critical") == 0)
            rc = CLI_CRITICAL;
    }
    json_decref(rows);
    json_decref(doc);
    return rc;
}
