/* SPDX-License-Identifier: Apache-2.0 */
/* Samples and their recorded form. Any thread; a sample has one owner at a time. A recording may come from anybody, so what it says
 * is bounded like what a store says. Both directions go through the same tables of members. */
#include "aigwtop/source/sample.h"

#include <math.h>
#include <stdio.h>

#include "libshared/analytics/sketch.h"
#include "libshared/base/span.h"
#include "libshared/base/utf8.h"
#include "libshared/cli/human.h"

#define ROWS_MAX 20000u

struct sample *sample_new(void)
{
    struct sample *s = calloc(1, sizeof(*s));

    if (!s)
        abort();
    s->rtt_us = s->instances = s->streams = s->requests = -1;
    return s;
}

void sample_free(struct sample *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->rows.n; i++) {
        for (size_t k = 0; k < s->rows.v[i].slices.n; k++)
            LIST_RELEASE(&s->rows.v[i].slices.v[k].parts);
        LIST_RELEASE(&s->rows.v[i].slices);
    }
#define SAMPLE_LIST(list, one, bit) LIST_RELEASE(&s->list);
#include "aigwtop/source/lists.def"
#undef SAMPLE_LIST
    free(s);
}

/* ---- adding ---------------------------------------------------------------------------------------------------------- */

/* What is known of one before anything was read of it. */
static const struct sample_row NEW_row = {.per_s = NAN,
                                          .error_rate = NAN,
                                          .p50_ms = NAN,
                                          .p95_ms = NAN,
                                          .p99_ms = NAN,
                                          .score = NAN,
                                          .of_success = NAN,
                                          .of_latency = NAN,
                                          .of_breakers = NAN};
static const struct sample_breaker NEW_breaker = {.failures = -1, .limit = -1, .probes = -1};
static const struct sample_tenant NEW_tenant;
static const struct sample_budget NEW_budget = {
    .limit_nano = -1, .spent_nano = -1, .held_nano = -1, .forecast_nano = -1, .warn_percent = -1};
static const struct sample_limit NEW_limit;
static const struct sample_error NEW_error = {.latency_ms = NAN};
static const struct sample_event NEW_event;
static const struct sample_anomaly NEW_anomaly = {.value = NAN, .expected = NAN, .z = NAN};

#define SAMPLE_LIST(list, one, bit)                                                                          \
    struct sample_##one *sample_##one##_add(struct sample *s)                                                \
    {                                                                                                        \
        struct sample_##one *added = LIST_ADD(&s->list);                                                     \
                                                                                                             \
        *added = NEW_##one;                                                                                  \
        return added;                                                                                        \
    }
#include "aigwtop/source/lists.def"
#undef SAMPLE_LIST

/* From the end: what comes of one row comes together. */
struct sample_row *sample_row_of(struct sample *s, const char *provider, const char *model)
{
    struct sample_row *r;

    for (size_t i = s->rows.n; i-- > 0;)
        if (strcmp(s->rows.v[i].provider, provider) == 0 && strcmp(s->rows.v[i].model, model) == 0)
            return &s->rows.v[i];
    r = sample_row_add(s);
    (void)span_copy(r->provider, sizeof(r->provider), span_of(provider));
    (void)span_copy(r->model, sizeof(r->model), span_of(model));
    return r;
}

void sample_surprise(struct sample *s, const char *what)
{
    s->surprises++;
    (void)span_copy(s->surprise, sizeof(s->surprise), span_of(what));
}

/* ---- members of JSON ------------------------------------------------------------------------------------------------- */

void json_take_text(const json_t *o, const char *name, char *dst, size_t cap)
{
    const char *z = json_string_value(json_object_get(o, name));
    size_t n = span_copy(dst, cap, span_of(z ? z : "")), last = n;

    if (!z || !z[n])
        return;
    while (last && ((unsigned char)dst[last - 1] & 0xc0) == 0x80)
        last--;
    /* A character that was cut in two is not shown in part. */
    if (last && !utf8_valid_len(dst + last - 1, n - last + 1))
        dst[last - 1] = '\0';
}

double json_take_number(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);

    return json_is_number(v) ? json_number_value(v) : NAN;
}

