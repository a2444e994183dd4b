/* SPDX-License-Identifier: Apache-2.0 */
/* What is drawn with: blocks where the terminal says that it is UTF-8, ASCII otherwise, braille on request, since no terminal tells
 * which glyphs its font has. */
#include <langinfo.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <wchar.h>

#include "aigwtop/view/screen.h"
#include "libshared/base/utf8.h"

static const char *const GLYPHS[GLYPH_COUNT][2] = {
    [GLYPH_OK] = {"+", "●"},       [GLYPH_WARN] = {"!", "▲"},      [GLYPH_CRIT] = {"x", "■"},
    [GLYPH_STALE] = {"?", "○"},    [GLYPH_ELLIPSIS] = {"~", "…"},  [GLYPH_FULL] = {"#", "█"},
    [GLYPH_EMPTY] = {".", "░"},    [GLYPH_OPEN] = {"v", "▾"},      [GLYPH_CLOSED] = {">", "▸"},
    [GLYPH_BRANCH] = {"|-", "├─"}, [GLYPH_LAST] = {"`-", "└─"},    [GLYPH_LINE] = {"-", "─"},
    [GLYPH_SIDE] = {"|", "│"},     [GLYPH_TOP_LEFT] = {"+", "┌"},  [GLYPH_TOP_RIGHT] = {"+", "┐"},
    [GLYPH_LOW_LEFT] = {"+", "└"}, [GLYPH_LOW_RIGHT] = {"+", "┘"}, [GLYPH_TICK] = {"|", "┤"},
    [GLYPH_CROSS] = {"+", "┼"},    [GLYPH_ABSENT] = {" ", "·"},    [GLYPH_UP] = {"^", "▲"},
    [GLYPH_DOWN] = {"v", "▼"},     [GLYPH_LEFT] = {"<", "←"},      [GLYPH_RIGHT] = {">", "→"},
    [GLYPH_SUB] = {">", "›"},      [GLYPH_TO] = {"-", "…"},
};

const char *glyph(const struct screen *s, enum glyph g)
{
    return GLYPHS[g][s->glyphs != GLYPHS_ASCII];
}

