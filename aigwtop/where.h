/* SPDX-License-Identifier: Apache-2.0 */
/* Which source to read: what options, variables and contexts name. */
#ifndef AIGWTOP_WHERE_H
#define AIGWTOP_WHERE_H

#include "aigwtop/source/source.h"

enum source_choice { CHOICE_AUTO, CHOICE_REDIS, CHOICE_API };

struct where {
    enum source_choice choice;
    const char *redis, *url, *token_file, *context, *replay; /* as given; NULL */
};

/* `first`, and with CHOICE_AUTO maybe a `second` that is asked when the first does not answer. */
NODISCARD enum err_code where_open(const struct where *w, const _Atomic int *stop, struct source *first,
                                   struct source *second, struct err *err);
/* What the context is called on the screen: the one that was named or that is read, or "". */
void where_context(const struct where *w, char *dst, size_t cap);

#endif
