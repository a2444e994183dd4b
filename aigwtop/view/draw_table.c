/* SPDX-License-Identifier: Apache-2.0 */
/* A table in its place: headings, as many rows as fit around the selection, values by their form. */
#include <math.h>
#include <stdio.h>

#include "aigwtop/view/draw_priv.h"

static bool is_right(enum form f)
{
    return f != FORM_NAME && f != FORM_TEXT && f != FORM_STATUS && f != FORM_BREAKER && f != FORM_CLOCK &&
           f != FORM_TREND && f != FORM_BAR;
}

static void draw_heading(struct screen *s, const struct scene *sc, const struct shown *shown, unsigned n,
                         unsigned y)
{
    for (unsigned i = 0; i < n; i++) {
        const struct column *c = &sc->table->columns[shown[i].column];
        char title[VALUE_CAP];

        (void)snprintf(title, sizeof(title), "%s", c->heading);
        if (c->form == FORM_TREND && sc->table->view == VIEW_PROVIDERS)
            (void)snprintf(title, sizeof(title), "P95 %s", ui_span_text(sc->ui));
        if (c->form == FORM_STATUS && shown[i].width < 5)
            (void)snprintf(title, sizeof(title), "ST");
        if (is_right(c->form))
            screen_put_right(s, shown[i].x, y, shown[i].width, STYLE_HEAD, title);
        else
            (void)screen_put(s, shown[i].x, y, shown[i].width, STYLE_HEAD, title);
    }
}

/* "unhealthy" is one letter too long for its place. */
static const char *short_status(const char *z)
{
    return strcmp(z, "unhealthy") == 0 ? "down" : z;
}

static void draw_status(struct screen *s, const struct shown *at, unsigned y, const struct value *v,
                        unsigned dim)
{
    enum level level = dim ? LEVEL_STALE : v->level;
    unsigned style = style_of(level) | dim;

    if (v->kind != VALUE_TEXT)
        return;
    (void)screen_put(s, at->x, y, at->width, style, mark_of(s, level));
    if (at->width > 3)
        (void)screen_put(s, at->x + 2, y, at->width - 2, style, short_status(v->z));
}

static unsigned draw_branch(struct screen *s, const struct scene *sc, const struct line *l, unsigned x,
                            unsigned y, size_t i)
{
    const struct table *t = sc->table;
    bool is_tree = t->view == VIEW_TENANTS && ui_place(sc->ui)->look.is_tree;

    if (!is_tree)
        return 0;
    if (!l->depth) {
        (void)screen_put(s, x, y, 1, STYLE_PLAIN,
                         !l->has_children ? " " : glyph(s, l->is_open ? GLYPH_OPEN : GLYPH_CLOSED));
        return 2;
    }
    (void)screen_put(s, x + 2, y, 2, STYLE_PLAIN,
                     glyph(s, i + 1 < t->lines.n && t->lines.v[i + 1].depth ? GLYPH_BRANCH : GLYPH_LAST));
    return 5;
}

static void draw_name(struct screen *s, const struct scene *sc, const struct line *l, const struct shown *at,
                      unsigned y, const char *text, unsigned style, size_t i)
{
    unsigned used = draw_branch(s, sc, l, at->x, y, i);
    char name[VALUE_CAP + 32];

    if (used >= at->width)
        return;
    if (l->has_children && !l->is_open && sc->table->view == VIEW_TENANTS)
        (void)snprintf(name, sizeof(name), "%s (%u key%s)", text, l->n_children,
                       l->n_children == 1 ? "" : "s");
    else
        (void)snprintf(name, sizeof(name), "%s", text);
    (void)screen_put(s, at->x + used, y, at->width - used, style, name);
}

static void draw_value(struct screen *s, const struct scene *sc, const struct line *l, const struct shown *at,
                       unsigned y, unsigned dim, size_t i)
{
    const struct value *v = &l->v[at->column];
    enum form form = sc->table->columns[at->column].form;
    unsigned style = style_of(dim ? LEVEL_NONE : v->level) | dim;
    char text[VALUE_CAP];

    if (form == FORM_STATUS) {
        draw_status(s, at, y, v, dim);
    } else if (form == FORM_TREND) {
        if (v->kind == VALUE_TREND)
            draw_spark(s, at->x, y, at->width, style, v->trend, TREND_MAX);
    } else if (form == FORM_BAR) {
        if (v->kind == VALUE_NUMBER)
            draw_bar(s, at->x, y, at->width, style, v->n);
    } else {
        bool right = value_text(text, s, v, form, at->width);

        if (form == FORM_BREAKER && at->width < 9 && strcmp(text, "HALF_OPEN") == 0)
            text[4] = '\0';

        /* Stale rates are blank, not zero and not a dash among dashes. */
        if (dim && v->kind == VALUE_NONE)
            return;
        if (form == FORM_NAME)
            draw_name(s, sc, l, at, y, text, style, i);
        else if (right)
            screen_put_right(s, at->x, y, at->width, style, text);
        else
            (void)screen_put(s, at->x, y, at->width, style, text);
    }
}

