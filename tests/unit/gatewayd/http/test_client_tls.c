/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "tests/unit/gatewayd/http/client_rig.h"

/* A certificate that signs itself, for one name, in a file that serves as the CA file. */
struct identity {
    EVP_PKEY *key;
    X509 *cert;
    char path[64];
};

static void make_identity(struct identity *id, const char *names, long days)
{
    X509V3_CTX ctx;
    X509_EXTENSION *ext;
    FILE *f;
    int fd;

    id->key = EVP_EC_gen("P-256");
    id->cert = X509_new();
    assert_non_null(id->cert);
    (void)X509_set_version(id->cert, 2);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(id->cert), 1);
    (void)X509_gmtime_adj(X509_getm_notBefore(id->cert), -2 * 86400);
    (void)X509_gmtime_adj(X509_getm_notAfter(id->cert), days * 86400);
    (void)X509_NAME_add_entry_by_txt(X509_get_subject_name(id->cert), "CN", MBSTRING_ASC,
                                     (const unsigned char *)"test", -1, -1, 0);
    (void)X509_set_issuer_name(id->cert, X509_get_subject_name(id->cert));
    (void)X509_set_pubkey(id->cert, id->key);
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, id->cert, id->cert, NULL, NULL, 0);
    ext = X509V3_EXT_conf_nid(NULL, &ctx, NID_subject_alt_name, names);
    (void)X509_add_ext(id->cert, ext, -1);
    X509_EXTENSION_free(ext);
    assert_true(X509_sign(id->cert, id->key, EVP_sha256()) > 0);
    (void)snprintf(id->path, sizeof(id->path), "/tmp/gatewayd-test-ca.XXXXXX");
    fd = mkstemp(id->path);
    assert_true(fd >= 0);
    f = fdopen(fd, "w");
    (void)PEM_write_X509(f, id->cert);
    (void)fclose(f);
}

static void drop_identity(struct identity *id)
{
    (void)unlink(id->path);
    X509_free(id->cert);
    EVP_PKEY_free(id->key);
}

static SSL_CTX *server_ctx;
static atomic_int resumed;
static atomic_bool is_held;

static SSL_CTX *make_server(const struct identity *id, int version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    (void)SSL_CTX_use_certificate(ctx, id->cert);
    (void)SSL_CTX_use_PrivateKey(ctx, id->key);
    (void)SSL_CTX_set_min_proto_version(ctx, version == TLS1_1_VERSION ? TLS1_1_VERSION : TLS1_2_VERSION);
    if (version)
        (void)SSL_CTX_set_max_proto_version(ctx, version);
    SSL_CTX_set_security_level(ctx, version == TLS1_1_VERSION ? 0 : 1);
    (void)SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"t", 1);
    return ctx;
}

static void answers_over_tls(struct peer *p)
{
    SSL *ssl = SSL_new(server_ctx);
    char in[16384];
    bool is_open;

    (void)SSL_set_fd(ssl, p->fd);
    is_open = SSL_accept(ssl) == 1;
    if (is_open && SSL_session_reused(ssl))
        atomic_fetch_add(&resumed, 1);
    while (is_open && SSL_read(ssl, in, sizeof(in)) > 0) {
        atomic_fetch_add(&p->up->requests, 1);
        while (atomic_load(&is_held))
            usleep(1000);
        is_open = SSL_write(ssl, ANSWER, sizeof(ANSWER) - 1) > 0 &&
                  p->number > 0; /* the first connection is for one request */
    }
    (void)SSL_shutdown(ssl);
    SSL_free(ssl);
}

static struct probe call_tls(struct rig *r, const char *host)
{
    struct probe p = {.rig = r};
    char url[128];
    struct client_request rq = request_to(r, url, host, &p);

    (void)snprintf(url, sizeof(url), "https://%s:%u/v1", host, r->up.port);
    p.call = client_start(r->client, &rq);
    turn_until(r, &p.done);
    return p;
}

