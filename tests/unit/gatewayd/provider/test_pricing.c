/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/provider/pricing.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/unit/cm.h"

/* ---- decimal text ---- */

static void test_decimal_amounts_become_whole_pico_dollars(void **state)
{
    static const struct {
        const char *text;
        unsigned scale;
        int64_t pico;
    } CASES[] = {
        {"2.50", 6, 2500000},
        {"0", 6, 0},
        {"0.000001", 6, 1},
        {"0.075", 6, 75000},
        {"10", 6, 10000000},
        {"1e1", 6, 10000000},
        {"2.5e-1", 6, 250000},
        {"1E+2", 6, 100000000},
        {"0.00000000", 6, 0},
        {"0.0000000000", 6, 0},
        {"1.0000000000000", 6, 1000000},
        {"0.04", 12, 40000000000},
        {"0.000000000001", 12, 1},
        {"9223372.036854775807", 12, INT64_MAX},
        {"0e999", 6, 0},
        {"000001.5", 6, 1500000},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        int64_t pico = -7;

        assert_int_equal(price_parse_usd(span_of(CASES[i].text), CASES[i].scale, &pico, NULL), ERR_OK);
        assert_int_equal(pico, CASES[i].pico);
    }
}

static void test_amounts_that_cannot_be_exact_are_refused(void **state)
{
    static const char *const BAD[] = {"",
                                      "-1",
                                      "+1",
                                      "1,5",
                                      ".5",
                                      "5.",
                                      "1.2.3",
                                      "0x10",
                                      " 1",
                                      "1 ",
                                      "NaN",
                                      "Infinity",
                                      "1e",
                                      "1e+",
                                      "1ee1",
                                      "1e1.5",
                                      "0.00000001",
                                      "0.0000015",
                                      "9223372036854.775808",
                                      "1e300",
                                      "1e1001",
                                      "99999999999999999999999999999999999999999999999"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        struct err err = {0};
        int64_t pico = -7;

        assert_int_equal(price_parse_usd(span_of(BAD[i]), 6, &pico, &err), ERR_CONFIG);
        assert_int_equal(pico, -7);
        assert_true(err.text[0] != '\0');
    }
}

/* ---- the table ---- */

static const struct price *find(const struct price_table *t, const char *provider, const char *model)
{
    return price_find(t, span_of(provider), span_of(model));
}

static void test_a_built_in_model_has_its_price(void **state)
{
    struct price_table *t = price_table_new(NULL, NULL);
    const struct price *p;

    (void)state;
    assert_non_null(t);
    p = find(t, "anthropic", "claude-sonnet-4-5");
    assert_non_null(p);
    assert_int_equal(p->input, 3000000);
    assert_int_equal(p->cached, 300000);
    assert_int_equal(p->cache_write, 3750000);
    assert_int_equal(p->output, 15000000);
    assert_int_equal(p->reasoning, -1);
    assert_int_equal(p->context_tokens, 200000);
    assert_int_equal(find(t, "openai", "gpt-4o-mini")->input, 150000);
    price_table_free(t);
}

static void test_every_built_in_row_is_found_by_its_own_name(void **state)
{
    static const struct {
        const char *provider, *model;
    } ROWS[] = {
#define PRICES(...)                                0
#define MODEL(provider, model, prices, context, m) {provider, model},
#include "libshared/catalog/models.def"
#undef MODEL
#undef PRICES
    };
    struct price_table *t = price_table_new(NULL, NULL);

    (void)state;
    assert_true(ARRAY_LEN(ROWS) > 400);
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++)
        assert_true(price_is_known_model(t, span_of(ROWS[i].provider), span_of(ROWS[i].model)));
    price_table_free(t);
}

static void test_a_dated_name_falls_back_to_the_undated_row_only_when_it_has_none(void **state)
{
    struct price_table *t = price_table_new(NULL, NULL);

    (void)state;
    assert_ptr_equal(find(t, "openai", "gpt-4o-mini-2024-07-18"), find(t, "openai", "gpt-4o-mini"));
    assert_ptr_equal(find(t, "anthropic", "claude-opus-4-1-20250805"),
                     find(t, "anthropic", "claude-opus-4-1"));
    assert_ptr_equal(find(t, "anthropic", "claude-opus-4-1@20250805"),
                     find(t, "anthropic", "claude-opus-4-1"));
    assert_ptr_not_equal(find(t, "openai", "gpt-4.1-2025-04-14"), find(t, "openai", "gpt-4.1"));
    assert_null(find(t, "openai", "gpt-4o-mini-2024-7-18"));
    assert_null(find(t, "mistral", "mistral-large-3-2508"));
    assert_null(find(t, "openai", "-2024-07-18"));
    assert_null(find(t, "openai", ""));
    price_table_free(t);
}

