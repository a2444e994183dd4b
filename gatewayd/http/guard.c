/* SPDX-License-Identifier: Apache-2.0 */
/* Everything here is a refusal; what none of them meets passes. The order is: method and version, target,
 * each header by itself, then what the headers say together. Texts name only what is known to be harmless: a
 * client's own bytes are never repeated. */
#include "gatewayd/http/guard.h"

#include "gatewayd/config/limits.h"

/* ---- method and version ---- */

static const struct method {
    const char *name;
    bool wants_body;
} METHODS[] = {
    {"GET", false},  {"HEAD", false},   {"POST", true},     {"PUT", true},
    {"PATCH", true}, {"DELETE", false}, {"OPTIONS", false},
};

static const struct method *find_method(struct span name)
{
    for (size_t i = 0; i < ARRAY_LEN(METHODS); i++)
        if (span_is(name, METHODS[i].name))
            return &METHODS[i];
    return NULL;
}

/* ---- target ---- */

/* Below these an encoded slash is a byte of a name. */
static const struct span NAME_ROUTES[] = {{"/v1/models/", 11}, {"/api/", 5}};

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that the `%XX` at `i` stands for, -1 when it is malformed. */
static int encoded_byte(struct span s, size_t i)
{
    int high = i + 2 < s.len ? hex_value(s.p[i + 1]) : -1;
    int low = i + 2 < s.len ? hex_value(s.p[i + 2]) : -1;

    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

static size_t name_route_len(struct span path)
{
    for (size_t i = 0; i < ARRAY_LEN(NAME_ROUTES); i++)
        if (span_starts(path, NAME_ROUTES[i]))
            return NAME_ROUTES[i].len;
    return SIZE_MAX;
}

/* `dots` and `length` describe the segment that ends here. */
static bool is_bad_segment(size_t length, size_t dots)
{
    return length == dots && (dots == 1 || dots == 2);
}

static enum err_code check_encoded(struct span path, size_t i, size_t names_from, struct err *err)
{
    int c = encoded_byte(path, i);

    if (c < 0)
        return err_set(err, ERR_BAD_REQUEST, "the path has a malformed percent-encoding");
    if (c < 0x20 || c >= 0x7f)
        return err_set(err, ERR_BAD_REQUEST, "the path has an encoded control or non-ASCII byte");
    if (c == '.' || c == '\\' || c == '%' || (c == '/' && i < names_from))
        return err_set(err, ERR_BAD_REQUEST, "the path has an encoded '%c'", c);
    return ERR_OK;
}

/* One pass; an encoded slash ends a segment like a plain one, so no way of writing hides an empty or a dot
 * segment. */
static enum err_code check_path(struct span path, struct err *err)
{
    const size_t names_from = name_route_len(path);
    size_t length = 0, dots = 0; /* of the segment so far */

    for (size_t i = 1; i < path.len; i++) {
        bool is_slash = path.p[i] == '/';

        if (path.p[i] == '%') {
            enum err_code e = check_encoded(path, i, names_from, err);

            if (e)
                return e;
            is_slash = encoded_byte(path, i) == '/';
            i += 2;
        } else if (memchr("\\\"<>^`{|}", path.p[i], 9)) {
            return err_set(err, ERR_BAD_REQUEST, "the path has a byte that paths may not have");
        }
        if (!is_slash) {
            length++;
            dots += path.p[i] == '.';
            continue;
        }
        if (!length)
            return err_set(err, ERR_BAD_REQUEST, "the path has an empty segment");
        if (is_bad_segment(length, dots))
            return err_set(err, ERR_BAD_REQUEST, "the path has a dot segment");
        length = dots = 0;
    }
    if (is_bad_segment(length, dots))
        return err_set(err, ERR_BAD_REQUEST, "the path has a dot segment");
    return ERR_OK;
}

static enum err_code check_query(struct span query, struct err *err)
{
    for (size_t i = 0; i < query.len; i++)
        if (query.p[i] == '%' && encoded_byte(query, i) <= 0)
            return err_set(err, ERR_BAD_REQUEST,
                           "the query has a malformed percent-encoding or an encoded NUL");
    return ERR_OK;
}

static enum err_code check_target(struct span target, bool is_options, struct err *err)
{
    struct span path;
    enum err_code e;

    if (is_options && span_is(target, "*"))
        return err_set(err, ERR_BAD_METHOD, "'OPTIONS *' is not served");
    if (!target.len || target.p[0] != '/')
        return err_set(err, ERR_BAD_REQUEST, "the request target must be a path beginning with '/'");
    if (target.len > LIMIT_TARGET_BYTES)
        return err_set(err, ERR_BAD_REQUEST, "the request target is longer than %u bytes",
                       LIMIT_TARGET_BYTES);
    for (size_t i = 0; i < target.len; i++)
        if ((unsigned char)target.p[i] <= ' ' || (unsigned char)target.p[i] >= 0x7f || target.p[i] == '#')
            return err_set(err, ERR_BAD_REQUEST,
                           "the request target has a space, control or non-ASCII byte or a fragment");
    path = span_split(&target, '?');
    e = check_path(path, err);
    return e ? e : check_query(target, err);
}

/* ---- headers, each by itself ---- */

/* Those that mean something here, or that two readers could understand differently when they stand twice. */
enum known {
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    HOST,
    EXPECT,
    CONTENT_ENCODING,
    CONTENT_TYPE,
    AUTHORIZATION,
    API_KEY,
    KNOWN_COUNT
};

static const struct span KNOWN[KNOWN_COUNT] = {
    [CONTENT_LENGTH] = {"content-length", 14},
    [TRANSFER_ENCODING] = {"transfer-encoding", 17},
    [HOST] = {"host", 4},
    [EXPECT] = {"expect", 6},
    [CONTENT_ENCODING] = {"content-encoding", 16},
    [CONTENT_TYPE] = {"content-type", 12},
    [AUTHORIZATION] = {"authorization", 13},
    [API_KEY] = {"x-api-key", 9},
};

struct headers {
    struct span value[KNOWN_COUNT]; /* without the space around it; p == NULL: absent */
};

static const bool IS_TOKEN[256] = {
    ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true, ['!'] = true,  ['#'] = true,
    ['$'] = true,         ['%'] = true,         ['&'] = true,         ['\''] = true, ['*'] = true,
    ['+'] = true,         ['-'] = true,         ['.'] = true,         ['^'] = true,  ['_'] = true,
    ['`'] = true,         ['|'] = true,         ['~'] = true,
};

static bool is_token(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!IS_TOKEN[(unsigned char)s.p[i]])
            return false;
    return s.len > 0;
}

