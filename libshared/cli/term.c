/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/cli/term.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static bool is_set(const char *name)
{
    const char *v = getenv(name);

    return v && *v;
}

static bool is_forced(const char *name)
{
    const char *v = getenv(name);

    return v && *v && strcmp(v, "0") != 0;
}

bool term_is_tty(FILE *f)
{
    return isatty(fileno(f)) == 1;
}

bool term_wants_color(FILE *f, enum term_color option)
{
    const char *term = getenv("TERM");

    if (option != TERM_COLOR_AUTO)
        return option == TERM_COLOR_ALWAYS;
    if (is_set("NO_COLOR"))
        return false;
    if (is_forced("CLICOLOR_FORCE") || is_forced("FORCE_COLOR"))
        return true;
    return term_is_tty(f) && term && strcmp(term, "dumb") != 0;
}

unsigned term_width(FILE *f)
{
    struct winsize w;
    const char *columns = getenv("COLUMNS");
    long n = columns ? strtol(columns, NULL, 10) : 0;

    if (term_is_tty(f) && ioctl(fileno(f), TIOCGWINSZ, &w) == 0 && w.ws_col)
        return w.ws_col;
    return n >= 20 && n <= 1000 ? (unsigned)n : 80;
}

unsigned term_rows(const char *text, unsigned width)
{
    unsigned rows = 0, column = 0;

    for (const char *p = text; *p; p++) {
        if (*p == '\033' && p[1] == '[') {
            p += 2 + strspn(p + 2, "0123456789;");
            if (!*p)
                break;
        } else if (*p == '\n') {
            rows++;
            column = 0;
        } else if (((unsigned char)*p & 0xc0) != 0x80 &&
                   column++ == width) { /* the last column does not wrap by itself */
            rows++;
            column = 1;
        }
    }
    return rows;
}

size_t term_control(struct span text)
{
    const unsigned char *p = (const unsigned char *)text.p;

    if (text.len > 1 && p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f)
        return 2;
    if (text.len > 2 && p[0] == 0xe2 &&
        ((p[1] == 0x80 && p[2] >= 0xaa && p[2] <= 0xae) || (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9)))
        return 3;
    return text.len && (p[0] < 0x20 || p[0] == 0x7f);
}

static void put_filtered(FILE *f, struct span text, const char *kept)
{
    while (text.len) {
        size_t n = *text.p && strchr(kept, *text.p) ? 0 : term_control(text);
        size_t step = n ? n : 1;

        (void)fputc(n ? '?' : *text.p, f);
        text = span_make(text.p + step, text.len - step);
    }
}

void term_put(FILE *f, const char *text)
{
    put_filtered(f, span_of(text), "\n");
}

unsigned term_step(char byte)
{
    if (MB_CUR_MAX > 1)
        return ((unsigned char)byte & 0xc0) != 0x80;
    return (unsigned char)byte < 0x80 ? 1 : 4;
}

size_t term_line_len(const char *text, unsigned width)
{
    size_t i, blank = 0, mark = 0, first = strspn(text, " ");
    unsigned n = 0;

    for (i = 0; text[i] && text[i] != '\n'; i++) {
        n += term_step(text[i]);
        if (text[i] == ' ' && i > first)
            blank = i;
        if (n > width)
            return blank ? blank : mark ? mark : i ? i : 1;
        if (strchr("/-_,:", text[i]))
            mark = i + 1;
    }
    return i;
}

void term_put_wrapped(FILE *f, const char *text, unsigned indent, unsigned width)
{
    unsigned room = width > indent + 20 ? width - indent : 20;

    while (width && *text) {
        size_t n = term_line_len(text, room);

        put_filtered(f, span_make(text, n), "");
        text += n;
        text += *text == ' ' || *text == '\n';
        if (*text)
            (void)fprintf(f, "\n%*s", (int)indent, "");
    }
    term_put(f, text);
}

void term_put_body(FILE *f, struct span body)
{
    if (term_is_tty(f))
        put_filtered(f, body, "\n\t");
    else if (body.len)
        (void)fwrite(body.p, 1, body.len, f);
}
