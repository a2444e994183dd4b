/* SPDX-License-Identifier: Apache-2.0 */
/* One connection to a Redis server: commands out, replies in, each within a deadline. hiredis reads the replies; the
 * socket is ours, because hiredis 0.14 has no timeouts for what it does by itself. */
#ifndef STORE_REDIS_LINK_H
#define STORE_REDIS_LINK_H

#include <hiredis/hiredis.h>

#include "libshared/base/buf.h"
#include "libshared/base/clock.h"
#include "libshared/store/redis_url.h"

#define REDIS_REPLY_BYTES_MAX    ((size_t)64 << 20)
#define REDIS_REPLY_ELEMENTS_MAX 1000000
#define REDIS_COMMAND_BYTES_MAX  ((size_t)256 << 20)

struct redis_link {
    int fd; /* -1: not connected */
    redisReader *reader;
    size_t in_reply; /* bytes taken in for the reply that is not complete yet */
};

/* A command as it goes over the wire, but for the line that counts its arguments. */
struct redis_command {
    struct buf args;
    unsigned n;
};
void redis_command_init(struct redis_command *c);
void redis_command_release(struct redis_command *c);
void redis_command_clear(struct redis_command *c);
void redis_arg(struct redis_command *c, struct span s);
void redis_argz(struct redis_command *c, const char *z);
void redis_argi(struct redis_command *c, int64_t v);
/* Puts the whole command behind `out`, for sending several at once. ERR_TOO_LARGE when an argument did not fit. */
NODISCARD enum err_code redis_command_emit(const struct redis_command *c, struct buf *out);

void redis_link_init(struct redis_link *l);
NODISCARD enum err_code redis_link_open(struct redis_link *l, const struct redis_endpoint *e,
                                        struct mono deadline, struct err *err);
void redis_link_close(struct redis_link *l);
/* False when the server has closed an idle connection, or said something that nobody asked for. */
bool redis_link_is_fresh(const struct redis_link *l);
/* After an error of these two the connection is of no use, and whether the command was executed is unknown. */
NODISCARD enum err_code redis_link_send(struct redis_link *l, struct span bytes, struct mono deadline,
                                        struct err *err);
NODISCARD enum err_code redis_link_receive(struct redis_link *l, struct mono deadline, redisReply **out,
                                           struct err *err);

#endif
