/* SPDX-License-Identifier: Apache-2.0 */
/* A report: sections of rows, each a table and perhaps a chart, which are written in several forms. */
#ifndef AIGWCTL_REPORT_H
#define AIGWCTL_REPORT_H

#include "aigwctl/command.h"

#define REPORT_SECTIONS_MAX 16u

struct report_section {
    const char *title, *note;           /* note: what to know when reading it, or NULL */
    const struct table_column *columns; /* the first one names a row */
    json_t *rows;                       /* owned */
    const char *chart;                  /* key of the figure that is drawn, or NULL */
    bool is_by_time;                    /* drawn as columns beside each other, else as bars */
};

struct report {
    const char *name; /* "weekly" */
    char title[160], period[96], made[WALL_TEXT_CAP];
    struct report_section sections[REPORT_SECTIONS_MAX];
    size_t n;
    json_t *missing; /* texts: what could not be had; owned */
    bool is_mail_safe;
};

void report_write_html(FILE *f, const struct report *r);
/* One cell as people read it. */
void report_cell(char *dst, size_t cap, const struct table_column *c, const json_t *row);

#endif
