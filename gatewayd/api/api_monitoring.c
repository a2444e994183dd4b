/* SPDX-License-Identifier: Apache-2.0 */
/* The monitoring API. Figures come from the fact cells: the last five minutes for health, and since the start of the
 * process for sums, which `since` says; what cells do not know is null or left out, never 0. */
#include <math.h>
#include <stdlib.h>

#include "gatewayd/api/provider_health_priv.h"

static struct health_facts facts_of(const struct picture *p, const struct facts_provider_sum *s)
{
    struct health_facts f = {
        .attempts = s->window_attempts, .errors = s->window_errors, .p95_s = s->window_p95_s};

    for (size_t i = 0; i < p->state.n_breakers; i++) {
        const struct breaker_view *b = &p->state.breakers[i];

        if (b->provider != s->provider)
            continue;
        f.breakers++;
        f.breakers_open += b->state == BREAKER_OPEN;
        f.breakers_half_open += b->state == BREAKER_HALF_OPEN;
    }
    return f;
}

struct health provider_health(const struct picture *p, const struct facts_provider_sum *s)
{
    struct health_facts f = facts_of(p, s);

    return health_of(&f);
}

double health_rounded(double score)
{
    return round(score * 10) / 10;
}

json_t *requests_per_s(const struct picture *p, uint64_t in_window)
{
    double s = fmin((double)picture_uptime_us(p) / 1e6, HEALTH_WINDOW_S);

    return s >= 1 ? json_real(round((double)in_window / s * 100) / 100) : json_null();
}

static json_t *score_json(const struct health *h)
{
    return h->is_known ? json_real(health_rounded(h->score)) : json_null();
}

static json_t *health_json(const struct picture *p, const struct facts_provider_sum *s)
{
    struct health h = provider_health(p, s);
    json_t *o = json_object();

    (void)json_object_set_new(o, "provider", json_string(label_text(s->provider)));
    (void)json_object_set_new(o, "health_score", score_json(&h));
    (void)json_object_set_new(o, "status", json_string(health_name(&h)));
    (void)json_object_set_new(o, "last_updated", api_json_time(s->last_seen));
    (void)json_object_set_new(o, "error_rate", api_json_ratio(s->window_errors, s->window_attempts));
    (void)json_object_set_new(o, "latency_p50_ms", api_json_number(s->window_p50_s * 1000));
    (void)json_object_set_new(o, "latency_p95_ms", api_json_number(s->window_p95_s * 1000));
    (void)json_object_set_new(o, "requests_per_s", requests_per_s(p, s->window_attempts));
    (void)json_object_set_new(o, "attempts", api_json_count(s->window_attempts));
    (void)json_object_set_new(o, "window_s", json_integer(HEALTH_WINDOW_S));
    return o;
}

void api_provider_healths(const struct api_request *rq, struct api_reply *reply)
{
    struct picture p;
    json_t *rows = json_array();

    picture_take(&p, rq->gw);
    for (size_t i = 0; i < p.n_providers; i++)
        (void)json_array_append_new(rows, health_json(&p, &p.providers[i]));
    picture_release(&p);
    api_reply_json(reply, rows);
}

static json_t *term(double points, double of)
{
    json_t *o = json_object();

    (void)json_object_set_new(o, "points", json_real(health_rounded(points)));
    (void)json_object_set_new(o, "of", json_real(of));
    return o;
}

static json_t *terms_json(const struct health *h, const struct health_facts *f)
{
    json_t *o;

    if (!h->is_known)
        return json_null();
    o = json_object();
    (void)json_object_set_new(o, "success_rate", term(h->success, 50));
    (void)json_object_set_new(o, "latency_p95", term(h->latency, 30));
    (void)json_object_set_new(o, "breakers", term(h->breakers, 20));
    (void)json_object_set_new(o, "breakers_total", json_integer(f->breakers));
    (void)json_object_set_new(o, "breakers_open", json_integer(f->breakers_open));
    (void)json_object_set_new(o, "breakers_half_open", json_integer(f->breakers_half_open));
    (void)json_object_set_new(o, "latency_p95_target_ms", json_real(HEALTH_P95_TARGET * 1000));
    return o;
}

