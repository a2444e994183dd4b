/* SPDX-License-Identifier: Apache-2.0 */
/* Samples and their recorded form. Any thread; a sample has one owner at a time. A recording may come from anybody, so what it says
 * is bounded like what a store says. The tricky part is only that both directions list the same members; a test compares them. */
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
    LIST_RELEASE(&s->rows);
    LIST_RELEASE(&s->breakers);
    LIST_RELEASE(&s->tenants);
    LIST_RELEASE(&s->budgets);
    LIST_RELEASE(&s->limits);
    LIST_RELEASE(&s->errors);
    LIST_RELEASE(&s->events);
    LIST_RELEASE(&s->anomalies);
    free(s);
}

struct sample_row *sample_row_add(struct sample *s, const char *provider, const char *model)
{
    struct sample_row *r = LIST_ADD(&s->rows);

    (void)span_copy(r->provider, sizeof(r->provider), span_of(provider));
    (void)span_copy(r->model, sizeof(r->model), span_of(model));
    r->per_s = r->error_rate = r->p50_ms = r->p95_ms = r->p99_ms = NAN;
    r->score = r->of_success = r->of_latency = r->of_breakers = NAN;
    return r;
}

struct sample_breaker *sample_breaker_add(struct sample *s)
{
    struct sample_breaker *b = LIST_ADD(&s->breakers);

    b->failures = b->limit = b->probes = -1;
    return b;
}

struct sample_budget *sample_budget_add(struct sample *s)
{
    struct sample_budget *b = LIST_ADD(&s->budgets);

    b->limit_nano = b->spent_nano = b->held_nano = b->forecast_nano = -1;
    b->warn_percent = -1;
    return b;
}

struct sample_anomaly *sample_anomaly_add(struct sample *s)
{
    struct sample_anomaly *a = LIST_ADD(&s->anomalies);

