/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CATALOG_OPERATION_H
#define CATALOG_OPERATION_H

enum dialect { DIALECT_OPENAI, DIALECT_ANTHROPIC };
enum body_form { BODY_JSON, BODY_MULTIPART, BODY_NONE };

enum operation {
#define OPERATION(id, path, label, dialect, body) OP_##id,
#include "libshared/catalog/operations.def"
#undef OPERATION
    OP_COUNT
};

struct operation_row {
    const char *path; /* also the route template, hence the endpoint label */
    const char *label;
    enum dialect dialect;
    enum body_form body;
};

const struct operation_row *operation_row(enum operation op);

#endif
