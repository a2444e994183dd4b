/* SPDX-License-Identifier: Apache-2.0 */
/* Worker thread, no state. One table says of each byte where it may stand. */
#include "gatewayd/http/header_lines.h"

#include "libshared/base/compiler.h"

enum { TOKEN = 1, VALUE = 2 };

/* Tokens as RFC 9110 has them; values: visible ASCII, space, tab, and bytes above ASCII. */
static const unsigned char CLASS[256] = {
    ['\t'] = VALUE,
    [' '] = VALUE,
    ['!'] = TOKEN | VALUE,
    ['"'] = VALUE,
    ['#' ... '\''] = TOKEN | VALUE,
    ['(' ... ')'] = VALUE,
    ['*' ... '+'] = TOKEN | VALUE,
    [','] = VALUE,
    ['-' ... '.'] = TOKEN | VALUE,
    ['/'] = VALUE,
    ['0' ... '9'] = TOKEN | VALUE,
    [':' ... '@'] = VALUE,
    ['A' ... 'Z'] = TOKEN | VALUE,
    ['[' ... ']'] = VALUE,
    ['^' ... 'z'] = TOKEN | VALUE,
    ['{'] = VALUE,
    ['|'] = TOKEN | VALUE,
    ['}'] = VALUE,
    ['~'] = TOKEN | VALUE,
    [0x80 ... 0xff] = VALUE,
};

static bool is_value(struct span v)
{
    for (size_t i = 0; i < v.len; i++)
        if (!(CLASS[(unsigned char)v.p[i]] & VALUE))
            return false;
    return true;
}

static size_t token_length(struct span s)
{
    size_t n = 0;

    while (n < s.len && CLASS[(unsigned char)s.p[n]] & TOKEN)
        n++;
    return n;
}

bool header_lines_next(struct span *rest, struct span *line)
{
    const char *end;

    if (rest->len == 0)
        return false;
    end = memchr(rest->p, '\0', rest->len);
    line->p = rest->p;
    line->len = end ? (size_t)(end - rest->p) : rest->len;
    rest->p += line->len + (end ? 1 : 0);
    rest->len -= line->len + (end ? 1 : 0);
    return true;
}

static bool is_not_yours(struct span name)
{
    static const struct span NAMES[] = {
        {"accept-encoding", 15},
        {"connection", 10},
        {"host", 4},
        {"content-length", 14},
        {"expect", 6},
        {"keep-alive", 10},
        {"transfer-encoding", 17},
        {"te", 2},
        {"trailer", 7},
        {"upgrade", 7},
        {"proxy-connection", 16},
        {"proxy-authorization", 19},
    };

    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++)
        if (name.len == NAMES[i].len && span_eq_nocase(name, NAMES[i]))
            return true;
    return false;
}

enum header_verdict header_line_check(struct span line)
{
    size_t n = token_length(line);
    struct span name = span_make(line.p, n);

    if (n == 0 || n == line.len || line.p[n] != ':')
        return HEADER_MALFORMED;
    if (!is_value(span_make(line.p + n + 1, line.len - n - 1)))
        return HEADER_MALFORMED;
    if (is_not_yours(name))
        return HEADER_NOT_YOURS;
    return HEADER_OK;
}
