/* SPDX-License-Identifier: Apache-2.0 */
/* The realtime store when Redis misbehaves: stopped, gone, full, demoted, foreign, or silent at the worst moment. */
#include "tests/unit/cm.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "libshared/base/clock.h"
#include "libshared/base/compiler.h"
#include "libshared/store/kv.h"
#include "libshared/store/tally.h"
#include "tests/unit/libshared/store/redis_server.h"

#define K           "{gw}:test"
#define DEADLINE_US 300000
#define FAR_BEYOND  10000000 /* a call that took this long had no deadline */

static struct redis_server server;

static struct kv *open_url(const char *url, int64_t deadline_us)
{
    struct err err = {0};
    struct kv *kv = kv_new(&(struct kv_options){.url = url, .deadline_us = deadline_us}, &err);

    if (!kv)
        fail_msg("%s", err_text(&err));
    return kv;
}

static void ask(const char *line)
{
    char answer[256];

    redis_server_ask(&server, line, answer, sizeof(answer));
    assert_true(answer[0] == '+' || answer[0] == ':');
}

static struct kv_batch *plus_one(void)
{
    struct kv_batch *b = kv_batch_new();

    kv_batch_add(b, K, "n", 1);
    kv_batch_expire(b, K, 100, false);
    return b;
}

static void on_n(void *user, struct span field, struct span value)
{
    if (span_is(field, "n"))
        (void)span_to_u64(value, user);
}

static uint64_t count(struct kv *kv)
{
    uint64_t n = 0;
    struct err err = {0};

    if (kv_hash(kv, K, on_n, &n, &err))
        fail_msg("%s", err_text(&err));
    return n;
}

/* That were made so far: each says its name. */
static uint64_t connections(void)
{
    static struct store_tally t;
    uint64_t n = 0;

    tally_read_mt(&t);
    for (int o = 0; o < TALLY_OUTCOMES; o++)
        n += t.redis[REDIS_CONNECT].count[o];
    return n;
}

/* Tries until the store is back; a call while it backs off fails at once. */
static void write_at_last(struct kv *kv, const struct kv_batch *b)
{
    struct err err = {0};

    for (int i = 0; i < 2000; i++) {
        if (kv_write(kv, b, &err) == ERR_OK)
            return;
        usleep(10000);
    }
    fail_msg("not back: %s", err_text(&err));
}

static int fresh_server(void **state)
{
    (void)state;
    if (!redis_server_is_installed())
        skip();
    redis_server_start(&server, NULL);
    return 0;
}

static int end_server(void **state)
{
    (void)state;
    if (server.pid > 0)
        (void)kill(server.pid, SIGCONT);
    redis_server_end(&server);
    return 0;
}

/* ---- a server that stops, dies, forgets ---- */

static void test_a_stopped_server_costs_one_deadline(void **state)
{
    struct kv *kv = open_url(server.url, DEADLINE_US);
    struct kv_batch *b = plus_one();
    struct err err = {0};
    struct mono began;
    uint64_t before = connections();

    (void)state;
    assert_int_equal(kv_write(kv, b, &err), ERR_OK);
    (void)kill(server.pid, SIGSTOP);
    began = mono_now();
    assert_int_equal(kv_write(kv, b, &err), ERR_TIMEOUT); /* on the connection that there was */
    assert_int_equal(kv_write(kv, b, &err),
                     ERR_TIMEOUT); /* on a new one: the kernel accepts, nobody answers */
    assert_int_equal(kv_write(kv, b, &err), ERR_UNAVAILABLE); /* backing off */
    assert_true(mono_diff_us(mono_now(), began) < FAR_BEYOND);
    (void)kill(server.pid, SIGCONT);
    write_at_last(kv, b);
    /* What was sent to the stopped server may have been done when it woke up: that is what watermarks are for. */
    assert_in_range(count(kv), 2, 4);
    assert_true(connections() - before >= 2);
    kv_batch_free(b);
    kv_free(kv);
}

