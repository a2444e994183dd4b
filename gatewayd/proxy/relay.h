/* SPDX-License-Identifier: Apache-2.0 */
/* Passing an answer on while it comes. The answer is held until it is sure to be one: a buffered body until it is
 * complete or larger than LIMIT_BUFFERED_ANSWER, a stream until its first event with data. */
#ifndef PROXY_RELAY_H
#define PROXY_RELAY_H

#include "gatewayd/proxy/request.h"

/* Body bytes of a 2xx answer; false pauses the provider (the client reads too slowly). */
bool relay_take(struct attempt *a, struct span bytes);
/* The headers of every answer that a provider gave. */
void relay_set_headers(struct request *rq);
/* The transfer is over: what is left in the SSE parser is passed on. */
void relay_flush(struct attempt *a);

#endif
