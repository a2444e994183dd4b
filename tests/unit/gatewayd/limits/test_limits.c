/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/limits/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gatewayd/telemetry/events.h"
#include "libshared/base/buf.h"
#include "tests/unit/cm.h"

#define USD ((int64_t)1000000000)

static const struct wall NOON = {(int64_t)1763640000 * 1000000}; /* 2025-11-20T12:00:00Z */
static const struct mono START = {(int64_t)1000 * 1000000};

/* A configuration by hand: one tenant, two keys, budgets of the database for a key and for all. */
struct world {
    struct limits *l;
    struct config config;
    struct config_tenant tenant;
    struct config_key keys[2];
    struct config_account accounts[2];
};

static void bind(struct world *w)
{
    w->config.tenants = &w->tenant;
    w->config.n_tenants = 1;
    w->config.keys = w->keys;
    w->config.n_keys = 2;
    w->config.accounts = w->accounts;
    w->config.limits = NULL;
    for (unsigned i = 0; i < 2; i++) {
        w->keys[i].id = i ? "batch" : "web";
        w->keys[i].tenant = &w->tenant;
    }
    limits_bind(w->l, &w->config);
}

static struct world *world(int64_t limit_nanousd, enum period p, enum at_limit at_limit)
{
    struct world *w = calloc(1, sizeof(*w));

    w->l = limits_new();
    w->tenant = (struct config_tenant){
        .id = "acme",
        .budget = {.limit_nanousd = limit_nanousd, .period = p, .warn = {1, {80}}, .at_limit = at_limit}};
    bind(w);
    limits_set_store_mt(w->l, true);
    return w;
}

static void end(struct world *w)
{
    arena_release(&w->config.arena);
    limits_free(w->l);
    free(w);
}

static enum err_code ask(struct world *w, unsigned key, int64_t bound, struct wall now, struct limits_hold *h,
                         struct explain *why)
{
    struct limits_ask a = {.chain = limits_chain_of(&w->config, &w->keys[key]),
                           .now = now,
                           .mono = START,
                           .bound_nanousd = bound,
                           .tokens = 10};

    a.request.b[0] = 7;
    return limits_admit(w->l, &a, h, why);
}

static void settle(struct limits_hold *h, int64_t cost)
{
    limits_settle(h, cost, 10, NOON, START);
}

static void test_money_for_the_bound_is_admitted_and_one_nano_more_is_not(void **state)
{
    struct world *w = world(100 * USD, PERIOD_MONTH, AT_LIMIT_BLOCK);
    struct limits_hold a, b;
    struct explain why;
    const struct explain_row *r;
    char text[300];

    (void)state;
    assert_int_equal(ask(w, 0, 60 * USD, NOON, &a, &why), ERR_OK);
    assert_int_equal(ask(w, 1, 40 * USD + 1, NOON, &b, &why), ERR_OVER_BUDGET);
    r = explain_refusal(&why);
    assert_string_equal(r->scope, "tenant:acme");
    assert_string_equal(r->kind, "budget");
    assert_string_equal(r->window, "2025-11");
    assert_int_equal(r->limit, 100 * USD);
    assert_int_equal(r->used, 0);
    assert_int_equal(r->held, 60 * USD);
    assert_int_equal(r->asked, 40 * USD + 1);
    assert_int_equal(r->resets_at.us, INT64_C(1764547200000000)); /* 2025-12-01 */
    explain_text(r, text, sizeof(text));
    assert_string_equal(
        text, "the budget of 'tenant:acme' is 100.00 USD; spent 0.00, held 60.00 by open requests, this one "
              "needs up to 40.000000001; it resets at 2025-12-01T00:00:00.000Z");
    assert_int_equal(ask(w, 1, 40 * USD, NOON, &b, &why), ERR_OK);
    settle(&a, 59 * USD);
    settle(&a, 59 * USD); /* once */
    limits_give_back(&b);
    assert_int_equal(ask(w, 1, 41 * USD, NOON, &b, &why), ERR_OK);
    limits_give_back(&b);
    end(w);
}

static void test_a_window_ends_at_its_exact_instant(void **state)
{
    static const struct {
        enum period p;
        int64_t end_us;
    } ROWS[] = {{PERIOD_HOUR, INT64_C(1763643600000000)}, /* 13:00 */
                {PERIOD_DAY, INT64_C(1763683200000000)},  /* 2025-11-21 */
                {PERIOD_WEEK, INT64_C(1763942400000000)}, /* Monday 2025-11-24 */
                {PERIOD_MONTH, INT64_C(1764547200000000)}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        struct world *w = world(USD, ROWS[i].p, AT_LIMIT_BLOCK);
        struct limits_hold h;
        struct explain why;

        assert_int_equal(ask(w, 0, USD, NOON, &h, &why), ERR_OK);
        settle(&h, USD);
        assert_int_equal(ask(w, 0, 1, (struct wall){ROWS[i].end_us - 1}, &h, &why), ERR_OVER_BUDGET);
        assert_int_equal(explain_refusal(&why)->resets_at.us, ROWS[i].end_us);
        assert_int_equal(ask(w, 0, USD, (struct wall){ROWS[i].end_us}, &h, &why), ERR_OK);
        limits_give_back(&h);
        end(w);
    }
}

