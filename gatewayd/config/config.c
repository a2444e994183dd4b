/* SPDX-License-Identifier: Apache-2.0 */
/* Loads a snapshot: defaults, then the overlay and the file, then the environment, then flags, each over the
 * one before; then the lists, the rules across values, the prices, the indexes. Any thread may load; nothing
 * is shared.
 *
 * Texts of the documents may be secrets. They are wiped when loading ends; what the snapshot keeps of them is
 * in `struct secret`, or in the few strings that config_free() wipes. */
#include "gatewayd/config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gatewayd/config/config_priv.h"
#include "gatewayd/provider/pricing.h"

/* ---- documents ---- */

static enum err_code add_source(struct build *b, const char *name, struct span text)
{
    static const struct yaml_limits LIMITS = {LIMIT_CONFIG_BYTES, LIMIT_CONFIG_DEPTH, LIMIT_CONFIG_NODES};
    struct source *src = &b->sources[b->n_sources];
    struct origin at = {.file = name};
    struct err why = {0};

    src->name = name;
    src->doc = yaml_doc_new(text, &LIMITS, &at.place, &why);
    if (!src->doc && !at.place.line)
        return err_set(b->err, why.code, "%s: %s", name, why.text);
    if (!src->doc)
        return fail_origin(b, &at, "%s", why.text);
    b->n_sources++;
    src->root = yaml_doc_root(src->doc);
    if (src->root && src->root->type == NODE_NULL)
        src->root = NULL;
    at.place = src->root ? src->root->place : at.place;
    if (src->root && src->root->type != NODE_MAP)
        return fail_origin(b, &at, "the configuration must be a mapping, as in 'listen: 127.0.0.1:8080'");
    return ERR_OK;
}

/* Regular files in one piece, since growth would leave copies of secrets behind. */
static enum err_code read_config_file(struct build *b, const char *path, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t got = 0;
    struct stat st;
    int saved;

    if (fd < 0)
        return err_set(b->err, ERR_IO, "%s: %s", path, strerrordesc_np(errno));
    buf_init(out, LIMIT_CONFIG_BYTES + 1);
    if (fstat(fd, &st) == 0 && st.st_size >= 0 && st.st_size < (off_t)LIMIT_CONFIG_BYTES)
        (void)!buf_reserve(out, (size_t)st.st_size + 1);
    while (out->len <= LIMIT_CONFIG_BYTES && !buf_reserve(out, 1)) {
        got = read(fd, out->p + out->len, out->cap - out->len - 1);
        if (got <= 0)
            break;
        out->len += (size_t)got;
    }
    saved = errno;
    (void)close(fd);
    if (got < 0)
        return err_set(b->err, ERR_IO, "%s: %s", path, strerrordesc_np(saved));
    return ERR_OK;
}

static enum err_code add_file(struct build *b)
{
    struct buf text AUTO(wipe_buf) = {0};
    const char *path = b->o->path;
    enum err_code e;

    if (!path && !b->o->is_demo)
        path = getenv("GATEWAYD_CONFIG");
    if (!path || !path[0])
        return ERR_OK;
    b->c->path = arena_dup(b->a, span_of(path));
    e = read_config_file(b, b->c->path, &text);
    return e ? e : add_source(b, b->c->path, buf_span(&text));
}

static enum err_code read_documents(struct build *b)
{
    enum err_code e = ERR_OK;

    if (b->o->overlay_yaml)
        e = add_source(b, OVERLAY_NAME, span_of(b->o->overlay_yaml));
    if (!e)
        e = add_file(b);
    for (size_t i = 0; i < b->n_sources && !e; i++)
        if (b->sources[i].root)
            e = read_map(b, &b->sources[i], b->sources[i].root, "", b->c);
    return e;
}

/* ---- environment and flags ---- */

static enum err_code set_variable(struct build *b, const struct option_row *row, const char *name,
                                  const char *unit)
{
    struct origin at = {.variable = name};
    const char *value = getenv(name);
    struct buf text AUTO(wipe_buf) = {0};
    size_t n;

    if (!value || !value[0])
        return ERR_OK;
    n = strlen(value);
    buf_init(&text, LIMIT_CONFIG_VALUE);
    if (buf_reserve(&text, n + 2) || buf_append(&text, value, n))
        return fail_origin(b, &at, "the value is longer than %u bytes", LIMIT_CONFIG_VALUE);
    if (unit && value[strspn(value, "0123456789")] == '\0')
        buf_addz(&text, unit);
    return set_text(b, row, b->c, buf_span(&text), &at);
}

/* Names of other documents first, so that ours win. */
static enum err_code read_environment(struct build *b)
{
    enum err_code e = ERR_OK;

    for (size_t i = 0; i < OPTIONS_LEN && !e; i++)
        if (OPTIONS[i].alias)
            e = set_variable(b, &OPTIONS[i], OPTIONS[i].alias, OPTIONS[i].alias_unit);
    for (size_t i = 0; i < OPTIONS_LEN && !e; i++)
        if (OPTIONS[i].env)
            e = set_variable(b, &OPTIONS[i], OPTIONS[i].env, NULL);
    return e;
}

static enum err_code set_flag(struct build *b, const char *path, const char *flag, const char *value)
{
    struct origin at = {.flag = flag, .shown = span_of(value)};

    return value ? set_text(b, option_find(path), b->c, span_of(value), &at) : ERR_OK;
}

static enum err_code read_flags(struct build *b)
{
    enum err_code e = set_flag(b, "listen", "--listen", b->o->listen);

    return e ? e : set_flag(b, "state_dir", "--state-dir", b->o->state_dir);
}

/* ---- the snapshot's arrays ---- */

