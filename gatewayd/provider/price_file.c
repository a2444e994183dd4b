/* SPDX-License-Identifier: Apache-2.0 */
/* The operator's price file: JSON in, rows of the table out. Amounts go from decimal text to whole pico-USD
 * without floating point, so a price that is stated is the price that is charged; one that is finer than a
 * pico-USD is refused rather than rounded. Runs where a configuration is loaded. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gatewayd/provider/pricing_priv.h"
#include "libshared/base/buf.h"
#include "libshared/json/json.h"

#define FILE_MAX_BYTES ((size_t)16 << 20)
#define NAME_MAX_BYTES 256u

static const struct json_limits FILE_LIMITS = {.max_depth = 8, .max_values = 500000, .max_key_bytes = 256};

/* ---- decimal text ---- */

struct decimal {
    unsigned __int128 digits; /* significant digits as one integer */
    long exponent;            /* value = digits * 10^exponent */
};

static bool take_digits(struct span *s, struct decimal *d, bool is_fraction, bool *any)
{
    while (s->len && s->p[0] >= '0' && s->p[0] <= '9') {
        if (d->digits > ((unsigned __int128)1 << 100))
            return false;
        d->digits = d->digits * 10 + (unsigned)(s->p[0] - '0');
        d->exponent -= is_fraction;
        *any = true;
        s->p++, s->len--;
    }
    return true;
}

static bool take_exponent(struct span *s, struct decimal *d)
{
    bool is_negative = false;
    uint64_t e;

    s->p++, s->len--;
    if (s->len && (s->p[0] == '+' || s->p[0] == '-')) {
        is_negative = s->p[0] == '-';
        s->p++, s->len--;
    }
    if (!span_to_u64(*s, &e) || e > 1000)
        return false;
    d->exponent += is_negative ? -(long)e : (long)e;
    s->len = 0;
    return true;
}

static bool parse_decimal(struct span s, struct decimal *d)
{
    bool any = false;

    *d = (struct decimal){0};
    if (!take_digits(&s, d, false, &any) || !any)
        return false;
    if (s.len && s.p[0] == '.') {
        s.p++, s.len--;
        any = false;
        if (!take_digits(&s, d, true, &any) || !any)
            return false;
    }
    if (s.len && (s.p[0] == 'e' || s.p[0] == 'E') && !take_exponent(&s, d))
        return false;
    return s.len == 0;
}

enum err_code price_parse_usd(struct span text, unsigned scale_pow10, int64_t *out_pico, struct err *err)
{
    struct decimal d;

    if (!parse_decimal(text, &d))
        return err_set(err, ERR_CONFIG, "'%.*s' is not a decimal amount",
                       (int)(text.len < 40 ? text.len : 40), text.p);
    for (d.exponent += (long)scale_pow10; d.exponent < 0 && d.digits; d.exponent++) {
        if (d.digits % 10)
            return err_set(err, ERR_CONFIG, "'%.*s' is finer than one pico-dollar a unit",
                           (int)(text.len < 40 ? text.len : 40), text.p);
        d.digits /= 10;
    }
    for (; d.exponent > 0 && d.digits && d.digits <= INT64_MAX; d.exponent--)
        d.digits *= 10;
    if (d.digits > INT64_MAX)
        return err_set(err, ERR_CONFIG, "'%.*s' is too large an amount", (int)(text.len < 40 ? text.len : 40),
                       text.p);
    *out_pico = (int64_t)d.digits;
    return ERR_OK;
}

/* ---- members of a row ---- */

enum member_kind { MEMBER_PER_MTOK, MEMBER_PER_UNIT, MEMBER_TOKENS };

