/* SPDX-License-Identifier: Apache-2.0 */
/* What the fact cells know: health of providers over the last five minutes, and sums since the start of the process, for live
 * views, which need figures that only grow; `since` says that start. What cells do not know is null or left out, never 0. */
#include <math.h>
#include <stdlib.h>

#include "gatewayd/api/provider_health_priv.h"

struct health_row provider_health(const struct picture *p, label provider)
{
    static const struct health NOTHING = {.error_rate = NAN, .availability = NAN};
    const struct health_row *row = health_board_find(p->state.health, provider);

    if (row)
        return *row;
    return (struct health_row){
        .provider = provider, .health = NOTHING, .facts.p95_s = NAN, .p50_s = NAN}; /* not configured */
}

static int64_t window_us(const struct picture *p)
{
    return p->state.health ? p->state.health->window_us : HEALTH_WINDOW_US;
}

json_t *requests_per_s(const struct picture *p, uint64_t in_window)
{
    double s = fmin((double)picture_uptime_us(p), (double)window_us(p)) / 1e6;

    return s >= 1 ? json_real(round((double)in_window / s * 100) / 100) : json_null();
}

static json_t *score_json(const struct health *h)
{
    return h->is_known ? json_real(health_rounded(h->score)) : json_null();
}

static struct wall evidence_of(const struct health_row *row)
{
    return row->last_attempt.us > row->probed.us ? row->last_attempt : row->probed;
}

static json_t *health_json(const struct picture *p, label provider)
{
    struct health_row row = provider_health(p, provider);
    const struct health *h = &row.health;
    json_t *o = json_object();

    (void)json_object_set_new(o, "provider", json_string(label_text(provider)));
    (void)json_object_set_new(o, "health_score", score_json(h));
    (void)json_object_set_new(o, "status", json_string(health_name(h)));
    (void)json_object_set_new(o, "last_updated", api_json_time(evidence_of(&row)));
    (void)json_object_set_new(o, "availability", api_json_number(h->availability));
    (void)json_object_set_new(o, "error_rate", api_json_number(h->error_rate));
    (void)json_object_set_new(o, "latency_p50_ms", api_json_number(row.p50_s * 1000));
    (void)json_object_set_new(o, "latency_p95_ms", api_json_number(row.facts.p95_s * 1000));
    (void)json_object_set_new(o, "requests_per_s", requests_per_s(p, row.facts.attempts));
    (void)json_object_set_new(o, "attempts", api_json_count(row.facts.attempts));
    (void)json_object_set_new(o, "errors", api_json_count(row.facts.errors));
    (void)json_object_set_new(o, "window_s", json_integer(window_us(p) / 1000000));
    (void)json_object_set_new(o, "computed_at",
                              api_json_time(p->state.health ? p->state.health->at : (struct wall){0}));
    return o;
}

void api_provider_healths(const struct api_request *rq, struct api_reply *reply)
{
    struct picture p;
    json_t *rows = json_array();

    picture_take(&p, rq->gw);
    for (size_t i = 0; i < p.n_providers; i++)
        (void)json_array_append_new(rows, health_json(&p, p.providers[i].provider));
    picture_release(&p);
    api_reply_json(reply, rows);
}

/* ---- the arithmetic of one ------------------------------------------------------------------------------------------- */

static json_t *term(double points, double of)
{
    json_t *o = json_object();

    (void)json_object_set_new(o, "points", json_real(health_rounded(points)));
    (void)json_object_set_new(o, "of", json_real(of));
    return o;
}

static json_t *cap_json(const struct health *h)
{
    json_t *o;

    if (h->cap == HEALTH_UNCAPPED)
        return json_null();
    o = json_object();
    (void)json_object_set_new(o, "at", json_real(h->capped_at));
    (void)json_object_set_new(o, "reason", json_string(health_cap_text(h->cap)));
    return o;
}

static json_t *terms_json(const struct health *h, const struct health_facts *f)
{
    json_t *o;

    if (!h->is_known)
        return json_null();
    o = json_object();
    (void)json_object_set_new(o, "success_rate", term(h->success, HEALTH_POINTS_SUCCESS));
    (void)json_object_set_new(o, "latency_p95", term(h->latency, HEALTH_POINTS_LATENCY));
    (void)json_object_set_new(o, "breakers", term(h->breakers, HEALTH_POINTS_BREAKERS));
    (void)json_object_set_new(o, "sum", json_real(health_rounded(h->success + h->latency + h->breakers)));
    (void)json_object_set_new(o, "cap", cap_json(h));
    (void)json_object_set_new(o, "breakers_total", json_integer(f->breakers));
    (void)json_object_set_new(o, "breakers_open", json_integer(f->breakers_open));
    (void)json_object_set_new(o, "breakers_half_open", json_integer(f->breakers_half_open));
    (void)json_object_set_new(o, "latency_p95_target_ms", json_real(f->p95_target_s * 1000));
    return o;
}

