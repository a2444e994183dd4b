/* SPDX-License-Identifier: Apache-2.0 */
/* The writer's machine over real journals, with a store that does what a script says. The store counts how often it has
 * each record; whatever happens, that must end at once each. */
#ifndef TESTS_WRITER_SCENE_H
#define TESTS_WRITER_SCENE_H

#include "gatewayd/journal/writer.c" /* for its cursors */

#include <unistd.h>

#include "tests/unit/gatewayd/journal/facts_sample.h"
#include "tests/unit/gatewayd/journal/fake_time.h"

#include "tests/unit/cm.h"

#define MAX_BYTES (8 * JOURNAL_SEGMENT)
#define WORKERS   4u
#define RECORDS   4096u
#define SECOND_US 1000000

enum fate { WORKS, FAILS, LOSES_REPLY, REFUSES };

/* The store: survives the writers that come and go. */
static struct {
    struct watermark mark;
    unsigned times[RECORDS]; /* each record, by its number */
    enum fate fates[32];     /* of the next calls, then all work */
    size_t n_fates, at;
    bool is_deaf; /* the watermark cannot be read */
    size_t max;   /* records of a batch */
    struct watermark last_next;
    unsigned applies, begins, idles;
} store;

static struct target { /* the open batch */
    uint64_t numbers[RECORDS];
    size_t n;
} batch;

static char dir[64];
static struct journal *journals[WORKERS];

/* ---- the store ---- */

static enum err_code fake_watermark(void *self, struct watermark *out, struct err *err)
{
    (void)self;
    if (store.is_deaf)
        return err_set(err, ERR_IO, "nobody listens");
    *out = store.mark;
    return ERR_OK;
}

static void fake_begin(void *self)
{
    (void)self;
    batch.n = 0;
    store.begins++;
}

static void fake_take(void *self, const struct journal_record *rec)
{
    (void)self;
    assert_int_equal(rec->type, JOURNAL_SETTLE);
    batch.numbers[batch.n++] = sample_number(&rec->settle.rq.id);
}

static bool fake_is_full(void *self)
{
    (void)self;
    return batch.n >= store.max;
}

static enum store_result keep(const struct watermark *from, const struct watermark *next)
{
    if (store.mark.batch == next->batch && store.mark.token == next->token)
        return STORE_DUPLICATE;
    if (store.mark.batch != from->batch || store.mark.token != from->token)
        return STORE_MISMATCH;
    store.mark = *next;
    for (size_t i = 0; i < batch.n; i++)
        store.times[batch.numbers[i]]++;
    return STORE_APPLIED;
}

static enum store_result fake_apply(void *self, const struct watermark *from, const struct watermark *next,
                                    struct err *err)
{
    enum fate f = store.at < store.n_fates ? store.fates[store.at++] : WORKS;

    (void)self;
    store.applies++;
    store.last_next = *next;
    (void)err_set(err, ERR_IO, "the store is ill");
    if (f == FAILS)
        return STORE_FAILED;
    if (f == REFUSES)
        return STORE_MISMATCH;
    enum store_result r = keep(from, next);
    return f == LOSES_REPLY ? STORE_FAILED : r;
}

static void fake_idle(void *self, struct wall now)
{
    (void)self;
    (void)now;
    store.idles++;
}

static const struct target_ops FAKE = {
    .name = "fake",
    .types = 1u << JOURNAL_SETTLE,
    .watermark = fake_watermark,
    .begin = fake_begin,
    .take = fake_take,
    .is_full = fake_is_full,
    .apply = fake_apply,
    .idle = fake_idle,
};

/* ---- scenes ---- */

static void open_journals(unsigned n)
{
    struct err err = {0};

    for (unsigned i = 0; i < n; i++) {
        journals[i] = journal_open(dir, i, MAX_BYTES, &err);
        if (!journals[i])
            fail_msg("%s", err_text(&err));
    }
}

static void close_journals(void)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        if (journals[i])
            journal_close(journals[i]);
        journals[i] = NULL;
    }
}

static int setup(void **state)
{
    (void)state;
    memset(&store, 0, sizeof(store));
    store.max = RECORDS;
    mono = (struct mono){SECOND_US};
    wall = wall_now();
    scratch_make(dir);
    open_journals(2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_journals();
    scratch_remove(dir);
    return 0;
}

static struct writer *writer_of(unsigned n, bool is_real_time)
{
    struct writer_options o = {.ops = &FAKE, .journals = journals, .n_journals = n};
    struct err err = {0};
    struct writer *w;

    if (!is_real_time) {
        o.wall_now = fake_wall;
        o.mono_now = fake_mono;
        o.random = chance;
    }
    w = writer_new(&o, &err);
    if (!w)
        fail_msg("%s", err_text(&err));
    return w;
}

static void settle(unsigned worker, uint64_t n)
{
    struct fact_request rq = sample_request(n);
    struct fact_attempt a[FACT_ATTEMPTS];

    sample_attempts(n, a);
    assert_int_equal(journal_settle(journals[worker], &rq, a), ERR_OK);
}

static void settle_many(unsigned worker, uint64_t first, uint64_t n)
{
    for (uint64_t i = first; i < first + n; i++)
        settle(worker, i);
}

/* Time passes as the writer wants it to. */
static void run(struct writer *w, unsigned seconds)
{
    struct mono end = mono_add_us(mono, (int64_t)seconds * SECOND_US);

    while (mono.us < end.us) {
        int64_t us = writer_step(w);

        assert_true(us >= 0);
        assert_true(us <= 2 * SECOND_US);
        mono.us += us > 0 ? us : 1;
        wall.us += us > 0 ? us : 1;
    }
}

static void assert_once(uint64_t first, uint64_t n)
{
    for (uint64_t i = first; i < first + n; i++)
        if (store.times[i] != 1)
            fail_msg("record %llu is in the store %u times", (unsigned long long)i, store.times[i]);
}

static struct writer_stats stats_of(struct writer *w)
{
    struct writer_stats s;

    writer_stats_mt(w, &s);
    return s;
}

/* All that there is may be forgotten, as far as this writer is concerned. */
static bool is_committed(struct writer *w)
{
    for (size_t i = 0; i < w->n; i++) {
        struct journal_cursor *end = journal_cursor_new(journals[i], "end");
        uint64_t all = journal_cursor_seek(end, UINT64_MAX);

        journal_cursor_free(end);
        if (journal_cursor_committed(w->cursors[i]) != all)
            return false;
    }
    return true;
}

#endif
