/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/gatewayd/http/client_rig.h"

/* ---- the good case ---- */

static void test_a_call_brings_status_headers_and_body(void **state)
{
    struct rig r;
    struct probe p = {0};

    (void)state;
    open_rig(&r, answers_everything);
    call(&r, &p);
    assert_int_equal(p.code, ERR_OK);
    assert_int_equal(p.status, 200);
    assert_int_equal(p.headers_seen, 1);
    assert_string_equal(p.type, "application/json");
    assert_string_equal(p.request_id, "r-1");
    assert_string_equal(p.encoding, "");
    assert_int_equal(p.content_length, 5);
    assert_string_equal(p.body.p, "hello");
    assert_true(p.timing.was_sent);
    assert_false(p.timing.is_reused);
    assert_true(p.timing.connected_us >= 0 && p.timing.sent_us >= p.timing.connected_us &&
                p.timing.first_byte_us >= p.timing.sent_us);
    buf_release(&p.body);
    close_rig(&r);
}

static void test_calls_share_a_connection_and_never_call_back_from_inside_start(void **state)
{
    struct rig r;

    (void)state;
    open_rig(&r, answers_everything);
    for (int i = 0; i < 20; i++) {
        struct probe p = {0};

        start(&r, &p);
        assert_int_equal(p.done, 0);
        turn_until(&r, &p.done);
        assert_int_equal(p.code, ERR_OK);
        assert_int_equal(p.timing.is_reused, i > 0);
        buf_release(&p.body);
    }
    assert_int_equal(atomic_load(&r.up.connections), 1);
    assert_int_equal(client_stats_mt(r.client).reused, 19);
    assert_int_equal(client_stats_mt(r.client).in_flight, 0);
    close_rig(&r);
}

/* ---- one request on the wire ---- */

static void closes_after_reading_a_second_request(struct peer *p)
{
    while (peer_read(p)) {
        if (p->served == 2)
            return;
        if (!peer_say(p, ANSWER))
            return;
    }
}

static void test_a_connection_that_dies_under_a_request_is_not_sent_the_request_again(void **state)
{
    struct rig r;
    struct probe first = {0}, second = {0};

    (void)state;
    open_rig(&r, closes_after_reading_a_second_request);
    call(&r, &first);
    assert_int_equal(first.code, ERR_OK);
    call(&r, &second);
    assert_int_equal(second.code, ERR_UP_RESET);
    assert_non_null(strstr(second.detail, "died before an answer"));
    assert_true(second.timing.was_sent);
    assert_true(second.timing.is_reused);
    turn_for(&r, 50000);
    assert_int_equal(atomic_load(&r.up.requests), 2);
    assert_int_equal(atomic_load(&r.up.connections), 1);
    buf_release(&first.body);
    close_rig(&r);
}

static void dies_under_every_third_request(struct peer *p)
{
    while (peer_read(p)) {
        if (atomic_load(&p->up->requests) % 3 == 0) {
            peer_reset(p);
            return;
        }
        if (!peer_say(p, ANSWER))
            return;
    }
}

static void test_as_many_requests_arrive_as_calls_were_made_whatever_dies(void **state)
{
    struct rig r;
    int ok = 0, reset = 0;

    (void)state;
    open_rig(&r, dies_under_every_third_request);
    for (int i = 0; i < 150; i++) {
        struct probe p = {0};

        call(&r, &p);
        ok += p.code == ERR_OK;
        reset += p.code == ERR_UP_RESET;
        buf_release(&p.body);
    }
    assert_int_equal(ok, 100);
    assert_int_equal(reset, 50);
    assert_int_equal(atomic_load(&r.up.requests), 150);
    close_rig(&r);
}

static void answers_once_and_closes(struct peer *p)
{
    if (peer_read(p))
        (void)peer_say(p, ANSWER);
}

