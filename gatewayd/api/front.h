/* SPDX-License-Identifier: Apache-2.0 */
/* The api thread: it owns the admin listeners and runs the handlers of API_ROUTES, for itself and for the workers, so
 * that no worker ever renders a metric or reads a store. */
#ifndef API_FRONT_H
#define API_FRONT_H

#include "gatewayd/api/api.h"
#include "gatewayd/config/config.h"
#include "gatewayd/core/mailbox.h"
#include "gatewayd/http/server.h"
#include "gatewayd/telemetry/facts.h"

struct api_front;

/* Starts the thread; admin TCP listener and socket as configured. */
struct api_front *api_front_start(struct gateway *gw, struct config *c, struct err *err);
/* Closes the listeners, ends the thread. Workers must have stopped. */
void api_front_stop(struct api_front *f);
uint16_t api_front_port(const struct api_front *f); /* of the admin TCP listener, 0 when there is none */
struct facts *api_front_facts_mt(const struct api_front *f);

/* In on_head of an exchange: takes it when a route matches (a refusal for want of scope included); false with the
 * reason otherwise. `home` is the exchange's own loop's mailbox, `facts` its thread's cells. */
bool api_front_take(struct api_front *f, struct exchange *ex, struct mailbox *home, struct facts *facts,
                    const struct config *c, bool is_main, enum err_code *why);

#endif
