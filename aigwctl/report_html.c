/* SPDX-License-Identifier: Apache-2.0 */
/* A report as one file that loads nothing: styles and charts are in it, there is no script and no address. For mail, charts are
 * tables, since mail programs drop SVG. Every text comes through put(), which leaves no mark-up in it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aigwctl/look.h"
#include "aigwctl/report.h"
#include "libshared/cli/human.h"

#define BAR_MAX     12u
#define COLUMN_WIDE 60.0 /* at most: a single day is a column, too, and no wall */

static void put(FILE *f, const char *z)
{
    for (; *z; z++) {
        size_t n = term_control(span_of(z));

        if (*z == '<')
            (void)fputs("&lt;", f);
        else if (*z == '>')
            (void)fputs("&gt;", f);
        else if (*z == '&')
            (void)fputs("&amp;", f);
        else if (*z == '"')
            (void)fputs("&quot;", f);
        else
            (void)fputc(n ? '?' : *z, f);
        z += n > 1 ? n - 1 : 0;
    }
}

static const char STYLE[] =
    "body{font:15px/1.5 system-ui,sans-serif;color:#1d2430;background:#fff;max-width:60rem;margin:2rem "
    "auto;padding:0 1rem}"
    "h1{font-size:1.6rem;margin-bottom:0}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid "
    "#d9dee6}"
    "p.when{color:#5b6675;margin-top:.2rem}table{border-collapse:collapse;width:100%;font-variant-numeric:"
    "tabular-nums}"
    "th{font-size:.75rem;text-align:left;color:#5b6675}td,th{padding:.25rem .6rem;border-bottom:1px solid "
    "#eceff3}"
    ".n{text-align:right}svg{display:block;margin:.5rem 0;max-width:100%}svg text{font:11px "
    "system-ui,sans-serif;fill:#5b6675}"
    "@media(prefers-color-scheme:dark){body{background:#14181f;color:#dfe5ee}h2{border-color:#333b47}"
    "td,th{border-color:#262d38}}";

static bool is_figure(const struct table_column *c)
{
    enum table_form form = FORM_OF(c);

    return form != FORM_TEXT && form != FORM_NAME && form != FORM_HEALTH;
}

static void put_table(FILE *f, const struct report_section *s)
{
    char text[512];
    size_t i;
    json_t *row;

    (void)fputs("<table>\n<tr>", f);
    for (const struct table_column *c = s->columns; c->key; c++) {
        (void)fprintf(f, "<th%s>", is_figure(c) ? " class=\"n\"" : "");
        put(f, c->heading);
        (void)fputs("</th>", f);
    }
    (void)fputs("</tr>\n", f);
    json_array_foreach(s->rows, i, row)
    {
        (void)fputs("<tr>", f);
        for (const struct table_column *c = s->columns; c->key; c++) {
            (void)fprintf(f, "<td%s>", is_figure(c) ? " class=\"n\"" : "");
            report_cell(text, sizeof(text), c, row);
            put(f, text);
            (void)fputs("</td>", f);
        }
        (void)fputs("</tr>\n", f);
    }
    (void)fputs("</table>\n", f);
}

/* ---- charts ---------------------------------------------------------------------------------------------------------- */

static const struct table_column *column_of(const struct report_section *s)
{
    for (const struct table_column *c = s->columns; c->key; c++)
        if (strcmp(c->key, s->chart) == 0)
            return c;
    return s->columns;
}

static double most_of(const struct report_section *s)
{
    double most = 0;
    size_t i;
    json_t *row;

    json_array_foreach(s->rows, i, row) most = fmax(most, look_number(row, s->chart));
    return most;
}

static void name_of(char *dst, size_t cap, const struct report_section *s, const json_t *row)
{
    char second[200] = "";

    report_cell(dst, cap, &s->columns[0], row);
    if (s->columns[1].key && !is_figure(&s->columns[1])) {
        report_cell(second, sizeof(second), &s->columns[1], row);
        (void)snprintf(dst + strlen(dst), cap - strlen(dst), " %s", second);
    }
}

/* Columns side by side, oldest first. */
static void put_columns(FILE *f, const struct report_section *s)
{
    size_t n = json_array_size(s->rows), i;
    double most = most_of(s), step = 880.0 / (double)(n ? n : 1), wide = fmin(step * 0.8, COLUMN_WIDE);
    char name[256], value[128];
    json_t *row;

    (void)fprintf(f, "<svg viewBox=\"0 0 900 190\" role=\"img\" aria-label=\"");
    put(f, s->title);
    (void)fputs("\">\n<line x1=\"10\" y1=\"160\" x2=\"890\" y2=\"160\" stroke=\"#9aa5b4\"/>\n", f);
    json_array_foreach(s->rows, i, row)
    {
        double v = look_number(row, s->chart), h = most > 0 && v > 0 ? v / most * 140 : 0;

        report_cell(name, sizeof(name), &s->columns[0], row);
        report_cell(value, sizeof(value), column_of(s), row);
        (void)fprintf(f,
                      "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"#3b6ea8\"><title>",
                      10 + ((double)i + 0.5) * step - wide / 2, 160 - h, wide, h);
        put(f, name);
        (void)fputs(": ", f);
        put(f, value);
        (void)fputs("</title></rect>\n", f);
        if (n <= 10 || i % ((n + 9) / 10) == 0) {
            (void)fprintf(f, "<text x=\"%.1f\" y=\"178\" text-anchor=\"middle\">",
                          10 + ((double)i + 0.5) * step);
            put(f, strlen(name) == 10 ? name + 5 : name);
            (void)fputs("</text>\n", f);
        }
    }
    (void)fputs("</svg>\n", f);
}

