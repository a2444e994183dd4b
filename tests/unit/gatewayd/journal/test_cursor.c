/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/journal/journal.h"

#include <pthread.h>
#include <stdatomic.h>

#include "gatewayd/journal/segment_priv.h"
#include "libshared/base/clock.h"
#include "tests/unit/gatewayd/journal/journal_scene.h"

static struct journal *open_it(size_t max_bytes)
{
    struct err err = {0};
    struct journal *j = journal_open(dir, 0, max_bytes, &err);

    if (!j)
        fail_msg("%s", err_text(&err));
    return j;
}

static uint64_t settle(struct journal *j, uint64_t n)
{
    struct fact_request rq = sample_request(n);
    struct fact_attempt a[FACT_ATTEMPTS];

    sample_attempts(n, a);
    assert_int_equal(journal_settle(j, &rq, a), ERR_OK);
    return journal_last(j);
}

static uint64_t reserve(struct journal *j, uint64_t n)
{
    struct fact_open o = sample_open(n);

    assert_int_equal(journal_reserve(j, &o), ERR_OK);
    return journal_last(j);
}

/* Settles from `n` until `segments` more segments were used; returns the next number. */
static uint64_t fill(struct journal *j, uint64_t n, unsigned segments)
{
    uint64_t until = walk_sequence_of(settle(j, n++)) + segments;

    while (walk_sequence_of(settle(j, n++)) < until)
        assert_int_equal(journal_tend(j, NULL), ERR_OK);
    return n;
}

/* Until no more segments are kept for a busy worker than for a calm one. */
static void calm_down(struct journal *j)
{
    for (int i = 0; i < 100; i++)
        assert_int_equal(journal_tend(j, NULL), ERR_OK);
}

static uint64_t read_one(struct journal_cursor *c)
{
    struct journal_record r;
    struct err err;

    if (!journal_cursor_read(c, &r, &err))
        fail_msg("nothing to read: %s", err_text(&err));
    return sample_number(record_id(&r));
}

static void assert_nothing_left(struct journal_cursor *c)
{
    struct journal_record r;
    struct err err;

    assert_false(journal_cursor_read(c, &r, &err));
    assert_int_equal(err.code, ERR_OK);
}

/* Reads all; numbers follow each other. */
static uint64_t read_from(struct journal_cursor *c, uint64_t n)
{
    struct journal_record r;
    struct err err;

    while (journal_cursor_read(c, &r, &err))
        assert_int_equal(sample_number(record_id(&r)), n++);
    assert_int_equal(err.code, ERR_OK);
    return n;
}

static void commit_all(struct journal_cursor *c)
{
    journal_cursor_commit(c, journal_cursor_position(c));
}

static void test_each_consumer_reads_at_its_own_pace(void **state)
{
    struct journal *j = open_it(MAX_BYTES);
    struct journal_cursor *a = journal_cursor_new(j, "a"), *b = journal_cursor_new(j, "b");

    (void)state;
    for (uint64_t n = 0; n < 10; n++)
        (void)settle(j, n);
    assert_int_equal(read_from(a, 0), 10);
    assert_int_equal(read_one(b), 0);
    (void)settle(j, 10);
    assert_int_equal(read_one(a), 10);
    assert_int_equal(read_from(b, 1), 11);
    assert_int_equal(journal_stats_mt(j).read, 11);
    journal_cursor_free(a);
    journal_cursor_free(b);
    journal_close(j);
}

static void test_the_slowest_consumer_keeps_the_segments(void **state)
{
    struct journal *j = open_it(16 * JOURNAL_SEGMENT);
    struct journal_cursor *fast = journal_cursor_new(j, "fast"), *slow = journal_cursor_new(j, "slow");
    uint64_t n = fill(j, 0, 5);
    char first[512];
    size_t files;

    (void)state;
    assert_int_equal(read_from(fast, 0), n);
    commit_all(fast);
    calm_down(j); /* ready ones, as they will be later too */
    files = scratch_segments(dir, first);
    journal_free_committed(j);
    calm_down(j);
    assert_int_equal(scratch_segments(dir, first), files);
    assert_int_equal(read_from(slow, 0), n); /* reading alone frees nothing */
    journal_free_committed(j);
    calm_down(j);
    assert_int_equal(scratch_segments(dir, first), files);
    commit_all(slow);
    journal_free_committed(j);
    calm_down(j);
    assert_true(scratch_segments(dir, first) + 4 <= files);
    journal_cursor_free(fast);
    journal_cursor_free(slow);
    journal_close(j);
}

