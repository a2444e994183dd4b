/* SPDX-License-Identifier: Apache-2.0 */
/* A new exchange goes one of three ways: an operation of the data plane enters the pipeline, a row of the api table is
 * handed to the api thread, anything else is refused. */
#include "gatewayd/worker.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "gatewayd/api/api.h"
#include "gatewayd/http/reply.h"
#include "gatewayd/proxy/pipeline.h"
#include "gatewayd/proxy/statement.h"
#include "libshared/base/log.h"

#define CUT_GRACE_US 2000000 /* for the error events of cut streams to leave */

struct worker {
    struct worker_options o;
    struct proxy proxy;
    struct mailbox *mailbox;
    struct server *server;
    pthread_t thread;
    bool is_started;
    bool is_draining;
    struct loop_hook hook;
    struct timer grace;
    label unmatched, other_method;
};

struct order { /* a letter to the worker, freed by it */
    struct letter letter;
    struct worker *worker;
    struct config *config;
};

/* ---- exchanges --------------------------------------------------------------------------------------------------- */

static const char *const METHODS[] = {"GET", "POST", "PUT", "PATCH", "DELETE"}; /* of any route */

/* A 405 names the methods that the path has. */
static void set_allow(struct exchange *ex)
{
    struct buf allow AUTO(buf_release) = {.max = 64};
    struct span path = exchange_path(ex), model;
    enum operation op;
    enum err_code why;

    for (size_t i = 0; i < ARRAY_LEN(METHODS); i++)
        if (pipeline_match(span_of(METHODS[i]), path, &op, &model, &why))
            buf_addf(&allow, "%s%s", allow.len ? ", " : "", METHODS[i]);
    api_allow(path, true, &allow);
    exchange_set_header(ex, "allow", buf_span(&allow));
}

/* A client's own word would be a series of its own. */
static label method_label(const struct worker *w, struct span method)
{
    for (size_t i = 0; i < ARRAY_LEN(METHODS); i++)
        if (span_is(method, METHODS[i]))
            return intern(method);
    return w->other_method;
}

static void refuse(struct worker *w, struct exchange *ex, enum err_code code)
{
    struct buf body AUTO(buf_release) = {.max = 4096};
    struct buf text AUTO(buf_release) = {.max = 1024};
    struct span path = exchange_path(ex);

    buf_addf(&text, "%s: '%.*s %.*s'", err_row(code)->text, (int)exchange_method(ex).len,
             exchange_method(ex).p, (int)(path.len < 256 ? path.len : 256), path.p);
    reply_error_body(&body, code, buf_span(&text));
    if (code == ERR_BAD_METHOD)
        set_allow(ex);
    exchange_set_header(ex, "content-type", SPAN_LIT("application/json"));
    exchange_reply_adopt(ex, err_row(code)->status, &body);
    facts_add_http(w->proxy.facts, method_label(w, exchange_method(ex)), w->unmatched,
                   (uint16_t)err_row(code)->status, mono_diff_us(mono_now(), exchange_started(ex)),
                   exchange_bytes_out(ex));
}

static void on_head(struct exchange *ex, void *user)
{
    struct worker *w = user;
    enum operation op;
    struct span model;
    enum err_code why, api_why;

    if (pipeline_match(exchange_method(ex), exchange_path(ex), &op, &model, &why)) {
        pipeline_begin(&w->proxy, ex, op, model);
        return;
    }
    if (api_front_take(w->o.api, ex, w->mailbox, w->proxy.facts, w->proxy.config, true, &api_why))
        return;
    refuse(w, ex, why == ERR_BAD_METHOD || api_why == ERR_BAD_METHOD ? ERR_BAD_METHOD : ERR_NOT_FOUND);
}

static void on_refused(void *user, uint16_t status)
{
    struct worker *w = user;

    facts_add_http(w->proxy.facts, w->other_method, w->unmatched, status, 0, 0);
}

static const struct server_handler HANDLER = {.on_head = on_head, .on_refused = on_refused};

