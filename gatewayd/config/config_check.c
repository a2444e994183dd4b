/* SPDX-License-Identifier: Apache-2.0 */
/* Rules that need more than one value: what must be there, what must be unique, what must name something
 * else. Runs while the documents are still open, so that each message can point at the line. */
#include <errno.h>
#include <sys/un.h>
#include <unistd.h>

#include "gatewayd/config/config_priv.h"
#include "libshared/catalog/metrics.h"

/* ---- a set of names, with the first place of each ---- */

struct names {
    struct span *slots;
    size_t mask;
};

static struct names names_for(struct arena *a, size_t n)
{
    size_t slots = 8;

    while (slots < n * 2)
        slots *= 2;
    return (struct names){arena_array(a, struct span, slots), slots - 1};
}

/* False when it is there already. Borrows `s`. */
static bool names_add(struct names *t, struct span s)
{
    size_t i = (size_t)hash_bytes(s) & t->mask;

    for (; t->slots[i].p; i = (i + 1) & t->mask)
        if (span_eq(t->slots[i], s))
            return false;
    t->slots[i] = s;
    return true;
}

static enum err_code need(struct build *b, const struct item *it, const char *value, const char *list,
                          const char *key)
{
    struct origin at = origin_in(it, key);

    if (value && value[0])
        return ERR_OK;
    return fail_origin(b, &at, "an item of '%s' needs '%s'", list, key);
}

/* ---- providers ---- */

static enum err_code check_base_url(struct build *b, struct raw_provider *r)
{
    struct origin at = origin_in(&r->at, "base_url");
    size_t len = 0;
    const char *why = value_base_url(span_of(r->p.base_url), &len);

    if (r->url_variable)
        at.variable = r->url_variable;
    if (why)
        return fail_origin(b, &at, "the base URL of provider '%s' is not usable: %s", r->p.name, why);
    r->p.base_url = arena_dup(b->a, span_make(r->p.base_url, len));
    return ERR_OK;
}

static void inherit_timeouts(struct config_timeouts *t, const struct config_timeouts *from)
{
    t->connect_us = t->connect_us ? t->connect_us : from->connect_us;
    t->first_byte_us = t->first_byte_us ? t->first_byte_us : from->first_byte_us;
    t->idle_us = t->idle_us ? t->idle_us : from->idle_us;
    t->total_us = t->total_us ? t->total_us : from->total_us;
}

/* Plain HTTP to this machine is nobody else's to read. */
static bool is_local_url(const char *url)
{
    return strncmp(url, "http://127.", 11) == 0 || strncmp(url, "http://[::1]", 12) == 0 ||
           (strncmp(url, "http://localhost", 16) == 0 && strchr(":/", url[16]));
}

static void warn_provider(struct build *b, struct raw_provider *r)
{
    struct origin at = origin_in(&r->at, "name");

    if (r->p.is_enabled && r->n_skipped_keys && !r->p.n_api_keys) {
        r->p.is_enabled = false;
        warn_origin(b, &at, "provider '%s' is off: all its keys are empty", r->p.name);
    }
    if (r->p.is_enabled && r->p.n_api_keys && strncmp(r->p.base_url, "http://", 7) == 0 &&
        !is_local_url(r->p.base_url))
        warn_origin(b, &at, "provider '%s' is called over plain HTTP: its keys travel readable", r->p.name);
}

static enum err_code check_providers(struct build *b)
{
    struct names seen = names_for(b->a, b->n_providers);

    for (size_t i = 0; i < b->n_providers; i++) {
        struct raw_provider *r = &b->providers[i];
        struct origin at = origin_in(&r->at, "name");
        enum err_code e = need(b, &r->at, r->p.name, "providers", "name");

        if (!e && i >= LIMIT_PROVIDERS)
            e = fail_origin(b, &at, "there are more than %u providers", LIMIT_PROVIDERS);
        if (!e && !names_add(&seen, span_of(r->p.name)))
            e = fail_origin(b, &at, "provider '%s' is there twice", r->p.name);
        if (!e && !r->p.kind)
            e = fail_origin(b, &at, "provider '%s' is not a known one, so it needs 'kind'", r->p.name);
        if (!e && (!r->p.base_url || !r->p.base_url[0])) {
            at = origin_in(&r->at, "base_url");
            e = fail_origin(b, &at, "provider '%s' needs 'base_url'", r->p.name);
        }
        if (!e)
            e = check_base_url(b, r);
        if (e)
            return e;
        inherit_timeouts(&r->p.timeouts, &b->c->upstream);
        if (!r->p.p95_target_us)
            r->p.p95_target_us = b->c->health.p95_target_us;
        r->p.index = (unsigned)i;
        warn_provider(b, r);
    }
    return ERR_OK;
}

