/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/telemetry/snapshot.h"

#include <pthread.h>
#include <stdatomic.h>

#include "tests/unit/gatewayd/telemetry/scrape.h"

#include "tests/unit/cm.h"

static _Atomic bool is_done;

/* Every exemplar consists of one byte, repeated, and a time that follows from it. */
static void *leave_exemplars(void *arg)
{
    struct fact_request rq = a_request("acme", "a", "m");

    rq.attempts = 0;
    for (unsigned i = 0; !atomic_load(&is_done); i++) {
        memset(rq.trace.b, (int)(i % 255 + 1), sizeof(rq.trace.b));
        rq.arrived.us = NOW_US + (int64_t)(i % 255 + 1);
        facts_add(arg, &rq, NULL);
    }
    return NULL;
}

static void test_an_exemplar_is_never_half_of_one_and_half_of_another(void **state)
{
    struct facts *f = facts_new(NULL);
    struct fact_request rq = a_request("acme", "a", "m");
    struct snapshot s;
    const struct snapshot_kind *k;
    size_t n_read = 0, offset;
    pthread_t writer;

    (void)state;
    rq.attempts = 0;
    cells_admit_mt(KIND_ROUTE, cells_key_of(rq.method, rq.endpoint, 0, 0));
    atomic_store(&is_done, false);
    assert_int_equal(pthread_create(&writer, NULL, leave_exemplars, f), 0);
    snapshot_init(&s, &f, 1, (struct wall){NOW_US});
    while (!(k = snapshot_kind(&s, KIND_ROUTE))->n || !k->cells[0]) { /* until the writer has its cell */
        snapshot_release(&s);
        snapshot_init(&s, &f, 1, (struct wall){NOW_US});
    }
    offset = offsetof(struct route_cell, exemplars) + 7 * sizeof(struct exemplar); /* up to 1 s */
    while (n_read < 500000) {
        struct latest x;

        if (!snapshot_exemplar(&s, k, 0, offset, &x))
            continue;
        n_read++;
        for (size_t i = 1; i < sizeof(x.trace.b); i++)
            assert_int_equal(x.trace.b[i], x.trace.b[0]);
        assert_int_equal(x.at_us, NOW_US + 700000 + x.trace.b[0]);
        assert_int_equal(x.us, 700000);
    }
    atomic_store(&is_done, true);
    (void)pthread_join(writer, NULL);
    snapshot_release(&s);
    facts_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_exemplar_is_never_half_of_one_and_half_of_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
