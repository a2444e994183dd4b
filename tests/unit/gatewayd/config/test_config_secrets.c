/* SPDX-License-Identifier: Apache-2.0 */
/* Variables in values, secrets in files, and the key that is made when there are no tenants. */
#include <string.h>
#include <sys/wait.h>

#include "tests/unit/cm.h"
#include "tests/unit/gatewayd/config/load.h"

#define P "providers: [{name: p, kind: openai, base_url: 'http://127.0.0.1:1/v1'}]\n"

/* ---- expansion and secrets ---- */

static void test_variables_are_put_in(void **state)
{
    struct config *c;

    (void)state;
    (void)setenv("HOSTPART", "127.0.0.1", 1);
    (void)setenv("EMPTYONE", "", 1);
    c = load_ok("listen: '${HOSTPART}:${MISSING:-8088}'\nsentry: {environment: 'a$b $${HOSTPART} "
                "${EMPTYONE}${EMPTYONE:-x}$'}\n" P);
    assert_string_equal(c->listen.host, "127.0.0.1");
    assert_int_equal(c->listen.port, 8088);
    assert_string_equal(c->sentry.environment, "a$b ${HOSTPART} x$");
    config_unref(c);
    (void)unsetenv("HOSTPART");
    (void)unsetenv("EMPTYONE");
}

static void test_a_variable_is_never_structure(void **state)
{
    struct config *c;
    struct err err;

    (void)state;
    (void)setenv("HOSTILE", "x, workers: 5, y: [", 1);
    c = load_ok("workers: 1\n" P "tenants: [{id: t, plan: p, models: [${HOSTILE}, z]}]\n");
    assert_int_equal(c->workers, 1);
    assert_int_equal(c->tenants[0].n_models, 2);
    assert_string_equal(c->tenants[0].models[0], "x, workers: 5, y: [");
    config_unref(c);
    (void)setenv("HOSTILE", "x\nworkers: 5\n", 1);
    assert_null(load_text(P "sentry: {environment: ${HOSTILE}}\n", &err));
    assert_string_equal(err.text,
                        "conf.yaml:2:23: 'sentry.environment' must be text without control characters, not "
                        "'${HOSTILE}'");
    (void)unsetenv("HOSTILE");
}

static void test_empty_keys_are_skipped_and_a_provider_with_only_such_is_off(void **state)
{
    struct config *c;

    (void)state;
    (void)setenv("OPENAI_API_KEY", "sk-canary", 1);
    c = load_ok("providers:\n- {name: openai, api_keys: ['${MISSING:-}', b]}\n- {name: groq, api_keys: "
                "['${MISSING:-}']}\n");
    assert_int_equal(c->providers[0].n_api_keys, 1);
    assert_true(c->providers[0].is_enabled);
    assert_false(c->providers[1].is_enabled);
    assert_non_null(
        strstr(warnings_of(c), "conf.yaml:3:10: provider 'groq' is off: all its keys are empty\n"));
    config_unref(c);
    clear_environment();
}

static void test_a_disabled_provider_may_lack_its_variables(void **state)
{
    struct config *c = load_ok("providers: [{name: groq, api_keys: [${MISSING}], enabled: no}]\n"
                               "models: [{name: m, targets: [{provider: groq, model: x}]}]\n");

    (void)state;
    assert_false(c->providers[0].is_enabled);
    assert_int_equal(c->providers[0].n_api_keys, 0);
    assert_non_null(strstr(warnings_of(c), "model 'm' cannot answer"));
    config_unref(c);
}

static void test_secrets_come_from_files(void **state)
{
    struct config *c;
    char text[512];

    (void)state;
    write_text("token", "7d0f4be1c9a2e653\n", 0600);
    write_text("world", "sk-canary\r\n", 0644);
    write_text("redis", "redis://:pw@h:1/0", 0600);
    (void)snprintf(
        text, sizeof(text),
        "admin: {token: 'file:%s/token'}\nredis: file:%s/redis\nproviders: [{name: openai, api_keys: "
        "['file:${HERE}/world']}]\n",
        load_dir, load_dir);
    (void)setenv("HERE", load_dir, 1);
    c = load_ok(text);
    assert_true(secret_equal(&c->admin_token, SPAN_LIT("7d0f4be1c9a2e653")));
    assert_true(secret_equal(&c->providers[0].api_keys[0], SPAN_LIT("sk-canary")));
    assert_string_equal(c->redis, "redis://:pw@h:1/0");
    assert_string_equal(c->admin_listen.host, "127.0.0.1");
    assert_int_equal(c->admin_listen.port, 8081);
    assert_non_null(strstr(warnings_of(c), "can be read by everyone"));
    assert_null(strstr(warnings_of(c), "canary"));
    config_unref(c);
    (void)unsetenv("HERE");
    write_text("token", "\n", 0600);
    (void)setenv("GATEWAYD_TOKEN", "file:/", 1);
    assert_null(load_text(P, &(struct err){0}));
    clear_environment();
}

