/* SPDX-License-Identifier: Apache-2.0 */
/* From a request's bytes to what is answered and billed. The body is walked once at its top level; of what
 * lies deeper only the parts that the token rule counts are visited. */
#include "gatewayd/sim/sim_ask.h"

#include <stdlib.h>

static const struct json_limits BODY_LIMITS = {
    .max_depth = 256, .max_values = 4000000, .max_key_bytes = 65536};
#define COUNT_DEPTH 8 /* parts inside tool results inside messages, and some */

static void read_members(struct sim_members *m, struct span body)
{
    struct json_walk w;
    struct json_member got;

    *m = (struct sim_members){0};
    if (!json_walk(&w, body))
        return;
    while (json_next(&w, &got)) {
#define SIM_MEMBER(name)                                                                                     \
    if (json_key_is(got.key, #name)) {                                                                       \
        m->name = got.value;                                                                                 \
        continue;                                                                                            \
    }
#include "gatewayd/sim/sim_members.def"
#undef SIM_MEMBER
    }
}

/* ---- prompt tokens ---- */

static const char *const TEXT_KEYS[] = {"text",   "content",  "parts",      "arguments",
                                        "output", "function", "tool_calls", "functionResponse"};
static const char *const FILE_KEYS[] = {"image_url",   "input_audio", "file",      "source",  "inlineData",
                                        "inline_data", "fileData",    "file_data", "file_id", "file_url"};

struct tally {
    uint64_t bytes;
    unsigned files;
};

static bool is_one_of(struct span key, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (json_key_is(key, names[i]))
            return true;
    return false;
}

static void tally_value(struct tally *t, struct json_value v, int depth)
{
    struct json_walk w;
    struct json_member m;

    if (v.type == JSON_STRING)
        t->bytes += sim_unescaped_bytes(json_str_raw(v));
    if (depth == 0 || !json_walk(&w, v.raw))
        return;
    while (json_next(&w, &m)) {
        if (v.type == JSON_ARRAY || is_one_of(m.key, TEXT_KEYS, ARRAY_LEN(TEXT_KEYS)))
            tally_value(t, m.value, depth - 1);
        else if (is_one_of(m.key, FILE_KEYS, ARRAY_LEN(FILE_KEYS)))
            t->files++;
    }
}

static unsigned elements(struct json_value v)
{
    struct json_walk w;
    struct json_member m;
    unsigned n = 0;

    if (v.type == JSON_ARRAY && json_walk(&w, v.raw))
        while (json_next(&w, &m))
            n++;
    return n;
}

void sim_ask_count(struct sim_ask *a, struct json_value v, bool is_message_list)
{
    struct tally t = {0};

    tally_value(&t, v, COUNT_DEPTH);
    a->prompt_bytes += t.bytes;
    a->bill.input += 85 * t.files;
    if (is_message_list)
        a->bill.input += 4 * (v.type == JSON_ARRAY ? elements(v) : 1);
}

/* ---- tools ---- */

static void add_sample(struct buf *out, struct span schema, uint64_t seed, int depth);

static void add_object(struct buf *out, struct span schema, uint64_t seed, int depth)
{
    struct json_walk w;
    struct json_member m;
    const char *comma = "";

    buf_addc(out, '{');
    if (depth && json_walk(&w, json_get(schema, "properties").raw))
        while (json_next(&w, &m)) {
            buf_addf(out, "%s\"", comma);
            buf_add(out, m.key);
            buf_addz(out, "\":");
            add_sample(out, m.value.raw, sim_mix(seed, out->len), depth - 1);
            comma = ",";
        }
    buf_addc(out, '}');
}

/* A value that fits a schema's type; its first enum member when it has any. */
static void add_sample(struct buf *out, struct span schema, uint64_t seed, int depth)
{
    struct span type = json_str_raw(json_get(schema, "type"));
    struct json_walk w;
    struct json_member m;

    if (json_walk(&w, json_get(schema, "enum").raw) && json_next(&w, &m)) {
        buf_add(out, m.value.raw);
    } else if (span_eq_nocase(type, SPAN_LIT("object"))) {
        add_object(out, schema, seed, depth);
    } else if (span_eq_nocase(type, SPAN_LIT("array"))) {
        struct json_value items = json_get(schema, "items");

        buf_addc(out, '[');
        if (depth && items.type == JSON_OBJECT)
            add_sample(out, items.raw, seed, depth - 1);
        buf_addc(out, ']');
    } else if (span_eq_nocase(type, SPAN_LIT("integer")) || span_eq_nocase(type, SPAN_LIT("number"))) {
        buf_addu(out, 1 + seed % 97);
    } else if (span_eq_nocase(type, SPAN_LIT("boolean"))) {
        buf_addz(out, "true");
    } else {
        struct sim_text word = {.kind = SIM_TEXT_WORDS, .seed = seed, .tokens = 1};

        buf_addc(out, '"');
        sim_text_add_json(&word, 0, 0, 1, out);
        buf_addc(out, '"');
    }
}

/* Finds the tool of that name, or the first when no name is given; counts all of them. */
static unsigned find_tool(struct json_value list, struct span name, struct span *out_tool)
{
    struct json_walk w;
    struct json_member m;
    unsigned n = 0;

    if (list.type != JSON_ARRAY || !json_walk(&w, list.raw))
        return 0;
    while (json_next(&w, &m)) {
        struct json_value inner = json_get(m.value.raw, "function");
        struct json_value several = json_get(m.value.raw, "functionDeclarations");
        struct span tool = inner.type == JSON_OBJECT ? inner.raw : m.value.raw;
        struct span own;

        if (several.type == JSON_ARRAY) {
            n += find_tool(several, name, out_tool);
            continue;
        }
        n++;
        own = json_str_raw(json_get(tool, "name"));
        if (!out_tool->p && own.len && (!name.len || span_eq(own, name)))
            *out_tool = tool;
    }
    return n;
}

/* What tool_choice demands in any dialect: a call (`*out_name` when of a certain tool), or nothing. */
static bool demands_tool(const struct sim_members *m, struct span *out_name)
{
    struct json_value c = m->tool_choice;
    struct span word = json_str_raw(c.type == JSON_OBJECT ? json_get(c.raw, "type") : c);

    if (m->toolConfig.type == JSON_OBJECT)
        word = json_str_raw(json_path(m->toolConfig.raw, "functionCallingConfig", "mode", NULL));
    if (c.type == JSON_OBJECT) {
        *out_name = json_str_raw(json_path(c.raw, "function", "name", NULL));
        if (!out_name->len)
            *out_name = json_str_raw(json_get(c.raw, "name"));
    }
    return out_name->len || span_is(word, "required") || span_is(word, "any") || span_is(word, "ANY");
}

static void call_tool(struct sim_ask *a, struct span tool, uint64_t seed)
{
    struct buf args = {.max = 65536};
    struct json_value schema = json_get(tool, "parameters");

    if (schema.type != JSON_OBJECT)
        schema = json_get(tool, "input_schema");
    add_object(&args, schema.type == JSON_OBJECT ? schema.raw : SPAN_LIT("{}"), seed, 4);
    (void)span_copy(a->tool_name, sizeof(a->tool_name), json_str_raw(json_get(tool, "name")));
    a->is_tool = true;
    a->owned_fixed = args.p;
    a->text = (struct sim_text){
        .kind = SIM_TEXT_FIXED, .tokens = sim_tokens_of_bytes(args.len), .fixed = buf_span(&args)};
}

/* ---- markers: a test may ask for an answer inside the last message ---- */

static struct json_value last_element(struct json_value list)
{
    struct json_walk w;
    struct json_member m = {.value = list};

    if (list.type == JSON_ARRAY && json_walk(&w, list.raw))
        while (json_next(&w, &m))
            ;
    return m.value;
}

static struct span after(struct span text, const char *marker)
{
    size_t n = strlen(marker);
    const char *at = text.len ? memmem(text.p, text.len, marker, n) : NULL;

    return at ? span_make(at + n, text.len - (size_t)(at - text.p) - n) : (struct span){0};
}

static bool is_tool_result(struct span message)
{
    return after(message, "\"tool_call_id\"").p || after(message, "\"tool_result\"").p ||
           after(message, "\"function_call_output\"").p || after(message, "\"functionResponse\"").p;
}

/* `[[echo]]text`: the answer is the text behind the marker, up to the end of its string. */
static void take_echo(struct sim_ask *a, struct span rest)
{
    struct buf quoted AUTO(buf_release) = {0};
    size_t n = 0;

    while (n < rest.len && rest.p[n] != '"')
        n += rest.p[n] == '\\' ? 2 : 1;
    if (n > rest.len)
        return;
    buf_addc(&quoted, '"');
    buf_add(&quoted, span_make(rest.p, n));
    buf_addc(&quoted, '"');
    a->owned_fixed = malloc(n + 1);
    if (a->owned_fixed && json_str(json_value(buf_span(&quoted)), a->owned_fixed, n + 1, &n))
        a->text = (struct sim_text){
            .kind = SIM_TEXT_FIXED, .tokens = sim_tokens_of_bytes(n), .fixed = span_make(a->owned_fixed, n)};
}

static void take_tokens(struct sim_ask *a, struct span rest)
{
    unsigned n = 0;

    while (rest.len && *rest.p >= '0' && *rest.p <= '9' && n < 1000000) {
        n = n * 10 + (unsigned)(*rest.p - '0');
        rest = span_make(rest.p + 1, rest.len - 1);
    }
    a->text.tokens = n;
}

const char *sim_ask_chat(struct sim_ask *a, const struct sim_request *rq, struct json_value messages,
                         struct json_value system)
{
    struct span last = last_element(messages).raw;
    struct span name = {0}, tool = {0}, rest;
    bool must = demands_tool(&rq->m, &name);
    struct json_value format = json_get(rq->m.response_format.raw, "type");
    unsigned tools = find_tool(rq->m.tools, name, &tool);

    sim_ask_count(a, messages, true);
    if (system.type != JSON_INVALID)
        sim_ask_count(a, system, false);
    a->bill.input += (system.type != JSON_INVALID && system.type != JSON_NULL ? 4 : 0) + 20 * tools;
    if (format.type != JSON_STRING)
        format = json_path(rq->m.text.raw, "format", "type", NULL);
    if (format.type == JSON_STRING && !span_is(json_str_raw(format), "text"))
        a->text.kind = SIM_TEXT_JSON;
    if ((rest = after(last, "[[tokens=")).p)
        take_tokens(a, rest);
    if (tool.p && !is_tool_result(last) && (must || after(last, "[[tool]]").p))
        call_tool(a, tool, rq->body_hash);
    else if ((rest = after(last, "[[echo]]")).p)
        take_echo(a, rest);
    return NULL;
}

/* ---- settling ---- */

static void take_max(struct sim_ask *a, struct json_value v)
{
    uint64_t n;

    if (!a->max_tokens && json_u64(v, &n))
        a->max_tokens = n;
}

static unsigned share_of(unsigned tokens, double share)
{
    return (unsigned)((double)tokens * share);
}

static void settle(struct sim_ask *a, const struct sim_request *rq, uint64_t seed, uint64_t number)
{
    const struct sim_behaviour *b = &rq->profile->b;
    struct sim_bill *bill = &a->bill;
    unsigned out;

    bill->input += sim_tokens_of_bytes(a->prompt_bytes);
    a->text.seed = seed ^ rq->body_hash;
    a->id = sim_mix(a->text.seed ^ rq->profile->name_hash, number);
    a->created = 1760000000 + (int64_t)(a->text.seed % 10000000);
    if (a->text.tokens == 0 && a->text.kind != SIM_TEXT_FIXED)
        a->text.tokens = b->output_min + (unsigned)(sim_mix(a->text.seed, 77) %
                                                    ((uint64_t)b->output_max - b->output_min + 1));
    out = a->text.tokens;
    if (a->max_tokens && out > a->max_tokens) {
        out = (unsigned)a->max_tokens;
        a->is_cut_short = true;
    }
    bill->cached = share_of(bill->input, b->cached_share);
    bill->cache_write = share_of(bill->input - bill->cached, b->cache_write_share);
    bill->reasoning = a->is_tool ? 0 : share_of(out, b->reasoning_share);
    a->visible = out - bill->reasoning;
    bill->output = out * a->choices + a->extra_output;
    bill->reasoning *= a->choices;
    a->usage_every_chunk = b->usage_every_chunk;
    a->chunk_tokens = (unsigned)b->chunk_tokens;
}

struct sim_bill sim_ask_bill_so_far(const struct sim_ask *a, unsigned visible)
{
    struct sim_bill bill = a->bill;
    unsigned per_choice = a->choices ? bill.reasoning / a->choices : 0;
    unsigned begun = a->visible ? (visible + a->visible - 1) / a->visible : a->choices;

    if (!visible)
        return (struct sim_bill){0};
    bill.reasoning = per_choice * begun;
    bill.output = visible + bill.reasoning;
    return bill;
}

static const char *decode_json(struct sim_ask *a, struct sim_request *rq)
{
    struct err err = {0};
    uint64_t n;

    if (json_check(rq->body, &BODY_LIMITS, &err))
        return "the body is not valid JSON";
    read_members(&rq->m, rq->body);
    if (rq->m.model.type == JSON_STRING) {
        struct span raw = json_str_raw(rq->m.model);

        a->model = malloc(raw.len + 1);
        if (a->model && !json_str(rq->m.model, a->model, raw.len + 1, NULL))
            a->model[0] = '\0';
    }
    a->is_stream = rq->m.stream.type == JSON_TRUE;
    a->wants_usage = json_get(rq->m.stream_options.raw, "include_usage").type == JSON_TRUE;
    take_max(a, rq->m.max_completion_tokens);
    take_max(a, rq->m.max_output_tokens);
    take_max(a, rq->m.max_tokens);
    take_max(a, json_get(rq->m.generationConfig.raw, "maxOutputTokens"));
    if (json_u64(rq->m.n, &n))
        a->choices = n < 1 ? 1 : n > 128 ? 128 : (unsigned)n;
    return NULL;
}

static bool is_listed(const struct sim_profile *p, const char *model)
{
    const char *id;

    for (size_t i = 0; (id = sim_profile_model(p, i)) != NULL; i++)
        if (strcmp(id, model) == 0)
            return true;
    return false;
}

const char *sim_ask_decode(struct sim_ask *a, struct sim_request *rq, uint64_t seed, uint64_t number)
{
    const char *why = NULL;

    a->choices = 1;
    if (!a->op->is_get && !a->op->is_multipart)
        why = decode_json(a, rq);
    if (!a->model && rq->model_in_path.p)
        a->model = strndup(rq->model_in_path.p, rq->model_in_path.len);
    if (!why)
        why = a->op->decode(a, rq);
    if (!why && !a->op->is_get && !(a->model && a->model[0]))
        why = "you must provide a model parameter";
    if (!a->op->stream)
        a->is_stream = false;
    settle(a, rq, seed, number);
    if (!why && a->model && rq->profile->b.strict_models && !is_listed(rq->profile, a->model))
        why = "model_not_found";
    return why;
}

void sim_ask_release(struct sim_ask *a)
{
    free(a->model);
    free(a->owned_fixed);
    a->model = a->owned_fixed = NULL;
}