static void test_a_connection_that_was_closed_while_idle_is_replaced(void **state)
{
    struct rig r;

    (void)state;
    open_rig(&r, answers_once_and_closes);
    for (int i = 0; i < 5; i++) {
        struct probe p = {0};

        call(&r, &p);
        assert_int_equal(p.code, ERR_OK);
        assert_false(p.timing.is_reused);
        buf_release(&p.body);
        turn_for(&r, 20000); /* the close arrives while nobody wants the connection */
    }
    assert_int_equal(atomic_load(&r.up.requests), 5);
    close_rig(&r);
}

static void says_goodbye_aloud(struct peer *p)
{
    if (peer_read(p) && peer_say(p, ANSWER)) {
        usleep(5000);
        (void)peer_say(p, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        peer_wait_for_close(p);
    }
}

static void test_what_arrives_on_an_idle_connection_is_nobodys_answer(void **state)
{
    struct rig r;

    (void)state;
    open_rig(&r, says_goodbye_aloud);
    for (int i = 0; i < 3; i++) {
        struct probe p = {0};

        call(&r, &p);
        assert_int_equal(p.code, ERR_OK);
        assert_int_equal(p.status, 200);
        assert_false(p.timing.is_reused);
        buf_release(&p.body);
        turn_until_count(&r, &r.up.closed_by_peer, i + 1); /* closed at once, not when it is wanted */
    }
    close_rig(&r);
}

/* ---- what is on the wire ---- */

static void test_the_request_is_what_was_asked_for_and_nothing_is_added_but_framing(void **state)
{
    struct rig r;
    struct probe p = {0};
    char lines[] = "authorization: Bearer k\0content-type: application/json";
    struct buf given = {.p = lines, .len = sizeof(lines)};
    char url[128], want[512];
    struct client_request rq;

    (void)state;
    open_rig(&r, answers_everything);
    rq = request_to(&r, url, "127.0.0.1", &p);
    rq.header_lines = &given;
    p.rig = &r;
    p.call = client_start(r.client, &rq);
    memset(lines, 'x', sizeof(lines)); /* they were copied */
    turn_until(&r, &p.done);
    (void)snprintf(
        want, sizeof(want),
        "POST /v1/chat HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
        "authorization: Bearer k\r\ncontent-type: application/json\r\nContent-Length: "
        "13\r\n\r\n{\"model\":\"m\"}",
        r.up.port);
    assert_string_equal(upstream_request(&r.up, 0), want);
    buf_release(&p.body);
    close_rig(&r);
}

static void test_a_get_has_no_body_and_a_handle_changes_between_methods(void **state)
{
    struct rig r;

    (void)state;
    open_rig(&r, answers_everything);
    for (int i = 0; i < 4; i++) {
        struct probe p = {0};
        char url[128];
        struct client_request rq = request_to(&r, url, "127.0.0.1", &p);

        if (i % 2)
            rq.method = "GET";
        p.rig = &r;
        p.call = client_start(r.client, &rq);
        turn_until(&r, &p.done);
        assert_int_equal(p.code, ERR_OK);
        assert_int_equal(strncmp(upstream_request(&r.up, 0), i % 2 ? "GET " : "POST", 4), 0);
        assert_int_equal(strstr(upstream_request(&r.up, 0), "Content-Length") != NULL, i % 2 == 0);
        assert_null(strstr(upstream_request(&r.up, 0), "Content-Type"));
        buf_release(&p.body);
    }
    close_rig(&r);
}

static void test_header_lines_that_would_split_or_reframe_a_request_are_refused(void **state)
{
    static const struct span BAD[] = {
        SPAN_LIT("X-A: b\r\nAuthorization: stolen\0"),
        SPAN_LIT("X-A: b\nc\0"),
        SPAN_LIT("X-A: b\rc\0"),
        SPAN_LIT("X-A: b\0c\0"),
        SPAN_LIT("no colon\0"),
        SPAN_LIT(": no name\0"),
        SPAN_LIT("X A: space\0"),
        SPAN_LIT("X-A: \x7f\0"),
        SPAN_LIT("X-A: \x1b[2J\0"),
        SPAN_LIT("Content-Length: 1\0"),
        SPAN_LIT("transfer-encoding: chunked\0"),
        SPAN_LIT("Connection: close\0"),
        SPAN_LIT("Expect: 100-continue\0"),
        SPAN_LIT("Accept-Encoding: gzip\0"),
        SPAN_LIT("\0"),
    };
    struct rig r;

    (void)state;
    open_rig(&r, answers_everything);
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        struct probe p = {.rig = &r};
        struct buf lines = {0};
        char url[128];
        struct client_request rq = request_to(&r, url, "127.0.0.1", &p);

        assert_int_equal(buf_append(&lines, BAD[i].p, BAD[i].len), ERR_OK);
        rq.header_lines = &lines;
        p.call = client_start(r.client, &rq);
        turn_until(&r, &p.done);
        assert_int_equal(p.code, ERR_INTERNAL);
        assert_false(p.timing.was_sent);
        buf_release(&lines);
    }
    assert_int_equal(atomic_load(&r.up.connections), 0);
    close_rig(&r);
}

