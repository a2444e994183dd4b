/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/provider/bound.h"

#include <stdlib.h>

#include "tests/unit/cm.h"

static uint64_t below(unsigned *seed, uint64_t n)
{
    return n ? (uint64_t)rand_r(seed) % n : 0;
}

static struct price random_price(unsigned *seed)
{
    struct price p = {.input = (int64_t)below(seed, 20000000),
                      .cached = (int64_t)below(seed, 20000001) - 1,
                      .cache_write = (int64_t)below(seed, 30000001) - 1,
                      .output = (int64_t)below(seed, 90000001) - 1,
                      .reasoning = (int64_t)below(seed, 90000001) - 1,
                      .per_image = (int64_t)below(seed, 2) * 40000000000 - 1,
                      .per_search = -1,
                      .context_tokens = below(seed, 2) * 128000,
                      .max_output_tokens = below(seed, 2) * 16384};

    return p;
}

/* Whatever a provider can report within what was asked for costs no more than what was held. */
static void test_no_answer_costs_more_than_the_bound(void **state)
{
    unsigned seed = 7;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        struct price p = random_price(&seed);
        struct bound_facts f = {.body_bytes = below(&seed, 400000),
                                .max_tokens = below(&seed, 2) * (1 + below(&seed, 20000)),
                                .n = below(&seed, 4),
                                .has_output = true,
                                .has_images = p.per_image >= 0};
        uint64_t n = f.n ? f.n : 1, context = p.context_tokens ? p.context_tokens : UINT64_MAX;
        uint64_t input = f.body_bytes + BOUND_ALLOWANCE < context ? f.body_bytes + BOUND_ALLOWANCE : context;
        uint64_t most = p.max_output_tokens ? p.max_output_tokens : p.context_tokens ? context : BOUND_OUTPUT;
        struct usage u = {.input = below(&seed, input + 1), .images = f.has_images ? n : 0};

        u.cached = below(&seed, u.input + 1);
        u.cache_write = below(&seed, u.input - u.cached + 1);
        u.output = n * (f.max_tokens && f.max_tokens < most ? f.max_tokens : most);
        u.reasoning = below(&seed, u.output + 1);
        assert_true(price_cost_nanousd(&p, &u) <= bound_nanousd(&p, &f));
    }
}

static void test_images_that_are_billed_by_tokens_are_held(void **state)
{
    struct price p = {.input = 5000000,
                      .output = 40000000,
                      .cached = -1,
                      .cache_write = -1,
                      .reasoning = -1,
                      .per_image = -1,
                      .per_search = -1};
    struct bound_facts f = {.body_bytes = 100, .n = 3, .has_images = true};
    struct usage u = {.input = 25, .output = 3 * 6208, .images = 3};

    (void)state;
    assert_true(price_cost_nanousd(&p, &u) <= bound_nanousd(&p, &f));
}

static void test_a_small_request_holds_little(void **state)
{
    struct price p = {.input = 150000,
                      .cached = 75000,
                      .cache_write = -1,
                      .output = 600000,
                      .reasoning = -1,
                      .per_image = -1,
                      .per_search = -1,
                      .context_tokens = 128000,
                      .max_output_tokens = 16384};
    struct bound_facts f = {.body_bytes = 400, .max_tokens = 100, .has_output = true};

    (void)state;
    assert_int_equal(bound_nanousd(&p, &f), (400 + BOUND_ALLOWANCE) * 150 + 100 * 600);
}

static void test_absurd_counts_saturate(void **state)
{
    struct price p = {.input = INT64_MAX,
                      .cached = -1,
                      .cache_write = -1,
                      .output = INT64_MAX,
                      .reasoning = -1,
                      .per_image = -1,
                      .per_search = -1};
    struct bound_facts f = {
        .body_bytes = 1 << 30, .max_tokens = UINT64_MAX, .n = UINT64_MAX, .has_output = true};

    (void)state;
    assert_true(bound_nanousd(&p, &f) == PRICE_COST_MAX_NANOUSD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_answer_costs_more_than_the_bound),
        cmocka_unit_test(test_images_that_are_billed_by_tokens_are_held),
        cmocka_unit_test(test_a_small_request_holds_little),
        cmocka_unit_test(test_absurd_counts_saturate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
