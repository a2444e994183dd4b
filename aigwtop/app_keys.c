/* SPDX-License-Identifier: Apache-2.0 */
/* What keys do. Each action changes the state of the screen and says by flags what must follow. None changes anything in a gateway. */
#include <stdio.h>

#include "aigwtop/app_priv.h"

#define REFRESH_MIN_MS 200
#define REFRESH_MAX_MS 60000

/* ---- moving ---------------------------------------------------------------------------------------------------------- */

static int move_to(struct app *a, long line)
{
    long last = (long)a->table.lines.n - 1;

    if (last < 0)
        return APP_REDRAW;
    ui_select(&a->ui, &a->table, (size_t)(line < 0 ? 0 : line > last ? last : line));
    return APP_REDRAW;
}

static int move_by(struct app *a, long lines)
{
    return move_to(a, (long)ui_selected(&a->ui, &a->table) + lines);
}

static long page(const struct app *a)
{
    unsigned rows = ui_table_rows(&a->ui, a->w, a->h);

    return rows > 1 ? (long)rows - 1 : 1;
}

/* The neighbour among the columns that are shown. */
static int sort_by_neighbour(struct app *a, int step)
{
    struct place *p = ui_place(&a->ui);
    struct shown shown[VIEW_COLUMNS_MAX];
    unsigned n = ui_columns(p, &a->table, a->w, shown), at = 0;

    for (unsigned i = 0; i < n; i++)
        if (shown[i].column == p->look.sort)
            at = i;
    for (unsigned i = 0; i < n; i++) { /* a trend has no order */
        at = (at + n + (unsigned)(step + (int)n)) % n;
        if (a->table.columns[shown[at].column].form != FORM_TREND)
            break;
    }
    if (n)
        p->look.sort = shown[at].column;
    return APP_REDRAW;
}

static int neighbour_provider(struct app *a, int step)
{
    const struct entity *all[512];
    size_t n = 0, at = 0;

    for (size_t i = 0; i < a->model->entities.n && n < 512; i++) {
        const struct entity *e = a->model->entities.v[i];

        if (e->model[0])
            continue;
        if (strcmp(e->provider, a->ui.provider) == 0)
            at = n;
        all[n++] = e;
    }
    if (!n)
        return 0;
    at = (at + n + (size_t)(step + (int)n)) % n;
    memcpy(a->ui.provider, all[at]->provider, TOP_NAME);
    a->ui.places[PLACE_DRILL].selected[0] = '\0';
    return APP_REDRAW | APP_RESCAN;
}

static int sideways(struct app *a, int step)
{
    return a->ui.is_drill ? neighbour_provider(a, step) : sort_by_neighbour(a, step);
}

/* ---- views ----------------------------------------------------------------------------------------------------------- */

int app_show(struct app *a, enum view v)
{
    a->ui.view = v;
    a->ui.is_drill = false;
    a->ui.provider[0] = '\0';
    return APP_REDRAW | APP_RESCAN;
}

static int open_row(struct app *a)
{
    const struct line *l = a->table.lines.n ? &a->table.lines.v[ui_selected(&a->ui, &a->table)] : NULL;
    const struct entity *e;

    if (!l)
        return 0;
    switch (ui_table_view(&a->ui)) {
    case VIEW_PROVIDERS:
        e = l->ref;
        memcpy(a->ui.provider, e->provider, TOP_NAME);
        a->ui.is_drill = true;
        a->ui.places[PLACE_DRILL].selected[0] = '\0';
        return APP_REDRAW | APP_RESCAN;
    case VIEW_ERRORS:
        app_open_overlay(a, OVERLAY_ERROR, 0);
        return APP_REDRAW;
    case VIEW_TENANTS:
        return app_act(a, ACTION_PAUSE);
    default:
        app_open_overlay(a, OVERLAY_COMMAND, 0);
        return APP_REDRAW;
    }
}

