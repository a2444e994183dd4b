/* SPDX-License-Identifier: Apache-2.0 */
/* Cells. Pure, but for the locale that wcwidth() asks. The tricky part is put_code(): every character that came from outside goes
 * through it. */
#include "aigwtop/view/screen.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>

#include "libshared/base/utf8.h"

void screen_init(struct screen *s, unsigned w, unsigned h, enum glyphs glyphs)
{
    *s = (struct screen){.w = w ? w : 1, .h = h ? h : 1, .glyphs = glyphs};
    s->cells = calloc((size_t)s->w * s->h, sizeof(*s->cells));
    if (!s->cells)
        abort();
    screen_fill(s, 0, 0, s->w, s->h);
}

void screen_release(struct screen *s)
{
    free(s->cells);
    s->cells = NULL;
}

static struct cell *cell_at(struct screen *s, unsigned x, unsigned y)
{
    return &s->cells[(size_t)y * s->w + x];
}

void screen_fill(struct screen *s, unsigned x, unsigned y, unsigned w, unsigned h)
{
    for (unsigned i = y; i < y + h && i < s->h; i++)
        for (unsigned k = x; k < x + w && k < s->w; k++)
            *cell_at(s, k, i) = (struct cell){' ', STYLE_PLAIN};
}

void screen_add_style(struct screen *s, unsigned x, unsigned y, unsigned w, unsigned style)
{
    for (unsigned k = x; y < s->h && k < x + w && k < s->w; k++)
        cell_at(s, k, y)->style |= (uint8_t)style;
}

/* The next character of a text: its code, made harmless, and its width; returns its bytes. */
static size_t next_code(const struct screen *s, struct span text, uint32_t *code, unsigned *width)
{
    size_t n = utf8_valid_len(text.p, text.len);
    uint32_t c = n ? utf8_decode(text.p, n) : '?';
    int w;

    *width = 1;
    if (c < 0x20 || c == 0x7f || utf8_is_unseen(c) || (c >= 0x80 && s->glyphs == GLYPHS_ASCII))
        c = '?';
    w = c < 0x80 ? 1 : wcwidth((wchar_t)c);
    if (w < 1 || w > 2) /* combining marks could be stacked for ever */
        c = '?';
    else
        *width = (unsigned)w;
    *code = c;
    return n ? n : 1;
}

unsigned screen_width(const struct screen *s, const char *z)
{
    struct span rest = span_of(z);
    unsigned total = 0;

    while (rest.len) {
        unsigned w;
        uint32_t code;
        size_t n = next_code(s, rest, &code, &w);

        total += w;
        rest = span_make(rest.p + n, rest.len - n);
    }
    return total;
}

/* How many bytes of the text fit `width` cells. */
static size_t fitting(const struct screen *s, struct span text, unsigned width, unsigned *out_cells)
{
    size_t taken = 0;

    *out_cells = 0;
    while (taken < text.len) {
        uint32_t code;
        unsigned w;
        size_t n = next_code(s, span_make(text.p + taken, text.len - taken), &code, &w);

        if (*out_cells + w > width)
            break;
        *out_cells += w;
        taken += n;
    }
    return taken;
}

static void put_span(struct screen *s, unsigned x, unsigned y, unsigned style, struct span text)
{
    while (text.len) {
        uint32_t code;
        unsigned w;
        size_t n = next_code(s, text, &code, &w);

        if (x + w > s->w)
            return;
        *cell_at(s, x, y) = (struct cell){code, (uint8_t)style};
        if (w == 2)
            *cell_at(s, x + 1, y) = (struct cell){0, (uint8_t)style};
        x += w;
        text = span_make(text.p + n, text.len - n);
    }
}

unsigned screen_put(struct screen *s, unsigned x, unsigned y, unsigned width, unsigned style, const char *z)
{
    struct span text = span_of(z ? z : "");
    unsigned cells;
    size_t n;

    if (x >= s->w || y >= s->h)
        return 0;
    if (!width || width > s->w - x)
        width = s->w - x;
    n = fitting(s, text, width, &cells);
    if (n < text.len) {
        n = fitting(s, text, width - 1, &cells);
        put_span(s, x, y, style, span_make(text.p, n));
        put_span(s, x + cells, y, style, span_of(glyph(s, GLYPH_ELLIPSIS)));
        return cells + 1;
    }
    put_span(s, x, y, style, text);
    return cells;
}

unsigned screen_putf(struct screen *s, unsigned x, unsigned y, unsigned width, unsigned style,
                     const char *fmt, ...)
{
    char text[1024];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return screen_put(s, x, y, width, style, text);
}

void screen_put_right(struct screen *s, unsigned x, unsigned y, unsigned width, unsigned style, const char *z)
{
    unsigned cells = screen_width(s, z);

    if (cells < width)
        x += width - cells;
    (void)screen_put(s, x, y, cells < width ? cells : width, style, z);
}

static void put_utf8(struct buf *b, uint32_t c)
{
    if (c < 0x80) {
        buf_addc(b, (char)c);
    } else if (c < 0x800) {
        buf_addc(b, (char)(0xc0 | c >> 6));
        buf_addc(b, (char)(0x80 | (c & 63)));
    } else {
        if (c >= 0x10000)
            buf_addc(b, (char)(0xf0 | c >> 18));
        buf_addc(b, (char)(c >= 0x10000 ? (int)(0x80 | ((c >> 12) & 63)) : (int)(0xe0 | c >> 12)));
        buf_addc(b, (char)(0x80 | ((c >> 6) & 63)));
        buf_addc(b, (char)(0x80 | (c & 63)));
    }
}

static char style_letter(unsigned style)
{
    static const char LETTERS[STYLE_COUNT + 1] = " bhowcsk";

    if (style & STYLE_SELECTED)
        return '#';
    if (style & STYLE_DIM)
        return '-';
    return LETTERS[style % STYLE_COUNT];
}

void screen_text(const struct screen *s, struct buf *out, bool has_styles)
{
    for (unsigned y = 0; y < s->h; y++) {
        const struct cell *row = &s->cells[(size_t)y * s->w];
        unsigned last = 0, styled = 0;

        for (unsigned x = 0; x < s->w; x++) {
            if (row[x].code != ' ')
                last = x + 1;
            if (row[x].style != STYLE_PLAIN)
                styled = x + 1;
        }
        for (unsigned x = 0; x < last; x++)
            if (row[x].code)
                put_utf8(out, row[x].code);
        buf_addc(out, '\n');
        if (!has_styles || !styled)
            continue;
        buf_addc(out, '~');
        for (unsigned x = 0; x < styled; x++)
            buf_addc(out, row[x].style == STYLE_PLAIN ? '.' : style_letter(row[x].style));
        buf_addc(out, '\n');
    }
}
