/* SPDX-License-Identifier: Apache-2.0 */
/* The request reader of the simulator. Nothing is copied: spans point into the caller's bytes. */
#include "gatewayd/sim/sim_wire.h"

static bool is_token_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static enum sim_wire refuse(struct sim_head *h, int status, const char *why)
{
    h->status = status;
    h->why = why;
    return SIM_WIRE_BAD;
}

static bool is_token(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!is_token_char((unsigned char)s.p[i]))
            return false;
    return s.len > 0;
}

static bool is_value(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static bool parse_request_line(struct sim_head *h, struct span line)
{
    struct span target, version;

    h->method = span_split(&line, ' ');
    target = span_split(&line, ' ');
    version = line;
    if (!is_token(h->method) || !target.len || target.p[0] != '/')
        return false;
    for (size_t i = 0; i < target.len; i++)
        if ((unsigned char)target.p[i] <= 0x20 || (unsigned char)target.p[i] >= 0x7f)
            return false;
    h->is_http10 = span_is(version, "HTTP/1.0");
    h->query = target;
    h->path = span_split(&h->query, '?');
    return h->is_http10 || span_is(version, "HTTP/1.1");
}

/* Names are compared by length first: most headers are none of these. */
static enum sim_wire note_header(struct sim_head *h, struct span name, struct span value, unsigned *hosts)
{
    if (name.len == 4 && span_eq_nocase(name, SPAN_LIT("host"))) {
        (*hosts)++;
    } else if (name.len == 14 && span_eq_nocase(name, SPAN_LIT("content-length"))) {
        if (h->has_length || !span_to_u64(value, &h->length))
            return refuse(h, 400, "bad or repeated Content-Length");
        h->has_length = true;
    } else if (name.len == 17 && span_eq_nocase(name, SPAN_LIT("transfer-encoding"))) {
        if (h->is_chunked)
            return refuse(h, 400, "repeated Transfer-Encoding");
        if (!span_eq_nocase(value, SPAN_LIT("chunked")))
            return refuse(h, 501, "Transfer-Encoding other than chunked");
        h->is_chunked = true;
    } else if (name.len == 10 && span_eq_nocase(name, SPAN_LIT("connection"))) {
        while (value.p) {
            struct span option = span_trim(span_split(&value, ','));

            if (span_eq_nocase(option, SPAN_LIT("close")))
                h->wants_close = true;
        }
    } else if (name.len == 6 && span_eq_nocase(name, SPAN_LIT("expect"))) {
        if (!span_eq_nocase(value, SPAN_LIT("100-continue")))
            return refuse(h, 417, "Expect other than 100-continue");
        h->expects_continue = true;
    }
    return SIM_WIRE_DONE;
}

/* The next line without its CRLF; false when it holds a bare CR or LF. */
static bool next_line(struct span *in, struct span *line)
{
    const char *lf = memchr(in->p, '\n', in->len);
    size_t len;

    if (!lf || lf == in->p || lf[-1] != '\r')
        return false;
    len = (size_t)(lf - in->p) - 1;
    *line = span_make(in->p, len);
    *in = span_make(lf + 1, in->len - len - 2);
    return !memchr(line->p, '\r', len);
}

enum sim_wire sim_head_parse(struct sim_head *h, struct span in)
{
    const char *end =
        in.len ? memmem(in.p, in.len < SIM_HEAD_MAX ? in.len : SIM_HEAD_MAX, "\r\n\r\n", 4) : NULL;
    struct span line;
    unsigned hosts = 0;

    h->n_headers = 0;
    h->is_chunked = h->has_length = h->wants_close = h->expects_continue = false;
    h->length = 0;
    if (!end)
        return in.len >= SIM_HEAD_MAX ? refuse(h, 431, "the head is too large") : SIM_WIRE_MORE;
    h->bytes = (size_t)(end - in.p) + 4;
    in.len = h->bytes - 2;
    if (!next_line(&in, &line) || !parse_request_line(h, line))
        return refuse(h, 400, "bad request line");
    while (in.len) {
        struct span value, name;
        enum sim_wire r;

        if (!next_line(&in, &line))
            return refuse(h, 400, "a line that does not end in CRLF");
        value = line;
        name = span_split(&value, ':');
        if (!value.p || !is_token(name))
            return refuse(h, 400, "bad header name");
        value = span_trim(value);
        if (!is_value(value))
            return refuse(h, 400, "bad header value");
        if (h->n_headers == SIM_HEADERS_MAX)
            return refuse(h, 431, "too many headers");
        h->headers[h->n_headers++] = (struct sim_header){name, value};
        r = note_header(h, name, value, &hosts);
        if (r != SIM_WIRE_DONE)
            return r;
    }
    if (h->is_chunked && h->has_length)
        return refuse(h, 400, "both Content-Length and Transfer-Encoding");
    if (hosts > 1 || (!hosts && !h->is_http10))
        return refuse(h, 400, "not exactly one Host");
    if (h->is_http10 && h->is_chunked)
        return refuse(h, 400, "chunked in HTTP/1.0");
    if (!h->is_chunked && !h->has_length && (span_is(h->method, "POST") || span_is(h->method, "PUT")))
        return refuse(h, 411, "a body needs Content-Length or chunked framing");
    if (h->is_http10)
        h->wants_close = true;
    return SIM_WIRE_DONE;
}

struct span sim_head_get(const struct sim_head *h, const char *name)
{
    struct span want = span_of(name);

    for (unsigned i = 0; i < h->n_headers; i++)
        if (h->headers[i].name.len == want.len && span_eq_nocase(h->headers[i].name, want))
            return h->headers[i].value;
    return (struct span){0};
}

struct span sim_query_get(struct span query, const char *name)
{
    while (query.p) {
        struct span value = span_split(&query, '&');
        struct span key = span_split(&value, '=');

        if (span_is(key, name))
            return value.p ? value : span_make(key.p, 0);
    }
    return (struct span){0};
}

/*   SIZE ──CR──► SIZE_LF ──size > 0──► DATA ──► DATA_CR ──► DATA_LF ──► SIZE
 *                   └──────size = 0──► END_CR ──► END_LF ──► done                */
enum { SIZE, SIZE_LF, DATA, DATA_CR, DATA_LF, END_CR, END_LF };

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool size_byte(struct sim_chunked *d, char c)
{
    int v = hex_value(c);

    if (c == '\r' && d->digits) {
        d->state = SIZE_LF;
        return true;
    }
    if (v < 0 || d->digits >= 15)
        return false;
    d->left = d->left * 16 + (uint64_t)v;
    d->digits++;
    return true;
}

static bool framing_byte(struct sim_chunked *d, char c)
{
    switch (d->state) {
    case SIZE:
        return size_byte(d, c);
    case SIZE_LF:
        d->state = d->left ? DATA : END_CR;
        return c == '\n';
    case DATA_CR:
        d->state = DATA_LF;
        return c == '\r';
    case DATA_LF:
        *d = (struct sim_chunked){.state = SIZE};
        return c == '\n';
    default: /* END_CR: a trailer would begin here, and none is accepted */
        d->state = END_LF;
        return c == '\r';
    }
}

enum sim_wire sim_chunked_feed(struct sim_chunked *d, struct span in, size_t *out_used, struct buf *body)
{
    size_t at = 0;

    *out_used = 0;
    while (at < in.len) {
        if (d->state == DATA) {
            size_t n = in.len - at < d->left ? in.len - at : (size_t)d->left;

            if (buf_append(body, in.p + at, n))
                return SIM_WIRE_BAD;
            at += n;
            d->left -= n;
            if (!d->left)
                d->state = DATA_CR;
        } else if (d->state == END_LF) {
            *out_used = at + 1;
            return in.p[at] == '\n' ? SIM_WIRE_DONE : SIM_WIRE_BAD;
        } else if (!framing_byte(d, in.p[at++])) {
            return SIM_WIRE_BAD;
        }
    }
    *out_used = at;
    return SIM_WIRE_MORE;
}

static const struct {
    int status;
    const char *text;
} STATUS_TEXT[] = {
    {200, "OK"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {411, "Length Required"},
    {413, "Content Too Large"},
    {417, "Expectation Failed"},
    {422, "Unprocessable Content"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {529, "Site Overloaded"},
};

const char *sim_status_text(int status)
{
    for (size_t i = 0; i < ARRAY_LEN(STATUS_TEXT); i++)
        if (STATUS_TEXT[i].status == status)
            return STATUS_TEXT[i].text;
    return "Unknown";
}
