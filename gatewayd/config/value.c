/* SPDX-License-Identifier: Apache-2.0 */
/* Whole texts only: what is left over after a value makes it a mistake. Numbers are exact integers throughout, so that
 * "0.1" of a unit is never rounded. */
#include "gatewayd/config/value.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "libshared/base/utf8.h"

#define URL_MAX 512u

bool value_bool(struct span s, bool *out)
{
    static const char *const WORDS[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};

    for (size_t i = 0; i < ARRAY_LEN(WORDS); i++)
        if (span_eq_nocase(s, span_of(WORDS[i]))) {
            *out = i & 1;
            return true;
        }
    return false;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}
static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Reads digits[.digits] off the front of `s` as that number times `unit`; a fraction finer than 1 is refused.
 */
static bool take_number(struct span *s, int64_t unit, int64_t *out)
{
    int64_t whole = 0, part = 0, base = 1;
    size_t i = 0;

    for (; i < s->len && is_digit(s->p[i]); i++)
        if (__builtin_mul_overflow(whole, 10, &whole) || __builtin_add_overflow(whole, s->p[i] - '0', &whole))
            return false;
    if (!i || __builtin_mul_overflow(whole, unit, &whole))
        return false;
    if (i < s->len && s->p[i] == '.') {
        size_t start = ++i;

        for (; i < s->len && is_digit(s->p[i]); i++) {
            if (i - start >= 9)
                return false;
            base *= 10;
            part = part * 10 + (s->p[i] - '0');
        }
        if (i == start || __builtin_mul_overflow(part, unit, &part) || part % base)
            return false;
        part /= base;
    }
    if (__builtin_add_overflow(whole, part, &whole))
        return false;
    *s = span_make(s->p + i, s->len - i);
    *out = whole;
    return true;
}

bool value_decimal(struct span s, unsigned scale, int64_t *out)
{
    int64_t unit = 1, v;

    while (scale--)
        unit *= 10;
    if (!take_number(&s, unit, &v) || s.len)
        return false;
    *out = v;
    return true;
}

struct unit {
    const char *name;
    int64_t size;
};

/* The unit that follows the number at the front of `s`; it ends where the letters end. */
static bool find_unit(struct span s, const struct unit *units, size_t n, int64_t *out_size, size_t *out_len)
{
    size_t i = 0, end;

    while (i < s.len && (is_digit(s.p[i]) || s.p[i] == '.'))
        i++;
    for (end = i; end < s.len && is_alpha(s.p[end]);)
        end++;
    for (size_t k = 0; k < n; k++)
        if (span_is(span_make(s.p + i, end - i), units[k].name)) {
            *out_size = units[k].size;
            *out_len = end - i;
            return true;
        }
    return false;
}

bool value_duration(struct span s, int64_t *out_us)
{
    static const struct unit UNITS[] = {{"us", 1},       {"ms", 1000},      {"s", 1000000},
                                        {"m", 60000000}, {"h", 3600000000}, {"d", 86400000000}};
    int64_t sum = 0, last = INT64_MAX;

    if (span_is(s, "0")) {
        *out_us = 0;
        return true;
    }
    if (!s.len)
        return false;
    while (s.len) { /* units fall, so that "30m1h" is a slip and not 90 minutes */
        int64_t unit, v;
        size_t len;

        if (!find_unit(s, UNITS, ARRAY_LEN(UNITS), &unit, &len) || unit >= last ||
            !take_number(&s, unit, &v) || __builtin_add_overflow(sum, v, &sum))
            return false;
        s = span_make(s.p + len, s.len - len);
        last = unit;
    }
    *out_us = sum;
    return true;
}

bool value_size(struct span s, uint64_t *out)
{
    static const struct unit UNITS[] = {{"", 1},
                                        {"B", 1},
                                        {"KiB", 1 << 10},
                                        {"MiB", 1 << 20},
                                        {"GiB", 1 << 30},
                                        {"TiB", (int64_t)1 << 40},
                                        {"KB", 1000},
                                        {"kB", 1000},
                                        {"MB", 1000000},
                                        {"GB", 1000000000},
                                        {"TB", 1000000000000}};
    int64_t unit, v;
    size_t len;

    if (!find_unit(s, UNITS, ARRAY_LEN(UNITS), &unit, &len) || !take_number(&s, unit, &v) || s.len != len)
        return false;
    *out = (uint64_t)v;
    return true;
}