static void test_urls_that_hide_something_are_refused(void **state)
{
    static const char *const BAD[] = {"ftp://127.0.0.1/",
                                      "file:///etc/passwd",
                                      "http://user:pw@127.0.0.1/",
                                      "http://",
                                      "http://[::1/",
                                      "http://h:99999/",
                                      "http://h:0/",
                                      "http://h:1x/",
                                      "//h/",
                                      "",
                                      "http://a b/",
                                      "http://h\r\nX: y/",
                                      "https://:443/"};
    struct rig r;

    (void)state;
    open_rig(&r, answers_everything);
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        struct probe p = {.rig = &r};
        char url[128];
        struct client_request rq = request_to(&r, url, "127.0.0.1", &p);

        rq.url = BAD[i];
        p.call = client_start(r.client, &rq);
        turn_until(&r, &p.done);
        assert_int_equal(p.code, ERR_CONFIG);
    }
    close_rig(&r);
}

static void test_a_large_body_arrives_whole_and_without_waiting_for_a_continue(void **state)
{
    struct rig r;
    struct probe p = {.rig = &r};
    char url[128];
    char *big = malloc(3000000);
    struct client_request rq;

    (void)state;
    memset(big, 'x', 3000000);
    open_rig(&r, answers_everything);
    rq = request_to(&r, url, "127.0.0.1", &p);
    rq.body = span_make(big, 3000000);
    p.call = client_start(r.client, &rq);
    turn_until(&r, &p.done);
    assert_int_equal(p.code, ERR_OK);
    assert_true(p.timing.sent_us >= p.timing.connected_us && p.timing.sent_us <= p.timing.first_byte_us);
    assert_int_equal(atomic_load(&r.up.body_bytes), 3000000);
    assert_null(strstr(upstream_request(&r.up, 0), "Expect"));
    free(big);
    buf_release(&p.body);
    close_rig(&r);
}

static char *lent_body;

static void takes_the_body_back(struct probe *p)
{
    if (!lent_body)
        return;
    assert_true(client_call_is_body_out(p->call));
    free(lent_body); /* whoever reads it from now on is found by the sanitizer */
    lent_body = NULL;
}

static void test_a_body_may_be_taken_back_when_the_answer_to_all_of_it_comes(void **state)
{
    static const size_t LEN[] = {10, 60000, 3000000};
    struct rig r;

    (void)state;
    open_rig(&r, answers_everything);
    for (size_t i = 0; i < ARRAY_LEN(LEN); i++) {
        struct probe p = {.rig = &r, .in_body = takes_the_body_back};
        char url[128];
        struct client_request rq = request_to(&r, url, "127.0.0.1", &p);

        lent_body = malloc(LEN[i]);
        memset(lent_body, 'x', LEN[i]);
        rq.body = span_make(lent_body, LEN[i]);
        p.call = client_start(r.client, &rq);
        turn_until(&r, &p.done);
        assert_int_equal(p.code, ERR_OK);
        assert_null(lent_body);
        buf_release(&p.body);
    }
    close_rig(&r);
}

