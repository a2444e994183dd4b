/* SPDX-License-Identifier: Apache-2.0 */
/* Operations of the OpenAI dialect that follow from their input alone: models, embeddings, moderations,
 * rerank. */
#include "gatewayd/sim/sim_ops.h"

#include <math.h>
#include <stdlib.h>

/* ---- models ---- */

static const char *decode_nothing(struct sim_ask *a, const struct sim_request *rq)
{
    (void)rq;
    a->choices = 0; /* nothing is generated */
    return NULL;
}

/* One shape that clients of both dialects read. */
static void add_model_card(struct buf *out, struct span id, const char *owner)
{
    buf_addz(out, "{\"id\":");
    buf_add_json(out, id);
    buf_addz(out, ",\"object\":\"model\",\"created\":1760000000,\"owned_by\":");
    buf_add_json(out, span_of(owner));
    buf_addz(out, ",\"type\":\"model\",\"display_name\":");
    buf_add_json(out, id);
    buf_addz(out, ",\"created_at\":\"2025-10-09T08:53:20Z\"}");
}

static void whole_models(const struct sim_ask *a, const struct sim_request *rq, struct buf *out)
{
    const char *first = NULL, *last = NULL, *id;

    (void)a;
    buf_addz(out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; (id = sim_profile_model(rq->profile, i)) != NULL; i++) {
        if (i)
            buf_addc(out, ',');
        else
            first = id;
        last = id;
        add_model_card(out, span_of(id), rq->profile->name);
    }
    buf_addz(out, "],\"has_more\":false,\"first_id\":");
    buf_add_json(out, span_of(first ? first : ""));
    buf_addz(out, ",\"last_id\":");
    buf_add_json(out, span_of(last ? last : ""));
    buf_addc(out, '}');
}

static void whole_model(const struct sim_ask *a, const struct sim_request *rq, struct buf *out)
{
    add_model_card(out, span_of(a->model), rq->profile->name);
}

const struct sim_op sim_op_models = {
    .path = "/models", .name = "models", .is_get = true, .decode = decode_nothing, .whole = whole_models};
const struct sim_op sim_op_model = {
    .name = "model", .is_get = true, .decode = decode_nothing, .whole = whole_model};

/* ---- embeddings ---- */

#define DIMENSIONS_MAX 4096u

static const char *decode_embeddings(struct sim_ask *a, const struct sim_request *rq)
{
    struct json_value in = rq->m.input;
    struct json_walk w;
    struct json_member m;

    if (in.type != JSON_STRING && in.type != JSON_ARRAY)
        return "input must be a string or an array";
    if (in.type == JSON_ARRAY && json_walk(&w, in.raw))
        while (json_next(&w, &m)) {
            struct json_walk inner;
            struct json_member t;

            if (m.value.type == JSON_NUMBER)
                a->bill.input++;
            else if (m.value.type == JSON_ARRAY && json_walk(&inner, m.value.raw))
                while (json_next(&inner, &t))
                    a->bill.input += t.value.type == JSON_NUMBER;
        }
    sim_ask_count(a, in, false);
    a->choices = 0; /* no output tokens */
    return NULL;
}

/* The same text has the same vector everywhere; its length is 1. */
static void add_vector(struct buf *out, struct span text, unsigned n, bool is_base64)
{
    static float v[DIMENSIONS_MAX];
    uint64_t h = sim_hash(text);
    double sum = 0;

    for (unsigned i = 0; i < n; i++) {
        v[i] = (float)((double)(sim_mix(h, i) >> 11) * 0x1p-52 - 1.0);
        sum += (double)v[i] * (double)v[i];
    }
    for (unsigned i = 0; i < n; i++)
        v[i] = (float)((double)v[i] / sqrt(sum > 0 ? sum : 1));
    if (is_base64) {
        buf_addc(out, '"');
        sim_add_base64(out, span_make(v, n * sizeof(float)));
        buf_addc(out, '"');
        return;
    }
    buf_addc(out, '[');
    for (unsigned i = 0; i < n; i++)
        buf_addf(out, "%s%.7g", i ? "," : "", (double)v[i]);
    buf_addc(out, ']');
}

static void add_embedding(struct buf *out, unsigned index, struct span text, unsigned n, bool is_base64)
{
    buf_addf(out, "%s{\"object\":\"embedding\",\"index\":%u,\"embedding\":", index ? "," : "", index);
    add_vector(out, text, n, is_base64);
    buf_addc(out, '}');
}

static void whole_embeddings(const struct sim_ask *a, const struct sim_request *rq, struct buf *out)
{
    struct json_value in = rq->m.input;
    bool is_base64 = span_is(json_str_raw(rq->m.encoding_format), "base64");
    uint64_t n = (uint64_t)rq->profile->b.dimensions;
    struct json_walk w;
    struct json_member m;
    unsigned index = 0;

    (void)json_u64(rq->m.dimensions, &n);
    n = n < 1 ? 1 : n > DIMENSIONS_MAX ? DIMENSIONS_MAX : n;
    buf_addz(out, "{\"object\":\"list\",\"data\":[");
    if (in.type == JSON_ARRAY && json_walk(&w, in.raw))
        while (json_next(&w, &m)) {
            if (m.value.type == JSON_NUMBER) {
                add_embedding(out, index++, in.raw, (unsigned)n,
                              is_base64); /* the whole array is one input */
                break;
            }
            add_embedding(out, index++, m.value.raw, (unsigned)n, is_base64);
        }
    else
        add_embedding(out, 0, in.raw, (unsigned)n, is_base64);
    buf_addz(out, "],\"model\":");
    sim_add_model(out, a);
    buf_addf(out, ",\"usage\":{\"prompt_tokens\":%u,\"total_tokens\":%u}}", a->bill.input, a->bill.input);
}

