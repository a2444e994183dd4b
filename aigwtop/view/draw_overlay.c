/* SPDX-License-Identifier: Apache-2.0 */
/* What lies over the screen for a moment: help, settings, choices, one error whole, a command. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "aigwtop/view/draw_priv.h"
#include "libshared/cli/human.h"

void draw_box(struct screen *s, unsigned x, unsigned y, unsigned w, unsigned h, const char *title)
{
    screen_fill(s, x, y, w, h);
    for (unsigned i = 1; i + 1 < w; i++) {
        (void)screen_put(s, x + i, y, 1, STYLE_PLAIN, glyph(s, GLYPH_LINE));
        (void)screen_put(s, x + i, y + h - 1, 1, STYLE_PLAIN, glyph(s, GLYPH_LINE));
    }
    for (unsigned i = 1; i + 1 < h; i++) {
        (void)screen_put(s, x, y + i, 1, STYLE_PLAIN, glyph(s, GLYPH_SIDE));
        (void)screen_put(s, x + w - 1, y + i, 1, STYLE_PLAIN, glyph(s, GLYPH_SIDE));
    }
    (void)screen_put(s, x, y, 1, STYLE_PLAIN, glyph(s, GLYPH_TOP_LEFT));
    (void)screen_put(s, x + w - 1, y, 1, STYLE_PLAIN, glyph(s, GLYPH_TOP_RIGHT));
    (void)screen_put(s, x, y + h - 1, 1, STYLE_PLAIN, glyph(s, GLYPH_LOW_LEFT));
    (void)screen_put(s, x + w - 1, y + h - 1, 1, STYLE_PLAIN, glyph(s, GLYPH_LOW_RIGHT));
    if (title && *title && w > 6)
        (void)screen_putf(s, x + 1, y, w - 4, STYLE_BOLD, " %s ", title);
}

/* ---- help ------------------------------------------------------------------------------------------------------------ */

/* Arrow keys by their pictures. */
static void key_text(const struct screen *s, const char *keys, char *dst, size_t cap)
{
    static const struct {
        const char *name;
        enum glyph g;
    } ARROWS[] = {{"Up", GLYPH_UP}, {"Down", GLYPH_DOWN}, {"Left", GLYPH_LEFT}, {"Right", GLYPH_RIGHT}};
    struct span rest = span_of(keys);
    struct buf b AUTO(buf_release) = {0};

    while (rest.len) {
        struct span key = span_split(&rest, ' ');
        size_t i = 0;

        while (i < ARRAY_LEN(ARROWS) && !span_is(key, ARROWS[i].name))
            i++;
        if (b.len)
            buf_addc(&b, ' ');
        if (i < ARRAY_LEN(ARROWS) && s->glyphs != GLYPHS_ASCII && i >= 2)
            buf_addz(&b, glyph(s, ARROWS[i].g));
        else if (i < 2 && s->glyphs != GLYPHS_ASCII)
            buf_addz(&b, i ? "↓" : "↑");
        else
            buf_add(&b, key);
    }
    (void)span_copy(dst, cap, buf_span(&b));
}

static unsigned draw_group(struct screen *s, unsigned x, unsigned y, unsigned w, enum group g, unsigned last)
{
    struct help_line lines[24];
    size_t n = help_lines(g, lines, ARRAY_LEN(lines));

    if (y > last)
        return y;
    (void)screen_put(s, x, y++, w, STYLE_HEAD, group_title(g));
    for (size_t i = 0; i < n && y <= last; i++, y++) {
        char keys[64];

        key_text(s, lines[i].keys, keys, sizeof(keys));
        (void)screen_put(s, x + 1, y, 13, STYLE_BOLD, keys);
        (void)screen_put(s, x + 15, y, w - 15, STYLE_PLAIN, lines[i].text);
    }
    return y;
}

static void draw_states(struct screen *s, unsigned x, unsigned y)
{
    static const struct {
        enum level level;
        const char *word;
    } STATES[] = {{LEVEL_OK, "OK"}, {LEVEL_WARN, "WARN"}, {LEVEL_CRIT, "CRIT"}, {LEVEL_STALE, "STALE"}};

    for (size_t i = 0; i < ARRAY_LEN(STATES); i++)
        x += 2 + screen_putf(s, x, y, 0, style_of(STATES[i].level), "%s %s", mark_of(s, STATES[i].level),
                             STATES[i].word);
}

