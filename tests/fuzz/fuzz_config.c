/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a configuration: the document model on the bytes as they are, then everything above it on the text up to
 * its first NUL. What is accepted must be usable. */
#include <stdlib.h>

#include "gatewayd/config/config.h"
#include "libshared/base/buf.h"
#include "libshared/yaml/yaml_doc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(struct config *c)
{
    unsigned char digest[SHA256_BYTES] = {0};
    struct config_target target;
    struct arena a = {0};
    struct buf b = {0};

    for (size_t i = 0; i < c->n_models; i++)
        if (config_find_model(c, span_of(c->models[i].name)) != &c->models[i])
            abort();
    for (size_t i = 0; i < c->n_keys; i++)
        if (config_find_key(c, c->keys[i].sha256) != &c->keys[i])
            abort();
    (void)config_find_key(c, digest);
    (void)config_resolve_direct(c, SPAN_LIT("openai/gpt-4o"), &a, &target);
    (void)config_resolve_direct(c, SPAN_LIT("x"), &a, &target);
    for (size_t i = 0; i < c->n_tenants; i++)
        (void)config_tenant_may_use(&c->tenants[i], SPAN_LIT("openai/gpt-4o"));
    config_warnings(c, &b);
    arena_release(&a);
    buf_release(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct yaml_limits LIMITS = {65536, 32, 20000};
    struct config_options o = {.is_check = true, .state_dir = "/nonexistent"};
    struct yaml_place where;
    struct err err = {0};
    struct config *c;
    char *text = malloc(size + 1);

    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    yaml_doc_free(yaml_doc_new(span_make(text, size), &LIMITS, &where, &err));
    o.overlay_yaml = text;
    c = config_load(&o, &err);
    if (c)
        use(c);
    config_unref(c);
    free(text);
    return 0;
}
