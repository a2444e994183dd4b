/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the monitoring and admin API of one gateway. Reader's thread; the source owns its client, and the token only until that is
 * made.
 *
 * The dashboard decides whether the gateway lives; every other path is one that this gateway may not have, or that this token may
 * not read: then its list is absent, and it is asked again half a minute later. */
#include <math.h>
#include <stdio.h>

#include "aigwtop/source/fields.h"
#include "aigwtop/source/source.h"
#include "libshared/api/client.h"

#define REST_US INT64_C(30000000)
#define PATHS   64u

struct rest { /* a path that was refused, until when it is left alone */
    char path[TOP_NAME];
    struct mono until;
};

struct api_source {
    struct api_client *client;
    const char *token_hint;
    struct rest rests[PATHS];
    struct sample *out;
    const struct ask *ask;
};

/* ---- calls ----------------------------------------------------------------------------------------------------------- */

static struct rest *rest_of(struct api_source *s, const char *path)
{
    struct rest *oldest = &s->rests[0];

    for (size_t i = 0; i < PATHS; i++) {
        if (strcmp(s->rests[i].path, path) == 0)
            return &s->rests[i];
        if (s->rests[i].until.us < oldest->until.us)
            oldest = &s->rests[i];
    }
    return oldest;
}

static void leave_alone(struct api_source *s, const char *path)
{
    struct rest *r = rest_of(s, path);

    (void)snprintf(r->path, sizeof(r->path), "%.127s", path);
    r->until = mono_add_us(mono_now(), REST_US);
}

static bool is_left_alone(struct api_source *s, const char *path)
{
    const struct rest *r = rest_of(s, path);

    return strcmp(r->path, path) == 0 && mono_diff_us(r->until, mono_now()) > 0;
}

static enum err_code refused(const struct api_source *s, const struct api_answer *a, struct err *err)
{
    if (a->status == 401 || a->status == 403)
        return err_set(err, ERR_FORBIDDEN, "%s", s->token_hint);
    return err_set(err, ERR_UP_SERVER, "the gateway answered with status %d", a->status);
}

static enum err_code call(struct api_source *s, const char *path, json_t **out, struct err *err)
{
    struct api_answer a = {0};
    enum err_code e = api_client_call(s->client, "GET", path, (struct span){0}, &a, err);

    *out = NULL;
    if (!e && (a.status < 200 || a.status > 299))
        e = refused(s, &a, err);
    if (!e) {
        *out = json_loadb(a.body.p ? a.body.p : "", a.body.len, 0, NULL);
        if (!*out)
            e = err_set(err, ERR_UP_GARBAGE, "the answer of '%.80s' is not JSON", path);
    }
    api_answer_release(&a);
    return e;
}

/* NULL for a path that is not there, or not for this token; whether the gateway lives is not judged by it. */
static json_t *call_optional(struct api_source *s, const char *path)
{
    struct err err = {0};
    json_t *o;

    if (is_left_alone(s, path))
        return NULL;
    if (call(s, path, &o, &err) == ERR_OK)
        return o;
    if (err.code == ERR_UP_GARBAGE)
        sample_surprise(s->out, path);
    leave_alone(s, path);
    return NULL;
}

/* ---- rows ------------------------------------------------------------------------------------------------------------ */

static struct sample_row *row_of_json(struct sample *out, const json_t *o)
{
    char provider[TOP_NAME], model[TOP_NAME];

    json_take_text(o, "provider", provider, sizeof(provider));
    json_take_text(o, "model", model, sizeof(model));
    return sample_row_of(out, provider, model);
}

static void take_spend(struct sample *out, const json_t *o)
{
    struct sample_row *r = row_of_json(out, o);

    r->has_totals = true;
    r->totals[MEASURE_attempts] = r->totals[MEASURE_req] = json_take_int(o, "total_requests", 0);
    r->totals[MEASURE_tin] = json_take_int(o, "input_tokens", 0);
    r->totals[MEASURE_tcached] = json_take_int(o, "cached_tokens", 0);
    r->totals[MEASURE_tout] = json_take_int(o, "output_tokens", 0);
    r->totals[MEASURE_cost_nano] = json_take_int(o, "total_cost_nanousd", 0);
    r->totals[MEASURE_unpriced] = json_take_int(o, "unpriced_requests", 0);
}

