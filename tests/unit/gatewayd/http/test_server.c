/* SPDX-License-Identifier: Apache-2.0 */
/* One server, one client on a socket of few buffers, both on the test's thread. */
#include "gatewayd/http/server.h"

#include "gatewayd/http/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/cm.h"

#define PIECE 1000u

struct stage {
    struct loop *loop;
    struct server *server;
    struct exchange *ex;
    uint64_t written, total;
    uint64_t first; /* bytes that come at once, however long the queue becomes */
    unsigned failed_writes;
    bool answers_later; /* the answer begins when the test says so */
    int client;
};

static void write_piece(struct stage *s)
{
    char piece[PIECE];

    for (size_t i = 0; i < PIECE; i++)
        piece[i] = (char)('a' + (s->written + i) % 23);
    s->failed_writes += exchange_stream_write(s->ex, span_make(piece, PIECE)) != ERR_OK;
    s->written += PIECE;
}

static void feed(struct stage *s)
{
    while (s->written < s->total && exchange_queued(s->ex) <= LIMIT_STREAM_HIGH)
        write_piece(s);
    if (s->written == s->total)
        exchange_stream_end(s->ex);
}

static void answer(struct stage *s)
{
    exchange_stream_begin(s->ex, 200);
    while (s->written < s->first)
        write_piece(s);
    feed(s);
}

static void on_request(struct exchange *ex)
{
    struct stage *s = exchange_user(ex);

    s->ex = ex;
    if (!s->answers_later)
        answer(s);
}

static void on_drain(struct exchange *ex)
{
    feed(exchange_user(ex));
}

static void on_end(struct exchange *ex)
{
    struct stage *s = exchange_user(ex);

    s->ex = NULL;
}

static const struct exchange_ops OPS = {.on_request = on_request, .on_drain = on_drain, .on_end = on_end};

static void on_head(struct exchange *ex, void *user)
{
    exchange_adopt(ex, &OPS, user);
}

static const struct server_handler HANDLER = {.on_head = on_head};

static void open_stage(struct stage *s, uint64_t total)
{
    static const struct config_address ANY = {.host = "127.0.0.1"};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct server_options o = {.max_connections = 8,
                               .max_body = 1024,
                               .header_time_us = 10000000,
                               .body_time_us = 30000000,
                               .keepalive_us = 75000000,
                               .write_stall_us = 60000000,
                               .handler = &HANDLER,
                               .user = s};
    static const int SMALL = 4096;
    struct err err = {0};
    uint16_t port = 0;

    *s = (struct stage){.total = total};
    s->loop = loop_new(&err);
    o.listen_fd = listen_tcp(&ANY, &port, &err);
    assert_true(o.listen_fd >= 0);
    assert_int_equal(setsockopt(o.listen_fd, SOL_SOCKET, SO_SNDBUF, &SMALL, sizeof(SMALL)), 0);
    s->server = server_new(s->loop, &o, &err);
    assert_non_null(s->server);
    s->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(s->client, SOL_SOCKET, SO_RCVBUF, &SMALL, sizeof(SMALL)), 0);
    to.sin_port = htons(port);
    assert_int_equal(connect(s->client, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(fcntl(s->client, F_SETFL, O_NONBLOCK), 0);
}

static void send_request(struct stage *s)
{
    static const char RQ[] =
        "GET / HTTP/1.0\r\nHost: x\r\n\r\n"; /* 1.0: the body comes without chunk headers */

    assert_int_equal(write(s->client, RQ, sizeof(RQ) - 1), sizeof(RQ) - 1);
}

static void close_stage(struct stage *s)
{
    (void)close(s->client);
    server_free(s->server);
    loop_free(s->loop);
}

static void test_a_queue_that_is_never_empty_neither_grows_nor_loses_bytes(void **state)
{
    struct stage s;
    char got[16384];
    uint64_t body = 0;
    unsigned line_ends = 0;
    bool is_right = true;

    (void)state;
    open_stage(&s, 40000 * (uint64_t)PIECE);
    s.first = 1000 * (uint64_t)PIECE;
    send_request(&s);
    for (;;) {
        ssize_t n = read(s.client, got, sizeof(got));

        if (n == 0)
            break;
        for (ssize_t i = 0; i < n; i++) {
            if (line_ends < 4)
                line_ends = got[i] == '\n' || got[i] == '\r' ? line_ends + 1 : 0;
            else
                is_right &= got[i] == (char)('a' + body++ % 23);
        }
        loop_turn(s.loop, n < 0 ? 100 : 0);
    }
    assert_int_equal(s.failed_writes, 0);
    assert_true(is_right);
    assert_int_equal(body, s.total);
    close_stage(&s);
}

static void test_one_request_after_another_never_pauses_the_server(void **state)
{
    struct stage s;
    char got[4096];

    (void)state;
    open_stage(&s, PIECE);
    s.answers_later = true;
    for (int i = 0; i < 5000; i++) {
        static const char RQ[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        bool is_whole = false;

        s.written = 0;
        assert_int_equal(write(s.client, RQ, sizeof(RQ) - 1), sizeof(RQ) - 1);
        while (!is_whole) {
            ssize_t n;

            loop_turn(s.loop, 0);
            if (s.ex && s.written == 0)
                answer(&s);
            n = read(s.client, got, sizeof(got));
            is_whole = n > 0 && memmem(got, (size_t)n, "\r\n0\r\n", 5) != NULL;
        }
    }
    assert_int_equal(server_stats_mt(s.server).pauses, 0);
    close_stage(&s);
}

static void test_a_connection_that_spins_pauses_the_server(void **state)
{
    static const char HEAD[] = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;";
    struct stage s;
    char line[4096];
    size_t sent = 0;

    (void)state;
    memset(line, 'x', sizeof(line));
    open_stage(&s, PIECE);
    assert_int_equal(write(s.client, HEAD, sizeof(HEAD) - 1), sizeof(HEAD) - 1);
    for (int i = 0; i < 20000 && server_stats_mt(s.server).pauses == 0; i++) {
        if (sent < 40000) {
            ssize_t n = write(s.client, line, sizeof(line));

            sent += n > 0 ? (size_t)n : 0;
        }
        loop_turn(s.loop, 1);
    }
    assert_true(server_stats_mt(s.server).pauses > 0);
    close_stage(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_queue_that_is_never_empty_neither_grows_nor_loses_bytes),
        cmocka_unit_test(test_one_request_after_another_never_pauses_the_server),
        cmocka_unit_test(test_a_connection_that_spins_pauses_the_server),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
