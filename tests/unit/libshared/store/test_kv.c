/* SPDX-License-Identifier: Apache-2.0 */
/* One suite, run on memory and on a real redis-server: both give the same answers. */
#include <inttypes.h>

#include "libshared/base/buf.h"
#include "libshared/store/kv_keys.h"
#include "tests/unit/libshared/store/kv_scene.h"

#define K      "{gw}:test"
#define TWO_53 (INT64_C(1) << 53)

/* ---- what a store holds, as text ---- */

struct pairs {
    struct {
        char *name, *value;
    } v[70000];
    size_t n;
};
static struct pairs pairs;

static char *copy_of(struct span s)
{
    char *p = malloc(s.len + 1);

    assert_non_null(p);
    memcpy(p, s.p, s.len);
    p[s.len] = '\0';
    return p;
}

static void on_pair(void *user, struct span name, struct span value)
{
    struct pairs *p = user;

    assert_true(p->n < ARRAY_LEN(p->v));
    p->v[p->n].name = copy_of(name);
    p->v[p->n++].value = copy_of(value);
}

static void forget(struct pairs *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->v[i].name);
        free(p->v[i].value);
    }
    p->n = 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "name=value name=value", sorted unless the order is the store's. Borrowed until the next call. */
static const char *text_of(struct pairs *p, bool is_sorted, bool with_names)
{
    static struct buf out;

    buf_clear(&out);
    buf_addz(&out, "");
    if (is_sorted && p->n)
        qsort(p->v, p->n, sizeof(p->v[0]), by_name);
    for (size_t i = 0; i < p->n; i++)
        buf_addf(&out, "%s%s%s%s", i ? " " : "", with_names ? p->v[i].name : "", with_names ? "=" : "",
                 p->v[i].value);
    forget(p);
    return out.p ? out.p : "";
}

static const char *hash(struct kv *kv, const char *key)
{
    assert_int_equal(kv_hash(kv, key, on_pair, &pairs, NULL), ERR_OK);
    return text_of(&pairs, true, true);
}
static const char *indexed(struct kv *kv, const char *key, int64_t min, int64_t max)
{
    assert_int_equal(kv_index(kv, key, min, max, on_pair, &pairs, NULL), ERR_OK);
    return text_of(&pairs, false, true);
}
static const char *list(struct kv *kv, const char *key, unsigned n)
{
    assert_int_equal(kv_list(kv, key, n, on_pair, &pairs, NULL), ERR_OK);
    return text_of(&pairs, false, false);
}
static const char *events(struct kv *kv, const char *key, unsigned n)
{
    assert_int_equal(kv_events(kv, key, n, on_pair, &pairs, NULL), ERR_OK);
    return text_of(&pairs, false, false);
}
static int64_t ttl(struct kv *kv, const char *key)
{
    int64_t found = -2;

    assert_int_equal(kv_scan(kv, key, on_pair, &pairs, NULL), ERR_OK);
    for (size_t i = 0; i < pairs.n; i++)
        if (strcmp(pairs.v[i].name, key) == 0)
            found = strtoll(pairs.v[i].value, NULL, 10);
    forget(&pairs);
    return found;
}

static void write_ok(struct kv *kv, struct kv_batch *b)
{
    struct err err = {0};

    if (kv_write(kv, b, &err))
        fail_msg("%s", err_text(&err));
    kv_batch_clear(b);
}

static enum err_code write_code(struct kv *kv, struct kv_batch *b)
{
    struct err err = {0};
    enum err_code e = kv_write(kv, b, &err);

    assert_int_equal(e, err.code);
    if (e)
        assert_true(err.text[0]);
    kv_batch_clear(b);
    return e;
}

/* ---- operations ---- */