int64_t json_take_int(const json_t *o, const char *name, int64_t otherwise)
{
    const json_t *v = json_object_get(o, name);
    double d = json_is_number(v) ? json_number_value(v) : NAN;

    if (json_is_integer(v))
        return json_integer_value(v);
    return fabs(d) < 9e15 ? (int64_t)d : otherwise;
}

int64_t json_take_time(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);
    double s = json_is_number(v) ? json_number_value(v) : NAN;
    struct wall t;

    if (json_is_string(v) && human_parse_time(json_string_value(v), &t))
        return t.us;
    return s > 0 && s < 2.5e11 ? (int64_t)(s * 1e6) : 0;
}

/* ---- what is recorded ------------------------------------------------------------------------------------------------- */

enum kind { KIND_TEXT, KIND_INT, KIND_SMALL, KIND_COUNT, KIND_NUMBER, KIND_FLAG };

struct member { /* of a struct, under its name in JSON */
    const char *name;
    enum kind kind;
    size_t at, size;
};

#define MEMBER_AS(name, T, field)                                                                              \
    {                                                                                                          \
        name, _Generic(((struct T *)0)->field, char *: KIND_TEXT, int64_t: KIND_INT, int: KIND_SMALL,        \
                       unsigned: KIND_COUNT, double: KIND_NUMBER, bool: KIND_FLAG),                          \
            offsetof(struct T, field), sizeof(((struct T *)0)->field) \
    }
#define MEMBER(T, field) MEMBER_AS(#field, T, field)

static const struct member MEMBERS_head[] = {
    MEMBER(sample, text),        MEMBER(sample, source),
    MEMBER(sample, where),       MEMBER(sample, tries),
    MEMBER(sample, retry_in_ms), MEMBER_AS("now_us", sample, now.us),
    MEMBER(sample, rtt_us),      MEMBER_AS("beat_us", sample, beat.us),
    MEMBER(sample, instances),   MEMBER(sample, streams),
    MEMBER(sample, requests),    MEMBER_AS("draining", sample, is_draining),
    MEMBER(sample, surprises),   MEMBER(sample, surprise),
    MEMBER(sample, has),
};
static const struct member MEMBERS_slice[] = {
    MEMBER(slice, start_us),
    MEMBER(slice, span_us),
    MEMBER_AS("whole", slice, is_whole),
};
static const struct member MEMBERS_row[] = {
    MEMBER(sample_row, provider),   MEMBER(sample_row, model),       MEMBER(sample_row, per_s),
    MEMBER(sample_row, error_rate), MEMBER(sample_row, p50_ms),      MEMBER(sample_row, p95_ms),
    MEMBER(sample_row, p99_ms),     MEMBER(sample_row, score),       MEMBER(sample_row, of_success),
    MEMBER(sample_row, of_latency), MEMBER(sample_row, of_breakers), MEMBER(sample_row, status),
    MEMBER(sample_row, seen_us),
};
static const struct member MEMBERS_breaker[] = {
    MEMBER(sample_breaker, provider), MEMBER(sample_breaker, model),    MEMBER(sample_breaker, state),
    MEMBER(sample_breaker, cause),    MEMBER(sample_breaker, failures), MEMBER(sample_breaker, limit),
    MEMBER(sample_breaker, probes),   MEMBER(sample_breaker, since_us), MEMBER(sample_breaker, until_us),
    MEMBER(sample_breaker, forced),   MEMBER(sample_breaker, actor),
};
static const struct member MEMBERS_tenant[] = {
    MEMBER(sample_tenant, tenant), MEMBER(sample_tenant, key),       MEMBER(sample_tenant, requests),
    MEMBER(sample_tenant, tokens), MEMBER(sample_tenant, cost_nano),
};
static const struct member MEMBERS_budget[] = {
    MEMBER(sample_budget, account),       MEMBER(sample_budget, period),
    MEMBER(sample_budget, window),        MEMBER(sample_budget, at_limit),
    MEMBER(sample_budget, verdict),       MEMBER(sample_budget, limit_nano),
    MEMBER(sample_budget, spent_nano),    MEMBER(sample_budget, held_nano),
    MEMBER(sample_budget, forecast_nano), MEMBER(sample_budget, warn_percent),
    MEMBER(sample_budget, resets_us),
};
static const struct member MEMBERS_limit[] = {
    MEMBER(sample_limit, scope), MEMBER(sample_limit, kind),    MEMBER(sample_limit, limit),
    MEMBER(sample_limit, used),  MEMBER(sample_limit, refused),
};
static const struct member MEMBERS_error[] = {
    MEMBER(sample_error, provider),   MEMBER(sample_error, model),  MEMBER(sample_error, type),
    MEMBER(sample_error, request),    MEMBER(sample_error, detail), MEMBER(sample_error, tenant),
    MEMBER(sample_error, key),        MEMBER(sample_error, at_us),  MEMBER(sample_error, http_status),
    MEMBER(sample_error, latency_ms),
};
static const struct member MEMBERS_event[] = {
    MEMBER(sample_event, id),      MEMBER(sample_event, kind), MEMBER(sample_event, severity),
    MEMBER(sample_event, subject), MEMBER(sample_event, text), MEMBER(sample_event, at_us),
};
static const struct member MEMBERS_anomaly[] = {
    MEMBER(sample_anomaly, kind), MEMBER(sample_anomaly, severity), MEMBER(sample_anomaly, subject),
    MEMBER(sample_anomaly, text), MEMBER(sample_anomaly, value),    MEMBER(sample_anomaly, expected),
    MEMBER(sample_anomaly, z),    MEMBER(sample_anomaly, at_us),
};

