/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log: who changed what. Each row's hash covers the row and the hash before it, so a row that is changed, left out or
 * put in later shows. */
#ifndef STORE_AUDIT_H
#define STORE_AUDIT_H

#include <jansson.h>

#include "libshared/base/clock.h"
#include "libshared/base/hash.h"
#include "libshared/store/db.h"

struct audit_row {
    struct wall at; /* kept to the second */
    const char *actor, *action, *subject;
    const json_t *detail; /* an object of texts, whole numbers, booleans, nulls, lists and objects of those */
};

/* SHA-256 over `previous` (SHA256_BYTES of 0 before the first row) and the row as JSON with sorted members and no spaces:
 * {"action","actor","at","detail","subject"}. ERR_BAD_REQUEST for text that is no UTF-8. */
NODISCARD enum err_code audit_hash(const unsigned char previous[SHA256_BYTES], const struct audit_row *row,
                                   unsigned char out[SHA256_BYTES], struct err *err);
/* Adds it within the transaction that is open, which holds up every other that appends until it ends. */
NODISCARD enum err_code audit_append(struct db *db, const struct audit_row *row, struct err *err);

/* The chain from its first row on. */
struct audit_proof {
    int64_t rows;      /* that were looked at */
    int64_t broken_id; /* the first whose hash does not follow from what is before it; 0: all do */
    int64_t last_id;
    unsigned char last_hash
        [SHA256_BYTES]; /* write it down elsewhere: a log that was cut at its end still proves itself */
};
NODISCARD enum err_code audit_verify(struct db *db, struct audit_proof *out, struct err *err);

#endif
