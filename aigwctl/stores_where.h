/* SPDX-License-Identifier: Apache-2.0 */
/* Which stores are meant: by options, by a context, by variables, or by the place where a gateway of this machine keeps them. */
#ifndef AIGWCTL_STORES_WHERE_H
#define AIGWCTL_STORES_WHERE_H

#include "aigwctl/command.h"

#define STORES_URL_CAP 4200

enum stores_origin { STORES_OF_OPTION, STORES_OF_VARIABLE, STORES_OF_CONTEXT, STORES_OF_DEFAULT };

struct stores_where {
    char database[STORES_URL_CAP]; /* postgresql://… or a file */
    char redis[STORES_URL_CAP];    /* "": none */
    enum stores_origin database_of, redis_of;
    bool is_context_named; /* by -c or GATEWAYD_CONTEXT */
};

/* An exit code, having said why. The addresses may hold passwords: wipe them after use. */
int stores_where(struct ctl *ctl, struct stores_where *out);
/* After a complaint about the address under that key: which file has it, or should have it. Returns `code`. */
int stores_blame(int code, const char *key, enum stores_origin from);
/* Says that nothing names that store, and how to name it. Returns the exit code. */
int stores_lack(const char *key, const char *what);

#endif
