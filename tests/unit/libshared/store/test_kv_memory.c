/* SPDX-License-Identifier: Apache-2.0 */
/* What only the memory backend can show: its clock is the test's, and its keys can be counted. */
#include "tests/unit/cm.h"

#include "libshared/store/kv_memory.c"

static int64_t now_s;

static struct wall clock_of(void *user)
{
    (void)user;
    return (struct wall){now_s * 1000000};
}

static struct kv *open_at(int64_t s)
{
    now_s = s;
    return kv_memory_new(&(struct kv_options){.now = clock_of});
}

static void count_row(void *user, struct span field, struct span value)
{
    (void)field;
    (void)value;
    ++*(unsigned *)user;
}

static unsigned keys_seen(struct kv *kv)
{
    unsigned n = 0;

    assert_int_equal(kv_scan(kv, "{gw}:", count_row, &n, NULL), ERR_OK);
    return n;
}

static void put(struct kv *kv, const char *key, int64_t ttl_s)
{
    struct kv_batch *b = kv_batch_new();

    kv_batch_add(b, key, "n", 1);
    kv_batch_expire(b, key, ttl_s, false);
    assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
    kv_batch_free(b);
}

static void test_a_key_is_gone_for_readers_when_its_time_has_come(void **state)
{
    struct kv *kv = open_at(1000);
    unsigned fields = 0;

    (void)state;
    put(kv, "{gw}:a", 10);
    now_s = 1009;
    assert_int_equal(keys_seen(kv), 1);
    now_s = 1010;
    assert_int_equal(keys_seen(kv), 0);
    assert_int_equal(kv_hash(kv, "{gw}:a", count_row, &fields, NULL), ERR_OK);
    assert_int_equal(fields, 0);
    kv_free(kv);
}

static void test_a_writer_sweeps_what_nobody_reads(void **state)
{
    struct memory *m = calloc(1, sizeof(*m));
    struct kv *kv;
    char key[64];

    (void)state;
    assert_non_null(m);
    (void)pthread_mutex_init(&m->lock, NULL);
    m->handles = 1;
    m->now = clock_of;
    kv = kv_wrap(&MEMORY_OPS, m);
    for (now_s = 0; now_s < 20000; now_s++) { /* ten-second buckets of three models, for hours */
        (void)snprintf(key, sizeof(key), "{gw}:t:%d:%d", (int)(now_s / 10), (int)(now_s % 3));
        put(kv, key, 900);
        assert_true(HASH_COUNT(m->keys) <= 3 * 92);
    }
    now_s = 5; /* a clock that was set back does not stop the sweep */
    put(kv, "{gw}:b", 1);
    now_s = 30000;
    put(kv, "{gw}:c", 1);
    assert_int_equal(HASH_COUNT(m->keys), 1);
    kv_free(kv);
}

static void keep_id(void *user, struct span field, struct span value)
{
    (void)value;
    buf_add(user, field);
    buf_addc(user, ' ');
}

static void test_event_ids_rise_although_the_clock_steps_back(void **state)
{
    struct kv *kv = open_at(1000);
    struct buf ids AUTO(buf_release) = {0};
    struct kv_batch *b = kv_batch_new();

    (void)state;
    for (int i = 0; i < 3; i++) {
        kv_batch_event(b, "{gw}:e", SPAN_LIT("{}"), 5);
        kv_batch_expire(b, "{gw}:e", 100000, false);
        assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
        kv_batch_clear(b);
        now_s -= 100;
    }
    assert_int_equal(kv_events(kv, "{gw}:e", 5, keep_id, &ids, NULL), ERR_OK);
    assert_string_equal(ids.p, "1000000-2 1000000-1 1000000-0 ");
    kv_batch_free(b);
    kv_free(kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_key_is_gone_for_readers_when_its_time_has_come),
        cmocka_unit_test(test_a_writer_sweeps_what_nobody_reads),
        cmocka_unit_test(test_event_ids_rise_although_the_clock_steps_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
