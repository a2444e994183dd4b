/* SPDX-License-Identifier: Apache-2.0 */
#include "aigwtop/model/view.h"

#include <string.h>
#include <strings.h>

static const struct column COLUMNS[] = {
#define COLUMN(view, key, heading, width, from, form, text) {#key, heading, width, from, FORM_##form, text},
#include "aigwtop/columns.def"
#undef COLUMN
};
static const enum view OWNERS[] = {
#define COLUMN(view, key, heading, width, from, form, text) VIEW_##view,
#include "aigwtop/columns.def"
#undef COLUMN
};
_Static_assert(sizeof(OWNERS) / sizeof(OWNERS[0]) == COL_COUNT, "the table is complete");

static const struct {
    const char *name, *title;
} NAMES[VIEW_COUNT] = {
    [VIEW_PROVIDERS] = {"providers", "Providers"},
    [VIEW_MODELS] = {"models", "Models"},
    [VIEW_TENANTS] = {"tenants", "Tenants and budgets"},
    [VIEW_BREAKERS] = {"breakers", "Breakers"},
    [VIEW_ERRORS] = {"errors", "Errors"},
    [VIEW_LATENCY] = {"latency", "Latency"},
    [VIEW_ANOMALIES] = {"anomalies", "Anomalies"},
};

const struct column *view_columns(enum view v, size_t *out_n)
{
    size_t first = 0, n = 0;

    while (first < COL_COUNT && OWNERS[first] != v)
        first++;
    while (first + n < COL_COUNT && OWNERS[first + n] == v)
        n++;
    *out_n = n;
    return COLUMNS + first;
}

size_t column_place(unsigned col)
{
    size_t n;

    return (size_t)(COLUMNS + col - view_columns(OWNERS[col], &n));
}

static bool begins(const char *whole, const char *part)
{
    return strncasecmp(whole, part, strlen(part)) == 0;
}

size_t column_find(enum view v, const char *name)
{
    size_t n;
    const struct column *c = view_columns(v, &n);

    for (size_t i = 0; i < n; i++)
        if (strcmp(c[i].key, name) == 0 || strcasecmp(c[i].heading, name) == 0)
            return i;
    for (size_t i = 0; i < n; i++)
        if (*name && (begins(c[i].key, name) || begins(c[i].heading, name)))
            return i;
    for (size_t i = 0; i < n; i++) /* "p95" is latency_p95_ms */
        if (*name && strstr(c[i].key, name))
            return i;
    return n;
}

const char *view_name(enum view v)
{
    return NAMES[v].name;
}

const char *view_title(enum view v)
{
    return NAMES[v].title;
}

bool view_find(const char *name, enum view *out)
{
    for (int v = 0; v < VIEW_COUNT; v++)
        if (*name && begins(NAMES[v].name, name)) {
            *out = (enum view)v;
            return true;
        }
    return false;
}