static void test_a_hash_is_added_to_set_and_unset(void **state)
{
    struct kv *kv = kv_fresh();
    struct kv_batch *b = kv_batch_new();

    (void)state;
    kv_batch_add(b, K, "a", 5);
    kv_batch_add(b, K, "a", -7);
    kv_batch_set(b, K, "b", SPAN_LIT("x\0y"));
    kv_batch_set(b, K, "gone", SPAN_LIT("z"));
    kv_batch_unset(b, K, "gone");
    kv_batch_unset(b, K, "never");
    kv_batch_expire(b, K, 100, false);
    assert_int_equal(kv_batch_ops(b), 4);
    write_ok(kv, b);
    assert_string_equal(hash(kv, K), "a=-2 b=x");
    kv_batch_add(b, K, "a", TWO_53);
    kv_batch_set(b, K, "b", SPAN_LIT("7"));
    kv_batch_add(b, K, "b", 4);
    kv_batch_unset(b, K, "c");
    kv_batch_add(b, K, "c", 3);
    kv_batch_expire(b, K, 100, false);
    write_ok(kv, b);
    assert_string_equal(hash(kv, K), "a=9007199254740990 b=11 c=3");
    assert_string_equal(hash(kv, "{gw}:none"), "");
    kv_batch_unset(b, K, "a");
    kv_batch_unset(b, K, "b");
    kv_batch_unset(b, K, "c");
    write_ok(kv, b);
    assert_int_equal(ttl(kv, K), -2); /* an empty hash is no key */
    kv_batch_free(b);
    kv_free(kv);
}

static void test_a_list_keeps_the_newest(void **state)
{
    struct kv *kv = kv_fresh();
    struct kv_batch *b = kv_batch_new();
    char text[8];

    (void)state;
    for (int i = 0; i < 9; i++) {
        (void)snprintf(text, sizeof(text), "e%d", i);
        kv_batch_push(b, K, span_of(text), i < 8 ? 5 : 3);
    }
    kv_batch_expire(b, K, 100, false);
    write_ok(kv, b);
    assert_string_equal(list(kv, K, 100), "e8 e7 e6");
    assert_string_equal(list(kv, K, 2), "e8 e7");
    kv_batch_free(b);
    kv_free(kv);
}

static void test_an_index_is_read_by_score(void **state)
{
    struct kv *kv = kv_fresh();
    struct kv_batch *b = kv_batch_new();

    (void)state;
    kv_batch_index(b, K, "b", 20);
    kv_batch_index(b, K, "c", 10);
    kv_batch_index(b, K, "a", 20);
    kv_batch_index(b, K, "d", -TWO_53);
    kv_batch_index(b, K, "c", 30);
    kv_batch_index(b, K, "e", TWO_53);
    kv_batch_expire(b, K, 100, false);
    write_ok(kv, b);
    assert_string_equal(indexed(kv, K, INT64_MIN, INT64_MAX),
                        "d=-9007199254740992 a=20 b=20 c=30 e=9007199254740992");
    assert_string_equal(indexed(kv, K, 20, 29), "a=20 b=20");
    kv_batch_free(b);
    kv_free(kv);
}

static void test_events_come_newest_first_and_are_capped(void **state)
{
    struct kv *kv = kv_fresh();
    struct kv_batch *b = kv_batch_new();
    char text[16];

    (void)state;
    for (int i = 0; i < 700; i++) {
        (void)snprintf(text, sizeof(text), "{\"n\":%d}", i);
        kv_batch_event(b, K, span_of(text), 100);
    }
    kv_batch_expire(b, K, 100, false);
    write_ok(kv, b);
    assert_string_equal(events(kv, K, 2), "{\"n\":699} {\"n\":698}");
    assert_int_equal(kv_events(kv, K, 100000, on_pair, &pairs, NULL), ERR_OK);
    assert_in_range(pairs.n, 100, 200); /* the cap is approximate */
    forget(&pairs);
    kv_batch_free(b);
    kv_free(kv);
}

