/* SPDX-License-Identifier: Apache-2.0 */
/* Gemini's generateContent and streamGenerateContent, the latter as SSE (`alt=sse`) or as one growing JSON
 * array. */
#include "gatewayd/sim/sim_ops.h"

static const char *decode(struct sim_ask *a, const struct sim_request *rq)
{
    struct json_value system = rq->m.systemInstruction;

    a->choices = 1;
    a->is_stream = false;
    if (rq->m.contents.type != JSON_ARRAY)
        return "contents must be an array";
    return sim_ask_chat(a, rq, rq->m.contents,
                        system.type != JSON_INVALID ? system : rq->m.system_instruction);
}

static const char *decode_stream(struct sim_ask *a, const struct sim_request *rq)
{
    const char *why = decode(a, rq);

    a->is_stream = true;
    a->is_array_stream = !span_is(sim_query_get(rq->head->query, "alt"), "sse");
    return why;
}

/* Thoughts are counted apart from the candidates. */
static void add_tail(const struct sim_ask *a, const struct sim_bill *b, struct buf *out)
{
    buf_addf(out,
             "\"usageMetadata\":{\"promptTokenCount\":%u,\"candidatesTokenCount\":%u,\"totalTokenCount\":%u,"
             "\"promptTokensDetails\":[{\"modality\":\"TEXT\",\"tokenCount\":%u}]",
             b->input, b->output - b->reasoning, b->input + b->output, b->input);
    if (b->cached)
        buf_addf(out, ",\"cachedContentTokenCount\":%u", b->cached);
    if (b->reasoning)
        buf_addf(out, ",\"thoughtsTokenCount\":%u", b->reasoning);
    buf_addz(out, "},\"modelVersion\":");
    sim_add_model(out, a);
    buf_addz(out, ",\"responseId\":\"");
    sim_add_id(out, "", a->id);
    buf_addz(out, "\"}");
}

/* Arguments cannot be sent in part: they come whole with the last token. */
static void add_part(const struct sim_ask *a, unsigned from, unsigned to, struct buf *out)
{
    if (a->is_tool) {
        buf_addf(out, "{\"functionCall\":{\"name\":\"%s\",\"args\":", a->tool_name);
        buf_add(out, a->is_cut_short ? SPAN_LIT("{}") : a->text.fixed);
        buf_addz(out, "}}");
        return;
    }
    buf_addz(out, "{\"text\":\"");
    sim_text_add_json(&a->text, 0, from, to, out);
    buf_addz(out, "\"}");
}

static void add_finish(const struct sim_ask *a, struct buf *out)
{
    buf_addf(out, "\"finishReason\":\"%s\",", a->is_cut_short ? "MAX_TOKENS" : "STOP");
}

static void whole(const struct sim_ask *a, const struct sim_request *rq, struct buf *out)
{
    (void)rq;
    buf_addz(out, "{\"candidates\":[{\"content\":{\"parts\":[");
    add_part(a, 0, a->visible, out);
    buf_addz(out, "],\"role\":\"model\"},");
    add_finish(a, out);
    buf_addz(out, "\"index\":0}],");
    add_tail(a, &a->bill, out);
}

static void chunk(const struct sim_ask *a, const char *between, struct buf *out)
{
    buf_addz(out, a->is_array_stream ? between : "data: ");
    buf_addz(out, "{\"candidates\":[{\"content\":{\"parts\":[");
}

static void chunk_end(const struct sim_ask *a, unsigned so_far, bool is_last, struct buf *out)
{
    struct sim_bill b = sim_ask_bill_so_far(a, so_far);

    b.input = a->bill.input;
    b.cached = a->bill.cached;
    buf_addz(out, "],\"role\":\"model\"},");
    if (is_last)
        add_finish(a, out);
    buf_addz(out, "\"index\":0}],");
    add_tail(a, is_last ? &a->bill : &b, out);
    buf_addz(out, a->is_array_stream ? "" : "\n\n");
}

static void stream_begin(const struct sim_ask *a, struct buf *out)
{
    chunk(a, "[", out);
    buf_addz(out, "{\"text\":\"\"}");
    chunk_end(a, 0, false, out);
}

static void stream_piece(const struct sim_ask *a, unsigned c, unsigned from, unsigned to, struct buf *out)
{
    (void)c;
    if (a->is_tool && to < a->visible)
        return;
    chunk(a, ",\n", out);
    add_part(a, from, to, out);
    chunk_end(a, to, false, out);
}

/* The chunk that names the reason is Gemini's only end marker. */
static void stream_done(const struct sim_ask *a, struct buf *out)
{
    chunk(a, ",\n", out);
    buf_addz(out, "{\"text\":\"\"}");
    chunk_end(a, a->visible, true, out);
    buf_addz(out, a->is_array_stream ? "]" : "");
}

static void stream_error(const struct sim_ask *a, struct buf *out)
{
    buf_addz(out, a->is_array_stream ? ",\n" : "data: ");
    sim_error_body(SIM_GEMINI, 503, NULL, a->id, out);
    buf_addz(out, a->is_array_stream ? "]" : "\n\n");
}

static const struct sim_stream_ops STREAM = {
    .begin = stream_begin, .piece = stream_piece, .done = stream_done, .error = stream_error};

const struct sim_op sim_op_gemini = {
    .name = "generate", .dialect = SIM_GEMINI, .decode = decode, .whole = whole};
const struct sim_op sim_op_gemini_stream = {
    .name = "generate", .dialect = SIM_GEMINI, .decode = decode_stream, .whole = whole, .stream = &STREAM};
