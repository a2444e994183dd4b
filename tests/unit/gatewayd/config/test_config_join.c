/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "gatewayd/config/config.h"
#include "tests/unit/cm.h"
#include "tests/unit/gatewayd/config/load.h"

#define FILE_TEXT                                                                                            \
    "providers: [{name: p, kind: openai, base_url: 'http://127.0.0.1:1/v1'}]\n"                              \
    "models: [{name: chat, targets: [{provider: p, model: m}]}]\n"                                           \
    "tenants:\n"                                                                                             \
    "  - {id: acme, plan: pro, models: [chat], limits: {rpm: 7}, budget: {usd: 5},\n"                        \
    "     keys: [{id: web, key: 'acme-web-key-0123456789'}]}\n"                                              \
    "  - {id: bare, keys: [{id: one, key: 'bare-one-key-0123456789'}]}\n"

static struct config *load_file(void)
{
    struct err err = {0};
    struct config *c;

    write_text("conf.yaml", FILE_TEXT, 0600);
    c = config_load(&(struct config_options){.path = "conf.yaml", .version = 3}, &err);
    if (!c)
        fail_msg("%s", err_text(&err));
    return c;
}

static struct config_extra_key key_of(const char *tenant, const char *id, const char *secret)
{
    struct config_extra_key k = {.tenant = tenant, .id = id, .is_enabled = true};

    sha256(span_of(secret), k.sha256);
    return k;
}

static const struct config_key *find(const struct config *c, const char *secret)
{
    unsigned char digest[SHA256_BYTES];

    sha256(span_of(secret), digest);
    return config_find_key(c, digest);
}

static const struct config_tenant *tenant(const struct config *c, const char *id)
{
    for (size_t i = 0; i < c->n_tenants; i++)
        if (strcmp(c->tenants[i].id, id) == 0)
            return &c->tenants[i];
    return NULL;
}

static struct config *join(struct config *file, const struct config_extra *x)
{
    struct config *c = config_join(file, x);

    config_unref(file); /* what is joined keeps it */
    return c;
}

static void test_nothing_more_gives_what_the_file_says(void **state)
{
    struct config *c = join(load_file(), &(struct config_extra){0});

    (void)state;
    assert_int_equal(c->n_tenants, 2);
    assert_int_equal(c->n_keys, 2);
    assert_int_equal(c->version, 3);
    assert_false(c->lacks_keys);
    assert_string_equal(find(c, "acme-web-key-0123456789")->tenant->id, "acme");
    assert_ptr_equal(find(c, "acme-web-key-0123456789")->tenant, tenant(c, "acme"));
    assert_non_null(config_find_model(c, SPAN_LIT("chat")));
    assert_null(find(c, "stranger"));
    config_unref(c);
}

static void test_the_file_s_definition_wins_and_others_are_added(void **state)
{
    static const char *const MODELS[] = {"other"};
    const struct config_extra_tenant tenants[] = {
        {.id = "acme",
         .plan = "free",
         .is_defined = true,
         .is_enabled = true,
         .limits.rpm = 1,
         .budget.limit_nanousd = 9},
        {.id = "new",
         .plan = "trial",
         .is_defined = true,
         .is_enabled = true,
         .models = MODELS,
         .n_models = 1,
         .limits.tpm = 4,
         .budget.limit_nanousd = 8,
         .budget.period = PERIOD_DAY},
    };
    struct config *c = join(load_file(), &(struct config_extra){.tenants = tenants, .n_tenants = 2});

    (void)state;
    assert_int_equal(c->n_tenants, 3);
    assert_string_equal(tenant(c, "acme")->plan, "pro");
    assert_int_equal(tenant(c, "acme")->limits.rpm, 7);
    assert_int_equal(tenant(c, "acme")->budget.limit_nanousd, 5000000000);
    assert_string_equal(tenant(c, "new")->plan, "trial");
    assert_int_equal(tenant(c, "new")->limits.tpm, 4);
    assert_int_equal(tenant(c, "new")->budget.period, PERIOD_DAY);
    assert_true(config_tenant_may_use(tenant(c, "new"), SPAN_LIT("other")));
    assert_false(config_tenant_may_use(tenant(c, "new"), SPAN_LIT("chat")));
    assert_string_equal(label_text(tenant(c, "new")->label), "new");
    config_unref(c);
}

static void test_a_key_may_be_added_to_a_tenant_of_the_file(void **state)
{
    const struct config_extra_key keys[] = {
        key_of("acme", "mobile", "added"), key_of("acme", "web", "same name"),
        key_of("nobody", "x", "orphan"), key_of("bare", "thief", "acme-web-key-0123456789")};
    struct config *c = join(load_file(), &(struct config_extra){.keys = keys, .n_keys = 4});

    (void)state;
    assert_string_equal(find(c, "added")->tenant->id, "acme");
    assert_string_equal(find(c, "added")->id, "mobile");
    assert_null(find(c, "same name")); /* the file has a key of that name */
    assert_null(find(c, "orphan"));
    assert_string_equal(find(c, "acme-web-key-0123456789")->tenant->id, "acme");
    assert_int_equal(c->n_keys, 3);
    config_unref(c);
}