static void test_the_next_run_begins_where_the_slowest_committed(void **state)
{
    struct journal *j = open_it(MAX_BYTES);
    struct journal_cursor *a = journal_cursor_new(j, "a"), *b = journal_cursor_new(j, "b");

    (void)state;
    for (uint64_t n = 0; n < 20; n++)
        (void)settle(j, n);
    assert_int_equal(read_from(a, 0), 20);
    commit_all(a);
    for (uint64_t n = 0; n < 7; n++)
        assert_int_equal(read_one(b), n);
    commit_all(b);
    assert_int_equal(read_one(b), 7);
    journal_free_committed(j);
    journal_cursor_free(a);
    journal_cursor_free(b);
    journal_close(j);

    j = open_it(MAX_BYTES);
    a = journal_cursor_new(j, "a");
    assert_int_equal(read_from(a, 7), 20);
    journal_cursor_free(a);
    journal_close(j);
}

static void test_a_commit_amid_a_record_counts_only_what_is_whole_below_it(void **state)
{
    struct journal *j = open_it(MAX_BYTES);
    struct journal_cursor *c = journal_cursor_new(j, "c");
    uint64_t seq[20];

    (void)state;
    for (uint64_t n = 0; n < 20; n++)
        seq[n] = settle(j, n);
    assert_int_equal(read_from(c, 0), 20);
    journal_cursor_commit(c, seq[5] + 3);
    assert_int_equal(journal_cursor_committed(c), seq[5]);
    journal_cursor_commit(c, seq[4]); /* never back */
    assert_int_equal(journal_cursor_committed(c), seq[5]);
    journal_cursor_commit(c, seq[9]);
    assert_int_equal(journal_cursor_committed(c), seq[9]);
    journal_free_committed(j);
    journal_cursor_free(c);
    journal_close(j);
    j = open_it(MAX_BYTES);
    c = journal_cursor_new(j, "c");
    assert_int_equal(read_from(c, 9), 20);
    journal_cursor_commit(c, UINT64_MAX); /* never beyond what was read */
    assert_int_equal(journal_cursor_committed(c), journal_cursor_position(c));
    journal_cursor_free(c);
    journal_close(j);
}

static void test_a_consumer_gets_only_the_types_it_wants(void **state)
{
    struct journal *j = open_it(MAX_BYTES);
    struct journal_cursor *c = journal_cursor_new(j, "c");
    struct journal_record r;
    struct fact_adjust adjust = sample_adjust(3);
    struct fact_open open = sample_open(3);
    struct err err;

    (void)state;
    journal_cursor_want(c, 1u << JOURNAL_PROGRESS | 1u << JOURNAL_ADJUST);
    for (uint64_t n = 0; n < 5; n++) {
        (void)reserve(j, n);
        (void)settle(j, n);
    }
    assert_int_equal(journal_progress(j, &open), ERR_OK);
    assert_int_equal(journal_adjust(j, &adjust), ERR_OK);
    (void)settle(j, 5);
    assert_true(journal_cursor_read(c, &r, &err));
    assert_int_equal(r.type, JOURNAL_PROGRESS);
    assert_int_equal(sample_number(record_id(&r)), 3);
    assert_true(journal_cursor_read(c, &r, &err));
    assert_int_equal(r.type, JOURNAL_ADJUST);
    assert_int_equal(r.adjust.amount_nanousd, -3);
    assert_nothing_left(c);
    assert_true(journal_cursor_position(c) > journal_last(j));
    journal_cursor_free(c);
    journal_close(j);
}

/* ---- seeking ---- */

