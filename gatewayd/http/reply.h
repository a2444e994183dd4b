/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of errors. Pure text. */
#ifndef HTTP_REPLY_H
#define HTTP_REPLY_H

#include "libshared/base/buf.h"
#include "libshared/catalog/operation.h"

/* What is not asked in a dialect: {"error":{"message","type","param","code"}}, as OpenAI has it. */
void reply_error_body(struct buf *out, enum err_code code, struct span message);

/* That, or {"type":"error","error":{"type","message"},"request_id"}; with one more member of the error object: `"name":value` in
 * JSON, or nothing. */
void reply_error_body_with(struct buf *out, enum dialect d, enum err_code code, struct span message,
                           struct span request_id, struct span member);

#endif
