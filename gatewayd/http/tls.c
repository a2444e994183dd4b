/* SPDX-License-Identifier: Apache-2.0 */
/* The one home of openssl/ssl.h. A context belongs to its loop's thread, as do all connections made from it.
 *
 * OpenSSL keeps errors in a queue of the thread: it is emptied before each call, so that what is found afterwards is of that
 * call. An end of file without a close alert is an error of its own in OpenSSL 3; here it is IO_CUT, since only the reader
 * of the protocol knows whether something is missing. */
#include "gatewayd/http/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "gatewayd/config/limits.h"
#include "gatewayd/http/address.h"

struct tls_context {
    SSL_CTX *ctx;
};

struct tls {
    SSL *ssl;
    struct tls_ticket *ticket;
    unsigned asides; /* messages of TLS itself since bytes were read */
    bool is_established, is_broken;
    char error[160];
};

/* OpenSSL takes tickets, key updates and wishes to renegotiate in a loop of its own: without an end to them the thread would not
 * come back. */
static void on_message(int is_ours, int version, int type, const void *bytes, size_t len, SSL *ssl, void *arg)
{
    struct tls *t = SSL_get_app_data(ssl);

    (void)version, (void)bytes, (void)len, (void)arg;
    if (!is_ours && type == SSL3_RT_HANDSHAKE && t->is_established && ++t->asides > LIMIT_UPSTREAM_ASIDES)
        (void)shutdown(SSL_get_fd(ssl), SHUT_RDWR);
}

/* Tickets of TLS 1.3 come after the handshake, whenever the peer likes. */
static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls *t = SSL_get_app_data(ssl);

    SSL_SESSION_free(t->ticket->session);
    t->ticket->session = session;
    return 1; /* it is ours now */
}

static bool trust(SSL_CTX *ctx, const char *ca_file)
{
    return ca_file ? SSL_CTX_load_verify_file(ctx, ca_file) == 1 : SSL_CTX_set_default_verify_paths(ctx) == 1;
}

struct tls_context *tls_context_new(const char *ca_file, struct err *err)
{
    static const unsigned char HTTP_1_1[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
    struct tls_context *c = calloc(1, sizeof(*c));

    ERR_clear_error();
    if (c)
        c->ctx = SSL_CTX_new(TLS_client_method());
    if (!c || !c->ctx || SSL_CTX_set_min_proto_version(c->ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_alpn_protos(c->ctx, HTTP_1_1, sizeof(HTTP_1_1)) != 0) {
        (void)err_set(err, ERR_NO_MEMORY, "http client: TLS could not be set up");
        tls_context_free(c);
        return NULL;
    }
    if (!trust(c->ctx, ca_file)) {
        (void)err_set(err, ERR_CONFIG, "certificates to trust: '%s' cannot be read",
                      ca_file ? ca_file : "the system's");
        tls_context_free(c);
        return NULL;
    }
    SSL_CTX_set_verify(c->ctx, SSL_VERIFY_PEER, NULL);
    (void)SSL_CTX_set_mode(c->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                       SSL_MODE_RELEASE_BUFFERS);
    (void)SSL_CTX_set_options(c->ctx, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_read_ahead(c->ctx, 1); /* else each record costs two system calls */
    (void)SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(c->ctx, on_new_session);
    SSL_CTX_set_msg_callback(c->ctx, on_message);
    ERR_clear_error();
    return c;
}

void tls_context_free(struct tls_context *c)
{
    if (!c)
        return;
    SSL_CTX_free(c->ctx);
    free(c);
}

/* Who the peer must be. A name also goes out as the server name; a literal address may not. */
static bool expect(SSL *ssl, const char *host)
{
    struct address literal;
    char name[256];
    size_t len = strlen(host);

    if (address_parse(span_of(host), &literal))
        return X509_VERIFY_PARAM_set1_ip(SSL_get0_param(ssl), literal.bytes,
                                         literal.family == AF_INET ? 4 : 16) == 1;
    if (len && host[len - 1] == '.')
        len--; /* absolute names are written without the dot in certificates */
    if (!span_copy(name, sizeof(name), span_make(host, len)))
        return false;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

struct tls *tls_new(struct tls_context *c, int fd, const char *host, struct tls_ticket *ticket)
{
    struct tls *t = calloc(1, sizeof(*t));

    ERR_clear_error();
    if (!t)
        return NULL;
    t->ticket = ticket;
    t->ssl = SSL_new(c->ctx);
    if (!t->ssl || SSL_set_fd(t->ssl, fd) != 1 || !expect(t->ssl, host)) {
        tls_free(t);
        return NULL;
    }
    SSL_set_app_data(t->ssl, t);
    SSL_set_connect_state(t->ssl);
    if (ticket->session)
        (void)SSL_set_session(t->ssl, ticket->session);
    return t;
}

void tls_free(struct tls *t)
{
    if (!t)
        return;
    if (t->is_established && !t->is_broken) {
        ERR_clear_error();
        (void)SSL_shutdown(t->ssl);
        ERR_clear_error();
    }
    SSL_free(t->ssl);
    free(t);
}

void tls_ticket_release(struct tls_ticket *t)
{
    SSL_SESSION_free(t->session);
    t->session = NULL;
}

static enum io failed(struct tls *t)
{
    long verdict = SSL_get_verify_result(t->ssl);
    unsigned long code = ERR_peek_error();

    t->is_broken = true;
    if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return IO_CUT;
    if (verdict != X509_V_OK)
        (void)snprintf(t->error, sizeof(t->error), "certificate not accepted: %s",
                       X509_verify_cert_error_string(verdict));
    else
        (void)snprintf(t->error, sizeof(t->error), "%s",
                       ERR_reason_error_string(code) ? ERR_reason_error_string(code) : "connection lost");
    return IO_ERROR;
}

static enum io judge(struct tls *t, int result)
{
    switch (SSL_get_error(t->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return IO_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return IO_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return IO_END;
    default:
        return failed(t);
    }
}

enum io tls_handshake(struct tls *t)
{
    int n;

    ERR_clear_error();
    n = SSL_do_handshake(t->ssl);
    if (n != 1)
        return judge(t, n);
    t->is_established = true;
    return IO_OK;
}

enum io tls_read(struct tls *t, char *dst, size_t cap, size_t *out_n)
{
    int n;

    *out_n = 0;
    ERR_clear_error();
    n = SSL_read_ex(t->ssl, dst, cap, out_n);
    if (n != 1)
        return judge(t, n);
    if (t->asides && !SSL_has_pending(t->ssl))
        (void)SSL_free_buffers(
            t->ssl); /* a ticket leaves 16 KiB behind, for something to write that is not coming */
    t->asides = 0;
    return IO_OK;
}

enum io tls_write(struct tls *t, struct span bytes, size_t *out_n)
{
    int n;

    *out_n = 0;
    ERR_clear_error();
    n = SSL_write_ex(t->ssl, bytes.p, bytes.len, out_n);
    return n == 1 ? IO_OK : judge(t, n);
}

bool tls_has_pending(const struct tls *t)
{
    return SSL_has_pending(t->ssl) == 1;
}

const char *tls_error(const struct tls *t)
{
    return t->error;
}
