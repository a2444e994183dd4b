/* SPDX-License-Identifier: Apache-2.0 */
/* Random schedules through the code that admits: whatever comes between whatever, no account ever shows more posted and held than
 * its limit, what fits is admitted, and a refusal tells the numbers of the counter that refused. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gatewayd/limits/limits.h"
#include "libshared/base/buf.h"
#include "tests/unit/cm.h"

#define SCHEDULES 10000
#define OPEN      12
#define STEPS     40
#define POINTS    4 /* key, tenant, all, provider */

static struct wall NOON; /* when a schedule begins: what looks at all scopes does so at this moment */
static const struct mono START = {(int64_t)1000 * 1000000};

struct world {
    struct limits *l;
    struct config c;
    struct config_tenant tenant;
    struct config_key key;
    struct config_provider provider;
    struct config_account accounts[2];
    int64_t spent, spent_there; /* settled: of requests, of attempts */
};

struct open {
    struct limits_hold request, attempt;
    int64_t bound;
    bool is_open, has_attempt;
};

static int64_t below(unsigned *seed, int64_t n)
{
    return (int64_t)((uint64_t)rand_r(seed) % (uint64_t)n);
}

static void begin(struct world *w, unsigned *seed)
{
    static const char *const ZONES[] = {"UTC", "Asia/Kolkata", "America/New_York"};
    struct config_budget b = {.period = (enum period)below(seed, PERIOD_COUNT),
                              .when_store_down = STORE_DOWN_OPEN};

    memset(w, 0, sizeof(*w));
    NOON = wall_now();
    if (zone_find_mt(span_of(ZONES[below(seed, 3)]), &b.zone, NULL))
        b.zone = NULL;
    w->l = limits_new();
    w->tenant = (struct config_tenant){.id = "acme", .budget = b};
    w->tenant.budget.limit_nanousd = 200 + below(seed, 800);
    w->key = (struct config_key){.id = "web", .tenant = &w->tenant};
    w->provider = (struct config_provider){.name = "one", .budget = b};
    w->provider.budget.limit_nanousd = 200 + below(seed, 800);
    w->accounts[0] = (struct config_account){.account = "key:acme/web", .budget = b};
    w->accounts[0].budget.limit_nanousd = 100 + below(seed, 900);
    w->accounts[1] = (struct config_account){.account = "global", .budget = b};
    w->accounts[1].budget.limit_nanousd = 200 + below(seed, 900);
    w->c = (struct config){.tenants = &w->tenant,
                           .n_tenants = 1,
                           .keys = &w->key,
                           .n_keys = 1,
                           .providers = &w->provider,
                           .n_providers = 1,
                           .accounts = w->accounts,
                           .n_accounts = 2};
    limits_bind(w->l, &w->c);
}

static void end(struct world *w)
{
    limits_free(w->l);
    arena_release(&w->c.arena);
}

static void expect_within(void *user, const struct limits_view *v)
{
    (void)user;
    if (v->sums.held_nanousd < 0 || v->sums.posted_nanousd + v->sums.held_nanousd > v->limit_nanousd)
        fail_msg("'%s': %lld posted, %lld held, limit %lld", v->scope, (long long)v->sums.posted_nanousd,
                 (long long)v->sums.held_nanousd, (long long)v->limit_nanousd);
}

struct lookup {
    const char *scope;
    struct limits_view v;
};

static void look(void *user, const struct limits_view *v)
{
    struct lookup *k = user;

    if (strcmp(k->scope, v->scope) == 0)
        k->v = *v;
}

