/* SPDX-License-Identifier: Apache-2.0 */
/* What the journal is told of a request while it is open: RESERVE before a provider is called, PROGRESS as tokens
 * come, both with all that the next start needs to end it, should the process die. */
#ifndef PROXY_STATEMENT_H
#define PROXY_STATEMENT_H

#include "gatewayd/proxy/request.h"

/* Between two statements of a stream, whichever comes first: what a crash may cost. */
#define STATEMENT_US     1000000
#define STATEMENT_TOKENS 256u

void statement_context(const struct request *rq, struct fact_context *out);
/* Holds the most that it can cost; false when the journal is full. */
NODISCARD bool statement_reserve(struct request *rq);
/* Another attempt begins; false when the journal is full, so that it must not. */
NODISCARD bool statement_attempt(struct request *rq);
/* Content came; says so when it is time. */
void statement_progress(struct request *rq);
/* Nothing can be put on record: the request ends with 503. */
enum step statement_refuse(struct request *rq);

/* Keeps the journal able to forget: tells it what open requests need, and has those that are far behind state
 * themselves again. Goes on by itself. */
void statement_watch(struct proxy *p);
void statement_unwatch(struct proxy *p);

/* The most that one attempt of the request can cost, at its dearest target. */
int64_t statement_bound(struct request *rq);
/* The same at one target; 0 where it has no price. */
int64_t statement_bound_at(const struct request *rq, const struct config_target *t);
/* What it asks of limits on tokens: the prompt by estimate, and the maximum of the answer when the client says one. */
uint64_t statement_tokens(const struct request *rq);
/* Plans the maximum that a budget puts into what goes to `t`, where the client says none. */
void statement_put_max(struct request *rq, const struct config_target *t);
/* Before a further attempt: what the failed ones cost is held beside the bound of the next. */
bool statement_afford_another(struct request *rq);

#endif