static void test_an_empty_or_oversized_secret_file_is_refused(void **state)
{
    static char big[LIMIT_SECRET_FILE + 2];
    struct err err;
    char value[128];

    (void)state;
    memset(big, 'x', sizeof(big) - 1);
    write_text("empty", "\n", 0600);
    write_text("big", big, 0600);
    (void)snprintf(value, sizeof(value), "file:%s/empty", load_dir);
    (void)setenv("GATEWAYD_TOKEN", value, 1);
    assert_null(load_text(P, &err));
    assert_non_null(strstr(err.text, "/empty' is empty"));
    (void)snprintf(value, sizeof(value), "file:%s/big", load_dir);
    (void)setenv("GATEWAYD_TOKEN", value, 1);
    assert_null(load_text(P, &err));
    assert_non_null(strstr(err.text, "is larger than 16383 bytes"));
    clear_environment();
}

static void test_a_readable_file_that_holds_secrets_is_warned_of(void **state)
{
    struct config_options o = {.path = "conf.yaml", .state_dir = "state"};
    struct err err = {0};
    struct config *c;

    (void)state;
    write_text("conf.yaml", "providers: [{name: openai, api_keys: [sk-canary]}]\n", 0644);
    c = config_load(&o, &err);
    assert_non_null(strstr(warnings_of(c), "conf.yaml: holds secrets and can be read by everyone"));
    config_unref(c);
    (void)setenv("MYKEY", "sk-canary", 1);
    write_text("conf.yaml", "providers: [{name: openai, api_keys: ['${MYKEY}']}]\n", 0644);
    c = config_load(&o, &err);
    assert_null(strstr(warnings_of(c), "holds secrets"));
    config_unref(c);
    (void)unsetenv("MYKEY");
}

/* ---- the default tenant ---- */

static void read_text(const char *name, char *dst, size_t cap)
{
    FILE *f = fopen(name, "r");
    size_t n;

    assert_non_null(f);
    n = fread(dst, 1, cap - 1, f);
    dst[n] = '\0';
    (void)fclose(f);
}

