/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding runs on worker threads and writes straight into the segment, so it neither allocates nor checks
 * bounds per field: the longest record is bounded by construction (every text is capped). Decoding runs on
 * the threads of consumers and trusts nothing: it reads through `struct in`, which turns `bad` on the first length
 * that does not fit.
 *
 * A SETTLE repeats its attempts. What is the same in an attempt as in its request (nearly always provider, model and,
 * with one attempt, usage) takes one byte there: SAME instead of a length or a source. */
#include "libshared/journal/record.h"

#include <assert.h>

/* On disk as numbers. A new member goes to the end; these pin the old ones. */
_Static_assert(STATUS_SUCCESS == 0 && STATUS_ERROR == 1 && STATUS_CANCELLED == 2 && STATUS_REJECTED == 3,
               "on disk");
_Static_assert(STREAM_NONE == 0 && STREAM_COMPLETE == 1 && STREAM_CLIENT_ABORT == 2 &&
                   STREAM_UPSTREAM_CUT == 3 && STREAM_IDLE_TIMEOUT == 4 && STREAM_BUDGET_CUT == 5 &&
                   STREAM_ERROR == 6,
               "on disk");
_Static_assert(USAGE_NONE == 0 && USAGE_REPORTED == 1 && USAGE_ESTIMATED == 2, "on disk");

_Static_assert(PERIOD_TOTAL == 0 && PERIOD_HOUR == 1 && PERIOD_DAY == 2 && PERIOD_WEEK == 3 &&
                   PERIOD_MONTH == 4,
               "on disk");

#define TEXT_MAX 128u /* labels are capped to it already; error names and details are shorter */
#define SAME     0xffu

/* The longest of each part. */
#define MAX_TEXT        (TEXT_MAX + 1)
#define MAX_NUMBER      10u
#define MAX_USAGE       (1 + 7 * MAX_NUMBER)
#define MAX_CYCLE       (2 + ZONE_NAME_MAX)
#define MAX_RESERVATION (2 * MAX_NUMBER + 3 * MAX_CYCLE)
#define MAX_CONTEXT     (16 + MAX_NUMBER + 3 * MAX_TEXT)
#define MAX_ATTEMPT     (5 * MAX_TEXT + 4 + 5 * MAX_NUMBER + MAX_USAGE + MAX_CYCLE)
_Static_assert(MAX_CONTEXT + MAX_RESERVATION + 3 * MAX_TEXT + 3 + 3 * MAX_NUMBER + 2 * MAX_USAGE +
                       MAX_CYCLE <=
                   RECORD_OPEN_MAX,
               "no statement is longer");
_Static_assert(MAX_CONTEXT + MAX_ATTEMPT <= RECORD_ATTEMPT_MAX, "no attempt is longer");
_Static_assert(32 + 11 * MAX_TEXT + MAX_TEXT + 4 + 9 * MAX_NUMBER + MAX_USAGE + MAX_RESERVATION <=
                       RECORD_SETTLE_MAX(0) &&
                   MAX_ATTEMPT <= RECORD_SETTLE_MAX(1) - RECORD_SETTLE_MAX(0),
               "no settlement is longer");
_Static_assert(16 + 2 * MAX_NUMBER + 6 * MAX_TEXT + 1 + MAX_CYCLE <= RECORD_ADJUST_MAX,
               "no correction is longer");

enum record_flag { FLAG_STREAM = 1, FLAG_PRICED = 2, FLAG_RECOVERY = 4 };

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

static unsigned char *put_operation(unsigned char *p, enum operation op)
{
    return put_text(p, op < OP_COUNT ? span_of(operation_row(op)->label) : SPAN_LIT(""));
}

static unsigned char *put_context(unsigned char *p, const struct fact_context *c)
{
    p = put_bytes(p, c->request.b, sizeof(c->request.b));
    p = put_i(p, c->arrived.us);
    p = put_label(p, c->tenant);
    p = put_label(p, c->key);
    return put_operation(p, c->op);
}

static unsigned char *put_cycle(unsigned char *p, enum period period, const struct zone *z)
{
    *p++ = (unsigned char)period;
    return put_text(p, z ? span_of(zone_name(z)) : SPAN_LIT(""));
}

/* Where nothing is held there is no window either. */
static unsigned char *put_reservation(unsigned char *p, const struct fact_reservation *r)
{
    p = put_i(p, r->amount_nanousd);
    if (!r->amount_nanousd)
        return p;
    p = put_i(p, r->at.us);
    p = put_cycle(p, r->key_period, r->key_zone);
    p = put_cycle(p, r->tenant_period, r->tenant_zone);
    return put_cycle(p, r->global_period, r->global_zone);
}

