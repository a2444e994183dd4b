/* SPDX-License-Identifier: Apache-2.0 */
/* Walks the documents: mappings by the table of options, the lists of providers, models and tenants item by
 * item. Lists of several documents are joined. What a provider leaves out is filled in from the known ones.
 */
#include <stdio.h>
#include <stdlib.h>

#include "gatewayd/config/config_priv.h"

#define KEY_SHOWN 24u /* a longer key is not repeated: it may be a secret in the wrong place */

/* ---- mappings ---- */

static enum err_code fail_unknown(struct build *b, const struct source *src, const char *prefix,
                                  const struct yaml_node *key)
{
    struct origin at = origin_of(src, key);
    char near[OPTION_PATH_CAP];
    const char *hint = option_suggest(prefix, key->text, near);
    size_t n = strlen(prefix);

    if (key->text.len > KEY_SHOWN || !at.shown.len)
        return fail_origin(b, &at, "a key here is unknown%s%s", n ? " in " : "", prefix);
    if (span_is(key->text, "<<"))
        return fail_origin(b, &at, "merge keys ('<<') are not supported");
    return fail_origin(b, &at, "unknown key '%s%s'%s%s%s", prefix, key->text.p,
                       hint ? "; did you mean '" : "", hint ? hint : "", hint ? "'?" : "");
}

static enum err_code read_member(struct build *b, const struct source *src, const struct yaml_item *it,
                                 const char *prefix, void *base)
{
    char path[OPTION_PATH_CAP];
    const struct option_row *row;
    struct origin at = origin_of(src, it->value);
    int n = snprintf(path, sizeof(path), "%s%s", prefix, it->key->text.p);

    if (n < 0 || (size_t)n + 2 >= sizeof(path) || strpbrk(it->key->text.p, ".[]"))
        return fail_unknown(b, src, prefix, it->key);
    row = option_find(path);
    if (row)
        return set_node(b, row, base, src, it->value);
    if (option_has_section(path)) {
        path[n] = '.';
        path[n + 1] = '\0';
        if (it->value->type == NODE_NULL)
            return ERR_OK;
        if (it->value->type == NODE_MAP)
            return read_map(b, src, it->value, path, base);
        return fail_origin(b, &at, "'%.*s' must be a mapping", n, path);
    }
    if (!option_has_list(path))
        return fail_unknown(b, src, prefix, it->key);
    if (it->value->type != NODE_LIST && it->value->type != NODE_NULL)
        return fail_origin(b, &at, "'%s' must be a list", path);
    return ERR_OK; /* its items are read by whoever reads this mapping */
}

enum err_code read_map(struct build *b, const struct source *src, const struct yaml_node *map,
                       const char *prefix, void *base)
{
    for (const struct yaml_item *it = map->items; it; it = it->next) {
        enum err_code e = read_member(b, src, it, prefix, base);

        if (e)
            return e;
    }
    return ERR_OK;
}

/* ---- items of lists ---- */

/* Number of items under `key` of the mapping. */
static size_t count_items(const struct yaml_node *map, const char *key)
{
    const struct yaml_node *list = yaml_get(map, key);

    return list ? list->n_items : 0;
}

static enum err_code read_item(struct build *b, const struct item *it, const char *prefix, void *base)
{
    struct origin at = origin_of(it->src, it->node);
    enum err_code e = set_defaults(b, prefix, base);

    if (e)
        return e;
    if (it->node->type != NODE_MAP)
        return fail_origin(b, &at, "an item of '%.*s' must be a mapping", (int)strlen(prefix) - 3, prefix);
    return read_map(b, it->src, it->node, prefix, base);
}

/* Why `subject` is made before the item is read: an error inside it names it. */
static const char *subject_of(struct build *b, const char *what, const struct yaml_node *node,
                              const char *key)
{
    const struct yaml_node *name = yaml_get(node, key);
    char text[128];

    if (!name || name->type != NODE_TEXT || !value_is_name(name->text))
        return NULL;
    (void)snprintf(text, sizeof(text), "%s '%s'", what, name->text.p);
    return arena_dup(b->a, span_of(text));
}