static void open_tls_rig(struct rig *r, const struct identity *server, const struct identity *trusted,
                         int version)
{
    atomic_store(&resumed, 0);
    atomic_store(&is_held, false);
    server_ctx = make_server(server, version);
    open_rig_trusting(r, answers_over_tls, trusted ? trusted->path : NULL);
}

static void close_tls_rig(struct rig *r)
{
    close_rig(r);
    SSL_CTX_free(server_ctx);
}

static void start_tls(struct rig *r, struct probe *p)
{
    char url[128];
    struct client_request rq = request_to(r, url, "localhost", p);

    (void)snprintf(url, sizeof(url), "https://localhost:%u/v1", r->up.port);
    p->rig = r;
    p->call = client_start(r->client, &rq);
}

static void test_a_trusted_provider_is_served_and_its_sessions_are_everyones(void **state)
{
    struct probe first, p[2] = {0};
    struct identity id;
    struct rig r;

    (void)state;
    make_identity(&id, "DNS:localhost,IP:127.0.0.1", 10);
    open_tls_rig(&r, &id, &id, 0);
    first = call_tls(&r, "localhost");
    assert_int_equal(first.code, ERR_OK);
    assert_string_equal(first.body.p, "hello");
    turn_until_count(&r, &r.up.ended, 1); /* its connection was for one request */
    atomic_store(&is_held, true);
    start_tls(&r, &p[0]);
    turn_until_count(&r, &r.up.requests, 2);
    start_tls(&r, &p[1]); /* the first handle is busy, so this one is new */
    turn_until_count(&r, &r.up.requests, 3);
    atomic_store(&is_held, false);
    for (int i = 0; i < 2; i++) {
        turn_until(&r, &p[i].done);
        assert_int_equal(p[i].code, ERR_OK);
        assert_false(p[i].timing.is_reused);
        buf_release(&p[i].body);
    }
    assert_int_equal(atomic_load(&r.up.connections), 3);
    assert_int_equal(atomic_load(&resumed), 2);
    p[0] = call_tls(&r, "localhost");
    assert_true(p[0].timing.is_reused);
    buf_release(&p[0].body);
    buf_release(&first.body);
    close_tls_rig(&r);
    drop_identity(&id);
}

static void test_a_literal_address_is_proven_by_an_address(void **state)
{
    static const struct {
        const char *names;
        enum err_code code;
    } CASES[] = {{"IP:127.0.0.1", ERR_OK},
                 {"IP:127.0.0.2", ERR_UP_TLS},
                 {"DNS:127.0.0.1", ERR_UP_TLS},
                 {"DNS:*.0.0.1", ERR_UP_TLS}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct identity id;
        struct probe p;
        struct rig r;

        make_identity(&id, CASES[i].names, 10);
        open_tls_rig(&r, &id, &id, 0);
        p = call_tls(&r, "127.0.0.1");
        assert_int_equal(p.code, CASES[i].code);
        buf_release(&p.body);
        close_tls_rig(&r);
        drop_identity(&id);
    }
}

static void test_a_provider_that_cannot_prove_itself_gets_no_request(void **state)
{
    static const struct {
        const char *names;
        long days;
        bool is_trusted;
        int version;
    } CASES[] = {
        {"DNS:localhost", 10, false, 0},             /* unknown to us */
        {"DNS:elsewhere.example", 10, true, 0},      /* another's name */
        {"DNS:localhost", -1, true, 0},              /* expired */
        {"DNS:localhost", 10, true, TLS1_1_VERSION}, /* too old a protocol */
        {"DNS:local*", 10, true, 0},                 /* half a wildcard */
        {"DNS:*", 10, true, 0},
        {"IP:127.0.0.1", 10, true, 0}, /* the address of a name is not the name */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct identity id;
        struct probe p;
        struct rig r;

        make_identity(&id, CASES[i].names, CASES[i].days);
        open_tls_rig(&r, &id, CASES[i].is_trusted ? &id : NULL, CASES[i].version);
        p = call_tls(&r, "localhost");
        if (p.code != ERR_UP_TLS)
            print_error("case %zu: %s (%s)\n", i, err_row(p.code)->name, p.detail);
        assert_int_equal(p.code, ERR_UP_TLS);
        assert_false(p.timing.was_sent);
        assert_int_equal(atomic_load(&r.up.requests), 0);
        close_tls_rig(&r);
        drop_identity(&id);
    }
}