static void take_failed(struct sample *out, const json_t *o)
{
    struct sample_row *r = row_of_json(out, o);
    int64_t failed = json_take_int(o, "failed_requests", 0), all = json_take_int(o, "total_requests", 0);
    char provider[TOP_NAME];

    (void)span_copy(provider, sizeof(provider), span_of(r->provider));
    r->totals[MEASURE_err] = failed;
    r->totals[MEASURE_ok] = all - failed;
    sample_row_of(out, provider, "")->totals[MEASURE_err] += failed;
}

static void each(const json_t *list, struct sample *out, void (*fn)(struct sample *, const json_t *))
{
    const json_t *o;
    size_t i;

    json_array_foreach(list, i, o) if (json_is_object(o)) fn(out, o);
}

static void take_health(struct sample *out, const json_t *o)
{
    fields_health(row_of_json(out, o), o);
}

static void read_rows(struct api_source *s)
{
    json_t *health = call_optional(s, "/api/monitoring/health");
    json_t *cost = call_optional(s, "/api/monitoring/cost-analysis?since=start");
    json_t *rates = call_optional(s, "/api/monitoring/error-rates?since=start");

    each(health, s->out, take_health);
    each(json_object_get(cost, "providers"), s->out, take_spend);
    if (s->ask->wants_models)
        each(json_object_get(cost, "models"), s->out, take_spend);
    if (cost) /* failures are counted beside the attempts, or not at all */
        each(json_object_get(rates, "models"), s->out, take_failed);
    s->out->has |= HAS_ROWS;
    json_decref(health);
    json_decref(cost);
    json_decref(rates);
}

/* A provider's or model's name within a path. */
static void put_escaped(struct buf *b, const char *z)
{
    for (; *z; z++)
        if ((*z >= 'a' && *z <= 'z') || (*z >= 'A' && *z <= 'Z') || (*z >= '0' && *z <= '9') ||
            strchr("-_.~/", *z))
            buf_addc(b, *z);
        else
            buf_addf(b, "%%%02X", (unsigned char)*z);
}

/* Percentiles of models are a call each, so only of those in sight. */
static void read_latencies(struct api_source *s)
{
    for (size_t i = 0; i < s->ask->n_pairs && i < 40; i++) {
        struct buf path AUTO(buf_release) = {0};
        struct sample_row *r;
        json_t *o;

        if (is_left_alone(s, "latency"))
            return;
        buf_addz(&path, "/api/monitoring/latency/");
        put_escaped(&path, s->ask->pairs[i].provider);
        buf_addc(&path, '/');
        put_escaped(&path, s->ask->pairs[i].model);
        buf_addz(&path, "?percentiles=50,95,99");
        o = call_optional(s, path.p);
        if (!o && i == 0)
            leave_alone(s, "latency");
        if (!o)
            continue;
        r = sample_row_of(s->out, s->ask->pairs[i].provider, s->ask->pairs[i].model);
        r->p50_ms = json_take_number(o, "p50");
        r->p95_ms = json_take_number(o, "p95");
        r->p99_ms = json_take_number(o, "p99");
        json_decref(o);
    }
}

/* The terms of one score are in that provider's own answer. */
static void read_terms(struct api_source *s)
{
    struct buf path AUTO(buf_release) = {0};
    json_t *o;

    buf_addz(&path, "/api/monitoring/health/");
    put_escaped(&path, s->ask->provider);
    o = call_optional(s, path.p);
    if (o)
        fields_health(sample_row_of(s->out, s->ask->provider, ""), o);
    json_decref(o);
}

/* ---- lists ----------------------------------------------------------------------------------------------------------- */

static void read_list(struct api_source *s, const char *path, const char *member, unsigned has,
                      void (*fn)(struct sample *, const json_t *))
{
    json_t *o = call_optional(s, path);
    const json_t *list = json_is_array(o) ? o : json_object_get(o, member);

    if (list) {
        each(list, s->out, fn);
        s->out->has |= has;
    }
    json_decref(o);
}

