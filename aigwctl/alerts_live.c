/* SPDX-License-Identifier: Apache-2.0 */
/* What a gateway's own configuration asks of the rules (`--live`): the warning levels of its budgets, how many breakers it has and
 * how they open, how often hours are rolled up, when attempts are cut, which families it shows. A rule that could never fire, or
 * that fires while all is as configured, gets the parameter that makes sense of it; the option that asks for it is kept. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aigwctl/alerts.h"
#include "libshared/catalog/metrics.h"
#include "libshared/cli/human.h"

static int take_text(struct alerts_pick *p, const char *rule, const char *param, const char *value,
                     const char *option)
{
    struct err err = {0};
    char text[200];

    (void)snprintf(text, sizeof(text), "%s.%s=%s", rule, param, value);
    if (p->n_implied < ALERTS_IMPLIED_MAX)
        p->implied[p->n_implied++] = (struct alerts_implied){rule, option};
    return alert_set(&p->settings, text, &err) ? ctl_fail(CLI_FAILED, "%s", err_text(&err)) : CLI_OK;
}

static int take_set(struct alerts_pick *p, const char *rule, const char *param, double value,
                    const char *option)
{
    char text[64];

    (void)snprintf(text, sizeof(text), "%.6g", value);
    return take_text(p, rule, param, text, option);
}

static double value_of(const struct alerts_pick *p, const char *rule, const char *param)
{
    const char *z = alert_value(&p->settings, alert_find(rule), param);
    double v = 0;

    if (strcmp(param, "for") == 0)
        return alert_seconds(z, &v) ? v : 0;
    return strtod(z, NULL);
}

/* ---- budgets and breakers ------------------------------------------------------------------------------------------- */

/* The level that most tenants share becomes the rule's; the others get their own. */
static double usual_level(const json_t *levels)
{
    unsigned counts[101] = {0}, best = 80;
    const char *tenant;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)levels, tenant, value)
    {
        unsigned percent = (unsigned)lround(json_number_value(value) * 100);

        if (percent <= 100 && ++counts[percent] > counts[best])
            best = percent;
    }
    return best / 100.0;
}

/* The lowest of the marks, 0: none. */
static json_int_t first_level(const json_t *budget)
{
    const json_t *warn = json_object_get(budget, "warn");

    return json_integer_value(json_is_array(warn) ? json_array_get(warn, 0) : warn);
}

static int take_levels(struct ctl *ctl, struct alerts_pick *p)
{
    json_t *doc, *one, *levels = json_object(), *value;
    size_t i;
    double usual;
    const char *tenant;
    void *next;
    int rc = ctl_get(ctl, "/api/admin/budgets", &doc);

    if (rc) {
        json_decref(levels);
        return rc;
    }
    json_array_foreach(json_object_get(doc, "budgets"), i, one)
    {
        const char *account = json_string_value(json_object_get(one, "account"));

        if (account && strncmp(account, "tenant:", 7) == 0 && first_level(one))
            (void)json_object_set_new(levels, account + 7, json_real((double)first_level(one) / 100));
    }
    json_decref(doc);
    if (!json_object_size(levels)) {
        json_decref(levels);
        return CLI_OK;
    }
    usual = usual_level(levels);
    json_object_foreach_safe(levels, next, tenant, value)
    {
        if (lround(json_number_value(value) * 100) == lround(usual * 100))
            (void)json_object_del(levels, tenant);
    }
    p->warn_levels = levels;
    return take_set(p, "TenantBudgetNearLimit", "threshold", usual, "budgets");
}

/* Of few breakers, fewer than the usual number make an outage. */
static int take_breakers(struct ctl *ctl, struct alerts_pick *p)
{
    json_t *doc;
    double n, threshold = value_of(p, "MultipleCircuitBreakersOpen", "threshold");
    int rc = ctl_get(ctl, "/api/monitoring/circuit-breakers", &doc);

    if (rc)
        return rc;
    n = (double)json_array_size(doc);
    json_decref(doc);
    return n >= 2 && n <= threshold
               ? take_set(p, "MultipleCircuitBreakersOpen", "threshold", n - 1, "the number of breakers")
               : CLI_OK;
}

/* ---- options -------------------------------------------------------------------------------------------------------- */

static const char *option(const json_t *doc, const char *path)
{
    json_t *one;
    size_t i;

    json_array_foreach(json_object_get(doc, "options"), i, one)
    {
        const char *z = json_string_value(json_object_get(one, "path"));

        if (z && strcmp(z, path) == 0)
            return json_string_value(json_object_get(one, "value"));
    }
    return NULL;
}

