/* SPDX-License-Identifier: Apache-2.0 */
/* Reads error answers of every OpenAI- and Anthropic-like vendor and says what they mean for the next
 * attempt. Pure, any thread. Tricky: vendors disagree about status codes (a bad key can be 400, an empty
 * account 400, 402 or 429), so words in `code`, `type` and, for a few known sentences, `message` go before
 * the status. */
#include "gatewayd/provider/judge.h"

#include <stdio.h>
#include <strings.h>

#include "libshared/json/json.h"

/* ---- reading ---- */

static void read_text(struct json_value v, char *dst, size_t cap)
{
    if (v.type == JSON_NUMBER)
        (void)span_copy(dst, cap, v.raw);
    else if (v.type == JSON_STRING && !json_str(v, dst, cap, NULL))
        (void)span_copy(dst, cap,
                        json_str_raw(v)); /* too long or odd: the raw beginning serves for matching */
}

static void read_status(struct wire_error *e, struct span text)
{
    uint64_t n;

    if (!e->status && span_to_u64(text, &n) && n >= 400 && n <= 599)
        e->status = (int)n;
}

static void read_code(struct wire_error *e, struct json_value v)
{

    if (v.type == JSON_NULL || v.type == JSON_INVALID)
        return;
    read_text(v, e->code, sizeof(e->code));
    read_status(e, span_of(e->code));
    if (e->status) /* a number names nothing */
        e->code[0] = '\0';
}

void wire_error_read_object(struct wire_error *e, struct span value)
{
    struct json_member m;
    struct json_walk w;

    *e = (struct wire_error){.is_present = true};
    if (!json_walk(&w, value)) {
        read_text(json_value(value), e->message, sizeof(e->message));
        return;
    }
    if (!w.is_object)
        return;
    while (json_next(&w, &m)) {
        if (json_key_is(m.key, "message"))
            read_text(m.value, e->message, sizeof(e->message));
        else if (json_key_is(m.key, "type"))
            read_text(m.value, e->type, sizeof(e->type));
        else if (json_key_is(m.key, "code"))
            read_code(e, m.value);
        else if (json_key_is(m.key, "status") && m.value.type == JSON_STRING && !e->code[0])
            read_text(m.value, e->code, sizeof(e->code));
        else if (json_key_is(m.key, "status") && m.value.type == JSON_NUMBER)
            read_status(e, m.value.raw);
    }
}

void wire_error_read(struct wire_error *e, struct span body)
{
    struct json_value v = json_value(body);
    struct json_value error, kind, detail;
    struct json_member first;
    struct json_walk w;

    *e = (struct wire_error){0};
    if (v.type == JSON_ARRAY && json_walk(&w, v.raw) && json_next(&w, &first))
        v = first.value;
    if (v.type != JSON_OBJECT)
        return;
    error = json_get(v.raw, "error");
    if (error.type == JSON_OBJECT || error.type == JSON_STRING) {
        wire_error_read_object(e, error.raw);
        return;
    }
    kind = json_get(v.raw, "object");
    detail = json_get(v.raw, "detail");
    if (span_is(kind.raw, "\"error\"") || span_is(json_get(v.raw, "type").raw, "\"error\"") ||
        json_get(v.raw, "message").type == JSON_STRING)
        wire_error_read_object(e, v.raw);
    else if (detail.type == JSON_STRING || detail.type == JSON_OBJECT || detail.type == JSON_ARRAY)
        wire_error_read_object(e, detail.raw);
}

/* ---- judging by words ---- */

enum meaning {
    MEANS_NOTHING,
    MEANS_QUOTA,
    MEANS_RATE,
    MEANS_AUTH,
    MEANS_MODEL,
    MEANS_OVERLOADED,
    MEANS_TIMEOUT,
    MEANS_SERVER,
    MEANS_CALLER
};

