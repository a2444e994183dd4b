/* SPDX-License-Identifier: Apache-2.0 */
/* The journals against the promises. What was acknowledged is there, once and unchanged; what was cut off in the middle is
 * there or not; what no life ended was ended by recovery, once, with what the last statement knew. */
#include <inttypes.h>
#include <string.h>

#include "tests/dst/life.h"

struct seen { /* of one request, in the order of its records */
    unsigned reserved, settled;
    unsigned attempts[FACT_ATTEMPTS + 1], n_attempts; /* by number */
    bool is_recovered;                                /* an attempt was recorded by recovery */
    struct fact_open newest;
    unsigned newest_after; /* number of the last attempt that its own life recorded */
    struct fact_attempt last;
    int64_t cost, held;
    const struct fact_request *end;
};

static struct seen seen[WORLD_REQUESTS];

static size_t number_of(const struct id *id)
{
    size_t n = (size_t)id->b[14] << 8 | id->b[15];

    if (n >= world->n_requests || memcmp(id, &world->requests[n].id, sizeof(*id)) != 0)
        world_fail("a record of a request that never was");
    return n;
}

static void see_attempt(struct seen *s, const struct fact_attempt *a, size_t n)
{
    if (a->number < 1 || a->number > FACT_ATTEMPTS)
        world_fail("request %zu: an attempt with the number %u", n, a->number);
    s->attempts[a->number]++;
    s->n_attempts++;
    s->cost += a->cost_nanousd;
    s->last = *a;
    if (a->error == ERR_CRASHED) /* no life of ours says so of itself */
        s->is_recovered = true;
    else
        s->newest_after = a->number;
}

static void see(const struct journal_record *r)
{
    size_t n;

    switch (r->type) {
    case JOURNAL_RESERVE:
    case JOURNAL_PROGRESS:
        n = number_of(&r->open.context.request);
        seen[n].newest = r->open;
        seen[n].reserved += r->type == JOURNAL_RESERVE;
        seen[n].held += r->type == JOURNAL_RESERVE ? r->open.reservation.amount_nanousd : 0;
        break;
    case JOURNAL_ATTEMPT:
        n = number_of(&r->attempt.context.request);
        see_attempt(&seen[n], &r->attempt.a, n);
        break;
    case JOURNAL_SETTLE:
        n = number_of(&r->settle.rq.id);
        seen[n].settled++;
        seen[n].held -= r->settle.rq.reservation.amount_nanousd;
        seen[n].end = &r->settle.rq;
        break;
    case JOURNAL_ADJUST:
        break;
    }
}

/* ---- one request ---- */

static void same_usage(const struct usage *a, const struct usage *b, size_t n)
{
    if (a->input != b->input || a->cached != b->cached || a->cache_write != b->cache_write ||
        a->output != b->output || a->reasoning != b->reasoning || a->images != b->images ||
        a->searches != b->searches)
        world_fail("request %zu: its tokens changed on the way", n);
}

static void check_kept(const struct promise *p, const struct seen *s, size_t n)
{
    if (p->reserve_ok && s->reserved != 1)
        world_fail("request %zu: reserved %u times on record, acknowledged once", n, s->reserved);
    if (s->reserved > 1)
        world_fail("request %zu: reserved %u times on record", n, s->reserved);
    for (unsigned i = 1; i <= FACT_ATTEMPTS; i++)
        if (s->attempts[i] > 1 || (i <= p->attempts_ok && s->attempts[i] != 1))
            world_fail("request %zu: attempt %u is on record %u times", n, i, s->attempts[i]);
    if (s->reserved && s->settled != 1)
        world_fail("request %zu: reserved, and ended %u times on record", n, s->settled);
    if (!s->reserved && (s->settled || s->n_attempts))
        world_fail("request %zu: on record without a reservation", n);
    if (s->held != 0)
        world_fail("request %zu: %" PRId64 " are still held on record", n, s->held);
}

static void check_end(const struct promise *p, const struct seen *s, size_t n)
{
    const struct fact_request *e = s->end;

    if (!e)
        return;
    if (p->settle_ok && (e->is_recovery || e->cost_nanousd != p->end.cost_nanousd))
        world_fail("request %zu: ended with %" PRId64 ", on record is %" PRId64, n, p->end.cost_nanousd,
                   e->cost_nanousd);
    if (!e->is_recovery && !p->settle_called)
        world_fail("request %zu: an end that nobody wrote", n);
    if (e->cost_nanousd != s->cost || e->attempts != s->n_attempts)
        world_fail("request %zu: it cost %" PRId64 " in %u attempts, its attempts cost %" PRId64 " in %u", n,
                   e->cost_nanousd, e->attempts, s->cost, s->n_attempts);
    if (!e->is_recovery)
        same_usage(&e->usage, &p->end.usage, n);
}

/* The attempt that was under way when the process died costs what its last statement said: nothing on record is newer. */
static void check_recovered(const struct seen *s, size_t n)
{
    const struct fact_open *o = &s->newest;
    bool is_due = o->number > o->ended && s->newest_after < o->number;

    if (!s->end || !s->end->is_recovery)
        return;
    if (s->is_recovered != is_due)
        world_fail("request %zu: attempt %u %s under way, recovery recorded %s", n, o->number,
                   is_due ? "was" : "was not", s->is_recovered ? "one" : "none");
    if (!is_due)
        return;
    if (s->last.number != o->number || s->last.cost_nanousd != o->cost_nanousd ||
        s->last.provider != o->provider || s->last.model != o->model)
        world_fail("request %zu: recovery made attempt %u for %" PRId64
                   ", the last statement was %u for %" PRId64,
                   n, s->last.number, s->last.cost_nanousd, o->number, o->cost_nanousd);
    same_usage(&s->last.usage, &o->usage, n);
}

static void check_adjusts(void)
{
    for (size_t i = 0; i < world->n_adjusts; i++) {
        unsigned found = 0;

        for (size_t k = 0; k < world->n_records; k++)
            found += world->records[k].type == JOURNAL_ADJUST &&
                     memcmp(&world->records[k].adjust.id, &world->adjusts[i].a.id, sizeof(struct id)) == 0 &&
                     world->records[k].adjust.amount_nanousd == world->adjusts[i].a.amount_nanousd;
        if (found > 1 || (world->adjusts[i].is_ok && found != 1))
            world_fail("correction %zu is on record %u times", i, found);
    }
}

void check_journal(void)
{
    memset(seen, 0, sizeof(seen));
    for (size_t i = 0; i < world->n_records; i++)
        see(&world->records[i]);
    for (size_t n = 0; n < world->n_requests; n++) {
        check_kept(&world->requests[n], &seen[n], n);
        check_end(&world->requests[n], &seen[n], n);
        check_recovered(&seen[n], n);
    }
    check_adjusts();
}
