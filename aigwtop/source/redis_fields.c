/* SPDX-License-Identifier: Apache-2.0 */
/* Understanding what the realtime store's keys hold. Reader's thread. Everything is untrusted: what makes no sense is counted as a
 * surprise and left out. */
#include <math.h>
#include <stdio.h>

#include "aigwtop/source/fields.h"
#include "aigwtop/source/redis_priv.h"

#define JSON_MAX 16384u

static json_t *load(struct redis_source *s, const struct want *w, struct span value)
{
    json_t *o = value.len <= JSON_MAX ? json_loadb(value.p, value.len, 0, NULL) : NULL;

    if (json_is_object(o))
        return o;
    json_decref(o);
    sample_surprise(s->out, w->key);
    return NULL;
}

static struct sample_row *row_of_provider(struct redis_source *s, struct span name)
{
    char provider[TOP_NAME];

    (void)span_copy(provider, sizeof(provider), name);
    return sample_row_of(s->out, provider, "");
}

/* By provider: an object as the API gives it, or the score alone. */
static void on_health(struct redis_source *s, const struct want *w, struct span field, struct span value)
{
    json_t *o;

    if (field.len && memchr(field.p, ' ', field.len)) /* what one node saw of a provider */
        return;
    o = value.len <= JSON_MAX ? json_loadb(value.p, value.len, JSON_DECODE_ANY, NULL) : NULL;
    if (json_is_number(o))
        row_of_provider(s, field)->score = json_number_value(o);
    else if (json_is_object(o))
        fields_health(row_of_provider(s, field), o);
    else
        sample_surprise(s->out, w->key);
    json_decref(o);
}

static void on_breaker(struct redis_source *s, const struct want *w, struct span value)
{
    json_t *o = load(s, w, value);

    if (o)
        fields_breaker(s->out, o);
    json_decref(o);
}

static void on_event(struct redis_source *s, const struct want *w, struct span value)
{
    json_t *o = load(s, w, value);

    if (o)
        fields_event(s->out, o);
    json_decref(o);
}

int64_t redis_source_int(struct span v)
{
    char text[24];

    (void)span_copy(text, sizeof(text), v);
    return strtoll(text, NULL, 10);
}

static void on_instance(struct redis_source *s, struct span field, struct span value)
{
    int64_t us = redis_source_int(value) * 1000000;

    if (span_is(field, "seen") && us > s->out->beat.us)
        s->out->beat.us = us;
    if (span_is(field, "started") && us > 0 && (!s->started_us || us < s->started_us))
        s->started_us = us;
}

/* "tenant/key measure" */
static void on_tenant(struct redis_source *s, const struct want *w, struct span field, struct span value)
{
    struct span measure = field, name = span_split(&measure, ' '), key = name, tenant = span_split(&key, '/');
    char t[TOP_NAME], k[TOP_NAME];
    struct sample_tenant *row = NULL;

    if (!tenant.len || tenant.len >= sizeof(t) || key.len >= sizeof(k)) {
        sample_surprise(s->out, w->key);
        return;
    }
    (void)span_copy(t, sizeof(t), tenant);
    (void)span_copy(k, sizeof(k), key);
    for (size_t i = s->out->tenants.n; !row && i-- > 0;)
        if (strcmp(s->out->tenants.v[i].tenant, t) == 0 && strcmp(s->out->tenants.v[i].key, k) == 0)
            row = &s->out->tenants.v[i];
    if (!row) {
        row = sample_tenant_add(s->out);
        memcpy(row->tenant, t, sizeof(t));
        memcpy(row->key, k, sizeof(k));
    }
    if (span_is(measure, "req"))
        row->requests = redis_source_int(value);
    else if (span_is(measure, "tok"))
        row->tokens = redis_source_int(value);
    else if (span_is(measure, "cost"))
        row->cost_nano = redis_source_int(value);
}

/* The name in a key, with %3A and %25 as what they stand for. */
static void name_of(char *dst, size_t cap, struct span part)
{
    size_t n = 0;

    for (size_t i = 0; i < part.len && n + 1 < cap; i++) {
        if (part.p[i] == '%' && i + 2 < part.len) {
            dst[n++] = part.p[i + 1] == '3' ? ':' : '%';
            i += 2;
        } else {
            dst[n++] = part.p[i];
        }
    }
    dst[n] = '\0';
}

/* What a window's id says of its period: "2026-11" is a month. */
static const char *period_of(const char *window)
{
    size_t n = strlen(window);

    return strcmp(window, "total") == 0 ? "total"
           : n == 13                    ? "hour"
           : n == 10                    ? "day"
           : n == 8 && window[5] == 'W' ? "week"
           : n == 7 && window[4] == '-' ? "month"
                                        : "";
}

/* "{gw}:bud:ACCOUNT:WINDOW" */
static struct sample_budget *budget_of(struct redis_source *s, const struct want *w)
{
    struct span rest = span_of(w->key + sizeof("{gw}:bud:") - 1), account, window;
    const char *colon = memrchr(rest.p, ':', rest.len);
    struct sample_budget *b;

    if (w->fields > 1 && s->out->budgets.n)
        return &s->out->budgets.v[s->out->budgets.n - 1];
    b = sample_budget_add(s->out);
    account = span_make(rest.p, colon ? (size_t)(colon - rest.p) : rest.len);
    window = colon ? span_make(colon + 1, rest.len - account.len - 1) : span_of("");
    /* A window such as "2026-11-20T13" has no colon, an account's is written %3A. */
    name_of(b->account, sizeof(b->account), account);
    name_of(b->window, sizeof(b->window), window);
    (void)snprintf(b->period, sizeof(b->period), "%s", period_of(b->window));
    b->spent_nano = b->held_nano = 0;
    return b;
}

static void on_budget(struct redis_source *s, const struct want *w, struct span field, struct span value)
{
    struct sample_budget *b = budget_of(s, w);

    if (span_is(field, "posted"))
        b->spent_nano = redis_source_int(value);
    else if (span_is(field, "held"))
        b->held_nano = redis_source_int(value);
    else if (span_is(field, "limit"))
        b->limit_nano = redis_source_int(value);
}

static void on_error(struct redis_source *s, const struct want *w, struct span value)
{
    json_t *o = load(s, w, value);

    if (o)
        fields_error(s->out, s->pairs.v[w->pair].provider, o);
    json_decref(o);
}

void redis_source_field(struct redis_source *s, struct want *w, struct span field, struct span value)
{
    switch (w->kind) {
    case WANT_HEALTH:
        on_health(s, w, field, value);
        break;
    case WANT_BREAKERS:
        on_breaker(s, w, value);
        break;
    case WANT_EVENTS:
        on_event(s, w, value);
        break;
    case WANT_INSTANCE:
        on_instance(s, field, value);
        break;
    case WANT_TENANTS:
        on_tenant(s, w, field, value);
        break;
    case WANT_BUDGET:
        on_budget(s, w, field, value);
        break;
    case WANT_ERRORS:
        on_error(s, w, value);
        break;
    default:
        break;
    }
}