/* ---- orders ------------------------------------------------------------------------------------------------------ */

static void post(struct worker *w, letter_fn fn, struct config *c)
{
    struct order *o = calloc(1, sizeof(*o));

    if (!o)
        abort();
    *o = (struct order){.letter.fn = fn, .worker = w, .config = c};
    mailbox_post_mt(w->mailbox, &o->letter);
}

static void take_config(struct letter *l)
{
    struct order *o = CONTAINER_OF(l, struct order, letter);

    config_unref(o->worker->proxy.config);
    o->worker->proxy.config = o->config;
    free(o);
}

static void begin_drain(struct letter *l)
{
    struct order *o = CONTAINER_OF(l, struct order, letter);

    if (o->worker->server) {
        server_quiesce(o->worker->server);
        o->worker->is_draining = true;
    }
    free(o);
}

static void on_grace_over(struct timer *t)
{
    loop_stop(CONTAINER_OF(t, struct worker, grace)->proxy.loop);
}

static void cut(struct letter *l)
{
    struct order *o = CONTAINER_OF(l, struct order, letter);
    struct worker *w = o->worker;

    free(o);
    if (!w->server)
        return; /* the order came after the end */
    server_quiesce(w->server);
    w->is_draining = true;
    pipeline_cut_all(&w->proxy);
    loop_timer(w->proxy.loop, &w->grace, CUT_GRACE_US);
}

static bool on_turn_end(struct loop_hook *h)
{
    struct worker *w = CONTAINER_OF(h, struct worker, hook);

    if (w->is_draining && server_exchanges(w->server) == 0)
        loop_stop(w->proxy.loop);
    return false;
}

/* ---- corrections: the one order that is waited for ---- */

#define ADJUST_WAIT_S 2

struct adjustment { /* freed by who lets go of it last */
    struct letter letter;
    struct worker *worker;
    struct fact_adjust fact;
    _Atomic enum err_code result;
    _Atomic unsigned holders;
    sem_t done;
};

static void let_go(struct adjustment *a)
{
    if (atomic_fetch_sub(&a->holders, 1) > 1)
        return;
    (void)sem_destroy(&a->done);
    free(a);
}

static void take_adjustment(struct letter *l)
{
    struct adjustment *a = CONTAINER_OF(l, struct adjustment, letter);

    a->result = a->worker->server ? journal_adjust(a->worker->proxy.journal, &a->fact) : ERR_DRAINING;
    (void)sem_post(&a->done);
    let_go(a);
}

enum err_code worker_adjust_mt(struct worker *w, const struct fact_adjust *fact, struct err *err)
{
    struct adjustment *a = calloc(1, sizeof(*a));
    struct timespec until;
    enum err_code e = ERR_TIMEOUT;

    if (!a)
        abort();
    *a = (struct adjustment){.letter.fn = take_adjustment, .worker = w, .fact = *fact, .holders = 2};
    (void)sem_init(&a->done, 0, 0);
    (void)clock_gettime(CLOCK_MONOTONIC, &until); /* the wall clock may step meanwhile */
    until.tv_sec += ADJUST_WAIT_S;
    mailbox_post_mt(w->mailbox, &a->letter);
    if (sem_clockwait(&a->done, CLOCK_MONOTONIC, &until) == 0)
        e = a->result;
    let_go(a);
    if (e == ERR_TIMEOUT)
        return err_set(err, ERR_UNAVAILABLE,
                       "the correction was not confirmed; look for it in the ledger before making it again");
    return e ? err_set(err, e, "%s", err_row(e)->text) : ERR_OK;
}

void worker_set_config_mt(struct worker *w, struct config *c)
{
    post(w, take_config, config_ref(c));
}
void worker_drain_mt(struct worker *w)
{
    post(w, begin_drain, NULL);
}
void worker_cut_mt(struct worker *w)
{
    post(w, cut, NULL);
}

/* ---- life ---------------------------------------------------------------------------------------------------------- */

