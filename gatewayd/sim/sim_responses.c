/* SPDX-License-Identifier: Apache-2.0 */
/* OpenAI's Responses. An answer is one item: a message, or a function call. Sequence numbers of events follow
 * from the position alone: two for the response, two (a call: one) for the opening, one per piece, and so on.
 */
#include "gatewayd/sim/sim_ops.h"

static const char *decode(struct sim_ask *a, const struct sim_request *rq)
{
    a->choices = 1;
    if (rq->m.input.type != JSON_STRING && rq->m.input.type != JSON_ARRAY)
        return "input must be a string or an array";
    return sim_ask_chat(a, rq, rq->m.input, rq->m.instructions);
}

static void add_text_part(const struct sim_ask *a, unsigned to, struct buf *out)
{
    buf_addz(out, "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":\"");
    sim_text_add_json(&a->text, 0, 0, to, out);
    buf_addz(out, "\"}");
}

static void add_item_id(const struct sim_ask *a, struct buf *out)
{
    sim_add_id(out, a->is_tool ? "fc_" : "msg_", a->id);
}

static void add_item(const struct sim_ask *a, bool is_complete, struct buf *out)
{
    buf_addz(out, "{\"id\":\"");
    add_item_id(a, out);
    buf_addf(out, "\",\"status\":\"%s\",", is_complete ? "completed" : "in_progress");
    if (a->is_tool) {
        buf_addz(out, "\"type\":\"function_call\",\"call_id\":\"");
        sim_add_id(out, "call_", a->id);
        buf_addf(out, "\",\"name\":\"%s\",\"arguments\":\"", a->tool_name);
        sim_text_add_json(&a->text, 0, 0, is_complete ? a->visible : 0, out);
        buf_addz(out, "\"}");
        return;
    }
    buf_addz(out, "\"type\":\"message\",\"role\":\"assistant\",\"content\":[");
    if (is_complete)
        add_text_part(a, a->visible, out);
    buf_addz(out, "]}");
}

static void add_response(const struct sim_ask *a, bool is_complete, struct buf *out)
{
    const struct sim_bill *b = &a->bill;

    buf_addz(out, "{\"id\":\"");
    sim_add_id(out, "resp_", a->id);
    buf_addf(out,
             "\",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\",\"background\":false,"
             "\"error\":null,",
             (long long)a->created,
             !is_complete      ? "in_progress"
             : a->is_cut_short ? "incomplete"
                               : "completed");
    buf_addf(out, "\"incomplete_details\":%s,\"instructions\":null,\"model\":",
             is_complete && a->is_cut_short ? "{\"reason\":\"max_output_tokens\"}" : "null");
    sim_add_model(out, a);
    buf_addz(out, ",\"output\":[");
    if (is_complete)
        add_item(a, true, out);
    buf_addz(
        out,
        "],\"parallel_tool_calls\":true,\"previous_response_id\":null,\"store\":false,"
        "\"temperature\":1.0,\"top_p\":1.0,\"tool_choice\":\"auto\",\"tools\":[],\"truncation\":\"disabled\","
        "\"text\":{\"format\":{\"type\":\"text\"}},\"metadata\":{},\"usage\":");
    if (is_complete)
        buf_addf(out,
                 "{\"input_tokens\":%u,\"input_tokens_details\":{\"cached_tokens\":%u},\"output_tokens\":%u,"
                 "\"output_tokens_details\":{\"reasoning_tokens\":%u},\"total_tokens\":%u}}",
                 b->input, b->cached, b->output, b->reasoning, b->input + b->output);
    else
        buf_addz(out, "null}");
}

static void whole(const struct sim_ask *a, const struct sim_request *rq, struct buf *out)
{
    (void)rq;
    add_response(a, true, out);
}

/* ---- the stream ---- */

static unsigned first_piece(const struct sim_ask *a)
{
    return a->is_tool ? 3 : 4;
}
static unsigned after_pieces(const struct sim_ask *a)
{
    return first_piece(a) + (a->visible + a->chunk_tokens - 1) / a->chunk_tokens;
}