static void test_delete_comes_before_what_follows_it(void **state)
{
    struct kv *kv = kv_fresh();
    struct kv_batch *b = kv_batch_new();

    (void)state;
    kv_batch_add(b, K, "a", 5);
    kv_batch_expire(b, K, 1000, false);
    write_ok(kv, b);
    kv_batch_add(b, K, "a", 1);
    kv_batch_delete(b, K);
    kv_batch_push(b, K, SPAN_LIT("x"), 3);
    kv_batch_expire(b, K, 50, false);
    write_ok(kv, b);
    assert_string_equal(list(kv, K, 9), "x");
    assert_in_range(ttl(kv, K), 49, 50); /* the old key's time went with it */
    kv_batch_delete(b, K);
    write_ok(kv, b);
    assert_int_equal(ttl(kv, K), -2);
    kv_batch_free(b);
    kv_free(kv);
}

static void test_a_time_to_live_only_grows_unless_it_is_exact(void **state)
{
    struct kv *kv = kv_fresh();
    struct kv_batch *b = kv_batch_new();
    static const struct {
        int64_t ttl;
        bool is_exact;
        int64_t then;
    } STEPS[] = {{100, false, 100}, {50, false, 100}, {200, false, 200},
                 {30, true, 30},    {0, true, 1},     {60, false, 60}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(STEPS); i++) {
        kv_batch_add(b, K, "a", 1);
        kv_batch_expire(b, K, STEPS[i].ttl, STEPS[i].is_exact);
        write_ok(kv, b);
        assert_in_range(ttl(kv, K), STEPS[i].then - 1, STEPS[i].then);
    }
    kv_batch_expire(b, K, 500, false); /* without another operation */
    write_ok(kv, b);
    assert_in_range(ttl(kv, K), 499, 500);
    kv_batch_expire(b, "{gw}:none", 500, false);
    write_ok(kv, b);
    assert_int_equal(ttl(kv, "{gw}:none"), -2);
    kv_batch_free(b);
    kv_free(kv);
}

static void test_a_key_that_had_no_time_to_live_gets_one(void **state)
{
    struct kv *kv = kv_fresh();
    struct kv_batch *b = kv_batch_new();
    char answer[64];

    (void)state;
    kv_batch_set(b, K, "a", SPAN_LIT("1"));
    kv_batch_expire(b, K, 100, false);
    write_ok(kv, b);
    if (on_redis)
        redis_server_ask(&server, "PERSIST " K, answer, sizeof(answer));
    kv_batch_add(b, K, "a", 1);
    kv_batch_expire(b, K, 70, false);
    write_ok(kv, b);
    assert_in_range(ttl(kv, K), 69, on_redis ? 70 : 100);
    kv_batch_free(b);
    kv_free(kv);
}

/* ---- refusals ---- */

static void seed_types(struct kv *kv, struct kv_batch *b)
{
    kv_batch_set(b, "{gw}:hash", "n", SPAN_LIT("9007199254740990"));
    kv_batch_set(b, "{gw}:hash", "word", SPAN_LIT("x"));
    kv_batch_set(b, "{gw}:hash", "zero", SPAN_LIT("007"));
    kv_batch_set(b, "{gw}:hash", "huge", SPAN_LIT("9007199254740993"));
    kv_batch_push(b, "{gw}:list", SPAN_LIT("x"), 3);
    kv_batch_expire(b, "{gw}:hash", 100, false);
    kv_batch_expire(b, "{gw}:list", 100, false);
    write_ok(kv, b);
}

