/* SPDX-License-Identifier: Apache-2.0 */
/* Pure. A body is at most what the listener lets through; messages repeat names of members only when they are short and
 * printable, and values never. */
#include "gatewayd/api/fields.h"

#include <math.h>

#include "gatewayd/config/value.h"
#include "libshared/base/buf.h"
#include "libshared/cli/human.h"
#include "libshared/store/kv_keys.h"

#define USD_EXACT  8388608.0 /* below it a double holds every nano-USD that was written with 9 digits */
#define USD_MAX    ((int64_t)1000000000 * 1000000000)
#define MODELS_MAX 1000u
#define NAME_SHOWN 32u

static enum err_code fail_kind(const struct field *f, struct err *err)
{
    switch (f->type) {
    case FIELD_NAME:
        return err_set(
            err, ERR_BAD_REQUEST,
            "'%s' must be a name of letters, digits, '_', '.' and '-', at most %u long, that begins with a "
            "letter or digit",
            f->name, LIMIT_NAME_BYTES);
    case FIELD_TEXT:
        return err_set(err, ERR_BAD_REQUEST,
                       "'%s' must be text without control characters, at most %lld bytes", f->name,
                       (long long)(f->max ? f->max : 256));
    case FIELD_BOOL:
        return err_set(err, ERR_BAD_REQUEST, "'%s' must be true or false", f->name);
    case FIELD_COUNT:
        return err_set(err, ERR_BAD_REQUEST, "'%s' must be a whole number from %lld to %lld", f->name,
                       (long long)f->min, (long long)f->max);
    case FIELD_USD:
        return err_set(err, ERR_BAD_REQUEST,
                       "'%s' must be an amount of US dollars from 0 to 1000000000, with 9 decimals at most",
                       f->name);
    case FIELD_CHOICE:
        return err_set(err, ERR_BAD_REQUEST, "'%s' must be one of: %s", f->name, f->choices);
    case FIELD_MODELS:
        return err_set(err, ERR_BAD_REQUEST, "'%s' must be a list of at most %u names of models", f->name,
                       MODELS_MAX);
    case FIELD_LEVELS:
        return err_set(err, ERR_BAD_REQUEST, "'%s' must be up to %u rising percentages from 1 to 100",
                       f->name, CONFIG_LEVELS);
    case FIELD_HOUR:
        return err_set(err, ERR_BAD_REQUEST, "'%s' must be an hour such as '2026-11-20T13'", f->name);
    case FIELD_TIME:
        break;
    }
    return err_set(err, ERR_BAD_REQUEST, "'%s' must be a time such as '2027-01-31T00:00:00Z'", f->name);
}

static bool take_levels(const json_t *v, int64_t *out)
{
    struct buf text AUTO(buf_release) = {.max = 256};
    struct config_levels l;

    if (json_is_string(v))
        buf_add(&text, span_make(json_string_value(v), json_string_length(v)));
    else if (json_is_integer(v))
        buf_addf(&text, "%lld", (long long)json_integer_value(v));
    for (size_t i = 0; i < json_array_size(v); i++)
        buf_addf(&text, "%s%lld", i ? "," : "", (long long)json_integer_value(json_array_get(v, i)));
    if (!text.p || !value_levels(buf_span(&text), &l))
        return false;
    *out = levels_pack(&l);
    return true;
}

static bool take_usd(const json_t *v, int64_t *out)
{
    if (json_is_integer(v)) {
        if (json_integer_value(v) < 0 || json_integer_value(v) > USD_MAX / 1000000000)
            return false;
        *out = json_integer_value(v) * 1000000000;
        return true;
    }
    if (json_is_real(v)) {
        double v_usd = json_real_value(v);

        /* What was written with 9 decimals is the double nearest to a whole number of nano-USD over 10^9. */
        if (!(v_usd >= 0 && v_usd < USD_EXACT) || (double)llround(v_usd * 1e9) / 1e9 != v_usd)
            return false;
        *out = llround(v_usd * 1e9);
        return true;
    }
    return json_is_string(v) &&
           value_decimal(span_make(json_string_value(v), json_string_length(v)), 9, out) && *out >= 0 &&
           *out <= USD_MAX;
}

