/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <string.h>

#include "gatewayd/provider/pricing.h"
#include "tests/unit/cm.h"
#include "tests/unit/gatewayd/config/load.h"

#define OPENAI "{name: openai, api_keys: [k]}"
#define LOCAL  "{name: local, kind: openai, base_url: 'http://127.0.0.1:1/v1'}"

static bool resolve(const struct config *c, const char *name, struct arena *a, struct config_target *t)
{
    *t = (struct config_target){0};
    return config_resolve_direct(c, span_of(name), a, t);
}

static void assert_resolves(const struct config *c, const char *name, const char *provider, const char *model,
                            const char *label_wanted)
{
    struct config_target t;
    struct arena a = {0};

    if (!resolve(c, name, &a, &t))
        fail_msg("'%s' fits nothing", name);
    assert_string_equal(t.provider->name, provider);
    assert_string_equal(t.model, model);
    assert_string_equal(label_text(t.model_label), label_wanted);
    assert_int_equal(t.weight, 1);
    assert_ptr_equal(t.price, price_find(c->prices, span_of(provider), span_of(model)));
    arena_release(&a);
}

static void assert_fits_nothing(const struct config *c, const char *name)
{
    struct config_target t;
    struct arena a = {0};

    if (resolve(c, name, &a, &t))
        fail_msg("'%s' went to %s", name, t.provider->name);
    arena_release(&a);
}

static void test_a_prefix_names_the_provider(void **state)
{
    struct config *c = load_ok("providers: [" OPENAI ", " LOCAL "]\n"
                               "models: [{name: a, targets: [{provider: local, model: org/own-model}]}]\n");

    (void)state;
    assert_resolves(c, "openai/gpt-4o-mini", "openai", "gpt-4o-mini", "gpt-4o-mini");
    assert_resolves(c, "local/org/own-model", "local", "org/own-model", "org/own-model");
    assert_resolves(c, "openai/org/own-model", "openai", "org/own-model", "other");
    assert_resolves(c, "local/whatever", "local", "whatever", "other");
    assert_fits_nothing(c, "local/");
    assert_fits_nothing(c, "/x");
    assert_fits_nothing(c, "");
    assert_fits_nothing(c, "elsewhere/x");
    assert_fits_nothing(c, "local/a\nb");
    assert_fits_nothing(c, "local/\xff");
    config_unref(c);
}

static void test_a_catalogue_name_finds_its_provider(void **state)
{
    struct config *c = load_ok("providers: [" LOCAL ", " OPENAI ", {name: openrouter, api_keys: [k]}]\n");

    (void)state;
    assert_true(price_is_known_model(c->prices, SPAN_LIT("openai"), SPAN_LIT("gpt-4o-mini")));
    assert_resolves(c, "gpt-4o-mini", "openai", "gpt-4o-mini", "gpt-4o-mini");
    assert_fits_nothing(c, "gpt-nobody-knows");
    config_unref(c);
}

static void test_any_name_goes_to_the_only_provider(void **state)
{
    struct config *c = load_ok("providers: [" LOCAL "]\n");

    (void)state;
    assert_resolves(c, "whatever", "local", "whatever", "other");
    assert_resolves(c, "some/thing", "local", "some/thing", "other");
    config_unref(c);
    c = load_ok("providers: [" LOCAL ", {name: openai, api_keys: [k], enabled: false}]\n");
    assert_resolves(c, "whatever", "local", "whatever", "other");
    assert_resolves(c, "gpt-4o-mini", "local", "gpt-4o-mini", "other");
    assert_fits_nothing(c, "openai/gpt-4o-mini");
    config_unref(c);
}

static void test_models_are_found_by_name(void **state)
{
    struct buf text AUTO(buf_release) = {0};
    struct config *c;

    (void)state;
    buf_addz(&text, "providers: [" LOCAL "]\nmodels:\n");
    for (int i = 0; i < 500; i++)
        buf_addf(
            &text,
            "- {name: 'm/%d', targets: [{provider: local, model: x%d}, {provider: local, model: x%d}]}\n", i,
            i, i);
    c = load_ok(text.p);
    for (size_t i = 0; i < c->n_models; i++)
        assert_ptr_equal(config_find_model(c, span_of(c->models[i].name)), &c->models[i]);
    assert_null(config_find_model(c, SPAN_LIT("m/500")));
    assert_null(config_find_model(c, SPAN_LIT("m/1\0")));
    assert_null(config_find_model(c, SPAN_LIT("")));
    assert_resolves(c, "local/x499", "local", "x499", "x499");
    assert_non_null(config_find_provider(c, SPAN_LIT("local")));
    assert_null(config_find_provider(c, SPAN_LIT("loca")));
    config_unref(c);
}

