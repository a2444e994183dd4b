/* SPDX-License-Identifier: Apache-2.0 */
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
        cmocka_unit_test(test_a_provider_without_tls_is_a_tls_error),
    };

    client_global_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
