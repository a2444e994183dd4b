/* SPDX-License-Identifier: Apache-2.0 */
/* Anthropic's messages and their token count. */
#include "gatewayd/sim/sim_ops.h"

static const char *decode(struct sim_ask *a, const struct sim_request *rq)
{
    a->choices = 1;
    if (rq->m.messages.type != JSON_ARRAY)
        return "messages: Field required";
    return sim_ask_chat(a, rq, rq->m.messages, rq->m.system);
}

static const char *decode_messages(struct sim_ask *a, const struct sim_request *rq)
{
    return a->max_tokens ? decode(a, rq) : "max_tokens: Field required";
}

/* Anthropic counts cached input apart from `input_tokens`. */
static void add_usage(const struct sim_bill *b, unsigned output, struct buf *out)
{
    buf_addf(out,
             "{\"input_tokens\":%u,\"cache_creation_input_tokens\":%u,\"cache_read_input_tokens\":%u,"
             "\"output_tokens\":%u",
             b->input - b->cached - b->cache_write, b->cache_write, b->cached, output);
}

static const char *stop_reason(const struct sim_ask *a)
{
    return a->is_cut_short ? "max_tokens" : a->is_tool ? "tool_use" : "end_turn";
}

static void add_message_head(const struct sim_ask *a, struct buf *out)
{
    buf_addz(out, "{\"id\":\"");
    sim_add_id(out, "msg_", a->id);
    buf_addz(out, "\",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    sim_add_model(out, a);
}

static void add_tool_head(const struct sim_ask *a, struct buf *out)
{
    buf_addz(out, "{\"type\":\"tool_use\",\"id\":\"");
    sim_add_id(out, "toolu_", a->id);
    buf_addf(out, "\",\"name\":\"%s\",\"input\":", a->tool_name);
}

static void whole_messages(const struct sim_ask *a, const struct sim_request *rq, struct buf *out)
{
    (void)rq;
    add_message_head(a, out);
    buf_addz(out, ",\"content\":[");
    if (a->is_tool) {
        add_tool_head(a, out);
        buf_add(out, a->is_cut_short ? SPAN_LIT("{}") : a->text.fixed);
        buf_addc(out, '}');
    } else {
        buf_addz(out, "{\"type\":\"text\",\"text\":\"");
        sim_text_add_json(&a->text, 0, 0, a->visible, out);
        buf_addz(out, "\"}");
    }
    buf_addf(out, "],\"stop_reason\":\"%s\",\"stop_sequence\":null,\"usage\":", stop_reason(a));
    add_usage(&a->bill, a->bill.output, out);
    buf_addz(out, ",\"service_tier\":\"standard\"}}");
}

static void event(struct buf *out, const char *type)
{
    sim_event(out, type);
    buf_addz(out, "{\"type\":\"");
    buf_addz(out, type);
    buf_addc(out, '"');
}

static void stream_begin(const struct sim_ask *a, struct buf *out)
{
    event(out, "message_start");
    buf_addz(out, ",\"message\":");
    add_message_head(a, out);
    buf_addz(out, ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":");
    add_usage(&a->bill, 1, out);
    buf_addz(out, ",\"service_tier\":\"standard\"}}}\n\n");
}

static void stream_open(const struct sim_ask *a, unsigned c, struct buf *out)
{
    event(out, "content_block_start");
    buf_addf(out, ",\"index\":%u,\"content_block\":", c);
    if (a->is_tool) {
        add_tool_head(a, out);
        buf_addz(out, "{}}");
    } else {
        buf_addz(out, "{\"type\":\"text\",\"text\":\"\"}");
    }
    buf_addz(out, "}\n\n");
    event(out, "ping");
    buf_addz(out, "}\n\n");
}

static void stream_piece(const struct sim_ask *a, unsigned c, unsigned from, unsigned to, struct buf *out)
{
    event(out, "content_block_delta");
    buf_addz(out, ",\"index\":");
    buf_addu(out, c);
    buf_addz(out, a->is_tool ? ",\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\""
                             : ",\"delta\":{\"type\":\"text_delta\",\"text\":\"");
    sim_text_add_json(&a->text, c, from, to, out);
    buf_addz(out, "\"}}\n\n");
}

static void stream_finish(const struct sim_ask *a, unsigned c, struct buf *out)
{
    (void)a;
    event(out, "content_block_stop");
    buf_addf(out, ",\"index\":%u}\n\n", c);
}

static void stream_close(const struct sim_ask *a, struct buf *out)
{
    event(out, "message_delta");
    buf_addf(out, ",\"delta\":{\"stop_reason\":\"%s\",\"stop_sequence\":null},\"usage\":", stop_reason(a));
    add_usage(&a->bill, a->bill.output, out);
    buf_addz(out, "}}\n\n");
}

static void stream_done(const struct sim_ask *a, struct buf *out)
{
    (void)a;
    event(out, "message_stop");
    buf_addz(out, "}\n\n");
}

static const struct sim_stream_ops STREAM = {.begin = stream_begin,
                                             .open = stream_open,
                                             .piece = stream_piece,
                                             .finish = stream_finish,
                                             .close = stream_close,
                                             .done = stream_done};

const struct sim_op sim_op_messages = {.path = "/messages",
                                       .name = "messages",
                                       .dialect = SIM_ANTHROPIC,
                                       .decode = decode_messages,
                                       .whole = whole_messages,
                                       .stream = &STREAM};

static void whole_count(const struct sim_ask *a, const struct sim_request *rq, struct buf *out)
{
    (void)rq;
    buf_addf(out, "{\"input_tokens\":%u}", a->bill.input);
}

const struct sim_op sim_op_count_tokens = {.path = "/messages/count_tokens",
                                           .name = "count_tokens",
                                           .dialect = SIM_ANTHROPIC,
                                           .is_unbilled = true,
                                           .decode = decode,
                                           .whole = whole_count};
