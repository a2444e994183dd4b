/* SPDX-License-Identifier: Apache-2.0 */
/* Refusing what the process cannot take on: before a request is made of an exchange, and again before its body is read. */
#ifndef PROXY_SHED_H
#define PROXY_SHED_H

#include "gatewayd/proxy/request.h"

/* False: the exchange was answered with 503, at the cost of little more than its header. */
bool shed_enter(struct proxy *p, struct exchange *ex, enum operation op);
/* The body that was announced, or that came, is taken into memory; STEP_DONE: there is no room for it. */
enum step shed_hold(struct request *rq, uint64_t bytes);
void shed_drop(struct request *rq); /* it is given back */
void shed_leave(struct request *rq);

#endif
