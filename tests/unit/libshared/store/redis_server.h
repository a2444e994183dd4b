/* SPDX-License-Identifier: Apache-2.0 */
/* A real redis-server for a test: on a unix socket in a directory of its own, stopped by its pid. */
#ifndef TESTS_REDIS_SERVER_H
#define TESTS_REDIS_SERVER_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/absent.h"

/* Also where assert() is compiled away: what it holds has to be done. */
#define must(x)                                                                                              \
    do {                                                                                                     \
        if (!(x))                                                                                            \
            abort();                                                                                         \
    } while (0)

struct redis_server {
    char dir[64], socket[96], url[128];
    pid_t pid;
};

/* False, having said so, where it is not; in CI it has to be. */
static inline bool redis_server_is_installed(void)
{
    const char *path = getenv("PATH");
    char rest[4096], file[4200];

    (void)snprintf(rest, sizeof(rest), "%s", path ? path : "");
    for (char *save = NULL, *dir = strtok_r(rest, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
        (void)snprintf(file, sizeof(file), "%s/redis-server", dir);
        if (access(file, X_OK) == 0)
            return true;
    }
    left_out("all tests on Redis", "there is no redis-server in the path");
    return false;
}

static inline int redis_server_connect(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    if (connect(fd, (const struct sockaddr *)&a, sizeof(a)) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

/* Starts it (again); `more` are further options, NULL at the end. */
static inline void redis_server_start(struct redis_server *s, const char *const *more)
{
    const char *args[32] = {"redis-server", "--port",       "0", "--unixsocket", s->socket, "--dir",
                            s->dir,         "--save",       "",  "--daemonize",  "no",      "--logfile",
                            "log",          "--appendonly", "no"};
    unsigned n = 15;

    if (!s->dir[0]) {
        (void)snprintf(s->dir, sizeof(s->dir), "/tmp/kv-test-XXXXXX");
        must(mkdtemp(s->dir));
        (void)snprintf(s->socket, sizeof(s->socket), "%s/s", s->dir);
        (void)snprintf(s->url, sizeof(s->url), "unix://%s", s->socket);
    }
    for (; more && *more; more++)
        args[n++] = *more;
    s->pid = fork();
    if (s->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)execvp(args[0], (char *const *)args);
        _exit(127);
    }
    for (int i = 0; i < 2000; i++) {
        int fd = redis_server_connect(s->socket);

        if (fd >= 0) {
            (void)close(fd);
            return;
        }
        must(waitpid(s->pid, NULL, WNOHANG) == 0);
        usleep(5000);
    }
    abort(); /* it did not start */
}

static inline void redis_server_kill(struct redis_server *s)
{
    if (s->pid <= 0)
        return;
    (void)kill(s->pid, SIGKILL);
    (void)waitpid(s->pid, NULL, 0);
    s->pid = 0;
}

static inline void redis_server_end(struct redis_server *s)
{
    char file[128];

    redis_server_kill(s);
    if (!s->dir[0])
        return;
    (void)unlink(s->socket);
    (void)snprintf(file, sizeof(file), "%s/log", s->dir);
    (void)unlink(file);
    (void)rmdir(s->dir);
    s->dir[0] = '\0';
}

/* One inline command; its whole answer as text, as far as it comes within a moment of silence. */
static inline void redis_server_ask(const struct redis_server *s, const char *line, char *out, size_t cap)
{
    struct timeval quiet = {.tv_usec = 150000};
    int fd = redis_server_connect(s->socket);
    size_t n = 0;
    ssize_t got;

    must(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &quiet, sizeof(quiet));
    must(send(fd, line, strlen(line), MSG_NOSIGNAL) == (ssize_t)strlen(line));
    must(send(fd, "\r\n", 2, MSG_NOSIGNAL) == 2);
    while (n + 1 < cap && (got = recv(fd, out + n, cap - n - 1, 0)) > 0)
        n += (size_t)got;
    out[n] = '\0';
    (void)close(fd);
}

#endif
