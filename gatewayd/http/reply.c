/* SPDX-License-Identifier: Apache-2.0 */
/* Any thread, no state. The message is a client's or a provider's as often as ours: it is always escaped. */
#include "gatewayd/http/reply.h"

/* Anthropic's error types follow the HTTP status. */
static const char *anthropic_type(int status)
{
    switch (status) {
    case 400:
    case 411:
    case 415:
        return "invalid_request_error";
    case 401:
        return "authentication_error";
    case 402:
        return "billing_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 413:
        return "request_too_large";
    case 429:
        return "rate_limit_error";
    case 503:
        return "overloaded_error";
    case 504:
        return "timeout_error";
    default:
        return "api_error";
    }
}

static void add_member(struct buf *out, struct span member)
{
    if (!member.len)
        return;
    buf_addc(out, ',');
    buf_add(out, member);
}

void reply_error_body(struct buf *out, enum err_code code, struct span message)
{
    reply_error_body_with(out, DIALECT_OPENAI, code, message, SPAN_LIT(""), SPAN_LIT(""));
}

void reply_error_body_with(struct buf *out, enum dialect d, enum err_code code, struct span message,
                           struct span request_id, struct span member)
{
    const struct err_row *row = err_row(code);

    if (d == DIALECT_ANTHROPIC) {
        buf_addf(out,
                 "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", anthropic_type(row->status));
        buf_add_json(out, message);
        add_member(out, member);
        buf_addz(out, "},\"request_id\":");
        buf_add_json(out, request_id);
        buf_addz(out, "}");
        return;
    }
    buf_addz(out, "{\"error\":{\"message\":");
    buf_add_json(out, message);
    buf_addf(out, ",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"", row->type, row->code);
    add_member(out, member);
    buf_addz(out, "}}");
}
