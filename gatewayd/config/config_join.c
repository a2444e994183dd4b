/* SPDX-License-Identifier: Apache-2.0 */
/* The file's configuration joined with tenants, keys and budgets from elsewhere: a second snapshot that shares all but those
 * with the first and keeps it alive. It costs no parsing and cannot fail, so that a file which was broken since cannot
 * hold up a revocation. Any thread.
 *
 * The invariant: a digest, a tenant, and a key's name within its tenant are each in the result once at most. */
#include <stdatomic.h>
#include <stdlib.h>

#include "gatewayd/config/config_priv.h"

/* Positions by a hash of what they are found under; a 0 is free. */
struct places {
    uint32_t *slots;
    size_t mask;
};

struct join {
    struct config *c;
    const struct config_extra *x;
    struct config_tenant *tenants;
    struct config_key *keys;
    size_t n_tenants, n_keys, n_of_file; /* the file's tenants come first */
    struct places by_tenant, by_digest, by_name;
};

static struct places places_for(size_t n)
{
    size_t slots = 8;

    while (slots < n * 2)
        slots *= 2;
    return (struct places){calloc(slots, sizeof(uint32_t)), slots - 1};
}

static struct config_tenant *find_tenant(const struct join *j, const char *id, size_t *out_slot)
{
    size_t i = (size_t)hash_bytes(span_of(id)) & j->by_tenant.mask;

    for (; j->by_tenant.slots[i]; i = (i + 1) & j->by_tenant.mask)
        if (strcmp(j->tenants[j->by_tenant.slots[i] - 1].id, id) == 0)
            return &j->tenants[j->by_tenant.slots[i] - 1];
    *out_slot = i;
    return NULL;
}

static struct config_key *find_digest(const struct join *j, const unsigned char *digest, size_t *out_slot)
{
    size_t i = (size_t)hash_bytes(span_make(digest, SHA256_BYTES)) & j->by_digest.mask;

    for (; j->by_digest.slots[i]; i = (i + 1) & j->by_digest.mask)
        if (memcmp(j->keys[j->by_digest.slots[i] - 1].sha256, digest, SHA256_BYTES) == 0)
            return &j->keys[j->by_digest.slots[i] - 1];
    *out_slot = i;
    return NULL;
}

static const struct config_key *find_name(const struct join *j, const char *tenant, const char *id,
                                          size_t *out_slot)
{
    size_t i = (size_t)(hash_bytes(span_of(tenant)) + hash_bytes(span_of(id)) * 0x9e3779b97f4a7c15u) &
               j->by_name.mask;

    for (; j->by_name.slots[i]; i = (i + 1) & j->by_name.mask) {
        const struct config_key *k = &j->keys[j->by_name.slots[i] - 1];

        if (strcmp(k->id, id) == 0 && strcmp(k->tenant->id, tenant) == 0)
            return k;
    }
    *out_slot = i;
    return NULL;
}

/* ---- tenants --------------------------------------------------------------------------------------------------------- */

static const char *const *dup_names(struct arena *a, const char *const *names, size_t n)
{
    const char **out = arena_array(a, const char *, n + 1);

    for (size_t i = 0; i < n; i++)
        out[i] = arena_dup(a, span_of(names[i]));
    return names ? out : NULL;
}

static void put_tenant(struct join *j, const struct config_tenant *t, size_t slot)
{
    j->tenants[j->n_tenants] = *t;
    j->by_tenant.slots[slot] = (uint32_t)++j->n_tenants;
}

static void join_tenant(struct join *j, const struct config_extra_tenant *t)
{
    struct arena *a = &j->c->arena;
    size_t slot = 0;
    struct config_tenant *there = find_tenant(j, t->id, &slot);
    struct config_tenant made;

    if (there) {
        there->is_enabled &= t->is_enabled;
        return;
    }
    if (!t->is_defined)
        return;
    made = (struct config_tenant){.id = arena_dup(a, span_of(t->id)),
                                  .plan = arena_dup(a, span_of(t->plan)),
                                  .label = intern_z(t->id),
                                  .is_enabled = t->is_enabled,
                                  .models = dup_names(a, t->models, t->n_models),
                                  .n_models = t->n_models,
                                  .limits = t->limits,
                                  .budget = t->budget,
                                  .priority = t->priority ? t->priority : 3,
                                  .max_priority = t->max_priority ? t->max_priority : 1};
    put_tenant(j, &made, slot);
}

static void join_tenants(struct join *j, const struct config *file)
{
    size_t slot = 0;

    j->tenants = arena_array(&j->c->arena, struct config_tenant, file->n_tenants + j->x->n_tenants + 1);
    for (size_t i = 0; i < file->n_tenants; i++)
        if (!find_tenant(j, file->tenants[i].id, &slot))
            put_tenant(j, &file->tenants[i], slot);
    j->n_of_file = j->n_tenants;
    for (size_t i = 0; i < j->x->n_tenants; i++)
        join_tenant(j, &j->x->tenants[i]);
}

/* ---- keys ------------------------------------------------------------------------------------------------------------ */

static void put_key(struct join *j, const struct config_key *k, size_t slot)
{
    j->keys[j->n_keys] = *k;
    j->by_digest.slots[slot] = (uint32_t)++j->n_keys;
}