/* ---- writing --------------------------------------------------------------------------------------------------------- */

/* What is not UTF-8 would be no JSON. */
static json_t *text_json(const char *z)
{
    json_t *whole = json_string(z);
    struct buf b AUTO(buf_release) = {0};

    if (whole)
        return whole;
    for (; *z; z++)
        buf_addc(&b, (unsigned char)*z < 0x80 ? *z : '?');
    return json_string(b.p);
}

static json_t *member_json(const struct member *m, const void *at)
{
    switch (m->kind) {
    case KIND_TEXT:
        return *(const char *)at ? text_json(at) : NULL;
    case KIND_INT:
        return json_integer(*(const int64_t *)at);
    case KIND_SMALL:
        return json_integer(*(const int *)at);
    case KIND_COUNT:
        return json_integer(*(const unsigned *)at);
    case KIND_FLAG:
        return json_boolean(*(const bool *)at);
    default:
        return isfinite(*(const double *)at) ? json_real(*(const double *)at) : NULL;
    }
}

/* Unknown numbers and empty texts are left out. */
static json_t *members_json(const struct member *m, size_t n, const void *of)
{
    json_t *o = json_object();

    for (size_t i = 0; i < n; i++) {
        json_t *v = member_json(&m[i], (const char *)of + m[i].at);

        if (v)
            (void)json_object_set_new(o, m[i].name, v);
    }
    return o;
}
#define MEMBERS_JSON(one, of) members_json(MEMBERS_##one, ARRAY_LEN(MEMBERS_##one), (of))

static json_t *measures_json(const int64_t *m)
{
    json_t *o = json_object();

    for (unsigned i = 0; i < MEASURE_COUNT; i++)
        if (m[i])
            (void)json_object_set_new(o, measure_name((enum measure)i), json_integer(m[i]));
    return o;
}

static json_t *slice_json(const struct slice *s)
{
    json_t *o = MEMBERS_JSON(slice, s), *parts = json_array();

    (void)json_object_set_new(o, "m", measures_json(s->m));
    for (size_t i = 0; i < s->parts.n; i++) {
        (void)json_array_append_new(parts, json_integer(s->parts.v[i].bucket));
        (void)json_array_append_new(parts, json_integer((json_int_t)s->parts.v[i].n));
    }
    (void)json_object_set_new(o, "buckets", parts);
    return o;
}

/* Of most lists the members are all there is; a row has series, too. */
static void put_series(json_t *rows, const struct sample *s)
{
    for (size_t i = 0; i < s->rows.n; i++) {
        const struct sample_row *r = &s->rows.v[i];
        json_t *o = json_array_get(rows, i), *slices = json_array();

        for (size_t k = 0; k < r->slices.n; k++)
            (void)json_array_append_new(slices, slice_json(&r->slices.v[k]));
        (void)json_object_set_new(o, "slices", slices);
        if (r->has_totals)
            (void)json_object_set_new(o, "totals", measures_json(r->totals));
    }
}

