/* SPDX-License-Identifier: Apache-2.0 */
/* A table for programs: what batch mode prints and what `x` writes. EXPORT_TABLE is for people: draw_text() does it. */
#ifndef AIGWTOP_EXPORT_H
#define AIGWTOP_EXPORT_H

#include "aigwtop/model/table.h"
#include "libshared/base/buf.h"

enum export_form { EXPORT_TABLE, EXPORT_CSV, EXPORT_JSON, EXPORT_NDJSON, EXPORT_PROM, EXPORT_FORMS };

struct export_how {
    enum export_form form;
    uint32_t columns; /* a bit each; 0: those that carry a value */
    bool has_header;  /* of CSV */
    const char *source;
    bool is_stale;
    struct wall now;
};

bool export_parse(const char *name, enum export_form *out);
const char *export_name(enum export_form f);
/* Appends to `out`. */
void export_table(const struct table *t, const struct export_how *how, struct buf *out);

#endif
