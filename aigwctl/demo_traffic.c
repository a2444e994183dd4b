/* SPDX-License-Identifier: Apache-2.0 */
/* Request number n is due at n / rate, whoever sends it: threads take numbers in turn and wait for the due time. When all
 * threads are held up by slow answers the schedule goes on without them, and what they could not send counts as not answered. */
#include "aigwctl/demo_traffic.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "libshared/api/client.h"
#include "libshared/base/clock.h"

#define MODELS_MAX   64u
#define TENANTS_MAX  16u
#define THREADS_MAX  64u
#define SAMPLES      4096u /* latest latencies */
#define TIMEOUT_MS   20000
#define REFUSED_EACH 20u /* one request of so many is the refused tenant's */

struct demo_traffic {
    char url[128];
    double per_s;
    int64_t for_us;
    struct mono start;
    char *models[MODELS_MAX];
    size_t n_models;
    char *keys[TENANTS_MAX], *refused_key;
    size_t n_keys;

    pthread_t threads[THREADS_MAX];
    size_t n_threads;
    _Atomic uint64_t next;
    _Atomic size_t running;
    _Atomic int is_over;

    pthread_mutex_t lock;
    pthread_cond_t stop; /* wakes those who wait for a due time */
    struct demo_figures figures;
    int64_t samples[SAMPLES];
    size_t n_samples;
};

struct sender { /* one thread's clients: one for each key, since the key goes with the client */
    struct demo_traffic *t;
    struct api_client *clients[TENANTS_MAX + 1];
};

/* ---- one request --------------------------------------------------------------------------------------------------- */

static struct span request_body(struct buf *b, const char *model, uint64_t n, bool is_stream)
{
    static const char *const QUESTIONS[] = {"How do breakers work?", "Write a haiku about queues.",
                                            "What is the capital of France?",
                                            "Summarise: retries need jitter."};
    const char *q = QUESTIONS[n / 3 % ARRAY_LEN(QUESTIONS)];

    buf_clear(b);
    if (strstr(model, "embed"))
        buf_addf(b, "{\"model\":\"%s\",\"input\":\"%s\"}", model, q);
    else
        buf_addf(b, "{\"model\":\"%s\",\"stream\":%s,\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
                 model, is_stream ? "true" : "false", q);
    return buf_span(b);
}

/* A stream is answered when it reached its end marker without an error event. */
static bool is_complete(const struct api_answer *a, bool is_stream)
{
    if (a->status != 200 || !a->body.p)
        return false;
    if (!is_stream)
        return a->body.p[0] == '{' && a->body.len > 2;
    return strstr(a->body.p, "data: [DONE]") && !strstr(a->body.p, "data: {\"error\"");
}

static void complain(struct demo_figures *f, const struct api_answer *a, const struct err *err,
                     const char *model)
{
    if (err->code)
        (void)snprintf(f->complaint, sizeof(f->complaint), "%.60s: %.80s", model, err_text(err));
    else
        (void)snprintf(f->complaint, sizeof(f->complaint), "%.60s: HTTP %d%s", model, a->status,
                       a->status == 200 ? ", cut short" : "");
}

static void book(struct demo_traffic *t, const struct api_answer *a, const struct err *err, const char *model,
                 bool is_stream, int64_t took_us)
{
    struct demo_figures *f = &t->figures;
    uint64_t attempts = 1;

    (void)span_to_u64(api_answer_header(a, "x-gatewayd-attempts"), &attempts);
    (void)pthread_mutex_lock(&t->lock);
    if (!err->code && is_complete(a, is_stream)) {
        f->answered++;
        f->streamed += is_stream;
        f->failed_over += attempts > 1;
        t->samples[t->n_samples++ % SAMPLES] = took_us;
    } else if (!t->is_over) { /* not what we cut ourselves */
        f->failed++;
        complain(f, a, err, model);
    }
    (void)pthread_mutex_unlock(&t->lock);
}

static struct api_client *client_of(struct sender *s, size_t i)
{
    struct demo_traffic *t = s->t;

    if (!s->clients[i])
        s->clients[i] = api_client_new(
            &(struct api_client_options){.url = t->url,
                                         .token = span_of(i == t->n_keys ? t->refused_key : t->keys[i]),
                                         .timeout_ms = TIMEOUT_MS,
                                         .is_over = &t->is_over},
            NULL);
    return s->clients[i];
}