static double seconds(const json_t *doc, const char *path)
{
    const char *z = option(doc, path);
    int64_t ms;

    return z && human_parse_duration(z, &ms) ? (double)ms / 1000 : 0;
}

/* A breaker that closes again at its first probe wakes nobody: the rule waits longer than a breaker stays open. */
static int take_open_for(struct alerts_pick *p, const json_t *doc)
{
    static const char *const RULES[] = {"CircuitBreakerOpen", "MultipleCircuitBreakersOpen"};
    double open_s = seconds(doc, "breaker.open_for");
    int rc = CLI_OK;

    for (size_t i = 0; i < ARRAY_LEN(RULES) && !rc; i++)
        if (open_s >= value_of(p, RULES[i], "for")) {
            char text[32];

            (void)snprintf(text, sizeof(text), "%.0fs", ceil(open_s + 60));
            rc = take_text(p, RULES[i], "for", text, "breaker.open_for");
        }
    return rc;
}

/* Breakers that open at a lower share of errors keep the rule from ever firing. */
static int take_error_rate(struct alerts_pick *p, const json_t *doc)
{
    const char *z = option(doc, "breaker.error_rate");
    double rate = z ? strtod(z, NULL) : 0;

    return rate > 0 && rate <= value_of(p, "HighModelErrorRate", "threshold")
               ? take_set(p, "HighModelErrorRate", "threshold", rate / 2, "breaker.error_rate")
               : CLI_OK;
}

/* No attempt takes longer than it is let: a quantile cannot pass that. */
static int take_timeouts(struct alerts_pick *p, const json_t *doc)
{
    static const struct {
        const char *rule, *option;
        double share;
    } ROWS[] = {{"ModelLatencyHigh", "upstream.total", 0.5},
                {"ModelLatencyCritical", "upstream.total", 0.9},
                {"HighTimeToFirstToken", "upstream.first_byte", 0.8}};
    int rc = CLI_OK;

    for (size_t i = 0; i < ARRAY_LEN(ROWS) && !rc; i++) {
        double most = seconds(doc, ROWS[i].option);

        if (most > 0 && most <= value_of(p, ROWS[i].rule, "threshold"))
            rc = take_set(p, ROWS[i].rule, "threshold", most * ROWS[i].share, ROWS[i].option);
    }
    return rc;
}

/* Between two runs that many hours are due. */
static int take_aggregation(struct alerts_pick *p, const json_t *doc)
{
    double hours = ceil(seconds(doc, "aggregation.interval") / 3600);

    return hours >= value_of(p, "AggregationStalled", "threshold")
               ? take_set(p, "AggregationStalled", "threshold", hours + 1, "aggregation.interval")
               : CLI_OK;
}

unsigned alerts_profiles(const char *list, const char **out_wrong)
{
    struct span rest = span_of(list);
    unsigned mask = METRIC_PROFILES_DEFAULT;
    static char name[64];
    bool is_first = true;

    *out_wrong = NULL;
    while (rest.p) {
        struct span one = span_trim(span_split(&rest, ','));

        (void)span_copy(name, sizeof(name), one);
        if (is_first && name[0] != '-')
            mask = 0;
        is_first = false;
        if (one.len && !metric_profiles_add(name, &mask)) {
            *out_wrong = name;
            return 0;
        }
    }
    return mask;
}

static int take_options(struct ctl *ctl, struct alerts_pick *p)
{
    const char *profiles, *wrong;
    json_t *doc;
    int rc = ctl_get(ctl, "/api/admin/config", &doc);

    if (rc)
        return rc;
    profiles = option(doc, "metrics.profiles");
    if (!p->profiles && profiles && strcmp(profiles, "all") != 0)
        p->profiles = alerts_profiles(profiles, &wrong);
    rc = take_open_for(p, doc);
    if (!rc)
        rc = take_error_rate(p, doc);
    if (!rc)
        rc = take_timeouts(p, doc);
    if (!rc)
        rc = take_aggregation(p, doc);
    json_decref(doc);
    return rc;
}

int alerts_take_live(struct ctl *ctl, struct alerts_pick *p)
{
    bool was_raw = ctl->is_raw;
    int rc;

    ctl->is_raw = false;
    rc = take_levels(ctl, p);
    if (!rc)
        rc = take_breakers(ctl, p);
    if (!rc)
        rc = take_options(ctl, p);
    ctl->is_raw = was_raw;
    return rc;
}
