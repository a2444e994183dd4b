/* SPDX-License-Identifier: Apache-2.0 */
/* What redis.c (choosing what to read) and redis_fields.c (understanding it) share. */
#ifndef AIGWTOP_SOURCE_REDIS_PRIV_H
#define AIGWTOP_SOURCE_REDIS_PRIV_H

#include "aigwtop/source/source.h"
#include "libshared/store/kv.h"
#include "libshared/store/kv_keys.h"

#define KNOWN_TENS    88 /* two less than live in the store */
#define SCAN_EVERY_US INT64_C(30000000)

enum want_kind {
    WANT_MODELS,
    WANT_TEN,
    WANT_HEALTH,
    WANT_BREAKERS,
    WANT_EVENTS,
    WANT_INSTANCE,
    WANT_TENANTS,
    WANT_BUDGET,
    WANT_ERRORS
};

struct want { /* one key of the next reading */
    enum want_kind kind;
    int what;
    char key[KV_KEY_CAP];
    int64_t a, b;
    size_t pair;   /* which pair, instance or budget */
    int64_t ten_s; /* start of the span */
    struct slice got;
    size_t fields;
};

struct known { /* a provider, or a model of one */
    char provider[TOP_NAME], model[TOP_NAME];
    int64_t used_s;
    bool is_listed;
    uint64_t asked_in;        /* the reading in which it was last planned, */
    int64_t asked_from;       /* and back to which span */
    int64_t tens[KNOWN_TENS]; /* starts of spans that were read when they were over, at their own place */
};
struct known_key {
    char key[KV_KEY_CAP];
};

struct redis_source {
    struct kv *kv;
    LIST(struct known) pairs;
    LIST(struct want) wants;
    size_t most;
    uint64_t reading;
    size_t turn; /* whose turn it is among models that are not in sight */
    LIST(struct known_key) instances;
    LIST(struct known_key) budgets;
    struct mono scanned, budgets_scanned;
    int64_t indexed_s, breakers_s, breakers_every_s;
    struct wall clock; /* the store's, at clock_at */
    struct mono clock_at;
    int64_t started_us; /* of the oldest gateway that lives; 0: unknown */
    bool has_failed;
    struct sample *out; /* of the reading at hand */
};

/* A number as the store writes it; 0 for what is none. */
int64_t redis_source_int(struct span v);
/* A field of any key but ten-second spans and the index. */
void redis_source_field(struct redis_source *s, struct want *w, struct span field, struct span value);

#endif
