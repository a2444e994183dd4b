/* SPDX-License-Identifier: Apache-2.0 */
/* Worker thread, one per transfer. The invariant: a span in `found` points into `store`, never into the caller's bytes, and what
 * does not fit there is left out. */
#include "gatewayd/http/answer_head.h"

#include "gatewayd/config/limits.h"

void answer_head_init(struct answer_head *h)
{
    h->found = (struct client_headers){.content_length = -1};
    h->interim = h->lines = 0;
    h->bytes = h->stored = 0;
    h->in_block = h->is_complete = h->is_chunked = h->is_last = false;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "HTTP/1.1 200 OK" */
static int status_of(struct span line)
{
    if (line.len < 12 || memcmp(line.p, "HTTP/1.", 7) != 0 || !is_digit(line.p[7]) || line.p[8] != ' ')
        return -1;
    if (!is_digit(line.p[9]) || !is_digit(line.p[10]) || !is_digit(line.p[11]))
        return -1;
    if (line.len > 12 && line.p[12] != ' ')
        return -1;
    return (line.p[9] - '0') * 100 + (line.p[10] - '0') * 10 + (line.p[11] - '0');
}

static enum err_code begin_block(struct answer_head *h, struct span line, const char **why)
{
    int status = status_of(line);

    if (status < 100 || status > 599 || status == 101) {
        *why = "the status line is not acceptable";
        return ERR_UP_GARBAGE;
    }
    h->found = (struct client_headers){.status = status, .content_length = -1};
    h->stored = 0;
    h->is_chunked = false;
    h->is_last = line.p[7] == '0'; /* HTTP/1.0 */
    h->in_block = true;
    return ERR_OK;
}

static enum err_code end_block(struct answer_head *h, const char **why)
{
    h->in_block = false;
    if (h->found.status >= 200) {
        h->is_complete = true;
        return ERR_OK;
    }
    if (++h->interim > LIMIT_UPSTREAM_INTERIM) {
        *why = "too many interim answers";
        return ERR_UP_GARBAGE;
    }
    return ERR_OK;
}

static struct span store(struct answer_head *h, struct span value)
{
    char *at = h->store + h->stored;

    if (value.len > sizeof(h->store) - h->stored)
        return (struct span){0};
    memcpy(at, value.p, value.len);
    h->stored += value.len;
    return span_make(at, value.len);
}

/* The first of several values wins, except for the length, where two must agree. */
static void keep(struct answer_head *h, struct span *slot, struct span value)
{
    if (!slot->p)
        *slot = store(h, value);
}

static enum err_code keep_length(struct answer_head *h, struct span value, const char **why)
{
    uint64_t n;

    if (!span_to_u64(value, &n) || n > INT64_MAX ||
        (h->found.content_length >= 0 && h->found.content_length != (int64_t)n)) {
        *why = "the content length is not acceptable";
        return ERR_UP_GARBAGE;
    }
    h->found.content_length = (int64_t)n;
    return ERR_OK;
}

/* A compressed transfer coding would have to be inflated. */
static enum err_code keep_coding(struct answer_head *h, struct span value, const char **why)
{
    if (span_eq_nocase(value, SPAN_LIT("identity")))
        return ERR_OK;
    if (!span_eq_nocase(value, SPAN_LIT("chunked")) || h->is_chunked) {
        *why = "the transfer encoding is not acceptable";
        return ERR_UP_GARBAGE;
    }
    h->is_chunked = true;
    return ERR_OK;
}

static void keep_connection(struct answer_head *h, struct span value)
{
    while (value.p) {
        struct span option = span_trim(span_split(&value, ','));

        h->is_last |= span_eq_nocase(option, SPAN_LIT("close"));
    }
}

static enum err_code keep_header(struct answer_head *h, struct span name, struct span value, const char **why)
{
    struct client_headers *f = &h->found;

#define IS(lit) (name.len == sizeof(lit) - 1 && span_eq_nocase(name, SPAN_LIT(lit)))
    switch (name.p[0] | 0x20) {
    case 'c':
        if (IS("content-type"))
            keep(h, &f->content_type, value);
        else if (IS("content-encoding"))
            keep(h, &f->content_encoding, value);
        else if (IS("content-length"))
            return keep_length(h, value, why);
        else if (IS("connection"))
            keep_connection(h, value);
        break;
    case 'r':
        if (IS("retry-after"))
            keep(h, &f->retry_after, value);
        else if (IS("retry-after-ms"))
            keep(h, &f->retry_after_ms, value);
        else if (IS("request-id"))
            keep(h, &f->request_id, value);
        break;
    case 't':
        if (IS("transfer-encoding"))
            return keep_coding(h, value, why);
        break;
    case 'x':
        if (IS("x-request-id"))
            keep(h, &f->request_id, value);
        else if (IS("x-should-retry"))
            keep(h, &f->should_retry, value);
        else if (IS("x-ratelimit-reset-requests") || IS("x-ratelimit-reset-tokens") ||
                 IS("x-ratelimit-reset"))
            keep(h, &f->ratelimit_reset, value);
        break;
    default:
        break;
    }
#undef IS
    return ERR_OK;
}

static struct span without_line_end(struct span s)
{
    while (s.len && (s.p[s.len - 1] == '\n' || s.p[s.len - 1] == '\r'))
        s.len--;
    return s;
}

/* What another reader might take for another header: NUL and CR inside, and a name with a space behind it. */
static bool is_ill(struct span name, struct span value)
{
    return memchr(name.p, '\0', name.len) || memchr(name.p, '\r', name.len) ||
           memchr(value.p, '\0', value.len) || memchr(value.p, '\r', value.len) ||
           name.p[name.len - 1] == ' ' || name.p[name.len - 1] == '\t';
}

enum err_code answer_head_line(struct answer_head *h, struct span line, const char **why)
{
    struct span value = without_line_end(line), name;

    h->bytes += line.len;
    if (++h->lines > LIMIT_HEADER_LINES || h->bytes > LIMIT_UPSTREAM_HEAD) {
        *why = "the answer's head is too large";
        return h->interim > LIMIT_UPSTREAM_INTERIM / 2 ? ERR_UP_GARBAGE : ERR_UP_TOO_LARGE;
    }
    if (h->is_complete)
        return ERR_OK;
    if (!h->in_block)
        return begin_block(h, value, why);
    if (value.len == 0)
        return end_block(h, why);
    if (value.p[0] == ' ' || value.p[0] == '\t')
        return ERR_OK; /* a folded line belongs to the one before; none that matters may be folded */
    name = span_split(&value, ':');
    if (!value.p || name.len == 0 || is_ill(name, value)) {
        *why = "a header line is not acceptable";
        return ERR_UP_GARBAGE;
    }
    return keep_header(h, name, span_trim(value), why);
}
