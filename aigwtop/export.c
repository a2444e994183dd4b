/* SPDX-License-Identifier: Apache-2.0 */
/* Pure. Numbers are numbers with their unit in the key, unknown is empty, null or left out, and every format parses: names from
 * stores are escaped by the rules of each. */
#include "aigwtop/export.h"

#include <math.h>
#include <string.h>

#include "libshared/cli/csv.h"
#include "libshared/cli/term.h"

static const char *const NAMES[EXPORT_FORMS] = {"table", "csv", "json", "ndjson", "prom"};

bool export_parse(const char *name, enum export_form *out)
{
    for (int i = 0; i < EXPORT_FORMS; i++)
        if (strcmp(NAMES[i], name) == 0) {
            *out = (enum export_form)i;
            return true;
        }
    return false;
}

const char *export_name(enum export_form f)
{
    return NAMES[f];
}

static bool is_wanted(const struct table *t, const struct export_how *how, size_t i)
{
    enum form f = t->columns[i].form;

    return how->columns ? (how->columns >> i & 1) != 0 : f != FORM_TREND && f != FORM_BAR;
}

static bool is_number(const struct value *v)
{
    return v->kind == VALUE_NUMBER && isfinite(v->n);
}

/* Enough digits for cents of large sums, and for what it is. */
static void add_number(struct buf *b, double v)
{
    if (fabs(v) < 9e15 && v == floor(v))
        buf_addf(b, "%.0f", v);
    else
        buf_addf(b, "%.9g", fabs(v) < 1e6 ? v : round(v * 1000) / 1000);
}

static void add_time(struct buf *b, double seconds)
{
    char at[WALL_TEXT_CAP];

    (void)wall_format((struct wall){(int64_t)(seconds * 1e6)}, at, sizeof(at));
    buf_addz(b, at);
}

/* ---- CSV ------------------------------------------------------------------------------------------------------------- */

static void csv(const struct table *t, const struct export_how *how, struct buf *b)
{
    char at[WALL_TEXT_CAP];

    (void)wall_format(how->now, at, sizeof(at));
    if (how->has_header) {
        buf_addz(b, "time");
        for (size_t i = 0; i < t->n_columns; i++)
            if (is_wanted(t, how, i))
                buf_addf(b, ",%s", t->columns[i].key);
        buf_addc(b, '\n');
    }
    for (size_t k = 0; k < t->lines.n; k++) {
        buf_addz(b, at);
        for (size_t i = 0; i < t->n_columns; i++) {
            const struct value *v = &t->lines.v[k].v[i];

            if (!is_wanted(t, how, i))
                continue;
            buf_addc(b, ',');
            if (v->kind == VALUE_TEXT)
                csv_add_text(b, v->z);
            else if (is_number(v) && t->columns[i].form == FORM_CLOCK)
                add_time(b, v->n);
            else if (is_number(v))
                add_number(b, v->n);
        }
        buf_addc(b, '\n');
    }
}

/* ---- JSON ------------------------------------------------------------------------------------------------------------ */

static void add_json_value(struct buf *b, const struct value *v, enum form form)
{
    if (v->kind == VALUE_TEXT) {
        buf_add_json(b, span_of(v->z));
    } else if (v->kind == VALUE_TREND) {
        buf_addc(b, '[');
        for (unsigned i = 0; i < TREND_MAX; i++) {
            buf_addz(b, i ? "," : "");
            if (isfinite(v->trend[i]))
                add_number(b, (double)v->trend[i]);
            else
                buf_addz(b, "null");
        }
        buf_addc(b, ']');
    } else if (is_number(v) && form == FORM_CLOCK) {
        buf_addc(b, '"');
        add_time(b, v->n);
        buf_addc(b, '"');
    } else if (is_number(v)) {
        add_number(b, v->n);
    } else {
        buf_addz(b, "null");
    }
}

static void add_json_row(const struct table *t, const struct export_how *how, const struct line *l,
                         struct buf *b)
{
    bool is_first = true;

