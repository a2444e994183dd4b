/* SPDX-License-Identifier: Apache-2.0 */
/* Asks providers that nobody used for a while whether they are there, at an endpoint that costs nothing: their list of models.
 * It is no attempt: neither books nor metrics of attempts hear of it. One loop's thread. */
#ifndef HEALTH_PROBER_H
#define HEALTH_PROBER_H

#include "gatewayd/config/config.h"
#include "gatewayd/core/mailbox.h"
#include "gatewayd/health/share.h"

struct prober;

enum probe_outcome { PROBE_OK, PROBE_FAILED, PROBE_UNCLEAR, PROBE_OUTCOMES };

/* The loop and the mailbox are borrowed. */
struct prober *prober_new(struct loop *l, struct mailbox *m, const char *ca_file, struct err *err);
void prober_free(struct prober *p);

/* Whether the provider has an endpoint that can be asked for nothing. */
bool prober_can(const struct config_provider *provider);
/* Starts a probe unless one is under way; false when it cannot be asked. The provider is read during the call only. */
bool prober_start(struct prober *p, const struct config_provider *provider, int64_t timeout_us);
bool prober_is_busy(const struct prober *p, label provider);
/* The last one's result; .at 0: none. */
struct health_probed prober_last(const struct prober *p, label provider);
/* When it may be probed for the first time: a moment behind the first sight of it. */
struct wall prober_first(struct prober *p, label provider, struct wall now, int64_t spread_us);
/* Any thread. */
uint64_t prober_count_mt(const struct prober *p, label provider, enum probe_outcome o);

#endif
