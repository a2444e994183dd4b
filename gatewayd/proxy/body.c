/* SPDX-License-Identifier: Apache-2.0 */
/* A patched body is the client's bytes with at most three edits (the third is a maximum of tokens), kept in order of offset:
 *   { ^insert stream_options  "model": "alias"→"target" … "stream_options": { ^insert include_usage | false→true } } */
#include "gatewayd/proxy/body.h"

#include <stdio.h>

#include "libshared/json/json.h"

static const struct json_limits LIMITS = {
    .max_depth = LIMIT_JSON_DEPTH, .max_values = LIMIT_JSON_VALUES, .max_key_bytes = LIMIT_JSON_KEY_BYTES};

static enum err_code take_model(struct json_value v, struct body_plan *plan, struct err *err)
{
    size_t n;

    if (v.type != JSON_STRING || !json_str(v, plan->model_name, sizeof(plan->model_name), &n) || !n)
        return err_set(err, ERR_BAD_BODY, "'model' must be a string of 1 to %u bytes", LIMIT_MODEL_BYTES);
    plan->model = v.raw;
    return ERR_OK;
}

static enum err_code take_bool(struct json_value v, const char *name, bool *out, struct err *err)
{
    if (v.type != JSON_TRUE && v.type != JSON_FALSE && v.type != JSON_NULL)
        return err_set(err, ERR_BAD_BODY, "'%s' must be true or false", name);
    *out = v.type == JSON_TRUE;
    return ERR_OK;
}

static enum err_code take_count(struct json_value v, const char *name, uint64_t *out, struct err *err)
{
    if (v.type == JSON_NULL)
        return ERR_OK;
    if (!json_u64(v, out))
        return err_set(err, ERR_BAD_BODY, "'%s' must be a non-negative whole number", name);
    return ERR_OK;
}

/* Each is money that has to be held. */
static enum err_code take_choices(struct json_value v, const char *name, uint64_t *out, struct err *err)
{
    enum err_code e = take_count(v, name, out, err);

    return e == ERR_OK && *out > LIMIT_CHOICES
               ? err_set(err, ERR_BAD_BODY, "'%s' must be at most %u", name, LIMIT_CHOICES)
               : e;
}

/* What decides about money and rights, by the names that providers know. */
static const char *const DECISIVE[] = {
    "model",
    "models",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "best_of",
    "tools",
    "max_tool_calls",
    "web_search_options",
    "mcp_servers",
    "service_tier",
    "background",
    "prediction",
    "audio",
    "plugins",
    "fallbacks",
};

/* As decoders do that match names in any case: the two letters beyond ASCII that fold to one of it among them. */
static void fold_case(char *s)
{
    char *to = s;

    for (; *s; s++) {
        if (memcmp(s, "\xc5\xbf", 2) == 0) {
            *to++ = 's';
            s++;
        } else if (strncmp(s, "\xe2\x84\xaa", 3) == 0) {
            *to++ = 'k';
            s += 2;
        } else {
            *to++ = *s >= 'A' && *s <= 'Z' ? (char)(*s | 0x20) : *s;
        }
    }
    *to = '\0';
}

/* Some providers match names in any case and take the last of several: what is held would not be what they do. */
static enum err_code check_case(struct span key, struct err *err)
{
    const struct json_value quoted = {JSON_STRING, span_make(key.p - 1, key.len + 2)};
    char plain[96];
    size_t n;

    if (!json_str(quoted, plain, sizeof(plain), &n))
        return ERR_OK; /* longer than any of them */
    fold_case(plain);
    for (size_t i = 0; i < ARRAY_LEN(DECISIVE); i++)
        if (strcmp(plain, DECISIVE[i]) == 0 && !json_key_is(key, DECISIVE[i]))
            return err_set(err, ERR_BAD_BODY, "'%s' must be written in lower case", DECISIVE[i]);
    return ERR_OK;
}

