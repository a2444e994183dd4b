/* SPDX-License-Identifier: Apache-2.0 */
/* Names into addresses, within a deadline. */
#ifndef STORE_REDIS_RESOLVE_H
#define STORE_REDIS_RESOLVE_H

#include <netdb.h>

#include "libshared/base/clock.h"
#include "libshared/base/err.h"

/* Free the result with freeaddrinfo(). ERR_TIMEOUT when the resolver does not answer in time, ERR_UNAVAILABLE when the
 * name has no address. An address in numbers needs no resolver. */
NODISCARD enum err_code redis_resolve(const char *host, unsigned port, struct mono deadline,
                                      struct addrinfo **out, struct err *err);

#endif
