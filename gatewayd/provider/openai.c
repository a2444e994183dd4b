/* SPDX-License-Identifier: Apache-2.0 */
/* The OpenAI dialect, as OpenAI and the many that copy it speak it.
 * Pure, any thread; nothing is owned, an answer is only added to.
 * Two kinds of stream: chunks (chat, completion), which all look alike and end in `[DONE]`, and typed events
 * (responses, images, audio), whose `type` says everything. An error object anywhere ends the answer, and
 * nothing after it undoes that. Tricky: every vendor puts its usage elsewhere and most put `null` where
 * another puts nothing; see usage.c. */
#include "gatewayd/provider/judge.h"
#include "gatewayd/provider/key.h"
#include "gatewayd/provider/providers.h"
#include "gatewayd/provider/usage.h"

/* Far above any answer that the gateway accepts; a body is bounded in bytes by its reader. */
static const struct json_limits BODY_LIMITS = {
    .max_depth = 128, .max_values = 100000000, .max_key_bytes = 65536};

static const char *openai_path(enum operation op)
{
    switch (op) {
    case OP_CHAT:
        return "/chat/completions";
    case OP_COMPLETION:
        return "/completions";
    case OP_RESPONSES:
        return "/responses";
    case OP_EMBEDDINGS:
        return "/embeddings";
    case OP_IMAGES:
        return "/images/generations";
    case OP_SPEECH:
        return "/audio/speech";
    case OP_TRANSCRIPTION:
        return "/audio/transcriptions";
    case OP_MODERATIONS:
        return "/moderations";
    case OP_RERANK:
        return "/rerank";
    case OP_MODELS:
        return "/models";
    case OP_MESSAGES:
    case OP_COUNT_TOKENS:
    case OP_MODEL:
    case OP_COUNT:
        break;
    }
    return NULL;
}

static enum err_code openai_headers(struct buf *lines, const struct secret *key)
{
    static const char PREFIX[] = "Authorization: Bearer ";
    enum err_code code;
    struct span bytes;

    if (!key || !key->len) /* local servers need none */
        return ERR_OK;
    bytes = secret_expose(key);
    code = buf_append(lines, PREFIX, sizeof(PREFIX) - 1);
    if (code == ERR_OK)
        code = buf_append(lines, bytes.p, bytes.len);
    return code == ERR_OK ? buf_append(lines, "", 1) : code;
}

static bool openai_wants_include_usage(enum operation op)
{
    return op == OP_CHAT || op == OP_COMPLETION;
}

/* ---- what a choice carries ---- */

/* Characters of a JSON string as a reader would count them: an escape is one, a UTF-8 sequence is one. */
static uint64_t count_chars(struct json_value v)
{
    struct span s = json_str_raw(v);
    uint64_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        if (((unsigned char)s.p[i] & 0xC0) == 0x80)
            continue;
        if (s.p[i] == '\\')
            i += i + 1 < s.len && s.p[i + 1] == 'u' ? 5 : 1;
        n++;
    }
    return n;
}

static bool has_bytes(struct json_value v)
{
    return (v.type == JSON_STRING && v.raw.len > 2) ||
           ((v.type == JSON_ARRAY || v.type == JSON_OBJECT) && v.raw.len > 2);
}

/* `content` is a string, or with some vendors a list of typed parts. */
static uint64_t count_content(struct json_value v)
{
    struct json_member m;
    struct json_walk w;
    uint64_t n = 0;

    if (v.type == JSON_STRING)
        return count_chars(v);
    if (v.type == JSON_ARRAY && json_walk(&w, v.raw))
        while (json_next(&w, &m))
            n += count_chars(json_get(m.value.raw, "text"));
    return n;
}

