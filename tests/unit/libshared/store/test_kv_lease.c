/* SPDX-License-Identifier: Apache-2.0 */
/* Leases, run on memory and on a real redis-server: both give the same answers. */
#include <inttypes.h>

#include "libshared/base/buf.h"
#include "libshared/store/kv_keys.h"
#include "libshared/store/kv_lease.h"
#include "tests/unit/libshared/store/kv_scene.h"

#define BUDGET "{gw}:bud:tenant%3Aacme:2026-11"
#define RATE   "{gw}:lim:tenant%3Aacme:requests"
#define SLOTS  "{gw}:lim:tenant%3Aacme:concurrent"

static void empty(struct kv *kv)
{
    struct kv_batch *b = kv_batch_new();

    kv_batch_delete(b, KV_LEASES);
    kv_batch_delete(b, BUDGET);
    assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
    kv_batch_free(b);
}

struct node {
    const char *name;
    int64_t life, sequence, epoch, nodes;
    int64_t ttl_ms;
    bool needs_books, is_partial;
    struct kv_lease_call heard;
    unsigned wanted;
};

static void on_wanted(void *user, struct span key)
{
    assert_true(key.len > 0);
    ((struct node *)user)->wanted++;
}

static enum err_code call(struct kv *kv, struct node *n, struct kv_lease_row *rows, size_t n_rows)
{
    struct err err = {0};
    struct kv_lease_call c = {.instance = n->name,
                              .life = n->life ? n->life : 1,
                              .sequence = ++n->sequence,
                              .epoch = n->epoch,
                              .ttl_ms = n->ttl_ms ? n->ttl_ms : 60000,
                              .grace_ms = n->ttl_ms ? 0 : 60000,
                              .nodes = n->nodes,
                              .needs_books = n->needs_books,
                              .is_partial = n->is_partial,
                              .rows = rows,
                              .n = n_rows,
                              .wanted = on_wanted,
                              .user = n};
    enum err_code e;

    n->wanted = 0;
    e = kv_lease(kv, &c, &err);
    n->heard = c;
    if (!e)
        n->epoch = c.heard_epoch;
    else
        assert_int_equal(e, err.code);
    return e;
}

static struct kv_lease_row money(int64_t granted, int64_t need, int64_t want)
{
    return (struct kv_lease_row){.kind = KV_LEASE_MONEY,
                                 .key = BUDGET,
                                 .limit = 1000,
                                 .ttl_s = 100,
                                 .granted = granted,
                                 .most = INT64_C(1) << 50,
                                 .need = need,
                                 .want = want};
}

/* What is granted from now on. */
static int64_t have(struct kv *kv, struct node *n, int64_t granted, int64_t need, int64_t want)
{
    struct kv_lease_row r = money(granted, need, want);

    assert_int_equal(call(kv, n, &r, 1), ERR_OK);
    return r.got;
}

static void post(struct kv *kv, const char *field, int64_t amount)
{
    struct kv_batch *b = kv_batch_new();

    kv_batch_add(b, BUDGET, "posted", amount);
    if (field)
        kv_batch_drain(b, BUDGET, field, "leased", amount);
    kv_batch_expire(b, BUDGET, 100, false);
    assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
    kv_batch_free(b);
}

struct sought {
    const char *field;
    int64_t value; /* -1: absent */
};

static void seek(void *user, struct span field, struct span value)
{
    struct sought *s = user;

    if (span_is(field, s->field))
        s->value = strtoll(value.p, NULL, 10);
}

static int64_t field(struct kv *kv, const char *key, const char *name)
{
    struct sought s = {name, -1};

    assert_int_equal(kv_hash(kv, key, seek, &s, NULL), ERR_OK);
    return s.value;
}

static void test_what_is_granted_never_passes_the_limit(void **state)
{
    struct kv *kv = kv_fresh();
    struct node a = {.name = "a"}, b = {.name = "b"};

    (void)state;
    assert_int_equal(have(kv, &a, 0, 100, 600), 600);
    assert_int_equal(have(kv, &b, 0, 100, 600), 400); /* less than wanted, enough for the need */
    assert_int_equal(field(kv, BUDGET, "leased"), 1000);
    assert_int_equal(have(kv, &b, 400, 401, 600), 400);
    assert_int_equal(field(kv, BUDGET, "l:b"), 400);
    post(kv, "l:a", 150);
    assert_int_equal(field(kv, BUDGET, "l:a"), 450);
    assert_int_equal(field(kv, BUDGET, "leased"), 850);
    assert_int_equal(field(kv, BUDGET, "posted"), 150);
    assert_int_equal(have(kv, &b, 400, 401, 600), 400); /* what was posted is spent all the same */
    assert_int_equal(have(kv, &a, 500, 500, 500), 500); /* 100 of 600 given back */
    assert_int_equal(field(kv, BUDGET, "l:a"), 350);
    assert_int_equal(have(kv, &b, 400, 500, 600), 500);
    kv_free(kv);
}

