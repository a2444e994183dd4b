/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/http/guard.h"

#include <stdio.h>
#include <stdlib.h>

#include "gatewayd/config/limits.h"
#include "tests/unit/cm.h"

#define MAX_BODY 1000u
#define V11      "HTTP/1.1"
#define V10      "HTTP/1.0"
#define HOST                                                                                                 \
    {                                                                                                        \
        "Host", "gateway.example:8080"                                                                       \
    }

struct vector {
    const char *what, *method, *target, *version;
    struct {
        const char *name, *value;
    } headers[5];
    enum err_code want;
};

static const struct vector METHODS_AND_VERSIONS[] = {
    {"get", "GET", "/v1/models", V11, {HOST}, ERR_OK},
    {"head", "HEAD", "/healthz", V11, {HOST}, ERR_OK},
    {"delete", "DELETE", "/api/admin/keys/a", V11, {HOST}, ERR_OK},
    {"options", "OPTIONS", "/v1/models", V11, {HOST}, ERR_OK},
    {"post", "POST", "/v1/chat/completions", V11, {HOST, {"Content-Length", "2"}}, ERR_OK},
    {"put", "PUT", "/api/admin/x", V11, {HOST, {"Content-Length", "2"}}, ERR_OK},
    {"patch", "PATCH", "/api/admin/x", V11, {HOST, {"Content-Length", "0"}}, ERR_OK},
    {"trace", "TRACE", "/", V11, {HOST}, ERR_BAD_METHOD},
    {"connect", "CONNECT", "evil.example:443", V11, {HOST}, ERR_BAD_METHOD},
    {"lower case", "get", "/", V11, {HOST}, ERR_BAD_METHOD},
    {"webdav", "PROPFIND", "/", V11, {HOST}, ERR_BAD_METHOD},
    {"http2 preface", "PRI", "*", "HTTP/2.0", {{0}}, ERR_BAD_METHOD},
    {"method with a control byte", "GET\x01", "/", V11, {HOST}, ERR_BAD_METHOD},
    {"no method", "", "/", V11, {HOST}, ERR_BAD_METHOD},
    {"1.0", "GET", "/", V10, {HOST}, ERR_OK},
    {"1.0 without host", "GET", "/", V10, {{0}}, ERR_OK},
    {"1.2", "GET", "/", "HTTP/1.2", {HOST}, ERR_BAD_REQUEST},
    {"2.0", "GET", "/", "HTTP/2.0", {HOST}, ERR_BAD_REQUEST},
    {"0.9", "GET", "/", "", {HOST}, ERR_BAD_REQUEST},
    {"lower case version", "GET", "/", "http/1.1", {HOST}, ERR_BAD_REQUEST},
};