/* ---- what TLS allows to happen later ---- */

enum turn_of_events {
    TICKET_AFTER,
    KEY_UPDATE_AFTER,
    ALERT_AFTER,
    GOODBYE_AFTER,
    BYTES_AFTER,
    TICKETS_FOR_EVER,
    KEY_UPDATES_FOR_EVER,
    EMPTY_RECORDS_FOR_EVER,
    RENEGOTIATION,
};
static enum turn_of_events events;
static atomic_int went_on; /* the test lets the script go on */
static atomic_int acted;

static void act(struct peer *p, SSL *ssl)
{
    static const unsigned char ALERT[] = {21, 3, 3, 0, 2, 2, 40};

    switch (events) {
    case TICKET_AFTER:
        (void)SSL_new_session_ticket(ssl);
        (void)SSL_do_handshake(ssl);
        break;
    case KEY_UPDATE_AFTER:
        (void)SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
        (void)SSL_do_handshake(ssl);
        break;
    case ALERT_AFTER:
        (void)peer_send(p, (const char *)ALERT, sizeof(ALERT));
        break;
    case GOODBYE_AFTER:
        (void)SSL_shutdown(ssl);
        break;
    case BYTES_AFTER:
        (void)SSL_write(ssl, ANSWER, sizeof(ANSWER) - 1);
        break;
    default:
        break;
    }
}

/* OpenSSL does not mind that a ticket cannot be sent. */
static bool is_gone(struct peer *p)
{
    char c;
    ssize_t n = recv(p->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);

    return n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK);
}

static bool torments(struct peer *p, SSL *ssl)
{
    static const unsigned char EMPTY[] = {23, 3, 3, 0, 0};

    switch (events) {
    case TICKETS_FOR_EVER:
        while (!is_gone(p) && SSL_new_session_ticket(ssl) == 1 && SSL_do_handshake(ssl) == 1)
            ;
        return false;
    case KEY_UPDATES_FOR_EVER:
        while (SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 && SSL_do_handshake(ssl) == 1)
            ;
        return false;
    case EMPTY_RECORDS_FOR_EVER:
        while (peer_send(p, (const char *)EMPTY, sizeof(EMPTY)))
            ;
        return false;
    case RENEGOTIATION:
        (void)SSL_renegotiate(ssl);
        (void)SSL_do_handshake(ssl); /* only asks */
        return true;
    default:
        return true;
    }
}

static void serves_and_acts(struct peer *p)
{
    SSL *ssl = SSL_new(server_ctx);
    char in[16384];
    bool is_open;

    (void)SSL_set_fd(ssl, p->fd);
    is_open = SSL_accept(ssl) == 1;
    while (is_open && SSL_read(ssl, in, sizeof(in)) > 0) {
        atomic_fetch_add(&p->up->requests, 1);
        is_open = (p->number || torments(p, ssl)) && SSL_write(ssl, ANSWER, sizeof(ANSWER) - 1) > 0;
        if (!is_open || p->number)
            continue;
        while (!atomic_load(&went_on) && !atomic_load(&p->up->is_stopping))
            usleep(1000);
        act(p, ssl);
        events = RENEGOTIATION + 1; /* once */
        atomic_store(&acted, 1);
    }
    SSL_free(ssl);
}

static void open_eventful_rig(struct rig *r, struct identity *id, enum turn_of_events e, int version)
{
    events = e;
    atomic_store(&went_on, 0);
    atomic_store(&acted, 0);
    make_identity(id, "DNS:localhost", 10);
    server_ctx = make_server(id, version);
    open_rig_trusting(r, serves_and_acts, id->path);
}

