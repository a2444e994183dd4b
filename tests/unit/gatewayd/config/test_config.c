/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/config/config.h"

#include <string.h>

#include "tests/unit/cm.h"
#include "tests/unit/gatewayd/config/load.h"

static const char EXAMPLE[] =
    "listen: 0.0.0.0:8080\n"
    "admin: {listen: 127.0.0.1:8081, token: ${GATEWAYD_TOKEN}}   # also on the unix socket\n"
    "metrics: {allow: [127.0.0.0/8, 10.0.0.0/8], profiles: [all], max_series: 100000}\n"
    "redis: ${REDIS_URL:-}\n"
    "database: ${DATABASE_URL:-}            # postgresql://… ; empty = SQLite in state_dir\n"
    "providers:\n"
    "  - {name: openrouter, kind: openai, base_url: https://openrouter.ai/api/v1, api_keys: "
    "[${OPENROUTER_API_KEY}]}\n"
    "  - {name: anthropic, kind: anthropic, api_keys: [${ANTHROPIC_API_KEY}], max_concurrent: 200}\n"
    "models:\n"
    "  - name: chat-default\n"
    "    strategy: priority                 # priority | weighted | latency | cost | health | least_busy\n"
    "    targets: [{provider: openrouter, model: openai/gpt-4o-mini, weight: 3}, {provider: anthropic, "
    "model: "
    "claude-sonnet-4-5}]\n"
    "    retries: 2\n"
    "tenants:\n"
    "  - id: acme\n"
    "    plan: pro\n"
    "    keys: [{id: web, sha256: \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"}]\n"
    "    limits: {rpm: 600, tpm: 250000, concurrent: 50}\n"
    "    budget: {usd: 100, period: month, warn: 80, at_limit: block, when_store_down: bounded}\n"
    "breaker: {failures: 5, error_rate: 0.5, min_requests: 20, window: 60s, open_for: 30s, max_open_for: 5m, "
    "probes: "
    "3, close_after: 2}\n";

#define P "providers: [{name: p, kind: openai, base_url: 'http://127.0.0.1:1/v1'}]\n"

static void set_example_environment(void)
{
    (void)setenv("GATEWAYD_TOKEN", "0f3b8c1d9e7a4b52a6", 1);
    (void)setenv("OPENROUTER_API_KEY", "sk-or-canary", 1);
    (void)setenv("ANTHROPIC_API_KEY", "sk-ant-canary", 1);
}

static void assert_example(const struct config *c)
{
    const struct config_model *m = config_find_model(c, SPAN_LIT("chat-default"));
    unsigned char digest[SHA256_BYTES];
    const struct config_key *k;

    assert_string_equal(c->listen.host, "0.0.0.0");
    assert_int_equal(c->listen.port, 8080);
    assert_string_equal(c->admin_listen.host, "127.0.0.1");
    assert_int_equal(c->admin_listen.port, 8081);
    assert_true(secret_equal(&c->admin_token, SPAN_LIT("0f3b8c1d9e7a4b52a6")));
    assert_int_equal(c->metrics.n_allow, 2);
    assert_int_equal(c->metrics.allow[1].prefix, 104);
    assert_int_equal(c->metrics.n_profiles, 1);
    assert_string_equal(c->metrics.profiles[0], "all");
    assert_int_equal(c->metrics.max_series, 100000);
    assert_string_equal(c->redis, "");
    assert_string_equal(c->database, "");
    assert_int_equal(c->n_providers, 2);
    assert_string_equal(c->providers[0].base_url, "https://openrouter.ai/api/v1");
    assert_true(secret_equal(&c->providers[0].api_keys[0], SPAN_LIT("sk-or-canary")));
    assert_string_equal(c->providers[1].base_url, "https://api.anthropic.com/v1");
    assert_int_equal(c->providers[1].max_concurrent, 200);
    assert_int_equal(c->providers[1].index, 1);
    assert_string_equal(label_text(c->providers[1].label), "anthropic");
    assert_non_null(m);
    assert_int_equal(m->strategy, STRATEGY_PRIORITY);
    assert_int_equal(m->n_targets, 2);
    assert_int_equal(m->retries, 2);
    assert_ptr_equal(m->targets[0].provider, &c->providers[0]);
    assert_string_equal(m->targets[0].model, "openai/gpt-4o-mini");
    assert_string_equal(label_text(m->targets[0].model_label), "openai/gpt-4o-mini");
    assert_int_equal(m->targets[0].weight, 3);
    assert_int_equal(m->targets[1].weight, 1);
    assert_non_null(m->targets[1].price);
    sha256(SPAN_LIT("test"), digest);
    k = config_find_key(c, digest);
    assert_non_null(k);
    assert_string_equal(k->id, "web");
    assert_true(k->is_enabled);
    assert_string_equal(k->tenant->id, "acme");
    assert_string_equal(k->tenant->plan, "pro");
    assert_int_equal(k->tenant->limits.tpm, 250000);
    assert_int_equal(k->tenant->budget.limit_nanousd, 100000000000);
    assert_int_equal(k->tenant->budget.when_store_down, STORE_DOWN_BOUNDED);
    assert_int_equal(c->breaker.window_us, 60000000);
    assert_true(c->breaker.error_rate > 0.4999 && c->breaker.error_rate < 0.5001);
    assert_int_equal(c->breaker.close_after, 2);
}

