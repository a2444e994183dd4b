/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/resilience/choose.h"

#include <math.h>
#include <string.h>

#include "tests/unit/cm.h"

#define N 3u

static size_t order[N];

static void choose(enum config_strategy s, const struct choice *c, uint64_t random)
{
    choose_order(s, c, N, random, order);
}

static void assert_order(size_t a, size_t b, size_t c)
{
    assert_int_equal(order[0], a);
    assert_int_equal(order[1], b);
    assert_int_equal(order[2], c);
}

static void test_priority_keeps_the_configured_order(void **state)
{
    const struct choice c[N] = {{.in_flight = 9}, {.in_flight = 1}, {.in_flight = 5}};

    (void)state;
    choose(STRATEGY_PRIORITY, c, 12345);
    assert_order(0, 1, 2);
}

static void test_weights_are_shares_of_who_is_first(void **state)
{
    const struct choice c[N] = {{.weight = 1}, {.weight = 0}, {.weight = 3}};
    unsigned first[N] = {0};

    (void)state;
    for (uint64_t r = 0; r < 4000; r++) {
        choose(STRATEGY_WEIGHTED, c, r);
        first[order[0]]++;
        assert_true(order[0] == 0 ? order[1] == 1 : order[1] == 0 && order[2] == 1);
    }
    assert_int_equal(first[0], 1000);
    assert_int_equal(first[1], 0);
    assert_int_equal(first[2], 3000);
}

static void test_the_cheapest_is_first_and_what_has_no_price_last(void **state)
{
    const struct choice c[N] = {{.cost_nanousd = -1}, {.cost_nanousd = 700}, {.cost_nanousd = 30}};

    (void)state;
    choose(STRATEGY_COST, c, 1);
    assert_order(2, 1, 0);
}

static void test_health_goes_by_score_with_80_for_who_is_not_known(void **state)
{
    const struct choice c[N] = {{.health = 79}, {.health = NAN}, {.health = 81}};
    const struct choice tied[N] = {{.health = 80}, {.health = NAN}, {.health = 80}};

    (void)state;
    choose(STRATEGY_HEALTH, c, 1);
    assert_order(2, 1, 0);
    choose(STRATEGY_HEALTH, tied, 1);
    assert_order(0, 1, 2);
}

static void test_the_least_busy_is_first_and_chance_decides_between_equals(void **state)
{
    const struct choice c[N] = {{.in_flight = 4}, {.in_flight = 2}, {.in_flight = 3}};
    const struct choice tied[N] = {{.in_flight = 2}, {.in_flight = 7}, {.in_flight = 2}};
    unsigned first[N] = {0};

    (void)state;
    choose(STRATEGY_LEAST_BUSY, c, 5);
    assert_order(1, 2, 0);
    for (uint64_t r = 0; r < 1000; r++) {
        choose(STRATEGY_LEAST_BUSY, tied, r);
        first[order[0]]++;
        assert_int_equal(order[2], 1);
    }
    assert_int_equal(first[0], 500);
    assert_int_equal(first[2], 500);
}

static void test_latency_prefers_the_fastest_and_explores(void **state)
{
    const struct choice c[N] = {{.latency_us = 900}, {.latency_us = 100}, {.latency_us = 500}};
    unsigned first[N] = {0};

    (void)state;
    for (uint64_t r = 0; r < 40 * CHOOSE_EXPLORE; r++) {
        choose(STRATEGY_LATENCY, c, r);
        first[order[0]]++;
    }
    assert_int_equal(first[1], 40 * (CHOOSE_EXPLORE - 1));
    assert_int_equal(first[0], 20);
    assert_int_equal(first[2], 20);
}

static void test_a_target_never_tried_is_tried_by_one_request_at_a_time(void **state)
{
    struct choice c[N] = {{.latency_us = 100}, {.latency_us = -1}, {.latency_us = 50}};

    (void)state;
    choose(STRATEGY_LATENCY, c, 1);
    assert_order(1, 2, 0);
    c[1].in_flight = 1;
    choose(STRATEGY_LATENCY, c, 1);
    assert_order(2, 0, 1);
    c[1].in_flight = 0;
    c[1].was_tried = true; /* and failed */
    choose(STRATEGY_LATENCY, c, 1);
    assert_order(2, 0, 1);
}

static void test_every_strategy_names_every_target_once(void **state)
{
    (void)state;
    for (int s = STRATEGY_PRIORITY; s <= STRATEGY_LEAST_BUSY; s++)
        for (uint64_t r = 0; r < 2000; r++) {
            struct choice c[N];
            unsigned seen = 0;

            for (unsigned i = 0; i < N; i++) {
                uint64_t x = (r + 1) * (i + 3) * 0x9e3779b97f4a7c15u >> 33;

                c[i] = (struct choice){
                    .weight = (unsigned)(x % 3), .in_flight = (unsigned)(x % 2), .was_tried = x % 5 == 0};
                c[i].latency_us = (int64_t)(x % 4) - 1;
                c[i].cost_nanousd = (int64_t)(x % 3) - 1;
                c[i].health = x % 7 ? (double)(x % 100) : (double)NAN;
            }
            choose((enum config_strategy)s, c, r);
            for (unsigned i = 0; i < N; i++)
                seen |= 1u << order[i];
            assert_int_equal(seen, 7);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_priority_keeps_the_configured_order),
        cmocka_unit_test(test_weights_are_shares_of_who_is_first),
        cmocka_unit_test(test_the_cheapest_is_first_and_what_has_no_price_last),
        cmocka_unit_test(test_health_goes_by_score_with_80_for_who_is_not_known),
        cmocka_unit_test(test_the_least_busy_is_first_and_chance_decides_between_equals),
        cmocka_unit_test(test_latency_prefers_the_fastest_and_explores),
        cmocka_unit_test(test_a_target_never_tried_is_tried_by_one_request_at_a_time),
        cmocka_unit_test(test_every_strategy_names_every_target_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