static void test_a_seek_finds_the_first_record_at_or_above(void **state)
{
    struct journal *j = open_it(16 * JOURNAL_SEGMENT);
    struct journal_cursor *c = journal_cursor_new(j, "c");
    enum { N = 9000 };
    static uint64_t seq[N];

    (void)state;
    for (uint64_t n = 0; n < N; n++) {
        seq[n] = settle(j, n);
        assert_int_equal(journal_tend(j, NULL), ERR_OK);
    }
    assert_true(walk_sequence_of(seq[N - 1]) > walk_sequence_of(seq[0]) + 2);
    for (uint64_t n = 0; n < N; n += 37) {
        uint64_t k = (n * 7919) % N; /* forward and back */

        assert_int_equal(journal_cursor_seek(c, seq[k]), seq[k]);
        assert_int_equal(read_one(c), k);
        if (k + 1 < N && walk_sequence_of(seq[k]) == walk_sequence_of(seq[k + 1])) {
            assert_int_equal(journal_cursor_seek(c, seq[k] + 1), seq[k + 1]);
            assert_int_equal(read_one(c), k + 1);
        }
    }
    assert_int_equal(journal_cursor_seek(c, 0), seq[0]);
    assert_true(journal_cursor_seek(c, UINT64_MAX) > seq[N - 1]);
    assert_nothing_left(c);
    (void)settle(j, N);
    assert_int_equal(read_one(c), N);
    journal_cursor_free(c);
    journal_close(j);
}

static void test_a_consumer_that_goes_back_below_its_commit_keeps_what_it_reads_again(void **state)
{
    struct journal *j = open_it(16 * JOURNAL_SEGMENT);
    struct journal_cursor *c = journal_cursor_new(j, "c"), *other = journal_cursor_new(j, "other");
    uint64_t n = fill(j, 0, 5), start = journal_cursor_position(c), some;

    (void)state;
    assert_int_equal(read_from(c, 0), n);
    commit_all(c);
    for (int i = 0; i < 10; i++)
        (void)read_one(other);
    some = journal_cursor_position(other);
    commit_all(other);
    journal_free_committed(j);
    assert_int_equal(journal_cursor_seek(c, some), some);
    assert_int_equal(journal_cursor_committed(c), some);
    assert_int_equal(read_from(other, 10), n);
    commit_all(other);
    journal_free_committed(j); /* only `c` holds it now */
    assert_int_equal(journal_tend(j, NULL), ERR_OK);
    assert_int_equal(read_from(c, 10), n);
    /* what is in the same segment is there as well, although both committed it */
    assert_int_equal(journal_cursor_seek(c, start), start);
    assert_int_equal(read_from(c, 0), n);
    commit_all(c);
    journal_free_committed(j);
    /* and now it is gone */
    assert_true(journal_cursor_seek(c, start) > some);
    journal_cursor_free(c);
    journal_cursor_free(other);
    journal_close(j);
}

static void test_a_new_consumer_can_ask_for_what_an_old_run_released_within_its_segment(void **state)
{
    struct journal *j = open_it(MAX_BYTES);
    struct journal_cursor *c = journal_cursor_new(j, "c");
    uint64_t first = settle(j, 0);

    (void)state;
    (void)settle(j, 1);
    (void)settle(j, 2);
    assert_int_equal(read_one(c), 0);
    assert_int_equal(read_one(c), 1);
    commit_all(c);
    journal_free_committed(j);
    journal_cursor_free(c);
    journal_close(j);
    j = open_it(MAX_BYTES);
    c = journal_cursor_new(j, "c");
    assert_true(journal_cursor_position(c) > first);
    assert_int_equal(journal_cursor_seek(c, first), first);
    assert_int_equal(read_from(c, 0), 3);
    journal_cursor_free(c);
    journal_close(j);
}

/* ---- what open requests need ---- */

static void test_an_open_request_keeps_its_statement_although_nobody_said_so_yet(void **state)
{
    struct journal *j = open_it(16 * JOURNAL_SEGMENT);
    struct journal_cursor *c = journal_cursor_new(j, "c");
    struct journal_record r;
    struct err err;
    uint64_t n, opened;

    (void)state;
    (void)settle(j, 0);
    opened = reserve(j, 1);
    n = fill(j, 2, 4);
    while (journal_cursor_read(c, &r, &err))
        ;
    commit_all(c);
    journal_free_committed(j);
    journal_cursor_free(c);
    journal_close(j);
    j = open_it(16 * JOURNAL_SEGMENT);
    c = journal_cursor_new(j, "c");
    assert_int_equal(journal_cursor_position(c), opened);
    assert_int_equal(read_from(c, 1), n);
    journal_cursor_free(c);
    journal_close(j);
}

