/* SPDX-License-Identifier: Apache-2.0 */
/* A non-blocking socket, poll() with what is left of the deadline, and hiredis's reader. One thread owns a link.
 *
 * What the server sends is not trusted: a reply has a maximum of bytes and of array elements (hiredis allocates an
 * array's slots when it reads its length), hiredis itself limits the depth, and bytes that follow a reply unasked make the
 * link unusable before the next command. */
#include "libshared/store/redis_link.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "libshared/store/redis_resolve.h"

#define READ_BYTES 65536

/* ---- commands ---- */

void redis_command_init(struct redis_command *c)
{
    *c = (struct redis_command){0};
    buf_init(&c->args, REDIS_COMMAND_BYTES_MAX);
}

void redis_command_release(struct redis_command *c)
{
    if (c->args.p)
        explicit_bzero(c->args.p, c->args.len); /* it may hold a password */
    buf_release(&c->args);
}

void redis_command_clear(struct redis_command *c)
{
    buf_clear(&c->args);
    c->n = 0;
}

void redis_arg(struct redis_command *c, struct span s)
{
    buf_addc(&c->args, '$');
    buf_addu(&c->args, s.len);
    buf_add(&c->args, SPAN_LIT("\r\n"));
    buf_add(&c->args, s);
    buf_add(&c->args, SPAN_LIT("\r\n"));
    c->n++;
}

void redis_argz(struct redis_command *c, const char *z)
{
    redis_arg(c, span_of(z));
}

void redis_argi(struct redis_command *c, int64_t v)
{
    char text[24];

    redis_arg(c, span_make(text, (size_t)snprintf(text, sizeof(text), "%" PRId64, v)));
}

enum err_code redis_command_emit(const struct redis_command *c, struct buf *out)
{
    enum err_code e;

    if (c->args.len + 64 > REDIS_COMMAND_BYTES_MAX)
        return ERR_TOO_LARGE; /* an adder may have dropped a piece */
    e = buf_printf(out, "*%u\r\n", c->n);
    return e ? e : buf_append(out, c->args.p, c->args.len);
}

/* ---- replies ---- */

static redisReplyObjectFunctions functions, own_functions; /* hiredis's, and those with our limit */
static pthread_once_t functions_once = PTHREAD_ONCE_INIT;

#if HIREDIS_MAJOR >= 1
typedef size_t array_len;
#else
typedef int array_len;
#endif

/* `privdata` is the number of elements that the reply may still have. */
static void *create_array(const redisReadTask *task, array_len n)
{
    int64_t *left = task->privdata;

    if ((int64_t)n < 0 || (int64_t)n > *left)
        return NULL; /* the reader reports that it is out of memory */
    *left -= (int64_t)n;
    return functions.createArray(task, n);
}

static void learn_functions(void)
{
    redisReader *r = redisReaderCreate();

    if (!r)
        abort();
    functions = *r->fn;
    own_functions = functions;
    own_functions.createArray = create_array;
    redisReaderFree(r);
}

/* ---- the socket ---- */

void redis_link_init(struct redis_link *l)
{
    *l = (struct redis_link){.fd = -1};
}

void redis_link_close(struct redis_link *l)
{
    if (l->reader) {
        free(l->reader->privdata);
        redisReaderFree(l->reader);
    }
    if (l->fd >= 0)
        (void)close(l->fd);
    redis_link_init(l);
}

/* Waits for any of `events`. */
static enum err_code wait_for(int fd, short events, struct mono deadline, short *out, struct err *err)
{
    struct pollfd p = {.fd = fd, .events = events};

    for (;;) {
        int64_t left_us = mono_diff_us(deadline, mono_now());
        int rc;

        if (left_us <= 0)
            return err_set(err, ERR_TIMEOUT, "redis did not answer in time");
        rc = poll(&p, 1, (int)((left_us + 999) / 1000 > 60000 ? 60000 : (left_us + 999) / 1000));
        if (rc > 0) {
            *out = p.revents;
            return ERR_OK;
        }
        if (rc < 0 && errno != EINTR)
            return err_set(err, ERR_IO, "poll: %s", strerror(errno));
    }
}

static enum err_code finish_connect(int fd, struct mono deadline, struct err *err)
{
    socklen_t len = sizeof(int);
    int problem = 0;
    short got;
    enum err_code e = wait_for(fd, POLLOUT, deadline, &got, err);

    if (e == ERR_TIMEOUT)
        return err_set(err, ERR_TIMEOUT, "no connection in time");
    if (e)
        return e;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &len) != 0)
        problem = errno;
    return problem ? err_set(err, ERR_UNAVAILABLE, "%s", strerror(problem)) : ERR_OK;
}

static enum err_code connect_to(struct redis_link *l, const struct sockaddr *a, socklen_t len,
                                struct mono deadline, struct err *err)
{
    int one = 1, fd = socket(a->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    enum err_code e = ERR_OK;

    if (fd < 0)
        return err_set(err, ERR_UNAVAILABLE, "socket: %s", strerror(errno));
    if (a->sa_family != AF_UNIX) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    }
    if (connect(fd, a, len) != 0)
        e = errno == EINPROGRESS || errno == EINTR
                ? finish_connect(fd, deadline, err)
                : err_set(err, ERR_UNAVAILABLE, "%s", strerror(errno)); /* EAGAIN: a full unix backlog */
    if (e)
        (void)close(fd);
    else
        l->fd = fd;
    return e;
}

