/* SPDX-License-Identifier: Apache-2.0 */
/* A request's side of the queue: which priority it has, its wait for a slot of a provider, and what it is told when there is
 * no use in waiting. What a wait needs lives on the heap, since another worker may be about to grant it when the request ends. */
#ifndef PROXY_WAITING_H
#define PROXY_WAITING_H

#include "gatewayd/proxy/request.h"

/* Reads x-priority and what the client says of its patience. ERR_OK, or BAD_REQUEST with the detail filled in. */
NODISCARD enum step waiting_read(struct request *rq);

/* A slot of the target's provider, if there is one without waiting. */
NODISCARD bool waiting_try(struct request *rq, const struct config_target *t, struct queue_slot *out);
/* QUEUE_GO: `out` is held. QUEUE_WAITS: the request is resumed when there is a slot, or its patience is over. */
NODISCARD enum queue_verdict waiting_begin(struct request *rq, const struct config_target *t,
                                           struct queue_slot *out);
enum waiting_state { WAITING_ON, WAITING_GRANTED, WAITING_OVER };
/* Of a request that waits. GRANTED: `out` is held. OVER: `rq->wait_refusal` says why. */
enum waiting_state waiting_look(struct request *rq, struct queue_slot *out);
/* However the request ended: it leaves the queue at once. Without effect on one that does not wait. */
void waiting_end(struct request *rq);
/* 503, with what was full. */
enum step waiting_refuse(struct request *rq, const struct config_target *t);

#endif