static void test_an_unknown_or_unpriced_model_has_no_price(void **state)
{
    struct price_table *t = price_table_new(NULL, NULL);

    (void)state;
    assert_null(find(t, "openai", "no-such-model"));
    assert_null(find(t, "no-such-provider", "gpt-4o-mini"));
    assert_false(price_is_known_model(t, SPAN_LIT("openai"), SPAN_LIT("no-such-model")));
    /* known, but what its image tokens cost is not */
    assert_true(price_is_known_model(t, SPAN_LIT("openai"), SPAN_LIT("gpt-image-1")));
    assert_null(find(t, "openai", "gpt-image-1"));
    price_table_free(t);
}

/* ---- the file ---- */

static struct price_table *table_with(const char *text, struct err *err)
{
    char path[] = "/tmp/prices-XXXXXX";
    struct price_table *t;
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
    t = price_table_new(path, err);
    (void)unlink(path);
    return t;
}

static void test_rows_of_the_file_win_over_built_in_ones_and_add_to_them(void **state)
{
    struct price_table *t =
        table_with("{\"prices\":["
                   "{\"provider\":\"openai\",\"model\":\"gpt-4o-mini\",\"input_usd_per_mtok\":\"0.20\","
                   "\"output_usd_per_mtok\":0.8},"
                   "{\"provider\":\"my\\u002dlab\",\"model\":\"llama/3\",\"input_usd_per_mtok\":1,"
                   "\"output_usd_per_mtok\":2e0,\"cached_usd_per_mtok\":\"0.5\","
                   "\"cache_write_usd_per_mtok\":\"1.25\",\"reasoning_usd_per_mtok\":\"3\","
                   "\"image_usd\":\"0.04\",\"search_usd\":\"0.01\",\"context_tokens\":8192,"
                   "\"max_output_tokens\":1024}]}",
                   NULL);
    const struct price *p;

    (void)state;
    assert_non_null(t);
    p = find(t, "openai", "gpt-4o-mini");
    assert_int_equal(p->input, 200000);
    assert_int_equal(p->output, 800000);
    assert_int_equal(p->cached, -1); /* the whole row is replaced */
    p = find(t, "my-lab", "llama/3");
    assert_int_equal(p->input, 1000000);
    assert_int_equal(p->output, 2000000);
    assert_int_equal(p->cached, 500000);
    assert_int_equal(p->cache_write, 1250000);
    assert_int_equal(p->reasoning, 3000000);
    assert_int_equal(p->per_image, 40000000000);
    assert_int_equal(p->per_search, 10000000000);
    assert_int_equal(p->context_tokens, 8192);
    assert_int_equal(p->max_output_tokens, 1024);
    assert_non_null(find(t, "anthropic", "claude-sonnet-4-5"));
    price_table_free(t);
}

static void test_a_model_may_be_priced_by_the_image_alone(void **state)
{
    struct price_table *t =
        table_with("{\"prices\":[{\"provider\":\"p\",\"model\":\"m\",\"image_usd\":\"0.04\"}]}", NULL);
    struct usage u = {.input = 10, .output = 4000, .images = 3};

    (void)state;
    assert_non_null(find(t, "p", "m"));
    assert_int_equal(price_cost_nanousd(find(t, "p", "m"), &u), 120000000);
    price_table_free(t);
}

