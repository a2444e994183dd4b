/* SPDX-License-Identifier: Apache-2.0 */
/* The resolver's clock is the test's. */
#include "gatewayd/config/limits.h"
#include "gatewayd/core/loop.h"

static struct mono test_now(const struct loop *l);
#define loop_now test_now
#undef LIMIT_DNS_THREADS
#define LIMIT_DNS_THREADS 3u
#include "gatewayd/http/resolver.c"

#include <unistd.h>

#include "tests/unit/cm.h"

struct asker {
    struct resolver_wait wait;
    enum resolver_state state;
    int told;
};

static struct mono clock_now = {.us = 1000000000};
static struct loop *loop;
static struct mailbox *mailbox;
static struct resolver *resolver;
static atomic_int lookups, running, most_running;
static atomic_bool is_held, is_broken;
static atomic_int last_byte;

static struct mono test_now(const struct loop *l)
{
    (void)l;
    return clock_now;
}

static void pass(int64_t us)
{
    clock_now = mono_add_us(clock_now, us);
}

static void fake(const char *name, struct resolver_answer *out)
{
    int now = atomic_fetch_add(&running, 1) + 1;

    (void)name;
    atomic_fetch_add(&lookups, 1);
    if (now > atomic_load(&most_running))
        atomic_store(&most_running, now);
    while (atomic_load(&is_held))
        usleep(500);
    if (atomic_load(&is_broken)) {
        (void)snprintf(out->why, sizeof(out->why), "broken");
    } else {
        out->n = 2;
        for (int i = 0; i < 2; i++)
            out->addresses[i] = (struct address){
                .family = AF_INET, .bytes = {192, 0, 2, (unsigned char)(atomic_load(&last_byte) + 100 * i)}};
    }
    atomic_fetch_sub(&running, 1);
}

static void on_answer(struct resolver_wait *w, enum resolver_state state)
{
    struct asker *a = CONTAINER_OF(w, struct asker, wait);

    a->told++;
    a->state = state;
}

