/* SPDX-License-Identifier: Apache-2.0 */
/* Server-sent events, reassembled across any split. Fed with arbitrary chunks, it hands out whole events: the
 * raw bytes as they came (all lines of the event and the blank line that ends it, so they can be forwarded
 * untouched) and its parsed fields. Line ends \n, \r\n and \r, a BOM, comments, multi-line data, no space
 * after the colon. A blank line that ends in \r at the end of the fed bytes waits for what follows, since a
 * \n would belong to it.
 *
 *     sse_feed(s, chunk);
 *     while ((r = sse_next(s, &ev)) == SSE_EVENT)
 *         …
 *
 * The chunk is borrowed until sse_next() answers anything but SSE_EVENT: events that lie in it whole are not
 * copied, only the tail that has no end yet is kept. Between events a parser holds at most 1 KiB.
 *
 * The raw bytes of all events together are the fed bytes. Events without data (comments, surplus blank lines)
 * are handed out too, for the sake of that. How the bytes were cut into chunks changes nothing, except where
 * an oversized event is cut: an event of more than `max_event` bytes comes in unparsed pieces (`is_partial`),
 * so memory stays bounded; of one with more than `hard_max` bytes exactly `hard_max` come, and then
 * SSE_TOO_LARGE for ever. */
#ifndef HTTP_SSE_H
#define HTTP_SSE_H

#include "libshared/base/buf.h"

enum sse_result { SSE_EVENT, SSE_MORE, SSE_TOO_LARGE, SSE_OUT_OF_MEMORY };

struct sse_event {
    struct span raw;     /* all spans: borrowed until the next sse_next() */
    struct span type;    /* value of the last `event:` line; empty when none */
    struct span data;    /* `data:` lines joined by \n */
    struct span error;   /* value of the last `error:` line */
    bool has_data;       /* a `data:` line was there, be it empty */
    bool is_error_field; /* an `error:` line was there (some providers send it) */
    bool is_partial;     /* a piece of an oversized event: only `raw` and `is_end` are set */
    bool is_end;         /* the event ends with these bytes; false only for pieces before the last */
};

struct sse {
    struct buf in;     /* begun in earlier chunks, not yet handed out, unless `was_given` */
    struct buf joined; /* scratch for multi-line data */
    struct span chunk; /* borrowed from the caller: fed, not yet handed out or kept in `in` */
    size_t scanned;    /* bytes of `chunk` already searched for the end of the event */
    size_t oversize;   /* bytes of the current oversized event handed out so far */
    size_t max_event, hard_max;
    unsigned char line;   /* private: where the search stands in a line */
    unsigned char broken; /* private: SSE_TOO_LARGE or SSE_OUT_OF_MEMORY, for ever */
    bool has_found;       /* `scanned` reaches to the end of the event */
    bool was_given;       /* `in` was handed out by the last sse_next() */
    bool is_started;      /* the first event is over: no BOM any more */
    bool is_finished;
};

void sse_init(struct sse *s, size_t max_event_bytes, size_t hard_max_bytes);
void sse_release(struct sse *s);
/* ERR_INTERNAL when the previous chunk was not drained. */
NODISCARD enum err_code sse_feed(struct sse *s, struct span bytes);
/* No byte follows: an event that ended in \r need not wait. Call sse_next() again until SSE_MORE. */
void sse_finish(struct sse *s);
/* Call until it answers SSE_MORE. */
enum sse_result sse_next(struct sse *s, struct sse_event *out);
/* After SSE_MORE: bytes of an event that has begun but not ended (what a cut stream leaves behind), without
 * those that were handed out in pieces. */
struct span sse_rest(const struct sse *s);

#endif
