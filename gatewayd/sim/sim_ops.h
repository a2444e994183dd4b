/* SPDX-License-Identifier: Apache-2.0 */
/* Every operation the simulated provider answers. One more is one row here and one `const struct sim_op` in
 * the file of its dialect. */
#ifndef SIM_SIM_OPS_H
#define SIM_SIM_OPS_H

#include "gatewayd/sim/sim_ask.h"
#include "libshared/base/hash.h"

/* In order of how often tests ask for them; the first whose path is equal answers. */
#define SIM_OPS(OP)                                                                                          \
    OP(chat)                                                                                                 \
    OP(messages) OP(responses) OP(embeddings) OP(completion) OP(count_tokens) OP(images) OP(speech)          \
        OP(transcription) OP(moderations) OP(rerank) OP(models) OP(model)

#define OP(name) extern const struct sim_op sim_op_##name;
SIM_OPS(OP)
#undef OP
extern const struct sim_op sim_op_gemini, sim_op_gemini_stream;

#endif
