/* SPDX-License-Identifier: Apache-2.0 */
/* A view's rows as values: what is drawn, sorted, filtered, exported and printed in batch mode is the same table. */
#ifndef AIGWTOP_MODEL_TABLE_H
#define AIGWTOP_MODEL_TABLE_H

#include "aigwtop/model/filter.h"
#include "aigwtop/model/model.h"
#include "aigwtop/model/view.h"

#define LINE_KEY  300u
#define TREND_MAX 40u

enum level { LEVEL_NONE, LEVEL_OK, LEVEL_WARN, LEVEL_CRIT, LEVEL_STALE };

enum value_kind { VALUE_NONE, VALUE_NUMBER, VALUE_TEXT, VALUE_TREND };
struct value {
    enum value_kind kind;
    enum level level;
    double n;
    const char *z;      /* of the model or of the table's pool */
    const float *trend; /* TREND_MAX of them, oldest first */
};

struct line {
    char key[LINE_KEY]; /* what the selection follows */
    unsigned depth;     /* 1: below the line before it */
    bool has_children, is_open;
    unsigned n_children;
    enum level level;
    const void *ref; /* the sample's struct behind it, if there is one */
    struct value v[VIEW_COLUMNS_MAX];
};

/* How a view is looked at; each has its own. */
struct look {
    size_t sort; /* column */
    bool is_reversed;
    char filter_text[128];
    struct filter filter;
    bool is_tree, all_open;
    char open[32][TOP_NAME]; /* tenants whose keys are shown */
    unsigned n_open;
    bool is_by_key, is_grouped;
};

struct scope {
    enum view view;
    const char *provider; /* "" or the only one */
    int64_t span_us;      /* of trends */
    struct wall now;
    bool is_stale; /* rates and money per hour are unknown */
};

struct table {
    enum view view;
    const struct column *columns;
    size_t n_columns;
    LIST(struct line) lines;
    size_t total; /* before the filter */
    LIST(char *) pool;
};

void look_init(struct look *l, enum view v);
/* False and why: all stays as it was. A sort is "p95", or "-cost": the highest first. */
bool look_set_sort(struct look *l, enum view v, const char *text, struct err *err);
bool look_set_filter(struct look *l, enum view v, const char *text, struct err *err);
void table_build(struct table *t, const struct model *m, const struct scope *scope, const struct look *look);
void table_release(struct table *t);
/* NaN for a value without a number. */
static inline double value_number(const struct value *v)
{
    return v->kind == VALUE_NUMBER ? v->n : __builtin_nan("");
}
enum level level_of_score(double score);
const char *word_of_score(double score); /* healthy, degraded, unhealthy; NULL when unknown */

/* Of all providers, for the head of the screen. */
struct tally {
    unsigned ok, degraded, unhealthy, unknown;
    double mean; /* NaN */
    unsigned breakers, breakers_open, budgets_warn, budgets_over, budgets;
};
void model_tally(const struct model *m, struct tally *out);

#endif
