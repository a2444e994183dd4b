/* SPDX-License-Identifier: Apache-2.0 */
/* The monitoring API's answers about hours: live figures, hours of a provider, comparisons, errors, models. On the thread of
 * RUN_READING. Requests of providers and models are attempts here: one that failed over counts at both. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gatewayd/api/api_view_priv.h"
#include "gatewayd/api/provider_health_priv.h"
#include "libshared/cli/human.h"
#include "libshared/store/kv_keys.h"

/* ---- live ------------------------------------------------------------------------------------------------------------ */

static const struct hourly_sum *sum_of(const struct hourly_sums *s, const char *provider)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->v[i].provider, provider) == 0)
            return &s->v[i];
    return NULL;
}

static json_t *realtime_row(const struct measures *m, const struct health *h)
{
    json_t *row = json_object();

    view_put_measures(row, m);
    SET(row, "health_score", h && h->is_known ? json_real(health_rounded(h->score)) : json_null());
    return row;
}

static double put_realtime(json_t *providers, const struct picture *p, const struct hourly_sums *s)
{
    static const struct measures NOTHING = {0};
    double score = 0;
    unsigned known = 0;

    for (size_t i = 0; i < p->n_providers; i++) {
        const char *name = label_text(p->providers[i].provider);
        const struct hourly_sum *sum = sum_of(s, name);
        struct health h = provider_health(p, p->providers[i].provider).health;

        SET(providers, name, realtime_row(sum ? &sum->m : &NOTHING, &h));
        score += h.is_known ? h.score : 0;
        known += h.is_known;
    }
    for (size_t i = 0; i < s->n; i++) /* of the past, or of other nodes */
        if (!json_object_get(providers, s->v[i].provider))
            SET(providers, s->v[i].provider, realtime_row(&s->v[i].m, NULL));
    return known ? health_rounded(score / known) : NAN;
}

void api_realtime(const struct api_request *rq, struct api_reply *reply)
{
    int64_t hours = api_count(rq, "hours");
    struct view_ask ask = {.from = view_hours_back(wall_now(), hours)};
    struct view v;
    struct picture p;
    struct hourly_sums by_provider, all;
    json_t *o, *providers;
    double score;

    if (!view_read(rq, &ask, &v, reply))
        return;
    if (hourly_sum(&v.h, HOURLY_PROVIDER, 0, v.h.n, &by_provider) ||
        hourly_sum(&v.h, HOURLY_ALL, 0, v.h.n, &all))
        abort();
    picture_take(&p, rq->gw);
    o = view_head(&v);
    providers = json_object();
    score = put_realtime(providers, &p, &by_provider);
    SET(o, "hours", json_integer(hours));
    SET(o, "providers", providers);
    SET(o, "total_requests", json_integer(all.n ? all.v[0].m.v[MEASURE_req] : 0));
    SET(o, "total_attempts", json_integer(all.n ? all.v[0].m.v[MEASURE_attempts] : 0));
    api_set_cost(o, "total_cost", "total_cost_nanousd", all.n ? all.v[0].m.v[MEASURE_cost_nano] : 0);
    SET(o, "avg_health_score", api_json_number(score));
    SET(o, "active_streams", api_json_count(p.totals.active_streams));
    picture_release(&p);
    hourly_sums_release(&by_provider);
    hourly_sums_release(&all);
    view_release(&v);
    api_reply_json(reply, o);
}

/* ---- hours of one provider ------------------------------------------------------------------------------------------- */

/* 404 with the reply written: neither configured nor in what was read. */
static bool provider_found(const struct api_request *rq, struct span provider, const struct hourly *h,
                           struct api_reply *reply)
{
    struct hourly_sums s;
    bool is_there = view_knows_provider(rq->gw, provider);