static bool is_same_usage(const struct usage *a, const struct usage *b)
{
    return a->source == b->source && a->input == b->input && a->cached == b->cached &&
           a->cache_write == b->cache_write && a->output == b->output && a->reasoning == b->reasoning &&
           a->images == b->images && a->searches == b->searches;
}

/* `rq` is the request that the attempt is told with, or NULL when it stands alone. */
static unsigned char *put_attempt(unsigned char *p, const struct fact_attempt *a,
                                  const struct fact_request *rq)
{
    if (rq && rq->provider && a->provider == rq->provider)
        *p++ = SAME;
    else
        p = put_label(p, a->provider);
    if (rq && rq->model && a->model == rq->model)
        *p++ = SAME;
    else
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
    if (rq && is_same_usage(&a->usage, &rq->usage))
        *p++ = SAME;
    else
        p = put_usage(p, &a->usage);
    p = put_i(p, a->cost_nanousd);
    return put_cycle(p, a->cycle.period, a->cycle.zone);
}

size_t record_encode_open(unsigned char *dst, const struct fact_open *o)
{
    unsigned char *p = put_context(dst, &o->context);

    p = put_reservation(p, &o->reservation);
    p = put_label(p, o->requested);
    p = put_label(p, o->provider);
    p = put_label(p, o->model);
    *p++ = flags_of(o->is_stream, o->is_priced);
    *p++ = o->number;
    p = put_i(p, o->started_us);
    p = put_usage(p, &o->usage);
    p = put_i(p, o->cost_nanousd);
    p = put_cycle(p, o->cycle.period, o->cycle.zone);
    *p++ = o->ended;
    if (o->ended) {
        p = put_usage(p, &o->ended_usage);
        p = put_i(p, o->ended_cost_nanousd);
    }
    assert((size_t)(p - dst) <= RECORD_OPEN_MAX);
    return (size_t)(p - dst);
}

size_t record_encode_attempt(unsigned char *dst, const struct fact_context *c, const struct fact_attempt *a)
{
    unsigned char *p = put_attempt(put_context(dst, c), a, NULL);

    assert((size_t)(p - dst) <= RECORD_ATTEMPT_MAX);
    return (size_t)(p - dst);
}

size_t record_encode_settle(unsigned char *dst, const struct fact_request *rq, const struct fact_attempt *a)
{
    unsigned char *p = put_bytes(dst, rq->id.b, sizeof(rq->id.b));

    p = put_bytes(p, rq->trace.b, sizeof(rq->trace.b));
    p = put_i(p, rq->arrived.us);
    p = put_label(p, rq->tenant);
    p = put_label(p, rq->key);
    p = put_text(p, span_make(rq->user, strnlen(rq->user, sizeof(rq->user))));
    p = put_label(p, rq->provider);
    p = put_label(p, rq->model);
    p = put_label(p, rq->requested);
    p = put_label(p, rq->method);
    p = put_label(p, rq->endpoint);
    p = put_operation(p, rq->op);
    p = put_error(p, rq->error);
    p = put_text(p, span_make(rq->detail, strnlen(rq->detail, sizeof(rq->detail))));
    *p++ = (unsigned char)rq->status;
    *p++ = (unsigned char)rq->end;
    *p++ = rq->attempts;
    *p++ = (unsigned char)(flags_of(rq->is_stream, rq->is_priced) | (rq->is_recovery ? FLAG_RECOVERY : 0));
    p = put_u(p, rq->http_status);
    p = put_i(p, rq->duration_us);
    p = put_i(p, rq->ttft_us);
    p = put_i(p, rq->queue_us);
    p = put_i(p, rq->overhead_us);
    p = put_u(p, rq->bytes_in);
    p = put_u(p, rq->bytes_out);
    p = put_usage(p, &rq->usage);
    p = put_i(p, rq->cost_nanousd);
    p = put_reservation(p, &rq->reservation);
    for (unsigned i = 0; i < record_attempts(rq); i++)
        p = put_attempt(p, &a[i], rq);
    assert((size_t)(p - dst) <= RECORD_SETTLE_MAX(record_attempts(rq)));
    return (size_t)(p - dst);
}