static void test_a_killed_server_is_found_again(void **state)
{
    struct kv *kv = open_url(server.url, DEADLINE_US);
    struct kv_batch *b = plus_one();
    struct err err = {0};
    bool has;

    (void)state;
    assert_int_equal(kv_write(kv, b, &err), ERR_OK);
    redis_server_kill(&server);
    assert_int_equal(kv_write(kv, b, &err), ERR_UNAVAILABLE);
    assert_int_equal(kv_hash(kv, K, on_n, NULL, &err), ERR_UNAVAILABLE);
    assert_int_equal(kv_has_begun(kv, &has, &err), ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "not asked again for"));
    redis_server_start(&server, NULL);
    write_at_last(kv, b);
    assert_int_equal(count(kv), 1); /* it came back empty, and without the script */
    kv_batch_free(b);
    kv_free(kv);
}

static void test_a_script_that_was_flushed_is_sent_again(void **state)
{
    struct kv *kv = open_url(server.url, FAR_BEYOND);
    struct kv_batch *b = plus_one();
    uint64_t before = connections();

    (void)state;
    for (int i = 0; i < 3; i++) {
        ask("SCRIPT FLUSH");
        assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
        assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
    }
    assert_int_equal(count(kv), 6);
    assert_int_equal(connections() - before, 1);
    kv_batch_free(b);
    kv_free(kv);
}

static void test_a_connection_that_the_server_closed_is_replaced_unnoticed(void **state)
{
    struct kv *kv = open_url(server.url, FAR_BEYOND);
    struct kv_batch *b = plus_one();
    uint64_t before = connections();

    (void)state;
    assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
    ask("CLIENT KILL TYPE normal SKIPME yes");
    assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
    assert_int_equal(count(kv), 2);
    assert_int_equal(connections() - before, 2);
    kv_batch_free(b);
    kv_free(kv);
}

/* ---- a server that refuses ---- */

static void test_a_full_server_refuses_and_changes_nothing(void **state)
{
    struct watermark next = {.batch = 1, .token = 3, .n = 1};
    struct kv *kv = open_url(server.url, FAR_BEYOND);
    struct kv_batch *b = plus_one();
    struct err err = {0};

    (void)state;
    assert_int_equal(kv_write(kv, b, &err), ERR_OK);
    assert_int_equal(kv_begin(kv, &err), ERR_OK);
    ask("CONFIG SET maxmemory 1");
    assert_int_equal(kv_apply(kv, "i", &(struct watermark){0}, &next, b, &err), STORE_FAILED);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "OOM"));
    assert_int_equal(count(kv), 1);
    ask("CONFIG SET maxmemory 0");
    assert_int_equal(kv_apply(kv, "i", &(struct watermark){0}, &next, b, &err), STORE_APPLIED);
    assert_int_equal(count(kv), 2);
    kv_batch_free(b);
    kv_free(kv);
}

static void test_a_replica_refuses_until_it_is_promoted(void **state)
{
    struct kv *kv = open_url(server.url, FAR_BEYOND);
    struct kv_batch *b = plus_one();
    struct err err = {0};

    (void)state;
    assert_int_equal(kv_write(kv, b, &err), ERR_OK);
    ask("REPLICAOF 127.0.0.1 1");
    assert_int_equal(kv_write(kv, b, &err), ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "READONLY"));
    ask("REPLICAOF NO ONE");
    write_at_last(kv, b);
    assert_int_equal(count(kv), 2);
    kv_batch_free(b);
    kv_free(kv);
}