static void test_a_request_that_restates_itself_lets_the_journal_forget(void **state)
{
    struct journal *j = open_it(256 * JOURNAL_SEGMENT);
    struct journal_cursor *c = journal_cursor_new(j, "c");
    struct journal_record r;
    struct fact_open o = sample_open(1);
    struct err err;
    uint64_t opened = reserve(j, 1);
    unsigned restated = 0;

    (void)state;
    for (uint64_t n = 2; restated < 10; n++) {
        (void)settle(j, n);
        assert_int_equal(journal_tend(j, NULL), ERR_OK);
        if (journal_is_far_behind(j, opened)) {
            assert_true(walk_sequence_of(journal_last(j)) > walk_sequence_of(opened) + 4);
            assert_int_equal(journal_progress(j, &o), ERR_OK);
            opened = journal_last(j);
            assert_false(journal_is_far_behind(j, opened));
            journal_set_needed(j, opened);
            restated++;
        }
        while (journal_cursor_read(c, &r, &err))
            ;
        commit_all(c);
        journal_free_committed(j);
    }
    assert_true(journal_stats_mt(j).bytes > 150 * JOURNAL_SEGMENT);
    assert_true(journal_stats_mt(j).used_bytes <
                110 * JOURNAL_SEGMENT); /* with those ahead of a busy worker */
    journal_cursor_free(c);
    journal_close(j);
}

static void test_a_consumer_that_stands_still_fills_the_journal_and_nothing_is_lost(void **state)
{
    struct journal *j = open_it(6 * JOURNAL_SEGMENT);
    struct journal_cursor *live = journal_cursor_new(j, "live"), *stuck = journal_cursor_new(j, "stuck");
    uint64_t n = 0;

    (void)state;
    while (journal_has_room(j)) {
        (void)settle(j, n++);
        (void)read_one(live);
        commit_all(live);
        journal_free_committed(j);
        assert_int_equal(journal_tend(j, NULL), ERR_OK);
    }
    assert_true(journal_stats_mt(j).used_bytes <= 6 * JOURNAL_SEGMENT);
    assert_int_equal(read_from(stuck, 0), n);
    commit_all(stuck);
    journal_free_committed(j);
    assert_int_equal(journal_tend(j, NULL), ERR_OK);
    assert_true(journal_has_room(j));
    journal_cursor_free(live);
    journal_cursor_free(stuck);
    journal_close(j);
}

/* ---- consumers without a store of their own ---- */

static void test_a_kept_position_outlives_the_process_although_another_consumer_is_behind(void **state)
{
    struct journal *j = open_it(MAX_BYTES);
    struct journal_cursor *log = journal_cursor_new(j, "log"), *store = journal_cursor_new(j, "store");

    (void)state;
    journal_cursor_keep(log);
    for (uint64_t n = 0; n < 30; n++)
        (void)settle(j, n);
    for (uint64_t n = 0; n < 25; n++)
        assert_int_equal(read_one(log), n);
    commit_all(log);
    journal_free_committed(j); /* nothing: the store is out */
    journal_cursor_free(log);
    journal_cursor_free(store);
    journal_close(j);
    for (int run = 0; run < 2; run++) {
        j = open_it(MAX_BYTES);
        store = journal_cursor_new(j, "store");
        log = journal_cursor_new(j, "log");
        journal_cursor_keep(log);
        assert_int_equal(read_from(log, 25), 30);
        assert_int_equal(read_from(store, 0), 30);
        journal_cursor_free(log);
        journal_cursor_free(store);
        journal_close(j);
    }
}

