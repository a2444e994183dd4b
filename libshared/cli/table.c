/* SPDX-License-Identifier: Apache-2.0 */
/* libsmartcols lays out; it also escapes what is not printable, so that a name from a server cannot move the cursor. */
#include "libshared/cli/table.h"

#include <inttypes.h>
#include <libsmartcols.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/base/compiler.h"
#include "libshared/base/span.h"
#include "libshared/cli/human.h"
#include "libshared/cli/term.h"

static bool is_figure(enum table_form form)
{
    return form != FORM_TEXT && form != FORM_NAME && form != FORM_HEALTH;
}

static void age_text(char dst[HUMAN_CAP], const char *z, const struct table_style *style)
{
    struct wall t;
    char d[HUMAN_CAP];

    if (!style->is_relative || !human_parse_time(z, &t)) {
        (void)span_copy(dst, HUMAN_CAP, span_of(z));
        return;
    }
    human_duration(d, style->now.us > t.us ? (style->now.us - t.us) / 1000000 : 0);
    (void)snprintf(dst, HUMAN_CAP, "%.40s ago", d);
}

static void until_text(char dst[HUMAN_CAP], const char *z, const struct table_style *style)
{
    struct wall t;

    if (style->is_relative && human_parse_time(z, &t))
        human_duration(dst, t.us > style->now.us ? (t.us - style->now.us) / 1000000 : 0);
    else
        (void)span_copy(dst, HUMAN_CAP, span_of(z));
}

