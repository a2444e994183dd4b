/* SPDX-License-Identifier: Apache-2.0 */
/* May it be done: there is room to put on record what follows, and the most that it can cost is held, durably, before a
 * provider hears of it. */
#include "gatewayd/proxy/pipeline.h"
#include "gatewayd/proxy/statement.h"

enum step stage_admit(struct request *rq)
{
    if (operation_row(rq->op)->body == BODY_NONE)
        return STEP_NEXT;
    if (!journal_has_room(rq->proxy->journal) || !statement_reserve(rq)) {
        rq->retry_after_ms = 1000;
        return request_fail(
            rq, ERR_JOURNAL_FULL,
            "the journal is full, so nothing can be spent on record; free disk space or raise "
            "'journal.max_bytes'");
    }
    return STEP_NEXT;
}