static int set_up(void **state)
{
    (void)state;
    atomic_store(&lookups, 0);
    atomic_store(&most_running, 0);
    atomic_store(&is_held, false);
    atomic_store(&is_broken, false);
    atomic_store(&last_byte, 1);
    loop = loop_new(NULL);
    mailbox = mailbox_new(loop, NULL);
    resolver = resolver_new(loop, mailbox, fake, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    atomic_store(&is_held, false);
    resolver_free(resolver);
    while (atomic_load(&running))
        usleep(500);
    mailbox_free(mailbox);
    loop_free(loop);
    return 0;
}

static void turn_until(const int *flag)
{
    struct mono limit = mono_add_us(mono_now(), 30000000);

    while (!*flag) {
        assert_true(mono_now().us < limit.us);
        loop_turn(loop, 10);
    }
}

/* Until the lookup that runs has come home. */
static void turn_until_home(int want_lookups)
{
    struct mono limit = mono_add_us(mono_now(), 30000000);

    while (resolver->running || atomic_load(&lookups) < want_lookups) {
        assert_true(mono_now().us < limit.us);
        loop_turn(loop, 10);
    }
}

static struct resolver_name *known(const char *name)
{
    struct asker a = {.wait.fn = on_answer};
    struct resolver_name *n = resolver_name(resolver, span_of(name));

    assert_int_equal(resolver_ask(resolver, n, &a.wait), RESOLVER_WAIT);
    assert_int_equal(a.told, 0);
    turn_until(&a.told);
    return n;
}

static void test_the_first_asker_waits_and_the_next_is_answered_at_once(void **state)
{
    struct asker b = {.wait.fn = on_answer};
    struct resolver_name *n = known("a.example");

    (void)state;
    assert_int_equal(resolver_ask(resolver, n, &b.wait), RESOLVER_KNOWN);
    assert_int_equal(resolver_answer(n)->n, 2);
    assert_int_equal(resolver_generation(n), 1);
    assert_int_equal(atomic_load(&lookups), 1);
}

static void test_askers_of_one_name_share_a_lookup_and_one_may_leave(void **state)
{
    struct asker a = {.wait.fn = on_answer}, b = a, c = a;
    struct resolver_name *n = resolver_name(resolver, SPAN_LIT("a.example"));

    (void)state;
    atomic_store(&is_held, true);
    assert_ptr_equal(n, resolver_name(resolver, SPAN_LIT("A.EXAMPLE")));
    assert_int_equal(resolver_ask(resolver, n, &a.wait), RESOLVER_WAIT);
    assert_int_equal(resolver_ask(resolver, n, &b.wait), RESOLVER_WAIT);
    assert_int_equal(resolver_ask(resolver, n, &c.wait), RESOLVER_WAIT);
    resolver_wait_cancel(&b.wait);
    atomic_store(&is_held, false);
    turn_until(&a.told);
    assert_int_equal(a.told + c.told, 2);
    assert_int_equal(a.state, RESOLVER_KNOWN);
    assert_int_equal(b.told, 0);
    assert_int_equal(atomic_load(&lookups), 1);
}

static void test_old_addresses_are_served_while_new_ones_are_fetched(void **state)
{
    struct asker a = {.wait.fn = on_answer};
    struct resolver_name *n = known("a.example");

    (void)state;
    pass(LIMIT_DNS_FRESH_US - 1);
    assert_int_equal(resolver_ask(resolver, n, &a.wait), RESOLVER_KNOWN);
    assert_int_equal(resolver->running, 0);
    pass(1);
    atomic_store(&last_byte, 2);
    atomic_store(&is_held, true);
    assert_int_equal(resolver_ask(resolver, n, &a.wait), RESOLVER_KNOWN);
    assert_int_equal(resolver_ask(resolver, n, &a.wait), RESOLVER_KNOWN);
    assert_int_equal(resolver_answer(n)->addresses[0].bytes[3], 1);
    atomic_store(&is_held, false);
    turn_until_home(2);
    assert_int_equal(resolver_generation(n), 2);
    assert_int_equal(resolver_answer(n)->addresses[0].bytes[3], 2);
    assert_int_equal(atomic_load(&lookups), 2);
    assert_int_equal(a.told, 0);
}

static void test_addresses_that_did_not_change_are_no_news(void **state)
{
    struct asker a = {.wait.fn = on_answer};
    struct resolver_name *n = known("a.example");

    (void)state;
    pass(LIMIT_DNS_FRESH_US);
    assert_int_equal(resolver_ask(resolver, n, &a.wait), RESOLVER_KNOWN);
    turn_until_home(2);
    assert_int_equal(resolver_generation(n), 1);
}

static void test_an_address_that_answered_stays_first_for_a_while(void **state)
{
    struct asker a = {.wait.fn = on_answer};
    struct resolver_name *n = known("a.example");

    (void)state;
    resolver_prefer(resolver, n, &resolver_answer(n)->addresses[0]);
    assert_int_equal(resolver_generation(n), 1);
    resolver_prefer(resolver, n, &resolver_answer(n)->addresses[1]);
    assert_int_equal(resolver_generation(n), 2);
    assert_int_equal(resolver_answer(n)->addresses[0].bytes[3], 101);
    assert_int_equal(resolver_answer(n)->addresses[1].bytes[3], 1);
    pass(LIMIT_DNS_FRESH_US);
    (void)resolver_ask(resolver, n, &a.wait);
    turn_until_home(2);
    assert_int_equal(resolver_answer(n)->addresses[0].bytes[3], 101);
    assert_int_equal(resolver_generation(n), 2);
    pass(LIMIT_DNS_PREFER_US);
    assert_int_equal(resolver_ask(resolver, n, &a.wait), RESOLVER_WAIT);
    turn_until(&a.told);
    assert_int_equal(resolver_answer(n)->addresses[0].bytes[3], 1);
}

static void test_old_addresses_outlive_a_failing_dns_but_not_for_ever(void **state)
{
    struct asker a = {.wait.fn = on_answer};
    struct resolver_name *n = known("a.example");

    (void)state;
    atomic_store(&is_broken, true);
    pass(LIMIT_DNS_FRESH_US);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(resolver_ask(resolver, n, &a.wait), RESOLVER_KNOWN);
        turn_until_home(2 + i);
        assert_int_equal(resolver_ask(resolver, n, &a.wait), RESOLVER_KNOWN); /* not asked again at once */
        assert_int_equal(resolver->running, 0);
        pass(LIMIT_DNS_NEGATIVE_US);
    }
    pass(LIMIT_DNS_STALE_US);
    assert_int_equal(resolver_ask(resolver, n, &a.wait), RESOLVER_WAIT);
    turn_until(&a.told);
    assert_int_equal(a.state, RESOLVER_FAILED);
    assert_string_equal(resolver_answer(n)->why, "broken");
    assert_int_equal(resolver_stats_mt(resolver).failures, 4);
}