static void test_keys_are_found_by_their_whole_digest(void **state)
{
    struct buf text AUTO(buf_release) = {0};
    unsigned char digest[SHA256_BYTES];
    char key[32], hex[2 * SHA256_BYTES + 1];
    struct config *c;

    (void)state;
    buf_addz(&text, "providers: [" LOCAL "]\ntenants:\n");
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(key, sizeof(key), "secret-key-no-%05d", i);
        sha256(span_of(key), digest);
        hex_encode(digest, SHA256_BYTES, hex);
        if (i % 2)
            buf_addf(&text, "- {id: t%d, enabled: %s, keys: [{id: k, key: %s}]}\n", i,
                     i == 1 ? "false" : "true", key);
        else
            buf_addf(&text, "- {id: t%d, keys: [{id: k, enabled: %s, sha256: %s}]}\n", i, i ? "true" : "no",
                     hex);
    }
    c = load_ok(text.p);
    assert_int_equal(c->n_keys, 1000);
    for (int i = 0; i < 1000; i++) {
        const struct config_key *k;
        char id[16];

        (void)snprintf(key, sizeof(key), "secret-key-no-%05d", i);
        (void)snprintf(id, sizeof(id), "t%d", i);
        sha256(span_of(key), digest);
        k = config_find_key(c, digest);
        assert_non_null(k);
        assert_string_equal(k->tenant->id, id);
        assert_int_equal(k->is_enabled, i != 0);
        assert_int_equal(k->tenant->is_enabled, i != 1);
        digest[i % SHA256_BYTES] ^= 1;
        assert_null(config_find_key(c, digest));
    }
    config_unref(c);
}

static void test_a_tenant_may_use_what_its_list_names(void **state)
{
    struct config *c =
        load_ok("providers: [" LOCAL "]\ntenants:\n- {id: a}\n- {id: b, models: [chat, 'local/*']}\n"
                "- {id: c, models: []}\n- {id: d, models: ['*']}\n");
    const struct config_tenant *t = c->tenants;

    (void)state;
    assert_true(config_tenant_may_use(&t[0], SPAN_LIT("anything")));
    assert_true(config_tenant_may_use(&t[1], SPAN_LIT("chat")));
    assert_true(config_tenant_may_use(&t[1], SPAN_LIT("local/x")));
    assert_true(config_tenant_may_use(&t[1], SPAN_LIT("local/")));
    assert_false(config_tenant_may_use(&t[1], SPAN_LIT("local")));
    assert_false(config_tenant_may_use(&t[1], SPAN_LIT("chat2")));
    assert_false(config_tenant_may_use(&t[1], SPAN_LIT("cha")));
    assert_false(config_tenant_may_use(&t[2], SPAN_LIT("chat")));
    assert_true(config_tenant_may_use(&t[3], SPAN_LIT("")));
    config_unref(c);
}

static void *ref_and_unref(void *config)
{
    struct config *c = config;

    for (int i = 0; i < 20000; i++) {
        struct config *mine = config_ref(c);

        if (!config_find_model(mine, SPAN_LIT("m")))
            abort();
        config_unref(mine);
    }
    config_unref(c);
    return NULL;
}

static void test_the_last_of_many_threads_frees_a_snapshot(void **state)
{
    struct config *c =
        load_ok("providers: [" LOCAL "]\nmodels: [{name: m, targets: [{provider: local, model: x}]}]\n");
    pthread_t threads[4];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ref_and_unref, config_ref(c)), 0);
    config_unref(c);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    config_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_prefix_names_the_provider),
        cmocka_unit_test(test_a_catalogue_name_finds_its_provider),
        cmocka_unit_test(test_any_name_goes_to_the_only_provider),
        cmocka_unit_test(test_models_are_found_by_name),
        cmocka_unit_test(test_keys_are_found_by_their_whole_digest),
        cmocka_unit_test(test_a_tenant_may_use_what_its_list_names),
        cmocka_unit_test(test_the_last_of_many_threads_frees_a_snapshot),
    };

    return cmocka_run_group_tests(tests, enter_dir, leave_dir);
}
