/* SPDX-License-Identifier: Apache-2.0 */
/* What each view's rows hold. Pure. A value is set where something is known, and stays "unknown" otherwise; levels are what colours
 * may say. */
#include "aigwtop/model/rows.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "libshared/base/span.h"

#define P95_TARGET_MS 2000.0
#define SILENT_S      30.0

/* ---- values ---------------------------------------------------------------------------------------------------------- */

static struct value *at(struct line *l, unsigned col)
{
    return &l->v[column_place(col)];
}

static struct value *set_number(struct line *l, unsigned col, double n)
{
    struct value *v = at(l, col);

    v->kind = isnan(n) ? VALUE_NONE : VALUE_NUMBER;
    v->n = n;
    return v;
}

static struct value *set_text(struct line *l, unsigned col, const char *z)
{
    struct value *v = at(l, col);

    v->kind = z && *z ? VALUE_TEXT : VALUE_NONE;
    v->z = z;
    return v;
}

static PRINTF_LIKE(2, 3) const char *pooled(struct table *t, const char *fmt, ...)
{
    char *z = NULL;
    va_list args;

    va_start(args, fmt);
    if (vasprintf(&z, fmt, args) < 0)
        abort();
    va_end(args);
    *LIST_ADD(&t->pool) = z;
    return z;
}

static PRINTF_LIKE(2, 3) struct line *add_line(struct table *t, const char *fmt, ...)
{
    struct line *l = LIST_ADD(&t->lines);
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(l->key, sizeof(l->key), fmt, args);
    va_end(args);
    return l;
}

static double nano(int64_t v)
{
    return v < 0 ? NAN : (double)v / 1e9;
}

/* ---- levels ---------------------------------------------------------------------------------------------------------- */

enum level level_of_score(double score)
{
    return isnan(score) ? LEVEL_STALE : score >= 80 ? LEVEL_OK : score >= 50 ? LEVEL_WARN : LEVEL_CRIT;
}

const char *word_of_score(double score)
{
    return isnan(score) ? NULL : score >= 80 ? "healthy" : score >= 50 ? "degraded" : "unhealthy";
}

static enum level level_of_errors(double ratio)
{
    return ratio >= 0.25 ? LEVEL_CRIT : ratio >= 0.05 ? LEVEL_WARN : LEVEL_NONE;
}

static enum level level_of_p95(double ms)
{
    return ms > 2 * P95_TARGET_MS ? LEVEL_CRIT : ms > P95_TARGET_MS ? LEVEL_WARN : LEVEL_NONE;
}

static enum level level_of_breaker(const char *state)
{
    return strcmp(state, "OPEN") == 0       ? LEVEL_CRIT
           : strncmp(state, "HALF", 4) == 0 ? LEVEL_WARN
           : strcmp(state, "CLOSED") == 0   ? LEVEL_OK
                                            : LEVEL_STALE;
}

/* ---- providers and models -------------------------------------------------------------------------------------------- */

static void set_trend(struct table *t, struct line *l, unsigned col, const struct entity *e, struct wall now,
                      int64_t span_us)
{
    float *points = calloc(TREND_MAX, sizeof(*points));

    if (!points)
        abort();
    *LIST_ADD(&t->pool) = (char *)points;
    entity_series(e, SERIES_P95, now, span_us, points, TREND_MAX);
    *at(l, col) = (struct value){.kind = VALUE_TREND, .trend = points};
}

static double age_s(const struct entity *e, struct wall now)
{
    double s = e->figures.active_us ? (double)(now.us - e->figures.active_us) / 1e6 : NAN;

    return s < 0 ? 0 : s;
}

static void count_breakers(const struct model *m, const char *provider, unsigned *out_open, unsigned *out_all)
{
    *out_open = *out_all = 0;
    for (size_t i = 0; i < m->lists->breakers.n; i++) {
        const struct sample_breaker *b = &m->lists->breakers.v[i];

        if (provider && strcmp(b->provider, provider) != 0)
            continue;
        ++*out_all;
        *out_open += strcmp(b->state, "OPEN") == 0;
    }
}

