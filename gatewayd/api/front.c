/* SPDX-License-Identifier: Apache-2.0 */
/* A job carries one request to the api thread and its reply home. It outlives the exchange: when the exchange ends
 * first (on its own thread), the job forgets it. The exchange is touched on its own thread only. */
#include "gatewayd/api/front.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gatewayd/api/store_thread.h"
#include "gatewayd/directory/directory.h"
#include "gatewayd/gateway.h"
#include "gatewayd/http/listen.h"
#include "gatewayd/http/reply.h"
#include "libshared/base/log.h"

#define DIRECTORY_QUEUE_MAX 64u /* each takes a few milliseconds */
#define BOOKS_QUEUE_MAX     8u
#define READING_QUEUE_MAX   64u      /* dashboards ask for many at once */
#define STORE_WAIT_US       10000000 /* a client that waits longer in the queue is told to come again */

struct api_front {
    struct gateway *gw;
    struct loop *loop;
    struct mailbox *mailbox;
    struct server *tcp, *unix_socket;
    struct facts *facts;
    uint16_t port;
    pthread_t thread;
    bool is_started;
    char *socket_path; /* owned; removed at the end */
    struct letter stop;
    struct store_thread *directory, *books, *reading;
};

struct job {
    struct letter letter;
    struct api_front *front;
    struct exchange *ex; /* NULL once it has ended */
    struct mailbox *home;
    struct facts *facts;
    const struct api_route *row;
    struct mono started;
    struct buf tail, path, query, accept, body;
    struct api_reply reply;
    bool is_away; /* with the thread that runs it */
    bool is_local;
};

static void job_free(struct job *j)
{
    buf_release(&j->tail);
    buf_release(&j->path);
    buf_release(&j->query);
    buf_release(&j->accept);
    buf_release(&j->body);
    buf_release(&j->reply.body);
    free(j);
}

static void refuse(struct job *j, struct exchange *ex, enum err_code code, const char *text);
static void answer(struct job *j, struct exchange *ex);

static void count(struct job *j, uint64_t bytes)
{
    facts_add_http(j->facts, intern_z(j->row->method), intern_z(j->row->path), (uint16_t)j->reply.status,
                   mono_diff_us(mono_now(), j->started), bytes);
}

static void come_home(struct letter *l)
{
    struct job *j = CONTAINER_OF(l, struct job, letter);

    j->is_away = false;
    count(j, j->reply.body.len);
    if (!j->ex) {
        job_free(j);
        return;
    }
    if (exchange_is_gone(j->ex)) {
        exchange_cut(j->ex);
        return;
    }
    exchange_set_header(j->ex, "content-type", span_of(j->reply.content_type));
    if (j->reply.status == 503)
        exchange_set_header(j->ex, "retry-after", SPAN_LIT("1"));
    exchange_reply_adopt(j->ex, j->reply.status, &j->reply.body);
}

static void run_handler(struct job *j)
{
    struct api_request rq = {.gw = j->front->gw,
                             .row = j->row,
                             .method = span_of(j->row->method),
                             .path = buf_span(&j->path),
                             .query = buf_span(&j->query),
                             .accept = buf_span(&j->accept),
                             .body = buf_span(&j->body),
                             .actor = j->is_local ? "socket" : "token",
                             .tail = buf_span(&j->tail)};

    j->row->handler(&rq, &j->reply);
}

static struct store_thread *store_of(const struct job *j)
{
    return j->row->thread == RUN_DIRECTORY ? j->front->directory
           : j->row->thread == RUN_BOOKS   ? j->front->books
           : j->row->thread == RUN_READING ? j->front->reading
                                           : NULL;
}

static void work(struct letter *l)
{
    struct job *j = CONTAINER_OF(l, struct job, letter);
    const struct store_thread *store = store_of(j);

    j->reply = (struct api_reply){.status = 200, .content_type = "application/json"};
    if (store && store_thread_is_over_mt(store))
        api_reply_error(&j->reply, ERR_DRAINING, "the gateway is shutting down");
    else if (store && mono_diff_us(mono_now(), j->started) > STORE_WAIT_US)
        api_reply_error(&j->reply, ERR_OVERLOADED, "the database is slow; nothing was done");
    else
        run_handler(j);
    j->letter.fn = come_home;
    mailbox_post_mt(j->home, &j->letter);
}

/* ---- the exchange's callbacks ------------------------------------------------------------------------------------ */

