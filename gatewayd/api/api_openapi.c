/* SPDX-License-Identifier: Apache-2.0 */
/* The OpenAPI document of the operator's surface, made of the tables of routes and shapes: there is no other list. */
#include <stdio.h>
#include <string.h>

#include "gatewayd/api/handlers_priv.h"
#include "gatewayd/api/shapes.h"
#include "gatewayd/config/limits.h"

#define PUT(o, name, value) ((void)json_object_set_new(o, name, value))

#define NAME_PATTERN "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
#define PRINTABLE    "^[^\\u0000-\\u001f\\u007f-\\u009f]"
#define PATH_PATTERN "^[A-Za-z0-9][A-Za-z0-9_.:@+~-]*(/[A-Za-z0-9][A-Za-z0-9_.:@+~-]*)*$"

/* ---- types ----------------------------------------------------------------------------------------------------------- */

static json_t *typed(const char *type)
{
    return json_pack("{s:s}", "type", type);
}

static json_t *or_null(json_t *schema)
{
    const char *type = json_string_value(json_object_get(schema, "type"));

    if (!type)
        return json_object_get(schema, "$ref") ? json_pack("{s:[o,{s:s}]}", "anyOf", schema, "type", "null")
                                               : schema;
    PUT(schema, "type", json_pack("[s,s]", type, "null"));
    return schema;
}

static json_t *schema_of(struct span type)
{
    char ref[96];

    if (type.len > 1 && type.p[type.len - 1] == '?')
        return or_null(schema_of(span_make(type.p, type.len - 1)));
    if (type.len > 2 && type.p[0] == '[')
        return json_pack("{s:s, s:o}", "type", "array", "items",
                         schema_of(span_make(type.p + 1, type.len - 2)));
    if (type.len > 2 && type.p[0] == '{')
        return json_pack("{s:s, s:o}", "type", "object", "additionalProperties",
                         schema_of(span_make(type.p + 1, type.len - 2)));
    if (type.len > 1) {
        (void)snprintf(ref, sizeof(ref), "#/components/schemas/%.*s", (int)type.len, type.p);
        return json_pack("{s:s}", "$ref", ref);
    }
    switch (type.len ? type.p[0] : 'x') {
    case 's':
        return typed("string");
    case 'i':
        return typed("integer");
    case 'n':
        return typed("number");
    case 'b':
        return typed("boolean");
    case 't':
        return json_pack("{s:s, s:s}", "type", "string", "format", "date-time");
    case 'o':
        return typed("object");
    default:
        return json_object();
    }
}

/* "name:type name?:type …"; the dots at the end: there may be more. */
static json_t *object_of(const char *members)
{
    json_t *o = typed("object"), *properties = json_object(), *required = json_array();
    struct span rest = span_of(members);
    bool is_open = false;

    while (rest.p) {
        struct span type = span_split(&rest, ' '), name = span_split(&type, ':');
        bool is_optional = name.len && name.p[name.len - 1] == '?';
        char text[64];

        if (!type.p) {
            is_open |= name.len > 0;
            continue;
        }
        (void)span_copy(text, sizeof(text), span_make(name.p, name.len - is_optional));
        PUT(properties, text, schema_of(type));
        if (!is_optional)
            (void)json_array_append_new(required, json_string(text));
    }
    PUT(o, "properties", properties);
    PUT(o, "required", required);
    if (!is_open)
        PUT(o, "additionalProperties", json_false());
    return o;
}

/* ---- what comes in --------------------------------------------------------------------------------------------------- */

static json_t *choices_of(const char *choices)
{
    struct span rest = span_of(choices);
    json_t *list = json_array();

    while (rest.p) {
        struct span one = span_split(&rest, ' ');

        (void)json_array_append_new(list, json_stringn(one.p, one.len));
    }
    return list;
}

static json_t *param_schema(const struct api_param *p)
{
    json_t *o = typed(p->type == PARAM_COUNT ? "integer" : "string");

    if (p->type == PARAM_COUNT) {
        PUT(o, "minimum", json_integer(p->min));
        PUT(o, "maximum", json_integer(p->max));
        if (p->fallback)
            PUT(o, "default", json_integer(strtoll(p->fallback, NULL, 10)));
        return o;
    }
    if (p->choices)
        PUT(o, "enum", choices_of(p->choices));
    if (p->type == PARAM_PERCENTILES)
        PUT(o, "pattern", json_string("^[0-9]{1,2}(\\.[0-9]{1,3})?(,[0-9]{1,2}(\\.[0-9]{1,3})?){0,15}$"));
    if (p->type == PARAM_NAME)
        PUT(o, "pattern", json_string(NAME_PATTERN));
    if (p->type == PARAM_TEXT) {
        PUT(o, "pattern", json_string(PRINTABLE "+$"));
        PUT(o, "maxLength", json_integer(p->max));
    }
    if (p->fallback)
        PUT(o, "default", json_string(p->fallback));
    return o;
}