/* Good work on both sides of the operation that is refused. */
static void around(struct kv_batch *b, int which)
{
    kv_batch_add(b, "{gw}:a-first", "x", 1);
    kv_batch_expire(b, "{gw}:a-first", 100, false);
    if (which == 0)
        kv_batch_add(b, "{gw}:hash", "n", 3);
    if (which == 1)
        kv_batch_add(b, "{gw}:hash", "word", 1);
    if (which == 2)
        kv_batch_add(b, "{gw}:hash", "zero", 1);
    if (which == 3)
        kv_batch_add(b, "{gw}:hash", "huge", -5);
    if (which == 4)
        kv_batch_add(b, "{gw}:list", "f", 1);
    if (which == 5)
        kv_batch_push(b, "{gw}:hash", SPAN_LIT("x"), 3);
    if (which == 6)
        kv_batch_index(b, "{gw}:hash", "x", 3);
    if (which == 7)
        kv_batch_event(b, "{gw}:hash", SPAN_LIT("{}"), 3);
    if (which == 8)
        kv_batch_add(b, "{gw}:new", "f", TWO_53 + 1);
    if (which == 9) {
        kv_batch_add(b, "{gw}:new", "f", TWO_53);
        kv_batch_add(b, "{gw}:new", "f", 1);
    }
    if (which == 10)
        kv_batch_index(b, "{gw}:new", "f", -TWO_53 - 1);
    if (which == 11) {
        kv_batch_set(b, "{gw}:new", "f", SPAN_LIT("-0"));
        kv_batch_add(b, "{gw}:new", "f", 1);
    }
    if (which == 12) {
        kv_batch_set(b, "{gw}:new", "f", SPAN_LIT("1"));
        kv_batch_push(b, "{gw}:new", SPAN_LIT("1"), 1);
    }
    kv_batch_expire(b, "{gw}:new", 100, false);
    kv_batch_expire(b, "{gw}:hash", 100, false);
    kv_batch_expire(b, "{gw}:list", 100, false);
    kv_batch_add(b, "{gw}:z-last", "x", 1);
    kv_batch_expire(b, "{gw}:z-last", 100, false);
}

static void test_a_refused_batch_leaves_nothing_behind(void **state)
{
    struct watermark next = {.batch = 1, .token = 7, .n = 1}, found;
    struct kv *kv = kv_fresh();
    struct kv_batch *b = kv_batch_new();
    bool is_found;

    (void)state;
    seed_types(kv, b);
    for (int which = 0; which < 13; which++) {
        struct err err = {0};

        around(b, which);
        assert_int_equal(kv_apply(kv, "i", &(struct watermark){0}, &next, b, &err), STORE_FAILED);
        assert_int_equal(err.code, ERR_CONFLICT);
        assert_int_equal(write_code(kv, b), ERR_CONFLICT);
        assert_string_equal(hash(kv, "{gw}:a-first"), "");
        assert_string_equal(hash(kv, "{gw}:z-last"), "");
        assert_string_equal(hash(kv, "{gw}:hash"),
                            "huge=9007199254740993 n=9007199254740990 word=x zero=007");
        assert_string_equal(list(kv, "{gw}:list", 9), "x");
        assert_int_equal(kv_watermark(kv, "i", &found, &is_found, NULL), ERR_OK);
        assert_false(is_found);
    }
    kv_batch_add(b, "{gw}:hash", "n", 2); /* exactly 2^53 is allowed */
    kv_batch_expire(b, "{gw}:hash", 100, false);
    write_ok(kv, b);
    kv_batch_free(b);
    kv_free(kv);
}

static void test_a_batch_without_a_time_to_live_or_that_keeps_nothing_is_refused(void **state)
{
    struct kv *kv = kv_fresh();
    struct kv_batch *b = kv_batch_new();

    (void)state;
    kv_batch_add(b, K, "a", 1);
    assert_int_equal(write_code(kv, b), ERR_BAD_REQUEST);
    kv_batch_push(b, K, SPAN_LIT("a"), 0);
    kv_batch_expire(b, K, 9, false);
    assert_int_equal(write_code(kv, b), ERR_BAD_REQUEST);
    assert_int_equal(ttl(kv, K), -2);
    write_ok(kv, b); /* an empty one is fine */
    kv_batch_free(b);
    kv_free(kv);
}

