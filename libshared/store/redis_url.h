/* SPDX-License-Identifier: Apache-2.0 */
/* Where Redis is and who we are there, from a URL. */
#ifndef STORE_REDIS_URL_H
#define STORE_REDIS_URL_H

#include "libshared/base/buf.h"
#include "libshared/base/secret.h"

#define REDIS_SEEDS_MAX 16u

struct redis_endpoint {
    char host[256]; /* a name or an address without brackets */
    unsigned port;
    char path[108]; /* a unix socket; host is empty then */
};

struct redis_url {
    struct redis_endpoint seeds[REDIS_SEEDS_MAX];
    unsigned n_seeds;
    char user[128];
    struct secret password; /* empty: no AUTH */
    unsigned db;
    char sentinel[128]; /* the primary's name; empty: seeds are Redis servers */
    char where[512];    /* the same without user and password */
};

/* ERR_CONFIG, with a text that repeats nothing of the URL but its scheme and parameters' names. */
NODISCARD enum err_code redis_url_parse(struct redis_url *u, const char *url, struct err *err);
void redis_url_release(struct redis_url *u);
/* "host:port", "[address]:port" or the path. */
void redis_endpoint_text(const struct redis_endpoint *e, char *dst, size_t cap);

#endif