static enum err_code read_provider(struct build *b, const struct item *it, struct raw_provider *out)
{
    const struct yaml_node *enabled = yaml_get(it->node, "enabled");
    enum err_code e;

    out->at = *it;
    b->subject = subject_of(b, "provider", it->node, "name");
    b->n_skipped = 0;
    out->p.is_enabled = true;
    if (enabled) { /* first, since a disabled provider may lack what an enabled one needs */
        e = set_node(b, option_find("providers[].enabled"), out, it->src, enabled);
        if (e)
            return e;
    }
    b->may_lack = !out->p.is_enabled;
    e = read_item(b, it, "providers[].", out);
    b->may_lack = false;
    b->subject = NULL;
    out->n_skipped_keys = b->n_skipped;
    return e;
}

static enum err_code read_target(struct build *b, const struct item *it, void *out)
{
    struct raw_target *t = out;

    t->at = *it;
    return read_item(b, it, "models[].targets[].", t);
}

static enum err_code read_key(struct build *b, const struct item *it, void *out)
{
    struct raw_key *k = out;

    k->at = *it;
    return read_item(b, it, "tenants[].keys[].", k);
}

typedef enum err_code (*item_fn)(struct build *b, const struct item *it, void *out);

/* Reads the list under `key` of the item into a new array. */
static enum err_code read_sublist(struct build *b, const struct item *of, const char *key, size_t size,
                                  item_fn fn, void **out, size_t *out_n)
{
    const struct yaml_node *list = yaml_get(of->node, key);
    size_t n = 0;
    char *items = arena_alloc(b->a, (count_items(of->node, key) + 1) * size);

    for (const struct yaml_item *it = list ? list->items : NULL; it; it = it->next) {
        struct item at = {.src = of->src, .node = it->value};
        enum err_code e = fn(b, &at, items + n * size);

        if (e)
            return e;
        n++;
    }
    *out = items;
    *out_n = n;
    return ERR_OK;
}

static enum err_code read_model(struct build *b, const struct item *it, struct raw_model *out)
{
    void *targets;
    enum err_code e = read_item(b, it, "models[].", out);

    out->at = *it;
    if (!e)
        e = read_sublist(b, it, "targets", sizeof(struct raw_target), read_target, &targets,
                         &out->m.n_targets);
    if (!e)
        out->targets = targets;
    return e;
}

static enum err_code read_tenant(struct build *b, const struct item *it, struct raw_tenant *out)
{
    void *keys;
    enum err_code e;

    out->at = *it;
    b->subject = subject_of(b, "tenant", it->node, "id");
    e = read_item(b, it, "tenants[].", out);
    if (!e)
        e = read_sublist(b, it, "keys", sizeof(struct raw_key), read_key, &keys, &out->n_keys);
    if (!e)
        out->keys = keys;
    b->subject = NULL;
    return e;
}

/* ---- known providers ---- */

static const struct known {
    const char *name, *kind, *variable, *url;
} KNOWN[] = {
#define PROVIDER(name, kind, variable, url) {name, kind, variable, url},
#include "libshared/catalog/providers.def"
#undef PROVIDER
};

static const struct known *find_known(const char *name)
{
    for (size_t i = 0; name && i < ARRAY_LEN(KNOWN); i++)
        if (strcmp(KNOWN[i].name, name) == 0)
            return &KNOWN[i];
    return NULL;
}

static enum err_code take_known_key(struct build *b, struct raw_provider *r, const struct known *k)
{
    struct origin at = {.variable = k->variable};
    const char *value = getenv(k->variable);
    enum err_code e;

    if (!value || !value[0])
        return ERR_OK;
    b->subject = arena_dup(b->a, span_of("a known provider"));
    e = set_text(b, option_find("providers[].api_keys"), r, span_of(value), &at);
    b->subject = NULL;
    return e;
}