static void figure_text(char dst[HUMAN_CAP], enum table_form form, const json_t *v)
{
    double d = json_number_value(v);

    switch (form) {
    case FORM_COUNT:
        human_count(dst, d > 0 ? (uint64_t)d : 0);
        break;
    case FORM_USD:
        human_usd(dst, json_is_integer(v) ? json_integer_value(v) : (int64_t)llround(d));
        break;
    case FORM_DOLLARS:
        human_usd(dst, (int64_t)llround(d * 1e9));
        break;
    case FORM_MS:
        human_ms(dst, d);
        break;
    case FORM_PERCENT:
        human_percent(dst, d);
        break;
    case FORM_TEXT: /* a number that is a name, such as a place in a journal: every digit counts */
        if (json_is_integer(v))
            (void)snprintf(dst, HUMAN_CAP, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        else
            (void)snprintf(dst, HUMAN_CAP, "%.15g", d);
        break;
    case FORM_YES:
        (void)span_copy(dst, HUMAN_CAP, d > 0 ? SPAN_LIT("yes") : SPAN_LIT("no"));
        break;
    default:
        human_rate(dst, d);
        break;
    }
}

void table_cell(char *dst, size_t cap, enum table_form form, const json_t *v, const struct table_style *style)
{
    char text[HUMAN_CAP];

    if (!v || json_is_null(v)) {
        (void)span_copy(dst, cap, SPAN_LIT("-"));
    } else if (json_is_string(v) && form == FORM_AGE) {
        age_text(text, json_string_value(v), style);
        (void)span_copy(dst, cap, span_of(text));
    } else if (json_is_string(v) && form == FORM_UNTIL) {
        until_text(text, json_string_value(v), style);
        (void)span_copy(dst, cap, span_of(text));
    } else if (json_is_string(v)) {
        (void)span_copy(dst, cap, span_of(json_string_value(v)));
    } else if (json_is_number(v)) {
        figure_text(text, form, v);
        (void)span_copy(dst, cap, span_of(text));
    } else {
        (void)span_copy(dst, cap,
                        json_is_boolean(v) ? span_of(json_is_true(v) ? "yes" : "no") : SPAN_LIT("?"));
    }
}

static const char *color_of(const char *word)
{
    if (strcmp(word, "healthy") == 0)
        return "green";
    if (strcmp(word, "degraded") == 0)
        return "yellow";
    return strcmp(word, "unhealthy") == 0 ? "red" : NULL;
}

/* The layout library escapes control characters, but not what turns the direction of text. */
static void clean(char *text)
{
    char *to = text;

    for (size_t n; *text; text += n) {
        n = term_control(span_of(text)) == 3 ? 3 : 1;
        *to++ = n == 3 ? '?' : *text;
    }
    *to = '\0';
}

static void add_row(struct libscols_table *t, const struct table_column *columns, const json_t *row,
                    const struct table_style *style)
{
    struct libscols_line *line = scols_table_new_line(t, NULL);
    char text[512];

    for (size_t i = 0; line && columns[i].key; i++) {
        table_cell(text, sizeof(text), columns[i].form, json_object_get(row, columns[i].key), style);
        clean(text);
        (void)scols_line_set_data(line, i, text);
        if (style->has_color && columns[i].form == FORM_HEALTH && color_of(text))
            (void)scols_cell_set_color(scols_line_get_cell(line, i), color_of(text));
    }
}

void table_print(FILE *f, const struct table_column *columns, const json_t *rows,
                 const struct table_style *style)
{
    struct libscols_table *t;
    size_t i;
    json_t *row;

    scols_init_debug(0);
    t = scols_new_table();
    if (!t)
        abort();
    (void)scols_table_set_stream(t, f);
    (void)scols_table_enable_colors(t, style->has_color);
    (void)scols_table_set_column_separator(t, "  ");
    for (i = 0; columns[i].key; i++) {
        int flags = is_figure(columns[i].form)     ? SCOLS_FL_RIGHT
                    : columns[i].form == FORM_NAME ? 0
                                                   : SCOLS_FL_TRUNC;

        if (!scols_table_new_column(t, columns[i].heading, 0, style->width ? flags : flags & ~SCOLS_FL_TRUNC))
            abort();
    }
    if (style->width) {
        (void)scols_table_set_termwidth(t, style->width);
        (void)scols_table_set_termforce(t, SCOLS_TERMFORCE_ALWAYS);
    } else {
        (void)scols_table_set_termforce(t, SCOLS_TERMFORCE_NEVER);
    }
    json_array_foreach(rows, i, row) add_row(t, columns, row, style);
    (void)scols_print_table(t);
    scols_unref_table(t);
}

/* ---- CSV ----------------------------------------------------------------------------------------------------------- */

/* A text that a spreadsheet would take for a formula gets an apostrophe in front; what would move a terminal's cursor is
 * a question mark. */
static void csv_text(FILE *f, const char *z)
{
    bool quoted = z[strcspn(z, ",\"\r\n")] != '\0';

    if (quoted)
        (void)fputc('"', f);
    if (strchr("=+-@\t", z[0]) && z[0])
        (void)fputc('\'', f);
    for (; *z; z++) {
        size_t n = strchr("\t\r\n", *z) ? 0 : term_control(span_of(z));

        if (*z == '"')
            (void)fputc('"', f);
        (void)fputc(n ? '?' : *z, f);
        z += n > 1 ? n - 1 : 0;
    }
    if (quoted)
        (void)fputc('"', f);
}

static void csv_value(FILE *f, const json_t *v)
{
    if (json_is_string(v))
        csv_text(f, json_string_value(v));
    else if (json_is_integer(v))
        (void)fprintf(f, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else if (json_is_real(v))
        (void)fprintf(f, "%.15g", json_real_value(v));
    else if (json_is_boolean(v))
        (void)fputs(json_is_true(v) ? "true" : "false", f);
}

void table_print_csv(FILE *f, const struct table_column *columns, const json_t *rows)
{
    size_t i;
    json_t *row;

    for (i = 0; columns[i].key; i++)
        (void)fprintf(f, "%s%s", i ? "," : "", columns[i].key);
    (void)fputs("\r\n", f);
    json_array_foreach(rows, i, row)
    {
        for (size_t c = 0; columns[c].key; c++) {
            if (c)
                (void)fputc(',', f);
            csv_value(f, json_object_get(row, columns[c].key));
        }
        (void)fputs("\r\n", f);
    }
}

/* The library escapes C0 only; DEL, C1 and what turns the direction of text, which terminals obey too, are within strings and can be escaped there. */
static void put_json(FILE *f, const json_t *o)
{
    char *text = json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(15));

    for (const char *p = text; p && *p; p++) {
        size_t n = *p == '\n' ? 0 : term_control(span_of(p));

        if (n == 3) /* U+2000 and up, in UTF-8 */
            (void)fprintf(f, "\\u%04x",
                          0x2000u | ((unsigned char)p[1] & 0x3fu) << 6 | ((unsigned char)p[2] & 0x3fu));
        else if (n)
            (void)fprintf(f, "\\u%04x", (unsigned char)p[n - 1]);
        else
            (void)fputc(*p, f);
        p += n > 1 ? n - 1 : 0;
    }
    (void)fputc('\n', f);
    free(text);
}

void table_print_json(FILE *f, const char *schema, const json_t *data)
{
    char when[WALL_TEXT_CAP], name[128];
    json_t *o = json_object();

    (void)wall_format(wall_now(), when, sizeof(when));
    (void)snprintf(name, sizeof(name), "gatewayd.%s/1", schema);
    (void)json_object_set_new(o, "schema", json_string(name));
    (void)json_object_set_new(o, "generated_at", json_string(when));
    (void)json_object_set_new(o, "source", json_string("api"));
    (void)json_object_set_new(o, "stale", json_false());
    (void)json_object_set_new(o, "warnings", json_array());
    (void)json_object_set_new(o, "data", json_deep_copy(data));
    put_json(f, o);
    json_decref(o);
}
