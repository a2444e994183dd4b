/* SPDX-License-Identifier: Apache-2.0 */
/* Batches that add to an hour, and the roll-up that stores it, exclude each other: either the roll-up has a batch's rows, or the
 * batch sees that the hour is stored and marks it dirty. Both within a transaction, until its end. */
#ifndef ANALYTICS_HOUR_LOCK_H
#define ANALYTICS_HOUR_LOCK_H

#include "libshared/store/db.h"

/* A batch, before it looks whether the hour is stored. Any number at once. */
NODISCARD enum err_code hour_lock_shared(struct db *db, int64_t hour, struct err *err);
/* The roll-up, before it reads. */
NODISCARD enum err_code hour_lock_alone(struct db *db, int64_t hour, struct err *err);

#endif
