/* SPDX-License-Identifier: Apache-2.0 */
/* Opens many SSE streams and reads them as fast as they come: frames a second over a window in which all
 * streams are open, time from the source's write to our read of each frame, streams that ended whole.
 *
 *   sse_load PORT PATH STREAMS RAMP-SECONDS WINDOW-SECONDS KEY [LINGER-SECONDS]
 *
 * Streams are opened evenly over the ramp; the window begins a second after it. With LINGER the program goes
 * on reading for that long after the window, so that streams can end by themselves. Prints one JSON object.
 */
#include <arpa/inet.h>
#include <errno.h>
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
#include <time.h>
#include <unistd.h>

enum phase { CONNECTING, STREAMING, ENDED };

struct stream {
    int fd;
    enum phase phase;
    bool is_refused; /* status other than 200 */
    bool has_done;
    unsigned digits; /* of a time stamp that is being read, 0: none */
    uint64_t stamp;
    uint64_t frames;
    unsigned done_matched;
};

#define BUCKETS 2000u /* latency in steps of 1 % from 1 us */

static uint64_t histogram[BUCKETS], frames_in_window, frames_all, window_from, window_to, window_bytes;
static char request[4096];
static size_t request_len;

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static unsigned bucket_of(uint64_t ns)
{
    double v = (double)ns / 1000.0;
    unsigned b = 0;
    /* log base 1.01 without libm: fine for counting, done once per frame */
    while (v >= 2.0 && b + 70 < BUCKETS) {
        v /= 2.0;
        b += 70; /* 1.01^70 is about 2 */
    }
    double step = 1.0;
    while (step < v && b + 1 < BUCKETS) {
        step *= 1.01;
        b++;
    }
    return b;
}

static double bucket_value(unsigned b)
{
    double v = 1.0;
    for (unsigned i = 0; i < b / 70; i++) {
        v *= 2.0;
    }
    for (unsigned i = 0; i < b % 70; i++) {
        v *= 1.01;
    }
    return v;
}

static double percentile(double share)
{
    uint64_t total = 0, seen = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        total += histogram[i];
    }
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if (total && (double)seen >= share * (double)total) {
            return bucket_value(i);
        }
    }
    return 0;
}

static void frame_seen(struct stream *s, uint64_t now)
{
    s->frames++;
    frames_all++;
    if (now >= window_from && now < window_to) {
        frames_in_window++;
        if (now >= s->stamp && now - s->stamp < 60000000000u) { /* else a chunk boundary cut the stamp */
            histogram[bucket_of(now - s->stamp)]++;
        }
    }
}

static void scan(struct stream *s, const char *p, size_t len, uint64_t now)
{
    static const char done[] = "[DONE]";
    const char *end = p + len;
    while (p < end) {
        if (s->digits == 0) {
            const char *tilde = memchr(p, '~', (size_t)(end - p));
            const char *stop = tilde ? tilde : end;
            /* the end marker can only be in the last piece of a stream, which has no time stamp behind it */
            for (const char *q = stop - p > 64 && tilde ? stop : p; q < stop; q++) {
                s->done_matched = *q == done[s->done_matched] ? s->done_matched + 1 : (*q == '[' ? 1 : 0);
                if (s->done_matched == sizeof done - 1) {
                    s->has_done = true;
                    s->done_matched = 0;
                }
            }
            if (!tilde) {
                return;
            }
            p = tilde + 1;
            s->digits = 16;
            s->stamp = 0;
        }
        for (; p < end && s->digits > 0; p++) {
            char c = *p;
            if (c == '\r' || c == '\n') {
                continue; /* a chunk boundary inside the stamp: its size line would be misread, but the frame counts */
            }
            s->stamp = s->stamp << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
            if (--s->digits == 0) {
                frame_seen(s, now);
            }
        }
    }
}

static void stream_end(struct stream *s)
{
    (void)close(s->fd);
    s->fd = -1;
    s->phase = ENDED;
}

