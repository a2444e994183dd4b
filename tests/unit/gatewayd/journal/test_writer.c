/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/gatewayd/journal/writer_scene.h"

/* ---- tests ---- */

static void test_a_batch_is_folded_once_a_second_and_committed_when_the_store_has_it(void **state)
{
    struct writer *w = writer_of(2, false);

    (void)state;
    settle_many(0, 0, 10);
    settle_many(1, 10, 5);
    run(w, 3);
    assert_once(0, 15);
    assert_int_equal(store.applies, 1);
    assert_int_equal(store.mark.n, 2);
    assert_true(store.mark.token != 0 && store.mark.token <= INT64_MAX);
    assert_int_equal(stats_of(w).records, 15);
    assert_int_equal(stats_of(w).last_records, 15);
    assert_true(is_committed(w));

    settle_many(0, 15, 3);
    run(w, 1);
    settle_many(0, 18, 3);
    run(w, 2);
    assert_once(0, 21);
    assert_int_equal(store.applies, 3);
    assert_true(store.idles >= 3);
    run(w, 5);
    assert_int_equal(store.applies, 3); /* nothing to say, nothing is sent */
    assert_int_equal(stats_of(w).lag_us, 0);
    writer_free(w);
}

static void test_a_lost_reply_counts_once(void **state)
{
    struct writer *w = writer_of(2, false);

    (void)state;
    store.fates[0] = LOSES_REPLY;
    store.n_fates = 1;
    settle_many(0, 0, 10);
    run(w, 3);
    assert_once(0, 10);
    assert_int_equal(stats_of(w).duplicates, 1);
    assert_int_equal(stats_of(w).errors, 1);
    assert_int_equal(stats_of(w).batches, 1);
    assert_false(stats_of(w).is_down);
    writer_free(w);
}

static void test_a_failed_batch_is_sent_again_as_it_was_and_nothing_is_committed_before(void **state)
{
    struct writer *w = writer_of(2, false);
    struct watermark first;
    uint64_t committed;

    (void)state;
    for (size_t i = 0; i < 5; i++)
        store.fates[i] = FAILS;
    store.n_fates = 5;
    settle_many(0, 0, 10);
    committed = journal_cursor_committed(w->cursors[0]);
    (void)writer_step(w);
    (void)writer_step(w);
    first = store.last_next;
    assert_true(stats_of(w).is_down);
    assert_string_equal(stats_of(w).error, "the store is ill");
    settle_many(0, 10, 10); /* they come later, not into the open batch */
    while (store.at < 5) {
        int64_t us = writer_step(w);

        assert_true(watermark_equal(&first, &store.last_next));
        assert_true(us >= 50000 && us <= 2000000);
        assert_int_equal(journal_cursor_committed(w->cursors[0]), committed);
        mono.us += us;
        wall.us += us;
    }
    assert_true(stats_of(w).lag_us > 0);
    run(w, 5);
    assert_once(0, 20);
    assert_int_equal(store.mark.batch, 2);
    assert_int_equal(stats_of(w).errors, 5);
    assert_false(stats_of(w).is_down);
    assert_true(is_committed(w));
    writer_free(w);
}

static void test_a_backlog_larger_than_one_batch_goes_in_several_at_once(void **state)
{
    struct writer *w = writer_of(2, false);

    (void)state;
    store.max = 100;
    settle_many(0, 0, 950);
    settle_many(1, 950, 30);
    run(w, 1);
    assert_once(0, 980);
    assert_int_equal(stats_of(w).batches, 10);
    writer_free(w);
}

static void test_a_busy_worker_does_not_hold_up_the_others(void **state)
{
    struct writer *w = writer_of(2, false);
    unsigned quiet = 0;

    (void)state;
    store.max = 200;
    settle_many(0, 0, 1000);
    settle_many(1, 1000, 50);
    (void)writer_step(w);
    (void)writer_step(w);
    for (uint64_t i = 1000; i < 1050; i++)
        quiet += store.times[i];
    assert_int_equal(store.applies, 1);
    assert_int_equal(quiet, 50);
    writer_free(w);
}

static void test_an_unreadable_watermark_is_asked_for_until_it_comes(void **state)
{
    struct writer *w = writer_of(2, false);

    (void)state;
    store.is_deaf = true;
    settle_many(0, 0, 10);
    run(w, 10);
    assert_int_equal(store.applies, 0);
    assert_true(stats_of(w).errors >= 5 && stats_of(w).errors <= 20);
    assert_true(stats_of(w).lag_us > 0);
    store.is_deaf = false;
    run(w, 4);
    assert_once(0, 10);
    writer_free(w);
}

