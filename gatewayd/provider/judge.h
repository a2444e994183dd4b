/* SPDX-License-Identifier: Apache-2.0 */
/* What a refusal means, whichever vendor wrote it: error objects in their many shapes, status codes, and how
 * long to wait. Shared by the dialects; nothing outside provider/ includes it. */
#ifndef PROVIDER_JUDGE_H
#define PROVIDER_JUDGE_H

#include "gatewayd/provider/provider.h"

struct wire_error {
    bool is_present;
    int status;        /* an HTTP status given as the error's code, else 0 */
    char code[64];     /* the most specific name: `code`, `status`, or empty */
    char type[64];     /* `type` */
    char message[160]; /* cut, for matching; it may quote the caller, so it is not for logs as it is */
};

/* Reads {"error":{…}}, {"error":"…"}, {"object":"error",…}, {"type":"error",…}, {"message":…}, {"detail":…},
 * and the same as the first element of a list. `is_present` stays false when `body` is none of them. */
void wire_error_read(struct wire_error *e, struct span body);
/* The error object itself, as found inside a chunk: an object or a string. */
void wire_error_read_object(struct wire_error *e, struct span value);
/* An error that came inside a 200 answer. */
enum err_code judge_error(const struct wire_error *e);
/* Marks the answer as ended by the error, with a text that is fit for a log. The first error stays. */
void judge_answer_error(struct answer *a, const struct wire_error *e);
struct failure judge_failure(int status, const struct answer_headers *h, struct span body,
                             int64_t now_unix_s);

/* Milliseconds to wait by the headers, -1 when they say nothing usable. `use_reset`: the rate-limit reset
 * counts too. */
int64_t judge_retry_after_ms(const struct answer_headers *h, bool use_reset, int64_t now_unix_s);

#endif