/* At the beginning of a character. */
static void shorten(char *z, size_t most)
{
    if (strlen(z) <= most)
        return;
    while (most && ((unsigned char)z[most] & 0xc0) == 0x80)
        most--;
    z[most] = '\0';
}

/* Bars under each other, as many as are worth drawing. */
static void put_bars(FILE *f, const struct report_section *s)
{
    size_t n = json_array_size(s->rows), i;
    double most = most_of(s);
    char name[256], value[128];
    json_t *row;

    n = n > BAR_MAX ? BAR_MAX : n;
    (void)fprintf(f, "<svg viewBox=\"0 0 900 %zu\" role=\"img\" aria-label=\"", n * 24 + 8);
    put(f, s->title);
    (void)fputs("\">\n", f);
    json_array_foreach(s->rows, i, row)
    {
        double v = look_number(row, s->chart), w = most > 0 && v > 0 ? v / most * 560 : 0;

        if (i == n)
            break;
        name_of(name, sizeof(name), s, row);
        shorten(name, 40);
        report_cell(value, sizeof(value), column_of(s), row);
        (void)fprintf(f, "<text x=\"240\" y=\"%zu\" text-anchor=\"end\">", i * 24 + 20);
        put(f, name);
        (void)fprintf(f,
                      "</text><rect x=\"250\" y=\"%zu\" width=\"%.1f\" height=\"16\" fill=\"#3b6ea8\"/><text "
                      "x=\"%.1f\" y=\"%zu\">",
                      i * 24 + 8, w, 256 + w, i * 24 + 20);
        put(f, value);
        (void)fputs("</text>\n", f);
    }
    (void)fputs("</svg>\n", f);
}

static void put_mail_chart(FILE *f, const struct report_section *s)
{
    double most = most_of(s);
    char name[256], value[128];
    size_t i;
    json_t *row;

    (void)fputs("<table cellspacing=\"2\">\n", f);
    json_array_foreach(s->rows, i, row)
    {
        double v = look_number(row, s->chart);
        int w = most > 0 && v > 0 ? (int)ceil(v / most * 300) : 1;

        if (!s->is_by_time && i == BAR_MAX)
            break;
        name_of(name, sizeof(name), s, row);
        report_cell(value, sizeof(value), column_of(s), row);
        (void)fputs("<tr><td>", f);
        put(f, name);
        (void)fprintf(f,
                      "</td><td><table cellspacing=\"0\"><tr><td bgcolor=\"#3b6ea8\" "
                      "width=\"%d\">&nbsp;</td></tr></table></td><td>",
                      w);
        put(f, value);
        (void)fputs("</td></tr>\n", f);
    }
    (void)fputs("</table>\n", f);
}

static void put_section(FILE *f, const struct report *r, const struct report_section *s)
{
    (void)fputs("<h2>", f);
    put(f, s->title);
    (void)fputs("</h2>\n", f);
    if (!json_array_size(s->rows)) {
        (void)fputs("<p>None.</p>\n", f);
        return;
    }
    if (s->chart && r->is_mail_safe)
        put_mail_chart(f, s);
    else if (s->chart && s->is_by_time)
        put_columns(f, s);
    else if (s->chart)
        put_bars(f, s);
    put_table(f, s);
    if (s->note) {
        (void)fputs("<p class=\"when\">", f);
        put(f, s->note);
        (void)fputs("</p>\n", f);
    }
}

void report_write_html(FILE *f, const struct report *r)
{
    size_t i;
    json_t *text;

    (void)fputs("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                "<meta name=\"viewport\" content=\"width=device-width\">\n<title>",
                f);
    put(f, r->title);
    (void)fprintf(f, "</title>\n<style>%s</style>\n</head>\n<body>\n<h1>", STYLE);
    put(f, r->title);
    (void)fputs("</h1>\n<p class=\"when\">", f);
    put(f, r->period);
    (void)fputs(", made ", f);
    put(f, r->made);
    (void)fputs("</p>\n", f);
    for (i = 0; i < r->n; i++)
        put_section(f, r, &r->sections[i]);
    json_array_foreach(r->missing, i, text)
    {
        (void)fputs("<p class=\"when\">", f);
        put(f, json_string_value(text));
        (void)fputs("</p>\n", f);
    }
    (void)fputs("</body>\n</html>\n", f);
}
