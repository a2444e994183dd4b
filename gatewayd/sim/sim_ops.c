/* SPDX-License-Identifier: Apache-2.0 */
/* The table of operations, and what all dialects share: paths, ids, event lines, errors. */
#include "gatewayd/sim/sim_ops.h"

static const struct sim_op *const OPS[] = {
#define SIM_OP(name) &sim_op_##name,
#include "gatewayd/sim/sim_ops.def"
#undef SIM_OP
};

/* /v1/models/gpt-4o:generateContent and its streaming sister carry the model in the path. */
static const struct sim_op *find_gemini(struct sim_request *rq)
{
    struct span rest = rq->path;
    struct span model, verb;

    if (!span_starts(rest, SPAN_LIT("/models/")))
        return NULL;
    rest = span_make(rest.p + 8, rest.len - 8);
    verb = rest;
    model = span_split(&verb, ':');
    while (memchr(verb.p ? verb.p : "", ':', verb.len)) /* the verb is behind the last colon */
        (void)span_split(&verb, ':');
    if (!verb.p || !model.len)
        return NULL;
    rq->model_in_path = span_make(rest.p, rest.len - verb.len - 1);
    if (span_is(verb, "generateContent"))
        return &sim_op_gemini;
    return span_is(verb, "streamGenerateContent") ? &sim_op_gemini_stream : NULL;
}

const struct sim_op *sim_op_find(struct sim_request *rq, bool is_get)
{
    for (size_t i = 0; i < ARRAY_LEN(OPS); i++)
        if (OPS[i]->path && OPS[i]->is_get == is_get && span_is(rq->path, OPS[i]->path))
            return OPS[i];
    if (!is_get)
        return find_gemini(rq);
    if (span_starts(rq->path, SPAN_LIT("/models/")) && rq->path.len > 8) {
        rq->model_in_path = span_make(rq->path.p + 8, rq->path.len - 8);
        return &sim_op_model;
    }
    return NULL;
}

enum sim_dialect sim_dialect_of(struct span path)
{
    if (span_starts(path, SPAN_LIT("/messages")))
        return SIM_ANTHROPIC;
    return memmem(path.p, path.len, "enerateContent", 14) ? SIM_GEMINI : SIM_OPENAI;
}

void sim_add_id(struct buf *out, const char *prefix, uint64_t id)
{
    unsigned char b[8];
    char hex[17];

    for (int i = 0; i < 8; i++)
        b[i] = (unsigned char)(id >> (56 - 8 * i));
    hex_encode(b, sizeof(b), hex);
    buf_addz(out, prefix);
    buf_add(out, span_make(hex, 16));
}

void sim_event(struct buf *out, const char *event_or_null)
{
    if (event_or_null) {
        buf_add(out, SPAN_LIT("event: "));
        buf_addz(out, event_or_null);
        buf_addc(out, '\n');
    }
    buf_add(out, SPAN_LIT("data: "));
}

void sim_add_model(struct buf *out, const struct sim_ask *a)
{
    buf_add_json(out, span_of(a->model ? a->model : ""));
}

/* ---- errors ---- */

static const struct error_row {
    int status;
    const char *openai_type, *openai_code, *anthropic, *gemini, *text;
} ERRORS[] = {
    {400, "invalid_request_error", NULL, "invalid_request_error", "INVALID_ARGUMENT",
     "the request is not valid"},
    {401, "invalid_request_error", "invalid_api_key", "authentication_error", "UNAUTHENTICATED",
     "incorrect API key provided"},
    {402, "insufficient_quota", "insufficient_quota", "billing_error", "FAILED_PRECONDITION",
     "the account has no credit left"},
    {403, "invalid_request_error", "permission_denied", "permission_error", "PERMISSION_DENIED",
     "not allowed for this key"},
    {404, "invalid_request_error", "model_not_found", "not_found_error", "NOT_FOUND",
     "the model does not exist"},
    {405, "invalid_request_error", "method_not_supported", "invalid_request_error", "INVALID_ARGUMENT",
     "the method is not allowed here"},
    {408, "server_error", "timeout", "timeout_error", "DEADLINE_EXCEEDED", "the request timed out"},
    {413, "invalid_request_error", "request_too_large", "request_too_large", "INVALID_ARGUMENT",
     "the request is too large"},
    {422, "invalid_request_error", "unprocessable", "invalid_request_error", "INVALID_ARGUMENT",
     "the request cannot be processed"},
    {429, "requests", "rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED", "rate limit reached"},
    {500, "server_error", NULL, "api_error", "INTERNAL",
     "the server had an error while processing the request"},
    {502, "server_error", NULL, "api_error", "UNAVAILABLE", "bad gateway"},
    {503, "server_error", "overloaded", "overloaded_error", "UNAVAILABLE", "the engine is overloaded"},
    {504, "server_error", "timeout", "timeout_error", "DEADLINE_EXCEEDED", "the server timed out"},
    {529, "server_error", "overloaded", "overloaded_error", "UNAVAILABLE", "overloaded"},
};

static const struct error_row *error_row(int status)
{
    for (size_t i = 0; i < ARRAY_LEN(ERRORS); i++)
        if (ERRORS[i].status == status)
            return &ERRORS[i];
    return &ERRORS[0];
}

void sim_error_body(enum sim_dialect d, int status, const char *why, uint64_t id, struct buf *out)
{
    const struct error_row *row = error_row(status);
    struct span text = span_of(why ? why : row->text);

    if (d == SIM_ANTHROPIC) {
        buf_addf(out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", row->anthropic);
        buf_add_json(out, text);
        buf_addz(out, "},\"request_id\":\"");
        sim_add_id(out, "req_", id);
        buf_addz(out, "\"}");
    } else if (d == SIM_GEMINI) {
        buf_addf(out, "{\"error\":{\"code\":%d,\"message\":", status);
        buf_add_json(out, text);
        buf_addf(out, ",\"status\":\"%s\"}}", row->gemini);
    } else {
        buf_addz(out, "{\"error\":{\"message\":");
        buf_add_json(out, text);
        buf_addf(out, ",\"type\":\"%s\",\"param\":null,\"code\":", row->openai_type);
        if (row->openai_code)
            buf_addf(out, "\"%s\"}}", row->openai_code);
        else
            buf_addz(out, "null}}");
    }
}

void sim_error_event(const struct sim_ask *a, struct buf *out)
{
    bool is_plain = a->op->dialect == SIM_OPENAI;

    if (a->op->stream->error) {
        a->op->stream->error(a, out);
        return;
    }

    sim_event(out, a->op->dialect == SIM_ANTHROPIC ? "error" : NULL);
    sim_error_body(a->op->dialect, is_plain ? 500 : 529, NULL, a->id, out);
    buf_addz(out, "\n\n");
}
