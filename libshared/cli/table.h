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
    FORM_LIMIT,   /* the same, where 0 is no limit: "none" */
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
    FORM_NUMBER, /* as it is, to the right */
    FORM_PER100, /* of a percentage */
    FORM_CHANGE, /* of a ratio: +4%, with a mark from a quarter on */
    /* With one of the others: */
    FORM_WIDE = 64,   /* only where it is asked for */
    FORM_SPARE = 128, /* left out, from the right, where a text would have to be cut otherwise */
    FORM_WRAP = 256,  /* a text that goes on in the next line instead of being cut */
};
#define FORM_OF(column) ((enum table_form)((unsigned)(column)->form & 63u))

struct table_column { /* a list ends with key NULL */
    const char *key, *heading;
    enum table_form form;
};

enum table_time { TABLE_UTC, TABLE_LOCAL, TABLE_UNIX };

struct table_style {
    bool has_color;
    bool is_relative; /* times as ages */
    unsigned width;   /* longer texts are cut or wrapped to fit; 0: never */
    struct wall now;
    bool is_exact, has_no_headings;
    enum table_time time; /* unless is_relative */
};

/* Missing and null are "-". */
void table_print(FILE *f, const struct table_column *columns, const json_t *rows,
                 const struct table_style *style);
/* Figures as they are, missing is empty; RFC 4180. */
void table_print_csv(FILE *f, const struct table_column *columns, const json_t *rows, bool has_headings);
/* The same with tabs between, and blanks for those within. */
void table_print_tsv(FILE *f, const struct table_column *columns, const json_t *rows, bool has_headings);
/* What names each row, one a line: its first column, with the second where both together do. */
void table_print_names(FILE *f, const struct table_column *columns, const json_t *rows);
/* Block style; every text in quotes. */
void table_print_yaml(FILE *f, const json_t *o);
/* Indented. */
void table_print_document(FILE *f, const json_t *o);
/* One line. */
void table_print_line(FILE *f, const json_t *o);
/* {"schema":"gatewayd.<name>/1","generated_at",…,"data":…}; the caller's. Borrows `data`. */
json_t *table_envelope(const char *schema, const json_t *data, bool is_stale);
/* One value as a table shows it. */
void table_cell(char *dst, size_t cap, enum table_form form, const json_t *value,
                const struct table_style *style);

#endif
