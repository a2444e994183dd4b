/* SPDX-License-Identifier: Apache-2.0 */
/* Any thread, no state. The trap: an IPv6 address may stand for an IPv4 one, and is judged by that. */
#include "gatewayd/http/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

#include "libshared/base/compiler.h"

struct range {
    unsigned char net[16];
    unsigned bits;
};

static const struct range CLOSED4[] = {
    {{0}, 8},          /* this network */
    {{10}, 8},         /* private */
    {{100, 64}, 10},   /* shared (carrier NAT), and one cloud's metadata */
    {{127}, 8},        /* loopback */
    {{169, 254}, 16},  /* link-local, and most clouds' metadata */
    {{172, 16}, 12},   /* private */
    {{192, 0, 0}, 24}, /* protocol assignments */
    {{192, 168}, 16},  /* private */
    {{198, 18}, 15},   /* benchmarks */
    {{224}, 4},        /* multicast */
    {{240}, 4},        /* reserved, broadcast */
};

static const struct range CLOSED6[] = {
    {{0}, 96},                         /* unspecified, loopback, IPv4-compatible */
    {{0, 0x64, 0xff, 0x9b, 0, 1}, 48}, /* local-use translation */
    {{1}, 64},                         /* discard */
    {{0x20, 1, 0, 0}, 32},             /* Teredo */
    {{0xfc}, 7},                       /* unique local */
    {{0xfe, 0x80}, 9},                 /* link-local and the old site-local */
    {{0xff}, 8},                       /* multicast */
};

static bool in_range(const unsigned char *a, const struct range *r)
{
    unsigned whole = r->bits / 8;
    unsigned rest = r->bits % 8;

    if (memcmp(a, r->net, whole) != 0)
        return false;
    return rest == 0 || ((a[whole] ^ r->net[whole]) >> (8 - rest)) == 0;
}

static bool is_public4(const unsigned char *a)
{
    for (size_t i = 0; i < ARRAY_LEN(CLOSED4); i++)
        if (in_range(a, &CLOSED4[i]))
            return false;
    return true;
}

/* The IPv4 address that an IPv6 one stands for, or NULL. */
static const unsigned char *embedded4(const unsigned char *a)
{
    static const struct range MAPPED = {{[10] = 0xff, [11] = 0xff}, 96};
    static const struct range NAT64 = {{0, 0x64, 0xff, 0x9b}, 96};
    static const struct range SIX_TO_FOUR = {{0x20, 2}, 16};

    if (in_range(a, &MAPPED) || in_range(a, &NAT64))
        return a + 12;
    return in_range(a, &SIX_TO_FOUR) ? a + 2 : NULL;
}

bool address_is_public(const struct address *a)
{
    const unsigned char *four;

    if (a->family == AF_INET)
        return is_public4(a->bytes);
    if (a->family != AF_INET6)
        return false;
    four = embedded4(a->bytes);
    if (four)
        return is_public4(four);
    for (size_t i = 0; i < ARRAY_LEN(CLOSED6); i++)
        if (in_range(a->bytes, &CLOSED6[i]))
            return false;
    return true;
}

bool address_from_sockaddr(const struct sockaddr *sa, struct address *out)
{
    *out = (struct address){.family = sa->sa_family};
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in in;

        memcpy(&in, sa, sizeof(in));
        memcpy(out->bytes, &in.sin_addr, 4);
        return true;
    }
    if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;

        memcpy(&in6, sa, sizeof(in6));
        memcpy(out->bytes, &in6.sin6_addr, 16);
        return true;
    }
    return false;
}

bool address_parse(struct span text, struct address *out)
{
    char z[INET6_ADDRSTRLEN + 1];

    if (text.len >= 2 && text.p[0] == '[' && text.p[text.len - 1] == ']')
        text = span_make(text.p + 1, text.len - 2);
    if (text.len >= sizeof(z))
        return false;
    (void)span_copy(z, sizeof(z), text);
    *out = (struct address){.family = AF_INET};
    if (inet_pton(AF_INET, z, out->bytes) == 1)
        return true;
    out->family = AF_INET6;
    return inet_pton(AF_INET6, z, out->bytes) == 1;
}