static void test_reading_a_key_of_another_type_is_refused(void **state)
{
    struct kv *kv = kv_fresh();
    struct kv_batch *b = kv_batch_new();
    struct err err = {0};
    bool has;

    (void)state;
    seed_types(kv, b);
    assert_int_equal(kv_hash(kv, "{gw}:list", on_pair, &pairs, &err), ERR_CONFLICT);
    assert_int_equal(kv_index(kv, "{gw}:list", 0, 1, on_pair, &pairs, &err), ERR_CONFLICT);
    assert_int_equal(kv_list(kv, "{gw}:hash", 1, on_pair, &pairs, &err), ERR_CONFLICT);
    assert_int_equal(kv_events(kv, "{gw}:hash", 1, on_pair, &pairs, &err), ERR_CONFLICT);
    assert_int_equal(pairs.n, 0);
    assert_int_equal(kv_has_begun(kv, &has, &err), ERR_OK); /* the connection is still good */
    assert_true(has);
    kv_batch_free(b);
    kv_free(kv);
}

/* ---- the watermark ---- */

static struct kv_batch *one_more(void)
{
    struct kv_batch *b = kv_batch_new();

    kv_batch_add(b, K, "n", 1);
    kv_batch_expire(b, K, 100, false);
    return b;
}

static void test_a_batch_counts_once(void **state)
{
    struct watermark none = {0}, first = {.batch = 1, .token = UINT64_MAX, .n = 2, .at = {5, UINT64_MAX}};
    struct watermark second = {.batch = 2, .token = UINT64_MAX - 1, .n = 2, .at = {6, 7}}, found;
    struct kv_batch *b = one_more();
    struct kv *kv = kv_fresh();
    bool is_found = true;

    (void)state;
    assert_int_equal(kv_watermark(kv, "i", &found, &is_found, NULL), ERR_OK);
    assert_false(is_found);
    assert_int_equal(kv_apply(kv, "i", &none, &first, b, NULL), STORE_APPLIED);
    assert_int_equal(kv_apply(kv, "i", &none, &first, b, NULL), STORE_DUPLICATE);
    assert_string_equal(hash(kv, K), "n=1");
    assert_int_equal(kv_watermark(kv, "i", &found, &is_found, NULL), ERR_OK);
    assert_true(is_found && watermark_equal(&found, &first));
    assert_int_equal(kv_apply(kv, "i", &first, &second, b, NULL), STORE_APPLIED);
    assert_int_equal(kv_apply(kv, "i", &first, &second, b, NULL), STORE_DUPLICATE);
    assert_int_equal(kv_apply(kv, "i", &none, &first, b, NULL), STORE_MISMATCH); /* late */
    assert_int_equal(kv_watermark(kv, "i", &found, &is_found, NULL), ERR_OK);
    assert_true(watermark_equal(&found, &second));
    assert_string_equal(hash(kv, K), "n=2");
    assert_int_equal(kv_apply(kv, "j", &none, &first, b, NULL), STORE_APPLIED); /* instances do not meet */
    assert_in_range(ttl(kv, "{gw}:seq:i"), KV_TTL_WATERMARK_S - 5, KV_TTL_WATERMARK_S);
    kv_batch_free(b);
    kv_free(kv);
}

/* Tokens that differ only beyond the 53rd bit, which a double does not keep. */
static void test_another_process_is_not_taken_for_the_same(void **state)
{
    struct watermark none = {0}, mine = {.batch = 1, .token = UINT64_C(0xfffffffffffffff0), .n = 1};
    struct watermark other = mine, next = {.batch = 2, .token = 1, .n = 1};
    struct kv_batch *b = one_more();
    struct kv *kv = kv_fresh();

    (void)state;
    other.token++;
    assert_int_equal(kv_apply(kv, "i", &none, &mine, b, NULL), STORE_APPLIED);
    assert_int_equal(kv_apply(kv, "i", &none, &other, b, NULL), STORE_MISMATCH);
    assert_int_equal(kv_apply(kv, "i", &other, &next, b, NULL), STORE_MISMATCH);
    assert_string_equal(hash(kv, K), "n=1");
    assert_int_equal(kv_apply(kv, "i", &mine, &next, b, NULL), STORE_APPLIED);
    assert_int_equal(kv_apply(kv, "new", &mine, &next, b, NULL), STORE_MISMATCH); /* the store was emptied */
    assert_int_equal(kv_apply(kv, "new", &none, &none, b, NULL), STORE_FAILED);
    assert_string_equal(hash(kv, K), "n=2");
    kv_batch_free(b);
    kv_free(kv);
}

