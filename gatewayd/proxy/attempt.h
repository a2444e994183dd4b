/* SPDX-License-Identifier: Apache-2.0 */
/* One upstream call. It is started by dispatch, fed by the client's callbacks, and closed (fact made, journalled)
 * exactly once: by dispatch when it failed, by settle when it is the last. */
#ifndef PROXY_ATTEMPT_H
#define PROXY_ATTEMPT_H

#include "gatewayd/proxy/request.h"

/* What an attempt is made on. */
struct attempt_leave {
    struct breaker_ticket ticket;
    struct queue_slot slot;
    struct limits_hold hold; /* of the provider's account */
};
/* Appends the attempt to the request and sends it. Callbacks end in pipeline_resume(). Takes all three. */
void attempt_start(struct request *rq, const struct config_target *target, unsigned key_index,
                   const struct attempt_leave *leave);
/* When the budget of a target's provider begins anew. */
struct cycle attempt_cycle(const struct request *rq, const struct config_target *t);
/* Closes the upstream connection if it is still open. Not from inside a callback of the client. */
void attempt_stop(struct attempt *a);
/* Once nothing can be sent again: the request's body is given back, if all of it left. */
void attempt_drop_body(struct attempt *a);
/* The client reads again (or nobody does any more): the provider may go on. */
void attempt_unpause(struct attempt *a);
/* It is of no use: remembered, and the request resumes. Safe inside callbacks. */
void attempt_fail(struct attempt *a, enum err_code code, const char *detail);
/* An operator has shut its target off at once: it ends, and the request goes on to the next target if it still can. */
void attempt_cut(struct attempt *a);
/* Judges an attempt whose transfer ended before anything was passed on. */
void attempt_judge(struct attempt *a);
/* Completes `fact` and journals it. `end` is STREAM_NONE for buffered answers. */
void attempt_close(struct attempt *a, enum fact_status status, enum err_code error, enum stream_end end);
void attempt_release(struct attempt *a);

#endif