/* ---- models ---- */

static const struct raw_provider *find_raw_provider(const struct build *b, const char *name)
{
    for (size_t i = 0; i < b->n_providers; i++)
        if (strcmp(b->providers[i].p.name, name) == 0)
            return &b->providers[i];
    return NULL;
}

static const char *closest_provider(const struct build *b, const char *name)
{
    const char *best_name = NULL;
    unsigned best = UINT32_MAX;

    for (size_t i = 0; i < b->n_providers; i++) {
        unsigned d = edit_distance(span_of(name), span_of(b->providers[i].p.name));

        if (d < best) {
            best = d;
            best_name = b->providers[i].p.name;
        }
    }
    return best_name && is_close(best, strlen(name)) ? best_name : NULL;
}

static enum err_code check_target(struct build *b, struct raw_target *t)
{
    struct origin at = origin_in(&t->at, "provider");
    enum err_code e = need(b, &t->at, t->provider, "models[].targets", "provider");
    const char *hint;

    if (!e)
        e = need(b, &t->at, t->t.model, "models[].targets", "model");
    if (e)
        return e;
    if (!find_raw_provider(b, t->provider)) {
        hint = closest_provider(b, t->provider);
        return fail_origin(b, &at, "no provider is named '%.64s'%s%s%s", t->provider,
                           hint ? "; did you mean '" : "", hint ? hint : "", hint ? "'?" : "");
    }
    at = origin_in(&t->at, "model");
    if (strlen(t->t.model) > LIMIT_MODEL_BYTES)
        return fail_origin(b, &at, "the model's name is longer than %u bytes", LIMIT_MODEL_BYTES);
    return ERR_OK;
}

static enum err_code check_targets(struct build *b, const struct raw_model *m)
{
    struct origin at = origin_in(&m->at, "targets");
    bool has_weight = false, has_enabled = false;

    if (!m->m.n_targets)
        return fail_origin(b, &at, "model '%.64s' needs at least one item in 'targets'", m->m.name);
    for (size_t i = 0; i < m->m.n_targets; i++) {
        enum err_code e = check_target(b, &m->targets[i]);

        if (e)
            return e;
        has_weight |= m->targets[i].t.weight > 0;
        has_enabled |= find_raw_provider(b, m->targets[i].provider)->p.is_enabled;
    }
    if (m->m.strategy == STRATEGY_WEIGHTED && !has_weight)
        return fail_origin(b, &at, "model '%.64s' is weighted, but all its weights are 0", m->m.name);
    if (!has_enabled)
        warn_origin(b, &at, "model '%.64s' cannot answer: all providers of its targets are off", m->m.name);
    return ERR_OK;
}

static enum err_code check_models(struct build *b)
{
    struct names seen = names_for(b->a, b->n_models);

    for (size_t i = 0; i < b->n_models; i++) {
        struct raw_model *m = &b->models[i];
        struct origin at = origin_in(&m->at, "name");
        enum err_code e = need(b, &m->at, m->m.name, "models", "name");

        if (!e && strlen(m->m.name) > LIMIT_MODEL_BYTES)
            e = fail_origin(b, &at, "the model's name is longer than %u bytes", LIMIT_MODEL_BYTES);
        if (!e && !names_add(&seen, span_of(m->m.name)))
            e = fail_origin(b, &at, "model '%.64s' is there twice", m->m.name);
        if (!e)
            e = check_targets(b, m);
        if (e)
            return e;
    }
    return ERR_OK;
}

/* ---- tenants and keys ---- */

static bool is_given(const struct item *it, const char *key)
{
    const struct yaml_node *n = yaml_get(it->node, key);

    return n && n->type != NODE_NULL;
}

static enum err_code check_key(struct build *b, struct raw_tenant *t, struct raw_key *k)
{
    struct origin at = origin_in(&k->at, "key");
    struct span plain = secret_expose(&k->plain);
    bool has_plain = is_given(&k->at, "key");