static void *run(void *arg)
{
    struct worker *w = arg;
    char name[16] = "worker-";

    name[7] = (char)('0' + w->o.index / 10 % 10);
    name[8] = (char)('0' + w->o.index % 10);
    (void)pthread_setname_np(pthread_self(), name);
    loop_run(w->proxy.loop);
    mailbox_post_mt(w->o.main, w->o.stopped);
    return NULL;
}

static bool make_parts(struct worker *w, struct err *err)
{
    const struct config *c = w->o.config;
    struct server_options so = {.listen_fd = w->o.listen_fd,
                                .tls_cert = c->tls_cert,
                                .tls_key = c->tls_key,
                                .max_connections = c->http.max_connections / c->workers + 1,
                                .max_connections_per_ip = c->http.max_connections_per_ip,
                                .max_body = c->http.max_body,
                                .header_time_us = c->http.header_time_us,
                                .body_time_us = c->http.body_time_us,
                                .keepalive_us = c->http.keepalive_us,
                                .write_stall_us = c->http.write_stall_us,
                                .handler = &HANDLER,
                                .user = w};

    w->proxy.loop = loop_new(err);
    w->mailbox = w->proxy.loop ? mailbox_new(w->proxy.loop, err) : NULL;
    w->proxy.mailbox = w->mailbox;
    w->proxy.client = w->mailbox ? client_new(w->proxy.loop, w->mailbox, c->upstream_ca_file, err) : NULL;
    w->proxy.facts = w->proxy.client ? facts_new(err) : NULL;
    w->server = w->proxy.facts ? server_new(w->proxy.loop, &so, err) : NULL;
    return w->server != NULL;
}

struct worker *worker_new(const struct worker_options *o, struct err *err)
{
    struct worker *w = calloc(1, sizeof(*w));

    if (!w) {
        (void)err_set(err, ERR_NO_MEMORY, "worker: out of memory");
        return NULL;
    }
    w->o = *o;
    w->proxy.config = config_ref(o->config);
    w->proxy.journal = o->journal;
    w->proxy.breakers = o->breakers;
    w->proxy.queues = o->queues;
    w->proxy.loads = o->loads;
    w->proxy.tracker = o->tracker;
    w->proxy.overload = o->overload;
    w->proxy.limits = o->limits;
    retry_budget_init(&w->proxy.retry_budget);
    w->unmatched = intern_z("__unmatched__");
    w->other_method = intern_z("other");
    w->grace.fn = on_grace_over;
    w->hook.fn = on_turn_end;
    if (!make_parts(w, err)) {
        worker_free(w);
        return NULL;
    }
    loop_add_hook(w->proxy.loop, &w->hook);
    statement_watch(&w->proxy);
    return w;
}

enum err_code worker_start(struct worker *w, struct err *err)
{
    int rc = pthread_create(&w->thread, NULL, run, w);

    if (rc)
        return err_set(err, ERR_IO, "worker thread: %s", strerror(rc));
    w->is_started = true;
    return ERR_OK;
}

void worker_join(struct worker *w)
{
    if (w->is_started)
        (void)pthread_join(w->thread, NULL);
    w->is_started = false;
    if (w->proxy.facts)
        facts_leave(w->proxy.facts); /* what is still open ends on the caller's thread */
}

void worker_free(struct worker *w)
{
    if (!w)
        return;
    worker_join(w);
    server_free(w->server);
    w->server = NULL;
    client_free(w->proxy.client);
    if (w->proxy.loop)
        statement_unwatch(&w->proxy);
    mailbox_free(w->mailbox);
    facts_free(w->proxy.facts);
    loop_free(w->proxy.loop);
    config_unref(w->proxy.config);
    free(w);
}

struct worker_stats worker_stats_mt(const struct worker *w)
{
    return (struct worker_stats){.loop = loop_stats_mt(w->proxy.loop), .server = server_stats_mt(w->server)};
}

struct facts *worker_facts_mt(const struct worker *w)
{
    return w->proxy.facts;
}