static void on_request(struct exchange *ex)
{
    struct job *j = exchange_user(ex);

    if (exchange_is_body_too_large(ex)) {
        refuse(j, ex, ERR_TOO_LARGE, "the body is too large for this path");
        return;
    }
    /* Probes and scrapers put what they like behind an open path. */
    if (j->row->scope >= SCOPE_MONITOR && !api_check_query(j->row, buf_span(&j->query), &j->reply)) {
        answer(j, ex);
        return;
    }
    buf_add(&j->body, exchange_body(ex));
    j->is_away = true;
    j->letter.fn = work;
    if (j->row->thread == RUN_API)
        mailbox_post_mt(j->front->mailbox, &j->letter);
    else if (!store_thread_post_mt(store_of(j), &j->letter)) {
        j->is_away = false;
        refuse(j, ex, ERR_OVERLOADED, "too many calls wait for the database; nothing was done");
    }
}

static void on_gone(struct exchange *ex)
{
    struct job *j = exchange_user(ex);

    if (!j->is_away)
        exchange_cut(ex);
}

static void on_end(struct exchange *ex)
{
    struct job *j = exchange_user(ex);

    j->ex = NULL;
    if (!j->is_away)
        job_free(j);
}

static const struct exchange_ops OPS = {.on_request = on_request, .on_gone = on_gone, .on_end = on_end};

/* ---- scope --------------------------------------------------------------------------------------------------------- */

static bool has_token(const struct exchange *ex, const struct config *c)
{
    struct span auth = exchange_header(ex, "authorization");

    if (!auth.p || !c->admin_token.len || !span_eq_nocase(span_split(&auth, ' '), SPAN_LIT("bearer")) ||
        !auth.p)
        return false;
    return secret_equal(&c->admin_token, span_trim(auth));
}

static bool may(const struct exchange *ex, const struct config *c, enum api_scope scope)
{
    if (scope == SCOPE_OPEN || exchange_is_local_peer(ex) || has_token(ex, c))
        return true;
    return scope == SCOPE_METRICS &&
           config_cidr_match(c->metrics.allow, c->metrics.n_allow, exchange_peer(ex));
}

/* With what is in j->reply, from the thread of the exchange. */
static void answer(struct job *j, struct exchange *ex)
{
    exchange_set_header(ex, "content-type", SPAN_LIT("application/json"));
    if (j->reply.status == 503)
        exchange_set_header(ex, "retry-after", SPAN_LIT("1"));
    count(j, j->reply.body.len);
    exchange_reply_adopt(ex, j->reply.status, &j->reply.body);
}

static void refuse(struct job *j, struct exchange *ex, enum err_code code, const char *text)
{
    reply_error_body(&j->reply.body, code, span_of(text));
    j->reply.status = err_row(code)->status;
    if (code == ERR_BAD_KEY)
        exchange_set_header(ex, "www-authenticate", SPAN_LIT("Bearer realm=\"gatewayd admin\""));
    answer(j, ex);
}

/* Whether the main listener serves the path with any method. */
static bool has_any(struct span path)
{
    struct buf allow AUTO(buf_release) = {.max = 64};

    api_allow(path, true, &allow);
    return allow.len > 0;
}

bool api_front_take(struct api_front *f, struct exchange *ex, struct mailbox *home, struct facts *facts,
                    const struct config *c, bool is_main, enum err_code *why)
{
    struct buf tail AUTO(buf_release) = {.max = 4096};
    struct span method = exchange_method(ex);
    const struct api_route *row =
        api_find(span_is(method, "HEAD") ? SPAN_LIT("GET") : method, exchange_path(ex), &tail, why);
    struct job *j;

    if (is_main && (row ? !row->on_main : !has_any(exchange_path(ex))))
        *why = ERR_NOT_FOUND; /* and nothing says that the admin listener has it */
    if (!row || (is_main && !row->on_main))
        return false;
    j = calloc(1, sizeof(*j));
    if (!j)
        abort();
    *j = (struct job){.front = f, .ex = ex, .home = home, .facts = facts, .row = row, .started = mono_now()};
    j->is_local = exchange_is_local_peer(ex);
    j->tail = tail;
    tail = (struct buf){0};
    buf_add(&j->path, exchange_path(ex));
    buf_add(&j->query, exchange_query(ex));
    buf_add(&j->accept, exchange_header(ex, "accept"));
    exchange_adopt(ex, &OPS, j);
    if (!may(ex, c, row->scope))
        refuse(j, ex, ERR_BAD_KEY,
               row->scope == SCOPE_METRICS
                   ? "send the admin token as 'Authorization: Bearer TOKEN', or add your network to "
                     "'metrics.allow'"
                   : "send the admin token as 'Authorization: Bearer TOKEN', or use the admin socket");
    return true;
}

/* ---- the admin listeners ------------------------------------------------------------------------------------------- */

static void set_allow(struct exchange *ex)
{
    struct buf allow AUTO(buf_release) = {.max = 64};

    api_allow(exchange_path(ex), false, &allow);
    exchange_set_header(ex, "allow", buf_span(&allow));
}