static void test_the_chain_is_key_tenant_and_all(void **state)
{
    struct world *w = world(100 * USD, PERIOD_MONTH, AT_LIMIT_BLOCK);
    struct limits_hold h;
    struct explain why;

    (void)state;
    w->accounts[0] = (struct config_account){.account = "key:acme/web",
                                             .budget = {.limit_nanousd = 5 * USD, .period = PERIOD_DAY}};
    w->accounts[1] = (struct config_account){.account = "global",
                                             .budget = {.limit_nanousd = 20 * USD, .period = PERIOD_TOTAL}};
    w->config.n_accounts = 2;
    bind(w);
    assert_int_equal(limits_cycle(limits_chain_of(&w->config, &w->keys[0]), LINK_KEY).period, PERIOD_DAY);
    assert_int_equal(limits_cycle(limits_chain_of(&w->config, &w->keys[0]), LINK_GLOBAL).period,
                     PERIOD_TOTAL);
    assert_int_equal(ask(w, 0, 6 * USD, NOON, &h, &why), ERR_OVER_BUDGET);
    assert_string_equal(explain_refusal(&why)->scope, "key:acme/web");
    assert_int_equal(ask(w, 1, 21 * USD, NOON, &h, &why), ERR_OVER_BUDGET);
    assert_string_equal(explain_refusal(&why)->scope, "global");
    assert_int_equal(explain_refusal(&why)->resets_at.us, 0);
    w->config.n_accounts = 0; /* the budgets are gone */
    bind(w);
    assert_int_equal(ask(w, 0, 21 * USD, NOON, &h, &why), ERR_OK);
    limits_give_back(&h);
    end(w);
}

static void test_rates_are_refused_before_money_is_held_and_given_back_after(void **state)
{
    struct world *w = world(USD, PERIOD_MONTH, AT_LIMIT_BLOCK);
    struct limits_hold a, b;
    struct explain why;

    (void)state;
    w->tenant.limits = (struct config_limits){.rpm = 2};
    bind(w);
    for (unsigned i = 0; i < 5; i++) /* refused for money: the requests come back */
        assert_int_equal(ask(w, 0, 2 * USD, NOON, &a, &why), ERR_OVER_BUDGET);
    assert_int_equal(ask(w, 0, 1, NOON, &a, &why), ERR_OK);
    assert_int_equal(ask(w, 0, 1, NOON, &b, &why), ERR_OK);
    settle(&b, 0);
    assert_int_equal(ask(w, 0, 1, NOON, &b, &why), ERR_OVER_LIMIT);
    assert_string_equal(explain_refusal(&why)->kind, "requests");
    assert_int_equal(explain_refusal(&why)->retry_ms, 30000);
    assert_true(limits_explain_mt(w->l, "acme", &why));
    assert_int_equal(why.n, 2);
    settle(&a, 0);
    end(w);
}

static void test_a_key_has_limits_of_its_own(void **state)
{
    struct world *w = world(0, PERIOD_MONTH, AT_LIMIT_BLOCK);
    struct limits_hold h;
    struct explain why;

    (void)state;
    w->keys[0].limits = (struct config_limits){.concurrent = 1};
    bind(w);
    assert_int_equal(ask(w, 0, 0, NOON, &h, &why), ERR_OK);
    assert_int_equal(ask(w, 1, 0, NOON, &h, &why), ERR_OK);
    assert_int_equal(ask(w, 0, 0, NOON, &h, &why), ERR_OVER_LIMIT);
    assert_string_equal(explain_refusal(&why)->scope, "key:acme/web");
    end(w);
}

static void test_a_budget_that_warns_lets_through_and_one_that_throttles_a_few(void **state)
{
    struct world *w = world(USD, PERIOD_MONTH, AT_LIMIT_WARN);
    struct limits_hold h;
    struct explain why;
    unsigned n = 0;

    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(ask(w, 0, USD, NOON, &h, &why), ERR_OK);
        settle(&h, USD);
    }
    assert_int_equal(why.row[0].verdict, VERDICT_WARN);
    assert_int_equal(why.row[0].used, 19 * USD);
    w->tenant.budget.at_limit = AT_LIMIT_THROTTLE;
    bind(w);
    for (unsigned i = 0; i < 20; i++) {
        enum err_code e = ask(w, 0, USD, NOON, &h, &why);

        n += e == ERR_OK;
        settle(&h, 0);
        if (e) {
            assert_int_equal(e, ERR_OVER_LIMIT);
            assert_int_equal(explain_refusal(&why)->retry_ms, 10000);
        }
    }
    assert_int_equal(n, 6);
    end(w);
}

