/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DST_GUARDS_KEEPER_STEP_H
#define DST_GUARDS_KEEPER_STEP_H

#include "gatewayd/limits/limits_lease.h"
#include "tests/dst/guards/guards.h"

/* How much longer than a session the store waits, in sessions. */
extern const int64_t keeper_grace;

/* What limits_lease_start() does, but for the thread. */
struct limits_lease *keeper_open(const struct limits_lease_options *o);
/* What the thread does in one turn; microseconds until the next. */
int64_t keeper_turn(struct limits_lease *s, bool renews_in_any_case);
/* What an account may have spent twice when the store has given its leases to others. */
int64_t keeper_says(struct limits_lease *s, const char *account);
void keeper_close(struct limits_lease *s); /* as a death: nothing is given back */

#endif
