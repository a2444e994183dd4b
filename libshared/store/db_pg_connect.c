/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to PostgreSQL under a deadline. Runs on the handle's thread, but for look_up(), which has a thread of its
 * own because the system's resolver takes as long as it likes. `struct lookup` is held by both sides; the last one frees
 * it. A handle has at most one such thread.
 *
 * libpq never gets a name to resolve: it is given `hostaddr` (or a socket's folder), one target at a time, so that a
 * silent host cannot eat the time of those behind it. */
#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "libshared/base/id.h"
#include "libshared/store/db_pg_priv.h"

#define TARGETS_MAX   16
#define ADDRESSES_MAX 8
#define HOST_CAP      256
#define ADDRESS_CAP   64
#define PORT_CAP      8
#define PARAMS_MAX    64
#define BACKOFF_US    ((int64_t)100 * 1000)
#define BACKOFF_MAX   ((int64_t)5 * 1000 * 1000)

struct target {
    char host[HOST_CAP], address[ADDRESS_CAP], port[PORT_CAP]; /* "": libpq's default */
};
struct targets {
    struct target at[TARGETS_MAX];
    unsigned n;
};

/* ---- names ---- */

struct lookup {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    unsigned refs; /* as all below under the mutex */
    bool is_done;
    int failure; /* of getaddrinfo */
    unsigned n;
    char address[ADDRESSES_MAX][ADDRESS_CAP];
    char name[HOST_CAP]; /* fixed from the start */
};

void pg_lookup_unref(struct lookup *l)
{
    bool is_last;

    if (!l)
        return;
    (void)pthread_mutex_lock(&l->mutex);
    is_last = --l->refs == 0;
    (void)pthread_mutex_unlock(&l->mutex);
    if (!is_last)
        return;
    (void)pthread_cond_destroy(&l->cond);
    (void)pthread_mutex_destroy(&l->mutex);
    free(l);
}

static void *look_up(void *user)
{
    struct lookup *l = user;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *list = NULL;
    int rc = getaddrinfo(l->name, NULL, &hints, &list);

    (void)pthread_mutex_lock(&l->mutex);
    l->failure = rc;
    for (struct addrinfo *a = rc == 0 ? list : NULL; a && l->n < ADDRESSES_MAX; a = a->ai_next)
        if (getnameinfo(a->ai_addr, a->ai_addrlen, l->address[l->n], ADDRESS_CAP, NULL, 0, NI_NUMERICHOST) ==
            0)
            l->n++;
    l->is_done = true;
    (void)pthread_cond_signal(&l->cond);
    (void)pthread_mutex_unlock(&l->mutex);
    if (rc == 0)
        freeaddrinfo(list);
    pg_lookup_unref(l);
    return NULL;
}

static struct lookup *lookup_new(const char *name)
{
    struct lookup *l = calloc(1, sizeof(*l));
    pthread_condattr_t attr;
    sigset_t all, old;
    pthread_t thread;
    int rc;

    if (!l)
        return NULL;
    (void)pthread_mutex_init(&l->mutex, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&l->cond, &attr);
    (void)pthread_condattr_destroy(&attr);
    (void)span_copy(l->name, sizeof(l->name), span_of(name));
    l->refs = 2;
    (void)sigfillset(&all); /* signals are for the threads that expect them */
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&thread, NULL, look_up, l);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0) {
        (void)pthread_detach(thread);
        return l;
    }
    l->refs = 1;
    pg_lookup_unref(l);
    return NULL;
}

static bool lookup_wait(struct lookup *l, struct mono deadline)
{
    struct timespec until = {.tv_sec = deadline.us / 1000000, .tv_nsec = deadline.us % 1000000 * 1000};
    bool is_done;

    (void)pthread_mutex_lock(&l->mutex);
    while (!l->is_done && mono_diff_us(deadline, mono_now()) > 0)
        (void)pthread_cond_timedwait(&l->cond, &l->mutex, &until);
    is_done = l->is_done;
    (void)pthread_mutex_unlock(&l->mutex);
    return is_done;
}

static void add_target(struct targets *t, const char *host, const char *address, const char *port)
{
    struct target *one = &t->at[t->n];

    if (t->n == TARGETS_MAX)
        return;
    (void)span_copy(one->host, sizeof(one->host), span_of(host));
    (void)span_copy(one->address, sizeof(one->address), span_of(address));
    (void)span_copy(one->port, sizeof(one->port), span_of(port));
    t->n++;
}

