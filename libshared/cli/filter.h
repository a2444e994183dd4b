/* SPDX-License-Identifier: Apache-2.0 */
/* "err>5% p95>2s !groq": terms that must all hold. A term is a text that some value contains, or a column compared with a value
 * in the unit of that column; `!` before it turns it round. What a row and its columns are, the caller says. Pure. */
#ifndef CLI_FILTER_H
#define CLI_FILTER_H

#include <stdbool.h>
#include <stddef.h>

#include "libshared/base/err.h"

#define FILTER_TERMS 8u

enum filter_op { FILTER_HAS, FILTER_GT, FILTER_GE, FILTER_LT, FILTER_LE, FILTER_EQ, FILTER_NE, FILTER_LIKE };

enum filter_unit {
    FILTER_TEXT,
    FILTER_NUMBER,
    FILTER_RATIO,   /* people write percent */
    FILTER_MS,      /* 240, 240ms, 2s */
    FILTER_SECONDS, /* 90, 5m, 2h */
    FILTER_NANOUSD, /* people write dollars */
};

struct filter_term {
    bool is_inverted;
    size_t column; /* unless FILTER_HAS */
    enum filter_op op;
    char text[64];
    double n; /* NaN: text is compared */
};
struct filter {
    struct filter_term terms[FILTER_TERMS];
    unsigned n;
};

struct filter_value {
    const char *z; /* NULL: a number */
    double n;      /* NaN with z NULL: unknown */
};

/* The columns of one kind of row. */
struct filter_columns {
    const void *who;
    size_t n;
    /* A column by what people write for it; `n` when there is none. */
    size_t (*find)(const void *who, const char *name);
    enum filter_unit (*unit)(const void *who, size_t column);
    const char *(*key)(const void *who, size_t column);
};
typedef struct filter_value (*filter_get)(const void *row, size_t column);

/* ERR_BAD_REQUEST, with the word that makes no sense in its text. */
NODISCARD enum err_code filter_read(const struct filter_columns *c, const char *text, struct filter *out,
                                    struct err *err);
/* What is unknown is neither above nor below anything; it equals `none` alone. */
bool filter_holds(const struct filter *f, const void *row, filter_get get, size_t n_columns);

#endif
