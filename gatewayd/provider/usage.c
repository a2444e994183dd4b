/* SPDX-License-Identifier: Apache-2.0 */
/* What vendors mean by their usage objects. Pure, any thread.
 * Invariant: numbers are passed on as reported, also when they contradict each other (more cached than input
 * tokens); pricing clamps. The one correction is xAI's, whose completion_tokens leave out reasoning: it shows
 * in the total. */
#include "gatewayd/provider/usage.h"

#include "gatewayd/provider/key.h"

struct raw_usage { /* as spelt on the wire */
    uint64_t input, output, total;
    uint64_t cached, cache_write, reasoning, searches;
    bool has_input, has_output, has_total;
};

/* Beyond it a number is nonsense: no model reads or writes as much. Sums of an hour of nonsense still fit the books. */
#define COUNT_MAX ((uint64_t)1000000000)

static bool read_count(struct json_value v, uint64_t *out)
{
    uint64_t n;

    if (!json_u64(v, &n) || n > COUNT_MAX)
        return false;
    *out = n;
    return true;
}

static uint64_t count_or_zero(struct json_value v)
{
    uint64_t n = 0;

    return read_count(v, &n) ? n : 0;
}

/* prompt_tokens_details, input_tokens_details, prompt_token_details */
static void read_input_details(struct raw_usage *r, struct span object)
{
    struct json_member m;
    struct json_walk w;

    if (!json_walk(&w, object) || !w.is_object)
        return;
    while (json_next(&w, &m)) {
        if (KEY_IS(m.key, "cached_tokens"))
            r->cached = count_or_zero(m.value);
        else if (KEY_IS(m.key, "cache_write_tokens") || KEY_IS(m.key, "cache_creation_tokens") ||
                 KEY_IS(m.key, "cache_creation_input_tokens"))
            r->cache_write = count_or_zero(m.value);
    }
}

static void read_member(struct raw_usage *r, const struct json_member *m)
{
    struct span key = m->key;

    if (KEY_IS(key, "prompt_tokens") || KEY_IS(key, "input_tokens"))
        r->has_input |= read_count(m->value, &r->input);
    else if (KEY_IS(key, "completion_tokens") || KEY_IS(key, "output_tokens"))
        r->has_output |= read_count(m->value, &r->output);
    else if (KEY_IS(key, "total_tokens"))
        r->has_total |= read_count(m->value, &r->total);
    else if (KEY_IS(key, "prompt_tokens_details") || KEY_IS(key, "input_tokens_details") ||
             KEY_IS(key, "prompt_token_details"))
        read_input_details(r, m->value.raw);
    else if (KEY_IS(key, "completion_tokens_details") || KEY_IS(key, "output_tokens_details") ||
             KEY_IS(key, "completion_token_details"))
        r->reasoning = count_or_zero(json_get(m->value.raw, "reasoning_tokens"));
    else if (KEY_IS(key, "prompt_cache_hit_tokens") || KEY_IS(key, "cached_tokens")) {
        if (!r->cached) /* DeepSeek, Moonshot: beside or instead of the details */
            r->cached = count_or_zero(m->value);
    } else if (KEY_IS(key, "num_search_queries")) {
        r->searches = count_or_zero(m->value);
    } else if (KEY_IS(key, "server_side_tool_usage_details")) {
        r->searches = count_or_zero(json_get(m->value.raw, "web_search_calls")) +
                      count_or_zero(json_get(m->value.raw, "x_search_calls"));
    }
}

bool usage_read_openai(struct usage *u, struct span object)
{
    struct raw_usage r = {0};
    struct json_member m;
    struct json_walk w;
    uint64_t images = u->images;

    if (!json_walk(&w, object) || !w.is_object)
        return false;
    while (json_next(&w, &m))
        read_member(&r, &m);
    if (!r.has_input && !r.has_output) {
        if (!r.has_total)
            return false;
        r.input = r.total; /* rerankers count one number */
    }
    if (r.reasoning && r.has_total && r.total == r.input + r.output + r.reasoning)
        r.output += r.reasoning;
    *u = (struct usage){.input = r.input,
                        .cached = r.cached,
                        .cache_write = r.cache_write,
                        .output = r.output,
                        .reasoning = r.reasoning,
                        .images = images,
                        .searches = r.searches,
                        .source = USAGE_REPORTED};
    return true;
}

/* A later, cumulative count replaces an earlier one; a zero does not undo it (message_delta may repeat only
 * output). */
static void take_newer(uint64_t *slot, struct json_value v)
{
    uint64_t n;

    if (read_count(v, &n) && n)
        *slot = n;
}

bool usage_merge_anthropic(struct usage *u, struct span object)
{
    uint64_t fresh = u->input - u->cached - u->cache_write; /* holds because only this function sets them */
    struct json_member m;
    struct json_walk w;

    if (!json_walk(&w, object) || !w.is_object)
        return false;
    while (json_next(&w, &m)) {
        if (KEY_IS(m.key, "input_tokens"))
            take_newer(&fresh, m.value);
        else if (KEY_IS(m.key, "cache_read_input_tokens"))
            take_newer(&u->cached, m.value);
        else if (KEY_IS(m.key, "cache_creation_input_tokens"))
            take_newer(&u->cache_write, m.value);
        else if (KEY_IS(m.key, "output_tokens"))
            take_newer(&u->output, m.value);
        else if (KEY_IS(m.key, "output_tokens_details"))
            take_newer(&u->reasoning, json_get(m.value.raw, "thinking_tokens"));
        else if (KEY_IS(m.key, "server_tool_use"))
            take_newer(&u->searches, json_get(m.value.raw, "web_search_requests"));
    }
    u->input = fresh + u->cached + u->cache_write;
    u->source = USAGE_REPORTED;
    return true;
}
