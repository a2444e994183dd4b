/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot in the words of its options: for operators who ask what a gateway runs with, and why. Any thread. A secret is "(set)",
 * and an address that may hold a password is shown without what stands before its '@'. */
#include <arpa/inet.h>
#include <jansson.h>
#include <stdio.h>

#include "gatewayd/config/config_priv.h"

static int64_t number_at(const void *at, size_t width)
{
    switch (width) {
    case 1:
        return *(const uint8_t *)at;
    case 2:
        return *(const uint16_t *)at;
    case 4:
        return *(const uint32_t *)at;
    default:
        return *(const int64_t *)at;
    }
}

static void add_url(struct buf *out, const char *z)
{
    const char *scheme = strstr(z, "://"), *rest = scheme ? scheme + 3 : z;
    const char *at = strrchr(rest, '@');

    if (scheme)
        buf_add(out, span_make(z, (size_t)(rest - z)));
    buf_addf(out, "%s%s", at ? "(hidden)@" : "", at ? at + 1 : rest);
}

static void add_choice(struct buf *out, const struct option_row *row, int64_t n)
{
    struct span rest = span_of(row->choices), word = {0};

    for (; n >= 0 && rest.p; n--)
        do
            word = span_split(&rest, ' ');
        while (!word.len && rest.p);
    buf_add(out, word);
}

static void add_cidrs(struct buf *out, const struct config_cidr *list, size_t n)
{
    static const unsigned char MAPPED[12] = {[10] = 0xff, [11] = 0xff};
    char text[INET6_ADDRSTRLEN] = "";

    for (size_t i = 0; i < n; i++) {
        bool is_v4 = memcmp(list[i].addr, MAPPED, sizeof(MAPPED)) == 0 && list[i].prefix >= 96;

        (void)inet_ntop(is_v4 ? AF_INET : AF_INET6, list[i].addr + (is_v4 ? 12 : 0), text, sizeof(text));
        buf_addf(out, "%s%s/%u", i ? ", " : "", text, list[i].prefix - (is_v4 ? 96 : 0));
    }
}

static void add_names(struct buf *out, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_addf(out, "%s%s", i ? ", " : "", list[i]);
}

static void add_address(struct buf *out, const struct config_address *a)
{
    if (a->host && a->host[0])
        buf_addf(out, strchr(a->host, ':') ? "[%s]:%u" : "%s:%u", a->host, a->port);
}

static void add_value(struct buf *out, const struct option_row *row, const void *base)
{
    const char *at = (const char *)base + row->offset;
    size_t n = row->n_offset ? *(const size_t *)(const void *)((const char *)base + row->n_offset) : 0;
    const char *text = *(const char *const *)(const void *)at;
    char levels[LEVELS_TEXT];

    switch (row->type) {
    case OPT_BOOL:
        buf_addz(out, *(const bool *)at ? "true" : "false");
        break;
    case OPT_COUNT:
        buf_addf(out, "%lld", (long long)number_at(at, row->width));
        break;
    case OPT_SIZE:
        option_size(out, number_at(at, row->width));
        break;
    case OPT_DURATION:
        option_duration(out, number_at(at, row->width));
        break;
    case OPT_RATIO:
        buf_addf(out, "%g", *(const double *)(const void *)at);
        break;
    case OPT_MONEY:
        buf_addf(out, "%.10g", (double)number_at(at, row->width) / 1e9);
        break;
    case OPT_LEVELS:
        levels_text((const struct config_levels *)(const void *)at, levels);
        buf_addz(out, levels);
        break;
    case OPT_ENUM:
        add_choice(out, row, number_at(at, row->width));
        break;
    case OPT_ADDRESS:
        add_address(out, (const struct config_address *)(const void *)at);
        break;
    case OPT_CIDRS:
        add_cidrs(out, *(const struct config_cidr *const *)(const void *)at, n);
        break;
    case OPT_NAMES:
        add_names(out, *(const char *const *const *)(const void *)at, n);
        break;
    case OPT_SECRET:
        buf_addz(out, secret_expose((const struct secret *)(const void *)at).len ? "(set)" : "");
        break;
    case OPT_TEXT:
    case OPT_PATH:
    case OPT_NAME:
    case OPT_CHOICE:
    case OPT_DSN:
        add_url(out, text ? text : "");
        break;
    default: /* zones, digests and lists of secrets are in lists alone, which are not shown */
        break;
    }
}

/* Without the marks of Markdown. */
static json_t *plain(struct buf *b)
{
    size_t n = 0;

    for (size_t i = 0; i < b->len; i++)
        if (b->p[i] != '`')
            b->p[n++] = b->p[i];
    return json_stringn(b->p ? b->p : "", n);
}

static json_t *described(const struct option_row *row,
                         void (*describe)(struct buf *, const struct option_row *))
{
    struct buf b AUTO(buf_release) = {0};

    describe(&b, row);
    return plain(&b);
}

static json_t *row_json(const struct config *c, size_t i)
{
    const struct option_row *row = &OPTIONS[i];
    struct buf value AUTO(buf_release) = {0};
    json_t *o = json_object();

    (void)json_object_set_new(o, "key", json_string(row->path));
    if (c && option_is_root(row)) {
        add_value(&value, row, c);
        (void)json_object_set_new(o, "value", json_stringn(value.p ? value.p : "", value.len));
        (void)json_object_set_new(o, "origin",
                                  json_string(c->origins && c->origins[i] ? c->origins[i] : "default"));
    }
    (void)json_object_set_new(o, "default", described(row, option_default));
    (void)json_object_set_new(o, "type", described(row, option_type_text));
    (void)json_object_set_new(o, "changes", json_string(row->is_live ? "reload" : "restart"));
    (void)json_object_set_new(o, "env", row->env ? json_string(row->env) : json_null());
    (void)json_object_set_new(o, "alias", row->alias ? json_string(row->alias) : json_null());
    (void)json_object_set_new(o, "text", json_string(row->text));
    return o;
}

json_t *config_show(const struct config *c)
{
    json_t *o = json_object(), *rows = json_array();

    for (size_t i = 0; i < OPTIONS_LEN; i++)
        if (!c || option_is_root(&OPTIONS[i]))
            (void)json_array_append_new(rows, row_json(c, i));
    if (c) {
        (void)json_object_set_new(o, "version", json_integer((json_int_t)c->version));
        (void)json_object_set_new(o, "path", c->path ? json_string(c->path) : json_null());
    }
    (void)json_object_set_new(o, "options", rows);
    return o;
}