static void answers_what_it_did_not_read(struct peer *p)
{
    (void)peer_say(p, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
    peer_wait_for_close(p);
}

static void notes_that_the_body_is_still_needed(struct probe *p)
{
    assert_false(client_call_is_body_out(p->call));
    p->pauses = 1;
}

static void test_a_body_that_is_still_on_its_way_is_not_given_back(void **state)
{
    struct rig r;
    struct probe p = {.rig = &r, .in_body = notes_that_the_body_is_still_needed};
    char url[128];
    char *big = calloc(1, 400000000);
    struct client_request rq;

    (void)state;
    open_rig(&r, answers_what_it_did_not_read);
    rq = request_to(&r, url, "127.0.0.1", &p);
    rq.body = span_make(big, 400000000);
    p.call = client_start(r.client, &rq);
    turn_until(&r, &p.pauses);
    client_cancel(p.call);
    free(big);
    buf_release(&p.body);
    close_rig(&r);
}

static void test_proxy_variables_are_ignored_even_when_set_later(void **state)
{
    struct rig r;
    struct probe p = {0};

    (void)state;
    open_rig(&r, answers_everything);
    (void)setenv("http_proxy", "http://127.0.0.1:1", 1);
    (void)setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    call(&r, &p);
    (void)unsetenv("http_proxy");
    (void)unsetenv("ALL_PROXY");
    assert_int_equal(p.code, ERR_OK);
    buf_release(&p.body);
    close_rig(&r);
}

/* ---- connecting ---- */

static void test_a_refused_connection_is_reported_and_nothing_was_sent(void **state)
{
    struct rig r;
    struct probe p = {.rig = &r};
    char url[128];
    struct client_request rq;

    (void)state;
    open_rig(&r, answers_everything);
    rq = request_to(&r, url, "127.0.0.1", &p);
    rq.url = "http://127.0.0.1:1/v1";
    p.call = client_start(r.client, &rq);
    turn_until(&r, &p.done);
    assert_int_equal(p.code, ERR_UP_CONNECT);
    assert_false(p.timing.was_sent);
    assert_int_equal(p.timing.connected_us, -1);
    close_rig(&r);
}

/* A listener whose queue is full drops connection attempts, like a black hole. */
static int full_listener(uint32_t ip, uint16_t *port, int fillers[8])
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(ip), .sin_port = htons(*port)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    for (int i = 0; i < 8; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(fillers[i], (struct sockaddr *)&a, sizeof(a));
    }
    return fd;
}

static void test_the_connect_deadline_ends_a_connection_that_never_stands(void **state)
{
    struct rig r;
    struct probe p = {.rig = &r};
    int fillers[8];
    uint16_t port = 0;
    int fd = full_listener(INADDR_LOOPBACK, &port, fillers);
    char url[128];
    struct client_request rq;

    (void)state;
    open_rig(&r, answers_everything);
    rq = request_to(&r, url, "127.0.0.1", &p);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/v1", port);
    rq.timeouts.connect_us = 150000;
    p.call = client_start(r.client, &rq);
    turn_until(&r, &p.done);
    assert_int_equal(p.code, ERR_UP_TIMEOUT);
    assert_false(p.timing.was_sent);
    for (int i = 0; i < 8; i++)
        close(fillers[i]);
    close(fd);
    close_rig(&r);
}

/* ---- names ---- */

static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_moved = PTHREAD_COND_INITIALIZER;
static bool is_gate_open;

static void move_gate(bool is_open)
{
    (void)pthread_mutex_lock(&gate_lock);
    is_gate_open = is_open;
    (void)pthread_cond_broadcast(&gate_moved);
    (void)pthread_mutex_unlock(&gate_lock);
}

static void answers_when_allowed(struct peer *p)
{
    while (peer_read(p)) {
        (void)pthread_mutex_lock(&gate_lock);
        while (!is_gate_open)
            (void)pthread_cond_wait(&gate_moved, &gate_lock);
        (void)pthread_mutex_unlock(&gate_lock);
        if (!peer_say(p, ANSWER))
            return;
    }
}

static atomic_bool hole_is_open;
static atomic_int lookups;

