/* SPDX-License-Identifier: Apache-2.0 */
/* What a body asks for beyond what its bytes say: answers by the dozen, pictures and files to be read, tools that the provider runs
 * and bills. Whoever has to hold the most that a request can cost asks here. Pure. */
#ifndef PROXY_REACH_H
#define PROXY_REACH_H

#include "libshared/base/span.h"
#include "libshared/catalog/operation.h"

struct reach {
    uint64_t choices;   /* answers that are generated, at least 1 */
    uint64_t searches;  /* paid calls of tools, at most; the prompt may be read again behind each */
    uint64_t predicted; /* bytes of an answer that the client foretells: what is wrong of it is billed, too */
    bool reads_more;    /* than its bytes: then up to the model's context */
    char unbounded[64]; /* what has no bound: "an unlimited tool of type web_search"; "": nothing */
};

/* `body` is a JSON object that was checked; `n` choices are stated. */
void reach_scan(enum operation op, struct span body, uint64_t n, struct reach *out);

#endif
