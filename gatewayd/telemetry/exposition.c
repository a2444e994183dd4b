/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/telemetry/exposition.h"

enum exposition_format exposition_negotiate(struct span accept)
{
    return accept.len && memmem(accept.p, accept.len, "application/openmetrics-text", 28)
               ? EXPOSITION_OPENMETRICS
               : EXPOSITION_TEXT_004;
}

const char *exposition_content_type(enum exposition_format f)
{
    return f == EXPOSITION_OPENMETRICS ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                                       : "text/plain; version=0.0.4; charset=utf-8";
}

void exposition_render(struct buf *out, enum exposition_format format, struct facts *const *workers,
                       size_t n_workers, const struct metrics_state *state)
{
    (void)workers;
    (void)n_workers;
    (void)state;
    if (format == EXPOSITION_OPENMETRICS)
        buf_addz(out, "# EOF\n");
}

size_t facts_sum_providers(struct facts *const *workers, size_t n_workers, const struct metrics_state *state,
                           struct facts_provider_sum *out, size_t cap)
{
    (void)workers;
    (void)n_workers;
    (void)state;
    (void)out;
    (void)cap;
    return 0;
}

struct facts_totals facts_totals(struct facts *const *workers, size_t n_workers, struct wall now)
{
    (void)workers;
    (void)n_workers;
    (void)now;
    return (struct facts_totals){0};
}