static const struct vector TARGETS[] = {
    {"root", "GET", "/", V11, {HOST}, ERR_OK},
    {"query", "GET", "/api/monitoring/latency/p/m?range=24h&x=a%20b%2F..", V11, {HOST}, ERR_OK},
    {"odd but legal query", "GET", "/metrics?q={a=\"b\"}|[c]//../", V11, {HOST}, ERR_OK},
    {"empty query", "GET", "/metrics?", V11, {HOST}, ERR_OK},
    {"slash at the end", "GET", "/v1/models/", V11, {HOST}, ERR_OK},
    {"model with slash", "GET", "/v1/models/openai/gpt-4o", V11, {HOST}, ERR_OK},
    {"model with encoded slash", "GET", "/v1/models/openai%2Fgpt-4o", V11, {HOST}, ERR_OK},
    {"the same in lower case", "GET", "/v1/models/openai%2fgpt-4o", V11, {HOST}, ERR_OK},
    {"model with dots and colon", "GET", "/v1/models/a%2Fllama-3.1-8b:free", V11, {HOST}, ERR_OK},
    {"encoded colon and space", "GET", "/v1/models/a%3Ab%20c", V11, {HOST}, ERR_OK},
    {"three dots are a name", "GET", "/v1/models/...", V11, {HOST}, ERR_OK},
    {"api with encoded slash", "GET", "/api/monitoring/latency/openrouter/openai%2Fgpt", V11, {HOST}, ERR_OK},
    {"encoded slash elsewhere", "GET", "/v1%2Fmodels", V11, {HOST}, ERR_BAD_REQUEST},
    {"encoded slash in lower case", "GET", "/v1/chat%2fcompletions", V11, {HOST}, ERR_BAD_REQUEST},
    {"encoded slash before the name", "GET", "/v1/models%2Fa", V11, {HOST}, ERR_BAD_REQUEST},
    {"encoded slash then prefix", "GET", "/%2Fv1/models/a", V11, {HOST}, ERR_BAD_REQUEST},
    {"upper case prefix is no prefix", "GET", "/API/a%2Fb", V11, {HOST}, ERR_BAD_REQUEST},
    {"empty", "GET", "", V11, {HOST}, ERR_BAD_REQUEST},
    {"no slash", "GET", "v1/models", V11, {HOST}, ERR_BAD_REQUEST},
    {"absolute form", "GET", "http://evil.example/admin", V11, {HOST}, ERR_BAD_REQUEST},
    {"absolute form, https", "GET", "HTTPS://evil.example/", V11, {HOST}, ERR_BAD_REQUEST},
    {"authority form", "GET", "evil.example:443", V11, {HOST}, ERR_BAD_REQUEST},
    {"asterisk", "GET", "*", V11, {HOST}, ERR_BAD_REQUEST},
    {"options asterisk", "OPTIONS", "*", V11, {HOST}, ERR_BAD_METHOD},
    {"double slash first", "GET", "//evil.example/", V11, {HOST}, ERR_BAD_REQUEST},
    {"double slash inside", "GET", "/v1//models", V11, {HOST}, ERR_BAD_REQUEST},
    {"double slash in a name", "GET", "/v1/models/a//b", V11, {HOST}, ERR_BAD_REQUEST},
    {"double slash, one encoded", "GET", "/v1/models/a%2F/b", V11, {HOST}, ERR_BAD_REQUEST},
    {"double slash, encoded first", "GET", "/v1/models/%2Fb", V11, {HOST}, ERR_BAD_REQUEST},
    {"double slash, both encoded", "GET", "/v1/models/a%2f%2Fb", V11, {HOST}, ERR_BAD_REQUEST},
    {"dot segment", "GET", "/v1/./models", V11, {HOST}, ERR_BAD_REQUEST},
    {"dot segment at the end", "GET", "/v1/.", V11, {HOST}, ERR_BAD_REQUEST},
    {"dot segments", "GET", "/v1/../admin", V11, {HOST}, ERR_BAD_REQUEST},
    {"dot segments at the end", "GET", "/v1/..", V11, {HOST}, ERR_BAD_REQUEST},
    {"dot segments before the query", "GET", "/v1/..?x", V11, {HOST}, ERR_BAD_REQUEST},
    {"dot segments in a name", "GET", "/v1/models/../../admin", V11, {HOST}, ERR_BAD_REQUEST},
    {"dot segments, encoded slash after", "GET", "/v1/models/..%2Fadmin", V11, {HOST}, ERR_BAD_REQUEST},
    {"dot segments, encoded slash before", "GET", "/api/a%2F..", V11, {HOST}, ERR_BAD_REQUEST},
    {"dot segments, encoded slashes", "GET", "/api/a%2f..%2fb", V11, {HOST}, ERR_BAD_REQUEST},
    {"encoded dots", "GET", "/v1/%2e%2e/admin", V11, {HOST}, ERR_BAD_REQUEST},
    {"encoded dots, mixed case", "GET", "/v1/.%2E/admin", V11, {HOST}, ERR_BAD_REQUEST},
    {"encoded dot in a name", "GET", "/v1/models/a%2eb", V11, {HOST}, ERR_BAD_REQUEST},
    {"encoded backslash", "GET", "/v1/models/a%5Cb", V11, {HOST}, ERR_BAD_REQUEST},
    {"encoded backslash, lower case", "GET", "/api/..%5c..", V11, {HOST}, ERR_BAD_REQUEST},
    {"backslash", "GET", "/v1\\models", V11, {HOST}, ERR_BAD_REQUEST},
    {"encoded NUL", "GET", "/v1/chat%00/admin", V11, {HOST}, ERR_BAD_REQUEST},
    {"encoded NUL in the query", "GET", "/metrics?a=b%00c", V11, {HOST}, ERR_BAD_REQUEST},
    {"encoded line feed", "GET", "/v1/models/a%0ab", V11, {HOST}, ERR_BAD_REQUEST},
    {"encoded delete", "GET", "/v1/models/a%7f", V11, {HOST}, ERR_BAD_REQUEST},
    {"overlong encoded slash", "GET", "/v1/models/..%c0%af..", V11, {HOST}, ERR_BAD_REQUEST},
    {"encoded twice", "GET", "/v1/models/%252e%252e", V11, {HOST}, ERR_BAD_REQUEST},
    {"malformed encoding", "GET", "/v1/models/%zz", V11, {HOST}, ERR_BAD_REQUEST},
    {"cut encoding", "GET", "/v1/models/%2", V11, {HOST}, ERR_BAD_REQUEST},
    {"cut encoding before the query", "GET", "/v1/models/%2?f", V11, {HOST}, ERR_BAD_REQUEST},
    {"bare percent sign", "GET", "/v1/models/%", V11, {HOST}, ERR_BAD_REQUEST},
    {"malformed encoding in the query", "GET", "/metrics?a=%g1", V11, {HOST}, ERR_BAD_REQUEST},
    {"cut encoding in the query", "GET", "/metrics?a=%1", V11, {HOST}, ERR_BAD_REQUEST},
    {"fragment", "GET", "/v1/models#x", V11, {HOST}, ERR_BAD_REQUEST},
    {"fragment in the query", "GET", "/metrics?a#x", V11, {HOST}, ERR_BAD_REQUEST},
    {"space", "GET", "/v1/models /x", V11, {HOST}, ERR_BAD_REQUEST},
    {"tab", "GET", "/v1/models\tx", V11, {HOST}, ERR_BAD_REQUEST},
    {"line end", "GET", "/\r\nX: y", V11, {HOST}, ERR_BAD_REQUEST},
    {"escape", "GET", "/\x1b[2J", V11, {HOST}, ERR_BAD_REQUEST},
    {"delete", "GET", "/\x7f", V11, {HOST}, ERR_BAD_REQUEST},
    {"raw UTF-8", "GET", "/v1/models/\xc3\xa9", V11, {HOST}, ERR_BAD_REQUEST},
    {"raw high byte in the query", "GET", "/metrics?\xff", V11, {HOST}, ERR_BAD_REQUEST},
    {"braces in the path", "GET", "/v1/{x}", V11, {HOST}, ERR_BAD_REQUEST},
};