/* Parts of code and type, the telling ones first. */
static const struct word {
    const char *part;
    enum meaning meaning;
} WORDS[] = {
    {"insufficient_quota", MEANS_QUOTA},
    {"insufficient_balance", MEANS_QUOTA},
    {"quota_exceeded", MEANS_QUOTA},
    {"exceeded_current_quota", MEANS_QUOTA},
    {"billing", MEANS_QUOTA},
    {"credit", MEANS_QUOTA},
    {"rate_limit", MEANS_RATE},
    {"ratelimit", MEANS_RATE},
    {"too_many_requests", MEANS_RATE},
    {"throttl", MEANS_RATE},
    {"resource_exhausted", MEANS_RATE},
    {"model_not", MEANS_MODEL},
    {"deploymentnotfound", MEANS_MODEL},
    {"model_decommissioned", MEANS_MODEL},
    {"unknown_model", MEANS_MODEL},
    {"invalid_model", MEANS_MODEL},
    {"unsupported_model", MEANS_MODEL},
    {"no_such_model", MEANS_MODEL},
    {"api_key", MEANS_AUTH},
    {"authentication", MEANS_AUTH},
    {"unauthenticated", MEANS_AUTH},
    {"permission", MEANS_AUTH},
    {"unauthorized", MEANS_AUTH},
    {"account_deactivated", MEANS_AUTH},
    {"overloaded", MEANS_OVERLOADED},
    {"capacity", MEANS_OVERLOADED},
    {"unavailable", MEANS_OVERLOADED},
    {"slow_down", MEANS_OVERLOADED},
    {"timeout", MEANS_TIMEOUT},
    {"deadline_exceeded", MEANS_TIMEOUT},
    {"server_error", MEANS_SERVER},
    {"api_error", MEANS_SERVER},
    {"internal", MEANS_SERVER},
    {"content_", MEANS_CALLER},
    {"context_length", MEANS_CALLER},
    {"moderation", MEANS_CALLER},
    {"too_large", MEANS_CALLER},
    {"invalid", MEANS_CALLER},
    {"bad_request", MEANS_CALLER},
    {"unsupported", MEANS_CALLER},
    {"unprocessable", MEANS_CALLER},
    {"failed_precondition", MEANS_CALLER},
};

/* Sentences that some vendors send without any telling code. */
static const struct word SENTENCES[] = {
    {"credit balance is too low", MEANS_QUOTA},
    {"insufficient balance", MEANS_QUOTA},
    {"exceeded your current quota", MEANS_QUOTA},
    {"insufficient credits", MEANS_QUOTA},
    {"api key not valid", MEANS_AUTH},
    {"incorrect api key", MEANS_AUTH},
    {"invalid api key", MEANS_AUTH},
    {"flagged", MEANS_CALLER},
    {"model not found", MEANS_MODEL},
    {"model does not exist", MEANS_MODEL},
    {"model: ", MEANS_MODEL},
    {"is not found for api version", MEANS_MODEL},
};

static enum meaning look_up(const struct word *words, size_t n, const char *text)
{
    for (size_t i = 0; text[0] && i < n; i++)
        if (strcasestr(text, words[i].part))
            return words[i].meaning;
    return MEANS_NOTHING;
}

static enum meaning meaning_of(const struct wire_error *e)
{
    enum meaning by_code = look_up(WORDS, ARRAY_LEN(WORDS), e->code);
    enum meaning by_type = look_up(WORDS, ARRAY_LEN(WORDS), e->type);
    enum meaning by_message;

    if (by_code != MEANS_NOTHING && by_code != MEANS_CALLER)
        return by_code;
    if (by_type != MEANS_NOTHING && by_type != MEANS_CALLER)
        return by_type;
    by_message = look_up(SENTENCES, ARRAY_LEN(SENTENCES), e->message);
    if (by_message != MEANS_NOTHING)
        return by_message;
    return by_code != MEANS_NOTHING ? by_code : by_type;
}

static enum err_code code_of(enum meaning m)
{
    switch (m) {
    case MEANS_QUOTA:
    case MEANS_RATE:
        return ERR_UP_RATE_LIMIT;
    case MEANS_AUTH:
        return ERR_UP_AUTH;
    case MEANS_MODEL:
    case MEANS_CALLER:
        return ERR_UP_REFUSED;
    case MEANS_OVERLOADED:
        return ERR_UP_OVERLOADED;
    case MEANS_TIMEOUT:
        return ERR_UP_TIMEOUT;
    case MEANS_NOTHING:
    case MEANS_SERVER:
        break;
    }
    return ERR_UP_SERVER;
}