static void test_a_damaged_kept_position_repeats_and_skips_nothing(void **state)
{
    struct journal *j = open_it(MAX_BYTES);
    struct journal_cursor *log = journal_cursor_new(j, "log");
    char path[128];
    FILE *f;

    (void)state;
    journal_cursor_keep(log);
    for (uint64_t n = 0; n < 3; n++)
        (void)settle(j, n);
    assert_int_equal(read_from(log, 0), 3);
    commit_all(log);
    journal_cursor_free(log);
    journal_close(j);
    (void)snprintf(path, sizeof(path), "%s/w0/log.at", dir);
    f = fopen(path, "r+e");
    assert_non_null(f);
    assert_int_equal(fseek(f, 9, SEEK_SET), 0);
    assert_int_equal(fputc(0xee, f), 0xee);
    (void)fclose(f);
    j = open_it(MAX_BYTES);
    log = journal_cursor_new(j, "log");
    journal_cursor_keep(log);
    assert_int_equal(read_from(log, 0), 3);
    journal_cursor_free(log);
    journal_close(j);
}

static void test_sequence_numbers_never_come_twice_not_even_when_a_directory_went_away(void **state)
{
    struct journal *j = open_it(MAX_BYTES);
    uint64_t last = settle(j, 0);

    (void)state;
    journal_close(j);
    scratch_remove(dir);
    (void)mkdir(dir, 0700);
    (void)usleep(20000); /* a unit of the clock that they begin with */
    j = open_it(MAX_BYTES);
    assert_true(settle(j, 1) > last);
    journal_close(j);
}

static void test_a_retired_journal_goes_away_when_all_its_consumers_are_done(void **state)
{
    struct journal *j = open_it(MAX_BYTES);
    struct journal_cursor *a, *b;
    char path[128];
    uint64_t n = fill(j, 0, 3);

    (void)state;
    journal_close(j);
    (void)snprintf(path, sizeof(path), "%s/w0", dir);
    for (int run = 0; run < 2; run++) {
        j = open_it(0);
        assert_false(journal_has_room(j));
        a = journal_cursor_new(j, "a");
        b = journal_cursor_new(j, "b");
        journal_cursor_keep(a);
        assert_int_equal(read_from(a, run ? n : 0), n);
        commit_all(a);
        if (run) {
            assert_int_equal(read_from(b, 0), n);
            commit_all(b);
        }
        journal_free_committed(j);
        assert_int_equal(journal_tend(j, NULL), ERR_OK);
        journal_cursor_free(a);
        journal_cursor_free(b);
        journal_close(j);
        assert_int_equal(access(path, F_OK), run ? -1 : 0);
    }
}

static void test_lag_is_zero_when_all_is_committed_and_grows_while_something_is_not(void **state)
{
    struct journal *j = open_it(MAX_BYTES);
    struct journal_cursor *c = journal_cursor_new(j, "c");
    struct wall later = {wall_now().us + 5000000};

    (void)state;
    assert_int_equal(journal_cursor_lag_us_mt(c, later), 0);
    (void)settle(j, 0);
    assert_true(journal_cursor_lag_us_mt(c, later) > 4000000);
    (void)read_from(c, 0);
    assert_true(journal_cursor_lag_us_mt(c, later) > 4000000);
    commit_all(c);
    assert_int_equal(journal_cursor_lag_us_mt(c, later), 0);
    journal_cursor_free(c);
    journal_close(j);
}

/* ---- threads ---- */

#define MANY 40000u

struct run {
    struct journal *j;
    _Atomic bool is_written;
    _Atomic unsigned readers;
};

struct reader {
    struct run *run;
    struct journal_cursor *c;
    unsigned batch;  /* records between commits */
    bool goes_back;  /* now and then, below its commit */
    uint64_t number; /* next */
    bool is_bad;
};

static void *write_many(void *user)
{
    struct run *run = user;

    for (uint64_t n = 0; n < MANY;) {
        struct fact_request rq = sample_request(n);
        struct fact_attempt a[FACT_ATTEMPTS];

        sample_attempts(n, a);
        if (journal_has_room(run->j) && journal_settle(run->j, &rq, a) == ERR_OK)
            n++;
        else
            (void)usleep(100);
    }
    atomic_store(&run->is_written, true);
    return NULL;
}

