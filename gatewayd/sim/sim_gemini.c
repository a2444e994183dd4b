/* SPDX-License-Identifier: Apache-2.0 */
/* Gemini's generateContent and streamGenerateContent. */
#include "gatewayd/sim/sim_ops.h"

static const char *decode(struct sim_ask *a, const struct sim_request *rq)
{
    if (rq->m.contents.type != JSON_ARRAY)
        return "contents must be an array";
    return sim_ask_chat(a, rq, rq->m.contents, rq->m.systemInstruction);
}
static void whole(const struct sim_ask *a, const struct sim_request *rq, struct buf *out)
{
    (void)a;
    (void)rq;
    buf_addz(out, "{}");
}
const struct sim_op sim_op_gemini = {
    .name = "generate", .dialect = SIM_GEMINI, .decode = decode, .whole = whole};
const struct sim_op sim_op_gemini_stream = {
    .name = "generate", .dialect = SIM_GEMINI, .decode = decode, .whole = whole};
