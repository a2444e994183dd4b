/* SPDX-License-Identifier: Apache-2.0 */
/* Doubt counts as more: a name that may be written in another way (an escape) is taken for one that reads more, and a tool that
 * is not known to be the caller's own for one that the provider bills. One pass looks for names anywhere in the body, since
 * pictures and files stand deep in it; what stands at the top is walked. */
#include "gatewayd/proxy/reach.h"

#include "libshared/json/json.h"

#define RERANK_BYTES 300u /* at the least, of a unit that rerankers bill */

/* Strings, as names or values, that make a prompt longer than its bytes. */
static const char *const READS_MORE[] = {
    "image_url", "input_image", "image", "document",  "file",      "input_file",           "file_id",
    "file_data", "file_url",    "url",   "video_url", "container", "previous_response_id", "conversation",
    "video",     "input_video",
};

/* Tools that the caller runs, by the beginning of their type. */
static const char *const OWN_TOOLS[] = {"function", "custom",  "bash_",       "text_editor_",
                                        "computer", "memory_", "local_shell", "apply_patch"};

static bool reads_more(struct span s)
{
    for (size_t i = 0; i < ARRAY_LEN(READS_MORE); i++)
        if (s.p[0] == READS_MORE[i][0] && span_is(s, READS_MORE[i]))
            return true;
    return false;
}

/* Short strings, from one quote to the next: an escaped quote ends none that matters. */
static bool names_more(struct span body)
{
    const char *p = body.p, *end = body.p + body.len;

    while (p < end && (p = memchr(p, '"', (size_t)(end - p)))) {
        size_t left = (size_t)(end - ++p);
        const char *close = memchr(p, '"', left < 24 ? left : 24);

        if (close && close > p && reads_more(span_make(p, (size_t)(close - p))))
            return true;
    }
    return false;
}

/* 'a' to 'z', or the '_' that names have; no encoder escapes those. */
static bool is_letter(const char hex[2])
{
    char low = hex[1] | 0x20;

    return (hex[0] == '6' && low != '0') || (hex[0] == '7' && (hex[1] <= '9' || low == 'a')) ||
           (hex[0] == '5' && low == 'f');
}

/* A letter that is written as \u0069, which only hides it. Behind a backslash that is escaped itself it is text. */
static bool hides_letters(struct span body)
{
    const char *p = body.p, *end = body.p + body.len;

    while (p < end && (p = memchr(p, '\\', (size_t)(end - p)))) {
        if (end - p >= 6 && memcmp(p, "\\u00", 4) == 0 && is_letter(p + 4))
            return true;
        p += 2;
    }
    return false;
}

static bool is_there(struct json_value v)
{
    return v.type != JSON_INVALID && v.type != JSON_NULL;
}

static bool has_twice(struct span object, const char *name)
{
    struct json_walk w;
    struct json_member m;
    unsigned n = 0;

    if (json_walk(&w, object) && w.is_object)
        while (json_next(&w, &m))
            n += json_key_is(m.key, name);
    return n > 1;
}

static void refuse(struct reach *r, const char *what, struct span name)
{
    struct span rest = span_make(name.p, name.len < 24 ? name.len : 24);

    if (r->unbounded[0])
        return;
    (void)span_copy(r->unbounded, sizeof(r->unbounded), span_of(what));
    (void)span_copy(r->unbounded + strlen(what), sizeof(r->unbounded) - strlen(what), rest);
}

static void add(uint64_t *sum, uint64_t n)
{
    if (__builtin_add_overflow(*sum, n, sum))
        *sum = UINT64_MAX;
}

static bool is_own(struct span type)
{
    for (size_t i = 0; i < ARRAY_LEN(OWN_TOOLS); i++)
        if (span_starts(type, span_of(OWN_TOOLS[i])))
            return true;
    return type.len == 0; /* Anthropic's custom tools have none */
}

