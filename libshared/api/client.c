/* SPDX-License-Identifier: Apache-2.0 */
/* One easy handle, reused, so that the connection is. What the environment says about proxies and what ~/.netrc says
 * about passwords is not asked. */
#include "libshared/api/client.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "libshared/base/secret.h"

#define BODY_MAX   ((size_t)64 << 20)
#define HEAD_MAX   ((size_t)256 << 10)
#define TIMEOUT_MS 10000L

struct api_client {
    CURL *easy;
    char *url;    /* as given, for messages */
    char *base;   /* what paths are appended to */
    char *socket; /* or NULL */
    struct secret token;
    long timeout_ms;
    const _Atomic int *is_over;
    struct api_answer *into;
    bool is_too_large;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_once(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

static bool take_url(struct api_client *c, const char *url)
{
    size_t n = strlen(url);

    for (const char *p = url; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f)
            return false;
    c->url = strdup(url);
    if (strncmp(url, "unix:", 5) == 0) {
        c->socket = strdup(url + 5);
        c->base = strdup("http://localhost");
        return c->socket && c->socket[0] == '/' && c->base;
    }
    while (n && url[n - 1] == '/')
        n--;
    c->base = strndup(url, n);
    return c->base && (strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0) &&
           strpbrk(url, "?#") == NULL;
}

static bool token_is_sendable(struct span t)
{
    for (size_t i = 0; i < t.len; i++)
        if ((unsigned char)t.p[i] <= ' ' || t.p[i] == 0x7f)
            return false;
    return true;
}

struct api_client *api_client_new(const struct api_client_options *o, struct err *err)
{
    struct api_client *c = calloc(1, sizeof(*c));
    const char *at = strrchr(o->url, '@'); /* a password may stand before it */

    (void)pthread_once(&once, init_once);
    if (!c)
        abort();
    c->timeout_ms = o->timeout_ms ? o->timeout_ms : TIMEOUT_MS;
    c->is_over = o->is_over;
    if (!take_url(c, o->url))
        (void)err_set(err, ERR_CONFIG, "'%s%s' is no address: write http://HOST:PORT or unix:/PATH",
                      at ? "..." : "", at ? at : o->url);
    else if (!token_is_sendable(o->token))
        (void)err_set(err, ERR_CONFIG, "the token holds white space or control characters");
    else if (o->token.len && secret_set(&c->token, o->token))
        (void)err_set(err, ERR_NO_MEMORY, "out of memory");
    else if (!(c->easy = curl_easy_init()))
        (void)err_set(err, ERR_NO_MEMORY, "no HTTP client");
    else
        return c;
    api_client_free(c);
    return NULL;
}

void api_client_free(struct api_client *c)
{
    if (!c)
        return;
    curl_easy_cleanup(c->easy);
    secret_release(&c->token);
    free(c->url);
    free(c->base);
    free(c->socket);
    free(c);
}

const char *api_client_url(const struct api_client *c)
{
    return c->url;
}

void api_answer_release(struct api_answer *a)
{
    buf_release(&a->head);
    buf_release(&a->body);
    a->status = 0;
}

struct span api_answer_header(const struct api_answer *a, const char *name)
{
    struct span rest = buf_span(&a->head);

    while (rest.p) {
        struct span value = span_split(&rest, '\n');
        struct span key = span_split(&value, ':');

        if (value.p && span_eq_nocase(span_trim(key), span_of(name))) {
            if (value.len && value.p[value.len - 1] == '\r')
                value.len--;
            return span_trim(value);
        }
    }
    return (struct span){0};
}

/* ---- one call ------------------------------------------------------------------------------------------------------ */

static size_t on_body(char *p, size_t one, size_t n, void *user)
{
    struct api_client *c = user;

    if (buf_append(&c->into->body, p, one * n) == ERR_OK)
        return one * n;
    c->is_too_large = true;
    return 0;
}

/* Each answer of a series (100 Continue, then the real one) begins with its own status line. */
static size_t on_head(char *p, size_t one, size_t n, void *user)
{
    struct api_client *c = user;

    if (span_starts(span_make(p, one * n), SPAN_LIT("HTTP/")))
        buf_clear(&c->into->head);
    if (buf_append(&c->into->head, p, one * n) == ERR_OK)
        return one * n;
    c->is_too_large = true;
    return 0;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t d, curl_off_t e)
{
    const struct api_client *c = user;

    (void)a;
    (void)b;
    (void)d;
    (void)e;
    return c->is_over && *c->is_over;
}

static struct curl_slist *headers_of(struct api_client *c, bool has_body)
{
    struct span t = secret_expose(&c->token);
    struct buf line AUTO(buf_release) = {.max = 16384};
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");

    if (has_body)
        list = curl_slist_append(list, "Content-Type: application/json");
    if (t.len) {
        buf_addf(&line, "Authorization: Bearer %.*s", (int)t.len, t.p);
        list = curl_slist_append(list, line.p);
    }
    return list;
}

static enum err_code explain_connect(const struct api_client *c, struct err *err)
{
    long why = 0;

    (void)curl_easy_getinfo(c->easy, CURLINFO_OS_ERRNO, &why);
    if (!c->socket)
        return err_set(err, ERR_UP_CONNECT, "the connection was refused");
    if (why == EACCES || why == EPERM)
        return err_set(err, ERR_FORBIDDEN, "this user may not use the socket");
    return err_set(err, ERR_UP_CONNECT,
                   why == ENOENT ? "there is no such socket" : "nobody listens on the socket");
}

static enum err_code explain(const struct api_client *c, CURLcode rc, struct err *err)
{
    switch (rc) {
    case CURLE_OPERATION_TIMEDOUT:
        return err_set(err, ERR_UP_TIMEOUT, "no answer within %g s", (double)c->timeout_ms / 1000);
    case CURLE_ABORTED_BY_CALLBACK:
        return err_set(err, ERR_CLIENT_GONE, "interrupted");
    case CURLE_COULDNT_CONNECT:
        return explain_connect(c, err);
    case CURLE_COULDNT_RESOLVE_HOST:
        return err_set(err, ERR_UP_CONNECT, "the name is not known");
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
        return err_set(err, ERR_UP_CUT, "the connection was cut before the answer was complete");
    default:
        return c->is_too_large
                   ? err_set(err, ERR_TOO_LARGE, "the answer is larger than %zu MiB", BODY_MAX >> 20)
                   : err_set(err, ERR_IO, "%s", curl_easy_strerror(rc));
    }
}

static void prepare(struct api_client *c, const char *method, const char *url, struct span body)
{
    curl_easy_reset(c->easy); /* keeps the connection */
    (void)curl_easy_setopt(c->easy, CURLOPT_URL, url);
    (void)curl_easy_setopt(c->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(c->easy, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(c->easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    (void)curl_easy_setopt(c->easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c->easy, CURLOPT_PATH_AS_IS, 1L);
    (void)curl_easy_setopt(c->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(c->easy, CURLOPT_TIMEOUT_MS, c->timeout_ms);
    (void)curl_easy_setopt(c->easy, CURLOPT_USERAGENT, "aigwctl/" GATEWAYD_VERSION);
    (void)curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
    (void)curl_easy_setopt(c->easy, CURLOPT_HEADERFUNCTION, on_head);
    (void)curl_easy_setopt(c->easy, CURLOPT_HEADERDATA, c);
    (void)curl_easy_setopt(c->easy, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(c->easy, CURLOPT_XFERINFOFUNCTION, on_progress);
    (void)curl_easy_setopt(c->easy, CURLOPT_XFERINFODATA, c);
    if (c->socket)
        (void)curl_easy_setopt(c->easy, CURLOPT_UNIX_SOCKET_PATH, c->socket);
    if (body.p) {
        (void)curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
        (void)curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, body.p);
    }
    (void)curl_easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, method);
}

enum err_code api_client_call(struct api_client *c, const char *method, const char *path, struct span body,
                              struct api_answer *out, struct err *err)
{
    struct buf url AUTO(buf_release) = {.max = 16384};
    struct curl_slist *headers;
    long status = 0;
    CURLcode rc;

    buf_addz(&url, c->base);
    buf_addz(&url, path);
    if (!url.p || url.len != strlen(c->base) + strlen(path))
        return err_set(err, ERR_TOO_LARGE, "the path is too long");
    if (!body.p && strcmp(method, "POST") == 0)
        body = SPAN_LIT("");
    api_answer_release(out);
    out->head.max = HEAD_MAX;
    out->body.max = BODY_MAX;
    c->into = out;
    c->is_too_large = false;
    prepare(c, method, url.p, body);
    headers = headers_of(c, body.p != NULL);
    (void)curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, headers);
    rc = curl_easy_perform(c->easy);
    curl_slist_free_all(headers);
    (void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    out->status = (int)status;
    return rc == CURLE_OK ? ERR_OK : explain(c, rc, err);
}
