/* SPDX-License-Identifier: Apache-2.0 */
/* "err>5 p95>2s !groq": terms that must all hold. A term is a text that some value contains, or a column compared with a value; `!`
 * before it turns it round. Columns are found by the beginning of their key or heading. Pure. */
#ifndef AIGWTOP_MODEL_FILTER_H
#define AIGWTOP_MODEL_FILTER_H

#include "aigwtop/model/view.h"
#include "libshared/base/err.h"

#define FILTER_TERMS 8u

enum filter_op { FILTER_HAS, FILTER_GT, FILTER_GE, FILTER_LT, FILTER_LE, FILTER_EQ, FILTER_NE };

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

struct value;
NODISCARD enum err_code filter_parse(enum view v, const char *text, struct filter *out, struct err *err);
bool filter_takes(const struct filter *f, const struct value *values, size_t n_columns);

#endif