static void test_a_login_is_needed_and_never_shown(void **state)
{
    static const char *const LOGINS[] = {":s3cr%2ft@", "app:p4%40ss@"};
    static const char *const WRONG[] = {"", ":wr0ng@", "nobody:wr0ng@", "app:s3cr%2ft@"};
    struct kv_batch *b = plus_one();
    char url[256], answer[256];
    struct err err = {0};

    (void)state;
    redis_server_ask(&server, "ACL SETUSER app on >p4@ss ~{gw}:* +@all", answer, sizeof(answer));
    redis_server_ask(&server, "CONFIG SET requirepass s3cr/t", answer, sizeof(answer));
    for (size_t i = 0; i < ARRAY_LEN(LOGINS); i++) {
        struct kv *kv;

        (void)snprintf(url, sizeof(url), "unix://%s%s?db=3", LOGINS[i], server.socket);
        kv = open_url(url, FAR_BEYOND);
        assert_null(strstr(kv_where(kv), "s3cr"));
        assert_null(strstr(kv_where(kv), "p4"));
        assert_int_equal(kv_write(kv, b, &err), ERR_OK);
        assert_int_equal(count(kv), i + 1);
        kv_free(kv);
    }
    for (size_t i = 0; i < ARRAY_LEN(WRONG); i++) {
        struct kv *kv;

        (void)snprintf(url, sizeof(url), "unix://%s%s", WRONG[i], server.socket);
        kv = open_url(url, FAR_BEYOND);
        assert_int_equal(kv_write(kv, b, &err), ERR_UNAVAILABLE);
        assert_non_null(strstr(err.text, i ? "WRONGPASS" : "NOAUTH"));
        assert_null(strstr(err.text, "wr0ng"));
        assert_null(strstr(err.text, "s3cr"));
        kv_free(kv);
    }
    kv_batch_free(b);
}

/* ---- in between: a server of ours, on a port of its own ---- */

struct fake {
    int listener, port, fd;
    pthread_t thread;
    atomic_bool ends;
    /* what it does with a connection */
    void (*serve)(struct fake *f);
    struct span payload;
    bool is_polite; /* answers the greeting before it misbehaves */
    atomic_int cuts;
};

static void *fake_main(void *arg)
{
    struct fake *f = arg;

    while (!f->ends) {
        struct pollfd p = {.fd = f->listener, .events = POLLIN};

        if (poll(&p, 1, 20) <= 0)
            continue;
        f->fd = accept(f->listener, NULL, NULL);
        f->serve(f);
        (void)close(f->fd);
    }
    return NULL;
}

static void fake_start(struct fake *f)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(a);

    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(f->listener, (const struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(f->listener, 16), 0);
    assert_int_equal(getsockname(f->listener, (struct sockaddr *)&a, &len), 0);
    f->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&f->thread, NULL, fake_main, f), 0);
}

static void fake_end(struct fake *f)
{
    f->ends = true;
    (void)pthread_join(f->thread, NULL);
    (void)close(f->listener);
}

/* False at the end of the stream, or of the test. */
static bool has_more(struct fake *f, int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    while (!f->ends)
        if (poll(&p, 1, 20) > 0)
            return true;
    return false;
}

/* Passes everything on, but for the answer to a script while there are cuts left. */
static void serve_cutting(struct fake *f)
{
    static char block[1 << 16];
    int up = redis_server_connect(server.socket);
    bool is_script = false;
    struct pollfd p[2] = {{.fd = f->fd, .events = POLLIN}, {.fd = up, .events = POLLIN}};

    while (up >= 0 && !f->ends) {
        if (poll(p, 2, 20) <= 0)
            continue;
        for (int i = 0; i < 2; i++) {
            ssize_t n = p[i].revents ? recv(p[i].fd, block, sizeof(block), 0) : 0;

            if (p[i].revents && n <= 0)
                goto out;
            if (!p[i].revents)
                continue;
            if (i == 0)
                is_script |= memmem(block, (size_t)n, "EVAL", 4) != NULL;
            /* NOSCRIPT is let through: the text follows, and its answer is the one to lose. */
            else if (is_script && block[0] == '*' && f->cuts > 0) {
                f->cuts--;
                goto out;
            }
            if (send(p[!i].fd, block, (size_t)n, MSG_NOSIGNAL) != n)
                goto out;
        }
    }
out:
    (void)close(up);
}