static void test_the_next_run_goes_on_where_the_store_is(void **state)
{
    struct writer *w = writer_of(2, false);

    (void)state;
    settle_many(0, 0, 10);
    run(w, 2);
    settle_many(0, 10, 10);
    store.fates[0] = WORKS;
    store.fates[1] = LOSES_REPLY; /* and then the process dies */
    store.n_fates = 2;
    store.at = 1;
    while (store.at < 2)
        run(w, 1);
    writer_free(w);
    close_journals();

    open_journals(2);
    w = writer_of(2, false);
    settle_many(1, 20, 10);
    run(w, 3);
    assert_once(0, 30);
    assert_int_equal(stats_of(w).mismatches, 0);
    assert_int_equal(stats_of(w).gaps, 0);
    assert_int_equal(stats_of(w).records, 10);
    writer_free(w);
}

static void test_a_store_that_went_back_gets_what_it_forgot(void **state)
{
    struct writer *w = writer_of(2, false);
    struct watermark before;

    (void)state;
    settle_many(0, 0, 10);
    run(w, 2);
    before = store.mark;
    settle_many(0, 10, 10);
    settle_many(1, 20, 5);
    run(w, 2);
    assert_once(0, 25);
    store.mark = before; /* restored from a copy */
    memset(store.times + 10, 0, 15 * sizeof(store.times[0]));
    settle_many(0, 25, 5);
    run(w, 4);
    assert_once(0, 30);
    assert_int_equal(stats_of(w).mismatches, 1);
    assert_int_equal(stats_of(w).gaps, 0);
    writer_free(w);
}

static void test_a_store_that_is_sent_nothing_is_asked_now_and_then(void **state)
{
    struct writer *w = writer_of(2, false);
    struct watermark before;

    (void)state;
    settle_many(0, 0, 10);
    run(w, 2);
    before = store.mark;
    settle_many(0, 10, 10);
    run(w, 2);
    store.mark = before; /* forgot, and no record comes that would show it */
    memset(store.times + 10, 0, 10 * sizeof(store.times[0]));
    run(w, 8);
    assert_once(0, 20);
    assert_false(stats_of(w).is_down);
    store.is_deaf = true;
    run(w, 8);
    assert_true(stats_of(w).is_down);
    store.is_deaf = false;
    run(w, 4);
    assert_false(stats_of(w).is_down);
    assert_once(0, 20);
    writer_free(w);
}

static void test_a_store_that_is_ahead_is_followed(void **state)
{
    struct writer *w = writer_of(2, false), *other;

    (void)state;
    settle_many(0, 0, 10);
    run(w, 2);
    settle_many(0, 10, 10);
    other = writer_of(2, false); /* a late batch of a process that was thought dead */
    run(other, 1);
    writer_free(other);
    settle_many(1, 20, 10);
    run(w, 4);
    assert_once(0, 30);
    assert_int_equal(stats_of(w).mismatches, 1);
    writer_free(w);
}

static void test_a_store_that_refuses_for_ever_is_not_asked_in_a_loop(void **state)
{
    struct writer *w = writer_of(2, false);

    (void)state;
    for (size_t i = 0; i < 32; i++)
        store.fates[i] = REFUSES;
    store.n_fates = 32;
    settle_many(0, 0, 10);
    run(w, 10);
    assert_true(store.applies <= 25);
    store.n_fates = 0;
    run(w, 4);
    assert_once(0, 10);
    writer_free(w);
}

static void test_an_empty_store_gets_what_the_journal_still_has(void **state)
{
    struct writer *w = writer_of(2, false);

    (void)state;
    settle_many(0, 0, 10);
    run(w, 2);
    memset(&store.mark, 0, sizeof(store.mark));
    memset(store.times, 0, sizeof(store.times));
    settle_many(0, 10, 10);
    run(w, 4);
    assert_once(0, 20);
    writer_free(w);
}

static void fill_segment(unsigned worker, uint64_t n)
{
    uint64_t before = journal_last(journals[worker]);

    for (unsigned i = 0; i < 4000; i++)
        settle(worker, n);
    assert_true(journal_last(journals[worker]) > before);
}

static void tend(unsigned worker)
{
    struct err err = {0};

    journal_free_committed(journals[worker]);
    assert_int_equal(journal_tend(journals[worker], &err), ERR_OK);
}

static void test_records_that_nobody_has_any_more_are_told_of_once_and_passed_over(void **state)
{
    struct writer *w = writer_of(2, false);
    struct watermark before;

    (void)state;
    settle(0, 0);
    run(w, 2);
    before = store.mark;
    for (unsigned i = 0; i < 4; i++) {
        tend(0);
        fill_segment(0, 1);
        run(w, 3);
        tend(0);
    }
    store.mark = before; /* what follows it was given away */
    settle(0, 2);
    run(w, 4);
    assert_true(stats_of(w).gaps > 0);
    assert_once(2, 1);
    writer_free(w);
}