/* Figures that several views have, under the same key in each. */
static const struct {
    const char *key;
    size_t at;
    bool is_rate; /* unknown where what is known is old */
    enum level (*level)(double);
} FIGURES[] = {
    {"requests_per_s", offsetof(struct figures, per_s), true, NULL},
    {"error_rate", offsetof(struct figures, error_rate), true, level_of_errors},
    {"attempts", offsetof(struct figures, attempts), false, NULL},
    {"latency_p50_ms", offsetof(struct figures, p50_ms), false, NULL},
    {"latency_p90_ms", offsetof(struct figures, p90_ms), false, NULL},
    {"latency_p95_ms", offsetof(struct figures, p95_ms), false, level_of_p95},
    {"latency_p99_ms", offsetof(struct figures, p99_ms), false, NULL},
    {"cost_usd_per_h", offsetof(struct figures, cost_per_h), true, NULL},
    {"tokens_per_s", offsetof(struct figures, tokens_per_s), true, NULL},
    {"cost_usd_per_1k_requests", offsetof(struct figures, cost_per_1k), false, NULL},
    {"cached_ratio", offsetof(struct figures, cached), false, NULL},
    {"ttfb_ms", offsetof(struct figures, ttfb_ms), false, NULL},
};

static void set_figures(const struct table *t, struct line *l, const struct figures *f, bool is_stale)
{
    for (size_t i = 0; i < t->n_columns; i++)
        for (size_t k = 0; k < ARRAY_LEN(FIGURES); k++) {
            double n = *(const double *)((const char *)f + FIGURES[k].at);

            if (strcmp(t->columns[i].key, FIGURES[k].key) != 0)
                continue;
            l->v[i].n = FIGURES[k].is_rate && is_stale ? NAN : n;
            l->v[i].kind = isnan(l->v[i].n) ? VALUE_NONE : VALUE_NUMBER;
            l->v[i].level = FIGURES[k].level ? FIGURES[k].level(n) : LEVEL_NONE;
        }
}

static void fill_provider(struct table *t, const struct model *m, const struct scope *sc,
                          const struct entity *e)
{
    struct line *l = add_line(t, "%s", e->provider);
    const char *status = e->last.status[0] ? e->last.status : word_of_score(e->last.score);
    double age = age_s(e, sc->now);
    unsigned open, all;

    l->ref = e;
    l->level = level_of_score(e->last.score);
    set_text(l, COL_PROVIDERS_provider, e->provider);
    set_number(l, COL_PROVIDERS_health_score, e->last.score)->level = l->level;
    set_text(l, COL_PROVIDERS_status, status ? status : "unknown")->level = l->level;
    set_figures(t, l, &e->figures, sc->is_stale);
    count_breakers(m, e->provider, &open, &all);
    if (all)
        set_text(l, COL_PROVIDERS_breakers_open, pooled(t, "%u/%u", open, all));
    set_trend(t, l, COL_PROVIDERS_trend, e, sc->now, sc->span_us);
    set_number(l, COL_PROVIDERS_age_s, age)->level = age > SILENT_S ? LEVEL_WARN : LEVEL_NONE;
}

static const struct sample_breaker *breaker_of(const struct model *m, const struct entity *e)
{
    for (size_t i = 0; i < m->lists->breakers.n; i++) {
        const struct sample_breaker *b = &m->lists->breakers.v[i];

        if (strcmp(b->provider, e->provider) == 0 && strcmp(b->model, e->model) == 0)
            return b;
    }
    return NULL;
}

static void fill_model(struct table *t, const struct model *m, const struct scope *sc, const struct entity *e)
{
    struct line *l = add_line(t, "%s/%s", e->provider, e->model);
    const struct sample_breaker *b = breaker_of(m, e);

    l->ref = e;
    l->level = b ? level_of_breaker(b->state) : LEVEL_NONE;
    set_text(l, COL_MODELS_provider, e->provider);
    set_text(l, COL_MODELS_model, e->model);
    set_figures(t, l, &e->figures, sc->is_stale);
    set_trend(t, l, COL_MODELS_trend, e, sc->now, WINDOW_SLOTS * SLOT_US);
    if (b)
        set_text(l, COL_MODELS_breaker, b->state)->level = l->level;
    set_number(l, COL_MODELS_age_s, age_s(e, sc->now));
}