/* A refusal is checked against what the account itself says at that moment. */
static void expect_told(struct world *w, const struct explain *why, int64_t asked)
{
    const struct explain_row *r = explain_refusal(why);
    struct limits_ask a = {.now = NOON};
    struct buf json = {0};
    struct lookup k = {0};
    struct window_span span;
    char text[EXPLAIN_TEXT_CAP];

    (void)a;
    assert_non_null(r);
    k.scope = r->scope;
    limits_each_mt(w->l, look, &k);
    assert_int_equal(r->limit, k.v.limit_nanousd);
    assert_int_equal(r->asked, asked);
    assert_true((int64_t)(r->used + r->held) + asked > (int64_t)r->limit);
    span = cycle_window(k.v.sums.cycle, NOON);
    assert_int_equal(r->resets_at.us, span.end_us == INT64_MAX ? 0 : span.end_us);
    explain_text(r, text, sizeof(text));
    explain_json(r, &json);
    assert_non_null(strstr(text, r->scope));
    assert_non_null(memmem(json.p, json.len, r->scope, strlen(r->scope)));
    buf_release(&json);
}

static struct limits_ask ask_of(const struct world *w, int64_t bound)
{
    return (struct limits_ask){
        .chain = limits_chain_of(&w->c, &w->key), .now = NOON, .mono = START, .bound_nanousd = bound};
}

static void admit(struct world *w, struct open *o, unsigned *seed)
{
    struct limits_ask a = ask_of(w, 1 + below(seed, 120));
    struct explain why;

    o->bound = a.bound_nanousd;
    o->is_open = limits_admit(w->l, &a, &o->request, &why) == ERR_OK;
    o->has_attempt = false;
    if (!o->is_open)
        expect_told(w, &why, a.bound_nanousd);
}

/* On to its provider, a further attempt, or its end. */
static void go_on(struct world *w, struct open *o, unsigned *seed)
{
    struct limits_ask a = ask_of(w, o->bound);
    int64_t cost = below(seed, o->bound + 1);
    struct explain why;

    switch (below(seed, 4)) {
    case 0:
        if (!o->has_attempt) {
            o->has_attempt = limits_admit_attempt(w->l, limits_provider_of(&w->c, &w->provider), &a,
                                                  &o->attempt, &why) == ERR_OK;
            if (!o->has_attempt)
                expect_told(w, &why, a.bound_nanousd);
        }
        return;
    case 1:
        if (limits_raise(w->l, &o->request, o->bound + cost, &why) == ERR_OK)
            return;
        assert_non_null(explain_refusal(&why));
        return;
    case 2:
        if (o->has_attempt)
            limits_give_back(&o->attempt);
        limits_give_back(&o->request);
        break;
    default:
        if (o->has_attempt) {
            limits_settle(&o->attempt, cost, 1, NOON, START);
            w->spent_there += cost;
        }
        limits_settle(&o->request, cost, 1, NOON, START);
        limits_settle(&o->request, cost, 1, NOON, START); /* once */
        w->spent += cost;
        break;
    }
    o->is_open = false;
}

static int64_t left_of(struct world *w, const char *scope)
{
    struct lookup k = {.scope = scope};

    limits_each_mt(w->l, look, &k);
    return k.v.limit_nanousd - k.v.sums.posted_nanousd - k.v.sums.held_nanousd;
}

/* Exactly what is left fits, and one more does not. */
static void expect_exact(struct world *w)
{
    static const char *const SCOPES[] = {"key:acme/web", "tenant:acme", "global"};
    int64_t left = INT64_MAX;
    struct limits_hold h;
    struct explain why;
    struct limits_ask a;

    for (size_t i = 0; i < ARRAY_LEN(SCOPES); i++)
        left = left_of(w, SCOPES[i]) < left ? left_of(w, SCOPES[i]) : left;
    a = ask_of(w, left + 1);
    assert_int_equal(limits_admit(w->l, &a, &h, &why), ERR_OVER_BUDGET);
    expect_told(w, &why, left + 1);
    a = ask_of(w, left);
    assert_int_equal(limits_admit(w->l, &a, &h, &why), ERR_OK);
    limits_give_back(&h);
    a = ask_of(w, left_of(w, "provider:one"));
    assert_int_equal(limits_admit_attempt(w->l, limits_provider_of(&w->c, &w->provider), &a, &h, &why),
                     ERR_OK);
    limits_give_back(&h);
}

