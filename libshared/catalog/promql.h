/* SPDX-License-Identifier: Apache-2.0 */
/* PromQL as a row of tokens: enough to find the metrics an expression reads, to add a matcher to every selector, and to see
 * what cannot be right. It does not evaluate and knows no types; `promtool` has the last word. */
#ifndef CATALOG_PROMQL_H
#define CATALOG_PROMQL_H

#include <stdbool.h>

#include "libshared/base/buf.h"
#include "libshared/base/err.h"

/* ERR_CONFIG says what is wrong and where: unbalanced brackets, an unfinished string, an unknown function, a range without a
 * unit, two operands without an operator, nothing at all. */
NODISCARD enum err_code promql_check(struct span expr, struct err *err);
/* Calls `each` for every selector's metric name, in order, also several times for one name. */
void promql_metrics(struct span expr, void (*each)(struct span name, void *ctx), void *ctx);
/* Appends the expression with further matchers (label="x",…) in every selector for whose metric `more` gives some; NULL: none. */
void promql_narrow(struct buf *out, struct span expr, const char *(*more)(struct span name, void *ctx),
                   void *ctx);

#endif
