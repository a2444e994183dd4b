/* SPDX-License-Identifier: Apache-2.0 */
/* A life: open the journals, recover, connect the stores, then do one thing after the other as chance has it. All
 * threads of the real process are steps here, so each interleaving at the granularity of a call can happen, and every
 * one can be had again from its seed. It dies where crash_point() strikes or between two steps, or stops in order. */
#include "tests/dst/life.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libshared/base/log.h"
#include "libshared/store/db.h"
#include "tests/dst/stores.h"

#define TEND_US 100000

static void die(enum crash_point p)
{
    world->crash_hits[p]++;
    if (!world_strikes(world->plan.crash_at_point))
        return;
    world->crash_kills[p]++;
    world->kills++;
    world_trace("killed at %s", crash_point_name(p));
    _exit(LIFE_DIED);
}

static void must(enum err_code e, const struct err *err, const char *what)
{
    if (!e)
        return;
    if (world
            ->faults) { /* something was made to fail on the way: a start may be refused, a later one will do */
        (void)snprintf(world->refusal, sizeof(world->refusal), "%s: %s", what, err_text(err));
        world_trace("refused to start: %s", world->refusal);
        _exit(LIFE_REFUSED);
    }
    world_fail("%s: %s", what, err_text(err));
}

/* ---- start ---- */

static void open_journals(struct life *l)
{
    struct err err = {0};

    (void)snprintf(l->journal_dir, sizeof(l->journal_dir), "%s/journal", world->dir);
    must(journal_instance(l->journal_dir, l->instance, &err), &err, "instance");
    l->n_workers = world_between(1, WORLD_WORKERS);
    l->n_journals = journal_workers_on_disk(l->journal_dir);
    if (l->n_journals < l->n_workers)
        l->n_journals = l->n_workers;
    for (unsigned i = 0; i < l->n_journals; i++) {
        size_t bytes = i < l->n_workers ? world->plan.journal_bytes : 0;

        l->j[i] = journal_open(l->journal_dir, i, bytes, &err);
        if (!l->j[i])
            must(err.code ? err.code : ERR_IO, &err, "journal_open");
    }
}

static void recover(struct life *l)
{
    for (unsigned i = 0; i < l->n_journals; i++) {
        struct err err = {0};
        size_t ended = 0;

        must(journal_recover(l->j[i], &ended, &err), &err, "journal_recover");
        world->ended_by_recovery += ended;
        world_trace("recovered worker %u of %u: %zu ended, last %" PRIu64, i, l->n_workers, ended,
                    journal_last(l->j[i]));
    }
}

static void start(struct life *l, int kv_fd)
{
    open_journals(l);
    recover(l);
    for (unsigned i = 0; i < l->n_journals; i++) {
        l->tap[i] = journal_cursor_new(l->j[i], "log");
        if (!l->tap[i])
            world_fail("no cursor");
    }
    stores_open(l, kv_fd);
    tap_read(l);
    work_start(l);
    budgets_start(l);
}

/* ---- steps ---- */

static void tend(struct life *l)
{
    struct err err = {0};

    world->disk_is_full = world_strikes(world->plan.disk_full);
    for (unsigned i = 0; i < l->n_journals; i++) {
        enum err_code e = journal_tend(l->j[i], &err);

        if (e && !world->disk_is_full)
            world_fail("journal_tend: %s", err_text(&err));
        journal_free_committed(l->j[i]);
    }
    world->faults += world->disk_is_full;
    world->disk_is_full = false;
}

static void write_out(struct life *l, unsigned which, bool is_woken)
{
    if (!is_woken && world->mono.us < l->due[which].us)
        return;
    l->due[which].us = world->mono.us + writer_step(l->writers[which]);
}

/* What time brings about by itself. */
static void background(struct life *l)
{
    world_advance(world_below(8) ? world_between(100, 200000) : world_between(1000000, 5000000));
    write_out(l, 0, false);
    write_out(l, 1, false);
    budgets_round(l);
    if (world->mono.us < l->tended.us || world_strikes(world->plan.slow_tend))
        return;
    l->tended.us = world->mono.us + TEND_US;
    tap_read(l);
    work_restate(l);
    tend(l);
}

