/* SPDX-License-Identifier: Apache-2.0 */
/* A provider whose only talent is pace: every POST is answered with an SSE stream of `n` frames, one each `i`
 * milliseconds, as the path says: /i20n300/v1/chat/completions. One thread, a wheel of one-millisecond slots,
 * so that streams that began at different times are served at different times. A frame carries the monotonic
 * time at which it was written behind a `~`, which occurs nowhere else; the load generator counts and times
 * frames by it.
 *
 *   sse_source [BYTES-PER-FRAME]     prints the port that it listens on; ends when stdin does. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SLOTS       4096u /* longest interval in milliseconds */
#define FRAME_MAX   16384u
#define REQUEST_MAX 65536u

struct stream {
    struct stream *next, *prev; /* in its slot */
    int fd;
    unsigned interval, slot;
    uint64_t frames_left;
    char *pending; /* bytes that the socket did not take */
    size_t pending_len;
    char *request;
    size_t request_len;
    bool is_running;
};

static struct stream *slots[SLOTS];
static uint64_t tick;
static int ep;
static size_t frame_bytes = 190;
static uint64_t frames_sent, frames_late;

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void leave_slot(struct stream *s)
{
    if (!s->is_running) {
        return;
    }
    if (s->prev) {
        s->prev->next = s->next;
    } else {
        slots[s->slot] = s->next;
    }
    if (s->next) {
        s->next->prev = s->prev;
    }
    s->is_running = false;
}

static void enter_slot(struct stream *s, unsigned slot)
{
    s->slot = slot;
    s->prev = NULL;
    s->next = slots[slot];
    if (s->next) {
        s->next->prev = s;
    }
    slots[slot] = s;
    s->is_running = true;
}

static void stream_close(struct stream *s)
{
    leave_slot(s);
    (void)close(s->fd);
    free(s->pending);
    free(s->request);
    free(s);
}

/* False when the connection is gone. */
static bool stream_write(struct stream *s, const char *p, size_t len)
{
    ssize_t n = 0;
    if (s->pending_len == 0) {
        n = send(s->fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            return false;
        }
        n = n < 0 ? 0 : n;
    }
    if ((size_t)n == len) {
        return true;
    }
    char *more = realloc(s->pending, s->pending_len + len - (size_t)n);
    if (!more) {
        return false;
    }
    memcpy(more + s->pending_len, p + n, len - (size_t)n);
    s->pending = more;
    s->pending_len += len - (size_t)n;
    return true;
}

static bool flush_pending(struct stream *s)
{
    if (s->pending_len == 0) {
        return true;
    }
    ssize_t n = send(s->fd, s->pending, s->pending_len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) {
        return errno == EAGAIN;
    }
    s->pending_len -= (size_t)n;
    memmove(s->pending, s->pending + n, s->pending_len);
    return true;
}

static size_t make_frame(char *out, const char *delta, const char *finish, const char *tail)
{
    char event[FRAME_MAX];
    int n =
        snprintf(event, sizeof event,
                 "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
                 "\"model\":\"paced\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"},\"finish_"
                 "reason\":%s}]}\n\n%s",
                 delta, finish, tail);
    n = snprintf(out, FRAME_MAX + 64, "%x\r\n%s\r\n", (unsigned)n, event);
    return (size_t)n;
}

static void send_frame(struct stream *s, const char *frame, size_t len)
{
    if (!flush_pending(s)) {
        stream_close(s);
        return;
    }
    if (s->pending_len > 65536) {
        frames_late++; /* its reader is behind; the frame is skipped so that memory stays bounded */
    } else if (!stream_write(s, frame, len)) {
        stream_close(s);
        return;
    } else {
        frames_sent++;
    }
    if (--s->frames_left > 0) {
        return;
    }
    char last[FRAME_MAX + 128];
    size_t n = make_frame(
        last, "", "\"stop\"",
        "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
        "\"model\":\"paced\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":300,"
        "\"total_tokens\":309}}\n\ndata: [DONE]\n\n");
    memcpy(last + n, "0\r\n\r\n", 5);
    leave_slot(s);
    if (!stream_write(s, last, n + 5)) {
        stream_close(s);
    }
}

static void serve_tick(void)
{
    static char filler[FRAME_MAX - 32];
    char frame[FRAME_MAX + 64], delta[FRAME_MAX];
    size_t len = 0, since = 0;
    unsigned at = (unsigned)(tick % SLOTS);
    struct stream *next;
    if (!filler[0]) {
        size_t bare = make_frame(frame, "~0123456789abcdef", "null", "");
        size_t want = frame_bytes > bare ? frame_bytes - bare : 0;
        memset(filler, 'x', want < sizeof filler ? want : sizeof filler - 1);
    }
    for (struct stream *s = slots[at]; s; s = next) {
        next = s->next;
        if (since++ % 32 == 0) {
            (void)snprintf(delta, sizeof delta, "~%016llx%s", (unsigned long long)now_ns(), filler);
            len = make_frame(frame, delta, "null", "");
        }
        unsigned to = (unsigned)((tick + s->interval) % SLOTS);
        leave_slot(s);
        enter_slot(s, to);
        send_frame(s, frame, len);
    }
    tick++;
}