static void run_schedule(unsigned seed)
{
    struct open open[OPEN] = {0};
    struct world w;
    struct lookup tenant = {.scope = "tenant:acme"}, provider = {.scope = "provider:one"};

    begin(&w, &seed);
    for (unsigned i = 0; i < STEPS; i++) {
        struct open *o = &open[below(&seed, OPEN)];

        if (o->is_open)
            go_on(&w, o, &seed);
        else
            admit(&w, o, &seed);
        limits_each_mt(w.l, expect_within, NULL);
    }
    for (unsigned i = 0; i < OPEN; i++)
        if (open[i].is_open) {
            if (open[i].has_attempt)
                limits_give_back(&open[i].attempt);
            limits_give_back(&open[i].request);
        }
    limits_each_mt(w.l, look, &tenant);
    limits_each_mt(w.l, look, &provider);
    assert_int_equal(tenant.v.sums.posted_nanousd, w.spent);
    assert_int_equal(provider.v.sums.posted_nanousd, w.spent_there);
    assert_int_equal(tenant.v.sums.held_nanousd + provider.v.sums.held_nanousd, 0);
    expect_exact(&w);
    end(&w);
}

static void test_no_schedule_passes_a_limit_and_every_refusal_tells_the_counter_s_numbers(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= SCHEDULES; seed++)
        run_schedule(seed);
}

/* ---- the same with threads ------------------------------------------------------------------------------------------- */

#define THREADS 4

struct racer {
    struct world *w;
    unsigned seed;
    int64_t spent;
    bool saw_more;
};

static void note_more(void *user, const struct limits_view *v)
{
    if (v->sums.posted_nanousd + v->sums.held_nanousd > v->limit_nanousd)
        ((struct racer *)user)->saw_more = true;
}

static void *race(void *user)
{
    struct racer *r = user;

    for (unsigned i = 0; i < SCHEDULES / THREADS; i++) {
        struct limits_ask a = ask_of(r->w, 1 + below(&r->seed, 40));
        int64_t cost = below(&r->seed, a.bound_nanousd + 1) / 16;
        struct limits_hold h, there;
        struct explain why;

        if (limits_admit(r->w->l, &a, &h, &why))
            continue;
        if (limits_admit_attempt(r->w->l, limits_provider_of(&r->w->c, &r->w->provider), &a, &there, &why)) {
            limits_give_back(&h);
            continue;
        }
        if (i % 16 == 0)
            limits_each_mt(r->w->l, note_more, r);
        limits_settle(&there, cost, 1, NOON, START);
        limits_settle(&h, cost, 1, NOON, START);
        r->spent += cost;
    }
    return NULL;
}

