/* SPDX-License-Identifier: Apache-2.0 */
/* The dashboards as data, and as Grafana reads them. */
#ifndef AIGWCTL_DASHBOARDS_H
#define AIGWCTL_DASHBOARDS_H

#include <jansson.h>

#include "aigwctl/command.h"

enum panel_kind {
    TIMESERIES,
    STAT,
    GAUGE,
    BARS,
    BARCHART,
    PIE,
    STATES,
    BUCKETS,
    TABLE,
    SQL_TABLE,
    SQL_SERIES,
    SQL_BARS,
    KIND_COUNT
};
enum panel_scheme {
    SCHEME_NONE,
    SCHEME_SCORE,      /* 0 to 100: red, from 50 yellow, from 80 green */
    SCHEME_SCORE_1,    /* the same of 1 */
    SCHEME_GOOD_SHARE, /* red, from 0.9 yellow, from 0.99 green */
    SCHEME_USED,       /* green, from 0.8 yellow, from 1 red */
    SCHEME_BREAKER,    /* 0 CLOSED, 1 HALF-OPEN, 2 OPEN */
    SCHEME_UP,         /* 0 down, 1 up */
};

struct panel_target {
    const char *query, *legend;
};
#define PANEL_TARGETS_MAX 4

struct panel {
    enum panel_kind kind;
    const char *title, *unit;
    int columns, lines;
    const char *description, *alert; /* alert: whose runbook to read, or NULL */
    enum panel_scheme scheme;
    bool exemplars;
    struct panel_target targets[PANEL_TARGETS_MAX];
    const char *units[PANEL_TARGETS_MAX]; /* of a table's columns */
};

struct dashboard {
    const char *file, *title, *description;
    unsigned variables;
};

enum { BY_PROVIDER = 1, BY_TENANT = 2 };

size_t dashboard_count(void);
const struct dashboard *dashboard_row(size_t i);
const struct dashboard *dashboard_find(const char *file, size_t *out_at);
size_t dashboard_panels(size_t i);

/* The JSON, owned by the caller. `datasource` is a Prometheus data source's uid; NULL leaves it to a variable. */
json_t *dashboard_render(size_t i, const char *datasource, const char *runbooks);
/* Its text with a line end; free() it. */
char *dashboard_text(const json_t *dashboard);

/* Appends rows {place, grade, message}; the worst grade as an exit code. `live` is a set of names of a scrape, or NULL. */
int dashboard_check(json_t *rows, const char *name, const json_t *dashboard, const json_t *live);

#endif
