/* SPDX-License-Identifier: Apache-2.0 */
/* Health of a provider, as every page shows it. */
#ifndef API_PROVIDER_HEALTH_PRIV_H
#define API_PROVIDER_HEALTH_PRIV_H

#include "gatewayd/api/handlers_priv.h"
#include "gatewayd/resilience/health.h"

#define HEALTH_WINDOW_US                                                                                     \
    ((int64_t)300 * 1000000) /* of the other figures, and of health before its first board */

/* Its row of the board; all unknown for a provider that is not configured any more. */
struct health_row provider_health(const struct picture *p, label provider);
/* Over the window, or over the process's life while that is shorter; null in the first second. */
json_t *requests_per_s(const struct picture *p, uint64_t in_window);

#endif
