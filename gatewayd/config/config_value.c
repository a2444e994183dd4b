/* SPDX-License-Identifier: Apache-2.0 */
/* One value into its place, whatever it came from: a node of a document (expanded first), a variable of the
 * environment, a flag or a default. The row of the option says what is allowed; the origin says where to
 * point. */
#include <stdarg.h>
#include <stdio.h>

#include "gatewayd/config/config_priv.h"

/* Longer values are not repeated in messages: they may be secrets in the wrong place. */
#define SHOWN_MAX 24u

/* ---- messages ---- */

static int put_origin(char *dst, size_t cap, const struct origin *at)
{
    if (at->file)
        return snprintf(dst, cap, "%s:%u:%u: ", at->file, at->place.line, at->place.column);
    if (at->variable)
        return snprintf(dst, cap, "environment variable '%s': ", at->variable);
    if (at->flag)
        return snprintf(dst, cap, "option '%s': ", at->flag);
    dst[0] = '\0';
    return 0;
}

enum err_code fail_origin(struct build *b, const struct origin *at, const char *fmt, ...)
{
    char text[sizeof(b->err->text)];
    int n = put_origin(text, sizeof(text), at);
    va_list ap;

    if (n >= 0 && (size_t)n < sizeof(text)) {
        va_start(ap, fmt);
        (void)vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, ap);
        va_end(ap);
    }
    return err_set(b->err, ERR_CONFIG, "%s", text);
}

void warn_origin(struct build *b, const struct origin *at, const char *fmt, ...)
{
    char text[1024];
    int n = put_origin(text, sizeof(text), at);
    va_list ap;

    if (n < 0 || (size_t)n >= sizeof(text))
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, ap);
    va_end(ap);
    buf_addf(&b->warnings, "%s\n", text);
}

struct origin origin_of(const struct source *src, const struct yaml_node *node)
{
    struct origin at = {.file = src->name, .place = node->place};

    if (node->type != NODE_LIST && node->type != NODE_MAP && node->text.len <= SHOWN_MAX &&
        value_is_printable(node->text))
        at.shown = node->text;
    at.is_literal = node->text.len && !memmem(node->text.p, node->text.len, "${", 2);
    return at;
}

struct origin origin_in(const struct item *it, const char *key)
{
    const struct yaml_node *v;

    if (!it->node)
        return (struct origin){0};
    v = yaml_get(it->node, key);
    return origin_of(it->src, v ? v : it->node);
}

/* ---- scalars ---- */

static const char *expected(const struct option_row *row, char dst[192])
{
    struct buf words AUTO(buf_release) = {0};

    switch (row->type) {
    case OPT_BOOL:
        return "true or false";
    case OPT_COUNT:
        (void)snprintf(dst, 192, "a whole number from %lld to %lld", (long long)row->min,
                       (long long)row->max);
        return dst;
    case OPT_SIZE:
        return "a size such as '32MiB'";
    case OPT_DURATION:
        return "a duration such as '500ms', '30s' or '5m'";
    case OPT_RATIO:
        return "a number from 0 to 1";
    case OPT_MONEY:
        return "an amount of US dollars such as '100' or '0.25'";
    case OPT_PATH:
        return "a path";
    case OPT_NAME:
        return "a name of letters, digits, '_', '.' and '-', at most 64 long, that begins with a letter or "
               "digit";
    case OPT_CHOICE:
    case OPT_ENUM:
    case OPT_DSN: {
        struct span rest = span_of(row->choices);

        while (rest.p) {
            struct span w = span_split(&rest, ' ');

            if (w.len)
                buf_addf(&words, "%s'%.*s'", words.len ? ", " : "", (int)w.len, w.p);
        }
        (void)snprintf(dst, 192, "%s%s", row->type == OPT_DSN ? "empty or begin with one of " : "one of ",
                       words.p ? words.p : "");
        return dst;
    }
    case OPT_LEVELS:
        return "up to 4 rising percentages from 1 to 100, such as '80, 95'";
    case OPT_DIGEST:
        return "64 hexadecimal digits";
    case OPT_TEXT:
    case OPT_NAMES:
        return "text without control characters";
    case OPT_ADDRESS:
    case OPT_CIDRS:
    case OPT_SECRET:
    case OPT_SECRETS:
    default:
        return "something else";
    }
}