static void test_a_watermark_that_is_none_is_an_error(void **state)
{
    struct watermark next = {.batch = 1, .token = 1, .n = 1}, found;
    struct kv_batch *b = one_more();
    struct kv *kv = kv_fresh();
    struct err err = {0};
    bool is_found;

    (void)state;
    kv_batch_push(b, "{gw}:seq:i", SPAN_LIT("x"), 1);
    kv_batch_set(b, "{gw}:seq:j", "batch", SPAN_LIT("zwei"));
    kv_batch_expire(b, "{gw}:seq:i", 10, false);
    kv_batch_expire(b, "{gw}:seq:j", 10, false);
    assert_int_equal(kv_write(kv, b, &err), ERR_OK);
    assert_int_equal(kv_watermark(kv, "i", &found, &is_found, &err), ERR_CONFLICT);
    assert_int_equal(kv_watermark(kv, "j", &found, &is_found, &err), ERR_CONFLICT);
    assert_int_equal(kv_apply(kv, "i", &(struct watermark){0}, &next, b, &err), STORE_FAILED);
    assert_int_equal(err.code, ERR_CONFLICT);
    kv_batch_free(b);
    kv_free(kv);
}

/* ---- scanning, size, sharing ---- */

static void test_a_scan_takes_its_prefix_literally_and_never_asks_for_keys(void **state)
{
    static char answer[200000];
    struct kv *kv = kv_fresh();
    struct kv_batch *b = kv_batch_new();
    char key[64];

    (void)state;
    for (int i = 0; i < 5000; i++) {
        (void)snprintf(key, sizeof(key), "{gw}:h:%d", i);
        kv_batch_add(b, key, "n", 1);
        kv_batch_expire(b, key, 100, false);
    }
    kv_batch_set(b, "{gw}:[h]*?", "n", SPAN_LIT("1"));
    kv_batch_expire(b, "{gw}:[h]*?", 100, false);
    write_ok(kv, b);
    assert_int_equal(kv_scan(kv, "{gw}:h:", on_pair, &pairs, NULL), ERR_OK);
    assert_int_equal(pairs.n, 5000);
    for (size_t i = 0; i < pairs.n; i++)
        assert_in_range(strtol(pairs.v[i].value, NULL, 10), 90, 100);
    forget(&pairs);
    assert_int_equal(kv_scan(kv, "{gw}:[h]*?", on_pair, &pairs, NULL), ERR_OK);
    assert_string_equal(text_of(&pairs, true, false), "100");
    if (on_redis) {
        redis_server_ask(&server, "INFO commandstats", answer, sizeof(answer));
        assert_non_null(strstr(answer, "cmdstat_scan:"));
        assert_null(strstr(answer, "cmdstat_keys:"));
    }
    kv_batch_free(b);
    kv_free(kv);
}