    if (has_plain == is_given(&k->at, "sha256"))
        return fail_origin(b, &at, "key '%s' of tenant '%s' needs either 'sha256' or 'key'", k->k.id,
                           t->t.id);
    if (!has_plain)
        return ERR_OK;
    if (plain.len < 8)
        return fail_origin(b, &at, "key '%s' of tenant '%s' is shorter than 8 characters", k->k.id, t->t.id);
    if (plain.len < 16)
        warn_origin(b, &at, "key '%s' of tenant '%s' is shorter than 16 characters", k->k.id, t->t.id);
    sha256(plain, k->k.sha256);
    secret_release(&k->plain);
    return ERR_OK;
}

static enum err_code check_keys(struct build *b, struct raw_tenant *t, struct names *digests)
{
    struct names ids = names_for(b->a, t->n_keys);

    for (size_t i = 0; i < t->n_keys; i++) {
        struct raw_key *k = &t->keys[i];
        struct origin at = origin_in(&k->at, "id");
        enum err_code e = need(b, &k->at, k->k.id, "tenants[].keys", "id");

        if (!e && !names_add(&ids, span_of(k->k.id)))
            e = fail_origin(b, &at, "key '%s' of tenant '%s' is there twice", k->k.id, t->t.id);
        if (!e && k->at.node)
            e = check_key(b, t, k);
        if (!e && !names_add(digests, span_make(k->k.sha256, SHA256_BYTES)))
            e = fail_origin(b, &at, "key '%s' of tenant '%s' is the same as an earlier one", k->k.id,
                            t->t.id);
        if (e)
            return e;
    }
    return ERR_OK;
}

static enum err_code check_tenants(struct build *b)
{
    struct names seen = names_for(b->a, b->n_tenants), digests;
    size_t n = 0;

    for (size_t i = 0; i < b->n_tenants; i++)
        n += b->tenants[i].n_keys;
    digests = names_for(b->a, n);
    for (size_t i = 0; i < b->n_tenants; i++) {
        struct raw_tenant *t = &b->tenants[i];
        struct origin at = origin_in(&t->at, "id");
        enum err_code e = need(b, &t->at, t->t.id, "tenants", "id");

        if (!e && !names_add(&seen, span_of(t->t.id)))
            e = fail_origin(b, &at, "tenant '%s' is there twice", t->t.id);
        if (!e)
            e = check_keys(b, t, &digests);
        if (e)
            return e;
        if (!t->n_keys && t->at.node)
            warn_origin(b, &at, "tenant '%s' has no keys, so nobody can use it", t->t.id);
    }
    return ERR_OK;
}

/* ---- the process ---- */

static struct origin setter(const struct build *b, const char *path)
{
    return b->set_by[option_find(path) - OPTIONS];
}

static bool was_set(const struct build *b, const char *path)
{
    struct origin o = setter(b, path);

    return o.file || o.variable || o.flag;
}

/* Whether the token is put together from words that documentation and habit put there
 * ("gatewayd-admin-token"). */
static bool is_default_words(struct span s)
{
    static const char *const WORDS[] = {
        "changeme", "change", "me",      "admin",    "administrator",
        "token",    "secret", "default", "gatewayd", "gateway",
        "password", "pass",   "test",    "demo",     "example",
        "your",     "my",     "here",    "key",      "root",
        "letmein",  "please", "this",    "the",      "replace",
        "with",     "api",    "12",      "34",       "56",
        "78",       "90",     "01",      "23",       "45",
        "67",       "89",     "qwerty",  "abc",      "123",
        "insert",   "foo",    "bar",     "string",   "value",
        "insecure",
    };
    char flat[129];
    bool reach[130] = {true};
    size_t n = 0;

    for (size_t i = 0; i < s.len && n < 128; i++) {
        char c = s.p[i] >= 'A' && s.p[i] <= 'Z' ? (char)(s.p[i] + 32) : s.p[i];

        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
            flat[n++] = c;
    }
    if (n == 128)
        return false;
    for (size_t i = 0; i < n; i++)
        for (size_t w = 0; reach[i] && w < ARRAY_LEN(WORDS); w++) {
            size_t len = strlen(WORDS[w]);

            if (len <= n - i && memcmp(flat + i, WORDS[w], len) == 0)
                reach[i + len] = true;
        }
    explicit_bzero(flat, sizeof(flat));
    return reach[n];
}