static bool take_port(struct span s, uint16_t *out)
{
    uint64_t v;

    if (s.len > 5 || !span_to_u64(s, &v) || v > 65535)
        return false;
    *out = (uint16_t)v;
    return true;
}

static bool is_ip(int family, struct span s)
{
    unsigned char addr[16];
    char text[64];

    if (s.len >= sizeof(text) || !s.len)
        return false;
    (void)span_copy(text, sizeof(text), s);
    return inet_pton(family, text, addr) == 1;
}

static bool is_hostname(struct span s)
{
    bool is_number = true; /* the last label must not be one: that would be a mistyped IPv4 address */

    if (!s.len || s.len > 253)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        bool is_edge = i == 0 || i + 1 == s.len || s.p[i - 1] == '.' || s.p[i + 1] == '.';

        if (c == '.' ? i == 0 || s.p[i - 1] == '.'
                     : !is_digit(c) && !is_alpha(c) && (c != '_') && (c != '-' || is_edge))
            return false;
        if (c == '.')
            is_number = i + 1 < s.len;
        else if (!is_digit(c))
            is_number = false;
    }
    return !is_number;
}

const char *value_address(struct arena *a, struct span s, struct config_address *out)
{
    const char *colon = s.len ? memrchr(s.p, ':', s.len) : NULL;
    struct span host, port;
    uint16_t number;

    if (!s.len) {
        *out = (struct config_address){.host = ""};
        return NULL;
    }
    if (!colon)
        return "it needs a port, as in '127.0.0.1:8080' or ':8080'";
    host = span_make(s.p, (size_t)(colon - s.p));
    port = span_make(colon + 1, s.len - host.len - 1);
    if (!take_port(port, &number))
        return "the port must be a number from 0 to 65535";
    if (!host.len || span_is(host, "*"))
        host = SPAN_LIT("0.0.0.0");
    else if (host.p[0] == '[' && host.p[host.len - 1] == ']' &&
             is_ip(AF_INET6, span_make(host.p + 1, host.len - 2)))
        host = span_make(host.p + 1, host.len - 2);
    else if (is_ip(AF_INET6, host) || memchr(host.p, ':', host.len))
        return "an IPv6 address must be in brackets, as in '[::1]:8080'";
    else if (!is_ip(AF_INET, host) && !is_hostname(host))
        return "the host is neither an address nor a name";
    *out = (struct config_address){.host = arena_dup(a, host), .port = number};
    return NULL;
}

const char *value_cidr(struct span s, struct config_cidr *out)
{
    struct config_cidr c = {.addr = {[10] = 0xff, [11] = 0xff}, .prefix = 128};
    struct span addr = span_split(&s, '/');
    unsigned family_bits = 128;
    uint64_t bits;
    char text[64];

    if (addr.len >= sizeof(text))
        return "it is no address";
    (void)span_copy(text, sizeof(text), addr);
    if (inet_pton(AF_INET, text, c.addr + 12) == 1)
        family_bits = 32;
    else if (inet_pton(AF_INET6, text, c.addr) != 1)
        return "it is no address";
    if (s.p) {
        if (s.len > 3 || !span_to_u64(s, &bits) || bits > family_bits)
            return family_bits == 32 ? "the prefix must be 0 to 32" : "the prefix must be 0 to 128";
        c.prefix = 128 - family_bits + (unsigned)bits;
    }
    for (unsigned i = c.prefix; i < 128; i++)
        if (c.addr[i / 8] & (0x80 >> i % 8))
            return "it has bits set beyond its prefix";
    *out = c;
    return NULL;
}

bool value_choice(struct span s, const char *choices, unsigned *out)
{
    struct span rest = span_of(choices);

    for (unsigned i = 0; s.len && rest.p; i++)
        if (span_eq(span_split(&rest, ' '), s)) {
            if (out)
                *out = i;
            return true;
        }
    return false;
}

struct span value_choice_at(const char *choices, unsigned at)
{
    struct span rest = span_of(choices), word = span_split(&rest, ' ');

    while (at-- > 0)
        word = span_split(&rest, ' ');
    return word;
}

bool value_is_name(struct span s)
{
    if (!s.len || s.len > LIMIT_NAME_BYTES || (!is_alpha(s.p[0]) && !is_digit(s.p[0])))
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!is_alpha(s.p[i]) && !is_digit(s.p[i]) && s.p[i] != '_' && s.p[i] != '.' && s.p[i] != '-')
            return false;
    return true;
}