static void test_a_late_batch_of_before_the_store_went_back_is_not_taken_for_a_new_one(void **state)
{
    struct writer *w = writer_of(2, false);
    struct watermark before, late;

    (void)state;
    settle_many(0, 0, 10);
    run(w, 2);
    before = store.mark;
    settle_many(0, 10, 10);
    run(w, 2);
    late = store.mark; /* a batch that follows this one is on its way, slowly */
    store.mark = before;
    memset(store.times + 10, 0, 10 * sizeof(store.times[0]));
    settle_many(0, 20, 10);
    run(w, 6);
    assert_once(0, 30);
    assert_true(store.mark.batch >= late.batch && store.mark.token != late.token);
    writer_free(w);
}

/* Such as one that came back empty and is filled from another store, which is behind. */
static void test_nothing_is_forgotten_while_a_store_does_not_say_where_it_is(void **state)
{
    struct writer *w = writer_of(2, false);
    struct watermark before;

    (void)state;
    settle_many(0, 0, 10);
    run(w, 2);
    before = store.mark;
    settle_many(0, 10, 10);
    for (unsigned i = 0; i < 3; i++) {
        fill_segment(0, 21);
        assert_int_equal(journal_tend(journals[0], NULL), ERR_OK);
        run(w, 3);
    }
    assert_true(is_committed(w));
    store.mark = before;
    memset(store.times, 0, sizeof(store.times));
    store.is_deaf = true;
    settle(0, 20);
    run(w, 2);
    tend(0);
    store.is_deaf = false;
    run(w, 6);
    assert_once(10, 11);
    assert_int_equal(stats_of(w).gaps, 0);
    writer_free(w);
}

static void test_more_and_fewer_workers_than_before_keep_their_places(void **state)
{
    struct writer *w;
    uint64_t third;

    (void)state;
    open_journals(0);
    journals[2] = journal_open(dir, 2, MAX_BYTES, NULL);
    assert_non_null(journals[2]);
    w = writer_of(3, false);
    settle_many(0, 0, 3);
    settle_many(2, 3, 3);
    run(w, 2);
    writer_free(w);
    assert_int_equal(store.mark.n, 3);
    third = store.mark.at[2];

    w = writer_of(1, false);
    settle_many(0, 6, 3);
    run(w, 2);
    writer_free(w);
    assert_int_equal(store.mark.n, 3);
    assert_int_equal(store.mark.at[2], third);

    journals[3] = journal_open(dir, 3, MAX_BYTES, NULL);
    assert_non_null(journals[3]);
    settle_many(2, 9, 3);
    settle_many(3, 12, 3);
    w = writer_of(4, false);
    run(w, 2);
    assert_once(0, 15);
    assert_int_equal(store.mark.n, 4);
    assert_int_equal(stats_of(w).gaps, 0);
    writer_free(w);
}

/* A store may be filled from another that has not heard of a worker yet. */
static void test_a_worker_that_the_store_does_not_name_is_read_from_its_beginning(void **state)
{
    struct watermark before;
    struct writer *w;

    (void)state;
    open_journals(0);
    journals[2] = journal_open(dir, 2, MAX_BYTES, NULL);
    assert_non_null(journals[2]);
    w = writer_of(1, false);
    settle_many(0, 0, 3);
    run(w, 2);
    before = store.mark;
    writer_free(w);

    w = writer_of(3, false);
    settle_many(2, 3, 3);
    run(w, 2);
    assert_once(0, 6);
    store.mark = before;
    for (uint64_t n = 3; n < 6; n++)
        store.times[n] = 0;
    settle_many(0, 6, 1);
    run(w, 6);
    assert_once(0, 7);
    assert_int_equal(store.mark.n, 3);
    assert_int_equal(stats_of(w).gaps, 0);
    writer_free(w);
}

static void reopen(unsigned worker, size_t max_bytes)
{
    struct err err = {0};

    if (journals[worker])
        journal_close(journals[worker]);
    journals[worker] = journal_open(dir, worker, max_bytes, &err);
    if (!journals[worker])
        fail_msg("%s", err_text(&err));
}

static void test_a_worker_that_pauses_for_a_run_or_two_lacks_nothing(void **state)
{
    uint64_t next = 0;

    (void)state;
    for (unsigned round = 0; round < 6; round++) {
        struct writer *w = writer_of(2, false);

        settle_many(0, next, 3);
        next += 3;
        if (round % 3 == 0) {
            settle_many(1, next, 3);
            next += 3;
        }
        run(w, 2);
        assert_int_equal(stats_of(w).gaps, 0);
        journal_free_committed(journals[1]);
        writer_free(w);
        reopen(0, MAX_BYTES);
        reopen(1, (round + 1) % 3 == 0 ? MAX_BYTES : 0);
    }
    assert_once(0, next);
}

