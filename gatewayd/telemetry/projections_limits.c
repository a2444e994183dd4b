/* SPDX-License-Identifier: Apache-2.0 */
/* What limits and budgets say, by tenant. Api thread. */
#include <math.h>

#include "gatewayd/telemetry/projections_priv.h"

static void tenant_series(struct lines *l, const struct metrics_tenant *t)
{
    struct span value = lines_text(l, t->tenant);

    lines_series(l, &value);
}

void state_limited(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < s->state->n_limited; i++) {
        tenant_series(l, &s->state->limited[i]);
        lines_number(l, LINES_COUNT, s->state->limited[i].limited);
    }
}

void state_limit_types(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < METRICS_LIMIT_TYPES; i++)
        if (s->state->limit_types[i].name)
            labelled_u64(l, s->state->limit_types[i].name, s->state->limit_types[i].hits);
}

void state_shadow(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < METRICS_LIMIT_TYPES; i++)
        if (s->state->limit_types[i].name)
            labelled_u64(l, s->state->limit_types[i].name, s->state->limit_types[i].shadow_hits);
}

static void put_instant(struct lines *l, struct wall t)
{
    if (t.us == INT64_MAX)
        lines_double(l, (double)INFINITY);
    else
        lines_number(l, LINES_US, (uint64_t)t.us);
}

/* Tenants without a budget have no series. */
#define STATE_BUDGET(fn, has, put)                                                                           \
    void fn(struct lines *l, const struct scrape *s)                                                         \
    {                                                                                                        \
        for (size_t i = 0; i < s->state->n_limited; i++) {                                                   \
            const struct metrics_tenant *t = &s->state->limited[i];                                          \
                                                                                                             \
            if (!(has))                                                                                      \
                continue;                                                                                    \
            tenant_series(l, t);                                                                             \
            put;                                                                                             \
        }                                                                                                    \
    }
STATE_BUDGET(state_budget_usage, t->limit_nanousd, lines_double(l, t->usage_ratio))
STATE_BUDGET(state_budget_limit, t->limit_nanousd, lines_number(l, LINES_NANOUSD, (uint64_t)t->limit_nanousd))
STATE_BUDGET(state_budget_rejections, t->limit_nanousd || t->over_budget,
             lines_number(l, LINES_COUNT, t->over_budget))
STATE_BUDGET(state_budget_exhaustion, t->limit_nanousd && t->exhausts_at.us, put_instant(l, t->exhausts_at))
#undef STATE_BUDGET

void state_overshoot(struct lines *l, const struct scrape *s)
{
    lines_series(l, NULL);
    lines_double(l, s->state->overshoot_bound_usd);
}

void overflow_of_limits(struct lines *l, const struct scrape *s)
{
    struct metrics_tenant rest = {0};

    for (size_t i = 0; i < s->state->n_limited; i++)
        if (s->state->limited[i].n_folded)
            rest = s->state->limited[i];
    labelled_u64(l, "aigateway_rate_limit_hits_total", rest.limited);
    labelled_u64(l, "aigateway_budget_rejections_total", rest.over_budget);
    labelled_u64(l, "aigateway_budget_usage_ratio", rest.n_folded);
}