bool value_is_printable(struct span s)
{
    for (size_t i = 0; i < s.len;) {
        size_t n = utf8_valid_len(s.p + i, s.len - i);
        unsigned char c = (unsigned char)s.p[i];

        if (!n || c < 0x20 || c == 0x7f || (n == 2 && c == 0xc2 && (unsigned char)s.p[i + 1] < 0xa0))
            return false;
        i += n;
    }
    return true;
}

static const char *check_authority(struct span s)
{
    struct span host = s, port = {NULL, 0};
    const char *end = s.len && s.p[0] == '[' ? memchr(s.p, ']', s.len) : NULL;
    const char *colon;
    uint16_t number;

    if (!s.len)
        return "it has no host";
    if (memchr(s.p, '@', s.len))
        return "it must not hold a user or password";
    if (s.p[0] == '[' && !end)
        return "its IPv6 address is not closed by ']'";
    colon = end ? end + 1 : memchr(s.p, ':', s.len);
    if (colon && colon < s.p + s.len) {
        if (*colon != ':')
            return "its host is neither an address nor a name";
        host.len = (size_t)(colon - s.p);
        port = span_make(colon + 1, s.len - host.len - 1);
        if (!take_port(port, &number) || !number)
            return "its port must be a number from 1 to 65535";
    }
    if (end ? !is_ip(AF_INET6, span_make(host.p + 1, host.len - 2))
            : !is_ip(AF_INET, host) && !is_hostname(host))
        return "its host is neither an address nor a name";
    return NULL;
}

const char *value_base_url(struct span s, size_t *out_len)
{
    struct span rest = s, authority;
    const char *slash, *why;

    if (s.len > URL_MAX)
        return "it is longer than 512 bytes";
    if (span_starts(rest, SPAN_LIT("http://")))
        rest = span_make(rest.p + 7, rest.len - 7);
    else if (span_starts(rest, SPAN_LIT("https://")))
        rest = span_make(rest.p + 8, rest.len - 8);
    else
        return "it must begin with 'http://' or 'https://'";
    for (size_t i = 0; i < rest.len; i++)
        if ((unsigned char)rest.p[i] <= ' ' || (unsigned char)rest.p[i] >= 0x7f ||
            strchr("\\\"<>^`{|}", rest.p[i]))
            return "it holds a character that no URL has";
    if (memchr(rest.p, '?', rest.len))
        return "it must not have a query";
    if (memchr(rest.p, '#', rest.len))
        return "it must not have a fragment";
    slash = rest.len ? memchr(rest.p, '/', rest.len) : NULL;
    authority = span_make(rest.p, slash ? (size_t)(slash - rest.p) : rest.len);
    why = check_authority(authority);
    if (why)
        return why;
    if (slash && (memmem(slash, rest.len - authority.len, "/../", 4) ||
                  memmem(slash, rest.len - authority.len, "/./", 3) ||
                  (rest.len >= 3 && memcmp(rest.p + rest.len - 3, "/..", 3) == 0)))
        return "its path must not step up";
    while (s.p[s.len - 1] == '/')
        s.len--;
    *out_len = s.len;
    return NULL;
}

bool value_levels(struct span s, struct config_levels *out)
{
    struct config_levels l = {0};

    while (s.p) {
        uint64_t v = 0;

        if (!span_to_u64(span_trim(span_split(&s, ',')), &v) || v < 1 || v > 100 || l.n == CONFIG_LEVELS ||
            (l.n && v <= l.percent[l.n - 1]))
            return false;
        l.percent[l.n++] = (unsigned char)v;
    }
    *out = l;
    return l.n > 0;
}

void levels_text(const struct config_levels *l, char dst[LEVELS_TEXT])
{
    size_t n = 0;

    dst[0] = '\0';
    for (unsigned i = 0; i < l->n; i++)
        n += (size_t)snprintf(dst + n, LEVELS_TEXT - n, "%s%u", i ? ", " : "", l->percent[i]);
}

int64_t levels_pack(const struct config_levels *l)
{
    int64_t packed = 0;

    for (unsigned i = l->n; i-- > 0;)
        packed = packed << 8 | l->percent[i];
    return packed;
}

struct config_levels levels_unpack(int64_t packed)
{
    struct config_levels l = {0};

    for (; packed && l.n < CONFIG_LEVELS; packed >>= 8)
        l.percent[l.n++] = (unsigned char)(packed & 0xff);
    return l;
}