static void draw_line(struct screen *s, const struct scene *sc, const struct shown *shown, unsigned n,
                      size_t i, unsigned y)
{
    const struct line *l = &sc->table->lines.v[i];
    unsigned dim = fresh_is_stale(sc->fresh.kind) ? STYLE_DIM : 0;

    for (unsigned k = 0; k < n; k++)
        draw_value(s, sc, l, &shown[k], y, dim, i);
    if (i == ui_selected(sc->ui, sc->table))
        screen_add_style(s, 0, y, s->w, STYLE_SELECTED);
}

/* ---- what is said instead of rows ------------------------------------------------------------------------------------ */

static const char *empty_text(const struct scene *sc)
{
    unsigned has = sc->model->lists->has;
    bool is_api = strcmp(sc->model->head.source, "api") == 0;

    if (sc->table->total)
        return "No row matches the filter; * clears it.";
    if (sc->fresh.kind == FRESH_EMPTY)
        return "No gateway has written here yet. Try: aigwctl demo";
    if (sc->fresh.kind == FRESH_WAITING || !sc->model->has_live)
        return "Nothing was read yet.";
    switch (sc->table->view) {
    case VIEW_TENANTS:
        return "No budgets, and no requests of tenants this hour.";
    case VIEW_BREAKERS:
        return has & HAS_BREAKERS ? "No circuit breaker has anything to tell."
                                  : "This source does not tell breakers.";
    case VIEW_ERRORS:
        return has & HAS_ERRORS ? "No errors are stored."
               : is_api         ? "This gateway's API does not list errors; a Redis source does."
                                : "No errors were read yet.";
    case VIEW_ANOMALIES:
        return has & HAS_ANOMALIES ? "No anomalies." : "No anomalies were reported.";
    default:
        return "No traffic was seen yet.";
    }
}

static void scroll(struct place *p, size_t selected, size_t n, unsigned rows)
{
    if (selected < p->top)
        p->top = selected;
    if (selected >= p->top + rows)
        p->top = selected - rows + 1;
    if (p->top + rows > n)
        p->top = n > rows ? n - rows : 0;
}

void draw_table(struct screen *s, const struct scene *sc, unsigned y, unsigned rows)
{
    struct place *p = ui_place(sc->ui);
    struct shown shown[VIEW_COLUMNS_MAX];
    unsigned n = ui_columns(p, sc->table, s->w, shown);
    size_t selected = ui_selected(sc->ui, sc->table);

    draw_heading(s, sc, shown, n, y - 1);
    if (!sc->table->lines.n) {
        (void)screen_put(s, 1, y, 0, STYLE_PLAIN, empty_text(sc));
        return;
    }
    scroll(p, selected, sc->table->lines.n, rows);
    for (unsigned i = 0; i < rows && p->top + i < sc->table->lines.n; i++)
        draw_line(s, sc, shown, n, p->top + i, y + i);
}

/* Trends and bars are pictures for a screen. */
static void hide_pictures(struct place *p, const struct table *t)
{
    for (size_t i = 0; i < t->n_columns; i++)
        if (t->columns[i].form == FORM_TREND || t->columns[i].form == FORM_BAR)
            p->hidden |= ~p->forced & 1u << i;
}

void draw_text(const struct scene *sc, unsigned width, enum glyphs glyphs, struct buf *out)
{
    struct place *p = ui_place(sc->ui);
    struct shown shown[VIEW_COLUMNS_MAX];
    unsigned rows = (unsigned)sc->table->lines.n;
    struct buf text AUTO(buf_release) = {0};
    struct span rest;
    struct screen s;

    hide_pictures(p, sc->table);
    width = (width < LEAST_WIDTH ? LEAST_WIDTH : width) + 1; /* the first cell of a screen is blank */
    while (ui_columns(p, sc->table, width, shown) < (unsigned)__builtin_popcount(p->forced))
        width++;
    screen_init(&s, width, rows + 1, glyphs);
    draw_table(&s, sc, 1, rows);
    screen_text(&s, &text, false);
    screen_release(&s);
    for (rest = buf_span(&text); rest.len;) {
        struct span line = span_split(&rest, '\n');

        buf_add(out, line.len ? span_make(line.p + 1, line.len - 1) : line);
        buf_addc(out, '\n');
    }
}