/* By which the answer's length is stated. Another name is one that providers may pass over: it bounds nothing. */
static const char *max_name(enum operation op, struct span key)
{
    if (op == OP_RESPONSES)
        return json_key_is(key, "max_output_tokens") ? "max_output_tokens" : NULL;
    if (json_key_is(key, "max_tokens"))
        return "max_tokens";
    return op == OP_CHAT && json_key_is(key, "max_completion_tokens") ? "max_completion_tokens" : NULL;
}

/* Of several the largest: whichever the provider obeys, it is within that. */
static enum err_code take_max(struct json_value v, const char *name, struct body_plan *plan, struct err *err)
{
    uint64_t max = 0;
    enum err_code e = take_count(v, name, &max, err);

    if (e)
        return e;
    if (!max)
        plan->max_blank = v.raw;
    if (max > plan->max_tokens)
        plan->max_tokens = max;
    return ERR_OK;
}

static enum err_code take_stream_options(struct json_value v, struct body_plan *plan, struct err *err)
{
    struct json_walk w;
    struct json_member m;

    if (v.type != JSON_OBJECT && v.type != JSON_NULL)
        return err_set(err, ERR_BAD_BODY, "'stream_options' must be an object");
    plan->stream_options = v.raw;
    if (v.type == JSON_NULL || !json_walk(&w, v.raw))
        return ERR_OK;
    while (json_next(&w, &m)) {
        if (!json_key_is(m.key, "include_usage"))
            continue;
        if (plan->include_usage.p)
            return err_set(err, ERR_BAD_BODY, "'stream_options.include_usage' is given twice");
        if (take_bool(m.value, "stream_options.include_usage", &plan->asked_usage, err) != ERR_OK)
            return ERR_BAD_BODY;
        plan->include_usage = m.value.raw;
    }
    return ERR_OK;
}

/* Of another kind than text it is the provider's to refuse. */
static void take_user(struct json_value v, struct body_plan *plan)
{
    if (v.type == JSON_STRING)
        plan->user = v.raw;
}

static void take_metadata(struct json_value v, struct body_plan *plan)
{
    struct json_walk w;
    struct json_member m;

    if (v.type != JSON_OBJECT || plan->user.p || !json_walk(&w, v.raw))
        return;
    while (json_next(&w, &m))
        if (json_key_is(m.key, "user_id"))
            take_user(m.value, plan);
}

static enum err_code take_member(const struct json_member *m, enum operation op, struct body_plan *plan,
                                 struct err *err)
{
    const char *max = max_name(op, m->key);
    uint64_t ignored; /* reach.c takes it */

    if (max)
        return take_max(m->value, max, plan, err);
    if (json_key_is(m->key, "model"))
        return take_model(m->value, plan, err);
    if (json_key_is(m->key, "stream"))
        return take_bool(m->value, "stream", &plan->is_stream, err);
    if (json_key_is(m->key, "stream_options"))
        return take_stream_options(m->value, plan, err);
    if (json_key_is(m->key, "n"))
        return take_choices(m->value, "n", &plan->n, err);
    if (json_key_is(m->key, "best_of"))
        return take_choices(m->value, "best_of", &ignored, err);
    if (json_key_is(m->key, "user"))
        take_user(m->value, plan);
    else if (json_key_is(m->key, "metadata"))
        take_metadata(m->value, plan);
    return check_case(m->key, err);
}

enum err_code body_scan_json(struct span body, enum operation op, struct body_plan *plan, struct err *err)
{
    struct json_walk w;
    struct json_member m;
    enum err_code e;

    plan->n = 1;
    if (!body.len)
        return err_set(err, ERR_BAD_BODY, "the body is empty; send a JSON object");
    e = json_check(body, &LIMITS, err);
    if (e)
        return e;
    if (!json_walk(&w, body) || !w.is_object)
        return err_set(err, ERR_BAD_BODY, "the body must be a JSON object");
    plan->insert_at = (size_t)((const char *)memchr(body.p, '{', body.len) - body.p) + 1;
    while (json_next(&w, &m)) {
        e = take_member(&m, op, plan, err);
        if (e)
            return e;
    }
    return ERR_OK;
}

