/* SPDX-License-Identifier: Apache-2.0 */
/* The requests: admitted, tried, streamed, failed over, settled, given back and corrected at random, through the
 * journal's own functions. Whatever is about to be appended is written down as a promise before the call, and marked as
 * kept when the call said OK; a death in between leaves the mark off, and then both outcomes are right.
 *
 * Tricky part: a statement repeats all that matters about an open request, so `said` must hold when the next one is
 * made, whatever happened meanwhile. */
#include <inttypes.h>
#include <string.h>

#include "tests/dst/life.h"

#define OPEN_MAX 10u /* a worker; what the journal keeps free for them is enough for more */

static struct promise *at(size_t i)
{
    return &world->requests[i];
}

static struct id id_of(size_t n) /* the number of the request can be read from it */
{
    struct id id = id_mint(world->wall);

    id.b[14] = (unsigned char)(n >> 8);
    id.b[15] = (unsigned char)n;
    return id;
}

void work_start(struct life *l)
{
    (void)l;
    for (size_t i = 0; i < world->n_requests; i++)
        at(i)->is_open = false;
}

static size_t open_of(unsigned worker)
{
    size_t n = 0;

    for (size_t i = 0; i < world->n_requests; i++)
        n += at(i)->is_open && at(i)->worker == worker;
    return n;
}

static struct usage some_usage(bool has_output)
{
    struct usage u = {.input = 1 + world_below(5000),
                      .source = has_output ? USAGE_REPORTED : USAGE_ESTIMATED};

    if (!has_output)
        return u;
    u.cached = world_below((unsigned)u.input);
    u.cache_write = world_below((unsigned)(u.input - u.cached) + 1);
    u.output = world_below(3000);
    u.reasoning = world_below((unsigned)u.output + 1);
    u.images = world_below(10) == 0 ? 1 : 0;
    u.searches = world_below(10) == 0 ? 2 : 0;
    return u;
}

/* ---- admission ---- */

static void open_facts(struct fact_open *o, size_t n)
{
    unsigned key = world->plan.has_own_keys ? (unsigned)n : world_below(3);
    struct wall arrived = world->wall;

    if (world_strikes(world->plan.slow_arrival))
        arrived.us -= world_between(1, 5000000);
    *o = (struct fact_open){
        .context = {.request = id_of(n),
                    .arrived = arrived,
                    .tenant = world_tenants[key % WORLD_NAMES],
                    .key = world_keys[key],
                    .op = (enum operation)world_below(OP_COUNT)},
        .reservation = {.amount_nanousd = world_below(8) ? 1000 + world_below(1u << 30) : 0,
                        .at = arrived,
                        .key_period = (enum period)(key % PERIOD_COUNT),
                        .tenant_period = (enum period)(key % WORLD_NAMES % PERIOD_COUNT),
                        .global_period = PERIOD_MONTH},
        .requested = world_models[world_below(WORLD_NAMES)],
        .is_stream = world_below(2),
        .provider = world_providers[world_below(WORLD_NAMES)],
        .model = world_models[world_below(WORLD_NAMES)],
        .usage = some_usage(false),
        .is_priced = true,
    };
}

/* What an attempt may cost at most, so that all of them stay within what was reserved. */
static int64_t share(const struct promise *p)
{
    return p->said.reservation.amount_nanousd / world->plan.attempts_max;
}

static void state(struct life *l, struct promise *p, bool is_first)
{
    struct journal *j = l->j[p->worker];
    enum err_code e;

    p->reserve_called = true;
    e = is_first ? journal_reserve(j, &p->said) : journal_progress(j, &p->said);
    if (e && is_first)
        world_fail("request %zu was refused although there was room", (size_t)(p - world->requests));
    if (e)
        return;
    p->reserve_ok = true;
    p->n_said++;
    p->stated_seq = journal_last(j);
    world_trace("%s %zu worker %u number %u cost %" PRId64, is_first ? "reserve" : "progress",
                (size_t)(p - world->requests), p->worker, p->said.number, p->said.cost_nanousd);
}

