/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding runs on worker threads and writes straight into the segment, so it neither allocates nor checks
 * bounds per field: the longest record is bounded by construction (every text is capped). Decoding runs on
 * the recorder thread and trusts nothing: it reads through `struct in`, which turns `bad` on the first length
 * that does not fit. */
#include "gatewayd/journal/record_priv.h"

#include <assert.h>

/* On disk as numbers. A new member goes to the end; these pin the old ones. */
_Static_assert(STATUS_SUCCESS == 0 && STATUS_ERROR == 1 && STATUS_CANCELLED == 2 && STATUS_REJECTED == 3,
               "on disk");
_Static_assert(STREAM_NONE == 0 && STREAM_COMPLETE == 1 && STREAM_CLIENT_ABORT == 2 &&
                   STREAM_UPSTREAM_CUT == 3 && STREAM_IDLE_TIMEOUT == 4 && STREAM_BUDGET_CUT == 5 &&
                   STREAM_ERROR == 6,
               "on disk");
_Static_assert(USAGE_NONE == 0 && USAGE_REPORTED == 1 && USAGE_ESTIMATED == 2, "on disk");

#define TEXT_MAX 128u /* labels are capped to it already; error names and details are shorter */
/* 12 texts, 40 bytes of ids, 20 varints of at most 10 bytes, a few single bytes. */
_Static_assert(12 * (TEXT_MAX + 1) + 40 + 20 * 10 + 16 <= RECORD_PAYLOAD_MAX, "no record is longer");

enum record_flag { FLAG_STREAM = 1, FLAG_PRICED = 2 };

/* ---- encoding ---- */

static unsigned char *put_u(unsigned char *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (unsigned char)(v | 0x80);
        v >>= 7;
    }
    *p++ = (unsigned char)v;
    return p;
}

static unsigned char *put_i(unsigned char *p, int64_t v)
{
    return put_u(p, ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0));
}

static unsigned char *put_bytes(unsigned char *p, const void *from, size_t n)
{
    memcpy(p, from, n);
    return p + n;
}

static unsigned char *put_text(unsigned char *p, struct span s)
{
    size_t n = s.len < TEXT_MAX ? s.len : TEXT_MAX;

    *p++ = (unsigned char)n;
    return put_bytes(p, s.p, n);
}

static unsigned char *put_label(unsigned char *p, label l)
{
    if (!l) {
        *p++ = 0;
        return p;
    }
    return put_text(p, span_of(label_text(l)));
}

static unsigned char *put_error(unsigned char *p, enum err_code e)
{
    return put_text(p, e ? span_of(err_row(e)->name) : SPAN_LIT(""));
}

static unsigned char *put_usage(unsigned char *p, const struct usage *u)
{
    *p++ = (unsigned char)u->source;
    p = put_u(p, u->input);
    p = put_u(p, u->cached);
    p = put_u(p, u->cache_write);
    p = put_u(p, u->output);
    p = put_u(p, u->reasoning);
    p = put_u(p, u->images);
    return put_u(p, u->searches);
}

static unsigned char flags_of(bool is_stream, bool is_priced)
{
    return (unsigned char)((is_stream ? FLAG_STREAM : 0) | (is_priced ? FLAG_PRICED : 0));
}

size_t record_encode_attempt(unsigned char *dst, const struct id *request, label tenant, label key,
                             const struct fact_attempt *a)
{
    unsigned char *p = put_bytes(dst, request->b, sizeof(request->b));

    p = put_label(p, tenant);
    p = put_label(p, key);
    p = put_label(p, a->provider);
    p = put_label(p, a->model);
    p = put_label(p, a->from_provider);
    p = put_error(p, a->error);
    p = put_error(p, a->retry_reason);
    *p++ = (unsigned char)a->status;
    *p++ = (unsigned char)a->end;
    *p++ = a->number;
    *p++ = flags_of(a->is_stream, a->is_priced);
    p = put_u(p, a->http_status);
    p = put_i(p, a->started_us);
    p = put_i(p, a->duration_us);
    p = put_i(p, a->ttft_us);
    p = put_usage(p, &a->usage);
    p = put_i(p, a->cost_nanousd);
    assert((size_t)(p - dst) <= RECORD_PAYLOAD_MAX);
    return (size_t)(p - dst);
}