static bool is_one_character(struct span s)
{
    for (size_t i = 1; i < s.len; i++)
        if (s.p[i] != s.p[0])
            return false;
    return true;
}

static enum err_code check_admin(struct build *b)
{
    struct config *c = b->c;
    struct span token = secret_expose(&c->admin_token);
    struct origin at = setter(b, "admin.token");

    if (token.len && token.len < 16)
        return fail_origin(b, &at, "'admin.token' is shorter than 16 characters");
    if (token.len && (is_default_words(token) || is_one_character(token)))
        return fail_origin(b, &at, "'admin.token' is a default word; choose a random one");
    if (was_set(b, "admin.listen") && c->admin_listen.host[0] && !token.len) {
        at = setter(b, "admin.listen");
        return fail_origin(b, &at, "'admin.listen' needs 'admin.token' (or the variable GATEWAYD_TOKEN)");
    }
    if (!was_set(b, "admin.listen"))
        c->admin_listen =
            token.len ? (struct config_address){"127.0.0.1", 8081} : (struct config_address){"", 0};
    if (c->admin_listen.port && c->admin_listen.port == c->listen.port &&
        strcmp(c->admin_listen.host, c->listen.host) == 0) {
        at = setter(b, was_set(b, "admin.listen") ? "admin.listen" : "listen");
        return fail_origin(b, &at, "'admin.listen' and 'listen' are the same address");
    }
    return ERR_OK;
}

/* Now rather than at start: a reload must find out before it swaps. */
static enum err_code check_readable(struct build *b, const char *option, const char *path)
{
    struct origin at = setter(b, option);

    if (path && path[0] && access(path, R_OK))
        return fail_origin(b, &at, "'%s' cannot be read: %s", option, strerrordesc_np(errno));
    return ERR_OK;
}

static enum err_code check_files(struct build *b)
{
    enum err_code e = check_readable(b, "tls.cert", b->c->tls_cert);

    if (!e)
        e = check_readable(b, "tls.key", b->c->tls_key);
    return e ? e : check_readable(b, "upstream_ca_file", b->c->upstream_ca_file);
}

static enum err_code check_process(struct build *b)
{
    struct config *c = b->c;
    struct origin at = setter(b, c->tls_cert ? "tls.cert" : "tls.key");

    if (!c->tls_cert != !c->tls_key)
        return fail_origin(b, &at, "'tls.cert' and 'tls.key' are only useful together");
    at = setter(b, was_set(b, "breaker.open_for") ? "breaker.open_for" : "breaker.max_open_for");
    if (c->breaker.open_for_us > c->breaker.max_open_for_us)
        return fail_origin(b, &at, "'breaker.open_for' is longer than 'breaker.max_open_for'");
    at = setter(b, "health.probe_interval");
    if (c->health.probe_interval_us && c->health.probe_interval_us < 1000000)
        return fail_origin(b, &at, "'health.probe_interval' must be 0 or a second at least");
    at = setter(b, was_set(b, "admin.socket") ? "admin.socket" : "state_dir");
    if (strlen(c->admin_socket) >= sizeof(((struct sockaddr_un *)0)->sun_path))
        return fail_origin(b, &at,
                           "the path of the admin socket is longer than %zu bytes; set 'admin.socket'",
                           sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
    if (strncmp(c->redis, "rediss://", 9) == 0) {
        at = setter(b, "redis");
        return fail_origin(
            b, &at,
            "'redis' asks for TLS ('rediss://'), which the hiredis of this system does not have; use "
            "'redis://' through stunnel, or 'unix://'");
    }
    return check_files(b);
}

static enum err_code check_profiles(struct build *b)
{
    struct origin at = setter(b, "metrics.profiles");
    unsigned mask = 0;

    for (size_t i = 0; i < b->c->metrics.n_profiles; i++)
        if (!metric_profiles_add(b->c->metrics.profiles[i], &mask))
            return fail_origin(b, &at,
                               "'metrics.profiles' has no '%.64s'; there are all, reference-000 … "
                               "reference-004, gatewayd, otel and response-size",
                               b->c->metrics.profiles[i]);
    return ERR_OK;
}

enum err_code check_all(struct build *b)
{
    enum err_code e = check_process(b);

    if (!e)
        e = check_profiles(b);

    if (!e)
        e = check_admin(b);
    if (!e)
        e = check_providers(b);
    if (!e)
        e = check_models(b);
    return e ? e : check_tenants(b);
}
