/* SPDX-License-Identifier: Apache-2.0 */
/* The Anthropic Messages dialect, spoken natively.
 * Pure, any thread; nothing is owned, an answer is only added to.
 * A stream is message_start, content blocks, message_delta, message_stop; `error` and `ping` may come
 * anywhere. Tricky: usage is split: message_start has the input, message_delta the output so far (and may
 * repeat or correct the input); input_tokens leaves out what was read from or written to the cache. */
#include "gatewayd/provider/judge.h"
#include "gatewayd/provider/providers.h"
#include "gatewayd/provider/usage.h"
#include "libshared/json/json.h"

static const struct json_limits BODY_LIMITS = {
    .max_depth = 128, .max_values = 100000000, .max_key_bytes = 65536};

static const char *anthropic_path(enum operation op)
{
    if (op == OP_MESSAGES)
        return "/messages";
    if (op == OP_COUNT_TOKENS)
        return "/messages/count_tokens";
    return op == OP_MODELS ? "/models" : NULL;
}

static enum err_code append_line(struct buf *lines, const char *name, struct span value)
{
    enum err_code code = buf_append(lines, name, strlen(name));

    if (code == ERR_OK)
        code = buf_append(lines, value.p, value.len);
    return code == ERR_OK ? buf_append(lines, "", 1) : code;
}

/* A client of this dialect states the version that it understands; its line is among `lines` already. */
static bool has_version(const struct buf *lines)
{
    static const char NAME[] = "anthropic-version:";
    struct span rest = buf_span(lines);

    while (rest.len) {
        struct span line = span_split(&rest, '\0');

        if (line.len >= sizeof(NAME) - 1 &&
            span_eq_nocase(span_make(line.p, sizeof(NAME) - 1), span_of(NAME)))
            return true;
    }
    return false;
}

static enum err_code anthropic_headers(struct buf *lines, const struct secret *key)
{
    bool is_versioned = has_version(lines);
    enum err_code code = ERR_OK;

    if (key && key->len)
        code = append_line(lines, "x-api-key: ", secret_expose(key));
    if (code != ERR_OK || is_versioned)
        return code;
    return append_line(lines, "anthropic-version: ", SPAN_LIT("2023-06-01"));
}

static bool anthropic_wants_include_usage(enum operation op)
{
    (void)op;
    return false; /* it always comes */
}

static void read_short(char *dst, size_t cap, struct json_value v)
{
    if (v.type == JSON_STRING && v.raw.len > 2)
        (void)span_copy(dst, cap, json_str_raw(v));
}

static void read_error_event(struct answer *a, struct span data)
{
    struct wire_error e;

    wire_error_read(&e, data);
    if (!e.is_present)
        wire_error_read_object(&e, data);
    judge_answer_error(a, &e);
}

/* Money is not counted from a document that is broken: `data` must be whole. */
static struct span whole(struct span data)
{
    return json_value(data).raw;
}

static void read_usage(struct answer *a, struct json_value usage)
{
    if (usage.type == JSON_OBJECT)
        (void)usage_merge_anthropic(&a->usage, usage.raw);
}

/* A second message_start begins the message again: some relays send one twice, others after a retry of
 * theirs. */
static void read_message(struct answer *a, struct span message)
{
    struct usage fresh = {0};

    a->usage = fresh;
    read_usage(a, json_get(message, "usage"));
    read_short(a->model, sizeof(a->model), json_get(message, "model"));
    read_short(a->finish, sizeof(a->finish), json_get(message, "stop_reason"));
}

/* text_delta, thinking_delta, input_json_delta carry output; signature_delta and citations_delta do not. */
static bool read_delta(struct answer *a, struct span delta)
{
    static const char *const TEXTS[] = {"text", "thinking", "partial_json"};
    bool has_content = false;

    for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++) {
        struct json_value v = json_get(delta, TEXTS[i]);

        if (v.type != JSON_STRING || v.raw.len <= 2)
            continue;
        a->output_chars += json_str_raw(v).len;
        has_content = true;
    }
    return has_content;
}

/* A tool call or its result begins with something in it; text and thinking come in deltas. */
static bool is_whole_block(struct json_value type)
{
    return type.type == JSON_STRING && !span_is(type.raw, "\"text\"") && !span_is(type.raw, "\"thinking\"");
}

static struct event_view anthropic_decode_event(struct answer *a, enum operation op, struct span type,
                                                struct span data)
{
    struct event_view view = {0};

    (void)op;
    if (!type.len)
        type = json_str_raw(json_get(data, "type"));
    if (span_is(type, "content_block_delta")) {
        view.has_content = read_delta(a, json_get(data, "delta").raw);
    } else if (span_is(type, "content_block_start")) {
        view.has_content = is_whole_block(json_path(data, "content_block", "type", NULL));
    } else if (span_is(type, "message_start")) {
        read_message(a, json_get(whole(data), "message").raw);
    } else if (span_is(type, "message_delta")) {
        read_usage(a, json_get(whole(data), "usage"));
        read_short(a->finish, sizeof(a->finish), json_path(data, "delta", "stop_reason", NULL));
    } else if (span_is(type, "message_stop")) {
        view.is_terminal = true;
        if (a->end == ANSWER_OPEN)
            a->end = ANSWER_DONE;
    } else if (span_is(type, "error")) {
        read_error_event(a, data);
    }
    a->output_events += view.has_content;
    return view;
}

static void read_content(struct answer *a, struct json_value content)
{
    struct json_member m;
    struct json_walk w;

    if (content.type != JSON_ARRAY || !json_walk(&w, content.raw))
        return;
    while (json_next(&w, &m))
        a->output_events += read_delta(a, m.value.raw);
}

static void anthropic_decode_body(struct answer *a, enum operation op, struct span content_type,
                                  struct span body)
{
    struct json_value type;

    (void)content_type;
    if (json_check(body, &BODY_LIMITS, NULL) != ERR_OK || json_value(body).type != JSON_OBJECT) {
        a->end = ANSWER_ERROR;
        a->error = ERR_UP_GARBAGE;
        (void)span_copy(a->error_text, sizeof(a->error_text),
                        SPAN_LIT("the answer is not one complete JSON object"));
        return;
    }
    type = json_get(body, "type");
    if (span_is(type.raw, "\"error\"") || json_get(body, "error").type == JSON_OBJECT) {
        read_error_event(a, body);
        return;
    }
    if (op == OP_MESSAGES) {
        read_message(a, body);
        read_content(a, json_get(body, "content"));
    }
    a->end = ANSWER_DONE;
}

const struct provider_ops PROVIDER_anthropic = {
    .name = "anthropic",
    .path = anthropic_path,
    .headers = anthropic_headers,
    .wants_include_usage = anthropic_wants_include_usage,
    .decode_event = anthropic_decode_event,
    .decode_body = anthropic_decode_body,
    .classify = judge_failure,
};