/* The key of the environment goes to the known base URL only: never to an address that the file put in its
 * place. */
static enum err_code fill_from_known(struct build *b, struct raw_provider *r)
{
    const struct known *k = find_known(r->p.name);
    struct origin at = origin_in(&r->at, "api_keys");
    enum err_code e = ERR_OK;

    if (k && !r->p.kind)
        r->p.kind = k->kind;
    if (!k || r->p.base_url || strcmp(r->p.kind, k->kind) != 0)
        return ERR_OK;
    r->p.base_url = k->url;
    if (!r->p.n_api_keys && !r->n_skipped_keys)
        e = take_known_key(b, r, k);
    if (!e && !r->p.n_api_keys && !r->n_skipped_keys && r->p.is_enabled)
        return fail_origin(b, &at,
                           "provider '%s' has no 'api_keys', and environment variable '%s' is not set",
                           r->p.name, k->variable);
    return e;
}

static enum err_code add_from_environment(struct build *b)
{
    const struct known *found[ARRAY_LEN(KNOWN)];
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(KNOWN); i++) {
        const char *value = getenv(KNOWN[i].variable);

        if (value && value[0])
            found[n++] = &KNOWN[i];
    }
    b->providers = arena_array(b->a, struct raw_provider, n + 1);
    for (size_t i = 0; i < n; i++) {
        struct raw_provider *r = &b->providers[i];
        char variable[128];
        const char *url;
        size_t len;
        enum err_code e = set_defaults(b, "providers[].", r);

        r->p.name = found[i]->name;
        if (!e)
            e = fill_from_known(b, r);
        if (e)
            return e;
        len = (size_t)snprintf(variable, sizeof(variable), "GATEWAYD_%s_BASE_URL", found[i]->name);
        for (size_t k = 0; k < len; k++)
            if (variable[k] >= 'a' && variable[k] <= 'z')
                variable[k] = (char)(variable[k] - 'a' + 'A');
        url = getenv(variable);
        if (url && url[0]) {
            r->p.base_url = arena_dup(b->a, span_of(url));
            r->url_variable = arena_dup(b->a, span_of(variable));
        }
    }
    b->n_providers = n;
    return ERR_OK;
}

/* ---- all ---- */

static size_t total(const struct build *b, const char *key)
{
    size_t n = 0;

    for (size_t i = 0; i < b->n_sources; i++)
        n += count_items(b->sources[i].root, key);
    return n;
}

static enum err_code read_each(struct build *b, const struct source *src)
{
    const struct yaml_node *list = yaml_get(src->root, "providers");
    enum err_code e = ERR_OK;

    for (const struct yaml_item *it = list ? list->items : NULL; it && !e; it = it->next)
        e = read_provider(b, &(struct item){src, it->value}, &b->providers[b->n_providers++]);
    list = yaml_get(src->root, "models");
    for (const struct yaml_item *it = list ? list->items : NULL; it && !e; it = it->next)
        e = read_model(b, &(struct item){src, it->value}, &b->models[b->n_models++]);
    list = yaml_get(src->root, "tenants");
    for (const struct yaml_item *it = list ? list->items : NULL; it && !e; it = it->next)
        e = read_tenant(b, &(struct item){src, it->value}, &b->tenants[b->n_tenants++]);
    return e;
}

enum err_code read_lists(struct build *b)
{
    enum err_code e = ERR_OK;

    b->providers = arena_array(b->a, struct raw_provider, total(b, "providers") + 1);
    b->models = arena_array(b->a, struct raw_model, total(b, "models") + 1);
    b->tenants = arena_array(b->a, struct raw_tenant, total(b, "tenants") + 1);
    for (size_t i = 0; i < b->n_sources && !e; i++)
        e = read_each(b, &b->sources[i]);
    for (size_t i = 0; i < b->n_providers && !e; i++)
        e = fill_from_known(b, &b->providers[i]);
    if (!e && !b->n_providers)
        e = add_from_environment(b);
    return e;
}