static bool is_clean_value(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

/* True when the name begins with `word` once all but letters and digits are left out, case-insensitively. */
static bool begins_like(struct span name, const char *word)
{
    for (size_t i = 0; i < name.len && *word; i++) {
        char c = name.p[i];

        if (c >= 'A' && c <= 'Z')
            c = (char)(c | 0x20);
        if ((c < 'a' || c > 'z') && (c < '0' || c > '9'))
            continue;
        if (c != *word++)
            return false;
    }
    return !*word;
}

/* The parser below folds a continuation line into the name (`Transfer-Encoding:` + ` chunked` arrives as
 * `Transfer-Encodingchunked`), and others behind or before us may read `Content_Length` as the real one. */
static bool is_framing_corpse(struct span name)
{
    return begins_like(name, "contentlength") || begins_like(name, "transferencoding");
}

static enum err_code take_header(struct headers *hs, const struct guard_header *h, size_t number,
                                 struct err *err)
{
    if (!is_token(h->name))
        return err_set(err, ERR_BAD_FRAMING, "the name of header %zu is not a token", number);
    if (!is_clean_value(h->value))
        return err_set(err, ERR_BAD_FRAMING, "the value of header %zu has a control byte", number);
    for (size_t k = 0; k < KNOWN_COUNT; k++) {
        if (!span_eq_nocase(h->name, KNOWN[k]))
            continue;
        if (hs->value[k].p)
            return err_set(err, ERR_BAD_FRAMING, "the header '%s' stands twice", KNOWN[k].p);
        hs->value[k] = h->value.len ? span_trim(h->value) : SPAN_LIT("");
        return ERR_OK;
    }
    if (is_framing_corpse(h->name))
        return err_set(err, ERR_BAD_FRAMING, "header %zu looks like a damaged framing header", number);
    return ERR_OK;
}

/* ---- headers together ---- */

static bool is_port(struct span s)
{
    uint64_t port;

    return !s.len || (s.len <= 5 && span_to_u64(s, &port) && port <= 65535);
}

static bool is_host_byte(char c, bool in_brackets)
{
    if (in_brackets)
        return hex_value(c) >= 0 || c == ':' || c == '.';
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

/* name, IPv4 address or [IPv6 address], with an optional port. */
static bool is_host(struct span s)
{
    const bool in_brackets = s.len && s.p[0] == '[';
    size_t i = in_brackets, from = i;

    while (i < s.len && is_host_byte(s.p[i], in_brackets))
        i++;
    if (i == from || i - from > 253)
        return false;
    if (in_brackets && (i == s.len || s.p[i++] != ']'))
        return false;
    if (i == s.len)
        return true;
    return s.p[i] == ':' && is_port(span_make(s.p + i + 1, s.len - i - 1));
}

static enum err_code check_host(const struct headers *hs, bool is_http11, struct err *err)
{
    if (!hs->value[HOST].p)
        return is_http11 ? err_set(err, ERR_BAD_FRAMING, "the header 'host' is missing") : ERR_OK;
    if (!is_host(hs->value[HOST]))
        return err_set(err, ERR_BAD_FRAMING,
                       "the header 'host' is not a name or address with an optional port");
    return ERR_OK;
}

static enum err_code check_coding(const struct headers *hs, bool is_http11, struct err *err)
{
    if (!hs->value[TRANSFER_ENCODING].p)
        return ERR_OK;
    if (hs->value[CONTENT_LENGTH].p)
        return err_set(err, ERR_BAD_FRAMING, "both 'content-length' and 'transfer-encoding' are given");
    if (!is_http11)
        return err_set(err, ERR_BAD_FRAMING, "HTTP/1.0 has no 'transfer-encoding'");
    if (!span_eq_nocase(hs->value[TRANSFER_ENCODING], SPAN_LIT("chunked")))
        return err_set(err, ERR_UNSUPPORTED, "no 'transfer-encoding' but 'chunked' is understood");
    return ERR_OK;
}

static enum err_code check_length(const struct headers *hs, size_t max_body, uint64_t *out_length,
                                  struct err *err)
{
    struct span s = hs->value[CONTENT_LENGTH];

    *out_length = 0;
    if (!s.p)
        return ERR_OK;
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return err_set(err, ERR_BAD_FRAMING, "'content-length' is not a plain number");
    if (!s.len)
        return err_set(err, ERR_BAD_FRAMING, "'content-length' is empty");
    if (s.len > 19 || !span_to_u64(s, out_length) || *out_length > max_body)
        return err_set(err, ERR_TOO_LARGE, "the request body is larger than %zu bytes", max_body);
    return ERR_OK;
}

static enum err_code check_body(const struct headers *hs, const struct method *m,
                                const struct guard_verdict *v, struct err *err)
{
    struct span encoding = hs->value[CONTENT_ENCODING];

    if (v->has_body && !m->wants_body)
        return err_set(err, ERR_BAD_FRAMING, "a %s request may not have a body", m->name);
    if (m->wants_body && !v->is_chunked && !hs->value[CONTENT_LENGTH].p)
        return err_set(err, ERR_LENGTH_REQUIRED, "a %s request needs 'content-length' or chunked framing",
                       m->name);
    if (encoding.p && !span_eq_nocase(encoding, SPAN_LIT("identity")))
        return err_set(err, ERR_BAD_MEDIA_TYPE, "compressed request bodies are not accepted");
    return ERR_OK;
}

static enum err_code check_headers(const struct guard_input *in, const struct method *m, bool is_http11,
                                   struct guard_verdict *v, struct err *err)
{
    struct headers hs = {0};
    enum err_code e;

    if (in->n_headers > GUARD_HEADERS_MAX)
        return err_set(err, ERR_BAD_REQUEST, "there are more than %u headers", GUARD_HEADERS_MAX);
    for (size_t i = 0; i < in->n_headers; i++) {
        e = take_header(&hs, &in->headers[i], i + 1, err);
        if (e)
            return e;
    }
    e = check_host(&hs, is_http11, err);
    if (!e)
        e = check_coding(&hs, is_http11, err);
    if (!e)
        e = check_length(&hs, in->max_body, &v->content_length, err);
    if (e)
        return e;
    v->is_chunked = hs.value[TRANSFER_ENCODING].p != NULL;
    v->has_body = v->is_chunked || v->content_length > 0;
    if (hs.value[EXPECT].p && !span_eq_nocase(hs.value[EXPECT], SPAN_LIT("100-continue")))
        return err_set(err, ERR_BAD_EXPECT, "only '100-continue' can be expected");
    return check_body(&hs, m, v, err);
}

enum err_code guard_check(const struct guard_input *in, struct guard_verdict *out, struct err *err)
{
    const struct method *m = find_method(in->method);
    const bool is_http11 = span_is(in->version, "HTTP/1.1");
    struct guard_verdict v = {0};
    enum err_code e;

    if (!m)
        return err_set(err, ERR_BAD_METHOD,
                       "the method is not one of GET HEAD POST PUT PATCH DELETE OPTIONS");
    if (!is_http11 && !span_is(in->version, "HTTP/1.0"))
        return err_set(err, ERR_BAD_REQUEST, "the protocol version is not HTTP/1.0 or HTTP/1.1");
    e = check_target(in->raw_target, m == find_method(SPAN_LIT("OPTIONS")), err);
    if (!e)
        e = check_headers(in, m, is_http11, &v, err);
    if (!e)
        *out = v;
    return e;
}