/* Of a call's maximum the tool's own counts (Anthropic), else that of the request (responses). */
static void take_tools(struct json_value tools, uint64_t max_calls, struct reach *r)
{
    struct json_walk w;
    struct json_member m;
    bool has_paid = false;

    if (is_there(tools) && tools.type != JSON_ARRAY)
        refuse(r, "", SPAN_LIT("'tools' that are no list"));
    if (!json_walk(&w, tools.raw))
        return;
    while (json_next(&w, &m)) {
        struct span type = json_str_raw(json_get(m.value.raw, "type"));
        uint64_t uses = 0;

        if (has_twice(m.value.raw, "type") || has_twice(m.value.raw, "max_uses"))
            refuse(r, "", SPAN_LIT("a tool that names twice"));
        if (is_own(type))
            continue;
        r->reads_more = true;
        if (json_u64(json_get(m.value.raw, "max_uses"), &uses))
            add(&r->searches, uses);
        else if (max_calls)
            has_paid = true;
        else
            refuse(r, "an unlimited tool of type ", type);
    }
    if (has_paid)
        add(&r->searches, max_calls);
}

/* What makes some providers ask other models than the one that was priced, or add paid services. */
static const char *const ELSEWHERE[] = {"mcp_servers", "models", "fallbacks", "plugins"};

static uint64_t prompts_of(struct json_value v)
{
    struct json_walk w;
    struct json_member m;
    uint64_t n = 0;

    if (v.type != JSON_ARRAY || !json_walk(&w, v.raw))
        return 1;
    while (json_next(&w, &m))
        n += m.value.type != JSON_NUMBER; /* numbers are the tokens of one */
    return n ? n : 1;
}

static void take_generated(enum operation op, struct span body, struct reach *r)
{
    uint64_t calls = 0, best = 0;
    struct json_value tier = json_get(body, "service_tier"), prediction = json_get(body, "prediction");
    char text[32];
    size_t n;

    (void)json_u64(json_get(body, "max_tool_calls"), &calls);
    if (json_u64(json_get(body, "best_of"), &best) && best > r->choices)
        r->choices = best;
    if (op == OP_COMPLETION &&
        __builtin_mul_overflow(r->choices, prompts_of(json_get(body, "prompt")), &r->choices))
        r->choices = UINT64_MAX;
    r->reads_more |= names_more(body);
    if (hides_letters(body))
        refuse(r, "", SPAN_LIT("letters as escapes"));
    if (is_there(prediction))
        r->predicted = prediction.raw.len;
    if (op == OP_RESPONSES && json_get(body, "prompt").type == JSON_OBJECT)
        r->reads_more = true; /* a stored one */
    take_tools(json_get(body, "tools"), calls, r);
    if (is_there(json_get(body, "web_search_options"))) {
        add(&r->searches, 1);
        r->reads_more = true;
    }
    for (size_t i = 0; i < ARRAY_LEN(ELSEWHERE); i++)
        if (is_there(json_get(body, ELSEWHERE[i])))
            refuse(r, "", span_of(ELSEWHERE[i]));
    if (is_there(json_get(body, "background")) && json_get(body, "background").type != JSON_FALSE)
        refuse(r, "", SPAN_LIT("'background'")); /* its usage comes to nobody here */
    if (json_str(tier, text, sizeof(text), &n) && strcmp(text, "priority") == 0)
        refuse(r, "service tier ", span_of(text)); /* has another price */
    if (memmem(body.p, body.len, "\"input_audio\"", 13) || json_get(body, "audio").type == JSON_OBJECT)
        refuse(r, "", SPAN_LIT("audio")); /* likewise */
}

void reach_scan(enum operation op, struct span body, uint64_t n, struct reach *out)
{
    *out = (struct reach){.choices = n ? n : 1};
    if (op == OP_CHAT || op == OP_COMPLETION || op == OP_MESSAGES || op == OP_RESPONSES)
        take_generated(op, body, out);
    else if (op == OP_RERANK)
        out->searches = 1 + body.len / RERANK_BYTES;
}