static void on_admin_head(struct exchange *ex, void *user)
{
    struct api_front *f = user;
    struct config *c = gateway_config_ref_mt(f->gw);
    struct buf body AUTO(buf_release) = {.max = 4096};
    enum err_code why;

    if (!api_front_take(f, ex, f->mailbox, f->facts, c, false, &why)) {
        reply_error_body(&body, why, span_of(err_row(why)->text));
        exchange_set_header(ex, "content-type", SPAN_LIT("application/json"));
        if (why == ERR_BAD_METHOD)
            set_allow(ex);
        exchange_reply_adopt(ex, err_row(why)->status, &body);
    }
    config_unref(c);
}

static const struct server_handler ADMIN_HANDLER = {.on_head = on_admin_head};

static struct server *listen_on(struct api_front *f, const struct config *c, int fd, bool is_unix,
                                struct err *err)
{
    struct server_options o = {.listen_fd = fd,
                               .is_unix = is_unix,
                               .max_connections = 256,
                               .max_body = 1 << 20,
                               .header_time_us = c->http.header_time_us,
                               .body_time_us = c->http.body_time_us,
                               .keepalive_us = c->http.keepalive_us,
                               .write_stall_us = c->http.write_stall_us,
                               .handler = &ADMIN_HANDLER,
                               .user = f};

    return fd >= 0 ? server_new(f->loop, &o, err) : NULL;
}

static void *run(void *arg)
{
    struct api_front *f = arg;

    (void)pthread_setname_np(pthread_self(), "api");
    loop_run(f->loop);
    return NULL;
}

static bool open_all(struct api_front *f, struct config *c, struct err *err)
{
    f->loop = loop_new(err);
    f->mailbox = f->loop ? mailbox_new(f->loop, err) : NULL;
    f->facts = f->mailbox ? facts_new(err) : NULL;
    if (!f->facts)
        return false;
    f->unix_socket = listen_on(f, c, listen_unix(c->admin_socket, err), true, err);
    if (!f->unix_socket)
        return false;
    f->socket_path = strdup(c->admin_socket);
    if (c->admin_listen.host[0]) {
        if (listen_check_free(&c->admin_listen, err) != ERR_OK)
            return false;
        f->tcp = listen_on(f, c, listen_tcp(&c->admin_listen, &f->port, err), false, err);
        if (!f->tcp)
            return false;
    }
    return true;
}

static int64_t tick_directory(void *user)
{
    return directory_tick(user);
}

static bool start_stores(struct api_front *f, struct err *err)
{
    struct store_thread_options o = {.name = "directory",
                                     .tick = tick_directory,
                                     .user = gateway_directory(f->gw),
                                     .max_queued = DIRECTORY_QUEUE_MAX};

    f->directory = store_thread_start(&o, err);
    o = (struct store_thread_options){.name = "api-books", .max_queued = BOOKS_QUEUE_MAX};
    f->books = f->directory ? store_thread_start(&o, err) : NULL;
    o = (struct store_thread_options){.name = "api-reading", .max_queued = READING_QUEUE_MAX};
    f->reading = f->books ? store_thread_start(&o, err) : NULL;
    return f->reading != NULL;
}

struct api_front *api_front_start(struct gateway *gw, struct config *c, struct err *err)
{
    struct api_front *f = calloc(1, sizeof(*f));

    if (!f)
        abort();
    f->gw = gw;
    if (!open_all(f, c, err) || !start_stores(f, err) || pthread_create(&f->thread, NULL, run, f) != 0) {
        api_front_stop(f);
        return NULL;
    }
    f->is_started = true;
    return f;
}

static void on_stop(struct letter *l)
{
    loop_stop(CONTAINER_OF(l, struct api_front, stop)->loop);
}

void api_front_stop(struct api_front *f)
{
    if (!f)
        return;
    if (f->is_started) {
        f->stop.fn = on_stop;
        mailbox_post_mt(f->mailbox, &f->stop);
        (void)pthread_join(f->thread, NULL);
        facts_leave(f->facts);
    }
    /* Nobody posts to them any more, and what they have still finds its way home. */
    store_thread_stop(f->reading);
    store_thread_stop(f->books);
    store_thread_stop(f->directory);
    mailbox_free(f->mailbox); /* opens what is left, so that every job comes home */
    server_free(f->tcp);
    server_free(f->unix_socket);
    if (f->socket_path)
        (void)unlink(f->socket_path);
    free(f->socket_path);
    facts_free(f->facts);
    loop_free(f->loop);
    free(f);
}

uint16_t api_front_port(const struct api_front *f)
{
    return f->port;
}
struct facts *api_front_facts_mt(const struct api_front *f)
{
    return f->facts;
}
