/* SPDX-License-Identifier: Apache-2.0 */
/* What the person at the screen chose, and what a drawing is made of. Handlers of keys change it, views draw it. */
#ifndef AIGWTOP_VIEW_UI_H
#define AIGWTOP_VIEW_UI_H

#include "aigwtop/model/table.h"
#include "aigwtop/view/screen.h"

enum theme { THEME_DEFAULT, THEME_LIGHT, THEME_CONTRAST, THEME_CB, THEME_MONO, THEME_COUNT };

enum overlay {
    OVERLAY_NONE,
    OVERLAY_HELP,
    OVERLAY_SETUP,
    OVERLAY_COLUMNS,
    OVERLAY_SORT,
    OVERLAY_EXPORT,
    OVERLAY_COMMAND, /* the aigwctl equivalent */
    OVERLAY_ERROR,   /* one error whole */
    OVERLAY_FIND,    /* these three are a line that is being typed */
    OVERLAY_FILTER,
    OVERLAY_GO_TO,
};

/* Cells. Below the least nothing is drawn but that; from WIDE on there are tabs, and a line of function keys. */
#define LEAST_WIDTH  40u
#define LEAST_HEIGHT 10u
#define NARROW       60u /* more than names and states */
#define WIDE         80u

/* A view, or the models of one provider. */
#define PLACE_DRILL  VIEW_COUNT
#define PLACES       (VIEW_COUNT + 1)
#define SETUP_ITEMS  5u
#define PROMPT_BYTES 128u

struct place {
    struct look look;
    char selected[LINE_KEY];
    size_t selected_at; /* where it last was, for when it is gone */
    size_t top;
    uint32_t hidden, forced; /* columns, a bit each */
};

struct ui {
    enum view view;
    bool is_drill;
    char provider[TOP_NAME]; /* of the drill-down, or the only one of a view; "" */
    struct place places[PLACES];
    bool follows;
    unsigned span; /* of history, see ui_span_text() */
    bool is_paused;
    unsigned waiting; /* rows or samples that came meanwhile */
    enum overlay overlay;
    size_t overlay_at;
    char prompt[PROMPT_BYTES];
    char find[64];
    char message[200];
    int64_t interval_ms;
    enum theme theme;
    bool has_mouse;
    char context[64];
    bool is_recording;
    struct mono now; /* of a recording: when its last sample was made */
};

struct scene {
    const struct model *model;
    struct ui *ui; /* drawing only moves `top` so that the selection is seen */
    const struct table *table;
    struct fresh fresh;
    struct wall now;
};

void ui_init(struct ui *ui);
static inline struct place *ui_place(struct ui *ui)
{
    return &ui->places[ui->is_drill ? PLACE_DRILL : ui->view];
}
/* Columns by their keys, with commas between; no others are shown. False and why. */
bool place_set_columns(struct place *p, enum view v, const char *list, struct err *err);
/* What the table shows: in a drill-down the models of the provider. */
enum view ui_table_view(const struct ui *ui);
int64_t ui_span_us(const struct ui *ui);
const char *ui_span_text(const struct ui *ui); /* "10m" */
bool ui_set_span(struct ui *ui, const char *text);
void ui_next_span(struct ui *ui);
const char *theme_name(enum theme t);
bool theme_parse(const char *name, enum theme *out);
void ui_build(const struct ui *ui, const struct model *m, struct table *out);
/* Line of the selection; the row's key counts, and when it is gone, where it was. The number of lines when there are none. */
size_t ui_selected(const struct ui *ui, const struct table *t);
void ui_select(struct ui *ui, const struct table *t, size_t line);
/* The aigwctl command that would act on the selection. */
void ui_command(const struct ui *ui, const struct table *t, char *dst, size_t cap);
/* Columns that are shown on `width` cells, and how wide each is. */
struct shown {
    size_t column;
    unsigned x, width;
};
unsigned ui_columns(const struct place *p, const struct table *t, unsigned width,
                    struct shown out[VIEW_COLUMNS_MAX]);
/* Rows of the table that a screen of this size shows. */
unsigned ui_table_rows(const struct ui *ui, unsigned w, unsigned h);
unsigned ui_table_top(const struct ui *ui, unsigned w, unsigned h);

/* ---- bindings ---- */

enum action {
    ACTION_NONE,
#define BINDING(action, keys, group, text) ACTION_##action,
#include "aigwtop/bindings.def"
#undef BINDING
    ACTION_COUNT
};
const char *action_keys(enum action a); /* as they are bound now */
/* By key name; NONE for what is bound to nothing. */
enum action action_of(const char *key);
/* "export" is now on these keys. False when there is no such action. */
bool action_bind(const char *action, const char *keys);
bool action_is_bound(enum action a);    /* to other keys than the table's */
const char *action_name(enum action a); /* "page_up" */
enum group { GROUP_MOVE, GROUP_VIEW, GROUP_ORDER, GROUP_TIME, GROUP_OTHER, GROUP_COUNT };
/* Lines of help of a group: keys and text; how many there are. */
struct help_line {
    char keys[48];
    const char *text;
};
size_t help_lines(enum group g, struct help_line *out, size_t cap);
const char *group_title(enum group g);

/* ---- drawing ---- */

void draw(struct screen *s, const struct scene *sc);
/* The whole table as lines of at most `width` cells; columns that were chosen by name are all there, whatever it takes. */
void draw_text(const struct scene *sc, unsigned width, enum glyphs glyphs, struct buf *out);

#endif
