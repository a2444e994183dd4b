/* SPDX-License-Identifier: Apache-2.0 */
/* One request as the simulated provider understands it, whatever its dialect, and what the answer will cost.
 * The operations that answer it are rows of a table (sim_ops.c); each says how its answer looks, never when
 * or how badly it is sent. */
#ifndef SIM_SIM_ASK_H
#define SIM_SIM_ASK_H

#include "gatewayd/sim/sim_profile.h"
#include "gatewayd/sim/sim_text.h"
#include "gatewayd/sim/sim_wire.h"
#include "libshared/json/json.h"

enum sim_dialect { SIM_OPENAI, SIM_ANTHROPIC, SIM_GEMINI };

struct sim_members {
#define SIM_MEMBER(name) struct json_value name;
#include "gatewayd/sim/sim_members.def"
#undef SIM_MEMBER
};

struct sim_request { /* borrowed while an answer is prepared */
    const struct sim_head *head;
    const struct sim_profile *profile;
    struct span path;          /* behind the provider's name and the version */
    struct span model_in_path; /* Gemini, GET /models/{id} */
    struct span body;
    uint64_t body_hash;
    struct sim_members m;
};

struct sim_op;
struct sim_ask {
    const struct sim_op *op;
    char *model;
    char *owned_fixed; /* behind text.fixed */
    char tool_name[129];
    bool is_stream, wants_usage, usage_every_chunk, is_tool, is_cut_short, is_array_stream;
    const char *content_type; /* of the buffered answer; NULL: JSON */
    unsigned choices;         /* 0: nothing is generated */
    unsigned chunk_tokens;
    unsigned extra_output; /* output tokens that are not text */
    unsigned visible;      /* tokens of text per choice */
    uint64_t max_tokens;   /* 0: not limited by the request */
    uint64_t prompt_bytes; /* summed over the whole request before they are divided */
    uint64_t id;
    int64_t created;
    struct sim_text text;
    struct sim_bill bill; /* when the answer is complete */
};

struct sim_stream_ops { /* events of a stream in this order; each function adds whole events */
    void (*begin)(const struct sim_ask *a, struct buf *out);
    void (*open)(const struct sim_ask *a, unsigned choice, struct buf *out);
    void (*piece)(const struct sim_ask *a, unsigned choice, unsigned from, unsigned to, struct buf *out);
    void (*finish)(const struct sim_ask *a, unsigned choice, struct buf *out);
    void (*close)(const struct sim_ask *a, struct buf *out);
    void (*done)(const struct sim_ask *a, struct buf *out);  /* the end marker */
    void (*error)(const struct sim_ask *a, struct buf *out); /* NULL: the dialect's usual one */
};

struct sim_op {
    const char *path; /* behind the version; NULL: matched by its own rule */
    const char *name; /* in the truth */
    enum sim_dialect dialect;
    bool is_get, is_multipart, is_unbilled;
    /* Fills what the operation knows; returns NULL or why the request is refused (400). */
    const char *(*decode)(struct sim_ask *a, const struct sim_request *rq);
    void (*whole)(const struct sim_ask *a, const struct sim_request *rq, struct buf *out);
    const struct sim_stream_ops *stream; /* NULL: never streams */
};

/* Sets rq->path's operation and rq->model_in_path; NULL: no such path. */
const struct sim_op *sim_op_find(struct sim_request *rq, bool is_get);
enum sim_dialect sim_dialect_of(struct span path);

/* Reads the body and settles tokens, text and ids. Returns NULL, or why the request is refused; `a` is to be
 * released in either case. */
const char *sim_ask_decode(struct sim_ask *a, struct sim_request *rq, uint64_t seed, uint64_t number);
void sim_ask_release(struct sim_ask *a);
/* Output tokens that `visible` tokens of text so far stand for, and the whole bill of a stream that ends
 * there. */
struct sim_bill sim_ask_bill_so_far(const struct sim_ask *a, unsigned visible);

/* For operations: adds to the prompt what the rule counts in `v`. */
void sim_ask_count(struct sim_ask *a, struct json_value v, bool is_message_list);
const char *sim_ask_chat(struct sim_ask *a, const struct sim_request *rq, struct json_value messages,
                         struct json_value system);

/* The body of an error answer, and the event of an error inside a stream. */
void sim_error_body(enum sim_dialect d, int status, const char *why, uint64_t id, struct buf *out);
void sim_error_event(const struct sim_ask *a, struct buf *out);

/* Helpers that every dialect uses. */
void sim_add_id(struct buf *out, const char *prefix, uint64_t id);
void sim_event(struct buf *out, const char *event_or_null);
void sim_add_model(struct buf *out, const struct sim_ask *a);

#endif
