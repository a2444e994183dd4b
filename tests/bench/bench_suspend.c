/* SPDX-License-Identifier: Apache-2.0 */
/* What does one resume cost while N other connections are suspended, with and without the library's eventfd?
 * Prints a table; docs/decisions.md quotes it. Needs about 2 N descriptors.
 *
 *   cc -O2 -D_GNU_SOURCE tests/bench/bench_suspend.c -lmicrohttpd -o bench_suspend && ./bench_suspend */
#include <arpa/inet.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WITHOUT_ITC 8192u
#define ROUNDS      2000

static struct MHD_Connection *first;
static unsigned suspended, calls;

static enum MHD_Result on_access(void *cls, struct MHD_Connection *c, const char *url, const char *method,
                                 const char *version, const char *data, size_t *len, void **seen)
{
    (void)cls, (void)url, (void)method, (void)version, (void)data, (void)len;
    if (!*seen) {
        *seen = c;
        return MHD_YES;
    }
    if (!first)
        first = c;
    suspended += *seen == c;
    calls++;
    *seen = &suspended;
    MHD_suspend_connection(c);
    return MHD_YES;
}

static double now_us(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static void dial(uint16_t port)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
        write(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27) != 27) {
        perror("dial");
        exit(1);
    }
}

static double measure(unsigned n, unsigned flags)
{
    struct MHD_Daemon *d =
        MHD_start_daemon(MHD_USE_EPOLL | flags, 0, NULL, NULL, on_access, NULL, MHD_OPTION_CONNECTION_LIMIT,
                         n + 16, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)8192, MHD_OPTION_END);
    uint16_t port = d ? MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT)->port : 0;
    double began;

    if (!d)
        exit(1);
    first = NULL;
    suspended = 0;
    for (unsigned i = 0; i < n; i++) {
        dial(port);
        (void)MHD_run(d);
    }
    while (suspended < n)
        (void)MHD_run(d);
    began = now_us();
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned before = calls;

        MHD_resume_connection(first);
        while (calls == before) /* until the resumed connection has been served and suspended again */
            (void)MHD_run(d);
    }
    return (now_us() - began) /
           ROUNDS; /* the daemon is left behind: stopping it with suspended connections aborts */
}

/* In a child, so that its descriptors go with it. */
static double measure_apart(unsigned n, unsigned flags)
{
    double us = 0;
    int ends[2];

    if (pipe(ends) < 0)
        exit(1);
    if (fork() == 0) {
        us = measure(n, flags);
        _exit(write(ends[1], &us, sizeof(us)) != sizeof(us));
    }
    if (read(ends[0], &us, sizeof(us)) != sizeof(us))
        exit(1);
    (void)close(ends[0]);
    (void)close(ends[1]);
    (void)wait(NULL);
    return us;
}

int main(void)
{
    static const unsigned COUNTS[] = {1, 100, 1000, 5000, 9000};
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    printf("| suspended | with eventfd | without |\n|---:|---:|---:|\n");
    for (size_t i = 0; i < sizeof(COUNTS) / sizeof(COUNTS[0]); i++) {
        double with = measure_apart(COUNTS[i], MHD_ALLOW_SUSPEND_RESUME);
        double without = measure_apart(COUNTS[i], WITHOUT_ITC);

        printf("| %u | %.1f us | %.1f us |\n", COUNTS[i], with, without);
        (void)fflush(stdout);
    }
    return 0;
}