json_t *sample_json(const struct sample *s)
{
    json_t *o = MEMBERS_JSON(head, s);

    (void)json_object_set_new(o, "state", json_integer(s->state));
#define SAMPLE_LIST(list, one, bit)                                                                          \
    {                                                                                                        \
        json_t *all = json_array();                                                                          \
                                                                                                             \
        for (size_t i = 0; i < s->list.n; i++)                                                               \
            (void)json_array_append_new(all, MEMBERS_JSON(one, &s->list.v[i]));                              \
        (void)json_object_set_new(o, #list, all);                                                            \
    }
#include "aigwtop/source/lists.def"
#undef SAMPLE_LIST
    put_series(json_object_get(o, "rows"), s);
    return o;
}

void sample_record(FILE *f, const struct sample *s)
{
    json_t *o = f ? sample_json(s) : NULL;

    if (!o)
        return;
    (void)json_dumpf(o, f, JSON_COMPACT);
    (void)fputc('\n', f);
    (void)fflush(f);
    json_decref(o);
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

/* A number that is not there stays what it was. */
static void take_member(const struct member *m, void *at, const json_t *o)
{
    switch (m->kind) {
    case KIND_TEXT:
        json_take_text(o, m->name, at, m->size);
        break;
    case KIND_INT:
        *(int64_t *)at = json_take_int(o, m->name, *(int64_t *)at);
        break;
    case KIND_SMALL:
        *(int *)at = (int)json_take_int(o, m->name, *(int *)at);
        break;
    case KIND_COUNT:
        *(unsigned *)at = (unsigned)json_take_int(o, m->name, *(unsigned *)at);
        break;
    case KIND_FLAG:
        *(bool *)at = json_is_true(json_object_get(o, m->name));
        break;
    default:
        *(double *)at = json_take_number(o, m->name);
    }
}

static void take_members(const struct member *m, size_t n, void *of, const json_t *o)
{
    for (size_t i = 0; i < n; i++)
        take_member(&m[i], (char *)of + m[i].at, o);
}
#define TAKE_MEMBERS(one, of, o) take_members(MEMBERS_##one, ARRAY_LEN(MEMBERS_##one), (of), (o))

static void read_measures(const json_t *o, int64_t *m)
{
    for (unsigned i = 0; i < MEASURE_COUNT; i++)
        m[i] = json_take_int(o, measure_name((enum measure)i), 0);
}

static void read_slice(struct sample_row *r, const json_t *o)
{
    struct slice *s = LIST_ADD(&r->slices);
    const json_t *parts = json_object_get(o, "buckets");

    TAKE_MEMBERS(slice, s, o);
    read_measures(json_object_get(o, "m"), s->m);
    for (size_t i = 0; i + 1 < json_array_size(parts); i += 2) {
        json_int_t bucket = json_integer_value(json_array_get(parts, i)),
                   n = json_integer_value(json_array_get(parts, i + 1));

        if (bucket >= 0 && bucket < (json_int_t)SKETCH_BUCKETS && n > 0)
            *LIST_ADD(&s->parts) = (struct part){(unsigned)bucket, (uint64_t)n};
    }
}

static void read_series(struct sample *s, const json_t *rows)
{
    const json_t *slice;
    size_t k;

    for (size_t i = 0; i < s->rows.n; i++) {
        const json_t *o = json_array_get(rows, i);

        json_array_foreach(json_object_get(o, "slices"), k, slice) read_slice(&s->rows.v[i], slice);
        s->rows.v[i].has_totals = json_object_get(o, "totals") != NULL;
        read_measures(json_object_get(o, "totals"), s->rows.v[i].totals);
    }
}

struct sample *sample_of_json(const json_t *o, struct err *err)
{
    struct sample *s;
    int64_t state = json_take_int(o, "state", -1);
    const json_t *row;
    size_t i;

    if (state < 0 || state >= SOURCE_STATES) {
        (void)err_set(err, ERR_BAD_REQUEST, "this is no sample of aigwtop");
        return NULL;
    }
    s = sample_new();
    s->state = (enum source_state)state;
    TAKE_MEMBERS(head, s, o);
#define SAMPLE_LIST(list, one, bit)                                                                          \
    json_array_foreach(json_object_get(o, #list), i, row) if (i < ROWS_MAX)                                  \
        TAKE_MEMBERS(one, sample_##one##_add(s), row);
#include "aigwtop/source/lists.def"
#undef SAMPLE_LIST
    read_series(s, json_object_get(o, "rows"));
    return s;
}