static void test_a_batch_counts_once_when_its_reply_is_lost(void **state)
{
    struct fake f = {.serve = serve_cutting, .cuts = 0};
    struct watermark at = {0};
    struct kv_batch *b = plus_one();
    unsigned duplicates = 0;
    char url[64];
    struct kv *kv;

    (void)state;
    fake_start(&f);
    (void)snprintf(url, sizeof(url), "redis://127.0.0.1:%d", f.port);
    kv = open_url(url, FAR_BEYOND);
    assert_int_equal(kv_begin(kv, NULL), ERR_OK);
    for (unsigned i = 0; i < 20; i++) {
        struct watermark next = {.batch = i + 1, .token = 42, .n = 1, .at = {i}};
        enum store_result r;
        struct err err = {0};

        f.cuts = (int)(i % 3);
        while ((r = kv_apply(kv, "i", &at, &next, b, &err)) == STORE_FAILED) {
            assert_true(err.code == ERR_IO || err.code == ERR_UNAVAILABLE);
            usleep(2000);
        }
        assert_int_equal(r, i % 3 ? STORE_DUPLICATE : STORE_APPLIED);
        duplicates += r == STORE_DUPLICATE;
        at = next;
    }
    assert_int_equal(count(kv), 20);
    assert_int_equal(duplicates, 13);
    kv_free(kv);
    fake_end(&f);
    kv_batch_free(b);
}

static void serve_payload(struct fake *f)
{
    char block[4096];

    if (f->is_polite && has_more(f, f->fd)) {
        (void)!recv(f->fd, block, sizeof(block), 0);
        (void)!send(f->fd, "+OK\r\n", 5, MSG_NOSIGNAL);
    }
    while (has_more(f, f->fd) && recv(f->fd, block, sizeof(block), 0) > 0)
        if (send(f->fd, f->payload.p, f->payload.len, MSG_NOSIGNAL) < 0)
            return;
}

#define NESTED "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n"

static void test_hostile_replies_are_errors(void **state)
{
    static const struct span PAYLOADS[] = {
        SPAN_LIT("garbage\r\n"),
        SPAN_LIT("\0\0\0\0\r\n\r\n"),
        SPAN_LIT("*1000000000\r\n"),
        SPAN_LIT("*2147483647\r\n"),
        SPAN_LIT("*9223372036854775807\r\n"),
        SPAN_LIT("*-7\r\n"),
        SPAN_LIT("*-1\r\n"),
        SPAN_LIT("*0\r\n"),
        SPAN_LIT("$-1\r\n"),
        SPAN_LIT("$-9\r\n"),
        SPAN_LIT("$99999999999999999999\r\nx"),
        SPAN_LIT("$4294967296\r\nx"),
        SPAN_LIT(":123456789012345678901234567890\r\n"),
        SPAN_LIT(":x\r\n"),
        SPAN_LIT("-\r\n"),
        SPAN_LIT("-ERR \x1b[31mred\x07\r\n"),
        SPAN_LIT("*1\r\n$1\r\nZ\r\n"),
        SPAN_LIT("*1\r\n$1\r\nC\r\n"),
        SPAN_LIT("*3\r\n$1\r\nC\r\n:1\r\n:2\r\n"),
        SPAN_LIT("*2\r\n:1\r\n:2\r\n"),
        SPAN_LIT("*2\r\n$1\r\n0\r\n*1\r\n*1\r\n:1\r\n"),
        SPAN_LIT("*2\r\n$30\r\n012345678901234567890123456789\r\n*0\r\n"),
        SPAN_LIT(NESTED NESTED ":1\r\n"),
        SPAN_LIT("-MOVED\r\n"),
        SPAN_LIT("-MOVED 1 nowhere\r\n"),
        SPAN_LIT("-MOVED 1 :0\r\n"),
        SPAN_LIT("-MOVED 1 127.0.0.1:99999\r\n"),
        SPAN_LIT("-MOVED 1 [::\r\n"),
        SPAN_LIT("-MOVED 1 127.0.0.1:1\r\n"),
        SPAN_LIT("-ASK 1 127.0.0.1:1\r\n"),
        SPAN_LIT("-CLUSTERDOWN\r\n"),
        SPAN_LIT("-READONLY\r\n"),
        SPAN_LIT("-NOSCRIPT\r\n"),
        SPAN_LIT("-NOAUTH\r\n"),
        SPAN_LIT("+PONG\r\n+PONG\r\n"),
        SPAN_LIT("*1\r\n$1\r\n"), /* and then nothing */
    };
    struct watermark next = {.batch = 1, .token = 1, .n = 1}, found;
    struct kv_batch *b = plus_one();
    bool is_found;

    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_LEN(PAYLOADS); i++) {
        struct fake f = {.serve = serve_payload, .payload = PAYLOADS[i / 2], .is_polite = i % 2};
        struct mono began = mono_now();
        struct err err = {0};
        char url[64];
        struct kv *kv;

        fake_start(&f);
        (void)snprintf(url, sizeof(url), "redis://127.0.0.1:%d", f.port);
        kv = open_url(url, 60000);
        assert_int_equal(kv_apply(kv, "i", &(struct watermark){0}, &next, b, &err), STORE_FAILED);
        assert_true(err.code && err.text[0]);
        assert_null(strpbrk(err.text, "\x1b\x07"));
        assert_int_not_equal(kv_scan(kv, "{gw}:", on_n, &next.batch, &err), ERR_OK);
        kv_free(kv);
        kv = open_url(url, 60000);
        (void)!kv_hash(kv, K, on_n, &next.batch, &err); /* an empty array is a hash without fields */
        (void)!kv_events(kv, K, 5, on_n, &next.batch, &err);
        (void)!kv_watermark(kv, "i", &found, &is_found, &err);
        (void)!kv_has_begun(kv, &is_found, &err);
        kv_free(kv);
        fake_end(&f);
        assert_true(mono_diff_us(mono_now(), began) < FAR_BEYOND);
    }
    kv_batch_free(b);
}

