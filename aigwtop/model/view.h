/* SPDX-License-Identifier: Apache-2.0 */
/* The views and their columns, from columns.def. */
#ifndef AIGWTOP_MODEL_VIEW_H
#define AIGWTOP_MODEL_VIEW_H

#include <stdbool.h>
#include <stddef.h>

enum view {
    VIEW_PROVIDERS,
    VIEW_MODELS,
    VIEW_TENANTS,
    VIEW_BREAKERS,
    VIEW_ERRORS,
    VIEW_LATENCY,
    VIEW_ANOMALIES,
    VIEW_COUNT
};

enum form { /* how a value looks; what it is, is its column's key */
            FORM_NAME,
            FORM_TEXT,
            FORM_SCORE,
            FORM_STATUS,
            FORM_BREAKER,
            FORM_RATE,
            FORM_PERCENT, /* of a ratio, one decimal */
            FORM_WHOLE,   /* of a ratio, none */
            FORM_MS,
            FORM_DOLLARS,
            FORM_USD,
            FORM_COUNT,
            FORM_NUMBER,
            FORM_AGE, /* seconds */
            FORM_CLOCK,
            FORM_TREND,
            FORM_BAR,
};

struct column {
    const char *key, *heading;
    unsigned width, from;
    enum form form;
    const char *text;
};

enum {
#define COLUMN(view, key, heading, width, from, form, text) COL_##view##_##key,
#include "aigwtop/columns.def"
#undef COLUMN
    COL_COUNT
};

#define VIEW_COLUMNS_MAX 20u

/* The columns of a view in order. */
const struct column *view_columns(enum view v, size_t *out_n);
/* Position within its view of a COL_…. */
size_t column_place(unsigned col);
/* A column by its key, its heading or the beginning of either ("err", "p95"); the number of columns when there is none. */
size_t column_find(enum view v, const char *name);
const char *view_name(enum view v);  /* "providers" */
const char *view_title(enum view v); /* "Tenants and budgets" */
bool view_find(const char *name, enum view *out);

#endif
