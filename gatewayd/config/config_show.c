/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options, and a snapshot in its words, for operators who ask what a gateway runs with, and why. Any thread. */
#include "gatewayd/config/config_show.h"

#include "gatewayd/config/options.h"
#include "libshared/base/buf.h"

/* Without the marks of Markdown. */
static json_t *described(const struct option_row *row,
                         void (*describe)(struct buf *, const struct option_row *))
{
    struct buf b AUTO(buf_release) = {0};
    size_t n = 0;

    describe(&b, row);
    for (size_t i = 0; i < b.len; i++)
        if (b.p[i] != '`')
            b.p[n++] = b.p[i];
    return json_stringn(b.p ? b.p : "", n);
}

static json_t *text_or_null(const char *z)
{
    return z ? json_string(z) : json_null();
}

json_t *config_option_json(const char *path, const struct config_value *v)
{
    const struct option_row *row = option_find(path);
    json_t *o = json_object();

    (void)json_object_set_new(o, "path", json_string(path));
    if (v) {
        (void)json_object_set_new(o, "value", json_string(v->value));
        (void)json_object_set_new(o, "origin", json_string(v->origin));
        (void)json_object_set_new(o, "secret", json_boolean(v->is_secret));
    }
    (void)json_object_set_new(o, "live", json_boolean(row->is_live));
    (void)json_object_set_new(o, "default", described(row, option_default));
    (void)json_object_set_new(o, "type", described(row, option_type_text));
    (void)json_object_set_new(o, "env", text_or_null(row->env));
    (void)json_object_set_new(o, "alias", text_or_null(row->alias));
    (void)json_object_set_new(o, "text", json_string(row->text));
    return o;
}

static void take(void *user, const struct config_value *v)
{
    (void)json_array_append_new(user, config_option_json(v->path, v));
}

json_t *config_show(const struct config *c)
{
    json_t *o = json_object(), *rows = json_array();

    if (c)
        config_describe(c, take, rows);
    for (size_t i = 0; i < OPTIONS_LEN && !c; i++)
        (void)json_array_append_new(rows, config_option_json(OPTIONS[i].path, NULL));
    (void)json_object_set_new(o, "path", text_or_null(c ? c->path : NULL));
    (void)json_object_set_new(o, "options", rows);
    return o;
}
