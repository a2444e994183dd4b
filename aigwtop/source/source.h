/* SPDX-License-Identifier: Apache-2.0 */
/* Where samples come from: Redis, the gateway's API, or a recording. A source is used by one thread at a time and only reads. */
#ifndef AIGWTOP_SOURCE_SOURCE_H
#define AIGWTOP_SOURCE_SOURCE_H

#include <stdatomic.h>

#include "aigwtop/source/sample.h"
#include "libshared/base/span.h"

#define ASK_PAIRS 160u /* more rows than any terminal shows */

struct pair {
    char provider[TOP_NAME], model[TOP_NAME];
};

/* What is on the screen, so that no more is read. */
struct ask {
    unsigned wants;          /* HAS_*: lists beside rows, breakers and events, which are always read */
    bool wants_models;       /* rows of models too; those of `pairs` first */
    char provider[TOP_NAME]; /* "" or the only one whose models and errors matter */
    struct pair pairs[ASK_PAIRS];
    size_t n_pairs;
    unsigned most; /* keys of one reading; 0: as many as it takes */
};

struct source_ops {
    const char *name;
    void (*free)(void *self);
    /* Fills `out`, which is empty. ERR_FORBIDDEN: whoever reads may not. */
    enum err_code (*read)(void *self, const struct ask *ask, struct sample *out, struct err *err);
    bool is_recording; /* has its own pace and its own clock */
};
struct source {
    const struct source_ops *ops;
    void *self;
};

struct source_options {
    const char *redis_url;
    const char *url;         /* of the API */
    struct span token;       /* borrowed until the source is made */
    const char *token_hint;  /* how to give one, for errors */
    const _Atomic int *stop; /* ends a call early */
    int64_t deadline_us;
};

/* NULL-ops with `err` set when the address makes no sense. */
struct source source_redis(const struct source_options *o, struct err *err);
struct source source_api(const struct source_options *o, struct err *err);
struct source source_replay(const char *path, struct err *err);
/* How far apart the samples of a recording were, in milliseconds, from the last one that was read to the next. */
int64_t source_replay_gap_ms(const struct source *s);
bool source_replay_is_over(const struct source *s);
static inline void source_free(struct source *s)
{
    if (s->ops)
        s->ops->free(s->self);
    s->ops = NULL;
}

#endif
