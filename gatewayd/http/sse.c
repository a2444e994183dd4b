/* SPDX-License-Identifier: Apache-2.0 */
/* Two passes over each event: find_end() runs once over every byte as it arrives and keeps its place in four
 * states, so no byte is searched twice however the stream is cut; parse() then reads the fields of a whole
 * event.
 *
 *     in:    [ begun earlier            ]      kept, at most max_event
 *     chunk:                             [ this event (scanned) | not looked at yet ]
 *
 * While `in` is empty an event is handed out of the chunk where it lies. An oversized one empties `in` first
 * and then goes through piece by piece.
 *
 *              other byte                  \n
 *     START ───────────────► INSIDE ──────────────► START
 *       │ \n: end              │ \r
 *       │                      ▼     \n or any other
 *       │ \r                  CR ─────────────────► START   (a \n is swallowed, another byte is read again)
 *       ▼
 *     BLANK_CR ── \n, any other byte, or sse_finish(): end (a \n belongs to this event, another byte to the next) */
#include "gatewayd/http/sse.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define IDLE_BYTES 512u /* each of the two buffers, if larger than this, is given back when it is empty */

enum line_state { LINE_START, LINE_INSIDE, LINE_CR, LINE_BLANK_CR };

void sse_init(struct sse *s, size_t max_event_bytes, size_t hard_max_bytes)
{
    *s = (struct sse){.max_event = max_event_bytes, .hard_max = hard_max_bytes};
    buf_init(&s->in, max_event_bytes);
    buf_init(&s->joined, max_event_bytes);
}

void sse_release(struct sse *s)
{
    buf_release(&s->in);
    buf_release(&s->joined);
    s->chunk = (struct span){NULL, 0};
}

enum err_code sse_feed(struct sse *s, struct span bytes)
{
    if (s->chunk.len)
        return ERR_INTERNAL;
    if (s->broken)
        return ERR_OK; /* sse_next() says why */
    s->chunk = bytes;
    s->scanned = 0;
    return ERR_OK;
}

void sse_finish(struct sse *s)
{
    s->is_finished = true;
}

struct span sse_rest(const struct sse *s)
{
    return s->was_given ? (struct span){NULL, 0} : buf_span(&s->in);
}

/* Offset of the first \n or \r from `i` on, or `len`. */
static size_t find_eol(const char *p, size_t i, size_t len)
{
#ifdef __SSE2__
    const __m128i lf = _mm_set1_epi8('\n'), cr = _mm_set1_epi8('\r');

    while (len - i >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
        int mask = _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(v, lf), _mm_cmpeq_epi8(v, cr)));

        if (mask)
            return i + (size_t)__builtin_ctz((unsigned)mask);
        i += 16;
    }
#endif
    while (i < len && p[i] != '\n' && p[i] != '\r')
        i++;
    return i;
}

/* Takes one step from byte `i` < `len`; true when the event ended there. */
static bool step(struct sse *s, const char *p, size_t *i, size_t len)
{
    switch ((enum line_state)s->line) {
    case LINE_BLANK_CR:
        *i += p[*i] == '\n';
        s->line = LINE_START;
        return true;
    case LINE_CR:
        *i += p[*i] == '\n';
        s->line = LINE_START;
        return false;
    case LINE_START:
        if (p[*i] == '\n' || p[*i] == '\r') {
            s->line = p[*i] == '\n' ? LINE_START : LINE_BLANK_CR;
            return p[(*i)++] == '\n';
        }
        s->line = LINE_INSIDE;
        return false;
    case LINE_INSIDE:
        *i = find_eol(p, *i, len);
        if (*i < len)
            s->line = p[(*i)++] == '\n' ? LINE_START : LINE_CR;
        return false;
    }
    return false;
}

/* Searches the chunk from `scanned` on. */
static void find_end(struct sse *s)
{
    size_t i = s->scanned;

    while (!s->has_found && i < s->chunk.len)
        s->has_found = step(s, s->chunk.p, &i, s->chunk.len);
    if (!s->has_found && s->is_finished && s->line == LINE_BLANK_CR) {
        s->line = LINE_START;
        s->has_found = true;
    }
    s->scanned = i;
}

/* What the last event borrowed is over. */
static void forget_last(struct sse *s)
{
    if (s->was_given)
        buf_clear(&s->in);
    s->was_given = false;
    if (!s->in.len && s->in.cap > IDLE_BYTES)
        buf_release(&s->in);
    if (s->joined.cap > IDLE_BYTES)
        buf_release(&s->joined);
    buf_clear(&s->joined);
}

static struct span take_chunk(struct sse *s, size_t n)
{
    struct span head = {s->chunk.p, n};

    s->chunk.len -= n;
    s->chunk.p = s->chunk.len ? s->chunk.p + n : NULL;
    s->scanned -= n;
    return head;
}

