/* SPDX-License-Identifier: Apache-2.0 */
/* Ages are shortened to what a test can wait for. */
#include "gatewayd/config/limits.h"
#undef LIMIT_UPSTREAM_IDLE_S
#undef LIMIT_UPSTREAM_SWEEP_US
#define LIMIT_UPSTREAM_IDLE_S   1
#define LIMIT_UPSTREAM_SWEEP_US 100000
#include "gatewayd/http/link.c"

#include "tests/unit/gatewayd/http/client_rig.h"

static atomic_int waiting;

static void answers_together(struct peer *p)
{
    while (peer_read(p)) {
        atomic_fetch_add(&waiting, 1);
        while (atomic_load(&waiting) < 10 && !atomic_load(&p->up->is_stopping))
            usleep(1000);
        if (!peer_say(p, ANSWER))
            return;
    }
}

static void test_connections_that_nobody_uses_are_closed_without_a_new_call(void **state)
{
    struct rig r;
    struct probe p[10] = {0};

    (void)state;
    open_rig(&r, answers_together);
    for (int i = 0; i < 10; i++)
        start(&r, &p[i]);
    for (int i = 0; i < 10; i++) {
        turn_until(&r, &p[i].done);
        assert_int_equal(p[i].code, ERR_OK);
        buf_release(&p[i].body);
    }
    assert_int_equal(atomic_load(&r.up.connections), 10);
    assert_int_equal(atomic_load(&r.up.closed_by_peer), 0);
    turn_until_count(&r, &r.up.closed_by_peer, 10);
    close_rig(&r);
}

static void answers_and_says_goodbye(struct peer *p)
{
    if (peer_read(p) && peer_say(p, ANSWER)) {
        (void)shutdown(p->fd, SHUT_WR);
        peer_wait_for_close(p);
    }
}

static void test_a_connection_that_the_provider_left_is_closed_without_a_new_call(void **state)
{
    struct rig r;
    struct probe p = {0};

    (void)state;
    open_rig(&r, answers_and_says_goodbye);
    call(&r, &p);
    assert_int_equal(p.code, ERR_OK);
    turn_until_count(&r, &r.up.closed_by_peer, 1);
    buf_release(&p.body);
    close_rig(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connections_that_nobody_uses_are_closed_without_a_new_call),
        cmocka_unit_test(test_a_connection_that_the_provider_left_is_closed_without_a_new_call),
    };

    client_global_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