static void test_a_key_is_minted_once_and_kept(void **state)
{
    struct config_options check = {.path = "conf.yaml", .state_dir = "deep/er/state", .is_check = true};
    struct config_options run = {.path = "conf.yaml", .state_dir = "deep/er/state"};
    unsigned char digest[SHA256_BYTES];
    char key[128], again[128];
    struct err err = {0};
    struct config *c;
    struct stat st;

    (void)state;
    write_text("conf.yaml", P, 0600);
    c = config_load(&check, &err);
    assert_non_null(c);
    assert_int_equal(c->n_keys, 0);
    assert_int_equal(access("deep", F_OK), -1);
    assert_non_null(strstr(warnings_of(c), "that the first start will write to 'deep/er/state/default.key'"));
    config_unref(c);
    c = config_load(&run, &err);
    if (!c)
        fail_msg("%s", err.text);
    assert_int_equal(stat("deep/er/state/default.key", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(stat("deep/er/state", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    read_text("deep/er/state/default.key", key, sizeof(key));
    assert_int_equal(strlen(key), 47);
    key[46] = '\0';
    assert_true(strncmp(key, "gw-", 3) == 0);
    assert_int_equal(strspn(key + 3, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"), 43);
    sha256(span_of(key), digest);
    assert_string_equal(config_find_key(c, digest)->tenant->id, "default");
    assert_string_equal(
        warnings_of(c),
        "no tenants are configured: tenant 'default' has the key in 'deep/er/state/default.key'\n");
    config_unref(c);
    c = config_load(&run, &err);
    assert_non_null(config_find_key(c, digest));
    config_unref(c);
    read_text("deep/er/state/default.key", again, sizeof(again));
    assert_memory_equal(key, again, 46);
    write_text("deep/er/state/default.key", "short\n", 0600);
    assert_null(config_load(&run, &err));
    assert_string_equal(
        err.text, "the key in 'deep/er/state/default.key' is shorter than 16 characters; remove the file "
                  "for a new one");
}

static void test_processes_that_start_together_agree_on_the_key(void **state)
{
    struct config_options o = {.path = "conf.yaml", .state_dir = "together/state"};
    unsigned char digest[SHA256_BYTES];
    struct err err = {0};
    struct config *c;
    pid_t pids[8];
    int ends[2];

    (void)state;
    write_text("conf.yaml", P, 0600);
    assert_int_equal(pipe(ends), 0);
    for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            c = config_load(&o, &err);
            _exit(c && write(ends[1], c->keys[0].sha256, SHA256_BYTES) == SHA256_BYTES ? 0 : 1);
        }
    }
    c = config_load(&o, &err);
    assert_non_null(c);
    for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
        int status = -1;

        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
        assert_int_equal(read(ends[0], digest, SHA256_BYTES), SHA256_BYTES);
        assert_memory_equal(digest, c->keys[0].sha256, SHA256_BYTES);
    }
    config_unref(c);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void test_the_default_tenant_s_key_may_come_from_the_environment(void **state)
{
    struct config_options o = {.path = "conf.yaml", .state_dir = "unused"};
    unsigned char digest[SHA256_BYTES];
    struct err err = {0};
    struct config *c;

    (void)state;
    write_text("conf.yaml", P, 0600);
    (void)setenv("GATEWAYD_KEY", "canary-0123456789", 1);
    c = config_load(&o, &err);
    sha256(SPAN_LIT("canary-0123456789"), digest);
    assert_non_null(config_find_key(c, digest));
    assert_int_equal(access("unused", F_OK), -1);
    assert_null(strstr(warnings_of(c), "canary"));
    config_unref(c);
    c = load_ok(P "tenants: [{id: t, keys: [{id: k, key: abcdef0123456789}]}]\n");
    assert_null(config_find_key(c, digest));
    assert_non_null(strstr(warnings_of(c), "'GATEWAYD_KEY' is not used"));
    config_unref(c);
    clear_environment();
}

static void test_an_unusable_state_directory_is_named(void **state)
{
    struct config_options o = {.path = "conf.yaml", .state_dir = "conf.yaml/state"};
    struct err err = {0};

    (void)state;
    write_text("conf.yaml", P, 0600);
    assert_null(config_load(&o, &err));
    assert_non_null(strstr(err.text, "conf.yaml"));
    assert_non_null(strstr(err.text, "Not a directory"));
}

static void test_the_state_directory_follows_the_machine(void **state)
{
    struct config_options o = {.path = "conf.yaml", .is_check = true};
    struct err err = {0};
    struct config *c;

    (void)state;
    write_text("conf.yaml", P, 0600);
    (void)setenv("HOME", "/h", 1);
    c = config_load(&o, &err);
    assert_string_equal(c->state_dir, "/h/.local/state/gatewayd");
    config_unref(c);
    (void)setenv("XDG_STATE_HOME", "/xdg", 1);
    c = config_load(&o, &err);
    assert_string_equal(c->state_dir, "/xdg/gatewayd");
    config_unref(c);
    (void)setenv("STATE_DIRECTORY", "/var/lib/gatewayd:/other", 1);
    (void)setenv("RUNTIME_DIRECTORY", "/run/gatewayd", 1);
    c = config_load(&o, &err);
    assert_string_equal(c->state_dir, "/var/lib/gatewayd");
    assert_string_equal(c->admin_socket, "/run/gatewayd/admin.sock");
    assert_string_equal(c->access_log, "/var/lib/gatewayd/access.log");
    config_unref(c);
    clear_environment();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variables_are_put_in),
        cmocka_unit_test(test_a_variable_is_never_structure),
        cmocka_unit_test(test_empty_keys_are_skipped_and_a_provider_with_only_such_is_off),
        cmocka_unit_test(test_a_disabled_provider_may_lack_its_variables),
        cmocka_unit_test(test_secrets_come_from_files),
        cmocka_unit_test(test_an_empty_or_oversized_secret_file_is_refused),
        cmocka_unit_test(test_a_readable_file_that_holds_secrets_is_warned_of),
        cmocka_unit_test(test_a_key_is_minted_once_and_kept),
        cmocka_unit_test(test_processes_that_start_together_agree_on_the_key),
        cmocka_unit_test(test_the_default_tenant_s_key_may_come_from_the_environment),
        cmocka_unit_test(test_an_unusable_state_directory_is_named),
        cmocka_unit_test(test_the_state_directory_follows_the_machine),
    };

    return cmocka_run_group_tests(tests, enter_dir, leave_dir);
}
