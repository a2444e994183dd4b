/* SPDX-License-Identifier: Apache-2.0 */
/* What a full journal keeps free, and for whom. */
#include "gatewayd/journal/journal.h"

#include "tests/unit/gatewayd/journal/facts_sample.h"

#include "tests/unit/cm.h"

#define MAX_BYTES (4 * JOURNAL_SEGMENT)

static char dir[64];
static struct journal *journal;
static struct journal_cursor *cursor;
static uint64_t n_open;

/* As many open requests as it takes. */
static int setup(void **state)
{
    struct fact_open o = sample_open(1);
    struct err err = {0};

    (void)state;
    scratch_make(dir);
    journal = journal_open(dir, 0, MAX_BYTES, &err);
    assert_non_null(journal);
    cursor = journal_cursor_new(journal, "test");
    o.reservation.at = wall_now();
    for (n_open = 0; journal_has_room(journal); n_open++) {
        assert_int_equal(journal_reserve(journal, &o), ERR_OK);
        assert_int_equal(journal_tend(journal, NULL), ERR_OK);
    }
    assert_true(n_open > 100);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    journal_cursor_free(cursor);
    journal_close(journal);
    scratch_remove(dir);
    return 0;
}

static void assert_all_can_end(void)
{
    for (uint64_t i = 0; i < n_open; i++) {
        struct fact_request rq = sample_request(i);
        struct fact_attempt a[FACT_ATTEMPTS];
        struct fact_context c = sample_context(i);

        sample_attempts(i, a);
        rq.reservation.at = wall_now();
        assert_int_equal(journal_attempt(journal, &c, &a[0]), ERR_OK);
        assert_int_equal(journal_settle(journal, &rq, a), ERR_OK);
    }
}

static enum err_code refuse_one(void)
{
    struct fact_request rq = {.id = sample_id(1),
                              .arrived = wall_now(),
                              .status = STATUS_REJECTED,
                              .error = ERR_JOURNAL_FULL,
                              .http_status = 503,
                              .op = OP_CHAT};
    struct fact_attempt none[FACT_ATTEMPTS] = {{0}};

    return journal_settle(journal, &rq, none);
}

static void test_refusals_do_not_use_up_what_open_requests_need(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100000; i++)
        assert_int_equal(refuse_one(), ERR_JOURNAL_FULL);
    assert_all_can_end();
}

static void test_corrections_do_not_either(void **state)
{
    struct fact_adjust a = sample_adjust(1);

    (void)state;
    for (unsigned i = 0; i < 20000; i++)
        assert_int_equal(journal_adjust(journal, &a), ERR_JOURNAL_FULL);
    assert_all_can_end();
}

static void test_refusals_are_on_record_again_when_there_is_room(void **state)
{
    struct journal_record r;
    struct err err = {0};

    (void)state;
    assert_all_can_end();
    while (journal_cursor_read(cursor, &r, &err))
        assert_int_equal(err.code, ERR_OK);
    journal_cursor_commit(cursor, journal_cursor_position(cursor));
    journal_set_needed(journal, UINT64_MAX);
    journal_free_committed(journal);
    assert_int_equal(journal_tend(journal, NULL), ERR_OK);
    assert_int_equal(refuse_one(), ERR_OK);
    assert_true(journal_cursor_read(cursor, &r, &err));
    assert_int_equal(r.type, JOURNAL_SETTLE);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest TESTS[] = {
        T(test_refusals_do_not_use_up_what_open_requests_need),
        T(test_corrections_do_not_either),
        T(test_refusals_are_on_record_again_when_there_is_room),
    };

    return cmocka_run_group_tests_name("room", TESTS, NULL, NULL);
}
