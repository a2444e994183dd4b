/* SPDX-License-Identifier: Apache-2.0 */
/* Keys while something lies over the screen: lists with a line to choose, a line that is typed, pages that any key closes. */
#include <stdio.h>
#include <time.h>

#include "aigwtop/app_priv.h"

void app_open_overlay(struct app *a, enum overlay o, size_t at)
{
    a->ui.overlay = o;
    a->ui.overlay_at = at;
    a->ui.prompt[0] = '\0';
    if (o == OVERLAY_FILTER)
        (void)snprintf(a->ui.prompt, sizeof(a->ui.prompt), "%s", ui_place(&a->ui)->look.filter_text);
}

static int close_overlay(struct app *a)
{
    a->ui.overlay = OVERLAY_NONE;
    return APP_REDRAW;
}

/* ---- go to ----------------------------------------------------------------------------------------------------------- */

static bool is_begun(const char *whole, const char *part)
{
    return *part && strncmp(whole, part, strlen(part)) == 0;
}

static int switch_to(struct app *a, struct where *w)
{
    struct source first, second;
    struct err err = {0};

    if (where_open(w, &top_stop, &first, &second, &err)) {
        app_say(a, "%.*s", (int)strcspn(err_text(&err), "\n"), err_text(&err)); /* one line is all there is */
        return APP_REDRAW;
    }
    source_free(&second);
    a->where = *w;
    where_context(w, a->ui.context, sizeof(a->ui.context));
    app_resume(a);
    model_clear(a->model, mono_now());
    a->ui.is_recording = first.ops->is_recording;
    reader_switch(a->reader, first);
    return app_show(a, VIEW_PROVIDERS);
}

static int go_to_context(struct app *a, const char *name)
{
    static char kept[TOP_NAME]; /* of the one that is read: a switch that fails leaves it */
    struct where w = {.choice = a->where.choice, .token_file = a->where.token_file, .context = name};
    int flags = switch_to(a, &w);

    if (a->where.context == name) {
        (void)snprintf(kept, sizeof(kept), "%s", name);
        a->where.context = kept;
    }
    return flags;
}

static int go_to_source(struct app *a, const char *name)
{
    struct where w = a->where;

    w.choice = is_begun("redis", name) ? CHOICE_REDIS : is_begun("api", name) ? CHOICE_API : CHOICE_AUTO;
    return switch_to(a, &w);
}

static int set_filter(struct app *a, const char *text)
{
    struct err err = {0};

    if (!look_set_filter(&ui_place(&a->ui)->look, ui_table_view(&a->ui), text, &err))
        app_say(a, "%s", err_text(&err));
    return APP_REDRAW;
}

static int set_sort(struct app *a, const char *text)
{
    struct err err = {0};

    if (!look_set_sort(&ui_place(&a->ui)->look, ui_table_view(&a->ui), text, &err))
        app_say(a, "%s", err_text(&err));
    return APP_REDRAW;
}

/* ":errors fireworks", ":fireworks", ":ctx prod", ":sort -p95", ":filter err>5", ":source api", ":q" */
int app_go_to(struct app *a, const char *text)
{
    struct span rest = span_trim(span_of(text)), first = span_split(&rest, ' ');
    char word[TOP_NAME], more[TOP_NAME];
    enum view v;
    int flags;

    (void)span_copy(word, sizeof(word), first);
    (void)span_copy(more, sizeof(more), span_trim(rest));
    if (!word[0])
        return APP_REDRAW;
    if (strcmp(word, "q") == 0 || strcmp(word, "quit") == 0)
        return APP_QUIT;
    if (strcmp(word, "ctx") == 0 && more[0])
        return go_to_context(a, more);
    if (strcmp(word, "source") == 0)
        return go_to_source(a, more);
    if (strcmp(word, "filter") == 0)
        return set_filter(a, more);
    if (strcmp(word, "sort") == 0)
        return set_sort(a, more);
    if (view_find(word, &v)) {
        flags = app_show(a, v);
        (void)snprintf(a->ui.provider, TOP_NAME, "%s", more);
        if (v == VIEW_PROVIDERS && more[0])
            a->ui.is_drill = true;
        return flags;
    }
    if (model_find(a->model, word, "")) {
        flags = app_show(a, VIEW_PROVIDERS);
        (void)snprintf(a->ui.provider, TOP_NAME, "%s", word);
        a->ui.is_drill = true;
        return flags;
    }
    app_say(a, "'%s' is neither a view nor a provider, nor ctx, source, sort, filter or q", word);
    return APP_REDRAW;
}

