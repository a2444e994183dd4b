/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/core/timer.h"

#include <stdlib.h>

#include "tests/unit/cm.h"

struct probe {
    struct timer t;
    int64_t due_us, fired_at_us;
    int fired;
};
static int64_t now_us;

static void on_fire(struct timer *t)
{
    struct probe *p = (struct probe *)t;

    p->fired++;
    p->fired_at_us = now_us;
}

static void test_a_timer_fires_once_and_never_early_whatever_its_distance(void **state)
{
    static struct probe probes[2000];
    struct timer_wheel w;
    int left = 2000;

    (void)state;
    now_us = 7777777;
    srand(42);
    timer_wheel_init(&w, (struct mono){now_us});
    for (int i = 0; i < 2000; i++) {
        int64_t delay = (int64_t)rand() % (i % 3 ? 200000 : 100000000);

        probes[i] = (struct probe){.t.fn = on_fire, .due_us = now_us + delay};
        timer_arm(&w, &probes[i].t, (struct mono){now_us}, delay);
    }
    while (left) {
        int ms = timer_wheel_next_ms(&w, (struct mono){now_us});

        assert_true(ms >= 0 && ms <= TIMER_SLOTS);
        now_us += ms * 1000 + rand() % 900;
        left -= timer_wheel_run(&w, (struct mono){now_us});
    }
    for (int i = 0; i < 2000; i++) {
        assert_int_equal(probes[i].fired, 1);
        assert_true(probes[i].fired_at_us >= probes[i].due_us);
        assert_true(probes[i].fired_at_us <= probes[i].due_us + 4000);
    }
    assert_int_equal(timer_wheel_next_ms(&w, (struct mono){now_us}), -1);
}

static struct timer_wheel shared;
static struct probe victim, again;

static void cancels_and_rearms(struct timer *t)
{
    timer_cancel(&shared, &victim.t);
    if (again.fired++ == 0)
        timer_arm(&shared, t, (struct mono){now_us}, 5000);
}

static void test_a_timer_may_cancel_another_and_rearm_itself_while_firing(void **state)
{
    (void)state;
    now_us = 1000000;
    timer_wheel_init(&shared, (struct mono){now_us});
    victim = (struct probe){.t.fn = on_fire};
    again = (struct probe){.t.fn = cancels_and_rearms};
    timer_arm(&shared, &victim.t, (struct mono){now_us}, 3000);
    timer_arm(&shared, &again.t, (struct mono){now_us}, 3000);
    for (int i = 0; i < 20; i++) {
        now_us += 1000;
        (void)timer_wheel_run(&shared, (struct mono){now_us});
    }
    assert_int_equal(again.fired, 2);
    assert_int_equal(victim.fired, 0);
    assert_false(timer_is_armed(&victim.t));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_timer_fires_once_and_never_early_whatever_its_distance),
        cmocka_unit_test(test_a_timer_may_cancel_another_and_rearm_itself_while_firing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