static const struct vector HOSTS[] = {
    {"name", "GET", "/", V11, {{"hOST", "Gateway_1.example-2.org"}}, ERR_OK},
    {"address", "GET", "/", V11, {{"Host", "127.0.0.1:1"}}, ERR_OK},
    {"IPv6", "GET", "/", V11, {{"Host", "[::1]:8080"}}, ERR_OK},
    {"IPv6 without port", "GET", "/", V11, {{"Host", "[::ffff:127.0.0.1]"}}, ERR_OK},
    {"empty port", "GET", "/", V11, {{"Host", "a:"}}, ERR_OK},
    {"space around it", "GET", "/", V11, {{"Host", "  a\t"}}, ERR_OK},
    {"missing", "GET", "/", V11, {{0}}, ERR_BAD_FRAMING},
    {"empty", "GET", "/", V11, {{"Host", ""}}, ERR_BAD_FRAMING},
    {"twice", "GET", "/", V11, {HOST, HOST}, ERR_BAD_FRAMING},
    {"twice, other case", "GET", "/", V11, {HOST, {"HOST", "b"}}, ERR_BAD_FRAMING},
    {"twice on 1.0", "GET", "/", V10, {HOST, HOST}, ERR_BAD_FRAMING},
    {"bad on 1.0", "GET", "/", V10, {{"Host", "a/b"}}, ERR_BAD_FRAMING},
    {"list", "GET", "/", V11, {{"Host", "a, b"}}, ERR_BAD_FRAMING},
    {"path", "GET", "/", V11, {{"Host", "a/../b"}}, ERR_BAD_FRAMING},
    {"query", "GET", "/", V11, {{"Host", "a?x"}}, ERR_BAD_FRAMING},
    {"user", "GET", "/", V11, {{"Host", "user@a"}}, ERR_BAD_FRAMING},
    {"inner space", "GET", "/", V11, {{"Host", "a b"}}, ERR_BAD_FRAMING},
    {"port too large", "GET", "/", V11, {{"Host", "a:65536"}}, ERR_BAD_FRAMING},
    {"port with letters", "GET", "/", V11, {{"Host", "a:80x"}}, ERR_BAD_FRAMING},
    {"long port", "GET", "/", V11, {{"Host", "a:000080"}}, ERR_BAD_FRAMING},
    {"port only", "GET", "/", V11, {{"Host", ":80"}}, ERR_BAD_FRAMING},
    {"bare IPv6", "GET", "/", V11, {{"Host", "::1"}}, ERR_BAD_FRAMING},
    {"open bracket", "GET", "/", V11, {{"Host", "[::1"}}, ERR_BAD_FRAMING},
    {"empty brackets", "GET", "/", V11, {{"Host", "[]"}}, ERR_BAD_FRAMING},
    {"something behind the bracket", "GET", "/", V11, {{"Host", "[::1]x"}}, ERR_BAD_FRAMING},
};

