/* SPDX-License-Identifier: Apache-2.0 */
/* Looking things up in a snapshot: on the request path, from any thread, without locks and without changing
 * it. Tables are open-addressed arrays of positions plus one, 0 is free, at most half full. */
#include <netinet/in.h>
#include <sys/socket.h>

#include "gatewayd/config/config_priv.h"
#include "gatewayd/provider/pricing.h"
#include "libshared/base/clock.h"

struct table {
    uint32_t *slots;
    size_t mask;
};

struct target_table { /* configured targets by provider and model */
    struct table t;
    const struct config_target **targets;
};

static struct table table_for(struct arena *a, size_t n)
{
    size_t slots = 8;

    while (slots < n * 2)
        slots *= 2;
    return (struct table){arena_array(a, uint32_t, slots), slots - 1};
}

static void table_add(struct table *t, uint64_t hash, size_t index)
{
    size_t i = (size_t)hash & t->mask;

    while (t->slots[i])
        i = (i + 1) & t->mask;
    t->slots[i] = (uint32_t)index + 1;
}

static uint64_t target_hash(const struct config_provider *p, struct span model)
{
    return hash_bytes(model) + (uint64_t)p->index * 0x9e3779b97f4a7c15u;
}

static void index_targets(struct config *c)
{
    struct target_table *tt = arena_new(&c->arena, struct target_table);
    size_t n = 0;

    for (size_t i = 0; i < c->n_models; i++)
        n += c->models[i].n_targets;
    tt->t = table_for(&c->arena, n);
    tt->targets = arena_array(&c->arena, const struct config_target *, n + 1);
    n = 0;
    for (size_t i = 0; i < c->n_models; i++)
        for (size_t k = 0; k < c->models[i].n_targets; k++) {
            const struct config_target *t = &c->models[i].targets[k];

            tt->targets[n] = t;
            table_add(&tt->t, target_hash(t->provider, span_of(t->model)), n++);
        }
    c->target_index = tt;
}

void index_keys(struct config *c)
{
    struct table *keys = arena_new(&c->arena, struct table);

    *keys = table_for(&c->arena, c->n_keys);
    for (size_t i = 0; i < c->n_keys; i++)
        table_add(keys, hash_bytes(span_make(c->keys[i].sha256, SHA256_BYTES)), i);
    c->key_index = keys;
}

void index_all(struct config *c)
{
    struct table *models = arena_new(&c->arena, struct table);

    index_keys(c);
    *models = table_for(&c->arena, c->n_models);
    for (size_t i = 0; i < c->n_models; i++)
        table_add(models, hash_bytes(span_of(c->models[i].name)), i);
    c->model_index = models;
    index_targets(c);
}

const struct config_key *config_find_key(const struct config *c, const unsigned char digest[SHA256_BYTES])
{
    const struct table *t = c->key_index;
    size_t i = (size_t)hash_bytes(span_make(digest, SHA256_BYTES)) & t->mask;

    for (; t->slots[i]; i = (i + 1) & t->mask) {
        const struct config_key *k = &c->keys[t->slots[i] - 1];

        if (mem_equal_ct(k->sha256, digest, SHA256_BYTES))
            return k;
    }
    return NULL;
}

const struct config_model *config_find_model(const struct config *c, struct span name)
{
    const struct table *t = c->model_index;
    size_t i = (size_t)hash_bytes(name) & t->mask;

    for (; t->slots[i]; i = (i + 1) & t->mask)
        if (span_is(name, c->models[t->slots[i] - 1].name))
            return &c->models[t->slots[i] - 1];
    return NULL;
}

const struct config_provider *config_find_provider(const struct config *c, struct span name)
{
    for (size_t i = 0; i < c->n_providers; i++)
        if (span_is(name, c->providers[i].name))
            return &c->providers[i];
    return NULL;
}

const char *provider_state_name(enum provider_state s)
{
    static const char *const NAMES[] = {"enabled", "draining", "disabled"};

    return NAMES[s];
}

const struct config_provider_state *config_provider_state(const struct config *c, label provider,
                                                          int64_t now_us)
{
    for (size_t i = 0; i < c->n_provider_states; i++) {
        const struct config_provider_state *s = &c->provider_states[i];

        if (s->label == provider && s->state != PROVIDER_ENABLED && (!s->until_us || s->until_us > now_us))
            return s;
    }
    return NULL;
}

/* ---- names that are no alias ---- */

static bool is_configured_target(const struct config *c, const struct config_provider *p, struct span model)
{
    const struct target_table *tt = c->target_index;
    size_t i = (size_t)target_hash(p, model) & tt->t.mask;

    for (; tt->t.slots[i]; i = (i + 1) & tt->t.mask) {
        const struct config_target *t = tt->targets[tt->t.slots[i] - 1];

        if (t->provider == p && span_is(model, t->model))
            return true;
    }
    return false;
}

static bool fill(const struct config *c, const struct config_provider *p, struct span model, struct arena *a,
                 struct config_target *out)
{
    bool is_named =
        price_is_known_model(c->prices, span_of(p->name), model) || is_configured_target(c, p, model);

    *out = (struct config_target){
        .provider = p,
        .model = arena_dup(a, model),
        .model_label = is_named ? intern(model) : c->other_label,
        .price = price_find(c->prices, span_of(p->name), model),
        .weight = 1,
    };
    return true;
}

bool config_resolve_direct(const struct config *c, struct span name, struct arena *a,
                           struct config_target *out)
{
    struct span model = name, prefix = span_split(&model, '/');
    const struct config_provider *only = NULL, *p;
    size_t n_enabled = 0;

    if (!name.len || !value_is_printable(name))
        return false;
    p = model.p ? config_find_provider(c, prefix) : NULL;
    if (p)
        return p->is_enabled && model.len && fill(c, p, model, a, out);
    for (size_t i = 0; i < c->n_providers; i++) {
        p = &c->providers[i];
        if (!p->is_enabled)
            continue;
        if (price_is_known_model(c->prices, span_of(p->name), name) &&
            !(c->n_provider_states && config_provider_state(c, p->label, wall_now().us)))
            return fill(c, p, name, a, out);
        n_enabled++;
        only = p;
    }
    return n_enabled == 1 && fill(c, only, name, a, out);
}

bool config_tenant_may_use(const struct config_tenant *t, struct span name)
{
    for (size_t i = 0; i < t->n_models; i++) {
        struct span pattern = span_of(t->models[i]);

        if (pattern.p[pattern.len - 1] == '*' ? span_starts(name, span_make(pattern.p, pattern.len - 1))
                                              : span_eq(name, pattern))
            return true;
    }
    return !t->models;
}

bool config_cidr_match(const struct config_cidr *list, size_t n, const void *sockaddr)
{
    unsigned char addr[16] = {[10] = 0xff, [11] = 0xff};
    const struct sockaddr *sa = sockaddr;

    if (sa && sa->sa_family == AF_INET)
        memcpy(addr + 12, &((const struct sockaddr_in *)sockaddr)->sin_addr, 4);
    else if (sa && sa->sa_family == AF_INET6)
        memcpy(addr, &((const struct sockaddr_in6 *)sockaddr)->sin6_addr, 16);
    else
        return false;
    for (size_t i = 0; i < n; i++) {
        unsigned whole = list[i].prefix / 8, rest = list[i].prefix % 8;

        if (memcmp(addr, list[i].addr, whole) == 0 &&
            (!rest || ((addr[whole] ^ list[i].addr[whole]) & (0xff00 >> rest) & 0xff) == 0))
            return true;
    }
    return false;
}
