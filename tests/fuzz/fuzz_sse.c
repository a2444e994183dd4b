/* SPDX-License-Identifier: Apache-2.0 */
/* Event streams: however the bytes are sliced, the same events come out, and their raw bytes are the bytes
 * fed. The first two bytes of the input seed the slicing. */
#include <string.h>

#include "gatewayd/http/sse.h"
#include "tests/fuzz/must.h"

#define MAX_EVENT 64u
#define HARD_MAX  256u

struct run {
    struct sse s;
    struct buf log;   /* every event as text, pieces of one joined */
    struct buf raw;   /* all raw bytes */
    struct buf piece; /* of the oversized event that is under way */
    enum sse_result last;
};

static void note(struct buf *log, char tag, struct span s)
{
    buf_addf(log, "%c%zu:", tag, s.len);
    buf_add(log, s);
}

static void note_event(struct run *r, const struct sse_event *ev)
{
    MUST(ev->raw.len > 0);
    buf_add(&r->raw, ev->raw);
    if (ev->is_partial) {
        buf_add(&r->piece, ev->raw);
        if (!ev->is_end)
            return;
        note(&r->log, 'P', buf_span(&r->piece));
        buf_clear(&r->piece);
        return;
    }
    MUST(ev->is_end && !r->piece.len && ev->raw.len <= MAX_EVENT);
    MUST(ev->data.len + ev->type.len + ev->error.len < ev->raw.len);
    MUST(ev->has_data || !ev->data.len);
    note(&r->log, 'R', ev->raw);
    note(&r->log, 'T', ev->type);
    note(&r->log, ev->has_data ? 'D' : 'd', ev->data);
    note(&r->log, ev->is_error_field ? 'E' : 'e', ev->error);
}

static void drain(struct run *r)
{
    struct sse_event ev;

    while ((r->last = sse_next(&r->s, &ev)) == SSE_EVENT)
        note_event(r, &ev);
    MUST(r->last == SSE_MORE || r->last == SSE_TOO_LARGE);
    MUST(r->s.in.len <= MAX_EVENT);
}

static void feed(struct run *r, const uint8_t *p, size_t n)
{
    uint8_t *exact = malloc(n);

    memcpy(exact, p, n);
    MUST(sse_feed(&r->s, span_make(exact, n)) == ERR_OK);
    drain(r);
    free(exact);
}

static void finish(struct run *r)
{
    sse_finish(&r->s);
    drain(r);
    if (r->last != SSE_TOO_LARGE) {
        buf_add(&r->raw, sse_rest(&r->s));
        buf_add(&r->piece, sse_rest(&r->s));
    }
    note(&r->log, r->last == SSE_TOO_LARGE ? 'X' : 'r', buf_span(&r->piece));
}

static void run_sliced(struct run *r, const uint8_t *p, size_t size, unsigned largest, uint32_t seed)
{
    *r = (struct run){0};
    sse_init(&r->s, MAX_EVENT, HARD_MAX);
    for (size_t at = 0, n; at < size; at += n) {
        seed = seed * 1664525u + 1013904223u;
        n = 1 + (seed >> 16) % largest;
        if (n > size - at)
            n = size - at;
        feed(r, p + at, n);
    }
    finish(r);
}

static void run_release(struct run *r)
{
    sse_release(&r->s);
    buf_release(&r->log);
    buf_release(&r->raw);
    buf_release(&r->piece);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned LARGEST[] = {1, 7, 40};
    struct run whole, sliced;
    uint32_t seed;

    if (size < 2 || size > 1 << 16)
        return 0;
    seed = (uint32_t)data[0] << 8 | data[1];
    data += 2;
    size -= 2;
    run_sliced(&whole, data, size, 1 << 16, seed | 0xffff0000u); /* nearly always one slice */
    if (whole.last != SSE_TOO_LARGE)
        MUST(span_eq(buf_span(&whole.raw), span_make(data, size)));
    else
        MUST(whole.raw.len < size && memcmp(whole.raw.p, data, whole.raw.len) == 0);
    for (size_t i = 0; i < ARRAY_LEN(LARGEST); i++) {
        run_sliced(&sliced, data, size, LARGEST[i], seed);
        MUST(sliced.last == whole.last);
        MUST(span_eq(buf_span(&sliced.raw), buf_span(&whole.raw)));
        MUST(span_eq(buf_span(&sliced.log), buf_span(&whole.log)));
        run_release(&sliced);
    }
    run_release(&whole);
    return 0;
}