static uint64_t count_tool_calls(struct json_value v)
{
    struct json_member m;
    struct json_walk w;
    uint64_t n = 0;

    if (v.type == JSON_ARRAY && json_walk(&w, v.raw))
        while (json_next(&w, &m)) {
            struct json_value function = json_get(m.value.raw, "function");

            n += count_chars(json_get(function.raw, "name")) +
                 count_chars(json_get(function.raw, "arguments"));
        }
    return n;
}

/* A `delta` of a stream or the `message` of a body; true when something generated is in it. */
static bool read_delta(struct answer *a, struct span object)
{
    uint64_t reasoning = 0, n;
    bool has_content = false;
    struct json_member m;
    struct json_walk w;

    if (!json_walk(&w, object) || !w.is_object)
        return false;
    while (json_next(&w, &m)) {
        if (!has_bytes(m.value)) /* null, "", [] and {} say nothing */
            continue;
        if (KEY_IS(m.key, "content") || KEY_IS(m.key, "refusal")) {
            a->output_chars += count_content(m.value);
        } else if (KEY_IS(m.key, "reasoning_content") || KEY_IS(m.key, "reasoning")) {
            n = count_content(m.value); /* some send the same text under both names */
            reasoning = n > reasoning ? n : reasoning;
        } else if (KEY_IS(m.key, "tool_calls")) {
            a->output_chars += count_tool_calls(m.value);
        } else if (!KEY_IS(m.key, "function_call") && !KEY_IS(m.key, "audio") && !KEY_IS(m.key, "images") &&
                   !KEY_IS(m.key, "reasoning_details")) {
            continue;
        }
        has_content = true;
    }
    a->output_chars += reasoning;
    return has_content;
}

static void read_short(char *dst, size_t cap, struct json_value v)
{
    if (v.type == JSON_STRING && v.raw.len > 2)
        (void)span_copy(dst, cap, json_str_raw(v)); /* names of models and reasons need no unescaping */
}

static void read_error(struct answer *a, struct json_value v)
{
    struct wire_error e;

    if (v.type != JSON_OBJECT && v.type != JSON_STRING)
        return;
    wire_error_read_object(&e, v.raw);
    judge_answer_error(a, &e);
}

static bool read_choice(struct answer *a, struct span choice)
{
    bool has_content = false, has_delta = false;
    struct json_value message = {0};
    struct json_member m;
    struct json_walk w;

    if (!json_walk(&w, choice) || !w.is_object)
        return false;
    while (json_next(&w, &m)) {
        if (KEY_IS(m.key, "delta")) {
            has_delta = true;
            has_content |= read_delta(a, m.value.raw);
        } else if (KEY_IS(m.key, "message")) {
            message = m.value;
        } else if (KEY_IS(m.key, "text")) {
            a->output_chars += count_chars(m.value);
            has_content |= has_bytes(m.value);
        } else if (KEY_IS(m.key, "finish_reason")) {
            read_short(a->finish, sizeof(a->finish), m.value);
        } else if (KEY_IS(m.key, "error")) {
            read_error(a, m.value);
        }
    }
    if (!has_delta && message.raw.len) /* beside a delta it repeats what was sent */
        has_content |= read_delta(a, message.raw);
    return has_content;
}

static bool read_choices(struct answer *a, struct span list, bool *is_empty)
{
    bool has_content = false;
    struct json_member m;
    struct json_walk w;

    *is_empty = json_walk(&w, list) && !w.is_object;
    while (*is_empty ? json_next(&w, &m) : false) {
        do
            has_content |= read_choice(a, m.value.raw);
        while (json_next(&w, &m));
        *is_empty = false;
    }
    return has_content;
}

/* ---- chunks: chat, completion, and every JSON body ---- */

struct chunk {
    bool has_content, has_empty_choices, has_usage;
};

static void read_groq(struct answer *a, struct chunk *c, struct span object)
{
    struct json_value usage = json_get(object, "usage");

    if (usage.type == JSON_OBJECT && usage_read_openai(&a->usage, usage.raw))
        c->has_usage = true;
    read_error(a, json_get(object, "error"));
}

