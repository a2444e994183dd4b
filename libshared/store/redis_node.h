/* SPDX-License-Identifier: Apache-2.0 */
/* The Redis server that is the right one now: a single one, the owner of our slot in a cluster, or the primary that the
 * sentinels name. Connects, logs in, follows, and waits longer and longer between failures. */
#ifndef STORE_REDIS_NODE_H
#define STORE_REDIS_NODE_H

#include "libshared/store/redis_link.h"
#include "libshared/store/tally.h"

struct redis_node {
    const struct redis_url *url; /* borrowed; outlives the node */
    struct redis_link link;
    enum redis_operation operation; /* what the commands are for that are sent now, for the tally */
    struct redis_endpoint at;       /* of the link */
    unsigned seed;                  /* to try next */
    bool has_moved;                 /* a cluster's word; tried before the seeds */
    struct redis_endpoint moved;
    unsigned failures; /* since the last answer */
    struct mono retry_at;
    char last[320];    /* what went wrong */
    uint64_t connects; /* so far */
};

void redis_node_init(struct redis_node *n, const struct redis_url *url);
void redis_node_release(struct redis_node *n);

/* Sends one whole command and gives its reply. Redirections, a server that is no primary any more and one that asks for
 * patience are dealt with within the deadline. A reply may be an error: see redis_refusal(). ERR_TIMEOUT and ERR_IO: it
 * is unknown whether the command was executed; ERR_UNAVAILABLE: it was not. */
NODISCARD enum err_code redis_node_call(struct redis_node *n, struct span wire, struct mono deadline,
                                        redisReply **out, struct err *err);
/* Several commands at once, to the server of the last redis_node_call(), their replies in order to `fn`, which returns
 * false for one that makes no sense. Follows nothing. */
typedef bool (*redis_reply_fn)(void *user, size_t i, const redisReply *r);
NODISCARD enum err_code redis_node_pipeline(struct redis_node *n, struct span wire, size_t replies,
                                            struct mono deadline, redis_reply_fn fn, void *user,
                                            struct err *err);

bool redis_says(const redisReply *r, const char *word); /* an error that begins with the word */
/* The error of an error reply: ERR_CONFLICT for a key of another type, else ERR_UNAVAILABLE, with the server's text. */
enum err_code redis_refusal(const redisReply *r, struct err *err);

#endif