size_t record_encode_settle(unsigned char *dst, const struct fact_request *rq)
{
    unsigned char *p = put_bytes(dst, rq->id.b, sizeof(rq->id.b));

    p = put_bytes(p, rq->trace.b, sizeof(rq->trace.b));
    p = put_i(p, rq->arrived.us);
    p = put_label(p, rq->tenant);
    p = put_label(p, rq->key);
    p = put_label(p, rq->user);
    p = put_label(p, rq->provider);
    p = put_label(p, rq->model);
    p = put_label(p, rq->requested);
    p = put_label(p, rq->method);
    p = put_label(p, rq->endpoint);
    p = put_text(p, rq->op < OP_COUNT ? span_of(operation_row(rq->op)->label) : SPAN_LIT(""));
    p = put_error(p, rq->error);
    p = put_text(p, span_make(rq->detail, strnlen(rq->detail, sizeof(rq->detail))));
    *p++ = (unsigned char)rq->status;
    *p++ = (unsigned char)rq->end;
    *p++ = rq->attempts;
    *p++ = flags_of(rq->is_stream, rq->is_priced);
    p = put_u(p, rq->http_status);
    p = put_i(p, rq->duration_us);
    p = put_i(p, rq->ttft_us);
    p = put_i(p, rq->queue_us);
    p = put_i(p, rq->overhead_us);
    p = put_u(p, rq->bytes_in);
    p = put_u(p, rq->bytes_out);
    p = put_usage(p, &rq->usage);
    p = put_i(p, rq->cost_nanousd);
    assert((size_t)(p - dst) <= RECORD_PAYLOAD_MAX);
    return (size_t)(p - dst);
}

/* ---- decoding ---- */

struct in {
    const unsigned char *p, *end;
    bool bad;
};

static unsigned get_byte(struct in *in)
{
    if (in->p == in->end) {
        in->bad = true;
        return 0;
    }
    return *in->p++;
}

static unsigned get_below(struct in *in, unsigned limit)
{
    unsigned v = get_byte(in);

    if (v >= limit) {
        in->bad = true;
        return 0;
    }
    return v;
}

static uint64_t get_u(struct in *in)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        unsigned b = get_byte(in);

        if (shift == 63 && b > 1)
            break;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return v;
    }
    in->bad = true;
    return 0;
}

static int64_t get_i(struct in *in)
{
    uint64_t z = get_u(in);

    return (int64_t)((z >> 1) ^ (z & 1 ? UINT64_MAX : 0));
}

static void get_bytes(struct in *in, void *dst, size_t n)
{
    if ((size_t)(in->end - in->p) < n) {
        in->bad = true;
        in->p = in->end;
        return;
    }
    memcpy(dst, in->p, n);
    in->p += n;
}

static struct span get_text(struct in *in)
{
    size_t n = get_byte(in);
    struct span s = {(const char *)in->p, n};

    if (n > TEXT_MAX || (size_t)(in->end - in->p) < n) {
        in->bad = true;
        return SPAN_LIT("");
    }
    in->p += n;
    return s;
}

static label get_label(struct in *in)
{
    struct span s = get_text(in);

    return s.len && !in->bad ? intern(s) : 0;
}

/* A name that this release does not know any more still says that there was an error. */
static enum err_code get_error(struct in *in)
{
    struct span s = get_text(in);

    if (!s.len)
        return ERR_OK;
    for (unsigned e = 1; e < ERR_COUNT; e++)
        if (span_is(s, err_row((enum err_code)e)->name))
            return (enum err_code)e;
    return ERR_INTERNAL;
}

static enum operation get_operation(struct in *in)
{
    struct span s = get_text(in);

