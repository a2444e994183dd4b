/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP guard: judges a request's framing before anything else looks at it, because the parser below
 * accepts ambiguous ones. Pure: no I/O, no allocation. It sees what the parser delivered plus the raw request
 * target.
 *
 * What passes is exactly this:
 *   method    GET HEAD POST PUT PATCH DELETE OPTIONS; version HTTP/1.0 or HTTP/1.1
 *   target    a path from '/', of printable ASCII; no fragment, empty segment, dot segment, backslash, and in the
 *             path no encoded dot, percent sign, backslash, control or non-ASCII byte. An encoded slash only below
 *             the routes whose last part is a name that may hold one (models and the API); it counts as a slash in
 *             these rules
 *   headers   at most GUARD_HEADERS_MAX; names are tokens, values hold no control bytes; what frames, addresses or
 *             authenticates the request stands once; Host as HTTP/1.1 requires it
 *   body      one Content-Length in plain digits, or `Transfer-Encoding: chunked` on HTTP/1.1, never both; required
 *             with POST, PUT and PATCH, refused with the others (Content-Length 0 is no body); not compressed
 *   Expect    100-continue or absent. Upgrade and HTTP2-Settings are nobody's business here: they are ignored. */
#ifndef HTTP_GUARD_H
#define HTTP_GUARD_H

#include <stdbool.h>

#include "libshared/base/err.h"
#include "libshared/base/span.h"

#define GUARD_HEADERS_MAX 100u

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
    bool has_body; /* a body was announced */
    bool is_chunked;
    uint64_t content_length; /* 0 when chunked or none */
};

/* ERR_OK, or the refusal: BAD_FRAMING, BAD_REQUEST, LENGTH_REQUIRED, TOO_LARGE, BAD_MEDIA_TYPE, BAD_EXPECT,
 * BAD_METHOD, UNSUPPORTED (unknown transfer coding). Every refusal means: answer and close the connection. */
NODISCARD enum err_code guard_check(const struct guard_input *in, struct guard_verdict *out, struct err *err);

#endif
