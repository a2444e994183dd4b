/* SPDX-License-Identifier: Apache-2.0 */
/* Words and tokens. The token rules are simple on purpose, so that a test can count by other means:
 *   prompt   ceil(bytes of text / 4) + 4 per message + 85 per image or file + 20 per tool
 *   words    one token each
 *   fixed    text that is given (arguments of a tool call, an echo): one token per started 4 bytes */
#ifndef SIM_SIM_TEXT_H
#define SIM_SIM_TEXT_H

#include "libshared/base/buf.h"

struct sim_bill {
    unsigned input, cached, cache_write, output, reasoning, images, searches;
};

uint64_t sim_hash(struct span s);                  /* the same in every process */
uint64_t sim_mix(uint64_t seed, uint64_t counter); /* one draw of a counter-based generator */

enum sim_text_kind { SIM_TEXT_WORDS, SIM_TEXT_JSON, SIM_TEXT_FIXED };

struct sim_text { /* one answer's text; any token can be made without those before it */
    enum sim_text_kind kind;
    uint64_t seed;
    unsigned tokens;   /* of the whole text, before any limit */
    struct span fixed; /* SIM_TEXT_FIXED: borrowed from the request */
};

/* Tokens [from, to) as the inside of a JSON string, or as plain bytes. */
void sim_text_add_json(const struct sim_text *t, unsigned choice, unsigned from, unsigned to,
                       struct buf *out);
void sim_text_add(const struct sim_text *t, unsigned choice, unsigned from, unsigned to, struct buf *out);

static inline unsigned sim_tokens_of_bytes(uint64_t bytes)
{
    return (unsigned)((bytes + 3) / 4);
}
void sim_add_base64(struct buf *out, struct span bytes);
/* Length in UTF-8 of a JSON string given as it is escaped. */
uint64_t sim_unescaped_bytes(struct span raw);

#endif