static void draw_help(struct screen *s, const struct scene *sc)
{
    unsigned half = s->w >= 76 ? 38 : s->w, last = s->h - 3, y;

    screen_fill(s, 0, 0, s->w, s->h);
    (void)screen_putf(s, 1, 0, 0, STYLE_BOLD, "Help: %s", view_title(sc->ui->view));
    screen_put_right(s, 1, 0, s->w - 2, STYLE_PLAIN, "any key closes");
    if (half == s->w) { /* as many as fit; the manual page has all */
        y = draw_group(s, 1, 1, half - 1, GROUP_VIEW, last);
        y = draw_group(s, 1, y, half - 1, GROUP_ORDER, last);
        (void)draw_group(s, 1, y, half - 1, GROUP_MOVE, last);
    } else {
        y = draw_group(s, 1, 1, half, GROUP_MOVE, last);
        (void)draw_group(s, 1, y, half, GROUP_VIEW, last);
        y = draw_group(s, half + 1, 1, half, GROUP_ORDER, last);
        if (s->h >= 34) {
            y = draw_group(s, half + 1, y, half, GROUP_TIME, last);
            (void)draw_group(s, half + 1, y, half, GROUP_OTHER, last);
        } else { /* two narrower columns for what is left */
            (void)draw_group(s, half + 1, y, half, sc->ui->overlay_at % 2 ? GROUP_OTHER : GROUP_TIME, last);
        }
    }
    draw_states(s, 1, s->h - 2);
    (void)screen_put(s, 1, s->h - 1, 0, STYLE_PLAIN,
                     s->h < 34 ? "? again: more keys. aigwtop(1) lists every one. Version " GATEWAYD_VERSION
                               : "aigwtop(1) lists every key. Version " GATEWAYD_VERSION);
}

/* ---- choices --------------------------------------------------------------------------------------------------------- */

struct choice {
    char text[100];
    bool has_mark, is_marked;
};

static void draw_choices(struct screen *s, const char *title, const char *hint, const struct choice *list,
                         size_t n, size_t at)
{
    unsigned w = s->w > 64 ? 62 : s->w, h = (unsigned)n + 3, x, y;
    size_t top;

    h = h > s->h ? s->h : h;
    x = (s->w - w) / 2;
    y = (s->h - h) / 2;
    top = at >= h - 3 ? at - (h - 3) + 1 : 0;
    draw_box(s, x, y, w, h, title);
    for (unsigned i = 0; i + 3 < h + 0u && top + i < n; i++) {
        const struct choice *c = &list[top + i];

        if (c->has_mark)
            (void)screen_put(s, x + 2, y + 1 + i, 3, STYLE_PLAIN, c->is_marked ? "[x]" : "[ ]");
        (void)screen_put(s, x + (c->has_mark ? 6 : 2), y + 1 + i, w - (c->has_mark ? 8 : 4), STYLE_PLAIN,
                         c->text);
        if (top + i == at)
            screen_add_style(s, x + 1, y + 1 + i, w - 2, STYLE_SELECTED);
    }
    (void)screen_put(s, x + 2, y + h - 2, w - 4, STYLE_PLAIN, hint);
}

static void draw_columns(struct screen *s, const struct scene *sc, bool is_sort)
{
    const struct place *p = ui_place(sc->ui);
    struct choice list[VIEW_COLUMNS_MAX];
    struct shown shown[VIEW_COLUMNS_MAX];
    unsigned n_shown = ui_columns(p, sc->table, s->w, shown);

    for (size_t i = 0; i < sc->table->n_columns; i++) {
        const struct column *c = &sc->table->columns[i];

        list[i] = (struct choice){.has_mark = true, .is_marked = is_sort && p->look.sort == i};
        for (unsigned k = 0; !is_sort && k < n_shown; k++)
            list[i].is_marked |= shown[k].column == i;
        (void)snprintf(list[i].text, sizeof(list[i].text), "%-14s %s", c->heading[0] ? c->heading : "(bar)",
                       c->text);
    }
    draw_choices(s, is_sort ? "Sort by" : "Columns",
                 is_sort ? "Enter chooses, I reverses" : "Space shows or hides, Enter closes", list,
                 sc->table->n_columns, sc->ui->overlay_at);
}

