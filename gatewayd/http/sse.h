/* SPDX-License-Identifier: Apache-2.0 */
/* Server-sent events, reassembled across any split. Fed with arbitrary chunks, it hands out whole events: the raw
 * bytes as they came (all lines of the event and the blank line that ends it, so they can be forwarded untouched)
 * and its parsed fields. Line ends \n, \r\n and \r, a BOM, comments, multi-line data, no space after the colon.
 * A line end \r at the end of the fed bytes waits for what follows.
 *
 * An event larger than `max_event` bytes is handed out in raw pieces (`is_partial`), unparsed, so memory stays
 * bounded; past `hard_max` bytes sse_next() says SSE_TOO_LARGE. */
#ifndef HTTP_SSE_H
#define HTTP_SSE_H

#include "libshared/base/buf.h"

enum sse_result { SSE_EVENT, SSE_MORE, SSE_TOO_LARGE, SSE_OUT_OF_MEMORY };

struct sse_event {
    struct span raw;  /* borrowed until the next call that changes the parser */
    struct span type; /* value of the last `event:` line; empty when none */
    struct span data; /* `data:` lines joined by \n */
    bool has_data;
    bool is_error_field; /* a line `error:` was seen (some providers send it) */
    bool is_partial;     /* a piece of an oversized event: only `raw` is set */
};

struct sse {
    struct buf in;     /* received, not yet handed out */
    struct buf joined; /* scratch for multi-line data */
    size_t taken;      /* bytes of `in` handed out by the last event */
    size_t scanned;    /* bytes of `in` already searched for the end of the event */
    size_t oversize;   /* bytes of the current oversized event handed out so far */
    size_t max_event, hard_max;
    bool started;
    unsigned line_state; /* private */
};

void sse_init(struct sse *s, size_t max_event_bytes, size_t hard_max_bytes);
void sse_release(struct sse *s);
NODISCARD enum err_code sse_feed(struct sse *s, struct span bytes);
/* Call until it answers SSE_MORE. */
enum sse_result sse_next(struct sse *s, struct sse_event *out);
/* Bytes of an event that has begun but not ended (what a cut stream leaves behind). */
struct span sse_rest(const struct sse *s);

#endif
