/* SPDX-License-Identifier: Apache-2.0 */
/* OpenAI's chat and text completions. */
#include "gatewayd/sim/sim_ops.h"

static void add_usage(const struct sim_bill *b, struct buf *out)
{
    buf_addf(out,
             "{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%u,"
             "\"prompt_tokens_details\":{\"cached_tokens\":%u,\"audio_tokens\":0},"
             "\"completion_tokens_details\":{\"reasoning_tokens\":%u,\"audio_tokens\":0,"
             "\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}",
             b->input, b->output, b->input + b->output, b->cached, b->reasoning);
}

/* ---- chat ---- */

static const char *decode_chat(struct sim_ask *a, const struct sim_request *rq)
{
    if (rq->m.messages.type != JSON_ARRAY)
        return "messages must be an array";
    return sim_ask_chat(a, rq, rq->m.messages, (struct json_value){0});
}

static const char *chat_finish(const struct sim_ask *a)
{
    return a->is_cut_short ? "length" : a->is_tool ? "tool_calls" : "stop";
}

static void add_call_head(const struct sim_ask *a, unsigned choice, struct buf *out)
{
    buf_addz(out, "\"id\":\"");
    sim_add_id(out, "call_", a->id + choice);
    buf_addf(out, "\",\"type\":\"function\",\"function\":{\"name\":\"%s\",\"arguments\":\"", a->tool_name);
}

static void add_chat_choice(const struct sim_ask *a, unsigned c, struct buf *out)
{
    buf_addf(out, "%s{\"index\":%u,\"message\":{\"role\":\"assistant\",\"content\":", c ? "," : "", c);
    if (a->is_tool) {
        buf_addz(out, "null,\"tool_calls\":[{");
        add_call_head(a, c, out);
        sim_text_add_json(&a->text, c, 0, a->visible, out);
        buf_addz(out, "\"}}]");
    } else {
        buf_addc(out, '"');
        sim_text_add_json(&a->text, c, 0, a->visible, out);
        buf_addc(out, '"');
    }
    buf_addf(out, ",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"%s\"}",
             chat_finish(a));
}

static void whole_chat(const struct sim_ask *a, const struct sim_request *rq, struct buf *out)
{
    (void)rq;
    buf_addz(out, "{\"id\":\"");
    sim_add_id(out, "chatcmpl-", a->id);
    buf_addf(out, "\",\"object\":\"chat.completion\",\"created\":%lld,\"model\":", (long long)a->created);
    sim_add_model(out, a);
    buf_addz(out, ",\"choices\":[");
    for (unsigned c = 0; c < a->choices; c++)
        add_chat_choice(a, c, out);
    buf_addz(out, "],\"usage\":");
    add_usage(&a->bill, out);
    buf_addz(out, ",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_sim\"}");
}

static void chunk_open(const struct sim_ask *a, const char *prefix, const char *object, struct buf *out)
{
    sim_event(out, NULL);
    buf_addz(out, "{\"id\":\"");
    sim_add_id(out, prefix, a->id);
    buf_addz(out, "\",\"object\":\"");
    buf_addz(out, object);
    buf_addz(out, "\",\"created\":");
    buf_addu(out, (uint64_t)a->created);
    buf_addz(out, ",\"model\":");
    sim_add_model(out, a);
    buf_addz(out, ",\"choices\":[");
}

/* Ends a chunk that has choices; with include_usage all but the last say "usage":null. */
static void chunk_close(const struct sim_ask *a, unsigned visible_so_far, struct buf *out)
{
    buf_addc(out, ']');
    if (a->usage_every_chunk) {
        struct sim_bill b = sim_ask_bill_so_far(a, visible_so_far);

        b.input = a->bill.input;
        buf_addz(out, ",\"usage\":");
        add_usage(&b, out);
    } else if (a->wants_usage) {
        buf_addz(out, ",\"usage\":null");
    }
    buf_addz(out, "}\n\n");
}

static void chat_delta(const struct sim_ask *a, unsigned c, struct buf *out)
{
    chunk_open(a, "chatcmpl-", "chat.completion.chunk", out);
    buf_addz(out, "{\"index\":");
    buf_addu(out, c);
    buf_addz(out, ",\"delta\":{");
}

static void chat_open(const struct sim_ask *a, unsigned c, struct buf *out)
{
    chat_delta(a, c, out);
    if (a->is_tool) {
        buf_addz(out, "\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"index\":0,");
        add_call_head(a, c, out);
        buf_addz(out, "\"}}]");
    } else {
        buf_addz(out, "\"role\":\"assistant\",\"content\":\"\",\"refusal\":null");
    }
    buf_addz(out, "},\"logprobs\":null,\"finish_reason\":null}");
    chunk_close(a, c * a->visible, out);
}

