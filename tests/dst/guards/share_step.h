/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DST_GUARDS_SHARE_STEP_H
#define DST_GUARDS_SHARE_STEP_H

#include "gatewayd/resilience/breaker.h"
#include "tests/dst/guards/guards.h"

struct breaker_share;

/* As at boot: forced states are read, then the other nodes are heard once. */
struct breaker_share *share_open(struct breakers *b, const char *node, bool restores);
/* One turn; microseconds until the next. */
int64_t share_turn(struct breaker_share *s, bool is_deaf);
bool share_has_restored(const struct breaker_share *s);
/* An operator's word is kept; false: it is not known to be. */
bool share_keep(label provider, label model, const struct breaker_forced *f);
void share_close(struct breaker_share *s); /* as a death: nothing is told any more */

#endif
