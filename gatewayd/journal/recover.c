/* SPDX-License-Identifier: Apache-2.0 */
/* Ends what earlier runs left open. Main thread, before the workers and consumers of the journal start; nothing is
 * forgotten meanwhile, so that it can die anywhere and be done again: what was ended by then has its SETTLE.
 *
 * The rule, for a request that has no SETTLE:
 *   its newest statement names an attempt under way, no ATTEMPT of that number  ─►  ATTEMPT, as stated
 *   then SETTLE: the statement's sums of ended attempts, and all ATTEMPT records beyond them; it gives the reservation back */
#include <inttypes.h>
#include <stdlib.h>

#include "gatewayd/journal/journal_priv.h"
#include "libshared/base/crash.h"
#include "libshared/base/hash.h"

#define BUCKETS 4096u

struct unsettled {
    struct fact_context context;
    struct fact_open stated;
    bool is_stated;
    unsigned known;                       /* bit i: attempts[i] is on record */
    struct fact_attempt a[FACT_ATTEMPTS]; /* by number - 1 */
    struct unsettled *next, *older, *newer;
};

struct scan {
    struct journal *j;
    struct unsettled *bucket[BUCKETS];
    struct unsettled *oldest, *newest; /* in the order of their first records */
    struct wall died;                  /* the newest moment on record: about when the earlier run died */
};

/* ---- what is open ---- */

static struct unsettled **slot_of(struct scan *s, const struct id *request)
{
    struct unsettled **at = &s->bucket[hash_bytes(span_make(request->b, sizeof(request->b))) % BUCKETS];

    while (*at && memcmp((*at)->context.request.b, request->b, sizeof(request->b)) != 0)
        at = &(*at)->next;
    return at;
}

static struct unsettled *get(struct scan *s, const struct fact_context *c)
{
    struct unsettled **at = slot_of(s, &c->request), *u = *at;

    if (u)
        return u;
    u = calloc(1, sizeof(*u));
    if (!u)
        abort();
    u->context = *c;
    u->older = s->newest;
    *(s->newest ? &s->newest->newer : &s->oldest) = u;
    s->newest = u;
    *at = u;
    return u;
}

static void drop(struct scan *s, const struct id *request)
{
    struct unsettled **at = slot_of(s, request), *u = *at;

    if (!u)
        return;
    *at = u->next;
    *(u->older ? &u->older->newer : &s->oldest) = u->newer;
    *(u->newer ? &u->newer->older : &s->newest) = u->older;
    free(u);
}

static void state(struct unsettled *u, const struct fact_open *o)
{
    u->stated = *o;
    u->is_stated = true;
}

static void take_attempt(struct unsettled *u, const struct fact_attempt *a)
{
    if (!a->number || a->number > FACT_ATTEMPTS)
        return;
    u->a[a->number - 1] = *a;
    u->known |= 1u << (a->number - 1);
}

static void take(struct scan *s, const struct journal_record *r)
{
    if (record_time(r).us > s->died.us)
        s->died = record_time(r);
    switch (r->type) {
    case JOURNAL_RESERVE:
    case JOURNAL_PROGRESS:
        state(get(s, &r->open.context), &r->open);
        break;
    case JOURNAL_ATTEMPT:
        take_attempt(get(s, &r->attempt.context), &r->attempt.a);
        break;
    case JOURNAL_SETTLE:
        drop(s, &r->settle.rq.id);
        break;
    case JOURNAL_ADJUST:
        break;
    }
}

/* Damage is reported by the consumers, which read the same. */
static void read_all(struct scan *s)
{
    struct journal_cursor *c = journal_cursor_new(s->j, "recovery");
    struct journal_record r;
    struct err err;
    bool is_read;

    while ((is_read = journal_cursor_read(c, &r, &err)) || err.code)
        if (is_read)
            take(s, &r);
    journal_cursor_free(c);
    if (s->died.us > s->j->opened.us)
        s->died = s->j->opened;
}

/* ---- its end ---- */

static int64_t add(int64_t a, int64_t b)
{
    int64_t sum;

    return __builtin_add_overflow(a, b, &sum) ? a > 0 ? INT64_MAX : INT64_MIN : sum;
}

static uint64_t rest(uint64_t all, uint64_t known)
{
    return all > known ? all - known : 0;
}

static void subtract_usage(struct usage *from, const struct usage *u)
{
    from->input = rest(from->input, u->input);
    from->cached = rest(from->cached, u->cached);
    from->cache_write = rest(from->cache_write, u->cache_write);
    from->output = rest(from->output, u->output);
    from->reasoning = rest(from->reasoning, u->reasoning);
    from->images = rest(from->images, u->images);
    from->searches = rest(from->searches, u->searches);
}

/* From `started_us` after the arrival until the death. */
static int64_t lived_us(const struct scan *s, const struct unsettled *u, int64_t started_us)
{
    int64_t us;

    if (__builtin_sub_overflow(s->died.us, u->context.arrived.us, &us) ||
        __builtin_sub_overflow(us, started_us, &us))
        return 0;
    return us > 0 ? us : 0;
}

static bool was_under_way(const struct unsettled *u)
{
    const struct fact_open *o = &u->stated;

    return u->is_stated && o->number > o->ended && o->number <= FACT_ATTEMPTS &&
           !(u->known >> (o->number - 1) & 1);
}