static void read_errors_of(struct api_source *s, const char *provider)
{
    struct buf path AUTO(buf_release) = {0};
    const json_t *list, *row;
    json_t *o;
    size_t i;

    if (is_left_alone(s, "errors"))
        return;
    buf_addz(&path, "/api/monitoring/errors/");
    put_escaped(&path, provider);
    buf_addz(&path, "?limit=100");
    o = call_optional(s, path.p);
    list = json_is_array(o) ? o : json_object_get(o, "errors");
    if (list)
        s->out->has |= HAS_ERRORS;
    else
        leave_alone(s, "errors");
    json_array_foreach(list, i, row) if (json_is_object(row)) fields_error(s->out, provider, row);
    json_decref(o);
}

static void read_errors(struct api_source *s)
{
    if (s->ask->provider[0]) {
        read_errors_of(s, s->ask->provider);
        return;
    }
    for (size_t i = 0; i < s->out->rows.n; i++)
        if (!s->out->rows.v[i].model[0])
            read_errors_of(s, s->out->rows.v[i].provider);
}

/* Events are asked for oldest first or newest first, as the gateway has them; ours are newest first. */
static int newest_first(const void *a, const void *b)
{
    int64_t x = ((const struct sample_event *)a)->at_us, y = ((const struct sample_event *)b)->at_us;

    return x < y ? 1 : x > y ? -1 : 0;
}

static void read_lists(struct api_source *s)
{
    read_list(s, "/api/monitoring/circuit-breakers", "breakers", HAS_BREAKERS, fields_breaker);
    read_list(s, "/api/monitoring/events?limit=60", "events", HAS_EVENTS, fields_event);
    if (s->out->events.n)
        qsort(s->out->events.v, s->out->events.n, sizeof(*s->out->events.v), newest_first);
    read_list(s, "/api/admin/budgets", "budgets", HAS_BUDGETS, fields_budget);
    if (s->ask->wants & HAS_BUDGETS)
        read_list(s, "/api/admin/limits", "limits", HAS_LIMITS, fields_limit);
    if (s->ask->wants & HAS_ANOMALIES) {
        s->out->anomalies.n = 0; /* the list itself, not what events say of it */
        read_list(s, "/api/monitoring/anomalies", "anomalies", HAS_ANOMALIES, fields_anomaly);
    }
    if (s->ask->wants & HAS_ERRORS)
        read_errors(s);
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

static enum err_code api_source_read(void *self, const struct ask *ask, struct sample *out, struct err *err)
{
    struct api_source *s = self;
    struct mono began = mono_now();
    const json_t *summary;
    json_t *o;
    enum err_code e;

    s->out = out;
    s->ask = ask;
    (void)snprintf(out->source, sizeof(out->source), "api");
    (void)snprintf(out->where, sizeof(out->where), "%.199s", api_client_url(s->client));
    e = call(s, "/health/dashboard", &o, err);
    if (e)
        return e;
    out->rtt_us = mono_diff_us(mono_now(), began);
    summary = json_object_get(o, "summary");
    out->now.us = json_take_time(o, "timestamp");
    if (!out->now.us)
        out->now = wall_now();
    out->beat = out->now; /* the writer itself answered */
    out->instances = 1;
    out->is_draining = json_is_true(json_object_get(o, "draining"));
    out->streams = json_take_int(summary, "active_streams", -1);
    out->requests = json_take_int(summary, "total_requests", -1);
    json_decref(o);
    read_rows(s);
    if (ask->provider[0])
        read_terms(s);
    if (ask->wants_models)
        read_latencies(s);
    read_lists(s);
    return ERR_OK;
}

static void api_source_free(void *self)
{
    struct api_source *s = self;

    api_client_free(s->client);
    free(s);
}

static const struct source_ops API_SOURCE = {.name = "api", .free = api_source_free, .read = api_source_read};

struct source source_api(const struct source_options *o, struct err *err)
{
    struct api_source *s = calloc(1, sizeof(*s));

    if (!s)
        abort();
    s->token_hint = o->token_hint;
    s->client = api_client_new(&(struct api_client_options){.url = o->url,
                                                            .token = o->token,
                                                            .timeout_ms = (long)(o->deadline_us / 1000),
                                                            .is_over = o->stop},
                               err);
    if (s->client)
        return (struct source){&API_SOURCE, s};
    free(s);
    return (struct source){0};
}