static void test_threads_that_race_for_the_rest_never_pass_a_limit(void **state)
{
    struct racer racers[THREADS];
    pthread_t threads[THREADS];
    struct world w;
    unsigned seed = 7;
    int64_t spent = 0;

    (void)state;
    begin(&w, &seed);
    for (unsigned i = 0; i < THREADS; i++) {
        racers[i] = (struct racer){.w = &w, .seed = i + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
        assert_false(racers[i].saw_more);
        spent += racers[i].spent;
    }
    assert_int_equal(left_of(&w, "tenant:acme"), w.tenant.budget.limit_nanousd - spent);
    expect_exact(&w);
    end(&w);
}

/* ---- top-ups and corrections ----------------------------------------------------------------------------------------- */

static void test_a_top_up_ends_at_its_instant_and_a_correction_frees_the_rest(void **state)
{
    struct budget_book *b = budget_book_new();
    struct budget_account *a = budget_account_get(b, "tenant:acme");
    struct budget_rule rule = {.limit_nanousd = 100,
                               .cycle = {PERIOD_TOTAL, NULL},
                               .topups = {{50, NOON.us + 10}, {25, NOON.us + 20}},
                               .n_topups = 2};
    struct budget_mark mark;
    struct budget_hold h;

    (void)state;
    budget_account_set(a, &rule);
    assert_int_equal(budget_account_sums(a, NOON).limit_nanousd, 175);
    assert_int_equal(budget_account_sums(a, (struct wall){NOON.us + 9}).limit_nanousd, 175);
    assert_int_equal(budget_account_sums(a, (struct wall){NOON.us + 10}).limit_nanousd, 125);
    assert_int_equal(budget_account_sums(a, (struct wall){NOON.us + 20}).limit_nanousd, 100);
    assert_int_equal(budget_reserve(&(struct budget_chain){.at = {a}}, 170, NOON, &h, NULL), ERR_OK);
    budget_settle(&h, 170);
    assert_int_equal(
        budget_reserve(&(struct budget_chain){.at = {a}}, 1, (struct wall){NOON.us + 30}, &h, NULL),
        ERR_OVER_BUDGET);
    /* A credit that the store has not heard of does not come back by following it. */
    mark = budget_account_mark(a, NOON);
    budget_account_correct(a, NOON, -170);
    budget_account_follow(a, &mark, true, 170);
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 0);
    budget_account_follow(a, &mark, true, 0);
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 0);
    mark = budget_account_mark(a, NOON);
    budget_account_follow(a, &mark, true, 30); /* 30 of another node, now that it has it */
    assert_int_equal(budget_account_sums(a, NOON).posted_nanousd, 30);
    budget_book_free(b);
}

/* The reset is one instant, by local clocks, whoever looks when. */
static void test_a_window_ends_at_its_instant_and_steps_of_the_clock_find_it_again(void **state)
{
    struct budget_book *b = budget_book_new();
    struct budget_account *a = budget_account_get(b, "tenant:acme");
    struct budget_rule rule = {.limit_nanousd = 100, .cycle = {.period = PERIOD_DAY}};
    struct wall noon = {(int64_t)1792926000 *
                        1000000}; /* 2026-10-25T11:00:00Z: the clocks went back in Berlin */
    struct window_span day;
    struct budget_hold h;

    (void)state;
    assert_int_equal(zone_find_mt(SPAN_LIT("Europe/Berlin"), &rule.cycle.zone, NULL), ERR_OK);
    day = cycle_window(rule.cycle, noon);
    assert_int_equal((day.end_us - day.start_us) / 3600000000, 25);
    budget_account_set(a, &rule);
    assert_int_equal(budget_reserve(&(struct budget_chain){.at = {a}}, 100, noon, &h, NULL), ERR_OK);
    budget_settle(&h, 100);
    assert_int_equal(
        budget_reserve(&(struct budget_chain){.at = {a}}, 1, (struct wall){day.end_us - 1}, &h, NULL),
        ERR_OVER_BUDGET);
    assert_int_equal(
        budget_reserve(&(struct budget_chain){.at = {a}}, 60, (struct wall){day.end_us}, &h, NULL), ERR_OK);
    budget_settle(&h, 60);
    for (int i = 0; i < 5; i++) { /* back and forth over the reset: neither day is spent twice */
        assert_int_equal(budget_account_sums(a, (struct wall){day.end_us - 1}).posted_nanousd, 100);
        assert_int_equal(budget_account_sums(a, (struct wall){day.end_us + 1}).posted_nanousd, 60);
    }
    assert_int_equal(
        budget_account_sums(a, (struct wall){day.end_us + (int64_t)21 * 86400 * 1000000}).posted_nanousd, 0);
    budget_book_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_schedule_passes_a_limit_and_every_refusal_tells_the_counter_s_numbers),
        cmocka_unit_test(test_threads_that_race_for_the_rest_never_pass_a_limit),
        cmocka_unit_test(test_a_top_up_ends_at_its_instant_and_a_correction_frees_the_rest),
        cmocka_unit_test(test_a_window_ends_at_its_instant_and_steps_of_the_clock_find_it_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