static void test_the_example_of_the_documentation_parses(void **state)
{
    struct config *c;

    (void)state;
    set_example_environment();
    c = load_ok(EXAMPLE);
    assert_example(c);
    assert_string_equal(c->path, "conf.yaml");
    assert_int_equal(c->version, 1);
    assert_string_equal(warnings_of(c), "");
    config_unref(c);
    clear_environment();
}

static void test_the_program_s_own_text_parses_like_a_file(void **state)
{
    struct config_options o = {.overlay_yaml = EXAMPLE, .state_dir = "state", .is_demo = true, .version = 7};
    struct err err = {0};
    struct config *c;

    (void)state;
    set_example_environment();
    c = config_load(&o, &err);
    assert_non_null(c);
    assert_example(c);
    assert_true(c->is_demo);
    assert_null(c->path);
    assert_int_equal(c->version, 7);
    assert_string_equal(warnings_of(c), "");
    config_unref(c);
    o.overlay_yaml = "listen: 1\n";
    assert_null(config_load(&o, &err));
    assert_true(strncmp(err.text, "built-in:1:9: ", 14) == 0);
    clear_environment();
}

static void test_a_file_wins_over_the_program_s_text_and_lists_are_joined(void **state)
{
    struct config_options o = {.path = "conf.yaml", .state_dir = "state"};
    struct err err = {0};
    struct config *c;

    (void)state;
    o.overlay_yaml =
        "workers: 2\nlisten: :1\n" P "tenants: [{id: a, keys: [{id: k, key: 0123456789abcdef}]}]\n";
    write_text("conf.yaml",
               "workers: 3\nproviders: [{name: q, kind: openai, base_url: 'http://127.0.0.1/'}]\n", 0600);
    c = config_load(&o, &err);
    assert_non_null(c);
    assert_int_equal(c->workers, 3);
    assert_int_equal(c->listen.port, 1);
    assert_int_equal(c->n_providers, 2);
    assert_string_equal(c->providers[1].name, "q");
    assert_int_equal(c->n_tenants, 1);
    config_unref(c);
    write_text("conf.yaml", P, 0600);
    assert_null(config_load(&o, &err));
    assert_string_equal(err.text, "conf.yaml:1:20: provider 'p' is there twice");
}

static void test_defaults_are_those_of_the_documentation(void **state)
{
    struct config *c = load_ok(P);

    (void)state;
    assert_string_equal(c->listen.host, "127.0.0.1");
    assert_int_equal(c->listen.port, 8080);
    assert_string_equal(c->admin_listen.host, "");
    assert_string_equal(c->admin_socket, "state/admin.sock");
    assert_string_equal(c->access_log, "state/access.log");
    assert_string_equal(c->log_level, "info");
    assert_true(c->workers >= 1 && c->workers <= LIMIT_WORKERS);
    assert_int_equal(c->journal_max_bytes, (size_t)1 << 30);
    assert_int_equal(c->drain_timeout_us, 600000000);
    assert_int_equal(c->http.max_body, (size_t)32 << 20);
    assert_int_equal(c->http.max_connections, 20000);
    assert_int_equal(c->http.header_time_us, 10000000);
    assert_int_equal(c->http.body_time_us, 30000000);
    assert_int_equal(c->http.keepalive_us, 75000000);
    assert_int_equal(c->http.write_stall_us, 60000000);
    assert_int_equal(c->metrics.n_allow, 2);
    assert_int_equal(c->providers[0].timeouts.connect_us, 5000000);
    assert_int_equal(c->providers[0].timeouts.first_byte_us, 120000000);
    assert_int_equal(c->providers[0].timeouts.idle_us, 120000000);
    assert_int_equal(c->providers[0].timeouts.total_us, 1800000000);
    assert_true(c->providers[0].is_enabled);
    assert_false(c->providers[0].allow_private);
    assert_null(c->tls_cert);
    config_unref(c);
}