static void fake_lookup(const char *name, struct resolver_answer *out)
{
    atomic_fetch_add(&lookups, 1);
    if (strcmp(name, "hole.example") == 0)
        while (!atomic_load(&hole_is_open))
            usleep(1000);
    if (strcmp(name, "missing.example") == 0) {
        (void)snprintf(out->why, sizeof(out->why), "no such name");
        return;
    }
    if (strcmp(name, "two.example") == 0)
        (void)address_parse(SPAN_LIT("127.77.0.1"), &out->addresses[out->n++]); /* nobody listens there */
    if (strcmp(name, "silent.example") == 0)
        (void)address_parse(SPAN_LIT("127.0.0.2"), &out->addresses[out->n++]); /* nobody answers there */
    if (strcmp(name, "holes.example") == 0)
        out->n = address_parse(SPAN_LIT("127.0.0.2"), &out->addresses[0]) +
                 address_parse(SPAN_LIT("127.0.0.3"), &out->addresses[1]);
    else if (strcmp(name, "metadata.example") == 0)
        (void)address_parse(SPAN_LIT("169.254.169.254"), &out->addresses[out->n++]);
    else
        (void)address_parse(SPAN_LIT("127.0.0.1"), &out->addresses[out->n++]);
}

static void open_rig_with_names(struct rig *r, void (*script)(struct peer *))
{
    open_rig(r, script);
    atomic_store(&hole_is_open, false);
    atomic_store(&lookups, 0);
    client_set_lookup(r->client, fake_lookup);
}

static void start_to(struct rig *r, struct probe *p, const char *host, bool allow_private, int64_t connect_us)
{
    char url[128];
    struct client_request rq = request_to(r, url, host, p);

    rq.allow_private = allow_private;
    rq.timeouts.connect_us = connect_us;
    p->rig = r;
    p->call = client_start(r->client, &rq);
}

static void test_a_name_that_leads_inside_is_blocked_unless_the_provider_may(void **state)
{
    static const struct {
        const char *host;
        bool allow_private;
        enum err_code code;
    } CASES[] = {
        {"inside.example", false, ERR_UP_BLOCKED},
        {"inside.example", true, ERR_OK},
        {"inside.example", false, ERR_UP_BLOCKED},
        {"metadata.example", false, ERR_UP_BLOCKED},
        {"127.0.0.1", false, ERR_OK},
        {"localhost", false, ERR_OK},
        {"two.example", true, ERR_OK},
        {"missing.example", true, ERR_UP_DNS},
        {"127.1", false,
         ERR_UP_BLOCKED}, /* a shortened address is a name: only plain literals are the operator's word */
    };
    struct rig r;

    (void)state;
    open_rig_with_names(&r, answers_everything);
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct probe p = {0};

        start_to(&r, &p, CASES[i].host, CASES[i].allow_private, 20000000);
        turn_until(&r, &p.done);
        if (p.code != CASES[i].code)
            print_error("%s: %s (%s)\n", CASES[i].host, err_row(p.code)->name, p.detail);
        assert_int_equal(p.code, CASES[i].code);
        assert_int_equal(p.timing.was_sent, p.code == ERR_OK);
        buf_release(&p.body);
    }
    assert_int_equal(atomic_load(&r.up.requests), 4);
    close_rig(&r);
}

static void test_an_address_that_is_silent_delays_one_call_and_not_the_next(void **state)
{
    struct probe first = {0}, next[2] = {0};
    int fillers[8], fd;
    struct rig r;

    (void)state;
    open_rig_with_names(&r, answers_when_allowed);
    move_gate(true);
    fd = full_listener(INADDR_LOOPBACK + 1, &r.up.port, fillers);
    start_to(&r, &first, "silent.example", true, 3000000);
    turn_until(&r, &first.done);
    assert_int_equal(first.code, ERR_OK);
    assert_true(first.timing.connected_us >= 200000); /* the first address had its time for itself */
    assert_true(first.timing.connected_us < 1400000); /* and then no more of it */
    buf_release(&first.body);
    move_gate(false);
    for (int i = 0; i < 2; i++) /* both at once, so that one needs a new connection */
        start_to(&r, &next[i], "silent.example", true, 3000000);
    turn_until_count(&r, &r.up.requests, 3);
    move_gate(true);
    for (int i = 0; i < 2; i++) {
        turn_until(&r, &next[i].done);
        assert_int_equal(next[i].code, ERR_OK);
        assert_true(next[i].timing.connected_us < 1000000);
        buf_release(&next[i].body);
    }
    assert_int_equal(atomic_load(&r.up.connections), 2);
    for (int i = 0; i < 8; i++)
        close(fillers[i]);
    close(fd);
    close_rig(&r);
}