static void test_what_comes_on_an_idle_connection_ends_it_unless_tls_talks_to_itself(void **state)
{
    static const struct {
        enum turn_of_events events;
        bool is_kept;
    } CASES[] = {{TICKET_AFTER, true},
                 {KEY_UPDATE_AFTER, true},
                 {ALERT_AFTER, false},
                 {GOODBYE_AFTER, false},
                 {BYTES_AFTER, false}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct probe first, second;
        struct identity id;
        struct rig r;

        open_eventful_rig(&r, &id, CASES[i].events, TLS1_3_VERSION);
        first = call_tls(&r, "localhost");
        assert_int_equal(first.code, ERR_OK);
        atomic_store(&went_on, 1);
        turn_until_count(&r, &acted, 1);
        turn_for(&r, 50000);
        second = call_tls(&r, "localhost");
        if (second.timing.is_reused != CASES[i].is_kept)
            print_error("case %zu\n", i);
        assert_int_equal(second.code, ERR_OK);
        assert_int_equal(second.timing.is_reused, CASES[i].is_kept);
        assert_string_equal(second.body.p, "hello");
        buf_release(&first.body);
        buf_release(&second.body);
        close_tls_rig(&r);
        drop_identity(&id);
    }
}

static void test_a_provider_cannot_hold_the_thread_with_tls_itself(void **state)
{
    static const enum turn_of_events FOR_EVER[] = {TICKETS_FOR_EVER, KEY_UPDATES_FOR_EVER,
                                                   EMPTY_RECORDS_FOR_EVER};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(FOR_EVER); i++) {
        struct identity id;
        struct probe p;
        struct rig r;

        open_eventful_rig(&r, &id, FOR_EVER[i], TLS1_3_VERSION);
        p = call_tls(&r, "localhost");
        assert_true(p.code == ERR_UP_RESET || p.code == ERR_UP_CUT);
        assert_false(p.headers_seen);
        close_tls_rig(&r);
        drop_identity(&id);
    }
}

static void test_a_wish_to_negotiate_again_is_declined_and_the_answer_read(void **state)
{
    struct identity id;
    struct probe p;
    struct rig r;

    (void)state;
    open_eventful_rig(&r, &id, RENEGOTIATION, TLS1_2_VERSION);
    p = call_tls(&r, "localhost");
    assert_int_equal(p.done, 1); /* the server may take the refusal as it likes */
    assert_true(p.code == ERR_OK || p.code == ERR_UP_RESET || p.code == ERR_UP_CUT);
    buf_release(&p.body);
    close_tls_rig(&r);
    drop_identity(&id);
}

/* ---- an end that was not said ---- */

static const char *cut_text;

static void says_and_cuts(struct peer *p)
{
    SSL *ssl = SSL_new(server_ctx);
    char in[16384];

    (void)SSL_set_fd(ssl, p->fd);
    if (SSL_accept(ssl) == 1 && SSL_read(ssl, in, sizeof(in)) > 0)
        (void)SSL_write(ssl, cut_text, (int)strlen(cut_text));
    (void)shutdown(p->fd, SHUT_WR);
    peer_wait_for_close(p);
    SSL_free(ssl);
}

static void test_an_end_that_tls_did_not_say_is_only_believed_where_the_framing_says_it(void **state)
{
    static const struct {
        const char *text;
        enum err_code code;
    } CASES[] = {
        {OK_HEAD "Content-Length: 5\r\n\r\nhello", ERR_OK},
        {OK_HEAD "\r\nhello", ERR_UP_CUT}, /* someone on the way may have cut it */
        {OK_HEAD "Content-Length: 9\r\n\r\nhello", ERR_UP_CUT},
        {CHUNKED "5\r\nhello\r\n", ERR_UP_CUT},
        {OK_HEAD "X: ", ERR_UP_CUT},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct identity id;
        struct probe p;
        struct rig r;

        cut_text = CASES[i].text;
        make_identity(&id, "DNS:localhost", 10);
        server_ctx = make_server(&id, 0);
        open_rig_trusting(&r, says_and_cuts, id.path);
        p = call_tls(&r, "localhost");
        if (p.code != CASES[i].code)
            print_error("case %zu: %s (%s)\n", i, err_row(p.code)->name, p.detail);
        assert_int_equal(p.code, CASES[i].code);
        buf_release(&p.body);
        close_tls_rig(&r);
        drop_identity(&id);
    }
}

