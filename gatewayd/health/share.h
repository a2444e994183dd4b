/* SPDX-License-Identifier: Apache-2.0 */
/* What a node says of a provider, so that all nodes can add up the same: a record in {gw}:health, field "NODE PROVIDER". Fields
 * without a space hold the score that came of it, for who looks from outside. */
#ifndef HEALTH_SHARE_H
#define HEALTH_SHARE_H

#include "gatewayd/resilience/health.h"
#include "libshared/analytics/sketch.h"
#include "libshared/store/kv.h"

struct health_probed { /* the last probe; at 0: none */
    struct wall at;
    bool is_ok, is_unclear; /* unclear: it says nothing of the provider */
    int64_t us;
    char text[HEALTH_PROBE_TEXT];
};

struct health_record {
    label provider;
    uint64_t attempts, errors;
    struct wall until; /* when its attempts are too old to count */
    struct wall last_attempt;
    struct health_probed probed;
    struct sketch sketch;
};
void health_record_release(struct health_record *r);
/* Adds what `from` counted; of the probes the newer one stays. */
NODISCARD enum err_code health_record_add(struct health_record *into, const struct health_record *from);

/* Tells of all records and of the board (NULL: not of it). */
NODISCARD enum err_code health_share_tell(struct kv *kv, const char *node,
                                          const struct health_record *records, size_t n,
                                          const struct health_board *board, struct err *err);
/* What the other nodes say of `providers`, one record for each in the same order; records that ended are left out and
 * removed. nodes_of: from how many nodes each is. */
NODISCARD enum err_code health_share_hear(struct kv *kv, const char *node, struct wall now,
                                          struct health_record *records, unsigned *nodes_of, size_t n,
                                          struct err *err);

#endif