static int back(struct app *a)
{
    if (a->ui.is_drill) {
        a->ui.is_drill = false;
        a->ui.provider[0] = '\0';
        return APP_REDRAW | APP_RESCAN;
    }
    if (a->ui.provider[0]) {
        a->ui.provider[0] = '\0';
        return APP_REDRAW | APP_RESCAN;
    }
    return a->ui.view == VIEW_PROVIDERS ? APP_QUIT : app_show(a, VIEW_PROVIDERS);
}

/* ---- order ----------------------------------------------------------------------------------------------------------- */

static int clear(struct app *a)
{
    struct look *look = &ui_place(&a->ui)->look;

    if (look->filter.n) {
        look->filter.n = 0;
        look->filter_text[0] = '\0';
    } else if (a->ui.view == VIEW_TENANTS) {
        look->all_open = !look->all_open;
        look->n_open = 0;
    }
    return APP_REDRAW;
}

/* In a drill-down all errors of its provider, among errors one row for each cause. */
static int group(struct app *a)
{
    struct look *look = &a->ui.places[VIEW_ERRORS].look;

    if (a->ui.is_drill) {
        a->ui.is_drill = false;
        a->ui.view = VIEW_ERRORS;
        return APP_REDRAW | APP_RESCAN;
    }
    if (a->ui.view == VIEW_ERRORS)
        look->is_grouped = !look->is_grouped;
    return APP_REDRAW;
}

static int open_tenant(struct app *a)
{
    struct look *look = &ui_place(&a->ui)->look;
    const struct line *l = a->table.lines.n ? &a->table.lines.v[ui_selected(&a->ui, &a->table)] : NULL;

    if (!l || l->depth || !l->has_children)
        return APP_REDRAW;
    for (unsigned i = 0; i < look->n_open; i++)
        if (strcmp(look->open[i], l->key) == 0) {
            memmove(look->open[i], look->open[look->n_open - 1], TOP_NAME);
            look->n_open--;
            return APP_REDRAW;
        }
    if (look->n_open < 32)
        (void)snprintf(look->open[look->n_open++], TOP_NAME, "%.127s", l->key);
    return APP_REDRAW;
}

static int find_next(struct app *a, int step)
{
    size_t n = a->table.lines.n, at = ui_selected(&a->ui, &a->table);

    for (size_t i = 0; i < n && a->ui.find[0]; i++) {
        struct filter_term t = {.op = FILTER_HAS};
        struct filter f;

        at = (at + n + (size_t)(step + (int)n)) % n;
        (void)snprintf(t.text, sizeof(t.text), "%s", a->ui.find);
        f = (struct filter){.terms = {t}, .n = 1};
        if (filter_takes(&f, a->table.lines.v[at].v, a->table.n_columns))
            return move_to(a, (long)at);
    }
    app_say(a, "'%s' is in no row", a->ui.find);
    return APP_REDRAW;
}

/* ---- time ------------------------------------------------------------------------------------------------------------ */

static int pause_or_resume(struct app *a)
{
    if (a->ui.is_paused)
        app_resume(a);
    else
        a->ui.is_paused = true;
    return APP_REDRAW;
}

static int pace(struct app *a, bool faster)
{
    int64_t ms = a->ui.interval_ms, step = faster ? (ms <= 1000   ? 200
                                                     : ms <= 5000 ? 500
                                                                  : 5000)
                                                  : (ms < 1000   ? 200
                                                     : ms < 5000 ? 500
                                                                 : 5000);

    ms += faster ? -step : step;
    ms = ms < REFRESH_MIN_MS ? REFRESH_MIN_MS : ms > REFRESH_MAX_MS ? REFRESH_MAX_MS : ms;
    a->ui.interval_ms = ms;
    reader_set_interval(a->reader, ms);
    app_say(a, "read every %.1f s", (double)ms / 1000);
    return APP_REDRAW | APP_RESCAN;
}

/* ---- others ---------------------------------------------------------------------------------------------------------- */