static void serve_flood(struct fake *f)
{
    static char block[1 << 16];

    if (!has_more(f, f->fd) || send(f->fd, f->payload.p, f->payload.len, MSG_NOSIGNAL) < 0)
        return;
    for (size_t i = 0; i < sizeof(block); i++)
        block[i] = f->payload.p[0] == '*' ? ":1\r\n"[i % 4] : 'x';
    while (!f->ends && send(f->fd, block, sizeof(block), MSG_NOSIGNAL) > 0)
        ;
}

static void test_a_reply_without_end_is_cut(void **state)
{
    static const struct span BEGINNINGS[] = {SPAN_LIT("$500000000\r\n"), SPAN_LIT("+"),
                                             SPAN_LIT("*1000000\r\n"), SPAN_LIT("*2\r\n*1000000\r\n")};
    struct rusage before, after;
    bool has;

    (void)state;
    (void)getrusage(RUSAGE_SELF, &before);
    for (size_t i = 0; i < ARRAY_LEN(BEGINNINGS); i++) {
        struct fake f = {.serve = serve_flood, .payload = BEGINNINGS[i]};
        char url[64];
        struct kv *kv;

        fake_start(&f);
        (void)snprintf(url, sizeof(url), "redis://127.0.0.1:%d", f.port);
        kv = open_url(url, 1500000);
        assert_int_not_equal(kv_has_begun(kv, &has, NULL), ERR_OK);
        kv_free(kv);
        fake_end(&f);
    }
    (void)getrusage(RUSAGE_SELF, &after);
    print_message("a flood grew the process by %ld MiB\n", (after.ru_maxrss - before.ru_maxrss) >> 10);
    assert_true(after.ru_maxrss - before.ru_maxrss < 600 << 10); /* also under a sanitizer */
}

