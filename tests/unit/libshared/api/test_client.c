/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/api/client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/cm.h"

/* Answers one connection with a text and keeps what it was sent. */
struct server {
    int fd;
    const char *answer;
    char request[4096];
    pthread_t thread;
};

static void *serve(void *user)
{
    struct server *s = user;
    int c = accept(s->fd, NULL, NULL);
    size_t n = 0;
    ssize_t got;

    while (c >= 0 && !strstr(s->request, "\r\n\r\n") &&
           (got = read(c, s->request + n, sizeof(s->request) - 1 - n)) > 0)
        n += (size_t)got;
    if (s->answer)
        (void)!write(c, s->answer, strlen(s->answer));
    else
        (void)!read(c, s->request + n, 1); /* until the client goes away */
    (void)close(c);
    return NULL;
}

static void start(struct server *s, const char *answer)
{
    s->answer = answer;
    memset(s->request, 0, sizeof(s->request));
    assert_int_equal(listen(s->fd, 4), 0);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void start_tcp(struct server *s, const char *answer, char url[64])
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);

    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &len), 0);
    (void)snprintf(url, 64, "http://127.0.0.1:%u", ntohs(a.sin_port));
    start(s, answer);
}

static void stop(struct server *s)
{
    (void)pthread_join(s->thread, NULL);
    (void)close(s->fd);
}

static struct api_client *client(const char *url, const char *token, long timeout_ms)
{
    struct err err = {0};
    struct api_client *c = api_client_new(
        &(struct api_client_options){.url = url, .token = span_of(token), .timeout_ms = timeout_ms}, &err);

    if (!c)
        fail_msg("%s", err_text(&err));
    return c;
}

static void test_a_call_brings_status_headers_and_body(void **state)
{
    struct server s;
    struct api_answer a = {0};
    struct api_client *c;
    char url[64];

    (void)state;
    (void)setenv("http_proxy", "http://127.0.0.1:1", 1); /* is not asked */
    start_tcp(&s, "HTTP/1.1 404 Not Found\r\nX-One:  two \r\nContent-Length: 2\r\n\r\nno", url);
    c = client(url, "sesame", 5000);
    assert_int_equal(api_client_call(c, "POST", "/a?b=c", SPAN_LIT("{}"), &a, NULL), ERR_OK);
    stop(&s);
    assert_int_equal(a.status, 404);
    assert_true(span_is(buf_span(&a.body), "no"));
    assert_true(span_is(api_answer_header(&a, "x-one"), "two"));
    assert_null(api_answer_header(&a, "x").p);
    assert_non_null(strstr(s.request, "POST /a?b=c HTTP/1.1\r\n"));
    assert_non_null(strstr(s.request, "Authorization: Bearer sesame\r\n"));
    assert_non_null(strstr(s.request, "Content-Type: application/json\r\n"));
    api_answer_release(&a);
    api_client_free(c);
    (void)unsetenv("http_proxy");
}

static void test_a_unix_socket_is_an_address(void **state)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct server s = {.fd = socket(AF_UNIX, SOCK_STREAM, 0)};
    struct api_answer answer = {0};
    struct api_client *c;
    char url[128];

    (void)state;
    (void)snprintf(a.sun_path, sizeof(a.sun_path), "/tmp/gatewayd-unit-client-%d.sock", (int)getpid());
    assert_int_equal(bind(s.fd, (struct sockaddr *)&a, sizeof(a)), 0);
    start(&s, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    (void)snprintf(url, sizeof(url), "unix:%s", a.sun_path);
    c = client(url, "", 5000);
    assert_int_equal(api_client_call(c, "GET", "/x", (struct span){0}, &answer, NULL), ERR_OK);
    stop(&s);
    (void)unlink(a.sun_path);
    assert_true(span_is(buf_span(&answer.body), "ok"));
    assert_null(strstr(s.request, "Authorization"));
    api_answer_release(&answer);
    api_client_free(c);
}

