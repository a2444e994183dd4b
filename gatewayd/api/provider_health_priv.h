/* SPDX-License-Identifier: Apache-2.0 */
/* Health of a provider from its sums, as every page shows it. */
#ifndef API_PROVIDER_HEALTH_PRIV_H
#define API_PROVIDER_HEALTH_PRIV_H

#include "gatewayd/api/handlers_priv.h"
#include "gatewayd/resilience/health.h"

struct health provider_health(const struct picture *p, const struct facts_provider_sum *s);
/* To one decimal, so that no page shows another figure than the next. */
double health_rounded(double score);
/* Over the window, or over the process's life while that is shorter; null in the first second. */
json_t *requests_per_s(const struct picture *p, uint64_t in_window);

#endif