/* The first view, or after it the first provider, that begins with what was typed. */
static void complete(struct app *a)
{
    char *space = strchr(a->ui.prompt, ' '), *part = space ? space + 1 : a->ui.prompt;
    size_t room = sizeof(a->ui.prompt) - (size_t)(part - a->ui.prompt);

    for (int v = 0; !space && v < VIEW_COUNT; v++)
        if (is_begun(view_name((enum view)v), part)) {
            (void)snprintf(part, room, "%s ", view_name((enum view)v));
            return;
        }
    for (size_t i = 0; i < a->model->entities.n; i++)
        if (!a->model->entities.v[i]->model[0] && is_begun(a->model->entities.v[i]->provider, part)) {
            (void)snprintf(part, room, "%s", a->model->entities.v[i]->provider);
            return;
        }
}

/* ---- a line that is typed -------------------------------------------------------------------------------------------- */

static int take_prompt(struct app *a)
{
    enum overlay o = a->ui.overlay;

    a->ui.overlay = OVERLAY_NONE;
    if (o == OVERLAY_GO_TO)
        return app_go_to(a, a->ui.prompt);
    if (o == OVERLAY_FILTER)
        return set_filter(a, a->ui.prompt);
    (void)snprintf(a->ui.find, sizeof(a->ui.find), "%.63s", a->ui.prompt);
    return app_act(a, ACTION_NEXT);
}

static int prompt_key(struct app *a, const char *key)
{
    size_t n = strlen(a->ui.prompt), len = strlen(key);

    if (strcmp(key, "Enter") == 0)
        return take_prompt(a);
    if (strcmp(key, "Esc") == 0)
        return close_overlay(a);
    if (strcmp(key, "Tab") == 0 && a->ui.overlay == OVERLAY_GO_TO)
        complete(a);
    else if (strcmp(key, "^U") == 0)
        a->ui.prompt[0] = '\0';
    else if (strcmp(key, "Space") == 0 && n + 1 < sizeof(a->ui.prompt))
        (void)snprintf(a->ui.prompt + n, sizeof(a->ui.prompt) - n, " ");
    else if (strcmp(key, "BS") == 0)
        while (n && ((unsigned char)a->ui.prompt[--n] & 0xc0) == 0x80)
            a->ui.prompt[n] = '\0';
    else if ((len == 1 || (unsigned char)key[0] >= 0x80) && n + len < sizeof(a->ui.prompt))
        memcpy(a->ui.prompt + n, key, len + 1);
    if (strcmp(key, "BS") == 0)
        a->ui.prompt[n] = '\0';
    return APP_REDRAW;
}

/* ---- lists ----------------------------------------------------------------------------------------------------------- */

static int export_view(struct app *a, enum export_form form)
{
    struct buf text AUTO(buf_release) = {0};
    struct mono now = app_now(a);
    struct fresh f = model_fresh(a->model, now, a->ui.interval_ms);
    struct export_how how = {.form = form,
                             .has_header = true,
                             .source = a->model->head.source,
                             .is_stale = fresh_is_stale(f.kind),
                             .now = model_now(a->model, now)};
    time_t t = (time_t)(how.now.us / 1000000);
    char path[96], at[32];
    struct tm tm;
    FILE *file;

    (void)gmtime_r(&t, &tm);
    (void)strftime(at, sizeof(at), "%Y%m%dT%H%M%SZ", &tm);
    (void)snprintf(path, sizeof(path), "aigwtop-%s-%s.%s", view_name(a->table.view), at, export_name(form));
    export_table(&a->table, &how, &text);
    file = fopen(path, "wex");
    if (!file || (text.len && fwrite(text.p, 1, text.len, file) != text.len))
        app_say(a, "'%s' cannot be written", path);
    else
        app_say(a, "%zu rows are in %s", a->table.lines.n, path);
    if (file)
        (void)fclose(file);
    return close_overlay(a);
}