static int copy(struct app *a)
{
    const struct line *l = a->table.lines.n ? &a->table.lines.v[ui_selected(&a->ui, &a->table)] : NULL;
    char text[512] = "";

    if (a->ui.overlay == OVERLAY_COMMAND)
        ui_command(&a->ui, &a->table, text, sizeof(text));
    else if (l && ui_table_view(&a->ui) == VIEW_ERRORS)
        (void)snprintf(text, sizeof(text), "%s", ((const struct sample_error *)l->ref)->request);
    else if (l)
        (void)snprintf(text, sizeof(text), "%s", l->key);
    if (text[0]) {
        terminal_copy(text);
        app_say(a, "copied, where the terminal has OSC 52: %.100s", text);
    }
    return APP_REDRAW;
}

static int dump(struct app *a)
{
    struct buf text AUTO(buf_release) = {0};
    char path[64];
    FILE *f;

    app_text(a, &text);
    (void)snprintf(path, sizeof(path), "aigwtop-%lld.txt", (long long)(wall_now().us / 1000000));
    f = fopen(path, "wex");
    if (!f || fwrite(text.p, 1, text.len, f) != text.len)
        app_say(a, "'%s' cannot be written", path);
    else
        app_say(a, "the screen is in %s", path);
    if (f)
        (void)fclose(f);
    return APP_REDRAW;
}

static int next_theme(struct app *a)
{
    a->ui.theme = (enum theme)((a->ui.theme + 1) % THEME_COUNT);
    terminal_theme(a->ui.theme);
    app_say(a, "theme %s", theme_name(a->ui.theme));
    return APP_REDRAW | APP_REPAINT;
}

static int mouse(struct app *a)
{
    a->ui.has_mouse = !a->ui.has_mouse;
    terminal_mouse(a->ui.has_mouse);
    app_say(a, a->ui.has_mouse ? "mouse on: click selects, headings sort, wheel scrolls" : "mouse off");
    return APP_REDRAW;
}

static int save(struct app *a)
{
    struct err err = {0};

    if (conf_save(a, &err))
        app_say(a, "saved in %s", a->conf_path);
    else
        app_say(a, "%s", err_text(&err));
    return APP_REDRAW;
}

static int surprise(struct app *a)
{
    if (a->model->head.surprises)
        app_say(a, "%u could not be read, the last: %s", a->model->head.surprises, a->model->head.surprise);
    else
        app_say(a, "everything could be read");
    return APP_REDRAW;
}

static int toggle(struct app *a, bool *what, const char *on, const char *off)
{
    *what = !*what;
    app_say(a, "%s", *what ? on : off);
    return APP_REDRAW;
}

static int open_overlay(struct app *a, enum overlay o)
{
    app_open_overlay(a, o, o == OVERLAY_SORT ? ui_place(&a->ui)->look.sort : 0);
    return APP_REDRAW;
}

static int act_on_place(struct app *a, enum action act)
{
    struct look *look = &ui_place(&a->ui)->look;

    switch (act) {
    case ACTION_CLEAR:
        return clear(a);
    case ACTION_INVERT:
        look->is_reversed = !look->is_reversed;
        return APP_REDRAW;
    case ACTION_FOLLOW:
        return toggle(a, &a->ui.follows, "following this row, also while it is away", "not following");
    case ACTION_TREE:
        return toggle(a, &look->is_tree, "tree", "no tree");
    case ACTION_GROUP:
        return group(a);
    case ACTION_PAUSE:
        return a->ui.view == VIEW_TENANTS && !a->ui.is_paused ? open_tenant(a) : pause_or_resume(a);
    case ACTION_FASTER:
        return pace(a, true);
    case ACTION_SLOWER:
        return pace(a, false);
    case ACTION_SPAN:
        ui_next_span(&a->ui);
        return APP_REDRAW;
    case ACTION_AGAIN:
        return APP_REDRAW | APP_RESCAN | APP_REPAINT;
    case ACTION_COPY:
        return copy(a);
    case ACTION_DUMP:
        return dump(a);
    case ACTION_SURPRISE:
        return surprise(a);
    case ACTION_MOUSE:
        return mouse(a);
    case ACTION_THEME:
        return next_theme(a);
    case ACTION_SAVE:
        return save(a);
    default:
        return 0;
    }
}

