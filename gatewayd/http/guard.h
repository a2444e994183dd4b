/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP guard: judges a request's framing before anything else looks at it, because the parser below accepts
 * ambiguous ones. Pure: no I/O, no allocation. It sees what the parser delivered plus the raw request target. */
#ifndef HTTP_GUARD_H
#define HTTP_GUARD_H

#include <stdbool.h>

#include "libshared/base/err.h"
#include "libshared/base/span.h"

struct guard_header {
    struct span name, value;
};

struct guard_input {
    struct span method, raw_target, version; /* version "HTTP/1.1" */
    const struct guard_header *headers;
    size_t n_headers;
    size_t max_body; /* bytes */
};

struct guard_verdict {
    bool has_body;       /* a body was announced */
    bool is_chunked;
    uint64_t content_length; /* 0 when chunked or none */
};

/* ERR_OK, or the refusal: BAD_FRAMING, BAD_REQUEST, LENGTH_REQUIRED, TOO_LARGE, BAD_MEDIA_TYPE, BAD_EXPECT, BAD_METHOD,
 * UNSUPPORTED (unknown transfer coding). Every refusal means: answer and close the connection. */
NODISCARD enum err_code guard_check(const struct guard_input *in, struct guard_verdict *out, struct err *err);

#endif