static int toggle_column(struct app *a, size_t i)
{
    struct place *p = ui_place(&a->ui);
    struct shown shown[VIEW_COLUMNS_MAX];
    unsigned n = ui_columns(p, &a->table, a->w, shown);
    uint32_t bit = 1u << i;
    bool is_shown = false;

    for (unsigned k = 0; k < n; k++)
        is_shown |= shown[k].column == i;
    if (is_shown && n == 1)
        return APP_REDRAW;
    p->hidden = is_shown ? p->hidden | bit : p->hidden & ~bit;
    p->forced = is_shown ? p->forced & ~bit : p->forced | bit;
    return APP_REDRAW;
}

static int change_setting(struct app *a, size_t i)
{
    switch (i) {
    case 0:
        return app_act(a, a->ui.interval_ms <= 200 ? ACTION_SLOWER : ACTION_FASTER);
    case 1:
        return app_act(a, ACTION_THEME);
    case 2: {
        enum glyphs most = glyphs_auto() == GLYPHS_ASCII ? GLYPHS_ASCII : GLYPHS_BRAILLE;

        a->glyphs = a->glyphs >= most ? GLYPHS_ASCII : (enum glyphs)(a->glyphs + 1);
        return APP_REDRAW | APP_REPAINT;
    }
    case 3:
        return app_act(a, ACTION_SPAN);
    default:
        return app_act(a, ACTION_MOUSE);
    }
}

static size_t n_choices(const struct app *a)
{
    return a->ui.overlay == OVERLAY_SETUP    ? SETUP_ITEMS
           : a->ui.overlay == OVERLAY_EXPORT ? 3
                                             : a->table.n_columns;
}

static int choose(struct app *a)
{
    static const enum export_form FORMS[] = {EXPORT_CSV, EXPORT_JSON, EXPORT_NDJSON};
    size_t i = a->ui.overlay_at;

    switch (a->ui.overlay) {
    case OVERLAY_EXPORT:
        return export_view(a, FORMS[i]);
    case OVERLAY_SORT:
        ui_place(&a->ui)->look.sort = i;
        return close_overlay(a);
    case OVERLAY_SETUP:
        return change_setting(a, i);
    default:
        return close_overlay(a);
    }
}

static int list_key(struct app *a, const char *key)
{
    enum action act = action_of(key);
    size_t n = n_choices(a);

    if (act == ACTION_UP)
        a->ui.overlay_at = (a->ui.overlay_at + n - 1) % n;
    else if (act == ACTION_DOWN)
        a->ui.overlay_at = (a->ui.overlay_at + 1) % n;
    else if (act == ACTION_OPEN)
        return choose(a);
    else if (act == ACTION_PAUSE)
        return a->ui.overlay == OVERLAY_COLUMNS ? toggle_column(a, a->ui.overlay_at) : choose(a);
    else if (act == ACTION_INVERT || act == ACTION_SAVE || act == ACTION_THEME)
        return app_act(a, act);
    else if (act == ACTION_LEAVE)
        return APP_QUIT;
    else
        return close_overlay(a);
    return APP_REDRAW;
}

int app_overlay_key(struct app *a, const char *key)
{
    switch (a->ui.overlay) {
    case OVERLAY_FIND:
    case OVERLAY_FILTER:
    case OVERLAY_GO_TO:
        return prompt_key(a, key);
    case OVERLAY_SETUP:
    case OVERLAY_COLUMNS:
    case OVERLAY_SORT:
    case OVERLAY_EXPORT:
        return list_key(a, key);
    case OVERLAY_HELP: /* two pages where one has no room */
        if (action_of(key) == ACTION_HELP && a->h < 34 && !a->ui.overlay_at++)
            return APP_REDRAW;
        return close_overlay(a);
    case OVERLAY_COMMAND:
        if (action_of(key) == ACTION_COPY)
            return app_act(a, ACTION_COPY);
        return close_overlay(a);
    default: /* the row below may be changed while one is shown whole */
        if (action_of(key) == ACTION_UP || action_of(key) == ACTION_DOWN || action_of(key) == ACTION_COPY)
            return app_act(a, action_of(key));
        return close_overlay(a);
    }
}