static void test_json_is_accepted(void **state)
{
    struct config *c =
        load_ok("{\"listen\":\"[::1]:0\",\"providers\":[{\"name\":\"p\",\"kind\":\"openai\",\"base_url\":"
                "\"http:\\/\\/127.0.0.1:9\\/v1\\/\",\"max_concurrent\":5,\"enabled\":true}]}");

    (void)state;
    assert_string_equal(c->listen.host, "::1");
    assert_int_equal(c->listen.port, 0);
    assert_string_equal(c->providers[0].base_url, "http://127.0.0.1:9/v1");
    assert_int_equal(c->providers[0].max_concurrent, 5);
    config_unref(c);
}

static void test_null_means_not_given(void **state)
{
    struct config *c = load_ok("listen:\nhttp: ~\nmodels:\nworkers: null\n" P);

    (void)state;
    assert_int_equal(c->listen.port, 8080);
    assert_int_equal(c->n_models, 0);
    config_unref(c);
}

static void test_a_provider_s_timeouts_win_over_the_common_ones(void **state)
{
    struct config *c =
        load_ok("upstream: {connect: 1s, total: 10m}\nproviders:\n- {name: p, kind: openai, base_url: "
                "'http://127.0.0.1', timeouts: {connect: 250ms, idle: 3s}}\n");

    (void)state;
    assert_int_equal(c->providers[0].timeouts.connect_us, 250000);
    assert_int_equal(c->providers[0].timeouts.idle_us, 3000000);
    assert_int_equal(c->providers[0].timeouts.total_us, 600000000);
    config_unref(c);
}

/* ---- environment ---- */

static void test_a_key_in_the_environment_is_enough(void **state)
{
    struct err err;
    struct config *c;

    (void)state;
    assert_null(load_nothing(&err));
    assert_non_null(strstr(err.text, "OPENAI_API_KEY"));
    (void)setenv("GROQ_API_KEY", "gsk-canary", 1);
    (void)setenv("OPENAI_API_KEY", "sk-canary", 1);
    (void)setenv("MISTRAL_API_KEY", "", 1);
    c = load_nothing(&err);
    assert_non_null(c);
    assert_int_equal(c->n_providers, 2);
    assert_string_equal(c->providers[0].name, "openai");
    assert_string_equal(c->providers[0].kind, "openai");
    assert_string_equal(c->providers[0].base_url, "https://api.openai.com/v1");
    assert_int_equal(c->providers[0].timeouts.connect_us, 5000000);
    assert_true(secret_equal(&c->providers[0].api_keys[0], SPAN_LIT("sk-canary")));
    assert_string_equal(c->providers[1].name, "groq");
    assert_int_equal(c->n_tenants, 1);
    assert_int_equal(c->n_keys, 1);
    config_unref(c);
    (void)setenv("GATEWAYD_OPENAI_BASE_URL", "http://127.0.0.1:9/v1/", 1);
    c = load_nothing(&err);
    assert_string_equal(c->providers[0].base_url, "http://127.0.0.1:9/v1");
    config_unref(c);
    (void)setenv("GATEWAYD_OPENAI_BASE_URL", "http://u:p@127.0.0.1:9/v1/", 1);
    assert_null(load_nothing(&err));
    assert_string_equal(
        err.text, "environment variable 'GATEWAYD_OPENAI_BASE_URL': the base URL of provider 'openai' is "
                  "not usable: it must not hold a user or password");
    clear_environment();
    (void)setenv("OPENAI_API_KEY", "sk canary", 1);
    assert_null(load_nothing(&err));
    assert_null(strstr(err.text, "canary"));
    clear_environment();
}

static void test_providers_of_a_file_are_all_there_are(void **state)
{
    struct config *c;

    (void)state;
    (void)setenv("OPENAI_API_KEY", "sk-canary", 1);
    c = load_ok(P);
    assert_int_equal(c->n_providers, 1);
    config_unref(c);
    c = load_ok("workers: 1\n");
    assert_int_equal(c->n_providers, 1);
    assert_string_equal(c->providers[0].name, "openai");
    config_unref(c);
    clear_environment();
}