static bool is_refused_turn(const struct demo_traffic *t, uint64_t n)
{
    return t->refused_key && n % REFUSED_EACH == REFUSED_EACH - 1;
}

/* The refused tenant may use embeddings, so it asks for something else. */
static const char *model_of(const struct demo_traffic *t, uint64_t n, bool is_refused)
{
    uint64_t first = is_refused ? n / REFUSED_EACH : n;

    for (uint64_t i = 0; is_refused && i < t->n_models; i++)
        if (!strstr(t->models[(first + i) % t->n_models], "embed"))
            return t->models[(first + i) % t->n_models];
    return t->models[first % t->n_models];
}

static void book_refusal(struct demo_traffic *t, const struct api_answer *a, const struct err *err,
                         const char *model)
{
    (void)pthread_mutex_lock(&t->lock);
    if (!err->code && a->status == 403) {
        t->figures.refused++;
    } else if (!t->is_over) {
        t->figures.failed++;
        complain(&t->figures, a, err, model);
    }
    (void)pthread_mutex_unlock(&t->lock);
}

static void send_one(struct sender *s, uint64_t n)
{
    struct demo_traffic *t = s->t;
    bool is_refused = is_refused_turn(t, n);
    const char *model = model_of(t, n, is_refused);
    bool is_stream = n / t->n_models % 2 && !strstr(model, "embed");
    struct api_client *c = client_of(s, is_refused ? t->n_keys : n % t->n_keys);
    struct buf body AUTO(buf_release) = {.max = 4096};
    struct api_answer a = {0};
    struct err err = {0};
    struct mono began = mono_now();

    if (!c)
        return;
    (void)pthread_mutex_lock(&t->lock);
    t->figures.sent += !is_refused;
    t->figures.barred += is_refused;
    (void)pthread_mutex_unlock(&t->lock);
    (void)!api_client_call(c, "POST", strstr(model, "embed") ? "/v1/embeddings" : "/v1/chat/completions",
                           request_body(&body, model, n, is_stream), &a, &err);
    if (is_refused)
        book_refusal(t, &a, &err, model);
    else
        book(t, &a, &err, model, is_stream, mono_diff_us(mono_now(), began));
    api_answer_release(&a);
}

/* ---- threads ------------------------------------------------------------------------------------------------------- */

static int64_t due_us(const struct demo_traffic *t, uint64_t n)
{
    return (int64_t)((double)n / t->per_s * 1e6);
}

static bool wait_for(struct demo_traffic *t, int64_t at_us)
{
    struct mono due = mono_add_us(t->start, at_us);
    struct timespec ts = {.tv_sec = due.us / 1000000, .tv_nsec = due.us % 1000000 * 1000};

    (void)pthread_mutex_lock(&t->lock);
    while (!t->is_over && pthread_cond_timedwait(&t->stop, &t->lock, &ts) != ETIMEDOUT)
        ;
    (void)pthread_mutex_unlock(&t->lock);
    return !t->is_over;
}

static void *send_all(void *user)
{
    struct sender s = {.t = user};
    struct demo_traffic *t = user;

    for (;;) {
        uint64_t n = atomic_fetch_add(&t->next, 1);
        int64_t due = due_us(t, n);

        if ((t->for_us && due >= t->for_us) || !wait_for(t, due))
            break;
        send_one(&s, n);
    }
    for (size_t i = 0; i <= t->n_keys; i++)
        api_client_free(s.clients[i]);
    atomic_fetch_sub(&t->running, 1);
    return NULL;
}

static void take_keys(struct demo_traffic *t, json_t *keys)
{
    const char *tenant;
    json_t *key;

    json_object_foreach(keys, tenant, key)
    {
        if (!json_is_string(key))
            continue;
        if (strcmp(tenant, "refused") == 0)
            t->refused_key = strdup(json_string_value(key));
        else if (t->n_keys < TENANTS_MAX)
            t->keys[t->n_keys++] = strdup(json_string_value(key));
    }
}

/* The aliases; names of single targets are theirs already. */
static enum err_code take_models(struct demo_traffic *t, struct err *err)
{
    struct api_client *c = api_client_new(
        &(struct api_client_options){.url = t->url, .token = span_of(t->n_keys ? t->keys[0] : "")}, err);
    struct api_answer a = {0};
    json_t *doc = NULL, *row;
    size_t i;
    enum err_code e = c ? api_client_call(c, "GET", "/v1/models", (struct span){0}, &a, err) : ERR_CONFIG;