/* Starts the stream when the request is complete; false when the connection is to be closed. */
static bool serve_request(struct stream *s)
{
    s->request[s->request_len] = '\0';
    char *body = strstr(s->request, "\r\n\r\n");
    if (!body) {
        return s->request_len < REQUEST_MAX - 1;
    }
    char *length = strcasestr(s->request, "\ncontent-length:");
    size_t need = length && length < body ? strtoul(length + 16, NULL, 10) : 0;
    if (s->request_len < (size_t)(body + 4 - s->request) + need) {
        return s->request_len < REQUEST_MAX - 1;
    }
    unsigned interval = 20;
    unsigned long long frames = 300;
    (void)sscanf(s->request, "POST /i%un%llu/", &interval, &frames);
    s->interval = interval > 0 && interval < SLOTS ? interval : 20;
    s->frames_left = frames > 0 ? frames : 1;
    s->request_len = 0;
    static const char head[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
        "Transfer-Encoding: chunked\r\n\r\n";
    if (!stream_write(s, head, sizeof head - 1)) {
        return false;
    }
    leave_slot(s);
    enter_slot(s, (unsigned)((tick + s->interval) % SLOTS));
    return true;
}

static void on_readable(struct stream *s)
{
    if (!s->request && !(s->request = malloc(REQUEST_MAX))) {
        stream_close(s);
        return;
    }
    ssize_t n = recv(s->fd, s->request + s->request_len, REQUEST_MAX - 1 - s->request_len, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        stream_close(s);
        return;
    }
    if (n > 0) {
        s->request_len += (size_t)n;
        if (!serve_request(s)) {
            stream_close(s);
            return;
        }
    }
    if (s->request_len == 0) {
        free(s->request);
        s->request = NULL;
    }
}

static void on_accept(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        int one = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct stream *s = calloc(1, sizeof *s);
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = s};
        if (!s || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) != 0) {
            (void)close(fd);
            free(s);
            continue;
        }
        s->fd = fd;
    }
}

int main(int argc, char **argv)
{
    struct rlimit files = {0};
    (void)getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
    if (argc > 1) {
        size_t n = strtoul(argv[1], NULL, 10);
        frame_bytes = n < FRAME_MAX / 2 ? n : FRAME_MAX / 2;
    }
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t a_len = sizeof a;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct itimerspec each_ms = {.it_interval.tv_nsec = 1000000, .it_value.tv_nsec = 1000000};
    ep = epoll_create1(EPOLL_CLOEXEC);
    static int is_listener, is_timer, is_stdin; /* addresses tell the three apart from streams */
    struct epoll_event el = {.events = EPOLLIN, .data.ptr = &is_listener},
                       et = {.events = EPOLLIN, .data.ptr = &is_timer},
                       es = {.events = EPOLLIN, .data.ptr = &is_stdin};
    if (listener < 0 || timer < 0 || ep < 0 || bind(listener, (struct sockaddr *)&a, sizeof a) != 0 ||
        listen(listener, 4096) != 0 || getsockname(listener, (struct sockaddr *)&a, &a_len) != 0 ||
        timerfd_settime(timer, 0, &each_ms, NULL) != 0 || epoll_ctl(ep, EPOLL_CTL_ADD, listener, &el) != 0 ||
        epoll_ctl(ep, EPOLL_CTL_ADD, timer, &et) != 0) {
        perror("sse_source");
        return 1;
    }
    (void)epoll_ctl(ep, EPOLL_CTL_ADD, STDIN_FILENO, &es);
    (void)printf("%u\n", ntohs(a.sin_port));
    (void)fflush(stdout);
    for (;;) {
        struct epoll_event events[256];
        int n = epoll_wait(ep, events, 256, -1);
        uint64_t expired = 0;
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &is_listener) {
                on_accept(listener);
            } else if (events[i].data.ptr == &is_stdin) {
                char drop[64];
                if (read(STDIN_FILENO, drop, sizeof drop) <= 0) {
                    (void)fprintf(stderr, "{\"frames_sent\":%llu,\"frames_skipped\":%llu}\n",
                                  (unsigned long long)frames_sent, (unsigned long long)frames_late);
                    return 0;
                }
            } else if (events[i].data.ptr == &is_timer) {
                if (read(timer, &expired, sizeof expired) != sizeof expired) {
                    expired = 0;
                }
            } else {
                on_readable(events[i].data.ptr);
            }
        }
        /* Streams may be freed above, so ticks run after all events of the turn. */
        for (; expired > 0; expired--) {
            serve_tick();
        }
    }
}