    if (!is_there && hourly_sum(h, HOURLY_PROVIDER, 0, h->n, &s) == ERR_OK) {
        is_there = s.n > 0;
        hourly_sums_release(&s);
    }
    if (!is_there)
        api_reply_error(reply, ERR_NOT_FOUND, "no provider is named '%.*s'",
                        (int)(provider.len < 100 ? provider.len : 100), provider.p);
    return is_there;
}

static void put_percentiles(json_t *o, const struct sketch *s)
{
    SET(o, "p50_ms", view_ms(s, 0.50));
    SET(o, "p95_ms", view_ms(s, 0.95));
    SET(o, "p99_ms", view_ms(s, 0.99));
}

static json_t *hour_row_json(const struct hourly *h, size_t i)
{
    struct hourly_sums s;
    const struct hourly_sum *sum = view_sum(h, i, i + 1, &s);
    json_t *o = json_object();

    SET(o, "hour", view_hour(h->from + (int64_t)i * h->step_s));
    view_put_measures(o, &sum->m);
    put_percentiles(o, &sum->sketch);
    hourly_sums_release(&s);
    return o;
}

static bool read_provider(const struct api_request *rq, int64_t hours, char name[256], struct view *v,
                          struct api_reply *reply)
{
    struct view_ask ask = {.from = view_hours_back(wall_now(), hours),
                           .step_s = VIEW_HOUR_S,
                           .has_sketches = true,
                           .provider = name};

    (void)span_copy(name, 256, rq->tail);
    if (!view_read(rq, &ask, v, reply))
        return false;
    if (provider_found(rq, rq->tail, &v->h, reply))
        return true;
    view_release(v);
    return false;
}

static json_t *total_json(const struct hourly *h)
{
    struct hourly_sums s;
    const struct hourly_sum *sum = view_sum(h, 0, h->n, &s);
    json_t *o = json_object();

    view_put_measures(o, &sum->m);
    put_percentiles(o, &sum->sketch);
    SET(o, "unique_models", json_integer(sum->models));
    hourly_sums_release(&s);
    return o;
}

void api_hourly(const struct api_request *rq, struct api_reply *reply)
{
    int64_t hours = api_count(rq, "hours");
    char name[256];
    struct view v;
    json_t *o, *rows = json_array();

    if (!read_provider(rq, hours, name, &v, reply)) {
        json_decref(rows);
        return;
    }
    for (size_t i = 0; i < v.h.n; i++)
        (void)json_array_append_new(rows, hour_row_json(&v.h, i));
    o = view_head(&v);
    SET(o, "provider", json_string(name));
    SET(o, "hours", json_integer(hours));
    SET(o, "stats", rows);
    SET(o, "total", total_json(&v.h));
    view_release(&v);
    api_reply_json(reply, o);
}

/* ---- latency --------------------------------------------------------------------------------------------------------- */

static json_t *trend_json(const double *p95, size_t n)
{
    struct trend t = trend_of(p95, n);
    json_t *o = json_object();

    SET(o, "direction", json_string(t.direction));
    SET(o, "change", api_json_number(t.change));
    SET(o, "p95_ms_per_hour", api_json_number(t.per_step));
    return o;
}

void api_latency_trends(const struct api_request *rq, struct api_reply *reply)
{
    int64_t hours = api_count(rq, "hours");
    char name[256];
    struct view v;
    json_t *o, *rows = json_array();
    double *p95;

    if (!read_provider(rq, hours, name, &v, reply)) {
        json_decref(rows);
        return;
    }
    p95 = calloc(v.h.n, sizeof(*p95));
    if (!p95)
        abort();
    for (size_t i = 0; i < v.h.n; i++) {
        struct hourly_sums s;
        const struct hourly_sum *sum = view_sum(&v.h, i, i + 1, &s);
        json_t *row = json_object();

        p95[i] = sketch_quantile_us(&sum->sketch, 0.95) / 1000;
        SET(row, "hour", view_hour(v.h.from + (int64_t)i * VIEW_HOUR_S));
        SET(row, "count", json_integer(sum->m.v[MEASURE_attempts]));
        SET(row, "avg_ms", api_json_number(measures_latency_ms(&sum->m)));
        put_percentiles(row, &sum->sketch);
        SET(row, "avg_ttft_ms",
            api_json_number(measures_ratio(sum->m.v[MEASURE_ttfb_us], sum->m.v[MEASURE_ttfb_n]) / 1000));
        (void)json_array_append_new(rows, row);
        hourly_sums_release(&s);
    }
    o = view_head(&v);
    SET(o, "provider", json_string(name));
    SET(o, "hours", json_integer(hours));
    SET(o, "trends", rows);
    SET(o, "trend", trend_json(p95, v.h.n));
    free(p95);
    view_release(&v);
    api_reply_json(reply, o);
}

