/* SPDX-License-Identifier: Apache-2.0 */
/* What the simulated provider really received and billed: a record per POST (the newest in memory, all in the
 * file when one is given), sums that never forget, and on request the bodies themselves. */
#ifndef SIM_SIM_TRUTH_H
#define SIM_SIM_TRUTH_H

#include "gatewayd/sim/sim_profile.h"
#include "gatewayd/sim/sim_text.h"
#include "libshared/base/hash.h"

/* How a request ended, beside the faults: a fault's own name when it was played to its end. */
enum sim_end {
    SIM_END_OPEN,
    SIM_END_ANSWERED,
    SIM_END_CLIENT_GONE,
    SIM_END_REFUSED,
    SIM_END_FAULT,
    SIM_END_STOPPED
};

#define SIM_REQUEST_ID_CAP 64

struct sim_record {
    uint64_t seq;                    /* order of receipt, from 1 */
    int64_t at_us, first_us, end_us; /* wall clock; 0: not yet */
    uint32_t profile, key, model;    /* names of the truth */
    const char *operation;
    bool is_stream, has_length;
    unsigned char fault; /* enum sim_fault that was drawn */
    unsigned char end;
    uint16_t status; /* 0: none was sent */
    struct sim_bill bill;
    uint64_t bytes_sent, body_len, connection;
    unsigned char body_sha256[SHA256_BYTES];
    char request_id[SIM_REQUEST_ID_CAP]; /* x-request-id of the request, cut to fit */
};

#define SIM_RECORDS_PER_BLOCK 4096u
#define SIM_RECORD_BLOCKS     256u                /* about a million records, 250 MiB at most */
#define SIM_BODIES_MAX        32768u              /* exchanges kept when keep_bodies is on */
#define SIM_BODIES_BYTES      ((size_t)256 << 20) /* and their bytes, by default */

struct sim_truth;
struct sim_truth *sim_truth_new(const char *log_path_or_null, struct err *err);
void sim_truth_free(struct sim_truth *t);
/* Forgets everything in memory and starts again at seq 1; requests in flight are forgotten too. */
void sim_truth_reset(struct sim_truth *t);

/* Number of a string; the same string has the same number until a reset. */
uint32_t sim_truth_name(struct sim_truth *t, struct span s);
/* A new record with its seq; valid until the next call. */
struct sim_record *sim_truth_open(struct sim_truth *t);
/* NULL when it was forgotten (a reset, or too many newer ones). `epoch` is that of the opening. */
struct sim_record *sim_truth_at(struct sim_truth *t, uint64_t seq, uint64_t epoch);
uint64_t sim_truth_epoch(const struct sim_truth *t);
void sim_truth_close(struct sim_truth *t, struct sim_record *r); /* adds to the sums, writes the line */
void sim_truth_flush(struct sim_truth *t);                       /* pending lines to the file */

void sim_truth_keep_bodies(struct sim_truth *t, bool keep, size_t max_bytes);
void sim_truth_add_body(struct sim_truth *t, uint64_t seq, struct span head, struct span body);
/* false when it is not kept. */
bool sim_truth_body(const struct sim_truth *t, uint64_t seq, struct span *out_head, struct span *out_body);

/* Members "posts", "open" and "rows" of a JSON object, without its braces. */
void sim_truth_sums(const struct sim_truth *t, struct buf *out);
/* NDJSON of records with seq > after, at most `limit`. */
void sim_truth_lines(struct sim_truth *t, uint64_t after, uint64_t limit, struct buf *out);

#endif
