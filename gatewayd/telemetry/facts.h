/* SPDX-License-Identifier: Apache-2.0 */
/* Fact cells: one table per worker, written only by that worker (plain relaxed stores, no locks), summed by
 * whoever reads. Families of /metrics are projections of these cells; there is no other counter of requests
 * or attempts. */
#ifndef TELEMETRY_FACTS_H
#define TELEMETRY_FACTS_H

#include "libshared/catalog/fact.h"

struct facts;

struct facts *facts_new(struct err *err);
void facts_free(struct facts *f);
/* Its thread has ended; the next to count is its owner. */
void facts_leave(struct facts *f);
/* Any thread: how many lines of exposition all series together may become (metrics.max_series; 0 is the
 * default); beyond, new label values are folded into `__overflow__`. */
void facts_limit_series(size_t max_series);
/* Any thread: which profiles are shown, 1 << profile; what only a hidden one shows is not counted. */
void facts_show(unsigned profiles);
/* Owner thread only. `a` has rq->attempts elements. */
void facts_add(struct facts *f, const struct fact_request *rq, const struct fact_attempt *a);
/* HTTP requests that were refused before a request fact exists (guard, unknown path) and those of the control
 * plane. */
void facts_add_http(struct facts *f, label method, label endpoint, uint16_t status, int64_t duration_us,
                    uint64_t response_bytes);
/* Gauges of the worker, owner thread only. */
void facts_stream_opened(struct facts *f);
void facts_stream_closed(struct facts *f);

#endif