/* A lookup that outlives its call is asked again by the next one, instead of starting a second thread. */
static enum err_code add_resolved(struct db_postgres *p, struct targets *t, const char *host,
                                  const char *port, struct mono deadline, struct err *err)
{
    struct lookup *l = p->lookup;
    enum err_code rc = ERR_OK;

    if (l && strcmp(l->name, host) != 0) {
        pg_lookup_unref(l);
        l = NULL;
    }
    p->lookup = l ? l : (l = lookup_new(host));
    if (!l)
        return err_set(err, ERR_NO_MEMORY, "no thread to resolve '%s' with", host);
    if (!lookup_wait(l, deadline))
        return err_set(err, ERR_TIMEOUT, "the name '%s' was not resolved in time", host);
    if (!l->n)
        rc = err_set(err, ERR_IO, "the name '%s' was not resolved: %s", host,
                     l->failure ? gai_strerror(l->failure) : "no address");
    for (unsigned i = 0; i < l->n; i++)
        add_target(t, host, l->address[i], port);
    p->lookup = NULL;
    pg_lookup_unref(l);
    return rc;
}

static bool is_address(const char *host)
{
    unsigned char b[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, host, b) == 1 || inet_pton(AF_INET6, host, b) == 1;
}

/* ---- targets ---- */

const char *pg_option(const PQconninfoOption *options, const char *keyword)
{
    for (const PQconninfoOption *o = options; o->keyword; o++)
        if (strcmp(o->keyword, keyword) == 0)
            return o->val && *o->val ? o->val : NULL;
    return NULL;
}

static const char *option_or_env(const struct db_postgres *p, const char *keyword, const char *env)
{
    const char *v = pg_option(p->options, keyword);

    return v ? v : getenv(env) ? getenv(env) : "";
}

/* Element of a list of which a single one stands for all. */
static void take_next(struct span *list, char *out, size_t cap)
{
    struct span one = list->p && memchr(list->p, ',', list->len) ? span_split(list, ',') : *list;

    (void)span_copy(out, cap, one);
}

static enum err_code find_targets(struct db_postgres *p, struct targets *t, struct mono deadline,
                                  struct err *err)
{
    const char *address = option_or_env(p, "hostaddr", "PGHOSTADDR");
    struct span hosts = span_of(*address ? address : option_or_env(p, "host", "PGHOST"));
    struct span names = span_of(option_or_env(p, "host", "PGHOST")); /* of the addresses, for TLS */
    struct span ports = span_of(option_or_env(p, "port", "PGPORT"));
    enum err_code rc = ERR_OK;
    bool is_more;

    do {
        char host[HOST_CAP], name[HOST_CAP], port[PORT_CAP];

        is_more = hosts.p && memchr(hosts.p, ',', hosts.len);
        take_next(&hosts, host, sizeof(host));
        take_next(&names, name, sizeof(name));
        take_next(&ports, port, sizeof(port));
        if (!host[0] || host[0] == '/' || host[0] == '@')
            add_target(t, host, "", port);
        else if (is_address(host))
            add_target(t, name, host, port);
        else
            rc = add_resolved(p, t, host, port, deadline, err);
    } while (is_more && rc != ERR_TIMEOUT);
    return t->n ? ERR_OK : rc != ERR_OK ? rc : err_set(err, ERR_CONFIG, "the database URL names no host");
}

/* ---- connecting ---- */

bool pg_wait(PGconn *conn, short events, struct mono deadline)
{
    struct pollfd fd = {.fd = PQsocket(conn), .events = events};

    for (;;) {
        int64_t left_us = mono_diff_us(deadline, mono_now());

        if (left_us <= 0)
            return false;
        if (fd.fd < 0 || poll(&fd, 1, (int)(left_us / 1000) + 1) > 0)
            return true; /* libpq says what is wrong */
    }
}

struct params {
    const char *keys[PARAMS_MAX + 1], *values[PARAMS_MAX + 1];
    unsigned n;
};

static void add_param(struct params *ps, const char *key, const char *value)
{
    if (ps->n == PARAMS_MAX || !value || !*value)
        return;
    ps->keys[ps->n] = key;
    ps->values[ps->n++] = value;
}

static PGconn *start(const struct db_postgres *p, const struct target *t)
{
    struct params ps = {.n = 0};

    for (const PQconninfoOption *o = p->options; o->keyword; o++)
        if (strcmp(o->keyword, "host") != 0 && strcmp(o->keyword, "hostaddr") != 0 &&
            strcmp(o->keyword, "port") != 0 && strcmp(o->keyword, "client_encoding") != 0)
            add_param(&ps, o->keyword, o->val);
    add_param(&ps, "host", t->host);
    add_param(&ps, "hostaddr", t->address);
    add_param(&ps, "port", t->port);
    add_param(&ps, "client_encoding", "UTF8");
    if (!pg_option(p->options, "application_name"))
        add_param(&ps, "application_name", "gatewayd");
    if (!pg_option(p->options, "gssencmode"))
        add_param(&ps, "gssencmode", "disable"); /* may wait for a Kerberos server without a deadline */
    return PQconnectStartParams(ps.keys, ps.values, 0);
}

static enum err_code refuse(PGconn *conn, const struct target *t, struct err *err)
{
    const char *m = conn ? PQerrorMessage(conn) : "memory is exhausted\n";
    struct span line = db_first_line(m);
    const char *where = t->address[0] ? t->address : t->host[0] ? t->host : "the local socket";