#define P(...)                                                                                               \
    "POST", "/v1/chat/completions", V11,                                                                     \
    {                                                                                                        \
        HOST, __VA_ARGS__                                                                                    \
    }

static const struct vector BODIES[] = {
    {"length", P({"Content-Length", "10"}), ERR_OK},
    {"length with leading zeros", P({"Content-Length", "0010"}), ERR_OK},
    {"length with space around it", P({"Content-Length", " 10 "}), ERR_OK},
    {"the largest length", P({"Content-Length", "1000"}), ERR_OK},
    {"chunked", P({"Transfer-Encoding", "chunked"}), ERR_OK},
    {"chunked in upper case", P({"TRANSFER-ENCODING", "Chunked"}), ERR_OK},
    {"neither", P({"Accept", "*/*"}), ERR_LENGTH_REQUIRED},
    {"put without", "PUT", "/x", V11, {HOST}, ERR_LENGTH_REQUIRED},
    {"patch without", "PATCH", "/x", V11, {HOST}, ERR_LENGTH_REQUIRED},
    {"1.0 without", "POST", "/x", V10, {HOST}, ERR_LENGTH_REQUIRED},
    {"one byte too large", P({"Content-Length", "1001"}), ERR_TOO_LARGE},
    {"beyond 64 bits", P({"Content-Length", "18446744073709551626"}), ERR_TOO_LARGE},
    {"far beyond", P({"Content-Length", "99999999999999999999999999999999999999"}), ERR_TOO_LARGE},
    {"two lengths", P({"Content-Length", "10"}, {"Content-Length", "20"}), ERR_BAD_FRAMING},
    {"two equal lengths", P({"Content-Length", "10"}, {"content-length", "10"}), ERR_BAD_FRAMING},
    {"length list", P({"Content-Length", "10, 10"}), ERR_BAD_FRAMING},
    {"signed length", P({"Content-Length", "+10"}), ERR_BAD_FRAMING},
    {"negative length", P({"Content-Length", "-1"}), ERR_BAD_FRAMING},
    {"hexadecimal length", P({"Content-Length", "0xa"}), ERR_BAD_FRAMING},
    {"length with inner space", P({"Content-Length", "1 0"}), ERR_BAD_FRAMING},
    {"length with letters", P({"Content-Length", "10a"}), ERR_BAD_FRAMING},
    {"length with a point", P({"Content-Length", "10.0"}), ERR_BAD_FRAMING},
    {"empty length", P({"Content-Length", ""}), ERR_BAD_FRAMING},
    {"length and chunked", P({"Content-Length", "4"}, {"Transfer-Encoding", "chunked"}), ERR_BAD_FRAMING},
    {"chunked and length 0", P({"Transfer-Encoding", "chunked"}, {"Content-Length", "0"}), ERR_BAD_FRAMING},
    {"length and unknown coding", P({"Content-Length", "4"}, {"Transfer-Encoding", "x"}), ERR_BAD_FRAMING},
    {"two codings", P({"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}), ERR_BAD_FRAMING},
    {"second coding identity", P({"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "identity"}),
     ERR_BAD_FRAMING},
    {"coding on 1.0", "POST", "/x", V10, {HOST, {"Transfer-Encoding", "chunked"}}, ERR_BAD_FRAMING},
    {"compressed and chunked", P({"Transfer-Encoding", "gzip, chunked"}), ERR_UNSUPPORTED},
    {"chunked twice in a list", P({"Transfer-Encoding", "chunked, chunked"}), ERR_UNSUPPORTED},
    {"chunked with parameter", P({"Transfer-Encoding", "chunked;a=b"}), ERR_UNSUPPORTED},
    {"xchunked", P({"Transfer-Encoding", "xchunked"}), ERR_UNSUPPORTED},
    {"identity coding", P({"Transfer-Encoding", "identity"}), ERR_UNSUPPORTED},
    {"empty coding", P({"Transfer-Encoding", ""}), ERR_UNSUPPORTED},
    {"quoted chunked", P({"Transfer-Encoding", "\"chunked\""}), ERR_UNSUPPORTED},
    {"get with length", "GET", "/", V11, {HOST, {"Content-Length", "5"}}, ERR_BAD_FRAMING},
    {"get with length 0", "GET", "/", V11, {HOST, {"Content-Length", "0"}}, ERR_OK},
    {"get chunked", "GET", "/", V11, {HOST, {"Transfer-Encoding", "chunked"}}, ERR_BAD_FRAMING},
    {"head with length", "HEAD", "/", V11, {HOST, {"Content-Length", "5"}}, ERR_BAD_FRAMING},
    {"delete with length", "DELETE", "/", V11, {HOST, {"Content-Length", "5"}}, ERR_BAD_FRAMING},
    {"options chunked", "OPTIONS", "/", V11, {HOST, {"Transfer-Encoding", "chunked"}}, ERR_BAD_FRAMING},
    {"gzip body", P({"Content-Length", "5"}, {"Content-Encoding", "gzip"}), ERR_BAD_MEDIA_TYPE},
    {"brotli body", P({"Content-Length", "5"}, {"Content-Encoding", "identity, br"}), ERR_BAD_MEDIA_TYPE},
    {"identity body", P({"Content-Length", "5"}, {"Content-Encoding", "identity"}), ERR_OK},
    {"expect", P({"Content-Length", "5"}, {"Expect", "100-Continue"}), ERR_OK},
    {"expect something", P({"Content-Length", "5"}, {"Expect", "foo"}), ERR_BAD_EXPECT},
    {"expect nothing", P({"Content-Length", "5"}, {"Expect", ""}), ERR_BAD_EXPECT},
    {"expect more", P({"Content-Length", "5"}, {"Expect", "100-continue, foo"}), ERR_BAD_EXPECT},
    {"expect twice", P({"Content-Length", "5"}, {"Expect", "100-continue"}, {"Expect", "100-continue"}),
     ERR_BAD_FRAMING},
};

static const struct vector HEADERS[] = {
    {"usual ones", P({"Content-Length", "2"}, {"Authorization", "Bearer k"}, {"X-Stainless-Lang", "python"}),
     ERR_OK},
    {"all token bytes", P({"Content-Length", "2"}, {"!#$%&'*+-.^_`|~09azAZ", "x"}), ERR_OK},
    {"empty value", P({"Content-Length", "2"}, {"X-A", ""}), ERR_OK},
    {"UTF-8 and tab in a value", P({"Content-Length", "2"}, {"X-A", "\xc3\xa9\tb"}), ERR_OK},
    {"upgrade is ignored",
     "GET",
     "/",
     V11,
     {HOST, {"Upgrade", "h2c"}, {"HTTP2-Settings", "AAMAAABkAAQ"}, {"Connection", "Upgrade, HTTP2-Settings"}},
     ERR_OK},
    {"websocket is ignored",
     "GET",
     "/",
     V11,
     {HOST, {"Upgrade", "websocket"}, {"Connection", "Upgrade"}},
     ERR_OK},
    {"space before the colon", P({"Content-Length ", "2"}), ERR_BAD_FRAMING},
    {"tab before the colon", P({"Transfer-Encoding\t", "chunked"}), ERR_BAD_FRAMING},
    {"space in a name", P({"Content-Length", "2"}, {"X A", "b"}), ERR_BAD_FRAMING},
    {"space first", P({" Content-Length", "2"}), ERR_BAD_FRAMING},
    {"empty name", P({"Content-Length", "2"}, {"", "b"}), ERR_BAD_FRAMING},
    {"colon in a name", P({"Content-Length", "2"}, {"X-AContent-Length: 5", "b"}), ERR_BAD_FRAMING},
    {"slash in a name", P({"Content-Length", "2"}, {"a/b", "c"}), ERR_BAD_FRAMING},
    {"high byte in a name", P({"Content-Length", "2"}, {"X-\xc3\xa9", "c"}), ERR_BAD_FRAMING},
    {"control byte in a name", P({"Content-Length", "2"}, {"Content-Length\x01", "c"}), ERR_BAD_FRAMING},
    {"vertical tab before a name", P({"\x0bTransfer-Encoding", "chunked"}), ERR_BAD_FRAMING},
    {"line end in a value", P({"Content-Length", "2"}, {"X-A", "b\r\nX-B: c"}), ERR_BAD_FRAMING},
    {"line feed in a value", P({"Content-Length", "2"}, {"X-A", "b\nc"}), ERR_BAD_FRAMING},
    {"carriage return in a value", P({"Content-Length", "2\rx"}), ERR_BAD_FRAMING},
    {"escape in a value", P({"Content-Length", "2"}, {"X-A", "\x1b[2J"}), ERR_BAD_FRAMING},
    {"delete in a value", P({"Content-Length", "2"}, {"X-A", "\x7f"}), ERR_BAD_FRAMING},
    {"folded coding", P({"Transfer-Encodingchunked", ""}), ERR_BAD_FRAMING},
    {"folded length", P({"Content-Length", "2"}, {"Content-Length5", ""}), ERR_BAD_FRAMING},
    {"folded coding beside a length", P({"Content-Length", "2"}, {"transfer-encodingCHUNKED", ""}),
     ERR_BAD_FRAMING},
    {"underscore length", P({"Content-Length", "2"}, {"Content_Length", "5"}), ERR_BAD_FRAMING},
    {"underscore coding", P({"Content-Length", "2"}, {"transfer_encoding", "chunked"}), ERR_BAD_FRAMING},
    {"dotted coding", P({"Content-Length", "2"}, {"Transfer.Encoding", "chunked"}), ERR_BAD_FRAMING},
    {"joined coding", P({"Content-Length", "2"}, {"TransferEncoding", "chunked"}), ERR_BAD_FRAMING},
    {"only the words' beginnings", P({"Content-Length", "2"}, {"Content-Lengt", "5"}, {"Transfer", "x"}),
     ERR_OK},
    {"another content header", P({"Content-Length", "2"}, {"Content-Language", "en"}), ERR_OK},
    {"two keys", P({"Content-Length", "2"}, {"Authorization", "Bearer a"}, {"authorization", "Bearer b"}),
     ERR_BAD_FRAMING},
    {"two x-api-keys", P({"Content-Length", "2"}, {"x-api-key", "a"}, {"X-Api-Key", "a"}), ERR_BAD_FRAMING},
    {"two content types", P({"Content-Length", "2"}, {"Content-Type", "a/b"}, {"Content-Type", "c/d"}),
     ERR_BAD_FRAMING},
    {"two cookies", P({"Content-Length", "2"}, {"Cookie", "a"}, {"Cookie", "b"}), ERR_OK},
};

static enum err_code judge(const struct vector *v, struct guard_verdict *out, struct err *err)
{
    struct guard_header headers[5];
    struct guard_input in = {.method = span_of(v->method),
                             .raw_target = span_of(v->target),
                             .version = span_of(v->version),
                             .headers = headers,
                             .max_body = MAX_BODY};

    for (; in.n_headers < 5 && v->headers[in.n_headers].name; in.n_headers++)
        headers[in.n_headers] = (struct guard_header){span_of(v->headers[in.n_headers].name),
                                                      span_of(v->headers[in.n_headers].value)};
    return guard_check(&in, out, err);
}

static void assert_vectors(const struct vector *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct guard_verdict verdict = {0};
        struct err err = {0};
        enum err_code e = judge(&v[i], &verdict, &err);

        if (e != v[i].want)
            fail_msg("'%s' gave %s (%s) instead of %s", v[i].what, err_row(e)->name, err_text(&err),
                     err_row(v[i].want)->name);
    }
}

static void test_methods_and_versions_are_a_closed_list(void **state)
{
    (void)state;
    assert_vectors(METHODS_AND_VERSIONS, ARRAY_LEN(METHODS_AND_VERSIONS));
}

static void test_a_target_reads_the_same_however_it_is_decoded(void **state)
{
    (void)state;
    assert_vectors(TARGETS, ARRAY_LEN(TARGETS));
}

static void test_host_stands_once_and_is_a_host(void **state)
{
    (void)state;
    assert_vectors(HOSTS, ARRAY_LEN(HOSTS));
}

static void test_a_body_has_one_unambiguous_length(void **state)
{
    (void)state;
    assert_vectors(BODIES, ARRAY_LEN(BODIES));
}

static void test_header_names_and_values_are_clean_and_nothing_poses_as_framing(void **state)
{
    (void)state;
    assert_vectors(HEADERS, ARRAY_LEN(HEADERS));
}

static void test_the_verdict_describes_the_body(void **state)
{
    static const struct vector LENGTH = {"", P({"Content-Length", "0042"}), ERR_OK};
    static const struct vector CHUNKED = {"", P({"Transfer-Encoding", "chunked"}), ERR_OK};
    static const struct vector EMPTY = {"", P({"Content-Length", "0"}), ERR_OK};
    static const struct vector NONE = {"", "GET", "/", V11, {HOST}, ERR_OK};
    static const struct vector REFUSED = {"", P({"Content-Length", "42"}, {"Expect", "x"}), ERR_BAD_EXPECT};
    struct guard_verdict v = {0};

    (void)state;
    assert_int_equal(judge(&LENGTH, &v, NULL), ERR_OK);
    assert_true(v.has_body && !v.is_chunked && v.content_length == 42);
    assert_int_equal(judge(&CHUNKED, &v, NULL), ERR_OK);
    assert_true(v.has_body && v.is_chunked && v.content_length == 0);
    assert_int_equal(judge(&EMPTY, &v, NULL), ERR_OK);
    assert_true(!v.has_body && !v.is_chunked && v.content_length == 0);
    v = (struct guard_verdict){true, true, 7};
    assert_int_equal(judge(&NONE, &v, NULL), ERR_OK);
    assert_true(!v.has_body && !v.is_chunked && v.content_length == 0);
    v.content_length = 7;
    assert_int_equal(judge(&REFUSED, &v, NULL), ERR_BAD_EXPECT);
    assert_int_equal(v.content_length, 7); /* written on success only */
}

static void test_every_byte_in_a_header_name_is_judged_by_the_token_rule(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        char name[3] = {'x', (char)c, 'y'};
        struct guard_header headers[] = {{SPAN_LIT("host"), SPAN_LIT("a")},
                                         {span_make(name, 3), SPAN_LIT("v")}};
        struct guard_input in = {SPAN_LIT("GET"), SPAN_LIT("/"), SPAN_LIT(V11), headers, 2, MAX_BODY};
        struct guard_verdict v;
        bool is_letter = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool want = is_letter || (c && strchr("!#$%&'*+-.^_`|~", c));

        assert_int_equal(guard_check(&in, &v, NULL) == ERR_OK, want);
    }
}

static void test_a_nul_in_a_value_or_name_or_target_is_refused(void **state)
{
    struct guard_header headers[] = {{SPAN_LIT("host"), SPAN_LIT("a")}, {SPAN_LIT("x"), SPAN_LIT("ab\0cd")}};
    struct guard_input in = {SPAN_LIT("GET"), SPAN_LIT("/"), SPAN_LIT(V11), headers, 2, MAX_BODY};
    struct guard_verdict v;

    (void)state;
    assert_int_equal(guard_check(&in, &v, NULL), ERR_BAD_FRAMING);
    headers[1] = (struct guard_header){SPAN_LIT("x\0"), SPAN_LIT("a")};
    assert_int_equal(guard_check(&in, &v, NULL), ERR_BAD_FRAMING);
    headers[1] = (struct guard_header){SPAN_LIT("host\0"), SPAN_LIT("a")};
    assert_int_equal(guard_check(&in, &v, NULL), ERR_BAD_FRAMING);
    in.n_headers = 1;
    assert_int_equal(guard_check(&in, &v, NULL), ERR_OK);
    in.raw_target = SPAN_LIT("/a\0b");
    assert_int_equal(guard_check(&in, &v, NULL), ERR_BAD_REQUEST);
    in.raw_target = SPAN_LIT("/");
    in.method = SPAN_LIT("GET\0");
    assert_int_equal(guard_check(&in, &v, NULL), ERR_BAD_METHOD);
}

static void test_counts_and_lengths_are_limited(void **state)
{
    struct guard_header headers[GUARD_HEADERS_MAX + 1];
    char target[LIMIT_TARGET_BYTES + 1] = "/";
    struct guard_input in = {SPAN_LIT("GET"),   span_make(target, LIMIT_TARGET_BYTES),
                             SPAN_LIT(V11),     headers,
                             GUARD_HEADERS_MAX, MAX_BODY};
    struct guard_verdict v;

    (void)state;
    memset(target + 1, 'a', sizeof(target) - 1);
    for (size_t i = 0; i < ARRAY_LEN(headers); i++)
        headers[i] = (struct guard_header){SPAN_LIT("x"), SPAN_LIT("")};
    headers[0] = (struct guard_header){SPAN_LIT("host"), SPAN_LIT("a")};
    assert_int_equal(guard_check(&in, &v, NULL), ERR_OK);
    in.n_headers++;
    assert_int_equal(guard_check(&in, &v, NULL), ERR_BAD_REQUEST);
    in.n_headers--;
    in.raw_target.len++;
    assert_int_equal(guard_check(&in, &v, NULL), ERR_BAD_REQUEST);
}

static void test_a_refusal_never_repeats_the_clients_bytes(void **state)
{
    static const struct vector SECRETS[] = {
        {"", P({"Content-Length", "SECRET"}), ERR_OK},
        {"", P({"SECRET\x01", "SECRET"}), ERR_OK},
        {"", P({"X", "SECRET\x01"}), ERR_OK},
        {"", "GET", "/%00SECRET", V11, {HOST}, ERR_OK},
        {"", "GET", "SECRET", V11, {HOST}, ERR_OK},
        {"", "SECRET", "/", V11, {HOST}, ERR_OK},
        {"", P({"Transfer-Encoding", "SECRET"}), ERR_OK},
        {"", "GET", "/", V11, {{"Host", "SECRET!"}}, ERR_OK},
        {"", P({"Content-LengthSECRET", "SECRET"}), ERR_OK},
        {"", "GET", "/", "SECRET", {HOST}, ERR_OK},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(SECRETS); i++) {
        struct guard_verdict v;
        struct err err = {0};

        assert_int_not_equal(judge(&SECRETS[i], &v, &err), ERR_OK);
        assert_true(err.text[0] != '\0');
        assert_null(strstr(err.text, "SECRET"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods_and_versions_are_a_closed_list),
        cmocka_unit_test(test_a_target_reads_the_same_however_it_is_decoded),
        cmocka_unit_test(test_host_stands_once_and_is_a_host),
        cmocka_unit_test(test_a_body_has_one_unambiguous_length),
        cmocka_unit_test(test_header_names_and_values_are_clean_and_nothing_poses_as_framing),
        cmocka_unit_test(test_the_verdict_describes_the_body),
        cmocka_unit_test(test_every_byte_in_a_header_name_is_judged_by_the_token_rule),
        cmocka_unit_test(test_a_nul_in_a_value_or_name_or_target_is_refused),
        cmocka_unit_test(test_counts_and_lengths_are_limited),
        cmocka_unit_test(test_a_refusal_never_repeats_the_clients_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