static void test_a_batch_takes_no_more_off_a_lease_than_there_is(void **state)
{
    struct kv *kv = kv_fresh();
    struct node a = {.name = "a"};

    (void)state;
    post(kv, "l:a", 70); /* no lease yet */
    assert_int_equal(field(kv, BUDGET, "l:a"), -1);
    assert_int_equal(have(kv, &a, 0, 30, 30), 30);
    post(kv, "l:a", 50);
    assert_int_equal(field(kv, BUDGET, "l:a"), 0);
    assert_int_equal(field(kv, BUDGET, "leased"), 0);
    assert_int_equal(field(kv, BUDGET, "posted"), 120);
    assert_int_equal(have(kv, &a, 30, 30, 30), 30); /* nothing is outstanding: no trace is left */
    assert_int_equal(field(kv, BUDGET, "l:a"), -1);
    kv_free(kv);
}

static void test_a_lost_answer_is_made_good_by_the_next_call(void **state)
{
    struct kv *kv = kv_fresh();
    struct node a = {.name = "a"};

    (void)state;
    assert_int_equal(have(kv, &a, 0, 100, 600), 600); /* of which it never heard */
    assert_int_equal(have(kv, &a, 0, 0, 0), 0);
    assert_int_equal(field(kv, BUDGET, "leased"), 0);
    kv_free(kv);
}

static void test_a_call_that_comes_late_changes_nothing(void **state)
{
    struct kv *kv = kv_fresh();
    struct node a = {.name = "a"}, late;
    struct kv_lease_row r = money(0, 0, 0);

    (void)state;
    late = a;
    assert_int_equal(have(kv, &a, 0, 100, 600), 600);
    assert_int_equal(call(kv, &late, &r, 1), ERR_CONFLICT);
    assert_int_equal(late.heard.heard_sequence, 1);
    assert_int_equal(late.heard.heard_life, 1);
    assert_int_equal(field(kv, BUDGET, "l:a"), 600);
    late = (struct node){.name = "a", .life = 1, .sequence = 7};
    a.life = 2;
    assert_int_equal(have(kv, &a, 0, 0, 0), 0);
    assert_int_equal(call(kv, &late, &r, 1), ERR_CONFLICT); /* another life */
    kv_free(kv);
}

static void test_another_life_begins_with_nothing(void **state)
{
    struct kv *kv = kv_fresh();
    struct node a = {.name = "a", .life = 1}, b = {.name = "b"};

    (void)state;
    assert_int_equal(have(kv, &a, 0, 100, 1000), 1000);
    a = (struct node){.name = "a", .life = 2};
    assert_int_equal(call(kv, &a, NULL, 0), ERR_OK);
    assert_int_equal(a.heard.dead, 1);
    assert_int_equal(have(kv, &b, 0, 1000, 1000), 1000);
    assert_int_equal(field(kv, BUDGET, "l:a"), -1);
    kv_free(kv);
}

static void test_the_leases_of_the_dead_go_back(void **state)
{
    struct kv *kv = kv_fresh();
    struct node a = {.name = "a", .ttl_ms = 20}, b = {.name = "b"};
    struct kv_lease_row sweep = {.kind = KV_LEASE_SWEEP, .key = BUDGET, .ttl_s = 100};
    int64_t dead = 0;

    (void)state;
    assert_int_equal(have(kv, &a, 0, 100, 800), 800);
    assert_int_equal(have(kv, &b, 0, 100, 100), 100);
    for (struct mono end = mono_add_us(mono_now(), 20000000); !dead && mono_now().us < end.us;) {
        assert_int_equal(call(kv, &b, NULL, 0), ERR_OK);
        dead = b.heard.dead;
    }
    assert_int_equal(dead, 1);
    assert_int_equal(field(kv, BUDGET, "leased"), 900);
    assert_int_equal(call(kv, &b, &sweep, 1), ERR_OK);
    assert_int_equal(field(kv, BUDGET, "leased"), 100);
    assert_int_equal(field(kv, BUDGET, "l:a"), -1);
    assert_int_equal(have(kv, &a, 800, 800, 800), 800); /* it was only away: what it has is said by itself */
    kv_free(kv);
}

