/* SPDX-License-Identifier: Apache-2.0 */
/* Which addresses a DNS name may lead to. A name that resolves to this machine, its networks or a cloud's
 * metadata service is how a foreign resolver would aim the gateway (and a provider key) inwards; literal
 * addresses are the operator's own words. */
#ifndef HTTP_ADDRESS_H
#define HTTP_ADDRESS_H

#include <sys/socket.h>

#include "libshared/base/span.h"

/* 4 bytes of IPv4 or 16 of IPv6, network order. */
struct address {
    sa_family_t family;
    unsigned char bytes[16];
};

bool address_from_sockaddr(const struct sockaddr *sa, struct address *out);
/* Literal IPv4 ("192.0.2.1") or IPv6 ("::1", with or without brackets); no zone, no shortened IPv4 forms. */
bool address_parse(struct span text, struct address *out);
/* False for loopback, private, shared, link-local (with the metadata services), unique-local, multicast,
 * unspecified and reserved ranges, and for IPv6 forms that carry such an IPv4 address. */
bool address_is_public(const struct address *a);

#endif