/* Moves the scanned bytes behind those of earlier chunks. */
static bool keep(struct sse *s)
{
    struct span head = take_chunk(s, s->scanned);

    if (head.len && buf_append(&s->in, head.p, head.len) != ERR_OK) {
        s->broken = SSE_OUT_OF_MEMORY;
        s->chunk = (struct span){NULL, 0};
        return false;
    }
    return true;
}

/* ---- fields ---- */

static bool add_data(struct sse *s, struct sse_event *ev, struct span value)
{
    if (!ev->has_data) {
        ev->has_data = true;
        ev->data = value;
        return true;
    }
    if (!s->joined.len) {
        /* The second line: room for all that can follow, so the buffer never moves again. */
        if (buf_reserve(&s->joined, ev->raw.len) || buf_append(&s->joined, ev->data.p, ev->data.len))
            return false;
    }
    if (buf_append(&s->joined, "\n", 1) || buf_append(&s->joined, value.p, value.len))
        return false;
    ev->data = buf_span(&s->joined);
    return true;
}

static bool parse_line(struct sse *s, struct sse_event *ev, struct span line)
{
    struct span value = line, name = span_split(&value, ':');

    if (!value.p) /* no colon: the whole line is the name */
        value = (struct span){line.p + line.len, 0};
    if (value.len && value.p[0] == ' ')
        value = (struct span){value.p + 1, value.len - 1};
    if (span_eq(name, SPAN_LIT("data")))
        return add_data(s, ev, value);
    if (span_eq(name, SPAN_LIT("event"))) {
        ev->type = value;
    } else if (span_eq(name, SPAN_LIT("error"))) {
        ev->error = value;
        ev->is_error_field = true;
    }
    return true; /* comments (an empty name), id, retry and unknown fields mean nothing here */
}

static bool parse(struct sse *s, struct sse_event *ev)
{
    static const char BOM[] = "\xef\xbb\xbf";
    const char *p = ev->raw.p;
    size_t i = 0, len = ev->raw.len;

    if (!s->is_started && len >= 3 && memcmp(p, BOM, 3) == 0)
        i = 3;
    while (i < len) {
        size_t end = find_eol(p, i, len);

        if (end > i && !parse_line(s, ev, span_make(p + i, end - i)))
            return false;
        i = end + 1; /* the \n of a \r\n reads as one more empty line, which is harmless */
    }
    return true;
}

/* ---- handing out ---- */

static enum sse_result give_whole(struct sse *s, struct sse_event *out)
{
    if (s->in.len) {
        if (!keep(s))
            return SSE_OUT_OF_MEMORY;
        out->raw = buf_span(&s->in);
        s->was_given = true;
    } else {
        out->raw = take_chunk(s, s->scanned);
    }
    out->is_end = true;
    s->has_found = false;
    if (!parse(s, out)) {
        s->broken = SSE_OUT_OF_MEMORY;
        return SSE_OUT_OF_MEMORY;
    }
    s->is_started = true;
    return SSE_EVENT;
}

/* The next piece of an oversized event. The \r of what may be its blank line is kept back: only the next byte
 * tells whether the event ends with it. */
static enum sse_result give_piece(struct sse *s, struct sse_event *out)
{
    size_t kept_back = !s->has_found && s->line == LINE_BLANK_CR ? 1 : 0;
    size_t room = s->hard_max - s->oversize;

    if (s->in.len + s->scanned == kept_back)
        return keep(s) ? SSE_MORE : SSE_OUT_OF_MEMORY;
    if (s->in.len) {
        out->raw = buf_span(&s->in);
        s->was_given = true;
    } else {
        out->raw = take_chunk(s, s->scanned - kept_back);
    }
    out->is_partial = true;
    out->is_end = s->has_found && !s->scanned;
    if (out->raw.len > room) {
        s->broken = SSE_TOO_LARGE;
        s->chunk = (struct span){NULL, 0};
        out->raw.len = room;
        out->is_end = false;
        return room ? SSE_EVENT : SSE_TOO_LARGE;
    }
    s->oversize += out->raw.len;
    if (out->is_end) {
        s->oversize = 0;
        s->has_found = false;
        s->is_started = true;
    }
    return SSE_EVENT;
}

enum sse_result sse_next(struct sse *s, struct sse_event *out)
{
    *out = (struct sse_event){0};
    if (s->broken)
        return (enum sse_result)s->broken;
    forget_last(s);
    if (s->scanned < s->chunk.len || s->is_finished)
        find_end(s);
    if (s->oversize || s->in.len + s->scanned > s->max_event)
        return give_piece(s, out);
    if (s->has_found)
        return give_whole(s, out);
    return keep(s) ? SSE_MORE : SSE_OUT_OF_MEMORY;
}