static const struct wall DECEMBER = {INT64_C(1764547200000000)};

static void test_a_stream_is_cut_by_the_window_in_which_it_arrived(void **state)
{
    struct world *w = world(USD, PERIOD_MONTH, AT_LIMIT_THROTTLE);
    struct limits_hold old, new;
    struct explain why;

    (void)state;
    w->tenant.budget.cuts_streams = true;
    bind(w);
    assert_int_equal(ask(w, 0, USD, NOON, &old, &why), ERR_OK);
    assert_int_equal(ask(w, 0, USD, DECEMBER, &new, &why), ERR_OK);
    settle(&new, USD);
    assert_false(limits_cuts(&old, USD, NOON, &why));
    assert_true(limits_cuts(&old, USD + 1, NOON, &why));
    assert_string_equal(explain_refusal(&why)->window, "2025-11");
    assert_true(limits_cuts(&new, 1, DECEMBER, &why));
    limits_give_back(&old);
    end(w);
}

static void test_marks_are_told_once_a_window_although_older_requests_end_later(void **state)
{
    struct world *w = world(USD, PERIOD_MONTH, AT_LIMIT_WARN);
    struct events *events = events_new("here");
    const struct wall arrived[] = {NOON, DECEMBER, NOON, DECEMBER};
    struct limits_hold h[ARRAY_LEN(arrived)];
    struct explain why;

    (void)state;
    limits_tell_to(w->l, events);
    for (size_t i = 0; i < ARRAY_LEN(arrived); i++)
        assert_int_equal(ask(w, 0, USD, arrived[i], &h[i], &why), ERR_OK);
    limits_settle(&h[0], USD, 10, arrived[0], START);
    assert_int_equal(events_stats_mt(events).told, 1);
    for (size_t i = 1; i < ARRAY_LEN(arrived); i++)
        limits_settle(&h[i], USD, 10, arrived[i], START);
    assert_int_equal(events_stats_mt(events).told, 2);
    w->tenant.budget.period = PERIOD_TOTAL; /* begins before both */
    bind(w);
    assert_int_equal(ask(w, 0, USD, NOON, &h[0], &why), ERR_OK);
    limits_settle(&h[0], USD, 10, NOON, START);
    assert_int_equal(events_stats_mt(events).told, 3);
    end(w);
    events_free(events);
}

static void test_nothing_is_admitted_before_the_books_are_read_unless_told_so(void **state)
{
    static const struct {
        enum store_down rule;
        enum err_code at_boot, later;
    } ROWS[] = {{STORE_DOWN_CLOSED, ERR_UNAVAILABLE, ERR_UNAVAILABLE},
                {STORE_DOWN_BOUNDED, ERR_UNAVAILABLE, ERR_OK},
                {STORE_DOWN_OPEN, ERR_OK, ERR_OK}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        struct world *w = world(USD, PERIOD_MONTH, AT_LIMIT_BLOCK);
        struct limits *before = w->l;
        struct limits_hold h;
        struct explain why;

        w->l = limits_new();
        w->tenant.budget.when_store_down = ROWS[i].rule;
        bind(w);
        assert_int_equal(ask(w, 0, 1, NOON, &h, &why), ROWS[i].at_boot);
        limits_give_back(&h);
        limits_set_store_mt(w->l, true);
        assert_int_equal(ask(w, 0, 1, NOON, &h, &why), ERR_OK);
        limits_give_back(&h);
        limits_set_store_mt(w->l, false);
        assert_int_equal(ask(w, 0, 1, NOON, &h, &why), ROWS[i].later);
        limits_give_back(&h);
        limits_free(before);
        end(w);
    }
}