static void test_a_refusal_wins_wherever_it_was_said(void **state)
{
    struct config_extra_key keys[] = {key_of("acme", "web", "acme-web-key-0123456789"),
                                      key_of("bare", "one", "bare-one-key-0123456789"),
                                      key_of("acme", "old", "old"), key_of("acme", "web", "before")};
    const struct config_extra_tenant tenants[] = {{.id = "bare", .plan = "", .is_enabled = false},
                                                  {.id = "gone", .plan = "", .is_enabled = false}};
    struct config *c;

    (void)state;
    keys[0].is_revoked = true;
    keys[1].is_enabled = false;
    keys[2].is_revoked = true;
    keys[3].is_revoked = true;
    c = join(load_file(),
             &(struct config_extra){.tenants = tenants, .n_tenants = 2, .keys = keys, .n_keys = 4});
    assert_true(find(c, "acme-web-key-0123456789")->is_revoked);
    assert_false(find(c, "bare-one-key-0123456789")->is_enabled);
    assert_true(find(c, "old")->is_revoked);
    assert_true(find(c, "before")->is_revoked);
    assert_string_equal(label_text(find(c, "old")->label), "revoked");
    assert_false(tenant(c, "bare")->is_enabled);
    assert_true(tenant(c, "acme")->is_enabled);
    assert_null(tenant(c, "gone")); /* nobody defines it */
    config_unref(c);
}

static void test_a_budget_of_an_account_yields_to_the_file_only(void **state)
{
    const struct config_extra_tenant tenants[] = {
        {.id = "new", .plan = "p", .is_defined = true, .is_enabled = true, .budget.limit_nanousd = 1}};
    const struct config_account accounts[] = {
        {.account = "tenant:acme", .budget = {.limit_nanousd = 100, .period = PERIOD_DAY}},
        {.account = "tenant:bare", .budget = {.limit_nanousd = 200, .period = PERIOD_DAY}},
        {.account = "tenant:new", .budget = {.limit_nanousd = 300, .period = PERIOD_HOUR}},
        {.account = "global", .budget = {.limit_nanousd = 400, .period = PERIOD_TOTAL}},
        {.account = "tenant:nobody", .budget = {.limit_nanousd = 1, .period = PERIOD_DAY}},
        {.account = "tenant", .budget = {.limit_nanousd = 1, .period = PERIOD_DAY}}};
    struct config *c = join(
        load_file(),
        &(struct config_extra){.tenants = tenants, .n_tenants = 1, .accounts = accounts, .n_accounts = 6});

    (void)state;
    assert_int_equal(tenant(c, "acme")->budget.limit_nanousd, 5000000000);
    assert_int_equal(tenant(c, "bare")->budget.limit_nanousd, 200);
    assert_int_equal(tenant(c, "new")->budget.limit_nanousd, 300);
    assert_int_equal(tenant(c, "new")->budget.period, PERIOD_HOUR);
    assert_int_equal(c->n_accounts, 6);
    assert_string_equal(c->accounts[3].account, "global");
    assert_int_equal(c->accounts[3].budget.at_limit, AT_LIMIT_BLOCK);
    config_unref(c);
}

static void test_thousands_of_keys_are_all_found(void **state)
{
    static struct config_extra_key keys[5000];
    static char ids[5000][16];
    struct config *c;

    (void)state;
    for (unsigned i = 0; i < 5000; i++) {
        (void)snprintf(ids[i], sizeof(ids[i]), "k%u", i);
        keys[i] = key_of("acme", ids[i], ids[i]);
    }
    c = join(load_file(), &(struct config_extra){.keys = keys, .n_keys = 5000, .lacks_keys = true});
    for (unsigned i = 0; i < 5000; i++)
        assert_string_equal(find(c, ids[i])->id, ids[i]);
    assert_null(find(c, "k5000"));
    assert_true(c->lacks_keys);
    config_unref(c);
}

static void test_states_of_providers_hold_until_their_end(void **state)
{
    const struct config_provider_state states[] = {
        {.provider = "p",
         .state = PROVIDER_DRAINING,
         .at_us = 1,
         .until_us = 1000,
         .reason = "r",
         .actor = "token"},
        {.provider = "unknown", .state = PROVIDER_DISABLED, .reason = "", .actor = ""}};
    struct config *c =
        join(load_file(), &(struct config_extra){.provider_states = states, .n_provider_states = 2});
    const struct config_provider_state *s;

    (void)state;
    assert_int_equal(c->n_provider_states, 1);
    s = config_provider_state(c, c->providers[0].label, 999);
    assert_non_null(s);
    assert_int_equal(s->state, PROVIDER_DRAINING);
    assert_string_equal(s->reason, "r");
    assert_null(config_provider_state(c, c->providers[0].label, 1000));
    assert_null(config_provider_state(c, 0, 1));
    config_unref(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_more_gives_what_the_file_says, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(test_the_file_s_definition_wins_and_others_are_added, enter_dir,
                                        leave_dir),
        cmocka_unit_test_setup_teardown(test_a_key_may_be_added_to_a_tenant_of_the_file, enter_dir,
                                        leave_dir),
        cmocka_unit_test_setup_teardown(test_a_refusal_wins_wherever_it_was_said, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(test_a_budget_of_an_account_yields_to_the_file_only, enter_dir,
                                        leave_dir),
        cmocka_unit_test_setup_teardown(test_states_of_providers_hold_until_their_end, enter_dir, leave_dir),
        cmocka_unit_test_setup_teardown(test_thousands_of_keys_are_all_found, enter_dir, leave_dir),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
