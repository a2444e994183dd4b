/* SPDX-License-Identifier: Apache-2.0 */
/* A grid of cells that views draw into; a terminal or a test shows it. Text from outside can neither leave its place nor act on the
 * terminal: control and direction characters become '?', widths are counted in cells, and what is cut ends in an ellipsis. */
#ifndef AIGWTOP_VIEW_SCREEN_H
#define AIGWTOP_VIEW_SCREEN_H

#include "libshared/base/buf.h"

enum style {
    STYLE_PLAIN,
    STYLE_BOLD,
    STYLE_HEAD, /* column headings */
    STYLE_OK,
    STYLE_WARN,
    STYLE_CRIT,
    STYLE_STALE,
    STYLE_BAR, /* names of function keys */
    STYLE_COUNT,
    STYLE_DIM = 0x20, /* added to one of these */
    STYLE_SELECTED = 0x40,
};

enum glyphs { GLYPHS_ASCII, GLYPHS_BLOCK, GLYPHS_BRAILLE };

struct cell {
    uint32_t code; /* 0: the right half of the character before it */
    uint8_t style;
};

struct screen {
    unsigned w, h;
    struct cell *cells;
    enum glyphs glyphs;
};

void screen_init(struct screen *s, unsigned w, unsigned h, enum glyphs glyphs);
void screen_release(struct screen *s);
/* Puts text at x, y within `width` cells (0: to the edge); returns the cells it took. */
unsigned screen_put(struct screen *s, unsigned x, unsigned y, unsigned width, unsigned style, const char *z);
unsigned screen_putf(struct screen *s, unsigned x, unsigned y, unsigned width, unsigned style,
                     const char *fmt, ...) PRINTF_LIKE(6, 7);
/* The same, ending at x + width. */
void screen_put_right(struct screen *s, unsigned x, unsigned y, unsigned width, unsigned style,
                      const char *z);
/* Cells that a text takes here. */
unsigned screen_width(const struct screen *s, const char *z);
void screen_fill(struct screen *s, unsigned x, unsigned y, unsigned w, unsigned h);
void screen_add_style(struct screen *s, unsigned x, unsigned y, unsigned w, unsigned style);
/* Lines without trailing blanks; with `has_styles` a line of style letters follows each that has any. */
void screen_text(const struct screen *s, struct buf *out, bool has_styles);

/* ---- glyphs.c ---- */

enum glyph {
    GLYPH_OK,
    GLYPH_WARN,
    GLYPH_CRIT,
    GLYPH_STALE,
    GLYPH_ELLIPSIS,
    GLYPH_FULL,
    GLYPH_EMPTY,
    GLYPH_OPEN,
    GLYPH_CLOSED,
    GLYPH_BRANCH,
    GLYPH_LAST,
    GLYPH_LINE,
    GLYPH_SIDE,
    GLYPH_TOP_LEFT,
    GLYPH_TOP_RIGHT,
    GLYPH_LOW_LEFT,
    GLYPH_LOW_RIGHT,
    GLYPH_TICK,
    GLYPH_CROSS,
    GLYPH_ABSENT,
    GLYPH_UP,
    GLYPH_DOWN,
    GLYPH_LEFT,
    GLYPH_RIGHT,
    GLYPH_SUB,
    GLYPH_TO,
    GLYPH_COUNT
};
const char *glyph(const struct screen *s, enum glyph g);
/* Eight heights, from the lowest; -1 is nothing. */
const char *glyph_height(const struct screen *s, int eighth);
/* Whether this terminal can show what the tier needs; decided before the first paint. */
enum glyphs glyphs_auto(void);
bool glyphs_parse(const char *name, enum glyphs *out); /* auto block braille ascii */
const char *glyphs_name(enum glyphs g);
/* Values from left to right, newest last, scaled to the highest; NaN is drawn as absent. */
void draw_spark(struct screen *s, unsigned x, unsigned y, unsigned w, unsigned style, const float *v,
                unsigned n);
void draw_bar(struct screen *s, unsigned x, unsigned y, unsigned w, unsigned style, double ratio);
/* A graph of `h` lines with `n` values from 0 to `top`. */
void draw_graph(struct screen *s, unsigned x, unsigned y, unsigned w, unsigned h, unsigned style,
                const float *v, unsigned n, double top);

#endif