static void test_records_of_other_types_do_not_hold_the_journal(void **state)
{
    struct writer *w = writer_of(2, false);
    struct fact_open o = sample_open(1);

    (void)state;
    for (int i = 0; i < 10; i++)
        assert_int_equal(journal_progress(journals[0], &o), ERR_OK);
    run(w, 2);
    assert_int_equal(stats_of(w).records, 0);
    assert_true(is_committed(w));
    writer_free(w);
}

/* A script made of chance: whatever the store does, each record is there once. */
static void test_whatever_happens_every_record_is_in_the_store_once(void **state)
{
    uint64_t next = 0;

    (void)state;
    for (unsigned life = 0; life < 40; life++) {
        struct writer *w = writer_of(2, false);

        store.max = 1 + chance(NULL) % 40;
        store.at = 0;
        store.n_fates = 12;
        for (size_t i = 0; i < store.n_fates; i++)
            store.fates[i] = (enum fate)(chance(NULL) % 4);
        for (unsigned i = 0; i < 20; i++) {
            unsigned n = (unsigned)(chance(NULL) % 5);

            settle_many((unsigned)(chance(NULL) % 2), next, n);
            next += n;
            for (unsigned s = 0; s < 3; s++)
                mono.us += writer_step(w);
        }
        writer_free(w); /* in the middle of whatever it was doing */
        close_journals();
        open_journals(2);
    }
    struct writer *w = writer_of(2, false);
    store.n_fates = 0;
    run(w, 5);
    assert_once(0, next);
    assert_int_equal(stats_of(w).gaps, 0);
    writer_free(w);
}

static void test_the_thread_brings_everything_to_the_store_before_it_stops(void **state)
{
    struct writer *w = writer_of(2, true);
    struct err err = {0};

    (void)state;
    settle_many(0, 0, 100);
    assert_int_equal(writer_start(w, &err), ERR_OK);
    for (unsigned i = 0; i < 2000 && stats_of(w).records < 100; i++)
        (void)usleep(1000);
    assert_int_equal(stats_of(w).records, 100);
    store.fates[0] = FAILS; /* nobody applies now: nothing is there to be sent */
    store.at = 0;
    store.n_fates = 1;
    settle_many(0, 100, 100);
    writer_wake_mt(w);
    settle_many(1, 200, 100);
    writer_stop(w, 20 * (int64_t)SECOND_US);
    assert_once(0, 300);
    writer_free(w);
}

static void test_a_store_that_is_down_does_not_hold_up_the_end(void **state)
{
    struct writer *w = writer_of(2, true);
    struct err err = {0};
    struct mono before = mono_now();

    (void)state;
    store.is_deaf = true;
    settle_many(0, 0, 10);
    assert_int_equal(writer_start(w, &err), ERR_OK);
    writer_stop(w, 200000);
    assert_true(mono_diff_us(mono_now(), before) < 20 * (int64_t)SECOND_US);
    assert_false(is_committed(w));
    writer_free(w);

    store.is_deaf = false;
    w = writer_of(2, false);
    run(w, 2);
    assert_once(0, 10);
    writer_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(test_a_batch_is_folded_once_a_second_and_committed_when_the_store_has_it),
        T(test_a_lost_reply_counts_once),
        T(test_a_failed_batch_is_sent_again_as_it_was_and_nothing_is_committed_before),
        T(test_a_backlog_larger_than_one_batch_goes_in_several_at_once),
        T(test_a_busy_worker_does_not_hold_up_the_others),
        T(test_an_unreadable_watermark_is_asked_for_until_it_comes),
        T(test_the_next_run_goes_on_where_the_store_is),
        T(test_a_store_that_went_back_gets_what_it_forgot),
        T(test_a_store_that_is_sent_nothing_is_asked_now_and_then),
        T(test_a_store_that_is_ahead_is_followed),
        T(test_a_store_that_refuses_for_ever_is_not_asked_in_a_loop),
        T(test_an_empty_store_gets_what_the_journal_still_has),
        T(test_records_that_nobody_has_any_more_are_told_of_once_and_passed_over),
        T(test_a_late_batch_of_before_the_store_went_back_is_not_taken_for_a_new_one),
        T(test_nothing_is_forgotten_while_a_store_does_not_say_where_it_is),
        T(test_more_and_fewer_workers_than_before_keep_their_places),
        T(test_a_worker_that_the_store_does_not_name_is_read_from_its_beginning),
        T(test_a_worker_that_pauses_for_a_run_or_two_lacks_nothing),
        T(test_records_of_other_types_do_not_hold_the_journal),
        T(test_whatever_happens_every_record_is_in_the_store_once),
        T(test_the_thread_brings_everything_to_the_store_before_it_stops),
        T(test_a_store_that_is_down_does_not_hold_up_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
