/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/api/store_thread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "libshared/base/compiler.h"
#include "tests/unit/cm.h"

#define LETTERS 100

struct note {
    struct letter letter;
    unsigned number;
};

static struct note notes[LETTERS];
static unsigned order[LETTERS];
static _Atomic unsigned n_opened;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static void open_note(struct letter *l)
{
    (void)pthread_mutex_lock(&gate);
    order[n_opened] = CONTAINER_OF(l, struct note, letter)->number;
    (void)pthread_mutex_unlock(&gate);
    atomic_fetch_add(&n_opened, 1);
}

static void make_notes(void)
{
    n_opened = 0;
    for (unsigned i = 0; i < LETTERS; i++)
        notes[i] = (struct note){.letter.fn = open_note, .number = i};
}

static int64_t count_tick(void *user)
{
    atomic_fetch_add((_Atomic unsigned *)user, 1);
    return 1000;
}

static void test_letters_are_opened_in_order_and_all_of_them_by_the_end(void **state)
{
    struct err err = {0};
    struct store_thread *t =
        store_thread_start(&(struct store_thread_options){.name = "test", .max_queued = LETTERS}, &err);

    (void)state;
    assert_non_null(t);
    make_notes();
    for (unsigned i = 0; i < LETTERS; i++)
        assert_true(store_thread_post_mt(t, &notes[i].letter));
    assert_false(store_thread_is_over_mt(t));
    store_thread_stop(t);
    assert_int_equal(n_opened, LETTERS);
    for (unsigned i = 0; i < LETTERS; i++)
        assert_int_equal(order[i], i);
}

static void test_too_many_letters_stay_with_who_posts_them(void **state)
{
    struct err err = {0};
    struct store_thread *t =
        store_thread_start(&(struct store_thread_options){.name = "test", .max_queued = 3}, &err);
    unsigned taken = 0;

    (void)state;
    make_notes();
    (void)pthread_mutex_lock(&gate); /* the first that is opened waits here */
    for (unsigned i = 0; i < LETTERS; i++)
        taken += store_thread_post_mt(t, &notes[i].letter);
    assert_in_range(taken, 3, 4); /* one may be out of the queue and waiting */
    (void)pthread_mutex_unlock(&gate);
    store_thread_stop(t);
    assert_int_equal(n_opened, taken);
}

static void test_it_ticks_by_itself_until_it_is_stopped(void **state)
{
    _Atomic unsigned ticks = 0;
    struct err err = {0};
    struct store_thread *t = store_thread_start(
        &(struct store_thread_options){.name = "test", .tick = count_tick, .user = &ticks, .max_queued = 1},
        &err);

    (void)state;
    while (atomic_load(&ticks) < 3)
        (void)usleep(1000);
    store_thread_stop(t);
    assert_true(ticks >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_letters_are_opened_in_order_and_all_of_them_by_the_end),
        cmocka_unit_test(test_too_many_letters_stay_with_who_posts_them),
        cmocka_unit_test(test_it_ticks_by_itself_until_it_is_stopped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
