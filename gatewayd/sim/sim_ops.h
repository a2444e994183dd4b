/* SPDX-License-Identifier: Apache-2.0 */
/* Every operation the simulated provider answers. One more is one row here and one `const struct sim_op` in
 * the file of its dialect. */
#ifndef SIM_SIM_OPS_H
#define SIM_SIM_OPS_H

#include "gatewayd/sim/sim_ask.h"
#include "libshared/base/hash.h"

#define SIM_OP(name) extern const struct sim_op sim_op_##name;
#include "gatewayd/sim/sim_ops.def"
#undef SIM_OP
extern const struct sim_op sim_op_gemini, sim_op_gemini_stream;

#endif