static void fill_latency(struct table *t, const struct scope *sc, const struct entity *e)
{
    struct line *l = add_line(t, "%s/%s", e->provider, e->model);

    l->ref = e;
    set_text(l, COL_LATENCY_provider, e->provider);
    set_text(l, COL_LATENCY_model, e->model);
    set_figures(t, l, &e->figures, sc->is_stale);
    set_trend(t, l, COL_LATENCY_trend, e, sc->now, WINDOW_SLOTS * SLOT_US);
}

static void fill_entities(struct table *t, const struct model *m, const struct scope *sc)
{
    for (size_t i = 0; i < m->entities.n; i++) {
        const struct entity *e = m->entities.v[i];

        if (sc->provider && *sc->provider && strcmp(e->provider, sc->provider) != 0)
            continue;
        if (t->view == VIEW_PROVIDERS && !e->model[0])
            fill_provider(t, m, sc, e);
        else if (t->view == VIEW_MODELS && e->model[0])
            fill_model(t, m, sc, e);
        else if (t->view == VIEW_LATENCY && e->model[0])
            fill_latency(t, sc, e);
    }
}

/* ---- tenants and budgets --------------------------------------------------------------------------------------------- */

static struct line *find_line(struct table *t, const char *key)
{
    for (size_t i = 0; i < t->lines.n; i++)
        if (strcmp(t->lines.v[i].key, key) == 0)
            return &t->lines.v[i];
    return NULL;
}

/* "acme" or "acme/web"; the keys of a tenant lie below it. */
static struct line *tenant_line(struct table *t, const char *name)
{
    struct line *l = find_line(t, name);
    const char *slash = strchr(name, '/');

    if (l)
        return l;
    if (slash) {
        char tenant[TOP_NAME];

        (void)span_copy(tenant, sizeof(tenant), span_make(name, (size_t)(slash - name)));
        (void)tenant_line(t, tenant);
    }
    l = add_line(t, "%s", name);
    l->depth = slash != NULL;
    set_text(l, COL_TENANTS_name, pooled(t, "%s", slash ? slash + 1 : name));
    return l;
}

/* "tenant:acme", "key:acme/web"; others ("global", "provider:x") under their own name. */
static const char *name_of_account(const char *account)
{
    return strncmp(account, "tenant:", 7) == 0 ? account + 7
           : strncmp(account, "key:", 4) == 0  ? account + 4
                                               : account;
}

static void fill_budget(struct table *t, const struct scope *sc, const struct sample_budget *b)
{
    struct line *l = tenant_line(t, name_of_account(b->account));
    double used =
        b->limit_nano > 0 && b->spent_nano >= 0 ? (double)b->spent_nano / (double)b->limit_nano : NAN;
    double warn = b->warn_percent > 0 ? b->warn_percent / 100.0 : 0.8;
    double left_s = b->resets_us > sc->now.us ? (double)(b->resets_us - sc->now.us) / 1e6 : NAN;

    l->ref = b;
    l->level = used >= 1 ? LEVEL_CRIT : used >= warn ? LEVEL_WARN : LEVEL_NONE;
    set_text(l, COL_TENANTS_period, b->period);
    set_number(l, COL_TENANTS_spent_usd, nano(b->spent_nano));
    set_number(l, COL_TENANTS_limit_usd, nano(b->limit_nano));
    set_number(l, COL_TENANTS_used_ratio, used)->level = l->level;
    set_number(l, COL_TENANTS_bar, used)->level = l->level;
    set_number(l, COL_TENANTS_forecast_usd, nano(b->forecast_nano))->level =
        b->forecast_nano > b->limit_nano && b->limit_nano > 0 ? LEVEL_WARN : LEVEL_NONE;
    set_text(l, COL_TENANTS_verdict, b->verdict);
    set_number(l, COL_TENANTS_held_usd, nano(b->held_nano));
    set_number(l, COL_TENANTS_resets_s, left_s);
}

static void add_to(struct line *l, unsigned col, double n)
{
    double was = value_number(at(l, col));

    set_number(l, col, isnan(was) ? n : was + n);
}