static void go_back(struct reader *r, uint64_t committed, uint64_t number)
{
    struct journal_record rec;
    struct err err;
    uint64_t at = journal_cursor_seek(r->c, committed > 4000 ? committed - 4000 : 0);

    r->is_bad |= at > committed;
    do { /* each of them comes again, none is left out */
        if (!journal_cursor_read(r->c, &rec, &err)) {
            r->is_bad = true;
            return;
        }
    } while (sample_number(record_id(&rec)) < number - 1);
    r->is_bad |= sample_number(record_id(&rec)) != number - 1;
}

static void *read_many(void *user)
{
    struct reader *r = user;
    struct journal_record rec;
    struct err err;
    unsigned n = 0;

    while (r->number < MANY && !r->is_bad) {
        if (!journal_cursor_read(r->c, &rec, &err)) {
            r->is_bad |= err.code != ERR_OK;
            (void)usleep(200);
            continue;
        }
        r->is_bad |= sample_number(record_id(&rec)) != r->number++;
        if (++n % r->batch)
            continue;
        commit_all(r->c);
        if (r->goes_back && n % (16 * r->batch) == 0)
            go_back(r, journal_cursor_committed(r->c), r->number);
    }
    commit_all(r->c);
    atomic_fetch_sub(&r->run->readers, 1);
    return NULL;
}

static void *sync_many(void *user)
{
    struct run *run = user;

    while (atomic_load(&run->readers)) {
        if (journal_sync_mt(run->j))
            atomic_store(&run->readers, 0);
        (void)usleep(500);
    }
    return NULL;
}

static void test_three_consumers_on_threads_lose_and_repeat_nothing(void **state)
{
    struct run run = {.j = open_it(8 * JOURNAL_SEGMENT), .readers = 3};
    struct reader r[3] = {{.run = &run, .batch = 1},
                          {.run = &run, .batch = 100, .goes_back = true},
                          {.run = &run, .batch = 1000}};
    pthread_t threads[3], writer, syncer;

    (void)state;
    for (int i = 0; i < 3; i++)
        r[i].c = journal_cursor_new(run.j, "abc");
    assert_int_equal(pthread_create(&writer, NULL, write_many, &run), 0);
    assert_int_equal(pthread_create(&syncer, NULL, sync_many, &run), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_many, &r[i]), 0);
    while (atomic_load(&run.readers)) {
        journal_free_committed(run.j);
        (void)journal_tend(run.j, NULL);
        (void)journal_stats_mt(run.j);
        for (int i = 0; i < 3; i++)
            (void)journal_cursor_lag_us_mt(r[i].c, wall_now());
        (void)usleep(300);
    }
    (void)pthread_join(writer, NULL);
    (void)pthread_join(syncer, NULL);
    for (int i = 0; i < 3; i++) {
        (void)pthread_join(threads[i], NULL);
        assert_false(r[i].is_bad);
        assert_int_equal(r[i].number, MANY);
        journal_cursor_free(r[i].c);
    }
    assert_true(journal_stats_mt(run.j).used_bytes <= 8 * JOURNAL_SEGMENT);
    journal_close(run.j);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_each_consumer_reads_at_its_own_pace),
        T(test_the_slowest_consumer_keeps_the_segments),
        T(test_the_next_run_begins_where_the_slowest_committed),
        T(test_a_commit_amid_a_record_counts_only_what_is_whole_below_it),
        T(test_a_consumer_gets_only_the_types_it_wants),
        T(test_a_seek_finds_the_first_record_at_or_above),
        T(test_a_consumer_that_goes_back_below_its_commit_keeps_what_it_reads_again),
        T(test_a_new_consumer_can_ask_for_what_an_old_run_released_within_its_segment),
        T(test_an_open_request_keeps_its_statement_although_nobody_said_so_yet),
        T(test_a_request_that_restates_itself_lets_the_journal_forget),
        T(test_a_consumer_that_stands_still_fills_the_journal_and_nothing_is_lost),
        T(test_a_kept_position_outlives_the_process_although_another_consumer_is_behind),
        T(test_a_damaged_kept_position_repeats_and_skips_nothing),
        T(test_sequence_numbers_never_come_twice_not_even_when_a_directory_went_away),
        T(test_a_retired_journal_goes_away_when_all_its_consumers_are_done),
        T(test_lag_is_zero_when_all_is_committed_and_grows_while_something_is_not),
        T(test_three_consumers_on_threads_lose_and_repeat_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