static void test_big_batches_are_applied_whole(void **state)
{
    struct kv *kv = kv_fresh();
    struct kv_batch *b = kv_batch_new();
    char field[32];

    (void)state;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 12000; i++) {
            (void)snprintf(field, sizeof(field), "f%d", i);
            kv_batch_add(b, "{gw}:one", field, i);
            kv_batch_set(b, "{gw}:two", field, SPAN_LIT("value"));
            kv_batch_index(b, "{gw}:three", field, i);
            if (round)
                kv_batch_unset(b, "{gw}:four", field);
            else
                kv_batch_set(b, "{gw}:four", field, SPAN_LIT("x"));
        }
        kv_batch_expire(b, "{gw}:one", 100, false);
        kv_batch_expire(b, "{gw}:two", 100, false);
        kv_batch_expire(b, "{gw}:three", 100, false);
        kv_batch_expire(b, "{gw}:four", 100, false);
        assert_int_equal(kv_batch_ops(b), 48000);
        write_ok(kv, b);
    }
    assert_int_equal(kv_hash(kv, "{gw}:one", on_pair, &pairs, NULL), ERR_OK);
    assert_int_equal(pairs.n, 12000);
    for (size_t i = 0; i < pairs.n; i++)
        assert_int_equal(strtol(pairs.v[i].value, NULL, 10), 2 * strtol(pairs.v[i].name + 1, NULL, 10));
    forget(&pairs);
    assert_int_equal(kv_index(kv, "{gw}:three", 0, 20000, on_pair, &pairs, NULL), ERR_OK);
    assert_int_equal(pairs.n, 12000);
    forget(&pairs);
    assert_int_equal(ttl(kv, "{gw}:four"), -2);
    kv_batch_free(b);
    kv_free(kv);
}

static void test_a_shared_handle_sees_the_same_store(void **state)
{
    struct kv *kv = kv_fresh(), *other = kv_share(kv);
    struct kv_batch *b = one_more();

    (void)state;
    assert_non_null(other);
    write_ok(kv, b);
    assert_string_equal(hash(other, K), "n=1");
    kv_free(kv);
    assert_string_equal(hash(other, K), "n=1");
    kv_free(other);
    kv_batch_free(b);
}

/* ---- random batches, the same for both ---- */

static uint64_t dice;

static unsigned roll(unsigned n)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return (unsigned)(dice % n);
}

static const char *const RANDOM_KEYS[] = {"{gw}:r0", "{gw}:r1", "{gw}:r2", "{gw}:r3", "{gw}:r4", "{gw}:r5"};

static void random_operation(struct kv_batch *b)
{
    static const char *const FIELDS[] = {"a", "b", "c", "d", "e", "f"};
    const char *key = RANDOM_KEYS[roll(ARRAY_LEN(RANDOM_KEYS))], *field = FIELDS[roll(ARRAY_LEN(FIELDS))];
    /* Mostly the type that the key's number stands for, so that most batches are taken. */
    unsigned kind = roll(40) ? (unsigned)(key[6] - '0') : roll(6);
    int64_t delta = roll(30) ? (int64_t)roll(1000) - 500 : TWO_53 - 3;
    char value[16];

    (void)snprintf(value, sizeof(value), roll(50) ? "%u" : "v%u", roll(100));
    kv_batch_expire(b, key, 1000 * (1 + (int64_t)roll(50)), !roll(6));
    if (!roll(60))
        kv_batch_delete(b, key);
    switch (kind) {
    case 0:
    case 1:
        if (roll(4))
            kv_batch_add(b, key, field, delta);
        else if (roll(2))
            kv_batch_set(b, key, field, span_of(value));
        else
            kv_batch_unset(b, key, field);
        break;
    case 2:
        kv_batch_push(b, key, span_of(value), 1 + roll(8));
        break;
    case 3:
        kv_batch_event(b, key, span_of(value), 100);
        break;
    default:
        kv_batch_index(b, key, field, delta);
    }
}

/* All that the random keys hold; seconds to live by the hundred, since time passes between the two. */
static void dump(struct kv *kv, struct buf *out)
{
    for (size_t i = 0; i < ARRAY_LEN(RANDOM_KEYS); i++) {
        const char *key = RANDOM_KEYS[i];

        buf_addf(out, "%s %" PRId64 ": ", key, (ttl(kv, key) + 50) / 100);
        if (kv_hash(kv, key, on_pair, &pairs, NULL) == ERR_OK)
            buf_addz(out, text_of(&pairs, true, true));
        if (kv_list(kv, key, 100, on_pair, &pairs, NULL) == ERR_OK)
            buf_addz(out, text_of(&pairs, false, true));
        if (kv_index(kv, key, INT64_MIN, INT64_MAX, on_pair, &pairs, NULL) == ERR_OK)
            buf_addz(out, text_of(&pairs, false, true));
        if (kv_events(kv, key, 100, on_pair, &pairs, NULL) == ERR_OK)
            buf_addz(out, text_of(&pairs, false, false));
        buf_addc(out, '\n');
    }
}