static void read_chunk_member(struct answer *a, struct chunk *c, const struct json_member *m)
{
    if (KEY_IS(m->key, "choices")) {
        c->has_content |= read_choices(a, m->value.raw, &c->has_empty_choices);
    } else if (KEY_IS(m->key, "usage")) {
        c->has_usage |= m->value.type == JSON_OBJECT && usage_read_openai(&a->usage, m->value.raw);
    } else if (KEY_IS(m->key, "x_groq")) {
        if (!c->has_usage)
            read_groq(a, c, m->value.raw);
    } else if (KEY_IS(m->key, "model")) {
        if (!a->model[0])
            read_short(a->model, sizeof(a->model), m->value);
    } else if (KEY_IS(m->key, "error")) {
        read_error(a, m->value);
    } else if (KEY_IS(m->key, "value")) { /* Writer's text completions */
        a->output_chars += count_chars(m->value);
        c->has_content |= has_bytes(m->value);
    }
}

static struct chunk read_chunk(struct answer *a, struct span object)
{
    const struct usage before = a->usage;
    struct chunk c = {0};
    struct json_member m;
    struct json_walk w;

    if (!json_walk(&w, object) || !w.is_object)
        return c;
    while (json_next(&w, &m))
        read_chunk_member(a, &c, &m);
    if (w.bad) { /* money is not counted from a document that is broken */
        a->usage = before;
        c.has_usage = false;
    }
    return c;
}

static struct event_view decode_chunk(struct answer *a, struct span data)
{
    struct event_view view = {0};
    struct wire_error e;
    struct chunk c;

    if (span_is(data, "[DONE]")) {
        view.is_terminal = true;
        if (a->end == ANSWER_OPEN)
            a->end = ANSWER_DONE;
        return view;
    }
    c = read_chunk(a, data);
    view.has_content = c.has_content;
    view.is_usage_only = c.has_empty_choices && c.has_usage;
    if (!c.has_content && !c.has_usage && a->end != ANSWER_ERROR &&
        span_is(json_get(data, "object").raw, "\"error\"")) {
        wire_error_read(&e, data);
        judge_answer_error(a, &e);
    }
    return view;
}

/* ---- typed events: responses, images, audio ---- */

enum typed {
    TYPED_OTHER,
    TYPED_DELTA,
    TYPED_ITEM,
    TYPED_START,
    TYPED_END,
    TYPED_FAILED,
    TYPED_ERROR,
    TYPED_PART_END
};

static enum typed typed_of(struct span type)
{
    static const struct {
        const char *name;
        enum typed typed;
    } NAMES[] = {
        {"response.created", TYPED_START},
        {"response.output_item.done", TYPED_ITEM},
        {"response.completed", TYPED_END},
        {"response.incomplete", TYPED_END},
        {"response.failed", TYPED_FAILED},
        {"response.cancelled", TYPED_FAILED},
        {"error", TYPED_ERROR},
        {"response.error", TYPED_ERROR},
        {"speech.audio.done", TYPED_END},
        {"transcript.text.done", TYPED_END},
        {"image_generation.completed", TYPED_PART_END},
        {"image_edit.completed", TYPED_PART_END},
        {"image_generation.partial_image", TYPED_DELTA},
    };

    if (type.len > 6 && memcmp(type.p + type.len - 6, ".delta", 6) == 0)
        return TYPED_DELTA;
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++)
        if (span_is(type, NAMES[i].name))
            return NAMES[i].typed;
    return TYPED_OTHER;
}

static uint64_t count_searches(struct span output)
{
    struct json_member m;
    struct json_walk w;
    uint64_t n = 0;

    if (!json_walk(&w, output) || w.is_object)
        return 0;
    while (json_next(&w, &m)) {
        struct json_value action;

        if (!span_is(json_get(m.value.raw, "type").raw, "\"web_search_call\""))
            continue;
        action =
            json_path(m.value.raw, "action", "type", NULL); /* opening a page found before costs nothing */
        n += action.type != JSON_STRING || span_is(action.raw, "\"search\"");
    }
    return n;
}

