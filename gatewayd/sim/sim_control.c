/* SPDX-License-Identifier: Apache-2.0 */
/* The control endpoint, /_sim/…: profiles, options, truth. A row of ROUTES each. */
#include "gatewayd/sim/sim_server.h"

#include <jansson.h>
#include <stdlib.h>

#define LINES_DEFAULT 20000u /* a line is about 600 bytes; the client asks again behind the last one */

struct call {
    struct sim_server *sv;
    struct span method, rest; /* of the path, behind the route */
    struct span query, body;
    struct sim_reply *reply;
};

static void fail(struct call *k, int status, const char *why)
{
    k->reply->status = status;
    buf_clear(&k->reply->body);
    buf_addz(&k->reply->body, "{\"error\":");
    buf_add_json(&k->reply->body, span_of(why));
    buf_addz(&k->reply->body, "}\n");
}

static void reply_json(struct call *k, json_t *doc)
{
    char *text = doc ? json_dumps(doc, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) : NULL;

    if (text) {
        buf_addz(&k->reply->body, text);
        buf_addc(&k->reply->body, '\n');
    } else {
        fail(k, 500, "cannot be shown as JSON");
    }
    free(text);
    json_decref(doc);
}

/* The body as a document; an empty body is an empty object. */
static json_t *read_json(struct call *k)
{
    json_error_t e;
    json_t *doc =
        k->body.len ? json_loadb(k->body.p, k->body.len, JSON_REJECT_DUPLICATES, &e) : json_object();

    if (!doc)
        fail(k, 400, e.text);
    return doc;
}

static uint64_t query_number(const struct call *k, const char *name, uint64_t otherwise)
{
    uint64_t v;

    return span_to_u64(sim_query_get(k->query, name), &v) ? v : otherwise;
}

static void list_profiles(struct call *k)
{
    json_t *doc = json_object();
    struct sim_profile *p;

    for (unsigned i = 0; (p = sim_profiles_at(k->sv->profiles, i)) != NULL; i++)
        (void)json_object_set_new(doc, p->name, sim_profile_json(p));
    reply_json(k, doc);
}

static void one_profile(struct call *k)
{
    struct sim_profile *p = sim_profiles_get(k->sv->profiles, k->rest);
    bool is_patch = span_is(k->method, "PATCH");
    struct err err = {0};

    if (!p) {
        fail(k, 404, "a profile's name is 1 to 32 of a-z, 0-9 and -");
        return;
    }
    if (span_is(k->method, "DELETE")) {
        sim_profile_reset(p);
    } else if (is_patch || span_is(k->method, "PUT")) {
        json_t *doc = read_json(k);
        enum err_code e = doc ? sim_profile_set(p, doc, is_patch, &err) : ERR_OK;

        json_decref(doc);
        if (e)
            fail(k, 400, err_text(&err));
        if (e || !doc)
            return;
    } else if (!span_is(k->method, "GET")) {
        fail(k, 405, "GET, PUT, PATCH or DELETE");
        return;
    }
    reply_json(k, sim_profile_json(p));
}

static void put_options(struct call *k)
{
    json_t *doc = read_json(k);
    const json_t *keep = json_object_get(doc, "keep_bodies");
    const json_t *bytes = json_object_get(doc, "keep_bytes");
    const json_t *seed = json_object_get(doc, "seed");

    if (!doc)
        return;
    if (json_is_integer(seed))
        k->sv->seed = (uint64_t)json_integer_value(seed);
    if (keep)
        sim_truth_keep_bodies(k->sv->truth, json_is_true(keep),
                              json_is_integer(bytes) ? (size_t)json_integer_value(bytes) : SIM_BODIES_BYTES);
    json_decref(doc);
    reply_json(k, json_pack("{sb sI}", "keep_bodies", json_is_true(keep), "seed", (json_int_t)k->sv->seed));
}

static void post_reset(struct call *k)
{
    json_t *doc = read_json(k);
    bool keep_profiles = json_is_true(json_object_get(doc, "keep_profiles"));
    struct sim_profile *p;

    if (!doc)
        return;
    json_decref(doc);
    sim_truth_reset(k->sv->truth);
    for (unsigned i = 0; (p = sim_profiles_at(k->sv->profiles, i)) != NULL; i++) {
        if (!keep_profiles)
            sim_profile_reset(p);
        p->n_posts = p->n_gets = 0;
    }
    k->sv->incomplete = k->sv->refused = 0;
    reply_json(k, json_object());
}

static void get_truth(struct call *k)
{
    const struct sim_server *sv = k->sv;
    struct buf *out = &k->reply->body;

    buf_addf(out,
             "{\"seed\":%llu,\"connections\":%llu,\"accepted\":%llu,\"incomplete\":%llu,\"malformed\":%llu,",
             (unsigned long long)sv->seed, (unsigned long long)sv->n_conns, (unsigned long long)sv->accepted,
             (unsigned long long)sv->incomplete, (unsigned long long)sv->refused);
    sim_truth_sums(sv->truth, out);
    buf_addz(out, "}\n");
}

static void get_log(struct call *k)
{
    k->reply->content_type = "application/x-ndjson";
    sim_truth_lines(k->sv->truth, query_number(k, "after", 0), query_number(k, "limit", LINES_DEFAULT),
                    &k->reply->body);
}

static void get_body(struct call *k)
{
    struct span head, body;

    if (!sim_truth_body(k->sv->truth, query_number(k, "seq", 0), &head, &body)) {
        fail(k, 404, "not kept; turn keep_bodies on before the request");
        return;
    }
    k->reply->content_type = "application/octet-stream";
    buf_add(&k->reply->body, span_is(sim_query_get(k->query, "part"), "head") ? head : body);
}

static const struct {
    const char *method; /* NULL: any, the handler looks */
    const char *path;
    bool takes_rest;
    void (*run)(struct call *k);
} ROUTES[] = {
    {NULL, "/_sim/profiles/", true, one_profile}, {"GET", "/_sim/profiles", false, list_profiles},
    {"PUT", "/_sim/options", false, put_options}, {"POST", "/_sim/reset", false, post_reset},
    {"GET", "/_sim/truth", false, get_truth},     {"GET", "/_sim/truth/log", false, get_log},
    {"GET", "/_sim/bodies", false, get_body},
};

void sim_control(struct sim_server *sv, const struct sim_head *head, struct span body, struct sim_reply *out)
{
    struct call k = {.sv = sv, .method = head->method, .query = head->query, .body = body, .reply = out};

    out->body.max = SIM_OUT_MAX;
    for (size_t i = 0; i < ARRAY_LEN(ROUTES); i++) {
        struct span path = span_of(ROUTES[i].path);
        bool is_match = ROUTES[i].takes_rest ? span_starts(head->path, path) : span_eq(head->path, path);

        if (!is_match || (ROUTES[i].method && !span_is(head->method, ROUTES[i].method)))
            continue;
        k.rest = span_make(head->path.p + path.len, head->path.len - path.len);
        ROUTES[i].run(&k);
        return;
    }
    fail(&k, 404, "no such control path");
}
