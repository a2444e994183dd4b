/* SPDX-License-Identifier: Apache-2.0 */
/* The one driver of requests: enters stages in the order of stages.def until one waits or all are done. */
#ifndef PROXY_PIPELINE_H
#define PROXY_PIPELINE_H

#include "gatewayd/proxy/request.h"

/* The operation for a method and raw path; false with the reason (NOT_FOUND, BAD_METHOD). */
bool pipeline_match(struct span method, struct span path, enum operation *op, struct span *model,
                    enum err_code *why);
/* on_head: makes the request and runs it until it needs its body; or refuses it, when the process has too much to do. */
void pipeline_begin(struct proxy *p, struct exchange *ex, enum operation op, struct span model);
/* Enters the current stage again, at the end of this loop turn. */
void pipeline_resume(struct request *rq);
/* Cuts every live request (the drain deadline). */
void pipeline_cut_all(struct proxy *p);

#define STAGE(name, what) enum step stage_##name(struct request *rq);
#include "gatewayd/proxy/stages.def"
#undef STAGE

#endif
