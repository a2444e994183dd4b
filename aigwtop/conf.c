/* SPDX-License-Identifier: Apache-2.0 */
/* top.conf: lines of `name = value`, `#` begins a comment. What it may hold is what conf_save() writes, and bindings:
 *     theme = cb        interval = 2.0     glyphs = block    mouse = on    span = 60m
 *     sort.models = -p95        columns.models = model,latency_p95_ms      filter.errors = !x
 *     key.export = x F9 e */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "aigwtop/app_priv.h"
#include "libshared/cli/term.h"

const char *conf_default_path(char *dst, size_t cap)
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

    if (xdg && xdg[0] == '/')
        (void)snprintf(dst, cap, "%.1000s/gatewayd/top.conf", xdg);
    else if (home && home[0] == '/')
        (void)snprintf(dst, cap, "%.1000s/.config/gatewayd/top.conf", home);
    else
        return NULL;
    return dst;
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

static bool set_of_view(struct app *a, const char *what, const char *view, const char *value, struct err *err)
{
    struct place *p;
    enum view v;

    if (!view_find(view, &v))
        return false;
    p = &a->ui.places[v];
    if (strcmp(what, "sort") == 0)
        return look_set_sort(&p->look, v, value, err);
    if (strcmp(what, "filter") == 0)
        return look_set_filter(&p->look, v, value, err);
    return strcmp(what, "columns") == 0 && place_set_columns(p, v, value, err);
}

static bool set(struct app *a, const char *name, const char *value, struct err *err)
{
    char what[32];
    const char *dot = strchr(name, '.');
    double v = atof(value);

    if (strcmp(name, "theme") == 0)
        return theme_parse(value, &a->ui.theme);
    if (strcmp(name, "glyphs") == 0)
        return glyphs_parse(value, &a->glyphs);
    if (strcmp(name, "interval") == 0 && v >= 0.2 && v <= 60) {
        a->ui.interval_ms = (int64_t)(v * 1000 + 0.5);
        return true;
    }
    if (strcmp(name, "mouse") == 0) {
        a->ui.has_mouse = strcmp(value, "on") == 0;
        return a->ui.has_mouse || strcmp(value, "off") == 0;
    }
    if (strcmp(name, "span") == 0) {
        return ui_set_span(&a->ui, value);
    }
    if (!dot)
        return false;
    (void)span_copy(what, sizeof(what), span_make(name, (size_t)(dot - name)));
    return strcmp(what, "key") == 0 ? action_bind(dot + 1, value) : set_of_view(a, what, dot + 1, value, err);
}

static void take_line(struct app *a, char *line, const char *path, unsigned number)
{
    struct span rest = span_of(line), name;
    char n[64], v[256];
    struct err err = {0};

    rest.len = strcspn(line, "\r\n");
    rest = span_trim(rest);
    if (!rest.len || rest.p[0] == '#')
        return;
    name = span_split(&rest, '=');
    (void)span_copy(n, sizeof(n), span_trim(name));
    (void)span_copy(v, sizeof(v), span_trim(rest));
    if (set(a, n, v, &err))
        return;
    (void)fputs("aigwtop: ", stderr);
    term_put(stderr, path);
    (void)fprintf(stderr, ":%u: this setting makes no sense and is left out\n", number);
}

bool conf_load(struct app *a, const char *path, struct err *err)
{
    FILE *f = fopen(path, "re");
    char line[512];
    unsigned number = 0;

    if (!f) {
        if (errno == ENOENT && !a->o->conf)
            return true;
        (void)err_set(err, ERR_CONFIG, "the settings '%.200s' cannot be read", path);
        return errno == EACCES && !a->o->conf; /* the usual place may be somebody else's */
    }
    while (fgets(line, sizeof(line), f))
        take_line(a, line, path, ++number);
    (void)fclose(f);
    return true;
}

/* ---- writing --------------------------------------------------------------------------------------------------------- */

static void put_view(FILE *f, const struct place *p, enum view v)
{
    struct look fresh;
    size_t n;
    const struct column *c = view_columns(v, &n);
    bool is_first = true;

    look_init(&fresh, v);
    if (p->look.sort != fresh.sort || p->look.is_reversed != fresh.is_reversed)
        (void)fprintf(f, "sort.%s = %s%s\n", view_name(v), p->look.is_reversed ? "-" : "",
                      c[p->look.sort].key);
    if (p->look.filter.n)
        (void)fprintf(f, "filter.%s = %s\n", view_name(v), p->look.filter_text);
    if (!p->hidden && !p->forced)
        return;
    (void)fprintf(f, "columns.%s = ", view_name(v));
    for (size_t i = 0; i < n; i++) {
        bool is_shown = !(p->hidden >> i & 1) && (c[i].from <= 80 || (p->forced >> i & 1));

        if (is_shown)
            (void)fprintf(f, "%s%s", is_first ? "" : ",", c[i].key);
        is_first &= !is_shown;
    }
    (void)fputc('\n', f);
}

static void make_parents(char *path)
{
    for (char *p = path + 1; *p; p++)
        if (*p == '/') {
            *p = '\0';
            (void)mkdir(path, 0700);
            *p = '/';
        }
}

static void put_all(const struct app *a, FILE *f)
{
    (void)fputs("# Written by aigwtop (S). Lines of key.ACTION = KEYS bind keys; they are kept.\n", f);
    (void)fprintf(f, "theme = %s\ninterval = %.1f\nmouse = %s\nspan = %s\n", theme_name(a->ui.theme),
                  (double)a->ui.interval_ms / 1000, a->ui.has_mouse ? "on" : "off", ui_span_text(&a->ui));
    if (a->glyphs != glyphs_auto())
        (void)fprintf(f, "glyphs = %s\n", glyphs_name(a->glyphs));
    for (int v = 0; v < VIEW_COUNT; v++)
        put_view(f, &a->ui.places[v], (enum view)v);
    for (int act = 1; act < ACTION_COUNT; act++)
        if (action_is_bound((enum action)act))
            (void)fprintf(f, "key.%s = %s\n", action_name((enum action)act), action_keys((enum action)act));
}

bool conf_save(const struct app *a, struct err *err)
{
    char path[1200], fresh[1210];
    FILE *f;
    bool ok;

    if (!a->conf_path || a->o->no_config) {
        (void)err_set(err, ERR_CONFIG,
                      "there is no place for settings: HOME is not set, or --no-config was given");
        return false;
    }
    (void)snprintf(path, sizeof(path), "%s", a->conf_path);
    make_parents(path);
    (void)snprintf(fresh, sizeof(fresh), "%s.new", path);
    f = fopen(fresh, "we");
    if (f)
        put_all(a, f);
    ok = f && !ferror(f);
    ok = f && fclose(f) == 0 && ok && rename(fresh, path) == 0;
    if (!ok)
        (void)err_set(err, ERR_IO, "'%.200s' cannot be written: %s", path, strerror(errno));
    return ok;
}