/* What an `output` says, for a body that does not count its tokens. */
static uint64_t count_output(struct span output)
{
    struct json_member m;
    struct json_walk w;
    uint64_t n = 0;

    if (!json_walk(&w, output) || w.is_object)
        return 0;
    while (json_next(&w, &m))
        n +=
            count_content(json_get(m.value.raw, "content")) + count_chars(json_get(m.value.raw, "arguments"));
    return n;
}

/* The `response` object of the responses API, also as a whole body. */
static void read_response(struct answer *a, struct span object)
{
    uint64_t searches = 0;
    struct json_member m;
    struct json_walk w;

    if (!json_walk(&w, object) || !w.is_object)
        return;
    while (json_next(&w, &m)) {
        if (KEY_IS(m.key, "usage")) {
            if (m.value.type == JSON_OBJECT)
                (void)usage_read_openai(&a->usage, m.value.raw);
        } else if (KEY_IS(m.key, "model")) {
            read_short(a->model, sizeof(a->model), m.value);
        } else if (KEY_IS(m.key, "status")) {
            read_short(a->finish, sizeof(a->finish), m.value);
        } else if (KEY_IS(m.key, "output")) {
            searches = count_searches(m.value.raw);
        } else if (KEY_IS(m.key, "error")) {
            read_error(a, m.value);
        }
    }
    if (!a->usage.searches)
        a->usage.searches = searches;
}

static void end_typed(struct answer *a, enum typed typed, struct span data)
{
    struct json_value whole = json_value(data); /* nothing is counted from a document that is broken */
    struct json_value response = json_get(whole.raw, "response");
    struct wire_error e = {.is_present = true};

    if (response.type == JSON_OBJECT)
        read_response(a, response.raw);
    else if (typed == TYPED_PART_END || typed == TYPED_END)
        (void)read_chunk(a, whole.raw); /* usage lies beside the type */
    if (typed == TYPED_FAILED) {
        (void)span_copy(e.code, sizeof(e.code), span_of(a->finish));
        judge_answer_error(a, &e); /* unless the object told more */
    } else if (a->end == ANSWER_OPEN) {
        a->end = ANSWER_DONE;
    }
}

static struct event_view decode_typed(struct answer *a, struct span type, struct span data)
{
    struct event_view view = {0};
    struct json_value delta;
    enum typed typed = typed_of(type);

    switch (typed) {
    case TYPED_DELTA:
        delta = json_get(data, "delta");
        a->output_chars += count_chars(delta);
        view.has_content = delta.type == JSON_INVALID || has_bytes(delta);
        break;
    case TYPED_ITEM: /* a tool call that came whole, when nothing came in pieces */
        view.has_content = a->output_events == 0;
        break;
    case TYPED_START:
        read_response(a, json_get(data, "response").raw);
        break;
    case TYPED_PART_END:
        a->usage.images++;
        view.has_content = true;
        end_typed(a, typed, data);
        break;
    case TYPED_END:
    case TYPED_FAILED:
        view.is_terminal = true;
        end_typed(a, typed, data);
        break;
    case TYPED_ERROR: /* handled by the caller */
    case TYPED_OTHER:
        break;
    }
    return view;
}

static void read_error_event(struct answer *a, struct span data)
{
    struct wire_error e;

    wire_error_read(&e, data);
    if (!e.is_present)
        wire_error_read_object(&e, data);
    judge_answer_error(a, &e);
}

static bool has_typed_events(enum operation op)
{
    return op == OP_RESPONSES || op == OP_IMAGES || op == OP_SPEECH || op == OP_TRANSCRIPTION;
}

static struct event_view openai_decode_event(struct answer *a, enum operation op, struct span type,
                                             struct span data)
{
    struct event_view view = {0};