static void event(struct buf *out, const char *type, unsigned sequence)
{
    sim_event(out, type);
    buf_addz(out, "{\"type\":\"");
    buf_addz(out, type);
    buf_addz(out, "\",\"sequence_number\":");
    buf_addu(out, sequence);
}

static void of_item(const struct sim_ask *a, struct buf *out)
{
    buf_addz(out, ",\"item_id\":\"");
    add_item_id(a, out);
    buf_addz(out, a->is_tool ? "\",\"output_index\":0" : "\",\"output_index\":0,\"content_index\":0");
}

static void response_event(const struct sim_ask *a, const char *type, unsigned sequence, bool is_complete,
                           struct buf *out)
{
    event(out, type, sequence);
    buf_addz(out, ",\"response\":");
    add_response(a, is_complete, out);
    buf_addz(out, "}\n\n");
}

static void stream_begin(const struct sim_ask *a, struct buf *out)
{
    response_event(a, "response.created", 0, false, out);
    response_event(a, "response.in_progress", 1, false, out);
}

static void item_event(const struct sim_ask *a, const char *type, unsigned sequence, bool is_complete,
                       struct buf *out)
{
    event(out, type, sequence);
    buf_addz(out, ",\"output_index\":0,\"item\":");
    add_item(a, is_complete, out);
    buf_addz(out, "}\n\n");
}

static void part_event(const struct sim_ask *a, const char *type, unsigned sequence, unsigned tokens,
                       struct buf *out)
{
    event(out, type, sequence);
    of_item(a, out);
    buf_addz(out, ",\"part\":");
    add_text_part(a, tokens, out);
    buf_addz(out, "}\n\n");
}

static void stream_open(const struct sim_ask *a, unsigned c, struct buf *out)
{
    (void)c;
    item_event(a, "response.output_item.added", 2, false, out);
    if (!a->is_tool)
        part_event(a, "response.content_part.added", 3, 0, out);
}

static void stream_piece(const struct sim_ask *a, unsigned c, unsigned from, unsigned to, struct buf *out)
{
    (void)c;
    event(out, a->is_tool ? "response.function_call_arguments.delta" : "response.output_text.delta",
          first_piece(a) + from / a->chunk_tokens);
    of_item(a, out);
    buf_addz(out, a->is_tool ? ",\"delta\":\"" : ",\"logprobs\":[],\"delta\":\"");
    sim_text_add_json(&a->text, 0, from, to, out);
    buf_addz(out, "\"}\n\n");
}

static void stream_finish(const struct sim_ask *a, unsigned c, struct buf *out)
{
    unsigned sequence = after_pieces(a);

    (void)c;
    event(out, a->is_tool ? "response.function_call_arguments.done" : "response.output_text.done",
          sequence++);
    of_item(a, out);
    if (a->is_tool)
        buf_addf(out, ",\"name\":\"%s\",\"arguments\":\"", a->tool_name);
    else
        buf_addz(out, ",\"logprobs\":[],\"text\":\"");
    sim_text_add_json(&a->text, 0, 0, a->visible, out);
    buf_addz(out, "\"}\n\n");
    if (!a->is_tool)
        part_event(a, "response.content_part.done", sequence++, a->visible, out);
    item_event(a, "response.output_item.done", sequence, true, out);
}

static void stream_done(const struct sim_ask *a, struct buf *out)
{
    response_event(a, a->is_cut_short ? "response.incomplete" : "response.completed",
                   after_pieces(a) + (a->is_tool ? 2 : 3), true, out);
}

static void stream_error(const struct sim_ask *a, struct buf *out)
{
    event(out, "error", after_pieces(a));
    buf_addz(out, ",\"code\":\"server_error\",\"message\":\"the server had an error\",\"param\":null}\n\n");
}

static const struct sim_stream_ops STREAM = {.begin = stream_begin,
                                             .open = stream_open,
                                             .piece = stream_piece,
                                             .finish = stream_finish,
                                             .done = stream_done,
                                             .error = stream_error};

const struct sim_op sim_op_responses = {
    .path = "/responses", .name = "responses", .decode = decode, .whole = whole, .stream = &STREAM};
