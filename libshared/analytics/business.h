/* SPDX-License-Identifier: Apache-2.0 */
/* What tenants do and bring: the funnel of trials, and what a plan earns on a day. Pure. */
#ifndef ANALYTICS_BUSINESS_H
#define ANALYTICS_BUSINESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DAY_S ((int64_t)86400)

/* A plan's price of a month, spread over its days; the days of a month add up to the price exactly. `day_s` is any second of
 * the day (UTC). */
int64_t income_of_day(int64_t month_nano, int64_t day_s);

enum life_kind { LIFE_TRIAL, LIFE_FIRST_ANSWER, LIFE_CONVERTED, LIFE_CANCELLED, LIFE_KINDS };
struct life_event {
    uint64_t tenant; /* equal for events of one tenant, which stand together, oldest first */
    enum life_kind kind;
    int64_t at_s;
};

struct funnel {
    uint64_t signups, started, converted, cancelled; /* tenants that began a trial; of those */
    double conversion_rate, activation_rate;         /* percent of signups; NaN without any */
    double trial_conversion_rate;                    /* percent of those that started */
    double days_to_conversion;                       /* average; NaN without any */
    double days_to_start;
};
/* Tenants whose trial began from `from_s` to before `to_s`. */
void funnel_of(const struct life_event *events, size_t n, int64_t from_s, int64_t to_s, struct funnel *out);

#endif
