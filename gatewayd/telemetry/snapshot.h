/* SPDX-License-Identifier: Apache-2.0 */
/* The cells of all workers summed, as one reader sees them. Each kind is read once, when first asked for, so
 * that all families projected from it agree. Belongs to one thread, any. */
#ifndef TELEMETRY_SNAPSHOT_H
#define TELEMETRY_SNAPSHOT_H

#include "gatewayd/telemetry/facts_priv.h"

struct window_stats { /* seconds and shares; NaN when nothing happened */
    double avg, p50, p95, p99, min, max, error_rate;
    uint64_t count, errors;
    uint64_t last_us; /* wall time of the latest ever, 0 when never */
};

struct snapshot_kind {
    bool is_taken;
    size_t n; /* series */
    unsigned n_words;
    cells_key *keys;
    uint64_t *words;            /* n rows of n_words */
    const struct cell **cells;  /* n rows of one per worker, NULL where it has none */
    struct window_stats *stats; /* of kinds with a window */
};

struct snapshot {
    struct facts *const *workers;
    size_t n_workers;
    struct wall now;
    unsigned slots; /* of the windows, the latest */
    struct snapshot_kind kinds[KIND_COUNT];
};

struct latest { /* an exemplar as read */
    uint64_t us, at_us;
    struct trace_id trace;
};

void snapshot_init(struct snapshot *s, struct facts *const *workers, size_t n_workers, struct wall now);
void snapshot_release(struct snapshot *s);
/* Never NULL; empty when memory is exhausted. */
const struct snapshot_kind *snapshot_kind(struct snapshot *s, enum facts_kind k);
static inline const uint64_t *snapshot_words(const struct snapshot_kind *k, size_t i)
{
    return k->words + i * k->n_words;
}
/* The youngest exemplar that any worker has at `offset` bytes into its cell of series `i`; false when none.
 */
bool snapshot_exemplar(const struct snapshot *s, const struct snapshot_kind *k, size_t i, size_t offset,
                       struct latest *out);

#endif
