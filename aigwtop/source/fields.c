/* SPDX-License-Identifier: Apache-2.0 */
/* Pure. The tricky part is that some members have two spellings: the stores keep microseconds and positions, the API writes RFC 3339
 * and the names of the reference documents. */
#include "aigwtop/source/fields.h"

#include <math.h>
#include <stdio.h>

#define TAKE(o, dst, name) json_take_text((o), #name, (dst)->name, sizeof((dst)->name))

static double first_number(const json_t *o, const char *a, const char *b)
{
    double v = json_take_number(o, a);

    return isnan(v) ? json_take_number(o, b) : v;
}

static double points(const json_t *terms, const char *name)
{
    const json_t *t = json_object_get(terms, name);

    return json_is_number(t) ? json_number_value(t) : json_take_number(t, "points");
}

void fields_health(struct sample_row *r, const json_t *o)
{
    const json_t *terms = json_object_get(o, "terms");

    r->score = first_number(o, "health_score", "score");
    TAKE(o, r, status);
    r->error_rate = json_take_number(o, "error_rate");
    r->p50_ms = json_take_number(o, "latency_p50_ms");
    r->p95_ms = json_take_number(o, "latency_p95_ms");
    r->p99_ms = json_take_number(o, "latency_p99_ms");
    r->per_s = json_take_number(o, "requests_per_s");
    r->seen_us = json_take_time(o, "last_updated");
    r->of_success = points(terms, "success_rate");
    r->of_latency = points(terms, "latency_p95");
    r->of_breakers = points(terms, "breakers");
}

/* The store's stamps are microseconds, the API's are texts. */
static int64_t stamp(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);

    return json_is_integer(v) ? json_integer_value(v) : json_take_time(o, name);
}

void fields_breaker(struct sample *s, const json_t *o)
{
    struct sample_breaker *b = sample_breaker_add(s);
    const json_t *forced = json_object_get(o, "forced");
    bool is_store = json_is_integer(json_object_get(o, "at"));

    TAKE(o, b, provider);
    TAKE(o, b, model);
    TAKE(o, b, state);
    TAKE(o, b, cause);
    json_take_text(forced, "state", b->forced, sizeof(b->forced));
    TAKE(forced, b, actor);
    if (strcmp(b->forced, "AUTO") == 0)
        b->forced[0] = '\0';
    b->failures = json_take_int(o, "failure_count", -1);
    b->limit = json_take_int(o, "failure_limit", -1);
    b->probes = json_take_int(o, "probes", -1);
    b->since_us = is_store ? stamp(o, "at") : stamp(o, "since");
    b->until_us = stamp(o, "until");
    if (b->forced[0] && is_store)
        b->until_us = stamp(forced, "until");
}

void fields_event(struct sample *s, const json_t *o)
{
    struct sample_event *e = sample_event_add(s);

    TAKE(o, e, id);
    TAKE(o, e, kind);
    TAKE(o, e, severity);
    TAKE(o, e, subject);
    TAKE(o, e, text);
    e->at_us = json_take_time(o, "at");
    if (strcmp(e->kind, "anomaly") == 0) {
        struct sample_anomaly *a = sample_anomaly_add(s);
        const json_t *facts = json_object_get(o, "facts");

        json_take_text(facts, "type", a->kind, sizeof(a->kind));
        memcpy(a->severity, e->severity, sizeof(a->severity));
        memcpy(a->subject, e->subject, sizeof(a->subject));
        memcpy(a->text, e->text, sizeof(a->text));
        a->value = json_take_number(facts, "value");
        a->expected = json_take_number(facts, "expected");
        a->z = json_take_number(facts, "z");
        a->at_us = e->at_us;
        s->has |= HAS_ANOMALIES;
    }
}

void fields_error(struct sample *s, const char *provider, const json_t *o)
{
    struct sample_error *e = sample_error_add(s);

    (void)snprintf(e->provider, sizeof(e->provider), "%s", provider);
    TAKE(o, e, model);
    json_take_text(o, json_object_get(o, "type") ? "type" : "error", e->type, sizeof(e->type));
    TAKE(o, e, tenant);
    TAKE(o, e, key);
    TAKE(o, e, detail);
    json_take_text(o, json_object_get(o, "request") ? "request" : "request_id", e->request,
                   sizeof(e->request));
    if (!e->detail[0] && json_object_get(o, "type"))
        json_take_text(o, "error", e->detail, sizeof(e->detail));
    e->at_us = json_object_get(o, "at") ? json_take_time(o, "at") : json_take_time(o, "timestamp");
    e->http_status = (int)json_take_int(o, "http_status", 0);
    e->latency_ms = json_take_number(o, "latency_ms");
}

static int64_t nano(const json_t *o, const char *name)
{
    return json_take_int(o, name, -1);
}

void fields_budget(struct sample *s, const json_t *o)
{
    struct sample_budget *b = sample_budget_add(s);

    TAKE(o, b, account);
    TAKE(o, b, period);
    TAKE(o, b, window);
    TAKE(o, b, at_limit);
    TAKE(o, b, verdict);
    b->limit_nano = nano(o, "limit_nanousd");
    b->spent_nano = nano(o, "spent_nanousd");
    b->held_nano = nano(o, "held_nanousd");
    b->forecast_nano = nano(o, "forecast_nanousd");
    b->warn_percent = (int)json_take_int(o, "warn", -1);
    b->resets_us = json_take_time(o, "resets_at");
}

void fields_limit(struct sample *s, const json_t *o)
{
    struct sample_limit *l = sample_limit_add(s);

    TAKE(o, l, scope);
    TAKE(o, l, kind);
    l->limit = json_take_int(o, "limit", 0);
    l->used = json_take_int(o, "used", 0);
    l->refused = json_take_int(o, "refused", 0);
}

void fields_anomaly(struct sample *s, const json_t *o)
{
    struct sample_anomaly *a = sample_anomaly_add(s);
    char model[TOP_NAME];

    json_take_text(o, "type", a->kind, sizeof(a->kind));
    TAKE(o, a, severity);
    TAKE(o, a, text);
    json_take_text(o, json_object_get(o, "provider") ? "provider" : "subject", a->subject,
                   sizeof(a->subject));
    json_take_text(o, "model", model, sizeof(model));
    if (model[0] && strlen(a->subject) + strlen(model) + 2 < sizeof(a->subject)) {
        size_t n = strlen(a->subject);

        (void)snprintf(a->subject + n, sizeof(a->subject) - n, "/%s", model);
    }
    a->value = json_take_number(o, "value");
    a->expected = json_take_number(o, "expected");
    a->z = json_take_number(o, "z");
    a->at_us = json_object_get(o, "at") ? json_take_time(o, "at") : json_take_time(o, "timestamp");
}