    /* Only a server says "FATAL": it is there, and does not want us now. */
    return err_set(err, strstr(m, "FATAL") ? ERR_UNAVAILABLE : ERR_IO,
                   "no connection to the database at '%s': %.*s", where, (int)line.len, line.p);
}

static enum err_code handshake(struct db_postgres *p, PGconn *conn, const struct target *t,
                               struct mono deadline, struct err *err)
{
    PostgresPollingStatusType s = PGRES_POLLING_WRITING;

    if (!conn || PQstatus(conn) == CONNECTION_BAD)
        return refuse(conn, t, err);
    (void)PQsetNoticeReceiver(conn, pg_notice, p); /* a server that ends now says so in the middle of it */
    while (s != PGRES_POLLING_OK) {
        if (s == PGRES_POLLING_FAILED)
            return refuse(conn, t, err);
        if (!pg_wait(conn, s == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline))
            return err_set(err, ERR_TIMEOUT, "the database at '%s' did not answer in time",
                           t->address[0] ? t->address : t->host);
        s = PQconnectPoll(conn);
    }
    (void)PQsetnonblocking(conn, 1);
    return ERR_OK;
}

/* statement_timeout is a little shorter than our own deadline: a server that lives ends the statement by itself, and the
 * connection stays good. */
static enum err_code set_session(struct db_postgres *p, struct mono deadline, struct err *err)
{
    struct db_statement q = {.label = "session", .deadline = deadline};
    struct buf sql AUTO(buf_release) = {0};

    buf_addf(&sql,
             "SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET standard_conforming_strings = on;"
             " SET bytea_output = 'hex'; SET extra_float_digits = 3; SET statement_timeout = %lld",
             (long long)(p->db.deadline_us * 9 / 10 / 1000 + 1));
    if (p->db.is_read_only)
        buf_addz(&sql, "; SET default_transaction_read_only = on");
    if (!PQsendQuery(p->conn, sql.p))
        return err_set(err, ERR_IO, "no connection to the database");
    return pg_finish(p, &q, err);
}

static enum err_code try_targets(struct db_postgres *p, const struct targets *t, struct mono deadline,
                                 struct err *err)
{
    enum err_code rc = ERR_IO;

    for (unsigned i = 0; i < t->n && !p->conn; i++) {
        struct mono now = mono_now();
        int64_t share_us = mono_diff_us(deadline, now) / (int64_t)(t->n - i);
        PGconn *conn = start(p, &t->at[i]);

        rc = handshake(p, conn, &t->at[i], mono_add_us(now, share_us), err);
        if (rc == ERR_OK)
            p->conn = conn;
        else
            PQfinish(conn);
    }
    return p->conn ? set_session(p, deadline, err) : rc;
}

/* Half of the delay is fixed, half random, so that a fleet does not return at once. */
static void back_off(struct db_postgres *p, const struct err *why)
{
    unsigned shift = p->failures < 6 ? p->failures : 6;
    int64_t delay_us = BACKOFF_US << shift;
    uint64_t random;

    random_bytes(&random, sizeof(random));
    delay_us = delay_us > BACKOFF_MAX ? BACKOFF_MAX : delay_us;
    delay_us = delay_us / 2 + (int64_t)(random % (uint64_t)(delay_us / 2));
    p->failures++;
    p->retry_at = mono_add_us(mono_now(), delay_us);
    (void)span_copy(p->failed, sizeof(p->failed), span_of(why->text));
}

enum err_code pg_connect(struct db_postgres *p, struct mono deadline, struct err *err)
{
    struct targets t = {.n = 0};
    struct err why = {0};
    enum err_code rc;

    if (p->failures && mono_diff_us(p->retry_at, mono_now()) > 0)
        return err_set(err, ERR_UNAVAILABLE, "not connected, trying again soon: %s", p->failed);
    rc = find_targets(p, &t, deadline, &why);
    if (rc == ERR_OK)
        rc = try_targets(p, &t, deadline, &why);
    if (rc != ERR_OK) {
        pg_close(p);
        back_off(p, &why);
        return err_set(err, rc, "%s", why.text);
    }
    if (p->was_connected)
        db_bump(&p->db.stats.reconnects);
    p->was_connected = true;
    p->failures = 0;
    return ERR_OK;
}

/* ---- for people ---- */

char *pg_where(const PQconninfoOption *options)
{
    const char *user = pg_option(options, "user"), *host = pg_option(options, "host");
    const char *port = pg_option(options, "port"), *name = pg_option(options, "dbname");
    struct buf b = {0};

    if (!host)
        host = pg_option(options, "hostaddr");
    buf_addf(&b, "postgresql://%s%s%s%s%s/%s", user ? user : "", user ? "@" : "", host ? host : "",
             port ? ":" : "", port ? port : "", name ? name : "");
    return b.p;
}
