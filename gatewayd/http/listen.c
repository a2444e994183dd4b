/* SPDX-License-Identifier: Apache-2.0 */
/* Main thread, before the workers run; the caller owns the descriptors. A unix socket that a dead process left is taken over, one
 * that somebody answers on is not. */
#include "gatewayd/http/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct addrinfo *resolve(const struct config_address *a, struct err *err)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM},
                    *found = NULL;
    char port[8];
    int rc;

    (void)snprintf(port, sizeof(port), "%u", a->port);
    rc = getaddrinfo(a->host, port, &hints, &found);
    if (rc != 0)
        (void)err_set(err, ERR_CONFIG, "listen address '%s': %s", a->host, gai_strerror(rc));
    return rc == 0 ? found : NULL;
}

enum err_code listen_check_free(const struct config_address *a, struct err *err)
{
    struct addrinfo *at = a->port ? resolve(a, err) : NULL;
    enum err_code e = a->port && !at ? ERR_CONFIG : ERR_OK;
    int one = 1, fd = at ? socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;

    if (fd >= 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (bind(fd, at->ai_addr, at->ai_addrlen) < 0)
            e = err_set(err, ERR_IO, "listen on '%s:%u': %s", a->host, a->port, strerror(errno));
        (void)close(fd);
    }
    if (at)
        freeaddrinfo(at);
    return e;
}

int listen_tcp(const struct config_address *a, uint16_t *out_port, struct err *err)
{
    struct addrinfo *found = resolve(a, err);
    struct sockaddr_storage bound;
    socklen_t len = sizeof(bound);
    int one = 1, fd;

    if (!found)
        return -1;
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) < 0 ||
        bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, LIMIT_ACCEPT_BACKLOG) < 0 ||
        getsockname(fd, (struct sockaddr *)&bound, &len) < 0) {
        (void)err_set(err, ERR_IO, "listen on '%s:%u': %s", a->host, a->port, strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        freeaddrinfo(found);
        return -1;
    }
    freeaddrinfo(found);
    *out_port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                  : ((struct sockaddr_in *)&bound)->sin_port);
    return fd;
}

/* A socket that still answers belongs to another process, and what is no socket was not left by us. */
static enum err_code remove_left_over(const struct sockaddr_un *sun, struct err *err)
{
    struct stat st;
    int fd, rc, why;

    if (lstat(sun->sun_path, &st) < 0)
        return ERR_OK; /* if it is more than "not there", bind says so */
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, ERR_IO, "'%s' is in the way of the socket; it is no socket", sun->sun_path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    rc = fd < 0 ? -1 : connect(fd, (const struct sockaddr *)sun, sizeof(*sun));
    why = errno;
    if (fd >= 0)
        (void)close(fd);
    if (rc == 0 || why == EAGAIN)
        return err_set(err, ERR_CONFLICT, "another process listens on '%s'", sun->sun_path);
    (void)unlink(sun->sun_path);
    return ERR_OK;
}

int listen_unix(const char *path, struct err *err)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd;

    if (strlen(path) >= sizeof(sun.sun_path)) {
        (void)err_set(err, ERR_CONFIG,
                      "socket path '%s' is longer than %zu bytes; choose a shorter 'state_dir'", path,
                      sizeof(sun.sun_path) - 1);
        return -1;
    }
    (void)span_copy(sun.sun_path, sizeof(sun.sun_path), span_of(path));
    if (remove_left_over(&sun, err) != ERR_OK)
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 || chmod(path, 0660) < 0 ||
        listen(fd, LIMIT_ACCEPT_BACKLOG) < 0) {
        (void)err_set(err, ERR_IO, "listen on '%s': %s", path, strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        return -1;
    }
    return fd;
}
