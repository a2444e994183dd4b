/* SPDX-License-Identifier: Apache-2.0 */
/* What answers about a period share: reading its hours, and saying how far they can be believed. */
#ifndef API_VIEW_PRIV_H
#define API_VIEW_PRIV_H

#include "gatewayd/api/handlers_priv.h"
#include "libshared/analytics/hourly.h"

#define VIEW_HOUR_S         ((int64_t)3600)
#define VIEW_DAY_S          ((int64_t)86400)
#define SET(o, name, value) ((void)json_object_set_new(o, name, value))

struct view_ask {
    int64_t from, to; /* whole hours; `to` 0: the end of the hour that runs */
    int64_t step_s;
    bool has_sketches;
    const char *provider, *model;
};

struct view {
    struct wall now;
    struct hourly h;
    bool is_stale; /* a store has not got what was settled here, or is not reached */
};

/* False with the reply written: nothing at all could be read. */
bool view_read(const struct api_request *rq, const struct view_ask *ask, struct view *v,
               struct api_reply *reply);
void view_release(struct view *v);
/* All of the steps from `from` until before `to` as one sum, zeros where nothing was; borrowed from `s`, which is to be released. */
const struct hourly_sum *view_sum(const struct hourly *h, size_t from, size_t to, struct hourly_sums *s);
/* The hour that runs and those before it, `hours` in all. */
int64_t view_hours_back(struct wall now, int64_t hours);
/* An object with timestamp, from, to, partial, missing, stale. */
json_t *view_head(const struct view *v);
/* `partial` and so on for answers that read no hours. */
void view_put_state(json_t *o, bool is_partial, const char *missing, bool is_stale);
bool view_is_stale(struct gateway *gw);
void view_fail(struct api_reply *reply, const struct err *err);

/* Whether the configuration has it. */
bool view_knows_provider(struct gateway *gw, struct span provider);

json_t *view_hour(int64_t second); /* "2025-11-27:14" */
json_t *view_day(int64_t second);  /* "2025-11-27" */
json_t *view_ms(const struct sketch *s, double q);
/* total_requests, successful_requests, failed_requests, error_rate, success_rate, avg_latency_ms, input_tokens, cached_tokens,
 * output_tokens, total_tokens, total_cost, total_cost_nanousd, unpriced_requests */
void view_put_measures(json_t *o, const struct measures *m);

#endif
