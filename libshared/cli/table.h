/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of JSON objects as a table for people, as CSV, or within a JSON envelope. A column's key is the member it shows,
 * the CSV heading, and its name everywhere else. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "libshared/base/clock.h"

enum table_form {
    FORM_TEXT,
    FORM_COUNT,   /* 25.2B */
    FORM_USD,     /* of integer nano-dollars */
    FORM_DOLLARS, /* of a number of dollars */
    FORM_MS,
    FORM_PERCENT, /* of a ratio */
    FORM_RATE,
    FORM_YES,    /* of 1 and 0: yes, no */
    FORM_SCORE,  /* one decimal */
    FORM_AGE,    /* of an RFC 3339 time: "3s ago" on a terminal, the time itself elsewhere */
    FORM_UNTIL,  /* of an RFC 3339 time to come: "10d" on a terminal, the time itself elsewhere */
    FORM_WORD,   /* a text among figures: to the right */
    FORM_NAME,   /* a text that is never cut */
    FORM_HEALTH, /* a text; healthy, degraded, unhealthy have their colours */
};

struct table_column { /* a list ends with key NULL */
    const char *key, *heading;
    enum table_form form;
};

struct table_style {
    bool has_color;
    bool is_relative; /* times as ages */
    unsigned width;   /* longer texts are cut to fit; 0: never cut */
    struct wall now;
};

/* Missing and null are "-". */
void table_print(FILE *f, const struct table_column *columns, const json_t *rows,
                 const struct table_style *style);
/* Figures as they are, missing is empty; RFC 4180. */
void table_print_csv(FILE *f, const struct table_column *columns, const json_t *rows);
/* {"schema":"gatewayd.<name>/1","generated_at",…,"data":…}; indented. Borrows `data`. */
void table_print_json(FILE *f, const char *schema, const json_t *data);
/* One value as a table shows it. */
void table_cell(char *dst, size_t cap, enum table_form form, const json_t *value,
                const struct table_style *style);

#endif
