/* SPDX-License-Identifier: Apache-2.0 */
/* Behaviour profiles: the first segment of a request's path names one. Chance is a counter-based draw, a pure
 * function of (seed, profile name, request number), so a run can be repeated. */
#ifndef SIM_SIM_PROFILE_H
#define SIM_SIM_PROFILE_H

#include "libshared/base/err.h"
#include "libshared/base/span.h"

struct json_t; /* jansson's; its header and ours on reading JSON do not go together */

enum sim_fault {
    SIM_FAULT_NONE,
#define SIM_FAULT(id, name, status) SIM_FAULT_##id,
#include "gatewayd/sim/sim_faults.def"
#undef SIM_FAULT
    SIM_FAULT_COUNT
};

const char *sim_fault_name(enum sim_fault f); /* "ok" for none */
int sim_fault_status(enum sim_fault f);
/* SIM_FAULT_COUNT when there is none of that name. */

struct sim_behaviour {
    double latency_ms, jitter_ms; /* answer begins after latency + [0, jitter) */
    double ttft_ms;               /* first token of a stream; 0 means with the head */
    double tail_share, tail_ms;   /* that share of requests takes tail_ms longer */
    double tokens_per_s;          /* 0: as fast as the socket takes them */
    double chunk_tokens;
    double frame_bytes; /* stream events are padded to this size */
    double drip_ms;     /* pace of the slow faults */
    double cached_share, cache_write_share, reasoning_share;
    double retry_after_s; /* on 429, 503 and 529; below 0: no such header */
    double dimensions;    /* of embeddings, when the request does not say */
    bool sse_crlf, sse_comments, usage_every_chunk, strict_models;
    unsigned output_min, output_max; /* tokens */
    char *require_key;               /* NULL: any key will do */
    /* Ready header lines for every answer, and for error answers; NULL: none. */
    char *headers, *error_headers;
    struct json_t *models;          /* array of ids; NULL: the built-in list */
    double faults[SIM_FAULT_COUNT]; /* probabilities */
};

#define SIM_PROFILE_NAME_MAX 32u
#define SIM_PROFILES_MAX     4096u    /* a test names a handful; fuzzed paths must not fill the memory */
#define SIM_SCRIPT_MAX       1000000u /* steps, one byte each */

struct sim_profile {
    struct sim_profile *next; /* in its hash chain */
    char name[SIM_PROFILE_NAME_MAX + 1];
    unsigned index;
    uint64_t name_hash;
    struct sim_behaviour b;
    unsigned char *script;
    size_t script_len, script_at;
    uint64_t n_posts, n_gets; /* drawn so far */
};

struct sim_profiles;
struct sim_profiles *sim_profiles_new(void);
void sim_profiles_free(struct sim_profiles *ps);
/* Made on first use; NULL when the name is not [a-z0-9-]{1,32} or the maximum is reached. */
struct sim_profile *sim_profiles_get(struct sim_profiles *ps, struct span name);
struct sim_profile *sim_profiles_at(const struct sim_profiles *ps, unsigned index); /* NULL past the last */
/* Default behaviour, no script, counters at 0. */
void sim_profile_reset(struct sim_profile *p);
/* `is_patch` keeps members that are not named; otherwise they get their default. On failure nothing has
 * changed. */
NODISCARD enum err_code sim_profile_set(struct sim_profile *p, const struct json_t *doc, bool is_patch,
                                        struct err *err);
struct json_t *sim_profile_json(const struct sim_profile *p); /* new reference */
/* Id of the model at `index`, NULL past the last. */
const char *sim_profile_model(const struct sim_profile *p, size_t index);

struct sim_draw {
    uint64_t number; /* of this request on its profile, from 0 */
    enum sim_fault fault;
    int64_t delay_us;
};
/* POSTs take the script's next step, then chance; GETs only chance, with a counter of their own. */
struct sim_draw sim_profile_draw(struct sim_profile *p, uint64_t seed, bool is_post);

#endif
