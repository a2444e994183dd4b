/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIGWTOP_MODEL_ROWS_H
#define AIGWTOP_MODEL_ROWS_H

#include "aigwtop/model/table.h"

/* Every line of a view, in no order. */
void rows_fill(struct table *t, const struct model *m, const struct scope *scope, const struct look *look);

#endif
