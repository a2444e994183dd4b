/* SPDX-License-Identifier: Apache-2.0 */
/* What a source saw at one moment, as plain values: a source fills one, the model takes it in, a recording is a line of JSON for
 * each. What a source does not know is -1, NaN, 0 or an absent list, never an invented number. */
#ifndef AIGWTOP_SOURCE_SAMPLE_H
#define AIGWTOP_SOURCE_SAMPLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "aigwtop/list.h"
#include "libshared/base/clock.h"
#include "libshared/base/err.h"
#include "libshared/store/measures.h"

#define TOP_NAME 128
#define TOP_TEXT 256

enum source_state {
    SOURCE_LIVE,
    SOURCE_EMPTY, /* it answers, and no gateway has ever written there */
    SOURCE_DOWN,
    SOURCE_AUTH,
    SOURCE_STATES
};

/* Attempts whose duration lies in one bucket of analytics/sketch. */
struct part {
    unsigned bucket;
    uint64_t n;
};

/* What one row did between start and start + span. */
struct slice {
    int64_t start_us, span_us;
    bool is_whole; /* nothing will be added to it */
    int64_t m[MEASURE_COUNT];
    LIST(struct part) parts;
};

struct sample_row {
    char provider[TOP_NAME], model[TOP_NAME]; /* no model: the provider as a whole */
    LIST(struct slice) slices;
    bool has_totals; /* sums since some start, in place of slices */
    int64_t totals[MEASURE_COUNT];
    /* over the source's own window; NaN: it does not say */
    double per_s, error_rate, p50_ms, p95_ms, p99_ms;
    double score, of_success, of_latency, of_breakers; /* 0 to 100, and its terms */
    char status[16];
    int64_t seen_us;
};

struct sample_breaker {
    char provider[TOP_NAME], model[TOP_NAME], state[16], cause[TOP_NAME];
    int64_t failures, limit, probes; /* -1: unknown */
    int64_t since_us, until_us;
    char forced[16], actor[64];
};

struct sample_tenant { /* sums of the current hour */
    char tenant[TOP_NAME], key[TOP_NAME];
    int64_t requests, tokens, cost_nano;
};

struct sample_budget {
    char account[TOP_NAME], period[16], window[32], at_limit[16], verdict[24];
    int64_t limit_nano, spent_nano, held_nano, forecast_nano; /* -1: unknown */
    int warn_percent;                                         /* -1 */
    int64_t resets_us;
};

struct sample_limit {
    char scope[TOP_NAME], kind[24];
    int64_t limit, used, refused;
};

struct sample_error {
    char provider[TOP_NAME], model[TOP_NAME], type[40], request[64], detail[TOP_TEXT], tenant[64], key[64];
    int64_t at_us;
    int http_status;
    double latency_ms;
};

struct sample_event {
    char id[40], kind[24], severity[16], subject[192], text[TOP_TEXT];
    int64_t at_us;
};

struct sample_anomaly {
    char kind[32], severity[16], subject[192], text[TOP_TEXT];
    double value, expected, z;
    int64_t at_us;
};

enum { /* at which bit of `has` */
#define SAMPLE_LIST(list, one, bit) AT_##bit,
#include "aigwtop/source/lists.def"
#undef SAMPLE_LIST
};
enum {
#define SAMPLE_LIST(list, one, bit) HAS_##bit = 1 << AT_##bit,
#include "aigwtop/source/lists.def"
#undef SAMPLE_LIST
};

struct sample {
    enum source_state state;
    char text[TOP_TEXT]; /* why it is down */
    char source[8], where[200];
    unsigned tries;
    int64_t retry_in_ms;
    struct wall now; /* by the source's clock; by ours when it has none */
    int64_t rtt_us;
    struct wall beat;                     /* the newest sign of a gateway that lives */
    int64_t instances, streams, requests; /* requests: since some start */
    bool is_draining;
    unsigned surprises; /* keys or members that could not be read */
    char surprise[TOP_NAME];
    unsigned has; /* HAS_*: these lists are new and whole */
#define SAMPLE_LIST(list, one, bit) LIST(struct sample_##one) list;
#include "aigwtop/source/lists.def"
#undef SAMPLE_LIST
};

struct sample *sample_new(void);
void sample_free(struct sample *s);
/* One more, of which nothing is known yet; the sample owns it, and the next one may move it. */
#define SAMPLE_LIST(list, one, bit) struct sample_##one *sample_##one##_add(struct sample *s);
#include "aigwtop/source/lists.def"
#undef SAMPLE_LIST
/* The row of a provider (no model: "") or of a model; added when there is none. */
struct sample_row *sample_row_of(struct sample *s, const char *provider, const char *model);
void sample_surprise(struct sample *s, const char *what);

json_t *sample_json(const struct sample *s); /* the caller owns it */
/* As a line of a recording, at once in the file; nothing when there is no file. */
void sample_record(FILE *f, const struct sample *s);
/* NULL and `err` for what sample_json() cannot have made. */
struct sample *sample_of_json(const json_t *o, struct err *err);

/* Members of JSON from outside: text cut to fit, "" when it is none. */
void json_take_text(const json_t *o, const char *name, char *dst, size_t cap);
double json_take_number(const json_t *o, const char *name); /* NaN */
int64_t json_take_int(const json_t *o, const char *name, int64_t otherwise);
int64_t json_take_time(const json_t *o, const char *name); /* RFC 3339, or a number of seconds; 0 */

#endif