static void test_the_key_of_the_environment_goes_to_the_known_address_only(void **state)
{
    struct config *c;

    (void)state;
    (void)setenv("OPENAI_API_KEY", "sk-canary", 1);
    c = load_ok("providers: [{name: openai}]\n");
    assert_int_equal(c->providers[0].n_api_keys, 1);
    config_unref(c);
    c = load_ok("providers: [{name: openai, base_url: 'http://127.0.0.1:1/'}]\n");
    assert_string_equal(c->providers[0].kind, "openai");
    assert_int_equal(c->providers[0].n_api_keys, 0);
    config_unref(c);
    clear_environment();
}

static unsigned workers_of(const char *file)
{
    struct config *c = load_ok(file);
    unsigned n = c->workers;

    config_unref(c);
    return n;
}

static void test_flag_environment_reference_name_file_default_in_that_order(void **state)
{
    struct config_options o = {.path = "conf.yaml", .state_dir = "state", .listen = "127.0.0.1:5"};
    struct err err = {0};
    struct config *c;

    (void)state;
    assert_int_equal(workers_of("workers: 3\n" P), 3);
    (void)setenv("GATEWAYD_WORKERS", "4", 1);
    assert_int_equal(workers_of("workers: 3\n" P), 4);
    (void)setenv("REDIS_URL", "redis://alias", 1);
    c = load_ok("redis: redis://file\n" P);
    assert_string_equal(c->redis, "redis://alias");
    config_unref(c);
    (void)setenv("GATEWAYD_REDIS_URL", "redis://ours", 1);
    c = load_ok("redis: redis://file\n" P);
    assert_string_equal(c->redis, "redis://ours");
    config_unref(c);
    (void)setenv("REDIS_ENABLED", "false", 1);
    c = load_ok("redis: redis://file\n" P);
    assert_string_equal(c->redis, "");
    config_unref(c);
    (void)setenv("GATEWAYD_LISTEN", ":7", 1);
    write_text("conf.yaml", "listen: :6\n" P, 0600);
    c = config_load(&o, &err);
    assert_int_equal(c->listen.port, 5);
    config_unref(c);
    o.listen = NULL;
    c = config_load(&o, &err);
    assert_int_equal(c->listen.port, 7);
    config_unref(c);
    clear_environment();
}

static void test_the_reference_documents_names_are_read(void **state)
{
    struct config *c;

    (void)state;
    (void)setenv("REDIS_MAX_CONNECTIONS", "9", 1);
    (void)setenv("DATABASE_URL", "postgresql://u:pw@h/d", 1);
    (void)setenv("METRICS_AGGREGATION_ENABLED", "FALSE", 1);
    (void)setenv("METRICS_AGGREGATION_INTERVAL_MINUTES", "30", 1);
    (void)setenv("METRICS_REDIS_RETENTION_HOURS", "2", 1);
    (void)setenv("GRAFANA_CLOUD_ENABLED", "true", 1);
    (void)setenv("GRAFANA_PROMETHEUS_REMOTE_WRITE_URL", "https://h/push", 1);
    (void)setenv("GRAFANA_PROMETHEUS_USERNAME", "123", 1);
    (void)setenv("GRAFANA_PROMETHEUS_API_KEY", "glc_canary", 1);
    (void)setenv("SENTRY_DSN", "https://canary@s/1", 1);
    (void)setenv("SENTRY_ENVIRONMENT", "staging", 1);
    (void)setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4318", 1);
    (void)setenv("OTEL_EXPORTER_OTLP_HEADERS", "a=canary, b=c", 1);
    (void)setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", 1);
    (void)setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2500", 1);
    c = load_ok(P);
    assert_int_equal(c->redis_max_connections, 9);
    assert_string_equal(c->database, "postgresql://u:pw@h/d");
    assert_false(c->aggregation.is_enabled);
    assert_int_equal(c->aggregation.interval_us, 1800000000);
    assert_int_equal(c->aggregation.retention_us, 7200000000);
    assert_true(c->grafana.is_enabled);
    assert_string_equal(c->grafana.user, "123");
    assert_true(secret_equal(&c->grafana.api_key, SPAN_LIT("glc_canary")));
    assert_true(secret_equal(&c->sentry.dsn, SPAN_LIT("https://canary@s/1")));
    assert_string_equal(c->sentry.environment, "staging");
    assert_true(secret_equal(&c->otlp.headers, SPAN_LIT("a=canary, b=c")));
    assert_int_equal(c->otlp.timeout_us, 2500000);
    assert_null(strstr(warnings_of(c), "canary"));
    assert_null(strstr(warnings_of(c), ":pw"));
    assert_non_null(strstr(warnings_of(c), ": 'sentry' is accepted"));
    config_unref(c);
    clear_environment();
}