/* ---- patching --------------------------------------------------------------------------------------------------- */

struct edit {
    const char *at; /* in the body */
    size_t drop;    /* bytes replaced */
    struct span put;
};

static void add_edit(struct edit *edits, size_t *n, struct edit e)
{
    size_t i = (*n)++;

    for (; i > 0 && edits[i - 1].at > e.at; i--)
        edits[i] = edits[i - 1];
    edits[i] = e;
}

/* `model` is required and stands behind the opening brace, so an inserted member may end with a comma. */
static void edit_usage(const struct body_plan *plan, struct span body, struct edit *edits, size_t *n)
{
    const char *brace = plan->stream_options.p;
    struct json_walk w;
    struct json_member m;

    if (!brace)
        add_edit(edits, n,
                 (struct edit){body.p + plan->insert_at, 0,
                               SPAN_LIT("\"stream_options\":{\"include_usage\":true},")});
    else if (*brace != '{')
        add_edit(edits, n,
                 (struct edit){brace, plan->stream_options.len, SPAN_LIT("{\"include_usage\":true}")});
    else if (plan->include_usage.p)
        add_edit(edits, n, (struct edit){plan->include_usage.p, plan->include_usage.len, SPAN_LIT("true")});
    else if (json_walk(&w, plan->stream_options) && json_next(&w, &m))
        add_edit(edits, n, (struct edit){brace + 1, 0, SPAN_LIT("\"include_usage\":true,")});
    else
        add_edit(edits, n, (struct edit){brace + 1, 0, SPAN_LIT("\"include_usage\":true")});
}

static void edit_max(const struct body_plan *plan, struct span body, char text[80], struct edit *edits,
                     size_t *n)
{
    int len;

    if (plan->max_blank.p) {
        len = snprintf(text, 80, "%llu", (unsigned long long)plan->put_max);
        add_edit(edits, n,
                 (struct edit){plan->max_blank.p, plan->max_blank.len, span_make(text, (size_t)len)});
        return;
    }
    len = snprintf(text, 80, "\"%s\":%llu,", plan->put_max_name, (unsigned long long)plan->put_max);
    add_edit(edits, n, (struct edit){body.p + plan->insert_at, 0, span_make(text, (size_t)len)});
}

bool body_patch(const struct body_plan *plan, struct span body, enum body_form form, const char *model,
                bool ask_usage, struct buf *out)
{
    struct edit edits[3];
    char max[80];
    size_t n = 0;
    const char *from = body.p;
    struct buf name AUTO(buf_release) = {.max = 4096};

    if (plan->model.p && strcmp(model, plan->model_name) != 0) {
        if (form == BODY_JSON)
            buf_add_json(&name, span_of(model));
        else
            buf_addz(&name, model);
        add_edit(edits, &n, (struct edit){plan->model.p, plan->model.len, buf_span(&name)});
    }
    if (ask_usage && !plan->asked_usage)
        edit_usage(plan, body, edits, &n);
    if (form == BODY_JSON && plan->put_max_name)
        edit_max(plan, body, max, edits, &n);
    if (!n)
        return false;
    out->max = body.len + 8192;
    (void)!buf_reserve(out, body.len + 512);
    for (size_t i = 0; i < n; i++) {
        buf_add(out, span_make(from, (size_t)(edits[i].at - from)));
        buf_add(out, edits[i].put);
        from = edits[i].at + edits[i].drop;
    }
    buf_add(out, span_make(from, (size_t)(body.p + body.len - from)));
    return true;
}

uint64_t body_estimate_input(uint64_t body_bytes)
{
    return (body_bytes + 3) / 4;
}
