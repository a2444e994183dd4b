/* SPDX-License-Identifier: Apache-2.0 */
/* What every route needs: finding it, query parameters, error answers, JSON of values that may be unknown. */
#include "gatewayd/api/api.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

#include "gatewayd/api/handlers_priv.h"
#include "gatewayd/http/reply.h"

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool api_decode(struct span s, bool is_query, struct buf *out)
{
    for (size_t i = 0; i < s.len; i++) {
        int hi, lo;

        if (s.p[i] != '%') {
            buf_addc(out, is_query && s.p[i] == '+' ? ' ' : s.p[i]);
            continue;
        }
        hi = i + 2 < s.len ? hex_value(s.p[i + 1]) : -1;
        lo = i + 2 < s.len ? hex_value(s.p[i + 2]) : -1;
        if (hi < 0 || lo < 0 || (hi | lo) == 0)
            return false;
        buf_addc(out, (char)(hi << 4 | lo));
        i += 2;
    }
    return true;
}

static size_t count_slashes(struct span s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++)
        n += s.p[i] == '/';
    return n;
}

/* Names and ids have no slash, so that a path with more behind them is another; models, accounts and the like may. */
static bool is_too_deep(const char *pattern, const char *brace, struct span tail)
{
    const char *last = strrchr(pattern, '{');

    return (strncmp(last, "{name}", 6) == 0 || strncmp(last, "{id}", 4) == 0) &&
           count_slashes(tail) > count_slashes(span_of(brace));
}

static bool matches(const char *pattern, struct span path, struct span *out_tail)
{
    struct span fixed = span_of(pattern);
    const char *brace = strchr(pattern, '{'), *end = strrchr(pattern, '}');
    struct span rest;

    *out_tail = SPAN_LIT("");
    if (!brace)
        return span_eq(path, fixed);
    fixed.len = (size_t)(brace - pattern);
    if (!span_starts(path, fixed) || path.len == fixed.len)
        return false;
    *out_tail = span_make(path.p + fixed.len, path.len - fixed.len);
    rest = span_of(end + 1); /* what stands behind the last name, such as "/rotate" */
    return out_tail->len > rest.len && !is_too_deep(pattern, brace, *out_tail) &&
           memcmp(out_tail->p + out_tail->len - rest.len, rest.p, rest.len) == 0;
}

const struct api_route *api_find(struct span method, struct span path, struct buf *tail_buf,
                                 enum err_code *why)
{
    struct span tail;

    *why = ERR_NOT_FOUND;
    for (const struct api_route *r = API_ROUTES; r->method; r++) {
        if (!matches(r->path, path, &tail))
            continue;
        *why = ERR_BAD_METHOD;
        if (!span_is(method, r->method))
            continue;
        buf_clear(tail_buf);
        if (api_decode(tail, false, tail_buf))
            return r;
        *why = ERR_NOT_FOUND;
    }
    return NULL;
}

void api_allow(struct span path, bool is_main, struct buf *out)
{
    static const char *const METHODS[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
    struct buf tail AUTO(buf_release) = {.max = 4096};

    for (size_t i = 0; i < ARRAY_LEN(METHODS); i++) {
        enum err_code why;
        const struct api_route *r = api_find(span_of(METHODS[i]), path, &tail, &why);

        if (r && (!is_main || r->on_main))
            buf_addf(out, "%s%s%s", out->len ? ", " : "", METHODS[i], i == 0 ? ", HEAD" : "");
    }
}

bool api_query_param(struct span query, const char *name, char *dst, size_t cap)
{
    struct buf b AUTO(buf_release) = {.max = 4096};

    while (query.p) {
        struct span value = span_split(&query, '&');
        struct span key = span_split(&value, '=');

        if (!span_is(key, name))
            continue;
        if (!api_decode(value, true, &b) || b.len >= cap)
            return false;
        (void)span_copy(dst, cap, buf_span(&b));
        return true;
    }
    return false;
}

void api_reply_error(struct api_reply *reply, enum err_code code, const char *fmt, ...)
{
    char line[1024];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    buf_clear(&reply->body);
    reply->status = err_row(code)->status;
    reply->content_type = "application/json";
    reply_error_body(&reply->body, code, span_of(line));
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static int append(const char *p, size_t n, void *user)
{
    return buf_append(user, p, n) == ERR_OK ? 0 : -1;
}

void api_reply_json(struct api_reply *reply, json_t *doc)
{
    if (!doc || json_dump_callback(doc, append, &reply->body, JSON_COMPACT | JSON_REAL_PRECISION(15)))
        api_reply_error(reply, ERR_INTERNAL, "the answer could not be built");
    else
        buf_addc(&reply->body, '\n');
    json_decref(doc);
}

json_t *api_json_time(struct wall t)
{
    char text[WALL_TEXT_CAP];

    if (t.us <= 0)
        return json_null();
    (void)wall_format(t, text, sizeof(text));
    return json_string(text);
}

json_t *api_json_number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

json_t *api_json_ratio(uint64_t part, uint64_t whole)
{
    return whole ? json_real((double)part / (double)whole) : json_null();
}

json_t *api_json_usd(int64_t nanousd)
{
    return json_real((double)nanousd / 1e9);
}

json_t *api_json_count(uint64_t v)
{
    return json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v);
}

json_t *api_json_label(label l)
{
    return l ? json_string(label_text(l)) : json_null();
}

void api_set_cost(json_t *o, const char *usd, const char *exact, int64_t nanousd)
{
    (void)json_object_set_new(o, usd, api_json_usd(nanousd));
    (void)json_object_set_new(o, exact, json_integer(nanousd));
}

/* ---- the picture --------------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    const struct facts_sum *x = a, *y = b;

    return strcmp(label_text(x->provider), label_text(y->provider));
}

void picture_take(struct picture *p, struct gateway *gw)
{
    *p = (struct picture){0};
    p->n_facts = gateway_facts_mt(gw, p->facts);
    gateway_metrics_state_mt(gw, &p->arena, &p->state);
    p->totals = facts_totals(p->facts, p->n_facts, p->state.now);
    p->providers = arena_array(&p->arena, struct facts_sum, PICTURE_PROVIDERS);
    p->n_providers = facts_sum_providers(p->facts, p->n_facts, &p->state, p->providers, PICTURE_PROVIDERS);
    qsort(p->providers, p->n_providers, sizeof(*p->providers), by_name);
}

void picture_release(struct picture *p)
{
    arena_release(&p->arena);
}

int64_t picture_uptime_us(const struct picture *p)
{
    int64_t us = p->state.now.us - p->state.started.us;

    return us > 0 ? us : 0;
}