static void take_file_keys(struct join *j, const struct config *file)
{
    size_t slot = 0, name = 0;

    for (size_t i = 0; i < file->n_keys; i++) {
        struct config_key k = file->keys[i];

        k.tenant = find_tenant(j, k.tenant->id, &slot);
        if (find_digest(j, k.sha256, &slot))
            continue;
        put_key(j, &k, slot);
        if (!find_name(j, k.tenant->id, k.id, &name))
            j->by_name.slots[name] = (uint32_t)j->n_keys;
    }
}

/* Several digests of the rest may have one name: a rotated key lives on under it until its time is over. Revoked ones are
 * only there to be refused; they share a label, since each rotation leaves one. */
static void join_key(struct join *j, const struct config_extra_key *x)
{
    size_t slot = 0, unused = 0;
    struct config_key *there = find_digest(j, x->sha256, &slot);
    const struct config_tenant *tenant = find_tenant(j, x->tenant, &unused);
    struct config_key made;

    if (there) {
        there->is_enabled &= x->is_enabled;
        there->is_revoked |= x->is_revoked;
        return;
    }
    if (!tenant || (!x->is_revoked && find_name(j, x->tenant, x->id, &unused)))
        return;
    made = (struct config_key){.id = arena_dup(&j->c->arena, span_of(x->id)),
                               .label = intern_z(x->is_revoked ? "revoked" : x->id),
                               .is_enabled = x->is_enabled,
                               .is_revoked = x->is_revoked,
                               .expires_at_us = x->expires_at_us,
                               .limits = x->limits,
                               .tenant = tenant};
    memcpy(made.sha256, x->sha256, SHA256_BYTES);
    put_key(j, &made, slot);
}

static void join_keys(struct join *j, const struct config *file)
{
    j->keys = arena_array(&j->c->arena, struct config_key, file->n_keys + j->x->n_keys + 1);
    take_file_keys(j, file);
    for (size_t i = 0; i < j->x->n_keys; i++)
        join_key(j, &j->x->keys[i]);
}

/* ---- budgets --------------------------------------------------------------------------------------------------------- */

static const struct config_topup *dup_topups(struct arena *a, const struct config_account *from)
{
    struct config_topup *out = arena_array(a, struct config_topup, from->n_topups + 1);

    for (size_t i = 0; i < from->n_topups; i++)
        out[i] = from->topups[i];
    return out;
}

/* Over the plan's, under the file's. */
static void give_budget(struct join *j, const struct config_account *a)
{
    struct span account = span_of(a->account), kind = span_split(&account, ':');
    size_t unused = 0;
    /* What is left of the account ends where its text does. */
    struct config_tenant *t =
        account.p && span_is(kind, "tenant") ? find_tenant(j, account.p, &unused) : NULL;

    if (t && a->budget.limit_nanousd && (t >= j->tenants + j->n_of_file || !t->budget.limit_nanousd))
        t->budget = a->budget;
}

static void join_accounts(struct join *j)
{
    struct arena *a = &j->c->arena;
    struct config_account *out = arena_array(a, struct config_account, j->x->n_accounts + 1);

    for (size_t i = 0; i < j->x->n_accounts; i++) {
        out[i].account = arena_dup(a, span_of(j->x->accounts[i].account));
        out[i].budget = j->x->accounts[i].budget;
        out[i].topups = dup_topups(a, &j->x->accounts[i]);
        out[i].n_topups = j->x->accounts[i].n_topups;
        give_budget(j, &out[i]);
    }
    j->c->accounts = out;
    j->c->n_accounts = j->x->n_accounts;
}

static void join_states(struct join *j)
{
    struct arena *a = &j->c->arena;
    struct config_provider_state *out =
        arena_array(a, struct config_provider_state, j->x->n_provider_states + 1);
    size_t n = 0;

    for (size_t i = 0; i < j->x->n_provider_states; i++) {
        const struct config_provider_state *s = &j->x->provider_states[i];
        const struct config_provider *p = config_find_provider(j->c, span_of(s->provider));

        if (!p)
            continue;
        out[n] = *s;
        out[n].provider = p->name;
        out[n].label = p->label;
        out[n].reason = arena_dup(a, span_of(s->reason));
        out[n++].actor = arena_dup(a, span_of(s->actor));
    }
    j->c->provider_states = out;
    j->c->n_provider_states = n;
}

struct config *config_join(struct config *file, const struct config_extra *x)
{
    struct join j = {.x = x, .c = calloc(1, sizeof(*j.c))};

    j.by_tenant = places_for(file->n_tenants + x->n_tenants);
    j.by_digest = places_for(file->n_keys + x->n_keys);
    j.by_name = places_for(file->n_keys);
    if (!j.c || !j.by_tenant.slots || !j.by_digest.slots || !j.by_name.slots)
        abort();
    /* The counter is written by others meanwhile; everything else never changes. */
    memcpy((char *)j.c + offsetof(struct config, arena), (const char *)file + offsetof(struct config, arena),
           sizeof(*file) - offsetof(struct config, arena));
    j.c->refs = 1;
    j.c->arena = (struct arena){0};
    j.c->file = config_ref(file);
    join_tenants(&j, file);
    join_keys(&j, file);
    join_accounts(&j);
    join_states(&j);
    j.c->tenants = j.tenants;
    j.c->n_tenants = j.n_tenants;
    j.c->keys = j.keys;
    j.c->n_keys = j.n_keys;
    j.c->lacks_keys = x->lacks_keys;
    index_keys(j.c);
    free(j.by_tenant.slots);
    free(j.by_digest.slots);
    free(j.by_name.slots);
    return j.c;
}