static void on_event(struct stream *s, uint32_t events)
{
    static char in[1 << 18];
    if (s->phase == CONNECTING && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        if (send(s->fd, request, request_len, MSG_NOSIGNAL) != (ssize_t)request_len) {
            stream_end(s);
            return;
        }
        s->phase = STREAMING;
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        return;
    }
    ssize_t n = recv(s->fd, in, sizeof in, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        stream_end(s);
        return;
    }
    if (n > 0) {
        uint64_t now = now_ns();
        if (s->frames == 0 && n > 12 && memcmp(in, "HTTP/1.1 ", 9) == 0 && memcmp(in + 9, "200", 3) != 0) {
            s->is_refused = true;
        }
        if (now >= window_from && now < window_to) {
            window_bytes += (uint64_t)n;
        }
        scan(s, in, (size_t)n, now);
    }
}

static bool stream_open(struct stream *s, int ep, const struct sockaddr_in *to)
{
    int one = 1;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0) {
        return false;
    }
    (void)setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = s};
    if ((connect(s->fd, (const struct sockaddr *)to, sizeof *to) != 0 && errno != EINPROGRESS) ||
        epoll_ctl(ep, EPOLL_CTL_ADD, s->fd, &ev) != 0) {
        stream_end(s);
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    if (argc < 7) {
        (void)fprintf(stderr, "usage: sse_load PORT PATH STREAMS RAMP WINDOW KEY [LINGER]\n");
        return 2;
    }
    struct rlimit files = {0};
    (void)getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);

    const char *body =
        "{\"model\":\"paced\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"go on\"}]}";
    int n = snprintf(
        request, sizeof request,
        "POST %s HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\n\r\n%s",
        argv[2], argv[6], strlen(body), body);
    request_len = (size_t)n;
    size_t count = strtoul(argv[3], NULL, 10), opened = 0;
    double ramp = strtod(argv[4], NULL), window = strtod(argv[5], NULL),
           linger = argc > 7 ? strtod(argv[7], NULL) : 0;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)strtoul(argv[1], NULL, 10)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct stream *streams = calloc(count, sizeof *streams);
    int ep = epoll_create1(EPOLL_CLOEXEC);
    if (!streams || ep < 0) {
        perror("sse_load");
        return 1;
    }
    uint64_t start = now_ns();
    window_from = start + (uint64_t)((ramp + 1) * 1e9);
    window_to = window_from + (uint64_t)(window * 1e9);
    uint64_t stop = window_to + (uint64_t)(linger * 1e9);
    size_t open_at_window = 0, open_at_end = 0;
    for (;;) {
        uint64_t now = now_ns();
        size_t due = ramp > 0 ? (size_t)((double)(now - start) / 1e9 / ramp * (double)count) : count;
        for (due = due > count ? count : due; opened < due; opened++) {
            (void)stream_open(&streams[opened], ep, &to);
        }
        if (now >= window_from && open_at_window == 0) {
            for (size_t i = 0; i < count; i++) {
                open_at_window += streams[i].phase == STREAMING && streams[i].frames > 0;
            }
        }
        if (now >= window_to && open_at_end == 0) {
            for (size_t i = 0; i < count; i++) {
                open_at_end += streams[i].phase == STREAMING && streams[i].frames > 0;
            }
            (void)fprintf(stderr, "window over\n");
        }
        if (now >= stop) {
            break;
        }
        struct epoll_event events[512];
        int got = epoll_wait(ep, events, 512, opened < count ? 1 : 20);
        for (int i = 0; i < got; i++) {
            on_event(events[i].data.ptr, events[i].events);
        }
    }
    size_t whole = 0, refused = 0, broken = 0;
    for (size_t i = 0; i < count; i++) {
        whole += streams[i].has_done;
        refused += streams[i].is_refused;
        broken += streams[i].phase == ENDED && !streams[i].has_done;
    }
    (void)printf(
        "{\"streams\":%zu,\"open_at_window\":%zu,\"open_at_end\":%zu,\"frames_per_s\":%.1f,\"frames\":%llu,"
        "\"bytes_per_s\":%.0f,\"p50_us\":%.0f,\"p99_us\":%.0f,\"whole\":%zu,\"refused\":%zu,\"broken\":%zu}"
        "\n",
        count, open_at_window, open_at_end, (double)frames_in_window / window, (unsigned long long)frames_all,
        (double)window_bytes / window, percentile(0.5), percentile(0.99), whole, refused, broken);
    return 0;
}