void work_admit(struct life *l)
{
    unsigned worker = world_below(l->n_workers);
    size_t n = world->n_requests;
    struct promise *p = at(n);

    if (n == WORLD_REQUESTS || open_of(worker) >= OPEN_MAX)
        return;
    if (!journal_has_room(l->j[worker])) {
        world->refusals++;
        world_trace("no room at worker %u", worker);
        return;
    }
    memset(p, 0, sizeof(*p));
    p->worker = worker;
    p->life = world->life;
    open_facts(&p->said, n);
    p->id = p->said.context.request;
    p->said.cost_nanousd = world_below((unsigned)(share(p) / 2) + 1);
    if (!budgets_reserve(l, n, &p->said))
        return;
    p->is_open = true;
    world->n_requests++;
    state(l, p, true);
}

/* ---- attempts ---- */

/* Of the first attempt RESERVE told enough; each later one is stated as it begins. */
static void begin_attempt(struct life *l, struct promise *p)
{
    struct fact_open *o = &p->said;

    o->number = (uint8_t)(p->attempts_ok + 1);
    o->started_us = 10 * o->number;
    p->is_under_way = true;
    if (o->number == 1)
        return;
    o->provider = world_providers[world_below(WORLD_NAMES)];
    o->model = world_models[world_below(WORLD_NAMES)];
    o->usage = some_usage(false);
    o->cost_nanousd = world_below((unsigned)(share(p) / 2) + 1);
    state(l, p, false);
}

static void go_on(struct life *l, struct promise *p)
{
    struct fact_open *o = &p->said;

    o->usage.output += 1 + world_below(200);
    o->usage.source = USAGE_ESTIMATED;
    if (o->cost_nanousd < share(p))
        o->cost_nanousd += world_below((unsigned)(share(p) - o->cost_nanousd) + 1);
    state(l, p, false);
}

static void attempt_facts(struct fact_attempt *a, const struct promise *p)
{
    const struct fact_open *o = &p->said;
    bool is_ok = world_below(3) != 0;
    int64_t room = share(p) - o->cost_nanousd;

    *a = (struct fact_attempt){
        .provider = o->provider,
        .model = o->model,
        .status = is_ok            ? STATUS_SUCCESS
                  : world_below(4) ? STATUS_ERROR
                                   : STATUS_CANCELLED,
        .error = is_ok ? ERR_OK : ERR_TIMEOUT,
        .http_status = is_ok ? 200 : 503,
        .number = o->number,
        .is_stream = o->is_stream,
        .end = o->is_stream ? STREAM_COMPLETE : STREAM_NONE,
        .from_provider = o->number > 1 ? p->a[o->number - 2].provider : 0,
        .retry_reason = o->number > 1 ? ERR_TIMEOUT : ERR_OK,
        .started_us = o->started_us,
        .duration_us = 1 + world_below(90000000),
        .ttft_us = is_ok ? 1 + (int64_t)world_below(5000) : -1,
        .usage = is_ok ? some_usage(true) : o->usage,
        .is_priced = world_below(10) != 0,
    };
    a->cost_nanousd = a->is_priced ? o->cost_nanousd + world_below((unsigned)room + 1) : 0;
}

static void end_attempt(struct life *l, struct promise *p)
{
    struct fact_attempt *a = &p->a[p->attempts_ok];
    size_t n = (size_t)(p - world->requests);

    attempt_facts(a, p);
    p->attempts_called++;
    if (journal_attempt(l->j[p->worker], &p->said.context, a))
        world_fail("attempt %u of request %zu found the journal full", a->number, n);
    p->attempts_ok++;
    p->is_under_way = false;
    p->said.ended = p->attempts_ok;
    usage_add(&p->said.ended_usage, &a->usage);
    p->said.ended_cost_nanousd += a->cost_nanousd;
    p->said.number = 0; /* what was spent is on record; nothing is under way */
    p->said.usage = (struct usage){0};
    p->said.cost_nanousd = p->said.started_us = 0;
    world_trace("attempt %zu number %u cost %" PRId64, n, a->number, a->cost_nanousd);
}

/* ---- the end ---- */

