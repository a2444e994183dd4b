/* SPDX-License-Identifier: Apache-2.0 */
/* The operator's HTTP surface: metrics, health, monitoring, admin. Handlers are plain functions from a request to a
 * reply and run on the api thread; the runner checks the row's scope first. The same table serves the main listener
 * (rows marked so), the admin listener and the admin socket. */
#ifndef API_API_H
#define API_API_H

#include "libshared/base/buf.h"
#include "libshared/base/err.h"
#include "libshared/base/span.h"

struct gateway;

enum api_scope {
    SCOPE_OPEN,
    SCOPE_METRICS /* allow-list or token */,
    SCOPE_MONITOR /* token */,
    SCOPE_ADMIN /* token, admin listener or socket only */
};

struct api_route;

struct api_request {
    struct gateway *gw;
    const struct api_route *row;
    struct span method, path, query, accept, body;
    const char *actor; /* "socket" or "token": for the audit log */
    struct span tail;  /* what the row's {…} matched, percent-decoded; may contain slashes */
};

struct api_reply {
    int status;
    const char *content_type; /* literal */
    struct buf body;
};

enum api_thread {
    RUN_API,       /* never waits for a store */
    RUN_DIRECTORY, /* the thread that owns the directory's handles */
    RUN_BOOKS,     /* waits for jobs of the aggregator's */
    RUN_READING    /* reads the stores, with handles of its own */
};

struct api_route {
    const char *method;
    const char *path; /* exact, or with one trailing {name} that matches the rest */
    enum api_scope scope;
    bool on_main; /* also answered on the main listener */
    void (*handler)(const struct api_request *rq, struct api_reply *reply);
    const char *summary;
    enum api_thread thread;
};

/* Ends with a row whose method is NULL. */
extern const struct api_route API_ROUTES[];
/* Row for a method and raw path; NULL with ERR_NOT_FOUND or ERR_BAD_METHOD. `tail` is malloc'ed into `tail_buf`. */
const struct api_route *api_find(struct span method, struct span path, struct buf *tail_buf,
                                 enum err_code *why);
/* "GET, HEAD, POST": the methods of a path on that listener, appended to `out`; nothing for a path that there is not. */
void api_allow(struct span path, bool is_main, struct buf *out);
void api_reply_error(struct api_reply *reply, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Percent-decoded; false on a malformed escape or an escaped NUL. */
bool api_decode(struct span s, bool is_query, struct buf *out);
/* Parameters against those of the route (shapes.h); false with the reply written, which names the one that is wrong. */
bool api_check_query(const struct api_route *row, struct span query, struct api_reply *reply);
/* After that: the value of a parameter, or what it is when it is left out; 0, "" and false when it is nothing then. */
int64_t api_count(const struct api_request *rq, const char *name);
bool api_text(const struct api_request *rq, const char *name, char *dst, size_t cap);
/* Value of a query parameter, percent-decoded into `dst`; false when absent or too long. */
bool api_query_param(struct span query, const char *name, char *dst, size_t cap);

#endif
