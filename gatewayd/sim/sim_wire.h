/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 requests as they arrive on a socket, read strictly: CRLF only, no folding, one framing, no chunk
 * extensions, no trailers. The simulator is a witness in framing tests, so what is ambiguous is refused, not
 * guessed. */
#ifndef SIM_WIRE_H
#define SIM_WIRE_H

#include "libshared/base/buf.h"

#define SIM_HEAD_MAX    ((size_t)64 << 10)
#define SIM_HEADERS_MAX 128u

struct sim_header {
    struct span name, value;
};

struct sim_head { /* all spans borrow the bytes that were parsed */
    struct span method, path, query;
    struct sim_header headers[SIM_HEADERS_MAX];
    unsigned n_headers;
    bool is_chunked, has_length, wants_close, expects_continue, is_http10;
    uint64_t length; /* of Content-Length */
    size_t bytes;    /* length of the head, blank line included */
    int status;      /* set when refused */
    const char *why;
};

enum sim_wire { SIM_WIRE_MORE, SIM_WIRE_DONE, SIM_WIRE_BAD };

/* On MORE nothing in `h` is valid; on BAD only `status` and `why`. */
enum sim_wire sim_head_parse(struct sim_head *h, struct span in);
/* First header of that lower-case name; p == NULL when absent. */
struct span sim_head_get(const struct sim_head *h, const char *name);
/* Value of `name` in the query string, not decoded; p == NULL when absent. */
struct span sim_query_get(struct span query, const char *name);

struct sim_chunked {
    unsigned char state;
    unsigned char digits;
    uint64_t left;
};

/* Consumes what it can of `in` (`*out_used`), appends decoded bytes to `body`. */
enum sim_wire sim_chunked_feed(struct sim_chunked *d, struct span in, size_t *out_used, struct buf *body);

const char *sim_status_text(int status);

#endif
