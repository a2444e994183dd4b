/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/cli/rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/base/compiler.h"
#include "libshared/base/span.h"
#include "libshared/cli/filter.h"
#include "libshared/cli/human.h"

#define SORTS_MAX 4u

static size_t count_of(const struct table_column *columns)
{
    size_t n = 0;

    while (columns[n].key)
        n++;
    return n;
}

/* Exactly first, so that a short name is never taken for the beginning of a longer one. */
static size_t find(const struct table_column *columns, const char *name)
{
    size_t n = count_of(columns), len = strlen(name);

    for (size_t i = 0; i < n; i++)
        if (strcasecmp(columns[i].key, name) == 0 || strcasecmp(columns[i].heading, name) == 0)
            return i;
    for (size_t i = 0; i < n && len; i++)
        if (strncasecmp(columns[i].key, name, len) == 0 || strncasecmp(columns[i].heading, name, len) == 0)
            return i;
    return n;
}

static bool is_member(const json_t *rows, const char *name)
{
    size_t i;
    json_t *row;

    json_array_foreach(rows, i, row) if (json_object_get(row, name)) return true;
    return false;
}

/* Of columns that no table has, until as many others were asked for. */
static char *keep(const char *z)
{
    static char *kept[ROWS_COLUMNS_MAX];
    static size_t at;
    char **place = &kept[at++ % ROWS_COLUMNS_MAX];

    free(*place);
    *place = strdup(z);
    return *place;
}

static enum err_code choose(const struct table_column *all, const json_t *rows, char *list,
                            struct table_column *out, struct err *err)
{
    size_t n = count_of(all), used = 0;
    char *save = NULL;

    for (char *z = strtok_r(list, ",", &save); z; z = strtok_r(NULL, ",", &save)) {
        size_t i = find(all, z);
        char *key = i == n && is_member(rows, z) ? keep(z) : NULL;

        if (i == n && !key)
            return err_set(err, ERR_BAD_REQUEST, "there is no column '%s' here", z);
        if (used + 1 == ROWS_COLUMNS_MAX)
            return err_set(err, ERR_BAD_REQUEST, "at most %u columns", ROWS_COLUMNS_MAX - 1);
        out[used] = key ? (struct table_column){key, key, FORM_NUMBER} : all[i];
        out[used++].form &= ~(unsigned)FORM_SPARE; /* it was asked for */
    }
    out[used] = (struct table_column){0};
    return used ? ERR_OK : err_set(err, ERR_BAD_REQUEST, "no column is named");
}

enum err_code rows_columns(const struct table_column *all, const json_t *rows, const struct rows_wish *w,
                           struct table_column *out, struct err *err)
{
    size_t used = 0;

    if (w->columns) {
        char *list = strdup(w->columns);
        enum err_code e = list ? choose(all, rows, list, out, err) : ERR_IO;

        free(list);
        return e;
    }
    for (; all->key && used + 1 < ROWS_COLUMNS_MAX; all++) {
        if (!w->is_wide && (unsigned)all->form & FORM_WIDE)
            continue;
        out[used] = *all;
        out[used++].form &= w->is_wide ? ~(unsigned)FORM_SPARE : ~0u;
    }
    out[used] = (struct table_column){0};
    return ERR_OK;
}

/* ---- filtering ------------------------------------------------------------------------------------------------------- */

struct row_view {
    const struct table_column *columns;
    const json_t *row;
    struct wall now;
};

static size_t find_column(const void *who, const char *name)
{
    return find(who, name);
}

static const char *column_key(const void *who, size_t i)
{
    return ((const struct table_column *)who)[i].key;
}

static enum filter_unit column_unit(const void *who, size_t i)
{
    switch (FORM_OF((const struct table_column *)who + i)) {
    case FORM_TEXT:
    case FORM_WORD:
    case FORM_NAME:
    case FORM_HEALTH:
    case FORM_YES:
        return FILTER_TEXT;
    case FORM_PERCENT:
    case FORM_CHANGE:
        return FILTER_RATIO;
    case FORM_MS:
        return FILTER_MS;
    case FORM_AGE:
    case FORM_UNTIL:
        return FILTER_SECONDS;
    case FORM_USD:
        return FILTER_NANOUSD;
    default:
        return FILTER_NUMBER;
    }
}

static struct filter_value value_of(const void *who, size_t i)
{
    const struct row_view *v = who;
    const json_t *o = json_object_get(v->row, v->columns[i].key);
    enum filter_unit unit = column_unit(v->columns, i);
    struct wall t;

    if (json_is_string(o) && unit == FILTER_SECONDS && human_parse_time(json_string_value(o), &t))
        return (struct filter_value){NULL, fabs((double)(v->now.us - t.us)) / 1e6};
    if (json_is_string(o))
        return (struct filter_value){json_string_value(o), NAN};
    if (json_is_boolean(o) || (json_is_number(o) && FORM_OF(&v->columns[i]) == FORM_YES))
        return (struct filter_value){json_is_true(o) || json_number_value(o) > 0 ? "yes" : "no", NAN};
    return (struct filter_value){NULL, json_is_number(o) ? json_number_value(o) : NAN};
}

