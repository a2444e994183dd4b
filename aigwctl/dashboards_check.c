/* SPDX-License-Identifier: Apache-2.0 */
/* A dashboard's JSON, ours or anyone's, looked at without Grafana: what it would refuse or show wrongly (invalid), what is
 * unwise or unknown (lint), and what waits for a family that is not exposed yet (note). */
#include <stdlib.h>
#include <string.h>

#include "aigwctl/dashboards.h"
#include "aigwctl/look.h"
#include "libshared/catalog/alerts.h"
#include "libshared/catalog/promql.h"

struct look {
    json_t *rows;
    const char *name, *panel;
    const json_t *live;
    json_t *told; /* metric names of this panel */
    int worst;
};

static void say(struct look *l, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void say(struct look *l, int code, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (code > l->worst)
        l->worst = code;
    (void)json_array_append_new(l->rows, json_pack("{s:s, s:s, s:s, s:s}", "place", l->name, "panel",
                                                   l->panel ? l->panel : "", "grade",
                                                   code == CLI_CRITICAL  ? "invalid"
                                                   : code == CLI_WARNING ? "lint"
                                                                         : "note",
                                                   "message", text));
}

static void look_metric(struct span name, void *ctx)
{
    struct look *l = ctx;
    char z[256];

    (void)span_copy(z, sizeof(z), name);
    if (json_object_get(l->told, z))
        return;
    (void)json_object_set_new(l->told, z, json_true());
    switch (metric_standing(name)) {
    case METRIC_IS_PLANNED:
        say(l, CLI_OK, "waits for '%s', which is announced and not exposed yet", z);
        break;
    case METRIC_IS_UNKNOWN:
        say(l, CLI_WARNING, "the catalogue has no metric '%s'", z);
        break;
    case METRIC_IS_EXPOSED:
        if (l->live && !json_object_get(l->live, z))
            say(l, CLI_WARNING, "the scrape has no metric '%s'", z);
        break;
    default:
        break;
    }
}

static void look_target(struct look *l, const json_t *target)
{
    struct err err = {0};
    const char *expr = look_text(target, "expr");

    if (*look_text(target, "rawSql"))
        return;
    if (!*expr)
        say(l, CLI_CRITICAL, "a target without a query");
    else if (promql_check(span_of(expr), &err))
        say(l, CLI_CRITICAL, "%s", err_text(&err));
    else
        promql_metrics(span_of(expr), look_metric, l);
}

static void look_targets(struct look *l, const json_t *panel)
{
    json_t *targets = json_object_get(panel, "targets"), *target, *seen = json_object();
    size_t i;

    if (!json_array_size(targets))
        say(l, CLI_WARNING, "no query");
    json_array_foreach(targets, i, target)
    {
        const char *id = look_text(target, "refId");

        if (!*id || json_object_get(seen, id))
            say(l, CLI_CRITICAL, "a 'refId' is missing or there twice");
        (void)json_object_set_new(seen, id, json_true());
        look_target(l, target);
    }
    json_decref(seen);
}

static json_int_t side(const json_t *panel, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(panel, "gridPos"), name));
}

static bool overlap(const json_t *a, const json_t *b)
{
    return side(a, "x") < side(b, "x") + side(b, "w") && side(b, "x") < side(a, "x") + side(a, "w") &&
           side(a, "y") < side(b, "y") + side(b, "h") && side(b, "y") < side(a, "y") + side(a, "h");
}

static void look_place(struct look *l, const json_t *panels, size_t at)
{
    const json_t *panel = json_array_get(panels, at);

    if (side(panel, "w") < 1 || side(panel, "h") < 1 || side(panel, "x") < 0 ||
        side(panel, "x") + side(panel, "w") > 24)
        say(l, CLI_CRITICAL, "lies outside the 24 columns");
    for (size_t i = 0; i < at; i++)
        if (overlap(json_array_get(panels, i), panel))
            say(l, CLI_CRITICAL, "lies over '%s'", look_text(json_array_get(panels, i), "title"));
}

static void look_panel(struct look *l, const json_t *panels, size_t at, json_t *ids)
{
    const json_t *panel = json_array_get(panels, at), *id = json_object_get(panel, "id");
    char key[32];

    l->panel = look_text(panel, "title");
    (void)json_object_clear(l->told);
    (void)snprintf(key, sizeof(key), "%lld", (long long)json_integer_value(id));
    if (!json_is_integer(id) || json_object_get(ids, key))
        say(l, CLI_CRITICAL, "its 'id' is missing or another panel's");
    (void)json_object_set_new(ids, key, json_true());
    look_place(l, panels, at);
    if (!*l->panel)
        say(l, CLI_WARNING, "a panel without a title");
    if (strcmp(look_text(panel, "type"), "row") == 0)
        return;
    if (!*look_text(panel, "description"))
        say(l, CLI_WARNING, "no description");
    if (!*look_text(json_object_get(json_object_get(panel, "fieldConfig"), "defaults"), "unit"))
        say(l, CLI_WARNING, "no unit");
    if (!*look_text(json_object_get(panel, "datasource"), "uid"))
        say(l, CLI_CRITICAL, "no data source");
    look_targets(l, panel);
}

int dashboard_check(json_t *rows, const char *name, const json_t *d, const json_t *live)
{
    struct look l = {.rows = rows, .name = name, .live = live, .told = json_object()};
    json_t *panels = json_object_get(d, "panels"), *ids = json_object();
    size_t uid = strlen(look_text(d, "uid"));

    if (!json_array_size(panels))
        say(&l, CLI_CRITICAL, "no panels");
    if (uid < 1 || uid > 40)
        say(&l, CLI_CRITICAL, "a dashboard has a 'uid' of at most 40 characters");
    if (!*look_text(d, "title"))
        say(&l, CLI_CRITICAL, "no title");
    if (json_object_get(d, "__inputs"))
        say(&l, CLI_CRITICAL, "'__inputs' are not resolved in provisioned files");
    for (size_t i = 0; i < json_array_size(panels); i++)
        look_panel(&l, panels, i, ids);
    json_decref(ids);
    json_decref(l.told);
    return l.worst;
}
