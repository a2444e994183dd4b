/* SPDX-License-Identifier: Apache-2.0 */
/* Which rows and columns of a table are wanted, and in which order: --filter, --sort-by, --limit, --columns. A column is found by
 * its key, its heading, or the beginning of either. */
#ifndef CLI_ROWS_H
#define CLI_ROWS_H

#include "libshared/base/err.h"
#include "libshared/cli/table.h"

#define ROWS_COLUMNS_MAX 48u
#define ROWS_PINNED      "_total" /* a row with this member stays last, whatever is asked for */

struct rows_wish {
    const char *filter, *sort_by, *columns; /* NULL: none */
    size_t limit;                           /* 0: none */
    bool is_wide;
};

/* What shall be shown; `out` has ROWS_COLUMNS_MAX places and borrows from `all` and the wish's rows. */
NODISCARD enum err_code rows_columns(const struct table_column *all, const json_t *rows,
                                     const struct rows_wish *w, struct table_column *out, struct err *err);
/* *out is a new list of the same rows. */
NODISCARD enum err_code rows_pick(const struct table_column *columns, const json_t *rows,
                                  const struct rows_wish *w, struct wall now, json_t **out, struct err *err);
/* Whether there is a row, and every one meets the filter. */
NODISCARD enum err_code rows_all_meet(const struct table_column *columns, const json_t *rows,
                                      const char *filter, struct wall now, bool *out, struct err *err);

#endif