/* "openrouter/openai/gpt-4o" names the model openai/gpt-4o. */
static bool split_target(const struct api_request *rq, char provider[256], char model[512],
                         struct api_reply *reply)
{
    struct span rest = rq->tail, first = span_split(&rest, '/');

    if (first.len && first.len < 256 && rest.p && rest.len && rest.len < 512) {
        (void)span_copy(provider, 256, first);
        (void)span_copy(model, 512, rest);
        return true;
    }
    api_reply_error(reply, ERR_NOT_FOUND, "the path ends with a provider and a model");
    return false;
}

/* The sums of one model, borrowed from `s`; NULL with the reply written. */
static const struct hourly_sum *read_model(const struct api_request *rq, int64_t from, struct view *v,
                                           struct hourly_sums *s, char provider[256], char model[512],
                                           struct api_reply *reply)
{
    struct view_ask ask = {.from = from, .has_sketches = true, .provider = provider, .model = model};

    if (!split_target(rq, provider, model, reply) || !view_read(rq, &ask, v, reply))
        return NULL;
    if (!provider_found(rq, span_of(provider), &v->h, reply)) {
        view_release(v);
        return NULL;
    }
    return view_sum(&v->h, 0, v->h.n, s);
}

static void put_asked(json_t *o, const char *list, const struct sketch *sketch)
{
    struct span rest = span_of(list);

    while (rest.p) {
        struct span one = span_split(&rest, ',');
        char text[16], name[24];

        (void)span_copy(text, sizeof(text), one);
        (void)snprintf(name, sizeof(name), "p%s", text);
        SET(o, name, view_ms(sketch, strtod(text, NULL) / 100));
    }
}

void api_latency(const struct api_request *rq, struct api_reply *reply)
{
    char provider[256], model[512], list[256];
    const struct hourly_sum *sum;
    struct hourly_sums s;
    struct view v;
    json_t *o;

    sum = read_model(rq, view_hours_back(wall_now(), api_count(rq, "hours")), &v, &s, provider, model, reply);
    if (!sum)
        return;
    api_text(rq, "percentiles", list, sizeof(list));
    o = view_head(&v);
    SET(o, "provider", json_string(provider));
    SET(o, "model", json_string(model));
    SET(o, "count", json_integer(sum->m.v[MEASURE_attempts]));
    SET(o, "avg", api_json_number(measures_latency_ms(&sum->m)));
    put_asked(o, list, &sum->sketch);
    SET(o, "min", sum->sketch.count ? json_real((double)sum->sketch.min_us / 1000) : json_null());
    SET(o, "max", sum->sketch.count ? json_real((double)sum->sketch.max_us / 1000) : json_null());
    SET(o, "avg_ttft",
        api_json_number(measures_ratio(sum->m.v[MEASURE_ttfb_us], sum->m.v[MEASURE_ttfb_n]) / 1000));
    hourly_sums_release(&s);
    view_release(&v);
    api_reply_json(reply, o);
}

/* ---- tokens ---------------------------------------------------------------------------------------------------------- */

static double per(double amount, int64_t n)
{
    return n > 0 ? amount / (double)n : NAN;
}

