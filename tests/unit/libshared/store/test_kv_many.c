/* SPDX-License-Identifier: Apache-2.0 */
/* Several keys at once, from memory and from a real redis-server. */
#include "libshared/base/buf.h"
#include "tests/unit/libshared/store/kv_scene.h"

#define K "{gw}:test"

static void fill(struct kv *kv)
{
    struct kv_batch *b = kv_batch_new();

    kv_batch_add(b, K, "n", 7);
    kv_batch_push(b, "{gw}:list", SPAN_LIT("old"), 5);
    kv_batch_push(b, "{gw}:list", SPAN_LIT("new"), 5);
    kv_batch_index(b, "{gw}:index", "a", 4);
    kv_batch_index(b, "{gw}:index", "b", 5);
    kv_batch_expire(b, K, 100, false);
    kv_batch_expire(b, "{gw}:list", 100, false);
    kv_batch_expire(b, "{gw}:index", 100, false);
    assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
    kv_batch_free(b);
}

static void on_any(void *user, size_t i, struct span field, struct span value)
{
    buf_addf(user, "%zu:%.*s=%.*s ", i, (int)field.len, field.p, (int)value.len, value.p);
}

static void test_many_keys_are_read_and_a_strange_one_is_left_out(void **state)
{
    const struct kv_ask asks[] = {{KV_READ_HASH, K, 0, 0},
                                  {KV_READ_HASH, "{gw}:list", 0, 0},
                                  {KV_READ_LIST, "{gw}:list", 2, 0},
                                  {KV_READ_HASH, "{gw}:none", 0, 0},
                                  {KV_READ_INDEX, "{gw}:index", 5, 10}};
    struct kv *kv = kv_not_begun();
    struct buf text AUTO(buf_release) = {0};
    bool bad[ARRAY_LEN(asks)];
    struct wall now = {0};

    (void)state;
    fill(kv);
    assert_int_equal(kv_read_many(kv, asks, ARRAY_LEN(asks), on_any, &text, bad, &now, NULL), ERR_OK);
    assert_string_equal(text.p, "0:n=7 2:0=new 2:1=old 4:b=5 ");
    for (size_t i = 0; i < ARRAY_LEN(asks); i++)
        assert_int_equal(bad[i], i == 1);
    assert_true(wall_now().us - now.us < 60000000 && now.us - wall_now().us < 60000000);
    kv_free(kv);
}

static void test_a_store_that_is_gone_is_an_error(void **state)
{
    struct kv *kv = kv_new(&(struct kv_options){.url = "unix:///nonexistent/socket"}, NULL);
    const struct kv_ask ask = {KV_READ_HASH, K, 0, 0};
    struct wall now;
    bool bad;

    (void)state;
    assert_int_equal(kv_read_many(kv, &ask, 1, on_any, NULL, &bad, &now, NULL), ERR_UNAVAILABLE);
    kv_free(kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_keys_are_read_and_a_strange_one_is_left_out),
        cmocka_unit_test(test_a_store_that_is_gone_is_an_error),
    };

    return KV_SCENE_RUN(tests);
}
