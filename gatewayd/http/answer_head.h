/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a provider's answer, line by line: 1xx blocks are skipped (a bounded number), the final block
 * is kept as far as framing and judging need it. Everything has a bound, because the other side is not ours. */
#ifndef HTTP_ANSWER_HEAD_H
#define HTTP_ANSWER_HEAD_H

#include "gatewayd/http/client.h"

struct answer_head {
    struct client_headers found; /* spans point into `store` */
    unsigned interim, lines;
    size_t bytes;
    bool in_block;    /* a status line was seen, its block is not over */
    bool is_complete; /* the final block is over */
    bool is_chunked;  /* its body comes in chunks */
    bool is_last;     /* nothing may follow on this connection */
    size_t stored;
    char store[1024]; /* values that do not fit are left out, as if absent */
};

void answer_head_init(struct answer_head *h);
/* One line with its line end. On an error `*why` says what is wrong. Lines after completion are trailers:
 * they only count. */
NODISCARD enum err_code answer_head_line(struct answer_head *h, struct span line, const char **why);

#endif