static const char *closest_choice(const struct option_row *row, struct span got, char dst[64])
{
    struct span rest = span_of(row->choices);
    unsigned best = UINT32_MAX;

    while (rest.p) {
        struct span w = span_split(&rest, ' ');
        unsigned d = w.len ? edit_distance(got, w) : UINT32_MAX;

        if (d < best) {
            best = d;
            (void)span_copy(dst, 64, w);
        }
    }
    return is_close(best, got.len) ? dst : NULL;
}

static enum err_code fail_value(struct build *b, const struct option_row *row, const struct origin *at)
{
    char want[192], near[64];
    bool is_shown = at->shown.len && row->type != OPT_DIGEST && row->type != OPT_DSN;
    const char *hint = is_shown && (row->type == OPT_CHOICE || row->type == OPT_ENUM)
                           ? closest_choice(row, at->shown, near)
                           : NULL;

    return fail_origin(b, at, "'%s' must be %s%s%.*s%s%s%s%s", row->path, expected(row, want),
                       is_shown ? ", not '" : "", is_shown ? (int)at->shown.len : 0,
                       is_shown ? at->shown.p : "", is_shown ? "'" : "", hint ? "; did you mean '" : "",
                       hint ? hint : "", hint ? "'?" : "");
}

static enum err_code fail_reason(struct build *b, const struct option_row *row, const struct origin *at,
                                 const char *why)
{
    return fail_origin(b, at, "'%s' is not usable: %s", row->path, why);
}

/* Writes `v` into an unsigned field of the row's width; the row's maximum fits it. */
static void put_unsigned(void *at, size_t width, uint64_t v)
{
    uint32_t narrow = (uint32_t)v;

    if (width == sizeof(uint32_t))
        memcpy(at, &narrow, sizeof(narrow));
    else
        memcpy(at, &v, sizeof(v));
}

static bool in_range(const struct option_row *row, int64_t v)
{
    return v >= row->min && (!row->max || v <= row->max);
}

static enum err_code set_number(struct build *b, const struct option_row *row, void *field, struct span text,
                                const struct origin *at)
{
    int64_t v = 0;
    uint64_t u = 0;
    bool ok = false;

    switch (row->type) {
    case OPT_COUNT:
        ok = span_to_u64(text, &u) && u <= INT64_MAX;
        v = ok ? (int64_t)u : 0;
        break;
    case OPT_SIZE:
        ok = value_size(text, &u) && u <= INT64_MAX;
        v = ok ? (int64_t)u : 0;
        break;
    case OPT_DURATION:
        ok = value_duration(text, &v);
        break;
    case OPT_RATIO:
        ok = value_decimal(text, 6, &v);
        break;
    default:
        ok = value_decimal(text, 9, &v);
        break;
    }
    if (!ok)
        return fail_value(b, row, at);
    if (!in_range(row, v)) {
        struct buf range AUTO(buf_release) = {0};

        option_range(&range, row);
        return fail_origin(b, at, "'%s' is out of range, it must be %s", row->path, range.p);
    }
    if (row->type == OPT_RATIO) {
        double ratio = (double)v / 1e6;

        memcpy(field, &ratio, sizeof(ratio));
    } else {
        put_unsigned(field, row->width, (uint64_t)v);
    }
    return ERR_OK;
}

static bool is_dsn(const struct option_row *row, struct span text)
{
    struct span rest = span_of(row->choices);

    if (!text.len)
        return true;
    while (rest.p) {
        struct span scheme = span_split(&rest, ' ');

        if (span_starts(text, scheme) && text.len > scheme.len)
            return value_is_printable(text);
    }
    return false;
}

static enum err_code set_string(struct build *b, const struct option_row *row, void *field, struct span text,
                                const struct origin *at)
{
    const char *copy;
    bool ok = value_is_printable(text);

    if (row->type == OPT_NAME)
        ok = value_is_name(text);
    else if (row->type == OPT_PATH)
        ok = ok && text.len;
    else if (row->type == OPT_CHOICE)
        ok = value_choice(text, row->choices, NULL);
    else if (row->type == OPT_DSN)
        ok = is_dsn(row, text);
    if (!ok)
        return fail_value(b, row, at);
    copy = arena_dup(b->a, text);
    memcpy(field, &copy, sizeof(copy));
    return ERR_OK;
}

static enum err_code keep_secret(struct build *b, struct secret *s, struct span bytes)
{
    bool is_new = !s->sealed_;
    struct secret_link *link;

    if (secret_set(s, bytes))
        return err_set(b->err, ERR_NO_MEMORY, "no memory for a secret");
    if (is_new) {
        link = arena_new(b->a, struct secret_link);
        *link = (struct secret_link){.next = b->c->secrets, .secret = s};
        b->c->secrets = link;
    }
    return ERR_OK;
}