size_t record_encode_adjust(unsigned char *dst, const struct fact_adjust *a)
{
    unsigned char *p = put_bytes(dst, a->id.b, sizeof(a->id.b));

    p = put_i(p, a->at.us);
    p = put_label(p, a->tenant);
    p = put_label(p, a->key);
    p = put_label(p, a->provider);
    p = put_label(p, a->model);
    p = put_i(p, a->amount_nanousd);
    p = put_text(p, span_make(a->who, strnlen(a->who, sizeof(a->who))));
    p = put_text(p, span_make(a->why, strnlen(a->why, sizeof(a->why))));
    *p++ = a->is_reset;
    p = put_cycle(p, a->cycle.period, a->cycle.zone);
    assert((size_t)(p - dst) <= RECORD_ADJUST_MAX);
    return (size_t)(p - dst);
}

/* ---- decoding ---- */

struct in {
    const unsigned char *p, *end;
    bool bad;
    unsigned version;
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

/* Into a text of fixed size; what does not fit is not ours. */
static void get_copy(struct in *in, char *dst, size_t cap)
{
    struct span s = get_text(in);

    if (s.len >= cap || (s.len && memchr(s.p, 0, s.len)))
        in->bad = true;
    (void)span_copy(dst, cap, s);
}

static bool take_same(struct in *in)
{
    if (in->p == in->end || *in->p != SAME)
        return false;
    in->p++;
    return true;
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

static void get_context(struct in *in, struct fact_context *c)
{
    get_bytes(in, c->request.b, sizeof(c->request.b));
    c->arrived.us = get_i(in);
    c->tenant = get_label(in);
    c->key = get_label(in);
    c->op = get_operation(in);
}

/* Without time zones all was UTC, and providers had no budgets. A zone that is not there any more counts as UTC, too. */
static struct cycle get_cycle(struct in *in)
{
    struct cycle c = {.period = (enum period)get_below(in, PERIOD_COUNT)};
    struct span zone = in->version > 2 ? get_text(in) : SPAN_LIT("");

    if (zone.len && !in->bad)
        (void)!zone_find_mt(zone, &c.zone, NULL);
    return c;
}

static void get_reservation(struct in *in, struct fact_reservation *r)
{
    struct cycle c;

    r->amount_nanousd = get_i(in);
    if (!r->amount_nanousd)
        return;
    r->at.us = get_i(in);
    c = get_cycle(in);
    r->key_period = c.period;
    r->key_zone = c.zone;
    c = get_cycle(in);
    r->tenant_period = c.period;
    r->tenant_zone = c.zone;
    c = get_cycle(in);
    r->global_period = c.period;
    r->global_zone = c.zone;
}

static void get_attempt(struct in *in, struct fact_attempt *a, const struct fact_request *rq)
{
    unsigned flags;

    a->provider = rq && take_same(in) ? rq->provider : get_label(in);
    a->model = rq && take_same(in) ? rq->model : get_label(in);
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
    a->usage = rq && take_same(in) ? rq->usage : get_usage(in);
    a->cost_nanousd = get_i(in);
    a->cycle = in->version > 2 ? get_cycle(in) : (struct cycle){PERIOD_MONTH, NULL};
}

static void decode_open(struct in *in, struct fact_open *o)
{
    unsigned flags;

    get_context(in, &o->context);
    get_reservation(in, &o->reservation);
    o->requested = get_label(in);
    o->provider = get_label(in);
    o->model = get_label(in);
    flags = get_byte(in);
    o->is_stream = flags & FLAG_STREAM;
    o->is_priced = flags & FLAG_PRICED;
    o->number = (uint8_t)get_byte(in);
    o->started_us = get_i(in);
    o->usage = get_usage(in);
    o->cost_nanousd = get_i(in);
    o->cycle = in->version > 2 ? get_cycle(in) : (struct cycle){PERIOD_MONTH, NULL};
    o->ended = (uint8_t)get_byte(in);
    if (o->ended) {
        o->ended_usage = get_usage(in);
        o->ended_cost_nanousd = get_i(in);
    }
}

static void decode_settle(struct in *in, struct fact_request *rq, struct fact_attempt *a)
{
    unsigned flags;

    get_bytes(in, rq->id.b, sizeof(rq->id.b));
    get_bytes(in, rq->trace.b, sizeof(rq->trace.b));
    rq->arrived.us = get_i(in);
    rq->tenant = get_label(in);
    rq->key = get_label(in);
    (void)span_copy(rq->user, sizeof(rq->user), get_text(in));
    rq->provider = get_label(in);
    rq->model = get_label(in);
    rq->requested = get_label(in);
    rq->method = get_label(in);
    rq->endpoint = get_label(in);
    rq->op = get_operation(in);
    rq->error = get_error(in);
    get_copy(in, rq->detail, sizeof(rq->detail));
    rq->status = (enum fact_status)get_below(in, STATUS_COUNT);
    rq->end = (enum stream_end)get_below(in, STREAM_END_COUNT);
    rq->attempts = (uint8_t)get_byte(in);
    flags = get_byte(in);
    rq->is_stream = flags & FLAG_STREAM;
    rq->is_priced = flags & FLAG_PRICED;
    rq->is_recovery = flags & FLAG_RECOVERY;
    rq->http_status = get_status(in);
    rq->duration_us = get_i(in);
    rq->ttft_us = get_i(in);
    rq->queue_us = get_i(in);
    rq->overhead_us = get_i(in);
    rq->bytes_in = get_u(in);
    rq->bytes_out = get_u(in);
    rq->usage = get_usage(in);
    rq->cost_nanousd = get_i(in);
    get_reservation(in, &rq->reservation);
    for (unsigned i = 0; i < record_attempts(rq) && !in->bad; i++)
        get_attempt(in, &a[i], rq);
}

static void decode_adjust(struct in *in, struct fact_adjust *a)
{
    get_bytes(in, a->id.b, sizeof(a->id.b));
    a->at.us = get_i(in);
    a->tenant = get_label(in);
    a->key = get_label(in);
    a->provider = get_label(in);
    a->model = get_label(in);
    a->amount_nanousd = get_i(in);
    get_copy(in, a->who, sizeof(a->who));
    get_copy(in, a->why, sizeof(a->why));
    if (in->version < 3)
        return;
    a->is_reset = get_below(in, 2);
    a->cycle = get_cycle(in);
}

enum err_code record_decode(unsigned type, unsigned version, struct span payload, struct journal_record *out)
{
    struct in in = {.p = (const unsigned char *)payload.p,
                    .end = (const unsigned char *)payload.p + payload.len,
                    .version = version};

    if (version < 2 || version > RECORD_VERSION || !record_type_name(type))
        return ERR_UNSUPPORTED;
    memset(out, 0, sizeof(*out));
    out->type = (enum journal_type)type;
    switch (out->type) {
    case JOURNAL_RESERVE:
    case JOURNAL_PROGRESS:
        decode_open(&in, &out->open);
        break;
    case JOURNAL_ATTEMPT:
        get_context(&in, &out->attempt.context);
        get_attempt(&in, &out->attempt.a, NULL);
        break;
    case JOURNAL_SETTLE:
        decode_settle(&in, &out->settle.rq, out->settle.a);
        break;
    case JOURNAL_ADJUST:
        decode_adjust(&in, &out->adjust);
        break;
    }
    return in.bad || in.p != in.end ? ERR_BAD_BODY : ERR_OK;
}

/* ---- about a record ---- */

const char *record_type_name(unsigned type)
{
    static const char *const NAMES[JOURNAL_TYPES] = {
        [JOURNAL_RESERVE] = "reserve", [JOURNAL_ATTEMPT] = "attempt", [JOURNAL_PROGRESS] = "progress",
        [JOURNAL_SETTLE] = "settle",   [JOURNAL_ADJUST] = "adjust",
    };

    return type < JOURNAL_TYPES ? NAMES[type] : NULL;
}

const struct id *record_id(const struct journal_record *r)
{
    switch (r->type) {
    case JOURNAL_ATTEMPT:
        return &r->attempt.context.request;
    case JOURNAL_SETTLE:
        return &r->settle.rq.id;
    case JOURNAL_ADJUST:
        return &r->adjust.id;
    default:
        return &r->open.context.request;
    }
}

/* Times come from files: a sum that does not fit is no time. */
static struct wall later(struct wall t, int64_t us)
{
    int64_t sum;

    return us < 0 || __builtin_add_overflow(t.us, us, &sum) ? t : (struct wall){sum};
}

struct wall record_time(const struct journal_record *r)
{
    switch (r->type) {
    case JOURNAL_ATTEMPT:
        return later(later(r->attempt.context.arrived, r->attempt.a.started_us), r->attempt.a.duration_us);
    case JOURNAL_SETTLE:
        return later(r->settle.rq.arrived, r->settle.rq.duration_us);
    case JOURNAL_ADJUST:
        return r->adjust.at;
    default:
        return later(r->open.context.arrived, r->open.started_us);
    }
}