static void end_facts(struct fact_request *rq, const struct promise *p)
{
    const struct fact_open *o = &p->said;
    const struct fact_attempt *last = p->attempts_ok ? &p->a[p->attempts_ok - 1] : NULL;

    *rq = (struct fact_request){
        .id = p->id,
        .arrived = o->context.arrived,
        .tenant = o->context.tenant,
        .key = o->context.key,
        .provider = last ? last->provider : 0,
        .model = last ? last->model : 0,
        .requested = o->requested,
        .op = o->context.op,
        .status = last ? last->status : STATUS_REJECTED,
        .error = last ? last->error : ERR_OVER_LIMIT,
        .http_status = 200,
        .attempts = p->attempts_ok,
        .is_stream = o->is_stream,
        .duration_us = last ? last->started_us + last->duration_us + 5 : 7,
        .ttft_us = -1,
        .usage = o->ended_usage,
        .cost_nanousd = o->ended_cost_nanousd,
        .is_priced = true,
        .reservation = o->reservation,
    };
    for (uint8_t i = 0; i < p->attempts_ok; i++)
        rq->is_priced = rq->is_priced && p->a[i].is_priced;
}

static void settle(struct life *l, struct promise *p)
{
    size_t n = (size_t)(p - world->requests);

    end_facts(&p->end, p);
    p->settle_called = true;
    if (journal_settle(l->j[p->worker], &p->end, p->a))
        world_fail("the end of request %zu found the journal full", n);
    p->settle_ok = true;
    p->is_open = false;
    budgets_settle(l, n, p->end.cost_nanousd);
    world_trace("settle %zu cost %" PRId64, n, p->end.cost_nanousd);
    CRASH_POINT(settle_after_reply);
}

static struct promise *some_open(void)
{
    size_t n = 0, pick;

    for (size_t i = 0; i < world->n_requests; i++)
        n += at(i)->is_open;
    if (!n)
        return NULL;
    pick = world_below((unsigned)n);
    for (size_t i = 0;; i++)
        if (at(i)->is_open && pick-- == 0)
            return at(i);
}

static void advance(struct life *l, struct promise *p)
{
    bool may_try = p->attempts_ok < world->plan.attempts_max;
    bool has_answer = p->attempts_ok && p->a[p->attempts_ok - 1].status == STATUS_SUCCESS;

    if (p->is_under_way && world_below(2))
        go_on(l, p);
    else if (p->is_under_way)
        end_attempt(l, p);
    else if (may_try && !has_answer && world_below(8))
        begin_attempt(l, p);
    else
        settle(l, p);
}

void work_advance(struct life *l)
{
    struct promise *p = some_open();

    if (p)
        advance(l, p);
}

bool work_finish(struct life *l)
{
    struct promise *p = some_open();

    if (!p)
        return false;
    if (p->is_under_way)
        end_attempt(l, p);
    settle(l, p);
    return true;
}

void work_adjust(struct life *l)
{
    struct promised_adjust *a = &world->adjusts[world->n_adjusts];
    unsigned key = world_below(3);

    if (world->n_adjusts == WORLD_ADJUSTS || !journal_has_room(l->j[0]))
        return;
    *a = (struct promised_adjust){
        .a = {.id = id_of(world->n_adjusts++),
              .at = world->wall,
              .tenant = world_tenants[key % WORLD_NAMES],
              .key = world_keys[key],
              .provider = world_providers[world_below(WORLD_NAMES)],
              .model = world_models[world_below(WORLD_NAMES)],
              .amount_nanousd = (int64_t)world_below(1000000) - 500000,
              .who = "operator",
              .why = "an agreed correction"},
    };
    if (journal_adjust(l->j[0], &a->a))
        world_fail("a correction found the journal full");
    a->is_ok = true;
    world_trace("adjust %" PRId64, a->a.amount_nanousd);
}

void work_restate(struct life *l)
{
    uint64_t needed[WORLD_WORKERS];

    for (unsigned w = 0; w < l->n_workers; w++)
        needed[w] = journal_last(l->j[w]) + 1; /* what comes now states itself behind this */
    for (size_t i = 0; i < world->n_requests; i++) {
        struct promise *p = at(i);

        if (!p->is_open)
            continue;
        if (journal_is_far_behind(l->j[p->worker], p->stated_seq))
            state(l, p, false);
        if (p->stated_seq < needed[p->worker])
            needed[p->worker] = p->stated_seq;
    }
    for (unsigned w = 0; w < l->n_workers; w++)
        journal_set_needed(l->j[w], needed[w]);
}