static enum err_code connect_unix(struct redis_link *l, const char *path, struct mono deadline,
                                  struct err *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    (void)span_copy(a.sun_path, sizeof(a.sun_path), span_of(path));
    return connect_to(l, (const struct sockaddr *)&a, sizeof(a), deadline, err);
}

/* Of several addresses each gets its share of the time. */
static enum err_code connect_tcp(struct redis_link *l, const struct redis_endpoint *to, struct mono deadline,
                                 struct err *err)
{
    struct addrinfo *all;
    unsigned left = 0;
    enum err_code e = redis_resolve(to->host, to->port, deadline, &all, err);

    if (e)
        return e;
    for (const struct addrinfo *a = all; a; a = a->ai_next)
        left++;
    e = err_set(err, ERR_UNAVAILABLE, "no address");
    for (const struct addrinfo *a = all; a && e; a = a->ai_next) {
        int64_t share = mono_diff_us(deadline, mono_now()) / left--;

        e = connect_to(l, a->ai_addr, a->ai_addrlen, mono_add_us(mono_now(), share), err);
    }
    freeaddrinfo(all);
    return e;
}

enum err_code redis_link_open(struct redis_link *l, const struct redis_endpoint *to, struct mono deadline,
                              struct err *err)
{
    char text[320];
    enum err_code e;

    redis_link_close(l);
    e = to->path[0] ? connect_unix(l, to->path, deadline, err) : connect_tcp(l, to, deadline, err);
    if (e) {
        redis_endpoint_text(to, text, sizeof(text));
        (void)err_prefix(err, "'%.200s'", text);
        return e;
    }
    (void)pthread_once(&functions_once, learn_functions);
    l->reader = redisReaderCreateWithFunctions(&own_functions);
    if (!l->reader || !(l->reader->privdata = calloc(1, sizeof(int64_t))))
        abort();
    l->in_reply = 0;
    return ERR_OK;
}

bool redis_link_is_fresh(const struct redis_link *l)
{
    struct pollfd p = {.fd = l->fd, .events = POLLIN};

    return l->fd >= 0 && l->reader->pos == l->reader->len && poll(&p, 1, 0) == 0;
}

/* Takes in what has come; ERR_OK also when nothing has. */
static enum err_code take_in(struct redis_link *l, struct err *err)
{
    char block[READ_BYTES];
    ssize_t n = recv(l->fd, block, sizeof(block), 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return ERR_OK;
    if (n <= 0)
        return err_set(err, ERR_IO, "redis closed the connection%s%s", n ? ": " : "",
                       n ? strerror(errno) : "");
    l->in_reply += (size_t)n;
    if (l->in_reply > REDIS_REPLY_BYTES_MAX)
        return err_set(err, ERR_IO, "redis sent more than %zu MiB in one reply", REDIS_REPLY_BYTES_MAX >> 20);
    if (redisReaderFeed(l->reader, block, (size_t)n) != REDIS_OK)
        return err_set(err, ERR_IO, "redis sent what is no reply");
    return ERR_OK;
}

enum err_code redis_link_send(struct redis_link *l, struct span bytes, struct mono deadline, struct err *err)
{
    if (!redis_link_is_fresh(l)) /* what comes next would be taken for this command's reply */
        return err_set(err, ERR_IO, "redis closed the connection or sent what was not asked for");
    while (bytes.len) {
        ssize_t n = send(l->fd, bytes.p, bytes.len, MSG_NOSIGNAL);
        enum err_code e = ERR_OK;
        short got = 0;

        if (n > 0) {
            bytes = span_make(bytes.p + n, bytes.len - (size_t)n);
            continue;
        }
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return err_set(err, ERR_IO, "redis closed the connection: %s", strerror(errno));
        /* Answers to what was sent already are taken in, or both sides would wait for each other. */
        e = wait_for(l->fd, POLLIN | POLLOUT, deadline, &got, err);
        if (!e && got & (POLLIN | POLLHUP | POLLERR))
            e = take_in(l, err);
        if (e)
            return e;
    }
    return ERR_OK;
}

enum err_code redis_link_receive(struct redis_link *l, struct mono deadline, redisReply **out,
                                 struct err *err)
{
    void *reply = NULL;
    short got;

    *(int64_t *)l->reader->privdata = REDIS_REPLY_ELEMENTS_MAX;
    for (;;) {
        enum err_code e;

        if (redisReaderGetReply(l->reader, &reply) != REDIS_OK)
            return err_set(err, ERR_IO, "redis sent what is no reply, or one that is too large");
        if (reply) {
            l->in_reply = l->reader->len - l->reader->pos;
            *out = reply;
            return ERR_OK;
        }
        e = wait_for(l->fd, POLLIN, deadline, &got, err);
        if (!e)
            e = take_in(l, err);
        if (e)
            return e;
    }
}
