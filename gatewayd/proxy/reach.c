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

static bool is_one_of(struct span s, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s.p[0] == names[i][0] && span_is(s, names[i]))
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

        if (close && close > p &&
            is_one_of(span_make(p, (size_t)(close - p)), READS_MORE, ARRAY_LEN(READS_MORE)))
            return true;
    }
    return false;
}

/* A letter that is written as \u0069, which only hides it. */
static bool hides_letters(struct span body)
{
    const char *p = body.p, *end = body.p + body.len;

    while (p && p < end && (p = memmem(p, (size_t)(end - p), "\\u00", 4))) {
        p += 4;
        if (end - p >= 2 && (*p == '6' || *p == '7' || (*p == '5' && (p[1] | 0x20) == 'f')))
            return true;
    }
    return false;
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

    if (!json_walk(&w, tools.raw))
        return;
    while (json_next(&w, &m)) {
        struct span type = json_str_raw(json_get(m.value.raw, "type"));
        uint64_t uses = 0;

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
    struct span tier = json_str_raw(json_get(body, "service_tier"));

    (void)json_u64(json_get(body, "max_tool_calls"), &calls);
    if (json_u64(json_get(body, "best_of"), &best) && best > r->choices)
        r->choices = best;
    if (op == OP_COMPLETION &&
        __builtin_mul_overflow(r->choices, prompts_of(json_get(body, "prompt")), &r->choices))
        r->choices = UINT64_MAX;
    r->reads_more |= names_more(body) || hides_letters(body);
    if (op == OP_RESPONSES && json_get(body, "prompt").type == JSON_OBJECT)
        r->reads_more = true; /* a stored one */
    take_tools(json_get(body, "tools"), calls, r);
    if (json_get(body, "web_search_options").type == JSON_OBJECT) {
        add(&r->searches, 1);
        r->reads_more = true;
    }
    if (json_get(body, "mcp_servers").type == JSON_ARRAY)
        refuse(r, "", SPAN_LIT("'mcp_servers'"));
    if (json_get(body, "background").type == JSON_TRUE)
        refuse(r, "", SPAN_LIT("'background'")); /* its usage comes to nobody here */
    if (span_is(tier, "priority"))
        refuse(r, "service tier ", tier); /* has another price */
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