static struct fact_attempt attempt_as_stated(const struct scan *s, const struct unsettled *u)
{
    const struct fact_open *o = &u->stated;
    const struct fact_attempt *before =
        o->number > 1 && u->known >> (o->number - 2) & 1 ? &u->a[o->number - 2] : NULL;
    struct fact_attempt a = {.provider = o->provider,
                             .model = o->model,
                             .status = STATUS_ERROR,
                             .error = ERR_CRASHED,
                             .number = o->number,
                             .is_stream = o->is_stream,
                             .end = o->is_stream ? STREAM_ERROR : STREAM_NONE,
                             .from_provider =
                                 before && before->provider != o->provider ? before->provider : 0,
                             .retry_reason = before ? before->error : ERR_OK,
                             .started_us = o->started_us,
                             .duration_us = lived_us(s, u, o->started_us),
                             .ttft_us = -1,
                             .usage = o->usage,
                             .cost_nanousd = o->cost_nanousd,
                             .is_priced = o->is_priced,
                             .cycle = o->cycle};

    if (a.usage.source != USAGE_NONE || a.cost_nanousd)
        a.usage.source = USAGE_ESTIMATED;
    return a;
}

/* The story: attempts whose records were forgotten appear by number only, the first of them with what is known of
 * their sum. */
static void fill_gaps(struct unsettled *u, unsigned n)
{
    struct usage usage = u->stated.ended_usage;
    int64_t cost = u->stated.ended_cost_nanousd;

    for (unsigned i = 0; i < u->stated.ended && i < FACT_ATTEMPTS; i++)
        if (u->known >> i & 1) {
            subtract_usage(&usage, &u->a[i].usage);
            cost = add(cost, u->a[i].cost_nanousd == INT64_MIN ? 0 : -u->a[i].cost_nanousd);
        }
    for (unsigned i = 0; i < n; i++) {
        if (u->known >> i & 1)
            continue;
        u->a[i] = (struct fact_attempt){.status = STATUS_ERROR,
                                        .error = ERR_CRASHED,
                                        .number = (uint8_t)(i + 1),
                                        .ttft_us = -1,
                                        .usage = i < u->stated.ended ? usage : (struct usage){0},
                                        .cost_nanousd = i < u->stated.ended ? cost : 0,
                                        .is_priced = true};
        usage = (struct usage){0};
        cost = 0;
    }
}

static unsigned attempts_of(const struct unsettled *u)
{
    unsigned n = u->stated.ended < FACT_ATTEMPTS ? u->stated.ended : FACT_ATTEMPTS;

    while (u->known >> n)
        n++;
    return n;
}

static struct fact_request end_of(const struct scan *s, struct unsettled *u)
{
    unsigned n = attempts_of(u);
    struct fact_request rq = {.id = u->context.request,
                              .arrived = u->context.arrived,
                              .tenant = u->context.tenant,
                              .key = u->context.key,
                              .requested = u->stated.requested,
                              .endpoint =
                                  u->context.op < OP_COUNT ? intern_z(operation_row(u->context.op)->path) : 0,
                              .op = u->context.op,
                              .status = STATUS_ERROR,
                              .error = ERR_CRASHED,
                              .attempts = (uint8_t)n,
                              .is_stream = u->stated.is_stream,
                              .duration_us = lived_us(s, u, 0),
                              .ttft_us = -1,
                              .usage = u->stated.ended_usage,
                              .cost_nanousd = u->stated.ended_cost_nanousd,
                              .is_priced = true,
                              .is_recovery = true,
                              .reservation = u->stated.reservation};

    fill_gaps(u, n);
    for (unsigned i = 0; i < n; i++) {
        if (i >= u->stated.ended) { /* what came before is in the statement's sums */
            usage_add(&rq.usage, &u->a[i].usage);
            rq.cost_nanousd = add(rq.cost_nanousd, u->a[i].cost_nanousd);
        }
        rq.is_priced &= u->a[i].is_priced;
        rq.is_stream |= u->a[i].is_stream;
        rq.provider = u->a[i].provider;
        rq.model = u->a[i].model;
    }
    rq.end = rq.is_stream ? STREAM_ERROR : STREAM_NONE;
    (void)span_copy(rq.detail, sizeof(rq.detail), SPAN_LIT("the gateway died before the request ended"));
    return rq;
}

static enum err_code end_one(struct scan *s, struct unsettled *u, struct err *err)
{
    struct fact_request rq;

    if (journal_begin_forced(s->j, err))
        return ERR_IO;
    CRASH_POINT(recovery_before_attempt);
    if (was_under_way(u)) {
        struct fact_attempt a = attempt_as_stated(s, u);

        if (journal_attempt(s->j, &u->context, &a))
            return err_set(err, ERR_JOURNAL_FULL,
                           "the journal has no room for what an earlier run left open");
        take_attempt(u, &a);
        CRASH_POINT(recovery_after_attempt);
    }
    rq = end_of(s, u);
    if (journal_settle(s->j, &rq, u->a))
        return err_set(err, ERR_JOURNAL_FULL, "the journal has no room for what an earlier run left open");
    journal_count(&s->j->recovered, 1);
    CRASH_POINT(recovery_after_settle);
    return ERR_OK;
}

enum err_code journal_recover(struct journal *j, size_t *out_ended, struct err *err)
{
    struct scan *s = calloc(1, sizeof(*s));
    enum err_code e = ERR_OK;
    size_t n = 0;

    if (!s)
        abort();
    s->j = j;
    CRASH_POINT(recovery_begin);
    read_all(s);
    CRASH_POINT(recovery_after_scan);
    for (struct unsettled *u = s->oldest; u && !e; u = u->newer) {
        e = end_one(s, u, err);
        n += !e;
    }
    journal_end_forced(j);
    CRASH_POINT(recovery_done);
    while (s->oldest)
        drop(s, &s->oldest->context.request);
    free(s);
    if (!e && out_ended)
        *out_ended = n;
    return e;
}
