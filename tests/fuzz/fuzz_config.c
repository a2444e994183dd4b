/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a configuration: the document model on the bytes as they are, then everything above it on the text up to
 * its first NUL. It is refused with a reason, or gives a snapshot in which every reference leads somewhere. The
 * environment is empty and nothing is written. */
#include <string.h>

#include "gatewayd/config/config.h"
#include "gatewayd/provider/provider.h"
#include "libshared/base/buf.h"
#include "libshared/yaml/yaml_doc.h"
#include "tests/fuzz/must.h"

static void must_have_sane_providers(const struct config *c)
{
    for (size_t i = 0; i < c->n_providers; i++) {
        const struct config_provider *p = &c->providers[i];

        MUST(p->name[0] && p->index == i);
        MUST(provider_ops_find(p->kind));
        MUST(strncmp(p->base_url, "http://", 7) == 0 || strncmp(p->base_url, "https://", 8) == 0);
        MUST(p->timeouts.connect_us > 0 && p->timeouts.first_byte_us > 0);
        MUST(p->timeouts.idle_us > 0 && p->timeouts.total_us > 0);
        MUST(config_find_provider(c, span_of(p->name)) == p);
    }
}

static void must_have_sane_models(const struct config *c)
{
    for (size_t i = 0; i < c->n_models; i++) {
        const struct config_model *m = &c->models[i];

        MUST(m->name[0] && m->n_targets > 0);
        MUST(config_find_model(c, span_of(m->name)) == m);
        for (size_t k = 0; k < m->n_targets; k++) {
            MUST(m->targets[k].provider >= c->providers &&
                 m->targets[k].provider < c->providers + c->n_providers);
            MUST(m->targets[k].model[0]);
        }
    }
}

static void must_have_sane_tenants(const struct config *c)
{
    for (size_t i = 0; i < c->n_tenants; i++) {
        MUST(c->tenants[i].id[0]);
        MUST(c->tenants[i].budget.limit_nanousd >= 0);
        (void)config_tenant_may_use(&c->tenants[i], SPAN_LIT("openai/gpt-4o"));
    }
    for (size_t i = 0; i < c->n_keys; i++) {
        const struct config_key *found = config_find_key(c, c->keys[i].sha256);

        MUST(c->keys[i].tenant >= c->tenants && c->keys[i].tenant < c->tenants + c->n_tenants);
        MUST(found == &c->keys[i]);
    }
}

static void must_be_usable(const struct config *c)
{
    struct arena a = {0};
    struct config_target t;
    struct buf warnings AUTO(buf_release) = {0};

    MUST(c->workers >= 1 && c->workers <= LIMIT_WORKERS);
    MUST(c->http.max_body > 0 && c->http.max_body <= LIMIT_BODY_BYTES_MAX);
    must_have_sane_providers(c);
    must_have_sane_models(c);
    must_have_sane_tenants(c);
    if (config_resolve_direct(c, SPAN_LIT("openai/gpt-4o"), &a, &t))
        MUST(t.provider && t.model[0]);
    config_warnings(c, &warnings);
    arena_release(&a);
}

static void load(const char *text)
{
    struct config_options o = {
        .is_check = true, .state_dir = "/nonexistent/state", .version = 1, .overlay_yaml = text};
    struct err err = {0};
    struct config *c = config_load(&o, &err);

    if (c)
        must_be_usable(c);
    else
        MUST(err.code != ERR_OK && err.code < ERR_COUNT && err.text[0]);
    config_unref(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct yaml_limits LIMITS = {65536, 32, 20000};
    struct yaml_place where;
    char *text;

    if (size > 1 << 16)
        return 0;
    (void)clearenv();
    yaml_doc_free(yaml_doc_new(span_make(data, size), &LIMITS, &where, NULL));
    text = malloc(size + 1);
    MUST(text);
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    load(text);
    free(text);
    return 0;
}
