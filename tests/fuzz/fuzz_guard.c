/* SPDX-License-Identifier: Apache-2.0 */
/* The guard: whatever it lets pass must hold when judged again by other, simpler means.
 * Input: a line `METHOD TARGET VERSION`, then a line `Name: value` for each header. */
#include <string.h>
#include <strings.h>

#include "gatewayd/config/limits.h"
#include "gatewayd/http/guard.h"
#include "tests/fuzz/must.h"

#define MAX_BODY 100000u

static unsigned count(const struct guard_input *in, const char *name, struct span *out_value)
{
    unsigned n = 0;

    for (size_t i = 0; i < in->n_headers; i++) {
        struct span h = in->headers[i].name;

        if (h.len == strlen(name) && strncasecmp(h.p, name, h.len) == 0) {
            *out_value = in->headers[i].value;
            n++;
        }
    }
    return n;
}

static void must_have_one_framing(const struct guard_input *in, const struct guard_verdict *v)
{
    struct span length = {0}, coding = {0}, host = {0};
    unsigned n_length = count(in, "Content-Length", &length);
    unsigned n_coding = count(in, "Transfer-Encoding", &coding);
    unsigned n_host = count(in, "Host", &host);
    bool may_have_body =
        span_is(in->method, "POST") || span_is(in->method, "PUT") || span_is(in->method, "PATCH");

    MUST(n_length + n_coding <= 1);
    MUST(n_host == 1 || (n_host == 0 && span_is(in->version, "HTTP/1.0")));
    MUST(v->is_chunked == (n_coding == 1));
    MUST(!v->is_chunked || span_is(in->version, "HTTP/1.1"));
    MUST(v->content_length <= in->max_body && (n_length || !v->content_length));
    MUST(v->has_body == (v->is_chunked || v->content_length > 0));
    MUST(may_have_body ? n_length + n_coding == 1 : !v->has_body);
}

static void must_have_clean_headers(const struct guard_input *in)
{
    for (size_t i = 0; i < in->n_headers; i++) {
        struct span n = in->headers[i].name, s = in->headers[i].value;

        MUST(n.len > 0);
        for (size_t k = 0; k < n.len; k++)
            MUST(n.p[k] > ' ' && n.p[k] < 0x7f && !strchr("\"(),/:;<=>?@[\\]{}", n.p[k]));
        for (size_t k = 0; k < s.len; k++)
            MUST(s.p[k] && s.p[k] != '\r' && s.p[k] != '\n' && s.p[k] != 0x1b);
    }
}

static char decode(const char *p)
{
    char hex[3] = {p[1], p[2], 0}, *end;
    char c = (char)strtoul(hex, &end, 16);

    MUST(end == hex + 2);
    return c;
}

/* Decoded once, as any router would, the path is plain and stays below its root. */
static void must_be_plain_path(struct span target)
{
    char path[LIMIT_TARGET_BYTES + 1];
    size_t n = 0;

    MUST(target.len <= LIMIT_TARGET_BYTES);
    for (size_t i = 0; i < target.len && target.p[i] != '?'; i++) {
        path[n] = target.p[i];
        if (target.p[i] == '%') {
            path[n] = decode(target.p + i);
            i += 2;
        }
        MUST(path[n] >= ' ' && path[n] < 0x7f && path[n] != '\\' && path[n] != '%');
        n++;
    }
    path[n] = '\0';
    MUST(path[0] == '/' && !strstr(path, "//") && !strstr(path, "/../") && !strstr(path, "/./"));
    MUST(n < 2 || strcmp(path + n - 2, "/.") != 0);
    MUST(n < 3 || strcmp(path + n - 3, "/..") != 0);
}

static struct guard_input parse(struct span text, struct guard_header *headers, size_t max_headers)
{
    struct span line = span_split(&text, '\n');
    struct guard_input in = {.headers = headers, .max_body = MAX_BODY};

    in.method = span_split(&line, ' ');
    in.raw_target = span_split(&line, ' ');
    in.version = line;
    while (text.p && in.n_headers < max_headers) {
        line = span_split(&text, '\n');
        headers[in.n_headers].name = span_split(&line, ':');
        headers[in.n_headers].value = line.p ? line : SPAN_LIT("");
        in.n_headers++;
    }
    return in;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct guard_header headers[GUARD_HEADERS_MAX + 8];
    struct guard_input in = parse(span_make(data, size), headers, ARRAY_LEN(headers));
    struct guard_verdict v = {0};
    struct err err = {0};
    enum err_code e = guard_check(&in, &v, &err);

    if (e) {
        MUST(err.text[0] && err_row(e)->status >= 400 && err_row(e)->status < 502 &&
             err_row(e)->status != 500);
        return 0;
    }
    MUST(in.n_headers <= GUARD_HEADERS_MAX);
    must_have_one_framing(&in, &v);
    must_have_clean_headers(&in);
    must_be_plain_path(in.raw_target);
    return 0;
}