static json_t *probe_json(const struct health_row *row)
{
    static const char *const NAMES[] = {"unclear", "ok", "failed"};
    json_t *o;

    if (!row->probed.us)
        return json_null();
    o = json_object();
    (void)json_object_set_new(o, "at", api_json_time(row->probed));
    (void)json_object_set_new(o, "outcome", json_string(NAMES[row->facts.probe]));
    (void)json_object_set_new(o, "took_ms", json_real((double)row->probe_us / 1000));
    (void)json_object_set_new(o, "detail", json_string(row->probe_text));
    return o;
}

void api_provider_health(const struct api_request *rq, struct api_reply *reply)
{
    struct picture p;
    json_t *o = NULL;

    picture_take(&p, rq->gw);
    for (size_t i = 0; !o && i < p.n_providers; i++)
        if (span_is(rq->tail, label_text(p.providers[i].provider))) {
            struct health_row row = provider_health(&p, p.providers[i].provider);

            o = health_json(&p, row.provider);
            (void)json_object_set_new(o, "terms", terms_json(&row.health, &row.facts));
            (void)json_object_set_new(o, "probe", probe_json(&row));
            (void)json_object_set_new(o, "nodes", json_integer(row.nodes));
            (void)json_object_set_new(
                o, "source",
                json_string(p.state.health && p.state.health->is_shared ? "all nodes" : "this node"));
        }
    picture_release(&p);
    if (o)
        api_reply_json(reply, o);
    else
        api_reply_error(reply, ERR_NOT_FOUND, "no provider is named '%.*s'", (int)rq->tail.len, rq->tail.p);
}

/* ---- sums ---------------------------------------------------------------------------------------------------------- */

static json_t *head(const struct picture *p)
{
    json_t *o = json_object();

    (void)json_object_set_new(o, "timestamp", api_json_time(p->state.now));
    (void)json_object_set_new(o, "since", api_json_time(p->state.started));
    return o;
}

/* ---- by model ------------------------------------------------------------------------------------------------------ */

#define MODELS_MAX 4096u

static void set_spend(json_t *o, const struct facts_sum *s, int64_t all_nanousd)
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

/* A model's row has the member also where nobody knows the model. */
static json_t *cost_json(const struct facts_sum *s, bool is_model, int64_t all_nanousd)
{
    json_t *o = json_object();

    (void)json_object_set_new(o, "provider", json_string(label_text(s->provider)));
    if (is_model)
        (void)json_object_set_new(o, "model", api_json_label(s->model));
    set_spend(o, s, all_nanousd);
    return o;
}

static size_t take_models(struct picture *p, struct facts_sum **out)
{
    *out = arena_array(&p->arena, struct facts_sum, MODELS_MAX);
    return facts_sum_models(p->facts, p->n_facts, p->state.now, *out, MODELS_MAX);
}

void api_cost_of_process(const struct api_request *rq, struct api_reply *reply)
{
    struct picture p;
    struct facts_sum *models;
    struct facts_sum all = {0};
    json_t *o, *by_provider = json_array(), *by_model = json_array();
    size_t n;

    picture_take(&p, rq->gw);
    n = take_models(&p, &models);
    for (size_t i = 0; i < p.n_providers; i++) {
        const struct facts_sum *s = &p.providers[i];

        all.attempts += s->attempts;
        all.errors += s->errors;
        all.input_tokens += s->input_tokens;
        all.output_tokens += s->output_tokens;
        all.unpriced += s->unpriced;
        all.cost_nanousd += s->cost_nanousd;
    }
    for (size_t i = 0; i < p.n_providers; i++)
        (void)json_array_append_new(by_provider, cost_json(&p.providers[i], false, all.cost_nanousd));
    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(by_model, cost_json(&models[i], true, all.cost_nanousd));
    o = head(&p);
    set_spend(o, &all, all.cost_nanousd);
    (void)json_object_set_new(o, "providers", by_provider);
    (void)json_object_set_new(o, "models", by_model);
    picture_release(&p);
    api_reply_json(reply, o);
}

void api_error_rates_of_process(const struct api_request *rq, struct api_reply *reply)
{
    struct picture p;
    struct facts_sum *models;
    json_t *o, *rows = json_array();
    size_t n;

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