void api_token_efficiency(const struct api_request *rq, struct api_reply *reply)
{
    int64_t days = api_count(rq, "days");
    char provider[256], model[512];
    const struct hourly_sum *sum;
    const int64_t *m;
    struct hourly_sums s;
    struct view v;
    double cost;
    json_t *o;

    sum = read_model(rq, view_hours_back(wall_now(), days * 24), &v, &s, provider, model, reply);
    if (!sum)
        return;
    m = sum->m.v;
    cost = (double)m[MEASURE_cost_nano] / 1e9;
    o = view_head(&v);
    SET(o, "provider", json_string(provider));
    SET(o, "model", json_string(model));
    SET(o, "days", json_integer(days));
    view_put_measures(o, &sum->m);
    SET(o, "reasoning_tokens", json_integer(m[MEASURE_treason]));
    SET(o, "avg_input_tokens", api_json_number(per((double)m[MEASURE_tin], m[MEASURE_attempts])));
    SET(o, "avg_output_tokens", api_json_number(per((double)m[MEASURE_tout], m[MEASURE_attempts])));
    SET(o, "output_input_ratio", api_json_number(measures_ratio(m[MEASURE_tout], m[MEASURE_tin])));
    SET(o, "cached_ratio", api_json_number(measures_ratio(m[MEASURE_tcached], m[MEASURE_tin])));
    SET(o, "cost_per_request", api_json_number(per(cost, m[MEASURE_attempts])));
    SET(o, "cost_per_success", api_json_number(per(cost, m[MEASURE_ok])));
    SET(o, "cost_per_1m_tokens", api_json_number(per(cost * 1e6, m[MEASURE_tin] + m[MEASURE_tout])));
    SET(o, "tokens_per_second", api_json_number(per((double)m[MEASURE_tout] * 1e6, m[MEASURE_lat_us])));
    hourly_sums_release(&s);
    view_release(&v);
    api_reply_json(reply, o);
}

/* ---- comparisons ----------------------------------------------------------------------------------------------------- */

static int by_requests(const void *a, const void *b)
{
    const struct hourly_sum *x = a, *y = b;
    int64_t p = x->m.v[MEASURE_attempts], q = y->m.v[MEASURE_attempts];

    return p != q ? (p < q) - (p > q) : strcmp(x->provider, y->provider);
}
static int by_cost(const void *a, const void *b)
{
    const struct hourly_sum *x = a, *y = b;
    int64_t p = x->m.v[MEASURE_cost_nano], q = y->m.v[MEASURE_cost_nano];

    return p != q ? (p < q) - (p > q) : by_requests(a, b);
}
static int falling(double p, double q, const void *a, const void *b)
{
    p = isnan(p) ? -1 : p;
    q = isnan(q) ? -1 : q;
    return p != q ? (p < q) - (p > q) : by_requests(a, b);
}
static int by_errors(const void *a, const void *b)
{
    return falling(measures_error_rate(&((const struct hourly_sum *)a)->m),
                   measures_error_rate(&((const struct hourly_sum *)b)->m), a, b);
}
static int by_success(const void *a, const void *b)
{
    return falling(measures_success_rate(&((const struct hourly_sum *)a)->m),
                   measures_success_rate(&((const struct hourly_sum *)b)->m), a, b);
}
static int by_p95(const void *a, const void *b)
{
    return falling(sketch_quantile_us(&((const struct hourly_sum *)a)->sketch, 0.95),
                   sketch_quantile_us(&((const struct hourly_sum *)b)->sketch, 0.95), a, b);
}

static void rank(struct hourly_sums *s, const char *by)
{
    static const struct {
        const char *name;
        int (*fn)(const void *, const void *);
    } RANKS[] = {{"requests", by_requests},
                 {"cost", by_cost},
                 {"p95", by_p95},
                 {"errors", by_errors},
                 {"success", by_success}};

    for (unsigned i = 0; s->n && i < ARRAY_LEN(RANKS); i++)
        if (strcmp(RANKS[i].name, by) == 0)
            qsort(s->v, s->n, sizeof(*s->v), RANKS[i].fn);
}