static void test_a_slot_that_is_passed_around_forever_is_given_up(void **state)
{
    struct fake f = {.serve = serve_payload};
    struct kv_batch *b = plus_one();
    char url[64], moved[64];
    struct err err = {0};
    struct kv *kv;
    uint64_t before = connections();

    (void)state;
    fake_start(&f);
    (void)snprintf(moved, sizeof(moved), "-MOVED 1 :%d\r\n", f.port);
    f.payload = span_of(moved);
    (void)snprintf(url, sizeof(url), "redis://127.0.0.1:%d", f.port);
    kv = open_url(url, FAR_BEYOND);
    assert_int_equal(kv_write(kv, b, &err), ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "MOVED"));
    assert_in_range(connections() - before, 4, 21);
    kv_free(kv);
    fake_end(&f);
    kv_batch_free(b);
}

/* ---- addresses ---- */

static void test_the_next_seed_is_asked_when_one_is_silent_or_gone(void **state)
{
    struct fake silent = {.serve = serve_payload, .payload = SPAN_LIT("")};
    struct fake relay = {.serve = serve_cutting};
    struct kv_batch *b = plus_one();
    char url[128];
    struct kv *kv;

    (void)state;
    fake_start(&silent);
    fake_start(&relay);
    (void)snprintf(url, sizeof(url), "redis://127.0.0.1:1,127.0.0.1:%d,localhost:%d", silent.port,
                   relay.port);
    kv = open_url(url, 2000000);
    assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
    assert_int_equal(count(kv), 1);
    kv_free(kv);
    fake_end(&silent);
    fake_end(&relay);
    kv_batch_free(b);
}

/* The kernel drops what knocks at a full backlog: to the client that is a host that does not exist. */
static void test_a_host_that_does_not_answer_costs_one_deadline(void **state)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), knocking[8];
    socklen_t len = sizeof(a);
    struct mono began = mono_now();
    struct err err = {0};
    char url[64];
    struct kv *kv;
    bool has;

    (void)state;
    assert_int_equal(bind(listener, (const struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(listener, 0), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
    for (size_t i = 0; i < ARRAY_LEN(knocking); i++) {
        knocking[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(knocking[i], (const struct sockaddr *)&a, len);
    }
    (void)snprintf(url, sizeof(url), "redis://127.0.0.1:%d", ntohs(a.sin_port));
    kv = open_url(url, DEADLINE_US);
    assert_int_equal(kv_has_begun(kv, &has, &err), ERR_TIMEOUT);
    assert_int_equal(kv_has_begun(kv, &has, &err), ERR_UNAVAILABLE);
    assert_true(mono_diff_us(mono_now(), began) < FAR_BEYOND);
    kv_free(kv);
    for (size_t i = 0; i < ARRAY_LEN(knocking); i++)
        (void)close(knocking[i]);
    (void)close(listener);
}

static void test_a_name_without_address_fails_in_time(void **state)
{
    struct kv *kv = open_url("redis://no-such-host.invalid", DEADLINE_US);
    struct mono began = mono_now();
    struct err err = {0};
    bool has;
    enum err_code e = kv_has_begun(kv, &has, &err);

    (void)state;
    assert_true(e == ERR_UNAVAILABLE || e == ERR_TIMEOUT);
    assert_non_null(strstr(err.text, "no-such-host.invalid"));
    assert_true(mono_diff_us(mono_now(), began) < FAR_BEYOND);
    kv_free(kv);
}

static void test_urls_are_understood_or_refused_without_being_repeated(void **state)
{
    static const char *const GOOD[][2] = {
        {"redis://h", "redis://h:6379"},
        {"redis://u:hunter2@h:1/3", "redis://h:1/3"},
        {"redis://:hunter2%40@[::1]:7", "redis://[::1]:7"},
        {"redis://a,b:7,c", "redis://a:6379,b:7,c:6379"},
        {"redis://a,b:7?sentinel=main", "redis://a:26379,b:7?sentinel=main"},
        {"unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"},
        {"unix://u:hunter2@/run/redis.sock", "unix:///run/redis.sock"},
        {"redis://:hunter2@@h/0", "redis://h:6379"},
    };
    static const char *const BAD[] = {"rediss://h",
                                      "http://h",
                                      "redis://",
                                      "redis://h:",
                                      "redis://h:0",
                                      "redis://h:65536",
                                      "redis://hunter2@h",
                                      "redis://u:@h",
                                      "redis://:hunter2%4@h",
                                      "redis://:hunter2%zz@h",
                                      "redis://:hunter2%00@h",
                                      "redis://h/x",
                                      "redis://h/hunter2",
                                      "redis://h?tls=hunter2",
                                      "redis://h?sentinel=",
                                      "redis://a,,b",
                                      "redis://[::1",
                                      "unix://run/x",
                                      "unix:///",
                                      "redis://h hunter2",
                                      "redis://h,h,h,h,h,h,h,h,h,h,h,h,h,h,h,h,h",
                                      "unix:///x?sentinel=a"};
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(GOOD); i++) {
        struct kv *kv = open_url(GOOD[i][0], 0), *again = kv_share(kv);

        assert_string_equal(kv_where(kv), GOOD[i][1]);
        assert_string_equal(kv_backend(kv), "redis");
        kv_free(kv);
        assert_string_equal(kv_where(again), GOOD[i][1]);
        kv_free(again);
    }
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        err.text[0] = '\0';
        assert_null(kv_new(&(struct kv_options){.url = BAD[i]}, &err));
        assert_int_equal(err.code, ERR_CONFIG);
        assert_true(err.text[0]);
        assert_null(strstr(err.text, "hunter2"));
    }
    assert_null(kv_new(&(struct kv_options){.url = BAD[0]}, &err));
    assert_non_null(strstr(err.text, "stunnel"));
}

/* ---- two threads ---- */

struct reading {
    struct kv *kv;
    atomic_bool ends;
    uint64_t last, reads;
};

static void *read_on(void *arg)
{
    struct reading *r = arg;

    while (!r->ends) {
        uint64_t n = r->last;

        assert_int_equal(kv_hash(r->kv, K, on_n, &n, NULL), ERR_OK);
        assert_true(n >= r->last);
        r->last = n;
        r->reads++;
    }
    return NULL;
}

static void read_beside(const char *url)
{
    struct kv *kv = open_url(url, FAR_BEYOND);
    struct reading r = {.kv = kv_share(kv)};
    struct kv_batch *b = plus_one();
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, read_on, &r), 0);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(kv_write(kv, b, NULL), ERR_OK);
    }
    r.ends = true;
    (void)pthread_join(thread, NULL);
    assert_int_equal(count(r.kv), 1000);
    kv_free(kv);
    kv_free(r.kv);
    kv_batch_free(b);
}

