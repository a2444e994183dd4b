/* SPDX-License-Identifier: Apache-2.0 */
/* Names of the closed sets that facts are made of. */
#include "gatewayd/telemetry/facts_priv.h"

const char *token_type_name(enum token_type t)
{
    return t == TOKEN_INPUT ? "input" : "output";
}

const char *token_subset_name(enum token_subset s)
{
    static const char *const NAMES[] = {"cache_read", "cache_write", "reasoning"};
    _Static_assert(ARRAY_LEN(NAMES) == SUBSET_COUNT, "every subset has a name");

    return NAMES[s];
}

const char *tier_name(enum tier t)
{
    return t == TIER_PRIMARY ? "primary" : "fallback";
}

const char *genai_operation_name(enum operation op)
{
    switch (op) {
    case OP_CHAT:
    case OP_MESSAGES:
    case OP_RESPONSES:
        return "chat";
    case OP_COMPLETION:
        return "text_completion";
    default:
        return op < OP_COUNT ? operation_row(op)->label : "unknown";
    }
}

const char *error_type_name(enum error_type t)
{
    static const char *const NAMES[] = {
        "rate_limited",
        "quota",
        "auth",
        "timeout",
        "connect",
        "tls",
        "invalid_request",
        "context_length",
        "content_filter",
        "overloaded",
        "server_error",
        "bad_response",
        "stream_interrupted",
        "unknown",
    };
    _Static_assert(ARRAY_LEN(NAMES) == ERROR_TYPE_COUNT, "every error type has a name");

    return t < ERROR_TYPE_COUNT ? NAMES[t] : "unknown";
}

enum error_type error_type_of(enum err_code code)
{
    switch (code) {
    case ERR_UP_RATE_LIMIT:
    case ERR_OVER_LIMIT:
        return ERROR_TYPE_RATE_LIMITED;
    case ERR_OVER_BUDGET:
        return ERROR_TYPE_QUOTA;
    case ERR_UP_AUTH:
        return ERROR_TYPE_AUTH;
    case ERR_UP_TIMEOUT:
    case ERR_UP_IDLE:
    case ERR_TIMEOUT:
        return ERROR_TYPE_TIMEOUT;
    case ERR_UP_CONNECT:
    case ERR_UP_DNS:
    case ERR_UP_BLOCKED:
    case ERR_UP_RESET:
        return ERROR_TYPE_CONNECT;
    case ERR_UP_TLS:
        return ERROR_TYPE_TLS;
    case ERR_UP_REFUSED:
    case ERR_UNSUPPORTED:
    case ERR_BAD_REQUEST:
    case ERR_BAD_BODY:
        return ERROR_TYPE_INVALID_REQUEST;
    case ERR_UP_OVERLOADED:
    case ERR_OVERLOADED:
        return ERROR_TYPE_OVERLOADED;
    case ERR_UP_SERVER:
        return ERROR_TYPE_SERVER_ERROR;
    case ERR_UP_GARBAGE:
    case ERR_UP_TOO_LARGE:
        return ERROR_TYPE_BAD_RESPONSE;
    case ERR_UP_CUT:
        return ERROR_TYPE_STREAM_INTERRUPTED;
    default:
        return ERROR_TYPE_UNKNOWN;
    }
}
