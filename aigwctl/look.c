/* SPDX-License-Identifier: Apache-2.0 */
#include "aigwctl/look.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/base/buf.h"

static void add_escaped(struct buf *b, const char *z, const char *kept)
{
    for (; *z; z++)
        if (isalnum((unsigned char)*z) || strchr(kept, *z))
            buf_addc(b, *z);
        else
            buf_addf(b, "%%%02X", (unsigned char)*z);
}

void look_add_part(struct buf *b, const char *part)
{
    add_escaped(b, part, "_.-~/:@");
}

void look_add_param(struct buf *b, const char *name, const char *value)
{
    if (!value)
        return;
    buf_addf(b, "%c%s=", memchr(b->p, '?', b->len) ? '&' : '?', name);
    add_escaped(b, value, "_.-~,");
}

bool look_split(const char *target, char *provider, size_t cap, const char **out_model)
{
    size_t n = strcspn(target, "/");

    if (n == 0 || n >= cap || (target[n] && !target[n + 1]))
        return false;
    (void)span_copy(provider, cap, span_make(target, n));
    *out_model = target[n] ? target + n + 1 : NULL;
    return true;
}

json_t *look_rows(const json_t *doc, const char *list, const char *key)
{
    json_t *from = list && json_is_object(doc) ? json_object_get(doc, list) : NULL;
    json_t *rows = json_array(), *row, *copy;
    const char *name;
    size_t i;

    if (!from)
        from = (json_t *)(uintptr_t)doc;
    if (json_is_array(from)) {
        json_array_foreach(from, i, row) if (json_is_object(row))(void)
            json_array_append_new(rows, json_copy(row));
    } else if (key) {
        json_object_foreach(from, name, row)
        {
            if (!json_is_object(row))
                continue;
            copy = json_copy(row);
            (void)json_object_set_new(copy, key, json_string(name));
            (void)json_array_append_new(rows, copy);
        }
    } else if (json_is_object(from)) {
        (void)json_array_append_new(rows, json_copy(from));
    }
    return rows;
}

double look_number(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);

    return json_is_number(v) ? json_number_value(v) : NAN;
}

const char *look_text(const json_t *o, const char *name)
{
    const char *z = json_string_value(json_object_get(o, name));

    return z ? z : "";
}

const char *look_shown(const json_t *o, const char *name)
{
    const char *z = json_string_value(json_object_get(o, name));

    return z ? z : "-";
}

json_t *look_sorted(json_t *rows, int (*compare)(const void *, const void *))
{
    size_t n = json_array_size(rows), i;
    json_t **list = calloc(n + 1, sizeof(json_t *)), *row, *out = json_array();

    if (!list)
        abort();
    json_array_foreach(rows, i, row) list[i] = row;
    qsort(list, n, sizeof(*list), compare);
    for (i = 0; i < n; i++)
        (void)json_array_append(out, list[i]);
    free(list);
    json_decref(rows);
    return out;
}

void look_time(json_t *row, const char *from, const char *to)
{
    double at = look_number(row, from);
    char text[WALL_TEXT_CAP];

    if (json_object_get(row, to) || isnan(at) || at < 0 || at > 4e9)
        return;
    (void)wall_format((struct wall){(int64_t)(at * 1e6)}, text, sizeof(text));
    (void)json_object_set_new(row, to, json_string(text));
}

void look_money(json_t *row, const char *dollars, const char *nanousd)
{
    double v = look_number(row, dollars);

    if (!json_object_get(row, nanousd) && !isnan(v) && fabs(v) < 9e9)
        (void)json_object_set_new(row, nanousd, json_integer((json_int_t)llround(v * 1e9)));
}

void look_ratio(json_t *row, const char *name, double part, double whole)
{
    if (!json_object_get(row, name))
        (void)json_object_set_new(row, name,
                                  whole > 0 && !isnan(part) ? json_real(part / whole) : json_null());
}

void look_spark(struct buf *b, const json_t *rows, const char *name)
{
    static const char *const BLOCKS[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    double most = 0;
    size_t i;
    json_t *row;

    json_array_foreach(rows, i, row) most = fmax(most, look_number(row, name)); /* NaN is passed over */
    json_array_foreach(rows, i, row)
    {
        double v = look_number(row, name);

        buf_addz(b, isnan(v) ? " " : BLOCKS[most > 0 && v > 0 ? (size_t)fmin(7, v / most * 7.999) : 0]);
    }
}

unsigned look_count(struct argp_state *state, const char *name, const char *arg, unsigned least,
                    unsigned most)
{
    uint64_t n = 0;

    if (!span_to_u64(span_of(arg), &n) || n < least || n > most)
        ctl_usage(state, "--%s takes a number from %u to %u, not '%s'", name, least, most, arg);
    return (unsigned)n;
}

double look_share(struct argp_state *state, const char *name, const char *arg)
{
    char *end;
    double v = strtod(arg, &end);

    if (end != arg && strcmp(end, "%") == 0)
        v /= 100;
    else if (end == arg || *end)
        v = NAN;
    if (!(v >= 0 && v <= 1))
        ctl_usage(state, "--%s takes a share such as 5%%, not '%s'", name, arg);
    return v;
}

int look_code(const struct ctl *ctl, double value, double warning, double critical)
{
    if (!ctl->has_exit_code || isnan(value))
        return CLI_OK;
    return value >= critical ? CLI_CRITICAL : value >= warning ? CLI_WARNING : CLI_OK;
}

int look_try(struct ctl *ctl, const char *path, json_t **out)
{
    struct api_answer a = {0};
    int rc = ctl_call(ctl, "GET", path, (struct span){0}, &a);

    *out = NULL;
    if (!rc && a.status >= 200 && a.status <= 299)
        *out = json_loadb(a.body.p ? a.body.p : "", a.body.len, 0, NULL);
    else if (!rc && (a.status == 401 || a.status == 403))
        rc = ctl_refused(&a);
    api_answer_release(&a);
    return rc;
}