static enum err_code set_secret(struct build *b, const struct option_row *row, struct secret *s,
                                struct span text, const struct origin *at)
{
    struct buf value AUTO(wipe_buf) = {0};
    enum err_code e = read_secret(b, text, at, &value);

    if (at->is_literal && !span_starts(text, SPAN_LIT("file:")))
        b->has_plain_secret = true;
    if (e)
        return e;
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.p[i];

        if (c < ' ' || c > '~' || (c == ' ' && row->type == OPT_SECRETS))
            return fail_origin(b, at,
                               "'%s'%s%s holds a character that no key has (a space, a line end, not ASCII)",
                               row->path, b->subject ? " of " : "", b->subject ? b->subject : "");
    }
    return keep_secret(b, s, buf_span(&value));
}

static enum err_code set_zone(struct build *b, const struct option_row *row, void *field, struct span text,
                              const struct origin *at)
{
    const struct zone *z;
    struct err err = {0};

    if (zone_find_mt(text, &z, &err) != ERR_OK)
        return fail_origin(b, at, "'%s': %s", row->path, err.text);
    memcpy(field, &z, sizeof(z));
    return ERR_OK;
}

static enum err_code set_scalar(struct build *b, const struct option_row *row, void *field, struct span text,
                                const struct origin *at)
{
    struct buf from_file AUTO(wipe_buf) = {0};
    const char *why;
    unsigned choice;
    enum err_code e;

    switch (row->type) {
    case OPT_BOOL:
        return value_bool(text, field) ? ERR_OK : fail_value(b, row, at);
    case OPT_ENUM:
        if (!value_choice(text, row->choices, &choice))
            return fail_value(b, row, at);
        put_unsigned(field, row->width, choice);
        return ERR_OK;
    case OPT_ADDRESS:
        why = !text.len && !row->is_optional ? "it is empty" : value_address(b->a, text, field);
        return why ? fail_reason(b, row, at, why) : ERR_OK;
    case OPT_ZONE:
        return set_zone(b, row, field, text, at);
    case OPT_LEVELS:
        return value_levels(text, field) ? ERR_OK : fail_value(b, row, at);
    case OPT_DIGEST:
        return hex_decode(text, field, SHA256_BYTES) ? ERR_OK : fail_value(b, row, at);
    case OPT_SECRET:
        return set_secret(b, row, field, text, at);
    case OPT_DSN: /* may hold a password, so it may come from a file */
        e = read_secret(b, text, at, &from_file);
        return e ? e : set_string(b, row, field, buf_span(&from_file), at);
    case OPT_TEXT:
    case OPT_PATH:
    case OPT_NAME:
    case OPT_CHOICE:
        return set_string(b, row, field, text, at);
    default:
        return set_number(b, row, field, text, at);
    }
}

/* ---- lists ---- */

static bool is_list_type(enum option_type t)
{
    return t == OPT_CIDRS || t == OPT_NAMES || t == OPT_SECRETS;
}

static size_t element_size(enum option_type t)
{
    return t == OPT_CIDRS   ? sizeof(struct config_cidr)
           : t == OPT_NAMES ? sizeof(char *)
                            : sizeof(struct secret);
}

static enum err_code set_element(struct build *b, const struct option_row *row, void *element,
                                 struct span text, const struct origin *at)
{
    const char *why;

    if (row->type == OPT_SECRETS)
        return set_secret(b, row, element, text, at);
    if (row->type == OPT_NAMES)
        return text.len ? set_string(b, row, element, text, at) : fail_reason(b, row, at, "an item is empty");
    why = value_cidr(text, element);
    return why ? fail_reason(b, row, at, why) : ERR_OK;
}

static void put_list(const struct option_row *row, void *base, void *items, size_t n)
{
    memcpy((char *)base + row->offset, &items, sizeof(items));
    memcpy((char *)base + row->n_offset, &n, sizeof(n));
}

/* Comma-separated, as variables and defaults have it; a secret is never split. */
static enum err_code set_list_text(struct build *b, const struct option_row *row, void *base,
                                   struct span text, const struct origin *at)
{
    size_t size = element_size(row->type), max = 1, n = 0;
    char *items;