static void add_tenant(struct line *l, const struct sample_tenant *s)
{
    add_to(l, COL_TENANTS_requests_h, (double)s->requests);
    add_to(l, COL_TENANTS_tokens_h, (double)s->tokens);
    add_to(l, COL_TENANTS_cost_usd_h, (double)s->cost_nano / 1e9);
}

static void fill_tenants(struct table *t, const struct model *m, const struct scope *sc)
{
    char name[2 * TOP_NAME + 2];

    for (size_t i = 0; i < m->lists->budgets.n; i++)
        fill_budget(t, sc, &m->lists->budgets.v[i]);
    for (size_t i = 0; i < m->lists->limits.n; i++) /* who is limited is there, with or without a budget */
        if (strncmp(m->lists->limits.v[i].scope, "tenant:", 7) == 0 ||
            strncmp(m->lists->limits.v[i].scope, "key:", 4) == 0)
            (void)tenant_line(t, name_of_account(m->lists->limits.v[i].scope));
    for (size_t i = 0; i < m->lists->tenants.n; i++) {
        const struct sample_tenant *s = &m->lists->tenants.v[i];

        add_tenant(tenant_line(t, s->tenant), s);
        (void)snprintf(name, sizeof(name), "%s/%s", s->tenant, s->key);
        if (s->key[0])
            add_tenant(tenant_line(t, name), s);
    }
}

/* ---- breakers, errors, anomalies ------------------------------------------------------------------------------------- */

static void fill_breakers(struct table *t, const struct model *m, const struct scope *sc)
{
    for (size_t i = 0; i < m->lists->breakers.n; i++) {
        const struct sample_breaker *b = &m->lists->breakers.v[i];
        struct line *l;

        if (sc->provider && *sc->provider && strcmp(b->provider, sc->provider) != 0)
            continue;
        l = add_line(t, "%s/%s", b->provider, b->model);
        l->ref = b;
        l->level = level_of_breaker(b->state);
        set_text(l, COL_BREAKERS_target, pooled(t, "%s/%s", b->provider, b->model));
        set_text(l, COL_BREAKERS_state, b->state)->level = l->level;
        if (b->failures >= 0 && b->limit > 0)
            set_text(l, COL_BREAKERS_failures, pooled(t, "%" PRId64 "/%" PRId64, b->failures, b->limit));
        else if (b->failures >= 0)
            set_text(l, COL_BREAKERS_failures, pooled(t, "%" PRId64, b->failures));
        if (b->since_us > 0 && sc->now.us >= b->since_us)
            set_number(l, COL_BREAKERS_since_s, (double)(sc->now.us - b->since_us) / 1e6);
        if (b->until_us > sc->now.us && strcmp(b->state, "CLOSED") != 0)
            set_number(l, COL_BREAKERS_next_probe_s, (double)(b->until_us - sc->now.us) / 1e6);
        set_text(l, COL_BREAKERS_forced, b->forced);
        set_text(l, COL_BREAKERS_cause, b->cause);
    }
}

static void fill_error(struct table *t, const struct sample_error *e, unsigned same)
{
    struct line *l = add_line(t, "%s %s %" PRId64, e->request, e->provider, e->at_us);

    l->ref = e;
    l->level = e->http_status >= 500 || !e->http_status ? LEVEL_CRIT : LEVEL_WARN;
    set_number(l, COL_ERRORS_at, e->at_us > 0 ? (double)e->at_us / 1e6 : NAN);
    set_text(l, COL_ERRORS_provider, e->provider);
    set_text(l, COL_ERRORS_model, e->model);
    if (e->http_status)
        set_text(l, COL_ERRORS_http_status, pooled(t, "%d", e->http_status));
    set_text(l, COL_ERRORS_type, e->type);
    set_number(l, COL_ERRORS_latency_ms, e->latency_ms);
    set_text(l, COL_ERRORS_tenant, e->tenant);
    set_text(l, COL_ERRORS_request_id, same > 1 ? pooled(t, "%u of these", same) : e->request);
    set_text(l, COL_ERRORS_detail, e->detail);
}

