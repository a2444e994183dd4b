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
#include "libshared/cli/csv.h"
#include "libshared/cli/human.h"
#include "libshared/cli/term.h"

static bool is_figure(enum table_form form)
{
    return form != FORM_TEXT && form != FORM_NAME && form != FORM_HEALTH;
}

/* A time that is not shown as an age. */
static void time_text(char dst[HUMAN_CAP], const char *z, const struct table_style *style)
{
    struct wall t;
    struct tm tm;
    time_t seconds;

    if (style->time == TABLE_UTC || !human_parse_time(z, &t)) {
        (void)span_copy(dst, HUMAN_CAP, span_of(z));
        return;
    }
    seconds = (time_t)(t.us / 1000000);
    if (style->time == TABLE_UNIX)
        (void)snprintf(dst, HUMAN_CAP, "%lld", (long long)seconds);
    else if (!localtime_r(&seconds, &tm) || !strftime(dst, HUMAN_CAP, "%Y-%m-%dT%H:%M:%S%z", &tm))
        (void)span_copy(dst, HUMAN_CAP, span_of(z));
}

static void age_text(char dst[HUMAN_CAP], const char *z, const struct table_style *style)
{
    struct wall t;
    char d[HUMAN_CAP];

    if (!style->is_relative || !human_parse_time(z, &t)) {
        time_text(dst, z, style);
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
        time_text(dst, z, style);
}

/* --exact: every digit; money in dollars, as its heading says. */
static void exact_text(char dst[HUMAN_CAP], enum table_form form, const json_t *v)
{
    if (form == FORM_YES)
        (void)span_copy(dst, HUMAN_CAP, json_number_value(v) > 0 ? SPAN_LIT("yes") : SPAN_LIT("no"));
    else if (form == FORM_USD)
        (void)snprintf(dst, HUMAN_CAP, "$%.9f", json_number_value(v) / 1e9);
    else if (json_is_integer(v))
        (void)snprintf(dst, HUMAN_CAP, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else
        (void)snprintf(dst, HUMAN_CAP, "%.15g", json_real_value(v));
}

static void figure_text(char dst[HUMAN_CAP], enum table_form form, const json_t *v)
{
    double d = json_number_value(v);

    switch (form) {
    case FORM_LIMIT:
        if (d <= 0) {
            (void)snprintf(dst, HUMAN_CAP, "none");
            break;
        }
        __attribute__((fallthrough));
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
    case FORM_CHANGE:
        (void)snprintf(dst, HUMAN_CAP, "%+.0f%%%s", d * 100, fabs(d) >= 0.25 ? " !" : "");
        break;
    case FORM_PER100:
        human_percent(dst, d / 100);
        break;
    case FORM_NUMBER:
    case FORM_NAME:
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
        if (style->is_exact)
            exact_text(text, form, v);
        else
            figure_text(text, form, v);
        (void)span_copy(dst, cap, span_of(text));
    } else {
        (void)span_copy(dst, cap,
                        json_is_boolean(v) ? span_of(json_is_true(v) ? "yes" : "no") : SPAN_LIT("?"));
    }
}

static const char *color_of(const char *word)
{
    static const char *const WORDS[][2] = {
        {"healthy", "green"}, {"CLOSED", "green"},     {"ok", "green"},       {"degraded", "yellow"},
        {"warn", "yellow"},   {"HALF_OPEN", "yellow"}, {"warning", "yellow"}, {"unhealthy", "red"},
        {"OPEN", "red"},      {"critical", "red"},     {"FAIL", "red"},
    };

    for (size_t i = 0; i < ARRAY_LEN(WORDS); i++)
        if (strcmp(word, WORDS[i][0]) == 0)
            return WORDS[i][1];
    return NULL;
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

static unsigned width_of(const char *text)
{
    unsigned n = 0;

    for (; *text; text++)
        n += term_step(*text);
    return n;
}

static bool can_cut(const struct table_column *column)
{
    return !is_figure(FORM_OF(column)) && FORM_OF(column) != FORM_NAME;
}

/* A name whose end is missing must not look like another name. */
static void cut(char *text, size_t cap, unsigned width)
{
    char *end = text;

    if (width_of(text) <= width)
        return;
    for (unsigned n = 0; *end; end++) {
        n += term_step(*end);
        if (n >= width)
            break;
    }
    while (end > text && ((unsigned char)*end & 0xc0) == 0x80)
        end--; /* no half of a character */
    (void)span_copy(end, cap - (size_t)(end - text), MB_CUR_MAX > 1 ? SPAN_LIT("…") : SPAN_LIT("~"));
}

static void wrap(char *dst, size_t cap, const char *z, unsigned width)
{
    size_t len = 0;

    while (*z && len + 1 < cap) {
        size_t n = term_line_len(z, width);

        (void)span_copy(dst + len, cap - len, span_make(z, n));
        len += strlen(dst + len);
        z += n;
        z += *z == ' ';
        if (*z && len + 1 < cap)
            dst[len++] = '\n';
    }
    dst[len] = '\0';
}

#define CELL_CAP    512
#define PROSE_WIDTH 16
#define MIN_WIDTH   8 /* a text is not cut below this while another one can give way */
#define END_WIDTH   3 /* nor below this, even where a line gets too long by it */

static void cell_text(char text[CELL_CAP], const struct table_column *column, const json_t *row,
                      const struct table_style *style)
{
    table_cell(text, CELL_CAP, FORM_OF(column), json_object_get(row, column->key), style);
    clean(text);
    for (char *z = text; column->form & FORM_WRAP && *z; z++)
        *z = *z == '\n' ? ' ' : *z; /* lines end where we say */
}

/* What each column takes as it is, and all with the gaps between. */
static unsigned measure(unsigned *widths, const struct table_column *columns, const json_t *rows,
                        const struct table_style *style)
{
    unsigned total = 0;
    char text[CELL_CAP];
    const json_t *row;
    size_t i, r;

    for (i = 0; columns[i].key; i++) {
        widths[i] = style->has_no_headings ? 0 : width_of(columns[i].heading);
        json_array_foreach(rows, r, row)
        {
            cell_text(text, &columns[i], row, style);
            widths[i] = width_of(text) > widths[i] ? width_of(text) : widths[i];
        }
        total += widths[i] + (i ? 2 : 0);
    }
    return total;
}

/* Leaves columns out that make room for texts; what all take then. */
static unsigned drop_spares(struct table_column *columns, unsigned *widths, unsigned total, unsigned width)
{
    size_t n = 0;

    while (columns[n].key)
        n++;
    for (size_t i = n; i-- > 1 && total > width;) {
        if (!(columns[i].form & FORM_SPARE))
            continue;
        total -= widths[i] + 2;
        memmove(&columns[i], &columns[i + 1], (n - i) * sizeof(*columns));
        memmove(&widths[i], &widths[i + 1], (n - i) * sizeof(*widths));
        n--;
    }
    return total;
}

/* The last text that goes on in lines of its own is prose, which suffers least. */
static unsigned shrink_prose(unsigned *widths, const struct table_column *columns, unsigned total,
                             unsigned width)
{
    size_t last = 0, i;
    unsigned give;

    for (i = 1; columns[i].key; i++)
        last = columns[i].form & FORM_WRAP ? i : last;
    if (!last || total <= width || widths[last] <= PROSE_WIDTH)
        return total;
    give = widths[last] - PROSE_WIDTH < total - width ? widths[last] - PROSE_WIDTH : total - width;
    widths[last] -= give;
    return total - give;
}

/* A column is as wide as its heading, whatever its texts are cut to. */
static unsigned floor_of(const struct table_column *column, unsigned least)
{
    return width_of(column->heading) > least ? width_of(column->heading) : least;
}

/* The widest of the texts gives way first. */
static unsigned shrink(unsigned *widths, const struct table_column *columns, unsigned total, unsigned width,
                       unsigned least)
{
    while (total > width) {
        unsigned *widest = NULL;

        for (size_t i = 0; columns[i].key; i++)
            if (can_cut(&columns[i]) && widths[i] > floor_of(&columns[i], least) &&
                (!widest || widths[i] > *widest))
                widest = &widths[i];
        if (!widest)
            break;
        --*widest;
        total--;
    }
    return total;
}

/* What all columns take when every text is cut as far as can be. */
static unsigned least_of(const unsigned *widths, const struct table_column *columns)
{
    unsigned total = 0;

    for (size_t i = 0; columns[i].key; i++)
        total += (i ? 2 : 0) + (can_cut(&columns[i]) && widths[i] > floor_of(&columns[i], END_WIDTH)
                                    ? floor_of(&columns[i], END_WIDTH)
                                    : widths[i]);
    return total;
}

static void add_row(struct libscols_table *t, const struct table_column *columns, const unsigned *widths,
                    const json_t *row, const struct table_style *style)
{
    struct libscols_line *line = scols_table_new_line(t, NULL);
    char text[CELL_CAP], lines[2 * CELL_CAP];

    for (size_t i = 0; line && columns[i].key; i++) {
        cell_text(text, &columns[i], row, style);
        if (style->has_color && FORM_OF(&columns[i]) == FORM_HEALTH && color_of(text))
            (void)scols_cell_set_color(scols_line_get_cell(line, i), color_of(text));
        if (style->width && can_cut(&columns[i]) && columns[i].form & FORM_WRAP) {
            wrap(lines, sizeof(lines), text, widths[i]);
            (void)scols_line_set_data(line, i, lines);
            continue;
        }
        if (style->width && can_cut(&columns[i]))
            cut(text, sizeof(text), widths[i]);
        (void)scols_line_set_data(line, i, text);
    }
}

static void add_column(struct libscols_table *t, const struct table_column *c,
                       const struct table_style *style)
{
    bool is_wrapped = style->width && c->form & FORM_WRAP;
    int flags = is_figure(FORM_OF(c))        ? SCOLS_FL_RIGHT
                : is_wrapped                 ? SCOLS_FL_WRAP
                : style->width && can_cut(c) ? SCOLS_FL_TRUNC
                                             : 0;
    struct libscols_column *column = scols_table_new_column(t, c->heading, 0, flags);

    if (!column)
        abort();
    if (is_wrapped) {
        (void)scols_column_set_safechars(column, "\n");
        (void)scols_column_set_wrapfunc(column, scols_wrapnl_chunksize, scols_wrapnl_nextchunk, NULL);
    }
}

void table_print(FILE *f, const struct table_column *all, const json_t *rows, const struct table_style *style)
{
    struct table_column *columns;
    struct libscols_table *t;
    size_t i, n = 0;
    unsigned *widths, width = style->width;
    json_t *row;

    scols_init_debug(0);
    t = scols_new_table();
    while (all[n].key)
        n++;
    columns = calloc(n + 1, sizeof(*columns));
    widths = calloc(n + 1, sizeof(*widths));
    if (!t || !columns || !widths)
        abort();
    memcpy(columns, all, n * sizeof(*columns));
    if (style->width) {
        unsigned total = measure(widths, columns, rows, style);

        total = drop_spares(columns, widths, total, style->width);
        total = shrink_prose(widths, columns, total, style->width);
        total = shrink(widths, columns, total, style->width, MIN_WIDTH);
        if (total > style->width && least_of(widths, columns) <= style->width)
            total = shrink(widths, columns, total, style->width, END_WIDTH);
        width = total > width ? total : width;
    }
    (void)scols_table_set_stream(t, f);
    (void)scols_table_enable_colors(t, style->has_color);
    (void)scols_table_set_column_separator(t, "  ");
    (void)scols_table_enable_noheadings(t, style->has_no_headings);
    for (i = 0; columns[i].key; i++)
        add_column(t, &columns[i], style);
    if (style->width) {
        (void)scols_table_set_termwidth(t, width);
        (void)scols_table_set_termforce(t, SCOLS_TERMFORCE_ALWAYS);
    } else {
        (void)scols_table_set_termforce(t, SCOLS_TERMFORCE_NEVER);
    }
    json_array_foreach(rows, i, row) add_row(t, columns, widths, row, style);
    (void)scols_print_table(t);
    scols_unref_table(t);
    free(columns);
    free(widths);
}

/* ---- CSV ----------------------------------------------------------------------------------------------------------- */

static void csv_text(FILE *f, const char *z)
{
    struct buf b AUTO(buf_release) = {0};

    csv_add_text(&b, z);
    (void)fwrite(b.p ? b.p : "", 1, b.len, f);
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

static void tsv_value(FILE *f, const json_t *v)
{
    for (const char *z = json_string_value(v); z && *z; z++) {
        size_t n = term_control(span_of(z));

        (void)fputc(n ? (*z == '\t' || *z == '\n' || *z == '\r' ? ' ' : '?') : *z, f);
        z += n > 1 ? n - 1 : 0;
    }
    if (!json_is_string(v))
        csv_value(f, v);
}

struct separated {
    char between;
    const char *end;
    void (*put)(FILE *, const json_t *);
};

static void print_separated(FILE *f, const struct separated *how, const struct table_column *columns,
                            const json_t *rows, bool has_headings)
{
    size_t i;
    json_t *row;

    for (i = 0; has_headings && columns[i].key; i++) {
        if (i)
            (void)fputc(how->between, f);
        (void)fputs(columns[i].key, f);
    }
    if (i)
        (void)fputs(how->end, f);
    json_array_foreach(rows, i, row)
    {
        for (size_t c = 0; columns[c].key; c++) {
            if (c)
                (void)fputc(how->between, f);
            how->put(f, json_object_get(row, columns[c].key));
        }
        (void)fputs(how->end, f);
    }
}

void table_print_csv(FILE *f, const struct table_column *columns, const json_t *rows, bool has_headings)
{
    print_separated(f, &(struct separated){',', "\r\n", csv_value}, columns, rows, has_headings);
}

void table_print_tsv(FILE *f, const struct table_column *columns, const json_t *rows, bool has_headings)
{
    print_separated(f, &(struct separated){'\t', "\n", tsv_value}, columns, rows, has_headings);
}

/* Names that are no name without another. */
static const char *second_name(const struct table_column *columns)
{
    static const char *const PAIRS[][2] = {{"provider", "model"}, {"tenant", "id"}, {"tenant", "key"}};

    for (size_t i = 0; i < ARRAY_LEN(PAIRS); i++)
        for (size_t c = 1; strcmp(columns[0].key, PAIRS[i][0]) == 0 && columns[c].key; c++)
            if (strcmp(columns[c].key, PAIRS[i][1]) == 0)
                return PAIRS[i][1];
    return NULL;
}

void table_print_names(FILE *f, const struct table_column *columns, const json_t *rows)
{
    static const struct table_style STYLE = {.is_exact = true};
    const struct table_column *first =
        columns[0].key && !columns[0].heading[0] ? columns + 1 : columns; /* a mark */
    const char *second = first->key ? second_name(first) : NULL;
    char text[512];
    size_t i;
    json_t *row;

    json_array_foreach(rows, i, row)
    {
        table_cell(text, sizeof(text), FORM_TEXT, json_object_get(row, first->key), &STYLE);
        term_put(f, text);
        if (second && json_is_string(json_object_get(row, second))) {
            (void)fputc('/', f);
            term_put(f, json_string_value(json_object_get(row, second)));
        }
        (void)fputc('\n', f);
    }
}

/* ---- documents ------------------------------------------------------------------------------------------------------- */

/* The library escapes C0 only; DEL, C1 and what turns the direction of text, which terminals obey too, are within strings and can be escaped there. */
static void put_escaped(FILE *f, const json_t *o, size_t flags)
{
    char *text = json_dumps(o, flags | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));

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
    free(text);
}

static void put_yaml(FILE *f, const json_t *o, unsigned depth, bool is_in_list);

static void put_yaml_key(FILE *f, const char *key)
{
    json_t *text;

    if (*key && strspn(key, "abcdefghijklmnopqrstuvwxyz_0123456789") == strlen(key) && key[0] > '9' &&
        strcmp(key, "y") != 0 && strcmp(key, "n") != 0 && strcmp(key, "yes") != 0 && strcmp(key, "no") != 0 &&
        strcmp(key, "on") != 0 && strcmp(key, "off") != 0 && strcmp(key, "true") != 0 &&
        strcmp(key, "false") != 0 && strcmp(key, "null") != 0) {
        (void)fputs(key, f);
        return;
    }
    text = json_string(key);
    put_escaped(f, text, 0);
    json_decref(text);
}

static void put_yaml_object(FILE *f, const json_t *o, unsigned depth, bool is_in_list)
{
    const char *key;
    json_t *value;
    bool is_first = is_in_list;

    json_object_foreach((json_t *)(uintptr_t)o, key, value)
    {
        (void)fprintf(f, "%*s", is_first ? 0 : (int)depth * 2, "");
        is_first = false;
        put_yaml_key(f, key);
        (void)fputc(':', f);
        put_yaml(f, value, depth + 1, false);
    }
}

/* After "key:" or "- "; ends its line. */
static void put_yaml(FILE *f, const json_t *o, unsigned depth, bool is_in_list)
{
    size_t i;
    json_t *value;

    if (json_is_object(o) && json_object_size(o)) {
        if (!is_in_list && depth)
            (void)fputc('\n', f);
        put_yaml_object(f, o, depth, is_in_list);
    } else if (json_is_array(o) && json_array_size(o)) {
        if (depth)
            (void)fputc('\n', f);
        json_array_foreach(o, i, value)
        {
            (void)fprintf(f, "%*s- ", (int)depth * 2, "");
            put_yaml(f, value, depth + 1, true);
        }
    } else {
        if (!is_in_list && depth)
            (void)fputc(' ', f);
        put_escaped(f, o, 0);
        (void)fputc('\n', f);
    }
}

void table_print_yaml(FILE *f, const json_t *o)
{
    put_yaml(f, o, 0, false);
}

void table_print_document(FILE *f, const json_t *o)
{
    put_escaped(f, o, JSON_INDENT(2));
    (void)fputc('\n', f);
}

void table_print_line(FILE *f, const json_t *o)
{
    put_escaped(f, o, JSON_COMPACT);
    (void)fputc('\n', f);
}

json_t *table_envelope(const char *schema, const json_t *data, bool is_stale)
{
    char when[WALL_TEXT_CAP], name[128];
    json_t *o = json_object();

    (void)wall_format(wall_now(), when, sizeof(when));
    (void)snprintf(name, sizeof(name), "gatewayd.%s/1", schema);
    (void)json_object_set_new(o, "schema", json_string(name));
    (void)json_object_set_new(o, "generated_at", json_string(when));
    (void)json_object_set_new(o, "source", json_string("api"));
    (void)json_object_set_new(o, "stale", json_boolean(is_stale));
    (void)json_object_set_new(o, "warnings", json_array());
    (void)json_object_set_new(o, "data", json_deep_copy(data));
    return o;
}
