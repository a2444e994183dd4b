/* SPDX-License-Identifier: Apache-2.0 */
/* May it be done: the model is allowed for the tenant, and there is room to put what follows on record. */
#include "gatewayd/proxy/pipeline.h"

enum step stage_admit(struct request *rq)
{
    if (operation_row(rq->op)->body == BODY_NONE)
        return STEP_NEXT;
    if (!config_tenant_may_use(rq->key->tenant, span_of(rq->plan.model_name)))
        return request_fail(rq, ERR_FORBIDDEN, "tenant '%s' may not use model '%s'", rq->key->tenant->id,
                            rq->plan.model_name);
    if (!journal_has_room(rq->proxy->journal)) {
        rq->retry_after_ms = 1000;
        return request_fail(
            rq, ERR_JOURNAL_FULL,
            "the journal is full, so nothing can be spent on record; free disk space or raise "
            "'journal.max_bytes'");
    }
    return STEP_NEXT;
}