    for (size_t i = 0; i < text.len; i++)
        max += text.p[i] == ',';
    items = arena_alloc(b->a, max * size);
    while (text.p && text.len) {
        struct span one = row->type == OPT_SECRETS ? text : span_trim(span_split(&text, ','));
        enum err_code e = set_element(b, row, items + n * size, one, at);

        if (e)
            return e;
        n++;
        if (row->type == OPT_SECRETS)
            break;
    }
    put_list(row, base, items, n);
    return ERR_OK;
}

static enum err_code set_list_node(struct build *b, const struct option_row *row, void *base,
                                   const struct source *src, const struct yaml_node *node)
{
    size_t size = element_size(row->type), n = 0;
    char *items = arena_alloc(b->a, (node->n_items + 1) * size);

    if (row->type == OPT_SECRETS && node->n_items > LIMIT_PROVIDER_KEYS) {
        struct origin at = origin_of(src, node);

        return fail_origin(b, &at, "'%s' has more than %u items", row->path, LIMIT_PROVIDER_KEYS);
    }
    for (const struct yaml_item *it = node->items; it; it = it->next) {
        struct origin at = origin_of(src, it->value);
        struct buf text AUTO(wipe_buf) = {0};
        bool is_missing = false;
        enum err_code e;

        if (it->value->type != NODE_TEXT && it->value->type != NODE_NULL)
            return fail_origin(b, &at, "an item of '%s' must be text", row->path);
        e = expand(b, it->value->text, &at, &text, &is_missing);
        if (e)
            return e;
        if (row->type == OPT_SECRETS && (is_missing || !text.len || it->value->type == NODE_NULL)) {
            b->n_skipped++;
            continue;
        }
        e = set_element(b, row, items + n * size, buf_span(&text), &at);
        if (e)
            return e;
        n++;
    }
    put_list(row, base, items, n);
    return ERR_OK;
}

/* ---- both ---- */

static void remember_setter(struct build *b, const struct option_row *row, const struct origin *at)
{
    struct origin *o = &b->set_by[row - OPTIONS];

    if (option_is_root(row) || (!o->file && !o->variable && !o->flag))
        *o = *at;
}

enum err_code set_text(struct build *b, const struct option_row *row, void *base, struct span text,
                       const struct origin *at)
{
    remember_setter(b, row, at);
    if (is_list_type(row->type))
        return set_list_text(b, row, base, text, at);
    return set_scalar(b, row, (char *)base + row->offset, text, at);
}

enum err_code set_node(struct build *b, const struct option_row *row, void *base, const struct source *src,
                       const struct yaml_node *node)
{
    struct origin at = origin_of(src, node);
    struct buf text AUTO(wipe_buf) = {0};
    bool is_missing = false;
    enum err_code e;

    if (node->type == NODE_NULL)
        return ERR_OK;
    if (node->type == NODE_LIST && is_list_type(row->type)) {
        remember_setter(b, row, &at);
        return set_list_node(b, row, base, src, node);
    }
    if (node->type == NODE_LIST && row->type == OPT_LEVELS) {
        for (const struct yaml_item *it = node->items; it; it = it->next)
            buf_addf(&text, "%s%s", text.len ? "," : "",
                     it->value->type == NODE_TEXT ? it->value->text.p : "?");
        return set_text(b, row, base, buf_span(&text), &at);
    }
    if (node->type != NODE_TEXT)
        return fail_origin(b, &at, "'%s' must be %s, not a %s", row->path,
                           is_list_type(row->type) ? "a list" : "a single value",
                           node->type == NODE_LIST ? "list" : "mapping");
    e = expand(b, node->text, &at, &text, &is_missing);
    if (e)
        return e;
    if (is_missing || (row->type == OPT_SECRETS && !text.len)) {
        b->n_skipped++;
        return ERR_OK;
    }
    return set_text(b, row, base, buf_span(&text), &at);
}

enum err_code set_defaults(struct build *b, const char *prefix, void *base)
{
    static const struct origin NOWHERE;
    size_t n = strlen(prefix);

    for (size_t i = 0; i < OPTIONS_LEN; i++) {
        const struct option_row *row = &OPTIONS[i];
        enum err_code e;

        if (strncmp(row->path, prefix, n) != 0 || strstr(row->path + n, "[]") || !row->fallback)
            continue;
        e = is_list_type(row->type)
                ? set_list_text(b, row, base, span_of(row->fallback), &NOWHERE)
                : set_scalar(b, row, (char *)base + row->offset, span_of(row->fallback), &NOWHERE);
        if (e)
            return err_prefix(b->err, "default of '%s'", row->path);
    }
    return ERR_OK;
}