/* Sums by provider or model, ranked; false with the reply written. */
static bool read_ranked(const struct api_request *rq, enum hourly_by by, const char *provider, struct view *v,
                        struct hourly_sums *s, struct api_reply *reply)
{
    struct view_ask ask = {.from = view_hours_back(wall_now(), api_count(rq, "hours")),
                           .has_sketches = true,
                           .provider = provider};
    char how[32];

    if (!view_read(rq, &ask, v, reply))
        return false;
    if (hourly_sum(&v->h, by, 0, v->h.n, s))
        abort();
    if (api_text(rq, "rank", how, sizeof(how)))
        rank(s, how);
    return true;
}

void api_comparison(const struct api_request *rq, struct api_reply *reply)
{
    struct hourly_sums s;
    struct view v;
    json_t *o, *rows = json_array();

    if (!read_ranked(rq, HOURLY_PROVIDER, NULL, &v, &s, reply)) {
        json_decref(rows);
        return;
    }
    for (size_t i = 0; i < s.n; i++) {
        json_t *row = json_object();

        SET(row, "provider", json_string(s.v[i].provider));
        view_put_measures(row, &s.v[i].m);
        put_percentiles(row, &s.v[i].sketch);
        SET(row, "avg_error_rate", api_json_number(measures_error_rate(&s.v[i].m)));
        SET(row, "unique_models", json_integer(s.v[i].models));
        (void)json_array_append_new(rows, row);
    }
    o = view_head(&v);
    SET(o, "hours", json_integer(api_count(rq, "hours")));
    SET(o, "providers", rows);
    SET(o, "total_providers", json_integer((json_int_t)s.n));
    hourly_sums_release(&s);
    view_release(&v);
    api_reply_json(reply, o);
}

void api_models_stats(const struct api_request *rq, struct api_reply *reply)
{
    size_t most = (size_t)api_count(rq, "limit");
    char provider[256];
    bool of_one = api_text(rq, "provider", provider, sizeof(provider));
    struct hourly_sums s;
    struct view v;
    json_t *o, *rows = json_array();

    if (!read_ranked(rq, HOURLY_MODEL, of_one ? provider : NULL, &v, &s, reply)) {
        json_decref(rows);
        return;
    }
    for (size_t i = 0; i < s.n && i < most; i++) {
        json_t *row = json_object();

        SET(row, "provider", json_string(s.v[i].provider));
        SET(row, "model", json_string(s.v[i].model));
        view_put_measures(row, &s.v[i].m);
        put_percentiles(row, &s.v[i].sketch);
        SET(row, "avg_ttft_ms",
            api_json_number(measures_ratio(s.v[i].m.v[MEASURE_ttfb_us], s.v[i].m.v[MEASURE_ttfb_n]) / 1000));
        (void)json_array_append_new(rows, row);
    }
    o = view_head(&v);
    SET(o, "hours", json_integer(api_count(rq, "hours")));
    SET(o, "models", rows);
    SET(o, "total_models", json_integer((json_int_t)s.n));
    hourly_sums_release(&s);
    view_release(&v);
    api_reply_json(reply, o);
}

/* ---- errors ---------------------------------------------------------------------------------------------------------- */

static json_t *error_rows(const struct hourly *h, enum hourly_by by)
{
    struct hourly_sums s;
    json_t *rows = json_array();

    if (hourly_sum(h, by, 0, h->n, &s))
        abort();
    rank(&s, "errors");
    for (size_t i = 0; i < s.n; i++) {
        const struct measures *m = &s.v[i].m;
        json_t *row = json_object();

        SET(row, "provider", json_string(s.v[i].provider));
        if (by == HOURLY_MODEL)
            SET(row, "model", json_string(s.v[i].model));
        SET(row, "total_requests", json_integer(m->v[MEASURE_attempts]));
        SET(row, "failed_requests", json_integer(m->v[MEASURE_err]));
        SET(row, "error_rate", api_json_number(measures_error_rate(m)));
        (void)json_array_append_new(rows, row);
    }
    hourly_sums_release(&s);
    return rows;
}

