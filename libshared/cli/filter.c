/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/cli/filter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/base/compiler.h"
#include "libshared/base/span.h"

struct suffix {
    enum filter_unit unit;
    const char *z;
    double factor;
};

/* What may stand behind a number, by the unit of its column. */
static const struct suffix SUFFIXES[] = {
    {FILTER_RATIO, "", 0.01},    {FILTER_RATIO, "%", 0.01},   {FILTER_MS, "", 1},
    {FILTER_MS, "ms", 1},        {FILTER_MS, "us", 1e-3},     {FILTER_MS, "s", 1e3},
    {FILTER_MS, "m", 6e4},       {FILTER_SECONDS, "", 1},     {FILTER_SECONDS, "s", 1},
    {FILTER_SECONDS, "m", 60},   {FILTER_SECONDS, "h", 3600}, {FILTER_SECONDS, "d", 86400},
    {FILTER_NUMBER, "", 1},      {FILTER_NUMBER, "k", 1e3},   {FILTER_NUMBER, "K", 1e3},
    {FILTER_NUMBER, "M", 1e6},   {FILTER_NUMBER, "B", 1e9},   {FILTER_NANOUSD, "", 1e9},
    {FILTER_NANOUSD, "k", 1e12}, {FILTER_NANOUSD, "K", 1e12},
};

static double number_of(enum filter_unit unit, const char *z)
{
    char *end;
    double v = strtod(*z == '$' ? z + 1 : z, &end);

    if (end == z || (*z == '$' && end == z + 1))
        return NAN;
    for (size_t i = 0; i < ARRAY_LEN(SUFFIXES); i++)
        if (SUFFIXES[i].unit == unit && strcmp(SUFFIXES[i].z, end) == 0)
            return v * SUFFIXES[i].factor;
    return NAN;
}

static size_t op_at(const char *p, enum filter_op *out)
{
    static const struct {
        const char *z;
        enum filter_op op;
    } OPS[] = {{">=", FILTER_GE}, {"<=", FILTER_LE}, {"!=", FILTER_NE}, {"==", FILTER_EQ},
               {">", FILTER_GT},  {"<", FILTER_LT},  {"=", FILTER_EQ},  {"~", FILTER_LIKE}};

    for (size_t i = 0; i < ARRAY_LEN(OPS); i++)
        if (strncmp(p, OPS[i].z, strlen(OPS[i].z)) == 0) {
            *out = OPS[i].op;
            return strlen(OPS[i].z);
        }
    return 0;
}

static bool is_equality(enum filter_op op)
{
    return op == FILTER_EQ || op == FILTER_NE || op == FILTER_LIKE;
}

static enum err_code read_comparison(const struct filter_columns *c, const char *word, const char *op,
                                     size_t op_len, struct filter_term *t, struct err *err)
{
    char name[64];

    (void)span_copy(name, sizeof(name), span_make(word, (size_t)(op - word)));
    t->column = c->find(c->who, name);
    if (t->column == c->n)
        return err_set(err, ERR_BAD_REQUEST, "there is no column '%s' here", name);
    (void)span_copy(t->text, sizeof(t->text), span_of(op + op_len));
    t->n = t->op == FILTER_LIKE ? NAN : number_of(c->unit(c->who, t->column), t->text);
    if (isnan(t->n) && !(is_equality(t->op) &&
                         (c->unit(c->who, t->column) == FILTER_TEXT || strcasecmp(t->text, "none") == 0)))
        return err_set(err, ERR_BAD_REQUEST, "'%s' is no value of column '%s'", t->text,
                       c->key(c->who, t->column));
    return ERR_OK;
}

static enum err_code read_term(const struct filter_columns *c, const char *word, struct filter_term *t,
                               struct err *err)
{
    *t = (struct filter_term){.n = NAN};
    if (*word == '!' && word[1]) {
        t->is_inverted = true;
        word++;
    }
    for (const char *p = word; *p; p++) {
        size_t n = p == word ? 0 : op_at(p, &t->op);

        if (n)
            return read_comparison(c, word, p, n, t, err);
    }
    t->op = FILTER_HAS;
    (void)span_copy(t->text, sizeof(t->text), span_of(word));
    return ERR_OK;
}

enum err_code filter_read(const struct filter_columns *c, const char *text, struct filter *out,
                          struct err *err)
{
    struct filter f = {0};
    char copy[256], *save = NULL;

    (void)span_copy(copy, sizeof(copy), span_of(text));
    for (char *word = strtok_r(copy, " \t", &save); word; word = strtok_r(NULL, " \t", &save)) {
        if (f.n == FILTER_TERMS)
            return err_set(err, ERR_BAD_REQUEST, "a filter has at most %u terms", FILTER_TERMS);
        if (read_term(c, word, &f.terms[f.n++], err))
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

static bool has(const struct filter_term *t, const void *row, filter_get get, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct filter_value v = get(row, i);

        if (v.z && strcasestr(v.z, t->text))
            return true;
    }
    return false;
}

static bool holds(const struct filter_term *t, const void *row, filter_get get, size_t n)
{
    struct filter_value v;
    bool same;

    if (t->op == FILTER_HAS)
        return has(t, row, get, n);
    v = get(row, t->column);
    if (!v.z && !isnan(v.n) && !isnan(t->n))
        return compares(t->op, v.n, t->n);
    if (!v.z && !isnan(v.n))
        return t->op == FILTER_NE; /* a number beside `none` */
    if (!v.z)                      /* `none` is asked for as such only */
        return isnan(t->n) && t->op != FILTER_LIKE &&
               (strcasecmp(t->text, "none") == 0) == (t->op == FILTER_EQ);
    same = t->op == FILTER_LIKE ? strcasestr(v.z, t->text) != NULL : strcasecmp(v.z, t->text) == 0;
    return t->op == FILTER_NE ? !same : is_equality(t->op) && same;
}

bool filter_holds(const struct filter *f, const void *row, filter_get get, size_t n_columns)
{
    for (unsigned i = 0; i < f->n; i++)
        if (holds(&f->terms[i], row, get, n_columns) == f->terms[i].is_inverted)
            return false;
    return true;
}
