/* SPDX-License-Identifier: Apache-2.0 */
/* Builds a view's table from the model: rows.c says what a row holds, here they are filtered, put in order and counted. The tricky
 * part is the order of trees: children stay below their parent whatever the column says. */
#include "aigwtop/model/table.h"

#include <math.h>

#include "aigwtop/model/rows.h"

void look_init(struct look *l, enum view v)
{
    static const struct {
        unsigned col;
        bool is_reversed;
    } ORDER[VIEW_COUNT] = {
        [VIEW_PROVIDERS] = {COL_PROVIDERS_health_score, true},
        [VIEW_MODELS] = {COL_MODELS_requests_per_s, true},
        [VIEW_TENANTS] = {COL_TENANTS_used_ratio, true},
        [VIEW_BREAKERS] = {COL_BREAKERS_state, false},
        [VIEW_ERRORS] = {COL_ERRORS_at, true},
        [VIEW_LATENCY] = {COL_LATENCY_latency_p95_ms, true},
        [VIEW_ANOMALIES] = {COL_ANOMALIES_at, true},
    };

    *l = (struct look){
        .sort = column_place(ORDER[v].col), .is_reversed = ORDER[v].is_reversed, .is_tree = true};
}

bool look_set_filter(struct look *l, enum view v, const char *text, struct err *err)
{
    struct filter f;

    if (filter_parse(v, text, &f, err))
        return false;
    l->filter = f;
    (void)snprintf(l->filter_text, sizeof(l->filter_text), "%.127s", text);
    return true;
}

bool look_set_sort(struct look *l, enum view v, const char *text, struct err *err)
{
    bool is_reversed = *text == '-';
    size_t n, i = column_find(v, text + is_reversed);

    (void)view_columns(v, &n);
    if (i == n) {
        (void)err_set(err, ERR_BAD_REQUEST, "view '%s' has no column '%s'", view_name(v), text + is_reversed);
        return false;
    }
    l->sort = i;
    l->is_reversed = is_reversed;
    return true;
}

/* ---- order ----------------------------------------------------------------------------------------------------------- */

static _Thread_local const struct look *order_look;
static _Thread_local enum view order_view;

/* Open first, whatever their names. */
static int breaker_rank(const char *z)
{
    return strcmp(z, "OPEN") == 0 ? 0 : strncmp(z, "HALF", 4) == 0 ? 1 : strcmp(z, "CLOSED") == 0 ? 2 : 3;
}

static int compare_values(const struct value *a, const struct value *b, enum form form)
{
    if (form == FORM_BREAKER && a->kind == VALUE_TEXT && b->kind == VALUE_TEXT)
        return breaker_rank(a->z) - breaker_rank(b->z);
    if (a->kind == VALUE_TEXT)
        return strcasecmp(a->z, b->z);
    return a->n < b->n ? -1 : a->n > b->n;
}

static bool is_known(const struct value *v)
{
    return v->kind == VALUE_TEXT || (v->kind == VALUE_NUMBER && !isnan(v->n));
}

/* What is unknown comes last in either direction. */
static int by_column(const void *pa, const void *pb)
{
    const struct line *a = pa, *b = pb;
    const struct value *x = &a->v[order_look->sort], *y = &b->v[order_look->sort];
    size_t n;
    const struct column *c = view_columns(order_view, &n);
    int order;

    if (is_known(x) != is_known(y))
        return is_known(x) ? -1 : 1;
    order = is_known(x) && x->kind == y->kind ? compare_values(x, y, c[order_look->sort].form) : 0;
    if (order)
        return order_look->is_reversed ? -order : order;
    return strcmp(a->key, b->key);
}

static void sort_lines(struct table *t, const struct look *look)
{
    order_look = look;
    order_view = t->view;
    if (t->lines.n)
        qsort(t->lines.v, t->lines.n, sizeof(*t->lines.v), by_column);
}

/* ---- trees: parents in order, each followed by its children in order ------------------------------------------------- */

static bool is_open(const struct look *look, const char *key)
{
    for (unsigned i = 0; i < look->n_open; i++)
        if (strcmp(look->open[i], key) == 0)
            return !look->all_open;
    return look->all_open;
}

static bool is_child_of(const struct line *child, const struct line *parent)
{
    size_t n = strlen(parent->key);

    return child->depth && strncmp(child->key, parent->key, n) == 0 && child->key[n] == '/';
}

static void make_tree(struct table *t, const struct look *look)
{
    __typeof__(t->lines) sorted = {0};

    for (size_t i = 0; i < t->lines.n; i++) {
        struct line *parent;
        size_t at = sorted.n;

        if (t->lines.v[i].depth)
            continue;
        *LIST_ADD(&sorted) = t->lines.v[i];
        for (size_t k = 0; k < t->lines.n; k++) {
            parent = &sorted.v[at];
            if (!is_child_of(&t->lines.v[k], parent))
                continue;
            parent->n_children++;
            parent->has_children = true;
            parent->is_open = is_open(look, parent->key);
            if (parent->is_open)
                *LIST_ADD(&sorted) = t->lines.v[k];
        }
    }
    LIST_RELEASE(&t->lines);
    t->lines.v = sorted.v;
    t->lines.n = sorted.n;
    t->lines.cap = sorted.cap;
}

static void make_flat(struct table *t)
{
    for (size_t i = 0; i < t->lines.n; i++)
        t->lines.v[i].depth = 0;
}

/* ---- building -------------------------------------------------------------------------------------------------------- */

static void filter_lines(struct table *t, const struct look *look)
{
    size_t kept = 0;

    t->total = t->lines.n;
    for (size_t i = 0; i < t->lines.n; i++)
        if (filter_takes(&look->filter, t->lines.v[i].v, t->n_columns))
            t->lines.v[kept++] = t->lines.v[i];
    t->lines.n = kept;
}

void table_build(struct table *t, const struct model *m, const struct scope *scope, const struct look *look)
{
    *t = (struct table){.view = scope->view};
    t->columns = view_columns(t->view, &t->n_columns);
    rows_fill(t, m, scope, look);
    filter_lines(t, look);
    sort_lines(t, look);
    if (t->view == VIEW_TENANTS && look->is_tree && !look->filter.n)
        make_tree(t, look);
    else
        make_flat(t);
}

void table_release(struct table *t)
{
    for (size_t i = 0; i < t->pool.n; i++)
        free(t->pool.v[i]);
    LIST_RELEASE(&t->pool);
    LIST_RELEASE(&t->lines);
}