void api_provider_health(const struct api_request *rq, struct api_reply *reply)
{
    struct picture p;
    json_t *o = NULL;

    picture_take(&p, rq->gw);
    for (size_t i = 0; !o && i < p.n_providers; i++)
        if (span_is(rq->tail, label_text(p.providers[i].provider))) {
            struct health_facts f = facts_of(&p, &p.providers[i]);
            struct health h = health_of(&f);

            o = health_json(&p, &p.providers[i]);
            (void)json_object_set_new(o, "terms", terms_json(&h, &f));
        }
    picture_release(&p);
    if (o)
        api_reply_json(reply, o);
    else
        api_reply_error(reply, ERR_NOT_FOUND, "no provider is named '%.*s'", (int)rq->tail.len, rq->tail.p);
}

/* ---- sums ---------------------------------------------------------------------------------------------------------- */

/* A span of time that the caller asked for. The cells reach back to the start of the process only, and the answer says
 * so by `since`; nonsense is refused all the same. */
static bool period_ok(const struct api_request *rq, struct api_reply *reply, const char *name, uint64_t most)
{
    char text[32];
    uint64_t v;

    if (!rq->query.p || !api_query_param(rq->query, name, text, sizeof(text)))
        return true;
    if (span_to_u64(span_of(text), &v) && v >= 1 && v <= most)
        return true;
    api_reply_error(reply, ERR_BAD_REQUEST, "'%s' must be a whole number from 1 to %llu", name,
                    (unsigned long long)most);
    return false;
}

static json_t *head(const struct picture *p)
{
    json_t *o = json_object();

    (void)json_object_set_new(o, "timestamp", api_json_time(p->state.now));
    (void)json_object_set_new(o, "since", api_json_time(p->state.started));
    return o;
}

void api_realtime(const struct api_request *rq, struct api_reply *reply)
{
    struct picture p;
    json_t *o, *providers;
    double score_sum = 0;
    unsigned known = 0;

    if (!period_ok(rq, reply, "hours", 168))
        return;
    picture_take(&p, rq->gw);
    o = head(&p);
    providers = json_object();
    for (size_t i = 0; i < p.n_providers; i++) {
        const struct facts_provider_sum *s = &p.providers[i];
        struct health h = provider_health(&p, s);
        json_t *row = json_object();

        (void)json_object_set_new(row, "total_requests", api_json_count(s->attempts));
        api_set_cost(row, "total_cost", "total_cost_nanousd", s->cost_nanousd);
        (void)json_object_set_new(row, "health_score", score_json(&h));
        (void)json_object_set_new(providers, label_text(s->provider), row);
        score_sum += h.is_known ? h.score : 0;
        known += h.is_known;
    }
    (void)json_object_set_new(o, "providers", providers);
    (void)json_object_set_new(o, "total_requests", api_json_count(p.totals.requests));
    api_set_cost(o, "total_cost", "total_cost_nanousd", p.totals.cost_nanousd);
    (void)json_object_set_new(o, "avg_health_score",
                              known ? json_real(health_rounded(score_sum / known)) : json_null());
    (void)json_object_set_new(o, "active_streams", api_json_count(p.totals.active_streams));
    picture_release(&p);
    api_reply_json(reply, o);
}

/* ---- by model ------------------------------------------------------------------------------------------------------ */

#define MODELS_MAX 4096u

struct spend {
    uint64_t attempts, errors, input_tokens, output_tokens, unpriced;
    int64_t cost_nanousd;
};

static void set_spend(json_t *o, const struct spend *s, int64_t all_nanousd)
{
    double cost = (double)s->cost_nanousd / 1e9, tokens = (double)(s->input_tokens + s->output_tokens);

    (void)json_object_set_new(o, "total_requests", api_json_count(s->attempts));
    (void)json_object_set_new(o, "input_tokens", api_json_count(s->input_tokens));
    (void)json_object_set_new(o, "output_tokens", api_json_count(s->output_tokens));
    (void)json_object_set_new(o, "total_tokens", api_json_count(s->input_tokens + s->output_tokens));
    api_set_cost(o, "total_cost", "total_cost_nanousd", s->cost_nanousd);
    (void)json_object_set_new(
        o, "share", all_nanousd > 0 ? json_real((double)s->cost_nanousd / (double)all_nanousd) : json_null());
    (void)json_object_set_new(o, "cost_per_1k_requests",
                              s->attempts ? json_real(cost / (double)s->attempts * 1e3) : json_null());
    (void)json_object_set_new(o, "cost_per_1m_tokens",
                              tokens > 0 ? json_real(cost / tokens * 1e6) : json_null());
    (void)json_object_set_new(o, "unpriced_requests", api_json_count(s->unpriced));
}

