/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/config/config.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gatewayd/provider/pricing.h"
#include "libshared/base/buf.h"
#include "tests/unit/cm.h"

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

static void test_the_example_of_the_documentation_parses(void **state)
{
    struct config_options o = {.overlay_yaml = EXAMPLE, .state_dir = "/nonexistent/state", .version = 1};
    struct err err = {0};
    struct buf w = {0};
    struct config *c;

    (void)state;
    setenv("GATEWAYD_TOKEN", "0f3b8c1d9e7a4b52a6", 1);
    setenv("OPENROUTER_API_KEY", "sk-or-canary", 1);
    setenv("ANTHROPIC_API_KEY", "sk-ant-canary", 1);
    c = config_load(&o, &err);
    if (!c)
        fail_msg("%s", err.text);
    config_warnings(c, &w);
    buf_clear(&w);
    buf_release(&w);
    config_unref(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_example_of_the_documentation_parses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