static void test_a_refusal_can_be_explained_afterwards(void **state)
{
    struct world *w = world(USD, PERIOD_MONTH, AT_LIMIT_BLOCK);
    struct buf json AUTO(buf_release) = {.max = 4096};
    struct limits_hold h;
    struct explain why, again;
    struct id id = {{7}};
    char text[ID_TEXT_CAP];

    (void)state;
    assert_int_equal(ask(w, 0, 2 * USD, NOON, &h, &why), ERR_OVER_BUDGET);
    id_format(&id, text);
    assert_true(limits_explain_request_mt(w->l, text, &again));
    explain_json(explain_refusal(&again), &json);
    assert_string_equal(json.p,
                        "{\"scope\":\"tenant:acme\",\"kind\":\"budget\",\"unit\":\"usd\",\"limit\":\"1.00\","
                        "\"used\":\"0.00\",\"held\":\"0.00\",\"requested\":\"2.00\",\"window\":\"2025-11\","
                        "\"resets_at\":\"2025-12-01T00:00:00.000Z\",\"verdict\":\"refused\"}");
    id.b[0] = 8;
    id_format(&id, text);
    assert_false(limits_explain_request_mt(w->l, text, &again));
    end(w);
}

/* ---- ten thousand schedules ---- */

static uint64_t seed = 1;
static uint64_t draw(uint64_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 33) % below;
}

#define OPEN 24

static void run_schedule(void)
{
    int64_t limit = (int64_t)draw(1000) + 1, posted = 0, held = 0;
    struct world *w = world(limit, PERIOD_MONTH, AT_LIMIT_BLOCK);
    struct {
        struct limits_hold h;
        int64_t bound;
    } open[OPEN];
    unsigned n = 0;
    struct explain why;

    for (unsigned step = 0; step < 60; step++) {
        int64_t bound = (int64_t)draw((uint64_t)limit / 2 + 2);

        if (draw(2) && n < OPEN) {
            enum err_code e = ask(w, (unsigned)draw(2), bound, NOON, &open[n].h, &why);

            assert_int_equal(e == ERR_OK, posted + held + bound <= limit); /* neither too many nor too few */
            if (e) {
                assert_int_equal(explain_refusal(&why)->used, posted);
                assert_int_equal(explain_refusal(&why)->held, held);
                continue;
            }
            held += bound;
            open[n++].bound = bound;
        } else if (n) {
            unsigned i = (unsigned)draw(n);
            int64_t more = open[i].bound + (int64_t)draw(20), cost;

            if (draw(4) == 0) { /* an attempt failed and was billed */
                bool fits = posted + held + more - open[i].bound <= limit;

                assert_int_equal(limits_raise(w->l, &open[i].h, more, &why) == ERR_OK, fits);
                held += fits ? more - open[i].bound : 0;
                open[i].bound = fits ? more : open[i].bound;
            }
            cost = (int64_t)draw((uint64_t)open[i].bound + 1);
            if (draw(4) == 0) {
                limits_give_back(&open[i].h);
                cost = 0;
            } else {
                settle(&open[i].h, cost);
            }
            settle(&open[i].h, cost);
            posted += cost;
            held -= open[i].bound;
            open[i] = open[--n];
        }
        assert_true(posted + held <= limit);
    }
    end(w);
}

static void test_ten_thousand_schedules_never_pass_the_limit(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10000; i++)
        run_schedule();
}

static void test_what_the_checks_cost(void **state)
{
    struct world *w = world(1000000 * USD, PERIOD_MONTH, AT_LIMIT_BLOCK);
    struct mono began;
    unsigned n = 200000;
    int64_t us;

    (void)state;
    w->tenant.limits = (struct config_limits){.rpm = 1000000000, .tpm = 1000000000000, .concurrent = 1000};
    bind(w);
    began = mono_now();
    for (unsigned i = 0; i < n; i++) {
        struct limits_hold h;
        struct explain why;

        assert_int_equal(ask(w, 0, 1000, NOON, &h, &why), ERR_OK);
        settle(&h, 10);
    }
    us = mono_diff_us(mono_now(), began);
    print_message("admit and settle with three rates and a budget: %.0f ns a request\n",
                  (double)us * 1e3 / n);
    end(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_money_for_the_bound_is_admitted_and_one_nano_more_is_not),
        cmocka_unit_test(test_a_window_ends_at_its_exact_instant),
        cmocka_unit_test(test_the_chain_is_key_tenant_and_all),
        cmocka_unit_test(test_rates_are_refused_before_money_is_held_and_given_back_after),
        cmocka_unit_test(test_a_key_has_limits_of_its_own),
        cmocka_unit_test(test_a_budget_that_warns_lets_through_and_one_that_throttles_a_few),
        cmocka_unit_test(test_a_stream_is_cut_by_the_window_in_which_it_arrived),
        cmocka_unit_test(test_marks_are_told_once_a_window_although_older_requests_end_later),
        cmocka_unit_test(test_nothing_is_admitted_before_the_books_are_read_unless_told_so),
        cmocka_unit_test(test_a_refusal_can_be_explained_afterwards),
        cmocka_unit_test(test_ten_thousand_schedules_never_pass_the_limit),
        cmocka_unit_test(test_what_the_checks_cost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
