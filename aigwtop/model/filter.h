/* SPDX-License-Identifier: Apache-2.0 */
/* The filter of libshared/cli over a view's values. Columns are found by the beginning of their key or heading. Pure. */
#ifndef AIGWTOP_MODEL_FILTER_H
#define AIGWTOP_MODEL_FILTER_H

#include "aigwtop/model/view.h"
#include "libshared/cli/filter.h"

struct value;
NODISCARD enum err_code filter_parse(enum view v, const char *text, struct filter *out, struct err *err);
bool filter_takes(const struct filter *f, const struct value *values, size_t n_columns);

#endif
