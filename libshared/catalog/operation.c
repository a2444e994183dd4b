/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/catalog/operation.h"

static const struct operation_row ROWS[] = {
#define OPERATION(id, path, label, dialect, body) {path, label, DIALECT_##dialect, BODY_##body},
#include "libshared/catalog/operations.def"
#undef OPERATION
};
_Static_assert(sizeof(ROWS) / sizeof(ROWS[0]) == OP_COUNT, "operations.def is complete");

const struct operation_row *operation_row(enum operation op)
{
    return &ROWS[op];
}