static void test_who_finds_no_room_is_heard_by_the_others(void **state)
{
    struct kv *kv = kv_fresh();
    struct node a = {.name = "a"}, b = {.name = "b"};
    struct kv_lease_row r = money(0, 10, 20);

    (void)state;
    assert_int_equal(have(kv, &a, 0, 100, 1000), 1000);
    assert_int_equal(a.wanted, 0);
    assert_int_equal(call(kv, &b, &r, 1), ERR_OK);
    assert_int_equal(r.got, 0);
    assert_int_equal(r.others, 1000);
    assert_true(r.silent_ms > 3600000);                    /* it never said what it needs */
    assert_int_equal(have(kv, &a, 1000, 990, 1000), 1000); /* some is spare */
    assert_int_equal(a.wanted, 1);
    r = money(0, 10, 20);
    assert_int_equal(call(kv, &b, &r, 1), ERR_OK);
    assert_true(r.silent_ms > 3600000);
    assert_int_equal(have(kv, &a, 1000, 1000, 1000), 1000); /* all is in use */
    r = money(0, 10, 20);
    assert_int_equal(call(kv, &b, &r, 1), ERR_OK);
    assert_true(r.silent_ms > 0 && r.silent_ms < 60000);
    assert_int_equal(have(kv, &a, 985, 985, 985), 985);
    assert_int_equal(have(kv, &b, 0, 10, 20), 15);
    kv_free(kv);
}

static void test_an_emptied_store_grants_after_all_were_heard_and_the_books_are_back(void **state)
{
    struct kv *kv = kv_fresh();
    struct node a = {.name = "a", .nodes = 2}, b = {.name = "b", .nodes = 2};
    struct watermark none = {0}, one = {.batch = 1, .token = 7};
    struct kv_batch *batch = kv_batch_new();

    (void)state;
    a.nodes = 0; /* the very first */
    assert_int_equal(have(kv, &a, 0, 100, 500), 500);
    a.nodes = 2;
    assert_int_equal(have(kv, &b, 0, 100, 300), 300);
    post(kv, "l:a", 200);
    empty(kv);
    a.needs_books = b.needs_books = true;
    assert_int_equal(have(kv, &a, 500, 600, 600), 500);
    assert_true(a.heard.is_quiet);
    assert_int_equal(field(kv, BUDGET, "l:a"), 500); /* what was posted of it is not known there */
    post(kv, NULL, 200);
    assert_int_equal(have(kv, &b, 300, 400, 400), 300);
    assert_true(b.heard.is_quiet); /* both called, but stated what they have before they knew */
    assert_int_equal(have(kv, &b, 300, 400, 400), 300);
    assert_true(b.heard.is_quiet);
    assert_int_equal(have(kv, &a, 500, 600, 600), 500);
    assert_true(a.heard.is_quiet); /* all were heard, but the books are not back */
    assert_int_equal(kv_apply(kv, "b", &none, &one, batch, NULL), STORE_APPLIED);
    kv_batch_free(batch);
    assert_int_equal(have(kv, &b, 300, 400, 400), 300); /* 200 + 500 + 300 */
    assert_false(b.heard.is_quiet);
    a.needs_books = false;
    {
        struct kv_lease_row r = money(500, 500, 500);

        r.most = 300; /* it knows what is posted by now */
        assert_int_equal(call(kv, &a, &r, 1), ERR_OK);
        assert_int_equal(r.outstanding, 300);
    }
    assert_int_equal(have(kv, &b, 300, 400, 600), 500);
    kv_free(kv);
}