static void test_addresses_that_are_dialled_together_are_given_up_together(void **state)
{
    struct probe late = {0}, cancelled = {0};
    int fillers[2][8], fd[2];
    struct rig r;

    (void)state;
    open_rig_with_names(&r, answers_everything);
    for (unsigned i = 0; i < 2; i++)
        fd[i] = full_listener(INADDR_LOOPBACK + 1 + i, &r.up.port, fillers[i]);
    start_to(&r, &late, "holes.example", true, 600000);
    start_to(&r, &cancelled, "holes.example", true, 20000000);
    turn_for(&r, 400000);
    client_cancel(cancelled.call);
    turn_until(&r, &late.done);
    assert_int_equal(late.code, ERR_UP_TIMEOUT);
    assert_string_equal(late.detail, "no connection within 600 ms");
    start_to(&r, &late, "holes.example", true, 20000000);
    turn_for(&r, 300000);
    for (int i = 0; i < 16; i++)
        close(fillers[i / 8][i % 8]);
    close(fd[0]);
    close(fd[1]);
    close_rig(&r); /* with two dials running */
}

static void test_a_name_is_looked_up_once_for_many_calls(void **state)
{
    struct rig r;
    struct probe p[20] = {0};

    (void)state;
    open_rig_with_names(&r, answers_everything);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 10; i++)
            start_to(&r, &p[round * 10 + i], round ? "INSIDE.example" : "inside.example", true, 20000000);
    for (int i = 0; i < 20; i++) {
        turn_until(&r, &p[i].done);
        assert_int_equal(p[i].code, ERR_OK);
        buf_release(&p[i].body);
    }
    assert_int_equal(atomic_load(&lookups), 1);
    assert_int_equal(client_stats_mt(r.client).dns_lookups, 1);
    close_rig(&r);
}

static void test_a_black_holed_name_delays_nobody_and_is_cancelled_at_once(void **state)
{
    struct rig r;
    struct probe hung = {0}, given_up = {0};

    (void)state;
    open_rig_with_names(&r, answers_everything);
    start_to(&r, &hung, "hole.example", true, 20000000);
    start_to(&r, &given_up, "hole.example", true, 100000);
    turn_until_count(&r, &lookups, 1);
    for (int i = 0; i < 20; i++) {
        struct probe p = {0};

        start_to(&r, &p, i % 2 ? "inside.example" : "127.0.0.1", true, 20000000);
        turn_until(&r, &p.done);
        assert_int_equal(p.code, ERR_OK);
        buf_release(&p.body);
    }
    turn_until(&r, &given_up.done);
    assert_int_equal(given_up.code, ERR_UP_DNS);
    assert_string_equal(given_up.detail, "'hole.example' not resolved within 100 ms");
    client_cancel(hung.call);
    assert_int_equal(client_stats_mt(r.client).in_flight, 0);
    assert_false(atomic_load(&hole_is_open)); /* it hung all the time */
    close_rig(&r);                            /* and does not hold the client's end up */
    atomic_store(&hole_is_open, true);
    assert_int_equal(hung.done, 0);
}

static void test_a_late_answer_of_dns_serves_those_who_still_wait(void **state)
{
    struct rig r;
    struct probe p = {0};

    (void)state;
    open_rig_with_names(&r, answers_everything);
    start_to(&r, &p, "hole.example", true, 20000000);
    turn_until_count(&r, &lookups, 1);
    turn_for(&r, 50000);
    atomic_store(&hole_is_open, true);
    turn_until(&r, &p.done);
    assert_int_equal(p.code, ERR_OK);
    buf_release(&p.body);
    close_rig(&r);
}