    if (!e)
        doc = json_loadb(a.body.p ? a.body.p : "", a.body.len, 0, NULL);
    json_array_foreach(json_object_get(doc, "data"), i, row)
    {
        const char *id = json_string_value(json_object_get(row, "id"));

        if (id && !strpbrk(id, "/\"\\") && t->n_models < MODELS_MAX)
            t->models[t->n_models++] = strdup(id);
    }
    if (!e && !t->n_models)
        e = err_set(err, ERR_INTERNAL, "the gateway lists no models (HTTP %d)", a.status);
    json_decref(doc);
    api_answer_release(&a);
    api_client_free(c);
    return e;
}

static void start_threads(struct demo_traffic *t)
{
    size_t want = (size_t)(t->per_s * 3) + 4;
    sigset_t all, old;

    if (want > THREADS_MAX)
        want = THREADS_MAX;
    t->start = mono_now();
    (void)sigfillset(&all); /* signals are the main thread's */
    (void)pthread_sigmask(SIG_BLOCK, &all, &old);
    while (t->n_threads < want) {
        atomic_fetch_add(&t->running, 1);
        if (pthread_create(&t->threads[t->n_threads], NULL, send_all, t)) {
            atomic_fetch_sub(&t->running, 1);
            break;
        }
        t->n_threads++;
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
}

struct demo_traffic *demo_traffic_start(const struct demo_traffic_options *o, struct err *err)
{
    struct demo_traffic *t = calloc(1, sizeof(*t));
    pthread_condattr_t mono;

    if (!t)
        abort();
    (void)span_copy(t->url, sizeof(t->url), span_of(o->url));
    t->per_s = o->per_s;
    t->for_us = o->for_ms * 1000;
    (void)pthread_mutex_init(&t->lock, NULL);
    (void)pthread_condattr_init(&mono);
    (void)pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&t->stop, &mono);
    (void)pthread_condattr_destroy(&mono);
    take_keys(t, o->keys);
    if (take_models(t, err)) {
        demo_traffic_free(t);
        return NULL;
    }
    start_threads(t);
    return t;
}

bool demo_traffic_is_done(struct demo_traffic *t)
{
    return atomic_load(&t->running) == 0;
}

/* ---- figures ------------------------------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    int64_t x, y;

    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return x < y ? -1 : x > y;
}

static uint64_t expected_by(const struct demo_traffic *t, int64_t at_us)
{
    uint64_t due, refused;

    if (t->for_us && at_us > t->for_us)
        at_us = t->for_us;
    due = (uint64_t)((double)at_us * t->per_s / 1e6);
    due += due_us(t, due) < at_us; /* number 0 is due at once */
    refused = t->refused_key ? due / REFUSED_EACH : 0;
    return due - refused;
}

struct demo_figures demo_traffic_figures(struct demo_traffic *t)
{
    struct demo_figures f;
    int64_t *sorted;
    size_t n;

    (void)pthread_mutex_lock(&t->lock);
    f = t->figures;
    n = t->n_samples < SAMPLES ? t->n_samples : SAMPLES;
    sorted = calloc(n + 1, sizeof(*sorted));
    if (!sorted)
        abort();
    memcpy(sorted, t->samples, n * sizeof(*sorted));
    (void)pthread_mutex_unlock(&t->lock);
    qsort(sorted, n, sizeof(*sorted), ascending);
    f.expected = expected_by(t, mono_diff_us(mono_now(), t->start));
    f.p50_us = n ? sorted[n / 2] : -1;
    f.p95_us = n ? sorted[n * 95 / 100] : -1;
    free(sorted);
    return f;
}

void demo_traffic_free(struct demo_traffic *t)
{
    if (!t)
        return;
    (void)pthread_mutex_lock(&t->lock);
    t->is_over = 1;
    (void)pthread_cond_broadcast(&t->stop);
    (void)pthread_mutex_unlock(&t->lock);
    for (size_t i = 0; i < t->n_threads; i++)
        (void)pthread_join(t->threads[i], NULL);
    for (size_t i = 0; i < t->n_models; i++)
        free(t->models[i]);
    for (size_t i = 0; i < t->n_keys; i++)
        free(t->keys[i]);
    free(t->refused_key);
    (void)pthread_mutex_destroy(&t->lock);
    (void)pthread_cond_destroy(&t->stop);
    free(t);
}