/* ---- large bodies ---- */

#define LARGE ((size_t)3 << 20)

static void echoes_the_sum(struct peer *p)
{
    SSL *ssl = SSL_new(server_ctx);
    size_t head = 0, body = 0;
    char in[16384], *end = NULL, *out;
    int n, len;

    (void)SSL_set_fd(ssl, p->fd);
    out = malloc(LARGE + 256);
    memset(out, 'z', LARGE + 256);
    len = snprintf(out, 256, OK_HEAD "Content-Length: %zu\r\n\r\n", LARGE);
    out[len] = 'z';
    if (SSL_accept(ssl) == 1)
        while (body < LARGE && (n = SSL_read(ssl, in + head, (int)(sizeof(in) - 1 - head))) > 0) {
            in[head + (size_t)n] = '\0';
            if (end) {
                body += (size_t)n;
            } else if ((end = strstr(in, "\r\n\r\n"))) {
                body = head + (size_t)n - (size_t)(end + 4 - in);
                head = 0;
            } else {
                head += (size_t)n;
            }
        }
    if (body == LARGE)
        (void)SSL_write(ssl, out, (int)((size_t)len + LARGE));
    free(out);
    peer_wait_for_close(p);
    SSL_free(ssl);
}

static void test_bodies_of_many_records_arrive_whole_both_ways_and_through_a_pause(void **state)
{
    char url[128], *big = calloc(1, LARGE);
    struct probe p = {.pauses_once = true};
    struct client_request rq;
    struct identity id;
    struct rig r;
    int resumes = 0;

    (void)state;
    make_identity(&id, "DNS:localhost", 10);
    server_ctx = make_server(&id, 0);
    open_rig_trusting(&r, echoes_the_sum, id.path);
    rq = request_to(&r, url, "localhost", &p);
    (void)snprintf(url, sizeof(url), "https://localhost:%u/v1", r.up.port);
    rq.body = span_make(big, LARGE);
    p.call = client_start(r.client, &rq);
    while (!p.done) {
        loop_turn(r.loop, 20);
        if (p.pauses && !resumes++) {
            turn_for(&r, 30000);
            client_resume(p.call);
        }
    }
    assert_int_equal(p.code, ERR_OK);
    assert_int_equal(p.body.len, LARGE);
    assert_null(memchr(p.body.p, '\0', p.body.len));
    free(big);
    buf_release(&p.body);
    close_tls_rig(&r);
    drop_identity(&id);
}

static void says_it_speaks_no_tls(struct peer *p)
{
    char in[4096];

    if (recv(p->fd, in, sizeof(in), 0) > 0)
        (void)peer_say(p, "HTTP/1.1 400 Bad Request\r\n\r\n");
}

static void test_a_provider_without_tls_is_a_tls_error(void **state)
{
    struct probe p;
    struct rig r;

    (void)state;
    open_rig(&r, says_it_speaks_no_tls);
    p = call_tls(&r, "127.0.0.1");
    assert_int_equal(p.code, ERR_UP_TLS);
    assert_false(p.timing.was_sent);
    close_rig(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_trusted_provider_is_served_and_its_sessions_are_everyones),
        cmocka_unit_test(test_a_provider_that_cannot_prove_itself_gets_no_request),
        cmocka_unit_test(test_a_literal_address_is_proven_by_an_address),
        cmocka_unit_test(test_a_provider_without_tls_is_a_tls_error),
        cmocka_unit_test(test_what_comes_on_an_idle_connection_ends_it_unless_tls_talks_to_itself),
        cmocka_unit_test(test_a_provider_cannot_hold_the_thread_with_tls_itself),
        cmocka_unit_test(test_a_wish_to_negotiate_again_is_declined_and_the_answer_read),
        cmocka_unit_test(test_an_end_that_tls_did_not_say_is_only_believed_where_the_framing_says_it),
        cmocka_unit_test(test_bodies_of_many_records_arrive_whole_both_ways_and_through_a_pause),
    };

    client_global_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