static void test_a_thread_reads_while_another_writes(void **state)
{
    (void)state;
    read_beside("");
    read_beside(server.url);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, fresh_server, end_server)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_a_stopped_server_costs_one_deadline),
        WITH_SERVER(test_a_killed_server_is_found_again),
        WITH_SERVER(test_a_script_that_was_flushed_is_sent_again),
        WITH_SERVER(test_a_connection_that_the_server_closed_is_replaced_unnoticed),
        WITH_SERVER(test_a_full_server_refuses_and_changes_nothing),
        WITH_SERVER(test_a_replica_refuses_until_it_is_promoted),
        WITH_SERVER(test_a_login_is_needed_and_never_shown),
        WITH_SERVER(test_a_batch_counts_once_when_its_reply_is_lost),
        WITH_SERVER(test_the_next_seed_is_asked_when_one_is_silent_or_gone),
        WITH_SERVER(test_a_thread_reads_while_another_writes),
        cmocka_unit_test(test_hostile_replies_are_errors),
        cmocka_unit_test(test_a_reply_without_end_is_cut),
        cmocka_unit_test(test_a_slot_that_is_passed_around_forever_is_given_up),
        cmocka_unit_test(test_a_host_that_does_not_answer_costs_one_deadline),
        cmocka_unit_test(test_a_name_without_address_fails_in_time),
        cmocka_unit_test(test_urls_are_understood_or_refused_without_being_repeated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
