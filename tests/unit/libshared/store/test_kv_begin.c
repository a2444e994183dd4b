/* SPDX-License-Identifier: Apache-2.0 */
/* How a store begins, on memory and on a real redis-server. */
#include <stdlib.h>

#include "libshared/store/kv_keys.h"
#include "tests/unit/libshared/store/kv_scene.h"

#define K "{gw}:test"

static struct kv_batch *one_more(void)
{
    struct kv_batch *b = kv_batch_new();

    kv_batch_add(b, K, "n", 1);
    kv_batch_expire(b, K, 100, false);
    return b;
}

static void take(void *user, struct span field, struct span value)
{
    (void)field;
    *(int64_t *)user = strtoll(value.p, NULL, 10);
}

static int64_t number(struct kv *kv)
{
    int64_t n = 0;

    assert_int_equal(kv_hash(kv, K, take, &n, NULL), ERR_OK);
    return n;
}

static void test_refilling_needs_an_empty_place(void **state)
{
    struct watermark at = {.batch = 9, .token = 4, .n = 1, .at = {77}},
                     later = {.batch = 10, .token = 4, .n = 1};
    struct kv_batch *b = one_more();
    struct kv *kv = kv_not_begun();

    (void)state;
    assert_int_equal(kv_refill(kv, "i", &at, b, NULL), STORE_APPLIED);
    assert_int_equal(kv_refill(kv, "i", &at, b, NULL), STORE_DUPLICATE);
    assert_int_equal(kv_refill(kv, "i", &later, b, NULL), STORE_MISMATCH);
    assert_int_equal(kv_apply(kv, "i", &at, &later, b, NULL), STORE_APPLIED);
    assert_int_equal(number(kv), 2);
    kv_batch_free(b);
    kv_free(kv);
}

static void test_a_store_begins_once_and_takes_no_batch_before(void **state)
{
    struct watermark none = {0}, one = {.batch = 1, .token = 5, .n = 1},
                     at = {.batch = 9, .token = 4, .n = 1, .at = {77}};
    struct kv *kv = kv_not_begun();
    struct kv_batch *b = one_more();
    struct watermark found;
    bool is;

    (void)state;
    assert_int_equal(kv_apply(kv, "new", &none, &one, b, NULL), STORE_MISMATCH);
    assert_int_equal(number(kv), 0);
    assert_int_equal(kv_has_begun(kv, &is, NULL), ERR_OK);
    assert_false(is);
    kv_batch_watermark(b, "other", &at);
    assert_int_equal(kv_refill(kv, "new", &none, b, NULL), STORE_APPLIED);
    assert_int_equal(kv_refill(kv, "new", &none, b, NULL), STORE_MISMATCH);
    assert_int_equal(kv_refill(kv, "third", &one, b, NULL), STORE_MISMATCH);
    assert_int_equal(kv_begin(kv, NULL), ERR_OK);
    assert_int_equal(number(kv), 1);
    assert_int_equal(kv_watermark(kv, "other", &found, &is, NULL), ERR_OK);
    assert_true(is && watermark_equal(&found, &at));
    assert_int_equal(kv_watermark(kv, "new", &found, &is, NULL), ERR_OK);
    assert_false(is);
    assert_int_equal(kv_has_begun(kv, &is, NULL), ERR_OK);
    assert_true(is);
    kv_batch_clear(b);
    kv_batch_add(b, K, "n", 1);
    kv_batch_expire(b, K, 100, false);
    assert_int_equal(kv_apply(kv, "new", &none, &one, b, NULL), STORE_APPLIED);
    assert_int_equal(
        kv_apply(kv, "other", &at, &(struct watermark){.batch = 10, .token = 4, .n = 1}, b, NULL),
        STORE_APPLIED);
    assert_int_equal(number(kv), 3);
    kv_batch_free(b);
    kv_free(kv);
}

/* One whose sign of it was deleted by hand or evicted. */
static void test_a_store_with_watermarks_has_begun(void **state)
{
    struct watermark none = {0}, one = {.batch = 1, .token = 5, .n = 1},
                     two = {.batch = 2, .token = 5, .n = 1};
    struct kv *kv = kv_fresh();
    struct kv_batch *b = one_more();
    bool is;

    (void)state;
    assert_int_equal(kv_apply(kv, "other", &none, &one, b, NULL), STORE_APPLIED);
    kv_batch_clear(b);
    kv_batch_delete(b, KV_BOOKS);
    assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
    kv_batch_clear(b);
    kv_batch_set(b, K, "n", SPAN_LIT("70"));
    kv_batch_expire(b, K, 100, false);
    kv_batch_watermark(b, "other", &two);
    assert_int_equal(kv_refill(kv, "new", &none, b, NULL), STORE_MISMATCH);
    assert_int_equal(number(kv), 1);
    assert_int_equal(kv_has_begun(kv, &is, NULL), ERR_OK);
    assert_true(is);
    kv_batch_free(b);
    kv_free(kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refilling_needs_an_empty_place),
        cmocka_unit_test(test_a_store_begins_once_and_takes_no_batch_before),
        cmocka_unit_test(test_a_store_with_watermarks_has_begun),
    };

    return KV_SCENE_RUN(tests);
}