void api_error_rates(const struct api_request *rq, struct api_reply *reply)
{
    struct view_ask ask = {.from = view_hours_back(wall_now(), api_count(rq, "hours"))};
    char since[16];
    struct view v;
    json_t *o;

    if (api_text(rq, "since", since, sizeof(since))) {
        api_error_rates_of_process(rq, reply);
        return;
    }
    if (!view_read(rq, &ask, &v, reply))
        return;
    o = view_head(&v);
    SET(o, "hours", json_integer(api_count(rq, "hours")));
    SET(o, "models", error_rows(&v.h, HOURLY_MODEL));
    SET(o, "providers", error_rows(&v.h, HOURLY_PROVIDER));
    view_release(&v);
    api_reply_json(reply, o);
}

/* ---- the last errors ------------------------------------------------------------------------------------------------- */

struct listing {
    json_t *rows;
};

static const char *text_of_code(const char *code)
{
    for (int e = 0; code && e < ERR_COUNT; e++)
        if (strcmp(err_row((enum err_code)e)->code, code) == 0)
            return err_row((enum err_code)e)->text;
    return code ? code : "unknown";
}

/* {"at","model","error","http_status","request","detail","latency_ms"} as the writer makes it. */
static void take_error(void *user, struct span field, struct span value)
{
    struct listing *l = user;
    json_t *stored = json_loadb(value.p, value.len, 0, NULL), *o = json_object();
    const char *code = json_string_value(json_object_get(stored, "error"));
    const char *detail = json_string_value(json_object_get(stored, "detail"));
    const json_t *latency = json_object_get(stored, "latency_ms");
    struct wall at;

    (void)field;
    SET(o, "model",
        json_incref(json_object_get(stored, "model") ? json_object_get(stored, "model") : json_null()));
    SET(o, "error", json_string(detail ? detail : text_of_code(code)));
    SET(o, "timestamp",
        human_parse_time(json_string_value(json_object_get(stored, "at")), &at)
            ? json_real((double)at.us / 1e6)
            : json_null());
    SET(o, "latency_ms", json_is_number(latency) ? json_real(json_number_value(latency)) : json_null());
    SET(o, "type", code ? json_string(code) : json_null());
    SET(o, "http_status",
        json_integer_value(json_object_get(stored, "http_status"))
            ? json_incref(json_object_get(stored, "http_status"))
            : json_null());
    SET(o, "request_id",
        json_incref(json_object_get(stored, "request") ? json_object_get(stored, "request") : json_null()));
    if (json_is_object(stored))
        (void)json_array_append(l->rows, o);
    json_decref(o);
    json_decref(stored);
}

void api_errors(const struct api_request *rq, struct api_reply *reply)
{
    const struct monitor_stores *stores = gateway_monitor_stores(rq->gw);
    struct listing l = {.rows = json_array()};
    char key[KV_KEY_CAP], provider[256];
    struct err err = {0};

    (void)span_copy(provider, sizeof(provider), rq->tail);
    kv_key_errors(key, provider);
    if (kv_list(stores->kv, key, (unsigned)api_count(rq, "limit"), take_error, &l, &err)) {
        json_decref(l.rows);
        view_fail(reply, &err);
        return;
    }
    if (!json_array_size(l.rows) && !view_knows_provider(rq->gw, rq->tail)) {
        json_decref(l.rows);
        api_reply_error(reply, ERR_NOT_FOUND, "no provider is named '%.*s'",
                        (int)(rq->tail.len < 100 ? rq->tail.len : 100), rq->tail.p);
        return;
    }
    api_reply_json(reply, l.rows);
}