int app_act(struct app *a, enum action act)
{
    switch (act) {
    case ACTION_UP:
        return move_by(a, -1);
    case ACTION_DOWN:
        return move_by(a, 1);
    case ACTION_LEFT:
        return sideways(a, -1);
    case ACTION_RIGHT:
        return sideways(a, 1);
    case ACTION_PAGE_UP:
        return move_by(a, -page(a));
    case ACTION_PAGE_DOWN:
        return move_by(a, page(a));
    case ACTION_FIRST:
        return move_to(a, 0);
    case ACTION_LAST:
        return move_to(a, (long)a->table.lines.n);
    case ACTION_PANEL:
        return app_show(a, (enum view)((a->ui.view + 1) % VIEW_COUNT));
    case ACTION_OPEN:
        return open_row(a);
    case ACTION_BACK:
        return back(a);
    case ACTION_LEAVE:
        return APP_QUIT;
    case ACTION_GO_TO:
        return open_overlay(a, OVERLAY_GO_TO);
    case ACTION_FIND:
        return open_overlay(a, OVERLAY_FIND);
    case ACTION_NEXT:
        return find_next(a, 1);
    case ACTION_PREVIOUS:
        return find_next(a, -1);
    case ACTION_FILTER:
        return open_overlay(a, OVERLAY_FILTER);
    case ACTION_SORT:
        return open_overlay(a, OVERLAY_SORT);
    case ACTION_COLUMNS:
        return open_overlay(a, OVERLAY_COLUMNS);
    case ACTION_COMMAND:
        return open_overlay(a, OVERLAY_COMMAND);
    case ACTION_EXPORT:
        return open_overlay(a, OVERLAY_EXPORT);
    case ACTION_HELP:
        return open_overlay(a, OVERLAY_HELP);
    case ACTION_SETUP:
        return open_overlay(a, OVERLAY_SETUP);
    default:
        if (act >= ACTION_VIEW_1 && act <= ACTION_VIEW_7)
            return app_show(a, (enum view)(act - ACTION_VIEW_1));
        return act_on_place(a, act);
    }
}

int app_key(struct app *a, const char *key)
{
    int flags = a->ui.overlay ? app_overlay_key(a, key) : -1;

    if (flags >= 0)
        return flags;
    a->ui.message[0] = '\0';
    return app_act(a, action_of(key)) | APP_REDRAW;
}

/* ---- the mouse ------------------------------------------------------------------------------------------------------- */

static int click_heading(struct app *a, unsigned x)
{
    struct place *p = ui_place(&a->ui);
    struct shown shown[VIEW_COLUMNS_MAX];
    unsigned n = ui_columns(p, &a->table, a->w, shown);

    for (unsigned i = 0; i < n; i++) {
        if (x < shown[i].x || x >= shown[i].x + shown[i].width)
            continue;
        if (p->look.sort == shown[i].column)
            p->look.is_reversed = !p->look.is_reversed;
        p->look.sort = shown[i].column;
    }
    return APP_REDRAW;
}

int app_mouse(struct app *a, const struct terminal_key *k)
{
    unsigned top = ui_table_top(&a->ui, a->w, a->h), rows = ui_table_rows(&a->ui, a->w, a->h);

    if (a->ui.overlay)
        return 0;
    if (k->wheel)
        return move_by(a, 3L * k->wheel);
    if (k->y + 1 == top)
        return click_heading(a, k->x);
    if (k->y >= top && k->y < top + rows)
        return move_to(a, (long)(ui_place(&a->ui)->top + k->y - top));
    return 0;
}
