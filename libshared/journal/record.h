/* SPDX-License-Identifier: Apache-2.0 */
/* Payloads of journal records: facts to bytes and back. Pure; knows nothing of segments. Numbers are
 * little-endian varints (signed ones zigzag), texts are one length byte and their bytes. Labels, error codes
 * and operations travel as text, since their numbers belong to one process or one version; small enums travel
 * as numbers, which the assertions in record.c pin. */
#ifndef JOURNAL_RECORD_H
#define JOURNAL_RECORD_H

#include "libshared/catalog/fact.h"

/* Numbers are on disk: never reuse one. 5 is none. */
enum journal_type {
    JOURNAL_RESERVE = 1,
    JOURNAL_ATTEMPT = 2,
    JOURNAL_PROGRESS = 3,
    JOURNAL_SETTLE = 4,
    JOURNAL_ADJUST = 6,
};
#define JOURNAL_TYPES 7u /* all are below */

/* A record as a reader sees it. Labels travel as text inside the journal and are interned again on reading. */
struct journal_record {
    enum journal_type type;
    bool is_recovered; /* written by an earlier run */
    unsigned worker;
    uint64_t seq; /* unique and rising per worker, across runs */
    union {
        struct fact_open open; /* RESERVE, PROGRESS */
        struct {               /* ATTEMPT */
            struct fact_context context;
            struct fact_attempt a;
        } attempt;
        struct { /* SETTLE */
            struct fact_request rq;
            struct fact_attempt a[FACT_ATTEMPTS];
        } settle;
        struct fact_adjust adjust; /* ADJUST */
    };
};

#define RECORD_VERSION 3 /* since then with time zones; version 2 is read, too */

/* No payload is longer; see the assertions in record.c. */
#define RECORD_OPEN_MAX      1216u
#define RECORD_ATTEMPT_MAX   1280u
#define RECORD_SETTLE_MAX(n) (2048u + 824u * (n)) /* with `n` attempts */
#define RECORD_ADJUST_MAX    896u
#define RECORD_PAYLOAD_MAX   RECORD_SETTLE_MAX(FACT_ATTEMPTS)

/* They return the payload's length. */
size_t record_encode_open(unsigned char *dst, const struct fact_open *o);
size_t record_encode_attempt(unsigned char *dst, const struct fact_context *c, const struct fact_attempt *a);
/* `a` are the first FACT_ATTEMPTS of its rq->attempts attempts. */
size_t record_encode_settle(unsigned char *dst, const struct fact_request *rq, const struct fact_attempt *a);
size_t record_encode_adjust(unsigned char *dst, const struct fact_adjust *a);

/* Fills all of `out` but `is_recovered`, `worker` and `seq`. ERR_UNSUPPORTED: a type or version of another release,
 * sound but not for us. ERR_BAD_BODY: the bytes are not what the type and version promise. */
enum err_code record_decode(unsigned type, unsigned version, struct span payload, struct journal_record *out);

const char *record_type_name(unsigned type); /* "reserve" …; NULL: none of this release */
/* Whose record it is: the request's id, or the correction's own. */
const struct id *record_id(const struct journal_record *r);
/* The latest moment that the record speaks of. */
struct wall record_time(const struct journal_record *r);

/* Attempts that a SETTLE carries. */
static inline unsigned record_attempts(const struct fact_request *rq)
{
    return rq->attempts < FACT_ATTEMPTS ? rq->attempts : FACT_ATTEMPTS;
}

#endif