static enum err_code read_filter(const struct table_column *columns, const char *text, struct filter *out,
                                 struct err *err)
{
    struct filter_columns c = {columns, count_of(columns), find_column, column_unit, column_key};

    return filter_read(&c, text, out, err);
}

static bool takes(const struct filter *f, const struct table_column *columns, const json_t *row,
                  struct wall now)
{
    struct row_view v = {columns, row, now};

    return filter_holds(f, &v, value_of, count_of(columns));
}

/* ---- sorting --------------------------------------------------------------------------------------------------------- */

static struct sort {
    const char *key;
    bool is_down;
} sorts[SORTS_MAX];
static size_t n_sorts;

static enum err_code read_sorts(const struct table_column *columns, const char *text, struct err *err)
{
    char *list = strdup(text), *save = NULL;
    enum err_code e = ERR_OK;

    n_sorts = 0;
    for (char *z = strtok_r(list, ",", &save); z && !e; z = strtok_r(NULL, ",", &save)) {
        bool is_down = *z == '-';
        size_t i = find(columns, z + is_down);

        if (i == count_of(columns))
            e = err_set(err, ERR_BAD_REQUEST, "there is no column '%s' here", z + is_down);
        else if (n_sorts == SORTS_MAX)
            e = err_set(err, ERR_BAD_REQUEST, "at most %u columns to sort by", SORTS_MAX);
        else
            sorts[n_sorts++] = (struct sort){columns[i].key, is_down};
    }
    free(list);
    return e;
}

/* What is unknown comes last, whichever way. */
static int compare_values(const json_t *a, const json_t *b, bool is_down)
{
    bool no_a = !a || json_is_null(a), no_b = !b || json_is_null(b);
    int c = 0;

    if (no_a || no_b)
        return no_a - no_b;
    if (json_is_number(a) && json_is_number(b))
        c = (json_number_value(a) > json_number_value(b)) - (json_number_value(a) < json_number_value(b));
    else if (json_is_string(a) && json_is_string(b))
        c = strcasecmp(json_string_value(a), json_string_value(b));
    else
        c = (int)json_typeof(a) - (int)json_typeof(b);
    return is_down ? -c : c;
}

struct place {
    json_t *row;
    size_t at; /* equal rows stay in their order */
};

static int compare_rows(const void *x, const void *y)
{
    const struct place *a = x, *b = y;
    int c = (json_object_get(a->row, ROWS_PINNED) != NULL) - (json_object_get(b->row, ROWS_PINNED) != NULL);

    for (size_t i = 0; i < n_sorts && !c; i++)
        c = compare_values(json_object_get(a->row, sorts[i].key), json_object_get(b->row, sorts[i].key),
                           sorts[i].is_down);
    return c ? c : (a->at > b->at) - (a->at < b->at);
}

static json_t *sorted(const json_t *rows)
{
    size_t n = json_array_size(rows), i;
    struct place *places = calloc(n ? n : 1, sizeof(*places));
    json_t *out = json_array(), *row;

    if (!places)
        abort();
    json_array_foreach(rows, i, row) places[i] = (struct place){row, i};
    qsort(places, n, sizeof(*places), compare_rows);
    for (i = 0; i < n; i++)
        (void)json_array_append(out, places[i].row);
    free(places);
    return out;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------- */

enum err_code rows_pick(const struct table_column *columns, const json_t *rows, const struct rows_wish *w,
                        struct wall now, json_t **out, struct err *err)
{
    struct filter f = {0};
    json_t *kept, *row, *all;
    size_t i, n = 0;

    if ((w->filter && read_filter(columns, w->filter, &f, err)) ||
        (w->sort_by && read_sorts(columns, w->sort_by, err)))
        return ERR_BAD_REQUEST;
    all = w->sort_by ? sorted(rows) : json_incref((json_t *)(uintptr_t)rows);
    kept = json_array();
    json_array_foreach(all, i, row)
    {
        bool is_pinned = json_object_get(row, ROWS_PINNED) != NULL;

        if (!is_pinned && (!takes(&f, columns, row, now) || (w->limit && n == w->limit)))
            continue;
        n += !is_pinned;
        (void)json_array_append(kept, row);
    }
    json_decref(all);
    *out = kept;
    return ERR_OK;
}

enum err_code rows_all_meet(const struct table_column *columns, const json_t *rows, const char *filter,
                            struct wall now, bool *out, struct err *err)
{
    struct filter f = {0};
    size_t i;
    json_t *row;

    if (read_filter(columns, filter, &f, err))
        return ERR_BAD_REQUEST;
    *out = json_array_size(rows) > 0;
    json_array_foreach(rows, i, row) if (!json_object_get(row, ROWS_PINNED) &&
                                         !takes(&f, columns, row, now)) *out = false;
    return ERR_OK;
}
