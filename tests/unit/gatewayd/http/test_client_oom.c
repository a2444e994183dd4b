/* SPDX-License-Identifier: Apache-2.0 */
/* Each allocation of the loop's thread fails once, in a call from its start to its end: whatever happens, the call ends
 * exactly once, nothing leaks, and the next call is served. Linked with --wrap for malloc, calloc and realloc. */
#include "tests/unit/gatewayd/http/client_rig.h"

static _Thread_local int countdown; /* 0: nothing fails */
static int failures;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

static bool is_to_fail(void)
{
    if (!countdown || --countdown)
        return false;
    failures++;
    return true;
}

void *__wrap_malloc(size_t n)
{
    return is_to_fail() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return is_to_fail() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return is_to_fail() ? NULL : __real_realloc(p, n);
}

/* In small pieces, so that lines and what a pause refuses are kept; and no connection serves two. */
static void answers_in_pieces(struct peer *p)
{
    static const char *const PIECES[] = {"HTTP/1.1 200", " OK\r\nConnection: close\r\nTransfer-Enc",
                                         "oding: chunked\r\n\r\n5\r\nhel", "lo\r\n0\r\n\r\n"};

    if (!peer_read(p))
        return;
    for (size_t i = 0; i < ARRAY_LEN(PIECES); i++) {
        usleep(2000);
        if (!peer_say(p, PIECES[i]))
            return;
    }
    peer_wait_for_close(p);
}

static void call_with_a_pause(struct rig *r, struct probe *p, int fail_at)
{
    int resumes = 0;

    failures = 0;
    start(r, p); /* a call itself is promised */
    countdown = fail_at;
    while (!p->done) {
        loop_turn(r->loop, 20);
        if (p->pauses && p->call && !resumes++)
            client_resume(p->call);
    }
    countdown = 0;
}

static void test_a_call_without_memory_ends_once_and_the_next_is_served(void **state)
{
    int at = 0;

    (void)state;
    do {
        struct probe p = {.pauses_once = true}, next = {0};
        struct rig r;

        open_rig(&r, answers_in_pieces);
        assert_int_equal(buf_reserve(&p.body, 64), ERR_OK); /* the test's own */
        call_with_a_pause(&r, &p, ++at);
        assert_int_equal(p.done, 1);
        if (p.code == ERR_OK)
            assert_string_equal(p.body.p, "hello");
        else
            assert_int_equal(p.code, ERR_NO_MEMORY);
        call(&r, &next);
        assert_int_equal(next.code, ERR_OK);
        assert_string_equal(next.body.p, "hello");
        buf_release(&p.body);
        buf_release(&next.body);
        close_rig(&r);
    } while (failures);
    assert_true(at > 4); /* connection, addresses, half a line, what the pause refused */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_without_memory_ends_once_and_the_next_is_served),
    };

    client_global_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
