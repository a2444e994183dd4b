/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and patching the client's body by offset. Nothing is built; the client's own bytes are forwarded. */
#ifndef PROXY_BODY_H
#define PROXY_BODY_H

#include "gatewayd/proxy/request.h"

/* One complete JSON object within limits; fills `plan` with spans into `body`. */
NODISCARD enum err_code body_scan_json(struct span body, enum operation op, struct body_plan *plan,
                                       struct err *err);
/* multipart/form-data: finds the part named `model`. `content_type` carries the boundary. */
NODISCARD enum err_code body_scan_multipart(struct span body, struct span content_type,
                                            struct body_plan *plan, struct err *err);
/* The bytes to send for a target: model replaced, usage asked for. False: the body goes as it is. */
bool body_patch(const struct body_plan *plan, struct span body, enum body_form form, const char *model,
                bool ask_usage, struct buf *out);
/* A guess at the prompt's tokens where the provider never says: a quarter of the body's bytes. */
uint64_t body_estimate_input(uint64_t body_bytes);

#endif