static void test_random_batches_leave_the_same_in_memory_and_in_redis(void **state)
{
    struct kv *redis = kv_fresh(), *memory = kv_new(&(struct kv_options){.url = ""}, NULL);
    struct buf a AUTO(buf_release) = {0}, z AUTO(buf_release) = {0};
    struct kv_batch *b = kv_batch_new();
    unsigned taken = 0, refused = 0;
    struct watermark at = {0};

    (void)state;
    if (!on_redis) {
        kv_free(redis);
        kv_free(memory);
        kv_batch_free(b);
        return;
    }
    assert_int_equal(kv_begin(memory, NULL), ERR_OK);
    dice = UINT64_C(0x9e3779b97f4a7c15);
    for (unsigned i = 0; i < 1000; i++) {
        struct watermark next = {.batch = at.batch + 1, .token = dice, .n = 1, .at = {i}};
        struct err err_r = {0}, err_m = {0};
        enum store_result r, m;

        kv_batch_clear(b);
        for (unsigned n = 1 + roll(12); n; n--)
            random_operation(b);
        r = kv_apply(redis, "i", roll(20) ? &at : &next, &next, b, &err_r);
        m = kv_apply(memory, "i", &at, &next, b, &err_m);
        if (r == STORE_MISMATCH) /* that was asked from a wrong position; now from the right one */
            r = kv_apply(redis, "i", &at, &next, b, &err_r);
        if (r != m || err_r.code != err_m.code)
            fail_msg("batch %u: redis %d '%s', memory %d '%s'", i, (int)r, err_r.text, (int)m, err_m.text);
        taken += r == STORE_APPLIED;
        refused += r == STORE_FAILED;
        if (r == STORE_APPLIED)
            at = next;
        if (i % 10 == 9) {
            buf_clear(&a);
            buf_clear(&z);
            dump(redis, &a);
            dump(memory, &z);
            if (strcmp(a.p, z.p) != 0)
                fail_msg("after batch %u:\nredis:\n%s\nmemory:\n%s", i, a.p, z.p);
        }
    }
    print_message("%u batches taken, %u refused\n", taken, refused);
    assert_true(taken > 300 && refused > 50);
    kv_batch_free(b);
    kv_free(redis);
    kv_free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_hash_is_added_to_set_and_unset),
        cmocka_unit_test(test_a_list_keeps_the_newest),
        cmocka_unit_test(test_an_index_is_read_by_score),
        cmocka_unit_test(test_events_come_newest_first_and_are_capped),
        cmocka_unit_test(test_delete_comes_before_what_follows_it),
        cmocka_unit_test(test_a_time_to_live_only_grows_unless_it_is_exact),
        cmocka_unit_test(test_a_key_that_had_no_time_to_live_gets_one),
        cmocka_unit_test(test_a_refused_batch_leaves_nothing_behind),
        cmocka_unit_test(test_a_batch_without_a_time_to_live_or_that_keeps_nothing_is_refused),
        cmocka_unit_test(test_reading_a_key_of_another_type_is_refused),
        cmocka_unit_test(test_a_batch_counts_once),
        cmocka_unit_test(test_another_process_is_not_taken_for_the_same),
        cmocka_unit_test(test_a_watermark_that_is_none_is_an_error),
        cmocka_unit_test(test_a_scan_takes_its_prefix_literally_and_never_asks_for_keys),
        cmocka_unit_test(test_big_batches_are_applied_whole),
        cmocka_unit_test(test_a_shared_handle_sees_the_same_store),
        cmocka_unit_test(test_random_batches_leave_the_same_in_memory_and_in_redis),
    };

    return KV_SCENE_RUN(tests);
}
