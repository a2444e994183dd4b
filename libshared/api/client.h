/* SPDX-License-Identifier: Apache-2.0 */
/* A small blocking HTTP client for the operator's programs: one connection, kept alive, to a gateway at
 * `http://host:port`, `https://…` or `unix:/path/of/socket`. No proxy, no redirects, no environment. One thread at a time. */
#ifndef API_CLIENT_H
#define API_CLIENT_H

#include <stdatomic.h>

#include "libshared/base/buf.h"
#include "libshared/base/err.h"

struct api_client;

struct api_client_options {
    const char *url;
    struct span token;          /* sent as a bearer; empty: none. Copied. */
    long timeout_ms;            /* of a whole call, 0: 10 s */
    const _Atomic int *is_over; /* NULL, or ends a call early once not 0; a signal handler may set it */
};

/* ERR_CONFIG when the URL is not one. */
struct api_client *api_client_new(const struct api_client_options *o, struct err *err);
void api_client_free(struct api_client *c);

struct api_answer {
    int status;
    struct buf head; /* header lines as they came, CRLF between them */
    struct buf body; /* at most 64 MiB */
};

void api_answer_release(struct api_answer *a);
/* First header of that name (case-insensitive); empty when there is none. */
struct span api_answer_header(const struct api_answer *a, const char *name);

/* ERR_OK whenever an answer came, whatever its status. Otherwise ERR_UP_CONNECT (nobody is there), ERR_UP_TIMEOUT,
 * ERR_UP_CUT, ERR_TOO_LARGE, ERR_CLIENT_GONE (is_over), ERR_IO. `body` is sent as JSON unless its `p` is NULL. */
NODISCARD enum err_code api_client_call(struct api_client *c, const char *method, const char *path,
                                        struct span body, struct api_answer *out, struct err *err);
const char *api_client_url(const struct api_client *c);

#endif