/* ---- many ---- */

static void test_many_calls_run_at_once_and_reuse_connections_later(void **state)
{
    enum { N = 300 };
    static struct probe p[N];
    struct rig r;

    (void)state;
    open_rig(&r, answers_when_allowed);
    for (int round = 0; round < 2; round++) {
        memset(p, 0, sizeof(p));
        move_gate(false);
        for (int i = 0; i < N; i++)
            start(&r, &p[i]);
        turn_until_count(&r, &r.up.requests, N * (round + 1));
        assert_int_equal(client_stats_mt(r.client).in_flight, N);
        move_gate(true);
        for (int i = 0; i < N; i++) {
            turn_until(&r, &p[i].done);
            assert_int_equal(p[i].code, ERR_OK);
            buf_release(&p[i].body);
        }
    }
    assert_int_equal(atomic_load(&r.up.connections), N);
    close_rig(&r);
}

static void starts_the_next(struct probe *p)
{
    if (p->done < 500)
        start(p->rig, p);
    else
        loop_stop(p->rig->loop);
    buf_clear(&p->body);
}

static void test_a_call_may_be_started_from_the_end_of_another(void **state)
{
    struct rig r;
    struct probe p = {.in_done = starts_the_next};

    (void)state;
    open_rig(&r, answers_everything);
    start(&r, &p);
    loop_run(r.loop);
    assert_int_equal(p.done, 500);
    assert_int_equal(atomic_load(&r.up.connections), 1);
    buf_release(&p.body);
    close_rig(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_brings_status_headers_and_body),
        cmocka_unit_test(test_calls_share_a_connection_and_never_call_back_from_inside_start),
        cmocka_unit_test(test_a_connection_that_dies_under_a_request_is_not_sent_the_request_again),
        cmocka_unit_test(test_as_many_requests_arrive_as_calls_were_made_whatever_dies),
        cmocka_unit_test(test_a_connection_that_was_closed_while_idle_is_replaced),
        cmocka_unit_test(test_what_arrives_on_an_idle_connection_is_nobodys_answer),
        cmocka_unit_test(test_the_request_is_what_was_asked_for_and_nothing_is_added_but_framing),
        cmocka_unit_test(test_a_get_has_no_body_and_a_handle_changes_between_methods),
        cmocka_unit_test(test_header_lines_that_would_split_or_reframe_a_request_are_refused),
        cmocka_unit_test(test_urls_that_hide_something_are_refused),
        cmocka_unit_test(test_a_large_body_arrives_whole_and_without_waiting_for_a_continue),
        cmocka_unit_test(test_a_body_may_be_taken_back_when_the_answer_to_all_of_it_comes),
        cmocka_unit_test(test_a_body_that_is_still_on_its_way_is_not_given_back),
        cmocka_unit_test(test_proxy_variables_are_ignored_even_when_set_later),
        cmocka_unit_test(test_a_refused_connection_is_reported_and_nothing_was_sent),
        cmocka_unit_test(test_the_connect_deadline_ends_a_connection_that_never_stands),
        cmocka_unit_test(test_a_name_that_leads_inside_is_blocked_unless_the_provider_may),
        cmocka_unit_test(test_an_address_that_is_silent_delays_one_call_and_not_the_next),
        cmocka_unit_test(test_addresses_that_are_dialled_together_are_given_up_together),
        cmocka_unit_test(test_a_name_is_looked_up_once_for_many_calls),
        cmocka_unit_test(test_a_black_holed_name_delays_nobody_and_is_cancelled_at_once),
        cmocka_unit_test(test_a_late_answer_of_dns_serves_those_who_still_wait),
        cmocka_unit_test(test_many_calls_run_at_once_and_reuse_connections_later),
        cmocka_unit_test(test_a_call_may_be_started_from_the_end_of_another),
    };

    (void)setenv("HTTPS_PROXY", "http://127.0.0.1:1", 1);
    client_global_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
