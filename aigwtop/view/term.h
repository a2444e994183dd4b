/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal: the only part that knows curses. */
#ifndef AIGWTOP_VIEW_TERM_H
#define AIGWTOP_VIEW_TERM_H

#include "aigwtop/view/ui.h"

/* False and why: this is no terminal that can be drawn on. */
bool terminal_start(enum theme theme, bool is_mono, struct err *err);
void terminal_stop(void); /* as it was before; more than once is fine */
void terminal_size(unsigned *w, unsigned *h);
void terminal_paint(const struct screen *s);
void terminal_repaint(void); /* everything anew with the next paint */
void terminal_theme(enum theme theme);
void terminal_mouse(bool on);

enum { KEY_IS_NONE, KEY_IS_UNKNOWN, KEY_IS_KEY, KEY_IS_MOUSE, KEY_IS_RESIZE };
struct terminal_key {
    int kind;
    char name[8]; /* "a", "ä", "PgDn", "^L"; what action_of() takes */
    unsigned x, y;
    int wheel; /* -1 up, 1 down, 0 a click */
};
/* Whatever is there now; never waits. */
struct terminal_key terminal_key(void);
/* To the terminal's clipboard, where it has OSC 52. */
void terminal_copy(const char *text);

#endif