static bool is_same_cause(const struct sample_error *a, const struct sample_error *b)
{
    return a->http_status == b->http_status && strcmp(a->type, b->type) == 0 &&
           strcmp(a->provider, b->provider) == 0 && strcmp(a->model, b->model) == 0;
}

/* Grouped, the newest stands for all of the same provider, model, status and type. */
static void fill_errors(struct table *t, const struct model *m, const struct scope *sc,
                        const struct look *look)
{
    const struct sample_error *v = m->lists->errors.v;
    size_t n = m->lists->errors.n;

    for (size_t i = 0; i < n; i++) {
        unsigned same = 1;
        bool is_newest = true;

        if (sc->provider && *sc->provider && strcmp(v[i].provider, sc->provider) != 0)
            continue;
        for (size_t k = 0; look->is_grouped && k < n; k++)
            if (k != i && is_same_cause(&v[i], &v[k])) {
                same++;
                is_newest &= v[k].at_us < v[i].at_us || (v[k].at_us == v[i].at_us && k > i);
            }
        if (is_newest)
            fill_error(t, &v[i], same);
    }
}

static void fill_anomalies(struct table *t, const struct model *m)
{
    for (size_t i = 0; i < m->lists->anomalies.n; i++) {
        const struct sample_anomaly *a = &m->lists->anomalies.v[i];
        struct line *l = add_line(t, "%s %s %" PRId64, a->kind, a->subject, a->at_us);

        l->ref = a;
        l->level = strcmp(a->severity, "critical") == 0 ? LEVEL_CRIT : LEVEL_WARN;
        set_number(l, COL_ANOMALIES_at, a->at_us > 0 ? (double)a->at_us / 1e6 : NAN);
        set_text(l, COL_ANOMALIES_severity, a->severity)->level = l->level;
        set_text(l, COL_ANOMALIES_type, a->kind);
        set_text(l, COL_ANOMALIES_subject, a->subject);
        set_number(l, COL_ANOMALIES_value, a->value);
        set_number(l, COL_ANOMALIES_expected, a->expected);
        set_number(l, COL_ANOMALIES_z, a->z);
        set_text(l, COL_ANOMALIES_text, a->text);
    }
}

void rows_fill(struct table *t, const struct model *m, const struct scope *sc, const struct look *look)
{
    switch (t->view) {
    case VIEW_TENANTS:
        fill_tenants(t, m, sc);
        break;
    case VIEW_BREAKERS:
        fill_breakers(t, m, sc);
        break;
    case VIEW_ERRORS:
        fill_errors(t, m, sc, look);
        break;
    case VIEW_ANOMALIES:
        fill_anomalies(t, m);
        break;
    default:
        fill_entities(t, m, sc);
    }
}

/* ---- the head of the screen ------------------------------------------------------------------------------------------ */

void model_tally(const struct model *m, struct tally *out)
{
    double sum = 0;

    *out = (struct tally){0};
    for (size_t i = 0; i < m->entities.n; i++) {
        const struct entity *e = m->entities.v[i];
        enum level level = level_of_score(e->last.score);

        if (e->model[0])
            continue;
        out->ok += level == LEVEL_OK;
        out->degraded += level == LEVEL_WARN;
        out->unhealthy += level == LEVEL_CRIT;
        out->unknown += level == LEVEL_STALE;
        sum += level == LEVEL_STALE ? 0 : e->last.score;
    }
    out->mean =
        out->ok + out->degraded + out->unhealthy ? sum / (out->ok + out->degraded + out->unhealthy) : NAN;
    count_breakers(m, NULL, &out->breakers_open, &out->breakers);
    for (size_t i = 0; i < m->lists->budgets.n; i++) {
        const struct sample_budget *b = &m->lists->budgets.v[i];

        if (b->limit_nano <= 0 || b->spent_nano < 0)
            continue;
        out->budgets++;
        if (b->spent_nano >= b->limit_nano)
            out->budgets_over++;
        else if ((double)b->spent_nano >=
                 (double)b->limit_nano * (b->warn_percent > 0 ? b->warn_percent : 80) / 100)
            out->budgets_warn++;
    }
}
