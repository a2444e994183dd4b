/* SPDX-License-Identifier: Apache-2.0 */
/* The loop's thread, which alone adds entries; counters of an entry may be read by any. An entry per provider name that was ever
 * configured, never freed before the end. A probe's callbacks come on the loop. */
#include "gatewayd/health/prober.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "gatewayd/http/client.h"
#include "gatewayd/provider/provider.h"
#include "libshared/base/id.h"

#define HEADER_LINES_MAX ((size_t)16 << 10)

struct entry {
    struct prober *of;
    label provider;
    struct client_call *call; /* NULL: none is under way */
    struct mono began;
    struct wall first;
    int status;
    struct health_probed last;
    _Atomic uint64_t n[PROBE_OUTCOMES];
};

struct prober {
    struct loop *loop;
    struct client *client;
    _Atomic unsigned n_entries;
    struct entry *entries[4 * LIMIT_PROVIDERS];
};

static struct entry *find(const struct prober *p, label provider)
{
    unsigned n = atomic_load_explicit(&p->n_entries, memory_order_acquire);

    for (unsigned i = 0; i < n; i++)
        if (p->entries[i]->provider == provider)
            return p->entries[i];
    return NULL;
}

static struct entry *find_or_add(struct prober *p, label provider)
{
    struct entry *e = find(p, provider);
    unsigned n = atomic_load(&p->n_entries);

    if (e || n == ARRAY_LEN(p->entries))
        return e;
    e = calloc(1, sizeof(*e));
    if (!e)
        abort();
    e->of = p;
    e->provider = provider;
    p->entries[n] = e;
    atomic_store_explicit(&p->n_entries, n + 1, memory_order_release);
    return e;
}

struct prober *prober_new(struct loop *l, struct mailbox *m, const char *ca_file, struct err *err)
{
    struct prober *p = calloc(1, sizeof(*p));

    if (!p)
        abort();
    p->loop = l;
    p->client = client_new(l, m, ca_file, err);
    if (p->client)
        return p;
    free(p);
    return NULL;
}

void prober_free(struct prober *p)
{
    if (!p)
        return;
    client_free(p->client);
    for (unsigned i = 0; i < atomic_load(&p->n_entries); i++)
        free(p->entries[i]);
    free(p);
}

/* ---- what came of it ------------------------------------------------------------------------------------------------- */

/* A refusal that is no verdict: an endpoint that is not there, a rate limit, a redirect. */
static enum probe_outcome judge(int status)
{
    if (status >= 200 && status <= 299)
        return PROBE_OK;
    return status == 401 || status == 403 || status >= 500 ? PROBE_FAILED : PROBE_UNCLEAR;
}

static void note(struct entry *e, enum probe_outcome o, const char *text)
{
    e->last = (struct health_probed){.at = wall_now(),
                                     .is_ok = o == PROBE_OK,
                                     .is_unclear = o == PROBE_UNCLEAR,
                                     .us = mono_diff_us(mono_now(), e->began)};
    (void)span_copy(e->last.text, sizeof(e->last.text), span_of(text));
    atomic_fetch_add(&e->n[o], 1);
}

static void on_headers(void *user, const struct client_headers *h)
{
    ((struct entry *)user)->status = h->status;
}

static bool on_body(void *user, struct span bytes)
{
    (void)user;
    (void)bytes;
    return true;
}

static void on_done(void *user, enum err_code code, const char *detail)
{
    struct entry *e = user;
    char text[HEALTH_PROBE_TEXT];

    e->call = NULL;
    if (code && !e->status) {
        note(e, PROBE_FAILED, detail && detail[0] ? detail : err_row(code)->text);
        return;
    }
    (void)snprintf(text, sizeof(text), "HTTP %d%s", e->status, code ? ", and the answer broke off" : "");
    note(e, code ? PROBE_FAILED : judge(e->status), text);
}

static const struct client_callbacks CALLBACKS = {
    .on_headers = on_headers, .on_body = on_body, .on_done = on_done};

/* ---- asking ---------------------------------------------------------------------------------------------------------- */

static const char *free_path(const struct config_provider *provider)
{
    const struct provider_ops *ops = provider_ops_find(provider->kind);

    return ops ? ops->path(OP_MODELS) : NULL;
}

bool prober_can(const struct config_provider *provider)
{
    return provider->is_enabled && free_path(provider) != NULL;
}

bool prober_start(struct prober *p, const struct config_provider *provider, int64_t timeout_us)
{
    const struct provider_ops *ops = provider_ops_find(provider->kind);
    struct entry *e = find_or_add(p, provider->label);
    struct buf url AUTO(buf_release) = {.max = 8192}, lines AUTO(buf_release) = {.max = HEADER_LINES_MAX};
    static const char AGENT[] = "user-agent: gatewayd/" GATEWAYD_VERSION;
    struct client_request rq;

    if (!e || !prober_can(provider))
        return false;
    if (e->call)
        return true;
    buf_add(&lines, span_make(AGENT, sizeof(AGENT))); /* with its NUL */
    if (ops->headers(&lines, provider->n_api_keys ? &provider->api_keys[0] : NULL))
        return false;
    buf_addz(&url, provider->base_url);
    buf_addz(&url, free_path(provider));
    rq = (struct client_request){.method = "GET",
                                 .url = url.p,
                                 .header_lines = &lines,
                                 .timeouts = {timeout_us, timeout_us, timeout_us, timeout_us},
                                 .allow_private = provider->allow_private,
                                 .cb = &CALLBACKS,
                                 .user = e};
    e->status = 0;
    e->began = mono_now();
    e->call = client_start(p->client, &rq);
    return true;
}

bool prober_is_busy(const struct prober *p, label provider)
{
    const struct entry *e = find(p, provider);

    return e && e->call;
}

struct health_probed prober_last(const struct prober *p, label provider)
{
    const struct entry *e = find(p, provider);

    return e ? e->last : (struct health_probed){0};
}

struct wall prober_first(struct prober *p, label provider, struct wall now, int64_t spread_us)
{
    struct entry *e = find_or_add(p, provider);
    uint64_t r;

    if (!e)
        return (struct wall){INT64_MAX};
    if (!e->first.us) {
        random_bytes(&r, sizeof(r));
        e->first.us = now.us + (int64_t)(r % (uint64_t)(spread_us + 1));
    }
    return e->first;
}

uint64_t prober_count_mt(const struct prober *p, label provider, enum probe_outcome o)
{
    const struct entry *e = find(p, provider);

    return e ? atomic_load_explicit(&e->n[o], memory_order_relaxed) : 0;
}
