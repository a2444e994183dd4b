/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/journal/hold.h"

#include <fcntl.h>

#include "tests/unit/gatewayd/journal/facts_sample.h"

#include "tests/unit/cm.h"

static char dir[64];

static int setup(void **state)
{
    (void)state;
    scratch_make(dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

static struct journal_record attempt(uint64_t request, uint64_t seq, unsigned number)
{
    struct journal_record r = {.type = JOURNAL_ATTEMPT, .seq = seq, .request = sample_id(request)};

    r.attempt.tenant = intern_z("acme");
    r.attempt.key = intern_z("web");
    r.attempt.a = sample_attempt(number);
    return r;
}

static void add(struct hold *h, uint64_t request, uint64_t seq, unsigned number)
{
    struct journal_record r = attempt(request, seq, number);

    assert_true(hold_add(h, 0, &r));
}

static const struct held *settle(struct hold *h, uint64_t request, uint64_t seq)
{
    struct id id = sample_id(request);

    return hold_settle(h, &id, seq);
}

static struct hold *reload(struct hold *old, uint64_t position)
{
    struct hold *h = hold_new();
    struct err err = {0};

    hold_free(old);
    if (hold_load(h, 0, dir, position, &err))
        fail_msg("%s", err_text(&err));
    return h;
}

static void save(struct hold *h)
{
    assert_int_equal(hold_save(h, 0, dir, NULL), ERR_OK);
}

static void test_attempts_come_back_by_number_and_none_twice(void **state)
{
    struct hold *h = hold_new();
    const struct held *e;

    (void)state;
    add(h, 1, 10, 2);
    add(h, 1, 11, 1);
    add(h, 1, 10, 2);
    add(h, 2, 12, 1);
    e = settle(h, 1, 20);
    assert_int_equal(e->n, 2);
    assert_int_equal(e->at[0].a.number, 1);
    assert_int_equal(e->at[1].a.number, 2);
    assert_int_equal(e->tenant, intern_z("acme"));
    assert_null(settle(h, 1, 21));
    assert_int_equal(hold_waiting(h), 1);
    hold_free(h);
}

static void test_nothing_is_written_while_nothing_waits(void **state)
{
    struct hold *h = hold_new();
    char path[80];

    (void)state;
    add(h, 1, 10, 1);
    (void)settle(h, 1, 11);
    save(h);
    hold_saved(h);
    (void)snprintf(path, sizeof(path), "%s/held", dir);
    assert_int_equal(access(path, F_OK), -1);
    add(h, 2, 12, 1);
    save(h);
    assert_int_equal(access(path, F_OK), 0);
    (void)settle(h, 2, 13);
    save(h);
    hold_saved(h);
    save(h);
    assert_int_equal(access(path, F_OK), -1);
    hold_free(h);
}

static void test_what_waits_is_known_to_the_next_run(void **state)
{
    struct hold *h = hold_new();
    struct journal_record again = attempt(1, 10, 1);
    const struct held *e;

    (void)state;
    add(h, 1, 10, 1);
    add(h, 1, 14, 2);
    save(h);
    h = reload(h, 15);
    assert_int_equal(hold_waiting(h), 1);
    assert_true(hold_add(h, 0, &again)); /* the journal still had it: the crash came before it forgot */
    e = settle(h, 1, 30);
    assert_int_equal(e->n, 2);
    assert_true(e->is_recovered);
    assert_int_equal(e->at[1].seq, 14);
    hold_free(h);
}

/* The SETTLE with number 20 was read; the file says so. Whether the journal forgot it decides. */
static void test_a_settled_request_is_dropped_only_when_its_settle_was_forgotten(void **state)
{
    struct hold *h = hold_new();

    (void)state;
    add(h, 1, 10, 1);
    save(h); /* its attempt is forgotten */
    (void)settle(h, 1, 20);
    save(h);
    h = reload(h, 20); /* died before the journal forgot record 20, which will be read again */
    assert_int_equal(hold_waiting(h), 1);
    assert_non_null(settle(h, 1, 20));
    save(h);
    h = reload(h, 21); /* died after */
    assert_int_equal(hold_waiting(h), 0);
    hold_free(h);
}

static void count_them(void *user, const struct held *e)
{
    assert_true(e->is_recovered);
    ++*(int *)user;
}

static void test_what_the_earlier_run_never_settled_is_handed_out_once(void **state)
{
    struct hold *h = hold_new();
    int n = 0;

    (void)state;
    for (uint64_t i = 0; i < 100; i++)
        add(h, i, 10 + i, 1);
    save(h);
    h = reload(h, 200);
    add(h, 500, 300, 1); /* of this run: not touched */
    hold_unsettled(h, 0, count_them, &n);
    assert_int_equal(n, 100);
    hold_unsettled(h, 0, count_them, &n);
    assert_int_equal(n, 100);
    assert_int_equal(hold_waiting(h), 1);
    save(h);
    h = reload(h, 301);
    assert_int_equal(hold_waiting(h), 1);
    hold_free(h);
}

static void test_a_damaged_file_is_reported_and_its_sound_part_used(void **state)
{
    struct hold *h = hold_new();
    struct err err = {0};
    struct stat st;
    char path[80];

    (void)state;
    for (uint64_t i = 0; i < 10; i++)
        add(h, i, 10 + i, 1);
    save(h);
    hold_free(h);
    (void)snprintf(path, sizeof(path), "%s/held", dir);
    assert_int_equal(stat(path, &st), 0);
    for (off_t cut = st.st_size - 1; cut >= 0; cut--) {
        assert_int_equal(truncate(path, cut), 0);
        h = hold_new();
        if (hold_load(h, 0, dir, 100, &err))
            assert_int_equal(err.code, ERR_BAD_BODY);
        else
            assert_int_equal((cut - 8) % ((st.st_size - 8) / 10), 0); /* cut between two entries */
        assert_true(hold_waiting(h) <= 9);
        hold_free(h);
    }
}

static void test_no_more_than_the_maximum_is_held(void **state)
{
    struct hold *h = hold_new();
    struct journal_record r;

    (void)state;
    for (uint64_t i = 0; i < HOLD_MAX; i++)
        add(h, i, 10 + i, 1);
    r = attempt(HOLD_MAX, 1, 1);
    assert_false(hold_add(h, 0, &r));
    r = attempt(0, 1, 2);
    assert_true(hold_add(h, 0, &r)); /* one that waits already may get more */
    hold_free(h);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_attempts_come_back_by_number_and_none_twice),
        T(test_nothing_is_written_while_nothing_waits),
        T(test_what_waits_is_known_to_the_next_run),
        T(test_a_settled_request_is_dropped_only_when_its_settle_was_forgotten),
        T(test_what_the_earlier_run_never_settled_is_handed_out_once),
        T(test_a_damaged_file_is_reported_and_its_sound_part_used),
        T(test_no_more_than_the_maximum_is_held),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
