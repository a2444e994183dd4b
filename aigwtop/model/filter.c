/* SPDX-License-Identifier: Apache-2.0 */
#include "aigwtop/model/filter.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aigwtop/model/table.h"
#include "libshared/base/span.h"

/* ---- parsing --------------------------------------------------------------------------------------------------------- */

/* What people write, in the unit of the column: "5" of a ratio is percent, "2s" of milliseconds is 2000. */
static double number_of(enum form form, const char *z)
{
    char *end;
    double v = strtod(*z == '$' ? z + 1 : z, &end);

    if (end == z || (*z == '$' && end == z + 1))
        return NAN;
    if (form == FORM_PERCENT || form == FORM_WHOLE)
        return strcmp(end, "%") == 0 || !*end ? v / 100 : NAN;
    if (form == FORM_MS)
        return !*end || strcmp(end, "ms") == 0 ? v
               : strcmp(end, "us") == 0        ? v / 1000
               : strcmp(end, "s") == 0         ? v * 1000
               : strcmp(end, "m") == 0         ? v * 60000
                                               : NAN;
    if (form == FORM_AGE)
        return !*end || strcmp(end, "s") == 0 ? v
               : strcmp(end, "m") == 0        ? v * 60
               : strcmp(end, "h") == 0        ? v * 3600
                                              : NAN;
    if (strcasecmp(end, "k") == 0)
        return v * 1e3;
    if (strcmp(end, "M") == 0)
        return v * 1e6;
    return *end ? NAN : v;
}

static bool is_text_form(enum form f)
{
    return f == FORM_NAME || f == FORM_TEXT || f == FORM_STATUS || f == FORM_BREAKER;
}

static size_t op_at(const char *p, enum filter_op *out)
{
    static const struct {
        const char *z;
        enum filter_op op;
    } OPS[] = {{">=", FILTER_GE}, {"<=", FILTER_LE}, {"!=", FILTER_NE}, {"==", FILTER_EQ},
               {">", FILTER_GT},  {"<", FILTER_LT},  {"=", FILTER_EQ}};

    for (size_t i = 0; i < sizeof(OPS) / sizeof(OPS[0]); i++)
        if (strncmp(p, OPS[i].z, strlen(OPS[i].z)) == 0) {
            *out = OPS[i].op;
            return strlen(OPS[i].z);
        }
    return 0;
}

static enum err_code parse_comparison(enum view v, const char *word, const char *op, size_t op_len,
                                      struct filter_term *t, struct err *err)
{
    char name[64];
    size_t n;
    const struct column *columns = view_columns(v, &n);

    (void)span_copy(name, sizeof(name), span_make(word, (size_t)(op - word)));
    t->column = column_find(v, name);
    if (t->column == n)
        return err_set(err, ERR_BAD_REQUEST, "there is no column '%s' here", name);
    (void)span_copy(t->text, sizeof(t->text), span_of(op + op_len));
    t->n = number_of(columns[t->column].form, t->text);
    if (isnan(t->n) && !(is_text_form(columns[t->column].form) && (t->op == FILTER_EQ || t->op == FILTER_NE)))
        return err_set(err, ERR_BAD_REQUEST, "'%s' is no value of column '%s'", t->text,
                       columns[t->column].key);
    return ERR_OK;
}

static enum err_code parse_term(enum view v, char *word, struct filter_term *t, struct err *err)
{
    *t = (struct filter_term){.n = NAN};
    if (*word == '!' && word[1]) {
        t->is_inverted = true;
        word++;
    }
    for (const char *p = word; *p; p++) {
        size_t n = p == word ? 0 : op_at(p, &t->op);

        if (n)
            return parse_comparison(v, word, p, n, t, err);
    }
    t->op = FILTER_HAS;
    (void)span_copy(t->text, sizeof(t->text), span_of(word));
    return ERR_OK;
}

enum err_code filter_parse(enum view v, const char *text, struct filter *out, struct err *err)
{
    struct filter f = {0};
    char copy[256], *save = NULL;

    (void)span_copy(copy, sizeof(copy), span_of(text));
    for (char *word = strtok_r(copy, " \t", &save); word; word = strtok_r(NULL, " \t", &save)) {
        if (f.n == FILTER_TERMS)
            return err_set(err, ERR_BAD_REQUEST, "a filter has at most %u terms", FILTER_TERMS);
        if (parse_term(v, word, &f.terms[f.n++], err))
            return ERR_BAD_REQUEST;
    }
    *out = f;
    return ERR_OK;
}

/* ---- holding --------------------------------------------------------------------------------------------------------- */

static bool compares(enum filter_op op, double a, double b)
{
    switch (op) {
    case FILTER_GT:
        return a > b;
    case FILTER_GE:
        return a >= b;
    case FILTER_LT:
        return a < b;
    case FILTER_LE:
        return a <= b;
    case FILTER_NE:
        return a != b;
    default:
        return fabs(a - b) <= 1e-9 * fabs(b);
    }
}

/* What is unknown is neither above nor below anything. */
static bool holds(const struct filter_term *t, const struct value *values, size_t n)
{
    const struct value *v = &values[t->op == FILTER_HAS ? 0 : t->column];

    if (t->op == FILTER_HAS) {
        for (size_t i = 0; i < n; i++)
            if (values[i].kind == VALUE_TEXT && strcasestr(values[i].z, t->text))
                return true;
        return false;
    }
    if (v->kind == VALUE_TEXT) {
        bool same = strcasestr(v->z, t->text) != NULL;

        return t->op == FILTER_NE ? !same : same;
    }
    return v->kind == VALUE_NUMBER && !isnan(v->n) && compares(t->op, v->n, t->n);
}

bool filter_takes(const struct filter *f, const struct value *values, size_t n_columns)
{
    for (unsigned i = 0; i < f->n; i++)
        if (holds(&f->terms[i], values, n_columns) == f->terms[i].is_inverted)
            return false;
    return true;
}