static json_t *param_json(const struct api_param *p)
{
    return json_pack("{s:s, s:s, s:s, s:b, s:o}", "name", p->name, "in", "query", "description", p->summary,
                     "required", 0, "schema", param_schema(p));
}

static json_t *field_schema(const struct field *f)
{
    json_t *o;

    switch (f->type) {
    case FIELD_BOOL:
        o = typed("boolean");
        break;
    case FIELD_COUNT:
        o = json_pack("{s:s, s:I, s:I}", "type", "integer", "minimum", (json_int_t)f->min, "maximum",
                      (json_int_t)f->max);
        break;
    case FIELD_USD:
        o = json_pack("{s:[s,s], s:i, s:i, s:s, s:s}", "type", "number", "string", "minimum", 0, "maximum",
                      1000000000, "pattern", "^[0-9]{1,9}(\\.[0-9]{1,9})?$", "description",
                      "US dollars, with 9 decimals at most; as text where a number is not exact");
        break;
    case FIELD_CHOICE:
        o = json_pack("{s:s, s:o}", "type", "string", "enum", choices_of(f->choices));
        break;
    case FIELD_MODELS:
        o = json_pack("{s:s, s:{s:s, s:s, s:i}}", "type", "array", "items", "type", "string", "pattern",
                      PRINTABLE "+$", "maxLength", (int)LIMIT_MODEL_BYTES);
        break;
    case FIELD_LEVELS:
        o = json_pack("{s:[s,s,s], s:i, s:i, s:s, s:s}", "type", "integer", "string", "array", "minimum", 1,
                      "maximum", 100, "pattern", "^[0-9]{1,3}(,[0-9]{1,3})*$", "description",
                      "percentages from 1 to 100, rising");
        break;
    case FIELD_TIME:
        o = json_pack("{s:s, s:s}", "type", "string", "format", "date-time");
        break;
    case FIELD_NAME:
        o = json_pack("{s:s, s:s}", "type", "string", "pattern", NAME_PATTERN);
        break;
    case FIELD_HOUR:
        o = json_pack("{s:s, s:s}", "type", "string", "pattern",
                      "^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3])$");
        break;
    default:
        o = json_pack("{s:s, s:s, s:I}", "type", "string", "pattern", PRINTABLE "*$", "maxLength",
                      (json_int_t)(f->max ? f->max : 256));
    }
    return f->may_be_null ? or_null(o) : o;
}

static json_t *body_json(const struct api_body *b)
{
    json_t *o = typed("object"), *properties = json_object(), *required = json_array();

    for (size_t i = 0; i < b->n; i++) {
        PUT(properties, b->fields[i].name, field_schema(&b->fields[i]));
        if (b->fields[i].is_required)
            (void)json_array_append_new(required, json_string(b->fields[i].name));
    }
    PUT(o, "additionalProperties", json_false());
    PUT(o, "properties", properties);
    PUT(o, "required", required);
    return json_pack("{s:b, s:{s:{s:o}}}", "required", json_array_size(required) > 0, "content",
                     "application/json", "schema", o);
}

/* ---- paths ----------------------------------------------------------------------------------------------------------- */

static const char *path_pattern(struct span name)
{
    static const char *const WHOLE[] = {"target", "model", "account", "what"};

    for (size_t i = 0; i < ARRAY_LEN(WHOLE); i++)
        if (span_is(name, WHOLE[i]))
            return PATH_PATTERN;
    return NAME_PATTERN;
}

/* "{provider/model}" is one parameter with a slash inside, which OpenAPI cannot name so. */
static void write_path(const char *path, struct buf *out, json_t *params)
{
    const char *z = path, *open;

    while ((open = strchr(z, '{'))) {
        const char *end = strchr(open, '}');
        struct span name = span_make(open + 1, (size_t)(end - open - 1));
        bool is_pair = span_eq(name, SPAN_LIT("provider/model"));

        if (is_pair)
            name = SPAN_LIT("target");
        buf_add(out, span_make(z, (size_t)(open - z)));
        buf_addf(out, "{%.*s}", (int)name.len, name.p);
        (void)json_array_append_new(
            params, json_pack("{s:o, s:s, s:b, s:s, s:{s:s, s:s}}", "name", json_stringn(name.p, name.len),
                              "in", "path", "required", 1, "description",
                              is_pair                            ? "provider/model"
                              : span_eq(name, SPAN_LIT("model")) ? "its slashes as they are, or as %2F"
                                                                 : "",
                              "schema", "type", "string", "pattern", path_pattern(name)));
        z = end + 1;
    }
    buf_addz(out, z);
}