static void test_who_says_all_in_several_calls_is_heard_with_the_last(void **state)
{
    struct kv *kv = kv_fresh();
    struct node a = {.name = "a", .nodes = 1}, b = {.name = "b", .nodes = 2};

    (void)state;
    a.nodes = 0;
    assert_int_equal(have(kv, &a, 0, 100, 100), 100);
    a.nodes = b.nodes = 2;
    assert_int_equal(have(kv, &b, 0, 100, 100), 100);
    empty(kv);
    assert_int_equal(have(kv, &b, 100, 100, 100), 100);
    assert_int_equal(have(kv, &b, 100, 200, 200), 100);
    a.is_partial = true;
    assert_int_equal(call(kv, &a, NULL, 0), ERR_OK); /* the first of its calls knew no better */
    assert_int_equal(call(kv, &a, NULL, 0), ERR_OK); /* now it does, but there is more to come */
    assert_true(a.heard.is_quiet);
    assert_int_equal(have(kv, &b, 100, 200, 200), 100);
    assert_true(b.heard.is_quiet);
    a.is_partial = false;
    assert_int_equal(have(kv, &a, 100, 100, 100), 100);
    assert_false(a.heard.is_quiet);
    assert_int_equal(have(kv, &b, 100, 200, 200), 200);
    kv_free(kv);
}

static void test_a_store_that_has_not_begun_grants_no_money(void **state)
{
    struct kv *kv = kv_fresh();
    struct node a = {.name = "a"};
    struct kv_batch *b = kv_batch_new();

    (void)state;
    kv_batch_delete(b, KV_BOOKS);
    assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
    kv_batch_free(b);
    assert_int_equal(have(kv, &a, 0, 100, 500), 0);
    assert_true(a.heard.is_quiet && !a.heard.has_books);
    assert_int_equal(kv_begin(kv, NULL), ERR_OK);
    assert_int_equal(have(kv, &a, 0, 100, 500), 500);
    kv_free(kv);
}

static void test_an_emptied_store_that_nobody_knew_grants_at_once(void **state)
{
    struct kv *kv = kv_fresh();
    struct node a = {.name = "a", .nodes = 3};

    (void)state;
    assert_int_equal(have(kv, &a, 0, 100, 500), 0);
    assert_true(a.heard.is_quiet);
    empty(kv);
    a = (struct node){.name = "a"};
    assert_int_equal(have(kv, &a, 0, 100, 500), 500);
    kv_free(kv);
}

static void test_a_rate_is_shared(void **state)
{
    struct kv *kv = kv_fresh();
    struct node a = {.name = "a"}, b = {.name = "b"};
    struct kv_lease_row r = {
        .kind = KV_LEASE_RATE, .key = RATE, .limit = 600, .ttl_s = 100, .need = 1, .want = 400};

    (void)state;
    assert_int_equal(call(kv, &a, &r, 1), ERR_OK);
    assert_int_equal(r.got, 400);
    assert_in_range(r.others, 39900000, 40000000); /* microseconds until all is back */
    assert_int_equal(call(kv, &b, &r, 1), ERR_OK);
    assert_in_range(r.got, 200, 260);
    r.need = 300;
    assert_int_equal(call(kv, &b, &r, 1), ERR_OK);
    assert_int_equal(r.got, 0);
    r.granted = -350; /* given back */
    assert_int_equal(call(kv, &a, &r, 1), ERR_OK);
    assert_in_range(r.got, 300, 400);
    r = (struct kv_lease_row){
        .kind = KV_LEASE_RATE, .key = RATE, .limit = 600, .ttl_s = 100, .granted = 6000};
    assert_int_equal(call(kv, &a, &r, 1), ERR_OK); /* estimates that were too low */
    assert_true(r.others > 600000000);
    assert_int_equal(r.rest, 0);
    kv_free(kv);
}

static void set_number(struct kv_batch *b, const char *field, int64_t v)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%" PRId64, v);
    kv_batch_set(b, RATE, field, span_of(text));
}

/* As the bucket looks to a store whose clock was an hour ahead until now. */
static void test_a_rate_goes_on_when_the_store_s_clock_steps_back(void **state)
{
    struct kv *kv = kv_fresh();
    struct node a = {.name = "a"};
    struct kv_batch *b = kv_batch_new();
    struct kv_lease_row r = {
        .kind = KV_LEASE_RATE, .key = RATE, .limit = 600, .ttl_s = 100, .need = 1, .want = 600};
    int64_t later = wall_now().us + INT64_C(3600000000);

    (void)state;
    set_number(b, "tat", later + 40000000);
    set_number(b, "at", later);
    kv_batch_expire(b, RATE, 100, false);
    assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
    kv_batch_free(b);
    assert_int_equal(call(kv, &a, &r, 1), ERR_OK);
    assert_int_equal(r.got, 200);
    assert_int_equal(call(kv, &a, &r, 1), ERR_OK);
    assert_in_range(r.got, 0, 60); /* and time passes again */
    kv_free(kv);
}