static void test_a_bad_variable_is_named_and_its_value_is_not(void **state)
{
    static const struct {
        const char *name, *value, *message;
    } CASES[] = {
        {"GATEWAYD_WORKERS", "canary", "'workers' must be a whole number from 1 to 64"},
        {"GATEWAYD_LISTEN", "canary",
         "'listen' is not usable: it needs a port, as in '127.0.0.1:8080' or ':8080'"},
        {"GATEWAYD_TOKEN", "canary", "'admin.token' is shorter than 16 characters"},
        {"GATEWAYD_ADMIN_LISTEN", ":1",
         "'admin.listen' needs 'admin.token' (or the variable GATEWAYD_TOKEN)"},
        {"GATEWAYD_METRICS_ALLOW", "10.0.0.0/8,canary", "'metrics.allow' is not usable: it is no address"},
        {"GATEWAYD_KEY", "canary", "the key is shorter than 8 characters"},
        {"REDIS_URL", "http://canary",
         "'redis' must be empty or begin with one of 'redis://', 'rediss://', 'unix://'"},
        {"METRICS_AGGREGATION_INTERVAL_MINUTES", "canary",
         "'aggregation.interval' must be a duration such as '500ms', '30s' or '5m'"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL", "canary",
         "'otlp.protocol' must be one of 'http/protobuf', 'http/json', 'grpc'"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct err err;
        char expected[320];

        (void)setenv(CASES[i].name, CASES[i].value, 1);
        (void)snprintf(expected, sizeof(expected), "environment variable '%s': %s", CASES[i].name,
                       CASES[i].message);
        assert_null(load_text(P, &err));
        assert_string_equal(err.text, expected);
        clear_environment();
    }
}

static void test_a_bad_flag_is_named(void **state)
{
    struct config_options o = {.path = "conf.yaml", .state_dir = "state", .listen = "nowhere"};
    struct err err = {0};

    (void)state;
    write_text("conf.yaml", P, 0600);
    assert_null(config_load(&o, &err));
    assert_string_equal(
        err.text, "option '--listen': 'listen' is not usable: it needs a port, as in '127.0.0.1:8080' or "
                  "':8080'");
}

static void test_a_variable_that_is_probably_mistyped_is_warned_of(void **state)
{
    struct config *c;

    (void)state;
    (void)setenv("GATEWAYD_WORKRES", "4", 1);
    c = load_ok(P);
    assert_non_null(strstr(warnings_of(c),
                           "environment variable 'GATEWAYD_WORKRES' is not known; did you mean "
                           "'GATEWAYD_WORKERS'?\n"));
    config_unref(c);
    clear_environment();
}

/* ---- the file ---- */

static void test_a_file_that_cannot_be_read_is_named(void **state)
{
    struct config_options o = {.path = "nothing.yaml", .state_dir = "state"};
    struct err err = {0};
    FILE *f;

    (void)state;
    assert_null(config_load(&o, &err));
    assert_string_equal(err.text, "nothing.yaml: No such file or directory");
    assert_int_equal(err.code, ERR_IO);
    o.path = ".";
    assert_null(config_load(&o, &err));
    assert_string_equal(err.text, ".: Is a directory");
    o.path = "big.yaml";
    f = fopen("big.yaml", "w");
    assert_non_null(f);
    assert_int_equal(ftruncate(fileno(f), (off_t)LIMIT_CONFIG_BYTES + 1), 0);
    (void)fclose(f);
    assert_null(config_load(&o, &err));
    assert_string_equal(err.text, "big.yaml: the text is larger than 4194304 bytes");
}

static void test_the_file_may_be_named_by_the_environment(void **state)
{
    struct err err;
    struct config *c;

    (void)state;
    write_text("conf.yaml", "workers: 5\n" P, 0600);
    (void)setenv("GATEWAYD_CONFIG", "conf.yaml", 1);
    c = load_nothing(&err);
    assert_int_equal(c->workers, 5);
    config_unref(c);
    clear_environment();
}

static void test_what_a_reload_cannot_change_is_named(void **state)
{
    struct config *a = load_ok("workers: 1\nmetrics: {profiles: [all, otel]}\n" P);
    struct config *b = load_ok("workers: 1\nmetrics: {profiles: [all, otel]}\n" P "drain_timeout: 1s\n");
    struct config *c =
        load_ok("workers: 2\nlisten: :1\nmetrics: {profiles: [gatewayd]}\naccess_log: '-'\n" P);
    struct buf out AUTO(buf_release) = {0};

    (void)state;
    config_restart_needed(a, b, &out);
    assert_int_equal(out.len, 0);
    config_restart_needed(a, c, &out);
    assert_string_equal(out.p, "listen, workers, access_log");
    config_unref(a);
    config_unref(b);
    config_unref(c);
}

static void test_settings_without_effect_are_named_once_and_only_when_they_ask_for_something(void **state)
{
    struct config *c =
        load_ok("redis: ''\nmetrics: {profiles: [all]}\nbreaker: {failures: 5, probes: 3}\n"
                "providers:\n- {name: p, kind: openai, base_url: 'http://127.0.0.1', max_concurrent: 1}\n"
                "- {name: q, kind: openai, base_url: 'http://127.0.0.1', max_concurrent: 1}\n"
                "models: [{name: m, strategy: cost, targets: [{provider: p, model: x}]}]\n"
                "tenants: [{id: t, limits: {rpm: 1, tpm: 2}, keys: [{id: k, key: 0123456789abcdef}]}]\n");

    (void)state;
    assert_string_equal(warnings_of(c), "");
    config_unref(c);
    c = load_ok("redis: redis://h\ndatabase: postgresql://h/d\nredis_max_connections: 9\n"
                "upstream_ca_file: conf.yaml\n"
                "providers: [{name: p, kind: openai, base_url: 'http://localhost.example', api_keys: [k]}]\n"
                "tenants: [{id: t, keys: [{id: k, key: 0123456789}]}, {id: u}]\n");
    assert_string_equal(warnings_of(c),
                        "conf.yaml:5:20: provider 'p' is called over plain HTTP: its keys travel readable\n"
                        "conf.yaml:6:39: key 'k' of tenant 't' is shorter than 16 characters\n"
                        "conf.yaml:6:59: tenant 'u' has no keys, so nobody can use it\n"
                        "conf.yaml:3:24: 'redis_max_connections' is accepted, but has no effect yet\n");
    config_unref(c);
}

static void test_a_thousand_snapshots_leave_nothing_behind(void **state)
{
    struct err err;

    (void)state;
    set_example_environment();
    for (int i = 0; i < 1000; i++) {
        struct config *c =
            load_text(i % 10 == 9 ? "providers: [{name: openai, api_keys: [a, b, 'c d']}]\n" : EXAMPLE, &err);

        assert_int_equal(!c, i % 10 == 9);
        config_unref(c);
    }
    clear_environment();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_example_of_the_documentation_parses),
        cmocka_unit_test(test_the_program_s_own_text_parses_like_a_file),
        cmocka_unit_test(test_a_file_wins_over_the_program_s_text_and_lists_are_joined),
        cmocka_unit_test(test_defaults_are_those_of_the_documentation),
        cmocka_unit_test(test_json_is_accepted),
        cmocka_unit_test(test_null_means_not_given),
        cmocka_unit_test(test_a_provider_s_timeouts_win_over_the_common_ones),
        cmocka_unit_test(test_a_key_in_the_environment_is_enough),
        cmocka_unit_test(test_providers_of_a_file_are_all_there_are),
        cmocka_unit_test(test_the_key_of_the_environment_goes_to_the_known_address_only),
        cmocka_unit_test(test_flag_environment_reference_name_file_default_in_that_order),
        cmocka_unit_test(test_the_reference_documents_names_are_read),
        cmocka_unit_test(test_a_bad_variable_is_named_and_its_value_is_not),
        cmocka_unit_test(test_a_bad_flag_is_named),
        cmocka_unit_test(test_a_variable_that_is_probably_mistyped_is_warned_of),
        cmocka_unit_test(test_a_file_that_cannot_be_read_is_named),
        cmocka_unit_test(test_the_file_may_be_named_by_the_environment),
        cmocka_unit_test(test_what_a_reload_cannot_change_is_named),
        cmocka_unit_test(test_settings_without_effect_are_named_once_and_only_when_they_ask_for_something),
        cmocka_unit_test(test_a_thousand_snapshots_leave_nothing_behind),
    };

    return cmocka_run_group_tests(tests, enter_dir, leave_dir);
}