    for (size_t i = 0; i < t->n_columns; i++) {
        if (!is_wanted(t, how, i))
            continue;
        buf_addf(b, "%s\"%s\":", is_first ? "" : ",", t->columns[i].key);
        add_json_value(b, &l->v[i], t->columns[i].form);
        is_first = false;
    }
    if (t->view == VIEW_TENANTS) {
        buf_addz(b, is_first ? "\"account\":" : ",\"account\":");
        buf_add_json(b, span_of(l->key));
    }
}

static void json(const struct table *t, const struct export_how *how, struct buf *b)
{
    char at[WALL_TEXT_CAP];

    (void)wall_format(how->now, at, sizeof(at));
    buf_addf(b, "{\"schema\":\"gatewayd.top.%s/1\",\"generated_at\":\"%s\",\"source\":", view_name(t->view),
             at);
    buf_add_json(b, span_of(how->source));
    buf_addf(b, ",\"stale\":%s,\"warnings\":[],\"data\":[", how->is_stale ? "true" : "false");
    for (size_t k = 0; k < t->lines.n; k++) {
        buf_addz(b, k ? ",{" : "{");
        add_json_row(t, how, &t->lines.v[k], b);
        buf_addc(b, '}');
    }
    buf_addz(b, "]}\n");
}

static void ndjson(const struct table *t, const struct export_how *how, struct buf *b)
{
    char at[WALL_TEXT_CAP];

    (void)wall_format(how->now, at, sizeof(at));
    for (size_t k = 0; k < t->lines.n; k++) {
        buf_addf(b, "{\"time\":\"%s\",", at);
        add_json_row(t, how, &t->lines.v[k], b);
        buf_addz(b, "}\n");
    }
}

/* ---- Prometheus text ------------------------------------------------------------------------------------------------- */

static void add_label(struct buf *b, const char *name, const char *z)
{
    buf_addf(b, "%s=\"", name);
    for (; *z; z++) {
        size_t n = *z == '\n' ? 0 : term_control(span_of(z));

        if (*z == '\\' || *z == '"')
            buf_addc(b, '\\');
        if (*z == '\n')
            buf_addz(b, "\\n");
        else
            buf_addc(b, n ? '?' : *z);
        z += n > 1 ? n - 1 : 0;
    }
    buf_addc(b, '"');
}

/* A row is told by what names it: its provider, and what the table is about. */
static void add_labels(const struct table *t, const struct line *l, struct buf *b)
{
    bool is_first = true;

    buf_addc(b, '{');
    for (size_t i = 0; i < t->n_columns; i++) {
        const struct column *c = &t->columns[i];

        if (l->v[i].kind != VALUE_TEXT || (c->form != FORM_NAME && strcmp(c->key, "provider") != 0))
            continue;
        if (!is_first)
            buf_addc(b, ',');
        add_label(b, c->key, t->view == VIEW_TENANTS ? l->key : l->v[i].z);
        is_first = false;
    }
    buf_addc(b, '}');
}

static void prom(const struct table *t, const struct export_how *how, struct buf *b)
{
    for (size_t i = 0; i < t->n_columns; i++) {
        const struct column *c = &t->columns[i];
        bool has_head = false;

        if (!is_wanted(t, how, i) || t->view == VIEW_ERRORS || t->view == VIEW_ANOMALIES)
            continue;
        for (size_t k = 0; k < t->lines.n; k++) {
            if (!is_number(&t->lines.v[k].v[i]))
                continue;
            if (!has_head)
                buf_addf(b, "# HELP aigwtop_%s_%s %s\n# TYPE aigwtop_%s_%s gauge\n", view_name(t->view),
                         c->key, c->text, view_name(t->view), c->key);
            has_head = true;
            buf_addf(b, "aigwtop_%s_%s", view_name(t->view), c->key);
            add_labels(t, &t->lines.v[k], b);
            buf_addc(b, ' ');
            add_number(b, t->lines.v[k].v[i].n);
            buf_addc(b, '\n');
        }
    }
}

void export_table(const struct table *t, const struct export_how *how, struct buf *out)
{
    static void (*const FORMS[EXPORT_FORMS])(const struct table *, const struct export_how *,
                                             struct buf *) = {NULL, csv, json, ndjson, prom};

    FORMS[how->form](t, how, out);
}