static void chat_piece(const struct sim_ask *a, unsigned c, unsigned from, unsigned to, struct buf *out)
{
    chat_delta(a, c, out);
    buf_addz(out,
             a->is_tool ? "\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"" : "\"content\":\"");
    sim_text_add_json(&a->text, c, from, to, out);
    buf_addz(out, a->is_tool ? "\"}}]" : "\"");
    buf_addz(out, "},\"logprobs\":null,\"finish_reason\":null}");
    chunk_close(a, c * a->visible + to, out);
}

static void chat_end(const struct sim_ask *a, unsigned c, struct buf *out)
{
    chat_delta(a, c, out);
    buf_addz(out, "},\"logprobs\":null,\"finish_reason\":\"");
    buf_addz(out, chat_finish(a));
    buf_addz(out, "\"}");
    chunk_close(a, (c + 1) * a->visible, out);
}

static void usage_chunk(const struct sim_ask *a, const char *prefix, const char *object, struct buf *out)
{
    if (!a->wants_usage)
        return;
    chunk_open(a, prefix, object, out);
    buf_addz(out, "],\"usage\":");
    add_usage(&a->bill, out);
    buf_addz(out, "}\n\n");
}

static void chat_close(const struct sim_ask *a, struct buf *out)
{
    usage_chunk(a, "chatcmpl-", "chat.completion.chunk", out);
}

static void openai_done(const struct sim_ask *a, struct buf *out)
{
    (void)a;
    buf_add(out, SPAN_LIT("data: [DONE]\n\n"));
}

static const struct sim_stream_ops CHAT_STREAM = {
    .open = chat_open, .piece = chat_piece, .finish = chat_end, .close = chat_close, .done = openai_done};

const struct sim_op sim_op_chat = {.path = "/chat/completions",
                                   .name = "chat",
                                   .decode = decode_chat,
                                   .whole = whole_chat,
                                   .stream = &CHAT_STREAM};

/* ---- text completions ---- */

static const char *decode_completion(struct sim_ask *a, const struct sim_request *rq)
{
    struct json_value p = rq->m.prompt;
    struct json_walk w;
    struct json_member m;
    unsigned prompts = 0;

    if (p.type == JSON_ARRAY && json_walk(&w, p.raw))
        while (json_next(&w, &m)) {
            if (m.value.type == JSON_NUMBER)
                a->bill.input++; /* one prompt, given as tokens */
            else
                prompts++;
        }
    sim_ask_count(a, p, false);
    if (prompts > 1 && a->choices * prompts <= 128)
        a->choices *= prompts;
    return p.type == JSON_STRING || p.type == JSON_ARRAY ? NULL : "prompt must be a string or an array";
}

static void completion_choice(const struct sim_ask *a, unsigned c, unsigned from, unsigned to,
                              const char *finish, struct buf *out)
{
    buf_addz(out, "{\"text\":\"");
    sim_text_add_json(&a->text, c, from, to, out);
    buf_addf(out, "\",\"index\":%u,\"logprobs\":null,\"finish_reason\":%s}", c, finish);
}

static const char *completion_finish(const struct sim_ask *a)
{
    return a->is_cut_short ? "\"length\"" : "\"stop\"";
}

static void whole_completion(const struct sim_ask *a, const struct sim_request *rq, struct buf *out)
{
    (void)rq;
    buf_addz(out, "{\"id\":\"");
    sim_add_id(out, "cmpl-", a->id);
    buf_addf(out, "\",\"object\":\"text_completion\",\"created\":%lld,\"model\":", (long long)a->created);
    sim_add_model(out, a);
    buf_addz(out, ",\"choices\":[");
    for (unsigned c = 0; c < a->choices; c++) {
        if (c)
            buf_addc(out, ',');
        completion_choice(a, c, 0, a->visible, completion_finish(a), out);
    }
    buf_addz(out, "],\"usage\":");
    add_usage(&a->bill, out);
    buf_addc(out, '}');
}

static void completion_piece(const struct sim_ask *a, unsigned c, unsigned from, unsigned to, struct buf *out)
{
    chunk_open(a, "cmpl-", "text_completion", out);
    completion_choice(a, c, from, to, "null", out);
    chunk_close(a, c * a->visible + to, out);
}

static void completion_end(const struct sim_ask *a, unsigned c, struct buf *out)
{
    chunk_open(a, "cmpl-", "text_completion", out);
    completion_choice(a, c, 0, 0, completion_finish(a), out);
    chunk_close(a, (c + 1) * a->visible, out);
}

static void completion_close(const struct sim_ask *a, struct buf *out)
{
    usage_chunk(a, "cmpl-", "text_completion", out);
}

static const struct sim_stream_ops COMPLETION_STREAM = {
    .piece = completion_piece, .finish = completion_end, .close = completion_close, .done = openai_done};

const struct sim_op sim_op_completion = {.path = "/completions",
                                         .name = "completion",
                                         .decode = decode_completion,
                                         .whole = whole_completion,
                                         .stream = &COMPLETION_STREAM};