const struct sim_op sim_op_embeddings = {
    .path = "/embeddings", .name = "embeddings", .decode = decode_embeddings, .whole = whole_embeddings};

/* ---- moderations ---- */

static const char *const CATEGORIES[] = {"harassment",
                                         "harassment/threatening",
                                         "hate",
                                         "hate/threatening",
                                         "illicit",
                                         "illicit/violent",
                                         "self-harm",
                                         "self-harm/instructions",
                                         "self-harm/intent",
                                         "sexual",
                                         "sexual/minors",
                                         "violence",
                                         "violence/graphic"};

static const char *decode_moderations(struct sim_ask *a, const struct sim_request *rq)
{
    static char DEFAULT_MODEL[] = "omni-moderation-latest";

    a->choices = 0;
    if (!a->model)
        a->model = strdup(DEFAULT_MODEL);
    sim_ask_count(a, rq->m.input, false);
    return rq->m.input.type == JSON_INVALID ? "input is required" : NULL;
}

static void add_verdict(struct buf *out, struct span text)
{
    bool is_flagged = text.len && memmem(text.p, text.len, "[[flag]]", 8);
    const char *const members[] = {"categories", "category_scores", "category_applied_input_types"};

    buf_addf(out, "{\"flagged\":%s", is_flagged ? "true" : "false");
    for (size_t m = 0; m < ARRAY_LEN(members); m++) {
        buf_addf(out, ",\"%s\":{", members[m]);
        for (size_t i = 0; i < ARRAY_LEN(CATEGORIES); i++) {
            bool is_it = is_flagged && i == 0;
            const char *value = m == 0   ? (is_it ? "true" : "false")
                                : m == 1 ? (is_it ? "0.98" : "0.001")
                                         : "[\"text\"]";

            buf_addf(out, "%s\"%s\":%s", i ? "," : "", CATEGORIES[i], value);
        }
        buf_addc(out, '}');
    }
    buf_addc(out, '}');
}

static void whole_moderations(const struct sim_ask *a, const struct sim_request *rq, struct buf *out)
{
    struct json_value in = rq->m.input;
    struct json_walk w;
    struct json_member m;
    const char *comma = "";

    buf_addz(out, "{\"id\":\"");
    sim_add_id(out, "modr-", a->id);
    buf_addz(out, "\",\"model\":");
    sim_add_model(out, a);
    buf_addz(out, ",\"results\":[");
    if (in.type == JSON_ARRAY && json_walk(&w, in.raw))
        while (json_next(&w, &m)) {
            buf_addz(out, comma);
            add_verdict(out, m.value.raw);
            comma = ",";
        }
    else
        add_verdict(out, in.raw);
    buf_addz(out, "]}");
}

const struct sim_op sim_op_moderations = {.path = "/moderations",
                                          .name = "moderations",
                                          .is_unbilled = true,
                                          .decode = decode_moderations,
                                          .whole = whole_moderations};

/* ---- rerank ---- */

#define DOCUMENTS_MAX 1000u

static const char *decode_rerank(struct sim_ask *a, const struct sim_request *rq)
{
    if (rq->m.query.type != JSON_STRING || rq->m.documents.type != JSON_ARRAY)
        return "query and documents are required";
    sim_ask_count(a, rq->m.query, false);
    sim_ask_count(a, rq->m.documents, false);
    a->choices = 0;
    a->bill.searches = 1;
    return NULL;
}

struct ranked {
    unsigned index;
    uint64_t score; /* of 2^64 */
};

static int by_score(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    return x->score < y->score ? 1 : x->score > y->score ? -1 : 0;
}

static void whole_rerank(const struct sim_ask *a, const struct sim_request *rq, struct buf *out)
{
    static struct ranked ranked[DOCUMENTS_MAX];
    struct json_walk w;
    struct json_member m;
    unsigned n = 0;
    uint64_t top = DOCUMENTS_MAX;
    uint64_t query = sim_hash(rq->m.query.raw);

    if (json_walk(&w, rq->m.documents.raw))
        while (n < DOCUMENTS_MAX && json_next(&w, &m)) {
            ranked[n] = (struct ranked){n, sim_mix(query ^ sim_hash(m.value.raw), 0)};
            n++;
        }
    qsort(ranked, n, sizeof(ranked[0]), by_score);
    (void)json_u64(rq->m.top_n, &top);
    buf_addz(out, "{\"id\":\"");
    sim_add_id(out, "rerank-", a->id);
    buf_addz(out, "\",\"model\":");
    sim_add_model(out, a);
    buf_addz(out, ",\"results\":[");
    for (unsigned i = 0; i < n && i < top; i++)
        buf_addf(out, "%s{\"index\":%u,\"relevance_score\":%.6f}", i ? "," : "", ranked[i].index,
                 (double)(ranked[i].score >> 11) * 0x1p-53);
    buf_addf(out, "],\"meta\":{\"billed_units\":{\"search_units\":1}},\"usage\":{\"total_tokens\":%u}}",
             a->bill.input);
}

const struct sim_op sim_op_rerank = {
    .path = "/rerank", .name = "rerank", .decode = decode_rerank, .whole = whole_rerank};