static json_t *reply_json(const struct api_shape *s, const char *text)
{
    if (!s->reply)
        return json_pack("{s:s, s:{s:{s:{s:s}}}}", "description", text, "content", "text/plain", "schema",
                         "type", "string");
    return json_pack("{s:s, s:{s:{s:o}}}", "description", text, "content", "application/json", "schema",
                     schema_of(span_of(s->reply)));
}

static json_t *error_json(const char *text)
{
    return json_pack("{s:s, s:{s:{s:{s:s}}}}", "description", text, "content", "application/json", "schema",
                     "$ref", "#/components/schemas/Error");
}

static json_t *replies_of(const struct api_route *r, const struct api_shape *s)
{
    json_t *o = json_object();
    bool writes = strcmp(r->method, "GET") != 0;

    if (s->status)
        PUT(o, s->status == 201 ? "201" : "200", reply_json(s, "done"));
    PUT(o, "200", reply_json(s, s->status ? "it was done before" : "done"));
    if (writes && r->thread == RUN_BOOKS)
        PUT(o, "202", json_pack("{s:s}", "description", "it goes on"));
    if (r->scope >= SCOPE_MONITOR)
        PUT(o, "400", error_json("a parameter or member is wrong; the message names it"));
    if (r->scope != SCOPE_OPEN)
        PUT(o, "401", error_json("no token, or not the right one"));
    if (strchr(r->path, '{') || writes)
        PUT(o, "404", error_json("there is no such thing"));
    if (writes) {
        PUT(o, "409", error_json("it contradicts what is there"));
        PUT(o, "413", error_json("the body is too large"));
    }
    if (r->thread != RUN_API || r->scope == SCOPE_OPEN)
        PUT(o, "503", error_json("a store is away, too much is waiting, or the gateway drains"));
    return o;
}

static const char *tag_of(const struct api_route *r)
{
    return r->scope == SCOPE_ADMIN     ? "admin"
           : r->scope == SCOPE_MONITOR ? "monitoring"
           : r->scope == SCOPE_METRICS ? "metrics"
                                       : "health";
}

/* Who is in 'metrics.allow' needs no token. */
static json_t *security_of(const struct api_route *r)
{
    return r->scope == SCOPE_OPEN      ? json_array()
           : r->scope == SCOPE_METRICS ? json_pack("[{s:[]}, {}]", "token")
                                       : json_pack("[{s:[]}]", "token");
}

static void add_route(json_t *paths, const struct api_route *r)
{
    const struct api_shape *s = api_shape_of(r);
    struct buf path AUTO(buf_release) = {.max = 512};
    json_t *params = json_array(), *o = json_object(), *at;
    char method[8] = "", id[200];

    for (size_t i = 0; r->method[i] && i < sizeof(method) - 1; i++)
        method[i] = (char)(r->method[i] | 0x20);
    write_path(r->path, &path, params);
    for (const struct api_param *p = s->params; p->name; p++)
        (void)json_array_append_new(params, param_json(p));
    (void)snprintf(id, sizeof(id), "%s_%.*s", method, (int)(path.len - 1), path.p + 1);
    for (char *c = id; *c; c++)
        if (strchr("/{}.-", *c))
            *c = '_';
    PUT(o, "operationId", json_string(id));
    PUT(o, "summary", json_string(r->summary));
    PUT(o, "tags", json_pack("[s]", tag_of(r)));
    PUT(o, "parameters", params);
    if (s->body)
        PUT(o, "requestBody", body_json(s->body));
    PUT(o, "responses", replies_of(r, s));
    PUT(o, "security", security_of(r));
    PUT(o, "x-gatewayd-main-listener", json_boolean(r->on_main));
    buf_addc(&path, '\0');
    at = json_object_get(paths, path.p);
    if (!at) {
        at = json_object();
        PUT(paths, path.p, at);
    }
    PUT(at, method, o);
}

void api_openapi(const struct api_request *rq, struct api_reply *reply)
{
    json_t *paths = json_object(), *schemas = json_object();

    (void)rq;
    for (const struct api_route *r = API_ROUTES; r->method; r++)
        add_route(paths, r);
    for (const struct api_schema *s = API_SCHEMAS; s->name; s++)
        PUT(schemas, s->name, object_of(s->members));
    api_reply_json(reply,
                   json_pack("{s:s, s:{s:s, s:s, s:s}, s:o, s:{s:o, s:{s:{s:s, s:s}}}}", "openapi", "3.1.0",
                             "info", "title", "gatewayd", "version", GATEWAYD_VERSION, "description",
                             "Monitoring and administration. Routes of the main listener are marked.",
                             "paths", paths, "components", "schemas", schemas, "securitySchemes", "token",
                             "type", "http", "scheme", "bearer"));
}
