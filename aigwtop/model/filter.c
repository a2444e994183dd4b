/* SPDX-License-Identifier: Apache-2.0 */
#include "aigwtop/model/filter.h"

#include <math.h>

#include "aigwtop/model/table.h"

static size_t find(const void *who, const char *name)
{
    return column_find(*(const enum view *)who, name);
}

static const char *key(const void *who, size_t column)
{
    size_t n;

    return view_columns(*(const enum view *)who, &n)[column].key;
}

static enum filter_unit unit(const void *who, size_t column)
{
    size_t n;

    switch (view_columns(*(const enum view *)who, &n)[column].form) {
    case FORM_NAME:
    case FORM_TEXT:
    case FORM_STATUS:
    case FORM_BREAKER:
        return FILTER_TEXT;
    case FORM_PERCENT:
    case FORM_WHOLE:
        return FILTER_RATIO;
    case FORM_MS:
        return FILTER_MS;
    case FORM_AGE:
        return FILTER_SECONDS;
    default:
        return FILTER_NUMBER;
    }
}

enum err_code filter_parse(enum view v, const char *text, struct filter *out, struct err *err)
{
    struct filter_columns c = {.who = &v, .find = find, .unit = unit, .key = key};

    (void)view_columns(v, &c.n);
    return filter_read(&c, text, out, err);
}

static struct filter_value value_at(const void *row, size_t column)
{
    const struct value *v = (const struct value *)row + column;

    return (struct filter_value){v->kind == VALUE_TEXT ? v->z : NULL, v->kind == VALUE_NUMBER ? v->n : NAN};
}

bool filter_takes(const struct filter *f, const struct value *values, size_t n_columns)
{
    return filter_holds(f, values, value_at, n_columns);
}