static void test_a_file_of_many_rows_is_searched_as_well(void **state)
{
    char *text = malloc(400000);
    size_t n = 0;
    struct price_table *t;

    (void)state;
    n += (size_t)snprintf(text, 400000, "{\"prices\":[");
    for (int i = 0; i < 3000; i++)
        n += (size_t)snprintf(text + n, 400000 - n,
                              "%s{\"provider\":\"p%d\",\"model\":\"m\",\"input_usd_per_mtok\":\"%d\","
                              "\"output_usd_per_mtok\":\"1\"}",
                              i ? "," : "", i, i);
    (void)snprintf(text + n, 400000 - n, "]}");
    t = table_with(text, NULL);
    assert_non_null(t);
    for (int i = 0; i < 3000; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "p%d", i);
        assert_int_equal(find(t, name, "m")->input, (int64_t)i * 1000000);
    }
    price_table_free(t);
    free(text);
}

static void test_a_file_with_any_mistake_is_refused_with_its_place(void **state)
{
    static const struct {
        const char *text, *says;
    } CASES[] = {
        {"", "price file"},
        {"[]", "not a JSON object"},
        {"{\"prices\":[}", "price file"},
        {"{\"price\":[]}", "unknown member 'price'"},
        {"{\"prices\":{}}", "'prices' is not a list"},
        {"{\"prices\":[1]}", "prices[0]: not an object"},
        {"{\"prices\":[{\"model\":\"m\",\"input_usd_per_mtok\":1}]}", "'provider' and 'model'"},
        {"{\"prices\":[{\"provider\":\"p\",\"model\":\"m\"}]}", "states neither"},
        {"{\"prices\":[{\"provider\":\"p\",\"model\":\"m\",\"input_usd_per_mtok\":\"1\"}]}",
         "no 'output_usd_per_mtok'"},
        {"{\"prices\":[{\"provider\":\"p\",\"model\":\"m\",\"input\":1}]}", "unknown member 'input'"},
        {"{\"prices\":[{\"provider\":\"p\",\"model\":\"m\",\"input_usd_per_mtok\":\"-1\"}]}",
         "'input_usd_per_mtok': '-1'"},
        {"{\"prices\":[{\"provider\":\"p\",\"model\":\"m\",\"input_usd_per_mtok\":true}]}",
         "neither a decimal"},
        {"{\"prices\":[{\"provider\":\"p\",\"model\":\"m\",\"input_usd_per_mtok\":1,\"input_usd_per_mtok\":2}"
         "]}",
         "given twice"},
        {"{\"prices\":[{\"provider\":\"p\",\"provider\":\"q\",\"model\":\"m\"}]}", "given twice"},
        {"{\"prices\":[{\"provider\":\"p\",\"model\":\"\"}]}", "'model' is not a name"},
        {"{\"prices\":[{\"provider\":\"p\",\"model\":\"m\",\"context_tokens\":1.5}]}", "not a whole number"},
        {"{\"prices\":[{\"provider\":\"p\",\"model\":\"m\",\"input_usd_per_mtok\":1e-7}]}", "finer than"},
        {"{\"prices\":[{\"provider\":\"p\",\"model\":\"m\",\"input_usd_per_mtok\":1,\"output_usd_per_mtok\":"
         "1},"
         "{\"provider\":\"p\",\"model\":\"m\",\"input_usd_per_mtok\":1,\"output_usd_per_mtok\":1}]}",
         "'p/m' is priced twice"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct err err = {0};

        assert_null(table_with(CASES[i].text, &err));
        assert_int_equal(err.code, ERR_CONFIG);
        if (!strstr(err.text, CASES[i].says))
            fail_msg("case %zu says '%s'", i, err.text);
    }
}

static void test_the_example_of_the_manual_is_accepted(void **state)
{
    static char text[16384];
    FILE *f = fopen(SOURCE_DIR "/docs/prices.md", "re");
    char *from, *to;
    struct price_table *t;

    (void)state;
    assert_non_null(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    (void)fclose(f);
    from = strstr(text, "```json\n");
    assert_non_null(from);
    to = strstr(from + 8, "```");
    assert_non_null(to);
    *to = '\0';
    t = table_with(from + 8, NULL);
    assert_non_null(t);
    assert_int_equal(find(t, "our-vllm", "llama-3.3-70b")->output, 200000);
    price_table_free(t);
}

static void test_a_missing_file_is_an_error(void **state)
{
    struct err err = {0};

    (void)state;
    assert_null(price_table_new("/nonexistent/prices.json", &err));
    assert_int_equal(err.code, ERR_CONFIG);
    assert_non_null(strstr(err.text, "'/nonexistent/prices.json'"));
}

/* ---- cost ---- */

static const struct price PLAIN = {.input = 2500000,
                                   .cached = 1250000,
                                   .cache_write = 3125000,
                                   .output = 10000000,
                                   .reasoning = -1,
                                   .per_image = -1,
                                   .per_search = -1};

static void test_token_classes_are_disjoint_and_each_has_its_price(void **state)
{
    struct usage u = {.input = 1000, .cached = 400, .cache_write = 100, .output = 200, .reasoning = 50};

    (void)state;
    /* 500 x 2.5 + 400 x 1.25 + 100 x 3.125 + 200 x 10 micro-dollars a token */
    assert_int_equal(price_cost_nanousd(&PLAIN, &u), 1250000 + 500000 + 312500 + 2000000);
}

static void test_more_cached_than_input_tokens_are_clamped(void **state)
{
    struct usage over = {.input = 100, .cached = 130, .cache_write = 50};
    struct usage full = {.input = 100, .cached = 100};

    (void)state;
    assert_int_equal(price_cost_nanousd(&PLAIN, &over), price_cost_nanousd(&PLAIN, &full));
}

static void test_a_class_without_a_price_costs_as_much_as_input(void **state)
{
    struct price p = PLAIN;
    struct usage u = {.input = 1000, .cached = 400, .cache_write = 100};

    (void)state;
    p.cached = p.cache_write = -1;
    assert_int_equal(price_cost_nanousd(&p, &u), 2500000);
}

static void test_reasoning_has_its_own_price_when_there_is_one(void **state)
{
    struct price p = PLAIN;
    struct usage u = {.output = 100, .reasoning = 40};

    (void)state;
    p.reasoning = 20000000;
    assert_int_equal(price_cost_nanousd(&p, &u), 60 * 10000 + 40 * 20000);
    u.reasoning = 400; /* more than there is */
    assert_int_equal(price_cost_nanousd(&p, &u), 100 * 20000);
}

static void test_searches_and_images_are_added(void **state)
{
    struct price p = PLAIN;
    struct usage u = {.images = 2, .searches = 3};

    (void)state;
    assert_int_equal(price_cost_nanousd(&p, &u), 0);
    p.per_image = 40000000000;
    p.per_search = 10000000000;
    assert_int_equal(price_cost_nanousd(&p, &u), 2 * 40000000 + 3 * 10000000);
}

static void test_a_fraction_of_a_nano_dollar_is_rounded_up_once(void **state)
{
    struct price p = {.input = 1,
                      .cached = 1,
                      .cache_write = 1,
                      .output = 1,
                      .reasoning = -1,
                      .per_image = -1,
                      .per_search = -1};
    struct usage u = {.input = 3, .cached = 1, .cache_write = 1, .output = 1};

    (void)state;
    assert_int_equal(price_cost_nanousd(&p, &u), 1);
    u.output = 997;
    assert_int_equal(price_cost_nanousd(&p, &u), 1);
    u.output = 998;
    assert_int_equal(price_cost_nanousd(&p, &u), 2);
    u = (struct usage){0};
    assert_int_equal(price_cost_nanousd(&p, &u), 0);
}

static void test_absurd_counts_saturate(void **state)
{
    struct price p = {.input = INT64_MAX,
                      .cached = INT64_MAX,
                      .cache_write = INT64_MAX,
                      .output = INT64_MAX,
                      .reasoning = INT64_MAX,
                      .per_image = INT64_MAX,
                      .per_search = INT64_MAX};
    struct usage all = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX,
                        UINT64_MAX, UINT64_MAX, UINT64_MAX, USAGE_REPORTED};
    struct usage one = {.input = 1};

    (void)state;
    assert_int_equal(price_cost_nanousd(&p, &all), PRICE_COST_MAX_NANOUSD);
    assert_int_equal(price_cost_nanousd(&p, &one), PRICE_COST_MAX_NANOUSD);
    p.input = PRICE_COST_MAX_NANOUSD * 1000;
    assert_int_equal(price_cost_nanousd(&p, &one), PRICE_COST_MAX_NANOUSD);
    p.input -= 1000;
    assert_int_equal(price_cost_nanousd(&p, &one), PRICE_COST_MAX_NANOUSD - 1);
}

/* xorshift: the run is the same everywhere, the seed is in the failure message's place in the loop. */
static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static unsigned __int128 times(uint64_t count, int64_t price, int64_t otherwise)
{
    return (unsigned __int128)count * (uint64_t)(price >= 0 ? price : otherwise);
}

static void test_cost_agrees_with_wide_arithmetic_on_random_usage(void **state)
{
    uint64_t s = 88172645463325252u;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        unsigned bits = 1 + (unsigned)(next_random(&s) % 40);
        uint64_t mask = ((uint64_t)1 << bits) - 1;
        struct price p = {.input = (int64_t)(next_random(&s) % 100000000),
                          .output = (int64_t)(next_random(&s) % 100000000)};
        struct usage u = {.input = next_random(&s) & mask,
                          .cached = next_random(&s) & mask,
                          .cache_write = next_random(&s) & mask,
                          .output = next_random(&s) & mask,
                          .reasoning = next_random(&s) & mask,
                          .images = next_random(&s) % 5,
                          .searches = next_random(&s) % 5};
        uint64_t cached, written, reasoning;
        unsigned __int128 pico, nano;

        p.cached = (int64_t)(next_random(&s) % 3 ? next_random(&s) % 50000000 : UINT64_MAX);
        p.cache_write = (int64_t)(next_random(&s) % 3 ? next_random(&s) % 150000000 : UINT64_MAX);
        p.reasoning = (int64_t)(next_random(&s) % 3 ? next_random(&s) % 150000000 : UINT64_MAX);
        p.per_image = (int64_t)(next_random(&s) % 2 ? 40000000000 : UINT64_MAX);
        p.per_search = (int64_t)(next_random(&s) % 2 ? 10000000001 : UINT64_MAX);
        cached = u.cached > u.input ? u.input : u.cached;
        written = u.cache_write > u.input - cached ? u.input - cached : u.cache_write;
        reasoning = u.reasoning > u.output ? u.output : u.reasoning;
        pico = times(u.input - cached - written, p.input, 0) + times(cached, p.cached, p.input) +
               times(written, p.cache_write, p.input) + times(u.output - reasoning, p.output, 0) +
               times(reasoning, p.reasoning, p.output) + times(u.images, p.per_image, 0) +
               times(u.searches, p.per_search, 0);
        nano = pico / 1000 + (pico % 1000 != 0);
        nano = nano < PRICE_COST_MAX_NANOUSD ? nano : PRICE_COST_MAX_NANOUSD;
        assert_int_equal(price_cost_nanousd(&p, &u), (int64_t)nano);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decimal_amounts_become_whole_pico_dollars),
        cmocka_unit_test(test_amounts_that_cannot_be_exact_are_refused),
        cmocka_unit_test(test_a_built_in_model_has_its_price),
        cmocka_unit_test(test_every_built_in_row_is_found_by_its_own_name),
        cmocka_unit_test(test_a_dated_name_falls_back_to_the_undated_row_only_when_it_has_none),
        cmocka_unit_test(test_an_unknown_or_unpriced_model_has_no_price),
        cmocka_unit_test(test_rows_of_the_file_win_over_built_in_ones_and_add_to_them),
        cmocka_unit_test(test_a_model_may_be_priced_by_the_image_alone),
        cmocka_unit_test(test_a_file_of_many_rows_is_searched_as_well),
        cmocka_unit_test(test_a_file_with_any_mistake_is_refused_with_its_place),
        cmocka_unit_test(test_the_example_of_the_manual_is_accepted),
        cmocka_unit_test(test_a_missing_file_is_an_error),
        cmocka_unit_test(test_token_classes_are_disjoint_and_each_has_its_price),
        cmocka_unit_test(test_more_cached_than_input_tokens_are_clamped),
        cmocka_unit_test(test_a_class_without_a_price_costs_as_much_as_input),
        cmocka_unit_test(test_reasoning_has_its_own_price_when_there_is_one),
        cmocka_unit_test(test_searches_and_images_are_added),
        cmocka_unit_test(test_a_fraction_of_a_nano_dollar_is_rounded_up_once),
        cmocka_unit_test(test_absurd_counts_saturate),
        cmocka_unit_test(test_cost_agrees_with_wide_arithmetic_on_random_usage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
