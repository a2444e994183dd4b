/* SPDX-License-Identifier: Apache-2.0 */
/* What the loop (app.c), its keys (app_keys.c, app_overlays.c) and its settings (conf.c) share. A key handler returns flags and
 * never draws. */
#ifndef AIGWTOP_APP_PRIV_H
#define AIGWTOP_APP_PRIV_H

#include "aigwtop/app.h"
#include "aigwtop/source/reader.h"
#include "aigwtop/view/term.h"

enum { APP_REDRAW = 1, APP_RESCAN = 2, APP_REPAINT = 4, APP_QUIT = 8 };

struct app {
    const struct options *o;
    struct ui ui;
    struct model *model;
    struct reader *reader;
    struct table table;     /* as last drawn; keys act on it */
    struct mono said_until; /* then the message goes */
    enum glyphs glyphs;
    unsigned w, h;
    LIST(struct sample *) held; /* that came while it is paused */
    FILE *record;
    const char *conf_path; /* NULL: none */
    char conf_buffer[1200];
    struct where where;
};

/* Now, or in a recording when its last sample was made. */
struct mono app_now(const struct app *a);
/* Shown in the last line for a while. */
void app_say(struct app *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
int app_key(struct app *a, const char *key);
int app_mouse(struct app *a, const struct terminal_key *k);
int app_act(struct app *a, enum action act);
/* Keys while something lies over the screen; -1: it was none of its keys. */
int app_overlay_key(struct app *a, const char *key);
int app_go_to(struct app *a, const char *text);
int app_show(struct app *a, enum view v);
void app_open_overlay(struct app *a, enum overlay o, size_t at);
void app_resume(struct app *a);
void app_text(struct app *a, struct buf *out); /* the screen as text */

/* ---- conf.c ---- */

/* Settings of a file; a line that makes no sense is told, the others hold. False: there is a file and it cannot be read. */
bool conf_load(struct app *a, const char *path, struct err *err);
bool conf_save(const struct app *a, struct err *err);
const char *conf_default_path(char *dst, size_t cap);

#endif