    a->value = a->expected = a->z = NAN;
    return a;
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

/* ---- writing --------------------------------------------------------------------------------------------------------- */

static void put_text(json_t *o, const char *name, const char *z)
{
    struct buf clean AUTO(buf_release) = {0};

    if (!*z)
        return;
    if (json_object_set_new(o, name, json_string(z)) == 0)
        return;
    for (; *z; z++) /* not UTF-8 */
        buf_addc(&clean, (unsigned char)*z < 0x80 ? *z : '?');
    (void)json_object_set_new(o, name, json_string(clean.p));
}
static void put_int(json_t *o, const char *name, int64_t v)
{
    (void)json_object_set_new(o, name, json_integer(v));
}
static void put_number(json_t *o, const char *name, double v)
{
    if (isfinite(v))
        (void)json_object_set_new(o, name, json_real(v));
}

static json_t *measures_json(const int64_t *m)
{
    json_t *o = json_object();

    for (unsigned i = 0; i < MEASURE_COUNT; i++)
        if (m[i])
            put_int(o, measure_name((enum measure)i), m[i]);
    return o;
}

static json_t *slice_json(const struct slice *s)
{
    json_t *o = json_object(), *parts = json_array();

    put_int(o, "start_us", s->start_us);
    put_int(o, "span_us", s->span_us);
    (void)json_object_set_new(o, "whole", json_boolean(s->is_whole));
    (void)json_object_set_new(o, "m", measures_json(s->m));
    for (size_t i = 0; i < s->parts.n; i++) {
        (void)json_array_append_new(parts, json_integer(s->parts.v[i].bucket));
        (void)json_array_append_new(parts, json_integer((json_int_t)s->parts.v[i].n));
    }
    (void)json_object_set_new(o, "buckets", parts);
    return o;
}

static json_t *row_json(const struct sample_row *r)
{
    json_t *o = json_object(), *slices = json_array();

    put_text(o, "provider", r->provider);
    put_text(o, "model", r->model);
    for (size_t i = 0; i < r->slices.n; i++)
        (void)json_array_append_new(slices, slice_json(&r->slices.v[i]));
    (void)json_object_set_new(o, "slices", slices);
    if (r->has_totals)
        (void)json_object_set_new(o, "totals", measures_json(r->totals));
    put_number(o, "per_s", r->per_s);
    put_number(o, "error_rate", r->error_rate);
    put_number(o, "p50_ms", r->p50_ms);
    put_number(o, "p95_ms", r->p95_ms);
    put_number(o, "p99_ms", r->p99_ms);
    put_number(o, "score", r->score);
    put_number(o, "of_success", r->of_success);
    put_number(o, "of_latency", r->of_latency);
    put_number(o, "of_breakers", r->of_breakers);
    put_text(o, "status", r->status);
    put_int(o, "seen_us", r->seen_us);
    return o;
}

static json_t *breaker_json(const struct sample_breaker *b)
{
    json_t *o = json_object();

    put_text(o, "provider", b->provider);
    put_text(o, "model", b->model);
    put_text(o, "state", b->state);
    put_text(o, "cause", b->cause);
    put_text(o, "forced", b->forced);
    put_text(o, "actor", b->actor);
    put_int(o, "failures", b->failures);
    put_int(o, "limit", b->limit);
    put_int(o, "probes", b->probes);
    put_int(o, "since_us", b->since_us);
    put_int(o, "until_us", b->until_us);
    return o;
}

static json_t *tenant_json(const struct sample_tenant *t)
{
    json_t *o = json_object();

    put_text(o, "tenant", t->tenant);
    put_text(o, "key", t->key);
    put_int(o, "requests", t->requests);
    put_int(o, "tokens", t->tokens);
    put_int(o, "cost_nano", t->cost_nano);
    return o;
}

static json_t *budget_json(const struct sample_budget *b)
{
    json_t *o = json_object();

    put_text(o, "account", b->account);
    put_text(o, "period", b->period);
    put_text(o, "window", b->window);
    put_text(o, "at_limit", b->at_limit);
    put_text(o, "verdict", b->verdict);
    put_int(o, "limit_nano", b->limit_nano);
    put_int(o, "spent_nano", b->spent_nano);
    put_int(o, "held_nano", b->held_nano);
    put_int(o, "forecast_nano", b->forecast_nano);
    put_int(o, "warn_percent", b->warn_percent);
    put_int(o, "resets_us", b->resets_us);
    return o;
}

static json_t *limit_json(const struct sample_limit *l)
{
    json_t *o = json_object();

    put_text(o, "scope", l->scope);
    put_text(o, "kind", l->kind);
    put_int(o, "limit", l->limit);
    put_int(o, "used", l->used);
    put_int(o, "refused", l->refused);
    return o;
}

static json_t *error_json(const struct sample_error *e)
{
    json_t *o = json_object();

    put_text(o, "provider", e->provider);
    put_text(o, "model", e->model);
    put_text(o, "type", e->type);
    put_text(o, "request", e->request);
    put_text(o, "detail", e->detail);
    put_text(o, "tenant", e->tenant);
    put_text(o, "key", e->key);
    put_int(o, "at_us", e->at_us);
    put_int(o, "http_status", e->http_status);
    put_number(o, "latency_ms", e->latency_ms);
    return o;
}

static json_t *event_json(const struct sample_event *e)
{
    json_t *o = json_object();

    put_text(o, "id", e->id);
    put_text(o, "kind", e->kind);
    put_text(o, "severity", e->severity);
    put_text(o, "subject", e->subject);
    put_text(o, "text", e->text);
    put_int(o, "at_us", e->at_us);
    return o;
}

static json_t *anomaly_json(const struct sample_anomaly *a)
{
    json_t *o = json_object();

    put_text(o, "kind", a->kind);
    put_text(o, "severity", a->severity);
    put_text(o, "subject", a->subject);
    put_text(o, "text", a->text);
    put_number(o, "value", a->value);
    put_number(o, "expected", a->expected);
    put_number(o, "z", a->z);
    put_int(o, "at_us", a->at_us);
    return o;
}

#define PUT_LIST(o, s, list, fn)                                                                             \
    do {                                                                                                     \
        json_t *a_ = json_array();                                                                           \
        for (size_t i_ = 0; i_ < (s)->list.n; i_++)                                                          \
            (void)json_array_append_new(a_, fn(&(s)->list.v[i_]));                                           \
        (void)json_object_set_new((o), #list, a_);                                                           \
    } while (0)

json_t *sample_json(const struct sample *s)
{
    json_t *o = json_object();

    put_int(o, "state", s->state);
    put_text(o, "text", s->text);
    put_text(o, "source", s->source);
    put_text(o, "where", s->where);
    put_int(o, "tries", s->tries);
    put_int(o, "retry_in_ms", s->retry_in_ms);
    put_int(o, "now_us", s->now.us);
    put_int(o, "rtt_us", s->rtt_us);
    put_int(o, "beat_us", s->beat.us);
    put_int(o, "instances", s->instances);
    put_int(o, "streams", s->streams);
    put_int(o, "requests", s->requests);
    (void)json_object_set_new(o, "draining", json_boolean(s->is_draining));
    put_int(o, "surprises", s->surprises);
    put_text(o, "surprise", s->surprise);
    put_int(o, "has", s->has);
    PUT_LIST(o, s, rows, row_json);
    PUT_LIST(o, s, breakers, breaker_json);
    PUT_LIST(o, s, tenants, tenant_json);
    PUT_LIST(o, s, budgets, budget_json);
    PUT_LIST(o, s, limits, limit_json);
    PUT_LIST(o, s, errors, error_json);
    PUT_LIST(o, s, events, event_json);
    PUT_LIST(o, s, anomalies, anomaly_json);
    return o;
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

#define TAKE(o, dst, name) json_take_text((o), #name, (dst)->name, sizeof((dst)->name))

static void read_measures(const json_t *o, int64_t *m)
{
    for (unsigned i = 0; i < MEASURE_COUNT; i++)
        m[i] = json_take_int(o, measure_name((enum measure)i), 0);
}

static void read_slice(struct sample_row *r, const json_t *o)
{
    struct slice *s = LIST_ADD(&r->slices);
    const json_t *parts = json_object_get(o, "buckets");

    s->start_us = json_take_int(o, "start_us", 0);
    s->span_us = json_take_int(o, "span_us", 0);
    s->is_whole = json_is_true(json_object_get(o, "whole"));
    read_measures(json_object_get(o, "m"), s->m);
    for (size_t i = 0; i + 1 < json_array_size(parts); i += 2) {
        json_int_t bucket = json_integer_value(json_array_get(parts, i)),
                   n = json_integer_value(json_array_get(parts, i + 1));

        if (bucket >= 0 && bucket < (json_int_t)SKETCH_BUCKETS && n > 0)
            *LIST_ADD(&s->parts) = (struct part){(unsigned)bucket, (uint64_t)n};
    }
}

static void read_row(struct sample *s, const json_t *o)
{
    char provider[TOP_NAME], model[TOP_NAME];
    struct sample_row *r;
    const json_t *slice;
    size_t i;

    json_take_text(o, "provider", provider, sizeof(provider));
    json_take_text(o, "model", model, sizeof(model));
    r = sample_row_add(s, provider, model);
    json_array_foreach(json_object_get(o, "slices"), i, slice) read_slice(r, slice);
    r->has_totals = json_object_get(o, "totals") != NULL;
    read_measures(json_object_get(o, "totals"), r->totals);
    r->per_s = json_take_number(o, "per_s");
    r->error_rate = json_take_number(o, "error_rate");
    r->p50_ms = json_take_number(o, "p50_ms");
    r->p95_ms = json_take_number(o, "p95_ms");
    r->p99_ms = json_take_number(o, "p99_ms");
    r->score = json_take_number(o, "score");
    r->of_success = json_take_number(o, "of_success");
    r->of_latency = json_take_number(o, "of_latency");
    r->of_breakers = json_take_number(o, "of_breakers");
    TAKE(o, r, status);
    r->seen_us = json_take_int(o, "seen_us", 0);
}

static void read_breaker(struct sample *s, const json_t *o)
{
    struct sample_breaker *b = sample_breaker_add(s);

    TAKE(o, b, provider);
    TAKE(o, b, model);
    TAKE(o, b, state);
    TAKE(o, b, cause);
    TAKE(o, b, forced);
    TAKE(o, b, actor);
    b->failures = json_take_int(o, "failures", -1);
    b->limit = json_take_int(o, "limit", -1);
    b->probes = json_take_int(o, "probes", -1);
    b->since_us = json_take_int(o, "since_us", 0);
    b->until_us = json_take_int(o, "until_us", 0);
}

static void read_tenant(struct sample *s, const json_t *o)
{
    struct sample_tenant *t = LIST_ADD(&s->tenants);

    TAKE(o, t, tenant);
    TAKE(o, t, key);
    t->requests = json_take_int(o, "requests", 0);
    t->tokens = json_take_int(o, "tokens", 0);
    t->cost_nano = json_take_int(o, "cost_nano", 0);
}

static void read_budget(struct sample *s, const json_t *o)
{
    struct sample_budget *b = sample_budget_add(s);

    TAKE(o, b, account);
    TAKE(o, b, period);
    TAKE(o, b, window);
    TAKE(o, b, at_limit);
    TAKE(o, b, verdict);
    b->limit_nano = json_take_int(o, "limit_nano", -1);
    b->spent_nano = json_take_int(o, "spent_nano", -1);
    b->held_nano = json_take_int(o, "held_nano", -1);
    b->forecast_nano = json_take_int(o, "forecast_nano", -1);
    b->warn_percent = (int)json_take_int(o, "warn_percent", -1);
    b->resets_us = json_take_int(o, "resets_us", 0);
}

static void read_limit(struct sample *s, const json_t *o)
{
    struct sample_limit *l = LIST_ADD(&s->limits);

    TAKE(o, l, scope);
    TAKE(o, l, kind);
    l->limit = json_take_int(o, "limit", 0);
    l->used = json_take_int(o, "used", 0);
    l->refused = json_take_int(o, "refused", 0);
}

static void read_error(struct sample *s, const json_t *o)
{
    struct sample_error *e = LIST_ADD(&s->errors);

    TAKE(o, e, provider);
    TAKE(o, e, model);
    TAKE(o, e, type);
    TAKE(o, e, request);
    TAKE(o, e, detail);
    TAKE(o, e, tenant);
    TAKE(o, e, key);
    e->at_us = json_take_int(o, "at_us", 0);
    e->http_status = (int)json_take_int(o, "http_status", 0);
    e->latency_ms = json_take_number(o, "latency_ms");
}

static void read_event(struct sample *s, const json_t *o)
{
    struct sample_event *e = LIST_ADD(&s->events);

    TAKE(o, e, id);
    TAKE(o, e, kind);
    TAKE(o, e, severity);
    TAKE(o, e, subject);
    TAKE(o, e, text);
    e->at_us = json_take_int(o, "at_us", 0);
}

static void read_anomaly(struct sample *s, const json_t *o)
{
    struct sample_anomaly *a = sample_anomaly_add(s);

    TAKE(o, a, kind);
    TAKE(o, a, severity);
    TAKE(o, a, subject);
    TAKE(o, a, text);
    a->value = json_take_number(o, "value");
    a->expected = json_take_number(o, "expected");
    a->z = json_take_number(o, "z");
    a->at_us = json_take_int(o, "at_us", 0);
}

static void read_list(struct sample *s, const json_t *o, const char *name,
                      void (*fn)(struct sample *, const json_t *))
{
    const json_t *list = json_object_get(o, name), *row;
    size_t i;

    json_array_foreach(list, i, row) if (i < ROWS_MAX) fn(s, row);
}

struct sample *sample_of_json(const json_t *o, struct err *err)
{
    struct sample *s;
    int64_t state = json_take_int(o, "state", -1);

    if (state < 0 || state >= SOURCE_STATES) {
        (void)err_set(err, ERR_BAD_REQUEST, "this is no sample of aigwtop");
        return NULL;
    }
    s = sample_new();
    s->state = (enum source_state)state;
    TAKE(o, s, text);
    TAKE(o, s, source);
    TAKE(o, s, where);
    TAKE(o, s, surprise);
    s->tries = (unsigned)json_take_int(o, "tries", 0);
    s->retry_in_ms = json_take_int(o, "retry_in_ms", 0);
    s->now.us = json_take_int(o, "now_us", 0);
    s->rtt_us = json_take_int(o, "rtt_us", -1);
    s->beat.us = json_take_int(o, "beat_us", 0);
    s->instances = json_take_int(o, "instances", -1);
    s->streams = json_take_int(o, "streams", -1);
    s->requests = json_take_int(o, "requests", -1);
    s->is_draining = json_is_true(json_object_get(o, "draining"));
    s->surprises = (unsigned)json_take_int(o, "surprises", 0);
    s->has = (unsigned)json_take_int(o, "has", 0);
    read_list(s, o, "rows", read_row);
    read_list(s, o, "breakers", read_breaker);
    read_list(s, o, "tenants", read_tenant);
    read_list(s, o, "budgets", read_budget);
    read_list(s, o, "limits", read_limit);
    read_list(s, o, "errors", read_error);
    read_list(s, o, "events", read_event);
    read_list(s, o, "anomalies", read_anomaly);
    return s;
}
