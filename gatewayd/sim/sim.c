/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator's process: listen, say so, serve until told to stop. */
#include "gatewayd/sim/sim.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gatewayd/sim/sim_server.h"
#include "libshared/base/log.h"

#define BACKLOG 4096

/* "127.0.0.1:0", "[::1]:9100", ":9100". */
static enum err_code resolve(const char *listen_on, struct addrinfo **out, struct err *err)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                   .ai_socktype = SOCK_STREAM};
    const char *colon = strrchr(listen_on, ':');
    char host[64];
    struct span h;

    if (!colon)
        return err_set(err, ERR_CONFIG, "'%s' is not ADDRESS:PORT", listen_on);
    h = span_make(listen_on, (size_t)(colon - listen_on));
    if (h.len >= 2 && h.p[0] == '[' && h.p[h.len - 1] == ']')
        h = span_make(h.p + 1, h.len - 2);
    (void)span_copy(host, sizeof(host), h);
    if (getaddrinfo(host[0] ? host : NULL, colon + 1, &hints, out))
        return err_set(err, ERR_CONFIG, "'%s' is not a numeric ADDRESS:PORT", listen_on);
    return ERR_OK;
}

static enum err_code open_listener(struct sim_server *sv, const char *listen_on, struct err *err)
{
    struct addrinfo *ai = NULL;
    const int one = 1;
    int fd;
    enum err_code e = resolve(listen_on, &ai, err);

    if (e)
        return e;
    fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* Accepted sockets inherit TCP_NODELAY. */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
        bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
        e = err_set(err, ERR_IO, "listening on '%s': %s", listen_on, strerror(errno));
    freeaddrinfo(ai);
    sv->listener = (struct loop_watch){.fd = fd, .fn = sim_conn_accept};
    if (!e)
        e = loop_watch(sv->loop, &sv->listener, EPOLLIN);
    return e;
}

static enum err_code address_of(int fd, char *dst, size_t cap, struct err *err)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    char host[64], port[16];

    if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0 ||
        getnameinfo((struct sockaddr *)&sa, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV))
        return err_set(err, ERR_IO, "the listener's address: %s", strerror(errno));
    (void)snprintf(dst, cap, sa.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    return ERR_OK;
}

/* Whoever waits for the file sees all of it or none. */
static enum err_code write_ready(const char *path, const char *address, struct err *err)
{
    struct buf tmp AUTO(buf_release) = {0}, text AUTO(buf_release) = {0};
    int fd;
    bool ok;

    buf_addf(&tmp, "%s.%ld", path, (long)getpid());
    buf_addf(&text, "{\"listen\":\"%s\",\"pid\":%ld}\n", address, (long)getpid());
    fd = open(tmp.p, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ok = fd >= 0 && write(fd, text.p, text.len) == (ssize_t)text.len;
    if (fd >= 0)
        ok = close(fd) == 0 && ok;
    if (ok && rename(tmp.p, path) == 0)
        return ERR_OK;
    return err_set(err, ERR_IO, "ready file '%s': %s", path, strerror(errno));
}

static void on_signal(struct loop_watch *w, uint32_t events)
{
    struct sim_server *sv = CONTAINER_OF(w, struct sim_server, signals);

    (void)events;
    loop_stop(sv->loop);
}

static enum err_code watch_signals(struct sim_server *sv)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    sv->signals = (struct loop_watch){.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .fn = on_signal};
    return sv->signals.fd < 0 ? ERR_IO : loop_watch(sv->loop, &sv->signals, EPOLLIN);
}

static bool on_turn_end(struct loop_hook *h)
{
    sim_truth_flush(CONTAINER_OF(h, struct sim_server, turn_end)->truth);
    return false;
}

static void allow_many_files(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
}

static enum err_code start(struct sim_server *sv, const struct sim_options *o, struct err *err)
{
    char address[96];
    enum err_code e;

    allow_many_files();
    if (o->ready_file)
        (void)unlink(o->ready_file); /* of an earlier run */
    sv->listener.fd = sv->signals.fd = -1;
    sv->seed = o->seed;
    sv->in = malloc(SIM_READ_BYTES);
    sv->profiles = sim_profiles_new();
    buf_init(&sv->out, SIM_OUT_MAX);
    buf_init(&sv->frame, SIM_OUT_MAX);
    sv->truth = sim_truth_new(o->truth_log, err);
    sv->loop = loop_new(err);
    if (!sv->in || !sv->profiles || !sv->truth || !sv->loop)
        return ERR_IO;
    sv->turn_end.fn = on_turn_end;
    loop_add_hook(sv->loop, &sv->turn_end);
    e = watch_signals(sv);
    if (!e)
        e = open_listener(sv, o->listen, err);
    if (!e)
        e = address_of(sv->listener.fd, address, sizeof(address), err);
    if (!e && o->ready_file)
        e = write_ready(o->ready_file, address, err);
    if (!e)
        log_info("simulated provider on http://%s, seed %llu", address, o->seed);
    return e;
}

static void stop(struct sim_server *sv)
{
    for (struct sim_conn *c = sv->conns; c; c = c->next) {
        sim_play_stop(c);
        sim_conn_close(c);
    }
    if (sv->loop)
        loop_turn(sv->loop, 0); /* buries the connections */
    if (sv->listener.fd >= 0)
        (void)close(sv->listener.fd);
    if (sv->signals.fd >= 0)
        (void)close(sv->signals.fd);
    sim_truth_free(sv->truth);
    sim_profiles_free(sv->profiles);
    loop_free(sv->loop);
    buf_release(&sv->out);
    buf_release(&sv->frame);
    free(sv->in);
}

int sim_main(const struct sim_options *o)
{
    static struct sim_server sv;
    struct err err = {0};
    enum err_code e = start(&sv, o, &err);

    if (e)
        log_error("simulator: %s", err.code ? err_text(&err) : err_row(e)->text);
    else
        loop_run(sv.loop);
    stop(&sv);
    return e ? EXIT_FAILURE : EXIT_SUCCESS;
}