    data = span_trim(data);
    if (!type.len && has_typed_events(op))
        type = json_str_raw(json_get(data, "type"));
    if (typed_of(type) == TYPED_ERROR)
        read_error_event(a, data);
    else if (has_typed_events(op) && type.len)
        view = decode_typed(a, type, data);
    else
        view = decode_chunk(a, data);
    a->output_events += view.has_content;
    return view;
}

/* ---- whole bodies ---- */

static bool is_json_type(struct span content_type)
{
    struct span media = span_trim(span_split(&content_type, ';'));

    return span_eq_nocase(media, SPAN_LIT("application/json")) ||
           (media.len > 5 && span_eq_nocase(span_make(media.p + media.len - 5, 5), SPAN_LIT("+json")));
}

static uint64_t count_elements(struct json_value list)
{
    struct json_member m;
    struct json_walk w;
    uint64_t n = 0;

    if (list.type == JSON_ARRAY && json_walk(&w, list.raw))
        while (json_next(&w, &m))
            n++;
    return n;
}

static void read_rerank(struct answer *a, struct span body)
{
    struct json_value units = json_path(body, "meta", "billed_units", "search_units", NULL);

    if (json_u64(units, &a->usage.searches)) /* Cohere sells searches, not tokens */
        a->usage.source = USAGE_REPORTED;
}

static void read_body(struct answer *a, enum operation op, struct span body)
{
    struct wire_error e;

    if (op == OP_RESPONSES && json_get(body, "choices").type != JSON_ARRAY) { /* some answer it like a chat */
        read_response(a, body);
        a->output_chars += count_output(json_get(body, "output").raw);
    } else {
        a->output_events += read_chunk(a, body).has_content;
    }
    if (op == OP_IMAGES)
        a->usage.images = count_elements(json_get(body, "data"));
    else if (op == OP_RERANK)
        read_rerank(a, body);
    if (span_is(json_get(body, "object").raw, "\"error\"")) {
        wire_error_read(&e, body);
        judge_answer_error(a, &e);
    }
}

static void fail_body(struct answer *a, const char *text)
{
    a->end = ANSWER_ERROR;
    a->error = ERR_UP_GARBAGE;
    (void)span_copy(a->error_text, sizeof(a->error_text), span_of(text));
}

/* Of a checked document, which is not only white space. */
static char first_byte(struct span checked)
{
    size_t i = 0;

    while (checked.p[i] == ' ' || checked.p[i] == '\t' || checked.p[i] == '\r' || checked.p[i] == '\n')
        i++;
    return checked.p[i];
}

static void openai_decode_body(struct answer *a, enum operation op, struct span content_type,
                               struct span body)
{
    bool is_free_form = (op == OP_SPEECH || op == OP_TRANSCRIPTION) && !is_json_type(content_type);

    if (is_free_form) {
        if (body.len)
            a->end = ANSWER_DONE;
        else
            fail_body(a, "the answer is empty");
        return;
    }
    if (json_check(body, &BODY_LIMITS, NULL) != ERR_OK) {
        fail_body(a, "the answer is not one complete JSON value");
        return;
    }
    if (first_byte(body) != '{') { /* it was checked, so it is what it begins with */
        struct wire_error e;

        wire_error_read(&e, body); /* Gemini wraps its errors in a list */
        if (e.is_present)
            judge_answer_error(a, &e);
        else
            fail_body(a, "the answer is not a JSON object");
        return;
    }
    read_body(a, op, body);
    if (a->end == ANSWER_OPEN)
        a->end = ANSWER_DONE;
}

const struct provider_ops PROVIDER_openai = {
    .name = "openai",
    .path = openai_path,
    .headers = openai_headers,
    .wants_include_usage = openai_wants_include_usage,
    .decode_event = openai_decode_event,
    .decode_body = openai_decode_body,
    .classify = judge_failure,
};
