/* SPDX-License-Identifier: Apache-2.0 */
/* Tells when budgets will be spent: a thread that reads from the history store what every account with a budget has spent by the
 * hour, and computes anew about once a minute, and when budgets change. It tells an event once a window when an account will
 * reach its limit before it resets. */
#ifndef BOOKS_FORECASTER_H
#define BOOKS_FORECASTER_H

#include "gatewayd/limits/limits.h"
#include "gatewayd/telemetry/events.h"
#include "libshared/analytics/forecast.h"
#include "libshared/store/db.h"

struct forecaster;

struct forecaster_options {
    struct limits *limits; /* borrowed */
    struct events *events; /* likewise */
    struct db *db;         /* owned from now on, also on failure */
};
struct forecaster *forecaster_start(const struct forecaster_options *o, struct err *err);
void forecaster_stop(struct forecaster *f); /* NULL is fine */
/* False for an account without a budget, and until it was looked at. */
bool forecaster_look_mt(struct forecaster *f, const char *account, struct forecast *out);

#endif