static void test_failures_are_told_apart(void **state)
{
    struct api_answer a = {0};
    struct api_client *c = client("http://127.0.0.1:1", "", 2000);
    struct server s;
    char url[64];

    (void)state;
    assert_int_equal(api_client_call(c, "GET", "/", (struct span){0}, &a, NULL), ERR_UP_CONNECT);
    api_client_free(c);
    c = client("unix:/nonexistent/socket", "", 2000);
    assert_int_equal(api_client_call(c, "GET", "/", (struct span){0}, &a, NULL), ERR_UP_CONNECT);
    api_client_free(c);

    start_tcp(&s, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf", url);
    c = client(url, "", 5000);
    assert_int_equal(api_client_call(c, "GET", "/", (struct span){0}, &a, NULL), ERR_UP_CUT);
    api_client_free(c);
    stop(&s);

    start_tcp(&s, NULL, url); /* never answers */
    c = client(url, "", 100);
    assert_int_equal(api_client_call(c, "GET", "/", (struct span){0}, &a, NULL), ERR_UP_TIMEOUT);
    api_client_free(c);
    stop(&s);
    api_answer_release(&a);
}

static void test_a_call_can_be_ended_early(void **state)
{
    static _Atomic int is_over = 1;
    struct api_answer a = {0};
    struct api_client *c;
    struct server s;
    char url[64];

    (void)state;
    start_tcp(&s, NULL, url);
    c = api_client_new(&(struct api_client_options){.url = url, .is_over = &is_over}, NULL);
    assert_int_equal(api_client_call(c, "GET", "/", (struct span){0}, &a, NULL), ERR_CLIENT_GONE);
    api_client_free(c);
    (void)shutdown(s.fd, SHUT_RDWR); /* should it never have been connected to */
    stop(&s);
    api_answer_release(&a);
}

static void test_a_socket_that_this_user_may_not_reach_is_not_called_dead(void **state)
{
    char dir[] = "/tmp/test-client-XXXXXX", url[64];
    uid_t me = geteuid();
    struct err err = {0};
    struct api_answer a = {0};
    struct api_client *c;

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chmod(dir, 0), 0);
    (void)snprintf(url, sizeof(url), "unix:%s/admin.sock", dir);
    c = api_client_new(&(struct api_client_options){.url = url}, &err);
    assert_int_equal(seteuid(me ? me : 65534), 0);
    assert_int_equal(api_client_call(c, "GET", "/", (struct span){0}, &a, &err), ERR_FORBIDDEN);
    assert_int_equal(seteuid(me), 0);
    assert_int_equal(rmdir(dir), 0);
    api_answer_release(&a);
    api_client_free(c);
}

static void test_what_is_no_address_or_token_is_refused(void **state)
{
    static const char *const URLS[] = {"",
                                       "ftp://x",
                                       "unix:",
                                       "unix:relative",
                                       "127.0.0.1:80",
                                       "http://x/?q",
                                       "http://a b",
                                       "file:///etc/passwd",
                                       "http://a\r\nb"};
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(URLS); i++) {
        assert_null(api_client_new(&(struct api_client_options){.url = URLS[i]}, &err));
        assert_int_equal(err.code, ERR_CONFIG);
    }
    assert_null(api_client_new(
        &(struct api_client_options){.url = "http://x", .token = SPAN_LIT("a\r\nX: y")}, &err));
    assert_null(strstr(err.text, "X: y"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_brings_status_headers_and_body),
        cmocka_unit_test(test_a_unix_socket_is_an_address),
        cmocka_unit_test(test_failures_are_told_apart),
        cmocka_unit_test(test_a_call_can_be_ended_early),
        cmocka_unit_test(test_a_socket_that_this_user_may_not_reach_is_not_called_dead),
        cmocka_unit_test(test_what_is_no_address_or_token_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
