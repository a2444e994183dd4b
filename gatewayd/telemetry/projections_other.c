/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are no inference, the life of tenants, and what becomes of telemetry. Api thread. */
#include "gatewayd/telemetry/projections_priv.h"
#include "libshared/analytics/anomaly.h"

enum { PROBE_OK_COLUMN, PROBE_FAILED_COLUMN };

static void external(struct lines *l, const struct metrics_probes *p, bool is_errors)
{
    struct span service = lines_text(l, p->provider);
    uint64_t n = 0;

    for (unsigned o = 0; o < METRICS_PROBE_OUTCOMES; o++)
        n += !is_errors || o == PROBE_FAILED_COLUMN ? p->n[o] : 0;
    lines_series(l, &service);
    lines_number(l, LINES_COUNT, n);
}
void state_external_calls(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < s->state->n_probes; i++)
        external(l, &s->state->probes[i], false);
}
void state_external_errors(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < s->state->n_probes; i++)
        external(l, &s->state->probes[i], true);
}

STATE_ONE(state_trials, sample_u64, s->state->trials.signups)
STATE_ONE(state_conversions, sample_u64, s->state->trials.conversions)

void state_subscriptions(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < s->state->n_plans; i++) {
        struct span plan = lines_text(l, s->state->plans[i].plan);

        lines_series(l, &plan);
        lines_number(l, LINES_COUNT, s->state->plans[i].tenants);
    }
}

void state_anomalies(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < s->state->n_anomalies; i++)
        for (unsigned k = 0; k < ANOMALY_KINDS; k++) {
            struct span values[] = {span_of(anomaly_kind_name((enum anomaly_kind)k)),
                                    lines_text(l, s->state->anomalies[i].provider)};

            lines_series(l, values);
            lines_number(l, LINES_COUNT, s->state->anomalies[i].active >> k & 1);
        }
}

void state_exported(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < s->state->n_pipelines; i++)
        labelled_u64(l, s->state->pipelines[i].name, s->state->pipelines[i].exported);
}

void state_dropped(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < s->state->n_pipelines; i++) {
        struct span values[] = {span_of(s->state->pipelines[i].name), SPAN_LIT("queue_full")};

        lines_series(l, values);
        lines_number(l, LINES_COUNT, s->state->pipelines[i].dropped);
    }
}

void state_queued(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < s->state->n_pipelines; i++)
        labelled_u64(l, s->state->pipelines[i].name, s->state->pipelines[i].queued);
}

/* Of one that has delivered nothing yet there is no instant. */
void state_delivered(struct lines *l, const struct scrape *s)
{
    for (size_t i = 0; i < s->state->n_pipelines; i++) {
        struct span name = span_of(s->state->pipelines[i].name);

        if (s->state->pipelines[i].last_success.us <= 0)
            continue;
        lines_series(l, &name);
        lines_number(l, LINES_US, (uint64_t)s->state->pipelines[i].last_success.us);
    }
}