/* Never further than an hour from true time in all, so that no hour of the realtime store expires. */
static void step_clock(void)
{
    int64_t by = ((int64_t)world_below(7200) - 3600) * 1000000;

    if (world->wall_offset_us + by > (int64_t)3600000000 || world->wall_offset_us + by < -(int64_t)3600000000)
        by = -world->wall_offset_us;
    world->wall_offset_us += by;
    world->wall.us += by;
    world_trace("clock steps by %" PRId64, by);
}

static void one_step(struct life *l)
{
    const struct plan *p = &world->plan;
    unsigned pick = world_below(p->weight_admit + p->weight_advance + p->weight_writers + 1);

    if (pick < p->weight_admit)
        work_admit(l);
    else if ((pick -= p->weight_admit) < p->weight_advance)
        work_advance(l);
    else if ((pick -= p->weight_advance) < p->weight_writers)
        write_out(l, world_below(2), world_below(2));
    else
        work_adjust(l);
    if (world_strikes(p->clock_steps))
        step_clock();
    if (world_below(3) == 0)
        background(l);
    if (world_strikes(p->crash_between)) {
        world_trace("killed between two steps");
        world->kills++;
        _exit(LIFE_DIED);
    }
}

/* ---- end ---- */

static bool is_drained(struct life *l)
{
    for (unsigned i = 0; i < 2; i++) {
        struct writer_stats s;

        writer_stats_mt(l->writers[i], &s);
        if (s.is_down || s.lag_us)
            return false;
    }
    return true;
}

/* Everything ends, everything reaches the stores, the journals are empty again. */
static void drain(struct life *l)
{
    unsigned calm = 0;

    while (work_finish(l))
        background(l);
    for (unsigned i = 0; i < 600 && calm < 5; i++) {
        world_advance(1000000);
        background(l);
        calm = is_drained(l) ? calm + 1 : 0;
    }
    if (calm < 5) {
        struct writer_stats a, b;

        writer_stats_mt(l->writers[0], &a);
        writer_stats_mt(l->writers[1], &b);
        world_fail("the stores do not catch up in 10 minutes: realtime lag %" PRId64
                   " '%s', history lag %" PRId64 " '%s'",
                   a.lag_us, a.error, b.lag_us, b.error);
    }
}

/* In the last life, which has nothing of its own: nothing of the others is kept, and nothing is torn (one that dies
 * between a record's bytes and its publication leaves a torn segment to the next). */
static void check_space(struct life *l)
{
    for (unsigned i = 0; i < l->n_journals; i++) {
        struct journal_stats s = journal_stats_mt(l->j[i]);

        if (s.used_bytes > 5 * JOURNAL_SEGMENT)
            world_fail("the journal of worker %u still takes %" PRIu64 " bytes when all is done", i,
                       s.used_bytes);
        if (s.torn)
            world_fail("the journal of worker %u has %" PRIu64 " torn segments when all is done", i, s.torn);
    }
}

static _Noreturn void stop(struct life *l)
{
    budgets_stop(l);
    stores_close(l);
    for (unsigned i = 0; i < l->n_journals; i++) {
        journal_cursor_free(l->tap[i]);
        journal_close(l->j[i]);
    }
    world_trace("stopped");
    _exit(LIFE_STOPPED);
}

void life_run(int kv_fd)
{
    struct life *l = calloc(1, sizeof(*l));

    if (!l)
        abort();
    crash_hook = die;
    if (!world->is_verbose)
        log_set_level((enum log_level) - 1); /* that stores fail is expected here */
    world->disk_is_full = world_strikes(world->plan.disk_full);
    world->faults += world->disk_is_full;
    start(l, kv_fd);
    world->disk_is_full = false;
    for (unsigned i = 0; i < world->plan.steps && !world->is_calm; i++)
        one_step(l);
    if (world->is_calm) {
        drain(l);
        tap_read(l);
        check_journal();
        check_books(l);
        budgets_check(l);
        if (world->life > world->plan.lives + 1)
            check_space(l);
    } else if (!world_strikes(world->plan.orderly_stop)) {
        world_trace("killed at the end");
        _exit(LIFE_DIED);
    } else {
        while (work_finish(l))
            background(l);
    }
    stop(l);
}