static const struct member {
    const char *name;
    enum member_kind kind;
    size_t offset; /* in struct price */
} MEMBERS[] = {
    {"input_usd_per_mtok", MEMBER_PER_MTOK, offsetof(struct price, input)},
    {"cached_usd_per_mtok", MEMBER_PER_MTOK, offsetof(struct price, cached)},
    {"cache_write_usd_per_mtok", MEMBER_PER_MTOK, offsetof(struct price, cache_write)},
    {"output_usd_per_mtok", MEMBER_PER_MTOK, offsetof(struct price, output)},
    {"reasoning_usd_per_mtok", MEMBER_PER_MTOK, offsetof(struct price, reasoning)},
    {"image_usd", MEMBER_PER_UNIT, offsetof(struct price, per_image)},
    {"search_usd", MEMBER_PER_UNIT, offsetof(struct price, per_search)},
    {"context_tokens", MEMBER_TOKENS, offsetof(struct price, context_tokens)},
    {"max_output_tokens", MEMBER_TOKENS, offsetof(struct price, max_output_tokens)},
};

static enum err_code set_member(struct price *p, const struct member *m, struct json_value v, struct err *err)
{
    void *slot = (char *)p + m->offset;
    struct span text = v.type == JSON_STRING ? json_str_raw(v) : v.raw;
    enum err_code code;

    if (m->kind == MEMBER_TOKENS)
        return json_u64(v, slot) ? ERR_OK : err_set(err, ERR_CONFIG, "'%s' is not a whole number", m->name);
    if (v.type != JSON_STRING && v.type != JSON_NUMBER)
        return err_set(err, ERR_CONFIG, "'%s' is neither a decimal string nor a number", m->name);
    code = price_parse_usd(text, m->kind == MEMBER_PER_MTOK ? 6 : 12, slot, err);
    return code == ERR_OK ? ERR_OK : err_prefix(err, "'%s'", m->name);
}

struct row_draft {
    char provider[NAME_MAX_BYTES], model[NAME_MAX_BYTES];
    size_t provider_len, model_len;
    struct price price;
    bool is_seen[ARRAY_LEN(MEMBERS)];
};

static enum err_code draft_name(char *dst, size_t *len, const char *what, struct json_value v,
                                struct err *err)
{
    if (*len)
        return err_set(err, ERR_CONFIG, "'%s' is given twice", what);
    if (!json_str(v, dst, NAME_MAX_BYTES, len) || !*len)
        return err_set(err, ERR_CONFIG, "'%s' is not a name of 1 to %u bytes", what, NAME_MAX_BYTES - 1);
    return ERR_OK;
}

static enum err_code draft_member(struct row_draft *d, const struct json_member *m, struct err *err)
{
    if (json_key_is(m->key, "provider"))
        return draft_name(d->provider, &d->provider_len, "provider", m->value, err);
    if (json_key_is(m->key, "model"))
        return draft_name(d->model, &d->model_len, "model", m->value, err);
    for (size_t i = 0; i < ARRAY_LEN(MEMBERS); i++) {
        if (!json_key_is(m->key, MEMBERS[i].name))
            continue;
        if (d->is_seen[i])
            return err_set(err, ERR_CONFIG, "'%s' is given twice", MEMBERS[i].name);
        d->is_seen[i] = true;
        return set_member(&d->price, &MEMBERS[i], m->value, err);
    }
    return err_set(err, ERR_CONFIG, "unknown member '%.*s'", (int)(m->key.len < 60 ? m->key.len : 60),
                   m->key.p);
}

static enum err_code draft_put(struct price_table *t, const struct row_draft *d, struct err *err)
{
    struct price_row row = {.price = d->price};
    enum err_code code;

    if (!d->provider_len || !d->model_len)
        return err_set(err, ERR_CONFIG, "'provider' and 'model' are both needed");
    if (d->price.input < 0 && d->price.per_image < 0)
        return err_set(err, ERR_CONFIG, "'%s/%s' states neither 'input_usd_per_mtok' nor 'image_usd'",
                       d->provider, d->model);
    if (row.price.input < 0) /* paid by the image alone */
        row.price.input = 0;
    if (row.price.output < 0 && row.price.per_image < 0)
        return err_set(err, ERR_CONFIG,
                       "'%s/%s' states no 'output_usd_per_mtok' (write \"0\" where there is no output)",
                       d->provider, d->model);
    row.owned_names = malloc(d->provider_len + d->model_len);
    if (!row.owned_names)
        return err_set(err, ERR_NO_MEMORY, "no memory for the price table");
    memcpy(row.owned_names, d->provider, d->provider_len);
    memcpy(row.owned_names + d->provider_len, d->model, d->model_len);
    row.provider = span_make(row.owned_names, d->provider_len);
    row.model = span_make(row.owned_names + d->provider_len, d->model_len);
    code = price_table_put(t, &row, err);
    free(row.owned_names); /* NULL once the table has it */
    return code;
}