static void test_slots_are_shared_and_free_themselves(void **state)
{
    struct kv *kv = kv_fresh();
    struct node a = {.name = "a"}, b = {.name = "b"};
    struct kv_lease_row r = {
        .kind = KV_LEASE_SLOTS, .key = SLOTS, .limit = 5, .ttl_s = 100, .need = 1, .want = 3};

    (void)state;
    assert_int_equal(call(kv, &a, &r, 1), ERR_OK);
    assert_int_equal(r.got, 3);
    assert_int_equal(call(kv, &b, &r, 1), ERR_OK);
    assert_int_equal(r.got, 2);
    assert_int_equal(r.others, 3);
    r.granted = 2;
    r.need = r.want = 3;
    assert_int_equal(call(kv, &b, &r, 1), ERR_OK);
    assert_int_equal(r.got, 2);
    a = (struct node){.name = "a", .life = 2}; /* it crashed and is back */
    assert_int_equal(call(kv, &a, NULL, 0), ERR_OK);
    r.granted = 2;
    r.need = r.want = 5;
    assert_int_equal(call(kv, &b, &r, 1), ERR_OK);
    assert_int_equal(r.got, 5);
    kv_free(kv);
}

static void test_nonsense_changes_nothing(void **state)
{
    struct kv *kv = kv_fresh();
    struct node a = {.name = "a"};
    struct kv_lease_row r[2] = {money(0, 10, 10), money(0, 10, 10)};
    struct kv_batch *b = kv_batch_new();

    (void)state;
    r[1].key = RATE;
    r[1].kind = KV_LEASE_RATE;
    r[1].limit = 0;
    assert_int_not_equal(call(kv, &a, r, 2), ERR_OK);
    assert_int_equal(field(kv, BUDGET, "l:a"), -1);
    kv_batch_push(b, RATE, SPAN_LIT("x"), 1);
    kv_batch_expire(b, RATE, 100, false);
    assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
    r[1].limit = 10;
    assert_int_equal(call(kv, &a, r, 2), ERR_IO);
    assert_int_equal(field(kv, BUDGET, "l:a"), -1);
    kv_batch_clear(b);
    kv_batch_set(b, BUDGET, "posted", SPAN_LIT("much"));
    kv_batch_expire(b, BUDGET, 100, false);
    assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
    assert_int_equal(call(kv, &a, r, 1), ERR_IO);
    kv_batch_clear(b);
    kv_batch_set(b, BUDGET, "posted", SPAN_LIT("0"));
    kv_batch_set(b, BUDGET, "leased", SPAN_LIT("0"));
    kv_batch_set(b, BUDGET, "l:a", SPAN_LIT("x"));
    kv_batch_expire(b, BUDGET, 100, false);
    assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
    kv_batch_clear(b);
    kv_batch_drain(b, BUDGET, "l:a", "leased", 1);
    assert_int_equal(kv_write(kv, b, NULL), ERR_CONFLICT);
    kv_batch_free(b);
    kv_free(kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_granted_never_passes_the_limit),
        cmocka_unit_test(test_a_batch_takes_no_more_off_a_lease_than_there_is),
        cmocka_unit_test(test_a_lost_answer_is_made_good_by_the_next_call),
        cmocka_unit_test(test_a_call_that_comes_late_changes_nothing),
        cmocka_unit_test(test_another_life_begins_with_nothing),
        cmocka_unit_test(test_the_leases_of_the_dead_go_back),
        cmocka_unit_test(test_who_finds_no_room_is_heard_by_the_others),
        cmocka_unit_test(test_an_emptied_store_grants_after_all_were_heard_and_the_books_are_back),
        cmocka_unit_test(test_an_emptied_store_that_nobody_knew_grants_at_once),
        cmocka_unit_test(test_who_says_all_in_several_calls_is_heard_with_the_last),
        cmocka_unit_test(test_a_store_that_has_not_begun_grants_no_money),
        cmocka_unit_test(test_a_rate_is_shared),
        cmocka_unit_test(test_a_rate_goes_on_when_the_store_s_clock_steps_back),
        cmocka_unit_test(test_slots_are_shared_and_free_themselves),
        cmocka_unit_test(test_nonsense_changes_nothing),
    };

    return KV_SCENE_RUN(tests);
}