static void draw_setup(struct screen *s, const struct scene *sc)
{
    struct choice list[SETUP_ITEMS] = {0};
    const struct ui *ui = sc->ui;

    (void)snprintf(list[0].text, sizeof(list[0].text), "refresh       every %.1f s",
                   (double)ui->interval_ms / 1000);
    (void)snprintf(list[1].text, sizeof(list[1].text), "theme         %s", theme_name(ui->theme));
    (void)snprintf(list[2].text, sizeof(list[2].text), "glyphs        %s", glyphs_name(s->glyphs));
    (void)snprintf(list[3].text, sizeof(list[3].text), "history       %s", ui_span_text(ui));
    (void)snprintf(list[4].text, sizeof(list[4].text), "mouse         %s", ui->has_mouse ? "on" : "off");
    draw_choices(s, "Settings", "Enter changes, S saves, Esc closes", list, SETUP_ITEMS, ui->overlay_at);
}

static void draw_export(struct screen *s, const struct scene *sc)
{
    static const char *const FORMATS[] = {"csv      a line for each row", "json     one document",
                                          "ndjson   an object for each row"};
    struct choice list[3] = {0};
    char title[80];

    for (size_t i = 0; i < 3; i++)
        (void)snprintf(list[i].text, sizeof(list[i].text), "%s", FORMATS[i]);
    (void)snprintf(title, sizeof(title), "Export %zu rows as shown", sc->table->lines.n);
    draw_choices(s, title, "Enter writes a file here", list, 3, sc->ui->overlay_at);
}

/* ---- one error ------------------------------------------------------------------------------------------------------- */

static void draw_error(struct screen *s, const struct scene *sc)
{
    size_t i = ui_selected(sc->ui, sc->table);
    const struct sample_error *e =
        i < sc->table->lines.n && sc->ui->view == VIEW_ERRORS ? sc->table->lines.v[i].ref : NULL;
    unsigned w = s->w > 100 ? 98 : s->w - 2, h = s->h >= 16 ? 7 : 6, y = s->h > h + 4 ? s->h - h - 3 : 0;
    char ms[HUMAN_CAP] = "", at[WALL_TEXT_CAP];

    if (!e)
        return;
    if (!isnan(e->latency_ms))
        human_ms(ms, e->latency_ms);
    (void)wall_format((struct wall){e->at_us}, at, sizeof(at));
    draw_box(s, 1, y, w, h, e->request[0] ? e->request : "error");
    (void)screen_putf(s, 3, y + 1, w - 4, STYLE_PLAIN, "%s / %s   tenant %s   key %s", e->provider, e->model,
                      e->tenant[0] ? e->tenant : "-", e->key[0] ? e->key : "-");
    (void)screen_putf(s, 3, y + 2, w - 4, STYLE_PLAIN, "HTTP %d  %s%s%s", e->http_status,
                      e->type[0] ? e->type : "-", ms[0] ? "  after " : "", ms);
    (void)screen_putf(s, 3, y + 3, w - 4, STYLE_PLAIN, "%s",
                      e->detail[0] ? e->detail
                                   : "no detail is stored: the request went on to another target");
    (void)screen_putf(s, 3, y + 4, w - 4, STYLE_PLAIN, "the whole story: aigwctl explain %s", e->request);
    if (h > 6)
        (void)screen_putf(s, 3, y + 5, w - 4, STYLE_PLAIN, "at %s", at);
}

/* ---- the command ----------------------------------------------------------------------------------------------------- */

static void draw_command(struct screen *s, const struct scene *sc)
{
    char command[512];
    unsigned w, h = 4;

    ui_command(sc->ui, sc->table, command, sizeof(command));
    w = screen_width(s, command) + 4;
    w = w < 44 ? 44 : w;
    w = w > s->w ? s->w : w;
    draw_box(s, (s->w - w) / 2, s->h / 2 - 2, w, h, "aigwctl");
    (void)screen_put(s, (s->w - w) / 2 + 2, s->h / 2 - 1, w - 4, STYLE_BOLD, command);
    (void)screen_put(s, (s->w - w) / 2 + 2, s->h / 2, w - 4, STYLE_PLAIN,
                     "y copies it; this screen changes nothing");
}

void draw_overlay(struct screen *s, const struct scene *sc)
{
    switch (sc->ui->overlay) {
    case OVERLAY_HELP:
        draw_help(s, sc);
        break;
    case OVERLAY_SETUP:
        draw_setup(s, sc);
        break;
    case OVERLAY_COLUMNS:
        draw_columns(s, sc, false);
        break;
    case OVERLAY_SORT:
        draw_columns(s, sc, true);
        break;
    case OVERLAY_EXPORT:
        draw_export(s, sc);
        break;
    case OVERLAY_COMMAND:
        draw_command(s, sc);
        break;
    case OVERLAY_ERROR:
        draw_error(s, sc);
        break;
    default:
        break;
    }
}