static enum err_code parse_row(struct price_table *t, struct json_value v, struct err *err)
{
    struct row_draft d = {.price = {-1, -1, -1, -1, -1, -1, -1, 0, 0}};
    struct json_member m;
    struct json_walk w;
    enum err_code code;

    if (v.type != JSON_OBJECT || !json_walk(&w, v.raw))
        return err_set(err, ERR_CONFIG, "not an object");
    while (json_next(&w, &m)) {
        code = draft_member(&d, &m, err);
        if (code != ERR_OK)
            return code;
    }
    return draft_put(t, &d, err);
}

static enum err_code parse_rows(struct price_table *t, struct json_value list, struct err *err)
{
    struct json_member m;
    struct json_walk w;
    enum err_code code;

    if (list.type != JSON_ARRAY || !json_walk(&w, list.raw))
        return err_set(err, ERR_CONFIG, "'prices' is not a list");
    for (unsigned i = 0; json_next(&w, &m); i++) {
        code = parse_row(t, m.value, err);
        if (code != ERR_OK)
            return err_prefix(err, "prices[%u]", i);
    }
    return ERR_OK;
}

static enum err_code price_file_parse(struct price_table *t, struct span text, struct err *err)
{
    enum err_code code = json_check(text, &FILE_LIMITS, err);
    struct json_member m;
    struct json_walk w;

    if (code != ERR_OK) { /* whatever it is to a request, here it is the operator's file */
        if (err)
            err->code = ERR_CONFIG;
        return ERR_CONFIG;
    }
    if (!json_walk(&w, text) || !w.is_object)
        return err_set(err, ERR_CONFIG, "the file is not a JSON object with a list 'prices'");
    while (json_next(&w, &m)) {
        if (!json_key_is(m.key, "prices"))
            return err_set(err, ERR_CONFIG, "unknown member '%.*s'", (int)(m.key.len < 60 ? m.key.len : 60),
                           m.key.p);
        code = parse_rows(t, m.value, err);
        if (code != ERR_OK)
            return code;
    }
    return ERR_OK;
}

static enum err_code read_all(const char *path, struct buf *out, struct err *err)
{
    FILE *f = fopen(path, "re");
    enum err_code code = ERR_OK;
    char block[16384];
    size_t n;

    if (!f)
        return err_set(err, ERR_CONFIG, "price file '%s' cannot be opened: %s", path, strerror(errno));
    while (code == ERR_OK && (n = fread(block, 1, sizeof(block), f)) > 0)
        code = buf_append(out, block, n);
    if (code != ERR_OK)
        (void)err_set(err, ERR_CONFIG, "price file '%s' is larger than %zu bytes", path, FILE_MAX_BYTES);
    else if (ferror(f))
        code = err_set(err, ERR_CONFIG, "price file '%s' cannot be read", path);
    (void)fclose(f);
    return code == ERR_OK ? ERR_OK : ERR_CONFIG;
}

enum err_code price_file_load(struct price_table *t, const char *path, struct err *err)
{
    struct buf text AUTO(buf_release) = {0};
    enum err_code code;

    buf_init(&text, FILE_MAX_BYTES);
    code = read_all(path, &text, err);
    if (code != ERR_OK)
        return code;
    code = price_file_parse(t, buf_span(&text), err);
    return code == ERR_OK ? ERR_OK : err_prefix(err, "price file '%s'", path);
}
