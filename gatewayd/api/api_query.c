/* SPDX-License-Identifier: Apache-2.0 */
/* Query parameters by the table of shapes: what is not in it is an error that names it, and so is a value out of range. Pure. */
#include <stdlib.h>
#include <string.h>

#include "gatewayd/api/handlers_priv.h"
#include "gatewayd/api/shapes.h"
#include "gatewayd/config/value.h"

#define NAME_SHOWN 32u
#define LIST_MAX   16u

const struct api_shape *api_shape_of(const struct api_route *row)
{
    for (const struct api_shape *s = API_SHAPES; s->method; s++)
        if (strcmp(s->method, row->method) == 0 && strcmp(s->path, row->path) == 0)
            return s;
    return NULL;
}

static const struct api_param *param_of(const struct api_shape *s, struct span name)
{
    for (const struct api_param *p = s ? s->params : NULL; p && p->name; p++)
        if (span_is(name, p->name))
            return p;
    return NULL;
}

/* "50,95,99.9" */
static bool is_percentiles(struct span s)
{
    unsigned n = 0;

    while (s.p) {
        struct span one = span_split(&s, ',');
        int64_t thousandths;

        if (++n > LIST_MAX || one.len > 6 || !one.len || one.p[0] < '0' || one.p[0] > '9' ||
            one.p[one.len - 1] == '.' || !value_decimal(one, 3, &thousandths) || thousandths > 100000)
            return false;
    }
    return true;
}

static bool is_valid(const struct api_param *p, struct span v)
{
    uint64_t n;

    switch (p->type) {
    case PARAM_COUNT:
        return span_to_u64(v, &n) && n >= (uint64_t)p->min && n <= (uint64_t)p->max;
    case PARAM_CHOICE:
        return value_choice(v, p->choices, NULL);
    case PARAM_PERCENTILES:
        return is_percentiles(v);
    case PARAM_NAME:
        return value_is_name(v);
    case PARAM_TEXT:
        break;
    }
    return v.len > 0 && v.len <= (size_t)p->max && value_is_printable(v);
}

static void say_wrong(const struct api_param *p, struct api_reply *reply)
{
    switch (p->type) {
    case PARAM_COUNT:
        api_reply_error(reply, ERR_BAD_REQUEST, "'%s' must be a whole number from %lld to %lld", p->name,
                        (long long)p->min, (long long)p->max);
        break;
    case PARAM_CHOICE:
        api_reply_error(reply, ERR_BAD_REQUEST, "'%s' must be one of: %s", p->name, p->choices);
        break;
    case PARAM_PERCENTILES:
        api_reply_error(reply, ERR_BAD_REQUEST,
                        "'%s' must be up to %u numbers from 0 to 100, as in 50,95,99.9", p->name, LIST_MAX);
        break;
    case PARAM_NAME:
        api_reply_error(reply, ERR_BAD_REQUEST, "'%s' must be a name of letters, digits, '_', '.' and '-'",
                        p->name);
        break;
    case PARAM_TEXT:
        api_reply_error(reply, ERR_BAD_REQUEST, "'%s' must be printable text, at most %lld bytes", p->name,
                        (long long)p->max);
        break;
    }
}

static void say_unknown(const struct api_shape *s, struct span name, struct api_reply *reply)
{
    struct buf known AUTO(buf_release) = {.max = 512};

    for (const struct api_param *p = s ? s->params : NULL; p && p->name; p++)
        buf_addf(&known, "%s%s", known.len ? ", " : "", p->name);
    if (name.len > NAME_SHOWN || !value_is_printable(name))
        name = SPAN_LIT("…");
    api_reply_error(reply, ERR_BAD_REQUEST, "'%.*s' is no parameter here; %s%.*s", (int)name.len, name.p,
                    known.len ? "there are: " : "there are none", (int)known.len, known.len ? known.p : "");
}

bool api_check_query(const struct api_route *row, struct span query, struct api_reply *reply)
{
    const struct api_shape *s = api_shape_of(row);
    const struct api_param *seen[API_PARAMS_MAX + 1] = {NULL};

    while (query.p && query.len) {
        struct buf text AUTO(buf_release) = {.max = 4096};
        struct span value = span_split(&query, '&'), name = span_split(&value, '=');
        const struct api_param *p = param_of(s, name);
        size_t n = 0;

        if (!name.len && !value.p)
            continue;
        while (seen[n] && seen[n] != p)
            n++;
        if (!p) {
            say_unknown(s, name, reply);
            return false;
        }
        if (seen[n]) {
            api_reply_error(reply, ERR_BAD_REQUEST, "'%s' is given twice", p->name);
            return false;
        }
        seen[n] = p;
        if (!value.p || !api_decode(value, true, &text) || !is_valid(p, buf_span(&text))) {
            say_wrong(p, reply);
            return false;
        }
    }
    return true;
}

bool api_text(const struct api_request *rq, const char *name, char *dst, size_t cap)
{
    const struct api_param *p = param_of(api_shape_of(rq->row), span_of(name));

    dst[0] = '\0';
    if (rq->query.p && api_query_param(rq->query, name, dst, cap))
        return true;
    if (p && p->fallback)
        (void)span_copy(dst, cap, span_of(p->fallback));
    return p && p->fallback;
}

int64_t api_count(const struct api_request *rq, const char *name)
{
    char text[32];
    uint64_t n;

    return api_text(rq, name, text, sizeof(text)) && span_to_u64(span_of(text), &n) ? (int64_t)n : 0;
}