    for (unsigned op = 0; op < OP_COUNT; op++)
        if (span_is(s, operation_row((enum operation)op)->label))
            return (enum operation)op;
    return OP_COUNT;
}

static uint16_t get_status(struct in *in)
{
    uint64_t v = get_u(in);

    if (v > UINT16_MAX)
        in->bad = true;
    return (uint16_t)v;
}

static struct usage get_usage(struct in *in)
{
    struct usage u = {.source = (enum usage_source)get_below(in, USAGE_ESTIMATED + 1)};

    u.input = get_u(in);
    u.cached = get_u(in);
    u.cache_write = get_u(in);
    u.output = get_u(in);
    u.reasoning = get_u(in);
    u.images = get_u(in);
    u.searches = get_u(in);
    return u;
}

static void decode_attempt(struct in *in, struct journal_record *out)
{
    struct fact_attempt *a = &out->attempt.a;
    unsigned flags;

    get_bytes(in, out->request.b, sizeof(out->request.b));
    out->attempt.tenant = get_label(in);
    out->attempt.key = get_label(in);
    a->provider = get_label(in);
    a->model = get_label(in);
    a->from_provider = get_label(in);
    a->error = get_error(in);
    a->retry_reason = get_error(in);
    a->status = (enum fact_status)get_below(in, STATUS_COUNT);
    a->end = (enum stream_end)get_below(in, STREAM_END_COUNT);
    a->number = (uint8_t)get_byte(in);
    flags = get_byte(in);
    a->is_stream = flags & FLAG_STREAM;
    a->is_priced = flags & FLAG_PRICED;
    a->http_status = get_status(in);
    a->started_us = get_i(in);
    a->duration_us = get_i(in);
    a->ttft_us = get_i(in);
    a->usage = get_usage(in);
    a->cost_nanousd = get_i(in);
}

static void decode_settle(struct in *in, struct journal_record *out)
{
    struct fact_request *rq = &out->rq;
    struct span detail;
    unsigned flags;

    get_bytes(in, rq->id.b, sizeof(rq->id.b));
    out->request = rq->id;
    get_bytes(in, rq->trace.b, sizeof(rq->trace.b));
    rq->arrived.us = get_i(in);
    rq->tenant = get_label(in);
    rq->key = get_label(in);
    rq->user = get_label(in);
    rq->provider = get_label(in);
    rq->model = get_label(in);
    rq->requested = get_label(in);
    rq->method = get_label(in);
    rq->endpoint = get_label(in);
    rq->op = get_operation(in);
    rq->error = get_error(in);
    detail = get_text(in);
    (void)span_copy(rq->detail, sizeof(rq->detail), detail);
    rq->status = (enum fact_status)get_below(in, STATUS_COUNT);
    rq->end = (enum stream_end)get_below(in, STREAM_END_COUNT);
    rq->attempts = (uint8_t)get_byte(in);
    flags = get_byte(in);
    rq->is_stream = flags & FLAG_STREAM;
    rq->is_priced = flags & FLAG_PRICED;
    rq->http_status = get_status(in);
    rq->duration_us = get_i(in);
    rq->ttft_us = get_i(in);
    rq->queue_us = get_i(in);
    rq->overhead_us = get_i(in);
    rq->bytes_in = get_u(in);
    rq->bytes_out = get_u(in);
    rq->usage = get_usage(in);
    rq->cost_nanousd = get_i(in);
}

enum err_code record_decode(unsigned type, unsigned version, struct span payload, struct journal_record *out)
{
    struct in in = {.p = (const unsigned char *)payload.p,
                    .end = (const unsigned char *)payload.p + payload.len};

    if (version != RECORD_VERSION || (type != JOURNAL_ATTEMPT && type != JOURNAL_SETTLE))
        return ERR_UNSUPPORTED;
    memset(out, 0, sizeof(*out));
    out->type = (enum journal_type)type;
    if (type == JOURNAL_ATTEMPT)
        decode_attempt(&in, out);
    else
        decode_settle(&in, out);
    return in.bad || in.p != in.end ? ERR_BAD_BODY : ERR_OK;
}
