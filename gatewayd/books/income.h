/* SPDX-License-Identifier: Apache-2.0 */
/* What plans earn, day by day, and what is forgotten of the smaller tables. On the thread that owns the handle. */
#ifndef BOOKS_INCOME_H
#define BOOKS_INCOME_H

#include "gatewayd/config/config.h"
#include "libshared/store/db.h"

/* A row of `revenue` for each tenant that is enabled and whose plan has a price, for each day since its last one (at most 31),
 * today included. Doing it again changes nothing. */
NODISCARD enum err_code income_of_plans(struct db *db, const struct config *c, struct wall now,
                                        struct err *err);
/* Slow queries after 30 days; anomalies and active users after 400. */
NODISCARD enum err_code income_forget(struct db *db, struct wall now, struct err *err);

#endif