static void test_a_failure_is_remembered_for_a_moment_only(void **state)
{
    struct asker a = {.wait.fn = on_answer};
    struct resolver_name *n;

    (void)state;
    atomic_store(&is_broken, true);
    n = known("a.example");
    assert_int_equal(resolver_ask(resolver, n, &a.wait), RESOLVER_FAILED);
    assert_int_equal(atomic_load(&lookups), 1);
    pass(LIMIT_DNS_NEGATIVE_US);
    atomic_store(&is_broken, false);
    assert_int_equal(resolver_ask(resolver, n, &a.wait), RESOLVER_WAIT);
    turn_until(&a.told);
    assert_int_equal(a.state, RESOLVER_KNOWN);
}

static void test_lookups_in_flight_are_bounded_and_the_rest_take_their_turn(void **state)
{
    struct asker a[8];

    (void)state;
    atomic_store(&is_held, true);
    for (int i = 0; i < 8; i++) {
        char name[] = "a.example";

        name[0] = (char)('a' + i);
        a[i] = (struct asker){.wait.fn = on_answer};
        assert_int_equal(resolver_ask(resolver, resolver_name(resolver, span_of(name)), &a[i].wait),
                         RESOLVER_WAIT);
    }
    assert_int_equal(resolver->running, 3);
    while (atomic_load(&running) < 3)
        usleep(500);
    atomic_store(&is_held, false);
    for (int i = 0; i < 8; i++)
        turn_until(&a[i].told);
    assert_int_equal(atomic_load(&lookups), 8);
    assert_int_equal(atomic_load(&most_running), 3);
}

static void test_strange_names_are_not_asked_for(void **state)
{
    char longest[300];

    (void)state;
    memset(longest, 'a', sizeof(longest));
    assert_null(resolver_name(resolver, SPAN_LIT("")));
    assert_null(resolver_name(resolver, SPAN_LIT("a b")));
    assert_null(resolver_name(resolver, SPAN_LIT("a:1")));
    assert_null(resolver_name(resolver, SPAN_LIT("a,b")));
    assert_null(resolver_name(resolver, SPAN_LIT("*")));
    assert_null(resolver_name(resolver, span_make(longest, 254)));
    assert_non_null(resolver_name(resolver, span_make(longest, 253)));
}

static void test_a_resolver_may_go_before_its_lookups(void **state)
{
    struct asker a = {.wait.fn = on_answer};

    (void)state;
    atomic_store(&is_held, true);
    (void)resolver_ask(resolver, resolver_name(resolver, SPAN_LIT("a.example")), &a.wait);
    while (!atomic_load(&running))
        usleep(500);
    resolver_wait_cancel(&a.wait);
    resolver_free(resolver);
    atomic_store(&is_held, false);
    while (atomic_load(&running))
        usleep(500);
    loop_turn(loop, 0);
    assert_int_equal(a.told, 0);
    resolver = NULL;
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_the_first_asker_waits_and_the_next_is_answered_at_once),
        TEST(test_askers_of_one_name_share_a_lookup_and_one_may_leave),
        TEST(test_old_addresses_are_served_while_new_ones_are_fetched),
        TEST(test_addresses_that_did_not_change_are_no_news),
        TEST(test_an_address_that_answered_stays_first_for_a_while),
        TEST(test_old_addresses_outlive_a_failing_dns_but_not_for_ever),
        TEST(test_a_failure_is_remembered_for_a_moment_only),
        TEST(test_lookups_in_flight_are_bounded_and_the_rest_take_their_turn),
        TEST(test_strange_names_are_not_asked_for),
        TEST(test_a_resolver_may_go_before_its_lookups),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