static bool is_models(const json_t *v)
{
    const json_t *item;
    size_t i;

    if (!json_is_array(v) || json_array_size(v) > MODELS_MAX)
        return false;
    json_array_foreach(v, i, item)
    {
        struct span s = span_make(json_string_value(item), json_string_length(item));

        if (!json_is_string(item) || !s.len || s.len > LIMIT_MODEL_BYTES || !value_is_printable(s))
            return false;
    }
    return true;
}

static bool take_text(const struct field *f, const json_t *v, struct field_value *out)
{
    struct span s = span_make(json_string_value(v), json_string_length(v));
    struct wall t;

    if (!json_is_string(v))
        return false;
    out->text = s.p;
    if (f->type == FIELD_NAME)
        return value_is_name(s);
    if (f->type == FIELD_CHOICE)
        return value_choice(s, f->choices, NULL);
    if (f->type == FIELD_TEXT)
        return s.len <= (size_t)(f->max ? f->max : 256) && value_is_printable(s);
    if (f->type == FIELD_HOUR) {
        out->i = kv_hour_parse(s.p);
        return out->i >= 0;
    }
    if (!human_parse_time(s.p, &t) || t.us <= 0)
        return false;
    out->i = t.us / 1000000;
    return true;
}

static bool take_value(const struct field *f, const json_t *v, struct field_value *out)
{
    switch (f->type) {
    case FIELD_BOOL:
        out->i = json_is_true(v);
        return json_is_boolean(v);
    case FIELD_COUNT:
        out->i = json_integer_value(v);
        return json_is_integer(v) && out->i >= f->min && out->i <= f->max;
    case FIELD_USD:
        return take_usd(v, &out->i);
    case FIELD_MODELS:
        out->list = v;
        return is_models(v);
    case FIELD_LEVELS:
        return take_levels(v, &out->i);
    default:
        return take_text(f, v, out);
    }
}

static enum err_code take_member(const char *name, const json_t *v, const struct field *fields, size_t n,
                                 struct field_value *out, struct err *err)
{
    struct span s = span_of(name);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(fields[i].name, name) != 0)
            continue;
        out[i].is_given = true;
        out[i].value = v;
        out[i].is_null = json_is_null(v);
        if (out[i].is_null && fields[i].may_be_null)
            return ERR_OK;
        return take_value(&fields[i], v, &out[i]) ? ERR_OK : fail_kind(&fields[i], err);
    }
    if (s.len > NAME_SHOWN || !value_is_printable(s))
        return err_set(err, ERR_BAD_REQUEST, "the body has a member that is not known here");
    return err_set(err, ERR_BAD_REQUEST, "member '%s' is not known here", name);
}

static enum err_code take_all(json_t *doc, const struct field *fields, size_t n, struct field_value *out,
                              struct err *err)
{
    const char *name;
    json_t *v;

    if (!json_is_object(doc))
        return err_set(err, ERR_BAD_REQUEST, "the body must be a JSON object");
    json_object_foreach(doc, name, v)
    {
        enum err_code e = take_member(name, v, fields, n, out, err);

        if (e)
            return e;
    }
    for (size_t i = 0; i < n; i++)
        if (fields[i].is_required && !out[i].is_given)
            return err_set(err, ERR_MISSING_FIELD, "'%s' is required", fields[i].name);
    return ERR_OK;
}

enum err_code fields_read(struct span body, const struct field *fields, size_t n, struct field_value *out,
                          json_t **out_doc, struct err *err)
{
    json_error_t why;
    json_t *doc = body.len ? json_loadb(body.p, body.len, JSON_REJECT_DUPLICATES, &why) : json_object();
    enum err_code e;

    memset(out, 0, n * sizeof(*out));
    if (!doc)
        return err_set(err, ERR_BAD_BODY, "the body is not JSON (line %d, column %d)", why.line, why.column);
    e = take_all(doc, fields, n, out, err);
    if (e)
        json_decref(doc);
    else
        *out_doc = doc;
    return e;
}