/* ---- judging by status ---- */

static enum err_code code_of_status(int status)
{
    switch (status) {
    case 401:
    case 403:
        return ERR_UP_AUTH;
    case 402: /* the gateway's account at the provider is empty */
    case 429:
        return ERR_UP_RATE_LIMIT;
    case 408:
    case 504:
    case 522:
    case 524:
        return ERR_UP_TIMEOUT;
    case 498: /* Groq: the flex tier has no room */
    case 503:
    case 529:
        return ERR_UP_OVERLOADED;
    default:
        break;
    }
    if (status >= 500)
        return ERR_UP_SERVER;
    return status >= 400 ? ERR_UP_REFUSED : ERR_UP_GARBAGE;
}

enum err_code judge_error(const struct wire_error *e)
{
    enum meaning m = meaning_of(e);

    return m == MEANS_NOTHING && e->status ? code_of_status(e->status) : code_of(m);
}

void judge_answer_error(struct answer *a, const struct wire_error *e)
{
    const char *name = e->code[0] ? e->code : e->type;

    if (a->end == ANSWER_ERROR)
        return;
    a->end = ANSWER_ERROR;
    a->error = judge_error(e);
    /* Messages about the request or about credentials quote what they refuse, so only the others are kept. */
    if (a->error != ERR_UP_REFUSED && a->error != ERR_UP_AUTH && e->message[0])
        (void)snprintf(a->error_text, sizeof(a->error_text), "%s%s%.90s", name, name[0] ? ": " : "",
                       e->message);
    else
        (void)snprintf(a->error_text, sizeof(a->error_text), "%s", name[0] ? name : err_row(a->error)->text);
}

static bool is_word_of_4xx_trusted(int status)
{
    return status >= 400 && status < 500;
}

static struct failure judge_refusal(struct failure f, enum meaning m, int status, bool is_error_object)
{
    if (m == MEANS_CALLER && status != 409) /* also a 403 or 404 about what the caller sent */
        return f;
    if (m == MEANS_MODEL) {
        f.is_retryable = f.is_next_only = true;
    } else if (status == 404 || status == 405) {
        /* No error object: that address does not serve the operation at all, another target may. */
        f.is_retryable = f.is_next_only = !is_error_object;
    } else if (status == 409 || status == 425 || status == 423) {
        f.is_retryable = true;
    }
    return f;
}

static void apply_should_retry(struct failure *f, struct span value)
{
    if (span_eq_nocase(value, SPAN_LIT("true"))) {
        f->is_retryable = true;
        f->is_next_only = false;
    } else if (span_eq_nocase(value, SPAN_LIT("false"))) {
        f->is_next_only = true; /* said of this provider; it cannot speak for the next */
    }
}

struct failure judge_failure(int status, const struct answer_headers *h, struct span body, int64_t now_unix_s)
{
    struct failure f = {.retry_after_ms = -1};
    enum meaning m;
    struct wire_error e;

    wire_error_read(&e, body);
    m = meaning_of(&e);
    (void)snprintf(f.reason, sizeof(f.reason), "%s", e.code[0] ? e.code : e.type);
    f.code = code_of_status(status);
    if (is_word_of_4xx_trusted(status) &&
        (m == MEANS_QUOTA || m == MEANS_AUTH || m == MEANS_RATE || m == MEANS_OVERLOADED))
        f.code = code_of(m);
    else if (status == 403 && m == MEANS_CALLER)
        f.code = ERR_UP_REFUSED;
    if (f.code == ERR_UP_REFUSED) {
        f = judge_refusal(f, m, status, e.is_present);
    } else {
        f.is_retryable = f.is_breaker_failure = true;
        f.is_next_only =
            f.code == ERR_UP_AUTH || m == MEANS_QUOTA || status == 402 || f.code == ERR_UP_GARBAGE;
    }
    f.retry_after_ms = judge_retry_after_ms(h, f.code == ERR_UP_RATE_LIMIT && !f.is_next_only, now_unix_s);
    apply_should_retry(&f, span_trim(h->should_retry));
    return f;
}