static json_t *cost_of_model(const struct facts_model_sum *m, int64_t all_nanousd)
{
    struct spend s = {m->attempts,      m->errors,   m->input_tokens,
                      m->output_tokens, m->unpriced, m->cost_nanousd};
    json_t *o = json_object();

    (void)json_object_set_new(o, "provider", json_string(label_text(m->provider)));
    (void)json_object_set_new(o, "model", api_json_label(m->model));
    set_spend(o, &s, all_nanousd);
    return o;
}

static json_t *cost_of_provider(const struct facts_provider_sum *p, int64_t all_nanousd)
{
    struct spend s = {p->attempts,      p->errors,   p->input_tokens,
                      p->output_tokens, p->unpriced, p->cost_nanousd};
    json_t *o = json_object();

    (void)json_object_set_new(o, "provider", json_string(label_text(p->provider)));
    set_spend(o, &s, all_nanousd);
    return o;
}

static size_t take_models(struct picture *p, struct facts_model_sum **out)
{
    *out = arena_array(&p->arena, struct facts_model_sum, MODELS_MAX);
    return facts_sum_models(p->facts, p->n_facts, p->state.now, *out, MODELS_MAX);
}

void api_cost(const struct api_request *rq, struct api_reply *reply)
{
    struct picture p;
    struct facts_model_sum *models;
    struct spend all = {0};
    json_t *o, *by_provider = json_array(), *by_model = json_array();
    size_t n;

    if (!period_ok(rq, reply, "days", 366)) {
        json_decref(by_provider);
        json_decref(by_model);
        return;
    }
    picture_take(&p, rq->gw);
    n = take_models(&p, &models);
    for (size_t i = 0; i < p.n_providers; i++) {
        const struct facts_provider_sum *s = &p.providers[i];

        all.attempts += s->attempts;
        all.errors += s->errors;
        all.input_tokens += s->input_tokens;
        all.output_tokens += s->output_tokens;
        all.unpriced += s->unpriced;
        all.cost_nanousd += s->cost_nanousd;
    }
    for (size_t i = 0; i < p.n_providers; i++)
        (void)json_array_append_new(by_provider, cost_of_provider(&p.providers[i], all.cost_nanousd));
    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(by_model, cost_of_model(&models[i], all.cost_nanousd));
    o = head(&p);
    set_spend(o, &all, all.cost_nanousd);
    (void)json_object_set_new(o, "providers", by_provider);
    (void)json_object_set_new(o, "models", by_model);
    picture_release(&p);
    api_reply_json(reply, o);
}

void api_error_rates(const struct api_request *rq, struct api_reply *reply)
{
    struct picture p;
    struct facts_model_sum *models;
    json_t *o, *rows = json_array();
    size_t n;

    if (!period_ok(rq, reply, "hours", 168)) {
        json_decref(rows);
        return;
    }
    picture_take(&p, rq->gw);
    n = take_models(&p, &models);
    for (size_t i = 0; i < n; i++) {
        json_t *row = json_object();

        (void)json_object_set_new(row, "provider", json_string(label_text(models[i].provider)));
        (void)json_object_set_new(row, "model", api_json_label(models[i].model));
        (void)json_object_set_new(row, "total_requests", api_json_count(models[i].attempts));
        (void)json_object_set_new(row, "failed_requests", api_json_count(models[i].errors));
        (void)json_object_set_new(row, "error_rate", api_json_ratio(models[i].errors, models[i].attempts));
        (void)json_array_append_new(rows, row);
    }
    o = head(&p);
    (void)json_object_set_new(o, "models", rows);
    picture_release(&p);
    api_reply_json(reply, o);
}