static void finish_providers(struct build *b)
{
    struct config_provider *out = arena_array(b->a, struct config_provider, b->n_providers + 1);

    for (size_t i = 0; i < b->n_providers; i++) {
        out[i] = b->providers[i].p;
        out[i].label = intern_z(out[i].name);
    }
    b->c->providers = out;
    b->c->n_providers = b->n_providers;
}

static struct config_target finish_target(const struct config *c, const struct raw_target *raw)
{
    struct config_target t = raw->t;

    t.provider = config_find_provider(c, span_of(raw->provider));
    t.model_label = intern_z(t.model);
    t.price = price_find(c->prices, span_of(raw->provider), span_of(t.model));
    return t;
}

static void finish_models(struct build *b)
{
    struct config_model *out = arena_array(b->a, struct config_model, b->n_models + 1);

    for (size_t i = 0; i < b->n_models; i++) {
        const struct raw_model *raw = &b->models[i];
        struct config_target *targets = arena_array(b->a, struct config_target, raw->m.n_targets);

        for (size_t k = 0; k < raw->m.n_targets; k++)
            targets[k] = finish_target(b->c, &raw->targets[k]);
        out[i] = raw->m;
        out[i].label = intern_z(raw->m.name);
        out[i].targets = targets;
    }
    b->c->models = out;
    b->c->n_models = b->n_models;
}

static void finish_tenants(struct build *b)
{
    struct config_tenant *out = arena_array(b->a, struct config_tenant, b->n_tenants + 1);
    struct config_key *keys;
    size_t n = 0;

    for (size_t i = 0; i < b->n_tenants; i++)
        n += b->tenants[i].n_keys;
    keys = arena_array(b->a, struct config_key, n + 1);
    n = 0;
    for (size_t i = 0; i < b->n_tenants; i++) {
        out[i] = b->tenants[i].t;
        out[i].label = intern_z(out[i].id);
        for (size_t k = 0; k < b->tenants[i].n_keys; k++) {
            keys[n] = b->tenants[i].keys[k].k;
            keys[n].label = intern_z(keys[n].id);
            keys[n++].tenant = &out[i];
        }
    }
    b->c->tenants = out;
    b->c->n_tenants = b->n_tenants;
    b->c->keys = keys;
    b->c->n_keys = n;
}

static enum err_code finish(struct build *b)
{
    struct config *c = b->c;

    c->prices = price_table_new(c->prices_path[0] ? c->prices_path : NULL, b->err);
    if (!c->prices) {
        struct origin at = b->set_by[option_find("prices") - OPTIONS];
        struct err why = *b->err;

        return fail_origin(b, &at, "%s", err_text(&why));
    }
    c->other_label = intern(SPAN_LIT("other"));
    finish_providers(b);
    finish_models(b);
    finish_tenants(b);
    index_all(c);
    warn_all(b);
    c->warnings = arena_dup(b->a, span_of(b->warnings.p ? b->warnings.p : ""));
    return ERR_OK;
}

/* ---- life ---- */

static enum err_code check_any_provider(struct build *b)
{
    if (b->n_providers || b->n_sources)
        return ERR_OK;
    return err_set(
        b->err, ERR_CONFIG,
        "no provider is configured: give a file with -c, or set a provider's key such as OPENAI_API_KEY");
}

static enum err_code load(struct build *b)
{
    enum err_code e = set_defaults(b, "", b->c);

    if (!e)
        e = read_documents(b);
    if (!e)
        e = read_environment(b);
    if (!e)
        e = read_flags(b);
    if (!e)
        e = read_lists(b);
    if (!e)
        e = check_any_provider(b);
    if (!e)
        e = resolve_paths(b);
    if (!e)
        e = check_all(b);
    if (!e)
        e = add_default_tenant(b);
    return e ? e : finish(b);
}

struct config *config_load(const struct config_options *o, struct err *err)
{
    struct err scratch = {0};
    struct build b = {.o = o, .err = err ? err : &scratch};
    enum err_code e;

    b.c = calloc(1, sizeof(*b.c));
    if (!b.c) {
        (void)err_set(err, ERR_NO_MEMORY, "no memory for the configuration");
        return NULL;
    }
    b.a = &b.c->arena;
    b.c->refs = 1;
    b.c->version = o->version;
    b.c->is_demo = o->is_demo;
    b.set_by = arena_array(b.a, struct origin, OPTIONS_LEN);
    buf_init(&b.warnings, 1 << 20);
    e = load(&b);
    buf_release(&b.warnings);
    for (size_t i = 0; i < b.n_sources; i++)
        yaml_doc_free(b.sources[i].doc);
    for (size_t i = 0; !e && i < OPTIONS_LEN; i++)
        if (b.set_by[i].file)
            b.set_by[i].file = arena_dup(b.a, span_of(b.set_by[i].file));
    b.c->set_by = b.set_by;
    if (!e)
        return b.c;
    config_unref(b.c);
    return NULL;
}

struct config *config_ref(struct config *c)
{
    (void)atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

static void wipe_string(const char *z)
{
    if (z && z[0])
        explicit_bzero((char *)(uintptr_t)z, strlen(z));
}

static void config_free(struct config *c)
{
    if (c->file) { /* what is shared goes with the last that shares it */
        config_unref(c->file);
        arena_release(&c->arena);
        free(c);
        return;
    }
    for (struct secret_link *l = c->secrets; l; l = l->next)
        secret_release(l->secret);
    wipe_string(c->redis);
    wipe_string(c->database);
    wipe_string(c->grafana.remote_write_url);
    wipe_string(c->otlp.endpoint);
    price_table_free(c->prices);
    arena_release(&c->arena);
    free(c);
}

void config_unref(struct config *c)
{
    if (c && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
        config_free(c);
}