const char *glyph_height(const struct screen *s, int eighth)
{
    static const char *const BLOCKS[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char *const RAMP[] = {".", ".", ":", "-", "=", "+", "*", "#"};

    if (eighth < 0)
        return " ";
    return (s->glyphs == GLYPHS_ASCII ? RAMP : BLOCKS)[eighth > 7 ? 7 : eighth];
}

static bool all_one_cell_wide(void)
{
    static const char *const MORE[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█", "▉", "▌", "▎"};

    for (size_t g = 0; g < GLYPH_COUNT; g++) {
        size_t n = utf8_valid_len(GLYPHS[g][1], strlen(GLYPHS[g][1]));

        if (wcwidth((wchar_t)utf8_decode(GLYPHS[g][1], n)) != 1)
            return false;
    }
    for (size_t i = 0; i < sizeof(MORE) / sizeof(MORE[0]); i++)
        if (wcwidth((wchar_t)utf8_decode(MORE[i], 3)) != 1)
            return false;
    return true;
}

enum glyphs glyphs_auto(void)
{
    const char *term = getenv("TERM");

    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        return GLYPHS_ASCII;
    if (!isatty(STDOUT_FILENO)) /* a file has no font */
        return GLYPHS_BLOCK;
    if (!term || strcmp(term, "linux") == 0 || strncmp(term, "vt", 2) == 0 || strcmp(term, "dumb") == 0)
        return GLYPHS_ASCII;
    return all_one_cell_wide() ? GLYPHS_BLOCK : GLYPHS_ASCII;
}

static const char *const NAMES[] = {
    [GLYPHS_ASCII] = "ascii", [GLYPHS_BLOCK] = "block", [GLYPHS_BRAILLE] = "braille"};

const char *glyphs_name(enum glyphs g)
{
    return NAMES[g];
}

bool glyphs_parse(const char *name, enum glyphs *out)
{
    if (strcmp(name, "auto") == 0) {
        *out = glyphs_auto();
        return true;
    }
    for (int i = 0; i < 3; i++)
        if (strcmp(name, NAMES[i]) == 0) {
            *out = (enum glyphs)i;
            return true;
        }
    return false;
}

/* ---- small drawings -------------------------------------------------------------------------------------------------- */

/* The highest of those values that fall into place i of w. */
static float at_place(const float *v, unsigned n, unsigned i, unsigned w)
{
    unsigned from = (unsigned)((uint64_t)i * n / w), to = (unsigned)((uint64_t)(i + 1) * n / w);
    float most = NAN;

    to = to > from ? to : from + 1;
    for (unsigned k = from; k < to && k < n; k++)
        if (!isnan(v[k]) && !(v[k] <= most))
            most = v[k];
    return most;
}

void draw_spark(struct screen *s, unsigned x, unsigned y, unsigned w, unsigned style, const float *v,
                unsigned n)
{
    float top = 0;

    for (unsigned i = 0; i < n; i++)
        top = v[i] > top ? v[i] : top;
    for (unsigned i = 0; i < w; i++) {
        float value = at_place(v, n, i, w);

        (void)screen_put(s, x + i, y, 1, style,
                         isnan(value) ? glyph(s, GLYPH_ABSENT)
                         : top > 0    ? glyph_height(s, (int)(value / top * 7.0f + 0.5f))
                                      : glyph_height(s, 0));
    }
}

void draw_bar(struct screen *s, unsigned x, unsigned y, unsigned w, unsigned style, double ratio)
{
    unsigned full = (unsigned)(ratio < 0 || isnan(ratio) ? 0 : ratio > 1 ? w : ratio * w + 0.5);

    for (unsigned i = 0; i < w; i++)
        (void)screen_put(s, x + i, y, 1, style, glyph(s, i < full ? GLYPH_FULL : GLYPH_EMPTY));
}

/* ---- graphs ---------------------------------------------------------------------------------------------------------- */

static void draw_column(struct screen *s, unsigned x, unsigned y, unsigned h, unsigned style, double ratio)
{
    int eighths = isnan(ratio) ? -1 : (int)(ratio * 8 * h + 0.5);

    if (eighths == 0)
        eighths = 1; /* something was there */
    for (unsigned i = 0; i < h && eighths > 0; i++, eighths -= 8)
        (void)screen_put(s, x, y + h - 1 - i, 1, style, glyph_height(s, eighths > 8 ? 7 : eighths - 1));
}

/* Dots of the left and the right half of a cell, from the lowest. */
static void draw_braille(struct screen *s, unsigned x, unsigned y, unsigned h, unsigned style, double left,
                         double right)
{
    static const unsigned LEFT[] = {0x40, 0x04, 0x02, 0x01}, RIGHT[] = {0x80, 0x20, 0x10, 0x08};

    for (unsigned i = 0; i < h; i++) {
        uint32_t dots = 0;
        char z[4] = {0};

        for (unsigned d = 0; d < 4; d++) {
            double level = (i * 4 + d + 0.5) / (4.0 * h);

            dots |= left >= level || (!isnan(left) && i + d == 0) ? LEFT[d] : 0;
            dots |= right >= level || (!isnan(right) && i + d == 0) ? RIGHT[d] : 0;
        }
        if (!dots)
            continue;
        z[0] = (char)0xe2;
        z[1] = (char)(0xa0 | dots >> 6);
        z[2] = (char)(0x80 | (dots & 63));
        (void)screen_put(s, x, y + h - 1 - i, 1, style, z);
    }
}

void draw_graph(struct screen *s, unsigned x, unsigned y, unsigned w, unsigned h, unsigned style,
                const float *v, unsigned n, double top)
{
    for (unsigned i = 0; i < w && top > 0; i++) {
        if (s->glyphs == GLYPHS_BRAILLE)
            draw_braille(s, x + i, y, h, style, (double)at_place(v, n, 2 * i, 2 * w) / top,
                         (double)at_place(v, n, 2 * i + 1, 2 * w) / top);
        else
            draw_column(s, x + i, y, h, style, (double)at_place(v, n, i, w) / top);
    }
}
